r"""The configuration of a lab: ``nwb-extfiles.toml``, or the table ``[tool.nwb-extfiles]`` in ``pyproject.toml``.

    search = ["/mnt/nas/videos"]
    media_mode = ["reflink", "hardlink", "copy"]
    path_map = { 'D:\videos' = "/mnt/nas/videos" }

The command line reads it; Python where it is asked to, with `read_config`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigurationError
from .options import MediaMode, MediaOptions, modes_in_order

__all__ = ["Config", "read_config"]

_OWN_FILE, _SHARED_FILE, _TABLE = "nwb-extfiles.toml", "pyproject.toml", "nwb-extfiles"
_KEYS = ("search", "path_map", "within", "media_mode")


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file says. Relative folders in it are relative to the folder of the file.

    Attributes
    ----------
    path : pathlib.Path or None
        The file; None if there is none.
    media_mode : tuple of MediaMode or None
        The modes to try, in this order; None if the file has none.
    options : dict
        ``search``, ``path_map`` and ``within``, as far as the file has them: arguments for `MediaOptions`, with
        ``path_map_shared`` for a ``path_map``.
    """

    path: Path | None = None
    media_mode: tuple[MediaMode, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that the file has."""
        return tuple(name for name in _KEYS if name in self.options or (name == "media_mode" and self.media_mode))


def read_config(folder: str | os.PathLike[str] = os.curdir) -> Config:
    """Read the configuration file of a folder: the nearest one, in the folder itself or above it.

    Parameters
    ----------
    folder : path
        The working directory by default.

    Returns
    -------
    Config
        Empty if there is no file.

    Raises
    ------
    ConfigurationError
        If the file is not valid TOML, has a key that is not one of ``search``, ``path_map``, ``within`` and
        ``media_mode``, or a value that is none for it.

    Examples
    --------
    >>> config = read_config()
    >>> relocate("a.nwb", config.media_mode, media_options={**config.options, "manifest": True})  # doctest: +SKIP
    """
    start = Path(os.path.abspath(folder))
    for place in (start, *start.parents):
        own, shared = place / _OWN_FILE, place / _SHARED_FILE
        if os.path.lexists(own):
            return _config(own, _parsed(own))
        if shared.is_file() and os.access(shared, os.R_OK) and _TABLE.encode() in shared.read_bytes():
            tool = _parsed(shared).get("tool")
            if isinstance(tool, Mapping) and _TABLE in tool:
                return _config(shared, tool[_TABLE])
    return Config()


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}", hint="correct it") from error
    except OSError as error:  # a broken link, a folder
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", hint="correct it, or remove it") from error


def _config(path: Path, table: Any) -> Config:
    unknown = sorted(set(table) - set(_KEYS)) if isinstance(table, Mapping) else [_TABLE]
    if unknown:
        raise ConfigurationError(
            f"{path}: there is no setting {', '.join(map(repr, unknown))}", hint=f"use {', '.join(_KEYS)}"
        )
    options = {name: table[name] for name in ("search", "path_map", "within") if name in table}
    try:
        for name in ("search", "within"):
            if name in options:
                options[name] = _folders(path.parent, options[name])
        if isinstance(options.get("path_map"), Mapping):
            options["path_map"] = {old: _folder(path.parent, new) for old, new in options["path_map"].items()}
            options["path_map_shared"] = tuple(options["path_map"])
        MediaOptions(**options)
        modes = modes_in_order(_strings(table["media_mode"])) if "media_mode" in table else None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: {str(error).removeprefix('MediaOptions.')}", hint="correct it") from error
    return Config(path, modes, options)


def _folders(base: Path, value: Any) -> list[Path]:
    return [_folder(base, folder) for folder in _strings(value)]


def _folder(base: Path, folder: Any) -> Path:
    (given,) = _strings(folder if isinstance(folder, str) else [folder])
    return base / os.path.expanduser(given)


def _strings(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) and each for each in values):
        raise TypeError(f"expected a string, or a list of strings, and found {value!r}")
    return values

"""What the caller may choose: `MediaMode` and `MediaOptions`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from .errors import RelocationRefusedError
from .naming import NamingConvention, dandi_name

__all__ = ["MediaMode", "MediaOptions", "ProgressCallback", "refuse_mode_alone"]

ProgressCallback = Callable[[int, int], object]
"""Called with the bytes of media done so far and the bytes in all."""


class MediaMode(StrEnum):
    """How media get to their place beside the NWB file."""

    SYMLINK = "symlink"
    """A relative symbolic link; costs nothing, and DANDI's upload follows it."""
    HARDLINK = "hardlink"
    """A second name of the same file; only inside one file system."""
    COPY = "copy"
    """A verified copy, or a clone sharing blocks where the file system can make one."""
    MOVE = "move"
    """The media move; the old names go last, after the NWB file is in its place."""
    REFERENCE = "reference"
    """The media stay; only the texts change, to paths relative to the new NWB file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    r"""How media are found, named and transferred.

    Parameters
    ----------
    search : path or iterable of paths
        Folders in which to look for a file that is not where its text says: by every tail of the text's path,
        down to its bare name. Where a symbolic link that leads nowhere stands at its place, the path in that link
        is looked for too. Two different files that fit are an error.
    path_map : mapping of str to str
        Prefixes of stored paths and what to read in their place, for files made on another machine:
        ``{r"D:\videos": "/mnt/lab/videos"}``. Slashes and backslashes are equal; a prefix with a drive letter
        ignores case. The longest prefix that fits is used.
    within : path or iterable of paths
        Folders that media must lie under, symbolic links resolved. Empty: anywhere.
    missing : {"error", "keep"}
        What to do with a reference whose file is not found: refuse, or leave its text as it is, with a warning.
    existing : {"error", "replace"}
        What to do where a target exists with other content. A target with the same content is always reused.
    naming : NamingConvention
        How media files are named; DANDI's convention by default.
    progress : bool or callable
        True shows a tqdm bar in bytes; a callable is called with (bytes done, bytes in all) instead, maybe in another
        thread, but never in two at once.
    sync : bool
        Whether files and folders are flushed to the disk before success is reported. False is faster, and gives up
        what is promised for a power cut.
    manifest : bool
        Whether the NWB file gets a record of its media, with their original names and checksums
        (``ExternalFileManifest`` of ndx-extfiles). A file that has one keeps it right in any case.
    urls : {"keep", "download"}
        What to do with references that are http, https, s3 or gs URLs: leave them as they are, or fetch what is
        behind them to its place beside the NWB file, with any mode but ``"reference"``. Fetching trusts the NWB file
        with which addresses this machine asks.
    url_timeout : float
        Seconds to wait for a server that says nothing, or next to nothing, before it is tried again.
    media_fields : iterable of (str, str)
        Further places that hold paths, as (neurodata type, name of its text dataset); subtypes are included.

    Raises
    ------
    ValueError, TypeError
        If a value is not one of those above. Checked once, here.
    """

    search: tuple[Path, ...] = ()
    path_map: Mapping[str, str] = field(default_factory=dict)
    within: tuple[Path, ...] = ()
    missing: Literal["error", "keep"] = "error"
    existing: Literal["error", "replace"] = "error"
    naming: NamingConvention = dandi_name
    progress: bool | ProgressCallback = False
    sync: bool = True
    manifest: bool = False
    media_fields: tuple[tuple[str, str], ...] = ()
    urls: Literal["keep", "download"] = "keep"
    url_timeout: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "search", _folders("search", self.search))
        object.__setattr__(self, "within", _folders("within", self.within))
        object.__setattr__(self, "path_map", _path_map(self.path_map))
        object.__setattr__(self, "media_fields", _media_fields(self.media_fields))
        _one_of("missing", self.missing, ("error", "keep"))
        _one_of("existing", self.existing, ("error", "replace"))
        _one_of("urls", self.urls, ("keep", "download"))
        if isinstance(self.url_timeout, bool) or not isinstance(self.url_timeout, int | float):
            raise TypeError(f"MediaOptions.url_timeout must be seconds, not {self.url_timeout!r}")
        if not 0 < self.url_timeout < float("inf"):
            raise ValueError(f"MediaOptions.url_timeout must be some seconds, not {self.url_timeout!r}")
        if not callable(self.naming):
            raise TypeError(f"MediaOptions.naming must be a callable, not {self.naming!r}")
        if not isinstance(self.progress, bool) and not callable(self.progress):
            raise TypeError(f"MediaOptions.progress must be True, False or a callable, not {self.progress!r}")
        for name in ("sync", "manifest"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"MediaOptions.{name} must be True or False, not {getattr(self, name)!r}")

    @classmethod
    def from_value(cls, value: MediaOptions | Mapping[str, Any] | None) -> MediaOptions:
        """Take what callers pass as ``media_options``.

        Parameters
        ----------
        value : MediaOptions, mapping or None
            A mapping has the fields of `MediaOptions` as keys; None stands for the defaults.

        Returns
        -------
        MediaOptions

        Raises
        ------
        TypeError
            If the value is none of these, or a key is no field.
        """
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(f"media_options must be a MediaOptions or a mapping with its fields, not {value!r}")
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(set(map(str, value)) - set(known))
        if unknown:
            raise TypeError(f"media_options has no field {', '.join(unknown)}; its fields are {', '.join(known)}")
        return cls(**value)


def refuse_mode_alone(media_mode: MediaMode | str | None, relocate_media: bool | None) -> None:
    """Refuse a mode where media are not relocated: who gives one expects that they are."""
    if media_mode is not None and not relocate_media:
        raise RelocationRefusedError(
            f"media_mode={str(media_mode)!r} was given, but relocate_media is {relocate_media}: give "
            f"relocate_media=True to take the media along, or leave media_mode out"
        )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"MediaOptions.{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _folders(name: str, value: object) -> tuple[Path, ...]:
    if isinstance(value, str | os.PathLike):
        value = (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"MediaOptions.{name} must be a folder or several, not {value!r}")
    # Made absolute now: the working directory may be another one when the media are looked for.
    folders = tuple(Path(os.path.abspath(os.fspath(folder))) for folder in value)
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"MediaOptions.{name}: {str(folder)!r} is no folder")
    return folders


def _path_map(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"MediaOptions.path_map must be a mapping of prefix to prefix, not {value!r}")
    mapped = {os.fspath(old): os.fspath(new) for old, new in value.items()}
    if not all(isinstance(text, str) for pair in mapped.items() for text in pair):
        raise TypeError(f"MediaOptions.path_map must map texts or paths, not bytes: {value!r}")
    if not all(mapped):
        raise ValueError("MediaOptions.path_map has an empty prefix; it would fit every path")
    return mapped


def _media_fields(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"MediaOptions.media_fields must be pairs of (neurodata type, field), not {value!r}")
    pairs = tuple((pair,) if isinstance(pair, str) else tuple(pair) for pair in value)
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise TypeError(f"MediaOptions.media_fields must be pairs of (neurodata type, field), not {pair!r}")
    return pairs

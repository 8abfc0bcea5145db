"""What the caller may choose: `MediaMode` and `MediaOptions`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar

from .errors import RelocationRefusedError
from .hints import quoted
from .naming import NamingConvention, dandi_name

__all__ = [
    "AUTO",
    "MediaMode",
    "MediaModes",
    "MediaOptions",
    "ProgressCallback",
    "default_modes",
    "fits_object",
    "modes_in_order",
    "refuse_mode_alone",
]

_Converted = TypeVar("_Converted")
ProgressCallback = Callable[[int, int], object]
"""Called with the bytes of media done so far and the bytes in all."""


class MediaMode(StrEnum):
    """How media are put beside the NWB file."""

    SYMLINK = "symlink"
    """A relative symbolic link; costs nothing, and DANDI's upload follows it."""
    HARDLINK = "hardlink"
    """A second name of the same file; only inside one file system."""
    COPY = "copy"
    """A verified copy, or a clone sharing blocks where the file system can make one."""
    MOVE = "move"
    """The media move; their old names are removed last, after the NWB file is written."""
    REFERENCE = "reference"
    """The media stay; only the stored paths change, and become relative to the new NWB file."""
    REFLINK = "reflink"
    """A copy that shares its blocks with the original, and so takes no space; only where the file system can make
    one, such as btrfs or XFS."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"media_mode must be one of {', '.join(map(repr, cls.choices()))}, not {value!r}")

    @classmethod
    def choices(cls) -> list[str]:
        """What callers may name, the modes and what stands for several."""
        return [*map(str, cls), "auto"]

    @property
    def makes_copies(self) -> bool:
        """Whether each target becomes a file of its own, and the original stays."""
        return self in (MediaMode.COPY, MediaMode.REFLINK)


AUTO = (MediaMode.SYMLINK, MediaMode.HARDLINK, MediaMode.COPY)
"""What ``"auto"`` stands for: links where they are possible, so not on exFAT and not for users of Windows who may make
none; else copies."""

MediaModes: TypeAlias = MediaMode | str | Sequence[MediaMode | str]
"""What callers pass as ``media_mode``: a mode, ``"auto"``, or several to try in order."""


def default_modes() -> tuple[MediaMode, ...]:
    """The modes if none is given: symbolic links, on Windows `AUTO`, as most users there may not make them."""
    return AUTO if os.name == "nt" else (MediaMode.SYMLINK,)


def modes_in_order(value: MediaModes | None) -> tuple[MediaMode, ...]:
    """The modes to try, of what a caller passes as ``media_mode``.

    Parameters
    ----------
    value : MediaMode, str, sequence of these, or None
        None stands for `default_modes`, and ``"auto"`` for `AUTO`, also among others.

    Returns
    -------
    tuple of MediaMode
        Each once, at least one.

    Raises
    ------
    ValueError
        If one is not a mode; the message lists the modes.
    """
    if value is None:
        return default_modes()
    named = [value] if isinstance(value, str) else list(value)
    modes = [mode for name in named for mode in (AUTO if name == "auto" else [MediaMode(name)])]
    if not modes:
        raise ValueError(f"media_mode must name a mode, one of {', '.join(map(repr, MediaMode.choices()))}")
    return tuple(dict.fromkeys(modes))


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    r"""How media are found, named and transferred.

    Parameters
    ----------
    search : path or iterable of paths
        Folders in which to look for a file that is not where its path says: by every tail of the stored path, down
        to the bare name. Files of that name in subfolders are named in the message, never taken: other recordings may
        have files of that name. If the path leads to a broken symbolic link, the path in that link is looked for too,
        and the link is replaced. Two different files that fit are an error.
    search_for : mapping of str to path or iterable of paths
        The same for single objects, before ``search``: patterns of object paths, and the folders in which to look for
        the media of the objects that fit, as in ``{"/acquisition/Miniscope": "recording/Miniscope"}``. In a pattern
        ``*`` stands for any characters, slashes too; without a slash at its start it fits the end of the path.
    path_map : mapping of str to str
        Prefixes of stored paths and what to replace them by, for files made on another machine:
        ``{r"D:\videos": "/mnt/lab/videos"}``. Slashes and backslashes are equal; a prefix with a drive letter
        ignores case. The longest prefix that fits is used. If the path leads to a broken symbolic link, the path in
        that link is mapped too. A warning names the prefixes that fit no path of a call.
    path_map_shared : iterable of str
        Prefixes of ``path_map`` that are not named then: those for many recordings, as in a configuration file.
    path_map_for : mapping of str to mapping of str to str
        The same for single objects, before ``path_map``, by patterns as in ``search_for``:
        ``{"/acquisition/cam*": {"0.avi": "/mnt/lab/cam/0.avi"}}``.
    within : path or iterable of paths
        Folders that media must be in, after symbolic links are resolved. Empty: anywhere.
    missing : {"error", "keep"}
        What to do if a media file is not found: refuse, or keep the stored path, with a warning.
    existing : {"error", "replace", "skip"}
        What to do if a target exists with other content: refuse, replace it, or leave out its NWB file with a warning,
        in calls that take several (those for one refuse). A target with the same content is always reused, and a broken
        symbolic link always replaced, with a warning.
    naming : NamingConvention
        How media files are named; DANDI's convention by default.
    progress : bool or callable
        True shows a tqdm bar in bytes; a callable is called with (bytes done, bytes in all) instead, possibly from
        another thread, but never from two at once.
    sync : bool
        Whether files and folders are flushed to the disk before the call returns. False is faster, but gives no
        guarantee after a power cut.
    manifest : bool
        Whether the NWB file gets a record of its media, with their original names and checksums
        (``ExternalFileManifest`` of ndx-extfiles). A manifest that is there is kept up to date in any case.
    urls : {"keep", "download"}
        What to do with http, https, s3 and gs URLs: keep them, or download the media to the folder beside the NWB
        file, in any mode but ``"reference"``. A download lets the NWB file decide which servers this machine
        contacts.
    url_timeout : float
        Seconds to wait for a server that sends nothing, or next to nothing, before the request is repeated.
    opened_from : str, path or dandi.dandiapi.RemoteAsset, optional
        Where the NWB file that is read or exported is, if it was opened by what does not say it: the URL of its content
        in a DANDI archive, or a Python object. An address such as ``dandi://DANDI/000123@draft/sub-a/sub-a.nwb``, the
        asset, a URL, or a path.
    remux : {"unarchived"}, optional
        ``"unarchived"``: videos that DANDI does not accept (``.h264``, ``.m4v``, ``.ts``, ``.mpg``, ``.webm``, …) are
        put into an mp4 or mkv file, without loss and without encoding them again. The originals stay. Only with
        `media_mode` ``"copy"``, and with PyAV (the extra ``video``).
    media_fields : iterable of (str, str)
        Further places that hold paths, as (neurodata type, name of its dataset); subtypes are included.

    Raises
    ------
    ValueError, TypeError
        If a value is not one of those above. Checked once, here.
    RelocationRefusedError
        If videos are to be remuxed, and PyAV is not installed.
    """

    search: tuple[Path, ...] = ()
    search_for: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    path_map: Mapping[str, str] = field(default_factory=dict)
    path_map_shared: tuple[str, ...] = ()
    path_map_for: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    within: tuple[Path, ...] = ()
    missing: Literal["error", "keep"] = "error"
    existing: Literal["error", "replace", "skip"] = "error"
    naming: NamingConvention = dandi_name
    progress: bool | ProgressCallback = False
    sync: bool = True
    manifest: bool = False
    media_fields: tuple[tuple[str, str], ...] = ()
    urls: Literal["keep", "download"] = "keep"
    url_timeout: float = 60.0
    remux: Literal["unarchived"] | None = None
    opened_from: Any = None

    def __post_init__(self) -> None:
        assign = partial(object.__setattr__, self)  # the class is frozen
        assign("search", _folders("search", self.search))
        assign("within", _folders("within", self.within))
        assign("search_for", _by_pattern("search_for", self.search_for, _folders))
        assign("path_map", _path_map("path_map", self.path_map))
        assign("path_map_shared", _prefixes(self.path_map_shared))
        assign("path_map_for", _by_pattern("path_map_for", self.path_map_for, _path_map))
        assign("media_fields", _media_fields(self.media_fields))
        _one_of("missing", self.missing, ("error", "keep"))
        _one_of("existing", self.existing, ("error", "replace", "skip"))
        _one_of("urls", self.urls, ("keep", "download"))
        if self.remux is not None:
            _one_of("remux", self.remux, ("unarchived",))
            _require_pyav()
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

    def searched_for(self, object_path: str) -> tuple[Path, ...]:
        """The folders of ``search_for`` for an object; none if no pattern fits."""
        if not self.search_for:
            return ()
        fitting = (folders for pattern, folders in self.search_for.items() if fits_object(pattern, object_path))
        return tuple(folder for folders in fitting for folder in folders)

    def path_map_of(self, object_path: str) -> Mapping[str, str]:
        """The prefixes of ``path_map_for`` for an object; none if no pattern fits."""
        if not self.path_map_for:
            return {}
        fitting = (pairs for pattern, pairs in self.path_map_for.items() if fits_object(pattern, object_path))
        return {old: new for pairs in fitting for old, new in pairs.items()}

    def unused_patterns(self, object_paths: Collection[str]) -> list[str]:
        """The patterns of ``search_for`` and ``path_map_for`` that fit none of some objects, each once."""
        patterns = dict.fromkeys((*self.search_for, *self.path_map_for))
        return [pattern for pattern in patterns if not any(fits_object(pattern, path) for path in object_paths)]

    @property
    def search_folders(self) -> tuple[Path, ...]:
        """The folders of ``search`` and of ``search_for``, each once."""
        return tuple(dict.fromkeys((*self.search, *(one for some in self.search_for.values() for one in some))))

    @classmethod
    def from_value(cls, value: MediaOptions | Mapping[str, Any] | None) -> MediaOptions:
        """Make options of what callers pass as ``media_options``.

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
            If the value is none of these, or a key is not a field.
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


def fits_object(pattern: str, object_path: str) -> bool:
    """Whether a pattern of ``search_for`` or ``path_map_for`` fits an object."""
    whole = pattern if pattern.startswith("/") else f"*/{pattern}"
    # compared as it is first: a name may hold brackets
    return object_path == pattern or fnmatchcase(object_path, whole)


def refuse_mode_alone(media_mode: MediaModes | None, relocate_media: bool | None) -> None:
    """Refuse a mode without ``relocate_media=True``: whoever gives one expects media to be relocated."""
    if media_mode is not None and not relocate_media:
        raise RelocationRefusedError(
            f"media_mode={_spelled(media_mode)} was given, but relocate_media is {relocate_media}",
            hint="give relocate_media=True to relocate the media, or leave media_mode out",
        )


def _spelled(media_mode: MediaModes) -> str:
    modes = (media_mode,) if isinstance(media_mode, str) else tuple(media_mode)
    named = ", ".join(repr(str(mode)) for mode in modes)
    return named if len(modes) == 1 else f"({named})"


def _require_pyav() -> None:
    if find_spec("av") is None:
        raise RelocationRefusedError("remuxing needs PyAV, which is not installed", hint='pip install "av>=17"')


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"MediaOptions.{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _folders(name: str, value: object) -> tuple[Path, ...]:
    if isinstance(value, str | os.PathLike):
        value = (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"MediaOptions.{name} must be a folder or several, not {value!r}")
    # Made absolute now: the working directory may change before the media are looked for.
    folders = tuple(Path(os.path.abspath(os.fspath(folder))) for folder in value)
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"MediaOptions.{name}: {quoted(folder)} is not a folder")
    return folders


def _by_pattern(name: str, value: object, convert: Callable[[str, object], _Converted]) -> dict[str, _Converted]:
    if not isinstance(value, Mapping):
        raise TypeError(f"MediaOptions.{name} must be a mapping by patterns of object paths, not {value!r}")
    if not all(isinstance(pattern, str) and pattern for pattern in value):
        raise ValueError(
            f"MediaOptions.{name}: every key must be a pattern of object paths, a string that is not empty; found "
            f"{value!r}"
        )
    return {pattern: convert(f"{name}[{pattern!r}]", each) for pattern, each in value.items()}


def _path_map(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"MediaOptions.{name} must be a mapping of prefix to prefix, not {value!r}")
    mapped = {os.fspath(old): os.fspath(new) for old, new in value.items()}
    if not all(isinstance(prefix, str) for pair in mapped.items() for prefix in pair):
        raise TypeError(f"MediaOptions.{name} must map strings or paths, not bytes: {value!r}")
    if not all(mapped):
        raise ValueError(f"MediaOptions.{name} has an empty prefix; it would fit every path")
    return mapped


def _prefixes(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"MediaOptions.path_map_shared must be prefixes, not {value!r}")
    return tuple(map(os.fspath, value))


def _media_fields(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"MediaOptions.media_fields must be pairs of (neurodata type, field), not {value!r}")
    pairs = tuple((pair,) if isinstance(pair, str) else tuple(pair) for pair in value)
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise TypeError(f"MediaOptions.media_fields must be pairs of (neurodata type, field), not {pair!r}")
    return pairs

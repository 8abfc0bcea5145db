"""Names of media files at their destination, relative to the folder of the NWB file."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Protocol

__all__ = [
    "ARCHIVED_SUFFIXES",
    "NamingConvention",
    "dandi_name",
    "is_archived",
    "is_asset_path",
    "is_conventional",
    "is_portable_suffix",
    "is_showable",
    "is_uuid",
    "unportable",
]

ARCHIVED_SUFFIXES = frozenset((".mp4", ".avi", ".wmv", ".mov", ".flv", ".mkv", ".png", ".jpg", ".jpeg", ".gif"))
"""Suffixes of media that DANDI accepts, in lower case only: ``VIDEO_FILE_EXTENSIONS`` and ``IMAGE_FILE_EXTENSIONS`` of
`dandi.consts`, which is slow to import. A test compares the two."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CONVENTIONAL = re.compile(rf"{_UUID.pattern}_[A-Za-z_]+_\d+(\.\w+)?")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_+-]{1,32})?")
# `ASSET_PATH_REGEX` of dandi-archive, without its exponential backtracking.
_ASSET_PATH = re.compile(r"(/?\.?[A-z0-9(),&\s#+~_=-])+")
_RESERVED = re.compile(r"(?is)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *([.:].*)?")
_REFUSED = re.compile(r'[<>:"|?*\\\x00-\x1f]')


class NamingConvention(Protocol):
    """A rule that names media files.

    Any callable with these keywords works. It returns a path relative to the folder of the NWB file, with forward
    slashes, at or below that folder; the plan refuses anything else.
    """

    def __call__(self, *, nwb_stem: str, object_id: str, field: str, index: int, suffix: str) -> PurePosixPath:
        """Name one media file.

        Parameters
        ----------
        nwb_stem : str
            Name of the NWB file at its destination without ``.nwb``.
        object_id : str
            UUID of the object that holds the reference, already checked.
        field : str
            Field that holds the reference, such as ``external_file``.
        index : int
            Entry of the field, counted from 0.
        suffix : str
            Suffix of the source file in lower case, with its dot; empty if it has none.
        """


def dandi_name(*, nwb_stem: str, object_id: str, field: str, index: int, suffix: str) -> PurePosixPath:
    """Name a media file as DANDI does: ``<nwb stem>/<object_id>_external_file_<n><suffix>``.

    The convention is that of ``dandi organize --update-external-file-paths`` (`dandi.organize`, function
    ``_create_external_file_names``). It only covers ``external_file``; names of media in another field, such as the
    ``labeled_videos`` of ndx-pose, contain that instead, so that two fields of one object never share a name.

    Parameters
    ----------
    nwb_stem, object_id, field, index, suffix
        See `NamingConvention`.

    Returns
    -------
    pathlib.PurePosixPath
        Relative to the folder of the NWB file.
    """
    return PurePosixPath(nwb_stem, f"{object_id}_{field}_{index}{suffix}")


def is_archived(suffix: str) -> bool:
    """Whether DANDI accepts media with a suffix; it silently skips others on upload."""
    return suffix in ARCHIVED_SUFFIXES


def is_asset_path(path: str) -> bool:
    """Whether the archive accepts a path in a dandiset; it refuses others only after all bytes were sent."""
    return _ASSET_PATH.fullmatch(path) is not None


def unportable(name: str) -> str | None:
    """Why a name of a file or folder is not possible on Windows, or looks different on macOS; None if it is fine.

    The rules are those of Windows, "Naming Files, Paths, and Namespaces"; the only other character that macOS does not
    take is the colon, which Windows refuses too.

    Parameters
    ----------
    name : str
        One name, not a path.

    Returns
    -------
    str or None
        Such as ``"Windows drops the dot at its end"``.
    """
    refused = _REFUSED.search(name)
    if refused is not None:
        systems = "Windows and macOS do not" if refused.group() == ":" else "Windows does not"
        return f"{systems} allow {refused.group()!r} in names"
    if _RESERVED.fullmatch(name) is not None:
        return f"Windows reserves {name.partition('.')[0].rstrip()!r}"
    if name.endswith((".", " ")) and name not in (".", ".."):
        return f"Windows drops the {'dot' if name.endswith('.') else 'blank'} at its end"
    return None


def is_conventional(name: str) -> bool:
    """Whether the name of a file follows `dandi_name`."""
    return _CONVENTIONAL.fullmatch(name) is not None


def is_uuid(object_id: str) -> bool:
    """Whether an object_id from a file is a UUID in its usual spelling, and so safe as part of a file name."""
    return _UUID.fullmatch(object_id) is not None


def is_portable_suffix(suffix: str) -> bool:
    """Whether a suffix (with its dot, or empty) means the same on every file system."""
    return _SUFFIX.fullmatch(suffix) is not None


def is_showable(name: str) -> bool:
    """Whether all characters of a name can be printed: none controls a terminal, ends a line, or is invalid Unicode."""
    # Spaces of any kind are fine: macOS puts a narrow no-break space into the names of screen recordings.
    return name.isprintable() or all(each.isprintable() or unicodedata.category(each) == "Zs" for each in name)

"""What a stored path says by itself: a URL, absolute or relative, in which spellings. No file is looked for."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..disk.filesystem import LONGEST_PATH

__all__ = ["is_absolute", "is_foreign", "is_url", "spellings", "unicode_forms", "without_file_scheme"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.ASCII)
_WINDOWS_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]{2}[^\\/]", re.ASCII)


def is_url(stored_path: str) -> bool:
    """Whether a stored path is a URL (or ``data:`` URI) that does not name a local file."""
    # a regular expression costs more than all else here, and most paths have no colon
    return ":" in stored_path and _SCHEME.match(stored_path) is not None and not _is_file_url(stored_path)


def is_absolute(stored_path: str) -> bool:
    """Whether a path, not a URL, means the same wherever its NWB file is, on this or another platform."""
    return (
        _is_file_url(stored_path)
        or os.path.isabs(stored_path)
        or stored_path.startswith("/")
        or (stored_path[1:2] in (":", "\\") and _WINDOWS_ABSOLUTE.match(stored_path) is not None)
    )


def _is_file_url(stored_path: str) -> bool:
    return stored_path.lower().startswith("file://")


def without_file_scheme(stored_path: str) -> str:
    """The path in a ``file://`` URL; other paths as they are.

    ValueError if the URL is malformed; the message continues after the URL.
    """
    if not _is_file_url(stored_path):
        return _without_long_prefix(stored_path) if os.name == "nt" else stored_path
    try:
        parts = urlsplit(stored_path)
    except ValueError as error:  # brackets and the like instead of a host
        raise ValueError(f"is not a valid file:// URL: {error}") from error
    path = unquote(parts.path, errors="surrogateescape")
    if re.match(r"[A-Za-z]:(\\|$)", parts.netloc):  # file://C:/x.avi, with a slash too few, or file://C:\x.avi
        return f"{unquote(parts.netloc)}{path}"
    if parts.netloc.lower() not in ("", "localhost"):
        # a share of Windows, as pathlib writes it; with backslashes other systems do not take it for a path of theirs
        return f"//{parts.netloc}{path}".replace("/", "\\")
    # file:///C:/x.avi is C:/x.avi, on Windows and elsewhere, where path_map may map it
    return path[1:] if re.match(r"/[A-Za-z]:[\\/]", path) else path


def _without_long_prefix(path: str) -> str:
    r"""A path without the ``\\?\`` that Windows wants before long ones: what it means there is relative to nothing."""
    shorter = re.sub(r"^\\\\\?\\(UNC(?=\\))?", lambda prefix: "\\" if prefix[1] else "", path, flags=re.IGNORECASE)
    return shorter if len(shorter) <= LONGEST_PATH else path


def unicode_forms(path: str) -> list[str]:
    """A path, and the same in the other Unicode normal forms: files copied from macOS may have such names."""
    if path.isascii():
        return [path]
    return list(dict.fromkeys((path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))))


def spellings(folder: str | Path, path: str) -> list[Path]:
    """A path below a folder; also with its backslashes read as slashes if that is another path."""
    paths = dict.fromkeys((path, path.replace("\\", "/")))
    # \videos\a.avi is on some drive of Windows, not at /videos/a.avi
    return [Path(folder, spelling) for spelling in paths if not spelling.startswith("/")]


def is_foreign(path: str) -> bool:
    """Whether a path is one of another machine: of another system, or on a drive or share that there is not here."""
    if os.name != "nt":
        return _WINDOWS_ABSOLUTE.match(path) is not None
    anchor = Path(path).anchor
    return is_absolute(path) and (anchor == "\\" or not os.path.exists(anchor))

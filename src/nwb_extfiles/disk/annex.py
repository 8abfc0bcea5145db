"""What git-annex and DataLad keep: files whose content lies in an object store, or is not on this machine."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

__all__ = ["annex_link", "is_annex_object", "is_annex_pointer"]

_LONGEST_POINTER = 32 * 1024  # bytes; git-annex itself reads no more
_OBJECTS = re.compile(r"(^|[\\/])(\.git[\\/])?annex[\\/]objects[\\/]")


def is_annex_object(path: Path) -> bool:
    """Whether a path, every symbolic link followed, lies in the object store of a git-annex repository.

    Parameters
    ----------
    path : pathlib.Path
        A file, or a link to one.
    """
    parts = Path(os.path.realpath(path)).parts
    return any(
        parts[index : index + 2] == ("annex", "objects") and _is_git_folder(Path(*parts[:index]))
        for index in range(1, len(parts) - 2)
    )


def _is_git_folder(folder: Path) -> bool:
    """``.git`` of a working tree, a bare repository, or the folder of a submodule."""
    return folder.name == ".git" or (folder / "HEAD").is_file()


def annex_link(path: Path) -> bool:
    """Whether a path is a symbolic link as git-annex makes it; what it leads to may not be here."""
    try:
        target = os.readlink(path)
    except (OSError, ValueError):
        return False
    return _OBJECTS.search(target) is not None


def is_annex_pointer(path: Path) -> bool:
    """Whether a file stands for one of git-annex whose content is not here.

    Parameters
    ----------
    path : pathlib.Path
        A locked file is then a link into the object store that leads nowhere; an unlocked one is a short text that
        begins with ``/annex/objects/``.
    """
    try:
        if annex_link(path):
            return not os.path.exists(path)
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= _LONGEST_POINTER:
            return False
        with open(path, "rb") as stream:
            return stream.read(15) == b"/annex/objects/"
    except (OSError, ValueError):
        return False

"""What git-annex and DataLad keep: files whose content lies in an object store, or is not on this machine."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..hints import quoted, shell_word

__all__ = ["LONGEST_POINTER", "holds_pointer", "how_to_get", "is_annex_object", "is_annex_pointer"]

LONGEST_POINTER = 32 * 1024  # bytes; git-annex itself reads no more
_BEGINNING = b"/annex/objects/"
_OBJECTS = re.compile(r"(^|[\\/])(\.git[\\/])?annex[\\/]objects[\\/]")


def is_annex_object(path: Path) -> bool:
    """Whether a path, every symbolic link followed, lies in the object store of a git-annex repository."""
    parts = Path(os.path.realpath(path)).parts
    return any(
        parts[index : index + 2] == ("annex", "objects") and _is_git_folder(Path(*parts[:index]))
        for index in range(1, len(parts) - 2)
    )


def _is_git_folder(folder: Path) -> bool:
    """``.git`` of a working tree, a bare repository, or the folder of a submodule."""
    return folder.name == ".git" or (folder / "HEAD").is_file()


def is_annex_pointer(path: Path) -> bool:
    """Whether a file stands for one of git-annex whose content is not here.

    A locked file is then a link into the object store whose target is missing; an unlocked one is a short text that
    begins with ``/annex/objects/``.
    """
    try:
        if os.path.islink(path) and not os.path.exists(path):
            return _OBJECTS.search(os.path.realpath(path)) is not None
        status = os.stat(path)
        return stat.S_ISREG(status.st_mode) and holds_pointer(path, status.st_size)
    except (OSError, ValueError):
        return False


def holds_pointer(path: Path, size: int) -> bool:
    """Whether a regular file of a known size holds the text of a pointer; False if it cannot be read."""
    if not len(_BEGINNING) < size <= LONGEST_POINTER:
        return False
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # `open` takes longer
        try:
            return os.read(handle, len(_BEGINNING)) == _BEGINNING
        finally:
            os.close(handle)
    except OSError:
        return False


def how_to_get(path: Path) -> str:
    """What to do, so that the content of a file of git-annex comes to this machine."""
    name = shell_word(path.name)
    return f"run `git annex get {name}`, or `datalad get {name}`, in {quoted(os.path.realpath(path.parent))}"

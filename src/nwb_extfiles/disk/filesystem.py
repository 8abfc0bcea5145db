"""Files and folders: made, flushed to the disk, removed, and how their paths are spelled."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from .access import PRIVATE, copy_access

__all__ = [
    "by_way_of",
    "free_bytes",
    "has_other_names",
    "is_folder",
    "longest_path",
    "make_folders",
    "nearest_folder",
    "relative_path",
    "remove",
    "sync_file",
    "sync_folder",
    "sync_folders",
    "sync_tree",
    "tree_size",
    "with_real_folder",
    "write_new",
]

_MAX_PATH = 259  # of Windows, unless long paths are turned on there
_SYNC_THREADS = 8  # file systems flush in one go what several ask for at once


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, where the platform has a way to."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems: nothing to flush
            raise
    finally:
        os.close(handle)


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush the names in several folders, those above before those below."""
    for folder in sorted(folders):
        sync_folder(folder)


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with all that is in it, to the disk; links in it are not followed."""
    if not is_folder(path):
        sync_file(path)
        return
    folders: list[Path] = []
    files: list[Path] = []
    for folder, _, names in os.walk(path, topdown=False):
        folders.append(Path(folder))
        places = (Path(folder, name) for name in names)
        files.extend(place for place in places if stat.S_ISREG(os.lstat(place).st_mode))  # a pipe would wait
    with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync") as pool:
        list(pool.map(sync_file, files))
        list(pool.map(sync_folder, folders))


def write_new(
    path: Path, content: bytes | bytearray, *, sync: bool = True, like: Path | None = None, mode: int = PRIVATE
) -> None:
    """Write a file that is not there yet; with `sync`, flush its bytes to the disk.

    It gets the readers and writers of the file `like`; if there is none, `mode` is what the umask takes from.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, mode if like is None else PRIVATE), "wb") as file:
        file.write(content)
        if like is not None:
            copy_access(like, file.fileno())
        file.flush()
        if sync:
            os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folders(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it; note each that was made, the uppermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for place in reversed(missing):
        made.append(place)  # before it is: an interrupt may come between, and removing none does no harm
        try:
            place.mkdir()
        except FileExistsError:
            made.remove(place)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def has_other_names(path: Path) -> bool:
    """Whether a file has further names (hard links), as in a backup made by ``cp -al`` or rsnapshot."""
    return path.is_file() and os.stat(path).st_nlink > 1


def with_real_folder(path: Path) -> Path:
    """A path whose folder is free of symbolic links; what it names may itself be one."""
    return Path(os.path.realpath(path.parent), path.name)


def by_way_of(root: Path, path: Path) -> Path:
    """A path spelled by way of a folder that it is in, though it leads there by another mount; else as it is."""
    for above in (path, *path.parents) if root.is_dir() and not path.is_relative_to(root) else ():
        if above.is_dir() and above.samefile(root):
            return root / path.relative_to(above)
    return path


def relative_path(path: str | Path, folder: str | Path) -> str:
    """The path from a folder to a file, both absolute. ValueError if they are on different drives of Windows."""
    above, name = os.path.split(path)
    way = _relative_folder(above, os.fspath(folder))
    return os.path.join(way, name) if name else way


@lru_cache(maxsize=64)  # videos are many, their folders few
def _relative_folder(path: str, folder: str) -> str:
    way = os.path.relpath(path, folder)
    return "" if way == os.curdir else way


def nearest_folder(path: Path) -> Path:
    """The nearest folder at or above `path` that exists: where what is made at `path` will be."""
    while not path.is_dir():
        if path.parent == path:
            break
        path = path.parent
    return path


def longest_path() -> int | None:
    """Characters that a path may have; None where there is no such bound that one can know beforehand."""
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            enabled, _ = winreg.QueryValueEx(key, "LongPathsEnabled")
    except OSError:
        enabled = 0
    return None if enabled else _MAX_PATH


def free_bytes(folder: Path) -> int:
    """Room in the file system of `folder`, in bytes."""
    return shutil.disk_usage(folder).free


def tree_size(path: Path) -> int:
    """Size in bytes of all files in a folder."""
    return sum(os.stat(Path(place, name)).st_size for place, _, names in os.walk(path) for name in names)

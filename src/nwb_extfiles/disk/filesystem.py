"""Files and folders: made, flushed to the disk, removed, and how their paths are spelled."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from .access import PRIVATE, copy_access

__all__ = [
    "LONGEST_PATH",
    "by_way_of",
    "free_bytes",
    "has_other_names",
    "is_folder",
    "is_read_only",
    "longest_path",
    "make_folders",
    "nearest_folder",
    "relative_path",
    "remove",
    "replace",
    "sync_file",
    "sync_folder",
    "sync_folders",
    "sync_tree",
    "tree_size",
    "unlink",
    "with_real_folder",
    "write_new",
]

LONGEST_PATH = 259
"""Characters of a path of Windows, unless long paths are turned on there."""
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)  # as `Path.is_dir` takes them
_SYNC_THREADS = 8  # file systems flush in one go what several ask for at once


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    handle = _opened_to_write(path) if os.name == "nt" else os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened_to_write(path: Path) -> int:
    """The descriptor of a file that Windows lets one flush, which read-only files must be opened for in this way."""
    read_only = is_read_only(path)
    if read_only:
        os.chmod(path, stat.S_IWRITE)
    try:
        return os.open(path, os.O_RDWR)
    finally:
        if read_only:
            os.chmod(path, stat.S_IREAD)


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
        for place, _, names in os.walk(path) if os.name == "nt" else ():
            for name in names:
                unlink(Path(place, name))
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            unlink(path)


def unlink(path: str | Path, other_names: Iterable[str | Path] = ()) -> None:
    """Remove the name of a file or link, also where Windows removes no read-only file.

    There the attribute is of the file, whatever its names; `other_names` of it, which stay, keep theirs.
    """
    if not is_read_only(path):
        os.unlink(path)
        return
    same = [name for name in other_names if os.path.exists(name) and os.path.samefile(name, path)]
    os.chmod(path, stat.S_IWRITE)
    try:
        os.unlink(path)
    except OSError:
        os.chmod(path, stat.S_IREAD)
        raise
    for name in same[:1]:
        os.chmod(name, stat.S_IREAD)


def replace(path: Path, target: Path, other_names: Iterable[str | Path] = ()) -> None:
    """Rename a file over another one, also where Windows replaces no read-only file.

    `other_names` of what is replaced stay read-only there.
    """
    if is_read_only(target):
        unlink(target, other_names)
    os.replace(path, target)


def is_read_only(path: str | Path) -> bool:
    """Whether a file has the attribute of Windows that keeps it from being written to, replaced and removed."""
    try:
        return os.name == "nt" and not os.lstat(path).st_mode & stat.S_IWRITE
    except FileNotFoundError:
        return False


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
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return False


def has_other_names(path: Path) -> bool:
    """Whether a file has further names (hard links), as in a backup made by ``cp -al`` or rsnapshot."""
    return path.is_file() and os.stat(path).st_nlink > 1


def with_real_folder(path: Path) -> Path:
    """A path whose folder is free of symbolic links; what it names may itself be one."""
    return Path(os.path.realpath(path.parent), path.name)


def by_way_of(root: Path, path: Path) -> Path:
    """A path spelled by way of a folder that it is in, though it leads there by another mount; else as it is."""
    if path.is_relative_to(root) or (wanted := _status_of_folder(root)) is None:
        return path
    for above in (path, *path.parents):
        found = _status_of_folder(above)
        if found is not None and os.path.samestat(found, wanted):
            return root / path.relative_to(above)
    return path


def _status_of_folder(path: Path) -> os.stat_result | None:
    """The status of a folder; None if nothing is there, or no folder."""
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return None
    return status if stat.S_ISDIR(status.st_mode) else None


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
    return None if enabled else LONGEST_PATH


def free_bytes(folder: Path) -> int:
    """Room in the file system of `folder`, in bytes."""
    return shutil.disk_usage(folder).free


def tree_size(path: Path) -> int:
    """Size in bytes of all files in a folder."""
    return sum(os.stat(Path(place, name)).st_size for place, _, names in os.walk(path) for name in names)

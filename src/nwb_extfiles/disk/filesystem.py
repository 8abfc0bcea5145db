"""The few things this package asks of a file system that the standard library has not ready."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = [
    "FileLock",
    "free_bytes",
    "is_folder",
    "link_exclusive",
    "lock_handle",
    "longest_path",
    "make_folders",
    "nearest_folder",
    "remove",
    "rename_exclusive",
    "sync_file",
    "sync_folder",
    "sync_folders",
    "sync_tree",
    "tree_size",
    "with_real_folder",
    "write_new",
]

CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
"""What a file system answers that can make no (further) hard link; anything else is a failure."""
_MAX_PATH = 259  # of Windows, unless long paths are turned on there
_SYNC_THREADS = 8  # file systems flush in one go what several ask for at once
_CANNOT_LOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def link_exclusive(source: Path, target: Path) -> bool:
    """Give a file a second name.

    Parameters
    ----------
    source : pathlib.Path
        The file; a symbolic link itself is linked, not what it points at.
    target : pathlib.Path
        Must not exist.

    Returns
    -------
    bool
        False if the file system can make no such link; nothing is changed then.

    Raises
    ------
    FileExistsError
        If `target` exists.
    OSError
        As the file system says.
    """
    try:
        try:
            os.link(source, target, follow_symlinks=False)
        except NotImplementedError:  # the platform cannot choose; harmless where the source is no link
            if source.is_symlink():
                return False
            os.link(source, target)
    except OSError as error:
        if error.errno in CANNOT_LINK:
            return False
        raise
    return True


def rename_exclusive(source: Path, target: Path, *, sync: bool = False) -> bool:
    """Rename a file or symbolic link, never over another one.

    Parameters
    ----------
    source : pathlib.Path
        The file or symbolic link.
    target : pathlib.Path
        Must not exist.
    sync : bool
        Whether to flush the new name to the disk before the old one goes, where these are two steps.

    Returns
    -------
    bool
        Whether the new name was flushed.

    Raises
    ------
    FileExistsError
        If `target` exists; both files are left as they are.
    OSError
        As the file system says.
    """
    if os.name != "nt" and link_exclusive(source, target):
        if sync:
            sync_folder(target.parent)
        os.unlink(source)
        return sync
    # Windows' rename is exclusive. A POSIX file system without hard links leaves a gap between look and leap, which
    # the lock on the destination closes against other exports.
    if os.name != "nt" and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)
    return False


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


def write_new(path: Path, content: bytes | bytearray, *, sync: bool = True) -> None:
    """Write a file that is not there yet, and flush its bytes to the disk if that is wanted."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def tree_size(path: Path) -> int:
    """Size in bytes of all files in a folder."""
    return sum(os.stat(Path(place, name)).st_size for place, _, names in os.walk(path) for name in names)


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


def with_real_folder(path: Path) -> Path:
    """A path whose folder is free of symbolic links; what it names may itself be one."""
    return Path(os.path.realpath(path.parent), path.name)


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


class FileLock:
    """An exclusive lock that ends with its process.

    The lock file is removed on release, so the lock is taken again if the file that was locked is no longer the one
    at its path.

    Parameters
    ----------
    path : pathlib.Path
        The lock file; its folder must exist.

    Raises
    ------
    BlockingIOError
        If another process, or another lock of this one, holds it.
    NotImplementedError
        If the file system has no locks.
    OSError
        As the file system says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                lock_handle(handle)
                current = path.exists() and os.path.samestat(os.fstat(handle), os.stat(path))
            except NotImplementedError:
                os.close(handle)
                path.unlink(missing_ok=True)
                raise
            except BaseException:
                os.close(handle)
                raise
            if current:
                self._handle = handle
                return
            os.close(handle)

    def release(self) -> None:
        """Remove the lock file and let go."""
        if os.name == "nt":  # an open file cannot be removed there
            self._close()
            self.path.unlink(missing_ok=True)
        else:
            try:
                self.path.unlink(missing_ok=True)
            finally:
                self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        # An owner that was dropped is no longer at work; the file stays, as after a crash.
        self._close()


def lock_handle(handle: int) -> None:
    """Lock an open file against others, as HDF5 does; raises as `FileLock`."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _CANNOT_LOCK:
            raise NotImplementedError("the file system has no locks") from error
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError(error.errno, "locked") from error
        raise

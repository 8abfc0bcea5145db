"""The few things this package asks of a file system that the standard library has not ready."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from ..errors import warn

__all__ = [
    "PRIVATE",
    "FileLock",
    "by_way_of",
    "can_link",
    "copy_access",
    "free_bytes",
    "has_hard_links",
    "has_other_names",
    "has_symlinks",
    "held_alone",
    "is_folder",
    "limit_access",
    "link_exclusive",
    "lock_handle",
    "longest_path",
    "make_folders",
    "make_writable",
    "nearest_folder",
    "open_private",
    "relative_path",
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

PRIVATE = 0o600
"""The mode of a new file until it gets the one that it shall have."""
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
"""What file systems without links answer: FAT and exFAT by FUSE ENOSYS or EPERM, in Linux EPERM, shares EOPNOTSUPP."""
if os.name == "nt":
    _NO_LINKS.add(errno.EINVAL)  # ERROR_INVALID_FUNCTION of exFAT and FAT
CANNOT_LINK = {*_NO_LINKS, errno.EXDEV, errno.EMLINK, errno.EACCES}
"""What a file system answers that can make no (further) hard link; anything else is a failure."""
_NO_ACCESS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ERANGE}
"""What file systems without modes, owners or extended attributes, or users without the right, are answered."""
_PROBE = ".nwb-extfiles-probe"
_ACL = "system.posix_acl_access"
# of an ACL in its extended attribute: a version, then (tag, permissions, id) for each entry
_ACL_VERSION, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_GROUP, _ACL_MASK = 0x04, 0x10
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


def can_link(source: Path, folder: Path) -> bool:
    """Whether a file can have a hard link in an existing folder.

    It is tried, and the link removed at once. Device numbers do not tell: on an overlay, as in containers, a file may
    have another one than its folder, and be linked there all the same.
    """
    return _tried(lambda probe: os.link(source, probe), folder) is None


def has_hard_links(folder: Path) -> bool:
    """Whether the file system of an existing folder has hard links; True where that cannot be tried."""

    def link(probe: Path) -> None:
        first = probe.with_name(f"{probe.name}-1")
        first.unlink(missing_ok=True)
        os.close(open_private(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.link(first, probe)
        finally:
            _remove_probe(first)

    error = _tried(link, folder)
    return error is None or error.errno not in _NO_LINKS


def has_symlinks(folder: Path) -> bool:
    """Whether the file system of an existing folder has symbolic links; True where that cannot be tried."""
    error = _tried(lambda probe: os.symlink(os.curdir, probe), folder)
    # That Windows lets a user make none (1314) is no matter of the file system.
    return error is None or error.errno not in _NO_LINKS or getattr(error, "winerror", None) == 1314


def _remove_probe(probe: Path) -> None:
    """Remove what was made for a trial, at the second attempt if a disk fails at the first."""
    for attempt in (1, 2):
        try:
            probe.unlink(missing_ok=True)
        except OSError as error:
            if attempt == 2 and os.path.lexists(probe):  # where nothing may be written, even a name that is not there
                warn(f"{probe} could not be removed after a trial: {error.strerror}; remove it, nothing needs it")
        else:
            return


def _tried(make: Callable[[Path], object], folder: Path) -> OSError | None:
    """Make something under a name that is removed at once; give what was answered. The folder keeps its times."""
    probe = folder / _PROBE  # always the same, so that the next trial removes what a killed one has left
    before = os.stat(folder)
    try:
        if os.path.lexists(probe):
            probe.unlink(missing_ok=True)
        make(probe)
    except FileExistsError:
        return None  # what another process tries just now goes
    except OSError as error:
        return error
    finally:
        _remove_probe(probe)
        with suppress(OSError):
            if os.stat(folder).st_mtime_ns != before.st_mtime_ns:
                os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    return None


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open as `os.open` does; what is made is for its owner alone. To be the `opener` of `open`."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), PRIVATE)


def copy_access(source: int | Path, target: int | Path, *, attributes: bool = True) -> None:
    """Let the same people read and write a copy, and no others.

    The copy gets the mode of its source, its POSIX ACL, its owner and group as far as the user may give them, and its
    extended attributes. Where the ACL or the group cannot be had, the group may do no more than it may with the
    source. What a file system does not have is no error. Nothing on Windows, where the folder decides.

    Parameters
    ----------
    source : int or pathlib.Path
        A file, a descriptor of one, or a folder; a symbolic link is followed.
    target : int or pathlib.Path
        Likewise; `PRIVATE` so far, or a folder of mode 0700, so that at no moment anybody else may read it.
    attributes : bool
        Whether the extended attributes of users are copied too.
    """
    if os.name == "nt":
        return
    wanted, there = os.stat(source), os.stat(target)
    mode = stat.S_IMODE(wanted.st_mode) & 0o777
    if wanted.st_uid != there.st_uid and os.geteuid() == 0:
        _tolerated(lambda: os.chown(target, wanted.st_uid, -1))
    has_group = wanted.st_gid == there.st_gid or _tolerated(lambda: os.chown(target, -1, wanted.st_gid))
    if attributes:
        _copy_attributes(source, target)
    acl = _acl(source)
    if acl is None and _acl(target) is not None:  # the folder gives one to what is made in it
        _tolerated(lambda: os.removexattr(target, _ACL))
    if acl is None or not has_group or not _tolerated(lambda: os.setxattr(target, _ACL, acl)):
        if acl is not None:  # the bits of the group are those of the mask, which is as wide as the widest entry
            mode = (mode & ~0o070) | (_of_group(acl) << 3 & mode)
        if not has_group:
            mode = (mode & ~0o070) | ((mode & 0o007) << 3 & mode)
    if stat.S_ISDIR(there.st_mode):
        mode |= stat.S_IRWXU  # else nothing in it could be edited, put in place or removed
    if stat.S_IMODE(os.stat(target).st_mode) != mode:
        _tolerated(lambda: os.chmod(target, mode))


def limit_access(target: Path, source: Path) -> None:
    """Take from a new file or folder what people may not do with the one that it is made from."""
    if os.name == "nt":
        return
    made, allowed = os.stat(target).st_mode, os.stat(source).st_mode
    acl = _acl(source)
    if acl is not None:
        allowed = (allowed & ~0o070) | (_of_group(acl) << 3 & allowed)
    if stat.S_ISDIR(made):
        allowed |= (allowed & 0o444) >> 2  # who may read a file may enter a folder
    mode = stat.S_IMODE(made) & (allowed | stat.S_IRWXU)
    if mode != stat.S_IMODE(made):
        if _acl(target) is not None:
            _tolerated(lambda: os.removexattr(target, _ACL))
        _tolerated(lambda: os.chmod(target, mode))


def make_writable(path: Path) -> None:
    """Let the owner write to a file that is being made of one that is read-only."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if not mode & stat.S_IWUSR:
        _tolerated(lambda: os.chmod(path, mode | stat.S_IWUSR))


def _tolerated(change: Callable[[], object]) -> bool:
    """Change what the file system may not have; tell whether that could be."""
    try:
        change()
    except OSError as error:
        if error.errno not in _NO_ACCESS:
            raise
        return False
    return True


def _acl(path: int | Path) -> bytes | None:
    """The POSIX ACL of a file that has one beyond its mode."""
    if sys.platform != "linux":
        return None
    try:
        return os.getxattr(path, _ACL)
    except OSError:  # none, or the file system has no such thing
        return None


def _of_group(acl: bytes) -> int:
    """What an ACL lets the group of the file do, which its mode does not tell."""
    entries: dict[int, int] = {tag: allowed for tag, allowed, _ in _ACL_ENTRY.iter_unpack(acl[_ACL_VERSION.size :])}
    return entries.get(_ACL_GROUP, 0) & entries.get(_ACL_MASK, 0o7)


def _copy_attributes(source: int | Path, target: int | Path) -> None:
    if sys.platform != "linux":
        return
    try:
        names = os.listxattr(source)
    except OSError:  # the file system has none
        return
    for name in names:
        if name.startswith("user."):  # others are of the system, or of what the file system does inside
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in {*_NO_ACCESS, errno.ENODATA, errno.ENOSPC, errno.E2BIG, errno.EACCES}:
                    raise


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


def write_new(
    path: Path, content: bytes | bytearray, *, sync: bool = True, like: Path | None = None, mode: int = PRIVATE
) -> None:
    """Write a file that is not there yet.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : bytes
        What is in it.
    sync : bool
        Whether its bytes are flushed to the disk.
    like : pathlib.Path, optional
        A file whose readers and writers it gets.
    mode : int
        What the umask takes from, if there is none.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, mode if like is None else PRIVATE), "wb") as file:
        file.write(content)
        if like is not None:
            copy_access(like, file.fileno())
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


def relative_path(path: str | Path, folder: str | Path) -> str:
    """The path from a folder to a file, both of them absolute.

    Raises
    ------
    ValueError
        If they are on different drives of Windows.
    """
    above, name = os.path.split(path)
    way = _relative_folder(above, os.fspath(folder))
    return os.path.join(way, name) if name else way


@lru_cache(maxsize=64)  # videos are many, their folders few
def _relative_folder(path: str, folder: str) -> str:
    way = os.path.relpath(path, folder)
    return "" if way == os.curdir else way


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


@contextmanager
def held_alone(path: Path) -> Iterator[None]:
    """Hold the lock that HDF5 takes on a file, so that no program opens it meanwhile; raises as `FileLock`.

    On Windows it is only looked whether another program has it: nobody could read the file there.
    """
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        with suppress(NotImplementedError):  # HDF5 does without too
            lock_handle(handle)
        if os.name == "nt":
            os.close(handle)
            handle = -1
        yield
    finally:
        if handle >= 0:
            os.close(handle)


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

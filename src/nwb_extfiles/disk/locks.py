"""Locks on files, against other processes and other parts of this one; they end with the process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DestinationBusyError

__all__ = ["FileLock", "held_alone", "lock_handle", "open_elsewhere"]

_CANNOT_LOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class FileLock:
    """An exclusive lock that ends with its process.

    The lock file, whose folder must exist, is removed on release, so the lock is taken again if the file that was
    locked is no longer the one at its path.

    Raises
    ------
    BlockingIOError
        If another process, or another lock of this one, holds it.
    NotImplementedError
        If the file system has no locks.
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

    def write(self, content: bytes, *, sync: bool) -> None:
        """Write to the lock file, for who takes the lock after a crash."""
        while content:
            content = content[os.write(self._handle, content) :]
        if sync:
            os.fsync(self._handle)

    def read(self) -> bytes:
        """What an owner that crashed has written to the lock file."""
        with open(os.dup(self._handle), "rb") as file:
            return file.read()

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
def held_alone(path: Path, *, to_copy: bool = False) -> Iterator[int]:
    """Hold the lock that HDF5 takes on a file, so that no program opens it meanwhile; gives its descriptor.

    On Windows nobody else can read such a file, so one that is `to_copy` is only looked at, and closed again.
    DestinationBusyError if it is open elsewhere.
    """
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        try:
            lock_handle(handle)
        except NotImplementedError:
            pass  # HDF5 does without too
        except BlockingIOError as error:
            raise open_elsewhere(path) from error
        if to_copy and os.name == "nt":
            os.close(handle)
            handle = -1
        yield handle
    finally:
        if handle >= 0:
            os.close(handle)


def open_elsewhere(path: Path) -> DestinationBusyError:
    """The error for an HDF5 file that is open for writing: in this very program, as far as HDF5 knows, or another."""
    from h5py import h5f

    if any(_is_open_as(file, path) for file in h5f.get_obj_ids(h5f.OBJ_ALL, h5f.OBJ_FILE)):
        what, hint = "is still open in this program", "close the IO or the h5py.File that has it open, and try again"
    else:
        what, hint = "is open in another program", "close it there, and try again"
    return DestinationBusyError(f"{path} {what}", hint=hint, nwb_path=str(path))


def _is_open_as(file: Any, path: Path) -> bool:
    try:
        return os.path.samefile(os.fsdecode(file.name), path)
    except (OSError, ValueError):  # a file object, or one that is gone
        return False


def may_be_read(handle: int) -> bool:
    """Whether HDF5 would open a file for reading: not while another program has it open for writing."""
    if sys.platform == "win32":
        return True  # who has locked it lets nobody read it
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _CANNOT_LOCK
    return True


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

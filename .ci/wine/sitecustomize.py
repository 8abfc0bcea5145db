"""Make Windows' Python in Wine 8 behave as on Windows, where it would crash or do nothing."""

import _winapi
import errno
import msvcrt
import os
import sys

# Calls that end the process, because Wine has none of the kind. Without them, Python takes other ways.
sys.modules["_wmi"] = None  # of the module platform
if hasattr(_winapi, "CopyFile2"):  # of shutil
    del _winapi.CopyFile2

_lock = msvcrt.locking


def _refuse_symlink(source, target, target_is_directory=False, *, dir_fd=None):  # noqa: ANN001, ANN202, ARG001
    """Wine reports success and makes no link. Windows reports this error to users without the privilege."""
    raise OSError(0, "A required privilege is not held by the client", os.fspath(source), 1314, os.fspath(target))


def _locking(handle, mode, size):  # noqa: ANN001, ANN202
    """Wine leaves errno as it was when a lock is refused."""
    try:
        _lock(handle, mode, size)
    except OSError as error:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from error


os.symlink = _refuse_symlink
msvcrt.locking = _locking

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

_lock, _rename, _replace = msvcrt.locking, os.rename, os.replace


def _refuse_symlink(source, target, target_is_directory=False, *, dir_fd=None):  # noqa: ANN001, ANN202, ARG001
    """Wine reports success and makes no link. Windows reports this error to users without the privilege."""
    raise OSError(0, "A required privilege is not held by the client", os.fspath(source), 1314, os.fspath(target))


def _locking(handle, mode, size):  # noqa: ANN001, ANN202
    """Wine leaves errno as it was when a lock is refused."""
    try:
        _lock(handle, mode, size)
    except OSError as error:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from error


def _are_names_of_one_file(source, target):  # noqa: ANN001, ANN202
    """Whether both exist, as hard links; no rename in letter case."""
    try:
        same = os.path.samefile(source, target)
    except OSError:
        return False
    return same and os.path.normcase(os.path.abspath(source)) != os.path.normcase(os.path.abspath(target))


def _renamed(source, target, **options):  # noqa: ANN001, ANN003, ANN202
    """Wine does nothing where the target is a hard link to the source, as POSIX has it. Windows refuses that."""
    if _are_names_of_one_file(source, target):
        raise OSError(0, "The file already exists", os.fspath(source), 183, os.fspath(target))
    _rename(source, target, **options)


def _replaced(source, target, **options):  # noqa: ANN001, ANN003, ANN202
    """As with `os.rename`; Windows replaces the one link by the other."""
    if _are_names_of_one_file(source, target):
        os.unlink(source)
    else:
        _replace(source, target, **options)


os.rename, os.replace = _renamed, _replaced
os.symlink = _refuse_symlink
msvcrt.locking = _locking

"""Files that other programs have open: Windows then lets nobody rename, replace or remove them, or even read them."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["is_in_use"]

_IN_USE = (32, 33)  # ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
_GENERIC_READ, _DELETE = 0x8000_0000, 0x0001_0000
_SHARE_ALL, _OPEN_EXISTING, _FOLDERS_TOO = 7, 3, 0x0200_0000


def is_in_use(path: Path, *, goes: bool = False) -> bool:
    """Whether another program has a file open so that it cannot be read or, if it `goes`, renamed, replaced or removed.

    Tried by opening it, which changes nothing. Always False where open files are no obstacle, as on POSIX systems.
    """
    if sys.platform != "win32":
        return False
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    create = kernel.CreateFileW
    create.restype = wintypes.HANDLE
    create.argtypes = [wintypes.LPCWSTR, *[wintypes.DWORD] * 2, wintypes.LPVOID, *[wintypes.DWORD] * 2, wintypes.HANDLE]
    access = _GENERIC_READ | (_DELETE if goes else 0)
    handle = create(str(path), access, _SHARE_ALL, None, _OPEN_EXISTING, _FOLDERS_TOO, None)
    if handle == wintypes.HANDLE(-1).value:
        return ctypes.get_last_error() in _IN_USE
    kernel.CloseHandle(wintypes.HANDLE(handle))
    return False

"""Who may read and write a file: mode, POSIX ACL, owner and group, and the attributes that users gave it."""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["PRIVATE", "copy_access", "limit_access", "make_writable", "open_private"]

PRIVATE = 0o600
"""The mode of a new file until it gets the one that it shall have."""
_NO_ACCESS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ERANGE}
"""What file systems without modes, owners or extended attributes, or users without the right, are answered."""
_ACL = "system.posix_acl_access"
# of an ACL in its extended attribute: a version, then (tag, permissions, id) for each entry
_ACL_VERSION, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_GROUP, _ACL_MASK = 0x04, 0x10


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open as `os.open` does; what is made is for its owner alone. To be the `opener` of `open`."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), PRIVATE)


def copy_access(source: int | Path, target: int | Path, *, attributes: bool = True) -> None:
    """Let the same people read and write a copy, and no others.

    The copy gets the mode of its source, its POSIX ACL, its owner and group as far as the user may give them, and, with
    `attributes`, the extended attributes that users gave it. Where the ACL or the group cannot be had, the group may do
    no more than it may with the source. What a file system does not have is no error. Nothing on Windows, where the
    folder decides.

    The source may be a folder, and either a descriptor; symbolic links are followed. So that at no moment anybody else
    may read it, the target is `PRIVATE` so far, or a folder of mode 0700.
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

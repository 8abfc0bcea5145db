"""Further names of files: hard links, symbolic links, names that are never given twice, and who can have which."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import TransferError, warn
from . import filesystem
from .access import open_private

__all__ = [
    "CANNOT_LINK",
    "OtherModeError",
    "can_link",
    "can_symlink",
    "has_hard_links",
    "has_symlinks",
    "ignores_case",
    "lacks_privilege",
    "link_exclusive",
    "rename_exclusive",
]

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
"""What file systems without links answer: FAT and exFAT by FUSE ENOSYS or EPERM, in Linux EPERM, shares EOPNOTSUPP."""
if os.name == "nt":
    _NO_LINKS.add(errno.EINVAL)  # ERROR_INVALID_FUNCTION of exFAT and FAT
CANNOT_LINK = {*_NO_LINKS, errno.EXDEV, errno.EMLINK, errno.EACCES}
"""What a file system answers that can make no (further) hard link; anything else is a failure."""
_WITH_LINKS = {"btrfs", "ext2", "ext3", "ext4", "overlay", "tmpfs", "xfs", "zfs"}
"""File systems of Linux that have both kinds of links, so that nothing needs to be tried.

NFS is not one of them: it has the links that the file system of the server has.
"""
_NO_PRIVILEGE = 1314  # ERROR_PRIVILEGE_NOT_HELD
_PROBE = ".nwb-extfiles-probe"


class OtherModeError(TransferError):
    """A file cannot be linked or cloned in the way that was tried; another way may be possible."""


def link_exclusive(source: Path, target: Path) -> bool:
    """Give a file a second name, which must not exist (FileExistsError).

    A symbolic link itself is linked, not what it points at. False, with nothing changed, if the file system can make no
    such link.
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

    With `sync` the new name is flushed to the disk before the old one goes, where these are two steps; tells whether it
    was. FileExistsError if the target exists: both files are left as they are.
    """
    if os.name != "nt" and link_exclusive(source, target):
        if sync:
            filesystem.sync_folder(target.parent)
        os.unlink(source)
        return sync
    # Windows' rename is exclusive. A POSIX file system without hard links leaves a gap between look and leap, which
    # the lock on the destination closes against other exports.
    if os.name != "nt" and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)
    return False


def can_link(source: Path, folder: Path) -> bool:
    """Whether a file can have a hard link in an existing folder.

    It is tried, and the link removed at once. Device numbers do not tell: on an overlay, as in containers, a file may
    have another one than its folder, and be linked there all the same.
    """
    return _tried(lambda probe: os.link(source, probe), folder) is None


def has_hard_links(folder: Path) -> bool:
    """Whether the file system of an existing folder has hard links; True where that cannot be tried."""
    if _kind_of(folder) in _WITH_LINKS:
        return True

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
    if _kind_of(folder) in _WITH_LINKS:
        return True
    error = _tried(lambda probe: os.symlink(os.curdir, probe), folder)
    # That Windows lets a user make none (1314) is no matter of the file system.
    return error is None or error.errno not in _NO_LINKS or getattr(error, "winerror", None) == _NO_PRIVILEGE


def lacks_privilege(folder: Path) -> bool:
    """Whether Windows lets this user make no symbolic links, found out in an existing folder."""
    error = _tried(lambda probe: os.symlink(os.curdir, probe), folder) if os.name == "nt" else None
    return getattr(error, "winerror", None) == _NO_PRIVILEGE


def can_symlink(folder: Path) -> bool:
    """Whether this user can make symbolic links in an existing folder, which Windows does not let everybody."""
    return _kind_of(folder) in _WITH_LINKS or _tried(lambda probe: os.symlink(os.curdir, probe), folder) is None


def ignores_case(folder: Path) -> bool:
    """Whether names that differ in letter case are one name in an existing folder; False where that cannot be tried."""
    found: list[bool] = []

    def make(probe: Path) -> None:
        os.close(open_private(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        found.append(os.path.lexists(probe.with_name(probe.name.upper())))

    _tried(make, folder)
    return found == [True]


def _kind_of(folder: Path) -> str | None:
    """The kind of file system that Linux has mounted there; None if it does not say, and on other systems."""
    if sys.platform != "linux":
        return None
    device = os.stat(folder).st_dev
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return None
    device_number = b"%d:%d" % (os.major(device), os.minor(device))
    # The first " - " ends the optional fields. What a file system says of itself may have another one further on.
    found = re.search(rb"^\d+ \d+ " + device_number + rb" .*? - (\S+) ", mounts, re.MULTILINE)
    return None if found is None else found[1].decode()


def _remove_probe(probe: Path) -> None:
    """Remove what was made for a trial, at the second attempt if a disk fails at the first."""
    for attempt in (1, 2):
        try:
            probe.unlink(missing_ok=True)
        except OSError as error:
            if attempt == 2 and os.path.lexists(probe):  # where nothing may be written, even a name that is not there
                warn(
                    f"{probe} could not be removed after a trial: {error.strerror}", hint="remove it, nothing needs it"
                )
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

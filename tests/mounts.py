"""Mount real file systems for tests. Each function unmounts it at the end, or skips the test and says why.

All are context managers that return the mount point.

>>> with loop("exfat") as stick, overlay(lower) as merged, bindfs(folder) as again:
...     ...
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

__all__ = ["LOOP_KINDS", "bind", "bindfs", "loop", "mounted", "overlay", "ramfs", "tmpfs"]

# For each kind: the command that formats an image, what else it needs, and the command that mounts it.
_MAKE: dict[str, tuple[str, ...]] = {
    "exfat": ("mkfs.exfat",),
    "ntfs": ("mkfs.ntfs", "-F", "-Q", "-q"),
    "vfat": ("mkfs.vfat",),
    "btrfs": ("mkfs.btrfs", "-q"),
    "xfs": ("mkfs.xfs", "-q"),
    "ext4": ("mkfs.ext4", "-q", "-F"),
}
_MOUNT: dict[str, tuple[str, ...]] = {
    "exfat": ("mount.exfat-fuse",),
    "ntfs": ("ntfs-3g",),
}
_PACKAGES = {
    "mkfs.exfat": "exfatprogs",
    "mount.exfat-fuse": "exfat-fuse",
    "mkfs.ntfs": "ntfs-3g",
    "ntfs-3g": "ntfs-3g",
    "mkfs.vfat": "dosfstools",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "bindfs": "bindfs",
}
_LEAST_MB = {"xfs": 300, "btrfs": 128}
LOOP_KINDS = tuple(_MAKE)
"""What `loop` knows."""


def _skip(reason: str) -> None:
    pytest.skip(f"NOT TESTED HERE: {reason}")


def _need(*tools: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        _skip("only root on Linux can mount")
    for tool in tools:
        if shutil.which(tool) is None:
            _skip(f"{tool} is missing (apt-get install {_PACKAGES.get(tool, tool)})")


def _kernel_has(kind: str) -> bool:
    return any(line.split()[-1] == kind for line in Path("/proc/filesystems").read_text().splitlines())


def _is_mounted(place: Path) -> bool:
    """Whether something is mounted at a path. `os.path.ismount` does not see a folder of the same file system."""
    escaped = os.path.realpath(place).translate({ord(char): f"\\{ord(char):03o}" for char in "\\ \t\n"})
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return any(line.split(" ")[4] == escaped for line in lines)


@contextmanager
def mounted(command: Sequence[str], place: Path) -> Iterator[Path]:
    """Run a command that mounts at a path, and unmount that at the end."""
    place.mkdir(exist_ok=True)
    done = subprocess.run([*command], check=False, capture_output=True, text=True)
    if done.returncode:
        _skip(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    for _ in range(100):  # a FUSE server can need a moment
        if _is_mounted(place):
            break
        time.sleep(0.05)
    try:
        yield place
    finally:
        if subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode:
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        for _ in range(100):
            if not _is_mounted(place):
                break
            time.sleep(0.05)


@contextmanager
def _room(within: Path | None = None) -> Iterator[Path]:
    """A temporary folder, removed at the end. What is still mounted in it is not entered."""
    place = Path(tempfile.mkdtemp(prefix="mounts-", dir=within))
    try:
        yield place
    finally:
        if not any(map(_is_mounted, place.iterdir())):
            shutil.rmtree(place)


def _made(place: Path | None, room: Path, name: str) -> Path:
    """Make the mount point, which must exist before the command runs."""
    made = place or room / name
    made.mkdir(parents=True, exist_ok=True)
    return made


@contextmanager
def bind(folder: Path, place: Path | None = None) -> Iterator[Path]:
    """Mount a folder at a second path, with the same device and inodes."""
    _need("mount")
    with _room() as room:
        at = _made(place, room, "bind")
        with mounted(["mount", "--bind", str(folder), str(at)], at):
            yield at


@contextmanager
def bindfs(folder: Path, place: Path | None = None, options: Sequence[str] = ()) -> Iterator[Path]:
    """Mount a folder at a second path, with another device and perhaps other inodes, as with NFS or SMB."""
    _need("bindfs")
    with _room() as room:
        at = _made(place, room, "bindfs")
        with mounted(["bindfs", *options, str(folder), str(at)], at):
            yield at


@contextmanager
def tmpfs(options: str = "", *, within: Path | None = None) -> Iterator[Path]:
    """A file system in memory.

    With `within`, it is mounted in that folder: a move looks for other NWB files in the folder that the old and the new
    place have in common, and in ``/tmp`` there can be thousands.
    """
    _need("mount")
    with _room(within) as room:
        at = _made(None, room, "tmpfs")
        with mounted(["mount", "-t", "tmpfs", *(["-o", options] if options else []), "tmpfs", str(at)], at):
            yield at


@contextmanager
def ramfs() -> Iterator[Path]:
    """A file system in memory with modes and links, but without extended attributes and ACLs."""
    _need("mount")
    with _room() as room:
        at = _made(None, room, "ramfs")
        with mounted(["mount", "-t", "ramfs", "ramfs", str(at)], at):
            yield at


@contextmanager
def overlay(lower: Path, options: str = "") -> Iterator[Path]:
    """An overlay, as in containers: it shows `lower`, and writes go elsewhere.

    If `lower` is on another file system than the temporary folder, such as /dev/shm, files that were not written to
    have another device than their folders.
    """
    _need("mount")
    if not _kernel_has("overlay"):
        _skip("the kernel has no overlay file system")
    with _room() as room:
        upper, work, at = (_made(None, room, name) for name in ("upper", "work", "merged"))
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        text = f"{layers},{options}" if options else layers
        with mounted(["mount", "-t", "overlay", "overlay", "-o", text, str(at)], at):
            yield at


@contextmanager
def loop(kind: str, mb: int = 64, options: str = "", *, within: Path | None = None) -> Iterator[Path]:
    """A file system in an image file: exfat or ntfs with FUSE; vfat, btrfs, xfs or ext4 with the kernel.

    `within` is as in `tmpfs`.

    vfat is not mounted with fusefat, which loses names in a folder with more than a few files.
    """
    mount = _MOUNT.get(kind)
    _need(_MAKE[kind][0], mount[0] if mount else "mount")
    with _room(within) as room:
        image, at = room / "image", _made(None, room, kind)
        with image.open("wb") as stream:
            stream.truncate(max(mb, _LEAST_MB.get(kind, 0)) * 1024 * 1024)
        made = subprocess.run([*_MAKE[kind], str(image)], check=False, capture_output=True, text=True)
        if made.returncode:
            _skip(f"{_MAKE[kind][0]}: {(made.stderr or made.stdout).strip()}")
        with _as_device(image) if kind == "exfat" else nullcontext(image) as device:
            if mount is None:
                command = ["mount", "-t", kind, "-o", ",".join(filter(None, ("loop", options))), str(image), str(at)]
            else:
                command = [*mount, *(["-o", options] if options else []), str(device), str(at)]
            with mounted(command, at):
                yield at


@contextmanager
def _as_device(image: Path) -> Iterator[Path]:
    """Make a loop device for an image, for FUSE servers that need a device."""
    made = subprocess.run(["losetup", "-f", "--show", str(image)], check=False, capture_output=True, text=True)
    if made.returncode:
        _skip(f"losetup: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)

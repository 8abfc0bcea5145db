"""What files hold: copied and verified, compared, hashed."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from blake3 import blake3

from ..errors import TransferError
from .access import copy_access, open_private
from .filesystem import sync_tree
from .links import OtherModeError

__all__ = [
    "HASH_CHUNK",
    "can_clone",
    "copy_tree_verified",
    "copy_verified",
    "digest_of",
    "same_content",
    "write_verified",
    "wrong_checksums",
]

COPY_CHUNK = 16 * 1024 * 1024
"""Bytes that are copied at once: who looks at the progress, or cancels, waits for them."""
_FLUSHED_EVERY = 8  # chunks
_MOST_BEHIND = 32  # chunks that are copied and not verified yet: what is in memory is not read from the disk
HASH_CHUNK = 1024 * 1024
"""Bytes read at once to be hashed; larger buffers were slower."""
_COMPARED_AT_ONCE = 120 * 1024  # bytes; for more, malloc maps new pages each time, which takes as long as to compare

_FICLONE = 0x40049409  # ioctl of linux/fs.h; btrfs, xfs, bcachefs, overlay on these
_CANNOT_CLONE = {
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EINVAL,
    errno.EXDEV,
    errno.EPERM,
    errno.EISDIR,
    errno.ETXTBSY,
    errno.ENOSYS,
}
_CANNOT_COPY_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}
_flush = getattr(os, "fdatasync", os.fsync)  # what the file system knows of the file is flushed at the end


class _Hash(Protocol):
    """What blake3 and hashlib have in common."""

    def update(self, data: bytes | memoryview, /) -> object: ...


def copy_verified(
    source: Path,
    target: Path,
    *,
    on_bytes: Callable[[int], object] = lambda count: None,
    sync: bool = True,
    with_digest: bool = False,
    clone_only: bool = False,
) -> str | None:
    """Copy a file, and know that the copy is one; gives its SHA-256 in hexadecimal digits if that is wanted.

    A clone that shares the blocks of the source is made where the file system can. Else the bytes are copied, and
    flushed, while a second thread reads source and target behind that, and compares them.

    Parameters
    ----------
    source : pathlib.Path
        A regular file; symbolic links are followed.
    target : pathlib.Path
        Must not exist. Gets the times of the source, and is for the same people to read and write
        (`access.copy_access`); until it is whole, for its owner alone.
    on_bytes : callable
        Called with the number of bytes copied since the last call.
    sync : bool
        Whether to flush the copy to the disk.
    with_digest : bool
        Whether the SHA-256 of the content is wanted.
    clone_only : bool
        Whether to fail where no clone can be made.

    Raises
    ------
    FileExistsError
        If `target` exists; it is left as it is.
    OtherModeError
        If a clone is wanted and cannot be made. `target` is empty then, for the caller to remove.
    TransferError
        If the source changed while it was copied, or the bytes read back differ. What was written stays at `target`,
        for the caller to remove.
    """
    with (
        open(source, "rb", buffering=0) as reader,
        # for others to read when they may, not before
        open(open_private(target, os.O_RDWR | os.O_CREAT | os.O_EXCL), "r+b", buffering=0) as writer,
    ):
        before = os.fstat(reader.fileno())
        digest = sha256() if with_digest else None
        if _clone(reader, writer):
            if digest is not None:
                _hash(reader, digest)
            on_bytes(before.st_size)
        elif clone_only:
            raise OtherModeError(f"the file system makes no reflink of {source}")
        elif before.st_size <= HASH_CHUNK:
            _copy_small(reader, writer, before, source, target, digest)
            on_bytes(before.st_size)
        else:
            _copy_and_compare(reader, writer, before, sync, source, target, on_bytes, digest)
        _refuse_change(reader, before, source)
        size = os.fstat(writer.fileno()).st_size
        if size != before.st_size:
            raise TransferError(f"{source} has {before.st_size} bytes, of which {size} reached {target}")
        copy_access(reader.fileno(), writer.fileno())
        if sync:
            os.fsync(writer.fileno())
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    return None if digest is None else digest.hexdigest()


def write_verified(source: Path, target: Path, edit: Callable[[bytes], bytes | None]) -> tuple[bytes, bytes] | None:
    """Write what a small file becomes by an edit in memory, and know that this is what was written.

    Parameters
    ----------
    source : pathlib.Path
        A regular file, which is read at once; symbolic links are followed.
    target : pathlib.Path
        Must not exist. Gets times and access as by `copy_verified`, and is not flushed.
    edit : callable
        Gets the bytes of the source, and gives those of the target; None for nothing to be written.

    Returns
    -------
    (bytes, bytes) or None
        The BLAKE3 digests of source and target; None if nothing was written, and the target does not exist.

    Raises
    ------
    FileExistsError, TransferError
        As `copy_verified`.
    """
    with open(source, "rb", buffering=0) as reader:
        before = os.fstat(reader.fileno())
        old = reader.readall()
        new = edit(old)
        if new is None:
            return None
        with open(target, "x+b", buffering=0, opener=open_private) as writer:
            left = memoryview(new)
            while left:
                left = left[writer.write(left) :]
            writer.seek(0)
            reader.seek(0)
            is_same = reader.readall() == old and writer.readall() == new
            _refuse_change(reader, before, source)  # rather than blame the disk
            if not is_same:
                raise TransferError(_differs(source, target))
            copy_access(reader.fileno(), writer.fileno())
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    return blake3(old).digest(), blake3(new).digest()


def digest_of(path: Path, *, on_bytes: Callable[[int], object] = lambda count: None) -> str:
    """The SHA-256 of a file in hexadecimal digits; symbolic links are followed.

    `on_bytes` is called with the number of bytes read since the last call.
    """
    digest = sha256()
    with open(path, "rb", buffering=0) as stream:
        _hash(stream, digest, on_bytes)
    return digest.hexdigest()


def _clone(reader: BinaryIO, writer: BinaryIO) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl  # not on Windows

    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError as error:
        if error.errno in _CANNOT_CLONE:
            return False
        raise
    return True


def _differs(source: Path, target: Path) -> str:
    return f"the copy of {source} at {target} reads back with other bytes than the source"


def _refuse_change(reader: BinaryIO, before: os.stat_result, source: Path) -> None:
    after = os.fstat(reader.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise TransferError(f"{source} changed while it was copied", hint="try again when no program writes to it")


def _copy_small(
    reader: BinaryIO, writer: BinaryIO, before: os.stat_result, source: Path, target: Path, digest: _Hash | None
) -> None:
    """Copy a small file, then read both sides again: a thread, and opening them again, would take longer."""
    copied = sum(_copied(reader, writer, before.st_size, HASH_CHUNK))
    reader.seek(0)
    writer.seek(0)
    # one byte more shows that it has grown
    if not _is_same(reader, writer, copied, digest) or reader.read(1):
        _refuse_change(reader, before, source)  # rather than blame the disk
        raise TransferError(_differs(source, target))


def _copy_and_compare(
    reader: BinaryIO,
    writer: BinaryIO,
    before: os.stat_result,
    sync: bool,
    source: Path,
    target: Path,
    on_bytes: Callable[[int], object],
    digest: _Hash | None,
) -> None:
    """Copy a large file; another thread reads what was copied on both sides meanwhile, and flushes it."""
    copied, behind = 0, deque[Future[None]]()

    def verify(count: int, flushes: bool) -> None:
        if not _is_same(source_again, target_again, count, digest):
            _refuse_change(reader, before, source)  # rather than blame the disk
            raise TransferError(_differs(source, target))
        if flushes:  # else the disk would be idle until all is copied
            _flush(writer.fileno())

    with (
        open(source, "rb", buffering=0) as source_again,
        open(target, "rb", buffering=0) as target_again,
        ThreadPoolExecutor(1, thread_name_prefix="verify") as verifier,
    ):
        try:
            # one that grows as fast as it is copied would have no end
            for count in _copied(reader, writer, before.st_size + 1, COPY_CHUNK):
                behind.append(verifier.submit(verify, count, sync and copied // COPY_CHUNK % _FLUSHED_EVERY == 0))
                copied += count
                if len(behind) > _MOST_BEHIND:
                    behind.popleft().result()
                on_bytes(count)
            while behind:
                on_bytes(0)  # raises when it is cancelled
                behind.popleft().result()
        finally:
            verifier.shutdown(wait=False, cancel_futures=True)


def _copied(reader: BinaryIO, writer: BinaryIO, size: int, piece: int) -> Iterator[int]:
    """Copy the next bytes, so many at most, in pieces, in the kernel where it can; yields the size of each."""
    copy, done = _copy_range if hasattr(os, "copy_file_range") else _copy_buffer, 0
    while done < size:
        try:
            count = copy(reader, writer, min(piece, size - done))
        except OSError as error:
            if copy is _copy_buffer or error.errno not in _CANNOT_COPY_RANGE:
                raise
            copy = _copy_buffer
            continue
        if count == 0:
            break
        done += count
        yield count


def _copy_range(reader: BinaryIO, writer: BinaryIO, size: int) -> int:
    return os.copy_file_range(reader.fileno(), writer.fileno(), size)


def _copy_buffer(reader: BinaryIO, writer: BinaryIO, size: int) -> int:
    done = 0
    while done < size:
        block = reader.read(min(HASH_CHUNK, size - done))
        if not block:
            break
        view = memoryview(block)
        while view:  # an unbuffered write may take less than it is given
            view = view[writer.write(view) :]
        done += len(block)
    return done


def _is_same(source: BinaryIO, target: BinaryIO, count: int, digest: _Hash | None = None) -> bool:
    """Whether the next bytes of both, so many of them, are the same; the digest gets those of the source."""
    ours, theirs = (bytearray(min(count, _COMPARED_AT_ONCE)) for _ in range(2))
    while count:
        view = memoryview(ours)[:count]
        if _fill(source, view) < len(view):
            return False  # it has become shorter
        if digest is not None:
            digest.update(view)
        again = memoryview(theirs)[:count]
        if _fill(target, again) < len(again) or not ours.startswith(again):  # views themselves compare slowly
            return False
        count -= len(view)
    return True


def _fill(stream: BinaryIO, view: memoryview) -> int:
    """Read until a buffer is full or the file ends; gives the number of bytes."""
    filled = 0
    while filled < len(view):
        count = cast("FileIO", stream).readinto(view[filled:])
        if not count:
            break
        filled += count
    return filled


def _hash(stream: BinaryIO, digest: _Hash, on_bytes: Callable[[int], object] = lambda count: None) -> None:
    while block := stream.read(HASH_CHUNK):
        digest.update(block)
        on_bytes(len(block))


def can_clone(source: Path, folder: Path) -> bool:
    """Whether a copy of `source` in `folder` would share its blocks, and so need no room.

    Tried with a file without a name, or one that is gone at once: nothing stays on disk.
    """
    import tempfile

    try:
        with open(source, "rb", buffering=0) as reader, tempfile.TemporaryFile(dir=folder, buffering=0) as writer:
            return _clone(reader, cast("BinaryIO", writer))  # on Windows a wrapper of one
    except OSError:
        return False


def same_content(first: Path, second: Path) -> bool:
    """Whether two files hold the same bytes; symbolic links are followed. OSError if one cannot be read."""
    with open(first, "rb", buffering=0) as one, open(second, "rb", buffering=0) as other:
        one_stat, other_stat = os.fstat(one.fileno()), os.fstat(other.fileno())
        if os.path.samestat(one_stat, other_stat):
            return True
        if one_stat.st_size != other_stat.st_size:
            return False
        return _is_same(one, other, one_stat.st_size) and not one.read(1) and not other.read(1)


def wrong_checksums(path: Path, checksums: Iterable[tuple[str, str]]) -> list[str]:
    """For each checksum that a regular file has not, a line with its name, and the expected and found value.

    Given are names, as in hashlib, or ``blake3`` or ``crc32``, and the values expected, in hexadecimal digits.
    """
    expected = list(checksums)
    hashes = [blake3() if name == "blake3" else _new_hash(name) for name, _ in expected]
    with open(path, "rb", buffering=0) as stream:
        while block := stream.read(HASH_CHUNK):
            for digest in hashes:
                digest.update(block)
    return [
        f"{name} is {digest.hexdigest()}, expected {value}"
        for digest, (name, value) in zip(hashes, expected, strict=True)
        if digest.hexdigest() != value
    ]


class _Crc32:
    """A CRC-32 with the methods of hashlib's hashes."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, block: bytes) -> None:
        self._value = zlib.crc32(block, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _new_hash(name: str) -> Any:
    return _Crc32() if name == "crc32" else hashlib.new(name, usedforsecurity=False)


def copy_tree_verified(
    source: Path, target: Path, *, on_bytes: Callable[[int], object] = lambda count: None, sync: bool = True
) -> None:
    """Copy a folder and all files in it, each as `copy_verified` does, which raises the same.

    Symbolic links to files in it are followed, those to folders are not. The target must not exist. Its times are those
    of the source, and so is who may read it; the owner may write to the folders in any case. After an error what was
    written stays, for the caller to remove.
    """
    folders = []
    for place, _, names in os.walk(source):
        folder = target / Path(place).relative_to(source)
        folder.mkdir(0o700)
        folders.append((Path(place), folder))
        for name in names:
            copy_verified(Path(place, name), folder / name, on_bytes=on_bytes, sync=False)
    for original, folder in reversed(folders):
        times = os.stat(original)
        copy_access(original, folder)
        os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
    if sync:
        sync_tree(target)

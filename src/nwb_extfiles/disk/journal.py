"""Changes inside an existing HDF5 file that a crash cannot leave half done.

HDF5 edits a file through an overlay that keeps what is written in memory, so that the exact set of changed pages is
known before the file is touched. What these pages held before is written to a journal beside the file and flushed;
then the pages are written. Until the caller removes the journal, `rollback` undoes the edit. The cost is that of the
pages, whatever the size of the file. Documents that are folders have their own kind of journal, `folder_journal`;
`rollback` knows both.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

import h5py

from ..errors import TransferError, warn
from . import filesystem, folder_journal, locks

__all__ = ["Edited", "OverlayFile", "edit_journalled", "how_far", "rollback"]

_PAGE = 4096
_SECTOR = 512  # what a disk writes whole or not at all
# magic, size of the file before and after, then (offset, length of what was there, length of what comes there, both
# contents) for each page, then the SHA-256 of all before
_MAGIC = b"nwb-extfiles journal 2\n"
_SIZES = struct.Struct("<QQ")
_RUN = struct.Struct("<QQQ")


class Edited(Enum):
    """How far an edit has got in a document."""

    NOT = "not"
    """It holds what it held before."""
    PARTLY = "partly"
    WHOLLY = "wholly"


class OverlayFile(io.RawIOBase):
    """A file, known by its descriptor, that is read from disk and written to memory."""

    def __init__(self, handle: int) -> None:
        super().__init__()
        self._handle = handle
        self._size = self._size_on_disk = os.fstat(handle).st_size
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def readable(self) -> bool:
        """Always, as it is writable and seekable."""
        return True

    writable = seekable = readable

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the size."""
        self._size = self._position if size is None else size
        return self._size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: any writable buffer
        """Read from the pages that were written, else from the file."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        done = 0
        while done < count:
            number, start = divmod(self._position + done, _PAGE)
            length = min(_PAGE - start, count - done)
            page = self._pages.get(number)
            if page is None:
                # a run of untouched pages at once
                while done + length < count and (self._position + done + length) // _PAGE not in self._pages:
                    length = min(length + _PAGE, count - done)
                view[done : done + length] = _read_at(self._handle, self._position + done, length)
            else:
                view[done : done + length] = page[start : start + length]
            done += length
        self._position += count
        return count

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]  # typeshed: any buffer
        """Write to memory."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            number, start = divmod(self._position + done, _PAGE)
            length = min(_PAGE - start, len(view) - done)
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = bytearray(_read_at(self._handle, number * _PAGE, _PAGE))
            page[start : start + length] = view[done : done + length]
            done += length
        self._position += done
        self._size = max(self._size, self._position)
        return done

    def changes(self) -> Iterator[tuple[int, bytes]]:
        """Offset and new content of each page that differs from the file, in order."""
        for number in sorted(self._pages):
            offset = number * _PAGE
            new = bytes(self._pages[number][: max(0, min(_PAGE, self._size - offset))])
            if new != _read_at(self._handle, offset, len(new)) or offset + len(new) > self._size_on_disk:
                yield offset, new

    @property
    def size(self) -> int:
        """The size that the file shall have, in bytes."""
        return self._size


def _read_at(handle: int, offset: int, length: int) -> bytes:
    """Bytes of a file, with zeros where it has ended."""
    os.lseek(handle, offset, os.SEEK_SET)
    blocks, left = [], length
    while left:
        block = os.read(handle, left)
        if not block:
            break
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks) + bytes(left)


def edit_journalled(path: Path, journal: Path, edit: Callable[[h5py.File], object], *, sync: bool = True) -> None:
    """Edit an HDF5 file so that a crash leaves it as it was or as it shall be.

    Parameters
    ----------
    path : pathlib.Path
        The file; nobody else may have it open.
    journal : pathlib.Path
        Where to write the journal; its folder exists. It stays for the caller to remove when the edit is to last.
    edit : callable
        Changes the open file. Only the pages that it changes are written.
    sync : bool
        Whether each step is flushed to the disk before the next begins.

    Raises
    ------
    DestinationBusyError
        If another program has the file open for writing; nothing is changed.
    Exception
        As `edit` raises; nothing is changed. After an OSError while pages are written `rollback` is to be called.
    """
    with locks.held_alone(path) as handle:
        overlay = OverlayFile(handle)
        with h5py.File(overlay, "r+") as file:
            edit(file)
        changes = list(overlay.changes())
        # Never shorter: what lies behind the end that HDF5 knows is nobody's here, and readers do not mind it. Cut off,
        # it would have to be in the journal, be it gigabytes.
        size = max(overlay.size, os.fstat(handle).st_size)
        _write_journal(journal, handle, changes, size, sync)
        for offset, new in changes:
            _write_at(handle, offset, new)
        os.ftruncate(handle, size)
        if sync:
            os.fsync(handle)


def _write_journal(journal: Path, handle: int, changes: list[tuple[int, bytes]], new_size: int, sync: bool) -> None:
    size = os.fstat(handle).st_size
    content = bytearray(_MAGIC + _SIZES.pack(size, new_size))
    for offset, new in changes:
        old = _read_at(handle, offset, max(0, min(len(new), size - offset)))
        content += _RUN.pack(offset, len(old), len(new)) + old + new
    folder_journal.write_journal(journal, content, sync)


def rollback(path: Path, journal: Path, *, keep_journal: bool = False) -> bool:
    """Undo an edit that was broken off, of a file or a folder; tells whether anything was put back.

    An incomplete journal means that the document was not touched yet. If it holds neither what it held before the edit
    nor what it was to hold, some program has written it anew since: a warning says that it stays as it is. The journal,
    if there is any, is removed when it is done with, unless the document is a copy of the one that it is of
    (`keep_journal`).

    Raises
    ------
    TransferError
        If the journal is one of something else; it stays, and nothing is changed.
    OSError
        If the file cannot be written to; the journal stays.
    """
    if not journal.is_file() or journal.is_symlink():
        return False
    put_back = False
    content = journal.read_bytes() if path.exists() else b""
    is_of_folder, is_of_file = (folder_journal.is_whole(content, magic) for magic in (folder_journal.MAGIC, _MAGIC))
    if (is_of_folder and not filesystem.is_folder(path)) or (is_of_file and not path.is_file()):
        raise TransferError(f"{journal} is not a journal of {path}", hint="look where it comes from, and remove it")
    if is_of_folder:
        put_back = folder_journal.put_back(path, journal, content)
    elif is_of_file:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            put_back = _put_back(handle, content)
        finally:
            os.close(handle)
    if (is_of_folder or is_of_file) and not put_back:
        warn(
            f"{path} was left inconsistent by an interrupted run, and was written anew since by some other program; "
            f"it stays as that program left it"
        )
    if keep_journal:
        return put_back
    journal.unlink()
    filesystem.sync_folder(journal.parent)
    return put_back


def how_far(path: Path, journal: Path) -> Edited | None:
    """How far the edit of a journal has got in a document, which need not have the name that it had then.

    None if there is no whole journal, or if it is one of another document.
    """
    if not journal.is_file() or journal.is_symlink():
        return None
    content = journal.read_bytes()
    if folder_journal.is_whole(content, folder_journal.MAGIC):
        states = folder_journal.states(path, content) if filesystem.is_folder(path) else None
    elif folder_journal.is_whole(content, _MAGIC) and path.is_file():
        with path.open("rb", buffering=0) as file:
            states = _states(file.fileno(), content)
    else:
        return None
    if states is None:
        return None
    if all(is_old for is_old, _ in states):
        return Edited.NOT
    return Edited.WHOLLY if all(is_new for _, is_new in states) else Edited.PARTLY


def _states(handle: int, content: bytes) -> list[tuple[bool, bool]] | None:
    """Whether each page is as it was, and as it was to be; None if some page is of another file."""
    sizes, runs = _read_journal(content)
    if not min(sizes) <= os.fstat(handle).st_size <= max(sizes):
        return None
    states = []
    for offset, old, new in runs:
        here, padded = _read_at(handle, offset, len(new)), old.ljust(len(new), b"\0")
        if not _is_between(here, padded, new):
            return None
        states.append((here == padded, here == new))
    return states


def _read_journal(content: bytes) -> tuple[tuple[int, int], list[tuple[int, bytes, bytes]]]:
    """The sizes before and after, and offset, old and new content of each page."""
    position, end = len(_MAGIC), len(content) - hashlib.sha256().digest_size
    before, after = _SIZES.unpack_from(content, position)
    position += _SIZES.size
    runs = []
    while position < end:
        offset, length, new_length = _RUN.unpack_from(content, position)
        middle = position + _RUN.size + length
        runs.append((offset, content[position + _RUN.size : middle], content[middle : middle + new_length]))
        position = middle + new_length
    return (before, after), runs


def _put_back(handle: int, content: bytes) -> bool:
    """Put back what the pages of a file held, if it is the file that the journal is of; whether it is."""
    if _states(handle, content) is None:
        return False
    (size, _), runs = _read_journal(content)
    for offset, old, _ in runs:
        _write_at(handle, offset, old)
    os.ftruncate(handle, size)
    os.fsync(handle)
    return True


def _is_between(here: bytes, old: bytes, new: bytes) -> bool:
    """Whether a page holds one content, the other, or what a write of one over the other has left that broke off."""
    for begin in range(0, len(new), _SECTOR):
        now, one, other = (page[begin : begin + _SECTOR] for page in (here, old, new))
        if now not in (one, other) and not (_is_torn(now, one, other) or _is_torn(now, other, one)):
            return False
    return True


def _is_torn(now: bytes, begin: bytes, end: bytes) -> bool:
    """Whether some bytes are the beginning of one content and the end of another."""
    same = next((place for place, (one, other) in enumerate(zip(now, begin, strict=True)) if one != other), len(now))
    return now[same:] == end[same:]


def _write_at(handle: int, offset: int, content: bytes) -> None:
    os.lseek(handle, offset, os.SEEK_SET)
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]

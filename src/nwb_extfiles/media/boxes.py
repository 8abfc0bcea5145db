"""The boxes of an MP4 or MOV file, the chunks of an AVI, and whether the file ends before they do.

MP4 and MOV: ISO/IEC 14496-12. AVI: Microsoft's "AVI RIFF File Reference". Matroska and WebM: RFC 8794 and RFC 9559.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["Box", "boxes", "chunks", "find", "is_avi", "is_cut_off", "is_mp4"]

_MOST_BOXES = 10_000
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MP4_TOP = {*_MP4_FIRST, b"moof", b"mfra", b"sidx", b"styp", b"udta", b"uuid", b"meta", b"pdin"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HAS_INDEX = 0x10  # AVIF_HASINDEX of the main header


class Box(NamedTuple):
    """A box or chunk: its name, and where its content begins and ends; what runs past the file ends behind it."""

    name: bytes
    start: int
    stop: int


NO_BOX = Box(b"", 0, 0)


def is_mp4(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an MP4 or MOV."""
    return head[4:8] in _MP4_FIRST


def is_avi(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an AVI."""
    return head[:4] == b"RIFF" and head[8:12] == b"AVI "


def boxes(stream: BinaryIO, start: int, stop: int) -> Iterator[Box]:
    """The boxes of MP4 between two places, at most 10,000."""
    for _ in range(_MOST_BOXES):
        if start + 8 > stop:
            return
        stream.seek(start)
        size, name = struct.unpack(">I4s", stream.read(8))
        content = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            content += 8
        size = size or stop - start  # 0: to the end of the file
        if size < content - start:
            return
        yield Box(name, content, start + size)
        start += size


def chunks(stream: BinaryIO, start: int, stop: int) -> Iterator[Box]:
    """The chunks of AVI between two places, at most 10,000."""
    for _ in range(_MOST_BOXES):
        if start + 8 > stop:
            return
        stream.seek(start)
        name, size = struct.unpack("<4sI", stream.read(8))
        yield Box(name, start + 8, start + 8 + size)
        start += 8 + size + size % 2


def find(found: Iterator[Box], name: bytes) -> Box:
    """The first box of a name, else one without content."""
    return next((box for box in found if box.name == name), NO_BOX)


def is_cut_off(path: Path) -> bool:
    """Whether a container says that it is longer than its file, or that it has an index that is not there.

    So it is where a copy broke off, and while a video is still being written. False does not promise that the file is
    whole: only MP4, MOV, AVI, Matroska and WebM say how long they are.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(64)
        end = stream.seek(0, os.SEEK_END)
        try:
            if is_mp4(head):
                return _is_cut_off_mp4(stream, end)
            if is_avi(head):
                return _is_cut_off_avi(stream, end)
            return head[:4] == _EBML and _is_cut_off_matroska(head, end)
        except (struct.error, IndexError):
            return True  # the file ends within a header


def _is_cut_off_mp4(stream: BinaryIO, end: int) -> bool:
    top = [box for box in boxes(stream, 0, end) if box.name in _MP4_TOP]  # behind them, there may be anything
    return not any(box.name == b"moov" for box in top) or any(box.stop > end for box in top)


def _is_cut_off_avi(stream: BinaryIO, end: int) -> bool:
    riffs = [riff for riff in chunks(stream, 0, end) if riff.name == b"RIFF"]
    if any(riff.stop > end + 1 for riff in riffs):  # some writers forget the last padding byte
        return True
    stream.seek(0)
    header = stream.read(4096)
    (flags,) = struct.unpack_from("<I", header, header.find(b"avih") + 8 + 12)
    indexed = b"indx" in header or find(chunks(stream, 12, end), b"idx1") != NO_BOX
    return bool(flags & _HAS_INDEX) and not indexed


def _is_cut_off_matroska(head: bytes, end: int) -> bool:
    size, start = _vint(head, 4)
    place = start + size
    if head[place : place + 4] != _SEGMENT:
        return False
    size, start = _vint(head, place + 4)
    unknown = size == 2 ** (7 * (start - place - 4)) - 1
    return not unknown and start + size > end


def _vint(content: bytes, place: int) -> tuple[int, int]:
    """A size of EBML, and where it ends."""
    length = 9 - content[place].bit_length()
    value = int.from_bytes(content[place : place + length], "big")
    return value & (1 << 7 * length) - 1, place + length

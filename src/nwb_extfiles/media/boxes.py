"""The boxes of an MP4 or MOV file, the chunks of an AVI, and whether the file ends before they do.

MP4 and MOV: ISO/IEC 14496-12. AVI: Microsoft's "AVI RIFF File Reference". Matroska and WebM: RFC 8794 and RFC 9559.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

__all__ = [
    "NO_BOX",
    "Box",
    "boxes",
    "chunks",
    "find",
    "has_more_samples_than_bytes",
    "has_segment_index",
    "is_avi",
    "is_cut_off",
    "is_mp4",
    "lists",
    "read",
    "riffs",
]

_MOST_BOXES = 10_000
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MP4_TOP = {*_MP4_FIRST, b"moof", b"mfra", b"sidx", b"styp", b"udta", b"uuid", b"meta", b"pdin"}
_AVI_PARTS = (b"LIST", b"idx1")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MOST_OF_HEADER = 16 * 1024 * 1024  # bytes
_EBML_HEADER = 4096  # bytes in which the header of Matroska ends, and the size of its Segment
_UNKNOWN_SIZE = 0xFFFFFFFF  # of a chunk of an AVI that was written to a pipe
_WRONG_SIZE = 8  # bytes that some writers count too many, as the header of RIFF does not count
_HAS_INDEX = 0x10  # AVIF_HASINDEX of the main header


class Box(NamedTuple):
    """A box or chunk: its name, and where its content begins and ends; what runs past the file ends behind it."""

    name: bytes
    start: int
    stop: int


NO_BOX = Box(b"", 0, 0)
"""What is not there."""


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


def lists(stream: BinaryIO, start: int, stop: int, kind: bytes) -> Iterator[Box]:
    """The lists of one kind among the chunks of AVI between two places."""
    for chunk in chunks(stream, start, stop):
        if chunk.name == b"LIST" and stream.read(4) == kind:
            yield Box(kind, chunk.start + 4, chunk.stop)


def find(found: Iterator[Box], *names: bytes) -> Box:
    """The first box of one of these names, else one without content."""
    return next((box for box in found if box.name in names), NO_BOX)


def read(stream: BinaryIO, box: Box, *, most: int) -> bytes:
    """The content of a box.

    Raises
    ------
    ValueError
        If it has more than `most` bytes, or runs past the end of the file.
    """
    size = box.stop - box.start
    stream.seek(box.start)
    content = stream.read(min(size, most + 1))
    if len(content) != size:
        raise ValueError(f"{box.name!r} of {size} bytes is too long, or cut off")
    return content


def is_cut_off(stream: BinaryIO) -> bool:
    """Whether a container says that it is longer than its file, or that it has an index that is not there.

    So it is where a copy broke off, and while a video is still being written. False does not promise that the file is
    whole: only MP4, MOV, AVI, Matroska and WebM say how long they are.
    """
    stream.seek(0)
    head = stream.read(64)
    end = stream.seek(0, os.SEEK_END)
    try:
        if is_mp4(head):
            return _is_cut_off_mp4(stream, end)
        if is_avi(head):
            return _is_cut_off_avi(stream, end)
        return head[:4] == _EBML and _is_cut_off_matroska(stream, end)
    except (struct.error, IndexError, ValueError):
        return True  # the file ends within a header


def _is_cut_off_mp4(stream: BinaryIO, end: int) -> bool:
    top = [box for box in boxes(stream, 0, end) if box.name in _MP4_TOP]  # behind them, there may be anything
    if not {b"moov", b"mdat"} <= {box.name for box in top} or any(box.stop > end for box in top):
        return True
    return has_more_samples_than_bytes(stream)


def has_more_samples_than_bytes(stream: BinaryIO) -> bool:
    """Whether a track of an MP4 or MOV, or all its fragments, claim more samples than the file has bytes.

    FFmpeg makes a table of them when it opens the file, whatever there is. Old sound without such a table, where each
    value of each channel may count as a sample, does not count.
    """
    end = stream.seek(0, os.SEEK_END)
    try:
        return any(count > end for count in _sample_counts(stream, end))
    except (struct.error, ValueError):
        return False


def _sample_counts(stream: BinaryIO, end: int) -> Iterator[int]:
    """Of each track, and the sum of those in fragments."""
    in_fragments = 0
    for box in boxes(stream, 0, end):
        if box.name not in (b"moov", b"moof"):
            continue
        for part in boxes(stream, box.start, min(box.stop, end)):
            if part.name == b"trak":
                yield _samples(stream, part)
            elif part.name == b"traf":
                runs = (run for run in boxes(stream, *part[1:]) if run.name == b"trun")
                in_fragments += sum(sum(_begin(stream, run, ">4xI")) for run in runs)
    yield in_fragments


def _samples(stream: BinaryIO, track: Box) -> int:
    mdia = find(boxes(stream, *track[1:]), b"mdia")
    table = find(boxes(stream, *find(boxes(stream, *mdia[1:]), b"minf")[1:]), b"stbl")
    handler = _begin(stream, find(boxes(stream, *mdia[1:]), b"hdlr"), ">8x4s")
    times = _begin(stream, find(boxes(stream, *table[1:]), b"stts"), ">4xI4xI")
    if handler == (b"soun",) and times == (1, 1):
        return 0
    (count,) = _begin(stream, find(boxes(stream, *table[1:]), b"stsz", b"stz2"), ">8xI") or (0,)
    return int(count)


def _begin(stream: BinaryIO, box: Box, form: str) -> tuple[Any, ...]:
    """The first values in a box, none if it is shorter."""
    stream.seek(box.start)
    size = struct.calcsize(form)
    return struct.unpack(form, stream.read(size)) if box.stop - box.start >= size else ()


def has_segment_index(stream: BinaryIO) -> bool:
    """Whether an MP4 has an index of its fragments (``sidx``): FFmpeg lists the frames of the first of them only."""
    return find(boxes(stream, 0, stream.seek(0, os.SEEK_END)), b"sidx") != NO_BOX


def _is_cut_off_avi(stream: BinaryIO, end: int) -> bool:
    for riff in riffs(stream, end):
        inside = [chunk for chunk in chunks(stream, riff.start + 4, min(riff.stop, end)) if chunk.name in _AVI_PARTS]
        if _is_beyond(riff, end + _WRONG_SIZE) or any(_is_beyond(chunk, end) for chunk in inside):
            return True
    (header, *_) = *lists(stream, 12, end, b"hdrl"), NO_BOX
    stream.seek(header.start + 8)  # the first chunk is the main header
    (flags,) = struct.unpack("<12xI", stream.read(16))
    indexed = find(chunks(stream, 12, end), b"idx1") != NO_BOX or b"indx" in read(stream, header, most=_MOST_OF_HEADER)
    return bool(flags & _HAS_INDEX) and not indexed


def _is_beyond(chunk: Box, end: int) -> bool:
    return chunk.stop > end and chunk.stop - chunk.start != _UNKNOWN_SIZE


def riffs(stream: BinaryIO, end: int) -> list[Box]:
    """The parts of an AVI; more than one if it is longer than 1 GB."""
    return [chunk for chunk in chunks(stream, 0, end) if chunk.name == b"RIFF"]


def _is_cut_off_matroska(stream: BinaryIO, end: int) -> bool:
    stream.seek(0)
    head = stream.read(_EBML_HEADER)
    size, start = _vint(head, 4)
    place = start + size
    if place + 12 > len(head):  # the longest name and size
        return end < _EBML_HEADER
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

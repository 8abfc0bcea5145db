"""Size, frame count and frame rate of a video or image, from the headers and the index of its container.

Nothing is decoded, so no codec is needed. What is not certain counts as unknown: nothing in a file makes this fail, or
read far. Of a video that is cut off only the size is known.

AVI: Microsoft's "AVI RIFF File Reference"; above 1 GB, "OpenDML AVI File Format Extensions". MP4 and MOV: ISO/IEC
14496-12. PNG: ISO/IEC 15948. GIF: GIF89a. JPEG: ITU-T T.81.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .boxes import NO_BOX, Box, boxes, chunks, find, is_avi, is_cut_off, is_mp4, lists, read, riffs

__all__ = ["MediaFacts", "probe"]

_MOST_BOXES = 10_000
_MOST_BYTES = 32 * 1024 * 1024  # of one table; 16 are enough for a million frames


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What the headers of a video or image say."""

    width: int = 0
    """Of the stored frames in pixels; 0 if not known."""
    height: int = 0
    """Of the stored frames in pixels; 0 if not known."""
    frame_count: int = 0
    """Frames stored, those that an edit list hides included; 0 if not known."""
    frame_rate: float = math.nan
    """In frames per second, the mean if they vary; NaN if not known."""


def probe(path: Path) -> MediaFacts:
    """Read the headers of a file.

    Parameters
    ----------
    path : pathlib.Path
        A video or image, or anything else.

    Returns
    -------
    MediaFacts
        With unknown values where nothing could be read.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(32)
            for begins, read in _READERS:
                if begins(head):
                    return _sane(read(stream, head))
    except (OSError, struct.error, ValueError, IndexError, OverflowError, ZeroDivisionError):
        pass
    return MediaFacts()


def _sane(facts: MediaFacts) -> MediaFacts:
    """Drop numbers that no video has, and all of them if there is no image size."""
    if not (0 < facts.width < 2**24 and 0 < facts.height < 2**24):
        return MediaFacts()
    if not 0 < facts.frame_count < 2**53:
        facts = replace(facts, frame_count=0)
    if not 0 < facts.frame_rate < 1e9:
        facts = replace(facts, frame_rate=math.nan)
    return facts


def _avi(stream: BinaryIO, head: bytes) -> MediaFacts:  # noqa: ARG001
    end = stream.seek(0, os.SEEK_END)
    (header,) = lists(stream, 12, end, b"hdrl")
    for number, track in enumerate(lists(stream, *header[1:], b"strl")):
        kind, scale, rate, length = struct.unpack("<4s16x2I4xI", _read(stream, _chunk(stream, track, b"strh"))[:36])
        if kind != b"vids":
            continue
        width, height = struct.unpack_from("<2i", _read(stream, _chunk(stream, track, b"strf")), 4)
        facts = MediaFacts(width, abs(height))  # negative: the first row is the upper one
        if is_cut_off(stream):
            return facts
        frames = _avi_frames(stream, track, b"%02d" % number, end)
        # ffmpeg writes AVI with empty chunks between the frames, and a rate that counts them
        return replace(facts, frame_count=frames, frame_rate=rate / scale if frames == length else math.nan)
    return MediaFacts()


def _avi_frames(stream: BinaryIO, track: Box, number: bytes, end: int) -> int:
    """The entries of the index that are not empty; 0 without an index of all parts of the file."""
    parts = _chunk(stream, track, b"indx")
    if parts != NO_BOX:
        return _opendml_frames(stream, _read(stream, parts))
    if len(riffs(stream, end)) > 1:
        return 0
    content = _read(stream, find(chunks(stream, 12, end), b"idx1"))
    entries = np.frombuffer(content[: len(content) // 16 * 16], [("track", "S2"), ("kind", "S2"), ("rest", "<u4", 3)])
    ours = (entries["track"] == number) & (entries["kind"] != b"pc")  # which changes the palette
    return int(np.count_nonzero(entries["rest"][ours, 2]))


def _opendml_frames(stream: BinaryIO, content: bytes) -> int:
    kind, count = struct.unpack_from("<3xBI", content)
    if kind != 0:  # an index of indexes; else the frames are listed here
        return _sizes_above_zero(content)
    places = np.frombuffer(content, [("place", "<u8"), ("size", "<u4"), ("frames", "<u4")], count, 24)
    if places["size"].sum() > _MOST_BYTES:
        raise ValueError("the indexes are too long")
    frames = 0
    for place, size in zip(places["place"].tolist(), places["size"].tolist(), strict=True):
        frames += _sizes_above_zero(_read(stream, Box(b"indx", place + 8, place + size)))
    return frames


def _sizes_above_zero(content: bytes) -> int:
    longs, count = struct.unpack_from("<H2xI", content)
    entries = np.frombuffer(content, "<u4", count * longs, 24).reshape(count, longs)
    return int(np.count_nonzero(entries[:, 1] & 0x7FFFFFFF))  # the first bit says that it is no key frame


def _chunk(stream: BinaryIO, parent: Box, name: bytes) -> Box:
    return find(chunks(stream, *parent[1:]), name)


def _mp4(stream: BinaryIO, head: bytes) -> MediaFacts:  # noqa: ARG001
    end = stream.seek(0, os.SEEK_END)
    moov = find(boxes(stream, 0, end), b"moov")
    for track in boxes(stream, *moov[1:]):
        mdia = _box(stream, track, b"mdia")
        if track.name != b"trak" or _read(stream, _box(stream, mdia, b"hdlr"))[8:12] != b"vide":
            continue
        table = _box(stream, _box(stream, mdia, b"minf"), b"stbl")
        kinds, width, height = struct.unpack_from(">4xI32x2H", _read(stream, _box(stream, table, b"stsd")))
        if kinds != 1:
            return MediaFacts()
        facts = MediaFacts(width, height)  # of the stored frames; tkhd has the size for display
        fragmented = _box(stream, moov, b"mvex") != NO_BOX  # then most frames are listed elsewhere
        if fragmented or is_cut_off(stream) or not _reaches_all(stream, table, end):
            return facts
        frames, duration = _mp4_frames(stream, table), _mp4_duration(_read(stream, _box(stream, mdia, b"mdhd")))
        return replace(facts, frame_count=frames, frame_rate=frames / duration if duration else math.nan)
    return MediaFacts()


def _mp4_frames(stream: BinaryIO, table: Box) -> int:
    sizes = _box(stream, table, b"stsz", b"stz2")
    content = _read(stream, sizes)
    size, count = struct.unpack_from(">4x2I", content)
    if sizes.name == b"stz2" or size:
        return int(count)
    return int(np.count_nonzero(np.frombuffer(content, ">u4", count, 12)))


def _mp4_duration(header: bytes) -> float:
    """In seconds, of all stored frames."""
    timescale, duration = struct.unpack_from(*((">IQ", header, 20) if header[0] == 1 else (">II", header, 12)))
    return float(duration / timescale)


def _reaches_all(stream: BinaryIO, table: Box, end: int) -> bool:
    """Whether the last group of frames is in the file."""
    places = _box(stream, table, b"stco", b"co64")
    content = _read(stream, places)
    (last,) = struct.unpack(*((">I", content[-4:]) if places.name == b"stco" else (">Q", content[-8:])))
    return int(last) < end


def _box(stream: BinaryIO, parent: Box, *names: bytes) -> Box:
    return find(boxes(stream, *parent[1:]), *names)


def _read(stream: BinaryIO, box: Box) -> bytes:
    return read(stream, box, most=_MOST_BYTES)


def _png(stream: BinaryIO, head: bytes) -> MediaFacts:  # noqa: ARG001
    width, height = struct.unpack_from(">2I", head, 16)
    return MediaFacts(width, height, 1)


def _gif(stream: BinaryIO, head: bytes) -> MediaFacts:  # noqa: ARG001
    width, height = struct.unpack_from("<2H", head, 6)
    return MediaFacts(width, height)


def _jpeg(stream: BinaryIO, head: bytes) -> MediaFacts:  # noqa: ARG001
    position = 2
    for _ in range(_MOST_BOXES):
        stream.seek(position)
        marker, kind, size = struct.unpack(">BBH", stream.read(4))
        if marker != 0xFF:
            break
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # start of frame
            _, height, width = struct.unpack(">BHH", stream.read(5))
            return MediaFacts(width, height, 1)
        position += 2 + size
    return MediaFacts()


_READERS = (
    (is_avi, _avi),
    (is_mp4, _mp4),
    (lambda head: head[:8] == b"\x89PNG\r\n\x1a\n", _png),
    (lambda head: head[:4] == b"GIF8", _gif),
    (lambda head: head[:3] == b"\xff\xd8\xff", _jpeg),
)

"""Size, frame count and frame rate of a video or image, from the headers of its container.

Nothing is decoded, so no codec is needed. What cannot be read counts as unknown: nothing in a file makes this fail, or
read far.

AVI: Microsoft's "AVI RIFF File Reference". MP4 and MOV: ISO/IEC 14496-12. PNG: ISO/IEC 15948. GIF: GIF89a. JPEG: ITU-T
T.81.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

__all__ = ["MediaFacts", "probe"]

_MOST_BOXES = 10_000
_MOST_BYTES = 4 * 1024 * 1024  # of one table


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What the headers of a video or image say."""

    width: int = 0
    """In pixels; 0 if not known."""
    height: int = 0
    """In pixels; 0 if not known."""
    frame_count: int = 0
    """0 if not known."""
    frame_rate: float = math.nan
    """In frames per second; NaN if not known."""


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
    except (OSError, struct.error, ValueError, OverflowError, ZeroDivisionError):
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
    stream.seek(0)
    header = stream.read(4096)
    start = header.index(b"avih") + 8
    microseconds, _, _, _, frames = struct.unpack_from("<5I", header, start)
    width, height = struct.unpack_from("<2I", header, start + 32)
    # the rate of the stream is a fraction, more exact than whole microseconds
    video = header.find(b"strh", start)
    scale, rate = (
        struct.unpack_from("<2I", header, video + 8 + 20) if header[video + 8 : video + 12] == b"vids" else (0, 0)
    )
    per_second = rate / scale if scale and rate else (1e6 / microseconds if microseconds else math.nan)
    return MediaFacts(width, height, frames, per_second)


def _mp4(stream: BinaryIO, head: bytes) -> MediaFacts:  # noqa: ARG001
    end = stream.seek(0, os.SEEK_END)
    moov = _box(stream, 0, end, b"moov")
    for start, stop in _boxes(stream, *moov, b"trak"):
        mdia = _box(stream, start, stop, b"mdia")
        if _read(stream, _box(stream, *mdia, b"hdlr"))[8:12] != b"vide":
            continue
        width, height = struct.unpack(">2I", _read(stream, _box(stream, start, stop, b"tkhd"))[-8:])
        mdhd = _read(stream, _box(stream, *mdia, b"mdhd"))
        timescale, duration = (
            struct.unpack_from(">IQ", mdhd, 20) if mdhd[0] == 1 else struct.unpack_from(">II", mdhd, 12)
        )
        minf = _box(stream, *mdia, b"minf")
        stts = _read(stream, _box(stream, *_box(stream, *minf, b"stbl"), b"stts"))
        entries = min(struct.unpack_from(">I", stts, 4)[0], (len(stts) - 8) // 8)
        frames = sum(struct.unpack_from(f">{2 * entries}I", stts, 8)[::2])
        return MediaFacts(width >> 16, height >> 16, frames, frames * timescale / duration if duration else math.nan)
    return MediaFacts()


def _boxes(stream: BinaryIO, start: int, stop: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Where the contents of the boxes of a kind begin and end."""
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
        if name == kind:
            yield content, min(start + size, stop)
        start += size


def _box(stream: BinaryIO, start: int, stop: int, kind: bytes) -> tuple[int, int]:
    return next(_boxes(stream, start, stop, kind), (0, 0))


def _read(stream: BinaryIO, place: tuple[int, int]) -> bytes:
    stream.seek(place[0])
    return stream.read(min(place[1] - place[0], _MOST_BYTES))


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
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", _avi),
    (lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"), _mp4),
    (lambda head: head[:8] == b"\x89PNG\r\n\x1a\n", _png),
    (lambda head: head[:4] == b"GIF8", _gif),
    (lambda head: head[:3] == b"\xff\xd8\xff", _jpeg),
)

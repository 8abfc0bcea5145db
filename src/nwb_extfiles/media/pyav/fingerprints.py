"""What remuxing must not change: the compressed frames, their order, and their times."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .opening import fraction, open_video, video_streams

__all__ = [
    "Displayed",
    "LossyError",
    "Track",
    "displayed",
    "kept_streams",
    "packets",
    "same_packets",
    "same_times",
    "tracks_of",
]

_ADTS = 0xFFF  # the first 12 bits of an AAC frame with its header, as in MPEG-TS
_HEADER, _HEADER_WITH_CHECKSUM = 7, 9  # bytes of it


class LossyError(Exception):
    """Why a new file is not the same video, or would not be."""


class Track:
    """The packets of one stream: how many, their content, when they are shown.

    Content is compared without framing, which differs between containers: of h264 and h265 the NAL units without start
    codes or lengths, of AAC the frames without ADTS headers.
    """

    def __init__(self, stream: Any) -> None:
        self.tick = float(fraction(stream.time_base) or 0)
        """Seconds by which times of the container are counted."""
        self.times = array("d")
        """Presentation times in seconds, in the order of the packets; NaN where there is none."""
        self._units = _splitter(stream)
        self._digest = sha256()

    def add(self, packet: Any) -> None:
        """Take the next packet."""
        self.times.append(float("nan") if packet.pts is None else packet.pts * self.tick)
        for unit in self._units(bytes(packet)):
            self._digest.update(len(unit).to_bytes(8, "big"))
            self._digest.update(unit)
        self._digest.update(b"packet")

    @property
    def content(self) -> tuple[int, str]:
        """The number of packets, and the SHA-256 of what is in them."""
        return len(self.times), self._digest.hexdigest()

    def has_times_of(self, other: Track, shift: float) -> bool:
        """Whether all packets have the times of another track minus a shift, as exactly as the containers count."""
        mine, theirs = np.asarray(self.times), np.asarray(other.times) - shift
        differ = np.abs(mine - theirs) > 1.001 * max(self.tick, other.tick)
        return len(mine) == len(theirs) and not differ.any()  # a NaN is no difference: the source does not say when


def same_packets(tracks: Sequence[Track], others: Sequence[Track]) -> bool:
    """Whether two files have the same packets in the same order, stream by stream."""
    return [track.content for track in tracks] == [other.content for other in others]


def same_times(tracks: Sequence[Track], others: Sequence[Track]) -> bool:
    """Whether all packets of two files are shown at the same times, counted from the first of each file."""
    shift = _first_time(others) - _first_time(tracks)
    return all(track.has_times_of(other, shift) for track, other in zip(tracks, others, strict=True))


def _first_time(tracks: Sequence[Track]) -> float:
    known = [float(np.nanmin(track.times)) for track in tracks if not np.isnan(track.times).all()]
    return min(known, default=0.0)


def _splitter(stream: Any) -> Callable[[bytes], Iterable[bytes]]:
    codec, extradata = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    if codec in ("h264", "hevc"):
        place = 4 if codec == "h264" else 21
        if extradata[:1] == b"\1" and len(extradata) > place:
            size = (extradata[place] & 3) + 1
            return lambda data: _by_length(data, size)
        return _by_start_code
    if codec == "aac" and not extradata:
        return lambda data: (_without_adts(data),)
    return lambda data: (data,)


def _by_length(data: bytes, size: int) -> Iterator[bytes]:
    """NAL units as in mp4 and Matroska (ISO/IEC 14496-15)."""
    start = 0
    while start + size <= len(data):
        end = start + size + int.from_bytes(data[start : start + size], "big")
        yield data[start + size : end].rstrip(b"\0")
        start = end


def _by_start_code(data: bytes) -> Iterator[bytes]:
    """NAL units as in a byte stream (annex B of ITU-T H.264 and H.265): zeros at the end of one belong to none."""
    return (unit for part in data.split(b"\0\0\1") if (unit := part.rstrip(b"\0")))


def _without_adts(data: bytes) -> bytes:
    """An AAC frame without its header (ISO/IEC 13818-7)."""
    if int.from_bytes(data[:2], "big") >> 4 != _ADTS:
        return data
    return data[_HEADER if data[1] & 1 else _HEADER_WITH_CHECKSUM :]


def kept_streams(container: Any) -> list[Any]:
    """The streams that are remuxed: videos, apart from cover images, and sound."""
    return [*video_streams(container), *container.streams.audio]


def packets(container: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """The packets of streams, without the empty ones at the end; refuses streams that begin in the middle.

    MPEG-TS and MPEG-PS may have such, say where recordings were joined. PyAV does not know them: they would be lost.
    """
    try:
        yield from (packet for packet in container.demux(*streams) if packet.size)
    except IndexError as error:
        raise LossyError("a stream of it begins in the middle of the file") from error


def tracks_of(path: Path, on_packet: Callable[[int], object]) -> list[Track]:
    """Read what a file has, without decoding; `on_packet` is called with the size of each packet."""
    with open_video(path) as container:
        streams = kept_streams(container)
        tracks = {stream.index: Track(stream) for stream in streams}
        for packet in packets(container, streams):
            tracks[packet.stream.index].add(packet)
            on_packet(packet.size)
    return list(tracks.values())


@dataclass(frozen=True, slots=True)
class _Number:
    """The number of a packet, as an object of its own: PyAV knows such objects by id(), and Python shares integers."""

    value: int


class Displayed:
    """What a decoder makes of a video, in the order in which its frames are shown."""

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self.places: list[int | None] = []
        """The place of each packet in that order; None if it gave no frame."""
        self.times = array("d")
        """The times of the frames in seconds; NaN where there is none."""
        self._digest = sha256()

    def add(self, frame: Any) -> None:
        """Take the next frame."""
        if isinstance(frame.opaque, _Number):
            self.places[frame.opaque.value] = len(self.times)
        self.times.append(float("nan") if frame.pts is None else frame.pts * self._tick)
        self._digest.update(f"{frame.format.name} {frame.width} {frame.height}".encode())
        widths = [-(-component.bits // 8) for component in frame.format.components]
        for plane, width in zip(frame.planes, widths, strict=False):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
            self._digest.update(rows[:, : plane.width * width].tobytes())  # without what pads the rows

    @property
    def digest(self) -> str:
        """The SHA-256 of the decoded frames."""
        return self._digest.hexdigest()


def displayed(path: Path, on_packet: Callable[[int], object]) -> Displayed:
    """Decode the video of a file; `on_packet` is called with the size of each packet."""
    from av.codec.context import Flags

    with open_video(path) as container:
        stream = kept_streams(container)[0]
        shown = Displayed(float(fraction(stream.time_base) or 0))
        stream.thread_type = "AUTO"
        stream.codec_context.flags |= Flags.copy_opaque  # a frame then says which packet it comes from
        for packet in packets(container, [stream]):
            packet.opaque = _Number(len(shown.places))
            shown.places.append(None)
            for frame in stream.decode(packet):
                shown.add(frame)
            on_packet(packet.size)
        for frame in stream.decode(None):
            shown.add(frame)
    return shown

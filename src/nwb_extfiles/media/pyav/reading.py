"""Facts of a video that the header alone does not tell for sure: how many frames it has, and whether it is whole.

``index`` reads the table of contents of a container, some megabytes; ``packets`` reads the file and decodes nothing;
``decode`` decodes every frame. What is not certain is None.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..boxes import has_segment_index
from ..probe import probe
from .opening import (
    NotAVideo,
    codec_name,
    first_video,
    fraction,
    frames,
    is_cut_off_file,
    load_av,
    open_video,
    packets,
    video_streams,
)

if TYPE_CHECKING:
    from ...options import ProgressCallback

__all__ = [
    "ELEMENTARY",
    "How",
    "NotAVideo",
    "VideoFacts",
    "first_video",
    "fraction",
    "load_av",
    "open_video",
    "read_counted",
    "read_video",
    "video_streams",
]

How = Literal["index", "packets", "decode"]

ELEMENTARY = {"h264", "h265", "m4v", "mpegvideo", "obu"}
"""What `VideoFacts.container` says of elementary streams, which have no container."""
_WITH_EDIT_LISTS = {"mp4", "mov"}
_COUNT_FROM_ZERO = {"mkv", "webm", "wmv"}
"""Containers whose duration begins at time 0, whenever the first frame is shown."""
_NAMES = {"hevc": "h265", "asf": "wmv"}
_NO_TIME = -(2**63)
_Ticks = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video holds: its first video stream; cover images that are attached do not count."""

    container: str
    """As users know it: ``mp4``, ``mov``, ``avi``, ``mkv``, ``webm``, ``mpegts``, ``mpeg``, ``flv``, ``wmv``, ``ogg``,
    …; for elementary streams ``h264``, ``h265``, ``m4v``, ``mpegvideo``."""
    codec: str
    """FFmpeg's name: ``h264``, ``hevc``, ``mpeg4``, ``mjpeg``, ``rawvideo``, ``vp9``, …"""
    pixel_format: str | None
    """FFmpeg's name, such as ``yuv420p``; None if the headers do not tell."""
    width: int
    """Of the stored frames in pixels, before rotation and pixel aspect."""
    height: int
    """Of the stored frames in pixels, before rotation and pixel aspect."""
    rotation: int
    """By how many degrees players turn the frames counterclockwise: 0, 90, 180 or 270."""
    rate: Fraction | None
    """Frames per second, as the container states it; the mean, where each frame has a time of its own. None where the
    container does not know it: elementary streams, and AVI without its index, or with empty chunks between the frames,
    which ``ffmpeg -c copy`` writes with a rate of 600."""
    frames: int | None
    """Frames stored and whole. By the index, None for containers without one that is certain: all but mp4, mov and AVI,
    an AVI that is cut off, an mp4 with an index of its fragments (DASH). By packets or decoding, always known."""
    shown: int | None
    """Frames that a player shows: fewer than `frames` if an edit list hides some. None where `frames` is."""
    video_streams: int
    """Cover images that are attached do not count."""
    has_audio: bool
    duration: float | None
    """Of the video in seconds, as the container states it; None where it does not."""
    cut_off: bool
    """Whether the container says that it goes on behind the end of the file, or has lost its index: a copy broke off,
    or the video is still being written. False does not promise that the video is whole."""
    first_time: float | None = None
    """When the first stored frame is shown, in seconds of the container. None if read by the index, or if the container
    has no times."""
    last_time: float | None = None
    """When the last stored frame is shown, in seconds of the container. None where `first_time` is."""
    drift: float | None = None
    """How far, at most, the time of a frame is from that which a constant rate from the first to the last frame would
    give it, in frames; what the rounding of times to those of the container explains is left out. More than 1 means
    gaps, or a variable rate. None where `first_time` is."""
    ends_early: float | None = None
    """By how many seconds the stated duration is longer than what is there; 0 if less than two frames. None where
    `first_time` or `duration` is, where the duration may be that of the sound, and for less than two frames."""
    damaged: int | None = None
    """Frames that the decoder could not decode, or says are not whole; it conceals some damage. None unless decoded."""

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height in pixels after rotation, as most readers give the frames."""
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)


def read_video(
    path: str | os.PathLike[str], how: How = "index", *, progress: ProgressCallback | None = None
) -> VideoFacts:
    """Read the facts of a video.

    Parameters
    ----------
    path : str or os.PathLike
        A file; symbolic links are followed.
    how : {"index", "packets", "decode"}
        ``"index"`` reads the container's index (some megabytes; more of a fragmented mp4), ``"packets"`` the whole
        file; ``"decode"`` decodes all frames, which takes minutes for a gigabyte, and finds damage.
    progress : callable, optional
        Called with the bytes done and in all. The index is read without.

    Returns
    -------
    VideoFacts

    Raises
    ------
    NotAVideo
        If it is no video of an allowed format.
    ExternalFilesError
        If PyAV is not installed.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    with open_video(path, edit_list=False) as container:
        facts = indexed = _indexed(_stated(container, path), container, path)
        if how != "index":
            facts = _counted(container, facts, how == "decode", progress or (lambda done, total: None))
        elif facts.container not in _WITH_EDIT_LISTS:  # then it looks the same to a player
            return replace(facts, shown=facts.frames, rotation=_rotation(container))
    with open_video(path) as container:
        shown = facts.frames
        if facts.container in _WITH_EDIT_LISTS and facts.frames == indexed.frames is not None:
            shown = sum(not entry.is_discard for entry in _entries(container) if _end(entry) <= container.size)
        return replace(facts, shown=shown, rotation=_rotation(container))


def read_counted(path: str | os.PathLike[str], *, progress: ProgressCallback | None = None) -> VideoFacts:
    """Read the facts of a video with its number of frames: by the index where that is certain, else by packets.

    As `read_video`. Of a video that is cut off only the index is read.
    """
    facts = read_video(path)
    return facts if facts.cut_off or facts.frames is not None else read_video(path, "packets", progress=progress)


# --------------------------------------------------------------- what is stated


def _stated(container: Any, path: Path) -> VideoFacts:
    stream = first_video(container)
    name = _container_name(container, path)
    return VideoFacts(
        container=name,
        codec=codec_name(stream),
        # not `pix_fmt`: where that is not known, PyAV 17.1 crashes
        pixel_format=getattr(stream.codec_context.format, "name", None),
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        rotation=0,
        rate=None if name in ELEMENTARY else _rate(stream, name),
        frames=None,
        shown=None,
        video_streams=len(video_streams(container)),
        has_audio=bool(container.streams.audio),
        duration=None if name in ELEMENTARY else _duration(container, stream),
        cut_off=is_cut_off_file(path),
    )


def _rate(stream: Any, container: str) -> Fraction | None:
    stated, guessed = fraction(stream.average_rate), fraction(stream.guessed_rate)
    if container == "avi":
        # else what the header counts includes empty chunks, or the index is lost
        return stated or guessed if stream.frames == len(stream.index_entries) else None
    tick = fraction(stream.time_base)
    if stated is None or (tick is not None and stated == 1 / tick):  # of DV that is 60,000
        return guessed or stated
    return stated


def _container_name(container: Any, path: Path) -> str:
    name: str = container.format.name
    if name.startswith("mov,"):
        return "mov" if container.metadata.get("major_brand", "qt").strip() == "qt" else "mp4"
    if name.startswith("matroska"):
        with open(path, "rb") as stream:
            return "webm" if b"webm" in stream.read(64) else "mkv"
    return _NAMES.get(name, name)


def _duration(container: Any, stream: Any) -> float | None:
    time_base = fraction(stream.time_base)
    if stream.duration and time_base and container.format.name != "asf":  # which states that of the longest stream
        return float(stream.duration * time_base)
    if container.duration and not container.streams.audio:
        return float(container.duration) / 1_000_000  # AV_TIME_BASE
    return None


# --------------------------------------------------------------- by the index


def _indexed(facts: VideoFacts, container: Any, path: Path) -> VideoFacts:
    if facts.container in _WITH_EDIT_LISTS:
        count = whole = 0
        for entry in _entries(container):
            count += 1
            whole += _end(entry) <= container.size
        with open(path, "rb") as stream:
            frames = None if has_segment_index(stream) else whole
        return replace(facts, frames=frames, cut_off=facts.cut_off or whole < count)
    if facts.container == "avi" and not facts.cut_off:
        count = sum(1 for _ in _entries(container))
        # without an index in the file, FFmpeg's has what it has come across
        return replace(facts, frames=count if count == probe(path).frame_count else None)
    return facts


def _entries(container: Any) -> Iterator[Any]:
    return (entry for entry in first_video(container).index_entries if entry.size)


def _end(entry: Any) -> int:
    return int(entry.pos + entry.size)


# --------------------------------------------------------------- by packets, and decoding


def _counted(container: Any, facts: VideoFacts, decode: bool, progress: Callable[[int, int], object]) -> VideoFacts:
    stream = first_video(container)
    shown_at, decoded_at, lengths, cut = array("q"), array("q"), array("q"), False
    decoding = _Decoding(stream)
    for packet in _reporting(container, stream, progress):
        cut = packet.is_corrupt  # if the last one is, the file ends within it
        shown_at.append(_NO_TIME if packet.pts is None else packet.pts)
        decoded_at.append(_NO_TIME if packet.dts is None else packet.dts)
        lengths.append(packet.duration or 0)
        if decode:
            decoding.feed(packet)
    whole = slice(0, len(shown_at) - cut)
    facts = replace(facts, frames=len(shown_at[whole]))
    tick = fraction(stream.time_base)
    if tick is not None and facts.rate is not None:
        facts = _timed(facts, _times(shown_at[whole], decoded_at[whole], lengths[whole]), tick, cut)
    return decoding.finish(facts) if decode else facts


def _reporting(container: Any, stream: Any, progress: Callable[[int, int], object]) -> Iterator[Any]:
    total = container.size
    for packet in packets(container, stream):
        yield packet
        progress(min(max(packet.pos or 0, 0), total), total)
    progress(total, total)


class _Times(NamedTuple):
    """Of all frames, in ticks of the container."""

    shown_at: _Ticks
    """In order; none if some are not known."""
    begin: int = 0
    """When the first frame is decoded, which is where a duration of MP4 may begin."""
    end: int = 0
    """Up to when the last frame is shown."""
    complete: int = 0
    """Up to when no frame is missing, where a video breaks off: frames are stored in the order of decoding."""


def _times(shown_at: array[int], decoded_at: array[int], lengths: array[int]) -> _Times:
    """The times of all frames; AVI has those of decoding only."""
    for times in (shown_at, decoded_at):
        if len(times) and _NO_TIME not in times:
            ticks = np.frombuffer(times, dtype=np.int64)
            end = int((ticks + np.frombuffer(lengths, dtype=np.int64)).max())
            begin = int(ticks.min()) if decoded_at[0] == _NO_TIME else decoded_at[0]
            return _Times(np.sort(ticks), begin, end, max(decoded_at))
    return _Times(np.empty(0, dtype=np.int64))


def _timed(facts: VideoFacts, times: _Times, tick: Fraction, cut: bool) -> VideoFacts:
    shown_at = times.shown_at
    if len(shown_at) == 0:
        return facts
    first, last = int(shown_at[0]), int(shown_at[-1])
    early = None
    if facts.duration and len(shown_at) > 1:
        frame = (last - first) / (len(shown_at) - 1)  # from one to the next, in the mean
        begin = 0 if facts.container in _COUNT_FROM_ZERO else min(times.begin, first)
        missing = facts.duration / float(tick) - (max(times.end, last + frame) - begin)
        early = float(missing * tick) if missing > 2 * frame else 0.0
    cut = cut or facts.cut_off or bool(early)
    return replace(
        facts,
        first_time=float(first * tick),
        last_time=float(last * tick),
        drift=_drift(shown_at[shown_at <= times.complete] if cut else shown_at),
        ends_early=early,
    )


def _drift(times: _Ticks) -> float:
    if len(times) < 3 or times[0] == times[-1]:
        return 0.0
    frame = (times[-1] - times[0]) / (len(times) - 1)
    farthest = np.abs(times - times[0] - frame * np.arange(len(times))).max()
    return max(float(farthest - 1) / float(frame), 0.0)  # times are rounded to ticks


class _Decoding:
    """Decodes a stream, and counts what comes of it."""

    def __init__(self, stream: Any) -> None:
        self.codec = stream.codec_context
        self.codec.thread_type = "SLICE"  # of several frames at once, PyAV loses some where one cannot be decoded
        self.errors = self.corrupt = self.decoded = 0

    def feed(self, packet: Any) -> None:
        from av.error import FFmpegError

        try:
            for frame in self.codec.decode(packet):
                self.decoded += 1
                self.corrupt += frame.is_corrupt
        except FFmpegError:
            self.errors += 1

    def finish(self, facts: VideoFacts) -> VideoFacts:
        self.feed(None)
        if not (self.errors or self.corrupt):
            return replace(facts, frames=self.decoded, damaged=0)  # two packets may be the fields of one frame
        absent = max((facts.frames or 0) - self.decoded, 0)
        return replace(facts, damaged=max(self.errors, self.corrupt + absent))


def _rotation(container: Any) -> int:
    """Of the first frame that can be decoded; no header tells it. Players turn by quarters only."""
    first = next(frames(container, first_video(container)), None)
    turned = 0 if first is None else int(first.rotation) % 360
    return 0 if turned % 90 else turned

"""Videos put into another container: nothing is encoded again, and nothing is lost, which is proved."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...disk import access, filesystem
from ...errors import TransferError
from ...hints import Hint, shell_word
from ...plans.resolve import Remux
from .fingerprints import LossyError, Track, displayed, kept_streams, packets, same_packets, same_times, tracks_of
from .opening import NotAVideo, fraction, load_av, open_video

__all__ = ["how_to_convert", "is_remuxed", "own_aspect", "remux"]

_FORMATS = {".mp4": "mp4", ".mkv": "matroska"}
_MP4_OPTIONS = {"movflags": "+faststart", "movie_timescale": "90000"}
"""The index before the frames; streams that begin later than others do so to a tick of MPEG-TS, not a millisecond."""
_HEAD = 500  # packets, among which is the first one of each stream
_TAGS_OF_CONTAINERS = (
    "_brand",
    "_brands",
    "minor_version",
    "encoder",
    "duration",
    "timecode",
    "handler_name",
    "vendor_id",
)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)


def remux(
    source: Path,
    target: Path,
    recipe: Remux,
    *,
    on_bytes: Callable[[int], object] = lambda count: None,
    sync: bool = True,
) -> None:
    """Write the frames of a video, and its sound, to another container, and prove that none is lost or changed.

    The new file must have the same packets in the same order, with the same times. Frames of an elementary stream have
    no times: it is decoded for the order in which they are shown, and the new file is decoded to compare them. With one
    version of FFmpeg, the same source gives the same bytes each time.

    Parameters
    ----------
    source : pathlib.Path
        Symbolic links are followed.
    target : pathlib.Path
        Must not exist. Is for the same people to read and write as the source; until it is whole, for its owner alone.
    recipe : Remux
        As `recipes.VideoRemuxer.recipe` gives it.
    on_bytes : callable
        Called with numbers of bytes done; their sum is the size of the source.
    sync : bool
        Whether the new file is flushed to the disk.

    Raises
    ------
    FileExistsError
        If `target` exists.
    TransferError
        If the video cannot be remuxed without loss. What was written stays at `target`, for the caller to remove.
    OSError
        As the file system says.
    """
    os.close(access.open_private(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    report = _Share(on_bytes, os.stat(source).st_size, passes=2 if recipe.rate is None else 4)
    with _explained(source):
        if recipe.rate is None:
            tracks = _copy(source, target, recipe, None, report)
            _require_same(tracks, target, recipe, report)
        else:
            shown = displayed(source, report)
            tracks = _copy(source, target, recipe, _complete(shown.places), report)
            _require_same(tracks, target, recipe, report)
            if _shown(target, recipe.rate, report) != (len(shown.places), shown.digest):
                raise LossyError("the decoded frames differ, or their order")
    report.rest()
    access.copy_access(source, target)
    if sync:
        filesystem.sync_file(target)


def is_remuxed(source: Path, target: Path, recipe: Remux) -> bool:
    """Whether a file holds what remuxing a source gives, whatever made it, with whichever version of FFmpeg.

    The bytes of files differ between versions of FFmpeg, so the rule is: the file has the same packets as the source,
    in the same order. If the source has times of its frames, these are the same. If it has none, the file is decoded,
    and its frames are shown in the order in which the decoder gives them, at the rate that is asked for.

    Raises
    ------
    NotAVideo
        If one of them is none.
    """
    from av.error import FFmpegError

    try:
        _require_same(tracks_of(source, _unheard), target, recipe, _unheard)
        if recipe.rate is not None:
            _shown(target, recipe.rate, _unheard)
    except (LossyError, FFmpegError):
        return False
    return True


def _unheard(count: int) -> None:
    """Progress of what is not reported."""


def _require_same(tracks: list[Track], target: Path, recipe: Remux, on_packet: Callable[[int], object]) -> None:
    made = tracks_of(target, on_packet)
    if not same_packets(made, tracks):
        raise LossyError("the packets of the new file differ")
    if recipe.rate is None and not same_times(made, tracks):
        raise LossyError("the times of the frames in the new file differ")


def _shown(target: Path, rate: Fraction, on_packet: Callable[[int], object]) -> tuple[int, str]:
    """How many frames a file shows, and their digest; refuses frames that are not shown at a rate."""
    shown = displayed(target, on_packet)
    wanted = np.arange(len(shown.times)) / float(rate)
    if not np.allclose(shown.times, wanted, rtol=0, atol=min(0.001, 0.1 / float(rate))):
        raise LossyError("the times of the frames in the new file are not regular")
    return len(shown.times), shown.digest


def _complete(places: list[int | None]) -> list[int]:
    """The place of each packet in the order of display; refuses packets without a frame."""
    complete = [place for place in places if place is not None]
    if sorted(complete) != list(range(len(places))):
        raise LossyError(f"its {len(places)} packets give {len(complete)} frames")
    return complete


def _copy(
    source: Path, target: Path, recipe: Remux, places: list[int] | None, on_packet: Callable[[int], object]
) -> list[Track]:
    """Write the packets of a source to a new file; `places` is their order of display, if they have no times."""
    options = {"fflags": "+bitexact", **(_MP4_OPTIONS if recipe.suffix == ".mp4" else {})}
    with (
        open_video(source) as container,
        load_av().open(str(target), "w", format=_FORMATS[recipe.suffix], container_options=options) as out,
    ):
        streams = kept_streams(container)
        out.metadata.update(_kept_tags(container.metadata))
        new = {stream.index: _new_stream(out, stream, recipe.rate) for stream in streams}
        tracks = {stream.index: Track(stream) for stream in streams}
        give_times = _shift(source) if places is None else _numbering(places, 1 / (recipe.rate or Fraction(1)))
        for number, packet in enumerate(packets(container, streams)):
            index = packet.stream.index
            tracks[index].add(packet)
            on_packet(packet.size)
            give_times(packet, number)
            packet.stream = new[index]
            out.mux(packet)
    return list(tracks.values())


def _new_stream(out: Any, stream: Any, rate: Fraction | None) -> Any:
    new = out.add_stream_from_template(stream, opaque=True)
    new.time_base = stream.time_base if rate is None else 1 / rate
    new.metadata.update(_kept_tags(stream.metadata))
    aspect = own_aspect(stream)
    if aspect is not None:
        new.codec_context.sample_aspect_ratio = aspect
    return new


def own_aspect(stream: Any) -> Fraction | None:
    """Width by height of the pixels, where the container, which players believe, says otherwise than the frames."""
    if stream.type != "video":
        return None
    stated = fraction(stream.sample_aspect_ratio)
    return None if stated == (fraction(stream.codec_context.sample_aspect_ratio) or 1) else stated


def _kept_tags(metadata: dict[str, str]) -> dict[str, str]:
    """Tags that describe a video, such as its title and ``creation_time``, and not its container."""
    return {name: value for name, value in metadata.items() if not name.lower().endswith(_TAGS_OF_CONTAINERS)}


def _shift(source: Path) -> Callable[[Any, int], None]:
    """Let the earliest stream begin at 0: those of MPEG-TS mostly begin at 1.4 seconds."""
    start = _start(source)

    def give(packet: Any, number: int) -> None:  # noqa: ARG001
        offset = round(start / (fraction(packet.time_base) or 1))
        packet.pts = None if packet.pts is None else packet.pts - offset
        packet.dts = None if packet.dts is None else packet.dts - offset

    return give


def _start(source: Path) -> Fraction:
    """The time of the first frame or sound, in seconds; what FFmpeg states for a stream may be off by some ticks."""
    with open_video(source) as container:
        head = islice(packets(container, kept_streams(container)), _HEAD)
        timed = [(packet.pts, fraction(packet.time_base)) for packet in head if packet.pts is not None]
    return min((time * (tick or Fraction(1)) for time, tick in timed), default=Fraction(0))


def _numbering(places: list[int], tick: Fraction) -> Callable[[Any, int], None]:
    """Let each packet be shown at its place; it is decoded as much earlier as the frame that has to wait longest."""
    delay = max((number - place for number, place in enumerate(places)), default=0)

    def give(packet: Any, number: int) -> None:
        packet.time_base = tick
        packet.pts, packet.dts, packet.duration = places[number], number - delay, 1

    return give


class _Share:
    """Progress of several passes over one file, together as many bytes as it has."""

    def __init__(self, on_bytes: Callable[[int], object], size: int, passes: int) -> None:
        self._on_bytes, self._left, self._passes, self._read = on_bytes, size, passes, 0

    def __call__(self, count: int) -> None:
        done, self._read = divmod(self._read + count, self._passes)
        done = min(done, self._left)
        self._left -= done
        self._on_bytes(done)

    def rest(self) -> None:
        """Report what is in no packet."""
        self._on_bytes(self._left)


@contextmanager
def _explained(source: Path) -> Iterator[None]:
    """Give errors of FFmpeg, and those of the proof, the path of the video and the command that converts it."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, NotAVideo, LossyError) as error:
        number = getattr(error, "errno", None)
        if number in _OF_THE_DISK:
            raise OSError(number, os.strerror(number), str(source)) from error
        what = f"{source} cannot be remuxed without loss: {error}"
        raise TransferError(what, hint=how_to_convert(source)) from error


def how_to_convert(path: Path, image: bool = False) -> str:
    """The command that makes a file which the archive accepts, with every pixel unchanged."""
    settings, suffix = ("-frames:v 1 -update 1", ".png") if image else ("-c:v ffv1", ".mkv")
    source, target = shell_word(str(path)), shell_word(str(path.with_suffix(suffix)))
    command = f"`ffmpeg -i {source} {settings} {target}`"
    return Hint("convert it with {command}, and name the new file with {path_map}", command=command)

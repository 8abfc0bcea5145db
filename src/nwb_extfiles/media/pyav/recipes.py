"""Which videos can be remuxed, and into which container.

What was measured says which: mp4 keeps the ticks of its source exactly, Matroska counts in milliseconds, as webm does;
AVI gets the times of frames out of order, and is never a target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import ExternalFilesError, RelocationRefusedError
from ...hints import Hint, quoted
from ...nwb.references import ExternalFileReference
from ...options import MediaOptions
from ...plans.resolve import Remux
from .fingerprints import kept_streams
from .opening import NotAVideo, codec_name, open_video
from .reading import VideoFacts, read_video
from .remuxing import how_to_convert, is_remuxed, own_aspect

__all__ = ["VideoRemuxer", "remuxer"]

_MP4 = frozenset(("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp9", "av1", "mjpeg"))
_MP4_SOUND = frozenset(("aac", "ac3", "eac3", "mp2", "mp3", "opus", "alac", "flac"))
_MKV = _MP4 | {"vp8", "ffv1", "theora", "prores"}
_MKV_SOUND = _MP4_SOUND | {"vorbis", "dts", "truehd", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_u8", "pcm_f32le"}
_AV1_WITHOUT_DELIMITERS = frozenset(("mp4", "mov", "mkv", "webm"))
_ELEMENTARY = frozenset(("h264", "hevc", "m4v", "mpegvideo"))
"""Formats of FFmpeg that are frames without times."""
_COPY_AGAIN = "copy the video again from where it comes from"
_NOT_BY_FFMPEG = Hint(
    "convert it with the program that made it to a format that DANDI accepts, and name the new file with {path_map}"
)
_LARGEST_DENOMINATOR = 10_000  # of a rate, so that the ticks of an mp4 fit in 32 bits
_MOST_TICKS = 2**31 - 1  # of a container in a second


def remuxer(options: MediaOptions, rate_of: Callable[[ExternalFileReference], float | None]) -> VideoRemuxer | None:
    """What the plans of a call remux videos with; None if no video is to be remuxed.

    Parameters
    ----------
    options : MediaOptions
        `remux` is used.
    rate_of : callable
        The frames per second that the series of a reference states, None if it does not.
    """
    return None if options.remux is None else VideoRemuxer(rate_of)


@dataclass(frozen=True, slots=True)
class VideoRemuxer:
    """A `plans.containers.Remuxer`."""

    rate_of: Callable[[ExternalFileReference], float | None]

    def recipe(self, path: Path, reference: ExternalFileReference) -> Remux:
        """Choose the container of a video, and the rate where its own container has no times.

        Raises
        ------
        RelocationRefusedError
            If it cannot be remuxed without loss; the hint has the command that converts it.
        """
        try:
            facts = read_video(path)
            with open_video(path) as container:
                return self._recipe(path, facts, container, reference)
        except NotAVideo as error:
            is_image = error.image and path.suffix.lower() not in (".mjpeg", ".mjpg", ".tif", ".tiff")  # of many images
            hint = how_to_convert(path, image=True) if is_image else _COPY_AGAIN if error.cut_off else _NOT_BY_FFMPEG
            raise _refused(reference, path, error.reason, hint) from error
        except OSError as error:
            raise _refused(reference, path, f"cannot be read ({error})", "make it readable") from error

    def _recipe(self, path: Path, facts: VideoFacts, container: Any, reference: ExternalFileReference) -> Remux:
        streams = kept_streams(container)
        videos = {codec_name(stream) for stream in streams if stream.type == "video"}
        sound = {codec_name(stream) for stream in streams if stream.type == "audio"}
        suffix = ".mp4"
        if facts.container == "webm" or not (videos <= _MP4 and sound <= _MP4_SOUND):
            suffix = ".mkv"
        others = sorted((videos - _MKV) | (sound - _MKV_SOUND))
        if others:
            what = f"has a stream of {' and '.join(others)}, which cannot be put into mp4 or mkv"
            raise _refused(reference, path, what, how_to_convert(path))
        if "av1" in videos and facts.container not in _AV1_WITHOUT_DELIMITERS:
            what = "is AV1 with a delimiter before each frame, which mp4 and mkv must not have"
            raise _refused(reference, path, what, how_to_convert(path))
        if facts.cut_off:
            raise _refused(reference, path, "is cut off, or is still being written", _COPY_AGAIN)
        if facts.shown != facts.frames:
            what = f"has {facts.frames} frames, of which players show {facts.shown}"
            raise _refused(reference, path, what, how_to_convert(path))
        return Remux(suffix, self._rate(path, container, reference), _dropped(container, streams, suffix))

    def _rate(self, path: Path, container: Any, reference: ExternalFileReference) -> Fraction | None:
        if not _is_elementary(container):
            return None
        rate = self.rate_of(reference)
        if rate is None or not 0 < rate < float("inf"):
            what = "does not say when its frames were taken, and its series has neither `rate` nor `timestamps`"
            raise _refused(reference, path, what, f"store `rate` or `timestamps` in {reference.object_path!r}")
        exact = Fraction(rate).limit_denominator(_LARGEST_DENOMINATOR)
        if not 0 < exact.numerator <= _MOST_TICKS:
            what = f"would get the rate of its series, {rate:g} frames/s, which no video can have"
            raise _refused(reference, path, what, f"correct `rate` or `timestamps` in {reference.object_path!r}")
        return exact

    def is_made_of(self, path: Path, source: Path, remux: Remux) -> bool:
        """`is_remuxed`; a file that cannot be read as a video is not made of any."""
        try:
            return is_remuxed(source, path, remux)
        except NotAVideo:
            return False


def _is_elementary(container: Any) -> bool:
    return container.format.name in _ELEMENTARY


def _dropped(container: Any, kept: list[Any], suffix: str) -> tuple[str, ...]:
    """What is not kept, in words: streams, chapters, a timecode, in mkv the shape of the pixels."""
    names = {"data": "a data stream", "subtitle": "subtitles", "attachment": "an attachment", "video": "a cover image"}
    numbers = {stream.index for stream in kept}
    left = [stream for stream in container.streams if stream.index not in numbers]
    lost = dict.fromkeys(names.get(stream.type, "a stream of an unknown kind") for stream in left)
    timecode = any("timecode" in one.metadata for one in (container, *container.streams))
    stretched = suffix == ".mkv" and any(map(own_aspect, kept))  # PyAV cannot set what Matroska takes it from
    others = {"chapters": bool(container.chapters()), "a timecode": timecode, "pixels that are not square": stretched}
    return (*lost, *(what for what, is_there in others.items() if is_there))


def _refused(reference: ExternalFileReference, path: Path, what: str, hint: str) -> ExternalFilesError:
    return RelocationRefusedError(
        f"{reference.where}: {quoted(path)} {what}, so it is not remuxed", hint=hint, **reference.place
    )

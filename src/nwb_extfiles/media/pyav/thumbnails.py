"""Small images that show what is in a video."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np

from .opening import NotAVideo, first_video, fraction, frames, load_av, open_video

__all__ = ["thumbnail"]

_MOST_FRAMES = 60  # decoded in search of the right one
_MICROSECONDS = 1_000_000  # of a container, in a second


def thumbnail(path: str | os.PathLike[str], *, width: int = 240) -> bytes:
    """A frame from about a tenth of the length of a video, or somewhat before, as WebP.

    It is turned and stretched as players do. At most 60 frames are decoded; of a damaged video, 600 packets are tried.

    Parameters
    ----------
    path : str or os.PathLike
        A video.
    width : int
        Of the image in pixels; a smaller video is not enlarged.

    Returns
    -------
    bytes
        A WebP file: some kilobytes.

    Raises
    ------
    NotAVideo
        If it is no video of an allowed format, or no frame can be decoded.
    ExternalFilesError
        If PyAV is not installed.
    OSError
        If it cannot be read.
    """
    for part in (0.1, 0):
        with open_video(path) as container:
            stream = first_video(container)
            frame = _frame(container, stream, part)
            with suppress(load_av().error.FFmpegError, ValueError):  # frames in a format that cannot be converted
                if frame is not None:
                    return _webp(_small(frame, fraction(stream.sample_aspect_ratio) or Fraction(1), width))
    raise NotAVideo("has no frame that can be decoded")


def _frame(container: Any, stream: Any, part: float) -> Any | None:
    """The frame after a part of the length; one before if many would have to be decoded; None if none can be."""
    frame, tick = None, fraction(stream.time_base) or 0
    wanted = part * _length(container, stream) + (container.start_time or 0) / _MICROSECONDS
    if part:
        with suppress(load_av().error.FFmpegError):  # there is no such place
            container.seek(int(wanted * _MICROSECONDS))
    whole = (frame for frame in frames(container, stream) if not frame.is_corrupt)
    for frame in islice(whole, _MOST_FRAMES):
        if frame.pts is not None and frame.pts * tick >= wanted:
            break
    return frame


def _length(container: Any, stream: Any) -> float:
    """In seconds; 0 if not known."""
    tick = fraction(stream.time_base)
    if stream.duration and tick:
        return float(stream.duration * tick)
    return (container.duration or 0) / _MICROSECONDS


def _small(frame: Any, pixel_aspect: Fraction, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The frame as players show it, in RGB."""
    turns = round(frame.rotation / 90) % 4
    shown = (frame.width * pixel_aspect, Fraction(frame.height))
    shown = shown if turns % 2 == 0 else (shown[1], shown[0])
    width = min(width, max(round(shown[0]), 1))
    height = min(max(round(width * shown[1] / shown[0]), 1), 8 * width)
    size = (width, height) if turns % 2 == 0 else (height, width)
    pixels = frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _webp(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    av = load_av()
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
    frame.pts = 0
    encoder = av.CodecContext.create("libwebp", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])

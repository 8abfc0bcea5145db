"""Small real videos and images that need no encoder, for examples and tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FRAMES", "RATE", "walking_dot", "write_avi", "write_png"]

FRAMES, RATE = 25, 25
"""Number of frames of `walking_dot`, and frames per second."""
_WIDTH, _HEIGHT = 96, 72


def walking_dot(seed: int) -> NDArray[np.uint8]:
    """Frames of a dot that moves on a gray background.

    Parameters
    ----------
    seed : int
        Determines the path and color of the dot.

    Returns
    -------
    numpy.ndarray
        Shape (frames, height, width, 3), blue, green, red.
    """
    random = np.random.default_rng(seed)
    frames = np.full((FRAMES, _HEIGHT, _WIDTH, 3), 96, dtype=np.uint8)
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    phase, color = random.uniform(0, 6, size=2), random.integers(128, 255, size=3)
    for number, frame in enumerate(frames):
        row = _HEIGHT * (0.5 + 0.35 * np.sin(0.25 * number + phase[0]))
        column = _WIDTH * (0.5 + 0.35 * np.cos(0.2 * number + phase[1]))
        frame[(rows - row) ** 2 + (columns - column) ** 2 < 64] = color
    return frames


def write_avi(path: Path, frames: NDArray[np.uint8], rate: int) -> None:
    """Write an uncompressed video: AVI 1.0 with 24-bit DIB frames (Microsoft's "AVI RIFF File Reference").

    Parameters
    ----------
    path : pathlib.Path
        Replaced if it exists.
    frames : numpy.ndarray of uint8
        Shape (frames, height, width, 3), blue, green, red; the width a multiple of 4.
    rate : int
        Frames per second.
    """
    count, height, width, _ = frames.shape
    size = width * height * 3
    # A negative height: the top row comes first, as ffmpeg writes it. OpenCV 5 crashes if it comes last.
    bitmap = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, size, 0, 0, 0, 0)
    stream = struct.pack(
        "<4s4sIHHIIIIIIIIHHHH", b"vids", b"DIB ", 0, 0, 0, 0, 1, rate, 0, count, size, 0, 0, 0, 0, width, height
    )
    header = struct.pack(
        "<IIIIIIIIII16x", 1_000_000 // rate, size * rate, 0, 0x10, count, 0, 1, size, width, height
    )  # 0x10: has an index
    streams = _chunk(b"LIST", b"strl" + _chunk(b"strh", stream) + _chunk(b"strf", bitmap))
    images = [_chunk(b"00db", frame.tobytes()) for frame in frames]
    index = b"".join(struct.pack("<4sIII", b"00db", 0x10, 4 + number * len(images[0]), size) for number in range(count))
    body = (
        _chunk(b"LIST", b"hdrl" + _chunk(b"avih", header) + streams)
        + _chunk(b"LIST", b"movi" + b"".join(images))
        + _chunk(b"idx1", index)
    )
    path.write_bytes(_chunk(b"RIFF", b"AVI " + body))


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_png(path: Path, frame: NDArray[np.uint8]) -> None:
    """Write an image: PNG (ISO/IEC 15948) with 8 bits for each of three colors.

    Parameters
    ----------
    path : pathlib.Path
        Replaced if it exists.
    frame : numpy.ndarray of uint8
        Shape (height, width, 3), blue, green, red.
    """
    height, width, _ = frame.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(frame[:, :, ::-1]))  # each unfiltered
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )

"""Open videos with PyAV, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ...errors import ExternalFilesError
from ..boxes import has_more_samples_than_bytes, is_cut_off

__all__ = [
    "NotAVideo",
    "codec_name",
    "first_video",
    "fraction",
    "frames",
    "is_cut_off_file",
    "load_av",
    "open_video",
    "packets",
    "video_streams",
]

_MOST_PACKETS = 300
_FORMATS = (
    "mov", "avi", "matroska", "mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "flv", "asf", "ogg", "mxf", "dv",
    "ivf", "nut", "obu",
)  # fmt: skip
"""The demuxers of FFmpeg that may open a file. None of them opens other files: playlists (``concat``, ``hls``,
``dash``, ``sdp``) and numbered images are not among them."""

_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")


class NotAVideo(ExternalFilesError, ValueError):  # noqa: N818
    """A file that cannot be read as a video.

    Parameters
    ----------
    reason : str
        Why, as the end of a sentence that begins with the file: "is empty".
    cut_off : bool
        Whether it begins like a video, but ends before its index: its copy broke off, or it is still being written.
    image : bool
        Whether it is an image or a stack of images: PNG, JPEG, GIF, TIFF or BMP.
    undecodable : bool
        Whether it has a video stream, but of a codec that FFmpeg does not know.
    """

    def __init__(self, reason: str, *, cut_off: bool = False, image: bool = False, undecodable: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.cut_off, self.image, self.undecodable = reason, cut_off, image, undecodable


@contextmanager
def open_video(path: str | os.PathLike[str], *, edit_list: bool = True) -> Iterator[Any]:
    """Open a video, and no other file, whatever it says: the only place where files are opened with PyAV.

    A file that FFmpeg takes for a playlist would make it open others, on this machine or the internet. Only containers
    and elementary streams are allowed, and only local files.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file, or a symbolic link to one.
    edit_list : bool
        Whether frames that an edit list hides are left out, as players do. Only mp4 and mov have edit lists.

    Yields
    ------
    av.container.InputContainer
        With at least one video stream; see `first_video`. Do not use it, nor what comes from it, after it is closed.

    Raises
    ------
    NotAVideo
        If it is no video of an allowed format.
    ExternalFilesError
        If PyAV is not installed.
    OSError
        If it cannot be read.
    """
    av = load_av()
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise NotAVideo("is not a regular file")
    with open(path, "rb") as stream:  # what the file system refuses is raised here
        if has_more_samples_than_bytes(stream):
            raise NotAVideo("says that it has more frames than bytes; its copy broke off", cut_off=True)
    # for the container alone: PyAV 17.0 crashes on some if there are options for streams that it has not found yet
    options = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "file"}
    if not edit_list:
        options["ignore_editlist"] = "1"
    try:
        container = av.open(os.path.abspath(path), container_options=options, **_metadata_errors(av))
    except av.error.FFmpegError as error:  # some are OSErrors, without a problem of the file system
        raise _not_a_video(Path(path)) from error
    with container:
        if not video_streams(container):
            raise NotAVideo(
                "has no video stream that can be decoded",
                cut_off=is_cut_off_file(Path(path)),
                undecodable=any(stream.codec_context is None for stream in container.streams.video),
            )
        yield container


def _metadata_errors(av: Any) -> dict[str, str]:
    """What lets PyAV before 19 read metadata that are not UTF-8, whatever the standards say; PyAV 19 does by itself."""
    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


def load_av() -> Any:
    """PyAV, or what to do without it.

    Raises
    ------
    ExternalFilesError
        If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ExternalFilesError("reading videos needs PyAV", hint='pip install "av>=17"') from error
    return av


def first_video(container: Any) -> Any:
    """The first video stream of a container that `open_video` opened; cover images are none."""
    return video_streams(container)[0]


def codec_name(stream: Any) -> str:
    """FFmpeg's name of a codec, such as ``av1``; not that of the decoder, such as ``libdav1d``."""
    return str(stream.codec_context.codec.canonical_name)


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, up to where the file cannot be read any more; without those that are empty.

    Some AVI have empty ones between the frames.
    """
    from av.error import FFmpegError

    while True:
        try:
            yield from (packet for packet in container.demux(stream) if packet.size)
            return
        except IndexError:
            continue  # a packet of a stream that begins in the middle of the file, which PyAV does not know
        except FFmpegError:
            return


def frames(container: Any, stream: Any) -> Iterator[Any]:
    """The frames in the next 300 packets of a stream that can be decoded.

    Between two frames from which decoding can start, there are seldom more packets.
    """
    from av.error import FFmpegError

    for packet in chain(islice(packets(container, stream), _MOST_PACKETS), [None]):  # None: what the decoder kept back
        with suppress(FFmpegError):
            yield from stream.codec_context.decode(packet)


def fraction(value: Any) -> Fraction | None:
    """A rational number of PyAV, whatever class its version has for them; None for 0 and what is not known."""
    if value is None or not value.numerator or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def video_streams(container: Any) -> list[Any]:
    """The video streams of a container that `open_video` opened; without cover images, and those without a decoder."""
    from av.stream import Disposition

    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic
    ]


def _not_a_video(path: Path) -> NotAVideo:
    with open(path, "rb") as stream:
        head = stream.read(64)
    if not head:
        return NotAVideo("is empty")
    if head.startswith(_IMAGES):
        return NotAVideo("is an image, not a video", image=True)
    if is_cut_off_file(path):
        return NotAVideo("ends before its index; its copy broke off, or it is still being written", cut_off=True)
    return NotAVideo("is not a video of a known format")


def is_cut_off_file(path: Path) -> bool:
    """`is_cut_off`, of a file that is not open."""
    with open(path, "rb") as stream:
        return is_cut_off(stream)

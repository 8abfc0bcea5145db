"""An `ImageSeries` made from its videos, so that it says what they hold."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ExternalFilesError, MissingMediaError, combine
from ..media.frames import starting_frames
from ..media.pyav.reading import NotAVideo, VideoFacts, read_counted, read_video
from ..options import ProgressCallback
from ..plans.stored_paths import is_url
from ..progress import increments, reporting

if TYPE_CHECKING:
    from pynwb.device import Device
    from pynwb.image import ImageSeries

__all__ = ["image_series_from_videos"]

_SAME_TIME = 1e-9  # seconds; nwbinspector calls timestamps regular where their differences agree to 9 decimals
_SAME_RATE = 0.01  # a part of the rate; containers state some rates as means of rounded times
_TIMES = "give timestamps, one array for each file"


def image_series_from_videos(
    name: str,
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    timestamps: Any = None,
    rate: float | None = None,
    starting_time: float = 0.0,
    device: Device | None = None,
    description: str | None = None,
    comments: str = "no comments",
    unit: str = "n.a.",
    progress: bool | ProgressCallback = False,
) -> ImageSeries:
    """Make an `ImageSeries` of videos, with `starting_frame`, `num_samples`, times and `dimension` as they are in them.

    Parameters
    ----------
    name : str
        Name of the series.
    files : path or sequence of paths
        The videos in their order. They are stored as they are given; a relative path means a file below the working
        directory here, and beside the NWB file for its readers. `NWBExtFilesHDF5IO` with ``relocate_media=True`` writes
        the right one.
    timestamps : array_like of float, optional
        The time of each frame in seconds, shape (frames of all videos,), or a sequence of one such array for each
        video. Regular ones (to 1 ns) are stored as `rate` and `starting_time`, as nwbinspector advises.
    rate : float, optional
        Frames per second, which may differ from that of the container: high-speed cameras write 30. With several
        videos it says that they follow each other without a gap.
    starting_time : float
        Time of the first frame in seconds, where there are no timestamps.
    device : pynwb.device.Device, optional
        The camera.
    description : str, optional
        By default codec, size and number of frames.
    comments : str
        As in `pynwb.image.ImageSeries`.
    unit : str
        As in `pynwb.image.ImageSeries`.
    progress : bool or callable
        As `progress` of `MediaOptions`; of the bytes of the videos.

    Returns
    -------
    pynwb.image.ImageSeries
        With ``format="external"``. `dimension` is the width and height of the coded frames in pixels, before any
        rotation.

    Raises
    ------
    ExternalFilesError
        If the number of timestamps is not that of the frames; if timestamps are not finite or decrease, or
        `starting_time` is not finite; if the frames of the videos, as they are shown, differ in size; if a file is not
        a video, has no frames or is cut off; if PyAV is missing (``pip install "av>=17"``). Without timestamps and
        rate: if there are several videos, as nothing says how long the gap between them is, or if the container does
        not know the rate (elementary streams such as ``.h264``), or the times in it contradict the rate, or its frames
        are not equally spaced. With a rate, if the containers of the videos state different ones.
    MissingMediaError
        If a file does not exist.

    Notes
    -----
    Counted are the frames that a reader of videos gets: an edit list may hide some. MP4, MOV and most AVI files have an
    index, of which some megabytes are read. All others (MKV, WebM, FLV, WMV, MPEG) are read to the end, as is a video
    without timestamps and rate, to see that its frames are equally spaced. Nothing is decoded.

    The meaning of `starting_frame` and `num_samples` is that of the NWB schema, nwb.image.yaml.

    Examples
    --------
    >>> series = image_series_from_videos(  # doctest: +SKIP
    ...     "face", ["face_0.mp4", "face_1.mp4"], timestamps=[times_0, times_1]
    ... )
    >>> nwbfile.add_acquisition(series)  # doctest: +SKIP
    """
    paths = [os.fspath(path) for path in ([files] if isinstance(files, str | os.PathLike) else files)]
    who = f"ImageSeries {name!r}"
    if not paths:
        raise ExternalFilesError(f"{who}: no files were given")
    if timestamps is not None and (rate is not None or starting_time != 0.0):
        raise ExternalFilesError(f"{who}: timestamps were given together with a rate or starting_time", hint="give one")
    if not math.isfinite(starting_time):
        raise ExternalFilesError(f"{who}: the starting_time is {starting_time}; expected seconds")
    if timestamps is None and rate is None and len(paths) > 1:
        what = f"{who}: {len(paths)} videos, and nothing says how long the gaps between them are"
        raise ExternalFilesError(what, hint=f"{_TIMES}, or, if there are no gaps, a rate")
    videos = _read(who, paths, timed=timestamps is None and rate is None, progress=progress)
    sizes = ["{} x {}".format(*video.shown_size) for video in videos]
    _require_equal(who, paths, sizes, "frames of different sizes")
    counts = [video.shown or 0 for video in videos]
    if timestamps is not None:
        times = _compact(_checked_times(who, paths, videos, timestamps))
    else:
        times = dict(rate=_rate(who, paths, videos, rate), starting_time=float(starting_time))

    from pynwb.image import ImageSeries

    return ImageSeries(
        name=name,
        external_file=paths,
        format="external",
        starting_frame=starting_frames(counts),
        num_samples=sum(counts),
        dimension=[videos[0].width, videos[0].height],
        unit=unit,
        device=device,
        description=description or _description(videos),
        comments=comments,
        **times,
    )


# ------------------------------------------------------------------- the videos


def _read(who: str, paths: list[str], *, timed: bool, progress: bool | ProgressCallback) -> list[VideoFacts]:
    """The facts of whole videos; all that is wrong with any of them is raised at once."""
    videos, problems = list[VideoFacts](), list[ExternalFilesError]()
    with reporting(progress, sum(map(_size, paths))) as add:
        for index, path in enumerate(paths):
            try:
                videos.append(_whole(path, timed, add))
            except _UnfitError as error:
                kind = MissingMediaError if isinstance(error.__cause__, FileNotFoundError) else ExternalFilesError
                what = f"{who}, external_file[{index}]: {path!r} {error}"
                problems.append(kind(what, hint=error.hint, field="external_file", index=index))
    if problems:
        raise combine(problems)
    return videos


class _UnfitError(Exception):
    """Why a file cannot be used, as the end of a sentence that begins with the file."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


def _whole(path: str, timed: bool, add: Callable[[int], None]) -> VideoFacts:
    if is_url(path):
        raise _UnfitError("is a URL, whose frames cannot be counted", "download it, and give its path")
    progress = increments(add)
    try:
        video = read_video(path, "packets", progress=progress) if timed else read_counted(path, progress=progress)
        progress(os.path.getsize(path), 0)  # all of it, also if only the index was read
    except NotAVideo as error:
        raise _UnfitError(error.reason) from error
    except OSError as error:
        raise _UnfitError(f"cannot be read: {error.strerror or error}") from error
    if video.cut_off:
        raise _UnfitError("is cut off: its copy broke off, or it is still being written", "copy it again, or wait")
    if not video.shown:
        raise _UnfitError("has no frames")
    return video


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _require_equal(who: str, paths: list[str], values: list[str], what: str) -> None:
    if len(set(values)) > 1:
        hint = "make a series of each"
        raise ExternalFilesError(f"{who}: the files have {what} ({_listed(paths, values)})", hint=hint)


def _listed(paths: list[str], values: list[str]) -> str:
    return "; ".join(f"{path!r}: {value}" for path, value in zip(paths, values, strict=True))


def _description(videos: list[VideoFacts]) -> str:
    kind = "Video" if len(videos) == 1 else f"{len(videos)} videos"
    codecs = ", ".join(dict.fromkeys(video.codec for video in videos))
    frames = sum(video.shown or 0 for video in videos)
    return f"{kind}: {codecs}, {videos[0].width} x {videos[0].height} pixels, {frames} frames"


# ------------------------------------------------------------------- their times


def _checked_times(who: str, paths: list[str], videos: list[VideoFacts], timestamps: Any) -> NDArray[np.float64]:
    parts = [timestamps]
    is_nested = np.ndim(next(iter(timestamps), 0.0)) > 0
    counts = [sum(video.shown or 0 for video in videos)]
    if is_nested:
        parts, counts = list(timestamps), [video.shown or 0 for video in videos]
        if len(parts) != len(paths):
            raise ExternalFilesError(f"{who}: {len(parts)} arrays of timestamps were given for {len(paths)} files")
    arrays = [np.asarray(part, dtype=np.float64) for part in parts]
    if any(array.ndim != 1 for array in arrays):
        raise ExternalFilesError(f"{who}: timestamps have the shapes {[a.shape for a in arrays]}", hint=_TIMES)
    if [len(array) for array in arrays] != counts:
        raise _miscounted(who, paths, videos, [len(array) for array in arrays], is_nested)
    times = np.concatenate(arrays)
    bad = ~np.isfinite(times)
    bad[1:] |= np.diff(times) < 0
    if bad.any():
        place = int(np.argmax(bad))
        before = f" after {times[place - 1]}" if place else ""
        raise ExternalFilesError(
            f"{who}: timestamps[{place}] is {times[place]}{before}", hint="give times that do not decrease"
        )
    return times


def _miscounted(
    who: str, paths: list[str], videos: list[VideoFacts], given: list[int], is_nested: bool
) -> ExternalFilesError:
    frames = [f"{video.shown:,} frames" for video in videos]
    for index, video in enumerate(videos):
        if is_nested:
            frames[index] += f", {given[index]:,} timestamps"
        if video.frames != video.shown:
            frames[index] += f" (its edit list hides {(video.frames or 0) - (video.shown or 0):,} more)"
    return ExternalFilesError(
        f"{who}: {sum(given):,} timestamps for {sum(video.shown or 0 for video in videos):,} frames "
        f"({_listed(paths, frames)})",
        hint="give one timestamp for each frame, in the order of the files",
    )


def _compact(times: NDArray[np.float64]) -> dict[str, Any]:
    """Regular times as a rate, others as they are."""
    if len(times) > 2 and times[-1] > times[0]:
        mean = float((len(times) - 1) / (times[-1] - times[0]))
        for rate in (round(mean, 6), mean):
            if rate > 0 and np.allclose(np.arange(len(times)) / rate + times[0], times, rtol=0, atol=_SAME_TIME):
                return dict(rate=rate, starting_time=float(times[0]))
    return dict(timestamps=times)


def _rate(who: str, paths: list[str], videos: list[VideoFacts], rate: float | None) -> float:
    if rate is not None:
        if not 0 < rate < float("inf"):
            raise ExternalFilesError(f"{who}: the rate is {rate}; expected frames per second")
        stated = [float(video.rate) for video in videos if video.rate is not None]
        if stated and max(stated) > min(stated) * (1 + _SAME_RATE):
            rates = ["unknown" if video.rate is None else f"{float(video.rate):.6g} frames/s" for video in videos]
            raise ExternalFilesError(f"{who}: the files have different rates ({_listed(paths, rates)})", hint=_TIMES)
        return float(rate)
    (video,) = videos
    if video.rate is None:
        raise ExternalFilesError(f"{who}: {paths[0]!r} does not state its rate", hint="give rate or timestamps")
    if (video.drift or 0.0) > 1:
        raise ExternalFilesError(
            f"{who}: the frames of {paths[0]!r} are not equally spaced: one is {video.drift:.1f} frames from where it "
            f"would be at {float(video.rate):.6g} frames/s",
            hint="give timestamps",
        )
    first, last, gaps = video.first_time, video.last_time, (video.frames or 0) - 1  # of all that are stored
    if first is not None and last is not None and abs((last - first) * video.rate - gaps) > 1:
        mean = f"{gaps / (last - first):.6g} frames/s" if last > first else "all at once"
        raise ExternalFilesError(
            f"{who}: {paths[0]!r} states a rate of {float(video.rate):.6g} frames/s, and by the times in it, its "
            f"{video.frames:,} frames come at {mean} in the mean",
            hint="give rate or timestamps",
        )
    return float(video.rate)

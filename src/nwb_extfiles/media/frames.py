"""Where a frame of an `ImageSeries` is: in which of its videos, and which frame of that one.

The schema of NWB (nwb.image.yaml) says what `starting_frame` means: "the frame number (within the full ImageSeries) of
the first frame in the corresponding external_file entry". Nothing here opens a video.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..errors import ExternalFilesError, UnreadableFileError
from ..hints import counted
from ..nwb.path_datasets import read_paths, unwrapped

__all__ = ["FrameLocation", "locate_frame", "starting_frame_problem", "starting_frames"]

_ROUNDING = 1e-6  # of a frame: how far a time may be before that of a frame by the rounding of floats


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLocation:
    """One frame of an `ImageSeries`: in which of its videos it is."""

    index: int
    """Of the frame in the series, from 0."""
    time: float
    """When the frame was recorded or shown, in seconds, as the series says."""
    file_index: int
    """Which entry of `external_file`, from 0."""
    path: str
    """That entry: the path as it is stored, or, if the series was read with ``resolve_media=True``, one that opens."""
    frame: int
    """Of the frame in that video, from 0."""


def starting_frames(counts: Sequence[int]) -> list[int]:
    """The number of the first frame of each video in the series, for videos with so many frames.

    >>> starting_frames([5, 10, 2])
    [0, 5, 15]
    """
    return [0, *accumulate(counts[:-1])]


def starting_frame_problem(starting_frame: Sequence[int] | None, files: int) -> str | None:
    """What is wrong with a `starting_frame`, however many frames the files have; None if it may be right.

    Of a single file it may be missing: readers agree that the file begins with frame 0.
    """
    if starting_frame is None:
        return f"it has no starting_frame for its {files} files" if files > 1 else None
    if len(starting_frame) != files:
        return f"its starting_frame has {len(starting_frame)} entries for {counted(files, 'file')}"
    if files and starting_frame[0] != 0:
        return f"its starting_frame begins with {starting_frame[0]:,}, and the first file has the first frames"
    if any(after <= before for before, after in pairwise(starting_frame)):
        return "its starting_frame does not increase"
    return None


def locate_frame(series: Any, index: int | None = None, *, time: float | None = None) -> FrameLocation:
    """Find the video that a frame of an `ImageSeries` is in, and the number of the frame in that video.

    No video is opened. Of the timestamps of a series that was read from a file, only some 20 are read.

    Parameters
    ----------
    series : pynwb.image.ImageSeries
        With external files; of any subtype, in memory or read by pynwb, its IO open.
    index : int, optional
        The number of the frame in the series, from 0.
    time : float, optional
        A time in seconds, as in `timestamps`. The frame is the one on display then: the last one at or before that
        time, also in a gap between two videos. A series with a `rate` shows its last frame for one period.

    Returns
    -------
    FrameLocation

    Raises
    ------
    ExternalFilesError
        If the series has no such frame, or no frame at or before that time, or ends before it; if the timestamp found
        is NaN; if it has no external files; if its `starting_frame` is missing or cannot be right.
    UnreadableFileError
        If the IO that read the series is closed.
    TypeError
        If not exactly one of `index` and `time` is given.

    Notes
    -----
    `timestamps` must not decrease. The number of frames is that of the timestamps, else `num_samples`. Older files may
    have a `rate` and no `num_samples`: nothing says then where the last video ends, and no frame is too high.

    Examples
    --------
    >>> with NWBExtFilesHDF5IO("sub-a.nwb", "r", resolve_media=True) as io:  # doctest: +SKIP
    ...     found = locate_frame(io.read().acquisition["video"], time=12.5)
    ...     print(f"frame {found.frame} of {found.path}")
    """
    if (index is None) == (time is None):
        raise TypeError("locate_frame needs either index or time")
    try:
        paths, starts, clock = _read(series)
        position = _position(clock, index, time)
        file_index = bisect_right(starts, position) - 1
        return FrameLocation(
            index=position,
            time=clock.time_of(position),
            file_index=file_index,
            path=paths[file_index],
            frame=position - starts[file_index],
        )
    except LookupError as error:
        raise _problem(series, str(error.args[0])) from None
    except (ValueError, RuntimeError) as error:  # of h5py and zarr
        raise UnreadableFileError(
            f"{_who(series)} cannot be read any more: {error}; locate frames while the IO is open",
            nwb_path=series.container_source,
        ) from error


def _read(series: Any) -> tuple[list[str], list[int], _Timestamps | _Rate]:
    read = read_paths(getattr(series, "external_file", None))
    if read is None or not read[0]:
        raise _problem(series, "it has no external files")
    clock = _clock(series)
    return read[0], _starts(series, len(read[0]), clock.samples), clock


def _position(clock: _Timestamps | _Rate, index: int | None, time: float | None) -> int:
    if time is not None:
        return clock.index_at(float(time))  # NumPy compares a float32 with a float as float32
    assert index is not None
    return _in_range(operator.index(index), clock.samples)


def _starts(series: Any, files: int, samples: int | None) -> list[int]:
    stored = unwrapped(series.starting_frame)
    starts = None if stored is None else [int(start) for start in np.ravel(stored)]
    problem = starting_frame_problem(starts, files)
    if problem is None and starts and samples and starts[-1] >= samples:
        problem = f"its starting_frame goes beyond its {samples:,} frames"
    if problem is not None:
        listed = "" if starts is None else f" (starting_frame is {starts})"
        hint = "count the frames of its files: `nwb-extfiles check` shows the right list"
        raise _problem(series, f"{problem}{listed}, so the files of its frames are not known", hint)
    return starts or [0]


@dataclass(frozen=True, slots=True)
class _Timestamps:
    """A time for each frame: any array, also one on disk, of which only the elements asked for are read."""

    times: Any

    @property
    def samples(self) -> int:
        return len(self.times)

    def time_of(self, index: int) -> float:
        return float(self.times[index])

    def index_at(self, time: float) -> int:
        if not self.samples:
            raise LookupError("it has no frames: its timestamps are empty")
        first, last = self.time_of(0), self.time_of(self.samples - 1)
        if not first <= time <= last:
            raise LookupError(f"it has no frame at {time} s; its timestamps are from {first} s to {last} s")
        index = bisect_right(self.times, time, key=float) - 1
        if math.isnan(self.time_of(index)):  # beyond one, the search always ends at it
            raise LookupError(f"it has no time for frame {index}: that timestamp is NaN")
        return index


@dataclass(frozen=True, slots=True)
class _Rate:
    """A constant rate in frames per second, from a starting time in seconds."""

    rate: float
    start: float
    samples: int | None

    def time_of(self, index: int) -> float:
        return index / self.rate + self.start  # rounded as `TimeSeries.get_timestamps` does

    def index_at(self, time: float) -> int:
        position = (time - self.start) * self.rate
        samples = math.inf if self.samples is None else self.samples
        if not -_ROUNDING <= position < samples:
            end = "" if self.samples is None else f" and end at {self.time_of(self.samples)} s"
            raise LookupError(f"it has no frame at {time} s; its frames begin at {self.start} s{end}")
        index = math.floor(min(position + _ROUNDING, samples - _ROUNDING))
        # of times since 1970, the floats are up to a ten-thousandth of a frame apart
        if index + 1 < samples and self.time_of(index + 1) <= time:
            return index + 1
        return index - (index > 0 and self.time_of(index) > time + _ROUNDING / self.rate)


def _clock(series: Any) -> _Timestamps | _Rate:
    times = unwrapped(series.timestamps)
    if times is not None:
        return _Timestamps(times)
    if not series.rate or not series.rate > 0:
        raise _problem(series, f"it has no timestamps, and its rate is {series.rate}")
    samples = getattr(series, "num_samples", None)
    return _Rate(float(series.rate), float(series.starting_time or 0.0), None if samples is None else int(samples))


def _in_range(index: int, samples: int | None) -> int:
    if index < 0 or (samples is not None and index >= samples):
        count = "frames from 0 on" if samples is None else f"{samples:,} frames, from 0 to {samples - 1}"
        raise LookupError(f"it has no frame {index}; it has {count}")
    return index


def _who(series: Any) -> str:
    file = f"{series.container_source}: " if series.container_source else ""
    return f"{file}{type(series).__name__} {series.name!r}"


def _problem(series: Any, what: str, hint: str | None = None) -> ExternalFilesError:
    return ExternalFilesError(
        f"{_who(series)}: {what}", hint=hint, nwb_path=series.container_source, field="external_file"
    )

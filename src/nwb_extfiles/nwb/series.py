"""What an ImageSeries in an NWB file says of its own frames: how many, how they are timed, in which file each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .path_datasets import is_stored, item_at, unwrapped
from .scan import field_of

__all__ = ["SeriesFacts", "frame_rate", "read_series", "stored_frame_rate", "whole_numbers"]

_ENOUGH = 100_000  # timestamps, for their interval
_MOST_NUMBERS = 16  # in a dataset that should hold one, two or three


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What an ImageSeries says of its frames. What it does not say, or not as the schema wants it, is None."""

    timestamps: int | None = None
    """How many timestamps it has."""
    num_samples: int | None = None
    """As stored, which the schema asks for only with a rate."""
    has_rate: bool = False
    """Whether its times are a starting time and a rate."""
    starting_frame: tuple[int, ...] | None = None
    """As stored, number of the first frame of each file."""
    dimension: tuple[int, ...] | None = None
    """As stored, numbers of pixels on x, y (and z)."""

    @property
    def samples(self) -> int | None:
        """How many frames it has times for."""
        return self.num_samples if self.timestamps is None else self.timestamps


def read_series(file: Any, object_path: str) -> SeriesFacts | None:
    """Read what an object of an open NWB file says of its frames.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        The root group.
    object_path : str
        Path of an ImageSeries, or an object of another type.

    Returns
    -------
    SeriesFacts or None
        None if it has no ``external_file``, as objects of other types.
    """
    series = item_at(file, object_path)
    media: Any = None if is_stored(series) else field_of(series, "external_file")
    if not is_stored(media):
        return None
    timestamps, starting_time = field_of(series, "timestamps"), field_of(series, "starting_time")
    counts = _content(field_of(series, "num_samples"))
    return SeriesFacts(
        timestamps=_size(timestamps),
        num_samples=counts[0] if counts is not None and len(counts) == 1 else None,
        has_rate=timestamps is None and is_stored(starting_time) and "rate" in starting_time.attrs,
        starting_frame=whole_numbers(media.attrs.get("starting_frame")),
        dimension=_content(field_of(series, "dimension")),
    )


def stored_frame_rate(file: Any, object_path: str) -> float | None:
    """The `frame_rate` of an object of an open NWB file; None if it does not state one, or is not a series."""
    series = item_at(file, object_path)
    if series is None or is_stored(series):
        return None
    start = field_of(series, "starting_time")
    rate = start.attrs.get("rate") if is_stored(start) else None
    return frame_rate(rate, field_of(series, "timestamps"))


def frame_rate(rate: Any, timestamps: Any) -> float | None:
    """Frames per second of a series.

    Parameters
    ----------
    rate : float or None
        Its `rate`, in frames per second.
    timestamps : dataset, array or list of shape (frames,), or None
        Its `timestamps`, in seconds. Their median interval counts: there may be gaps between files.

    Returns
    -------
    float or None
        None if neither states it.
    """
    given = _numbers(rate)
    if len(given) == 1:
        return float(given[0])
    intervals = np.diff(_numbers(unwrapped(timestamps)))
    median = float(np.median(intervals)) if len(intervals) else 0.0
    return 1 / median if median > 0 else None


def _numbers(value: Any) -> Any:
    """The first numbers of a dataset, an array or a list; none of something else, such as an iterator."""
    if is_stored(value):
        value = value[:_ENOUGH] if len(value.shape or ()) == 1 else None
    array = np.ravel(np.asarray(value[:_ENOUGH] if isinstance(value, list | tuple) else value))
    return array[:_ENOUGH].astype(float) if array.dtype.kind in "iuf" else np.empty(0)


def _size(dataset: Any) -> int | None:
    return int(np.prod(dataset.shape)) if is_stored(dataset) and dataset.shape is not None else None


def _content(dataset: Any) -> tuple[int, ...] | None:
    """A few whole numbers in a dataset."""
    size = _size(dataset)
    return None if size is None or size > _MOST_NUMBERS else whole_numbers(dataset[()])


def whole_numbers(value: Any) -> tuple[int, ...] | None:
    """Whole numbers, of whatever type they are stored in; None if they are something else."""
    array = np.ravel(np.asarray(value))
    if array.dtype.kind not in "iuf" or not (np.isfinite(array).all() and np.array_equal(array, np.floor(array))):
        return None
    return tuple(map(int, array))

"""What an ImageSeries in an NWB file says of its own frames: how many, how they are timed, in which file each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .path_datasets import is_stored, item_at
from .scan import field_of

__all__ = ["SeriesFacts", "read_series", "whole_numbers"]

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

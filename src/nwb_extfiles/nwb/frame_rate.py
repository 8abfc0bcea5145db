"""How many frames a second a series has, as its NWB file states it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .path_datasets import is_stored, unwrapped

__all__ = ["frame_rate", "stored_frame_rate"]

_ENOUGH = 100_000  # timestamps


def stored_frame_rate(root: Any, object_path: str) -> float | None:
    """The `frame_rate` of a series in an open NWB file; None if it does not say, or is no series."""
    series = root.get(object_path.strip("/"))
    if series is None or is_stored(series):
        return None
    start = series.get("starting_time")
    return frame_rate(None if start is None else start.attrs.get("rate"), series.get("timestamps"))


def frame_rate(rate: Any, timestamps: Any) -> float | None:
    """Frames per second of a series.

    Parameters
    ----------
    rate : float or None
        Its `rate`, in frames per second.
    timestamps : array of shape (frames,), dataset, list or None
        Its `timestamps`, in seconds. Their median interval counts: there may be gaps between files.

    Returns
    -------
    float or None
        None if neither tells.
    """
    if rate is not None:
        return float(rate)
    data = unwrapped(timestamps)
    if data is None or not hasattr(data, "__getitem__"):
        return None  # an iterator, which is read once, when it is written
    intervals = np.diff(np.asarray(data[:_ENOUGH], dtype=float))
    median = float(np.median(intervals)) if len(intervals) else 0.0
    return 1 / median if median > 0 else None

"""Whether the videos of series that are not written yet are those that the series mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...media.pyav.reading import NotAVideo, VideoFacts, read_counted
from ...nwb.path_datasets import unwrapped
from ...nwb.series import SeriesFacts, whole_numbers
from ...options import MediaOptions
from ...plans.locate import LocationKind
from ...plans.media_files import media_file
from ..external_files import resolve_external_files
from .findings import Finding, Severity
from .series_checks import Media, findings_of_series

__all__ = ["check_new_series"]


def check_new_series(containers: Iterable[Any], options: MediaOptions) -> Iterator[Finding]:
    """Compare series in memory with their videos, as `check` does with those of a file.

    Parameters
    ----------
    containers : iterable of pynwb containers
        Of which those with ``external_file`` are compared.
    options : MediaOptions
        How their videos are found, where paths are relative.

    Yields
    ------
    Finding
        Errors and warnings. Videos that are not found are left to the relocation.

    Raises
    ------
    ExternalFilesError
        If PyAV is not installed.
    """
    for series in containers:
        if getattr(series, "external_file", None) is None:
            continue
        media = []
        for entry in resolve_external_files(series, options):
            file = media_file(Path(str(entry.location))) if entry.kind is LocationKind.FILE else None
            found = None if file is None or isinstance(file, str) else file
            media.append(Media(entry.reference, found, None if found is None else _facts(found.real)))
        for finding in findings_of_series(media, _said(series)):
            if finding.severity is not Severity.INFO:
                yield finding


def _facts(path: Path) -> VideoFacts | NotAVideo | None:
    try:
        return read_counted(path)
    except NotAVideo as error:
        return error
    except OSError:  # the relocation tells
        return None


def _said(series: Any) -> SeriesFacts:
    """What a series in memory says of its frames."""
    timestamps = unwrapped(series.timestamps)
    samples = getattr(series, "num_samples", None)
    return SeriesFacts(
        timestamps=len(timestamps) if hasattr(timestamps, "__len__") else None,
        num_samples=None if samples is None else int(samples),
        has_rate=timestamps is None,
        starting_frame=whole_numbers(series.starting_frame),
        dimension=whole_numbers(series.dimension),
    )

"""Series and videos of any frame counts: what fits is not reported, what does not fit is, with the right numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nwb_extfiles.media.pyav.reading import VideoFacts
from nwb_extfiles.nwb.references import ExternalFileReference
from nwb_extfiles.nwb.series import SeriesFacts
from nwb_extfiles.plans.media_files import MediaFile
from nwb_extfiles.tasks.check.findings import Finding, Severity
from nwb_extfiles.tasks.check.series_checks import Media, findings_of_series

COUNT = st.integers(1, 1000)


@st.composite
def files(draw: st.DrawFn) -> list[tuple[int, int]]:
    """How many frames each file stores, and how many of these are shown."""
    stored = draw(st.lists(COUNT, min_size=1, max_size=5))
    return [(count, draw(st.integers(1, count)) if draw(st.booleans()) else count) for count in stored]


def media(counts: Sequence[tuple[int | None, int | None]]) -> list[Media]:
    return [entry(index, *count) for index, count in enumerate(counts)]


def entry(index: int, frames: int | None, shown: int | None) -> Media:
    path = Path(f"/{index}.mp4")
    reference = ExternalFileReference(
        nwb_path="/a.nwb", object_path="/acquisition/video", neurodata_type="ImageSeries", object_id=None,
        field="external_file", index=index, stored_path=path.name, base="/",
    )  # fmt: skip
    facts = VideoFacts(
        container="mp4", codec="h264", pixel_format="yuv420p", width=96, height=64, rotation=0, rate=None,
        frames=frames, shown=shown, video_streams=1, has_audio=False, duration=None, cut_off=False,
    )  # fmt: skip
    return Media(reference, MediaFile(path, path, 100, (1, index)), facts)


def problems(found: Sequence[Media], series: SeriesFacts) -> list[Finding]:
    return [finding for finding in findings_of_series(found, series) if finding.severity is not Severity.INFO]


def starts(counts: Sequence[int]) -> tuple[int, ...]:
    return (0, *accumulate(counts[:-1]))


@given(files(), st.booleans(), st.booleans())
def test_series_that_fits_has_no_problems(counts: list[tuple[int, int]], by_timestamps: bool, hidden: bool) -> None:
    frames = [count[0 if hidden else 1] for count in counts]
    samples = dict(timestamps=sum(frames)) if by_timestamps else dict(num_samples=sum(frames))
    assert problems(media(counts), SeriesFacts(starting_frame=starts(frames), **samples)) == []


@given(files(), st.integers(1, 50))
def test_missing_frames_are_counted(counts: list[tuple[int, int]], missing: int) -> None:
    stored = [count for count, _ in counts]
    series = SeriesFacts(timestamps=sum(stored) + missing, num_samples=sum(stored), starting_frame=starts(stored))
    (finding,) = problems(media(counts), series)
    assert (finding.code, finding.severity) == ("frames-missing", Severity.ERROR)
    assert f"{sum(stored) + missing:,} timestamp" in finding.what
    assert f": {missing:,} are missing" in finding.what


@given(files(), st.integers(1, 50))
def test_frames_left_over_are_counted(counts: list[tuple[int, int]], over: int) -> None:
    shown = [count for _, count in counts]
    samples = max(0, sum(shown) - over)
    (finding,) = problems(media(counts), SeriesFacts(num_samples=samples, starting_frame=starts(shown)))
    assert (finding.code, finding.severity) == ("frames-left-over", Severity.WARNING)
    assert f": {sum(shown) - samples:,} have no time" in finding.what


@given(st.lists(COUNT, min_size=2, max_size=5), st.data())
def test_wrong_starting_frame_is_corrected(counts: list[int], data: st.DataObject) -> None:
    right = starts(counts)
    wrong = data.draw(st.lists(st.integers(0, 2000), min_size=len(right), max_size=len(right)).map(tuple))
    found = problems(media([(count, count) for count in counts]), SeriesFacts(starting_frame=wrong))
    assert [(finding.code, finding.hint) for finding in found] == (
        [] if wrong == right else [("starting-frame", f"store starting_frame={list(right)}")]
    )


@given(files(), st.integers(0, 3000), st.data())
def test_nothing_is_said_of_counts_if_one_is_unknown(
    counts: list[tuple[int, int]], samples: int, data: st.DataObject
) -> None:
    known: list[tuple[int | None, int | None]] = [*counts]
    known[data.draw(st.integers(0, len(counts) - 1))] = None, None
    series = SeriesFacts(num_samples=samples, starting_frame=starts([count for count, _ in counts]))
    assert problems(media(known), series) == []

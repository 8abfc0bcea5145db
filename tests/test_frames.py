"""`locate_frame`: which video a frame of a series is in, on series in memory, in HDF5 and in Zarr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import image_series, new_nwbfile, write_nwb
from hypothesis import given
from hypothesis import strategies as st
from pynwb import NWBHDF5IO
from pynwb.image import ImageSeries, OpticalSeries

from nwb_extfiles import ExternalFilesError, FrameLocation, NWBExtFilesHDF5IO, locate_frame
from nwb_extfiles.errors import UnreadableFileError
from nwb_extfiles.media.frames import starting_frame_problem, starting_frames

FILES = ["a.mp4", "b.mp4", "c.mp4"]
STARTS = [0, 5, 15]
"""Of videos of 5, 10 and 2 frames, as in the schema of NWB."""
GAPS = np.concatenate([np.arange(5) * 0.1, 10 + np.arange(10) * 0.1, 20 + np.arange(2) * 0.1])
"""A time for each frame; the second video begins 9.6 s after the first."""


def series(**kwargs: Any) -> ImageSeries:
    if "timestamps" in kwargs:
        kwargs["rate"] = kwargs["num_samples"] = None
    return image_series(kwargs.pop("files", FILES), **{"num_samples": 17, "starting_frame": STARTS, **kwargs})


def place(found: FrameLocation) -> tuple[int, str, int]:
    return found.file_index, found.path, found.frame


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, (0, "a.mp4", 0)),
        (4, (0, "a.mp4", 4)),
        (5, (1, "b.mp4", 0)),
        (14, (1, "b.mp4", 9)),
        (15, (2, "c.mp4", 0)),
        (np.int64(16), (2, "c.mp4", 1)),
    ],
)
def test_frame_by_index(index: int, expected: tuple[int, str, int]) -> None:
    assert place(locate_frame(series(), index)) == expected
    found = locate_frame(series(timestamps=GAPS), index)
    assert place(found) == expected
    assert (found.index, found.time) == (index, GAPS[index])


def test_times_of_a_rate_are_those_of_pynwb() -> None:
    video = series(rate=29.97, starting_time=3.1)
    expected = np.arange(17) / video.rate + video.starting_time
    assert [locate_frame(video, index).time for index in range(17)] == expected.tolist()


@pytest.mark.parametrize(
    ("time", "index"), [(0.0, 0), (0.05, 0), (0.1, 1), (0.4, 4), (9.999, 4), (10.0, 5), (20.05, 15), (20.1, 16)]
)
def test_frame_on_display_in_gaps(time: float, index: int) -> None:
    assert locate_frame(series(timestamps=GAPS), time=time).index == index


@given(
    rate=st.floats(0.01, 10_000), start=st.floats(-1e5, 1e5), samples=st.integers(17, 10**6), part=st.floats(0, 0.999)
)
def test_each_time_of_a_rate_finds_its_frame(rate: float, start: float, samples: int, part: float) -> None:
    """Also the times that NumPy computes in another order, with other rounding."""
    video = series(rate=rate, starting_time=start, num_samples=samples)
    for index in (0, 1, samples // 2, samples - 1):
        time = locate_frame(video, index).time
        assert locate_frame(video, time=time).index == index
        assert locate_frame(video, time=start + index * (1 / rate)).index == index
    if rate < 1000:
        assert locate_frame(video, time=start + (3 + part) / rate).index in (3, 3 + (part > 0.99))


@pytest.mark.parametrize("rate", [30.0, 500.0])
def test_each_frame_is_found_by_its_time_since_1970(rate: float) -> None:
    """Floats are that far apart there that a time is up to a ten-thousandth of a frame before that of the frame."""
    video = series(rate=rate, starting_time=1.7e9, num_samples=20_000)
    for index in range(20_000):
        time = locate_frame(video, index).time
        assert locate_frame(video, time=time).index == index
        assert locate_frame(video, time=np.nextafter(time, np.inf)).index == index


def test_no_frame_is_later_than_the_time_asked_if_timestamps_have_32_bits() -> None:
    times = np.array([0, 0.1, 0.2, *range(100_000, 100_014)], dtype=np.float32)
    video = series(timestamps=times)
    for time, index in ((0.1, 0), (float(times[1]), 1), (99_999.999, 2), (100_000.999, 3), (np.float32(0.2), 2)):
        found = locate_frame(video, time=time)
        assert (found.index, found.time <= time) == (index, True)


@pytest.mark.parametrize("nan", [[8], [7, 8, 9], [2, 8, 12], range(1, 16)])
def test_timestamps_that_are_nan_never_give_a_wrong_frame(nan: Sequence[int]) -> None:
    times = np.arange(17.0)
    times[nan] = np.nan
    video, refused = series(timestamps=times), 0
    for index in range(17):
        try:
            found = locate_frame(video, time=index + 0.0)
        except ExternalFilesError as error:
            refused += 1
            assert "that timestamp is NaN" in str(error)  # noqa: PT017
        else:
            assert found.index == index
    assert refused >= len(nan)


@pytest.mark.parametrize("time", [-0.001, 20.11, float("nan"), float("inf")])
def test_time_beyond_the_timestamps_is_an_error_with_their_range(time: float) -> None:
    with pytest.raises(ExternalFilesError, match=r"ImageSeries 'video': it has no frame at .* from 0\.0 s to 20\.1 s"):
        locate_frame(series(timestamps=GAPS), time=time)


def test_last_frame_of_a_rate_is_shown_for_one_period() -> None:
    video = series(rate=10.0, starting_time=2.0)
    assert locate_frame(video, time=3.69).index == 16
    for time in (1.99, 3.7, float("nan")):
        with pytest.raises(ExternalFilesError, match=r"begin at 2\.0 s and end at 3\.7 s"):
            locate_frame(video, time=time)


@pytest.mark.parametrize("index", [-1, 17])
def test_index_beyond_the_frames_is_an_error_with_their_number(index: int) -> None:
    for video in (series(), series(timestamps=GAPS)):
        with pytest.raises(ExternalFilesError, match=rf"no frame {index}; it has 17 frames, from 0 to 16"):
            locate_frame(video, index)


def test_index_or_time_is_needed() -> None:
    with pytest.raises(TypeError, match="either index or time"):
        locate_frame(series())
    with pytest.raises(TypeError, match="either index or time"):
        locate_frame(series(), 1, time=0.0)
    with pytest.raises(TypeError):
        locate_frame(series(), 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("starting_frame", "what"),
    [
        ([0, 0, 0], "does not increase"),
        ([5, 10, 15], "begins with 5"),
        ([0, 10, 5], "does not increase"),
        ([0, 5, 17], "goes beyond its 17 frames"),
        (None, "no starting_frame for its 3 files"),
    ],
)
def test_wrong_starting_frame_is_refused(starting_frame: list[int] | None, what: str) -> None:
    video = series()
    video.fields["starting_frame"] = starting_frame
    with pytest.raises(ExternalFilesError, match=what):
        locate_frame(video, 3)


def test_wrong_number_of_starting_frames_is_refused() -> None:
    video = series()
    video.fields["starting_frame"] = [0, 5]
    with pytest.raises(ExternalFilesError, match="starting_frame has 2 entries for 3 files"):
        locate_frame(video, 3)


def test_series_that_cannot_have_frames_is_refused() -> None:
    images = ImageSeries(name="images", data=np.zeros((3, 4, 4), np.uint8), unit="n.a.", rate=1.0)
    with pytest.raises(ExternalFilesError, match="'images': it has no external files"):
        locate_frame(images, 0)
    with pytest.raises(ExternalFilesError, match="its timestamps are empty"):
        locate_frame(series(timestamps=[], files=["a.mp4"], starting_frame=[0]), time=0.0)
    with pytest.raises(ExternalFilesError, match="no timestamps, and its rate is 0"):
        locate_frame(series(rate=0.0), 1)


def test_counts_to_starting_frames_and_back() -> None:
    assert starting_frames([5, 10, 2]) == STARTS
    assert starting_frames([7]) == [0]
    assert starting_frame_problem(STARTS, 3) is None
    assert starting_frame_problem([], 0) is None


# ------------------------------------------------------------------- read from files


@pytest.fixture
def nwb_path(tmp_path: Path) -> Path:
    """An NWB file with a million timestamps, in compressed chunks."""
    from hdmf.backends.hdf5 import H5DataIO

    nwbfile = new_nwbfile()
    times = H5DataIO(np.arange(1_000_000) / 250, compression="gzip", chunks=(10_000,))
    starts = [0, 400_000, 700_000]
    nwbfile.add_acquisition(series(timestamps=times, starting_frame=starts))
    nwbfile.add_acquisition(series(name="shared", timestamps=nwbfile.acquisition["video"], starting_frame=starts))
    (tmp_path / "b.mp4").write_bytes(b"video")
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    return tmp_path / "a.nwb"


@pytest.mark.parametrize("name", ["video", "shared"])
def test_few_timestamps_are_read_from_a_file(nwb_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read is one element, and there are as many as a binary search needs."""
    reads = []
    plain = h5py.Dataset.__getitem__

    def counted(dataset: h5py.Dataset, key: Any, **kwargs: Any) -> Any:
        value = plain(dataset, key, **kwargs)
        if dataset.name.endswith("/timestamps"):
            reads.append(np.size(value))
        return value

    with NWBHDF5IO(nwb_path, "r") as io:
        video = io.read().acquisition[name]
        monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
        found = locate_frame(video, time=2000.001)
    assert place(found) == (1, "b.mp4", 100_000)
    assert found.time == 2000.0
    assert set(reads) == {1}
    assert len(reads) < 30


def test_path_opens_if_the_series_was_read_with_resolved_media(nwb_path: Path) -> None:
    with NWBExtFilesHDF5IO(nwb_path, "r", resolve_media=True) as io:
        found = locate_frame(io.read().acquisition["video"], 400_000)
    assert Path(found.path).read_bytes() == b"video"


def test_closed_file_is_named_as_the_reason(nwb_path: Path) -> None:
    with NWBHDF5IO(nwb_path, "r") as io:
        video = io.read().acquisition["video"]
    with pytest.raises(UnreadableFileError, match="while the IO is open"):
        locate_frame(video, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_old_file_without_starting_frame_and_number_of_samples(tmp_path: Path) -> None:
    """pynwb before 4.2 wrote a rate without the number of frames; MatNWB and others a file without starting_frame."""
    path = write_nwb(tmp_path / "a.nwb", ["a.mp4"])
    with h5py.File(path, "r+") as file:
        del file["acquisition/video/num_samples"]
        del file["acquisition/video/external_file"].attrs["starting_frame"]
    with NWBHDF5IO(path, "r") as io:
        video = io.read().acquisition["video"]
        assert place(locate_frame(video, 10**9)) == (0, "a.mp4", 10**9)
        assert locate_frame(video, time=4.0).index == 100
        with pytest.raises(ExternalFilesError, match="no frame -1; it has frames from 0 on"):
            locate_frame(video, -1)
        with pytest.raises(ExternalFilesError, match=r"begin at 0\.0 s"):
            locate_frame(video, time=-1.0)


def test_series_in_a_zarr_store(tmp_path: Path) -> None:
    from hdmf_zarr import NWBZarrIO

    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(series(timestamps=GAPS))
    with NWBZarrIO(str(tmp_path / "a.nwb.zarr"), "w") as io:
        io.write(nwbfile)
    with NWBZarrIO(str(tmp_path / "a.nwb.zarr"), "r") as io:
        video = io.read().acquisition["video"]
        assert place(locate_frame(video, time=15.0)) == (1, "b.mp4", 9)
        assert place(locate_frame(video, 16)) == (2, "c.mp4", 1)


def test_subtypes_of_image_series() -> None:
    video = OpticalSeries(
        name="screen", external_file=["a.mp4", "b.mp4"], format="external", starting_frame=[0, 5], num_samples=8,
        rate=10.0, distance=1.0, field_of_view=[1.0, 1.0], orientation="up",
    )  # fmt: skip
    assert place(locate_frame(video, time=0.61)) == (1, "b.mp4", 1)

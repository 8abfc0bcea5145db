"""`image_series_from_videos` on real videos, whose frames ffmpeg counts; h5py reads what is written."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import numpy as np
import pytest
from helpers import assert_resolves, new_nwbfile
from pynwb import NWBHDF5IO, validate
from pynwb.image import ImageSeries
from videos import Videos, decoded_frames, ffmpeg

from nwb_extfiles import (
    ExternalFilesError,
    NWBExtFilesHDF5IO,
    check,
    image_series_from_videos,
    locate_frame,
    resolve_external_files,
)
from nwb_extfiles.errors import MissingMediaError


def jittered(count: int, start: float = 0.0) -> np.ndarray:
    """Times of a camera whose frames are not quite equally spaced."""
    return start + np.arange(count) / 30 + np.random.default_rng(1).uniform(0, 0.01, count)


def write(series: ImageSeries, path: Path, **relocation: Any) -> Path:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(series)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (NWBExtFilesHDF5IO if relocation else NWBHDF5IO)(path, "w") as io:
        io.write(nwbfile, **relocation)
    return path


# ---------------------------------------------------------------- what it says of videos


@pytest.mark.parametrize(
    "name",
    ["b_frames.mp4", "variable_rate.mp4", "fragmented.mp4", "edit_list.mp4", "mjpeg.avi", "remuxed.avi", "h264.mkv",
     "vp9.webm", "no_b_frames.h264"],
)  # fmt: skip
def test_number_of_frames_is_that_of_decoding(all_videos: Videos, name: str) -> None:
    count = decoded_frames(all_videos[name])
    series = image_series_from_videos("video", all_videos[name], timestamps=jittered(count))
    assert series.num_samples == count > 10
    with pytest.raises(ExternalFilesError, match=rf"{count + 1} timestamps for {count} frames"):
        image_series_from_videos("video", all_videos[name], timestamps=jittered(count + 1))


def test_series_of_two_videos(all_videos: Videos) -> None:
    """What a reader finds by index and by time is what the videos hold."""
    files = [all_videos["b_frames.mp4"], all_videos["h264.mkv"]]
    first, second = map(decoded_frames, files)
    times = [jittered(first, 1.0), jittered(second, 100.0)]
    series = image_series_from_videos("face", files, timestamps=times, comments="two parts")
    assert (series.name, series.format, series.comments) == ("face", "external", "two parts")
    assert list(series.external_file) == [str(path) for path in files]
    assert list(series.starting_frame) == [0, first]
    assert list(series.dimension) == [96, 64]
    assert series.description == f"2 videos: h264, 96 x 64 pixels, {first + second} frames"
    assert np.array_equal(series.timestamps, np.concatenate(times))
    assert series.rate is series.starting_time is None
    found = locate_frame(series, time=float(times[1][7]))
    assert (found.path, found.frame, found.index) == (str(files[1]), 7, first + 7)
    flat = image_series_from_videos("face", files, timestamps=np.concatenate(times).tolist())
    assert np.array_equal(flat.timestamps, series.timestamps)


def test_one_video_has_its_own_rate(all_videos: Videos) -> None:
    for name, rate in (("b_frames.mp4", 30.0), ("mjpeg.avi", 30.0), ("h264.mkv", 30.0), ("ntsc.mov", 30_000 / 1001)):
        series = image_series_from_videos("video", all_videos[name], starting_time=2.5)
        assert (series.rate, series.starting_time, series.timestamps) == (rate, 2.5, None)


def test_rate_that_is_given_counts(all_videos: Videos) -> None:
    """High-speed cameras write 30 frames a second into files of many more; elementary streams state none."""
    files = [all_videos[name] for name in ("b_frames.mp4", "no_b_frames.h264")]
    series = image_series_from_videos("video", files, rate=500, starting_time=1)
    assert (series.rate, series.starting_time, series.num_samples) == (500.0, 1.0, sum(map(decoded_frames, files)))


@pytest.mark.parametrize("rate", [30, 29.97, 30_000 / 1001, 250.125])
def test_regular_timestamps_become_a_rate(all_videos: Videos, rate: float) -> None:
    """nwbinspector advises so; no time changes by a nanosecond."""
    times = 17.25 + np.arange(60) / rate
    series = image_series_from_videos("video", all_videos["b_frames.mp4"], timestamps=times)
    assert series.timestamps is None
    assert series.rate == pytest.approx(rate, rel=1e-12)
    assert np.allclose(np.arange(60) / series.rate + series.starting_time, times, rtol=0, atol=1e-9)


def test_camera_is_linked(all_videos: Videos, tmp_path: Path) -> None:
    nwbfile = new_nwbfile()
    camera = nwbfile.create_device(name="camera", description="top view")
    video = all_videos["b_frames.mp4"]
    nwbfile.add_acquisition(
        image_series_from_videos("video", video, device=camera, description="the maze", unit="a.u.")
    )
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    with h5py.File(tmp_path / "a.nwb") as file:
        series = file["acquisition/video"]
        assert series["device"].attrs["description"] == "top view"
        assert (series.attrs["description"], series["data"].attrs["unit"]) == ("the maze", "a.u.")


def test_progress_is_reported_in_bytes(all_videos: Videos) -> None:
    files = [all_videos["b_frames.mp4"], all_videos["h264.mkv"]]
    seen: list[tuple[int, int]] = []
    image_series_from_videos("video", files, rate=30, progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in files)
    assert seen[-1] == (total, total)
    assert len(seen) > 10


# ---------------------------------------------------------------- written


@pytest.mark.parametrize("times", ["rate", "timestamps", "regular timestamps"])
def test_written_series_is_valid_and_nothing_complains(all_videos: Videos, tmp_path: Path, times: str) -> None:
    """Moved into DANDI's layout on write; pynwb, nwbinspector and `check` find nothing wrong with the series."""
    from nwbinspector import inspect_nwbfile

    files = [Path(shutil.copy(all_videos[name], tmp_path)) for name in ("b_frames.mp4", "fragmented.mp4")]
    given: dict[str, Any] = {
        "rate": dict(rate=30.0),
        "timestamps": dict(timestamps=[jittered(60), jittered(60, 10.0)]),
        "regular timestamps": dict(timestamps=np.arange(120) / 30),
    }[times]
    series = image_series_from_videos("video", files, **given)
    path = write(series, tmp_path / "sub-m" / "sub-m_image.nwb", relocate_media=True, media_mode="copy")

    with h5py.File(path) as file:
        video = file["acquisition/video"]
        paths = [stored.decode() for stored in video["external_file"][()]]
        assert video["external_file"].attrs["starting_frame"].tolist() == [0, 60]
        assert video["num_samples"][()] == 120
        assert video["dimension"][()].tolist() == [96, 64]
        assert video["format"][()] == b"external"
        assert ("timestamps" in video) == (times == "timestamps")
    assert paths == [f"sub-m_image/{series.object_id}_external_file_{number}.mp4" for number in (0, 1)]
    assert_resolves(path, files)
    assert validate(path=str(path)) == []
    about_it = [message for message in inspect_nwbfile(path) if "video" in str(message.location)]
    assert about_it == []
    assert list(check(path)) == []


def test_relative_paths_stay_as_they_are_given(
    all_videos: Videos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, and in what pynwb writes; on relocation they mean files below the working directory."""
    (tmp_path / "raw").mkdir()
    shutil.copy(all_videos["b_frames.mp4"], tmp_path / "raw")
    monkeypatch.chdir(tmp_path)
    series = image_series_from_videos("video", "raw/b_frames.mp4")
    assert list(series.external_file) == ["raw/b_frames.mp4"]
    (entry,) = resolve_external_files(write(series, tmp_path / "plain.nwb"))
    assert entry.reference.stored_path == "raw/b_frames.mp4"
    again = image_series_from_videos("video", "raw/b_frames.mp4")
    path = write(again, tmp_path / "out" / "a.nwb", relocate_media=True, media_mode="copy")
    assert_resolves(path, [tmp_path / "raw" / "b_frames.mp4"])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("names", "given", "what"),
    [
        ([], {}, "no files were given"),
        (["b_frames.mp4"], dict(timestamps=[0.0, 1.0]), "2 timestamps for 60 frames"),
        (
            ["b_frames.mp4", "h264.mkv"],
            dict(timestamps=[np.arange(59) / 30, np.arange(61) / 30 + 5]),
            r"120 timestamps for 120 frames \('\S+b_frames.mp4': 60 frames, 59 timestamps; "
            r"'\S+h264.mkv': 60 frames, 61 timestamps\); give one timestamp for each frame",
        ),
        (["b_frames.mp4", "h264.mkv"], dict(timestamps=[[0.0]]), "1 arrays of timestamps were given for 2 files"),
        (["b_frames.mp4"], dict(timestamps=np.zeros((1, 60, 2))), r"timestamps have the shapes \[\(60, 2\)\]"),
        (["edit_list.mp4"], dict(timestamps=np.arange(60) / 30), r"its edit list hides \d+ more"),
        (["b_frames.mp4"], dict(timestamps=[*range(59), 3]), r"timestamps\[59\] is 3.0 after 58.0"),
        (["b_frames.mp4"], dict(timestamps=[np.nan, *range(59)]), r"timestamps\[0\] is nan"),
        (["b_frames.mp4"], dict(timestamps=np.arange(60), rate=30), "timestamps were given together with a rate"),
        (["b_frames.mp4"], dict(timestamps=np.arange(60), starting_time=3.0), "together with a rate or starting_time"),
        (["b_frames.mp4"], dict(rate=0), "the rate is 0"),
        (["b_frames.mp4"], dict(rate=30, starting_time=np.nan), "the starting_time is nan; expected seconds"),
        (["b_frames.mp4"], dict(starting_time=-np.inf), "the starting_time is -inf"),
        (["b_frames.mp4", "rotated.mp4"], dict(rate=30), r"b_frames.mp4': 96 x 64; '\S+rotated.mp4': 64 x 96"),
        (["b_frames.mp4", "h264.mkv"], {}, "2 videos, and nothing says how long the gaps .* a rate"),
        (["no_b_frames.h264"], {}, "does not state its rate; give rate or timestamps"),
        (["remuxed.avi"], {}, "does not state its rate"),
        (["variable_rate.mp4"], {}, r"not equally spaced: one is \d+\.\d frames from"),
        (["cut_off.mkv"], dict(rate=30), r"'\S+cut_off.mkv' is cut off"),
        (["cut_off.avi"], dict(rate=30), r"'\S+cut_off.avi' is cut off"),
        (["cut_off.mp4"], dict(rate=30), r"external_file\[0\]: '\S+cut_off.mp4' is cut off"),
        (["no_index.mp4"], dict(rate=30), "ends before its index; its copy broke off"),
        (["no_frames.avi"], dict(rate=30), "has no frames"),
        (["empty.mp4"], dict(rate=30), "'.*empty.mp4' is empty"),
        (["playlist.mp4"], dict(rate=30), "is not a video of a known format"),
    ],
)
def test_what_cannot_be_right_is_refused(
    all_videos: Videos, names: list[str], given: dict[str, Any], what: str
) -> None:
    with pytest.raises(ExternalFilesError, match=what) as caught:
        image_series_from_videos("video", [all_videos[name] for name in names], **given)
    assert "ImageSeries 'video'" in str(caught.value)


def test_all_bad_files_are_named_at_once(all_videos: Videos, tmp_path: Path) -> None:
    files = [all_videos["b_frames.mp4"], all_videos["playlist.mp4"], tmp_path / "gone.mp4", "https://a.org/b.mp4"]
    with pytest.raises(ExternalFilesError) as caught:
        image_series_from_videos("video", files, rate=30)
    problems = caught.value.problems
    assert [problem.index for problem in problems] == [1, 2, 3]
    assert [isinstance(problem, MissingMediaError) for problem in problems] == [False, True, False]
    assert "is a URL, whose frames cannot be counted; download it" in str(problems[2])


@pytest.mark.parametrize(
    ("filters", "what"),
    [
        ("scale=96:48", r"different sizes \('\S+': 96 x 64; '\S+': 96 x 48\); make a series of each"),
        ("fps=15", r"different rates \('\S+': 30 frames/s; '\S+': 15 frames/s\); give timestamps"),
    ],
)
def test_videos_that_are_not_one_series_are_refused(
    all_videos: Videos, tmp_path: Path, filters: str, what: str
) -> None:
    ffmpeg("-i", all_videos["b_frames.mp4"], "-vf", filters, "-c:v", "mpeg4", tmp_path / "other.mp4")
    with pytest.raises(ExternalFilesError, match=what):
        image_series_from_videos("video", [all_videos["b_frames.mp4"], tmp_path / "other.mp4"], rate=30)


@pytest.mark.parametrize(
    ("times", "codec", "problem", "hint"),
    [
        ("2*N", "mpeg4", r"a rate of 30 frames/s, .* frames come at 15\.0\d* frames/s", "give rate or timestamps"),
        ("N+60*eq(N\\,59)", "libx264", r"not equally spaced: one is 29\.\d frames from where", "give timestamps"),
    ],
    ids=["half the rate", "a gap before the last frame"],
)
def test_rate_that_the_times_of_the_frames_contradict_is_refused(
    all_videos: Videos, tmp_path: Path, times: str, codec: str, problem: str, hint: str
) -> None:
    """The header of an mkv states the rate that the camera was set to."""
    video = tmp_path / "video.mkv"
    filters = ["-vf", f"settb=1/30,setpts={times}", "-fps_mode", "passthrough"]
    ffmpeg("-i", all_videos["b_frames.mp4"], *filters, "-c:v", codec, video)
    said = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", video], capture_output=True, text=True).stderr
    assert "30 fps" in said
    with pytest.raises(ExternalFilesError, match=problem) as caught:
        image_series_from_videos("video", video)
    assert caught.value.hint == hint
    assert image_series_from_videos("video", video, rate=30).rate == 30  # the user knows better


def test_the_page_about_series_does_what_it_says(
    all_videos: Videos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its blocks of Python, word for word, in a session of two videos."""
    page = (Path(__file__).parents[1] / "docs" / "howto" / "series.md").read_text(encoding="utf-8")
    make, find, _ = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    for number in (0, 1):
        shutil.copy(all_videos["b_frames.mp4"], f"raw/face_{number}.mp4")
        np.save(f"raw/times_{number}.npy", jittered(60, 12 * number))
    nwbfile = new_nwbfile()
    names = dict(nwbfile=nwbfile, camera=nwbfile.create_device(name="camera"))
    exec(make, names)
    exec(find, names)
    path, frame, time = capsys.readouterr().out.split()
    assert Path(path).name.endswith("_external_file_1.mp4")
    assert int(frame) == 14  # the next one is recorded a few milliseconds after 12.5 s
    assert 12.4 < float(time) < 12.5

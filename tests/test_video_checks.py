"""What `check` says of real videos and their series: each problem is found, and nothing else is reported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import image_series, new_nwbfile, set_paths, tree
from pynwb import NWBHDF5IO
from pynwb.base import ExternalImage, Images
from videos import WHOLE, Videos, decoded_frames, ffmpeg

from nwb_extfiles import check
from nwb_extfiles.cli import main
from nwb_extfiles.tasks.check.findings import Finding, Severity
from nwb_extfiles.testing import make_image

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
OF_PATHS = {"nonstandard-name", "suffix", "same-media", "empty", "url", "missing"}
HOW = ("index", "packets", "decode")
REMARKS = {
    "gaps": {"variable_rate.mp4"},
    "hidden-frames": {"edit_list.mp4"},
    "rotated": {"rotated.mp4"},
    "several-videos": {"two_videos.mp4"},
}


Make = Callable[..., Path]


@pytest.fixture
def session(tmp_path: Path, all_videos: Videos) -> Make:
    """Write an NWB file with one series of copies of videos; further arguments are those of ImageSeries."""

    def make(*names: str, **series: Any) -> Path:
        stored = [f"{number}_{name}" for number, name in enumerate(names)]
        for place, name in zip(stored, names, strict=True):
            shutil.copy(all_videos[name], tmp_path / place)
        return write(tmp_path / "a.nwb", image_series(stored, **series))

    return make


def write(path: Path, *containers: Any) -> Path:
    nwbfile = new_nwbfile()
    for one in containers:
        nwbfile.add_acquisition(one)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def timestamps(count: int) -> dict[str, Any]:
    return dict(timestamps=np.arange(count) / 30, rate=None, num_samples=None)


def findings(path: Path, how: str | None = "index") -> list[Finding]:
    """What is said of videos and series; the other checks have tests of their own."""
    before = tree(path.parent)
    found = [finding for finding in check(path, frames=how) if finding.code not in OF_PATHS]
    assert tree(path.parent) == before
    return found


def problems(path: Path, how: str = "index") -> list[tuple[str, Severity, int | None]]:
    found = [finding for finding in findings(path, how) if finding.severity is not INFO]
    for finding in found:
        assert finding.nwb_path == str(path)
        assert finding.object_path == "/acquisition/video"
        assert finding.hint
    return [(finding.code, finding.severity, finding.index) for finding in found]


# ------------------------------------------------------------- no false alarms


@pytest.fixture(scope="module")
def intact(all_videos: Videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NWB file with each complete video, in a series with timestamps and one with a rate, and several in one."""
    folder = tmp_path_factory.mktemp("intact")
    series = []
    for name in (*WHOLE, "opendml.avi"):
        shutil.copy(all_videos[name], folder)
        counts = {decoded_frames(all_videos[name]), decoded_frames(all_videos[name], hidden=True)}
        for count in counts:
            label = f"{name.replace('.', '_')}_{count}"
            series.append(image_series([name], label, dimension=[96, 64], **timestamps(count)))
            series.append(image_series([name], f"{label}_rate", dimension=[64, 96], num_samples=count, rate=500.0))
        series.append(image_series([name], f"{label}_uncounted", num_samples=7, rate=30.0))
    names = ["b_frames.mp4", "mpeg4.avi", "fragmented.mp4"]
    series.append(image_series(names, "one_after_the_other", starting_frame=[0, 60, 120], num_samples=180))
    series.append(image_series(["https://example.org/a.mp4", "b_frames.mp4"], "remote", starting_frame=[0, 0]))
    path = write(folder / "a.nwb", *series)
    with h5py.File(path, "r+") as file:  # as older versions of pynwb write it
        for name in file["acquisition"]:
            if name.endswith("uncounted"):
                del file[f"acquisition/{name}/num_samples"]
    return path


@pytest.mark.parametrize("how", HOW)
def test_intact_videos_have_no_problems(intact: Path, how: str) -> None:
    found = findings(intact, how)
    assert [(finding.code, finding.where) for finding in found if finding.severity is not INFO] == []
    said = {code: {finding.stored_path for finding in found if finding.code == code} for code in REMARKS}
    expected = REMARKS | ({"gaps": set()} if how == "index" else {})
    assert said == expected
    assert {finding.code for finding in found} == {*(code for code in REMARKS if said[code]), "not-playable"}


def test_playable_videos_are_not_called_unplayable(intact: Path) -> None:
    unplayable = {finding.stored_path for finding in findings(intact) if finding.code == "not-playable"}
    assert not unplayable & {"b_frames.mp4", "vp9.webm", "vp8.webm", "h264.mov", "rotated.mp4", "sound.mp4"}
    assert unplayable >= {"mpeg4.avi", "mpeg4.mp4", "ffv1.mkv", "b_frames.h264", "wmv2.wmv"}


def test_intact_file_pleases_pynwb_and_nwbinspector(intact: Path) -> None:
    with NWBHDF5IO(intact, "r") as io:
        series = io.read().acquisition["one_after_the_other"]
        assert series.num_samples == 180
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        from nwbinspector import Importance, inspect_nwbfile

        critical = [
            message.check_function_name
            for message in inspect_nwbfile(nwbfile_path=intact)
            if message.importance.value >= Importance.CRITICAL.value
            and message.object_name != "remote"
            and "num_samples" not in message.message
        ]
    assert critical == []


# ----------------------------------------------------------------- the counts


@pytest.mark.parametrize("name", ["b_frames.mp4", "mpeg4.avi", "fragmented.mp4", "remuxed.avi", "h264.mov"])
@pytest.mark.parametrize("how", HOW)
def test_lost_frames_are_found(session: Make, name: str, how: str) -> None:
    path = session(name, **timestamps(64))
    assert problems(path, how) == [("frames-missing", ERROR, 0)]
    (finding,) = [finding for finding in findings(path, how) if finding.code == "frames-missing"]
    assert "64 timestamps" in finding.message
    assert "60 frames: 4 are missing" in finding.message


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm", "h264.ts", "b_frames.h264", "wmv2.wmv", "flv1.flv"])
def test_videos_without_index_are_counted_by_packets(session: Make, name: str) -> None:
    path = session(name, num_samples=64)
    assert problems(path, "index") == []
    assert problems(path, "packets") == [("frames-missing", ERROR, 0)]


@pytest.mark.parametrize("series", [dict(num_samples=56), timestamps(56)])
def test_frames_left_over(session: Make, series: dict[str, Any]) -> None:
    path = session("b_frames.mp4", **series)
    assert problems(path) == [("frames-left-over", WARNING, 0)]
    (message,) = [finding.message for finding in findings(path)]
    assert "56" in message
    assert "60 frames: 4 have no time" in message


def test_timestamps_count_before_num_samples(session: Make) -> None:
    path = session("b_frames.mp4", **timestamps(60))
    with h5py.File(path, "r+") as file:
        file["acquisition/video/num_samples"] = np.uint32(64)
    assert problems(path) == []


def test_linked_timestamps_are_counted(session: Make) -> None:
    path = session("b_frames.mp4", **timestamps(64))
    with h5py.File(path, "r+") as file:
        file.move("acquisition/video/timestamps", "acquisition/times")
        file["acquisition/video/timestamps"] = h5py.SoftLink("/acquisition/times")
    assert problems(path) == [("frames-missing", ERROR, 0)]


def test_hidden_frames_may_count_or_not(session: Make, all_videos: Videos) -> None:
    shown, stored = (decoded_frames(all_videos["edit_list.mp4"], hidden=hidden) for hidden in (False, True))
    assert shown < stored
    for samples, expected in (
        (shown - 1, [("frames-left-over", WARNING, 0)]),
        (shown, []),
        (stored, []),
        (stored + 1, [("frames-missing", ERROR, 0)]),
    ):
        assert problems(session("edit_list.mp4", num_samples=samples)) == expected


def test_frames_of_all_files_are_added_up(session: Make) -> None:
    names = ("b_frames.mp4", "mpeg4.avi")
    assert problems(session(*names, starting_frame=[0, 60], num_samples=120)) == []
    path = session(*names, starting_frame=[0, 60], num_samples=121)
    assert problems(path) == [("frames-missing", ERROR, None)]
    assert "(60 + 60)" in next(finding.message for finding in findings(path) if finding.severity is ERROR)


# ------------------------------------------------------------- starting_frame


@pytest.mark.parametrize("wrong", [[0, 0], [0, 50], [5, 65], [60, 0], [0], [0, 60, 120], None])
def test_wrong_starting_frame(session: Make, wrong: list[int] | None) -> None:
    path = session("b_frames.mp4", "mpeg4.avi", starting_frame=[0, 60], num_samples=120)
    with h5py.File(path, "r+") as file:
        attributes = file["acquisition/video/external_file"].attrs
        del attributes["starting_frame"]
        if wrong is not None:
            attributes["starting_frame"] = np.array(wrong, dtype=np.int32)
    assert problems(path) == [("starting-frame", ERROR, None)]
    (hint,) = [finding.hint for finding in findings(path) if finding.severity is ERROR]
    assert hint == "store starting_frame=[0, 60]"
    with h5py.File(path, "r+") as file:
        file["acquisition/video/external_file"].attrs["starting_frame"] = [0, 60]
    assert problems(path) == []


def test_starting_frame_of_videos_that_are_not_counted(session: Make) -> None:
    path = session("h264.mkv", "h264.mkv", starting_frame=[0, 50], num_samples=120)
    assert problems(path, "index") == []
    assert [finding.hint for finding in findings(path, "packets") if finding.severity is ERROR] == [
        "store starting_frame=[0, 60]"
    ]
    path = session("h264.mkv", "h264.mkv", starting_frame=[0, 0], num_samples=120)
    (finding,) = [finding for finding in findings(path, "index") if finding.severity is ERROR]
    assert finding.code == "starting-frame"
    assert "--frames packets" in finding.message.command_line


def test_starting_frame_of_images(tmp_path: Path) -> None:
    """They are not counted, and no advice says that they could be."""
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        make_image(tmp_path / name)
    path = write(tmp_path / "a.nwb", image_series(names, starting_frame=[0, 1, 2], num_samples=3))
    assert findings(path) == []
    with h5py.File(path, "r+") as file:
        file["acquisition/video/external_file"].attrs["starting_frame"] = [0, 0, 0]
    (finding,) = findings(path)
    assert finding.code == "starting-frame"
    assert str(finding.hint).startswith("store the number of the first frame of each file")


def test_starting_frame_may_count_hidden_frames_or_not(session: Make, all_videos: Videos) -> None:
    for hidden in (True, False):
        frames = decoded_frames(all_videos["edit_list.mp4"], hidden=hidden)
        path = session("edit_list.mp4", "mpeg4.avi", starting_frame=[0, frames], num_samples=frames + 60)
        assert problems(path) == []
        path = session("edit_list.mp4", "mpeg4.avi", starting_frame=[0, 0], num_samples=frames + 60)
        assert [finding.hint for finding in findings(path) if finding.severity is ERROR] == [
            f"store starting_frame=[0, {frames}]"
        ]


# ----------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("dimension", "fits"),
    [([96, 64], True), ([64, 96], True), ([64, 96, 3], True), ([97, 64], False), ([6144], False), ([0, 0], True)],
)
def test_dimension_of_another_video(session: Make, dimension: list[int], fits: bool) -> None:
    path = session("b_frames.mp4", dimension=dimension, num_samples=60)
    assert problems(path) == ([] if fits else [("sizes-differ", WARNING, 0)])


def test_rotated_video_has_either_dimension(session: Make) -> None:
    for dimension in ([96, 64], [64, 96]):
        assert problems(session("rotated.mp4", dimension=dimension, num_samples=60)) == []


def test_videos_of_two_sizes_in_one_series(session: Make, tmp_path: Path) -> None:
    path = session("b_frames.mp4", "b_frames.mp4", starting_frame=[0, 60], num_samples=120, dimension=[96, 64])
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=30:duration=2", tmp_path / "1_b_frames.mp4")
    assert problems(path) == [("sizes-differ", WARNING, None)]
    (message,) = [finding.message for finding in findings(path) if finding.severity is WARNING]
    assert "96 x 64" in message
    assert "64 x 48" in message


# ------------------------------------------------------------------ whole or not


@pytest.mark.parametrize("name", ["image.png", "sound.m4a", "playlist.mp4", "text"])
def test_other_content_called_a_video(session: Make, tmp_path: Path, all_videos: Videos, name: str) -> None:
    path = session("b_frames.mp4", num_samples=60)
    if name == "text":
        (tmp_path / "0_b_frames.mp4").write_text("<html>404 Not Found</html>")
    else:
        shutil.copy(all_videos[name], tmp_path / "0_b_frames.mp4")
    assert problems(path) == [("not-a-video", ERROR, 0)]


@pytest.mark.parametrize("how", HOW)
def test_codecs_that_ffmpeg_does_not_know_are_left_alone(session: Make, tmp_path: Path, how: str) -> None:
    """Those of some cameras, which only their makers' programs decode."""
    path = session("mjpeg.avi", num_samples=60)
    content = (tmp_path / "0_mjpeg.avi").read_bytes()
    (tmp_path / "0_mjpeg.avi").write_bytes(content.replace(b"MJPG", b"ZZZZ"))
    assert findings(path, how) == []


@pytest.mark.parametrize("suffix", [".seq", ".tif", ".png", ".dat", ""])
def test_formats_that_are_not_known_here_are_left_alone(session: Make, tmp_path: Path, suffix: str) -> None:
    path = session("b_frames.mp4", num_samples=64)
    (tmp_path / "0_b_frames.mp4").unlink()
    (tmp_path / f"0{suffix}").write_bytes(b"\xfe\xed\0\0Norpix seq" * 100)
    set_paths(path, "acquisition/video/external_file", [f"0{suffix}"], dtype=h5py.string_dtype())
    assert findings(path, "decode") == []


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "name", ["cut_off.mp4", "cut_off_fragments.mp4", "cut_off.avi", "no_index.mp4", "cut_off.mkv", "cut_off.webm"]
)
def test_copies_that_broke_off(session: Make, name: str, how: str) -> None:
    path = session(name, num_samples=60)
    assert [problem for problem in problems(path, how) if problem[0] != "damaged"] == [("cut-off", ERROR, 0)]
    what = findings(path, how)[0].what
    assert "or still being written" in what
    if "promises more" in what:
        assert f"than the {(path.parent / f'0_{name}').stat().st_size:,} bytes" in what
        assert what.endswith("that are there")


def test_video_that_ends_before_its_header_says(session: Make) -> None:
    path = session("cut_off.flv", **timestamps(32))
    assert problems(path) == []
    assert problems(path, "packets") == [("ends-early", WARNING, 0)]


@pytest.mark.parametrize(("name", "code"), [("no_frames.mp4", "not-a-video"), ("no_frames.avi", "no-frames")])
@pytest.mark.parametrize("how", HOW)
def test_videos_without_frames(session: Make, name: str, code: str, how: str) -> None:
    assert problems(session(name, num_samples=60), how) == [(code, ERROR, 0)]


def test_damage_is_found_by_decoding(session: Make, tmp_path: Path) -> None:
    path = session("index_first.mp4", num_samples=60)
    video = tmp_path / "0_index_first.mp4"
    content = bytearray(video.read_bytes())
    middle = len(content) * 6 // 10
    content[middle : middle + 3000] = bytes(3000)
    video.write_bytes(content)
    assert problems(path) == []
    assert ("damaged", ERROR, 0) in problems(path, "decode")


# -------------------------------------------------------------- worth knowing


def test_gaps_matter_only_with_a_rate(session: Make, all_videos: Videos) -> None:
    frames = decoded_frames(all_videos["variable_rate.mp4"])
    (finding,) = findings(session("variable_rate.mp4", num_samples=frames), "packets")
    assert (finding.code, finding.severity) == ("gaps", INFO)
    assert findings(session("variable_rate.mp4", **timestamps(frames)), "packets") == []


def test_elementary_stream_is_called_so(session: Make) -> None:
    (finding,) = [one for one in findings(session("b_frames.h264", num_samples=60)) if one.code == "not-playable"]
    assert finding.what == "not every web browser plays a raw h264 stream"


def test_remarks_come_once_for_a_series(session: Make) -> None:
    names = ["mpeg4.avi", "mjpeg.avi", "b_frames.mp4"]
    found = findings(session(*names, starting_frame=[0, 60, 120], num_samples=180))
    assert [(finding.code, finding.index) for finding in found] == [("not-playable", 0)]
    assert found[0].message.startswith(f"{found[0].what}: true of 2 videos of this series")


def test_file_of_two_series_is_reported_once(session: Make, tmp_path: Path) -> None:
    session("cut_off.mp4")
    series = [image_series(["0_cut_off.mp4"], name, num_samples=60) for name in ("one", "two")]
    found = findings(write(tmp_path / "b.nwb", *series))
    assert [(finding.code, finding.object_path) for finding in found] == [("cut-off", "/acquisition/one")]


# ----------------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("file_format", "said", "expected"),
    [
        ("png", "PNG", []),
        ("png", "png", []),
        ("jpg", "JPEG", []),
        ("gif", "GIF", []),
        ("png", "JPEG", [("image-format", WARNING)]),
        ("jpg", "PNG", [("image-format", WARNING)]),
        ("mp4", "PNG", [("image-format", ERROR)]),
    ],
)
def test_format_of_external_image(
    tmp_path: Path, all_videos: Videos, file_format: str, said: str, expected: list[tuple[str, Severity]]
) -> None:
    if file_format == "mp4":
        shutil.copy(all_videos["b_frames.mp4"], tmp_path / "image.mp4")
    else:
        ffmpeg("-i", all_videos["image.png"], tmp_path / f"image.{file_format}")
    image = ExternalImage(name="image", data=f"image.{file_format}", image_format="PNG")
    path = write(tmp_path / "a.nwb", Images(name="images", description="images", images=[image]))
    with h5py.File(path, "r+") as file:
        file["acquisition/images/image"].attrs["image_format"] = said
    found = findings(path)
    assert [(finding.code, finding.severity) for finding in found] == expected
    for finding in found:
        assert finding.object_path == "/acquisition/images/image"
        assert said in finding.message


# -------------------------------------------------------------------- reading


def test_each_video_is_read_once_a_call(session: Make, tmp_path: Path) -> None:
    path = session("b_frames.mp4", num_samples=60)
    video = tmp_path / "0_b_frames.mp4"
    (tmp_path / "link.mp4").symlink_to(video.name)
    series = [image_series([name], name.partition(".")[0], num_samples=64) for name in (video.name, "link.mp4")]
    other = write(tmp_path / "b.nwb", *series)
    read: list[int] = []
    codes = [finding.code for finding in check([path, other], frames="packets", on_bytes=read.append)]
    assert codes.count("frames-missing") == 2
    assert sum(read) == video.stat().st_size
    assert [*check([path, other], frames="none", on_bytes=read.append)]
    assert sum(read) == video.stat().st_size


def test_missing_and_remote_videos_are_left_to_the_checks_of_paths(tmp_path: Path) -> None:
    stored = ["https://example.org/a.mp4", "gone.mp4"]
    path = write(tmp_path / "a.nwb", image_series(stored, starting_frame=[0, 60], num_samples=120, dimension=[1, 2]))
    with h5py.File(path, "r+") as file:
        file["acquisition/video/external_file"].attrs["starting_frame"] = [0, 0]
    assert findings(path, "decode") == []


def test_odd_series_are_left_alone(session: Make) -> None:
    """Values of types that the schema does not have are no reason to fail, nor to guess."""
    path = session("b_frames.mp4", num_samples=60, dimension=[1, 2])
    with h5py.File(path, "r+") as file:
        group = file["acquisition/video"]
        del group["num_samples"], group["dimension"], group["external_file"].attrs["starting_frame"]
        group["num_samples"] = "sixty"
        group["dimension"] = np.zeros((100, 100))
        group.create_group("timestamps")
        group["external_file"].attrs["starting_frame"] = "0"
    assert problems(path) == []
    with h5py.File(path, "r+") as file:
        group = file["acquisition/video"]
        del group["num_samples"], group["timestamps"]
        group["num_samples"] = h5py.Empty("i4")
        group["timestamps"] = h5py.ExternalLink("gone.nwb", "/x")
    assert problems(path) == []


def test_series_in_zarr_stores_are_compared(session: Make, tmp_path: Path) -> None:
    pytest.importorskip("hdmf_zarr")
    from zarr_makers import write_store

    session("b_frames.mp4", "b_frames.mp4")
    store = write_store(tmp_path / "a.nwb.zarr", ["0_b_frames.mp4", "1_b_frames.mp4"])
    codes = {finding.code for finding in check(store)}
    assert {"frames-left-over", "starting-frame"} <= codes  # 20 samples, the second file from 10


WITHOUT_PYAV = "import sys; sys.modules['av'] = None; from nwb_extfiles.cli import main; main(sys.argv[1:])"


def without_pyav(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_PYAV, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_pyav_one_line_says_how_to_install_it(session: Make, tmp_path: Path) -> None:
    path = session("b_frames.mp4", num_samples=64)
    shutil.copy(path, tmp_path / "b.nwb")
    run = without_pyav("check", tmp_path)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    (number,) = [number for number, line in enumerate(lines) if "PyAV" in line]
    assert lines[number].startswith("INFO videos-not-read: ")
    assert 'pip install "av' in lines[number + 1]
    assert "PyAV" not in without_pyav("check", "--frames", "none", tmp_path).stdout
    for how in HOW:
        run = without_pyav("check", "--frames", how, path)
        assert run.returncode == 1
        assert 'pip install "av' in run.stderr
        assert "Traceback" not in run.stderr


def test_command_line(session: Make) -> None:
    path = session("h264.mkv", num_samples=64)
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0, result.output
    assert "frames-missing" not in result.output
    result = CliRunner().invoke(main, ["check", "--frames", "packets", str(path)])
    assert result.exit_code == 1
    assert "num_samples=64" in result.output
    result = CliRunner().invoke(main, ["check", "--frames", "packets", "--json", str(path)])
    found = {finding["code"]: finding for finding in json.loads(result.stdout)}
    assert found["frames-missing"]["field"] == "external_file"
    assert "60 frames" in found["frames-missing"]["message"]


def test_unknown_way_to_read_is_refused(session: Make) -> None:
    with pytest.raises(ValueError, match="'index', 'packets', 'decode' or 'none'"):
        list(check(session("b_frames.mp4"), frames="fast"))  # type: ignore[arg-type]

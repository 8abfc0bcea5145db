"""The tutorials of the documentation, each in a process of its own, judged by what is on disk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from helpers import digest, play, stored_paths

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
ACQUISITION = "acquisition/behavior_video/external_file"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.name == "nt", reason="the cluster of the tutorial starts on Linux and macOS"),
]


def run(name: str, folder: Path) -> tuple[Path, str]:
    """Run a tutorial, and give the folder that it has made and what it has printed."""
    working, temporary = folder / "working", folder / "temporary"
    working.mkdir()
    temporary.mkdir()
    script = shutil.copy(GALLERY / f"{name}.py", folder)
    environment = {**os.environ, "TMPDIR": str(temporary), "MPLBACKEND": "agg", "DANDI_NO_ET": "1"}
    done = subprocess.run([sys.executable, script], cwd=working, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(working.iterdir())
    (lab,) = temporary.glob("*/lab")
    return lab, done.stdout


def assert_same_videos(nwb_path: Path, dataset: str, videos: list[Path]) -> None:
    paths = stored_paths(nwb_path, dataset)
    assert [digest(nwb_path.parent / text) for text in paths] == [digest(video) for video in videos]
    for text in paths:
        assert text.startswith(f"{nwb_path.stem}/")
        assert not (nwb_path.parent / text).is_symlink()
        assert play(nwb_path.parent / text) == 25


def test_every_gallery_example_is_tested() -> None:
    """A tutorial that is added is run here too."""
    source = Path(__file__).read_text()
    assert [path.stem for path in GALLERY.glob("plot_*.py") if f'run("{path.stem}"' not in source] == []


def test_export_example(tmp_path: Path) -> None:
    lab, said = run("plot_1_export", tmp_path)
    videos = [lab / "video_files" / name for name in ("test1_0.avi", "test1_1.avi")]
    assert_same_videos(lab / "dandiset/sub-mouse0/sub-mouse0_ses-sessionid0_image.nwb", ACQUISITION, videos)
    assert stored_paths(lab / "plain/sub-mouse0/mouse0.nwb", ACQUISITION)[0] == "../video_files/test1_0.avi"
    assert "-> nothing" in said
    assert "give relocate_media=True" in said


def test_dandi_example(tmp_path: Path) -> None:
    lab, said = run("plot_2_dandi", tmp_path)
    for number in (0, 1):
        videos = [lab / "video_files" / f"test{number + 1}_{index}.avi" for index in (0, 1)]
        nwb_path = lab / f"000000/sub-mouse{number}/sub-mouse{number}_ses-sessionid{number}_image.nwb"
        assert_same_videos(nwb_path, ACQUISITION, videos)
    assert said == ""
    page = (GALLERY / "plot_2_dandi.py").read_text(encoding="utf-8")
    shown = "".join(re.findall(r"(?m)^# \.\. code-block:: console\n#\n((?:#(?:    .*)?\n)+)", page))
    session = (lab.parent / "session.txt").read_text(encoding="utf-8")
    assert session.count("$ ") == 11
    assert str(lab) not in session
    assert without_chance(session) == without_chance(re.sub(r"(?m)^#(    )?", "", shown))


def without_chance(session: str) -> str:
    """A session without what differs each time: object_ids, the sizes of NWB files, empty lines between commands."""
    said = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<object_id>", session)
    said = re.sub(r"(?m)(^copy|NWB files copied) +\(?[\d,]+ bytes", r"\1 <size>", said)
    return re.sub(r"\n\n+(?=\$|\Z)", "\n", said)


def test_neuroconv_example(tmp_path: Path) -> None:
    pytest.importorskip("neuroconv")
    lab, _ = run("plot_3_neuroconv", tmp_path)
    videos = [lab / "raw" / f"top_{number}.avi" for number in (0, 1)]
    for name in ("dandiset/sub-mouse0/sub-mouse0_ses-maze1_image.nwb", "second/maze1.nwb"):
        assert_same_videos(lab / name, "acquisition/top/external_file", videos)


def test_bare_names_example(tmp_path: Path) -> None:
    lab, _ = run("plot_4_bare_names", tmp_path)
    videos = sorted((lab / "server/20240101").iterdir())
    for video in videos:
        dataset = f"processing/video_files/video/{video.name}/external_file"
        assert_same_videos(lab / "dandiset/sub-rat1/sub-rat1_ses-20240101_image.nwb", dataset, [video])
        assert stored_paths(lab / "rat1_20240101.nwb", dataset) == [f"server/20240101/{video.name}"]


def test_other_machine_example(tmp_path: Path) -> None:
    lab, said = run("plot_5_other_machine", tmp_path)
    videos = [lab / f"server/videos/mouse0/video_{number}.avi" for number in (0, 1)]
    assert_same_videos(lab / "arena.nwb", ACQUISITION, videos)
    assert "2 problems; nothing was changed" in said
    assert "0 problems" in said


def test_cluster_example(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    lab, said = run("plot_6_cluster", tmp_path)
    for number in range(8):
        nwb_path = lab / f"dandiset/sub-mouse{number % 2}/sub-mouse{number % 2}_ses-day{number}_image.nwb"
        assert_same_videos(nwb_path, ACQUISITION, [lab / "videos" / f"{number}.avi"])
    assert "8 of 8 NWB files" in said
    assert "0 problems" in said


def test_zarr_example(tmp_path: Path) -> None:
    pytest.importorskip("hdmf_zarr")
    lab, _ = run("plot_7_zarr", tmp_path)
    videos = [lab / "video_files" / name for name in ("test1_0.avi", "test1_1.avi")]
    assert_same_videos(lab / "back/mouse0.nwb", ACQUISITION, videos)
    beside = lab / "dandiset/sub-mouse0/sub-mouse0_ses-sessionid0_image"
    assert sorted(map(digest, beside.iterdir())) == sorted(map(digest, videos))


def test_right_video_example(tmp_path: Path) -> None:
    lab, said = run("plot_8_right_video", tmp_path)
    lines = [line for line in said.splitlines() if "29 timestamps" in line]
    found = [line.split(": ")[:2] for line in lines]
    face, body = ["error", "/acquisition/face"], ["error", "/acquisition/body"]
    assert found == [face, body, face]  # by the index, and by packets
    assert said.endswith("no problems are left\n")
    with h5py.File(lab / "arena.nwb", "r") as file:
        for name, video in (("face", "face.avi"), ("body", "body.mkv")):
            assert len(file[f"acquisition/{name}/timestamps"]) == play(lab / video) == 25
            assert file[f"acquisition/{name}/timestamps"].attrs["unit"] == "seconds"

"""Folders in which letter case does not count, as on Windows and macOS, and names as macOS writes them.

exFAT is such a file system that Linux can mount. What the tests see on it holds for NTFS and APFS as far as it is a
matter of letter case.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from helpers import assert_resolves, digest, make_file, stored_paths, tree, write_nwb
from mounts import loop
from pynwb import NWBHDF5IO
from recordings import recording

from nwb_extfiles import ExternalFilesError, NWBExtFilesHDF5IO, check, organize, relocate, restore

NFC, NFD = "caf\u00e9", "cafe\u0301"
"""One name as most systems write it, and as macOS' older file systems do."""


@pytest.fixture
def stick() -> Iterator[Path]:
    """An exFAT file system; letter case does not count, and is kept."""
    with loop("exfat") as place:
        (place / "probe").touch()
        assert (place / "PROBE").exists()
        (place / "probe").unlink()
        yield place


def test_paths_in_another_letter_case_resolve(stick: Path) -> None:
    (stick / "Videos").mkdir()
    videos = [make_file(stick / "Videos" / name) for name in ("Cam1.avi", "cam2.avi")]
    path = write_nwb(stick / "a.nwb", ["videos/CAM1.avi", "VIDEOS/cam2.AVI"])
    assert not [finding for finding in check(path, frames="none") if finding.code == "missing"]
    relocate(path, "copy")
    assert_resolves(path, videos)


@pytest.mark.parametrize("mode", ["reference", "copy"])
def test_new_paths_have_the_letter_case_of_the_disk(stick: Path, mode: str) -> None:
    """So they are still right when all is copied to a disk on which letter case counts."""
    (stick / "Videos").mkdir()
    (stick / "q").mkdir()
    make_file(stick / "Videos" / "cam2.AVI")
    path = write_nwb(stick / "Q.nwb", ["VIDEOS/CAM2.avi"])
    relocate(path, mode)
    (stored,) = stored_paths(path)
    assert stored in {place.relative_to(stick).as_posix() for place in stick.rglob("*")}


def test_new_media_where_letter_case_counts_have_names_of_their_own(tmp_path: Path) -> None:
    """Also beside files whose names differ in nothing else."""
    (tmp_path / "a").mkdir()
    videos = [make_file(tmp_path / name) for name in ("one.avi", "two.avi")]
    shutil.copyfile(videos[0], tmp_path / "a" / "one.avi")
    for name in ("ONE.AVI", "Two.avi"):
        (tmp_path / "a" / name).write_bytes(b"of others")
    path = write_nwb(tmp_path / "a.nwb", ["one.avi", "two.avi"])
    names = [PurePosixPath("a", video.name) for video in videos]
    relocate(path, "copy", media_options={"naming": lambda index, **_: names[index]})
    assert_resolves(path, videos)


def test_one_video_in_two_letter_cases_is_one_file(stick: Path) -> None:
    """A move removes it once, and both references get it."""
    (stick / "Videos").mkdir()
    content = digest(make_file(stick / "Videos" / "Cam1.avi"))
    path = write_nwb(stick / "a.nwb", ["videos/cam1.avi", "Videos/CAM1.AVI"])
    relocate(path, "move")
    assert [digest(stick / stored) for stored in stored_paths(path)] == [content] * 2
    assert not any((stick / "Videos").iterdir())


@pytest.mark.filterwarnings("ignore:.*both are one file, seen through two paths")
def test_nwb_file_renamed_in_letter_case_keeps_its_videos(stick: Path) -> None:
    """The media folder of the new name is that of the old one."""
    video = make_file(stick / "cam.avi")
    content = digest(video)
    relocate(write_nwb(stick / "b.nwb", ["cam.avi"]), "move")
    path = (stick / "b.nwb").rename(stick / "B.nwb")
    relocate(path, "move")
    assert [digest(stick / stored) for stored in stored_paths(path)] == [content]


def test_export_over_a_file_in_another_letter_case(stick: Path, tmp_path: Path) -> None:
    """It replaces the file, as with pynwb; the media are those of the new one."""
    videos = [make_file(tmp_path / "cam.avi")]
    source = write_nwb(tmp_path / "a.nwb", ["cam.avi"])
    for name in ("one.nwb", "ONE.nwb"):
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(stick / name, "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="copy")
        assert_resolves(stick / name, videos)
    assert len(list(stick.glob("*.nwb"))) == 1
    assert len(list(stick.rglob("*.avi"))) == 1


def restored(tmp_path: Path, names: list[str], place: Path) -> None:
    """Restore videos with these original names, and check that each is there under its own."""
    videos = [make_file(tmp_path / name, 1000) for name in names]
    path = write_nwb(tmp_path / "a.nwb", names)
    relocate(path, "copy", media_options={"manifest": True})
    restore(path, place / "mine")
    assert_resolves(place / "mine" / "a.nwb", videos)
    assert [Path(stored).name for stored in stored_paths(place / "mine" / "a.nwb")] == names


def test_restored_names_that_differ_in_letter_case(stick: Path, tmp_path: Path) -> None:
    restored(tmp_path, ["cam.avi", "Cam.avi"], stick)


@pytest.mark.filterwarnings("ignore:.*differ")
def test_restored_names_that_differ_in_normalization(tmp_path: Path) -> None:
    """On macOS they are one name: each gets a folder of its own."""
    restored(tmp_path, [f"{NFC}.avi", f"{NFD}.avi"], tmp_path)
    assert len({path.parent for path in (tmp_path / "mine").rglob("*.avi")}) == 2


def test_organize_overwrites_no_file_that_differs_in_letter_case(stick: Path, tmp_path: Path) -> None:
    for name, subject in (("x", "m1"), ("y", "M1")):
        recording(tmp_path / f"{name}.nwb", [f"{name}.avi"], subject=subject)
    before = tree(tmp_path)
    with pytest.raises(ExternalFilesError, match="which are one name in"):
        organize([tmp_path], stick / "ds", files_mode="copy", media_mode="copy")
    assert tree(tmp_path) == before
    assert not list(stick.iterdir())
    assert len(organize([tmp_path], tmp_path / "ds", files_mode="copy", media_mode="copy")) == 2


@pytest.mark.parametrize("mode", ["copy", "move", "reference"])
@pytest.mark.parametrize(("stored", "on_disk"), [(NFC, NFD), (NFD, NFC)])
def test_videos_whose_folder_is_in_another_normalization(tmp_path: Path, stored: str, on_disk: str, mode: str) -> None:
    """As after a copy from macOS: nobody sees the difference, and the video is found."""
    (tmp_path / on_disk).mkdir()
    content = digest(make_file(tmp_path / on_disk / "a.avi"))
    path = write_nwb(tmp_path / "nwb" / "a.nwb", [f"../{stored}/a.avi"])
    relocate(path, mode)
    ((new),) = stored_paths(path)
    assert digest(path.parent / new) == content

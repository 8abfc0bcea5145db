"""What `check` says of names that the archive, Windows or macOS cannot have, or take for others."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from helpers import write_nwb
from makers import make_media
from mounts import loop

import nwb_extfiles
from nwb_extfiles.tasks.check.findings import Severity

check = partial(nwb_extfiles.check, frames="none")
OTHER = {"nonstandard-name", "suffix"}


def findings_of(path: Path) -> list[tuple[str, Severity, str | None]]:
    return [(entry.code, entry.severity, entry.stored_path) for entry in check(path) if entry.code not in OTHER]


def scene(folder: Path, nwb_name: str, stored_path: str, dandiset: bool = True) -> Path:
    """An NWB file in a dandiset, with one video."""
    path = write_nwb(folder / nwb_name, [stored_path])
    make_media(path.parent / stored_path)
    if dandiset:
        (folder / "dandiset.yaml").write_text("identifier: DANDI:000000\n")
    return path


@pytest.mark.parametrize("stored_path", ["käfig.avi", "a'b.avi", "käfig/a.avi", "a..b.avi", "a%20b.avi"])
def test_media_path_that_the_archive_refuses(tmp_path: Path, stored_path: str) -> None:
    path = scene(tmp_path, "sub-a/sub-a.nwb", stored_path)
    assert findings_of(path) == [("asset-path", Severity.ERROR, stored_path)]
    (tmp_path / "dandiset.yaml").unlink()  # `organize` gives it another name
    assert findings_of(path) == []


@pytest.mark.parametrize("nwb_name", ["sub-Mäuse-1/sub-a.nwb", "sub-a/sub-Mäuse.nwb"])
def test_nwb_path_that_the_archive_refuses_is_reported_once(tmp_path: Path, nwb_name: str) -> None:
    path = scene(tmp_path, nwb_name, "a.avi")
    assert findings_of(path) == [("asset-path", Severity.ERROR, None)]
    (finding,) = [finding for finding in check(path) if finding.code == "asset-path"]
    assert "Mäuse" in str(finding.found)


def test_folder_of_the_dandiset_itself_may_have_any_name(tmp_path: Path) -> None:
    assert findings_of(scene(tmp_path / "Mäuse: 1", "sub-a/sub-a.nwb", "a.avi")) == []


@pytest.mark.parametrize("dandiset", [True, False])
@pytest.mark.parametrize("stored_path", ["aux.avi", "com1/a.avi", "NUL"])
def test_media_name_that_windows_reserves(tmp_path: Path, stored_path: str, dandiset: bool) -> None:
    path = scene(tmp_path, "sub-a/sub-a.nwb", stored_path, dandiset)
    assert findings_of(path) == [("unportable-name", Severity.WARNING, stored_path)]


def test_nwb_name_that_windows_reserves(tmp_path: Path) -> None:
    path = scene(tmp_path, "sub-a/nul.nwb", "a.avi")
    assert findings_of(path) == [("unportable-name", Severity.WARNING, None)]


@pytest.mark.parametrize(("stored_path", "there"), [("A.AVI", "a.avi"), ("Videos/a.avi", "videos/A.avi")])
def test_file_whose_name_differs_in_case_is_named(tmp_path: Path, stored_path: str, there: str) -> None:
    path = write_nwb(tmp_path / "sub-a.nwb", [stored_path])
    place = make_media(tmp_path / there)
    (finding,) = check(path)
    assert (finding.code, finding.severity) == ("letter-case", Severity.ERROR)
    assert repr(str(place)) in str(finding.found)


def test_two_files_that_differ_in_case_are_not_guessed(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "sub-a.nwb", ["Video.avi"])
    make_media(tmp_path / "video.avi")
    make_media(tmp_path / "VIDEO.avi")
    assert findings_of(path) == [("missing", Severity.ERROR, "Video.avi")]


def test_path_in_another_case_works_only_where_case_is_ignored() -> None:
    with loop("exfat") as stick:
        path = write_nwb(stick / "sub-a.nwb", ["Videos/A.AVI", "clear.avi"])
        make_media(stick / "videos" / "a.avi")
        make_media(stick / "clear.avi")
        assert (stick / "Videos" / "A.AVI").exists()
        assert findings_of(path) == [("letter-case", Severity.ERROR, "Videos/A.AVI")]


def test_names_in_a_folder_that_differ_in_case_alone(tmp_path: Path) -> None:
    path = scene(tmp_path, "sub-a/sub-a.nwb", "a.avi")
    make_media(path.parent / "A.avi")
    (finding,) = [finding for finding in check(tmp_path) if finding.code == "alike-names"]
    assert finding.nwb_path == str(path.parent)
    assert finding.found == "'A.avi', 'a.avi'"

"""Videos against the manifest: changed, truncated, swapped, missing; found again, and repaired."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner
from helpers import digest, set_paths, stored_paths, tree, write_nwb

import nwb_extfiles
from nwb_extfiles import ExternalFilesError, ExternalFilesWarning, find_referring_files, relocate
from nwb_extfiles.cli import main
from nwb_extfiles.errors import MissingMediaError

check = partial(nwb_extfiles.check, frames="none")  # which is about the content as a whole


@pytest.fixture
def recorded(tmp_path: Path, video_files: Path) -> Path:
    """An NWB file with two videos beside it, and a manifest."""
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["../video_files/test1_0.avi", "../video_files/test1_1.avi"])
    relocate(path, "copy", media_options=dict(manifest=True))
    return path


def videos(path: Path) -> list[Path]:
    return [path.parent / stored for stored in stored_paths(path)]


def codes(path: Path, *search: Path) -> list[tuple[str, int | None]]:
    found = check(path, checksums=True, media_options=dict(search=search))
    return [(finding.code, finding.index) for finding in found if finding.code.startswith("media-")]


def truncate(path: Path) -> None:
    first = videos(path)[0]
    first.write_bytes(first.read_bytes()[:-100])


def change(path: Path) -> None:
    first = videos(path)[0]
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)


def swap(path: Path) -> None:
    first, second = videos(path)
    first.rename(path.parent / "aside")
    second.rename(first)
    (path.parent / "aside").rename(second)


def lose(path: Path) -> None:
    videos(path)[0].unlink()


DAMAGES = {"truncated": truncate, "changed": change, "swapped": swap, "missing": lose}


def test_intact_media_have_no_findings(recorded: Path) -> None:
    assert list(check(recorded, checksums=True)) == []


@pytest.mark.parametrize("what", DAMAGES)
def test_each_kind_of_damage_has_its_code(recorded: Path, what: str) -> None:
    DAMAGES[what](recorded)
    expected = [(f"media-{what}", 0)] + ([("media-swapped", 1)] if what == "swapped" else [])
    assert codes(recorded) == expected


def test_missing_media_are_reported_once(recorded: Path) -> None:
    lose(recorded)
    assert [finding.code for finding in check(recorded)] == ["missing"]
    assert [finding.code for finding in check(recorded, checksums=True)] == ["media-missing"]


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_each_kind_of_damage_is_repaired(
    recorded: Path, tmp_path: Path, video_files: Path, what: str, mode: str
) -> None:
    DAMAGES[what](recorded)
    backup = tmp_path / "backup" / "deep"
    backup.mkdir(parents=True)
    for number in (0, 1):  # under other names, among others
        shutil.copy(video_files / f"test1_{number}.avi", backup / f"x{number}.bin")
    shutil.copy(video_files / "test2_0.avi", backup / "other.avi")
    options: dict[str, Any] = dict(search=[tmp_path / "backup"])
    (finding,) = [
        found
        for found in check(recorded, checksums=True, media_options=options)
        if found.index == 0 and found.code.startswith("media-")
    ]
    assert "--repair" in finding.message
    assert ("--existing replace" in finding.message) == (what != "missing")
    if what != "missing":
        before = tree(recorded.parent)
        with pytest.raises(FileExistsError, match="existing"):
            relocate(recorded, mode, media_options=options, repair=True)
        assert tree(recorded.parent) == before
    is_discarded = what in ("changed", "truncated")
    with pytest.warns(ExternalFilesWarning, match="content is discarded") if is_discarded else nullcontext():
        relocate(recorded, mode, media_options=dict(options, existing="replace"), repair=True)
    assert [digest(video) for video in videos(recorded)] == [digest(video_files / f"test1_{n}.avi") for n in (0, 1)]
    assert list(check(recorded, checksums=True)) == []


@pytest.mark.parametrize("what", DAMAGES)
def test_suggested_command_repairs(recorded: Path, tmp_path: Path, video_files: Path, what: str) -> None:
    DAMAGES[what](recorded)
    backup = [] if what == "swapped" else [shutil.copytree(video_files, tmp_path / "back up")]
    found = check(recorded, checksums=True, media_options=dict(search=backup))
    told = next(finding.message for finding in found if finding.code.startswith("media-"))
    assert ("--search" in told) == bool(backup)
    command = re.search("`nwb-extfiles (.+)`", told)
    assert command
    result = CliRunner().invoke(main, shlex.split(command[1]))
    assert result.exit_code == 0, result.output
    assert [digest(video) for video in videos(recorded)] == [digest(video_files / f"test1_{n}.avi") for n in (0, 1)]


@pytest.mark.parametrize("mode", ["move", "reference", "symlink"])
def test_repair_finds_media_with_another_suffix(recorded: Path, tmp_path: Path, video_files: Path, mode: str) -> None:
    """The video gets its suffix back; what has the name that it would have with it beside the video is another's."""
    lose(recorded)
    backup = tmp_path / "backup"
    backup.mkdir()
    shutil.copy(video_files / "test1_0.avi", backup / "video.bak")
    (backup / "video.avi").symlink_to(video_files / "test2_0.avi")
    relocate(recorded, mode, media_options=dict(search=backup), repair=True)
    assert [digest(video) for video in videos(recorded)] == [digest(video_files / f"test1_{n}.avi") for n in (0, 1)]
    assert videos(recorded)[0].suffix == (".bak" if mode == "reference" else ".avi")
    assert digest(backup / "video.avi") == digest(video_files / "test2_0.avi")
    assert (backup / "video.bak").exists() == (mode != "move")


AS_NOBODY = """
import os, sys
from nwb_extfiles import check, relocate, resolve_external_files
folder, path, backup, other = sys.argv[1:]
# what is loaded when it is used may be out of reach later
list(check(other, checksums=True))
relocate(other, "copy", media_options=dict(search=backup, existing="replace"), repair=True)
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(*(finding.code for finding in check(folder, checksums=True) if finding.code.startswith("media-")))
options = dict(search=backup, existing="replace")
try:
    relocate(path, "copy", media_options=options, repair=True)
except ValueError as refusal:
    print("cannot be read, so it is unknown what would be lost" in str(refusal))
(found,) = resolve_external_files(path)
os.rename(found.location, folder + "/aside.avi")
relocate(path, "copy", media_options=options, repair=True)
print(*(finding.code for finding in check(path, checksums=True, frames="none")))
"""


@pytest.mark.skipif(os.name == "nt", reason="rights are others there")
def test_unreadable_videos_are_reported(video_files: Path) -> None:
    """They are named, and keep neither other videos nor other files from being looked at; none is replaced unseen."""
    with tempfile.TemporaryDirectory() as name:  # where any user can get to
        folder = Path(name)
        shutil.copytree(video_files, folder / "videos")
        for nwb, video in (("a.nwb", "test1_0.avi"), ("b.nwb", "test1_1.avi"), ("c.nwb", "test2_0.avi")):
            relocate(write_nwb(folder / nwb, [f"videos/{video}"]), "copy", media_options=dict(manifest=True))
        closed = folder / "videos" / "another.avi"  # of the size that is looked for
        shutil.copy(folder / "videos" / "test1_0.avi", closed)
        lose(folder / "b.nwb")
        lose(folder / "c.nwb")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
        closed.chmod(0)
        videos(folder / "a.nwb")[0].chmod(0)
        arguments = map(str, (folder, folder / "a.nwb", folder / "videos", folder / "c.nwb"))
        run = subprocess.run([sys.executable, "-c", AS_NOBODY, *arguments], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    assert run.stdout == "media-unreadable media-missing\nTrue\n\n"


def test_unfindable_media_are_reported(recorded: Path, tmp_path: Path) -> None:
    lose(recorded)
    before = tree(recorded.parent)
    with pytest.raises(MissingMediaError, match=r"test1_0\.avi.*none of the folders"):
        relocate(recorded, "copy", repair=True)
    assert tree(recorded.parent) == before
    with h5py.File(recorded, "r+") as file:
        del file["general/external_files"]
    with pytest.raises(ExternalFilesError, match="no manifest"):
        relocate(recorded, repair=True)


def test_references_not_in_manifest(recorded: Path, video_files: Path) -> None:
    former = videos(recorded)[0]
    shutil.copy(video_files / "test2_0.avi", recorded.parent / "new.avi")
    with h5py.File(recorded, "r+") as file:
        file["acquisition/video/external_file"][0] = "new.avi"
    assert "stale-manifest" in {finding.code for finding in check(recorded, checksums=True)}
    with pytest.raises(ExternalFilesError, match=r"the only copy here of .*move that file away first"):
        relocate(recorded, "copy", media_options=dict(existing="replace"))
    former.rename(recorded.parent / "kept.avi")
    relocate(recorded, "copy")
    assert list(check(recorded, checksums=True)) == []


def test_only_videos_that_are_there_are_not_in_manifest(recorded: Path, video_files: Path) -> None:
    shutil.copy(video_files / "test2_0.avi", recorded.parent / "new.avi")
    paths = [*stored_paths(recorded), "new.avi", "gone.avi"]
    set_paths(recorded, "acquisition/video/external_file", paths, dtype=h5py.string_dtype())
    found = check(recorded, checksums=True).filtered(select=["missing", "not-in-manifest"])
    assert [(finding.code, finding.index) for finding in found] == [("missing", 3), ("not-in-manifest", 2)]


def test_repair_finds_media_by_checksum(recorded: Path, tmp_path: Path, video_files: Path) -> None:
    copy = Path(shutil.copy(video_files / "test1_1.avi", tmp_path / "whatever.bin"))
    lose(recorded)
    assert list(find_referring_files([copy], [recorded])) == []
    ((video, found),) = find_referring_files([copy], [tmp_path / "nwb"], by_checksum=True)
    assert (video, found.reference.index) == (copy, 1)


def test_check_and_repair_on_command_line(recorded: Path, tmp_path: Path, video_files: Path) -> None:
    run = CliRunner().invoke
    assert run(main, ["check", "--checksums", str(recorded)]).exit_code == 0
    change(recorded)
    result = run(main, ["check", "--checksums", "--search", str(video_files), str(recorded)])
    assert result.exit_code == 1
    assert "media-changed" in result.output
    assert "--repair" in result.output
    arguments = ["relocate", "--repair", "--search", str(video_files), "--media-mode", "copy", str(recorded)]
    assert run(main, arguments).exit_code == 1
    result = run(main, [*arguments, "--existing", "replace"])
    assert result.exit_code == 0, result.output
    assert run(main, ["check", "--checksums", str(recorded)]).exit_code == 0
    copy = Path(shutil.copy(video_files / "test1_1.avi", tmp_path / "whatever.bin"))
    result = run(main, ["ls", "--media", str(copy), "--by-checksum", "--json", str(recorded)])
    assert [entry["index"] for entry in json.loads(result.output)] == [1]
    result = run(main, ["restore", str(recorded), str(tmp_path / "mine")])
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"a.nwb", "test1_0.avi", "test1_1.avi"}


def test_manifest_rows_of_removed_references(recorded: Path) -> None:
    with h5py.File(recorded, "r+") as file:
        del file["acquisition/video"]
    stale = check(recorded, checksums=True)[-1]
    assert (stale.code, str(stale.found).startswith("2 of 2, such as")) == ("stale-manifest", True)
    relocate(recorded)
    assert "stale-manifest" not in [entry.code for entry in check(recorded, checksums=True)]


def test_dangling_link_is_reported(tmp_path: Path, video_files: Path) -> None:
    """The advice of the finding fixes it."""
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["../video_files/test1_0.avi"])
    relocate(path, "symlink", media_options=dict(manifest=True))
    elsewhere = (video_files / "test1_0.avi").rename(tmp_path / "video")
    options: dict[str, Any] = dict(search=[tmp_path])
    found = [entry for entry in check(path, checksums=True, media_options=options) if entry.code == "media-missing"]
    assert "--existing replace" not in found[0].message
    with pytest.warns(ExternalFilesWarning, match="is a broken symbolic link, and is replaced"):
        relocate(path, "symlink", media_options=options, repair=True)
    assert digest(videos(path)[0]) == digest(elsewhere)

"""NWB files of git-annex: objects that a link points to are not written to."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import assert_resolves, digest, make_file, new_nwbfile, tree, write_nwb
from pynwb import NWBHDF5IO

from nwb_extfiles import NWBExtFilesHDF5IO
from nwb_extfiles.errors import RelocationRefusedError

RELOCATING = ({}, {"relocate_media": False}, {"relocate_media": True, "media_mode": "copy"})


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def annexed(tmp_path: Path) -> Any:
    if shutil.which("git-annex") is None:
        pytest.skip("git-annex is not installed")
    folder = tmp_path / "annex"
    folder.mkdir()
    make_file(folder / "video.avi", 5000)
    path = write_nwb(folder / "a.nwb", [str(folder / "video.avi")])
    git(folder, "init", "-q")
    git(folder, "annex", "init", "-q")
    git(folder, "annex", "add", "-q", "a.nwb")
    git(folder, "commit", "-qm", "recorded")
    assert path.is_symlink()
    yield path
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)


@pytest.mark.parametrize("relocating", RELOCATING)
@pytest.mark.parametrize("mode", ["w", "r+", "a"])
def test_annexed_file_is_not_written_to(annexed: Path, mode: str, relocating: dict[str, Any]) -> None:
    before = tree(annexed.parent)

    def write() -> None:
        with NWBExtFilesHDF5IO(annexed, mode) as io:
            io.write(new_nwbfile() if mode == "w" else io.read(), **relocating)

    with pytest.raises(RelocationRefusedError, match="git annex unlock"):
        write()
    assert tree(annexed.parent) == before
    git(annexed.parent, "annex", "fsck", "-q")

    git(annexed.parent, "annex", "unlock", "-q", annexed.name)  # the advice
    if mode == "w" and relocating.get("relocate_media"):
        relocating = {}
    write()
    assert not annexed.is_symlink()
    git(annexed.parent, "annex", "fsck", "-q")


def test_annexed_file_can_be_read_and_exported(annexed: Path, tmp_path: Path) -> None:
    video, target = digest(annexed.parent / "video.avi"), tmp_path / "out" / "b.nwb"
    with NWBExtFilesHDF5IO(annexed, "r") as source, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=source, relocate_media=True, media_mode="copy")
    assert_resolves(target, [annexed.parent / "video.avi"])
    assert digest(annexed.parent / "video.avi") == video


@pytest.mark.parametrize("relocate_media", [None, False])
def test_annexed_link_without_content_is_unchanged(annexed: Path, relocate_media: bool | None) -> None:
    git(annexed.parent, "annex", "drop", "-q", "--force", annexed.name)
    with pytest.raises(RelocationRefusedError, match="git annex"):
        NWBExtFilesHDF5IO(annexed, "w", relocate_media=relocate_media)
    assert annexed.is_symlink()
    annexed.unlink()  # the other advice
    with NWBExtFilesHDF5IO(annexed, "w") as io:
        io.write(new_nwbfile())
    with NWBHDF5IO(annexed, "r") as io:
        assert io.read().identifier


def test_other_symlinks_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write_nwb(tmp_path / "real" / "a.nwb", ["https://example.org/a.avi"])
    (tmp_path / "a.nwb").symlink_to("real/a.nwb")
    with NWBExtFilesHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(new_nwbfile(identifier="new"))
    assert (tmp_path / "a.nwb").is_symlink()
    with NWBHDF5IO(tmp_path / "real" / "a.nwb", "r") as io:
        assert io.read().identifier == "new"

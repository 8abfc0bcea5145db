"""File systems that are mounted for the test: what links they have, and what is told where they have none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import assert_resolves, digest, make_file, tree
from mounts import loop, overlay
from pynwb import NWBHDF5IO
from recordings import recording

from nwb_extfiles import NWBExtFilesHDF5IO, organize, relocate
from nwb_extfiles.disk import links
from nwb_extfiles.errors import RelocationRefusedError, TransferError

POOR = ("exfat", "vfat")
pytestmark = pytest.mark.filterwarnings("ignore::nwb_extfiles.ExternalFilesWarning")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name in "ab":
        recording(tmp_path / "raw" / f"{name}.nwb", [f"{name}0.avi", f"{name}1.avi"], subject=name)
    return tmp_path / "raw"


@pytest.mark.parametrize("kind", POOR)
@pytest.mark.parametrize("mode", ["symlink", "hardlink"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_unsupported_links_are_reported_once_before_staging(
    raw: Path, tmp_path: Path, kind: str, mode: str, dry_run: bool
) -> None:
    before = tree(raw)
    with loop(kind) as stick:
        with pytest.raises(RelocationRefusedError) as caught:
            organize([raw / "a.nwb"], stick / "ds", media_mode=mode, dry_run=dry_run)
        assert not any(stick.iterdir())
        assert str(caught.value).count("neither symbolic nor hard links") == 1
        assert "use media_mode 'copy', 'move' or 'reference'" in str(caught.value)
    assert tree(raw) == before


@pytest.mark.parametrize("kind", POOR)
@pytest.mark.parametrize("mode", ["copy", "move"])
@pytest.mark.parametrize("files_mode", ["copy", "move"])
def test_suggested_modes_work(raw: Path, kind: str, mode: str, files_mode: str) -> None:
    videos = {path.name: digest(path) for path in raw.glob("*.avi")}
    with loop(kind, within=raw.parent) as stick:
        organize([raw], stick / "ds", media_mode=mode, files_mode=files_mode)
        made = sorted((stick / "ds").rglob("*.nwb"))
        assert len(made) == 2
        assert {digest(path) for path in (stick / "ds").rglob("*.avi")} == set(videos.values())
        assert not list(stick.rglob(".nwb-extfiles-*"))
    assert bool(list(raw.glob("*.avi"))) == (mode == "copy")


def test_reference_mode_on_fat() -> None:
    with loop("exfat") as stick:
        recording(stick / "raw" / "a.nwb", ["a.avi"])
        organize([stick / "raw"], stick / "ds", media_mode="reference")
        (made,) = (stick / "ds").rglob("*.nwb")
        assert_resolves(made, [stick / "raw" / "a.avi"])


@pytest.mark.parametrize("mode", ["copy", "move", "symlink"])
def test_in_place_and_export_on_fat(mode: str) -> None:
    from pynwb import NWBHDF5IO

    with loop("exfat") as stick:
        path = recording(stick / "raw" / "a.nwb", ["a.avi"])
        was = digest(stick / "raw" / "a.avi")
        target = stick / "out" / "b.nwb"
        if mode == "symlink":
            with pytest.raises(RelocationRefusedError, match="neither symbolic nor hard links"):
                relocate(path)
            with NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO(target, "w") as io:
                with pytest.raises(RelocationRefusedError, match="neither symbolic nor hard links"):
                    io.export(src_io=source, relocate_media=True)
            assert not target.exists()
            return
        relocate(path, mode)
        (video,) = (stick / "raw" / "a").iterdir()
        assert digest(video) == was
        with NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO(target, "w") as io:
            io.export(src_io=source, relocate_media=True, media_mode="copy")
        assert_resolves(target, [video])


@pytest.mark.parametrize("kind", ["ntfs", "btrfs", "xfs", "ext4"])
@pytest.mark.parametrize("mode", ["symlink", "hardlink", "copy", "move"])
def test_file_systems_with_links_are_recognized(kind: str, mode: str) -> None:
    with loop(kind) as disk:
        recording(disk / "raw" / "a.nwb", ["a.avi"])
        was = digest(disk / "raw" / "a.avi")
        organize([disk / "raw"], disk / "ds", media_mode=mode)
        (video,) = (disk / "ds").rglob("*.avi")
        assert digest(video) == was
        assert video.is_symlink() == (mode == "symlink")
        assert (video.stat().st_nlink > 1) == (mode == "hardlink")


@pytest.fixture
def lower() -> Iterator[Path]:
    """A folder on another file system than the temporary one, so that an overlay shows its files with two devices."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or os.stat(memory).st_dev == os.stat(tempfile.gettempdir()).st_dev:
        pytest.skip("NOT TESTED HERE: /dev/shm is not a file system of its own")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["hardlink", "move"])
def test_hard_links_on_overlayfs(lower: Path, mode: str) -> None:
    """As in a container: a file of the image has another device than its folder, and can be linked there."""
    recording(lower / "raw" / "a.nwb", ["a.avi"])
    was = digest(lower / "raw" / "a.avi")
    with overlay(lower) as merged:
        video = merged / "raw" / "a.avi"
        if os.stat(video).st_dev == os.stat(merged).st_dev:
            pytest.skip("NOT TESTED HERE: this overlay gives its files the device of their folders")
        plan = organize([merged / "raw"], merged / "ds", media_mode=mode)
        assert sum(file.plan.copied_bytes for file in plan) == 0
        (made,) = (merged / "ds").rglob("*.avi")
        assert digest(made) == was
        assert video.exists() == (mode == "hardlink")
        if mode == "hardlink":
            assert made.samefile(video)


def test_hard_links_to_another_file_system_are_refused(raw: Path) -> None:
    with loop("ext4") as disk:
        with pytest.raises(RelocationRefusedError, match="another file system"):
            organize([raw], disk / "ds", media_mode="hardlink")
        assert [path.name for path in disk.iterdir()] == ["lost+found"]


@pytest.mark.parametrize("kind", [*POOR, "ext4"])
def test_link_probe_leaves_nothing(tmp_path: Path, kind: str) -> None:
    source = make_file(tmp_path / "source")
    with loop(kind) as place:
        inside = make_file(place / "inside")
        if kind == "ext4":  # others have rough times
            os.utime(place, ns=(10**18, 10**18))
        before = os.stat(place).st_mtime_ns
        assert links.has_symlinks(place) == (kind == "ext4")
        assert links.has_hard_links(place) == (kind == "ext4")
        assert links.can_link(inside, place) == (kind == "ext4")
        assert not links.can_link(source, place)
        assert {path.name for path in place.iterdir()} - {"lost+found"} == {"inside"}
        if kind == "ext4":
            assert os.stat(place).st_mtime_ns == before


def test_link_probe_without_write_permission(tmp_path: Path) -> None:
    """A folder that may not be written to says nothing of links; that it may not is told by what is done there."""
    with loop("ext4", options="ro") as place, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert links.has_symlinks(place)
        assert links.has_hard_links(place)
        assert not links.can_link(make_file(tmp_path / "source"), place)


# ------------------------------------------------------------- modes tried in order

FOR_EACH_DISK = {"exfat": "copy", "ext4": "hardlink", "xfs": "reflink"}


@pytest.mark.parametrize("kind", FOR_EACH_DISK)
def test_first_mode_that_the_file_system_allows(kind: str) -> None:
    with loop(kind) as disk:
        path = recording(disk / "raw" / "a.nwb", ["a.avi", "b.avi"])
        was, there = [digest(disk / "raw" / name) for name in ("a.avi", "b.avi")], set(disk.rglob("*"))
        plan = relocate(path, ("reflink", "hardlink", "copy"), dry_run=True)
        assert plan.mode == FOR_EACH_DISK[kind]
        assert set(disk.rglob("*")) == there
        assert relocate(path, ("reflink", "hardlink", "copy")).mode == plan.mode
        videos = sorted((disk / "raw" / "a").iterdir())
        assert [digest(video) for video in videos] == was
        assert {video.stat().st_nlink > 1 for video in videos} == {plan.mode == "hardlink"}
        assert not any(video.is_symlink() for video in videos)
        if kind == "xfs" and shutil.which("filefrag"):
            listed = subprocess.run(["filefrag", "-v", videos[0]], capture_output=True, text=True, check=True)
            assert "shared" in listed.stdout
        assert all(entry.action == "reuse" for entry in relocate(path, ("reflink", "hardlink", "copy")).relocations)


@pytest.mark.parametrize(("kind", "mode"), [("exfat", "copy"), ("ext4", "symlink")])
def test_auto_makes_links_where_there_are_any(raw: Path, kind: str, mode: str) -> None:
    with loop(kind) as disk:
        plan = organize([raw], disk / "ds", media_mode="auto")
        videos = list((disk / "ds").rglob("*.avi"))
        assert {file.plan.mode for file in plan} == {mode}
        assert {video.is_symlink() for video in videos} == {mode == "symlink"}


def test_modes_are_chosen_for_each_nwb_file(raw: Path) -> None:
    """One recording is on the disk of the dandiset, and can be linked there; the other one is copied."""
    with loop("ext4") as disk:
        near = recording(disk / "near" / "n.nwb", ["n.avi"])
        plan = organize([raw, near], disk / "ds", media_mode=("hardlink", "copy"))
        modes = {file.source.name == "n.nwb": file.plan.mode for file in plan}
        assert modes == {True: "hardlink", False: "copy"}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user")
def test_file_of_another_user_gets_the_next_mode() -> None:
    """Linux lets nobody make a hard link to a file of somebody else that they may not write to; the others get one."""
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("this system lets everybody make hard links")
    code = """
import os, sys
from nwb_extfiles import NWBExtFilesHDF5IO, relocate
from nwb_extfiles.transfers import joint_commit
from nwb_extfiles.tasks import relocating  # while it may be read
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for dry_run in (True, False):
    plan = relocate(sys.argv[1], ("hardlink", "copy"), dry_run=dry_run)
    print(*(plan.mode_of(entry) for entry in plan.relocations))
"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = recording(folder / "raw" / "a.nwb", ["a.avi", "theirs/b.avi", "c.avi"])
        for place in (folder, *folder.rglob("*")):
            os.chown(place, 65534, 65534)
        os.chown(path.parent / "theirs/b.avi", 0, 0)
        run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert (run.stdout.splitlines(), run.stderr) == (["hardlink copy hardlink"] * 2, "")
        for index, (video, names) in enumerate([("a.avi", 2), ("theirs/b.avi", 1), ("c.avi", 2)]):
            (new,) = (path.parent / "a").glob(f"*_{index}.avi")
            assert new.read_bytes() == (path.parent / video).read_bytes()
            assert new.stat().st_nlink == names


def test_file_without_reflinks_gets_the_next_mode(tmp_path: Path) -> None:
    """On btrfs, a file that is never copied on write (``chattr +C``) shares no blocks with one that is."""
    with loop("btrfs") as disk:
        raw = disk / "raw"
        path = recording(raw / "a.nwb", ["a.avi", "b.avi"])
        content = (raw / "b.avi").read_bytes()
        (raw / "b.avi").unlink()
        (raw / "b.avi").touch()
        subprocess.run(["chattr", "+C", raw / "b.avi"], check=True)
        (raw / "b.avi").write_bytes(content)
        with pytest.raises(TransferError, match="makes no reflink"):
            relocate(path, "reflink")
        said = pytest.warns(match="was made in mode 'copy', because 'reflink' is impossible for it")
        modes = ("reflink", "copy")
        with said, NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO(disk / "ds" / "a.nwb", "w") as io:
            io.export(src_io=source, relocate_media=True, media_mode=modes)
        with said:
            plan = relocate(path, modes)
        for done in (io.relocation, plan):
            assert done is not None
            assert [done.mode_of(entry) for entry in done.relocations] == ["reflink", "copy"]
            new = [done.nwb_path.parent / entry.new_path for entry in done.relocations]
            assert [digest(video) for video in new] == [digest(raw / name) for name in ("a.avi", "b.avi")]


def test_reflink_alone_is_refused_where_there_are_none(raw: Path) -> None:
    with loop("ext4") as disk:
        path = recording(disk / "raw" / "a.nwb", ["a.avi"])
        with pytest.raises(RelocationRefusedError, match="no reflinks of these media") as refused:
            relocate(path, "reflink")
        assert "media_mode 'copy', 'move', 'reference', 'symlink' or 'hardlink'" in str(refused.value)
        assert sorted(each.name for each in path.parent.iterdir()) == ["a.avi", "a.nwb"]

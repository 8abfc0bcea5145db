"""Edits of existing files that a crash cannot leave incomplete."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import assert_resolves, contents, digest, image_series, stored_paths, tree, write_nwb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import KILLED, kill_this_process, run_apart
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO
from nwb_extfiles.cli import main
from nwb_extfiles.disk import journal
from nwb_extfiles.disk.journal import OverlayFile, edit_journalled, rollback
from nwb_extfiles.errors import DestinationBusyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with paths and a megabyte of data."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["paths"] = ["a.avi", "b.avi"]
        file["data"] = np.arange(131072)
    return path


def change(file: h5py.File) -> None:
    file["paths"][()] = ["somewhere/else/" + "x" * 300, "y"]


def paths(path: Path) -> list[str]:
    return stored_paths(path, "paths")


@given(
    content=st.binary(max_size=20000),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 24000), st.binary(min_size=1, max_size=9000)),
            st.tuples(st.just("read"), st.integers(0, 24000), st.integers(0, 24000)),
        ),
        max_size=12,
    ),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_overlay_behaves_as_a_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, steps: list[tuple]
) -> None:
    """It reads and writes like a file in memory. The file on disk is unchanged until the changes are applied."""
    path = tmp_path_factory.mktemp("overlay") / "file"
    path.write_bytes(content)
    model = io.BytesIO(content)
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        overlay = OverlayFile(handle)
        for kind, offset, value in steps:
            overlay.seek(offset)
            model.seek(offset)
            if kind == "write":
                assert overlay.write(value) == model.write(value)
            else:
                assert overlay.read(value) == model.read(value)
        assert path.read_bytes() == content
        for offset, new in overlay.changes():
            os.lseek(handle, offset, os.SEEK_SET)
            assert os.write(handle, new) == len(new)
        os.ftruncate(handle, overlay.size)
    finally:
        os.close(handle)
    assert path.read_bytes() == model.getvalue()


def test_edit_and_rollback(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    edit_journalled(path, tmp_path / "journal", change)
    assert paths(path)[0].startswith("somewhere")
    after = path.read_bytes()
    assert (tmp_path / "journal").stat().st_size < 50_000, "kilobytes, not the file"
    assert rollback(path, tmp_path / "journal")
    assert path.read_bytes() == before != after
    assert not rollback(path, tmp_path / "journal")


def test_rewritten_file_is_not_rolled_back(path: Path, tmp_path: Path, videos: list[Path]) -> None:
    """After a kill, another program rewrites the file, with another or the same size."""
    before = path.read_bytes()
    edit_journalled(path, tmp_path / "journal", change)
    noted = (tmp_path / "journal").read_bytes()
    other = write_nwb(tmp_path / "other.nwb", [str(video) for video in videos]).read_bytes()
    for anew in (other, before[:-1], bytes(len(before)), bytes(reversed(before))):
        path.write_bytes(anew)
        (tmp_path / "journal").write_bytes(noted)
        with pytest.warns(ExternalFilesWarning, match="written anew"):
            assert not rollback(path, tmp_path / "journal")
        assert path.read_bytes() == anew
        assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 1000, 4095])
def test_torn_page_is_restored(path: Path, tmp_path: Path, cut: int) -> None:
    before = path.read_bytes()
    edit_journalled(path, tmp_path / "journal", change)
    edited = path.read_bytes()
    start = next(n for n in range(0, len(before), 4096) if before[n : n + 4096] != edited[n : n + 4096])
    path.write_bytes(before[:start] + edited[start : start + cut] + before[start + cut :])
    assert rollback(path, tmp_path / "journal")
    assert path.read_bytes() == before


def test_failing_edit_changes_nothing(path: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)

    def fail(file: h5py.File) -> None:
        change(file)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        edit_journalled(path, tmp_path / "journal", fail)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]])
def test_incomplete_journal_is_ignored(path: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """The file is not changed before the journal is complete."""
    edit_journalled(path, tmp_path / "journal", change)
    (tmp_path / "journal").write_bytes(damage((tmp_path / "journal").read_bytes()))
    edited = path.read_bytes()
    assert not rollback(path, tmp_path / "journal")
    assert path.read_bytes() == edited
    assert not (tmp_path / "journal").exists()


def test_file_open_elsewhere_is_refused(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+"), pytest.raises(DestinationBusyError, match="open in this program"):
        edit_journalled(path, tmp_path / "journal", change)
    assert not (tmp_path / "journal").exists()


# ---------------------------------------------------------------- with media


@pytest.fixture
def nwb(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "ds" / "a.nwb", ["../video_files/test1_0.avi", "../video_files/test1_1.avi"])


def relocate(nwb: Path, mode: str = "copy") -> None:
    with NWBExtFilesHDF5IO(nwb, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode=mode)


def die_at(step: int, nwb: Path, mode: str) -> bool:
    """Relocate in a child process that is killed before a write to the file. Returns whether it was killed."""

    def job() -> None:
        left = step
        write = journal._write_at

        def dying(handle: int, offset: int, content: bytes) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                write(handle, offset, content[: len(content) // 2])  # torn
                kill_this_process()
            write(handle, offset, content)

        journal._write_at = dying
        relocate(nwb, mode)

    status = run_apart(job)
    assert status in (0, KILLED)
    return status == KILLED


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_killed_while_paths_are_written(nwb: Path, videos: list[Path], mode: str) -> None:
    before = contents(nwb)
    step = 0
    while die_at(step, nwb, mode):
        with NWBExtFilesHDF5IO(nwb, "r") as io:  # the next open restores it
            assert io.read().acquisition["video"].external_file[0] == "../video_files/test1_0.avi"
        assert contents(nwb) == before
        assert_resolves(nwb, videos[:2])
        step += 1
    assert step >= 1
    assert_resolves(nwb, videos[:2])  # the child that was not killed
    assert not [name for name in tree(nwb.parent) if name.startswith(".")]


def test_recover_from_the_command_line(nwb: Path, tmp_path: Path) -> None:
    before = contents(nwb)
    assert die_at(0, nwb, "copy")
    result = CliRunner().invoke(main, ["recover", str(nwb)])
    assert (result.exit_code, result.output) == (0, f"{nwb}: restored\n")
    assert contents(nwb) == before
    result = CliRunner().invoke(main, ["recover", str(nwb)])
    assert (result.exit_code, result.output) == (0, "nothing to restore in 1 NWB file\n")


def test_disk_failure_while_paths_are_written(nwb: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before, names = contents(nwb), set(tree(nwb.parent.parent))
    with monkeypatch.context() as patch:

        def fail(handle: int, size: int) -> None:
            patch.undo()  # the disk works again for the rollback
            raise OSError(5, "the disk has gone")

        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="the disk has gone"):
            relocate(nwb)
    assert (contents(nwb), set(tree(nwb.parent.parent))) == (before, names)
    relocate(nwb)
    assert_resolves(nwb, videos[:2])


def test_failed_edit_removes_new_objects(nwb: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(nwb.parent)
    with monkeypatch.context() as patch:

        def fail(handle: int, size: int) -> None:
            patch.undo()
            raise OSError(5, "the disk has gone")

        with pytest.raises(OSError, match="the disk has gone"), NWBExtFilesHDF5IO(nwb, "r+") as io:
            nwbfile = io.read()
            nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
            io.write(nwbfile, relocate_media=True, media_mode="copy")
            patch.setattr(os, "ftruncate", fail)
            io.close()
    assert set(tree(nwb.parent)) == set(before)
    with h5py.File(nwb) as file:
        assert list(file["acquisition"]) == ["video"]
    assert stored_paths(nwb) == ["../video_files/test1_0.avi", "../video_files/test1_1.avi"]


@pytest.mark.parametrize("gigabytes", [5, pytest.param(50, marks=pytest.mark.long)])
def test_large_file_is_not_copied(nwb: Path, videos: list[Path], gigabytes: int) -> None:
    """For a sparse file of many gigabytes, only kilobytes are written."""
    with h5py.File(nwb, "r+") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((gigabytes * 2**30,))
        h5py.h5d.create(
            file["scratch"].id if "scratch" in file else file.id, b"big", h5py.h5t.NATIVE_UINT8, space, creation
        )
    assert nwb.stat().st_size > gigabytes * 2**30
    blocks = getattr(nwb.stat(), "st_blocks", 2**64)
    if blocks * 512 > 2**27:
        pytest.skip("the file system has no sparse files")
    nwbfile_digest = digest(nwb.parent.parent / "video_files" / "test1_0.avi")
    with NWBExtFilesHDF5IO(nwb, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert digest(nwb.parent / stored_paths(nwb)[0]) == nwbfile_digest
    assert nwb.stat().st_size > gigabytes * 2**30
    assert (nwb.stat().st_blocks - blocks) * 512 < 2**20
    with NWBHDF5IO(nwb, "r") as io:
        assert len(io.read().acquisition["video"].external_file) == 2

"""Writers of Zarr stores that are killed at each step that changes a name, and what the next call finds.

The steps are counted by an audit hook of Python, so that each is met, whatever the time it takes.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, new_nwbfile, tree, write_nwb
from processes import FORKS, run_apart
from pynwb import NWBHDF5IO
from zarr_makers import (
    UNLINKED,
    assert_leads_to,
    export,
    h5_object_id,
    nothing_left,
    paths_in,
    write_store,
)

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesZarrIO
from nwb_extfiles.transfers.recovery import recover

pytestmark = [
    pytest.mark.usefixtures("trusted_stores"),
    # of hdmf-zarr and pynwb
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("error::nwb_extfiles.ExternalFilesWarning"),
]


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "nwbfiles" / "a.nwb", [f"../video_files/test1_{n}.avi" for n in (0, 1)])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "dandiset" / "sub-mouse0" / "sub-mouse0_ses-s.nwb.zarr"


STEPS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")


def die() -> None:
    """End this process as a kill would."""
    os._exit(9)


def fail() -> None:
    """Have the call that is about to be made fail."""
    raise OSError(errno.EIO, "the disk has a moment of weakness")


def before_step(step: int, folder: Path, act: Callable[[], None]) -> None:
    """Do something before this process changes a name in a folder for the n-th time from now."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        # rmtree names what it removes relative to an open folder
        if event in STEPS and (str(arguments[0]).startswith(str(folder)) or arguments[-1] not in (-1, None)):
            count += 1
            if count == step:
                act()

    sys.addaudithook(hook)


def disturbed(
    job: Callable[[Callable[[], None]], None],
    folder: Path,
    restore: Callable[[], None],
    act: Callable[[], None] = die,
) -> Iterator[int]:
    """Run a job again and again, each time disturbed one step later, until one comes to its end; their exit codes."""
    # After the first ones there is only the removal of the former store, file by file.
    for step in (*range(1, 40, 1 if FORKS else 9), *range(40, 10_000, 41)):
        restore()
        status = run_apart(lambda step=step: job(lambda: before_step(step, folder, act)))
        if status == 0:
            return
        yield status


@pytest.mark.parametrize("previous", ["none", pytest.param("store", marks=pytest.mark.long)])
@pytest.mark.parametrize("then", ["export", "recover"])
def test_store_export_killed_at_each_step(
    source: Path, target: Path, tmp_path: Path, videos: list[Path], previous: str, then: str
) -> None:
    """After each there is the former store or the new one with its videos, now or by the next call."""
    kept = tmp_path / "kept"
    target.parent.mkdir(parents=True)
    if previous == "store":
        write_store(target, ["sub-mouse0_ses-s/old.avi"])
        (target.parent / "sub-mouse0_ses-s").mkdir()
        shutil.copy(videos[5], target.parent / "sub-mouse0_ses-s" / "old.avi")
    shutil.copytree(target.parent, kept)
    former = tree(kept)
    export(source, target, relocate_media=True, media_mode="copy")
    uuid = h5_object_id(source)

    def restore() -> None:
        shutil.rmtree(target.parent)
        shutil.copytree(kept, target.parent)

    def job(begin: Callable[[], None]) -> None:
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=True, media_mode="copy")
            begin()

    seen = set()
    for _ in disturbed(job, target.parent, restore):
        if target.exists():
            is_new = paths_in(target)[0].startswith(f"sub-mouse0_ses-s/{uuid}")
            seen.add("new" if is_new else "former")
            if is_new:
                assert_leads_to(target, videos[:2])
            else:
                assert tree(target) == tree(kept / target.name)
        else:
            seen.add("none")
        if then == "recover":
            recover(target)
            if target.exists() and paths_in(target)[0].startswith(f"sub-mouse0_ses-s/{uuid}"):
                assert_leads_to(target, videos[:2])
            else:
                assert {name: tree(target.parent).get(name) for name in former} == former
        export(source, target, relocate_media=True, media_mode="copy")
        assert_leads_to(target, videos[:2])
        assert nothing_left(tmp_path)
        if previous == "store":
            assert digest(target.parent / "sub-mouse0_ses-s" / "old.avi") == digest(videos[5])
    assert seen == ({"former", "none", "new"} if previous == "store" else {"none", "new"})


@pytest.mark.long
@pytest.mark.parametrize("previous", ["none", "store"])
def test_store_export_failing_at_each_step(
    source: Path, target: Path, tmp_path: Path, videos: list[Path], previous: str
) -> None:
    """Everything is as it was, or the new store stands with its videos."""
    kept = tmp_path / "kept"
    target.parent.mkdir(parents=True)
    if previous == "store":
        write_store(target, ["https://example.org/x.avi"])
    shutil.copytree(target.parent, kept)

    def restore() -> None:
        shutil.rmtree(target.parent)
        shutil.copytree(kept, target.parent)

    failed, done, count = 7, 8, 0

    def job(begin: Callable[[], None]) -> None:
        told: list[Any] = []
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", ExternalFilesWarning)
                with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
                    io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=True, media_mode="copy")
                    begin()
        except OSError:
            os._exit(failed)
        if told:
            os._exit(done)

    seen = set()
    for status in disturbed(job, target.parent, restore, fail):
        seen.add(status)
        count += 1
        assert status in (failed, done)
        if status == failed:
            assert tree(target.parent) == tree(kept)
        else:
            assert_leads_to(target, videos[:2])
        export(source, target, relocate_media=True, media_mode="copy")
        assert_leads_to(target, videos[:2])
        assert nothing_left(tmp_path)
    assert seen == {failed, done}
    assert count > 8


def test_store_killed_between_renames_then_opened(source: Path, target: Path) -> None:
    """Whoever opens it with this package finds the former store again."""
    target.parent.mkdir(parents=True)
    write_store(target, ["https://example.org/x.avi"])
    before = tree(target)

    def job() -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if (event == "os.rename" and arguments[1] == str(target)) or arguments[1:2] == (target,):
                os._exit(9)

        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=False)
            sys.addaudithook(hook)

    assert run_apart(job) == 9
    assert not target.exists()
    with NWBExtFilesZarrIO(target, "r") as io:
        assert io.read().acquisition["video"]
    assert tree(target) == before
    assert nothing_left(target.parent)


def test_file_at_the_name_of_a_killed_store(source: Path, tmp_path: Path) -> None:
    """The staging folder goes by the name of the document, of whichever kind that was."""
    target = tmp_path / "ds" / "a.nwb"
    target.parent.mkdir()

    def job() -> None:
        io = NWBExtFilesZarrIO(target, "w")
        io.write(new_nwbfile())
        os._exit(9)

    assert run_apart(job) == 9
    assert len(list(target.parent.glob(".nwb-extfiles-*"))) == 2
    export(source, target, relocate_media=True, media_mode="copy")
    assert target.is_file()
    assert nothing_left(tmp_path)


def test_store_edit_killed_at_each_step(source_store: Path, tmp_path: Path, videos: list[Path]) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(source_store.parent, kept)
    before = paths_in(source_store)

    def restore() -> None:
        shutil.rmtree(source_store.parent)
        shutil.copytree(kept, source_store.parent)

    def job(begin: Callable[[], None]) -> None:
        with NWBExtFilesZarrIO(source_store, "r+") as io:
            io.write(io.read(), relocate_media=True, media_mode="copy")
            begin()

    seen = []
    for _ in disturbed(job, source_store.parent, restore):
        recover(source_store)
        paths = paths_in(source_store)
        seen.append(paths != before)
        if paths != before:
            assert_leads_to(source_store, videos[:2])
        assert nothing_left(source_store.parent) or seen[-1]
        assert_leads_to(source_store, videos[:2])
    assert seen == sorted(seen)
    assert set(seen) == {False, True}

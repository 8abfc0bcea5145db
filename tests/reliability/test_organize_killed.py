"""Runs that organize many files are killed at random moments. The next run gives the result of an undisturbed one.

``NWB_EXTFILES_SEED=17 pytest tests/reliability/test_organize_killed.py`` repeats the moments as far as a clock can.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import pytest
from harness import Killer, another_device, quiet
from helpers import digest, stored_paths
from processes import KILLED, kill_this_process, run_apart
from recordings import DATASET, recording, video

from nwb_extfiles import organize
from nwb_extfiles.disk import moves
from nwb_extfiles.tasks.organize import organizing
from nwb_extfiles.transfers.removals import removals_noted

NOTE = ".nwb-extfiles-removals-"
SEED = int(os.environ.get("NWB_EXTFILES_SEED") or random.SystemRandom().randrange(10**9))
COUNT = 4


class Stage:
    """Recordings with videos: two are of one session, so that names depend on all files, and two share one video."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.videos = folder / "raw", folder / "videos"
        paths = [["../videos/0.avi", "../videos/shared.avi"], ["../videos/1.avi"], ["../videos/shared.avi"], None]
        video(self.videos / "shared.avi", os.urandom(1000), 300_000)
        for number in range(2):
            video(self.videos / f"{number}.avi", os.urandom(1000), 200_000)
        for number in range(COUNT):
            session = "same" if number < 2 else f"s{number}"
            recording(self.raw / f"{number}.nwb", paths[number], subject=f"m{number // 2}", session=session)


def in_place(folder: Path) -> None:
    """Turn a stage into a dandiset whose names do not follow DANDI's naming."""
    root = folder / "ds"
    with quiet():
        organize(folder / "raw", root, files_mode="move", media_mode="move", media_options={"sync": False})
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    for path in sorted(root.rglob("*.nwb")):
        with h5py.File(path, "r+") as file:
            subject = file["general/subject/subject_id"]
            subject[()] = f"new{subject[()].decode()}"
    shutil.rmtree(folder / "videos")
    shutil.rmtree(folder / "raw")


def job(
    folder: Path, files_mode: str, mode: str, root: Path, inside: bool, *, side_by_side: bool = False
) -> Callable[[Any], None]:
    """A run that organizes its files one by one or several at once, as it does when there are many."""

    def run(mark: Callable[[bytes], object] = lambda step: None) -> None:
        done = itertools.count(1)
        with quiet(), mock.patch.object(organizing, "_MANY", 2 if side_by_side else COUNT + 1):
            mark(b"s")
            organize(
                [] if inside else folder / "raw", root, files_mode=files_mode, media_mode=mode,
                on_file=lambda file: mark(b"%d" % next(done)),
            )  # fmt: skip

    return run


def contents(folder: Path) -> dict[str, str]:
    """Every name below a folder, with its content. Of an NWB file, what identifies it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name] = "folder"
        elif path.suffix == ".nwb" and not path.name.startswith("."):
            with h5py.File(path, "r") as file:
                paths = stored_paths(path) if DATASET in file else []
                found[name] = f"{file.attrs['object_id']} {paths}"
        else:
            found[name] = f"{'link to ' if path.is_symlink() else ''}{digest(path)}"
    return found


def but_folders(entries: dict[str, str]) -> dict[str, str]:
    return {name: what for name, what in entries.items() if what != "folder"}


def assert_unharmed(folders: list[Path], videos: set[str], ids: set[str]) -> None:
    """At any moment, no content is lost, and no NWB file under its final name has a dangling path."""
    there, seen = set(), set()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_symlink():
                assert path.exists(), f"{path} is a dangling link"
            if path.suffix == ".nwb" and not path.name.startswith(".") and path.is_file():
                with h5py.File(path, "r") as file:
                    seen.add(str(file.attrs["object_id"]))
                    has = DATASET in file
                place = path.parent
                if has and ".nwb-extfiles" not in str(path) and place.name.startswith("sub-new"):
                    assert all(digest(place / stored) in videos for stored in stored_paths(path))
            elif path.is_file():
                there.add(digest(path))
    assert videos <= there, "a video is lost"
    assert ids <= seen, "an NWB file is lost"


def kills(
    tmp_path: Path, files_mode: str, mode: str, count: int, *, inside: bool = False, away: Path | None = None
) -> None:
    rng = random.Random(f"{SEED} {files_mode} {mode} {inside}")
    print(f"\nNWB_EXTFILES_SEED={SEED}: {count} kills, NWB files {files_mode}, media {mode}")
    template, folder = tmp_path / "template", tmp_path / "stage"
    Stage(template)
    if inside:
        in_place(template)

    def fresh() -> Path:
        for place in (folder, *([away / "ds"] if away else [])):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, folder, symlinks=True, copy_function=shutil.copy2)
        return (away or folder) / "ds"

    root = fresh()
    killer = Killer(job(folder, files_mode, mode, root, inside), rng)
    expected = [contents(place) for place in (folder, root)]
    videos = {digest(path) for path in template.rglob("*.avi")}
    ids = set()
    for path in template.rglob("*.nwb"):
        with h5py.File(path) as file:
            ids.add(str(file.attrs["object_id"]))
    seen: Counter[str] = Counter()
    killed = runs = 0
    while killed < count:
        runs += 1
        assert runs < 4 * count + 10, "the runs end before they can be killed"
        root = fresh()
        killer.trace.clear()
        side_by_side = rng.random() < 0.5
        seen["side by side"] += side_by_side
        try:
            while True:
                step = rng.choice(list(killer.durations))
                run = job(folder, files_mode, mode, root, inside, side_by_side=side_by_side)
                in_time = killer.kill(run, step)
                killed += in_time
                seen["killed" if in_time else "ended"] += 1
                assert_unharmed([folder, root], videos, ids)
                is_over = files_mode == "move" and not inside and not list((folder / "raw").iterdir())
                if is_over or killed >= count or rng.random() < 0.6:
                    break
            if is_over:
                seen["nothing left to do"] += 1
            else:
                job(folder, files_mode, mode, root, inside)(lambda step: None)
            # the next run sees no file that an empty folder, left at the last moment, belongs to
            found = [contents(place) for place in (folder, root)]
            if is_over:  # nor a note of the names that have been removed
                found = [{name: what for name, what in each.items() if NOTE not in name} for each in found]
            assert [but_folders(entries) for entries in found] == [but_folders(entries) for entries in expected]
            assert inside or found == expected
        except BaseException as error:
            error.add_note(
                f"NWB_EXTFILES_SEED={SEED}, {files_mode}, {mode}, in place: {inside}; killed at {killer.trace}"
            )
            raise
    print(f"{runs} scenes: {dict(seen)}")


WAYS = [(files_mode, mode) for files_mode in ("copy", "move") for mode in ("copy", "move", "symlink", "hardlink")]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    shared = another_device(tmp_path)
    if shared is None:
        pytest.skip("no second file system to write to without being root")
    place = Path(tempfile.mkdtemp(dir=shared))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize(("files_mode", "mode"), [("copy", "copy"), ("move", "move")])
def test_organize_killed_and_run_again(tmp_path: Path, files_mode: str, mode: str) -> None:
    kills(tmp_path, files_mode, mode, 4)


def test_organize_in_place_killed_and_run_again(tmp_path: Path) -> None:
    kills(tmp_path, "move", "symlink", 4, inside=True)


@pytest.mark.long
@pytest.mark.parametrize(("files_mode", "mode"), WAYS)
def test_organize_killed_and_run_again_often(tmp_path: Path, files_mode: str, mode: str) -> None:
    kills(tmp_path, files_mode, mode, 40)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["copy", "move", "symlink", "hardlink"])
def test_organize_in_place_killed_and_run_again_often(tmp_path: Path, mode: str) -> None:
    kills(tmp_path, "move", mode, 40, inside=True)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["move", "copy"])
def test_organize_between_file_systems_killed(tmp_path: Path, elsewhere: Path, mode: str) -> None:
    kills(tmp_path, "move", mode, 40, away=elsewhere)


def test_recover_gives_names_put_aside_back(tmp_path: Path) -> None:
    """An `organize` killed while it removes the old names: `recover` of a folder above gives them back."""
    Stage(tmp_path / "stage")
    dandiset = tmp_path / "stage" / "ds"
    dandiset.mkdir()
    before = contents(tmp_path / "stage")
    place = next((tmp_path / "stage").rglob("*.avi"))
    aside = Path(moves._aside(place))

    def job() -> None:
        source = moves.MovedSource(place, moves.stamp(os.stat(place)), (place,), ())
        with removals_noted(dandiset, [source], sync=True):
            os.rename(place, aside)
            kill_this_process()

    assert run_apart(job) == KILLED
    assert aside.exists()
    assert not place.exists()
    subprocess.run([sys.executable, "-m", "nwb_extfiles", "recover", tmp_path], check=True, capture_output=True)
    assert contents(tmp_path / "stage") == before
    assert not list(dandiset.iterdir())

"""Relocations in place that are killed with SIGKILL at random moments.

Then the NWB file is whole, and the next run completes.
``NWB_EXTFILES_SEED=17 pytest tests/reliability/test_kill_relocate.py`` repeats the moments of a run as far as a clock
can.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import h5py
import pytest
from harness import MODES, TEMPORARY, Killer, quiet
from helpers import digest, image_series, new_nwbfile, stored_paths
from processes import FORKS, run_apart
from pynwb import NWBHDF5IO

from nwb_extfiles import relocate
from nwb_extfiles.transfers.recovery import recover

SEED = int(os.environ.get("NWB_EXTFILES_SEED") or random.SystemRandom().randrange(10**9))
SERIES = 40  # so that many pages change
DATASETS = [f"acquisition/series{number}/external_file" for number in range(SERIES)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``raw``: an NWB file, its videos elsewhere; ``renamed-<mode>``: media in place, the NWB file under a new name."""
    folder = tmp_path_factory.mktemp("template")
    rng = random.Random(0)
    (folder / "raw" / "videos").mkdir(parents=True)
    nwbfile = new_nwbfile()
    for number in range(SERIES):
        video = folder / "raw" / "videos" / f"{number % 30}.avi"  # some in two series
        video.write_bytes(rng.randbytes(100_000))
        nwbfile.add_acquisition(image_series([f"videos/{video.name}"], f"series{number}"))
    with NWBHDF5IO(folder / "raw" / "a.nwb", "w") as io:
        io.write(nwbfile)
    for first in ("copy", "symlink"):
        place = folder / f"renamed-{first}"
        shutil.copytree(folder / "raw", place)
        relocate(place / "a.nwb", first)
        (place / "a.nwb").rename(place / "b.nwb")
    return folder


def meant(path: Path) -> list[str]:
    """What each text of a file leads to."""
    return [digest(path.parent / text) for dataset in DATASETS for text in stored_paths(path, dataset)]


def paths(path: Path) -> list[str]:
    return [text for dataset in DATASETS for text in stored_paths(path, dataset)]


def kills(template: Path, place: Path, what: str, mode: str, count: int) -> None:
    rng = random.Random(f"{SEED} {what} {mode}")
    print(f"\nNWB_EXTFILES_SEED={SEED}: {count} kills of {what}, {mode}")
    name = "a.nwb" if what == "raw" else "b.nwb"
    path = place / name

    def set_up() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template / what, place, symlinks=True)

    def job(mark: object) -> None:
        mark(b"e")  # type: ignore[operator]
        with quiet():
            relocate(path, mode)

    set_up()
    before, videos = paths(path), meant(path)
    killer = Killer(job, rng)
    after = paths(path)
    assert all(text.startswith(f"{path.stem}/") for text in after)
    seen: Counter[str] = Counter()
    killed = runs = 0
    while killed < count:
        runs += 1
        assert runs < 4 * count + 10, "the runs end before they can be killed"
        set_up()
        try:
            killed += killer.kill(job, b"e")
            half = recover(path)
            assert not recover(path)
            with h5py.File(path) as file:
                file.visititems(lambda name, item: item[()] if isinstance(item, h5py.Dataset) else None)
            now = paths(path)
            assert now in (before, after), "some paths are old and some new"
            assert meant(path) == videos, "a text leads elsewhere"
            seen[f"{'restored' if half else 'whole'}, {'new' if now == after else 'old'}"] += 1
            assert run_apart(lambda: job(lambda step: None)) == 0
            assert paths(path) == after
            assert meant(path) == videos
            assert list(place.rglob(f"*{TEMPORARY}*")) == []
        except BaseException as error:
            error.add_note(f"NWB_EXTFILES_SEED={SEED}, {what}, {mode}; killed at {killer.trace[-1]}")
            raise
    print(f"{runs} runs; after {killed} kills: {dict(seen)}")


WHAT = ("raw", "renamed-copy", "renamed-symlink")


@pytest.mark.parametrize(
    ("what", "mode"), [*(("raw", mode) for mode in MODES), ("renamed-copy", "symlink"), ("renamed-symlink", "copy")]
)
def test_relocate_killed(template: Path, tmp_path: Path, what: str, mode: str) -> None:
    kills(template, tmp_path / "place", what, mode, 2 if FORKS else 1)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", WHAT)
def test_relocate_killed_often(template: Path, tmp_path: Path, what: str, mode: str) -> None:
    kills(template, tmp_path / "place", what, mode, 40)

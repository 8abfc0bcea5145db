"""Exports are killed at random moments. The next run must complete.

``NWB_EXTFILES_SEED=17 pytest tests/reliability/test_kill.py`` repeats the moments of a run as far as a clock can.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import MODES, Killer, Scene, Template, another_device, make_template, quiet
from processes import FORKS

from nwb_extfiles import NWBExtFilesHDF5IO

SIZE = 2 * 1024 * 1024
PREVIOUS = ("none", "other", "same")
SEED = int(os.environ.get("NWB_EXTFILES_SEED") or random.SystemRandom().randrange(10**9))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"), SIZE)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    shared = another_device(tmp_path)
    if shared is None:
        pytest.skip("no second file system to write to without being root")
    place = Path(tempfile.mkdtemp(dir=shared))
    yield place
    shutil.rmtree(place)


def kills(template: Template, root: Path, destination: Path, mode: str, previous: str, count: int) -> None:
    """Kill that many runs. Check the invariants after each, and let a run complete from time to time."""
    rng = random.Random(f"{SEED} {mode} {previous} {destination.parent == root}")
    print(f"\nNWB_EXTFILES_SEED={SEED}: {count} kills of {mode}, previous NWB file: {previous}")
    undisturbed = Scene(template, root, previous, destination)
    undisturbed.export(mode)  # loads modules that are loaded at first use
    undisturbed = Scene(template, root, previous, destination)
    killer = Killer(lambda mark: undisturbed.export(mode, mark), rng)
    undisturbed.assert_new()
    assert undisturbed.temporaries() == []
    expected = undisturbed.entries()

    seen: Counter[str] = Counter()
    killed = runs = 0
    while killed < count:
        runs += 1
        assert runs < 3 * count + 10, "the runs end before they can be killed"
        scene, new = Scene(template, root, previous, destination), False
        killer.trace.clear()
        try:
            while True:  # sometimes the run that follows a killed one is killed too
                step = rng.choice((b"e", b"e", b"c"))
                in_time = killer.kill(lambda mark, scene=scene: scene.export(mode, mark), step)
                killed += in_time
                was_new, new = new, scene.assert_unharmed()
                assert new or in_time
                assert new or not was_new, "the new NWB file has gone again"
                left = scene.temporaries()
                seen[f"{'new' if new else 'old'}, {'something' if left else 'nothing'} left"] += 1
                if killed >= count or rng.random() < 0.7:
                    break
            recover(scene, mode, new, only_clear=rng.random() < 0.5)
            assert scene.entries() == expected
        except BaseException as error:
            error.add_note(f"NWB_EXTFILES_SEED={SEED}, {mode}, {previous}; killed at {', '.join(killer.trace)}")
            raise
    print(f"{runs} scenes; after {killed} kills: {dict(seen)}")


def recover(scene: Scene, mode: str, new: bool, only_clear: bool) -> None:
    """The next run clears the leftovers of the killed one, and completes."""
    if only_clear:  # a run that writes nothing
        with quiet(), NWBExtFilesHDF5IO(scene.target, "w"):
            pass
        assert scene.temporaries() == []
        assert scene.is_new() == new
        if new:
            scene.assert_new()
        else:
            scene.assert_former()
    whole = [target.lstat().st_ino for target in scene.targets] if new else None
    scene.export(mode)
    scene.assert_new()
    assert scene.temporaries() == []
    if whole:
        assert [target.lstat().st_ino for target in scene.targets] == whole, "what was whole was copied again"
    assert [video.exists() for video in scene.videos] == [mode != "move"] * 3
    if scene.previous == "other":
        assert all(path.exists() for path in scene.former)


COUNTS = {"none": 4, "other": 3, "same": 4} if FORKS else dict.fromkeys(PREVIOUS, 1)  # in the ordinary run


@pytest.mark.parametrize("previous", PREVIOUS)
@pytest.mark.parametrize("mode", MODES)
def test_export_killed(template: Template, tmp_path: Path, mode: str, previous: str) -> None:
    kills(template, tmp_path / "root", tmp_path / "root" / "dandiset", mode, previous, COUNTS[previous])


@pytest.mark.parametrize("previous", ["none", "same"])
def test_move_between_file_systems_killed(template: Template, tmp_path: Path, elsewhere: Path, previous: str) -> None:
    """A move that must copy."""
    kills(template, tmp_path / "root", elsewhere / "dandiset", "move", previous, COUNTS[previous])


@pytest.mark.long
@pytest.mark.parametrize("previous", PREVIOUS)
@pytest.mark.parametrize("mode", MODES)
def test_export_killed_often(template: Template, tmp_path: Path, mode: str, previous: str) -> None:
    kills(template, tmp_path / "root", tmp_path / "root" / "dandiset", mode, previous, 40)


@pytest.mark.long
@pytest.mark.parametrize("previous", PREVIOUS)
def test_move_between_file_systems_killed_often(
    template: Template, tmp_path: Path, elsewhere: Path, previous: str
) -> None:
    kills(template, tmp_path / "root", elsewhere / "dandiset", "move", previous, 40)

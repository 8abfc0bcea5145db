"""Calls over several NWB files that are killed at each step that changes a name or opens a file.

What the next run on any one of the files finds is all of the call, or none of it.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import TEMPORARY, quiet
from helpers import digest, stored_paths, tree, write_nwb
from processes import FORKS, KILLED, kill_this_process, run_apart

from nwb_extfiles import relocate
from nwb_extfiles.tasks.relocating import relocate_files
from nwb_extfiles.transfers.recovery import recover

STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
NAMES = ("a", "b", "c")


def kill_before(step: int, folder: Path) -> None:
    """End this process before it takes the n-th step in a folder from now."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in STEPS and str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == step:
                kill_this_process()

    sys.addaudithook(hook)


class Scene:
    """A folder that is the same again before each run."""

    def __init__(self, kept: Path, place: Path, job: Callable[[], object]) -> None:
        self.kept, self.place, self.job = kept, place, job
        self.documents = [place / f"sub-{name}" / f"{name}.nwb" for name in NAMES if (kept / f"sub-{name}").exists()]
        self.restore()
        self.before, self.meant_before = tree(place), self.meant()
        assert run_apart(self.run) == 0
        self.after, self.meant_after = tree(place), self.meant()
        self.contents = set(self.before.values()) - {"folder"}

    def run(self) -> None:
        with quiet():
            self.job()

    def restore(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.kept, self.place, symlinks=True)

    def meant(self) -> list[tuple[str, str]]:
        """What each file refers to, and what is there."""
        found = []
        for document in self.documents:
            for text in stored_paths(document):
                place = document.parent / text
                found.append((text, digest(place) if place.exists() else "nowhere"))
        return found

    def kills(self, stride: int, offset: int) -> Iterator[int]:
        stride *= 1 if FORKS else 5
        step = 1 + offset % stride
        while True:
            self.restore()
            status = run_apart(lambda step=step: (kill_before(step, self.place), self.run()))
            if status == 0:
                return
            assert status == KILLED
            yield step
            step += stride

    def assert_nothing_lost(self) -> None:
        videos = {content for name, content in self.before.items() if name.endswith(".avi")}
        assert videos <= set(tree(self.place).values()), "a video is nowhere any more"


def swapped(kept: Path) -> None:
    """The videos of two sessions under each other's names, with manifests that tell."""
    paths = []
    for name in ("a", "b"):
        video = kept / "raw" / f"{name}.avi"
        video.parent.mkdir(exist_ok=True)
        video.write_bytes(f"video of {name}".encode() * 300)
        paths.append(write_nwb(kept / f"sub-{name}" / f"{name}.nwb", [f"../raw/{name}.avi"]))
        relocate(paths[-1], "move", media_options={"manifest": True})
    one, two = (path.parent / stored_paths(path)[0] for path in paths)
    one.rename(kept / "x")
    two.rename(one)
    (kept / "x").rename(two)


def raw(kept: Path) -> None:
    """Three NWB files, one of whose videos is of all of them."""
    (kept / "raw").mkdir()
    (kept / "raw" / "common.avi").write_bytes(b"video of all" * 300)
    for name in NAMES:
        (kept / "raw" / f"{name}.avi").write_bytes(f"video of {name}".encode() * 300)
        write_nwb(kept / f"sub-{name}" / f"{name}.nwb", [f"../raw/{name}.avi", "../raw/common.avi"])


@contextmanager
def told(step: int, who: int) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"killed before step {step}; restored by document {who}")
        raise


def check_kills(scene: Scene, stride: int) -> None:
    seen: Counter[str] = Counter()
    for step in scene.kills(stride, len(scene.after)):
        who = step % len(scene.documents)
        with told(step, who), quiet():
            scene.assert_nothing_lost()
            recover(scene.documents[who], thoroughly=True)
            meant = scene.meant()
            assert meant in (scene.meant_before, scene.meant_after), "some files are done, and others are not"
            seen["done" if meant == scene.meant_after else "taken back"] += 1
            scene.assert_nothing_lost()
            for document in scene.documents:
                recover(document, thoroughly=True)
            assert meant == scene.meant()
            scene.run()
            assert scene.meant() == scene.meant_after
            assert tree(scene.place) == scene.after
            assert list(scene.place.rglob(f"*{TEMPORARY}*")) == []
    print(f"after kills: {dict(seen)}")
    assert set(seen) == {"done", "taken back"}


def repaired(tmp_path: Path, mode: str) -> Scene:
    swapped(tmp_path / "kept")
    place = tmp_path / "place"
    documents = [place / "sub-a" / "a.nwb", place / "sub-b" / "b.nwb"]
    options = {"existing": "replace", "search": [place]}
    return Scene(tmp_path / "kept", place, lambda: relocate_files(documents, mode, media_options=options, repair=True))


def relocated(tmp_path: Path, mode: str) -> Scene:
    raw(tmp_path / "kept")
    place = tmp_path / "place"
    return Scene(
        tmp_path / "kept",
        place,
        lambda: relocate_files([place / f"sub-{name}" / f"{name}.nwb" for name in NAMES], mode),
    )


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("mode", ["copy", "hardlink", "move"])
def test_repair_of_swapped_pair_killed(tmp_path: Path, mode: str) -> None:
    """Each of two videos has the other's name; both are put right, and a kill loses neither."""
    scene = repaired(tmp_path, mode)
    assert [content for _, content in scene.meant_after] == [content for _, content in reversed(scene.meant_before)]
    check_kills(scene, 23)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("mode", ["copy", "move"])
def test_relocate_of_several_files_killed(tmp_path: Path, mode: str) -> None:
    check_kills(relocated(tmp_path, mode), 11)


@pytest.mark.long
@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("mode", ["copy", "hardlink", "move"])
def test_repair_of_swapped_pair_killed_often(tmp_path: Path, mode: str) -> None:
    check_kills(repaired(tmp_path, mode), 2)


@pytest.mark.long
@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("mode", ["copy", "hardlink", "move", "symlink"])
def test_relocate_of_several_files_killed_often(tmp_path: Path, mode: str) -> None:
    check_kills(relocated(tmp_path, mode), 3)

"""Something else changes the same files: a second export, a program that writes a video, a full disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import MODES, Scene, Template, another_device, make_template, quiet
from helpers import digest, mounted, tree
from processes import FORKS, KILLED, Child, run_apart
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesError, NWBExtFilesHDF5IO
from nwb_extfiles.disk import contents, filesystem
from nwb_extfiles.errors import DestinationBusyError, RelocationRefusedError, TransferError

SIZE = 300_000


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"), SIZE)


@pytest.fixture(scope="module")
def other_template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("other template"), SIZE, seed=1)


@pytest.fixture
def scene(template: Template, tmp_path: Path) -> Scene:
    return Scene(template, tmp_path / "root", "same", tmp_path / "root" / "dandiset")


def assert_as_before(scene: Scene, before: dict[str, str]) -> None:
    assert scene.entries() == before
    scene.assert_former()
    assert not scene.is_new()


# ------------------------------------------------------------- two exports


def racer(scene: Scene, mode: str) -> Callable[[Child], None]:
    """Open and export on command, and report how each went."""

    def job(child: Child) -> None:
        child.hear()
        try:
            with quiet(), NWBHDF5IO(scene.source, "r") as source, NWBExtFilesHDF5IO(scene.target, "w") as io:
                child.tell(b"o")
                child.hear()
                options = {"existing": "replace"}
                io.export(src_io=source, relocate_media=True, media_mode=mode, media_options=options)
        except DestinationBusyError:
            child.tell(b"b")

    return job


@pytest.mark.parametrize("mode", MODES)
def test_one_of_two_runs_is_busy(template: Template, other_template: Template, tmp_path: Path, mode: str) -> None:
    """Two runs start at the same moment. The second gets an error, and changes nothing."""
    for turn in range(3 if FORKS else 1):
        place = tmp_path / "dandiset"
        scenes = [
            Scene(template, tmp_path / "one", "none", place),
            Scene(other_template, tmp_path / "two", "none", place),
        ]
        children = [Child(racer(scene, mode)) for scene in scenes]
        for child in children[:: 1 if turn % 2 else -1]:
            child.tell(b"g")
        answers = [child.hear() for child in children]
        assert sorted(answers) == [b"b", b"o"]
        winner = answers.index(b"o")
        assert children[1 - winner].wait() == 0
        children[winner].tell(b"g")
        assert children[winner].wait() == 0
        scenes[winner].assert_new()
        assert scenes[winner].temporaries() == []
        assert [digest(video) for video in scenes[1 - winner].videos] == scenes[1 - winner].digests


@pytest.mark.parametrize("mode", MODES)
def test_unordered_race(template: Template, other_template: Template, tmp_path: Path, mode: str) -> None:
    """At least one succeeds, and its result is complete."""
    for _ in range(3 if FORKS else 1):
        place = tmp_path / "dandiset"
        scenes = [
            Scene(template, tmp_path / "one", "none", place),
            Scene(other_template, tmp_path / "two", "none", place),
        ]
        children = [Child(racer(scene, mode)) for scene in scenes]
        for child in (*children, *children):
            child.tell(b"g")
        answers = [(child.hear(), child.wait())[0] for child in children]
        assert [child.status for child in children] == [0, 0]
        assert b"o" in answers
        right = 0
        for scene, answer in zip(scenes, answers, strict=True):
            assert answer == b"o" or [digest(video) for video in scene.videos] == scene.digests
            right += scene.target.exists() and scene.template.object_id in scene.target.read_bytes().decode("latin-1")
            assert scene.temporaries() == []
            if answer == b"o" and answers.count(b"o") == 1:
                scene.assert_new()
        assert right == 1


def test_second_io_in_one_process_is_busy(scene: Scene) -> None:
    with NWBExtFilesHDF5IO(scene.target, "w"):
        before = scene.entries()
        with pytest.raises(DestinationBusyError, match="being written"):
            scene.export("copy")
        assert scene.entries() == before
    scene.assert_former()
    scene.export("copy")
    scene.assert_new()


def holding(scene: Scene, mode: str) -> Callable[[Child], None]:
    """Stop in the middle of an export, and stay there."""

    def job(child: Child) -> None:
        def stop(done: int, total: int) -> None:
            child.tell(b"m")
            child.hear()

        scene.export(mode, progress=stop)

    return job


@pytest.mark.parametrize("mode", MODES)
def test_lock_of_dead_process_is_free(scene: Scene, mode: str) -> None:
    """The lock of a killed process does not block others. That of a sleeping process does."""
    child = Child(holding(scene, mode))
    assert child.hear() == b"m"
    with pytest.raises(DestinationBusyError) as caught:
        scene.export(mode)
    assert caught.value.nwb_path == str(scene.target)
    scene.assert_former()
    child.kill()
    assert child.wait() == KILLED
    assert scene.temporaries()
    scene.export(mode)
    scene.assert_new()
    assert scene.temporaries() == []


# --------------------------------------------------- videos that do not keep still


def change_during_copy(scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]) -> Any:
    """Export with copy, and change the first video when part of it is copied."""
    monkeypatch.setattr(contents, "COPY_CHUNK", SIZE // 5)
    monkeypatch.setattr(contents, "_clone", lambda reader, writer: False)
    changed: list[Path] = []

    def interfere(done: int, total: int) -> None:
        if not changed and done:
            changed.append(scene.videos[0])
            change(scene.videos[0])

    scene.export("copy", progress=interfere)


def shrink(video: Path) -> None:
    os.truncate(video, SIZE // 2)


def grow(video: Path) -> None:
    with video.open("ab") as file:
        file.write(b"more")


def overwrite(video: Path) -> None:
    with video.open("r+b") as file:
        file.write(b"other")


@pytest.mark.parametrize("change", [shrink, grow, overwrite])
def test_video_changes_while_it_is_copied(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    before, video = scene.entries(), str(scene.videos[0])
    with pytest.raises(TransferError, match=r"video_0\.avi"):
        change_during_copy(scene, monkeypatch, change)
    changed = digest(scene.videos[0])
    assert_as_before(scene, {**before, video: changed})
    scene.digests = [digest(path) for path in scene.videos]
    scene.export("copy")
    scene.assert_new()


def test_video_vanishes_while_it_is_copied(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third reference does not find its video."""
    before = scene.entries()
    hidden = scene.videos[0].with_name("hidden.avi")
    with pytest.raises(TransferError, match=r"video_0\.avi"):
        change_during_copy(scene, monkeypatch, lambda video: video.rename(hidden))
    hidden.rename(scene.videos[0])
    assert_as_before(scene, before)
    scene.export("copy")
    scene.assert_new()


@pytest.mark.parametrize("mode", MODES)
def test_later_video_vanishes(scene: Scene, mode: str) -> None:
    """A video vanishes after the first one was staged."""
    before, video, hidden = scene.entries(), scene.videos[1], scene.videos[1].with_name("hidden.avi")
    with pytest.raises(TransferError, match=r"video_1\.avi"):
        scene.export(mode, progress=lambda done, total: video.exists() and video.rename(hidden))
    hidden.rename(video)
    assert_as_before(scene, before)
    scene.export(mode)
    scene.assert_new()


@pytest.mark.parametrize("previous", ["none", "same"])
@pytest.mark.parametrize("mode", MODES)
def test_destination_folder_removed(template: Template, tmp_path: Path, mode: str, previous: str) -> None:
    """The run fails, the videos are unchanged, and the folder is not made again. The next run makes it."""
    scene = Scene(template, tmp_path / "root", previous, tmp_path / "root" / "dandiset")
    with pytest.raises((OSError, ExternalFilesError)):
        scene.export(mode, progress=lambda done, total: shutil.rmtree(scene.destination, ignore_errors=True))
    assert not scene.destination.exists()
    assert [digest(video) for video in scene.videos] == scene.digests
    assert scene.temporaries() == []
    scene.export(mode)
    scene.assert_new()


@pytest.mark.parametrize("mode", MODES)
def test_destination_folder_removed_before_commit(scene: Scene, mode: str) -> None:
    with pytest.raises((OSError, ExternalFilesError)):
        scene.export(mode, lambda step: step == b"c" and shutil.rmtree(scene.destination))
    assert not scene.destination.exists()
    assert [digest(video) for video in scene.videos] == scene.digests
    scene.export(mode)
    scene.assert_new()


# ------------------------------------------------------------ disks and devices


def test_disk_space_is_checked_before(template: Template, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", f"size={SIZE}", "none") as small:
        scene = Scene(template, tmp_path / "root", "none", small / "dandiset")
        before = scene.entries(), tree(small)
        with pytest.raises(RelocationRefusedError, match="make space, or use media_mode 'symlink'"):
            scene.export("copy")
        assert (scene.entries(), tree(small)) == before


@pytest.mark.parametrize("mode", ["copy", "move"])
@pytest.mark.parametrize("room", [0, 100_000])
def test_disk_full_during_run(template: Template, tmp_path: Path, mode: str, room: int) -> None:
    """While videos are copied, and while the NWB file is written. In its own process, as HDF5 may not recover."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", f"size={4 * SIZE}", "none") as small:
        scene = Scene(template, tmp_path / "root", "none", small / "dandiset")
        filler = small / "filler"

        def fill(done: int, total: int) -> None:
            """Leave space for the videos but not for the NWB file, or for one video only."""
            if not filler.exists():
                left = filesystem.free_bytes(small) - room - (SIZE if room else 0)
                filler.write_bytes(bytes(max(0, left)))

        def job() -> None:
            try:
                scene.export(mode, progress=fill)
            except (OSError, ExternalFilesError):
                os._exit(3)

        before = scene.entries()
        assert run_apart(job) == 3
        assert tree(small) == {"filler": digest(filler)}
        assert scene.entries() == before
        filler.unlink()
        scene.export(mode)
        scene.assert_new()
        assert scene.temporaries() == []


def test_hardlink_to_another_device(template: Template, tmp_path: Path) -> None:
    """Refused before anything is changed. The message names the modes that work, and they do."""
    shared = another_device(tmp_path)
    if shared is None:
        pytest.skip("no second file system to write to without being root")
    place = shared / f"nwb-extfiles-test-{os.getpid()}"
    try:
        for previous in ("none", "same"):
            scene = Scene(template, tmp_path / "root", previous, place)
            before = scene.entries()
            with pytest.raises(RelocationRefusedError, match="'copy', 'symlink', 'move' or 'reference'"):
                scene.export("hardlink")
            assert scene.entries() == before
            assert place.exists() == (previous != "none")
        for mode in ("copy", "symlink", "move"):
            scene = Scene(template, tmp_path / "root", "same", place)
            scene.export(mode)
            scene.assert_new()
            assert scene.temporaries() == []
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_hardlink_into_another_mount_of_one_device(template: Template, tmp_path: Path) -> None:
    """Only a try shows that no link can be made. Nothing is changed, and the message names the modes that work."""
    (tmp_path / "real").mkdir()
    with mounted(tmp_path / "mount", "--bind", str(tmp_path / "real")) as mount:
        scene = Scene(template, tmp_path / "root", "same", mount / "dandiset")
        before = scene.entries()
        with pytest.raises(ExternalFilesError, match="'copy', 'symlink', 'move' or 'reference'"):
            scene.export("hardlink")
        assert_as_before(scene, before)
        scene.export("move")
        scene.assert_new()
        assert [video.exists() for video in scene.videos] == [False] * 3

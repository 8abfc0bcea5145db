"""Runs in which one system call fails: the first, the second, and so on.

After each run, nothing has changed or the new state is complete; the error names leftovers; the next run completes.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from harness import DATASET, MODES, TEMPORARY, Scene, Template, make_template, quiet
from helpers import contents, digest, image_series, new_nwbfile, set_paths, stored_paths, write_nwb

from nwb_extfiles import ExternalFilesError, ExternalFilesWarning, NWBExtFilesHDF5IO
from nwb_extfiles.errors import DestinationBusyError
from nwb_extfiles.tasks.relocating import relocate_files
from nwb_extfiles.transfers.recovery import recover

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the calls are those of POSIX")

ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS)
PATH_CALLS = ("open", "link", "symlink", "rename", "replace", "unlink", "mkdir", "rmdir", "utime", "chmod", "scandir")
HANDLE_CALLS = ("fsync", "copy_file_range", "write", "ftruncate")
SIZE = 20_000


# ------------------------------------------------------------- failing calls


class Failing:
    """Counts the calls that concern the files of a scene, and makes one of them fail.

    Parameters
    ----------
    folders : tuple of pathlib.Path
        Only calls on paths in these folders count.
    at : int
        Number of the call that fails, from 1.
    number : int
        The errno of the error.
    onward : bool
        Whether all later calls that change something fail too, as if the disk had failed.
    """

    def __init__(self, folders: tuple[Path, ...], at: int, number: int, onward: bool = False) -> None:
        self.folders = tuple(str(folder) for folder in folders)
        self.at, self.number, self.onward = at, number, onward
        self.count = 0
        self.failed: list[str] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in PATH_CALLS:
            patch.setattr(os, name, self._failing(name, getattr(os, name), self._in_folders))
        for name in HANDLE_CALLS:
            if hasattr(os, name):
                patch.setattr(os, name, self._failing(name, getattr(os, name), self._from_package))
        for name in ("stat", "lstat"):
            patch.setattr(os, name, self._failing(name, getattr(os, name), self._asked_by_transfer))
        opener = self._failing("open()", builtins.open, self._in_folders)
        patch.setattr(builtins, "open", opener)
        patch.setattr(io, "open", opener)
        import fcntl

        for name in ("flock", "ioctl"):
            patch.setattr(fcntl, name, self._failing(name, getattr(fcntl, name), self._from_package))
        patch.setattr(h5py.File, "__init__", self._failing("H5Fopen", h5py.File.__init__, self._names_ours))
        patch.setattr(h5py.File, "flush", self._failing("H5Fflush", h5py.File.flush, self._is_ours))
        patch.setattr(h5py.File, "close", self._failing_after("H5Fclose", h5py.File.close, self._is_ours))

    def _failing(self, name: str, function: Callable[..., Any], concerns: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if concerns(*arguments, **options):
                self._step(name, arguments)
            return function(*arguments, **options)

        return call

    def _failing_after(self, name: str, function: Callable[..., Any], concerns: Callable[..., bool]) -> Any:
        """Close open files afterwards, for the tests that follow."""

        def call(*arguments: Any, **options: Any) -> Any:
            ours = concerns(*arguments, **options)
            function(*arguments, **options)
            if ours:
                self._step(name, arguments)

        return call

    def _step(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.count += 1
        if self.count == self.at or (self.onward and self.count > self.at and name not in ("stat", "lstat", "scandir")):
            paths = [os.fspath(argument) for argument in arguments[:2] if isinstance(argument, str | Path)]
            self.failed.append(f"{name}({', '.join(paths)})")
            raise OSError(self.number, os.strerror(self.number), *paths[:1])

    def _in_folders(self, *arguments: Any, **options: Any) -> bool:
        if options.get("dir_fd") is not None or (arguments and isinstance(arguments[0], int)):
            return self._from_package()  # shutil.rmtree
        return any(
            isinstance(argument, str | Path) and os.fspath(argument).startswith(self.folders)
            for argument in (*arguments[:2], *(value for name, value in options.items() if name in ("src", "dst")))
        )

    @staticmethod
    def _from_package(*arguments: Any, **options: Any) -> bool:
        frame = sys._getframe(2)
        while frame is not None:
            if str(frame.f_globals.get("__name__")).startswith("nwb_extfiles"):
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False

    @staticmethod
    def _asked_by_transfer(*arguments: Any, **options: Any) -> bool:
        """Whether the transfer calls. Elsewhere, a failing stat means that the file does not exist."""
        asks = str(sys._getframe(2).f_globals.get("__name__"))
        return asks.startswith(("nwb_extfiles.transfers.", "nwb_extfiles.disk."))

    def _names_ours(self, own: Any, name: Any, *arguments: Any, **options: Any) -> bool:
        return self._from_package() and isinstance(name, str | Path) and os.fspath(name).startswith(self.folders)

    def _is_ours(self, own: Any, *arguments: Any, **options: Any) -> bool:
        return bool(own) and own.mode != "r" and str(own.filename).startswith(self.folders)


# ------------------------------------------------------------------ the runs


class InPlace(Scene):
    """Relocates the media of an NWB file, and edits the file in place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shutil.move(self.source, self.destination.parent / "moved.nwb")
        self.destination.mkdir(exist_ok=True)
        if self.previous != "same":
            shutil.rmtree(self.destination)
            self.destination.mkdir()
        shutil.move(self.destination.parent / "moved.nwb", self.target)
        self.paths = tuple(os.path.relpath(video, self.destination) for video in self.videos)
        set_paths(self.target, DATASET, list(self.paths), dtype=h5py.string_dtype())
        self.first = contents(self.target)
        self.former = {path: digest(path) for path in self.destination.rglob("*.avi")}

    def export(self, mode: str, *arguments: Any, **options: Any) -> None:
        with quiet(), NWBExtFilesHDF5IO(self.target, "r+") as io:
            media_options = {**self.options, **options}
            io.write(io.read(), relocate_media=True, media_mode=mode, media_options=media_options)

    def is_new(self) -> bool:
        paths = tuple(stored_paths(self.target))
        assert paths in (self.paths, self.template.targets)
        now, changed = contents(self.target), DATASET
        assert {name for name in self.first if now.get(name) != self.first[name]} <= {changed}
        return paths == self.template.targets

    def assert_former(self) -> None:
        super().assert_former()
        assert not self.is_new()


class Excluding(Scene):
    """Writes a container in memory to a new NWB file, which must not replace an existing one."""

    def export(self, mode: str, *arguments: Any, **options: Any) -> None:
        nwbfile, series = new_nwbfile(), image_series([str(video) for video in self.videos])
        series._AbstractContainer__object_id = self.template.object_id
        nwbfile.add_acquisition(series)
        with quiet(), NWBExtFilesHDF5IO(self.target, "w" if self.target.exists() else "x") as io:
            media_options = {**self.options, **options}
            io.write(nwbfile, relocate_media=True, media_mode=mode, media_options=media_options)


KINDS: dict[str, tuple[type[Scene], str]] = {
    "new": (Scene, "none"),
    "replacing": (Scene, "same"),
    "exclusive": (Excluding, "none"),
    "in place": (InPlace, "none"),
    "in place, replacing": (InPlace, "same"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"), SIZE)


def make_scene(template: Template, root: Path, kind: str) -> Scene:
    scene_type, previous = KINDS[kind]
    return scene_type(template, root, previous, root / "dandiset")


def run_with(scene: Scene, mode: str, failing: Failing) -> tuple[BaseException | None, str]:
    """The error of a run, and its whole message."""
    error: BaseException | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("harness.quiet", warnings.catch_warnings)
            patch.setattr(sys.modules[__name__], "quiet", warnings.catch_warnings)
            failing.install(patch)
            try:
                scene.export(mode)
            except Exception as raised:
                error = raised
    said = [str(entry.message) for entry in caught if issubclass(entry.category, ExternalFilesWarning)]
    cause: BaseException | None = error
    while cause is not None:
        said.extend((str(cause), *getattr(cause, "__notes__", ())))
        cause = cause.__cause__ or cause.__context__  # all that a traceback shows
    others = [entry for entry in caught if not issubclass(entry.category, ExternalFilesWarning)]
    assert not others, others
    return error, "\n".join(said)


def is_named(path: str | Path, said: str) -> bool:
    return re.search(re.escape(str(path)) + r"(?!\.nwb|[\w-])", said) is not None


def check(
    scene: Scene,
    before: dict[str, str],
    expected: dict[str, str],
    error: BaseException | None,
    said: str,
    onward: bool,
) -> set[str]:
    """Check that all or nothing was done, and that leftovers are named. Returns the sources of a move that stay."""
    assert error is None or isinstance(error, OSError | ExternalFilesError), repr(error)
    if isinstance(error, DestinationBusyError) and "is being written" in str(error):
        # With EACCES from flock, the staging folder looks like that of another run.
        for path in scene.temporaries():
            assert os.listdir(path) == ["lock"]
            shutil.rmtree(path)
    if onward and isinstance(scene, InPlace) and any((path / "unfinished").exists() for path in scene.temporaries()):
        # The disk failed while pages were written or restored: the journal has them, the error names it, and the next
        # call that opens the file restores it.
        assert all(is_named(path, said) for path in scene.temporaries()), f"left over: {scene.temporaries()}"
        with NWBExtFilesHDF5IO(scene.target, "r"):
            pass
        assert scene.temporaries() == []
        scene.assert_former()
    new = scene.assert_unharmed()
    assert new or error is not None, "the run ended well, and did nothing"
    if not new:
        assert all(is_named(path, said) for path in scene.temporaries()), f"left over: {scene.temporaries()}"
    after = {name: what for name, what in scene.entries().items() if TEMPORARY not in name}
    if new:
        for path in scene.temporaries():
            assert is_named(path, said), f"left over: {path}"
        more = {name for name in after if name not in expected and before.get(name) == after[name]}
        assert {name: what for name, what in after.items() if name not in more} == expected
        assert all(is_named(name, said) for name in more), f"not moved: {more}"
        return more
    if not onward:
        scene.assert_former()
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert all(is_named(name, said) for name in changed), f"changed: {changed}"
    return set()


def sweep(
    template: Template,
    root: Path,
    kind: str,
    mode: str,
    *,
    error: int | None = None,
    stride: int = 1,
    onward: bool = False,
) -> None:
    """Let one call after the other fail, with one error or with a different one each time."""
    make_scene(template, root, kind).export(mode)  # loads modules that are loaded at first use
    scene = make_scene(template, root, kind)
    before = scene.entries()
    scene.export(mode)
    scene.assert_new()
    expected = scene.entries()
    faults: dict[str, str] = {}
    for at in itertools.count(1, stride):
        number = error or ERRORS[at // stride % len(ERRORS)]
        scene = make_scene(template, root, kind)
        failing = Failing((scene.root, scene.destination), at, number, onward)
        raised, said = run_with(scene, mode, failing)
        if not failing.failed:
            assert raised is None
            break
        try:
            stay = check(scene, before, expected, raised, said, onward)
            scene.export(mode)  # the error is still held, as in an except clause
            scene.assert_new()
            assert scene.temporaries() == []
            now = scene.entries()
            # The names that stay are removed by the next run only if a note of them could be written.
            kept = {name: before[name] for name in stay if isinstance(scene, InPlace) and name in now}
            assert now == {**expected, **kept}
        except (AssertionError, OSError, ExternalFilesError) as fault:
            where = f"call {at}: {failing.failed[0]} {errno.errorcode[number]}"
            faults[where] = f"{type(fault).__name__}: {fault}\n    run: {raised!r}; said: {said}"
    print(f"\n{kind}, {mode}: {at} calls, {len(faults)} faults")
    assert not faults, "\n".join(f"{name}\n    {fault}" for name, fault in faults.items())


@pytest.mark.parametrize("mode", ["copy", "move"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_failing_system_call_changes_nothing(template: Template, tmp_path: Path, kind: str, mode: str) -> None:
    sweep(template, tmp_path / "root", kind, mode, stride=5)


class FailingAfterCommit(Failing):
    """Counts only what comes after the step that commits a call over several NWB files."""

    def _step(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.count or (name == "rename" and str(arguments[1]).endswith("committed")):
            super()._step(name, arguments)


@pytest.mark.parametrize("onward", [False, True])
def test_disk_that_fails_after_a_joint_commit(tmp_path: Path, onward: bool) -> None:
    """Two NWB files in one call: both are done, the message does not deny it, and the next run clears what is left."""
    for at in itertools.count(2, 5 if onward else 3):
        root = tmp_path / str(at)
        root.mkdir()
        paths = [write_nwb(root / f"{name}.nwb", [f"{name}.avi"]) for name in "ab"]
        for path in paths:
            path.with_suffix(".avi").write_bytes(path.stem.encode() * 100)
        failing = FailingAfterCommit((root,), at, errno.EROFS, onward)
        said = []
        with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("always")
            failing.install(patch)
            try:
                relocate_files(paths, "move")
            except (OSError, ExternalFilesError) as error:
                said = [str(error), *getattr(error, "__notes__", ())]
                assert "after all was put in place" in said[0]
        said += [str(entry.message) for entry in caught]
        if not failing.failed:
            break
        assert said, failing.failed
        for path in paths:
            assert (root / stored_paths(path)[0]).read_bytes() == path.stem.encode() * 100, failing.failed
        for path in paths:
            recover(path, thoroughly=True)
        left = {entry for entry in root.iterdir() if entry.suffix != ".nwb" and not entry.is_dir()}
        assert all(is_named(video, "\n".join(said)) for video in left), (failing.failed, left, said)
        assert not [entry for entry in root.iterdir() if TEMPORARY in entry.name], failing.failed
    assert at > 20


# Each error at each call for a new and for an edited file; elsewhere one error after the other, call by call.
EACH = [(kind, error) for kind in KINDS for error in (ERRORS if kind in ("new", "in place") else (None,))]


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "error"), EACH, ids=lambda value: errno.errorcode.get(value, value or "in turn"))
def test_each_failing_system_call_changes_nothing(
    template: Template, tmp_path: Path, kind: str, mode: str, error: int | None
) -> None:
    sweep(template, tmp_path / "root", kind, mode, error=error)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_system_calls_fail_from_one_on(template: Template, tmp_path: Path, kind: str, mode: str) -> None:
    """As if the disk fails, so that the rollback fails too: nothing is lost, and the error names all leftovers."""
    sweep(template, tmp_path / "root", kind, mode, onward=True)

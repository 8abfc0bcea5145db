"""Compare the package with a model in memory: what each reference must resolve to after any sequence of calls.

The model knows bytes and paths only. A reference is live while the file at its path has its bytes. It dangles after an
export with ``move`` to another NWB file, or the user, has removed that file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import h5py
import pytest
from helpers import image_series, new_nwbfile, stored_paths
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesError, NWBExtFilesHDF5IO
from nwb_extfiles.errors import MissingMediaError

PATHS = "acquisition/{}/external_file"
MODES = ("copy", "move", "symlink", "hardlink", "reference")
PLACES = ("raw/a.nwb", "raw/b.nwb", "out/a.nwb", "out/b.nwb", "out/sub-x/a.nwb", "deep/er/c.nwb")
NUMBER = st.integers(0, 5)


class Interrupt(KeyboardInterrupt):
    """What a user raises when a call takes too long."""


class Disk(RuleBasedStateMachine):
    """Videos, NWB files and what is done with them, on disk and in the model."""

    nwb_files = Bundle("nwb_files")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.root = Path(os.path.realpath(self._folder.name))
        self.made = 0
        self.content: set[bytes] = set()  # must not be lost
        self.model: dict[Path, dict[str, list[bytes | None]]] = {}  # None: it dangles, as it should

    def teardown(self) -> None:
        self._folder.cleanup()

    # ------------------------------------------------------------------- model

    def series(self, path: Path) -> dict[str, list[str]]:
        """The paths stored in an NWB file, read with h5py alone."""
        with h5py.File(path, "r") as file:
            names = list(file["acquisition"])
        return {name: stored_paths(path, PATHS.format(name)) for name in names}

    def meaning(self, path: Path) -> dict[str, list[bytes | None]]:
        """What each reference resolves to now."""
        found: dict[str, list[bytes | None]] = {}
        for name, paths in self.series(path).items():
            places = [path.parent / stored for stored in paths]
            found[name] = [place.read_bytes() if place.is_file() else None for place in places]
        return found

    def everything(self) -> dict[str, bytes | str]:
        """Everything on disk: links with their targets, files with their bytes."""
        return {
            str(path): os.readlink(path) if path.is_symlink() else path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_symlink() or path.is_file()
        }

    def expect_loss(self) -> None:
        """After a video was removed on purpose, references to it dangle. None may resolve to something else."""
        for path, expected in self.model.items():
            for name, contents in self.meaning(path).items():
                for index, now in enumerate(contents):
                    if now is None:
                        expected[name][index] = None

    # ------------------------------------------------------------------ making

    @initialize()
    def folders(self) -> None:
        (self.root / "videos").mkdir()

    def new_video(self) -> Path:
        self.made += 1
        suffix = (".avi", ".MP4", "")[self.made % 3]
        video = self.root / "videos" / f"{self.made}{suffix}"
        content = b"video %d " % self.made * 20
        video.write_bytes(content)
        self.content.add(content)
        return video

    @rule(target=nwb_files, counts=st.lists(st.integers(1, 2), min_size=1, max_size=2), absolute=st.booleans())
    def make_nwb(self, counts: list[int], absolute: bool) -> Path:
        """Write a new NWB file with new videos, with pynwb."""
        videos = [[self.new_video() for _ in range(count)] for count in counts]
        path = self.root / "new" / f"n{self.made}.nwb"
        path.parent.mkdir(exist_ok=True)
        nwbfile = new_nwbfile()
        for number, group in enumerate(videos):
            paths = [str(video) if absolute else os.path.relpath(video, path.parent) for video in group]
            nwbfile.add_acquisition(image_series(paths, f"s{number}"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with NWBHDF5IO(path, "w") as io:
                io.write(nwbfile)
        self.model[path] = {
            f"s{number}": [video.read_bytes() for video in group] for number, group in enumerate(videos)
        }
        return path

    @rule(target=nwb_files, first=nwb_files)
    def make_second_nwb(self, first: Path) -> Path:
        """Write another NWB file, which refers to the videos of an existing one."""
        places = {
            name: [os.path.realpath(first.parent / stored) for stored in paths]
            for name, paths in self.series(first).items()
        }
        self.made += 1
        path = self.root / "new" / f"n{self.made}.nwb"
        nwbfile = new_nwbfile()
        for name, paths in places.items():
            nwbfile.add_acquisition(image_series([os.path.relpath(stored, path.parent) for stored in paths], name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with NWBHDF5IO(path, "w") as io:
                io.write(nwbfile)
        self.model[path] = self.meaning(path)
        return path

    # ------------------------------------------------------------------- doing

    def call(self, source: Path, target: Path, stop_at: int | None, **arguments: Any) -> BaseException | None:
        """Export, or relocate in place if source and target are the same. Returns the error, if any."""
        calls = 0

        def progress(done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            if stop_at is not None and calls > stop_at:
                raise Interrupt

        options = dict(sync=False, **arguments.pop("media_options", {}))
        if stop_at is not None:
            options["progress"] = progress
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if source == target:
                    with NWBExtFilesHDF5IO(target, "r+") as io:
                        io.write(io.read(), media_options=options, **arguments)
                else:
                    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
                        io.export(src_io=src_io, media_options=options, **arguments)
            except (ExternalFilesError, Interrupt) as error:
                return error
        return None

    def relocate(self, source: Path, target: Path, mode: str, missing: str, existing: str, stop_at: int | None) -> None:
        wanted = {name: list(contents) for name, contents in self.model[source].items()}
        before = self.everything()
        options = dict(missing=missing, existing=existing)
        error = self.call(source, target, stop_at, relocate_media=True, media_mode=mode, media_options=options)
        if error is not None:
            after = self.everything()
            if source == target:  # HDF5 changes a file that it opens for writing; its paths are checked below
                before.pop(str(source))
                after.pop(str(source))
            assert after == before, "an error left something behind"
            if isinstance(error, MissingMediaError):
                assert None in [content for contents in wanted.values() for content in contents]
            return
        found = self.meaning(target)
        for name, contents in wanted.items():
            for now, then in zip(found[name], contents, strict=True):
                # A missing video may have been found where an earlier move to this file put it.
                assert now == then or (then is None and (missing == "keep" or now in self.content))
        self.model[target] = found
        if mode == "move" or existing == "replace":
            self.expect_loss()

    @rule(
        target=nwb_files, source=nwb_files, place=st.sampled_from(PLACES), mode=st.sampled_from(MODES),
        missing=st.sampled_from(["error", "keep"]), stop_at=st.none() | st.none() | NUMBER,
    )  # fmt: skip
    def export(self, source: Path, place: str, mode: str, missing: str, stop_at: int | None) -> Path:
        target = self.root / place
        if target == source:
            return source
        self.relocate(source, target, mode, missing, "error", stop_at)
        return target if target in self.model else source

    @rule(source=nwb_files, mode=st.sampled_from(MODES), missing=st.sampled_from(["error", "keep"]),
          stop_at=st.none() | NUMBER)  # fmt: skip
    def relocate_in_place(self, source: Path, mode: str, missing: str, stop_at: int | None) -> None:
        self.relocate(source, source, mode, missing, "error", stop_at)

    @rule(source=nwb_files, place=st.sampled_from(PLACES), mode=st.sampled_from(MODES))
    def export_twice(self, source: Path, place: str, mode: str) -> None:
        """The second run gives the result of the first."""
        target = self.root / place
        if target == source or target in self.model:
            return
        self.relocate(source, target, mode, "error", "error", None)
        if target not in self.model:
            return
        paths = self.series(target)
        self.relocate(source, target, mode, "error", "error", None)
        assert mode == "reference" or self.series(target) == paths

    @rule(source=nwb_files, place=st.sampled_from(PLACES), relocate=st.sampled_from([None, False]))
    def export_verbatim(self, source: Path, place: str, relocate: bool | None) -> None:
        target = self.root / place
        if target == source:
            return
        before = self.everything()
        error = self.call(source, target, None, relocate_media=relocate)
        if error is not None:
            assert relocate is None
            assert self.everything() == before
            return
        assert self.series(target) == self.series(source)
        self.model[target] = self.meaning(target)
        if relocate is None:  # no working path was broken
            for name, contents in self.model[source].items():
                for now, then in zip(self.model[target][name], contents, strict=True):
                    assert then is None or now == then

    @rule(source=nwb_files, number=NUMBER)
    def break_off(self, source: Path, number: int) -> None:
        """The user raises an exception in the body of the with statement."""
        target = self.root / PLACES[number]
        if target == source:
            return
        before = self.everything()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
                    io.export(src_io=src_io, relocate_media=True, media_mode="move", media_options=dict(sync=False))
                    raise Interrupt
            except (Interrupt, ExternalFilesError):
                pass
        assert self.everything() == before

    # --------------------------------------------------------------- the world

    @precondition(lambda self: self.made > 2)
    @rule(number=st.integers(0, 30))
    def delete_a_video(self, number: int) -> None:
        """The user removes a video of the first folder. Its content may then be lost."""
        videos = sorted((self.root / "videos").iterdir())
        if videos:
            videos[number % len(videos)].unlink()
            self.content = {content for content in self.content if content in self.everything().values()}
            self.expect_loss()

    @rule(path=consumes(nwb_files))
    def take_a_copy_elsewhere(self, path: Path) -> None:
        """The user copies an NWB file and its media to another folder."""
        media = path.with_suffix("")
        copies = self.root / "copies"
        copies.mkdir(exist_ok=True)
        copy = copies / str(len(os.listdir(copies))) / path.name  # each in a folder of its own
        copy.parent.mkdir()
        shutil.copy(path, copy)
        if media.is_dir():
            shutil.copytree(media, copy.with_suffix(""), dirs_exist_ok=True, symlinks=False, ignore=dangling)
        self.model[copy] = self.meaning(copy)
        own = [stored.startswith(f"{path.stem}/") for paths in self.series(copy).values() for stored in paths]
        before = [content for contents in self.model[path].values() for content in contents]
        after = [content for contents in self.model[copy].values() for content in contents]
        for relocated, then, now in zip(own, before, after, strict=True):
            assert not relocated or then == now, "a folder with its NWB file is whole in itself"

    # -------------------------------------------------------------- invariants

    @invariant()
    def references_resolve(self) -> None:
        for path, expected in self.model.items():
            found = self.meaning(path)
            assert found.keys() == expected.keys()
            for name, contents in expected.items():
                for now, then in zip(found[name], contents, strict=True):
                    assert then is None or now == then, f"{path} {name}"

    @invariant()
    def nothing_is_left(self) -> None:
        assert not list(self.root.rglob(".nwb-extfiles-*"))

    @invariant()
    def no_video_is_lost(self) -> None:
        there = {value for value in self.everything().values() if isinstance(value, bytes)}
        assert self.content <= there


def dangling(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not os.path.exists(os.path.join(folder, name))]


ORDINARY = settings(
    max_examples=6, stateful_step_count=10, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
)


def test_state_machine_agrees_with_model() -> None:
    run_state_machine_as_test(Disk, settings=ORDINARY)


@pytest.mark.long
def test_state_machine_agrees_with_model_long() -> None:
    run_state_machine_as_test(Disk, settings=settings(ORDINARY, max_examples=60, stateful_step_count=40))

"""`organize` with its cache does and says what it does without: chains of random changes and calls, on two equal trees.

The trees have the same path in turn, so that all messages and links can be compared as they are. More chains are made
with ``NWB_EXTFILES_CHAINS=300 pytest tests/test_organize_cache_alike.py``.
"""

from __future__ import annotations

import os
import random
import shutil
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner
from helpers import needs_symlink, tree
from recordings import DATASET, recording, set_scalar, video

from nwb_extfiles import organize
from nwb_extfiles.cli import main
from nwb_extfiles.errors import ExternalFilesError
from nwb_extfiles.options import MediaOptions

CHAINS = int(os.environ.get("NWB_EXTFILES_CHAINS", "6"))
STEPS = 9
PAST = 1_500_000_000_000_000_000
VIDEOS = ("a.avi", "b.avi", "../shared/c.avi", "https://example.org/d.avi", "gone.avi")


class Scene:
    """One folder `work` in two versions: of the calls with a cache, and of those without."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.work = folder / "work"
        self.versions = folder / "with", folder / "without"
        self.raw, self.root = self.work / "raw", self.work / "ds"
        (self.versions[0] / "raw" / "shared").mkdir(parents=True)
        shutil.copytree(*self.versions)
        for _ in range(2):
            self.change(self.add)

    def each(self, do: Callable[[bool], Any]) -> list[Any]:
        """Do the same in both versions."""
        found = []
        for cache, version in zip((True, False), self.versions, strict=True):
            version.rename(self.work)
            try:
                found.append(do(cache))
            finally:
                self.work.rename(version)
        return found

    def change(self, change: Callable[[random.Random], Any]) -> None:
        """Change the files, with the same bytes and times in both versions."""
        seed = self.random.random()
        self.each(lambda _: self._changed(change, random.Random(seed)))

    def _changed(self, change: Callable[[random.Random], Any], chance: random.Random) -> None:
        ids = uuid.uuid4
        uuid.uuid4 = lambda: uuid.UUID(int=chance.getrandbits(128), version=4)
        try:
            change(chance)
        finally:
            uuid.uuid4 = ids
        for path in self.work.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.utime(path, ns=(PAST, PAST))

    def nwb_files(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*.nwb") if path.is_file())

    def one(self, chance: random.Random, folder: Path | None = None) -> Path | None:
        found = self.nwb_files(folder or chance.choice([self.raw, self.root]))
        return chance.choice(found) if found else None

    # -------------------------------------------------------------- changes

    def add(self, chance: random.Random) -> None:
        """A recording, perhaps instead of another one."""
        recording(
            self.raw / chance.choice("pq") / f"{chance.choice('rst')}.nwb",
            chance.choices(VIDEOS[:4], k=chance.randrange(3)),
            subject=chance.choice(["m0", "m1", "ü 2"]),
            session=chance.choice(["s0", "s0", "s1", None]),
            start=chance.choice(["2020-01-01T00:00:00+00:00", "2020-01-02T03:04:05.5-05:00"]),
        )

    def copy(self, chance: random.Random) -> None:
        """The bytes of a file instead of those of another one, or beside it, where its paths mean other videos."""
        source, other = self.one(chance), self.one(chance)
        if source is None or other is None or source == other:
            return
        target = chance.choice([other, other.with_name("copy.nwb"), self.raw / "p" / "copy" / "r.nwb"])
        target.parent.mkdir(exist_ok=True)
        content = source.read_bytes()
        target.unlink(missing_ok=True)
        target.write_bytes(content)
        if chance.random() < 0.5 and target.is_relative_to(self.raw):
            video(target.parent / "a.avi", "another one")
            video(target.parent / "b.avi", "another one too")

    def rename(self, chance: random.Random) -> None:
        """A file, with its bytes and another name."""
        if (path := self.one(chance)) is not None:
            target = path.with_name(chance.choice(["renamed.nwb", f"{path.stem}x.nwb"]))
            if not target.exists():
                path.rename(target)

    def link(self, chance: random.Random) -> None:
        """A file that is a link to another one."""
        path, other = self.one(chance), self.one(chance)
        if path is None or other is None or path.resolve() == other.resolve():
            return
        path.unlink()
        if chance.random() < 0.5:
            path.symlink_to(os.path.relpath(other.resolve(), path.parent))
        else:
            os.link(other.resolve(), path)

    def edit(self, chance: random.Random) -> None:
        """Something in a file, here with its old size and time."""
        path = self.one(chance)
        if path is None or not h5py.is_hdf5(path):
            return
        with suppress(OSError, RuntimeError), h5py.File(path, "r+") as file:  # unless it was cut
            chance.choice([_flip, _other_path, _other_name, _other_ids, _no_ids, _problem, _unreadable])(file, chance)

    def cut(self, chance: random.Random) -> None:
        """A file that was not written to its end, or was written to."""
        if (path := self.one(chance)) is not None:
            os.truncate(path, path.stat().st_size + chance.choice([-100, 1, 5000]))

    def remove(self, chance: random.Random) -> None:
        if (path := self.one(chance)) is not None:
            path.unlink()

    def videos(self, chance: random.Random) -> None:
        """A video that is gone, another one, or two that are swapped."""
        found = sorted(path for path in self.work.rglob("*.avi") if path.is_file())
        if len(found) < 2:
            return
        one, other = chance.sample(found, 2)
        what = chance.choice(["gone", "changed", "swapped", "cut"])
        if what == "gone":
            one.unlink()
        elif what == "changed":
            video(one, "changed")
        elif what == "cut":
            os.truncate(one, 100)
        else:
            (one.with_name("aside"), other)[0].unlink(missing_ok=True)
            one.rename(one.with_name("aside"))
            other.rename(one)
            one.with_name("aside").rename(other)

    # -------------------------------------------------------------- calls

    def call(self) -> tuple[Any, ...]:
        """The arguments of a call; mostly those of the call before, because a repeated call uses the cache most."""
        chance = self.random
        options = {
            "manifest": chance.random() < 0.15,
            "missing": chance.choice(["error", "keep"]),
            "existing": chance.choice(["error", "error", "skip", "replace"]),
            "sync": False,
        }
        if chance.random() < 0.2:
            options["media_fields"] = [("TimeSeries", "my_files"), ("ImageSeries", "unit")][: chance.choice([1, 2])]
        if chance.random() < 0.2:
            options["search"] = [self.raw / "p"]
        if chance.random() < 0.2:
            options["path_map"] = {"a.avi": "b.avi"}
        call: dict[str, Any] = {
            "media_mode": chance.choice(["copy", "symlink", "hardlink", ["hardlink", "copy"]]),
            "files_mode": "move" if chance.random() < 0.08 else "copy",
            "invalid": chance.choice(["fail", "warn", "warn"]),
            "required_fields": ["session_id"] if chance.random() < 0.15 else [],
            "media_options": options,
            "dry_run": chance.random() < 0.2,
        }
        if chance.random() < 0.1:
            call |= {"media_mode": None, "update_external_file_paths": False}
        return call, chance.choice([self.raw, self.raw, self.raw / "p", [self.raw / "q", self.root]])

    def said(self, call: dict[str, Any], paths: Any, cache: bool, threads: bool) -> tuple[Any, ...]:
        """All that a call says and leaves behind."""
        done: list[str] = []
        (self.raw / "p").mkdir(exist_ok=True)  # which is searched
        options = MediaOptions(**call["media_options"])
        with warnings.catch_warnings(record=True) as warned, ThreadPoolExecutor(2) as pool:
            warnings.simplefilter("always")
            try:
                plan = organize(
                    paths, self.root, **call | {"media_options": options}, cache=cache,
                    executor=pool if threads else None, on_file=lambda file: done.append(f"{file!r} {file.is_done}"),
                )  # fmt: skip
                said = repr([self._file(file) for file in plan]), str(plan), plan.warnings, plan.work_bytes
            except ExternalFilesError as error:
                said = type(error), str(error), getattr(error, "__notes__", ())
        return said, sorted(done), [str(one.message) for one in warned], self._tree()

    @staticmethod
    def _file(file: Any) -> tuple[Any, ...]:
        """A plan without devices and inodes."""
        media = [
            (one.reference, one.target, one.source and (one.source.path, one.source.size))
            for one in file.plan.relocations
        ]
        return file.source, file.target, file.is_there, file.is_done, file.replaces, file.plan.edits, media

    def _tree(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, what in tree(self.work).items():
            path = self.work / name
            status = os.lstat(path)
            has_manifest = path.suffix == ".nwb" and path.is_file() and b"ExternalFileManifest" in path.read_bytes()
            content = status.st_size if has_manifest else what  # the ids of a manifest are new ones each time
            found[name] = content, status.st_mode, status.st_nlink
        return found

    def printed(self, cache: bool, form: str) -> tuple[Any, ...]:
        """What the command prints."""
        arguments = ["organize", "-d", str(self.root), str(self.raw), "--invalid", "warn", "--dry-run"]
        result = CliRunner().invoke(main, [*arguments, *form.split(), "--cache" if cache else "--no-cache"])
        return result.exit_code, result.output, result.stderr


def _flip(file: h5py.File, chance: random.Random) -> None:
    for place in ("acquisition/video/starting_time", "acquisition/cam/starting_time"):
        if place in file:
            file[place][...] = file[place][...] + 1


def _other_path(file: h5py.File, chance: random.Random) -> None:
    if DATASET in file and len(file[DATASET]):
        file[DATASET][0] = chance.choice(VIDEOS)


def _other_name(file: h5py.File, chance: random.Random) -> None:
    if "acquisition/video" in file:
        file.move("acquisition/video", "acquisition/cam")


def _other_ids(file: h5py.File, chance: random.Random) -> None:
    set_scalar(file, chance.choice(["general/subject/subject_id", "general/session_id", "identifier"]), "other")


def _no_ids(file: h5py.File, chance: random.Random) -> None:
    set_scalar(file, chance.choice(["identifier", "general/session_id"]), None)


def _problem(file: h5py.File, chance: random.Random) -> None:
    """Paths that are none, or a time that only dandi reads."""
    if DATASET in file and chance.random() < 0.5:
        del file[DATASET]
        file[DATASET] = [1, 2]
    else:
        set_scalar(file, "session_start_time", "January 5th 2020, 12:00")


def _unreadable(file: h5py.File, chance: random.Random) -> None:
    if chance.random() < 0.5:
        set_scalar(file, "general/subject/subject_id", None)
    else:
        file["acquisition/other"] = h5py.ExternalLink("other.nwb", "/acquisition")


def _differences(known: Any, plain: Any) -> list[tuple[Any, ...]]:
    """What differs, in parts that are short enough to be read."""
    if known == plain:
        return []
    if isinstance(known, dict) and isinstance(plain, dict):
        keys = sorted(known.keys() | plain.keys())
        return [(key, known.get(key), plain.get(key)) for key in keys if known.get(key) != plain.get(key)]
    if isinstance(known, tuple) and isinstance(plain, tuple) and len(known) == len(plain):
        return [pair for pairs in map(_differences, known, plain) for pair in pairs]
    return [(known, plain)]


@needs_symlink
@pytest.mark.parametrize("seed", range(CHAINS))
def test_organize_with_and_without_cache_does_and_says_the_same(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, seed)
    chance = scene.random
    changes = [scene.add, scene.add, scene.copy, scene.rename, scene.link, scene.edit, scene.edit, scene.edit,
               scene.cut, scene.remove, scene.videos]  # fmt: skip
    call, paths = scene.call()
    for step in range(STEPS):
        if step and chance.random() < 0.7:
            scene.change(chance.choice(changes))
        if chance.random() < 0.5:
            call, paths = scene.call()
        threads = chance.random() < 0.2
        known, plain = scene.each(lambda cache: scene.said(call, paths, cache, threads))  # noqa: B023
        assert _differences(known, plain) == [], (step, call)
        if chance.random() < 0.2:
            form = chance.choice(["", "--json", "--quiet"])
            known, plain = scene.each(lambda cache: scene.printed(cache, form))  # noqa: B023
            assert _differences(known, plain) == [], (step, form)

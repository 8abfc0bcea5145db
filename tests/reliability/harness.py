"""What the reliability tests share: a scene of files with checks, and runs in processes of their own.

The checks use h5py and hashes alone, and never ask the code under test.
"""

from __future__ import annotations

import os
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
from helpers import digest, set_paths, stored_paths, write_nwb
from processes import KILLED, Child
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO

MODES = ("copy", "move", "symlink", "hardlink")
TEMPORARY = ".nwb-extfiles-"
DATASET = "acquisition/video/external_file"

SOURCE_PATHS = ("videos/video_0.avi", "videos/video_1.avi", "videos/video_0.avi")
"""Two videos; the first is referred to twice."""


# ------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Template:
    """Files that scenes copy."""

    folder: Path
    object_id: str
    targets: tuple[str, ...]
    """The paths that a correct result stores, by DANDI's convention and not by the code under test."""


def make_template(folder: Path, size: int, seed: int = 0) -> Template:
    """Make an NWB file with two videos of `size` bytes, and two NWB files that can be at the destination before."""
    rng = random.Random(seed)
    (folder / "raw" / "videos").mkdir(parents=True)
    for number in range(2):
        (folder / "raw" / "videos" / f"video_{number}.avi").write_bytes(rng.randbytes(size + number))
    source = write_nwb(folder / "raw" / "source.nwb", SOURCE_PATHS)
    with h5py.File(source) as file:
        object_id = str(file["acquisition/video"].attrs["object_id"])
    targets = tuple(f"sub-a/{object_id}_external_file_{index}.avi" for index in range(3))
    for kind, paths in (("other", tuple(f"sub-a/old_{index}.avi" for index in range(3))), ("same", targets)):
        place = folder / kind
        (place / "sub-a").mkdir(parents=True)
        shutil.copy(source, place / "sub-a.nwb")
        set_paths(place / "sub-a.nwb", DATASET, list(paths), dtype=h5py.string_dtype())
        for index, stored in enumerate(paths):
            (place / stored).write_bytes(rng.randbytes(size // 2 + index))
    return Template(folder, object_id, targets)


@dataclass
class Scene:
    """A source and a destination.

    Before the run, the destination holds nothing (``none``), an NWB file whose media have other names than the new ones
    (``other``), or an NWB file whose media have the same names (``same``).
    """

    template: Template
    root: Path
    previous: str
    destination: Path
    source: Path = field(init=False)
    target: Path = field(init=False)
    digests: list[str] = field(init=False)
    """SHA-256 of the media, in the order of the references."""
    former: dict[Path, str] = field(init=False)
    """Files at the destination before the run, with their digests."""

    def __post_init__(self) -> None:
        self.source = self.root / "raw" / "source.nwb"
        self.target = self.destination / "sub-a.nwb"
        for folder in (self.root, self.destination):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.template.folder / "raw", self.root / "raw")
        if self.previous != "none":
            shutil.copytree(self.template.folder / self.previous, self.destination)
        self.digests = [digest(self.source.parent / stored) for stored in SOURCE_PATHS]
        self.former = {path: digest(path) for path in self.destination.rglob("*") if path.is_file()}

    @property
    def videos(self) -> list[Path]:
        """The media that the source refers to."""
        return [self.source.parent / stored for stored in SOURCE_PATHS]

    @property
    def targets(self) -> list[Path]:
        return [self.destination / stored for stored in self.template.targets]

    @property
    def options(self) -> dict[str, Any]:
        return {"existing": "replace" if self.previous == "same" else "error"}

    def export(
        self, mode: str, mark: Callable[[bytes], object] = lambda step: None, io_mode: str = "w", **options: Any
    ) -> None:
        """The run under test."""
        with quiet(), NWBHDF5IO(self.source, "r") as source, NWBExtFilesHDF5IO(self.target, io_mode) as io:
            mark(b"e")
            media_options = {**self.options, **options}
            io.export(src_io=source, relocate_media=True, media_mode=mode, media_options=media_options)
            mark(b"c")

    def temporaries(self) -> list[Path]:
        """Temporary files and folders that a run left behind, without those inside others."""
        found = [path for folder in (self.root, self.destination) for path in folder.rglob(f"*{TEMPORARY}*")]
        return sorted({path for path in found if TEMPORARY not in str(path.parent)})

    def entries(self) -> dict[str, str]:
        """Every path at the source and the destination, with its content. Of an NWB file, only the name counts."""
        found = {}
        for folder in {self.root, self.destination}:
            for path in folder.rglob("*"):
                if path.is_symlink():
                    found[str(path)] = f"-> {os.readlink(path)}"
                elif path.is_dir():
                    found[str(path)] = "folder"
                else:
                    found[str(path)] = "an NWB file" if path == self.target else digest(path)
        return found

    def is_new(self) -> bool:
        """Whether the new NWB file is in place. Fails if neither the new nor the previous one is."""
        if not self.target.exists():
            assert self.previous == "none", "the previous NWB file is lost"
            return False
        if digest(self.target) == self.former.get(self.target):
            return False
        assert tuple(stored_paths(self.target)) == self.template.targets
        return True

    def assert_new(self) -> None:
        """The new NWB file opens, and all its media are right."""
        assert self.is_new()
        with h5py.File(self.target) as file:
            assert str(file["acquisition/video"].attrs["object_id"]) == self.template.object_id
        assert [digest(target) for target in self.targets] == self.digests

    def assert_unharmed(self) -> bool:
        """Check what must hold at any moment. Returns whether the new NWB file is in place."""
        new = self.is_new()
        if new:
            self.assert_new()
        else:
            assert [digest(video) for video in self.videos] == self.digests, (
                "a video went before the NWB file was there"
            )
        for video, content in zip(self.videos, self.digests, strict=True):
            assert not video.exists() or digest(video) == content, f"{video} has other bytes"
        whole = {*self.digests, *self.former.values()}
        for path in self.destination.rglob("*"):
            if path.is_symlink():
                assert path.exists(), f"{path} is a dangling link"
            if path.is_file() and TEMPORARY not in str(path) and path != self.target:
                assert digest(path) in whole, f"{path} is truncated"
        if not new:
            kept = {digest(path) for path in self.destination.rglob("*") if path.is_file()}
            assert set(self.former.values()) <= kept, "former media are lost"
        return new

    def assert_former(self) -> None:
        """All files that were at the destination are there, byte for byte."""
        assert {path: digest(path) for path in self.former} == self.former


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings of this package, which a move gives for the NWB file that it leaves behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExternalFilesWarning)
        yield


# ---------------------------------------------------------------- processes


def steps_of(job: Callable[[Callable[[bytes], None]], object]) -> dict[bytes, float]:
    """How long each step of an undisturbed run takes, in seconds."""
    child = Child(lambda own: job(own.tell))
    times = []
    while step := child.hear():
        times.append((step, time.perf_counter()))
    ends = [moment for _, moment in times[1:]] + [time.perf_counter()]
    assert child.wait() == 0
    return {step: end - begin for (step, begin), end in zip(times, ends, strict=True)}


class Killer:
    """Kills runs at random moments, anywhere between the start and the end of a step.

    On a busy machine, the duration of a step varies. A run that ends before it is killed makes the expected duration
    shorter, and a run that is killed makes it longer.

    Parameters
    ----------
    job : callable
        The first run, which is not killed.
    rng : random.Random
        Chooses the moments.
    """

    def __init__(self, job: Callable[[Callable[[bytes], None]], object], rng: random.Random) -> None:
        self.durations = steps_of(job)
        self._rng = rng
        self.trace: list[str] = []
        """What was done, for the message of a failing test."""

    def kill(self, job: Callable[[Callable[[bytes], None]], object], step: bytes) -> bool:
        """Kill a run some time after a step began. Returns whether it was killed before it ended."""
        delay = self._rng.uniform(0, 1.1 * self.durations[step])
        self.trace.append(f"{step.decode()}+{delay * 1000:.2f} ms")
        child = Child(lambda own: job(own.tell))
        while (heard := child.hear()) and heard != step:
            pass
        time.sleep(delay)
        child.kill()
        status = child.wait()
        assert status in (0, KILLED), "the run failed before it was killed"
        if heard:
            self.durations[step] *= 1.1 if status else 0.7
        return status != 0


# ------------------------------------------------------------- file systems


def another_device(beside: Path) -> Path | None:
    """A folder in another file system than `beside`, which needs no root. None if there is none."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or not os.access(shared, os.W_OK) or shared.stat().st_dev == beside.stat().st_dev:
        return None
    return shared

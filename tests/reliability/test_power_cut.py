"""Power cuts: what was not synced yet may be missing, or may have come in another order.

A real run is recorded: after every call that changes files, the tree is compared with what it was, so that also what
HDF5 writes behind Python's back is seen; the synced files and folders are noted. A model of a journalling file system
then tells, for every prefix of the record, which trees a power cut may leave, these are made on disk, and judged by
h5py and hashing alone. Then the same call is made again. What the model takes for true:

- a file that is synced has its bytes, though not yet its name; a folder that is synced has its names;
- a new file that is not synced may be empty, cut off or full of zeros; in an old one each page may be old or new;
- a change of names in a folder that is not synced may be missing, whatever came before or after it. A rename inside a
  folder is there or not, as a whole; one from folder to folder may show both names, but never none.

``NWB_EXTFILES_SEED=17 pytest tests/reliability/test_power_cut.py`` repeats the random choices of a run.
"""

from __future__ import annotations

import builtins
import errno
import hashlib
import io
import itertools
import os
import random
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import h5py
import pytest
from helpers import digest, image_series, new_nwbfile, set_paths, stored_paths
from pynwb import NWBHDF5IO, NWBFile

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO
from nwb_extfiles.transfers.recovery import recover
from nwb_extfiles.transfers.transfer import Transfer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="folders are not synced there")

SEED = int(os.environ.get("NWB_EXTFILES_SEED", "7"))
TEMPORARY = ".nwb-extfiles-"
DATASET = "acquisition/video/external_file"
VIDEOS = ("raw/videos/video_0.avi", "raw/videos/video_1.avi", "raw/videos/video_0.avi")
"""Where the references lead: two videos, the first one twice."""
SOURCE, DOCUMENT = "raw/source.nwb", "dest/sub-a.nwb"
PAGE = 4096

_link, _open, _scandir, _readlink, _lstat = os.link, io.open, os.scandir, os.readlink, os.lstat


# ------------------------------------------------------------------- record


class Names(NamedTuple):
    """Names of a folder that come to mean other files, or none, at once."""

    folder: int
    assigned: dict[str, int | None]
    needs: int | None = None
    """For the old name of a rename to another folder: the place in the record of the new one."""


class Data(NamedTuple):
    """What a file holds from now on."""

    file: int
    content: bytes


class Sync(NamedTuple):
    """A file or folder is flushed."""

    file: int


Step = Names | Data | Sync
Meaning = tuple[str, str]
"""What a file number is: ``("folder", "")``, ``("file", "")`` or ``("link", its text)``."""

_CHANGING = [
    "chmod",
    "copy_file_range",
    "ftruncate",
    "link",
    "mkdir",
    "pwrite",
    "remove",
    "rename",
    "replace",
    "rmdir",
    "symlink",
    "truncate",
    "unlink",
    "utime",
    "write",
]


class Record:
    """What becomes of the files below a folder, step by step.

    Files have numbers of their own, because a file system gives those of removed ones to others.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[Step] = []
        self.kinds: dict[int, Meaning] = {}
        self.syncs = 0
        self._numbers: dict[int, int] = {}
        self._next = itertools.count()
        self._busy = threading.RLock()
        self._looking = False
        self.folders, self.contents = self._look()
        self.first_folders = {number: dict(names) for number, names in self.folders.items()}
        self.first_contents = dict(self.contents)
        self.top = self._numbers[_lstat(root).st_ino]

    def _look(self) -> tuple[dict[int, dict[str, int]], dict[int, bytes]]:
        """The names in each folder, and the bytes of each file, as they are now."""
        seen: dict[int, int] = {}
        folders: dict[int, dict[str, int]] = {}
        contents: dict[int, bytes] = {}

        def number_of(inode: int, kind: Meaning) -> int:
            number = self._numbers.get(inode)
            if number is None or self.kinds[number] != kind:
                number = seen.get(inode, next(self._next))
                self.kinds[number] = kind
                self._numbers[inode] = number
            seen[inode] = number
            return number

        def visit(folder: str, number: int) -> None:
            names = folders[number] = {}
            with _scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            for entry in found:
                inode = entry.inode()
                if entry.is_symlink():
                    names[entry.name] = number_of(inode, ("link", _readlink(entry.path)))
                elif entry.is_dir():
                    names[entry.name] = number_of(inode, ("folder", ""))
                    visit(entry.path, names[entry.name])
                else:
                    own = names[entry.name] = number_of(inode, ("file", ""))
                    if own not in contents:
                        with _open(entry.path, "rb") as file:
                            contents[own] = file.read()

        visit(str(self.root), number_of(_lstat(self.root).st_ino, ("folder", "")))
        self._numbers = seen
        return folders, contents

    def note(self, *, rename: bool = False) -> None:
        """Write down what has changed since the last time."""
        with self._busy:
            self._looking = True
            try:
                folders, contents = self._look()
            finally:
                self._looking = False
            for number, content in contents.items():
                if self.contents.get(number, b"") != content:
                    self.steps.append(Data(number, content))
            changes = []
            for number in {**self.folders, **folders}:
                old, new = self.folders.get(number, {}), folders.get(number, {})
                assigned = {name: new.get(name) for name in {**old, **new} if old.get(name) != new.get(name)}
                if assigned:
                    changes.append((number, assigned))
            # what comes goes first, so that what goes can refer to it
            changes.sort(key=lambda change: all(value is None for value in change[1].values()))
            arrived = len(self.steps)
            for position, (number, assigned) in enumerate(changes):
                if rename:
                    self.steps.append(Names(number, assigned, arrived if position else None))
                else:
                    self.steps.extend(Names(number, {name: value}) for name, value in assigned.items())
            self.folders, self.contents = folders, contents

    def _hooked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if self._looking and threading.current_thread() is self._thread:
                return call(*args, **kwargs)
            try:
                return call(*args, **kwargs)
            finally:
                self.note(rename=name in ("rename", "replace"))

        return hook

    def _hooked_open(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def hook(path: Any, how: Any = "r", *args: Any, **kwargs: Any) -> Any:
            opened = call(path, how, *args, **kwargs)
            writes = set(how) & set("wxa+") if isinstance(how, str) else how & (os.O_CREAT | os.O_TRUNC)
            if writes and isinstance(path, str | os.PathLike) and str(path).startswith(str(self.root)):
                self.note()
            return opened

        return hook

    def _fsync(self, handle: int) -> None:
        """Note it, and save the time of doing it."""
        self.syncs += 1
        self.note()
        number = self._numbers.get(os.fstat(handle).st_ino)
        if number is not None:
            self.steps.append(Sync(number))

    @contextmanager
    def running(self) -> Iterator[Record]:
        """Record what is done meanwhile."""
        self._thread = threading.current_thread()
        with ExitStack() as stack:
            for name in _CHANGING:
                if hasattr(os, name):
                    stack.enter_context(mock.patch.object(os, name, self._hooked(name, getattr(os, name))))
            for name in ("fsync", "fdatasync"):
                if hasattr(os, name):
                    stack.enter_context(mock.patch.object(os, name, self._fsync))
            stack.enter_context(mock.patch.object(os, "open", self._hooked_open(os.open)))
            stack.enter_context(mock.patch.object(io, "open", self._hooked_open(_open)))
            stack.enter_context(mock.patch.object(builtins, "open", self._hooked_open(_open)))
            yield self
        self.note()


# -------------------------------------------------------------------- model


@dataclass
class Disk:
    """What is on the disk for certain, and what only may be, after some steps of a record."""

    record: Record
    sure: dict[int, dict[str, int | None]] = field(init=False)
    """The names in each folder."""
    pending: dict[int, Names] = field(default_factory=dict)
    """Changes of names that may be missing, by their place in the record."""
    certain: set[int] = field(default_factory=set)
    """Of these the ones that are not, because something that needs them is synced."""
    versions: dict[int, list[bytes | None]] = field(init=False)
    """What each file may hold, oldest first; None for nothing that was ever synced."""
    length: int = 0

    def __post_init__(self) -> None:
        self.sure = {number: dict(names) for number, names in self.record.first_folders.items()}
        self.versions = {number: [content] for number, content in self.record.first_contents.items()}

    def advance(self) -> Step:
        """Take the next step."""
        step = self.record.steps[self.length]
        if isinstance(step, Names):
            self.pending[self.length] = step
        elif isinstance(step, Data):
            self.versions.setdefault(step.file, [None]).append(step.content)
        elif step.file in self.versions:
            del self.versions[step.file][:-1]
        else:
            for place, change in list(self.pending.items()):
                if change.folder == step.file:
                    self.sure.setdefault(change.folder, {}).update(change.assigned)
                    del self.pending[place]
                    if change.needs in self.pending:
                        self.certain.add(change.needs)
        self.length += 1
        return step

    @property
    def unsure(self) -> list[int]:
        """Files whose bytes may be missing."""
        return [number for number, versions in self.versions.items() if len(versions) > 1 or versions[0] is None]

    def damaged(self, number: int, rng: random.Random) -> list[bytes]:
        """What a file may hold that was written to, and not synced; the mildest first."""
        first, *later = self.versions[number]
        last = later[-1] if later else b""
        if first is None:
            return [b"", last[: len(last) // 2], bytes(len(last))]
        mixed = bytearray()
        for start in range(0, len(last), PAGE):
            choice = rng.choice([first, *(version or b"" for version in later)])
            mixed += choice[start : start + PAGE].ljust(min(PAGE, len(last) - start), b"\0")
        return [first, bytes(mixed), bytes(mixed[: len(first)])]

    def tree(self, kept: set[int], contents: dict[int, bytes]) -> State:
        """The tree with some of the pending changes, and with other contents of some files."""
        folders = {number: dict(names) for number, names in self.sure.items()}
        wanted = {place for place in self.pending if place in kept or place in self.certain}
        for place, change in sorted(self.pending.items()):
            if place in wanted and (change.needs is None or change.needs not in self.pending or change.needs in wanted):
                folders.setdefault(change.folder, {}).update(change.assigned)
        state: State = {}
        last = {number: versions[-1] or b"" for number, versions in self.versions.items()}

        def visit(number: int, path: str) -> None:
            for name, child in folders.get(number, {}).items():
                if child is None:
                    continue
                kind, text = self.record.kinds[child]
                below = f"{path}/{name}" if path else name
                if kind == "folder":
                    state[below] = Entry(kind, child, b"")
                    visit(child, below)
                else:
                    content = os.fsencode(text) if kind == "link" else contents.get(child, last.get(child, b""))
                    state[below] = Entry(kind, child, content)

        visit(self.record.top, "")
        return state

    def trees(self, rng: random.Random, combinations: int) -> Iterator[tuple[str, State]]:
        """Trees that a power cut may leave now, each with a word on what is missing."""
        names, files = set(self.pending), self.unsure
        worst = {number: self.damaged(number, rng)[0] for number in files}
        yield "nothing is missing", self.tree(names, {})
        yield "all is missing", self.tree(set(), worst)
        yield "all names are missing", self.tree(set(), {})
        yield "all data are missing", self.tree(names, worst)
        for place in names:
            yield f"{self.pending[place]} is missing", self.tree(names - {place}, {})
            yield f"only {self.pending[place]} is there", self.tree({place}, worst)
        for number in files:
            for damage in self.damaged(number, rng):
                yield f"data of {number} are damaged", self.tree(names, {number: damage})
            yield (
                f"only data of {number} are there",
                self.tree(set(), {other: content for other, content in worst.items() if other != number}),
            )
        if len(names) + len(files) > 1:
            for _ in range(combinations):
                yield (
                    "some are missing",
                    self.tree(
                        {place for place in names if rng.random() < 0.5},
                        {number: rng.choice(self.damaged(number, rng)) for number in files if rng.random() < 0.5},
                    ),
                )


class Entry(NamedTuple):
    """What a path is in a tree."""

    kind: str
    number: int
    content: bytes


State = dict[str, Entry]


def signature(state: State) -> str:
    """Tells trees apart."""
    hashed = hashlib.sha256()
    for path, entry in sorted(state.items()):
        hashed.update(repr((path, entry.kind, entry.number, len(entry.content))).encode())
        hashed.update(hashlib.sha256(entry.content).digest())
    return hashed.hexdigest()


# -------------------------------------------------------------------- scene


@dataclass(frozen=True)
class Template:
    """The trees to begin with."""

    folder: Path
    targets: tuple[str, ...]
    """The paths that a right result holds, by DANDI's convention and not by the code under test."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder, in memory where there is such a file system: folders come and go faster there."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A source with two videos, and what may stand at the destination before."""
    folder = tmp_path_factory.mktemp("template")
    rng = random.Random(1)
    (folder / "raw" / "videos").mkdir(parents=True)
    for number in range(2):
        (folder / VIDEOS[number]).write_bytes(rng.randbytes(9000 + number))
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([f"videos/video_{number}.avi" for number in (0, 1, 0)]))
    with NWBHDF5IO(folder / SOURCE, "w") as writer:
        writer.write(nwbfile, cache_spec=False)  # makes each run, of which there are many, shorter
    with h5py.File(folder / SOURCE) as file:
        object_id = file["acquisition/video"].attrs["object_id"]
    targets = tuple(f"sub-a/{object_id}_external_file_{index}.avi" for index in range(3))
    others = tuple(f"sub-a/old_{index}.avi" for index in range(3))
    for kind, paths in (("other", others), ("same", targets), ("edited", ())):
        (folder / kind / "sub-a").mkdir(parents=True)
        shutil.copy(folder / SOURCE, folder / kind / "sub-a.nwb")
        stored = list(paths) or [f"../{video}" for video in VIDEOS]
        set_paths(folder / kind / "sub-a.nwb", DATASET, stored, dtype=h5py.string_dtype())
        for index, text in enumerate(paths):
            (folder / kind / text).write_bytes(rng.randbytes(7000 + index))
    for index, text in enumerate(targets):
        if index != 1:
            (folder / "edited" / text).write_bytes(rng.randbytes(6000 + index))
    return Template(folder, targets)


@dataclass(frozen=True)
class Case:
    """A call, and where it is made.

    What stands at the destination before is ``none``, ``other`` (an NWB file with media under other names), ``same``
    (one with media under the very names that the new ones get), ``stray`` (such media without an NWB file), or, for an
    edit in place, ``bare`` (nothing else) or ``edited`` (other media under those names). Links can be
    made ``everywhere``, not ``across`` from the videos to the destination, or ``nowhere``.
    """

    mode: str
    previous: str = "none"
    io_mode: str = "w"
    links: str = "everywhere"
    unsynced_before: bool = False
    """Whether media stand at their final names already, not flushed."""
    trouble: str = ""
    """What happens at the very last step, all media being in place: it fails (``failing``), and what is recorded is
    also how all is taken back, or the run is killed there (``killed``), and what is recorded is the recovery."""

    def __str__(self) -> str:
        words = [self.mode, self.previous, self.io_mode, f"links {self.links}" if self.links != "everywhere" else ""]
        words += ["unsynced" if self.unsynced_before else "", self.trouble]
        return "-".join(word for word in words if word)


@contextmanager
def unsynced() -> Iterator[None]:
    """No real syncs: they would take most of the time."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield


class Scene:
    """The files of a case, and what checks them."""

    def __init__(self, case: Case, template: Template, folder: Path) -> None:
        self.case, self.template = case, template
        self.root, self.vault = folder / "root", folder / "vault"
        shutil.copytree(template.folder / "raw", self.root / "raw")
        previous = "edited" if case.previous in ("bare", "stray") else case.previous
        if previous != "none":
            shutil.copytree(template.folder / previous, self.root / "dest")
        if case.previous == "stray":
            self.document.unlink()
        if case.previous == "bare":  # an edit in place where no media stand in the way
            shutil.rmtree(self.document.parent / "sub-a")
        self.edits = case.io_mode == "r+"
        if self.edits:  # it was made from this one, which would need the videos where they are
            (self.root / SOURCE).unlink()
        self.videos = {video: digest(self.root / video) for video in VIDEOS}
        self.former = {path: digest(path) for path in self.root.glob("dest/**/*") if path.is_file()}
        self.former_paths = stored_paths(self.document) if self.document.exists() else []
        # The very videos are laid out again for each tree: what is known of them by their number stays true.
        self.vault.mkdir()
        self.kept = {}
        for video in set(VIDEOS):
            _link(self.root / video, self.vault / Path(video).name)
            self.kept[(self.root / video).stat().st_ino] = self.vault / Path(video).name

    @property
    def document(self) -> Path:
        return self.root / DOCUMENT

    @property
    def targets(self) -> list[Path]:
        return [self.document.parent / target for target in self.template.targets]

    @property
    def contents(self) -> list[str]:
        """The digests of what the references name."""
        return [self.videos[video] for video in VIDEOS]

    def call(self, mode: str | None = None, **options: Any) -> None:
        """What is tested."""
        replace = self.case.previous in ("same", "edited", "stray") or self.case.unsynced_before
        options.setdefault("existing", "replace" if replace else "error")
        asked = {"relocate_media": True, "media_mode": mode or self.case.mode, "media_options": options}
        with self.surroundings():
            if self.edits:
                with NWBExtFilesHDF5IO(self.document, "r+") as writer:
                    writer.write(writer.read(), cache_spec=False, **asked)
                return
            if self.case.io_mode == "x" and not self.document.exists():  # exports know no such mode
                with NWBExtFilesHDF5IO(self.document, "x") as writer:
                    writer.write(self.in_memory(), cache_spec=False, **asked)
                return
            with NWBHDF5IO(self.root / SOURCE, "r") as source, NWBExtFilesHDF5IO(self.document, "w") as writer:
                writer.export(src_io=source, cache_spec=False, **asked)

    def in_memory(self) -> NWBFile:
        """What stands in the source, with the object_id that the targets have in their names."""
        nwbfile = new_nwbfile()
        series = image_series([self.root / video for video in VIDEOS])
        series._AbstractContainer__object_id = Path(self.template.targets[0]).name[:36]
        nwbfile.add_acquisition(series)
        return nwbfile

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Links are refused where the case says so; warnings of a move that leaves an NWB file are right."""
        links, videos = os.link, str(self.root / "raw" / "videos")

        def link(source: Any, target: Any, **kwargs: Any) -> None:
            if self.case.links == "nowhere" or (str(source).startswith(videos) != str(target).startswith(videos)):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            links(source, target, **kwargs)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExternalFilesWarning)
            with mock.patch.object(os, "link", link) if self.case.links != "everywhere" else nullcontext():
                yield

    def lay_out(self, state: State, record: Record) -> None:
        """Make a tree."""
        shutil.rmtree(self.root)
        self.root.mkdir()
        made: dict[int, Path] = {}
        vault = {}
        for names in record.first_folders.values():
            for name, number in names.items():
                if (self.vault / name).exists():
                    vault[number] = self.vault / name
        for path, entry in state.items():  # folders come before what is in them
            place = self.root / path
            if entry.kind == "folder":
                place.mkdir()
            elif entry.kind == "link":
                os.symlink(os.fsdecode(entry.content), place)
            elif entry.number in made or entry.number in vault:
                _link(made.get(entry.number) or vault[entry.number], place)
            else:
                place.write_bytes(entry.content)
                made[entry.number] = place

    # ------------------------------------------------------------- judge

    def checker(self, new_document: str) -> None:
        """What must be true after a power cut, whenever it came."""
        present = {str(path): digest(path) for path in self.root.rglob("*") if path.is_file()}
        if self.edits:
            with unsynced():
                recover(self.document)
            new = self._check_edited()
        else:
            found = present.get(str(self.document))
            new = found == new_document
            if not new:
                assert found == self.former.get(self.document), "the NWB file is neither the previous nor the new one"
        own = {str(path) for path in [*self.targets, *(self.root / video for video in VIDEOS)]}
        for content in self.contents:
            assert content in {present.get(path) for path in own}, "a video is lost"
        if new:
            found = [digest(path) if path.exists() else "" for path in self.targets]
            assert found == self.contents, "the new NWB file stands there without its media"
            return
        for video, content in self.videos.items():
            assert present.get(str(self.root / video)) == content, f"{video} went before the NWB file was there"
        for path, content in self.former.items():
            assert path == self.document or content in present.values(), f"the former {path.name} is lost"
        for text in () if self.edits else self.former_paths:
            found = present.get(str(self.document.parent / text))
            whole = {self.former[self.document.parent / text]}
            if self.document.parent / text in self.targets:
                whole.add(self.contents[self.targets.index(self.document.parent / text)])
            gone = self.case.links == "nowhere" and found is None  # for the moment, says `Transfer`
            assert gone or found in whole, f"{text}, which the previous NWB file refers to, is truncated"

    def _check_edited(self) -> bool:
        """Whether the stored paths are the new ones; fails if they are neither."""
        paths = stored_paths(self.document)
        if tuple(paths) == self.template.targets:
            return True
        assert paths == self.former_paths, "the stored paths are neither the old nor the new ones"
        assert [digest(self.document.parent / text) for text in paths] == self.contents
        for path, content in self.former.items():
            assert path == self.document or digest(path) == content, f"the former {path.name} is not back"
        return False

    def check_return(self, new_document: str) -> None:
        """The next run begins by bringing back what the NWB file that stands there refers to."""
        if self.document.exists() and digest(self.document) == new_document:
            return
        with self.surroundings(), unsynced():
            Transfer(self.document).rollback()
        self.assert_former()

    def assert_former(self) -> None:
        """What stood at the destination stands there; the stored paths of an edited file are checked elsewhere."""
        for path, content in self.former.items():
            assert path == self.document or (path.exists() and digest(path) == content), f"{path.name} is not back"

    def check_next_run(self, expected: set[str]) -> None:
        """The same call again completes, and clears up."""
        with unsynced():
            self.call()
        names = self.names()
        assert not [name for name in names if TEMPORARY in name]
        assert tuple(stored_paths(self.document)) == self.template.targets
        assert [digest(target) for target in self.targets] == self.contents
        # An edit whose paths were changed does not know any more where its videos came from.
        # And what is written from memory leaves the videos to the source file, which an export takes them from.
        ignored = set(VIDEOS) if self.edits or self.case.io_mode == "x" else set()
        assert names - ignored == expected - ignored, sorted((names ^ expected) - ignored)
        assert {path: digest(path) for path in self.vault.iterdir()} == {
            self.vault / Path(video).name: content for video, content in self.videos.items()
        }

    def names(self) -> set[str]:
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}


# ------------------------------------------------------------------ the cuts


def record_run(scene: Scene) -> tuple[Record, int]:
    """Record the call of a case; also the number of steps that came before it."""
    if scene.case.trouble == "killed":
        # what holds the lock lets go of it, as it does when its process ends
        with mock.patch.object(Transfer, "rollback", lambda transfer: transfer._staging.release()):
            fail_at_last_step(scene)
        assert [name for name in scene.names() if "/former/" in name]
    record = Record(scene.root)
    with record.running():
        if scene.case.unsynced_before:
            prepare_unsynced(scene)
        before = len(record.steps)
        if scene.case.trouble == "killed":
            Transfer(scene.document).rollback()
        elif scene.case.trouble == "failing":
            fail_at_last_step(scene)
        else:
            scene.call()
    return record, before


def fail_at_last_step(scene: Scene) -> None:
    """Have the disk fail once, when the media are in place and the NWB file follows."""
    replace, ftruncate, failed = os.replace, os.ftruncate, []

    def failing_replace(source: Any, target: Any) -> None:
        if str(target) == str(scene.document):
            failed.append(target)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    def failing_ftruncate(handle: int, size: int) -> None:
        if not failed:
            failed.append(handle)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        ftruncate(handle, size)

    with mock.patch.object(os, "replace", failing_replace), mock.patch.object(os, "ftruncate", failing_ftruncate):
        with pytest.raises(OSError, match="Input/output error"):
            scene.call()
    assert failed


def prepare_unsynced(scene: Scene) -> None:
    """Have the media at their final names, as somebody copied them who has flushed nothing."""
    for video, target in zip(VIDEOS, scene.targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scene.root / video, target)


def cut_everywhere(
    case: Case, template: Template, folder: Path, *, combinations: int, next_runs: int | None, share: float = 1.0
) -> None:
    """Judge what a power cut leaves, after each step of a run."""
    rng = random.Random(f"{SEED} {case}")
    scene = Scene(case, template, folder)
    record, before = record_run(scene)
    new_document = digest(scene.document)
    assert not [name for name in scene.names() if TEMPORARY in name]
    if case.trouble:
        assert new_document == scene.former[scene.document] or scene.edits
        new_document = "none"
        scene.assert_former()
        with unsynced():
            scene.call()
    expected = scene.names()
    disk = Disk(record)
    found: dict[str, tuple[str, State]] = {}
    while True:
        if disk.length >= before:
            for what, state in disk.trees(rng, combinations):
                found.setdefault(signature(state), (f"after {disk.length} steps: {what}", state))
        if disk.length == len(record.steps):
            break
        disk.advance()
    assert disk.length >= (10 if case.trouble else 20)
    chosen = [item for item in found.values() if rng.random() < share]
    again = set(
        range(len(chosen)) if next_runs is None else rng.sample(range(len(chosen)), min(next_runs, len(chosen)))
    )
    wrong: dict[str, str] = {}
    for position, (what, state) in enumerate(chosen):
        try:
            scene.lay_out(state, record)
            scene.checker(new_document)
            if scene.former and not scene.edits:
                scene.check_return(new_document)
            if position in again:
                scene.lay_out(state, record)
                scene.check_next_run(expected)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            wrong.setdefault(reason, f"{case}, seed {SEED}, {what}: {reason}")
    print(f"{case}: {len(record.steps)} steps, {len(found)} trees, {len(chosen)} judged, {len(again)} run again")
    if wrong:
        pytest.fail("\n".join(wrong.values()), pytrace=False)


MODES = ("copy", "move", "symlink", "hardlink")
EXPORTS = [Case(mode, previous) for mode in MODES for previous in ("none", "other", "same")]
EDITS = [Case(mode, previous, "r+") for mode in MODES for previous in ("bare", "edited")]
SPECIAL = [
    Case("copy", "none", "x"),
    Case("move", "none", "x"),
    Case("copy", "stray", "x"),
    Case("move", "none", links="across"),
    Case("move", "same", links="across"),
    Case("copy", "same", links="nowhere"),
    Case("move", "same", links="nowhere"),
    Case("copy", unsynced_before=True),
    Case("move", unsynced_before=True),
]
TROUBLE = [
    Case(mode, previous, io_mode, links, trouble=trouble)
    for trouble in ("failing", "killed")
    for mode, previous, io_mode, links in (
        ("copy", "same", "w", "everywhere"),
        ("move", "same", "w", "nowhere"),
        ("copy", "edited", "r+", "everywhere"),
        ("move", "edited", "r+", "everywhere"),
    )
]
ALL = [*EXPORTS, *EDITS, *SPECIAL, *TROUBLE]


@pytest.mark.parametrize("case", ALL, ids=str)
def test_power_cut_leaves_previous_or_new_state(case: Case, template: Template, place: Path) -> None:
    """Some of the trees that a cut may leave after each step, and the next run from a few of them."""
    cut_everywhere(case, template, place, combinations=1, next_runs=1, share=0.3)


@pytest.mark.long
@pytest.mark.parametrize("case", ALL, ids=str)
def test_power_cut_leaves_previous_or_new_state_thorough(case: Case, template: Template, place: Path) -> None:
    """All of them, with many combinations, and the next run from a good part."""
    cut_everywhere(case, template, place, combinations=12, next_runs=50)


# --------------------------------------------------------------------- order


def is_final(path: str) -> bool:
    """Whether a path below the destination is none of those that a run makes for itself."""
    return path.startswith("dest") and TEMPORARY not in path


def places_of(disk: Disk, change: Names) -> dict[str, int | None]:
    """The paths of the names that change, as the whole tree is now."""
    tree = disk.tree(set(disk.pending), {})
    folders = {entry.number: f"{path}/" for path, entry in tree.items() if entry.kind == "folder"}
    folders[disk.record.top] = ""
    return {
        folders[change.folder] + name: number for name, number in change.assigned.items() if change.folder in folders
    }


@pytest.mark.parametrize("case", [case for case in ALL if not case.trouble], ids=str)
def test_order_of_fsyncs(case: Case, template: Template, place: Path) -> None:
    """Bytes before names, media before the NWB file, that before anything of the source goes."""
    scene = Scene(case, template, place)
    record, before = record_run(scene)
    disk = Disk(record)
    seen = set()
    document = -1
    first_edit = True
    for step in record.steps:
        changes = places_of(disk, step) if isinstance(step, Names) else {}
        named = {path: number for path, number in changes.items() if number is not None and is_final(path)}
        media = [change for place, change in disk.pending.items() if any(map(is_final, places_of(disk, change)))]
        if disk.length >= before:
            for path, number in named.items():
                if record.kinds[number][0] == "file":
                    assert number not in disk.unsure, f"{path} is named before its bytes are synced"
                    seen.add("bytes of a file")
            edits = (
                isinstance(step, Data) and step.file == disk.tree(set(), {}).get(DOCUMENT, Entry("", -1, b"")).number
            )
            if DOCUMENT in named or (edits and first_edit):
                assert not media, f"the NWB file comes before {media} is synced"
                assert not [number for number in disk.unsure if number in final_files(disk)]
                first_edit = False
                document = disk.length
                seen.add("NWB file")
            for path, number in changes.items():
                if number is None and path.startswith("raw/"):
                    assert document >= 0
                    assert document not in disk.pending, f"{path} goes before the NWB file is synced"
                    assert not [number for number in disk.unsure if number in final_files(disk)]
                    seen.add("source of a move")
        disk.advance()
    assert not any(path.startswith("raw/") or is_final(path) for path in unsynced_paths(disk)), "at the end"
    # a file that is written from memory leaves the videos to the one that names them already
    goes = case.mode == "move" and case.io_mode != "x"
    assert seen >= {"NWB file"} | ({"source of a move"} if goes else set())
    assert "bytes of a file" in seen or case.unsynced_before or case.mode == "symlink" or scene.edits


def final_files(disk: Disk) -> set[int]:
    """The files that have final names."""
    return {entry.number for path, entry in disk.tree(set(disk.pending), {}).items() if is_final(path)}


def unsynced_paths(disk: Disk) -> list[str]:
    """The names that may be missing."""
    return [path for change in disk.pending.values() for path in places_of(disk, change)]


@pytest.mark.parametrize(
    "case", [*EXPORTS, *EDITS, Case("move", "same", links="across"), Case("copy", unsynced_before=True)], ids=str
)
def test_sync_false_does_not_fsync(case: Case, template: Template, place: Path) -> None:
    """`sync=False` flushes nothing at all, and the result is the same."""
    scene = Scene(case, template, place)
    if case.unsynced_before:
        prepare_unsynced(scene)
    record = Record(scene.root)
    with record.running():
        scene.call(sync=False)
    assert record.syncs == 0
    assert tuple(stored_paths(scene.document)) == scene.template.targets
    assert [digest(target) for target in scene.targets] == scene.contents
    assert not [name for name in scene.names() if TEMPORARY in name]


# ------------------------------------------------------- what copies are like


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_copies_are_as_private_as_their_source(umask: int, template: Template, place: Path) -> None:
    """Whatever the umask says; what is new follows that."""
    scene = Scene(Case("copy"), template, place)
    permissions = (0o400, 0o755)
    for video, mode in zip(VIDEOS[:2], permissions, strict=True):
        (scene.root / video).chmod(mode)
    before = os.umask(umask)
    try:
        scene.call()
    finally:
        os.umask(before)
    modes = {target.stat().st_mode & 0o777 for target in scene.targets}
    assert modes == set(permissions)
    assert scene.document.stat().st_mode & 0o777 == (scene.root / SOURCE).stat().st_mode & 0o666 & ~umask
    for folder in (scene.document.parent, scene.targets[0].parent):
        assert folder.stat().st_mode & 0o777 == 0o777 & ~umask, folder


@pytest.mark.parametrize("case", [Case("copy"), Case("move", links="across"), Case("copy", "bare", "r+")], ids=str)
def test_times_of_copies_are_kept(case: Case, template: Template, place: Path) -> None:
    scene = Scene(case, template, place)
    for number, video in enumerate(VIDEOS[:2]):
        os.utime(scene.root / video, ns=(10**18 + number, 15 * 10**17 + 123_456_789 + number))
    scene.call()
    for number, target in zip((0, 1, 0), scene.targets, strict=True):
        assert target.stat().st_mtime_ns == 15 * 10**17 + 123_456_789 + number

"""A small world of NWB files and videos on a real file system, and the checker of what a command may do to it.

The checker walks the tree, hashes files and reads the stored paths with h5py. It never asks the code under test.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import shlex
import shutil
import signal
import stat
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
from click.testing import CliRunner
from recordings import DATASET, recording, set_scalar

from nwb_extfiles.cli import main
from nwb_extfiles.errors import ExternalFilesError, ExternalFilesWarning

TEMPORARY = ".nwb-extfiles-"
MARKER = "general/data_collection"
"""A field of the schema with a different value in each recording, by which the checker knows an NWB file."""
MANIFEST = "general/external_files/manifest"
MODES = ("copy", "move", "symlink", "hardlink", "reference")

Place = tuple[str, int]
"""An object path and an index in its list."""
Reach = Callable[[Path, Place, "State"], bool]
"""Whether a stored path must still resolve, after what has happened to the names on the way to its media."""


# ------------------------------------------------------------------ what is on disk


@dataclass(frozen=True)
class Recording:
    """What matters in an NWB file."""

    marker: str
    paths: dict[Place, str]
    manifest: dict[Place, str]
    """SHA-256 by object path and index."""


@functools.lru_cache(maxsize=5000)
def parse(content: bytes) -> Recording | None:
    """Read the bytes of an NWB file with h5py alone. None if they cannot be read as one."""
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            marker = _path_as_stored(file[MARKER][()])
            paths, manifest = {}, {}
            for name, series in file["acquisition"].items():
                if "external_file" in series:
                    for index, value in enumerate(series["external_file"][()].ravel().tolist()):
                        paths[f"/acquisition/{name}", index] = _path_as_stored(value)
            if MANIFEST in file:
                rows = file[MANIFEST]
                for row in range(len(rows["index"])):
                    place = _path_as_stored(rows["referring_object_path"][row]), int(rows["index"][row])
                    manifest[place] = _path_as_stored(rows["sha256"][row])
            return Recording(marker, paths, manifest)
    except (OSError, KeyError, RuntimeError):
        return None


def _path_as_stored(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Entry:
    """What is at a path."""

    kind: str
    """file, nwb, link or folder"""
    content: str
    """The marker of an NWB file, the SHA-256 of another file, or the target of a link."""
    sha: str = ""
    mode: int = 0
    links: int = 1
    paths: tuple[tuple[Place, str], ...] = ()


@dataclass(frozen=True)
class State:
    """Everything below a folder at one moment."""

    entries: dict[Path, Entry]
    """Without the temporary files of the package."""
    temporaries: frozenset[Path]
    aside: frozenset[str]
    """The contents of the temporary files."""
    references: dict[Path, dict[Place, str | None]]
    """For each path in each NWB file, the SHA-256 of the file that it resolves to, or None."""
    manifests: dict[Path, dict[Place, str]]

    @property
    def contents(self) -> set[str]:
        return {entry.content for entry in self.entries.values() if entry.kind in ("file", "nwb")}

    def names_of(self, content: str) -> list[Path]:
        return [path for path, entry in self.entries.items() if entry.content == content]

    def below(self, folder: Path) -> dict[Path, Entry]:
        return {path: entry for path, entry in self.entries.items() if path.is_relative_to(folder)}

    @property
    def plain(self) -> dict[Path, tuple[Any, ...]]:
        """What a failed command must leave unchanged."""
        return {path: (entry.kind, entry.content, entry.paths) for path, entry in self.entries.items()}


def look(root: Path, hidden: Path | None = None) -> State:
    """Walk a folder, without `hidden`, a mount of another folder in it.

    Symbolic links are followed only to resolve the paths in NWB files.
    """
    entries: dict[Path, Entry] = {}
    temporaries, aside = set(), set()
    found: dict[Path, Recording] = {}
    for top, folders, every_name in os.walk(root):
        names = [name for name in every_name if not name.startswith(".fuse_hidden")]  # FUSE: removed, and still open
        if hidden is not None and hidden.parent == Path(top):
            folders[:] = [name for name in folders if name != hidden.name]
        for name in [*folders, *names]:
            path = Path(top, name)
            inside = any(part.startswith(TEMPORARY) for part in path.relative_to(root).parts)
            if inside:
                temporaries.add(path)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                entry = Entry("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                entry = Entry("folder", "", mode=status.st_mode & 0o7777)
            else:
                content = path.read_bytes()
                sha = hashlib.sha256(content).hexdigest()
                known = parse(content) if content.startswith(b"\x89HDF") else None
                if inside:
                    aside.add(known.marker if known else sha)
                kind, value = ("nwb", known.marker) if known else ("file", sha)
                paths = tuple(known.paths.items()) if known else ()
                entry = Entry(kind, value, sha, status.st_mode & 0o7777, status.st_nlink, paths)
                if known and not inside:
                    found[path] = known
            if not inside:
                entries[path] = entry
    references = {path: {place: follow(path, stored) for place, stored in r.paths.items()} for path, r in found.items()}
    return State(
        entries, frozenset(temporaries), frozenset(aside), references, {path: r.manifest for path, r in found.items()}
    )


def follow(nwb_path: Path, stored: str) -> str | None:
    """The SHA-256 of the file that a stored path resolves to."""
    if "://" in stored:
        return None
    try:
        return hashlib.sha256(Path(os.path.join(nwb_path.parent, stored)).read_bytes()).hexdigest()
    except OSError:
        return None


def names_on_the_way(path: Path) -> list[Path]:
    """The names on the way to a file: the path itself, and the targets of symbolic links."""
    names = []
    while True:
        path = Path(os.path.realpath(path.parent), path.name)
        names.append(path)
        if not path.is_symlink() or len(names) > 40:
            return names
        path = path.parent / os.readlink(path)


# ------------------------------------------------------------------ what a command may change


@dataclass(frozen=True)
class Request:
    """What a command was explicitly asked to do, with resolved paths."""

    replaces: bool = False
    """existing="replace": content that no NWB file needs may be discarded."""
    organizes: bool = False
    """With `replaces`, an NWB file with other content may be replaced too."""
    overwrites: Path | None = None
    """An NWB file that is opened with mode "w"."""
    written_from: Path | None = None
    """The NWB file that is exported. Its media are those of `overwrites` afterwards."""
    removes_source: frozenset[Path] = frozenset()
    """NWB files that stay behind while their media are moved away. A warning must name each."""
    repairs: frozenset[Path] = frozenset()
    """NWB files whose media are to be replaced by those that their manifests describe."""


@dataclass
class Outcome:
    """How a command ended."""

    exit_code: int
    output: str = ""
    problem: str = ""
    """The traceback of an exception that is not an `ExternalFilesError`."""
    killed: bool = False


def checker(
    before: State,
    after: State,
    request: Request,
    outcome: Outcome,
    *,
    store: Path | None = None,
    backup: Path | None = None,
    reach: Reach = lambda path, place, after: True,
) -> list[str]:
    """List what is wrong after a command.

    Parameters
    ----------
    before, after : State
        After a kill, `after` is the state after the recovery.
    request : Request
        What the command was asked to do.
    outcome : Outcome
        How it ended.
    store, backup : pathlib.Path, optional
        Folders that no command may change. In the backup, only the contents of NWB files and videos count.
    reach : callable
        Whether a stored path must still resolve.
    """
    wrong = list(_lost_contents(before, after, request, outcome))
    wrong += _lost_references(before, after, request, outcome, reach)
    if not outcome.killed:
        wrong += [f"left behind: {path}" for path in sorted(after.temporaries - before.temporaries)]
    if outcome.problem:
        wrong.append(f"not an error of this package: {outcome.problem}")
    if "Traceback" in outcome.output or "[Errno" in outcome.output:
        wrong.append("a bare error was printed")
    if store is not None:
        wrong += [f"the store was changed: {line}" for line in changes(_kept(before, store), _kept(after, store))]
    if backup is not None:
        was = {path: entry.sha for path, entry in before.below(backup).items()}
        now = {path: entry.sha for path, entry in after.below(backup).items()}
        wrong += [f"the backup was changed: {line}" for line in changes(was, now)]
    if outcome.exit_code and not outcome.killed and not before.temporaries:
        if request.organizes:
            gone = {path: what for path, what in before.plain.items() if after.plain.get(path) != what}
            wrong += [f"changed by a command that failed: {path}: {what[:2]}" for path, what in gone.items()]
        else:
            wrong += [f"changed by a command that failed: {line}" for line in changes(before.plain, after.plain)]
    return wrong


def _kept(state: State, store: Path) -> dict[Path, Entry]:
    """What must not change in a store. Files of a shared folder may get hard links; objects of git-annex may not."""
    entries = state.below(store).items()
    return {path: entry if "annex" in path.parts else replace(entry, links=1) for path, entry in entries}


def changes(before: dict[Path, Any], after: dict[Path, Any]) -> list[str]:
    """One line for each difference."""
    paths = sorted(before.keys() | after.keys())
    return [f"{path}: {before.get(path)} -> {after.get(path)}" for path in paths if before.get(path) != after.get(path)]


def _lost_contents(before: State, after: State, request: Request, outcome: Outcome) -> Iterator[str]:
    kinds = {entry.content: entry.kind for entry in before.entries.values()}
    for content in sorted(before.contents - after.contents):
        names = before.names_of(content)
        where = f"{', '.join(map(str, names))} (exit code {outcome.exit_code})"
        if kinds[content] == "nwb":
            if not (request.replaces and request.organizes) and any(name != request.overwrites for name in names):
                yield f"an NWB file is lost: {where}"
        elif not request.replaces:
            yield f"a video is lost: {where}"
        elif content in (users := _needed(before, request)):
            yield f"a video is lost that {users[content]} needs: {where}"
        elif not outcome.killed and not any(name.name in outcome.output for name in names):
            yield f"a video was discarded silently: {where}"


def _needed(state: State, request: Request) -> dict[str, Path]:
    """Contents that a path or a manifest in a remaining NWB file names, each with one such file."""
    needed = {}
    for path, references in state.references.items():
        if path == request.overwrites:
            continue
        manifest = state.manifests[path]
        for place, sha in references.items():
            is_wrong_one = path in request.repairs and manifest.get(place, sha) != sha
            if sha is not None and not is_wrong_one:
                needed[sha] = path
        needed.update(dict.fromkeys(manifest.values(), path))
    return needed


def _lost_references(before: State, after: State, request: Request, outcome: Outcome, reach: Reach) -> Iterator[str]:
    for path in before.references:
        marker = before.entries[path].content
        now = after.entries.get(path)
        if (
            now is not None
            and path == request.overwrites
            and outcome.exit_code == 0
            and request.written_from is not None
        ):
            yield from _broken(request.written_from, path, before, after, request, outcome, reach)
            continue
        if now is not None and now.content == marker:
            places = [path]
            if request.organizes and outcome.killed:  # between the removal of its media and its own
                new = after.references.keys() - before.references.keys()
                places += [other for other in new if after.entries[other].content == marker]
        else:
            if now is not None and (path == request.overwrites or (request.replaces and request.organizes)):
                continue
            found = [other for other in after.references if after.entries[other].content == marker]
            places = [other for other in found if other not in before.references] or found
            if not places:
                continue  # reported as lost content
        tries = [list(_broken(path, place, before, after, request, outcome, reach)) for place in places]
        if all(tries):
            yield from tries[0]


def _broken(
    path: Path, place: Path, before: State, after: State, request: Request, outcome: Outcome, reach: Reach
) -> Iterator[str]:
    """What an NWB file referred to, and does not refer to now, at `place`."""
    manifest, now = before.manifests[path], after.references[place]
    called = str(path) if path == place else f"{path}, now {place},"
    for entry, sha in before.references[path].items():
        found = now.get(entry)
        if sha is None or found == sha or not reach(path, entry, after):
            continue
        if path in request.repairs and found == manifest.get(entry, ""):
            continue
        if request.replaces and request.organizes and found in _others(path, entry, before):
            continue  # another version of the NWB file, which was to replace it
        if path in request.removes_source and found is None:
            if outcome.killed or path.name in outcome.output:
                continue
            yield f"{called} {entry} dangles, and no warning names it"
        elif found is None:
            yield f"{called} {entry} resolves to nothing (exit code {outcome.exit_code})"
        else:
            yield f"{called} {entry} resolves to other bytes (exit code {outcome.exit_code})"


def _others(path: Path, entry: Place, state: State) -> Iterator[str | None]:
    """What other NWB files with the same content refer to in an entry."""
    for other, references in state.references.items():
        if other != path and state.entries[other].content == state.entries[path].content:
            yield references.get(entry)


# ------------------------------------------------------------------ running commands


def run_command(*arguments: object) -> Outcome:
    """Run the command line in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(main, list(map(str, arguments)))
    problem = ""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        problem = "".join(traceback.format_exception(result.exception))
    return Outcome(result.exit_code, result.output, problem)


def run_call(call: Callable[[], object]) -> Outcome:
    """Make a Python call. Its warnings and its error are the output."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
            code, said, problem = 0, "", ""
        except ExternalFilesError as error:
            code, said, problem = 1, str(error), ""
        except Exception as error:
            code, said, problem = 1, str(error), "".join(traceback.format_exception(error))
    warned = [str(warning.message) for warning in caught if issubclass(warning.category, ExternalFilesWarning)]
    return Outcome(code, "\n".join([*warned, said]), problem)


_CALLS = {"os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod"}
_WRITES = ("pwrite", "write", "fsync", "ftruncate", "copy_file_range")


def run_killed(job: Callable[[], Outcome], number: int, root: Path) -> Outcome:
    """Run a job in a process that kills itself right before its n-th call that may change something below a folder.

    If it makes fewer calls, it ends normally.
    """
    incoming, outgoing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork in a process with threads
        pid = os.fork()
    if pid == 0:
        try:
            os.close(incoming)
            _kill_before(number, str(root))
            outcome = job()
            with os.fdopen(outgoing, "wb") as stream:
                stream.write(pickle.dumps(outcome))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(outgoing)
    with os.fdopen(incoming, "rb") as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    return pickle.loads(answer) if answer else Outcome(-9, killed=True)


def _kill_before(number: int, root: str) -> None:
    """Count calls with an audit hook, which sees those of any library, and with wrapped write functions."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CALLS or (event == "open" and root in str(arguments[0]) and _writes(arguments)):
            step()

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            step()
            return function(*arguments, **options)

        return call

    sys.addaudithook(hook)
    for name in _WRITES:
        setattr(os, name, wrapped(getattr(os, name)))


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return (
        bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if mode is None
        else set(mode) & set("wax+") != set()
    )


# ------------------------------------------------------------------ making and changing


def make_video(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"video {content} ".encode() * 9)
    return path


def make_nwb(path: Path, paths: Iterable[str], marker: str = "", **metadata: Any) -> Path:
    """Make an NWB file with one series, without its videos."""
    recording(path, list(paths), videos=False, **metadata)
    with h5py.File(path, "r+") as file:
        set_scalar(file, MARKER, marker or str(path))
    return path


def edited(path: Path, edit: Callable[[h5py.File], object]) -> None:
    """Change an NWB file as a careful user does: its hard links keep their content, and its mtime stays the same."""
    status = path.stat()
    copy = path.with_name(f"{path.name}.edited")
    shutil.copy2(path, copy)
    with h5py.File(copy, "r+") as file:
        edit(file)
    os.replace(copy, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def set_path(path: Path, index: int, stored: str) -> None:
    def edit(file: h5py.File) -> None:
        file[DATASET][index] = stored

    edited(path, edit)


def set_marker(path: Path, marker: str) -> None:
    edited(path, lambda file: set_scalar(file, MARKER, marker))


def stored(path: Path, index: int = 0) -> str:
    """A stored path of the series that `make_nwb` makes."""
    with h5py.File(path, "r") as file:
        return _path_as_stored(file[DATASET][index])


def swap(first: Path, second: Path) -> None:
    """Swap the names of two files."""
    between = first.with_name(f"{first.name}.between")
    first.rename(between)
    second.rename(first)
    between.rename(second)


def hardlinked_copy(folder: Path, target: Path) -> None:
    """Copy a folder as ``cp -al`` does."""
    shutil.copytree(folder, target, symlinks=True, copy_function=os.link)


# ------------------------------------------------------------------ checked commands


@dataclass
class Watch:
    """Runs commands on a folder, and checks what each did.

    Parameters
    ----------
    root : pathlib.Path
        The folder that is checked.
    store, backup : pathlib.Path, optional
        As for `checker`.
    """

    root: Path
    store: Path | None = None
    backup: Path | None = None
    story: list[str] = field(default_factory=list)

    def checked(self, job: Callable[[], Outcome], request: Request = Request(), called: str = "") -> Outcome:
        """Run a job. Fails if it loses anything."""
        before = look(self.root)
        outcome = job()
        self.story.append(f"{called}\n    exit code {outcome.exit_code}: {outcome.output.strip()}")
        wrong = checker(before, look(self.root), request, outcome, store=self.store, backup=self.backup)
        assert not wrong, "\n".join([*wrong, "after:", *self.story])
        return outcome

    def run(self, *arguments: object, request: Request = Request()) -> Outcome:
        """Run a command of the command line."""
        return self.checked(lambda: run_command(*arguments), request, shell(*arguments))

    def succeeds(self, *arguments: object, request: Request = Request()) -> Outcome:
        outcome = self.run(*arguments, request=request)
        assert outcome.exit_code == 0, "\n".join(self.story)
        return outcome

    def refused(self, *arguments: object, request: Request = Request()) -> Outcome:
        outcome = self.run(*arguments, request=request)
        assert outcome.exit_code, "\n".join(self.story)
        return outcome


def shell(*arguments: object) -> str:
    """A command as a user would type it."""
    return shlex.join(["nwb-extfiles", *map(str, arguments)])

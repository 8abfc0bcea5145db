"""Many NWB files share videos. No sequence of commands and user actions may lose anything.

A hypothesis state machine makes a small world on the real file system and runs commands in it, some of them killed.
After each step, the checker of `world` compares the whole tree with that before.

A failure shows all commands of the run; ``$W`` is the folder of the world. To keep that folder, set ``KEEP_WORLD`` to a
new folder: it receives the world before the last command, and in ``after`` the world afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mounts
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from pynwb import NWBHDF5IO
from world import (
    MODES,
    Outcome,
    Place,
    Reach,
    Request,
    State,
    checker,
    hardlinked_copy,
    look,
    make_nwb,
    make_video,
    names_on_the_way,
    run_call,
    run_command,
    run_killed,
    set_marker,
    set_path,
    shell,
    stored,
    swap,
)

import nwb_extfiles.ndx  # noqa: F401  (else pynwb loads its schema anew from each file, which takes most of the time)
from nwb_extfiles import NWBExtFilesHDF5IO

INDEX = st.integers(0, 30)
FILES = st.lists(INDEX, min_size=1, max_size=3)
MODE = st.sampled_from(["move", *MODES])
EXISTING = st.sampled_from(["error", "replace"])
MISSING = st.sampled_from(["keep", "error"])
KILL = st.none() | st.none() | st.integers(1, 45)
WAY = st.sampled_from(["relative", "relative", "absolute", "linked folder", "alias"])
SUFFIX = st.sampled_from([".nwb", ".nwb", ".nwb", ".NWB", ".h5"])

# Where videos are at the start; equal letters mean equal content.
VIDEOS = {
    "raw/v0.avi": "a",
    "raw/videos/v0.avi": "b",
    "raw/videos/v1.avi": "c",
    "raw/videos/same.avi": "b",
    "processed/v1.avi": "d",
    "dandiset/sub-x/extra.avi": "e",
    "store/shared/s0.avi": "s",
    "store/.git/annex/objects/aa/bb/SHA256E-s1/SHA256E-s1.avi": "t",
}
LINKS = {
    "raw/shared": "../store/shared",
    "raw/annexed.avi": "../store/.git/annex/objects/aa/bb/SHA256E-s1/SHA256E-s1.avi",
    "raw/link.avi": "videos/v1.avi",
    "processed/chain.avi": "../raw/link.avi",
    "processed/stored.avi": "../store/shared/s0.avi",
    "linked": "raw",
}
FOLDERS = ("raw", "processed", "dandiset/sub-x")
# What paths can point to: videos, links, and links to links.
SOURCES = (
    "raw/v0.avi", "raw/videos/v0.avi", "raw/videos/v1.avi", "raw/videos/same.avi", "raw/videos/hard.avi",
    "processed/v1.avi", "dandiset/sub-x/extra.avi", "raw/shared/s0.avi", "raw/annexed.avi", "raw/link.avi",
    "processed/chain.avi", "processed/stored.avi",
)  # fmt: skip
ANY = st.integers(0, len(SOURCES) - 1)
RECORDING = st.tuples(
    st.integers(0, len(FOLDERS) - 1), SUFFIX, st.integers(0, 1), st.lists(st.tuples(ANY, WAY), min_size=1, max_size=3),
    st.sampled_from([None, "copy", "hardlink", "symlink"]),
)  # fmt: skip
"""Folder, suffix, subject, what it refers to, and whether it was relocated before, with a manifest."""


class Machine(RuleBasedStateMachine):
    """A world of NWB files and videos, the commands, and what users do between them."""

    may_mount = True

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        shared = Path("/dev/shm")
        place = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
        self.folder = Path(os.path.realpath(self._stack.enter_context(tempfile.TemporaryDirectory(dir=place))))
        self.root = self.folder / "w"
        self.alias: tuple[Path, Path] | None = None
        """A second path of a folder, and that folder."""
        self.made = 0
        self.story: list[str] = []
        self.state: State | None = None
        self.killed: tuple[Callable[[], Outcome], Request, str, Sequence[Path], frozenset[Path]] | None = None

    def teardown(self) -> None:
        try:
            if self.alias is not None:
                subprocess.run(["umount", "-l", self.alias[0]], check=True)
        finally:
            self._stack.close()

    # ------------------------------------------------------------------ the world

    @initialize(
        recordings=st.lists(RECORDING, min_size=2, max_size=4),
        alias=st.sampled_from([None, "raw", "processed", "dandiset"]),
    )
    def make(
        self, recordings: list[tuple[int, str, int, list[tuple[int, str]], str | None]], alias: str | None
    ) -> None:
        for name, content in VIDEOS.items():
            make_video(self.root / name, content)
        for name, target in LINKS.items():
            (self.root / name).symlink_to(target)
        os.link(self.root / "raw/videos/v0.avi", self.root / "raw/videos/hard.avi")
        if alias is not None:
            self.mount_alias(self.root / alias)
        (self.root / "dandiset/dandiset.yaml").write_text("identifier: '000001'\n")
        for number, (folder, suffix, subject, references, settled) in enumerate(recordings):
            path = self.root / FOLDERS[folder] / f"n{number}{suffix}"
            paths = [self.spelled(path, self.root / SOURCES[source], way) for source, way in references]
            make_nwb(path, paths, self.new_name(), subject=f"m{subject}", session=f"s{number}")
            self.tell(f"# {path} with {paths}, subject m{subject}, session s{number}")
            if settled is not None:
                words = ["relocate", "--manifest", "--media-mode", settled, path]
                self.tell(f"{shell(*words)}   # exit code {run_command(*words).exit_code}")
        for path in (self.root / "store").rglob("*"):
            if path.is_file():
                path.chmod(0o444)
        hardlinked_copy(self.root / "raw", self.root / "backup")
        self.looked()

    def mount_alias(self, folder: Path) -> None:
        """Mount the same folder at another path."""
        if not self.may_mount or sys.platform != "linux" or os.geteuid() != 0:
            return
        alias = self.root / "alias"  # so that ".." is the same folder
        alias.mkdir()
        if subprocess.run(["mount", "--bind", folder, alias], check=False, capture_output=True).returncode:
            type(self).may_mount = False  # a container may not
            return
        self.alias = alias, folder
        self.tell(f"mount --bind {folder} {alias}")

    def new_name(self) -> str:
        self.made += 1
        return f"made{self.made}"

    def spelled(self, nwb_path: Path, video: Path, way: str) -> str:
        """A path to a video, as an NWB file can store it."""
        raw = self.root / "raw"
        if way == "linked folder" and video.is_relative_to(raw):
            return os.path.relpath(self.root / "linked" / video.relative_to(raw), nwb_path.parent)
        if way == "alias" and self.alias is not None:
            return str(self.aliased(video, True))
        return str(video) if way == "absolute" else os.path.relpath(video, nwb_path.parent)

    def aliased(self, path: Path, wanted: bool) -> Path:
        """The same path through the mounted alias, or through the linked folder."""
        pairs = [pair for pair in (self.alias, (self.root / "linked", self.root / "raw")) if pair is not None]
        for alias, folder in pairs if wanted else ():
            if path.is_relative_to(folder) and alias.is_dir():
                return alias / path.relative_to(folder)
        return path

    def tell(self, line: str) -> None:
        self.story.append(line.replace(str(self.folder), "$W"))

    def looked(self) -> State:
        self.state = self.look()
        return self.state

    def look(self) -> State:
        return look(self.root, self.root / "alias")

    def nwb_files(self) -> list[Path]:
        """All NWB files that are not in a backup."""
        assert self.state is not None
        return sorted(path for path in self.state.references if not path.is_relative_to(self.root / "backup"))

    def pick(self, number: int) -> Path:
        files = self.nwb_files()
        return files[number % len(files)]

    def videos(self) -> list[Path]:
        """All names of videos, including those in media folders."""
        assert self.state is not None
        kept = (self.root / "backup", self.root / "store")
        return sorted(
            path
            for path, entry in self.state.entries.items()
            if path.suffix == ".avi" and entry.kind in ("file", "link") and not any(map(path.is_relative_to, kept))
        )

    # ------------------------------------------------------------------ a step

    def step(
        self,
        job: Callable[[], Outcome],
        request: Request,
        called: str,
        kill: int | None = None,
        named: Sequence[Path] = (),
        between: Callable[[], object] | None = None,
    ) -> Outcome:
        """Run a command and check it. A killed one is checked after `recover`.

        `between` is what the user does after a kill and before `recover`.
        """
        before = self.looked()
        if (keep := os.environ.get("KEEP_WORLD")) is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(self.root, keep, symlinks=True)
        reach = self.reach(before, named)
        outcome = job() if kill is None else run_killed(job, kill, self.folder)
        self.tell(f"{called}   # exit code {outcome.exit_code}{f', killed at {kill}' if outcome.killed else ''}")
        wrong = []
        if outcome.killed:
            state = self.look()
            videos = {entry.content for entry in before.entries.values() if entry.kind == "file"}
            lost = videos - state.contents - state.aside
            if not request.replaces:
                wrong += [f"the kill lost {before.names_of(content)}" for content in lost]
            if between is not None:
                between()
            said = run_command("recover", self.root)
            self.tell(f"nwb-extfiles recover $W/w   # exit code {said.exit_code}")
            if said.exit_code or said.problem:
                wrong.append(f"recover failed: {said.output} {said.problem}")
        after = self.looked()
        if outcome.killed:
            self.killed = job, request, called, named, after.temporaries - before.temporaries
        store, backup = self.root / "store", self.root / "backup"
        wrong += checker(before, after, request, outcome, store=store, backup=backup, reach=reach)
        self.must_hold(wrong, outcome)
        return outcome

    def must_hold(self, wrong: list[str], outcome: Outcome) -> None:
        if wrong:
            if (keep := os.environ.get("KEEP_WORLD")) is not None:
                shutil.copytree(self.root, Path(keep) / "after", symlinks=True)
            message = "\n".join([*wrong, "", "The story:", *self.story, "", outcome.output])
            raise AssertionError(message.replace(str(self.folder), "$W"))

    def unchanged(self, job: Callable[[], Outcome], called: str) -> None:
        """Run a command that must not change anything."""
        before = self.looked()
        outcome = job()
        self.tell(called)
        after = self.looked()
        wrong = [outcome.problem] if outcome.problem else []
        # the next test for links removes what a killed one left; nothing else may change
        gone = [path for path in before.temporaries - after.temporaries if "-probe" not in str(path)]
        if after.plain != before.plain or gone or after.temporaries - before.temporaries:
            wrong.append("a command that only looks has changed something")
        self.must_hold(wrong, outcome)

    def reach(self, before: State, named: Sequence[Path]) -> Reach:
        """Whether a command has to protect a stored path.

        It protects the paths of the NWB files named, and of those that it reads before it removes a name: beside the
        NWB file named whose media it has, beside that name or its folder, in the dandiset of either, and below their
        nearest common folder. Any NWB file on the disk could need the media, but no command reads all of them.
        """
        dandiset = self.root / "dandiset"
        names = {
            (path, place): [self.unaliased(name) for name in names_on_the_way(path.parent / path_as_stored)]
            for path in before.references
            for place, path_as_stored in before.entries[path].paths
        }

        def has_media(near: Path, name: Path, after: State) -> bool:
            """Whether a name is one of an NWB file's media, or in the folder for them."""
            paths = [
                path for state in (before, after) if near in state.entries for _, path in state.entries[near].paths
            ]
            ways = [self.unaliased(way) for path in paths for way in names_on_the_way(near.parent / path)]
            return name in ways or name.parent == near.parent / near.stem

        def looks_at(path: Path, name: Path, near: Path) -> bool:
            if path.parent in (near.parent, name.parent, name.parent.parent):
                return True
            inside = [place.is_relative_to(dandiset) for place in (near, name)]
            if any(inside) and path.is_relative_to(dandiset):
                return True
            return not all(inside) and path.is_relative_to(os.path.commonpath([name.parent, near.parent]))

        def reach(path: Path, place: Place, after: State) -> bool:
            gone = [name for name in names[path, place] if what(before, name) != what(after, name)]
            if path in named or not gone:
                return True
            return any(looks_at(path, name, near) for name in gone for near in named if has_media(near, name, after))

        def what(state: State, name: Path) -> object:
            entry = state.entries.get(name)
            return entry and (entry.kind, entry.content)

        return reach

    def unaliased(self, path: Path) -> Path:
        if self.alias is None or not path.is_relative_to(self.alias[0]):
            return path
        return self.alias[1] / path.relative_to(self.alias[0])

    # ------------------------------------------------------------------ commands

    def run(
        self,
        *arguments: object,
        request: Request,
        kill: int | None = None,
        named: Sequence[Path] = (),
        between: Any = None,
    ) -> Outcome:
        return self.step(lambda: run_command(*arguments), request, shell(*arguments), kill, named, between)

    @rule(files=FILES, mode=MODE, existing=EXISTING, missing=MISSING, manifest=st.booleans(), alias=st.booleans(),
          search=st.booleans(), kill=KILL, renamed=st.booleans())  # fmt: skip
    def relocate(
        self, files: list[int], mode: str, existing: str, missing: str, manifest: bool, alias: bool, search: bool,
        kill: int | None, renamed: bool,
    ) -> None:  # fmt: skip
        paths = [self.pick(number) for number in files]
        words: list[object] = ["--media-mode", mode, "--existing", existing, "--missing", missing]
        words += ["--manifest"] if manifest else []
        words += ["--search", self.root / "raw"] if search else []
        between = None
        if renamed:

            def between() -> None:
                new = paths[0].with_name(f"{self.new_name()}{paths[0].suffix}")
                self.tell(f"mv {paths[0]} {new}")
                paths[0].rename(new)

        given = [self.aliased(path, alias) for path in paths]
        request = Request(replaces=existing == "replace")
        self.run("relocate", *words, *given, request=request, kill=kill, named=paths, between=between)

    @rule(files=FILES, mode=MODE, existing=EXISTING, alias=st.booleans(), kill=KILL)
    def repair(self, files: list[int], mode: str, existing: str, alias: bool, kill: int | None) -> None:
        paths = [self.pick(number) for number in files]
        words: list[object] = ["--repair", "--media-mode", mode, "--existing", existing, "--missing", "keep"]
        words += [word for folder in ("raw", "dandiset", "processed") for word in ("--search", self.root / folder)]
        request = Request(replaces=existing == "replace", repairs=frozenset(paths))
        given = [self.aliased(path, alias) for path in paths]
        self.run("relocate", *words, *given, request=request, kill=kill, named=paths)

    @rule(what=st.sampled_from(["files", "files", "raw", "processed", "in place", "dandiset", "dandiset"]), files=FILES,
          files_mode=st.sampled_from(["copy", "move"]), mode=st.none() | MODE, existing=EXISTING,
          session=st.booleans(), alias=st.booleans(), by_alias=st.booleans(), kill=KILL)  # fmt: skip
    def organize(
        self, what: str, files: list[int], files_mode: str, mode: str | None, existing: str, session: bool,
        alias: bool, by_alias: bool, kill: int | None,
    ) -> None:  # fmt: skip
        dandiset = self.root / "dandiset"
        if what == "files":
            named = given = [self.pick(number) for number in files]
        else:
            folder = dandiset if what == "in place" else self.root / what
            named = [path for path in self.nwb_files() if path.is_relative_to(folder)]
            given = [] if what == "in place" else [folder]
            files_mode = "move" if what == "in place" else files_mode
        words: list[object] = [
            "-d",
            self.aliased(dandiset, by_alias),
            "-f",
            files_mode,
            "--existing",
            existing,
            "--missing",
            "keep",
        ]
        words += ["--media-files-mode", mode] if mode else []
        words += ["--required-field", "session_id"] if session else []
        removes_source = frozenset(named) if files_mode == "copy" and mode == "move" else frozenset[Path]()
        request = Request(replaces=existing == "replace", organizes=True, removes_source=removes_source)
        given = [self.aliased(path, alias) for path in given]
        self.run("organize", *words, *given, request=request, kill=kill, named=[*named, dandiset / "any.nwb"])

    @rule(number=INDEX, onto=st.sampled_from(["new", "other", "itself", "r+"]), other=INDEX,
          folder=st.integers(0, len(FOLDERS) - 1), mode=st.none() | MODE, existing=EXISTING, alias=st.booleans(),
          read=st.booleans(), kill=KILL)  # fmt: skip
    def export(
        self, number: int, onto: str, other: int, folder: int, mode: str | None, existing: str, alias: bool,
        read: bool, kill: int | None,
    ) -> None:  # fmt: skip
        if onto == "r+":
            return self.write_again(number, mode or "symlink", existing, alias, kill)
        source = self.pick(number)
        if onto == "new":
            place = self.root / FOLDERS[folder] / f"{self.new_name()}.nwb"
        else:
            place = source if onto == "itself" else self.pick(other)
        source_path = self.aliased(source, alias)
        media = dict(media_options=dict(existing=existing, missing="keep"))
        media |= dict(relocate_media=True, media_mode=mode) if mode else dict(relocate_media=None)

        def call() -> None:
            with NWBHDF5IO(source_path, "r") as src_io, NWBExtFilesHDF5IO(place, "w") as io:
                nwbfile = dict(nwbfile=src_io.read()) if read else {}
                io.export(src_io=src_io, **nwbfile, **media)

        request = Request(
            replaces=existing == "replace",
            overwrites=place if place != source else None,
            written_from=source,
            removes_source=frozenset([source]) if mode == "move" and place != source else frozenset(),
        )
        called = f"export {source_path} -> {place}, {media}"
        self.step(lambda: run_call(call), request, called, kill, [source, place])
        return None

    def write_again(self, number: int, mode: str, existing: str, alias: bool, kill: int | None) -> None:
        source = self.pick(number)
        path = self.aliased(source, alias)
        media = dict(media_mode=mode, media_options=dict(existing=existing, missing="keep"))

        def call() -> None:
            with NWBExtFilesHDF5IO(path, "r+") as io:
                io.write(io.read(), relocate_media=True, **media)

        request = Request(replaces=existing == "replace")
        self.step(lambda: run_call(call), request, f"write {path}, r+, {media}", kill, [source])

    @rule(number=INDEX, mode=st.sampled_from([mode for mode in MODES if mode != "move"]), alias=st.booleans(),
          same=st.booleans(), kill=KILL)  # fmt: skip
    def restore(self, number: int, mode: str, alias: bool, same: bool, kill: int | None) -> None:
        path = self.pick(number)
        folder = self.root / "restored" / ("here" if same else self.new_name())
        words = ["--media-mode", mode, "--missing", "keep"]
        self.run("restore", *words, self.aliased(path, alias), folder, request=Request(), kill=kill, named=[path])

    @precondition(lambda self: self.killed is not None)
    @rule()
    def again(self) -> None:
        """Run the killed command again."""
        assert self.killed is not None
        job, request, called, named, left = self.killed
        self.killed = None
        before = self.looked()
        reach = self.reach(before, named)
        outcome = job()
        self.tell(f"{called}   # again; exit code {outcome.exit_code}")
        after = self.looked()
        store, backup = self.root / "store", self.root / "backup"
        wrong = checker(before, after, request, outcome, store=store, backup=backup, reach=reach)
        if outcome.exit_code == 0:
            wrong += [f"left by the killed run, and by the next one: {path}" for path in left & after.temporaries]
        self.must_hold(wrong, outcome)

    @rule(number=INDEX, mode=MODE, what=st.sampled_from(["check", "relocate", "organize"]))
    def looks(self, number: int, mode: str, what: str) -> None:
        """Run commands that change nothing."""
        path = self.pick(number)
        words = {
            "check": ["check", "--checksums", self.root],
            "relocate": ["relocate", "--dry-run", "--media-mode", mode, path],
            "organize": ["organize", "--dry-run", "-d", self.root / "dandiset", "-f", "move", path],
        }[what]
        self.unchanged(lambda: run_command(*words), shell(*words))

    # ------------------------------------------------------------------ the user

    @rule(number=INDEX, suffix=st.sampled_from([".nwb", ".NWB", ".h5", ".hdf5"]), same=st.booleans())
    def rename_nwb(self, number: int, suffix: str, same: bool) -> None:
        """Rename an NWB file. Its media folder keeps its name, and still belongs to it."""
        path = self.pick(number)
        new = path.with_suffix(suffix) if same else path.with_name(f"{self.new_name()}{suffix}")
        if not new.exists():
            path.rename(new)
            self.tell(f"mv {path} {new}")
            self.killed = None  # whose leftovers belong to a file that is gone
            self.looked()

    @rule(number=INDEX, folder=st.integers(0, len(FOLDERS) - 1), whole=st.booleans(), copy=st.booleans())
    def take_elsewhere(self, number: int, folder: int, whole: bool, copy: bool) -> None:
        """Copy or move an NWB file to another folder, with or without its media folder."""
        path = self.pick(number)
        new = self.root / FOLDERS[folder] / f"{self.new_name()}.nwb"
        shutil.copy(path, new) if copy else path.rename(new)
        if copy:
            set_marker(new, self.new_name())
        else:
            self.killed = None  # whose leftovers may belong to the file that is gone
        media = path.with_suffix("")
        if whole and media.is_dir() and not (new.parent / media.name).exists():
            shutil.copytree(media, new.parent / media.name, symlinks=True)
        what = f"with {media}" if whole else "alone"
        self.tell(f"{'cp' if copy else 'mv'} {path} {new}   # {what}")
        self.looked()

    @rule(number=INDEX, index=st.integers(0, 2), video=INDEX, way=WAY)
    def edit_path(self, number: int, index: int, video: int, way: str) -> None:
        """Let a path point to another video, perhaps in the media folder of another NWB file."""
        path, videos = self.pick(number), self.videos()
        if not videos:
            return
        assert self.state is not None
        index %= len(self.state.entries[path].paths)
        new_path = self.spelled(path, videos[video % len(videos)], way)
        set_path(path, index, new_path)
        self.tell(f"# {path}: external_file[{index}] = {new_path!r}")
        self.looked()

    @rule(number=INDEX, other=INDEX)
    def share(self, number: int, other: int) -> None:
        """Let an NWB file refer to the first video of another one."""
        path, lender = self.pick(number), self.pick(other)
        new_path = stored(lender)
        if not os.path.isabs(new_path):
            new_path = os.path.relpath(lender.parent / new_path, path.parent)
        set_path(path, 0, new_path)
        self.tell(f"# {path}: external_file[0] = {new_path!r}, as in {lender}")
        self.looked()

    @rule(number=INDEX, other=INDEX, what=st.sampled_from(["swap", "swap", "replace", "correct"]))
    def change_content(self, number: int, other: int, what: str) -> None:
        """Swap two videos, replace a video, or change data but not ids and mtime."""
        path, second = self.pick(number), self.pick(other)
        video, second_video = (
            self.unaliased(Path(os.path.normpath(nwb.parent / stored(nwb)))) for nwb in (path, second)
        )
        if what == "correct":
            set_marker(path, self.new_name())
            self.tell(f"# {path} has other data")
        elif video.is_symlink() or not video.exists() or os.path.realpath(video).startswith(f"{self.root}/store"):
            return
        elif what == "replace":
            video.unlink()
            make_video(video, self.new_name())
            self.tell(f"# {video} is another video")
        elif (
            not second_video.is_symlink()
            and second_video.exists()
            and not second_video.samefile(video)
            and not os.path.realpath(second_video).startswith(f"{self.root}/store")
        ):
            swap(video, second_video)
            self.tell(f"# {video} and {second_video} change their names")
        self.looked()

    @rule(number=INDEX, how=st.sampled_from(["hard link", "symbolic link", "copy"]), folder=st.integers(0, 2))
    def second_name(self, number: int, how: str, folder: int) -> None:
        videos = self.videos()
        if not videos:
            return
        path = videos[number % len(videos)]
        new = self.root / FOLDERS[folder] / f"{self.new_name()}.avi"
        if how == "symbolic link":
            new.symlink_to(os.path.relpath(path, new.parent))
        elif path.exists():
            source = self.unaliased(Path(os.path.realpath(path)))
            if source.is_relative_to(self.root / "store"):
                return
            shutil.copy(source, new) if how == "copy" else os.link(source, new)
        self.tell(f"# {new} is a {how} of {path}")
        self.looked()


# ------------------------------------------------------------------ what the machine has found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = Path(os.path.realpath(tmp_path)) / "w"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("by_alias", [False, True], ids=["target-by-its-path", "target-by-alias"])
@pytest.mark.parametrize("mode", MODES)
def test_organize_dandiset_through_bind_mount_changes_nothing(root: Path, mode: str, by_alias: bool) -> None:
    """All files are in place, though the paths differ. Nothing is moved, and there is no warning."""
    dandiset = root / "dandiset"
    make_video(dandiset / "v.avi", "v")
    (dandiset / "dandiset.yaml").write_text("identifier: '000001'\n")
    make_nwb(dandiset / "a.nwb", ["v.avi"])
    words = ["organize", "-f", "move", "--media-files-mode", mode, "-d"]
    assert run_command(*words, dandiset).exit_code == 0
    before = look(root)
    with mounts.bind(dandiset, within=root.parent) as alias:
        target, source = (alias, dandiset) if by_alias else (dandiset, alias)
        outcome = run_command(*words, target, source)
    assert (outcome.exit_code, outcome.problem, "warning" in outcome.output) == (0, "", False), outcome.output
    assert look(root).plain == before.plain


@pytest.mark.parametrize("call", ["relocate", "export onto itself"])
def test_hard_linked_nwb_file_keeps_its_videos(root: Path, call: str) -> None:
    """``cp -al`` makes such a backup. Its paths stay the same, so a move that would break them must be refused."""
    video = make_video(root / "raw/v.avi", "v")
    path = make_nwb(root / "a/n.nwb", ["../raw/v.avi"])
    hardlinked_copy(root / "a", root / "backup")
    before = look(root)

    def export() -> None:
        media = dict(relocate_media=True, media_mode="move")
        with NWBHDF5IO(path, "r") as src_io, NWBExtFilesHDF5IO(path, "w") as io:
            io.export(src_io=src_io, **media)

    if call == "relocate":
        outcome = run_command("relocate", "--media-mode", "move", path)
        assert (outcome.exit_code, "backup/n.nwb" in outcome.output) == (1, True), outcome.output
    else:
        outcome = run_call(export)
    assert checker(before, look(root), Request(), outcome) == []
    assert video.exists()


# ------------------------------------------------------------------ the machine


ORDINARY = settings(
    max_examples=8,
    stateful_step_count=15,
    deadline=None,
    derandomize=not os.environ.get("NWB_EXTFILES_RANDOM"),  # the same each time, unless new ones are wanted
    database=None,  # the message shows what failed, for a test of its own
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def test_no_command_sequence_loses_content() -> None:
    run_state_machine_as_test(Machine, settings=ORDINARY)


@pytest.mark.long
def test_no_command_sequence_loses_content_long() -> None:
    run_state_machine_as_test(Machine, settings=settings(ORDINARY, max_examples=300))

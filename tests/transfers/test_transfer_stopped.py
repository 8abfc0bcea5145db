"""Transfers that are interrupted or killed at each step."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, tree
from processes import KILLED as KILLED_STATUS
from transfer_scene import NEW, OLD, Stopped, carry_out, contents_below, dot_names, planned, targets_of, write_staged

from nwb_extfiles.options import MediaMode
from nwb_extfiles.plans.plan import RelocationPlan
from nwb_extfiles.transfers.transfer import Transfer

STEPS = ("link", "unlink", "rename", "replace", "symlink", "mkdir", "rmdir", "utime")


class Stopper:
    """Counts the steps that change the disk, and stops before or after one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, *, after: bool, links: bool) -> None:
        self.at, self.after, self.count = at, after, 0
        for name in STEPS:
            patch.setattr(os, name, self._counting(name, getattr(os, name), links))

    def _counting(self, name: str, function: Callable[..., Any], links: bool) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            if name == "link" and not links:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            self.count += 1
            if self.count == self.at and not self.after:
                raise Stopped
            here = self.count == self.at
            try:
                return function(*arguments, **options)
            finally:
                if here and self.after:
                    raise Stopped

        return step


def scene(root: Path, mode: MediaMode, exclusive: bool = False) -> tuple[Path, list[Path], RelocationPlan]:
    """Make a document, two videos and a further name, with targets that are absent, replaced and shared."""
    if root.exists():
        shutil.rmtree(root)
    document, sources = root / "d" / "a.nwb", [root / "f" / f"{number}.avi" for number in range(2)]
    targets = targets_of(document, 3)
    for folder in (sources[0].parent, targets[0].parent):
        folder.mkdir(parents=True)
    for number, source in enumerate(sources):
        source.write_bytes(b"video %d" % number)
    if not exclusive:
        document.write_bytes(OLD)
    targets[1].write_bytes(b"something else")
    videos = [sources[0], sources[1], sources[0]]
    return document, videos, planned(document, videos, mode, existing="replace")


def is_done(document: Path) -> bool:
    return document.exists() and document.read_bytes() == NEW


def assert_media_in_place(document: Path) -> None:
    targets = targets_of(document, 3)
    assert [target.read_bytes() for target in targets] == [b"video 0", b"video 1", b"video 0"]


variants = pytest.mark.parametrize(
    ("mode", "links", "exclusive"),
    [
        (MediaMode.COPY, True, False),
        (MediaMode.COPY, False, False),
        (MediaMode.COPY, True, True),
        (MediaMode.MOVE, True, False),
        (MediaMode.MOVE, False, False),
        (MediaMode.HARDLINK, True, False),
        (MediaMode.SYMLINK, True, False),
        (MediaMode.SYMLINK, False, False),
    ],
)


@variants
def test_interrupted_at_each_step(tmp_path: Path, mode: MediaMode, links: bool, exclusive: bool) -> None:
    """Ctrl-C before and after each step from stage to commit. A rollback restores everything, or all is in place."""
    root = tmp_path / "root"
    faults, at, ended = [], 0, False
    while not ended:
        at += 1
        for after in (False, True):
            document, _, plan = scene(root, mode, exclusive)
            before = tree(root)
            transfer = Transfer(document, exclusive=exclusive)
            write_staged(transfer)
            with pytest.MonkeyPatch.context() as patch:
                Stopper(patch, at, after=after, links=links)
                try:
                    transfer.media.stage(plan, sync=False)
                    transfer.commit(sync=False)
                except Stopped:
                    pass
                else:
                    ended = True
            if ended:
                transfer.rollback()
                break
            try:
                assert transfer.rollback() == []
                assert dot_names(root) == []
                if is_done(document):
                    assert_media_in_place(document)
                else:
                    assert tree(root) == before
            except (AssertionError, OSError) as fault:
                faults.append(f"{'after' if after else 'before'} step {at}: {fault}")
    assert at > 8
    assert not faults, "\n".join(faults)


@pytest.mark.filterwarnings("ignore:unclosed scandir:ResourceWarning")  # a kill closes them
@variants
def test_killed_at_each_step(tmp_path: Path, mode: MediaMode, links: bool, exclusive: bool) -> None:
    """Without a rollback, no content is lost, the next transfer clears leftovers, and a second run succeeds."""
    root = tmp_path / "root"
    faults, at, ended = [], 0, False
    while not ended:
        at += 1
        document, videos, plan = scene(root, mode, exclusive)
        before = tree(root)
        only_copies = {digest(video) for video in videos}
        with pytest.MonkeyPatch.context() as patch:
            Stopper(patch, at, after=False, links=links)
            try:
                carry_out(document, plan, exclusive=exclusive)
            except Stopped:
                pass
            else:
                ended = True
        try:
            if is_done(document):
                assert_media_in_place(document)
            else:
                assert exclusive or document.read_bytes() == OLD
                only_copies.add(digest_of(b"something else"))
            assert only_copies <= contents_below(root)
            done = is_done(document)
            Transfer(document).rollback()
            assert dot_names(root) == []
            assert is_done(document) == done
            if done:
                assert_media_in_place(document)
            else:
                after = tree(root)
                assert {name: after.get(name) for name in before} == before
                carry_out(document, planned(document, videos, mode, existing="replace"), exclusive=exclusive)
                assert is_done(document)
                assert_media_in_place(document)
            assert dot_names(root) == []
        except (AssertionError, OSError) as fault:
            faults.append(f"before step {at}: {fault}")
    assert at > 12
    assert not faults, "\n".join(faults)


def digest_of(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


KILLED = """
import os, pickle, shutil, sys
from pathlib import Path
from nwb_extfiles.disk import contents, links
from nwb_extfiles.transfers.transfer import Transfer

document, plan, point = Path(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes()), sys.argv[3]

def die(*arguments, **options):
    os.kill(os.getpid(), 9)

def die_at_document(function):
    return lambda source, target: die() if target == document else function(source, target)

transfer = Transfer(document)
transfer.staged_document.write_bytes(b"the new document")
progress = False
if point == "stage":
    progress = lambda done, total: done > 600 and die()
elif point == "first rename":
    links.rename_exclusive = die
elif point == "replaced target":
    os.replace = die
elif point == "document":
    os.replace = die_at_document(os.replace)
transfer.media.stage(plan, progress=progress)
if point == "staged":
    os._exit(1)
transfer.commit()
if point == "committed":
    os._exit(1)
shutil.rmtree = die  # the former content goes when the sources of the move are gone
transfer.conclude()
"""


@pytest.mark.parametrize(
    "point", ["stage", "staged", "first rename", "replaced target", "document", "committed", "concluding"]
)
def test_killed_process(tmp_path: Path, root: Path, document: Path, sources: list[Path], point: str) -> None:
    """A real process with its lock is killed. The next transfer completes."""
    targets, content = targets_of(document, 3), [digest(source) for source in sources]
    targets[0].parent.mkdir()
    targets[2].write_bytes(b"something else")
    before = tree(root)
    (tmp_path / "plan").write_bytes(pickle.dumps(planned(document, sources, MediaMode.MOVE, existing="replace")))
    command = [sys.executable, "-c", KILLED, str(document), str(tmp_path / "plan"), point]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) in ((KILLED_STATUS, b""), (1, b""))
    assert dot_names(root) != []

    late = point in ("committed", "concluding")
    assert document.read_bytes() == (NEW if late else OLD)
    assert set(content) <= contents_below(root)
    transfer = Transfer(document)
    if not late:
        assert targets[2].read_bytes() == b"something else"
    transfer.rollback()
    assert dot_names(root) == []
    after = tree(root)
    if late:
        assert [digest(target) for target in targets] == content
        assert [source.exists() for source in sources] == [point == "committed"] * 3
    else:
        assert {name: after.get(name) for name in before} == before
        carry_out(document, planned(document, sources, MediaMode.MOVE, existing="replace"))
        assert [digest(target) for target in targets] == content
        assert [source.exists() for source in sources] == [False] * 3
        assert dot_names(root) == []


def test_destination_folder_removed_and_made_again(tmp_path: Path) -> None:
    """Failing transfers remove the folder that they made, while others begin in the same folder."""
    folder = tmp_path / "new" / "sub-a"

    def begin_and_give_up(number: int) -> None:
        for _ in range(150):
            assert Transfer(folder / f"{number}.nwb").rollback() == []

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin_and_give_up, range(8)))
    assert not list(folder.glob("*"))

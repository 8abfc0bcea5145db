"""Many small files, which are staged in threads."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, tree
from processes import KILLED, kill_this_process, run_apart
from transfer_scene import (
    OLD,
    UUID,
    Stopped,
    carry_out,
    dot_names,
    media_file,
    planned,
    reference,
    targets_of,
    write_staged,
)

from nwb_extfiles.disk import contents
from nwb_extfiles.errors import (
    TransferError,
)
from nwb_extfiles.options import MediaMode, MediaOptions
from nwb_extfiles.plans.decisions import make_plan
from nwb_extfiles.plans.plan import Action, RelocationPlan
from nwb_extfiles.plans.resolve import Resolution
from nwb_extfiles.plans.targets import name_targets, survey
from nwb_extfiles.transfers.transfer import Transfer


@pytest.fixture
def images(root: Path) -> list[Path]:
    """Enough small files to be copied in threads; two are larger than that, and one is listed twice."""
    folder = root / "images"
    folder.mkdir()
    places = [folder / f"{number}.png" for number in range(150)]
    for number, place in enumerate(places):
        place.write_bytes(os.urandom(contents.HASH_CHUNK + 5 if number in (40, 120) else number))
    places.insert(100, places[10])
    return places


def in_disorder(monkeypatch: pytest.MonkeyPatch, fails: Path | None = None) -> None:
    """Let the copies end in another order than they began, and let one of them fail."""
    copy_verified = contents.copy_verified

    def slowly(source: Path, target: Path, **options: Any) -> str | None:
        time.sleep(0.005 * (int(source.stem) % 3))
        if source == fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return copy_verified(source, target, **options)

    monkeypatch.setattr(contents, "copy_verified", slowly)


@pytest.mark.parametrize("sync", [False, True])
def test_many_small_files_are_staged_in_threads(
    document: Path, images: list[Path], sync: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(document, images, MediaMode.COPY)
    in_disorder(monkeypatch)
    done: list[tuple[int, int]] = []
    transfer = Transfer(document)
    write_staged(transfer)
    transfer.media.stage(plan, sync=sync, progress=lambda *counts: done.append(counts))
    transfer.commit(sync=sync)
    transfer.conclude(sync=sync)
    for source, target in zip(images, targets_of(document, len(images), ".png"), strict=True):
        assert digest(target) == digest(source)
    assert dot_names(document.parent) == []
    total = sum(place.stat().st_size for place in set(images))
    assert done[-1] == (total, total)
    assert sorted(done) == done


@pytest.mark.parametrize("number", [0, 3, 70, 149])
def test_one_of_many_small_files_fails(
    root: Path, document: Path, images: list[Path], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(root)
    plan = planned(document, images, MediaMode.COPY)
    failing = next(place for place in images if place.stem == str(number))
    with monkeypatch.context() as broken:
        in_disorder(broken, failing)
        transfer = Transfer(document)
        write_staged(transfer)
        with pytest.raises(TransferError, match=rf"{number}\.png' could not be brought .*{os.strerror(errno.EIO)}"):
            transfer.media.stage(plan, sync=False)
    left = [name for name in tree(document.parent) if name not in before and name.count("/") and "lock" not in name]
    assert left == [], "nothing of the plan is staged"
    transfer.media.stage(plan, sync=False)  # and it can be staged again
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert digest(targets_of(document, len(images), ".png")[-1]) == digest(images[-1])


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped])
def test_many_small_files_interrupted(
    root: Path, document: Path, images: list[Path], error: type[BaseException]
) -> None:
    before = tree(root)
    plan = planned(document, images, MediaMode.COPY)

    def interrupt(done: int, total: int) -> None:
        if done > 1000:
            raise error

    transfer = Transfer(document)
    write_staged(transfer)
    with pytest.raises(error):
        transfer.media.stage(plan, sync=False, progress=interrupt)
    assert transfer.rollback() == []
    assert tree(root) == before


def test_whole_copies_of_many_small_files_are_reused(
    document: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(document, images, MediaMode.COPY)

    def job() -> None:  # killed when everything is staged
        transfer = Transfer(document)
        write_staged(transfer)
        transfer.media.stage(plan)
        kill_this_process()

    assert run_apart(job) == KILLED
    copied: list[Path] = []
    copy_verified = contents.copy_verified
    monkeypatch.setattr(
        contents,
        "copy_verified",
        lambda source, *rest, **options: copied.append(source) or copy_verified(source, *rest, **options),
    )
    carry_out(document, plan, sync=True)
    assert copied == []
    for source, target in zip(images, targets_of(document, len(images), ".png"), strict=True):
        assert digest(target) == digest(source)
    assert dot_names(document.parent) == []


@pytest.mark.skipif(os.name == "nt", reason="forks")
def test_interrupt_with_held_locks_does_not_hang(root: Path, document: Path, images: list[Path]) -> None:
    """Ctrl-C just after the main thread took a lock of `threading`, which then stays locked."""
    plan = planned(document, images[:40], MediaMode.COPY)
    before, at, status = tree(root), 0, 1
    while status:
        at += 1
        child = os.fork()
        if child == 0:
            signal.alarm(100)  # if it hangs
            signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background ignores it
            os._exit(_interrupted_with_lock(document, plan, at))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, 1), at
        assert tree(root) == before
    assert at > 1


def _interrupted_with_lock(document: Path, plan: RelocationPlan, at: int) -> int:
    """Interrupt at the n-th lock. Returns 1 if there was one, 0 if there are fewer, 2 if something is left behind."""
    seen = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal seen
        if frame.f_code is threading.Condition.__enter__.__code__ and event == "return":
            seen += 1
            if seen == at:
                signal.raise_signal(signal.SIGINT)
        return trace

    transfer = Transfer(document)
    write_staged(transfer)
    interrupted = 0
    sys.settrace(trace)
    try:
        transfer.media.stage(plan, sync=False)
    except KeyboardInterrupt:
        interrupted = 1
    sys.settrace(None)
    left = interrupted and [path for path in transfer._staging.path.iterdir() if path.name != "lock"]
    return 2 if transfer.rollback() or left else interrupted


@pytest.mark.parametrize("threads", [0, 1])
def test_many_small_files_with_few_threads(
    document: Path, images: list[Path], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system starts no more threads, those that run do the work, or the caller alone."""
    start, begun = threading.Thread.start, list[threading.Thread]()

    def seldom(self: threading.Thread) -> None:
        if self.name.startswith("each_"):
            if len(begun) == threads:
                raise RuntimeError("can't start new thread")
            begun.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", seldom)
    carry_out(document, planned(document, images, MediaMode.COPY))
    assert len(begun) == threads
    for source, target in zip(images, targets_of(document, len(images), ".png"), strict=True):
        assert digest(target) == digest(source)
    assert dot_names(document.parent) == []


def test_second_name_listed_before_first(root: Path, sources: list[Path]) -> None:
    """Another name of a video in the former media folder comes earlier in the list."""
    document = root / "dandiset" / "renamed.nwb"
    document.write_bytes(OLD)
    former = root / "dandiset" / "former"
    former.mkdir()
    video, other = former / f"{UUID}_external_file_1.avi", root / "other.avi"
    shutil.copy(sources[0], video)
    os.link(video, other)
    resolutions = [
        Resolution(reference(document, index, str(place)), media_file(place))
        for index, place in enumerate((other, video))
    ]
    options = MediaOptions()
    named, problems = name_targets(
        resolutions, options, nwb_path=document, identifier="id0", is_former=lambda folder: folder == former
    )
    plan = make_plan(named, survey(named, document, MediaMode.COPY), options, MediaMode.COPY, problems=problems)
    assert {entry.action for entry in plan.relocations} == {Action.RENAME, Action.DUPLICATE}
    carry_out(document, plan)
    for target in targets_of(document, 2):
        assert digest(target) == digest(sources[0])
    assert not video.exists()
    assert other.exists()

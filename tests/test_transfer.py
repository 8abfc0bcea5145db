"""Transfers: all or nothing, whatever happens in between. Judged by what is on disk."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, tree

from nwb_extfiles.disk import contents, filesystem, links
from nwb_extfiles.disk.moves import ASIDE_PREFIX
from nwb_extfiles.errors import (
    DestinationBusyError,
    ExternalFilesError,
    ExternalFilesWarning,
    MediaExistsError,
    TransferError,
)
from nwb_extfiles.nwb.references import ExternalFileReference
from nwb_extfiles.options import MediaMode, MediaOptions
from nwb_extfiles.plans.needs import MediaUsers, settle
from nwb_extfiles.plans.plan import Action, RelocationPlan, make_plan
from nwb_extfiles.plans.resolve import MediaFile, Resolution
from nwb_extfiles.plans.targets import name_targets, survey
from nwb_extfiles.transfers.transfer import Transfer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="these tests make symbolic links and kill processes")

FILE_MODES = (MediaMode.SYMLINK, MediaMode.HARDLINK, MediaMode.COPY, MediaMode.MOVE)
UUID = "933f8cf6-9e4b-405f-8cad-cc031d1fafc9"
OLD, NEW = b"the old document", b"the new document"


def media_file(path: Path) -> MediaFile:
    place, real = Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(path))
    status = real.stat()
    return MediaFile(place, real, status.st_size, (status.st_dev, status.st_ino))


def reference(document: Path, index: int, text: str, repeats: bool = False) -> ExternalFileReference:
    return ExternalFileReference(
        nwb_path=str(document),
        object_path="/acquisition/video",
        neurodata_type="ImageSeries",
        object_id=UUID,
        field="videos" if repeats else "external_file",
        index=index,
        stored_path=text,
        base=str(document.parent),
        repeats=repeats,
    )


def planned(document: Path, videos: list[Path], mode: MediaMode, *, repeats: int = 0, **options: Any) -> RelocationPlan:
    """The plan for one object that names the videos; the last of them in a field that repeats others."""
    resolutions = []
    for index, video in enumerate(videos):
        repeating = index >= len(videos) - repeats
        resolutions.append(Resolution(reference(document, index, str(video), repeating), media_file(video)))
    chosen = MediaOptions(**options)
    named, problems = name_targets(resolutions, chosen, nwb_path=document, identifier="id0")
    return make_plan(named, survey(named, document, mode), chosen, mode, problems=problems)


def settled(plan: RelocationPlan) -> RelocationPlan:
    """The plan of a call that treats one NWB file."""
    changed, problems = settle([plan], MediaUsers([plan.nwb_path], MediaOptions()))
    assert problems == []
    return changed.get(plan.nwb_path, plan)


def targets_of(document: Path, count: int, suffix: str = ".avi") -> list[Path]:
    """Where the media of `planned` go, by DANDI's convention and not by the code under test."""
    return [document.parent / document.stem / f"{UUID}_external_file_{index}{suffix}" for index in range(count)]


def write_staged(transfer: Transfer) -> None:
    """Do what a backend does between the beginning and the commit."""
    transfer.staged_document.write_bytes(NEW)


def carry_out(document: Path, plan: RelocationPlan, *, sync: bool = False, **options: Any) -> None:
    transfer = Transfer(document, **options)
    write_staged(transfer)
    transfer.media.stage(plan, sync=sync)
    transfer.commit(sync=sync)
    transfer.conclude(sync=sync)


def staged(document: Path, plan: RelocationPlan, **options: Any) -> Transfer:
    transfer = Transfer(document, **options)
    write_staged(transfer)
    transfer.media.stage(plan, sync=False)
    return transfer


def dot_names(folder: Path) -> list[str]:
    return [name for name in tree(folder) if any(part.startswith(".") for part in Path(name).parts)]


def contents_below(folder: Path) -> set[str]:
    """The digests of all files that are there under any name."""
    return {digest(path) for path in folder.rglob("*") if path.is_file()}


def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What is compared before and after: a document that exists, and videos elsewhere."""
    root = tmp_path / "root"
    (root / "dandiset").mkdir(parents=True)
    (root / "dandiset" / "a.nwb").write_bytes(OLD)
    (root / "videos").mkdir()
    for number in range(3):
        (root / "videos" / f"video_{number}.avi").write_bytes(b"video %d" % number * (100 + number))
    return root


@pytest.fixture
def document(root: Path) -> Path:
    return root / "dandiset" / "a.nwb"


@pytest.fixture
def sources(root: Path) -> list[Path]:
    return [root / "videos" / f"video_{number}.avi" for number in range(3)]


# --------------------------------------------------------------- when all is well


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("mode", FILE_MODES)
def test_stage_and_commit_in_every_mode(
    root: Path, document: Path, videos: list[Path], mode: MediaMode, sync: bool
) -> None:
    """Real videos, to the last name below the root."""
    sources = [root / "videos" / f"real_{number}.avi" for number in range(2)]
    for video, source in zip(videos, sources, strict=False):
        shutil.copy2(video, source)
    before, inodes = tree(root), [source.stat().st_ino for source in sources]
    carry_out(document, planned(document, sources, mode), sync=sync)

    targets = targets_of(document, 2)
    assert [digest(target) for target in targets] == [digest(video) for video in videos[:2]]
    expected = {**before, "dandiset/a": "folder", "dandiset/a.nwb": digest(document)}
    for index, target in enumerate(targets):
        name = target.relative_to(root).as_posix()
        source = sources[index].relative_to(root).as_posix()
        expected[name] = f"-> ../../{source}" if mode is MediaMode.SYMLINK else before[source]
        if mode is MediaMode.MOVE:
            del expected[source]
    assert tree(root) == expected
    assert document.read_bytes() == NEW
    same = [target.stat().st_ino == inode for target, inode in zip(targets, inodes, strict=True)]
    assert same == [mode is not MediaMode.COPY] * 2
    assert [target.stat().st_mtime_ns for target in targets] == [video.stat().st_mtime_ns for video in videos[:2]]


@pytest.mark.parametrize("mode", [MediaMode.COPY, MediaMode.MOVE])
@pytest.mark.parametrize("links", [True, False])
def test_shared_video_is_staged_once(
    root: Path, document: Path, sources: list[Path], mode: MediaMode, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file under all its names, or copies where a file can have but one name."""
    video, content = sources[0], digest(sources[0])
    plan = planned(document, [video, sources[1], video, video], mode)
    assert [entry.action for entry in plan.relocations].count(Action.DUPLICATE) == 2
    if not links:
        no_hard_links(monkeypatch)
    carry_out(document, plan)
    targets = targets_of(document, 4)
    assert [digest(targets[index]) for index in (0, 2, 3)] == [content] * 3
    assert len({targets[index].stat().st_ino for index in (0, 2, 3)}) == (1 if links else 3)
    assert video.exists() == (mode is MediaMode.COPY)
    if video.exists():
        assert not os.path.samefile(video, targets[0])
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_video_with_two_names_is_staged_once(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    content, other = digest(sources[0]), root / "videos" / "other name.avi"
    os.link(sources[0], other)
    carry_out(document, planned(document, [sources[0], other], mode))
    assert [digest(target) for target in targets_of(document, 2)] == [content] * 2
    assert sources[0].exists() == other.exists() == (mode is not MediaMode.MOVE)


@pytest.mark.parametrize("mode", FILE_MODES)
def test_repeated_field_shares_the_copy(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """A text of its own, and no file."""
    plan = planned(document, [sources[0], sources[0]], mode, repeats=1)
    assert [entry.action for entry in plan.relocations] == [Action.TRANSFER, Action.SHARE]
    carry_out(document, plan)
    assert [path.name for path in (document.parent / "a").iterdir()] == [f"{UUID}_external_file_0.avi"]
    assert {document.parent / entry.new_path for entry in plan.relocations} == set(targets_of(document, 1))


def test_plan_without_media(root: Path, document: Path, sources: list[Path]) -> None:
    """Mode reference, URLs and kept paths make no file and no folder."""
    before = tree(root)
    plan = planned(document, sources, MediaMode.REFERENCE)
    kept = replace(plan.relocations[0], action=Action.KEEP, source=None, new_path="https://example.org/video.avi")
    carry_out(document, replace(plan, relocations=(*plan.relocations, kept)))
    assert tree(root) == {**before, "dandiset/a.nwb": digest(document)}
    assert document.read_bytes() == NEW


def test_several_plans_in_one_transfer(root: Path, document: Path, sources: list[Path]) -> None:
    """One after the other, for the same document."""
    plan = planned(document, sources, MediaMode.COPY)
    transfer = Transfer(document)
    for entry in plan.relocations:
        transfer.media.stage(replace(plan, relocations=(entry,)), sync=False)
    write_staged(transfer)
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert [digest(target) for target in targets_of(document, 3)] == [digest(source) for source in sources]
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", [MediaMode.HARDLINK, MediaMode.COPY, MediaMode.MOVE])
def test_present_target_is_reused(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """A target that is right stays the file that it is; a move takes the source away all the same."""
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    shutil.copy(sources[0], target)
    status = target.stat()
    plan = planned(document, [sources[0]], mode)
    assert [entry.action for entry in plan.relocations] == [Action.REUSE]
    carry_out(document, plan)
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert sources[0].exists() == (mode is not MediaMode.MOVE)
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", [MediaMode.COPY, MediaMode.MOVE])
def test_further_name_of_a_reused_target(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    first, second = targets_of(document, 2)
    first.parent.mkdir()
    shutil.copy(sources[0], first)
    content = digest(first)
    plan = planned(document, [sources[0], sources[0]], mode)
    assert [entry.action for entry in plan.relocations] == [Action.REUSE, Action.DUPLICATE]
    carry_out(document, plan)
    assert digest(first) == digest(second) == content
    assert os.path.samefile(first, second)


@pytest.mark.parametrize("mode", FILE_MODES)
def test_second_transfer_changes_nothing(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """The second time from the first one's result; a video that is shared is one file under two names by then."""
    shared = [sources[0], sources[0], sources[1]]
    carry_out(document, planned(document, shared, mode))
    once = tree(root)
    carry_out(document, planned(document, targets_of(document, 3), mode))
    assert tree(root) == once


def test_move_of_shared_video_in_place(root: Path, document: Path, sources: list[Path]) -> None:
    """The source of one reference is the target of the other, which must keep it."""
    first, second = targets_of(document, 2)
    first.parent.mkdir()
    shutil.move(sources[0], first)
    content = digest(first)
    carry_out(document, planned(document, [first, first], MediaMode.MOVE))
    assert digest(first) == digest(second) == content


def test_move_never_removes_reused_target(root: Path, document: Path, sources: list[Path]) -> None:
    """Two references to one video; the second has its target already, and a third names that very file."""
    targets = targets_of(document, 3)
    targets[0].parent.mkdir()
    shutil.copy(sources[0], targets[1])
    content = digest(sources[0])
    plan = planned(document, [sources[0], sources[0], targets[1]], MediaMode.MOVE)
    assert [entry.action for entry in plan.relocations] == [Action.TRANSFER, Action.REUSE, Action.TRANSFER]
    carry_out(document, plan)
    assert [digest(target) if target.exists() else None for target in targets] == [content] * 3


@pytest.mark.parametrize("mode", FILE_MODES)
def test_missing_folders_are_made(root: Path, sources: list[Path], mode: MediaMode) -> None:
    document = root / "new" / "folder" / "b.nwb"
    plan = planned(document, sources[:1], mode)
    carry_out(document, plan, sync=True)
    assert document.read_bytes() == NEW
    assert targets_of(document, 1)[0].read_bytes() == b"video 0" * 100
    assert dot_names(root) == []


def test_progress_is_reported_in_bytes(document: Path, sources: list[Path]) -> None:
    for mode in FILE_MODES:
        told: list[tuple[int, int]] = []
        plan = planned(document, [*sources, sources[0]], mode)
        transfer = Transfer(document)
        transfer.media.stage(plan, sync=False, progress=lambda done, total, told=told: told.append((done, total)))
        transfer.rollback()
        assert told[-1] == (plan.media_bytes, plan.media_bytes)
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_document_permissions_are_kept(document: Path, sources: list[Path]) -> None:
    document.chmod(0o640)
    carry_out(document, planned(document, sources, MediaMode.COPY))
    assert stat.S_IMODE(document.stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", FILE_MODES)
def test_symlinked_source(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """A move takes the link that was named, as mv does; what it leads to, and links between, stay."""
    link, content = root / "videos" / "link.avi", digest(sources[0])
    (root / "links").mkdir()
    (root / "links" / "between.avi").symlink_to("../videos/video_0.avi")
    link.symlink_to("../links/between.avi")
    before = tree(root)
    carry_out(document, planned(document, [link], mode))
    target = targets_of(document, 1)[0]
    assert digest(target) == content
    after = tree(root)
    gone = {name for name in before if name not in after}
    assert gone == ({"videos/link.avi"} if mode is MediaMode.MOVE else set())
    assert digest(sources[0]) == content
    assert target.is_symlink() == (mode is MediaMode.SYMLINK)
    if target.is_symlink():
        assert not Path(os.readlink(target)).is_absolute()


@pytest.mark.parametrize("mode", [MediaMode.HARDLINK, MediaMode.COPY, MediaMode.MOVE])
def test_symlink_at_target_is_replaced_by_its_file(
    root: Path, document: Path, sources: list[Path], mode: MediaMode
) -> None:
    """What an earlier symlink export left is no obstacle."""
    content = digest(sources[0])
    carry_out(document, planned(document, sources[:1], MediaMode.SYMLINK))
    target = targets_of(document, 1)[0]
    carry_out(document, planned(document, [target], mode))
    assert not target.is_symlink()
    assert digest(target) == content
    assert digest(sources[0]) == content
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_existing_target_is_replaced(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    targets, content = targets_of(document, 2), [digest(source) for source in sources]
    targets[0].parent.mkdir()
    targets[0].write_bytes(b"something else")
    targets[1].symlink_to("nowhere")
    with pytest.raises(MediaExistsError):
        planned(document, sources[:2], mode)
    carry_out(document, planned(document, sources[:2], mode, existing="replace"))
    assert [digest(target) for target in targets] == content[:2]
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_two_videos_swap_places(document: Path, sources: list[Path], mode: MediaMode) -> None:
    """Each video's target is the other one's source: both stay whole, or the plan is refused."""
    carry_out(document, planned(document, sources[:2], MediaMode.COPY))
    first, second = targets_of(document, 2)
    content = [digest(first), digest(second)]
    before = tree(document.parent)
    try:
        plan = settled(planned(document, [second, first], mode, existing="replace"))
        carry_out(document, plan)
    except ExternalFilesError:
        assert tree(document.parent) == before
    else:
        assert [digest(first), digest(second)] == content[::-1]


@pytest.mark.parametrize("mode", FILE_MODES)
def test_target_occupied_by_another_source(document: Path, sources: list[Path], mode: MediaMode) -> None:
    """The second target is the first video's source, and gives way: the video is not lost by that."""
    carry_out(document, planned(document, sources[:2], MediaMode.COPY))
    first, second = targets_of(document, 2)
    content = [digest(second), digest(sources[2])]
    before = tree(document.parent)
    try:
        plan = settled(planned(document, [second, sources[2]], mode, existing="replace"))
        carry_out(document, plan)
    except ExternalFilesError:
        assert tree(document.parent) == before
    else:
        assert [digest(first), digest(second)] == content


# ------------------------------------------------------------- nothing before commit


@pytest.mark.parametrize("mode", FILE_MODES)
def test_nothing_under_a_final_name_before_commit(
    root: Path, document: Path, sources: list[Path], mode: MediaMode
) -> None:
    before = tree(root)
    transfer = staged(document, planned(document, sources, mode))
    assert {name: what for name, what in tree(root).items() if name not in dot_names(root)} == before
    assert transfer.staged_document.parent == document.parent
    assert transfer.rollback() == []
    assert tree(root) == before


@pytest.mark.parametrize("mode", FILE_MODES)
@pytest.mark.parametrize("begun", ["nothing", "document", "media"])
def test_rollback_before_all_started(root: Path, sources: list[Path], mode: MediaMode, begun: str) -> None:
    """No document yet, or no media: nothing is in place, so nothing is concluded."""
    document = root / "new" / "b.nwb"
    before = tree(root)
    transfer = Transfer(document)
    if begun == "document":
        write_staged(transfer)
    elif begun == "media":
        transfer.media.stage(planned(document, sources, mode), sync=False)
    assert transfer.rollback() == []
    assert tree(root) == before


@pytest.mark.parametrize("mode", FILE_MODES)
def test_stage_again_after_failed_stage(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """What the first had brought of its videos is no part of the second."""
    content = digest(sources[0])
    failing, plan = planned(document, sources, mode), planned(document, [sources[0]] * 2, mode)
    third = sources[2].read_bytes()
    sources[2].unlink()
    transfer = Transfer(document)
    write_staged(transfer)
    with pytest.raises(TransferError):
        transfer.media.stage(failing, sync=False)
    sources[2].write_bytes(third)
    transfer.media.stage(plan, sync=False)
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert [digest(target) for target in targets_of(document, 2)] == [content] * 2
    assert len(list((document.parent / "a").iterdir())) == 2
    assert [source.exists() for source in sources] == [mode is not MediaMode.MOVE, True, True]
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
@pytest.mark.parametrize("existing", ["error", "replace"])
def test_rollback_after_commit_of_media(
    root: Path, document: Path, sources: list[Path], mode: MediaMode, existing: str
) -> None:
    """The second target came into being since the plan was made."""
    targets = targets_of(document, 3)
    if existing == "replace":
        targets[0].parent.mkdir()
        targets[0].write_bytes(b"something else")
    transfer = staged(document, planned(document, sources, mode, existing=existing))
    targets[1].parent.mkdir(exist_ok=True)
    targets[1].write_bytes(b"in between")
    before = {name: what for name, what in tree(root).items() if name not in dot_names(root)}
    with pytest.raises(MediaExistsError, match="has come into being"):
        transfer.commit(sync=False)
    assert transfer.rollback() == []
    assert tree(root) == before
    assert document.read_bytes() == OLD


@pytest.mark.parametrize("mode", [MediaMode.HARDLINK, MediaMode.MOVE])
def test_rollback_keeps_link_made_by_another(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """What came to stand at the target is the very file, and yet not ours to remove."""
    target = targets_of(document, 1)[0]
    transfer = staged(document, planned(document, sources[:1], mode))
    target.parent.mkdir()
    os.link(sources[0], target)
    with pytest.raises(MediaExistsError):
        transfer.commit(sync=False)
    assert transfer.rollback() == []
    assert target.exists()


@pytest.mark.parametrize("kind", ["file", "symlink to a file", "symlink to a folder", "dangling symlink"])
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("end", ["rollback", "killed"])
def test_rollback_restores_replaced_content(
    root: Path,
    document: Path,
    sources: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    links: bool,
    end: str,
) -> None:
    """By a rollback, and by the next transfer after a kill."""
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    target.write_bytes(b"something else")
    plan = planned(document, sources[:1], MediaMode.COPY, existing="replace")
    if kind != "file":
        target.unlink()
        places = {"symlink to a file": "../../videos/video_2.avi", "symlink to a folder": root / "videos"}
        target.symlink_to(places.get(kind, "nowhere"))
    before = tree(root)
    if not links:
        no_hard_links(monkeypatch)
    monkeypatch.setattr(os, "replace", failing_at(os.replace, document))
    transfer = staged(document, plan)
    with pytest.raises(Stopped):
        transfer.commit(sync=False)
    assert digest(target) == digest(sources[0])
    monkeypatch.undo()
    if end == "rollback":
        assert transfer.rollback() == []
    else:
        del transfer  # the lock goes with its process
        Transfer(document).rollback()
    assert tree(root) == before


class Stopped(BaseException):
    """Ctrl-C, or a kill if nobody handles it."""


def failing_at(function: Callable[..., Any], target: Path) -> Callable[..., Any]:
    """The function, but for one target."""

    def fail(source: object, place: object, *arguments: object, **options: object) -> Any:
        if place == target:
            raise Stopped
        return function(source, place, *arguments, **options)

    return fail


def test_rollback_removes_created_folders(root: Path, sources: list[Path]) -> None:
    document = root / "new" / "folder" / "b.nwb"
    before = tree(root)
    transfer = staged(document, planned(document, sources, MediaMode.COPY))
    assert transfer.rollback() == []
    assert tree(root) == before
    transfer = staged(document, planned(document, sources, MediaMode.COPY))
    targets_of(document, 3)[2].parent.mkdir()
    targets_of(document, 3)[2].write_bytes(b"in between")
    with pytest.raises(MediaExistsError):
        transfer.commit(sync=False)
    transfer.rollback()
    assert set(tree(root)) - set(before) == {
        "new", "new/folder", "new/folder/b", f"new/folder/b/{UUID}_external_file_2.avi"
    }  # fmt: skip


def test_what_cannot_be_restored_is_reported_and_kept(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder has taken the place of the target; the next transfer brings the content back when it is gone."""
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    target.write_bytes(b"something else")
    before = tree(root)
    transfer = staged(document, planned(document, sources[:1], MediaMode.COPY, existing="replace"))
    monkeypatch.setattr(os, "replace", failing_at(os.replace, document))
    with pytest.raises(Stopped):
        transfer.commit(sync=False)
    monkeypatch.undo()
    target.unlink()
    (target / "inside").mkdir(parents=True)
    left = transfer.rollback()
    assert len(left) == 2
    assert str(target) in left[0]
    kept = Path(left[0].rpartition(" is at ")[2].partition(";")[0])
    assert kept.read_bytes() == b"something else"

    with pytest.raises(OSError, match=r"[Dd]irectory") as caught:
        Transfer(document)
    assert kept.read_bytes() == b"something else"
    (target / "inside").rmdir()
    target.rmdir()
    Transfer(document).rollback()  # although the traceback of the failure, as in a notebook, is still held
    assert caught.value is not None
    assert tree(root) == before


def test_leftovers_that_cannot_be_cleared_are_reported(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a rollback that brought back all that matters; the next transfer clears them."""
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    target.write_bytes(b"something else")
    before = tree(root)
    transfer = staged(document, planned(document, sources[:1], MediaMode.COPY, existing="replace"))
    monkeypatch.setattr(os, "replace", failing_at(os.replace, document))
    with pytest.raises(Stopped):
        transfer.commit(sync=False)
    monkeypatch.undo()

    def fail(path: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shutil, "rmtree", fail)
    (left,) = transfer.rollback()
    assert "could not be cleared" in left
    assert os.strerror(errno.EIO) in left
    monkeypatch.undo()
    Transfer(document).rollback()
    assert tree(root) == before


def test_interrupt_in_progress_callback_rolls_back(root: Path, document: Path, videos: list[Path]) -> None:
    """Ctrl-C in the middle of the second video."""
    sources = []
    for number, video in enumerate(videos[:3]):
        sources.append(Path(shutil.copy(video, root / "videos" / f"real_{number}.avi")))
    first = sources[0].stat().st_size

    def interrupt(done: int, total: int) -> None:
        if done > first:
            raise KeyboardInterrupt

    for mode in FILE_MODES:
        before = tree(root)
        transfer = Transfer(document)
        write_staged(transfer)
        with pytest.raises(KeyboardInterrupt):
            transfer.media.stage(planned(document, sources, mode), sync=False, progress=interrupt)
        assert transfer.rollback() == []
        assert tree(root) == before


# --------------------------------------------------------------- sources that are not what they were


@pytest.mark.parametrize("mode", FILE_MODES)
@pytest.mark.parametrize("change", ["gone", "other size", "another file"])
def test_source_changed_since_the_plan(
    root: Path, document: Path, sources: list[Path], mode: MediaMode, change: str
) -> None:
    plan = planned(document, sources, mode)
    if change == "gone":
        sources[1].unlink()
    elif change == "other size":
        sources[1].write_bytes(b"other")
    else:
        content = sources[1].read_bytes()
        sources[1].rename(root / "videos" / "elsewhere.avi")
        sources[1].write_bytes(content[::-1])
    before = tree(root)
    transfer = Transfer(document)
    write_staged(transfer)
    with pytest.raises(TransferError, match=r"external_file\[1\]") as caught:
        transfer.media.stage(plan, sync=False)
    assert (caught.value.nwb_path, caught.value.field, caught.value.index) == (str(document), "external_file", 1)
    assert transfer.rollback() == []
    assert tree(root) == before


@pytest.mark.parametrize("mode", [MediaMode.SYMLINK, MediaMode.REFERENCE])
def test_source_gone_while_document_was_written(
    root: Path, document: Path, sources: list[Path], mode: MediaMode
) -> None:
    """Where the video stays, only a link to it is staged: a new document would be committed with a dead link."""
    transfer = staged(document, planned(document, sources, mode))
    sources[1].unlink()
    with pytest.raises(TransferError, match=r"external_file\[1\].* is gone") as caught:
        transfer.commit(sync=False)
    assert (caught.value.nwb_path, caught.value.index) == (str(document), 1)
    assert transfer.rollback() == []
    assert document.read_bytes() == OLD
    assert not any(target.is_symlink() for target in targets_of(document, len(sources)))
    assert dot_names(root) == []


def test_changed_source_of_move_is_kept(root: Path, document: Path, sources: list[Path]) -> None:
    """A recorder went on writing after the copy was made; only in another file system can the copy differ."""
    target = targets_of(document, 1)[0]
    plan = planned(document, sources[:1], MediaMode.MOVE)
    with pytest.MonkeyPatch.context() as patch:
        no_hard_links(patch)
        transfer = staged(document, plan)
    copied = digest(sources[0])
    with sources[0].open("ab") as file:
        file.write(b"more")
    longer = digest(sources[0])
    transfer.commit(sync=False)
    with pytest.warns(ExternalFilesWarning, match=r"video_0\.avi.*changed") as caught:
        transfer.conclude(sync=False)
    assert len(caught) == 1
    assert digest(sources[0]) == longer
    assert digest(target) == copied
    assert dot_names(root) == []


def test_changed_linked_source_of_move_is_kept(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file stays, so does the name that it is known by."""
    link = root / "videos" / "link.avi"
    link.symlink_to("video_0.avi")
    plan = planned(document, [link], MediaMode.MOVE)
    no_hard_links(monkeypatch)
    transfer = staged(document, plan)
    monkeypatch.undo()
    with sources[0].open("ab") as file:
        file.write(b"more")
    transfer.commit(sync=False)
    with pytest.warns(ExternalFilesWarning, match="still there"):
        transfer.conclude(sync=False)
    assert sources[0].exists()
    assert link.is_symlink()


def test_source_of_move_changed_while_next_was_copied(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first video's copy is done and verified; what comes to its source after that is in no copy."""
    first = sources[0].stat().st_size

    def grow(done: int, total: int) -> None:
        if done > first and sources[0].stat().st_size == first:
            with sources[0].open("ab") as file:
                file.write(b"more")

    plan = planned(document, sources, MediaMode.MOVE)
    no_hard_links(monkeypatch)
    transfer = Transfer(document)
    write_staged(transfer)
    transfer.media.stage(plan, sync=False, progress=grow)
    monkeypatch.undo()
    longer = digest(sources[0])
    transfer.commit(sync=False)
    with pytest.warns(ExternalFilesWarning, match=r"video_0\.avi.*changed"):
        transfer.conclude(sync=False)
    assert digest(sources[0]) == longer
    assert [source.exists() for source in sources] == [True, False, False]


def test_warnings_as_errors_leave_nothing_behind(root: Path, document: Path, sources: list[Path]) -> None:
    """As under ``python -W error``: the document is in place, and free for the next transfer."""
    with pytest.MonkeyPatch.context() as patch:
        no_hard_links(patch)
        transfer = staged(document, planned(document, sources, MediaMode.MOVE))
    with sources[0].open("ab") as file:
        file.write(b"more")
    transfer.commit(sync=False)
    with pytest.raises(ExternalFilesWarning, match="old file is still there"):
        transfer.conclude(sync=False)
    assert document.read_bytes() == NEW
    assert [source.exists() for source in sources] == [True, False, False]
    assert dot_names(root) == []
    Transfer(document).rollback()


def test_failing_plan_rolls_back_earlier_move(root: Path, document: Path, sources: list[Path]) -> None:
    """What was to get a second name by it goes when it has got its first."""
    first = planned(document, sources[:1], MediaMode.MOVE)
    second = planned(document, [sources[1], sources[0], sources[2]], MediaMode.MOVE)
    second = replace(second, relocations=second.relocations[1:])
    video = sources[0].read_bytes()
    transfer = staged(document, first)
    sources[2].write_bytes(b"shorter")
    with pytest.raises(TransferError, match="not the file any more"):
        transfer.media.stage(second, sync=False)
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert targets_of(document, 1)[0].read_bytes() == video
    assert [source.exists() for source in sources] == [False, True, True]


def test_source_of_move_already_gone(root: Path, document: Path, sources: list[Path]) -> None:
    transfer = staged(document, planned(document, sources[:1], MediaMode.MOVE))
    transfer.commit(sync=False)
    sources[0].unlink()
    transfer.conclude(sync=False)
    assert targets_of(document, 1)[0].exists()
    assert dot_names(root) == []


def test_replaced_source_of_move_is_kept(root: Path, document: Path, sources: list[Path]) -> None:
    """Another file has the old name by now; it was never copied."""
    transfer = staged(document, planned(document, sources[:1], MediaMode.MOVE))
    transfer.commit(sync=False)
    (root / "videos" / "next").write_bytes(b"the next video")
    (root / "videos" / "next").replace(sources[0])
    with pytest.warns(ExternalFilesWarning, match="still there"):
        transfer.conclude(sync=False)
    assert sources[0].read_bytes() == b"the next video"


def reusing(document: Path, source: Path, mode: MediaMode = MediaMode.MOVE) -> tuple[RelocationPlan, Path]:
    """A plan that finds its one target in place already."""
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    shutil.copy(source, target)
    plan = planned(document, [source], mode)
    assert plan.relocations[0].action is Action.REUSE
    return plan, target


@pytest.mark.parametrize("size", ["same size", "other size"])
def test_source_of_a_reused_target_changed(root: Path, document: Path, sources: list[Path], size: str) -> None:
    """Since it was compared with the target: what it holds now is nowhere else."""
    plan, _ = reusing(document, sources[0])
    with sources[0].open("r+b" if size == "same size" else "ab") as file:
        file.write(b"changed")
    os.utime(sources[0], (1, 1))
    content = digest(sources[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExternalFilesWarning)
        try:
            carry_out(document, plan)
        except ExternalFilesError:
            pass
    assert content in contents_below(root)


@pytest.mark.parametrize("mode", [MediaMode.COPY, MediaMode.MOVE])
@pytest.mark.parametrize("when", ["before stage", "before commit", "before conclude"])
@pytest.mark.parametrize("change", ["gone", "changed"])
def test_reused_target_is_gone(
    root: Path, document: Path, sources: list[Path], mode: MediaMode, when: str, change: str
) -> None:
    """Then the source of a move is the only copy, and a new document would name nothing, or the wrong thing."""
    plan, target = reusing(document, sources[0], mode)
    content = digest(sources[0])

    def meddle(step: str) -> None:
        if step == when and change == "gone":
            target.unlink()
        elif step == when:
            target.write_bytes(b"changed")

    transfer = Transfer(document)
    write_staged(transfer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExternalFilesWarning)
        try:
            meddle("before stage")
            transfer.media.stage(plan, sync=False)
            meddle("before commit")
            transfer.commit(sync=False)
        except ExternalFilesError:
            assert transfer.rollback() == []
        else:
            assert when == "before conclude" or digest(target) == content
            meddle("before conclude")
            transfer.conclude(sync=False)
    assert content in contents_below(root)
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_replaced_target_is_gone(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """There is nothing left to put aside; it may fail, but by halves it may not."""
    target, content = targets_of(document, 1)[0], digest(sources[0])
    target.parent.mkdir()
    target.write_bytes(b"something else")
    plan = planned(document, sources[:1], mode, existing="replace")
    target.unlink()
    before = tree(root)
    transfer = staged(document, plan)
    try:
        transfer.commit(sync=False)
    except OSError:
        assert transfer.rollback() == []
        assert tree(root) == before
    else:
        transfer.conclude(sync=False)
        assert digest(target) == content


# --------------------------------------------------------------------------- the document


@pytest.mark.parametrize("links", [True, False])
def test_exclusive_creation_refuses_existing_document(
    root: Path, document: Path, sources: list[Path], links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that has come into being meanwhile stays."""
    document.unlink()
    plan = planned(document, sources, MediaMode.COPY)
    if not links:
        no_hard_links(monkeypatch)
    transfer = staged(document, plan, exclusive=True)
    document.write_bytes(b"in between")
    before = {name: what for name, what in tree(root).items() if name not in dot_names(root)}
    with pytest.raises(FileExistsError):
        transfer.commit(sync=False)
    assert transfer.rollback() == []
    assert tree(root) == before

    document.unlink()
    carry_out(document, plan, exclusive=True)
    assert document.read_bytes() == NEW
    assert [digest(target) for target in targets_of(document, 3)] == [digest(source) for source in sources]
    assert dot_names(root) == []


@pytest.mark.parametrize("end", ["rollback", "killed"])
def test_exclusive_creation_killed_between_link_and_unlink(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """An exclusive rename gives the new name first and takes the old one then; in between the document is there."""
    document.unlink()
    targets = targets_of(document, 3)
    targets[0].parent.mkdir()
    targets[0].write_bytes(b"something else")
    before = tree(root)
    transfer = staged(document, planned(document, sources, MediaMode.COPY, existing="replace"), exclusive=True)
    rename_exclusive = links.rename_exclusive

    def stop_halfway(source: Path, target: Path, **kwargs: bool) -> None:
        if target == document:
            os.link(source, target)
            raise Stopped
        rename_exclusive(source, target, **kwargs)

    monkeypatch.setattr(links, "rename_exclusive", stop_halfway)
    with pytest.raises(Stopped):
        transfer.commit(sync=False)
    monkeypatch.undo()
    if end == "rollback":
        assert transfer.rollback() == []
    else:
        del transfer
        Transfer(document).rollback()
    assert dot_names(root) == []
    if document.exists():
        assert [digest(target) for target in targets if target.exists()] == [digest(source) for source in sources]
    else:
        assert tree(root) == before


@pytest.mark.parametrize("exclusive", [True, False])
def test_staged_document_gone(root: Path, document: Path, sources: list[Path], exclusive: bool) -> None:
    """No reason to think that it is in its place, and to take the sources away."""
    if exclusive:
        document.unlink()
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    target.write_bytes(b"something else")
    before = tree(root)
    plan = planned(document, sources[:1], MediaMode.MOVE, existing="replace")
    transfer = staged(document, plan, exclusive=exclusive)
    transfer.staged_document.unlink()
    with pytest.raises(FileNotFoundError):
        transfer.commit(sync=False)
    transfer.rollback()
    assert tree(root) == before


def test_rollback_after_everything_is_in_place_completes(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the document was replaced: there is no way back, and none is needed."""
    content = [digest(source) for source in sources]

    def stop(path: Path) -> None:
        if document.read_bytes() == NEW:
            raise Stopped

    transfer = staged(document, planned(document, sources, MediaMode.MOVE))
    monkeypatch.setattr(filesystem, "sync_folder", stop)
    with pytest.raises(Stopped):
        transfer.commit(sync=True)
    assert transfer.rollback() == []
    assert document.read_bytes() == NEW
    assert [digest(target) for target in targets_of(document, 3)] == content
    assert [source.exists() for source in sources] == [False] * 3
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_commit_with_edited_document(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """The document is written where it stands, when the media have their names."""
    content, inode = digest(sources[0]), document.stat().st_ino
    transfer = Transfer(document, edits_document=True)
    transfer.media.stage(planned(document, sources[:1], mode), sync=False)
    transfer.commit(sync=True, edit=lambda: document.write_bytes(NEW))
    transfer.conclude(sync=True)
    assert document.read_bytes() == NEW
    assert document.stat().st_ino == inode
    assert digest(targets_of(document, 1)[0]) == content
    assert dot_names(root) == []


@pytest.mark.parametrize("end", ["rollback", "killed"])
@pytest.mark.parametrize("mode", FILE_MODES)
def test_failing_edit_rolls_back(root: Path, document: Path, sources: list[Path], mode: MediaMode, end: str) -> None:
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    target.write_bytes(b"something else")
    before = tree(root)
    transfer = Transfer(document, edits_document=True)
    transfer.media.stage(planned(document, sources[:1], mode, existing="replace"), sync=False)

    def fail() -> None:
        assert target.read_bytes() == sources[0].read_bytes()
        raise Stopped

    with pytest.raises(Stopped):
        transfer.commit(sync=False, edit=fail)
    if end == "rollback":
        assert transfer.rollback() == []
    else:
        del transfer
        Transfer(document).rollback()
    assert tree(root) == before


def test_edit_killed_while_sources_of_move_are_removed(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target holds the only copy then; the former content must not come back over it."""
    target, content = targets_of(document, 1)[0], digest(sources[0])
    target.parent.mkdir()
    target.write_bytes(b"something else")
    transfer = Transfer(document, edits_document=True)
    transfer.media.stage(planned(document, sources[:1], MediaMode.MOVE, existing="replace"), sync=False)
    transfer.commit(sync=False, edit=lambda: document.write_bytes(NEW))
    unlink = os.unlink

    def kill_after(path: Any, *arguments: Any, **options: Any) -> None:
        unlink(path, *arguments, **options)
        if Path(path).name.startswith(ASIDE_PREFIX):
            raise Stopped

    monkeypatch.setattr(os, "unlink", kill_after)
    with pytest.raises(Stopped):
        transfer.conclude(sync=False)
    monkeypatch.undo()
    assert not sources[0].exists()
    del transfer
    Transfer(document).rollback()
    assert digest(target) == content
    assert dot_names(root) == []


# ------------------------------------------------------------------------- two at once


def test_second_transfer_of_document_is_busy(root: Path, document: Path, sources: list[Path]) -> None:
    plan = planned(document, sources, MediaMode.COPY)
    transfer = staged(document, plan)
    for edits in (False, True):
        with pytest.raises(DestinationBusyError, match="written by another process") as caught:
            Transfer(document, edits_document=edits)
        assert caught.value.nwb_path == str(document)
    carry_out(document.with_name("b.nwb"), planned(document.with_name("b.nwb"), sources, MediaMode.COPY))
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert [digest(target) for target in targets_of(document, 3)] == [digest(source) for source in sources]
    assert dot_names(root) == []
    carry_out(document, planned(document, sources, MediaMode.COPY))


def test_two_documents_in_one_folder_in_parallel(root: Path, document: Path, sources: list[Path]) -> None:
    documents = [document, document.with_name("b.nwb"), document.with_name("a.nwb.zarr")]
    transfers = [staged(path, planned(path, sources[:1], MediaMode.COPY)) for path in documents[:2]]
    transfers[1].commit(sync=False)
    transfers[0].rollback()
    transfers[1].conclude(sync=False)
    assert document.read_bytes() == OLD
    assert documents[1].read_bytes() == NEW
    assert not (document.parent / "a").exists()
    assert dot_names(root) == []


def test_busy_by_another_process(root: Path, document: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from nwb_extfiles.transfers.transfer import Transfer; "
        "transfer = Transfer(Path(sys.argv[1])); print(flush=True); input(); transfer.rollback()"
    )
    before = tree(root)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(document)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(DestinationBusyError):
            Transfer(document)
        process.communicate("\n", timeout=100)
    assert process.returncode == 0
    assert tree(root) == before


def test_refused_transfer_leaves_no_staging_folder(root: Path, sources: list[Path]) -> None:
    before = tree(root)
    with pytest.raises(OSError, match=r"[Nn]ot a directory|exists"):
        Transfer(sources[0] / "below a file" / "a.nwb")
    assert tree(root) == before


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_file_at_staging_folder_path_is_refused(root: Path, document: Path, sources: list[Path], kind: str) -> None:
    """It is not followed, and not removed."""
    transfer = Transfer(document)
    (area,) = (path for path in document.parent.iterdir() if path.name.startswith(".") and path.is_dir())
    transfer.rollback()
    if kind == "file":
        area.write_bytes(b"mine")
    else:
        area.symlink_to(root / "videos")
    before = tree(root)
    with pytest.raises(TransferError, match="in the way"):
        Transfer(document)
    assert tree(root) == before


def test_file_system_without_locks(
    root: Path, document: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the staging folder itself is the lock: it goes at the end, and a stranger's is respected."""
    import fcntl

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    transfer = staged(document, planned(document, sources, MediaMode.COPY))
    with pytest.raises(DestinationBusyError, match="remove that folder"):
        Transfer(document)
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert dot_names(root) == []
    Transfer(document).rollback()
    assert dot_names(root) == []


# ------------------------------------------------------------------ other file systems


def test_disk_full_while_staging(root: Path, sources: list[Path], tmpfs: Path) -> None:
    """The first video fits, the second does not; the room went after the plan was made."""
    for source in sources:
        source.write_bytes(os.urandom(400 * 1024))
    document = tmpfs / "folder" / "a.nwb"
    document.parent.mkdir()
    document.write_bytes(OLD)
    plans = [planned(document, sources[:2], mode) for mode in (MediaMode.COPY, MediaMode.MOVE)]
    (tmpfs / "other").write_bytes(bytes(300 * 1024))
    before = tree(tmpfs), tree(root)
    for plan in plans:
        transfer = Transfer(document)
        write_staged(transfer)
        with pytest.raises(TransferError, match=os.strerror(errno.ENOSPC)) as caught:
            transfer.media.stage(plan, sync=False)
        assert caught.value.index == 1
        assert isinstance(caught.value.__cause__, OSError)
        assert transfer.rollback() == []
        assert (tree(tmpfs), tree(root)) == before


def test_move_to_another_file_system(root: Path, sources: list[Path], tmpfs: Path) -> None:
    document = tmpfs / "a.nwb"
    content, times = [digest(source) for source in sources], [source.stat().st_mtime_ns for source in sources]
    link = root / "videos" / "link.avi"
    link.symlink_to("video_0.avi")
    plan = planned(document, [link, *sources[1:], link], MediaMode.MOVE)
    transfer = staged(document, plan)
    assert [source.exists() for source in sources] == [True] * 3
    transfer.commit(sync=True)
    assert [source.exists() for source in sources] == [True] * 3
    transfer.conclude(sync=True)
    targets = targets_of(document, 4)
    assert [digest(target) for target in targets] == [*content, content[0]]
    assert [target.stat().st_mtime_ns for target in targets[:3]] == times
    assert os.path.samefile(targets[0], targets[3])
    assert list((root / "videos").iterdir()) == [sources[0]]  # it was named by a link, which alone goes
    assert dot_names(tmpfs) == []


def test_no_hardlink_into_another_file_system(root: Path, document: Path, sources: list[Path], tmpfs: Path) -> None:
    """A plan for another place; as when a mount came in between."""
    plan = planned(document, sources, MediaMode.HARDLINK)
    transfer = Transfer(tmpfs / "a.nwb")
    with pytest.raises(TransferError, match="makes no hard link") as caught:
        transfer.media.stage(plan, sync=False)
    assert caught.value.index == 0
    assert transfer.rollback() == []
    assert tree(tmpfs) == {}


# ------------------------------------------------- stopped at every step: Ctrl-C and kill

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
    """A document, two videos and a further name; targets that are absent, replaced and shared."""
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
    """Ctrl-C before and after each step from stage to commit: a rollback brings all back, or all is in place."""
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
    """Nobody rolls back: no content is lost, the next transfer clears the rest, and a second run succeeds."""
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
import os, pickle, shutil, signal, sys
from pathlib import Path
from nwb_extfiles.disk import contents, links
from nwb_extfiles.transfers.transfer import Transfer

document, plan, point = Path(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes()), sys.argv[3]

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

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
    """A process that is really killed, with its lock; the next transfer finds its way."""
    targets, content = targets_of(document, 3), [digest(source) for source in sources]
    targets[0].parent.mkdir()
    targets[2].write_bytes(b"something else")
    before = tree(root)
    (tmp_path / "plan").write_bytes(pickle.dumps(planned(document, sources, MediaMode.MOVE, existing="replace")))
    command = [sys.executable, "-c", KILLED, str(document), str(tmp_path / "plan"), point]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) in ((-9, b""), (1, b""))
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
    """Transfers that fail take away the folder that they made, while others begin in the same one."""
    folder = tmp_path / "new" / "sub-a"

    def begin_and_give_up(number: int) -> None:
        for _ in range(150):
            assert Transfer(folder / f"{number}.nwb").rollback() == []

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin_and_give_up, range(8)))
    assert not list(folder.glob("*"))


# ------------------------------------------------------------- many small files


@pytest.fixture
def images(root: Path) -> list[Path]:
    """Enough small files to be copied by threads, two of them larger than small ones are, one of them twice."""
    folder = root / "images"
    folder.mkdir()
    places = [folder / f"{number}.png" for number in range(150)]
    for number, place in enumerate(places):
        place.write_bytes(os.urandom(contents.HASH_CHUNK + 5 if number in (40, 120) else number))
    places.insert(100, places[10])
    return places


def in_disorder(monkeypatch: pytest.MonkeyPatch, fails: Path | None = None) -> None:
    """Have the copies end in another order than they were begun in, and one of them fail."""
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
    child = os.fork()
    if child == 0:  # killed when all is staged
        transfer = Transfer(document)
        write_staged(transfer)
        transfer.media.stage(plan)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
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
    """Ctrl-C just when the main thread got a lock of `threading`, which stays locked then."""
    plan = planned(document, images[:40], MediaMode.COPY)
    before, at, status = tree(root), 0, 1
    while status:
        at += 1
        child = os.fork()
        if child == 0:
            signal.alarm(100)  # if it hangs
            os._exit(_interrupted_with_lock(document, plan, at))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, 1), at
        assert tree(root) == before
    assert at > 1


def _interrupted_with_lock(document: Path, plan: RelocationPlan, at: int) -> int:
    """Interrupt at the n-th lock; 1 if there was one, 0 if there are not so many, 2 if something is left."""
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
    """Where the system gives no more, as many as there are do; and be it the one that calls."""
    start, begun = threading.Thread.start, list[threading.Thread]()

    def seldom(self: threading.Thread) -> None:
        if self.name.startswith("ahead_"):
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
    """A video of the former media folder, whose other name stands earlier in the list."""
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

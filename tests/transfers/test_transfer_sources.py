"""Media or targets that change between the plan and the end of the transfer."""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import digest, tree
from transfer_scene import (
    FILE_MODES,
    NEW,
    OLD,
    carry_out,
    contents_below,
    dot_names,
    no_hard_links,
    planned,
    staged,
    targets_of,
    write_staged,
)

from nwb_extfiles.errors import (
    ExternalFilesError,
    ExternalFilesWarning,
    TransferError,
)
from nwb_extfiles.options import MediaMode
from nwb_extfiles.plans.plan import Action, RelocationPlan
from nwb_extfiles.transfers.transfer import Transfer


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
    """If the video stays, only a link to it is staged. The new document would have a dangling path."""
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
    """A recorder continued to write after the copy. Only a copy in another file system can differ."""
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
    """If the file is kept, its name is kept too."""
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
    """The copy of the first video is verified. What is written to its source later is in no copy."""
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
    """As with ``python -W error``. The document is in place, and not locked for the next transfer."""
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
    """The earlier plan has put media in place, which are removed again."""
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
    """Another file has the old name now. It was never copied."""
    transfer = staged(document, planned(document, sources[:1], MediaMode.MOVE))
    transfer.commit(sync=False)
    (root / "videos" / "next").write_bytes(b"the next video")
    (root / "videos" / "next").replace(sources[0])
    with pytest.warns(ExternalFilesWarning, match="still there"):
        transfer.conclude(sync=False)
    assert sources[0].read_bytes() == b"the next video"


def reusing(document: Path, source: Path, mode: MediaMode = MediaMode.MOVE) -> tuple[RelocationPlan, Path]:
    """Make a plan whose one target exists already."""
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    shutil.copy(source, target)
    plan = planned(document, [source], mode)
    assert plan.relocations[0].action is Action.REUSE
    return plan, target


@pytest.mark.parametrize("size", ["same size", "other size"])
def test_source_of_a_reused_target_changed(root: Path, document: Path, sources: list[Path], size: str) -> None:
    """The source changed after it was compared with the target. Its content exists nowhere else."""
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
    """Then the source of a move is the only copy, and a new document would refer to nothing or to other content."""
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
    """There is nothing to put aside. The transfer may fail, but must not be done in part."""
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

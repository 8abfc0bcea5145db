"""Before the commit, nothing is under a final name. A rollback restores what was there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, tree
from transfer_scene import (
    FILE_MODES,
    OLD,
    UUID,
    Stopped,
    dot_names,
    no_hard_links,
    planned,
    staged,
    targets_of,
    write_staged,
)

from nwb_extfiles.errors import (
    MediaExistsError,
    TransferError,
)
from nwb_extfiles.options import MediaMode
from nwb_extfiles.transfers.transfer import Transfer


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
    """There is no document yet, or there are no media. Nothing is in place, so the rollback completes nothing."""
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
    """Videos that the failed stage had copied are not part of the second."""
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
    """The second target appeared after the plan was made."""
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
    """A link to the same file appeared at the target. It was made by another program, so it is kept."""
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
    """After a rollback, and after a kill by the next transfer."""
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


def failing_at(function: Callable[..., Any], target: Path) -> Callable[..., Any]:
    """Wrap a function so that it fails for one target."""

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
    """A folder is now at the target. When it is gone, the next transfer restores the content."""
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
    """The rollback restores everything that matters. The next transfer clears the leftovers."""
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


@pytest.mark.parametrize("mode", FILE_MODES)
def test_interrupt_in_progress_callback_rolls_back(
    root: Path, document: Path, videos: list[Path], mode: MediaMode
) -> None:
    """Ctrl-C in the middle of the second video."""
    sources = []
    for number, video in enumerate(videos[:3]):
        sources.append(Path(shutil.copy(video, root / "videos" / f"real_{number}.avi")))
    first = sources[0].stat().st_size

    def interrupt(done: int, total: int) -> None:
        if done > first:
            raise KeyboardInterrupt

    before = tree(root)
    transfer = Transfer(document)
    write_staged(transfer)
    with pytest.raises(KeyboardInterrupt):
        transfer.media.stage(planned(document, sources, mode), sync=False, progress=interrupt)
    assert transfer.rollback() == []
    assert tree(root) == before

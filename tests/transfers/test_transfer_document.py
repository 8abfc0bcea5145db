"""The document (the NWB file): exclusive creation, edits in place, and a commit that fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, tree
from transfer_scene import FILE_MODES, NEW, Stopped, carry_out, dot_names, no_hard_links, planned, staged, targets_of

from nwb_extfiles.disk import filesystem, links
from nwb_extfiles.disk.moves import ASIDE_PREFIX
from nwb_extfiles.options import MediaMode
from nwb_extfiles.transfers.transfer import Transfer


@pytest.mark.parametrize("links", [True, False])
def test_exclusive_creation_refuses_existing_document(
    root: Path, document: Path, sources: list[Path], links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that appeared meanwhile is kept."""
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
    """An exclusive rename makes the new name first, then removes the old one. In between, the document exists."""
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
    """That must not be taken for a committed document, and the sources must not be removed."""
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
    """After Ctrl-C when the document was replaced, everything is in place, and nothing is rolled back."""
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
    """The document is edited in place when the media have their names."""
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
    """Then the target is the only copy, and the former content must not replace it."""
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

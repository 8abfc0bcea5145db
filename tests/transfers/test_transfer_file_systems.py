"""A full disk, and transfers across file systems."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers import digest, tree
from transfer_scene import OLD, dot_names, planned, staged, targets_of, write_staged

from nwb_extfiles.errors import (
    TransferError,
)
from nwb_extfiles.options import MediaMode
from nwb_extfiles.transfers.transfer import Transfer


def test_disk_full_while_staging(root: Path, sources: list[Path], tmpfs: Path) -> None:
    """The first video fits, the second does not. The space was used up after the plan was made."""
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
    assert list((root / "videos").iterdir()) == [sources[0]]  # only the link that was named is removed
    assert dot_names(tmpfs) == []


def test_no_hardlink_into_another_file_system(root: Path, document: Path, sources: list[Path], tmpfs: Path) -> None:
    """As if something was mounted after the plan was made."""
    plan = planned(document, sources, MediaMode.HARDLINK)
    transfer = Transfer(tmpfs / "a.nwb")
    with pytest.raises(TransferError, match="no hard link can be made") as caught:
        transfer.media.stage(plan, sync=False)
    assert caught.value.index == 0
    assert transfer.rollback() == []
    assert tree(tmpfs) == {}

"""Two transfers at once, and staging folders that cannot be used."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import digest, fail_to_lock, tree
from transfer_scene import NEW, OLD, carry_out, dot_names, planned, staged, targets_of

from nwb_extfiles.errors import (
    DestinationBusyError,
    TransferError,
)
from nwb_extfiles.options import MediaMode
from nwb_extfiles.transfers.transfer import Transfer


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
    with pytest.raises(OSError, match=r"[Nn]ot a directory|exists|not found|cannot find"):
        Transfer(sources[0] / "below a file" / "a.nwb")
    assert tree(root) == before


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_file_at_staging_folder_path_is_refused(root: Path, document: Path, sources: list[Path], kind: str) -> None:
    """The file or link is not followed and not removed."""
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
    """There the staging folder is the lock. It is removed at the end, and that of another run is respected."""
    fail_to_lock(monkeypatch, errno.ENOLCK)
    transfer = staged(document, planned(document, sources, MediaMode.COPY))
    with pytest.raises(DestinationBusyError, match="remove that folder"):
        Transfer(document)
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert dot_names(root) == []
    Transfer(document).rollback()
    assert dot_names(root) == []

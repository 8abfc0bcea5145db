"""The script that walks NWB files through an archive, run against the one on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from dandi_server import KEY, Archive

sys.path.insert(0, str(Path(__file__).parent / "archive"))
from uploads import Uploads
from walk import walk_all


def test_every_link_is_right_after_each_step(archive: Archive, tmp_path: Path) -> None:
    """Organized, uploaded by dandi, downloaded, published, read from disk and by URL, fetched, renamed, and embargoed.

    An NWB file in a Zarr store has three of the nine links.
    """
    Uploads(archive, tmp_path / "blobs")
    walk = walk_all(archive.api.url("api"), KEY, tmp_path / "walk", ["symlink"], tell=lambda line: None)
    assert walk.is_right, walk.table
    links = {
        (step.startswith("store:"), right, wrong)
        for step, reader, right, wrong in walk.rows
        if reader in ("h5py", "pynwb", "zarr", "URLs")
    }
    assert links == {(False, 9, 0), (True, 3, 0)}
    assert len(walk.rows) == 21, walk.table
    assert archive.leaked == []

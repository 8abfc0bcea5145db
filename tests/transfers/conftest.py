"""A document and videos to transfer."""

from __future__ import annotations

from pathlib import Path

import pytest
from transfer_scene import OLD


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An existing document, and videos in another folder. Tests compare this folder before and after."""
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

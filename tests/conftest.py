"""Fixtures: real films, real NWB files, and a judge that reads them with h5py alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import make_film

# dandi asks for these when it is imported: no answers of earlier runs, and no report of this one.
os.environ["DANDI_CACHE"] = "ignore"
os.environ["DANDI_NO_ET"] = "1"


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight short films that differ, made by ffmpeg once a session; copy them, do not change them."""
    folder = tmp_path_factory.mktemp("films")
    return [make_film(folder / f"film_{number}.avi", number) for number in range(8)]


@pytest.fixture
def video_files(tmp_path: Path, films: list[Path]) -> Path:
    """A folder ``video_files`` with the films of the example."""
    folder = tmp_path / "video_files"
    folder.mkdir()
    for film, name in zip(films, ("test1_0", "test1_1", "test2_0", "test2_1"), strict=False):
        shutil.copy(film, folder / f"{name}.avi")
    return folder

"""Fixtures: real films, real NWB files, and a judge that reads them with h5py alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import make_film
from servers import Server, serving

# The fixtures that this package has for others; pytest finds them itself where it is installed.
pytest_plugins = ["nwb_extfiles.pytest_plugin"]


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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the files in ``served/``."""
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as started:
        yield started

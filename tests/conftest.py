"""Fixtures: real videos, Zarr stores, HTTP servers and file systems."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dandi_server import Archive, serving_archive
from helpers import NO_SYMLINKS, combinations_to_run, make_video, mounted, needs_symlink
from servers import Server, reading_from_here, serving
from videos import Videos

import nwb_extfiles
from nwb_extfiles.disk.cache import cache_folder

# The fixtures that this package offers to other projects. Where the package is installed, pytest finds them itself.
pytest_plugins = ["nwb_extfiles.pytest_plugin"]

# dandi reads these when it is imported: use no cached answers, and report no usage.
os.environ["DANDI_CACHE"] = "ignore"
os.environ["DANDI_NO_ET"] = "1"

PACKAGE, TESTS = Path(nwb_extfiles.__file__).parent, Path(__file__).parent
KINDS_OF_DATA = (
    "test_layout.py", "test_path_datasets.py", "test_places.py", "test_probe.py", "test_reading.py",
    "test_video_checks.py", "test_zarr.py", "test_zarr_store.py",
)  # fmt: skip
"""Files whose parameters are types, storages, codecs and names that other packages read or make. ``--one-in`` leaves
none of them out, as each may depend on the version of such a package."""
MAY_NOT_SYMLINK = 1314
"""Windows' error for a user who may not make symbolic links."""


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run each test in the first of its combinations of parameters, and in one of N of the others"
    parser.addoption("--one-in", type=int, default=1, metavar="N", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the media mode "symlink", where it is a parameter, and choose which run and are measured."""
    for item in items:
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, str) and value == "symlink" for value in params):
            item.add_marker(needs_symlink)
    _choose(config, items)
    if config.pluginmanager.hasplugin("_cov"):
        _measure_a_part(items)


def _choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what ``--one-in`` leaves out, and begin with the fuzzers and state machines that take minutes."""
    chosen = {*combinations_to_run(items, config.getoption("one_in"))}
    chosen |= {item for item in items if item.path.name in KINDS_OF_DATA}
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]
    items.sort(key=lambda item: "_long" not in item.name)  # the longest first, so that no processor waits for the last


def _measure_a_part(items: list[pytest.Item]) -> None:
    """Measure coverage in a part of the tests: it makes them take up to half as long again.

    What this part covers, all tests cover.
    """
    measured = {*combinations_to_run(items, 3)}
    for item in items:
        if item not in measured:
            item.add_marker(pytest.mark.no_cover)


@contextmanager
def _skipping_without_symlinks() -> Iterator[None]:
    """Skip a test that makes symbolic links itself, where the user may not. If the package makes them, it fails."""
    try:
        yield
    except OSError as error:
        if getattr(error, "winerror", None) != MAY_NOT_SYMLINK or not _raised_by_test(error):
            raise
        pytest.skip(NO_SYMLINKS)


def _raised_by_test(error: OSError) -> bool:
    """Whether a test called what raised the error, rather than the package."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(PACKAGE):
            return False
        if Path(frame.filename).is_relative_to(TESTS):
            return True
    return False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    with _skipping_without_symlinks():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with _skipping_without_symlinks():
        return (yield)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of each test, also in the commands that it runs; the user's own is left alone."""
    folder = tmp_path_factory.mktemp("cache")
    for name in ("XDG_CACHE_HOME", "WIN_PD_OVERRIDE_LOCAL_APPDATA"):
        monkeypatch.setenv(name, str(folder))
    own = cache_folder()
    assert own is not None
    assert own.is_relative_to(folder)
    return own


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight short, different videos, made by ffmpeg once per session. Copy them, do not change them."""
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"video_{number}.avi", number) for number in range(8)]


@pytest.fixture(scope="session")
def all_videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    """Videos of each container and codec by name, complete and cut off; `videos.py` lists them."""
    return Videos(tmp_path_factory.mktemp("all_videos"))


@pytest.fixture
def video_files(tmp_path: Path, videos: list[Path]) -> Path:
    """The folder ``video_files``, with the videos of the example."""
    folder = tmp_path / "video_files"
    folder.mkdir()
    for video, name in zip(videos, ("test1_0", "test1_1", "test2_0", "test2_1"), strict=False):
        shutil.copy(video, folder / f"{name}.avi")
    return folder


@pytest.fixture
def source_store(tmp_path: Path, video_files: Path) -> Path:
    """A Zarr store that refers to two videos, as hdmf-zarr writes it."""
    from zarr_makers import write_store

    return write_store(tmp_path / "nwbfiles" / "s.nwb.zarr", [f"../video_files/test1_{n}.avi" for n in (0, 1)])


@pytest.fixture
def trusted_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow unpickling: hdmf-zarr pickles object references, and numcodecs reads them only then."""
    import numcodecs.pickles

    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An HTTP server for the files in ``served/``."""
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as started:
        yield started


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """An empty DANDI archive, which dandi knows as ``here``; its owner's key is not in the environment."""
    from dandi.consts import DandiInstance, known_instances, known_instances_rev

    with serving_archive(tmp_path) as started:
        api = started.api.url("api")
        monkeypatch.setitem(known_instances, "here", DandiInstance("here", started.api.url().rstrip("/"), api))
        monkeypatch.setitem(known_instances_rev, api, "here")
        monkeypatch.setitem(known_instances_rev, started.api.url().rstrip("/"), "here")
        monkeypatch.delenv("HERE_API_KEY", raising=False)
        with reading_from_here():
            yield started


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, different from that of `tmp_path`."""
    with mounted(tmp_path / "tmpfs", "-t", "tmpfs", "-o", "size=1m", "none") as place:
        yield place

"""Make real videos and NWB files, and check results without the code under test."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import pytest
from click.testing import Result

from nwb_extfiles.testing import image_series, new_nwbfile, write_nwb

__all__ = [
    "DEFAULT_MODE",
    "MAY_SYMLINK",
    "NO_SYMLINKS",
    "PAST",
    "assert_resolves",
    "combinations_to_run",
    "contents",
    "digest",
    "fail_to_lock",
    "image_series",
    "make_file",
    "make_video",
    "mounted",
    "name_of_bytes",
    "needs_symlink",
    "new_nwbfile",
    "play",
    "set_paths",
    "stored_paths",
    "taking_at_most",
    "tree",
    "with_slashes",
    "write_nwb",
]

PAST = 1_500_000_000_123_456_700  # so long ago that any change gives another mtime; Windows counts in 100 ns
_ABSOLUTE_OR_SINGLE_BACKSLASH = re.compile(rb"([A-Za-z]:\\\S*)|(?<!\\)\\(?!\\)")


def _may_symlink() -> bool:
    """Whether the user may make symbolic links: on Windows only with a privilege, or in developer mode."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            Path(folder, "link").symlink_to("nowhere")
        except OSError:
            return False
        return True


NO_SYMLINKS = "this user may not make symbolic links"
MAY_SYMLINK = _may_symlink()
needs_symlink = pytest.mark.skipif(not MAY_SYMLINK, reason=NO_SYMLINKS)
"""Marks tests in which the package makes symbolic links. `conftest` skips those that make them themselves."""
DEFAULT_MODE = "symlink" if MAY_SYMLINK else "hardlink"
"""How media get into a dandiset on the disk of the tests, if no mode is given."""


def make_video(path: Path, seed: int = 0, *, seconds: float = 0.4) -> Path:
    """Make a real video of 64 x 48 pixels, a different one for each seed."""
    source = f"testsrc=size=64x48:rate=25:duration={seconds},hue=h={seed * 37}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", source]
    subprocess.run([*command, "-c:v", "mjpeg", "-metadata", f"title=video {seed}", str(path)], check=True)
    return path


def make_file(path: Path, size: int = 330_000) -> Path:
    """Make a file of random bytes, with an old mtime."""
    path.write_bytes(os.urandom(size))
    os.utime(path, ns=(PAST, PAST))
    return path


def play(path: Path) -> int:
    """Decode a video with ffmpeg, and return the number of its frames."""
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    return frames


def set_paths(path: Path, dataset: str, values: Any, **storage: Any) -> None:
    """Replace the stored paths of an NWB file, in any kind of storage. The attributes of the dataset are kept."""
    with h5py.File(path, "r+") as file:
        attributes = dict(file[dataset].attrs)
        del file[dataset]
        file.create_dataset(dataset, data=values, **storage)
        file[dataset].attrs.update(attributes)


def stored_paths(path: Path, dataset: str = "acquisition/video/external_file") -> list[str]:
    """The paths stored in a file, read with h5py alone."""
    with h5py.File(path, "r") as file:
        values = file[dataset][()]
    values = [values] if isinstance(values, str | bytes) else values.ravel().tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_resolves(path: Path, expected: Iterable[Path], dataset: str = "acquisition/video/external_file") -> None:
    """Each stored path, relative to its NWB file, names a file with the bytes of the expected one."""
    paths, expected = stored_paths(path, dataset), list(expected)
    assert len(paths) == len(expected)
    for stored, video in zip(paths, expected, strict=True):
        assert digest(path.parent / stored) == digest(video), stored


def tree(folder: Path) -> dict[str, str]:
    """Every entry below a folder: the digest of a file, the target of a symbolic link, or the word folder."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            entries[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            entries[name] = "folder"
        else:
            entries[name] = digest(path)
    return entries


def with_slashes(result: Result) -> Result:
    """What a command said, with relative paths spelled with ``/`` on Windows too, where the tests expect them so."""
    if os.name == "nt":
        for stream in ("stdout_bytes", "stderr_bytes", "output_bytes"):
            said = getattr(result, stream) or b""
            setattr(result, stream, _ABSOLUTE_OR_SINGLE_BACKSLASH.sub(lambda found: found[1] or b"/", said))
    return result


def name_of_bytes(name: bytes) -> str:
    """A file name in any bytes. Skips the test on Windows, where names are text, if they are not UTF-8."""
    if os.name == "nt" and "\ufffd" in name.decode(errors="replace"):
        pytest.skip("file names are text on Windows")
    return os.fsdecode(name)


@contextmanager
def taking_at_most(seconds: float) -> Iterator[None]:
    """Limit the processor time, which other processes on the machine do not change. Windows' calls take longer."""
    seconds *= 2 if os.name == "nt" else 1
    begin = time.process_time()
    yield
    took = time.process_time() - begin
    assert took < seconds, f"took {took:.1f} s"


def contents(path: Path) -> dict[str, Any]:
    """All objects of an HDF5 file, to compare two files. The cached specifications are left out."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if name.startswith("specifications"):
            return
        attributes = {
            key: value if isinstance(value, h5py.Reference) is False else "reference"
            for key, value in item.attrs.items()
        }
        data = item[()] if isinstance(item, h5py.Dataset) else None
        found[name] = (type(item).__name__, repr(sorted(attributes.items(), key=lambda pair: pair[0])), repr(data))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def fail_to_lock(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Have the system's call that locks files fail with one error number after another, with the last one for good."""
    left = list(numbers)

    def fail(*arguments: object) -> None:
        number = left.pop(0) if len(left) > 1 else left[0]
        raise OSError(number, os.strerror(number))

    name, call = ("msvcrt", "locking") if os.name == "nt" else ("fcntl", "flock")
    monkeypatch.setattr(importlib.import_module(name), call, fail)


def combinations_to_run(items: Iterable[pytest.Item], one_in: int) -> list[pytest.Item]:
    """Of each test the first combination of its parameters, and one in `one_in` of the others."""
    seen: Counter[str] = Counter()
    chosen = []
    for item in items:
        test = item.nodeid.partition("[")[0]
        if seen[test] % one_in == 0:
            chosen.append(item)
        seen[test] += 1
    return chosen


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """Mount a file system for the time of a test. Skips the test where mounting is not possible."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount")
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(place)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)

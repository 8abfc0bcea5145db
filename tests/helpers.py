"""What the tests share: makers of real films and NWB files, and a judge that does not use the code under test."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg

from nwb_extfiles.testing import image_series, new_nwbfile, write_nwb

__all__ = [
    "assert_resolves",
    "contents",
    "digest",
    "image_series",
    "make_film",
    "new_nwbfile",
    "play",
    "set_texts",
    "stored_texts",
    "tree",
    "write_nwb",
]


def make_film(path: Path, seed: int = 0, *, seconds: float = 0.4) -> Path:
    """A real film of 64 x 48 pixels; another one for each seed."""
    source = f"testsrc=size=64x48:rate=25:duration={seconds},hue=h={seed * 37}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", source]
    subprocess.run([*command, "-c:v", "mjpeg", "-metadata", f"title=film {seed}", str(path)], check=True)
    return path


def play(path: Path) -> int:
    """Decode a film with ffmpeg; the number of its frames."""
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    return frames


def set_texts(path: Path, dataset: str, values: Any, **storage: Any) -> None:
    """Store other texts, in any kind of storage, where an NWB file has some; attributes stay."""
    with h5py.File(path, "r+") as file:
        attributes = dict(file[dataset].attrs)
        del file[dataset]
        file.create_dataset(dataset, data=values, **storage)
        file[dataset].attrs.update(attributes)


def stored_texts(path: Path, dataset: str = "acquisition/video/external_file") -> list[str]:
    """The texts that stand in a file, read by h5py alone."""
    with h5py.File(path, "r") as file:
        values = file[dataset][()]
    values = [values] if isinstance(values, str | bytes) else values.ravel().tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def digest(path: Path) -> str:
    """The SHA-256 of what a path leads to."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_resolves(path: Path, expected: Iterable[Path], dataset: str = "acquisition/video/external_file") -> None:
    """Each text, relative to its NWB file, names a file with the bytes of the expected one."""
    texts, expected = stored_texts(path, dataset), list(expected)
    assert len(texts) == len(expected)
    for text, film in zip(texts, expected, strict=True):
        assert digest(path.parent / text) == digest(film), text


def tree(folder: Path) -> dict[str, str]:
    """Every entry below a folder, with what it is: a digest of a file, the text of a link, or a folder."""
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


def contents(path: Path) -> dict[str, Any]:
    """All objects of an HDF5 file but the texts of media and the cached specifications, to compare two files by."""
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

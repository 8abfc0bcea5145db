"""What the tests share: makers of real films and NWB files, and a judge that does not use the code under test."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject
from pynwb.image import ImageSeries


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


def new_nwbfile(identifier: str = "id0", subject: str = "mouse0", session: str = "sessionid0") -> NWBFile:
    """An NWB file in memory that the archive's validators are content with."""
    return NWBFile(
        session_description="a mouse is filmed",
        identifier=identifier,
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        session_id=session,
        experimenter=["Doe, Jane"],
        institution="An institute",
        lab="A lab",
        experiment_description="filming",
        keywords=["film"],
        subject=Subject(subject_id=subject, species="Mus musculus", sex="M", age="P90D", description="a mouse"),
    )


def image_series(texts: Sequence[str | os.PathLike[str]], name: str = "video", **kwargs: Any) -> ImageSeries:
    """An ImageSeries whose external_file holds the texts."""
    kwargs.setdefault("rate", 25.0)
    kwargs.setdefault("num_samples", 10 * max(1, len(texts)))
    kwargs.setdefault("starting_frame", [10 * index for index in range(len(texts))])
    return ImageSeries(name=name, external_file=list(texts), format="external", description="a film", **kwargs)


def write_nwb(path: Path, texts: Sequence[str], **kwargs: Any) -> Path:
    """Write an NWB file with one ImageSeries in acquisition, by pynwb alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nwbfile = new_nwbfile(**kwargs)
    nwbfile.add_acquisition(image_series(texts))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


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

"""Make folders of NWB files and videos, fast: pynwb writes one NWB file, the others are edited copies of it."""

from __future__ import annotations

import functools
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from helpers import digest, write_nwb
from makers import quiet

DATASET = "acquisition/video/external_file"


@functools.cache
def template() -> bytes:
    """The bytes of an NWB file with one series and one video."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        return write_nwb(Path(folder) / "template.nwb", ["video.avi"]).read_bytes()


def video(path: Path, content: str | bytes | None = None, size: int = 2000) -> Path:
    """Make a file that stands for a video. No test here decodes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.name if content is None else content
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes((content * (size // max(1, len(content)) + 1))[:size])
    return path


def recording(
    path: Path,
    paths: Sequence[str] | None = (),
    *,
    subject: Any = "mouse0",
    session: Any = "sessionid0",
    start: Any = "2020-01-01T00:00:00+00:00",
    videos: bool = True,
) -> Path:
    """Make an NWB file with one ImageSeries, and those of its videos that are missing.

    A field that is None is left out. Without paths, the file has no ImageSeries.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(template())
    with h5py.File(path, "r+") as file:
        new_ids(file)
        set_scalar(file, "identifier", str(uuid.uuid4()))
        set_scalar(file, "general/subject/subject_id", subject)
        set_scalar(file, "general/session_id", session)
        set_scalar(file, "session_start_time", start)
        if paths:
            del file[DATASET]
            file.create_dataset(DATASET, data=list(paths), dtype=h5py.string_dtype())
            series = file["acquisition/video"]
            attributes = {"starting_frame": [10 * n for n in range(len(paths))]}
            series[DATASET.rpartition("/")[2]].attrs.update(attributes)
        else:
            del file["acquisition/video"]
    for stored in (paths or ()) if videos else ():
        place = path.parent / stored
        if "://" not in stored and not place.exists():
            video(place)
    return path


def new_ids(file: h5py.File) -> None:
    """Give every object a new object_id."""
    file.attrs["object_id"] = str(uuid.uuid4())

    def visit(_: str, item: Any) -> None:
        if "object_id" in item.attrs:
            item.attrs["object_id"] = str(uuid.uuid4())

    file.visititems(visit)


def set_scalar(file: h5py.File, place: str, value: Any) -> None:
    """Replace a scalar dataset by one with this value, of any type. None removes it."""
    attributes: dict[str, Any] = {}
    if place in file:
        attributes = dict(file[place].attrs)
        del file[place]
    if value is not None:
        file[place] = value
        file[place].attrs.update(attributes)


def object_id(path: Path, place: str = "acquisition/video") -> str:
    with h5py.File(path, "r") as file:
        return str(file[place].attrs["object_id"])


def state(folder: Path) -> dict[str, Any]:
    """Content, mtime and inode of a folder and all entries below it, to show that nothing was changed."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = os.lstat(path)
        kind = os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else digest(path)
        found[str(path)] = (kind, status.st_mtime_ns, status.st_ino)
    return found


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

"""Folders of NWB files and videos, made fast: one NWB file is written by pynwb, the others are its bytes, edited."""

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
    """A file for a video; nothing that is tested here decodes it."""
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
    """An NWB file with one ImageSeries; its videos are made where they are missing. None for a field leaves it out.

    Without texts it has no external file at all.
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
    for text in (paths or ()) if videos else ():
        place = path.parent / text
        if "://" not in text and not place.exists():
            video(place)
    return path


def new_ids(file: h5py.File) -> None:
    """Give every object an id of its own."""
    file.attrs["object_id"] = str(uuid.uuid4())

    def visit(_: str, item: Any) -> None:
        if "object_id" in item.attrs:
            item.attrs["object_id"] = str(uuid.uuid4())

    file.visititems(visit)


def set_scalar(file: h5py.File, place: str, value: Any) -> None:
    """Put a value, of whatever type, in the place of a scalar dataset; None removes it."""
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
    """Every entry below a folder, and the folder itself, with content and time of change, to see that nothing was."""
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

"""NWB files on disk, without pynwb: which paths are NWB files, how one is opened, and how its texts are edited."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py

from .errors import ExternalFilesError, UnreadableFileError
from .journal import edit_journalled
from .storage import replace_texts

__all__ = ["NWB_SUFFIX", "Edits", "edit_texts", "find_nwb_files", "open_nwb"]

NWB_SUFFIX = ".nwb"

Edits = Mapping[tuple[str, str], Sequence[str]]
"""New texts by object path and field (as `ExternalFileReference` names it), as many as are stored, in C order."""


def find_nwb_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Find the NWB files among files and below folders.

    Parameters
    ----------
    paths : iterable of paths
        Files are taken whatever they are called; folders are searched for files that end in ``.nwb``.

    Yields
    ------
    pathlib.Path
        Absolute, each once, those of a folder in the order of their names. Names that begin with a dot are passed
        over, as DANDI does, and symbolic links to folders are not followed.

    Raises
    ------
    FileNotFoundError
        If a path leads nowhere.
    """
    seen: set[Path] = set()
    for path in map(Path, map(os.path.abspath, paths)):
        for found in _below(path) if path.is_dir() else [path]:
            if not os.path.lexists(found):
                raise FileNotFoundError(f"{found} does not exist; name NWB files, or folders with such")
            if found not in seen:
                seen.add(found)
                yield found


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".zarr"))
        for name in sorted(names):
            if name.endswith(NWB_SUFFIX) and not name.startswith("."):
                yield Path(place, name)


@contextmanager
def open_nwb(path: Path) -> Iterator[h5py.File]:
    """Open an NWB file for reading.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Yields
    ------
    h5py.File
        The root group.

    Raises
    ------
    UnreadableFileError
        If it cannot be opened, or turns out to be damaged while it is read.
    """
    try:
        if not path.is_file():
            raise OSError("no regular file")  # HDF5 would wait for a pipe without an end
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnreadableFileError(f"{path}: {_reason(path, error)}", nwb_path=str(path)) from error
    with file:
        try:
            yield file
        except (RuntimeError, KeyError, OSError, UnicodeDecodeError) as error:  # as h5py says of damaged files
            if isinstance(error, ExternalFilesError) or getattr(error, "errno", None) is not None:
                raise
            raise UnreadableFileError(
                f"{path} is damaged, and cannot be read to its end: {error}; restore it from where it came from",
                nwb_path=str(path),
            ) from error


def _reason(path: Path, error: OSError) -> str:
    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "it is a folder; name the NWB files in it" if path.is_dir() else "it is no file; expected an NWB file"
    if isinstance(error, PermissionError):
        return "it may not be read; ask its owner for the permission"
    if isinstance(error, BlockingIOError):
        return "another process is writing to it; try again when that is done"
    return f"it cannot be opened as HDF5, which NWB files are: {error}; look whether it was copied whole"


def edit_texts(path: Path, edits: Edits, *, journal: Path | None = None, sync: bool = True) -> None:
    """Change texts in an NWB file that nobody has open; nothing else in it changes.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    edits : mapping
        What to write, and where.
    journal : pathlib.Path, optional
        Where to keep what the edit changes, so that it can be taken back (`nwb_extfiles.journal`). Without one a
        crash may leave a broken file: only for files that have no final name yet.
    sync : bool
        Whether each step is flushed to the disk before the next begins.
    """

    def edit(file: h5py.File) -> None:
        for (object_path, field), texts in edits.items():
            replace_texts(file, path.parent, object_path, field, texts)

    if journal is not None:
        edit_journalled(path, journal, edit, sync=sync)
    else:
        with h5py.File(path, "r+") as file:
            edit(file)

"""NWB files on disk, without pynwb: which paths are NWB files, how one is opened, and how its stored paths are edited.

An NWB file is an HDF5 file or the folder of a Zarr store. The module for Zarr is imported only for such a folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import h5py
from h5py import h5f, h5p

from ..disk.annex import how_to_get, is_annex_pointer
from ..disk.in_use import is_in_use
from ..disk.journal import edit_journalled
from ..errors import (
    ExternalFilesError,
    RelocationRefusedError,
    TransferError,
    UnreadableFileError,
    no_such_file,
    warn,
)
from .manifest import ManifestRow, write_manifest
from .path_datasets import fits, item_at, replace_paths
from .references import ExternalFileReference
from .scan import changed_since

__all__ = [
    "NWB_SUFFIX",
    "Edits",
    "cannot_hold",
    "find_nwb_files",
    "is_nwb_name",
    "nwb_files_called_like",
    "open_nwb",
    "remove_objects",
    "walk_nwb_files",
    "with_edits",
    "write_paths",
    "zarr_marker",
]

NWB_SUFFIX = ".nwb"
_METADATA_CACHE = 128 * 1024  # bytes
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WITHOUT_CHECKSUM = 1  # versions of the superblock, up to this one
_MEMORY_STEP = 64 * 1024  # bytes by which a file in memory grows
_ZARR_SUFFIXES = (".zarr", NWB_SUFFIX)
_OWNER_SUFFIXES = (".nwb", ".zarr", ".h5", ".hdf5")  # in any letter case
_OWNER_ENDS = (".nwb", ".nwb.zarr", ".zarr", ".NWB", ".h5", ".hdf5", ".H5", ".HDF5")
_LOCKED_ON_WINDOWS = "GetLastError() = 33"  # ERROR_LOCK_VIOLATION, which HDF5 gives no errno
_MARKERS = (".zgroup", ".zarray", "zarr.json")  # of format 2, and of format 3

Edits = Mapping[tuple[str, str], Sequence[str]]
"""New paths by object path and field (as `ExternalFileReference` names it), as many as are stored, in C order."""


def find_nwb_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Find the NWB files among files and below folders: absolute paths, each once, sorted within each folder.

    Files and Zarr stores are taken whatever their names. Other folders are searched for files that end in ``.nwb``, and
    for Zarr stores that end in ``.zarr`` or ``.nwb`` and are NWB files by their attributes. Names that begin with a dot
    are skipped, as DANDI does, symbolic links to folders are not followed, and Zarr stores are not searched. A folder
    that cannot be read is warned of; a path that does not exist raises NoSuchFileError.
    """
    seen: set[Path] = set()
    for path in map(Path, map(os.path.abspath, paths)):
        for found in _below(path) if path.is_dir() and zarr_marker(path) is None else [path]:
            if not os.path.lexists(found):
                raise no_such_file(found)
            if found not in seen:
                seen.add(found)
                yield found


def nwb_files_called_like(media_folder: str | os.PathLike[str]) -> list[Path]:
    """The files to which a media folder ``x`` may belong: ``x.nwb``, ``x.nwb.zarr``, ``x.h5`` and so on."""
    places = (Path(f"{os.fspath(media_folder)}{end}") for end in _OWNER_ENDS)
    return [place for place in places if os.path.lexists(place)]


def is_nwb_name(path: Path) -> bool:
    """Whether a path may be an NWB file by its name: one of DANDI's, or of other programs."""
    if path.name.startswith(".") or not path.name.lower().endswith(_OWNER_SUFFIXES):
        return False
    return path.is_file() or _is_nwb_store(path)


def walk_nwb_files(folder: Path, most: int | None = None) -> Generator[Path, None, bool]:
    """Find the files and Zarr stores below a folder that may be NWB files by their names.

    Hidden folders are skipped, and symbolic links to folders are not followed. Returns whether the search ended before
    the end, because more than so many entries of folders were looked at.
    """
    seen = 0
    for place, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if most is not None and seen > most:
            return True
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        stores = [name for name in folders if name.lower().endswith(_OWNER_SUFFIXES) or zarr_marker(Path(place, name))]
        folders[:] = [name for name in folders if name not in stores]
        yield from (path for name in sorted([*names, *stores]) if is_nwb_name(path := Path(place, name)))
    return False


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_warn_of_unread_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        stores = {name for name in folders if zarr_marker(Path(place, name)) is not None}
        folders[:] = [name for name in folders if name not in stores]
        folders[:] = [name for name in folders if not name.endswith(".zarr")]  # broken stores
        found = {name for name in names if name.endswith(NWB_SUFFIX)}
        found |= {name for name in stores if name.endswith(_ZARR_SUFFIXES) and _is_nwb_store(Path(place, name))}
        yield from (Path(place, name) for name in sorted(found) if not name.startswith("."))


def _warn_of_unread_folder(error: OSError) -> None:
    """Name a folder that cannot be read, such as that of another user, or ``lost+found`` of a disk."""
    if not isinstance(error, FileNotFoundError):  # it was removed meanwhile
        warn(
            f"{error.filename} cannot be read, so NWB files that may be in it are left out: {error.strerror}",
            hint="ask its owner for the permission",
        )


def zarr_marker(folder: Path) -> str | None:
    """Name of the file that makes a folder a Zarr group or array; None if there is none, or it may not be read."""
    return next((marker for marker in _MARKERS if os.path.isfile(folder / marker)), None)


def _is_nwb_store(folder: Path) -> bool:
    """Whether a folder, not a link to one, is a Zarr store that is an NWB file by its attributes."""
    if folder.is_symlink():
        return False
    try:
        if zarr_marker(folder) == "zarr.json":
            attributes = json.loads((folder / "zarr.json").read_bytes()).get("attributes")
        else:
            attributes = json.loads((folder / ".zattrs").read_bytes())
    except (OSError, ValueError, AttributeError):
        return False
    return isinstance(attributes, dict) and attributes.get("neurodata_type") == "NWBFile"


@contextmanager
def open_nwb(path: Path) -> Iterator[Any]:
    """Open an NWB file or Zarr store for reading; gives the root group of h5py or zarr.

    Raises
    ------
    UnreadableFileError
        If it cannot be opened, or is found to be damaged while it is read.
    """
    if path.is_dir() and zarr_marker(path) is not None:
        with _open_zarr(path) as group:
            yield group
        return
    try:
        if not path.is_file():
            raise OSError("not a regular file")  # HDF5 would wait for a pipe forever
        file = _open_hdf5(path)
    except OSError as error:
        if not os.path.lexists(path) and not is_annex_pointer(path):
            raise no_such_file(path) from error
        what, hint = _why_unreadable(path, error)
        raise UnreadableFileError(f"{path}: {what}", hint=hint, nwb_path=str(path)) from error
    with file:
        try:
            yield file
        except (RuntimeError, KeyError, OSError, UnicodeDecodeError) as error:  # h5py raises any for damaged files
            if not (isinstance(error, UnicodeDecodeError) or _is_of_h5py(error)):
                raise
            raise _damaged(path, error) from error


def _open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading each object once, with a small metadata cache.

    The metadata of an object is not needed again. A large cache outgrows that of the processor, and takes a fifth of
    the time to be cleared at the end; HDF5 enlarges a small one if it misses too much. The size is set on opening,
    because a file that is already open in this process shares its cache.
    """
    access = h5p.create(h5p.FILE_ACCESS)
    cache = access.get_mdc_config()
    cache.set_initial_size, cache.initial_size, cache.min_size = True, _METADATA_CACHE, _METADATA_CACHE
    access.set_mdc_config(cache)
    return h5py.File(h5f.open(os.fsencode(path), h5f.ACC_RDONLY, access))


def _is_of_h5py(error: BaseException) -> bool:
    """Whether an error was raised by h5py."""
    if isinstance(error, ExternalFilesError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("h5py")


@contextmanager
def _open_zarr(path: Path) -> Iterator[Any]:
    if zarr_marker(path) == "zarr.json":
        raise UnreadableFileError(
            f"{path} is a Zarr store of format 3, which neither hdmf-zarr nor this package can use",
            hint="export it with hdmf-zarr",
            nwb_path=str(path),
        )
    try:
        yield _zarr_store(path).open_store(path)
    except (
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        OSError,
    ) as error:  # zarr raises any of these
        if isinstance(error, ExternalFilesError) or getattr(error, "errno", None) is not None:
            raise
        raise _damaged(path, repr(error)) from error


def _damaged(path: Path, reason: object) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} is damaged, and cannot be read to its end: {reason}",
        hint="restore it from where it came from",
        nwb_path=str(path),
    )


def _zarr_store(path: Path) -> ModuleType:
    try:
        from . import zarr_store
    except ImportError as error:
        raise UnreadableFileError(
            f"{path} is a Zarr store, which needs hdmf-zarr ({error})",
            hint='pip install "hdmf-zarr>=0.11"',
            nwb_path=str(path),
        ) from error
    return zarr_store


def _why_unreadable(path: Path, error: OSError) -> tuple[str, str | None]:
    """Why a file cannot be opened, and what to do."""
    if is_annex_pointer(path):
        return "its content is not on this machine, because it is a file of git-annex", how_to_get(path)
    if not path.exists():
        return f"it is a symbolic link to {os.readlink(path)!r}, which does not exist", "correct the link, or remove it"
    if path.is_dir():
        return "it is a folder, but not a Zarr store; expected an NWB file", None
    if not path.is_file():
        return "it is not a regular file; expected an NWB file", None
    if _LOCKED_ON_WINDOWS in str(error) or isinstance(error, BlockingIOError) or is_in_use(path):
        return "another process is writing to it", "try again when that is done, or close it there"
    if isinstance(error, PermissionError):
        return "you may not read it", "ask its owner for the permission"
    if "already open for" in str(error):  # a mark in files of the newer formats, which a killed process leaves there
        return (
            "another process is writing to it, or was killed while it did",
            "try again when that is done, or call `h5clear --status` on it if there is none",
        )
    if not h5py.is_hdf5(path):
        is_named_so = path.suffix.lower() in _OWNER_SUFFIXES
        hint = "check that it was copied completely" if is_named_so else "name the NWB file"
        return "it is not an HDF5 file, so not an NWB file", hint
    return f"it cannot be opened as HDF5, which NWB files are: {error}", "check that it was copied completely"


def write_paths(
    path: Path,
    edits: Edits,
    *,
    manifest: Sequence[ManifestRow] | None = None,
    name: Path | None = None,
    journal: Path | None = None,
    sync: bool = True,
    planned: Sequence[ExternalFileReference] = (),
) -> None:
    """Change stored paths in an NWB file that nobody has open, and its manifest; nothing else in it changes.

    Parameters
    ----------
    path, edits
        The file or Zarr store; what to write, and where.
    manifest : sequence of ManifestRow, optional
        The new rows of its manifest; None leaves the manifest alone.
    name : pathlib.Path, optional
        The name of the file in messages, if not `path`: a staged file has another name later.
    journal : pathlib.Path, optional
        Where to keep what the edit overwrites, so that it can be undone (`disk.journal.rollback`). Without a journal
        a crash may leave a broken file: only for files without their final name.
    sync : bool
        Whether each step is flushed to the disk before the next begins.
    planned : sequence of ExternalFileReference
        All references that the plan was made with, also those that do not change.

    Raises
    ------
    TransferError
        If one of those is another path, or belongs to another object, by now; nothing is changed.
    """

    def check(file: Any) -> None:
        if (changed := changed_since(file, str(path), planned)) is not None:
            raise TransferError(
                f"{changed.where}: another program changed this path, or its object, while the media were copied; "
                f"nothing was changed in the NWB file",
                hint="run the same command again",
                **changed.place,
            )

    if not edits and manifest is None:
        with open_nwb(path) as file:
            check(file)
        return
    if path.is_dir():
        _zarr_store(path).edit_store(path, edits, manifest=manifest, name=name, journal=journal, sync=sync, check=check)
        return

    def edit(file: h5py.File) -> None:
        check(file)
        for (object_path, field), paths in edits.items():
            replace_paths(file, path.parent, object_path, field, paths)
        if manifest is not None:
            write_manifest(file, manifest, name or path)

    if journal is not None:
        edit_journalled(path, journal, edit, sync=sync)
    else:
        with h5py.File(path, "r+") as file:
            edit(file)


def with_edits(content: bytes, folder: Path, edits: Edits) -> bytes | None:
    """The bytes of an HDF5 file with other paths of media, which are those that `write_paths` leaves.

    None for formats that HDF5 completes only when it closes the file. External links are relative to `folder`.
    """
    # Later superblocks have a checksum, which some versions of HDF5 leave wrong in the bytes that they give, and free
    # space that is written on closing.
    if not content.startswith(_SIGNATURE) or content[len(_SIGNATURE)] > _WITHOUT_CHECKSUM:
        return None
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fapl_core(_MEMORY_STEP, backing_store=False)
    access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)  # as h5py opens files
    access.set_file_image(content)
    image = h5f.open(uuid4().hex.encode(), h5f.ACC_RDWR, access)  # a name of no file
    with h5py.File(image) as file:
        for (object_path, field), paths in edits.items():
            replace_paths(file, folder, object_path, field, paths)
        file.flush()
        edited: bytes = image.get_file_image()
    return edited


def cannot_hold(file: Any, edits: Edits, nwb_path: Path) -> list[ExternalFilesError]:
    """Find new paths that cannot be written where the old ones are, in place or in a copy of an open file.

    A dataset of fixed length that is itself a typed object may be the target of object references, which break if it is
    replaced. Messages call the file `nwb_path`.
    """
    problems: list[ExternalFilesError] = []
    for (object_path, field), paths in edits.items() if isinstance(file, h5py.File) else ():
        owner = item_at(file, object_path)
        if isinstance(owner, h5py.Dataset) and not fits(owner, paths):
            problems.append(
                RelocationRefusedError(
                    f"{nwb_path}: {object_path!r}, {field}: the stored path has a fixed length, and a longer one would "
                    f"break object references to it",
                    hint="export to a new file with NWBExtFilesHDF5IO instead",
                    nwb_path=str(nwb_path),
                    object_path=object_path,
                    field=field,
                )
            )
    return problems


def remove_objects(path: Path, object_paths: Iterable[str]) -> None:
    """Remove objects, if they are there, from an NWB file or Zarr store that nobody has open."""
    if path.is_dir():
        _zarr_store(path).remove_objects(path, object_paths)
        return
    with h5py.File(path, "r+") as file:
        for object_path in object_paths:
            if object_path in file:
                del file[object_path]

"""Whether two NWB files hold the same, apart from the paths of media and the manifest that this package writes.

Two HDF5 files are compared object by object (`hdf5_comparison`). Two Zarr stores are compared file by file, so the same
values in other chunks, or with another compression, count as different. Whatever is in doubt counts as different,
because one of two equal files may be removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

from ..disk import contents
from ..disk.journal import OverlayFile
from ..errors import UnreadableFileError
from .files import Edits, open_nwb
from .hdf5_comparison import HDF5Comparison, come_with_manifest, media_places, same_bytes
from .manifest import MANIFEST_PATH
from .path_datasets import replace_paths
from .registry import MediaField

__all__ = ["is_edited_copy", "same_content"]

_CONSOLIDATED = ".zmetadata"
_METADATA = (".zarray", ".zattrs", ".zgroup")
# h5py and zarr raise any of these for what they cannot read, such as data whose filter is not installed
_CANNOT_READ = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, MemoryError,
)  # fmt: skip


def same_content(one: Path, other: Path, table: Sequence[MediaField] | None = None) -> bool:
    """Whether two NWB files, or two Zarr stores, hold the same content.

    False if anything differs except the paths of media in the fields of `table`, the manifest, its cached schema, and
    the schemas that are cached with it; also if the files cannot be compared.
    """
    if one.is_dir() is not other.is_dir():
        return False
    try:
        if one.is_file() and other.is_file() and contents.same_content(one, other):  # not a pipe, which has no end
            return True
        with open_nwb(one) as first, open_nwb(other) as second:
            comparison = _ZarrComparison if one.is_dir() else HDF5Comparison
            return comparison(first, second, table).are_same()
    except (UnreadableFileError, *_CANNOT_READ):
        return False


def is_edited_copy(other: Path, one: Path, edits: Edits) -> bool:
    """Whether `other` has exactly the bytes of `one` with some paths of media changed, as `write_paths` changes them.

    The same edit of the same file gives the same bytes, so a copy that this package made is recognized without reading
    its objects. True is proof. False is not: another version of HDF5 may write the same content in other bytes, and
    Zarr stores are not compared this way; `same_content` finds that out.
    """
    if one.is_dir() or other.is_dir():
        return False
    try:
        with open(one, "rb") as source, open(other, "rb") as copy:
            edited = OverlayFile(source.fileno())
            if edits:
                with h5py.File(edited, "r+") as file:
                    for (object_path, field), paths in edits.items():
                        replace_paths(file, one.parent, object_path, field, paths)
            if edited.size != os.fstat(copy.fileno()).st_size:
                return False
            edited.seek(0)
            return same_bytes(edited, copy)
    except _CANNOT_READ:
        return False


class _ZarrComparison:
    """Two open Zarr stores, compared file by file."""

    def __init__(self, one: Any, other: Any, table: Sequence[MediaField] | None) -> None:
        self._roots = one, other
        self._table = table

    def are_same(self) -> bool:
        """Whether they hold the same content."""
        arrays, owners = set[str](), dict[str, set[str]]()
        for object_path, field in media_places(self._roots, self._table):
            path = object_path.strip("/")
            if hasattr(self._roots[0][path], "dtype"):
                arrays.add(path)
            else:
                arrays.add(f"{path}/{field}")
                owners.setdefault(path, set()).add(field)
        ignored = {f"{MANIFEST_PATH}/.zgroup", f"{MANIFEST_PATH}/.zattrs", *come_with_manifest(self._roots), *arrays}
        one, other = (
            {name: file for name, file in self._files_of(root).items() if ignored.isdisjoint((name, *_above(name)))}
            for root in self._roots
        )
        return (
            one.keys() == other.keys()
            and all(self._same_path_array(path) for path in arrays)
            and all(self._same_file(name, file, other[name], owners) for name, file in one.items())
        )

    def _same_file(self, name: str, one: Path, other: Path, owners: Mapping[str, set[str]]) -> bool:
        path, _, last = name.rpartition("/")
        if last == ".zattrs":
            return self._same_attributes(one, other, path, owners.get(path, set()))
        return contents.same_content(one, other)

    @staticmethod
    def _files_of(root: Any) -> dict[str, Path]:
        folder = Path(os.path.abspath(str(getattr(root.store, "store", root.store).path)))
        found: dict[str, Path] = {}
        for place, folders, names in os.walk(folder):
            for name in folders:
                if Path(place, name).is_symlink():
                    raise ValueError("what a linked folder holds is not compared")
            for name in names:
                path = Path(place, name)
                found[path.relative_to(folder).as_posix()] = path
        consolidated = found.pop(_CONSOLIDATED, None)
        if consolidated is not None:
            # Programs read the consolidated copy, so it must agree.
            metadata = {name: file for name, file in found.items() if name.rpartition("/")[2] in _METADATA}
            known = json.loads(consolidated.read_bytes())["metadata"]
            if known.keys() != metadata.keys() or not all(
                _as_json(known[name]) == _as_json(json.loads(file.read_bytes())) for name, file in metadata.items()
            ):
                raise ValueError("the consolidated metadata are not those of the store")
        return found

    def _same_path_array(self, path: str) -> bool:
        """Whether arrays of paths, one of which may be behind a link, differ only in their paths."""
        found = []
        for root in self._roots:
            item = root.get(path)
            if item is None:
                continue  # it is behind a link, and the array that replaced the link has its attributes
            attributes = {k: v for k, v in item.attrs.asdict().items() if k != "zarr_dtype"}
            found.append((item.shape, _as_json(attributes)))
        return len(set(found)) == 1

    def _same_attributes(self, one: Path, other: Path, path: str, linked: set[str]) -> bool:
        values: list[Mapping[str, Any]] = []
        for file in (one, other):
            attributes = json.loads(file.read_bytes())
            if path == "":
                attributes.pop(".specloc", None)
            links = [link for link in attributes.pop("zarr_link", ()) if link.get("name") not in linked]
            values.append(attributes | ({"zarr_link": links} if links else {}))
        return _as_json(values[0]) == _as_json(values[1])


def _as_json(value: Any) -> str:
    """A string to compare by: 1 differs from 1.0 in it, and NaN equals itself."""
    return json.dumps(value, sort_keys=True)


def _above(name: str) -> Iterator[str]:
    """The folders that a file is in."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name

"""NWB files in Zarr stores, without hdmf-zarr: opened, and their stored paths edited.

The only module but `io.zarrio` that loads zarr, and itself loaded only when a Zarr store is met.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import JSON, VLenUTF8
from zarr.errors import MetadataError
from zarr.storage import ConsolidatedMetadataStore, DirectoryStore, FSStore, Store

from ..disk.folder_journal import edit_files
from ..errors import TransferError
from .manifest import MANIFEST_PATH, ManifestRow, Node, columns_of_others, manifest_nodes

__all__ = ["OverlayStore", "edit_store", "open_store", "remove_objects"]

_CONSOLIDATED = ".zmetadata"
_ARRAY = ".zarray"
_METADATA = (_ARRAY, ".zattrs", ".zgroup")


def open_store(path: Path | str, filesystem: Any = None) -> zarr.Group:
    """Open the root group of a Zarr store for reading; one behind a URL with a file system of fsspec.

    The metadata are read at once where they are consolidated, as hdmf-zarr reads them. ValueError, KeyError, TypeError,
    AttributeError or OSError if the store is damaged.
    """
    store = DirectoryStore(str(path)) if filesystem is None else FSStore(str(path), fs=filesystem, mode="r")
    if _CONSOLIDATED not in store:
        return zarr.open_group(store, mode="r")
    try:
        return zarr.open_group(_IndexedStore(store), chunk_store=store, mode="r")
    except MetadataError as error:  # an Exception and no more
        raise ValueError(str(error)) from error


class _IndexedStore(ConsolidatedMetadataStore):  # type: ignore[misc]  # zarr has no types
    """Consolidated metadata that list a group without a look at every key of the store.

    zarr's own take the square of the number of objects to go through them all: 5 s for 2,000.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._names: dict[str, set[str]] = {}
        for key in self.meta_store:
            above, _, name = key.rpartition("/")
            while name not in (names := self._names.setdefault(above, set())):
                names.add(name)
                if above:
                    above, _, name = above.rpartition("/")

    def listdir(self, path: str = "") -> list[str]:
        """The names in a group."""
        return sorted(self._names.get(path.strip("/"), ()))


class OverlayStore(Store):  # type: ignore[misc]  # zarr has no types
    """A Zarr store that is read from a folder and written to memory."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._disk = DirectoryStore(str(path))
        self._written: dict[str, bytes | None] = {}

    def __getitem__(self, key: str) -> bytes:
        if key not in self._written:
            return bytes(self._disk[key])
        content = self._written[key]
        if content is None:
            raise KeyError(key)
        return content

    def __setitem__(self, key: str, value: Any) -> None:
        self._written[key] = bytes(value) if isinstance(value, bytes | bytearray) else np.asarray(value).tobytes()

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._written[key] = None

    def __contains__(self, key: object) -> bool:
        return self._written[str(key)] is not None if key in self._written else key in self._disk

    def __iter__(self) -> Iterator[str]:
        return iter({key for key in {*self._disk, *self._written} if key in self})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def rmdir(self, path: str = "") -> None:
        """Remove all below a path; only that is looked through, not the whole store."""
        folder = Path(self.path, path)
        below = {file.relative_to(self.path).as_posix() for file in folder.rglob("*") if file.is_file()}
        for key in below | {key for key in self._written if key.startswith(f"{path}/")}:
            self._written[key] = None

    def changes(self) -> dict[str, bytes | None]:
        """New content of each file that differs from what is on disk."""
        return {key: content for key, content in self._written.items() if self._disk.get(key) != content}

    def consolidate(self) -> None:
        """Update the consolidated metadata, where there are any, to what was written."""
        changed = {key: content for key, content in self.changes().items() if key.rpartition("/")[2] in _METADATA}
        if not changed or _CONSOLIDATED not in self:
            return
        try:
            consolidated = json.loads(self[_CONSOLIDATED])
            known = consolidated["metadata"]
            for key, content in changed.items():
                known.pop(key, None)
                if content is not None:
                    known[key] = json.loads(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TransferError(
                f"{self.path}: {_CONSOLIDATED} cannot be brought up to date, because it is damaged: {error!r}",
                hint="make it anew with zarr.consolidate_metadata",
                nwb_path=self.path,
            ) from error
        self[_CONSOLIDATED] = json.dumps(consolidated, indent=4, sort_keys=True).encode("ascii")  # as zarr writes it


def edit_store(
    path: Path,
    edits: Mapping[tuple[str, str], Sequence[str]],
    *,
    manifest: Sequence[ManifestRow] | None = None,
    name: Path | None = None,
    journal: Path | None = None,
    sync: bool = True,
    check: Callable[[zarr.Group], object] = lambda root: None,
) -> None:
    """Change stored paths in a Zarr store that nobody has open.

    The parameters are those of `files.write_paths`, and `check`, which is called first and raises if the store is not
    what was planned with.
    """
    overlay = OverlayStore(path)
    root = zarr.open_group(overlay, mode="r+")
    check(root)
    for (object_path, field), paths in edits.items():
        _replace_paths(root, path, object_path, field, paths)
    if manifest is not None:
        _write_manifest(root, manifest, name or path)
    overlay.consolidate()
    edit_files(path, overlay.changes(), journal, sync=sync)


def _write_manifest(root: zarr.Group, rows: Sequence[ManifestRow], nwb_path: Path) -> None:
    """Write the table of ndx-extfiles as hdmf-zarr would, over a former one."""
    further = columns_of_others(root, rows, nwb_path)
    specifications = root.attrs.get(".specloc")
    if not isinstance(specifications, str) or not isinstance(root.get(specifications), zarr.Group):
        specifications = "specifications"
        root.require_group(specifications)
        root.attrs[".specloc"] = specifications
    holder, _, _ = MANIFEST_PATH.rpartition("/")
    object_ids = {path: str(root[path].attrs.get("object_id", "")) for path in (holder, MANIFEST_PATH) if path in root}
    nodes = manifest_nodes(rows, object_ids, specifications, set(root[specifications]), further)
    for node in nodes:
        # of the schema every version goes with what is below it; of the table what is written anew
        is_table = node.path in object_ids and isinstance(root.get(node.path), zarr.Group)
        if node.path in root and not is_table:
            del root[node.path]
    for node in nodes:
        _write_node(root, node)


def _write_node(root: zarr.Group, node: Node) -> None:
    attributes = dict(node.attributes)
    if node.data is None:
        item: Any = root.require_group(node.path)
    elif isinstance(node.data, str):
        item = root.create_dataset(node.path, shape=(1,), dtype=object, object_codec=JSON(), compressor=None)
        item[0] = node.data
        attributes["zarr_dtype"] = "scalar"
    else:
        strings = isinstance(node.data, list)
        item = root.create_dataset(
            node.path, shape=(len(node.data),), chunks=(max(1, len(node.data)),),
            dtype=object if strings else node.data.dtype, object_codec=VLenUTF8() if strings else None,
        )  # fmt: skip
        if len(node.data):
            item[...] = np.array(node.data, dtype=object) if strings else node.data
        attributes |= {"zarr_dtype": "str" if strings else str(node.data.dtype), "_ARRAY_DIMENSIONS": ["num_rows"]}
    item.attrs.put(attributes)


def _replace_paths(root: zarr.Group, path: Path, object_path: str, field: str, paths: Sequence[str]) -> None:
    owner = root[object_path]
    if isinstance(owner, zarr.Array):
        _write_array(root, owner, paths)
    elif field in owner:
        _write_array(root, owner[field], paths)
    else:
        _write_over_link(root, path, owner, field, paths)  # what is behind a link may be another store's


def _write_array(root: zarr.Group, array: zarr.Array, paths: Sequence[str]) -> None:
    if not paths:
        return
    values = np.empty(len(paths), dtype=object)
    values[:] = paths
    if array.dtype.kind == "S":
        values[:] = [path.encode("utf-8", "surrogateescape") for path in paths]
    if array.dtype.kind in "SU":
        unit = 4 if array.dtype.kind == "U" else 1
        if max(map(len, values)) * unit > array.dtype.itemsize:
            attributes = {**array.attrs.asdict(), "zarr_dtype": "str"}
            values[:] = paths
            array = _create(root, array.path, array, attributes)
    array[...] = values.reshape(array.shape)


def _create(root: zarr.Group, path: str, like: zarr.Array, attributes: Mapping[str, Any]) -> zarr.Array:
    """Make an array of strings like another one, over what is at a path."""
    separator = json.loads(like.store[f"{like.path}/{_ARRAY}"]).get("dimension_separator")
    array = root.create_dataset(
        path, shape=like.shape, chunks=like.chunks, dtype=object, object_codec=VLenUTF8(), compressor=like.compressor,
        overwrite=True, fill_value="", dimension_separator=separator,
    )  # fmt: skip
    array.attrs.put(dict(attributes))
    return array


def _write_over_link(root: zarr.Group, path: Path, owner: zarr.Group, name: str, paths: Sequence[str]) -> None:
    """Put an array of strings where a link to one was; the array behind the link is not touched."""
    links = owner.attrs["zarr_link"]
    (link,) = (link for link in links if link["name"] == name)
    other = os.path.normpath(path / link["source"])
    # absolute, for zarr would look below the group
    target = root[f"/{link['path']}"] if Path(other) == path else zarr.open_group(other, mode="r")[link["path"]]
    array = _create(root, f"{owner.path}/{name}", target, target.attrs.asdict())
    array[...] = np.array(paths, dtype=object).reshape(array.shape)
    left = [link for link in links if link["name"] != name]
    if left:
        owner.attrs["zarr_link"] = left
    else:
        del owner.attrs["zarr_link"]


def remove_objects(path: Path, object_paths: Iterable[str]) -> None:
    """Remove objects from a Zarr store that nobody has open; those that are not there are passed over."""
    overlay = OverlayStore(path)
    for name in (object_path.strip("/") for object_path in object_paths):
        overlay.rmdir(name)
    overlay.consolidate()
    edit_files(path, overlay.changes(), None)

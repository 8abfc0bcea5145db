"""The record inside an NWB file of the media that belong to it: the table of ndx-extfiles, read and written.

The table is written as pynwb would write it, but without pynwb, so that it can be put into files of any size in the
same step that changes their texts. Its schema is in ``spec/``; `nwb_extfiles.ndx` has the containers for pynwb.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import UnsafeReferenceError
from .storage import as_text, is_stored, read_texts

__all__ = [
    "MANIFEST_PATH",
    "ManifestRow",
    "Node",
    "manifest_nodes",
    "parse_manifest",
    "read_manifest",
    "same_rows",
    "spec_folder",
    "write_manifest",
]

_NAMESPACE = "ndx-extfiles"
_META_DATA = "general/external_files"
MANIFEST_PATH = f"{_META_DATA}/manifest"
"""Where the table is in an NWB file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """What is recorded of one reference; the columns of ``ExternalFileManifest``."""

    referring_object_id: str
    referring_object_path: str
    field: str
    index: int
    """Entry of the field, counted from 0."""
    path: str
    """The reference as it is stored."""
    original_name: str
    """Name of the file before it was renamed, without folders."""
    size_in_bytes: int
    sha256: str
    """In hexadecimal digits, lower case."""
    media_type: str
    """By RFC 6838; empty if not known."""
    width: int = 0
    """In pixels; 0 if not known."""
    height: int = 0
    """In pixels; 0 if not known."""
    frame_count: int = 0
    """0 if not known."""
    frame_rate: float = math.nan
    """In frames per second; NaN if not known."""

    @property
    def place(self) -> tuple[str, str, int]:
        """Object path, field and index: what it speaks of."""
        return self.referring_object_path, self.field, self.index


_TYPES = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(ManifestRow)}
_STORED_AS = {
    "index": np.int32,
    "size_in_bytes": np.int64,
    "width": np.int32,
    "height": np.int32,
    "frame_count": np.int64,
    "frame_rate": np.float64,
}  # the others are texts


def spec_folder() -> Path:
    """The folder with the schema: in the installed package, or in the checkout that it runs from."""
    installed = Path(__file__).parent / "spec"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "spec"


# ----------------------------------------------------------------------- read


def read_manifest(root: Any, nwb_path: Path) -> list[ManifestRow] | None:
    """Read the table of an NWB file.

    Parameters
    ----------
    root : h5py.File or zarr.Group
        The NWB file, open.
    nwb_path : pathlib.Path
        Where it is, for messages.

    Returns
    -------
    list of ManifestRow or None
        None if there is no table.

    Raises
    ------
    UnsafeReferenceError
        If what is there is no such table.
    """
    if MANIFEST_PATH not in root:
        return None
    table = root[MANIFEST_PATH]
    columns = {} if is_stored(table) else {name: table[name] for name in _TYPES if name in table}
    return parse_manifest(columns, nwb_path)


def parse_manifest(columns: Mapping[str, Any], nwb_path: Path) -> list[ManifestRow]:
    """Make rows of the columns of a table.

    Parameters
    ----------
    columns : mapping
        The stored data of each column by its name: an array, a dataset, a list.
    nwb_path : pathlib.Path
        The NWB file, for messages.

    Returns
    -------
    list of ManifestRow

    Raises
    ------
    UnsafeReferenceError
        If columns are missing, hold something else, or differ in length.
    """
    try:
        values = {name: _values(columns[name], kind) for name, kind in _TYPES.items() if name in columns}
        if len({len(column) for column in values.values()}) != 1:
            raise ValueError("its columns differ in length, or there are none")
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        return [ManifestRow(**row) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError, OSError, OverflowError) as error:
        raise UnsafeReferenceError(
            f"{nwb_path}: /{MANIFEST_PATH} is no ExternalFileManifest as {_NAMESPACE} defines it: {error}; remove it, "
            f"or mend it",
            nwb_path=str(nwb_path),
            object_path=f"/{MANIFEST_PATH}",
        ) from error


def _values(column: Any, kind: type) -> list[Any]:
    if kind is not str:
        return [kind(value) for value in np.asarray(column[()] if hasattr(column, "shape") else column).ravel()]
    read = read_texts(column)
    if read is None:
        raise TypeError(f"{column!r} is no text")
    return [str(text) for text in read[0]]


# ---------------------------------------------------------------------- write


@dataclass(frozen=True, slots=True)
class Node:
    """A group or dataset to be written, in whatever kind of storage."""

    path: str
    """In the NWB file, without a slash before it."""
    attributes: Mapping[str, Any]
    data: Any = None
    """None for a group; an array of numbers, a list of texts, or one text."""


def manifest_nodes(
    rows: Sequence[ManifestRow], object_ids: Mapping[str, str], specifications: str = "specifications"
) -> list[Node]:
    """Lay out the table, and its schema where HDMF looks for it, so that it can be read without this package.

    Parameters
    ----------
    rows : sequence of ManifestRow
        All rows.
    object_ids : mapping
        The object_id of what stands in the file already, by path; it is kept.
    specifications : str
        The group in which the NWB file caches schemas.

    Returns
    -------
    list of Node
        Groups before what is in them.
    """

    def node(path: str, namespace: str, neurodata_type: str, data: Any = None, **attributes: Any) -> Node:
        object_id = object_ids.get(path) or str(uuid.uuid4())
        return Node(
            path, dict(namespace=namespace, neurodata_type=neurodata_type, object_id=object_id, **attributes), data
        )

    version, namespaces, extensions = _schema()
    docs = {column["name"]: column["doc"] for column in extensions["groups"][0]["datasets"]}
    nodes = [
        node(_META_DATA, _NAMESPACE, "ExternalFilesMetaData"),
        node(
            MANIFEST_PATH,
            _NAMESPACE,
            "ExternalFileManifest",
            description="The media files that objects of this NWB file refer to",
            colnames=list(_TYPES),
        ),
        node(f"{MANIFEST_PATH}/id", "hdmf-common", "ElementIdentifiers", np.arange(len(rows), dtype=np.int64)),
    ]
    for name in _TYPES:
        values: Any = [getattr(row, name) for row in rows]
        if name in _STORED_AS:
            values = np.array(values, dtype=_STORED_AS[name])
        nodes.append(node(f"{MANIFEST_PATH}/{name}", "hdmf-common", "VectorData", values, description=docs[name]))
    schema = f"{specifications.strip('/')}/{_NAMESPACE}"
    nodes += [Node(schema, {}), Node(f"{schema}/{version}", {})]
    for name, spec in (("namespace", namespaces), (f"{_NAMESPACE}.extensions", extensions)):
        nodes.append(Node(f"{schema}/{version}/{name}", {}, json.dumps(spec, separators=(",", ":"))))
    return nodes


def _schema() -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Version of the schema, its namespace and its types, as HDMF caches them."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    namespaces = yaml.load(spec_folder() / f"{_NAMESPACE}.namespace.yaml")
    for source in namespaces["namespaces"][0]["schema"]:
        if "source" in source:
            source["source"] = source["source"].removesuffix(".yaml")
    extensions = yaml.load(spec_folder() / f"{_NAMESPACE}.extensions.yaml")
    return str(namespaces["namespaces"][0]["version"]), namespaces, extensions


def write_manifest(file: h5py.File, rows: Sequence[ManifestRow]) -> None:
    """Write the table into an NWB file in HDF5, in the place of a former one.

    Parameters
    ----------
    file : h5py.File
        Open for writing.
    rows : sequence of ManifestRow
        All rows.
    """
    location = file.attrs.get(".specloc")
    if location is None:
        location = file.require_group("specifications").ref
        file.attrs[".specloc"] = location
    specifications = file[location]
    places = (_META_DATA, MANIFEST_PATH)
    object_ids = {path: as_text(file[path].attrs.get("object_id")) or "" for path in places if path in file}
    for group, name in ((file, _META_DATA), (specifications, _NAMESPACE)):
        if name in group:
            del group[name]
    for node in manifest_nodes(rows, object_ids, specifications.name):
        _write_node(file, node)


def _write_node(file: h5py.File, node: Node) -> None:
    if node.data is None:
        item: Any = file.create_group(node.path)
    elif isinstance(node.data, str):
        item = file.create_dataset(node.path, data=node.data, dtype=h5py.string_dtype())
    elif isinstance(node.data, list):
        encoded = np.empty(len(node.data), dtype=object)
        encoded[:] = [text.encode("utf-8", "surrogateescape") for text in node.data]
        item = file.create_dataset(node.path, data=encoded, dtype=h5py.string_dtype(), maxshape=(None,), chunks=True)
    else:
        item = file.create_dataset(node.path, data=node.data, maxshape=(None,), chunks=True)
    for name, value in node.attributes.items():
        item.attrs[name] = np.array(value, dtype=h5py.string_dtype()) if isinstance(value, list) else value


def same_rows(rows: Iterable[ManifestRow], others: Iterable[ManifestRow]) -> bool:
    """Whether two tables say the same; what is not known is like itself."""
    return [repr(row) for row in rows] == [repr(row) for row in others]

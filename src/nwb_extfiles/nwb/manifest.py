"""The record inside an NWB file of the media that belong to it: the table of ndx-extfiles, read and written.

The table is written as pynwb would write it, but without pynwb, so that it is added to files of any size in the same
edit that changes their stored paths. Its schema is in ``spec/``; `nwb_extfiles.ndx` has the containers for pynwb.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import RelocationRefusedError, UnsafeReferenceError
from .path_datasets import as_string, attribute_string, encoded, is_stored, read_paths
from .type_tree import cached_schemas

__all__ = [
    "COLUMNS",
    "MANIFEST_PATH",
    "MANIFEST_TYPES",
    "META_DATA_PATH",
    "NAMESPACE",
    "ManifestRow",
    "Node",
    "columns_of_others",
    "manifest_nodes",
    "parse_manifest",
    "read_manifest",
    "same_rows",
    "spec_folder",
    "write_manifest",
]

NAMESPACE = "ndx-extfiles"
META_DATA_PATH = "general/external_files"
MANIFEST_PATH = f"{META_DATA_PATH}/manifest"
"""Where the table is in an NWB file."""
MANIFEST_TYPES = ("ExternalFilesMetaData", "ExternalFileManifest")
"""The neurodata types of the objects at these two places."""
_MOST_ROWS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """The record of one reference; the columns of ``ExternalFileManifest``."""

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
    original_sha256: str = ""
    """Of the file that was remuxed to make this one; empty if the content is the original."""

    @property
    def place(self) -> tuple[str, str, int]:
        """Object path, field and index of the reference."""
        return self.referring_object_path, self.field, self.index


_TYPES = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(ManifestRow)}
COLUMNS = frozenset(("id", *_TYPES))
"""The names of all datasets in the table."""
_STORED_AS = {
    "index": np.int32,
    "size_in_bytes": np.int64,
    "width": np.int32,
    "height": np.int32,
    "frame_count": np.int64,
    "frame_rate": np.float64,
}  # the others are strings


def spec_folder() -> Path:
    """The folder with the schema: in the installed package, or in the checkout that it runs from."""
    installed = Path(__file__).parents[1] / "spec"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "spec"


# ----------------------------------------------------------------------- read


def read_manifest(root: Any, nwb_path: Path) -> list[ManifestRow] | None:
    """Read the table of an open NWB file; None if there is none.

    Raises
    ------
    UnsafeReferenceError
        If what is there is not such a table. The message calls the file `nwb_path`.
    """
    if MANIFEST_PATH not in root:
        return None
    table = root[MANIFEST_PATH]
    columns = {} if is_stored(table) else {name: table[name] for name in _TYPES if name in table}
    return parse_manifest(columns, nwb_path)


def parse_manifest(columns: Mapping[str, Any], nwb_path: Path) -> list[ManifestRow]:
    """Make rows of the columns of a table, each an array, a dataset or a list.

    Raises
    ------
    UnsafeReferenceError
        If columns are missing, hold something else, or differ in length. The message calls the file `nwb_path`.
    """
    try:
        for name, column in columns.items():
            _check_size(name, column)
        values = {name: _values(columns[name], kind) for name, kind in _TYPES.items() if name in columns}
        missing = [field.name for field in fields(ManifestRow) if field.default is MISSING and field.name not in values]
        if missing:
            raise ValueError(f"it has no column {', '.join(map(repr, missing))}")
        if len({len(column) for column in values.values()}) != 1:
            raise ValueError("its columns differ in length, or there are none")
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        return [ManifestRow(**row) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError, OSError, OverflowError) as error:
        raise UnsafeReferenceError(
            f"{nwb_path}: /{MANIFEST_PATH} is not an ExternalFileManifest as {NAMESPACE} defines it: {error}",
            hint="correct or remove it",
            nwb_path=str(nwb_path),
            object_path=f"/{MANIFEST_PATH}",
        ) from error


def columns_of_others(root: Any, rows: Sequence[ManifestRow], nwb_path: Path) -> list[str]:
    """The columns that another program has added to the table of an open NWB file; they are kept when it is rewritten.

    Raises
    ------
    RelocationRefusedError
        If there are any, and the new rows are not for the same entries in the same order as the old ones.
    UnsafeReferenceError
        If what is there is not such a table.
    """
    table = root.get(MANIFEST_PATH)
    if table is None or is_stored(table):
        return []
    names = [name for name in map(as_string, table.attrs.get("colnames", ())) if name not in _TYPES and name in table]
    if names and [row.place for row in read_manifest(root, nwb_path) or ()] != [row.place for row in rows]:
        raise RelocationRefusedError(
            f"{nwb_path}: /{MANIFEST_PATH} has further columns, {', '.join(map(repr, names))}, and its rows no longer "
            f"match the external files of the NWB file, so those columns cannot be kept",
            hint="move them to a table of your own, and remove them from this one",
            nwb_path=str(nwb_path),
            object_path=f"/{MANIFEST_PATH}",
        )
    return [str(name) for name in names]


def _check_size(name: str, column: Any) -> None:
    """Refuse a column that must not be read: a file may claim any number of rows without storing them."""
    if is_stored(column):
        shape = column.shape
        if shape is None or math.prod(shape) > _MOST_ROWS:
            raise ValueError(f"{name} is empty, or has more than {_MOST_ROWS:,} rows")
        if getattr(column, "external", None):  # in any files
            raise ValueError(f"{name} is stored in other files")


def _values(column: Any, kind: type) -> list[Any]:
    if kind is not str:
        return [kind(value) for value in np.asarray(column[()] if hasattr(column, "shape") else column).ravel()]
    read = read_paths(column)
    if read is None:
        raise TypeError(f"{column!r} does not hold strings")
    return [str(string) for string in read[0]]


# ---------------------------------------------------------------------- write


@dataclass(frozen=True, slots=True)
class Node:
    """A group or dataset to be written, to HDF5 or Zarr."""

    path: str
    """In the NWB file, without a leading slash."""
    attributes: Mapping[str, Any]
    data: Any = None
    """None for a group; an array of numbers, a list of strings, or one string."""


def manifest_nodes(
    rows: Sequence[ManifestRow],
    object_ids: Mapping[str, str],
    specifications: str,
    cached: Container[str],
    further: Iterable[str],
) -> list[Node]:
    """Lay out the table, and its schema where HDMF looks for it, so that other programs can read it.

    Objects that are in the file already keep their `object_ids`, by path. `specifications` is the group in which the
    file caches schemas, those of the namespaces `cached`. The columns `further` of other programs stay. Groups come
    before their members.
    """

    def node(path: str, namespace: str, neurodata_type: str, data: Any = None, **attributes: Any) -> Node:
        object_id = object_ids.get(path) or str(uuid.uuid4())
        return Node(
            path, dict(namespace=namespace, neurodata_type=neurodata_type, object_id=object_id, **attributes), data
        )

    (schema,) = _schemas(spec_folder() / f"{NAMESPACE}.namespace.yaml")
    extensions = schema.files[f"{NAMESPACE}.extensions"]
    docs = {column["name"]: column["doc"] for column in extensions["groups"][0]["datasets"]}
    nodes = [
        node(META_DATA_PATH, NAMESPACE, MANIFEST_TYPES[0]),
        node(
            MANIFEST_PATH,
            NAMESPACE,
            MANIFEST_TYPES[1],
            description="The media files that objects of this NWB file refer to",
            colnames=[*_TYPES, *further],
        ),
        node(f"{MANIFEST_PATH}/id", "hdmf-common", "ElementIdentifiers", np.arange(len(rows), dtype=np.int64)),
    ]
    for name in _TYPES:
        values: Any = [getattr(row, name) for row in rows]
        if name in _STORED_AS:
            values = np.array(values, dtype=_STORED_AS[name])
        nodes.append(node(f"{MANIFEST_PATH}/{name}", "hdmf-common", "VectorData", values, description=docs[name]))
    # Readers that find schemas in a file take all of them from there.
    others = [] if "core" in cached else [other for other in _schemas_of_pynwb() if other.name not in cached]
    for each in (*others, schema):
        group = f"{specifications.strip('/')}/{each.name}"
        nodes += [Node(group, {}), Node(f"{group}/{each.version}", {})]
        for name, spec in each.files.items():
            nodes.append(Node(f"{group}/{each.version}/{name}", {}, json.dumps(spec, separators=(",", ":"))))
    return nodes


@dataclass(frozen=True, slots=True)
class _Schema:
    """A namespace as HDMF caches it."""

    name: str
    version: str
    files: Mapping[str, dict[str, Any]]


def _schemas(path: Path) -> Iterator[_Schema]:
    """The namespaces that a file of YAML defines."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    for namespace in yaml.load(path)["namespaces"]:
        files = {}
        for source in namespace["schema"]:
            if "source" in source:
                name = source["source"].removesuffix(".yaml")
                source["source"], files[name] = name, yaml.load(path.with_name(f"{name}.yaml"))
        files["namespace"] = {"namespaces": [namespace]}
        yield _Schema(namespace["name"], str(namespace["version"]), files)


def _schemas_of_pynwb() -> Iterator[_Schema]:
    """The namespaces that every NWB file needs, in the version of the installed pynwb."""
    package = find_spec("pynwb")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "nwb-schema"
        yield from _schemas(folder / "hdmf-common-schema" / "common" / "namespace.yaml")
        yield from _schemas(folder / "core" / "nwb.namespace.yaml")


def write_manifest(file: h5py.File, rows: Sequence[ManifestRow], nwb_path: Path) -> None:
    """Write the table into an HDF5 file that is open for writing, over a former one; raises as `columns_of_others`."""
    further = columns_of_others(file, rows, nwb_path)
    specifications = cached_schemas(file)
    if specifications is None:
        specifications = file.require_group("specifications")
        file.attrs[".specloc"] = specifications.ref
    places = (META_DATA_PATH, MANIFEST_PATH)
    object_ids = {path: attribute_string(file[path].attrs.get("object_id")) or "" for path in places if path in file}
    if NAMESPACE in specifications:
        del specifications[NAMESPACE]
    for node in manifest_nodes(rows, object_ids, specifications.name, set(specifications), further):
        _write_node(file, node)


def _write_node(file: h5py.File, node: Node) -> None:
    former = file.get(node.path, getlink=True)
    stays = node.data is None and isinstance(former, h5py.HardLink) and isinstance(file[node.path], h5py.Group)
    if former is not None and not stays:
        del file[node.path]
    if node.data is None:
        item: Any = file.require_group(node.path)
    elif isinstance(node.data, str):
        item = file.create_dataset(node.path, data=node.data, dtype=h5py.string_dtype())
    elif isinstance(node.data, list):
        strings = encoded(node.data, (len(node.data),))
        item = file.create_dataset(node.path, data=strings, dtype=h5py.string_dtype(), maxshape=(None,), chunks=True)
    else:
        item = file.create_dataset(node.path, data=node.data, maxshape=(None,), chunks=True)
    for name, value in node.attributes.items():
        item.attrs[name] = np.array(value, dtype=h5py.string_dtype()) if isinstance(value, list) else value


def same_rows(rows: Iterable[ManifestRow], others: Iterable[ManifestRow]) -> bool:
    """Whether two tables have the same rows; an unknown number (NaN) equals itself."""
    return [repr(row) for row in rows] == [repr(row) for row in others]

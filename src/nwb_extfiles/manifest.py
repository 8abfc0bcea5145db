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
from .storage import as_text, read_texts

__all__ = ["MANIFEST_PATH", "ManifestRow", "parse_manifest", "read_manifest", "spec_folder", "write_manifest"]

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


def read_manifest(root: h5py.File, nwb_path: Path) -> list[ManifestRow] | None:
    """Read the table of an NWB file.

    Parameters
    ----------
    root : h5py.File
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
    columns = {name: table[name] for name in _TYPES if name in table} if isinstance(table, Mapping) else {}
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


def write_manifest(file: h5py.File, rows: Sequence[ManifestRow]) -> None:
    """Write the table into an NWB file, in the place of a former one, and its schema among those that the file caches.

    Parameters
    ----------
    file : h5py.File
        Open for writing.
    rows : sequence of ManifestRow
        All rows.
    """
    version, schema = _schema()
    docs = _column_docs(schema["extensions"])
    former_ids = {
        path: as_text(file[path].attrs.get("object_id")) for path in (_META_DATA, MANIFEST_PATH) if path in file
    }
    if _META_DATA in file:
        del file[_META_DATA]

    def typed(item: Any, namespace: str, neurodata_type: str, object_id: str | None = None, **attributes: Any) -> Any:
        item.attrs.update(
            namespace=namespace, neurodata_type=neurodata_type, object_id=object_id or str(uuid.uuid4()), **attributes
        )
        return item

    holder = file.require_group("general").create_group("external_files")
    typed(holder, _NAMESPACE, "ExternalFilesMetaData", former_ids.get(_META_DATA))
    table = typed(
        holder.create_group("manifest"),
        _NAMESPACE,
        "ExternalFileManifest",
        former_ids.get(MANIFEST_PATH),
        description="The media files that objects of this NWB file refer to",
    )
    table.attrs["colnames"] = np.array(list(_TYPES), dtype=h5py.string_dtype())
    ids = table.create_dataset("id", data=np.arange(len(rows), dtype=np.int64), maxshape=(None,), chunks=True)
    typed(ids, "hdmf-common", "ElementIdentifiers")
    for name in _TYPES:
        values = [getattr(row, name) for row in rows]
        if name in _STORED_AS:
            data = np.array(values, dtype=_STORED_AS[name])
            column = table.create_dataset(name, data=data, maxshape=(None,), chunks=True)
        else:
            encoded = np.empty(len(rows), dtype=object)
            encoded[:] = [value.encode("utf-8", "surrogateescape") for value in values]
            column = table.create_dataset(name, data=encoded, dtype=h5py.string_dtype(), maxshape=(None,), chunks=True)
        typed(column, "hdmf-common", "VectorData", description=docs[name])
    _cache_schema(file, version, schema)


def _schema() -> tuple[str, dict[str, Any]]:
    """Version of the schema, and the texts that HDMF caches of it."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    namespaces = yaml.load(spec_folder() / f"{_NAMESPACE}.namespace.yaml")
    for source in namespaces["namespaces"][0]["schema"]:
        if "source" in source:
            source["source"] = source["source"].removesuffix(".yaml")
    extensions = yaml.load(spec_folder() / f"{_NAMESPACE}.extensions.yaml")
    return str(namespaces["namespaces"][0]["version"]), {"namespace": namespaces, "extensions": extensions}


def _column_docs(extensions: dict[str, Any]) -> dict[str, str]:
    return {column["name"]: column["doc"] for column in extensions["groups"][0]["datasets"]}


def _cache_schema(file: h5py.File, version: str, schema: dict[str, Any]) -> None:
    """Put the schema where HDMF looks for it, so that the table can be read without this package."""
    location = file.attrs.get(".specloc")
    if location is None:
        folder = file.require_group("specifications")
        file.attrs[".specloc"] = folder.ref
    else:
        folder = file[location]
    if _NAMESPACE in folder:
        del folder[_NAMESPACE]  # of another version
    ours = folder.create_group(f"{_NAMESPACE}/{version}")
    for name, spec in (("namespace", schema["namespace"]), (f"{_NAMESPACE}.extensions", schema["extensions"])):
        ours.create_dataset(name, data=json.dumps(spec, separators=(",", ":")), dtype=h5py.string_dtype())


def same_rows(rows: Iterable[ManifestRow], others: Iterable[ManifestRow]) -> bool:
    """Whether two tables say the same; what is not known is like itself."""
    return [repr(row) for row in rows] == [repr(row) for row in others]

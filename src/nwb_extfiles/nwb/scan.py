"""The stored paths of media, found in an NWB file on disk."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py

from ..errors import ExternalFilesError, UnsafeReferenceError
from .path_datasets import attribute_string, is_stored, item_at, path_of, read_paths, read_strings
from .references import ExternalFileReference
from .registry import MediaField, media_fields
from .type_tree import TypeTree, parents_in_file
from .walk import LEAVES, ExternalLink, TypedObject, dataset_at, read_attribute, typed_objects

__all__ = ["changed_since", "field_of", "find_in_file"]

_COLUMNS = frozenset(("DynamicTableRegion", "ElementIdentifiers", "VectorData", "VectorIndex"))
_PUBLISHED = ("hdmf-common", "core")  # early versions of the core had these types
_MANY = 20  # objects of a type


def find_in_file(
    file: Any,
    table: Sequence[MediaField] | None = None,
    problems: list[ExternalFilesError] | None = None,
    links: list[ExternalLink] | None = None,
) -> list[ExternalFileReference]:
    """Find all stored paths of media in an open NWB file, in the order of object paths, then of entries.

    Links to other objects are not followed, nor links that lead out of a Zarr store.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        The root group.
    table : sequence of MediaField, optional
        The places to look at; those of `media_fields` if not given.
    problems : list of ExternalFilesError, optional
        Gets one for each field that holds something other than strings, or a broken link.
    links : list of ExternalLink, optional
        Gets the links to objects of other NWB files; `find_behind_links` follows them.
    """
    places = _Places(file, media_fields() if table is None else table)
    nwb_path = os.path.abspath(path_of(file))
    folder = os.path.dirname(nwb_path)
    found: list[ExternalFileReference] = []
    for item in typed_objects(file, links) if isinstance(file, h5py.File) else _visited(file, links):
        neurodata_type = item.neurodata_type
        for field in places.of(item):
            stored = _stored_at(file, item, field)
            if stored is None:
                continue
            if stored.paths is None:
                if problems is not None:
                    problems.append(_not_a_string(nwb_path, item.path, neurodata_type, field))
                continue
            for index, stored_path in enumerate(stored.paths):
                found.append(
                    ExternalFileReference(
                        nwb_path=nwb_path,
                        object_path=item.path,
                        neurodata_type=neurodata_type,
                        object_id=stored.object_id,
                        field=field.label,
                        index=index,
                        stored_path=stored_path,
                        base=stored.base or folder,
                        repeats=field.repeats,
                        is_list=stored.is_list or item.is_dataset,
                    )
                )
    return found


def changed_since(
    file: Any, nwb_path: str, references: Iterable[ExternalFileReference]
) -> ExternalFileReference | None:
    """The first of some references that an open file no longer holds as they were found; None if nothing changed.

    That is, each object has its object_id, and each field the same paths; the references are all entries of each field,
    in their order. The file may be opened through a Python object.
    """
    fields: dict[tuple[str, str], list[ExternalFileReference]] = {}
    for reference in references:
        fields.setdefault((reference.object_path, reference.field), []).append(reference)
    for (object_path, field), entries in fields.items():
        try:
            found = _read_again(file, os.path.dirname(nwb_path), object_path, field)
        except (KeyError, OSError, RuntimeError):  # it is gone, or something else has its place
            found = _Stored(None, None)
        # what a link leads to in another Zarr store is not opened here, and is not changed
        is_elsewhere = found.paths is None and found.base is not None
        if found.object_id != entries[0].object_id or not (
            is_elsewhere or found.paths == [entry.stored_path for entry in entries]
        ):
            return entries[0]
    return None


def _read_again(file: Any, folder: str, object_path: str, field: str) -> _Stored:
    item = item_at(file, object_path)
    object_id = attribute_string(item.attrs.get("object_id"))
    link = item.get(field, getlink=True) if isinstance(item, h5py.Group) else None
    if isinstance(link, h5py.ExternalLink):
        # opened by name: from a file that was opened through a Python object h5py looks for it in that object
        with h5py.File(os.path.join(folder, link.filename), "r") as other:
            read = read_paths(other[link.path])
    else:
        dataset = item if is_stored(item) else field_of(item, field)
        read = read_paths(dataset) if is_stored(dataset) else None
        if dataset is None and not isinstance(file, h5py.File) and _has(item, field):
            return _Stored(None, object_id, folder)
    return _Stored(None if read is None else read[0], object_id)


class _Places:
    """The places of a table that the objects of an open file have.

    The schemas that the file caches, two dozen strings, are read only if the answer depends on them: if an object of a
    type outside the table has a dataset that is called like a place in it, or is itself a dataset and no column. With
    many objects of a type, reading them is quicker than looking into each object.
    """

    def __init__(self, file: Any, table: Sequence[MediaField]) -> None:
        self._file = file
        self._table = table
        self._inside = [(field, field.field.encode()) for field in table if field.field is not None]
        self._whole = [field for field in table if field.field is None]
        self._types = TypeTree(_unknown, lambda: parents_in_file(file))
        self._known: dict[tuple[str, bool], tuple[MediaField, ...]] = {}
        self._counts: Counter[str] = Counter()
        self._columns: dict[str, bool] = {}

    def of(self, item: TypedObject | _TypedInZarr) -> Iterable[MediaField]:
        """The places of one object, in the order of the table."""
        neurodata_type = item.neurodata_type
        if neurodata_type in _COLUMNS and self._is_column(item):
            return ()
        if self._counts[neurodata_type] >= _MANY:
            both = [self._by_schema(neurodata_type, is_dataset) for is_dataset in (False, True)]
            return both[item.is_dataset] if any(both) else ()
        self._counts[neurodata_type] += 1
        if item.is_dataset:
            own = [field for field in self._whole if field.neurodata_type == neurodata_type]
            return own if len(own) == len(self._whole) else self._by_schema(neurodata_type, True)
        return [
            field
            for field, name in self._inside
            if self._holds(item, name)
            and (field.neurodata_type == neurodata_type or field in self._by_schema(neurodata_type, False))
        ]

    def _by_schema(self, neurodata_type: str, is_dataset: bool) -> tuple[MediaField, ...]:
        key = neurodata_type, is_dataset
        if key not in self._known:
            fields = self._types.fields_of("", neurodata_type, self._table, is_dataset=is_dataset)
            self._known[key] = tuple(fields)
        return self._known[key]

    def _is_column(self, item: TypedObject | _TypedInZarr) -> bool:
        """Whether a type with the name of one of hdmf-common is that one, by the namespace of its first object.

        Such a published type is not looked up in the file: HDMF too goes by its own copy, whatever the file caches.
        """
        neurodata_type = item.neurodata_type
        if neurodata_type not in self._columns:
            if isinstance(item, TypedObject):
                namespace = read_attribute(item.group, item.name, b"namespace")
            else:
                namespace = attribute_string(item_at(self._file, item.path).attrs.get("namespace"))
            self._columns[neurodata_type] = namespace in _PUBLISHED
        return self._columns[neurodata_type]

    def _holds(self, item: TypedObject | _TypedInZarr, name: bytes) -> bool:
        if isinstance(item, TypedObject):
            return item.holds(name)
        return _has(item_at(self._file, item.path), name.decode())


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a field of an object holds on disk."""

    paths: list[str] | None
    """None if it does not hold strings."""
    object_id: str | None
    base: str | None = None
    """The folder of the file that holds the paths, if that is another one."""
    is_list: bool = True
    """Whether it is a list; False for a single string."""


@dataclass(frozen=True, slots=True)
class _TypedInZarr:
    """An object of a Zarr store that has a neurodata type, like the `TypedObject` of an HDF5 file."""

    path: str
    neurodata_type: str
    is_dataset: bool


def _visited(root: Any, links: list[ExternalLink] | None) -> Iterator[_TypedInZarr]:
    objects: list[_TypedInZarr] = []
    store = os.path.abspath(path_of(root))

    def visit(name: str, item: Any) -> None:
        path = posixpath.join("/", name)
        neurodata_type = attribute_string(item.attrs.get("neurodata_type"))
        if neurodata_type is not None and item is not root:
            objects.append(_TypedInZarr(path, neurodata_type, is_stored(item)))
        if links is not None and neurodata_type not in LEAVES and not is_stored(item):
            links.extend(
                ExternalLink(posixpath.join(path, link), os.path.normpath(f"{store}/{source}"), target)
                for link, source, target in _zarr_links(item)
                if os.path.normpath(f"{store}/{source}") != store
            )

    visit("", root)
    root.visititems(visit)
    yield from objects


def _zarr_links(group: Any) -> Iterator[tuple[str, str, str]]:
    """Name, store (relative to this one) and path of each link in a Zarr group, from the attribute of hdmf-zarr."""
    links = group.attrs.get("zarr_link")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict):
            name, source, path = (link.get(key) for key in ("name", "source", "path"))
            if isinstance(name, str) and isinstance(source, str) and isinstance(path, str):
                yield name, source, path


def _stored_at(file: Any, found: TypedObject | _TypedInZarr, field: MediaField) -> _Stored | None:
    """What a field of an object holds; None if it has no such field."""
    if isinstance(found, TypedObject):
        name = found.name if field.field is None else found.name + b"/" + field.field.encode()
        if not found.group.links.exists(name):
            return None
        there = dataset_at(found.group, name)
        strings = read_strings(there) if there is not None else None
        if strings is not None:
            object_id = read_attribute(found.group, found.name, b"object_id")
            return _Stored(strings[0], object_id, is_list=strings[1] != ())
    item = item_at(file, found.path)
    dataset = item if field.field is None else field_of(item, field.field)
    if dataset is None and not _has(item, field.field or ""):
        return None
    read = read_paths(dataset) if is_stored(dataset) else None
    base = os.path.dirname(os.path.abspath(path_of(dataset))) if read is not None else None
    object_id = attribute_string(item.attrs.get("object_id"))
    return _Stored(None, object_id) if read is None else _Stored(read[0], object_id, base, is_list=read[1] != ())


def _has(group: Any, name: str) -> bool:
    if not isinstance(group, h5py.Group):
        return name in group or any(link == name for link, _, _ in _zarr_links(group))
    return group.get(name, getlink=True) is not None


def _not_a_string(nwb_path: str, object_path: str, neurodata_type: str, field: MediaField) -> ExternalFilesError:
    return UnsafeReferenceError(
        f"{nwb_path}: {neurodata_type} {object_path!r}, {field.label}: expected paths of media, found something that "
        f"is not a string, or a broken link",
        hint="correct or remove this dataset first",
        nwb_path=nwb_path,
        object_path=object_path,
        field=field.label,
    )


def field_of(group: Any, name: str) -> Any:
    """The dataset of a name in a group of an NWB file; None if there is none, or only a broken link."""
    if not isinstance(group, h5py.Group):
        found = group.get(name)
        return found if found is not None else _behind_zarr_link(group, name)
    try:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink) and not os.path.isfile(
            os.path.join(os.path.dirname(os.path.abspath(group.file.filename)), link.filename)
        ):
            return None  # HDF5 would wait for a pipe forever
        return group.get(name)
    except (OSError, RuntimeError):  # a ring of links
        return None


def _behind_zarr_link(group: Any, name: str) -> Any:
    """What a link of a Zarr group leads to in the same store; None if it leads out of it, or there is no link."""
    store = os.path.abspath(path_of(group))
    for link, source, path in _zarr_links(group):
        if link == name and os.path.normpath(f"{store}/{source}") == store:
            return group.get(posixpath.join("/", path))
    return None


def _unknown(_: str, neurodata_type: str) -> Sequence[str]:
    raise KeyError(neurodata_type)

"""Which neurodata types are subtypes of which: from loaded namespaces, or from the schemas that an NWB file caches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5f, h5g, h5o, h5t

from .path_datasets import is_stored, item_at, paths_at, read_paths
from .registry import MediaField

__all__ = [
    "SCHEMAS",
    "TypeTree",
    "ancestors_in",
    "cached_schemas",
    "has_schemas",
    "parents_in_file",
    "sources_in_file",
    "typed_links_in_file",
]

SCHEMAS = b"/specifications"
"""The group in which HDMF caches schemas."""
# h5py and zarr raise any of these where a file claims schemas that it does not have, or has something else there
_NO_SCHEMAS = (KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError, RecursionError)


class TypeTree:
    """Says whether one neurodata type is a subtype of another.

    Parameters
    ----------
    hierarchy : callable
        From namespace and type to the type and its ancestors; raises KeyError or ValueError for unknown types.
    cached_specs : callable, optional
        Gives the parent of each type as cached in a file (`parents_in_file`); called only for unknown types.
    """

    def __init__(
        self,
        hierarchy: Callable[[str, str], Sequence[str]],
        cached_specs: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._hierarchy = hierarchy
        self._cached_specs = cached_specs
        self._parents: Mapping[str, str] | None = None
        self._known: dict[tuple[str, str], frozenset[str] | None] = {}

    def ancestors(self, namespace: str, neurodata_type: str) -> frozenset[str] | None:
        """The type and all its ancestors; None if nothing is known of the type."""
        key = namespace, neurodata_type
        if key not in self._known:
            self._known[key] = self._look_up(*key)
        return self._known[key]

    def _look_up(self, namespace: str, neurodata_type: str) -> frozenset[str] | None:
        try:
            return frozenset(self._hierarchy(namespace, neurodata_type))
        except (KeyError, ValueError):
            pass
        if self._parents is None:
            self._parents = self._cached_specs()
        if neurodata_type not in self._parents:
            return None
        line = ancestors_in(self._parents, neurodata_type)
        return frozenset(line) if line[-1] in ("", *self._parents) else None

    def fields_of(
        self, namespace: str, neurodata_type: str, table: Iterable[MediaField], *, is_dataset: bool
    ) -> Iterator[MediaField]:
        """The fields of the table that an object of this type may have.

        An object of an unknown type counts by the names of its datasets: no type outside the table has datasets of
        these names, and a path that is overlooked will not be found any more.
        """
        ancestors = self.ancestors(namespace, neurodata_type)
        known = ancestors_in(self._parents or {}, neurodata_type) if ancestors is None else ancestors
        for field in table:
            if (field.field is None) is not is_dataset:
                continue
            if field.neurodata_type in known or (ancestors is None and not is_dataset):
                yield field


def ancestors_in(parents: Mapping[str, str], neurodata_type: str) -> list[str]:
    """A type and its ancestors, as far as a table of parents knows them."""
    line = [neurodata_type]
    while (parent := parents.get(line[-1])) is not None and parent not in line:
        line.append(parent)
    return line


def has_schemas(root: h5g.GroupID | h5f.FileID) -> bool:
    """Whether ``.specloc`` of an HDF5 file is a reference to the group `SCHEMAS`, as HDMF writes it.

    Addresses are compared: for the name of what a reference means, HDF5 searches the whole file.
    """
    address = np.empty((), dtype=np.uint64)
    try:
        reference = h5a.open(root, b".specloc")
        if reference.get_storage_size() != address.nbytes:
            return False
        reference.read(address, h5t.STD_REF_OBJ)  # which is the address, by the specification of HDF5's files
        return bool(address == h5o.get_info(root, SCHEMAS).addr)
    except (*_NO_SCHEMAS, OSError):
        return False


def cached_schemas(file: Any) -> Any:
    """The group in which an open NWB file caches schemas, by its attribute ``.specloc``; None if there is none."""
    if isinstance(file, h5py.File) and has_schemas(file.id):
        group = file[SCHEMAS]
        return None if is_stored(group) else group
    location = file.attrs.get(".specloc")
    try:
        if isinstance(location, h5py.Reference):
            # one to a removed group may still be followed, to space that belongs to something else by now
            location = h5py.h5r.get_name(location, file.id) if location else None
        group = file.get(location) if isinstance(location, str | bytes) else None
    except _NO_SCHEMAS:
        return None
    return None if group is None or is_stored(group) else group


def parents_in_file(file: Any) -> dict[str, str]:
    """The parent of each neurodata type, from the schemas that an NWB file caches; as `cached_schemas`."""
    parents: dict[str, str] = {}
    for schema in _strings_below(cached_schemas(file)):
        parents.update(_parents_in(schema))
    return parents


def sources_in_file(file: Any, namespace: str, version: str | None) -> dict[str, Mapping[str, str]]:
    """The parent of each neurodata type of a namespace, by the source that defines it, such as ``nwb.ecephys``.

    From the schemas that an NWB file caches: in its only version of the namespace, or in `version` if there are
    several. Empty if the file does not cache that.
    """
    try:
        versions = cached_schemas(file)[namespace]
        names = list(versions)
        name = names[0] if len(names) == 1 else version
        schema = versions[name] if name in names else {}
        read = {source: _strings_in(schema, source) for source in schema}
        return {source: _parents_in(strings[0]) if strings else {} for source, strings in read.items()}
    except _NO_SCHEMAS:
        return {}


def typed_links_in_file(file: Any) -> frozenset[str]:
    """The names of links that the schemas cached in an NWB file define, such as ``source_video``."""
    names: set[str] = set()

    def collect(spec: Any) -> None:
        names.update(link["name"] for link in spec.get("links", ()) if "name" in link)
        for group in spec.get("groups", ()):
            collect(group)

    try:
        for schema in _strings_below(cached_schemas(file)):
            collect(json.loads(schema))
    except _NO_SCHEMAS:
        pass  # what was found until then
    return frozenset(names)


def _strings_below(group: Any) -> Iterator[str]:
    """All strings in the datasets below a group, until one cannot be read."""
    names: list[str] = []

    def visit(name: bytes, info: h5o.ObjInfo) -> None:
        if info.type == h5o.TYPE_DATASET:
            names.append(name.decode("utf-8", "surrogateescape"))

    try:
        if isinstance(group, h5py.Group):
            h5o.visit(group.id, visit, info=True)  # there are dozens, and h5py's objects cost more than the strings
        elif group is not None:
            group.visititems(lambda name, item: names.append(name) if is_stored(item) else None)
        for name in names:
            yield from _strings_in(group, name)
    except _NO_SCHEMAS:
        return


def _strings_in(group: Any, name: str) -> list[str]:
    """The strings of a dataset in a group; none if it holds something else."""
    read = paths_at(group, name) if isinstance(group, h5py.Group) else None
    read = read or read_paths(item_at(group, name))
    return read[0] if read else []


@lru_cache(maxsize=64)  # the files of a dandiset cache the same schemas
def _parents_in(schema: str) -> dict[str, str]:
    parents: dict[str, str] = {}
    try:
        _collect_parents(json.loads(schema), parents)
    except (ValueError, AttributeError, TypeError, RecursionError):  # not a schema
        pass
    return parents


def _collect_parents(spec: Any, parents: dict[str, str]) -> None:
    for entry in [*spec.get("groups", ()), *spec.get("datasets", ())]:
        # hdmf-common, from which the first types of the core derive, calls them data types
        defined = entry.get("neurodata_type_def", entry.get("data_type_def"))
        included = entry.get("neurodata_type_inc", entry.get("data_type_inc"))
        if defined is not None and isinstance(included, str) and included != defined:
            parents[defined] = included
        elif defined is not None:
            parents.setdefault(defined, "")
        _collect_parents(entry, parents)

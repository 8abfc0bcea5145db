"""The typed objects of an HDF5 file, found by HDF5's own calls: h5py's objects cost more than what is read.

An object takes some ten microseconds this way, a tenth of what `h5py.Group.visititems` and its attributes take.
The cost is in the number of calls, and of identifiers that h5py makes for them, so each object is opened as rarely as
possible, and what HDF5 gives along with the links (types, addresses) is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t

from .type_tree import SCHEMAS, has_schemas

__all__ = ["LEAVES", "ExternalLink", "TypedObject", "dataset_at", "read_attribute", "typed_objects"]

_STRING = h5py.string_dtype()
_STRING_IN_MEMORY = h5t.py_create(_STRING)
# What HDF5 stores of a string of variable length: 4 bytes of length, 8 and 4 of where it is.
_STORED_STRING = 16
# Types of the core schema that hold only their data: nothing in such a group is an object of NWB, and such a dataset
# has nothing below it.
LEAVES = frozenset(
    (
        "AbstractFeatureSeries", "AnnotationSeries", "CurrentClampSeries", "CurrentClampStimulusSeries",
        "ElectricalSeries", "IZeroClampSeries", "ImageMaskSeries", "ImageSeries", "IndexSeries", "IntervalSeries",
        "OnePhotonSeries", "OpticalSeries", "OptogeneticSeries", "RoiResponseSeries", "SpatialSeries",
        "SpikeEventSeries", "TimeSeries", "TwoPhotonSeries", "VoltageClampSeries", "VoltageClampStimulusSeries",
        "DynamicTableRegion", "ElementIdentifiers", "ExternalImage", "VectorData", "VectorIndex",
    )
)  # fmt: skip


class TypedObject(NamedTuple):
    """An object that has a neurodata type."""

    group: h5g.GroupID
    """The group that it is in."""
    name: bytes
    """Its name in that group."""
    place: bytes
    """Its path in the file."""
    neurodata_type: str
    is_group: bool | None
    """None if that was not looked at."""
    links: Mapping[bytes, object] | None
    """The links in it, by name; None if they were not listed."""

    @property
    def path(self) -> str:
        """Its path in the file."""
        return self.place.decode("utf-8", "surrogateescape")

    @property
    def is_dataset(self) -> bool:
        """Whether it is a dataset."""
        return not (_is_group(self.group, self.name) if self.is_group is None else self.is_group)

    def holds(self, name: bytes) -> bool:
        """Whether it is a group with a link of that name, which may be broken."""
        return bool(self.group.links.exists(self.name + b"/" + name)) if self.links is None else name in self.links


@dataclass(frozen=True, slots=True)
class ExternalLink:
    """A link that leads to an object of another file."""

    path: str
    """Its path in this file."""
    target: str
    """The other file, as the link names it."""
    object_path: str
    """The object in that."""


def typed_objects(file: h5py.File, links: list[ExternalLink] | None = None) -> Iterator[TypedObject]:
    """Find the objects of an open file that have a neurodata type, by path, each once.

    Links to other objects are not followed; `links` gets those to other files that stand where an object may be. The
    schemas that the file caches are left out, as HDMF leaves them out.
    """
    root = h5g.open(file.id, b"/")
    schemas = SCHEMAS if has_schemas(root) else None
    is_typed = True
    seen: set[int | None] = {None, h5o.get_info(root).addr}  # a hard link may lead back to the root
    stack = [(root, b"", iter(_links_in(root, b"", links).items()))]
    while stack:
        group, path, children = stack[-1]
        for name, address in children:
            place = path + b"/" + name
            if address in seen or place == schemas:
                continue
            seen.add(address)
            # Asking first is quicker if it is not there, and slower if it is; neighbours are often alike.
            may_be_typed = is_typed or h5a.exists(group, b"neurodata_type", obj_name=name)
            neurodata_type = read_attribute(group, name, b"neurodata_type") if may_be_typed else None
            is_typed = neurodata_type is not None
            is_group, inner = None if neurodata_type in LEAVES else _is_group(group, name), None
            if is_group:
                below = h5g.open(group, name)
                inner = _links_in(below, place, links)
                stack.append((below, place, iter(inner.items())))
            if neurodata_type is not None:
                yield TypedObject(group, name, place, neurodata_type, is_group, inner)
            if is_group:
                break
        else:
            stack.pop()


def _is_group(group: h5g.GroupID, name: bytes) -> bool:
    return bool(h5o.get_info(group, name).type == h5o.TYPE_GROUP)


def _links_in(group: h5g.GroupID, path: bytes, external: list[ExternalLink] | None) -> dict[bytes, int | None]:
    """The links in a group: the address in the file of what each leads to, None for those that are not hard."""
    found: dict[bytes, int | None] = {}
    elsewhere: list[bytes] = []

    def visit(name: bytes, info: h5l.LinkInfo) -> None:
        kind = info.type
        found[name] = info.u if kind == h5l.TYPE_HARD else None
        if kind == h5l.TYPE_EXTERNAL and external is not None:
            elsewhere.append(name)

    group.links.iterate(visit, info=True)
    for name in elsewhere:
        target, object_path = group.links.get_val(name)
        paths = (part.decode("utf-8", "surrogateescape") for part in (path + b"/" + name, target, object_path))
        assert external is not None
        external.append(ExternalLink(*paths))
    return found


def read_attribute(location: h5g.GroupID, name: bytes, attribute: bytes) -> str | None:
    """Read an attribute of an object in a group that is one string, or an array of one; None if it is anything else."""
    try:  # opening it: asking first whether it is there takes half as long again
        found = h5a.open(location, attribute, obj_name=name)
    except KeyError:
        if h5a.exists(location, attribute, obj_name=name):
            raise  # it is damaged
        return None
    try:
        if found.get_storage_size() == _STORED_STRING:
            # Asking for type and shape takes longer than reading. HDF5 gives bytes for strings of variable length only,
            # and whatever the elements are, they fit into a buffer of as many strings as there are bytes.
            paths = np.empty(_STORED_STRING, dtype=_STRING)
            found.read(paths, _STRING_IN_MEMORY)
            return str(paths[0].decode("utf-8", "surrogateescape")) if isinstance(paths[0], bytes) else None
    except (OSError, TypeError, KeyError, RuntimeError):  # no such conversion, or nothing is stored
        pass
    kind = found.get_type()
    if not isinstance(kind, h5t.TypeStringID) or found.shape not in ((), (1,)):
        return None
    value = np.empty(found.shape, dtype=_STRING if kind.is_variable_str() else f"S{kind.get_size()}")
    found.read(value)
    return str(value.item().decode("utf-8", "surrogateescape"))


def dataset_at(group: h5g.GroupID, name: bytes) -> h5d.DatasetID | None:
    """Open a dataset below a group that is in the file itself; None if the path does not lead to one by a hard link."""
    if group.links.get_info(name).type != h5l.TYPE_HARD:
        return None
    try:
        return h5d.open(group, name)
    except KeyError:
        return None

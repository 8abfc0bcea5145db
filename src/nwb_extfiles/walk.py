"""The typed objects of an HDF5 file, found by HDF5's own calls: h5py's objects cost more than what is read.

An object costs some ten microseconds this way, a tenth of what `h5py.Group.visititems` and its attributes take.
"""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t

__all__ = ["read_attribute", "read_strings", "typed_objects"]

_STRING = h5py.string_dtype()
# Series of the core schema that hold nothing but their data: what is in such a group is no object of NWB.
_LEAVES = frozenset(
    (
        "AbstractFeatureSeries", "AnnotationSeries", "CurrentClampSeries", "CurrentClampStimulusSeries",
        "ElectricalSeries", "IZeroClampSeries", "IndexSeries", "IntervalSeries", "OptogeneticSeries",
        "RoiResponseSeries", "SpatialSeries", "SpikeEventSeries", "TimeSeries", "VoltageClampSeries",
        "VoltageClampStimulusSeries",
    )
)  # fmt: skip


def typed_objects(file: h5py.File) -> Iterator[tuple[str, str, bool]]:
    """Find the objects that have a neurodata type.

    Parameters
    ----------
    file : h5py.File
        Open for reading.

    Yields
    ------
    (str, str, bool)
        Path, neurodata type, and whether it is a dataset; by path, each object once. Links to other objects are not
        followed.
    """
    root = h5g.open(file.id, b"/")
    top = h5o.get_info(root)
    seen = {(top.fileno, top.addr)}  # a hard link may lead back to it
    stack: list[tuple[h5g.GroupID, bytes, Iterator[bytes]]] = [(root, b"", iter(_hard_links(root)))]
    while stack:
        group, path, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            continue
        info = h5o.get_info(group, name)
        if info.rc > 1:  # it may be met again
            address = info.fileno, info.addr
            if address in seen:
                continue
            seen.add(address)
        is_group = info.type == h5o.TYPE_GROUP
        # an object has its type and the namespace of that, and but for very old files an id
        neurodata_type = read_attribute(group, name, b"neurodata_type") if info.num_attrs >= 2 else None
        place = path + b"/" + name
        if neurodata_type is not None:
            yield place.decode("utf-8", "surrogateescape"), neurodata_type, not is_group
        if is_group and neurodata_type not in _LEAVES:
            below = h5g.open(group, name)
            stack.append((below, place, iter(_hard_links(below))))


def _hard_links(group: h5g.GroupID) -> list[bytes]:
    names: list[bytes] = []

    def visit(name: bytes, info: h5l.LinkInfo) -> None:
        if info.type == h5l.TYPE_HARD:
            names.append(name)

    group.links.iterate(visit, info=True)
    return names


def read_attribute(location: h5g.GroupID, name: bytes, attribute: bytes) -> str | None:
    """Read an attribute of an object that is one text; None if there is none, or it is something else."""
    if not h5a.exists(location, attribute, obj_name=name):
        return None
    found = h5a.open(location, attribute, obj_name=name)
    kind = found.get_type()
    if found.shape != () or not isinstance(kind, h5t.TypeStringID):
        return None
    value = np.empty((), dtype=_STRING if kind.is_variable_str() else f"S{kind.get_size()}")
    found.read(value)
    text = value[()]
    return text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else str(text)


def read_strings(file: h5py.File, path: str) -> list[str] | None:
    """Read a dataset of texts of variable length that stands in the file itself.

    Parameters
    ----------
    file : h5py.File
        Open for reading.
    path : str
        Where it is.

    Returns
    -------
    list of str or None
        In C order; None if it is not there, or is anything else, so that it takes a closer look.
    """
    name = path.encode("utf-8", "surrogateescape")
    links = file.id.links
    if not links.exists(name) or links.get_info(name).type != h5l.TYPE_HARD:
        return None
    try:
        dataset = h5d.open(file.id, name)
    except KeyError:  # no dataset
        return None
    kind = dataset.get_type()
    if not isinstance(kind, h5t.TypeStringID) or not kind.is_variable_str():
        return None
    # without an address of its own it may be chunked, empty, or in other files
    if dataset.get_offset() is None and (
        dataset.get_space().get_simple_extent_type() == h5s.NULL or dataset.get_create_plist().get_external_count()
    ):
        return None
    values = np.empty(dataset.shape, dtype=_STRING)
    dataset.read(h5s.ALL, h5s.ALL, values)
    return [
        value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
        for value in values.ravel().tolist()
    ]

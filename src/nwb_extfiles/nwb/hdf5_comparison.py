"""Whether two HDF5 files hold the same objects, apart from the paths of media and the manifest of this package.

Compared are names, links, types, attributes and values, not how they are stored. Whatever is in doubt counts as
different.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Collection, Iterator, Sequence
from io import RawIOBase
from itertools import product
from typing import IO, Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5p, h5r, h5s, h5t

from .manifest import COLUMNS, MANIFEST_PATH, META_DATA_PATH, NAMESPACE
from .path_datasets import as_string, item_at, paths_at
from .registry import MediaField
from .scan import find_in_file
from .type_tree import cached_schemas

__all__ = ["HDF5Comparison", "come_with_manifest", "media_places", "same_bytes"]

_BLOCK = 8 * 1024 * 1024  # bytes that are read at once
_ELEMENTS = 64 * 1024  # of variable length, that are read at once
_MOST_PACKED = 2048  # bytes of values in a byte of a file; a dataset that claims more was never written, nor is it read


class HDF5Comparison:
    """Two open HDF5 files, read side by side."""

    def __init__(self, one: h5py.File, other: h5py.File, table: Sequence[MediaField] | None) -> None:
        self._files = one, other
        self._table = table
        self._ignored = {path.encode("utf-8", "surrogateescape") for path in come_with_manifest(self._files)}
        self._partners: tuple[dict[int, int], dict[int, int]] = {}, {}  # by address in the file, both ways
        self._compared: set[int] = set()  # addresses in the first file
        self._media: list[set[tuple[int, bytes]]] = []  # datasets of paths: address of the owner, and name in it
        self._most = _MOST_PACKED * sum(os.path.getsize(file.filename) for file in self._files)

    def are_same(self) -> bool:
        """Whether they hold the same content."""
        if not self._have_same_user_blocks() or not self._have_same_ids():
            return False
        places = media_places(self._files, self._table)
        self._media = [{self._media_key(file, *place) for place in places} for file in self._files]
        if not self._are_partners(*(h5o.get_info(file.id, b"/").addr for file in self._files)):
            return False
        pending = [b"/"]
        while pending:
            path = pending.pop()
            below = self._compare(path)
            if below is None:
                return False
            pending.extend(below)
        # Objects that only a reference leads to were not compared.
        return self._partners[0].keys() <= self._compared

    def _have_same_user_blocks(self) -> bool:
        """Compare what other programs, such as MATLAB, keep before the HDF5 file begins."""
        sizes = {file.userblock_size for file in self._files}
        with open(self._files[0].filename, "rb") as one, open(self._files[1].filename, "rb") as other:
            return len(sizes) == 1 and same_bytes(one, other, sizes.pop())

    def _have_same_ids(self) -> bool:
        """The quickest test, which tells most files apart."""
        ids = [(as_string(file.attrs.get("object_id")), paths_at(file, "identifier")) for file in self._files]
        return ids[0] == ids[1]

    @staticmethod
    def _media_key(file: h5py.File, object_path: str, field: str) -> tuple[int, bytes]:
        owner = item_at(file, object_path)
        name = b"" if isinstance(owner, h5py.Dataset) else field.encode("utf-8", "surrogateescape")
        return h5o.get_info(owner.id).addr, name

    def _are_partners(self, one: int, other: int) -> bool:
        """Pair two objects, unless one of them is already paired with another."""
        return self._partners[0].setdefault(one, other) == other and self._partners[1].setdefault(other, one) == one

    def _compare(self, path: bytes) -> list[bytes] | None:
        """Compare the objects at a path; None if they differ, else the paths of members that are still to compare."""
        one, other = (h5o.open(file.id, path) for file in self._files)
        address = h5o.get_info(one).addr
        self._compared.add(address)
        if type(one) is not type(other) or not self._same_attributes(one, other, path):
            return None
        if isinstance(one, h5g.GroupID):
            return self._compare_members(one, other, path)
        if isinstance(one, h5d.DatasetID):
            if (address, b"") in self._media[0]:
                same = _same_strings_but_values(one, other)
            else:
                same = self._same_data(one, other)
            return [] if same else None
        return [] if one == other else None  # a named type

    # ------------------------------------------------------------ groups

    def _compare_members(self, one: h5g.GroupID, other: h5g.GroupID, path: bytes) -> list[bytes] | None:
        links, others = self._links(one, path), self._links(other, path)
        if links.keys() != others.keys():
            return None
        keys = [h5o.get_info(group).addr for group in (one, other)]
        below: list[bytes] = []
        for name in links:
            if all((key, name) in media for key, media in zip(keys, self._media, strict=True)):
                first, second = h5d.open(one, name), h5d.open(other, name)  # one may be behind a link
                if not _same_strings_but_values(first, second) or not self._same_attributes(first, second, path):
                    return None
                continue
            kind, value = links[name]
            other_kind, other_value = others[name]
            if kind != other_kind or kind not in (h5l.TYPE_HARD, h5l.TYPE_SOFT, h5l.TYPE_EXTERNAL):
                return None
            if kind != h5l.TYPE_HARD:
                if value != other_value:
                    return None
                continue
            if not self._are_partners(value, other_value):
                return None
            if value not in self._compared:
                self._compared.add(value)
                below.append(path.rstrip(b"/") + b"/" + name)
        return below

    def _links(self, group: h5g.GroupID, path: bytes) -> dict[bytes, tuple[int, Any]]:
        """The links in a group by name: their kind, and the address of the object or the value of the link."""
        kinds: list[tuple[bytes, int, int]] = []
        group.links.iterate(lambda name, info: kinds.append((name, info.type, info.u)), info=True)
        return {
            name: (kind, group.links.get_val(name) if kind in (h5l.TYPE_SOFT, h5l.TYPE_EXTERNAL) else address)
            for name, kind, address in kinds
            if (path + b"/" + name).strip(b"/") not in self._ignored
        }

    # -------------------------------------------------------- attributes

    def _same_attributes(self, one: h5o.ObjectID, other: h5o.ObjectID, path: bytes) -> bool:
        place = path.strip(b"/")
        if place == MANIFEST_PATH.encode():
            return True
        names, others = (set(_attribute_names(item)) for item in (one, other))
        if place == b"":
            schemas = [cached_schemas(file) for file in self._files]
            if len({group.name for group in schemas if group is not None}) > 1:
                return False
            names.discard(b".specloc")
            others.discard(b".specloc")
        return names == others and all(
            self._same_attribute(h5a.open(one, name), h5a.open(other, name)) for name in names
        )

    def _same_attribute(self, one: h5a.AttrID, other: h5a.AttrID) -> bool:
        if not _same_shape(one, other) or one.get_type() != other.get_type():
            return False
        if one.get_space().get_simple_extent_type() == h5s.NULL:
            return True
        has_pointers = _has_pointers(one.get_type())
        values = []
        for attribute in (one, other):
            value, kind = _buffer(attribute, attribute.shape, has_pointers)
            attribute.read(value, kind)
            values.append(value)
        return self._same_values(*values)

    # -------------------------------------------------------------- data

    def _same_data(self, one: h5d.DatasetID, other: h5d.DatasetID) -> bool:
        kind = one.get_type()
        if not _same_shape(one, other) or kind != other.get_type():
            return False
        if one.get_space().get_simple_extent_type() == h5s.NULL:
            return True
        settings = [item.get_create_plist() for item in (one, other)]
        if any(each.get_layout() == h5d.VIRTUAL or each.get_external_count() for each in settings):
            return False  # the values are in other files
        has_pointers = _has_pointers(kind)
        if not has_pointers and not _same_fill(settings[0], settings[1], kind):
            return False
        is_chunked = [each.get_layout() == h5d.CHUNKED for each in settings]
        if one.shape == ():
            return self._same_block(one, other, None, has_pointers)
        if not has_pointers and all(is_chunked) and settings[0].get_chunk() == settings[1].get_chunk():
            offsets = [_chunks(item) for item in (one, other)]
            if offsets[0] == offsets[1]:
                direct = _filters(settings[0]) == _filters(settings[1])
                return self._same_chunks(one, other, offsets[0], settings[0].get_chunk(), direct)
        size = kind.get_size()
        if math.prod(one.shape) * size > self._most:
            # If no value was ever written, both hold nothing but their fill value.
            return not has_pointers and one.get_storage_size() == other.get_storage_size() == 0
        chunk = settings[0].get_chunk() if is_chunked[0] else None
        most = max(1, _ELEMENTS if has_pointers else _BLOCK // size)
        return all(self._same_block(one, other, block, has_pointers) for block in _blocks(one.shape, chunk, most))

    def _same_chunks(
        self, one: h5d.DatasetID, other: h5d.DatasetID, offsets: array[int], chunk: tuple[int, ...], direct: bool
    ) -> bool:
        """Compare chunk by chunk, first as they are stored if both have the same filters."""
        rank, shape = len(chunk), one.shape
        for number in range(0, len(offsets), rank):
            offset = tuple(offsets[number : number + rank])
            if direct and one.read_direct_chunk(offset) == other.read_direct_chunk(offset):
                continue
            ends = (min(start + length, end) for start, length, end in zip(offset, chunk, shape, strict=True))
            block = [(start, end - start) for start, end in zip(offset, ends, strict=True)]
            if any(count <= 0 for _, count in block):
                continue  # beyond the edge
            if not self._same_block(one, other, block, False):
                return False
        return True

    def _same_block(
        self, one: h5d.DatasetID, other: h5d.DatasetID, block: Sequence[tuple[int, int]] | None, has_pointers: bool
    ) -> bool:
        values = []
        for item in (one, other):
            space, memory = h5s.ALL, h5s.ALL
            shape: tuple[int, ...] = ()
            if block is not None:
                shape = tuple(count for _, count in block)
                space, memory = item.get_space(), h5s.create_simple(shape)
                space.select_hyperslab(tuple(start for start, _ in block), shape)
            value, kind = _buffer(item, shape, has_pointers)
            item.read(memory, space, value, kind)
            values.append(value)
        return self._same_values(*values)

    def _same_values(self, one: Any, other: Any) -> bool:
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype.names and one.dtype.hasobject:
            return all(self._same_values(one[name], other[name]) for name in one.dtype.names)
        if one.dtype.hasobject:
            pairs = zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
            return all(self._same_element(*pair) for pair in pairs)
        return bool(one.tobytes() == other.tobytes())

    def _same_element(self, one: Any, other: Any) -> bool:
        if type(one) is not type(other):
            return False
        if isinstance(one, h5r.Reference):
            return self._same_reference(one, other)
        if isinstance(one, np.ndarray):
            return self._same_values(one, other)
        return isinstance(one, str | bytes | int) and bool(one == other)  # an element without a value is 0

    def _same_reference(self, one: h5r.Reference, other: h5r.Reference) -> bool:
        if not one or not other:
            return not one and not other
        pairs = list(zip((one, other), self._files, strict=True))
        targets = [h5r.dereference(reference, file.id) for reference, file in pairs]
        if any(target is None for target in targets):
            return False
        if not self._are_partners(*(h5o.get_info(target).addr for target in targets)):
            return False
        if not isinstance(one, h5r.RegionReference):
            return True
        regions = [_selected(h5r.get_region(reference, file.id)) for reference, file in pairs]
        return regions[0] == regions[1]


def same_bytes(one: IO[bytes] | RawIOBase, other: IO[bytes], count: int | None = None) -> bool:
    """Whether two streams have the same bytes, all of them or the first so many."""
    while count is None or count > 0:
        size = _BLOCK if count is None else min(count, _BLOCK)
        block = one.read(size)
        if block != other.read(size):
            return False
        if not block:
            break
        count = None if count is None else count - len(block)
    return True


def media_places(roots: Sequence[Any], table: Sequence[MediaField] | None) -> set[tuple[str, str]]:
    """Object path and field of the paths of media that two files have in common."""
    one, other = ({(entry.object_path, entry.field) for entry in find_in_file(root, table)} for root in roots)
    return one & other


def come_with_manifest(roots: Sequence[Any]) -> set[str]:
    """The paths of objects that one of two files may have and the other not, because they come with a manifest.

    Columns that another program has added to the manifest are content.
    """
    found = {f"{MANIFEST_PATH}/{column}" for column in COLUMNS}
    if _hold_no_more([root.get(MANIFEST_PATH) for root in roots], COLUMNS):
        found.add(MANIFEST_PATH)
        holders = [root.get(META_DATA_PATH) for root in roots]
        if None in holders and _hold_no_more(holders, {MANIFEST_PATH.rpartition("/")[2]}):
            found.add(META_DATA_PATH)
    schemas = [cached_schemas(root) for root in roots]
    namespaces = [set(group) for group in schemas if group is not None]
    for group in schemas:
        if group is None:
            continue
        location = group.name.strip("/")
        found.add(f"{location}/{NAMESPACE}")
        if None in schemas and not all(location in root for root in roots):
            found.add(location)
        if not all("core" in names for names in namespaces):  # of NWB itself, which then come with a manifest too
            found.update(f"{location}/{name}" for name in namespaces[0] ^ namespaces[-1])
    return found


def _hold_no_more(groups: Sequence[Any], names: Collection[str]) -> bool:
    """Whether what is there of some groups has members with some names only."""
    there = [group for group in groups if group is not None]
    return all(not hasattr(group, "dtype") and set(group) <= set(names) for group in there)


def _attribute_names(item: h5o.ObjectID) -> list[bytes]:
    names: list[bytes] = []
    h5a.iterate(item, names.append)
    return names


def _buffer(item: Any, shape: tuple[int, ...], has_pointers: bool) -> tuple[Any, h5t.TypeID | None]:
    """An array for values of a dataset or attribute, and the type to read them as: as stored, unless they point on."""
    if has_pointers:
        return np.empty(shape, dtype=item.dtype), None
    kind = item.get_type()  # no conversion, which might lose something
    return np.zeros(shape, dtype=f"V{kind.get_size()}"), kind


def _same_shape(one: Any, other: Any) -> bool:
    kinds = {item.get_space().get_simple_extent_type() for item in (one, other)}
    return len(kinds) == 1 and one.shape == other.shape


def _same_strings_but_values(one: h5d.DatasetID, other: h5d.DatasetID) -> bool:
    """Whether two datasets of paths have the same number of them, in the same shape."""
    return _same_shape(one, other) and all(h5py.check_string_dtype(item.dtype) is not None for item in (one, other))


def _selected(region: h5s.SpaceID) -> tuple[Any, ...]:
    kind = region.get_select_type()
    parts: Any = ()
    if kind == h5s.SEL_HYPERSLABS:
        parts = region.get_select_hyper_blocklist().tolist()
    elif kind == h5s.SEL_POINTS:
        parts = region.get_select_elem_pointlist().tolist()
    return region.shape, kind, parts


def _has_pointers(kind: h5t.TypeID) -> bool:
    """Whether a stored value points to something else: strings of variable length, lists, references."""
    return any(kind.detect_class(each) for each in (h5t.VLEN, h5t.REFERENCE)) or _has_strings(kind)


def _has_strings(kind: h5t.TypeID) -> bool:
    if isinstance(kind, h5t.TypeStringID):
        return bool(kind.is_variable_str())
    if isinstance(kind, h5t.TypeCompoundID):
        return any(_has_strings(kind.get_member_type(number)) for number in range(kind.get_nmembers()))
    return isinstance(kind, h5t.TypeArrayID) and _has_strings(kind.get_super())


def _same_fill(one: h5p.PropDCID, other: h5p.PropDCID, kind: h5t.TypeID) -> bool:
    values = [np.zeros((), dtype=kind.dtype) for _ in range(2)]
    for settings, value in zip((one, other), values, strict=True):
        if settings.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:  # else it is 0
            settings.get_fill_value(value)
    return values[0].tobytes() == values[1].tobytes()


def _filters(settings: h5p.PropDCID) -> list[Any]:
    return [settings.get_filter(number) for number in range(settings.get_nfilters())]


def _chunks(dataset: h5d.DatasetID) -> array[int]:
    """The offsets of the stored chunks, one after the other, in order."""
    rank = len(dataset.shape)
    found = array("Q")
    dataset.chunk_iter(lambda chunk: found.extend(chunk.chunk_offset))
    rows = np.frombuffer(found, dtype=np.uint64).reshape(-1, rank)
    return array("Q", rows[np.lexsort(rows.T[::-1])].tobytes())


def _blocks(shape: tuple[int, ...], chunk: tuple[int, ...] | None, most: int) -> Iterator[list[tuple[int, int]]]:
    """Cut a shape into blocks of whole chunks, with at most so many elements unless one chunk has more."""
    lengths = [1] * len(shape) if chunk is None else [min(pair) for pair in zip(chunk, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        lengths[axis] = min(shape[axis], lengths[axis] * max(1, most // max(1, math.prod(lengths))))
    for starts in product(*(range(0, end, max(1, length)) for end, length in zip(shape, lengths, strict=True))):
        yield [(start, min(length, end - start)) for start, length, end in zip(starts, lengths, shape, strict=True)]

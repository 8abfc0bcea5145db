"""Whether two NWB files hold the same, apart from the paths of media and the manifest that this package writes.

Two HDF5 files are compared by what they say: names, links, types, attributes, values; not by how they are stored. Two
Zarr stores are compared file by file, so the same values in other chunks, or with another compression, count as
different. Whatever is in doubt counts as different, because what is called the same may be removed.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from io import RawIOBase
from itertools import product
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5p, h5r, h5s, h5t

from ..disk.journal import OverlayFile
from ..errors import UnreadableFileError
from .files import Edits, open_nwb
from .manifest import MANIFEST_PATH, ManifestRow
from .path_datasets import as_string, item_at, paths_at, replace_paths
from .registry import MediaField
from .scan import find_in_file

__all__ = ["is_edited_copy", "same_content"]

_BLOCK = 8 * 1024 * 1024  # bytes that are read at once
_ELEMENTS = 64 * 1024  # of variable length, that are read at once
_MOST_PACKED = 2048  # bytes of values in a byte of a file; what claims more was never written, and is not read
_HOLDER, _, _TABLE = MANIFEST_PATH.rpartition("/")
_COLUMNS = {"id", *(field.name for field in fields(ManifestRow))}
_EXTENSION = "ndx-extfiles"
_SPECIFICATIONS = ".specloc"
_CONSOLIDATED = ".zmetadata"
_METADATA = (".zarray", ".zattrs", ".zgroup")
# h5py and zarr raise any of these for what they cannot read, such as data whose filter is not installed
_CANNOT_READ = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, MemoryError,
)  # fmt: skip


def same_content(one: Path, other: Path, table: Sequence[MediaField] | None = None) -> bool:
    """Say whether two NWB files hold the same content.

    Parameters
    ----------
    one, other : pathlib.Path
        HDF5 files, or folders of Zarr stores.
    table : sequence of MediaField, optional
        The fields that hold paths of media, which may differ; those of `media_fields` if not given.

    Returns
    -------
    bool
        False if anything differs but the paths of media, the manifest, its cached schema, and the schemas that are
        cached with it; also if the files cannot be compared.
    """
    if one.is_dir() is not other.is_dir():
        return False
    try:
        if not one.is_dir() and os.path.getsize(one) == os.path.getsize(other) and _same_bytes(one, other):
            return True
        with open_nwb(one) as first, open_nwb(other) as second:
            comparison: Any = _Stores if one.is_dir() else _Files
            return bool(comparison(first, second, table).are_same())
    except UnreadableFileError:
        return False
    except _CANNOT_READ:
        return False


def is_edited_copy(other: Path, one: Path, edits: Edits) -> bool:
    """Say whether an NWB file has the very bytes of another in which some paths of media are changed.

    HDF5 makes the same changes in the same bytes of the same file, so what this package wrote is known without a look
    at the objects. What another version of HDF5 wrote may hold the same in other bytes: `same_content` finds out.

    Parameters
    ----------
    other : pathlib.Path
        The file that may be the edited copy.
    one : pathlib.Path
        The file that it may be a copy of; it is only read.
    edits : mapping
        The new paths, as `write_paths` takes them.

    Returns
    -------
    bool
        True is proof; False may only mean that this is no way to compare the two, as with Zarr stores.
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
            return _same_streams(edited, copy)
    except _CANNOT_READ:
        return False


def _same_bytes(one: Path, other: Path, count: int | None = None) -> bool:
    """Whether two files have the same bytes, all of them or the first so many."""
    with open(one, "rb") as first, open(other, "rb") as second:
        return _same_streams(first, second, count)


def _same_streams(one: IO[bytes] | RawIOBase, other: IO[bytes] | RawIOBase, count: int | None = None) -> bool:
    while count is None or count > 0:
        size = _BLOCK if count is None else min(count, _BLOCK)
        block = one.read(size)
        if block != other.read(size):
            return False
        if not block:
            break
        count = None if count is None else count - len(block)
    return True


# ----------------------------------------------------------------------- HDF5


class _Files:
    """Two open HDF5 files, gone through side by side."""

    def __init__(self, one: h5py.File, other: h5py.File, table: Sequence[MediaField] | None) -> None:
        self._files = one, other
        self._table = table
        self._schemas = [_specifications(file) for file in (one, other)]
        self._partners: tuple[dict[int, int], dict[int, int]] = {}, {}  # by address in the file, both ways
        self._compared: set[int] = set()  # addresses in the first file
        self._media: list[set[tuple[int, bytes]]] = []  # datasets of paths: address of the owner, and name in it
        self._most = _MOST_PACKED * sum(os.path.getsize(file.filename) for file in self._files)

    def are_same(self) -> bool:
        one, other = self._files
        if not self._have_same_heads() or not self._same_names_of_root():
            return False
        places = set(_media_places(one, self._table)) & set(_media_places(other, self._table))
        self._media = [{self._media_key(file, *place) for place in places} for file in self._files]
        if not self._are_partners(_address(one.id, b"/"), _address(other.id, b"/")):
            return False
        pending = [b"/"]
        while pending:
            path = pending.pop()
            below = self._compare(path)
            if below is None:
                return False
            pending.extend(below)
        # What only a reference leads to was not looked at.
        return self._partners[0].keys() <= self._compared

    def _have_same_heads(self) -> bool:
        """What other programs keep before the HDF5 file begins, such as MATLAB."""
        sizes = {file.userblock_size for file in self._files}
        one, other = (Path(file.filename) for file in self._files)
        return len(sizes) == 1 and _same_bytes(one, other, sizes.pop())

    def _same_names_of_root(self) -> bool:
        """The quickest of all tests that most different files do not pass."""
        ids = [(as_string(file.attrs.get("object_id")), paths_at(file, "identifier")) for file in self._files]
        return ids[0] == ids[1]

    @staticmethod
    def _media_key(file: h5py.File, object_path: str, field: str) -> tuple[int, bytes]:
        owner = item_at(file, object_path)
        name = b"" if isinstance(owner, h5py.Dataset) else field.encode("utf-8", "surrogateescape")
        return h5o.get_info(owner.id).addr, name

    def _are_partners(self, one: int, other: int) -> bool:
        """Take two objects for the same, unless one of them was taken for the same as another before."""
        return self._partners[0].setdefault(one, other) == other and self._partners[1].setdefault(other, one) == one

    def _compare(self, path: bytes) -> list[bytes] | None:
        """Compare the objects at a path; None if they differ, else the paths of objects below that are new."""
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
        links, others = _links(one), _links(other)
        if path.strip(b"/") == MANIFEST_PATH.encode():
            # columns that somebody has added are content
            links, others = ({n: v for n, v in each.items() if n.decode() not in _COLUMNS} for each in (links, others))
        if not all(self._may_lack(path, name) for name in links.keys() ^ others.keys()):
            return None
        keys = [h5o.get_info(group).addr for group in (one, other)]
        below: list[bytes] = []
        for name in links.keys() & others.keys():
            if all((key, name) in media for key, media in zip(keys, self._media, strict=True)):
                first, second = h5d.open(one, name), h5d.open(other, name)  # one may be behind a link
                if not _same_strings_but_values(first, second) or not self._same_attributes(first, second, path):
                    return None
                continue
            place = path.rstrip(b"/") + b"/" + name
            if self._is_our_schema(place):
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
                below.append(place)
        return below

    def _may_lack(self, path: bytes, name: bytes) -> bool:
        """Whether one file may have something that the other has not: what comes with a manifest."""
        place = (path.rstrip(b"/") + b"/" + name).decode("utf-8", "surrogateescape").strip("/")
        if place == MANIFEST_PATH:
            return all(_only_ours(file.get(MANIFEST_PATH)) for file in self._files)
        if place == _HOLDER:
            holders = [file[_HOLDER] for file in self._files if _HOLDER in file]
            return all(
                isinstance(holder, h5py.Group) and set(holder) <= {_TABLE} and _only_ours(holder.get(_TABLE))
                for holder in holders
            )
        if path.strip(b"/") == b"" and place in self._schemas:
            return None in self._schemas  # the other one caches nothing
        above, _, namespace = place.rpartition("/")
        if above and above in self._schemas:
            return namespace == _EXTENSION or _lacks_core(self._files)
        return False

    def _is_our_schema(self, place: bytes) -> bool:
        text = place.decode("utf-8", "surrogateescape").strip("/")
        return text in {f"{location}/{_EXTENSION}" for location in self._schemas if location}

    # -------------------------------------------------------- attributes

    def _same_attributes(self, one: h5o.ObjectID, other: h5o.ObjectID, path: bytes) -> bool:
        place = path.strip(b"/")
        if place == MANIFEST_PATH.encode():
            return True
        names, others = (set(_attribute_names(item)) for item in (one, other))
        if place == b"":
            if self._schemas[0] != self._schemas[1] and None not in self._schemas:
                return False
            names.discard(_SPECIFICATIONS.encode())
            others.discard(_SPECIFICATIONS.encode())
        return names == others and all(
            self._same_attribute(h5a.open(one, name), h5a.open(other, name)) for name in names
        )

    def _same_attribute(self, one: h5a.AttrID, other: h5a.AttrID) -> bool:
        if not _same_shape(one, other) or one.get_type() != other.get_type():
            return False
        if one.get_space().get_simple_extent_type() == h5s.NULL:
            return True
        kind = one.get_type()
        is_packed = not _has_pointers(kind)
        values = []
        for attribute in (one, other):
            if is_packed:
                value = np.zeros(attribute.shape, dtype=f"V{kind.get_size()}")
                attribute.read(value, kind)
            else:
                value = np.empty(attribute.shape, dtype=attribute.dtype)
                attribute.read(value)
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
            # Without a value that was ever written both are their fill value throughout.
            return not has_pointers and one.get_storage_size() == other.get_storage_size() == 0
        chunk = settings[0].get_chunk() if is_chunked[0] else None
        most = max(1, _ELEMENTS if has_pointers else _BLOCK // size)
        return all(self._same_block(one, other, block, has_pointers) for block in _blocks(one.shape, chunk, most))

    def _same_chunks(
        self, one: h5d.DatasetID, other: h5d.DatasetID, offsets: array[int], chunk: tuple[int, ...], direct: bool
    ) -> bool:
        """Compare chunk by chunk, as they are stored where that may be the same."""
        rank, shape = len(chunk), one.shape
        for number in range(0, len(offsets), rank):
            offset = tuple(offsets[number : number + rank])
            if direct and one.read_direct_chunk(offset) == other.read_direct_chunk(offset):
                continue
            ends = (min(start + length, end) for start, length, end in zip(offset, chunk, shape, strict=True))
            block = [(start, end - start) for start, end in zip(offset, ends, strict=True)]
            if any(count <= 0 for _, count in block):
                continue  # it is beyond the edge
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
            if has_pointers:
                value = np.empty(shape, dtype=item.dtype)
                item.read(memory, space, value)
            else:  # as it is stored, with no conversion that may lose anything
                kind = item.get_type()
                value = np.zeros(shape, dtype=f"V{kind.get_size()}")
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
        return isinstance(one, str | bytes | int) and bool(one == other)  # 0 is what an element without a value is

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


def _address(group: Any, name: bytes) -> int:
    return int(h5o.get_info(group, name).addr)


def _media_places(root: Any, table: Sequence[MediaField] | None) -> Iterator[tuple[str, str]]:
    for reference in find_in_file(root, table):
        yield reference.object_path, reference.field


def _links(group: h5g.GroupID) -> dict[bytes, tuple[int, Any]]:
    """The links in a group by name: their kind, and the address of the object or what the link says."""
    found: dict[bytes, tuple[int, Any]] = {}
    kinds: list[tuple[bytes, int, int]] = []
    group.links.iterate(lambda name, info: kinds.append((name, info.type, info.u)), info=True)
    for name, kind, address in kinds:
        soft = kind in (h5l.TYPE_SOFT, h5l.TYPE_EXTERNAL)
        found[name] = kind, group.links.get_val(name) if soft else address
    return found


def _attribute_names(item: h5o.ObjectID) -> list[bytes]:
    names: list[bytes] = []
    h5a.iterate(item, names.append)
    return names


def _only_ours(table: Any) -> bool:
    """Whether there is no manifest, or one to which nobody has added anything."""
    return table is None or (not hasattr(table, "dtype") and set(table) <= _COLUMNS)


def _specifications(root: Any) -> str | None:
    """Where a file caches schemas; None where it caches none."""
    location = root.attrs.get(_SPECIFICATIONS)
    if isinstance(location, h5py.Reference):
        location = h5r.get_name(location, root.id) if location else None
    if isinstance(location, bytes):
        location = location.decode("utf-8", "surrogateescape")
    if not isinstance(location, str) or location not in root or hasattr(root[location], "dtype"):
        return None
    return location.strip("/")


def _lacks_core(roots: Sequence[Any]) -> bool:
    """Whether one of the files that cache schemas has not got NWB's own, so that a manifest brings them along."""
    return any((location := _specifications(root)) is not None and "core" not in root[location] for root in roots)


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
    """Whether what is stored of a value leads to something else: strings of variable length, lists, references."""
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
    """Where the chunks begin that are stored, one after the other, in their order."""
    rank = len(dataset.shape)
    found = array("Q")
    dataset.chunk_iter(lambda chunk: found.extend(chunk.chunk_offset))
    rows = np.frombuffer(found, dtype=np.uint64).reshape(-1, rank)
    return array("Q", rows[np.lexsort(rows.T[::-1])].tobytes())


def _blocks(shape: tuple[int, ...], chunk: tuple[int, ...] | None, most: int) -> Iterator[list[tuple[int, int]]]:
    """Cut a shape into blocks of whole chunks, of so many elements where a chunk has no more."""
    lengths = [1] * len(shape) if chunk is None else [min(pair) for pair in zip(chunk, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        lengths[axis] = min(shape[axis], lengths[axis] * max(1, most // max(1, math.prod(lengths))))
    for starts in product(*(range(0, end, max(1, length)) for end, length in zip(shape, lengths, strict=True))):
        yield [(start, min(length, end - start)) for start, length, end in zip(starts, lengths, shape, strict=True)]


# ----------------------------------------------------------------------- Zarr


class _Stores:
    """Two open Zarr stores, compared file by file."""

    def __init__(self, one: Any, other: Any, table: Sequence[MediaField] | None) -> None:
        self._roots = one, other
        self._table = table
        self._schemas = [_specifications(root) for root in (one, other)]

    def are_same(self) -> bool:
        one, other = self._roots
        places = set(_media_places(one, self._table)) & set(_media_places(other, self._table))
        arrays, owners = set[str](), dict[str, set[str]]()
        for object_path, field in places:
            path = object_path.strip("/")
            if hasattr(one[path], "dtype"):
                arrays.add(path)
            else:
                arrays.add(f"{path}/{field}")
                owners.setdefault(path, set()).add(field)
        files = [self._files_of(root) for root in self._roots]
        if not all(self._may_lack(name, arrays) for name in files[0].keys() ^ files[1].keys()):
            return False
        if not all(self._same_path_array(path) for path in arrays):
            return False
        for name in files[0].keys() & files[1].keys():
            if self._is_ours(name) or self._is_of(name, arrays):
                continue
            both = files[0][name], files[1][name]
            if name.rpartition("/")[2] == ".zattrs":
                path = name.rpartition("/")[0]
                if not self._same_attributes(*both, path, owners.get(path, set())):
                    return False
            elif not _same_bytes(*both):
                return False
        return True

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
            # Programs read the copy of the metadata, so it must be one.
            metadata = {name: file for name, file in found.items() if name.rpartition("/")[2] in _METADATA}
            known = json.loads(consolidated.read_bytes())["metadata"]
            if known.keys() != metadata.keys() or not all(
                _as_json(known[name]) == _as_json(json.loads(file.read_bytes())) for name, file in metadata.items()
            ):
                raise ValueError("the consolidated metadata are not those of the store")
        return found

    @staticmethod
    def _is_of(name: str, arrays: set[str]) -> bool:
        return any(path in arrays for path in _above(name))

    def _is_ours(self, name: str) -> bool:
        """Whether a file belongs to the manifest, or to its schema."""
        if name.startswith(f"{MANIFEST_PATH}/"):
            return name[len(MANIFEST_PATH) + 1 :].partition("/")[0] in {*_COLUMNS, ".zgroup", ".zattrs"}
        return any(location is not None and name.startswith(f"{location}/{_EXTENSION}/") for location in self._schemas)

    def _may_lack(self, name: str, arrays: set[str]) -> bool:
        if self._is_ours(name) or self._is_of(name, arrays):
            return True
        if name in (f"{_HOLDER}/.zgroup", f"{_HOLDER}/.zattrs"):
            return all(_HOLDER not in root or set(root[_HOLDER]) <= {_TABLE} for root in self._roots)
        if None in self._schemas and name.startswith("specifications/"):
            return True
        return _lacks_core(self._roots) and any(name.startswith(f"{location}/") for location in self._schemas)

    def _same_path_array(self, path: str) -> bool:
        """Whether arrays of paths, one of which may be behind a link, differ in their paths alone."""
        found = []
        for root in self._roots:
            item = root.get(path)
            if item is None:
                continue  # the link says where it is, and what was put in its place has its attributes
            attributes = {k: v for k, v in item.attrs.asdict().items() if k != "zarr_dtype"}
            found.append((item.shape, _as_json(attributes)))
        return len(set(found)) == 1

    def _same_attributes(self, one: Path, other: Path, path: str, linked: set[str]) -> bool:
        values: list[Mapping[str, Any]] = []
        for file in (one, other):
            attributes = json.loads(file.read_bytes())
            if path == "":
                attributes.pop(_SPECIFICATIONS, None)
            links = [link for link in attributes.pop("zarr_link", ()) if link.get("name") not in linked]
            values.append(attributes | ({"zarr_link": links} if links else {}))
        return _as_json(values[0]) == _as_json(values[1])


def _as_json(value: Any) -> str:
    """A text by which to compare: 1 is not 1.0 in it, and NaN is like itself."""
    return json.dumps(value, sort_keys=True)


def _above(name: str) -> Iterator[str]:
    """The folders that a file is in."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name

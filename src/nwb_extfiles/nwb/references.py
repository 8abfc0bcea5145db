"""Where NWB files store the paths of media, and what is stored there.

One stored text is an `ExternalFileReference`. `media_fields` is the table of the places; finders walk a tree of HDMF
builders (`find_in_builders`) or a file on disk (`find_in_file`).
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import h5py
from h5py import h5o

from ..errors import ExternalFilesError, UnsafeReferenceError, warn
from .registry import MEDIA_FIELDS, MediaField, registered_fields
from .storage import ExternalFileText, as_text, is_stored, item_at, path_of, read_strings, read_texts, texts_at
from .walk import TypedObject, dataset_at, read_attribute, typed_objects

if TYPE_CHECKING:
    from hdmf.build import Builder, DatasetBuilder, GroupBuilder

__all__ = [
    "MEDIA_FIELDS",
    "ExternalFileReference",
    "MediaField",
    "StoredTexts",
    "TypeTree",
    "find_in_builders",
    "find_in_file",
    "media_fields",
]


def media_fields(further: Iterable[tuple[str, str]] = ()) -> tuple[MediaField, ...]:
    """The table of places, with those that installed packages declare and those of a caller behind it.

    Parameters
    ----------
    further : iterable of (str, str)
        Neurodata type and name of its text dataset, as in `MediaOptions.media_fields`.
    """
    return (*MEDIA_FIELDS, *_registered(), *(MediaField(neurodata_type, field) for neurodata_type, field in further))


@cache
def _registered() -> tuple[MediaField, ...]:
    """What installed packages declare, which does not change while a process runs."""
    found, complaints = registered_fields()
    for complaint in complaints:
        warn(complaint)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFileReference:
    """One stored text that names a media file."""

    nwb_path: str
    """The NWB file that is spoken of."""
    object_path: str
    """Path of the object in that file, such as ``/acquisition/behavior_video``."""
    neurodata_type: str
    object_id: str | None
    """As stored; None where there is none. It may be any text: check before use."""
    field: str
    """``external_file``, or the name of another field that holds paths (`MediaField`)."""
    index: int
    """Entry of the field, counted from 0."""
    text: str
    """As stored; bytes that are not UTF-8 are kept as surrogate escapes."""
    base: str | None
    """The folder that a relative text is relative to, for a file that is read from afar the URL of one; None if the
    object was made in memory."""
    repeats: bool = False
    """See `MediaField.repeats`."""
    stored_in: str | None = None
    """The NWB file that holds the text now, where it is known and that is not `nwb_path`."""

    @property
    def where(self) -> str:
        """The place in words, to begin a message with."""
        # A type is a text out of a file, too, and must not look like a line of ours.
        kind = self.neurodata_type if self.neurodata_type.isidentifier() else repr(self.neurodata_type)
        file = self.nwb_path if self.stored_in is None else f"{self.nwb_path} (from {self.stored_in})"
        return f"{file}: {kind} {self.object_path!r}, {self.field}[{self.index}]"

    @property
    def entry(self) -> tuple[str, str, int]:
        """The place as a key: object path, field and index."""
        return self.object_path, self.field, self.index

    @property
    def place(self) -> dict[str, Any]:
        """The place as the fields of an `ExternalFilesError`."""
        return dict(nwb_path=self.nwb_path, object_path=self.object_path, field=self.field, index=self.index)


@dataclass(frozen=True, slots=True)
class StoredTexts:
    """All texts of one field of one object, and the builder that holds them."""

    builder: Builder
    """The `DatasetBuilder`, or the `LinkBuilder` that stands where the dataset is expected."""
    references: tuple[ExternalFileReference, ...]
    """In the order in which they are stored; empty if there are none, or if `not_text`."""
    shape: tuple[int, ...]
    """Shape of the dataset; () for a scalar."""
    not_text: bool = False
    """Whether something else than text is stored."""

    @property
    def dataset(self) -> DatasetBuilder:
        """The builder of the dataset, through a link if there is one."""
        return target_of(self.builder)


class TypeTree:
    """Answers whether one neurodata type is a kind of another.

    Parameters
    ----------
    hierarchy : callable
        From namespace and type to the type and its ancestors; raises KeyError or ValueError for what it does not know.
    cached_specs : callable, optional
        Gives the parent of each type as cached in a file (`parents_in_file`); asked only for unknown types.
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
        line = self._line(neurodata_type)
        return frozenset(line) if line[-1] in ("", *self._parents) else None

    def _line(self, neurodata_type: str) -> list[str]:
        """The type and its ancestors, as far as the cached specifications know them."""
        line = [neurodata_type]
        while (parent := (self._parents or {}).get(line[-1])) is not None and parent not in line:
            line.append(parent)
        return line

    def fields_of(
        self, namespace: str, neurodata_type: str, table: Iterable[MediaField], *, is_dataset: bool
    ) -> Iterator[MediaField]:
        """Fields of the table that an object of this type may have.

        An object whose type nobody knows is taken by the names of its datasets: no type but those of the table has
        them, and a path that is overlooked becomes a dangling one.
        """
        ancestors = self.ancestors(namespace, neurodata_type)
        known = self._line(neurodata_type) if ancestors is None else ancestors
        for field in table:
            if (field.field is None) is not is_dataset:
                continue
            if field.neurodata_type in known or (ancestors is None and not is_dataset):
                yield field


def find_in_builders(
    root: GroupBuilder,
    *,
    types: TypeTree,
    table: Sequence[MediaField],
    nwb_path: str,
    value_of: Callable[[Builder, Builder, MediaField], tuple[Any, str | None]],
    holders: Mapping[str, str] | None = None,
) -> list[StoredTexts]:
    """Find all texts that name media in a tree of builders.

    Parameters
    ----------
    root : hdmf.build.GroupBuilder
        Builder of the NWB file.
    types : TypeTree
        Knows the types of the builders.
    table : sequence of MediaField
        The places to look at.
    nwb_path : str
        The NWB file that is being written.
    value_of : callable
        From the builder of the object, the builder of its texts and the field to the stored value and the folder it
        is relative to.
    holders : mapping, optional
        The NWB file whose texts are relative to a folder, by that folder, for files other than `nwb_path`.

    Returns
    -------
    list of StoredTexts
        Each builder once, in the order of the tree. Objects behind links to other objects are not followed: they
        are found at their own place, or belong to another file.
    """

    @cache
    def fields_of(namespace: str, neurodata_type: str, is_dataset: bool) -> tuple[MediaField, ...]:
        return tuple(types.fields_of(namespace, neurodata_type, table, is_dataset=is_dataset))

    holders = holders or {}
    found: list[StoredTexts] = []
    seen: set[int] = set()
    stack: list[tuple[Any, str]] = [(root, "")]  # with the path of the group that each is in
    while stack:
        builder, above = stack.pop()
        if id(builder) in seen:
            continue
        seen.add(id(builder))
        namespace, neurodata_type = _type_of(builder.attributes)
        is_dataset = not hasattr(builder, "groups")
        if is_dataset and neurodata_type is None:  # as most are
            continue
        path = posixpath.join(above, builder.name) if above else "/"
        if neurodata_type is not None:
            for field in fields_of(namespace, neurodata_type, is_dataset):
                holder = builder if field.field is None else _child_dataset(builder, field.field)
                if holder is not None:
                    value, base = value_of(builder, holder, field)
                    found.append(
                        _stored_texts(holder, value, base, builder, path, neurodata_type, field, nwb_path, holders)
                    )
        if not is_dataset:
            stack.extend((child, path) for child in reversed((*builder.groups.values(), *builder.datasets.values())))
    return found


def _stored_texts(
    holder: Builder,
    value: Any,
    base: str | None,
    owner: Builder,
    path: str,
    neurodata_type: str,
    field: MediaField,
    nwb_path: str,
    holders: Mapping[str, str],
) -> StoredTexts:
    read = read_texts(value)
    if read is None:
        return StoredTexts(holder, (), (), not_text=True)
    texts, shape = read
    object_id = as_text(owner.attributes.get("object_id"))
    bases = [_base(text, base, nwb_path) for text in texts]
    references = tuple(
        ExternalFileReference(
            nwb_path=nwb_path,
            object_path=path,
            neurodata_type=neurodata_type,
            object_id=object_id,
            field=field.label,
            index=index,
            text=text.stored if isinstance(text, ExternalFileText) else text,
            base=bases[index],
            repeats=field.repeats,
            stored_in=holders.get(bases[index] or ""),
        )
        for index, text in enumerate(texts)
    )
    return StoredTexts(holder, references, shape)


def _base(text: str, base: str | None, destination: str) -> str | None:
    if not isinstance(text, ExternalFileText):
        return base
    # hdmf gives a new container the file being written for its source
    return None if text.nwb_path in (None, destination) else text.base


def _child_dataset(group: Any, name: str) -> Any:
    if name in group.datasets:
        return group.datasets[name]
    # hdmf keys the links that it reads by the name of their target
    return next(
        (link for link in group.links.values() if link.name == name and not hasattr(link.builder, "groups")), None
    )


def target_of(builder: Any) -> Any:
    """The builder itself, or the one that a `LinkBuilder` leads to."""
    return builder.builder if hasattr(builder, "builder") else builder


def find_in_file(
    file: Any,
    table: Sequence[MediaField] | None = None,
    problems: list[ExternalFilesError] | None = None,
) -> list[ExternalFileReference]:
    """Find all texts that name media in an NWB file on disk.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        The root group, open for reading.
    table : sequence of MediaField, optional
        The places to look at; those of `media_fields` if not given.
    problems : list of ExternalFilesError, optional
        Gets one for each place that holds something else than texts, or a link that leads nowhere.

    Returns
    -------
    list of ExternalFileReference
        By path of the object, then by entry. Links to other objects are not followed, nor is any that leads out of a
        Zarr store.
    """
    table = media_fields() if table is None else table
    types = TypeTree(_unknown, lambda: parents_in_file(file))
    nwb_path = os.path.abspath(path_of(file))
    folder = os.path.dirname(nwb_path)

    @cache
    def fields_of(neurodata_type: str, is_dataset: bool) -> tuple[MediaField, ...]:
        return tuple(types.fields_of("", neurodata_type, table, is_dataset=is_dataset))

    found: list[ExternalFileReference] = []
    for item in typed_objects(file) if isinstance(file, h5py.File) else _visited(file):
        neurodata_type = item.neurodata_type
        if not fields_of(neurodata_type, False) and not fields_of(neurodata_type, True):
            continue
        for field in fields_of(neurodata_type, item.is_dataset):
            stored = _stored_at(file, item, field)
            if stored is None:
                continue
            if stored.texts is None:
                if problems is not None:
                    problems.append(_no_text(nwb_path, item.path, neurodata_type, field))
                continue
            for index, text in enumerate(stored.texts):
                found.append(
                    ExternalFileReference(
                        nwb_path=nwb_path,
                        object_path=item.path,
                        neurodata_type=neurodata_type,
                        object_id=stored.object_id,
                        field=field.label,
                        index=index,
                        text=text,
                        base=stored.base or folder,
                        repeats=field.repeats,
                    )
                )
    return found


@dataclass(frozen=True, slots=True)
class _Stored:
    """What stands in a field of an object on disk."""

    texts: list[str] | None
    """None if it is no text."""
    object_id: str | None
    base: str | None = None
    """The folder of the file that holds the texts, if that is another one."""


@dataclass(frozen=True, slots=True)
class _TypedInZarr:
    """An object of a Zarr store that has a neurodata type, like the `TypedObject` of an HDF5 file."""

    path: str
    neurodata_type: str
    is_dataset: bool


def _visited(root: Any) -> Iterator[_TypedInZarr]:
    objects: list[_TypedInZarr] = []

    def visit(name: str, item: Any) -> None:
        neurodata_type = as_text(item.attrs.get("neurodata_type"))
        if neurodata_type is not None:
            objects.append(_TypedInZarr(f"/{name}", neurodata_type, is_stored(item)))

    root.visititems(visit)
    yield from objects


def _stored_at(file: Any, found: TypedObject | _TypedInZarr, field: MediaField) -> _Stored | None:
    """What stands in a field of an object; None if it has no such field."""
    if isinstance(found, TypedObject):
        name = found.name if field.field is None else found.name + b"/" + field.field.encode()
        if not found.group.links.exists(name):
            return None
        there = dataset_at(found.group, name)
        strings = read_strings(there) if there is not None else None
        if strings is not None:
            return _Stored(strings[0], read_attribute(found.group, found.name, b"object_id"))
    item = item_at(file, found.path) if isinstance(file, h5py.File) else file[found.path]
    dataset = item if field.field is None else _texts_of(item, field.field)
    if dataset is None and not _has(item, field.field or ""):
        return None
    read = read_texts(dataset) if is_stored(dataset) else None
    base = os.path.dirname(os.path.abspath(path_of(dataset))) if read is not None else None
    return _Stored(None if read is None else read[0], as_text(item.attrs.get("object_id")), base)


def _has(group: Any, name: str) -> bool:
    if not isinstance(group, h5py.Group):
        links = group.attrs.get("zarr_link")
        return name in group or any(isinstance(link, dict) and link.get("name") == name for link in links or ())
    return group.get(name, getlink=True) is not None


def _no_text(nwb_path: str, object_path: str, neurodata_type: str, field: MediaField) -> ExternalFilesError:
    return UnsafeReferenceError(
        f"{nwb_path}: {neurodata_type} {object_path!r}, {field.label}: what stands there, or where a link leads, is no "
        f"text, and paths of media are expected; mend it first",
        nwb_path=nwb_path,
        object_path=object_path,
        field=field.label,
    )


def _texts_of(group: Any, name: str) -> Any:
    """The dataset of texts in a group; None if there is none, or if it is nowhere."""
    if not isinstance(group, h5py.Group):
        found = group.get(name)
        return found if found is not None else _behind_zarr_link(group, name)
    try:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink) and not os.path.isfile(
            os.path.join(os.path.dirname(os.path.abspath(group.file.filename)), link.filename)
        ):
            return None  # HDF5 would wait for a pipe without an end
        return group.get(name)
    except (OSError, RuntimeError):  # a ring of links
        return None


def _behind_zarr_link(group: Any, name: str) -> Any:
    """What a link of a Zarr group leads to in the same store; None if there is no such."""
    # hdmf-zarr keeps links in an attribute: {"name": …, "source": of the store, relative to this one, "path": in it}
    links = group.attrs.get("zarr_link")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("name") == name:
            source, path = link.get("source"), link.get("path")
            store = os.path.abspath(path_of(group))
            if isinstance(source, str) and isinstance(path, str) and os.path.normpath(f"{store}/{source}") == store:
                return group.get(posixpath.join("/", path))
    return None


def _unknown(_: str, neurodata_type: str) -> Sequence[str]:
    raise KeyError(neurodata_type)


def parents_in_file(file: Any) -> dict[str, str]:
    """The parent of each neurodata type, from the specifications that an NWB file caches.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        The root group, open for reading.

    Returns
    -------
    dict of str to str
        Empty if the file caches no specification.
    """
    parents: dict[str, str] = {}
    location = file.attrs.get(".specloc")
    if location is None:
        return parents

    try:
        for text in _texts_below(file[location]):
            parents.update(_parents_in(text))
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError):  # it leads nowhere, or to no group
        pass
    return parents


def _texts_below(group: Any) -> Iterator[str]:
    """All texts in the datasets below a group."""
    if not isinstance(group, h5py.Group):
        datasets: list[Any] = []
        group.visititems(lambda _, item: datasets.append(item) if is_stored(item) else None)
        for dataset in datasets:
            read = read_texts(dataset)
            yield from read[0] if read else ()
        return
    names: list[str] = []

    def visit(name: bytes, info: h5o.ObjInfo) -> None:
        if info.type == h5o.TYPE_DATASET:
            names.append(name.decode("utf-8", "surrogateescape"))

    h5o.visit(group.id, visit, info=True)  # every file has dozens of them, and h5py's objects cost more than the texts
    for name in names:
        read = texts_at(group, name) or read_texts(item_at(group, name))
        yield from read[0] if read else ()


@lru_cache(maxsize=64)  # the files of a dandiset cache the same specifications
def _parents_in(specification: str) -> dict[str, str]:
    parents: dict[str, str] = {}
    try:
        _collect_parents(json.loads(specification), parents)
    except (ValueError, AttributeError, TypeError, RecursionError):  # no specification
        pass
    return parents


def _collect_parents(spec: Any, parents: dict[str, str]) -> None:
    for entry in [*spec.get("groups", ()), *spec.get("datasets", ())]:
        # hdmf-common, from which the first types of the core derive, speaks of data types
        defined = entry.get("neurodata_type_def", entry.get("data_type_def"))
        included = entry.get("neurodata_type_inc", entry.get("data_type_inc"))
        if defined is not None and isinstance(included, str) and included != defined:
            parents[defined] = included
        elif defined is not None:
            parents.setdefault(defined, "")
        _collect_parents(entry, parents)


def _type_of(attributes: Mapping[str, Any]) -> tuple[str, str | None]:
    neurodata_type = attributes.get("neurodata_type")
    if neurodata_type is None:
        return "", None
    return as_text(attributes.get("namespace")) or "", as_text(neurodata_type)

"""The stored paths of media, found in a tree of HDMF builders."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ..nwb.path_datasets import StoredPath, attribute_string, read_paths
from ..nwb.references import ExternalFileReference
from ..nwb.registry import MediaField
from ..nwb.type_tree import TypeTree

if TYPE_CHECKING:
    from hdmf.build import Builder, DatasetBuilder, GroupBuilder

__all__ = ["ByBuilder", "FieldInTree", "dataset_of", "find_in_builders", "object_path_of", "target_of"]

_V = TypeVar("_V")


class ByBuilder(MutableMapping[Any, _V]):
    """A dict whose keys are builders, each known by its identity: builders are dicts themselves, and have no hash.

    It keeps its keys alive, so that no other object gets the id of one.
    """

    def __init__(self) -> None:
        self._items: dict[int, tuple[Any, _V]] = {}

    def __getitem__(self, builder: Any) -> _V:
        return self._items[id(builder)][1]

    def __setitem__(self, builder: Any, value: _V) -> None:
        self._items[id(builder)] = builder, value

    def __delitem__(self, builder: Any) -> None:
        del self._items[id(builder)]

    def __iter__(self) -> Iterator[Any]:
        return (builder for builder, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, builder: object) -> bool:
        return id(builder) in self._items  # asked for each builder that is written; the inherited one raises each time


@dataclass(frozen=True, slots=True)
class FieldInTree:
    """One field of one object with its stored paths, and the builder that holds them."""

    builder: Builder
    """The `DatasetBuilder`, or the `LinkBuilder` that stands where the dataset is expected."""
    references: tuple[ExternalFileReference, ...]
    """In the order in which they are stored; empty if there are none, or if `not_a_string`."""
    shape: tuple[int, ...]
    """Shape of the dataset; () for a scalar."""
    not_a_string: bool = False
    """Whether something else than strings is stored."""
    owner: Builder | None = None
    """The builder of the object that the field belongs to; `builder` itself where the dataset is the object."""

    @property
    def dataset(self) -> DatasetBuilder:
        """The builder of the dataset, through a link if there is one."""
        return target_of(self.builder)

    @property
    def places(self) -> set[tuple[str, str]]:
        """The path of the object and the name of the field; empty if no path is stored."""
        return {(reference.object_path, reference.field) for reference in self.references[:1]}


def find_in_builders(
    root: GroupBuilder,
    *,
    types: TypeTree,
    table: Sequence[MediaField],
    nwb_path: str,
    value_of: Callable[[Builder, Builder, MediaField], tuple[Any, str | None]],
    holders: Mapping[str, str],
) -> list[FieldInTree]:
    """Find all stored paths of media in a tree of builders, in its order.

    Links to other objects are not followed: these are found at their own place, or belong to another file.

    `types` knows the types in the tree, `table` has the places to look at, and `nwb_path` is the file being written.
    `value_of` takes the builder of the object, that of its paths and the field, and gives the stored value and the
    folder that it is relative to. `holders` has, by such a folder, the NWB file whose paths are relative to it, for
    files other than `nwb_path`.
    """

    @cache
    def fields_of(namespace: str, neurodata_type: str, is_dataset: bool) -> tuple[MediaField, ...]:
        return tuple(types.fields_of(namespace, neurodata_type, table, is_dataset=is_dataset))

    found: list[FieldInTree] = []
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
                holder = builder if field.field is None else dataset_of(builder, field.field)
                if holder is None:
                    continue
                value, base = value_of(builder, holder, field)
                read = read_paths(value)
                if read is None:
                    found.append(FieldInTree(holder, (), (), not_a_string=True, owner=builder))
                    continue
                paths, shape = read
                bases = [_base(stored, base, nwb_path) for stored in paths]
                references = tuple(
                    ExternalFileReference(
                        nwb_path=nwb_path,
                        object_path=path,
                        neurodata_type=neurodata_type,
                        object_id=attribute_string(builder.attributes.get("object_id")),
                        field=field.label,
                        index=index,
                        stored_path=stored.stored if isinstance(stored, StoredPath) else stored,
                        base=bases[index],
                        repeats=field.repeats,
                        stored_in=holders.get(bases[index] or ""),
                    )
                    for index, stored in enumerate(paths)
                )
                found.append(FieldInTree(holder, references, shape, owner=builder))
        if not is_dataset:
            stack.extend((child, path) for child in reversed((*builder.groups.values(), *builder.datasets.values())))
    return found


def _base(stored: str, base: str | None, destination: str) -> str | None:
    if not isinstance(stored, StoredPath):
        return base
    # hdmf gives a new container the file being written for its source
    return None if stored.nwb_path in (None, destination) else stored.base


def dataset_of(group: Any, name: str) -> Any:
    """The builder of a dataset in a group, or that of a link to one; None if there is neither."""
    if name in group.datasets:
        return group.datasets[name]
    # hdmf keys the links that it reads by the name of their target
    return next(
        (link for link in group.links.values() if link.name == name and not hasattr(link.builder, "groups")), None
    )


def target_of(builder: Any) -> Any:
    """The builder itself, or the target of a `LinkBuilder`."""
    return builder.builder if hasattr(builder, "builder") else builder


def object_path_of(builder: Any) -> str:
    """The path of a builder in its tree, as paths of objects are written."""
    return "/" + str(builder.path).partition("/")[2]


def _type_of(attributes: Mapping[str, Any]) -> tuple[str, str | None]:
    neurodata_type = attributes.get("neurodata_type")
    if neurodata_type is None:
        return "", None
    return attribute_string(attributes.get("namespace")) or "", attribute_string(neurodata_type)

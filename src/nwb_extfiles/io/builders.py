"""The stored texts that name media, found in a tree of HDMF builders."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ..nwb.path_datasets import StoredPath, attribute_string, read_paths
from ..nwb.references import ExternalFileReference
from ..nwb.registry import MediaField
from ..nwb.type_tree import TypeTree

if TYPE_CHECKING:
    from hdmf.build import Builder, DatasetBuilder, GroupBuilder

__all__ = ["StoredPaths", "find_in_builders", "target_of"]


@dataclass(frozen=True, slots=True)
class StoredPaths:
    """All texts of one field of one object, and the builder that holds them."""

    builder: Builder
    """The `DatasetBuilder`, or the `LinkBuilder` that stands where the dataset is expected."""
    references: tuple[ExternalFileReference, ...]
    """In the order in which they are stored; empty if there are none, or if `not_a_string`."""
    shape: tuple[int, ...]
    """Shape of the dataset; () for a scalar."""
    not_a_string: bool = False
    """Whether something else than text is stored."""
    owner: Builder | None = None
    """The builder of the object that the field belongs to."""

    @property
    def is_whole_object(self) -> bool:
        """Whether the object is itself the dataset of paths."""
        return self.owner is self.builder

    @property
    def dataset(self) -> DatasetBuilder:
        """The builder of the dataset, through a link if there is one."""
        return target_of(self.builder)


def find_in_builders(
    root: GroupBuilder,
    *,
    types: TypeTree,
    table: Sequence[MediaField],
    nwb_path: str,
    value_of: Callable[[Builder, Builder, MediaField], tuple[Any, str | None]],
    holders: Mapping[str, str] | None = None,
) -> list[StoredPaths]:
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
    list of StoredPaths
        Each builder once, in the order of the tree. Objects behind links to other objects are not followed: they
        are found at their own place, or belong to another file.
    """

    @cache
    def fields_of(namespace: str, neurodata_type: str, is_dataset: bool) -> tuple[MediaField, ...]:
        return tuple(types.fields_of(namespace, neurodata_type, table, is_dataset=is_dataset))

    holders = holders or {}
    found: list[StoredPaths] = []
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
                        _stored_paths(holder, value, base, builder, path, neurodata_type, field, nwb_path, holders)
                    )
        if not is_dataset:
            stack.extend((child, path) for child in reversed((*builder.groups.values(), *builder.datasets.values())))
    return found


def _stored_paths(
    holder: Builder,
    value: Any,
    base: str | None,
    owner: Builder,
    path: str,
    neurodata_type: str,
    field: MediaField,
    nwb_path: str,
    holders: Mapping[str, str],
) -> StoredPaths:
    read = read_paths(value)
    if read is None:
        return StoredPaths(holder, (), (), not_a_string=True, owner=owner)
    paths, shape = read
    object_id = attribute_string(owner.attributes.get("object_id"))
    bases = [_base(text, base, nwb_path) for text in paths]
    references = tuple(
        ExternalFileReference(
            nwb_path=nwb_path,
            object_path=path,
            neurodata_type=neurodata_type,
            object_id=object_id,
            field=field.label,
            index=index,
            stored_path=text.stored if isinstance(text, StoredPath) else text,
            base=bases[index],
            repeats=field.repeats,
            stored_in=holders.get(bases[index] or ""),
        )
        for index, text in enumerate(paths)
    )
    return StoredPaths(holder, references, shape, owner=owner)


def _base(text: str, base: str | None, destination: str) -> str | None:
    if not isinstance(text, StoredPath):
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


def _type_of(attributes: Mapping[str, Any]) -> tuple[str, str | None]:
    neurodata_type = attributes.get("neurodata_type")
    if neurodata_type is None:
        return "", None
    return attribute_string(attributes.get("namespace")) or "", attribute_string(neurodata_type)

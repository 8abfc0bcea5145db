"""Which neurodata types are kinds of which, as loaded namespaces tell, or the specifications that a file caches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import h5py
from h5py import h5o

from .path_datasets import is_stored, item_at, paths_at, read_paths
from .registry import MediaField

__all__ = ["TypeTree", "parents_in_file", "sources_in_file", "typed_links_in_file"]


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
        for text in _strings_below(file[location]):
            parents.update(_parents_in(text))
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError):  # it leads nowhere, or to no group
        pass
    return parents


def sources_in_file(file: Any, namespace: str, version: str | None) -> dict[str, Mapping[str, str]]:
    """The sources of a namespace, such as ``nwb.ecephys``, from the specifications that an NWB file caches.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        The root group, open for reading.
    namespace : str
        Such as ``core``.
    version : str or None
        The one to take where the file caches several.

    Returns
    -------
    dict of str to mapping
        By source, the parent of each neurodata type that it defines. Empty if the file does not cache that namespace.
    """
    sources: dict[str, Mapping[str, str]] = {}
    try:
        versions = file[file.attrs[".specloc"]][namespace]
        names = list(versions)
        name = names[0] if len(names) == 1 else version
        specification = versions[name] if name in names else {}
        for source in specification:
            read = paths_at(specification, source) if isinstance(specification, h5py.Group) else None
            read = read or read_paths(specification[source])
            sources[source] = _parents_in(read[0][0]) if read else {}
    except (
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        IndexError,
    ):  # it leads nowhere, or to others
        return {}
    return sources


def typed_links_in_file(file: Any) -> frozenset[str]:
    """The names of links that the specifications cached in an NWB file define, such as ``source_video``."""
    names: set[str] = set()

    def collect(spec: Any) -> None:
        names.update(link["name"] for link in spec.get("links", ()) if "name" in link)
        for group in spec.get("groups", ()):
            collect(group)

    try:
        for text in _strings_below(file[file.attrs[".specloc"]]):
            collect(json.loads(text))
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError):
        pass  # what was found until then
    return frozenset(names)


def _strings_below(group: Any) -> Iterator[str]:
    """All texts in the datasets below a group."""
    if not isinstance(group, h5py.Group):
        datasets: list[Any] = []
        group.visititems(lambda _, item: datasets.append(item) if is_stored(item) else None)
        for dataset in datasets:
            read = read_paths(dataset)
            yield from read[0] if read else ()
        return
    names: list[str] = []

    def visit(name: bytes, info: h5o.ObjInfo) -> None:
        if info.type == h5o.TYPE_DATASET:
            names.append(name.decode("utf-8", "surrogateescape"))

    h5o.visit(group.id, visit, info=True)  # every file has dozens of them, and h5py's objects cost more than the texts
    for name in names:
        read = paths_at(group, name) or read_paths(item_at(group, name))
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

"""Object mappers that know about media.

While a container is built, its paths become strings that remember which folder they are relative to; while one is read
with ``resolve_media=True``, its stored paths become paths that `open` can open. The mappers live in the type map they
are registered in and nowhere else.

Every mapper is a subclass of the one that the type map has for the class already, so what that one does stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from hdmf.build import BuildManager, ObjectMapper, TypeMap

from ..errors import warn
from ..nwb.path_datasets import StoredPath, is_stored, read_paths
from ..nwb.references import ExternalFileReference
from ..nwb.registry import MediaField, media_fields
from ..options import MediaOptions
from ..plans.locate import locate
from ..plans.stored_paths import is_absolute, is_url
from ..private_names import forget_mappers, registered_mappers
from ..web.dandisets import Dandisets, base_of, place_of
from ..web.remote import UNKNOWN_BASE, source_of

__all__ = ["ResolvedMediaPath", "register_media_mappers"]

_UNTOUCHED = getattr(ObjectMapper, "NO_OVERRIDE", None)  # None means the same before hdmf 6.2


class ResolvedMediaPath(StoredPath):
    """A path that `open` can open, of media that an NWB file names otherwise.

    Parameters
    ----------
    path : str
        The absolute path, or a URL as it is stored.
    nwb_path : str
        The NWB file that was read.
    stored : str
        The path as it is stored in that file; it is what gets written again.
    """

    _stored: str

    def __new__(cls, path: str, nwb_path: str | None, stored: str = "") -> ResolvedMediaPath:
        """Make the path."""
        self = super().__new__(cls, path, nwb_path)
        assert isinstance(self, cls)
        self._stored = stored
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.nwb_path, self._stored

    @property
    def stored(self) -> str:
        """The path as the file holds it."""
        return self._stored


def register_media_mappers(
    type_map: TypeMap, *, resolve_media: bool = False, media_options: MediaOptions | None = None
) -> None:
    """Give a type map mappers that know about media.

    Parameters
    ----------
    type_map : hdmf.build.TypeMap
        Changed in place. `pynwb.get_type_map()` gives a fresh copy.
    resolve_media : bool
        Whether paths of media are made absolute when containers are read.
    media_options : MediaOptions, optional
        Of which `media_fields`, `search`, `path_map`, `within` and `opened_from` are used.
    """
    options = media_options or MediaOptions()
    resolver = _Resolver(options) if resolve_media else None
    registered, holders = registered_mappers(type_map), _holders(type_map, media_fields(options.media_fields))
    # Generated classes and others without a mapper of their own inherit that of their parent class.
    mappers = {}
    for cls in {*holders, *(cls for cls in registered if issubclass(cls, tuple(holders)))}:
        fields = [field for holder, of_holder in holders.items() if issubclass(cls, holder) for field in of_holder]
        parent = next((registered[base] for base in cls.__mro__ if base in registered), ObjectMapper)
        parent = getattr(parent, "media_parent", parent)
        mappers[cls] = _mapper(parent, fields, resolver)
    for cls, mapper in mappers.items():
        type_map.register_map(cls, mapper)
    forget_mappers(type_map)


def _holders(type_map: TypeMap, table: Iterable[MediaField]) -> dict[type, list[MediaField]]:
    """The container classes of the types in the table that the type map knows, with their fields."""
    catalog = type_map.namespace_catalog
    holders: dict[type, list[MediaField]] = {}
    for namespace in catalog.namespaces:
        known = set(catalog.get_namespace(namespace).get_registered_types())
        for field in table:
            if field.neurodata_type in known:
                cls = type_map.get_dt_container_cls(field.neurodata_type, namespace)
                of_class = holders.setdefault(cls, [])
                if field not in of_class:
                    of_class.append(field)
    return holders


def _mapper(parent: type, fields: list[MediaField], resolver: _Resolver | None) -> type:
    body: dict[str, Any] = {"media_parent": parent, "__doc__": f"`{parent.__name__}` that knows about media."}
    for field in fields:
        attribute = field.field or "data"
        if field.field is None:
            body["convert_dtype"] = _converts(parent)
        body[f"build_{attribute}"] = ObjectMapper.object_attr(attribute)(_builds(attribute))
        if resolver is not None:
            body[f"read_{attribute}"] = ObjectMapper.constructor_arg(attribute)(_reads(field, resolver))
    return type(f"Media{parent.__name__}", (parent,), body)


def _converts(parent: Any) -> Any:
    """Unwrap the data of a dataset type: hdmf asks no mapper for it, and h5py takes no subclass of str."""

    def convert_dtype(cls: Any, spec: Any, value: Any) -> Any:
        value = value.stored if isinstance(value, StoredPath) else value
        return parent.convert_dtype.__func__(cls, spec, value)

    return classmethod(convert_dtype)


def _builds(attribute: str) -> Callable[[Any, Any, BuildManager], Any]:
    def build(self: Any, container: Any, manager: BuildManager) -> Any:  # noqa: ARG001
        value = getattr(container, attribute, None)
        if value is None or is_stored(value) or hasattr(value, "io_settings"):
            return _UNTOUCHED  # its file, or its storage settings, are kept by handing on the very object
        read = read_paths(value)
        if read is None or len(read[1]) > 1:
            return _UNTOUCHED
        paths = [_remembering(path, container) for path in read[0]]
        return paths if read[1] else paths[0]

    return build


def _remembering(path: str, container: Any) -> StoredPath:
    if isinstance(path, StoredPath):
        return StoredPath(path.stored, path.nwb_path)
    return StoredPath(path, container.container_source)


class _Resolver:
    """Makes the paths of the files that one IO reads such that they open."""

    def __init__(self, options: MediaOptions) -> None:
        self.options, self.dandisets = options, Dandisets(options.opened_from)
        self.homeless: set[str] = set()  # NWB files that do not say where they are, of which the user was warned

    def place_of(self, builder: Any, dataset: Any) -> str:
        """The place of the NWB file that holds a dataset."""
        root = builder
        while root.parent is not None:
            root = root.parent
        opened_from = self.options.opened_from
        if opened_from is not None and dataset.source == root.source:
            return place_of(opened_from)
        return source_of(dataset.source)

    def openable(self, reference: ExternalFileReference) -> ResolvedMediaPath:
        """The path of a reference, or the URL, as it can be opened."""
        stored, base = reference.stored_path, reference.base
        found = locate(reference, self.options, dandisets=self.dandisets)
        location = found.location
        if location is None:
            # Not there: the path where it should be, so that the error on opening it names the missing file.
            beside = base is not None and not is_absolute(stored) and not is_url(base)
            location = os.path.join(str(base), stored) if beside else stored
            if base == UNKNOWN_BASE and found.problem is not None and reference.nwb_path not in self.homeless:
                self.homeless.add(reference.nwb_path)
                warn(found.problem.what, hint=found.problem.hint)
        return ResolvedMediaPath(location, reference.nwb_path, stored)


def _reads(field: MediaField, resolver: _Resolver) -> Callable[[Any, Any, BuildManager], Any]:
    def read(self: Any, builder: Any, manager: BuildManager) -> Any:  # noqa: ARG001
        holder = builder if field.field is None else builder.get(field.field)
        if holder is None:
            return _UNTOUCHED
        dataset = getattr(holder, "builder", holder)  # through a link
        stored = read_paths(dataset.data)
        if stored is None:
            return _UNTOUCHED
        nwb_path = resolver.place_of(builder, dataset)
        references = (
            ExternalFileReference(
                nwb_path=nwb_path,
                object_path=str(builder.path).removeprefix("root"),
                neurodata_type=str(builder.attributes.get("neurodata_type")),
                object_id=None,
                field=field.label,
                index=index,
                stored_path=path,
                base=base_of(nwb_path),
            )
            for index, path in enumerate(stored[0])
        )
        paths = [resolver.openable(reference) for reference in references]
        return paths if stored[1] else paths[0]

    return read

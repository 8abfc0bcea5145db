"""From a tree of builders to a plan: what one call to write or export means for the media.

Everything here looks and decides; nothing is written, and neither builders nor containers are changed.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from hdmf.build import BuildManager, GroupBuilder, LinkBuilder

from ..errors import ExternalFilesError, RelocationRefusedError, UnsafeReferenceError, combine, warn
from ..hints import Message
from ..media.cut_off import warned_of_cut_off
from ..media.pyav.recipes import remuxer
from ..nwb.manifest import MANIFEST_PATH, ManifestRow, parse_manifest
from ..nwb.path_datasets import StoredPath, attribute_string, is_stored, path_of, read_paths, unwrapped
from ..nwb.references import ExternalFileReference
from ..nwb.registry import MediaField, media_fields
from ..nwb.series import frame_rate
from ..nwb.type_tree import TypeTree, parents_in_file
from ..options import MediaMode, default_modes
from ..plans.needs import MediaUsers, settle
from ..plans.pipeline import plan_references
from ..plans.plan import RelocationPlan
from ..plans.plan_checks import unused_prefixes
from ..plans.stored_paths import is_url
from ..plans.targets import nwb_stem
from ..web.dandisets import base_of, place_of
from ..web.remote import UNKNOWN_BASE, source_of
from .arguments import RelocationRequest
from .builders import ByBuilder, FieldInTree, dataset_of, find_in_builders, object_path_of, target_of

__all__ = ["Tree", "all_builders", "containers_of", "find_paths", "identifier", "plan_relocation"]


@dataclass(frozen=True, slots=True)
class Tree:
    """The builders of an NWB file that is about to be written, and where they come from."""

    root: GroupBuilder
    manager: BuildManager
    """The manager that made the builders: on export it is that of the source."""
    nwb_path: str
    """The NWB file to be written."""
    container: Any = None
    """The root container, where the tree was built from one."""
    source: Any = None
    """The IO that is exported from; None for a write."""
    is_new: bool = True
    """Whether the NWB file is being created; else it is open for appending."""
    file: Any = None
    """The open file behind the builders that were read: an `h5py.File` or the root group of a Zarr store."""


# ----------------------------------------------------------------------- find


def find_paths(tree: Tree, request: RelocationRequest) -> list[FieldInTree]:
    """Find all stored paths of media in the tree.

    A link to a dataset of paths is left out where that dataset is in the tree itself: what is done with the dataset
    holds for the link too.
    """
    containers = cache(lambda: containers_of(tree))  # made only if it is asked

    def container_of(owner: Any) -> Any:
        return containers().get(owner)

    base = _bases(tree, request)

    def value_of(owner: Any, holder: Any, media_field: MediaField) -> tuple[Any, str | None]:
        return _value_and_base(owner, target_of(holder), media_field, container_of, tree.nwb_path, base)

    found = find_in_builders(
        tree.root,
        types=TypeTree(
            tree.manager.namespace_catalog.get_hierarchy,
            lambda: {} if tree.file is None else parents_in_file(tree.file),
        ),
        table=media_fields(request.options.media_fields),
        nwb_path=tree.nwb_path,
        value_of=value_of,
        holders=_holders(tree, base),
    )
    datasets = {id(entry.builder) for entry in found}
    return [entry for entry in found if entry.builder is entry.dataset or id(entry.dataset) not in datasets]


def _holders(tree: Tree, base: Callable[[str], str]) -> dict[str, str]:
    """The NWB file that is exported from, by the folder that its stored paths are relative to."""
    if tree.source is None or tree.source.source is None:
        return {}
    path = str(tree.source.source)
    folder = base(path)
    return {} if folder == UNKNOWN_BASE or path == tree.nwb_path else {folder: path}


def containers_of(tree: Tree) -> ByBuilder[Any]:
    """The container of each builder; hdmf keeps that map to itself."""
    containers: ByBuilder[Any] = ByBuilder()
    stack = [tree.container] if tree.container is not None else []
    while stack:
        container = stack.pop()
        builder = tree.manager.get_builder(container)
        if builder is not None:
            containers.setdefault(builder, container)
        stack.extend(container.children)
    return containers


def _value_and_base(
    owner: Any,
    dataset: Any,
    media_field: MediaField,
    container_of: Callable[[Any], Any],
    nwb_path: str,
    base: Callable[[str], str],
) -> tuple[Any, str | None]:
    """The stored value, and the folder of the NWB file that holds it; None if no file does yet."""
    data = unwrapped(dataset.data)
    if is_stored(data):
        return data, base(path_of(data))
    if dataset.location is not None:  # read from a file, and handed on as it was read
        return data, base(dataset.source)
    if isinstance(data, list | tuple) and data and all(isinstance(path, StoredPath) for path in data):
        return data, None  # each knows its own
    # Built from a container whose mapper is hdmf's. What it made of stored bytes is not what was stored, so the
    # container is asked.
    container = container_of(owner)
    if container is None:
        return data, None
    value = unwrapped(getattr(container, media_field.field or "data", data))
    if is_stored(value):
        return value, base(path_of(value))
    source = container.container_source
    # hdmf gives a new container the file being written for its source
    return value, None if source in (None, nwb_path) else base(source)


def _bases(tree: Tree, request: RelocationRequest) -> Callable[[str], str]:
    """What gives the folder of an NWB file, or its address; for the source of an export the caller may say where it is.

    For a place that does not tell, it gives a folder that nothing is below.
    """
    opened_from = request.options.opened_from
    # an IO that was given an open file does not name it
    source = None if tree.source is None or tree.file is None else source_of(path_of(tree.file))

    def base(path: str) -> str:
        place = source_of(path)
        return base_of(place_of(opened_from) if opened_from is not None and place == source else place)

    return base


def all_builders(root: GroupBuilder) -> Iterator[Any]:
    """All builders of a tree; links are not followed."""
    stack: list[Any] = [root]
    while stack:
        builder = stack.pop()
        yield builder
        if isinstance(builder, GroupBuilder):
            stack.extend((*builder.groups.values(), *builder.datasets.values(), *builder.links.values()))


# ----------------------------------------------------------------------- plan


def plan_relocation(
    tree: Tree, entries: list[FieldInTree], request: RelocationRequest, *, done: RelocationPlan | None
) -> RelocationPlan:
    """Plan what happens to all media, and warn of what deserves a look; raise all problems at once.

    `done` is what earlier calls have done for the same file, so that there may be nothing left to do.
    """
    nwb_path = _destination(tree)
    references = [reference for entry in entries for reference in entry.references]
    plan = plan_references(
        references,
        nwb_path=nwb_path,
        identifier=identifier(tree),
        modes=request.modes or default_modes(),
        options=request.options,
        problems=[_not_a_string(entry, tree) for entry in entries if entry.not_a_string],
        manifest=_manifest(tree),
        remuxer=remuxer(request.options, partial(_frame_rate, entries)),
    )
    # The source may stay behind without its media, which is warned of.
    base = _bases(tree, request)
    served = {nwb_path, *(Path(os.path.realpath(path)) for path in _holders(tree, base).values())}
    changed, lost = settle([plan], MediaUsers(served, request.options), held=done, keep_needed=True)
    if lost:
        raise combine(lost)
    plan = warned_of_cut_off(changed.get(nwb_path, plan))
    unused = unused_prefixes([plan]) if done is None else ()
    remarks = _remarks(tree, plan, base, again=done is not None)
    for warning in (*plan.warnings, *unused, *remarks, *_linked_media(tree, request)):
        warn(warning)
    return plan


def _frame_rate(entries: list[FieldInTree], reference: ExternalFileReference) -> float | None:
    """The frames per second of the series that a reference belongs to."""
    series = next(entry.owner for entry in entries if reference in entry.references)
    start, timestamps = (dataset_of(series, name) for name in ("starting_time", "timestamps"))
    rate = None if start is None else target_of(start).attributes.get("rate")
    return frame_rate(rate, None if timestamps is None else target_of(timestamps).data)


def _destination(tree: Tree) -> Path:
    """The NWB file to be written, its folder free of symbolic links."""
    path, real = tree.nwb_path, os.path.realpath(tree.nwb_path)
    if not tree.is_new and not os.path.isfile(path) and not os.path.isdir(path):
        raise RelocationRefusedError(
            f"{path} is not a file on this machine, so there is no place beside it for media",
            hint="open the NWB file by its path here, without file= or driver=, and not by a URL",
            nwb_path=path,
        )
    if os.path.islink(path):
        raise RelocationRefusedError(
            f"{path} is a symbolic link to {real}, and readers look for media beside the name that they open",
            hint=f"write to {real} itself, or remove the link",
            nwb_path=path,
        )
    return Path(real)


def identifier(tree: Tree) -> str:
    """The identifier of the NWB file; its name where it has none."""
    builder = tree.root.datasets.get("identifier")
    read = read_paths(builder.data) if builder is not None else None
    return read[0][0] if read and read[0] else nwb_stem(Path(tree.nwb_path))


def _manifest(tree: Tree) -> list[ManifestRow] | None:
    """What the manifest in the tree says; None if there is none."""
    table: Any = tree.root
    for name in MANIFEST_PATH.split("/"):
        table = table.groups.get(name)
        if table is None:
            return None
    columns = {name: unwrapped(dataset.data) for name, dataset in table.datasets.items()}
    return parse_manifest(columns, Path(tree.nwb_path))


def _not_a_string(entry: FieldInTree, tree: Tree) -> ExternalFilesError:
    path = object_path_of(entry.builder)
    return UnsafeReferenceError(
        f"{tree.nwb_path}: {path!r} holds no strings, where paths of media are expected",
        hint=f"fix it in {tree.source.source if tree.source is not None else 'the container'} first",
        nwb_path=tree.nwb_path,
        object_path=path,
    )


def _linked_media(tree: Tree, request: RelocationRequest) -> Iterator[str]:
    """Name the media that stay behind, because the file has only links to the objects of another one."""
    own = {tree.nwb_path, str(tree.source.source) if tree.source is not None else tree.nwb_path}
    for link in all_builders(tree.root):
        if not isinstance(link, LinkBuilder) or link.builder.source in own or link.builder.location is None:
            continue
        other = str(link.builder.source)
        there = replace(tree, root=link.builder, nwb_path=other, container=None, source=None)
        paths = [reference.stored_path for entry in find_paths(there, request) for reference in entry.references]
        if paths:
            copy = "" if tree.source is None or not _can_be_copied(link, tree) else (
                ", or export with write_args={'link_data': False}, which copies the object, and relocates its media too"
            )  # fmt: skip
            yield Message(
                f"{tree.nwb_path}: {_path_of(link)!r} stays a link to {_path_of(link.builder)!r} of {other}, and its "
                f"media stay with that file ({len(paths)}, such as {paths[0]!r})",
                f"keep that file where it is{copy}",
            )


def _path_of(builder: Any) -> str:
    """Where a builder stands in its file."""
    if builder.location is not None:
        return posixpath.join("/", builder.location, builder.name)
    return object_path_of(builder)


def _can_be_copied(link: LinkBuilder, tree: Tree) -> bool:
    """Whether hdmf copies the target of a link: not where a specification wants a link."""
    return not any(isinstance(builder, LinkBuilder) for builder in all_builders(link.builder)) and not _is_typed(
        link, tree
    )


def _is_typed(link: LinkBuilder, tree: Tree) -> bool:
    """Whether a link is one by its specification."""
    attributes = link.parent.attributes if link.parent is not None else {}
    try:
        namespace, neurodata_type = (attribute_string(attributes[key]) for key in ("namespace", "neurodata_type"))
        spec = tree.manager.namespace_catalog.get_spec(namespace, neurodata_type)
    except (KeyError, ValueError):
        return False
    return any(of_spec.name == link.name for of_spec in getattr(spec, "links", ()))


def _remarks(tree: Tree, plan: RelocationPlan, base: Callable[[str], str], *, again: bool) -> Iterator[str]:
    if all(is_url(entry.reference.stored_path) and entry.remote is None for entry in plan.relocations) and not again:
        found = "only URLs, which stay as they are" if plan.relocations else "no external file"
        yield f"{tree.nwb_path}: relocate_media=True, but there is nothing to relocate: {found}"
    if plan.mode is not MediaMode.MOVE or tree.source is None:
        return
    left: dict[str, set[Path]] = {}
    for entry in plan.relocations:
        if entry.source is not None and plan.removes_name(entry):
            folder = entry.reference.base
            linked = folder is not None and folder != base(str(tree.source.source))
            holder = f"an NWB file in {folder}" if linked else str(tree.source.source)
            left.setdefault(holder, set()).add(entry.source.real)
    for holder, sources in left.items():
        yield Message(
            f"{holder} stays behind with references to media that move ({len(sources)} in all) to "
            f"{plan.nwb_path.parent}, such as {min(sources)}",
            "delete it once you have checked the new file",
        )

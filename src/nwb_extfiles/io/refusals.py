"""What is refused before a byte is written, because it would break links that work.

Like `plan_from_builders`, this looks and decides, and changes nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
from hdmf.build import Builder, GroupBuilder, LinkBuilder, ReferenceBuilder

from ..disk.annex import is_annex_object
from ..disk.contents import same_content
from ..disk.filesystem import has_other_names
from ..errors import RelocationRefusedError, combine, warn_all
from ..hints import Message, quoted
from ..naming import unportable
from ..nwb.path_datasets import StoredPath, attribute_string, is_stored, path_of, read_paths, unwrapped
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..plans.resolve import Resolution, resolve_all
from ..plans.stored_paths import is_absolute, is_url, spellings, unicode_forms
from ..plans.targets import Named, dandiset_above, name_targets
from ..web.remote import UNKNOWN_BASE
from .arguments import RelocationRequest
from .builders import ByBuilder, FieldInTree, object_path_of, target_of
from .plan_from_builders import Tree, all_builders, containers_of, identifier

__all__ = [
    "refuse_annexed",
    "refuse_broken_links",
    "refuse_impossible_name",
    "refuse_links_to_destination",
    "refuse_other_names",
    "refuse_unmarked_changes",
    "refuse_unreadable_links",
]


def refuse_broken_links(
    tree: Tree, entries: list[FieldInTree], request: RelocationRequest, write_args: dict[str, Any]
) -> None:
    """Refuse to write paths verbatim where that breaks a link that works, or does not follow DANDI in a dandiset.

    `write_args` is what the backend is told about links to data.
    """
    references = [
        reference for entry in entries if not _stays_a_link(entry, write_args) for reference in entry.references
    ]
    if all(is_url(reference.stored_path) for reference in references):
        return
    nwb_path = Path(os.path.realpath(tree.nwb_path))
    resolutions = resolve_all(references, MediaOptions(), destination=nwb_path.parent)
    named, _ = name_targets(resolutions, request.options, nwb_path=nwb_path, identifier=identifier(tree))
    dandiset = dandiset_above(nwb_path)
    places = {str(entry.target) for entry in named}
    problems = []
    for entry in named:
        reason = None
        if dandiset is not None and not entry.resolution.url and entry.resolution.reference.stored_path not in places:
            reason = f"is not where media belong in the dandiset {dandiset}"
        elif _breaks(entry, nwb_path.parent):
            assert entry.resolution.file is not None
            reason = f"is {quoted(entry.resolution.file.path)}, and would not be found from {quoted(nwb_path.parent)}"
        if reason is not None:
            reference = entry.resolution.reference
            problems.append(
                RelocationRefusedError(
                    f"{reference.where}: {quoted(reference.stored_path)} {reason}",
                    hint="give relocate_media=True (and a media_mode) to relocate the media too, or "
                    "relocate_media=False to write the paths as they are",
                    **reference.place,
                )
            )
    if problems:
        raise combine(problems)
    warn_all(_left_behind(resolutions, nwb_path.parent))


def _left_behind(resolutions: Iterable[Resolution], folder: Path) -> Iterator[Message]:
    """Warn of media beside an NWB file behind a URL, once for each series; whether they are there is not asked."""
    found: dict[tuple[str, str], list[ExternalFileReference]] = {}
    for resolution in resolutions:
        reference, stored = resolution.reference, resolution.reference.stored_path
        is_local = resolution.file is not None or is_url(stored) or is_absolute(stored)
        if is_local or reference.base is None or not is_url(reference.base):
            continue
        if not any(place.is_file() for place in _places(stored, folder)):
            found.setdefault((reference.object_path, reference.field), []).append(reference)
    for first, *more in found.values():
        unknown = first.base == UNKNOWN_BASE
        base = "the NWB file that is exported, whose place is not known" if unknown else f"{first.base}"
        opened_from = " and opened_from" if unknown else ""
        yield Message(
            f"{first.where}: {quoted(first.stored_path)} is relative to {base}, and leads to nothing in "
            f"{quoted(folder)}{f', and {len(more)} more' if more else ''}",
            f'give relocate_media=True, with urls="download"{opened_from} in media_options, to have the media too, or '
            f"relocate_media=False to write the paths as they are",
        )


def _breaks(entry: Named, folder: Path) -> bool:
    """Whether a stored path that names a file now would not name it, or a copy of it, in a new folder."""
    stored, file = entry.resolution.reference.stored_path, entry.resolution.file
    if file is None or is_absolute(stored):
        return False
    return not any(place.is_file() and same_content(place, file.real) for place in _places(stored, folder))


def _places(stored: str, folder: Path) -> Iterator[Path]:
    return (place for form in unicode_forms(stored) for place in spellings(folder, form))


def _stays_a_link(entry: FieldInTree, write_args: dict[str, Any]) -> bool:
    """Whether the backend writes a link to the paths, so that they stay in the file that holds them now."""
    if isinstance(entry.builder, LinkBuilder):
        return True
    data = entry.dataset.data
    linked = data.link_data if hasattr(data, "io_settings") else write_args.get("link_data", True)
    data = unwrapped(data)
    if not linked or not is_stored(data):
        return False
    source = write_args.get("export_source")
    return source is None or os.path.abspath(path_of(data)) != os.path.abspath(source)


def refuse_links_to_destination(tree: Tree) -> None:
    """Refuse to replace a file by a tree that comes from it, or links into it."""
    if not os.path.exists(tree.nwb_path):
        return
    destination = os.path.realpath(tree.nwb_path)
    elsewhere: set[str | None] = {None}  # files that were looked at
    for builder in all_builders(tree.root):
        source = _file_of(target_of(builder))
        if source in elsewhere:
            continue
        elsewhere.add(source)
        if os.path.realpath(str(source)) == destination:
            raise RelocationRefusedError(
                f"{tree.nwb_path} cannot be replaced by a file that is made from it or links into it, as "
                f"{builder.path!r} does",
                hint="write to another name",
                nwb_path=tree.nwb_path,
            )


def _file_of(builder: Any) -> str | None:
    """The file that a builder was read from; None if it was built."""
    data = unwrapped(getattr(builder, "data", None))
    if isinstance(data, h5py.Dataset) and data:
        return path_of(data)
    return builder.source if builder.location is not None else None


def refuse_unreadable_links(tree: Tree, is_written: Callable[[Any], bool]) -> None:
    """Refuse to write links and references to objects that will not be in the file.

    hdmf writes a link to the root for an object that still has its parent in another NWB file, and no reader can open
    such a file. `is_written` says whether a builder is already in the file that is open.
    """
    builders = list(all_builders(tree.root))
    inside = set(map(id, builders))
    # what hdmf makes links within the file of
    own = {None, tree.nwb_path, os.path.abspath(tree.nwb_path)}
    if tree.source is not None and tree.source.source is not None:
        own |= {str(tree.source.source), os.path.abspath(str(tree.source.source))}

    def is_there(target: Any, is_link: bool) -> bool:
        if id(target) in inside or is_written(target):
            return True
        if is_link and target.source not in own:  # a link to another file, in which it has a place
            return target.location is not None or target.parent is not None
        # read from the file that is exported, and built anew
        return target.location is not None and target.source in own and _stands_in(tree.root, target)

    problems = []
    for builder in builders:
        if is_written(builder):
            continue
        if isinstance(builder, LinkBuilder):
            targets = [builder.builder]
        else:
            targets = [target_of(value) for value in _references_in(builder)]
        lost = {id(target): target for target in targets if not is_there(target, isinstance(builder, LinkBuilder))}
        for target in lost.values():
            kind = attribute_string(target.attributes.get("neurodata_type")) or "object"
            path = object_path_of(builder)
            problems.append(
                RelocationRefusedError(
                    f"{tree.nwb_path}: {path!r} would be a link to the {kind} {target.name!r}, which belongs to "
                    f"another NWB file (or an earlier NWBFile) and will not be in this one, so no reader could open it",
                    hint=f"call reset_parent() on that {kind} before you add it to this NWBFile, and add it where it "
                    f"belongs",
                    nwb_path=tree.nwb_path,
                    object_path=path,
                )
            )
    if problems:
        raise combine(problems)


def _stands_in(root: GroupBuilder, target: Any) -> bool:
    """Whether a tree has something where a builder was read from."""
    found: Any = root
    for name in f"{target.location}/{target.name}".strip("/").split("/"):
        found = target_of(found)
        if not isinstance(found, GroupBuilder):
            return False
        found = found.groups.get(name) or found.datasets.get(name) or found.links.get(name)
    return found is not None


def _references_in(builder: Any) -> Iterator[Any]:
    """The builders that attributes and data of a builder refer to."""
    values = [value for value in builder.attributes.values() if not isinstance(value, str)]  # most are
    data = unwrapped(getattr(builder, "data", None))
    if isinstance(data, list | tuple) and data:
        if isinstance(data[0], Builder | ReferenceBuilder):
            values.extend(data)
        elif isinstance(data[0], list | tuple):  # rows of a compound type
            values.extend(value for row in data for value in row if isinstance(value, Builder | ReferenceBuilder))
    else:
        values.append(data)
    for value in values:
        if isinstance(value, Builder | ReferenceBuilder):
            yield target_of(value.builder if isinstance(value, ReferenceBuilder) else value)


def refuse_unmarked_changes(tree: Tree, entries: list[FieldInTree], is_written: Callable[[Any], bool]) -> None:
    """Refuse to write the paths that a file has where the containers have got others.

    hdmf hands on what was read, unless the container says that it was modified, and never changes what is in a file
    that is open for appending.
    """
    read = [entry for entry in entries if not entry.not_a_string and entry.dataset.location is not None]
    containers = containers_of(tree) if read and tree.container is not None else ByBuilder[Any]()
    problems = []
    for entry in read:
        container, owner = containers.get(entry.owner), entry.owner
        if container is None or owner is None:
            continue
        field = "data" if entry.owner is entry.builder else entry.dataset.name
        value = getattr(container, field, None)
        if value is None or value is entry.dataset.data:
            continue  # a field that pynwb's class does not know by this name, or that is as it was read
        now = read_paths(value)
        new = [path.stored if isinstance(path, StoredPath) else path for path in now[0]] if now else []
        old = [reference.stored_path for reference in entry.references]
        if new == old:
            continue
        path = object_path_of(owner)
        if is_written(entry.builder):
            reason = "write() does not change what a file has already"
            hint = "call set_modified() on it, and export to a new file"
        else:
            reason = "it is not marked as modified, so the old ones would be written"
            hint = "call set_modified() on it first"
        problems.append(
            RelocationRefusedError(
                f"{tree.nwb_path}: {container.neurodata_type} {path!r}, {field}: the container has other paths "
                f"({_shown(new)}) than were read ({_shown(old)}), and {reason}",
                hint=hint,
                nwb_path=tree.nwb_path,
                object_path=path,
                field=field,
            )
        )
    if problems:
        raise combine(problems)


def _shown(paths: list[str]) -> str:
    return repr(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "") if paths else "none"


def refuse_annexed(path: str) -> None:
    """Refuse to write through a link to an object of git-annex, be its content there or not."""
    if is_annex_object(Path(path)):
        raise RelocationRefusedError(
            f"{path} is kept by git-annex, in {os.path.realpath(path)}, and what is there must not change",
            hint="call `git annex unlock` (or `datalad unlock`) on it first, or remove the link",
            nwb_path=path,
        )


def refuse_impossible_name(path: str) -> None:
    """Refuse to create what Windows, if this is Windows, would take for something else than a file of that name."""
    name = os.path.basename(path)
    if os.name == "nt" and (reason := unportable(name)):
        raise RelocationRefusedError(f"{path}: {reason}", hint="give the NWB file another name", nwb_path=path)


def refuse_other_names(path: Path) -> None:
    """Refuse to change paths in a file that is open and has other names: they would change under all of these."""
    if not has_other_names(path):
        return
    own = f"{path}.own"
    if os.name == "nt":
        fix = f'copy "{path}" "{own}" && move /Y "{own}" "{path}"'
    else:
        fix = f"cp -p {shlex.quote(str(path))} {shlex.quote(own)} && mv {shlex.quote(own)} {shlex.quote(str(path))}"
    raise RelocationRefusedError(
        f"{path} has {os.stat(path).st_nlink} names (hard links), as in a backup, and its paths would change under all "
        f"of them",
        hint=f"close it, give this name content of its own, and open it again: {fix}",
        nwb_path=str(path),
    )

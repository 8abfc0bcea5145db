"""What is refused before a byte is written, because it would break links that work.

Like `relocation`, this looks and decides, and changes nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
from hdmf.build import GroupBuilder, LinkBuilder

from ..disk.contents import same_content
from ..disk.filesystem import has_other_names
from ..errors import RelocationRefusedError, combine
from ..nwb.storage import is_stored, path_of, unwrapped
from ..options import MediaOptions
from ..plans.resolve import is_absolute, is_url, resolve_all, spellings, unicode_forms
from ..plans.targets import Named, dandiset_above, name_targets
from .builders import StoredTexts, target_of
from .relocation import Request, Tree, identifier

__all__ = ["refuse_broken_links", "refuse_links_to_destination", "refuse_other_names"]


def refuse_broken_links(tree: Tree, stored: list[StoredTexts], request: Request, write_args: dict[str, Any]) -> None:
    """Refuse to write texts verbatim where that breaks a link that works, or leaves a dandiset in disorder.

    Parameters
    ----------
    tree, stored, request
        As for `plan_relocation`.
    write_args : dict
        What the backend is told about links to data.

    Raises
    ------
    RelocationRefusedError
        With all such references at once.
    """
    texts = [entry for entry in stored if not _stays_a_link(entry, write_args)]
    if all(is_url(reference.text) for entry in texts for reference in entry.references):
        return
    nwb_path = Path(os.path.realpath(tree.nwb_path))
    references = [reference for entry in texts for reference in entry.references]
    resolutions = resolve_all(references, MediaOptions(), destination=nwb_path.parent)
    named, _ = name_targets(resolutions, request.options, nwb_path=nwb_path, identifier=identifier(tree))
    dandiset = dandiset_above(nwb_path)
    places = {str(entry.target) for entry in named}
    problems = []
    for entry in named:
        reason = None
        if dandiset is not None and not entry.resolution.url and entry.resolution.reference.text not in places:
            reason = f"is not where media belong in the dandiset {dandiset}"
        elif _breaks(entry, nwb_path.parent):
            assert entry.resolution.file is not None
            reason = f"is {str(entry.resolution.file.path)!r}, and would not be found from {str(nwb_path.parent)!r}"
        if reason is not None:
            reference = entry.resolution.reference
            problems.append(
                RelocationRefusedError(
                    f"{reference.where}: {reference.text!r} {reason}. Give relocate_media=True (and a media_mode) to "
                    f"take the media along, or relocate_media=False to write the paths as they are",
                    **reference.place,
                )
            )
    if problems:
        raise combine(problems)


def _breaks(entry: Named, folder: Path) -> bool:
    """Whether a text that names a file now would not name it, or a copy of it, in a new folder."""
    text, file = entry.resolution.reference.text, entry.resolution.file
    if file is None or is_absolute(text):
        return False
    places = (place for form in unicode_forms(text) for place in spellings(folder, form))
    return not any(place.is_file() and same_content(place, file.real) for place in places)


def _stays_a_link(entry: StoredTexts, write_args: dict[str, Any]) -> bool:
    """Whether the backend makes a link to the texts, so that they stay in the file that holds them now."""
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
    """Refuse to replace a file by one that has data in it.

    Raises
    ------
    RelocationRefusedError
        If the tree links to the file that it shall replace, or comes from it.
    """
    if not os.path.exists(tree.nwb_path):
        return
    destination = os.path.realpath(tree.nwb_path)
    elsewhere: set[str | None] = {None}  # files that were looked at
    for builder in _all_builders(tree.root):
        source = _file_of(target_of(builder))
        if source in elsewhere:
            continue
        elsewhere.add(source)
        if os.path.realpath(str(source)) == destination:
            raise RelocationRefusedError(
                f"{tree.nwb_path} cannot be replaced by a file that is made from it or links into it, as "
                f"{builder.path!r} does; write to another name",
                nwb_path=tree.nwb_path,
            )


def _file_of(builder: Any) -> str | None:
    """The file that a builder was read from; None if it was built."""
    data = unwrapped(getattr(builder, "data", None))
    if isinstance(data, h5py.Dataset) and data:
        return path_of(data)
    return builder.source if builder.location is not None else None


def _all_builders(root: GroupBuilder) -> Iterator[Any]:
    stack: list[Any] = [root]
    while stack:
        builder = stack.pop()
        yield builder
        if isinstance(builder, GroupBuilder):
            stack.extend((*builder.groups.values(), *builder.datasets.values(), *builder.links.values()))


def refuse_other_names(path: Path) -> None:
    """Refuse to change paths in a file that is open and has other names: they would change under all of these."""
    if not has_other_names(path):
        return
    own = f"{path}.own"
    if os.name == "nt":
        cure = f'copy "{path}" "{own}" && move /Y "{own}" "{path}"'
    else:
        cure = f"cp -p {shlex.quote(str(path))} {shlex.quote(own)} && mv {shlex.quote(own)} {shlex.quote(str(path))}"
    raise RelocationRefusedError(
        f"{path} has {os.stat(path).st_nlink} names (hard links), as in a backup, and its paths would change under all "
        f"of them. Close it, give this name content of its own, and open it again: {cure}",
        nwb_path=str(path),
    )

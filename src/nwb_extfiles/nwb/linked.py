"""The media of objects that an NWB file only links to, in other NWB files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExternalFilesError
from .files import open_nwb
from .references import ExternalFileReference
from .registry import MediaField
from .scan import find_in_file
from .walk import ExternalLink

__all__ = ["LinkedMedia", "find_behind_links"]


@dataclass(frozen=True, slots=True)
class LinkedMedia:
    """The media behind a link to an object of another NWB file."""

    link: ExternalLink
    nwb_path: str
    """The file that the link leads to, as it is found from the one with the link."""
    references: tuple[ExternalFileReference, ...] = ()
    """The media of the object and of what is in it, as that file (or one that it links to in turn) has them."""
    problem: str | None = None
    """Why the link does not lead to an object."""


@dataclass(frozen=True, slots=True)
class _Other:
    """An NWB file that is linked to."""

    references: Sequence[ExternalFileReference]
    links: Sequence[ExternalLink]
    holds: frozenset[str]
    """Which of the linked objects are in it."""


def find_behind_links(
    nwb_path: Path, links: Sequence[ExternalLink], table: Sequence[MediaField] | None = None
) -> list[LinkedMedia]:
    """Follow the links of an NWB file to other NWB files, and find the media there; one answer for each link.

    Links in the other files are followed too, each once, so that circles end.
    """
    wanted: dict[str, set[str]] = {}
    for link in links:
        wanted.setdefault(_target(nwb_path, link), set()).add(link.object_path)
    files: dict[str, _Other | str] = {}
    return [_behind(nwb_path, link, table, files, wanted) for link in links]


def _behind(
    nwb_path: Path,
    link: ExternalLink,
    table: Sequence[MediaField] | None,
    files: dict[str, _Other | str],
    wanted: dict[str, set[str]],
) -> LinkedMedia:
    references: dict[tuple[str, str, str, int], ExternalFileReference] = {}
    problem = None
    seen: set[tuple[str, str]] = set()
    stack = [(_target(nwb_path, link), link.object_path)]
    while stack:
        place, object_path = stack.pop()
        key = (os.path.realpath(place), object_path)
        if key in seen:
            continue
        seen.add(key)
        if place not in files:
            files[place] = _look(place, table, wanted.get(place, set()))
        other = files[place]
        if isinstance(other, str):
            problem = problem or other
            continue
        inner = [found for found in other.links if _is_at(found.path, object_path)]
        if len(seen) == 1 and object_path not in other.holds and not inner:
            problem = f"{place} has no object {object_path!r}"
        for reference in other.references:
            if _is_at(reference.object_path, object_path):
                references.setdefault((reference.nwb_path, *reference.entry), reference)
        stack.extend((_target(Path(place), found), found.object_path) for found in inner)
    return LinkedMedia(link, _target(nwb_path, link), tuple(references.values()), problem)


def _look(place: str, table: Sequence[MediaField] | None, wanted: set[str]) -> _Other | str:
    """What is in a linked file, or why it cannot be read."""
    links: list[ExternalLink] = []
    try:
        with open_nwb(Path(place)) as file:
            references = find_in_file(file, table, links=links)
            return _Other(references, links, frozenset(path for path in wanted if path in file))
    except ExternalFilesError as error:
        return str(error)


def _is_at(path: str, object_path: str) -> bool:
    """Whether an object is at a path or below it."""
    above = object_path.rstrip("/")
    return path == above or path.startswith(f"{above}/")


def _target(nwb_path: Path, link: ExternalLink) -> str:
    """The file that a link leads to, where HDF5 looks for it: beside the one with the link, else by its name there."""
    beside = os.path.normpath(os.path.join(nwb_path.parent, link.target))
    by_name = os.path.join(nwb_path.parent, os.path.basename(link.target))
    return by_name if os.path.isabs(link.target) and not os.path.exists(beside) and os.path.exists(by_name) else beside

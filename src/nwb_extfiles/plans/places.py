"""Where the file of a stored path is looked for, and in which order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PureWindowsPath

from ..disk.spelling import Spelling
from ..hints import Hint, Message
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from .media_files import linked_folder
from .stored_paths import is_absolute, is_url, spellings, unicode_forms

__all__ = ["Known", "Tier", "below_folders", "mapped_link", "of_that_name", "tiers", "warn_of_unused"]

_LONGEST_TAIL = 32  # parts of a path that are tried below a search folder


class Known:
    """What is known in a call. Folders are asked once: videos are many, their folders few."""

    def __init__(self) -> None:
        spelling = Spelling()
        self.real_path, self.listed_name = spelling.real_path, spelling.listed_name
        self.fitting = set[str]()  # prefixes that some path begins with
        self.linked_folder = cache(partial(linked_folder, real_path=self.real_path))
        self._names_below = cache(_names_below)

    def places_below(self, folder: Path, name: str) -> list[Path]:
        """All places below a folder where there is a file with a name; hidden folders are left out."""
        return [Path(place, name) for place in self._names_below(folder).get(name, ())]

    def unused_prefixes(self, options: MediaOptions) -> frozenset[str]:
        """The prefixes of `path_map` that have fitted no path so far; not those that are shared."""
        return frozenset(options.path_map).difference(self.fitting, options.path_map_shared)


def warn_of_unused(prefixes: Iterable[str]) -> Iterator[Message]:
    """Warn once of all prefixes of `path_map` that fit no path of a call."""
    if listed := ", ".join(map(repr, sorted(prefixes))):
        hint = Hint("correct {path_map}; `nwb-extfiles ls` lists the stored paths")
        yield Message(f"no stored path begins with {listed}, so nothing was mapped by that", hint)


def _names_below(folder: Path) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for each in files:
            names.setdefault(each, []).append(place)
    return names


@dataclass(slots=True)
class Tier:
    """Places of the same rank to look in."""

    places: list[Path]
    final: bool
    """Whether a file found here ends the search."""
    searched: Sequence[Path] = ()
    """The folders of `search` that the places are in."""


def tiers(
    path: str, reference: ExternalFileReference, options: MediaOptions, destination: Path, known: Known
) -> Iterator[Tier]:
    """Places to look in, the most important first.

    A path in an NWB file has one meaning, so the first tier with a file is right. A relative path made in memory may
    mean several places, so all of them are searched, and a second file that fits is noticed.
    """
    path_maps = options.path_map_of(reference.object_path), options.path_map
    for mapped in [_mapped(path, path_map, known) for path_map in path_maps]:
        if mapped is not None:
            yield Tier([mapped], True)
    own = options.searched_for(reference.object_path)
    of_object = Tier(below_folders(path, own), True, own)
    if reference.base is None and not is_absolute(path):
        yield of_object  # first, because the caller named it for this very object
        yield Tier(spellings(destination, path), False)
        yield Tier(below_folders(path, options.search), False, options.search)
        yield Tier(spellings(Path.cwd(), path), False)
        return
    if os.path.isabs(path):
        yield Tier([Path(path)], True)
    elif reference.base is not None and not is_url(reference.base) and not is_absolute(path):
        yield Tier(spellings(reference.base, path), True)
    # For an NWB file behind a URL only copies on this machine are looked for; `locate` knows what is beside the URL.
    yield of_object
    yield Tier(below_folders(path, options.search), True, options.search)


def _mapped(path: str, path_map: Mapping[str, str], known: Known) -> Path | None:
    mapped = None
    if not path_map:
        return mapped
    plain = _with_slashes(path)
    for old, new in sorted(path_map.items(), key=lambda item: -len(item[0])):
        prefix = _with_slashes(old)
        windows = re.match(r"[A-Za-z]:(/|$)|//", prefix, re.ASCII) is not None
        head, tail = plain[: len(prefix)], plain[len(prefix) :]
        same = head.lower() == prefix.lower() if windows else head == prefix
        if same and (not tail or prefix.endswith("/") or tail.startswith("/")):
            known.fitting.add(old)
            mapped = mapped or Path(os.path.abspath(new), *(part for part in tail.split("/") if part))
    return mapped


def mapped_link(link: Path, path_maps: Sequence[Mapping[str, str]], known: Known) -> list[Path]:
    """The place that some maps, the first before the second, make of the path in a broken link; none if none fits.

    A relative link is read from its folder, and of a chain of links the end counts too. Places with a file come first.
    """
    if not any(path_maps):
        return []
    text = os.readlink(link)
    spelled = dict.fromkeys((text, os.path.normpath(os.path.join(link.parent, text)), os.path.realpath(link)))
    places = (_mapped(path, path_map, known) for path_map in path_maps for path in spelled)
    return sorted((place for place in places if place is not None), key=lambda place: not os.path.exists(place))[:1]


def _with_slashes(path: str) -> str:
    r"""A path with slashes, and without the ``\\?\`` that Windows puts before long ones."""
    plain = path.replace("\\", "/")
    return re.sub(r"^//\?/(UNC(?=/))?", lambda prefix: "/" if prefix[1] else "", plain, flags=re.IGNORECASE)


def below_folders(path: str, folders: Sequence[Path]) -> list[Path]:
    """Every tail of a path below each of some folders, down to its bare name."""
    if not folders:
        return []
    windows_path = PureWindowsPath(path)  # which reads both slashes, and knows drives and shares
    parts = [part for part in windows_path.parts if part not in ("..", windows_path.anchor)][-_LONGEST_TAIL:]
    tails = [parts[start:] for start in range(len(parts))]
    return [folder.joinpath(*tail) for folder in folders for tail in tails]


def of_that_name(
    paths: Iterable[str], reference: ExternalFileReference, options: MediaOptions, known: Known
) -> list[Path]:
    """Files with the names of some paths in subfolders of search folders: for the message alone.

    Videos of other recordings may have the same name, so none of them is taken: the user says which folder it is.
    """
    forms = (form for path in paths for form in unicode_forms(path))
    names = dict.fromkeys(PureWindowsPath(form).name for form in forms)  # which reads both slashes
    folders = (*options.searched_for(reference.object_path), *options.search)
    return [place for folder in folders for name in names for place in known.places_below(folder, name)]

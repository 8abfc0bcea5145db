"""Which file a stored path means.

Reads the file system and changes nothing. The error for a missing file lists every place that was tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..disk.annex import how_to_get
from ..errors import AmbiguousMediaError, ExternalFilesError, MissingMediaError, UnsafeReferenceError
from ..hints import Hint, Spelling, for_objects, quoted
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..web.remote import OPENED_FROM, UNKNOWN_BASE, RemoteFile
from .media_files import NOT_FETCHED, MediaFile, behind_link, media_file
from .places import Known, Tier, below_folders, mapped_link, of_that_name, tiers
from .stored_paths import is_absolute, is_foreign, is_url, unicode_forms, without_file_scheme

__all__ = ["Remux", "Resolution", "resolve", "resolve_all"]

_MOST_LISTED = 20  # places that one message names
_MOST_HINTS = 4


@dataclass(frozen=True, slots=True)
class Remux:
    """How a video is remuxed."""

    suffix: str
    """Of the new container, ``.mp4`` or ``.mkv``."""
    rate: Fraction | None = None
    """Frames per second; None for a container that has the time of each frame."""
    dropped: tuple[str, ...] = ()
    """What the new container does not get, in words; empty if it gets all."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one reference means: a URL, a file, or a problem."""

    reference: ExternalFileReference
    file: MediaFile | None = None
    url: bool = False
    problem: ExternalFilesError | None = None
    """Why there is no file; a `MissingMediaError` if it just was not found."""
    remote: RemoteFile | None = None
    """What is behind the URL, if it is to be downloaded."""
    suffix: str | None = None
    """The suffix that the media get, if that is not the one of the file."""
    searched: bool = False
    """Whether the file was found in a folder of `search`, by a part of its path."""
    remux: Remux | None = None
    """How the media get another container; None if they keep theirs."""


def resolve_all(
    references: Iterable[ExternalFileReference],
    options: MediaOptions,
    *,
    destination: Path,
    known: Mapping[tuple[str, str, int], Resolution] | None = None,
    memory: Known | None = None,
) -> list[Resolution]:
    """Find the files that many references mean, in their order, as `resolve` does for one.

    `known` has resolutions that are known already, whatever the stored path says, by `ExternalFileReference.entry`.
    """
    known = known or {}
    memory = memory or Known()
    return [
        known.get(reference.entry) or resolve(reference, options, destination=destination, memory=memory)
        for reference in references
    ]


def resolve(
    reference: ExternalFileReference,
    options: MediaOptions,
    *,
    destination: Path,
    memory: Known | None = None,
) -> Resolution:
    """Find the file that a reference means. A bad path does not raise: the problem is in the answer.

    A relative path is relative to the folder of the NWB file that holds it. In a container made in memory, whose base
    is None, it is relative to the destination, else to a search folder, else to the working directory. Of the options,
    `path_map`, `search`, those two for single objects, and `within` are used. `memory` is that of the call.
    """
    if is_url(reference.stored_path):
        return Resolution(reference, url=True)
    try:
        return _choose(reference, options, destination, memory or Known())
    except ExternalFilesError as problem:
        return Resolution(reference, problem=problem)


def _choose(
    reference: ExternalFileReference,
    options: MediaOptions,
    destination: Path,
    memory: Known,
) -> Resolution:
    path = _local_path(reference)
    nwb_folder = str(destination if reference.base is None else reference.base)
    tried: list[tuple[Path, str]] = []
    found: dict[tuple[int, int], tuple[MediaFile, bool]] = {}
    broken: list[str] = []
    path_maps = (options.path_map_of(reference.object_path), options.path_map)
    for form in unicode_forms(path):
        ranked = tiers(form, reference, options, destination, memory)
        # the other forms look alike in a message
        found = _look(ranked, path_maps, nwb_folder, memory, tried if form == path else [], broken)
        if found:
            break
    if not found:
        raise _not_found(reference, path, tried, of_that_name((path, *broken), reference, options, memory))
    if len(found) > 1:
        raise _ambiguous(reference, path, [file for file, _ in found.values()])
    ((file, searched),) = found.values()
    _check_within(file, reference, options)
    return Resolution(reference, file=file, searched=searched)


def _local_path(reference: ExternalFileReference) -> str:
    stored_path = reference.stored_path
    if not stored_path.strip():
        raise UnsafeReferenceError(
            f"{reference.where}: the path is empty; expected the path of a media file", **reference.place
        )
    if "\0" in stored_path:
        raise UnsafeReferenceError(
            f"{reference.where}: {quoted(stored_path)} has a NUL character, which no path can have", **reference.place
        )
    try:
        return without_file_scheme(stored_path)
    except ValueError as error:
        raise UnsafeReferenceError(f"{reference.where}: {quoted(stored_path)} {error}", **reference.place) from error


def _look(
    ranked: Iterable[Tier],
    path_maps: Sequence[Mapping[str, str]],
    nwb_folder: str,
    memory: Known,
    tried: list[tuple[Path, str]],
    broken: list[str],
) -> dict[tuple[int, int], tuple[MediaFile, bool]]:
    """The files in the places of `tiers`; places without a file are added to `tried`, with the reason.

    `broken` gets the paths in broken links among the places.
    """
    found: dict[tuple[int, int], tuple[MediaFile, bool]] = {}
    for tier in ranked:
        # A broken link still says the name of the video, and where it was.
        further = (place for link in broken for place in below_folders(link, tier.searched))
        places = list(dict.fromkeys((*tier.places, *further)))
        for place in places:
            file = media_file(place, memory.real_path, memory.listed_name)
            if isinstance(file, MediaFile):
                file = behind_link(file, place, nwb_folder, memory.linked_folder)
                found.setdefault(file.identity, (file, bool(tier.searched)))
                continue
            tried.append((place, file))
            if os.path.islink(place):
                broken.append(os.readlink(place))
                places += [new for new in mapped_link(place, path_maps, memory) if new not in places]
        if found and tier.final:
            break
    return found


def _check_within(file: MediaFile, reference: ExternalFileReference, options: MediaOptions) -> None:
    roots = [Path(os.path.realpath(root)) for root in options.within]
    if roots and not any(file.real.is_relative_to(root) for root in roots):
        raise UnsafeReferenceError(
            f"{reference.where}: {quoted(reference.stored_path)} is {quoted(file.real)}, which is outside "
            f"{', '.join(quoted(root) for root in roots)}",
            hint=Hint("add its folder to {within} if you trust this file"),
            **reference.place,
        )


def _not_found(
    reference: ExternalFileReference, path: str, without_file: list[tuple[Path, str]], of_that_name: Sequence[Path]
) -> ExternalFilesError:
    tried = [f"{quoted(str(place))} ({reason})" for place, reason in without_file]
    listed = tried[:_MOST_LISTED] + ([f"and {len(tried) - _MOST_LISTED} more"] if len(tried) > _MOST_LISTED else [])
    places = f"Tried: {'; '.join(listed)}" if listed else "Not searched: it is a path on another machine"
    what = f"{reference.where}: no file for {quoted(reference.stored_path)}. {places}"
    for place, reason in without_file:
        if reason is NOT_FETCHED:
            return MissingMediaError(what, hint=how_to_get(place), **reference.place)
    if any("only regular files are media" in reason for _, reason in without_file):
        return UnsafeReferenceError(what, hint="replace what is there with the media file", **reference.place)
    if of_that_name:
        more = f" and {len(of_that_name) - _MOST_HINTS} more" if len(of_that_name) > _MOST_HINTS else ""
        what += f". Files of that name: {', '.join(quoted(place) for place in of_that_name[:_MOST_HINTS])}{more}"
        hint = "if one of these is it, name its own folder with {search}, or keep the path as it is with {missing_keep}"
        return MissingMediaError(what, hint=Hint(hint), **reference.place)
    foreign = is_foreign(path)
    fixes = ["put the file there", "map its folder with {path_map}" if foreign else "name its folder with {search}"]
    if not is_absolute(reference.stored_path) and reference.base == UNKNOWN_BASE:
        fixes.append(OPENED_FROM)
    elif not is_absolute(reference.stored_path) and reference.base is not None and is_url(reference.base):
        fixes.append("download it from beside the NWB file with {urls_download}")
    return MissingMediaError(
        what, hint=Hint(", ".join([*fixes, "or keep the path as it is with {missing_keep}"])), **reference.place
    )


def _ambiguous(reference: ExternalFileReference, path: str, files: Sequence[MediaFile]) -> AmbiguousMediaError:
    choices = [_choosing(reference, path, file.path) for file in files[:_MOST_HINTS]]
    either = Spelling(" or ".join(one.python for one in choices), " or ".join(one.command_line for one in choices))
    return AmbiguousMediaError(
        f"{reference.where}: {quoted(reference.stored_path)} fits {len(files)} different files: "
        f"{', '.join(quoted(file.path) for file in files)}",
        hint=Hint("say which one is meant with {either}", either=either),
        **reference.place,
    )


def _choosing(reference: ExternalFileReference, path: str, file_path: Path) -> Spelling:
    """The option that makes a reference mean one of several files."""
    found = {place for place in below_folders(path, [file_path.parent]) if os.path.lexists(place)}
    if found == {file_path}:
        return for_objects("search_for", {reference.object_path: str(file_path.parent)})
    return for_objects("path_map_for", {reference.object_path: {path: str(file_path)}})

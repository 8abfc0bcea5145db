"""From references to a plan: which file each means, what its target is called, what stands there, what will happen.

The one way for all callers, whether the references come from a tree of builders or from a file on disk. Nothing is
changed on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from ..disk import contents
from ..errors import ExternalFilesError, MissingMediaError, TransferError
from ..naming import is_archived, is_portable_suffix
from ..nwb.files import open_nwb
from ..nwb.manifest import ManifestRow
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..options import MediaMode, MediaOptions
from ..web.remote import SCHEMES, RemoteFile, beside, scheme_of
from ..web.urls import ask_all
from .plan import RelocationPlan, make_plan
from .resolve import MediaFile, Resolution, is_absolute, is_url, media_file, resolve_all
from .targets import name_targets, nwb_stem, survey

__all__ = ["plan_references"]

_LONGEST_PATH = 4096  # characters
_MOST_OBJECTS = 5  # that one message names


def plan_references(
    references: Sequence[ExternalFileReference],
    *,
    nwb_path: Path,
    identifier: str,
    mode: MediaMode,
    options: MediaOptions,
    problems: Sequence[ExternalFilesError] = (),
    is_former: Callable[[Path], bool] = lambda folder: False,
    manifest: Sequence[ManifestRow] | None = None,
    found: Mapping[tuple[str, str, int], Resolution] | None = None,
    for_archive: bool = True,
) -> RelocationPlan:
    """Plan what happens to the media of an NWB file.

    Parameters
    ----------
    references : sequence of ExternalFileReference
        All of that file.
    nwb_path : pathlib.Path
        Where the NWB file will be, or is; its folder free of symbolic links.
    identifier : str
        The identifier of the NWB file, from which objects without an object_id are named.
    mode : MediaMode
        How media get to their targets.
    options : MediaOptions
        How they are found and named.
    problems : sequence of ExternalFilesError
        What is known already to speak against it.
    is_former : callable
        Whether a folder held the media of this NWB file before it was renamed.
    manifest : sequence of ManifestRow, optional
        What the manifest of the NWB file says now. It is kept right where there is one.
    found : mapping, optional
        What is known to be meant, whatever the text says, by object path, field and index.
    for_archive : bool
        Whether the media get names of the archive, so that it matters which suffixes that takes.

    Returns
    -------
    RelocationPlan

    Raises
    ------
    ExternalFilesError
        With all problems at once.
    """
    resolutions = resolve_all(references, options, destination=nwb_path.parent, known=found)

    def may_be_gone(resolution: Resolution) -> bool:
        """Whether an earlier run may have taken the file away: by a move, or with the folder that it lay in."""
        reference = resolution.reference
        if mode is MediaMode.MOVE or reference.base is None or is_absolute(reference.stored_path):
            return mode is MediaMode.MOVE
        if len(reference.stored_path) > _LONGEST_PATH:
            return False  # no path is that long, and each part of it would be looked up
        return is_former(Path(os.path.realpath(Path(reference.base, reference.stored_path).parent)))

    remarks = list(_same_by_bare_name(resolutions))
    unused = options.unused_patterns({reference.object_path for reference in references})
    if unused:
        remarks.append(
            f"{nwb_path}: no object with media fits {', '.join(map(repr, unused))} of search_for or path_map_for; "
            f"`nwb-extfiles ls` lists the paths of its objects"
        )
    resolutions, moved = _or_moved_before(resolutions, may_be_gone, options, nwb_path, identifier)
    if mode is not MediaMode.REFERENCE:
        resolutions, repeated = _repeated(resolutions, manifest or (), nwb_path)
        remarks += repeated
    remarks += moved
    if options.urls == "download" and mode is not MediaMode.REFERENCE:
        resolutions, unasked = _ask_servers(resolutions, options)
        remarks = [*remarks, *unasked]
    named, unnamed = name_targets(
        resolutions, options, nwb_path=nwb_path, identifier=identifier, mode=mode, is_former=is_former
    )
    plan = make_plan(
        named,
        survey(named, nwb_path, mode),
        options,
        mode,
        problems=[*problems, *unnamed],
        is_archived=is_archived if for_archive else lambda suffix: True,
    )
    rows = tuple(manifest or ()) if manifest is not None or options.manifest else None
    return replace(plan, warnings=(*plan.warnings, *remarks), manifest=rows)


def _or_moved_before(
    resolutions: list[Resolution],
    may_be_gone: Callable[[Resolution], bool],
    options: MediaOptions,
    nwb_path: Path,
    identifier: str,
) -> tuple[list[Resolution], list[str]]:
    """Find media that are gone from their old place because an earlier run moved them to this NWB file.

    The NWB file that stands at the destination tells: it names a video for the same object, field and entry, at the
    very place that a move gives it. That it is the video that the text means cannot be known, so each is told of.
    """
    missing = [
        isinstance(resolution.problem, MissingMediaError) and may_be_gone(resolution) for resolution in resolutions
    ]
    if not any(missing):
        return resolutions, []
    try:
        with open_nwb(nwb_path) as file:
            before = {_entry(was): was.stored_path for was in find_in_file(file, media_fields(options.media_fields))}
    except (OSError, ValueError, TypeError):  # there is none, or it is damaged
        return resolutions, []
    found: dict[int, Resolution] = {}
    places: set[str] = set()  # that are the own ones of some reference
    # Fields that repeat the videos of others name places of those.
    for number in sorted(range(len(resolutions)), key=lambda number: resolutions[number].reference.repeats):
        reference = resolutions[number].reference
        text = before.get(_entry(reference))
        file = media_file(nwb_path.parent / text) if text and not is_url(text) else None
        if text is None or not isinstance(file, MediaFile) or _suffix(text) != _suffix(reference.stored_path):
            continue
        (own,), _ = name_targets([Resolution(reference, file=file)], options, nwb_path=nwb_path, identifier=identifier)
        if text == str(own.target):
            places.add(text)
        elif not (reference.repeats and text in places):
            continue
        if missing[number]:
            found[number] = Resolution(reference, file=file)
    remarks = [
        f"{entry.reference.where}: {entry.reference.stored_path!r} is gone, and taken to be {str(entry.file.path)!r}, "
        f"where an earlier move has put the media of this entry; if it means another file, store the path of that in "
        f"this entry, and relocate again"
        for entry in found.values()
        if entry.file is not None
    ]
    return [found.get(number, resolution) for number, resolution in enumerate(resolutions)], remarks


def _repeated(
    resolutions: list[Resolution], manifest: Sequence[ManifestRow], nwb_path: Path
) -> tuple[list[Resolution], list[str]]:
    """Let fields that repeat the media of series share theirs, where they name them by a former path.

    A series was relocated before, and what was appended later names its video by the path that it had then. If a file
    is there, its content tells that it is the same. If none is, the manifest knows what the video was called.
    """
    own = [entry for entry in resolutions if entry.file is not None and not entry.reference.repeats]
    by_size: dict[int, dict[tuple[int, int], MediaFile]] = {}
    for owned in (entry.file for entry in own if entry.file is not None):
        by_size.setdefault(owned.size, {})[owned.identity] = owned
    row_of = {row.place: row for row in manifest}
    shared: list[Resolution] = []
    remarks: list[str] = []
    for entry in resolutions:
        reference, file = entry.reference, entry.file
        if not reference.repeats or entry.url:
            pass
        elif file is not None:
            alike = by_size.get(file.size, {})
            if file.identity not in alike and file.path.parent != nwb_path.parent / nwb_stem(nwb_path):
                same = next((other for other in alike.values() if _same_content(file, other)), file)
                entry = replace(entry, file=same)  # noqa: PLW2901
        elif isinstance(entry.problem, MissingMediaError):
            name = PureWindowsPath(reference.stored_path).name
            called = {
                other.file.identity: other.file
                for other in own
                if other.file is not None
                and (row := row_of.get(other.reference.entry)) is not None
                and (row.original_name, row.path, row.size_in_bytes)
                == (name, other.reference.stored_path, other.file.size)
            }
            if len(called) == 1:
                (known,) = called.values()
                entry = Resolution(reference, file=known)  # noqa: PLW2901
                remarks.append(
                    f"{reference.where}: {reference.stored_path[:300]!r} is gone, and taken to be {str(known.path)!r}, "
                    f"the only one that was called {name!r} by the manifest; if it means another file, store the path "
                    f"of that in this entry, and relocate again"
                )
        shared.append(entry)
    return shared, remarks


def _same_content(one: MediaFile, other: MediaFile) -> bool:
    try:
        return contents.same_content(one.real, other.real)
    except OSError:  # what cannot be read cannot be known to be the same
        return False


def _same_by_bare_name(resolutions: Sequence[Resolution]) -> Iterator[str]:
    """Warn where a file that was searched for by a part of its path serves several series, which may mean several."""
    users: dict[tuple[int, int], list[Resolution]] = {}
    for entry in resolutions:
        if entry.file is not None and entry.searched and not entry.reference.repeats:
            users.setdefault(entry.file.identity, []).append(entry)
    for entries in users.values():
        by_object = {entry.reference.object_path: entry for entry in entries}
        paths = {entry.reference.stored_path.replace("\\", "/").removeprefix("./") for entry in entries}
        file, reference = entries[0].file, entries[0].reference
        if len(by_object) < 2 or file is None or (len(paths) == 1 and "/" in paths.pop()):
            continue  # one object, or one and the same path with its folders
        others = [object_path for object_path in by_object if object_path != reference.object_path]
        shown = ", ".join(map(repr, others[:_MOST_OBJECTS])) + (", …" if len(others) > _MOST_OBJECTS else "")
        example = f"search_for={ {others[0]: 'FOLDER'}!r} in media_options"
        yield (
            f"{reference.where}: {reference.stored_path[:300]!r} and the paths in {shown} were all found as "
            f"{str(file.path)!r}; if they mean different files, name the folder of each with {example}"
        )


def _ask_servers(resolutions: list[Resolution], options: MediaOptions) -> tuple[list[Resolution], list[str]]:
    """Find out what is behind the URLs that can be fetched; warn of those that stay."""
    urls = [_url(entry) for entry in resolutions]
    answers = ask_all([url for url in urls if scheme_of(url) in SCHEMES], timeout=options.url_timeout)
    asked: list[Resolution] = []
    remarks: list[str] = []
    for entry, url in zip(resolutions, urls, strict=True):
        reference, answer = entry.reference, answers.get(url)
        if isinstance(answer, RemoteFile):
            asked.append(Resolution(reference, url=True, remote=answer))
        elif answer is not None:
            asked.append(Resolution(reference, problem=_unanswered(reference, url, answer)))
        else:
            asked.append(entry)
            if entry.url:
                remarks.append(
                    f"{reference.where}: {reference.stored_path[:200]!r} stays as it is: only {', '.join(SCHEMES)} "
                    f"URLs are downloaded"
                )
    return asked, remarks


def _url(resolution: Resolution) -> str:
    """The URL that a reference means: its text, or what that is beside an NWB file read from a URL; empty if none."""
    text, base = resolution.reference.stored_path, resolution.reference.base
    if resolution.url:
        return text
    if base is None or not is_url(base) or is_absolute(text) or not isinstance(resolution.problem, MissingMediaError):
        return ""
    return beside(f"{base}/", text) or ""


def _unanswered(reference: ExternalFileReference, url: str, error: Exception) -> ExternalFilesError:
    kind = MissingMediaError if isinstance(error, FileNotFoundError) else TransferError
    problem = kind(
        f"{reference.where}: {url!r} cannot be downloaded: {error}",
        hint='look whether it opens in a browser, or leave URLs as they are with urls="keep" in media_options',
        **reference.place,
    )
    problem.__cause__ = error
    return problem


def _entry(reference: ExternalFileReference) -> tuple[str, str, int]:
    return reference.object_id or reference.object_path, reference.field, reference.index


def _suffix(text: str) -> str:
    suffix = PureWindowsPath(text).suffix.lower()
    return suffix if is_portable_suffix(suffix) else ""

"""From references to a plan: which file each means, the name of its target, what is there now, what will happen.

All callers go this way, whether the references come from a tree of builders or from a file on disk. Nothing is changed
on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from ..disk import contents
from ..errors import ExternalFilesError, MissingMediaError
from ..hints import Hint, Message, for_objects, quoted
from ..naming import is_archived, is_portable_suffix
from ..nwb.files import open_nwb
from ..nwb.manifest import ManifestRow
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..options import MediaMode, MediaOptions
from .containers import Remuxer, is_to_be_remuxed, with_containers
from .decisions import make_plan
from .downloads import ask_servers
from .media_files import MediaFile, media_file
from .modes import fallbacks_after, first_possible
from .places import Known
from .plan import RelocationPlan
from .resolve import Resolution, resolve_all
from .stored_paths import is_absolute, is_url
from .targets import name_targets, nwb_stem, survey

__all__ = ["plan_references"]

_LONGEST_PATH = 4096  # characters
_MOST_OBJECTS = 5  # that one message names


def plan_references(
    references: Sequence[ExternalFileReference],
    *,
    nwb_path: Path,
    identifier: str,
    modes: Sequence[MediaMode],
    options: MediaOptions,
    problems: Sequence[ExternalFilesError] = (),
    is_former: Callable[[Path], bool] = lambda folder: False,
    manifest: Sequence[ManifestRow] | None = None,
    found: Mapping[tuple[str, str, int], Resolution] | None = None,
    for_archive: bool = True,
    remuxer: Remuxer | None = None,
    memory: Known | None = None,
) -> RelocationPlan:
    """Plan what happens to the media of an NWB file; raises all problems at once.

    Parameters
    ----------
    references : sequence of ExternalFileReference
        All of that file.
    nwb_path : pathlib.Path
        Where the NWB file is or will be, without symbolic links in its folder.
    identifier : str
        The identifier of the NWB file, from which objects without an object_id are named.
    modes : sequence of MediaMode
        How media get to their targets: in the first of these that is possible for their folders, and single files in
        the next that is possible for them. Where some are remuxed, only a copy is possible.
    options : MediaOptions
        How they are found and named.
    problems : sequence of ExternalFilesError
        Problems that were found before.
    is_former : callable
        Whether a folder held the media of this NWB file before it was renamed.
    manifest : sequence of ManifestRow, optional
        The manifest that the NWB file has now, which is kept up to date.
    found : mapping, optional
        Resolutions that are known already, whatever the stored path says, by object path, field and index.
    for_archive : bool
        Whether the media get names for the archive, so that it matters which suffixes it accepts.
    remuxer : Remuxer, optional
        Remuxes videos whose suffix the archive does not accept.
    memory : Known, optional
        What is known in a call for several NWB files.
    """
    memory = memory or Known()
    resolutions = resolve_all(references, options, destination=nwb_path.parent, known=found, memory=memory)
    if remuxer is not None and MediaMode.COPY in modes and any(map(is_to_be_remuxed, resolutions)):
        modes = [MediaMode.COPY]  # the only one that makes new files
    mode = first_possible(modes, (entry.file for entry in resolutions if entry.file is not None), nwb_path)
    fallbacks = fallbacks_after(mode, modes)

    def may_be_moved(resolution: Resolution) -> bool:
        """Whether an earlier run may have moved the file away, itself or with its folder."""
        reference = resolution.reference
        if mode is MediaMode.MOVE or reference.base is None or is_absolute(reference.stored_path):
            return mode is MediaMode.MOVE
        if len(reference.stored_path) > _LONGEST_PATH:
            return False  # no path is that long, and each of its parts would be looked up
        return is_former(Path(os.path.realpath(Path(reference.base, reference.stored_path).parent)))

    warnings: list[str] = [*_one_file_for_several(resolutions)]
    unused = options.unused_patterns({reference.object_path for reference in references})
    if unused:
        what = f"{nwb_path}: no object with media fits {', '.join(map(repr, unused))}"
        hint = Hint("correct {search_for} or {path_map_for}; `nwb-extfiles ls` lists the paths of its objects")
        warnings.append(Message(what, hint))
    resolutions, moved = _moved_before(resolutions, may_be_moved, options, nwb_path, identifier)
    if mode is not MediaMode.REFERENCE:
        resolutions, repeated = _repeated(resolutions, manifest or (), nwb_path)
        warnings += repeated
    warnings += moved
    if options.urls == "download" and mode is not MediaMode.REFERENCE:
        resolutions, kept = ask_servers(resolutions, options)
        warnings += kept
    if remuxer is not None:
        resolutions, lost = with_containers(resolutions, remuxer)
        warnings += lost
    named, unnamed = name_targets(
        resolutions, options, nwb_path=nwb_path, identifier=identifier, mode=mode, is_former=is_former
    )
    plan = make_plan(
        named,
        survey(named, nwb_path, mode, remuxer, fallbacks),
        options,
        mode,
        problems=[*problems, *unnamed],
        is_archived=is_archived if for_archive else lambda suffix: True,
    )
    rows = tuple(manifest or ()) if manifest is not None or options.manifest else None
    return replace(
        plan,
        warnings=(*plan.warnings, *warnings),
        manifest=rows,
        fallbacks=fallbacks,
        unused_prefixes=memory.unused_prefixes(options),
    )


def _taken_to_be(reference: ExternalFileReference, file: MediaFile, why: str) -> Message:
    return Message(
        f"{reference.where}: {reference.stored_path[:300]!r} no longer exists, and is taken to be {quoted(file.path)}, "
        f"{why}",
        "if this entry means another file, store the path of that file in it, and relocate again",
    )


def _moved_before(
    resolutions: list[Resolution],
    may_be_moved: Callable[[Resolution], bool],
    options: MediaOptions,
    nwb_path: Path,
    identifier: str,
) -> tuple[list[Resolution], list[Message]]:
    """Find media that are missing because an earlier run moved them to this NWB file.

    The NWB file that is at the destination now has a path for the same object, field and entry, and it is the one that
    a move gives. That the path means the same video is not certain, so there is a warning for each.
    """
    missing = [isinstance(entry.problem, MissingMediaError) and may_be_moved(entry) for entry in resolutions]
    if not any(missing):
        return resolutions, []
    try:
        with open_nwb(nwb_path) as file:
            before = {_entry(was): was.stored_path for was in find_in_file(file, media_fields(options.media_fields))}
    except (OSError, ValueError, TypeError):  # there is none, or it is damaged
        return resolutions, []
    found: dict[int, Resolution] = {}
    warnings: list[Message] = []
    own_paths: set[str] = set()  # that some reference has, and does not share
    # Last, fields that repeat the videos of others, because they have the paths of those.
    for number in sorted(range(len(resolutions)), key=lambda number: resolutions[number].reference.repeats):
        reference = resolutions[number].reference
        path = before.get(_entry(reference))
        file = media_file(nwb_path.parent / path) if path and not is_url(path) else None
        if path is None or not isinstance(file, MediaFile) or _suffix(path) != _suffix(reference.stored_path):
            continue
        (own,), _ = name_targets([Resolution(reference, file=file)], options, nwb_path=nwb_path, identifier=identifier)
        if path == str(own.target):
            own_paths.add(path)
        elif not (reference.repeats and path in own_paths):
            continue
        if missing[number]:
            found[number] = Resolution(reference, file=file)
            warnings.append(_taken_to_be(reference, file, "where an earlier move put the media of this entry"))
    return [found.get(number, resolution) for number, resolution in enumerate(resolutions)], warnings


def _repeated(
    resolutions: list[Resolution], manifest: Sequence[ManifestRow], nwb_path: Path
) -> tuple[list[Resolution], list[Message]]:
    """Let fields that repeat the media of series share them, if they name them by a former path.

    A series was relocated, and an object that was appended later names its video by the path before. If that file is
    still there, it is recognized by its content; if not, by the original name in the manifest.
    """
    own = [(entry, entry.file) for entry in resolutions if entry.file is not None and not entry.reference.repeats]
    by_size: dict[int, dict[tuple[int, int], MediaFile]] = {}
    for _, file in own:
        by_size.setdefault(file.size, {})[file.identity] = file
    row_of = {row.place: row for row in manifest}
    by_name: dict[str, dict[tuple[int, int], MediaFile]] = {}
    for entry, file in own:
        row = row_of.get(entry.reference.entry)
        if row is not None and (row.path, row.size_in_bytes) == (entry.reference.stored_path, file.size):
            by_name.setdefault(row.original_name, {})[file.identity] = file
    shared: list[Resolution] = []
    warnings: list[Message] = []
    for resolution in resolutions:
        reference, found = resolution.reference, resolution.file
        new = resolution
        if reference.repeats and found is not None and not resolution.url:
            alike = by_size.get(found.size, {})
            if found.identity not in alike and found.path.parent != nwb_path.parent / nwb_stem(nwb_path):
                same = next((other for other in alike.values() if _same_content(found, other)), found)
                new = replace(resolution, file=same)
        elif reference.repeats and isinstance(resolution.problem, MissingMediaError):
            name = PureWindowsPath(reference.stored_path).name
            files = [*by_name.get(name, {}).values()]
            if len(files) == 1:
                new = Resolution(reference, file=files[0])
                why = f"the only one whose original name in the manifest is {name!r}"
                warnings.append(_taken_to_be(reference, files[0], why))
        shared.append(new)
    return shared, warnings


def _same_content(one: MediaFile, other: MediaFile) -> bool:
    try:
        return contents.same_content(one.real, other.real)
    except OSError:  # what cannot be read cannot be known to be the same
        return False


def _one_file_for_several(resolutions: Sequence[Resolution]) -> Iterator[Message]:
    """Warn if a file that was searched for by a part of its path is that of several series, which may mean several."""
    users: dict[tuple[int, int], list[Resolution]] = {}
    for entry in resolutions:
        if entry.file is not None and entry.searched and not entry.reference.repeats:
            users.setdefault(entry.file.identity, []).append(entry)
    for entries in users.values():
        objects = dict.fromkeys(entry.reference.object_path for entry in entries)
        paths = {entry.reference.stored_path.replace("\\", "/").removeprefix("./") for entry in entries}
        file, reference = entries[0].file, entries[0].reference
        if len(objects) < 2 or file is None or (len(paths) == 1 and "/" in paths.pop()):
            continue  # one object, or one and the same path with its folders
        others = [object_path for object_path in objects if object_path != reference.object_path]
        listed = ", ".join(map(repr, others[:_MOST_OBJECTS])) + (", …" if len(others) > _MOST_OBJECTS else "")
        yield Message(
            f"{reference.where}: {reference.stored_path[:300]!r} and the paths in {listed} were all found as "
            f"{quoted(file.path)}",
            Hint(
                "if they mean different files, name the folder of each with {example}",
                example=for_objects("search_for", {others[0]: "FOLDER"}),
            ),
        )


def _entry(reference: ExternalFileReference) -> tuple[str, str, int]:
    return reference.object_id or reference.object_path, reference.field, reference.index


def _suffix(path: str) -> str:
    suffix = PureWindowsPath(path).suffix.lower()
    return suffix if is_portable_suffix(suffix) else ""

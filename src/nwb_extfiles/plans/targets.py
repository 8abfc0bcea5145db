"""Where media will be: the name of each target, and what is there now.

`name_targets` asks only how folders spell names; `survey` looks at the destination and does not change it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..disk import contents, filesystem, links
from ..disk.annex import is_annex_object, is_annex_pointer
from ..disk.in_use import is_in_use
from ..disk.spelling import Spelling
from ..errors import ExternalFilesError, UnsafeReferenceError
from ..hints import quoted
from ..naming import is_portable_suffix, is_showable, is_uuid, unportable
from ..nwb.references import ExternalFileReference
from ..options import MediaMode, MediaOptions
from .containers import Remuxer
from .media_files import MediaFile
from .modes import is_possible, own_modes
from .resolve import Resolution

__all__ = [
    "CORRECT_NAMING",
    "FETCHED",
    "FORMER",
    "STAGED",
    "STAGING_PREFIX",
    "Destination",
    "Named",
    "TargetState",
    "case_folded",
    "dandiset_above",
    "name_targets",
    "naming_id",
    "nwb_stem",
    "survey",
]

STAGED, FETCHED = (f".nwb-extfiles-01234567/{name}" for name in (f"whole-{16 * 'x'}", f"fetch-{32 * 'x'}"))
"""Paths as long as those of copies and downloads that are staged, relative to the folder of the NWB file."""
FORMER = ".nwb-extfiles-01234567/former"
"""Below a path as long as this the former content of targets is kept while they are replaced."""
STAGING_PREFIX = ".nwb-extfiles-"
"""How names of staging folders begin; DANDI skips names that begin with a dot."""
CORRECT_NAMING = "correct your naming function"
_LONGEST_NAME = 255  # bytes
# The namespace of ids for objects of old files that have none: an object gets the same id in every run.
_NO_OBJECT_ID = uuid.UUID("6f0b3c63-6d5a-4a35-8d07-5f6f5b1f4c1e")


class TargetState(StrEnum):
    """What is at the place of a target before the transfer."""

    ABSENT = "absent"
    SAME = "same"
    """The same content; reused."""
    LINK = "link"
    """A symbolic link to the same content, in a mode that makes a file; it is replaced."""
    BROKEN = "broken"
    """A symbolic link to nothing, such as one to a file that was moved away. It is replaced: there is no content that
    would be lost. If it leads to a disk that is not mounted, that disk keeps its file, and the call has found one for
    this very reference: at its path, in `search` or `path_map` by the name in the link, or by its content."""
    OTHER = "other"
    """Other content, or something that is not a regular file."""
    FOLDER = "folder"
    """A folder, which is never replaced."""
    UNKNOWN = "unknown"
    """A file; whether it has the content behind a URL is known after the download."""


@dataclass(frozen=True, slots=True)
class Destination:
    """What is known of the place where a plan will be carried out."""

    nwb_path: Path
    """The NWB file, without symbolic links in its folder."""
    targets: Mapping[PurePosixPath, TargetState]
    outside: frozenset[PurePosixPath] = frozenset()
    """Targets with a symbolic link or a file where a folder of their path should be."""
    devices: frozenset[int] = frozenset()
    """Devices whose files can have hard links here: its own, and on an overlay others."""
    free: int | None = None
    """Free space in bytes; None if it does not matter."""
    longest_path: int | None = None
    """Characters that a path may have; None if the system sets no bound."""
    annexed: frozenset[tuple[int, int]] = frozenset()
    """Files in the object store of a git-annex repository, if hard links are to be made."""
    cannot: frozenset[MediaMode] = frozenset()
    """Modes that need links that the file system does not have."""
    own_modes: Mapping[tuple[int, int], MediaMode] = field(default_factory=dict)
    """Files that get here in another mode than the others, by device and inode."""
    lacks_privilege: bool = False
    """Whether Windows lets this user make no symbolic links, which the mode of the plan needs."""
    in_use: frozenset[Path] = frozenset()
    """Files that another program has open so that they cannot be read, renamed or replaced as the plan needs it."""


@dataclass(frozen=True, slots=True)
class Named:
    """A resolution, and the target that its reference gets unless it shares that of another one."""

    resolution: Resolution
    target: PurePosixPath | None
    renames_folder: bool = False
    """Whether the file is, under the right name, in the media folder of a former name of the NWB file."""


def name_targets(
    resolutions: Sequence[Resolution],
    options: MediaOptions,
    *,
    nwb_path: Path,
    identifier: str,
    mode: MediaMode = MediaMode.SYMLINK,
    is_former: Callable[[Path], bool] = lambda folder: False,
) -> tuple[list[Named], list[ExternalFilesError]]:
    """Name the target of each reference that means a file; gives problems with names apart.

    Objects without an object_id are named by the `identifier` of the NWB file. With mode ``"reference"`` media have no
    targets. `is_former` says whether a folder held the media of this NWB file before it was renamed.
    """
    named: list[Named] = []
    problems: list[ExternalFilesError] = []
    spelling = Spelling()
    for resolution in resolutions:
        target, suffix = None, _suffix(resolution)
        if suffix is not None and mode is not MediaMode.REFERENCE:
            try:
                target = _target(resolution.reference, suffix, options, nwb_path, identifier)
                target = spelling.relative(nwb_path.parent, target)  # "A/…" is "a/…" where that is one folder
            except ExternalFilesError as problem:
                problems.append(problem)
        named.append(
            Named(resolution, target, target is not None and _renames_folder(resolution.file, target, is_former))
        )
    return named, problems


def _suffix(resolution: Resolution) -> str | None:
    """The suffix that media get; None if there are no media to be named."""
    if resolution.suffix is not None:
        return resolution.suffix.lower()
    if resolution.file is not None:
        return resolution.file.path.suffix.lower()
    return resolution.remote.suffix if resolution.remote is not None else None


def _renames_folder(file: MediaFile | None, target: PurePosixPath, is_former: Callable[[Path], bool]) -> bool:
    return file is not None and file.path.name == target.name and is_former(file.path.parent)


def _target(
    reference: ExternalFileReference, suffix: str, options: MediaOptions, nwb_path: Path, identifier: str
) -> PurePosixPath:
    target = PurePosixPath(
        options.naming(
            nwb_stem=nwb_stem(nwb_path),
            object_id=naming_id(reference, identifier),
            field=reference.field,
            index=reference.index,
            suffix=suffix if is_portable_suffix(suffix) else "",
        )
    )
    problem = _why_not_a_target(target, nwb_path)
    if problem is not None:
        reason, hint = problem
        raise UnsafeReferenceError(
            f"{reference.where}: its media would be {quoted(target)} below {quoted(nwb_path.parent)}, but {reason}",
            hint=hint,
            **reference.place,
        )
    return target


def naming_id(reference: ExternalFileReference, identifier: str) -> str:
    """The id to name media by; if an old file has none, it is made from what does not change."""
    if reference.object_id is None:
        return str(uuid.uuid5(_NO_OBJECT_ID, f"{identifier}\0{reference.object_path}"))
    if is_uuid(reference.object_id):
        return reference.object_id
    raise UnsafeReferenceError(
        f"{reference.where}: its object_id {reference.object_id[:80]!r} is not a UUID, so no file can be named by it",
        hint="give the object a new id with generate_new_id() and export it with nwbfile=",
        **reference.place,
    )


def _why_not_a_target(target: PurePosixPath, nwb_path: Path) -> tuple[str, str] | None:
    """What is wrong with a target, and what to do; None if nothing is."""
    path = str(target)
    if (
        not target.parts
        or target.is_absolute()
        or ".." in target.parts
        or "\\" in path
        or "\0" in path
        or PureWindowsPath(path).drive
    ):
        return "that is not a path below that folder", CORRECT_NAMING
    if target.parts[0].startswith(STAGING_PREFIX):
        return "such names are those of staging folders", CORRECT_NAMING
    if target.parts[0].casefold() == nwb_path.name.casefold():
        return "that is the NWB file itself", "give the NWB file a name with .nwb"
    if not is_showable(path) or path.encode("utf-8", "replace") != os.fsencode(path):
        return "an NWB file cannot store such a path", "give the NWB file a name in UTF-8 that can be printed"
    reason = next(filter(None, map(unportable, target.parts)), None) if os.name == "nt" else None
    if reason is not None:
        own = target.parts[0] == nwb_stem(nwb_path) and unportable(target.parts[0]) is not None
        return reason, "give the NWB file another name" if own else CORRECT_NAMING
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in target.parts):
        return f"file names have at most {_LONGEST_NAME} bytes", CORRECT_NAMING
    return None


def case_folded(target: PurePosixPath) -> str:
    """A key that is equal for targets which Windows and macOS take for one file."""
    return str(target).casefold()


def nwb_stem(nwb_path: Path) -> str:
    """Name of an NWB file or Zarr store without its suffixes: ``x`` for ``x.nwb`` and ``x.nwb.zarr``."""
    name = nwb_path.name.removesuffix(".zarr")
    if name.endswith(".nwb"):
        return name.removesuffix(".nwb")
    return PurePosixPath(name).stem if name == nwb_path.name else name


def dandiset_above(nwb_path: Path) -> Path | None:
    """The root of the dandiset that an NWB file is in: the nearest folder above it with a ``dandiset.yaml``."""
    return next((folder for folder in nwb_path.parents if (folder / "dandiset.yaml").is_file()), None)


def survey(
    named: Sequence[Named],
    nwb_path: Path,
    mode: MediaMode,
    remuxer: Remuxer | None = None,
    fallbacks: Sequence[MediaMode] = (),
) -> Destination:
    """Look at what is where the targets will be.

    `fallbacks` are for files that cannot get there in the `mode`. Files of equal size are compared byte by byte,
    remuxed videos by their frames. Nothing on disk is changed, except that links are tried under a temporary name that
    is removed at once.
    """
    if mode is MediaMode.REFERENCE:
        return Destination(nwb_path, {})
    folder = nwb_path.parent
    targets: dict[PurePosixPath, TargetState] = {}
    outside: set[PurePosixPath] = set()
    has_no_folder = cache(partial(_has_no_folder, folder))  # media are many, their folders few
    for entry in named:
        file, remote = entry.resolution.file, entry.resolution.remote
        if entry.target is None or entry.target in targets or (file is None and remote is None):
            continue
        targets[entry.target] = _state(folder / entry.target, entry.resolution, mode, remuxer)
        if has_no_folder(entry.target.parent):
            outside.add(entry.target)
    existing = filesystem.nearest_folder(folder)
    device, free = os.stat(existing).st_dev, filesystem.free_bytes(existing)
    files = {entry.resolution.file.identity: entry.resolution.file for entry in named if entry.resolution.file}
    clones = (
        mode.makes_copies
        and not any(entry.resolution.remux for entry in named)
        and sum(file.size for file in files.values()) > free
        and all(contents.can_clone(file.real, existing) for file in files.values())
    )
    hard_linked = files.values() if mode is MediaMode.HARDLINK else ()
    there = {target for target, state in targets.items() if state is TargetState.SAME}
    wanted = [entry.resolution.file for entry in named if entry.target not in there and entry.resolution.file]
    apart = own_modes(mode, fallbacks, wanted, nwb_path)
    wanted = [file for file in wanted if file.identity not in apart]
    devices = {device}
    if mode in (MediaMode.HARDLINK, MediaMode.MOVE):
        devices |= _linkable(wanted, device, existing)
    return Destination(
        nwb_path,
        targets,
        frozenset(outside),
        frozenset(devices),
        None if clones else free,
        filesystem.longest_path(),
        frozenset(file.identity for file in hard_linked if is_annex_object(file.real)),
        _cannot(mode, existing, wanted) if wanted else frozenset(),
        apart,
        bool(wanted) and mode is MediaMode.SYMLINK and links.lacks_privilege(existing),
        frozenset(_in_use(named, targets, folder, mode)),
    )


def _in_use(
    named: Sequence[Named], targets: Mapping[PurePosixPath, TargetState], folder: Path, mode: MediaMode
) -> Iterator[Path]:
    """The files that other programs have open, of those that are read or leave their place."""
    for entry in named:
        file, state = entry.resolution.file, targets.get(entry.target) if entry.target is not None else None
        if state is TargetState.OTHER and is_in_use(folder / str(entry.target), goes=True):
            yield folder / str(entry.target)
        # a hard link to a file that is open cannot be renamed either
        goes = mode in (MediaMode.HARDLINK, MediaMode.MOVE) or entry.renames_folder
        is_link = mode is MediaMode.SYMLINK and not goes
        if file is not None and state is not TargetState.SAME and not is_link and is_in_use(file.real, goes=goes):
            yield file.real


def _linkable(wanted: Sequence[MediaFile], device: int, folder: Path) -> set[int]:
    """Other devices from which a hard link can be made; tried with one file of each."""
    one_of_each = {file.identity[0]: file.real for file in wanted if file.identity[0] != device}
    return {other for other, real in one_of_each.items() if links.can_link(real, folder)}


def _cannot(mode: MediaMode, folder: Path, wanted: Sequence[MediaFile]) -> frozenset[MediaMode]:
    """The modes that are impossible in a folder; empty if that of the plan is possible."""
    if mode is MediaMode.REFLINK:
        return frozenset() if is_possible(mode, wanted, folder) else frozenset({mode})
    tests = {MediaMode.SYMLINK: links.has_symlinks, MediaMode.HARDLINK: links.has_hard_links}
    if mode not in tests or tests[mode](folder):
        return frozenset()
    return frozenset({mode, *(other for other, has in tests.items() if other is not mode and not has(folder))})


def _has_no_folder(folder: Path, below: PurePosixPath) -> bool:
    """Whether something other than a folder is where a folder below this one, or one above that, should be."""
    places = (folder / part for part in (below, *below.parents) if part.parts)
    return any(os.path.lexists(place) and not filesystem.is_folder(place) for place in places)


def _is_broken_link(place: Path) -> bool:
    """Whether a symbolic link leads to nothing; one of git-annex leads to content, which `git annex get` fetches."""
    try:
        os.stat(place)
    except FileNotFoundError:
        return place.is_symlink() and not is_annex_pointer(place)
    except OSError:  # a folder that cannot be entered, or a loop
        return False
    return False


def _state(place: Path, wanted: Resolution, mode: MediaMode, remuxer: Remuxer | None) -> TargetState:
    file, remote = wanted.file, wanted.remote
    if not os.path.lexists(place):
        return TargetState.ABSENT
    if _is_broken_link(place):
        return TargetState.BROKEN
    if place.is_dir():
        return TargetState.FOLDER
    if not place.is_file() or (file is None and place.is_symlink()):
        return TargetState.OTHER
    try:
        if file is not None and wanted.remux is not None and remuxer is not None:
            is_same = remuxer.is_made_of(place, file.real, wanted.remux)
        elif file is not None:
            is_same = contents.same_content(place, file.real)
        elif remote is None or (remote.size is not None and place.stat().st_size != remote.size):
            is_same = False
        elif remote.checksums:
            is_same = not contents.wrong_checksums(place, remote.checksums)
        else:
            return TargetState.UNKNOWN
    except OSError:  # what cannot be read cannot be known to be the same
        is_same = False
    if not is_same:
        return TargetState.OTHER
    return TargetState.LINK if place.is_symlink() and mode is not MediaMode.SYMLINK else TargetState.SAME

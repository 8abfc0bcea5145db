"""What a relocation will do, decided before anything is touched.

Pure: `name_targets` and `make_plan` take what was found out about sources and destination and give a
`RelocationPlan`, or all the reasons why there can be none. `survey` looks at the destination for them, and changes
nothing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath

from . import filesystem
from .errors import (
    ExternalFilesError,
    MediaExistsError,
    MissingMediaError,
    RelocationRefusedError,
    UnsafeReferenceError,
    combine,
)
from .naming import is_portable_suffix, is_uuid
from .options import MediaMode, MediaOptions
from .references import ExternalFileReference
from .resolve import MediaFile, Resolution, is_url

__all__ = ["Action", "Destination", "Relocation", "RelocationPlan", "make_plan", "name_targets", "survey"]

STAGING_PREFIX = ".nwb-extfiles-"
"""How the names of what is staged begin; DANDI passes over names with a dot."""
# Ids for objects of old files that have none: the same object gets the same name in every run.
_NO_OBJECT_ID = uuid.UUID("6f0b3c63-6d5a-4a35-8d07-5f6f5b1f4c1e")


class Action(StrEnum):
    """What happens to the media of one reference."""

    TRANSFER = "transfer"
    """The file gets to the target, in the mode of the plan."""
    DUPLICATE = "duplicate"
    """The target becomes a further name of a file that another reference transfers."""
    SHARE = "share"
    """The text names the target of another reference; no file of its own."""
    REUSE = "reuse"
    """The target is there already, with the right content."""
    POINT = "point"
    """The file stays; the text becomes relative to the new NWB file."""
    KEEP = "keep"
    """The text stays: a URL, or a file that was not found."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """What happens to one reference."""

    reference: ExternalFileReference
    action: Action
    text: str
    """The text that the new NWB file holds."""
    source: MediaFile | None = None
    """The file that the reference means; None for `Action.KEEP`."""
    target: PurePosixPath | None = None
    """Where the media will be, relative to the folder of the NWB file; None where they stay."""
    replaces: bool = False
    """Whether something stands at the target that gives way."""


@dataclass(frozen=True, slots=True)
class RelocationPlan:
    """All that a relocation will do, or has done."""

    nwb_path: Path
    """The NWB file to be written."""
    mode: MediaMode
    relocations: tuple[Relocation, ...]
    """One for each reference, in the order of the file."""
    warnings: tuple[str, ...] = ()

    @property
    def texts(self) -> dict[tuple[str, str, int], str]:
        """New text by object path, field and index."""
        return {
            (entry.reference.object_path, entry.reference.field, entry.reference.index): entry.text
            for entry in self.relocations
        }

    @property
    def media_bytes(self) -> int:
        """Size in bytes of all files that get to a target, whether copied or linked."""
        return sum(entry.source.size for entry in self.relocations if entry.action is Action.TRANSFER and entry.source)

    def joined_to(self, earlier: RelocationPlan | None) -> RelocationPlan:
        """One plan of two for the same NWB file, the earlier one first."""
        if earlier is None:
            return self
        return RelocationPlan(
            self.nwb_path,
            self.mode,
            (*earlier.relocations, *self.relocations),
            (*earlier.warnings, *self.warnings),
        )


class TargetState(StrEnum):
    """What stands at the place of a target before the transfer."""

    ABSENT = "absent"
    SAME = "same"
    """The same content; reused."""
    LINK = "link"
    """A symbolic link to the same content, where the mode makes a file of its own; gives way to it."""
    OTHER = "other"
    """Other content, or no regular file."""


@dataclass(frozen=True, slots=True)
class Destination:
    """What was found out about the place where a plan shall be carried out."""

    nwb_path: Path
    """The NWB file, its folder free of symbolic links."""
    targets: Mapping[PurePosixPath, TargetState]
    outside: frozenset[PurePosixPath] = frozenset()
    """Targets whose folder is, or lies behind, a symbolic link or a file."""
    device: int | None = None
    """Device of the file system, to know whether hard links can be made."""
    free: int | None = None
    """Room in bytes; None if it need not be known."""
    longest_path: int | None = None
    """Characters that a path may have; None if the system sets no bound."""


@dataclass(frozen=True, slots=True)
class Named:
    """A resolution, and the target that its reference would have on its own."""

    resolution: Resolution
    target: PurePosixPath | None


def name_targets(
    resolutions: Sequence[Resolution],
    options: MediaOptions,
    *,
    nwb_path: Path,
    identifier: str,
    mode: MediaMode = MediaMode.SYMLINK,
) -> tuple[list[Named], list[ExternalFilesError]]:
    """Name the target of each reference that means a file.

    Parameters
    ----------
    resolutions : sequence of Resolution
        What the references mean.
    options : MediaOptions
        Of which `naming` is used.
    nwb_path : pathlib.Path
        The NWB file to be written.
    identifier : str
        The identifier of the NWB file, from which objects without an object_id are named.
    mode : MediaMode
        How media get there; none has a target where they stay.

    Returns
    -------
    list of Named, list of ExternalFilesError
        One for each resolution in order, and what speaks against a name.
    """
    named: list[Named] = []
    problems: list[ExternalFilesError] = []
    for resolution in resolutions:
        target = None
        if resolution.file is not None and mode is not MediaMode.REFERENCE:
            try:
                target = _target(resolution.reference, resolution.file, options, nwb_path, identifier)
            except ExternalFilesError as problem:
                problems.append(problem)
        named.append(Named(resolution, target))
    return named, problems


def _target(
    reference: ExternalFileReference, file: MediaFile, options: MediaOptions, nwb_path: Path, identifier: str
) -> PurePosixPath:
    suffix = file.path.suffix.lower()
    target = PurePosixPath(
        options.naming(
            nwb_stem=nwb_stem(nwb_path),
            object_id=_object_id(reference, identifier),
            field=reference.field,
            index=reference.index,
            suffix=suffix if is_portable_suffix(suffix) else "",
        )
    )
    reason = _why_no_place(target, nwb_path)
    if reason is not None:
        raise UnsafeReferenceError(
            f"{reference.where}: its media would be {str(target)!r} below {str(nwb_path.parent)!r}, but {reason}",
            **reference.place,
        )
    return target


def _object_id(reference: ExternalFileReference, identifier: str) -> str:
    """The id to name media by; made from what does not change where an old file has none."""
    if reference.object_id is None:
        return str(uuid.uuid5(_NO_OBJECT_ID, f"{identifier}\0{reference.object_path}"))
    if is_uuid(reference.object_id):
        return reference.object_id
    raise UnsafeReferenceError(
        f"{reference.where}: its object_id {reference.object_id[:80]!r} is no UUID, so no file can be named by it; "
        f"give the object a new id with generate_new_id() and export it with nwbfile=",
        **reference.place,
    )


def _why_no_place(target: PurePosixPath, nwb_path: Path) -> str | None:
    """What speaks against a target; None if nothing does."""
    text = str(target)
    if (
        not target.parts
        or target.is_absolute()
        or ".." in target.parts
        or "\\" in text
        or "\0" in text
        or PureWindowsPath(text).drive
    ):
        return "that is no path below that folder; mend the naming"
    if target.parts[0].startswith(STAGING_PREFIX):
        return "names that begin like that are used while files are staged; mend the naming"
    if target.parts[0].casefold() == nwb_path.name.casefold():
        return "that is the NWB file itself; give the NWB file a name with .nwb"
    if not text.isprintable() or text.encode("utf-8", "replace") != os.fsencode(text):
        return "an NWB file can hold no such text; give the NWB file a name in UTF-8 that can be printed"
    return None


def nwb_stem(nwb_path: Path) -> str:
    """Name of an NWB file or Zarr store without its suffixes: ``x`` for ``x.nwb`` and ``x.nwb.zarr``."""
    name = nwb_path.name.removesuffix(".zarr")
    if name.endswith(".nwb"):
        return name.removesuffix(".nwb")
    return PurePosixPath(name).stem if name == nwb_path.name else name


def survey(named: Sequence[Named], nwb_path: Path, mode: MediaMode) -> Destination:
    """Look at what stands where the targets shall be.

    Parameters
    ----------
    named : sequence of Named
        Sources and targets.
    nwb_path : pathlib.Path
        The NWB file to be written, its folder free of symbolic links.
    mode : MediaMode
        How the media will get there.

    Returns
    -------
    Destination
        Nothing on disk is changed. Files of equal size are compared byte by byte.
    """
    if mode is MediaMode.REFERENCE:
        return Destination(nwb_path, {})
    folder = nwb_path.parent
    targets: dict[PurePosixPath, TargetState] = {}
    outside: set[PurePosixPath] = set()
    for entry in named:
        if entry.target is None or entry.resolution.file is None or entry.target in targets:
            continue
        if _leaves(folder, entry.target):
            outside.add(entry.target)
        targets[entry.target] = _state(folder / entry.target, entry.resolution.file, mode)
    existing = filesystem.nearest_folder(folder)
    device, free = os.stat(existing).st_dev, filesystem.free_bytes(existing)
    files = {entry.resolution.file.identity: entry.resolution.file for entry in named if entry.resolution.file}
    clones = (
        mode is MediaMode.COPY
        and sum(file.size for file in files.values()) > free
        and all(filesystem.can_clone(file.real, existing) for file in files.values())
    )
    return Destination(
        nwb_path, targets, frozenset(outside), device, None if clones else free, filesystem.longest_path()
    )


def _leaves(folder: Path, target: PurePosixPath) -> bool:
    """Whether a folder on the way to the target is something else than a folder."""
    place = folder
    for part in target.parts[:-1]:
        place = place / part
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            return True
    return False


def _state(place: Path, source: MediaFile, mode: MediaMode) -> TargetState:
    if not os.path.lexists(place):
        return TargetState.ABSENT
    if not place.is_file():
        return TargetState.OTHER
    try:
        if not filesystem.same_content(place, source.real):
            return TargetState.OTHER
    except OSError:  # what cannot be read cannot be known to be the same
        return TargetState.OTHER
    return TargetState.LINK if place.is_symlink() and mode is not MediaMode.SYMLINK else TargetState.SAME


def make_plan(
    named: Sequence[Named],
    destination: Destination,
    options: MediaOptions,
    mode: MediaMode,
    *,
    problems: Sequence[ExternalFilesError] = (),
    is_archived: Callable[[str], bool] = lambda suffix: True,
) -> RelocationPlan:
    """Decide what happens to each reference.

    Parameters
    ----------
    named : sequence of Named
        References, what they mean, and what their targets would be called.
    destination : Destination
        What is known of the place.
    options : MediaOptions
        Of which `missing` and `existing` are used.
    mode : MediaMode
        How media get to their targets.
    problems : sequence of ExternalFilesError
        What is known already to speak against the plan.
    is_archived : callable
        Whether the archive takes files with a suffix; a warning names those that it drops.

    Returns
    -------
    RelocationPlan

    Raises
    ------
    ExternalFilesError
        With all problems of the plan at once, in `problems`.
    """
    planner = _Planner(destination, options, mode)
    relocations: list[Relocation | None] = [None] * len(named)
    faults = [*problems]
    # Fields that repeat the films of others come last, so that they find the copy they share.
    for position in sorted(range(len(named)), key=lambda position: named[position].resolution.reference.repeats):
        try:
            relocations[position] = planner.relocation(named[position])
        except ExternalFilesError as fault:
            faults.append(fault)
    planned = tuple(entry for entry in relocations if entry is not None)
    faults.extend(_no_room(planned, destination, mode))
    faults.extend(_swallowed_sources(planned, destination, mode))
    faults.extend(_inside_one_another(planned))
    if faults:
        raise combine(faults)
    warnings = [*planner.warnings, *_not_archived(planned, is_archived)]
    return RelocationPlan(destination.nwb_path, mode, planned, tuple(warnings))


class _Planner:
    """Decides for one reference after the other, knowing what the earlier ones take."""

    def __init__(self, destination: Destination, options: MediaOptions, mode: MediaMode) -> None:
        self.destination = destination
        self.options = options
        self.mode = mode
        self.warnings: list[str] = []
        self._first: dict[tuple[int, int], PurePosixPath] = {}  # first target of each file
        self._owners: dict[str, tuple[ExternalFileReference, MediaFile]] = {}  # by target, case folded

    def relocation(self, entry: Named) -> Relocation | None:
        """What happens to a reference; None if it was found out before that nothing can. Raises its fault."""
        reference, file = entry.resolution.reference, entry.resolution.file
        if file is None:
            return self._keep(entry.resolution)
        if self.mode is MediaMode.REFERENCE:
            return Relocation(reference, Action.POINT, self._relative_text(reference, file), file)
        if entry.target is None:
            return None  # its name was at fault
        first = self._first.get(file.identity)
        if first is not None and (reference.repeats or self._taken(reference, file, entry.target)):
            return Relocation(reference, Action.SHARE, str(first), file, first)
        if self._taken(reference, file, entry.target):
            owner, other = self._owners[_case_folded(entry.target)]
            if other.identity == file.identity:
                return None  # what is wrong with the target is told of its owner
            raise _same_name(reference, owner, entry.target)
        self._check_target(reference, file, entry.target)
        self._first.setdefault(file.identity, entry.target)
        state = self.destination.targets[entry.target]
        if state is TargetState.SAME:
            action = Action.REUSE
        elif first is not None and self.mode in (MediaMode.COPY, MediaMode.MOVE):
            action = Action.DUPLICATE
        else:
            action = Action.TRANSFER
        replaces = state in (TargetState.LINK, TargetState.OTHER)
        return Relocation(reference, action, str(entry.target), file, entry.target, replaces)

    def _keep(self, resolution: Resolution) -> Relocation:
        reference, problem = resolution.reference, resolution.problem
        if problem is not None:
            if self.options.missing != "keep" or not isinstance(problem, MissingMediaError):
                raise problem
            self.warnings.append(f"{reference.where}: no file for {reference.text!r}; its text is kept as it is")
        return Relocation(reference, Action.KEEP, reference.text)

    def _relative_text(self, reference: ExternalFileReference, file: MediaFile) -> str:
        try:
            text = Path(os.path.relpath(file.path, self.destination.nwb_path.parent)).as_posix()
        except ValueError as error:  # another drive of Windows
            raise RelocationRefusedError(
                f"{reference.where}: no relative path leads to {str(file.path)!r}; use another media_mode than "
                f"'reference'",
                **reference.place,
            ) from error
        return f"./{text}" if is_url(text) else text

    def _taken(self, reference: ExternalFileReference, file: MediaFile, target: PurePosixPath) -> bool:
        """Whether another reference has the target; else this one has it from now on."""
        return self._owners.setdefault(_case_folded(target), (reference, file))[0] is not reference

    def _check_target(self, reference: ExternalFileReference, file: MediaFile, target: PurePosixPath) -> None:
        place = self.destination.nwb_path.parent / target
        if target in self.destination.outside:
            raise UnsafeReferenceError(
                f"{reference.where}: its media would be {str(place)!r}, but a symbolic link or a file stands where a "
                f"folder of that path should be; remove it, or write the NWB file under another name",
                **reference.place,
            )
        longest = self.destination.longest_path
        if longest is not None and len(str(place)) > longest:
            raise RelocationRefusedError(
                f"{reference.where}: the path of its media, {str(place)!r}, has {len(str(place))} characters, and this "
                f"system takes {longest}; turn on long paths in Windows, or write the NWB file to a folder with a "
                f"shorter path",
                **reference.place,
            )
        if self.destination.targets[target] is TargetState.OTHER:
            replaceable = not place.is_dir()
            if not replaceable or self.options.existing != "replace":
                cure = ', or replace it with existing="replace" in media_options' if replaceable else ""
                raise MediaExistsError(
                    f"{reference.where}: {str(place)!r} exists and is not a copy of {str(file.path)!r}; move it "
                    f"away{cure}",
                    **reference.place,
                )
        linked = self.mode is MediaMode.HARDLINK and self.destination.targets[target] is not TargetState.SAME
        if linked and file.identity[0] != self.destination.device:
            raise RelocationRefusedError(
                f"{reference.where}: {str(file.path)!r} lies in another file system than {str(place.parent)!r}, and "
                f"hard links end there; use media_mode 'copy', 'symlink', 'move' or 'reference'",
                **reference.place,
            )


def _case_folded(target: PurePosixPath) -> str:
    return str(target).casefold()  # Windows and macOS take both spellings for one file


def _same_name(
    reference: ExternalFileReference, owner: ExternalFileReference, target: PurePosixPath
) -> ExternalFilesError:
    return UnsafeReferenceError(
        f"{reference.where}: its media and those of {owner.neurodata_type} {owner.object_path!r}, "
        f"{owner.field}[{owner.index}], would both be {str(target)!r}, and they differ; two objects have one "
        f"object_id: give one a new id with generate_new_id() and export with nwbfile=",
        **reference.place,
    )


def _not_archived(planned: Sequence[Relocation], is_archived: Callable[[str], bool]) -> Iterator[str]:
    for entry in planned:
        if entry.target is None or entry.source is None or entry.action is Action.SHARE:
            continue
        if not is_archived(entry.target.suffix):
            kind = f"files that end in {entry.target.suffix}" if entry.target.suffix else "files without a suffix"
            yield (
                f"{entry.reference.where}: DANDI takes no {kind}: on upload it will drop {str(entry.target)!r}; "
                f"convert {entry.source.path.name!r} to a format that it takes"
            )


def _no_room(planned: Sequence[Relocation], destination: Destination, mode: MediaMode) -> Iterator[ExternalFilesError]:
    needed = sum(
        entry.source.size
        for entry in planned
        if entry.action is Action.TRANSFER
        and entry.source is not None
        and (mode is MediaMode.COPY or (mode is MediaMode.MOVE and entry.source.identity[0] != destination.device))
    )
    if destination.free is not None and needed > destination.free:
        yield RelocationRefusedError(
            f"{destination.nwb_path}: its media need {needed:,} bytes, and {destination.free:,} are free in "
            f"{str(destination.nwb_path.parent)!r}; make room, or use media_mode 'symlink', 'hardlink' or 'reference'",
            nwb_path=str(destination.nwb_path),
        )


def _swallowed_sources(
    planned: Sequence[Relocation], destination: Destination, mode: MediaMode
) -> Iterator[ExternalFilesError]:
    """Links to files that are themselves to be replaced would lead to what comes in their place."""
    if mode is not MediaMode.SYMLINK:
        return  # what is staged then has the bytes
    folder = destination.nwb_path.parent
    replaced = {folder / entry.target for entry in planned if entry.replaces and entry.target is not None}
    for entry in planned:
        if entry.source is not None and entry.action is Action.TRANSFER and {entry.source.real} & replaced:
            yield RelocationRefusedError(
                f"{entry.reference.where}: {str(entry.source.real)!r} is to be replaced by other media, and a link to "
                f"it would lose its content; use media_mode 'copy', or move the file away first",
                **entry.reference.place,
            )


def _inside_one_another(planned: Sequence[Relocation]) -> Iterator[ExternalFilesError]:
    """A naming of the caller's may make one target a folder of another."""
    targets = {_case_folded(entry.target) for entry in planned if entry.target is not None}
    for entry in planned:
        if entry.target is not None and any(_case_folded(parent) in targets for parent in entry.target.parents):
            yield UnsafeReferenceError(
                f"{entry.reference.where}: its media would be {str(entry.target)!r}, but a folder of that path is "
                f"the place of other media; mend the naming",
                **entry.reference.place,
            )

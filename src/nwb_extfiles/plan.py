"""What a relocation will do, decided before anything is touched.

Pure: `name_targets` and `make_plan` take what was found out about sources and destination and give a
`RelocationPlan`, or all the reasons why there can be none. `survey` looks at the destination for them, and changes
nothing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

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
from .resolve import MediaFile, Resolution

__all__ = ["Action", "Destination", "Relocation", "RelocationPlan", "make_plan", "name_targets", "survey"]

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


@dataclass(frozen=True, slots=True)
class Named:
    """A resolution, and the target that its reference would have on its own."""

    resolution: Resolution
    target: PurePosixPath | None


def name_targets(
    resolutions: Sequence[Resolution], options: MediaOptions, *, nwb_path: Path, identifier: str
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

    Returns
    -------
    list of Named, list of ExternalFilesError
        One for each resolution in order, and what speaks against a name.
    """
    named: list[Named] = []
    problems: list[ExternalFilesError] = []
    for resolution in resolutions:
        target = None
        if resolution.file is not None:
            try:
                target = _target(resolution.reference, resolution.file, options, nwb_path, identifier)
            except ExternalFilesError as problem:
                problems.append(problem)
        named.append(Named(resolution, target))
    return named, problems


def _target(
    reference: ExternalFileReference, file: MediaFile, options: MediaOptions, nwb_path: Path, identifier: str
) -> PurePosixPath:
    object_id = reference.object_id
    if object_id is None:
        object_id = str(uuid.uuid5(_NO_OBJECT_ID, f"{identifier}\0{reference.object_path}"))
    elif not is_uuid(object_id):
        raise UnsafeReferenceError(
            f"{reference.where}: its object_id {object_id[:80]!r} is no UUID, so no file can be named by it; "
            f"give the object a new id with generate_new_id() and export it with nwbfile=",
            **reference.fields,
        )
    suffix = file.path.suffix.lower()
    if not is_portable_suffix(suffix):
        raise UnsafeReferenceError(
            f"{reference.where}: the suffix {suffix!r} of {file.path.name!r} is not one that every file system can "
            f"hold; rename the file",
            **reference.fields,
        )
    target = options.naming(
        nwb_stem=nwb_stem(nwb_path), object_id=object_id, field=reference.field, index=reference.index, suffix=suffix
    )
    return _checked(target, reference, nwb_path)


def _checked(target: PurePosixPath, reference: ExternalFileReference, nwb_path: Path) -> PurePosixPath:
    target = PurePosixPath(target)
    odd = not target.parts or target.is_absolute() or ".." in target.parts or "\\" in str(target) or "\0" in str(target)
    if odd or target.parts[0] == nwb_path.name:
        raise UnsafeReferenceError(
            f"{reference.where}: its media would be {str(target)!r}, which is not a place of its own below "
            f"{str(nwb_path.parent)!r}; " + ("mend the naming" if odd else "give the NWB file a name with .nwb"),
            **reference.fields,
        )
    return target


def nwb_stem(nwb_path: Path) -> str:
    """Name of an NWB file or Zarr store without its suffixes: ``x`` for ``x.nwb`` and ``x.nwb.zarr``."""
    name = nwb_path.name.removesuffix(".zarr")
    return name.removesuffix(".nwb") if name.endswith(".nwb") else PurePosixPath(name).stem


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
    return Destination(nwb_path, targets, frozenset(outside), device, free=None if clones else free)


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
    if not filesystem.same_content(place, source.real):
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
    faults = [*problems]
    warnings: list[str] = []
    relocations: dict[int, Relocation] = {}
    first_of: dict[tuple[int, int], PurePosixPath] = {}
    owner_of: dict[PurePosixPath, tuple[ExternalFileReference, MediaFile]] = {}
    # Fields that repeat the films of others come last, so that they find the copy they share.
    for position, entry in sorted(enumerate(named), key=lambda item: item[1].resolution.reference.repeats):
        resolution = entry.resolution
        reference, file = resolution.reference, resolution.file
        if file is None:
            relocations[position] = Relocation(reference, Action.KEEP, reference.text)
            if resolution.problem is not None:
                if options.missing == "keep" and isinstance(resolution.problem, MissingMediaError):
                    warnings.append(f"{reference.where}: no file for {reference.text!r}; its text is kept as it is")
                else:
                    faults.append(resolution.problem)
            continue
        if mode is MediaMode.REFERENCE:
            try:
                text = _relative_text(file, destination.nwb_path.parent)
            except ValueError as error:  # another drive of Windows
                faults.append(_no_relative_path(reference, file, error))
                continue
            relocations[position] = Relocation(reference, Action.POINT, text, file)
            continue
        if entry.target is None:
            continue  # has its problem already
        shared = first_of.get(file.identity)
        if shared is not None and reference.repeats:
            relocations[position] = Relocation(reference, Action.SHARE, str(shared), file, shared)
            continue
        owner = owner_of.setdefault(_case_folded(entry.target), (reference, file))
        if owner[0] is not reference:
            if owner[1].identity == file.identity and shared is not None:
                relocations[position] = Relocation(reference, Action.SHARE, str(shared), file, shared)
            else:
                faults.append(_same_name(reference, owner[0], entry.target))
            continue
        fault = _target_fault(reference, file, entry.target, destination, options, mode)
        if fault is not None:
            faults.append(fault)
            continue
        state = destination.targets[entry.target]
        if state is TargetState.SAME:
            action = Action.REUSE
        elif shared is not None and mode in (MediaMode.COPY, MediaMode.MOVE):
            action = Action.DUPLICATE
        else:
            action = Action.TRANSFER
        first_of.setdefault(file.identity, entry.target)
        replaces = state in (TargetState.LINK, TargetState.OTHER)
        relocations[position] = Relocation(reference, action, str(entry.target), file, entry.target, replaces)
        if not is_archived(entry.target.suffix):
            warnings.append(
                f"{reference.where}: DANDI takes no {entry.target.suffix or 'files without suffix'}: it will drop "
                f"{str(entry.target)!r} on upload; convert {file.path.name!r} to one that it takes"
            )
    plan = RelocationPlan(
        destination.nwb_path, mode, tuple(relocations[position] for position in sorted(relocations)), tuple(warnings)
    )
    faults.extend(_no_room(plan, destination))
    if faults:
        raise combine(faults)
    return plan


def _relative_text(file: MediaFile, folder: Path) -> str:
    return Path(os.path.relpath(file.path, folder)).as_posix()


def _no_relative_path(reference: ExternalFileReference, file: MediaFile, cause: Exception) -> ExternalFilesError:
    problem = RelocationRefusedError(
        f"{reference.where}: no relative path leads to {str(file.path)!r}; use another media_mode than 'reference'",
        **reference.fields,
    )
    problem.__cause__ = cause
    return problem


def _case_folded(target: PurePosixPath) -> PurePosixPath:
    return PurePosixPath(str(target).casefold())  # Windows and macOS take both spellings for one file


def _same_name(
    reference: ExternalFileReference, owner: ExternalFileReference, target: PurePosixPath
) -> ExternalFilesError:
    return UnsafeReferenceError(
        f"{reference.where}: its media and those of {owner.neurodata_type} {owner.object_path!r}, "
        f"{owner.field}[{owner.index}], would both be {str(target)!r}, and they differ; two objects have one "
        f"object_id: give one a new id with generate_new_id() and export with nwbfile=",
        **reference.fields,
    )


def _target_fault(
    reference: ExternalFileReference,
    file: MediaFile,
    target: PurePosixPath,
    destination: Destination,
    options: MediaOptions,
    mode: MediaMode,
) -> ExternalFilesError | None:
    place = destination.nwb_path.parent / target
    if target in destination.outside:
        return UnsafeReferenceError(
            f"{reference.where}: its media would be {str(place)!r}, but a symbolic link or a file stands where a "
            f"folder of that path should be; remove it, or write the NWB file under another name",
            **reference.fields,
        )
    if destination.targets[target] is TargetState.OTHER:
        if place.is_dir() and not place.is_symlink():
            cure = "move it away"
        elif options.existing == "replace":
            return None
        else:
            cure = 'move it away, or replace it with existing="replace" in media_options'
        return MediaExistsError(
            f"{reference.where}: {str(place)!r} exists and is not a copy of {str(file.path)!r}; {cure}",
            **reference.fields,
        )
    if mode is MediaMode.HARDLINK and file.identity[0] != destination.device:
        return RelocationRefusedError(
            f"{reference.where}: {str(file.path)!r} lies in another file system than {str(place.parent)!r}, and hard "
            f"links end there; use media_mode 'copy', 'symlink', 'move' or 'reference'",
            **reference.fields,
        )
    return None


def _no_room(plan: RelocationPlan, destination: Destination) -> list[ExternalFilesError]:
    if destination.free is None:
        return []
    needed = sum(
        entry.source.size
        for entry in plan.relocations
        if entry.action is Action.TRANSFER
        and entry.source is not None
        and (
            plan.mode is MediaMode.COPY
            or (plan.mode is MediaMode.MOVE and entry.source.identity[0] != destination.device)
        )
    )
    if needed <= destination.free:
        return []
    return [
        RelocationRefusedError(
            f"{plan.nwb_path}: its media need {needed:,} bytes, and {destination.free:,} are free in "
            f"{str(plan.nwb_path.parent)!r}; make room, or use media_mode 'symlink', 'hardlink' or 'reference'",
            nwb_path=str(plan.nwb_path),
        )
    ]

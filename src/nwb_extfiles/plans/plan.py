"""What a relocation will do, decided before anything is touched.

Pure: `make_plan` takes what was found out about sources and destination, and gives a `RelocationPlan`, or all the
reasons why there can be none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath

from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    MissingMediaError,
    RelocationRefusedError,
    UnsafeReferenceError,
    combine,
)
from ..nwb.manifest import ManifestRow
from ..nwb.path_datasets import is_utf8
from ..nwb.references import ExternalFileReference
from ..options import MediaMode, MediaOptions
from ..web.remote import RemoteFile
from .resolve import MediaFile, Resolution, is_url
from .targets import Destination, Named, TargetState

__all__ = ["Action", "Relocation", "RelocationPlan", "make_plan"]


_MODES_OF_ADVICE = (MediaMode.COPY, MediaMode.MOVE, MediaMode.REFERENCE, MediaMode.SYMLINK, MediaMode.HARDLINK)


class Action(StrEnum):
    """What happens to the media of one reference."""

    TRANSFER = "transfer"
    """The file gets to the target, in the mode of the plan."""
    DUPLICATE = "duplicate"
    """The target becomes a further name of a file that another reference transfers."""
    RENAME = "rename"
    """The file, or the link to it, stands in the media folder that the NWB file had under its former name; that very
    entry comes along."""
    SHARE = "share"
    """The text names the target of another reference; no file of its own."""
    DOWNLOAD = "download"
    """What is behind a URL is fetched to the target."""
    REUSE = "reuse"
    """The target is there already, with the right content."""
    REWRITE_PATH = "rewrite_path"
    """The file stays; the text becomes relative to the new NWB file."""
    KEEP = "keep"
    """The text stays: a URL, or a file that was not found."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """What happens to one reference."""

    reference: ExternalFileReference
    action: Action
    new_path: str
    """The text that the new NWB file holds."""
    source: MediaFile | None = None
    """The file that the reference means; None for `Action.KEEP`, and where it is behind a URL."""
    target: PurePosixPath | None = None
    """Where the media will be, relative to the folder of the NWB file; None where they stay."""
    replaces: bool = False
    """Whether something stands at the target that gives way."""
    removes_source: bool = False
    """Whether a file that is reused still stands in the media folder of a former name too, and is to go there: a run
    was stopped before it could remove it."""
    remote: RemoteFile | None = None
    """What is behind the URL that the reference is, where that gets to the target."""
    own_mode: MediaMode | None = None
    """How the file gets to the target, where that is not the mode of the plan: by a copy where a move or a hard link
    would take from a store that others rely on; by a move where a link would lead to what is replaced."""

    @property
    def creates_target(self) -> bool:
        """Whether something gets to the target that is not there yet, in whatever way."""
        return self.action in (Action.TRANSFER, Action.DUPLICATE, Action.RENAME, Action.DOWNLOAD)

    @property
    def is_transfer(self) -> bool:
        """Whether the file gets to the target in the mode of the plan; a link that follows is made anew in that."""
        if self.action is Action.RENAME and self.source is not None:
            return self.source.is_link
        return self.action is Action.TRANSFER


@dataclass(frozen=True, slots=True)
class RelocationPlan:
    """All that a relocation will do, or has done."""

    nwb_path: Path
    """The NWB file to be written."""
    mode: MediaMode
    relocations: tuple[Relocation, ...]
    """One for each reference, in the order of the file."""
    warnings: tuple[str, ...] = ()
    devices: frozenset[int] = frozenset()
    """Devices whose files can have hard links where the NWB file is."""
    manifest: tuple[ManifestRow, ...] | None = None
    """What the manifest of the NWB file says before; empty if it is to get its first, None if it gets none."""
    kept_names: frozenset[Path] = frozenset()
    """Names that a move would remove, and that stay because something else needs them (`plans.needs`)."""

    def mode_of(self, entry: Relocation) -> MediaMode:
        """How the file of an entry gets to its target."""
        return entry.own_mode or self.mode

    @property
    def new_paths(self) -> dict[tuple[str, str, int], str]:
        """New text by object path, field and index."""
        return {entry.reference.entry: entry.new_path for entry in self.relocations}

    @property
    def edits(self) -> dict[tuple[str, str], list[str]]:
        """All texts of each field in which one changes, by object path and field, in their order."""
        fields: dict[tuple[str, str], list[Relocation]] = {}
        for entry in self.relocations:
            fields.setdefault((entry.reference.object_path, entry.reference.field), []).append(entry)
        return {
            place: [entry.new_path for entry in entries]
            for place, entries in fields.items()
            if any(entry.new_path != entry.reference.stored_path for entry in entries)
        }

    @property
    def media_bytes(self) -> int:
        """Size in bytes of all files that get to a target, whether copied, linked or downloaded, as far as known."""
        brought = sum(entry.source.size for entry in self.relocations if entry.source and entry.is_transfer)
        return brought + self.download_bytes

    @property
    def media_count(self) -> int:
        """How many references have media: all but URLs that stay, and files that were not found."""
        return sum(entry.action is not Action.KEEP for entry in self.relocations)

    @property
    def url_count(self) -> int:
        """How many references are URLs, and stay so."""
        kept = (entry.reference for entry in self.relocations if entry.action is Action.KEEP)
        return sum(is_url(reference.stored_path) for reference in kept)

    @property
    def unread(self) -> dict[tuple[int, int], MediaFile]:
        """Files whose digest the manifest wants, and which nothing reads but for that; by device and inode."""
        if self.manifest is None:
            return {}
        copied = {file.identity for file in self.copied}
        sources = (entry.source for entry in self.relocations if entry.source is not None)
        return {source.identity: source for source in sources if source.identity not in copied}

    @property
    def work_bytes(self) -> int:
        """What progress is counted in: the bytes that get to a target, and those that are read for the manifest."""
        return self.media_bytes + sum(file.size for file in self.unread.values())

    @property
    def download_bytes(self) -> int:
        """Size in bytes of what is fetched from servers, as far as they tell."""
        return sum(
            entry.remote.size or 0
            for entry in self.relocations
            if entry.action is Action.DOWNLOAD and entry.remote is not None
        )

    @property
    def copied_bytes(self) -> int:
        """Size in bytes of what needs room, where no clones can be made."""
        return sum(file.size for file in self.copied)

    @property
    def copied(self) -> Iterator[MediaFile]:
        """Files whose bytes are copied; a move inside one file system copies none."""
        for entry in self.relocations:
            mode = self.mode_of(entry)
            if entry.source is None or not entry.is_transfer or mode not in (MediaMode.COPY, MediaMode.MOVE):
                continue
            if mode is MediaMode.COPY or entry.source.identity[0] not in self.devices:
                yield entry.source

    @property
    def manifest_is_current(self) -> bool:
        """Whether the manifest, if there is to be one, speaks of these very references and sizes already.

        Whether the videos are still the same is not looked at.
        """
        if self.manifest is None:
            return True
        wanted = {
            entry.reference.entry: (entry.new_path, entry.source.size)
            for entry in self.relocations
            if entry.source is not None
        }
        remote = any(entry.remote is not None for entry in self.relocations)
        return not remote and wanted == {row.place: (row.path, row.size_in_bytes) for row in self.manifest}

    def joined_to(self, earlier: RelocationPlan | None) -> RelocationPlan:
        """One plan of two for the same NWB file, the earlier one first."""
        if earlier is None:
            return self
        return RelocationPlan(
            self.nwb_path,
            self.mode,
            (*earlier.relocations, *self.relocations),
            (*earlier.warnings, *self.warnings),
            self.devices,
            self.manifest,
            self.kept_names | earlier.kept_names,
        )


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
    # Fields that repeat the videos of others come last, so that they find the copy they share.
    # What follows comes first: a link to it would lead to where it was.
    for position in sorted(range(len(named)), key=lambda position: _turn(named[position])):
        try:
            relocations[position] = planner.relocation(named[position])
        except ExternalFilesError as fault:
            faults.append(fault)
    planned = tuple(entry for entry in relocations if entry is not None)
    plan = RelocationPlan(destination.nwb_path, mode, planned, devices=destination.devices)
    faults.extend(_no_links(planned, destination, mode))
    faults.extend(_no_room(plan, destination))
    faults.extend(_inside_one_another(planned))
    if faults:
        raise combine(faults)
    return replace(plan, warnings=(*planner.warnings, *_not_archived(planned, is_archived)))


def _turn(entry: Named) -> tuple[bool, bool]:
    return not entry.renames_folder, entry.resolution.reference.repeats


class _Planner:
    """Decides for one reference after the other, knowing what the earlier ones take."""

    def __init__(self, destination: Destination, options: MediaOptions, mode: MediaMode) -> None:
        self.destination = destination
        self.options = options
        self.mode = mode
        self.warnings: list[str] = []
        self._first: dict[tuple[int, int], PurePosixPath] = {}  # first target of each file
        self._owners: dict[str, tuple[ExternalFileReference, MediaFile | RemoteFile]] = {}  # by target, case folded
        self._first_of_url: dict[str, PurePosixPath] = {}
        self._leaving: set[tuple[int, int]] = set()  # files that will not be where they are any more

    def relocation(self, entry: Named) -> Relocation | None:
        """What happens to a reference; None if it was found out before that nothing can. Raises its fault."""
        reference, file = entry.resolution.reference, entry.resolution.file
        if entry.resolution.remote is not None:
            return self._download(entry, entry.resolution.remote)
        if file is None:
            return self._keep(entry.resolution)
        if self.mode is MediaMode.REFERENCE:
            return Relocation(reference, Action.REWRITE_PATH, self._relative_path(reference, file), file)
        if entry.target is None:
            return None  # its name was at fault
        first = self._first.get(file.identity)
        if first is not None and (reference.repeats or self._taken(reference, file, entry.target)):
            return Relocation(reference, Action.SHARE, str(first), file, first)
        if self._taken(reference, file, entry.target):
            owner, other = self._owners[_case_folded(entry.target)]
            if isinstance(other, MediaFile) and other.identity == file.identity:
                return None  # what is wrong with the target is told of its owner
            raise _same_name(reference, owner, entry.target)
        self._check_target(reference, file, entry.target)
        self._first.setdefault(file.identity, entry.target)
        state = self.destination.targets[entry.target]
        if state is TargetState.SAME:
            action = Action.REUSE
        elif entry.renames_folder and self.mode is not MediaMode.MOVE:
            action = Action.RENAME
            if not file.is_link:
                self._leaving.add(file.identity)
        elif first is not None and (self.mode in (MediaMode.COPY, MediaMode.MOVE) or file.identity in self._leaving):
            action = Action.DUPLICATE
        else:
            action = Action.TRANSFER
        replaces = state in (TargetState.LINK, TargetState.OTHER)
        removes_source = entry.renames_folder and action is Action.REUSE
        return Relocation(
            reference,
            action,
            str(entry.target),
            file,
            entry.target,
            replaces,
            removes_source,
            own_mode=self._own_mode(file),
        )

    def _own_mode(self, file: MediaFile) -> MediaMode | None:
        """How a file gets to its target that must not get there by the mode of the plan."""
        if self.mode is MediaMode.MOVE and file.is_link:
            return MediaMode.COPY  # as with mv, the link goes and what it leads to stays: it may be in a store
        if self.mode is MediaMode.HARDLINK and file.identity in self.destination.annexed:
            self.warnings.append(
                f"{file.path} is kept by git-annex, where a second hard link would hinder `git annex unlock`; it is "
                f"copied"
            )
            return MediaMode.COPY
        return None

    def _download(self, entry: Named, remote: RemoteFile) -> Relocation | None:
        """What happens to a reference that is a URL; as for one that is a file."""
        reference, target = entry.resolution.reference, entry.target
        if target is None:
            return None  # its name was at fault
        first = self._first_of_url.get(remote.url)
        taken = self._taken(reference, remote, target)
        if first is not None and (reference.repeats or taken):
            return Relocation(reference, Action.SHARE, str(first), target=first, remote=remote)
        if taken:
            owner, other = self._owners[_case_folded(target)]
            if isinstance(other, RemoteFile) and other.url == remote.url:
                return None  # what is wrong with the target is told of its owner
            raise _same_name(reference, owner, target)
        self._check_place(reference, remote.url, target)
        state = self.destination.targets[target]
        action = Action.DOWNLOAD if first is None else Action.DUPLICATE
        if state is TargetState.SAME:
            action = Action.REUSE
        self._first_of_url.setdefault(remote.url, target)
        replaces = state is TargetState.OTHER or (state is TargetState.UNKNOWN and self.options.existing == "replace")
        return Relocation(reference, action, str(target), None, target, replaces, remote=remote)

    def _keep(self, resolution: Resolution) -> Relocation:
        reference, problem = resolution.reference, resolution.problem
        if problem is not None:
            if self.options.missing != "keep" or not isinstance(problem, MissingMediaError):
                raise problem
            self.warnings.append(
                f"{reference.where}: no file for {reference.stored_path[:300]!r}; its text is kept as it is"
            )
        return Relocation(reference, Action.KEEP, reference.stored_path)

    def _relative_path(self, reference: ExternalFileReference, file: MediaFile) -> str:
        try:
            text = Path(os.path.relpath(file.path, self.destination.nwb_path.parent)).as_posix()
        except ValueError as error:  # another drive of Windows
            raise RelocationRefusedError(
                f"{reference.where}: no relative path leads to {str(file.path)!r}; use another media_mode than "
                f"'reference'",
                **reference.place,
            ) from error
        if is_utf8(reference.stored_path) and not is_utf8(text):
            raise RelocationRefusedError(
                f"{reference.where}: the path to {str(file.path)!r} is not in UTF-8, so readers could not decode it; "
                f"rename what is on the way, or use another media_mode than 'reference'",
                **reference.place,
            )
        return f"./{text}" if is_url(text) else text

    def _taken(self, reference: ExternalFileReference, file: MediaFile | RemoteFile, target: PurePosixPath) -> bool:
        """Whether another reference has the target; else this one has it from now on."""
        return self._owners.setdefault(_case_folded(target), (reference, file))[0] is not reference

    def _check_target(self, reference: ExternalFileReference, file: MediaFile, target: PurePosixPath) -> None:
        self._check_place(reference, str(file.path), target)
        linked = self.mode is MediaMode.HARDLINK and self.destination.targets[target] is not TargetState.SAME
        linked = linked and file.identity not in self.destination.annexed
        if linked and file.identity[0] not in self.destination.devices and not self.destination.cannot:
            folder = (self.destination.nwb_path.parent / target).parent
            raise RelocationRefusedError(
                f"{reference.where}: {str(file.path)!r} lies in another file system than {str(folder)!r}, and "
                f"hard links end there; use media_mode 'copy', 'symlink', 'move' or 'reference'",
                **reference.place,
            )

    def _check_place(self, reference: ExternalFileReference, source: str, target: PurePosixPath) -> None:
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
        state = self.destination.targets[target]
        if state is TargetState.FOLDER or (state is TargetState.OTHER and self.options.existing != "replace"):
            fix = "" if state is TargetState.FOLDER else ', or replace it with existing="replace" in media_options'
            raise MediaExistsError(
                f"{reference.where}: {str(place)!r} exists and is not a copy of {source!r}; move it away{fix}",
                **reference.place,
            )


def _case_folded(target: PurePosixPath) -> str:
    return str(target).casefold()  # Windows and macOS take both spellings for one file


def _same_name(
    reference: ExternalFileReference, owner: ExternalFileReference, target: PurePosixPath
) -> ExternalFilesError:
    ids = [(entry.object_id or entry.object_path).casefold() for entry in (reference, owner)]
    fix = "mend the naming"
    if ids[0] == ids[1] and reference.object_path != owner.object_path:
        fix = "two objects have one object_id: give one a new id with generate_new_id() and export with nwbfile="
    return UnsafeReferenceError(
        f"{reference.where}: its media and those of {owner.neurodata_type} {owner.object_path!r}, "
        f"{owner.field}[{owner.index}], would both be {str(target)!r}, and they differ; {fix}",
        **reference.place,
    )


def _not_archived(planned: Sequence[Relocation], is_archived: Callable[[str], bool]) -> Iterator[str]:
    """One warning for each series and suffix: a series of image files may have thousands."""
    dropped: dict[tuple[str, str, str], list[Relocation]] = {}
    for entry in planned:
        known = entry.source is not None or entry.remote is not None
        if not known or entry.target is None or entry.action is Action.SHARE or is_archived(entry.target.suffix):
            continue
        place = entry.reference.object_path, entry.reference.field, entry.target.suffix
        dropped.setdefault(place, []).append(entry)
    for (_, _, suffix), entries in dropped.items():
        first = entries[0]
        source = first.source.path if first.source is not None else first.remote
        kind = f"files that end in {suffix}" if suffix else "files without a suffix"
        further = "" if len(entries) == 1 else f" and {len(entries) - 1} more of this series"
        name = "" if source is None else repr(source.name)
        yield (
            f"{first.reference.where}: DANDI takes no {kind}: on upload it will drop {str(first.target)!r}{further}; "
            f"convert {name}{further} to a format that it takes"
        )


def _no_links(planned: Sequence[Relocation], destination: Destination, mode: MediaMode) -> Iterator[ExternalFilesError]:
    """Refuse once what would fail for each file."""
    if mode in destination.cannot and any(entry.is_transfer for entry in planned):
        missing = "neither symbolic nor hard links"
        if len(destination.cannot) == 1:
            missing = "no symbolic links" if mode is MediaMode.SYMLINK else "no hard links"
        modes = [repr(str(other)) for other in _MODES_OF_ADVICE if other not in destination.cannot]
        yield RelocationRefusedError(
            f"{destination.nwb_path}: the file system of {str(destination.nwb_path.parent)!r} has {missing}, as exFAT "
            f"and FAT have none; use media_mode {', '.join(modes[:-1])} or {modes[-1]}",
            nwb_path=str(destination.nwb_path),
        )


def _no_room(plan: RelocationPlan, destination: Destination) -> Iterator[ExternalFilesError]:
    needed = plan.copied_bytes + plan.download_bytes
    if destination.free is not None and needed > destination.free:
        yield RelocationRefusedError(
            f"{destination.nwb_path}: its media need {needed:,} bytes, and {destination.free:,} are free in "
            f"{str(destination.nwb_path.parent)!r}; make room, or use media_mode 'symlink', 'hardlink' or 'reference'",
            nwb_path=str(destination.nwb_path),
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

"""What will happen to each reference, decided before anything is changed.

Pure: `make_plan` takes what is known of sources and destination, and gives a `RelocationPlan`, or all the problems
that prevent one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..disk.moves import ASIDE_PREFIX
from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    MissingMediaError,
    RelocationRefusedError,
    UnsafeReferenceError,
    combine,
)
from ..hints import Hint, Message, for_objects, media_modes, quoted
from ..nwb.path_datasets import is_utf8
from ..nwb.references import ExternalFileReference
from ..options import MediaMode, MediaOptions
from ..web.remote import unsigned
from .media_files import MediaFile
from .plan import Action, Relocation, RelocationPlan
from .plan_checks import problems_of, warnings_of
from .resolve import Resolution
from .stored_paths import is_url
from .targets import CORRECT_NAMING, FETCHED, FORMER, STAGED, Destination, Named, TargetState, case_folded

__all__ = ["make_plan"]


def make_plan(
    named: Sequence[Named],
    destination: Destination,
    options: MediaOptions,
    mode: MediaMode,
    *,
    problems: Sequence[ExternalFilesError] = (),
    is_archived: Callable[[str], bool] = lambda suffix: True,
) -> RelocationPlan:
    """Decide what happens to each reference; raises all problems of the plan at once, and those found before.

    Of the options, `missing` and `existing` are used. `is_archived` says whether the archive accepts files with a
    suffix; a warning names those that it drops.
    """
    planner = _Planner(destination, options, mode, _in_linked_folders(named) if mode is MediaMode.MOVE else frozenset())
    relocations: list[Relocation | None] = [None] * len(named)
    found = [*problems]

    def turn(position: int) -> tuple[bool, bool]:
        """Renamed files first, because a link to one would lead to its old place; last, fields that share copies."""
        return not named[position].renames_folder, named[position].resolution.reference.repeats

    for position in sorted(range(len(named)), key=turn):
        try:
            relocations[position] = planner.relocation(named[position])
        except ExternalFilesError as problem:
            found.append(problem)
    planned = tuple(entry for entry in relocations if entry is not None)
    plan = RelocationPlan(
        destination.nwb_path, mode, planned, devices=destination.devices, kept_names=planner.in_linked_folders
    )
    found += problems_of(plan, destination, named)
    if found:
        raise combine(found)
    return replace(plan, warnings=(*planner.warnings(), *warnings_of(plan, is_archived)))


def _in_linked_folders(named: Sequence[Named]) -> frozenset[Path]:
    """The files that references reach through linked folders; they stay, even if others reach them directly."""
    files = (entry.resolution.file for entry in named)
    return frozenset(file.path for file in files if file is not None and file.linked_path is not None)


class _Planner:
    """Decides for one reference after the other, knowing what the earlier ones take."""

    def __init__(
        self, destination: Destination, options: MediaOptions, mode: MediaMode, in_linked_folders: frozenset[Path]
    ) -> None:
        self.destination = destination
        self.options = options
        self.mode = mode
        self.in_linked_folders = in_linked_folders  # files that a move leaves
        self._kept: dict[tuple[str, str], list[ExternalFilesError]] = {}  # missing files, by object and field
        self._linked: dict[tuple[str, str], list[Message]] = {}  # files that are left in linked folders
        self._copied: list[MediaFile] = []  # files of git-annex
        self._broken: list[tuple[ExternalFileReference, PurePosixPath]] = []  # targets that are links to nothing
        self._first: dict[Hashable, PurePosixPath] = {}  # first target of each file or URL
        self._owners: dict[str, tuple[ExternalFileReference, Hashable]] = {}  # by target, case folded
        self._leaving: set[tuple[int, int]] = set()  # files that will no longer be where they are

    def warnings(self) -> Iterator[str]:
        """One warning for all files of a kind: a series of images may have thousands."""
        for (_, field), problems in self._kept.items():
            more = f", and {len(problems) - 1:,} more in {field}" if len(problems) > 1 else ""
            yield f"{problems[0].what}; the path is kept{more}"
        for (_, field), messages in self._linked.items():
            more = f" (and {len(messages) - 1:,} more in {field})" if len(messages) > 1 else ""
            yield Message(f"{messages[0].what}{more}", messages[0].hint)
        if self._broken:
            reference, target = self._broken[0]
            more = f", and {len(self._broken) - 1:,} more," if len(self._broken) > 1 else ""
            yield f"{reference.where}: {quoted(target)}{more} is a broken symbolic link, and is replaced"
        if self._copied:
            more = f" and {len(self._copied) - 1:,} more files are" if len(self._copied) > 1 else " is"
            yield (
                f"{self._copied[0].path}{more} kept by git-annex, where a second hard link would hinder `git annex "
                f"unlock`, and so copied"
            )

    def relocation(self, entry: Named) -> Relocation | None:
        """What happens to a reference; None if another problem covers it. Raises its own problem."""
        reference, file, remote = entry.resolution.reference, entry.resolution.file, entry.resolution.remote
        if file is None and remote is None:
            return self._keep(entry.resolution)
        if file is not None and self.mode is MediaMode.REFERENCE:
            return Relocation(reference, Action.REWRITE_PATH, self._relative_path(reference, file), file)
        target = entry.target
        if target is None:
            return None  # there is a problem with its name
        remux = entry.resolution.remux
        key = unsigned(remote.url) if remote is not None else (file.identity, remux) if file is not None else None
        first = self._first.get(key)
        if first is not None and (reference.repeats or not self._owns(reference, key, target)):
            return Relocation(reference, Action.SHARE, str(first), file, first, remote=remote, remux=remux)
        if not self._owns(reference, key, target):
            owner, other_key = self._owners[case_folded(target)]
            if other_key == key:
                return None  # its owner has the problem of the target
            raise _same_name(reference, owner, target)
        self._check_in_use(reference, file, target)
        self._check_length(entry)
        self._check_target(reference, file.path if file is not None else key, target)
        if file is not None:
            self._check_hard_link(reference, file, target)
        self._first.setdefault(key, target)
        state = self.destination.targets[target]
        if state is TargetState.BROKEN:
            self._broken.append((reference, target))
        action = self._action(entry, state, is_first=first is None)
        return Relocation(
            reference,
            action,
            str(target),
            file,
            target,
            replaces=state in (TargetState.LINK, TargetState.BROKEN, TargetState.OTHER)
            or (state is TargetState.UNKNOWN and self.options.existing == "replace"),
            removes_source=entry.renames_folder and action is Action.REUSE,
            remote=remote,
            own_mode=self._own_mode(reference, file, action) if file is not None else None,
            remux=remux,
        )

    def _action(self, entry: Named, state: TargetState, *, is_first: bool) -> Action:
        file = entry.resolution.file
        if state is TargetState.SAME:
            return Action.REUSE
        if file is None:
            return Action.DOWNLOAD if is_first else Action.DUPLICATE
        if entry.resolution.remux is not None:
            return Action.REMUX if is_first else Action.DUPLICATE
        if entry.renames_folder and self.mode is not MediaMode.MOVE and file.linked_path is None:
            if not file.is_link:
                self._leaving.add(file.identity)
            return Action.RENAME
        mode = self.destination.own_modes.get(file.identity, self.mode)
        is_copied = mode.makes_copies or mode is MediaMode.MOVE or file.identity in self._leaving
        return Action.DUPLICATE if is_copied and not is_first else Action.TRANSFER

    def _own_mode(self, reference: ExternalFileReference, file: MediaFile, action: Action) -> MediaMode | None:
        """How a file gets to its target that must not get there in the mode of the plan."""
        creates = action in (Action.TRANSFER, Action.DUPLICATE)
        if self.mode is MediaMode.MOVE and file.linked_path is not None and creates:
            real = {reference.stored_path: str(file.path)}
            moves = for_objects("path_map_for", {reference.object_path: real})
            hint = Hint("delete it there if nobody else needs it, or use, instead of this, {moves}", moves=moves)
            what = f"{file.linked_path} is in a linked folder, and others may use the video; it is copied, and stays"
            self._linked.setdefault((reference.object_path, reference.field), []).append(Message(what, hint))
        if file.path in self.in_linked_folders:
            return MediaMode.COPY if action is Action.TRANSFER else None
        if self.mode is MediaMode.MOVE and file.is_link:
            return MediaMode.COPY  # as with mv, the link is removed and its file stays: it may be in a store
        if self.mode is MediaMode.HARDLINK and file.identity in self.destination.annexed:
            self._copied.append(file)
            return MediaMode.COPY
        return self.destination.own_modes.get(file.identity) if action is Action.TRANSFER else None

    def _keep(self, resolution: Resolution) -> Relocation:
        reference, problem = resolution.reference, resolution.problem
        if problem is not None:
            if self.options.missing != "keep" or not isinstance(problem, MissingMediaError):
                raise problem
            self._kept.setdefault((reference.object_path, reference.field), []).append(problem)
        return Relocation(reference, Action.KEEP, reference.stored_path)

    def _relative_path(self, reference: ExternalFileReference, file: MediaFile) -> str:
        try:
            path = Path(os.path.relpath(_to_refer_to(file), self.destination.nwb_path.parent)).as_posix()
        except ValueError as error:  # another drive of Windows
            raise RelocationRefusedError(
                f"{reference.where}: there is no relative path to {quoted(file.path)}",
                hint=Hint("use another mode than {mode}", mode=media_modes(MediaMode.REFERENCE)),
                **reference.place,
            ) from error
        if is_utf8(reference.stored_path) and not is_utf8(path):
            raise RelocationRefusedError(
                f"{reference.where}: the path to {quoted(file.path)} is not in UTF-8, so readers could not decode it",
                hint=Hint(
                    "rename its folders or the file, or use another mode than {mode}",
                    mode=media_modes(MediaMode.REFERENCE),
                ),
                **reference.place,
            )
        return f"./{path}" if is_url(path) else path

    def _owns(self, reference: ExternalFileReference, key: Hashable, target: PurePosixPath) -> bool:
        """Whether a reference has a target, which it gets unless another one has it already."""
        return self._owners.setdefault(case_folded(target), (reference, key))[0] is reference

    def _check_hard_link(self, reference: ExternalFileReference, file: MediaFile, target: PurePosixPath) -> None:
        linked = self.mode is MediaMode.HARDLINK and self.destination.targets[target] is not TargetState.SAME
        linked = linked and file.identity not in {*self.destination.annexed, *self.destination.own_modes}
        if linked and file.identity[0] not in self.destination.devices and not self.destination.cannot:
            folder = (self.destination.nwb_path.parent / target).parent
            raise RelocationRefusedError(
                f"{reference.where}: {quoted(file.path)} is on another file system than {quoted(folder)}, and "
                f"hard links cannot cross file systems",
                hint=Hint("use {modes}", modes=media_modes("copy", "symlink", "move", "reference")),
                **reference.place,
            )

    def _check_in_use(self, reference: ExternalFileReference, file: MediaFile | None, target: PurePosixPath) -> None:
        if not self.destination.in_use:
            return
        for place in (self.destination.nwb_path.parent / target, None if file is None else file.real):
            if place in self.destination.in_use:
                raise RelocationRefusedError(
                    f"{reference.where}: another program has {quoted(place)} open",
                    hint="close it there, and try again",
                    **reference.place,
                )

    def _check_length(self, entry: Named) -> None:
        """Refuse what would need a path that is too long, at the end or on the way."""
        longest, reference, file = self.destination.longest_path, entry.resolution.reference, entry.resolution.file
        if longest is None or entry.target is None:
            return
        folder, state = self.destination.nwb_path.parent, self.destination.targets[entry.target]
        needed = [(folder / entry.target, "the path of its media")]
        if state is not TargetState.SAME:
            staged = STAGED if entry.resolution.remote is None else FETCHED
            needed.append((folder / staged, "a temporary path beside the NWB file"))
        if state in (TargetState.LINK, TargetState.BROKEN, TargetState.OTHER, TargetState.UNKNOWN):
            needed.append((folder / FORMER / entry.target, "a temporary path of the media that are replaced"))
        if file is not None and (self.mode is MediaMode.MOVE or entry.renames_folder):
            needed.append((file.path.with_name(f"{ASIDE_PREFIX}{16 * 'x'}"), "a temporary path beside the media"))
        for path, what in needed:
            if len(str(path)) > longest:
                raise RelocationRefusedError(
                    f"{reference.where}: {what}, {quoted(path)}, has {len(str(path))} characters, and this system "
                    f"allows {longest}",
                    hint="turn on long paths in Windows, or write the NWB file to a folder with a shorter path",
                    **reference.place,
                )

    def _check_target(self, reference: ExternalFileReference, source: object, target: PurePosixPath) -> None:
        state = self.destination.targets[target]
        is_refused = state is TargetState.FOLDER or (state is TargetState.OTHER and self.options.existing != "replace")
        if not is_refused and target not in self.destination.outside:
            return
        place = self.destination.nwb_path.parent / target
        if target in self.destination.outside:
            raise UnsafeReferenceError(
                f"{reference.where}: its media would be {quoted(place)}, but a symbolic link or a file is where a "
                f"folder of that path should be",
                hint="remove it, or write the NWB file under another name",
                **reference.place,
            )
        or_replace = "" if state is TargetState.FOLDER else ", or replace it with {existing_replace}"
        raise MediaExistsError(
            f"{reference.where}: {quoted(place)} exists and is not a copy of {quoted(source)}",
            hint=Hint(f"move it away{or_replace}"),
            **reference.place,
        )


def _same_name(
    reference: ExternalFileReference, owner: ExternalFileReference, target: PurePosixPath
) -> ExternalFilesError:
    ids = [(entry.object_id or entry.object_path).casefold() for entry in (reference, owner)]
    hint = CORRECT_NAMING
    if ids[0] == ids[1] and reference.object_path != owner.object_path:
        hint = "two objects have one object_id: give one a new id with generate_new_id() and export with nwbfile="
    return UnsafeReferenceError(
        f"{reference.where}: its media and those of {owner.neurodata_type} {owner.object_path!r}, "
        f"{owner.field}[{owner.index}], would both be {quoted(target)}, and they differ",
        hint=hint,
        **reference.place,
    )


def _to_refer_to(file: MediaFile) -> Path:
    """The path of a file for a stored path: through its linked folder, unless ``..`` would lead out of that."""
    through = file.linked_path
    return file.path if through is None or os.pardir in through.parts else through

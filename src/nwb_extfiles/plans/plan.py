"""What a relocation will do, decided before anything is changed.

Pure: `make_plan` takes what is known of sources and destination, and gives a `RelocationPlan`, or all the problems
that prevent one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    MissingMediaError,
    RelocationRefusedError,
    UnsafeReferenceError,
    combine,
)
from ..hints import Hint, Message, for_archive, for_objects, media_modes
from ..nwb.manifest import ManifestRow
from ..nwb.path_datasets import is_utf8
from ..nwb.references import ExternalFileReference
from ..options import MediaMode, MediaOptions
from ..tables import Tabular, shortened
from ..web.remote import RemoteFile
from .resolve import MediaFile, Remux, Resolution, is_url
from .targets import CORRECT_NAMING, Destination, Named, TargetState

__all__ = ["Action", "Relocation", "RelocationPlan", "make_plan"]


_ADVISED_MODES = (MediaMode.COPY, MediaMode.MOVE, MediaMode.REFERENCE, MediaMode.SYMLINK, MediaMode.HARDLINK)


class Action(StrEnum):
    """What happens to the media of one reference."""

    TRANSFER = "transfer"
    """The file is copied, linked or moved to the target, in the mode of the plan."""
    DUPLICATE = "duplicate"
    """The target becomes another name of a file that another reference transfers."""
    RENAME = "rename"
    """The file, or the link to it, is in the media folder of the former name of the NWB file, and is renamed."""
    SHARE = "share"
    """The new path is the target of another reference; there is no file of its own."""
    REMUX = "remux"
    """The video is put into another container at the target, without loss; the file itself stays."""
    DOWNLOAD = "download"
    """The media behind a URL are downloaded to the target."""
    REUSE = "reuse"
    """The target exists already, with the right content."""
    REWRITE_PATH = "rewrite_path"
    """The file stays; the path becomes relative to the new NWB file."""
    KEEP = "keep"
    """The stored path is kept: a URL, or a file that was not found."""


@dataclass(frozen=True, slots=True, repr=False)
class Relocation:
    """What happens to one reference."""

    reference: ExternalFileReference
    action: Action
    new_path: str
    """The path that the new NWB file stores."""
    source: MediaFile | None = None
    """The file that the reference means; None for `Action.KEEP` and for URLs."""
    target: PurePosixPath | None = None
    """Where the media will be, relative to the folder of the NWB file; None if they stay."""
    replaces: bool = False
    """Whether something else is at the target and will be replaced."""
    removes_source: bool = False
    """Whether the file of a target that is reused is also still in the media folder of a former name, and is to be
    removed there: an earlier run was stopped before it could."""
    remote: RemoteFile | None = None
    """The media behind a URL, if they are downloaded."""
    own_mode: MediaMode | None = None
    """How the file gets to the target, if not in the mode of the plan: by a copy if a move or hard link would change a
    store that others rely on; by a move if a link would lead to a file that is replaced."""
    remux: Remux | None = None
    """How the media get the container that they have at the target; None if it is the one that they have."""

    def __repr__(self) -> str:
        paths = shortened(f"{self.reference.stored_path!r} -> {self.new_path!r}", 300)
        return f"<Relocation: {self.action} {paths}>"

    @property
    def size(self) -> int | None:
        """Size of the media in bytes, if it is known."""
        media = self.source or self.remote
        return None if media is None else media.size

    @property
    def creates_target(self) -> bool:
        """Whether something is put at the target that is not there yet, in whatever way."""
        return self.action in (Action.TRANSFER, Action.DUPLICATE, Action.RENAME, Action.REMUX, Action.DOWNLOAD)

    @property
    def content(self) -> Hashable:
        """A key that is equal for entries whose targets get the same content of one local file."""
        return None if self.source is None else (self.source.identity, self.remux)

    @property
    def is_transfer(self) -> bool:
        """Whether the file gets to the target in the mode of the plan; a renamed link is made anew in that mode."""
        if self.action is Action.RENAME and self.source is not None:
            return self.source.is_link
        return self.action is Action.TRANSFER


@dataclass(frozen=True, slots=True, repr=False)
class RelocationPlan(Tabular):
    """All that a relocation will do, or has done.

    Printed, and in a notebook, it is a table of the references. `to_dataframe` has more columns.
    """

    _columns: ClassVar[tuple[str, ...]] = (
        "nwb_path", "object_path", "neurodata_type", "object_id", "field", "index", "stored_path", "action", "mode",
        "source", "target", "new_path", "bytes",
    )  # fmt: skip
    _shown_columns: ClassVar[tuple[str, ...]] = ("mode", "bytes", "object_path", "index", "stored_path", "new_path")

    nwb_path: Path
    """The NWB file to be written."""
    mode: MediaMode
    relocations: tuple[Relocation, ...]
    """One for each reference, in the order of the file."""
    warnings: tuple[str, ...] = ()
    devices: frozenset[int] = frozenset()
    """Devices whose files can have hard links where the NWB file is."""
    manifest: tuple[ManifestRow, ...] | None = None
    """The manifest of the NWB file before; empty if it gets its first one, None if it gets none."""
    kept_names: frozenset[Path] = frozenset()
    """Names that a move would remove, and that stay because something else needs them (`plans.needs`)."""

    def records(self) -> Iterator[dict[str, Any]]:
        """What happens to each reference, as plain values."""
        for entry in self.relocations:
            yield {
                **entry.reference.record,
                "action": str(entry.action),
                "mode": self.mode_shown(entry),
                "source": None if entry.source is None else str(entry.source.path),
                "target": None if entry.target is None else str(self.nwb_path.parent / entry.target),
                "new_path": entry.new_path,
                "bytes": entry.size,
            }

    def _records(self) -> Iterator[dict[str, Any]]:
        return ({"nwb_path": str(self.nwb_path), **record} for record in self.records())

    def _title(self) -> str:
        return f"{self.nwb_path}: {self.media_count:,} media, media_mode {str(self.mode)!r}, {self.media_bytes:,} bytes"

    def _count(self) -> int:
        return len(self.relocations)

    def mode_shown(self, entry: Relocation) -> str:
        """What happens to an entry, in a word: the mode, if the file is put there in that way."""
        if entry.action in (Action.TRANSFER, Action.REWRITE_PATH):
            return str(self.mode_of(entry))
        return "in place" if self.is_in_place(entry) else str(entry.action)

    def is_in_place(self, entry: Relocation) -> bool:
        """Whether the file of an entry is where it belongs already, under that very name."""
        if entry.action is not Action.REUSE or entry.source is None or entry.target is None:
            return False
        return entry.source.path == self.nwb_path.parent / entry.target

    def mode_of(self, entry: Relocation) -> MediaMode:
        """How the file of an entry gets to its target."""
        return entry.own_mode or self.mode

    def removes_name(self, entry: Relocation) -> bool:
        """Whether the name that the media of an entry have now is removed, unless it is that of the target."""
        source = entry.source
        if source is None or source.linked_path is not None or source.path in self.kept_names:
            return False
        return self.mode is MediaMode.MOVE or entry.action is Action.RENAME or entry.removes_source

    @property
    def new_paths(self) -> dict[tuple[str, str, int], str]:
        """The new path by object path, field and index."""
        return {entry.reference.entry: entry.new_path for entry in self.relocations}

    @property
    def edits(self) -> dict[tuple[str, str], list[str]]:
        """All new paths of each field in which one changes, by object path and field, in their order."""
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
        """Size in bytes of all files that are copied, linked, moved or downloaded, as far as known."""
        transferred = sum(entry.source.size for entry in self.relocations if entry.source and entry.is_transfer)
        return transferred + self.remux_bytes + self.download_bytes

    @property
    def remux_bytes(self) -> int:
        """Size in bytes of all files that are remuxed; the new ones are of about the same size."""
        remuxed = (entry.source for entry in self.relocations if entry.action is Action.REMUX)
        return sum(source.size for source in remuxed if source is not None)

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
        """Files that are read only for their digest in the manifest; by device and inode."""
        if self.manifest is None:
            return {}
        copied = {file.identity for file in self.copied}
        sources = (entry.source for entry in self.relocations if entry.source is not None)
        return {source.identity: source for source in sources if source.identity not in copied}

    @property
    def work_bytes(self) -> int:
        """The total of the progress: bytes that get to a target, and bytes that are read for the manifest."""
        return self.media_bytes + sum(file.size for file in self.unread.values())

    @property
    def download_bytes(self) -> int:
        """Size in bytes of all downloads, as far as the servers say."""
        downloads = (entry.remote for entry in self.relocations if entry.action is Action.DOWNLOAD)
        return sum(remote.size or 0 for remote in downloads if remote is not None)

    @property
    def copied_bytes(self) -> int:
        """Size in bytes of all copies, which need that much space unless clones can be made."""
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
        """Whether the manifest, if there is to be one, has these references and sizes already.

        The content of the media is not compared.
        """
        if self.manifest is None:
            return True
        wanted = {
            entry.reference.entry: (entry.new_path, entry.source.size)
            for entry in self.relocations
            if entry.source is not None
        }
        made = any(entry.remote is not None or entry.remux is not None for entry in self.relocations)
        return not made and wanted == {row.place: (row.path, row.size_in_bytes) for row in self.manifest}

    def joined_to(self, earlier: RelocationPlan | None) -> RelocationPlan:
        """One plan made of two for the same NWB file, the earlier one first."""
        if earlier is None:
            return self
        return replace(
            self,
            relocations=(*earlier.relocations, *self.relocations),
            warnings=(*earlier.warnings, *self.warnings),
            kept_names=self.kept_names | earlier.kept_names,
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
    """Decide what happens to each reference; raises all problems of the plan at once, and those found before.

    Of the options, `missing` and `existing` are used. `is_archived` says whether the archive accepts files with a
    suffix; a warning names those that it drops.
    """
    planner = _Planner(destination, options, mode)
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
    plan = RelocationPlan(destination.nwb_path, mode, planned, devices=destination.devices)
    found += [*_no_links(planned, destination, mode), *_no_space(plan, destination), *_inside_one_another(planned)]
    found += _only_copied(named, mode)
    if found:
        raise combine(found)
    warnings = (*planner.warnings(), *_without_content(planned), *_not_archived(planned, is_archived))
    return replace(plan, warnings=(*warnings, *_originals_beside(plan)))


class _Planner:
    """Decides for one reference after the other, knowing what the earlier ones take."""

    def __init__(self, destination: Destination, options: MediaOptions, mode: MediaMode) -> None:
        self.destination = destination
        self.options = options
        self.mode = mode
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
            yield f"{reference.where}: {str(target)!r}{more} is a broken symbolic link, and is replaced"
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
        key = remote.url if remote is not None else (file.identity, remux) if file is not None else None
        first = self._first.get(key)
        if first is not None and (reference.repeats or not self._owns(reference, key, target)):
            return Relocation(reference, Action.SHARE, str(first), file, first, remote=remote, remux=remux)
        if not self._owns(reference, key, target):
            owner, other_key = self._owners[_case_folded(target)]
            if other_key == key:
                return None  # its owner has the problem of the target
            raise _same_name(reference, owner, target)
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
        is_copied = self.mode.makes_copies or self.mode is MediaMode.MOVE or file.identity in self._leaving
        return Action.DUPLICATE if is_copied and not is_first else Action.TRANSFER

    def _own_mode(self, reference: ExternalFileReference, file: MediaFile, action: Action) -> MediaMode | None:
        """How a file gets to its target that must not get there in the mode of the plan."""
        if self.mode is MediaMode.MOVE and file.linked_path is not None and action is Action.TRANSFER:
            real = {reference.stored_path: str(file.path)}
            moves = for_objects("path_map_for", {reference.object_path: real})
            hint = Hint("delete it there if nobody else needs it, or use, instead of this, {moves}", moves=moves)
            what = f"{file.linked_path} is in a linked folder, and others may use the video; it is copied, and stays"
            self._linked.setdefault((reference.object_path, reference.field), []).append(Message(what, hint))
            return MediaMode.COPY
        if self.mode is MediaMode.MOVE and file.is_link:
            return MediaMode.COPY  # as with mv, the link is removed and its file stays: it may be in a store
        if self.mode is MediaMode.HARDLINK and file.identity in self.destination.annexed:
            self._copied.append(file)
            return MediaMode.COPY
        return None

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
                f"{reference.where}: there is no relative path to {str(file.path)!r}",
                hint=Hint("use another mode than {mode}", mode=media_modes(MediaMode.REFERENCE)),
                **reference.place,
            ) from error
        if is_utf8(reference.stored_path) and not is_utf8(path):
            raise RelocationRefusedError(
                f"{reference.where}: the path to {str(file.path)!r} is not in UTF-8, so readers could not decode it",
                hint=Hint(
                    "rename its folders or the file, or use another mode than {mode}",
                    mode=media_modes(MediaMode.REFERENCE),
                ),
                **reference.place,
            )
        return f"./{path}" if is_url(path) else path

    def _owns(self, reference: ExternalFileReference, key: Hashable, target: PurePosixPath) -> bool:
        """Whether a reference has a target, which it gets unless another one has it already."""
        return self._owners.setdefault(_case_folded(target), (reference, key))[0] is reference

    def _check_hard_link(self, reference: ExternalFileReference, file: MediaFile, target: PurePosixPath) -> None:
        linked = self.mode is MediaMode.HARDLINK and self.destination.targets[target] is not TargetState.SAME
        linked = linked and file.identity not in self.destination.annexed
        if linked and file.identity[0] not in self.destination.devices and not self.destination.cannot:
            folder = (self.destination.nwb_path.parent / target).parent
            raise RelocationRefusedError(
                f"{reference.where}: {str(file.path)!r} is on another file system than {str(folder)!r}, and "
                f"hard links cannot cross file systems",
                hint=Hint("use {modes}", modes=media_modes("copy", "symlink", "move", "reference")),
                **reference.place,
            )

    def _check_target(self, reference: ExternalFileReference, source: object, target: PurePosixPath) -> None:
        place = self.destination.nwb_path.parent / target
        if target in self.destination.outside:
            raise UnsafeReferenceError(
                f"{reference.where}: its media would be {str(place)!r}, but a symbolic link or a file is where a "
                f"folder of that path should be",
                hint="remove it, or write the NWB file under another name",
                **reference.place,
            )
        longest = self.destination.longest_path
        if longest is not None and len(str(place)) > longest:
            raise RelocationRefusedError(
                f"{reference.where}: the path of its media, {str(place)!r}, has {len(str(place))} characters, and this "
                f"system allows {longest}",
                hint="turn on long paths in Windows, or write the NWB file to a folder with a shorter path",
                **reference.place,
            )
        state = self.destination.targets[target]
        if state is TargetState.FOLDER or (state is TargetState.OTHER and self.options.existing != "replace"):
            or_replace = "" if state is TargetState.FOLDER else ", or replace it with {existing_replace}"
            raise MediaExistsError(
                f"{reference.where}: {str(place)!r} exists and is not a copy of {str(source)!r}",
                hint=Hint(f"move it away{or_replace}"),
                **reference.place,
            )


def _case_folded(target: PurePosixPath) -> str:
    return str(target).casefold()  # Windows and macOS take both spellings for one file


def _same_name(
    reference: ExternalFileReference, owner: ExternalFileReference, target: PurePosixPath
) -> ExternalFilesError:
    ids = [(entry.object_id or entry.object_path).casefold() for entry in (reference, owner)]
    hint = CORRECT_NAMING
    if ids[0] == ids[1] and reference.object_path != owner.object_path:
        hint = "two objects have one object_id: give one a new id with generate_new_id() and export with nwbfile="
    return UnsafeReferenceError(
        f"{reference.where}: its media and those of {owner.neurodata_type} {owner.object_path!r}, "
        f"{owner.field}[{owner.index}], would both be {str(target)!r}, and they differ",
        hint=hint,
        **reference.place,
    )


def _without_content(planned: Sequence[Relocation]) -> Iterator[Message]:
    """Warn once for each file of zero bytes, which a full disk or a recording that failed leaves."""
    empty = {entry.source.identity: entry for entry in reversed(planned) if entry.source and not entry.source.size}
    for entry in reversed(empty.values()):
        assert entry.source is not None
        yield Message(
            f"{entry.reference.where}: {str(entry.source.path)!r} has zero bytes",
            "put the video in its place, before or after this",
        )


def _not_archived(planned: Sequence[Relocation], is_archived: Callable[[str], bool]) -> Iterator[Message]:
    """Warn once for each series and suffix: a series of image files may have thousands."""
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
        yield Message(
            f"{first.reference.where}: DANDI does not accept {kind}: it skips {str(first.target)!r}{further} on upload",
            for_archive(f"{name}{further}", suffix),
        )


def _to_refer_to(file: MediaFile) -> Path:
    """The path of a file for a stored path: through its linked folder, unless ``..`` would lead out of that."""
    through = file.linked_path
    return file.path if through is None or os.pardir in through.parts else through


def _only_copied(named: Sequence[Named], mode: MediaMode) -> Iterator[ExternalFilesError]:
    """Refuse once, in modes other than ``"copy"``, what has to be remuxed: neither a link nor a move changes a file."""
    found = [each.resolution for each in named if each.resolution.remux is not None]
    if mode is MediaMode.COPY or not found:
        return
    reference, file = found[0].reference, found[0].file
    name = "" if file is None else repr(str(file.path))
    more = "" if len(found) == 1 else f" and {len(found) - 1} more"
    yield RelocationRefusedError(
        f"{reference.where}: {name}{more} must be remuxed for DANDI, which makes new files, and media_mode is "
        f"{str(mode)!r}",
        hint=Hint("use {copy}; the originals stay where they are", copy=media_modes(MediaMode.COPY)),
        **reference.place,
    )


def _originals_beside(plan: RelocationPlan) -> Iterator[Message]:
    """Say which originals stay in the media folder, where an upload to DANDI skips them."""
    for entry in plan.relocations:
        if entry.remux is None or entry.source is None or entry.target is None:
            continue
        if entry.source.path.parent == (plan.nwb_path.parent / entry.target).parent:
            yield Message(
                f"{entry.reference.where}: {str(entry.source.path)!r} stays beside the remuxed file, and no path leads "
                f"to it any more",
                "delete it, or move it away, once you have checked the new file",
            )


def _no_links(planned: Sequence[Relocation], destination: Destination, mode: MediaMode) -> Iterator[ExternalFilesError]:
    """Refuse once what would fail for each file."""
    if mode in destination.cannot and any(entry.is_transfer for entry in planned):
        missing = "neither symbolic nor hard links"
        why = "as exFAT and FAT have none"
        if mode is MediaMode.REFLINK:
            missing, why = "no reflinks of these media", "which need btrfs, XFS or the like on one disk"
        elif len(destination.cannot) == 1:
            missing = "no symbolic links" if mode is MediaMode.SYMLINK else "no hard links"
        modes = media_modes(*(other for other in _ADVISED_MODES if other not in destination.cannot))
        yield RelocationRefusedError(
            f"{destination.nwb_path}: the file system of {str(destination.nwb_path.parent)!r} has {missing}, {why}",
            hint=Hint("use {modes}", modes=modes),
            nwb_path=str(destination.nwb_path),
        )


def _no_space(plan: RelocationPlan, destination: Destination) -> Iterator[ExternalFilesError]:
    needed = plan.copied_bytes + plan.remux_bytes + plan.download_bytes
    if destination.free is not None and needed > destination.free:
        yield RelocationRefusedError(
            f"{destination.nwb_path}: its media need {needed:,} bytes, and {destination.free:,} are free in "
            f"{str(destination.nwb_path.parent)!r}",
            hint=Hint("make space, or use {modes}", modes=media_modes("symlink", "hardlink", "reference")),
            nwb_path=str(destination.nwb_path),
        )


def _inside_one_another(planned: Sequence[Relocation]) -> Iterator[ExternalFilesError]:
    """Find targets that are folders of others, which the caller's naming function may give."""
    targets = {_case_folded(entry.target) for entry in planned if entry.target is not None}
    for entry in planned:
        if entry.target is not None and any(_case_folded(parent) in targets for parent in entry.target.parents):
            yield UnsafeReferenceError(
                f"{entry.reference.where}: its media would be {str(entry.target)!r}, but other media have the name of "
                f"a folder of that path",
                hint=CORRECT_NAMING,
                **entry.reference.place,
            )

"""What it means to bring NWB files and their media into a dandiset: all of them planned before anything is touched.

What happens to one file is a value, `OrganizedFile`, which has all that it takes to carry it out, on another machine
too that sees the same file systems. `organize` carries it out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..batch import Spool, each
from ..disk import contents, filesystem
from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    RelocationRefusedError,
    UnreadableFileError,
    UnsafeReferenceError,
    combine,
)
from ..nwb.finding import find_in_file
from ..nwb.manifest import read_manifest
from ..nwb.registry import MediaField, media_fields
from ..nwb.stores import NWB_SUFFIX, cannot_hold, open_nwb, zarr_marker
from ..options import MediaMode, MediaOptions
from ..plans.needs import MediaUsers, settle
from ..plans.plan import Action, Relocation, RelocationPlan
from ..plans.planning import plan_references
from ..plans.resolve import is_url
from ..plans.targets import nwb_stem
from .finished import (
    cannot_edit,
    is_former_media_folder,
    warned_of_other_names,
)
from .inspection import SUFFIX, Inspected, has_ids, inspect_all
from .layout import dandi_paths

__all__ = ["FilesMode", "OrganizePlan", "OrganizedFile", "Settings", "plan_files"]

FilesMode = Literal["copy", "move"]

_LONGEST_NAME = 255  # bytes, on nearly every file system
# Nanoseconds in which file systems count: NTFS, some servers, exFAT, old ones, FAT.
_GRAINS = (100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)


@dataclass(frozen=True, slots=True)
class OrganizedFile:
    """One NWB file on its way into a dandiset."""

    source: Path
    plan: RelocationPlan
    """What happens to its media; its `nwb_path` is where the NWB file will be."""
    size: int
    """Of the NWB file, in bytes."""
    stamp: tuple[int, ...]
    """What tells whether the NWB file is still the one that was planned with."""
    is_there: bool = False
    """Whether an earlier run has made it already, so that at most its media are left to do."""
    replaces: bool = False
    """Whether the target exists, and gives way."""

    @property
    def target(self) -> Path:
        """Where the NWB file will be."""
        return self.plan.nwb_path

    @property
    def in_place(self) -> bool:
        """Whether the NWB file has its place already."""
        return self.source == self.target

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to bring, nothing to write, and no film to remove."""
        return self.is_there_or_stays and not any(self._is_to_do(entry) for entry in self.plan.relocations)

    @property
    def is_there_or_stays(self) -> bool:
        """Whether the NWB file itself is as it shall be."""
        return self.is_there or (self.in_place and not self.plan.edits and self.plan.manifest_is_current)

    def _is_to_do(self, entry: Relocation) -> bool:
        if entry.brings or entry.leaves:
            return True
        if self.plan.mode is not MediaMode.MOVE or entry.source is None or entry.target is None:
            return False
        return entry.source.path != self.target.parent / entry.target  # the old one is to be removed

    @property
    def total_bytes(self) -> int:
        """Size in bytes of the NWB file and its media, as far as they get anywhere."""
        return (0 if self.in_place or self.is_there else self.size) + self.plan.media_bytes

    @property
    def work_bytes(self) -> int:
        """What progress is counted in: as `total_bytes`, and what is read for the manifest."""
        return 0 if self.is_done else self.total_bytes - self.plan.media_bytes + self.plan.work_bytes


@dataclass(frozen=True, slots=True)
class OrganizePlan:
    """All that organizing will do, or has done. Iterating gives an `OrganizedFile` for each NWB file.

    The files are kept on disk but for the few that fit in memory, however many there are.
    """

    dandiset_path: Path
    files_mode: FilesMode
    media_mode: MediaMode
    files: Spool[OrganizedFile]
    warnings: tuple[str, ...] = ()
    media_count: int = 0
    """How many references are in the files."""
    total_bytes: int = 0
    """Size in bytes of all that gets anywhere, NWB files and media."""
    work_bytes: int = 0
    """What progress is counted in: as `total_bytes`, and what is read for manifests."""

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[OrganizedFile]:
        return iter(self.files)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for, the same for all files."""

    dandiset_path: Path
    """Free of symbolic links."""
    files_mode: FilesMode = "copy"
    media_mode: MediaMode = MediaMode.SYMLINK
    update_texts: bool = True
    invalid: Literal["fail", "warn"] = "fail"
    required_fields: tuple[str, ...] = ()
    options: MediaOptions = MediaOptions()  # noqa: RUF009  # frozen


def plan_files(sources: Sequence[Path], settings: Settings, executor: Executor | None = None) -> OrganizePlan:
    """Plan what happens to all files.

    Parameters
    ----------
    sources : sequence of pathlib.Path
        NWB files, each once.
    settings : Settings
        What is asked for.
    executor : concurrent.futures.Executor, optional
        Who reads the files.

    Returns
    -------
    OrganizePlan

    Raises
    ------
    ExternalFilesError
        With all problems of all files. Nothing is changed on disk in any case.
    """
    warnings: list[str] = []
    problems: list[ExternalFilesError] = []
    table = media_fields(settings.options.media_fields)
    inspected, unreadable = inspect_all(sources, table, executor, problems)
    if settings.invalid == "fail":
        problems.extend(unreadable)
    else:
        warnings.extend(f"left out: {error}" for error in unreadable)
    if not settings.update_texts:
        problems.extend(filter(None, map(_stays_dangling, inspected)))
    unnamed = bool(unreadable) and settings.invalid == "fail"
    try:
        targets = _targets(inspected, settings)
    except RelocationRefusedError as problem:
        raise combine([*problems, problem]) from None
    files = Spool[OrganizedFile]()
    numbers: list[int] = []
    items = ((inspected[number], target) for number, target in targets)
    for number, result in each(partial(_plan_one, settings=settings, table=table), items, executor):
        if isinstance(result, ExternalFilesError):
            # What stands at a place means little while files are left out, for names depend on all of them.
            problems.extend(new for new in result.problems if not (unnamed and isinstance(new, MediaExistsError)))
        elif isinstance(result, BaseException):
            raise result
        elif not problems:
            numbers.append(number)
            files.append(result)
    if not problems:
        files.sort(numbers)
        files, lost = _settled(files, inspected, settings)
        problems.extend(lost)
        tally = _Tally(settings)
        for file in files:
            tally.add(file)
        problems.extend(tally.no_room())
    if problems:
        raise combine(problems)
    return OrganizePlan(
        settings.dandiset_path,
        settings.files_mode,
        settings.media_mode,
        files,
        (*warnings, *tally.warnings, *tally.remarks()),
        tally.media_count,
        tally.total_bytes,
        tally.work_bytes,
    )


def _settled(
    files: Spool[OrganizedFile], inspected: Spool[Inspected], settings: Settings
) -> tuple[Spool[OrganizedFile], list[ExternalFilesError]]:
    """Decide for all files together which names go, and whether what is replaced may be."""
    served = {filesystem.with_real_folder(item.path) for item in inspected} | {file.target for file in files}
    plans = _Plans(files)
    changed, problems = settle(plans, MediaUsers(served, settings.options))
    problems.extend(_replaced_sources(files))
    if changed:
        now = (replace(file, plan=changed.get(file.target, file.plan)) for file in files)
        files = Spool[OrganizedFile](now)
    return files, problems


class _Plans:
    """The plans of files, gone through as often as needed."""

    def __init__(self, files: Spool[OrganizedFile]) -> None:
        self._files = files

    def __iter__(self) -> Iterator[RelocationPlan]:
        return (file.plan for file in self._files)


def _stays_dangling(item: Inspected) -> ExternalFilesError | None:
    local = [reference for reference in item.references if not is_url(reference.text)]
    if not local:
        return None
    return RelocationRefusedError(
        f"{item.path} has {len(local)} external files, such as {local[0].text!r} in {local[0].object_path!r}, and "
        f"their paths would be kept and lead nowhere; let them be updated (--update-external-file-paths)",
        nwb_path=str(item.path),
    )


def _targets(inspected: Spool[Inspected], settings: Settings) -> list[tuple[int, Path]]:
    """Where each file goes, by its number; those that an earlier run has made of others here have no place."""
    metadata: list[dict[str, Any]] = []
    places: list[Path] = []
    alike: dict[tuple[Any, ...], list[int]] = {}  # files that may be copies of one another
    for number, item in enumerate(inspected):
        metadata.append(item.metadata)
        places.append(filesystem.with_real_folder(item.path))
        if item.object_id is not None:
            alike.setdefault((item.object_id, item.identifier, item.stamp[-1]), []).append(number)
    pairs = [pair for pair in alike.values() if len(pair) == 2]
    pairs = [pair for pair in pairs if any(places[number].is_relative_to(settings.dandiset_path) for number in pair)]
    seconds = {second for _, second in pairs}
    numbers = [number for number in range(len(metadata)) if number not in seconds]
    named = dict(zip(numbers, _named([metadata[number] for number in numbers], settings), strict=True))
    for first, second in pairs:
        target = named[first]
        if places[first] == target:
            named[second] = named.pop(first)
        elif places[second] != target:  # none is where the other goes, so both are wanted
            return list(enumerate(_named(metadata, settings)))
    found = [(number, named[number]) for number in sorted(named)]
    return _moved_before(found, inspected) if settings.files_mode == "move" else found


def _named(metadata: list[dict[str, Any]], settings: Settings) -> list[Path]:
    names = dandi_paths(metadata, settings.required_fields) if metadata else []
    places = [settings.dandiset_path.joinpath(*name.split("/")) for name in names]
    return [
        place.with_name(f"{place.name}{item.get(SUFFIX, '')}") for place, item in zip(places, metadata, strict=True)
    ]


def _moved_before(found: list[tuple[int, Path]], inspected: Spool[Inspected]) -> list[tuple[int, Path]]:
    """Find files that a run brought to their places and was stopped before it could remove all old ones.

    Of a session whose other files are gone, what is left would be named by itself, and get a shorter name.
    """
    there: dict[Path, dict[int, list[Path]]] = {}  # NWB files by time, by folder
    settled = []
    for number, target in found:
        folder = target.parent
        if folder not in there:
            there[folder] = {}
            for path in sorted(folder.glob(f"[!.]*{NWB_SUFFIX}")):
                if path.is_file() and not path.is_symlink():
                    there[folder].setdefault(os.stat(path).st_mtime_ns, []).append(path)
        item = inspected[number] if there[folder] and not os.path.lexists(target) else None
        made = [path for path in there[folder].get(item.stamp[-1], ()) if has_ids(path, item)] if item else []
        own = item is not None and Path(os.path.realpath(item.path)) in made
        settled.append((number, made[0] if len(made) == 1 and not own else target))
    return settled


def _plan_one(item: tuple[Inspected, Path], *, settings: Settings, table: Sequence[MediaField]) -> OrganizedFile:
    """Plan what happens to one file; nothing is changed."""
    inspected, target = item
    try:
        return _planned(inspected, target, settings, table)
    except ExternalFilesError:
        raise
    except (OSError, ValueError) as error:  # as the file system says of a folder, or of a name
        raise RelocationRefusedError(
            f"{inspected.path}: it would be {str(target)!r}, and that cannot be: {error}", nwb_path=str(inspected.path)
        ) from error


def _planned(inspected: Inspected, target: Path, settings: Settings, table: Sequence[MediaField]) -> OrganizedFile:
    _check_place(inspected, target, settings)
    is_store = inspected.path.is_dir()
    if is_store and settings.files_mode == "move" and inspected.path != target:
        raise RelocationRefusedError(
            f"{inspected.path} is a Zarr store, and those are not moved; copy it (--files-mode copy), and remove it "
            f"when the new one is good",
            nwb_path=str(inspected.path),
        )
    source = filesystem.with_real_folder(inspected.path)
    plan = plan_references(
        inspected.references if settings.update_texts else (),
        nwb_path=target,
        identifier=inspected.identifier,
        mode=settings.media_mode,
        options=settings.options,
        is_former=_former(source, target, settings.files_mode),
        manifest=inspected.manifest,
    )
    if plan.edits:
        with open_nwb(inspected.path) as file:
            problems = cannot_hold(file, plan.edits, plan.nwb_path)
        if source == target:
            problems.extend(cannot_edit(plan))
        if problems:
            raise combine(problems)
    if source == target:
        plan = warned_of_other_names(plan)
    stands = source != target and os.path.lexists(target)
    is_there = stands and _is_made_of(inspected, plan, table)
    replaces = stands and not is_there
    replaceable = zarr_marker(target) is not None if is_store else target.is_file()
    if replaces and (settings.options.existing != "replace" or not replaceable):
        raise MediaExistsError(
            f"{inspected.path}: it would be {target}, which exists and was not made of it; move that away"
            + (', or replace it with existing="replace" in media_options' if replaceable else ""),
            nwb_path=str(inspected.path),
        )
    return OrganizedFile(source, plan, inspected.size, inspected.stamp, is_there, replaces)


def _check_place(inspected: Inspected, target: Path, settings: Settings) -> None:
    """Refuse a place that the file cannot have, or where DANDI would not find it."""
    reason = None
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        reason = f"that name has more than {_LONGEST_NAME} bytes; shorten what it is made of in the NWB file"
    for folder in reversed(target.relative_to(settings.dandiset_path).parents):
        place = settings.dandiset_path / folder
        if place.is_symlink():
            reason = (
                f"{place} is a symbolic link to {os.path.realpath(place)}, which DANDI does not follow; put a folder "
                f"there"
            )
        elif os.path.lexists(place) and not place.is_dir():
            reason = f"{place} is no folder; move it away"
    if reason is not None:
        raise UnsafeReferenceError(
            f"{inspected.path}: it would be {str(target)!r}, but {reason}", nwb_path=str(inspected.path)
        )


def _former(source: Path, target: Path, files_mode: FilesMode) -> Callable[[Path], bool]:
    """Whether a folder holds media that belong to the NWB file and to nothing else, so that they go where it goes."""
    if source == target:
        return lambda folder: is_former_media_folder(folder, target)
    own = source.parent / nwb_stem(source)
    return lambda folder: files_mode == "move" and folder == own


def _is_made_of(inspected: Inspected, plan: RelocationPlan, table: Sequence[MediaField]) -> bool:
    """Whether the file at the target is what an earlier run has made of the source: it got the time of that."""
    target = plan.nwb_path
    if target.is_symlink() or target.is_dir() is not inspected.path.is_dir():
        return False
    if not _is_same_time(os.stat(target).st_mtime_ns, inspected.stamp[-1]) or not has_ids(target, inspected):
        return False
    try:
        with open_nwb(target) as file:
            found = {entry.entry: entry.text for entry in find_in_file(file, table)}
            if plan.manifest is not None and read_manifest(file, target) is None:
                return False
    except UnreadableFileError:
        return False
    return all(found.get(place, text) == text for place, text in plan.texts.items())


def _is_same_time(kept: int, given: int) -> bool:
    """Whether a file system that was given a time, in nanoseconds, kept it, or as much of it as it can."""
    return kept == given or any(kept % grain == 0 and abs(kept - given) < grain for grain in _GRAINS)


def _replaced_sources(files: Spool[OrganizedFile]) -> Iterator[ExternalFilesError]:
    """What is to be replaced by one file must not be what another one is made of."""
    replaced: dict[tuple[int, int], Path] = {}
    for file in files:
        places = [file.target] if file.replaces else []
        places += [
            file.target.parent / entry.target
            for entry in file.plan.relocations
            if entry.replaces and entry.target is not None
        ]
        replaced.update({(status.st_dev, status.st_ino): place for place in places for status in [os.lstat(place)]})
    for file in files if replaced else ():
        status = os.stat(file.source)
        used = {(status.st_dev, status.st_ino)}
        used.update(entry.source.identity for entry in file.plan.relocations if entry.source is not None)
        own = {file.target.parent / entry.target for entry in file.plan.relocations if entry.target is not None}
        for identity in sorted(used.intersection(replaced)):
            if replaced[identity] not in own:
                yield RelocationRefusedError(
                    f"{file.source}: {replaced[identity]} is to be replaced by something else, and is needed to make "
                    f"{file.target}; move it away first, or organize the files one after the other",
                    nwb_path=str(file.source),
                )


class _Tally:
    """What the files come to together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.warnings: list[str] = []
        self.total_bytes = self.work_bytes = 0
        self.media_count = 0
        self._taken_along = 0
        self._fetched = 0  # bytes, as far as servers tell
        self._left_behind = 0
        self._folder = filesystem.nearest_folder(settings.dandiset_path)
        self._device = os.stat(self._folder).st_dev
        self._needed: dict[int, int] = {}  # bytes that are copied, by the device they come from
        self._samples: dict[int, Path] = {}  # a file of each device

    def add(self, file: OrganizedFile) -> None:
        self.warnings.extend(file.plan.warnings)
        self.total_bytes += file.total_bytes
        self.work_bytes += file.work_bytes
        self.media_count += len(file.plan.relocations)
        local = [entry for entry in file.plan.relocations if entry.source is not None]
        self._taken_along += len(local) + sum(entry.remote is not None for entry in file.plan.relocations)
        self._left_behind += any(entry.action is not Action.REUSE for entry in local)
        device = file.stamp[0]
        by_name = self._settings.files_mode == "move" and not file.plan.edits and device == self._device
        if not (file.in_place or file.is_there or by_name):
            self._need(device, file.size, file.source)
        self._fetched += file.plan.download_bytes
        for entry in file.plan.copied:
            self._need(entry.identity[0], entry.size, entry.real)

    def _need(self, device: int, size: int, sample: Path) -> None:
        self._needed[device] = self._needed.get(device, 0) + size
        self._samples.setdefault(device, sample)

    def no_room(self) -> Iterator[ExternalFilesError]:
        free, needed = filesystem.free_bytes(self._folder), self._needed
        if sum(needed.values()) + self._fetched > free:  # clones share their blocks
            needed = {
                device: size
                for device, size in needed.items()
                if not contents.can_clone(self._samples[device], self._folder)
            }
        total = sum(needed.values()) + self._fetched
        if total > free:
            yield RelocationRefusedError(
                f"{self._settings.dandiset_path}: the NWB files and their media need {total:,} bytes there, "
                f"and {free:,} are free; make room, or use another --media-files-mode"
            )

    def remarks(self) -> Iterator[str]:
        if self._settings.update_texts and not self._taken_along:
            found = (
                "the NWB files have only URLs and paths of missing files, which stay as they are"
                if self.media_count
                else "no external file in any of the NWB files"
            )
            yield f"there are no paths of media to update: {found}"
        if self._settings.media_mode is MediaMode.MOVE and self._settings.files_mode == "copy" and self._left_behind:
            yield (
                f"{self._left_behind} NWB files stay behind with references to media that move; delete them when the "
                f"new ones are good, or use --files-mode move"
            )

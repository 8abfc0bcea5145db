"""What it means to bring NWB files and their media into a dandiset: all of them planned before anything is touched.

What happens to one file is a value, `OrganizedFile`, which has all that it takes to carry it out, on another machine
too that sees the same file systems. `organize` carries it out.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..batch import each
from ..disk import contents, filesystem
from ..disk.moves import has_stamp, is_same_name, stamp
from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    RelocationRefusedError,
    UnreadableFileError,
    UnsafeReferenceError,
    combine,
)
from ..nwb.comparison import is_edited_copy, same_content
from ..nwb.files import cannot_hold, is_nwb_name, open_nwb, zarr_marker
from ..nwb.manifest import ManifestRow, read_manifest
from ..nwb.registry import MediaField, media_fields
from ..nwb.scan import find_in_file
from ..options import MediaMode, MediaOptions
from ..plans.needs import MediaUsers, settle
from ..plans.pipeline import plan_references
from ..plans.plan import Action, Relocation, RelocationPlan
from ..plans.resolve import is_url
from ..plans.targets import nwb_stem
from .inspection import SUFFIX, Inspected, Named, inspect_all, read_named
from .layout import dandi_paths
from .written_files import (
    cannot_edit,
    is_former_media_folder,
    warned_of_other_names,
)

__all__ = ["FilesMode", "OrganizePlan", "OrganizedFile", "Settings", "plan_files"]

FilesMode = Literal["copy", "move"]

_LONGEST_NAME = 255  # bytes, on nearly every file system


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
    """Whether the target holds the same content already, so that at most its media are left to do."""
    target_stamp: tuple[int, ...] | None = None
    """If it is there: what tells whether the target is still the one that was compared."""
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
        """Whether there is nothing to bring, nothing to write, and no video to remove."""
        return self.is_there_or_stays and not any(self._is_to_do(entry) for entry in self.plan.relocations)

    @property
    def is_there_or_stays(self) -> bool:
        """Whether the NWB file itself is as it shall be."""
        return self.is_there or (self.in_place and not self.plan.edits and self.plan.manifest_is_current)

    def _is_to_do(self, entry: Relocation) -> bool:
        if entry.creates_target or entry.removes_source:
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
    """All that organizing will do, or has done. Iterating gives an `OrganizedFile` for each NWB file."""

    dandiset_path: Path
    files_mode: FilesMode
    media_mode: MediaMode
    files: tuple[OrganizedFile, ...]
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
    update_paths: bool = True
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
        problems.extend(
            UnreadableFileError(
                f'{error}; or leave such files out with --invalid warn (invalid="warn")', nwb_path=error.nwb_path
            )
            for error in unreadable
        )
    else:
        warnings.extend(f"left out: {error}" for error in unreadable)
    if not settings.update_paths:
        problems.extend(filter(None, map(_stays_dangling, inspected)))
    unnamed = bool(unreadable) and settings.invalid == "fail"
    try:
        targets = _targets(inspected, settings, table, warnings)
    except RelocationRefusedError as problem:
        raise combine([*problems, problem]) from None
    planned: dict[int, OrganizedFile] = {}
    items = ((inspected[number], target) for number, target in targets)
    for number, result in each(partial(_plan_one, settings=settings, table=table), items, executor):
        if isinstance(result, ExternalFilesError):
            # What stands at a place means little while files are left out, for names depend on all of them.
            problems.extend(new for new in result.problems if not (unnamed and isinstance(new, MediaExistsError)))
        elif isinstance(result, BaseException):
            raise result
        elif not problems:
            planned[number] = result
    if not problems:
        files, lost = _settled([planned[number] for number in sorted(planned)], inspected, settings)
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
        tuple(files),
        (*warnings, *tally.warnings, *tally.remarks()),
        tally.media_count,
        tally.total_bytes,
        tally.work_bytes,
    )


def _settled(
    files: list[OrganizedFile], inspected: list[Inspected], settings: Settings
) -> tuple[list[OrganizedFile], list[ExternalFilesError]]:
    """Decide for all files together which names go, and whether what is replaced may be."""
    served = {filesystem.with_real_folder(item.path) for item in inspected} | {file.target for file in files}
    changed, problems = settle([file.plan for file in files], MediaUsers(served, settings.options))
    problems.extend(_replaced_sources(files))
    return [replace(file, plan=changed.get(file.target, file.plan)) for file in files], problems


def _stays_dangling(item: Inspected) -> ExternalFilesError | None:
    local = [reference for reference in item.references if not is_url(reference.stored_path)]
    if not local:
        return None
    return RelocationRefusedError(
        f"{item.path} has {len(local)} external files, such as {local[0].stored_path!r} in {local[0].object_path!r}, "
        f"and their paths would be kept and lead nowhere; let them be updated (--update-external-file-paths)",
        nwb_path=str(item.path),
    )


def _targets(
    inspected: list[Inspected], settings: Settings, table: Sequence[MediaField], warnings: list[str]
) -> list[tuple[int, Path]]:
    """Where each file goes, by its number; of two that hold the same in one dandiset, one has no place."""
    metadata = [item.metadata for item in inspected]
    places = [filesystem.with_real_folder(item.path) for item in inspected]
    seconds = _second_names(inspected, places, settings, table)
    numbers = [number for number in range(len(metadata)) if number not in seconds]
    named = dict(zip(numbers, _named([metadata[number] for number in numbers], settings), strict=True))
    for second, first in seconds.items():
        target = named[first]
        if places[first] == target:
            named[second] = named.pop(first)
        elif places[second] != target:  # none is where the other goes, so both are wanted
            return list(enumerate(_named(metadata, settings)))
    return _beside_others(named, inspected, settings, table, warnings)


def _second_names(
    inspected: list[Inspected], places: list[Path], settings: Settings, table: Sequence[MediaField]
) -> dict[int, int]:
    """Files that hold the same as an earlier one, by number, as a run leaves them that was killed while it renamed."""
    alike: dict[tuple[str, str], list[int]] = {}
    for number, item in enumerate(inspected):
        if item.object_id is not None:
            alike.setdefault((item.object_id, item.identifier), []).append(number)
    return {
        second: first
        for first, second in (pair for pair in alike.values() if len(pair) == 2)
        if any(places[number].is_relative_to(settings.dandiset_path) for number in (first, second))
        and same_content(places[first], places[second], table)
    }


def _beside_others(
    named: dict[int, Path],
    inspected: list[Inspected],
    settings: Settings,
    table: Sequence[MediaField],
    warnings: list[str],
) -> list[tuple[int, Path]]:
    """Name files together with those that are in their folders already, and keep the names of these.

    What DANDI calls a file hangs on the files that are organized with it. So a session that is added later gets the
    name that it would have got with the others, and a run that was stopped goes on with the names that it began with.
    """
    sources = {os.path.realpath(item.path) for item in inspected}
    numbers = sorted(named)
    others = {
        folder: [other for other in _files_in(folder) if os.path.realpath(other.path) not in sources]
        for folder in {target.parent for target in named.values()}
    }
    kept: dict[int, Path] = {}
    for number in numbers:
        item, folder = inspected[number], named[number].parent
        version = _version_of(item, others[folder], table)
        if version is not None:
            others[folder].remove(version)
            if nwb_stem(version.path).split("_")[0] == folder.name:  # else nobody named it as DANDI does
                kept[number] = version.path
    present = [other for each in others.values() for other in each]
    if present or kept:
        metadata = [*(inspected[number].metadata for number in numbers), *(other.metadata for other in present)]
        try:
            names = _named(metadata, settings)
        except RelocationRefusedError:  # such as copies in the dandiset, that nobody can tell apart
            names = [named[number] for number in numbers]
        named = dict(zip(numbers, names, strict=False))
        standing = [(path, named[number]) for number, path in kept.items()]
        if len(kept) < len(numbers):
            standing += zip((other.path for other in present), names[len(numbers) :], strict=False)
        warnings.extend(_short_names(standing, settings))
    return [(number, kept.get(number, named[number])) for number in numbers]


def _files_in(folder: Path) -> list[Named]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = (read_named(path) for path in paths if path.suffix in (".nwb", ".zarr") and is_nwb_name(path))
    return [other for other in found if other is not None]


def _version_of(item: Inspected, others: list[Named], table: Sequence[MediaField]) -> Named | None:
    """The file of the dandiset that holds the same as a source, or else another version of it.

    Which of the two, planning finds out, so that nothing is compared twice.
    """
    keys = ("subject_id", "session_id", "session_start_time", "nd_types")
    alike = [
        other
        for other in others
        if other.identifier == item.identifier
        and all(other.metadata.get(key) == item.metadata.get(key) for key in keys)
    ]
    if len(alike) > 1:
        alike = [other for other in alike if other.object_id == item.object_id]
    if len(alike) > 1:
        alike = [other for other in alike if same_content(item.path, other.path, table)]
    return alike[0] if alike else None


def _short_names(standing: list[tuple[Path, Path]], settings: Settings) -> Iterator[str]:
    """Tell of files that keep a name in which less stands than DANDI would put there by now."""
    root = settings.dandiset_path
    needs = "" if (root / "dandiset.yaml").is_file() else ", when the dandiset.yaml of the dandiset is in that folder"
    for path, name in sorted(standing):
        if set(nwb_stem(path).split("_")) < set(nwb_stem(name).split("_")):
            yield (
                f"{path} keeps its name, and DANDI would call it {name.name} beside the others; to rename it, call "
                f"`nwb-extfiles organize -d {shlex.quote(str(root))} -f move` without paths{needs}"
            )


def _named(metadata: list[dict[str, Any]], settings: Settings) -> list[Path]:
    names = dandi_paths(metadata, settings.required_fields) if metadata else []
    places = [settings.dandiset_path.joinpath(*name.split("/")) for name in names]
    return [
        place.with_name(f"{place.name}{item.get(SUFFIX, '')}") for place, item in zip(places, metadata, strict=True)
    ]


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
    if is_same_name(source, target):
        source = target  # which has two paths
    plan = plan_references(
        inspected.references if settings.update_paths else (),
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
    target_stamp, replaces = None, False
    if source != target and os.path.lexists(target):
        target_stamp = _compared(inspected, plan, table)
        replaces = target_stamp is None
        if replaces:
            _check_replaced(inspected, target, settings)
    is_there = target_stamp is not None
    return OrganizedFile(source, plan, inspected.size, inspected.stamp, is_there, target_stamp, replaces)


def _check_replaced(inspected: Inspected, target: Path, settings: Settings) -> None:
    """Refuse a target that is something else, unless it may be replaced."""
    replaceable = zarr_marker(target) is not None if inspected.path.is_dir() else target.is_file()
    if settings.options.existing == "replace" and replaceable:
        return
    other = read_named(target) if replaceable else None
    if target.is_symlink():
        what, fixes = f"is a symbolic link to {os.path.realpath(target)}", ["put the file itself there"]
    elif other is None:
        what, fixes = "exists and is not an NWB file that can be read", ["move that away"]
    elif _ids_of(other) == _ids_of(inspected):
        what = "exists and is another version of the same NWB file, with other content or other paths"
        fixes = ["move that away", 'replace it with existing="replace" in media_options']
    else:
        what = f"exists and is a different NWB file, {_difference(inspected, other)}"
        fixes = ["move that away"]
    if other is None or other.metadata.get("session_id") != inspected.metadata.get("session_id"):
        fixes = [*_further_fields(inspected, target, settings), *fixes]
    raise MediaExistsError(
        f"{inspected.path}: it would be {target}, which {what}; {', or '.join(fixes)}", nwb_path=str(inspected.path)
    )


def _ids_of(item: Inspected | Named) -> tuple[Any, ...]:
    return item.object_id, item.identifier, item.metadata.get("subject_id"), item.metadata.get("session_id")


def _difference(inspected: Inspected, other: Named) -> str:
    mine = {**inspected.metadata, "identifier": inspected.identifier, "object_id": inspected.object_id}
    its = {**other.metadata, "identifier": other.identifier, "object_id": other.object_id}
    for key in ("subject_id", "session_id", "session_start_time", "identifier", "object_id"):
        if mine.get(key) != its.get(key):
            return f"whose {key} is {str(its.get(key))!r}, not {str(mine.get(key))!r}"
    return "though it has the same ids"


def _further_fields(inspected: Inspected, target: Path, settings: Settings) -> list[str]:
    """How a file gets a name that is free, if it can."""
    fields = (*settings.required_fields, "session_id")
    (name,) = _named([inspected.metadata], replace(settings, required_fields=fields))
    if name == target or os.path.lexists(name):
        return []
    return ['have the session in its name with required_fields=["session_id"] (--required-field session_id)']


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


def _compared(inspected: Inspected, plan: RelocationPlan, table: Sequence[MediaField]) -> tuple[int, ...] | None:
    """The stamp of the target, if it holds what the source holds, with the paths that are planned; else None."""
    target = plan.nwb_path
    if target.is_symlink() or target.is_dir() is not inspected.path.is_dir():
        return None
    try:
        before = stamp(os.stat(target))
        if plan.manifest is None and is_edited_copy(target, inspected.path, plan.edits):
            return _unless_changed(inspected, target, before)
        with open_nwb(target) as file:
            found = {entry.entry: entry.stored_path for entry in find_in_file(file, table)}
            manifest = read_manifest(file, target)
    except (ExternalFilesError, OSError):
        return None
    if any(found.get(place, text) != text for place, text in plan.new_paths.items()):
        return None
    if plan.manifest is not None and (manifest is None or not _names_in(plan.manifest) <= _names_in(manifest)):
        return None
    if not same_content(inspected.path, target, table):
        return None
    return _unless_changed(inspected, target, before)


def _unless_changed(inspected: Inspected, target: Path, before: tuple[int, ...]) -> tuple[int, ...] | None:
    """The stamp of the target, if neither file was written to while they were compared."""
    unchanged = has_stamp(inspected.path, inspected.stamp) and has_stamp(target, before)
    return before if unchanged else None


def _names_in(manifest: Iterable[ManifestRow]) -> set[tuple[Any, ...]]:
    """What a manifest alone knows: what media were called."""
    return {(*row.place, row.original_name) for row in manifest}


def _replaced_sources(files: list[OrganizedFile]) -> Iterator[ExternalFilesError]:
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
                f"and {free:,} are free; make room, or use another media_mode"
            )

    def remarks(self) -> Iterator[str]:
        if self._settings.update_paths and not self._taken_along:
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

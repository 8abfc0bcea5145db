"""What it means to bring NWB files and their media into a dandiset: all of them planned before anything is touched.

What happens to one file is a value, `OrganizedFile`, which has all that it takes to carry it out, on another machine
too that sees the same file systems. `organize` carries it out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from . import filesystem
from .batch import Spool, each
from .errors import (
    ExternalFilesError,
    MediaExistsError,
    RelocationRefusedError,
    UnreadableFileError,
    UnsafeReferenceError,
    combine,
)
from .inplace import cannot_hold, file_identifier, is_former_media_folder
from .layout import dandi_paths, external_links, layout_metadata, missing_metadata
from .manifest import ManifestRow, read_manifest
from .moves import stamp
from .options import MediaMode, MediaOptions
from .plan import Action, RelocationPlan
from .planning import plan_references
from .references import ExternalFileReference, find_in_file, media_fields
from .resolve import is_url
from .staging import is_half_done
from .storage import as_text
from .stores import open_nwb
from .targets import nwb_stem

__all__ = ["FilesMode", "OrganizePlan", "OrganizedFile", "Settings", "plan_files"]

FilesMode = Literal["copy", "move"]

_BRINGING = frozenset((Action.TRANSFER, Action.DUPLICATE, Action.FOLLOW))


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
        """Whether there is nothing to bring, and nothing to write."""
        nothing = not any(entry.action in _BRINGING for entry in self.plan.relocations)
        no_edit = not self.plan.edits and self.plan.manifest is None
        return nothing and (self.is_there or (self.in_place and no_edit))

    @property
    def total_bytes(self) -> int:
        """Size in bytes of the NWB file and its media, as far as they get anywhere."""
        return (0 if self.in_place or self.is_there else self.size) + self.plan.media_bytes


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


@dataclass(frozen=True, slots=True)
class _Inspected:
    """What was read from one NWB file."""

    path: Path
    size: int
    stamp: tuple[int, ...]
    identifier: str
    object_id: str | None
    metadata: dict[str, Any]
    references: tuple[ExternalFileReference, ...]
    manifest: tuple[ManifestRow, ...] | None
    problems: tuple[ExternalFilesError, ...]


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
    inspected = _inspect_all(sources, settings, executor, problems, warnings)
    if not settings.update_texts:
        problems.extend(filter(None, map(_stays_dangling, inspected)))
    if problems:
        raise combine(problems)
    targets = _targets([item.metadata for item in inspected], settings)
    files = Spool[OrganizedFile]()
    tally = _Tally(settings)
    plans: dict[int, OrganizedFile] = {}  # that are ready before their turn
    items = zip(inspected, targets, strict=True)
    for number, result in each(partial(_plan_one, settings=settings), items, executor):
        if isinstance(result, ExternalFilesError):
            problems.extend(result.problems)
        elif isinstance(result, BaseException):
            raise result
        else:
            plans[number] = result
        while not problems and len(files) in plans:
            tally.add(plan := plans.pop(len(files)))
            files.append(plan)
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
    )


# -------------------------------------------------------------------- inspect


def _inspect_all(
    sources: Sequence[Path],
    settings: Settings,
    executor: Executor | None,
    problems: list[ExternalFilesError],
    warnings: list[str],
) -> Spool[_Inspected]:
    """Read all files once; those that cannot be named are problems, or left out with a warning."""
    spool = Spool[_Inspected]()
    numbers: dict[int, int] = {}
    inspect = partial(_inspect, table=media_fields(settings.options.media_fields))
    for number, result in each(inspect, sources, executor):
        if isinstance(result, UnreadableFileError):
            if settings.invalid == "fail":
                problems.append(result)
            else:
                warnings.append(f"left out: {result}")
        elif isinstance(result, BaseException):
            raise result
        else:
            problems.extend(result.problems)
            numbers[number] = len(spool)
            spool.append(result)
    if executor is None:
        return spool
    ordered = Spool[_Inspected]()
    for number in sorted(numbers):
        ordered.append(spool[numbers[number]])
    return ordered


def _inspect(path: Path, *, table: Any) -> _Inspected:
    """Read what a file is named from, and the media that it refers to."""
    problems: list[ExternalFilesError] = []
    with open_nwb(path) as file:
        status = os.stat(path)
        links = list(external_links(file))
        if links:
            raise UnreadableFileError(
                f"{path} has links to other files, which DANDI does not take, such as {links[0]}; export it with "
                f'write_args={{"link_data": False}} first',
                nwb_path=str(path),
            )
        try:
            metadata = layout_metadata(file, path)
        except Exception as error:  # dandi's reader raises what it meets
            raise UnreadableFileError(
                f"{path}: dandi cannot read what it is to be named from: {error}", nwb_path=str(path)
            ) from error
        reason = missing_metadata(metadata)
        if reason is not None:
            raise UnreadableFileError(
                f"{path} cannot be named: {reason}; add it, or leave such files out with --invalid warn "
                f'(invalid="warn")',
                nwb_path=str(path),
            )
        references = find_in_file(file, table, problems)
        manifest = read_manifest(file, path)
        object_id = as_text(file.attrs.get("object_id"))
        identifier = file_identifier(file, path)
    if is_half_done(Path(os.path.realpath(path))):
        problems.append(
            RelocationRefusedError(
                f"{path} was left half edited by a run that was killed; call `nwb-extfiles recover` on it first",
                nwb_path=str(path),
            )
        )
    return _Inspected(
        path,
        status.st_size,
        stamp(status),
        identifier,
        object_id,
        metadata,
        tuple(references),
        None if manifest is None else tuple(manifest),
        tuple(problems),
    )


def _stays_dangling(item: _Inspected) -> ExternalFilesError | None:
    local = [reference for reference in item.references if not is_url(reference.text)]
    if not local:
        return None
    return RelocationRefusedError(
        f"{item.path} has {len(local)} external files, such as {local[0].text!r} in {local[0].object_path!r}, and "
        f"their paths would be kept and lead nowhere; let them be updated (--update-external-file-paths)",
        nwb_path=str(item.path),
    )


# ----------------------------------------------------------------------- plan


def _targets(metadata: list[dict[str, Any]], settings: Settings) -> list[Path]:
    names = dandi_paths(metadata, settings.required_fields) if metadata else []
    return [settings.dandiset_path.joinpath(*name.split("/")) for name in names]


def _plan_one(item: tuple[_Inspected, Path], *, settings: Settings) -> OrganizedFile:
    """Plan what happens to one file; nothing is changed."""
    inspected, target = item
    folder = Path(os.path.realpath(target.parent))
    if folder != target.parent:
        raise UnsafeReferenceError(
            f"{inspected.path}: it belongs into {target.parent}, but that is a symbolic link to {folder}, which DANDI "
            f"does not follow; put a folder there",
            nwb_path=str(inspected.path),
        )
    source = Path(os.path.realpath(inspected.path.parent), inspected.path.name)
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
            problems = cannot_hold(file, plan)
        if problems:
            raise combine(problems)
    is_there = source != target and os.path.lexists(target) and _is_made_of(inspected, plan)
    replaces = source != target and os.path.lexists(target) and not is_there
    if replaces and (settings.options.existing != "replace" or not target.is_file()):
        raise MediaExistsError(
            f"{inspected.path}: it would be {target}, which exists and was not made of it; move that away"
            + (', or replace it with existing="replace" in media_options' if target.is_file() else ""),
            nwb_path=str(inspected.path),
        )
    return OrganizedFile(source, plan, inspected.size, inspected.stamp, is_there, replaces)


def _former(source: Path, target: Path, files_mode: FilesMode) -> Callable[[Path], bool]:
    """Whether a folder holds media that belong to the NWB file and to nothing else, so that they go where it goes."""
    if source == target:
        return lambda folder: is_former_media_folder(folder, target)
    own = source.parent / nwb_stem(source)
    return lambda folder: files_mode == "move" and folder == own


def _is_made_of(inspected: _Inspected, plan: RelocationPlan) -> bool:
    """Whether the file at the target is what an earlier run has made of the source: it got the time of that."""
    target = plan.nwb_path
    if target.is_symlink() or not target.is_file() or os.stat(target).st_mtime_ns != inspected.stamp[-1]:
        return False
    try:
        with open_nwb(target) as file:
            if (as_text(file.attrs.get("object_id")), file_identifier(file, target)) != (
                inspected.object_id,
                inspected.identifier,
            ):
                return False
            found = {(entry.object_path, entry.field, entry.index): entry.text for entry in find_in_file(file)}
            if plan.manifest is not None and read_manifest(file, target) is None:
                return False
    except UnreadableFileError:
        return False
    return all(found.get(place, text) == text for place, text in plan.texts.items())


class _Tally:
    """What the files come to together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.warnings: list[str] = []
        self.total_bytes = 0
        self.media_count = 0
        self._local = 0
        self._needed = 0
        self._left_behind = 0
        self._folder = filesystem.nearest_folder(settings.dandiset_path)
        self._clones: dict[int, bool] = {}  # whether copies share blocks, by device of the source

    def add(self, file: OrganizedFile) -> None:
        self.warnings.extend(file.plan.warnings)
        self.total_bytes += file.total_bytes
        self.media_count += len(file.plan.relocations)
        local = [entry for entry in file.plan.relocations if entry.source is not None]
        self._local += len(local)
        self._left_behind += bool(local)
        if not (file.in_place or file.is_there or self._can_clone(file)):
            self._needed += file.size
        if not (self._settings.media_mode is MediaMode.COPY and self._can_clone(file)):
            self._needed += file.plan.copied_bytes

    def _can_clone(self, file: OrganizedFile) -> bool:
        device = file.stamp[0]
        if device not in self._clones:
            self._clones[device] = filesystem.can_clone(file.source, self._folder)
        return self._clones[device]

    def no_room(self) -> Iterator[ExternalFilesError]:
        free = filesystem.free_bytes(self._folder)
        if self._needed > free:
            yield RelocationRefusedError(
                f"{self._settings.dandiset_path}: the NWB files and their media need {self._needed:,} bytes there, and "
                f"{free:,} are free; make room, or use another --media-files-mode"
            )

    def remarks(self) -> Iterator[str]:
        if self._settings.update_texts and not self._local:
            found = "only URLs and missing files, which stay as they are" if self.media_count else "no external file"
            yield f"there are no paths of media to update: {found} in any of the NWB files"
        if self._settings.media_mode is MediaMode.MOVE and self._settings.files_mode == "copy" and self._left_behind:
            yield (
                f"{self._left_behind} NWB files stay behind with references to media that move; delete them when the "
                f"new ones are good, or use --files-mode move"
            )

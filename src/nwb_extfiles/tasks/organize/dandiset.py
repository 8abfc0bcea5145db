"""Plans NWB files and their media into a dandiset: all of them, before `organize` changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...batch import each
from ...disk import filesystem
from ...disk.moves import is_same_name
from ...errors import (
    ExternalFilesError,
    MediaExistsError,
    RelocationRefusedError,
    UnreadableFileError,
    UnsafeReferenceError,
    combine,
)
from ...hints import Hint, Message, Spelling, for_command_line, quoted
from ...media.cut_off import warned_of_cut_off
from ...media.pyav.recipes import remuxer
from ...nwb.files import cannot_hold, open_nwb, zarr_marker
from ...nwb.references import ExternalFileReference
from ...nwb.registry import MediaField, media_fields
from ...nwb.series import stored_frame_rate
from ...plans.needs import MediaUsers, settle
from ...plans.pipeline import plan_references
from ...plans.plan import RelocationPlan
from ...plans.plan_checks import unused_prefixes
from ...plans.stored_paths import is_url
from ...plans.targets import nwb_stem
from ..named_files import is_skipped, warn_left_out
from ..written_files import cannot_edit, is_former_media_folder, warned_of_other_names
from .already_there import find_match
from .inspected import Inspected, Named
from .inspection import inspect_all, read_named
from .plan import FilesMode, OrganizedFile, OrganizePlan, OrganizeSettings
from .plan_checks import alike_targets, no_space, replaced_sources
from .remarks import remarks
from .targets import dandiset_targets, name_files

if TYPE_CHECKING:
    from .known import KnownFiles

__all__ = ["plan_files"]

_LONGEST_NAME = 255  # bytes, on nearly every file system
_GROUPS = frozenset(("ImageSeries", "OnePhotonSeries", "OpticalSeries", "TwoPhotonSeries"))  # of the core schema
"""Objects whose paths are a dataset in them, which is replaced if it cannot hold new ones."""


def plan_files(
    sources: Sequence[Path],
    settings: OrganizeSettings,
    executor: Executor | None = None,
    known: KnownFiles | None = None,
) -> OrganizePlan:
    """Plan what happens to all files.

    Parameters
    ----------
    sources : sequence of pathlib.Path
        NWB files, each once.
    settings : OrganizeSettings
        What the caller asks for.
    executor : concurrent.futures.Executor, optional
        Who reads the files.
    known : KnownFiles, optional
        What earlier runs know of the bytes of files. Gets what this run finds.

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
    inspected, unreadable = inspect_all(sources, table, executor, problems, known)
    if settings.invalid == "fail":
        problems.extend(map(_or_leave_out, unreadable))
    else:
        warnings.extend(Message(f"left out: {error.what}", error.hint) for error in unreadable)
    if not settings.update_paths:
        problems.extend(filter(None, map(_paths_would_break, inspected)))
    unnamed = bool(unreadable) and settings.invalid == "fail"
    try:
        targets = dandiset_targets(inspected, settings, table, warnings, known)
    except RelocationRefusedError as problem:
        raise combine([*problems, problem]) from None
    files: list[OrganizedFile] = []
    left_out: list[ExternalFilesError] = []
    plan_one = partial(_plan_one, settings=settings, table=table, known=known)
    for _, result in sorted(each(plan_one, targets, executor), key=itemgetter(0)):
        if isinstance(result, ExternalFilesError):
            if is_skipped(result, settings.options):
                left_out.append(result)
                continue
            # While files are left out, existing files at targets mean little: names depend on all files.
            problems.extend(new for new in result.problems if not (unnamed and isinstance(new, MediaExistsError)))
        elif isinstance(result, BaseException):
            raise result
        else:
            files.append(result)
            if known is not None:
                known.keep_copy(result.digests, result.plan.edits)
    warn_left_out(left_out)
    if not problems:
        files, lost = _settled(files, settings)
        problems.extend(lost)
        problems.extend(alike_targets(files, settings))
        problems.extend(no_space(files, settings))
    if problems:
        raise combine(problems)
    warnings.extend(warning for file in files for warning in file.plan.warnings)
    warnings.extend(unused_prefixes(file.plan for file in files))
    warnings.extend(remarks(files, settings))
    return OrganizePlan(
        settings.dandiset_path, settings.files_mode, settings.media_modes, tuple(files), tuple(warnings)
    )


def _or_leave_out(error: UnreadableFileError) -> UnreadableFileError:
    hint = Hint("leave such files out with {invalid_warn}")
    if error.hint is not None:
        own = Spelling(error.hint, for_command_line(error.hint))
        hint = Hint("{own}, or leave such files out with {invalid_warn}", own=own)
    return UnreadableFileError(error.what, hint=hint, nwb_path=error.nwb_path)


def _paths_would_break(item: Inspected) -> ExternalFilesError | None:
    local = [reference for reference in item.references if not is_url(reference.stored_path)]
    if not local:
        return None
    return RelocationRefusedError(
        f"{item.path} has {len(local)} external files, such as {local[0].stored_path!r} in {local[0].object_path!r}, "
        f"whose paths would break",
        hint=Hint("update them with {update_paths}"),
        nwb_path=str(item.path),
    )


def _settled(
    files: list[OrganizedFile], settings: OrganizeSettings
) -> tuple[list[OrganizedFile], list[ExternalFilesError]]:
    """Decide for all files together which names are removed, and whether targets may be replaced."""
    served = {file.source for file in files} | {file.target for file in files}
    changed, problems = settle([file.plan for file in files], MediaUsers(served, settings.options))
    problems.extend(replaced_sources(files))
    return [replace(file, plan=changed.get(file.target, file.plan)) for file in files], problems


# ---------------------------------------------------------------------- one file


def _plan_one(
    item: tuple[Inspected, Path],
    *,
    settings: OrganizeSettings,
    table: Sequence[MediaField],
    known: KnownFiles | None,
) -> OrganizedFile:
    """Plan what happens to one file; nothing is changed."""
    inspected, target = item
    try:
        return _planned(inspected, target, settings, table, known)
    except ExternalFilesError:
        raise
    except (OSError, ValueError) as error:  # as the file system says of a folder, or of a name
        raise _refused(inspected, f"its place would be {quoted(target)}, which is not possible: {error}") from error


def _refused(inspected: Inspected, reason: str, hint: str | None = None) -> RelocationRefusedError:
    return RelocationRefusedError(f"{inspected.path}: {reason}", hint=hint, nwb_path=str(inspected.path))


def _planned(
    inspected: Inspected,
    target: Path,
    settings: OrganizeSettings,
    table: Sequence[MediaField],
    known: KnownFiles | None,
) -> OrganizedFile:
    _check_place(inspected, target, settings)
    is_store = inspected.path.is_dir()
    if is_store and settings.files_mode == "move" and inspected.path != target:
        hint = Hint("copy it ({files_mode_copy}), and remove it when the new one is good")
        raise _refused(inspected, "it is a Zarr store, and Zarr stores are not moved", hint)
    source = filesystem.with_real_folder(inspected.path)
    if is_same_name(source, target):
        source = target  # which has two paths
    plan = plan_references(
        inspected.references if settings.update_paths else (),
        nwb_path=target,
        identifier=inspected.identifier,
        modes=settings.media_modes,
        options=settings.options,
        is_former=_is_former_folder(source, target, settings.files_mode),
        manifest=inspected.manifest,
        remuxer=remuxer(settings.options, partial(_frame_rate, inspected.path)),
    )
    exists = source != target and os.path.lexists(target)
    plan, match = find_match(inspected, plan, settings, table, known) if exists else (plan, None)
    is_there = match is not None
    exported = () if is_there else _to_export(inspected, plan, in_place=source == target)
    if exists and not is_there:
        _check_replaced(inspected, target, settings)
    plan = warned_of_cut_off(warned_of_other_names(plan) if source == target else plan)
    if exported:
        plan = replace(plan, warnings=(*plan.warnings, _is_exported(inspected.path, exported)))
    return OrganizedFile(
        source,
        plan,
        inspected.size,
        inspected.stamp,
        is_there,
        target_stamp=None if match is None else match.stamp,
        replaces=exists and not is_there,
        exported=exported,
        digests=None if match is None else match.digests,
    )


def _to_export(inspected: Inspected, plan: RelocationPlan, *, in_place: bool) -> tuple[str, ...]:
    """The objects whose new paths the file cannot hold, so that it is exported; refused if it stays where it is."""
    types = {entry.reference.neurodata_type for entry in plan.relocations}
    if not plan.edits or (types <= _GROUPS and not in_place):
        return ()
    with open_nwb(inspected.path) as file:
        problems = cannot_hold(file, plan.edits, plan.nwb_path)
    if in_place:
        problems.extend(cannot_edit(plan))
        if problems:
            raise combine(problems)
    return tuple(problem.object_path for problem in problems if problem.object_path is not None)


def _is_exported(path: Path, object_paths: Sequence[str]) -> str:
    return (
        f"{path}: the new paths of {', '.join(map(repr, object_paths))} are longer than the length that the file has "
        f"fixed for them, so pynwb exports the file instead of copying it"
    )


def _frame_rate(path: Path, reference: ExternalFileReference) -> float | None:
    with open_nwb(path) as file:
        return stored_frame_rate(file, reference.object_path)


def _check_replaced(inspected: Inspected, target: Path, settings: OrganizeSettings) -> None:
    """Refuse a target with other content, unless it may be replaced."""
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
        fixes = ["move that away", "replace it with {existing_replace}"]
    else:
        what = f"exists and is a different NWB file, {_difference(inspected, other)}"
        fixes = ["move that away"]
    if other is None or other.metadata.get("session_id") != inspected.metadata.get("session_id"):
        fixes = [*_further_fields(inspected, target, settings), *fixes]
    raise MediaExistsError(
        f"{inspected.path}: its place would be {target}, which {what}",
        hint=Hint(", or ".join(fixes)),
        nwb_path=str(inspected.path),
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


def _further_fields(inspected: Inspected, target: Path, settings: OrganizeSettings) -> list[str]:
    """How a file gets a name that is free, if it can."""
    fields = (*settings.required_fields, "session_id")
    (name,) = name_files([inspected.metadata], replace(settings, required_fields=fields))
    return [] if name == target or os.path.lexists(name) else ["put the session in its name with {require_session_id}"]


def _check_place(inspected: Inspected, target: Path, settings: OrganizeSettings) -> None:
    """Refuse a place that is not possible, or where DANDI would not find the file."""
    what = hint = None
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        what = f"that name has more than {_LONGEST_NAME} bytes"
        hint = "shorten the ids in the NWB file that it is made of"
    for folder in reversed(target.relative_to(settings.dandiset_path).parents):
        place = settings.dandiset_path / folder
        if place.is_symlink():
            what = f"{place} is a symbolic link to {os.path.realpath(place)}, which DANDI does not follow"
            hint = "put a folder there"
        elif os.path.lexists(place) and not place.is_dir():
            what, hint = f"{place} is not a folder", "move it away"
    if what is not None:
        raise UnsafeReferenceError(
            f"{inspected.path}: its place would be {quoted(target)}, but {what}",
            hint=hint,
            nwb_path=str(inspected.path),
        )


def _is_former_folder(source: Path, target: Path, files_mode: FilesMode) -> Callable[[Path], bool]:
    """Whether a folder has media of this NWB file and no other, so that they are moved with it."""
    if source == target:
        return lambda folder: is_former_media_folder(folder, target)
    own = source.parent / nwb_stem(source)
    return lambda folder: files_mode == "move" and folder == own

"""Original names of media, restored after a download from the archive.

In the archive the name of each video is a UUID; the manifest in the NWB file has the original name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..disk.filesystem import tree_size, with_real_folder
from ..disk.moves import folded, may_be_same_name, stamp
from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    RelocationRefusedError,
    UnsafeReferenceError,
    combine,
    warn_all,
)
from ..hints import Hint, Message
from ..media.inventory import rows_by_entry
from ..naming import is_showable, unportable
from ..nwb.files import cannot_hold, open_nwb
from ..nwb.manifest import ManifestRow, read_manifest
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..options import MediaMode, MediaModes, MediaOptions, modes_in_order
from ..plans.log import log_done
from ..plans.needs import MediaUsers, settle
from ..plans.pipeline import plan_references
from ..plans.plan import RelocationPlan
from ..plans.plan_checks import unused_prefixes
from ..plans.resolve import resolve
from ..plans.targets import STAGING_PREFIX, naming_id, nwb_stem
from ..progress import reporting
from ..threads import each_in_threads
from ..web.remote import RemoteFile
from .named_files import is_skipped, require_nwb, warn_left_out
from .organize.one_file import carry_out
from .organize.organizing import failed_in_part
from .organize.plan import OrganizedFile
from .written_files import file_identifier

__all__ = ["restore", "restore_files"]

_MOVE_AWAY = "name another folder, or move it away"
_LEAVE_OUT = Hint("name another folder, move it away, or leave it out with {existing_skip}")

_NamingKey = tuple[str, str, int]  # object_id, field, index: what a naming convention gets


def restore(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    media_mode: MediaModes = MediaMode.COPY,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> RelocationPlan:
    """Give videos their original names back.

    Parameters
    ----------
    path : path
        An NWB file with a manifest, such as one that was downloaded from the archive. It stays as it is.
    folder : path
        Gets a copy of the NWB file with new paths, and its media beside it; created if it does not exist. If two videos
        had one name, each gets a folder of its own.
    media_mode : MediaMode, str or sequence of these
        How media are copied or linked; verified copies by default. They cannot move: the NWB file keeps its media.
    media_options : MediaOptions or mapping, optional
        How media are found and transferred; `naming` is not used.
    dry_run : bool
        Whether to plan only; nothing on disk is changed then.

    Returns
    -------
    RelocationPlan
        What was done, or would be; its `nwb_path` is the new NWB file.

    Raises
    ------
    RelocationRefusedError
        If the NWB file has no manifest, or media are to move.
    ExternalFilesError
        If there are other problems, with all of them at once; nothing was changed.
    """
    options = MediaOptions.from_value(media_options)
    modes = _modes(path, media_mode)
    file = _plan(path, folder, modes, options)
    warn_all((*file.plan.warnings, *unused_prefixes([file.plan])))
    if not dry_run:
        for failure in _carry_out([file], options, 1, lambda plan: None):
            raise failure
    return file.plan


def restore_files(
    folders: Mapping[Path, Path],
    media_mode: MediaModes = MediaMode.COPY,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    jobs: int = 1,
    on_file: Callable[[RelocationPlan], object] = lambda plan: None,
) -> list[RelocationPlan]:
    """Give the videos of several NWB files their original names back; nothing is changed before all are planned.

    Parameters
    ----------
    folders : mapping of pathlib.Path
        The folder for each NWB file.
    media_mode, dry_run
        As in `restore`.
    media_options
        As in `restore`. With ``existing="skip"``, NWB files are left out, with a warning, if they, or other files with
        the names of their videos, are in their folders already.
    jobs : int
        Number of NWB files that are copied, with their media, at the same time, each by a thread.
    on_file : callable
        Called with the plan of each file when it is done, in this thread.

    Returns
    -------
    list of RelocationPlan
        What was done, or would be, in the order of the files that are not left out.

    Raises
    ------
    ExternalFilesError
        If the plan has problems, with all of them at once; nothing was changed. If some files fail when they are
        carried out: which, and why; the others are restored.
    """
    options = MediaOptions.from_value(media_options)
    files: list[OrganizedFile] = []
    problems: list[ExternalFilesError] = []
    left_out: list[ExternalFilesError] = []
    hint = _LEAVE_OUT if len(folders) > 1 else _MOVE_AWAY
    for path, folder in folders.items():
        try:
            files.append(_plan(path, folder, _modes(path, media_mode), options, hint))
        except ExternalFilesError as error:
            if is_skipped(error, options):
                left_out.append(error)
            else:
                problems.extend(error.problems)
    warn_left_out(left_out)
    if problems:
        raise combine(problems)
    warn_all(warning for file in files for warning in file.plan.warnings)
    warn_all(unused_prefixes(file.plan for file in files))
    failures = [] if dry_run else _carry_out(files, options, jobs, on_file)
    if failures and len(files) == 1:
        raise failures[0]
    if failures:
        what = (
            f"{len(failures):,} of {len(files):,} NWB files could not be restored, and the others are. Fix these "
            f"problems and run the same again with existing 'skip', which leaves out those that are there"
        )
        raise failed_in_part(failures, what, ())
    return [file.plan for file in files]


def _modes(path: str | os.PathLike[str], media_mode: MediaModes) -> tuple[MediaMode, ...]:
    modes = modes_in_order(media_mode)
    if MediaMode.MOVE in modes:
        raise RelocationRefusedError(
            f"{path} keeps its media, so they cannot be restored with media_mode 'move'",
            hint="use 'hardlink', which needs no space, or 'copy'",
            nwb_path=str(path),
        )
    return modes


def _carry_out(
    files: Sequence[OrganizedFile], options: MediaOptions, jobs: int, on_file: Callable[[RelocationPlan], object]
) -> list[BaseException]:
    """Restore each file; gives what failed."""

    def one(file: OrganizedFile, on_bytes: Callable[[int], object]) -> tuple[str, ...]:
        return carry_out(
            file, files_mode="copy", sync=options.sync, url_timeout=options.url_timeout, on_bytes=on_bytes
        ).notes

    failures: list[BaseException] = []
    notes: list[str] = []
    with (
        reporting(options.progress, sum(file.work_bytes for file in files)) as on_bytes,
        closing(each_in_threads(one, files, min(jobs, len(files)), on_bytes)) as results,
    ):
        for number, result in results:
            if isinstance(result, BaseException):
                failures.append(result)
                continue
            notes.extend(result)
            log_done(files[number].plan)
            on_file(files[number].plan)
    warn_all(notes)
    return failures


def _plan(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    modes: Sequence[MediaMode],
    options: MediaOptions,
    if_it_exists: str = _MOVE_AWAY,
) -> OrganizedFile:
    source = with_real_folder(Path(os.path.abspath(path)))
    plan = _plan_media(source, Path(os.path.realpath(folder), source.name), modes, options, if_it_exists)
    status = os.stat(source)
    size = tree_size(source) if source.is_dir() else status.st_size
    return OrganizedFile(source, plan, size, stamp(status), replaces=os.path.lexists(plan.nwb_path))


def _plan_media(
    source: Path, target: Path, modes: Sequence[MediaMode], options: MediaOptions, if_it_exists: str
) -> RelocationPlan:
    if target.parent == source.parent / nwb_stem(source):
        raise RelocationRefusedError(
            f"{target.parent} is the media folder of {source}", hint="name another folder", nwb_path=str(source)
        )
    problems: list[ExternalFilesError] = []
    with open_nwb(source) as file:
        require_nwb(file, source)
        rows = read_manifest(file, source)
        if rows is None:
            raise RelocationRefusedError(
                f"{source} has no manifest, so the original names of its media are not known",
                hint=Hint("{manifest} records them when media are relocated, not later"),
                nwb_path=str(source),
            )
        references = find_in_file(file, media_fields(options.media_fields), problems)
        identifier = file_identifier(file, source)
        remuxed: list[str] = []
        names = _names(references, rows, identifier, target.name, options, problems, remuxed)

        def naming(*, nwb_stem: str, object_id: str, field: str, index: int, suffix: str) -> PurePosixPath:  # noqa: ARG001
            # media without a name are among the problems, or behind a URL without a file name
            return names.get((object_id, field, index)) or PurePosixPath(f"{object_id}_{field}_{index}{suffix}")

        is_replaceable = options.existing == "replace" and target.is_file() and not may_be_same_name(target, source)
        if os.path.lexists(target) and not is_replaceable:
            problems.append(MediaExistsError(f"{target} exists", hint=if_it_exists, nwb_path=str(source)))
        plan = plan_references(
            references,
            nwb_path=target,
            identifier=identifier,
            modes=modes,
            options=replace(options, naming=naming),
            problems=problems,
            manifest=rows,
            for_archive=False,
        )
        problems = cannot_hold(file, plan.edits, plan.nwb_path)
    changed, lost = settle([plan], MediaUsers([target], options))
    problems.extend(lost)
    if problems:
        raise combine(problems)
    plan = changed.get(target, plan)
    return replace(plan, warnings=(*plan.warnings, *remuxed))


def _names(
    references: list[ExternalFileReference],
    rows: list[ManifestRow],
    identifier: str,
    nwb_name: str,
    options: MediaOptions,
    problems: list[ExternalFilesError],
    remuxed: list[str],
) -> dict[_NamingKey, PurePosixPath]:
    """The path of each video below the folder; `remuxed` gets a warning for each that was in another container."""
    of_entry = rows_by_entry(rows)
    names: dict[_NamingKey, PurePosixPath] = {}
    wanted: dict[str, set[object]] = {}  # the videos with each name
    found: list[tuple[_NamingKey, ExternalFileReference, str]] = []
    for reference in references:
        resolution = resolve(reference, options, destination=Path(reference.base or ""))
        file = resolution.file
        downloaded = resolution.url and options.urls == "download"
        if file is None and not downloaded:
            continue  # it is a problem of the plan, or stays a URL
        row = of_entry(reference)
        if row is not None and row.path == reference.stored_path:
            name = row.original_name
            if row.original_sha256:
                remuxed.append(_other_container(reference, row))
                name = PurePosixPath(name).stem + PurePosixPath(row.path).suffix
        else:
            name = file.path.name if file is not None else RemoteFile(url=reference.stored_path, size=None).name
        try:
            if file is None and not _is_name(name):
                continue  # the URL has no file name
            _check_name(name, reference)
            key = naming_id(reference, identifier), reference.field, reference.index
        except ExternalFilesError as problem:
            problems.append(problem)
            continue
        wanted.setdefault(folded(name), set()).add(reference.stored_path if file is None else file.identity)
        found.append((key, reference, name))
    for key, reference, name in found:
        same = folded(name)
        alone = len(wanted[same]) == 1 and same != folded(nwb_name) and not name.startswith(STAGING_PREFIX)
        names[key] = PurePosixPath(name) if alone else _own_folder(reference, wanted) / name
    return names


def _other_container(reference: ExternalFileReference, row: ManifestRow) -> Message:
    return Message(
        f"{reference.where}: the original was {row.original_name[:300]!r}, another container with the same frames "
        f"(SHA-256 {row.original_sha256[:64]}); what is restored is its {PurePosixPath(row.path).suffix[1:]} file",
        "use the original if you have it",
    )


def _own_folder(reference: ExternalFileReference, taken: Container[str]) -> PurePosixPath:
    """A folder for one entry, with a name that no video has."""
    folder = reference.object_path.strip("/").replace("/", "_")
    while folded(folder) in taken:
        folder += "_"
    return PurePosixPath(folder, f"{reference.field}_{reference.index}")


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\") and is_showable(name) and not _refused(name)


def _refused(name: str) -> str | None:
    """Why Windows, if this is Windows, can have no file of a name."""
    return unportable(name) if os.name == "nt" else None


def _check_name(name: str, reference: ExternalFileReference) -> None:
    """Refuse what is not a plain file name: the manifest may come from anybody."""
    if not _is_name(name):
        reason = _refused(name)
        raise UnsafeReferenceError(
            f"{reference.where}: the original name of its video in the manifest is {name[:80]!r}, "
            f"{f'but {reason}' if reason else 'which is not a file name'}",
            hint="restore it on another system, or correct the manifest" if reason else "correct the manifest",
            **reference.place,
        )

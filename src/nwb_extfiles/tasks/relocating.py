"""Media of an NWB file copied, linked or moved beside it, while the NWB file stays where it is.

For files that any program wrote, and for files that were renamed. Only the stored paths change, in place and with a
journal; the rest of the NWB file is neither read nor written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

from ..disk.moves import is_same_name, may_be_same_name
from ..errors import (
    ExternalFilesError,
    RelocationRefusedError,
    UnreadableFileError,
    combine,
    warn_all,
)
from ..media.cut_off import warned_of_cut_off
from ..nwb.files import open_nwb
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..options import MediaMode, MediaModes, MediaOptions, modes_in_order
from ..plans.log import log_done
from ..plans.needs import MediaUsers, settle
from ..plans.places import Known
from ..plans.plan import RelocationPlan, RelocationPlans
from ..plans.plan_checks import unused_prefixes
from ..progress import reporting
from ..transfers.interrupted import has_leftovers
from .in_place_plan import IsInMemory, document_of, plan_document
from .named_files import files_in_folders, is_plain_folder, is_skipped, warn_left_out
from .written_files import (
    remove_empty,
    transfer_all,
)

__all__ = ["references_before", "relocate", "relocate_files", "relocate_just_written"]


@overload
def relocate(  # type: ignore[overload-overlap]  # a string is an iterable of strings, but means one path; no type
    # says whether it is that of a file, or of a folder, which gives a list
    path: str | os.PathLike[str],
    media_mode: MediaModes | None = None,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    repair: bool = False,
    jobs: int = 1,
) -> RelocationPlan: ...
@overload
def relocate(
    path: Iterable[str | os.PathLike[str]],
    media_mode: MediaModes | None = None,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    repair: bool = False,
    jobs: int = 1,
) -> RelocationPlans: ...
def relocate(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    media_mode: MediaModes | None = None,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    repair: bool = False,
    jobs: int = 1,
) -> RelocationPlan | RelocationPlans:
    """Copy, link or move the media of an NWB file into the folder beside it, and change the stored paths.

    Media that are already there stay there. If the NWB file was renamed, the media in the folder of its former name
    are renamed too, with any `media_mode`, and that folder is removed when it is empty.

    Parameters
    ----------
    path : path or iterable of paths
        The NWB file, or a folder with NWB files. They are not rewritten: the stored paths change in place, safe against
        a crash at any moment. Several files are relocated in one step, all of them or none: files that share a video
        can be moved together.
    media_mode : MediaMode, str or sequence of these, optional
        How media are moved, copied or linked, as in `NWBExtFilesHDF5IO.export`.
    media_options : MediaOptions or mapping, optional
        How media are found, named and transferred. With ``existing="skip"``, those of several NWB files are left out,
        with a warning, that have different files at their new paths.
    dry_run : bool
        Whether to plan only; nothing on disk is changed then.
    repair : bool
        Whether videos that are missing, or are not those of the manifest, are searched for by their content in the
        media folder of the NWB file and in the folders of `search`. A wrong video is replaced only with
        ``existing="replace"``.
    jobs : int
        Number of NWB files whose media are copied, downloaded or remuxed at the same time, each by a thread. Nothing
        else changes: all of it is put in place in one step.

    Returns
    -------
    RelocationPlan, or RelocationPlans, a list of them
        What was done, or would be; a list for an iterable of paths, and for a folder. Printed, and in a notebook, each
        is a table; `to_dataframe` makes it a `pandas.DataFrame`.

    Raises
    ------
    UnreadableFileError
        If the file cannot be opened.
    ExternalFilesError
        If the media cannot be treated as asked, with all reasons at once. Nothing was changed then.
    """
    is_one = isinstance(path, str | os.PathLike) and not is_plain_folder(path)
    paths = [path] if isinstance(path, str | os.PathLike) else path
    options = MediaOptions.from_value(media_options)
    if is_one and options.existing == "skip":  # there is no plan to give for a file that is left out
        options = replace(options, existing="error")
    plans = relocate_files(paths, media_mode, media_options=options, dry_run=dry_run, repair=repair, jobs=jobs)
    return plans[0] if is_one else plans


def relocate_just_written(
    path: str | os.PathLike[str],
    media_mode: MediaModes | None,
    options: MediaOptions,
    held_before: Collection[ExternalFileReference],
) -> RelocationPlan:
    """Relocate the media of an NWB file that this very program has written, or appended to.

    Its new paths are stored as they were in memory: relative ones may be relative to the working directory too, as for
    `NWBExtFilesHDF5IO.write`. Those of `held_before`, which `references_before` gave, mean files beside the NWB file.
    """
    before = {(entry.object_id, entry.entry, entry.stored_path) for entry in held_before}
    (plan,) = _relocate(
        [path],
        modes_in_order(media_mode),
        options,
        in_memory=lambda entry: (entry.object_id, entry.entry, entry.stored_path) not in before,
    )
    return plan


def references_before(
    path: str | os.PathLike[str], media_options: MediaOptions | Mapping[str, Any] | None = None
) -> list[ExternalFileReference]:
    """References of an NWB file that another program is about to append to, or to replace.

    Parameters
    ----------
    path : path
        The NWB file, if there is one. If an interrupted run has left it inconsistent it is restored first: later, the
        journal of that run must not be applied to what the other program has written.
    media_options : MediaOptions or mapping, optional
        Of which `media_fields` is used.

    Returns
    -------
    list of ExternalFileReference
        Empty if there is no such file, or if it is not an NWB file.

    Raises
    ------
    RelocationRefusedError
        If the path is a symbolic link, beside which readers would look for media.
    DestinationBusyError, TransferError
        If another run is editing the file, or if it cannot be restored.
    """
    options = MediaOptions.from_value(media_options)
    document = document_of(Path(os.path.abspath(path)), dry_run=False)
    try:
        with open_nwb(document) as file:
            return list(find_in_file(file, media_fields(options.media_fields)))
    except UnreadableFileError:
        return []


def relocate_files(
    paths: Iterable[str | os.PathLike[str]],
    media_mode: MediaModes | None = None,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    repair: bool = False,
    jobs: int = 1,
    on_file: Callable[[RelocationPlan], object] | None = None,
) -> RelocationPlans:
    """Relocate the media of several NWB files in one step: of all of them, or of none.

    Nothing is changed before all files are planned, and all media are staged before anything is replaced. If several
    files refer to one video, each gets it, and only then its old name is removed, if at all. If one file fails, all are
    restored; after a kill the next run on any of them restores or completes all.

    Parameters
    ----------
    paths : iterable of paths
        The NWB files, or folders with NWB files; naming one twice is the same as once.
    media_mode, media_options, dry_run, repair, jobs
        As in `relocate`.
    on_file : callable, optional
        Called with the plan of each file when all are done.

    Returns
    -------
    RelocationPlans, a list of RelocationPlan
        What was done, or would be.

    Raises
    ------
    ExternalFilesError
        As `relocate`; nothing was changed in any of the files then.
    """
    return _relocate(
        paths,
        modes_in_order(media_mode),
        MediaOptions.from_value(media_options),
        dry_run=dry_run,
        repair=repair,
        jobs=jobs,
        on_file=on_file,
    )


def _relocate(
    paths: Iterable[str | os.PathLike[str]],
    modes: Sequence[MediaMode],
    options: MediaOptions,
    *,
    in_memory: IsInMemory | None = None,
    dry_run: bool = False,
    repair: bool = False,
    jobs: int = 1,
    on_file: Callable[[RelocationPlan], object] | None = None,
) -> RelocationPlans:
    if jobs < 1:
        raise RelocationRefusedError(f"jobs must be a number of threads, not {jobs!r}")
    plans = [*map(warned_of_cut_off, _plan_all(paths, modes, options, dry_run, in_memory, repair))]
    warn_all(warning for plan in plans for warning in plan.warnings)
    warn_all(unused_prefixes(plans))
    return RelocationPlans(plans if dry_run else _carry_out(plans, options, jobs, on_file or (lambda plan: None)))


def _plan_all(
    paths: Iterable[str | os.PathLike[str]],
    modes: Sequence[MediaMode],
    options: MediaOptions,
    dry_run: bool,
    in_memory: IsInMemory | None,
    repair: bool,
) -> list[RelocationPlan]:
    documents: dict[Path, None] = {}
    problems: list[ExternalFilesError] = []
    for path in files_in_folders(paths, problems):
        try:
            document = document_of(path, dry_run)
            if not any(is_same_name(document, other) for other in documents):
                problems.extend(
                    _named_twice(document, other) for other in documents if may_be_same_name(document, other)
                )
                documents[document] = None
        except ExternalFilesError as error:
            problems.append(error)
    while True:
        users, memory = MediaUsers(documents, options), Known()
        one = partial(
            plan_document, modes=modes, options=options, users=users, memory=memory, in_memory=in_memory, repair=repair
        )
        plans, refused = _plan_each(documents, one)
        left_out = [path for path, error in refused.items() if is_skipped(error, options)]
        if not left_out:
            break
        warn_left_out([refused[path] for path in left_out])
        for path in left_out:  # what it needs stays then, as with any other NWB file, so the others are planned anew
            del documents[path]
    problems.extend(problem for why in refused.values() for problem in why.problems)
    changed, lost = settle(plans, users)
    problems.extend(lost)
    if problems:
        raise combine(problems)
    return [changed.get(plan.nwb_path, plan) for plan in plans]


def _plan_each(
    documents: Iterable[Path], plan: Callable[[Path], RelocationPlan]
) -> tuple[list[RelocationPlan], dict[Path, ExternalFilesError]]:
    """The plans of the documents that can be planned, and why the others cannot."""
    plans: list[RelocationPlan] = []
    refused: dict[Path, ExternalFilesError] = {}
    for document in documents:
        try:
            plans.append(plan(document))
        except ExternalFilesError as error:
            refused[document] = error
    return plans, refused


def _named_twice(document: Path, other: Path) -> ExternalFilesError:
    return RelocationRefusedError(
        f"{document} and {other} look like two paths of one file: name, inode, size and time are the same",
        hint="name it once",
        nwb_path=str(document),
    )


def _carry_out(
    plans: Sequence[RelocationPlan],
    options: MediaOptions,
    jobs: int,
    on_file: Callable[[RelocationPlan], object],
) -> list[RelocationPlan]:
    """Carry out plans, and give them as they were carried out."""
    with reporting(options.progress, sum(plan.work_bytes for plan in plans)) as on_bytes:
        changed = transfer_all(
            [plan for plan in plans if _has_work(plan)],
            sync=options.sync,
            on_bytes=on_bytes,
            url_timeout=options.url_timeout,
            jobs=jobs,
        )
    done = [changed.get(plan.nwb_path, plan) for plan in plans]
    for plan in done:
        remove_empty(plan)
    for plan in done:
        log_done(plan)
        on_file(plan)
    return done


def _has_work(plan: RelocationPlan) -> bool:
    """Whether anything on disk has to change; if not, the folder need not be writable."""
    if plan.edits or not plan.manifest_is_current or has_leftovers(plan.nwb_path):
        return True
    return any(
        entry.creates_target
        or (
            # an earlier run has copied the video there, and its old name is still to be removed
            plan.removes_name(entry)
            and entry.source is not None
            and entry.target is not None
            and plan.nwb_path.parent / entry.target not in (entry.source.path, entry.source.real)
        )
        for entry in plan.relocations
    )

"""Steps that checking, relocating, organizing and restoring share, for NWB files that are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from ..disk import access, contents, filesystem, locks
from ..disk.moves import MovedSource
from ..errors import ExternalFilesError, RelocationRefusedError
from ..media.inventory import make_rows, other_videos
from ..nwb.files import nwb_files_called_like, write_paths
from ..nwb.manifest import ManifestRow, same_rows
from ..nwb.path_datasets import is_stored, paths_at, read_paths
from ..options import ProgressCallback
from ..plans.plan import Action, RelocationPlan
from ..plans.targets import nwb_stem
from ..progress import increments
from ..threads import each_in_threads
from ..transfers.joint_commit import TransferCall
from ..transfers.transfer import Transfer

__all__ = [
    "cannot_edit",
    "file_identifier",
    "interrupted_edit",
    "is_former_media_folder",
    "new_rows",
    "remove_empty",
    "rolled_back",
    "stored_identifier",
    "transfer_all",
    "transfer_media",
    "warned_of_other_names",
]


def cannot_edit(plan: RelocationPlan) -> list[ExternalFilesError]:
    """Problems of stored paths that have to change in a file that stays where it is."""
    path = plan.nwb_path
    if not plan.edits and plan.manifest_is_current:
        return []
    if path.is_symlink():
        # git-annex, for one, has links to files that must never change
        what = f"{path} is a symbolic link to {os.path.realpath(path)}, which is not changed through the link"
        return [RelocationRefusedError(what, hint="put the file itself there", nwb_path=str(path))]
    if not os.access(path, os.W_OK):
        what = f"{path} is not writable, and its stored paths have to change"
        return [RelocationRefusedError(what, hint="make it writable first", nwb_path=str(path))]
    return _no_space_for_copy(path) if filesystem.has_other_names(path) else []


def _no_space_for_copy(path: Path) -> list[ExternalFilesError]:
    size, free = os.stat(path).st_size, filesystem.free_bytes(path.parent)
    if size <= free or contents.can_clone(path, path.parent):
        return []
    what = f"{path} has other names (hard links), so its paths change in a copy, which needs {size:,} bytes"
    return [RelocationRefusedError(f"{what}, and {free:,} are free", hint="make space", nwb_path=str(path))]


def interrupted_edit(path: Path) -> RelocationRefusedError:
    """The problem of a file that an interrupted run has left inconsistent, and that must not be planned with."""
    return RelocationRefusedError(
        f"{path} was left inconsistent by an interrupted run",
        hint="run `nwb-extfiles recover` on it first",
        nwb_path=str(path),
    )


def warned_of_other_names(plan: RelocationPlan) -> RelocationPlan:
    """The plan, with a warning if the NWB file has other names (hard links), which keep the paths of before."""
    path = plan.nwb_path
    if not _gets_own_content(plan):
        return plan
    note = (
        f"{path} has {os.stat(path).st_nlink} names (hard links): this one gets content of its own with the new paths, "
        f"and the others keep their content and paths"
    )
    return replace(plan, warnings=(*plan.warnings, note))


def _gets_own_content(plan: RelocationPlan) -> bool:
    return bool(plan.edits or not plan.manifest_is_current) and filesystem.has_other_names(plan.nwb_path)


def transfer_media(
    plan: RelocationPlan,
    *,
    sync: bool = True,
    progress: bool | ProgressCallback = False,
    url_timeout: float = 60.0,
    with_paths: bool = True,
    keep_sources: bool = False,
    tell: Callable[[str], object] | None = None,
) -> tuple[MovedSource, ...]:
    """Carry out the plan of an NWB file that is in its place.

    Parameters
    ----------
    plan : RelocationPlan
        Of that file.
    sync : bool
        As `MediaOptions.sync`.
    progress : bool or callable
        As `MediaOptions.progress`.
    url_timeout : float
        As `MediaOptions.url_timeout`, in seconds.
    with_paths : bool
        Whether the stored paths are still to be changed.
    keep_sources : bool
        Whether the old names of media that move are kept for now.
    tell : callable, optional
        As `Transfer` has it.

    Returns
    -------
    tuple of MovedSource
        The old names that are kept for now.
    """
    if with_paths:
        _get_own_content(plan, sync)
    transfer = Transfer(plan.nwb_path, edits_document=True, keep_sources=keep_sources, tell=tell)
    with rolled_back(transfer):
        transfer.media.stage(plan, sync=sync, progress=progress, url_timeout=url_timeout)
        transfer.commit(sync=sync, edit=_edit(plan, transfer, sync) if with_paths else None)
    return transfer.conclude(sync=sync)


def transfer_all(
    plans: Sequence[RelocationPlan],
    *,
    sync: bool = True,
    on_bytes: Callable[[int], object] = lambda count: None,
    url_timeout: float = 60.0,
    jobs: int = 1,
) -> dict[Path, RelocationPlan]:
    """Carry out the plans of one call, for NWB files that are in their places: all of them, or none.

    Parameters
    ----------
    plans : sequence of RelocationPlan
        Each of another file.
    sync, url_timeout
        As in `transfer_media`.
    on_bytes : callable
        Called with each number of bytes done, in this thread.
    jobs : int
        Number of NWB files whose media are staged at the same time, each by a thread. All else is one step after the
        other, in any case.

    Returns
    -------
    dict of pathlib.Path to RelocationPlan
        The plans as they were carried out, by their NWB files.
    """
    if not plans:
        return {}
    done: dict[Path, RelocationPlan] = {}
    for plan in plans:
        _get_own_content(plan, sync)
    call = TransferCall([plan.nwb_path for plan in plans])
    with rolled_back(call):
        # All are staged before anything is replaced: the media of one may be at the target of another's.
        pairs = list(zip(plans, call.transfers, strict=True))
        stage = partial(_stage, sync=sync, url_timeout=url_timeout)
        with closing(each_in_threads(stage, pairs, min(jobs, len(pairs)), on_bytes)) as results:
            for number, result in results:
                if isinstance(result, BaseException):
                    raise result
                done[plans[number].nwb_path] = result
        call.commit([_edit(plan, transfer, sync) for plan, transfer in pairs], sync=sync)
    call.conclude(sync=sync)
    return done


def _stage(
    of_file: tuple[RelocationPlan, Transfer], on_bytes: Callable[[int], object], *, sync: bool, url_timeout: float
) -> RelocationPlan:
    plan, transfer = of_file
    return transfer.media.stage(plan, sync=sync, progress=increments(on_bytes), url_timeout=url_timeout)


def _get_own_content(plan: RelocationPlan, sync: bool) -> None:
    """Give an NWB file that is to be edited a copy of its content, if it has other names (hard links)."""
    if not _gets_own_content(plan):
        return
    path = plan.nwb_path
    transfer = Transfer(path)
    with rolled_back(transfer), locks.held_alone(path, to_copy=True):
        contents.copy_verified(path, transfer.staged_document, sync=sync)
        access.make_writable(transfer.staged_document)
        transfer.commit(sync=sync)
    transfer.conclude(sync=sync)


def _edit(plan: RelocationPlan, transfer: Transfer, sync: bool) -> Callable[[], None]:
    """The function that writes the new paths and the manifest, if the stored paths are still those of the plan."""
    rows = new_rows(plan, transfer)
    planned = [entry.reference for entry in plan.relocations]
    return lambda: write_paths(
        plan.nwb_path, plan.edits, manifest=rows, journal=transfer.journal, sync=sync, planned=planned
    )


def new_rows(plan: RelocationPlan, transfer: Transfer) -> list[ManifestRow] | None:
    """The rows of the manifest when media are staged; None if it does not change."""
    if plan.manifest is None:
        return None
    rows = make_rows(plan, transfer.media.digests, transfer.media.made)
    transfer.notes.extend(other_videos(plan, rows))
    return None if plan.manifest and same_rows(rows, plan.manifest) else rows


@contextmanager
def rolled_back(transfer: Transfer | TransferCall) -> Iterator[None]:
    """Roll a transfer back if it fails; the error gets a note for what could not be restored."""
    try:
        yield
    except BaseException as error:
        for line in transfer.rollback():
            error.add_note(line)
        raise


def file_identifier(file: Any, nwb_path: Path) -> str:
    """The identifier of an open NWB file; its name where it has none."""
    identifier = stored_identifier(file)
    return nwb_stem(nwb_path) if identifier is None else identifier


def stored_identifier(file: Any) -> str | None:
    """The identifier in an open NWB file, if it has one."""
    read = paths_at(file, "identifier") if isinstance(file, h5py.File) else None
    if read is None:
        dataset = file.get("identifier")
        read = read_paths(dataset) if is_stored(dataset) else None
    return read[0][0] if read and read[0] else None


def is_former_media_folder(folder: Path, nwb_path: Path) -> bool:
    """Whether a folder beside an NWB file has its media from a former name: no other NWB file has the folder's name."""
    return folder.parent == nwb_path.parent and folder.name != nwb_stem(nwb_path) and not nwb_files_called_like(folder)


def remove_empty(plan: RelocationPlan) -> None:
    """Remove the media folders of former names that a plan has emptied."""
    for entry in plan.relocations:
        if entry.source is None or entry.target is None or entry.source.path.name != entry.target.name:
            continue
        folder = entry.source.path.parent
        if entry.action is Action.RENAME or is_former_media_folder(folder, plan.nwb_path):
            try:
                folder.rmdir()
            except OSError:
                continue  # something else is in it, or it is gone already

"""Media of a finished NWB file brought to their place, the file itself staying where it is.

For files that any program wrote, and for files that were renamed. Only the texts in the NWB file change, in place and
through a journal; the rest of it is neither read nor written.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from .errors import ExternalFilesError, ExternalFilesWarning, RelocationRefusedError, combine
from .inventory import make_rows
from .manifest import ManifestRow, read_manifest, same_rows
from .moves import MovedSource
from .options import MediaMode, MediaOptions, ProgressCallback
from .plan import Action, RelocationPlan
from .planning import plan_references
from .references import find_in_file, media_fields
from .staging import is_half_done
from .storage import fits, read_texts
from .stores import edit_texts, open_nwb
from .targets import nwb_stem
from .transfer import Transfer, recover

__all__ = [
    "bring_media",
    "cannot_hold",
    "file_identifier",
    "is_former_media_folder",
    "new_rows",
    "relocate",
    "remove_empty",
    "rolled_back",
]


def relocate(
    path: str | os.PathLike[str],
    media_mode: MediaMode | str = MediaMode.SYMLINK,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    just_written: bool = False,
) -> RelocationPlan:
    """Bring the media of a finished NWB file to their place beside it.

    Media that have their place already stay. Where the NWB file was renamed, what is in the media folder of its former
    name follows, in whatever mode, and that folder goes when it is empty.

    Parameters
    ----------
    path : path
        The NWB file. It is not rewritten: its texts change in place, safe against a crash at any moment.
    media_mode : MediaMode or str
        How media get to their place, as in `NWBExtFilesHDF5IO.export`.
    media_options : MediaOptions or mapping, optional
        How media are found, named and transferred.
    dry_run : bool
        Whether to plan only; nothing on disk is changed then.
    just_written : bool
        Whether this very program has written the file, with texts as they were in memory: relative ones may then be
        relative to the working directory too, as for `NWBExtFilesHDF5IO.write`.

    Returns
    -------
    RelocationPlan
        What was done, or would be.

    Raises
    ------
    UnreadableFileError
        If the file cannot be opened.
    ExternalFilesError
        If the media cannot be treated as asked, with all reasons at once. Nothing was changed then.
    """
    options = MediaOptions.from_value(media_options)
    nwb_path = _document(Path(os.path.abspath(path)), dry_run)
    plan = _plan(nwb_path, MediaMode(media_mode), options, just_written)
    for warning in plan.warnings:
        warnings.warn(warning, ExternalFilesWarning, stacklevel=2)
    if not dry_run and (plan.edits or any(entry.action in _TOUCH for entry in plan.relocations)):
        bring_media(plan, sync=options.sync, progress=options.progress)
        remove_empty(plan)
    return plan


_TOUCH = frozenset(set(Action) - {Action.KEEP, Action.POINT})


def _document(path: Path, dry_run: bool) -> Path:
    """The NWB file, its folder free of symbolic links; what a killed run has left of it is mended."""
    if path.is_symlink():
        raise RelocationRefusedError(
            f"{path} is a symbolic link to {os.path.realpath(path)}, and readers look for media beside the name that "
            f"they open; name the file itself",
            nwb_path=str(path),
        )
    document = Path(os.path.realpath(path))
    if not is_half_done(document):
        return document
    if dry_run:
        raise RelocationRefusedError(
            f"{path} was left half edited by a run that was killed; call `nwb-extfiles recover` on it first",
            nwb_path=str(path),
        )
    recover(document)
    return document


def _plan(nwb_path: Path, mode: MediaMode, options: MediaOptions, just_written: bool) -> RelocationPlan:
    with open_nwb(nwb_path) as file:
        problems: list[ExternalFilesError] = []
        references = find_in_file(file, media_fields(options.media_fields), problems)
        if just_written:
            references = [replace(reference, base=None) for reference in references]
        plan = plan_references(
            references,
            nwb_path=nwb_path,
            identifier=file_identifier(file, nwb_path),
            mode=mode,
            options=options,
            problems=problems,
            is_former=lambda folder: is_former_media_folder(folder, nwb_path),
            manifest=read_manifest(file, nwb_path),
        )
        problems = cannot_hold(file, plan)
    if (plan.edits or plan.manifest is not None) and not os.access(nwb_path, os.W_OK):
        problems.append(RelocationRefusedError(f"{nwb_path} may not be written to", nwb_path=str(nwb_path)))
    if problems:
        raise combine(problems)
    return plan


def cannot_hold(file: h5py.File, plan: RelocationPlan) -> list[ExternalFilesError]:
    """Problems of new texts that cannot be written where the old ones are, in place or in a copy.

    A dataset of fixed length with a type of its own may be the target of object references, which do not outlive it.
    """
    problems: list[ExternalFilesError] = []
    for (object_path, field), texts in plan.edits.items():
        owner = file[object_path]
        if isinstance(owner, h5py.Dataset) and not fits(owner, texts):
            problems.append(
                RelocationRefusedError(
                    f"{plan.nwb_path}: {object_path!r}, {field}: its text has a fixed length, and a longer one "
                    f"would break object references to it; export the file with NWBExtFilesHDF5IO instead",
                    nwb_path=str(plan.nwb_path),
                    object_path=object_path,
                    field=field,
                )
            )
    return problems


def bring_media(
    plan: RelocationPlan,
    *,
    sync: bool = True,
    progress: bool | ProgressCallback = False,
    with_texts: bool = True,
    keep_sources: bool = False,
) -> tuple[MovedSource, ...]:
    """Carry out a plan for an NWB file that has its place.

    Parameters
    ----------
    plan : RelocationPlan
        Of that file.
    sync : bool
        As `MediaOptions.sync`.
    progress : bool or callable
        As `MediaOptions.progress`.
    with_texts : bool
        Whether the texts are still to be changed.
    keep_sources : bool
        Whether what was moved stays at its old place too for now.

    Returns
    -------
    tuple of MovedSource
        What stays for now.
    """
    transfer = Transfer(plan.nwb_path, edits_document=True)

    with rolled_back(transfer):
        transfer.stage(plan, sync=sync, progress=progress)
        rows = new_rows(plan, transfer) if with_texts else None

        def edit() -> None:
            edit_texts(plan.nwb_path, plan.edits, manifest=rows, journal=transfer.journal, sync=sync)

        transfer.commit(sync=sync, edit=edit if with_texts and (plan.edits or rows is not None) else None)
    return transfer.conclude(sync=sync, keep_sources=keep_sources)


def new_rows(plan: RelocationPlan, transfer: Transfer) -> list[ManifestRow] | None:
    """What the manifest shall say when media are staged; None if it gets nothing new."""
    if plan.manifest is None:
        return None
    rows = make_rows(plan, transfer.digests, transfer.fetched)
    return None if plan.manifest and same_rows(rows, plan.manifest) else rows


@contextmanager
def rolled_back(transfer: Transfer) -> Iterator[None]:
    """Have a transfer take back what it did if it fails; the error tells what could not be."""
    try:
        yield
    except BaseException as error:
        for line in transfer.rollback():
            error.add_note(line)
        raise


def file_identifier(file: h5py.File, nwb_path: Path) -> str:
    """The identifier of an open NWB file; its name where it has none."""
    dataset = file.get("identifier")
    read = read_texts(dataset) if isinstance(dataset, h5py.Dataset) else None
    return read[0][0] if read and read[0] else nwb_stem(nwb_path)


def is_former_media_folder(folder: Path, nwb_path: Path) -> bool:
    """Whether a folder beside an NWB file held its media under a former name: no other NWB file is called like it."""
    return (
        folder.parent == nwb_path.parent
        and folder.name != nwb_stem(nwb_path)
        and not any(os.path.lexists(f"{folder}{suffix}") for suffix in (".nwb", ".nwb.zarr"))
    )


def remove_empty(plan: RelocationPlan) -> None:
    """Remove the media folders of former names that a plan has emptied."""
    for entry in plan.relocations:
        if entry.source is None or entry.target is None or entry.source.path.name != entry.target.name:
            continue
        folder = entry.source.path.parent
        if entry.action is Action.FOLLOW or is_former_media_folder(folder, plan.nwb_path):
            try:
                folder.rmdir()
            except OSError:
                continue  # something else is in it, or it is gone already

"""What `relocate` would do with one NWB file: its plan, before those of a call are settled together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import (
    ExternalFilesError,
    MissingMediaError,
    RelocationRefusedError,
    combine,
)
from ..hints import Hint
from ..media.inventory import find_by_content, verify_media
from ..media.pyav.recipes import remuxer
from ..nwb.files import cannot_hold, open_nwb
from ..nwb.manifest import ManifestRow, read_manifest
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..nwb.series import stored_frame_rate
from ..options import MediaMode, MediaOptions, modes_in_order
from ..plans.needs import MediaUsers, settle
from ..plans.pipeline import plan_references
from ..plans.places import Known
from ..plans.plan import RelocationPlan
from ..plans.resolve import Resolution, resolve_all
from ..plans.targets import nwb_stem
from ..transfers.interrupted import is_interrupted
from ..transfers.recovery import recover
from .named_files import require_nwb
from .written_files import (
    cannot_edit,
    file_identifier,
    interrupted_edit,
    is_former_media_folder,
    warned_of_other_names,
)

__all__ = ["IsInMemory", "document_of", "plan_document", "plan_in_place"]

IsInMemory = Callable[[ExternalFileReference], bool]
"""Whether a path is stored as it was in memory."""


def document_of(path: Path, dry_run: bool) -> Path:
    """The NWB file, its folder without symbolic links; restored if an interrupted run has left it inconsistent."""
    if path.is_symlink():
        raise RelocationRefusedError(
            f"{path} is a symbolic link to {os.path.realpath(path)}, and readers look for media beside the name that "
            f"they open",
            hint="name the file itself",
            nwb_path=str(path),
        )
    document = Path(os.path.realpath(path))
    if not is_interrupted(document):
        return document
    if dry_run:
        raise interrupted_edit(path)
    recover(document)
    return document


def plan_document(
    nwb_path: Path,
    modes: Sequence[MediaMode],
    options: MediaOptions,
    users: MediaUsers,
    memory: Known,
    in_memory: IsInMemory | None,
    repair: bool,
) -> RelocationPlan:
    """What `relocate` does with one NWB file of a call, before the needs of the others are asked for."""
    with open_nwb(nwb_path) as file:
        require_nwb(file, nwb_path)
        problems: list[ExternalFilesError] = []
        references = find_in_file(file, media_fields(options.media_fields), problems)
        if in_memory is not None:
            references = [replace(entry, base=None) if in_memory(entry) else entry for entry in references]
        rows = read_manifest(file, nwb_path)
        found = _found_by_content(nwb_path, references, rows, options, problems, memory) if repair else None
        return _plan_opened(
            file,
            nwb_path,
            references,
            rows,
            modes=modes,
            options=options,
            users=users,
            problems=problems,
            found=found,
            memory=memory,
        )


def _plan_opened(
    file: Any,
    nwb_path: Path,
    references: Sequence[ExternalFileReference],
    rows: Sequence[ManifestRow] | None,
    *,
    modes: Sequence[MediaMode],
    options: MediaOptions,
    users: MediaUsers,
    problems: Sequence[ExternalFilesError],
    found: Mapping[tuple[str, str, int], Resolution] | None = None,
    memory: Known | None = None,
) -> RelocationPlan:
    """The plan of a file that is open, of which the references and the manifest have been read."""
    plan = plan_references(
        references,
        nwb_path=nwb_path,
        identifier=file_identifier(file, nwb_path),
        modes=modes,
        options=options,
        problems=problems,
        is_former=lambda folder: is_former_media_folder(folder, nwb_path) and not users.use_folder(folder, nwb_path),
        manifest=rows,
        found=found,
        remuxer=remuxer(options, lambda reference: stored_frame_rate(file, reference.object_path)),
        memory=memory,
    )
    problems = [*cannot_hold(file, plan.edits, plan.nwb_path), *cannot_edit(plan)]
    if problems:
        raise combine(problems)
    return warned_of_other_names(plan)


def plan_in_place(
    file: Any,
    path: Path,
    references: Sequence[ExternalFileReference],
    rows: Sequence[ManifestRow] | None,
    options: MediaOptions,
    problems: Sequence[ExternalFilesError] = (),
) -> RelocationPlan:
    """What `relocate` would do with an open NWB file alone; no warning is given.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        The file, open.
    path : pathlib.Path
        Where it is, as it was named.
    references : sequence of ExternalFileReference
        All of it.
    rows : sequence of ManifestRow, optional
        Its manifest.
    options : MediaOptions
        How media are found, named and transferred.
    problems : sequence of ExternalFilesError
        Problems that were found in it before.

    Raises
    ------
    ExternalFilesError
        As `relocate`.
    """
    document = document_of(path, dry_run=True)
    users = MediaUsers({document: None}, options)
    plan = _plan_opened(
        file, document, references, rows, modes=modes_in_order(None), options=options, users=users, problems=problems
    )
    changed, lost = settle([plan], users)
    if lost:
        raise combine(lost)
    return changed.get(plan.nwb_path, plan)


def _found_by_content(
    nwb_path: Path,
    references: Sequence[ExternalFileReference],
    rows: Sequence[ManifestRow] | None,
    options: MediaOptions,
    problems: list[ExternalFilesError],
    memory: Known,
) -> dict[tuple[str, str, int], Resolution]:
    """The right videos of entries whose videos are missing or wrong, by their checksums in the manifest."""
    if rows is None:
        raise RelocationRefusedError(
            f"{nwb_path} has no manifest, so its videos cannot be found by their content",
            hint=Hint("name the folder of the videos with {search}, without {repair}"),
            nwb_path=str(nwb_path),
        )
    resolutions = resolve_all(references, options, destination=nwb_path.parent, memory=memory)
    bad = [verification for verification in verify_media(rows, resolutions) if verification.state.is_bad]
    wanted = [verification.row for verification in bad if verification.row is not None]
    folders = [nwb_path.parent / nwb_stem(nwb_path), *options.search_folders]
    elsewhere = find_by_content(wanted, folders, nwb_path=nwb_path) if wanted else {}
    found: dict[tuple[str, str, int], Resolution] = {}
    for verification in bad:
        reference, row = verification.resolution.reference, verification.row
        if row is not None and row.sha256 in elsewhere:
            # it gets its former suffix, not that of the name under which it was found
            suffix = PurePosixPath(row.path).suffix
            found[reference.entry] = Resolution(reference, file=elsewhere[row.sha256], suffix=suffix)
        elif row is not None and options.missing == "error":
            problems.append(
                MissingMediaError(
                    f"{reference.where}: its video {row.original_name!r} ({row.size_in_bytes:,} bytes, SHA-256 "
                    f"{row.sha256}) is {verification.state}, and in none of the folders that were searched",
                    hint=Hint("name the folder that has it with {search}"),
                    **reference.place,
                )
            )
    return found

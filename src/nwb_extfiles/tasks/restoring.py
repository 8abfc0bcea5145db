"""Original names of media, restored after a download from the archive.

In the archive the name of each video is a UUID; the manifest in the NWB file has the original name.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..disk.filesystem import tree_size, with_real_folder
from ..disk.moves import may_be_same_name, stamp
from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    RelocationRefusedError,
    UnsafeReferenceError,
    combine,
    warn,
)
from ..hints import Hint, Message
from ..media.inventory import rows_by_entry
from ..naming import is_showable
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
from ..web.remote import RemoteFile
from .named_files import require_nwb
from .organize_plan import OrganizedFile
from .organizing import carry_out
from .written_files import file_identifier

__all__ = ["restore"]

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
    modes = modes_in_order(media_mode)
    if MediaMode.MOVE in modes:
        raise RelocationRefusedError(
            f"{path} keeps its media, so they cannot be restored with media_mode 'move'",
            hint="use 'hardlink', which needs no space, or 'copy'",
            nwb_path=str(path),
        )
    source = with_real_folder(Path(os.path.abspath(path)))
    plan = _plan(source, Path(os.path.realpath(folder), source.name), modes, options)
    for warning in (*plan.warnings, *unused_prefixes([plan])):
        warn(warning)
    if not dry_run:
        status = os.stat(source)
        size = tree_size(source) if source.is_dir() else status.st_size
        file = OrganizedFile(source, plan, size, stamp(status), replaces=os.path.lexists(plan.nwb_path))
        with reporting(options.progress, file.work_bytes) as on_bytes:
            done = carry_out(
                file, files_mode="copy", sync=options.sync, url_timeout=options.url_timeout, on_bytes=on_bytes
            )
        for note in done.notes:
            warn(note)
        log_done(plan)
    return plan


def _plan(source: Path, target: Path, modes: Sequence[MediaMode], options: MediaOptions) -> RelocationPlan:
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
                hint=Hint("relocate media with {manifest} to have one"),
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
            problems.append(
                MediaExistsError(f"{target} exists", hint="name another folder, or move it away", nwb_path=str(source))
            )
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
        wanted.setdefault(name.casefold(), set()).add(reference.stored_path if file is None else file.identity)
        found.append((key, reference, name))
    for key, reference, name in found:
        folded = name.casefold()
        alone = len(wanted[folded]) == 1 and folded != nwb_name.casefold() and not name.startswith(STAGING_PREFIX)
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
    while folder.casefold() in taken:
        folder += "_"
    return PurePosixPath(folder, f"{reference.field}_{reference.index}")


def _is_name(name: str) -> bool:
    separators = set("/\\:" if os.name == "nt" else "/\\")
    return name not in ("", ".", "..") and not set(name) & separators and is_showable(name)


def _check_name(name: str, reference: ExternalFileReference) -> None:
    """Refuse what is not a plain file name: the manifest may come from anybody."""
    if not _is_name(name):
        raise UnsafeReferenceError(
            f"{reference.where}: the original name of its video in the manifest is {name[:80]!r}, which is not a file "
            f"name",
            hint="correct the manifest",
            **reference.place,
        )

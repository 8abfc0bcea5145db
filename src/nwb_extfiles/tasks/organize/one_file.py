"""One NWB file and its media put in their places in a dandiset: copied, moved or exported."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from ...disk import access, contents, links
from ...disk.moves import MovedSource, has_stamp, stamp
from ...errors import ExternalFilesError, TransferError
from ...nwb.comparison import same_content
from ...nwb.files import write_paths
from ...nwb.manifest import ManifestRow
from ...progress import increments
from ...transfers.interrupted import has_leftovers
from ...transfers.transfer import Transfer
from ..written_files import new_rows, rolled_back, transfer_media
from .plan import FilesMode, OrganizedFile

__all__ = ["Outcome", "carry_out"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one file."""

    media: tuple[MovedSource, ...]
    """Media that moved, and are still at their old places too."""
    files: tuple[MovedSource, ...]
    """The NWB file, if it moved; it is still at its old place too."""
    notes: tuple[str, ...]
    digests: tuple[bytes, bytes] | None = None
    """Of a small NWB file and its copy with new paths."""


def carry_out(
    file: OrganizedFile,
    *,
    files_mode: FilesMode,
    sync: bool = True,
    url_timeout: float = 60.0,
    on_bytes: Callable[[int], object] = lambda count: None,
    digest_limit: int = -1,
) -> Outcome:
    """Put one NWB file and its media in their places; what moves stays at its old place too for now.

    Parameters
    ----------
    file : OrganizedFile
        What to do.
    files_mode : {"copy", "move"}
        What happens to the NWB file.
    sync : bool
        As `MediaOptions.sync`.
    url_timeout : float
        As `MediaOptions.url_timeout`, in seconds.
    on_bytes : callable
        Called with each number of bytes done.
    digest_limit : int
        Of NWB files of up to so many bytes, the digests are wanted.

    Raises
    ------
    ExternalFilesError
        If it fails; nothing was changed then, or the notes of the error say what could not be restored.
    """
    notes: list[str] = []
    try:
        media, digests = _put_in_place(file, files_mode, sync, url_timeout, on_bytes, notes.append, digest_limit)
        files: tuple[MovedSource, ...] = ()
        if files_mode == "move" and not file.in_place:
            # Of the target that was compared with the source, not of one that has replaced it since.
            target = (file.target, file.target_stamp or stamp(os.stat(file.target)))
            files = (MovedSource(file.source, file.stamp, (file.source,), (target,)),)
    except ExternalFilesError:
        raise
    except OSError as error:
        failure = TransferError(
            f"{file.source} could not be copied or moved to {file.target}: {error}", nwb_path=str(file.source)
        )
        for note in getattr(error, "__notes__", ()):
            failure.add_note(note)
        raise failure from error
    return Outcome(media, files, tuple(notes), digests)


def _put_in_place(
    file: OrganizedFile,
    files_mode: FilesMode,
    sync: bool,
    url_timeout: float,
    on_bytes: Callable[[int], object],
    add_note: Callable[[str], object],
    digest_limit: int,
) -> tuple[tuple[MovedSource, ...], tuple[bytes, bytes] | None]:
    if file.is_done and not has_leftovers(file.target):
        return (), None
    if file.is_there or file.in_place:
        moved = transfer_media(
            file.plan,
            sync=sync,
            progress=increments(on_bytes),
            url_timeout=url_timeout,
            with_paths=not file.is_there,
            keep_sources=True,
            tell=add_note,
        )
        return moved, None
    transfer = Transfer(
        file.target, as_folder=file.source.is_dir(), exclusive=not file.replaces, keep_sources=True, tell=add_note
    )
    with rolled_back(transfer):
        transfer.media.stage(file.plan, sync=sync, progress=increments(on_bytes), url_timeout=url_timeout)
        rows = new_rows(file.plan, transfer)
        limit = digest_limit if rows is None and not file.exported else -1
        before = _digest(file.source, limit)
        _stage_nwb_file(file, files_mode, transfer.staged_document, rows, sync, on_bytes)
        copy, after = (_digest(path, limit) for path in (transfer.staged_document, file.source))
        transfer.commit(sync=sync)
    # Times do not say that the source has stayed as it was: they count in steps in which it can be written to twice.
    digests = (before, copy) if before is not None and copy is not None and before == after else None
    return transfer.conclude(sync=sync), digests


def _stage_nwb_file(
    file: OrganizedFile,
    files_mode: FilesMode,
    staged: Path,
    rows: list[ManifestRow] | None,
    sync: bool,
    on_bytes: Callable[[int], object],
) -> None:
    if not has_stamp(file.source, file.stamp):
        raise TransferError(
            f"{file.source} has changed since the plan was made",
            hint="run the same command again",
            nwb_path=str(file.source),
        )
    # Without new paths, the file can move by its name alone. A symbolic link is copied, and its target stays.
    changes = bool(file.plan.edits) or rows is not None
    by_name = files_mode == "move" and not changes and file.source.is_file() and not file.source.is_symlink()
    if by_name and links.link_exclusive(file.source, staged):
        on_bytes(file.size)
        return
    if file.exported:
        _export(file, staged)
        on_bytes(file.size)
    else:
        copy = contents.copy_tree_verified if file.source.is_dir() else contents.copy_verified
        copy(file.source, staged, on_bytes=on_bytes, sync=False)  # `Transfer.commit` flushes it, with its new paths
    if changes:
        times = os.stat(file.source if file.exported else staged)
        if staged.is_file():
            access.make_writable(staged)
        write_paths(staged, file.plan.edits, manifest=rows, name=file.source, sync=sync)
        # As `cp -p` and `dandi organize` do: the time says when the recording was written, not when its paths changed.
        os.utime(staged, ns=(times.st_atime_ns, times.st_mtime_ns))


def _digest(path: Path, limit: int) -> bytes | None:
    """The digest of a small file, for the cache; None for a larger one, and for a folder."""
    is_small = path.is_file() and path.stat().st_size <= limit
    return blake3(path.read_bytes()).digest() if is_small else None


def _export(file: OrganizedFile, staged: Path) -> None:
    """Let pynwb export an NWB file, and verify that only the paths of media differ."""
    from ...io.exporting import export_with_paths  # which loads pynwb

    paths = {place[0]: new[0] for place, new in file.plan.edits.items() if place[0] in file.exported}
    staged.touch(exist_ok=False)
    access.limit_access(staged, file.source)  # nothing is in it yet
    try:
        export_with_paths(file.source, staged, paths)
        reason = None if same_content(file.source, staged) else "the exported file has other content"
    except Exception as error:  # noqa: BLE001  # pynwb raises what it meets
        reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        raise TransferError(
            f"{file.source}: the paths of {', '.join(map(repr, file.exported))} have a fixed length that cannot hold "
            f"the new ones, and the file could not be exported: {reason}",
            hint="correct in the file what pynwb cannot export, and run the same command again",
            nwb_path=str(file.source),
        )

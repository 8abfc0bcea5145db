"""NWB files and their media brought into a dandiset, one or ten thousand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from . import filesystem
from .batch import Spool, each, workers
from .dandiset import FilesMode, OrganizedFile, OrganizePlan, Settings, plan_files
from .errors import ExternalFilesError, ExternalFilesWarning, RelocationRefusedError, TransferError
from .inplace import bring_media, new_rows, remove_empty, rolled_back
from .manifest import ManifestRow
from .moves import MovedSource, has_stamp, remove_sources, stamp
from .options import MediaMode, MediaOptions
from .progress import reporting
from .staging import has_leftovers
from .stores import edit_texts, find_nwb_files
from .targets import nwb_stem
from .transfer import Transfer

__all__ = ["organize"]


def organize(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    dandiset_path: str | os.PathLike[str] | None = None,
    *,
    files_mode: FilesMode = "copy",
    media_files_mode: MediaMode | str | None = None,
    update_external_file_paths: bool = True,
    invalid: Literal["fail", "warn"] = "fail",
    required_fields: Iterable[str] = (),
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    dry_run: bool = False,
    on_file: Callable[[OrganizedFile], object] | None = None,
) -> OrganizePlan:
    """Bring NWB files and their media into a dandiset, under the names that DANDI gives them.

    The names of the NWB files are those of ``dandi organize``. Everything is planned before anything is touched. Each
    file then comes with its media or not at all; what an earlier run has done is not done again.

    Parameters
    ----------
    paths : path or iterable of paths
        NWB files, and folders in which to look for such. None: the dandiset itself, whose files are renamed where
        their names are not those that DANDI gives.
    dandiset_path : path, optional
        Root of the dandiset; made if it is missing. If not given, the dandiset around the working directory.
    files_mode : {"copy", "move"}
        What happens to the NWB files. A copy is verified. What moves is removed when all files have got to their
        places, so that a run that was stopped can be repeated.
    media_files_mode : MediaMode or str, optional
        How media get to their place; symbolic links by default. Media that stand in the media folder of an NWB file
        that moves come along in any mode.
    update_external_file_paths : bool
        False: files that refer to media are refused.
    invalid : {"fail", "warn"}
        What to do with NWB files that cannot be read or named: refuse, or leave them out with a warning.
    required_fields : iterable of str
        Fields to have in a name wherever a file has them, as in `dandi.organize`.
    media_options : MediaOptions or mapping, optional
        How media are found, named and transferred. `existing` speaks of NWB files too.
    jobs : int
        Number of processes; a script that asks for more than one needs ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Who does the work instead, such as ``distributed.Client(...).get_executor()`` for a cluster that sees the same
        file systems. What it is given is one file a time.
    dry_run : bool
        Whether to plan only; nothing on disk is changed then.
    on_file : callable, optional
        Called with each file when it is done.

    Returns
    -------
    OrganizePlan
        What was done, or would be.

    Raises
    ------
    RelocationRefusedError
        If the arguments contradict each other, or there is no dandiset.
    ExternalFilesError
        If anything speaks against the plan, with all reasons at once; nothing was changed. If some files fail when
        they are carried out: which, and why; the others are in their places, and nothing that was to move is removed.
    """
    options = MediaOptions.from_value(media_options)
    if media_files_mode is not None and not update_external_file_paths:
        raise RelocationRefusedError(
            f"media_files_mode={str(media_files_mode)!r} was given, but the paths of media are not to be updated; "
            f"leave one of the two out"
        )
    if files_mode not in ("copy", "move") or invalid not in ("fail", "warn"):
        raise RelocationRefusedError(
            f"files_mode must be 'copy' or 'move', not {files_mode!r}, and invalid 'fail' or 'warn', not {invalid!r}"
        )
    settings = Settings(
        _dandiset(dandiset_path),
        files_mode,
        MediaMode(media_files_mode or MediaMode.SYMLINK),
        update_external_file_paths,
        invalid,
        tuple(required_fields),
        options,
    )
    sources = _sources([paths] if isinstance(paths, str | os.PathLike) else list(paths), settings)
    with workers(jobs, executor) as pool:
        plan = plan_files(sources, settings, pool)
        for warning in plan.warnings:
            warnings.warn(warning, ExternalFilesWarning, stacklevel=2)
        if not dry_run:
            for note in _carry_out(plan, options, pool, on_file):
                warnings.warn(note, ExternalFilesWarning, stacklevel=2)
    return plan


def _dandiset(path: str | os.PathLike[str] | None) -> Path:
    if path is not None:
        return Path(os.path.realpath(path))
    from dandi.dandiset import Dandiset

    found = Dandiset.find(os.curdir)
    if found is None:
        raise RelocationRefusedError(
            "no dandiset was named, and there is no dandiset.yaml in the working directory or above it; name one with "
            "-d/--dandiset-path"
        )
    return Path(os.path.realpath(found.path))


def _sources(paths: list[str | os.PathLike[str]], settings: Settings) -> list[Path]:
    root = settings.dandiset_path
    if not paths:
        if settings.files_mode != "move":
            raise RelocationRefusedError(
                "no NWB files were named, and inside a dandiset files can only be renamed; name files or folders, or "
                "use files_mode 'move' (--files-mode move)"
            )
        if not (root / "dandiset.yaml").is_file():
            raise RelocationRefusedError(f"no NWB files were named, and {root} is no dandiset: it has no dandiset.yaml")
        return list(find_nwb_files([root]))
    # What lies in the dandiset is no source, unless a path leads into it.
    into = [path for path in paths if Path(os.path.realpath(path)).is_relative_to(root)]
    around = [path for path in paths if path not in into]
    found = [path for path in find_nwb_files(around) if not Path(os.path.realpath(path.parent)).is_relative_to(root)]
    sources = list(dict.fromkeys([*found, *find_nwb_files(into)]))
    if not sources:
        raise RelocationRefusedError(
            f"there is no NWB file in {', '.join(map(str, paths))}; name files or folders that have such"
        )
    return sources


# ------------------------------------------------------------------ carry out


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one file."""

    moved: tuple[MovedSource, ...]
    notes: tuple[str, ...]


def _carry_out(
    plan: OrganizePlan,
    options: MediaOptions,
    executor: Executor | None,
    on_file: Callable[[OrganizedFile], object] | None,
) -> list[str]:
    failures: list[BaseException] = []
    notes: list[str] = []
    moved = Spool[tuple[MovedSource, ...]]()
    with reporting(options.progress, plan.total_bytes) as on_bytes:
        do = partial(carry_out, files_mode=plan.files_mode, sync=options.sync)
        if executor is None:
            do = partial(do, on_bytes=on_bytes)
        for number, result in each(do, plan, executor):
            if isinstance(result, BaseException):
                failures.append(result)
                continue
            moved.append(result.moved)
            notes.extend(result.notes)
            file = plan.files[number]
            if executor is not None:
                on_bytes(file.total_bytes)
            if on_file is not None:
                on_file(file)
    if failures:
        raise _failed(failures, plan)
    notes.extend(remove_sources((source for of_file in moved for source in of_file), sync=options.sync))
    _remove_empty_folders(plan)
    return notes


def carry_out(
    file: OrganizedFile, *, files_mode: FilesMode, sync: bool, on_bytes: Callable[[int], object] = lambda count: None
) -> _Outcome:
    """Bring one NWB file and its media to their places; what moves stays at its old place too for now.

    Parameters
    ----------
    file : OrganizedFile
        What to do.
    files_mode : {"copy", "move"}
        What happens to the NWB file.
    sync : bool
        As `MediaOptions.sync`.
    on_bytes : callable
        Called with each number of bytes done.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = _bring(file, files_mode, sync, on_bytes)
    if files_mode == "move" and not file.in_place:
        target = (file.target, stamp(os.stat(file.target)))
        moved = (*moved, MovedSource(file.source, file.stamp, (file.source,), (target,)))
    return _Outcome(moved, tuple(str(warning.message) for warning in caught))


def _bring(
    file: OrganizedFile, files_mode: FilesMode, sync: bool, on_bytes: Callable[[int], object]
) -> tuple[MovedSource, ...]:
    told = 0

    def on_media(done: int, total: int) -> None:  # noqa: ARG001
        nonlocal told
        on_bytes(done - told)
        told = done

    if file.is_done and file.plan.mode is not MediaMode.MOVE and not has_leftovers(file.target):
        return ()
    if file.is_there or file.in_place:
        return bring_media(file.plan, sync=sync, progress=on_media, with_texts=not file.is_there, keep_sources=True)
    transfer = Transfer(file.target, exclusive=not file.replaces)
    with rolled_back(transfer):
        transfer.stage(file.plan, sync=sync, progress=on_media)
        rows = new_rows(file.plan, transfer)
        _stage_nwb_file(file, files_mode, transfer.staged_document, rows, sync, on_bytes)
        transfer.commit(sync=sync)
    return transfer.conclude(sync=sync, keep_sources=True)


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
            f"{file.source} is not the file any more that it was when the plan was made; try again",
            nwb_path=str(file.source),
        )
    # What changes no text may move by its name alone; a link stays a link to what it is.
    changes = bool(file.plan.edits) or rows is not None
    by_name = files_mode == "move" and not changes and not file.source.is_symlink()
    if by_name and filesystem.link_exclusive(file.source, staged):
        on_bytes(file.size)
        return
    filesystem.copy_verified(file.source, staged, on_bytes=on_bytes, sync=sync)
    if changes:
        times = os.stat(staged)
        edit_texts(staged, file.plan.edits, manifest=rows, sync=sync)
        # By its time the next run knows what it was made of.
        os.utime(staged, ns=(times.st_atime_ns, times.st_mtime_ns))


def _failed(failures: list[BaseException], plan: OrganizePlan) -> BaseException:
    ours = [failure for failure in failures if isinstance(failure, ExternalFilesError)]
    if len(ours) < len(failures):  # a defect, or the end of a worker
        return next(failure for failure in failures if failure not in ours)
    told = "\n".join(f"  {number}. {failure}" for number, failure in enumerate(ours, start=1))
    stay = "; nothing that was to move was removed" if plan.files_mode == "move" else ""
    return TransferError(
        f"{len(ours)} of {len(plan)} NWB files could not be organized; the others are in {plan.dandiset_path}{stay}. "
        f"Mend what is told here, and run the same again:\n{told}",
        problems=ours,
    )


def _remove_empty_folders(plan: OrganizePlan) -> None:
    """Remove the folders that moved files have left empty: their media folders, and any inside the dandiset."""
    for file in plan:
        if file.in_place:
            remove_empty(file.plan)
        if file.in_place or plan.files_mode == "copy":
            continue
        folders = [file.source.parent / nwb_stem(file.source)]
        folders += [above for above in file.source.parents if above.is_relative_to(plan.dandiset_path)]
        for folder in folders:
            try:
                if folder != plan.dandiset_path:
                    folder.rmdir()
            except OSError:
                continue  # something is in it, or it is gone

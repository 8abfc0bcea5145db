"""NWB files and their media brought into a dandiset, one or ten thousand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from ..batch import each, workers
from ..disk import access, contents, filesystem, links
from ..disk.moves import MovedSource, has_stamp, remove_sources, stamp
from ..errors import ExternalFilesError, RelocationRefusedError, TransferError, warn
from ..nwb.files import find_nwb_files, write_paths
from ..nwb.manifest import ManifestRow
from ..options import MediaMode, MediaOptions
from ..plans.targets import nwb_stem
from ..progress import increments, reporting
from ..threads import each_in_threads
from ..transfers.interrupted import has_leftovers
from ..transfers.recovery import recover
from ..transfers.transfer import Transfer
from .dandiset import FilesMode, OrganizedFile, OrganizePlan, Settings, plan_files
from .written_files import bring_media, new_rows, remove_empty, rolled_back

__all__ = ["carry_out", "organize"]

_THREADS = 4  # of which most wait for the disk to confirm what was written
_MANY = 2 * _THREADS  # files; with fewer there is little to gain
_SMALL = 64 * 1024 * 1024  # bytes


def organize(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    dandiset_path: str | os.PathLike[str] | None = None,
    *,
    files_mode: FilesMode = "copy",
    media_mode: MediaMode | str | None = None,
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
    file then comes with its media or not at all; what an earlier run has done is not done again. Files with little to
    copy are carried out a few at once, in threads that are the business of this function alone.

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
    media_mode : MediaMode or str, optional
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
        Called with each file when it is done, in the thread of the caller, as progress is.

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
    if media_mode is not None and not update_external_file_paths:
        raise RelocationRefusedError(
            f"media_mode={str(media_mode)!r} was given, but the paths of media are not to be updated; "
            f"leave one of the two out"
        )
    if files_mode not in ("copy", "move") or invalid not in ("fail", "warn"):
        raise RelocationRefusedError(
            f"files_mode must be 'copy' or 'move', not {files_mode!r}, and invalid 'fail' or 'warn', not {invalid!r}"
        )
    if jobs < 1:
        raise RelocationRefusedError(f"jobs must be a number of processes, not {jobs!r}")
    settings = Settings(
        _dandiset(dandiset_path),
        files_mode,
        MediaMode(media_mode or MediaMode.SYMLINK),
        update_external_file_paths,
        invalid,
        (required_fields,) if isinstance(required_fields, str) else tuple(required_fields),
        replace(options, progress=False),  # what shows it may not be sent to another process
    )
    sources = _sources([paths] if isinstance(paths, str | os.PathLike) else list(paths), settings)
    if not dry_run:
        _restore_interrupted(sources)
    with workers(jobs, executor) as pool:
        plan = plan_files(sources, settings, pool)
        for warning in plan.warnings:
            warn(warning)
        if not dry_run:
            for note in _carry_out(plan, options, pool, on_file):
                warn(note)
    return plan


def _dandiset(path: str | os.PathLike[str] | None) -> Path:
    if path is not None:
        root = Path(os.path.realpath(path))
        if os.path.lexists(root) and not root.is_dir():
            raise RelocationRefusedError(f"{root} is to be the root of a dandiset, and is no folder; name another")
        return root
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
    into = [path for path in paths if filesystem.by_way_of(root, Path(os.path.realpath(path))).is_relative_to(root)]
    around = [path for path in paths if path not in into]
    found: dict[Path, Path] = {}
    for path in find_nwb_files(into):
        real = filesystem.with_real_folder(path)
        inside = filesystem.by_way_of(root, real)
        found.setdefault(inside, path if inside == real else inside)  # by a mount of it, it has its place all the same
    for path in find_nwb_files(around):
        real = filesystem.with_real_folder(path)
        if not filesystem.by_way_of(root, real).is_relative_to(root):
            found.setdefault(real, path)
    sources = list(found.values())
    if not sources:
        raise RelocationRefusedError(
            f"there is no NWB file in {', '.join(map(str, paths))}; name files or folders that have such"
        )
    return sources


def _restore_interrupted(sources: list[Path]) -> None:
    """Restore files whose texts a killed run was changing."""
    for path in sources:
        recover(Path(os.path.realpath(path)))


# ------------------------------------------------------------------ carry out


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one file."""

    media: tuple[MovedSource, ...]
    """Media that moved."""
    files: tuple[MovedSource, ...]
    """The NWB file, if it moved."""
    notes: tuple[str, ...]


def _carry_out(
    plan: OrganizePlan,
    options: MediaOptions,
    executor: Executor | None,
    on_file: Callable[[OrganizedFile], object] | None,
) -> list[str]:
    failures: list[BaseException] = []
    notes: list[str] = []
    media, files = list[MovedSource](), list[MovedSource]()
    with reporting(options.progress, plan.work_bytes) as on_bytes:
        do = partial(carry_out, files_mode=plan.files_mode, sync=options.sync, url_timeout=options.url_timeout)
        if executor is not None:
            results = each(do, plan, executor)
        elif len(plan) < _MANY:
            results = each(partial(do, on_bytes=on_bytes), plan, None)
        else:
            results = each_in_threads(_Turns(do), plan, _THREADS, on_bytes)
        with closing(results):  # an interrupt ends what was begun
            for number, result in results:
                if isinstance(result, BaseException):
                    failures.append(result)
                    continue
                media.extend(result.media)
                files.extend(result.files)
                notes.extend(result.notes)
                file = plan.files[number]
                if executor is not None:
                    on_bytes(file.work_bytes)
                if on_file is not None:
                    on_file(file)
    if failures:
        raise _failed(failures, plan, notes)
    # What is moved may be where another file has its place by now.
    targets = {file.target for file in plan} if plan.files_mode == "move" else set[Path]()
    # The NWB files go last, so that a run that is stopped here finds them, and all that belongs to them.
    for moved, remove_folders in ((media, _remove_media_folders), (files, _remove_folders)):
        going = [source for source in moved if not targets.intersection(source.places)]
        notes.extend(remove_sources(going, sync=options.sync))
        remove_folders(plan)
    return notes


class _Turns:
    """Carries out small files side by side, and those with much to copy or fetch one after the other.

    What copies for long keeps the disk busy by itself, and two at once may come in each other's way.
    """

    def __init__(self, do: Callable[..., _Outcome]) -> None:
        self._do = do
        self._long = Lock()

    def __call__(self, file: OrganizedFile, on_bytes: Callable[[int], object]) -> _Outcome:
        remote = any(entry.remote is not None for entry in file.plan.relocations)
        takes_long = remote or file.size + file.plan.copied_bytes > _SMALL
        with self._long if takes_long else nullcontext():
            on_bytes(0)  # which raises if it is not wanted any more
            return self._do(file, on_bytes=on_bytes)


def carry_out(
    file: OrganizedFile,
    *,
    files_mode: FilesMode,
    sync: bool = True,
    url_timeout: float = 60.0,
    on_bytes: Callable[[int], object] = lambda count: None,
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
    url_timeout : float
        As `MediaOptions.url_timeout`, in seconds.
    on_bytes : callable
        Called with each number of bytes done.

    Returns
    -------
    _Outcome
        What moved, and is still at its old place too, and what there is to tell.

    Raises
    ------
    ExternalFilesError
        If it fails; all is as it was then, or the notes of the error say what is left where.
    """
    notes: list[str] = []
    try:
        media = _bring(file, files_mode, sync, url_timeout, on_bytes, notes.append)
        files: tuple[MovedSource, ...] = ()
        if files_mode == "move" and not file.in_place:
            # What was compared with the source, not what may have come to its place since.
            target = (file.target, file.target_stamp or stamp(os.stat(file.target)))
            files = (MovedSource(file.source, file.stamp, (file.source,), (target,)),)
    except ExternalFilesError:
        raise
    except OSError as error:
        failure = TransferError(
            f"{file.source} could not be brought to {file.target}: {error}", nwb_path=str(file.source)
        )
        for note in getattr(error, "__notes__", ()):
            failure.add_note(note)
        raise failure from error
    return _Outcome(media, files, tuple(notes))


def _bring(
    file: OrganizedFile,
    files_mode: FilesMode,
    sync: bool,
    url_timeout: float,
    on_bytes: Callable[[int], object],
    tell: Callable[[str], object],
) -> tuple[MovedSource, ...]:
    if file.is_done and not has_leftovers(file.target):
        return ()
    if file.is_there or file.in_place:
        return bring_media(
            file.plan,
            sync=sync,
            progress=increments(on_bytes),
            url_timeout=url_timeout,
            with_paths=not file.is_there,
            keep_sources=True,
            tell=tell,
        )
    transfer = Transfer(
        file.target, as_folder=file.source.is_dir(), exclusive=not file.replaces, keep_sources=True, tell=tell
    )
    with rolled_back(transfer):
        transfer.media.stage(file.plan, sync=sync, progress=increments(on_bytes), url_timeout=url_timeout)
        rows = new_rows(file.plan, transfer)
        _stage_nwb_file(file, files_mode, transfer.staged_document, rows, sync, on_bytes)
        transfer.commit(sync=sync)
    return transfer.conclude(sync=sync)


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
    by_name = files_mode == "move" and not changes and file.source.is_file() and not file.source.is_symlink()
    if by_name and links.link_exclusive(file.source, staged):
        on_bytes(file.size)
        return
    copy = contents.copy_tree_verified if file.source.is_dir() else contents.copy_verified
    copy(file.source, staged, on_bytes=on_bytes, sync=False)  # `Transfer.commit` flushes it, with its new texts
    if changes:
        times = os.stat(staged)
        if staged.is_file():
            access.make_writable(staged)
        write_paths(staged, file.plan.edits, manifest=rows, name=file.source, sync=sync)
        # By its time the next run knows what it was made of.
        os.utime(staged, ns=(times.st_atime_ns, times.st_mtime_ns))


def _failed(failures: list[BaseException], plan: OrganizePlan, notes: list[str]) -> BaseException:
    ours = [failure for failure in failures if isinstance(failure, ExternalFilesError)]
    if len(ours) < len(failures):  # a defect, or the end of a worker
        return next(failure for failure in failures if failure not in ours)
    told = "\n".join(f"  {number}. {failure}" for number, failure in enumerate(ours, start=1))
    stay = "; nothing that was to move was removed" if plan.files_mode == "move" else ""
    error = TransferError(
        f"{len(ours)} of {len(plan)} NWB files could not be organized; the others are in {plan.dandiset_path}{stay}. "
        f"Mend what is told here, and run the same again:\n{told}",
        problems=ours,
    )
    for note in (*notes, *(note for failure in ours for note in getattr(failure, "__notes__", ()))):
        error.add_note(note)  # such as where it is what could not be brought back
    return error


def _remove_media_folders(plan: OrganizePlan) -> None:
    """Remove the media folders of former names that are empty now."""
    for file in plan:
        if file.in_place:
            remove_empty(file.plan)
        elif plan.files_mode == "move":
            _remove_if_empty(file.source.parent / nwb_stem(file.source))


def _remove_folders(plan: OrganizePlan) -> None:
    """Remove the folders inside the dandiset that moved NWB files have left empty."""
    for file in plan if plan.files_mode == "move" else ():
        if not file.in_place:
            for above in file.source.parents:
                if above != plan.dandiset_path and above.is_relative_to(plan.dandiset_path):
                    _remove_if_empty(above)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # something is in it, or it is gone

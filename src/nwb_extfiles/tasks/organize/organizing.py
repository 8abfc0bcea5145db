"""NWB files and their media copied or moved into a dandiset, one or ten thousand."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from ...batch import each, workers
from ...disk import filesystem
from ...disk.moves import MovedSource, remove_sources
from ...errors import ExternalFilesError, RelocationRefusedError, TransferError, combine, numbered, warn_all
from ...hints import Hint
from ...nwb.files import find_nwb_files
from ...options import MediaModes, MediaOptions, modes_in_order
from ...plans.log import log_done
from ...plans.targets import dandiset_above, nwb_stem
from ...progress import reporting
from ...threads import each_in_threads
from ...transfers.recovery import recover
from ...transfers.removals import put_back_noted, removals_noted
from ..named_files import Globs, named_nwb_files
from ..written_files import remove_empty
from .dandiset import plan_files
from .one_file import Outcome, carry_out
from .plan import FilesMode, OrganizedFile, OrganizePlan, OrganizeSettings

if TYPE_CHECKING:
    from .known import KnownFiles

__all__ = ["organize"]

_logger = logging.getLogger("nwb_extfiles")
_THREADS = 4  # of which most wait for the disk to confirm what was written
_MANY = 2 * _THREADS  # files; with fewer there is little to gain
_SMALL = 64 * 1024 * 1024  # bytes


def organize(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    dandiset_path: str | os.PathLike[str] | None = None,
    *,
    files_mode: FilesMode = "copy",
    media_mode: MediaModes | None = None,
    update_external_file_paths: bool = True,
    invalid: Literal["fail", "warn"] = "fail",
    required_fields: Iterable[str] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    cache: bool = True,
    dry_run: bool = False,
    on_file: Callable[[OrganizedFile], object] | None = None,
) -> OrganizePlan:
    """Copy or move NWB files and their media into a dandiset, under the names that DANDI gives them.

    The names of the NWB files are those of ``dandi organize``. Everything is planned before anything is changed. Each
    file is then organized with its media or not at all; what an earlier run has done is not done again. Files with
    little to copy are carried out a few at once, in threads that only this function uses.

    Parameters
    ----------
    paths : path or iterable of paths
        NWB files, and folders in which NWB files are searched for. Empty: the dandiset itself, whose files are renamed
        if their names are not those that DANDI gives.
    dandiset_path : path, optional
        Root of the dandiset; created if it does not exist. By default, the dandiset around the working directory.
    files_mode : {"copy", "move"}
        What happens to the NWB files. A copy is verified. If files move, the old ones are removed when all are in their
        places, so that an interrupted run can be repeated.
    media_mode : MediaMode, str or sequence of these, optional
        How media are moved, copied or linked; symbolic links by default. Of several, each NWB file gets the first that
        is possible for its media; see `modes_in_order`. Media in the media folder of an NWB file that
        moves are moved with it in any mode.
    update_external_file_paths : bool
        False: files that refer to media are refused.
    invalid : {"fail", "warn"}
        What to do with NWB files that cannot be read or named: refuse, or leave them out with a warning.
    required_fields : iterable of str
        Fields to have in the name of each file that has them, as in `dandi.organize`.
    include, exclude : iterable of str
        Patterns such as ``"*_behavior.nwb"`` or ``"raw/*"``: of the NWB files in folders, only those are taken that fit
        one of `include`, if there are any, and none of `exclude`. A pattern fits the path below the folder, or the
        name.
    media_options : MediaOptions or mapping, optional
        How media are found, named and transferred. `existing` is for NWB files too.
    jobs : int
        Number of processes; a script that asks for more than one needs ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Who does the work instead, such as ``distributed.Client(...).get_executor()`` for a cluster with the same file
        systems. It gets one file at a time.
    cache : bool
        Whether to use the cache in the user's cache folder, with which a repeated run takes a fraction of the time. It
        holds what was found in the bytes of NWB files, never what is where, and a call that may move media or NWB
        files, or replace something, does not use it. It may be deleted at any time.
    dry_run : bool
        Whether to plan only; nothing on disk is changed then but the cache.
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
        If the plan has problems, with all of them at once; nothing was changed. If some files fail when they are
        carried out: which, and why; the others are in their places, and no file or media that moved were removed.
    """
    options = MediaOptions.from_value(media_options)
    if media_mode is not None and not update_external_file_paths:
        raise RelocationRefusedError(
            "a media_mode was given with update_external_file_paths=False",
            hint="leave one of the two out",
        )
    if files_mode not in ("copy", "move") or invalid not in ("fail", "warn"):
        raise RelocationRefusedError(
            f"files_mode must be 'copy' or 'move', not {files_mode!r}, and invalid 'fail' or 'warn', not {invalid!r}"
        )
    if jobs < 1:
        raise RelocationRefusedError(f"jobs must be a number of processes, not {jobs!r}")
    settings = OrganizeSettings(
        _dandiset(dandiset_path),
        files_mode,
        modes_in_order(media_mode),
        update_external_file_paths,
        invalid,
        _several(required_fields),
        replace(options, progress=False),  # what shows it may not be sent to another process
    )
    if not dry_run:
        put_back_noted(settings.dandiset_path)
    include, exclude = _several(include), _several(exclude)
    globs = Globs(include, exclude) if include or exclude else None
    sources = _sources([paths] if isinstance(paths, str | os.PathLike) else list(paths), settings, globs)
    if not dry_run:
        _restore_interrupted(sources)
    with workers(jobs, executor) as pool, _known(settings, cache) as known:
        plan = plan_files(sources, settings, pool, known)
        warn_all(plan.warnings)
        if not dry_run:
            warn_all(_carry_out(plan, options, pool, on_file, known))
    return plan


def _dandiset(path: str | os.PathLike[str] | None) -> Path:
    if path is not None:
        root = Path(os.path.realpath(path))
        if os.path.lexists(root) and not root.is_dir():
            raise RelocationRefusedError(f"{root} is not a folder, and cannot be a dandiset", hint="name a folder")
        return root
    found = dandiset_above(Path.cwd() / "dandiset.yaml")
    if found is None:
        raise RelocationRefusedError(
            "no dandiset was named, and there is no dandiset.yaml in the working directory or above it",
            hint=Hint("name one with {dandiset_path}"),
        )
    return Path(os.path.realpath(found))


def _known(settings: OrganizeSettings, cache: bool) -> AbstractContextManager[KnownFiles | None]:
    """What earlier runs know of the bytes of NWB files; a call that may remove something proves anew what it needs."""
    if not cache or settings.may_remove:
        return nullcontext()
    try:
        from ...disk.cache import cache_folder
        from .known import known_files
    except ImportError:  # some Pythons were built without SQLite
        return nullcontext()
    return known_files(cache_folder(), settings.options)


def _several(value: Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _sources(paths: list[str | os.PathLike[str]], settings: OrganizeSettings, globs: Globs | None = None) -> list[Path]:
    root = settings.dandiset_path
    if not paths:
        if settings.files_mode != "move":
            raise RelocationRefusedError(
                "no NWB files were named, and inside a dandiset files can only be renamed",
                hint=Hint("name files or folders, or use {files_mode_move}"),
            )
        if not (root / "dandiset.yaml").is_file():
            raise RelocationRefusedError(
                f"no NWB files were named, and {root} is not a dandiset: it has no dandiset.yaml",
                hint="name files or folders",
            )
        return [path for path in find_nwb_files([root]) if globs is None or globs.fit(path, root)]
    # Files in the dandiset are no sources, unless a path names them, or a folder in it.
    into = [path for path in paths if filesystem.by_way_of(root, Path(os.path.realpath(path))).is_relative_to(root)]
    around = [path for path in paths if path not in into]
    found: dict[Path, Path] = {}
    problems: list[ExternalFilesError] = []
    for path in named_nwb_files(into, problems, globs):
        real = filesystem.with_real_folder(path)
        inside = filesystem.by_way_of(root, real)
        found.setdefault(inside, path if inside == real else inside)  # by a mount of it, it has its place all the same
    for path in named_nwb_files(around, problems, globs):
        real = filesystem.with_real_folder(path)
        if not filesystem.by_way_of(root, real).is_relative_to(root):
            found.setdefault(real, path)
    if problems:
        raise combine(problems)
    if not found:
        raise RelocationRefusedError(
            f"all NWB files in {', '.join(map(str, paths))} are in the dandiset already",
            hint=Hint("to rename those, name none, and use {files_mode_move}"),
        )
    return list(found.values())


def _restore_interrupted(sources: list[Path]) -> None:
    """Restore files whose paths an interrupted run was changing."""
    for path in sources:
        recover(Path(os.path.realpath(path)))


def _carry_out(
    plan: OrganizePlan,
    options: MediaOptions,
    executor: Executor | None,
    on_file: Callable[[OrganizedFile], object] | None,
    known: KnownFiles | None,
) -> list[str]:
    failures: list[BaseException] = []
    notes: list[str] = []
    media, files = list[MovedSource](), list[MovedSource]()
    with reporting(options.progress, plan.work_bytes) as on_bytes:
        do = partial(
            carry_out,
            files_mode=plan.files_mode,
            sync=options.sync,
            url_timeout=options.url_timeout,
            digest_limit=-1 if known is None else known.limit,
        )
        if executor is not None:
            results = each(do, plan, executor)
        elif len(plan) < _MANY:
            results = each(partial(do, on_bytes=on_bytes), plan, None)
        else:
            results = each_in_threads(_OneLongAtATime(do), plan, _THREADS, on_bytes)
        with closing(results):  # an interrupt ends what was begun
            for number, result in results:
                if isinstance(result, BaseException):
                    failures.append(result)
                    continue
                media.extend(result.media)
                files.extend(result.files)
                notes.extend(result.notes)
                file = plan.files[number]
                if known is not None:
                    known.keep_copy(result.digests, file.plan.edits)
                _logger.info("%s -> %s: %s", file.source, file.target, "already there" if file.is_done else "done")
                log_done(file.plan)
                if executor is not None:
                    on_bytes(file.work_bytes)
                if on_file is not None:
                    on_file(file)
    if failures:
        not_removed = "; nothing that moved was removed" if plan.files_mode == "move" else ""
        what = (
            f"{len(failures):,} of {len(plan):,} NWB files could not be organized; the others are in "
            f"{plan.dandiset_path}{not_removed}. Fix these problems and run the same command again"
        )
        raise failed_in_part(failures, what, notes)
    # The old place of one file may be the new one of another.
    targets = {file.target for file in plan} if plan.files_mode == "move" else set[Path]()
    # NWB files are removed last, so that after an interrupted run the next one finds them and their media.
    for moved, remove_folders in ((media, _remove_media_folders), (files, _remove_folders)):
        going = [source for source in moved if not targets.intersection(source.places)]
        if going:
            with removals_noted(plan.dandiset_path, going, sync=options.sync):
                notes.extend(remove_sources(going, sync=options.sync))
        remove_folders(plan)
    return notes


class _OneLongAtATime:
    """Carries out small files side by side, and files with much to copy or download one after the other.

    One long copy keeps the disk busy, and two at once may slow each other down.
    """

    def __init__(self, do: Callable[..., Outcome]) -> None:
        self._do = do
        self._long = Lock()

    def __call__(self, file: OrganizedFile, on_bytes: Callable[[int], object]) -> Outcome:
        remote = any(entry.remote is not None for entry in file.plan.relocations)
        takes_long = remote or file.size + file.plan.copied_bytes > _SMALL
        with self._long if takes_long else nullcontext():
            on_bytes(0)  # which raises if the call was cancelled
            return self._do(file, on_bytes=on_bytes)


def failed_in_part(failures: Sequence[BaseException], what: str, notes: Iterable[str]) -> BaseException:
    """The error of a call that has failed for some NWB files, and has done the others."""
    ours = [failure for failure in failures if isinstance(failure, ExternalFilesError)]
    if len(ours) < len(failures):  # a defect, or the end of a worker
        return next(failure for failure in failures if failure not in ours)
    error = TransferError(f"{what}:\n{numbered(ours)}", problems=ours)
    for note in (*notes, *(note for failure in ours for note in getattr(failure, "__notes__", ()))):
        error.add_note(note)  # such as the place of a file that could not be restored
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

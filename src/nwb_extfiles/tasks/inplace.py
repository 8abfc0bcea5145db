"""Media of a finished NWB file brought to their place, the file itself staying where it is.

For files that any program wrote, and for files that were renamed. Only the texts in the NWB file change, in place and
through a journal; the rest of it is neither read nor written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from ..disk.moves import MovedSource, remove_sources
from ..errors import (
    ExternalFilesError,
    MissingMediaError,
    RelocationRefusedError,
    UnreadableFileError,
    combine,
    warn,
)
from ..media.inventory import find_by_content, make_rows, other_films, verify_media
from ..nwb.manifest import ManifestRow, read_manifest, same_rows
from ..nwb.references import ExternalFileReference, find_in_file, media_fields
from ..nwb.storage import fits, is_stored, item_at, read_texts, texts_at
from ..nwb.stores import edit_texts, nwb_files_beside, nwb_files_called_like, open_nwb
from ..options import MediaMode, MediaOptions, ProgressCallback
from ..plans.plan import Action, RelocationPlan
from ..plans.planning import plan_references
from ..plans.resolve import MediaFile, resolve_all
from ..plans.targets import nwb_stem
from ..progress import reporting
from ..transfers.staging import has_leftovers, is_half_done
from ..transfers.transfer import Transfer, recover

__all__ = [
    "bring_media",
    "cannot_edit",
    "cannot_hold",
    "file_identifier",
    "is_former_media_folder",
    "new_rows",
    "references_before",
    "relocate",
    "relocate_files",
    "remove_empty",
    "rolled_back",
    "warned_of_other_names",
]

_IsInMemory = Callable[[ExternalFileReference], bool]  # whether a text means what it did in memory


def relocate(
    path: str | os.PathLike[str],
    media_mode: MediaMode | str = MediaMode.SYMLINK,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    just_written: bool = False,
    held_before: Collection[ExternalFileReference] = (),
    repair: bool = False,
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
    held_before : collection of ExternalFileReference
        Together with `just_written`, what the file held before this program appended to it, as
        `nwb_extfiles.tasks.inplace.references_before` gave it: relative texts of these mean files beside it, and no
        others.
    repair : bool
        Whether films that are missing, or not those that the manifest of the NWB file tells of, are looked for by
        their content in its media folder and in the folders of `search`. A wrong film gives way only with
        ``existing="replace"``.

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
    in_memory = _in_memory(held_before) if just_written else None
    (plan,) = _plan_all([path], MediaMode(media_mode), options, dry_run, in_memory, repair)
    for warning in plan.warnings:
        warn(warning)
    if not dry_run:
        _carry_out([plan], options)
    return plan


def references_before(
    path: str | os.PathLike[str], media_options: MediaOptions | Mapping[str, Any] | None = None
) -> list[ExternalFileReference]:
    """What an NWB file refers to that another program is about to append to, or to replace.

    Parameters
    ----------
    path : path
        The NWB file, if there is one. If a killed run has left it half edited it is restored first: what that run
        noted must not be put back into what the other program writes.
    media_options : MediaOptions or mapping, optional
        Of which `media_fields` is used.

    Returns
    -------
    list of ExternalFileReference
        None of a file that is not there, or is no NWB file.

    Raises
    ------
    RelocationRefusedError
        If the path is a symbolic link, beside which no media could be found later.
    DestinationBusyError, TransferError
        If another run is editing the file, or if it cannot be restored.
    """
    options = MediaOptions.from_value(media_options)
    document = _document(Path(os.path.abspath(path)), dry_run=False)
    try:
        with open_nwb(document) as file:
            return list(find_in_file(file, media_fields(options.media_fields)))
    except UnreadableFileError:
        return []


def _in_memory(held_before: Collection[ExternalFileReference]) -> _IsInMemory:
    """Tells the references of a program that has just written a file from those that were in it before."""
    before = {(entry.object_id, entry.entry, entry.text) for entry in held_before}
    return lambda entry: (entry.object_id, entry.entry, entry.text) not in before


def relocate_files(
    paths: Iterable[str | os.PathLike[str]],
    media_mode: MediaMode | str = MediaMode.SYMLINK,
    *,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    repair: bool = False,
    on_file: Callable[[RelocationPlan], object] | None = None,
) -> list[RelocationPlan]:
    """Relocate several NWB files, none of which is touched before all are known to go.

    A film that several of them refer to gets to each, and is moved away, if at all, when all have it.

    Parameters
    ----------
    paths : iterable of paths
        The NWB files; one that is named twice counts once.
    media_mode, media_options, dry_run, repair
        As in `relocate`.
    on_file : callable, optional
        Called with the plan of each file when it is done.

    Returns
    -------
    list of RelocationPlan
        What was done, or would be.

    Raises
    ------
    ExternalFilesError
        As `relocate`; a file is done wholly or not at all, and those before it stay done.
    """
    options = MediaOptions.from_value(media_options)
    plans = _plan_all(paths, MediaMode(media_mode), options, dry_run, repair=repair)
    for warning in (warning for plan in plans for warning in plan.warnings):
        warn(warning)
    if not dry_run:
        _carry_out(plans, options, on_file or (lambda plan: None))
    return plans


def _plan_all(
    paths: Iterable[str | os.PathLike[str]],
    mode: MediaMode,
    options: MediaOptions,
    dry_run: bool,
    in_memory: _IsInMemory | None = None,
    repair: bool = False,
) -> list[RelocationPlan]:
    documents: dict[Path, None] = {}
    plans: list[RelocationPlan] = []
    problems: list[ExternalFilesError] = []
    for path in map(Path, map(os.path.abspath, paths)):
        try:
            documents[_document(path, dry_run)] = None
        except ExternalFilesError as error:
            problems.append(error)
    others = _Others(documents, options)
    for document in documents:
        try:
            plan = _plan(document, mode, options, others, in_memory, repair)
        except ExternalFilesError as error:
            problems.extend(error.problems)
        else:
            plans.append(plan)
            problems.extend(others.robbed_by(plan))
    if problems:
        raise combine(problems)
    return plans


def _carry_out(
    plans: Sequence[RelocationPlan],
    options: MediaOptions,
    on_file: Callable[[RelocationPlan], object] = lambda plan: None,
) -> None:
    several, done = len(plans) > 1, 0
    moved: list[MovedSource] = []

    def end() -> list[str]:
        """Let go what was moved; what a file that was not reached still refers to stays where it is."""
        left = [entry.source for plan in plans[done:] for entry in plan.relocations if entry.source]
        wanted = {path for source in left for path in (source.path, source.real)}
        notes = remove_sources((source for source in moved if source.path not in wanted), sync=options.sync)
        for plan in plans[:done]:
            remove_empty(plan)
        return notes

    try:
        with reporting(options.progress, sum(plan.work_bytes for plan in plans)) as on_bytes:
            for plan in plans:
                if _has_work(plan):
                    moved.extend(
                        bring_media(
                            plan,
                            sync=options.sync,
                            progress=_increments(on_bytes),
                            url_timeout=options.url_timeout,
                            keep_sources=several,
                        )
                    )
                done += 1
                on_file(plan)
    except BaseException as error:
        for note in end():
            error.add_note(note)
        raise
    for note in end():
        warn(note)


def _increments(on_bytes: Callable[[int], None]) -> ProgressCallback:
    """Turn the bytes done so far of one file into further bytes of all."""
    before = 0

    def report(done: int, total: int) -> None:  # noqa: ARG001
        nonlocal before
        on_bytes(done - before)
        before = done

    return report


def _has_work(plan: RelocationPlan) -> bool:
    """Whether anything on disk has to change; a folder that may not be written to can hold a file that has none."""
    if plan.edits or not plan.manifest_is_current or has_leftovers(plan.nwb_path):
        return True
    return any(
        entry.action in (Action.TRANSFER, Action.DUPLICATE, Action.FOLLOW, Action.DOWNLOAD)
        or (
            # the film has got there before, and still has to go from its old place
            plan.mode is MediaMode.MOVE
            and entry.source is not None
            and entry.target is not None
            and plan.nwb_path.parent / entry.target not in (entry.source.path, entry.source.real)
        )
        for entry in plan.relocations
    )


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


def _plan(
    nwb_path: Path, mode: MediaMode, options: MediaOptions, others: _Others, in_memory: _IsInMemory | None, repair: bool
) -> RelocationPlan:
    with open_nwb(nwb_path) as file:
        problems: list[ExternalFilesError] = []
        references = find_in_file(file, media_fields(options.media_fields), problems)
        if in_memory is not None:
            references = [replace(entry, base=None) if in_memory(entry) else entry for entry in references]
        rows = read_manifest(file, nwb_path)
        found = _found_by_content(nwb_path, references, rows, options, problems) if repair else None
        plan = plan_references(
            references,
            nwb_path=nwb_path,
            identifier=file_identifier(file, nwb_path),
            mode=mode,
            options=options,
            problems=problems,
            is_former=lambda folder: is_former_media_folder(folder, nwb_path) and not others.use(folder, nwb_path),
            manifest=rows,
            found=found,
        )
        problems = cannot_hold(file, plan)
    problems.extend(cannot_edit(plan))
    if problems:
        raise combine(problems)
    return warned_of_other_names(plan)


def cannot_edit(plan: RelocationPlan) -> list[ExternalFilesError]:
    """Problems of texts that are to change in a file that stays where it is."""
    path = plan.nwb_path
    if not plan.edits and plan.manifest_is_current:
        return []
    if path.is_symlink():
        # git-annex, for one, keeps under a link what must never change
        reason = f"{path} is a symbolic link to {os.path.realpath(path)}, which is not to be changed through it"
        return [RelocationRefusedError(f"{reason}; put the file itself there", nwb_path=str(path))]
    if not os.access(path, os.W_OK):
        reason = f"{path} may not be written to, and its texts have to change"
        return [RelocationRefusedError(f"{reason}; make it writable first", nwb_path=str(path))]
    return []


def warned_of_other_names(plan: RelocationPlan) -> RelocationPlan:
    """A plan of texts that change in a file that stays where it is, with a warning if the file has other names."""
    path = plan.nwb_path
    names = os.stat(path).st_nlink
    if not plan.edits or names == 1 or not path.is_file():
        return plan
    note = (
        f"{path} has {names} names (hard links), and its texts change under all of them: where another name "
        f"lies in another folder, or has media of its own, its paths are wrong now; give it a copy"
    )
    return replace(plan, warnings=(*plan.warnings, note))


def _found_by_content(
    nwb_path: Path,
    references: Sequence[ExternalFileReference],
    rows: Sequence[ManifestRow] | None,
    options: MediaOptions,
    problems: list[ExternalFilesError],
) -> dict[tuple[str, str, int], MediaFile]:
    """The right films of entries whose films are missing or wrong, by what the manifest says of them."""
    if rows is None:
        raise RelocationRefusedError(
            f"{nwb_path} has no manifest, so nothing tells which films are its own; name where they are with --search "
            f"(`search` in media_options), without --repair",
            nwb_path=str(nwb_path),
        )
    resolutions = resolve_all(references, options, destination=nwb_path.parent)
    bad = [verdict for verdict in verify_media(rows, resolutions) if verdict.state.is_bad]
    wanted = [verdict.row for verdict in bad if verdict.row is not None]
    elsewhere = find_by_content(wanted, [nwb_path.parent / nwb_stem(nwb_path), *options.search]) if wanted else {}
    found: dict[tuple[str, str, int], MediaFile] = {}
    for verdict in bad:
        reference, row = verdict.resolution.reference, verdict.row
        if row is not None and row.sha256 in elsewhere:
            film = elsewhere[row.sha256]
            # it gets the suffix that it had, whatever it is called there
            found[reference.entry] = replace(film, path=film.path.with_suffix(PurePosixPath(row.path).suffix))
        elif row is not None and options.missing == "error":
            problems.append(
                MissingMediaError(
                    f"{reference.where}: its film {row.original_name!r} ({row.size_in_bytes:,} bytes, SHA-256 "
                    f"{row.sha256}) is {verdict.state}, and in none of the folders that were searched; name one that "
                    f"has it with --search (`search` in media_options)",
                    **reference.place,
                )
            )
    return found


class _Others:
    """NWB files that are not relocated, but refer to films in the media folders of those that are.

    Parameters
    ----------
    documents : collection of pathlib.Path
        The files that are relocated.
    options : MediaOptions
        Of which `media_fields` is used.
    """

    def __init__(self, documents: Collection[Path], options: MediaOptions) -> None:
        self._documents = documents
        self._options = options
        self._beside: dict[tuple[Path, Path], list[Path]] = {}
        self._used: dict[Path, tuple[set[Path], set[tuple[int, int]]]] = {}

    def use(self, folder: Path, nwb_path: Path) -> bool:
        """Whether another file refers to media in a folder."""
        return any(folder in self._used_by(other)[0] for other in self._of(folder, nwb_path))

    def robbed_by(self, plan: RelocationPlan) -> Iterator[ExternalFilesError]:
        """Films that a move would take away from another file."""
        for entry in plan.relocations:
            source = entry.source
            if plan.mode is not MediaMode.MOVE or source is None or entry.target is None:
                continue
            for folder in {source.path.parent, source.real.parent}:
                users = (
                    other for other in self._of(folder, plan.nwb_path) if source.identity in self._used_by(other)[1]
                )
                if (other := next(users, None)) is not None:
                    yield RelocationRefusedError(
                        f"{entry.reference.where}: {str(source.real)!r} belongs to {str(other)!r} too, which would "
                        f"lose it; relocate both files in one call, or use media_mode 'copy' or 'hardlink'",
                        **entry.reference.place,
                    )
                    break

    def _of(self, folder: Path, nwb_path: Path) -> list[Path]:
        """The file whose media folder a folder is; where that was renamed, any file beside it may be it."""
        if (folder, nwb_path) not in self._beside:
            self._beside[folder, nwb_path] = self._find(folder, nwb_path)
        return self._beside[folder, nwb_path]

    def _find(self, folder: Path, nwb_path: Path) -> list[Path]:
        files = nwb_files_called_like(folder)
        if nwb_path in files:
            return []
        if not files and is_former_media_folder(folder, nwb_path):
            files = nwb_files_beside(nwb_path)
        return [file for file in files if file not in self._documents]

    def _used_by(self, nwb_path: Path) -> tuple[set[Path], set[tuple[int, int]]]:
        """The folders of the files that an NWB file refers to, and these files; none if it cannot be read."""
        if nwb_path not in self._used:
            try:
                with open_nwb(nwb_path) as file:
                    references = find_in_file(file, media_fields(self._options.media_fields))
            except ExternalFilesError:
                references = []
            found = resolve_all(references, MediaOptions(), destination=nwb_path.parent)
            files = [entry.file for entry in found if entry.file is not None]
            self._used[nwb_path] = {file.path.parent for file in files}, {file.identity for file in files}
        return self._used[nwb_path]


def cannot_hold(file: Any, plan: RelocationPlan) -> list[ExternalFilesError]:
    """Problems of new texts that cannot be written where the old ones are, in place or in a copy.

    A dataset of fixed length with a type of its own may be the target of object references, which do not outlive it.
    """
    problems: list[ExternalFilesError] = []
    for (object_path, field), texts in plan.edits.items() if isinstance(file, h5py.File) else ():
        owner = item_at(file, object_path)
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
    url_timeout: float = 60.0,
    with_texts: bool = True,
    keep_sources: bool = False,
    tell: Callable[[str], object] | None = None,
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
    url_timeout : float
        As `MediaOptions.url_timeout`, in seconds.
    with_texts : bool
        Whether the texts are still to be changed.
    keep_sources : bool
        Whether what was moved stays at its old place too for now.
    tell : callable, optional
        As `Transfer` has it.

    Returns
    -------
    tuple of MovedSource
        What stays for now.
    """
    transfer = Transfer(plan.nwb_path, edits_document=True, keep_sources=keep_sources, tell=tell)

    with rolled_back(transfer):
        transfer.media.stage(plan, sync=sync, progress=progress, url_timeout=url_timeout)
        rows = new_rows(plan, transfer) if with_texts else None

        def edit() -> None:
            edit_texts(plan.nwb_path, plan.edits, manifest=rows, journal=transfer.journal, sync=sync)

        transfer.commit(sync=sync, edit=edit if with_texts and (plan.edits or rows is not None) else None)
    return transfer.conclude(sync=sync)


def new_rows(plan: RelocationPlan, transfer: Transfer) -> list[ManifestRow] | None:
    """What the manifest shall say when media are staged; None if it gets nothing new."""
    if plan.manifest is None:
        return None
    rows = make_rows(plan, transfer.media.digests, transfer.media.fetched)
    transfer.notes.extend(other_films(plan, rows))
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


def file_identifier(file: Any, nwb_path: Path) -> str:
    """The identifier of an open NWB file; its name where it has none."""
    read = texts_at(file, "identifier") if isinstance(file, h5py.File) else None
    if read is None:
        dataset = file.get("identifier")
        read = read_texts(dataset) if is_stored(dataset) else None
    return read[0][0] if read and read[0] else nwb_stem(nwb_path)


def is_former_media_folder(folder: Path, nwb_path: Path) -> bool:
    """Whether a folder beside an NWB file held its media under a former name: no other NWB file is called like it."""
    return folder.parent == nwb_path.parent and folder.name != nwb_stem(nwb_path) and not nwb_files_called_like(folder)


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

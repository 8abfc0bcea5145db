"""What a killed transfer has left is put in order: the document gets back what it was, or what was begun is completed.

It is done by whoever takes the staging folder next (`open_staging_folder`), or when a document is read (`recover`).
Before anything is changed all of the folder is looked at, for it may have come with a download.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..disk.filesystem import is_folder, make_folders, replace, sync_folders
from ..disk.journal import rollback
from ..errors import ExternalFilesError, TransferError, numbered, warn
from ..plans.targets import STAGING_PREFIX
from .disk_errors import explained
from .folder_notes import EditMark, read_note
from .interrupted import (
    edited_document,
    fitting_journals,
    has_leftovers,
    is_interrupted,
    renamed_from,
)
from .removals import finish_removals, put_back
from .staging_folder import StagingFolder, staging_path

__all__ = ["not_put_back", "open_staging_folder", "recover"]


def open_staging_folder(
    document: Path,
    *,
    edits_document: bool = False,
    as_folder: bool = False,
    leader: StagingFolder | None = None,
    finishes: bool = False,
) -> StagingFolder:
    """Take the staging folder of a document, with what a killed transfer has left put in order.

    Parameters
    ----------
    document, as_folder
        As `StagingFolder` takes them, which raises the same.
    edits_document : bool
        Whether the document is edited in place. Else a new one is written at `document_part`.
    leader : StagingFolder, optional
        As `StagingFolder.begin_edit` takes it.
    finishes : bool
        Whether the old names are removed that a killed move left after its commit, as they are before an edit.
    """
    former = renamed_from(document)
    if former is not None:
        open_staging_folder(former, finishes=True).release()
    with _locked(document, as_folder=as_folder) as folder:
        if not folder.fresh:
            # who writes a new document brings the media anew, from their old places
            _put_in_order(folder, finishes=finishes or edits_document)
        if edits_document:
            folder.begin_edit(leader)
    return folder


@contextmanager
def _locked(document: Path, *, as_folder: bool = False) -> Iterator[StagingFolder]:
    """The staging folder of a document, locked and looked at; released again if the block fails."""
    folder = StagingFolder(document, as_folder=as_folder)
    try:
        if not folder.fresh:
            _refuse_what_is_not_ours(folder)
        if folder.is_new and not folder.fresh:
            folder.remove_parts()  # they may be links, and what is written to them would get elsewhere
        yield folder
    except BaseException as error:
        folder.give_up(error)
        raise


def _other_folder(document: Path) -> StagingFolder | None:
    """The staging folder of another document of a call, locked; None if there is none."""
    if not is_folder(staging_path(document)) or os.path.realpath(document.parent) != str(document.parent):
        return None
    with _locked(document) as folder:
        return folder


def recover(document: Path, *, thoroughly: bool = False) -> bool:
    """Restore a document that a killed transfer was editing in place; tells whether there was anything to do.

    Of a call over several documents all are restored, or, if it was committed, all are completed.

    Parameters
    ----------
    document : pathlib.Path
        The file, its folder free of symbolic links.
    thoroughly : bool
        Whether a copy of a document with an unfinished edit is restored too, and old names are removed that a killed
        move has left.

    Raises
    ------
    DestinationBusyError
        If the transfer is still going on.
    TransferError
        If the document cannot be restored; what is needed for it stays.
    """
    if not is_interrupted(document) and not (thoroughly and document.exists()):
        return False
    try:
        if is_interrupted(document) or has_leftovers(document):
            with explained(document):
                folder = open_staging_folder(document, finishes=document.exists() and thoroughly)
                with suppress(OSError):
                    folder.clear()  # whole copies too: nobody is about to use them
                folder.release()
            for note in folder.notes:
                warn(note)
            return True
        copied = [journal for journal in fitting_journals(document) if rollback(document, journal, keep_journal=True)]
        return bool(copied)
    except ExternalFilesError:
        raise
    except OSError as error:
        raise TransferError(
            f"{document} was left inconsistent by an interrupted run, and cannot be restored here: {error}",
            hint="run `nwb-extfiles recover` on it where it can be written to",
            nwb_path=str(document),
        ) from error


# ------------------------------------------------------------------- distrust


def _refuse_what_is_not_ours(folder: StagingFolder) -> None:
    """Refuse a staging folder that no transfer leaves like that: it may come with a downloaded dandiset.

    Nothing of it is followed to another folder, and nothing is changed before all of it was looked at.
    """
    notes = (folder.mark, folder.committed, folder.placed, folder.removals)
    wrong = [place for place in (folder.parts[0], *notes) if is_folder(place)]
    if os.path.lexists(folder.replaced) and not is_folder(folder.replaced):
        wrong.append(folder.replaced)
    if wrong:
        raise folder.in_the_way(wrong[0])
    if not is_folder(folder.former):
        return
    for above, below, names in os.walk(folder.former):
        place = folder.folder / Path(above).relative_to(folder.former)
        # what is put back goes to a folder that is one, or that is not there yet
        if above != str(folder.former) and os.path.lexists(place) and not is_folder(place):
            raise folder.in_the_way(Path(above))
        for name in [*names, *below]:
            aside = Path(above, name)
            if is_folder(aside):
                continue
            if is_folder(place / name):
                raise TransferError(
                    f"{aside} cannot be put back where it was: {place / name} is a directory",
                    hint="move that away",
                    nwb_path=str(folder.document),
                )
            if not _is_media(aside) or _holds_no_media(folder, place / name):
                raise folder.in_the_way(aside)


def _holds_no_media(folder: StagingFolder, place: Path) -> bool:
    """Whether a place is the document, or where something is staged."""
    first = place.relative_to(folder.folder).parts[0]
    return place.is_relative_to(folder.document) or first.startswith(STAGING_PREFIX)


def _is_media(path: Path) -> bool:
    """Whether a path is what stands at a target: a file, or a link."""
    return stat.S_ISREG(mode := os.lstat(path).st_mode) or stat.S_ISLNK(mode)


# ------------------------------------------------------------------ put in order


def _put_in_order(opened: StagingFolder, *, finishes: bool) -> None:
    """Bring back what a killed call had put aside, unless it was committed; clear what it left.

    Of a call over several documents all are brought back, or none.
    """
    call = _whole_call(opened)
    leader, members = call[0], call[1:]
    problems: list[TransferError] = []
    try:
        leader.end_call(members, sync=True)
        for folder in reversed(call):  # the leader last, who tells the others what to do
            try:
                _bring_back_or_finish(folder, finishes=finishes or folder is not opened)
            except TransferError as error:  # the others are none the worse
                problems.append(error)
    finally:
        for folder in call:
            if folder is not opened:
                opened.notes.extend(folder.notes)
                folder.release()
    _raise_all(problems, opened.document)


def _bring_back_or_finish(folder: StagingFolder, *, finishes: bool) -> None:
    if folder.is_unfinished():
        rollback(edited_document(folder.document), folder.journal)
        _put_back_former(folder)
        folder.restore_folder()
    elif finishes:
        folder.notes.extend(finish_removals(read_note(folder.removals), folder.folder))
    else:  # the same is about to be written anew, and moves what is still there
        put_back(read_note(folder.removals))
    folder.clear(but_whole_copies=True)


def _put_back_former(folder: StagingFolder) -> None:
    """Give what was put aside its name again, but never over what somebody else has put there meanwhile."""
    if not is_folder(folder.former):
        return
    touched: set[Path] = set()
    others: list[TransferError] = []
    for above, below, names in os.walk(folder.former):
        place = folder.folder / Path(above).relative_to(folder.former)
        for name in names + [name for name in below if Path(above, name).is_symlink()]:
            aside, target = Path(above, name), place / name
            if not folder.may_put_back(aside, target):
                others.append(not_put_back(aside, target, edited_document(folder.document)))
                continue
            made: list[Path] = []
            make_folders(place, made)
            replace(aside, target)
            touched.update({place, *(new.parent for new in made)})
    sync_folders(touched)  # before what tells that they are to be put back is removed
    _raise_all(others, folder.document)


def _raise_all(problems: list[TransferError], document: Path) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        what = f"{document}: {len(problems)} problems; what a killed run left is not cleared yet:"
        raise TransferError(f"{what}\n{numbered(problems)}", nwb_path=str(document), problems=problems)


def not_put_back(aside: Path, target: Path, document: Path) -> TransferError:
    """What to say of a former file whose place somebody else has taken."""
    return TransferError(
        f"{target} was put there by another program since this run, or one that was killed, replaced it, and is left "
        f"as it is. The former file is at {aside}",
        hint=f"to have it back, move {target} away; to keep the new one, remove {aside}. Then run "
        f"`nwb-extfiles recover {document}`",
        nwb_path=str(document),
    )


# -------------------------------------------------- calls over several documents


def _whole_call(folder: StagingFolder) -> list[StagingFolder]:
    """The staging folders of a killed call that one was part of, all of them locked, that of its leader first.

    Both sides must speak of each other, for a folder may have been copied, moved or downloaded. A member whose
    leader is not found goes back to what was before, which does no harm: nothing is removed, and nothing that was
    put aside is cleared, as long as a member has its mark.
    """
    mark = EditMark.read(folder.mark)
    if mark.leader is None or mark.call is None:
        return _with_members(folder, folder)
    leader = _other_folder(mark.leader)
    if leader is None:
        return [folder]
    led = EditMark.read(_call_mark(leader))
    if led.call != mark.call or folder.document not in led.members:
        leader.release()
        return [folder]
    try:
        return _with_members(leader, folder)
    except BaseException:
        leader.release()
        raise


def _with_members(leader: StagingFolder, known: StagingFolder) -> list[StagingFolder]:
    mark = EditMark.read(_call_mark(leader))
    call = [leader]
    try:
        for document in mark.members:
            if document == known.document:
                call.append(known)
                continue
            member = _other_folder(document)
            if member is None and os.path.lexists(leader.committed) and not os.path.lexists(document):
                raise TransferError(
                    f"{leader.document} was changed in one call with {document}, which was moved away before the "
                    f"call had come to its end",
                    hint=f"put it back, or, if it is gone for good, remove {leader.path}",
                    nwb_path=str(leader.document),
                )
            if member is None:
                continue  # it is done, or was brought back
            found = EditMark.read(member.mark)
            if found.call == mark.call and found.leader == leader.document:
                call.append(member)
            else:
                member.release()
    except BaseException:
        for folder in call:
            if folder not in (leader, known):
                folder.release()
        raise
    return call


def _call_mark(folder: StagingFolder) -> Path:
    return folder.committed if os.path.lexists(folder.committed) else folder.mark

"""The folder beside a document in which a transfer gets ready.

It holds the lock on the document, the numbered parts, what is put aside while it is replaced, and the journal of an
edit in place. Whoever takes the lock finds what a killed transfer has left, and brings the document back to what it
was. As the folder may come with a download, nothing in it is trusted to be what a transfer leaves.

A document may be a file, or a folder such as a Zarr store. A file takes the place of another one in one step; a folder
cannot, so the former one is renamed into the staging folder first, as ``replaced``, and the new one to its name then.
What is there tells a run that comes after a kill how far that had got:

========  ======  ========  ==================================================
document  staged  replaced  the killed run was
========  ======  ========  ==================================================
former    any     none      before the first rename: the staged one is removed
none      yes     former    between the two: the former one gets its name back
none      none    former    where only a power cut leads: likewise
new       none    former    done: the former one is removed
========  ======  ========  ==================================================

Each row is told from the others by what exists alone, and no row has less than one whole document. A former document
gets another name (``waste``) before anything in it is removed, so that what is called ``replaced`` is always whole.

An edit in place is unfinished as long as its mark is there. Documents that are edited in one call have one leader among
them; the mark of each other one, a member, names it, and the leader's mark names them. The call is committed by one
rename of the leader's mark, ``unfinished`` to ``committed``:

==========  ==========  =========  ================================================================
leader      member      call is    the next run on any of them
==========  ==========  =========  ================================================================
unfinished  unfinished  undone     brings back what was before: the members, then the leader
committed   unfinished  done       removes the marks of the members, then ``committed``
committed   none        done       removes ``committed``
none        none        done       removes the old names that are noted (``removals``), clears each
none        unfinished  undone     brings that member back: its leader was brought back, or moved
==========  ==========  =========  ================================================================

No old name goes, and nothing that was put aside is cleared, before the last mark of a member has gone. So the last row
comes after a call that was brought back, or to a member whose leader cannot be found, and loses nothing either way.
What was put aside goes back only over what the transfer has put there, which is noted (``placed``), or over nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..disk.access import copy_access
from ..disk.filesystem import is_folder, make_folders, remove, sync_folders, unlink, write_new
from ..disk.locks import FileLock
from ..disk.moves import MovedSource
from ..errors import DestinationBusyError, TransferError
from ..plans.targets import STAGING_PREFIX
from .folder_notes import EditMark, inode_of, was_placed
from .removals import note_of_removals

__all__ = [
    "FETCH_PREFIX",
    "FORMER",
    "JOURNAL",
    "REPLACED",
    "UNFINISHED",
    "WHOLE_PREFIX",
    "StagingFolder",
    "staging_path",
]

# names in the folder
JOURNAL, UNFINISHED, REPLACED, FORMER = "journal", "unfinished", "replaced", "former"
_LOCK, _COMMITTED, _WASTE, _PLACED, _REMOVALS = "lock", "committed", "waste", "placed", "removals"
_FILE_SUFFIX, _FOLDER_SUFFIX = ".nwb", ".zarr"  # of a document that is staged; by them its backend knows it
_ATTEMPTS = 100
WHOLE_PREFIX = "whole-"
"""How the names of verified copies begin, which the next transfer may take up."""
FETCH_PREFIX = "fetch-"
"""How the names of downloads begin, which the next transfer may take up, be they whole or not."""
_OF_USE = (WHOLE_PREFIX, FETCH_PREFIX)


class StagingFolder:
    """The staging folder of one document, locked, as it was found; `recovery.open_staging_folder` puts it in order.

    Parameters
    ----------
    document : pathlib.Path
        The document, its folder free of symbolic links; that folder is made if it is missing.
    as_folder : bool
        Whether the new document is a folder.

    Attributes
    ----------
    path : pathlib.Path
        The folder itself.
    document_part : pathlib.Path
        Where a new document is written; beside its final place, so that relative links in it are right.
    parts : tuple of pathlib.Path
        Where a new document may be, as a file and as a folder: a killed transfer may have made one of the other kind.
    replaced : pathlib.Path
        Where a document that is a folder is while it is replaced.
    former : pathlib.Path
        Below which former content of targets is kept, by their paths relative to the folder of the document.
    journal : pathlib.Path
        Where an edit in place keeps what it changes.
    mark : pathlib.Path
        Exists while an edit in place is unfinished.
    committed : pathlib.Path
        Exists in the folder of a leader from the commit on, until all members have none of their marks any more.
    placed, removals : pathlib.Path
        The notes of what the transfer puts over something else, and of what it has still to remove.
    is_new : bool
        Whether the folder was made for this transfer.
    fresh : bool
        Whether no killed transfer was here, whose folders may not be flushed.
    notes : list of str
        What recovery left as it was, and why.

    Raises
    ------
    DestinationBusyError
        If another transfer to the same document is going on; nothing is changed.
    TransferError
        If something stands there that no transfer leaves.
    OSError
        If the folder cannot be written to.
    """

    def __init__(self, document: Path, *, as_folder: bool = False) -> None:
        self.document = document
        self.folder = document.parent
        self.path = staging_path(document)
        self.parts = (
            self.path.with_name(f"{self.path.name}{_FILE_SUFFIX}"),
            self.path.with_name(f"{self.path.name}{_FOLDER_SUFFIX}"),
        )
        self.document_part = self.parts[as_folder]
        self.replaced = self.path / REPLACED
        self.former = self.path / FORMER
        self.journal = self.path / JOURNAL
        self.mark = self.path / UNFINISHED
        self.committed = self.path / _COMMITTED
        self.placed = self.path / _PLACED
        self.removals = self.path / _REMOVALS
        self.notes: list[str] = []
        self.made_folders: list[Path] = []
        self._mark = EditMark()
        self._lock: FileLock | None = None
        self._owns_area = False
        try:
            self.is_new = self._take_lock()
        except BaseException as error:
            self.give_up(error)
            raise
        # after a power cut the folder may be missing, and the document that was staged beside it not
        self.fresh = self.is_new and not any(map(os.path.lexists, self.parts))

    def give_up(self, error: BaseException) -> None:
        """Release what could not be put in order; the error names what is left."""
        left = self.release()
        if not isinstance(error, DestinationBusyError):
            left.extend(self.leftovers(left))
        for line in left:
            error.add_note(line)

    def _take_lock(self) -> bool:
        """Take the lock on the document; tell whether the staging folder is a new one."""
        for attempt in range(_ATTEMPTS):  # the folder may go with a transfer that ends just now
            fresh = True
            try:
                make_folders(self.folder, self.made_folders)
                self.path.mkdir(0o711)  # others may find out that a transfer is unfinished, and read nothing
            except FileNotFoundError:  # another transfer made the same folder, failed, and took it away again
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            except FileExistsError:
                fresh = False
                if self.path.is_symlink() or not self.path.is_dir():
                    raise TransferError(f"{self.path} is in the way: it is not a folder", hint="remove it") from None
            try:
                self._lock = FileLock(self.path / _LOCK)
            except FileNotFoundError:
                continue
            except (IsADirectoryError, NotADirectoryError) as error:
                raise self.in_the_way(self.path / _LOCK) from error
            except BlockingIOError as error:
                raise DestinationBusyError(
                    f"{self.document} is being written by another process, or by another IO that is still open",
                    hint="wait until it is done",
                    nwb_path=str(self.document),
                ) from error
            except OSError as error:
                if error.errno == errno.ELOOP:  # a symbolic link, which is not followed
                    raise self.in_the_way(self.path / _LOCK) from error
                raise
            except NotImplementedError as error:
                if not fresh:
                    raise DestinationBusyError(
                        f"{self.path} is there: another process is writing {self.document}, or was stopped while it "
                        f"did, which cannot be told on this file system",
                        hint="if none is running, remove that folder",
                        nwb_path=str(self.document),
                    ) from error
            self._owns_area = True
            return fresh
        raise DestinationBusyError(f"{self.path} comes and goes", hint="try again", nwb_path=str(self.document))

    def in_the_way(self, place: Path) -> TransferError:
        """The error about something in the folder that no transfer leaves there."""
        return TransferError(
            f"{place} is in the way: nothing that is left by an interrupted transfer looks like that",
            hint=f"look where it comes from, and remove {self.path}",
            nwb_path=str(self.document),
        )

    # ------------------------------------------------------- an edit in place

    def begin_edit(self, leader: StagingFolder | None = None) -> None:
        """Leave the mark that says that the edit is unfinished.

        The commit of the leader's document, if there is one, is the commit of this one too; `lead` tells the leader of
        it.
        """
        self._mark = EditMark(self.document.name, inode_of(self.document))
        if leader is not None:
            self._mark = replace(self._mark, call=leader._mark.call or leader._become_leader(), leader=leader.document)
        self._mark.write(self.mark)

    def _become_leader(self) -> str:
        call = secrets.token_hex(8)
        self._mark = replace(self._mark, call=call)
        self._mark.write(self.mark)
        return call

    def lead(self, members: Sequence[StagingFolder]) -> None:
        """Make the commit of this document that of others too, whose `leader` this is."""
        self._mark = replace(self._mark, members=tuple(member.document for member in members))
        self._mark.write(self.mark)

    def commit_edits(self, members: Sequence[StagingFolder] = (), *, sync: bool) -> None:
        """Take the step after which the edit of the document, and those of all members, last."""
        if not members:
            self.mark.unlink()
        else:
            os.rename(self.mark, self.committed)
        if sync:
            sync_folders({self.path})
        self.end_call(members, sync=sync)

    def end_call(self, members: Sequence[StagingFolder], *, sync: bool) -> None:
        """Have the members know that the call is committed, so that the leader is not asked any more."""
        # Nothing is removed before all know it: a member that finds no leader goes back to what was before.
        if not members or not os.path.lexists(self.committed):
            return
        for member in members:
            member.mark.unlink(missing_ok=True)
        if sync:
            sync_folders({member.path for member in members})
        self.committed.unlink()
        if sync:
            sync_folders({self.path})

    # --------------------------------------------------------- what is noted

    def may_put_back(self, aside: Path, target: Path) -> bool:
        """Whether a former file may get its name back: nothing is there, or what this transfer put there."""
        return (
            not os.path.lexists(target)
            or os.path.samestat(os.lstat(aside), os.lstat(target))  # not replaced yet
            or was_placed(self.placed, target, folder=self.folder)
        )

    def note_removals(self, moved: Iterable[MovedSource], *, sync: bool) -> None:
        """Note what is to be removed when the document is in place, for the run that comes after a kill."""
        if content := note_of_removals(moved, self.folder):
            write_new(self.removals, content, sync=sync)
            if sync:
                sync_folders({self.path})

    # ------------------------------------------------------------ what is done

    def is_unfinished(self) -> bool:
        """Whether the document is still to be put in place, by this transfer or the killed one before it."""
        if self.mark.exists():
            return True
        if self._is_put_aside() or is_folder(self.parts[1]):
            return True
        # an exclusive rename has a moment in which the new document has both names
        return os.path.exists(self.parts[0]) and not (
            self.document.exists() and os.path.samefile(self.parts[0], self.document)
        )

    def _is_put_aside(self) -> bool:
        return is_folder(self.replaced) and not os.path.lexists(self.document)

    def replace_folder(self, *, sync: bool) -> None:
        """Replace the document by the staged folder; its former content is kept in `replaced`."""
        if os.path.lexists(self.document):
            if not is_folder(self.document):
                raise TransferError(
                    f"{self.document} is not a folder, so no folder replaces it; nothing was changed",
                    hint="move it away",
                    nwb_path=str(self.document),
                )
            copy_access(self.document, self.document_part, attributes=False)
            os.rename(self.document, self.replaced)
            if sync:  # else a power cut might leave both in the staging folder, and the first one without a name
                sync_folders({self.folder, self.path})
        os.rename(self.document_part, self.document)

    def restore_folder(self) -> None:
        """Give a document that was put aside its name again; to be called when all else is restored."""
        if self._is_put_aside():
            os.rename(self.replaced, self.document)
            sync_folders({self.folder, self.path})

    # ------------------------------------------------------------------- end

    def clear(self, *, but_whole_copies: bool = False) -> None:
        """Empty the staging folder; verified copies that a killed transfer has left may be of use to this one."""
        # First what says that the transfer is unfinished: whatever is put aside after it is not wanted back.
        self.mark.unlink(missing_ok=True)
        self.remove_parts()
        if is_folder(self.replaced):
            remove(self.path / _WASTE)
            os.rename(self.replaced, self.path / _WASTE)
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove(Path(entry.path))
                elif entry.name != _LOCK and not (but_whole_copies and entry.name.startswith(_OF_USE)):
                    unlink(entry.path)

    def remove_parts(self) -> None:
        """Remove new documents that are not in their place."""
        for part in self.parts:
            remove(part)

    def release(self) -> list[str]:
        """Release the lock, and remove the folders that are empty; gives what could not be removed."""
        left = []
        try:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()
            elif self._owns_area:  # no locks here; but another transfer that was refused may have made the file
                (self.path / _LOCK).unlink(missing_ok=True)
        except OSError as error:
            left.append(f"{self.path} could not be removed: {error}")
        self._owns_area = False
        for folder in (self.path, *reversed(self.made_folders)):
            try:
                folder.rmdir()
            except OSError as error:
                # What is not empty is left: something is in it on purpose, or somebody else uses it by now.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                    left.append(f"{folder} could not be removed: {error}")
        return left

    def leftovers(self, told: list[str]) -> list[str]:
        """Tell what a failure has left in the folder of the document, but for what was told already."""
        places = [place for place in (self.path, *self.parts) if os.path.lexists(place)]
        new = [
            str(place)
            for place in places
            if not any(re.search(rf"{re.escape(str(place))}(?!{_FILE_SUFFIX}|{_FOLDER_SUFFIX})", t) for t in told)
        ]
        return [f"the next attempt will restore and clear what is left in {', '.join(new)}"] if new else []


def staging_path(document: Path) -> Path:
    """The path of the staging folder of a document."""
    token = hashlib.blake2s(os.fsencode(document.name), digest_size=4).hexdigest()
    return document.with_name(f"{STAGING_PREFIX}{token}")

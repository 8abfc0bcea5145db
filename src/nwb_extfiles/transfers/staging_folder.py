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

While a document is edited a marker beside it has its inode in its name, so that a document which was renamed
meanwhile is known, and its journal found.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..disk.access import copy_access
from ..disk.contents import digest_of
from ..disk.filesystem import (
    is_folder,
    make_folders,
    remove,
    sync_file,
    sync_folders,
    write_new,
)
from ..disk.journal import Edited, how_far, rollback
from ..disk.locks import FileLock
from ..disk.moves import MovedSource
from ..errors import DestinationBusyError, TransferError
from ..plans.targets import STAGING_PREFIX
from .removals import MarkedRemovals

__all__ = [
    "FETCH_PREFIX",
    "WHOLE_PREFIX",
    "StagingFolder",
    "fitting_journals",
    "has_leftovers",
    "is_interrupted",
    "not_put_back",
]

# names in the folder
_LOCK, _FORMER, _JOURNAL, _UNFINISHED, _COMMITTED = "lock", "former", "journal", "unfinished", "committed"
_REPLACED, _WASTE, _PLACED, _REMOVALS = "replaced", "waste", "placed", "removals"
_STAGING_NAME = re.compile(re.escape(STAGING_PREFIX) + r"[0-9a-f]{8}")
# a file beside a document while an edit of it is unfinished, with its inode
_MARKER_PREFIX = f"{STAGING_PREFIX}i"
_MARKER_NAME = re.compile(re.escape(_MARKER_PREFIX) + r"[0-9a-f]+")
_LONGEST_NOTE = 64 * 1024 * 1024  # bytes that are read of a file in the folder
_FILE_SUFFIX, _FOLDER_SUFFIX = ".nwb", ".zarr"  # of a document that is staged; by them its backend knows it
_ATTEMPTS = 100
WHOLE_PREFIX = "whole-"
"""How the names of verified copies begin, which the next transfer may take up."""
FETCH_PREFIX = "fetch-"
"""How the names of downloads begin, which the next transfer may take up, be they whole or not."""
_OF_USE = (WHOLE_PREFIX, FETCH_PREFIX)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the mark of an unfinished edit says. Nothing of it is trusted: `StagingFolder` looks at both sides."""

    name: str | None = None
    """What the document was called when the edit began."""
    inode: int | None = None
    """What it is known by if it was renamed."""
    call: str | None = None
    """Of the transfers that are committed together, the leader's token."""
    leader: Path | None = None
    """The document whose staging folder tells whether the call is committed."""
    members: tuple[Path, ...] = ()
    """The other documents of the call, in the mark of the leader."""

    @classmethod
    def read(cls, path: Path) -> _Mark:
        note = _read_note(path)
        if not isinstance(note, dict):
            return cls()
        folder = path.parent.parent
        names, inode, call = note.get("members"), note.get("inode"), note.get("call")
        members = [_document_at(folder, name) for name in names] if isinstance(names, list) else []
        name = note.get("name")
        return cls(
            name if isinstance(name, str) and Path(name).name == name else None,
            inode if isinstance(inode, int) else None,
            call if isinstance(call, str) else None,
            _document_at(folder, note.get("leader")),
            tuple(member for member in members if member is not None),
        )

    def write(self, path: Path) -> None:
        """Write it in one step, in the place of a former one."""
        folder = path.parent.parent
        note = {
            "name": self.name,
            "inode": self.inode,
            "call": self.call,
            "leader": None if self.leader is None else _way(folder, self.leader),
            "members": [_way(folder, member) for member in self.members],
        }
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)  # whoever put it there: it may be a link
        write_new(fresh, json.dumps(note).encode(), sync=False)
        os.replace(fresh, path)


class StagingFolder:
    """The staging folder of one document, locked.

    Parameters
    ----------
    document : pathlib.Path
        The document, its folder free of symbolic links; that folder is made if it is missing.
    edits_document : bool
        Whether the document is edited in place. Else a new one is written at `document_part`.
    as_folder : bool
        Whether the new document is a folder.
    leader : StagingFolder, optional
        That of the document whose commit is the commit of this one too. `lead` tells the leader of it.
    recovers : bool
        Whether what a killed transfer has left is brought in order; else it is for `_recover` of another one of the
        same call.
    finishes : bool
        Whether the old names are removed that a killed move left after its commit, as they are before an edit.

    Attributes
    ----------
    path : pathlib.Path
        The folder itself.
    document_part : pathlib.Path
        Where a new document is written; beside its final place, so that relative links in it are right.
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
    fresh : bool
        Whether no killed transfer was here, whose folders may not be flushed.

    Raises
    ------
    DestinationBusyError
        If another transfer to the same document is going on; nothing is changed.
    TransferError
        If something stands there that no transfer leaves.
    OSError
        If the folder cannot be written to.
    """

    def __init__(
        self,
        document: Path,
        *,
        edits_document: bool,
        as_folder: bool = False,
        leader: StagingFolder | None = None,
        recovers: bool = True,
        finishes: bool = False,
    ) -> None:
        self.document = document
        self.folder = document.parent
        self.path = _path(document)
        # A killed transfer may have made a document of the other kind.
        self._file_part, self._folder_part = _parts(self.path)
        self.document_part = self._folder_part if as_folder else self._file_part
        self.replaced = self.path / _REPLACED
        self.former = self.path / _FORMER
        self.journal = self.path / _JOURNAL
        self.mark = self.path / _UNFINISHED
        self.committed = self.path / _COMMITTED
        self.notes: list[str] = []
        """What recovery left as it was, and why."""
        # who writes a new document brings the media anew, from their old places
        self._finishes = finishes or edits_document or not recovers
        self._mark = _Mark()
        self._marker: Path | None = None
        self._marker_is_synced = False
        self.made_folders: list[Path] = []
        self._lock: FileLock | None = None
        self._owns_area = False
        if recovers:
            _recover_renamed(document)
        try:
            fresh = self._take_lock()
            self._refuse_what_is_not_ours()
            # after a power cut the folder may be missing, and the document that was staged beside it not
            self.fresh = fresh and not any(map(os.path.lexists, _parts(self.path)))
            if fresh:
                # Whoever put it there: it may be a link, and what is written to it would get elsewhere.
                self._remove_parts()
            elif recovers:
                self._recover()
            if edits_document:
                self._begin_edit(leader)
        except BaseException as error:
            left = self.release()
            if not isinstance(error, DestinationBusyError):
                left.extend(self.leftovers(left))
            for line in left:
                error.add_note(line)
            raise

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
                    raise TransferError(f"{self.path} is in the way: it is no folder; remove it") from None
            try:
                self._lock = FileLock(self.path / _LOCK)
            except FileNotFoundError:
                continue
            except (IsADirectoryError, NotADirectoryError) as error:
                raise self._in_the_way(self.path / _LOCK) from error
            except BlockingIOError as error:
                raise DestinationBusyError(
                    f"{self.document} is being written by another process, or by another IO that is still open; "
                    f"wait until it is done",
                    nwb_path=str(self.document),
                ) from error
            except OSError as error:
                if error.errno == errno.ELOOP:  # a symbolic link, which is not followed
                    raise self._in_the_way(self.path / _LOCK) from error
                raise
            except NotImplementedError as error:
                if not fresh:
                    raise DestinationBusyError(
                        f"{self.path} is there: another process is writing {self.document}, or was stopped while it "
                        f"did, which cannot be told on this file system; if none is running, remove that folder",
                        nwb_path=str(self.document),
                    ) from error
            self._owns_area = True
            return fresh
        raise DestinationBusyError(f"{self.path} comes and goes; try again", nwb_path=str(self.document))

    def _begin_edit(self, leader: StagingFolder | None) -> None:
        """Leave what says that the edit is unfinished."""
        inode = _inode(self.document)
        self._mark = _Mark(self.document.name, inode)
        if leader is not None:
            self._mark = replace(self._mark, call=leader._mark.call or leader._become_leader(), leader=leader.document)
        self._mark.write(self.mark)

    def mark_document(self, *, sync: bool) -> None:
        """Leave what leads to the edit from the document beside it, whatever that is called later.

        To be called before the folder is flushed, and the document edited.
        """
        if self._mark.inode is None:
            return
        marker = _marker(self.folder, self._mark.inode)
        if is_folder(marker):
            raise self._in_the_way(marker)
        marker.unlink(missing_ok=True)  # whoever put it there: it may be a link
        self._marker, self._marker_is_synced = marker, sync
        write_new(marker, b"", sync=False)

    def _become_leader(self) -> str:
        call = secrets.token_hex(8)
        self._mark = replace(self._mark, call=call)
        self._mark.write(self.mark)
        return call

    def lead(self, members: Sequence[StagingFolder]) -> None:
        """Make the commit of this document that of others too, whose `leader` this is."""
        self._mark = replace(self._mark, members=tuple(member.document for member in members))
        self._mark.write(self.mark)

    def sync_mark(self) -> None:
        """Flush what the mark says to the disk; its name is flushed with the folder."""
        sync_file(self.mark)

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

    def note_placed(self, placed: Iterable[tuple[Path, Path]], *, sync: bool) -> None:
        """Note which parts are about to be put over something else, and where, so that recovery knows them."""
        notes = [_placed_note(part, target.relative_to(self.folder)) for part, target in placed]
        if notes:
            write_new(self.path / _PLACED, json.dumps(notes).encode(), sync=sync)

    def note_removals(self, moved: Iterable[MovedSource], *, sync: bool) -> None:
        """Note what is to be removed when the document is in place, for the run that comes after a kill."""
        if content := MarkedRemovals(self.folder).written(moved):
            write_new(self.path / _REMOVALS, content, sync=sync)
            if sync:
                sync_folders({self.path})

    def is_placed(self, target: Path) -> bool:
        """Whether what stands at a target is what this transfer, or the killed one before it, put there."""
        noted = _read_note(self.path / _PLACED)
        name = _way(self.folder, target)
        entries = [entry for entry in noted if isinstance(entry, dict)] if isinstance(noted, list) else []
        return any(entry.get("target") == name and _is_noted(target, entry) for entry in entries)

    def is_unfinished(self) -> bool:
        """Whether the document is still to be put in place, by this transfer or the killed one before it."""
        if self.mark.exists():
            return True
        if self._is_put_aside() or is_folder(self._folder_part):
            return True
        # an exclusive rename has a moment in which the new document has both names
        return os.path.exists(self._file_part) and not (
            self.document.exists() and os.path.samefile(self._file_part, self.document)
        )

    def _is_put_aside(self) -> bool:
        return is_folder(self.replaced) and not os.path.lexists(self.document)

    def replace_folder(self, *, sync: bool) -> None:
        """Put the staged folder in the place of the document, whose former content is kept in `replaced`."""
        if os.path.lexists(self.document):
            if not is_folder(self.document):
                raise TransferError(
                    f"{self.document} has come to be no folder, and is not replaced by one; nothing was changed, move "
                    f"it away",
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

    def _refuse_what_is_not_ours(self) -> None:
        """Refuse a staging folder that no transfer leaves like that: it may come with a downloaded dandiset.

        Nothing of it is followed to another folder, and nothing is changed before all of it was looked at.
        """
        files = (self.mark, self.committed, self.path / _PLACED, self.path / _REMOVALS)
        wrong = [place for place in (self._file_part, *files) if is_folder(place)]
        if os.path.lexists(self.replaced) and not is_folder(self.replaced):
            wrong.append(self.replaced)
        if wrong:
            raise self._in_the_way(wrong[0])
        former = self.former
        if not is_folder(former):
            return
        for folder, below, names in os.walk(former):
            place = self.folder / Path(folder).relative_to(former)
            # what is put back goes to a folder that is one, or that is not there yet
            if folder != str(former) and os.path.lexists(place) and not is_folder(place):
                raise self._in_the_way(Path(folder))
            for name in [*names, *below]:
                aside = Path(folder, name)
                if is_folder(aside):
                    continue
                if is_folder(place / name):
                    raise TransferError(
                        f"{aside} cannot be put back where it was: {place / name} is a directory; move that away",
                        nwb_path=str(self.document),
                    )
                if not _is_media(aside) or self._is_ours(place / name):
                    raise self._in_the_way(aside)

    def _is_ours(self, place: Path) -> bool:
        """Whether a place is the document, or where something is staged: no media were ever there."""
        return place.is_relative_to(self.document) or place.relative_to(self.folder).parts[0].startswith(STAGING_PREFIX)

    def _in_the_way(self, place: Path) -> TransferError:
        return TransferError(
            f"{place} is in the way: nothing that is left by an interrupted transfer looks like that; look where it "
            f"comes from, and remove {self.path}",
            nwb_path=str(self.document),
        )

    def _recover(self) -> None:
        """Bring back what a killed call had put aside, unless it was committed; clear what it left.

        Of a call over several documents all are brought back, or none.
        """
        call = self._whole_call()
        leader, members = call[0], call[1:]
        problems: list[TransferError] = []
        try:
            leader.end_call(members, sync=True)
            for folder in reversed(call):  # the leader last, who tells the others what to do
                try:
                    folder._bring_back_or_finish()
                except TransferError as error:  # the others are none the worse
                    problems.append(error)
            if problems:
                raise (
                    problems[0]
                    if len(problems) == 1
                    else TransferError("\n".join(map(str, problems)), nwb_path=str(self.document), problems=problems)
                )
        finally:
            for folder in call:
                if folder is not self:
                    self.notes.extend(folder.notes)
                    folder.release()

    def _bring_back_or_finish(self) -> None:
        if self.is_unfinished():
            rollback(self._edited(), self.journal)
            self._put_back_former()
            self.restore_folder()
        elif self._finishes:
            self.notes.extend(MarkedRemovals(self.folder).carry_out(_read_note(self.path / _REMOVALS)))
        else:  # the same is about to be written anew, and moves what is still there
            MarkedRemovals(self.folder).put_back(_read_note(self.path / _REMOVALS))
        self.clear(but_whole_copies=True)

    def _edited(self) -> Path:
        """The document that a killed run was editing, which may have another name since."""
        mark = _Mark.read(self.mark)
        if mark.inode is None or _inode(self.document) == mark.inode:
            return self.document
        found = _with_inode(self.folder, mark.inode)
        if found is None and not os.path.lexists(self.document):  # where inodes are not stable
            found = next((place for place in _documents(self.folder) if _is_edited(place, self.journal)), None)
        return found or self.document

    def _whole_call(self) -> list[StagingFolder]:
        """The staging folders of a killed call that this one was part of, all of them locked, that of its leader first.

        Both sides must speak of each other, for a folder may have been copied, moved or downloaded. A member whose
        leader is not found goes back to what was before, which does no harm: nothing is removed, and nothing that was
        put aside is cleared, as long as a member has its mark.
        """
        mark = _Mark.read(self.mark)
        if mark.leader is None or mark.call is None:
            return self._led(self)
        leader = _other_folder(mark.leader)
        if leader is None:
            return [self]
        led = _Mark.read(leader._call_mark())
        if led.call != mark.call or self.document not in led.members:
            leader.release()
            return [self]
        try:
            return leader._led(self)
        except BaseException:
            leader.release()
            raise

    def _led(self, known: StagingFolder) -> list[StagingFolder]:
        mark = _Mark.read(self._call_mark())
        call = [self]
        try:
            for document in mark.members:
                if document == known.document:
                    call.append(known)
                    continue
                member = _other_folder(document)
                if member is None and os.path.lexists(self.committed) and not os.path.lexists(document):
                    raise TransferError(
                        f"{self.document} was changed in one call with {document}, which was moved away before the "
                        f"call had come to its end; put it back, or, if it is gone for good, remove {self.path}",
                        nwb_path=str(self.document),
                    )
                if member is None:
                    continue  # it is done, or was brought back
                found = _Mark.read(member.mark)
                if found.call == mark.call and found.leader == self.document:
                    call.append(member)
                else:
                    member.release()
        except BaseException:
            for folder in call:
                if folder not in (self, known):
                    folder.release()
            raise
        return call

    def _call_mark(self) -> Path:
        return self.committed if os.path.lexists(self.committed) else self.mark

    def _put_back_former(self) -> None:
        """Give what was put aside its name again, but never over what somebody else has put there meanwhile."""
        if not is_folder(self.former):
            return
        touched: set[Path] = set()
        others: list[str] = []
        for folder, below, names in os.walk(self.former):
            place = self.folder / Path(folder).relative_to(self.former)
            for name in names + [name for name in below if Path(folder, name).is_symlink()]:
                aside, target = Path(folder, name), place / name
                if not self.may_put_back(aside, target):
                    others.append(not_put_back(aside, target, self._edited()))
                    continue
                made: list[Path] = []
                make_folders(place, made)
                os.replace(aside, target)
                touched.update({place, *(folder.parent for folder in made)})
        sync_folders(touched)  # before what tells that they are to be put back is removed
        if others:
            raise TransferError("\n".join(others), nwb_path=str(self.document))

    def may_put_back(self, aside: Path, target: Path) -> bool:
        """Whether a former file may get its name back: nothing is there, or what this transfer put there."""
        return (
            not os.path.lexists(target)
            or os.path.samestat(os.lstat(aside), os.lstat(target))  # not replaced yet
            or self.is_placed(target)
        )

    def clear(self, *, but_whole_copies: bool = False) -> None:
        """Empty the staging folder; verified copies that a killed transfer has left may be of use to this one."""
        # First what says that the transfer is unfinished: whatever is put aside after it is not wanted back.
        self.mark.unlink(missing_ok=True)
        self._remove_markers(stale=but_whole_copies)
        self._remove_parts()
        if is_folder(self.replaced):
            remove(self.path / _WASTE)
            os.rename(self.replaced, self.path / _WASTE)
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                elif entry.name != _LOCK and not (but_whole_copies and entry.name.startswith(_OF_USE)):
                    os.unlink(entry.path)

    def _remove_markers(self, *, stale: bool) -> None:
        """Remove the marker beside the document, and all that no unfinished edit claims if a run was killed."""
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)
            if self._marker_is_synced:  # before the staging folder goes, by which a stale one would be found
                sync_folders({self.folder})
            self._marker = None
        if stale:
            claimed = {_Mark.read(staging / _UNFINISHED).inode for staging in _staging_folders(self.folder)}
            wanted = {_marker(self.folder, inode).name for inode in claimed if inode is not None}
            with os.scandir(self.folder) as entries:
                found = [entry.path for entry in entries if _MARKER_NAME.fullmatch(entry.name)]
            for marker in map(Path, found):
                if marker.name not in wanted and _is_regular(marker):
                    marker.unlink(missing_ok=True)

    def _remove_parts(self) -> None:
        for part in _parts(self.path):
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
        markers = () if self._marker is None else (self._marker,)
        places = [place for place in (self.path, *_parts(self.path), *markers) if os.path.lexists(place)]
        new = [
            str(place)
            for place in places
            if not any(re.search(rf"{re.escape(str(place))}(?!{_FILE_SUFFIX}|{_FOLDER_SUFFIX})", t) for t in told)
        ]
        return [f"the next attempt will restore and clear what is left in {', '.join(new)}"] if new else []


def is_interrupted(document: Path, *, thoroughly: bool = False) -> bool:
    """Whether a killed transfer, or one that is going on, has left a document half edited, or without its name.

    Parameters
    ----------
    document : pathlib.Path
        The document, under the name that it has now.
    thoroughly : bool
        Whether to look through its folder for the journal of a document that it may be a copy of, or that it may be
        itself, renamed, where inodes are not stable.
    """
    path = _path(document)
    if (path / _UNFINISHED).exists():
        inode = _Mark.read(path / _UNFINISHED).inode
        # a file of another name has it, if that was renamed and this one came into being since
        if inode is None or inode == _inode(document) or _with_inode(document.parent, inode) is None:
            return True
    if is_folder(path / _REPLACED) and not os.path.lexists(document):
        return True
    return _renamed_from(document) is not None or (thoroughly and any(fitting_journals(document)))


def has_leftovers(document: Path) -> bool:
    """Whether a transfer to a document is going on, or was killed and has left something."""
    return os.path.lexists(_path(document)) or _renamed_from(document) is not None


def fitting_journals(document: Path) -> Iterator[Path]:
    """The journals of edits of other documents in the folder that were broken off in the middle of this content."""
    for staging in _staging_folders(document.parent):
        journal = staging / _JOURNAL
        is_another = staging != _path(document) and (staging / _UNFINISHED).exists() and _is_regular(journal)
        if is_another and how_far(document, journal) is Edited.PARTLY:
            yield journal


def _recover_renamed(document: Path) -> None:
    """Restore a document that was renamed after a run was killed that was editing it."""
    former = _renamed_from(document)
    if former is not None:
        StagingFolder(former, edits_document=False, finishes=True).release()


def _renamed_from(document: Path) -> Path | None:
    """The name that a document had when a run was killed that was editing it, if that was another one."""
    inode = _inode(document)
    if inode is None or not os.path.lexists(_marker(document.parent, inode)):
        return None
    for staging in _staging_folders(document.parent):
        mark = _Mark.read(staging / _UNFINISHED)
        if mark.inode == inode and mark.name not in (None, document.name):
            former = document.with_name(str(mark.name))
            if _path(former) == staging:
                return former
    return None


def _staging_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if _STAGING_NAME.fullmatch(entry.name)]
    return [path for path in map(Path, sorted(found)) if is_folder(path)]


def _documents(folder: Path) -> list[Path]:
    """What may be a document in a folder."""
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if not entry.name.startswith(".") and not entry.is_symlink()]
    return list(map(Path, sorted(found)))


def _with_inode(folder: Path, inode: int) -> Path | None:
    """What has an inode in a folder."""
    return next((place for place in _documents(folder) if _inode(place) == inode), None)


def _is_edited(document: Path, journal: Path) -> bool:
    return how_far(document, journal) in (Edited.PARTLY, Edited.WHOLLY)


def _inode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


def _marker(folder: Path, inode: int) -> Path:
    return folder / f"{_MARKER_PREFIX}{inode:x}"


def _other_folder(document: Path) -> StagingFolder | None:
    """The staging folder of another document of a call, locked; None if there is none."""
    if not is_folder(_path(document)) or os.path.realpath(document.parent) != str(document.parent):
        return None
    return StagingFolder(document, edits_document=False, recovers=False)


def _document_at(folder: Path, name: Any) -> Path | None:
    """Another document of a call, by the path that a mark has it under."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    return Path(os.path.normpath(folder / name))


def _way(folder: Path, path: Path) -> str:
    """The path from a folder to another place; an absolute one to another drive of Windows."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return str(path)


def _read_note(path: Path) -> Any:
    """What a file in the folder says; None if it is not there, or not as we leave it."""
    try:
        if not _is_regular(path) or os.lstat(path).st_size > _LONGEST_NOTE:
            return None
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _placed_note(part: Path, target: Path) -> dict[str, Any]:
    status = os.lstat(part)
    note: dict[str, Any] = {"target": str(target), "size": status.st_size}
    if stat.S_ISLNK(status.st_mode):
        return note | {"link": os.readlink(part)}
    # Inodes are not the same after a remount everywhere, nor in a copy of the folder.
    return note | {"inode": status.st_ino, "mtime": status.st_mtime_ns, "sha256": digest_of(part)}


def _is_noted(target: Path, note: dict[str, Any]) -> bool:
    status = os.lstat(target)
    if stat.S_ISLNK(status.st_mode):
        return bool(note.get("link") == os.readlink(target))
    if not stat.S_ISREG(status.st_mode) or status.st_size != note.get("size"):
        return False
    is_the_file = (status.st_ino, status.st_mtime_ns) == (note.get("inode"), note.get("mtime"))
    return is_the_file or bool(digest_of(target) == note.get("sha256"))


def not_put_back(aside: Path, target: Path, document: Path) -> str:
    """What to tell of a former file whose place somebody else has taken."""
    return (
        f"{target} was put there by another program since this run, or one that was killed, replaced it, and is left "
        f"as it is. To have the former file back, move {target} away; to keep the new one, remove the former file. "
        f"Then run `nwb-extfiles recover {document}`. The former file is at {aside}"
    )


def _path(document: Path) -> Path:
    token = hashlib.blake2s(os.fsencode(document.name), digest_size=4).hexdigest()
    return document.with_name(f"{STAGING_PREFIX}{token}")


def _parts(path: Path) -> tuple[Path, Path]:
    """Where a new document is staged, a file and a folder, by the path of the staging folder."""
    return path.with_name(f"{path.name}{_FILE_SUFFIX}"), path.with_name(f"{path.name}{_FOLDER_SUFFIX}")


def _is_media(path: Path) -> bool:
    """Whether a path is what stands at a target: a file, or a link."""
    return stat.S_ISREG(mode := os.lstat(path).st_mode) or stat.S_ISLNK(mode)

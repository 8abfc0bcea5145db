"""Carries out a plan, all or nothing.

This module knows files and folders only: a document that is being written (here an NWB file, or the folder of a Zarr
store) and the media that belong beside it. The order is: stage all media beside the document; put them under their
final names; put the document under its own; remove the sources of a move. What is on disk after a crash at any moment:

- before the document is replaced: the document as it was, its media as they were or, where some were to be
  replaced, with their former content kept in the staging folder, from which the next transfer puts it back;
- after: the new document with all its media; sources of a move may still stand at their old place too, and a note of
  them, by which the next run on the document removes them.

A document that is a file is replaced by one rename, and that is the step which divides before from after. One that is
a folder takes two: the former one into the staging folder, the new one to its name. The second divides. Between them
no document has the name, the former one is whole in the staging folder, the new one whole beside it, and the next
transfer, or `recover`, gives the former one its name back, as after a crash at any moment before (`staging_folder`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ..disk import access, filesystem, links
from ..disk.in_use import is_in_use
from ..disk.journal import rollback
from ..disk.locks import open_elsewhere
from ..disk.moves import MovedSource, is_still, remove_sources, stamp, stays
from ..errors import MediaExistsError, TransferError, warn
from ..hints import quoted
from .disk_errors import explained
from .folder_notes import note_placed
from .media_copies import StagedFile, StagedMedia
from .recovery import not_put_back, open_staging_folder
from .staging_folder import StagingFolder

__all__ = ["Transfer"]


class Transfer:
    """Media on their way to the folder of a document.

    A transfer is begun by making one, which takes the lock on the document and clears what a killed one left; it
    ends with `conclude` or `rollback`.

    Parameters
    ----------
    document : pathlib.Path
        The file that the media belong to, its folder free of symbolic links. The folder is made if it is missing.
    edits_document : bool
        Whether the document is edited in place. Else a new one is written at `staged_document`.
    as_folder : bool
        Whether the new document is a folder.
    exclusive : bool
        Whether a document that has come into being meanwhile must not be replaced.
    keep_sources : bool
        Whether the sources of a move stay for now, because others want them too; `conclude` tells which they are.
    leader : Transfer, optional
        That of another document which is edited in place, and whose commit is the commit of this one too; see
        `joint_commit.TransferCall`.
    tell : callable, optional
        Called with each thing that went wrong when the document was in place; a warning if not given. For where
        several threads are at work: what Python does with warnings is one thing for all of them.

    Attributes
    ----------
    staged_document : pathlib.Path
        Where the new document is to be written; beside its final place, so that relative links in it are right.
    journal : pathlib.Path
        Where an edit of the document in place is to keep what it changes, as `edit_journalled` does.
    media : StagedMedia
        The media, to be staged before `commit`.
    notes : list of str
        What is to be told when the document is in place; may be added to.

    Raises
    ------
    DestinationBusyError
        If another transfer to the same document is going on, or, on Windows, another program has open a document that
        is to be replaced; nothing is changed.
    OSError
        If the folder cannot be written to.
    """

    def __init__(
        self,
        document: Path,
        *,
        edits_document: bool = False,
        as_folder: bool = False,
        exclusive: bool = False,
        keep_sources: bool = False,
        leader: Transfer | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.document = document
        self._folder = document.parent
        if not edits_document and is_in_use(document, goes=True):
            raise open_elsewhere(document)
        with explained(document):
            self._staging: StagingFolder = open_staging_folder(
                document,
                edits_document=edits_document,
                as_folder=as_folder,
                leader=None if leader is None else leader._staging,
            )
        self.notes: list[str] = [*self._staging.notes]
        self.media = StagedMedia(self._folder, self._staging, self.notes)
        self.staged_document = self._staging.document_part
        self.journal = self._staging.journal
        self._edits_document = edits_document
        self._as_folder = as_folder
        self._exclusive = exclusive
        self._keep_sources = keep_sources
        self._tell = tell
        self._moved: list[MovedSource] = []
        self._committing = False
        self._synced = False

    # ---------------------------------------------------------------- commit

    def commit(self, *, sync: bool = True, edit: Callable[[], object] | None = None) -> None:
        """Put the media, then the document, in their places.

        Parameters
        ----------
        sync : bool
            Whether each step is flushed to the disk before the next begins.
        edit : callable, optional
            Edits the document, where that is edited in place, and keeps a `journal`; called when all media are under
            their final names.

        Raises
        ------
        MediaExistsError
            If something has come to stand at a target since the plan was made.
        TransferError
            If a target that is reused, or a file that a link or a stored path means, is not what it was.
        OSError
            As the file system says. Call `rollback` in either case.
        """
        with explained(self.document, is_done=lambda: self.is_done):
            self._place_all(edit, sync=sync)
            if not self._commit_document(sync) and sync:
                filesystem.sync_folder(self._folder)

    def _place_all(
        self, edit: Callable[[], object] | None, *, sync: bool, kept: Collection[Path] | None = None
    ) -> None:
        """Do all of a commit but for the step after which it lasts."""
        if not self._edits_document:
            os.stat(self.staged_document)  # whose absence means later that it is in its place
            if sync:
                filesystem.sync_tree(self.staged_document)
        self._refuse_changed()
        for folder in dict.fromkeys(item.target.parent for item in self.media.files):  # once for all files in it
            self._refuse_links_to(folder)
            filesystem.make_folders(folder, self._staging.made_folders)
        self._put_aside(sync)
        for item in self.media.files:
            self._place(item)
        self._moved = self._arrived(self.notes, self.media.kept if kept is None else kept)
        if sync:
            self._flush_names()
        if edit is not None:
            edit()
        if self._edits_document and sync:
            filesystem.sync_tree(self.document)
        if self._moved and (kept is not None or not self._keep_sources):
            # Not before: what says that the document is unfinished is on the disk by now.
            self._staging.note_removals(self._moved, sync=sync)

    def _refuse_changed(self) -> None:
        """Refuse to go on if media that stay where they are have changed since the plan was made."""
        for target, status in self.media.reused.items():
            if not is_still(target, status):
                raise TransferError(
                    f"{target} has changed since the plan was made; nothing was changed",
                    hint="try again",
                    nwb_path=str(self.document),
                )
        for source, entry in self.media.link_targets.items():  # the document may have taken long to write
            if not os.path.isfile(source):
                raise TransferError(
                    f"{entry.reference.where}: {quoted(source)} is gone since the plan was made; nothing was changed",
                    hint="bring it back and try again",
                    **entry.reference.place,
                )

    def _flush_names(self) -> None:
        """Flush the names of all that is in its place, and what says that the document is unfinished."""
        if self._edits_document:
            filesystem.sync_file(self._staging.mark)  # its name is flushed with the folder
        # what was already there may be another one's, or a killed transfer's, and not on the disk yet
        for target in self.media.reused:
            filesystem.sync_file(target)
        folders = {self._folder, *(made.parent for made in self._staging.made_folders)}
        if self._edits_document or not self._staging.fresh:
            folders.add(self._staging.path)  # of a new document the staged file says it, not what is in the folder
        folders.update(item.target.parent for item in self.media.files)
        for target in self.media.reused:
            folders.update(_up_to(self._folder, target))
        if self.media.reused or not self._staging.fresh:
            folders.update(_above(self._folder))
        filesystem.sync_folders(folders)

    def _refuse_links_to(self, folder: Path) -> None:
        """Refuse a folder at or behind a symbolic link that has come into being since the plan was made."""
        for place in (folder, *_up_to(self._folder, folder)):
            if os.path.lexists(place) and not filesystem.is_folder(place):
                raise TransferError(
                    f"{place} is not a folder, or a link to one; nothing was changed",
                    hint="try again",
                    nwb_path=str(self.document),
                )

    def _commit_document(self, sync: bool, *members: StagingFolder) -> bool:
        """Take the step after which the transfer, and those of all members, count as done.

        Tells whether it is flushed to the disk.
        """
        self._committing = True
        if self._edits_document:
            self._staging.commit_edits(members, sync=sync)
            return sync
        if self._exclusive:
            return links.rename_exclusive(self.staged_document, self.document, sync=sync)
        if self._as_folder:
            self._staging.replace_folder(sync=sync)
        else:
            if self.document.exists():
                access.copy_access(self.document, self.staged_document, attributes=False)
            os.replace(self.staged_document, self.document)
        return False

    def _put_aside(self, sync: bool) -> None:
        """Keep what is to be replaced, so that a transfer after a crash finds it, and knows that it is wanted."""
        self._synced = sync
        replaced = [item for item in self.media.files if item.replaces and os.path.lexists(item.target)]
        places = {item: self._staging.former / item.target.relative_to(self._folder) for item in replaced}
        for former in places.values():
            former.parent.mkdir(parents=True, exist_ok=True)
        if sync and places:
            # also the name of what says that the transfer is unfinished
            filesystem.sync_folders({above for former in places.values() for above in _up_to(self._folder, former)})
        for item, former in places.items():
            item.former = former
            # A second name keeps the target whole all the time; where there is none, it is gone for a moment.
            if filesystem.is_read_only(item.target) or not links.link_exclusive(item.target, former):
                os.rename(item.target, former)
        placed = ((item.part, item.target) for item in places)
        note_placed(self._staging.placed, placed, folder=self._folder, sync=sync)
        if sync and places:
            filesystem.sync_folders({self._staging.path, *(former.parent for former in places.values())})

    def _place(self, item: StagedFile) -> None:
        if item.former is None:
            item.begun = True
            try:
                links.rename_exclusive(item.part, item.target)
            except FileExistsError as error:
                item.begun = False
                raise MediaExistsError(
                    f"{item.target} has come into being since the plan was made; nothing was changed",
                    hint="try again",
                    nwb_path=str(self.document),
                ) from error
            return
        filesystem.replace(item.part, item.target)

    # ------------------------------------------------------------------- end

    def conclude(self, *, sync: bool = True) -> tuple[MovedSource, ...]:
        """Remove the sources of a move and all that was staged, and let go of the document.

        To be called when the document is in place. A source that cannot be removed, or that has changed, stays, with a
        warning. With `sync` the removals are flushed to the disk. Gives what is left for `remove_sources`.
        """
        if not self._keep_sources:
            self.notes.extend(remove_sources(self._moved, sync=sync))
        self._end()
        return tuple(self._moved) if self._keep_sources else ()

    def _end(self, failure: OSError | None = None) -> None:
        """Clear what was staged, unless something has failed; let go of the document, and tell what went wrong."""
        self._staging.made_folders.clear()  # which stay
        self.notes.extend(self._let_go([] if failure is None else [self._not_cleared(failure)]))
        for note in self.notes:  # last, because a caller may have made warnings errors
            if self._tell is not None:
                self._tell(note)
            else:
                warn(note)

    def _let_go(self, left: list[str]) -> list[str]:
        """Clear what was staged, unless something is left that needs it, and let go of the document."""
        if not left:
            try:
                self._staging.clear()
            except OSError as error:
                left.append(self._not_cleared(error))
        left.extend(self._staging.release())
        return [*left, *self._staging.leftovers(left)] if left else []

    def _not_cleared(self, error: OSError) -> str:
        return f"{self._staging.path} could not be cleared: {error}"

    def _arrived(self, notes: list[str], kept: Collection[Path]) -> list[MovedSource]:
        """The moved sources that have got where they should; those that have not are named in `notes`."""
        arrived = []
        for name, moved in self.media.leaving.items():
            places = () if name in kept else (name,)
            try:
                if not all(is_still(target, self.media.reused.get(target)) for target in moved.targets):
                    raise OSError(errno.ESTALE, "the new one is not there any more")
                targets = tuple((target, stamp(os.stat(target))) for target in sorted(moved.targets))
                arrived.append(MovedSource(moved.file, stamp(moved.status), places, targets))
            except OSError as error:
                notes.append(stays(name, self._folder, error))
        return arrived

    @property
    def is_done(self) -> bool:
        """Whether the document is in place, so that nothing will be brought back any more."""
        return self._committing and not self._staging.is_unfinished()

    def rollback(self) -> list[str]:
        """Bring everything back to what it was; gives what could not be brought back, and where it is left."""
        if self.is_done:
            self.conclude(sync=False)  # interrupted when all was in place
            return []
        left: list[str] = []
        try:
            rollback(self.document, self.journal)
        except OSError as error:
            left.append(f"{self.document} could not be restored: {error}; {self.journal} holds what it held before")
        for item in reversed(self.media.files):
            try:
                former = item.former if item.former is not None and os.path.lexists(item.former) else None
                if former is not None and not self._staging.may_put_back(former, item.target):
                    left.append(str(not_put_back(former, item.target, self.document)))
                    continue
                item.rollback()
                item.discard()
                if self._synced and item.former is not None:
                    filesystem.sync_folder(item.target.parent)  # before it is forgotten that there was anything
            except OSError as error:
                left.append(
                    f"{item.target} could not be restored: {error}"
                    + (f"; its former content is at {item.former}" if item.former is not None else "")
                )
        try:
            self._staging.restore_folder()
        except OSError as error:
            left.append(f"{self.document} could not be restored: {error}; it is at {self._staging.replaced}")
        return self._let_go(left)


def _up_to(folder: Path, path: Path) -> list[Path]:
    """The folders that a path is in, up to and with one."""
    return [above for above in path.parents if above.is_relative_to(folder)]


def _above(folder: Path) -> Iterator[Path]:
    """The folders above one in its file system, as far as they may be read."""
    device = folder.stat().st_dev
    for above in folder.parents:
        if above.stat().st_dev != device or not os.access(above, os.R_OK):
            return
        yield above

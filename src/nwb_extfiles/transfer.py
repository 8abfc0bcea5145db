"""Carries out a plan, all or nothing.

This module knows files and folders only: a document that is being written (here an NWB file, or the folder of a Zarr
store) and the media that belong beside it. The order is: stage all media beside the document; put them under their
final names; put the document under its own; remove the sources of a move. What is on disk after a crash at any moment:

- before the document is replaced: the document as it was, its media as they were or, where some were to be
  replaced, with their former content kept in the staging folder, from which the next transfer puts it back;
- after: the new document with all its media; sources of a move may still stand at their old place too.

A document that is a file is replaced by one rename, and that is the step which divides before from after. One that is
a folder takes two: the former one into the staging folder, the new one to its name. The second divides. Between them
no document has the name, the former one is whole in the staging folder, the new one whole beside it, and the next
transfer, or `recover`, gives the former one its name back, as after a crash at any moment before (`staging`).
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from . import filesystem
from .ahead import called_ahead
from .download import fetch, part_name
from .errors import DestinationBusyError, MediaExistsError, TransferError, warn
from .journal import take_back
from .moves import MovedSource, is_still, remove_sources, stamp, stays
from .options import MediaMode, ProgressCallback
from .plan import Action, Relocation, RelocationPlan
from .progress import reporting
from .remote import RemoteFile
from .resolve import MediaFile, media_file
from .staging import FETCH_PREFIX, WHOLE_PREFIX, StagingFolder, is_half_done

__all__ = ["Transfer", "recover"]

_LONGEST_CHAIN = 40  # symbolic links, as in Linux
_COPIERS = 4  # threads for small files, which mostly wait for the file system; more were slower
_MANY = 32  # small files, for which threads are worth their while


@dataclass(slots=True, eq=False)
class _Item:
    """One media file on its way."""

    part: Path
    target: Path
    replaces: bool
    identity: tuple[int, int]
    former: Path | None = None
    """Where the former content of the target is, once it is put aside."""
    begun: bool = False
    """Whether the part was, or was about to be, given its final name, where nothing had that."""

    def take_back(self) -> None:
        """Undo what was done for this file, however far that had got."""
        # An interrupt may come between a step and the note that it was done, so the files themselves are asked.
        if self.former is not None and os.path.lexists(self.former):
            os.replace(self.former, self.target)
        elif self.begun and os.path.lexists(self.target):
            status = os.lstat(self.target)
            if (status.st_dev, status.st_ino) == self.identity:
                os.unlink(self.target)


@dataclass(slots=True)
class _Moved:
    """A file that is removed at the end."""

    status: os.stat_result
    """As it was before it was copied."""
    targets: set[Path] = field(default_factory=set)
    """Where it must be found before it is removed."""
    links: set[Path] = field(default_factory=set)
    """Symbolic links that led to it, and go with it."""


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
    tell : callable, optional
        Called with each thing that went wrong when the document was in place; a warning if not given. For where
        several threads are at work: what Python does with warnings is one thing for all of them.

    Attributes
    ----------
    staged_document : pathlib.Path
        Where the new document is to be written; beside its final place, so that relative links in it are right.
    journal : pathlib.Path
        Where an edit of the document in place is to keep what it changes, as `edit_journalled` does.
    digests : dict
        The SHA-256 of each file that was staged with a plan that has a manifest, by device and inode of its source.
    fetched : dict
        The files that were fetched for such a plan, by `download.part_name`.
    notes : list of str
        What is to be told when the document is in place; may be added to.

    Raises
    ------
    DestinationBusyError
        If another transfer to the same document is going on; nothing is changed.
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
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.document = document
        self._folder = document.parent
        self._staging = StagingFolder(document, edits_document=edits_document, as_folder=as_folder)
        self.staged_document = self._staging.document_part
        self.journal = self._staging.journal
        self._edits_document = edits_document
        self._as_folder = as_folder
        self._exclusive = exclusive
        self._keep_sources = keep_sources
        self._tell = tell
        self._items: list[_Item] = []
        self._parts: set[Path] = set()  # of the items
        self._numbers = itertools.count()
        self.digests: dict[tuple[int, int], str] = {}
        self.fetched: dict[str, MediaFile] = {}
        self.notes: list[str] = []
        # where a file of a plan, or a download, can be had from, for further names of it
        self._at: dict[tuple[int, int] | str, Path] = {}
        self._kept: set[Path] = set()  # places that belong to the document: no move takes anything from them
        self._moved: dict[Path, _Moved] = {}
        self._reused: dict[Path, os.stat_result] = {}
        self._committing = False
        self._synced = False
        self._cancelled = threading.Event()

    # ----------------------------------------------------------------- stage

    def stage(
        self,
        plan: RelocationPlan,
        *,
        sync: bool = True,
        progress: bool | ProgressCallback = False,
        url_timeout: float = 60.0,
    ) -> None:
        """Make every file of a plan ready in the staging folder, verified.

        Parameters
        ----------
        plan : RelocationPlan
            Of the same document. Several plans may be staged one after the other.
        sync : bool
            Whether copies are flushed to the disk.
        progress : bool or callable
            As in `MediaOptions.progress`.
        url_timeout : float
            As in `MediaOptions.url_timeout`.

        Raises
        ------
        TransferError
            If a file cannot be brought here, or is not the one that was planned with. Nothing of this plan is staged
            then, and nothing stands under a final name.
        """
        earlier, at, moved, reused = len(self._items), dict(self._at), dict(self._moved), dict(self._reused)
        try:
            with reporting(progress, plan.work_bytes) as report:
                on_bytes = self._unless_cancelled(report)
                copy = partial(self._copy, sync=sync, on_bytes=on_bytes, with_digest=plan.manifest is not None)
                with called_ahead(copy, _small_copies(plan), _COPIERS, clear=self._clear_unless_wanted) as ahead:

                    def copied(entry: Relocation, source: MediaFile) -> Path:
                        return ahead(id(entry)) or copy(source)

                    # a further name may stand before the file that it is one of
                    for entry in sorted(plan.relocations, key=lambda entry: entry.action is Action.DUPLICATE):
                        if entry.remote is not None:
                            self._stage_download(entry, entry.remote, plan, sync, on_bytes, url_timeout)
                        else:
                            self._stage_one(entry, plan, sync, on_bytes, copied)
                self._add_digests(plan, on_bytes)
        except BaseException:
            for item in self._items[earlier:]:
                item.part.unlink(missing_ok=True)
            del self._items[earlier:]
            self._parts = {item.part for item in self._items}
            self._at, self._moved, self._reused = at, moved, reused
            raise
        self._kept.update(self._folder / entry.target for entry in plan.relocations if entry.target is not None)

    def cancel(self) -> None:
        """Have `stage` in another thread break off with a `TransferError`, soon."""
        self._cancelled.set()

    def _unless_cancelled(self, report: Callable[[int], None]) -> Callable[[int], None]:
        one_at_a_time = threading.Lock()

        def on_bytes(count: int) -> None:
            if self._cancelled.is_set():
                raise TransferError("cancelled, because the document was not written")
            with one_at_a_time:
                report(count)

        return on_bytes

    def _add_digests(self, plan: RelocationPlan, on_bytes: Callable[[int], None]) -> None:
        """Read files whose digest is wanted, and which no copy has read."""
        counted = plan.unread
        wanted = [entry.source for entry in plan.relocations if entry.source is not None]
        for identity, source in {source.identity: source for source in wanted if plan.manifest is not None}.items():
            if identity in self.digests:
                on_bytes(source.size if identity in counted else 0)  # an earlier plan has read it
                continue
            try:
                before = os.stat(source.real)
                digest = filesystem.digest_of(
                    source.real, on_bytes=on_bytes if identity in counted else lambda count: on_bytes(0)
                )
                if before.st_size != source.size or not is_still(source.real, before):
                    raise TransferError("it changed while it was read; try again when nothing writes to it")
            except OSError as error:  # TransferError is one
                raise TransferError(f"{source.real} could not be read for the manifest: {error}") from error
            self.digests[identity] = digest

    def _stage_one(
        self,
        entry: Relocation,
        plan: RelocationPlan,
        sync: bool,
        on_bytes: Callable[[int], None],
        copied: Callable[[Relocation, MediaFile], Path],
    ) -> None:
        source, mode = entry.source, plan.mode
        if source is None or entry.target is None:
            return
        target = self._folder / entry.target
        part = self._staging.path / str(next(self._numbers))
        try:
            status = _status(source)
            if mode is MediaMode.MOVE:
                self._note_move(source, status, target)
            if entry.action is Action.REUSE:
                self._reuse(source, target, entry.leaves or mode is MediaMode.MOVE)
            if entry.action is Action.FOLLOW or (entry.leaves and mode is not MediaMode.MOVE):
                self._moved.setdefault(source.path, _Moved(os.stat(source.path))).targets.add(target)
            if entry.action not in (Action.TRANSFER, Action.DUPLICATE, Action.FOLLOW):
                return
            if entry.action is Action.FOLLOW and source.path == source.real:
                _link_or_copy(source.path, part, sync)
            elif entry.action is Action.DUPLICATE:
                _link_or_copy(self._at[source.identity], part, sync)
            elif mode is MediaMode.COPY:
                part = copied(entry, source)
            else:
                digest = _bring(source, part, target, mode, sync, on_bytes, plan.manifest is not None)
                if digest is not None:
                    self.digests[source.identity] = digest
            made = os.lstat(part)
        except OSError as error:  # TransferError is one
            part.unlink(missing_ok=True)
            raise TransferError(
                f"{entry.reference.where}: {str(source.real)!r} could not be brought to {str(target)!r} by {mode}: "
                f"{error}",
                **entry.reference.place,
            ) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._at.setdefault(source.identity, part)
        self._parts.add(part)
        self._items.append(_Item(part, target, entry.replaces, (made.st_dev, made.st_ino)))

    def _stage_download(
        self,
        entry: Relocation,
        remote: RemoteFile,
        plan: RelocationPlan,
        sync: bool,
        on_bytes: Callable[[int], None],
        url_timeout: float,
    ) -> None:
        if entry.target is None or entry.action is Action.SHARE:
            return
        target, known_as = self._folder / entry.target, part_name(remote)
        part = self._staging.path / str(next(self._numbers))
        try:
            if entry.action is Action.REUSE:
                self._reused[target] = os.stat(target)
                self._at.setdefault(known_as, target)
                self._note_fetched(known_as, target, plan)
                return
            if known_as in self._at:
                _link_or_copy(self._at[known_as], part, sync)
            else:
                # The name tells what it is, so that the next transfer finds it if this one is killed.
                part = self._staging.path / f"{FETCH_PREFIX}{known_as}"
                fetch(remote, part, timeout=url_timeout, on_bytes=on_bytes, sync=sync)
                self._at[known_as] = part
                self._note_fetched(known_as, part, plan)
            made = os.lstat(part)
            if os.path.lexists(target) and not entry.replaces:
                self._reuse_download(entry, target, part)
                return
        except MediaExistsError:
            raise
        except OSError as error:
            raise TransferError(
                f"{entry.reference.where}: {remote.url!r} could not be brought to {str(target)!r}: {error}. Look "
                f'whether it opens in a browser, or leave URLs as they are with urls="keep" in media_options',
                **entry.reference.place,
            ) from error
        self._parts.add(part)
        self._items.append(_Item(part, target, entry.replaces, (made.st_dev, made.st_ino)))

    def _note_fetched(self, known_as: str, place: Path, plan: RelocationPlan) -> None:
        """Read what was fetched, if its digest is wanted."""
        if plan.manifest is None:
            return
        file = media_file(place)
        if isinstance(file, MediaFile):
            self.fetched[known_as] = file
            self.digests[file.identity] = filesystem.digest_of(place)

    def _reuse_download(self, entry: Relocation, target: Path, part: Path) -> None:
        """Leave a target as it is that has the content already, which only now can be told."""
        self._reused[target] = os.stat(target)
        if not target.is_file() or not filesystem.same_content(target, part):
            raise MediaExistsError(
                f"{entry.reference.where}: {str(target)!r} exists and is not what is behind {entry.reference.text!r}; "
                f'move it away, or replace it with existing="replace" in media_options',
                **entry.reference.place,
            )

    def _copy(self, source: MediaFile, sync: bool, on_bytes: Callable[[int], None], with_digest: bool) -> Path:
        """Copy a file to a part, or take the whole copy of it that a killed transfer has left; gives its path.

        Called in several threads at once.
        """
        # Such a copy has its name only since it was verified and flushed, and the name tells what it is a copy of.
        name = "-".join(f"{number:x}" for number in stamp(_status(source)))
        whole = self._staging.path / f"{WHOLE_PREFIX}{name}"
        taken = whole in self._parts
        if not taken and not self._staging.fresh:
            if whole.is_file() and not whole.is_symlink() and filesystem.same_content(whole, source.real):
                on_bytes(source.size)
                if with_digest:
                    self.digests[source.identity] = filesystem.digest_of(whole)
                return whole
            whole.unlink(missing_ok=True)  # anybody may have put it there
        part = self._staging.path / str(next(self._numbers))
        try:
            digest = filesystem.copy_verified(source.real, part, on_bytes=on_bytes, sync=sync, with_digest=with_digest)
            if sync and not taken:
                os.rename(part, whole)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if digest is not None:
            self.digests[source.identity] = digest
        return whole if sync and not taken else part

    def _clear_unless_wanted(self, part: Path) -> None:
        if part not in self._parts:
            part.unlink(missing_ok=True)

    def _reuse(self, source: MediaFile, target: Path, goes: bool) -> None:
        """Note a target as it is now, when it is known to be right."""
        self._reused[target] = os.stat(target)
        # A move takes the source away, so it must still be what the target was compared with.
        if self._reused[target].st_size != source.size or (goes and not filesystem.same_content(target, source.real)):
            raise TransferError(f"{target} does not hold its content any more; try again")
        self._at.setdefault(source.identity, target)

    def _note_move(self, source: MediaFile, status: os.stat_result, target: Path) -> None:
        """Remember what is to be removed at the end: the file, and the links that led to it."""
        # The first look counts: it was before the copy.
        moved = self._moved.setdefault(source.real, _Moved(status))
        moved.targets.add(target)
        link = source.path
        for _ in range(_LONGEST_CHAIN):
            if not link.is_symlink():
                break
            moved.links.add(link)
            link = Path(os.path.realpath(link.parent), os.readlink(link))

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
        OSError
            As the file system says. Call `rollback` in either case.
        """
        if not self._edits_document:
            os.stat(self.staged_document)  # whose absence means later that it is in its place
            if sync:
                filesystem.sync_tree(self.staged_document)
        for target, status in self._reused.items():
            if not is_still(target, status):
                raise TransferError(
                    f"{target} has changed since the plan was made; nothing was changed, try again",
                    nwb_path=str(self.document),
                )
        for folder in dict.fromkeys(item.target.parent for item in self._items):  # once for all files in it
            self._check_way(folder)
            filesystem.make_folders(folder, self._staging.made_folders)
        self._put_aside(sync)
        for item in self._items:
            self._place(item)
        if sync:
            # what was there already may be another one's, or a killed transfer's, and not on the disk yet
            for target in self._reused:
                filesystem.sync_file(target)
            folders = {self._folder, *(made.parent for made in self._staging.made_folders)}
            if self._edits_document or not self._staging.fresh:
                folders.add(self._staging.path)  # which says that the document is unfinished; else nothing tells by it
            folders.update(item.target.parent for item in self._items)
            for target in self._reused:
                folders.update(_up_to(self._folder, target))
            if self._reused or not self._staging.fresh:
                folders.update(_above(self._folder))
            filesystem.sync_folders(folders)
        if edit is not None:
            edit()
        if not self._commit_document(sync) and sync:
            filesystem.sync_folder(self._folder)

    def _check_way(self, folder: Path) -> None:
        """Refuse a folder at or behind a symbolic link that has come into being since the plan was made."""
        for place in (folder, *_up_to(self._folder, folder)):
            if os.path.lexists(place) and not filesystem.is_folder(place):
                raise TransferError(
                    f"{place} is no folder, or a link to one; nothing was changed, try again",
                    nwb_path=str(self.document),
                )

    def _commit_document(self, sync: bool) -> bool:
        """Take the step after which the transfer counts as done; tell whether it is flushed to the disk."""
        self._committing = True
        if self._edits_document:
            if sync:
                filesystem.sync_tree(self.document)
            self._staging.mark.unlink()
            if sync:
                filesystem.sync_folder(self._staging.path)
        elif self._exclusive:
            return filesystem.rename_exclusive(self.staged_document, self.document, sync=sync)
        elif self._as_folder:
            self._staging.replace_folder(sync=sync)
        else:
            if self.document.exists():
                shutil.copymode(self.document, self.staged_document)
            os.replace(self.staged_document, self.document)
        return False

    def _put_aside(self, sync: bool) -> None:
        """Keep what is to be replaced, so that a transfer after a crash finds it, and knows that it is wanted."""
        self._synced = sync
        replaced = [item for item in self._items if item.replaces and os.path.lexists(item.target)]
        places = {item: self._staging.former / item.target.relative_to(self._folder) for item in replaced}
        for former in places.values():
            former.parent.mkdir(parents=True, exist_ok=True)
        if sync and places:
            # also the name of what says that the transfer is unfinished
            filesystem.sync_folders({above for former in places.values() for above in _up_to(self._folder, former)})
        for item, former in places.items():
            item.former = former
            # A second name keeps the target whole all the time; where there is none, it is gone for a moment.
            if not filesystem.link_exclusive(item.target, former):
                os.rename(item.target, former)
        if sync:
            filesystem.sync_folders({former.parent for former in places.values()})

    def _place(self, item: _Item) -> None:
        if item.former is None:
            item.begun = True
            try:
                filesystem.rename_exclusive(item.part, item.target)
            except FileExistsError as error:
                item.begun = False
                raise MediaExistsError(
                    f"{item.target} has come into being since the plan was made; nothing was changed, try again",
                    nwb_path=str(self.document),
                ) from error
            return
        os.replace(item.part, item.target)

    # ------------------------------------------------------------------- end

    def conclude(self, *, sync: bool = True) -> tuple[MovedSource, ...]:
        """Remove the sources of a move and all that was staged, and let go of the document.

        To be called when the document is in place. A source that cannot be removed, or that has changed, stays,
        with a warning.

        Parameters
        ----------
        sync : bool
            Whether the removals are flushed to the disk.

        Returns
        -------
        tuple of MovedSource
            What is left for `remove_sources`.
        """
        notes, left = self.notes, list[str]()
        moved = self._arrived(notes)
        if not self._keep_sources:
            notes.extend(remove_sources(moved, sync=sync))
            moved = []
        try:
            self._staging.clear()
        except OSError as error:
            left.append(f"{self._staging.path} could not be cleared: {error}")
        self._staging.made_folders.clear()
        left.extend(self._staging.let_go())
        notes.extend([*left, *self._staging.remains(left)] if left else [])
        for note in notes:  # last, because a caller may have made warnings errors
            if self._tell is not None:
                self._tell(note)
            else:
                warn(note)
        return tuple(moved)

    def _arrived(self, notes: list[str]) -> list[MovedSource]:
        """The moved sources that have got where they should; those that have not are told of."""
        arrived = []
        for path, moved in self._moved.items():
            places = ({path} | moved.links) - self._kept
            try:
                if not all(is_still(target, self._reused.get(target)) for target in moved.targets):
                    raise OSError(errno.ESTALE, "the new one is not there any more")
                targets = tuple((target, stamp(os.stat(target))) for target in sorted(moved.targets))
                arrived.append(MovedSource(path, stamp(moved.status), tuple(sorted(places)), targets))
            except OSError as error:
                notes.append(stays(path, self._folder, error))
        return arrived

    @property
    def is_done(self) -> bool:
        """Whether the document is in place, so that nothing will be brought back any more."""
        return self._committing and not self._staging.is_unfinished()

    def rollback(self) -> list[str]:
        """Bring everything back to what it was.

        Returns
        -------
        list of str
            What could not be brought back, and where it is left; empty if all went well.
        """
        if self.is_done:
            self.conclude(sync=False)  # interrupted when all was in place
            return []
        left: list[str] = []
        try:
            take_back(self.document, self.journal)
        except OSError as error:
            left.append(f"{self.document} could not be restored: {error}; {self.journal} holds what it held before")
        for item in reversed(self._items):
            try:
                item.take_back()
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
        if not left:
            try:
                self._staging.clear()
            except OSError as error:
                left.append(f"{self._staging.path} could not be cleared: {error}")
        left.extend(self._staging.let_go())
        return [*left, *self._staging.remains(left)] if left else []


def recover(document: Path) -> bool:
    """Restore a document that a killed transfer was editing in place.

    Parameters
    ----------
    document : pathlib.Path
        The file, its folder free of symbolic links.

    Returns
    -------
    bool
        Whether there was anything to do.

    Raises
    ------
    DestinationBusyError
        If the transfer is still going on.
    TransferError
        If the document cannot be restored; what is needed for it stays.
    """
    if not is_half_done(document):
        return False
    try:
        Transfer(document).rollback()  # a new one begins by bringing back what the killed one has left
    except DestinationBusyError:
        raise
    except OSError as error:
        raise TransferError(
            f"{document} was left half edited by a run that was killed, and cannot be restored here: {error}. Call "
            f"`nwb-extfiles recover` on it where it can be written to",
            nwb_path=str(document),
        ) from error
    return True


def _status(source: MediaFile) -> os.stat_result:
    """A source's status, which must be that of the file that was planned with."""
    status = os.stat(source.real)
    if (status.st_dev, status.st_ino) != source.identity or status.st_size != source.size:
        raise TransferError(f"{source.real} is not the file any more that it was when the plan was made")
    return status


def _small_copies(plan: RelocationPlan) -> dict[int, MediaFile]:
    """The small files to copy, by the id() of their entries; none where threads are not worth their while."""
    small = {
        id(entry): entry.source
        for entry in plan.relocations
        if plan.mode is MediaMode.COPY
        and entry.action is Action.TRANSFER
        and entry.source is not None
        and entry.source.size <= filesystem.HASH_CHUNK
    }
    return small if len(small) >= _MANY else {}


def _bring(
    source: MediaFile,
    part: Path,
    target: Path,
    mode: MediaMode,
    sync: bool,
    on_bytes: Callable[[int], None],
    with_digest: bool,
) -> str | None:
    """Make a part from a source, in the way of a mode; gives the SHA-256, if it is wanted and the bytes were copied."""
    if mode is MediaMode.SYMLINK:
        _symlink(source.real, part, target)
        on_bytes(source.size)
    elif filesystem.link_exclusive(source.real, part):
        on_bytes(source.size)
    elif mode is MediaMode.HARDLINK:
        raise TransferError(
            "the file system makes no hard link to it; use media_mode 'copy', 'symlink', 'move' or 'reference'"
        )
    else:
        return filesystem.copy_verified(source.real, part, on_bytes=on_bytes, sync=sync, with_digest=with_digest)
    return None


def _link_or_copy(source: Path, part: Path, sync: bool) -> None:
    if not filesystem.link_exclusive(source, part):
        filesystem.copy_verified(source, part, sync=sync)


def _symlink(source: Path, part: Path, target: Path) -> None:
    folder, name = os.path.split(source)
    try:
        text = os.path.join(_way(os.path.dirname(target), folder), name)
    except ValueError:  # another drive of Windows: only an absolute link leads there
        text = str(source)
    try:
        os.symlink(text, part)
    except OSError as error:
        if getattr(error, "winerror", None) == 1314:
            raise TransferError(
                "Windows lets this user make no symbolic links; turn on developer mode, or use media_mode 'copy', "
                "'hardlink', 'move' or 'reference'"
            ) from error
        raise
    leads_to = os.path.normpath(os.path.join(os.path.dirname(target), text))
    if leads_to != str(source) and not os.path.samefile(leads_to, source):
        raise TransferError(f"a symbolic link at {target} would not lead to {source}")


@lru_cache(maxsize=64)  # films are many, their folders few
def _way(start: str, folder: str) -> str:
    """The relative path from one folder to another, both of them absolute; empty if they are one."""
    way = os.path.relpath(folder, start)
    return "" if way == os.curdir else way


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

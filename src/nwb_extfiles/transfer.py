"""Carries out a plan, all or nothing.

This module knows files and folders only: a document that is being written (here an NWB file) and the media that
belong beside it. The order is: stage all media beside the document; put them under their final names; put the
document under its own; remove the sources of a move. What is on disk after a crash at any moment:

- before the document is replaced: the document as it was, its media as they were or, where some were to be
  replaced, with their former content kept in the staging folder, from which the next transfer puts it back;
- after: the new document with all its media; sources of a move may still stand at their old place too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import filesystem
from .errors import DestinationBusyError, ExternalFilesWarning, MediaExistsError, TransferError
from .options import MediaMode, ProgressCallback
from .plan import Action, Relocation, RelocationPlan
from .progress import reporting
from .resolve import MediaFile

__all__ = ["Transfer"]

_LOCK, _FORMER, _EDITING = "lock", "former", "editing"  # names in the staging folder, beside the numbered parts


@dataclass(slots=True)
class _Item:
    """One media file on its way."""

    part: Path
    target: Path
    replaces: bool
    identity: tuple[int, int]
    former: Path | None = None
    placed: bool = False


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
    exclusive : bool
        Whether a document that has come into being meanwhile must not be replaced.

    Attributes
    ----------
    staged_document : pathlib.Path
        Where the new document is to be written; beside its final place, so that relative links in it are right.

    Raises
    ------
    DestinationBusyError
        If another transfer to the same document is going on; nothing is changed.
    OSError
        If the folder cannot be written to.
    """

    def __init__(self, document: Path, *, edits_document: bool = False, exclusive: bool = False) -> None:
        self.document = document
        self._folder = document.parent
        token = hashlib.blake2s(os.fsencode(document.name), digest_size=4).hexdigest()
        self._area = self._folder / f".nwb-extfiles-{token}"
        self.staged_document = self._folder / f".nwb-extfiles-{token}.nwb"
        self._edits_document = edits_document
        self._exclusive = exclusive
        self._committing = False
        self._items: list[_Item] = []
        self._parts: dict[tuple[int, int], Path] = {}
        self._moved: dict[Path, os.stat_result] = {}
        self._made_folders = _make_folders(self._folder)
        self._lock: filesystem.FileLock | None = None
        try:
            self._begin()
        except BaseException:
            _remove_folders(self._made_folders)
            raise

    # ----------------------------------------------------------------- begin

    def _begin(self) -> None:
        fresh = self._take_lock()
        if not fresh:
            self._recover()
        if self._edits_document:
            (self._area / _EDITING).touch()

    def _take_lock(self) -> bool:
        for _ in range(100):  # the folder may go with a transfer that ends just now
            fresh = True
            try:
                self._area.mkdir()
            except FileExistsError:
                fresh = False
                if self._area.is_symlink() or not self._area.is_dir():
                    raise TransferError(f"{self._area} is in the way: it is no folder; remove it") from None
            try:
                self._lock = filesystem.FileLock(self._area / _LOCK)
            except FileNotFoundError:
                continue
            except BlockingIOError as error:
                raise DestinationBusyError(
                    f"{self.document} is being written by another process, or by another IO that is still open; "
                    f"wait until it is done",
                    nwb_path=str(self.document),
                ) from error
            except NotImplementedError as error:
                if not fresh:
                    raise DestinationBusyError(
                        f"{self._area} is there: another process is writing {self.document}, or was stopped while it "
                        f"did, which cannot be told on this file system; if none is running, remove that folder",
                        nwb_path=str(self.document),
                    ) from error
            return fresh
        raise DestinationBusyError(f"{self._area} comes and goes; try again", nwb_path=str(self.document))

    def _recover(self) -> None:
        """Bring back what a killed transfer had put aside, unless its document is in place; clear its parts."""
        unfinished = os.path.lexists(self.staged_document) or (self._area / _EDITING).exists()
        former = self._area / _FORMER
        if unfinished and former.is_dir() and not former.is_symlink():
            for folder, _, names in os.walk(former):
                place = self._folder / Path(folder).relative_to(former)
                for name in names:
                    place.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(folder, name), place / name)
        self._clear_parts()

    def _clear_parts(self) -> None:
        # First what says that the transfer is unfinished: whatever is put aside after it is not wanted back.
        (self._area / _EDITING).unlink(missing_ok=True)
        self.staged_document.unlink(missing_ok=True)
        for entry in os.scandir(self._area):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name != _LOCK:
                os.unlink(entry.path)

    # ----------------------------------------------------------------- stage

    def stage(self, plan: RelocationPlan, *, sync: bool = True, progress: bool | ProgressCallback = False) -> None:
        """Make every file of a plan ready in the staging folder, verified.

        Parameters
        ----------
        plan : RelocationPlan
            Of the same document. Several plans may be staged one after the other.
        sync : bool
            Whether copies are flushed to the disk.
        progress : bool or callable
            As in `MediaOptions.progress`.

        Raises
        ------
        TransferError
            If a file cannot be brought here, or is not the one that was planned with. Nothing stands under a final
            name then; `rollback` clears what was staged.
        """
        with reporting(progress, plan.media_bytes) as on_bytes:
            for entry in plan.relocations:
                if entry.source is None or entry.target is None:
                    continue
                if plan.mode is MediaMode.MOVE and entry.action is not Action.SHARE:
                    self._note_move(entry.source)
                if entry.action in (Action.TRANSFER, Action.DUPLICATE):
                    self._stage_one(entry, entry.source, plan.mode, sync, on_bytes)
                elif entry.action is Action.REUSE:
                    self._parts.setdefault(entry.source.identity, self._folder / entry.target)

    def _note_move(self, source: MediaFile) -> None:
        self._moved[source.real] = os.stat(source.real)
        self._moved[source.path] = self._moved[source.real]

    def _stage_one(
        self, entry: Relocation, source: MediaFile, mode: MediaMode, sync: bool, on_bytes: Callable[[int], None]
    ) -> None:
        assert entry.target is not None
        part = self._area / str(len(self._items))
        target = self._folder / entry.target
        try:
            status = os.stat(source.real)
            if (status.st_dev, status.st_ino) != source.identity or status.st_size != source.size:
                raise TransferError(f"{entry.reference.where}: {source.real} is not the file any more that it was")
            if entry.action is Action.DUPLICATE:
                first = self._parts[source.identity]
                if not filesystem.link_exclusive(first, part):
                    filesystem.copy_verified(first, part, sync=sync)
            elif mode is MediaMode.SYMLINK:
                _symlink(source.path, part, target)
                on_bytes(source.size)
            elif mode is not MediaMode.COPY and filesystem.link_exclusive(source.real, part):
                on_bytes(source.size)
            elif mode is MediaMode.HARDLINK:
                raise TransferError(
                    f"{entry.reference.where}: the file system makes no hard link to {source.real}; use media_mode "
                    f"'copy', 'symlink', 'move' or 'reference'"
                )
            else:
                filesystem.copy_verified(source.real, part, on_bytes=on_bytes, sync=sync)
            status = os.lstat(part)
        except TransferError as error:
            if error.nwb_path is None:
                for name, value in entry.reference.fields.items():
                    setattr(error, name, value)
            raise
        except OSError as error:
            raise TransferError(
                f"{entry.reference.where}: {source.real} could not be brought to {target} by {mode}: {error}",
                **entry.reference.fields,
            ) from error
        self._parts.setdefault(source.identity, part)
        self._items.append(_Item(part, target, entry.replaces, (status.st_dev, status.st_ino)))

    # ---------------------------------------------------------------- commit

    def commit(self, *, sync: bool = True) -> None:
        """Put the media, then the new document, under their final names.

        Parameters
        ----------
        sync : bool
            Whether each step is flushed to the disk before the next begins.

        Raises
        ------
        MediaExistsError
            If something has come to stand at a target since the plan was made.
        OSError
            As the file system says. Call `rollback` in either case.
        """
        if sync and not self._edits_document:
            filesystem.sync_file(self.staged_document)
        for item in self._items:
            self._made_folders += _make_folders(item.target.parent)
            self._place(item)
        if sync:
            for folder in sorted({item.target.parent for item in self._items} | {self._area}):
                filesystem.sync_folder(folder)
            for folder in {folder.parent for folder in self._made_folders} | {self._folder}:
                filesystem.sync_folder(folder)
        if not self._edits_document:
            self._committing = True
            if self._exclusive:
                filesystem.rename_exclusive(self.staged_document, self.document)
            else:
                if self.document.exists():
                    shutil.copymode(self.document, self.staged_document)
                os.replace(self.staged_document, self.document)
            if sync:
                filesystem.sync_folder(self._folder)

    def _place(self, item: _Item) -> None:
        if not item.replaces:
            try:
                filesystem.rename_exclusive(item.part, item.target)
            except FileExistsError as error:
                raise MediaExistsError(
                    f"{item.target} has come into being since the plan was made; nothing was changed, try again",
                    nwb_path=str(self.document),
                ) from error
            item.placed = True
            return
        former = self._area / _FORMER / item.target.relative_to(self._folder)
        former.parent.mkdir(parents=True, exist_ok=True)
        # A second name keeps the target whole all the time; where there is none, it is gone for a moment.
        if not filesystem.link_exclusive(item.target, former):
            os.rename(item.target, former)
        item.former = former
        os.replace(item.part, item.target)
        item.placed = True

    # ------------------------------------------------------------------- end

    def conclude(self, *, sync: bool = True) -> None:
        """Remove the sources of a move and all that was staged, and let go of the document.

        To be called when the document is in place. A source that cannot be removed, or that has changed, stays,
        with a warning.
        """
        targets = {self._folder / item.target for item in self._items} | set(self._parts.values())
        folders = set()
        for path, status in self._moved.items():
            if path in targets:
                continue
            try:
                now = os.stat(path)
                if (now.st_ino, now.st_size, now.st_mtime_ns) != (status.st_ino, status.st_size, status.st_mtime_ns):
                    raise OSError(errno.ESTALE, "it has changed since it was read")
                os.unlink(path)
                folders.add(path.parent)
            except FileNotFoundError:
                if path.is_symlink():  # a link to the file that has just gone
                    os.unlink(path)
                    folders.add(path.parent)
            except OSError as error:
                warnings.warn(
                    f"{path} was moved to {self._folder}, but the old file is still there: {error}",
                    ExternalFilesWarning,
                    stacklevel=2,
                )
        if sync:
            for folder in folders:
                filesystem.sync_folder(folder)
        self._clear_parts()
        self._let_go()

    def rollback(self) -> list[str]:
        """Bring everything back to what it was.

        Returns
        -------
        list of str
            What could not be brought back, and where it is left; empty if all went well.
        """
        if self._committing and not os.path.lexists(self.staged_document):
            self.conclude(sync=False)  # interrupted when all was in place
            return []
        left: list[str] = []
        for item in reversed(self._items):
            try:
                self._take_back(item)
            except OSError as error:
                left.append(
                    f"{item.target} could not be restored: {error}"
                    + (f"; its former content is at {item.former}" if item.former is not None else "")
                )
        if not left:
            try:
                self._clear_parts()
            except OSError as error:
                left.append(f"{self._area} could not be cleared: {error}")
        self._let_go()
        _remove_folders(self._made_folders)
        return left

    def _take_back(self, item: _Item) -> None:
        if item.former is not None:
            if os.path.lexists(item.former):
                os.replace(item.former, item.target)
        elif os.path.lexists(item.target):
            status = os.lstat(item.target)
            # An interrupt may come between a step and the note that it was done: the file itself tells.
            if item.placed or (not item.replaces and (status.st_dev, status.st_ino) == item.identity):
                os.unlink(item.target)

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        try:
            self._area.rmdir()
        except OSError:
            pass  # something is left in it on purpose, or another transfer has begun


def _symlink(source: Path, part: Path, target: Path) -> None:
    try:
        text = os.path.relpath(source, target.parent)
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
    if not os.path.samefile(os.path.normpath(target.parent / text), source):
        raise TransferError(f"a symbolic link at {target} would not lead to {source}")


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; tell which were made, the uppermost first."""
    missing = []
    place = folder
    while not place.exists():
        missing.append(place)
        place = place.parent
    made = []
    for place in reversed(missing):
        try:
            place.mkdir()
        except FileExistsError:
            continue
        made.append(place)
    return made


def _remove_folders(folders: list[Path]) -> None:
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            pass  # not empty: somebody else uses it by now

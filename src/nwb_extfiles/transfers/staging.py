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
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path

from ..disk.filesystem import FileLock, copy_access, is_folder, make_folders, remove, sync_folders
from ..disk.journal import take_back
from ..errors import DestinationBusyError, TransferError
from ..plans.targets import STAGING_PREFIX

__all__ = ["FETCH_PREFIX", "WHOLE_PREFIX", "StagingFolder", "has_leftovers", "is_half_done"]

# names in the folder
_LOCK, _FORMER, _JOURNAL, _UNFINISHED = "lock", "former", "journal", "unfinished"
_REPLACED, _WASTE = "replaced", "waste"
_FILE_SUFFIX, _FOLDER_SUFFIX = ".nwb", ".zarr"  # of a document that is staged; by them its backend knows it
_ATTEMPTS = 100
WHOLE_PREFIX = "whole-"
"""How the names of verified copies begin, which the next transfer may take up."""
FETCH_PREFIX = "fetch-"
"""How the names of downloads begin, which the next transfer may take up, be they whole or not."""
_OF_USE = (WHOLE_PREFIX, FETCH_PREFIX)


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

    def __init__(self, document: Path, *, edits_document: bool, as_folder: bool = False) -> None:
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
        self.made_folders: list[Path] = []
        self._lock: FileLock | None = None
        self._owns_area = False
        try:
            fresh = self._take_lock()
            self._refuse_what_is_not_ours()
            # after a power cut the folder may be missing, and the document that was staged beside it not
            self.fresh = fresh and not any(map(os.path.lexists, _parts(self.path)))
            if fresh:
                # Whoever put it there: it may be a link, and what is written to it would get elsewhere.
                self._remove_parts()
            else:
                self._recover()
            if edits_document:
                self.mark.touch()
        except BaseException as error:
            left = self.let_go()
            if not isinstance(error, DestinationBusyError):
                left.extend(self.remains(left))
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
        wrong = [place for place in (self._file_part, self.mark) if is_folder(place)]
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
        """Bring back what a killed transfer had put aside, unless its document is in place; clear its parts."""
        former = self.former
        if not self.is_unfinished():
            self.clear(but_whole_copies=True)
            return
        take_back(self.document, self.journal)
        if former.is_dir() and not former.is_symlink():
            places = set()
            for folder, below, names in os.walk(former):
                place = self.folder / Path(folder).relative_to(former)
                for name in names + [name for name in below if Path(folder, name).is_symlink()]:
                    made: list[Path] = []
                    make_folders(place, made)
                    os.replace(Path(folder, name), place / name)
                    places.update({place, *(folder.parent for folder in made)})
            sync_folders(places)  # before what tells that they are to be put back is removed
        self.restore_folder()
        self.clear(but_whole_copies=True)

    def clear(self, *, but_whole_copies: bool = False) -> None:
        """Empty the staging folder; verified copies that a killed transfer has left may be of use to this one."""
        # First what says that the transfer is unfinished: whatever is put aside after it is not wanted back.
        self.mark.unlink(missing_ok=True)
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

    def _remove_parts(self) -> None:
        for part in _parts(self.path):
            remove(part)

    def let_go(self) -> list[str]:
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

    def remains(self, told: list[str]) -> list[str]:
        """Tell what a failure has left in the folder of the document, but for what was told already."""
        places = [place for place in (self.path, *_parts(self.path)) if os.path.lexists(place)]
        new = [
            str(place)
            for place in places
            if not any(re.search(rf"{re.escape(str(place))}(?!{_FILE_SUFFIX}|{_FOLDER_SUFFIX})", t) for t in told)
        ]
        return [f"the next attempt will restore and clear what is left in {', '.join(new)}"] if new else []


def is_half_done(document: Path) -> bool:
    """Whether a killed transfer, or one that is going on, has left a document half edited, or without its name."""
    path = _path(document)
    return (path / _UNFINISHED).exists() or (is_folder(path / _REPLACED) and not os.path.lexists(document))


def has_leftovers(document: Path) -> bool:
    """Whether a transfer to a document is going on, or was killed and has left something."""
    return os.path.lexists(_path(document))


def _path(document: Path) -> Path:
    token = hashlib.blake2s(os.fsencode(document.name), digest_size=4).hexdigest()
    return document.with_name(f"{STAGING_PREFIX}{token}")


def _parts(path: Path) -> tuple[Path, Path]:
    """Where a new document is staged, a file and a folder, by the path of the staging folder."""
    return path.with_name(f"{path.name}{_FILE_SUFFIX}"), path.with_name(f"{path.name}{_FOLDER_SUFFIX}")


def _is_media(path: Path) -> bool:
    """Whether a path is what stands at a target: a file, or a link."""
    return stat.S_ISREG(mode := os.lstat(path).st_mode) or stat.S_ISLNK(mode)

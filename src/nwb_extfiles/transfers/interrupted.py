"""Documents that a killed run has left unfinished: how they are told from others, and found under a new name.

The mark of an edit in place has the inode of the document. So a document that was renamed after the kill is known, and
the staging folder that has its journal is found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..disk.filesystem import is_folder
from ..disk.journal import Edited, how_far
from ..plans.targets import STAGING_PREFIX
from .folder_notes import EditMark, inode_of, is_regular
from .staging_folder import FORMER, JOURNAL, REPLACED, UNFINISHED, staging_path

__all__ = [
    "NO_DOCUMENT",
    "edited_document",
    "fitting_journals",
    "has_leftovers",
    "is_interrupted",
    "renamed_from",
    "staging_folders",
    "without_document",
]

NO_DOCUMENT = "an interrupted run left this folder, and the NWB file that the run was writing is not there"
"""What `without_document` finds."""
_STAGING_NAME = re.compile(re.escape(STAGING_PREFIX) + r"[0-9a-f]{8}")


def is_interrupted(document: Path, *, thoroughly: bool = False, stagings: Sequence[Path] | None = None) -> bool:
    """Whether a killed transfer, or one that is going on, has left a document with an unfinished edit or without name.

    The document is given under the name that it has now. `thoroughly` looks through its folder for the journal of a
    document that it may be a copy of, or that it may be itself, renamed, where inodes are not stable. `stagings` are
    the `staging_folders` of its folder, which is listed if they are not given.
    """
    path = staging_path(document)
    stagings = staging_folders(document.parent) if stagings is None else stagings
    if (path / UNFINISHED).exists():
        inode = EditMark.read(path / UNFINISHED).inode
        # a file of another name has it, if that was renamed and this one came into being since
        if inode is None or inode == inode_of(document) or _with_inode(document.parent, inode) is None:
            return True
    if is_folder(path / REPLACED) and not os.path.lexists(document):
        return True
    return renamed_from(document, stagings) is not None or (thoroughly and any(fitting_journals(document, stagings)))


def has_leftovers(document: Path) -> bool:
    """Whether a transfer to a document is going on, or was killed and has left something."""
    return os.path.lexists(staging_path(document)) or renamed_from(document) is not None


def fitting_journals(document: Path, stagings: Sequence[Path] | None = None) -> Iterator[Path]:
    """The journals of edits of other documents in the folder that were broken off in the middle of this content."""
    for staging in staging_folders(document.parent) if stagings is None else stagings:
        journal = staging / JOURNAL
        is_another = staging != staging_path(document) and (staging / UNFINISHED).exists() and is_regular(journal)
        if is_another and how_far(document, journal) is Edited.PARTLY:
            yield journal


def renamed_from(document: Path, stagings: Sequence[Path] | None = None) -> Path | None:
    """The name that a document had when a run was killed that was editing it, if that was another one."""
    inode = inode_of(document)
    if inode is None:
        return None
    for staging in staging_folders(document.parent) if stagings is None else stagings:
        mark = EditMark.read(staging / UNFINISHED)
        if mark.inode == inode and mark.name not in (None, document.name):
            former = document.with_name(str(mark.name))
            if staging_path(former) == staging:
                return former
    return None


def edited_document(document: Path) -> Path:
    """The document that the killed run of a staging folder was editing, which may have another name since.

    It is given under its former name.
    """
    path = staging_path(document)
    mark = EditMark.read(path / UNFINISHED)
    if mark.inode is None or inode_of(document) == mark.inode:
        return document
    found = _with_inode(document.parent, mark.inode)
    if found is None and not os.path.lexists(document):  # where inodes are not stable
        places = _documents(document.parent)
        edited = (Edited.PARTLY, Edited.WHOLLY)
        found = next((place for place in places if how_far(place, path / JOURNAL) in edited), None)
    return found or document


def without_document(folder: Path) -> Iterator[tuple[Path, str]]:
    """The staging folders in a folder whose document is not there, and what to do about each.

    Only a transfer that begins to write the same document, or `recover` if it gets its path, clears them.
    """
    stagings = staging_folders(folder)
    owned = {staging_path(document) for document in _documents(folder)} if stagings else set()
    for staging in stagings:
        mark = EditMark.read(staging / UNFINISHED)
        is_renamed = mark.inode is not None and _with_inode(folder, mark.inode) is not None
        if staging not in owned and not is_renamed:
            yield staging, _what_to_do(staging, mark)


def _what_to_do(staging: Path, mark: EditMark) -> str:
    if is_folder(staging / REPLACED):
        return "`nwb-extfiles recover` with the path that the NWB file had gives it its name back"
    if mark.name is not None:
        return f"if {mark.name!r} was moved away, put it back here and run `nwb-extfiles recover` on it"
    if os.path.lexists(staging / FORMER):
        return "run that command again: it puts back what it was about to replace, and may ask to be run once more"
    return "if no run is at work, run that command again, or remove this folder"


def staging_folders(folder: Path) -> list[Path]:
    """The folders of transfers in a folder; none if it may not be listed."""
    try:
        with os.scandir(folder) as entries:  # maybe many; the pattern takes longer than all else
            found = [
                entry.path
                for entry in entries
                if entry.name.startswith(STAGING_PREFIX) and _STAGING_NAME.fullmatch(entry.name)
            ]
    except PermissionError:  # who may not list the folder may still read the document
        return []
    return [path for path in map(Path, sorted(found)) if is_folder(path)]


def _documents(folder: Path) -> list[Path]:
    """What may be a document in a folder."""
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if not entry.name.startswith(".") and not entry.is_symlink()]
    return list(map(Path, sorted(found)))


def _with_inode(folder: Path, inode: int) -> Path | None:
    """What has an inode in a folder."""
    return next((place for place in _documents(folder) if inode_of(place) == inode), None)

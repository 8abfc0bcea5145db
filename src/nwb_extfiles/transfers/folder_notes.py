"""What a transfer notes in its staging folder, for the run after a kill, and how that is read.

The folder may come with a download, so nothing in a note is trusted: whoever reads one looks at the files too.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk.contents import digest_of
from ..disk.filesystem import relative_path, write_new

__all__ = ["EditMark", "inode_of", "is_regular", "note_placed", "read_note", "was_placed"]

_LONGEST = 64 * 1024 * 1024  # bytes that are read of a note


@dataclass(frozen=True, slots=True)
class EditMark:
    """What the mark of an unfinished edit says."""

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
    def read(cls, path: Path) -> EditMark:
        """Read a mark; an empty one if there is none, or if it is not as `write` leaves it."""
        note = read_note(path)
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
        """Write the mark in one step; it replaces a former one."""
        folder = path.parent.parent
        note = {
            "name": self.name,
            "inode": self.inode,
            "call": self.call,
            "leader": None if self.leader is None else _path_from(folder, self.leader),
            "members": [_path_from(folder, member) for member in self.members],
        }
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)  # whoever put it there: it may be a link
        write_new(fresh, json.dumps(note).encode(), sync=False)
        os.replace(fresh, path)


def note_placed(note: Path, placed: Iterable[tuple[Path, Path]], *, folder: Path, sync: bool) -> None:
    """Note which staged files are about to replace something at which targets, all below the folder of the document.

    The note does not exist yet, and is not written if nothing is to be noted.
    """
    entries = [_placed(part, target.relative_to(folder)) for part, target in placed]
    if entries:
        write_new(note, json.dumps(entries).encode(), sync=sync)


def was_placed(note: Path, target: Path, *, folder: Path) -> bool:
    """Whether what stands at a target is what a note of `note_placed` names."""
    noted = read_note(note)
    name = _path_from(folder, target)
    entries = [entry for entry in noted if isinstance(entry, dict)] if isinstance(noted, list) else []
    return any(entry.get("target") == name and _is_noted(target, entry) for entry in entries)


def _placed(part: Path, target: Path) -> dict[str, Any]:
    status = os.lstat(part)
    entry: dict[str, Any] = {"target": str(target), "size": status.st_size}
    if stat.S_ISLNK(status.st_mode):
        return entry | {"link": os.readlink(part)}
    # Inodes are not the same after a remount everywhere, nor in a copy of the folder.
    return entry | {"inode": status.st_ino, "mtime": status.st_mtime_ns, "sha256": digest_of(part)}


def _is_noted(target: Path, entry: dict[str, Any]) -> bool:
    status = os.lstat(target)
    if stat.S_ISLNK(status.st_mode):
        return bool(entry.get("link") == os.readlink(target))
    if not stat.S_ISREG(status.st_mode) or status.st_size != entry.get("size"):
        return False
    is_the_file = (status.st_ino, status.st_mtime_ns) == (entry.get("inode"), entry.get("mtime"))
    return is_the_file or bool(digest_of(target) == entry.get("sha256"))


def read_note(path: Path) -> Any:
    """What a file of the folder says; None if it is not there, or is not JSON of a sensible size."""
    try:
        if not is_regular(path) or os.lstat(path).st_size > _LONGEST:
            return None
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None


def is_regular(path: Path) -> bool:
    """Whether a path is a regular file itself, and not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def inode_of(path: Path) -> int | None:
    """The inode of what is at a path, links not followed; None if there is nothing."""
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


def _document_at(folder: Path, name: Any) -> Path | None:
    """Another document of a call, by the path that a mark has it under."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    return Path(os.path.normpath(folder / name))


def _path_from(folder: Path, path: Path) -> str:
    """The path from a folder to another place; an absolute one to another drive of Windows."""
    try:
        return relative_path(path, folder)
    except ValueError:
        return str(path)

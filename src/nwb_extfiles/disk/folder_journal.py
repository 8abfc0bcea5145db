"""Changes of files inside a folder, such as a Zarr store, that a crash cannot leave half done.

The twin of `journal` for documents that are folders. What is to be changed is known before the folder is touched, as
new content by relative path. What these files held before is written to a journal outside the folder and flushed;
then each file is replaced by a rename. Until the caller removes the journal, `put_back` undoes the edit.

A journal may come with a download like the folder itself, so what it names is looked at before anything is written:
every path leads through folders, not links, to a place inside.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import TransferError
from . import filesystem

__all__ = ["MAGIC", "Changes", "edit_files", "is_whole", "put_back", "states", "write_journal"]

Changes = Mapping[str, bytes | None]
"""New content of files by path relative to the folder, with forward slashes; None for a file that goes."""

# magic, then (length of the path, 0 for a file that was not there and 1 for one that was, length of its content), path,
# content, and the SHA-256 of its new content (zeros if it goes) for each file, then the SHA-256 of all before
MAGIC = b"nwb-extfiles journal of a folder 2\n"
_ENTRY = struct.Struct("<QQQ")
_DIGEST = hashlib.sha256().digest_size
_PAGE = "page"  # beside the journal: what gets a name in the folder next


def edit_files(folder: Path, changes: Changes, journal: Path | None, *, sync: bool = True) -> None:
    """Change files in a folder so that a crash leaves it as it was or as it shall be.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; nobody else may be writing to it.
    changes : mapping
        What to write.
    journal : pathlib.Path, optional
        Where to write the journal; it does not exist, and its folder is on the file system of `folder`. It stays for
        the caller to remove when the edit is to last. Without one a crash leaves some files changed and others not.
    sync : bool
        Whether each step is flushed to the disk before the next begins.

    Raises
    ------
    TransferError
        If a path leads out of the folder, or through a link; nothing is changed.
    OSError
        `put_back` is to be called then, if there is a journal.
    """
    places = {name: _place(folder, name) for name in changes}
    if journal is not None:
        _note_changes(journal, places, changes, sync)
    page = (folder if journal is None else journal.parent) / _PAGE
    _write(folder, [(places[name], content) for name, content in changes.items()], page, sync)


def _place(folder: Path, name: str) -> Path:
    """Where a relative path leads to; refuses to leave the folder."""
    path = PurePosixPath(name)
    wrong = not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name
    place = folder / path
    if not wrong and not PureWindowsPath(name).drive:
        above = [folder / parent for parent in path.parents]
        wrong = any(os.path.lexists(parent) and not filesystem.is_folder(parent) for parent in above)
        if not wrong and not place.is_dir():
            return place
    raise TransferError(
        f"{place} is to be written in {folder}, but is not a path to a file in it, or a link is on the way",
        hint=f"look where {folder} comes from, and what is beside it under names that begin with a dot",
    )


def _write(folder: Path, contents: Iterable[tuple[Path, bytes | None]], page: Path, sync: bool) -> None:
    touched: set[Path] = set()
    for place, content in contents:
        if content is None:
            place.unlink(missing_ok=True)
        else:
            made: list[Path] = []
            filesystem.make_folders(place.parent, made)
            touched.update(new.parent for new in made)
            page.unlink(missing_ok=True)  # whoever put it there: it may be a link
            replaced = place if place.is_file() and not place.is_symlink() else None
            mode = 0o666 & os.stat(place.parent).st_mode
            filesystem.write_new(page, content, sync=sync, like=replaced, mode=mode)
            os.replace(page, place)
        touched.add(place.parent)
    for above in touched.copy():
        touched.update(_remove_empty(above, folder))
    if sync:
        filesystem.sync_folders(place for place in touched if place.is_dir())


def _remove_empty(place: Path, folder: Path) -> Iterator[Path]:
    """Remove a folder, and those above it in another one, as far as nothing is in them; gives where names went."""
    while place != folder and place.is_dir() and not any(place.iterdir()):
        place.rmdir()
        place = place.parent
        yield place


def _note_changes(journal: Path, places: Mapping[str, Path], changes: Changes, sync: bool) -> None:
    content = bytearray(MAGIC)
    for name, place in places.items():
        is_there = os.path.lexists(place)
        old = place.read_bytes() if is_there else b""
        encoded = os.fsencode(name)
        content += _ENTRY.pack(len(encoded), is_there, len(old)) + encoded + old + _digest(changes[name])
    write_journal(journal, content, sync)


def write_journal(journal: Path, content: bytearray, sync: bool) -> None:
    """Write a journal of either kind, with the SHA-256 of its content at the end."""
    content += hashlib.sha256(content).digest()
    filesystem.write_new(journal, content, sync=sync)
    if sync:
        filesystem.sync_folder(journal.parent)


def _digest(content: bytes | None) -> bytes:
    """What a journal knows a new content by."""
    return bytes(_DIGEST) if content is None else hashlib.sha256(content).digest()


def is_whole(content: bytes, magic: bytes) -> bool:
    """Whether this is a journal of one kind that was written to its end."""
    return content.startswith(magic) and hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]


def put_back(folder: Path, journal: Path, content: bytes) -> bool:
    """Give the files of a folder the content that they had before an edit, from its journal with this content.

    The journal is complete, and stays. False, with nothing changed, if a file is neither as it was nor as it was to be:
    then the folder was written anew since. TransferError, with nothing changed, if the journal names what is not in the
    folder; after an OSError this is to be called again.
    """
    if states(folder, content) is None:
        return False
    former = [(place, old) for place, old, _ in _read_journal(folder, content)]
    _write(folder, former, journal.parent / _PAGE, True)
    return True


def states(folder: Path, content: bytes) -> list[tuple[bool, bool]] | None:
    """Whether each file of a journal is as it was, and as it was to be; None if one is neither."""
    found = []
    for place, old, digest in _read_journal(folder, content):
        here = place.read_bytes() if os.path.lexists(place) else None
        state = here == old, _digest(here) == digest
        if not any(state):
            return None
        found.append(state)
    return found


def _read_journal(folder: Path, content: bytes) -> Iterator[tuple[Path, bytes | None, bytes]]:
    """Place, old content and digest of the new content of each file."""
    position, end = len(MAGIC), len(content) - _DIGEST
    while position < end:
        length, was_there, size = _ENTRY.unpack_from(content, position)
        position += _ENTRY.size
        name = os.fsdecode(content[position : position + length])
        position += length
        old = content[position : position + size] if was_there else None
        position += size
        yield _place(folder, name), old, content[position : position + _DIGEST]
        position += _DIGEST

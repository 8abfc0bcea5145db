"""The one place where a name of a user's file is removed: only on proof that its content is safe elsewhere.

A path proves nothing. A bind mount, a FUSE mount or another spelling on a file system without letter case makes one
name look like two, and numbers of devices and inodes do not always tell. So a name is first renamed aside, in its own
folder. Whatever was only another view of it has vanished by then, and whatever is still there is another name. A name
that is not proven superfluous gets back to where it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from . import filesystem

__all__ = [
    "ASIDE_PREFIX",
    "MovedSource",
    "folded",
    "has_stamp",
    "is_same_name",
    "is_still",
    "may_be_same_name",
    "put_back_aside",
    "remove_sources",
    "stamp",
    "stays",
]

ASIDE_PREFIX = ".nwb-extfiles-aside-"
"""How a name begins that a file has while it is proven that it may go."""
_AT_ONCE = 256  # names that are aside at a time: each folder of their targets is listed once for all of them


class _OtherPathError(OSError):
    """What should go is what should stay, seen through another path: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class MovedSource:
    """A file that is in its new place, and names of it that are to go."""

    path: Path
    """The file itself."""
    stamp: tuple[int, ...]
    """What tells whether it is still the file that it was."""
    places: tuple[Path, ...]
    """The names that go: its own, or a symbolic link that leads to it. A file behind a link stays."""
    targets: tuple[tuple[Path, tuple[int, ...]], ...]
    """Where it must be found, and what tells whether that is still so."""


def remove_sources(moved: Iterable[MovedSource], *, sync: bool = True) -> list[str]:
    """Remove the old names of files that are in their new places; gives what was left, and why.

    Several sources may speak of one file, which goes if all of them find it where it should be. Left is a file that has
    changed since it was read, whose new one is not there, or whose new one turned out to be the very same name seen
    through another path. With `sync` the removals are flushed to the disk.
    """
    notes: list[str] = []
    going: dict[str, _Name] = {}
    staying: set[str] = set()
    for source in moved:
        try:
            _check(source)
        except OSError as error:
            staying.add(str(source.path))
            notes.append(stays(source.path, source.targets[0][0].parent, error))
            continue
        for place in source.places:
            name = going.get(str(place))
            if name is None:
                name = going[str(place)] = _Name(place, _aside(place), str(source.path), source.stamp, {})
            name.targets.update((str(target), expected) for target, expected in source.targets)
    folders: set[Path] = set()
    names = (name for name in going.values() if name.file not in staying)
    while batch := list(islice(names, _AT_ONCE)):
        folders.update(_remove(batch, notes))
    # All is in place and stays so, whatever happens now.
    for folder in folders if sync else ():
        try:
            filesystem.sync_folder(folder)
        except OSError as error:
            notes.append(
                f"{folder} could not be flushed, so what was moved from it may come back: {error.strerror or error}"
            )
    return notes


def put_back_aside(places: Iterable[Path]) -> None:
    """Give files that a killed run has renamed aside, to prove that their names may go, these names back."""
    for place in places:
        _give_back(_aside(place), place)


def _give_back(aside: str, place: Path) -> None:
    if os.path.lexists(aside) and not os.path.lexists(place):
        os.rename(aside, place)


def _aside(place: Path) -> str:
    """The name of a file while it is aside; always the same, so that a later run finds what a killed one has left."""
    folder, name = os.path.split(place)
    token = hashlib.blake2s(os.fsencode(name), digest_size=8).hexdigest()
    return os.path.join(folder, f"{ASIDE_PREFIX}{token}")


@dataclass(slots=True)
class _Name:
    """A name that is to go."""

    place: Path
    aside: str
    """Its name while it is proven that it may go."""
    file: str
    """What it leads to; itself if it is not a link."""
    stamp: tuple[int, ...]
    targets: dict[str, tuple[int, ...]]


def _check(source: MovedSource) -> None:
    """Raise OSError if a file is not what it was, or not where it should be."""
    if not all(has_stamp(target, expected) for target, expected in source.targets):
        raise OSError("the new one is not there any more")
    kept = source.path not in source.places  # itself the new one of something, or behind a link that goes
    if not kept and os.path.lexists(source.path) and not has_stamp(source.path, source.stamp):
        raise OSError("it has changed since it was read")


def _remove(batch: list[_Name], notes: list[str]) -> Iterator[Path]:
    """Put names aside, remove those that are proven superfluous, and give the others back; yields their folders."""
    aside: list[_Name] = []
    try:
        for name in batch:
            try:
                if _put_aside(name):
                    aside.append(name)
            except OSError as error:
                notes.append(_still_there(name, error))
        listed: dict[str, set[str]] = {}
        while aside:
            name = aside[-1]
            try:
                _prove(name, listed)
                filesystem.unlink(name.aside, name.targets)
            except OSError as error:
                _put_back(name)
                notes.append(_still_there(name, error))
            aside.pop()
            yield name.place.parent
    finally:
        for name in aside:  # an interrupt
            _put_back(name)


def _put_aside(name: _Name) -> bool:
    """Rename a name aside; False if there is none. Raises OSError if it is a target, or is not what it was."""
    is_there = os.path.lexists(name.place)
    if os.path.lexists(name.aside):
        if is_there:
            raise OSError(f"{name.aside} is in the way; look what it is, and move it away")
        os.rename(name.aside, name.place)  # a run was killed before it knew
    elif not is_there:
        return False
    for target in name.targets:
        if is_same_name(name.place, target):
            raise _OtherPathError(f"it is {target}, seen through another path")
    if not has_stamp(name.place, name.stamp):  # or it is a link, and points elsewhere by now
        raise OSError("it has changed since it was read")
    try:
        os.rename(name.place, name.aside)
    except FileNotFoundError:  # it went under another spelling, which the system has not noticed yet
        return False
    return True


def _prove(name: _Name, listed: dict[str, set[str]]) -> None:
    """Raise OSError unless every target is there while the name is not."""
    for target, expected in name.targets.items():
        folder, last = os.path.split(target)
        if folder not in listed:  # what the system remembers of a path may be older than the folder
            listed[folder] = {folded(entry) for entry in os.listdir(folder)}
        if folded(last) not in listed[folder] or not has_stamp(target, expected) or not _opens(target):
            raise _OtherPathError(f"{target} went with it, so both are one file, seen through two paths")


def _opens(path: str) -> bool:
    """Whether a file or folder is there to be opened; raises what else is wrong."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return True  # or a folder on Windows
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            return False
        raise
    return True


def _put_back(name: _Name) -> None:
    with suppress(OSError):  # it stays aside, and `_still_there` says so
        _give_back(name.aside, name.place)


def _still_there(name: _Name, error: OSError) -> str:
    called = f" as {name.aside}" if os.path.lexists(name.aside) else ""
    if isinstance(error, _OtherPathError) and not called:
        return f"{name.place} stays: {error}"
    return f"{name.place} was moved, but the old file is still there{called}: {error.strerror or error}"


def is_same_name(first: str | Path, second: str | Path) -> bool:
    """Whether two paths are one entry of one folder, as far as the numbers of devices and inodes tell.

    The last part of each is not followed if it is a symbolic link.
    """
    (folder, name), (other_folder, other_name) = os.path.split(first), os.path.split(second)
    if name != other_name and folded(name) != folded(other_name):
        return False
    try:
        if not os.path.samestat(os.lstat(first), os.lstat(second)):
            return False
        return os.path.samefile(folder, other_folder)
    except OSError:
        return False


def may_be_same_name(first: Path, second: Path) -> bool:
    """Whether two paths are one entry of one folder, or look like one that FUSE shows as if on a device of its own.

    As in `is_same_name`, the last part of each is not followed.
    """
    if is_same_name(first, second):
        return True
    try:
        one, other = os.lstat(first), os.lstat(second)
    except OSError:
        return False
    looks_alike = stamp(one)[1:] == stamp(other)[1:] and folded(first.name) == folded(second.name)
    return looks_alike and one.st_dev != other.st_dev


def folded(name: str) -> str:
    """A name as file systems compare it that do not know letter case, or know Unicode."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def stays(path: Path, folder: Path, error: OSError) -> str:
    """What to say of a file that was to go, and did not."""
    return f"{path} was moved to {folder}, but the old file is still there: {error.strerror or error}"


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """What tells a file from another, and from itself after it was written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_still(path: Path, status: os.stat_result | None) -> bool:
    """Whether a path leads to a file, and to the one that it led to."""
    return path.exists() if status is None else has_stamp(path, stamp(status))


def has_stamp(path: str | Path, expected: tuple[int, ...]) -> bool:
    """Whether a path leads to the file with a stamp."""
    try:
        return stamp(os.stat(path)) == expected
    except OSError:
        return False

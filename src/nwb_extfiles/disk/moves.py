"""The end of a move: old names go when the new ones are known to be good."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import filesystem

__all__ = ["MovedSource", "has_stamp", "is_still", "remove_sources", "stamp", "stays"]


@dataclass(frozen=True, slots=True)
class MovedSource:
    """A file that has got to its new place, and whose old one is to be removed."""

    path: Path
    stamp: tuple[int, ...]
    """What tells whether it is still the file that it was."""
    places: tuple[Path, ...]
    """Its names that go: its own, and symbolic links that led to it."""
    targets: tuple[tuple[Path, tuple[int, ...]], ...]
    """Where it must be found, and what tells whether that is still so."""


def remove_sources(moved: Iterable[MovedSource], *, sync: bool = True) -> list[str]:
    """Remove files that have got to their new places.

    Parameters
    ----------
    moved : iterable of MovedSource
        Several may speak of one file, which goes if all of them find it where it should be.
    sync : bool
        Whether the removals are flushed to the disk.

    Returns
    -------
    list of str
        What was left, and why: a file that has changed since it was read, or whose new one is not there.
    """
    notes: list[str] = []
    going: dict[Path, set[Path]] = {}  # names that go, by file
    staying: set[Path] = set()
    for source in moved:
        try:
            if not all(has_stamp(target, expected) for target, expected in source.targets):
                raise OSError(errno.ESTALE, "the new one is not there any more")
            kept = source.path not in source.places  # itself the new one of something
            if not kept and os.path.lexists(source.path) and not has_stamp(source.path, source.stamp):
                raise OSError(errno.ESTALE, "it has changed since it was read")
            going.setdefault(source.path, set()).update(source.places)
        except OSError as error:
            staying.add(source.path)
            notes.append(stays(source.path, source.targets[0][0].parent, error))
    folders = set()
    for path, places in going.items():
        try:
            for place in places if path not in staying else ():
                place.unlink(missing_ok=True)
                folders.add(place.parent)
        except OSError as error:
            notes.append(f"{path} was moved, but the old file is still there: {error}")
    # All is in place and stays so, whatever happens now.
    for folder in folders if sync else ():
        try:
            filesystem.sync_folder(folder)
        except OSError as error:
            notes.append(f"{folder} could not be flushed, so what was moved from it may come back: {error}")
    return notes


def stays(path: Path, folder: Path, error: OSError) -> str:
    """What to tell of a file that was to go, and did not."""
    return f"{path} was moved to {folder}, but the old file is still there: {error}"


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """What tells a file from another, and from itself after it was written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_still(path: Path, status: os.stat_result | None) -> bool:
    """Whether a path leads to a file, and to the one that it led to."""
    return path.exists() if status is None else has_stamp(path, stamp(status))


def has_stamp(path: Path, expected: tuple[int, ...]) -> bool:
    """Whether a path leads to the file with a stamp."""
    try:
        return stamp(os.stat(path)) == expected
    except OSError:
        return False

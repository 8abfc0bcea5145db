"""Old names that a move has yet to remove, noted for the run that comes after a kill.

A transfer has the note in its staging folder; a call that removes the old names of many documents at its end has one of
its own (`removals_noted`). A note may come with a download, so nothing is removed by its word alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..disk.contents import same_content
from ..disk.filesystem import relative_path, sync_folder
from ..disk.locks import FileLock
from ..disk.moves import MovedSource, put_back_aside, remove_sources

__all__ = ["finish_removals", "note_of_removals", "put_back", "put_back_noted", "removals_noted"]

_NOTE = ".nwb-extfiles-removals-"


def note_of_removals(moved: Iterable[MovedSource], folder: Path) -> bytes:
    """The note; empty if nothing is to be removed. What was moved is in the folder."""
    notes = [
        {
            "path": str(source.path),
            "stamp": source.stamp,
            "places": [str(place) for place in source.places],
            "targets": [[relative_path(target, folder), stamp] for target, stamp in source.targets],
        }
        for source in moved
        if source.places
    ]
    return json.dumps(notes).encode() if notes else b""


def finish_removals(note: Any, folder: Path) -> list[str]:
    """Remove what a note names, if it is proven once more; gives what stays, and why.

    The old name must still be the very file that was moved, and each place where that went, in the folder, must hold
    the same bytes.
    """
    put_back(note)  # what a kill has left aside is looked at under its own name
    return remove_sources(_proven(note, folder))


def put_back(note: Any) -> None:
    """Give the names that a note names back to files that a killed run has renamed aside."""
    for entry in note if isinstance(note, list) else ():
        try:
            put_back_aside(Path(place) for place in entry["places"] if os.path.isabs(place))
        except (KeyError, TypeError, ValueError, OSError):  # not as we write it, or not there any more
            continue


def _proven(note: Any, folder: Path) -> Iterator[MovedSource]:
    for entry in note if isinstance(note, list) else ():
        try:
            source = _read(entry, folder)
            if source is not None and (not os.path.lexists(source.path) or _is_there(source, folder)):
                yield source
        except (KeyError, TypeError, ValueError, OSError):  # not as we write it, or not there any more
            continue


def _read(entry: Any, folder: Path) -> MovedSource | None:
    path = Path(entry["path"])
    targets = tuple(
        (Path(os.path.normpath(folder / target)), tuple(map(int, stamp))) for target, stamp in entry["targets"]
    )
    places = tuple(map(Path, entry["places"]))
    links = [place for place in places if place != path]
    is_ours = (
        targets
        and path.is_absolute()
        and all(place.is_symlink() and os.path.realpath(place) == str(path) for place in links)
    )
    return MovedSource(path, tuple(map(int, entry["stamp"])), places, targets) if is_ours else None


def _is_there(source: MovedSource, folder: Path) -> bool:
    real_folder = os.path.realpath(folder)
    is_link = source.path.is_symlink()  # which goes alone: what it leads to stays
    return all(
        Path(os.path.realpath(target.parent)).is_relative_to(real_folder)
        and (is_link or os.path.realpath(target) != str(source.path))
        and same_content(target, source.path)
        for target, _ in source.targets
    )


@contextmanager
def removals_noted(folder: Path, moved: Iterable[MovedSource], *, sync: bool) -> Iterator[None]:
    """Keep a note of the names that are removed in this block, so that `put_back_noted` can undo a killed removal.

    Raises OSError if it cannot be written. It is removed at the end of the block.
    """
    before = os.stat(folder)
    lock = FileLock(folder / f"{_NOTE}{uuid4().hex[:8]}")
    try:
        lock.write(note_of_removals(moved, folder), sync=sync)
        if sync:
            sync_folder(folder)
        yield
    finally:
        with suppress(OSError):  # the next run finds that all that it names is done
            lock.release()
            os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))  # a note is no change of the dandiset


def put_back_noted(folder: Path, *, also_below: bool = False) -> None:
    """Give files whose removal was killed their names back: those that are named by the notes in a folder.

    A note of a run that is still at work is left alone. One that came with a download can do nothing but give a file
    its former name.
    """
    for path in sorted(folder.rglob(f"{_NOTE}*") if also_below else folder.glob(f"{_NOTE}*")):
        try:
            lock = FileLock(path)
        except OSError:
            continue
        with suppress(ValueError, RecursionError):
            put_back(json.loads(lock.read()))
        with suppress(OSError):
            lock.release()

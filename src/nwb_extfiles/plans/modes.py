"""Which mode is used where several may be: the first that the file systems allow for the media of an NWB file.

The file system is asked, once for each folder with media and each kind of file in it: Linux lets nobody make a hard
link to a file of another user that they may not write to (``fs.protected_hardlinks``).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..disk import contents, filesystem, links
from ..options import MediaMode
from .media_files import MediaFile

__all__ = ["fallbacks_after", "first_possible", "is_possible", "own_modes"]


def first_possible(modes: Sequence[MediaMode], files: Iterable[MediaFile], nwb_path: Path) -> MediaMode:
    """The first mode in which files of all folders can get to that of an NWB file; the last one if none is possible.

    Parameters
    ----------
    modes : sequence of MediaMode
        In the order of trying. A copy, a move and a new path are always possible, as far as this is asked: that space
        is short is a problem of the plan.
    files : iterable of MediaFile
        All media of the NWB file.
    nwb_path : pathlib.Path
        Where the NWB file is or will be.
    """
    if len(modes) == 1:
        return modes[0]
    folder, found = filesystem.nearest_folder(nwb_path.parent), list(files)
    found = [file for file in found if not _is_protected(file.real)] or found
    return next((mode for mode in modes if is_possible(mode, found, folder)), modes[-1])


def _is_protected(path: Path) -> bool:
    """Whether a file belongs to another user and may not be written to, which says nothing of its file system."""
    return os.name != "nt" and os.stat(path).st_uid != os.geteuid() and not os.access(path, os.W_OK)


def fallbacks_after(mode: MediaMode, modes: Sequence[MediaMode]) -> tuple[MediaMode, ...]:
    """The modes after one, for single files. Of a file that is to be moved only then, the original stays."""
    further = list(modes)[list(modes).index(mode) + 1 :]
    copies = (MediaMode.COPY if other is MediaMode.MOVE else other for other in further)
    return tuple(dict.fromkeys(other for other in copies if other is not MediaMode.REFERENCE))


def own_modes(
    mode: MediaMode, fallbacks: Sequence[MediaMode], files: Iterable[MediaFile], nwb_path: Path
) -> dict[tuple[int, int], MediaMode]:
    """The modes of files that cannot have a hard link for a reason of their own, by device and inode.

    Each gets the first of the `fallbacks` that is possible for it; what else may fail for single files shows only when
    they are staged.
    """
    if mode is not MediaMode.HARDLINK or not fallbacks:
        return {}
    folder = filesystem.nearest_folder(nwb_path.parent)
    return {
        file.identity: first_possible(fallbacks, [file], nwb_path)
        for _, alike in _kinds(files)
        if not links.can_link(alike[0].real, folder)
        for file in alike
    }


def is_possible(mode: MediaMode, files: Iterable[MediaFile], folder: Path) -> bool:
    """Whether some file of each folder can get to an existing folder in a mode; nothing that is tried stays there."""
    if mode is MediaMode.SYMLINK:
        return links.can_symlink(folder)
    test = {MediaMode.HARDLINK: links.can_link, MediaMode.REFLINK: contents.can_clone}.get(mode)
    if test is None:
        return True
    kinds: dict[Path, list[Path]] = defaultdict(list)
    for place, alike in _kinds(files):
        kinds[place].append(alike[0].real)
    return all(any(test(real, folder) for real in reals) for reals in kinds.values())


def _kinds(files: Iterable[MediaFile]) -> Iterator[tuple[Path, list[MediaFile]]]:
    """Each folder with files of it that have the same owner and permission bits."""
    kinds: dict[tuple[Path, int, int], list[MediaFile]] = defaultdict(list)
    for file in files:
        status = os.stat(file.real)
        kinds[file.real.parent, status.st_uid, status.st_mode].append(file)
    for (place, _, _), alike in kinds.items():
        yield place, alike

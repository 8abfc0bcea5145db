"""Which mode is used where several may be: the first that the file systems allow for all media of an NWB file.

The file system is asked, once for each pair of a folder with media and the folder of the NWB file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..disk import contents, filesystem, links
from ..options import MediaMode
from .media_files import MediaFile

__all__ = ["first_possible", "is_possible"]


def first_possible(modes: Sequence[MediaMode], files: Iterable[MediaFile], nwb_path: Path) -> MediaMode:
    """The first mode in which all files can get to the folder of an NWB file; the last one if none is possible.

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
    return next((mode for mode in modes if is_possible(mode, found, folder)), modes[-1])


def is_possible(mode: MediaMode, files: Iterable[MediaFile], folder: Path) -> bool:
    """Whether files can get to an existing folder in a mode; tried with one of each folder, and nothing stays there."""
    if mode is MediaMode.SYMLINK:
        return links.can_symlink(folder)
    test = {MediaMode.HARDLINK: links.can_link, MediaMode.REFLINK: contents.can_clone}.get(mode)
    one_of_each = {file.real.parent: file.real for file in files}
    return test is None or all(test(real, folder) for real in one_of_each.values())

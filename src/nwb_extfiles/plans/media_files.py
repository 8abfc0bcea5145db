"""Which media file is at a place, and whether a link leads to it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..disk.annex import holds_pointer, is_annex_pointer
from ..hints import quoted

__all__ = ["NOT_FETCHED", "MediaFile", "behind_link", "leads_to_nothing", "linked_folder", "media_file"]

NOT_FETCHED = "a file of git-annex, whose content is not on this machine"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A regular file on this machine that a reference means."""

    path: Path
    """Absolute; its folder has no symbolic links, its name is as the folder lists it (it may itself be a link)."""
    real: Path
    """The file itself, every symbolic link followed."""
    size: int
    """In bytes."""
    identity: tuple[int, int]
    """Device and inode: equal for all names of one file."""
    linked_path: Path | None = None
    """The path through a linked folder by which it was found, if that link leads out of the folders of the NWB file, to
    media that others may share."""

    @property
    def is_link(self) -> bool:
        """Whether the name is a symbolic link to a file somewhere else."""
        return os.path.normcase(self.path) != os.path.normcase(self.real)


def media_file(
    place: Path,
    real_path: Callable[[str], str] = os.path.realpath,
    listed_name: Callable[[str, str], str] = lambda folder, name: name,
) -> MediaFile | str:
    """The regular file at a place, or why there is none.

    `real_path` resolves symbolic links in its folder; `listed_name` says how a folder lists a name.
    """
    try:
        status = os.lstat(place)
        folder, name = os.path.split(place)
        real_folder, listed = real_path(folder), listed_name(folder, name)
        # the same object if it is spelled so already: making a path takes longer than looking at the file
        path = place if (real_folder, listed) == (folder, name) else Path(real_folder, listed)
        if path is not place:
            status = os.lstat(path)  # with FUSE a name in another letter case may have another inode
        real = path
        if stat.S_ISLNK(status.st_mode) or os.name == "nt":  # on Windows names have several spellings
            status = os.stat(place)
            real = Path(os.path.realpath(place))
    except (OSError, ValueError) as error:  # ValueError: characters that the file system cannot encode
        if isinstance(error, FileNotFoundError) and is_annex_pointer(place):
            return NOT_FETCHED
        if isinstance(error, FileNotFoundError) and os.path.islink(place):
            return leads_to_nothing(place)
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISREG(status.st_mode):
        return f"{_kind(status.st_mode)}; only regular files are media"
    if holds_pointer(place, status.st_size):
        return NOT_FETCHED
    return MediaFile(path, real, status.st_size, (status.st_dev, status.st_ino))


def leads_to_nothing(place: str | Path) -> str:
    """What a broken symbolic link is, in words."""
    return f"a symbolic link to {quoted(os.readlink(place))}, which does not exist"


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "not a regular file"


def linked_folder(folder: str, nwb_folder: str, real_path: Callable[[str], str] = os.path.realpath) -> Path | None:
    """A folder by way of the first link on its path that leads out of the folders of the NWB file; None without one.

    A link from elsewhere to a folder that the NWB file is in too, such as ``/data`` to ``/disk/data``, leads to nothing
    of others. One that lies in that folder itself is a way up and out, to whatever is there.
    """
    real_nwb_folder, place = Path(real_path(nwb_folder)), Path(folder)
    current = Path(place.anchor)
    parts = place.parts[1:]
    for number, part in enumerate(parts, 1):
        link = current / part
        current = Path(real_path(str(link)))
        is_alias = real_nwb_folder.is_relative_to(current) and not link.parent.is_relative_to(current)
        if current != link and link.is_symlink() and not is_alias:
            return link.joinpath(*parts[number:])
    return None


def behind_link(
    file: MediaFile, place: Path, nwb_folder: str, through: Callable[[str, str], Path | None] = linked_folder
) -> MediaFile:
    """A file with its `linked_path`; `through` is `linked_folder`, or remembers what that gave."""
    folder, name = os.path.split(place)
    if os.path.normpath(folder) == os.path.dirname(file.path):
        return file
    linked = through(folder, nwb_folder)
    return file if linked is None else replace(file, linked_path=linked / name)

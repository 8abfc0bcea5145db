"""How folders on the disk spell names, where file systems take names for equal that differ in letter case."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path, PurePosixPath

from .moves import folded

__all__ = ["Spelling"]


class Spelling:
    """Names as their folders list them. Each folder is asked once, and listed only if letter case does not count in it.

    Attributes
    ----------
    real_path : callable
        A path as `os.path.realpath` gives it, and each name in it as listed. What does not exist stays as it is.
    """

    def __init__(self) -> None:
        self.real_path = cache(lambda path: self._as_listed(os.path.realpath(path)))
        self._listed: dict[str, dict[str, str]] = {}  # by folder: names by what is equal to them
        self._is_there = cache(os.path.lexists)  # for folders, of which there are few

    def listed_name(self, folder: str, name: str) -> str:
        """The name that a folder lists for one by which something can be found in it."""
        if folder not in self._listed:
            other = name.swapcase()
            if other == name or not os.path.lexists(os.path.join(folder, name)):
                if not self._is_there(folder):
                    self._listed[folder] = {}
                return name  # which does not tell
            # inodes would not tell: with FUSE the two spellings of one file may have two
            self._listed[folder] = _names(folder) if os.path.lexists(os.path.join(folder, other)) else {}
        listed = self._listed[folder].get(folded(name), name)
        return listed if listed == name or os.path.lexists(os.path.join(folder, name)) else name

    def relative(self, folder: Path, path: PurePosixPath) -> PurePosixPath:
        """A path below a folder, with each name as listed."""
        place, spelled = str(folder), list[str]()
        for name in path.parts:
            spelled.append(self.listed_name(place, name))
            place = os.path.join(place, spelled[-1])
        return path if tuple(spelled) == path.parts else PurePosixPath(*spelled)  # making one takes longer

    def _as_listed(self, path: str) -> str:
        folder, name = os.path.split(path)
        if not name:
            return path
        spelled, listed = self._as_listed(folder), self.listed_name(folder, name)
        return path if (spelled, listed) == (folder, name) else os.path.join(spelled, listed)


def _names(folder: str) -> dict[str, str]:
    """The names in a folder by what is equal to them; none if letter case counts after all, or it cannot be listed."""
    try:
        listed = os.listdir(folder)
    except OSError:
        return {}
    names = {folded(name): name for name in listed}
    return names if len(names) == len(listed) else {}

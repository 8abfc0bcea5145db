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
        self._listed: dict[str, dict[str, set[str]] | None] = {}  # by folder: names by what is equal to them

    def listed_name(self, folder: str, name: str) -> str:
        """The name that a folder lists for one by which something can be found in it."""
        if folder not in self._listed:
            other = name.swapcase()
            if other == name or not os.path.lexists(os.path.join(folder, name)):
                return name  # which does not tell
            # inodes would not tell: with FUSE the two spellings of one file may have two
            self._listed[folder] = _names(folder) if os.path.lexists(os.path.join(folder, other)) else None
        listed = self._listed[folder]
        alike = set() if listed is None else listed.get(folded(name), set())
        return next(iter(alike)) if len(alike) == 1 else name  # two: letter case counts after all

    def relative(self, folder: Path, path: PurePosixPath) -> PurePosixPath:
        """A path below a folder, with each name as listed."""
        spelled = PurePosixPath()
        for name in path.parts:
            spelled /= self.listed_name(str(folder / spelled), name)
        return spelled

    def _as_listed(self, path: str) -> str:
        folder, name = os.path.split(path)
        if not name:
            return path
        spelled, listed = self._as_listed(folder), self.listed_name(folder, name)
        return path if (spelled, listed) == (folder, name) else os.path.join(spelled, listed)


def _names(folder: str) -> dict[str, set[str]] | None:
    names: dict[str, set[str]] = {}
    try:
        for name in os.listdir(folder):
            names.setdefault(folded(name), set()).add(name)
    except OSError:
        return None
    return names

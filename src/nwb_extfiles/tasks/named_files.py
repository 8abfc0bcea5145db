"""The NWB files that a user names, and what is refused because it is not one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from ..errors import ExternalFilesError, MediaExistsError, RelocationRefusedError, UnreadableFileError, warn_all
from ..nwb.files import find_nwb_files, nwb_files_called_like, zarr_marker
from ..options import MediaOptions

__all__ = [
    "Globs",
    "files_in_folders",
    "is_plain_folder",
    "is_skipped",
    "named_nwb_files",
    "require_nwb",
    "warn_left_out",
]


@dataclass(frozen=True, slots=True)
class Globs:
    """Which of the NWB files in folders are meant: those that fit a pattern to include, if any, and none to exclude.

    A pattern fits the path below the folder that was named, the name of the file, or a folder that the file is in;
    ``*`` stands for slashes too.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def fit(self, path: Path, folder: str | os.PathLike[str]) -> bool:
        """Whether a file in a folder is meant; one that was named itself always is."""
        if str(path) == os.path.abspath(folder):
            return True
        below = PurePath(os.path.relpath(path, folder))
        names = [path.name, below.as_posix(), *(parent.as_posix() for parent in below.parents)]

        def fits_one(patterns: Iterable[str]) -> bool:
            return any(fnmatchcase(name, pattern.rstrip("/")) for pattern in patterns for name in names)

        return (not self.include or fits_one(self.include)) and not fits_one(self.exclude)


def named_nwb_files(
    paths: Iterable[str | os.PathLike[str]], problems: list[ExternalFilesError], globs: Globs | None = None
) -> dict[Path, None]:
    """The NWB files that a user names, and those in the folders named.

    A folder without any is a problem, but for the media folder of an NWB file that is named too: the patterns of shells
    (``sessions/*``) name both.
    """
    paths = list(paths)
    found: dict[Path, None] = {}
    for path in paths:
        files = dict.fromkeys(file for file in find_nwb_files([path]) if globs is None or globs.fit(file, path))
        if not files and not _is_named_with_its_nwb_file(path, paths):
            folder, which = os.path.abspath(path), "" if globs is None else " that fits the patterns"
            problems.append(
                RelocationRefusedError(
                    f"{folder}: there is no NWB file in this folder{which}",
                    hint="name NWB files, or folders that have some",
                    nwb_path=folder,
                )
            )
        found |= files
    return found


def _is_named_with_its_nwb_file(folder: str | os.PathLike[str], paths: Iterable[str | os.PathLike[str]]) -> bool:
    named = {Path(os.path.abspath(path)) for path in paths}
    return not named.isdisjoint(nwb_files_called_like(os.path.abspath(folder)))


def files_in_folders(paths: Iterable[str | os.PathLike[str]], problems: list[ExternalFilesError]) -> Iterator[Path]:
    """The paths that a user names, whether they exist or not; of folders, the NWB files in them."""
    paths = list(paths)
    for path in paths:
        if is_plain_folder(path):
            yield from named_nwb_files([path], [] if _is_named_with_its_nwb_file(path, paths) else problems)
        else:
            yield Path(os.path.abspath(path))


def is_plain_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, and not a Zarr store."""
    return os.path.isdir(path) and zarr_marker(Path(path)) is None


def is_skipped(error: ExternalFilesError, options: MediaOptions) -> bool:
    """Whether an NWB file is left out, because other media or another NWB file are where its own would be."""
    return options.existing == "skip" and all(isinstance(problem, MediaExistsError) for problem in error.problems)


def warn_left_out(errors: Iterable[ExternalFilesError]) -> None:
    """Warn of NWB files that are left out."""
    warn_all(f"left out: {error.problems[0].what}{_and_more(error)}" for error in errors)


def _and_more(error: ExternalFilesError) -> str:
    return f" ({len(error.problems) - 1:,} more such problems)" if len(error.problems) > 1 else ""


def require_nwb(file: Any, path: Path) -> None:
    """Raise an UnreadableFileError if an open HDF5 file or Zarr store is not an NWB file."""
    if "nwb_version" in file.attrs or "nwb_version" in file:  # an attribute since NWB 2.0, and a dataset before
        return
    raise UnreadableFileError(
        f"{path}: it has no nwb_version, so it is not an NWB file", hint="name an NWB file", nwb_path=str(path)
    )

"""The NWB files that a user names, and what is refused because it is not one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ExternalFilesError, RelocationRefusedError, UnreadableFileError
from ..nwb.files import find_nwb_files

__all__ = ["named_nwb_files", "require_nwb"]


def named_nwb_files(paths: Iterable[str | os.PathLike[str]], problems: list[ExternalFilesError]) -> dict[Path, None]:
    """The NWB files that a user names, and those in the folders named; a folder without any is a problem."""
    found: dict[Path, None] = {}
    for path in paths:
        files = dict.fromkeys(find_nwb_files([path]))
        if not files:
            folder = os.path.abspath(path)
            problems.append(
                RelocationRefusedError(
                    f"{folder}: there is no NWB file in this folder",
                    hint="name NWB files, or folders that have some",
                    nwb_path=folder,
                )
            )
        found |= files
    return found


def require_nwb(file: Any, path: Path) -> None:
    """Raise an UnreadableFileError if an open HDF5 file or Zarr store is not an NWB file."""
    if "nwb_version" in file.attrs or "nwb_version" in file:  # an attribute since NWB 2.0, and a dataset before
        return
    raise UnreadableFileError(
        f"{path}: it has no nwb_version, so it is not an NWB file", hint="name an NWB file", nwb_path=str(path)
    )

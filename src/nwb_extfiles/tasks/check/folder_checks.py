"""Checks of folders: media and interrupted runs without an NWB file, and names that differ in letter case alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...hints import counted
from ...naming import is_conventional
from ...nwb.files import nwb_files_called_like, zarr_marker
from ...plans.targets import STAGING_PREFIX
from ...transfers.interrupted import NO_DOCUMENT, without_document
from .findings import Finding, Severity, of_file

__all__ = ["check_folders"]


def check_folders(root: Path, seen: set[str]) -> Iterator[Finding]:
    """Find what is wrong with a folder and those in it, but for those in `seen`, which gets all that were checked."""
    for place, folders, names in os.walk(root):
        is_interrupted_run = any(name.startswith(STAGING_PREFIX) for name in folders)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if place in seen:
            continue
        seen.add(place)
        for staging, hint in without_document(Path(place)) if is_interrupted_run else ():
            yield of_file(staging, Severity.WARNING, "interrupted-run", NO_DOCUMENT, hint)
        if zarr_marker(Path(place)) is not None:
            folders.clear()
            continue
        yield from _unowned_media(place, names)
        yield from _alike_names(place, [*folders, *(name for name in names if not name.startswith("."))])


def _unowned_media(place: str, names: Iterable[str]) -> Iterator[Finding]:
    """A folder of media, by the names in it, without the NWB file that it belongs to."""
    media = sum(map(is_conventional, names))
    if media and not nwb_files_called_like(place):
        nwb_name = f"{os.path.basename(place)}.nwb"
        yield of_file(
            Path(place), Severity.WARNING, "no-nwb-file", f"this folder holds media, but there is no {nwb_name!r} "
            f"beside it ({counted(media, 'file')})",
            "if that file was renamed, run `nwb-extfiles relocate` on it to rename this folder too",
        )  # fmt: skip


def _alike_names(place: str, names: Iterable[str]) -> Iterator[Finding]:
    """Names of which Windows and macOS keep one, such as ``a.nwb`` and ``A.nwb``."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    for same in alike.values():
        if len(same) > 1:
            yield of_file(
                Path(place), Severity.WARNING, "alike-names", "names in this folder differ in upper and lower case "
                "alone, and Windows and macOS keep only one of them",
                "rename all but one; if they are NWB files, run `nwb-extfiles relocate` on the renamed ones",
                found=", ".join(map(repr, sorted(same))),
            )  # fmt: skip

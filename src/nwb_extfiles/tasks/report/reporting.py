"""Writes a report: NWB files, their media, and what is wrong with them, as one page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from ...disk.filesystem import with_real_folder, write_new
from ...disk.links import rename_exclusive
from ...errors import ExternalFilesError, RelocationRefusedError
from ...hints import Hint
from ...options import MediaOptions
from ..check.video_checks import Frames
from .data import Report
from .gathering import gather
from .page import GENERATOR, page

__all__ = ["report", "reported"]


def report(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    frames: Frames | None = None,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    jobs: int = 1,
) -> Path:
    """Write a page on the media of NWB files: what is wrong with them, and what is there.

    The page is one HTML file without scripts, that needs no network. Videos are linked from it by relative paths, not
    copied, so they play while it stays in its folder. Thumbnails, lengths and numbers of frames need PyAV.

    Parameters
    ----------
    paths : path or iterable of paths
        NWB files, and folders in which NWB files are searched for. In folders, videos and images to which no NWB file
        refers are listed too.
    output : path
        The page, which ends in ``.html``, in a folder that exists.
    frames : {"index", "packets", "decode", "none"}, optional
        How frames are counted, as in `check`. With ``"none"`` videos are not opened, so there are no thumbnails either.
    media_options : MediaOptions or mapping, optional
        Of which `media_fields`, `naming` and `progress` are used, and `existing`: with ``"replace"``, an older report
        is replaced. Any other file is never replaced.
    jobs : int
        Number of processes that read NWB files and videos at the same time.

    Returns
    -------
    pathlib.Path
        The page. Nothing else is changed on disk; if it cannot be written, nothing is left of it.

    Raises
    ------
    FileNotFoundError
        If a path, or the folder of the page, does not exist.
    RelocationRefusedError
        If a file with that name exists, or the name does not end in ``.html``.
    ExternalFilesError
        If `frames` are to be counted, and PyAV is not installed.
    """
    place = with_real_folder(Path(os.path.abspath(output)))
    reported(paths, place, frames=frames, media_options=media_options, jobs=jobs)
    return place


def reported(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None,
    *,
    frames: Frames | None = None,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    jobs: int = 1,
) -> Report:
    """What the page of `report` shows, without thumbnails if `output` is None; else the page is written too."""
    options = MediaOptions.from_value(media_options)
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if output is None:
        return gather(paths, Path.cwd(), options, frames=frames, jobs=jobs, with_thumbnails=False)
    place = with_real_folder(Path(os.path.abspath(output)))
    _refuse(place, options)
    found = gather(paths, place.parent, options, frames=frames, jobs=jobs)
    _refuse(place, options)  # others may have written meanwhile
    _write(place, page(found).encode(), options)
    return found


def _write(place: Path, content: bytes, options: MediaOptions) -> None:
    staged = place.with_name(f".{place.name}.{uuid4().hex[:8]}")
    try:
        write_new(staged, content, mode=0o666)
        if options.existing == "replace":
            os.replace(staged, place)
        else:
            rename_exclusive(staged, place, sync=True)
    except FileExistsError:
        raise _exists(place) from None
    finally:
        staged.unlink(missing_ok=True)


def _refuse(place: Path, options: MediaOptions) -> None:
    """Refuse a page that cannot be written, or that would replace something."""
    if place.suffix.lower() not in (".html", ".htm"):
        raise RelocationRefusedError(f"{place}: a report is a web page", hint="give it a name that ends in .html")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{place.parent} does not exist; create the folder of the report first")
    if not os.path.lexists(place):
        return
    if options.existing != "replace":
        raise _exists(place)
    if not (place.is_file() and _is_report(place)):
        raise RelocationRefusedError(
            f"{place} exists, and is not a report of nwb-extfiles", hint="give the report another name"
        )


def _is_report(path: Path) -> bool:
    with open(path, "rb") as file:
        return GENERATOR.encode() in file.read(2_000)


def _exists(place: Path) -> ExternalFilesError:
    return RelocationRefusedError(
        f"{place} exists", hint=Hint("give the report another name, or replace an older report with {existing_replace}")
    )

"""Where the media of one reference can be opened: a path on this machine, or a URL.

`resolve` finds files on this machine. Here the NWB file itself may be elsewhere, behind a URL or in the DANDI archive,
and its relative texts lead beside it there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ..errors import ExternalFilesError, MissingMediaError, UnsafeReferenceError
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..web.archive import DandisetAssets
from ..web.remote import UNKNOWN_BASE, beside, is_opaque
from .resolve import Resolution, is_absolute, is_url, resolve

__all__ = ["LocationKind", "ResolvedExternalFile", "locate", "located"]


class LocationKind(StrEnum):
    """What a reference leads to."""

    FILE = "file"
    """A regular file on this machine, which is there."""
    URL = "url"
    """A URL: the text itself, or what it means beside an NWB file that is behind one. It was not asked for."""
    ASSET = "asset"
    """An asset of the dandiset that the NWB file is in, which is there."""
    NONE = "none"
    """Nothing that could be opened; `problem` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedExternalFile:
    """Where the media that one stored text names can be opened."""

    reference: ExternalFileReference
    """The stored text, and where it stands."""
    kind: LocationKind
    location: str | None = None
    """An absolute path or a URL that opens; None if there is none."""
    urls: tuple[str, ...] = ()
    """All URLs that lead there: for an asset its download URL, then that of its content (S3)."""
    size: int | None = None
    """Of a file on this machine, in bytes."""
    problem: ExternalFilesError | None = None
    """Why there is no location."""


def locate(
    reference: ExternalFileReference,
    options: MediaOptions,
    *,
    assets: DandisetAssets | None = None,
    real_path: Callable[[str], str] = os.path.realpath,
) -> ResolvedExternalFile:
    """Find out where the media of a reference can be opened.

    Parameters
    ----------
    reference : ExternalFileReference
        Its `base` is a folder, or the URL of one, or None for a container made in memory; a relative text of that is
        looked for in `search` and the working directory.
    options : MediaOptions
        Of which `path_map`, `search` and `within` are used. For an NWB file behind a URL what these find on this
        machine is taken first.
    assets : DandisetAssets, optional
        Of an NWB file in the DANDI archive.
    real_path : callable
        As in `resolve`.

    Returns
    -------
    ResolvedExternalFile
        Never raises for what a text says. Nothing but the archive is asked over the network.
    """
    text, base = reference.stored_path, reference.base
    afar = base is not None and is_url(base)
    folder = Path.cwd() if base is None or afar else Path(base)
    sought = replace(reference, base=UNKNOWN_BASE) if is_opaque(reference.nwb_path) else reference
    found = resolve(sought, options, destination=folder, working_folder=folder, real_path=real_path)
    problem = found.problem
    if problem is None or is_absolute(text) or not isinstance(problem, MissingMediaError):
        return located(replace(found, reference=reference))
    if assets is not None:
        return _asset(reference, assets)
    if afar:
        return _beside(reference)
    if is_opaque(reference.nwb_path):
        problem = MissingMediaError(
            f"{reference.where}: {text!r} is relative to an NWB file that is read from {reference.nwb_path}, which "
            f"does not tell where it lies; give its URL as opened_from= to resolve_external_files",
            **reference.place,
        )
    return ResolvedExternalFile(reference=reference, kind=LocationKind.NONE, problem=problem)


def located(found: Resolution) -> ResolvedExternalFile:
    """What was found on this machine, as callers get it."""
    reference = found.reference
    if found.url:
        url = reference.stored_path
        return ResolvedExternalFile(reference=reference, kind=LocationKind.URL, location=url, urls=(url,))
    if found.file is None:
        return ResolvedExternalFile(reference=reference, kind=LocationKind.NONE, problem=found.problem)
    return ResolvedExternalFile(
        reference=reference, kind=LocationKind.FILE, location=str(found.file.path), size=found.file.size
    )


def _asset(reference: ExternalFileReference, assets: DandisetAssets) -> ResolvedExternalFile:
    path = assets.path_of(reference.stored_path)
    problem: ExternalFilesError
    if path is None:
        problem = UnsafeReferenceError(
            f"{reference.where}: {reference.stored_path!r} leads out of {assets.dandiset}; expected a path in it",
            **reference.place,
        )
    elif urls := assets.find(path):
        return ResolvedExternalFile(reference=reference, kind=LocationKind.ASSET, location=urls[0], urls=urls)
    else:
        problem = MissingMediaError(
            f"{reference.where}: {reference.stored_path!r} would be the asset {path!r}, and {assets.dandiset} has none "
            f"of that path; ask its owner to upload it, or name a folder with the file in `search` in media_options",
            **reference.place,
        )
    return ResolvedExternalFile(reference=reference, kind=LocationKind.NONE, problem=problem)


def _beside(reference: ExternalFileReference) -> ResolvedExternalFile:
    url = beside(reference.nwb_path, reference.stored_path)
    if url is not None:
        return ResolvedExternalFile(reference=reference, kind=LocationKind.URL, location=url, urls=(url,))
    problem = UnsafeReferenceError(
        f"{reference.where}: {reference.stored_path!r} means no file that could be told from the URL "
        f"{reference.nwb_path}; name a folder with the file in `search` in media_options, or, for a file of a DANDI "
        f"archive, give opened_from= its dandi:// URL",
        **reference.place,
    )
    return ResolvedExternalFile(reference=reference, kind=LocationKind.NONE, problem=problem)

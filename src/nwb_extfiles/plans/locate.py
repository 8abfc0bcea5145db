"""Where the media of one reference can be opened: a path on this machine, or a URL.

`resolve` finds files on this machine. Here the NWB file itself may be elsewhere, behind a URL or in the DANDI archive,
and its relative paths are relative to its place there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from ..errors import ExternalFilesError, MissingMediaError, UnsafeReferenceError
from ..hints import Hint, counted
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..tables import Tabular, TabularList, plain
from ..web.archive import ArchivedFile, DandisetAssets, Dandisets
from ..web.remote import OPENED_FROM, UNKNOWN_BASE, beside
from .places import Known
from .resolve import Resolution, resolve
from .stored_paths import is_absolute, is_url

__all__ = ["ExternalFiles", "LocationKind", "ResolvedExternalFile", "asset_meant", "locate", "located"]


class LocationKind(StrEnum):
    """What a reference leads to."""

    FILE = "file"
    """A regular file that exists on this machine."""
    URL = "url"
    """A URL: as stored, or relative to that of the NWB file. Whether it exists was not checked."""
    ASSET = "asset"
    """An asset that exists in the dandiset of the NWB file."""
    NONE = "none"
    """Nothing that can be opened; `problem` says why."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResolvedExternalFile(Tabular):
    """Where the media of one stored path can be opened."""

    _columns: ClassVar[tuple[str, ...]] = (
        "nwb_path", "object_path", "neurodata_type", "object_id", "field", "index", "stored_path", "kind", "location",
        "bytes", "problem",
    )  # fmt: skip
    _shown_columns: ClassVar[tuple[str, ...]] = ("object_path", "index", "stored_path", "kind", "bytes", "location")

    reference: ExternalFileReference
    """The stored path, and where it is stored."""
    kind: LocationKind
    location: str | None = None
    """An absolute path or a URL that opens; None if there is none."""
    urls: tuple[str, ...] = ()
    """All URLs of the media: for an asset its download URL, then that of its content (S3)."""
    size: int | None = None
    """Of a file on this machine, in bytes."""
    problem: ExternalFilesError | None = None
    """Why there is no location."""

    def __str__(self) -> str:
        where = f"{self.reference.where}: {self.reference.stored_path!r}"
        return plain(f"{where} -> {self.location}" if self.problem is None else str(self.problem))

    def _title(self) -> str:
        reference = self.reference
        return f"{reference.object_path} {reference.field}[{reference.index}] {reference.stored_path!r} -> {self.kind}"

    def _records(self) -> Iterator[dict[str, Any]]:
        yield {
            "nwb_path": self.reference.nwb_path,
            **self.reference.record,
            "kind": str(self.kind),
            "location": self.location,
            "bytes": self.size,
            "problem": None if self.problem is None else str(self.problem),
        }


class ExternalFiles(TabularList[ResolvedExternalFile]):
    """A list of `ResolvedExternalFile`, that is printed and shown in a notebook as a table."""

    _columns = ResolvedExternalFile._columns
    _shown_columns = ("nwb_path", *ResolvedExternalFile._shown_columns)
    _html_columns = (*_shown_columns, "problem")

    def _title(self) -> str:
        files = len({entry.reference.nwb_path for entry in self})
        missing = sum(entry.kind is LocationKind.NONE for entry in self)
        return f"{counted(len(self), 'path')} in {counted(files, 'NWB file')}, {missing:,} without media"


def locate(
    reference: ExternalFileReference,
    options: MediaOptions,
    *,
    dandisets: Dandisets,
    memory: Known | None = None,
) -> ResolvedExternalFile:
    """Find out where the media of a reference can be opened. A bad path does not raise.

    The base of the reference is as `base_of` gives it, or None for a container made in memory, whose relative paths are
    looked for in `search` and the working directory. Of the options `path_map`, `search` and `within` are used; also
    for an NWB file behind a URL, files that these find on this machine come first. Only the DANDI archive is contacted
    over the network, for the assets beside an NWB file in it. `memory` is that of `resolve`.
    """
    stored_path, base = reference.stored_path, reference.base
    folder = Path.cwd() if base is None else Path(base)
    found = resolve(reference, options, destination=folder, memory=memory)
    problem = found.problem
    if problem is None or is_absolute(stored_path) or not isinstance(problem, MissingMediaError):
        return located(found)
    if base is None or not is_url(base):
        return located(found)
    assets = dandisets.around(base)
    return _beside(reference, base) if assets is None else _asset(reference, assets)


def ask_ahead(references: Iterable[ExternalFileReference], dandisets: Dandisets) -> None:
    """Have archives sign the URLs of what relative paths mean, before `locate` or `asset_meant` asks one by one."""
    meant: dict[str, list[str]] = {}
    for reference in references:
        stored_path, base = reference.stored_path, reference.base
        if base is not None and is_url(base) and not is_url(stored_path) and not is_absolute(stored_path):
            meant.setdefault(base, []).append(stored_path)
    for base, stored_paths in meant.items():
        with suppress(ExternalFilesError):  # which is found again for each path
            if (assets := dandisets.around(base)) is not None:
                assets.sign_ahead(stored_paths)


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
    found = asset_meant(reference, assets)
    if isinstance(found, ArchivedFile):
        urls = found.urls
        return ResolvedExternalFile(reference=reference, kind=LocationKind.ASSET, location=urls[0], urls=urls)
    return ResolvedExternalFile(reference=reference, kind=LocationKind.NONE, problem=found)


def asset_meant(reference: ExternalFileReference, assets: DandisetAssets) -> ArchivedFile | ExternalFilesError:
    """The asset that a relative path means in an NWB file with assets around it, or why there is none that opens."""
    path = assets.path_of(reference.stored_path)
    if path is None:
        return UnsafeReferenceError(
            f"{reference.where}: {reference.stored_path!r} points outside {assets.dandiset}; expected a path in it",
            **reference.place,
        )
    asset = assets.find(path)
    if asset is not None and asset.urls:
        return asset
    return MissingMediaError(
        f"{reference.where}: {reference.stored_path!r} would be the asset {path!r}, which {assets.dandiset} does "
        f"not have",
        hint=Hint("ask its owner to upload it, or name the folder of the file with {search}"),
        **reference.place,
    )


def _beside(reference: ExternalFileReference, base: str) -> ResolvedExternalFile:
    url = beside(base, reference.stored_path)
    if url is not None:
        return ResolvedExternalFile(reference=reference, kind=LocationKind.URL, location=url, urls=(url,))
    problem: ExternalFilesError
    if base == UNKNOWN_BASE:
        problem = MissingMediaError(
            f"{reference.where}: {reference.stored_path!r} is relative to an NWB file that is read from "
            f"{reference.nwb_path}, which does not say in which folder or dandiset it is",
            hint=OPENED_FROM,
            **reference.place,
        )
    else:
        problem = UnsafeReferenceError(
            f"{reference.where}: {reference.stored_path!r} points outside the server of {reference.nwb_path}",
            hint=Hint("name the folder of the file with {search}"),
            **reference.place,
        )
    return ResolvedExternalFile(reference=reference, kind=LocationKind.NONE, problem=problem)

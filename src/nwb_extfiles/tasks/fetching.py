"""Media of NWB files that were downloaded from the archive without them, downloaded to their places."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..disk import filesystem
from ..disk.annex import how_to_get, is_annex_pointer
from ..errors import (
    ExternalFilesError,
    MediaExistsError,
    MissingMediaError,
    RelocationRefusedError,
    TransferError,
    UnsafeReferenceError,
    combine,
)
from ..hints import Hint, counted, quoted
from ..nwb.files import open_nwb
from ..nwb.references import ExternalFileReference
from ..nwb.registry import MediaField, media_fields
from ..nwb.scan import find_in_file
from ..options import MediaOptions
from ..plans.stored_paths import is_absolute, is_url
from ..plans.targets import dandiset_above
from ..progress import reporting
from ..tables import Tabular, TabularList
from ..threads import each_in_threads
from ..web.archive import DandisetAssets
from ..web.asset_download import download_asset, has_content, have_same_content, part_of
from .archived_names import Dandiset
from .named_files import named_nwb_files

__all__ = ["FetchedMedia", "FetchedMediaList", "fetch_media"]


@dataclass(frozen=True, slots=True, repr=False)
class FetchedMedia(Tabular):
    """One file that an NWB file refers to, and the asset that it is downloaded from."""

    _columns: ClassVar[tuple[str, ...]] = (
        "state", "bytes", "stored_path", "nwb_path", "object_path", "field", "index", "target", "asset",
    )  # fmt: skip
    _shown_columns: ClassVar[tuple[str, ...]] = ("state", "bytes", "nwb_path", "object_path", "index", "stored_path")

    reference: ExternalFileReference
    """The first of those that mean the file."""
    target: Path
    """Where the stored path leads."""
    asset: str
    """The path of the asset in its dandiset."""
    size: int
    """In bytes."""
    state: Literal["fetched", "there", "to fetch"]
    """Whether it was downloaded, was there with the same content, or would be downloaded."""

    def _title(self) -> str:
        return f"{self.state}: {self.target}"

    def _records(self) -> Iterator[dict[str, Any]]:
        yield self.record

    @property
    def record(self) -> dict[str, Any]:
        """All that it says, as plain values."""
        return {
            "state": self.state,
            "bytes": self.size,
            "stored_path": self.reference.stored_path,
            "nwb_path": self.reference.nwb_path,
            "object_path": self.reference.object_path,
            "field": self.reference.field,
            "index": self.reference.index,
            "target": str(self.target),
            "asset": self.asset,
        }


class FetchedMediaList(TabularList[FetchedMedia]):
    """What `fetch_media` did, or would do: printed, and in a notebook, a table."""

    _columns = FetchedMedia._columns
    _shown_columns = FetchedMedia._shown_columns

    def _title(self) -> str:
        return self.summary

    @property
    def summary(self) -> str:
        """How many files, and bytes, were or would be downloaded, in words."""
        states = {"fetched": "downloaded", "to fetch": "to download", "there": "already there"}
        parts = []
        for state, words in states.items():
            sizes = [one.size for one in self if one.state == state]
            if sizes:
                parts.append(f"{counted(len(sizes), 'file')} {words} ({sum(sizes):,} bytes)")
        return ", ".join(parts) or "no media with relative paths"


def fetch_media(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    source: str | None = None,
    *,
    objects: Iterable[str] = (),
    media: Iterable[str] = (),
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    jobs: int = 1,
) -> FetchedMediaList:
    """Download the media of NWB files that were downloaded from a DANDI archive without them.

    Each file is downloaded by dandi's client from the same version of the same dandiset, verified by the digest that
    the archive has of it, and gets its name then. What an interrupted run has downloaded is resumed.

    Parameters
    ----------
    paths : path or iterable of paths
        NWB files in HDF5 or Zarr on this machine, or folders that have some.
    source : str, optional
        Where they are from: the URL of the dandiset, or of the NWB file itself if it is one, as ``dandi://`` URL or as
        the archive shows it. By default, what the ``dandiset.yaml`` above the files says.
    objects : iterable of str
        Patterns: only media of objects whose path fits one, such as ``"/acquisition/*"``.
    media : iterable of str
        Patterns: only media whose stored path, or its last name, fits one, such as ``"*.mp4"``.
    media_options : MediaOptions or mapping, optional
        Of which `media_fields`, `progress` and `sync` are used.
    dry_run : bool
        Whether to ask the archive only; nothing is downloaded then.
    jobs : int
        Number of files that are downloaded at the same time, each by a thread.

    Returns
    -------
    FetchedMediaList
        A list of `FetchedMedia`, one for each file that is meant, also if it was there already.

    Raises
    ------
    RelocationRefusedError
        If it is not known which dandiset the files are from, or there is not enough space.
    MissingMediaError
        If the dandiset does not have the NWB file or the media.
    MediaExistsError
        If there is something else where a file would be, or two different assets would be at one place. Nothing that
        exists is replaced.
    UnsafeReferenceError
        If a stored path leads out of the folder of the NWB file, or of its dandiset, or if it is not certain which NWB
        file of the dandiset a file is: one that only has the name of an asset must have its content too.
    UnreadableFileError
        If the archive does not answer, or refuses.
    TransferError
        If a download fails. All that were complete before are in their places, and what has arrived of others is
        resumed by the next call.
    """
    if jobs < 1:
        raise RelocationRefusedError(f"jobs must be a number of threads, not {jobs!r}")
    options = MediaOptions.from_value(media_options)
    patterns = _Patterns(_several(objects), _several(media))
    problems: list[ExternalFilesError] = []
    files = list(named_nwb_files([paths] if isinstance(paths, str | os.PathLike) else list(paths), problems))
    dandiset = Dandiset(source, names_file=len(files) == 1)
    planned: dict[Path, tuple[FetchedMedia, Any]] = {}
    for path in files:
        try:
            wanted = _wanted(path, patterns, media_fields(options.media_fields))
            for reference in wanted:
                _plan(reference, dandiset.around(path), planned, problems)
        except ExternalFilesError as problem:
            problems.extend(problem.problems)
    to_fetch = [(one, asset) for one, asset in planned.values() if one.state == "to fetch"]
    problems.extend(_no_space(to_fetch))
    if problems:
        raise combine(list({str(problem): problem for problem in problems}.values()))  # a wrong URL is one problem
    if not dry_run:
        _fetch_all(to_fetch, options, jobs)
    done: Literal["to fetch", "fetched"] = "to fetch" if dry_run else "fetched"
    return FetchedMediaList(
        FetchedMedia(one.reference, one.target, one.asset, one.size, "there" if one.state == "there" else done)
        for one, _ in planned.values()
    )


def _several(value: Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@dataclass(frozen=True, slots=True)
class _Patterns:
    objects: tuple[str, ...]
    media: tuple[str, ...]

    def fit(self, reference: ExternalFileReference) -> bool:
        names = reference.stored_path, posixpath.basename(reference.stored_path)
        return (not self.objects or any(fnmatchcase(reference.object_path, one) for one in self.objects)) and (
            not self.media or any(fnmatchcase(name, one) for one in self.media for name in names)
        )


def _wanted(path: Path, patterns: _Patterns, table: Sequence[MediaField]) -> list[ExternalFileReference]:
    """The references whose media may be in the archive: relative paths."""
    with open_nwb(path) as file:
        found = find_in_file(file, table)
    return [
        reference
        for reference in found
        if patterns.fit(reference) and not is_url(reference.stored_path) and not is_absolute(reference.stored_path)
    ]


def _plan(
    reference: ExternalFileReference,
    assets: DandisetAssets,
    planned: dict[Path, tuple[FetchedMedia, Any]],
    problems: list[ExternalFilesError],
) -> None:
    try:
        target = _target(reference)
        path = assets.path_of(reference.stored_path)
        asset = None if path is None else assets.asset(path)
        if path is None or asset is None or hasattr(asset, "zarr"):  # a Zarr store is not a video
            raise MissingMediaError(
                f"{reference.where}: {assets.dandiset} has no file {path or reference.stored_path!r}",
                hint="check the path and the version of the dandiset",
                **reference.place,
            )
        if target in planned:
            _require_same(reference, planned[target][0], asset, planned[target][1])
            return
        is_there = os.path.lexists(target)
        if is_there:
            _require_content(reference, target, asset)
        state: Literal["there", "to fetch"] = "there" if is_there else "to fetch"
        planned[target] = FetchedMedia(reference, target, path, asset.size, state), asset
    except ExternalFilesError as problem:
        problems.append(problem)


def _target(reference: ExternalFileReference) -> Path:
    """Where a stored path leads; never out of the dandiset, or, without one, of the folder of the NWB file."""
    nwb_path = filesystem.with_real_folder(Path(reference.nwb_path))
    target = Path(os.path.normpath(nwb_path.parent / reference.stored_path.replace("\\", "/")))
    root = dandiset_above(nwb_path) or nwb_path.parent
    inside = target.is_relative_to(root) and target not in (root, nwb_path)
    if not inside or any(part.startswith(".") for part in target.relative_to(root).parts):
        raise UnsafeReferenceError(
            f"{reference.where}: {reference.stored_path[:300]!r} does not lead to a file below {quoted(root)}",
            hint="download the whole dandiset with `dandi download`",
            **reference.place,
        )
    existing = filesystem.nearest_folder(target.parent)
    if Path(os.path.realpath(existing)) != existing:
        raise UnsafeReferenceError(
            f"{reference.where}: {quoted(existing)}, on the way to its place, is a symbolic link to "
            f"{quoted(os.path.realpath(existing))}",
            hint="put a folder there",
            **reference.place,
        )
    if existing != target.parent and os.path.lexists(in_the_way := existing / target.relative_to(existing).parts[0]):
        raise MediaExistsError(
            f"{reference.where}: {in_the_way}, on the way to its place, is not a folder",
            hint="move it away",
            **reference.place,
        )
    return target


def _require_same(reference: ExternalFileReference, planned: FetchedMedia, asset: Any, other: Any) -> None:
    """Raise unless two assets that get to the same place, for two references, have the same content."""
    if not have_same_content(asset, other):
        raise MediaExistsError(
            f"{reference.where}: {reference.stored_path!r} is the asset {asset.path!r}, and {planned.reference.where} "
            f"expects another one, {planned.asset!r}, at the same place, {planned.target}",
            hint="put the NWB files into folders of their own, as they are in the dandiset",
            **reference.place,
        )


def _require_content(reference: ExternalFileReference, target: Path, asset: Any) -> None:
    """Raise unless what is at a target is the asset."""
    if is_annex_pointer(target):
        what, hint = "is a file of git-annex, whose content is not on this machine", how_to_get(target)
    elif not target.is_file():
        what, hint = "is not a file", "move it away"
    elif has_content(asset, target):
        return
    else:
        what = f"has {target.stat().st_size:,} bytes and is not what the archive has ({asset.size:,} bytes)"
        hint = "move it away, and run the same again"
    raise MediaExistsError(f"{reference.where}: {target} exists, and {what}", hint=hint, **reference.place)


def _no_space(to_fetch: Sequence[tuple[FetchedMedia, Any]]) -> Iterator[ExternalFilesError]:
    needed: dict[int, int] = {}  # bytes, by device
    folders: dict[int, Path] = {}
    for media, asset in to_fetch:
        folder, part = filesystem.nearest_folder(media.target.parent), part_of(asset, media.target)
        device = os.stat(folder).st_dev
        here = part.stat().st_size if part.is_file() else 0
        needed[device] = needed.get(device, 0) + max(0, media.size - here)
        folders.setdefault(device, folder)
    for device, size in needed.items():
        free = filesystem.free_bytes(folders[device])
        if size > free:
            yield RelocationRefusedError(
                f"{folders[device]}: the media need {size:,} bytes, and {free:,} are free",
                hint=Hint("make space, or fetch some of them only"),
            )


def _fetch_all(to_fetch: Sequence[tuple[FetchedMedia, Any]], options: MediaOptions, jobs: int) -> None:
    def one(item: tuple[FetchedMedia, Any], on_bytes: Callable[[int], object]) -> None:
        _fetch(*item, on_bytes, options.sync)

    try:
        with (
            reporting(options.progress, sum(media.size for media, _ in to_fetch)) as on_bytes,
            closing(each_in_threads(one, to_fetch, min(jobs, len(to_fetch)), on_bytes)) as results,
        ):
            for _, result in results:
                if result is not None:
                    raise result
    finally:
        for _, asset in to_fetch:
            asset.client.session.close()  # it is opened again when it is used


def _fetch(media: FetchedMedia, asset: Any, on_bytes: Any, sync: bool) -> None:
    reference = media.reference
    try:
        media.target.parent.mkdir(parents=True, exist_ok=True)
        download_asset(asset, media.target, on_bytes=on_bytes, sync=sync)
    except ExternalFilesError:
        raise
    except FileExistsError as error:
        raise MediaExistsError(
            f"{reference.where}: {media.target} was made by another program meanwhile",
            hint="run the same again",
            **reference.place,
        ) from error
    except OSError as error:
        raise TransferError(
            f"{reference.where}: the asset {media.asset!r} could not be downloaded to {media.target}: {error}",
            hint="run the same again; what has arrived is kept, and media that are complete are in their places",
            **reference.place,
        ) from error

"""Gathers what a report shows: NWB files, their media, and what is wrong with them. Nothing on disk is changed."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar
from urllib.parse import quote

from ... import __version__
from ...batch import results, workers
from ...disk.annex import is_annex_object
from ...disk.filesystem import relative_path, tree_size
from ...errors import ExternalFilesError, UnreadableFileError
from ...hints import Message, for_command_line
from ...media.pyav.opening import load_av
from ...naming import ARCHIVED_SUFFIXES, is_conventional
from ...nwb.files import zarr_marker
from ...nwb.manifest import ManifestRow
from ...nwb.references import ExternalFileReference
from ...options import MediaOptions
from ...plans.locate import located
from ...plans.resolve import Resolution
from ...plans.stored_paths import is_absolute, is_url
from ...progress import reporting
from ..check.checks import findings_of_folders, findings_of_media, findings_of_unreadable
from ..check.findings import Finding, Findings
from ..check.series_checks import VIDEO_SUFFIXES, is_playable
from ..check.video_checks import Frames, VideoChecker, is_read
from ..in_place_plan import plan_in_place
from ..named_files import named_nwb_files
from ..nwb_media import NWBMedia, opened_media
from .data import FileFacts, Place, Report, ReportedFile, ReportedMedia, ReportedSeries
from .videos import read_all

__all__ = ["gather", "relative_link"]

_Identity = tuple[int, int]
K = TypeVar("K")
T = TypeVar("T")


def gather(
    paths: Sequence[str | os.PathLike[str]],
    folder: Path,
    options: MediaOptions,
    *,
    frames: Frames | None = None,
    jobs: int = 1,
    with_thumbnails: bool = True,
) -> Report:
    """Look at NWB files and their media: open each file once.

    Parameters
    ----------
    paths : sequence of paths
        NWB files, and folders in which NWB files are searched for.
    folder : pathlib.Path
        That of the report, absolute, from which videos are linked.
    options : MediaOptions
        Of which `media_fields`, `naming` and `progress` are used.
    frames : {"index", "packets", "decode", "none"}, optional
        How videos are read, as in `check`; with ``"none"`` they are not opened.
    jobs : int
        Number of processes.
    with_thumbnails : bool
        Whether thumbnails are made.

    Returns
    -------
    Report

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    ExternalFilesError
        If `frames` are to be counted, and PyAV is not installed.
    """
    options = MediaOptions(media_fields=options.media_fields, naming=options.naming, progress=options.progress)
    VideoChecker(frames, lambda count: None)  # raises before anything is read
    empty: list[ExternalFilesError] = []
    nwb_paths = list(named_nwb_files(paths, empty))
    root = _root(paths)
    with workers(jobs, None) as executor:
        scan = partial(_scan, root=root, options=replace(options, progress=False))
        scanned = results(scan, nwb_paths, executor)
        media = [entry.file for one in scanned for entry in one.found if entry.file]
        files = {file.identity: file for file in media}
        work = sum(one.size for one in scanned) + sum(file.size for file in files.values())
        with reporting(options.progress, work) as tell:
            unread = _why_not_read(frames) if files else None
            facts, left_out = dict[_Identity, FileFacts](), 0
            if files and unread is None:
                times = Counter(file.identity for file in media) if with_thumbnails else None
                how = "index" if frames is None or frames == "none" else frames
                facts, left_out = read_all(files, times, how, tell, executor)
            known = {identity: one.read for identity, one in facts.items() if is_read(files[identity])}
            videos = VideoChecker(frames, lambda count: None, known)
            reporter = _Reporter(root, folder, facts)
            findings = Findings(nwb_paths=nwb_paths)
            reported = list[ReportedFile]()
            for one in scanned:
                of_one = _findings(one, options, videos)
                findings += of_one
                reported.append(reporter.report(one, of_one))
                tell(one.size)
    findings += findings_of_folders(paths, empty)
    return Report(
        root=root,
        written=datetime.now().astimezone(),
        version=__version__,
        files=tuple(reported),
        findings=findings,
        unowned=tuple(_unowned(paths, root, set(files))),
        unread=unread,
        thumbnails_left_out=left_out,
    )


def _why_not_read(frames: Frames | None) -> Message | None:
    """Why no video is read; None if they are."""
    if frames == "none":
        return Message("videos were not opened, as you asked")
    try:
        load_av()
    except ExternalFilesError as problem:
        return Message(problem.what, problem.hint)
    return None


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _root(paths: Iterable[str | os.PathLike[str]]) -> Path:
    folders = [path if os.path.isdir(path) and zarr_marker(path) is None else path.parent for path in _absolute(paths)]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # different drives of Windows
        return folders[0]


def _absolute(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    return map(Path, map(os.path.abspath, paths))


# ------------------------------------------------------------------- one NWB file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scanned:
    """What was read of one NWB file, while it was open once."""

    path: Path
    size: int
    media: NWBMedia | UnreadableFileError
    after: tuple[Place, ...] | None = None
    refusal: tuple[str, ...] = ()

    @property
    def found(self) -> Sequence[Resolution]:
        return () if isinstance(self.media, UnreadableFileError) else self.media.found


def _scan(path: Path, *, root: Path, options: MediaOptions) -> _Scanned:
    """Read one NWB file, and plan what `relocate` would do with it."""
    size = _size(path)
    try:
        with opened_media(path, options) as (file, media):
            after, refusal = _after(file, media, options) if media.found else ([], ())
    except UnreadableFileError as error:
        return _Scanned(path=path, size=size, media=error)
    places = None if after is None else (_place(root, str(path)), *(_place(root, *location) for location in after))
    return _Scanned(path=path, size=size, media=media, after=places, refusal=refusal)


def _after(file: Any, media: NWBMedia, options: MediaOptions) -> tuple[list[tuple[str, bool]] | None, tuple[str, ...]]:
    """Where the media would be after `relocate`, or why it would refuse."""
    references = [entry.reference for entry in media.found]
    try:
        if media.manifest_problem is not None:
            raise media.manifest_problem
        keep = replace(options, missing="keep")
        plan = plan_in_place(file, media.path, references, media.manifest, keep, media.problems)
    except ExternalFilesError as error:
        return None, tuple(map(for_command_line, error.problems))
    except OSError as error:
        return None, (str(error),)
    return [
        (_absolute_path(entry.reference, entry.new_path), entry.source is None and entry.target is None)
        for entry in plan.relocations
        if not is_url(entry.new_path)
    ], ()


def _findings(scanned: _Scanned, options: MediaOptions, videos: VideoChecker) -> list[Finding]:
    if isinstance(scanned.media, UnreadableFileError):
        return list(findings_of_unreadable(scanned.path, scanned.media))
    return list(findings_of_media(scanned.media, options, None, videos))


def _place(root: Path, path: str, is_missing: bool = False) -> Place:
    return Place(path.removeprefix(f"{root}{os.sep}").replace(os.sep, "/"), is_missing)


# --------------------------------------------------------------- one NWB file in the page


class _Reporter:
    """Reports NWB files."""

    def __init__(self, root: Path, folder: Path, facts: Mapping[_Identity, FileFacts]) -> None:
        self._root, self._folder, self._facts = root, folder, facts

    def report(self, scanned: _Scanned, findings: Sequence[Finding]) -> ReportedFile:
        """Report one of them; `findings` are about it."""
        before = [_location(entry) for entry in scanned.found if not entry.url]
        return ReportedFile(
            path=scanned.path,
            size=scanned.size,
            series=() if isinstance(scanned.media, UnreadableFileError) else self._all_series(scanned.media, findings),
            findings=tuple(findings),
            before=tuple(_place(self._root, *location) for location in [(str(scanned.path), False), *before]),
            after=scanned.after,
            refusal=scanned.refusal,
        )

    def _all_series(self, of_file: NWBMedia, findings: Sequence[Finding]) -> tuple[ReportedSeries, ...]:
        by_series = _grouped(of_file.found, lambda entry: (entry.reference.object_path, entry.reference.field))
        about = _grouped(findings, lambda finding: finding.object_path)
        rows = {row.place: row for row in of_file.manifest or ()}
        reported = list[ReportedSeries]()
        for (object_path, field), entries in by_series.items():
            by_index = _grouped(
                (one for one in about.get(object_path, ()) if one.field in (None, field)), lambda one: one.index
            )
            media = (
                self._media(entry, by_index.get(entry.reference.index, ()), rows.get(entry.reference.entry))
                for entry in entries
            )
            reported.append(
                ReportedSeries(
                    object_path=object_path,
                    neurodata_type=entries[0].reference.neurodata_type,
                    field=field,
                    frames=of_file.series.get((object_path, field)),
                    media=tuple(media),
                    findings=tuple(by_index.get(None, ())),
                )
            )
        return tuple(reported)

    def _media(self, found: Resolution, findings: Sequence[Finding], row: ManifestRow | None) -> ReportedMedia:
        place = located(found)
        facts = FileFacts() if found.file is None else self._facts.get(found.file.identity, FileFacts())
        is_shown = facts.video is not None and is_playable(facts.video)
        return ReportedMedia(
            reference=found.reference,
            kind=place.kind,
            location=place.location,
            size=place.size,
            facts=facts,
            link=relative_link(found.file.path, self._folder) if found.file and is_shown else None,
            findings=tuple(findings),
            original_name=original_name(found, row),
        )


def original_name(found: Resolution, row: ManifestRow | None) -> str | None:
    """The name of a file before it got one by DANDI's rules: by the manifest, or as that of the file behind a link."""
    stored = found.reference.stored_path
    if not is_conventional(PureWindowsPath(stored).name):
        return None
    if row is not None and row.path == stored:
        return row.original_name or None
    if found.file is None or not found.file.is_link or is_annex_object(found.file.real):
        return None
    return None if is_conventional(found.file.real.name) else found.file.real.name


def _size(path: Path) -> int:
    try:
        return tree_size(path) if path.is_dir() else os.stat(path).st_size
    except OSError:  # `check` reports what cannot be read
        return 0


def _location(found: Resolution) -> tuple[str, bool]:
    """The file of a reference, or where it should be, and whether it is missing. The disk is not asked."""
    if found.file is not None:
        return str(found.file.path), False
    return _absolute_path(found.reference, found.reference.stored_path), True


def _absolute_path(reference: ExternalFileReference, stored_path: str) -> str:
    if is_absolute(stored_path) or reference.base is None:
        return stored_path
    return os.path.normpath(os.path.join(reference.base, stored_path))


def relative_link(path: Path, folder: Path) -> str | None:
    """A relative URL from a folder to a file, both absolute; None if they are on different drives of Windows."""
    try:
        parts = Path(relative_path(path, folder)).parts
    except ValueError:
        return None
    # A colon would end a scheme, as in "javascript:", but quoted it does not, nor after a slash.
    return "/".join([".", *(quote(os.fsencode(part), safe="") for part in parts)])


# ------------------------------------------------------------------- media of nobody


def _unowned(
    paths: Iterable[str | os.PathLike[str]], root: Path, owned: Collection[_Identity]
) -> Iterator[tuple[str, int]]:
    """Videos and images in the folders named that are none of those; hidden ones are skipped, as DANDI does."""
    seen: set[str] = set()
    for folder in _absolute(paths):
        for place, folders, names in os.walk(folder):
            is_store = zarr_marker(Path(place)) is not None
            folders[:] = sorted(name for name in folders if not (is_store or name.startswith(".")))
            for name in sorted(() if is_store or place in seen else names):
                status = _media_status(os.path.join(place, name))
                if status is not None and (status.st_dev, status.st_ino) not in owned:
                    yield os.path.relpath(os.path.join(place, name), root).replace(os.sep, "/"), status.st_size
            seen.add(place)


def _media_status(path: str) -> os.stat_result | None:
    """The status of a file with the suffix of a video or image; None for others."""
    name = os.path.basename(path)
    if name.startswith(".") or os.path.splitext(name)[1].lower() not in ARCHIVED_SUFFIXES | VIDEO_SUFFIXES:
        return None
    try:
        status = os.stat(path)
    except OSError:  # a broken link, which `check` reports in media folders
        return None
    return status if stat.S_ISREG(status.st_mode) else None

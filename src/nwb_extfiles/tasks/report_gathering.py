"""Gathers what a report shows: NWB files, their media, and what is wrong with them. Nothing on disk is changed."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from .. import __version__
from ..disk.filesystem import relative_path, tree_size
from ..errors import ExternalFilesError, ExternalFilesWarning, UnreadableFileError
from ..hints import Message, for_command_line
from ..media.pyav.opening import NotAVideo, load_av
from ..media.pyav.reading import read_video
from ..naming import ARCHIVED_SUFFIXES
from ..nwb.files import open_nwb, zarr_marker
from ..nwb.references import ExternalFileReference
from ..nwb.series import read_series
from ..options import MediaMode, MediaOptions
from ..plans.locate import located
from ..plans.media_files import MediaFile
from ..plans.resolve import Resolution
from ..plans.stored_paths import is_absolute, is_url
from ..progress import reporting
from ..threads import each_in_threads
from .checks import check
from .external_files import find_own_and_linked
from .findings import Finding
from .named_files import named_nwb_files
from .relocating import relocate_files
from .report_data import FileFacts, Place, Report, ReportedFile, ReportedMedia, ReportedSeries
from .series_checks import VIDEO_SUFFIXES, is_playable

__all__ = ["gather", "relative_link"]

_THREADS = 4
_MOST_THUMBNAIL_BYTES = 5_000_000  # in all; in the page they take a third more
_WIDTHS = ((300, 240), (1_500, 160))  # of thumbnails in pixels, for as many of them
_NARROWEST = 112
_Identity = tuple[int, int]
K = TypeVar("K")
T = TypeVar("T")


def gather(paths: Sequence[str | os.PathLike[str]], folder: Path, options: MediaOptions) -> Report:
    """Look at NWB files and their media.

    Parameters
    ----------
    paths : sequence of paths
        NWB files, and folders in which NWB files are searched for.
    folder : pathlib.Path
        That of the report, absolute, from which videos are linked.
    options : MediaOptions
        Of which `media_fields`, `naming` and `progress` are used.

    Returns
    -------
    Report

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    """
    options = MediaOptions(media_fields=options.media_fields, naming=options.naming, progress=options.progress)
    found = {path: _references(path, options) for path in named_nwb_files(paths, [])}
    media = [entry.file for entries in found.values() for entry in entries if entry.file]
    files = {file.identity: file for file in media}
    sizes = {path: _size(path) for path in found}
    root = _root(paths)
    work = 2 * sum(sizes.values()) + sum(file.size for file in files.values())
    with reporting(options.progress, work) as on_bytes:
        findings = check(
            paths,
            media_options=replace(options, progress=False),
            on_file=lambda path: on_bytes(sizes.get(path, 0)),
        )
        facts, unread, left_out = _read_all(files, Counter(file.identity for file in media), on_bytes)
        reporter = _Reporter(root, folder, facts, options)
        about = _grouped(findings, lambda finding: finding.nwb_path)
        reported = list[ReportedFile]()
        for path, entries in found.items():
            reported.append(reporter.report(path, sizes[path], entries, about.get(str(path), ())))
            on_bytes(sizes[path])
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


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _references(path: Path, options: MediaOptions) -> list[Resolution]:
    try:
        return find_own_and_linked(path, MediaOptions(media_fields=options.media_fields), [])[0]
    except UnreadableFileError:  # `check` reports it
        return []


def _root(paths: Iterable[str | os.PathLike[str]]) -> Path:
    folders = [path if os.path.isdir(path) and zarr_marker(path) is None else path.parent for path in _absolute(paths)]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # different drives of Windows
        return folders[0]


def _absolute(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    return map(Path, map(os.path.abspath, paths))


# ------------------------------------------------------------------ what is in files


def _read_all(
    files: Mapping[_Identity, MediaFile], times: Mapping[_Identity, int], on_bytes: Callable[[int], object]
) -> tuple[dict[_Identity, FileFacts], Message | None, int]:
    """Read each file once; say why if that is not possible, and how many have no thumbnail.

    `times` says how often each file is in the page, with its thumbnail each time.
    """
    facts: dict[_Identity, FileFacts] = {}
    if not files:
        return facts, None, 0
    try:
        load_av()
    except ExternalFilesError as problem:
        return facts, Message(problem.what, problem.hint), 0
    width = next((width for most, width in _WIDTHS if sum(times.values()) <= most), _NARROWEST)
    spent = left_out = 0

    def read(file: MediaFile, tell: Callable[[int], object]) -> FileFacts:
        found = _read(file.real, 0 if spent > _MOST_THUMBNAIL_BYTES else width)
        tell(file.size)
        return found

    with closing(each_in_threads(read, files.values(), _THREADS, on_bytes)) as results:
        for identity, (_, result) in zip(files, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            spent += len(result.thumbnail or b"") * times[identity]
            is_full = spent > _MOST_THUMBNAIL_BYTES
            left_out += is_full and result.video is not None
            facts[identity] = replace(result, thumbnail=None) if is_full else result
    return facts, None, left_out


def _read(path: Path, width: int) -> FileFacts:
    """Facts of a file, and a thumbnail of that width if it is not 0."""
    from ..media.pyav.thumbnails import thumbnail

    try:
        video = read_video(path)
    except NotAVideo as error:
        return FileFacts(reason=None if error.image else error.reason)
    except OSError as error:
        return FileFacts(reason=f"cannot be read: {error.strerror}")
    try:
        return FileFacts(video, thumbnail=thumbnail(path, width=width) if width else None)
    except (NotAVideo, OSError):  # no frame can be decoded
        return FileFacts(video)


# --------------------------------------------------------------- one NWB file


class _Reporter:
    """Reports NWB files."""

    def __init__(self, root: Path, folder: Path, facts: Mapping[_Identity, FileFacts], options: MediaOptions) -> None:
        self._root, self._folder, self._facts = root, folder, facts
        self._options = replace(options, missing="keep", progress=False)

    def report(self, path: Path, size: int, found: Sequence[Resolution], findings: Sequence[Finding]) -> ReportedFile:
        """Report one of them; `found` are all its references, and `findings` are about it."""
        nwb_place = self._place(str(path))
        before = [_location(entry) for entry in found if not entry.url]
        after, refusal = self._after(path) if found else ([], ())
        return ReportedFile(
            path=path,
            size=size,
            series=tuple(self._series(path, found, findings)) if found else (),
            findings=tuple(findings),
            before=(nwb_place, *(self._place(*location) for location in before)),
            after=None if after is None else (nwb_place, *(self._place(*location) for location in after)),
            refusal=refusal,
        )

    def _place(self, path: str, is_missing: bool = False) -> Place:
        inside = f"{self._root}{os.sep}"
        relative = path.removeprefix(inside)
        return Place(relative.replace(os.sep, "/"), is_missing)

    def _after(self, path: Path) -> tuple[list[tuple[str, bool]] | None, tuple[str, ...]]:
        """Where the media would be after `relocate`, or why it would refuse."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExternalFilesWarning)  # `check` has a finding for each
                (plan,) = relocate_files([path], MediaMode.SYMLINK, media_options=self._options, dry_run=True)
        except ExternalFilesError as error:
            return None, tuple(map(for_command_line, error.problems))
        except OSError as error:
            return None, (str(error),)
        return [
            (_absolute_path(entry.reference, entry.new_path), entry.source is None and entry.target is None)
            for entry in plan.relocations
            if not is_url(entry.new_path)
        ], ()

    def _series(self, path: Path, found: Sequence[Resolution], findings: Sequence[Finding]) -> Iterator[ReportedSeries]:
        by_series = _grouped(found, lambda entry: (entry.reference.object_path, entry.reference.field))
        about = _grouped(findings, lambda finding: finding.object_path)
        with open_nwb(path) as file:
            for (object_path, field), entries in by_series.items():
                by_index = _grouped(
                    (one for one in about.get(object_path, ()) if one.field in (None, field)), lambda one: one.index
                )
                yield ReportedSeries(
                    object_path=object_path,
                    neurodata_type=entries[0].reference.neurodata_type,
                    field=field,
                    frames=read_series(file, object_path) if field == "external_file" else None,
                    media=tuple(self._media(entry, by_index.get(entry.reference.index, ())) for entry in entries),
                    findings=tuple(by_index.get(None, ())),
                )

    def _media(self, found: Resolution, findings: Sequence[Finding]) -> ReportedMedia:
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
        )


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

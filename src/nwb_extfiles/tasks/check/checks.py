"""Whether the media that NWB files refer to are there, and are where DANDI and its readers look for them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from ...batch import each, workers
from ...errors import ExternalFilesError, UnreadableFileError
from ...hints import shell_word
from ...nwb.linked import LinkedMedia
from ...options import MediaOptions
from ...plans.media_files import MediaFile
from ...plans.places import Known
from ...plans.resolve import Resolution, resolve_all
from ...plans.targets import nwb_stem
from ...transfers.interrupted import is_interrupted, staging_folders
from ..named_files import named_nwb_files
from ..nwb_media import NWBMedia, read_media
from .findings import Finding, Findings, Severity, of_file, of_problem, of_reference, shortened
from .folder_checks import check_folders
from .manifest_checks import manifest_findings
from .path_checks import PathChecker
from .video_checks import Frames, VideoChecker

__all__ = ["check", "findings_of_folders", "findings_of_media", "findings_of_unreadable"]

_MOST_IN_A_ROW = 16  # NWB files
_SAMPLE = 64 * 1024  # bytes that are compared at both ends of videos of equal size


def check(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    checksums: bool = False,
    frames: Frames | None = None,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    on_bytes: Callable[[int], object] = lambda count: None,
    on_file: Callable[[Path], object] = lambda path: None,
    jobs: int = 1,
) -> Findings:
    """Check the media of NWB files: their paths, and whether videos have as many frames as their series.

    An error inside a dandiset (a folder with ``dandiset.yaml`` at or above the file) may be a warning elsewhere: an
    absolute path works until the file is moved to another machine.

    Parameters
    ----------
    paths : path or iterable of paths
        NWB files, and folders in which NWB files are searched for. In folders, media that belong to no NWB file are
        found too.
    checksums : bool
        Whether videos are read and compared with the manifest of their NWB file, if it has one.
    frames : {"index", "packets", "decode", "none"}, optional
        How frames are counted: by the index of each video, of which some megabytes are read; by its packets, for which
        all of it is read; by decoding it, which finds damage, and takes minutes for a gigabyte; or not at all. By
        default ``"index"``, or not at all, with one finding that says so, if PyAV is not installed.
    media_options : MediaOptions or mapping, optional
        Of which `media_fields` and `naming` are used, and with `checksums` the folders of `search`, in which videos are
        searched for by their content. A path that works only with `search` or `path_map` is broken.
    on_bytes : callable
        Called with each number of bytes of videos read; with several `jobs` once for each NWB file.
    on_file : callable
        Called with the path of each NWB file that is checked; with several `jobs` in any order.
    jobs : int
        Number of processes that check NWB files at the same time.

    Returns
    -------
    Findings, a list of Finding
        File by file; none for a file without problems. Printed, and in a notebook, it is a table; `to_dataframe` makes
        it a `pandas.DataFrame`. Nothing is changed on disk.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    ExternalFilesError
        If `frames` are to be counted, and PyAV is not installed.

    Notes
    -----
    What is not certain is not reported: frames of videos that have no index (``.mkv``, for one) are counted by packets
    only, and series with a rate and without ``num_samples`` do not say how many they have. A rate may differ from that
    of the video, as with high-speed cameras.
    """
    options = MediaOptions.from_value(media_options)
    videos = VideoChecker(frames, on_bytes)
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    empty: list[ExternalFilesError] = []
    nwb_paths = list(named_nwb_files(paths, empty))
    batches = _batches(nwb_paths, jobs)
    if jobs == 1:
        found = Findings(nwb_paths=nwb_paths)
        for batch in batches:
            known = Known()
            for path, stagings in batch:
                found += _check_file(path, stagings, options, on_bytes if checksums else None, videos, known)
                on_file(path)
    else:
        job = partial(_check_in_process, options=replace(options, progress=False), checksums=checksums, frames=frames)
        found = Findings(_in_processes(job, batches, on_bytes, on_file, jobs), nwb_paths)
    found += findings_of_folders(paths, empty)
    return found


_Batch = list[tuple[Path, Sequence[Path] | None]]  # NWB files, and the folders of transfers beside each, if known
_Job = Callable[[_Batch], list[tuple[list[Finding], int]]]


def _batches(nwb_paths: Sequence[Path], jobs: int) -> list[_Batch]:
    """NWB files that are checked in a row, so that what is known of their folders need not be asked for each.

    They are few enough that no process waits long for the last one.
    """
    listed = cache(lambda folder: staging_folders(Path(os.path.realpath(folder))))  # which may have many NWB files
    files: _Batch = [(path, None if path.is_symlink() else listed(path.parent)) for path in nwb_paths]
    size = max(1, min(_MOST_IN_A_ROW, len(files) // (8 * jobs)))
    return [files[start : start + size] for start in range(0, len(files), size)]


def _in_processes(
    job: _Job,
    batches: Sequence[_Batch],
    on_bytes: Callable[[int], object],
    on_file: Callable[[Path], object],
    jobs: int,
) -> Iterator[Finding]:
    """The findings of each NWB file, in the order of the files."""
    found: dict[int, list[Finding]] = {}
    with workers(jobs, None) as executor:
        for number, results in each(job, batches, executor):
            if isinstance(results, BaseException):
                raise results
            for (path, _), (_, count) in zip(batches[number], results, strict=True):
                on_bytes(count)
                on_file(path)
            findings = [finding for of_one, _ in results for finding in of_one]
            if findings:  # most have none, and there may be many
                found[number] = findings
    has_told = False  # what is said once, each process says
    for finding in chain.from_iterable(found[number] for number in sorted(found)):
        is_of_all = finding.code == "videos-not-read"
        if not (is_of_all and has_told):
            yield finding
        has_told = has_told or is_of_all


def _check_in_process(
    batch: _Batch, *, options: MediaOptions, checksums: bool, frames: Frames | None
) -> list[tuple[list[Finding], int]]:
    """The findings of each NWB file, and how many bytes of videos were read."""
    results: list[tuple[list[Finding], int]] = []
    known = Known()
    for path, stagings in batch:
        counts: list[int] = []
        videos = VideoChecker(frames, counts.append)
        found = list(_check_file(path, stagings, options, counts.append if checksums else None, videos, known))
        results.append((found, sum(counts)))
    return results


def _check_file(
    path: Path,
    stagings: Sequence[Path] | None,
    options: MediaOptions,
    on_bytes: Callable[[int], object] | None,
    videos: VideoChecker,
    known: Known,
) -> Iterator[Finding]:
    try:
        media = read_media(path, options, with_series=videos.reads, with_manifest=on_bytes is not None, known=known)
    except UnreadableFileError as error:
        yield from findings_of_unreadable(path, error, stagings)
    else:
        yield from findings_of_media(media, options, on_bytes, videos, stagings)


def findings_of_unreadable(
    path: Path, error: UnreadableFileError, stagings: Sequence[Path] | None = None
) -> Iterator[Finding]:
    """What is wrong with an NWB file that cannot be read; `stagings` as in `is_interrupted`."""
    yield from _interrupted(path, stagings)
    yield of_problem(path, "unreadable", error)


def findings_of_media(
    media: NWBMedia,
    options: MediaOptions,
    on_bytes: Callable[[int], object] | None,
    videos: VideoChecker,
    stagings: Sequence[Path] | None = None,
) -> Iterator[Finding]:
    """What is wrong with the media of one NWB file.

    Parameters
    ----------
    media : NWBMedia
    options : MediaOptions
        As in `check`.
    on_bytes : callable, optional
        If given, videos are compared with the manifest, and it is called with each number of bytes of them read.
    videos : VideoChecker
        Which has read the videos, or reads them.
    stagings : sequence of pathlib.Path, optional
        As in `is_interrupted`.
    """
    path, found = media.path, media.found
    yield from _interrupted(path, stagings)
    for problem in media.problems:
        yield Finding(
            severity=Severity.ERROR,
            code="not-a-string",
            what="expected paths of media, and found no strings, or a link to an object that does not exist",
            nwb_path=str(path),
            object_path=problem.object_path,
            field=problem.field,
        )
    checker = PathChecker(path, options)
    contents = [] if on_bytes is None else list(manifest_findings(media, options, on_bytes))
    missing = {(entry.object_path, entry.field, entry.index) for entry in contents if entry.code == "media-missing"}
    yield from checker.check_name()
    for resolution in found:
        if resolution.reference.entry not in missing:
            yield from checker.check(resolution)
    yield from videos.check(media)
    for behind in media.linked:
        yield from _linked(path, behind)
    yield from _same_media(found)
    yield from _orphans(path, found)
    yield from contents


def findings_of_folders(
    paths: Iterable[str | os.PathLike[str]], empty: Iterable[ExternalFilesError]
) -> Iterator[Finding]:
    """What is wrong with the folders that were named: `empty` says which have no NWB file; media without one."""
    for problem in empty:
        yield of_problem(Path(problem.nwb_path or ""), "no-nwb-files", problem)
    seen: set[str] = set()
    for folder in paths:
        if os.path.isdir(folder):
            yield from check_folders(Path(os.path.abspath(folder)), seen)


def _interrupted(path: Path, stagings: Sequence[Path] | None) -> Iterator[Finding]:
    if is_interrupted(Path(os.path.realpath(path)), thoroughly=True, stagings=stagings):
        yield of_file(
            path, Severity.ERROR, "interrupted-edit", "an interrupted run has left it inconsistent",
            "run `nwb-extfiles recover` on it",
        )  # fmt: skip


def _linked(path: Path, behind: LinkedMedia) -> Iterator[Finding]:
    """Findings about a link to an object of another NWB file."""
    link, references = behind.link, behind.references
    if behind.problem is not None:
        yield of_file(
            path, Severity.ERROR, "dangling-link", "it is a link to an object of another NWB file, which is not found",
            "put that file back to where the link points", link.path,
            found=f"the link is to {link.object_path!r}: {behind.problem}",
        )  # fmt: skip
    if not references:
        return
    missing = [entry for entry in resolve_all(references, MediaOptions(), destination=path.parent) if entry.problem]
    example = shortened((missing[0].reference if missing else references[0]).stored_path)
    holders = " ".join(shell_word(holder) for holder in dict.fromkeys(entry.nwb_path for entry in references))
    what, there = (
        "it is a link to an object of another NWB file",
        f"the link is to {link.object_path!r} of {behind.nwb_path}",
    )
    if missing:
        yield of_file(
            path, Severity.ERROR, "linked-media-missing", f"{what}, whose media are missing",
            f"see `nwb-extfiles check {holders}`", link.path,
            found=f"{there}, {len(missing)} of {len(references)}, such as {example}",
        )  # fmt: skip
    else:
        yield of_file(
            path, Severity.INFO, "linked-media", f"{what}, which has the media; they are not relocated with this one",
            f"keep that file where the link points; `nwb-extfiles check {holders}` checks its media", link.path,
            found=f"{there}, {len(references)}, such as {example}",
        )  # fmt: skip


# ------------------------------------------------------------------- files beside each other


def _same_media(found: Sequence[Resolution]) -> Iterator[Finding]:
    """Videos that are kept under two names; lists that repeat those of a series share them on purpose."""
    videos = [entry for entry in found if entry.file is not None and not entry.reference.repeats]
    sizes = Counter(entry.file.size for entry in videos if entry.file is not None)
    first: dict[Hashable, Resolution] = {}
    for entry in videos:
        file, reference = entry.file, entry.reference
        if file is None or sizes[file.size] == 1:
            continue
        for key in (file.identity, _sample(file)):
            other = first.setdefault(key, entry)
            if other.reference.stored_path != reference.stored_path:
                how = "it is" if key == file.identity else "it has the same size, beginning and end as"
                yield of_reference(
                    reference, Severity.INFO, "same-media", f"{how} the video of another entry, under another name",
                    found=f"same as {other.reference.object_path!r}, {other.reference.field}[{other.reference.index}]",
                )  # fmt: skip
                break


def _sample(file: MediaFile) -> Hashable:
    """The size, beginning and end of a video; the file itself if it cannot be read."""
    try:
        with open(file.real, "rb", buffering=0) as stream:
            digest = hashlib.blake2b(stream.read(_SAMPLE))
            stream.seek(max(0, file.size - _SAMPLE))
            digest.update(stream.read(_SAMPLE))
    except OSError:
        return file.identity
    return file.size, digest.digest()


def _orphans(path: Path, found: Sequence[Resolution]) -> Iterator[Finding]:
    """Files in the media folder of an NWB file that it does not refer to."""
    folder = path.parent / nwb_stem(path)
    if not folder.is_dir() or folder.is_symlink() or folder == path:
        return
    home = Path(os.path.realpath(path.parent))
    wanted = {
        os.path.normpath(home / entry.reference.stored_path.replace("\\", "/"))
        for entry in found
        if not entry.url and "\0" not in entry.reference.stored_path
    } | {str(entry.file.path) for entry in found if entry.file is not None}
    # DANDI skips names with a dot; they belong to file managers and to this package.
    for place, folders, names in os.walk(home / folder.name):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*names, *linked]):
            media = os.path.join(place, name)
            if name.startswith(".") or media in wanted:
                continue
            if name in linked and any(one.startswith(media + os.sep) for one in wanted):
                continue
            kind = "a broken symbolic link" if not os.path.exists(media) else "a file"
            yield of_file(
                path, Severity.WARNING, "orphan", f"there is {kind} in its media folder to which the NWB file does not "
                f"refer", "remove it if nobody needs it", found=repr(os.path.relpath(media, home)),
            )  # fmt: skip

"""What the media of an NWB file are, for its manifest, and against it."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..disk.contents import digest_of
from ..naming import is_conventional, is_showable
from ..nwb.manifest import ManifestRow
from ..nwb.references import ExternalFileReference
from ..plans.plan import Action, Relocation, RelocationPlan
from ..plans.resolve import MediaFile, Resolution, media_file
from ..web.download import part_name
from .probe import probe

__all__ = [
    "MediaState",
    "Verification",
    "find_by_content",
    "make_rows",
    "other_videos",
    "rows_by_entry",
    "verify_media",
]


class MediaState(StrEnum):
    """What a video is, against what the manifest says of it."""

    SAME = "same"
    CHANGED = "changed"
    """It has other content."""
    TRUNCATED = "truncated"
    """It is shorter than it was."""
    SWAPPED = "swapped"
    """It is the video of another entry."""
    UNREADABLE = "unreadable"
    """It cannot be read, so nobody can tell what it is."""
    MISSING = "missing"
    STALE = "stale"
    """The text was changed since the manifest was written, so that this speaks of another video."""
    UNKNOWN = "unknown"
    """The manifest does not speak of it."""

    @property
    def is_bad(self) -> bool:
        """Whether the video is not there as it was."""
        return self not in (MediaState.SAME, MediaState.STALE, MediaState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found of one reference."""

    resolution: Resolution
    state: MediaState
    row: ManifestRow | None = None
    """What the manifest says of it; None if it does not speak of it."""
    video_of: ManifestRow | None = None
    """Whose video it is, where it is swapped."""


def rows_by_entry(rows: Iterable[ManifestRow]) -> Callable[[ExternalFileReference], ManifestRow | None]:
    """Give what tells the row of a reference, if there is one.

    An object is known by its object_id, which stays where the object is renamed. Objects of very old files have none,
    and copies of an object have the same one; they are known by their path.
    """
    by_both: dict[tuple[str, tuple[str, str, int]], ManifestRow] = {}
    by_id: dict[tuple[str, str, int], ManifestRow | None] = {}  # None: more than one
    for row in rows:
        by_both[row.referring_object_id, row.place] = row
        entry = row.referring_object_id, row.field, row.index
        by_id[entry] = None if entry in by_id else row

    def row_of(reference: ExternalFileReference) -> ManifestRow | None:
        object_id = reference.object_id or ""
        there = by_both.get((object_id, reference.entry))
        if there is None and object_id:
            return by_id.get((object_id, reference.field, reference.index))
        return there

    return row_of


def verify_media(
    rows: Sequence[ManifestRow],
    found: Iterable[Resolution],
    *,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> Iterator[Verification]:
    """Compare media with the manifest.

    Parameters
    ----------
    rows : sequence of ManifestRow
        The manifest.
    found : iterable of Resolution
        All references of the NWB file, and what they mean.
    on_bytes : callable
        Called with each number of bytes read. Each video is read once; of those whose size tells all, nothing.

    Yields
    ------
    Verdict
        One for each reference that is no URL.
    """
    of_entry = rows_by_entry(rows)
    by_digest = {row.sha256: row for row in rows}
    sizes = {row.size_in_bytes for row in rows}
    digests: dict[tuple[int, int], str | None] = {}
    for resolution in found:
        if resolution.url:
            continue
        reference, file = resolution.reference, resolution.file
        row = of_entry(reference)
        if row is None:
            yield Verification(resolution, MediaState.UNKNOWN)
        elif row.path != reference.stored_path:
            yield Verification(resolution, MediaState.STALE, row)
        elif file is None:
            yield Verification(resolution, MediaState.MISSING, row)
        else:
            if file.size in sizes and file.identity not in digests:
                digests[file.identity] = _digest_if_readable(file, on_bytes)
            digest = digests.get(file.identity, "")
            if digest is None:
                yield Verification(resolution, MediaState.UNREADABLE, row)
            elif digest == row.sha256:
                yield Verification(resolution, MediaState.SAME, row)
            elif digest in by_digest:
                yield Verification(resolution, MediaState.SWAPPED, row, by_digest[digest])
            else:
                state = MediaState.TRUNCATED if file.size < row.size_in_bytes else MediaState.CHANGED
                yield Verification(resolution, state, row)


def find_by_content(
    rows: Iterable[ManifestRow],
    folders: Iterable[Path],
    *,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> dict[str, MediaFile]:
    """Find the videos of a manifest by what is in them, whatever they are called.

    Parameters
    ----------
    rows : iterable of ManifestRow
        The videos that are wanted.
    folders : iterable of pathlib.Path
        Where to look, at any depth. Symbolic links to folders are not followed; what cannot be read is passed over.
    on_bytes : callable
        Called with each number of bytes read. Only files of the right size are read.

    Returns
    -------
    dict of str to MediaFile
        By SHA-256; the first that was found of each, those with their original name before others.
    """
    wanted = {row.sha256: row for row in rows}
    names = {row.original_name for row in wanted.values()}
    sizes = {row.size_in_bytes for row in wanted.values()}
    found: dict[str, MediaFile] = {}
    for file in sorted(_files_of_size(folders, sizes), key=lambda file: file.path.name not in names):
        open_sizes = {row.size_in_bytes for row in wanted.values() if row.sha256 not in found}
        if file.size in open_sizes:
            digest = _digest_if_readable(file, on_bytes)
            if digest is not None and digest in wanted:
                found.setdefault(digest, file)
    return found


def _digest_if_readable(file: MediaFile, on_bytes: Callable[[int], object]) -> str | None:
    """The SHA-256 of a video; None if it cannot be read, which must not keep others from being looked at."""
    try:
        return digest_of(file.real, on_bytes=on_bytes)
    except OSError:
        return None


def _files_of_size(folders: Iterable[Path], sizes: set[int]) -> Iterator[MediaFile]:
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        for place, below, names in os.walk(folder):
            below.sort()
            for name in sorted(names):
                file = media_file(Path(place, name))
                if isinstance(file, MediaFile) and file.size in sizes and file.identity not in seen:
                    seen.add(file.identity)
                    yield file


def make_rows(
    plan: RelocationPlan, digests: Mapping[tuple[int, int], str], fetched: Mapping[str, MediaFile]
) -> list[ManifestRow]:
    """Make the rows of a manifest.

    Parameters
    ----------
    plan : RelocationPlan
        What happens to the media, and what the manifest said before.
    digests : mapping
        The SHA-256 of each file, by device and inode of the source.
    fetched : mapping
        What was fetched from servers, by `web.download.part_name`.

    Returns
    -------
    list of ManifestRow
        One for each reference that means a file, in the order of the plan; URLs that stay have none. Of a video that
        was not found, what the manifest said before stays.
    """
    before = rows_by_entry(plan.manifest or ())
    name_of = {row.sha256: row.original_name for row in plan.manifest or ()}
    rows = []
    for entry in plan.relocations:
        former = before(entry.reference)
        if former is not None and former.path != entry.reference.stored_path:
            former = None  # it speaks of another video
        file = entry.source or (fetched.get(part_name(entry.remote)) if entry.remote is not None else None)
        if file is not None:
            sha256 = digests[file.identity]
            name = _original_name(file) if entry.remote is None else _name_of_url(entry)
            if former is not None or is_conventional(name):
                name = name_of.get(sha256, name if former is None else former.original_name)
            if former is not None and former.sha256 == sha256:
                name = former.original_name  # of two videos alike, each keeps its own
            rows.append(_row(entry, file, sha256, name))
        elif former is not None and entry.action is Action.KEEP:
            rows.append(former)
    return rows


def other_videos(plan: RelocationPlan, rows: Iterable[ManifestRow]) -> Iterator[str]:
    """Warnings of videos that are not those that the manifest told of: it is the last trace of what they were."""
    before = rows_by_entry(plan.manifest or ())
    now = {row.place: row for row in rows}
    for reference in (entry.reference for entry in plan.relocations):
        former, row = before(reference), now.get(reference.entry)
        if former and row and former.path == reference.stored_path and former.sha256 != row.sha256:
            yield (
                f"{reference.where}: its video is not {former.original_name[:300]!r} of {former.size_in_bytes:,} bytes "
                f"with SHA-256 {former.sha256[:64]}, of which the manifest told; now that tells of the video that is "
                f"there. If it is damaged, put the right one in the place of {row.path!r}"
            )


def _row(entry: Relocation, file: MediaFile, sha256: str, original_name: str) -> ManifestRow:
    facts = probe(file.real)
    return ManifestRow(
        referring_object_id=entry.reference.object_id or "",
        referring_object_path=entry.reference.object_path,
        field=entry.reference.field,
        index=entry.reference.index,
        path=entry.new_path,
        original_name=original_name,
        size_in_bytes=file.size,
        sha256=sha256,
        media_type=mimetypes.guess_type(entry.new_path.lower(), strict=False)[0] or "",
        width=facts.width,
        height=facts.height,
        frame_count=facts.frame_count,
        frame_rate=facts.frame_rate,
    )


def _name_of_url(entry: Relocation) -> str:
    name = entry.remote.name.rpartition("/")[2] if entry.remote is not None else ""
    return _restorable(name) or PurePosixPath(entry.new_path).name


def _original_name(file: MediaFile) -> str:
    """What a video was called; a link with a name of the archive tells it by what it leads to."""
    name = (file.real if is_conventional(file.path.name) else file.path).name
    # pynwb reads a table of valid texts only
    return _restorable(os.fsencode(name).decode("utf-8", "replace"))


def _restorable(name: str) -> str:
    """A name without what no file gets back by `restore`: what cannot be shown, or leads elsewhere on some system."""
    drive = PureWindowsPath(name).drive
    odd = {"\\", *(character for character in name if not is_showable(character)), *(":" if drive else "")}
    return "".join("\N{REPLACEMENT CHARACTER}" if character in odd else character for character in name)

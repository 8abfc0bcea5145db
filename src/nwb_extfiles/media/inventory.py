"""The media of an NWB file: described for its manifest, and compared with it."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..disk.contents import digest_of
from ..hints import Message
from ..naming import is_conventional, is_showable
from ..nwb.manifest import ManifestRow
from ..nwb.references import ExternalFileReference
from ..plans.media_files import MediaFile, behind_link, media_file
from ..plans.plan import Action, Relocation, RelocationPlan
from ..plans.resolve import Resolution
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
    """The state of a video, compared with the manifest."""

    SAME = "same"
    CHANGED = "changed"
    """Its content is different."""
    TRUNCATED = "truncated"
    """Its content is different, and shorter."""
    SWAPPED = "swapped"
    """It is the video of another entry."""
    UNREADABLE = "unreadable"
    """It cannot be read."""
    MISSING = "missing"
    STALE = "stale"
    """The stored path was changed after the manifest was written, so its row describes another video."""
    UNKNOWN = "unknown"
    """The manifest has no row for it."""

    @property
    def is_bad(self) -> bool:
        """Whether the video is not what the manifest describes."""
        return self not in (MediaState.SAME, MediaState.STALE, MediaState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Verification:
    """The result for one reference."""

    resolution: Resolution
    state: MediaState
    row: ManifestRow | None = None
    """Its row in the manifest, if there is one."""
    video_of: ManifestRow | None = None
    """If it is swapped: the row that describes it."""


def rows_by_entry(rows: Iterable[ManifestRow]) -> Callable[[ExternalFileReference], ManifestRow | None]:
    """A function that finds the row of a reference.

    An object is identified by its object_id, which stays the same when the object is renamed. Objects in very old
    files have none, and copies of an object share one; they are identified by their path.
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
        All references of the NWB file, resolved.
    on_bytes : callable
        Called with each number of bytes read. Each video is read at most once, and not if its size already differs.

    Yields
    ------
    Verification
        One for each reference that is not a URL.
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
    nwb_path: Path,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> dict[str, MediaFile]:
    """Find the videos of a manifest by their content, whatever their names.

    Parameters
    ----------
    rows : iterable of ManifestRow
        Of the videos to find.
    folders : iterable of pathlib.Path
        Searched at any depth. Symbolic links to folders are not followed; what cannot be read is skipped.
    nwb_path : pathlib.Path
        The NWB file that the manifest is in.
    on_bytes : callable
        Called with each number of bytes read. Only files of the right size are read.

    Returns
    -------
    dict of str to MediaFile
        By SHA-256; of several copies the first, those with the original name before others.
    """
    wanted = {row.sha256: row for row in rows}
    names = {row.original_name for row in wanted.values()}
    sizes = {row.size_in_bytes for row in wanted.values()}
    found: dict[str, MediaFile] = {}
    for file in sorted(_files_of_size(folders, sizes, nwb_path), key=lambda file: file.path.name not in names):
        open_sizes = {row.size_in_bytes for row in wanted.values() if row.sha256 not in found}
        if file.size in open_sizes:
            digest = _digest_if_readable(file, on_bytes)
            if digest is not None and digest in wanted:
                found.setdefault(digest, file)
    return found


def _digest_if_readable(file: MediaFile, on_bytes: Callable[[int], object]) -> str | None:
    """The SHA-256 of a video; None if it cannot be read, which must not stop the search."""
    try:
        return digest_of(file.real, on_bytes=on_bytes)
    except OSError:
        return None


def _files_of_size(folders: Iterable[Path], sizes: set[int], nwb_path: Path) -> Iterator[MediaFile]:
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        for place, below, names in os.walk(folder):
            below.sort()
            for name in sorted(names):
                file = media_file(Path(place, name))
                if isinstance(file, MediaFile) and file.size in sizes and file.identity not in seen:
                    seen.add(file.identity)
                    yield behind_link(file, Path(place, name), str(nwb_path.parent))


def make_rows(
    plan: RelocationPlan, digests: Mapping[tuple[int, int], str], made: Mapping[Hashable, MediaFile]
) -> list[ManifestRow]:
    """Make the rows of a manifest.

    Parameters
    ----------
    plan : RelocationPlan
        What happens to the media, and what the manifest said before.
    digests : mapping
        The SHA-256 of each file, by device and inode of the source.
    made : mapping
        The downloaded files, by `web.download.part_name`, and the remuxed ones, by the `content` of their entry.

    Returns
    -------
    list of ManifestRow
        One for each reference to a file, in the order of the plan; URLs that stay have none. The former row of a video
        that was not found stays.
    """
    before = rows_by_entry(plan.manifest or ())
    name_of = {row.sha256: row.original_name for row in plan.manifest or ()}
    original_of = {row.sha256: row.original_sha256 for row in plan.manifest or ()}
    rows = []
    for entry in plan.relocations:
        former = before(entry.reference)
        if former is not None and former.path != entry.reference.stored_path:
            former = None  # it describes another video
        file = entry.source or (made.get(part_name(entry.remote)) if entry.remote is not None else None)
        if file is not None:
            sha256 = digests[file.identity]
            name = _original_name(file) if entry.remote is None else _name_of_url(entry)
            if former is not None or is_conventional(name):
                name = name_of.get(sha256, name if former is None else former.original_name)
            if former is not None and former.sha256 == sha256:
                name = former.original_name  # each of two identical videos keeps its own
            original = original_of.get(sha256, "")
            if entry.remux is not None:
                file, original = made[entry.content], sha256
                sha256 = digests[file.identity]
            rows.append(_row(entry, file, sha256, name, original))
        elif former is not None and entry.action is Action.KEEP:
            rows.append(former)
    return rows


def other_videos(plan: RelocationPlan, rows: Iterable[ManifestRow]) -> Iterator[Message]:
    """Warnings about videos that are not those of the former manifest, which is the last trace of what they were."""
    before = rows_by_entry(plan.manifest or ())
    now = {row.place: row for row in rows}
    for reference in (entry.reference for entry in plan.relocations):
        former, row = before(reference), now.get(reference.entry)
        if former and row and former.path == reference.stored_path:
            if former.sha256 in (row.sha256, row.original_sha256):
                continue
            yield Message(
                f"{reference.where}: the manifest described {former.original_name[:300]!r}, {former.size_in_bytes:,} "
                f"bytes with SHA-256 {former.sha256[:64]}; the video there is another one, and the new manifest "
                f"describes that",
                f"if it is damaged, replace {row.path!r} by the right one",
            )


def _row(entry: Relocation, file: MediaFile, sha256: str, original_name: str, original_sha256: str) -> ManifestRow:
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
        original_sha256=original_sha256,
    )


def _name_of_url(entry: Relocation) -> str:
    name = entry.remote.name.rpartition("/")[2] if entry.remote is not None else ""
    return _restorable(name) or PurePosixPath(entry.new_path).name


def _original_name(file: MediaFile) -> str:
    """The original name of a video; of a link with a name of the archive, that of its target."""
    name = (file.real if is_conventional(file.path.name) else file.path).name
    # pynwb reads only tables of valid UTF-8
    return _restorable(os.fsencode(name).decode("utf-8", "replace"))


def _restorable(name: str) -> str:
    """A name without characters that `restore` refuses: unprintable, or part of a path on some system."""
    drive = PureWindowsPath(name).drive
    odd = {"\\", *(character for character in name if not is_showable(character)), *(":" if drive else "")}
    return "".join("\N{REPLACEMENT CHARACTER}" if character in odd else character for character in name)

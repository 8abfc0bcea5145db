"""What a report shows of NWB files and their media, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ...hints import Message
from ...media.pyav.reading import NotAVideo, VideoFacts
from ...nwb.references import ExternalFileReference
from ...nwb.series import SeriesFacts
from ...plans.locate import LocationKind
from ..check.findings import Finding, Findings

__all__ = ["FileFacts", "Place", "Report", "ReportedFile", "ReportedMedia", "ReportedSeries"]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was read of one file."""

    read: VideoFacts | NotAVideo | None = None
    """None if it was not, or could not be read."""
    unreadable: str | None = None
    """Why it could not be read."""
    thumbnail: bytes | None = None
    """One of its frames, as WebP."""

    @property
    def video(self) -> VideoFacts | None:
        """The facts of a video."""
        return self.read if isinstance(self.read, VideoFacts) else None

    @property
    def reason(self) -> str | None:
        """Why it is no video, as the end of a sentence that begins with the file; None for images."""
        if isinstance(self.read, NotAVideo) and not self.read.image:
            return self.read.reason
        return None if self.unreadable is None else f"cannot be read: {self.unreadable}"


class Place(NamedTuple):
    """A file in a tree."""

    path: str
    """With forward slashes, relative to the root of the report if it is in it."""
    is_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMedia:
    """One stored path."""

    reference: ExternalFileReference
    kind: LocationKind
    location: str | None
    """The file or URL that the path means; None if it is missing."""
    size: int | None
    """Of the file, in bytes."""
    facts: FileFacts
    link: str | None
    """A relative URL from the folder of the report to the file, if browsers play it."""
    findings: tuple[Finding, ...]
    original_name: str | None = None
    """The name of the file before it got one by DANDI's rules, if that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedSeries:
    """One field of an object that holds paths."""

    object_path: str
    neurodata_type: str
    field: str
    frames: SeriesFacts | None
    """What the NWB file says of its frames; None if it is not an ImageSeries."""
    media: tuple[ReportedMedia, ...]
    findings: tuple[Finding, ...]
    """Those about the series as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFile:
    """One NWB file."""

    path: Path
    size: int
    """In bytes; of a Zarr store with all that is in it."""
    series: tuple[ReportedSeries, ...]
    findings: tuple[Finding, ...]
    """All of them."""
    before: tuple[Place, ...]
    """The NWB file, and the files that it refers to, missing ones too."""
    after: tuple[Place, ...] | None
    """The same after `relocate`; None if it would refuse."""
    refusal: tuple[str, ...]
    """Why it would refuse."""

    @property
    def media(self) -> tuple[ReportedMedia, ...]:
        """The media of all series."""
        return tuple(media for series in self.series for media in series.media)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report shows."""

    root: Path
    """The folder that was named, or that has all that was named."""
    written: datetime
    version: str
    files: tuple[ReportedFile, ...]
    findings: Findings
    unowned: tuple[tuple[str, int], ...]
    """Videos and images to which none of the NWB files refers, relative to the root, and their sizes in bytes."""
    unread: Message | None
    """Why videos were not read, and what to do."""
    thumbnails_left_out: int
    """Videos without a thumbnail, because the page would become too large."""

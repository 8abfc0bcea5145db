"""What the page of a report shows, as plain values for JSON."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..media.pyav.reading import VideoFacts
from ..plans.locate import LocationKind
from ..tasks.report.data import Place, Report, ReportedFile, ReportedMedia, ReportedSeries
from .terminal import finding_record

__all__ = ["report_record"]


def report_record(report: Report) -> dict[str, Any]:
    """A report as plain values: its paths are absolute, sizes in bytes, times in seconds; what is not known is None."""
    unread = report.unread
    return {
        "root": str(report.root),
        "written": report.written.isoformat(timespec="seconds"),
        "version": report.version,
        "counts": {str(severity): count for severity, count in report.findings.counts.items()},
        "videos_not_read": None if unread is None else unread.command_line,
        "nwb_files": [_file(file, report.root) for file in report.files],
        "findings": [finding_record(finding) for finding in report.findings],
        "unowned_media": [{"path": os.path.join(report.root, path), "bytes": count} for path, count in report.unowned],
    }


def _file(file: ReportedFile, root: Path) -> dict[str, Any]:
    return {
        "nwb_path": str(file.path),
        "bytes": file.size,
        "series": [_series(series) for series in file.series],
        "files_now": _places(file.before, root),
        "files_after_relocate": None if file.after is None else _places(file.after, root),
        "relocate_refuses": list(file.refusal),
    }


def _places(places: Iterable[Place], root: Path) -> list[dict[str, Any]]:
    return [{"path": os.path.join(root, place.path), "is_missing": place.is_missing} for place in places]


def _series(series: ReportedSeries) -> dict[str, Any]:
    return {
        "object_path": series.object_path,
        "neurodata_type": series.neurodata_type,
        "field": series.field,
        **({} if series.frames is None else asdict(series.frames)),
        "media": [_media(media) for media in series.media],
    }


def _media(media: ReportedMedia) -> dict[str, Any]:
    video = media.facts.video
    return {
        "index": media.reference.index,
        "object_id": media.reference.object_id,
        "stored_path": media.reference.stored_path,
        "original_name": media.original_name,
        "path": media.location if media.kind is LocationKind.FILE else None,
        "is_url": media.kind is LocationKind.URL,
        "bytes": media.size,
        "video": None if video is None else _video(video),
        "not_a_video": media.facts.reason,
    }


def _video(video: VideoFacts) -> dict[str, Any]:
    return {**asdict(video), "rate": None if video.rate is None else float(video.rate)}

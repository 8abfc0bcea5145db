"""What the media of an NWB file are, for its manifest, and against it."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping

from .manifest import ManifestRow
from .naming import is_conventional
from .plan import Action, Relocation, RelocationPlan
from .probe import probe
from .resolve import MediaFile

__all__ = ["make_rows"]


def make_rows(plan: RelocationPlan, digests: Mapping[tuple[int, int], str]) -> list[ManifestRow]:
    """Make the rows of a manifest.

    Parameters
    ----------
    plan : RelocationPlan
        What happens to the media, and what the manifest said before.
    digests : mapping
        The SHA-256 of each file, by device and inode of the source.

    Returns
    -------
    list of ManifestRow
        One for each reference that means a file, in the order of the plan; URLs have none. Of a film that was not
        found, what the manifest said before stays.
    """
    before = {(row.referring_object_id, row.field, row.index): row for row in plan.manifest or ()}
    rows = []
    for entry in plan.relocations:
        former = before.get((entry.reference.object_id or "", entry.reference.field, entry.reference.index))
        if former is not None and former.path != entry.reference.text:
            former = None  # it speaks of another film
        if entry.source is not None:
            rows.append(_row(entry, entry.source, digests[entry.source.identity], former))
        elif former is not None and entry.action is Action.KEEP:
            rows.append(former)
    return rows


def _row(entry: Relocation, file: MediaFile, sha256: str, former: ManifestRow | None) -> ManifestRow:
    facts = probe(file.real)
    return ManifestRow(
        referring_object_id=entry.reference.object_id or "",
        referring_object_path=entry.reference.object_path,
        field=entry.reference.field,
        index=entry.reference.index,
        path=entry.text,
        original_name=former.original_name if former is not None else _original_name(file),
        size_in_bytes=file.size,
        sha256=sha256,
        media_type=mimetypes.guess_type(file.path.name.lower(), strict=False)[0] or "",
        width=facts.width,
        height=facts.height,
        frame_count=facts.frame_count,
        frame_rate=facts.frame_rate,
    )


def _original_name(file: MediaFile) -> str:
    """What a film was called; a link with a name of the archive tells it by what it leads to."""
    return (file.real if is_conventional(file.path.name) else file.path).name

"""What organizing has to know of an NWB file, as values, and as JSON for the cache."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import ExternalFilesError
from ...nwb.manifest import ManifestRow
from ...nwb.references import ExternalFileReference
from .layout import MODALITIES

__all__ = ["Inspected", "Named", "from_record", "record_of"]

_START = "session_start_time"


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was read from one NWB file."""

    path: Path
    size: int
    stamp: tuple[int, ...]
    identifier: str
    object_id: str | None
    metadata: dict[str, Any]
    references: tuple[ExternalFileReference, ...]
    manifest: tuple[ManifestRow, ...] | None
    problems: tuple[ExternalFilesError, ...]
    digest: bytes | None = None
    """Of its bytes, if these alone decide about the rest, and the cache is in use."""
    was_known: bool = False
    """Whether the rest is from the cache."""


@dataclass(frozen=True, slots=True)
class Named:
    """What was read from an NWB file that is in the dandiset already."""

    path: Path
    object_id: str | None
    identifier: str
    metadata: dict[str, Any]


def record_of(item: Inspected) -> dict[str, Any]:
    """What the bytes of a file say, without its path, for JSON."""
    metadata = {key: value for key, value in item.metadata.items() if key != "path"}
    return {
        "identifier": item.identifier,
        "object_id": item.object_id,
        "metadata": metadata | {_START: metadata[_START].isoformat()},
        "references": [_without_place(asdict(reference)) for reference in item.references],
        "manifest": None if item.manifest is None else [asdict(row) for row in item.manifest],
    }


def from_record(record: dict[str, Any], path: Path, size: int, stamp: tuple[int, ...], digest: bytes) -> Inspected:
    """What `record_of` was made of, for a file with the same bytes."""
    metadata = {"path": str(path), **record["metadata"]}
    metadata[_START] = datetime.fromisoformat(metadata[_START])
    if MODALITIES in metadata:
        metadata[MODALITIES] = tuple(metadata[MODALITIES])
    nwb_path = os.path.abspath(path)
    place: dict[str, Any] = {"nwb_path": nwb_path, "base": os.path.dirname(nwb_path)}
    manifest = record["manifest"]
    return Inspected(
        path,
        size,
        stamp,
        record["identifier"],
        record["object_id"],
        metadata,
        tuple(ExternalFileReference(**place, **reference) for reference in record["references"]),
        None if manifest is None else tuple(ManifestRow(**row) for row in manifest),
        (),
        digest,
        was_known=True,
    )


def _without_place(reference: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reference.items() if key not in ("nwb_path", "base")}

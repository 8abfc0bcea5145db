"""What plans, references and findings look like on a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from .check import Finding
from .dandiset import OrganizedFile, OrganizePlan
from .plan import Action, Relocation, RelocationPlan
from .resolve import Resolution

__all__ = [
    "as_json",
    "finding_line",
    "organize_lines",
    "organize_record",
    "plain",
    "reference_lines",
    "reference_record",
    "relocation_lines",
    "relocation_record",
]


def plain(text: str) -> str:
    """A text that a terminal shows as it is: what controls terminals, or is no Unicode, is spelled out."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


def as_json(value: Any) -> str:
    """A record as JSON, in ASCII."""
    return json.dumps(value, indent=2, default=str)


# ---------------------------------------------------------------------- plans


def relocation_lines(plan: RelocationPlan) -> Iterator[str]:
    """A plan for one NWB file, as a table."""
    yield str(plan.nwb_path)
    yield from _media_lines(plan)
    yield _total([plan], 0, plan.media_bytes)


def organize_lines(plan: OrganizePlan) -> Iterator[str]:
    """A plan for many NWB files, as a table; targets are relative to the dandiset."""
    yield f"into {plan.dandiset_path}"
    files = 0
    for file in plan:
        files += not (file.is_there or file.in_place)
        target = file.target.relative_to(plan.dandiset_path)
        yield f"{_files_mode(file, plan):9} {_size(file.size)}  {file.source} -> {target}"
        yield from _media_lines(file.plan, f"{target.parent}/")
    yield _total((file.plan for file in plan), files, plan.total_bytes)


def _files_mode(file: OrganizedFile, plan: OrganizePlan) -> str:
    if file.in_place:
        return "stays"
    return "is there" if file.is_there else str(plan.files_mode)


def _media_lines(plan: RelocationPlan, folder: str = "") -> Iterator[str]:
    for entry in plan.relocations:
        size = _size(entry.source.size) if entry.source is not None else " " * 19
        source = str(entry.source.path) if entry.source is not None else repr(entry.reference.text)
        yield f"  {_mode(entry, plan):9} {size}  {source} -> {folder}{entry.text}"


def _mode(entry: Relocation, plan: RelocationPlan) -> str:
    """What happens, in a word that a user knows: the mode, where the file gets there in that."""
    if entry.action in (Action.TRANSFER, Action.POINT):
        return str(plan.mode)
    return str(entry.action)


def _size(size: int) -> str:
    return f"{size:>13,} bytes"


def _total(plans: Iterable[RelocationPlan], files: int, size: int) -> str:
    media = sum(entry.is_transfer for plan in plans for entry in plan.relocations)
    heads = f"{files} NWB {'file' if files == 1 else 'files'} and " if files else ""
    return f"total: {heads}{media} media to bring, {size:,} bytes"


def relocation_record(plan: RelocationPlan) -> dict[str, Any]:
    """A plan for one NWB file, as plain values."""
    return {
        "nwb_path": str(plan.nwb_path),
        "media_mode": str(plan.mode),
        "media": [
            {
                **_place(entry.reference),
                "action": str(entry.action),
                "mode": _mode(entry, plan),
                "source": None if entry.source is None else str(entry.source.path),
                "target": None if entry.target is None else str(plan.nwb_path.parent / entry.target),
                "new_text": entry.text,
                "bytes": None if entry.source is None else entry.source.size,
            }
            for entry in plan.relocations
        ],
        "total_bytes": plan.media_bytes,
        "warnings": list(plan.warnings),
    }


def organize_record(plan: OrganizePlan) -> dict[str, Any]:
    """A plan for many NWB files, as plain values."""
    return {
        "dandiset_path": str(plan.dandiset_path),
        "files": [
            {
                "source": str(file.source),
                "target": str(file.target),
                "mode": _files_mode(file, plan),
                "bytes": file.size,
                **{key: value for key, value in relocation_record(file.plan).items() if key in ("media", "media_mode")},
            }
            for file in plan
        ],
        "total_bytes": plan.total_bytes,
        "warnings": list(plan.warnings),
    }


# ----------------------------------------------------------------- references


def _place(reference: Any) -> dict[str, Any]:
    return {
        "object_path": reference.object_path,
        "neurodata_type": reference.neurodata_type,
        "object_id": reference.object_id,
        "field": reference.field,
        "index": reference.index,
        "text": reference.text,
    }


def reference_lines(found: Resolution) -> Iterator[str]:
    """One reference, and what it means."""
    reference = found.reference
    yield (
        f"  {reference.object_path}  {reference.neurodata_type} {reference.object_id or '(no object_id)'}  "
        f"{reference.field}[{reference.index}]"
    )
    yield f"    {reference.text!r} -> {_meaning(found)}"


def _meaning(found: Resolution) -> str:
    if found.file is not None:
        return f"{found.file.path}  {found.file.size:,} bytes"
    return "a URL" if found.url else "MISSING"


def reference_record(found: Resolution) -> dict[str, Any]:
    """One reference, as plain values."""
    return {
        "nwb_path": found.reference.nwb_path,
        **_place(found.reference),
        "path": None if found.file is None else str(found.file.path),
        "bytes": None if found.file is None else found.file.size,
        "is_url": found.url,
        "problem": None if found.problem is None else str(found.problem),
    }


# ------------------------------------------------------------------- findings


def finding_line(finding: Finding) -> str:
    """One finding, on a line."""
    text = f" {finding.text!r}:" if finding.text is not None else ""
    return f"{finding.severity.upper():7} {finding.code}: {finding.where}:{text} {finding.message}"

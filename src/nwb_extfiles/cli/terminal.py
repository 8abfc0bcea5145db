"""What plans, references and findings look like on a terminal, and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hints import for_command_line
from ..plans.locate import LocationKind, ResolvedExternalFile
from ..plans.media_files import leads_to_nothing
from ..plans.plan import RelocationPlan
from ..tables import plain, shown
from .summaries import in_words, organized_in_words, urls_line

if TYPE_CHECKING:  # whose modules are slow to import, and which `ls` does without
    from ..tasks.findings import Finding
    from ..tasks.organize_plan import OrganizePlan

__all__ = [
    "as_json",
    "finding_record",
    "organize_lines",
    "organize_record",
    "plain",
    "quoted",
    "reference_lines",
    "reference_record",
    "relocation_lines",
    "relocation_record",
    "shown",
]


DRY_RUN = "nothing was changed; without --dry-run: "
_LONGEST = 300  # characters of a stored path that are shown


def quoted(stored: str) -> str:
    """A stored path in quotes, shortened if it is long; backslashes stay as they are."""
    return f"'{stored}'" if len(stored) <= _LONGEST else f"'{stored[: _LONGEST - 100]}'… ({len(stored):,} characters)"


def as_json(value: Any) -> str:
    """A record as JSON, in ASCII."""
    return json.dumps(value, indent=2, default=str)


# ---------------------------------------------------------------------- plans


def relocation_lines(plan: RelocationPlan) -> Iterator[str]:
    """A plan for one NWB file, as a table."""
    show = _spelling([plan.nwb_path, *_places(plan)])
    yield show(plan.nwb_path)
    yield from _media_lines(plan, show)
    yield f"total: {in_words([plan])}"


def organize_lines(plan: OrganizePlan) -> Iterator[str]:
    """A plan for many NWB files, as a table."""
    places = (place for file in plan for place in (file.source, file.target, *_places(file.plan)))
    show = _spelling([plan.dandiset_path, *places])
    yield f"into {show(plan.dandiset_path)}"
    for file in plan:
        yield f"{plan.mode_shown(file):9} {_size(file.size)}  {show(file.source)} -> {show(file.target)}"
        yield from _media_lines(file.plan, show)
    yield f"{DRY_RUN}{organized_in_words(plan)}"
    yield from urls_line(plan.url_count)


def _places(plan: RelocationPlan) -> Iterator[Path]:
    """The places of media that a table of a plan shows."""
    yield from (entry.source.path for entry in plan.relocations if entry.source is not None)
    yield from (plan.nwb_path.parent / entry.target for entry in plan.relocations if entry.target is not None)


def _spelling(paths: Iterable[Path]) -> Callable[[Path], str]:
    """How paths of one table are shown: relative to the working directory if all are in it, else all absolute."""
    are_absolute = any(os.path.isabs(shown(path)) for path in paths)
    return os.path.abspath if are_absolute else shown


def _media_lines(plan: RelocationPlan, show: Callable[[Path], str]) -> Iterator[str]:
    for entry in plan.relocations:
        size = entry.size
        line = f"  {plan.mode_shown(entry):9} {' ' * 19 if size is None else _size(size)}  "
        source = quoted(entry.reference.stored_path) if entry.source is None else show(entry.source.path)
        if entry.target is not None:
            target = show(plan.nwb_path.parent / entry.target)
            yield f"{line}{target}" if plan.is_in_place(entry) else f"{line}{source} -> {target}"
        else:
            yield f"{line}{source}" if entry.source is None else f"{line}{source} -> {quoted(entry.new_path)}"


def _size(size: int) -> str:
    return f"{size:>13,} bytes"


def relocation_record(plan: RelocationPlan) -> dict[str, Any]:
    """A plan for one NWB file, as plain values."""
    return {
        "nwb_path": str(plan.nwb_path),
        "media_mode": str(plan.mode),
        "media": list(plan.records()),
        "total_bytes": plan.media_bytes,
        "copied_bytes": plan.copied_bytes,
        "warnings": list(map(for_command_line, plan.warnings)),
    }


def organize_record(plan: OrganizePlan) -> dict[str, Any]:
    """A plan for many NWB files, as plain values."""
    return {
        "dandiset_path": str(plan.dandiset_path),
        "files": [
            {
                "source": str(file.source),
                "target": str(file.target),
                "mode": plan.mode_shown(file),
                "bytes": file.size,
                **{key: value for key, value in relocation_record(file.plan).items() if key in ("media", "media_mode")},
            }
            for file in plan
        ],
        "total_bytes": plan.total_bytes,
        "warnings": list(map(for_command_line, plan.warnings)),
    }


# ----------------------------------------------------------------- references


def reference_lines(found: ResolvedExternalFile) -> Iterator[str]:
    """One reference, and its file."""
    reference = found.reference
    yield (
        f"  {reference.object_path}  {reference.neurodata_type} {reference.object_id or '(no object_id)'}  "
        f"{reference.field}[{reference.index}]"
    )
    yield f"    {quoted(reference.stored_path)} -> {_found(found)}"


def _found(found: ResolvedExternalFile) -> str:
    if found.location is not None and found.size is not None:
        return f"{shown(found.location)}  {found.size:,} bytes"
    if found.kind is LocationKind.URL:
        return "a URL"
    place = os.path.join(found.reference.base or "", found.reference.stored_path)
    is_broken_link = os.path.islink(place) and not os.path.exists(place)
    return f"MISSING: it is {leads_to_nothing(place)}" if is_broken_link else "MISSING"


def reference_record(found: ResolvedExternalFile) -> dict[str, Any]:
    """One reference, as plain values."""
    problem = None if found.problem is None else for_command_line(found.problem)
    return {
        "nwb_path": found.reference.nwb_path,
        **found.reference.record,
        "path": found.location if found.kind is LocationKind.FILE else None,
        "bytes": found.size,
        "is_url": found.kind is LocationKind.URL,
        "problem": problem,
    }


# ------------------------------------------------------------------- findings


def finding_record(finding: Finding) -> dict[str, Any]:
    """One finding, as plain values."""
    hint = None if finding.hint is None else for_command_line(finding.hint)
    return {**finding.record, "hint": hint, "message": finding.message.command_line}

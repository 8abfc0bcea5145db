"""What plans, references and findings look like on a terminal, and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..hints import counted, for_command_line
from ..plans.locate import LocationKind, ResolvedExternalFile
from ..plans.media_files import leads_to_nothing
from ..plans.plan import Relocation, RelocationPlan
from ..tables import plain, shown
from .summaries import in_total, in_words, organized_in_words, urls_line

if TYPE_CHECKING:  # whose modules are slow to import, and which `ls` does without
    from ..tasks.check.findings import Finding
    from ..tasks.organize.plan import OrganizePlan

__all__ = [
    "as_json",
    "finding_record",
    "organize_lines",
    "organize_record",
    "outcome_lines",
    "plain",
    "quoted",
    "reference_lines",
    "reference_record",
    "relocation_lines",
    "relocation_record",
    "shown",
]


_DRY_RUN = "nothing was changed; without --dry-run: "
_LONGEST = 300  # characters of a stored path that are shown
_MOST_LISTED = 20  # NWB files of a plan, and entries of each, that are shown


def quoted(stored: str) -> str:
    """A stored path in quotes, shortened if it is long; backslashes stay as they are."""
    return f"'{stored}'" if len(stored) <= _LONGEST else f"'{stored[: _LONGEST - 100]}'… ({len(stored):,} characters)"


def as_json(value: Any) -> str:
    """A record as JSON, in ASCII."""
    return json.dumps(value, indent=2, default=str)


# ---------------------------------------------------------------------- plans


def outcome_lines(plans: Sequence[RelocationPlan], *, dry_run: bool, width: int | None = None) -> Iterator[str]:
    """What is to be said of NWB files that were relocated or restored: of a dry run all, else the total of several."""
    if dry_run:
        for plan in plans[:_MOST_LISTED]:
            yield from relocation_lines(plan, width)
        yield from _more(len(plans), "NWB file")
        yield f"{_DRY_RUN}{in_total(plans)}"
    elif len(plans) != 1:
        yield f"total: {in_total(plans)}"


def relocation_lines(plan: RelocationPlan, width: int | None = None) -> Iterator[str]:
    """A plan for one NWB file, as a table; lines that are longer than the terminal are parted."""
    yield f"{shown(plan.nwb_path)}: {in_words([plan])}"
    yield from _media_lines(plan, width)


def organize_lines(plan: OrganizePlan, width: int | None = None) -> Iterator[str]:
    """A plan for many NWB files, as a table; lines that are longer than the terminal are parted."""
    yield f"into {shown(plan.dandiset_path)}"
    for file in plan.files[:_MOST_LISTED]:
        head = f"{plan.mode_shown(file):9} {_size(file.size)}  {shown(file.source)}"
        yield from _arrow(head, shown(file.target), width)
        yield from _media_lines(file.plan, width)
    yield from _more(len(plan), "NWB file")
    yield f"{_DRY_RUN}{organized_in_words(plan)}"
    yield from urls_line(plan.url_count)


def _more(count: int, noun: str, indent: str = "") -> Iterator[str]:
    if count > _MOST_LISTED:
        yield f"{indent}… and {counted(count - _MOST_LISTED, f'more {noun}')}; --json prints all"


def _arrow(source: str, target: str, width: int | None) -> Iterator[str]:
    """What goes where: on one line if there is room."""
    if width is None or len(source) + len(target) + 4 <= width:
        yield f"{source} -> {target}"
    else:
        yield source
        yield f"      -> {target}"


def _source(plan: RelocationPlan, entry: Relocation) -> str:
    """The file that is copied or linked; if it is a link that will be replaced, the file that the link leads to."""
    assert entry.source is not None
    path = entry.source.path
    is_replaced = entry.target is not None and path == plan.nwb_path.parent / entry.target
    return shown(path.resolve() if is_replaced else path)


def _media_lines(plan: RelocationPlan, width: int | None) -> Iterator[str]:
    for entry in plan.relocations[:_MOST_LISTED]:
        line = f"  {plan.mode_shown(entry):9} {_size(entry.size)}  "
        source = quoted(entry.reference.stored_path) if entry.source is None else _source(plan, entry)
        target = None if entry.target is None else shown(plan.nwb_path.parent / entry.target)
        if target is not None and plan.is_in_place(entry):
            yield f"{line}{target}"
        elif target is not None:
            yield from _arrow(f"{line}{source}", target, width)
        elif entry.source is None:
            yield f"{line}{source}"
        else:
            yield from _arrow(f"{line}{source}", quoted(entry.new_path), width)
    yield from _more(len(plan.relocations), "path", "  ")


def _size(size: int | None) -> str:
    return " " * 19 if size is None else f"{size:>13,} bytes"


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


def reference_lines(found: ResolvedExternalFile, width: int | None = None) -> Iterator[str]:
    """One reference, and its file; lines that are longer than the terminal are parted."""
    reference = found.reference
    yield (
        f"  {reference.object_path}  {reference.neurodata_type} {reference.object_id or '(no object_id)'}  "
        f"{reference.field}[{reference.index}]"
    )
    yield from _arrow(f"    {quoted(reference.stored_path)}", _found(found), width)


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

"""What plans, references and findings look like on a terminal, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .hints import for_command_line
from .plans.locate import LocationKind, ResolvedExternalFile
from .plans.plan import Action, RelocationPlan
from .plans.resolve import is_url
from .tables import plain, shown

if TYPE_CHECKING:  # whose modules are slow to import, and which `ls` does without
    from .tasks.findings import Finding
    from .tasks.organize_plan import OrganizePlan

__all__ = [
    "as_json",
    "finding_record",
    "media_summary",
    "organize_lines",
    "organize_record",
    "plain",
    "quoted",
    "reference_lines",
    "reference_record",
    "relocation_lines",
    "relocation_record",
    "shown",
    "urls_line",
]


_LONGEST = 300  # characters of a stored path that are shown


def quoted(stored: str) -> str:
    """A stored path in quotes, shortened if it is long; backslashes stay as they are."""
    return f"'{stored}'" if len(stored) <= _LONGEST else f"'{stored[: _LONGEST - 100]}'… ({len(stored):,} characters)"


def as_json(value: Any) -> str:
    """A record as JSON, in ASCII."""
    return json.dumps(value, indent=2, default=str)


# ---------------------------------------------------------------------- plans


def relocation_lines(plan: RelocationPlan) -> Iterator[str]:
    """A plan for one NWB file, as a table; targets are relative to its folder."""
    yield shown(plan.nwb_path)
    yield from _media_lines(plan)
    yield f"total: {media_summary(plan)}"


def organize_lines(plan: OrganizePlan) -> Iterator[str]:
    """A plan for many NWB files, as a table; targets are relative to the dandiset."""
    yield f"into {plan.dandiset_path}"
    files = 0
    for file in plan:
        files += not (file.is_there or file.in_place)
        target = file.target.relative_to(plan.dandiset_path)
        yield f"{plan.mode_shown(file):9} {_size(file.size)}  {shown(file.source)} -> {target}"
        yield from _media_lines(file.plan, f"{target.parent}/")
    yield _total((file.plan for file in plan), files, plan.total_bytes)
    yield from urls_line(plan.url_count)


def _media_lines(plan: RelocationPlan, folder: str = "") -> Iterator[str]:
    for entry in plan.relocations:
        size = entry.size
        line = f"  {plan.mode_shown(entry):9} {' ' * 19 if size is None else _size(size)}  "
        if entry.source is None:
            target = "" if entry.target is None else f" -> {folder}{entry.new_path}"
            yield f"{line}{quoted(entry.reference.stored_path)}{target}"
        elif plan.is_in_place(entry):
            yield f"{line}{folder}{entry.new_path}"
        else:
            yield f"{line}{shown(entry.source.path)} -> {folder}{entry.new_path}"


def _size(size: int) -> str:
    return f"{size:>13,} bytes"


def _total(plans: Iterable[RelocationPlan], files: int, size: int) -> str:
    # media that are renamed with their NWB file, or get a second name, count too, though no byte is copied
    media = sum(entry.creates_target for plan in plans for entry in plan.relocations)
    heads = f"{files} NWB {'file' if files == 1 else 'files'} and " if files else ""
    return f"total: {heads}{media} media, {size:,} bytes"


def media_summary(plan: RelocationPlan) -> str:
    """What a plan does to the media of one NWB file, in a few words."""
    counts: Counter[str] = Counter()
    for entry in plan.relocations:
        if entry.action is Action.KEEP and is_url(entry.reference.stored_path):
            counts["url"] += 1
        elif entry.remote is not None and entry.creates_target:
            counts[Action.DOWNLOAD] += 1  # a further name of it too
        else:
            counts["in place" if plan.is_in_place(entry) else str(entry.action)] += 1
    remuxed = counts[Action.REMUX]
    transferred, downloaded = counts[Action.TRANSFER] + counts[Action.DUPLICATE], counts[Action.DOWNLOAD]
    transferred_bytes = plan.media_bytes - plan.remux_bytes - plan.download_bytes
    parts = [
        (transferred, f"{transferred} media by {plan.mode}, {transferred_bytes:,} bytes"),
        (remuxed, f"{remuxed} remuxed, {plan.remux_bytes:,} bytes, and the originals stay"),
        (downloaded, f"{downloaded} by download, {plan.download_bytes:,} bytes"),
        (counts[Action.RENAME], f"{counts[Action.RENAME]} renamed with the NWB file"),
        (counts[Action.REWRITE_PATH], f"{counts[Action.REWRITE_PATH]} stay where they are"),
        (counts[Action.SHARE], f"{counts[Action.SHARE]} shared with other entries"),
        (counts[Action.REUSE], f"{counts[Action.REUSE]} there already"),
        (counts["in place"], f"{counts['in place']} in place already"),
        (counts[Action.KEEP], f"{counts[Action.KEEP]} not found"),
        (counts["url"], f"{counts['url']} {'URL' if counts['url'] == 1 else 'URLs'}"),
        (not plan.manifest_is_current, "a new manifest"),
    ]
    return "; ".join(words for count, words in parts if count) or "no media"


def urls_line(count: int) -> Iterator[str]:
    """A line about URLs that stay as they are, if there are any."""
    if count:
        yield f"{count} {'URL is' if count == 1 else 'URLs are'} kept; use --urls download to download the videos"


def relocation_record(plan: RelocationPlan) -> dict[str, Any]:
    """A plan for one NWB file, as plain values."""
    return {
        "nwb_path": str(plan.nwb_path),
        "media_mode": str(plan.mode),
        "media": list(plan.records()),
        "total_bytes": plan.media_bytes,
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
    return "a URL" if found.kind is LocationKind.URL else "MISSING"


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

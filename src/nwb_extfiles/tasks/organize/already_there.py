"""Whether an NWB file is in its place in the dandiset already: the one there has its content, and the paths planned."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...disk.moves import has_stamp, stamp
from ...errors import ExternalFilesError
from ...hints import Hint, Message
from ...nwb.comparison import is_edited_copy, same_content
from ...nwb.files import open_nwb
from ...nwb.manifest import ManifestRow, read_manifest
from ...nwb.registry import MediaField
from ...nwb.scan import find_in_file
from ...plans.plan import RelocationPlan
from .inspected import Inspected
from .plan import OrganizeSettings

if TYPE_CHECKING:
    from .known import KnownFiles

__all__ = ["Match", "find_match"]


@dataclass(frozen=True, slots=True)
class Match:
    """A target with the content of its source."""

    stamp: tuple[int, ...]
    """To see whether the target has changed since it was compared."""
    digests: tuple[bytes, bytes] | None = None
    """Of source and target, if all bytes were compared now, for the cache."""


def find_match(
    inspected: Inspected,
    plan: RelocationPlan,
    settings: OrganizeSettings,
    table: Sequence[MediaField],
    known: KnownFiles | None,
) -> tuple[RelocationPlan, Match | None]:
    """Compare a source with what is at its target.

    Parameters
    ----------
    inspected : Inspected
        The source.
    plan : RelocationPlan
        Of its media; its `nwb_path` is the target.
    settings : OrganizeSettings
        What the caller asks for.
    table : sequence of MediaField
        The places of paths, which do not count when the contents are compared.
    known : KnownFiles, optional
        What earlier runs know of the bytes of files.

    Returns
    -------
    RelocationPlan, Match or None
        The plan, without a manifest if the target has the same content and none; None if its content is another.
    """
    found = _match(inspected, plan, table, known)
    if found is None and plan.manifest == () and _may_lack_manifest(settings):
        return _without_manifest(inspected, plan, table, known)
    return plan, found


def _match(
    inspected: Inspected, plan: RelocationPlan, table: Sequence[MediaField], known: KnownFiles | None
) -> Match | None:
    """The target, if it has the content of the source, with the paths that are planned; else None."""
    target = plan.nwb_path
    if target.is_symlink() or target.is_dir() is not inspected.path.is_dir():
        return None
    try:
        before = stamp(os.stat(target))
        if plan.manifest is None:
            content = None if known is None else known.content(target)
            if known is not None and known.is_edited_copy(content, inspected, plan.edits):
                return _unless_changed(inspected, target, before)
            if is_edited_copy(target, inspected.path, plan.edits):
                digests = None if known is None else known.digests(inspected, target, content)
                return _unless_changed(inspected, target, before, digests)
        with open_nwb(target) as file:
            found = {entry.entry: entry.stored_path for entry in find_in_file(file, table)}
            manifest = read_manifest(file, target)
    except (ExternalFilesError, OSError):
        return None
    if any(found.get(entry, path) != path for entry, path in plan.new_paths.items()):
        return None
    if plan.manifest is not None and (manifest is None or not _names_in(plan.manifest) <= _names_in(manifest)):
        return None
    if not same_content(inspected.path, target, table):
        return None
    return _unless_changed(inspected, target, before)


def _may_lack_manifest(settings: OrganizeSettings) -> bool:
    """Whether a file that is there may stay without the manifest that is asked for: a move would lose the names."""
    return settings.files_mode == "copy" and settings.options.existing != "replace"


def _without_manifest(
    inspected: Inspected, plan: RelocationPlan, table: Sequence[MediaField], known: KnownFiles | None
) -> tuple[RelocationPlan, Match | None]:
    """The plan for a file that is there, but for its manifest, and that file; else the plan as it was."""
    without = replace(plan, manifest=None)
    found = _match(inspected, without, table, known)
    if found is None:
        return plan, None
    lacks = Message(
        f"{inspected.path}: {plan.nwb_path} is already there, and has no manifest",
        Hint("to give it one, replace it with {existing_replace}"),
    )
    return replace(without, warnings=(*plan.warnings, lacks)), found


def _unless_changed(
    inspected: Inspected, target: Path, before: tuple[int, ...], digests: tuple[bytes, bytes] | None = None
) -> Match | None:
    """The target, if neither file was written to while they were compared."""
    unchanged = has_stamp(inspected.path, inspected.stamp) and has_stamp(target, before)
    return Match(before, digests) if unchanged else None


def _names_in(manifest: Iterable[ManifestRow]) -> set[tuple[Any, ...]]:
    """What only a manifest knows: the original names of media."""
    return {(*row.place, row.original_name) for row in manifest}

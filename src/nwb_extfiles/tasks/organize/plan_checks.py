"""What refuses the plan for all NWB files together: targets that are one or are needed, and too little space."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...disk import contents, filesystem, links
from ...disk.moves import folded
from ...errors import (
    ExternalFilesError,
    RelocationRefusedError,
)
from ...hints import Hint, quoted
from .plan import OrganizedFile, OrganizeSettings

if TYPE_CHECKING:
    pass

__all__ = ["alike_targets", "no_space", "replaced_sources"]


def replaced_sources(files: list[OrganizedFile]) -> Iterator[ExternalFilesError]:
    """Problems of targets that are to be replaced, and that another file of the call is made of."""
    replaced: dict[tuple[int, int], Path] = {}
    for file in files:
        places = [file.target] if file.replaces else []
        places += [
            file.target.parent / entry.target
            for entry in file.plan.relocations
            if entry.replaces and entry.target is not None
        ]
        replaced.update({(status.st_dev, status.st_ino): place for place in places for status in [os.lstat(place)]})
    for file in files if replaced else ():
        status = os.stat(file.source)
        used = {(status.st_dev, status.st_ino)}
        used.update(entry.source.identity for entry in file.plan.relocations if entry.source is not None)
        own = {file.target.parent / entry.target for entry in file.plan.relocations if entry.target is not None}
        for identity in sorted(used.intersection(replaced)):
            if replaced[identity] not in own:
                yield RelocationRefusedError(
                    f"{file.source}: {replaced[identity]} would be replaced by a different file, and is needed to make "
                    f"{file.target}",
                    hint="move it away first, or organize the files one after the other",
                    nwb_path=str(file.source),
                )


def alike_targets(files: list[OrganizedFile], settings: OrganizeSettings) -> Iterator[ExternalFilesError]:
    """Problems of targets that differ in letter case alone, where that does not count."""
    by_name: dict[str, list[OrganizedFile]] = {}
    for file in files:
        by_name.setdefault(folded(str(file.target)), []).append(file)
    groups = [group for group in by_name.values() if len(group) > 1]
    if groups and links.ignores_case(filesystem.nearest_folder(settings.dandiset_path)):
        for first, *others in groups:
            for file in others:
                yield RelocationRefusedError(
                    f"{file.source}: its place would be {quoted(file.target)}, and that of {first.source} "
                    f"{quoted(first.target)}, which are one name in {quoted(settings.dandiset_path)}",
                    hint="give them ids that differ in more than letter case, or organize them on another disk",
                    nwb_path=str(file.source),
                )


def no_space(files: list[OrganizedFile], settings: OrganizeSettings) -> Iterator[ExternalFilesError]:
    """A problem if copies and downloads need more space than there is; clones need none."""
    folder = filesystem.nearest_folder(settings.dandiset_path)
    here = os.stat(folder).st_dev
    needed: dict[int, int] = {}  # bytes that are copied, by the device that they come from
    samples: dict[int, Path] = {}  # a file of each device

    def need(device: int, size: int, sample: Path) -> None:
        needed[device] = needed.get(device, 0) + size
        samples.setdefault(device, sample)

    for file in files:
        device = file.stamp[0]
        by_name = settings.files_mode == "move" and not file.plan.edits and device == here
        if not (file.in_place or file.is_there or by_name):
            need(device, file.size, file.source)
        for media in file.plan.copied:
            need(media.identity[0], media.size, media.real)
    made = sum(file.plan.download_bytes + file.plan.remux_bytes for file in files)
    total, free = sum(needed.values()) + made, filesystem.free_bytes(folder)
    if total > free:  # clones share their blocks
        copied = (size for device, size in needed.items() if not contents.can_clone(samples[device], folder))
        total = sum(copied) + made
    if total > free:
        yield RelocationRefusedError(
            f"{settings.dandiset_path}: the NWB files and their media need {total:,} bytes there, and {free:,} are "
            f"free",
            hint=Hint("make space, or use another {media_mode}"),
        )

"""The plan for organizing: what happens to each NWB file, and to all of them together.

An `OrganizedFile` has everything that it takes to carry it out, also on another machine that has the same file systems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...hints import counted, quoted
from ...options import MediaMode, MediaOptions
from ...plans.plan import Relocation, RelocationPlan
from ...tables import Tabular

__all__ = ["FilesMode", "OrganizePlan", "OrganizeSettings", "OrganizedFile"]

FilesMode = Literal["copy", "move"]


@dataclass(frozen=True, slots=True)
class OrganizeSettings:
    """What the caller asks for, the same for all files."""

    dandiset_path: Path
    """Without symbolic links."""
    files_mode: FilesMode = "copy"
    media_modes: tuple[MediaMode, ...] = (MediaMode.SYMLINK,)
    """Of which each NWB file gets the first that is possible for its media."""
    update_paths: bool = True
    invalid: Literal["fail", "warn"] = "fail"
    required_fields: tuple[str, ...] = ()
    options: MediaOptions = MediaOptions()  # noqa: RUF009  # frozen

    @property
    def may_remove(self) -> bool:
        """Whether a file may lose its name, or be replaced."""
        return self.files_mode == "move" or MediaMode.MOVE in self.media_modes or self.options.existing == "replace"


@dataclass(frozen=True, slots=True, repr=False)
class OrganizedFile:
    """One NWB file on its way into a dandiset."""

    source: Path
    plan: RelocationPlan
    """What happens to its media; its `nwb_path` is where the NWB file will be."""
    size: int
    """Of the NWB file, in bytes."""
    stamp: tuple[int, ...]
    """To see whether the NWB file has changed since it was planned."""
    is_there: bool = False
    """Whether the target has the same content already, so that at most its media are left to do."""
    target_stamp: tuple[int, ...] | None = None
    """If it is there: to see whether the target has changed since it was compared."""
    replaces: bool = False
    """Whether the target exists, and is replaced."""
    exported: tuple[str, ...] = ()
    """Objects whose paths cannot be changed in a copy of the NWB file, so that pynwb exports it instead."""
    digests: tuple[bytes, bytes] | None = field(default=None, compare=False)
    """Of source and target, if all bytes were compared for this plan and the cache is in use."""

    def __repr__(self) -> str:
        return f"<OrganizedFile: {quoted(self.source)} -> {quoted(self.target)}, {self.media_count:,} media>"

    @property
    def target(self) -> Path:
        """Where the NWB file will be."""
        return self.plan.nwb_path

    @property
    def in_place(self) -> bool:
        """Whether the NWB file is in its place already."""
        return self.source == self.target

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to copy, link or move, nothing to write, and no video to remove."""
        is_written = self.is_there or (self.in_place and not self.plan.edits and self.plan.manifest_is_current)
        return is_written and not any(self._is_to_do(entry) for entry in self.plan.relocations)

    def _is_to_do(self, entry: Relocation) -> bool:
        if entry.creates_target or entry.removes_source:
            return True
        if entry.source is None or entry.target is None or not self.plan.removes_name(entry):
            return False
        return entry.source.path != self.target.parent / entry.target  # the old one has to be removed

    @property
    def media_count(self) -> int:
        """How many references have media in the dandiset: all but URLs, files that were not found, and what stays."""
        return sum(entry.target is not None for entry in self.plan.relocations)

    @property
    def total_bytes(self) -> int:
        """Size in bytes of the NWB file and its media, if they are copied, linked or moved."""
        return (0 if self.in_place or self.is_there else self.size) + self.plan.media_bytes

    def copied_bytes(self, files_mode: FilesMode) -> int:
        """Size in bytes of what is copied or downloaded: not of what gets a link, or is renamed."""
        by_name = files_mode == "move" and not self.plan.edits and self.stamp[0] in self.plan.devices
        own = 0 if self.in_place or self.is_there or by_name else self.size
        return own + self.plan.copied_bytes + self.plan.download_bytes + self.plan.remux_bytes

    @property
    def work_bytes(self) -> int:
        """What progress counts: as `total_bytes`, and what is read for the manifest."""
        return 0 if self.is_done else self.total_bytes - self.plan.media_bytes + self.plan.work_bytes


@dataclass(frozen=True, slots=True, repr=False)
class OrganizePlan(Tabular):
    """What organizing will do, or has done. Iterating gives an `OrganizedFile` for each NWB file.

    Printed, and in a notebook, it is a table of the NWB files. `to_dataframe` has the same, and whole paths; the `plan`
    of each file has a table of its media.
    """

    _columns: ClassVar[tuple[str, ...]] = ("source", "target", "mode", "bytes", "media", "media_bytes")
    _shown_columns: ClassVar[tuple[str, ...]] = ("mode", "bytes", "media", "media_bytes", "source", "target")

    dandiset_path: Path
    files_mode: FilesMode
    media_modes: tuple[MediaMode, ...]
    """What was asked for, in the order of trying; the `mode` of each file's plan is the one that is used."""
    files: tuple[OrganizedFile, ...]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[OrganizedFile]:
        return iter(self.files)

    def _title(self) -> str:
        linked = self.total_bytes - self.copied_bytes
        parts = [
            counted(len(self), "NWB file"),
            f"{self.media_count:,} media",
            *([counted(self.url_count, "URL")] if self.url_count else []),
            f"{self.copied_bytes:,} bytes copied",
            *([f"{linked:,} bytes linked"] if linked else []),
        ]
        return f"{self.dandiset_path}: {', '.join(parts)}"

    def _count(self) -> int:
        return len(self)

    def _records(self) -> Iterator[dict[str, Any]]:
        for file in self:
            yield {
                "source": str(file.source),
                "target": str(file.target),
                "mode": self.mode_shown(file),
                "bytes": file.size,
                "media": file.media_count,
                "media_bytes": file.plan.media_bytes,
            }

    def mode_shown(self, file: OrganizedFile) -> str:
        """What happens to an NWB file, in a word."""
        if file.in_place:
            return "stays"
        return "is there" if file.is_there else str(self.files_mode)

    @property
    def media_count(self) -> int:
        """How many references have media in the dandiset: all but URLs, files that were not found, and what stays."""
        return sum(file.media_count for file in self.files)

    @property
    def url_count(self) -> int:
        """How many references are URLs, and stay so."""
        return sum(file.plan.url_count for file in self.files)

    @property
    def total_bytes(self) -> int:
        """Size in bytes of all NWB files and media that are copied, linked or moved."""
        return sum(file.total_bytes for file in self.files)

    @property
    def copied_bytes(self) -> int:
        """Size in bytes of what is copied or downloaded; the rest of `total_bytes` gets links, or is renamed."""
        return sum(file.copied_bytes(self.files_mode) for file in self.files)

    @property
    def work_bytes(self) -> int:
        """What progress counts: as `total_bytes`, and what is read for manifests."""
        return sum(file.work_bytes for file in self.files)

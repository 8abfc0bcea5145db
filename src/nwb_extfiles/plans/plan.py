"""What a relocation will do, as a value: shown by a dry run, and carried out by a real one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ..hints import counted
from ..nwb.manifest import ManifestRow
from ..nwb.references import ExternalFileReference
from ..options import MediaMode
from ..tables import Tabular, TabularList, shortened
from ..web.remote import RemoteFile
from .media_files import MediaFile
from .resolve import Remux
from .stored_paths import is_url

__all__ = ["Action", "Relocation", "RelocationPlan", "RelocationPlans"]


class Action(StrEnum):
    """What happens to the media of one reference."""

    TRANSFER = "transfer"
    """The file is copied, linked or moved to the target, in the mode of the plan."""
    DUPLICATE = "duplicate"
    """The target becomes another name of a file that another reference transfers."""
    RENAME = "rename"
    """The file, or the link to it, is in the media folder of the former name of the NWB file, and is renamed."""
    SHARE = "share"
    """The new path is the target of another reference; there is no file of its own."""
    REMUX = "remux"
    """The video is put into another container at the target, without loss; the file itself stays."""
    DOWNLOAD = "download"
    """The media behind a URL are downloaded to the target."""
    REUSE = "reuse"
    """The target exists already, with the right content."""
    REWRITE_PATH = "rewrite_path"
    """The file stays; the path becomes relative to the new NWB file."""
    KEEP = "keep"
    """The stored path is kept: a URL, or a file that was not found."""


@dataclass(frozen=True, slots=True, repr=False)
class Relocation:
    """What happens to one reference."""

    reference: ExternalFileReference
    action: Action
    new_path: str
    """The path that the new NWB file stores."""
    source: MediaFile | None = None
    """The file that the reference means; None for `Action.KEEP` and for URLs."""
    target: PurePosixPath | None = None
    """Where the media will be, relative to the folder of the NWB file; None if they stay."""
    replaces: bool = False
    """Whether something else is at the target and will be replaced."""
    removes_source: bool = False
    """Whether the file of a target that is reused is also still in the media folder of a former name, and is to be
    removed there: an earlier run was stopped before it could."""
    remote: RemoteFile | None = None
    """The media behind a URL, if they are downloaded."""
    own_mode: MediaMode | None = None
    """How the file gets to the target, if not in the mode of the plan: by a copy if a move or hard link would change a
    store that others rely on; by a move if a link would lead to a file that is replaced; in the next mode of the call
    if that of the plan is impossible for this very file."""
    remux: Remux | None = None
    """How the media get the container that they have at the target; None if it is the one that they have."""

    def __repr__(self) -> str:
        paths = shortened(f"{self.reference.stored_path!r} -> {self.new_path!r}", 300)
        return f"<Relocation: {self.action} {paths}>"

    @property
    def size(self) -> int | None:
        """Size of the media in bytes, if it is known."""
        media = self.source or self.remote
        return None if media is None else media.size

    @property
    def creates_target(self) -> bool:
        """Whether something is put at the target that is not there yet, in whatever way."""
        return self.action in (Action.TRANSFER, Action.DUPLICATE, Action.RENAME, Action.REMUX, Action.DOWNLOAD)

    @property
    def content(self) -> Hashable:
        """A key that is equal for entries whose targets get the same content of one local file."""
        return None if self.source is None else (self.source.identity, self.remux)

    @property
    def is_transfer(self) -> bool:
        """Whether the file gets to the target in the mode of the plan; a renamed link is made anew in that mode."""
        if self.action is Action.RENAME and self.source is not None:
            return self.source.is_link
        return self.action is Action.TRANSFER


@dataclass(frozen=True, slots=True, repr=False)
class RelocationPlan(Tabular):
    """All that a relocation will do, or has done.

    Printed, and in a notebook, it is a table of the references. `to_dataframe` has more columns.
    """

    _columns: ClassVar[tuple[str, ...]] = (
        "nwb_path", "object_path", "neurodata_type", "object_id", "field", "index", "stored_path", "action", "mode",
        "source", "target", "new_path", "bytes",
    )  # fmt: skip
    _shown_columns: ClassVar[tuple[str, ...]] = ("mode", "bytes", "object_path", "index", "stored_path", "new_path")

    nwb_path: Path
    """The NWB file to be written."""
    mode: MediaMode
    """How media get to their targets, but for those that have another mode of their own."""
    relocations: tuple[Relocation, ...]
    """One for each reference, in the order of the file."""
    warnings: tuple[str, ...] = ()
    devices: frozenset[int] = frozenset()
    """Devices whose files can have hard links where the NWB file is."""
    manifest: tuple[ManifestRow, ...] | None = None
    """The manifest of the NWB file before; empty if it gets its first one, None if it gets none."""
    unused_prefixes: frozenset[str] = frozenset()
    """Prefixes of `path_map` that fit no path of the NWB file."""
    fallbacks: tuple[MediaMode, ...] = ()
    """Further modes of the call, in order, for single files that cannot get there in `mode`."""
    kept_names: frozenset[Path] = frozenset()
    """Names that a move would remove, and that stay: they are in linked folders, or something else needs them
    (`plans.needs`)."""

    def records(self) -> Iterator[dict[str, Any]]:
        """What happens to each reference, as plain values."""
        for entry in self.relocations:
            yield {
                **entry.reference.record,
                "action": str(entry.action),
                "mode": self.mode_shown(entry),
                "source": None if entry.source is None else str(entry.source.path),
                "target": None if entry.target is None else str(self.nwb_path.parent / entry.target),
                "new_path": entry.new_path,
                "bytes": entry.size,
            }

    def _records(self) -> Iterator[dict[str, Any]]:
        return ({"nwb_path": str(self.nwb_path), **record} for record in self.records())

    def _title(self) -> str:
        return f"{self.nwb_path}: {self.media_count:,} media, media_mode {str(self.mode)!r}, {self.media_bytes:,} bytes"

    def _count(self) -> int:
        return len(self.relocations)

    def mode_shown(self, entry: Relocation) -> str:
        """What happens to an entry, in a word: the mode, if the file is put there in that way."""
        if entry.action in (Action.TRANSFER, Action.REWRITE_PATH):
            return str(self.mode_of(entry))
        return "in place" if self.is_in_place(entry) else str(entry.action)

    def is_in_place(self, entry: Relocation) -> bool:
        """Whether the file of an entry is where it belongs already, under that very name."""
        if entry.action is not Action.REUSE or entry.source is None or entry.target is None:
            return False
        return entry.source.path == self.nwb_path.parent / entry.target

    def mode_of(self, entry: Relocation) -> MediaMode:
        """How the file of an entry gets to its target."""
        return entry.own_mode or self.mode

    def removes_name(self, entry: Relocation) -> bool:
        """Whether the name that the media of an entry have now is removed, unless it is that of the target."""
        source = entry.source
        if source is None or source.linked_path is not None or source.path in self.kept_names:
            return False
        return self.mode is MediaMode.MOVE or entry.action is Action.RENAME or entry.removes_source

    @property
    def new_paths(self) -> dict[tuple[str, str, int], str]:
        """The new path by object path, field and index."""
        return {entry.reference.entry: entry.new_path for entry in self.relocations}

    @property
    def edits(self) -> dict[tuple[str, str], list[str]]:
        """All new paths of each field in which one changes, by object path and field, in their order."""
        fields: dict[tuple[str, str], list[Relocation]] = {}
        for entry in self.relocations:
            fields.setdefault((entry.reference.object_path, entry.reference.field), []).append(entry)
        return {
            place: [entry.new_path for entry in entries]
            for place, entries in fields.items()
            if any(entry.new_path != entry.reference.stored_path for entry in entries)
        }

    @property
    def media_bytes(self) -> int:
        """Size in bytes of all files that are copied, linked, moved or downloaded, as far as known."""
        transferred = sum(entry.source.size for entry in self.relocations if entry.source and entry.is_transfer)
        return transferred + self.remux_bytes + self.download_bytes

    @property
    def remux_bytes(self) -> int:
        """Size in bytes of all files that are remuxed; the new ones are of about the same size."""
        remuxed = (entry.source for entry in self.relocations if entry.action is Action.REMUX)
        return sum(source.size for source in remuxed if source is not None)

    @property
    def media_count(self) -> int:
        """How many references have media: all but URLs that stay, and files that were not found."""
        return sum(entry.action is not Action.KEEP for entry in self.relocations)

    @property
    def url_count(self) -> int:
        """How many references are URLs, and stay so."""
        kept = (entry.reference for entry in self.relocations if entry.action is Action.KEEP)
        return sum(is_url(reference.stored_path) for reference in kept)

    @property
    def unread(self) -> dict[tuple[int, int], MediaFile]:
        """Files that are read only for their digest in the manifest; by device and inode."""
        if self.manifest is None:
            return {}
        copied = {file.identity for file in self.copied}
        sources = (entry.source for entry in self.relocations if entry.source is not None)
        return {source.identity: source for source in sources if source.identity not in copied}

    @property
    def work_bytes(self) -> int:
        """The total of the progress: bytes that get to a target, and bytes that are read for the manifest."""
        return self.media_bytes + sum(file.size for file in self.unread.values())

    @property
    def download_bytes(self) -> int:
        """Size in bytes of all downloads, as far as the servers say."""
        downloads = (entry.remote for entry in self.relocations if entry.action is Action.DOWNLOAD)
        return sum(remote.size or 0 for remote in downloads if remote is not None)

    @property
    def copied_bytes(self) -> int:
        """Size in bytes of all copies, which need that much space unless clones can be made."""
        return sum(file.size for file in self.copied)

    @property
    def copied(self) -> Iterator[MediaFile]:
        """Files whose bytes are copied; a move inside one file system copies none."""
        for entry in self.relocations:
            mode = self.mode_of(entry)
            if entry.source is None or not entry.is_transfer or mode not in (MediaMode.COPY, MediaMode.MOVE):
                continue
            if mode is MediaMode.COPY or entry.source.identity[0] not in self.devices:
                yield entry.source

    @property
    def manifest_is_current(self) -> bool:
        """Whether the manifest, if there is to be one, has these references and sizes already.

        The content of the media is not compared.
        """
        if self.manifest is None:
            return True
        wanted = {
            entry.reference.entry: (entry.new_path, entry.source.size)
            for entry in self.relocations
            if entry.source is not None
        }
        made = any(entry.remote is not None or entry.remux is not None for entry in self.relocations)
        return not made and wanted == {row.place: (row.path, row.size_in_bytes) for row in self.manifest}

    def joined_to(self, earlier: RelocationPlan | None) -> RelocationPlan:
        """One plan made of two for the same NWB file, the earlier one first."""
        if earlier is None:
            return self
        return replace(
            self,
            relocations=(*earlier.relocations, *self.relocations),
            warnings=(*earlier.warnings, *self.warnings),
            kept_names=self.kept_names | earlier.kept_names,
        )


class RelocationPlans(TabularList[RelocationPlan]):
    """A list of `RelocationPlan`, one for each NWB file, that is printed and shown in a notebook as one table."""

    _columns = RelocationPlan._columns
    _shown_columns = ("nwb_path", *RelocationPlan._shown_columns)

    def _title(self) -> str:
        media, size = (sum(getattr(plan, name) for plan in self) for name in ("media_count", "media_bytes"))
        return f"{counted(len(self), 'NWB file')}: {media:,} media, {size:,} bytes"

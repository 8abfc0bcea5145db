"""What an IO is writing, and what is left to do when it is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..disk import filesystem
from ..errors import ExternalFilesError, warn
from ..media.inventory import make_rows, other_videos
from ..nwb.files import remove_objects, write_paths
from ..nwb.manifest import ManifestRow
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..plans.plan import RelocationPlan
from ..threads import meanwhile
from ..transfers.transfer import Transfer
from .arguments import RelocationRequest
from .builders import ByBuilder, FieldInTree

if TYPE_CHECKING:
    from hdmf.build import DatasetBuilder

__all__ = ["Call", "Writing"]

_WORTH_A_THREAD = 32 * 1024 * 1024  # bytes to copy or remux
_HEAD_START = 0.02  # seconds: HDF5 keeps Python's lock while it copies a dataset, so the copying of videos begins first


@dataclass(slots=True)
class Call:
    """A call to write or export on its way to `write_builder`, `write_dataset` and `write_link`."""

    request: RelocationRequest
    manager: Any
    """The one that makes the builders."""
    container: Any = None
    """The root container, where builders are made from one."""
    source: Any = None
    """The IO that is exported from."""
    new_paths: ByBuilder[list[tuple[FieldInTree, list[str]]]] = field(default_factory=ByBuilder)
    """The fields, and what to write for them, of each builder that would write other paths."""
    has_begun: bool = False
    """Whether bytes of the tree may have been written."""


@dataclass(slots=True)
class Writing:
    """The file that an IO is writing."""

    transfer: Transfer | None = None
    """Of a file that is being created; of an existing one, once media are relocated."""
    is_new: bool = False
    """Whether the file is being created, under a temporary name."""
    is_opening: bool = False
    """Whether it is being opened under that name at this moment."""
    content: Literal["nothing", "whole", "broken"] = "nothing"
    """What calls have written to it so far; what is broken is not put in place."""
    sync: bool = True
    """As the last call has asked for."""

    plan: RelocationPlan | None = None
    """Of all calls."""
    planned: ByBuilder[None] = field(default_factory=ByBuilder)
    """The builders of fields that are in `plan`."""
    replaced: ByBuilder[list[DatasetBuilder]] = field(default_factory=ByBuilder)
    """The builders of fields that were written with other paths, with those that were written instead.

    HDMF knows what it has written by id, so these must live as long as the IO."""

    edits: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """New paths of fields that are in the file already, by object path and field: `close` writes them."""
    expected: list[ExternalFileReference] = field(default_factory=list)
    """What these fields must still hold then."""
    rows: dict[tuple[str, str, int], ManifestRow] | None = None
    """The manifest, which `close` writes; None if the file gets none."""
    new_objects: set[str] = field(default_factory=set)
    """What was added to an existing file, and is removed if its media do not arrive."""

    def closed(self) -> Writing:
        """What is still known when the IO has been closed; it may be opened again."""
        return Writing(
            plan=self.plan, planned=self.planned, replaced=self.replaced, content=self.content, sync=self.sync
        )

    def completed(self, request: RelocationRequest) -> RelocationRequest:
        """The request of a further call: a manifest that an earlier call has begun is to list all media."""
        if self.rows is None:
            return request
        return replace(request, options=replace(request.options, manifest=True))

    @contextmanager
    def staging(self, plan: RelocationPlan, options: MediaOptions) -> Iterator[list[RelocationPlan]]:
        """Stage the media before the tree is written; if there is much to copy, while it is.

        When the block has ended, the list has the plan as it was carried out.
        An existing file must not be written to before all media are known to be there.
        """
        transfer = self.transfer = self.transfer or Transfer(plan.nwb_path, edits_document=True)

        done: list[RelocationPlan] = []

        def stage() -> None:
            done.append(
                transfer.media.stage(
                    plan, sync=options.sync, progress=options.progress, url_timeout=options.url_timeout
                )
            )

        if not self.is_new or plan.copied_bytes + plan.remux_bytes < _WORTH_A_THREAD:
            stage()
            yield done
            return
        with meanwhile(stage, cancel=transfer.media.cancel, head_start=_HEAD_START) as is_staged:
            yield done
            if options.sync and not is_staged():  # what is there of it is flushed while this waits anyway
                filesystem.sync_tree(transfer.staged_document)

    def record(self, plan: RelocationPlan, entries: list[FieldInTree], in_file: set[tuple[str, str]]) -> None:
        """Keep what a call has done, for the next call and for `commit`.

        `in_file` are those of its fields that are in the file already, by object path and field.
        """
        assert self.transfer is not None
        if plan.manifest is not None:
            media = self.transfer.media
            rows = make_rows(plan, media.digests, media.made)
            self.transfer.notes.extend(other_videos(plan, rows))
            self.rows = {**(self.rows or {}), **{row.place: row for row in rows}}
        references = [entry.reference for entry in plan.relocations]
        self.edits.update({place: paths for place, paths in plan.edits.items() if place in in_file})
        self.expected += [reference for reference in references if (reference.object_path, reference.field) in in_file]
        self.plan = plan.joined_to(self.plan)
        self.planned.update((entry.builder, None) for entry in entries)

    def commit(self) -> None:
        """Put the media and the NWB file in their places; the file is closed."""
        transfer, edit = self.transfer, None
        assert transfer is not None
        if self.edits or self.rows is not None:
            if self.is_new:
                self._edit(transfer.staged_document, transfer.document)
            else:
                edit = partial(
                    self._edit, transfer.document, transfer.document, journal=transfer.journal, planned=self.expected
                )
        transfer.commit(sync=self.sync, edit=edit)

    def _edit(self, path: Path, name: Path, **in_place: Any) -> None:
        rows = None if self.rows is None else list(self.rows.values())
        write_paths(path, self.edits, manifest=rows, name=name, sync=self.sync, **in_place)

    def roll_back(self) -> list[str]:
        """Restore what was there before, the file being closed; the lines say what could not be restored."""
        transfer = self.transfer
        assert transfer is not None
        was_done = transfer.is_done
        left = transfer.rollback()
        try:
            if self.new_objects and not was_done:
                remove_objects(transfer.document, self.new_objects)
        except (OSError, ExternalFilesError) as error:
            left.append(
                f"{transfer.document} has new objects whose media are not there, {sorted(self.new_objects)}: {error}"
            )
        return left

    def discard(self) -> None:
        """Restore what was there before, with a warning if something is lost by that."""
        left = self.roll_back()
        if self.content == "broken":
            assert self.transfer is not None
            left.insert(0, f"{self.transfer.document} was not written, because an earlier call failed halfway")
        for line in left:
            warn(line)

"""Several documents that are changed in one call: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..disk.moves import remove_sources
from .disk_errors import explained
from .staging_folder import StagingFolder
from .transfer import Transfer

__all__ = ["TransferCall"]


class TransferCall:
    """Transfers to several documents that are edited in place, committed in one step.

    All media of all documents are staged before any gets its final name, and no source of a move goes before all
    documents have their media. A kill leaves all of it done, or all of it is taken back by the next run on any of the
    documents.

    Each document is given once, as `Transfer` takes it, and has one of the `transfers`, in their order: `stage` and
    `rollback` them no further than here. Raises as `Transfer`, with nothing changed.
    """

    def __init__(self, documents: Sequence[Path]) -> None:
        self.transfers: list[Transfer] = []
        try:
            for document in documents:
                leader = self.transfers[0] if self.transfers else None
                self.transfers.append(Transfer(document, edits_document=True, keep_sources=True, leader=leader))
            if len(self.transfers) > 1:
                self._leader._staging.lead(self._members)
        except BaseException as error:
            for line in self.rollback():
                error.add_note(line)
            raise

    @property
    def _leader(self) -> Transfer:
        return self.transfers[0]

    @property
    def _members(self) -> list[StagingFolder]:
        return [transfer._staging for transfer in self.transfers[1:]]

    def commit(self, edits: Sequence[Callable[[], object] | None], *, sync: bool = True) -> None:
        """Put the media in their places, edit all documents, and have all of it last by one step.

        Takes the edit of each document, and raises, as `Transfer.commit`.
        """
        kept = set().union(*(transfer.media.kept for transfer in self.transfers))
        for transfer, edit in zip(self.transfers, edits, strict=True):
            with explained(transfer.document):
                transfer._place_all(edit, sync=sync, kept=kept)
        with explained(self._leader.document, is_done=lambda: self._leader.is_done):
            self._leader._commit_document(sync, *self._members)

    def conclude(self, *, sync: bool = True) -> None:
        """Remove the sources of a move and all that was staged, and let go of the documents.

        If the members cannot be told that the call is committed, all of it is left to the next run, with a warning.
        """
        failure = None
        try:
            self._leader._staging.end_call(self._members, sync=sync)
        except OSError as error:
            failure = error
        else:
            moved = [source for transfer in self.transfers for source in transfer._moved]
            self._leader.notes.extend(dict.fromkeys(remove_sources(moved, sync=sync)))
        for transfer in reversed(self.transfers):
            transfer._end(failure)

    def rollback(self) -> list[str]:
        """Bring everything back to what it was; gives what could not be brought back, and where it is left."""
        if not self.transfers:
            return []
        if self._leader.is_done:
            self.conclude(sync=False)  # interrupted when all was in place
            return []
        return [line for transfer in reversed(self.transfers) for line in transfer.rollback()]

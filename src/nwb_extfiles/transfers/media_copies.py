"""Media made ready in the staging folder of a transfer, each verified; nothing here gets a final name.

Copies, links and downloads are staged; what is at its place already is noted as it is now; what shall leave its old
place is noted as it was before it was read. `transfer` puts all of it in place, or takes it back.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..disk import contents, filesystem
from ..disk.moves import is_same_name, is_still
from ..errors import MediaExistsError, TransferError
from ..hints import Hint, quoted
from ..options import MediaMode, ProgressCallback
from ..plans.media_files import MediaFile, media_file
from ..plans.plan import Action, Relocation, RelocationPlan
from ..plans.resolve import Remux
from ..progress import reporting
from ..threads import called_ahead
from ..web.download import fetch, part_name
from ..web.remote import RemoteFile, unsigned
from .file_makers import PartMaker, failed, link_or_copy, status_of
from .staging_folder import FETCH_PREFIX, StagingFolder

__all__ = ["LeavingSource", "StagedFile", "StagedMedia"]

_COPIERS = 4  # threads for small files, which mostly wait for the file system; more were slower
_MANY = 32  # small files, for which threads are worth their while


@dataclass(slots=True, eq=False)
class StagedFile:
    """One media file on its way."""

    part: Path
    target: Path
    replaces: bool
    identity: tuple[int, int]
    former: Path | None = None
    """Where the former content of the target is, once it is put aside."""
    begun: bool = False
    """Whether the part was, or was about to be, given its final name, where nothing had that."""
    source: Path | None = None
    """What the part may be another name of."""

    def rollback(self) -> None:
        """Undo what was done for this file, however far that had got."""
        # An interrupt may come between a step and the note that it was done, so the files themselves are asked.
        if self.former is not None and os.path.lexists(self.former):
            filesystem.replace(self.former, self.target, self._other_names)
        elif self.begun and os.path.lexists(self.target):
            status = os.lstat(self.target)
            if (status.st_dev, status.st_ino) == self.identity:
                filesystem.unlink(self.target, self._other_names)

    def discard(self) -> None:
        """Remove the part, if it is still there."""
        if os.path.lexists(self.part):
            filesystem.unlink(self.part, self._other_names)

    @property
    def _other_names(self) -> list[Path]:
        return [] if self.source is None else [self.source]


@dataclass(slots=True)
class LeavingSource:
    """A name that is removed at the end."""

    file: Path
    """What it leads to, which stays if that is something else than the name itself."""
    status: os.stat_result
    """Of the file, as it was before it was copied."""
    targets: set[Path] = field(default_factory=set)
    """Where the file must be found before the name is removed."""


@dataclass(frozen=True, slots=True)
class _Staged:
    """What was staged before a call that may fail."""

    files: int
    at: dict[Hashable, Path]
    reused: dict[Path, os.stat_result]
    leaving: dict[Path, LeavingSource]
    kept: set[Path]


class StagedMedia:
    """The media of one transfer.

    Parameters
    ----------
    folder : pathlib.Path
        The folder of the document that the media belong to, free of symbolic links.
    staging : StagingFolder
        Where they are made ready.
    notes : list of str
        Gets what is to be told when all is in place.

    Attributes
    ----------
    files : list of StagedFile
        What is to get its final name, in this order.
    reused : dict
        The targets that hold what they should already, and their status, which must not change any more.
    link_targets : dict
        The files that stay where they are, and that new links or stored paths mean, with the first entry that does.
    leaving : dict
        The names that are to go when all is in place, by path.
    kept : set of pathlib.Path
        Places that belong to the document: no move takes anything from them.
    digests : dict
        The SHA-256 of each file that was staged with a plan that has a manifest, by device and inode of its source.
    made : dict
        The files that were fetched or remuxed for such a plan: by `web.download.part_name`, or by the `content` of
        their entry.
    """

    def __init__(self, folder: Path, staging: StagingFolder, notes: list[str]) -> None:
        self.files: list[StagedFile] = []
        self.reused: dict[Path, os.stat_result] = {}
        self.link_targets: dict[Path, Relocation] = {}
        self.leaving: dict[Path, LeavingSource] = {}
        self.kept: set[Path] = set()
        self.digests: dict[tuple[int, int], str] = {}
        self.made: dict[Hashable, MediaFile] = {}
        self._folder = folder
        self._staging = staging
        self._notes = notes
        self._parts: set[Path] = set()  # of the files
        self._numbers = itertools.count()
        # where a file of a plan, or a download, can be had from, for further names of it
        self._at: dict[Hashable, Path] = {}
        self._cancelled = threading.Event()

    def stage(
        self,
        plan: RelocationPlan,
        *,
        sync: bool = True,
        progress: bool | ProgressCallback = False,
        url_timeout: float = 60.0,
    ) -> RelocationPlan:
        """Make every file of a plan ready in the staging folder, verified.

        Parameters
        ----------
        plan : RelocationPlan
            Of the same document. Several plans may be staged one after the other.
        sync : bool
            Whether copies are flushed to the disk.
        progress : bool or callable
            As in `MediaOptions.progress`.
        url_timeout : float
            As in `MediaOptions.url_timeout`.

        Returns
        -------
        RelocationPlan
            With the modes in which single files were brought here that could not be in that of the plan.

        Raises
        ------
        TransferError
            If a file cannot be brought here, or is not the one that was planned with. Nothing of this plan is staged
            then, and nothing stands under a final name.
        """
        earlier = self._staged_so_far()
        own_modes: dict[int, MediaMode] = {}
        try:
            with reporting(progress, plan.work_bytes) as report:
                on_bytes, numbers = self._unless_cancelled(report), self._numbers
                run = PartMaker(
                    plan, self._staging, sync, on_bytes, url_timeout, numbers, self._parts, self.digests, own_modes
                )
                with called_ahead(
                    run.copy_ahead, _small_copies(plan), _COPIERS, clear=self._clear_unless_wanted
                ) as ahead:
                    # a further name may stand before the file that it is one of
                    for entry in sorted(plan.relocations, key=lambda entry: entry.action is Action.DUPLICATE):
                        if entry.target is None:
                            continue
                        target = self._folder / entry.target
                        self.kept.add(target)
                        if entry.remote is not None:
                            self._stage_download(entry, entry.remote, target, run)
                        elif entry.source is not None:
                            self._stage_file(entry, entry.source, target, run, ahead)
                if run.with_digest:
                    self._add_digests(run)
        except BaseException:
            self._back_to(earlier)
            raise
        if own_modes:
            plan = self._with_own_modes(plan, own_modes)
        for entry in plan.relocations:
            is_link = entry.is_transfer and plan.mode_of(entry) is MediaMode.SYMLINK
            if entry.source is not None and (is_link or entry.action is Action.REWRITE_PATH):
                self.link_targets.setdefault(entry.source.real, entry)
        return plan

    def _with_own_modes(self, plan: RelocationPlan, modes: Mapping[int, MediaMode]) -> RelocationPlan:
        """The plan as it is carried out, with a note of what was planned otherwise."""
        first = next(entry for entry in plan.relocations if id(entry) in modes)
        more = f" (and {len(modes) - 1:,} more)" if len(modes) > 1 else ""
        how = f"in mode {str(modes[id(first)])!r}, because {str(plan.mode_of(first))!r} is impossible for it"
        self._notes.append(f"{first.reference.where}: {quoted(first.target)}{more} was made {how}")
        changed = (replace(entry, own_mode=modes.get(id(entry), entry.own_mode)) for entry in plan.relocations)
        return replace(plan, relocations=tuple(changed))

    def _staged_so_far(self) -> _Staged:
        leaving = {name: replace(source, targets={*source.targets}) for name, source in self.leaving.items()}
        return _Staged(len(self.files), dict(self._at), dict(self.reused), leaving, set(self.kept))

    def _back_to(self, earlier: _Staged) -> None:
        for item in self.files[earlier.files :]:
            item.discard()
        del self.files[earlier.files :]
        self._parts = {item.part for item in self.files}
        self._at, self.reused, self.leaving, self.kept = earlier.at, earlier.reused, earlier.leaving, earlier.kept

    def cancel(self) -> None:
        """Have `stage` in another thread break off with a `TransferError`, soon."""
        self._cancelled.set()

    def _unless_cancelled(self, report: Callable[[int], None]) -> Callable[[int], None]:
        one_at_a_time = threading.Lock()

        def on_bytes(count: int) -> None:
            if self._cancelled.is_set():
                raise TransferError("cancelled, because the document was not written")
            with one_at_a_time:
                report(count)

        return on_bytes

    def _add_digests(self, run: PartMaker) -> None:
        """Read files whose digest is wanted, and which no copy has read."""
        counted = run.plan.unread
        sources = {entry.source.identity: entry.source for entry in run.plan.relocations if entry.source is not None}
        for identity, source in sources.items():
            on_bytes = run.on_bytes if identity in counted else lambda count: run.on_bytes(0)
            if identity in self.digests:
                on_bytes(source.size)  # an earlier plan has read it
                continue
            try:
                before = os.stat(source.real)
                digest = contents.digest_of(source.real, on_bytes=on_bytes)
                if before.st_size != source.size or not is_still(source.real, before):
                    raise TransferError("it changed while it was read", hint="try again when no program writes to it")
            except OSError as error:  # TransferError is one
                raise failed(f"{source.real} could not be read for the manifest", error) from error
            self.digests[identity] = digest

    def _stage_file(
        self, entry: Relocation, source: MediaFile, target: Path, run: PartMaker, ahead: Callable[[int], Path | None]
    ) -> None:
        plan, mode = run.plan, run.plan.mode_of(entry)
        part = run.new_part()
        try:
            goes = plan.removes_name(entry)
            is_copied = entry.action is Action.TRANSFER and mode.makes_copies
            status = status_of(source) if goes or not is_copied else None  # who copies it looks at it anyway
            if status is not None and goes and not is_same_name(source.path, target):
                # the first look counts: it was before the copy
                self.leaving.setdefault(source.path, LeavingSource(source.real, status)).targets.add(target)
            if entry.action is Action.REUSE:
                self._reuse(entry, source, target, goes)
                if entry.remux is not None:
                    self._note_made(entry.content, target, run)
            if not entry.creates_target:
                return
            if entry.action is Action.RENAME and not source.is_link:
                link_or_copy(source.path, part, run.sync)
            elif entry.action is Action.DUPLICATE:
                link_or_copy(self._at[entry.content], part, run.sync)
            elif entry.remux is not None:
                self._remux(entry, entry.remux, part, run)
            else:
                part = run.bring(entry, source, part, target, ahead)
            self._add(part, target, entry)
        except OSError as error:  # TransferError is one
            part.unlink(missing_ok=True)
            how = mode if entry.remux is None else "remuxing"
            what = f"{entry.reference.where}: {quoted(source.real)} could not be brought to {quoted(target)} by {how}"
            raise failed(what, error, **entry.reference.place) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._at.setdefault(entry.content, part)

    def _remux(self, entry: Relocation, recipe: Remux, part: Path, run: PartMaker) -> None:
        from ..media.pyav.remuxing import remux  # which loads PyAV

        assert entry.source is not None
        before = status_of(entry.source)
        remux(entry.source.real, part, recipe, on_bytes=run.on_bytes, sync=run.sync)
        if not is_still(entry.source.real, before):
            raise TransferError("it changed while it was remuxed", hint="try again when no program writes to it")
        self._note_made(entry.content, part, run)

    def _stage_download(self, entry: Relocation, remote: RemoteFile, target: Path, run: PartMaker) -> None:
        if entry.action is Action.SHARE:
            return
        known_as = part_name(remote)
        try:
            if entry.action is Action.REUSE:
                self.reused[target] = os.stat(target)
                self._at.setdefault(known_as, target)
                self._note_made(known_as, target, run)
                return
            if known_as in self._at:
                part = run.new_part()
                link_or_copy(self._at[known_as], part, run.sync)
            else:
                # The name says what it is, so that the next transfer finds it if this one is killed.
                part = self._staging.path / f"{FETCH_PREFIX}{known_as}"
                fetch(remote, part, timeout=run.url_timeout, on_bytes=run.on_bytes, sync=run.sync)
                self._at[known_as] = part
                self._note_made(known_as, part, run)
            if os.path.lexists(target) and not entry.replaces:
                self._reuse_download(entry, target, part)
                return
            self._add(part, target, entry)
        except MediaExistsError:
            raise
        except OSError as error:
            raise TransferError(
                f"{entry.reference.where}: {unsigned(remote.url)!r} could not be downloaded to {quoted(target)}: "
                f"{error}",
                hint=Hint("check that it opens in a browser, or leave URLs as they are with {urls_keep}"),
                **entry.reference.place,
            ) from error

    def _add(self, part: Path, target: Path, entry: Relocation) -> None:
        made, source = os.lstat(part), None if entry.source is None else entry.source.real
        self._parts.add(part)
        self.files.append(StagedFile(part, target, entry.replaces, (made.st_dev, made.st_ino), source=source))

    def _note_made(self, known_as: Hashable, place: Path, run: PartMaker) -> None:
        """Read what was fetched or remuxed, if its digest is wanted."""
        if not run.with_digest:
            return
        file = media_file(place)
        if isinstance(file, MediaFile):
            self.made[known_as] = file
            self.digests[file.identity] = contents.digest_of(place)

    def _reuse_download(self, entry: Relocation, target: Path, part: Path) -> None:
        """Leave a target as it is that has the content already, which only now can be told."""
        self.reused[target] = os.stat(target)
        if not target.is_file() or not contents.same_content(target, part):
            raise MediaExistsError(
                f"{entry.reference.where}: {quoted(target)} exists and is not what is behind "
                f"{quoted(entry.reference.stored_path)}",
                hint=Hint("move it away, or replace it with {existing_replace}"),
                **entry.reference.place,
            )

    def _clear_unless_wanted(self, part: Path) -> None:
        if part not in self._parts:
            part.unlink(missing_ok=True)

    def _reuse(self, entry: Relocation, source: MediaFile, target: Path, goes: bool) -> None:
        """Note a target as it is now, when it is known to be right."""
        self.reused[target] = os.stat(target)
        if entry.remux is None and self.reused[target].st_size != source.size:
            raise TransferError(f"{target} does not hold its content any more", hint="try again")
        # A move takes the source away, so it must still be what the target was compared with.
        if goes and not contents.same_content(target, source.real):
            raise TransferError(f"{target} does not hold its content any more", hint="try again")
        self._at.setdefault(entry.content, target)


def _small_copies(plan: RelocationPlan) -> dict[int, Relocation]:
    """The entries of small files to copy, by their id(); none where threads are not worth their while."""
    small = {
        id(entry): entry
        for entry in plan.relocations
        if plan.mode_of(entry).makes_copies
        and entry.action is Action.TRANSFER
        and entry.source is not None
        and entry.source.size <= contents.HASH_CHUNK
    }
    return small if len(small) >= _MANY else {}

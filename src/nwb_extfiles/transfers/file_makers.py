"""One file of a plan as it gets into the staging folder: by a link of either kind, or by a verified copy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk import contents, filesystem, links
from ..disk.links import OtherModeError
from ..disk.moves import stamp
from ..errors import TransferError
from ..hints import Hint, media_modes
from ..options import MediaMode
from ..plans.media_files import MediaFile
from ..plans.plan import Relocation, RelocationPlan
from .staging_folder import WHOLE_PREFIX, StagingFolder

__all__ = ["PartMaker", "failed", "link", "link_or_copy", "status_of", "whole_copy_name"]


def status_of(source: MediaFile) -> os.stat_result:
    """A source's status, which must be that of the file that was planned with."""
    status = os.stat(source.real)
    if (status.st_dev, status.st_ino) != source.identity or status.st_size != source.size:
        raise TransferError(
            f"{source.real} is not the file any more that it was when the plan was made", hint="try again"
        )
    return status


def whole_copy_name(status: os.stat_result) -> str:
    """The name in the staging folder of a verified copy of a file."""
    return WHOLE_PREFIX + hashlib.blake2s(repr(stamp(status)).encode(), digest_size=8).hexdigest()


def failed(what: str, error: OSError, **place: Any) -> TransferError:
    """The error of a medium that could not be made ready, with the hint of its cause."""
    if isinstance(error, TransferError):
        return TransferError(f"{what}: {error.what}", hint=error.hint, **place)
    return TransferError(f"{what}: {error}", **place)


def link(source: MediaFile, part: Path, target: Path, mode: MediaMode) -> bool:
    """Make a part that is a link to a source, in the way of a mode; False if only a copy is possible.

    Parameters
    ----------
    source : MediaFile
        What it is a link to. OtherModeError if no link of this mode can be made to it.
    part : pathlib.Path
        Does not exist.
    target : pathlib.Path
        The name that it will get: a symbolic link is relative to the folder of that.
    mode : MediaMode
        Of the entry; ``move`` is a hard link until the source goes.
    """
    if mode is MediaMode.SYMLINK:
        _symlink(source.real, part, target)
        return True
    if links.link_exclusive(source.real, part):
        return True
    if mode is MediaMode.HARDLINK:
        raise OtherModeError(
            "no hard link can be made to it: it is on another file system or on one without links, or another "
            "user owns it",
            hint=Hint("use {modes}", modes=media_modes("copy", "symlink", "move", "reference")),
        )
    return False


def link_or_copy(source: Path, part: Path, sync: bool) -> None:
    """Make a part that is another name of a file, or a verified copy of it."""
    if not links.link_exclusive(source, part):
        contents.copy_verified(source, part, sync=sync)


def _symlink(source: Path, part: Path, target: Path) -> None:
    try:
        path = filesystem.relative_path(source, target.parent)
    except ValueError:  # another drive of Windows: only an absolute link leads there
        path = str(source)
    os.symlink(path, part)
    leads_to = os.path.normpath(os.path.join(os.path.dirname(target), path))
    if leads_to != str(source) and not os.path.samefile(leads_to, source):
        raise TransferError(f"a symbolic link at {target} would not lead to {source}")


@dataclass(frozen=True, slots=True)
class PartMaker:
    """Makes the parts of one plan: verified copies and links."""

    plan: RelocationPlan
    staging: StagingFolder
    sync: bool
    """Whether copies are flushed to the disk."""
    on_bytes: Callable[[int], None]
    url_timeout: float
    numbers: Iterator[int]
    """The names of parts."""
    parts: set[Path]
    """Those of the transfer that have their files."""
    digests: dict[tuple[int, int], str]
    """Gets the SHA-256 of each file that is copied for a manifest, by device and inode of the source."""
    own_modes: dict[int, MediaMode]
    """Gets the modes of files that could not be brought here in that of the plan, by the id() of their entries."""

    @property
    def with_digest(self) -> bool:
        """Whether the digests of all files are wanted."""
        return self.plan.manifest is not None

    def new_part(self) -> Path:
        """A name for a part."""
        return self.staging.path / str(next(self.numbers))

    def bring(
        self,
        entry: Relocation,
        source: MediaFile,
        part: Path,
        target: Path,
        ahead: Callable[[int], Path | None],
    ) -> Path:
        """Copy or link a file, in the next mode of the call where one is impossible for it; gives its part."""
        planned = self.plan.mode_of(entry)
        for mode in (planned, *(mode for mode in self.plan.fallbacks if mode is not planned)):
            try:
                if mode.makes_copies:
                    part = (mode is planned and ahead(id(entry))) or self._copy(source, mode)
                elif link(source, part, target, mode):
                    self.on_bytes(source.size)
                else:
                    self._copy_to(part, source, mode)
            except OtherModeError as error:
                part.unlink(missing_ok=True)
                impossible = error
            else:
                if mode is not planned:
                    self.own_modes[id(entry)] = mode
                return part
        raise impossible

    def copy_ahead(self, entry: Relocation) -> Path:
        """Copy the file of an entry, in its mode; called in several threads at once."""
        assert entry.source is not None
        return self._copy(entry.source, self.plan.mode_of(entry))

    def _copy(self, source: MediaFile, mode: MediaMode) -> Path:
        """Copy a file to a part, or take the whole copy of it that a killed transfer has left; gives its path."""
        status = status_of(source)
        if self.staging.fresh and not self.sync:  # then no such copy is there, and none is to be left
            part = self.new_part()
            self._copy_to(part, source, mode)
            return part
        # Such a copy has its name only since it was verified and flushed, and the name says what it is a copy of.
        whole = self.staging.path / whole_copy_name(status)
        taken = whole in self.parts
        if not taken and not self.staging.fresh:
            if whole.is_file() and not whole.is_symlink() and contents.same_content(whole, source.real):
                self.on_bytes(source.size)
                if self.with_digest:
                    self.digests[source.identity] = contents.digest_of(whole)
                return whole
            whole.unlink(missing_ok=True)  # anybody may have put it there
        part = self.new_part()
        self._copy_to(part, source, mode)
        if not self.sync or taken:
            return part
        try:
            os.rename(part, whole)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return whole

    def _copy_to(self, part: Path, source: MediaFile, mode: MediaMode) -> None:
        try:
            digest = contents.copy_verified(
                source.real,
                part,
                on_bytes=self.on_bytes,
                sync=self.sync,
                with_digest=self.with_digest,
                clone_only=mode is MediaMode.REFLINK,
            )
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if digest is not None:
            self.digests[source.identity] = digest

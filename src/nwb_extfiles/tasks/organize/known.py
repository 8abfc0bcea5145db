"""What earlier runs of `organize` found out about the bytes of small NWB files, so that a repeated run need not.

Two things are known of bytes, by their digests: what an NWB file holds that organizing asks for, and from which bytes
it was made by changing paths of media. All else (which files are where, what they are called, what is to be done) is
looked up on disk in each run. A call that may remove or replace something does not ask here.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from blake3 import blake3

from ...disk.cache import Cache, key_of
from ...disk.locks import may_be_read
from ...disk.moves import stamp
from ...nwb.files import NWB_SUFFIX, Edits
from ...nwb.registry import media_fields
from ...options import MediaOptions
from .inspected import Inspected, Named, from_record, record_of

__all__ = ["Content", "KnownFiles", "known_files"]


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file at one moment."""

    digest: bytes
    size: int
    stamp: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """The cache, asked for what NWB files hold.

    Parameters
    ----------
    cache : Cache
    context : str
        What decides about the answers beside the bytes.
    """

    limit: ClassVar[int] = 16 * 1024 * 1024
    """Bytes; to read a larger file whole takes longer than to open it."""
    cache: Cache
    context: str

    def content(self, path: Path) -> Content | None:
        """Read a file; None if it is not a small file, is open for writing elsewhere, or changes meanwhile."""
        if path.suffix != NWB_SUFFIX:
            return None
        try:
            with open(path, "rb", buffering=0, opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > self.limit or not may_be_read(file.fileno()):
                    return None
                digest = blake3(file.readall()).digest()
                is_unchanged = stamp(os.fstat(file.fileno())) == stamp(status)
        except OSError:  # who reads it next says why
            return None
        return Content(digest, status.st_size, stamp(status)) if is_unchanged else None

    def inspected(self, path: Path, content: Content) -> Inspected | None:
        """What was found before in the bytes of a file; None if they were not seen, or not by this version."""
        record = self.cache.get(self._key("file", content.digest))
        if record is None:
            return None
        try:
            return from_record(record, path, content.size, content.stamp, content.digest)
        except (LookupError, TypeError, ValueError):
            return None

    def named(self, path: Path) -> Named | None:
        """What is known of a file in the dandiset; changed paths have changed none of that."""
        content = self.content(path)
        if content is None:
            return None
        origin = self.cache.get(self._key("origin", content.digest))
        found = self.inspected(path, replace(content, digest=bytes.fromhex(origin[0])) if origin else content)
        return None if found is None else Named(path, found.object_id, found.identifier, found.metadata)

    def is_edited_copy(self, content: Content | None, source: Inspected, edits: Edits) -> bool:
        """Whether it is known that a file has exactly the bytes of another one with these edits."""
        if source.digest is None or content is None:
            return False
        if not edits:
            return content.digest == source.digest
        return bool(self.cache.get(self._key("origin", content.digest)) == _origin(source.digest, edits))

    def keep_inspected(self, item: Inspected) -> None:
        """Keep what was found in a file, if the record gives all of it back."""
        if item.digest is None or item.was_known:
            return
        record = record_of(item)
        again = from_record(json.loads(json.dumps(record)), item.path, item.size, item.stamp, item.digest)
        if repr(replace(again, was_known=False)) == repr(item):
            self.cache.put(self._key("file", item.digest), record)

    def digests(self, source: Inspected, target: Path, content: Content | None) -> tuple[bytes, bytes] | None:
        """The digests of two files that were compared just now.

        None unless the source has the bytes that were inspected, and the target those that it had before. Their times
        do not say that: they count in steps in which a file can be written to twice.
        """
        found = self.content(source.path)
        if found is None or content is None or found.digest != source.digest or self.content(target) != content:
            return None
        return found.digest, content.digest

    def keep_copy(self, digests: tuple[bytes, bytes] | None, edits: Edits) -> None:
        """Keep that a target has the bytes of a source with these edits; given are their digests, if they are known."""
        if digests is not None:
            self.cache.put(self._key("origin", digests[1]), _origin(digests[0], edits))

    def _key(self, kind: str, digest: bytes) -> bytes:
        return key_of(kind, self.context, digest)


@contextmanager
def known_files(folder: Path | None, options: MediaOptions) -> Iterator[KnownFiles | None]:
    """The cache in a folder for one call, saved at its end; None without a folder."""
    if folder is None:
        yield None
        return
    cache = Cache(folder)
    try:
        yield KnownFiles(cache, f"{_code().hex()} {media_fields(options.media_fields)!r}")
    finally:
        cache.save()


def _origin(source: bytes, edits: Edits) -> list[str]:
    paths = {place: list(paths) for place, paths in sorted(edits.items())}
    return [source.hex(), key_of(repr(paths)).hex()]


def _without_waiting(path: str, flags: int) -> int:
    """Open a file, not waiting for a pipe that has its name."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _code() -> bytes:
    """A digest of the code that reads NWB files: another version of it may find something else in the same bytes."""
    package = Path(__file__).parents[2]
    modules = (*package.glob("nwb/*.py"), *package.glob("tasks/organize/*.py"))
    return key_of(*(part for path in sorted(modules) for part in (path.name, path.read_bytes())))

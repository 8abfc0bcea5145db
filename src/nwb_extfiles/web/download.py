"""Download what is behind a URL, complete and verified.

Downloads resume only if the server says that the content is unchanged. fsspec's own `get_file` neither resumes nor
compares sizes and checksums, so the file is received here, block by block.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from ..disk.contents import HASH_CHUNK, wrong_checksums
from ..disk.filesystem import free_bytes
from .remote import RemoteFile, unsigned
from .urls import ATTEMPTS, BrokenOffError, RefusedError, reading, retried

__all__ = ["fetch", "part_name"]

CHECKPOINT = 64 * 1024 * 1024
"""Bytes that an interrupted run may have to download again."""
_PROGRESS = 1024 * 1024  # bytes after which the attempts are counted from the start
_SLOWEST = 1024  # bytes per second; a server that sends less counts as silent
_SPARE = 64 * 1024 * 1024  # bytes of free space that a file of unknown size must leave


def part_name(remote: RemoteFile) -> str:
    """A file name for a download; it differs if the server says that the content is another one."""
    token = "\0".join((unsigned(remote.url), str(remote.size), str(remote.validator)))
    return hashlib.blake2s(token.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def fetch(
    remote: RemoteFile,
    part: Path,
    *,
    timeout: float = 60.0,
    on_bytes: Callable[[int], object] = lambda count: None,
    sync: bool = True,
) -> None:
    """Download a file and verify it.

    What an interrupted run has left at `part` is resumed if the server names its content (ETag, or the date of its
    last change; `part` must differ for other contents, see `part_name`), and if it still is what that run had noted.

    Parameters
    ----------
    remote : RemoteFile
        As `ask` gave it.
    part : pathlib.Path
        Where to write. A note with ``.state`` behind that name is kept beside it.
    timeout : float
        Seconds for which the server may send nothing, or next to nothing.
    on_bytes : callable
        Called with the number of bytes that have come since the last call: 0 if the size is not known beforehand, and
        while nothing comes. It may raise, to end the download.
    sync : bool
        Whether to flush the file to the disk.

    Raises
    ------
    FileNotFoundError
        If the server does not have it any more.
    OSError
        If the connection breaks again and again, if the server has changed the file, or if it sends another length or
        other bytes than it announced; or as the file system says.
    """
    with _Download(remote, part, timeout, on_bytes, sync) as download:
        try:
            while not retried(download.receive, lambda: on_bytes(0)):
                pass
        except BrokenOffError as error:
            size = "unknown" if remote.size is None else remote.size
            raise OSError(
                f"{error}; {ATTEMPTS} attempts have ended like that, with {download.size:,} of {size} bytes here"
            ) from error
        download.finish()


class _Download:
    """A file that is being downloaded, and how much of it is here.

    The note beside it says how many bytes had come when it was last flushed, their hash, and the inode: a file that
    came with a copied or downloaded folder, note and all, is not resumed.
    """

    def __init__(
        self, remote: RemoteFile, path: Path, timeout: float, on_bytes: Callable[[int], object], sync: bool
    ) -> None:
        self._remote, self._path, self._timeout, self._on_bytes, self._sync = remote, path, timeout, on_bytes, sync
        self._note_path = path.with_name(f"{path.name}.state")
        self._hash = blake3()
        self._reported = 0
        self.size = self._noted = self._resumable_bytes()
        if not self.size:
            path.unlink(missing_ok=True)
            self._note_path.unlink(missing_ok=True)
        self._file = open(path, "r+b" if self.size else "x+b", buffering=0)  # noqa: SIM115
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def __enter__(self) -> _Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _resumable_bytes(self) -> int:
        # Of a size that nobody knows, all may be here: a server refuses to send what follows the last byte.
        if self._remote.validator is None or self._remote.size is None:
            return 0
        try:
            file, note = os.lstat(self._path), os.lstat(self._note_path)
            # a link would be written through; reading a pipe would wait for ever
            if not (stat.S_ISREG(file.st_mode) and file.st_nlink == 1 and stat.S_ISREG(note.st_mode)):
                return 0
            with open(self._note_path, "rb") as stream:
                noted = json.loads(stream.read(4096))
            size = max(0, min(int(noted["size"]), file.st_size, self._remote.size))
            with open(self._path, "rb", buffering=0) as stream:
                for begin in range(0, size, HASH_CHUNK):
                    self._hash.update(stream.read(min(HASH_CHUNK, size - begin)))
            if noted["inode"] == file.st_ino and noted["blake3"] == self._hash.hexdigest():
                return size
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            pass
        self._hash = blake3()
        return 0

    def _restart(self) -> None:
        self.size = self._noted = 0
        self._hash = blake3()
        self._note_path.unlink(missing_ok=True)
        self._file.truncate(0)
        self._file.seek(0)

    def receive(self) -> bool:
        """Receive what is missing; False if the connection broke when much of it had come."""
        before = self.size
        self._report()
        try:
            if self.size != self._remote.size:
                self._receive()
        except BrokenOffError:
            if self._remote.validator is None:  # the content may be another one by now
                self._restart()
            if self.size - before < _PROGRESS:
                raise
            return False
        return True

    def _receive(self) -> None:
        remote, room = self._remote, self.size + max(0, free_bytes(self._path.parent) - _SPARE)
        with reading(remote, self._timeout, self.size) as (begin, read):
            if begin != self.size:  # the server does not support ranges
                self._restart()
            since, before = time.monotonic(), self.size
            while block := read(HASH_CHUNK):
                if remote.size is not None and self.size + len(block) > remote.size:
                    raise RefusedError(f"the server sends more than the {remote.size:,} bytes that it announced")
                if remote.size is None and self.size + len(block) > room:
                    raise RefusedError(f"the server does not say how long the file is, and only {room:,} bytes fit")
                self._append(block)
                waited = time.monotonic() - since
                if waited >= self._timeout:
                    if self.size - before < _SLOWEST * waited:
                        raise BrokenOffError(
                            f"the server has sent {self.size - before:,} bytes in {waited:.0f} seconds"
                        )
                    since, before = time.monotonic(), self.size
        if remote.size is not None and self.size != remote.size:
            raise BrokenOffError(f"the server stopped after {self.size:,} of {remote.size:,} bytes")

    def _append(self, block: bytes) -> None:
        self._hash.update(block)
        self.size += len(block)
        view = memoryview(block)
        while view:  # an unbuffered write may take less than it is given
            view = view[self._file.write(view) :]
        if self.size - self._noted >= CHECKPOINT and self._remote.validator is not None:
            self._note()
        self._report()

    def _report(self) -> None:
        """Report each byte once, however often it was downloaded."""
        fresh = 0 if self._remote.size is None else max(0, self.size - self._reported)
        self._reported += fresh
        self._on_bytes(fresh)

    def _note(self) -> None:
        if self._sync:
            os.fsync(self._file.fileno())
        inode = os.fstat(self._file.fileno()).st_ino
        fresh = self._note_path.with_name(f"{self._note_path.name}.new")
        fresh.unlink(missing_ok=True)
        with open(fresh, "x") as file:
            json.dump({"size": self.size, "blake3": self._hash.hexdigest(), "inode": inode}, file)
        os.replace(fresh, self._note_path)
        self._noted = self.size

    def finish(self) -> None:
        """Verify the whole file, read back from the disk, and note that it is complete."""
        checksums = [("blake3", self._hash.hexdigest()), *self._remote.checksums]
        wrong = wrong_checksums(self._path, checksums)
        if wrong:
            self._restart()  # so that no other run resumes it
            raise RefusedError(f"what came is not what the server announced: {'; '.join(wrong)}")
        self._note()

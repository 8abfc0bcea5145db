"""Files that are on their way from a server, and may be taken up by another run."""

from __future__ import annotations

import json
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from ..disk.contents import HASH_CHUNK, wrong_checksums
from .remote import RemoteFile

__all__ = ["PartialDownload"]

CHECKPOINT = 64 * 1024 * 1024
"""Bytes that a killed run may lose."""

_SAMPLES, _SAMPLE = 4, 64 * 1024


class PartialDownload:
    """A file that is being fetched.

    Beside it stands what it held when it was last flushed, by a hash. What a killed run has left is of use if the
    server has a name for its content (the caller sees to it that another content has another part), and if the bytes
    are those of the hash. As both files may have come with a download, the server is asked for some bytes here and
    there too, unless it tells a checksum, by which all is verified in the end.

    Parameters
    ----------
    path : pathlib.Path
        The file. What is there, and no regular file with this one name, is removed. Another one with ``.state``
        behind its name is kept beside it.
    remote : RemoteFile
        What is fetched.
    sync : bool
        Whether what is noted is flushed to the disk before.

    Attributes
    ----------
    size : int
        Bytes that are right so far.
    """

    def __init__(self, path: Path, remote: RemoteFile, sync: bool) -> None:
        self.path = path
        self.size = 0
        self._remote = remote
        self._sync = sync
        self._state = path.with_name(f"{path.name}.state")
        self._noted = 0
        self._hash = blake3()
        if not (_is_plain(path) and _is_plain(self._state)):  # a link would be written through
            self._remove()
        self._file = open(path, "r+b" if path.exists() else "x+b", buffering=0)  # noqa: SIM115

    def __enter__(self) -> PartialDownload:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def take_up(self, sample: Callable[[int, int], bytes]) -> None:
        """Go on from what a killed run has left, if that is right; else from nothing."""
        size, value = self._read_state()
        if size and self._hash_of(size) == value and (self._remote.checksums or self._is_sampled(size, sample)):
            self.size = self._noted = size
            self._file.truncate(size)
            self._file.seek(size)
        else:
            self.restart()

    def _read_state(self) -> tuple[int, str]:
        try:
            with open(self._state, "rb") as file:
                state = json.loads(file.read(4096))
            size, value = int(state["size"]), str(state["blake3"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ""
        whole = self._remote.size
        if self._remote.validator is None or whole is None or not 0 < size <= min(whole, self.path.stat().st_size):
            return 0, ""
        return size, value

    def _hash_of(self, size: int) -> str:
        self._hash = blake3()
        self._file.seek(0)
        while size and (block := self._file.read(min(size, HASH_CHUNK))):
            self._hash.update(block)
            size -= len(block)
        return self._hash.hexdigest()

    def _is_sampled(self, size: int, sample: Callable[[int, int], bytes]) -> bool:
        last = max(0, size - _SAMPLE)
        for begin in {last, *(random.randrange(last + 1) for _ in range(_SAMPLES))}:  # noqa: S311  # no secret
            self._file.seek(begin)
            here = self._file.read(min(_SAMPLE, size - begin))
            try:
                if sample(begin, len(here)) != here:
                    return False
            except OSError:
                return False
        return True

    def restart(self) -> None:
        """Begin again."""
        self.size = self._noted = 0
        self._hash = blake3()
        self._state.unlink(missing_ok=True)
        self._file.truncate(0)
        self._file.seek(0)

    def write(self, block: bytes) -> None:
        """Append what has come."""
        self._hash.update(block)
        self.size += len(block)
        view = memoryview(block)
        while view:  # an unbuffered write may take less than it is given
            view = view[self._file.write(view) :]
        if self.size - self._noted >= CHECKPOINT and self._remote.validator is not None:
            self._note()

    def _note(self) -> None:
        if self._sync:
            os.fsync(self._file.fileno())
        fresh = self._state.with_name(f"{self._state.name}.new")
        fresh.unlink(missing_ok=True)
        with open(fresh, "x") as file:
            json.dump({"size": self.size, "blake3": self._hash.hexdigest()}, file)
        os.replace(fresh, self._state)
        self._noted = self.size

    def verify(self) -> list[str]:
        """What is wrong with the whole file, read back from the disk; empty if nothing is."""
        return wrong_checksums(self.path, [("blake3", self._hash.hexdigest()), *self._remote.checksums])

    def finish(self) -> None:
        """Flush, and note that it is whole."""
        self._note()


def _is_plain(path: Path) -> bool:
    """Whether there is nothing, or a regular file that has no other name."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1

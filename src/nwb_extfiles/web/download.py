"""Fetches what is behind URLs.

What breaks off is taken up where it broke off, as long as the server calls it the same content; the end is verified.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from ..disk.contents import HASH_CHUNK
from ..disk.filesystem import free_bytes
from .partial import PartialDownload
from .remote import RemoteFile
from .urls import PAUSES, BrokenOffError, RefusedError, reading

__all__ = ["fetch", "part_name"]

_PROGRESS = 1024 * 1024  # bytes after which an attempt counts as the first again
_SLOWEST = 1024  # bytes a second: who trickles is as good as gone
_SPARE = 64 * 1024 * 1024  # bytes of room that a file of unknown size must leave


def part_name(remote: RemoteFile) -> str:
    """A name for what is fetched, another one if the server calls it another content."""
    token = "\0".join((remote.url, str(remote.size), str(remote.validator)))
    return hashlib.blake2s(token.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def fetch(
    remote: RemoteFile,
    part: Path,
    *,
    timeout: float = 60.0,
    on_bytes: Callable[[int], object] = lambda count: None,
    sync: bool = True,
) -> None:
    """Fetch a file, and know that it is the one that the server has.

    What a killed run has left at `part` is taken up if the server still calls its file the same, and if what is there
    is what that run had got; see `PartialDownload`.

    Parameters
    ----------
    remote : RemoteFile
        As `ask` gave it.
    part : pathlib.Path
        Where to write; a file with ``.state`` behind its name is kept beside it meanwhile.
    timeout : float
        Seconds to wait for a server that says nothing, or next to nothing.
    on_bytes : callable
        Called with the number of bytes that have come since the last call, if the size is known beforehand.
    sync : bool
        Whether to flush the file to the disk.

    Raises
    ------
    FileNotFoundError
        If it is gone from the server.
    OSError
        If the server breaks off again and again, has changed the file, or sends another length or other bytes than it
        announced; or as the file system says. What was written stays at `part`.
    """
    report = _Report(on_bytes if remote.size is not None else lambda count: None)
    with PartialDownload(part, remote, sync) as got:
        got.take_up(lambda begin, count: _sample(remote, timeout, begin, count))
        was_taken_up = got.size > 0
        report(got.size)
        _receive_all(remote, got, timeout, report)
        wrong = got.verify()
        if wrong and was_taken_up:  # by what was there before
            got.restart()
            _receive_all(remote, got, timeout, report)
            wrong = got.verify()
        if wrong:
            raise RefusedError(f"what came is not what the server announced: {'; '.join(wrong)}")
        got.finish()


class _Report:
    """Counts bytes once, however often they come."""

    def __init__(self, on_bytes: Callable[[int], object]) -> None:
        self._on_bytes = on_bytes
        self._told = 0

    def __call__(self, size: int) -> None:
        if size > self._told:
            self._on_bytes(size - self._told)
            self._told = size


def _receive_all(remote: RemoteFile, got: PartialDownload, timeout: float, report: _Report) -> None:
    failures = 0
    while True:
        begun = got.size
        try:
            _receive(remote, got, timeout, report)
            return
        except BrokenOffError as error:
            failures = 1 if got.size - begun >= _PROGRESS else failures + 1
            if failures > len(PAUSES):
                raise OSError(
                    f"{error}; {failures} attempts have ended like that, with {got.size:,} of "
                    f"{remote.size if remote.size is not None else 'unknown'} bytes here"
                ) from error
            time.sleep(max(PAUSES[failures - 1], error.wait))
            if remote.validator is None:  # it may be another file by now
                got.restart()


def _receive(remote: RemoteFile, got: PartialDownload, timeout: float, report: _Report) -> None:
    """Receive what is missing."""
    if got.size and got.size == remote.size:
        return
    limit = remote.size if remote.size is not None else got.size + max(0, free_bytes(got.path.parent) - _SPARE)
    with reading(remote, timeout, got.size) as (begin, read):
        if begin != got.size:  # no server of parts
            got.restart()
        since, size = time.monotonic(), got.size
        while block := read(HASH_CHUNK):
            if got.size + len(block) > limit:
                raise RefusedError(
                    f"the server sends more than the {remote.size:,} bytes that it announced"
                    if remote.size is not None
                    else f"the server does not tell how long the file is, and there is room for {limit:,} bytes only"
                )
            got.write(block)
            report(got.size)
            waited = time.monotonic() - since
            if waited >= timeout:
                if got.size - size < _SLOWEST * waited:
                    raise BrokenOffError(f"the server has sent {got.size - size:,} bytes in {waited:.0f} seconds")
                since, size = time.monotonic(), got.size
    if remote.size is not None and got.size != remote.size:
        raise BrokenOffError(f"the server stopped after {got.size:,} of {remote.size:,} bytes")


def _sample(remote: RemoteFile, timeout: float, begin: int, count: int) -> bytes:
    """Some bytes of a file from the server; none if it gives no parts."""
    found = b""
    with reading(remote, timeout, begin) as (begins, read):
        while begins == begin and len(found) < count and (block := read(count - len(found))):
            found += block
    return found

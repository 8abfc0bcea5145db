"""The content of an asset of the archive, downloaded by dandi's client, resumed, and verified by the archive's digests.

What has arrived is kept beside the target under a hidden name with the digest in it, so that the next run resumes it,
and nothing that is not whole has the name of the target.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..disk.contents import digest_of
from ..disk.links import rename_exclusive
from ..disk.locks import lock_handle
from ..errors import DestinationBusyError
from .archive_client import zarr_checksum
from .urls import ATTEMPTS, BrokenOffError, RefusedError, retried

__all__ = ["download_asset", "has_content", "have_same_content", "part_of"]

_PROGRESS = 1024 * 1024  # bytes after which the attempts are counted from the start
_BLOCK = 64 * 1024  # bytes, which a connection that breaks loses at most
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_SHA256, _ETAG, _ZARR = "dandi:sha2-256", "dandi:dandi-etag", "dandi:dandi-zarr-checksum"


def part_of(asset: Any, target: Path) -> Path:
    """Where the part of an asset that has arrived is kept; another content has another name."""
    return target.with_name(f".{target.name[:150]}.{_digests(asset).get(_ETAG, '')[:16]}.part")


def has_content(asset: Any, path: Path, *, on_bytes: Callable[[int], object] = lambda count: None) -> bool:
    """Whether a file, or a Zarr store, has the content of an asset, by its size and the archive's digest of it.

    The archive computes SHA-256 some time after the upload. Until then its ETag is compared, as dandi does. Of a Zarr
    store, all files are read.
    """
    if path.is_dir() or hasattr(asset, "zarr"):
        return path.is_dir() and zarr_checksum(path) == _digests(asset).get(_ZARR)
    if path.stat().st_size != asset.size:
        return False
    digests = _digests(asset)
    if _SHA256 in digests:
        return digest_of(path, on_bytes=on_bytes) == digests[_SHA256]
    from dandischema.digests.dandietag import DandiETag

    return bool(DandiETag.from_file(path).as_str() == digests.get(_ETAG))


def have_same_content(one: Any, other: Any) -> bool:
    """Whether two assets have the same content, by what the archive says of it when it is uploaded."""
    return bool(one.size == other.size and _digests(one).get(_ETAG) == _digests(other).get(_ETAG))


def download_asset(
    asset: Any, target: Path, *, on_bytes: Callable[[int], object] = lambda count: None, sync: bool = True
) -> None:
    """Download an asset to a path that does not exist, in a folder that does.

    Parameters
    ----------
    asset : dandi.dandiapi.RemoteBlobAsset
        Not a Zarr store.
    target : pathlib.Path
        It gets its name when the content is whole and verified.
    on_bytes : callable
        Called with the number of bytes that have come since the last call. It may raise, to end the download; what has
        arrived stays for the next one.
    sync : bool
        Whether to flush the file to the disk before it gets its name.

    Raises
    ------
    FileExistsError
        If there is something at the target by then.
    DestinationBusyError
        If another run is downloading the same file.
    OSError
        If the connection breaks again and again, if the archive refuses, if what came has another digest, which is
        discarded; or as the file system says.
    """
    part = part_of(asset, target)
    with _opened(part, target) as file:
        download = _Download(asset, file, on_bytes)
        try:
            while not retried(download.receive, lambda: on_bytes(0)):
                pass
        except BrokenOffError as error:
            size = download.size
            raise OSError(f"{error}; {ATTEMPTS} attempts have ended like that, with {size:,} bytes here") from error
        file.flush()
        if sync:
            os.fsync(file.fileno())
    # On Windows, a locked file can neither be read by its name nor renamed.
    if not has_content(asset, part):
        part.unlink()
        raise RefusedError("what came does not have the digest that the archive has of it, and is discarded")
    rename_exclusive(part, target, sync=sync)


class _Download:
    def __init__(self, asset: Any, file: BinaryIO, on_bytes: Callable[[int], object]) -> None:
        self._asset, self._file, self._on_bytes = asset, file, on_bytes
        self._reported = 0
        self.size = file.seek(0, os.SEEK_END)
        if self.size > asset.size:
            self._restart()

    def _restart(self) -> None:
        self.size = 0
        self._file.seek(0)
        self._file.truncate()

    def receive(self) -> bool:
        """Receive what is missing; False if the connection broke when much of it had come."""
        before = self.size
        self._report()
        try:
            with _sorted_errors():
                for block in self._blocks():
                    self._file.write(block)
                    self.size += len(block)
                    if self.size > self._asset.size:  # it may never end
                        break
                    self._report()
            if self.size > self._asset.size:
                self._restart()
                # it began at the first byte, unless it was asked to
                raise (BrokenOffError if before else RefusedError)("the server sends more than was asked for")
            if self.size < self._asset.size:
                raise BrokenOffError(f"the server stopped after {self.size:,} of {self._asset.size:,} bytes")
        except BrokenOffError:
            if self.size - before < _PROGRESS:
                raise
            return False
        return True

    def _blocks(self) -> Iterator[bytes]:
        if self.size < self._asset.size:
            yield from self._asset.get_download_file_iter(_BLOCK)(self.size)

    def _report(self) -> None:
        """Report each byte once, however often it was downloaded."""
        fresh = max(0, self.size - self._reported)
        self._reported += fresh
        self._on_bytes(fresh)


@contextmanager
def _opened(part: Path, target: Path) -> Iterator[BinaryIO]:
    """The file for what arrives, locked against other runs; never a link to something else."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    if os.path.lexists(part):
        _require_own_file(part, os.lstat(part))  # before it is opened: a pipe cannot be, and Windows follows a link
    with open(part, "r+b", opener=lambda path, _: os.open(path, flags, 0o666)) as file:
        _require_own_file(part, os.fstat(file.fileno()))
        try:
            lock_handle(file.fileno())
        except NotImplementedError:
            pass  # the file system has no locks
        except BlockingIOError as error:
            raise DestinationBusyError(f"{target} is being downloaded by another run", hint="wait for it") from error
        yield file


def _require_own_file(part: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise RefusedError(f"{part} is not a file of its own, so nothing is written to it; remove it")


def _digests(asset: Any) -> dict[str, str]:
    found: dict[str, str] = asset.get_raw_metadata().get("digest") or {}
    return found


@contextmanager
def _sorted_errors() -> Iterator[None]:
    """Tell errors that may pass from those that will not; never the URL, which may be a signed one."""
    from requests import HTTPError, RequestException

    try:
        yield
    except HTTPError as error:
        status = None if error.response is None else error.response.status_code
        if error.response is not None:
            error.response.close()  # dandi leaves it open
        kind = BrokenOffError if status in _PASSING else RefusedError
        raise kind(f"the archive answers {status}") from None
    except RequestException as error:
        raise BrokenOffError(f"the connection broke ({type(error).__name__})") from None

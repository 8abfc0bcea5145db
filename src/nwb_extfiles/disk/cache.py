"""What earlier runs found out about contents, kept in the user's cache folder.

An entry says something about bytes, and its key is a digest of these bytes: no path and no time is in it. So an entry
cannot become wrong when files change, are restored, or are copied to another machine. The cache may be deleted at any
time. What is wrong with it (damaged, locked, of another user, on a full disk) costs time, and is never an error.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from blake3 import blake3

__all__ = ["Cache", "cache_folder", "key_of"]

_logger = logging.getLogger("nwb_extfiles")
_NAME = "contents-1.sqlite"  # another format gets another name, so that versions of this package do not disturb another
_TABLE = "CREATE TABLE IF NOT EXISTS contents (key BLOB PRIMARY KEY, value BLOB, used INTEGER) WITHOUT ROWID"
_LONGEST = 256 * 1024  # bytes of one value
_LARGEST = 64 * 1024 * 1024  # bytes of the file; if it is larger, what was used least recently is removed
_PATIENCE = 0.2  # seconds to wait for another process
_CHECK = 16  # bytes before each value, by which damage is noticed
_DAY = 24 * 60 * 60  # seconds


def cache_folder() -> Path | None:
    """The folder of the cache; None if this user has none, such as a service without a home."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("nwb-extfiles", appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None


def key_of(*parts: bytes | str) -> bytes:
    """The key for what some parts decide together; the same parts in the same order give the same key."""
    digest = blake3()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


class Cache:
    """Values by key. What is put in is on disk after `save`; a process that gets a copy of this object reads alone.

    Parameters
    ----------
    folder : pathlib.Path
        Made by `save` if it does not exist, for the user alone: what is in NWB files is in the cache too.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False
        self._lock = Lock()  # an executor of the caller may have threads
        self._new: dict[bytes, bytes] = {}
        self._used: set[bytes] = set()  # that have an older day on disk

    def __reduce__(self) -> tuple[type[Cache], tuple[Path]]:
        """For another process, which opens the file itself."""
        return Cache, (self._path.parent,)

    def __del__(self) -> None:
        self._close()  # in another process, where nobody calls `save`

    def get(self, key: bytes) -> Any:
        """The value of a key, as JSON has it; None if there is none, or if it cannot be read."""
        stored, used = self._new.get(key), _today()
        if stored is None and (row := self._row(key)) is not None:
            stored, used = row
        if not isinstance(stored, bytes) or stored[:_CHECK] != _check(key, stored[_CHECK:]):
            return None
        if used != _today():
            self._used.add(key)
        return json.loads(stored[_CHECK:])

    def put(self, key: bytes, value: Any) -> None:
        """Keep a value, which JSON can hold, from `save` on; not if it is very long."""
        data = json.dumps(value, separators=(",", ":")).encode("ascii")
        if len(data) <= _LONGEST:
            self._new[key] = _check(key, data) + data

    def save(self) -> None:
        """Write what is new, in one transaction, and close the file."""
        self._close()
        if not self._new and not self._used:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write()
        except sqlite3.OperationalError as error:  # locked, no space, read-only
            _logger.debug("the cache %s is not written: %s", self._path, error)
        except (sqlite3.DatabaseError, OSError) as error:
            _logger.debug("the cache %s is begun anew: %s", self._path, error)
            self._begin_anew()

    def _row(self, key: bytes) -> tuple[Any, Any] | None:
        with self._lock:
            if self._connection is None and not self._is_closed:
                self._open()
            if self._connection is None:
                return None
            try:
                found = self._connection.execute("SELECT value, used FROM contents WHERE key = ?", (key,)).fetchone()
            except (sqlite3.Error, OSError) as error:
                _logger.debug("the cache %s is not read: %s", self._path, error)
                self._close()
                return None
        return None if found is None else tuple(found)

    def _open(self) -> None:
        if not self._is_own():
            self._is_closed = True
            return
        try:
            self._connection = _opened(self._path, "ro")
        except (sqlite3.Error, OSError):
            self._is_closed = True

    def _is_own(self) -> bool:
        """Whether the file is there, and nobody else can have written to it."""
        try:
            file, folder = os.lstat(self._path), os.stat(self._path.parent)
        except OSError:
            return False
        return stat.S_ISREG(file.st_mode) and (os.name == "nt" or all(map(_is_private, (file, folder))))

    def _write(self) -> None:
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if not self._is_own():
                raise sqlite3.OperationalError("it belongs to someone else, or others may write to it") from None
        with closing(_opened(self._path, "rw")) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")  # after a power failure a checksum tells what is damaged
            connection.execute(_TABLE)
            rows = [(key, value, _today()) for key, value in self._new.items()]
            connection.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", rows)
            used = [(_today(), key) for key in self._used]
            connection.executemany("UPDATE contents SET used = ? WHERE key = ?", used)
            if _size(connection) > _LARGEST:
                connection.execute(
                    "DELETE FROM contents WHERE key IN "
                    "(SELECT key FROM contents ORDER BY used LIMIT (SELECT count(*) / 4 + 1 FROM contents))"
                )

    def _begin_anew(self) -> None:
        """Remove a file that is damaged, for the next run to make a new one."""
        try:
            if self._is_own():
                self._path.unlink()
                Path(f"{self._path}-journal").unlink(missing_ok=True)
        except OSError:
            pass  # it stays damaged, and is not read

    def _close(self) -> None:
        self._is_closed = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE, check_same_thread=False)


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _size(connection: sqlite3.Connection) -> int:
    """Bytes in use in the file."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _check(key: bytes, data: bytes) -> bytes:
    return blake3(key + data).digest(length=_CHECK)


def _today() -> int:
    """The number of the day: when entries were used says only which are removed first."""
    return int(time.time() // _DAY)

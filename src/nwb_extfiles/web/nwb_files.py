"""NWB files behind URLs, opened for reading: HDF5 files and Zarr stores."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import h5py

from ..errors import ExternalFilesError, UnreadableFileError
from .remote import unsigned
from .urls import opened, opened_folder, reason_of

__all__ = ["opened_nwb"]


@contextmanager
def opened_nwb(url: str, nwb_url: str) -> Iterator[Any]:
    """Open an NWB file behind a URL; gives an `h5py.File` or a `zarr.Group`.

    Parameters
    ----------
    url : str
        At which it opens; that of a Zarr store ends with a slash or with ``.zarr``.
    nwb_url : str
        What it is called in messages.

    Raises
    ------
    UnreadableFileError
        If it cannot be read, with the reason that the server gives.
    ImportError
        If the package that fsspec needs for the scheme, or hdmf-zarr for a Zarr store, is not installed.
    """
    path = urlsplit(url).path
    is_store = path.endswith(".zarr") or (path.endswith("/") and not path.endswith("/download/"))
    try:
        with _store(url) if is_store else _hdf5(url) as file:
            yield file
    except (ImportError, ExternalFilesError):
        raise
    except Exception as error:  # the packages behind fsspec have exceptions of their own
        kind = "a Zarr store" if is_store else "HDF5"
        raise UnreadableFileError(
            f"{unsigned(nwb_url)} cannot be read as an NWB file in {kind}: {reason_of(error)}",
            hint="check the URL, and that its server answers Range requests",
            nwb_path=unsigned(nwb_url),
        ) from error


@contextmanager
def _hdf5(url: str) -> Iterator[h5py.File]:
    with opened(url) as stream, _without_collecting_garbage(), h5py.File(stream, "r") as file:
        yield file


@contextmanager
def _store(url: str) -> Iterator[Any]:
    from ..nwb.zarr_store import open_store

    with opened_folder(url.rstrip("/"), ".zgroup") as filesystem:
        yield open_store(url.rstrip("/"), filesystem)


@contextmanager
def _without_collecting_garbage() -> Iterator[None]:
    """No garbage collection for a moment, as it may come in any thread.

    While h5py reads, it has a lock, and waits for the thread in which fsspec asks the server. If garbage is collected
    in that thread, and an object of h5py is in it, that thread waits for the lock: for ever.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

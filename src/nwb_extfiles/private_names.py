"""The names of other packages that this one uses and that their authors do not promise to keep.

Where there is a public way, it is taken. Whatever is left is in this module alone, so that a new version
of another package is checked in one place: `tests/test_private_names.py` fails if a name is gone.

``HDF5IO._file`` of hdmf (4.1 to 6.2), ``ZarrIO._file`` of hdmf-zarr (0.11 to 0.13)
    The open file. What is in it decides which objects of an append are new, and which types it has. hdmf has no public
    property for it. Instead: open the file a second time, which HDF5 refuses in most modes.
``TypeMap.__mapper_cls`` of hdmf (4.1 to 6.2)
    The mapper classes that are registered, of which ours are subclasses. Instead: the class of what ``get_map()`` gives
    for a builder of each type, which makes all these mappers, and takes 13 ms for each IO instead of 0.4 ms.
``TypeMap.__mappers`` of hdmf (4.1 to 6.2)
    Object mappers that were made before ours were registered, and would be used on. Instead: register ours only in
    type maps that nothing was read or written with.
``_assign_dandi_names``, ``_get_non_unique_paths``, ``_get_unique_values``, ``_populate_session_ids_from_time``, \
``_sanitize_value`` of `dandi.organize` (0.81)
    The steps of ``create_unique_filenames_from_metadata``. That function imports pynwb, and its time grows with the
    square of the number of files. Instead: call it for all files, and wait. The module is run by `late_imports`;
    instead, import it, which takes half a second more.
``numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE`` (0.15.2)
    Whether the user trusts pickles in Zarr stores. Without the module (before 0.15.2) none are read here. Instead: read
    none at all.
``DirectoryStore``, ``ConsolidatedMetadataStore``, ``Store`` and ``TempStore`` of `zarr.storage`, \
``zarr.errors.MetadataError`` (zarr 2.18)
    Public in zarr 2, gone in zarr 3, which hdmf-zarr 0.13 does not take. `nwb.zarr_store` and `io.zarrio` alone import
    them. Instead, with zarr 3: ``LocalStore`` and a subclass of its ``Store`` for what is written to memory.
``S3FileSystem.call_s3`` and ``split_path`` of s3fs (2026.9)
    Without an underscore, but in no reference. `web.urls` asks for the checksums of an object with them, which
    ``info()`` leaves out. Instead: do without these checksums.
``HTTPStreamFile.r``, ``HTTPFileSystem.set_session`` and ``close_session`` of fsspec (2024.6 to 2026.9)
    The response behind a stream, and the session behind that, without an underscore and in no reference. `web.urls`
    reads the headers of the response, and closes the session. Instead: aiohttp itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from .late_imports import with_late_imports

__all__ = ["DandiNaming", "dandi_naming", "forget_mappers", "may_unpickle", "open_file", "registered_mappers"]


def open_file(io: Any) -> Any:
    """The open file of an IO: an `h5py.File` or the root group of a Zarr store; None if there is none."""
    return getattr(io, "_file", None)


def registered_mappers(type_map: Any) -> dict[type, type]:
    """The classes of object mappers that are registered in a type map, by container class."""
    return dict(type_map._TypeMap__mapper_cls)


def forget_mappers(type_map: Any) -> None:
    """Let a type map make its object mappers anew, of the classes that are registered now."""
    type_map._TypeMap__mappers.clear()


class DandiNaming(NamedTuple):
    """The steps by which dandi names NWB files; each takes rows of metadata and writes into them."""

    sanitize: Callable[[Any, str], Any]
    values_of: Callable[..., dict[str, Any]]
    name_sessions_by_time: Callable[[list[dict[str, Any]]], Any]
    assign_names: Callable[[list[dict[str, Any]]], Any]
    not_unique: Callable[[list[dict[str, Any]]], Any]


def dandi_naming() -> DandiNaming:
    """The steps of dandi's that is installed; they are loaded now, without what else its module imports."""
    organize = with_late_imports("dandi.organize")
    return DandiNaming(
        sanitize=organize._sanitize_value,
        values_of=organize._get_unique_values,
        name_sessions_by_time=organize._populate_session_ids_from_time,
        assign_names=organize._assign_dandi_names,
        not_unique=organize._get_non_unique_paths,
    )


def may_unpickle() -> bool:
    """Whether the user has declared that Zarr stores are trusted: what is unpickled can run any code."""
    return bool(getattr(sys.modules.get("numcodecs.pickles"), "ALLOW_UNSAFE_PICKLE_DECODE", False))

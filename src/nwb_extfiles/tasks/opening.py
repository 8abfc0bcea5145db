"""For who reads: where the external files of an NWB file can be opened.

Takes what a reader has at hand: an NWB file in memory or a single container of it, a path, a URL, or an asset of the
DANDI archive. Nothing is written, and pynwb is not needed.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from ..errors import ExternalFilesError, UnreadableFileError
from ..nwb.files import open_nwb
from ..nwb.path_datasets import StoredPath, read_paths, unwrapped
from ..nwb.references import ExternalFileReference
from ..nwb.registry import MediaField, media_fields
from ..nwb.scan import find_in_file
from ..options import MediaOptions
from ..plans.locate import ResolvedExternalFile, locate
from ..plans.resolve import is_url, without_file_scheme
from ..web.archive import DandisetAssets, assets_of, is_asset, names_asset
from ..web.remote import is_opaque, source_of
from ..web.urls import opened

__all__ = ["resolve_external_files"]

_IN_MEMORY = "(in memory)"


def resolve_external_files(
    source: Any, media_options: MediaOptions | Mapping[str, Any] | None = None, *, opened_from: Any = None
) -> list[ResolvedExternalFile]:
    """Tell for each external file of an NWB file where it can be opened.

    Parameters
    ----------
    source : container, path, str, h5py.File or dandi.dandiapi.RemoteAsset
        A pynwb container that holds paths (`ImageSeries` and its subtypes, `ExternalImage`, `PoseEstimation`) or has
        such below it (`NWBFile`, a processing module), its IO open; an NWB file by its path (or
        ``file://`` URL); one in HDF5 by an http, https, s3 or gs URL, by a ``dandi://`` URL or a download URL of the
        archive, as an open `h5py.File`, or as an asset.
    media_options : MediaOptions or mapping, optional
        Of which `search`, `path_map`, `within` and `media_fields` are used.
    opened_from : str, path or dandi.dandiapi.RemoteAsset, optional
        Where the NWB file lies, if `source` cannot tell or knows only a name for its bytes: file objects other than
        fsspec's, URLs of S3 that a dandiset's asset was opened from.

    Returns
    -------
    list of ResolvedExternalFile
        One for each entry, in the order of the file. What cannot be found has no location but a problem.

    Raises
    ------
    UnreadableFileError
        If the NWB file cannot be opened, or the archive does not answer.
    MissingMediaError
        If the archive has no such NWB file.
    TypeError
        If `source` is none of those.

    Notes
    -----
    A relative path means a file beside the NWB file: on this machine; behind its URL, as RFC 3986 joins paths; or in
    the same version of the same dandiset.

    Examples
    --------
    >>> with NWBHDF5IO("sub-a.nwb", "r") as io:
    ...     for entry in resolve_external_files(io.read()):
    ...         print(entry.reference.object_path, entry.location or entry.problem)
    """
    options = MediaOptions.from_value(media_options)
    table = media_fields(options.media_fields)
    with ExitStack() as stack:
        # An asset that is read tells its dandiset itself; for anything else `opened_from` may.
        place = next((value for value in (source, opened_from) if _names_asset(value)), None)
        assets = stack.enter_context(assets_of(place)) if place is not None else None
        references = list(_references(source, table, assets))
        if opened_from is not None and place is not source:
            told = _known_from(source)
            lies = assets.nwb_url if assets else _place(opened_from)
            references = [_held_by(lies, entry) if entry.nwb_path == told else entry for entry in references]
        return [locate(entry, options, assets=assets if _is_in(entry, assets) else None) for entry in references]


def _names_asset(value: Any) -> bool:
    return is_asset(value) or (isinstance(value, str) and names_asset(value))


def _is_in(reference: ExternalFileReference, assets: DandisetAssets | None) -> bool:
    return assets is not None and reference.nwb_path == assets.nwb_url


def _place(value: Any) -> str:
    text = os.fspath(value)
    return text if is_url(text) else source_of(_local(text))


def _local(text: str) -> str:
    """The path that a text names, which may be a ``file://`` URL."""
    try:
        path = without_file_scheme(text)
    except ValueError as error:
        raise UnreadableFileError(f"{text!r} {error}", nwb_path=text) from error
    if path != text and path.startswith("\\\\") and os.name != "nt":
        host = path[2:].partition("\\")[0]
        raise UnreadableFileError(
            f"{text!r} names a file on another machine, {host!r}; expected file:///path", nwb_path=text
        )
    return path


def _known_from(source: Any) -> str:
    """Where an NWB file lies, as far as it tells itself."""
    if isinstance(source, h5py.File):
        return source_of(str(source.filename))
    if _is_container(source):
        return source_of(source.container_source) if source.container_source else _IN_MEMORY
    return _place(source)


def _is_container(value: Any) -> bool:
    return hasattr(value, "children") and hasattr(value, "container_source")


def _held_by(nwb_path: str, reference: ExternalFileReference) -> ExternalFileReference:
    """The reference, as one of an NWB file at a place."""
    opaque = is_opaque(nwb_path) or nwb_path == _IN_MEMORY
    return replace(reference, nwb_path=nwb_path, base=None if opaque else os.path.dirname(nwb_path))


def _references(
    source: Any, table: Sequence[MediaField], assets: DandisetAssets | None
) -> Iterator[ExternalFileReference]:
    if isinstance(source, h5py.File):
        yield from _in_h5py(source, table, source_of(str(source.filename)))
    elif _is_container(source):
        yield from _in_containers(source, table)
    elif _names_asset(source):
        assert assets is not None
        urls = assets.nwb_urls
        if not urls:
            raise UnreadableFileError(
                f"{assets.nwb_url} is a Zarr asset; expected an NWB file in HDF5. Read it with hdmf-zarr, and give "
                f"the container with opened_from=",
                nwb_path=assets.nwb_url,
            )
        with _opened(urls[0], assets.nwb_url) as file:
            yield from _in_h5py(file, table, assets.nwb_url)
    elif isinstance(source, str) and is_url(source):
        with _opened(source, source) as file:
            yield from _in_h5py(file, table, source)
    elif isinstance(source, str | os.PathLike):
        path = Path(os.path.abspath(_local(os.fspath(source))))
        with open_nwb(path) as file:
            yield from find_in_file(file, table)
    else:
        raise TypeError(
            f"external files are resolved for a container, a path or URL of an NWB file, an h5py.File or a dandi "
            f"asset, not for {source!r}"
        )


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


@contextmanager
def _opened(url: str, nwb_url: str) -> Iterator[h5py.File]:
    try:
        with opened(url) as stream, _without_collecting_garbage(), h5py.File(stream, "r") as file:
            yield file
    except (ImportError, ExternalFilesError):
        raise
    except Exception as error:  # the packages behind fsspec have exceptions of their own
        raise UnreadableFileError(
            f"{nwb_url} cannot be read as an NWB file in HDF5: {error}; look whether the URL is right, and whether "
            f"its server gives parts of files (Range requests)",
            nwb_path=nwb_url,
        ) from error


def _in_h5py(file: h5py.File, table: Sequence[MediaField], place: str) -> Iterator[ExternalFileReference]:
    own = os.path.dirname(os.path.abspath(file.filename))
    for reference in find_in_file(file, table):
        # texts behind an external link are held by another file
        yield _held_by(place, reference) if reference.base == own else replace(reference, nwb_path=place)


# ----------------------------------------------------------------- containers


def _in_containers(root: Any, table: Sequence[MediaField]) -> Iterator[ExternalFileReference]:
    stack = [root]
    while stack:
        container = stack.pop()
        kinds = {vars(cls).get("neurodata_type") for cls in type(container).__mro__}
        for field in table:
            if field.neurodata_type in kinds:
                yield from _of_container(container, field)
        stack.extend(reversed(container.children))


def _of_container(container: Any, field: MediaField) -> Iterator[ExternalFileReference]:
    value = unwrapped(getattr(container, field.field or "data", None))
    if value is None:
        return
    path = _object_path(container)
    try:
        read = read_paths(value)
        file = str(value.file.filename) if isinstance(value, h5py.Dataset) else None
    except (ValueError, RuntimeError) as error:
        raise UnreadableFileError(
            f"{container.container_source}: {path!r} cannot be read any more: {error}; resolve external files while "
            f"the IO is open",
            nwb_path=container.container_source,
            object_path=path,
        ) from error
    held_by = source_of(file or container.container_source) if file or container.container_source else _IN_MEMORY
    for index, text in enumerate(read[0] if read else ()):
        nwb_path = held_by
        if isinstance(text, StoredPath):
            nwb_path = source_of(text.nwb_path) if text.nwb_path else _IN_MEMORY
            text = text.stored  # noqa: PLW2901
        reference = ExternalFileReference(
            nwb_path=nwb_path,
            object_path=path,
            neurodata_type=str(container.neurodata_type),
            object_id=container.object_id,
            field=field.label,
            index=index,
            stored_path=text,
            base=None,
            repeats=field.repeats,
        )
        yield _held_by(nwb_path, reference)


def _object_path(container: Any) -> str:
    """Where the container stands in its file; if that is not known, the names of what it is in."""
    names, root = [container.name], container
    while root.parent is not None:
        root = root.parent
        names.append(root.name)
    io = getattr(root, "read_io", None)
    builder = io.manager.get_builder(container) if io is not None else None
    if builder is not None:
        return "/" + str(builder.path).partition("/")[2]
    return "/" + "/".join(reversed(names[:-1] or names))

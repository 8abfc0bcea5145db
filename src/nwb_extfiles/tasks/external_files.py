"""The external files of NWB files, and where each can be opened.

Takes an NWB file in memory or a single container of it, a path, a folder, a URL, or an asset of the DANDI archive.
Nothing is written, and pynwb is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import h5py

from ..errors import ExternalFilesError, UnreadableFileError, warn
from ..nwb.files import find_nwb_files, open_nwb, zarr_marker
from ..nwb.linked import LinkedMedia, find_behind_links
from ..nwb.path_datasets import StoredPath, path_of, read_paths, unwrapped
from ..nwb.references import ExternalFileReference
from ..nwb.registry import MediaField, media_fields
from ..nwb.scan import find_in_file
from ..nwb.walk import ExternalLink
from ..options import MediaOptions
from ..plans.locate import ExternalFiles, ResolvedExternalFile, ask_ahead, locate
from ..plans.places import Known, warn_of_unused
from ..plans.stored_paths import is_url, without_file_scheme
from ..web.addresses import address_of
from ..web.archive import DandisetAssets, Dandisets, base_of, is_asset, place_of
from ..web.nwb_files import opened_nwb
from ..web.remote import source_of, unsigned
from .named_files import require_nwb

__all__ = ["external_files_of", "own_and_linked", "resolve_external_files"]

_IN_MEMORY = "(in memory)"
# The groups of the file that have other names than the fields of `pynwb.NWBFile`.
_GROUPS = {
    "stimulus": "stimulus/presentation",
    "stimulus_template": "stimulus/templates",
    "lab_meta_data": "general",
}


def resolve_external_files(
    source: Any,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    *,
    opened_from: Any = None,
    problems: list[ExternalFilesError] | None = None,
) -> ExternalFiles:
    """List the external files of NWB files, and where each can be opened.

    Parameters
    ----------
    source : path, str, container, h5py.File, dandi.dandiapi.RemoteAsset, or iterable of these
        An NWB file by its path (or ``file://`` URL), or a folder, which is searched for NWB files; an NWB file, in
        HDF5 or a Zarr store, by an http, https, s3 or gs URL, or as an open `h5py.File`; an NWB file, a folder or a
        whole dandiset in a DANDI archive: as an asset, by its ``dandi://`` URL, by a URL of the archive's pages or
        of its API, or as ``DANDI:<dandiset>/<version>``; a pynwb container that holds paths (`ImageSeries` and its
        subtypes, `ExternalImage`, `PoseEstimation`) or has such containers below it (`NWBFile`, a processing
        module), its IO open.
    media_options : MediaOptions or mapping, optional
        Of which `search`, `path_map`, `within` and `media_fields` are used.
    opened_from : str, path or dandi.dandiapi.RemoteAsset, optional
        Where the NWB file is, if `source` cannot say or knows only a name for its bytes: file objects other than
        fsspec's, URLs of S3 or download URLs without a dandiset, from which an asset was opened. Only for a single
        NWB file. That of `media_options` if not given.
    problems : list of ExternalFilesError, optional
        Gets an error for each dataset of an NWB file on disk that should hold paths and does not, and for each link to
        an object of another NWB file that is not there.

    Returns
    -------
    ExternalFiles, a list of ResolvedExternalFile
        One for each entry, in the order of the file. Printed, and in a notebook, it is a table; `to_dataframe` makes it
        a `pandas.DataFrame`. A file that is not found has no location but a problem. For an
        NWB file on disk, entries of objects that it has only as links to other NWB files come last; their
        ``reference.nwb_path`` is the file that holds them.

    Raises
    ------
    UnreadableFileError
        If an NWB file cannot be opened, or the archive does not answer.
    MissingMediaError
        If the archive has no such NWB file.
    TypeError
        If `source` is none of these, or `opened_from` is given for several.

    Notes
    -----
    A relative path means a file beside the NWB file: on this machine; behind its URL, as RFC 3986 joins paths; or in
    the same version of the same dandiset.

    The assets of an embargoed dandiset are found with the API key of the client that gave the asset, or with the one
    that dandi uses (in ``DANDI_API_KEY``, or ``<INSTANCE>_API_KEY`` for other archives than DANDI). Their locations are
    signed URLs: whoever has one can open it, for about an hour.

    Examples
    --------
    >>> with NWBHDF5IO("sub-a.nwb", "r") as io:
    ...     for entry in resolve_external_files(io.read()):
    ...         print(entry.reference.object_path, entry.location or entry.problem)
    """
    options = MediaOptions.from_value(media_options)
    opened_from = options.opened_from if opened_from is None else opened_from
    dandisets = Dandisets(opened_from)
    sources = _single_sources(source, dandisets)
    if opened_from is not None and len(sources) != 1:
        raise TypeError(f"opened_from is the place of one NWB file; source has {len(sources)}, resolve them one by one")
    memory = Known()
    found = ExternalFiles(
        locate(reference, options, dandisets=dandisets, memory=memory)
        for one in sources
        for reference in _references_of(one, options, dandisets, opened_from, problems)
    )
    for warning in warn_of_unused(memory.unused_prefixes(options) if found else ()):
        warn(warning)
    return found


def external_files_of(
    path: Path, options: MediaOptions, *, memory: Known, problems: list[ExternalFilesError]
) -> list[ResolvedExternalFile]:
    """Those of one NWB file on this machine, as `resolve_external_files`; what is known in a call is in `memory`."""
    dandisets = Dandisets()
    references = _references_of(path, options, dandisets, None, problems)
    return [locate(reference, options, dandisets=dandisets, memory=memory) for reference in references]


def _single_sources(source: Any, dandisets: Dandisets) -> list[Any]:
    """The NWB files and containers that a source stands for: those in a folder, in a dandiset, or in an iterable."""
    is_path = isinstance(source, str | os.PathLike)
    if not is_path and not _is_single(source) and isinstance(source, Iterable):
        return [one for some in source for one in _single_sources(some, dandisets)]
    if is_asset(source) or isinstance(source, str):
        assets = dandisets.around(source)
        if assets is not None:
            return list(assets.nwb_files())
    if is_path and not (isinstance(source, str) and is_url(source)):
        path = Path(os.path.abspath(_local_path(os.fspath(source))))
        return list(find_nwb_files([path])) if path.is_dir() and zarr_marker(path) is None else [path]
    return [source.base_download_url if is_asset(source) else source]


def _is_single(value: Any) -> bool:
    return isinstance(value, h5py.File | bytes) or _is_container(value) or is_asset(value)


def _references_of(
    source: Any,
    options: MediaOptions,
    dandisets: Dandisets,
    opened_from: Any,
    problems: list[ExternalFilesError] | None,
) -> list[ExternalFileReference]:
    own = _place_of(source)
    place = own if opened_from is None else _place_named(opened_from)
    assets = dandisets.around(place)
    place = place if assets is None else assets.nwb_url
    references = [
        _held_by(place, reference) if place != own and reference.nwb_path == own else reference
        for reference in _references(source, media_fields(options.media_fields), problems)
    ]
    ask_ahead(references, dandisets)
    return references


def _local_path(path_or_url: str) -> str:
    """The path itself, or the one that a ``file://`` URL names."""
    try:
        path = without_file_scheme(path_or_url)
    except ValueError as error:
        raise UnreadableFileError(f"{path_or_url!r} {error}", nwb_path=path_or_url) from error
    if path != path_or_url and path.startswith("\\\\") and os.name != "nt":
        host = path[2:].partition("\\")[0]
        raise UnreadableFileError(
            f"{path_or_url!r} names a file on another machine, {host!r}; expected file:///path", nwb_path=path_or_url
        )
    return path


def _place_of(source: Any) -> str:
    """Where an NWB file is, as far as the source itself says."""
    if isinstance(source, DandisetAssets):
        return source.nwb_url
    if isinstance(source, h5py.File):
        return source_of(str(source.filename))
    if _is_container(source):
        return source_of(source.container_source) if source.container_source else _IN_MEMORY
    return unsigned(str(source))


def _place_named(opened_from: Any) -> str:
    if isinstance(opened_from, str) and not is_url(opened_from) and address_of(opened_from) is None:
        return place_of(_local_path(opened_from))
    return place_of(opened_from)


def _is_container(value: Any) -> bool:
    return hasattr(value, "children") and hasattr(value, "container_source")


def _held_by(nwb_path: str, reference: ExternalFileReference) -> ExternalFileReference:
    """The reference, as one of an NWB file at another place."""
    return replace(reference, nwb_path=nwb_path, base=None if nwb_path == _IN_MEMORY else base_of(nwb_path))


def _references(
    source: Any, table: Sequence[MediaField], problems: list[ExternalFilesError] | None
) -> Iterator[ExternalFileReference]:
    if isinstance(source, h5py.File):
        yield from _in_open_file(source, table, source_of(str(source.filename)))
    elif _is_container(source):
        yield from _in_containers(source, table)
    elif isinstance(source, DandisetAssets):
        with opened_nwb(source.content_url, source.nwb_url) as file:
            yield from _in_open_file(file, table, source.nwb_url)
    elif isinstance(source, Path):
        own, linked = _own_and_linked(source, table, problems)
        if problems is not None:
            problems.extend(_dangling(source, behind) for behind in linked if behind.problem is not None)
        yield from own
        yield from {(entry.nwb_path, entry.entry): entry for behind in linked for entry in behind.references}.values()
    elif isinstance(source, str):
        with opened_nwb(source, source) as file:
            yield from _in_open_file(file, table, unsigned(source))
    else:
        raise TypeError(
            f"external files are resolved for a container, a path or URL of an NWB file, a folder, an h5py.File or a "
            f"dandi asset, not for {source!r}"
        )


# ---------------------------------------------------------------- NWB files on disk


def own_and_linked(
    file: Any, path: Path, table: Sequence[MediaField], problems: list[ExternalFilesError] | None
) -> tuple[list[ExternalFileReference], list[LinkedMedia]]:
    """The references that an open NWB file on disk has itself, and those behind its links to other NWB files."""
    links = list[ExternalLink]()
    references = find_in_file(file, table, problems, links)
    return references, find_behind_links(path, links, table) if links else []


def _own_and_linked(
    path: Path, table: Sequence[MediaField], problems: list[ExternalFilesError] | None
) -> tuple[list[ExternalFileReference], list[LinkedMedia]]:
    with open_nwb(path) as file:
        require_nwb(file, path)
        return own_and_linked(file, path, table, problems)


def _dangling(path: Path, behind: LinkedMedia) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path}: {behind.link.path!r} is a link to {behind.link.object_path!r} of another NWB file, which is not "
        f"found: {behind.problem}; put that file back to where the link points",
        nwb_path=str(path),
        object_path=behind.link.path,
    )


# --------------------------------------------------- NWB files that are open


def _in_open_file(file: Any, table: Sequence[MediaField], nwb_path: str) -> Iterator[ExternalFileReference]:
    own = os.path.dirname(os.path.abspath(path_of(file)))
    for reference in find_in_file(file, table):
        # paths behind an external link are held by another file
        yield _held_by(nwb_path, reference) if reference.base == own else replace(reference, nwb_path=nwb_path)


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
    object_path = _object_path(container)
    try:
        read = read_paths(value)
        file = str(value.file.filename) if isinstance(value, h5py.Dataset) else None
    except (ValueError, RuntimeError) as error:
        raise UnreadableFileError(
            f"{container.container_source}: {object_path!r} cannot be read any more: {error}; resolve external files "
            f"while the IO is open",
            nwb_path=container.container_source,
            object_path=object_path,
        ) from error
    held_by = source_of(file or container.container_source) if file or container.container_source else _IN_MEMORY
    for index, path in enumerate(read[0] if read else ()):
        nwb_path, stored = held_by, path
        if isinstance(path, StoredPath):
            nwb_path = source_of(path.nwb_path) if path.nwb_path else _IN_MEMORY
            stored = path.stored
        reference = ExternalFileReference(
            nwb_path=nwb_path,
            object_path=object_path,
            neurodata_type=str(container.neurodata_type),
            object_id=container.object_id,
            field=field.label,
            index=index,
            stored_path=stored,
            base=None,
            repeats=field.repeats,
        )
        yield _held_by(nwb_path, reference)


def _object_path(container: Any) -> str:
    """The path of the container in its file; if it was not read from one, the names of the containers that it is in."""
    line = [container]
    while line[-1].parent is not None:
        line.append(line[-1].parent)
    root = line[-1]
    io = getattr(root, "read_io", None)
    builder = io.manager.get_builder(container) if io is not None else None
    if builder is not None:
        return "/" + str(builder.path).partition("/")[2]
    if len(line) == 1:
        return f"/{container.name}"
    top = line[-2]
    fields = (name for name, held in root.fields.items() if isinstance(held, Mapping) and held.get(top.name) is top)
    groups = [_GROUPS.get(field, field) for field in islice(fields, 1)]
    return "/" + "/".join([*groups, *(one.name for one in reversed(line[:-1]))])

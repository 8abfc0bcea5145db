"""Which media NWB files refer to, and which NWB files refer to a video."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..disk.contents import digest_of
from ..errors import ExternalFilesError, UnreadableFileError
from ..nwb.files import find_nwb_files, open_nwb
from ..nwb.linked import LinkedMedia, find_behind_links
from ..nwb.manifest import read_manifest
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..nwb.walk import ExternalLink
from ..options import MediaOptions
from ..plans.resolve import Resolution, media_file, resolve_all

if TYPE_CHECKING:
    from pynwb import NWBFile

__all__ = ["find_external_files", "find_own_and_linked", "find_referring_files"]


def find_external_files(
    path_or_nwbfile: str | os.PathLike[str] | NWBFile,
    *,
    media_options: MediaOptions | dict[str, Any] | None = None,
    problems: list[ExternalFilesError] | None = None,
) -> list[Resolution]:
    """List the media that an NWB file refers to.

    Parameters
    ----------
    path_or_nwbfile : path or pynwb.NWBFile
        A file on disk, which is read without pynwb, or a container, read from a file or made in memory.
    media_options : MediaOptions or mapping, optional
        Of which `media_fields`, `search`, `path_map` and `within` are used.
    problems : list of ExternalFilesError, optional
        Gets one for each place that should hold paths and does not, and for each link to an object of another NWB
        file that is not there.

    Returns
    -------
    list of Resolution
        One for each stored path: its ``reference`` tells the object, field, entry and path; its ``file`` the path and
        size of what it means; ``url`` and ``problem`` why there is no file. Behind those of a file on disk come those
        of objects that it has only as links to other NWB files: their ``reference.nwb_path`` is the file that holds
        them, and they are named as there.

    Raises
    ------
    UnreadableFileError
        If the file cannot be opened.
    TypeError
        If it is neither a path nor a container.
    """
    options = MediaOptions.from_value(media_options)
    if isinstance(path_or_nwbfile, str | os.PathLike):
        path = Path(os.path.abspath(path_or_nwbfile))
        own, linked = find_own_and_linked(path, options, problems)
        if problems is not None:
            problems.extend(_dangling(path, behind) for behind in linked if behind.problem is not None)
        references = {(entry.nwb_path, entry.entry): entry for behind in linked for entry in behind.references}
        return own + resolve_all(references.values(), options, destination=path.parent) if references else own
    if not hasattr(path_or_nwbfile, "read_io"):
        raise TypeError(f"find_external_files takes a path or a pynwb.NWBFile, not {path_or_nwbfile!r}")
    return _in_container(path_or_nwbfile, options)


def find_own_and_linked(
    path: Path, options: MediaOptions, problems: list[ExternalFilesError] | None = None
) -> tuple[list[Resolution], list[LinkedMedia]]:
    """The media that an NWB file on disk refers to itself, and what is behind its links to other NWB files."""
    table, links = media_fields(options.media_fields), list[ExternalLink]()
    with open_nwb(path) as file:
        references = find_in_file(file, table, problems, links)
    own = resolve_all(references, options, destination=path.parent)
    return own, find_behind_links(path, links, table) if links else []


def _dangling(path: Path, behind: LinkedMedia) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path}: {behind.link.path!r} is a link to {behind.link.object_path!r} of another NWB file, and leads "
        f"nowhere: {behind.problem}; bring that file back to where the link looks for it",
        nwb_path=str(path),
        object_path=behind.link.path,
    )


def _in_container(nwbfile: Any, options: MediaOptions) -> list[Resolution]:
    from pynwb import get_manager

    from ..io.arguments import RelocationRequest
    from ..io.mappers import register_media_mappers
    from ..io.plan_from_builders import Tree, find_paths

    manager = nwbfile.read_io.manager if nwbfile.read_io is not None else get_manager()
    if nwbfile.read_io is None:
        register_media_mappers(manager.type_map, media_options=options)
    source = nwbfile.container_source
    nwb_path = os.path.abspath(source) if source is not None else ""
    tree = Tree(manager.build(nwbfile, root=True), manager, nwb_path, container=nwbfile, source=nwbfile.read_io)
    folder = Path(nwb_path).parent if nwb_path else Path.cwd()
    found = find_paths(tree, RelocationRequest(options=options))
    return resolve_all((reference for entry in found for reference in entry.references), options, destination=folder)


def find_referring_files(
    media: Iterable[str | os.PathLike[str]],
    paths: Iterable[str | os.PathLike[str]],
    *,
    by_checksum: bool = False,
    media_options: MediaOptions | dict[str, Any] | None = None,
) -> Iterator[tuple[Path, Resolution]]:
    """Find the NWB files, and the objects in them, that refer to videos.

    Parameters
    ----------
    media : iterable of paths
        Videos, by any of their names: symbolic and hard links to a video are that video. Of a video that is not there,
        or whose name is all that is known, the references that lead nowhere and end in its name are found.
    paths : iterable of paths
        NWB files, and folders in which to look for such.
    by_checksum : bool
        Whether videos are known by their content, as the manifests of the NWB files tell it: also copies of a video
        that have other names are found, and no video but those that are given is read.
    media_options : MediaOptions or mapping, optional
        As in `find_external_files`.

    Yields
    ------
    (pathlib.Path, Resolution)
        The video as it was given, and what refers to it.

    Raises
    ------
    FileNotFoundError
        If a path is not there.
    UnreadableFileError
        If an NWB file cannot be opened.
    """
    if by_checksum:
        yield from _referring_by_checksum(media, paths, MediaOptions.from_value(media_options))
        return
    wanted: dict[tuple[int, int] | str, Path] = {}
    for video in map(Path, media):
        file = media_file(video)
        wanted.setdefault(video.name or str(video) if isinstance(file, str) else file.identity, video)
    options = MediaOptions.from_value(media_options)
    for path in find_nwb_files(paths):
        for found in find_own_and_linked(path, options)[0]:
            key = _name(found) if found.file is None else found.file.identity
            if key in wanted:
                yield wanted[key], found


def _referring_by_checksum(
    media: Iterable[str | os.PathLike[str]], paths: Iterable[str | os.PathLike[str]], options: MediaOptions
) -> Iterator[tuple[Path, Resolution]]:
    wanted = {digest_of(Path(video)): Path(video) for video in media}
    for path in find_nwb_files(paths):
        with open_nwb(path) as file:
            rows = {row.place: row.sha256 for row in read_manifest(file, path) or ()}
            rows = {place: sha256 for place, sha256 in rows.items() if sha256 in wanted}
            references = find_in_file(file, media_fields(options.media_fields)) if rows else []
        references = [reference for reference in references if reference.entry in rows]
        for found in resolve_all(references, options, destination=path.parent):
            yield wanted[rows[found.reference.entry]], found


def _name(found: Resolution) -> str | None:
    """What a file that is missing is called, in whatever spelling; nothing for a URL."""
    return None if found.url else PureWindowsPath(found.reference.stored_path).name

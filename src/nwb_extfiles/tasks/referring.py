"""Which NWB files refer to a video."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from ..disk.contents import digest_of
from ..nwb.files import find_nwb_files, open_nwb
from ..nwb.manifest import read_manifest
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..options import MediaOptions
from ..plans.locate import ResolvedExternalFile, located
from ..plans.media_files import media_file
from ..plans.places import Known
from ..plans.resolve import Resolution, resolve_all
from .named_files import require_nwb

__all__ = ["WantedMedia", "find_referring_files", "has_manifest"]


def find_referring_files(
    media: Iterable[str | os.PathLike[str]],
    paths: Iterable[str | os.PathLike[str]],
    *,
    by_checksum: bool = False,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
) -> Iterator[tuple[Path, ResolvedExternalFile]]:
    """Find the NWB files, and the objects in them, that refer to videos.

    Parameters
    ----------
    media : iterable of paths
        Videos, by any of their names: symbolic and hard links to a video are that video. A video that is missing is
        searched for by its name: missing files of that name are found.
    paths : iterable of paths
        NWB files, and folders in which NWB files are searched for.
    by_checksum : bool
        Whether videos are compared by their content, with the manifests of the NWB files: copies of a video under other
        names are found too. Only the given videos are read. NWB files without a manifest are passed over.
    media_options : MediaOptions or mapping, optional
        As in `resolve_external_files`.

    Yields
    ------
    (pathlib.Path, ResolvedExternalFile)
        The video as it was given, and an entry that refers to it.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    UnreadableFileError
        If an NWB file cannot be opened.
    """
    wanted = WantedMedia(media, MediaOptions.from_value(media_options), by_checksum=by_checksum)
    for path in find_nwb_files(paths):
        yield from wanted.in_file(path)


class WantedMedia:
    """Videos that NWB files may refer to; parameters as in `find_referring_files`."""

    def __init__(
        self, media: Iterable[str | os.PathLike[str]], options: MediaOptions, *, by_checksum: bool = False
    ) -> None:
        self._options, self._by_checksum, self._memory = options, by_checksum, Known()
        key = digest_of if by_checksum else _key
        self._media: dict[object, Path] = {}
        for video in map(Path, media):
            self._media.setdefault(key(video), video)

    def in_file(self, path: Path) -> Iterator[tuple[Path, ResolvedExternalFile]]:
        """The videos that an NWB file refers to, as `find_referring_files` gives them. Raises as that."""
        with open_nwb(path) as file:
            require_nwb(file, path)
            rows = read_manifest(file, path) or () if self._by_checksum else ()
            digests = {row.place: row.sha256 for row in rows if row.sha256 in self._media}
            needless = self._by_checksum and not digests
            references = [] if needless else find_in_file(file, media_fields(self._options.media_fields))
        if self._by_checksum:
            references = [reference for reference in references if reference.entry in digests]
        for found in resolve_all(references, self._options, destination=path.parent, memory=self._memory):
            key = digests[found.reference.entry] if self._by_checksum else _key_of(found)
            if key in self._media:
                yield self._media[key], located(found)


def has_manifest(path: Path) -> bool:
    """Whether an NWB file has a manifest, so that it can be searched for checksums.

    Raises
    ------
    UnreadableFileError
        If it cannot be opened.
    """
    with open_nwb(path) as file:
        return read_manifest(file, path) is not None


def _key(video: Path) -> object:
    """What a video is known by: the file that it is, or, if there is none, its name."""
    file = media_file(video)
    return video.name or str(video) if isinstance(file, str) else file.identity


def _key_of(found: Resolution) -> object:
    """The same for what a stored path means, with slashes of any platform; None for a URL."""
    if found.file is not None:
        return found.file.identity
    return None if found.url else PureWindowsPath(found.reference.stored_path).name

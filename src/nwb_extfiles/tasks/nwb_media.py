"""What one NWB file says of its media, read while it is open once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExternalFilesError
from ..nwb.files import open_nwb
from ..nwb.linked import LinkedMedia
from ..nwb.manifest import ManifestRow, read_manifest
from ..nwb.path_datasets import attribute_string, is_stored, item_at
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.series import SeriesFacts, read_series
from ..options import MediaOptions
from ..plans.places import Known
from ..plans.resolve import Resolution, resolve_all
from .external_files import own_and_linked
from .named_files import require_nwb

__all__ = ["NWBMedia", "opened_media", "read_media"]

_Series = Mapping[tuple[str, str], SeriesFacts | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NWBMedia:
    """The media of one NWB file, and what the file says of them."""

    path: Path
    found: Sequence[Resolution]
    """Its own references, each with the file that it means."""
    linked: Sequence[LinkedMedia]
    """Those behind its links to other NWB files."""
    problems: Sequence[ExternalFilesError]
    """Of fields that hold something else than strings."""
    series: _Series
    """By object path and field; None for objects that are not an ImageSeries. Empty if it was not asked for."""
    images: Mapping[str, str | None]
    """The format that each image states, by object path. Empty if it was not asked for."""
    manifest: Sequence[ManifestRow] | None
    """None if it has none, if that cannot be read, or if it was not asked for."""
    manifest_problem: ExternalFilesError | None
    """Why its manifest cannot be read."""


@contextmanager
def opened_media(
    path: Path,
    options: MediaOptions,
    *,
    with_series: bool = True,
    with_manifest: bool = True,
    known: Known | None = None,
) -> Iterator[tuple[Any, NWBMedia]]:
    """Open an NWB file, and read what it says of its media.

    Parameters
    ----------
    path : pathlib.Path
        Absolute.
    options : MediaOptions
        Of which `media_fields` is used.
    with_series, with_manifest : bool
        Whether what series say of their frames is read, and the manifest.
    known : Known, optional
        What is known of folders, if several NWB files are read in a row.

    Yields
    ------
    (h5py.File or zarr.Group, NWBMedia)
        The open file too, for what else is to be read.

    Raises
    ------
    UnreadableFileError
        If it cannot be opened, or is not an NWB file.
    """
    problems: list[ExternalFilesError] = []
    table = media_fields(options.media_fields)
    with open_nwb(path) as file:
        require_nwb(file, path)
        references, linked = own_and_linked(file, path, table, problems)
        series, images = _read_objects(file, references if with_series else ())
        manifest, manifest_problem = _read_manifest(file, path) if with_manifest else (None, None)
        yield (
            file,
            NWBMedia(
                path=path,
                found=resolve_all(
                    references,
                    MediaOptions(media_fields=options.media_fields),
                    destination=path.parent,
                    memory=known,
                ),
                linked=linked,
                problems=problems,
                series=series,
                images=images,
                manifest=manifest,
                manifest_problem=manifest_problem,
            ),
        )


def read_media(
    path: Path, options: MediaOptions, *, with_series: bool, with_manifest: bool, known: Known | None = None
) -> NWBMedia:
    """The same, and the file is closed again."""
    with opened_media(path, options, with_series=with_series, with_manifest=with_manifest, known=known) as (_, media):
        return media


def _read_objects(file: Any, references: Iterable[ExternalFileReference]) -> tuple[_Series, dict[str, str | None]]:
    """What series say, by object path and field; and the format that images say, by object path."""
    series: dict[tuple[str, str], SeriesFacts | None] = {}
    images: dict[str, str | None] = {}
    for reference in references:
        place = reference.object_path, reference.field
        if place in series or reference.object_path in images:
            continue
        item = item_at(file, reference.object_path)
        if is_stored(item):
            images[reference.object_path] = attribute_string(item.attrs.get("image_format"))
        else:
            series[place] = read_series(file, reference.object_path) if place[1] == "external_file" else None
    return series, images


def _read_manifest(file: Any, path: Path) -> tuple[list[ManifestRow] | None, ExternalFilesError | None]:
    try:
        return read_manifest(file, path), None
    except ExternalFilesError as error:
        return None, error

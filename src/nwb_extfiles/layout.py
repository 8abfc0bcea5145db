"""How NWB files are called in a dandiset.

The names are made by `dandi.organize` itself. What it makes them from is read without pynwb where that gives the same,
and by dandi's own reader where it may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py

from .errors import RelocationRefusedError
from .storage import as_text, read_texts

__all__ = ["dandi_paths", "external_links", "layout_metadata", "missing_metadata"]

_TEXTS = {
    "subject_id": "general/subject/subject_id",
    "session_id": "general/session_id",
    "session_start_time": "session_start_time",
}
# Of an extension whose fields dandi adds to those of the file.
_ICEPHYS = "general/DandiIcephysMetadata"


def layout_metadata(file: h5py.File, path: Path) -> dict[str, Any]:
    """What an NWB file is named from in a dandiset.

    Parameters
    ----------
    file : h5py.File
        The file, open.
    path : pathlib.Path
        Where it is.

    Returns
    -------
    dict
        With the keys that `dandi.organize.create_unique_filenames_from_metadata` looks at.
    """
    if _needs_pynwb(file):
        return _as_dandi_reads(path)
    found: dict[str, Any] = {"path": str(path), "nwb_version": as_text(file.attrs["nwb_version"])}
    for key, place in _TEXTS.items():
        dataset = file.get(place)
        read = read_texts(dataset) if isinstance(dataset, h5py.Dataset) else None
        found[key] = read[0][0] if read and read[0] else None
    found["nd_types"] = sorted(_types_of_groups(file))
    return found


def _needs_pynwb(file: h5py.File) -> bool:
    version = as_text(file.attrs.get("nwb_version"))
    if version is None or version.removeprefix("NWB-").startswith("1."):
        return True
    if _ICEPHYS in file:
        return True
    devices = file.get("general/devices")
    return isinstance(devices, h5py.Group) and any(
        "probe_id" in device.attrs or (isinstance(device, h5py.Group) and "probe_id" in device)
        for device in devices.values()
    )


def _as_dandi_reads(path: Path) -> dict[str, Any]:
    from dandi.metadata.nwb import get_metadata
    from dandi.organize import dandi_layout_fields

    found = get_metadata(path) or {}
    wanted = {*dandi_layout_fields, *_TEXTS, "nwb_version", "nd_types"}
    return {"path": str(path), **{key: value for key, value in found.items() if key in wanted}}


def _types_of_groups(file: h5py.File) -> set[str]:
    types: set[str] = set()

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group):
            neurodata_type = as_text(item.attrs.get("neurodata_type"))
            if neurodata_type is not None:
                types.add(neurodata_type)

    file.visititems(visit)
    return types


def external_links(file: h5py.File) -> Iterator[str]:
    """Find links to other files, as ``place -> file``; such a file cannot be uploaded, nor moved as bytes."""
    stack = ["/"]
    while stack:
        place = stack.pop()
        group = file[place]
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"{place.rstrip('/')}/{name} -> {link.filename}"
            elif isinstance(link, h5py.HardLink) and group.get(name, getclass=True) is h5py.Group:
                stack.append(f"{place.rstrip('/')}/{name}")


def missing_metadata(metadata: dict[str, Any]) -> str | None:
    """What dandi would need to name a file, and is not in it; None if all is there."""
    if not metadata.get("subject_id"):
        return "it has no subject_id (NWBFile.subject)"
    return None


def dandi_paths(metadata: Sequence[dict[str, Any]], required_fields: Iterable[str] = ()) -> list[str]:
    """Name NWB files as ``dandi organize`` does.

    Parameters
    ----------
    metadata : sequence of dict
        Of all files that are organized together: a name has as much in it as it takes to tell them apart.
    required_fields : iterable of str
        Fields to have in a name wherever a file has them, as ``--required-field`` of ``dandi organize``.

    Returns
    -------
    list of str
        Paths relative to the dandiset, with forward slashes, in the same order.

    Raises
    ------
    RelocationRefusedError
        If dandi finds no names that differ.
    """
    from dandi.exceptions import OrganizeImpossibleError
    from dandi.organize import create_unique_filenames_from_metadata

    try:
        named = create_unique_filenames_from_metadata(list(metadata), required_fields=list(required_fields) or None)
    except OrganizeImpossibleError as error:
        raise RelocationRefusedError(f"dandi cannot name these NWB files apart: {error}") from error
    return [entry["dandi_path"] for entry in named]

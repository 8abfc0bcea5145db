"""How NWB files are called in a dandiset.

The names are made by `dandi.organize` itself. What it makes them from is read without pynwb where that gives the same,
and by dandi's own reader where it may not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import h5py
from h5py import h5a, h5o, h5t

from ..errors import RelocationRefusedError
from ..nwb.path_datasets import as_string, is_stored, is_utf8, path_of, paths_at, read_paths
from ..nwb.type_tree import typed_links_in_file
from ..nwb.walk import read_attribute
from ..private_names import dandi_naming
from . import modalities

__all__ = ["MODALITIES", "LinkToOtherFile", "dandi_paths", "external_links", "layout_metadata", "missing_metadata"]

_STRINGS = {
    "subject_id": "general/subject/subject_id",
    "session_id": "general/session_id",
    "session_start_time": "session_start_time",
}
# Of an extension whose fields dandi adds to those of the file.
_ICEPHYS = "general/DandiIcephysMetadata"

MODALITIES = "nwb-extfiles modalities"
"""Key in the metadata of a file: what its own schema says of its neurodata types; not there where it caches none."""


class _NotPlain(Enum):
    NOT_PLAIN = "something else than one text"


_NOT_PLAIN = _NotPlain.NOT_PLAIN


def layout_metadata(file: Any, path: Path) -> dict[str, Any]:
    """What an NWB file is named from in a dandiset.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        The file, open.
    path : pathlib.Path
        Where it is.

    Returns
    -------
    dict
        With the keys that `dandi.organize.create_unique_filenames_from_metadata` looks at.
    """
    found: dict[str, Any] = {"path": str(path), "nwb_version": as_string(file.attrs.get("nwb_version"))}
    for key, place in _STRINGS.items():
        found[key] = _plain_string(file, place)
    types = _types_of_groups(file)
    if _is_plain(file, found, types):
        # As pynwb gives it; of a text dandi would ask for more than pynwb does.
        start = datetime.fromisoformat(found["session_start_time"])
        found |= {"session_start_time": start, "nd_types": sorted(filter(None, types))}
    elif not isinstance(file, h5py.File):
        raise ValueError("in a Zarr store dandi reads nothing, and its metadata are not plain texts")
    else:
        found = _as_dandi_reads(path)
    by_type = modalities.modality_by_type(file)
    return found | ({MODALITIES: modalities.modalities_of(found.get("nd_types", ()), by_type)} if by_type else {})


def _plain_string(file: Any, place: str) -> str | _NotPlain | None:
    """One text of a file; None if nothing is there."""
    read = paths_at(file, place) if isinstance(file, h5py.File) else None
    if read is None:
        if place not in file:
            return None
        dataset = file[place]
        read = read_paths(dataset) if is_stored(dataset) else None
    # hdmf-zarr stores a scalar as an array with one element
    one = () if isinstance(file, h5py.File) else (1,)
    if read is None or read[1] not in ((), one) or not is_utf8(read[0][0]):  # no asset can be called so
        return _NOT_PLAIN
    return read[0][0]


def _is_plain(file: Any, found: dict[str, Any], types: set[str | None]) -> bool:
    """Whether dandi's reader, which reads with pynwb, finds the same; what it chokes on, it shall refuse itself."""
    version = found["nwb_version"]
    if version is None or version.removeprefix("NWB-").startswith("1."):
        return False
    if _NOT_PLAIN in found.values() or not all(isinstance(name, str) and name.split() for name in types):
        return False
    try:
        datetime.fromisoformat(found["session_start_time"])
    except (TypeError, ValueError):  # it is missing, or in words
        return False
    if _ICEPHYS in file:
        return False
    devices = file.get("general/devices")
    if devices is None or is_stored(devices):
        return True
    return not any(
        "probe_id" in device.attrs or (not is_stored(device) and "probe_id" in device) for device in devices.values()
    )


def _as_dandi_reads(path: Path) -> dict[str, Any]:
    from dandi.metadata.nwb import get_metadata
    from dandi.organize import dandi_layout_fields

    found = get_metadata(path) or {}
    wanted = {*dandi_layout_fields, *_STRINGS, "nwb_version", "nd_types"}
    return {"path": str(path), **{key: value for key, value in found.items() if key in wanted}}


def _types_of_groups(file: Any) -> set[str | None]:
    """The neurodata types of all groups but the root; None among them for one that is stored in an odd way."""
    return _types_in_file(file) if isinstance(file, h5py.File) else _types_in_store(file)


def _types_in_store(root: Any) -> set[str | None]:
    types: set[str | None] = set()

    def visit(_: str, item: Any) -> None:
        if not is_stored(item):
            neurodata_type = item.attrs.get("neurodata_type")
            if neurodata_type is not None:
                types.add(neurodata_type if isinstance(neurodata_type, str) else None)

    root.visititems(visit)
    return types


def _types_in_file(file: h5py.File) -> set[str | None]:
    """By HDF5's own calls, for h5py's objects take five times as long."""
    groups: list[bytes] = []

    def visit(name: bytes, info: h5o.ObjInfo) -> None:
        if info.type == h5o.TYPE_GROUP and info.num_attrs:
            groups.append(name)

    h5o.visit(file.id, visit, info=True)
    return {_plain_attribute(file, name) for name in groups if h5a.exists(file.id, b"neurodata_type", obj_name=name)}


def _plain_attribute(file: h5py.File, name: bytes) -> str | None:
    """The neurodata type of an object; None unless h5py would give a str for it, as it does to dandi."""
    kind = h5a.open(file.id, b"neurodata_type", obj_name=name).get_type()
    is_plain = isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()
    return read_attribute(file.id, name, b"neurodata_type") if is_plain else None


@dataclass(frozen=True, slots=True)
class LinkToOtherFile:
    """A link to another file; such a file cannot be uploaded, nor moved as bytes."""

    place: str
    """Where it is, from the root on."""
    filename: str
    is_typed: bool
    """Whether the schema has a link there, and no object of the file's own."""

    @property
    def name(self) -> str:
        """Its name in the object that has it."""
        return self.place.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.place} -> {self.filename}"


def external_links(file: Any) -> list[LinkToOtherFile]:
    """The links of an NWB file to others, in the order of their places."""
    found = _links_out_of_file(file) if isinstance(file, h5py.File) else _links_out_of_store(file)
    typed = typed_links_in_file(file) if found else frozenset()
    return [LinkToOtherFile(place, other, place.rpartition("/")[2] in typed) for place, other in found]


def _links_out_of_file(file: h5py.File) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def visit(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        if info.type == h5py.h5l.TYPE_EXTERNAL:
            found.append(("/" + name.decode("utf-8", "surrogateescape"), file.get(name, getlink=True).filename))

    file.id.links.visit(visit, info=True)  # it follows hard links alone, and each group once
    return found


def _links_out_of_store(root: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    store = os.path.abspath(path_of(root))

    def look(path: str, group: Any) -> None:
        links = group.attrs.get("zarr_link")
        for link in links if isinstance(links, list) else ():
            source, name = (str(link.get(key)) if isinstance(link, dict) else "?" for key in ("source", "name"))
            if os.path.normpath(os.path.join(store, source)) != store:
                found.append((f"/{path}/{name}".replace("//", "/"), source))

    look("", root)
    root.visititems(look)
    return found


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
    from dandi.consts import dandi_layout_fields
    from dandi.exceptions import OrganizeImpossibleError

    unknown = sorted(set(required_fields) - set(dandi_layout_fields))
    if unknown:
        raise RelocationRefusedError(
            f"{', '.join(map(repr, unknown))} cannot be required; names of DANDI are made from "
            f"{', '.join(dandi_layout_fields)}"
        )
    metadata = [dict(entry) for entry in metadata]
    names = [""] * len(metadata)
    try:
        parts, required = _apart(metadata, required_fields)
        by_steps = modalities.dandi_is_known() and all(MODALITIES in entry for entry in metadata)
        name_part = _named_by_its_steps if by_steps else _named_by_dandi
        for part in parts:
            for number, name in zip(part, name_part([metadata[number] for number in part], required), strict=True):
                names[number] = name
    except OrganizeImpossibleError as error:
        raise RelocationRefusedError(f"dandi cannot name these NWB files apart: {error}") from error
    return names


def _named_by_dandi(metadata: list[dict[str, Any]], required: list[str]) -> list[str]:
    from dandi.organize import create_unique_filenames_from_metadata

    return [entry["dandi_path"] for entry in create_unique_filenames_from_metadata(metadata, required or None)]


def _named_by_its_steps(metadata: list[dict[str, Any]], required: list[str]) -> list[str]:
    """Do what dandi's function does, with the modalities of the files' own schemas, where that imports pynwb.

    Files that this does not tell apart are left to the function. Sessions without an id have got one (`_apart`).
    """
    dandi, rows = dandi_naming(), []
    for entry in metadata:
        found = tuple(sorted({*entry[MODALITIES], *entry.get("modalities", ())}))
        ids = {key: dandi.sanitize(entry[key], key) for key in ("subject_id", "session_id") if entry.get(key)}
        extension = os.path.splitext(entry["path"])[1]
        own = {"modalities": found, "extension": extension, "_required_if_not_empty": list(required)}
        rows.append(entry | ids | own)
    dandi.assign_names(rows)
    return _named_by_dandi(metadata, required) if dandi.not_unique(rows) else [row["dandi_path"] for row in rows]


def _apart(metadata: list[dict[str, Any]], required_fields: Iterable[str]) -> tuple[list[list[int]], list[str]]:
    """Split files into parts that can be named one by one, and give the fields to require so that this gives the same.

    dandi's function takes a time that grows with the square of the number of files that need more to be told apart.
    Files of different subjects or sessions never do, so each session is named on its own; all that are alone in theirs,
    together. What looks at all files at once is done here: which fields differ, and from what time sessions get ids.
    """
    from dandi.consts import dandi_layout_fields

    dandi = dandi_naming()
    if not all(entry.get("session_id") for entry in metadata):
        dandi.name_sessions_by_time(metadata)
    rows = [
        {key: dandi.sanitize(entry[key], key) if key == "session_id" and entry.get(key) else entry.get(key)
         for key in dandi_layout_fields}
        for entry in metadata
    ]  # fmt: skip
    values = dandi.values_of(rows, dandi_layout_fields)
    required = dict.fromkeys(required_fields)
    for field, settings in dandi_layout_fields.items():
        if settings.get("type", "additional") == "additional" and len(values[field]) > 1:
            required[field] = None
    sessions: dict[tuple[Any, Any], list[int]] = {}
    for number, row in enumerate(rows):
        key = dandi.sanitize(metadata[number]["subject_id"], "subject_id"), row["session_id"]
        sessions.setdefault(key, []).append(number)
    alone = [number for part in sessions.values() if len(part) == 1 for number in part]
    parts = [part for part in sessions.values() if len(part) > 1]
    return ([alone] if alone else []) + parts, list(required)

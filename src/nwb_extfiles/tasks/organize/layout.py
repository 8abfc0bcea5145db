"""Names of NWB files in a dandiset.

`dandi.organize` itself makes the names. The metadata that it makes them of are read without pynwb if that gives the
same, and else by dandi's own reader.
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

from ...errors import RelocationRefusedError
from ...nwb.path_datasets import as_string, is_stored, is_utf8, path_of, paths_at, read_paths
from ...nwb.type_tree import typed_links_in_file
from ...nwb.walk import read_attribute
from ...private_names import dandi_naming
from . import modalities

__all__ = [
    "BY_DANDI",
    "MODALITIES",
    "LinkToOtherFile",
    "dandi_paths",
    "external_links",
    "layout_metadata",
    "missing_metadata",
]

_STRINGS = {
    "subject_id": "general/subject/subject_id",
    "session_id": "general/session_id",
    "session_start_time": "session_start_time",
}
# Of an extension whose fields dandi adds to those of the file.
_ICEPHYS = "general/DandiIcephysMetadata"

BY_DANDI = "nwb-extfiles by dandi"
"""Key in the metadata of a file that dandi's reader has read, which asks more than the file."""
MODALITIES = "nwb-extfiles modalities"
"""Key in the metadata of a file: the modalities of its neurodata types, by the schema that it caches, if it does."""


class _NotPlain(Enum):
    NOT_PLAIN = "something else than one string"


_NOT_PLAIN = _NotPlain.NOT_PLAIN


def layout_metadata(file: Any, path: Path) -> dict[str, Any]:
    """Read the metadata that the name of an NWB file in a dandiset is made of.

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
        # As pynwb gives it: dandi parses strings, and is stricter than pynwb.
        start = datetime.fromisoformat(found["session_start_time"])
        found |= {"session_start_time": start, "nd_types": sorted(filter(None, types))}
    elif not isinstance(file, h5py.File):
        raise ValueError("dandi does not read Zarr stores, and the metadata of this one are not plain strings")
    else:
        found = _as_dandi_reads(path)
    recorded = found.get("nd_types") or ()
    by_type = modalities.known_modalities(file, recorded)
    return found | ({MODALITIES: modalities.modalities_of(recorded, by_type)} if by_type else {})


def _plain_string(file: Any, place: str) -> str | _NotPlain | None:
    """One string of a file; None if it does not exist."""
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
    """Whether dandi's reader, which uses pynwb, reads the same; if it would fail, it has to say so itself."""
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
    return {"path": str(path), BY_DANDI: True, **{key: value for key, value in found.items() if key in wanted}}


def _types_of_groups(file: Any) -> set[str | None]:
    """The neurodata types of all groups but the root; None stands for one that is not a plain string."""
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
    """With h5py's low-level API, which is five times as fast."""
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
    """A link to another file; a file with such a link cannot be uploaded, nor moved byte by byte."""

    place: str
    """Its path in the file."""
    filename: str
    is_typed: bool
    """Whether the schema wants a link there, not an object of the file's own."""

    @property
    def name(self) -> str:
        """Its name in the object that has it."""
        return self.place.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.place} -> {self.filename}"


def external_links(file: Any) -> list[LinkToOtherFile]:
    """The links of an NWB file to other files, in the order of their paths."""
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
    """What a file lacks that dandi needs to name it; None if it lacks nothing."""
    if not metadata.get("subject_id"):
        return "it has no subject_id (NWBFile.subject)"
    return None


def dandi_paths(metadata: Sequence[dict[str, Any]], required_fields: Iterable[str] = ()) -> list[str]:
    """Name NWB files as ``dandi organize`` does.

    Parameters
    ----------
    metadata : sequence of dict
        Of all files that are organized together: a name has as many fields as it takes to make them all different.
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

    unknown = sorted(set(required_fields) - set(dandi_layout_fields))
    if unknown:
        raise RelocationRefusedError(
            f"{', '.join(map(repr, unknown))} cannot be required",
            hint=f"use fields of DANDI's names: {', '.join(dandi_layout_fields)}",
        )
    metadata = [dict(entry) for entry in metadata]
    names = [""] * len(metadata)
    parts, required = _split_by_session(metadata, required_fields)
    are_known = all(MODALITIES in entry for entry in metadata)
    name_part = _named_by_its_steps if are_known else _named_by_dandi
    for part in parts:
        for number, name in zip(part, name_part([metadata[number] for number in part], required), strict=True):
            names[number] = name
    return names


def _named_by_dandi(metadata: list[dict[str, Any]], required: list[str]) -> list[str]:
    from dandi.exceptions import OrganizeImpossibleError
    from dandi.organize import create_unique_filenames_from_metadata

    try:
        named = create_unique_filenames_from_metadata(metadata, required or None)
    except OrganizeImpossibleError as error:
        raise RelocationRefusedError(f"dandi finds no different names for these NWB files: {error}") from error
    return [entry["dandi_path"] for entry in named]


def _named_by_its_steps(metadata: list[dict[str, Any]], required: list[str]) -> list[str]:
    """Do what dandi's function does, with modalities from the files' own schemas, for which dandi imports pynwb.

    If the names of files are the same, dandi's function names them. Sessions without an id have one by now
    (`_split_by_session`).
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


def _split_by_session(
    metadata: list[dict[str, Any]], required_fields: Iterable[str]
) -> tuple[list[list[int]], list[str]]:
    """Split files into parts that are named one by one, and give the fields to require so that this gives the same.

    The time of dandi's function grows with the square of the number of files that need further fields. Files of
    different subjects or sessions need none, so each session is named on its own, and all sessions with one file
    together. What depends on all files is done here: which fields differ, and from what time sessions get ids.
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

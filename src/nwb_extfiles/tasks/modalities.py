"""Which modality, as in ``_ecephys+image`` of a name, DANDI reads out of a neurodata type.

``dandi organize`` asks pynwb: the modality is the module in which the class of the type is defined, and types that
pynwb has no class for, those of extensions among them, give none. Modules of pynwb are called like the sources of the
NWB schema (``nwb.ecephys``), which files cache. So the answer is in the file itself, whatever its version, and pynwb,
which takes longer to import than a hundred files to organize, need not be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..nwb.path_datasets import as_string
from ..nwb.type_tree import ancestors_in, sources_in_file

__all__ = ["DANDI_VERSIONS", "dandi_is_known", "modalities_of", "modality_by_type"]

DANDI_VERSIONS = ("0.81.0",)
"""Versions that were compared with what is here; others are asked themselves."""
_NO_MODALITY = frozenset(("base", "device", "file", "misc"))  # say nothing of what was recorded
# pynwb defines these in a module that is called otherwise than the source in the schema, or has no class for them.
_EXCEPTIONS = {
    "NWBContainer": "core",
    "NWBData": "core",
    "NWBDataInterface": "core",
    "ScratchData": "core",
    "ImagingRetinotopy": None,
}
# Their subtypes are classes of HDMF's kind in pynwb, at which dandi does not look.
_TABLES = frozenset(("DynamicTable", "VectorData", "ElementIdentifiers"))
_PREFIX = "nwb."


def dandi_is_known() -> bool:
    """Whether the installed dandi is a version that makes names as is known here."""
    try:
        return version("dandi") in DANDI_VERSIONS
    except PackageNotFoundError:  # it came in another way than by an installer
        return False


def modality_by_type(file: Any) -> dict[str, str]:
    """The module of pynwb that defines a type, for all types of the core schema that dandi looks at.

    Parameters
    ----------
    file : h5py.File or zarr.Group
        An NWB file, open for reading.

    Returns
    -------
    dict of str to str
        Empty if the file does not cache the core schema.
    """
    nwb_version = as_string(file.attrs.get("nwb_version"))
    sources = sources_in_file(file, "core", nwb_version)
    parents = {name: parent for defined in sources.values() for name, parent in defined.items()}
    found: dict[str, str] = {}
    for source, defined in sources.items():
        for name in defined if source.startswith(_PREFIX) else ():
            line = set(ancestors_in(parents, name))
            if line & _TABLES or not line & {"NWBContainer", "NWBData"}:
                continue
            module = _EXCEPTIONS.get(name, source.removeprefix(_PREFIX))
            if module is not None:
                found[name] = module
    return found


def modalities_of(types: Iterable[str] | str, by_type: Mapping[str, str]) -> tuple[str, ...]:
    """The modalities of the neurodata types in a file.

    Parameters
    ----------
    types : iterable of str, or str
        Neurodata types, with commas between them if it is one text; what stands behind a blank, such as how many there
        are, does not count.
    by_type : mapping
        As `modality_by_type` gives it.

    Returns
    -------
    tuple of str
        In alphabetical order, each once.
    """
    types = types.split(",") if isinstance(types, str) else types
    found = {by_type.get(name.split()[0]) for name in types}
    return tuple(sorted(modality for modality in found if modality is not None and modality not in _NO_MODALITY))

"""The modality of a neurodata type, as in ``_ecephys+image`` of a DANDI name.

For ``dandi organize`` the modality is the module of pynwb that defines the class of the type; types without a class
there, such as those of extensions, have none. These modules have the names of the sources of the NWB schema
(``nwb.ecephys``), which files cache. So each file itself says it, for any version, and pynwb, which takes longer to
import than a hundred files to organize, is not needed. For the types of the table below, the file is not asked: dandi
goes by pynwb, whatever the file caches. Tests compare both with the installed dandi and pynwb.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...nwb.path_datasets import as_string
from ...nwb.type_tree import ancestors_in, sources_in_file

__all__ = ["known_modalities", "modalities_of", "modality_by_type"]

_NO_MODALITY = frozenset(("base", "device", "file", "misc"))  # they do not say what was recorded
# The module in pynwb that defines these has another name than the source in the schema, or there is no class.
_EXCEPTIONS = {
    "NWBContainer": "core",
    "NWBData": "core",
    "NWBDataInterface": "core",
    "ScratchData": "core",
    "ImagingRetinotopy": None,
}
# In pynwb their subtypes are subclasses of HDMF's classes, which dandi does not count.
_TABLES = frozenset(("DynamicTable", "VectorData", "ElementIdentifiers"))
_PREFIX = "nwb."
_PUBLISHED = {
    name: module
    for module, names in {
        "behavior": "BehavioralEpochs BehavioralEvents BehavioralTimeSeries CompassDirection EyeTracking Position "
        "PupilTracking SpatialSeries",
        "ecephys": "ElectricalSeries ElectrodeGroup EventDetection EventWaveform FeatureExtraction FilteredEphys LFP "
        "SpikeEventSeries",
        "icephys": "CurrentClampSeries CurrentClampStimulusSeries IZeroClampSeries IntracellularElectrode "
        "PatchClampSeries VoltageClampSeries VoltageClampStimulusSeries",
        "image": "GrayscaleImage ImageMaskSeries ImageSeries IndexSeries OpticalSeries RGBAImage RGBImage",
        "misc": "AbstractFeatureSeries AnnotationSeries DecompositionSeries IntervalSeries",
        "ogen": "OptogeneticSeries OptogeneticStimulusSite",
        "ophys": "CorrectedImageStack DfOverF Fluorescence ImageSegmentation ImagingPlane MotionCorrection "
        "OnePhotonSeries OpticalChannel RoiResponseSeries TwoPhotonSeries",
        # and those of tables, which dandi does not count
        "base": "Device DynamicTable Images LabMetaData PlaneSegmentation ProcessingModule Subject TimeIntervals "
        "TimeSeries Units VectorData VectorIndex DynamicTableRegion ElementIdentifiers",
    }.items()
    for name in names.split()
}


def known_modalities(file: Any, types: Iterable[str] | str) -> Mapping[str, str]:
    """What is known of the modalities of some types of an NWB file, as `modality_by_type`, which is asked if needed."""
    return _PUBLISHED if all(name in _PUBLISHED for name in _names(types)) else modality_by_type(file)


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
        Neurodata types, separated by commas in one string; what follows a blank, such as their number, is ignored.
    by_type : mapping
        As `modality_by_type` gives it.

    Returns
    -------
    tuple of str
        In alphabetical order, each once.
    """
    found = {by_type.get(name) for name in _names(types)}
    return tuple(sorted(modality for modality in found if modality is not None and modality not in _NO_MODALITY))


def _names(types: Iterable[str] | str) -> list[str]:
    return [name.split()[0] for name in (types.split(",") if isinstance(types, str) else types)]

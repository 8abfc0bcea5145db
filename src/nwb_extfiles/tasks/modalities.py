"""Which modality, as in ``_ecephys+image`` of a name, DANDI reads out of a neurodata type.

``dandi organize`` asks pynwb: the modality is the module in which the class of the type is defined, and types that
pynwb has no class for (those of extensions among them) give none. The answers for the core schema stand here, because
importing pynwb for them takes longer than a hundred files do. They hold for the versions of dandi and pynwb that they
were compared with, which a test does with those that are installed; with others dandi is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

__all__ = ["IGNORED", "KNOWN_VERSIONS", "TYPES", "are_known", "modalities_of"]

KNOWN_VERSIONS = {"dandi": ("0.81.0",), "pynwb": ("4.2.0",)}
"""Versions that give these very names."""
IGNORED = frozenset(("base", "device", "file", "misc"))
"""Modules of pynwb that say nothing of what was recorded."""
TYPES = {
    "base": (
        "BaseImage", "ExternalImage", "Image", "ImageReferences", "Images", "ProcessingModule", "TimeSeries",
    ),
    "behavior": (
        "BehavioralEpochs", "BehavioralEvents", "BehavioralTimeSeries", "CompassDirection", "EyeTracking", "Position",
        "PupilTracking", "SpatialSeries",
    ),
    "core": (
        "MultiContainerInterface", "NWBContainer", "NWBData", "NWBDataInterface", "NWBMixin", "ScratchData",
    ),
    "device": ("Device", "DeviceModel"),
    "ecephys": (
        "ClusterWaveforms", "Clustering", "ElectricalSeries", "ElectrodeGroup", "EventDetection", "EventWaveform",
        "FeatureExtraction", "FilteredEphys", "LFP", "SpikeEventSeries",
    ),
    "file": ("LabMetaData", "NWBFile", "Subject"),
    "icephys": (
        "CurrentClampSeries", "CurrentClampStimulusSeries", "IZeroClampSeries", "IntracellularElectrode",
        "PatchClampSeries", "VoltageClampSeries", "VoltageClampStimulusSeries",
    ),
    "image": (
        "GrayscaleImage", "ImageMaskSeries", "ImageSeries", "IndexSeries", "OpticalSeries", "RGBAImage", "RGBImage",
    ),
    "misc": ("AbstractFeatureSeries", "AnnotationSeries", "DecompositionSeries", "IntervalSeries"),
    "ogen": ("OptogeneticSeries", "OptogeneticStimulusSite"),
    "ophys": (
        "CorrectedImageStack", "DfOverF", "Fluorescence", "ImageSegmentation", "ImagingPlane", "MotionCorrection",
        "OnePhotonSeries", "OpticalChannel", "RoiResponseSeries", "TwoPhotonSeries",
    ),
}  # fmt: skip
"""Neurodata types by the module of pynwb that defines them."""

_MODALITY_OF = {neurodata_type: module for module, types in TYPES.items() for neurodata_type in types}


def are_known() -> bool:
    """Whether the installed versions are among those that give the modalities of this table."""
    try:
        return all(version(package) in known for package, known in KNOWN_VERSIONS.items())
    except PackageNotFoundError:  # it came in another way than by an installer
        return False


def modalities_of(types: Iterable[str] | str, given: Iterable[str] = ()) -> tuple[str, ...]:
    """The modalities of the neurodata types in a file.

    Parameters
    ----------
    types : iterable of str, or str
        Neurodata types, with commas between them if it is one text; what stands behind a blank, such as how many there
        are, does not count.
    given : iterable of str
        Modalities that the file states itself.

    Returns
    -------
    tuple of str
        In alphabetical order, each once.
    """
    types = types.split(",") if isinstance(types, str) else types
    found = {_MODALITY_OF.get(neurodata_type.split()[0]) for neurodata_type in types}
    return tuple(sorted({modality for modality in found if modality and modality not in IGNORED}.union(given)))

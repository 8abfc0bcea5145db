"""NWB files that take their media along.

`NWBExtFilesHDF5IO` is `pynwb.NWBHDF5IO` with three more arguments: on write and export it brings the films and
pictures that the NWB file names to their place beside it, and lets the stored paths follow.
"""

from .backend import NWBExtFilesHDF5IO
from .errors import (
    AmbiguousMediaError,
    DestinationBusyError,
    ExternalFilesError,
    ExternalFilesWarning,
    MediaExistsError,
    MissingMediaError,
    PlanError,
    RelocationRefusedError,
    TransferError,
    UnsafeReferenceError,
)
from .mappers import register_media_mappers
from .naming import NamingConvention, dandi_name
from .options import MediaMode, MediaOptions
from .plan import Relocation, RelocationPlan
from .references import ExternalFileReference

__version__ = "0.1.0"

__all__ = [
    "AmbiguousMediaError",
    "DestinationBusyError",
    "ExternalFileReference",
    "ExternalFilesError",
    "ExternalFilesWarning",
    "MediaExistsError",
    "MediaMode",
    "MediaOptions",
    "MissingMediaError",
    "NWBExtFilesHDF5IO",
    "NamingConvention",
    "PlanError",
    "Relocation",
    "RelocationPlan",
    "RelocationRefusedError",
    "TransferError",
    "UnsafeReferenceError",
    "dandi_name",
    "register_media_mappers",
]

"""NWB files that take their media along.

`NWBExtFilesHDF5IO` is `pynwb.NWBHDF5IO` with three more arguments: on write and export it brings the films and
pictures that the NWB file names to their place beside it, and lets the stored paths follow.
"""

from typing import TYPE_CHECKING, Any

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
from .naming import NamingConvention, dandi_name
from .options import MediaMode, MediaOptions
from .plan import Relocation, RelocationPlan
from .references import ExternalFileReference

if TYPE_CHECKING:
    from .hdf5 import NWBExtFilesHDF5IO
    from .locate import ResolvedExternalFile
    from .mappers import register_media_mappers
    from .readers import resolve_external_files

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
    "ResolvedExternalFile",
    "TransferError",
    "UnsafeReferenceError",
    "dandi_name",
    "register_media_mappers",
    "resolve_external_files",
]

# pynwb takes most of a second to import; the command line does without where it can.
_LOADED_WHEN_USED = {
    "NWBExtFilesHDF5IO": "hdf5",
    "ResolvedExternalFile": "locate",
    "register_media_mappers": "mappers",
    "resolve_external_files": "readers",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LOADED_WHEN_USED[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

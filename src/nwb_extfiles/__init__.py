"""NWB files that take their media along.

`NWBExtFilesHDF5IO` is `pynwb.NWBHDF5IO` with three more arguments: on write and export it brings the films and
pictures that the NWB file names to their place beside it, and lets the stored paths follow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        UnreadableFileError,
        UnsafeReferenceError,
    )
    from .hdf5 import NWBExtFilesHDF5IO
    from .locate import ResolvedExternalFile
    from .mappers import register_media_mappers
    from .naming import NamingConvention, dandi_name
    from .options import MediaMode, MediaOptions
    from .plan import Relocation, RelocationPlan
    from .readers import resolve_external_files
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
    "ResolvedExternalFile",
    "TransferError",
    "UnreadableFileError",
    "UnsafeReferenceError",
    "dandi_name",
    "register_media_mappers",
    "resolve_external_files",
]

# Nothing is imported before it is used: pynwb takes most of a second, which the command line does without where it
# can, and pytest loads this package in every run on a machine.
_LOADED_WHEN_USED = {
    "AmbiguousMediaError": "errors",
    "DestinationBusyError": "errors",
    "ExternalFileReference": "references",
    "ExternalFilesError": "errors",
    "ExternalFilesWarning": "errors",
    "MediaExistsError": "errors",
    "MediaMode": "options",
    "MediaOptions": "options",
    "MissingMediaError": "errors",
    "NWBExtFilesHDF5IO": "hdf5",
    "NamingConvention": "naming",
    "PlanError": "errors",
    "Relocation": "plan",
    "RelocationPlan": "plan",
    "RelocationRefusedError": "errors",
    "ResolvedExternalFile": "locate",
    "TransferError": "errors",
    "UnreadableFileError": "errors",
    "UnsafeReferenceError": "errors",
    "dandi_name": "naming",
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

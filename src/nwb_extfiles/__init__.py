"""NWB files that take their media along.

`NWBExtFilesHDF5IO` is `pynwb.NWBHDF5IO` with three more arguments: on write and export it brings the films and
pictures that the NWB file names to their place beside it, and lets the stored paths follow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks import Finding, Severity, check
    from .dandiset import OrganizedFile, OrganizePlan
    from .discovery import find_external_files, find_referring_files
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
    from .inplace import relocate
    from .locate import ResolvedExternalFile
    from .mappers import register_media_mappers
    from .naming import NamingConvention, dandi_name
    from .options import MediaMode, MediaOptions
    from .organizing import organize
    from .plan import Relocation, RelocationPlan
    from .readers import resolve_external_files
    from .references import ExternalFileReference
    from .resolve import Resolution
    from .restoring import restore
    from .zarrio import NWBExtFilesZarrIO as NWBExtFilesZarrIO

__version__ = "0.1.0"

# NWBExtFilesZarrIO is left out: `import *` shall go without hdmf-zarr.
__all__ = [
    "AmbiguousMediaError",
    "DestinationBusyError",
    "ExternalFileReference",
    "ExternalFilesError",
    "ExternalFilesWarning",
    "Finding",
    "MediaExistsError",
    "MediaMode",
    "MediaOptions",
    "MissingMediaError",
    "NWBExtFilesHDF5IO",
    "NamingConvention",
    "OrganizePlan",
    "OrganizedFile",
    "PlanError",
    "Relocation",
    "RelocationPlan",
    "RelocationRefusedError",
    "Resolution",
    "ResolvedExternalFile",
    "Severity",
    "TransferError",
    "UnreadableFileError",
    "UnsafeReferenceError",
    "check",
    "dandi_name",
    "find_external_files",
    "find_referring_files",
    "organize",
    "register_media_mappers",
    "relocate",
    "resolve_external_files",
    "restore",
]

# Nothing is imported before it is used: pynwb takes most of a second, which the command line does without where it
# can, and pytest loads this package in every run on a machine.
_MODULE_OF = {
    "ExternalFileReference": "references",
    "Finding": "checks",
    "MediaMode": "options",
    "MediaOptions": "options",
    "NWBExtFilesHDF5IO": "hdf5",
    "NWBExtFilesZarrIO": "zarrio",
    "NamingConvention": "naming",
    "OrganizePlan": "dandiset",
    "OrganizedFile": "dandiset",
    "Relocation": "plan",
    "RelocationPlan": "plan",
    "Resolution": "resolve",
    "ResolvedExternalFile": "locate",
    "Severity": "checks",
    "check": "checks",
    "dandi_name": "naming",
    "find_external_files": "discovery",
    "find_referring_files": "discovery",
    "organize": "organizing",
    "register_media_mappers": "mappers",
    "relocate": "inplace",
    "resolve_external_files": "readers",
    "restore": "restoring",
}


def __getattr__(name: str) -> Any:
    # NWBExtFilesZarrIO is not among the names of `import *`: hdmf-zarr may be missing
    if name not in __all__ and name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = _MODULE_OF.get(name, "errors")
    try:
        value = getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        if module != "zarrio" or error.name not in ("hdmf_zarr", "zarr", "numcodecs"):
            raise
        raise ImportError(f"{name} needs hdmf-zarr: pip install 'nwb-extfiles[zarr]'") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

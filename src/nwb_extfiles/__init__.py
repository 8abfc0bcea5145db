"""NWB files that take their media along.

`NWBExtFilesHDF5IO` is `pynwb.NWBHDF5IO` with three more arguments: on write and export it brings the videos and
images that the NWB file names to their place beside it, and lets the stored paths follow.
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
    from .io.hdf5 import NWBExtFilesHDF5IO
    from .io.mappers import register_media_mappers
    from .io.zarrio import NWBExtFilesZarrIO as NWBExtFilesZarrIO
    from .naming import NamingConvention, dandi_name
    from .nwb.manifest import ManifestRow
    from .nwb.references import ExternalFileReference
    from .nwb.registry import MediaField
    from .options import MediaMode, MediaOptions
    from .plans.locate import LocationKind, ResolvedExternalFile
    from .plans.plan import Action, Relocation, RelocationPlan
    from .plans.resolve import MediaFile
    from .tasks.checks import Finding, Severity, check
    from .tasks.dandiset import OrganizedFile, OrganizePlan
    from .tasks.external_files import find_referring_files, resolve_external_files
    from .tasks.organizing import organize
    from .tasks.relocating import relocate
    from .tasks.restoring import restore
    from .web.remote import RemoteFile

__version__ = "0.1.0"

# NWBExtFilesZarrIO is left out: `import *` shall go without hdmf-zarr.
__all__ = [
    "Action",
    "AmbiguousMediaError",
    "DestinationBusyError",
    "ExternalFileReference",
    "ExternalFilesError",
    "ExternalFilesWarning",
    "Finding",
    "LocationKind",
    "ManifestRow",
    "MediaExistsError",
    "MediaField",
    "MediaFile",
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
    "RemoteFile",
    "ResolvedExternalFile",
    "Severity",
    "TransferError",
    "UnreadableFileError",
    "UnsafeReferenceError",
    "check",
    "dandi_name",
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
    "Action": "plans.plan",
    "ExternalFileReference": "nwb.references",
    "Finding": "tasks.checks",
    "LocationKind": "plans.locate",
    "ManifestRow": "nwb.manifest",
    "MediaField": "nwb.registry",
    "MediaFile": "plans.resolve",
    "MediaMode": "options",
    "MediaOptions": "options",
    "NWBExtFilesHDF5IO": "io.hdf5",
    "NWBExtFilesZarrIO": "io.zarrio",
    "NamingConvention": "naming",
    "OrganizePlan": "tasks.dandiset",
    "OrganizedFile": "tasks.dandiset",
    "Relocation": "plans.plan",
    "RelocationPlan": "plans.plan",
    "RemoteFile": "web.remote",
    "ResolvedExternalFile": "plans.locate",
    "Severity": "tasks.checks",
    "check": "tasks.checks",
    "dandi_name": "naming",
    "find_referring_files": "tasks.external_files",
    "organize": "tasks.organizing",
    "register_media_mappers": "io.mappers",
    "relocate": "tasks.relocating",
    "resolve_external_files": "tasks.external_files",
    "restore": "tasks.restoring",
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
        if module != "io.zarrio" or error.name not in ("hdmf_zarr", "zarr", "numcodecs"):
            raise
        raise ImportError(f'{name} needs hdmf-zarr: pip install "hdmf-zarr>=0.11"') from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Keep external videos and images with their NWB files.

`NWBExtFilesHDF5IO` is `pynwb.NWBHDF5IO` with three more arguments: on write and export it copies, links or moves the
videos and images of the NWB file into a folder beside it, and writes their new paths. What is not listed here is
imported from its module: the kinds of errors from `nwb_extfiles.errors`, parts of plans and findings from where they
are defined.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ExternalFilesError, ExternalFilesWarning
    from .io.hdf5 import NWBExtFilesHDF5IO
    from .io.mappers import register_media_mappers
    from .io.video_series import image_series_from_videos
    from .io.zarrio import NWBExtFilesZarrIO as NWBExtFilesZarrIO
    from .media.frames import FrameLocation, locate_frame
    from .naming import NamingConvention, dandi_name
    from .options import MediaMode, MediaOptions
    from .plans.locate import ResolvedExternalFile
    from .plans.plan import RelocationPlan
    from .tasks.check.checks import check
    from .tasks.check.findings import Finding
    from .tasks.external_files import resolve_external_files
    from .tasks.fetching import FetchedMedia, fetch_media
    from .tasks.organize.organizing import organize
    from .tasks.organize.plan import OrganizePlan
    from .tasks.referring import find_referring_files
    from .tasks.relocating import relocate
    from .tasks.report.reporting import report
    from .tasks.restoring import restore

__version__ = "0.1.0"

# NWBExtFilesZarrIO is left out: `import *` must work without hdmf-zarr.
__all__ = [
    "ExternalFilesError",
    "ExternalFilesWarning",
    "FetchedMedia",
    "Finding",
    "FrameLocation",
    "MediaMode",
    "MediaOptions",
    "NWBExtFilesHDF5IO",
    "NamingConvention",
    "OrganizePlan",
    "RelocationPlan",
    "ResolvedExternalFile",
    "check",
    "dandi_name",
    "fetch_media",
    "find_referring_files",
    "image_series_from_videos",
    "locate_frame",
    "organize",
    "register_media_mappers",
    "relocate",
    "report",
    "resolve_external_files",
    "restore",
]

# Nothing is imported before it is used: pynwb takes most of a second, which the command line does without where it
# can, and pytest loads this package in every run on a machine.
_MODULE_OF = {
    "ExternalFilesError": "errors",
    "ExternalFilesWarning": "errors",
    "FetchedMedia": "tasks.fetching",
    "Finding": "tasks.check.findings",
    "FrameLocation": "media.frames",
    "MediaMode": "options",
    "MediaOptions": "options",
    "NWBExtFilesHDF5IO": "io.hdf5",
    "NWBExtFilesZarrIO": "io.zarrio",
    "NamingConvention": "naming",
    "OrganizePlan": "tasks.organize.plan",
    "RelocationPlan": "plans.plan",
    "ResolvedExternalFile": "plans.locate",
    "check": "tasks.check.checks",
    "dandi_name": "naming",
    "fetch_media": "tasks.fetching",
    "find_referring_files": "tasks.referring",
    "image_series_from_videos": "io.video_series",
    "locate_frame": "media.frames",
    "organize": "tasks.organize.organizing",
    "register_media_mappers": "io.mappers",
    "relocate": "tasks.relocating",
    "report": "tasks.report.reporting",
    "resolve_external_files": "tasks.external_files",
    "restore": "tasks.restoring",
}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

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

"""The table of neurodata types that hold paths of media, to which other packages may add.

A package that defines such a type says so in its metadata, so that its users need no option::

    [project.entry-points."nwb_extfiles.references"]
    ndx-tracking = "ndx_tracking.media:FIELDS"      # FIELDS = [("TrackingVideos", "video_paths")]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import warn
from ..hints import Hint, Message

__all__ = ["ENTRY_POINTS", "MEDIA_FIELDS", "MediaField", "media_fields", "registered_fields"]

ENTRY_POINTS = "nwb_extfiles.references"
"""Group of entry points; each leads to an iterable of `MediaField`, or of (neurodata type, field)."""


@dataclass(frozen=True, slots=True)
class MediaField:
    """A place where a neurodata type stores paths of media."""

    neurodata_type: str
    """The type that defines the place; its subtypes have it too."""
    field: str | None
    """Name of the dataset inside the object; None if the object is itself that dataset."""
    repeats: bool = False
    """Whether the field names videos that belong to some series; it then shares the copy of that series."""

    @property
    def label(self) -> str:
        """The name of the field in file names and in messages."""
        return self.field or "external_file"


MEDIA_FIELDS = (
    # NWB core schema, nwb.image.yaml; OpticalSeries, TwoPhotonSeries and the others inherit it
    MediaField("ImageSeries", "external_file"),
    # NWB core schema 2.9, nwb.base.yaml: "The single file path or URI … should be stored in the dataset"
    MediaField("ExternalImage", None),
    # ndx-pose, deprecated there since 0.2 and still written by the converters of pose trackers
    MediaField("PoseEstimation", "original_videos", repeats=True),
    MediaField("PoseEstimation", "labeled_videos", repeats=True),
)


def media_fields(further: Iterable[tuple[str, str]] = ()) -> tuple[MediaField, ...]:
    """The table of places, then those that installed packages declare, then those of `MediaOptions.media_fields`."""
    return (*MEDIA_FIELDS, *_registered(), *(MediaField(neurodata_type, field) for neurodata_type, field in further))


@cache
def _registered() -> tuple[MediaField, ...]:
    """What installed packages declare, which does not change while a process runs."""
    found, warnings = registered_fields()
    for warning in warnings:
        warn(warning)
    return tuple(found)


def registered_fields() -> tuple[list[MediaField], list[Message]]:
    """Load what installed packages declare beyond `MEDIA_FIELDS`; there are warnings for broken entry points."""
    from importlib.metadata import entry_points

    fields: list[MediaField] = []
    warnings: list[Message] = []
    for entry_point in sorted(entry_points(group=ENTRY_POINTS)):
        package = entry_point.dist.name if entry_point.dist is not None else "an unknown package"
        who = f"the entry point {entry_point.name!r} of {package} ({entry_point.value}, group {ENTRY_POINTS})"
        try:
            declared = list(entry_point.load())
        except Exception as error:  # noqa: BLE001  # code of others, which may fail in any way
            what = f"{who} cannot be loaded: {type(error).__name__}: {error}"
            warnings.append(Message(f"{what}. {_CONSEQUENCE}", _HINT))
            continue
        for field, value in _fields(declared):
            if field is None:
                what = f"{who} has {value!r}, expected (neurodata type, name of its dataset)"
                warnings.append(Message(f"{what}. {_CONSEQUENCE}", _HINT))
            elif field not in (*MEDIA_FIELDS, *fields):
                fields.append(field)
    return fields, warnings


_CONSEQUENCE = "The paths in its fields are not found"
_HINT = Hint("update or remove that package, or give {media_fields}")


def _fields(declared: list[Any]) -> Iterator[tuple[MediaField | None, Any]]:
    for value in declared:
        field = value
        if isinstance(value, tuple | list) and len(value) == 2:
            field = MediaField(*value)
        is_one = isinstance(field, MediaField) and bool(field.neurodata_type) and field.field != ""
        if is_one and isinstance(field.neurodata_type, str) and isinstance(field.field, str | None):
            yield field, value
        else:
            yield None, value

"""One stored path of a media file: where it is stored, what it says, which folder it is relative to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ExternalFileReference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFileReference:
    """One stored path of a media file."""

    nwb_path: str
    """The NWB file."""
    object_path: str
    """Path of the object in that file, such as ``/acquisition/behavior_video``."""
    neurodata_type: str
    object_id: str | None
    """As stored; None if the object has none. It may be any string: check it before use."""
    field: str
    """``external_file``, or the name of another field that holds paths (`MediaField`)."""
    index: int
    """Entry of the field, counted from 0."""
    stored_path: str
    """As stored; bytes that are not UTF-8 are kept as surrogate escapes."""
    base: str | None
    """The folder that a relative path is relative to, or its URL for a remote file; None if the object was made in
    memory."""
    repeats: bool = False
    """See `MediaField.repeats`."""
    is_list: bool = True
    """False if a dataset inside the object holds a single string instead of a list."""
    stored_in: str | None = None
    """The NWB file that holds the path now, if that is known to be another one than `nwb_path`."""

    @property
    def where(self) -> str:
        """The place in words, to begin a message with."""
        # The type comes out of a file as well, and must not look like a line of ours.
        kind = self.neurodata_type if self.neurodata_type.isidentifier() else repr(self.neurodata_type)
        file = self.nwb_path if self.stored_in is None else f"{self.nwb_path} (from {self.stored_in})"
        return f"{file}: {kind} {self.object_path!r}, {self.field}[{self.index}]"

    @property
    def entry(self) -> tuple[str, str, int]:
        """The place as a key: object path, field and index."""
        return self.object_path, self.field, self.index

    @property
    def record(self) -> dict[str, Any]:
        """The place within the NWB file and the stored path, as plain values."""
        return {
            "object_path": self.object_path,
            "neurodata_type": self.neurodata_type,
            "object_id": self.object_id,
            "field": self.field,
            "index": self.index,
            "stored_path": self.stored_path,
        }

    @property
    def place(self) -> dict[str, Any]:
        """The place as the fields of an `ExternalFilesError`."""
        return dict(nwb_path=self.nwb_path, object_path=self.object_path, field=self.field, index=self.index)

"""One stored text that names a media file: where it stands, what it says, relative to which folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ExternalFileReference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFileReference:
    """One stored text that names a media file."""

    nwb_path: str
    """The NWB file that is spoken of."""
    object_path: str
    """Path of the object in that file, such as ``/acquisition/behavior_video``."""
    neurodata_type: str
    object_id: str | None
    """As stored; None where there is none. It may be any text: check before use."""
    field: str
    """``external_file``, or the name of another field that holds paths (`MediaField`)."""
    index: int
    """Entry of the field, counted from 0."""
    stored_path: str
    """As stored; bytes that are not UTF-8 are kept as surrogate escapes."""
    base: str | None
    """The folder that a relative text is relative to, for a file that is read from afar the URL of one; None if the
    object was made in memory."""
    repeats: bool = False
    """See `MediaField.repeats`."""
    stored_in: str | None = None
    """The NWB file that holds the text now, where it is known and that is not `nwb_path`."""

    @property
    def where(self) -> str:
        """The place in words, to begin a message with."""
        # A type is a text out of a file, too, and must not look like a line of ours.
        kind = self.neurodata_type if self.neurodata_type.isidentifier() else repr(self.neurodata_type)
        file = self.nwb_path if self.stored_in is None else f"{self.nwb_path} (from {self.stored_in})"
        return f"{file}: {kind} {self.object_path!r}, {self.field}[{self.index}]"

    @property
    def entry(self) -> tuple[str, str, int]:
        """The place as a key: object path, field and index."""
        return self.object_path, self.field, self.index

    @property
    def place(self) -> dict[str, Any]:
        """The place as the fields of an `ExternalFilesError`."""
        return dict(nwb_path=self.nwb_path, object_path=self.object_path, field=self.field, index=self.index)

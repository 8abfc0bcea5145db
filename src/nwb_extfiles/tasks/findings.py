"""What `check` reports: one `Finding` for each problem."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..hints import Message
from ..nwb.references import ExternalFileReference

__all__ = ["Finding", "Severity", "of_file", "of_reference", "shortened"]

_LONGEST = 300  # characters of a path that a message shows


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """A path is broken, or will be in the archive or for its readers."""
    WARNING = "warning"
    """It works here; it may not elsewhere, or wastes space."""
    INFO = "info"
    """Worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `check` found."""

    severity: Severity
    code: str
    """What kind it is, in short: ``missing``, ``absolute-path``, ``orphan`` and so on."""
    what: str
    """What is wrong."""
    hint: str | None = None
    """What to do."""
    nwb_path: str
    object_path: str | None = None
    neurodata_type: str | None = None
    field: str | None = None
    index: int | None = None
    stored_path: str | None = None

    @property
    def message(self) -> Message:
        """What is wrong, and what to do."""
        return Message(self.what, self.hint)

    @property
    def where(self) -> str:
        """The NWB file, the object and the entry, in words."""
        if self.object_path is None:
            return self.nwb_path
        entry = f", {self.field}[{self.index}]" if self.index is not None else ""
        return f"{self.nwb_path}: {self.neurodata_type or 'object'} {self.object_path!r}{entry}"


def of_file(
    path: Path, severity: Severity, code: str, what: str, hint: str | None = None, object_path: str | None = None
) -> Finding:
    """A finding about an NWB file, a folder, or an object without an entry."""
    return Finding(severity=severity, code=code, what=what, hint=hint, nwb_path=str(path), object_path=object_path)


def of_reference(
    reference: ExternalFileReference, severity: Severity, code: str, what: str, hint: str | None = None
) -> Finding:
    """A finding about one stored path."""
    return Finding(
        severity=severity,
        code=code,
        what=what,
        hint=hint,
        nwb_path=reference.nwb_path,
        object_path=reference.object_path,
        neurodata_type=reference.neurodata_type,
        field=reference.field,
        index=reference.index,
        stored_path=reference.stored_path,
    )


def shortened(path: str) -> str:
    """A path in quotes, as much of it as a message has space for."""
    return repr(path[:_LONGEST])

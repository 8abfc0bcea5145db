"""What `check` reports: one `Finding` for each problem."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from ...errors import ExternalFilesError
from ...hints import Message, counted
from ...nwb.references import ExternalFileReference
from ...tables import Tabular, TabularList, plain

__all__ = [
    "CODES",
    "Finding",
    "Findings",
    "Severity",
    "of_file",
    "of_problem",
    "of_reference",
    "require_codes",
    "shortened",
]

CODES = (
    "absolute-path", "alike-names", "asset-path", "backslash", "cut-off", "damaged", "dangling-link", "empty",
    "ends-early", "frames-left-over", "frames-missing", "gaps", "hidden", "hidden-frames", "image-format",
    "interrupted-edit", "interrupted-run", "letter-case", "linked-folder", "linked-media", "linked-media-missing",
    "manifest",
    "media-changed", "media-missing", "media-swapped", "media-truncated", "media-unreadable", "missing",
    "missing-absolute", "no-frames", "no-manifest", "no-media", "no-nwb-file", "no-nwb-files", "nonstandard-name",
    "not-a-list", "not-a-string", "not-a-video", "not-in-manifest", "not-playable", "not-readable", "object-id",
    "orphan", "outside-dandiset", "outside-nwb-folder", "rotated", "same-media", "several-videos", "sizes-differ",
    "stale-manifest", "starting-frame", "suffix", "unicode", "unportable-name", "unreadable", "url", "videos-not-read",
)  # fmt: skip
"""All kinds of findings. A finding of another kind cannot be made."""
_LONGEST = 300  # characters of a path that a message shows


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """A path is broken, or will be in the archive or for its readers."""
    WARNING = "warning"
    """It works here; it may not elsewhere, or wastes space."""
    INFO = "info"
    """Worth knowing."""

    def is_at_least(self, other: Severity) -> bool:
        """Whether it is as bad as another, or worse."""
        order = list(Severity)
        return order.index(self) <= order.index(other)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Finding(Tabular):
    """One thing that `check` found."""

    _columns: ClassVar[tuple[str, ...]] = (
        "severity", "code", "what", "found", "expected", "hint", "nwb_path", "object_path", "neurodata_type", "field",
        "index", "stored_path",
    )  # fmt: skip
    _shown_columns: ClassVar[tuple[str, ...]] = ("severity", "code", "nwb_path", "object_path", "index", "stored_path")
    _html_columns: ClassVar[tuple[str, ...]] = (*_shown_columns, "what", "found", "expected", "hint")

    severity: Severity
    code: str
    """What kind it is, in short: ``missing``, ``absolute-path``, ``orphan`` and so on."""
    what: str
    """What is wrong."""
    found: str | None = None
    """What is there: the file, the name, the value that is wrong, if that is not the stored path itself."""
    expected: str | None = None
    """What should be there instead, if that is known."""
    hint: str | None = None
    """What to do."""
    nwb_path: str
    object_path: str | None = None
    neurodata_type: str | None = None
    field: str | None = None
    index: int | None = None
    stored_path: str | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"there is no kind of findings {self.code!r}")

    @property
    def details(self) -> str:
        """What was found and what was expected, in words; empty if the sentence `what` says all."""
        parts = (self.found, None if self.expected is None else f"expected {self.expected}")
        return "; ".join(part for part in parts if part is not None)

    @property
    def is_evident(self) -> bool:
        """Whether the names of the NWB file and the stored path say what was found and expected."""
        if self.found is not None or self.stored_path is None or self.expected is None:
            return False
        return self.expected.endswith(f"{os.sep}{self.stored_path}'")

    @property
    def message(self) -> Message:
        """What is wrong, what was found and expected, and what to do."""
        joint = ": " if self.found is not None else "; "
        return Message(f"{self.what}{joint}{self.details}" if self.details else self.what, self.hint)

    @property
    def where(self) -> str:
        """The NWB file, the object and the entry, in words."""
        if self.object_path is None:
            return self.nwb_path
        entry = f", {self.field}[{self.index}]" if self.index is not None else ""
        return f"{self.nwb_path}: {self.neurodata_type or 'object'} {self.object_path!r}{entry}"

    def __str__(self) -> str:
        return plain(f"{self.severity.upper()} {self.code}: {self.where}: {self.message}")

    def _title(self) -> str:
        return f"{self.severity} {self.code}, {self.where}"

    def _records(self) -> Iterator[dict[str, Any]]:
        yield self.record

    @property
    def record(self) -> dict[str, Any]:
        """All that it says, as plain values."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**record, "severity": str(self.severity)}


class Findings(TabularList[Finding]):
    """A list of `Finding`, that is printed and shown in a notebook as a table.

    Parameters
    ----------
    findings : iterable of Finding
    nwb_paths : collection of pathlib.Path
        The NWB files that were checked, with or without findings.
    left_out : int
        How many other findings there are, which `filtered` has left out.
    """

    _columns = Finding._columns
    _shown_columns = Finding._shown_columns
    _html_columns = Finding._html_columns

    def __init__(self, findings: Iterable[Finding] = (), nwb_paths: Collection[Path] = (), left_out: int = 0) -> None:
        super().__init__(findings)
        self.nwb_paths = tuple(nwb_paths)
        self.left_out = left_out

    def filtered(
        self, *, select: Iterable[str] | str = (), ignore: Iterable[str] | str = (), severity: Severity = Severity.INFO
    ) -> Findings:
        """Those of some kinds.

        Parameters
        ----------
        select, ignore : str or iterable of str
            Codes, or how they begin: ``media-`` stands for all that begin with it. With `select` only those are taken;
            those of `ignore` are left out.
        severity : Severity
            The least one.

        Returns
        -------
        Findings
            For the same NWB files.

        Raises
        ------
        ValueError
            If no code begins with one of `select` or `ignore`.
        """
        wanted, unwanted = _codes(select) or ("",), _codes(ignore)
        require_codes((*wanted, *unwanted))
        chosen = (one for one in self if one.code.startswith(wanted) and not one.code.startswith(unwanted))
        found = Findings((one for one in chosen if one.severity.is_at_least(severity)), self.nwb_paths)
        found.left_out = self.left_out + len(self) - len(found)
        return found

    @property
    def worst_first(self) -> list[Finding]:
        """All of them by severity, those of one severity in the order they have here."""
        order = list(Severity)
        return sorted(self, key=lambda finding: order.index(finding.severity))

    @property
    def counts(self) -> dict[Severity, int]:
        """How many there are of each severity."""
        counter = Counter(finding.severity for finding in self)
        return {severity: counter[severity] for severity in Severity}

    @property
    def summary(self) -> str:
        """How many NWB files were checked, what was found, by severity, and how many findings are left out."""
        errors, warnings, notes = self.counts.values()
        problems = [counted(number, noun) for number, noun in ((errors, "error"), (warnings, "warning")) if number]
        checked = counted(len(self.nwb_paths), "NWB file")
        if self.left_out:
            without = [] if notes else ["no such findings"]  # whether there are problems, the others would say
            left_out = f" ({counted(self.left_out, 'finding')} left out)"
        else:
            without, left_out = ["no problems found"], ""
        worth_knowing = [counted(notes, "note")] if notes else []
        said = [", ".join(problems)] if problems else without
        return f"{checked}: {'; '.join([*said, *worth_knowing])}{left_out}"

    def _title(self) -> str:
        return self.summary

    def _shown_records(self) -> Iterator[dict[str, Any]]:
        return (finding.record for finding in self.worst_first)


def _codes(chosen: Iterable[str] | str) -> tuple[str, ...]:
    return tuple(filter(None, [chosen] if isinstance(chosen, str) else chosen))


def require_codes(beginnings: Iterable[str]) -> None:
    """Raise a ValueError, which names the nearest code, if no code begins with one of these."""
    for beginning in beginnings:
        if not any(code.startswith(beginning) for code in CODES):
            (nearest,) = get_close_matches(beginning, CODES, 1, cutoff=0)
            raise ValueError(f"no finding has a code that begins with {beginning!r}; did you mean {nearest!r}?")


def of_file(
    path: Path,
    severity: Severity,
    code: str,
    what: str,
    hint: str | None = None,
    object_path: str | None = None,
    *,
    found: str | None = None,
) -> Finding:
    """A finding about an NWB file, a folder, or an object without an entry."""
    return Finding(
        severity=severity, code=code, what=what, found=found, hint=hint, nwb_path=str(path), object_path=object_path
    )


def of_reference(
    reference: ExternalFileReference,
    severity: Severity,
    code: str,
    what: str,
    hint: str | None = None,
    *,
    found: str | None = None,
    expected: str | None = None,
) -> Finding:
    """A finding about one stored path."""
    return Finding(
        severity=severity,
        code=code,
        what=what,
        found=found,
        expected=expected,
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


def of_problem(path: Path, code: str, problem: ExternalFilesError) -> Finding:
    """An error about a file, as a finding."""
    return of_file(path, Severity.ERROR, code, problem.what.removeprefix(f"{path}: "), problem.hint)

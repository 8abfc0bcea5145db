"""Findings as lines, the long sentence of each kind once, and as a file."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ..hints import counted, for_command_line
from ..tables import plain, shown
from ..tasks.check.findings import Finding, Findings, Severity
from .terminal import as_json, finding_record, quoted

__all__ = ["finding_lines", "write_report"]

_MOST_LISTED = 10  # NWB files with findings of one kind, and entries in each, that a terminal shows
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}

Style = Callable[..., str]


def finding_lines(
    findings: Findings, *, width: int | None = None, most: int | None = _MOST_LISTED, style: Style | None = None
) -> Iterator[str]:
    """Findings by kind, the worst first, then by NWB file.

    Parameters
    ----------
    findings : Findings
    width : int, optional
        Of the terminal, in characters; sentences are wrapped. Paths are not, so that they can be copied.
    most : int, optional
        How many NWB files are listed for one kind, and how many entries for each; None for all.
    style : callable, optional
        Colours a text: `click.style`.
    """
    times = Counter((finding.severity, finding.code, finding.what) for finding in findings)
    kinds: dict[tuple[Severity, str, str | None], list[Finding]] = {}
    for finding in findings.worst_first:
        shared = finding.what if times[finding.severity, finding.code, finding.what] > 1 else None
        kinds.setdefault((finding.severity, finding.code, shared), []).append(finding)
    for number, kind in enumerate(kinds.values()):
        if number:
            yield ""
        yield from _kind(kind, width, most, style or _unchanged)


def write_report(path: Path, findings: Findings) -> None:
    """Write all findings to a file: JSON if its name ends in ``.json``, else lines of text."""
    if path.suffix.lower() == ".json":
        text = as_json([finding_record(finding) for finding in findings])
    else:
        text = "\n".join([*finding_lines(findings, most=None), findings.summary])
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(f"{text}\n", encoding="utf-8")
    os.replace(fresh, path)  # what a link with this name points to stays as it is


def _unchanged(text: str, **_: object) -> str:
    return text


def _kind(kind: list[Finding], width: int | None, most: int | None, style: Style) -> Iterator[str]:
    first, hints, sentences = kind[0], {finding.hint for finding in kind}, {finding.what for finding in kind}
    head = f"{first.severity.upper()} {first.code}"
    what = f": {plain(first.what)}" if len(sentences) == 1 else ""
    sentence = f"{head}{what}{f' ({len(kind):,})' if len(kind) > 1 else ''}"
    wrapped = _wrapped(sentence, width, "")
    yield style(head, fg=_COLOURS[first.severity], bold=True) + wrapped[0].removeprefix(head)
    yield from wrapped[1:]
    if len(hints) == 1:
        yield from _hint(first, width, "  ")
    files: dict[str, list[Finding]] = {}
    for finding in kind:
        files.setdefault(finding.nwb_path, []).append(finding)
    for nwb_path, of_file in list(files.items())[:most]:
        yield f"  {style(plain(shown(nwb_path)), bold=True)}"
        for finding in of_file[:most]:
            yield from _entry(finding, width)
            indent = "    " if finding.object_path is None else "      "
            if len(sentences) > 1:
                yield from _wrapped(plain(finding.what), width, indent)
            if len(hints) > 1:
                yield from _hint(finding, width, indent)
        if most is not None and len(of_file) > most:
            yield f"    … and {len(of_file) - most:,} more; --json and --report-file list all"
    if most is not None and len(files) > most:
        yield f"  … and {counted(len(files) - most, 'more NWB file')}; --json and --report-file list all"


def _entry(finding: Finding, width: int | None) -> Iterator[str]:
    """The entry of a finding, and what was found there: on one line if there is room."""
    entry = f"[{finding.index}]" if finding.index is not None else ""
    stored = f": {quoted(finding.stored_path)}" if finding.stored_path is not None else ""
    field = f" {finding.field}{entry}{stored}" if finding.field is not None else ""
    place = "" if finding.object_path is None else plain(f"{finding.object_path}{field}")
    details = "" if finding.is_evident else plain(finding.details)
    if not place:
        yield from _wrapped(details, None, "    ") if details else ()
    elif not details or (width is not None and len(place) + len(details) + 7 > width):
        yield f"    {place}"
        yield from [f"      {details}"] if details else ()
    else:
        yield f"    {place}; {details}"


def _hint(finding: Finding, width: int | None, indent: str) -> list[str]:
    return [] if finding.hint is None else _wrapped(f"hint: {plain(for_command_line(finding.hint))}", width, indent)


def _wrapped(text: str, width: int | None, indent: str) -> list[str]:
    if width is None:
        return [f"{indent}{text}"]
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip

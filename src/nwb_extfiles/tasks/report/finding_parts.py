"""What is wrong, as the page of a report shows it: by code, each sentence once, then the places."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ...hints import counted, for_command_line
from ..check.findings import Finding, Severity
from .data import Report
from .parts import code, text, words

__all__ = ["badge", "details", "folded", "problems", "shown_in"]

_MOST_LISTED = 5  # places of one sentence; the others can be unfolded


class _Page(NamedTuple):
    """What places of findings are shown with."""

    root: Path
    anchors: Mapping[str, str]
    """Of NWB files in the page, by their paths."""
    original_names: Mapping[tuple[str, tuple[str, str, int]], str]
    """Of media, by the NWB file and the entry that refers to them."""


def problems(report: Report, anchors: Mapping[str, str]) -> Iterator[str]:
    """All findings by severity and code: what is wrong, and, folded, what is worth knowing."""
    names = {
        (media.reference.nwb_path, media.reference.entry): media.original_name
        for file in report.files
        for media in file.media
        if media.original_name is not None
    }
    page = _Page(report.root, anchors, names)
    kinds: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in report.findings:
        kinds.setdefault((finding.severity, finding.code), []).append(finding)
    order = list(Severity)
    worst_first = sorted(kinds.items(), key=lambda kind: (order.index(kind[0][0]), -len(kind[1])))
    seen: set[str] = set()
    wrong, notes = list[str](), list[str]()
    for (severity, kind), found in worst_first:
        lines = _kind(found, page, has_anchor=kind not in seen)
        seen.add(kind)
        (notes if severity is Severity.INFO else wrong).append("\n".join(lines))
    if wrong:
        yield "<section><h2>What is wrong</h2>"
        yield from wrong
        yield "</section>"
    if notes:
        yield f"<section><details><summary><h2>Worth knowing</h2> <small>{len(notes)}</small></summary>"
        yield from notes
        yield "</details></section>"


def _kind(found: Sequence[Finding], page: _Page, has_anchor: bool) -> Iterator[str]:
    """All findings of one severity and code."""
    first = found[0]
    anchor = f' id="{text(first.code)}"' if has_anchor else ""
    number = f" <small>{len(found):,} times</small>" if len(found) > 1 else ""
    yield f'<article class="kind {first.severity}"{anchor}>'
    yield f"<h3>{badge(first.severity)} {code(first.code)}{number}</h3>"
    sentences: dict[str, list[Finding]] = {}
    for finding in found:
        sentences.setdefault(finding.what, []).append(finding)
    alone = [some[0] for some in sentences.values() if len(some) == 1 < len(sentences)]
    for what, some in sentences.items():
        if len(some) > 1 or not alone:
            hint = _common_hint(some)
            yield f"<p>{_sentence(what)}{_hint(hint)}</p>"
            yield from folded([_entry(finding, page, finding.hint != hint) for finding in some], _MOST_LISTED)
    if alone:  # such as those with numbers of their own
        hint = _common_hint(alone)
        yield from [f"<p>{_hint(hint)}</p>"] if hint else ()
        entries = [_entry(one, page, one.hint != hint, with_sentence=True) for one in alone]
        yield from folded(entries, _MOST_LISTED)
    yield "</article>"


def _common_hint(found: Iterable[Finding]) -> str | None:
    """What to do, if that is the same for all."""
    hints = {finding.hint for finding in found}
    return hints.pop() if len(hints) == 1 else None


def folded(items: Sequence[str], most: int) -> Iterator[str]:
    """A list, of which only the first are shown at once."""
    yield f"<ul>{''.join(f'<li>{item}</li>' for item in items[:most])}</ul>"
    if len(items) > most:
        yield f"<details><summary>{len(items) - most:,} more</summary>"
        yield f"<ul>{''.join(f'<li>{item}</li>' for item in items[most:])}</ul></details>"


def _entry(finding: Finding, page: _Page, with_hint: bool, *, with_sentence: bool = False) -> str:
    anchor = page.anchors.get(finding.nwb_path)
    name = code(shown_in(finding.nwb_path, page.root))
    parts = [f'<a href="#{anchor}">{name}</a>' if anchor else name]
    if finding.object_path is not None:
        index = "" if finding.index is None else f"[{finding.index}]"
        parts.append(
            code(finding.object_path if finding.field is None else f"{finding.object_path} {finding.field}{index}")
        )
    if finding.stored_path is not None:
        parts.append(code(finding.stored_path) + _originally(finding, page))
    if details(finding, page.root):
        parts.append(details(finding, page.root)[2:])
    sentence = f"<p>{_sentence(finding.what)}</p>" if with_sentence else ""
    return " · ".join(parts) + sentence + (_hint(finding.hint) if with_hint else "")


def _originally(finding: Finding, page: _Page) -> str:
    if finding.object_path is None or finding.field is None or finding.index is None:
        return ""
    name = page.original_names.get((finding.nwb_path, (finding.object_path, finding.field, finding.index)))
    return "" if name is None else f" <small>(originally {code(name)})</small>"


def details(finding: Finding, root: Path) -> str:
    """What was found and expected, after a colon; empty if the stored path says it."""
    if finding.is_evident or not finding.details:
        return ""
    return f": {words(finding.details.replace(f'{root}{os.sep}', ''))}"


def _sentence(what: str) -> str:
    first = what.partition(" ")[0]
    is_name = "_" in first or first.startswith("`")  # such as starting_frame
    return words(f"{what if is_name else what[:1].upper() + what[1:]}.")


def _hint(hint: str | None) -> str:
    return "" if hint is None else f' <span class="hint">{_sentence(for_command_line(hint))}</span>'


def badge(severity: Severity, count: int | None = None) -> str:
    """A severity in its colour, or how many findings have it."""
    said = str(severity) if count is None else counted(count, str(severity))
    return f'<span class="badge {severity}">{said}</span>'


def shown_in(path: str | os.PathLike[str], root: Path) -> str:
    """A path relative to the root if it is in it."""
    return os.fspath(path).removeprefix(f"{root}{os.sep}")

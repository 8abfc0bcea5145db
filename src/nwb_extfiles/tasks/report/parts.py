"""Parts of a page that know nothing of NWB files: escaped text, numbers with units, trees of files, and the style."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from ...tables import plain, shortened
from .data import Place

__all__ = ["STYLE", "code", "length", "size", "sized", "text", "tree_lines", "words"]

_LONGEST = 600  # characters of a value
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_MOST_PLACES = 200  # in one tree
_DEEPEST = 32  # folders; what is deeper is one line
_Node = dict[str, "_Node"]


def text(value: object) -> str:
    """Anything as text of HTML: escaped, without characters that control or reorder lines, and shortened."""
    return html.escape(shortened(plain(str(value)), _LONGEST))


def code(value: object, kind: str = "") -> str:
    """The same in the font of code, with a class of the style."""
    return f'<code class="{kind}">{text(value)}</code>' if kind else f"<code>{text(value)}</code>"


def sized(count: int) -> str:
    """A number of bytes as HTML: with three digits, and exact where one points at it."""
    return f'<span title="{count:,} bytes">{size(count)}</span>'


def words(message: str) -> str:
    """A message as HTML, in which commands are between backquotes."""
    parts = text(message).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def size(count: int) -> str:
    """A number of bytes with three digits: ``1.23 GB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} bytes" if unit == 0 else f"{value:.3g} {_UNITS[unit]}"


def length(seconds: float) -> str:
    """A time: ``12.3 s``, ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def tree_lines(places: Sequence[Place]) -> Iterator[tuple[str, bool]]:
    """Files as a tree.

    Parameters
    ----------
    places : sequence of Place
        The same one may be there several times.

    Yields
    ------
    (str, bool)
        A line, which may have any characters that the names have, and whether it is a missing file.
    """
    found = dict.fromkeys(places)
    root: _Node = {}
    missing = {_parts(place.path) for place in found if place.is_missing}
    for place in list(found)[:_MOST_PLACES]:
        node = root
        for part in _parts(place.path):
            node = node.setdefault(part, {})
    yield from _branches(root, "", (), missing)
    if len(found) > _MOST_PLACES:
        yield f"… and {len(found) - _MOST_PLACES:,} more", False


def _parts(path: str) -> tuple[str, ...]:
    parts = path.split("/")
    return (path,) if len(parts) > _DEEPEST else tuple(parts)


def _branches(
    node: _Node, indent: str, above: tuple[str, ...], missing: set[tuple[str, ...]]
) -> Iterator[tuple[str, bool]]:
    for number, name in enumerate(sorted(node), 1):
        way, below = (*above, name), node[name]
        while len(below) == 1 and way not in missing and (only := next(iter(below))) and below[only]:
            way, below = (*way, only), below[only]  # one line for folders that have one folder each
        is_last = number == len(node)
        branch, deeper = ("", "") if not above else ("└── ", "    ") if is_last else ("├── ", "│   ")
        label = "/".join(way[len(above) :])
        yield f"{indent}{branch}{label}{'/' if below else ''}", way in missing
        yield from _branches(below, f"{indent}{deeper}", way, missing)


STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --card: #f6f8fa; --line: #d5dbe1;
  --link: #0757ba; --error: #b3151e; --error-paper: #ffebe9; --warning: #7d4e00; --warning-paper: #fff3cf;
  --info: #0757ba; --info-paper: #e3f0ff; --good: #116329; --good-paper: #ddf6e2 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b1; --paper: #0f1318; --card: #181d24;
  --line: #343c46; --link: #77b4ff; --error: #ff8a84; --error-paper: #3d1517; --warning: #f2c14e;
  --warning-paper: #352803; --info: #77b4ff; --info-paper: #10253f; --good: #6fd88a; --good-paper: #0e2d18 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .75rem } h2 { font-size: 1.25rem; margin: 2rem 0 .75rem }
h3 { font-size: 1rem; margin: 0 } h4 { font-size: .875rem; margin: .25rem 0; color: var(--soft) }
p { margin: .25rem 0 } small, .note { color: var(--soft); font-size: .875rem; font-weight: normal }
code, pre { font: .875em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; unicode-bidi: isolate }
a { color: var(--link) } ul { margin: .5rem 0; padding-left: 1.25rem } li { margin: .125rem 0 }
b.error, p.error { color: var(--error) } p.good { color: var(--good) }
.verdict { padding: .75rem 1rem; border-radius: .5rem; font-size: 1.125rem; font-weight: 600 }
.verdict.error, .badge.error { background: var(--error-paper); color: var(--error) }
.verdict.warning, .badge.warning { background: var(--warning-paper); color: var(--warning) }
.verdict.good, .badge.good { background: var(--good-paper); color: var(--good) }
.badge.info { background: var(--info-paper); color: var(--info) }
.badge { padding: .1rem .5rem; border-radius: 1rem; font-size: .8125rem; font-weight: 600; white-space: nowrap }
.totals { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0 }
.totals dt { color: var(--soft); font-size: .875rem } .totals dd { margin: 0; font-size: 1.25rem; font-weight: 600 }
.kind { border-left: 4px solid var(--line); background: var(--card); padding: .625rem 1rem; margin: .75rem 0;
  border-radius: 0 .5rem .5rem 0 }
.kind.error { border-color: var(--error) } .kind.warning { border-color: var(--warning) }
.kind.info { border-color: var(--info) } .kind p { color: var(--ink) } .kind ul { font-size: .9375rem }
.hint { color: var(--soft) }
summary { cursor: pointer } summary h2 { display: inline }
.file { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0 }
.file > summary { padding: .5rem 1rem } .file > div { padding: 0 1rem 1rem; scroll-margin-top: 3rem }
.name, .series h3 code { font-weight: 600 }
.remarks a { color: inherit }
.series { border-top: 1px solid var(--line); padding: .75rem 0 }
.series ol { list-style: none; padding: 0; margin: .5rem 0 0; display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)) }
.media { display: grid; grid-template-columns: 11rem 1fr; gap: 1rem; margin: 0; font-size: .9375rem }
.media > div { min-width: 0 }
.frame video, .frame img, .frame span { display: block; width: 100%; max-height: 11rem; border-radius: .25rem;
  background: var(--card); object-fit: contain }
.frame video { height: auto; min-height: 6rem; background: #000 }
.frame span { padding: 1.5rem .5rem; text-align: center; color: var(--soft); border: 1px dashed var(--line) }
.frame .none { color: var(--error); border-color: var(--error) }
.remarks { list-style: none; padding: 0 }
.trees { display: grid; gap: 0 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)) }
pre { margin: 0; padding: .625rem; background: var(--card); border-radius: .5rem; overflow-x: auto; line-height: 1.35 }
@media (max-width: 40rem) { body { padding: .75rem } .media { grid-template-columns: 1fr; gap: .5rem }
  .frame { max-width: 16rem } .totals { gap: .5rem 1.25rem } .file > summary, .file > div { padding-left: .625rem } }
@media print { body { max-width: none; padding: 0; font-size: 10pt } .kind, .media { break-inside: avoid }
  .verdict, .badge, .kind { print-color-adjust: exact } details::details-content { content-visibility: visible;
  display: block; height: auto } }
"""

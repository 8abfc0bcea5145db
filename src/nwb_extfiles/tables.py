"""Findings, references and plans as tables: as plain lines, as HTML for notebooks, and for pandas.

What is shown comes out of files, so it may be anything: control characters become escapes, HTML is escaped, long values
are shortened, and a table ends with a line that says how many rows are left out.
"""

from __future__ import annotations

import html
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, TypeVar, overload

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tabular", "TabularList", "plain", "shortened", "shown"]

T = TypeVar("T", bound="Tabular")

_MOST_LINES = 20
_MOST_HTML_ROWS = 100
_LONGEST = 300  # characters of a value in HTML, and of a title
_NARROWEST = 12  # columns are not made narrower than this
_SHORT = 24  # characters of a value that HTML keeps on one line
_GAP = "  "
_PATHS = ("nwb_path", "source", "target", "location")
_NUMBERS = ("index", "bytes", "media", "media_bytes")


def plain(text: str) -> str:
    """A line without characters that control terminals, end lines or are not Unicode; those become escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def shown(path: str | os.PathLike[str]) -> str:
    """A path relative to the working directory, if it is in it; else the absolute path."""
    absolute = os.path.abspath(path)
    try:
        relative = os.path.relpath(absolute)
    except (ValueError, OSError):  # another drive of Windows; a working directory that is gone
        return absolute
    return absolute if relative == os.pardir or relative.startswith(os.path.join(os.pardir, "")) else relative


def shortened(text: str, width: int) -> str:
    """A line in at most so many cells of a terminal, without its middle if it is longer: paths differ at their end."""
    if len(text) <= width and _cells(text) <= width:
        return text
    head, tail = "", ""
    room = max(width - 1, 0)
    for character in text:
        if _cells(head + character) > room // 3:
            break
        head += character
    for character in reversed(text):
        if _cells(tail + character) > room - _cells(head):
            break
        tail = character + tail
    return f"{head}…{tail}"


def _cells(text: str) -> int:
    """How many cells of a terminal a line takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


class Tabular:
    """Something with records, that is shown as a table.

    Subclasses say what the table is about (`_title`), what its columns are, and which of them are shown: in lines, and
    in HTML, where there is room for more.
    """

    __slots__ = ()

    _columns: ClassVar[tuple[str, ...]] = ()
    _shown_columns: ClassVar[tuple[str, ...]] = ()
    _html_columns: ClassVar[tuple[str, ...]] = ()

    def _title(self) -> str:
        raise NotImplementedError

    def _records(self) -> Iterator[dict[str, Any]]:
        raise NotImplementedError

    def _shown_records(self) -> Iterator[dict[str, Any]]:
        """The records in the order in which they are shown."""
        return self._records()

    def _count(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {shortened(plain(self._title()), _LONGEST)}>"

    def __str__(self) -> str:
        rows = [_cells_of(record, self._shown_columns) for record in islice(self._shown_records(), _MOST_LINES)]
        lines = [plain(self._title()), *_lines(self._shown_columns, rows)]
        return "\n".join([*lines, *_more(self._count(), len(rows))])

    def _repr_html_(self) -> str:
        columns = self._html_columns or self._shown_columns
        rows = [_cells_of(record, columns) for record in islice(self._shown_records(), _MOST_HTML_ROWS)]
        # notebooks would typeset what is between two dollar signs
        title = f'<p style="overflow-wrap:anywhere"><b>{_escaped(self._title())}</b></p>'
        parts = [f'<div class="tex2jax_ignore mathjax_ignore">{title}']
        if rows:
            head = "".join(f'<th style="text-align:left">{_escaped(name)}</th>' for name in columns)
            parts += [f"<table><thead><tr>{head}</tr></thead><tbody>", *map(_html_row, rows), "</tbody></table>"]
        parts += [f"<p>{_escaped(line)}</p>" for line in _more(self._count(), len(rows))]
        return "\n".join([*parts, "</div>"])

    def to_dataframe(self) -> pd.DataFrame:
        """All records as a `pandas.DataFrame`, in the order they have here; empty, with its columns, if there are none.

        Returns
        -------
        pandas.DataFrame
            One row for each record, shape (number of records, number of columns). Paths are absolute, sizes are in
            bytes, and what is not known is missing.
        """
        import pandas as pd

        frame = pd.DataFrame(list(self._records()), columns=list(self._columns))
        return frame.astype({name: "Int64" for name in _NUMBERS if name in self._columns})  # which may be missing


class TabularList(list[T], Tabular):
    """A list that is shown as one table of what it holds."""

    def __repr__(self) -> str:
        return Tabular.__repr__(self)

    def __str__(self) -> str:
        return Tabular.__str__(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> TabularList[T]: ...
    def __getitem__(self, index: Any) -> Any:
        """One of them, or some of them as a table."""
        found = super().__getitem__(index)
        if not isinstance(index, slice):
            return found
        some = copy(self)  # with what else it knows
        some[:] = found
        return some

    def _records(self) -> Iterator[dict[str, Any]]:
        for one in self:
            yield from one._records()

    def _count(self) -> int:
        return sum(one._count() for one in self)


def _cells_of(record: dict[str, Any], columns: Iterable[str]) -> list[str]:
    return [_cell(name, record[name]) for name in columns]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _PATHS and os.path.isabs(value):
        value = shown(value)
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    return plain(text if len(text) <= 2 * _LONGEST else f"{text[:_LONGEST]}…{text[-_LONGEST:]}")


def _more(count: int, listed: int) -> list[str]:
    return [f"… and {count - listed:,} more; to_dataframe() has all"] if count > listed else []


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    table = [columns, *rows]
    widths = _fitting([max(_cells(row[n][:1000]) for row in table) for n in range(len(columns))])
    for row in table:
        cells = (shortened(cell, width) for cell, width in zip(row, widths, strict=True))
        padded = (cell + " " * (width - _cells(cell)) for cell, width in zip(cells, widths, strict=True))
        yield _GAP.join(padded).rstrip()


def _fitting(widths: list[int]) -> list[int]:
    """Widths of columns that fit the terminal, if the widest are shortened."""
    room = shutil.get_terminal_size((100, 24)).columns - len(_GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _escaped(text: str) -> str:
    return html.escape(shortened(plain(text), _LONGEST))


def _html_row(row: Sequence[str]) -> str:
    return "<tr>" + "".join(map(_html_cell, row)) + "</tr>"


def _html_cell(cell: str) -> str:
    """A cell, as wide as can be read: a path without blanks would take all the width, and sentences none."""
    width = "white-space:nowrap" if len(cell) <= _SHORT else "min-width:14em;max-width:28em;overflow-wrap:anywhere"
    return f'<td style="text-align:left;vertical-align:top;{width}">{_escaped(cell)}</td>'

"""What commands print: lines, errors, warnings and progress, none of which ends the work that they are about.

A stream that cannot encode a name gets it with escapes. A reader that is gone, as in ``| head``, ends a command that
only reads; one that changes files goes on to its end, silently.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

from ..hints import counted

__all__ = [
    "error_record",
    "escape_what_cannot_be_encoded",
    "log_to",
    "print_error",
    "print_line",
    "print_record",
    "progress",
    "reading",
    "tell",
    "terminal_width",
]


_LEGIBLE = "nwb-extfiles-legible"
_IN_ASCII = {"├": "|", "└": "`", "─": "-", "│": "|", "…": "..."}


def _legible(error: UnicodeError) -> tuple[str | bytes, int]:
    """Lines of a tree as ASCII draws them, all else as `backslashreplace` escapes it."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in _IN_ASCII:
        return _IN_ASCII[error.object[error.start]], error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error(_LEGIBLE, _legible)


def escape_what_cannot_be_encoded() -> None:
    """Write characters as escapes that an output cannot encode: Python writes cp1252 to the pipes of Windows."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_LEGIBLE)


def print_line(line: str) -> None:
    """Print a line; raises BrokenPipeError if nobody reads any more, which click turns into a quiet end."""
    from .terminal import plain

    # click itself takes an output in ASCII for one in UTF-8
    click.echo(plain(line), file=sys.stdout)


def tell(line: str) -> None:
    """Print a line about work that goes on whether it can be printed or not."""
    _unless_gone(sys.stdout, lambda: print_line(line))


def print_record(value: Any) -> None:
    """Print a record as JSON."""
    from .terminal import as_json

    _unless_gone(sys.stdout, lambda: click.echo(as_json(value), file=sys.stdout))


def print_error(message: object, prefix: str = "nwb-extfiles: ", level: int = logging.ERROR) -> None:
    """Print an error or a warning as it is for those who type options."""
    from ..hints import for_command_line
    from .terminal import plain

    logging.getLogger("nwb_extfiles").log(level, message)
    said = f"{prefix}{for_command_line(message)}"
    is_one = getattr(message, "problems", ()) == (message,)  # whose line ends are those of names
    lines = "\n".join(map(plain, [said] if is_one else said.split("\n")))
    _unless_gone(sys.stderr, lambda: click.echo(lines, file=sys.stderr))


def error_record(error: BaseException) -> dict[str, Any]:
    """An error as plain values, with all problems that it reports."""
    from ..errors import ExternalFilesError

    problems = error.problems if isinstance(error, ExternalFilesError) else (error,)
    places = ("nwb_path", "object_path", "field", "index")
    return {
        "type": type(error).__name__,
        "message": _message(error),
        "problems": [
            {
                "type": type(problem).__name__,
                "message": _message(problem),
                **{name: getattr(problem, name, None) for name in places},
            }
            for problem in problems
        ],
    }


def _message(error: BaseException) -> str:
    from ..hints import for_command_line

    return error.format_message() if isinstance(error, click.ClickException) else for_command_line(error)


def log_to(path: Path) -> Callable[[], None]:
    """Append what the logger ``nwb_extfiles`` gets to a file; returns what ends that. Raises OSError."""
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    logger = logging.getLogger("nwb_extfiles")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.info("nwb-extfiles %s", shlex.join(sys.argv[1:]))

    def end() -> None:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()

    return end


class _LogFile(logging.FileHandler):
    """Lines with time and level, spelled for those who type options. A full disk ends no work."""

    def format(self, record: logging.LogRecord) -> str:
        from ..hints import for_command_line

        message = record.getMessage() if record.args else for_command_line(record.msg)
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        return f"{time} {record.levelname} {message}"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


def _unless_gone(stream: TextIO | None, write: Callable[[], object]) -> None:
    """Write to a stream, and no more once that has failed."""
    if stream is None:  # closed when Python began
        return
    try:
        write()
    except (OSError, ValueError):  # the reader is gone, the disk is full; the stream was closed
        if any(stream is own for own in (sys.__stdout__, sys.__stderr__)):
            with open(os.devnull, "wb") as nowhere:  # where what is buffered goes at exit, without an error
                os.dup2(nowhere.fileno(), stream.fileno())


def terminal_width() -> int | None:
    """The width of the terminal that standard output is, in characters; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress(quiet: bool) -> Iterator[tuple[Any, Callable[[str], None]]]:
    """Give a callback for bytes done, and one for the line of each file; on a terminal with a progress bar."""
    if quiet:
        yield False, lambda line: None
    elif not _is_terminal():
        yield False, tell
    else:
        files = 0
        with _bar() as bar:

            def on_bytes(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            def on_file(line: str) -> None:
                nonlocal files
                files += 1
                bar.set_postfix_str(f"{counted(files, 'NWB file')} done")
                with bar.external_write_mode(file=sys.stdout):
                    tell(line)

            yield on_bytes, on_file


@contextmanager
def reading(shown: bool) -> Iterator[Callable[[int], object]]:
    """Give a callback for bytes of videos read; on a terminal with a progress bar."""
    if not (shown and _is_terminal()):
        yield lambda count: None
    else:
        with _bar("videos read") as bar:
            yield bar.update
            bar.refresh()  # short reads too


def _bar(description: str | None = None) -> Any:
    from tqdm import tqdm

    return tqdm(desc=description, unit="B", unit_scale=True, unit_divisor=1000, file=sys.stderr, leave=False)

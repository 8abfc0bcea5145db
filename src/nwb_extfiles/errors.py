"""The exceptions and warnings of this package.

::

    ExternalFilesError          anything this package refuses or fails at
    ├── MissingMediaError       (FileNotFoundError) a reference names no file
    ├── MediaExistsError        (FileExistsError) a target holds something else
    ├── AmbiguousMediaError     (ValueError) several different files fit one reference
    ├── UnsafeReferenceError    (ValueError) a text or id out of the file is not to be followed
    ├── RelocationRefusedError  (ValueError) the call would break a link, or asks for the impossible
    ├── PlanError               (ValueError) problems of several of these kinds at once
    ├── UnreadableFileError     (OSError) an NWB file cannot be opened, or is damaged
    │   └── NoSuchFileError     (FileNotFoundError) a path that the caller named does not exist
    ├── ConfigurationError      (ValueError) a configuration file has what it cannot have
    ├── DestinationBusyError    (OSError) another export to the same NWB file is running
    └── TransferError           (OSError) staging, verifying or committing failed

    ExternalFilesWarning        (UserWarning) done, but worth a look
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from .hints import Hint, Message, Spelling, for_command_line
from .tables import plain

__all__ = [
    "AmbiguousMediaError",
    "ConfigurationError",
    "DestinationBusyError",
    "ExternalFilesError",
    "ExternalFilesWarning",
    "MediaExistsError",
    "MissingMediaError",
    "NoSuchFileError",
    "PlanError",
    "RelocationRefusedError",
    "TransferError",
    "UnreadableFileError",
    "UnsafeReferenceError",
    "combine",
    "no_such_file",
    "numbered",
    "warn",
    "warn_all",
]

T = TypeVar("T")


class ExternalFilesError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, where, what was expected and found.
    hint : str, optional
        What to do, best a `Hint`, which knows the spelling of the command line too.
    nwb_path, object_path, field : str, optional
        The NWB file, the object inside it and the field of the object.
    index : int, optional
        The entry of the field, counted from 0; None for a scalar or for the whole field.
    problems : sequence of ExternalFilesError, optional
        The single problems, where the error reports several at once.

    Attributes
    ----------
    message : Message
        All of it: ``what; hint``.
    what : str
    hint : str or None
    nwb_path, object_path, field : str or None
    index : int or None
    problems : tuple of ExternalFilesError
        Never empty: an error that stands for itself alone lists itself.
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str | None = None,
        nwb_path: str | None = None,
        object_path: str | None = None,
        field: str | None = None,
        index: int | None = None,
        problems: Sequence[ExternalFilesError] = (),
    ) -> None:
        self.message = Message(what, hint)
        super().__init__(self.message)
        self.what = what
        self.hint = hint
        self.nwb_path = nwb_path
        self.object_path = object_path
        self.field = field
        self.index = index
        self.problems: tuple[ExternalFilesError, ...] = tuple(problems) or (self,)

    def __str__(self) -> str:
        return self.message

    @property
    def command_line(self) -> str:
        """The message for those who type options."""
        if self.problems == (self,):
            return self.message.command_line
        head = self.what.partition("\n")[0]
        return f"{head}\n{numbered(self.problems, for_command_line)}"

    def __reduce__(self) -> tuple[Any, ...]:
        problems = () if self.problems == (self,) else self.problems
        fields = dict(
            hint=self.hint,
            nwb_path=self.nwb_path,
            object_path=self.object_path,
            field=self.field,
            index=self.index,
            problems=problems,
        )
        notes = {"__notes__": self.__notes__} if hasattr(self, "__notes__") else None
        return _rebuild, (type(self), self.what, fields), notes


def _rebuild(cls: type[ExternalFilesError], what: str, fields: dict[str, Any]) -> ExternalFilesError:
    return cls(what, **fields)


class MissingMediaError(ExternalFilesError, FileNotFoundError):
    """A reference names a file that is in none of the places where it was looked for."""


class MediaExistsError(ExternalFilesError, FileExistsError):
    """The place where media shall go holds something with other content."""


class AmbiguousMediaError(ExternalFilesError, ValueError):
    """Several different files fit one reference; which one is meant cannot be told."""


class UnsafeReferenceError(ExternalFilesError, ValueError):
    """A text or an object_id stored in an NWB file is not one to be followed."""


class RelocationRefusedError(ExternalFilesError, ValueError):
    """The call would break links that work, or asks for what cannot be done here."""


class PlanError(ExternalFilesError, ValueError):
    """One plan has problems of several kinds; `problems` holds each as its own exception."""


class UnreadableFileError(ExternalFilesError, OSError):
    """An NWB file cannot be opened, or is damaged."""


class NoSuchFileError(UnreadableFileError, FileNotFoundError):
    """A path that the caller named, of an NWB file or of a folder with NWB files, does not exist."""


class ConfigurationError(ExternalFilesError, ValueError):
    """A configuration file is not valid, or has a setting that there is not."""


class DestinationBusyError(ExternalFilesError, OSError):
    """Another process, or another open IO of this one, is writing the same NWB file."""


class TransferError(ExternalFilesError, OSError):
    """Media could not be staged, verified or put in place."""


class ExternalFilesWarning(UserWarning):
    """The call went through, but something about its media deserves a look."""


def no_such_file(path: object, hint: str = "name NWB files, or folders with NWB files") -> NoSuchFileError:
    """The error for a path that a caller named and that does not exist, the same for all functions and commands."""
    return NoSuchFileError(f"{path} does not exist", hint=hint, nwb_path=str(path))


def combine(problems: Sequence[ExternalFilesError]) -> ExternalFilesError:
    """Make one exception of all the problems found, so that none has to be found by a second run.

    Parameters
    ----------
    problems : sequence of ExternalFilesError
        At least one.

    Returns
    -------
    ExternalFilesError
        The problem itself if it is the only one; else an exception of their common type, or a
        `PlanError` where the types differ. It has all `problems`; its text has the first few of each kind.
    """
    if len(problems) == 1:
        return problems[0]
    kinds = {type(problem) for problem in problems}
    cls = kinds.pop() if len(kinds) == 1 else PlanError
    nwb_paths = {problem.nwb_path for problem in problems}
    return cls(
        f"{len(problems):,} problems; nothing was changed:\n{numbered(problems)}",
        nwb_path=nwb_paths.pop() if len(nwb_paths) == 1 else None,
        problems=problems,
    )


def numbered(problems: Sequence[ExternalFilesError], spell: Callable[[object], str] = str) -> str:
    """The messages of problems, numbered, each on lines of its own; of many of one kind the first few.

    What to do about all of one kind is said once, beneath them.
    """
    lines: list[str] = []
    number = 1
    kinds = _by_kind(problems, lambda problem: problem.what)
    for alike in kinds:
        listed = alike if len(alike) <= _FEW + 1 else alike[:_FEW]
        hints = {problem.hint for problem in alike}
        hint = hints.pop() if len(alike) > 1 and len(hints) == 1 else None
        shown = [spell(problem) if hint is None else problem.what for problem in listed]
        lines += [f"  {each}. {plain(message)}" for each, message in enumerate(shown, start=number)]
        if len(alike) > len(listed):
            lines.append(f"  … and {len(alike) - len(listed):,} more of this kind; {spell(_WHERE_ALL_ARE)}")
        if hint is not None:
            of_these = "" if len(kinds) == 1 else f" for {number:,} to {number + len(alike) - 1:,}"
            lines.append(f"  hint{of_these}: {plain(spell(hint))}")
        number += len(alike)
    return "\n".join(lines)


_FEW = 5  # problems, and warnings, of one kind that are given one by one
_WHERE_ALL_ARE = Hint("{problems} all", problems=Spelling("`problems` of this error has", "--json prints"))
_FILE = re.compile(r"^(?:\w:)?[^:]*[/\\][^:]*: ")  # that a message is about
_NAMES_AND_NUMBERS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S*[/\\]\S*|\d[\d,.]*""")


def _by_kind(items: Iterable[T], what: Callable[[T], str]) -> list[list[T]]:
    """Items together that tell the same of different NWB files, entries, paths and numbers, in their order."""
    kinds: dict[str, list[T]] = {}
    for item in items:
        kinds.setdefault(_NAMES_AND_NUMBERS.sub("", _FILE.sub("", what(item))), []).append(item)
    return list(kinds.values())


_logger = logging.getLogger("nwb_extfiles")
_logger.addHandler(logging.NullHandler())  # nothing is printed unless the application says where to

_BETWEEN = {__package__, "contextlib", "hdmf", "hdmf_zarr", "pynwb"}
"""Packages whose calls may stand between this one and its user."""


def warn_all(warnings: Iterable[str]) -> None:
    """Give the warnings of a call over many NWB files; many that tell the same are one, with their number."""
    for alike in _by_kind(warnings, str):
        first = alike[0]
        what, hint = (first.what, first.hint) if isinstance(first, Message) else (first, None)
        if len(alike) > _FEW:
            warn(f"{what} ({len(alike):,} such warnings, of which this is the first)", hint=hint)
        else:
            for warning in alike:
                warn(warning)


def warn(what: str, *, hint: str | None = None) -> None:
    """Give an `ExternalFilesWarning` that points at the line of the user's own code that this package was called from.

    Parameters
    ----------
    what : str
        What is worth a look: the file, the object, what was found. A `Message` may have its hint with it.
    hint : str, optional
        What to do.
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    message = Message(what, hint) if hint else what
    _logger.warning(message)
    warnings.warn(message, ExternalFilesWarning, stacklevel=level)

"""Which of the videos that a plan puts in their places are certainly cut off, by the boxes of their containers."""

from __future__ import annotations

import mimetypes
from dataclasses import replace
from io import DEFAULT_BUFFER_SIZE
from pathlib import Path
from typing import Any

from ..plans.plan import Action, RelocationPlan
from ..plans.plan_checks import once_for_each_series
from .boxes import is_cut_off

__all__ = ["warned_of_cut_off"]

_MOST_READS = 64  # of one file; some ten are enough for all but fragmented MP4, which has two boxes for each second


def warned_of_cut_off(plan: RelocationPlan) -> RelocationPlan:
    """The plan, with a warning for each series that has videos whose containers are longer than their files.

    Only files that get to a new place are looked at, a few reads each; nothing is decoded. What is not certain is not
    warned of.
    """
    placed = (entry for entry in plan.relocations if entry.creates_target and entry.action is not Action.RENAME)
    warnings = once_for_each_series(
        placed,
        lambda file: file.size > 0 and _is_cut_off(file.real),
        lambda file: (
            f"is cut off, or still being written: its header or index promises more than the {file.size:,} bytes that "
            f"are there"
        ),
        "put the whole video in its place, before or after this; `nwb-extfiles check` lists all that are cut off",
    )
    return replace(plan, warnings=(*plan.warnings, *warnings))


def _is_cut_off(path: Path) -> bool:
    """Whether that is certain after a few reads."""
    if (mimetypes.guess_type(path.name.lower())[0] or "").startswith("image/"):
        return False  # a series may have thousands
    try:
        with open(path, "rb", buffering=DEFAULT_BUFFER_SIZE) as stream:  # else Python asks whether it is a terminal
            reader: Any = _FewReads(stream)
            return is_cut_off(reader)
    except OSError:  # it cannot be read, or only by many reads
        return False


class _FewReads:
    """A file that can be read a few times."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._reads = stream, 0
        self.seek = stream.seek

    def read(self, size: int) -> Any:
        """Read as the file does; OSError after the last time."""
        self._reads += 1
        if self._reads > _MOST_READS:
            raise OSError("too many parts")
        return self._stream.read(size)

"""Which media get another container on their way, because the archive does not accept the one that they are in.

What a container is made of, PyAV knows; the plan gets a `Remuxer` that asks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..errors import ExternalFilesError, RelocationRefusedError
from ..hints import Hint, Message, quoted
from ..naming import is_archived
from ..nwb.references import ExternalFileReference
from .resolve import Remux, Resolution

__all__ = ["Remuxer", "is_to_be_remuxed", "with_containers"]


class Remuxer(Protocol):
    """Knows which videos can be remuxed, and which files were made by that."""

    def recipe(self, path: Path, reference: ExternalFileReference) -> Remux:
        """How the video of a reference is remuxed; raises an `ExternalFilesError` if it cannot be."""

    def is_made_of(self, path: Path, source: Path, remux: Remux) -> bool:
        """Whether a file holds what remuxing a source would give."""


def with_containers(resolutions: Sequence[Resolution], remuxer: Remuxer) -> tuple[list[Resolution], list[Message]]:
    """Decide for each reference whether its media are remuxed: those with a suffix that the archive does not accept.

    A field that repeats the media of a series gets what the series gets, whose rate it does not know.

    Returns
    -------
    list of Resolution
        In the same order; with a problem where the media cannot be remuxed.
    list of Message
        Warnings of what new containers do not get.
    """
    decided = list(resolutions)
    of_series: dict[tuple[int, int], Remux] = {}
    warnings: list[Message] = []
    for number in sorted(range(len(decided)), key=lambda number: decided[number].reference.repeats):
        found = resolutions[number]
        reference, file = found.reference, found.file
        try:
            if found.remote is not None and not is_archived(found.remote.suffix):
                raise _behind_url(reference)
            if file is None or not is_to_be_remuxed(found):
                continue
            known = of_series.get(file.identity) if reference.repeats else None
            remux = known or remuxer.recipe(file.real, reference)
        except ExternalFilesError as problem:
            decided[number] = Resolution(reference, problem=problem)
            continue
        of_series.setdefault(file.identity, remux)
        decided[number] = replace(found, suffix=remux.suffix, remux=remux)
        if remux.dropped and known is None:
            what = (
                f"{reference.where}: {quoted(file.path)} has {' and '.join(remux.dropped)}, which {remux.suffix[1:]} "
            )
            warnings.append(Message(f"{what}does not get", "keep the original if you need that"))
    return decided, warnings


def is_to_be_remuxed(found: Resolution) -> bool:
    """Whether media are there, with a suffix that the archive does not accept."""
    if found.file is None:
        return False
    return not is_archived((found.file.path.suffix if found.suffix is None else found.suffix).lower())


def _behind_url(reference: ExternalFileReference) -> ExternalFilesError:
    return RelocationRefusedError(
        f"{reference.where}: {reference.stored_path[:200]!r} is a URL, and only files on this machine are remuxed",
        hint=Hint(
            "download the file, and replace the URL by its path with {path_map}, or leave URLs as they are with "
            "{urls_keep}"
        ),
        **reference.place,
    )

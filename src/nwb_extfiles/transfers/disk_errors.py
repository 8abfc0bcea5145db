"""What a file system refuses, said of the document that it concerns, and with what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..disk.in_use import is_in_use
from ..errors import ExternalFilesError, TransferError
from ..hints import quoted

__all__ = ["explained"]

_REFUSED = {
    errno.EXDEV: (
        "a folder on the way to it is on another file system (a mount point), and nothing is renamed across the two",
        "unmount it, or put the NWB file and its media folder on one file system",
    ),
    errno.EBUSY: ("it is in use, as a mount point or by another program", "unmount it, or close that program"),
    errno.EROFS: ("the file system is read-only", "mount it for writing, or work on a copy elsewhere"),
    errno.EACCES: ("this user may not write there", "make the folder writable, or work on a copy elsewhere"),
    errno.EPERM: (
        "this user may not change it, or it is marked as immutable",
        "make it writable, or work on a copy elsewhere",
    ),
}

_OPEN_ELSEWHERE = "another program has it open", "close it there, and try again"


@contextmanager
def explained(document: Path, *, is_done: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Say of what a file system refuses which file it is, and what to do.

    `is_done` tells whether the new content of the document lasts by then.
    """
    try:
        yield
    except ExternalFilesError:
        raise
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        reason, hint = _REFUSED[error.errno]
        place = error.filename2 or error.filename or document.parent
        for named in (error.filename, error.filename2):
            if isinstance(named, str) and is_in_use(Path(named), goes=True):  # which Windows says as EACCES
                place, (reason, hint) = named, _OPEN_ELSEWHERE
        outcome = "and nothing was changed"
        if is_done():
            outcome = "after all was put in place; only the traces of this run are left"
            hint = f"{hint}; then run `nwb-extfiles recover {document}`"
        failure = TransferError(
            f"{document}: {quoted(os.fsdecode(place))} could not be written ({error.strerror}), {outcome}: {reason}",
            hint=hint,
            nwb_path=str(document),
        )
        failure.errno = error.errno
        for note in getattr(error, "__notes__", ()):
            failure.add_note(note)
        raise failure from error

"""One file of a plan as it gets into the staging folder: by a link of either kind, else by a copy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..disk import contents, filesystem, links
from ..errors import OtherModeError, TransferError
from ..hints import Hint, media_modes
from ..options import MediaMode
from ..plans.media_files import MediaFile

__all__ = ["failed", "link", "link_or_copy", "status_of"]


def status_of(source: MediaFile) -> os.stat_result:
    """A source's status, which must be that of the file that was planned with."""
    status = os.stat(source.real)
    if (status.st_dev, status.st_ino) != source.identity or status.st_size != source.size:
        raise TransferError(
            f"{source.real} is not the file any more that it was when the plan was made", hint="try again"
        )
    return status


def failed(what: str, error: OSError, **place: Any) -> TransferError:
    """The error of a medium that could not be made ready, with the hint of its cause."""
    if isinstance(error, TransferError):
        return TransferError(f"{what}: {error.what}", hint=error.hint, **place)
    return TransferError(f"{what}: {error}", **place)


def link(source: MediaFile, part: Path, target: Path, mode: MediaMode) -> bool:
    """Make a part that is a link to a source, in the way of a mode; False if only a copy is possible.

    Parameters
    ----------
    source : MediaFile
        What it is a link to. OtherModeError if no link of this mode can be made to it.
    part : pathlib.Path
        Does not exist.
    target : pathlib.Path
        The name that it will get: a symbolic link is relative to the folder of that.
    mode : MediaMode
        Of the entry; ``move`` is a hard link until the source goes.
    """
    if mode is MediaMode.SYMLINK:
        _symlink(source.real, part, target)
        return True
    if links.link_exclusive(source.real, part):
        return True
    if mode is MediaMode.HARDLINK:
        raise OtherModeError(
            "no hard link can be made to it: the file system has none, or another user owns the file",
            hint=Hint("use {modes}", modes=media_modes("copy", "symlink", "move", "reference")),
        )
    return False


def link_or_copy(source: Path, part: Path, sync: bool) -> None:
    """Make a part that is another name of a file, or a verified copy of it."""
    if not links.link_exclusive(source, part):
        contents.copy_verified(source, part, sync=sync)


def _symlink(source: Path, part: Path, target: Path) -> None:
    try:
        path = filesystem.relative_path(source, target.parent)
    except ValueError:  # another drive of Windows: only an absolute link leads there
        path = str(source)
    try:
        os.symlink(path, part)
    except OSError as error:
        if getattr(error, "winerror", None) == 1314:
            raise OtherModeError(
                "Windows lets this user make no symbolic links",
                hint=Hint(
                    "turn on developer mode, or use {modes}",
                    modes=media_modes("copy", "hardlink", "move", "reference"),
                ),
            ) from error
        raise
    leads_to = os.path.normpath(os.path.join(os.path.dirname(target), path))
    if leads_to != str(source) and not os.path.samefile(leads_to, source):
        raise TransferError(f"a symbolic link at {target} would not lead to {source}")

"""What `organize` says of a plan without problems: what will not work in the archive, and what stays behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...hints import Hint, Message, media_modes, quoted
from ...naming import is_asset_path, unportable
from ...options import MediaMode
from ...plans.plan import Action, Relocation
from ...plans.stored_paths import is_url
from .plan import OrganizedFile, OrganizeSettings

__all__ = ["remarks"]


def remarks(files: Sequence[OrganizedFile], settings: OrganizeSettings) -> Iterator[str]:
    """Warnings of plans that have no problems, in the order in which they are given.

    Parameters
    ----------
    files : sequence of OrganizedFile
        All files of the call.
    settings : OrganizeSettings
        What the caller asks for.
    """
    entries = [entry for file in files for entry in file.plan.relocations]
    if files and settings.update_paths and all(entry.source is None and entry.remote is None for entry in entries):
        found = (
            "the NWB files have only URLs and paths of missing files, which stay as they are"
            if entries
            else "no external file in any of the NWB files"
        )
        yield f"there are no paths of media to update: {found}"
    yield from _outside(files, settings.dandiset_path)
    yield from _refused_urls(entries)
    yield from _refused_paths(files, settings.dandiset_path)
    if settings.files_mode == "copy":
        yield from _left_without_media(files)


def _left_without_media(files: Iterable[OrganizedFile]) -> Iterator[str]:
    behind = sum(
        file.plan.mode is MediaMode.MOVE
        and any(file.plan.removes_name(entry) and entry.action is not Action.REUSE for entry in file.plan.relocations)
        for file in files
    )
    if behind:
        yield Message(
            f"{behind} NWB files stay behind with references to media that move",
            Hint("delete them when the new ones are good, or use {files_mode_move}"),
        )


def _outside(files: Iterable[OrganizedFile], dandiset_path: Path) -> Iterator[str]:
    """Media that stay where they are, outside the dandiset."""
    media = {
        entry.source.real
        for file in files
        if file.plan.mode is MediaMode.REFERENCE
        for entry in file.plan.relocations
        if entry.source is not None and not entry.source.real.is_relative_to(dandiset_path)
    }
    if media:
        yield Message(
            f"{len(media)} media files stay outside the dandiset, such as {min(media)}, so `dandi upload` does not "
            f"upload them, and the paths to them do not work in the archive",
            Hint("use {other} for a dandiset that is uploaded", other=media_modes("copy", "symlink")),
        )


def _refused_urls(entries: Iterable[Relocation]) -> Iterator[str]:
    """URLs that the checks of ``dandi upload`` refuse: those of an `ImageSeries`, but not of an `ExternalImage`."""
    refused = [
        entry.reference
        for entry in entries
        if entry.action is Action.KEEP
        and is_url(entry.reference.stored_path)
        and entry.reference.field == "external_file"
        and entry.reference.neurodata_type != "ExternalImage"
    ]
    if refused:
        first = refused[0]
        yield Message(
            f"`dandi upload` refuses NWB files with URLs in external_file, and {len(refused)} "
            f"{'is a URL' if len(refused) == 1 else 'are URLs'}, such as {quoted(first.stored_path)} ({first.where})",
            Hint("download the videos with {urls_download}"),
        )


def _refused_paths(files: Iterable[OrganizedFile], dandiset_path: Path) -> Iterator[str]:
    """Paths in the dandiset that the archive refuses, or that other systems do not have."""
    for file in files:
        path = file.target.relative_to(dandiset_path)
        reason = next(filter(None, map(unportable, path.parts)), None)
        if not is_asset_path(path.as_posix()):
            yield Message(
                f"{file.source}: the archive refuses files with the path {path.as_posix()!r}, because it accepts only "
                f"ASCII letters, digits and some punctuation",
                "change the subject_id or session_id of the NWB file that the path is made of",
            )
        elif reason is not None:
            yield f"{file.source}: its place {path.as_posix()!r} is not possible on every system: {reason}"

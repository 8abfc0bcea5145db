"""The command ``recover``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from ..errors import ExternalFilesError, no_such_file, warn
from ..hints import counted
from .options import LocalPath, nwb_files_in
from .output import print_error, print_record, tell

__all__ = ["recover"]


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=LocalPath())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON which NWB files were restored.")
@click.pass_context
def recover(ctx: click.Context, /, paths: tuple[Path, ...], as_json: bool) -> None:
    """Restore NWB files that an interrupted run has left inconsistent.

    PATHS are NWB files, or folders to search for NWB files. The next `relocate` or `organize` of such a file also
    restores it first.
    """
    from ..nwb.files import find_nwb_files, walk_nwb_files
    from ..tasks.named_files import is_plain_folder
    from ..transfers.interrupted import NO_DOCUMENT, is_interrupted
    from ..transfers.recovery import recover as restore
    from ..transfers.removals import put_back_noted
    from .terminal import shown

    for path in paths:
        # a Zarr store may have no name before it is restored
        if not path.exists() and not is_interrupted(Path(os.path.realpath(path))):
            raise click.BadParameter(str(no_such_file(path)))
    seen, restored = 0, list[str]()
    problems: list[ExternalFilesError] = []
    for path in paths:
        if path.is_dir():
            put_back_noted(path, also_below=True)
        named = list(find_nwb_files([path])) if path.exists() else [path]
        # files of other suffixes are edited if a user names them, and an interrupted run leaves them like all others
        is_folder = is_plain_folder(path)
        others = walk_nwb_files(Path(os.path.abspath(path))) if is_folder else ()
        for found in dict.fromkeys([*named, *others]):
            if restore(Path(os.path.realpath(found)), thoroughly=True):
                restored.append(str(found))
                if not as_json:
                    tell(f"{shown(found)}: restored")
            elif not is_folder and (problem := _why_unreadable(found)):
                problems.append(problem)
                continue
            seen += 1
    left = [each for path in paths for each in _left_below(path)]
    for folder, hint in left:
        warn(f"{folder}: {NO_DOCUMENT}", hint=hint)
    if not seen and not left and not problems:
        nwb_files_in(paths, (), ())  # refuses folders in which there are none
    if as_json:
        print_record({"restored": restored, "nwb_files": seen})
    elif not restored and seen:
        tell(f"nothing to restore in {counted(seen, 'NWB file')}")
    for problem in problems:
        print_error(problem)
    ctx.exit(1 if problems else 0)


def _why_unreadable(path: Path) -> ExternalFilesError | None:
    """Why a file that a user names is no NWB file, or cannot be opened; None if it can."""
    from ..nwb.files import open_nwb
    from ..tasks.named_files import require_nwb

    try:
        with open_nwb(path) as file:
            require_nwb(file, path)
    except ExternalFilesError as problem:
        return problem
    return None


def _left_below(path: Path) -> Iterator[tuple[Path, str]]:
    """What interrupted runs have left in a folder and below it, without the NWB file, and what to do about it."""
    from ..plans.targets import STAGING_PREFIX
    from ..transfers.interrupted import without_document

    for place, folders, _ in os.walk(os.path.abspath(path)):
        if any(name.startswith(STAGING_PREFIX) for name in folders):
            yield from without_document(Path(place))
        folders[:] = sorted(name for name in folders if not name.startswith("."))

"""The command ``recover``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .options import LocalPath
from .output import print_record, tell

__all__ = ["recover"]


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=LocalPath())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON which NWB files were restored.")
def recover(paths: tuple[Path, ...], as_json: bool) -> None:
    """Restore NWB files that an interrupted run has left inconsistent.

    PATHS are NWB files, or folders to search for NWB files. The next `relocate` or `organize` of such a file also
    restores it first.
    """
    from ..errors import no_such_file
    from ..nwb.files import find_nwb_files, walk_nwb_files, zarr_marker
    from ..transfers.recovery import recover as restore
    from ..transfers.removals import put_back_noted
    from .summaries import counted
    from .terminal import shown

    seen, restored = 0, list[str]()
    for path in paths:
        if path.is_dir():
            put_back_noted(path, also_below=True)
        # a Zarr store may have no name before it is restored
        named = list(find_nwb_files([path])) if path.exists() else [path]
        # files of other suffixes are edited if a user names them, and an interrupted run leaves them like all others
        is_folder = path.is_dir() and zarr_marker(path) is None
        others = walk_nwb_files(Path(os.path.abspath(path))) if is_folder else ()
        for found in dict.fromkeys([*named, *others]):
            seen += 1
            if restore(Path(os.path.realpath(found)), thoroughly=True):
                restored.append(str(found))
                if not as_json:
                    tell(f"{shown(found)}: restored")
            elif not found.exists():
                raise no_such_file(path, hint="there is nothing to restore it from")
    if as_json:
        print_record({"restored": restored, "nwb_files": seen})
    elif not restored:
        tell(f"nothing to restore in {counted(seen, 'NWB file')}")

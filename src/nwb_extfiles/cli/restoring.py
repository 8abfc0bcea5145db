"""The command ``restore``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .options import (
    ExistingPath,
    globs_options,
    jobs_option,
    make_options,
    media_mode,
    media_options,
    nwb_files_in,
    quiet_or_json,
)
from .output import print_record, progress, tell, terminal_width

__all__ = ["restore"]


@click.command()
@click.argument("path", metavar="PATH", type=ExistingPath())
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@media_mode("copy", "Link or copy videos and images there; with reference, only their paths change.", without="move")
@jobs_option("Copy this many NWB files, with their media, at the same time.")
@globs_options
@media_options
def restore(
    path: Path,
    folder: Path,
    media_mode: Any,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    **chosen: Any,
) -> None:
    """Give videos their original names back.

    PATH is an NWB file with a manifest, such as one from the archive. It is copied to DIR, with its videos under their
    original names. PATH and its videos do not change. If PATH is a folder, each NWB file in it gets a folder of its own
    in DIR; to go on after an interruption, run the same with --existing skip.
    """
    from ..tasks.named_files import is_plain_folder
    from ..tasks.restoring import restore_files
    from .summaries import in_words
    from .terminal import outcome_lines, relocation_record, shown

    dry_run = chosen["dry_run"]
    is_folder = is_plain_folder(path)
    with progress(quiet_or_json(chosen)) as (on_bytes, print_line):
        found = nwb_files_in((path,), include, exclude) if is_folder else ()
        below = {each: folder / each.relative_to(os.path.abspath(path)).with_suffix("") for each in found}
        plans = restore_files(
            below if is_folder else {path: folder},
            media_mode,
            media_options=make_options(chosen, on_bytes),
            dry_run=dry_run,
            jobs=jobs,
            on_file=lambda plan: print_line(f"{shown(plan.nwb_path)}: {in_words([plan])}"),
        )
    if chosen["as_json"]:
        records = [relocation_record(plan) for plan in plans]
        print_record(records if is_folder else next(iter(records), None))
    elif dry_run or not chosen["quiet"]:
        for line in outcome_lines(plans, dry_run=dry_run, width=terminal_width()):
            tell(line)

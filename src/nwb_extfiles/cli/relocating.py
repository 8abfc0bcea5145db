"""The command ``relocate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    ExistingPath,
    configuration,
    fitting,
    globs_options,
    jobs_option,
    make_options,
    media_mode,
    media_options,
    quiet_or_json,
    remux,
)
from .output import print_record, progress, tell, terminal_width

__all__ = ["relocate"]


@click.command()
@click.argument(
    "paths", metavar="PATHS...", nargs=-1, required=True, type=ExistingPath()
)  # fmt: skip
@media_mode(None, "Link, copy or move videos and images there; with reference, only their paths change.")
@click.option(
    "--repair", is_flag=True,
    help="Search for missing and wrong videos by their content, in the media folder and with --search DIR elsewhere.",
)  # fmt: skip
@jobs_option("Copy the media of this many NWB files at the same time.")
@globs_options
@remux
@media_options
def relocate(
    paths: tuple[Path, ...],
    media_mode: Any,
    repair: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    **chosen: Any,
) -> None:
    """Copy, link or move videos and images beside their NWB files.

    PATHS are NWB files, or folders to search for NWB files. The videos of x.nwb go into the folder x/ beside it, where
    DANDI expects them. The NWB files stay where they are; only the paths in them change. If an NWB file was renamed,
    the folder of its videos is renamed too. Everything is checked before anything is changed.
    """
    from .summaries import in_words, links_line, urls_line

    media_mode = media_mode or configuration().media_mode
    from ..tasks.relocating import relocate_files
    from .terminal import outcome_lines, relocation_record, shown

    with progress(quiet_or_json(chosen)) as (on_bytes, print_line):
        plans = relocate_files(
            fitting(paths, include, exclude),
            media_mode,
            media_options=make_options(chosen, on_bytes),
            dry_run=chosen["dry_run"],
            repair=repair,
            jobs=jobs,
            on_file=lambda plan: print_line(f"{shown(plan.nwb_path)}: {in_words([plan])}"),
        )
    if chosen["as_json"]:
        print_record([relocation_record(plan) for plan in plans])
        return
    if chosen["dry_run"] or not chosen["quiet"]:
        for line in outcome_lines(plans, dry_run=chosen["dry_run"], width=terminal_width()):
            tell(line)
    if not chosen["quiet"]:
        for line in urls_line(sum(plan.url_count for plan in plans)):
            tell(line)
        for line in links_line(plans) if media_mode is None else ():
            tell(line)

"""The command ``restore``."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import click

from ..errors import ExternalFilesWarning
from .options import ExistingPath, globs_options, make_options, media_mode, media_options, nwb_files_in, quiet_or_json
from .output import print_record, progress, tell

__all__ = ["restore"]


@click.command()
@click.argument("path", metavar="PATH", type=ExistingPath())
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@media_mode("copy", "Link or copy videos and images there; with reference, only their paths change.", without="move")
@globs_options
@media_options
def restore(
    path: Path, folder: Path, media_mode: Any, include: tuple[str, ...], exclude: tuple[str, ...], **chosen: Any
) -> None:
    """Give videos their original names back.

    PATH is an NWB file with a manifest, such as one from the archive. It is copied to DIR, with its videos under their
    original names. PATH and its videos do not change. If PATH is a folder, each NWB file in it gets a folder of its own
    in DIR.
    """
    from ..tasks.named_files import is_plain_folder
    from ..tasks.restoring import restore as carry_out
    from .summaries import in_words
    from .terminal import DRY_RUN, relocation_lines, relocation_record, shown

    targets = {path: folder}
    if is_plain_folder(path):
        found = nwb_files_in((path,), include, exclude)
        targets = {each: folder / each.relative_to(os.path.abspath(path)).with_suffix("") for each in found}
    with progress(quiet_or_json(chosen)) as (on_bytes, print_line):
        options = make_options(chosen, on_bytes)
        if len(targets) > 1 and not chosen["dry_run"]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExternalFilesWarning)  # given once more when it is done
                for each, target in targets.items():  # none is restored before all are known to be possible
                    carry_out(each, target, media_mode, media_options=options, dry_run=True)
        plans = []
        for each, target in targets.items():
            plan = carry_out(each, target, media_mode, media_options=options, dry_run=chosen["dry_run"])
            print_line(f"{shown(plan.nwb_path)}: {in_words([plan])}")
            plans.append(plan)
    if chosen["as_json"]:
        records = [relocation_record(plan) for plan in plans]
        print_record(records if is_plain_folder(path) else records[0])
    elif chosen["dry_run"]:
        for plan in plans:
            for line in relocation_lines(plan):
                tell(line)
        tell(f"{DRY_RUN}{in_words(plans)}")

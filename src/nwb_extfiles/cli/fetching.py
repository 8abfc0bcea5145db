"""The command ``fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import ExistingPath, fitting, globs_options, jobs_option, media_field, quiet_or_json
from .output import print_line, print_record, progress, tell

__all__ = ["fetch"]


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=ExistingPath())
@click.option(
    "--from", "source", metavar="URL",
    help="The dandiset that the NWB files are from, or the NWB file itself: dandi://dandi/000123@draft/sub-a/a.nwb, or "
    "its page in the archive.  [default: the dandiset.yaml above the files]",
)  # fmt: skip
@click.option(
    "--object", "objects", metavar="GLOB", multiple=True,
    help="Only media of objects whose path, as `nwb-extfiles ls` shows it, fits. May be repeated.",
)  # fmt: skip
@click.option(
    "--media", metavar="GLOB", multiple=True, help="Only media whose path or name fits, as in '*.mp4'. May be repeated."
)
@media_field
@globs_options
@jobs_option("Download this many files at the same time.")
@click.option("--dry-run", is_flag=True, help="Show what would be downloaded, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was downloaded as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
def fetch(
    paths: tuple[Path, ...],
    source: str | None,
    objects: tuple[str, ...],
    media: tuple[str, ...],
    media_fields: Any,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    **chosen: Any,
) -> None:
    """Download videos of NWB files from DANDI.

    PATHS are NWB files that were downloaded without their videos, or folders to search for such. The videos come from
    the same version of the same dandiset, verified by the archive's checksums, and put where the NWB files expect them.
    Nothing that exists is replaced. If a run is interrupted, run it again.
    """
    from ..options import MediaOptions
    from ..tasks.fetching import fetch_media
    from .terminal import shown

    with progress(quiet_or_json(chosen)) as (on_bytes, _):
        found = fetch_media(
            fitting(paths, include, exclude),
            source,
            objects=objects,
            media=media,
            media_options=MediaOptions(media_fields=media_fields, progress=on_bytes),
            dry_run=chosen["dry_run"],
            jobs=jobs,
        )
    if chosen["as_json"]:
        print_record([one.record for one in found])
    elif not chosen["quiet"]:
        for one in found:
            print_line(f"{one.state}: {shown(one.target)} ({one.size:,} bytes)")
        tell(found.summary)

"""The command ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import ExistingPath, fitting, globs_options, jobs_option, media_field
from .output import print_line, print_record, progress

__all__ = ["report"]


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=ExistingPath())
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The page. With --json it is written only if it is named.  [default: report.html]",
)  # fmt: skip
@click.option(
    "--existing", type=click.Choice(["error", "replace"]), default="error", show_default=True,
    help="If the page exists already: stop, or replace it.",
)  # fmt: skip
@click.option(
    "--frames", type=click.Choice(["index", "packets", "decode", "none"]),
    help="Count the frames of videos by the index in them (quick), by reading them, by decoding them (slow; finds "
    "damage). With none, videos are not opened, and there are no thumbnails.  [default: index, if PyAV is installed]",
)  # fmt: skip
@media_field
@globs_options
@jobs_option("Number of processes.")
@click.option("--json", "as_json", is_flag=True, help="Print what the page shows as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
def report(
    paths: tuple[Path, ...],
    output: Path | None,
    existing: str,
    frames: Any,
    media_fields: Any,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a web page on NWB files and their media.

    PATHS are NWB files, or folders to search for NWB files. The page shows what is wrong, and each series with its
    videos: thumbnails, lengths, and frames against timestamps. It has no scripts and needs no network; videos are
    linked from it, not copied. For thumbnails, install PyAV.
    """
    from ..tasks.report.reporting import reported
    from .terminal import shown

    page = output or (None if as_json else Path("report.html"))
    with progress(quiet or as_json) as (on_bytes, _):
        options = {"existing": existing, "media_fields": media_fields, "progress": on_bytes}
        found = reported(fitting(paths, include, exclude), page, frames=frames, media_options=options, jobs=jobs)
    if as_json:
        from .report_record import report_record

        print_record(report_record(found))
    elif page is not None and not quiet:
        print_line(f"report: {shown(page)}")
        print_line(found.findings.summary)

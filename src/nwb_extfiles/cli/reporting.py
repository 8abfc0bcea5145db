"""The command ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import ExistingPath, media_field
from .output import print_line, progress

__all__ = ["report"]


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=ExistingPath())
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html", show_default=True,
    help="The page.",
)  # fmt: skip
@click.option(
    "--existing", type=click.Choice(["error", "replace"]), default="error", show_default=True,
    help="If the page exists already: stop, or replace it.",
)  # fmt: skip
@media_field
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
def report(paths: tuple[Path, ...], output: Path, existing: str, media_fields: Any, quiet: bool) -> None:
    """Write a web page on NWB files and their media.

    PATHS are NWB files, or folders to search for NWB files. The page shows what is wrong, and each series with its
    videos: thumbnails, lengths, and frames against timestamps. It has no scripts and needs no network; videos are
    linked from it, not copied. For thumbnails, install PyAV.
    """
    from ..tasks.reporting import report as write_report
    from .terminal import shown

    with progress(quiet) as (on_bytes, _):
        options = {"existing": existing, "media_fields": media_fields, "progress": on_bytes}
        page = write_report(paths, output, media_options=options)
    if not quiet:
        print_line(f"report: {shown(page)}")

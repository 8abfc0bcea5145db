"""The command ``check``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import ExistingPath, ReportFile, configuration, fitting, globs_options, jobs_option, media_field
from .output import print_line, print_record, reading, terminal_width

if TYPE_CHECKING:
    from ..tasks.check.findings import Findings

__all__ = ["check"]


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=ExistingPath())
@click.option("--checksums", is_flag=True, help="Also read the videos, and compare them with the manifest.")
@click.option(
    "--frames", type=click.Choice(["index", "packets", "decode", "none"]),
    help="Count the frames of videos by the index in them (quick), by reading them, by decoding them (slow; finds "
    "damage), or not at all.  [default: index, if PyAV is installed]",
)  # fmt: skip
@click.option(
    "--search", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True,
    help="With --checksums: search this folder for missing and wrong videos. May be repeated.",
)  # fmt: skip
@media_field
@globs_options
@click.option(
    "--select",
    metavar="CODE",
    multiple=True,
    help="Show only findings whose code is CODE, or begins with it: media- selects all that begin so. May be repeated.",
)
@click.option(
    "--ignore",
    metavar="CODE",
    multiple=True,
    help="Leave out findings whose code is CODE, or begins with it. May be repeated.",
)
@click.option(
    "--severity",
    type=click.Choice(["error", "warning", "info"]),
    help="Show only findings that are at least this severe; if there are any, the exit code is 1.  [default: all are "
    "shown, and errors make the exit code 1]",
)
@click.option(
    "--report-file",
    type=ReportFile(),
    metavar="FILE",
    help="Also write the findings to this file: JSON if it ends in .json, text if it ends in .txt. An older one is "
    "replaced.",
)
@jobs_option("Number of processes.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def check(
    ctx: click.Context,
    paths: tuple[Path, ...],
    checksums: bool,
    frames: Any,
    search: tuple[Path, ...],
    media_fields: Any,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    severity: str | None,
    report_file: Path | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Check the media of NWB files: their paths, and their frames.

    PATHS are NWB files, or folders to search for NWB files. Changes nothing.

    \b
    ERROR    a path is broken, or will be in the archive, or a video lacks
             frames; the exit code is 1
    WARNING  a path works here but may not elsewhere, or videos have no NWB file
    INFO     worth knowing

    In a dandiset (a folder with dandiset.yaml), paths that the archive cannot use are errors, not warnings. What is
    left out by --select, --ignore and --severity does not change the exit code.
    """  # noqa: D301
    from ..tasks.check.checks import check as find_problems
    from ..tasks.check.findings import Severity, require_codes
    from .check_report import write_report
    from .terminal import finding_record

    if search and not checksums:
        raise click.UsageError("--search is used with --checksums only, which compares videos with the manifest")
    try:
        require_codes((*select, *ignore))  # before a long check begins
    except ValueError as error:
        raise click.UsageError(f"--select and --ignore: {error}") from error
    paths = fitting(paths, include, exclude)
    options = {"media_fields": media_fields, "search": search or configuration().options.get("search", ())}
    with reading(checksums or frames in ("packets", "decode")) as on_bytes:
        found = find_problems(
            paths, checksums=checksums, frames=frames, media_options=options, on_bytes=on_bytes, jobs=jobs
        )
    findings = found.filtered(select=select, ignore=ignore, severity=Severity(severity or Severity.INFO))
    if as_json:
        print_record([finding_record(finding) for finding in findings])
    else:
        _print_findings(findings)
    if report_file is not None:
        write_report(report_file, findings)
    fatal = Severity(severity or Severity.ERROR)
    ctx.exit(1 if any(finding.severity.is_at_least(fatal) for finding in findings) else 0)


def _print_findings(findings: Findings) -> None:
    """Print findings, in colours on a terminal (not with NO_COLOR, see no-color.org), then how many there are."""
    from .check_report import finding_lines

    colours = False if os.environ.get("NO_COLOR") else None
    for line in finding_lines(findings, width=terminal_width(), style=click.style):
        click.echo(line, file=sys.stdout, color=colours)
    if findings:
        print_line("")
    print_line(findings.summary)

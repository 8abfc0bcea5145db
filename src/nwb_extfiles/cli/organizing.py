"""The command ``organize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    ExistingPath,
    configuration,
    globs_options,
    jobs_option,
    make_options,
    media_mode,
    media_options,
    quiet_or_json,
    remux,
)
from .output import print_record, progress, tell, terminal_width

if TYPE_CHECKING:
    from ..tasks.organize.plan import OrganizedFile

__all__ = ["organize"]


@click.command()
@click.argument("paths", metavar="[PATHS]...", nargs=-1, type=ExistingPath())
@click.option(
    "-d", "--dandiset-path", type=click.Path(file_okay=False, path_type=Path),
    help="Root of the dandiset; created if it does not exist.  [default: the one around the working directory]",
)  # fmt: skip
@click.option(
    "-f", "--files-mode", type=click.Choice(["copy", "move"]), default="copy", show_default=True,
    help="Copy or move the NWB files.",
)  # fmt: skip
@media_mode(None, "Link, copy or move videos and images into the dandiset; with reference, only their paths change.")
@click.option(
    "--update-external-file-paths/--keep-external-file-paths", "update", default=True, show_default=True,
    help="Organize videos too, and update their paths. With --keep-…, NWB files with videos are refused.",
)  # fmt: skip
@click.option(
    "--invalid", type=click.Choice(["fail", "warn"]), default="fail", show_default=True,
    help="If an NWB file cannot be read or named: stop, or leave it out with a warning.",
)  # fmt: skip
@click.option(
    "--required-field", "required_fields", multiple=True,
    help="Put this field into the name of each file that has it, as `dandi organize` does. May be repeated.",
)  # fmt: skip
@jobs_option("Number of processes.")
@globs_options
@remux
@media_options
def organize(
    paths: tuple[Path, ...],
    dandiset_path: Path | None,
    files_mode: Any,
    media_mode: Any,
    update: bool,
    invalid: Any,
    required_fields: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    **chosen: Any,
) -> None:
    """Copy or move NWB files and their media into a dandiset.

    PATHS are NWB files, or folders to search for NWB files. DANDI's rules name the NWB files and their videos.
    Everything is checked before anything is changed. If a run is interrupted, run it again. Without PATHS,
    --files-mode move renames the files of the dandiset itself.
    """
    if media_mode is not None and not update:
        raise click.UsageError("--media-mode cannot be used with --keep-external-file-paths; leave one of the two out")
    if not paths and files_mode != "move":
        raise click.UsageError("name NWB files or folders; to rename the files of a dandiset, use --files-mode move")
    from .summaries import in_words, links_line, organized_in_words, urls_line, without_dandiset_yaml, without_session

    media_mode = media_mode or (configuration().media_mode if update else None)
    from ..tasks.organize.organizing import organize as carry_out
    from .terminal import organize_lines, organize_record, shown

    with progress(quiet_or_json(chosen)) as (on_bytes, print_line):

        def on_file(file: OrganizedFile) -> None:
            done = "already there" if file.is_done else in_words([file.plan])
            print_line(f"{shown(file.source)} -> {shown(file.target)}: {done}")

        plan = carry_out(
            paths,
            dandiset_path,
            files_mode=files_mode,
            media_mode=media_mode,
            update_external_file_paths=update,
            invalid=invalid,
            required_fields=required_fields,
            include=include,
            exclude=exclude,
            media_options=make_options(chosen, on_bytes),
            jobs=jobs,
            dry_run=chosen["dry_run"],
            on_file=on_file,
        )
    if chosen["as_json"]:
        print_record(organize_record(plan))
    elif chosen["dry_run"]:
        for line in organize_lines(plan, terminal_width()):
            tell(line)
    elif not chosen["quiet"]:
        tell(f"{shown(plan.dandiset_path)}: {organized_in_words(plan)}")
        for line in (*urls_line(plan.url_count), *without_dandiset_yaml(plan), *without_session(plan)):
            tell(line)
    if media_mode is None and not (chosen["quiet"] or chosen["as_json"]):
        for line in links_line(file.plan for file in plan):
            tell(line)

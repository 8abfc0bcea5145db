"""The command line: makes calls of options, and messages and exit codes of errors.

Each command imports what is slow to import when it is used, so that ``--help`` comes at once.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from . import __version__
from .cli_options import (
    WANTS_JSON,
    ExistingPath,
    LocalPath,
    ReportFile,
    add_common_options,
    configuration,
    fitting,
    globs_options,
    make_options,
    media_field,
    media_mode,
    media_options,
    nwb_files_in,
    quiet_or_json,
    remux,
)
from .cli_output import error_record, escape_what_cannot_be_encoded, print_record, tell
from .cli_output import print_error as _print_error
from .cli_output import print_line as _print
from .cli_output import progress as _progress
from .cli_output import reading as _reading
from .errors import ExternalFilesError, ExternalFilesWarning

if TYPE_CHECKING:
    from .plans.locate import ResolvedExternalFile
    from .tasks.findings import Findings
    from .tasks.organize_plan import OrganizedFile

__all__ = ["main"]


class _Commands(click.Group):
    """A group whose commands end with exit code 1 and a message if this package refuses or fails."""

    def main(self, *args: Any, **options: Any) -> Any:
        # Python collects garbage at exit in all that was imported, dandi above all: a tenth of the time of `organize`.
        atexit.unregister(gc.freeze)  # once, however often this is called in one process
        atexit.register(gc.freeze)
        escape_what_cannot_be_encoded()
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ExternalFilesWarning)
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise  # `nwb-extfiles ls | head`, of which click knows
            except (ExternalFilesError, OSError) as error:
                _print_error(error)
                for note in getattr(error, "__notes__", ()):
                    _print_error(note)
                if ctx.meta.get(WANTS_JSON):
                    print_record({"error": error_record(error)})
                ctx.exit(1)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        add_common_options(cmd)
        super().add_command(cmd, name)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    if issubclass(category, ExternalFilesWarning):
        _print_error(message, "nwb-extfiles: warning: ", logging.DEBUG)  # `warn` has logged it


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nwb-extfiles")
def main() -> None:
    """Keep external videos and images with their NWB files.

    An NWB file refers to its videos by their paths, which break when it is renamed, moved or published. `check` finds
    broken paths, and `report` shows all on a web page. `relocate` puts the videos beside the NWB file, `organize` puts
    NWB files and videos into a dandiset, `restore` gives videos their original names back. The last three have
    --dry-run.
    """


# ------------------------------------------------------------------- commands


@main.command()
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
@click.option("-J", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes.")
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
    from .summaries import in_words, links_line, organized_in_words, urls_line, without_dandiset_yaml

    media_mode = media_mode or (configuration().media_mode if update else None)
    from .tasks.organizing import organize as carry_out
    from .terminal import organize_lines, organize_record, shown

    with _progress(quiet_or_json(chosen)) as (on_bytes, print_line):

        def on_file(file: OrganizedFile) -> None:
            done = "already there" if file.is_done else in_words([file.plan])
            print_line(f"{shown(file.source)} -> {shown(file.target)} ({done})")

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
        for line in organize_lines(plan):
            tell(line)
    elif not chosen["quiet"]:
        tell(f"{shown(plan.dandiset_path)}: {organized_in_words(plan)}")
        for line in (*urls_line(plan.url_count), *without_dandiset_yaml(plan)):
            tell(line)
    if media_mode is None and not (chosen["quiet"] or chosen["as_json"]):
        for line in links_line(file.plan for file in plan):
            tell(line)


@main.command()
@click.argument(
    "paths", metavar="PATHS...", nargs=-1, required=True, type=ExistingPath()
)  # fmt: skip
@media_mode(None, "Link, copy or move videos and images there; with reference, only their paths change.")
@click.option(
    "--repair", is_flag=True,
    help="Search for missing and wrong videos by their content, in the media folder and with --search DIR elsewhere.",
)  # fmt: skip
@globs_options
@remux
@media_options
def relocate(
    paths: tuple[Path, ...],
    media_mode: Any,
    repair: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    **chosen: Any,
) -> None:
    """Copy, link or move videos and images beside their NWB files.

    PATHS are NWB files, or folders to search for NWB files. The videos of x.nwb go into the folder x/ beside it, where
    DANDI expects them. The NWB files stay where they are; only the paths in them change. If an NWB file was renamed,
    the folder of its videos is renamed too. Everything is checked before anything is changed.
    """
    from .summaries import in_words, links_line, urls_line

    media_mode = media_mode or configuration().media_mode
    from .tasks.relocating import relocate_files
    from .terminal import DRY_RUN, relocation_lines, relocation_record, shown

    with _progress(quiet_or_json(chosen)) as (on_bytes, print_line):
        plans = relocate_files(
            fitting(paths, include, exclude),
            media_mode,
            media_options=make_options(chosen, on_bytes),
            dry_run=chosen["dry_run"],
            repair=repair,
            on_file=lambda plan: print_line(f"{shown(plan.nwb_path)}: {in_words([plan])}"),
        )
    if chosen["as_json"]:
        print_record([relocation_record(plan) for plan in plans])
        return
    if chosen["dry_run"]:
        for plan in plans:
            for line in relocation_lines(plan):
                tell(line)
        tell(f"{DRY_RUN}{in_words(plans)}")
    if not chosen["quiet"]:
        for line in urls_line(sum(plan.url_count for plan in plans)):
            tell(line)
        for line in links_line(plans) if media_mode is None else ():
            tell(line)


@main.command()
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
@click.option("-J", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes.")
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
    ERROR    a path is broken, or will be in the archive, or a video lacks frames; the exit code is 1
    WARNING  a path works here but may not elsewhere, or videos have no NWB file
    INFO     worth knowing

    In a dandiset (a folder with dandiset.yaml), paths that the archive cannot use are errors, not warnings. What is
    left out by --select, --ignore and --severity does not change the exit code.
    """  # noqa: D301
    from .check_report import write_report
    from .tasks.checks import check as find_problems
    from .tasks.findings import Severity, require_codes
    from .terminal import finding_record

    if search and not checksums:
        raise click.UsageError("--search is used with --checksums only, which compares videos with the manifest")
    try:
        require_codes((*select, *ignore))  # before a long check begins
    except ValueError as error:
        raise click.UsageError(f"--select and --ignore: {error}") from error
    paths = fitting(paths, include, exclude)
    options = {"media_fields": media_fields, "search": search or configuration().options.get("search", ())}
    with _reading(checksums or frames in ("packets", "decode")) as on_bytes:
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

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    colours = False if os.environ.get("NO_COLOR") else None
    for line in finding_lines(findings, width=width, style=click.style):
        click.echo(line, file=sys.stdout, color=colours)
    if findings:
        _print("")
    _print(findings.summary)


@main.command()
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
    from .tasks.reporting import report as write_report
    from .terminal import shown

    with _progress(quiet) as (on_bytes, _):
        options = {"existing": existing, "media_fields": media_fields, "progress": on_bytes}
        page = write_report(paths, output, media_options=options)
    if not quiet:
        _print(f"report: {shown(page)}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@main.command()
@click.argument("paths", metavar="[PATHS]...", nargs=-1, type=LocalPath())
@click.option("--media", is_flag=True, help="List the NWB files that refer to videos.")
@click.option(
    "--by-checksum", is_flag=True,
    help="With --media: find videos by the checksums in the manifests of NWB files, whatever their names.",
)  # fmt: skip
@media_field
@globs_options
@click.option("-J", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes.")
@click.option("--json", "as_json", is_flag=True, help="Print the references as JSON.")
@click.pass_context
def ls(
    ctx: click.Context,
    paths: tuple[Path, ...],
    media: bool,
    by_checksum: bool,
    media_fields: Any,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    as_json: bool,
) -> None:
    """List the media that NWB files refer to.

    PATHS are NWB files, or folders to search for NWB files; by default the working directory. Changes nothing.

    With --media, PATHS also name videos, and the NWB files that refer to them are listed. A video that no longer exists
    is found by its name.

    \b
    nwb-extfiles ls session.nwb
    nwb-extfiles ls --media video.avi dandiset
    """  # noqa: D301
    from .naming import ARCHIVED_SUFFIXES
    from .nwb.files import NWB_SUFFIX
    from .terminal import reference_record

    media = media or by_checksum
    videos = [path for path in paths if path.suffix.lower() in ARCHIVED_SUFFIXES]
    if videos and not media:
        words = " ".join(shlex.quote(str(path)) for path in paths)
        raise click.UsageError(
            f"{videos[0]} is no NWB file; to list the NWB files that refer to it: nwb-extfiles ls --media {words}"
        )
    videos = [path for path in paths if media and not path.is_dir() and path.suffix != NWB_SUFFIX]
    places = [path for path in paths if path not in videos] or [Path()]
    if media and not videos:
        raise click.UsageError("--media needs a video: nwb-extfiles ls --media VIDEO... [PATHS]...")
    for path in places:
        ExistingPath().convert(path, None, ctx)
    places = list(fitting(tuple(places), include, exclude))
    problems: list[ExternalFilesError] = []
    unsearched: list[Path] = []
    found = list(_references(videos, places, by_checksum, media_fields, problems, unsearched, jobs))
    if as_json:
        records = [reference_record(entry) | ({"media": str(video)} if video else {}) for video, entry in found]
        print_record(records)
    elif found or not problems:
        _list(videos, found, len(unsearched) if by_checksum else None)
    for problem in problems:
        _print_error(problem)
    ctx.exit(1 if problems else 0)


def _references(
    videos: list[Path],
    places: list[Path],
    by_checksum: bool,
    media_fields: Any,
    problems: list[ExternalFilesError],
    unsearched: list[Path],
    jobs: int,
) -> Iterator[tuple[Path | None, ResolvedExternalFile]]:
    """What each NWB file refers to; one that cannot be read is a problem, and the others are listed.

    With `by_checksum`, those without a manifest are `unsearched`.
    """
    from .batch import each, workers
    from .tasks.named_files import named_nwb_files

    paths = list(named_nwb_files(places, problems))
    job = partial(_references_of, videos=videos, by_checksum=by_checksum, media_fields=media_fields)
    with workers(min(jobs, len(paths) or 1), None) as pool:
        for number, result in sorted(each(job, paths, pool), key=lambda numbered: numbered[0]):
            if isinstance(result, BaseException):
                raise result
            references, problems_of_one, is_searched = result
            problems += problems_of_one
            unsearched += [] if is_searched else [paths[number]]
            yield from references


def _references_of(
    path: Path, *, videos: list[Path], by_checksum: bool, media_fields: Any
) -> tuple[list[tuple[Path | None, ResolvedExternalFile]], list[ExternalFilesError], bool]:
    """What one NWB file refers to, what is wrong with it, and whether it was searched; also for other processes."""
    from .tasks.external_files import find_referring_files, has_manifest, resolve_external_files

    options = {"media_fields": media_fields}
    found: list[tuple[Path | None, ResolvedExternalFile]] = []
    problems: list[ExternalFilesError] = []
    is_searched = True
    try:
        if videos:
            is_searched = not by_checksum or has_manifest(path)
            found += find_referring_files(videos, [path], by_checksum=by_checksum, media_options=options)
        else:
            found += [(None, entry) for entry in resolve_external_files(path, options, problems=problems)]
    except ExternalFilesError as problem:
        problems.append(problem)
    return found, problems, is_searched


def _list(
    videos: list[Path], found: list[tuple[Path | None, ResolvedExternalFile]], without_manifest: int | None
) -> None:
    """Print references; `without_manifest` NWB files were not searched for a checksum, None if it was for paths."""
    from .terminal import reference_lines, shown

    last = None
    for video, entry in found:
        path = shown(entry.reference.nwb_path)
        head = path if video is None else f"{video} in {path}"
        if head != last:
            _print(head)
            last = head
        for line in reference_lines(entry):
            _print(line)
    if videos:
        for video in videos:
            if all(other != video for other, _ in found):
                _print(_not_found(video, without_manifest))
        return
    if not found:
        _print("no NWB file here refers to external files")
        return
    missing = sum(entry.problem is not None for _, entry in found)
    urls = sum(entry.kind == "url" for _, entry in found)
    kinds = ((len(found) - missing - urls, "found"), (missing, "missing"), (urls, "URL" if urls == 1 else "URLs"))
    listed = ", ".join(f"{count} {kind}" for count, kind in kinds if count)
    files = len({entry.reference.nwb_path for _, entry in found})
    _print(f"{_count(len(found), 'reference')} in {_count(files, 'NWB file')}: {listed}")


def _not_found(video: Path, without_manifest: int | None) -> str:
    if without_manifest is None:
        gone = "" if os.path.lexists(video) else ", or has a missing file of that name"
        return f"no NWB file here refers to {video}{gone}"
    if not without_manifest:
        return f"no manifest here names {video}"
    have, were = ("has", "was") if without_manifest == 1 else ("have", "were")
    unsearched = f"{_count(without_manifest, 'NWB file')} {have} no manifest and {were} not searched"
    return f"no manifest here names {video}; {unsearched} (leave out --by-checksum)"


@main.command()
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
    from .summaries import in_words
    from .tasks.named_files import is_plain_folder
    from .tasks.restoring import restore as carry_out
    from .terminal import DRY_RUN, relocation_lines, relocation_record, shown

    targets = {path: folder}
    if is_plain_folder(path):
        found = nwb_files_in((path,), include, exclude)
        targets = {each: folder / each.relative_to(os.path.abspath(path)).with_suffix("") for each in found}
    with _progress(quiet_or_json(chosen)) as (on_bytes, print_line):
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


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@media_mode("copy", "Link, copy or move the videos into the dandiset; with reference, only their paths change.")
def demo(folder: Path, media_mode: Any) -> None:
    """Make an example in DIR, and export it.

    Exports two NWB files with two videos each into DIR/dandiset. Shows the folder before and after, and that each path
    in the new NWB files points to its video. DIR must be new or empty.
    """
    from .demo import run_demo

    def say(text: str) -> None:
        for line in text.split("\n"):
            tell(line)

    run_demo(folder, media_mode, say)


@main.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=LocalPath())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON which NWB files were restored.")
def recover(paths: tuple[Path, ...], as_json: bool) -> None:
    """Restore NWB files that an interrupted run has left inconsistent.

    PATHS are NWB files, or folders to search for NWB files. The next `relocate` or `organize` of such a file also
    restores it first.
    """
    from .errors import no_such_file
    from .nwb.files import find_nwb_files, walk_nwb_files, zarr_marker
    from .summaries import counted
    from .terminal import shown
    from .transfers.recovery import recover as restore
    from .transfers.removals import put_back_noted

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

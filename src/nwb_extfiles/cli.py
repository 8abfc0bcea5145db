"""The command line: makes calls of options, and messages and exit codes of errors.

Each command imports what is slow to import when it is used, so that ``--help`` comes at once.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from . import __version__
from .cli_options import (
    ExistingPath,
    LocalPath,
    ReportFile,
    make_options,
    media_field,
    media_mode,
    media_options,
    quiet_or_json,
    remux,
)
from .errors import ExternalFilesError, ExternalFilesWarning
from .options import MediaMode

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
        _escape_what_cannot_be_encoded()
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
                ctx.exit(1)


def _escape_what_cannot_be_encoded() -> None:
    """Write characters as escapes that an output cannot encode: Python writes cp1252 to the pipes of Windows."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().replace("-", "").startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


def _print_error(message: object, prefix: str = "nwb-extfiles: ") -> None:
    from .hints import for_command_line
    from .terminal import plain

    lines = f"{prefix}{for_command_line(message)}".split("\n")
    click.echo("\n".join(map(plain, lines)), err=True)


def _print(line: str) -> None:
    from .terminal import plain

    click.echo(plain(line))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    if issubclass(category, ExternalFilesWarning):
        _print_error(message, "nwb-extfiles: warning: ")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nwb-extfiles")
def main() -> None:
    """Keep external videos and images with their NWB files.

    An NWB file refers to its videos by their paths, which break when it is renamed, moved or published. `check` finds
    broken paths, `relocate` puts the videos beside the NWB file, `organize` puts NWB files and videos into a dandiset,
    `restore` gives videos their original names back. The last three have --dry-run.
    """


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Any, Callable[[str], None]]]:
    """Give a callback for bytes done, and one for the line of each file; on a terminal with a progress bar."""
    if quiet:
        yield False, lambda line: None
    elif not sys.stderr.isatty():
        yield False, _print
    else:
        from tqdm import tqdm

        from .terminal import plain

        files = 0
        with tqdm(unit="B", unit_scale=True, unit_divisor=1000, file=sys.stderr, leave=False) as bar:

            def on_bytes(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            def on_file(line: str) -> None:
                nonlocal files
                files += 1
                bar.set_postfix_str(f"{files} NWB {'file' if files == 1 else 'files'} done")
                bar.write(plain(line), file=sys.stdout)

            yield on_bytes, on_file


@contextmanager
def _reading(shown: bool) -> Iterator[Callable[[int], object]]:
    """Give a callback for bytes of videos read; on a terminal with a progress bar."""
    if not (shown and sys.stderr.isatty()):
        yield lambda count: None
    else:
        from tqdm import tqdm

        with tqdm(
            desc="videos read", unit="B", unit_scale=True, unit_divisor=1000, file=sys.stderr, leave=False
        ) as bar:
            yield bar.update
            bar.refresh()  # short reads too


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
@media_mode(
    None,
    "Link, copy or move videos and images into the dandiset; with reference, only their paths change."
    "  [default: symlink]",
)
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
@remux
@media_options
def organize(
    paths: tuple[Path, ...],
    dandiset_path: Path | None,
    files_mode: Any,
    media_mode: str | None,
    update: bool,
    invalid: Any,
    required_fields: tuple[str, ...],
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
    from .tasks.organizing import organize as carry_out
    from .terminal import as_json, organize_lines, organize_record, shown, urls_line

    with _progress(quiet_or_json(chosen)) as (on_bytes, print_line):

        def on_file(file: OrganizedFile) -> None:
            done = "there already" if file.is_done else f"{file.plan.media_count} media, {file.total_bytes:,} bytes"
            print_line(f"{shown(file.source)} -> {shown(file.target)} ({done})")

        plan = carry_out(
            paths,
            dandiset_path,
            files_mode=files_mode,
            media_mode=media_mode,
            update_external_file_paths=update,
            invalid=invalid,
            required_fields=required_fields,
            media_options=make_options(chosen, on_bytes),
            jobs=jobs,
            dry_run=chosen["dry_run"],
            on_file=on_file,
        )
    if chosen["as_json"]:
        click.echo(as_json(organize_record(plan)))
    elif chosen["dry_run"]:
        for line in organize_lines(plan):
            _print(line)
    elif not chosen["quiet"]:
        are = "is" if len(plan) == 1 else "are"
        _print(f"{_count(len(plan), 'NWB file')} with {plan.media_count} media {are} in {plan.dandiset_path}")
        for line in urls_line(plan.url_count):
            _print(line)


@main.command()
@click.argument(
    "nwb_paths", metavar="FILE...", nargs=-1, required=True, type=ExistingPath()
)  # fmt: skip
@media_mode("symlink", "Link, copy or move videos and images there; with reference, only their paths change.")
@click.option(
    "--repair", is_flag=True,
    help="Search for missing and wrong videos by their content, in the media folder and with --search DIR elsewhere.",
)  # fmt: skip
@remux
@media_options
def relocate(nwb_paths: tuple[Path, ...], media_mode: str, repair: bool, **chosen: Any) -> None:
    """Copy, link or move videos and images beside their NWB files.

    The videos of x.nwb go into the folder x/ beside it, where DANDI expects them. The NWB files stay where they are;
    only the paths in them change. If an NWB file was renamed, the folder of its videos is renamed too. Everything is
    checked before anything is changed.
    """
    from .tasks.relocating import relocate_files
    from .terminal import as_json, media_summary, relocation_lines, relocation_record, shown, urls_line

    with _progress(quiet_or_json(chosen)) as (on_bytes, print_line):
        plans = relocate_files(
            nwb_paths,
            media_mode,
            media_options=make_options(chosen, on_bytes),
            dry_run=chosen["dry_run"],
            repair=repair,
            on_file=lambda plan: print_line(f"{shown(plan.nwb_path)}: {media_summary(plan)}"),
        )
    if chosen["as_json"]:
        click.echo(as_json([relocation_record(plan) for plan in plans]))
        return
    if chosen["dry_run"]:
        for plan in plans:
            for line in relocation_lines(plan):
                _print(line)
        if len(plans) > 1:
            _print(f"all {len(plans)} NWB files: {sum(plan.media_bytes for plan in plans):,} bytes")
    if not chosen["quiet"]:
        for line in urls_line(sum(plan.url_count for plan in plans)):
            _print(line)


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
    from .tasks.findings import Severity
    from .terminal import as_json as to_json
    from .terminal import finding_record

    options = {"media_fields": media_fields, "search": search}
    with _reading(checksums or frames in ("packets", "decode")) as on_bytes:
        found = find_problems(
            paths, checksums=checksums, frames=frames, media_options=options, on_bytes=on_bytes, jobs=jobs
        )
    findings = found.filtered(select=select, ignore=ignore, severity=Severity(severity or Severity.INFO))
    if as_json:
        click.echo(to_json([finding_record(finding) for finding in findings]))
    else:
        _print_findings(findings, len(found) - len(findings))
    if report_file is not None:
        write_report(report_file, findings)
    fatal = Severity(severity or Severity.ERROR)
    ctx.exit(1 if any(finding.severity.is_at_least(fatal) for finding in findings) else 0)


def _print_findings(findings: Findings, left_out: int) -> None:
    """Print findings, in colours on a terminal (not with NO_COLOR, see no-color.org), then how many there are."""
    from .check_report import finding_lines

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    colours = False if os.environ.get("NO_COLOR") else None
    for line in finding_lines(findings, width=width, style=click.style):
        click.echo(line, color=colours)
    if findings:
        click.echo()
    _print(findings.summary + (f" ({_count(left_out, 'finding')} left out)" if left_out else ""))


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
@click.option("--json", "as_json", is_flag=True, help="Print the references as JSON.")
@click.pass_context
def ls(
    ctx: click.Context, paths: tuple[Path, ...], media: bool, by_checksum: bool, media_fields: Any, as_json: bool
) -> None:
    """List the media that NWB files refer to.

    PATHS are NWB files, or folders to search for NWB files; by default the working directory. Changes nothing.

    With --media, PATHS also name videos, and the NWB files that refer to them are listed. A video that no longer exists
    is found by its name.

    \b
    nwb-extfiles ls session.nwb
    nwb-extfiles ls --media video.avi dandiset
    """  # noqa: D301
    from .nwb.files import NWB_SUFFIX
    from .terminal import as_json as to_json
    from .terminal import reference_record

    media = media or by_checksum
    videos = [path for path in paths if media and not path.is_dir() and path.suffix != NWB_SUFFIX]
    places = [path for path in paths if path not in videos] or [Path()]
    if media and not videos:
        raise click.UsageError("--media needs a video: nwb-extfiles ls --media VIDEO... [PATHS]...")
    for path in places:
        ExistingPath().convert(path, None, ctx)
    problems: list[ExternalFilesError] = []
    found = list(_references(videos, places, by_checksum, media_fields, problems))
    if as_json:
        records = [reference_record(entry) | ({"media": str(video)} if video else {}) for video, entry in found]
        click.echo(to_json(records))
    elif found or not problems:
        _list(videos, found)
    for problem in problems:
        _print_error(problem)
    ctx.exit(1 if problems else 0)


def _references(
    videos: list[Path], places: list[Path], by_checksum: bool, media_fields: Any, problems: list[ExternalFilesError]
) -> Iterator[tuple[Path | None, ResolvedExternalFile]]:
    """What each NWB file refers to; one that cannot be read is a problem, and the others are listed."""
    from .tasks.external_files import find_referring_files, resolve_external_files
    from .tasks.named_files import named_nwb_files

    options = {"media_fields": media_fields}
    for path in named_nwb_files(places, problems):
        try:
            if videos:
                yield from find_referring_files(videos, [path], by_checksum=by_checksum, media_options=options)
            else:
                for entry in resolve_external_files(path, options, problems=problems):
                    yield None, entry
        except ExternalFilesError as problem:
            problems.append(problem)


def _list(videos: list[Path], found: list[tuple[Path | None, ResolvedExternalFile]]) -> None:
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
                gone = "" if os.path.lexists(video) else ", or has a missing file of that name"
                _print(f"no NWB file here refers to {video}{gone}")
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


@main.command()
@click.argument("nwb_path", metavar="FILE", type=ExistingPath())
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@media_mode("copy", "Link or copy videos and images there; with reference, only their paths change.", without="move")
@media_options
def restore(nwb_path: Path, folder: Path, media_mode: str, **chosen: Any) -> None:
    """Give videos their original names back.

    FILE is an NWB file with a manifest, such as one from the archive. It is copied to DIR, with its videos under their
    original names. FILE and its videos do not change.
    """
    from .tasks.restoring import restore as carry_out
    from .terminal import as_json, media_summary, relocation_lines, relocation_record, shown

    with _progress(quiet_or_json(chosen)) as (on_bytes, print_line):
        plan = carry_out(
            nwb_path, folder, media_mode, media_options=make_options(chosen, on_bytes), dry_run=chosen["dry_run"]
        )
        print_line(f"{shown(plan.nwb_path)}: {media_summary(plan)}")
    if chosen["as_json"]:
        click.echo(as_json(relocation_record(plan)))
    elif chosen["dry_run"]:
        for line in relocation_lines(plan):
            _print(line)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@media_mode("copy", "Link, copy or move the videos into the dandiset; with reference, only their paths change.")
def demo(folder: Path, media_mode: str) -> None:
    """Make an example in DIR, and export it.

    Exports two NWB files with two videos each into DIR/dandiset. Shows the folder before and after, and that each path
    in the new NWB files points to its video. DIR must be new or empty.
    """
    from .demo import run_demo

    run_demo(folder, MediaMode(media_mode), click.echo)


@main.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=LocalPath())
def recover(paths: tuple[Path, ...]) -> None:
    """Restore NWB files that an interrupted run has left inconsistent.

    PATHS are NWB files, or folders to search for NWB files. The next `relocate` or `organize` of such a file also
    restores it first.
    """
    from .nwb.files import find_nwb_files, walk_nwb_files, zarr_marker
    from .terminal import shown
    from .transfers.recovery import recover as restore
    from .transfers.removals import put_back_noted

    for path in paths:
        if path.is_dir():
            put_back_noted(path, also_below=True)
        # a Zarr store may have no name before it is restored
        named = list(find_nwb_files([path])) if path.exists() else [path]
        # files of other suffixes are edited if a user names them, and an interrupted run leaves them like all others
        is_folder = path.is_dir() and zarr_marker(path) is None
        others = walk_nwb_files(Path(os.path.abspath(path))) if is_folder else ()
        for found in dict.fromkeys([*named, *others]):
            restored = restore(Path(os.path.realpath(found)), thoroughly=True)
            if not found.exists():
                raise FileNotFoundError(f"{path} does not exist, and there is nothing to restore it from")
            if restored or found in named:
                _print(f"{shown(found)}: {'restored' if restored else 'nothing to restore'}")

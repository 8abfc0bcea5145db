"""The command line: translates words into calls, and errors into messages and exit codes.

What is slow to import is imported by the command that uses it, so that ``--help`` comes at once.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from . import __version__
from .disk.annex import how_to_get, is_annex_pointer
from .errors import ExternalFilesError, ExternalFilesWarning
from .options import MediaMode, MediaOptions

if TYPE_CHECKING:
    from .plans.locate import ResolvedExternalFile
    from .tasks.dandiset import OrganizedFile

__all__ = ["main"]

F = TypeVar("F", bound=Callable[..., Any])


class _Commands(click.Group):
    """A group whose commands end with exit code 1 and one message where this package refuses or fails."""

    def main(self, *args: Any, **options: Any) -> Any:
        # Python's last act is to look for garbage in all that was imported, dandi above all: a tenth of `organize`.
        atexit.unregister(gc.freeze)  # once, however often this is called in one process
        atexit.register(gc.freeze)
        _spell_what_cannot_be_spelled()
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
                _complain(error)
                for note in getattr(error, "__notes__", ()):
                    _complain(note)
                ctx.exit(1)


def _spell_what_cannot_be_spelled() -> None:
    """Let output that has no letter for a character spell it out: Python writes cp1252 to the pipes of Windows."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().replace("-", "").startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


def _complain(message: object, prefix: str = "nwb-extfiles: ") -> None:
    from .terminal import in_options, plain

    lines = f"{prefix}{in_options(message)}".split("\n")
    click.echo("\n".join(map(plain, lines)), err=True)


def _say(line: str) -> None:
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
        _complain(message, "nwb-extfiles: warning: ")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nwb-extfiles")
def main() -> None:
    """NWB files that take their videos and images along.

    An NWB file names its videos by their paths, which break when it is renamed, moved or published. `check` finds such
    breaks, `relocate` mends them where the file is, `organize` brings files and videos into a dandiset, `restore` gives
    them their old names back. The last three have --dry-run.
    """


# -------------------------------------------------------------------- options


class _ExistingPath(click.Path):
    """A path that leads to something; of a file of git-annex whose content is not here, the message says so."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.path.exists(value) and is_annex_pointer(Path(value)):
            self.fail(
                f"{click.format_filename(value)} is a file of git-annex, whose content is not on this machine; "
                f"{how_to_get(Path(value))}",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


_media_field = click.option(
    "--media-field", "media_fields", nargs=2, metavar="TYPE FIELD", multiple=True,
    help="A further neurodata type and its field that hold paths. May be repeated.",
)  # fmt: skip


def _media_options(function: F) -> F:
    """Give a command the options from which `_options` makes a `MediaOptions`."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    for option in reversed(
        (
            click.option(
                "--search", type=folder, multiple=True,
                help="A folder in which to look for videos that are not where the NWB file says. May be repeated.",
            ),
            click.option(
                "--search-for", type=(str, folder), metavar="OBJECT FOLDER", multiple=True,
                help="The same for one object, as `nwb-extfiles ls` names it, or for those that fit a pattern with "
                "'*'. May be repeated.",
            ),
            click.option(
                "--path-map", metavar="OLD=NEW", multiple=True,
                help=r"Read NEW in place of OLD at the beginning of a path: D:\videos=/mnt/videos. May be repeated.",
            ),
            click.option(
                "--path-map-for", type=(str, str, str), metavar="OBJECT OLD NEW", multiple=True,
                help="The same for one object, or for those that fit a pattern with '*'. May be repeated.",
            ),
            click.option(
                "--within", type=folder, multiple=True,
                help="Take media from this folder only. May be repeated.",
            ),
            click.option(
                "--missing", type=click.Choice(["error", "keep"]), default="error", show_default=True,
                help="What to do where a video is not found: refuse, or keep the path as it is.",
            ),
            click.option(
                "--existing", type=click.Choice(["error", "replace"]), default="error", show_default=True,
                help="What to do where something else stands at the new place.",
            ),
            _media_field,
            click.option(
                "--urls", type=click.Choice(["keep", "download"]), default="keep", show_default=True,
                help="What to do with videos behind URLs: leave them there, or fetch them to their place.",
            ),
            click.option(
                "--manifest", is_flag=True,
                help="Record the videos in the NWB file: their original names, sizes and checksums.",
            ),
            click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing."),
            click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON."),
            click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


_MEDIA_MODES = click.Choice([mode.value for mode in MediaMode])


def _options(chosen: dict[str, Any], progress: Any) -> MediaOptions:
    mapped = dict[str, str]()
    for pair in chosen["path_map"]:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise click.UsageError(f"--path-map takes OLD=NEW, not {pair!r}")
        mapped[old] = new
    kept = {
        name: chosen[name] for name in ("search", "within", "missing", "existing", "media_fields", "manifest", "urls")
    }
    folders: dict[str, list[Path]] = {}
    for pattern, folder in chosen["search_for"]:
        folders.setdefault(pattern, []).append(folder)
    prefixes: dict[str, dict[str, str]] = {}
    for pattern, old, new in chosen["path_map_for"]:
        prefixes.setdefault(pattern, {})[old] = new
    of_objects: dict[str, Any] = {"search_for": folders, "path_map_for": prefixes}
    return MediaOptions(path_map=mapped, progress=progress, **of_objects, **kept)


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Any, Callable[[str], None]]]:
    """Give what shows the bytes done, and what tells of each file: a bar on a terminal, lines elsewhere."""
    if quiet:
        yield False, lambda line: None
    elif not sys.stderr.isatty():
        yield False, _say
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
def _reading(shown: bool) -> Iterator[tuple[Callable[[int], object], Callable[[str], None]]]:
    """Give what counts the bytes of videos that are read, and what prints a line; a bar on a terminal, if any."""
    if not (shown and sys.stderr.isatty()):
        yield lambda count: None, _say
    else:
        from tqdm import tqdm

        from .terminal import plain

        with tqdm(
            desc="videos read", unit="B", unit_scale=True, unit_divisor=1000, file=sys.stderr, leave=False
        ) as bar:
            yield bar.update, lambda line: bar.write(plain(line), file=sys.stdout)


# ------------------------------------------------------------------- commands


@main.command()
@click.argument("paths", metavar="[PATHS]...", nargs=-1, type=_ExistingPath())
@click.option(
    "-d", "--dandiset-path", type=click.Path(file_okay=False, path_type=Path),
    help="Root of the dandiset; made if it is missing.  [default: the one around the working directory]",
)  # fmt: skip
@click.option(
    "-f", "--files-mode", type=click.Choice(["copy", "move"]), default="copy", show_default=True,
    help="What happens to the NWB files.",
)  # fmt: skip
@click.option(
    "--media-mode", "--media-files-mode", "media_mode", type=_MEDIA_MODES,
    help="How videos and images get into the dandiset.  [default: symlink]",
)  # fmt: skip
@click.option(
    "--update-external-file-paths/--keep-external-file-paths", "update", default=True, show_default=True,
    help="Whether videos are organized too and their paths updated. If not, NWB files with videos are refused.",
)  # fmt: skip
@click.option(
    "--invalid", type=click.Choice(["fail", "warn"]), default="fail", show_default=True,
    help="What to do with NWB files that cannot be read or named: refuse, or leave them out.",
)  # fmt: skip
@click.option(
    "--required-field", "required_fields", multiple=True,
    help="A field to have in the names of all files that have it, as in `dandi organize`. May be repeated.",
)  # fmt: skip
@click.option("-J", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes.")
@_media_options
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
    """Bring NWB files and their media into a dandiset.

    PATHS are NWB files, and folders in which to look for such. They get the names that DANDI gives them, their videos
    the places where DANDI looks for them. Everything is checked before anything is touched, and a run that was stopped
    can be repeated. Without PATHS, and with --files-mode move, the files of the dandiset itself are renamed.
    """
    if media_mode is not None and not update:
        raise click.UsageError(
            "--media-mode says how videos get into the dandiset, and --keep-external-file-paths that none do"
        )
    if not paths and files_mode != "move":
        raise click.UsageError("name NWB files or folders; inside a dandiset files can be renamed by --files-mode move")
    from .tasks.organizing import organize as carry_out
    from .terminal import as_json, organize_lines, organize_record

    with _progress(chosen["quiet"] or chosen["dry_run"] or chosen["as_json"]) as (on_bytes, tell):

        def on_file(file: OrganizedFile) -> None:
            done = (
                "there already" if file.is_done else f"{len(file.plan.relocations)} media, {file.total_bytes:,} bytes"
            )
            tell(f"{file.source} -> {file.target} ({done})")

        plan = carry_out(
            paths,
            dandiset_path,
            files_mode=files_mode,
            media_mode=media_mode,
            update_external_file_paths=update,
            invalid=invalid,
            required_fields=required_fields,
            media_options=_options(chosen, on_bytes),
            jobs=jobs,
            dry_run=chosen["dry_run"],
            on_file=on_file,
        )
    if chosen["as_json"]:
        click.echo(as_json(organize_record(plan)))
    elif chosen["dry_run"]:
        for line in organize_lines(plan):
            _say(line)
    elif not chosen["quiet"]:
        are = "is" if len(plan) == 1 else "are"
        _say(f"{_count(len(plan), 'NWB file')} with {plan.media_count} media {are} in {plan.dandiset_path}")


@main.command()
@click.argument(
    "nwb_paths", metavar="FILE...", nargs=-1, required=True, type=_ExistingPath()
)  # fmt: skip
@click.option(
    "--media-mode", "--media-files-mode", "media_mode", type=_MEDIA_MODES, default="symlink", show_default=True,
    help="How videos and images get to their place.",
)  # fmt: skip
@click.option(
    "--repair", is_flag=True,
    help="Look for videos that are missing, or not those of the manifest, by their content (with --search DIR).",
)  # fmt: skip
@_media_options
def relocate(nwb_paths: tuple[Path, ...], media_mode: str, repair: bool, **chosen: Any) -> None:
    """Bring the media of NWB files to where DANDI wants them.

    That is a folder beside each NWB file with its name: x.nwb has its videos in x/. The NWB files stay where they are;
    only the paths in them change, in place. After an NWB file was renamed, its videos follow to the folder of its new
    name. Everything is checked before anything is touched.
    """
    from .tasks.relocating import relocate_files
    from .terminal import as_json, media_summary, relocation_lines, relocation_record, shown

    with _progress(chosen["quiet"] or chosen["dry_run"] or chosen["as_json"]) as (on_bytes, tell):
        plans = relocate_files(
            nwb_paths,
            media_mode,
            media_options=_options(chosen, on_bytes),
            dry_run=chosen["dry_run"],
            repair=repair,
            on_file=lambda plan: tell(f"{shown(plan.nwb_path)}: {media_summary(plan)}"),
        )
    if chosen["as_json"]:
        click.echo(as_json([relocation_record(plan) for plan in plans]))
    elif chosen["dry_run"]:
        for plan in plans:
            for line in relocation_lines(plan):
                _say(line)
        if len(plans) > 1:
            _say(f"all {len(plans)} NWB files: {sum(plan.media_bytes for plan in plans):,} bytes")


@main.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=_ExistingPath())
@click.option("--checksums", is_flag=True, help="Read the videos too, and compare them with the manifest.")
@click.option(
    "--search", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True,
    help="With --checksums: a folder in which to look for videos that are not in their place. May be repeated.",
)  # fmt: skip
@_media_field
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def check(
    ctx: click.Context,
    paths: tuple[Path, ...],
    checksums: bool,
    search: tuple[Path, ...],
    media_fields: Any,
    as_json: bool,
) -> None:
    """Check the paths of media in NWB files.

    PATHS are NWB files, and folders in which to look for such. Changes nothing.

    \b
    ERROR    a path is broken, or will be in the archive; the exit code is 1
    WARNING  it works here, and may not elsewhere; or videos that no NWB file names
    INFO     worth knowing

    In a dandiset, which is a folder with dandiset.yaml, more is an error than elsewhere.
    """  # noqa: D301
    from .nwb.files import find_nwb_files
    from .tasks.checks import check as find_problems
    from .tasks.findings import Severity
    from .terminal import as_json as to_json
    from .terminal import finding_lines, finding_record, shown

    counts = dict.fromkeys(Severity, 0)
    findings, last = [], None
    options = {"media_fields": media_fields, "search": search}
    with _reading(checksums) as (on_bytes, tell):
        for finding in find_problems(paths, checksums=checksums, media_options=options, on_bytes=on_bytes):
            counts[finding.severity] += 1
            if as_json:
                findings.append(finding_record(finding))
                continue
            if finding.nwb_path != last:
                last = finding.nwb_path
                tell(shown(last))
            for line in finding_lines(finding):
                tell(line)
    if as_json:
        click.echo(to_json(findings))
    else:
        names = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "remark"}
        told = ", ".join(_count(count, names[severity]) for severity, count in counts.items() if count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExternalFilesWarning)  # `check` has warned
            number = sum(1 for _ in find_nwb_files(paths))
        _say(f"{_count(number, 'NWB file')}: {told or 'no problems found'}")
    ctx.exit(1 if counts[Severity.ERROR] else 0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@main.command()
@click.argument("paths", metavar="[PATHS]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--media", is_flag=True, help="Tell which NWB files refer to videos, instead of the other way round.")
@click.option(
    "--by-checksum", is_flag=True,
    help="With --media: find videos by their content in the manifests of NWB files, whatever they are called.",
)  # fmt: skip
@_media_field
@click.option("--json", "as_json", is_flag=True, help="Print the references as JSON.")
@click.pass_context
def ls(
    ctx: click.Context, paths: tuple[Path, ...], media: bool, by_checksum: bool, media_fields: Any, as_json: bool
) -> None:
    """List the media that NWB files refer to.

    PATHS are NWB files, and folders in which to look for such; the working directory, if none is named. Changes
    nothing.

    With --media it goes the other way round: PATHS name videos too, and the NWB files that refer to them are listed.
    Of a video that is lost, its name is enough.

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
        _ExistingPath().convert(path, None, ctx)
    problems: list[ExternalFilesError] = []
    found = list(_references(videos, places, by_checksum, media_fields, problems))
    if as_json:
        records = [reference_record(entry) | ({"media": str(video)} if video else {}) for video, entry in found]
        click.echo(to_json(records))
    else:
        _list(videos, found)
    for problem in problems:
        _complain(problem)
    ctx.exit(1 if problems else 0)


def _references(
    videos: list[Path], places: list[Path], by_checksum: bool, media_fields: Any, problems: list[ExternalFilesError]
) -> Iterator[tuple[Path | None, ResolvedExternalFile]]:
    """What each NWB file refers to; of one that cannot be read there is a problem, and the others are listed."""
    from .nwb.files import find_nwb_files
    from .tasks.external_files import find_referring_files, resolve_external_files

    options = {"media_fields": media_fields}
    for path in find_nwb_files(places):
        try:
            if videos:
                yield from find_referring_files(videos, [path], by_checksum=by_checksum, media_options=options)
            else:
                for entry in resolve_external_files(path, media_options=options, problems=problems):
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
            _say(head)
            last = head
        for line in reference_lines(entry):
            _say(line)
    if videos:
        for video in videos:
            if all(other != video for other, _ in found):
                _say(f"no NWB file here refers to {video}")
        return
    if not found:  # it counts the files that have some
        _say("no NWB file here refers to external files")
        return
    missing = sum(entry.problem is not None for _, entry in found)
    urls = sum(entry.kind == "url" for _, entry in found)
    kinds = ((len(found) - missing - urls, "found"), (missing, "missing"), (urls, "URL" if urls == 1 else "URLs"))
    told = ", ".join(f"{count} {kind}" for count, kind in kinds if count)
    files = len({entry.reference.nwb_path for _, entry in found})
    _say(f"{_count(len(found), 'reference')} in {_count(files, 'NWB file')}" + (f": {told}" if told else ""))


@main.command()
@click.argument("nwb_path", metavar="FILE", type=_ExistingPath())
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--media-mode", type=click.Choice([mode.value for mode in MediaMode if mode is not MediaMode.MOVE]),
    default=MediaMode.COPY.value, show_default=True, help="How videos and images get there.",
)  # fmt: skip
@_media_options
def restore(nwb_path: Path, folder: Path, media_mode: str, **chosen: Any) -> None:
    """Give videos their original names back.

    For an NWB file with a manifest, such as one from the archive. DIR gets a copy of it, and its videos under the names
    that they had before; FILE and its videos stay as they are.
    """
    from .tasks.restoring import restore as carry_out
    from .terminal import as_json, media_summary, relocation_lines, relocation_record, shown

    with _progress(chosen["quiet"] or chosen["dry_run"] or chosen["as_json"]) as (on_bytes, tell):
        plan = carry_out(
            nwb_path, folder, media_mode, media_options=_options(chosen, on_bytes), dry_run=chosen["dry_run"]
        )
        tell(f"{shown(plan.nwb_path)}: {media_summary(plan)}")
    if chosen["as_json"]:
        click.echo(as_json(relocation_record(plan)))
    elif chosen["dry_run"]:
        for line in relocation_lines(plan):
            _say(line)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--media-mode", type=_MEDIA_MODES, default=MediaMode.COPY.value, show_default=True,
    help="How the videos get into the dandiset.",
)  # fmt: skip
def demo(folder: Path, media_mode: str) -> None:
    """Make an example in DIR and run the main job on it.

    Two NWB files with two videos each are exported into DIR/dandiset, videos and all. Shows the folder before and
    after, and that each path in the new NWB files leads to its video. DIR must be new or empty.
    """
    from .demo import run_demo

    run_demo(folder, MediaMode(media_mode), click.echo)


@main.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=click.Path(path_type=Path))
def recover(paths: tuple[Path, ...]) -> None:
    """Restore NWB files that a killed run has left half edited.

    PATHS are NWB files, and folders in which to look for such. The next run of this package on such a file does the
    same before it begins.
    """
    from .nwb.files import find_nwb_files, walk_nwb_files, zarr_marker
    from .terminal import shown
    from .transfers.recovery import recover as restore

    for path in paths:
        # a Zarr store may have no name before it is restored
        named = list(find_nwb_files([path])) if path.exists() else [path]
        # files of other suffixes are edited where somebody names them, and left unreadable by a kill like all others
        is_folder = path.is_dir() and zarr_marker(path) is None
        others = walk_nwb_files(Path(os.path.abspath(path))) if is_folder else ()
        for found in dict.fromkeys([*named, *others]):
            restored = restore(Path(os.path.realpath(found)), thoroughly=True)
            if not found.exists():
                raise FileNotFoundError(f"{path} does not exist, and nothing of it was left to restore")
            if restored or found in named:
                _say(f"{shown(found)}: {'restored' if restored else 'nothing to restore'}")

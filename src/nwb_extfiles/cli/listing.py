"""The command ``ls``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ExternalFilesError
from ..hints import counted, shell_word
from .options import (
    ExistingPath,
    LocalPath,
    fitting,
    globs_options,
    jobs_option,
    media_field,
    place_options,
    places_options,
)
from .output import print_error, print_line, print_record, terminal_width

if TYPE_CHECKING:
    from ..plans.locate import ResolvedExternalFile

__all__ = ["ls"]


@click.command()
@click.argument("paths", metavar="[PATHS]...", nargs=-1, type=LocalPath())
@click.option("--media", is_flag=True, help="List the NWB files that refer to videos.")
@click.option(
    "--by-checksum", is_flag=True,
    help="With --media: find videos by the checksums in the manifests of NWB files, whatever their names.",
)  # fmt: skip
@places_options
@media_field
@globs_options
@jobs_option("Number of processes.")
@click.option("--json", "as_json", is_flag=True, help="Print the references as JSON.")
@click.pass_context
def ls(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    media: bool,
    by_checksum: bool,
    media_fields: Any,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    as_json: bool,
    **chosen: Any,
) -> None:
    """List the media that NWB files refer to.

    PATHS are NWB files, or folders to search for NWB files; by default the working directory. Changes nothing. With
    --search and --path-map, videos are looked for as `relocate` and `organize` do.

    With --media, PATHS also name videos, and the NWB files that refer to them are listed. A video that no longer exists
    is found by its name.

    \b
    nwb-extfiles ls session.nwb
    nwb-extfiles ls --media video.avi dandiset
    """  # noqa: D301
    from ..naming import ARCHIVED_SUFFIXES
    from ..nwb.files import NWB_SUFFIX
    from .terminal import reference_record

    media = media or by_checksum
    videos = [path for path in paths if path.suffix.lower() in ARCHIVED_SUFFIXES]
    if videos and not media:
        words = " ".join(shell_word(str(path)) for path in paths)
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
    options = {"media_fields": media_fields, **place_options(chosen)}
    options["path_map_shared"] = tuple(options["path_map"])  # each NWB file is a call of its own, and need not fit all
    problems: list[ExternalFilesError] = []
    unsearched: list[Path] = []
    found = list(_references(videos, places, by_checksum, options, problems, unsearched, jobs))
    if as_json:
        records = [reference_record(entry) | ({"media": str(video)} if video else {}) for video, entry in found]
        print_record(records)
    elif found or not problems:
        _list(videos, found, len(unsearched) if by_checksum else None)
    for problem in problems:
        print_error(problem)
    ctx.exit(1 if problems else 0)


def _references(
    videos: list[Path],
    places: list[Path],
    by_checksum: bool,
    options: Mapping[str, Any],
    problems: list[ExternalFilesError],
    unsearched: list[Path],
    jobs: int,
) -> Iterator[tuple[Path | None, ResolvedExternalFile]]:
    """What each NWB file refers to; one that cannot be read is a problem, and the others are listed.

    With `by_checksum`, those without a manifest are `unsearched`.
    """
    from ..batch import results, workers
    from ..tasks.named_files import named_nwb_files

    paths = list(named_nwb_files(places, problems))
    count = min(jobs, len(paths) or 1)
    job = partial(_references_of_each, videos=videos, by_checksum=by_checksum, options=options)
    with workers(count, None) as pool:
        parts = [paths[number::count] for number in range(count)]
        found = {path: one for part in results(job, parts, pool) for path, one in part.items()}
    for path in paths:
        references, problems_of_one, is_searched = found[path]
        problems += problems_of_one
        unsearched += [] if is_searched else [path]
        yield from references


def _references_of_each(
    paths: list[Path], *, videos: list[Path], by_checksum: bool, options: Mapping[str, Any]
) -> dict[Path, tuple[list[tuple[Path | None, ResolvedExternalFile]], list[ExternalFilesError], bool]]:
    """What each NWB file refers to, what is wrong with it, and whether it was searched; also for other processes.

    Folders that are searched are read once for all of them, and so is each video.
    """
    from ..options import MediaOptions
    from ..plans.places import Known
    from ..tasks.external_files import external_files_of
    from ..tasks.referring import WantedMedia, has_manifest

    chosen, memory = MediaOptions.from_value(options), Known()
    wanted = WantedMedia(videos, chosen, by_checksum=by_checksum)
    listed = {}
    for path in paths:
        found: list[tuple[Path | None, ResolvedExternalFile]] = []
        problems: list[ExternalFilesError] = []
        is_searched = True
        try:
            if videos:
                is_searched = not by_checksum or has_manifest(path)
                found += wanted.in_file(path)
            else:
                found += [(None, one) for one in external_files_of(path, chosen, memory=memory, problems=problems)]
        except ExternalFilesError as problem:
            problems.append(problem)
        listed[path] = found, problems, is_searched
    return listed


def _list(
    videos: list[Path], found: list[tuple[Path | None, ResolvedExternalFile]], without_manifest: int | None
) -> None:
    """Print references; `without_manifest` NWB files were not searched for a checksum, None if it was for paths."""
    from .terminal import reference_lines, shown

    last, width = None, terminal_width()
    for video, entry in found:
        path = shown(entry.reference.nwb_path)
        head = path if video is None else f"{video} in {path}"
        if head != last:
            print_line(head)
            last = head
        for line in reference_lines(entry, width):
            print_line(line)
    if videos:
        for video in videos:
            if all(other != video for other, _ in found):
                print_line(_not_found(video, without_manifest))
        return
    if not found:
        print_line("no NWB file here refers to external files")
        return
    missing = sum(entry.problem is not None for _, entry in found)
    urls = sum(entry.kind == "url" for _, entry in found)
    kinds = ((len(found) - missing - urls, "found"), (missing, "missing"), (urls, "URL" if urls == 1 else "URLs"))
    listed = ", ".join(f"{count} {kind}" for count, kind in kinds if count)
    files = len({entry.reference.nwb_path for _, entry in found})
    print_line(f"{counted(len(found), 'reference')} in {counted(files, 'NWB file')}: {listed}")


def _not_found(video: Path, without_manifest: int | None) -> str:
    if without_manifest is None:
        gone = "" if os.path.lexists(video) else ", or has a missing file of that name"
        return f"no NWB file here refers to {video}{gone}"
    if not without_manifest:
        return f"no manifest here names {video}"

    have, were = ("has", "was") if without_manifest == 1 else ("have", "were")
    unsearched = f"{counted(without_manifest, 'NWB file')} {have} no manifest and {were} not searched"
    return f"no manifest here names {video}; {unsearched} (leave out --by-checksum)"

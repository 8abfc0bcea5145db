"""Options that several commands share, and the `MediaOptions` that they make."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .disk.annex import how_to_get, is_annex_pointer
from .options import MediaMode, MediaOptions
from .plans.resolve import is_url

__all__ = [
    "MODES",
    "ExistingPath",
    "LocalPath",
    "ReportFile",
    "make_options",
    "media_field",
    "media_mode",
    "media_options",
    "quiet_or_json",
    "remux",
]

F = TypeVar("F", bound=Callable[..., Any])

MODES = tuple(mode.value for mode in MediaMode)


class LocalPath(click.Path):
    """A path on this machine, not a URL."""

    def __init__(self, *, exists: bool = False) -> None:
        super().__init__(exists=exists, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that it is not a URL."""
        if isinstance(value, str) and is_url(value):
            self.fail(
                f"{value} is a URL, and this command reads files on this machine; download the file first, or call "
                f"resolve_external_files() in Python, which reads URLs",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class ExistingPath(LocalPath):
    """A path that exists. For a file of git-annex without its content, the message says how to get it."""

    def __init__(self) -> None:
        super().__init__(exists=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the path."""
        if not os.path.exists(value) and is_annex_pointer(Path(value)):
            self.fail(
                f"{click.format_filename(value)} is a file of git-annex, whose content is not on this machine; "
                f"{how_to_get(Path(value))}",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class ReportFile(click.Path):
    """A file for a report, by its suffix: one that can hold no data of the user may be replaced."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the suffix, and that the folder is there, before a long check begins."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.suffix.lower() not in (".json", ".txt"):
            self.fail(f"{click.format_filename(path)} must end in .json or .txt", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"the folder {click.format_filename(path.parent)} does not exist", param, ctx)
        return path


media_field = click.option(
    "--media-field", "media_fields", nargs=2, metavar="TYPE FIELD", multiple=True,
    help="Also read paths from this field of this neurodata type. May be repeated.",
)  # fmt: skip


def media_mode(default: str | None, help_text: str, *, without: str | None = None) -> Callable[[F], F]:
    """Give a command --media-mode; dandi's users know it as --media-files-mode."""
    return click.option(
        "--media-mode", "--media-files-mode", "media_mode", default=default, show_default=default is not None,
        type=click.Choice([mode for mode in MODES if mode != without]), help=help_text,
    )  # fmt: skip


remux = click.option(
    "--remux", is_flag=True,
    help="Put videos that DANDI does not accept (.h264, .m4v, .ts, .mpg, .webm, ...) into mp4 or mkv files, without "
    "loss. The originals stay. Needs --media-mode copy, and PyAV.",
)  # fmt: skip


def media_options(function: F) -> F:
    """Give a command the options from which `make_options` makes a `MediaOptions`, and those for its output."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    for option in reversed(
        (
            click.option(
                "--search", type=folder, multiple=True,
                help="Search this folder for videos that are not where the NWB file says. May be repeated.",
            ),
            click.option(
                "--search-for", type=(str, folder), metavar="OBJECT FOLDER", multiple=True,
                help="The same for one object, named by its path as `nwb-extfiles ls` shows it, or for all objects "
                "that match a pattern with '*'. May be repeated.",
            ),
            click.option(
                "--path-map", metavar="OLD=NEW", multiple=True,
                help=r"Read NEW instead of OLD at the beginning of a path: D:\videos=/mnt/videos. May be repeated.",
            ),
            click.option(
                "--path-map-for", type=(str, str, str), metavar="OBJECT OLD NEW", multiple=True,
                help="The same for one object, or for all objects that match a pattern with '*'. May be repeated.",
            ),
            click.option(
                "--within", type=folder, multiple=True,
                help="Use only media in this folder. May be repeated.",
            ),
            click.option(
                "--missing", type=click.Choice(["error", "keep"]), default="error", show_default=True,
                help="If a video is not found: stop, or keep its path as it is.",
            ),
            click.option(
                "--existing", type=click.Choice(["error", "replace"]), default="error", show_default=True,
                help="If a different file is already at the new path: stop, or replace it.",
            ),
            media_field,
            click.option(
                "--urls", type=click.Choice(["keep", "download"]), default="keep", show_default=True,
                help="Keep URLs as they are, or download the videos.",
            ),
            click.option(
                "--manifest", is_flag=True,
                help="Record the original names, sizes and checksums of the videos in the NWB file.",
            ),
            click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing."),
            click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON."),
            click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def quiet_or_json(chosen: dict[str, Any]) -> bool:
    """Whether a command prints nothing about single files."""
    return bool(chosen["quiet"] or chosen["dry_run"] or chosen["as_json"])


def make_options(chosen: dict[str, Any], progress: Any) -> MediaOptions:
    """Make a `MediaOptions` of the options that a user typed."""
    path_map = dict[str, str]()
    for pair in chosen["path_map"]:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise click.UsageError(f"--path-map takes OLD=NEW, not {pair!r}")
        path_map[old] = new
    search_for: dict[str, list[Path]] = {}
    for pattern, folder in chosen["search_for"]:
        search_for.setdefault(pattern, []).append(folder)
    path_map_for: dict[str, dict[str, str]] = {}
    for pattern, old, new in chosen["path_map_for"]:
        path_map_for.setdefault(pattern, {})[old] = new
    names = ("search", "within", "missing", "existing", "media_fields", "manifest", "urls")
    same: dict[str, Any] = {name: chosen[name] for name in names}
    of_objects: dict[str, Any] = {"search_for": search_for, "path_map_for": path_map_for}
    same["remux"] = "unarchived" if chosen.get("remux") else None  # not every command has it
    return MediaOptions(path_map=path_map, progress=progress, **of_objects, **same)

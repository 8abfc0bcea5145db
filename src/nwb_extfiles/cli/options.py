"""Options that several commands share, and the `MediaOptions` that they make."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..config import Config, read_config
from ..disk.annex import how_to_get, is_annex_pointer
from ..errors import ExternalFilesError, combine, no_such_file
from ..hints import quoted
from ..options import MediaMode, MediaOptions, modes_in_order
from ..plans.stored_paths import is_url
from .output import log_to, print_error

__all__ = [
    "WANTS_JSON",
    "ExistingPath",
    "LocalPath",
    "ReportFile",
    "add_common_options",
    "configuration",
    "fitting",
    "globs_options",
    "jobs_option",
    "make_options",
    "media_field",
    "media_mode",
    "media_options",
    "nwb_files_in",
    "place_options",
    "places_options",
    "quiet_or_json",
    "remux",
]

F = TypeVar("F", bound=Callable[..., Any])


class _Modes(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click
    """A media mode, ``auto``, or several to try in order, separated by commas."""

    name = "mode"

    def __init__(self, without: str | None) -> None:
        self.choices = [mode for mode in MediaMode.choices() if mode != without]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """Short, as all choices in a row are wider than a terminal."""
        return "MODE[,MODE...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[MediaMode, ...]:
        """Give the modes in their order."""
        named = [part.strip() for part in value.split(",")] if isinstance(value, str) else [*map(str, value)]
        wrong = [name for name in named if name not in self.choices]
        if wrong:
            self.fail(
                f"{wrong[0]!r} is not one of {', '.join(self.choices)}, or several of these, separated by commas",
                param,
                ctx,
            )
        return modes_in_order(named)


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
        if not os.path.exists(value) and not is_url(os.fspath(value)):
            self.fail(_why_missing(Path(value)), param, ctx)
        return super().convert(value, param, ctx)


def _why_missing(path: Path) -> str:
    shown = click.format_filename(path)
    if is_annex_pointer(path):
        return f"{shown} is a file of git-annex, whose content is not on this machine; {how_to_get(path)}"
    if path.is_symlink():
        target = click.format_filename(os.readlink(path))
        return f"{shown} is a symbolic link to {quoted(target)}, which does not exist; correct the link, or remove it"
    return str(no_such_file(shown))


_CONFIG = f"{__name__}.config"
WANTS_JSON = f"{__name__}.as_json"
"""Where a context keeps whether JSON is wanted, also for a failure."""


def add_common_options(command: click.Command) -> None:
    """Give a command the options that all have, and note for the group what it needs of them."""
    command.params.append(
        click.Option(
            ["--log-file"], type=click.Path(dir_okay=False, path_type=Path), expose_value=False, is_eager=True,
            callback=_log_to, help="Append what is done, with the time, to this file.",
        )
    )  # fmt: skip
    command.params.append(
        click.Option(
            ["--no-config"], is_flag=True, expose_value=False, is_eager=True, callback=_note_no_config,
            help="Do not read nwb-extfiles.toml, nor pyproject.toml.",
        )
    )  # fmt: skip
    for param in command.params:
        if param.name == "as_json":
            param.callback = _note_json


def jobs_option(what: str) -> Callable[[F], F]:
    """Give a command --jobs."""
    return click.option("-J", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help=what)


def globs_options(function: F) -> F:
    """Give a command --include and --exclude."""
    for option in (
        click.option(
            "--exclude", multiple=True, metavar="GLOB",
            help="Leave out NWB files in folders whose path or name fits, as in 'pilot/*'. May be repeated.",
        ),
        click.option(
            "--include", multiple=True, metavar="GLOB",
            help="Of the NWB files in folders, take only those whose path or name fits. May be repeated.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def fitting(paths: tuple[Path, ...], include: tuple[str, ...], exclude: tuple[str, ...]) -> tuple[Path, ...]:
    """The paths that a user named; if there are patterns, the NWB files in these that fit."""
    return nwb_files_in(paths, include, exclude) if include or exclude else paths


def nwb_files_in(paths: tuple[Path, ...], include: tuple[str, ...], exclude: tuple[str, ...]) -> tuple[Path, ...]:
    """The NWB files among paths, and those in folders that fit the patterns."""
    from ..tasks.named_files import Globs, named_nwb_files

    problems: list[ExternalFilesError] = []
    found = named_nwb_files(paths, problems, Globs(include, exclude) if include or exclude else None)
    if problems:
        raise combine(problems)
    return tuple(found)


def _log_to(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    try:
        if value.exists() and b"\0" in _begins(value):
            raise click.BadParameter(f"{value} is not a text file, so nothing is appended to it", ctx, param)
        ctx.find_root().call_on_close(log_to(value))
    except OSError as error:
        raise click.BadParameter(f"{value} cannot be written to: {error.strerror}", ctx, param) from error


def _begins(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(4096)


def _note_no_config(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value:
        ctx.meta[_CONFIG] = Config()


def configuration() -> Config:
    """The configuration file around the working directory; its use is reported once."""
    meta = click.get_current_context().meta
    if _CONFIG not in meta:
        config = meta[_CONFIG] = read_config()
        if config.path is not None:
            print_error(f"{', '.join(config.keys) or 'nothing'} from {config.path}", level=logging.INFO)
    found: Config = meta[_CONFIG]
    return found


def _note_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: ARG001
    ctx.meta[WANTS_JSON] = value
    return value


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
    modes = _Modes(without)
    listed = f"{', '.join(modes.choices[:-1])} or {modes.choices[-1]}"
    several = "of several, separated by commas, the first that is possible; auto is symlink,hardlink,copy."
    shown = default or "symlink; on Windows auto"
    return click.option(
        "--media-mode", "--media-files-mode", "media_mode", default=default, type=modes,
        help=f"{help_text} MODE is {listed}; {several}  [default: {shown}]",
    )  # fmt: skip


remux = click.option(
    "--remux", is_flag=True,
    help="Put videos that DANDI does not accept (.h264, .m4v, .ts, .mpg, .webm, ...) into mp4 or mkv files, without "
    "loss. The originals stay. Needs --media-mode copy, and PyAV.",
)  # fmt: skip


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_search = click.option(
    "--search", type=_FOLDER, multiple=True,
    help="Search this folder for videos that are not where the NWB file says. May be repeated.",
)  # fmt: skip
_path_map = click.option(
    "--path-map", metavar="OLD=NEW", multiple=True,
    help=r"Read NEW instead of OLD at the beginning of a path: D:\videos=/mnt/videos. May be repeated.",
)  # fmt: skip


def places_options(function: F) -> F:
    """Give a command the options that say where media are, for `place_options`."""
    return _search(_path_map(function))


def place_options(chosen: dict[str, Any]) -> dict[str, Any]:
    """The arguments for `MediaOptions` that say where media are: those that a user typed, else those of the lab."""
    config = configuration().options
    path_map = dict[str, str](config.get("path_map", {}))
    shared = set(path_map)
    for pair in chosen["path_map"]:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise click.UsageError(f"--path-map takes OLD=NEW, not {pair!r}")
        path_map[old] = new
        shared.discard(old)
    folders = {name: chosen.get(name) or config.get(name, ()) for name in ("search", "within")}
    return {"path_map": path_map, "path_map_shared": tuple(shared), **folders}


def media_options(function: F) -> F:
    """Give a command the options from which `make_options` makes a `MediaOptions`, and those for its output."""
    for option in reversed(
        (
            _search,
            click.option(
                "--search-for", type=(str, _FOLDER), metavar="OBJECT FOLDER", multiple=True,
                help="The same for one object, named by its path as `nwb-extfiles ls` shows it, or for all objects "
                "that match a pattern with '*'. May be repeated.",
            ),
            _path_map,
            click.option(
                "--path-map-for", type=(str, str, str), metavar="OBJECT OLD NEW", multiple=True,
                help="The same for one object, or for all objects that match a pattern with '*'. May be repeated.",
            ),
            click.option(
                "--within", type=_FOLDER, multiple=True,
                help="Use only media in this folder. May be repeated.",
            ),
            click.option(
                "--missing", type=click.Choice(["error", "keep"]), default="error", show_default=True,
                help="If a video is not found: stop, or keep its path as it is.",
            ),
            click.option(
                "--existing", type=click.Choice(["error", "replace", "skip"]), default="error", show_default=True,
                help="If a different file is already at the new path: stop, replace it, or leave out the NWB file.",
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
    search_for: dict[str, list[Path]] = {}
    for pattern, folder in chosen["search_for"]:
        search_for.setdefault(pattern, []).append(folder)
    path_map_for: dict[str, dict[str, str]] = {}
    for pattern, old, new in chosen["path_map_for"]:
        path_map_for.setdefault(pattern, {})[old] = new
    names = ("missing", "existing", "media_fields", "manifest", "urls")
    same: dict[str, Any] = {name: chosen[name] for name in names}
    of_objects: dict[str, Any] = {"search_for": search_for, "path_map_for": path_map_for}
    same["remux"] = "unarchived" if chosen.get("remux") else None  # not every command has it
    return MediaOptions(progress=progress, **place_options(chosen), **of_objects, **same)

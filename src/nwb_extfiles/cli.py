"""The command line: translates words into calls, and errors into messages and exit codes."""

from __future__ import annotations

from pathlib import Path

import click

from . import __version__
from .errors import ExternalFilesError
from .options import MediaMode

__all__ = ["main"]


class _Commands(click.Group):
    """A group whose commands end with exit code 1 and one message where this package refuses or fails."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ExternalFilesError, OSError) as error:
            click.echo(f"nwb-extfiles: {error}", err=True)
            for note in getattr(error, "__notes__", ()):
                click.echo(note, err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nwb-extfiles")
def main() -> None:
    """NWB files that take their films and pictures along."""


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--media-mode",
    type=click.Choice([mode.value for mode in MediaMode]),
    default=MediaMode.COPY.value,
    show_default=True,
    help="How the films get into the dandiset.",
)
def demo(folder: Path, media_mode: str) -> None:
    """Make an example in DIR and run the main job on it.

    Two NWB files with two films each are exported into DIR/dandiset, films and all. Shows the folder before and
    after, and that each path in the new NWB files leads to its film. DIR must be new or empty.
    """
    from .demo import run_demo

    run_demo(folder, MediaMode(media_mode), click.echo)


@main.command()
@click.argument("nwb_paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def recover(nwb_paths: tuple[Path, ...]) -> None:
    """Restore NWB files that a killed run has left half edited.

    Opening such a file with this package does the same.
    """
    from .transfer import recover as restore

    for path in nwb_paths:
        restored = restore(path.resolve())  # a Zarr store may have no name before
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist, and nothing of it was left to restore")
        click.echo(f"{path}: {'restored' if restored else 'nothing to restore'}")

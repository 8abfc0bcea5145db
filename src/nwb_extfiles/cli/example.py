"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import media_mode
from .output import tell

__all__ = ["demo"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@media_mode("copy", "Link, copy or move the videos into the dandiset; with reference, only their paths change.")
def demo(folder: Path, media_mode: Any) -> None:
    """Make an example in DIR, and export it.

    Exports two NWB files with two videos each into DIR/dandiset. Shows the folder before and after, and that each path
    in the new NWB files points to its video. DIR must be new or empty.
    """
    from ..demo import run_demo

    def say(text: str) -> None:
        for line in text.split("\n"):
            tell(line)

    run_demo(folder, media_mode, say)

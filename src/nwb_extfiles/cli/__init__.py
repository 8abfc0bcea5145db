"""The command line: makes calls of options, and messages and exit codes of errors.

Each command imports what is slow to import when it is used, so that ``--help`` comes at once.
"""

from __future__ import annotations

import click

from .. import __version__
from .checking import check
from .example import demo
from .fetching import fetch
from .group import Commands
from .listing import ls
from .organizing import organize
from .recovering import recover
from .relocating import relocate
from .reporting import report
from .restoring import restore

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nwb-extfiles")
def main() -> None:
    """Keep external videos and images with their NWB files.

    An NWB file refers to its videos by their paths, which break when it is renamed, moved or published. `check` finds
    broken paths, and `report` shows all on a web page. `relocate` puts the videos beside the NWB file, `organize` puts
    NWB files and videos into a dandiset, `restore` gives videos their original names back, `fetch` downloads
    the videos of NWB files from the archive. The last four have --dry-run.
    """


for command in (check, demo, fetch, ls, organize, recover, relocate, report, restore):
    main.add_command(command)

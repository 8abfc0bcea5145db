"""The group of all commands: what each of them does about errors and warnings."""

from __future__ import annotations

import atexit
import gc
import logging
import warnings
from typing import Any, TextIO

import click

from ..errors import ExternalFilesError, ExternalFilesWarning
from .options import WANTS_JSON, add_common_options
from .output import error_record, escape_what_cannot_be_encoded, print_error, print_record

__all__ = ["Commands"]


class Commands(click.Group):
    """A group whose commands end with exit code 1 and a message if this package refuses or fails."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command, as a process of its own."""
        # Python collects garbage at exit in all that was imported, dandi above all: a tenth of the time of `organize`.
        atexit.unregister(gc.freeze)  # once, however often this is called in one process
        atexit.register(gc.freeze)
        escape_what_cannot_be_encoded()
        return super().main(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words of a command line; if it is not understood, JSON is printed if that is among them."""
        ctx.meta[WANTS_JSON] = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _record_error(ctx, error)
            raise

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; its warnings are printed, and its errors, with exit code 1."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", ExternalFilesWarning)
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise  # `nwb-extfiles ls | head`, of which click knows
            except KeyboardInterrupt:  # click prints that it was aborted
                logging.getLogger("nwb_extfiles").error("interrupted")
                raise
            except click.UsageError as error:  # click prints it, with exit code 2
                _record_error(ctx, error)
                raise
            except (ExternalFilesError, OSError) as error:
                print_error(error)
                for note in getattr(error, "__notes__", ()):
                    print_error(note)
                _record_error(ctx, error)
                ctx.exit(1)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, with the options that all have."""
        add_common_options(cmd)
        super().add_command(cmd, name)


def _record_error(ctx: click.Context, error: Exception) -> None:
    if ctx.meta[WANTS_JSON]:
        print_record({"error": error_record(error)})


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    if issubclass(category, ExternalFilesWarning):
        print_error(message, "nwb-extfiles: warning: ", logging.DEBUG)  # `warn` has logged it

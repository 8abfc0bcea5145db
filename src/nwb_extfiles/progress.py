"""Progress of transfers, in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .options import ProgressCallback

__all__ = ["increments", "reporting"]


@contextmanager
def reporting(progress: bool | ProgressCallback, total: int) -> Iterator[Callable[[int], None]]:
    """Report the progress of a transfer.

    Parameters
    ----------
    progress : bool or callable
        As in `MediaOptions.progress`.
    total : int
        Bytes in all.

    Yields
    ------
    callable
        Call it with each number of bytes done.
    """
    if progress is True:
        yield from _bar(total)
    elif callable(progress):
        done = 0
        report = progress

        def add(count: int) -> None:
            nonlocal done
            done += count
            report(done, total)

        yield add
    else:
        yield lambda count: None


def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on the standard error, for as long as that can be written to: what it shows is not worth an error."""
    from tqdm.auto import tqdm

    try:
        bar = tqdm(total=total, desc="media", unit="B", unit_scale=True, unit_divisor=1000)
    except (OSError, AttributeError):  # its reader is gone, or it was closed when Python began
        yield lambda count: None
        return

    def add(count: int) -> None:
        with suppress(OSError, ValueError):
            bar.update(count)

    try:
        yield add
    finally:
        with suppress(OSError, ValueError):
            bar.close()


def increments(on_bytes: Callable[[int], object]) -> ProgressCallback:
    """A callback that passes on the bytes done since its last call, for one of several transfers."""
    before = 0

    def report(done: int, total: int) -> None:  # noqa: ARG001
        nonlocal before
        on_bytes(done - before)
        before = done

    return report

"""Many files, one after the other or several at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

__all__ = ["each", "results", "workers"]

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 64  # calls that are handed to an executor before the first has come back


@contextmanager
def workers(jobs: int, executor: Executor | None) -> Iterator[Executor | None]:
    """The executor of the caller, or a pool of `jobs` processes; None if this thread does the work."""
    if executor is not None or jobs == 1:
        yield executor
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # A forked process would inherit locks that other threads hold.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun need not
            raise


def _end_with_parent() -> None:
    """End this process when its parent ends, in whatever way.

    A worker waits for work on a pipe that other workers hold open too, so it would wait for ever. Ending it in the
    middle of its work is as safe as killing it.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None

    def wait_for_end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait_for_end, name="end-with-parent", daemon=True).start()


def each(
    function: Callable[[T], R], items: Iterable[T], executor: Executor | None
) -> Generator[tuple[int, R | BaseException]]:
    """Call a function with each item.

    Parameters
    ----------
    function : callable
        For an executor of processes it must be picklable, as must items and results.
    items : iterable
        Taken as they are needed, never many at once.
    executor : concurrent.futures.Executor or None
        None to call it in this thread.

    Yields
    ------
    (int, result or exception)
        The number of the item, and its result or the error it raised; with an executor in any order. An interrupt is
        raised, not yielded.
    """
    if executor is None:
        for number, item in enumerate(items):
            try:
                result: R | BaseException = function(item)
            except Exception as error:  # noqa: BLE001  # one file must not stop the others
                result = error
            yield number, result
        return
    running: dict[Future[R], int] = {}
    once = uuid4().hex
    try:
        for number, item in enumerate(items):
            running[executor.submit(_call, function, item, once)] = number
            if len(running) >= _AT_ONCE:
                yield from _done(running)
        while running:
            yield from _done(running)
    finally:
        for future in running:  # an interrupt, or a caller that wants no more
            future.cancel()


def results(function: Callable[[T], R], items: Iterable[T], executor: Executor | None) -> list[R]:
    """What a function gives for each item, in their order; raises the first error that comes.

    Parameters are those of `each`.
    """
    found: dict[int, R] = {}
    for number, result in each(function, items, executor):
        if isinstance(result, BaseException):
            raise result
        found[number] = result
    return [found[number] for number in range(len(found))]


def _call(function: Callable[[T], R], item: T, once: str) -> R:  # noqa: ARG001
    """Call; the mark `once` keeps executors such as dask's from returning the result of an earlier, equal call."""
    return function(item)


def _done(running: dict[Future[Any], int]) -> Iterator[tuple[int, Any]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        number = running.pop(future)
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        yield number, future.result() if error is None else error

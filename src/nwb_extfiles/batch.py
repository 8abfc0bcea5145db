"""Many files, one after the other or several at once."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from threading import Thread
from typing import Any, Generic, TypeVar
from uuid import uuid4

__all__ = ["Spool", "each", "workers"]

T = TypeVar("T")
R = TypeVar("R")

_IN_MEMORY = 8 * 1024 * 1024  # bytes of a spool that need no file yet
_AS_THEY_ARE = 1024 * 1024  # bytes of pickled items, which take several times as much, that need not be read again
_AT_ONCE = 64  # calls that are handed to an executor before the first has come back


class Spool(Generic[T]):
    """A list that keeps to the disk what is too much for memory.

    Its items are pickled, and read again in order by each iteration; the first ones, as many as fit, are kept as they
    are too, which they must remain. It goes with its process; a pickle of it has all its items.

    Parameters
    ----------
    items : iterable
        What is in it to begin with.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  # closed when it is dropped
        self._starts: list[int] = []
        self._kept: dict[int, T] = {}  # by start
        self._end = 0
        for item in items:
            self.append(item)

    def __reduce__(self) -> tuple[type[Spool[T]], tuple[list[T]]]:
        return type(self), (list(self),)

    def __del__(self) -> None:
        self._file.close()

    def append(self, item: T) -> None:
        """Add an item."""
        self._starts.append(self._end)
        self._file.seek(self._end)
        pickle.dump(item, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        if self._end < _AS_THEY_ARE:
            self._kept[self._end] = item
        self._end = self._file.tell()

    def sort(self, keys: Sequence[int]) -> None:
        """Bring the items in the order of keys that differ, one for each item."""
        self._starts = [start for _, start in sorted(zip(keys, self._starts, strict=True))]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> T:
        start = self._starts[number]
        if start in self._kept:
            return self._kept[start]
        self._file.seek(start)
        item: T = pickle.load(self._file)  # noqa: S301  # written by this very object
        return item

    def __iter__(self) -> Iterator[T]:
        return (self[number] for number in range(len(self)))


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

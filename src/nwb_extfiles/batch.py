"""Many files, one after the other or several at once, with the memory of a few."""

from __future__ import annotations

import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar, cast
from uuid import uuid4

__all__ = ["Spool", "each", "each_in_threads", "workers"]

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
    """Give the executor of a caller, or one of so many processes; None for this very thread."""
    if executor is not None or jobs == 1:
        yield executor
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # A forked process would take the locks of other threads along.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun need not
            raise


def each(
    function: Callable[[T], R], items: Iterable[T], executor: Executor | None
) -> Generator[tuple[int, R | BaseException]]:
    """Call a function with each item.

    Parameters
    ----------
    function : callable
        For an executor of processes it must be picklable, and so must items and results.
    items : iterable
        Taken as they are needed, never many at once.
    executor : concurrent.futures.Executor or None
        Who calls; None for this thread.

    Yields
    ------
    (int, result or exception)
        The number of the item, and what came of it, as they are done: with an executor in any order. An interrupt is
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


class _StoppedError(BaseException):
    """Ends what others need not be told of; no `Exception`, so that nothing takes it for a failure."""


@dataclass(slots=True, eq=False)
class _Task(Generic[T, R]):
    """One call in a thread, and what came of it."""

    item: T
    result: R | None = None
    error: BaseException | None = None
    is_over: bool = False


def each_in_threads(
    function: Callable[[T, Callable[[int], object]], R],
    items: Iterable[T],
    threads: int,
    on_bytes: Callable[[int], object],
) -> Generator[tuple[int, R | BaseException]]:
    """Call a function with each item, a few at once, so that one waits for the disk while another computes.

    Parameters
    ----------
    function : callable
        Also gets what to call with each number of bytes done; that raises when the others have been interrupted.
    items : iterable
        Taken in this thread as they are needed, never many at once.
    threads : int
        How many at once.
    on_bytes : callable
        Called with each number of bytes done, in this thread.

    Yields
    ------
    (int, result or exception)
        As `each` without an executor: in the order of the items. After an interrupt nothing is begun any more, and
        what was begun has ended before that is raised.

    Notes
    -----
    No executor, nor any lock of `threading` that is written in Python: Ctrl-C in the midst of taking one leaves it
    locked for ever, and the thread that needs it would be waited for. The queues have no such moment.
    """
    waiting, reports = SimpleQueue[_Task[T, R] | None](), SimpleQueue[int]()
    running = deque[_Task[T, R]]()
    stopped = False

    def tell(count: int) -> None:
        if stopped:
            raise _StoppedError
        reports.put(count)

    def work() -> None:
        while (task := waiting.get()) is not None:
            try:
                tell(0)  # whether it is still wanted
                task.result = function(task.item, tell)
            except BaseException as error:  # noqa: BLE001  # for the thread that waits
                task.error = error
            task.is_over = True
            reports.put(0)  # wakes whoever waits for reports

    def first() -> R | BaseException:
        while not (running[0].is_over and reports.empty()):
            count = reports.get()
            if count:
                on_bytes(count)
        error = running[0].error
        if error is not None and not isinstance(error, Exception):
            raise error
        task = running.popleft()
        return cast("R", task.result) if error is None else error

    workers: list[Thread] = []
    try:
        _begin(work, threads, workers)
        if not workers:
            yield from each(lambda item: function(item, on_bytes), items, None)
        number = 0
        for item in items if workers else ():
            task = _Task[T, R](item)
            waiting.put(task)  # first, for what is waited for must be somebody's to do
            running.append(task)
            if len(running) > 2 * threads:  # some in store, so that none is idle while this thread is busy
                yield number, first()
                number += 1
        while running:
            yield number, first()
            number += 1
    finally:
        stopped = True
        not_begun = _emptied(waiting)
        for _ in workers:
            waiting.put(None)
        for task in running:
            while not (task.is_over or task in not_begun):
                reports.get()
        for worker in workers:
            if worker.is_alive():  # what was interrupted while it began cannot be joined
                worker.join()


def _begin(work: Callable[[], object], threads: int, begun: list[Thread]) -> None:
    """Begin as many threads as the system gives, each noted before it begins, for an interrupt may come between."""
    for number in range(threads):
        begun.append(Thread(target=work, name=f"organize_{number}", daemon=True))
        try:
            begun[-1].start()
        except RuntimeError:  # no more threads here
            begun.pop()
            return


def _emptied(queue: SimpleQueue[T | None]) -> set[T]:
    """Take what is left in a queue."""
    left = set[T]()
    while True:
        try:
            item = queue.get_nowait()
        except Empty:
            return left
        if item is not None:
            left.add(item)


def _call(function: Callable[[T], R], item: T, once: str) -> R:  # noqa: ARG001
    """Call; the mark of one batch keeps executors such as dask's from giving what an earlier, equal call has given."""
    return function(item)


def _done(running: dict[Future[Any], int]) -> Iterator[tuple[int, Any]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        number = running.pop(future)
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        yield number, future.result() if error is None else error

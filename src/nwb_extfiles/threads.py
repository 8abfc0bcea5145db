"""Calls that a few threads make, a little ahead of the one that takes their results.

No executor, nor any lock of `threading` that is written in Python: Ctrl-C in the midst of taking one leaves it locked
for ever, and the thread that needs it would be waited for. Deques, plain locks and `SimpleQueue` have no such moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar, cast

from .batch import each

__all__ = ["called_ahead", "each_in_threads"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")


def _held() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Call(Generic[T, R]):
    """One call, and what came of it."""

    item: T
    result: R | None = None
    error: BaseException | None = None
    over: Lock = field(default_factory=_held)
    """Free when there is a result, or an error."""

    def wait(self) -> None:
        """Wait until it is over; may be broken off by an interrupt, and called again."""
        if self.result is None and self.error is None:
            self.over.acquire()


@contextmanager
def called_ahead(
    function: Callable[[T], R], items: Mapping[K, T], threads: int, *, clear: Callable[[R], object]
) -> Iterator[Callable[[K], R | None]]:
    """Call a function with each item, a few at once, beginning when the first result is asked for.

    Parameters
    ----------
    function : callable
        Called in several threads. Gives anything but None.
    items : mapping
        By keys; called in this order.
    threads : int
        How many at once.
    clear : callable
        Called at the end with each result there is, asked for or not, in the thread of the caller.

    Yields
    ------
    callable
        Waits for the result of a key, or raises the error of its call. None for a key that is not among the items,
        and where the system gives no threads.

    Notes
    -----
    When the block is left, in whatever way, no call is begun any more, and those that were begun have ended.
    """
    calls: dict[K, _Call[T, R]] = {key: _Call(item) for key, item in items.items()}
    waiting = deque(calls.values())
    workers: list[Thread] = []

    def work() -> None:
        while True:
            try:
                call = waiting.popleft()
            except IndexError:
                return
            try:
                call.result = function(call.item)
            except BaseException as error:  # noqa: BLE001  # for the thread that waits
                call.error = error
            call.over.release()

    def take(key: K) -> R | None:
        if calls and not workers:
            _begin(work, threads, "ahead", workers)
            if not workers:
                calls.clear()
        call = calls.get(key)
        if call is None:
            return None
        call.wait()
        if call.error is not None:
            raise call.error
        return call.result

    try:
        yield take
    finally:
        not_begun = set[int]()
        while waiting:
            with suppress(IndexError):  # a thread was faster
                not_begun.add(id(waiting.popleft()))
        for call in calls.values():
            if id(call) in not_begun:
                continue
            call.wait()
            if call.result is not None:
                clear(call.result)
        _join(workers)


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
        _begin(work, threads, "each", workers)
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
        _join(workers)


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


def _begin(work: Callable[[], object], threads: int, name: str, begun: list[Thread]) -> None:
    """Begin as many threads as the system gives, each noted before it begins, for an interrupt may come between."""
    for number in range(threads):
        begun.append(Thread(target=work, name=f"{name}_{number}", daemon=True))
        try:
            begun[-1].start()
        except RuntimeError:  # no more threads here
            begun.pop()
            return


def _join(begun: list[Thread]) -> None:
    for thread in begun:
        if thread.is_alive():  # one that was interrupted while it began cannot be joined
            thread.join()

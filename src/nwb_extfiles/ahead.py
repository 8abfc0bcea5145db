"""Calls that a few threads make before the one that needs their results comes to them.

No executor: what that shares with its threads is locked in Python, and Ctrl-C in the midst of it leaves it locked for
ever. A deque and plain locks have no such moment.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["called_ahead"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Call(Generic[T, R]):
    """One call, and what came of it."""

    item: T
    result: R | None = None
    error: BaseException | None = None
    over: threading.Lock = field(default_factory=_held)
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
    workers: list[threading.Thread] = []

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

    def begin() -> None:
        for number in range(threads):
            workers.append(threading.Thread(target=work, name=f"ahead_{number}", daemon=True))
            try:
                workers[-1].start()
            except RuntimeError:  # no more threads here
                workers.pop()
                break
        if not workers:
            calls.clear()

    def take(key: K) -> R | None:
        if calls and not workers:
            begin()
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
        for worker in workers:
            if worker.is_alive():  # what was interrupted while it began cannot be joined
                worker.join()

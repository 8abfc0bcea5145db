"""Calls made in a few threads, and Ctrl-C at any moment.

`ThreadPoolExecutor` takes locks that are written in Python. Ctrl-C in the midst of taking one leaves it locked, and a
thread that needs it waits for ever. So Ctrl-C is put off while the executor is called; results and progress come
through a `SimpleQueue`, which has no such moment.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, main_thread
from typing import TypeVar

from .batch import each

__all__ = ["called_ahead", "each_in_threads", "meanwhile"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

_LOOKS_UP = 0.2  # seconds after which a wait begins anew: on Windows, Ctrl-C does not end one
_GROUP = 8  # calls handed to a thread at once: it takes longer to hand one over than to copy a small file


class _StoppedError(BaseException):
    """Ends a call after an interrupt of the others; not an `Exception`, so that nothing takes it for a failure."""


@contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """Handle Ctrl-C at the end of the block."""
    handler = signal.getsignal(signal.SIGINT)
    if current_thread() is not main_thread() or not callable(handler):  # no other thread is interrupted
        yield
        return
    interrupts = []
    signal.signal(signal.SIGINT, lambda *args: interrupts.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupts:
            handler(*interrupts[0])


@contextmanager
def meanwhile(
    function: Callable[[], object], *, cancel: Callable[[], object], head_start: float
) -> Iterator[Callable[[], bool]]:
    """Call a function in a thread while the block runs, and wait for it at the end of the block.

    Parameters
    ----------
    function : callable
        Its error is raised when the block has ended.
    cancel : callable
        Called if the block or the wait fails, in this thread; has the function end soon.
    head_start : float
        Seconds that the block waits for the function at most before it begins.

    Yields
    ------
    callable
        Tells whether the function has ended.

    Notes
    -----
    When the block is left, in whatever way, the function has ended.
    """
    ended: list[BaseException | None] = []
    news = SimpleQueue[None]()

    def work() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  # for the thread that waits
            ended.append(error)
        else:
            ended.append(None)
        news.put(None)

    thread = Thread(target=work, name="meanwhile")
    try:
        with _interrupts_put_off(), suppress(RuntimeError):
            thread.start()
        if thread.ident is None:  # no thread can be started here
            work()
        with suppress(Empty):
            news.get(timeout=head_start)
        yield lambda: bool(ended)
        _wait_until(ended, news)
    except BaseException:
        cancel()
        raise
    finally:
        with _interrupts_put_off():
            if thread.ident is not None:
                thread.join()
    if ended[0] is not None:
        raise ended[0]


def _wait_until(ended: list[BaseException | None], news: SimpleQueue[None]) -> None:
    while not ended:
        with suppress(Empty):
            news.get(timeout=_LOOKS_UP)


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
        How many at once; up to 1, no other thread than this one.
    on_bytes : callable
        Called with each number of bytes done, in this thread.

    Yields
    ------
    (int, result or exception)
        As `each` without an executor: in the order of the items. After an interrupt nothing is begun any more, and
        what was begun has ended before that is raised.
    """
    if threads <= 1:
        yield from each(lambda item: function(item, on_bytes), items, None)
        return
    reports = SimpleQueue[int | tuple[int, R | BaseException]]()
    results: dict[int, R | BaseException] = {}
    over: list[int] = []
    begun = yielded = 0
    stopped = False

    def tell(count: int) -> None:
        if stopped:
            raise _StoppedError
        if count:
            reports.put(count)

    def work(number: int, item: T) -> None:
        try:
            tell(0)  # whether it is still wanted
            result: R | BaseException = function(item, tell)
        except BaseException as error:  # noqa: BLE001  # for the thread that waits
            result = error
        over.append(number)
        reports.put((number, result))

    def result_of(number: int) -> R | BaseException:
        while number not in results:
            report = reports.get()
            if isinstance(report, tuple):
                results[report[0]] = report[1]
            else:
                on_bytes(report)
        result = results.pop(number)
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
        return result

    pool = ThreadPoolExecutor(threads, thread_name_prefix="each")
    try:
        try:
            with _interrupts_put_off():
                pool.submit(int)
        except RuntimeError:  # no thread can be started here
            yield from each(lambda item: function(item, on_bytes), items, None)
            return
        for item in items:
            with _interrupts_put_off():
                with suppress(RuntimeError):  # no further thread; those that run will take it
                    pool.submit(work, begun, item)
                begun += 1
            if begun - yielded > 2 * threads:  # some in store, so that none is idle while this thread is busy
                yield yielded, result_of(yielded)
                yielded += 1
        while yielded < begun:
            yield yielded, result_of(yielded)
            yielded += 1
    finally:
        stopped = True
        while len(over) < begun:
            reports.get()
        with _interrupts_put_off():
            pool.shutdown()


@contextmanager
def called_ahead(
    function: Callable[[T], R], items: Mapping[K, T], threads: int, *, clear: Callable[[R], object]
) -> Iterator[Callable[[K], R | None]]:
    """Call a function with each item, a few ahead of the one whose result is asked for.

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
        Waits for the result of a key, or raises the error of its call; None for a key that is not among the items.

    Notes
    -----
    When the block is left, in whatever way, no call is begun any more, and those that were begun have ended.
    """
    made: list[R] = []
    found: dict[K, R | BaseException] = {}
    keys = list(items)
    groups = [keys[start : start + _GROUP] for start in range(0, len(keys), _GROUP)]

    def call(group: list[K], tell: Callable[[int], object]) -> list[R | BaseException]:
        results: list[R | BaseException] = []
        for key in group:
            tell(0)  # whether it is still wanted
            try:
                result = function(items[key])
            except Exception as error:  # noqa: BLE001  # for the one who asks for it
                results.append(error)
            else:
                made.append(result)
                results.append(result)
        return results

    def take(key: K) -> R | None:
        while key in items and key not in found:
            number, found_now = next(results)
            if isinstance(found_now, BaseException):
                raise found_now
            found.update(zip(groups[number], found_now, strict=True))
        result = found.get(key)
        if isinstance(result, BaseException):
            raise result
        return result

    try:
        with closing(each_in_threads(call, groups, threads, lambda count: None)) as results:
            yield take
    finally:
        for result in made:
            clear(result)

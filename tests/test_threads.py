"""Work in a few threads, and interrupts at any moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import pytest

from nwb_extfiles.threads import each_in_threads, meanwhile


def in_threads(items: Iterable[int], **options: Any) -> list[tuple[int, Any]]:
    """Pairs of a number and what came of it; even ones take longer, so that they end out of order."""

    def work(item: int, tell: Callable[[int], object]) -> int:
        time.sleep(0.002 * (item % 2 == 0))
        tell(item)
        if item == 3:
            raise ValueError(item)
        return 2 * item

    return list(each_in_threads(work, items, **{"threads": 4, "on_bytes": lambda count: None, **options}))


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_each_item_is_processed_in_threads(threads: int) -> None:
    told: list[int] = []
    here: set[int] = set()

    def on_bytes(count: int) -> None:
        told.append(count)
        here.add(threading.get_ident())

    found = in_threads(range(100), threads=threads, on_bytes=on_bytes)
    assert [number for number, _ in found] == list(range(100))
    assert isinstance(found.pop(3)[1], ValueError)
    assert found == [(number, 2 * number) for number in range(100) if number != 3]
    assert sorted(filter(None, told)) == list(range(1, 100))
    assert here == {threading.get_ident()}
    assert in_threads([]) == []


def test_items_are_taken_when_needed() -> None:
    taken = []
    results = each_in_threads(lambda item, tell: taken.append(item), range(1000), 2, lambda count: None)
    next(results)
    assert len(taken) < 20
    results.close()


@pytest.mark.parametrize("where", ["worker", "progress", "caller"])
def test_interrupt_ends_all_threads(where: str) -> None:
    """Nothing is begun after it, and what was begun has ended before it is raised."""
    begun, ended = [], []
    wait = threading.Event()

    def work(item: int, tell: Callable[[int], object]) -> None:
        begun.append(item)
        try:
            if where == "worker" and item == 3:
                raise KeyboardInterrupt
            while not wait.wait(0.001):  # until it is told to stop
                tell(1)
                if item < 2:
                    return
        finally:
            ended.append(item)

    def on_bytes(count: int) -> None:
        if where == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), closing(each_in_threads(work, range(1000), 2, on_bytes)) as results:
        for number, _ in results:
            if where == "caller" and number == 1:
                raise KeyboardInterrupt
            if where == "worker":
                wait.set()
    assert len(begun) < 10
    assert sorted(begun) == sorted(ended)


@pytest.mark.skipif(os.name == "nt", reason="forks")
@pytest.mark.parametrize("way", ["each_in_threads", "meanwhile"])
def test_interrupt_with_held_locks_does_not_hang(way: str) -> None:
    """Ctrl-C just when the main thread got a lock of `threading`, which stays locked then."""
    call = {"each_in_threads": call_each, "meanwhile": call_meanwhile}[way]
    at, status = 0, 1
    while status:
        at += 1
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # if it hangs
            signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background ignores it
            os._exit(_interrupted_with_lock(at, call))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, 1), at
    assert at > 1


Work = Callable[[int, Callable[[int], object]], None]


def call_each(work: Work) -> None:
    with closing(each_in_threads(work, range(12), 4, lambda count: None)) as results:
        list(results)


def call_meanwhile(work: Work) -> None:
    with meanwhile(lambda: work(0, print), cancel=lambda: None, head_start=0):
        pass


def _interrupted_with_lock(at: int, call: Callable[[Work], None]) -> int:
    """Interrupt at the n-th lock; 1 if there was one, 0 if there are not so many, 2 if anything goes on."""
    seen = 0
    begun, ended = [], []

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal seen
        if frame.f_code is threading.Condition.__enter__.__code__ and event == "return":
            seen += 1
            if seen == at:
                signal.raise_signal(signal.SIGINT)
        return trace

    def work(item: int, tell: Callable[[int], object]) -> None:
        begun.append(item)
        time.sleep(0.02)
        ended.append(item)

    interrupted = 0
    sys.settrace(trace)
    try:
        call(work)
    except KeyboardInterrupt:
        interrupted = 1
    sys.settrace(None)
    return 2 if sorted(begun) != sorted(ended) else interrupted


def test_caller_does_the_work_where_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives none, the one who asks does it all."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert in_threads([1, 2]) == [(0, 2), (1, 4)]
    done = []
    with meanwhile(lambda: done.append(1), cancel=lambda: None, head_start=1) as is_done:
        assert is_done()
    assert done == [1]


def test_block_and_thread_end_together() -> None:
    """Whichever of the two fails, the other one has ended when the error is raised."""
    stop, ended = threading.Event(), []

    def wait() -> None:
        stop.wait(30)
        ended.append(1)

    with pytest.raises(ZeroDivisionError), meanwhile(wait, cancel=stop.set, head_start=0) as is_done:
        assert not is_done()
        raise ZeroDivisionError
    assert ended == [1]
    with pytest.raises(ValueError, match="nonsense"), meanwhile(lambda: int("nonsense"), cancel=stop.set, head_start=0):
        ended.append(2)
    assert ended == [1, 2]

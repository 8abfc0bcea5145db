"""Jobs in processes of their own, which can be killed: forked, or started anew on Windows.

A fork is preferred, because importing pynwb takes longer than a hundred of the runs that are killed in tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress

SIGKILL = 9
"""`signal.SIGKILL`, which Windows' Python does not name: there `os.kill` ends the process with this exit status."""
KILLED = SIGKILL if os.name == "nt" else -SIGKILL
"""What `Child.wait` and `subprocess` give for a process that was killed."""

FORKS = hasattr(os, "fork")
"""Whether processes are forked. Where each is started anew, which takes seconds, tests make do with fewer."""

_STARTED = "import processes; processes._do_the_job()"


class Child:
    """A process that does a job, reports its steps through a pipe, and can wait for an answer.

    Where it is not forked, the job is pickled: it changes nothing in this process, and takes over no patches from it.
    """

    def __init__(self, job: Callable[[Child], object]) -> None:
        self.status: int | None = None
        if FORKS:
            self._fork(job)
        else:
            self._start(job)

    def _fork(self, job: Callable[[Child], object]) -> None:
        self._from_other, to_parent = os.pipe()
        from_parent, self._to_other = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork in a process with threads
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._from_other)
            os.close(self._to_other)
            self._from_other, self._to_other = from_parent, to_parent
            self._do(job)
        os.close(to_parent)
        os.close(from_parent)

    def _start(self, job: Callable[[Child], object]) -> None:
        import cloudpickle

        pickled = cloudpickle.dumps(job)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _STARTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )
        self.pid = self._process.pid
        self._from_other, self._to_other = self._process.stdout.fileno(), self._process.stdin.fileno()
        for part in (b"%d\n" % len(pickled), pickled):
            self._process.stdin.write(part)

    def _do(self, job: Callable[[Child], object]) -> None:
        status = 1
        try:
            job(self)
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)

    def tell(self, step: bytes) -> None:
        """Send one byte to the other process."""
        os.write(self._to_other, step)

    def hear(self) -> bytes:
        """Receive the next byte from the other process. Empty when that has ended."""
        return os.read(self._from_other, 1)

    def kill(self) -> None:
        with suppress(PermissionError):  # on Windows, of a process that has ended
            os.kill(self.pid, SIGKILL)

    def wait(self) -> int:
        """The exit status; `KILLED` for a process that was killed."""
        if self.status is None and FORKS:
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
            os.close(self._from_other)
            os.close(self._to_other)
        elif self.status is None:
            self.status = self._process.wait()
            self._process.stdout.close()
            self._process.stdin.close()
        return self.status


def _do_the_job() -> None:
    """What a started process does: read the job from standard input, and do it."""
    import pickle

    warnings.simplefilter("ignore")
    child = Child.__new__(Child)
    child._from_other, child._to_other = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what is printed is none of the steps
    size = b"".join(iter(child.hear, b"\n"))
    pickled = b""
    while len(pickled) < int(size):
        pickled += os.read(child._from_other, int(size) - len(pickled))
    child._do(pickle.loads(pickled))


def run_apart(job: Callable[[], object]) -> int:
    """Run a job in a process of its own, and return its exit status."""
    return Child(lambda child: job()).wait()


def kill_this_process() -> None:
    """End this process at once, as the system would: nothing is cleaned up."""
    os.kill(os.getpid(), SIGKILL)

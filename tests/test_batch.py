"""Many files: in memory, in threads, in processes, and on a cluster."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import pytest
from helpers import digest, stored_paths
from recordings import object_id, recording, video

from nwb_extfiles import ExternalFilesWarning, organize
from nwb_extfiles.batch import each, workers
from nwb_extfiles.errors import TransferError
from nwb_extfiles.tasks.organize import organizing
from nwb_extfiles.tasks.organize.one_file import carry_out

# ----------------------------------------------------------------------- each


def double(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return 2 * number


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture(params=["none", "threads", "processes"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    if request.param == "processes":
        yield request.getfixturevalue("processes")
    elif request.param == "threads":
        with ThreadPoolExecutor(4) as pool:
            yield pool
    else:
        yield None


def test_each_item_is_processed(executor: Executor | None) -> None:
    found = dict(each(double, range(200), executor))
    assert isinstance(found.pop(3), ValueError)
    assert found == {number: 2 * number for number in range(200) if number != 3}
    assert list(each(double, [], executor)) == []


def test_items_are_taken_when_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = each(abs, items(), pool)
        next(results)
        assert len(taken) < 200
        results.close()


@pytest.mark.parametrize("threads", [None, 1])
def test_interrupt_is_raised_at_once(threads: int | None) -> None:
    begun, done, raised = [], [], threading.Event()

    def interrupted(number: int) -> None:
        begun.append(number)
        if number == 2:
            raise KeyboardInterrupt
        if number > 2:  # what was begun before anybody could know of it
            assert raised.wait(100)

    with nullcontext() if threads is None else ThreadPoolExecutor(threads) as pool:
        with pytest.raises(KeyboardInterrupt):
            for number, _ in each(interrupted, range(1000), pool):
                done.append(number)
        raised.set()
    assert set(done) <= {0, 1}
    assert begun in ([0, 1, 2], [0, 1, 2, 3]), "what was queued ran on"


def touched(path: Path) -> None:
    """Take some time, and leave a file to show that it was done."""
    time.sleep(0.5)
    path.touch()


def test_workers_use_the_given_executor_and_stop_on_error(tmp_path: Path) -> None:
    with workers(1, None) as nobody:
        assert nobody is None
    with ThreadPoolExecutor(1) as pool, workers(7, pool) as mine:
        assert mine is pool
    with pytest.raises(RuntimeError, match="mine"), workers(1 + 1, None) as pool:
        assert pool is not None
        for number in range(200):  # a minute's work
            pool.submit(touched, tmp_path / str(number))
        raise RuntimeError("mine")
    assert len(list(tmp_path.iterdir())) < 100, "what had not begun was done"


# --------------------------------------------------------- organize at many places


def make(tmp_path: Path, count: int) -> Path:
    """Make that many recordings, each with a video of its own and one that all share."""
    raw = tmp_path / "raw"
    video(tmp_path / "videos" / "shared.avi")
    for number in range(count):
        paths = [f"../videos/{number}.avi", "../videos/shared.avi"]
        recording(raw / f"{number:03}.nwb", paths, subject=f"m{number % 3}", session=f"s{number:03}")
    return raw


def assert_all(root: Path, videos: Path | dict[str, str], count: int) -> None:
    contents = videos if isinstance(videos, dict) else {path.name: digest(path) for path in videos.iterdir()}
    for number in range(count):
        path = root / f"sub-m{number % 3}" / f"sub-m{number % 3}_ses-s{number:03}_image.nwb"
        paths = stored_paths(path)
        assert paths == [f"{path.stem}/{object_id(path)}_external_file_{n}.avi" for n in range(2)]
        assert digest(path.parent / paths[0]) == contents[f"{number}.avi"]
        assert digest(path.parent / paths[1]) == contents["shared.avi"]
    assert len(list(root.rglob("*.nwb"))) == count
    assert not list(root.rglob(".*"))


FAST = {"sync": False}


COUNT = 20
"""Files that are carried out several at once."""


@pytest.mark.parametrize("small", [organizing._SMALL, 0])
@pytest.mark.parametrize("mode", ["copy", "move", "symlink"])
def test_organize_in_threads(tmp_path: Path, mode: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several at once, or large files one after the other: the result is the same."""
    monkeypatch.setattr(organizing, "_SMALL", small)
    raw = make(tmp_path, COUNT)
    videos = {path.name: digest(path) for path in (tmp_path / "videos").iterdir()}
    done, calls, threads = [], [], set()

    def progress(now: int, total: int) -> None:
        calls.append((now, total))
        threads.add(threading.current_thread())

    plan = organize(
        raw, tmp_path / "ds", files_mode="move" if mode == "move" else "copy", media_mode=mode,
        media_options={"progress": progress}, on_file=lambda file: done.append(file.source.name),
    )  # fmt: skip
    assert_all(tmp_path / "ds", videos, COUNT)
    assert done == [file.source.name for file in plan] == [f"{number:03}.nwb" for number in range(COUNT)]
    assert [now for now, _ in calls] == sorted(now for now, _ in calls)
    assert calls[-1] == (plan.work_bytes, plan.work_bytes)
    assert threads == {threading.current_thread()}
    assert len(list((tmp_path / "videos").iterdir())) == (0 if mode == "move" else COUNT + 1)


class Stop(BaseException):
    """Stops a run like an interrupt."""


@pytest.mark.parametrize("where", ["on_file", "progress"])
@pytest.mark.parametrize("mode", ["copy", "move"])
def test_organize_interrupted_in_threads(tmp_path: Path, mode: str, where: str) -> None:
    """Each file is complete or absent, and no thread continues. The same call again does the rest."""
    raw = make(tmp_path, COUNT)
    videos = {path.name: digest(path) for path in (tmp_path / "videos").iterdir()}
    calls = 0

    def stop(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Stop

    options = {"on_file": stop} if where == "on_file" else {"media_options": {"progress": stop}}
    with pytest.raises(Stop):
        organize(raw, tmp_path / "ds", files_mode=mode, media_mode=mode, **options)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("each_")]
    made = list((tmp_path / "ds").rglob("*.nwb"))
    assert len(made) < COUNT
    for path in made:
        assert [digest(path.parent / text) for text in stored_paths(path)][1] == videos["shared.avi"]
    assert not list((tmp_path / "ds").rglob(".*"))
    assert len(list(raw.iterdir())) == COUNT
    assert {path.name: digest(path) for path in (tmp_path / "videos").iterdir()} == videos
    organize(raw, tmp_path / "ds", files_mode=mode, media_mode=mode)
    assert_all(tmp_path / "ds", videos, COUNT)


def test_organize_failures_in_threads(tmp_path: Path) -> None:
    """Failures are listed in the order of the files."""
    raw = make(tmp_path, COUNT)
    meddled = []

    def progress(now: int, total: int) -> None:
        if not meddled:
            for number in (19, 17):
                meddled.append(tmp_path / "videos" / f"{number}.avi")
                meddled[-1].write_bytes(b"another")

    with pytest.raises(TransferError, match="2 of 20 NWB files could not be organized") as caught:
        organize(raw, tmp_path / "ds", media_mode="copy", media_options={"progress": progress})
    assert [Path(str(problem.nwb_path)).name for problem in caught.value.problems] == ["017.nwb", "019.nwb"]
    assert len(list((tmp_path / "ds").rglob("*.nwb"))) == COUNT - 2
    assert not list((tmp_path / "ds").rglob(".*"))


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_organize_with_any_executor(tmp_path: Path, executor: Executor | None, mode: str) -> None:
    raw = make(tmp_path, 7)
    videos = {path.name: digest(path) for path in (tmp_path / "videos").iterdir()}
    done = []
    plan = organize(
        raw, tmp_path / "ds", files_mode=mode, media_mode=mode, executor=executor, media_options=FAST,
        on_file=done.append,
    )  # fmt: skip
    assert_all(tmp_path / "ds", videos, 7)
    assert [file.source.name for file in plan] == [f"{number:03}.nwb" for number in range(7)]
    assert {file.source for file in done} == {file.source for file in plan}
    assert len(list((tmp_path / "videos").iterdir())) == (0 if mode == "move" else 8)


def test_organize_warnings_in_threads(tmp_path: Path) -> None:
    """Problems at the end of a move are reported, and Python's warning filters are unchanged."""
    raw = make(tmp_path, 6)
    before = warnings.showwarning, list(warnings.filters)

    times = iter(range(1, 7))  # others than it had when it was read, however coarse the clock

    def on_file(_: Any) -> None:
        os.utime(tmp_path / "videos" / "0.avi", (next(times),) * 2)  # changed since it was read

    with ThreadPoolExecutor(4) as pool, pytest.warns(ExternalFilesWarning, match=r"0\.avi was moved .* is still there"):
        organize(
            raw, tmp_path / "ds", files_mode="move", media_mode="move", executor=pool, on_file=on_file,
            media_options=FAST,
        )  # fmt: skip
    assert (warnings.showwarning, list(warnings.filters)) == before
    assert (tmp_path / "videos" / "0.avi").exists()
    assert not (tmp_path / "videos" / "1.avi").exists()


def test_unpicklable_progress_callback(tmp_path: Path) -> None:
    raw = make(tmp_path, 3)
    lock = threading.Lock()
    calls = []

    def progress(now: int, total: int) -> None:
        with lock:
            calls.append((now, total))

    plan = organize(raw, tmp_path / "ds", jobs=2, media_options={"progress": progress, **FAST})
    assert calls[-1] == (plan.total_bytes, plan.total_bytes)


def test_progress_on_terminal_with_processes(tmp_path: Path) -> None:
    """The process on the terminal has a bar; the workers have none."""
    pty = pytest.importorskip("pty")
    raw = make(tmp_path, 3)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "nwb_extfiles", "organize", "-J", "2", "-d", tmp_path / "ds", raw]
    seen = b""
    with subprocess.Popen(command, stderr=follower, stdout=subprocess.PIPE, text=True) as process:
        os.close(follower)
        try:
            while block := os.read(leader, 65536):  # a terminal that nobody reads takes no more at some time
                seen += block
        except OSError:  # the other end is closed
            pass
        assert process.stdout is not None
        said = process.stdout.read()
    os.close(leader)
    assert process.returncode == 0, seen
    assert "6 videos linked, 3 NWB files copied" in said
    assert_all(tmp_path / "ds", tmp_path / "videos", 3)


def test_several_failing_files(tmp_path: Path, executor: Executor | None) -> None:
    raw = make(tmp_path, 5)
    plan = organize(raw, tmp_path / "ds", dry_run=True, media_options=FAST)

    class Meddling(Executor):
        """Changes two videos after the planning, at the fourteenth call."""

        calls = 0

        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
            self.calls += 1
            if self.calls == 2 * len(plan) + 1:
                for number in (1, 3):
                    (tmp_path / "videos" / f"{number}.avi").write_bytes(b"another")
            if executor is not None:
                return executor.submit(function, *arguments, **options)
            future: Future[Any] = Future()
            try:
                future.set_result(function(*arguments, **options))
            except Exception as error:
                future.set_exception(error)
            return future

    with pytest.raises(TransferError, match="2 of 5 NWB files could not be organized") as caught:
        organize(raw, tmp_path / "ds", media_mode="copy", executor=Meddling(), media_options=FAST)
    assert len(caught.value.problems) == 2
    assert all(f"{number:03}.nwb" in str(caught.value) for number in (1, 3))
    assert sorted(path.name[-13:-10] for path in (tmp_path / "ds").rglob("*.nwb")) == ["000", "002", "004"]


def test_unit_of_work_can_be_pickled(tmp_path: Path) -> None:
    raw = make(tmp_path, 2)
    plan = organize(raw, tmp_path / "ds", dry_run=True)
    for file in plan:
        work = pickle.loads(pickle.dumps(partial(carry_out, file, files_mode="copy", sync=False)))
        assert work().notes == ()
    assert_all(tmp_path / "ds", tmp_path / "videos", 2)


# --------------------------------------------------------------------- a cluster


@pytest.mark.parametrize("workers_are", ["threads", "processes"])
@pytest.mark.filterwarnings("ignore")
def test_organize_with_dask(tmp_path: Path, workers_are: str) -> None:
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    raw = make(tmp_path, 6)
    videos = {path.name: digest(path) for path in (tmp_path / "videos").iterdir()}
    patience = {f"distributed.comm.timeouts.{what}": "300s" for what in ("connect", "tcp")}  # with a busy machine
    with (
        dask.config.set(patience),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=workers_are == "processes", dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        executor = client.get_executor()
        organize(raw, tmp_path / "ds", media_mode="copy", executor=executor, media_options=FAST)
        assert_all(tmp_path / "ds", videos, 6)
        # the same calls again, which dask by itself holds for done
        for path in (tmp_path / "ds").rglob("*.nwb"):
            path.unlink()
        organize(raw, tmp_path / "ds", media_mode="copy", executor=executor, media_options=FAST)
        assert_all(tmp_path / "ds", videos, 6)
        (tmp_path / "videos" / "3.avi").unlink()
        with pytest.raises(FileNotFoundError, match=r"3\.avi"):
            organize(raw, tmp_path / "ds2", media_mode="copy", executor=executor, media_options=FAST)
        assert not (tmp_path / "ds2").exists()


# ------------------------------------------------------------------------- scale


def many(folder: Path, count: int) -> Path:
    """Make small NWB files with different ids and subjects, all with one video."""
    raw = folder / "raw"
    video(folder / "video.avi")
    base = recording(raw / "0.nwb", ["../video.avi"], subject="subject000000", session="session")
    whole = base.read_bytes()
    base.unlink()
    with h5py.File(folder / "base.nwb", "w"):
        pass
    (folder / "base.nwb").write_bytes(whole)
    ids = {}
    with h5py.File(folder / "base.nwb", "r") as file:
        ids = {
            name: str(item.attrs["object_id"]) for name, item in (("/", file), ("series", file["acquisition/video"]))
        }
    for number in range(count):
        data = whole
        for name, own in ids.items():
            data = data.replace(own.encode(), f"{number:08x}-{len(name):04}{own[13:]}".encode())
        data = data.replace(b"subject000000", f"subject{number // 4:06}".encode())
        (raw / f"{number:06}.nwb").write_bytes(data)
    return raw


PLAN = """
import resource, shutil, sys, time, warnings
from pathlib import Path
from nwb_extfiles import organize

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

raw, root = Path(sys.argv[1]), Path(sys.argv[2])
options = dict(dry_run=len(sys.argv) > 3, media_mode="hardlink", media_options={"sync": False})
few = sorted(raw.iterdir())[:20]
organize(few, root, **options)  # what is imported, and what each thread has for itself, counts for nothing
shutil.rmtree(root, ignore_errors=True)
before, begin = most(), time.monotonic()
plan = organize(raw, root, **options)
targets = [file.target for file in plan]
assert len(set(targets)) == len(plan)
assert all("_obj-" in target.name for target in targets)
assert [file.source for file in plan] == sorted(raw.iterdir())
print(len(plan), most() - before, time.monotonic() - begin)
"""


def organize_many(folder: Path, count: int, *words: str) -> tuple[int, float]:
    """Organize many files in a process of its own. Returns the memory beyond that for a few files, and the time."""
    pytest.importorskip("resource")
    raw = many(folder, count)
    command = [sys.executable, "-c", PLAN, raw, folder / "ds", *words]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    number, memory, took = run.stdout.split()
    assert int(number) == count
    return int(memory), float(took)


def test_organize_200_files(tmp_path: Path) -> None:
    memory, _ = organize_many(tmp_path, 200)
    assert memory < 20 << 20
    assert len(list((tmp_path / "ds").rglob("*.nwb"))) == 200
    assert (tmp_path / "video.avi").stat().st_nlink == 201


@pytest.mark.long
def test_organize_10_000_files(tmp_path: Path) -> None:
    memory, took = organize_many(tmp_path, 10_000, "plan only")
    print(f"\n10,000 files: planned in {took:.0f} s, with {memory >> 20} MiB more than 20 files take")
    assert memory < 200 << 20
    assert not (tmp_path / "ds").exists()


FOR_LONG = """
import os, sys, time
from nwb_extfiles.batch import each, workers

def stay(seconds):
    print(os.getpid(), flush=True)
    time.sleep(seconds)

if __name__ == "__main__":
    with workers(2, None) as pool:
        for _ in each(stay, [60, 60], pool):
            pass
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent")
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM] if os.name != "nt" else [])
def test_workers_end_with_their_parent(tmp_path: Path, by: int) -> None:
    """SIGTERM is what Slurm, systemd and `timeout` send; neither leaves the parent time to stop its workers."""
    script = tmp_path / "for_long.py"
    script.write_text(FOR_LONG)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(by)
        parent.wait()
        end = time.monotonic() + 10
        while any(map(_is_running, pids)):
            assert time.monotonic() < end, "workers go on without their parent"
            time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")  # nobody may reap it

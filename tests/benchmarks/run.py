"""Measure what relocation costs, as ratios of paired runs: ``python tests/benchmarks/run.py``.

Each benchmark times A and B alternately and compares their medians, so that a busy or slow machine affects both.
``--scale 0.1`` reduces all sizes to a tenth; ``--only copy`` runs the benchmarks with that word in their name. Prints a
table in Markdown; ``--output FOLDER`` also writes it, and JSON, to files.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import image_series, new_nwbfile
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries
from pynwb.ecephys import LFP, ElectricalSeries
from videos import ffmpeg

MB = 1024 * 1024
Run = Callable[[], object]


@dataclass
class Result:
    """One row of the table."""

    what: str
    against: str
    measured: str
    value: float
    bound: float | None
    unit: str = "x"
    detail: str = ""
    count: int | None = None
    """How many references or files there were, where it is told how something grows."""

    @property
    def verification(self) -> str:
        if self.bound is None:
            return ""
        return "met" if self.value <= self.bound else "MISSED"


@dataclass
class Settings:
    folder: Path
    scale: float
    rounds: int

    def size(self, full: int) -> int:
        return max(1, int(full * self.scale))

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A temporary folder."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


# ------------------------------------------------------------------ measuring


def wall(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cpu(run: Run) -> float:
    gc.collect()
    start = time.process_time()
    run()
    return time.process_time() - start


def paired(
    a: Run, b: Run, rounds: int, *, clean: Run = lambda: None, measure: Callable[[Run], float] = wall
) -> tuple[float, str]:
    """The ratio of the medians of A and B, which run alternately; and both medians in words."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for of, run in zip(times, (a, b), strict=True):
            clean()
            taken = measure(run)
            if number:  # the first round fills caches
                of.append(taken)
    clean()
    ours, theirs = map(statistics.median, times)
    return ours / theirs, f"{ours * 1e3:,.1f} ms : {theirs * 1e3:,.1f} ms, {rounds} rounds"


def new_folders(place: Path) -> Iterator[Path]:
    """A new folder for each run: ext4 makes files slowly after many were removed in the last minutes."""
    for number in itertools.count():
        folder = place / f"out{number}"
        folder.mkdir()
        yield folder


def cold_cache(folder: Path) -> dict[str, str]:
    """The environment of a run that is the first one: with a cache of its own, beside the folder that it makes."""
    return {"XDG_CACHE_HOME": f"{folder}-cache"}


def remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def in_python(code: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


# ----------------------------------------------------------------- materials


def bytes_file(path: Path, size: int) -> Path:
    """Make a file of bytes that do not compress."""
    block = np.random.default_rng(len(path.name)).bytes(min(size, 16 * MB))
    with open(path, "wb") as stream:
        left = size
        while left:
            left -= stream.write(block[: min(left, len(block))])
    return path


def sparse_file(path: Path, size: int) -> Path:
    with open(path, "wb") as stream:
        stream.truncate(size)
    return path


def nwb_with_references(path: Path, objects: int, references: int, paths_each: int = 1) -> Path:
    """Make an NWB file with many objects, some of which refer to small videos beside it."""
    videos = path.parent / "videos"
    videos.mkdir(exist_ok=True, parents=True)
    nwbfile = new_nwbfile(identifier=path.stem, subject=path.stem)
    module = nwbfile.create_processing_module("behavior", "behavior")
    number = 0
    for name in range(references // paths_each):
        paths = []
        for _ in range(paths_each):
            paths.append(f"videos/{path.stem}_{number}.avi")
            (path.parent / paths[-1]).write_bytes(b"video %d" % number)
            number += 1
        module.add(image_series(paths, f"video{name}"))
    for name in range(objects - references // paths_each):
        module.add(TimeSeries(name=f"series{name}", data=np.arange(10.0), unit="V", rate=10.0))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def nwb_in_a_folder(
    path: Path, videos: int, video_size: int, fill: Callable[[NWBFile], object] = lambda nwbfile: None
) -> Path:
    """Make an NWB file with one series of several videos, which `dandi organize` finds, and optional other objects."""
    folder = path.parent / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [f"videos/{path.stem}_{number}.avi" for number in range(videos)]
    for text in paths:
        bytes_file(path.parent / text, video_size)
    nwbfile = new_nwbfile(identifier=path.stem, subject=path.stem)
    nwbfile.add_acquisition(image_series(paths))
    fill(nwbfile)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def as_a_lab_has_it(nwbfile: NWBFile) -> None:
    """Add what a recording session has: some thirty objects, with little data."""
    numbers = np.random.default_rng(0)
    device = nwbfile.create_device("probe")
    for name in ("shank0", "shank1"):
        group = nwbfile.create_electrode_group(name, description=name, location="CA1", device=device)
        for _ in range(4):
            nwbfile.add_electrode(location="CA1", group=group)
    electrodes = nwbfile.create_electrode_table_region(list(range(8)), "all")
    voltage = numbers.standard_normal((1000, 8))
    nwbfile.add_acquisition(ElectricalSeries(name="raw", data=voltage, electrodes=electrodes, rate=3e4))
    nwbfile.add_trial_column("choice", "left or right")
    for number in range(20):
        nwbfile.add_trial(start_time=float(number), stop_time=number + 0.5, choice=("left", "right")[number % 2])
    nwbfile.add_unit_column("quality", "as the sorter has it")
    for _ in range(10):
        nwbfile.add_unit(spike_times=np.sort(numbers.random(50)), electrodes=[0, 1], quality="good")
    behavior = nwbfile.create_processing_module("behavior", "behavior")
    track = SpatialSeries(name="track", data=numbers.random((500, 2)), rate=30.0, reference_frame="corner")
    behavior.add(Position(spatial_series=track))
    for name in ("speed", "licks", "reward"):
        behavior.add(TimeSeries(name=name, data=numbers.random(500), unit="V", rate=30.0))
    lfp = ElectricalSeries(name="lfp", data=voltage[:100], electrodes=electrodes, rate=1e3)
    nwbfile.create_processing_module("ecephys", "ecephys").add(LFP(electrical_series=lfp))


def export(source: Path, target: Path, mode: str | None) -> None:
    from nwb_extfiles import NWBExtFilesHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(source, "r") as src:
            if mode is None:
                with NWBHDF5IO(target, "w") as io:
                    io.export(src_io=src)
            else:
                with NWBExtFilesHDF5IO(target, "w") as io:
                    io.export(src_io=src, relocate_media=True, media_mode=mode)


# ---------------------------------------------------------------- benchmarks


def flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def copy_by_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", source, target], check=True)
    flush(target)


def copy_of_a_video(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles.disk.contents import copy_verified

    with settings.place() as place:
        video = bytes_file(place / "video.avi", settings.size(512 * MB))
        target = place / "copy.avi"

        os.sync()
        value, detail = paired(
            lambda: copy_verified(video, target),
            lambda: copy_by_cp(video, target),
            settings.rounds,
            clean=lambda: remove(target),
        )
        yield Result(
            "copy of a 512 MB video, both sides verified, synced", "cp + fsync", "wall", value, 1.15, detail=detail
        )


def large_h264(path: Path, size: int) -> Path:
    """Make an elementary stream of noisy frames with B-frames, which are 640 x 480 pixels."""
    part = path.with_name("part.h264")
    noise = "testsrc2=size=640x480:rate=30:duration=10,noise=c0s=60:c0f=t"
    ffmpeg("-f", "lavfi", "-i", noise, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-qp", "24", part)
    content = part.read_bytes()
    with open(path, "wb") as stream:
        stream.writelines(content for _ in range(max(1, size // len(content))))
    part.unlink()
    return path


def remuxed_videos(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles.disk.contents import digest_of
    from nwb_extfiles.media.pyav.remuxing import remux
    from nwb_extfiles.plans.resolve import Remux

    with settings.place() as place:
        stream = large_h264(place / "video.h264", settings.size(256 * MB))
        container = place / "video.ts"
        target, size = place / "out.mp4", f"{stream.stat().st_size / MB:.0f} MB"
        remux(stream, target, Remux(".mp4", Fraction(30)))
        ffmpeg("-i", target, "-c", "copy", container)
        remove(target)

        def copied(source: Path) -> None:
            ffmpeg("-i", source, "-c", "copy", "-movflags", "faststart", target)
            flush(target)

        def decoded(source: Path) -> None:
            ffmpeg("-i", source, "-f", "null", "-")

        scenes: list[tuple[str, Path, Fraction | None, str, Callable[[Path], object]]] = [
            ("MPEG-TS", container, None, "ffmpeg -c copy + fsync", copied),
            ("MPEG-TS", container, None, "SHA-256", digest_of),
            ("raw H.264", stream, Fraction(30), "ffmpeg decoding it once", decoded),
        ]
        for what, source, rate, against, run in scenes:
            value, detail = paired(
                lambda source=source, rate=rate: remux(source, target, Remux(".mp4", rate)),
                lambda source=source, run=run: run(source),
                settings.rounds,
                clean=lambda: remove(target),
            )
            yield Result(f"remux of {size} of {what}, verified, synced", against, "wall", value, None, detail=detail)


def links_of_a_large_video(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles.disk.contents import can_clone

    with settings.place() as place:
        times = {}
        for size in (1, settings.size(2048 * MB)):
            folder = place / str(size)
            source = nwb_in_a_folder(folder / "a.nwb", 1, 1)
            sparse_file(folder / "videos" / "a_0.avi", size)
            times[size] = source
        small, large = times.values()
        out = place / "out"
        modes = {"symlink": "symlink", "hardlink": "hardlink"}
        if can_clone(large, place):
            modes["reflink"] = "copy"
        for name, mode in modes.items():
            taken: dict[Path, list[float]] = {small: [], large: []}
            for number in range(settings.rounds + 2):
                for source in (small, large):
                    read = _bytes_read()
                    seconds = wall(lambda source=source, mode=mode: export(source, out / "b.nwb", mode))
                    read = _bytes_read() - read
                    remove(out)
                    if number:
                        taken[source].append(seconds)
            beyond = statistics.median(taken[large]) - statistics.median(taken[small])
            yield Result(
                f"{name} of a 2 GB video", "of a video of 1 byte", "wall, difference", beyond * 1e3, 5, "ms",
                f"{read / MB:.1f} MB read in all",
            )  # fmt: skip


def _bytes_read() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/io").read_text().splitlines():
            if line.startswith("rchar:"):
                return int(line.split()[1])
    return 0


def export_of_many_objects(settings: Settings) -> Iterator[Result]:
    with settings.place() as place:
        source = nwb_with_references(place / "a.nwb", settings.size(2000), settings.size(800))
        folders = new_folders(place)

        def run(mode: str | None) -> None:
            export(source, next(folders) / "b.nwb", mode)

        value, detail = paired(lambda: run("symlink"), lambda: run(None), settings.rounds, measure=cpu)
        yield Result(
            "export in symlink mode, 2,000 objects, 800 references", "plain export", "CPU", value, 1.02, detail=detail
        )


def export_of_a_large_file(settings: Settings) -> Iterator[Result]:
    with settings.place() as place:
        source = nwb_in_a_folder(place / "a.nwb", 1, settings.size(1024 * MB))
        with NWBHDF5IO(source, "r+") as io:
            nwbfile = io.read()
            data = np.random.default_rng(0).integers(0, 2**15, settings.size(250 * MB), dtype=np.int16)
            nwbfile.add_acquisition(TimeSeries(name="raw", data=data, unit="V", rate=3e4))
            io.write(nwbfile)
        video, out = place / "videos" / "a_0.avi", place / "out"
        out.mkdir()

        def alone() -> None:
            copy_by_cp(video, out / "video.avi")

        def plain() -> None:
            export(source, out / "b.nwb", None)
            flush(out / "b.nwb")

        def at_once() -> None:
            copy = ["sh", "-c", 'cp "$0" "$1" && sync "$1"', video, out / "video.avi"]
            with subprocess.Popen(copy) as process:
                plain()
            assert process.returncode == 0

        def clean() -> None:
            for path in out.iterdir():
                remove(path)

        os.sync()
        times: dict[str, list[float]] = {"ours": [], "video": [], "nwb": [], "at once": []}
        for number in range(settings.rounds + 1):
            for name, run in (
                ("ours", lambda: export(source, out / "b.nwb", "copy")),
                ("video", alone),
                ("nwb", plain),
                ("at once", at_once),
            ):
                clean()
                taken = wall(run)
                if number:
                    times[name].append(taken)
        ours, of_media, of_nwb, of_both = map(statistics.median, times.values())
        yield Result(
            "export of a 500 MB NWB file with a 1 GB video, copy mode", "the larger of cp and export + fsync", "wall",
            ours / max(of_media, of_nwb), 1.15,
            detail=f"{ours:.2f} s; video alone {of_media:.2f} s, NWB file alone {of_nwb:.2f} s",
        )  # fmt: skip
        yield Result(
            "cp of that video and export + fsync at the same time, nothing verified", "the larger of the two", "wall",
            of_both / max(of_media, of_nwb), None, detail=f"{of_both:.2f} s",
        )  # fmt: skip


def finding_references(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles import resolve_external_files

    with settings.place() as place:
        source = nwb_with_references(place / "a.nwb", settings.size(2000), settings.size(800))

        def read() -> None:
            with NWBHDF5IO(source, "r") as io:
                io.read()

        def told(code: str) -> float:
            command = [sys.executable, "-c", code + _TWICE, source]
            return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        value, detail = paired(lambda: resolve_external_files(source), read, settings.rounds)
        what, against = "finding all references, 2,000 objects", "NWBHDF5IO.read()"
        yield Result(f"{what}, beside pynwb", against, "wall", value, 1 / 50, detail=detail)
        alone = [(told(_FIND), told(_READ)) for _ in range(settings.rounds)]
        ours, theirs = (statistics.median(times) for times in zip(*alone, strict=True))
        detail = f"{ours * 1e3:,.1f} ms : {theirs * 1e3:,.1f} ms, {settings.rounds} rounds"
        yield Result(f"{what}, each in its own process", against, "wall", ours / theirs, 1 / 50, detail=detail)


_FIND = """
from nwb_extfiles import resolve_external_files as run
"""
_READ = """
from pynwb import NWBHDF5IO
def run(path):
    with NWBHDF5IO(path, "r") as io:
        io.read()
"""
_TWICE = """
import sys, time
run(sys.argv[1])  # which imports what is imported late
start = time.perf_counter()
run(sys.argv[1])
print(time.perf_counter() - start)
"""
_DANDI = "import sys; from dandi.cli.command import main; main()"
_OURS = "from nwb_extfiles.cli import main; main()"


def bare_references(path: Path) -> list[tuple[str, list[str]]]:
    """Read with nothing but h5py what `find_in_file` finds: the type of each object, object_ids and paths of series."""
    found: list[tuple[str, list[str]]] = []

    def visit(_: str, item: Any) -> None:
        if item.attrs.get("neurodata_type") == "ImageSeries":
            found.append((item.attrs["object_id"], list(item["external_file"].asstr()[:])))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def bare_references_by_name(path: Path) -> list[tuple[str, str, list[str]]]:
    """The same by the names of datasets alone, the quickest way that h5py's objects have; misses ExternalImage."""
    found: list[tuple[str, str, list[str]]] = []
    with h5py.File(path, "r") as file:

        def visit(name: str) -> None:
            if name.endswith("/external_file"):
                series = file[name].parent
                paths = list(series["external_file"].asstr()[:])
                found.append((series.attrs["neurodata_type"], series.attrs["object_id"], paths))

        file.visit(visit)
    return found


def references_of_small_files(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles import resolve_external_files

    kinds: dict[str, Callable[[NWBFile], object]] = {"nearly empty": lambda nwbfile: None, "lab-like": as_a_lab_has_it}
    for kind, fill in kinds.items():
        with settings.place() as place:
            paths = [nwb_in_a_folder(place / f"m{n}" / f"n{n}.nwb", 2, 2000, fill) for n in range(settings.size(100))]
            for bare, against in (
                (bare_references, "h5py alone, types of all objects"),
                (bare_references_by_name, "h5py alone, by names of datasets"),
            ):
                value, detail = paired(
                    lambda paths=paths: [resolve_external_files(path) for path in paths],
                    lambda paths=paths, bare=bare: [bare(path) for path in paths],
                    settings.rounds,
                    measure=cpu,
                )
                what = f"finding references, 100 {kind} NWB files"
                yield Result(what, against, "CPU", value, 1.3, detail=detail)


def organize_again(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles import organize

    with settings.place() as place:
        source = place / "source"
        for number in range(settings.size(100)):
            nwb_in_a_folder(source / f"m{number}" / f"n{number}.nwb", 2, 2000)
        for mode in ("copy", "symlink"):
            folders = new_folders(place)
            dandisets = [next(folders)]
            os.environ |= cold_cache(dandisets[-1])

            def again(mode: str = mode, dandisets: list[Path] = dandisets) -> None:
                organize(source, dandisets[-1], media_mode=mode)

            def first(mode: str = mode, folders: Iterator[Path] = folders, dandisets: list[Path] = dandisets) -> None:
                dandisets.append(next(folders))
                os.environ |= cold_cache(dandisets[-1])
                organize(source, dandisets[-1], media_mode=mode)

            again()
            value, detail = paired(again, first, settings.rounds, measure=cpu)
            yield Result(
                f"organize of 100 NWB files again, nothing to do, {mode}", "its first run", "CPU", value, 0.3,
                detail=detail,
            )  # fmt: skip
            remove(*place.glob("out*"))


_CHECK = """
import sys
from nwb_extfiles import check
if __name__ == "__main__":
    check(sys.argv[1], jobs=2)
"""
_BARE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from run import bare_references
for path in sorted(Path(sys.argv[1]).glob("*/*.nwb")):
    bare_references(path)
"""


def usage(code: str, *arguments: object) -> tuple[float, float, float]:
    """CPU seconds of a Python process and those it starts; the memory in MB of it, and of the largest of those."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(f"{code}{_USAGE}")
        command = [sys.executable, script, *map(str, arguments)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    seconds, own, largest = map(float, told)
    return seconds, own, largest


_USAGE = """
if __name__ == "__main__":
    import resource
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(sum(one.ru_utime + one.ru_stime for one in both), *(one.ru_maxrss / 1024 for one in both))
"""


def check_of_many_files(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles.testing import make_video

    tests = [Path(__file__).parent, Path(__file__).parents[1]]
    with settings.place() as place:
        original = nwb_in_a_folder(place / "original" / "a.nwb", 2, 1)
        for number in range(2):
            make_video(original.parent / "videos" / f"a_{number}.avi", number)
        memory: dict[int, list[float]] = {}
        for count in (settings.size(1000), settings.size(10_000)):
            folder = place / "many"
            for number in range(count):
                shutil.copytree(original.parent, folder / f"m{number:05}")
            seconds, *memory[count] = usage(_CHECK, folder)
            bare = usage(_BARE, folder, *tests)[0]
            yield Result(
                f"check of {count:,} NWB files x 2 videos, two processes", "h5py alone reading ids and paths",
                "CPU, with start-up", seconds / bare, 1.5,
                detail=f"{seconds / count * 1e3:.2f} ms : {bare / count * 1e3:.2f} ms a file", count=count,
            )  # fmt: skip
            remove(folder)
        for which, few, many in zip(("the calling process", "each other"), *memory.values(), strict=True):
            yield Result(
                f"check of ten times as many NWB files, two processes, {which}", "of a tenth", "memory at most",
                many / few, 1.2, detail=f"{many:.0f} MB : {few:.0f} MB",
            )  # fmt: skip


_CLUSTER = """
import sys, time, warnings
warnings.simplefilter("ignore")
from nwb_extfiles import organize
if __name__ == "__main__":
    source, target, how = sys.argv[1:]
    if how == "dask":
        from distributed import Client
        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=target + "-dask")
        executor = client.get_executor()
    else:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        executor = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    list(executor.map(abs, range(4)))  # the workers are there
    start = time.perf_counter()
    organize(source, target, media_mode="symlink", executor=executor)
    print(time.perf_counter() - start)
    client.close() if how == "dask" else executor.shutdown()
"""


def organize_on_a_cluster(settings: Settings) -> Iterator[Result]:
    """Organize with the scheduler and the workers of dask on this machine, and with as many plain processes."""
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        return
    with settings.place() as place:
        source = place / "source"
        for number in range(settings.size(300)):
            nwb_in_a_folder(source / f"m{number}" / f"n{number}.nwb", 2, 2000)
        script = place / "cluster.py"
        script.write_text(_CLUSTER)
        folders = new_folders(place)
        times: dict[str, list[float]] = {"dask": [], "processes": []}
        for _ in range(max(1, settings.rounds // 2)):
            for how, taken in times.items():
                target = next(folders)
                command = [sys.executable, script, source, target, how]
                environment = os.environ | cold_cache(target)
                told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
                taken.append(float(told.split()[-1]))
        dask, processes = map(statistics.median, times.values())
        yield Result(
            "organize of 300 NWB files by two workers of dask", "by two processes", "wall", dask / processes, None,
            detail=f"{dask:.2f} s : {processes:.2f} s",
        )  # fmt: skip


def organize_many_files(settings: Settings) -> Iterator[Result]:
    kinds: dict[str, Callable[[NWBFile], object]] = {"nearly empty": lambda nwbfile: None, "lab-like": as_a_lab_has_it}
    for kind, fill in kinds.items():
        with settings.place() as place:
            source = place / "source"
            for number in range(settings.size(100)):
                nwb_in_a_folder(source / f"m{number}" / f"n{number}.nwb", 2, 200_000, fill)
            yield from _organize(settings, place, source, f"organize of 100 {kind} NWB files x 2 videos", 1 / 10)


def organize_many_series(settings: Settings) -> Iterator[Result]:
    with settings.place() as place:
        videos = place / "source" / "videos"
        videos.mkdir(parents=True)
        nwbfile = new_nwbfile()
        for number in range(settings.size(200)):
            paths = [f"videos/{number}_{index}.avi" for index in range(3)]
            for text in paths:
                (place / "source" / text).write_bytes(text.encode())
            nwbfile.add_acquisition(image_series(paths, f"video{number}"))
        with NWBHDF5IO(place / "source" / "a.nwb", "w") as io:
            io.write(nwbfile)
        yield from _organize(settings, place, place / "source", "organize of 1 NWB file x 200 series x 3 videos", 1 / 5)


def _organize(settings: Settings, place: Path, source: Path, what: str, bound: float) -> Iterator[Result]:
    environment = {**os.environ, "DANDI_CACHE": "ignore", "DANDI_NO_ET": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # pip compiles what it installs, dandi and us
    folders = new_folders(place)

    def run(code: str, mode: str) -> None:
        dandiset = next(folders)
        arguments = ["organize", "-f", "copy", "-d", dandiset, "--media-files-mode", mode]
        subprocess.run(
            [sys.executable, "-c", code, *arguments, "--update-external-file-paths", source],
            check=True, env=environment | cold_cache(dandiset), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    for mode in ("copy", "symlink"):
        value, detail = paired(
            lambda mode=mode: run(_OURS, mode),
            lambda mode=mode: run(_DANDI, mode),
            max(1, settings.rounds // 2),
        )
        yield Result(f"{what}, {mode}", "dandi organize", "wall, cold start", value, bound, detail=detail)


def relocate_in_a_huge_file(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles import relocate

    with settings.place() as place:
        files = []
        for name, size in (("small", 5 * MB), ("huge", settings.size(50 * 1024) * MB)):
            source = nwb_in_a_folder(place / name / "a.nwb", 2, 1)
            with h5py.File(source, "r+") as file:
                properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                space = h5py.h5s.create_simple((size,))
                h5py.h5d.create(
                    file["scratch"].id if "scratch" in file else file.id,
                    b"big",
                    h5py.h5t.NATIVE_INT8,
                    space,
                    properties,
                )
            files.append(source)

        def run(source: Path) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                relocate(source, "symlink")

        def clean() -> None:
            for source in files:
                remove(source.with_suffix(""))
                with h5py.File(source, "r+") as file:
                    file["acquisition/video/external_file"][:] = ["videos/a_0.avi", "videos/a_1.avi"]
                    file.flush()
                os.sync()

        value, detail = paired(lambda: run(files[1]), lambda: run(files[0]), settings.rounds, clean=clean)
        yield Result("relocate in place, 50 GB (sparse) NWB file", "a 5 MB file", "wall", value, 1.5, detail=detail)


def many_small_videos(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles import relocate

    with settings.place() as place:
        source = nwb_in_a_folder(place / "a.nwb", settings.size(1000), 200_000)
        videos = place / "videos"
        folders = new_folders(place)

        def ours(*, sync: bool) -> None:
            folder = next(folders)
            (folder / "videos").symlink_to(videos)
            relocate(shutil.copy(source, folder), "copy", media_options=dict(sync=sync))

        def theirs(*, sync: bool) -> None:
            copied = next(folders) / "videos"
            subprocess.run(["cp", "-r", videos, copied], check=True)
            if sync:
                subprocess.run(["sync", *sorted(copied.iterdir())], check=True)

        for sync in (False, True):
            value, detail = paired(
                lambda sync=sync: ours(sync=sync),
                lambda sync=sync: theirs(sync=sync),
                settings.rounds,
                clean=os.sync,
            )
            what, against = (", synced", "cp -r + fsync of each") if sync else ("", "cp -r")
            yield Result(
                f"1,000 videos of 200 kB, copy mode, verified{what}", against, "wall", value, 1.5, detail=detail
            )


def facts_of_videos(settings: Settings) -> Iterator[Result]:
    from nwb_extfiles.disk.contents import digest_of
    from nwb_extfiles.media.pyav.reading import How, read_video

    bounds: dict[How, float] = {"index": 1, "packets": 2}
    with settings.place() as place:
        clip, video = place / "clip.mp4", place / "video.mp4"
        noise = "testsrc2=size=640x480:rate=100:duration=10,noise=c0s=20:c0f=t"
        ffmpeg("-f", "lavfi", "-i", noise, "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "8M", "-bf", "2", clip)
        ffmpeg("-stream_loop", str(settings.size(200 * MB) // clip.stat().st_size), "-i", clip, "-c", "copy", video)
        frames = read_video(video).frames
        for how, bound in bounds.items():
            before = _bytes_read()
            read_video(video, how)
            read = (_bytes_read() - before) / MB
            value, detail = paired(lambda how=how: read_video(video, how), lambda: digest_of(video), settings.rounds)
            yield Result(
                f"facts of a 200 MB video, by its {how}", "SHA-256 of it", "wall", value, bound,
                detail=f"{detail}; {frames:,} frames, {read:.1f} MB read",
            )  # fmt: skip


def starts(settings: Settings) -> Iterator[Result]:
    with settings.place() as place:
        source = nwb_in_a_folder(place / "a.nwb", 2, 1)
        for what, arguments, bound in (("--help", ["--help"], 150), ("ls of a small file", ["ls", str(source)], 300)):
            taken: dict[str, list[float]] = {"ours": [], "bare": []}
            for number in range(2 * settings.rounds + 1):
                for name, code in (("ours", _OURS), ("bare", "pass")):
                    seconds = wall(lambda code=code, arguments=arguments: in_python(code, *arguments))
                    if number:
                        taken[name].append(seconds)
            beyond = statistics.median(taken["ours"]) - statistics.median(taken["bare"])
            yield Result(f"nwb-extfiles {what}", "python -c pass", "wall, difference", beyond * 1e3, bound, "ms")


_PEAK = """
import sys, warnings
warnings.simplefilter("ignore")
from nwb_extfiles import organize
organize(sys.argv[1], sys.argv[2], media_mode="symlink")
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def growth(settings: Settings) -> Iterator[Result]:
    """Measure the time per reference and per file, and the memory of the process."""
    from nwb_extfiles import relocate

    with settings.place() as place:
        for count in sorted({10, 100, 1000, settings.size(10_000)}):
            source = nwb_with_references(place / str(count) / "a.nwb", count // 10, count, paths_each=10)
            seconds = wall(lambda source=source: relocate(source, "symlink", media_options=dict(sync=False)))
            yield Result(
                f"relocate, {count:,} references", "-", "wall a reference", seconds / count * 1e3, None, "ms",
                f"{seconds:.2f} s", count,
            )  # fmt: skip
            remove(source.parent)
        for count in sorted({10, 100, settings.size(1000)}):
            source = place / "many"
            for number in range(count):
                nwb_in_a_folder(source / f"m{number}" / f"n{number}.nwb", 2, 1)
            start = time.perf_counter()
            dandiset = place / "dandiset"
            done = subprocess.run(
                [sys.executable, "-c", _PEAK, source, dandiset],
                check=True, capture_output=True, text=True, env=os.environ | cold_cache(dandiset),
            )  # fmt: skip
            seconds = time.perf_counter() - start
            yield Result(
                f"organize, {count:,} files", "-", "wall a file", seconds / count * 1e3, None, "ms",
                f"{seconds:.1f} s", count,
            )  # fmt: skip
            yield Result(
                f"organize, {count:,} files", "-", "memory at most", float(done.stdout), None, "MB", count=count
            )
            remove(source, dandiset, place / "dandiset-cache")


# First what many removed files would disturb (see `new_folders`), last what leaves most of them.
BENCHMARKS = (
    copy_of_a_video, many_small_videos, remuxed_videos, links_of_a_large_video, export_of_many_objects,
    export_of_a_large_file, finding_references, references_of_small_files, organize_many_files, organize_many_series,
    organize_again, organize_on_a_cluster, relocate_in_a_huge_file, facts_of_videos, starts, growth,
    check_of_many_files,
)  # fmt: skip


def as_markdown(results: list[Result]) -> str:
    lines = ["| what | against | measured | value | at most | |", "|---|---|---|---|---|---|"]
    for result in results:
        bound = "" if result.bound is None else f"{result.bound:.3g} {result.unit}"
        lines.append(
            f"| {result.what} | {result.against} | {result.measured} | {result.value:.3g} {result.unit} "
            f"{result.detail and f'({result.detail}) '}| {bound} | {result.verification} |"
        )
    return "\n".join(lines)


def run_one(number: int, settings: Settings) -> list[Result]:
    return list(BENCHMARKS[number](settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all sizes (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each of a pair runs (default: 5)")
    parser.add_argument("--only", default="", help="run benchmarks whose name has this word")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    parser.add_argument("--output", type=Path, help="folder for results.md and results.json")
    chosen = parser.parse_args()
    settings = Settings(chosen.folder, chosen.scale, chosen.rounds)
    results: list[Result] = []
    # each in its own process: what one leaves in memory slows down the next
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for number, benchmark in enumerate(BENCHMARKS):
            if chosen.only in benchmark.__name__:
                for result in pool.submit(run_one, number, settings).result():
                    results.append(result)
                    print(
                        f"{result.what}: {result.value:.3g} {result.unit} {result.verification} ({result.detail})",
                        flush=True,
                    )
    table = as_markdown(results)
    print(f"\n{table}")
    if chosen.output:
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / "results.md").write_text(f"{table}\n")
        record: dict[str, Any] = {
            "scale": chosen.scale, "rounds": chosen.rounds, "python": platform.python_version(),
            "system": platform.system(), "processors": os.cpu_count(),
            "results": [{**asdict(result), "verdict": result.verification} for result in results],
        }  # fmt: skip
        (chosen.output / "results.json").write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()

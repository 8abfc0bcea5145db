"""Fuzzers for stored paths, and for the bytes of NWB files.

Whatever is stored as a path, an export succeeds or raises an error of this package; with ``relocate_media=False`` it
writes what pynwb alone writes. Whatever the bytes of a source or of a former destination are, a failure leaves nothing
behind.
"""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import image_series, new_nwbfile, set_paths, tree, write_nwb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesError, NWBExtFilesHDF5IO

PATHS = "acquisition/video/external_file"
FUZZ = settings(deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
STORAGES = ("variable", "ascii", "fixed", "chunked", "compressed", "scalar", "two-dimensional")
VIDEO = b"a video" * 50

SHAPES = [
    "videos/a.avi", "./videos/a.avi", "..//x/../videos/a.avi", "videos\\a.avi", "C:\\videos\\a.avi", "C:videos",
    "\\\\?\\C:\\a", "//host/share/a", "file:", "file:/", "file://", "file:///", "file:///videos/a.avi",
    "file://localhost/", "\\\\host\\a",
    "file://[", "file://a@b:c/%00", "http://", "https://x/%zz", "s3://b/k", "data:", "data:,x", "x:y", "ab://", "a://b",
    "~", "~/x", "$HOME", "%PATH%", "{0}", "%s", "%n", "\x00", "\x1b[31m", "\r\n", "\u202e", "\ufeff", "..", ".",
    "/", "//",
    "/dev/null", "/dev/zero", "/proc/self/environ", "CON", "nul.avi", "a" * 300, "a/" * 3000, "-rf", "*", "?", "\u0130",
]  # fmt: skip

part = st.one_of(st.sampled_from(SHAPES), st.text(max_size=12), st.binary(max_size=12))


def encoded(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


raw_paths = st.lists(part, max_size=4).map(lambda parts: b"".join(map(encoded, parts)))


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def store(path: Path, paths: list[bytes], storage: str) -> None:
    """Store bytes as strings: of fixed length where variable length cannot hold them."""
    longest = max(1, *map(len, paths)) if paths else 1
    fixed = np.array(paths, dtype=f"S{longest}")
    variable = np.array([path.partition(b"\0")[0] for path in paths], dtype=object)
    if storage == "fixed" or not paths:
        set_paths(path, PATHS, fixed)
    elif storage == "two-dimensional":
        set_paths(path, PATHS, fixed.reshape(-1, 1))
    elif storage == "scalar":
        set_paths(path, PATHS, variable[0], dtype=h5py.string_dtype())
    else:
        settings_of: dict[str, Any] = {
            "variable": {},
            "ascii": dict(dtype=h5py.string_dtype("ascii")),
            "chunked": dict(chunks=(1,), maxshape=(None,)),
            "compressed": dict(chunks=(1,), compression="gzip"),
        }
        set_paths(path, PATHS, variable, **{"dtype": h5py.string_dtype(), **settings_of[storage]})


def raw(path: Path) -> tuple[Any, ...]:
    """What is stored, read with h5py alone."""
    with h5py.File(path, "r") as file:
        dataset = file[PATHS]
        return str(dataset.dtype), dataset.shape, dataset.chunks, np.asarray(dataset[()]).tolist()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nwb(tmp_path_factory.mktemp("template") / "t.nwb", ["videos/a.avi"])


@contextmanager
def playground(template: Path) -> Iterator[Path]:
    """A folder with a video and a source that can be changed."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(os.path.realpath(name))
        (root / "in" / "videos").mkdir(parents=True)
        (root / "in" / "videos" / "a.avi").write_bytes(VIDEO)
        (root / "in" / "s.nwb").write_bytes(template.read_bytes())
        (root / "out").mkdir()
        yield root


def export(io_class: type[NWBHDF5IO], source: Path, target: Path, **arguments: Any) -> None:
    """Export without the cached specifications: no stored path depends on them, and they take a third of the time."""
    with NWBHDF5IO(source, "r", load_namespaces=False) as src_io, io_class(target, "w") as io:
        io.export(src_io=src_io, cache_spec=False, **arguments)


def check_paths(template: Path, paths: list[bytes], storage: str, mode: str) -> None:
    with playground(template) as root, quiet():
        source = root / "in" / "s.nwb"
        store(source, paths, storage)
        try:
            export(NWBHDF5IO, source, root / "plain.nwb")
        except UnicodeDecodeError:  # HDMF decodes a scalar string when it opens the file
            assert storage == "scalar"
            return
        calls: list[dict[str, Any]] = [
            dict(relocate_media=True, media_mode=mode),
            dict(relocate_media=True, media_mode=mode, media_options=dict(missing="keep")),
            dict(relocate_media=None),
        ]
        for number, arguments in enumerate(calls):
            target = root / "out" / f"{number}.nwb"
            before = tree(root)
            try:
                export(NWBExtFilesHDF5IO, source, target, **arguments)
            except ExternalFilesError:
                assert tree(root) == before
            else:
                after = tree(root)
                assert before.items() <= after.items()
                assert all(name.startswith(f"out/{number}") for name in after.keys() - before.keys())
                assert len(np.ravel(raw(target)[3])) == len(np.ravel(raw(source)[3]))
        export(NWBExtFilesHDF5IO, source, root / "out" / "false.nwb", relocate_media=False)
        assert raw(root / "out" / "false.nwb") == raw(root / "plain.nwb")


lists_of_paths = st.lists(raw_paths, max_size=4)
modes = st.sampled_from(["copy", "symlink", "hardlink", "reference"])


@settings(FUZZ, max_examples=25)
@given(paths=lists_of_paths, storage=st.sampled_from(STORAGES), mode=modes)
def test_fuzzed_stored_paths(template: Path, paths: list[bytes], storage: str, mode: str) -> None:
    check_paths(template, paths, storage, mode)


@pytest.mark.long
@pytest.mark.parametrize("part", range(2))  # so that two processors share the work
@settings(FUZZ, max_examples=400)
@given(paths=lists_of_paths, storage=st.sampled_from(STORAGES), mode=modes)
def test_fuzzed_stored_paths_long(template: Path, part: int, paths: list[bytes], storage: str, mode: str) -> None:
    check_paths(template, paths, storage, mode)


def check_memory(paths: list[str], mode: str) -> None:
    """Containers made in memory. What pynwb cannot write fails, and nothing is left behind."""
    with tempfile.TemporaryDirectory() as name, quiet():
        root = Path(os.path.realpath(name))
        nwbfile = new_nwbfile()
        nwbfile.add_acquisition(image_series(paths))
        try:
            with NWBExtFilesHDF5IO(root / "a.nwb", "w") as io:
                io.write(
                    nwbfile, relocate_media=True, media_mode=mode, media_options=dict(missing="keep", within=[root])
                )
        except ExternalFilesError:
            assert tree(root) == {}
        except (UnicodeEncodeError, ValueError):  # surrogates and NUL
            assert tree(root) == {}
            assert any("\0" in path or not path.isascii() for path in paths)


any_path = st.lists(st.sampled_from(SHAPES) | st.text(st.characters(), max_size=12), max_size=3).map("".join)


@settings(FUZZ, max_examples=25)
@given(paths=st.lists(any_path, min_size=1, max_size=3), mode=modes)
def test_fuzzed_paths_in_memory(paths: list[str], mode: str) -> None:
    check_memory(paths, mode)


@pytest.mark.long
@settings(FUZZ, max_examples=800)
@given(paths=st.lists(any_path, min_size=1, max_size=3), mode=modes)
def test_fuzzed_paths_in_memory_long(paths: list[str], mode: str) -> None:
    check_memory(paths, mode)


# ------------------------------------------------------------------ bytes of files

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
SUCCESS, REFUSED, THEIRS, WRONG = 0, 10, 11, 12


def in_a_child(source: Path, target: Path, seconds: int = 10) -> int:
    """Export in a process of its own, which libhdf5 can crash or hang.

    Returns its exit code, or minus its signal.
    """
    child = os.fork()
    if child == 0:
        code = WRONG
        try:
            sys.stdout.flush()
            import resource  # not on Windows

            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # however busy the machine is
            faulthandler.disable()  # a crash of libhdf5 is not one of pytest
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            warnings.simplefilter("ignore")
            try:
                with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
                    io.export(src_io=src_io, relocate_media=True, media_mode="copy", media_options=dict(sync=False))
                code = SUCCESS
            except ExternalFilesError:
                code = REFUSED
            except Exception:
                code = THEIRS
        finally:
            os._exit(code)
    end = time.monotonic() + 30 * seconds  # if it waits for something
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The bytes with some of them changed, truncated or swapped."""
    made = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4, 16, 64])):
        place = chance.randrange(len(made))
        made[place] = chance.choice([0, 255, 127, 128, made[place] ^ (1 << chance.randrange(8)), chance.randrange(256)])
    if chance.random() < 0.1:
        del made[chance.randrange(len(made)) :]
    return bytes(made)


def final(root: Path) -> dict[str, str]:
    """The files under final names. A crashed process leaves its staging folder for the next run."""
    return {name: what for name, what in tree(root).items() if ".nwb-extfiles-" not in name}


@pytest.fixture(scope="module")
def exported(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``out`` after an export of the undamaged source."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    with playground(template) as root:
        assert in_a_child(root / "in" / "s.nwb", root / "out" / "a.nwb") == SUCCESS
        shutil.copytree(root / "out", folder)
    return folder


def check_bytes(template: Path, exported: Path, seed: int) -> str:
    chance = random.Random(seed)
    with playground(template) as root:
        source, target = root / "in" / "s.nwb", root / "out" / "a.nwb"
        whole = source.read_bytes()
        if chance.random() < 0.5:  # there was one before
            shutil.copytree(exported, root / "out", dirs_exist_ok=True)
        of_target = target.exists() and chance.random() < 0.5
        if of_target:  # and it is the damaged one, whose video is gone
            target.write_bytes(flipped(target.read_bytes(), chance))
            (root / "in" / "videos" / "a.avi").unlink()
        else:
            source.write_bytes(flipped(whole, chance))
        before = tree(root)
        code = in_a_child(source, target)
        if code == SUCCESS:
            outcome = "success"
            assert before.keys() <= tree(root).keys()
        elif code in (REFUSED, THEIRS):
            outcome = "refused" if code == REFUSED else "theirs"
            assert tree(root) == before
            assert not (of_target and code == THEIRS), "a damaged destination is no reason for another error"
        else:  # libhdf5 crashed or hung: nothing under a final name, and the next run clears the rest
            assert code < 0, "an exit that is none"
            outcome = "crashed"
            assert final(root) == {name: what for name, what in before.items() if ".nwb-extfiles-" not in name}
            source.write_bytes(whole)
            (root / "in" / "videos" / "a.avi").write_bytes(VIDEO)
            target.unlink(missing_ok=True)
            assert in_a_child(source, target) == SUCCESS
            assert not list(root.rglob(".nwb-extfiles-*"))
    return outcome


def fuzz_bytes(template: Path, exported: Path, seconds: float, seed: int) -> None:
    outcomes: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end or sum(outcomes.values()) <= 3:
        try:
            outcome = check_bytes(template, exported, seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        seed += 1
    print(outcomes)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fuzzed_file_bytes(template: Path, exported: Path) -> None:
    fuzz_bytes(template, exported, 6, 0)


@needs_fork
@pytest.mark.long
@pytest.mark.parametrize("part", range(2))
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fuzzed_file_bytes_long(template: Path, exported: Path, part: int) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"first seed {seed}")
    fuzz_bytes(template, exported, 90, seed)

"""Malicious or broken input gives one clear error, soon, and nothing is written anywhere.

Everything goes through the calls that users make, with real NWB files. What the packages below do with single paths is
tested in their own modules.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import digest, image_series, new_nwbfile, set_paths, stored_paths, write_nwb
from processes import run_apart
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesError, NWBExtFilesHDF5IO
from nwb_extfiles.errors import MissingMediaError, PlanError, TransferError, UnsafeReferenceError
from nwb_extfiles.transfers.file_makers import whole_copy_name

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes, sockets and signals of POSIX")

SERIES = "acquisition/video"
PATHS = f"{SERIES}/external_file"
MODES = ("copy", "move", "symlink", "hardlink")
UUID = "933f8cf6-9e4b-405f-8cad-cc031d1fafc9"
SECONDS = 20
HDF5_SAYS = "nable to (synchronously )?open file"


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail a test that takes long or hangs."""

    def stop(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"not done in {SECONDS} s of work, or {10 * SECONDS} s in all")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, 10 * SECONDS)}
    former = {number: signal.signal(number, stop) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    yield
    for timer, (number, _) in timers.items():
        signal.setitimer(timer, 0)
        signal.signal(number, former[number])


def snapshot(folder: Path) -> dict[str, str]:
    """Content, mtime and mode of all entries below a folder. Pipes and sockets are not read."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        status = os.lstat(path)
        kind = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFREG: "file"}.get(stat.S_IFMT(status.st_mode))
        what = {"link": lambda path=path: os.readlink(path), "file": lambda path=path: digest(path)}
        times = f" {status.st_mtime_ns} {status.st_mode:o}" if kind == "file" else ""
        entries[path.relative_to(folder).as_posix()] = f"{kind} {what.get(kind or '', str)()}{times}"
    return entries


@contextmanager
def unchanged(*folders: Path) -> Iterator[None]:
    """Fail if anything below the folders is made, changed or removed."""
    before = [snapshot(folder) for folder in folders]
    yield
    assert [snapshot(folder) for folder in folders] == before


@contextmanager
def silently() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Home:
    """A downloaded NWB file with a video, a folder to export to, and a folder that must not be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.videos, self.out, self.victim = root / "videos", root / "out", root / "victim"
        for folder in (self.videos, self.out, self.victim):
            folder.mkdir()
        self.video = self.videos / "a.avi"
        self.video.write_bytes(b"video a" * 100)
        self.secret = self.victim / "secret.avi"
        self.secret.write_bytes(b"precious")
        self.source = write_nwb(root / "in" / "source.nwb", ["../videos/a.avi"])
        self.target = self.out / "a.nwb"

    def store(self, value: Any) -> None:
        """Store one path, as str or bytes, exactly as it is."""
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        if b"\0" in value or len(value) > 60_000:
            set_paths(self.source, PATHS, np.array([value], dtype=f"S{max(1, len(value))}"))
        else:
            set_paths(self.source, PATHS, np.array([value], dtype=object), dtype=h5py.string_dtype())

    def export(self, target: Path | None = None, **kwargs: Any) -> Path:
        kwargs.setdefault("relocate_media", True)
        if kwargs["relocate_media"]:
            kwargs.setdefault("media_mode", "copy")
        target = target or self.target
        with (
            silently(),
            NWBHDF5IO(self.source, "r") as src_io,
            NWBExtFilesHDF5IO(target, "w") as io,
        ):
            io.export(src_io=src_io, **kwargs)
        return target

    def assert_exported(self, target: Path | None = None) -> None:
        """The NWB file and its video are in place, and neither is a link."""
        target = target or self.target
        (stored,) = stored_paths(target)
        assert (target.parent / stored).read_bytes() == self.video.read_bytes()
        assert not target.is_symlink()
        assert not (target.parent / stored).is_symlink()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# ------------------------------------------------------------------ object ids

OBJECT_IDS = {
    "empty": "",
    "blank": " ",
    "upwards": "../../victim/secret",
    "upwards after an id": f"{UUID}/../../../victim/x",
    "absolute": "/tmp/nwb-extfiles-evil",
    "nul": np.bytes_(f"{UUID}\0/../../x".encode()),
    "10 kB": "x" * 10_000,
    "10 kB of an id": UUID * 278,
    "newline": f"{UUID}\n",
    "format": "{0.__class__.__mro__}%s%n",
    "shell": "$(touch pwned)`touch pwned`;touch pwned",
    "backslashes": "..\\..\\victim\\x",
    "drive": "C:evil",
    "staging": ".nwb-extfiles-x",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("object_id", OBJECT_IDS.values(), ids=OBJECT_IDS.keys())
def test_hostile_object_id(home: Home, object_id: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.out)
    with h5py.File(home.source, "r+") as file:
        del file[SERIES].attrs["object_id"]
        file[SERIES].attrs["object_id"] = object_id
    with unchanged(home.root), pytest.raises(UnsafeReferenceError, match="not a UUID") as caught:
        home.export(media_mode=mode)
    assert len(str(caught.value)) < 2000


def test_hostile_object_id_in_memory(home: Home) -> None:
    nwbfile = new_nwbfile()
    series = image_series([str(home.video)])
    series._AbstractContainer__object_id = "../../victim/x"
    nwbfile.add_acquisition(series)
    with unchanged(home.root), pytest.raises(UnsafeReferenceError, match="not a UUID"), silently():
        with NWBExtFilesHDF5IO(home.target, "w") as io:
            io.write(nwbfile, relocate_media=True, media_mode="copy")


@pytest.mark.parametrize("mode", MODES)
def test_two_objects_with_one_object_id(home: Home, mode: str) -> None:
    (home.videos / "b.avi").write_bytes(b"video b")
    with h5py.File(home.source, "r+") as file:
        file.copy(SERIES, file["acquisition"], name="second")
        file["acquisition/second/external_file"][...] = ["../videos/b.avi"]
    with unchanged(home.root), pytest.raises(UnsafeReferenceError, match="two objects have one object_id"):
        home.export(media_mode=mode)


def test_object_ids_differing_only_in_case(home: Home) -> None:
    """Windows and macOS take them for one name."""
    (home.videos / "b.avi").write_bytes(b"video b")
    with h5py.File(home.source, "r+") as file:
        file[SERIES].attrs["object_id"] = UUID
        file.copy(SERIES, file["acquisition"], name="second")
        file["acquisition/second"].attrs["object_id"] = UUID.upper()
        file["acquisition/second/external_file"][...] = ["../videos/b.avi"]
    with unchanged(home.root), pytest.raises(UnsafeReferenceError):
        home.export()


# ---------------------------------------------------------------- stored paths

PATHS_OF_NO_FILE: dict[str, tuple[str | bytes, type[ExternalFilesError]]] = {
    "empty": ("", UnsafeReferenceError),
    "blank": (" \t\n", UnsafeReferenceError),
    "not UTF-8": (b"../videos/\xff\xfe\x80.avi", MissingMediaError),
    "64 kB": ("../videos/" + "x" * 64 * 1024, MissingMediaError),
    "64 kB of folders": ("../videos/" * 8000 + "a.avi", MissingMediaError),
    "a megabyte": ("y/" * 500_000, MissingMediaError),
    "nul": (b"../videos/a.avi\0.png", UnsafeReferenceError),
    "newline": ("../videos/a.avi\n", MissingMediaError),
    "newlines": ("\n../videos/a.avi\n\n", MissingMediaError),
    "control": ("../videos/\x1b[2J\x07a.avi", MissingMediaError),
    "home": ("~/a.avi", MissingMediaError),
    "home of a user": ("~root/a.avi", MissingMediaError),
    "variable": ("$HOME/a.avi", MissingMediaError),
    "variable in braces": ("${HOME}/a.avi", MissingMediaError),
    "variable of Windows": ("%HOME%/a.avi", MissingMediaError),
    "percent": ("%s%n%d%(x)s", MissingMediaError),
    "braces": ("{0}{0.__class__}{}{nwb_stem}", MissingMediaError),
    "shell": ("$(touch pwned)`touch pwned`;touch pwned|touch pwned&", MissingMediaError),
    "option": ("--help", MissingMediaError),
    "glob": ("../videos/*.avi", MissingMediaError),
    "brackets": ("file://[::1", UnsafeReferenceError),
    "other machine": ("file://evil.example.org/a.avi", MissingMediaError),
    "share": ("\\\\evil\\share\\a.avi", MissingMediaError),
    "device of Windows": ("\\\\.\\PhysicalDrive0", MissingMediaError),
    "device": ("/dev/zero", UnsafeReferenceError),
    "terminal": ("/dev/tty", UnsafeReferenceError),
    "device by URL": ("file:///dev/zero", UnsafeReferenceError),
    "folder": ("../videos", UnsafeReferenceError),
    "folder itself": (".", UnsafeReferenceError),
    "root": ("/", UnsafeReferenceError),
    "pipe": ("../special/pipe.avi", UnsafeReferenceError),
    "pipe by a link": ("../special/link_to_pipe.avi", UnsafeReferenceError),
    "pipe by URL": ("file://localhost{root}/special/pipe.avi", UnsafeReferenceError),
    "socket": ("../special/socket.avi", UnsafeReferenceError),
    "loop": ("../special/loop.avi", MissingMediaError),
    "long loop": ("../special/ping/x.avi", MissingMediaError),
    "dangling": ("../special/dangling.avi", MissingMediaError),
}


@pytest.fixture
def special(home: Home) -> Iterator[Path]:
    """A folder of things that are not regular files."""
    folder = home.root / "special"
    folder.mkdir()
    os.mkfifo(folder / "pipe.avi")
    (folder / "link_to_pipe.avi").symlink_to("pipe.avi")
    (folder / "loop.avi").symlink_to("loop.avi")
    (folder / "ping").symlink_to("pong")
    (folder / "pong").symlink_to("ping")
    (folder / "dangling.avi").symlink_to("nowhere.avi")
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket must be short
        try:
            made.bind("socket.avi")
        finally:
            os.chdir(here)
        yield folder


@pytest.mark.parametrize("name", PATHS_OF_NO_FILE)
def test_path_to_no_regular_file(home: Home, special: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, expected = PATHS_OF_NO_FILE[name]
    monkeypatch.setenv("HOME", str(home.videos))
    monkeypatch.chdir(home.out)
    home.store(stored.replace("{root}", str(home.root)) if isinstance(stored, str) else stored)
    for mode in (*MODES, "reference"):
        with unchanged(home.root), pytest.raises(expected) as caught:
            home.export(media_mode=mode, media_options=dict(search=[special]) if "pipe" in name else None)
        assert type(caught.value) is expected
        assert str(home.target) in str(caught.value)
        assert len(str(caught.value)) < 5000
    # written verbatim, the path is not followed
    home.export(relocate_media=False)
    plain = home.root / "plain.nwb"
    with silently(), NWBHDF5IO(home.source, "r") as src_io, NWBHDF5IO(plain, "w") as io:
        io.export(src_io=src_io)
    with h5py.File(home.target) as ours, h5py.File(plain) as theirs:
        assert ours[PATHS].dtype == theirs[PATHS].dtype
        assert ours[PATHS][()].tolist() == theirs[PATHS][()].tolist()


def test_many_bad_paths_are_one_error(home: Home, special: Path) -> None:
    paths = [stored for stored, _ in PATHS_OF_NO_FILE.values() if isinstance(stored, str) and len(stored) < 1000]
    set_paths(home.source, PATHS, [*paths, "../videos/a.avi"])
    with unchanged(home.root), pytest.raises(PlanError) as caught:
        home.export()
    assert len(caught.value.problems) == len(paths)
    assert [problem.index for problem in caught.value.problems] == list(range(len(paths)))


@pytest.mark.parametrize("stored", ["../victim/secret.avi", "../videos/link.avi", "../videos/deep/secret.avi",
                                  "{victim}/secret.avi", "file://{victim}/secret.avi", "..\\victim\\secret.avi",
                                  "../videos/../victim/secret.avi", "file://{videos}/%2e%2e/victim/secret.avi",
                                  "D:\\videos\\..\\victim\\secret.avi", "/etc/passwd"])  # fmt: skip
@pytest.mark.parametrize("mode", [*MODES, "reference"])
def test_path_outside_within_is_refused(home: Home, stored: str, mode: str) -> None:
    (home.videos / "link.avi").symlink_to(home.secret)
    (home.videos / "deep").symlink_to(home.victim)
    home.store(stored.format(victim=home.victim, videos=home.videos))
    options = dict(within=[home.videos], path_map={"D:\\videos": str(home.videos)}, search=[home.videos])
    with unchanged(home.root), pytest.raises(UnsafeReferenceError, match="outside"):
        home.export(media_mode=mode, media_options=options)


@pytest.mark.parametrize(
    "stored", ["../../../../etc/passwd", "D:\\..\\..\\victim\\secret.avi", "x/../../victim/secret.avi"]
)
def test_search_does_not_leave_its_folder(home: Home, stored: str) -> None:
    """A search finds only files below its folders, whatever the path is."""
    inner = home.root / "deep" / "er" / "search"
    inner.mkdir(parents=True)
    (home.root / "deep" / "victim").mkdir()
    (home.root / "deep" / "victim" / "secret.avi").write_bytes(b"no")
    home.store(stored)
    with unchanged(home.root), pytest.raises(MissingMediaError):
        home.export(media_options=dict(search=[inner]))


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="no /proc here")
@pytest.mark.parametrize("stored", ["/proc/self/environ", "/proc/self/mem", "/proc/self/maps"])
def test_files_with_false_size(home: Home, stored: str) -> None:
    home.store(stored)
    with unchanged(home.root), pytest.raises(ExternalFilesError):
        home.export()


def test_symlink_too_long_at_destination(home: Home) -> None:
    stored = "./" * ((4000 - len(str(home.source.parent))) // 2) + "../videos/a.avi"
    home.store(stored)
    target = home.out / ("deep" * 40) / "a.nwb"
    with unchanged(home.root), pytest.raises(ExternalFilesError, match="relocate_media"):
        home.export(target, relocate_media=None)


@pytest.mark.parametrize("surrogate", [0xD800, 0xDCFF])
def test_surrogate_in_memory(home: Home, surrogate: int) -> None:
    test_hostile_path_in_memory(home, f"{chr(surrogate)}.avi", True)
    test_hostile_path_in_memory(home, f"{chr(surrogate)}.avi", None)


@pytest.mark.parametrize("stored", ["a\0b.avi", "x" * 100_000, ""])
@pytest.mark.parametrize("relocate", [True, None])
def test_hostile_path_in_memory(home: Home, stored: str, relocate: bool | None) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([stored]))
    kwargs = dict(relocate_media=True, media_mode="copy") if relocate else {}
    with unchanged(home.root), silently():
        if relocate:
            with pytest.raises(ExternalFilesError), NWBExtFilesHDF5IO(home.target, "w") as io:
                io.write(nwbfile, **kwargs)
            return
        try:
            with NWBExtFilesHDF5IO(home.target, "w") as io:
                io.write(nwbfile)
        except (UnicodeEncodeError, ValueError):  # what HDF5 cannot store
            return
        home.target.unlink()


# ------------------------------------------------------ values that are not strings


def no_strings(file: h5py.File) -> dict[str, Any]:
    references = np.array([file["acquisition"].ref, file.ref], dtype=h5py.ref_dtype)
    return {
        "integers": np.arange(3),
        "floats": np.array([np.nan, np.inf]),
        "a number": 7,
        "booleans": np.array([True, False]),
        "complex": np.array([1j]),
        "references": references,
        "a reference": file["acquisition"].ref,
        "compound": np.array([(1, b"a.avi")], dtype=[("n", "i4"), ("text", "S5")]),
        "compound of text": np.array([(b"../videos/a.avi",)], dtype=[("text", "S20")]),
        "opaque": np.array([b"abc"], dtype="V3"),
        "arrays": np.zeros((2, 3), dtype="i2"),
        "nothing": h5py.Empty("f4"),
    }


@pytest.mark.parametrize(
    "name",
    ["integers", "floats", "a number", "booleans", "complex", "references", "a reference", "compound",
     "compound of text", "opaque", "arrays", "nothing"],
)  # fmt: skip
def test_values_that_are_not_strings(home: Home, name: str) -> None:
    with h5py.File(home.source, "r+") as file:
        values = no_strings(file)[name]
        del file[PATHS]
        kind = h5py.ref_dtype if "reference" in name else None
        file.create_dataset(PATHS, data=values, dtype=kind)
    with unchanged(home.root), pytest.raises((UnsafeReferenceError, theirs(home) or UnsafeReferenceError)) as caught:
        home.export()
    if isinstance(caught.value, ExternalFilesError):
        assert "holds no strings" in str(caught.value)


def theirs(home: Home) -> type[Exception] | None:
    """The error of pynwb's own export, if it cannot export this file."""
    plain = home.root / "plain.nwb"
    try:
        with silently(), NWBHDF5IO(home.source, "r") as src_io, NWBHDF5IO(plain, "w") as io:
            io.export(src_io=src_io)
    except Exception as error:
        return type(error)
    finally:
        plain.unlink()
    return None


def test_object_id_not_utf8(home: Home) -> None:
    with h5py.File(home.source, "r+") as file:
        del file[SERIES].attrs["object_id"]
        file[SERIES].attrs["object_id"] = np.bytes_(b"933f8cf6-9e4b-405f-8cad-cc031d1faf\xff9")
    with unchanged(home.root), pytest.raises(theirs(home) or UnsafeReferenceError):
        home.export()


def test_two_dimensional_path_dataset(home: Home) -> None:
    set_paths(home.source, PATHS, np.array([[b"../videos/a.avi"], [b"/dev/zero"]]))
    with unchanged(home.root), pytest.raises(UnsafeReferenceError, match="a device"):
        home.export()
    set_paths(home.source, PATHS, np.array([[b"../videos/a.avi"], [b"../videos/a.avi"]]))
    home.export()
    assert len({digest(home.out / stored) for stored in stored_paths(home.target)} | {digest(home.video)}) == 1


def test_group_instead_of_path_dataset(home: Home) -> None:
    with h5py.File(home.source, "r+") as file:
        del file[PATHS]
        file.create_group(PATHS).create_dataset("external_file", data=["/dev/zero"])
    assert_refused_or_harmless(home)


def test_paths_in_hdf5_external_storage(home: Home) -> None:
    """HDF5 can keep the bytes of a dataset in any file. A pipe must not block the export."""
    os.mkfifo(home.root / "pipe")
    with h5py.File(home.source, "r+") as file:
        attributes = dict(file[PATHS].attrs)
        del file[PATHS]
        made = file.create_dataset(PATHS, (1,), dtype="S14", external=[(str(home.root / "pipe"), 0, 14)])
        made.attrs.update(attributes)
    with unchanged(home.root):
        assert "UnsafeReferenceError" in export_in_a_process(home)


def export_in_a_process(home: Home) -> str:
    """Run an export that must fail, in a process that can be killed: HDF5 waits for pipes forever."""
    code = (
        "import sys; from pynwb import NWBHDF5IO; from nwb_extfiles import NWBExtFilesHDF5IO\n"
        "with NWBHDF5IO(sys.argv[1], 'r') as source, NWBExtFilesHDF5IO(sys.argv[2], 'w') as io:\n"
        "    io.export(src_io=source, relocate_media=True, media_mode='copy')\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(home.source), str(home.target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 1
    return done.stderr


# --------------------------------------------------------------------- broken files


def assert_refused_or_harmless(home: Home, **kwargs: Any) -> BaseException | None:
    """An error leaves nothing behind. A success leaves only its result."""
    before = snapshot(home.root)
    error: BaseException | None = None
    try:
        home.export(**kwargs)
    except Exception as caught:  # also pynwb's own errors
        error = caught
        assert snapshot(home.root) == before
    else:
        after = snapshot(home.root)
        assert before.items() <= after.items()
        assert all(
            name == "out/a.nwb" or name == "out/a" or name.startswith("out/a/") for name in after.keys() - before
        )
    return error


@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 64, 96, 512, 2048, 10_000, 50_000, -1000, -1])
def test_truncated_nwb_file(home: Home, size: int, previous: bool) -> None:
    if previous:
        home.export()
    content = home.source.read_bytes()
    home.source.write_bytes(content[:size])
    with unchanged(home.root), pytest.raises(OSError, match=HDF5_SAYS), silently():
        with NWBHDF5IO(home.source, "r") as src_io, NWBExtFilesHDF5IO(home.target, "w") as io:
            io.export(src_io=src_io, relocate_media=True)
    with (
        unchanged(home.root),
        pytest.raises(OSError, match=HDF5_SAYS),
        silently(),
    ):  # and the destination was opened first
        with NWBExtFilesHDF5IO(home.target, "w") as io, NWBHDF5IO(home.source, "r") as src_io:
            io.export(src_io=src_io, relocate_media=True)
    with unchanged(home.root), pytest.raises(OSError, match=HDF5_SAYS):
        NWBExtFilesHDF5IO(home.source, "r", resolve_media=True)
    with unchanged(home.root), pytest.raises(OSError, match=HDF5_SAYS):
        NWBExtFilesHDF5IO(home.source, "r+")


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"GIF89a" * 100, b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096])
def test_not_hdf5(home: Home, content: bytes) -> None:
    home.source.write_bytes(content)
    with unchanged(home.root), pytest.raises(OSError, match=HDF5_SAYS), silently():
        with NWBExtFilesHDF5IO(home.target, "w") as io, NWBHDF5IO(home.source, "r") as src_io:
            io.export(src_io=src_io, relocate_media=True)


def test_hdf5_not_nwb(home: Home) -> None:
    with h5py.File(home.source, "w") as file:
        file["acquisition/video/external_file"] = ["../videos/a.avi"]
    assert_refused_or_harmless(home)


def hard_link_upwards(file: h5py.File) -> None:
    file["acquisition/loop"] = file["acquisition"]


def hard_link_to_the_root(file: h5py.File) -> None:
    file["acquisition/video/root"] = file["/"]


def soft_links_in_a_ring(file: h5py.File) -> None:
    file["acquisition/ping"] = h5py.SoftLink("/acquisition/pong")
    file["acquisition/pong"] = h5py.SoftLink("/acquisition/ping")


def soft_link_upwards(file: h5py.File) -> None:
    file["acquisition/up"] = h5py.SoftLink("/acquisition")


def paths_that_link_to_themselves(file: h5py.File) -> None:
    del file[PATHS]
    file[PATHS] = h5py.SoftLink(f"/{PATHS}")


def paths_that_link_to_the_series(file: h5py.File) -> None:
    del file[PATHS]
    file[PATHS] = h5py.SoftLink(f"/{SERIES}")


def paths_in_a_file_that_is_gone(file: h5py.File) -> None:
    del file[PATHS]
    file[PATHS] = h5py.ExternalLink("gone.nwb", f"/{PATHS}")


def paths_in_a_file_that_is_none(file: h5py.File) -> None:
    del file[PATHS]
    file[PATHS] = h5py.ExternalLink("../videos/a.avi", "/x")


def paths_in_this_very_file(file: h5py.File) -> None:
    file["scratch_texts"] = file[PATHS]
    del file[PATHS]
    file[PATHS] = h5py.ExternalLink("source.nwb", "/scratch_texts")


def external_ring(file: h5py.File) -> None:
    file["acquisition/again"] = h5py.ExternalLink("source.nwb", "/acquisition/again")


@pytest.mark.parametrize(
    "damage",
    [
        hard_link_upwards, hard_link_to_the_root, soft_links_in_a_ring, soft_link_upwards,
        paths_that_link_to_themselves, paths_that_link_to_the_series, paths_in_a_file_that_is_gone,
        paths_in_a_file_that_is_none, paths_in_this_very_file, external_ring,
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", [*MODES, None])
def test_hostile_links(home: Home, damage: Callable[[h5py.File], None], mode: str | None) -> None:
    """In a process of its own: pynwb recurses until Python stops it. If that happens inside h5py, its lock stays taken,
    and threads of later tests would wait for it forever."""
    with h5py.File(home.source, "r+") as file:
        damage(file)
    assert run_apart(partial(export_links, home, mode)) == 0, "what it has to say stands on standard error"


def export_links(home: Home, mode: str | None) -> None:
    if mode == "move":  # the video may be moved, so it is left out
        video = home.video.read_bytes()
        with silently():
            try:
                home.export(media_mode="move")
            except Exception:
                assert home.video.read_bytes() == video
                assert snapshot(home.out) == {}
            else:
                places = [home.video, *home.out.glob("a/*")]
                assert any(place.exists() and place.read_bytes() == video for place in places)
        return
    assert_refused_or_harmless(home, **(dict(media_mode=mode) if mode else dict(relocate_media=None)))


@pytest.mark.parametrize("what", ["garbage", "empty", "truncated", "ring", "numbers", "flipped", "folder"])
def test_occupied_destination(home: Home, what: str) -> None:
    """An NWB file at the destination is searched for lost videos. It can be anything."""
    home.export()
    home.video.unlink()
    if what == "garbage":
        home.target.write_bytes(b"garbage" * 1000)
    elif what == "empty":
        home.target.write_bytes(b"")
    elif what == "truncated":
        home.target.write_bytes(home.target.read_bytes()[:5000])
    elif what == "folder":
        home.target.unlink()
        home.target.mkdir()
    elif what == "flipped":
        content = bytearray(home.target.read_bytes())
        content[3000::97] = bytes(len(content[3000::97]))
        home.target.write_bytes(content)
    else:
        with h5py.File(home.target, "r+") as file:
            if what == "ring":
                file["acquisition/loop"] = file["acquisition"]
                paths_that_link_to_themselves(file)
            else:
                del file[PATHS]
                file[PATHS] = [1, 2]
                file[SERIES].attrs["neurodata_type"] = [1, 2]
    with unchanged(home.root), pytest.raises((ExternalFilesError, OSError)) as caught:
        home.export()
    if what != "folder":
        assert type(caught.value) is MissingMediaError


def test_destination_with_paths_behind_a_pipe(home: Home) -> None:
    home.export()
    home.video.unlink()
    os.mkfifo(home.out / "pipe")
    with h5py.File(home.target, "r+") as file:
        del file[PATHS]
        file[PATHS] = h5py.ExternalLink("pipe", "/x")
    with unchanged(home.root):
        assert "MissingMediaError" in export_in_a_process(home)


# ----------------------------------------------------- staging folders that were downloaded


def staging(target: Path) -> Path:
    """The staging folder of an NWB file. Anybody can know its name."""
    token = hashlib.blake2s(os.fsencode(target.name), digest_size=4).hexdigest()
    return target.with_name(f".nwb-extfiles-{token}")


def test_name_of_the_staging_folder(home: Home) -> None:
    """The tests below attack the right folder."""
    with NWBExtFilesHDF5IO(home.target, "w"):
        assert {path.name for path in home.out.iterdir()} == {
            staging(home.target).name,
            f"{staging(home.target).name}.nwb",
        }


def staged_name_is_a_link(home: Home, area: Path) -> None:
    area.with_name(f"{area.name}.nwb").symlink_to(home.secret)


def staged_name_is_a_link_beside_a_folder(home: Home, area: Path) -> None:
    area.mkdir()
    area.with_name(f"{area.name}.nwb").symlink_to(home.secret)


def staged_name_is_a_dangling_link(home: Home, area: Path) -> None:
    area.with_name(f"{area.name}.nwb").symlink_to(home.victim / "new.nwb")


def staged_name_is_a_dangling_link_beside_a_folder(home: Home, area: Path) -> None:
    area.mkdir()
    area.with_name(f"{area.name}.nwb").symlink_to(home.victim / "new.nwb")


def staged_name_is_a_folder(home: Home, area: Path) -> None:
    area.with_name(f"{area.name}.nwb").mkdir()


def staged_name_is_a_pipe(home: Home, area: Path) -> None:
    os.mkfifo(area.with_name(f"{area.name}.nwb"))


def folder_is_a_link(home: Home, area: Path) -> None:
    area.symlink_to(home.victim)


def folder_is_a_file(home: Home, area: Path) -> None:
    area.write_bytes(b"file")


def lock_is_a_link(home: Home, area: Path) -> None:
    area.mkdir()
    (area / "lock").symlink_to(home.victim / "new")


def lock_is_a_link_to_a_file(home: Home, area: Path) -> None:
    area.mkdir()
    (area / "lock").symlink_to(home.secret)


def lock_is_a_folder(home: Home, area: Path) -> None:
    (area / "lock").mkdir(parents=True)


def lock_is_a_pipe(home: Home, area: Path) -> None:
    area.mkdir()
    os.mkfifo(area / "lock")


def parts_are_links(home: Home, area: Path) -> None:
    area.mkdir()
    for name in ("0", "1", "unfinished", "journal"):
        (area / name).symlink_to(home.secret)


def parts_are_links_to_folders(home: Home, area: Path) -> None:
    area.mkdir()
    for name in ("0", "1", "unfinished", "former", "journal"):
        (area / name).symlink_to(home.victim)


def unfinished_is_a_folder(home: Home, area: Path) -> None:
    (area / "unfinished" / "x").mkdir(parents=True)


def former_is_a_link(home: Home, area: Path) -> None:
    area.mkdir()
    (area / "unfinished").touch()
    (area / "former").symlink_to(home.victim)


def former_through_a_link(home: Home, area: Path) -> None:
    (home.out / "sub-a").symlink_to(home.victim)
    (area / "former" / "sub-a").mkdir(parents=True)
    (area / "unfinished").touch()
    (area / "former" / "sub-a" / "secret.avi").write_bytes(b"evil")


def former_through_a_link_deep_down(home: Home, area: Path) -> None:
    (home.out / "x").mkdir()
    (home.out / "x" / "y").symlink_to("../../victim")
    (area / "former" / "x" / "y").mkdir(parents=True)
    (area / "unfinished").touch()
    (area / "former" / "x" / "y" / "authorized_keys").write_bytes(b"evil")


def former_makes_a_folder_through_a_link(home: Home, area: Path) -> None:
    (home.out / "x").symlink_to("../victim")
    (area / "former" / "x" / "new").mkdir(parents=True)
    (area / "unfinished").touch()
    (area / "former" / "x" / "new" / "file").write_bytes(b"evil")


def former_makes_its_own_link(home: Home, area: Path) -> None:
    """Recovery first restores a link, then something through it."""
    (area / "former" / "b").mkdir(parents=True)
    (area / "former" / "a").symlink_to(home.victim)
    (area / "former" / "b" / "link").symlink_to(home.victim)
    (area / "unfinished").touch()


def former_is_below_a_link(home: Home, area: Path) -> None:
    (area / "former").mkdir(parents=True)
    (area / "former" / "x").symlink_to(home.victim)
    (home.out / "x").mkdir()
    (area / "unfinished").touch()


def former_of_a_folder_that_is_there(home: Home, area: Path) -> None:
    (area / "former").mkdir(parents=True)
    (area / "former" / "x").write_bytes(b"evil")
    (home.out / "x").mkdir()
    (area / "unfinished").touch()


def former_of_the_document(home: Home, area: Path) -> None:
    (area / "former").mkdir(parents=True)
    (area / "former" / "a.nwb").symlink_to(home.secret)
    (area / "unfinished").touch()


ATTACKS = [value for name, value in globals().items() if name.startswith(("staged_", "folder_", "lock_", "parts_",
                                                                           "unfinished_", "former_"))]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("mode", ["copy", "symlink"])
def test_hostile_staging_folder(home: Home, attack: Callable[[Home, Path], None], mode: str) -> None:
    attack(home, staging(home.target))
    before, refused = snapshot(home.out), None
    with unchanged(home.victim, home.videos, home.source.parent):
        try:
            home.export(media_mode=mode)
        except ExternalFilesError as error:
            refused = error
            assert before == snapshot(home.out) or attack is former_makes_its_own_link
        else:
            (stored,) = stored_paths(home.target)
            assert (home.out / stored).read_bytes() == home.video.read_bytes()
            assert not home.target.is_symlink()
            assert not [name for name in os.listdir(home.out) if name.startswith(".nwb-extfiles-")]
    assert refused is None or isinstance(refused, TransferError) or attack is former_makes_its_own_link
    assert refused is None or str(home.out) in str(refused)


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_staging_folder_in_place(home: Home, attack: Callable[[Home, Path], None]) -> None:
    """The same for a relocation of the downloaded file in place."""
    target = write_nwb(home.target, ["../videos/a.avi"])
    attack(home, staging(target))
    before, content, refused = set(snapshot(home.out)), digest(target), None
    with unchanged(home.victim, home.videos, home.source.parent), silently():
        try:
            with NWBExtFilesHDF5IO(target, "r+") as io:
                io.write(io.read(), relocate_media=True, media_mode="copy")
        except ExternalFilesError as error:
            refused = error
            assert digest(target) == content
            assert before == set(snapshot(home.out)) or attack is former_makes_its_own_link
        else:
            (stored,) = stored_paths(target)
            assert (home.out / stored).read_bytes() == home.video.read_bytes()
    assert refused is None or isinstance(refused, TransferError) or attack is former_makes_its_own_link


@pytest.mark.parametrize("planted", ["link", "other bytes", "other size"])
def test_forged_whole_copy_is_not_reused(home: Home, planted: str) -> None:
    """A file in the staging folder with the name of a whole copy is not trusted."""
    name = whole_copy_name(home.video.stat())
    area = staging(home.target)
    area.mkdir()
    if planted == "link":
        (area / name).symlink_to(home.secret)
    else:
        (area / name).write_bytes(b"evil" if planted == "other size" else b"x" * home.video.stat().st_size)
    with unchanged(home.victim, home.videos):
        home.export()
    home.assert_exported()


@pytest.mark.parametrize("mode", MODES)
def test_media_folder_is_a_link(home: Home, mode: str) -> None:
    (home.out / "a").symlink_to(home.victim)
    with unchanged(home.root), pytest.raises(UnsafeReferenceError):
        home.export(media_mode=mode)
    with unchanged(home.root), pytest.raises(UnsafeReferenceError):
        home.export(media_mode=mode, media_options=dict(existing="replace"))


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_target_is_a_link_to_other_media(home: Home, mode: str) -> None:
    """A link at a target is never written through."""
    with h5py.File(home.source) as file:
        object_id = file[SERIES].attrs["object_id"]
    (home.out / "a").mkdir()
    (home.out / "a" / f"{object_id}_external_file_0.avi").symlink_to(home.secret)
    with unchanged(home.root), pytest.raises(ExternalFilesError):
        home.export(media_mode=mode)
    video = home.video.read_bytes()
    with unchanged(home.victim):
        home.export(media_mode=mode, media_options=dict(existing="replace"))
    (stored,) = stored_paths(home.target)
    assert (home.out / stored).read_bytes() == video
    assert not (home.out / stored).is_symlink()

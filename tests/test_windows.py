"""What only Windows does: names, files open in other programs, read-only files, pipes, disks without links."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import pytest
from helpers import assert_resolves, digest, make_file, stored_paths, tree, write_nwb
from processes import KILLED, kill_this_process, run_apart
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesError, NWBExtFilesHDF5IO, check, relocate, restore
from nwb_extfiles.errors import (
    DestinationBusyError,
    MissingMediaError,
    RelocationRefusedError,
    UnreadableFileError,
    UnsafeReferenceError,
)
from nwb_extfiles.transfers.recovery import recover

pytestmark = [
    pytest.mark.skipif(sys.platform != "win32", reason="Windows alone does so"),
    pytest.mark.filterwarnings("ignore:.*is replaced, and its content is discarded", "ignore:.*stays behind with"),
]


@pytest.fixture
def nwb(tmp_path: Path) -> Path:
    """An NWB file with two videos in a folder beside its own."""
    (tmp_path / "videos").mkdir()
    for name in ("a.avi", "b.avi"):
        make_file(tmp_path / "videos" / name, 3000)
    return write_nwb(tmp_path / "nwb" / "x.nwb", ["../videos/a.avi", "../videos/b.avi"])


def export(source: Path, path: Path | str, **options: Any) -> None:
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(path, "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", media_options=options)


def run(*arguments: object, code: int = 0) -> str:
    """What a command writes to a pipe, as Python encodes it there."""
    command = [sys.executable, "-m", "nwb_extfiles", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONIO")}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    shown = done.stdout.decode("cp1252", "replace")
    assert done.returncode == code, shown
    assert "UnicodeEncodeError" not in shown
    return shown


@contextmanager
def opened_by_another_program(path: Path, how: str) -> Iterator[None]:
    """Have another process open a file: as h5py does, in a mode of it, or as Python's ``open`` does."""
    code = (
        "import sys; path, how = sys.argv[1:]\n"
        "if how == 'open': file = open(path, 'rb')\n"
        "else: import h5py; file = h5py.File(path, how)\n"
        "print('open', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"open"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait()


def is_read_only(path: Path) -> bool:
    return not path.stat().st_mode & stat.S_IWRITE


# ------------------------------------------------------------------------ pipes


def test_demo_through_a_pipe_draws_its_tree_in_ascii(tmp_path: Path) -> None:
    shown = run("demo", tmp_path / "demo")
    assert "|-- " in shown
    assert "\\u25" not in shown


@pytest.mark.parametrize("name", ["\u0432\u0438\u0434\u0435\u043e.avi", "\u52d5\u753b.avi"])
def test_names_outside_the_code_page_through_a_pipe(tmp_path: Path, name: str) -> None:
    """No command ends with an error of the encoding, and a batch is not stopped half-way by one."""
    make_file(tmp_path / name, 3000)
    files = [write_nwb(tmp_path / nwb_name, [name]) for nwb_name in (f"{name}.nwb", "x.nwb")]
    assert "\\u" in run("ls", *files)
    run("check", "--frames", "none", *files)
    run("relocate", "--media-mode", "copy", *files)
    for path in files:
        assert_resolves(path, [tmp_path / name])
    run("report", "-o", tmp_path / "report.html", *files)
    assert (tmp_path / "report.html").stat().st_size > 1000


# ----------------------------------------------------------- file systems without links


@pytest.fixture(params=[1, 50, 1142])
def no_hard_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on exFAT, FAT and some shares: Windows answers with one of three errors, and Python calls each EINVAL."""

    def refuse(source: Any, target: Any, **options: Any) -> None:
        raise OSError(0, "Incorrect function", str(source), request.param, str(target))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_hard_links")
@pytest.mark.parametrize("mode", ["move", "copy"])
def test_a_video_named_twice_where_there_are_no_hard_links(tmp_path: Path, mode: str) -> None:
    video = make_file(tmp_path / "a.avi", 3000)
    shutil.copyfile(video, tmp_path / "kept")
    path = write_nwb(tmp_path / "x.nwb", ["a.avi", "a.avi"])
    relocate(path, mode)
    assert_resolves(path, [tmp_path / "kept"] * 2)
    assert video.exists() == (mode == "copy")


@pytest.mark.usefixtures("no_hard_links")
def test_replacing_where_there_are_no_hard_links(nwb: Path, tmp_path: Path) -> None:
    export(nwb, tmp_path / "new" / "x.nwb")
    make_file(next((tmp_path / "new" / "x").iterdir()), 3000)
    export(nwb, tmp_path / "new" / "x.nwb", existing="replace")
    assert_resolves(tmp_path / "new" / "x.nwb", [tmp_path / "videos" / name for name in ("a.avi", "b.avi")])


# ------------------------------------------------------------- open in another program


def test_nwb_file_that_another_program_writes_is_not_called_broken(nwb: Path) -> None:
    with opened_by_another_program(nwb, "r+"):
        with pytest.raises(UnreadableFileError, match="another process is writing to it") as caught:
            relocate(nwb, "copy")
        assert "copied" not in str(caught.value)
        assert [finding.code for finding in check(nwb, frames="none")] == ["unreadable"]
    relocate(nwb, "copy")


def test_nwb_file_that_another_program_reads_is_replaced_after_it_is_closed(nwb: Path, tmp_path: Path) -> None:
    shutil.copyfile(nwb, nwb.with_name("copy.nwb"))
    before = tree(tmp_path)
    with opened_by_another_program(nwb, "r"):
        with pytest.raises(DestinationBusyError, match="open in another program"):
            export(nwb.with_name("copy.nwb"), nwb)
        with pytest.raises(DestinationBusyError, match="open in another program"):
            relocate(nwb, "copy")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mode", ["move", "hardlink"])
def test_video_that_is_open_is_named_before_anything_is_written(nwb: Path, tmp_path: Path, mode: str) -> None:
    before = tree(tmp_path)
    with opened_by_another_program(tmp_path / "videos" / "b.avi", "open"):
        with pytest.raises(RelocationRefusedError, match=r"another program has .*b\.avi' open") as caught:
            relocate(nwb, mode)
        assert caught.value.index == 1
        assert "\\\\" not in str(caught.value)
    assert tree(tmp_path) == before
    relocate(nwb, mode)


def test_target_that_is_open_is_named_before_anything_is_written(nwb: Path, tmp_path: Path) -> None:
    export(nwb, tmp_path / "new" / "x.nwb")
    target = next((tmp_path / "new" / "x").iterdir())
    make_file(target, 3000)
    before = tree(tmp_path)
    with (
        opened_by_another_program(target, "open"),
        pytest.raises(RelocationRefusedError, match=rf"another program has .*{target.name}' open"),
    ):
        export(nwb, tmp_path / "new" / "x.nwb", existing="replace")
    assert tree(tmp_path) == before


# ------------------------------------------------------------------------ read-only


@pytest.mark.parametrize("mode", ["copy", "hardlink", "move"])
def test_read_only_videos(nwb: Path, tmp_path: Path, mode: str) -> None:
    videos = [tmp_path / "videos" / name for name in ("a.avi", "b.avi")]
    kept = [Path(shutil.copyfile(video, tmp_path / f"kept-{video.name}")) for video in videos]
    videos[0].chmod(stat.S_IREAD)
    relocate(nwb, mode)
    assert_resolves(nwb, kept)
    assert [video.exists() for video in videos] == [mode != "move"] * 2
    if mode != "copy":
        assert is_read_only(nwb.parent / stored_paths(nwb)[0])
    relocate(nwb, mode)  # flushes what it finds there
    assert_resolves(nwb, kept)


def test_read_only_target_is_replaced(nwb: Path, tmp_path: Path) -> None:
    export(nwb, tmp_path / "new" / "x.nwb")
    target = next((tmp_path / "new" / "x").iterdir())
    make_file(target, 3000)
    target.chmod(stat.S_IREAD)
    export(nwb, tmp_path / "new" / "x.nwb", existing="replace")
    assert_resolves(tmp_path / "new" / "x.nwb", [tmp_path / "videos" / name for name in ("a.avi", "b.avi")])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x", "x.nwb"]


def test_failed_move_of_a_read_only_video_leaves_it_as_it_was(nwb: Path, tmp_path: Path) -> None:
    video = tmp_path / "videos" / "a.avi"
    video.chmod(stat.S_IREAD)
    before = tree(tmp_path)
    with pytest.raises(ZeroDivisionError), NWBHDF5IO(nwb, "r") as src_io:
        with NWBExtFilesHDF5IO(tmp_path / "new" / "x.nwb", "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="move")
            raise ZeroDivisionError
    assert tree(tmp_path) == before
    assert is_read_only(video)


def test_failed_replacement_by_a_read_only_video_leaves_it_as_it_was(nwb: Path, tmp_path: Path) -> None:
    export(nwb, tmp_path / "new" / "x.nwb")
    make_file(next((tmp_path / "new" / "x").iterdir()), 3000)
    videos = [tmp_path / "videos" / name for name in ("a.avi", "b.avi")]
    for video in videos:
        video.chmod(stat.S_IREAD)
    before = tree(tmp_path)
    with pytest.raises(ZeroDivisionError), NWBHDF5IO(nwb, "r") as src_io:
        with NWBExtFilesHDF5IO(tmp_path / "new" / "x.nwb", "w") as io:
            options = {"existing": "replace"}
            io.export(src_io=src_io, relocate_media=True, media_mode="hardlink", media_options=options)
            raise ZeroDivisionError
    assert tree(tmp_path) == before
    assert all(map(is_read_only, videos))


@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_killed_replacement_of_read_only_targets_is_put_back(nwb: Path, tmp_path: Path, mode: str) -> None:
    new = tmp_path / "new" / "x.nwb"
    export(nwb, new)
    for target in (tmp_path / "new" / "x").iterdir():
        make_file(target, 3000)
        target.chmod(stat.S_IREAD)
    for video in (tmp_path / "videos").iterdir():
        video.chmod(stat.S_IREAD)
    before = tree(tmp_path)
    assert run_apart(lambda: _export_and_be_killed(nwb, new, mode)) == KILLED
    assert tree(tmp_path) != before
    assert recover(new)
    assert tree(tmp_path) == before


def _export_and_be_killed(nwb: Path, new: Path, mode: str) -> None:
    """End before the NWB file gets its name, when the media have theirs."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]) == str(new):
            kill_this_process()

    sys.addaudithook(hook)
    options = {"existing": "replace"}
    with NWBHDF5IO(nwb, "r") as src_io, NWBExtFilesHDF5IO(new, "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode=mode, media_options=options)


# ------------------------------------------------------------------- names and paths


@pytest.mark.parametrize("name", ["CON.nwb", "nul.nwb", "q?.nwb", "a .nwb", "a..nwb"])
def test_names_that_windows_cannot_have_are_refused(nwb: Path, tmp_path: Path, name: str) -> None:
    before = tree(tmp_path)
    with pytest.raises((RelocationRefusedError, UnsafeReferenceError), match="give the NWB file another name"):
        export(nwb, f"{tmp_path}\\nwb\\{name}")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["NUL.avi", "a?.avi", "cam1:front.avi", "a. "])
def test_original_names_that_windows_cannot_have_are_refused(nwb: Path, tmp_path: Path, name: str) -> None:
    """As in a manifest that was made on another system."""
    relocate(nwb, "copy", media_options={"manifest": True})
    with h5py.File(nwb, "r+") as file:
        (table,) = [item for item in _groups(file) if "original_name" in item]
        table["original_name"][0] = name
    with pytest.raises(UnsafeReferenceError, match="Windows") as caught:
        restore(nwb, tmp_path / "mine")
    assert "restore it on another system" in str(caught.value)
    assert not (tmp_path / "mine").exists()


def _groups(file: h5py.File) -> list[h5py.Group]:
    found: list[h5py.Group] = []
    file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Group) else None)
    return found


def test_new_paths_follow_the_letter_case_of_the_disk(nwb: Path, tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "nwb" / "y.nwb", ["../VIDEOS/A.AVI"])
    relocate(path, "reference")
    assert stored_paths(path) == ["../videos/a.avi"]


@pytest.mark.parametrize(
    "stored", ["/mnt/lab/a.avi", "Q:\\videos\\a.avi", "\\\\?\\Q:\\a.avi", "file://server/share/a.avi"]
)
def test_path_map_is_offered_for_paths_of_other_machines(tmp_path: Path, stored: str) -> None:
    path = write_nwb(tmp_path / "x.nwb", [stored])
    with pytest.raises(MissingMediaError, match="path_map") as caught:
        relocate(path, "copy")
    assert f"'{stored}'" in str(caught.value)  # no backslash is doubled
    make_file(tmp_path / "a.avi", 3000)
    prefix = stored.removesuffix("a.avi").removeprefix("file:").removeprefix("\\\\?\\")
    relocate(path, "copy", media_options={"path_map": {prefix: str(tmp_path)}})
    assert_resolves(path, [tmp_path / "a.avi"])


@pytest.mark.parametrize("mode", ["reference", "copy"])
def test_long_prefix_is_understood(tmp_path: Path, mode: str) -> None:
    video = make_file(tmp_path / "a.avi", 3000)
    path = write_nwb(tmp_path / "x.nwb", [f"\\\\?\\{video}"])
    relocate(path, mode)
    assert_resolves(path, [video])


def test_too_long_a_path_is_refused_in_the_plan(nwb: Path, tmp_path: Path) -> None:
    name = "n" * (259 - len(str(tmp_path)) - 40)  # the NWB file fits, its media do not
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="this system allows 259"):
        export(nwb, tmp_path / f"{name}.nwb")
    assert tree(tmp_path) == before


# --------------------------------------------------------------------- links, default


def test_symbolic_links_without_the_privilege_are_refused_once_by_the_dry_run(nwb: Path, tmp_path: Path) -> None:
    with suppress(OSError):
        (tmp_path / "link").symlink_to(nwb)
        pytest.skip("this user may make symbolic links")
    before = tree(tmp_path)
    with pytest.raises(ExternalFilesError, match="lets this user make no symbolic links") as caught:
        relocate(nwb, "symlink", dry_run=True)
    assert len(caught.value.problems) == 1
    assert tree(tmp_path) == before
    shown = run("relocate", "--dry-run", nwb)  # the default, which the plan shows
    assert "hardlink" in shown
    relocate(nwb)
    assert [digest(nwb.parent / stored) for stored in stored_paths(nwb)] == [
        digest(tmp_path / "videos" / name) for name in ("a.avi", "b.avi")
    ]

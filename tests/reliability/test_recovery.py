"""What a killed run left, met by users who rename, copy, replace and mount before they run anything again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from harness import TEMPORARY, quiet
from helpers import digest, image_series, new_nwbfile, set_paths, stored_paths, tree, write_nwb
from processes import KILLED, kill_this_process, run_apart
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO, check, relocate
from nwb_extfiles.cli import main
from nwb_extfiles.disk import journal
from nwb_extfiles.errors import RelocationRefusedError, TransferError
from nwb_extfiles.tasks.relocating import relocate_files
from nwb_extfiles.transfers.joint_commit import TransferCall
from nwb_extfiles.transfers.recovery import recover
from nwb_extfiles.transfers.staging_folder import StagingFolder
from nwb_extfiles.transfers.transfer import Transfer

DATASET = "acquisition/video/external_file"


def die(*_: object, **__: object) -> None:
    kill_this_process()


def killed(job: Callable[[], object], where: type, method: str) -> None:
    """Run a job that is killed when it comes to a method."""

    def run() -> None:
        warnings.simplefilter("ignore", ExternalFilesWarning)  # of what is replaced
        setattr(where, method, die)
        job()

    assert run_apart(run) == KILLED


def interrupted_edit(path: Path) -> None:
    """Relocate, killed in the middle of the pages of the NWB file."""

    def run() -> None:
        plain, count = journal._write_at, 0

        def write(handle: int, offset: int, content: bytes) -> None:
            nonlocal count
            count += 1
            if count == 3:
                die()
            plain(handle, offset, content)

        journal._write_at = write
        relocate(path, "copy")

    assert run_apart(run) == KILLED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An NWB file with so many series that an edit changes many pages."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "ds").mkdir()
    nwbfile = new_nwbfile()
    for number in range(40):
        (tmp_path / "raw" / f"{number}.avi").write_bytes(b"%d" % number * 1000)
        nwbfile.add_acquisition(image_series([f"../raw/{number}.avi"], f"series{number}"))
    with NWBHDF5IO(tmp_path / "ds" / "a.nwb", "w") as io:
        io.write(nwbfile)
    return tmp_path / "ds" / "a.nwb"


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(f"*{TEMPORARY}*"))


def codes(path: Path) -> list[str]:
    return [finding.code for finding in check(path, frames="none")]  # these are no videos


# ----------------------------------------------------------- renamed, or copied


def test_renamed_file_finds_its_journal(path: Path) -> None:
    before = path.read_bytes()
    interrupted_edit(path)
    assert path.read_bytes() != before
    new = path.rename(path.with_name("b.nwb"))
    assert "interrupted-edit" in codes(new)
    with pytest.raises(RelocationRefusedError, match="nwb-extfiles recover"):
        relocate(new, "copy", dry_run=True)
    done = CliRunner().invoke(main, ["recover", str(new)])
    assert (done.exit_code, "restored" in done.output) == (0, True)
    assert new.read_bytes() == before
    assert leftovers(path.parent) == []


@pytest.mark.parametrize("then", ["relocate", "open", "recover the former name"])
def test_renamed_file_is_restored_by_any_call(path: Path, then: str) -> None:
    before = path.read_bytes()
    interrupted_edit(path)
    new = path.rename(path.with_name("b.nwb"))
    shutil.copy(path.parent.parent / "raw" / "0.avi", path)  # something else gets the name
    if then == "open":
        with NWBExtFilesHDF5IO(new, "r"):
            pass
    elif then == "relocate":
        relocate(new, "copy", media_options={"search": [path.parent]})
        recover(new)
        assert len(stored_paths(new, "acquisition/series7/external_file")) == 1
        assert codes(new) == []
        return
    else:
        recover(path, thoroughly=True)
    assert new.read_bytes() == before
    assert leftovers(path.parent) == []


def test_copy_of_interrupted_edit(path: Path) -> None:
    before = path.read_bytes()
    shutil.copy(path, path.with_name("backup.nwb"))
    interrupted_edit(path)
    copy = path.with_name("copy.nwb")
    shutil.copy(path, copy)
    assert "interrupted-edit" in codes(copy)
    assert "interrupted-edit" not in codes(path.with_name("backup.nwb"))
    assert recover(copy, thoroughly=True)
    assert copy.read_bytes() == before
    assert recover(path)
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_truncated_bytes_are_restored(path: Path) -> None:
    with path.open("ab") as file:
        file.write(os.urandom(9000))
    before = path.read_bytes()
    killed(lambda: relocate(path, "copy"), Transfer, "_commit_document")
    assert path.read_bytes() != before
    assert recover(path)
    assert path.read_bytes() == before


# ----------------------------------------------------------- what stands there now


@pytest.mark.parametrize("keep", ["the new file", "the former file"])
def test_recovery_keeps_files_of_others(tmp_path: Path, keep: str) -> None:
    """And what the message says ends well."""
    video = tmp_path / "raw" / "a.avi"
    video.parent.mkdir()
    video.write_bytes(b"former" * 1000)
    path = write_nwb(tmp_path / "ds" / "a.nwb", ["../raw/a.avi"])
    relocate(path, "copy")
    target = path.parent / stored_paths(path)[0]
    video.write_bytes(b"other" * 1000)
    set_paths(path, DATASET, ["../raw/a.avi"], dtype=h5py.string_dtype())
    before = path.read_bytes()
    killed(lambda: relocate(path, "copy", media_options={"existing": "replace"}), Transfer, "_commit_document")
    assert target.read_bytes() == b"other" * 1000
    target.unlink()
    target.write_bytes(b"of the user" * 1000)

    done = CliRunner().invoke(main, ["recover", str(path)])
    assert done.exit_code == 1
    assert target.read_bytes() == b"of the user" * 1000
    former = Path(done.output.partition("The former file is at ")[2].partition(";")[0])
    assert former.read_bytes() == b"former" * 1000
    if keep == "the new file":
        assert f"to keep the new one, remove {former}" in done.output
        former.unlink()
    else:
        assert f"to have it back, move {target} away" in done.output
        target.rename(tmp_path / "mine.avi")
    assert f"nwb-extfiles recover {path}" in done.output
    assert CliRunner().invoke(main, ["recover", str(path)]).exit_code == 0
    assert path.read_bytes() == before
    assert target.read_bytes() == (b"of the user" if keep == "the new file" else b"former") * 1000
    assert leftovers(tmp_path) == []


def test_recovery_names_each_problem_once(tmp_path: Path) -> None:
    videos = [tmp_path / "raw" / name for name in ("a.avi", "b.avi")]
    videos[0].parent.mkdir()
    for video in videos:
        video.write_bytes(video.name.encode() * 1000)
    path = write_nwb(tmp_path / "ds" / "a.nwb", [f"../raw/{video.name}" for video in videos])
    relocate(path, "copy")
    targets = [path.parent / stored for stored in stored_paths(path)]
    for video in videos:
        video.write_bytes(b"other" + video.read_bytes())
    set_paths(path, DATASET, [f"../raw/{video.name}" for video in videos], dtype=h5py.string_dtype())
    killed(lambda: relocate(path, "copy", media_options={"existing": "replace"}), Transfer, "_commit_document")
    for target in targets:
        target.unlink()
        target.write_bytes(b"of the user")

    with pytest.raises(TransferError) as caught:
        recover(path)
    done = CliRunner().invoke(main, ["recover", str(path)])
    assert len(caught.value.problems) == 2
    for text in (str(caught.value), done.output):
        assert [text.count(f"{target} was put there by another program") for target in targets] == [1, 1]


# ----------------------------------------------------------- old names of a move


def moved(tmp_path: Path) -> tuple[Path, Path, str]:
    """A move that was killed before the old name went."""
    video = tmp_path / "raw" / "a.avi"
    video.parent.mkdir()
    video.write_bytes(b"video" * 1000)
    path = write_nwb(tmp_path / "ds" / "a.nwb", ["../raw/a.avi"])
    content = digest(video)
    killed(lambda: relocate(path, "move"), TransferCall, "conclude")
    assert video.exists()
    return path, video, content


@pytest.mark.parametrize("then", ["relocate", "recover"])
def test_next_call_removes_old_names(tmp_path: Path, then: str) -> None:
    path, video, content = moved(tmp_path)
    if then == "relocate":
        relocate(path, "symlink")
    else:
        assert CliRunner().invoke(main, ["recover", str(path)]).exit_code == 0
    assert not video.exists()
    assert digest(path.parent / stored_paths(path)[0]) == content
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("change", ["the old one is another", "the new one is gone", "the new one has other bytes"])
def test_old_names_without_proof_are_kept(tmp_path: Path, change: str) -> None:
    path, video, _ = moved(tmp_path)
    target = path.parent / stored_paths(path)[0]
    if change == "the old one is another":
        video.unlink()
        video.write_bytes(b"video of another day")
    elif change == "the new one is gone":
        target.unlink()
    else:
        target.unlink()
        target.write_bytes(b"VIDEO" * 1000)
    content = digest(video)
    with quiet():
        recover(path, thoroughly=True)
    assert digest(video) == content


def test_foreign_removal_list_removes_no_only_copy(tmp_path: Path) -> None:
    """Whoever made it knows all that `stat` says."""
    precious = tmp_path / "precious.avi"
    precious.write_bytes(b"video" * 1000)
    path = write_nwb(tmp_path / "ds" / "a.nwb", ["a/a.avi"])
    (path.parent / "a").mkdir()
    (path.parent / "a" / "a.avi").write_bytes(b"VIDEO" * 1000)
    staging = StagingFolder(path)

    def stamp(place: Path) -> list[int]:
        status = place.stat()
        return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]

    note = {
        "path": str(precious),
        "stamp": stamp(precious),
        "places": [str(precious)],
        "targets": [["a/a.avi", stamp(path.parent / "a" / "a.avi")]],
    }
    (staging.path / "removals").write_text(json.dumps([note]))
    staging.release()
    with quiet():
        recover(path, thoroughly=True)
    assert precious.exists()


# ----------------------------------------------------------- the plan and the file


@pytest.mark.parametrize("change", ["the paths", "the object_id"])
def test_nwb_file_changed_while_media_were_copied(tmp_path: Path, change: str) -> None:
    videos = [tmp_path / "raw" / f"{name}.avi" for name in "ab"]
    videos[0].parent.mkdir()
    for video in videos:
        video.write_bytes(video.name.encode() * 1000)
    path = write_nwb(tmp_path / "ds" / "a.nwb", ["../raw/a.avi", "../raw/b.avi"])
    changed: list[bytes] = []

    def meanwhile(done: int, total: int) -> None:
        if not changed:
            with h5py.File(path, "r+") as file:
                if change == "the paths":
                    file[DATASET][...] = ["../raw/b.avi", "../raw/a.avi"]
                else:
                    file["acquisition/video"].attrs["object_id"] = "933f8cf6-9e4b-405f-8cad-cc031d1fafc8"
            changed.append(path.read_bytes())

    with pytest.raises(TransferError, match="run the same command again"):
        relocate(path, "move", media_options={"progress": meanwhile})
    assert path.read_bytes() == changed[0]
    assert all(video.exists() for video in videos)
    assert not path.with_suffix("").exists()
    wanted = [digest(tmp_path / "ds" / text) for text in stored_paths(path)]
    relocate(path, "move")
    assert [digest(path.parent / text) for text in stored_paths(path)] == wanted


# ----------------------------------------------------------- calls over several files


def two_files(tmp_path: Path) -> list[Path]:
    (tmp_path / "raw").mkdir()
    paths = []
    for name in "ab":
        (tmp_path / "raw" / f"{name}.avi").write_bytes(name.encode() * 1000)
        paths.append(write_nwb(tmp_path / f"sub-{name}" / f"{name}.nwb", [f"../raw/{name}.avi"]))
    return paths


def test_member_without_leader_is_rolled_back(tmp_path: Path) -> None:
    paths = two_files(tmp_path)
    before = [path.read_bytes() for path in paths]
    killed(lambda: relocate_files(paths, "move"), TransferCall, "conclude")
    paths[0].parent.rename(tmp_path / "elsewhere")
    # all was committed; the leader is where nobody looks, and has its own journal no more
    assert (paths[1].read_bytes() == before[1]) == recover(paths[1])
    assert digest(paths[1].parent / stored_paths(paths[1])[0]) == digest(tmp_path / "raw" / "b.avi")


@pytest.mark.parametrize("who", [0, 1])
def test_all_members_are_seen_as_interrupted(tmp_path: Path, who: int) -> None:
    paths = two_files(tmp_path)
    before = [path.read_bytes() for path in paths]
    killed(lambda: relocate_files(paths, "copy"), Transfer, "_commit_document")
    assert all(path.read_bytes() != content for path, content in zip(paths, before, strict=True))
    assert all("interrupted-edit" in codes(path) for path in paths)
    assert recover(paths[who])
    assert [path.read_bytes() for path in paths] == before
    assert not any(map(recover, paths))
    assert leftovers(tmp_path) == []


def test_leader_that_does_not_list_member_is_ignored(tmp_path: Path) -> None:
    """A staging folder that came with a download speaks of another file as of its leader."""
    paths = two_files(tmp_path)
    killed(lambda: relocate_files(paths, "copy"), Transfer, "_commit_document")
    leader = next(tmp_path.glob(f"sub-a/{TEMPORARY}????????"))
    mark = json.loads((leader / "unfinished").read_text())
    mark["members"] = []
    (leader / "unfinished").unlink()
    (leader / "committed").write_text(json.dumps(mark))
    assert recover(paths[1])
    assert stored_paths(paths[1]) == ["../raw/b.avi"]
    assert leader.exists(), "it is not touched for another's sake"


# ----------------------------------------------------------- what a file system refuses


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("mode", ["copy", "move"])
def test_media_folder_is_a_mount_point(tmp_path: Path, mode: str) -> None:
    (path, _) = two_files(tmp_path)
    media = path.with_suffix("")
    media.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", media], check=False, capture_output=True).returncode:
        pytest.skip("no mounts here")
    try:
        before = tree(tmp_path)
        with pytest.raises(TransferError, match=r"a\.nwb: .*another file system .*a mount point"):
            relocate(path, mode)
        assert tree(tmp_path) == before
    finally:
        subprocess.run(["umount", media], check=True)
    relocate(path, mode)
    assert codes(path) == []


def test_recovery_notes_are_reported(tmp_path: Path) -> None:
    path, video, _ = moved(tmp_path)
    os.utime(video, (0, 0))
    with pytest.warns(ExternalFilesWarning, match="still there"):
        recover(path, thoroughly=True)
    assert video.exists()


# ----------------------------------------------------------- Zarr


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.usefixtures("trusted_stores")
@pytest.mark.parametrize("what", ["renamed", "changed"])
def test_recovery_of_a_store(tmp_path: Path, what: str) -> None:
    """As with an HDF5 file: a renamed one finds its journal, and one that changed meanwhile is not edited."""
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("hdmf_zarr")
    from zarr_makers import write_store

    (tmp_path / "raw").mkdir()
    for name in "ab":
        (tmp_path / "raw" / f"{name}.avi").write_bytes(name.encode() * 1000)
    path = write_store(tmp_path / "ds" / "a.nwb.zarr", ["../raw/a.avi", "../raw/b.avi"])
    if what == "renamed":
        before = tree(path)
        killed(lambda: relocate(path, "copy"), Transfer, "_commit_document")
        assert tree(path) != before
        new = path.rename(path.with_name("b.nwb.zarr"))
        assert "interrupted-edit" in codes(new)
        assert CliRunner().invoke(main, ["recover", str(new)]).exit_code == 0
        assert tree(new) == before
        assert leftovers(tmp_path) == []
        return
    changed: list[dict[str, str]] = []

    def meanwhile(done: int, total: int) -> None:
        if not changed:
            zarr.open_group(str(path), mode="r+")[DATASET][0] = "../raw/b.avi"
            changed.append(tree(path))

    with pytest.raises(TransferError, match="run the same command again"):
        relocate(path, "move", media_options={"progress": meanwhile})
    assert tree(path) == changed[0]
    assert len(list((tmp_path / "raw").iterdir())) == 2


@pytest.mark.parametrize("suffix", [".NWB", ".h5", ".HDF5"])
def test_recover_folder_finds_interrupted_edit_of_any_suffix(path: Path, suffix: str) -> None:
    before = path.read_bytes()
    path = path.rename(path.with_suffix(suffix))
    interrupted_edit(path)
    assert path.read_bytes() != before
    done = CliRunner().invoke(main, ["recover", str(path.parent.parent)])
    assert (done.exit_code, "restored" in done.output) == (0, True)
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []

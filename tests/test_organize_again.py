"""Organizing into a dandiset that already has files: which files are skipped, and how new ones are named.

Every hint in a message is carried out word for word.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dandi.organize import CopyMode, FileOperationMode, OrganizeInvalid
from dandi.organize import organize as dandi_organize
from helpers import digest, stored_paths, with_slashes
from makers import quiet
from recordings import new_ids, recording, set_scalar, state

from nwb_extfiles import organize
from nwb_extfiles.cli import main
from nwb_extfiles.errors import MediaExistsError

YAML = "identifier: DANDI:000001\nname: Mice\n"


def run(*arguments: Any, code: int = 0) -> Result:
    result = with_slashes(CliRunner().invoke(main, ["organize", *map(str, arguments)]))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.nwb"))


def videos_of(root: Path) -> list[str]:
    """The digests of all videos that NWB files refer to."""
    return sorted(digest(path.parent / text) for path in root.rglob("*.nwb") for text in stored_paths(path))


def dandis_names(raw: Path, root: Path) -> list[str]:
    """The names that `dandi organize` gives these files if all are given at once."""
    with quiet():
        dandi_organize(
            [str(raw)], str(root), files_mode=FileOperationMode.COPY, invalid=OrganizeInvalid.FAIL, jobs=1,
            update_external_file_paths=True, media_files_mode=CopyMode.COPY,
        )  # fmt: skip
    return names(root)


def correct(path: Path) -> None:
    """Change the data of a file, but not its mtime."""
    times = path.stat()
    with h5py.File(path, "r+") as file:
        file["acquisition/video/starting_time"][()] = 7.5
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


# ------------------------------------------------------------------ already there


@pytest.mark.parametrize("mtime", [0, 1_600_000_000, 4_102_444_800])
@pytest.mark.parametrize("files_mode", ["copy", "move"])
def test_corrected_file_with_same_mtime_is_not_skipped(tmp_path: Path, mtime: int, files_mode: str) -> None:
    root = tmp_path / "ds"
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    os.utime(path, (mtime, mtime))
    run("-d", root, path)
    correct(path)
    before = state(tmp_path)
    result = run("-d", root, "-f", files_mode, path, code=1)
    assert "another version of the same NWB file" in result.stderr
    assert state(tmp_path) == before
    assert "replace it with --existing replace" in result.stderr
    run("-d", root, "-f", files_mode, "--existing", "replace", path)
    (name,) = names(root)
    with h5py.File(root / name) as file:
        assert file["acquisition/video/starting_time"][()] == 7.5
    assert path.exists() is (files_mode == "copy")


@pytest.mark.parametrize("shift", [275, 10**18])
@pytest.mark.parametrize("files_mode", ["copy", "move"])
def test_changed_mtime_is_still_skipped(tmp_path: Path, shift: int, files_mode: str) -> None:
    """A downloaded dandiset has other mtimes."""
    root = tmp_path / "ds"
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    run("-d", root, "--media-files-mode", "copy", path)
    (name,) = names(root)
    os.utime(root / name, ns=(0, (root / name).stat().st_mtime_ns - shift))
    before = state(root)
    run("-d", root, "-f", files_mode, "--media-files-mode", "copy", path)
    assert state(root) == before
    assert path.exists() is (files_mode == "copy")


def test_target_removed_after_comparison(tmp_path: Path) -> None:
    """Between the comparison and the end of a move, another program writes to the file in the dandiset."""
    root = tmp_path / "ds"
    first = recording(tmp_path / "raw" / "a.nwb", ["a.avi"], session="a")
    run("-d", root, first)
    recording(tmp_path / "raw" / "b.nwb", ["b.avi"], session="b")
    (name,) = names(root)

    def on_file(_: Any) -> None:
        with h5py.File(root / name, "r+") as file:
            file["acquisition/video/starting_time"][()] += 1
        os.utime(root / name)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        organize(tmp_path / "raw", root, files_mode="move", on_file=on_file)
    assert any(f"{first} was moved to" in str(warning.message) for warning in told)
    assert first.exists()


@pytest.mark.parametrize("first", [[], ["--manifest"]], ids=["without", "with"])
@pytest.mark.parametrize("second", [[], ["--manifest"]], ids=["without", "with"])
def test_manifest_does_not_make_a_session_another_one(tmp_path: Path, first: list[str], second: list[str]) -> None:
    """Of two sessions organized together, DANDI names the files by their session; alone, one has a shorter name."""
    root = tmp_path / "ds"
    for day in "ab":
        recording(tmp_path / "raw" / f"{day}.nwb", [f"{day}.avi"], session=day)
    run("-d", root, *first, tmp_path / "raw")
    before = names(root)
    assert before == [f"sub-mouse0/sub-mouse0_ses-{day}_image.nwb" for day in "ab"]
    on_disk = state(root)
    result = run("-d", root, *second, tmp_path / "raw" / "a.nwb")
    assert "1 NWB file already there" in result.output
    assert state(root) == on_disk
    assert "manifest written" not in result.output
    assert ("has no manifest; to give it one" in result.stderr) is bool(second and not first)
    if second and not first:
        # a move would lose the original names, which only the manifest would keep
        assert "--existing replace" in run("-d", root, "-f", "move", *second, tmp_path / "raw" / "a.nwb", code=1).stderr
        assert state(root) == on_disk
        run("-d", root, *second, "--existing", "replace", tmp_path / "raw" / "a.nwb")
    assert names(root) == before
    with h5py.File(root / before[0]) as file:
        assert ("general/external_files/manifest" in file) is bool(first or second)


def test_corrected_store_is_not_skipped(tmp_path: Path, video_files: Path) -> None:
    pytest.importorskip("hdmf_zarr")
    import zarr
    from zarr_makers import write_store

    store = write_store(tmp_path / "stores" / "a.nwb.zarr", ["../video_files/test1_0.avi"])
    root, time = tmp_path / "ds", store.stat()
    run("-d", root, store)
    run("-d", root, store)
    group = zarr.open_group(str(store), mode="r+")
    group["acquisition/video/starting_time"][...] = 7.5
    os.utime(store, ns=(time.st_atime_ns, time.st_mtime_ns))
    assert "another version" in run("-d", root, store, code=1).stderr
    run("-d", root, "--existing", "replace", store)
    (made,) = root.rglob("*.nwb.zarr")
    assert zarr.open_group(str(made), mode="r")["acquisition/video/starting_time"][()] == 7.5


# ------------------------------------------------------------------------- names


@pytest.mark.parametrize("files_mode", ["copy", "move"])
def test_sessions_one_by_one(tmp_path: Path, files_mode: str) -> None:
    raw, root = tmp_path / "raw", tmp_path / "ds"
    for day in "abc":
        recording(raw / day / "x.nwb", [f"{day}.avi"], session=day, start=f"2020-01-0{ord(day) - 96}T00:00:00+00:00")
    expected, videos = dandis_names(raw, tmp_path / "dandis"), videos_of(raw)
    root.mkdir()
    (root / "dandiset.yaml").write_text(YAML)
    mode = ["--media-files-mode", "move" if files_mode == "move" else "copy"]
    assert run("-d", root, "-f", files_mode, *mode, raw / "a").stderr == ""
    assert names(root) == ["sub-mouse0/sub-mouse0_image.nwb"]
    result = run("-d", root, "-f", files_mode, *mode, raw / "b")
    assert names(root) == ["sub-mouse0/sub-mouse0_image.nwb", "sub-mouse0/sub-mouse0_ses-b_image.nwb"]
    assert "sub-mouse0_image.nwb keeps its name" in result.stderr
    run("-d", root, "-f", files_mode, *mode, raw / "c")
    assert videos_of(root) == videos
    if files_mode == "copy":  # all of them are already there
        run("-d", root, *mode, raw)
        assert len(names(root)) == 3
    (command,) = re.findall("`(.*?)`", result.stderr)
    words = shlex.split(command)
    assert words[:2] == ["nwb-extfiles", "organize"]
    assert run(*words[2:]).stderr == ""
    assert names(root) == expected
    assert videos_of(root) == videos
    if files_mode == "copy":
        before = state(root)
        assert run("-d", root, *mode, raw).stderr == ""
        assert state(root) == before


def test_hint_for_second_session_works(tmp_path: Path) -> None:
    for day in "ab":
        recording(tmp_path / day / "x.nwb", [f"{day}.avi"], session=day)
        result = run("-d", tmp_path / "ds", tmp_path / day)
    assert "when the dandiset.yaml of the dandiset is in that folder" in result.stderr
    (tmp_path / "ds" / "dandiset.yaml").write_text(YAML)
    run(*shlex.split(re.findall("`(.*?)`", result.stderr)[0])[2:])
    assert names(tmp_path / "ds") == [f"sub-mouse0/sub-mouse0_ses-{day}_image.nwb" for day in "ab"]


def test_two_recordings_of_one_session_get_different_names(tmp_path: Path) -> None:
    """dandi distinguishes them by their object_id."""
    for number in range(2):
        recording(tmp_path / str(number) / "x.nwb", [f"{number}.avi"])
        run("-d", tmp_path / "ds", tmp_path / str(number))
    (first, second) = names(tmp_path / "ds")
    assert (first, "_obj-" in second) == ("sub-mouse0/sub-mouse0_image.nwb", True)


def test_reconverted_recording_is_refused(tmp_path: Path) -> None:
    """With new object_ids, it is not recognized. It neither gets a name of its own nor replaces the first."""
    root = tmp_path / "ds"
    path = recording(tmp_path / "raw" / "x.nwb", ["a.avi"])
    run("-d", root, path)
    with h5py.File(path, "r+") as file:
        new_ids(file)
    before = state(tmp_path)
    message = run("-d", root, path, code=1).stderr
    assert "a different NWB file, whose object_id is" in message
    assert "replace" not in message
    assert "move that away" in message
    assert state(tmp_path) == before
    (name,) = names(root)
    shutil.move(root / name, tmp_path / "away.nwb")
    run("-d", root, path)
    assert names(root) == [name]


def test_name_taken_by_another_session(tmp_path: Path) -> None:
    """The name is taken by an unreadable file, whose session may be another one."""
    root = tmp_path / "ds"
    path = recording(tmp_path / "raw" / "x.nwb", ["a.avi"], session="b")
    taken = root / "sub-mouse0" / "sub-mouse0_image.nwb"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"precious")
    message = run("-d", root, path, code=1).stderr
    assert "--required-field session_id" in message
    assert "replace" not in message
    run("-d", root, "--required-field", "session_id", path)
    assert names(root) == ["sub-mouse0/sub-mouse0_image.nwb", "sub-mouse0/sub-mouse0_ses-b_image.nwb"]
    assert taken.read_bytes() == b"precious"


def test_name_given_to_another_session_of_the_call(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    for day in "ab":
        recording(tmp_path / "raw" / f"{day}.nwb", [f"{day}.avi"], session=day)
    run("-d", root, tmp_path / "raw")
    for path in root.rglob("*_ses-a_*.nwb"):
        with h5py.File(path, "r+") as file:
            set_scalar(file, "general/session_id", "c")  # so that the name is wrong
    message = run("-d", root, tmp_path / "raw" / "a.nwb", code=1).stderr
    assert "whose session_id is 'c', not 'a'" in message
    assert "--existing replace" not in message


def test_symlinked_nwb_file_is_not_skipped(tmp_path: Path) -> None:
    """`dandi organize` makes such links by default. The file that the link points to must not be removed."""
    root = tmp_path / "ds"
    path = recording(tmp_path / "raw" / "x.nwb", ["a.avi"])
    place = root / "sub-mouse0" / "sub-mouse0_image.nwb"
    place.parent.mkdir(parents=True)
    place.symlink_to(path)
    before = state(tmp_path)
    for files_mode in ("copy", "move"):
        assert "is a symbolic link to" in run("-d", root, "-f", files_mode, path, code=1).stderr
        assert state(tmp_path) == before


# ---------------------------------------------------------------------- messages


def test_hint_of_skipped_file_does_not_suggest_skipping(tmp_path: Path) -> None:
    recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    recording(tmp_path / "raw" / "nobody.nwb", ["a.avi"], subject=None)
    assert "--invalid warn" in run("-d", tmp_path / "ds", tmp_path / "raw", code=1).stderr
    result = run("-d", tmp_path / "ds", "--invalid", "warn", tmp_path / "raw")
    assert "nobody.nwb cannot be named" in result.stderr
    assert "--invalid warn" not in result.stderr


@pytest.mark.parametrize("typed", [False, True])
def test_hint_for_links_to_other_files(tmp_path: Path, typed: bool) -> None:
    """The hint works. HDMF cannot copy objects that only a link of the schema refers to."""
    from helpers import new_nwbfile
    from pynwb import NWBHDF5IO

    from nwb_extfiles import NWBExtFilesHDF5IO

    pytest.importorskip("ndx_pose")  # before any file is opened, so that its types are known there
    raw = tmp_path / "raw"
    other = recording(tmp_path / "other" / "o.nwb", ["o.avi"])
    path, fixed = raw / "a.nwb", tmp_path / "fixed" / "a.nwb"
    raw.mkdir()
    fixed.parent.mkdir()
    with quiet(), NWBHDF5IO(other, "r") as source:
        series = source.read().acquisition["video"]
        nwbfile = new_nwbfile()
        if typed:
            _training_frame(nwbfile, series)
        else:
            nwbfile.add_acquisition(series)
        with NWBHDF5IO(path, "w", manager=source.manager) as io:
            io.write(nwbfile)
    message = run("-d", tmp_path / "ds", raw, code=1).stderr
    assert ("reset_parent" in message) is typed
    assert 'write_args={"link_data": False}' in message
    with quiet(), NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO(fixed, "w") as io:
        nwbfile = source.read()
        if typed:
            frames = nwbfile.processing["behavior"]["PoseTraining"].training_frames
            linked = frames["frame"].source_video
            linked.reset_parent()
            nwbfile.add_acquisition(linked)
        io.export(source, nwbfile, write_args={"link_data": False}, relocate_media=True, media_mode="copy")
    run("-d", tmp_path / "ds", fixed.parent)
    assert videos_of(tmp_path / "ds") == [digest(tmp_path / "other" / "o.avi")]


def _training_frame(nwbfile: Any, series: Any) -> None:
    pose = pytest.importorskip("ndx_pose")
    skeleton = pose.Skeleton(name="skeleton", nodes=["a", "b"], edges=np.array([[0, 1]], dtype="uint8"))
    instance = pose.SkeletonInstance(
        name="instance", id=np.uint(1), node_locations=np.zeros((2, 2)), node_visibility=[True, True], skeleton=skeleton
    )
    frame = pose.TrainingFrame(
        name="frame", annotator="a", source_video=series, source_video_frame_index=np.uint(0),
        skeleton_instances=pose.SkeletonInstances(name="skeleton_instances", skeleton_instances=[instance]),
    )  # fmt: skip
    behavior = nwbfile.create_processing_module("behavior", "b")
    behavior.add(pose.Skeletons(skeletons=[skeleton]))
    frames = pose.TrainingFrames(training_frames=[frame])
    behavior.add(pose.PoseTraining(training_frames=frames, source_videos=pose.SourceVideos(image_series=[])))


def test_same_content_keeps_its_shorter_name(tmp_path: Path) -> None:
    """A file that has a shorter name in the dandiset is not copied again under a longer one."""
    root = tmp_path / "ds"
    path = recording(tmp_path / "raw" / "x.nwb", ["a.avi"])
    run("-d", root, path)
    result = run("-d", root, "--required-field", "session_id", path)
    assert names(root) == ["sub-mouse0/sub-mouse0_image.nwb"]
    assert "keeps its name" in result.stderr


def test_existing_stays_an_error_in_the_api(tmp_path: Path) -> None:
    path = recording(tmp_path / "raw" / "x.nwb", ["a.avi"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        organize(path, tmp_path / "ds")
    correct(path)
    with pytest.raises(MediaExistsError, match='existing="replace"'):
        organize(path, tmp_path / "ds")

"""`export(relocate_media=True)`, checked by what is on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from hdmf.data_utils import DataChunkIterator
from helpers import (
    assert_resolves,
    digest,
    image_series,
    needs_symlink,
    new_nwbfile,
    play,
    stored_paths,
    tree,
    write_nwb,
)
from pynwb import NWBHDF5IO, TimeSeries

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO
from nwb_extfiles.errors import MissingMediaError

MODES = ("symlink", "hardlink", "copy", "move", "reference")


def object_id(path: Path, name: str = "acquisition/video") -> str:
    with h5py.File(path) as file:
        return str(file[name].attrs["object_id"])


def export(source: Path, target: Path, **kwargs: object) -> NWBExtFilesHDF5IO:
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, **kwargs)
    return io


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    """The NWB file of the example, with videos in a folder beside its own."""
    return write_nwb(tmp_path / "nwbfiles" / "test1_0_0.nwb", [f"../video_files/test1_{n}.avi" for n in (0, 1)])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "dandiset" / "sub-mouse0" / "sub-mouse0_ses-sessionid0_image.nwb"


def test_example_of_the_readme(source: Path, target: Path, videos: list[Path]) -> None:
    """The names and stored paths of the README exactly, and videos that play."""
    before = tree(source.parent.parent)
    export(source, target, relocate_media=True, media_mode="copy")

    stem, uuid = target.stem, object_id(source)
    names = [f"{stem}/{uuid}_external_file_{index}.avi" for index in (0, 1)]
    assert stored_paths(target) == names
    assert set(tree(target.parent)) == {target.name, stem, *names}
    assert_resolves(target, videos[:2])
    assert all(play(target.parent / name) == 10 for name in names)
    after = tree(source.parent.parent)
    assert {name: after[name] for name in before} == before


def test_source_with_videos_that_are_kept_is_not_said_to_lose_them(source: Path, target: Path) -> None:
    """Another NWB file needs the videos, so a move leaves them, and the source may stay."""
    shutil.copy(source, source.with_name("other.nwb"))
    before = tree(source.parent.parent)
    with pytest.warns(ExternalFilesWarning) as caught:
        export(source, target, relocate_media=True, media_mode="move")
    said = [str(warning.message) for warning in caught]
    assert sum("stays, because" in line for line in said) == 2
    assert not any("delete it" in line for line in said)
    after = tree(source.parent.parent)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("mode", MODES)
def test_export_in_every_mode(source: Path, target: Path, videos: list[Path], video_files: Path, mode: str) -> None:
    original = video_files / "test1_0.avi"
    inode = original.stat().st_ino
    if mode == "move":
        with pytest.warns(ExternalFilesWarning, match=r"test1_0_0\.nwb stays behind"):
            export(source, target, relocate_media=True, media_mode=mode)
    else:
        export(source, target, relocate_media=True, media_mode=mode)

    assert_resolves(target, videos[:2])
    first = target.parent / stored_paths(target)[0]
    if mode == "reference":
        assert stored_paths(target) == [f"../../video_files/test1_{n}.avi" for n in (0, 1)]
        assert not (target.parent / target.stem).exists()
        return
    assert first.parent == target.parent / target.stem
    assert first.is_symlink() == (mode == "symlink")
    assert (first.lstat().st_ino == inode) == (mode in ("hardlink", "move"))
    assert original.exists() == (mode != "move")
    if mode == "symlink":
        assert not Path(os.readlink(first)).is_absolute()
    if mode == "copy":
        assert first.stat().st_mtime_ns == original.stat().st_mtime_ns


def test_paths_are_stored_as_pynwb_stores_them(source: Path, target: Path) -> None:
    """With all attributes, although this package writes plain lists itself."""
    with h5py.File(source, "r+") as file:
        attributes = file["acquisition/video/external_file"].attrs
        attributes["owner"] = file["identifier"].ref
        attributes["note"] = "of ours"
    export(source, target, relocate_media=True)
    with h5py.File(source) as before, h5py.File(target) as after:
        old, new = before["acquisition/video/external_file"], after["acquisition/video/external_file"]
        assert new.id.get_type() == old.id.get_type()
        assert (new.shape, new.maxshape, new.chunks) == (old.shape, old.maxshape, None)
        settings = new.id.get_create_plist()
        assert settings.get_obj_track_times() == old.id.get_create_plist().get_obj_track_times()
        assert settings.get_layout() == h5py.h5d.CONTIGUOUS
        assert set(new.attrs) == set(old.attrs) >= {"starting_frame", "owner", "note"}
        assert new.attrs["starting_frame"].tolist() == old.attrs["starting_frame"].tolist()
        assert new.attrs["note"] == "of ours"
        assert after[new.attrs["owner"]].name == "/identifier"


@needs_symlink
def test_symlink_is_the_default(source: Path, target: Path) -> None:
    export(source, target, relocate_media=True)
    assert (target.parent / stored_paths(target)[0]).is_symlink()


@pytest.mark.parametrize("mode", MODES)
def test_second_export_changes_nothing(source: Path, target: Path, videos: list[Path], mode: str) -> None:
    """An export of the result to another folder and back changes nothing."""
    if mode == "move":
        pytest.skip("the videos are gone from where the source says")
    export(source, target, relocate_media=True, media_mode=mode)
    once = tree(target.parent)
    export(source, target, relocate_media=True, media_mode=mode)
    twice = tree(target.parent)
    assert {name for name in once if name != target.name} == {name for name in twice if name != target.name}
    assert {k: v for k, v in once.items() if k != target.name} == {k: v for k, v in twice.items() if k != target.name}
    assert_resolves(target, videos[:2])


def test_relocation_is_recorded_after_close(source: Path, target: Path) -> None:
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode="copy")
        assert io.relocation is None
        assert not target.exists()
    assert io.relocation is not None
    assert [entry.new_path for entry in io.relocation.relocations] == stored_paths(target)
    assert io.relocation.mode == "copy"
    assert io.relocation.media_bytes == sum(
        digest_size for digest_size in ((target.parent / stored).stat().st_size for stored in stored_paths(target))
    )


def test_relocation_is_recorded_when_warnings_are_errors(source: Path, target: Path, video_files: Path) -> None:
    """A warning at the end comes when everything is in place, so nothing is rolled back."""
    with NWBHDF5IO(source, "r") as src_io:
        io = NWBExtFilesHDF5IO(target, "w")
        with pytest.warns(ExternalFilesWarning, match="stays behind"):
            io.export(src_io=src_io, relocate_media=True, media_mode="move")
        video, changed = video_files / "test1_0.avi", b"another video"
        video.write_bytes(changed)
        with pytest.raises(ExternalFilesWarning, match="changed since it was read"):
            io.close()
    assert video.read_bytes() == changed
    assert io.relocation is not None
    assert [entry.new_path for entry in io.relocation.relocations] == stored_paths(target)


def test_second_plain_export_is_unaffected(source: Path, tmp_path: Path) -> None:
    """A relocating export does not change the builders of the source."""
    with NWBHDF5IO(source, "r") as src_io:
        with NWBExtFilesHDF5IO(tmp_path / "elsewhere" / "a.nwb", "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="copy")
        with NWBHDF5IO(tmp_path / "plain.nwb", "w") as io:
            io.export(src_io=src_io)
    assert stored_paths(tmp_path / "plain.nwb") == stored_paths(source)
    assert digest(source) == digest(source)


# ------------------------------------------------------------ copied while the NWB file is written


def test_messages_name_both_nwb_files(source: Path, target: Path, videos: list[Path], video_files: Path) -> None:
    """The path to the missing video is in the source file, not in the new one."""
    (video_files / "test1_1.avi").unlink()
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        nwbfile = src_io.read()
        nwbfile.add_acquisition(image_series(["nowhere.avi"], name="new"))
        with pytest.raises(MissingMediaError) as caught:
            io.export(src_io=src_io, nwbfile=nwbfile, relocate_media=True)
    message = str(caught.value)
    assert f"{target} (from {source}): ImageSeries '/acquisition/video', external_file[1]: no file" in message
    assert f"{target}: ImageSeries '/acquisition/new', external_file[0]: no file" in message  # it stands in none


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """An NWB file with a video so large that a thread copies it."""
    video = tmp_path / "videos" / "large.avi"
    video.parent.mkdir()
    with open(video, "wb") as stream:
        stream.write(b"RIFF")
        stream.truncate(40 * 1024 * 1024)
    return write_nwb(tmp_path / "large.nwb", ["videos/large.avi"])


def test_large_video(tmp_path: Path, large: Path) -> None:
    target = tmp_path / "out" / "b.nwb"
    told: list[tuple[int, int]] = []
    with NWBHDF5IO(large, "r") as source, NWBExtFilesHDF5IO(target, "w") as io:
        options = dict(progress=lambda done, total: told.append((done, total)))
        io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=options)
    assert_resolves(target, [large.parent / "videos" / "large.avi"])
    assert told[-1] == (40 * 1024 * 1024, 40 * 1024 * 1024)


def test_failing_large_video(tmp_path: Path, large: Path) -> None:
    """The error of the thread reaches the caller, and nothing is left behind."""

    def progress(done: int, total: int) -> None:
        raise RuntimeError("the disk is gone")

    before = tree(tmp_path)
    with NWBHDF5IO(large, "r") as source, pytest.raises(RuntimeError, match="the disk is gone"):
        with NWBExtFilesHDF5IO(tmp_path / "out" / "b.nwb", "w") as io:
            io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=dict(progress=progress))
    assert tree(tmp_path) == before


def test_failing_nwb_file_with_large_video(tmp_path: Path, large: Path) -> None:
    def broken() -> Iterator[float]:
        yield 0.0
        raise ValueError("the recording is damaged")

    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([large.parent / "videos" / "large.avi"]))
    nwbfile.add_acquisition(TimeSeries(name="z", data=DataChunkIterator(broken(), buffer_size=1), unit="V", rate=1.0))
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="the recording is damaged"):
        with NWBExtFilesHDF5IO(tmp_path / "out" / "b.nwb", "w") as io:
            io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert tree(tmp_path) == before

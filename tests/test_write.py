"""`write`: containers made in memory, and files that exist (modes r+ and a)."""

from __future__ import annotations

import inspect
import shutil
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdmf.utils import get_docval
from helpers import (
    assert_resolves,
    contents,
    digest,
    image_series,
    new_nwbfile,
    set_paths,
    stored_paths,
    tree,
    write_nwb,
)
from pynwb import NWBHDF5IO, H5DataIO, get_manager
from pynwb.base import ExternalImage, Images

from nwb_extfiles import ExternalFilesWarning, MediaOptions, NWBExtFilesHDF5IO
from nwb_extfiles.errors import AmbiguousMediaError, MissingMediaError, RelocationRefusedError


@pytest.mark.parametrize("kind", [str, Path, np.str_, "array"])
def test_new_containers(tmp_path: Path, video_files: Path, videos: list[Path], kind: object) -> None:
    paths = [video_files / "test1_0.avi", video_files / "test1_1.avi"]
    values = np.array([str(path) for path in paths]) if kind == "array" else [kind(path) for path in paths]  # type: ignore[operator]
    nwbfile = new_nwbfile()
    series = image_series(["x", "y"])
    series.fields["external_file"] = values
    nwbfile.add_acquisition(series)
    with NWBExtFilesHDF5IO(tmp_path / "ds" / "a.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_resolves(tmp_path / "ds" / "a.nwb", videos[:2])
    assert series.external_file is values


@pytest.mark.parametrize("own_manager", [True, False])
def test_relative_to_the_destination_first(
    tmp_path: Path, videos: list[Path], own_manager: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "video.avi").write_bytes(videos[0].read_bytes())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["video.avi"]))
    manager = None if own_manager else get_manager()
    with NWBExtFilesHDF5IO(tmp_path / "ds" / "a.nwb", "w", manager=manager) as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_resolves(tmp_path / "ds" / "a.nwb", videos[:1])


@pytest.mark.parametrize("own_manager", [True, False])
def test_two_matching_files_are_ambiguous(
    tmp_path: Path, videos: list[Path], own_manager: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, video in zip(("ds", "work"), videos, strict=False):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "video.avi").write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path / "work")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["video.avi"]))
    manager = None if own_manager else get_manager()
    with (
        pytest.raises(AmbiguousMediaError, match="2 different files"),
        NWBExtFilesHDF5IO(tmp_path / "ds" / "a.nwb", "w", manager=manager) as io,
    ):
        io.write(nwbfile, relocate_media=True)
    assert not (tmp_path / "ds" / "a.nwb").exists()


def test_second_write_in_one_session(tmp_path: Path, video_files: Path, videos: list[Path]) -> None:
    target = tmp_path / "ds" / "a.nwb"
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")], "first"))
    with NWBExtFilesHDF5IO(target, "w", relocate_media=True, media_mode="copy") as io:
        io.write(nwbfile)
        nwbfile.add_acquisition(image_series([str(video_files / "test1_1.avi")], "second"))
        io.write(nwbfile)
    assert_resolves(target, videos[:1], "acquisition/first/external_file")
    assert_resolves(target, videos[1:2], "acquisition/second/external_file")
    assert io.relocation is not None
    assert len(io.relocation.relocations) == 2


def test_nothing_written_creates_nothing(tmp_path: Path) -> None:
    NWBExtFilesHDF5IO(tmp_path / "sub" / "a.nwb", "w").close()
    assert tree(tmp_path) == {}


def test_exception_in_with_body_keeps_old_file(tmp_path: Path, video_files: Path) -> None:
    target = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    before = tree(tmp_path)
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    with pytest.raises(KeyboardInterrupt), NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
        raise KeyboardInterrupt
    assert tree(tmp_path) == before


def test_interrupt_while_copying_keeps_old_file(tmp_path: Path, video_files: Path) -> None:
    target = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    before = tree(tmp_path)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    with pytest.raises(KeyboardInterrupt), NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options={"progress": interrupt})
    assert tree(tmp_path) == before


def test_progress_in_numbers(tmp_path: Path, video_files: Path) -> None:
    told: list[tuple[int, int]] = []
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / f"test1_{n}.avi") for n in (0, 1)]))
    with NWBExtFilesHDF5IO(tmp_path / "ds" / "a.nwb", "w") as io:
        io.write(
            nwbfile,
            relocate_media=True,
            media_mode="copy",
            media_options=MediaOptions(progress=lambda done, total: told.append((done, total))),
        )
    total = sum((video_files / f"test1_{n}.avi").stat().st_size for n in (0, 1))
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_progress_as_a_bar(tmp_path: Path, video_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    with NWBExtFilesHDF5IO(tmp_path / "ds" / "a.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options={"progress": True})
    assert "media: 100%" in capsys.readouterr().err


# ------------------------------------------------------------ files that exist


@pytest.fixture
def existing(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "ds" / "a.nwb", ["../video_files/test1_0.avi", "../video_files/test1_1.avi"])


@pytest.mark.parametrize("mode", ["r+", "a"])
@pytest.mark.parametrize("media_mode", ["symlink", "hardlink", "copy", "move"])
def test_relocate_in_place(existing: Path, videos: list[Path], mode: str, media_mode: str) -> None:
    before = contents(existing)
    with NWBExtFilesHDF5IO(existing, mode) as io:
        io.write(io.read(), relocate_media=True, media_mode=media_mode)
        assert io.relocation is None
    assert io.relocation is not None
    assert_resolves(existing, videos[:2])
    assert all(stored.startswith("a/") for stored in stored_paths(existing))
    after = contents(existing)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {"acquisition/video/external_file"}
    assert not [name for name in tree(existing.parent) if name.startswith(".")]


def test_second_relocation_in_place_changes_nothing(existing: Path, videos: list[Path]) -> None:
    for _ in range(2):
        with NWBExtFilesHDF5IO(existing, "r+") as io:
            io.write(io.read(), relocate_media=True, media_mode="move")
        result = tree(existing.parent / "a")
    assert_resolves(existing, videos[:2])
    assert len(result) == 2


@pytest.mark.parametrize(
    "storage",
    [
        dict(values=[b"../video_files/test1_0.avi", b"../video_files/test1_1.avi"]),
        dict(values=["../video_files/test1_0.avi", "../video_files/test1_1.avi"], dtype=h5py.string_dtype("ascii")),
        dict(
            values=["../video_files/test1_0.avi", "../video_files/test1_1.avi"],
            dtype=h5py.string_dtype(),
            chunks=(1,),
            maxshape=(None,),
            compression="gzip",
        ),
    ],
    ids=["fixed", "ascii", "chunked"],
)
def test_string_storage_is_kept_in_place(existing: Path, videos: list[Path], storage: dict[str, object]) -> None:
    set_paths(existing, "acquisition/video/external_file", **storage)
    with NWBExtFilesHDF5IO(existing, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert_resolves(existing, videos[:2])
    with h5py.File(existing) as file:
        dataset = file["acquisition/video/external_file"]
        assert list(dataset.attrs["starting_frame"]) == [0, 10]
        if "chunks" in storage:
            assert (dataset.chunks, dataset.maxshape, dataset.compression) == ((1,), (None,), "gzip")
    with NWBHDF5IO(existing, "r") as io:
        assert len(io.read().acquisition["video"].external_file) == 2


def test_old_and_new_series_in_one_write(existing: Path, video_files: Path, videos: list[Path]) -> None:
    with NWBExtFilesHDF5IO(existing, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_resolves(existing, videos[:2])
    assert_resolves(existing, videos[2:3], "acquisition/new/external_file")


def test_append_leaves_old_paths_unchanged(existing: Path, video_files: Path) -> None:
    """By default, existing paths stay, and new paths that would be broken are refused."""
    paths = stored_paths(existing)
    with NWBExtFilesHDF5IO(existing, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
        io.write(nwbfile)
    assert stored_paths(existing) == paths
    assert stored_paths(existing, "acquisition/new/external_file") == [str(video_files / "test2_0.avi")]


def test_missing_media_in_place(existing: Path, video_files: Path) -> None:
    (video_files / "test1_0.avi").unlink()
    before = tree(existing.parent.parent)
    with pytest.raises(MissingMediaError), NWBExtFilesHDF5IO(existing, "r+") as io:
        io.write(io.read(), relocate_media=True)
    assert tree(existing.parent.parent) == before


def test_fixed_length_image_path_cannot_grow_in_place(tmp_path: Path, videos: list[Path]) -> None:
    target = tmp_path / "a.nwb"
    nwbfile = new_nwbfile()
    (tmp_path / "p.png").write_bytes(b"image")
    image = ExternalImage(name="image", data="p.png", image_format="PNG")
    nwbfile.add_acquisition(Images(name="images", images=[image], description="of mice"))
    with NWBHDF5IO(target, "w") as io:
        io.write(nwbfile)
    set_paths(target, "acquisition/images/image", np.bytes_(b"p.png"))
    before = digest(target)
    with (
        pytest.raises(RelocationRefusedError, match="export to a new file"),
        NWBExtFilesHDF5IO(target, "r+") as io,
    ):
        io.write(io.read(), relocate_media=True)
    assert digest(target) == before


# -------------------------------------------------- several calls, other ways


def test_verbatim_write_then_relocated(tmp_path: Path, video_files: Path, videos: list[Path]) -> None:
    """In one session with a new file, a second call relocates what the first one wrote verbatim."""
    target = tmp_path / "ds" / "a.nwb"
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")], "first"))
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=False)
        nwbfile.add_acquisition(image_series([str(video_files / "test1_1.avi")], "second"))
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    for name, video in (("first", videos[0]), ("second", videos[1])):
        assert_resolves(target, [video], f"acquisition/{name}/external_file")
        assert stored_paths(target, f"acquisition/{name}/external_file")[0].startswith("a/")


def test_two_writes_to_existing_file_in_one_session(existing: Path, video_files: Path, videos: list[Path]) -> None:
    with NWBExtFilesHDF5IO(existing, "r+", relocate_media=True, media_mode="copy") as io:
        nwbfile = io.read()
        io.write(nwbfile)
        nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
        io.write(nwbfile)
    assert_resolves(existing, videos[:2])
    assert_resolves(existing, videos[2:3], "acquisition/new/external_file")
    assert io.relocation is not None
    assert len(io.relocation.relocations) == 3


def test_open_h5py_file_is_accepted(existing: Path, videos: list[Path]) -> None:
    with h5py.File(existing, "r+") as file, NWBExtFilesHDF5IO(file=file, mode="r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert_resolves(existing, videos[:2])


def test_file_in_memory_cannot_relocate(existing: Path, video_files: Path) -> None:
    before = tree(existing.parent.parent)
    content = BytesIO(existing.read_bytes())
    with (
        h5py.File(content, "r+") as file,
        pytest.raises(RelocationRefusedError, match="no place beside it"),
        NWBExtFilesHDF5IO(file=file, mode="r+") as io,
    ):
        io.write(io.read(), relocate_media=True)
    assert tree(existing.parent.parent) == before


def test_links_to_path_dataset_of_another_file_are_not_followed(existing: Path, videos: list[Path]) -> None:
    """In place, a dataset replaces the link. The other file is unchanged."""
    other = existing.with_name("other.nwb")
    existing.rename(other)
    shutil.copy(other, existing)
    with h5py.File(existing, "r+") as file:
        del file["acquisition/video/external_file"]
        file["acquisition/video/external_file"] = h5py.ExternalLink("other.nwb", "/acquisition/video/external_file")
    before = digest(other)
    with NWBExtFilesHDF5IO(existing, "r+") as io:
        builder = io.read_builder()
        io.write_builder(builder)
    with h5py.File(existing) as file:
        assert isinstance(file["acquisition/video"].get("external_file", getlink=True), h5py.ExternalLink)
    assert digest(other) == before
    with NWBExtFilesHDF5IO(existing, "r+", relocate_media=True, media_mode="copy") as io:
        io.write_builder(io.read_builder())
    assert_resolves(existing, videos[:2])
    with h5py.File(existing) as file:
        assert isinstance(file["acquisition/video"].get("external_file", getlink=True), h5py.HardLink)
    assert digest(other) == before


def test_storage_settings_of_new_paths_are_kept(tmp_path: Path, video_files: Path, videos: list[Path]) -> None:
    nwbfile = new_nwbfile()
    series = image_series(["x"])
    series.fields["external_file"] = H5DataIO([str(video_files / "test1_0.avi")], maxshape=(None,), chunks=(1,))
    nwbfile.add_acquisition(series)
    target = tmp_path / "ds" / "a.nwb"
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_resolves(target, videos[:1])
    with h5py.File(target) as file:
        dataset = file["acquisition/video/external_file"]
        assert (dataset.maxshape, dataset.chunks) == ((None,), (1,))


def test_after_failed_call_further_calls_are_refused(
    tmp_path: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    before = tree(tmp_path)
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    io = NWBExtFilesHDF5IO(target, "w")
    with monkeypatch.context() as patch:
        patch.setattr(NWBHDF5IO, "set_attributes", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            io.write(nwbfile, relocate_media=True, media_mode="copy")
    with pytest.raises(RelocationRefusedError, match="failed halfway"):
        io.write(nwbfile, relocate_media=False)
    with pytest.warns(ExternalFilesWarning, match="was not written"):
        io.close()
    assert tree(tmp_path) == before


def test_unclosed_io_reports_staged_file(tmp_path: Path) -> None:
    io = NWBExtFilesHDF5IO(tmp_path / "a.nwb", "w")
    io.write(new_nwbfile())
    with pytest.warns(ExternalFilesWarning, match="was never closed"):
        io.__del__()
    io.close()
    assert (tmp_path / "a.nwb").exists()


# ------------------------------------------------------------- what editors show

OURS = "relocate_media: bool | None = None, media_mode: {} | None = None, media_options: {} | None = None"


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("__init__", "(self, path=None, mode='r', load_namespaces=True,", ", resolve_media: bool = False)"),
        ("write", "(self, container, cache_spec=True,", ")"),
        ("export", "(self, src_io, nwbfile=None, write_args=None,", ")"),
        ("export_io", "(path, src_io, comm=None, container=None,", ")"),
    ],
)
def test_signatures_show_arguments_of_pynwb_and_ours(name: str, first: str, last: str) -> None:
    method = getattr(NWBExtFilesHDF5IO, name)
    shown = str(inspect.signature(method))
    options = "nwb_extfiles.options.MediaOptions | collections.abc.Mapping[str, typing.Any]"
    assert shown.startswith(first)
    mode = "nwb_extfiles.options.MediaMode | str"
    modes = f"{mode} | collections.abc.Sequence[{mode}]"
    assert shown.endswith(OURS.format(modes, options) + last)
    theirs = [argument["name"] for argument in get_docval(getattr(NWBHDF5IO, name))]
    assert [argument for argument in inspect.signature(method).parameters if argument in theirs] == theirs
    with pytest.raises(TypeError, match=rf"NWBExtFilesHDF5IO\.{name}: .*unrecognized argument: 'relocate_medium'"):
        method(*[None] * (name != "export_io"), relocate_medium=True)

"""Object mappers: stored paths that remember their folder, and paths that can be opened."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest
from helpers import digest, image_series, new_nwbfile, play, stored_paths, write_nwb
from pynwb import NWBHDF5IO, get_manager, get_type_map
from pynwb.base import ExternalImage, Images
from pynwb.image import ImageSeries

from nwb_extfiles import NWBExtFilesHDF5IO, register_media_mappers
from nwb_extfiles.io.mappers import ResolvedMediaPath


@pytest.fixture
def relocated(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(
        tmp_path / "nwbfiles" / "a.nwb", ["../video_files/test1_0.avi", "https://example.org/b.avi", "gone.avi"]
    )


def test_resolved_paths_open_anywhere(relocated: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(relocated.parent)
    with NWBExtFilesHDF5IO("a.nwb", "r", resolve_media=True) as io:
        monkeypatch.chdir("/")
        paths = io.read().acquisition["video"].external_file
    assert digest(Path(paths[0])) == digest(video_files / "test1_0.avi")
    assert play(Path(paths[0])) == 10
    assert Path(paths[0]).is_absolute()
    assert paths[1] == "https://example.org/b.avi"
    assert paths[2] == str(relocated.parent / "gone.avi")
    with pytest.raises(FileNotFoundError):
        open(paths[2], "rb").close()


def test_search_and_path_map_on_reading(tmp_path: Path, video_files: Path) -> None:
    source = write_nwb(tmp_path / "far" / "a.nwb", [r"D:\videos\test1_0.avi", "test1_1.avi"])
    options = {"search": video_files, "path_map": {r"D:\videos": str(video_files)}}
    with NWBExtFilesHDF5IO(source, "r", resolve_media=True, media_options=options) as io:
        paths = io.read().acquisition["video"].external_file
    assert list(paths) == [str(video_files / "test1_0.avi"), str(video_files / "test1_1.avi")]


def test_paths_are_as_stored_by_default(relocated: Path) -> None:
    with NWBExtFilesHDF5IO(relocated, "r") as io:
        assert list(io.read().acquisition["video"].external_file) == stored_paths(relocated)


@pytest.mark.parametrize("modified", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_resolved_paths_are_written_as_they_were_stored(
    relocated: Path, tmp_path: Path, modified: bool, plain: bool
) -> None:
    target = tmp_path / "other" / "b.nwb"
    target.parent.mkdir()
    with NWBExtFilesHDF5IO(relocated, "r", resolve_media=True) as src_io:
        nwbfile = src_io.read()
        if modified:
            nwbfile.acquisition["video"].set_modified()
        with (NWBHDF5IO if plain else NWBExtFilesHDF5IO)(target, "w") as io:
            io.export(src_io=src_io, nwbfile=nwbfile)
    assert stored_paths(target) == stored_paths(relocated)


def test_external_images_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"image")
    nwbfile = new_nwbfile()
    image = ExternalImage(name="image", data="p.png", image_format="PNG")
    nwbfile.add_acquisition(Images(name="images", images=[image], description="of mice"))
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    with NWBExtFilesHDF5IO(tmp_path / "a.nwb", "r", resolve_media=True) as io:
        assert io.read().acquisition["images"]["image"].data == str(tmp_path / "p.png")


def test_built_paths_remember_their_file(tmp_path: Path) -> None:
    """Also Path objects. The container is not changed."""
    type_map = get_type_map()
    register_media_mappers(type_map)
    from hdmf.build import BuildManager

    manager = BuildManager(type_map)
    series = image_series([Path("a.avi"), "b.avi"])
    builder = manager.build(series, source=str(tmp_path / "x.nwb"))
    paths = builder["external_file"].data
    assert list(paths) == ["a.avi", "b.avi"]
    assert {stored.base for stored in paths} == {str(tmp_path)}
    assert series.external_file == [Path("a.avi"), "b.avi"]


def test_other_ios_are_not_changed(relocated: Path) -> None:
    with NWBExtFilesHDF5IO(relocated, "r", resolve_media=True) as io:
        io.read()
    type_map = get_type_map()
    assert not hasattr(type(type_map.get_map(image_series(["a.avi"]))), "media_parent")
    with NWBHDF5IO(relocated, "r") as io:
        assert list(io.read().acquisition["video"].external_file) == stored_paths(relocated)


def test_registering_twice_resolves_once(relocated: Path) -> None:
    type_map = get_type_map()
    register_media_mappers(type_map, resolve_media=True)
    register_media_mappers(type_map)
    mapper = type_map.get_map(image_series(["a.avi"]))
    assert isinstance(mapper, ImageSeries.__mro__[0]) is False
    assert type(mapper).media_parent.__name__ == "ImageSeriesMap"
    assert not hasattr(mapper, "read_external_file")


def test_custom_manager_is_not_changed(relocated: Path) -> None:
    with pytest.raises(ValueError, match="register_media_mappers"):
        NWBExtFilesHDF5IO(relocated, "r", manager=get_manager(), resolve_media=True)


def test_resolved_path_is_a_str() -> None:
    path = ResolvedMediaPath("/x/a.avi", "/y/b.nwb", "../x/a.avi")
    for other in (copy.copy(path), copy.deepcopy(path), pickle.loads(pickle.dumps(path))):
        assert (other, other.stored, other.base) == ("/x/a.avi", "../x/a.avi", os.path.dirname("/y/b.nwb"))

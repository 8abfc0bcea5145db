"""Videos get their original names back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import pytest
from helpers import digest, image_series, new_nwbfile, stored_paths, tree
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO, organize
from nwb_extfiles.nwb.manifest import MANIFEST_PATH
from nwb_extfiles.tasks.restoring import restore


@pytest.fixture
def downloaded(tmp_path: Path, video_files: Path) -> Path:
    """A downloaded NWB file with its media: two series, one with two videos of the same original name."""
    (tmp_path / "more").mkdir()
    shutil.copy(video_files / "test2_0.avi", tmp_path / "more" / "test1_0.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([video_files / "test1_1.avi", "https://example.org/a.avi"], "top"))
    nwbfile.add_acquisition(image_series([video_files / "test1_0.avi", tmp_path / "more" / "test1_0.avi"], "side"))
    with NWBExtFilesHDF5IO(tmp_path / "out" / "a.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=dict(manifest=True))
    shutil.move(tmp_path / "out", tmp_path / "downloaded")
    return tmp_path / "downloaded" / "a.nwb"


def test_original_names_are_restored(tmp_path: Path, downloaded: Path, video_files: Path) -> None:
    before = tree(downloaded.parent)
    plan = restore(downloaded, tmp_path / "mine")
    target = tmp_path / "mine" / "a.nwb"
    assert plan.nwb_path == target
    assert stored_paths(target, "acquisition/top/external_file") == ["test1_1.avi", "https://example.org/a.avi"]
    first, second = stored_paths(target, "acquisition/side/external_file")
    assert {Path(first).name, Path(second).name} == {"test1_0.avi"}
    assert digest(target.parent / first) == digest(video_files / "test1_0.avi")
    assert digest(target.parent / second) == digest(video_files / "test2_0.avi")
    assert tree(downloaded.parent) == before
    with NWBHDF5IO(target) as io:
        frame = io.read().lab_meta_data["external_files"].manifest.to_dataframe()
    assert sorted(frame.path) == sorted([first, second, "test1_1.avi"])
    assert sorted(frame.original_name) == ["test1_0.avi", "test1_0.avi", "test1_1.avi"]


def test_relocate_then_restore_round_trip(tmp_path: Path, downloaded: Path) -> None:
    """Organized again, the file is the same as the downloaded one, except for times."""
    restore(downloaded, tmp_path / "mine", "auto")
    with pytest.warns(ExternalFilesWarning, match="refuses NWB files with URLs"):
        organize(tmp_path / "mine" / "a.nwb", tmp_path / "dandiset", media_mode="copy")
    (again,) = (tmp_path / "dandiset").rglob("*.nwb")
    names = {path.name: digest(path) for path in again.with_suffix("").iterdir()}
    assert names == {path.name: digest(path) for path in downloaded.with_suffix("").iterdir()}


def test_no_suffix_warning_for_original_names(tmp_path: Path, video_files: Path) -> None:
    """Nothing is uploaded under these names, so there is no warning."""
    for name in ("a.AVI", "b.h264"):
        shutil.copy(video_files / "test1_0.avi", tmp_path / name)
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(tmp_path / "a.AVI"), str(tmp_path / "b.h264")]))
    with NWBExtFilesHDF5IO(tmp_path / "other" / "a.nwb", "w") as io, pytest.warns(ExternalFilesWarning, match="h264"):
        io.write(nwbfile, relocate_media=True, media_options=dict(manifest=True))
    plan = restore(tmp_path / "other" / "a.nwb", tmp_path / "mine")
    assert plan.warnings == ()
    assert stored_paths(tmp_path / "mine" / "a.nwb") == ["a.AVI", "b.h264"]


ODD_NAMES = {
    "a video\u202fof the screen\xa0.avi": "a video\u202fof the screen\xa0.avi",  # as on macOS
    "two\nlines.avi": "two\ufffdlines.avi",
    "C:\\videos\\a.avi": "C\ufffd\ufffdvideos\ufffda.avi",  # unpacked from an archive made on Windows
}


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no such names")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_unusual_original_names(tmp_path: Path, video_files: Path, name: str) -> None:
    """Every name in the manifest can be restored."""
    video = Path(shutil.copy(video_files / "test1_0.avi", tmp_path / name))
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video)]))
    with NWBExtFilesHDF5IO(tmp_path / "a\xa0name" / "a\xa0b.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=dict(manifest=True))
    restore(tmp_path / "a\xa0name" / "a\xa0b.nwb", tmp_path / "mine")
    assert stored_paths(tmp_path / "mine" / "a\xa0b.nwb") == [ODD_NAMES[name]]
    assert digest(tmp_path / "mine" / ODD_NAMES[name]) == digest(video)


def test_store_path_with_trailing_slash(tmp_path: Path, downloaded: Path, video_files: Path) -> None:
    pytest.importorskip("hdmf_zarr")
    from nwb_extfiles import NWBExtFilesZarrIO

    store = tmp_path / "stores" / "a.nwb.zarr"
    with NWBHDF5IO(downloaded) as source, NWBExtFilesZarrIO(store, "w") as io:
        io.export(src_io=source, write_args={"link_data": False}, relocate_media=True, media_mode="copy")
    before = tree(store.parent)
    plan = restore(f"{store}/", tmp_path / "mine")
    assert plan.nwb_path == tmp_path / "mine" / "a.nwb.zarr"
    assert digest(tmp_path / "mine" / "test1_1.avi") == digest(video_files / "test1_1.avi")
    assert tree(store.parent) == before


def test_dry_run_and_refusals(tmp_path: Path, downloaded: Path, video_files: Path) -> None:
    before = tree(tmp_path)
    plan = restore(downloaded, tmp_path / "mine", dry_run=True)
    assert len(plan.relocations) == 4
    with pytest.raises(FileExistsError, match="exists"):
        restore(downloaded, downloaded.parent)
    with pytest.raises(ValueError, match="media folder"):
        restore(downloaded, downloaded.with_suffix(""))
    assert tree(tmp_path) == before
    with h5py.File(downloaded, "r+") as file:
        names = file[MANIFEST_PATH]["original_name"]
        names[0] = "../../evil.avi"
    with pytest.raises(ValueError, match="is not a file name"):
        restore(downloaded, tmp_path / "mine")
    with h5py.File(downloaded, "r+") as file:
        del file["general/external_files"]
    with pytest.raises(ValueError, match="no manifest"):
        restore(downloaded, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def recorded(folder: Path, names: list[str], video_files: Path) -> Path:
    """Make an NWB file with a video of each name."""
    nwbfile = new_nwbfile()
    for number, name in enumerate(names):
        video = folder / "in" / name
        video.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video_files / f"test1_{number}.avi", video)
        nwbfile.add_acquisition(image_series([video], f"video{number}"))
    target = folder / "out" / "a.nwb"
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=dict(manifest=True))
    return target


@pytest.mark.skipif(os.name == "nt", reason="Windows takes a colon for something else")
def test_times_in_names(tmp_path: Path, video_files: Path) -> None:
    restore(recorded(tmp_path, ["2024-01-01 12:30:05.avi"], video_files), tmp_path / "mine")
    assert (tmp_path / "mine" / "2024-01-01 12:30:05.avi").is_file()


@pytest.mark.filterwarnings("ignore:.*DANDI does not accept")
def test_video_with_the_name_of_the_nwb_file(tmp_path: Path, video_files: Path) -> None:
    restore(recorded(tmp_path, ["A.nwb", "acquisition_video0"], video_files), tmp_path / "mine")
    names = {
        path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*") if path.is_file()
    }
    assert names == {"a.nwb", "acquisition_video0_/external_file_0/A.nwb", "acquisition_video0"}


def test_videos_behind_urls(tmp_path: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloaded videos get the names in their URLs."""
    from nwb_extfiles.web.remote import RemoteFile

    monkeypatch.setattr(
        "nwb_extfiles.plans.downloads.ask_all", lambda urls, **_: {url: RemoteFile(url=url, size=1) for url in urls}
    )
    nwbfile = new_nwbfile()
    urls = [f"https://example.org/{name}" for name in ("one/a%20video.avi", "two/a%20video.avi", "b.avi", "?id=3")]
    nwbfile.add_acquisition(image_series([video_files / "test1_0.avi", *urls], "top"))
    with NWBExtFilesHDF5IO(tmp_path / "out" / "a.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_options=dict(manifest=True))
        object_id = nwbfile.acquisition["top"].object_id
    plan = restore(tmp_path / "out" / "a.nwb", tmp_path / "mine", media_options=dict(urls="download"), dry_run=True)
    assert [entry.new_path for entry in plan.relocations] == [
        "test1_0.avi",
        "acquisition_top/external_file_1/a video.avi",
        "acquisition_top/external_file_2/a video.avi",
        "b.avi",
        f"{object_id}_external_file_4",
    ]


def test_move_is_refused(tmp_path: Path, downloaded: Path) -> None:
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="keeps its media"):
        restore(downloaded, tmp_path / "mine", "move")
    assert tree(tmp_path) == before

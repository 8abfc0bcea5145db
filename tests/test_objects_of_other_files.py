"""Objects of another NWB file, or of an earlier NWBFile: HDMF would write unreadable links."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from hdmf_zarr import NWBZarrIO
from helpers import digest, image_series, make_file, new_nwbfile, tree
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries

from nwb_extfiles import NWBExtFilesHDF5IO, NWBExtFilesZarrIO
from nwb_extfiles.errors import RelocationRefusedError

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

RELOCATING = (
    {},
    {"relocate_media": False},
    {"relocate_media": True, "media_mode": "move"},
)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Make two NWB files, each with a camera and its video."""
    for letter in "ab":
        folder = tmp_path / letter
        folder.mkdir()
        make_file(folder / "video.avi", 5000)
        nwbfile = new_nwbfile(identifier=letter)
        device = nwbfile.create_device(name=f"device_{letter}")
        nwbfile.add_acquisition(image_series(["video.avi"], name=f"camera_{letter}", device=device))
        nwbfile.create_electrode_group(name=f"group_{letter}", description="g", location="CA1", device=device)
        nwbfile.create_processing_module(f"module_{letter}", "results").add(
            BehavioralTimeSeries(time_series=TimeSeries(name="t", data=[1.0], unit="V", rate=1.0))
        )
        with NWBHDF5IO(folder / "x.nwb", "w") as io:
            io.write(nwbfile)
    return tmp_path


def add_series(nwbfile: NWBFile, other: NWBFile) -> None:
    nwbfile.add_acquisition(other.acquisition["camera_b"])


def add_device(nwbfile: NWBFile, other: NWBFile) -> None:
    nwbfile.add_device(other.devices["device_b"])


def add_module(nwbfile: NWBFile, other: NWBFile) -> None:
    nwbfile.add_processing_module(other.processing["module_b"])


def add_series_without_its_device(nwbfile: NWBFile, other: NWBFile) -> None:
    series = other.acquisition["camera_b"]
    series.reset_parent()
    nwbfile.add_acquisition(series)


@pytest.mark.parametrize("relocating", RELOCATING)
@pytest.mark.parametrize("kind", ["hdf5", "hdf5-copied", "zarr"])
@pytest.mark.parametrize(
    "add",
    [add_series, add_device, add_module, add_series_without_its_device],
    ids=lambda add: add.__name__,
)
def test_export_refuses_objects_of_another_file(
    add: Any, kind: str, relocating: dict[str, Any], recordings: Path
) -> None:
    io_class = NWBExtFilesZarrIO if kind == "zarr" else NWBExtFilesHDF5IO
    target = recordings / "out" / ("m.nwb.zarr" if kind == "zarr" else "m.nwb")
    before = tree(recordings)
    with NWBHDF5IO(recordings / "a/x.nwb", "r") as source, NWBHDF5IO(recordings / "b/x.nwb", "r") as other:
        merged = source.read()
        add(merged, other.read())
        with (
            pytest.raises(RelocationRefusedError, match=r"belongs to another NWB file.*reset_parent\(\)") as caught,
            io_class(target, "w") as io,
        ):
            io.export(src_io=source, nwbfile=merged, write_args={"link_data": kind == "hdf5"}, **relocating)
    assert re.search("camera_b|device_b|module_b", str(caught.value))
    assert tree(recordings) == before


def test_export_io_refuses_objects_of_another_file(recordings: Path) -> None:
    target = recordings / "m.nwb"
    shutil.copy(recordings / "a/x.nwb", target)
    before = tree(recordings)
    with NWBHDF5IO(recordings / "a/x.nwb", "r") as source, NWBHDF5IO(recordings / "b/x.nwb", "r") as other:
        merged = source.read()
        add_series(merged, other.read())
        with pytest.raises(RelocationRefusedError, match="camera_b"):
            NWBExtFilesHDF5IO.export_io(
                path=str(target), src_io=source, container=merged, relocate_media=True, media_mode="copy"
            )
    assert tree(recordings) == before


@pytest.mark.parametrize(("io_class", "name"), [(NWBExtFilesHDF5IO, "m.nwb"), (NWBExtFilesZarrIO, "m.nwb.zarr")])
@pytest.mark.parametrize("relocating", RELOCATING)
def test_hint_gives_readable_file(io_class: Any, name: str, relocating: dict[str, Any], recordings: Path) -> None:
    """Call reset_parent() on all objects that the message names, and add each where it belongs."""
    target = recordings / "a" / name
    videos = {letter: digest(recordings / letter / "video.avi") for letter in "ab"}
    if not relocating:
        shutil.copy(recordings / "b/video.avi", recordings / "a/b.avi")
    with NWBHDF5IO(recordings / "a/x.nwb", "r") as source, NWBHDF5IO(recordings / "b/x.nwb", "r") as other:
        merged, series = source.read(), other.read().acquisition["camera_b"]
        device = series.device
        series.reset_parent()
        device.reset_parent()
        merged.add_device(device)
        merged.add_acquisition(series)
        if not relocating:
            relocating = {"relocate_media": False}
        with io_class(target, "w") as io:
            io.export(src_io=source, nwbfile=merged, write_args={"link_data": False}, **relocating)
    with (NWBZarrIO if name.endswith("zarr") else NWBHDF5IO)(str(target), "r") as io:
        nwbfile = io.read()
        assert nwbfile.acquisition["camera_b"].device is nwbfile.devices["device_b"]
        paths = {letter: nwbfile.acquisition[f"camera_{letter}"].external_file[0] for letter in "ab"}
    if relocating.get("relocate_media"):
        assert {letter: digest(target.parent / path) for letter, path in paths.items()} == videos


@pytest.mark.parametrize(("io_class", "name"), [(NWBExtFilesHDF5IO, "m.nwb"), (NWBExtFilesZarrIO, "m.nwb.zarr")])
@pytest.mark.parametrize("relocating", RELOCATING)
def test_notebook_cell_run_twice(io_class: Any, name: str, relocating: dict[str, Any], tmp_path: Path) -> None:
    """The series still belongs to the NWBFile of the first run. The file of that run is unchanged."""
    make_file(tmp_path / "video.avi", 5000)
    series = image_series([str(tmp_path / "video.avi")])
    first, target = new_nwbfile(), tmp_path / name
    first.add_acquisition(series)
    with io_class(target, "w") as io:
        io.write(first)
    before = tree(tmp_path)
    second = new_nwbfile(identifier="second")
    second.add_acquisition(series)
    with (
        pytest.raises(RelocationRefusedError, match=r"'video'.*earlier NWBFile.*reset_parent\(\)"),
        io_class(target, "w") as io,
    ):
        io.write(second, **relocating)
    assert tree(tmp_path) == before

    series.reset_parent()
    second = new_nwbfile(identifier="second")
    second.add_acquisition(series)
    with io_class(target, "w") as io:
        io.write(second)
    with (NWBZarrIO if name.endswith("zarr") else NWBHDF5IO)(str(target), "r") as io:
        nwbfile = io.read()
        assert nwbfile.identifier == "second"
        assert nwbfile.acquisition["video"].external_file[0] == str(tmp_path / "video.avi")


@pytest.mark.parametrize("mode", ["r+", "a"])
def test_append_object_of_earlier_nwbfile_is_refused(mode: str, recordings: Path) -> None:
    series = image_series(["video.avi"], name="camera_c")
    earlier = new_nwbfile()
    earlier.add_acquisition(series)
    before = tree(recordings)
    with NWBExtFilesHDF5IO(recordings / "a/x.nwb", mode) as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(series)
        with pytest.raises(RelocationRefusedError, match="camera_c"):
            io.write(nwbfile, relocate_media=True, media_mode="move")
    assert {key: value for key, value in tree(recordings).items() if key != "a/x.nwb"} == {
        key: value for key, value in before.items() if key != "a/x.nwb"
    }
    with NWBHDF5IO(recordings / "a/x.nwb", "r") as io:
        assert set(io.read().acquisition) == {"camera_a"}
    series.reset_parent()
    with NWBExtFilesHDF5IO(recordings / "a/x.nwb", mode) as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(series)
        io.write(nwbfile)
    with NWBHDF5IO(recordings / "a/x.nwb", "r") as io:
        assert set(io.read().acquisition) == {"camera_a", "camera_c"}


@pytest.mark.parametrize("relocating", RELOCATING)
@pytest.mark.parametrize("has_its_like", [False, True])
def test_references_to_objects_of_another_file_are_refused(
    has_its_like: bool, relocating: dict[str, Any], recordings: Path
) -> None:
    """HDMF would write a reference to whatever has the same path in the new file."""
    before = tree(recordings)
    with NWBHDF5IO(recordings / "b/x.nwb", "r") as other:
        nwbfile = new_nwbfile()
        if has_its_like:
            device = nwbfile.create_device(name="d")
            nwbfile.create_electrode_group(name="group_b", description="another", location="CA3", device=device)
        nwbfile.add_electrode(group=other.read().electrode_groups["group_b"], location="CA1")
        with (
            pytest.raises(RelocationRefusedError, match=r"ElectrodeGroup 'group_b'.*reset_parent\(\)"),
            NWBExtFilesHDF5IO(recordings / "out.nwb", "w", manager=other.manager) as io,
        ):
            io.write(nwbfile, **relocating)
    assert tree(recordings) == before


def test_links_to_other_files_are_allowed(recordings: Path) -> None:
    with NWBHDF5IO(recordings / "b/x.nwb", "r") as other:
        nwbfile = new_nwbfile()
        nwbfile.add_acquisition(other.read().acquisition["camera_b"])
        with NWBExtFilesHDF5IO(recordings / "out.nwb", "w", manager=other.manager) as io:
            io.write(nwbfile)
    with h5py.File(recordings / "out.nwb", "r") as file:
        link = file["acquisition"].get("camera_b", getlink=True)
        assert (link.filename, link.path) == ("b/x.nwb", "/acquisition/camera_b")
    with NWBHDF5IO(recordings / "out.nwb", "r") as io:
        assert io.read().acquisition["camera_b"].device.name == "device_b"


def test_one_object_in_two_places_is_a_link(tmp_path: Path) -> None:
    """Links inside one NWB file stay allowed."""
    nwbfile = new_nwbfile()
    series = image_series(["a.avi"])
    nwbfile.add_acquisition(series)
    nwbfile.create_processing_module("behavior", "b").add(series)
    with NWBExtFilesHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile, relocate_media=False)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        nwbfile = io.read()
        assert nwbfile.processing["behavior"]["video"] is nwbfile.acquisition["video"]

"""Media of objects behind links to another NWB file are listed and reported."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner
from hdmf_zarr import NWBZarrIO
from helpers import digest, image_series, make_file, new_nwbfile, tree
from makers import quiet
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO, NWBExtFilesZarrIO, check, resolve_external_files
from nwb_extfiles.cli import main
from nwb_extfiles.errors import ExternalFilesError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning:(hdmf|pynwb|hdmf_zarr|zarr)"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def write_raw(folder: Path, io_class: Any = NWBHDF5IO, name: str = "raw.nwb", *, device: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    make_file(folder / "video.avi", 5000)
    nwbfile = new_nwbfile()
    camera = nwbfile.create_device(name="camera") if device else None
    nwbfile.add_acquisition(image_series(["video.avi"], device=camera))
    with io_class(str(folder / name), "w") as io:
        io.write(nwbfile)
    return folder / name


def link_to(raw: Path, target: Path, io_class: Any = NWBHDF5IO) -> Path:
    """Make an NWB file whose series is a link to one of another NWB file."""
    target.parent.mkdir(exist_ok=True)
    with io_class(str(raw), "r") as source:
        nwbfile = new_nwbfile()
        nwbfile.add_acquisition(source.read().acquisition["video"])
        with io_class(str(target), "w", manager=source.manager) as io:
            io.write(nwbfile)
    return target


@pytest.fixture(params=["hdf5", "zarr"])
def linking(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """The raw NWB file, and the processed one that links to it."""
    if request.param == "hdf5":
        raw = write_raw(tmp_path / "raw")
        return raw, link_to(raw, tmp_path / "processed" / "p.nwb")
    raw = write_raw(tmp_path / "raw", NWBZarrIO, "raw.nwb.zarr")
    return raw, link_to(raw, tmp_path / "processed" / "p.nwb.zarr", NWBZarrIO)


def findings(path: Path) -> dict[str, Any]:
    return {finding.code: finding for finding in check(path)}


def test_linked_media_are_listed_with_paths_of_other_file(linking: tuple[Path, Path]) -> None:
    raw, processed = linking
    (found,) = resolve_external_files(processed)
    assert found.reference.nwb_path == str(raw)
    assert (found.reference.object_path, found.reference.stored_path) == ("/acquisition/video", "video.avi")
    assert found.location == str(raw.parent / "video.avi")
    listed = json.loads(CliRunner().invoke(main, ["ls", "--json", str(processed)]).output)
    assert [entry["nwb_path"] for entry in listed] == [str(raw)]


def test_check_names_linked_media(linking: tuple[Path, Path]) -> None:
    raw, processed = linking
    found = findings(processed)
    assert set(found) == {"linked-media"}
    assert found["linked-media"].severity == "info"
    assert found["linked-media"].object_path == "/acquisition/video"
    assert str(raw) in found["linked-media"].message
    (raw.parent / "video.avi").unlink()
    found = findings(processed)
    assert set(found) == {"linked-media-missing"}
    assert found["linked-media-missing"].severity == "error"
    assert "'video.avi'" in found["linked-media-missing"].message
    assert set(findings(raw)) == {"missing"}  # as the message says


def test_link_to_missing_file_is_reported(linking: tuple[Path, Path]) -> None:
    raw, processed = linking
    raw.rename(raw.parent / "renamed")
    found = findings(processed)
    assert set(found) == {"dangling-link"}
    assert found["dangling-link"].severity == "error"
    assert str(raw) in found["dangling-link"].message
    problems: list[ExternalFilesError] = []
    assert resolve_external_files(processed, problems=problems) == []
    assert [problem.object_path for problem in problems] == ["/acquisition/video"]
    result = CliRunner().invoke(main, ["ls", str(processed)])
    assert result.exit_code == 1
    (raw.parent / "renamed").rename(raw)  # the hint
    assert set(findings(processed)) == {"linked-media"}


def test_link_to_missing_object_is_reported(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    processed = link_to(raw, tmp_path / "p.nwb")
    with h5py.File(raw, "r+") as file:
        file.move("acquisition/video", "acquisition/other")
    assert "'/acquisition/video'" in findings(processed)["dangling-link"].message


def test_circular_links_end(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    processed = link_to(raw, tmp_path / "p.nwb")
    with h5py.File(raw, "r+") as file:
        file["acquisition/back"] = h5py.ExternalLink("../p.nwb", "/acquisition")
    with h5py.File(processed, "r+") as file:
        file["analysis/all"] = h5py.ExternalLink("raw/raw.nwb", "/")
        file["analysis/self"] = h5py.ExternalLink("p.nwb", "/analysis/self")
    assert [found.reference.nwb_path for found in resolve_external_files(processed)] == [str(raw)]
    codes = [finding.code for finding in check(processed)]
    assert set(codes) <= {"linked-media", "dangling-link"}


def test_link_to_link_reaches_file_with_media(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    first = link_to(raw, tmp_path / "first.nwb")
    second = shutil.copy(first, tmp_path / "second.nwb")
    with h5py.File(second, "r+") as file:
        del file["acquisition/video"]
        file["acquisition/video"] = h5py.ExternalLink("first.nwb", "/acquisition/video")
    assert [found.reference.nwb_path for found in resolve_external_files(second)] == [str(raw)]
    assert set(findings(second)) == {"linked-media"}


def test_absolute_link_is_also_searched_beside_file(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    processed = link_to(raw, tmp_path / "raw" / "p.nwb")
    with h5py.File(processed, "r+") as file:
        del file["acquisition/video"]
        file["acquisition/video"] = h5py.ExternalLink("/gone/raw.nwb", "/acquisition/video")
    with h5py.File(processed, "r") as file:
        assert "external_file" in file["acquisition/video"]
    assert [found.reference.nwb_path for found in resolve_external_files(processed)] == [str(raw)]


def test_link_to_pipe_does_not_block(tmp_path: Path) -> None:
    processed = write_raw(tmp_path / "raw")
    os.mkfifo(tmp_path / "raw" / "pipe.nwb")
    with h5py.File(processed, "r+") as file:
        file["acquisition/other"] = h5py.ExternalLink("pipe.nwb", "/acquisition/video")
    assert "not a regular file" in findings(processed)["dangling-link"].message


def test_export_warns_of_linked_media_left_behind(linking: tuple[Path, Path], tmp_path: Path) -> None:
    raw, processed = linking
    hdf5 = processed.suffix == ".nwb"
    io_class = NWBExtFilesHDF5IO if hdf5 else NWBExtFilesZarrIO
    target = tmp_path / "out" / processed.name
    before = tree(raw.parent)
    with io_class(str(processed), "r") as source, io_class(target, "w") as io, pytest.warns() as caught:
        io.export(src_io=source, relocate_media=True, media_mode="move")
    (told,) = (
        str(one.message)
        for one in caught
        if issubclass(one.category, ExternalFilesWarning) and "stays a link" in str(one.message)
    )
    assert str(raw) in told
    assert "'/acquisition/video'" in told
    assert "'video.avi'" in told
    assert tree(raw.parent) == before
    assert "write_args={'link_data': False}" in told

    copied = tmp_path / "copied" / processed.name  # as the message says
    with quiet(), io_class(str(processed), "r") as source, io_class(copied, "w") as io:
        io.export(src_io=source, write_args={"link_data": False}, relocate_media=True, media_mode="copy")
    (found,) = resolve_external_files(copied)
    assert found.reference.nwb_path == str(copied)
    assert found.location is not None
    assert digest(Path(found.location)) == digest(raw.parent / "video.avi")


def test_no_hint_where_hdmf_cannot_copy(tmp_path: Path) -> None:
    """The series has a link to its device, which HDMF cannot copy from another file."""
    raw = write_raw(tmp_path / "raw", device=True)
    processed = link_to(raw, tmp_path / "p.nwb")
    with (
        pytest.warns(ExternalFilesWarning) as caught,
        NWBHDF5IO(processed, "r") as source,
        NWBExtFilesHDF5IO(tmp_path / "out.nwb", "w") as io,
    ):
        io.export(src_io=source, relocate_media=True, media_mode="copy")
    assert any("stays a link" in str(one.message) for one in caught)
    assert not any("link_data" in str(one.message) for one in caught)

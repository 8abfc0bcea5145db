"""Paths that were set in containers, in any kind of sequence, are written or refused, never silently ignored."""

from __future__ import annotations

import shutil
from collections import UserList, deque
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from helpers import assert_resolves, digest, image_series, make_file, new_nwbfile, stored_paths, tree, write_nwb
from pynwb import NWBHDF5IO
from pynwb.image import ImageSeries

from nwb_extfiles import NWBExtFilesHDF5IO, relocate, resolve_external_files
from nwb_extfiles.errors import RelocationRefusedError

RELOCATING = ({}, {"relocate_media": False}, {"relocate_media": True, "media_mode": "copy"})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("old", "new"):
        make_file(tmp_path / f"{name}.avi", 5000)
    return write_nwb(tmp_path / "a.nwb", ["old.avi"])


# ------------------------------------------------- changed, but not marked as modified


@pytest.mark.parametrize("relocating", RELOCATING)
@pytest.mark.parametrize("resolving", [False, True])
def test_export_of_changed_series_leaves_old_video(source: Path, resolving: bool, relocating: dict[str, Any]) -> None:
    target, before = source.parent / "b.nwb", tree(source.parent)
    with NWBExtFilesHDF5IO(source, "r", resolve_media=resolving) as src_io:
        nwbfile = src_io.read()
        series = nwbfile.acquisition["video"]
        series.fields["external_file"] = ["new.avi"]
        with (
            pytest.raises(RelocationRefusedError, match=r"'new.avi'.*'old.avi'.*set_modified\(\)"),
            NWBExtFilesHDF5IO(target, "w") as io,
        ):
            io.export(src_io=src_io, nwbfile=nwbfile, **relocating)
        assert tree(source.parent) == before
        series.set_modified()
        with NWBExtFilesHDF5IO(target, "w") as io:
            io.export(src_io=src_io, nwbfile=nwbfile, **relocating)
    assert_resolves(target, [source.parent / "new.avi"])


@pytest.mark.parametrize("resolving", [False, True])
def test_unchanged_containers_are_exported(source: Path, resolving: bool) -> None:
    target = source.parent / "b.nwb"
    with NWBExtFilesHDF5IO(source, "r", resolve_media=resolving) as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        nwbfile = src_io.read()
        nwbfile.add_acquisition(image_series(["new.avi"], name="another"))
        io.export(src_io=src_io, nwbfile=nwbfile)
    assert_resolves(target, [source.parent / "old.avi"])


@pytest.mark.parametrize("relocating", RELOCATING)
@pytest.mark.parametrize("modified", [False, True])
def test_in_place_hint_is_to_export(source: Path, modified: bool, relocating: dict[str, Any]) -> None:
    target, before = source.parent / "b.nwb", digest(source)
    with NWBExtFilesHDF5IO(source, "r+") as io:
        nwbfile = io.read()
        series = nwbfile.acquisition["video"]
        series.fields["external_file"] = ["new.avi"]
        if modified:
            series.set_modified()
        with pytest.raises(RelocationRefusedError, match=r"set_modified\(\).*export to a new file"):
            io.write(nwbfile, **relocating)
        series.set_modified()
        with NWBExtFilesHDF5IO(target, "w") as new:
            new.export(src_io=io, nwbfile=nwbfile, **relocating)
    assert digest(source) == before
    assert not source.with_suffix("").exists()
    assert_resolves(target, [source.parent / "new.avi"])


# ------------------------------------------------------------------- kinds of sequences

SEQUENCES = {
    "tuple": tuple,
    "deque": deque,
    "UserList": UserList,
    "numpy": np.array,
    "numpy of objects": lambda stored: np.array(stored, dtype=object),
    "pandas column": pd.Series,
    "pandas column with an index of words": lambda stored: pd.Series(stored, index=["x", "y"]),
    "pandas column with an index that is turned": lambda stored: pd.Series(stored[::-1], index=[1, 0])[::-1],
    "pandas column of strings": lambda stored: pd.Series(stored, dtype="string"),
    "pandas index": pd.Index,
    "pandas array": lambda stored: pd.array(stored, dtype="string"),
}


def write_with(io_class: Any, path: Path, external_file: Any, **relocating: Any) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(
        ImageSeries(
            name="video", description="d", external_file=external_file, format="external", rate=25.0, num_samples=50,
            starting_frame=[0, 25],
        )
    )  # fmt: skip
    with io_class(path, "w") as io:
        io.write(nwbfile, **relocating)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_any_sequence_type_pynwb_accepts(kind: str, source: Path) -> None:
    folder, stored = source.parent, ["old.avi", "new.avi"]
    make = SEQUENCES[kind]
    try:
        write_with(NWBHDF5IO, folder / "plain.nwb", make(stored))
    except (TypeError, ValueError) as refused:  # by pynwb
        with pytest.raises(type(refused)):
            write_with(NWBExtFilesHDF5IO, folder / "b.nwb", make(stored))
        return
    assert stored_paths(folder / "plain.nwb") == stored
    for number, relocating in enumerate(RELOCATING):
        target = folder / f"b{number}.nwb"
        write_with(NWBExtFilesHDF5IO, target, make(stored), **relocating)
        assert_resolves(target, [folder / path for path in stored])


# ----------------------------------------------------- attributes as MatNWB and MIES store them


@pytest.fixture
def of_matnwb(source: Path) -> Path:
    path = Path(shutil.copy(source, source.parent / "matlab.nwb"))

    def as_array(_: str, item: Any) -> None:
        for name in ("neurodata_type", "namespace", "object_id"):
            if name in item.attrs:
                value = item.attrs[name]
                del item.attrs[name]
                item.attrs.create(name, [value], dtype=h5py.string_dtype())

    with h5py.File(path, "r+") as file:
        file.visititems(as_array)
        as_array("/", file)
    return path


@pytest.mark.parametrize("src_class", [NWBHDF5IO, NWBExtFilesHDF5IO])
def test_attributes_of_one_element_are_exported_with_their_media(src_class: Any, source: Path, of_matnwb: Path) -> None:
    target = source.parent / "out" / "b.nwb"
    with src_class(of_matnwb, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode="copy")
    assert_resolves(target, [source.parent / "old.avi"])
    with h5py.File(source, "r") as file:
        object_id = file["acquisition/video"].attrs["object_id"]
    assert stored_paths(target) == [f"b/{object_id}_external_file_0.avi"]
    (resolved,) = resolve_external_files(target)
    assert resolved.reference.object_id == object_id


def test_changed_path_that_would_break_is_refused(source: Path, of_matnwb: Path) -> None:
    with NWBHDF5IO(of_matnwb, "r") as src_io, pytest.raises(RelocationRefusedError, match="would not be found"):
        with NWBExtFilesHDF5IO(source.parent / "far" / "away" / "b.nwb", "w") as io:
            io.export(src_io=src_io)


def test_attributes_of_one_element_in_place(source: Path, of_matnwb: Path) -> None:
    relocate(of_matnwb, "copy", media_options={"manifest": True})
    assert_resolves(of_matnwb, [source.parent / "old.avi"])
    (found,) = resolve_external_files(of_matnwb)
    assert found.reference.stored_path == f"matlab/{found.reference.object_id}_external_file_0.avi"


# ----------------------------------------------------------------------- files in Python


@pytest.mark.parametrize("absolute", [False, True])
def test_an_h5py_file_on_an_open_python_file(source: Path, absolute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    target = source.parent / "out" / "b.nwb"
    with (
        open(source if absolute else source.name, "rb") as stream,
        h5py.File(stream, "r") as file,
        NWBHDF5IO(file=file, mode="r") as src_io,
        NWBExtFilesHDF5IO(target, "w") as io,
    ):
        assert [entry.location for entry in resolve_external_files(file)] == [str(source.parent / "old.avi")]
        io.export(src_io=src_io, relocate_media=True, media_mode="copy")
    assert_resolves(target, [source.parent / "old.avi"])

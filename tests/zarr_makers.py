"""Make NWB files in Zarr stores, and check them with zarr, JSON and hashes alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import zarr
from hdmf_zarr import NWBZarrIO
from helpers import digest, image_series, new_nwbfile
from pynwb import NWBHDF5IO

from nwb_extfiles import NWBExtFilesHDF5IO, NWBExtFilesZarrIO
from nwb_extfiles.nwb.files import open_nwb
from nwb_extfiles.nwb.references import ExternalFileReference
from nwb_extfiles.nwb.scan import find_in_file

DATASET = "acquisition/video/external_file"
UNLINKED = {"link_data": False}
"""hdmf-zarr needs this to export from HDF5."""


def paths_in(store: Path, dataset: str = DATASET) -> list[str]:
    """The paths in a store, which its files and its consolidated metadata must agree on."""
    plain = zarr.open_group(str(store), mode="r")[dataset]
    if (store / ".zmetadata").exists():
        assert_consolidated(store)
        assert zarr.open_consolidated(str(store))[dataset][()].tolist() == plain[()].tolist()
    return [str(path) for path in plain[()].ravel().tolist()]


def assert_consolidated(store: Path) -> None:
    """`.zmetadata` says exactly what the metadata files of the store say."""
    known = json.loads((store / ".zmetadata").read_bytes())["metadata"]
    files = [path for name in (".zgroup", ".zarray", ".zattrs") for path in store.rglob(name)]
    assert known == {path.relative_to(store).as_posix(): json.loads(path.read_bytes()) for path in files}


def assert_leads_to(store: Path, expected: list[Path], dataset: str = DATASET) -> None:
    paths = paths_in(store, dataset)
    assert len(paths) == len(expected)
    for stored, video in zip(paths, expected, strict=True):
        assert digest(store.parent / stored) == digest(video), stored


def nothing_left(folder: Path) -> bool:
    return not list(folder.rglob(".nwb-extfiles-*"))


def references(path: Path) -> list[ExternalFileReference]:
    """The references that the package finds in a file or a store, without pynwb."""
    with open_nwb(path) as file:
        return find_in_file(file)


def without_path(found: list[ExternalFileReference]) -> list[ExternalFileReference]:
    return [replace(reference, nwb_path="") for reference in found]


def write_store(path: Path, paths: Any, io_class: type = NWBZarrIO, **kwargs: Any) -> Path:
    nwbfile = new_nwbfile()
    series = image_series(["x"])
    series.fields["external_file"] = paths
    nwbfile.add_acquisition(series)
    path.parent.mkdir(exist_ok=True)
    with io_class(str(path), "w") as io:
        io.write(nwbfile, **kwargs)
    return path


def open_source(path: Path) -> Any:
    return NWBZarrIO(str(path), "r") if path.is_dir() else NWBHDF5IO(path, "r")


def export(source: Path, target: Path, **kwargs: Any) -> Any:
    io_class = NWBExtFilesZarrIO if target.suffix == ".zarr" else NWBExtFilesHDF5IO
    if source.is_dir() != (target.suffix == ".zarr"):
        kwargs.setdefault("write_args", UNLINKED)
    with open_source(source) as src_io, io_class(target, "w") as io:
        io.export(src_io=src_io, **kwargs)
    return io


def h5_object_id(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file["acquisition/video"].attrs["object_id"])

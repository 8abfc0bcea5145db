"""Modalities from the schema that a file caches, compared with the installed dandi and pynwb."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from dandi.pynwb_utils import get_neurodata_types_to_modalities_map
from recordings import recording

from nwb_extfiles.tasks.organize.modalities import known_modalities, modalities_of, modality_by_type

ABSTRACT = {"MultiContainerInterface", "NWBMixin"}  # classes of pynwb that are no neurodata types


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording(tmp_path_factory.mktemp("raw") / "a.nwb", ["a.avi"])


def test_modalities_from_schema_agree_with_dandi(path: Path) -> None:
    """For every type in the schema of the installed pynwb."""
    expected = {
        name: module for name, module in get_neurodata_types_to_modalities_map().items() if name not in ABSTRACT
    }
    with h5py.File(path) as file:
        assert modality_by_type(file) == expected


def test_modalities_of_published_types_agree_with_dandi(path: Path) -> None:
    """Also where the file has another schema under the same version, or none: dandi goes by pynwb."""
    dandis = get_neurodata_types_to_modalities_map()
    with h5py.File(path) as file:
        (parts,) = file["specifications/core"].values()
        defined = {name for source in parts for name in _defined_in(parts[source][()])}
        defined |= {"DynamicTable", "VectorData", "VectorIndex", "DynamicTableRegion", "ElementIdentifiers"}
    with h5py.File("bare.h5", "w", driver="core", backing_store=False) as bare:
        known = {name for name in defined if known_modalities(bare, [name])}
        for name in known:
            assert modalities_of([name], known_modalities(bare, [name])) == modalities_of([name], dandis), name
        assert known >= {"ImageSeries", "Units", "ElectricalSeries", "Subject", "Device"}
        assert known_modalities(bare, ["ImageSeries", "TailSeries"]) == {}


def _defined_in(schema: bytes) -> Iterator[str]:
    spec = json.loads(schema)
    for entry in [*spec.get("groups", ()), *spec.get("datasets", ())]:
        if "neurodata_type_def" in entry:
            yield entry["neurodata_type_def"]


def test_modalities_from_schema_in_store(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("hdmf_zarr")
    from zarr_makers import write_store

    from nwb_extfiles.nwb.files import open_nwb

    with h5py.File(path) as file, open_nwb(write_store(tmp_path / "stores" / "a.nwb.zarr", ["a.avi"])) as root:
        assert modality_by_type(root) == modality_by_type(file) != {}


def test_several_schema_versions(path: Path, tmp_path: Path) -> None:
    made = shutil.copy(path, tmp_path / "a.nwb")
    with h5py.File(made, "r+") as file:
        group = file["specifications/core"]
        group.create_group("1.2.3")["nwb.odd"] = '{"groups": [{"neurodata_type_def": "LFP"}]}'
        known = modality_by_type(file)
        assert known["LFP"] == "ecephys"
        file.attrs["nwb_version"] = "9.9"
        assert modality_by_type(file) == {}
        file.attrs["nwb_version"] = "1.2.3"
        assert modality_by_type(file) == {}


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"groups": [{"neurodata_type_def": 7}]}', '{"groups": 3}'])
def test_malformed_schemas(path: Path, tmp_path: Path, text: str) -> None:
    made = shutil.copy(path, tmp_path / "a.nwb")
    with h5py.File(made, "r+") as file:
        (group,) = file["specifications/core"].values()
        group["nwb.ecephys"][()] = text
        assert modality_by_type(file)["ImageSeries"] == "image"
        assert "LFP" not in modality_by_type(file)
        del file["specifications"], file.attrs[".specloc"]
        assert modality_by_type(file) == {}


def test_modalities_of_types(path: Path) -> None:
    with h5py.File(path) as file:
        known = modality_by_type(file)
    types = ["Units", "ImageSeries (3)", "Device", "VideoSeries", "LFP", "TimeIntervals", "ImagingRetinotopy"]
    assert modalities_of(types, known) == ("ecephys", "image")
    assert modalities_of("Position,ImageSeries (2)", known) == ("behavior", "image")
    assert modalities_of([], known) == ()
    assert modalities_of(["LFP"], {}) == ()

"""Names of NWB files in a dandiset, compared with dandi's own."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from dandi.metadata.nwb import get_metadata
from dandi.organize import create_unique_filenames_from_metadata, filter_invalid_metadata_rows
from dandi.pynwb_utils import get_neurodata_types, get_neurodata_types_to_modalities_map
from helpers import taking_at_most
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import new_ids, recording, set_scalar

from nwb_extfiles.errors import RelocationRefusedError
from nwb_extfiles.tasks.organize.layout import (
    MODALITIES,
    dandi_paths,
    external_links,
    layout_metadata,
    missing_metadata,
)
from nwb_extfiles.tasks.organize.modalities import modalities_of


def ours(path: Path) -> dict[str, Any] | None:
    """The metadata that make the name. None if the file cannot be named."""
    with warnings.catch_warnings(), h5py.File(path, "r") as file:
        warnings.simplefilter("ignore")
        try:
            found = layout_metadata(file, path)
        except Exception:
            return None
        return None if missing_metadata(found) else found


def theirs(path: Path) -> dict[str, Any] | None:
    """The same, as `dandi organize` does it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = {**get_metadata(path), "path": str(path)}
        except Exception:
            return None
    return found if filter_invalid_metadata_rows([found])[0] else None


def assert_same_names(paths: list[Path], **options: Any) -> list[str]:
    """The names must be those that dandi gives. Files that it cannot name are left out."""
    mine, its = [ours(path) for path in paths], [theirs(path) for path in paths]
    assert [found is None for found in mine] == [found is None for found in its]
    mine, its = [found for found in mine if found], [found for found in its if found]
    names = dandi_paths(mine, **options)
    assert names == [entry["dandi_path"] for entry in create_unique_filenames_from_metadata(its, **options)]
    return names


def edited(path: Path, edit: Callable[[h5py.File], object], **fields: Any) -> Path:
    recording(path, ["video.avi"], **fields)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


# ------------------------------------------------------- what is read from a file

FIELDS: dict[str, dict[str, Any]] = {
    "no session_id": dict(session=None),
    "an empty session_id": dict(session=""),
    "only a day": dict(session=None, start="2021-03-04"),
    "a day and midnight": dict(session=None, start="2021-03-04T00:00:00+01:00"),
    "a time": dict(session=None, start="2021-03-04T05:06:07.123456-08:00"),
    "nanoseconds": dict(session=None, start="2021-03-04T05:06:07.123456789+00:00"),
    "no time zone": dict(session=None, start="2021-03-04T05:06:07"),
    "a blank between day and time": dict(session=None, start="2021-03-04 05:06:07+00:00"),
    "a time in words": dict(session=None, start="4 March 2021, 5:06:07"),
    "no time at all": dict(session=None, start=None),
    "a session, but no time": dict(start=None),
    "a time that is none": dict(session=None, start="yesterday"),
    "a blank before the time zone": dict(session=None, start="2021-03-04T05:06:07 +01:00"),
    "a time zone to the second": dict(session=None, start="2021-03-04T05:06:07+01:00:30"),
    "a subject that is not UTF-8": dict(subject=b"m\xe4use"),
    "a session that is not UTF-8": dict(session=b"\xff"),
    "no subject_id": dict(subject=None),
    "an empty subject_id": dict(subject=""),
    "odd characters": dict(subject="a_b/c\\d:e*f|g'h\"i?j%k@l;m,n o.p<q>", session="../../.. \t x"),
    "letters of the world": dict(subject="Mäuschen-7", session="сессия 1"),
    "fixed length": dict(subject=np.bytes_(b"mouse"), session=np.bytes_(b"s1")),
    "a number for a subject": dict(subject=7),
    "a number for a session": dict(session=7),
    "a list for a session": dict(session=np.array([b"a", b"b"])),
    "a list of one session": dict(session=np.array([b"a"])),
    "a time of fixed length": dict(session=None, start=np.bytes_(b"2021-03-04T05:06:07+00:00")),
    "a number for a time": dict(start=20200101),
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_odd_fields_are_named_as_by_dandi(tmp_path: Path, fields: dict[str, Any]) -> None:
    odd = recording(tmp_path / "odd.nwb", ["video.avi"], **fields)
    plain = recording(tmp_path / "plain.nwb", ["video.avi"], subject="other")
    assert_same_names([odd])
    assert_same_names([odd, plain])


def _bytes_types(file: h5py.File) -> None:
    file.visititems(
        lambda _, item: (
            item.attrs.__setitem__("neurodata_type", np.bytes_(item.attrs["neurodata_type"]))
            if "neurodata_type" in item.attrs
            else None
        )
    )


def _some_bytes_types(file: h5py.File) -> None:
    file["acquisition/video"].attrs["neurodata_type"] = np.bytes_("ImageSeries")


def _probes(*ids: int) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        for number in ids:
            device = file.create_group(f"general/devices/probe{number}")
            device.attrs.update(neurodata_type="Device", namespace="core", probe_id=number, object_id=f"id{number}")

    return edit


def _icephys(file: h5py.File) -> None:
    group = file.create_group("general/DandiIcephysMetadata")
    group.attrs.update(neurodata_type="DandiIcephysMetadata", namespace="core", object_id="x")


def _soft_links(file: h5py.File) -> None:
    file["stimulus/presentation/video"] = h5py.SoftLink("/acquisition/video")


EDITS: dict[str, Callable[[h5py.File], object]] = {
    "types as bytes": _bytes_types,
    "one type as bytes": _some_bytes_types,
    "an unknown type": lambda file: file["acquisition/video"].attrs.__setitem__("neurodata_type", "VideoSeries"),
    "a probe": _probes(3),
    "icephys of dandi": _icephys,
    "soft links": _soft_links,
    "a list of types": lambda file: file["acquisition/video"].attrs.__setitem__("neurodata_type", ["LFP", "LFP"]),
    "a link to nowhere": lambda file: file.__setitem__("acquisition/lost", h5py.SoftLink("/no/where")),
    "version as bytes": lambda file: file.attrs.__setitem__("nwb_version", np.bytes_(b"2.6.0")),
    "version 1": lambda file: file.attrs.__setitem__("nwb_version", "NWB-1.0.5"),
    "version as a number": lambda file: file.attrs.__setitem__("nwb_version", 2.6),
    "no version": lambda file: file.attrs.__delitem__("nwb_version"),
    "no object_id": lambda file: file.attrs.__delitem__("object_id"),
    "no specifications": lambda file: (file.attrs.__delitem__(".specloc"), file.__delitem__("specifications")),
    "no series": lambda file: file.__delitem__("acquisition/video"),
    "no subject": lambda file: file.__delitem__("general/subject"),
    "subject_id behind a link": lambda file: (
        file.move("general/subject/subject_id", "scratch_subject"),
        file.__setitem__("general/subject/subject_id", h5py.SoftLink("/scratch_subject")),
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edited_files_are_named_as_by_dandi(tmp_path: Path, edit: Callable[[h5py.File], object]) -> None:
    odd = edited(tmp_path / "odd.nwb", edit)
    plain = recording(tmp_path / "plain.nwb", ["video.avi"], subject="other")
    if edit is EDITS["a link to nowhere"]:
        assert theirs(odd) is None  # it follows the link
        assert ours(odd) is not None
        return
    assert_same_names([odd])
    assert_same_names([odd, plain])


def test_types_at_odd_places_are_those_dandi_finds(tmp_path: Path) -> None:
    """Also where no program puts them, and where pynwb cannot read the file."""
    path = recording(tmp_path / "a.nwb", ["video.avi"])
    with h5py.File(path, "r+") as file:
        for name, neurodata_type in (("acquisition/voltage", "ElectricalSeries"), ("acquisition/voltage/in", "LFP")):
            file.create_group(name).attrs.update(neurodata_type=neurodata_type, namespace="core", object_id=name)
        file.create_group("scratch/odd").attrs["neurodata_type"] = "DfOverF"  # and no other attribute
        file["scratch/odd/again"] = file["acquisition"]
        file["scratch/table"] = np.zeros(3)
        file["scratch/table"].attrs["neurodata_type"] = "VectorData"  # no group, so no matter to dandi
    with h5py.File(path, "r") as file:
        types = layout_metadata(file, path)["nd_types"]
    assert types == sorted({found.split()[0] for found in get_neurodata_types(path)})
    assert {"LFP", "DfOverF", "ElectricalSeries", "ImageSeries", "Subject"} <= set(types)


def test_modalities(tmp_path: Path) -> None:
    """Types from several modules of pynwb, written by pynwb."""
    from helpers import image_series, new_nwbfile
    from makers import quiet
    from pynwb import NWBHDF5IO
    from pynwb.behavior import Position, SpatialSeries

    paths = []
    for number, what in enumerate(("ecephys", "icephys", "ophys", "behavior", "all")):
        nwbfile = new_nwbfile(session="s")
        device = nwbfile.create_device("device")
        if what in ("ecephys", "all"):
            nwbfile.create_electrode_group("tetrode", description="d", location="CA1", device=device)
        if what in ("icephys", "all"):
            nwbfile.create_icephys_electrode(name="electrode", description="d", device=device)
        if what in ("ophys", "all"):
            from makers import _imaging_plane

            _imaging_plane(nwbfile)
        if what in ("behavior", "all"):
            behavior = nwbfile.create_processing_module("behavior", "b")
            series = SpatialSeries(name="x", data=np.zeros((3, 2)), rate=1.0, reference_frame="corner")
            behavior.add(Position(spatial_series=series))
            behavior.add(image_series(["a.avi"], "e"))
        paths.append(tmp_path / f"{number}.nwb")
        with quiet(), NWBHDF5IO(paths[-1], "w") as io:
            io.write(nwbfile)
    for path in paths:
        assert_same_names([path])
    names = assert_same_names(paths)
    assert names[0] == "sub-mouse0/sub-mouse0_ecephys.nwb"
    assert "_behavior+" in names[4]


@pytest.mark.parametrize("what", ["extension", "pose"])
def test_extension_types(tmp_path: Path, what: str) -> None:
    from makers import run_maker

    path = tmp_path / "raw" / "odd.nwb"
    run_maker(what, path)
    assert_same_names([path])
    assert_same_names([path, recording(tmp_path / "plain.nwb", ["video.avi"])])


# --------------------------------------------------------------- files together


def test_distinguished_by_object_id(tmp_path: Path) -> None:
    paths = [recording(tmp_path / f"{number}.nwb", ["video.avi"]) for number in range(3)]
    paths += [recording(tmp_path / f"b{number}.nwb", ["video.avi"], session="b") for number in range(2)]
    paths += [recording(tmp_path / "c.nwb", ["video.avi"], session="c")]
    names = assert_same_names(paths)
    assert all("_obj-" in name for name in names[:5])
    assert "_obj-" not in names[5]


def test_distinguished_by_probes(tmp_path: Path) -> None:
    paths = [edited(tmp_path / f"{number}.nwb", _probes(number)) for number in range(2)]
    paths += [edited(tmp_path / "both.nwb", _probes(0, 1))]
    # the ids of the example are of no type that pynwb has a field for, so dandi's reader has the last word
    assert_same_names(paths)


def test_required_fields(tmp_path: Path) -> None:
    paths = [recording(tmp_path / f"{number}.nwb", ["video.avi"], subject=f"m{number}") for number in range(2)]
    assert assert_same_names(paths)[0] == "sub-m0/sub-m0_image.nwb"
    assert assert_same_names(paths, required_fields=["session_id"])[0] == "sub-m0/sub-m0_ses-sessionid0_image.nwb"
    with pytest.raises(RelocationRefusedError, match="'nonsense' cannot be required"):
        dandi_paths([], ["nonsense"])


@pytest.mark.parametrize("object_ids", [("same", "same"), ("", "x"), (None, "x")])
def test_indistinguishable_files_are_refused(tmp_path: Path, object_ids: tuple[Any, Any]) -> None:
    paths = [recording(tmp_path / f"{number}.nwb", ["video.avi"]) for number in range(2)]
    for path, object_id in zip(paths, object_ids, strict=True):
        with h5py.File(path, "r+") as file:
            del file.attrs["object_id"]
            if object_id is not None:
                file.attrs["object_id"] = object_id
    with pytest.raises(RelocationRefusedError, match="finds no different names for these NWB files"):
        dandi_paths([ours(path) for path in paths])


MODULES = get_neurodata_types_to_modalities_map()
_ids = st.sampled_from(["a", "b", "a_b", "a.b", "", None])
_times = st.sampled_from(
    [None, "2020-01-01T00:00:00+00:00", "2020-01-02T00:00:00+00:00", "2020-01-01T10:00:00+00:00",
     datetime(2020, 1, 1, 10, tzinfo=UTC)]
)  # fmt: skip
_types = st.builds(
    str.__add__,
    st.sampled_from([*sorted(MODULES), "Units", "PoseEstimation", "VideoSeries"]),
    st.sampled_from(["", " (2)"]),
)
_rows = st.fixed_dictionaries(
    {
        "subject_id": st.sampled_from(["m", "n", "m_n", "m.n"]),
        "session_id": _ids,
        "session_start_time": _times,
        "nd_types": st.one_of(
            st.sampled_from([[], ["ImageSeries"], ["ImageSeries", "ElectrodeGroup"], ["ElectrodeGroup (2)"]]),
            st.lists(_types, max_size=4),
            st.lists(_types, min_size=1, max_size=4).map(",".join),
        ),
    },
    optional={
        "tissue_sample_id": _ids,
        "slice_id": _ids,
        "cell_id": _ids,
        "probe_ids": st.sampled_from([[1], [2], [1, 2]]),
        "modalities": st.sampled_from([["image"], ["odd"]]),
    },
)
_fields = st.lists(st.sampled_from(["session_id", "cell_id", "probe_ids", "obj_id", "description"]), unique=True)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files that differ in their object_id alone, the only field that is read."""
    folder = tmp_path_factory.mktemp("places")
    paths = [folder / f"{number}.nwb" for number in range(12)]
    for path in paths:
        with h5py.File(path, "w") as file:
            new_ids(file)
    return paths


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(_rows, max_size=12), required=_fields)
def test_naming_in_batches_equals_dandi(places: list[Path], rows: list[dict[str, Any]], required: list[str]) -> None:
    rows = [{**row, "path": str(path), "nwb_version": "2.7"} for row, path in zip(rows, places, strict=False)]
    expected = [entry["dandi_path"] for entry in create_unique_filenames_from_metadata(rows, required)]
    assert dandi_paths(rows, required) == expected  # dandi itself says which modalities they have
    known = [{**row, MODALITIES: modalities_of(row["nd_types"], MODULES)} for row in rows]
    assert dandi_paths(known, required) == expected


def test_naming_is_not_quadratic(places: list[Path]) -> None:
    """dandi's own function takes a minute for these."""
    rows = [
        dict(path=str(places[number % 2]), subject_id=f"m{number // 2}", session_id="s", nd_types=[], nwb_version="2")
        for number in range(4000)
    ]
    with taking_at_most(10):
        names = dandi_paths(rows)
    assert len(set(names)) == 4000


# ---------------------------------------------------------------------- links


def test_external_links(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.nwb", ["video.avi"])
    with h5py.File(path, "r+") as file:
        assert external_links(file) == []
        file["acquisition/video/deep/deeper"] = h5py.ExternalLink("other.nwb", "/x")
        file["acquisition/ring"] = file["/"]  # a group inside itself
        assert [str(link) for link in external_links(file)] == ["/acquisition/video/deep/deeper -> other.nwb"]


def test_reading_imports_no_pynwb(tmp_path: Path) -> None:
    """What can be read without pynwb is."""
    path = recording(tmp_path / "a.nwb", ["video.avi"])
    code = (
        "import sys, h5py; from pathlib import Path; from nwb_extfiles.tasks.organize.layout import layout_metadata;"
        "path = Path(sys.argv[1]); print(layout_metadata(h5py.File(path), path)['subject_id']);"
        "print(sorted({'pynwb', 'hdmf', 'dandi'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout == "mouse0\n[]\n"


def test_naming_imports_no_pynwb(tmp_path: Path) -> None:
    """If metadata that dandi.organize knows distinguish the files, names need no pynwb, even with extension types."""
    code = (
        "import sys; from nwb_extfiles.tasks.organize.layout import dandi_paths;"
        "from nwb_extfiles.tasks.organize.layout import layout_metadata; import h5py; from pathlib import Path;"
        "rows = [layout_metadata(h5py.File(name), Path(name)) for name in sys.argv[1:]];"
        "print(dandi_paths(rows)); print(sorted({'pynwb', 'hdmf'} & set(sys.modules)))"
    )
    paths = []
    for session in "ab":
        paths.append(recording(tmp_path / f"{session}.nwb", ["a.avi"], subject="m", session=session))
        with h5py.File(paths[-1], "r+") as file:
            for neurodata_type in ("LFP", "VideoSeries"):
                file.create_group(f"scratch/{neurodata_type}").attrs["neurodata_type"] = neurodata_type
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    names = [f"sub-m/sub-m_ses-{session}_ecephys+image.nwb" for session in "ab"]
    assert run.stdout == f"{names}\n[]\n"


def test_naming_imports_only_little_of_dandi() -> None:
    """All that dandi.organize imports takes longer than many small files. Sessions without an id need some of it."""
    code = (
        "import sys; from datetime import datetime;"
        "from nwb_extfiles.tasks.organize.layout import MODALITIES, dandi_paths;"
        "row = {'path': 'a.nwb', 'subject_id': 'm.1', 'session_id': 's_1', MODALITIES: ('image',)};"
        "print(*dandi_paths([row], ['session_id']));"
        "slow = {'pynwb', 'dandi.dandiset', 'dandi.utils', 'dandischema', 'requests', 'ruamel'};"
        "print(sorted(slow & set(sys.modules)));"
        "row |= {'session_id': None, 'session_start_time': datetime(2026, 1, 2, 3, 4, 5)};"
        "print(*dandi_paths([row], ['session_id']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [f"sub-m-1/sub-m-1_ses-{session}_image.nwb" for session in ("s-1", "20260102T030405")]
    assert run.stdout.split() == [names[0], "[]", names[1]]


def test_set_scalar_helper(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        set_scalar(file, "a", "b")
        set_scalar(file, "a", None)
        assert "a" not in file

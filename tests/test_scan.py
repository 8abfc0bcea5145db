"""What is found in a file on disk, also of types that nobody knows."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import set_paths, write_nwb
from makers import Media, look, run_maker, write_everywhere

from nwb_extfiles.errors import ExternalFilesError, UnsafeReferenceError
from nwb_extfiles.nwb.references import ExternalFileReference
from nwb_extfiles.nwb.registry import media_fields
from nwb_extfiles.nwb.scan import find_in_file
from nwb_extfiles.nwb.type_tree import parents_in_file
from nwb_extfiles.nwb.walk import read_attribute

PATHS = "acquisition/video/external_file"


def by_place(found: Sequence[ExternalFileReference]) -> dict[str, list[str]]:
    """Paths by dataset, in the order in which they were found."""
    places: dict[str, list[str]] = {}
    for reference in found:
        name = reference.object_path.lstrip("/")
        is_dataset = reference.neurodata_type in ("ExternalImage", "LabelledImage")
        dataset = name if is_dataset else f"{name}/{reference.field}"
        assert reference.index == len(places.setdefault(dataset, []))
        places[dataset].append(reference.stored_path)
    return places


def found_in(path: Path, **kwargs: Any) -> list[ExternalFileReference]:
    with h5py.File(path, "r") as file:
        return find_in_file(file, **kwargs)


def forget_specifications(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["specifications"]
        del file.attrs[".specloc"]


# ------------------------------------------------------------------ find_in_file


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Media]:
    home = tmp_path_factory.mktemp("everywhere")
    media = Media(home / "media")
    return write_everywhere(home / "nwb" / "source.nwb", media), media


@pytest.mark.parametrize("cached", [True, False])
def test_every_core_type_is_found(everywhere: tuple[Path, Media], tmp_path: Path, cached: bool) -> None:
    """With the cached specifications, or without them (old files, ``cache_spec=False``)."""
    path, media = everywhere
    if not cached:
        path = Path(tmp_path, "source.nwb")
        path.write_bytes(everywhere[0].read_bytes())
        forget_specifications(path)
    found = found_in(path)
    assert by_place(found) == {
        dataset: [f"../media/{name}" for name in names] for dataset, names in media.places.items()
    }
    for reference in found:
        assert reference.nwb_path == str(path)
        assert reference.base == str(path.parent)
        dataset = reference.object_path if reference.neurodata_type == "ExternalImage" else f"{reference.object_path}/x"
        with h5py.File(path) as file:
            owner = file[dataset.removesuffix("/x")]
            assert reference.object_id == owner.attrs["object_id"]
            assert reference.neurodata_type == owner.attrs["neurodata_type"]
        assert reference.field == "external_file"
        assert not reference.repeats


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    path = tmp_path_factory.mktemp("extension") / "nwb" / "source.nwb"
    return path, run_maker("extension", path)


@pytest.fixture(scope="module")
def pose(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    path = tmp_path_factory.mktemp("pose") / "nwb" / "source.nwb"
    return path, run_maker("pose", path)


ARCHIVE = "processing/behavior/archive/video_paths"


@pytest.mark.parametrize("registered", [True, False])
def test_extension_types_are_found(extension: tuple[Path, dict[str, list[str]]], registered: bool) -> None:
    path, places = extension
    table = media_fields([("VideoArchive", "video_paths")] if registered else [])
    expected = {dataset: look(path, dataset).paths for dataset in places if registered or dataset != ARCHIVE}
    assert by_place(found_in(path, table=table)) == expected


def test_pose_estimation_videos_are_found(pose: tuple[Path, dict[str, list[str]]]) -> None:
    path, places = pose
    found = found_in(path)
    assert by_place(found) == {dataset: look(path, dataset).paths for dataset in places}
    assert {reference.field: reference.repeats for reference in found} == {
        "original_videos": True,
        "labeled_videos": True,
        "external_file": False,
    }


@pytest.mark.parametrize(
    ("values", "keywords", "paths"),
    [
        (["ä.avi", "b.avi"], dict(dtype=h5py.string_dtype()), ["ä.avi", "b.avi"]),
        (["a.avi", "b.avi"], dict(dtype=h5py.string_dtype("ascii")), ["a.avi", "b.avi"]),
        (np.array([b"a.avi", b"b.avi"]), {}, ["a.avi", "b.avi"]),
        (["a.avi", "b.avi"], dict(dtype=h5py.string_dtype(), chunks=(1,), compression="gzip"), ["a.avi", "b.avi"]),
        ("a.avi", {}, ["a.avi"]),
        (np.bytes_("a.avi"), {}, ["a.avi"]),
        (np.array([], "S5"), {}, []),
        (np.array([1, 2]), {}, []),
        (h5py.Empty(h5py.string_dtype()), {}, []),
    ],
)
def test_every_string_storage_is_read(tmp_path: Path, values: Any, keywords: dict[str, Any], paths: list[str]) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    set_paths(path, PATHS, values, **keywords)
    found = found_in(path)
    assert [reference.stored_path for reference in found] == paths
    assert [reference.index for reference in found] == list(range(len(paths)))


def test_references_behind_links(tmp_path: Path) -> None:
    """Links to objects are not followed, those to paths are; a path is relative to the file that holds it."""
    other = write_nwb(tmp_path / "other" / "raw.nwb", ["raw.avi"])
    path = write_nwb(tmp_path / "own" / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        acquisition = file["acquisition"]
        acquisition["soft"] = h5py.SoftLink("/acquisition/video")
        acquisition["away"] = h5py.ExternalLink(str(other), "/acquisition/video")
        acquisition["gone"] = h5py.SoftLink("/acquisition/nothing")
        acquisition["lost"] = h5py.ExternalLink("nothing.nwb", "/acquisition/video")
        for name, link in (
            ("texts_soft", h5py.SoftLink(f"/{PATHS}")),
            ("texts_away", h5py.ExternalLink(str(other), f"/{PATHS}")),
            ("texts_gone", h5py.SoftLink("/acquisition/nothing")),
            ("texts_lost", h5py.ExternalLink("nothing.nwb", f"/{PATHS}")),
        ):
            file.copy("acquisition/video", acquisition, name=name)
            del acquisition[name]["external_file"]
            acquisition[name]["external_file"] = link
    found = {reference.object_path: reference for reference in found_in(path)}
    assert set(found) == {"/acquisition/video", "/acquisition/texts_soft", "/acquisition/texts_away"}
    assert found["/acquisition/texts_soft"].base == str(path.parent)
    away = found["/acquisition/texts_away"]
    assert (away.stored_path, away.base, away.nwb_path) == ("raw.avi", str(other.parent), str(path))


def test_hard_link_is_found_once(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file["processing/video"] = file["acquisition/video"]
    assert [reference.object_path for reference in found_in(path)] == ["/acquisition/video"]


def test_hard_link_to_root_ends(tmp_path: Path) -> None:
    """What it leads to has been found already."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file["loop"] = file["/"]
        assert [reference.object_path for reference in find_in_file(file)] == ["/acquisition/video"]


def test_group_instead_of_path_dataset(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        del file[PATHS]
        file.create_group(PATHS)
    assert found_in(path) == []


@pytest.mark.parametrize(
    ("stored", "object_id"),
    [("../x", "../x"), ("", ""), (np.bytes_("abc"), "abc"), (7, None), (np.array([1, 2]), None), (None, None)],
)
def test_object_id_is_reported_as_stored(tmp_path: Path, stored: Any, object_id: str | None) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        attributes = file["acquisition/video"].attrs
        del attributes["object_id"]
        if stored is not None:
            attributes["object_id"] = stored
    assert [reference.object_id for reference in found_in(path)] == [object_id]


def never_written(group: h5py.Group, name: str) -> None:
    kind = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
    h5py.h5a.create(group.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))


def array_of_strings(group: h5py.Group, name: str) -> None:
    kind = h5py.h5t.array_create(h5py.h5t.py_create(h5py.string_dtype(), logical=True), (1,))
    h5py.h5a.create(group.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))


def padded(group: h5py.Group, name: str) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(16)
    kind.set_strpad(h5py.h5t.STR_NULLPAD)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5a.create(group.id, name.encode(), kind, space).write(np.array(b"abc", "S16"), kind)


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("abc", "abc"),
        ("", ""),
        ("\udcff".encode("utf-8", "surrogateescape"), "\udcff"),
        (np.bytes_("abc"), "abc"),
        (np.bytes_("ElectricalSeries"), "ElectricalSeries"),  # as many bytes as HDF5 stores of a text without end
        (padded, "abc"),
        (never_written, ""),
        (["abc"], "abc"),
        (["abc", "def"], None),
        (["abc"] * 17, None),
        (array_of_strings, None),
        (np.zeros(16, "S1"), None),
        (np.arange(2), None),
        (np.arange(16, dtype="i1"), None),
        (np.void(b"0123456789abcdef"), None),
        (np.array((1, 2), [("a", "i8"), ("b", "i8")]), None),
        (h5py.Empty(h5py.string_dtype()), None),
        (h5py.Empty("i8"), None),
        ("reference", None),
        (None, None),
    ],
)
def test_read_attribute(tmp_path: Path, stored: Any, text: str | None) -> None:
    """HDF5 is asked for a text without a look at what there is, so all else must be told by its answer."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file.create_group("group")
        if callable(stored):
            stored(group, "a")
        elif isinstance(stored, str) and stored == "reference":
            group.attrs["a"] = np.array([group.ref] * 2, dtype=h5py.ref_dtype)
        elif isinstance(stored, bytes) and not isinstance(stored, np.bytes_):
            group.attrs.create("a", stored, dtype=h5py.string_dtype())
        elif stored is not None:
            group.attrs["a"] = stored
        assert read_attribute(file.id, b"group", b"a") == text


def test_type_on_wrong_kind_of_object_is_ignored(tmp_path: Path) -> None:
    """A dataset that says it is an ImageSeries, and a group that says it is an ExternalImage, have no paths."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file["acquisition/text"] = "y.avi"
        file["acquisition/group/external_file"] = ["y.avi"]
        for name, kind in (("text", "ImageSeries"), ("group", "ExternalImage")):
            file["acquisition"][name].attrs.update({"neurodata_type": kind, "namespace": "core"})
    assert [reference.object_path for reference in found_in(path)] == ["/acquisition/video"]


def test_hdf5_user_block(tmp_path: Path) -> None:
    """Addresses are counted from its end; the same object is still the same."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path) as file, h5py.File(tmp_path / "b.nwb", "w", userblock_size=512) as copy:
        for name in file:
            file.copy(name, copy)
        copy["processing/video"] = copy["acquisition/video"]
        copy["loop"] = copy["/"]
    assert [reference.object_path for reference in found_in(tmp_path / "b.nwb")] == ["/acquisition/video"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
@pytest.mark.parametrize("field", ["external_file", None])
def test_paths_in_external_storage_are_not_read(tmp_path: Path, field: str | None) -> None:
    """A virtual dataset says which: HDF5 would open any, and wait for a pipe without an end."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    os.mkfifo(tmp_path / "pipe")
    layout = h5py.VirtualLayout(shape=(1,), maxshape=(None,), dtype=h5py.string_dtype())
    source = h5py.VirtualSource("pipe", "x", shape=(1,), maxshape=(None,), dtype=h5py.string_dtype())
    layout[0 : h5py.h5s.UNLIMITED : 1] = source[0 : h5py.h5s.UNLIMITED : 1]
    with h5py.File(path, "r+") as file:
        if field is not None:
            del file[PATHS]
            file["acquisition/video"].create_virtual_dataset(field, layout)
        else:
            image = file["acquisition"].create_virtual_dataset("image", layout)
            image.attrs.update({"neurodata_type": "ExternalImage", "namespace": "core"})
    problems: list[ExternalFilesError] = []
    found = found_in(path, problems=problems)
    assert [reference.stored_path for reference in found] == ([] if field else ["x.avi"])
    assert [type(problem) for problem in problems] == [UnsafeReferenceError]


@pytest.mark.parametrize("stored", [np.bytes_("ImageSeries"), "ImageSeries"])
def test_neurodata_type_stored_as_bytes(tmp_path: Path, stored: Any) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file["acquisition/video"].attrs["neurodata_type"] = stored
        file["acquisition/video"].attrs["namespace"] = np.bytes_("core")
    assert len(found_in(path)) == 1


def test_relative_nwb_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nwb(tmp_path / "folder" / "a.nwb", ["x.avi"])
    monkeypatch.chdir(tmp_path)
    (reference,) = found_in(Path("folder") / "a.nwb")
    assert reference.nwb_path == str(path)
    assert reference.base == str(path.parent)


def test_not_an_nwb_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["external_file"] = ["a.avi"]
        file["group/external_file"] = ["a.avi"]
    assert found_in(tmp_path / "x.h5") == []


# -------------------------------------------------------------- unknown types


@pytest.mark.parametrize("cached", [True, False])
def test_unknown_type_is_ignored(tmp_path: Path, cached: bool) -> None:
    """A group is known by the names of its datasets; a dataset has none that would tell."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        video = file["acquisition/video"]
        video.attrs["neurodata_type"] = "NobodyKnowsSeries"
        video["original_videos"] = ["y.avi"]
        note = file["acquisition"].create_dataset("note", data="not a path")
        note.attrs.update({"neurodata_type": "NobodyKnowsText", "namespace": "nobody"})
    if not cached:
        forget_specifications(path)
    assert {(found.field, found.stored_path, found.repeats) for found in found_in(path)} == {
        ("external_file", "x.avi", False),
        ("original_videos", "y.avi", True),
    }


def test_known_type_without_media_is_ignored(tmp_path: Path) -> None:
    """A field of that name in a type that is known, and is not of the table, is something else."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file["acquisition/video"].attrs["neurodata_type"] = "TimeSeries"
    assert found_in(path) == []


def damage_location(file: h5py.File) -> None:
    del file["specifications"]


def damage_path(file: h5py.File) -> None:
    for version in file["specifications/core"].values():
        version["namespace"][()] = "{ not json"
        version["nwb.image"][()] = "{ not json"


def damage_json(file: h5py.File) -> None:
    for version in file["specifications/core"].values():
        version["nwb.image"][()] = '["a list"]'


def damage_numbers(file: h5py.File) -> None:
    for version in file["specifications/core"].values():
        del version["nwb.image"]
        version["nwb.image"] = 7


def damage_groups(file: h5py.File) -> None:
    file["specifications"]["text"] = "no namespace"
    file["specifications/core"]["text"] = "no version"


def damage_attribute(file: h5py.File) -> None:
    file.attrs[".specloc"] = 7


def damage_name(file: h5py.File) -> None:
    file.attrs[".specloc"] = "/nothing"


def damage_length(file: h5py.File) -> None:
    references = [file["specifications"].ref] * 1000  # more than there is memory for one
    file.attrs.create(".specloc", references, dtype=h5py.ref_dtype)


DAMAGES = (
    damage_location,
    damage_path,
    damage_json,
    damage_numbers,
    damage_groups,
    damage_attribute,
    damage_name,
    damage_length,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cached_specifications(tmp_path: Path, damage: Any) -> None:
    """What cannot be read is unknown; media are found by the names of their fields."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        damage(file)
    assert [reference.stored_path for reference in found_in(path)] == ["x.avi"]


def nested(depth: int) -> str:
    return '{"groups": [' * depth + "{}" + "]}" * depth


def test_circular_cached_specifications_end(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file["specifications/deep/1.0/deep"] = nested(100_000)
    assert [reference.stored_path for reference in found_in(path)] == ["x.avi"]


def test_subtype_without_cached_parent_specification(tmp_path: Path) -> None:
    """Of such a type the beginning of its line is known, and not whether ImageSeries is in it."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    spec = {
        "groups": [{"neurodata_type_def": "VideoSeries", "neurodata_type_inc": "OpticalSeries"}],
        "datasets": [{"neurodata_type_def": "LabelledImage", "neurodata_type_inc": "ExternalImage"}],
    }
    with h5py.File(path, "r+") as file:
        del file["specifications/core"]
        file["specifications/videos/1.0/videos"] = json.dumps(spec)
        file["acquisition/video"].attrs.update({"neurodata_type": "VideoSeries", "namespace": "videos"})
        image = file["acquisition"].create_dataset("image", data="x.png")
        image.attrs.update({"neurodata_type": "LabelledImage", "namespace": "videos"})
    assert {reference.stored_path for reference in found_in(path)} == {"x.avi", "x.png"}


def forge(path: Path, namespace: str, spec: dict[str, Any]) -> None:
    """Replace the schemas of a namespace that a file caches by others, under the same version."""
    with h5py.File(path, "r+") as file:
        (version,) = file[f"specifications/{namespace}"]
        del file[f"specifications/{namespace}"]
        file[f"specifications/{namespace}/{version}/forged"] = json.dumps(spec)


def test_changed_schema_under_a_published_version_hides_no_path(tmp_path: Path) -> None:
    """Whatever it says of a type, a dataset called external_file is looked at."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        for number in range(30):
            series = file["acquisition"].create_group(f"series{number:02}")
            series.attrs.update({"neurodata_type": "TimeSeries", "namespace": "core", "object_id": str(number)})
            series["external_file"] = [f"{number}.avi"]
    assert [reference.stored_path for reference in found_in(path)] == ["x.avi"]
    forge(path, "core", {"groups": [{"neurodata_type_def": "TimeSeries", "neurodata_type_inc": "ImageSeries"}]})
    assert {reference.stored_path for reference in found_in(path)} == {"x.avi", *(f"{n}.avi" for n in range(30))}
    forget_specifications(path)
    assert len(found_in(path)) == 31


@pytest.mark.parametrize(("namespace", "found"), [("hdmf-common", []), ("tables", ["x.png"])])
def test_column_type_is_the_published_one_only_in_its_namespace(
    tmp_path: Path, namespace: str, found: list[str]
) -> None:
    """As for pynwb, which reads a column, whatever a file says of hdmf-common."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        del file["acquisition/video"]
        column = file["acquisition"].create_dataset("column", data="x.png")
        column.attrs.update({"neurodata_type": "VectorData", "namespace": namespace, "object_id": "1"})
        file["specifications/tables/1.0/tables"] = "{}"
    spec = {"datasets": [{"data_type_def": "VectorData", "data_type_inc": "ExternalImage"}]}
    forge(path, namespace, spec)
    assert [reference.stored_path for reference in found_in(path)] == found


@pytest.mark.parametrize("is_cache", [True, False])
def test_objects_among_cached_schemas_are_left_out(tmp_path: Path, is_cache: bool) -> None:
    """As HDMF leaves them out; in a group that only has the name, objects are found."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file.copy("acquisition/video", "specifications/video")
        if not is_cache:
            file.attrs[".specloc"] = file["acquisition"].ref
    expected = ["/acquisition/video"] if is_cache else ["/acquisition/video", "/specifications/video"]
    assert [reference.object_path for reference in found_in(path)] == expected


def test_specification_location_stored_as_path(tmp_path: Path) -> None:
    """`.specloc` is a reference, and a path in Zarr and some files."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path, "r+") as file:
        file.attrs[".specloc"] = "/specifications"
        assert parents_in_file(file)["OpticalSeries"] == "ImageSeries"


def test_parents_in_file(extension: tuple[Path, dict[str, list[str]]], tmp_path: Path) -> None:
    with h5py.File(extension[0]) as file:
        parents = parents_in_file(file)
    assert parents["TrackedVideoSeries"] == "VideoSeries"
    assert parents["VideoSeries"] == "ImageSeries"
    assert parents["LabelledImage"] == "ExternalImage"
    assert parents["CorrectedImageStack"] == "NWBDataInterface"
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert parents_in_file(file) == {}


def test_circular_type_hierarchy_ends(tmp_path: Path) -> None:
    """Specifications out of a file may say anything."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    spec = {
        "groups": [
            {"neurodata_type_def": "A", "neurodata_type_inc": "B"},
            {"neurodata_type_def": "B", "neurodata_type_inc": "A"},
            {"neurodata_type_def": "C", "neurodata_type_inc": "C"},
            {"neurodata_type_def": "D"},
            {"neurodata_type_def": "E", "neurodata_type_inc": {"target_type": "ImageSeries"}},
        ]
    }
    with h5py.File(path, "r+") as file:
        file["specifications/loops/1.0/loops"] = json.dumps(spec)
        for name in "ABCDE":
            file.copy("acquisition/video", file["acquisition"], name=name)
            file["acquisition"][name].attrs.update({"neurodata_type": name, "namespace": "loops"})
    assert {reference.object_path for reference in found_in(path)} <= {"/acquisition/video", "/acquisition/E"}


def test_reference_where_and_place(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["x.avi", "y.avi"])
    reference = found_in(path)[1]
    assert reference.where == f"{path}: ImageSeries '/acquisition/video', external_file[1]"
    assert reference.place == dict(nwb_path=str(path), object_path="/acquisition/video", field="external_file", index=1)
    assert os.path.isabs(reference.nwb_path)

"""Whether two NWB files have the same content: with edits that make a difference, and edits that do not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import DATASET, recording

from nwb_extfiles import organize, relocate
from nwb_extfiles.nwb.comparison import is_edited_copy, same_content
from nwb_extfiles.nwb.files import write_paths


def rich(path: Path) -> Path:
    """An NWB file with every kind of object and type that HDF5 can store."""
    recording(path, ["a.avi", "b.avi"])
    with h5py.File(path, "r+") as file:
        series = file.create_group("acquisition/voltage")
        series.attrs.update(neurodata_type="TimeSeries", namespace="core", object_id="v", rate=np.float32(3.5))
        series["plain"] = np.arange(60, dtype="<i2").reshape(3, 20)
        chunks = np.linspace(0, 1, 1000).reshape(50, 20)
        series.create_dataset("chunked", data=chunks, chunks=(7, 20), compression="gzip", fillvalue=2.0)
        sparse = series.create_dataset("sparse", shape=(200, 200), chunks=(10, 10), dtype="f4", fillvalue=np.nan)
        sparse[50:55, 3] = 7
        series["nan"] = np.array([0.0, -0.0, np.nan, np.inf])
        series["strings"] = np.array(["a", "b", "ü"], dtype=h5py.string_dtype())
        series["fixed"] = np.array([b"a", b"bc"])
        series["yes"] = np.array([True, False])
        series["empty"] = h5py.Empty("f8")
        series.create_dataset("none", shape=(0, 3), maxshape=(None, 3), dtype="i4")
        series["lists"] = h5py.Empty("f8")
        del series["lists"]
        lists = series.create_dataset("lists", shape=(2,), dtype=h5py.vlen_dtype(np.int32))
        lists[0], lists[1] = [1, 2, 3], [4]
        series["reference"] = file["acquisition/video"].ref
        rows = np.empty(2, dtype=[("start", "i4"), ("series", h5py.ref_dtype), ("name", h5py.string_dtype())])
        rows["start"], rows["name"] = [1, 2], ["x", "y"]
        rows["series"] = [file["acquisition/video"].ref, series.ref]
        series["rows"] = rows
        series["region"] = series["plain"].regionref[1, 2:5]
        series.attrs["to"] = file["acquisition/video"].ref
        series.attrs["words"] = np.array(["one", "two"], dtype=h5py.string_dtype())
        file["analysis/again"] = series["plain"]
        file["analysis/soft"] = h5py.SoftLink("/acquisition/voltage/plain")
        file["analysis/far"] = h5py.ExternalLink("other.nwb", "/x")
        file["analysis/type"] = np.dtype("<f8")
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich(tmp_path_factory.mktemp("original") / "a.nwb")


def repacked(source: Path, target: Path, rng: Any = None) -> Path:
    """Write the same content again, with h5py alone, with other chunks and compression."""
    pairs: list[tuple[Any, Any]] = []
    with h5py.File(source) as old, h5py.File(target, "w", libver="latest" if rng else None) as new:
        made: dict[int, Any] = {h5py.h5o.get_info(old.id).addr: new}

        def values(item: Any, value: Any) -> Any:
            if isinstance(value, h5py.RegionReference):
                return new[old[value].name].regionref[1, 2:5]
            if isinstance(value, h5py.Reference):
                return new[old[value].name].ref
            return value

        def copy(group: Any, place: Any) -> None:
            pairs.append((group, place))
            for name in reversed(list(group)):
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    place[name] = link
                    continue
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in made:
                    place[name] = made[address]
                elif isinstance(item, h5py.Group):
                    made[address] = place.create_group(name)
                    copy(item, place[name])
                elif isinstance(item, h5py.Dataset):
                    options: dict[str, Any] = {}
                    if rng and item.shape and item.size and item.maxshape == item.shape:
                        options["chunks"] = tuple(int(rng.integers(1, length + 1)) for length in item.shape)
                        options["chunks"] = tuple(
                            max(pair)
                            for pair in zip(options["chunks"], (length // 20 for length in item.shape), strict=True)
                        )
                        if item.dtype.kind != "O" and rng.random() < 0.5:
                            options["compression"], options["shuffle"] = "lzf", True
                    elif item.chunks:
                        options["chunks"], options["maxshape"] = item.chunks, item.maxshape
                    if item.shape is None:
                        made[address] = place.create_dataset(name, data=h5py.Empty(item.dtype))
                        pairs.append((item, place[name]))
                        continue
                    fill = None if item.dtype.hasobject else item.fillvalue
                    dataset = place.create_dataset(
                        name, item.shape, item.id.get_type().dtype, fillvalue=fill, **options
                    )
                    made[address] = dataset
                    pairs.append((item, dataset))
                else:
                    place[name] = item.dtype
                    made[address] = place[name]

        copy(old, new)
        for item, place in pairs:
            if isinstance(item, h5py.Dataset) and item.shape is not None and item.size:
                data = item[()]
                if item.dtype.names:
                    data = data.copy()
                    data["series"] = [values(item, each) for each in data["series"]]
                place[()] = values(item, data)
            for key in reversed(list(item.attrs)):
                place.attrs.create(key, values(item, item.attrs[key]), dtype=item.attrs.get_id(key).dtype)
    return target


@pytest.mark.parametrize("seed", range(6))
def test_repacked_file_is_the_same(original: Path, tmp_path: Path, seed: int) -> None:
    made = repacked(original, tmp_path / "b.nwb", np.random.default_rng(seed) if seed else None)
    assert same_content(original, made)
    assert same_content(made, original)


def set_value(path: str, index: Any, value: Any) -> Callable[[h5py.File], object]:
    def edit(file: h5py.File) -> None:
        file[path][index] = value

    return edit


def set_attribute(path: str, name: str, value: Any) -> Callable[[h5py.File], object]:
    return lambda file: file[path].attrs.__setitem__(name, value)


def again(path: str, **settings: Any) -> Callable[[h5py.File], object]:
    """Replace a dataset by one with something else."""

    def edit(file: h5py.File) -> None:
        options, attributes = {"data": file[path][()], **settings}, dict(file[path].attrs)
        del file[path]
        file.create_dataset(path, **options)
        file[path].attrs.update(attributes)

    return edit


def _other_rows(file: h5py.File) -> None:
    rows = file["acquisition/voltage/rows"][()]
    rows["series"] = rows["series"][::-1]
    file["acquisition/voltage/rows"][()] = rows


def _unshared(file: h5py.File) -> None:
    del file["analysis/again"]
    file.copy("acquisition/voltage/plain", "analysis/again")


V = "acquisition/voltage"
CHANGES: dict[str, Callable[[h5py.File], object]] = {
    "a value": set_value(f"{V}/plain", (2, 19), 7),
    "a compressed value": set_value(f"{V}/chunked", (49, 19), 7.0),
    "a value where none was": set_value(f"{V}/sparse", (199, 199), 1.0),
    "another sparse value": set_value(f"{V}/sparse", (54, 3), 8.0),
    "the sign of zero": set_value(f"{V}/nan", 0, -0.0),
    "the bits of NaN": lambda file: file[f"{V}/nan"].write_direct(
        np.array([0x0, 1 << 63, 0x7FF8000000000001, 0x7FF << 52], dtype="u8").view("f8")
    ),
    "a text": set_value(f"{V}/strings", 1, "c"),
    "a text of fixed length": set_value(f"{V}/fixed", 1, b"bd"),
    "a truth": set_value(f"{V}/yes", 1, True),
    "a list": set_value(f"{V}/lists", 1, [5]),
    "a longer list": set_value(f"{V}/lists", 1, [4, 4]),
    "a reference": lambda file: file[f"{V}/reference"].__setitem__((), file[V].ref),
    "no reference": lambda file: file[f"{V}/reference"].__setitem__((), h5py.Reference()),
    "references in rows": _other_rows,
    "a region": lambda file: file[f"{V}/region"].__setitem__((), file[f"{V}/plain"].regionref[1, 2:6]),
    "an attribute": set_attribute(V, "rate", np.float32(3.25)),
    "the type of an attribute": set_attribute(V, "rate", np.float64(3.5)),
    "a further attribute": set_attribute(V, "note", "n"),
    "an attribute less": lambda file: file[V].attrs.__delitem__("rate"),
    "an attribute of a dataset": set_attribute(f"{V}/plain", "unit", "V"),
    "a list of words": lambda file: file[V].attrs.create(
        "words", np.array(["one", "too"], dtype=h5py.string_dtype()), dtype=h5py.string_dtype()
    ),
    "where an attribute leads": lambda file: file[V].attrs.__setitem__("to", file[V].ref),
    "an attribute of the root": set_attribute("/", "nwb_version", "2.0.0"),
    "an object_id": set_attribute("acquisition/video", "object_id", "x"),
    "the identifier": lambda file: file["identifier"].__setitem__((), "another"),
    "a name": lambda file: file.move(f"{V}/plain", f"{V}/plein"),
    "a group more": lambda file: file.create_group("scratch/new"),
    "a group less": lambda file: file.__delitem__("analysis/soft"),
    "where a link leads": lambda file: (
        file.__delitem__("analysis/soft"), file.__setitem__("analysis/soft", h5py.SoftLink("/acquisition")),
    ),
    "a hard link for a soft one": lambda file: (
        file.__delitem__("analysis/soft"), file.__setitem__("analysis/soft", file[f"{V}/plain"]),
    ),
    "where a link to another file leads": lambda file: (
        file.__delitem__("analysis/far"), file.__setitem__("analysis/far", h5py.ExternalLink("other.nwb", "/y")),
    ),
    "a copy for a hard link": _unshared,
    "the type": again(f"{V}/plain", dtype="<i4"),
    "the order of bytes": again(f"{V}/plain", dtype=">i2"),
    "the length of strings": again(f"{V}/fixed", dtype="S3"),
    "strings of fixed length": again(f"{V}/strings", data=np.array(["a", "b", "ü".encode()], dtype="S2")),
    "the shape": again(f"{V}/plain", data=np.arange(60, dtype="<i2").reshape(20, 3)),
    "the fill value": again(f"{V}/chunked", chunks=(7, 20), fillvalue=3.0),
    "a named type": lambda file: (
        file.__delitem__("analysis/type"), file.__setitem__("analysis/type", np.dtype("<f4")),
    ),
    "a number of paths": lambda file: (
        file.__delitem__(DATASET), file.create_dataset(DATASET, data=["a.avi"], dtype=h5py.string_dtype()),
        file[DATASET].attrs.__setitem__("starting_frame", [0, 10]),
    ),
    "a starting frame": set_attribute(DATASET, "starting_frame", [0, 11]),
    "a schema": lambda file: file["specifications"].create_group("ndx-odd/0.1.0"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("repack", [False, True])
def test_any_change_makes_a_difference(
    original: Path, tmp_path: Path, change: Callable[[h5py.File], object], repack: bool
) -> None:
    made = tmp_path / "b.nwb"
    if repack:
        repacked(original, made)
    else:
        shutil.copy2(original, made)
    with h5py.File(made, "r+") as file:
        change(file)
    assert not same_content(original, made)
    assert not same_content(made, original)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_number_makes_a_difference(original: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    made = tmp_path_factory.mktemp("made") / "b.nwb"
    shutil.copy2(original, made)
    with h5py.File(made, "r+") as file:
        name = data.draw(st.sampled_from(["plain", "chunked", "sparse", "nan"]))
        dataset = file[f"{V}/{name}"]
        index = tuple(data.draw(st.integers(0, length - 1)) for length in dataset.shape)
        value = data.draw(st.integers(-30000, 30000))
        was = dataset[index]
        dataset[index] = value
        is_same = np.asarray(dataset[index]).tobytes() == np.asarray(was).tobytes()
    assert same_content(original, made) is is_same


def test_paths_make_no_difference(original: Path, tmp_path: Path) -> None:
    made = tmp_path / "b.nwb"
    shutil.copy2(original, made)
    with h5py.File(made, "r+") as file:
        file[DATASET][()] = [b"x" * 300, b"y"]
    assert same_content(original, made)
    with h5py.File(made, "r+") as file:
        again(DATASET, data=np.array([b"x", b"y"]))(file)  # in another kind of storage
    assert same_content(original, made)


@pytest.mark.parametrize("edit", ["none", "no schema", "one that is shared"])
@pytest.mark.parametrize("manifest", [False, True])
def test_manifest_makes_no_difference(tmp_path: Path, edit: str, manifest: bool) -> None:
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi", "b.avi"])
    with h5py.File(path, "r+") as file:
        if edit == "no schema":
            del file["specifications"], file.attrs[".specloc"]
        if edit == "one that is shared":
            file.copy("acquisition/video", "acquisition/second")
            file["acquisition/second"].attrs["object_id"] = "00000000-0000-4000-8000-000000000000"
            del file["acquisition/second/external_file"]
            file["acquisition/second/external_file"] = file[DATASET]
            file["scratch/alias"] = h5py.SoftLink("/acquisition/video/external_file")
    kept = tmp_path / "kept.nwb"
    shutil.copy2(path, kept)
    for _ in range(2):
        relocate(path, "copy", media_options={"manifest": manifest})
        with h5py.File(path) as file:
            assert ("general/external_files/manifest" in file) is manifest
        assert same_content(path, kept)
        assert same_content(kept, path)
    if manifest:
        with h5py.File(path, "r+") as file:  # additions are content
            file["general/external_files/manifest/mine"] = [1, 2]
        assert not same_content(path, kept)
        assert not same_content(kept, path)


def test_incomparable_content_makes_a_difference(original: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "junk.nwb").write_bytes(b"junk")
    os.mkfifo(tmp_path / "pipe.nwb")
    for name in ("folder", "junk.nwb", "pipe.nwb"):
        assert not same_content(original, tmp_path / name)
        assert not same_content(tmp_path / name, original)
    made = repacked(original, tmp_path / "b.nwb")
    with h5py.File(made, "r+") as file:
        file.create_dataset("scratch/huge", shape=(1 << 40, 1 << 10), chunks=(1, 1), dtype="f8")[7, 7] = 1
    other = tmp_path / "c.nwb"
    shutil.copy2(made, other)
    assert same_content(made, other)
    with h5py.File(other, "r+") as file:
        file["scratch/huge"][8, 8] = 1
    assert not same_content(made, other)


def test_data_in_other_files_make_a_difference(tmp_path: Path) -> None:
    paths = [recording(tmp_path / f"{number}.nwb", None) for number in range(2)]
    shutil.copy2(*paths)
    for number, path in enumerate(paths):
        (tmp_path / "raw.bin").write_bytes(b"0" * 80)
        with h5py.File(path, "r+") as file:
            file.create_dataset("scratch/far", (10,), "f8", external=[(tmp_path / "raw.bin", 0, 80)])
            file.create_dataset("scratch/near", data=np.zeros(10), chunks=(10,) if number else None)
    assert not same_content(*paths)


# ------------------------------------------------------------------------ Zarr


@pytest.fixture
def store(tmp_path: Path, video_files: Path) -> Path:
    pytest.importorskip("hdmf_zarr")
    from zarr_makers import write_store

    return write_store(tmp_path / "stores" / "a.nwb.zarr", ["../video_files/test1_0.avi", "../video_files/test1_1.avi"])


@pytest.mark.parametrize("manifest", [False, True])
def test_paths_of_a_store_make_no_difference(tmp_path: Path, store: Path, manifest: bool) -> None:
    organize([store.parent], tmp_path / "ds", media_options={"manifest": manifest})
    (made,) = (tmp_path / "ds").rglob("*.nwb.zarr")
    assert same_content(store, made)
    assert same_content(made, store)


def _attribute(path: Path, name: str, value: Any) -> None:
    attributes = json.loads(path.read_bytes()) if path.exists() else {}
    path.write_text(json.dumps(attributes | {name: value}))


@pytest.mark.parametrize(
    "change", ["chunk", "attribute", "frame", "type", "link", "more", "less", "shape", "consolidated"]
)
def test_any_change_of_a_store_makes_a_difference(tmp_path: Path, store: Path, change: str) -> None:
    import zarr

    made = tmp_path / "b.nwb.zarr"
    shutil.copytree(store, made)
    assert same_content(store, made)
    if change == "chunk":
        (made / "identifier" / "0").write_bytes(b'["other","|O",[1]]')
    elif change == "attribute":
        _attribute(made / "acquisition" / ".zattrs", "note", 1)
    elif change == "frame":
        _attribute(made / DATASET / ".zattrs", "starting_frame", [0, 99])
    elif change == "type":
        _attribute(made / "session_description" / ".zarray", "fill_value", "x")
    elif change == "link":
        _attribute(made / "acquisition" / ".zattrs", "zarr_link", [{"name": "x", "source": ".", "path": "/y"}])
    elif change == "more":
        (made / "scratch").mkdir()
        (made / "scratch" / ".zgroup").write_text('{"zarr_format": 2}')
    elif change == "less":
        (made / "session_description" / "0").unlink()
    elif change == "shape":
        zarr.open_group(str(made), mode="r+")[DATASET].resize(1)
    if change != "consolidated" and (made / ".zmetadata").exists():
        zarr.consolidate_metadata(str(made))
    elif change == "consolidated":
        path = made / ".zmetadata"
        path.write_text(path.read_text().replace('"starting_frame": [', '"starting_frame": [7'))
    assert not same_content(store, made)
    assert not same_content(made, store)


# ------------------------------------------------------------- edited copies


EDITS = {("/acquisition/video", "external_file"): ["a/somewhere_else_with_a_longer_name.avi", "a/1.avi"]}


def test_edited_copy_is_recognized(original: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(original, tmp_path / "copy.nwb"))
    before = original.read_bytes()
    write_paths(copy, EDITS)
    assert is_edited_copy(copy, original, EDITS)
    assert not is_edited_copy(original, copy, EDITS | {("/acquisition/video", "external_file"): ["a.avi", "c.avi"]})
    assert not is_edited_copy(copy, original, {})
    assert is_edited_copy(original, original, {})
    assert original.read_bytes() == before


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_edited_copy_with_another_changed_byte(original: Path, tmp_path: Path, place: float, bit: int) -> None:
    copy = Path(shutil.copy(original, tmp_path / "copy.nwb"))
    write_paths(copy, EDITS)
    content = bytearray(copy.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    for other in (content, bytes(content[:-1]), copy.read_bytes() + b"\0"):
        copy.write_bytes(other)
        assert not is_edited_copy(copy, original, EDITS)


def test_uneditable_file_is_not_an_edited_copy(original: Path, tmp_path: Path) -> None:
    (tmp_path / "text.nwb").write_text("no HDF5")
    for one, edits in ((tmp_path / "text.nwb", EDITS), (original, {("/nowhere", "external_file"): ["a"]})):
        assert not is_edited_copy(original, one, edits)
    assert not is_edited_copy(tmp_path / "none.nwb", original, {})
    assert not is_edited_copy(tmp_path, tmp_path, {})

"""Paths in every kind of storage: read, written back in the same kind, and remembered."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO
from hdmf.utils import StrDataset
from makers import run_python

from nwb_extfiles.nwb.path_datasets import (
    StoredPath,
    as_string,
    fits,
    read_paths,
    storage_settings,
    unwrapped,
    write_in_place,
)

UTF8 = h5py.string_dtype()
ASCII = h5py.string_dtype("ascii")
NOT_UTF8 = b"\xff\xfe.avi"
ESCAPED = os.fsdecode(NOT_UTF8) if os.name != "nt" else NOT_UTF8.decode("utf-8", "surrogateescape")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "paths.h5", "w") as file:
        yield file


def padded(file: h5py.File, name: str, paths: list[bytes], size: int, padding: int) -> h5py.Dataset:
    """A dataset of fixed length with a padding that h5py does not make by itself."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(size)
    kind.set_strpad(padding)
    space = h5py.h5s.create_simple((len(paths),))
    made = h5py.h5d.create(file.id, name.encode(), kind, space)
    fill = b" " if padding == h5py.h5t.STR_SPACEPAD else b"\0"
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([text.ljust(size, fill) for text in paths], f"S{size}"), kind)
    return file[name]


# ------------------------------------------------------------------ read_paths


@pytest.mark.parametrize(
    ("value", "paths", "shape"),
    [
        ("a.avi", ["a.avi"], ()),
        ("", [""], ()),
        (b"\xc3\xa4.avi", ["ä.avi"], ()),
        (Path("x") / "a.avi", [str(Path("x") / "a.avi")], ()),
        (np.str_("a.avi"), ["a.avi"], ()),
        (np.bytes_(b"a.avi"), ["a.avi"], ()),
        (["a.avi", b"b.avi", PurePosixPath("c.avi"), np.str_("d.avi")], ["a.avi", "b.avi", "c.avi", "d.avi"], (4,)),
        (("a.avi",), ["a.avi"], (1,)),
        ([], [], (0,)),
        ((), [], (0,)),
        (np.array(["a.avi", "bb.avi"]), ["a.avi", "bb.avi"], (2,)),
        (np.array([b"a.avi", b"bb.avi"]), ["a.avi", "bb.avi"], (2,)),
        (np.array([["a", "b"], ["c", "d"]], dtype=object), ["a", "b", "c", "d"], (2, 2)),
        (np.array("a.avi"), ["a.avi"], ()),
        (np.array([], dtype="S5"), [], (0,)),
        (H5DataIO(["a.avi"], compression="gzip"), ["a.avi"], (1,)),
        (H5DataIO(np.array(["a.avi"])), ["a.avi"], (1,)),
        (NOT_UTF8, [ESCAPED], ()),
        ([NOT_UTF8], [ESCAPED], (1,)),
    ],
)
def test_paths_from_values_in_memory(value: Any, paths: list[str], shape: tuple[int, ...]) -> None:
    read = read_paths(value)
    assert read == (paths, shape)
    assert all(type(text) is str for text in read[0])


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.5,
        None,
        object(),
        [1, 2],
        ["a.avi", 2],
        ["a.avi", None],
        [["a.avi"]],
        np.array([1, 2]),
        np.array(["a.avi", 1], dtype=object),
        np.array([("a", 1)], dtype=[("x", "S1"), ("y", "i4")]),
        {"a.avi": 1},
    ],
)
def test_values_without_paths(value: Any) -> None:
    assert read_paths(value) is None


@pytest.mark.parametrize(
    ("data", "keywords", "paths", "shape"),
    [
        (["ä.avi", "日本.avi"], dict(dtype=UTF8), ["ä.avi", "日本.avi"], (2,)),
        (["a.avi", "b.avi"], dict(dtype=ASCII), ["a.avi", "b.avi"], (2,)),
        (np.array([b"a.avi", b"bb.avi"]), {}, ["a.avi", "bb.avi"], (2,)),
        (["ä.avi".encode()], dict(dtype=h5py.string_dtype("utf-8", 9)), ["ä.avi"], (1,)),
        ("a.avi", dict(dtype=UTF8), ["a.avi"], ()),
        ("a.avi", dict(dtype=ASCII), ["a.avi"], ()),
        (np.bytes_(b"a.avi"), {}, ["a.avi"], ()),
        (["a", "b", "c"], dict(dtype=UTF8, chunks=(2,), compression="gzip", shuffle=True), ["a", "b", "c"], (3,)),
        (np.array([b"a", b"b"]), dict(chunks=(1,), fletcher32=True), ["a", "b"], (2,)),
        ([["a", "b"], ["c", "d"]], dict(dtype=UTF8), ["a", "b", "c", "d"], (2, 2)),
        (np.array([], dtype="S5"), {}, [], (0,)),
        (np.array([], dtype=object), dict(dtype=UTF8), [], (0,)),
        (h5py.Empty(UTF8), {}, [], (0,)),
        (h5py.Empty("S5"), {}, [], (0,)),
        ([""], dict(dtype=UTF8), [""], (1,)),
        ([NOT_UTF8], dict(dtype=UTF8), [ESCAPED], (1,)),
        (np.array([NOT_UTF8]), {}, [ESCAPED], (1,)),
    ],
)
def test_paths_from_datasets(
    file: h5py.File, data: Any, keywords: dict[str, Any], paths: list[str], shape: tuple[int, ...]
) -> None:
    dataset = file.create_dataset("paths", data=data, **keywords)
    read = read_paths(dataset)
    assert read == (paths, shape)
    assert all(type(text) is str for text in read[0])
    assert read_paths(H5DataIO(dataset)) == read
    if h5py.check_string_dtype(dataset.dtype).length is None and dataset.shape is not None:
        assert read_paths(StrDataset(dataset, None)) == read


@pytest.mark.parametrize("padding", [h5py.h5t.STR_NULLTERM, h5py.h5t.STR_NULLPAD, h5py.h5t.STR_SPACEPAD])
def test_paths_from_padded_strings(file: h5py.File, padding: int) -> None:
    """C, h5py and Fortran pad strings of fixed length differently; the padding is not part of the path."""
    dataset = padded(file, "paths", [b"a.avi", b"bb b.avi"], 12, padding)
    assert read_paths(dataset) == (["a.avi", "bb b.avi"], (2,))


@pytest.mark.parametrize(
    "data", [np.array([1, 2]), 1.5, np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), h5py.Empty("f8"), True]
)
def test_datasets_without_paths(file: h5py.File, data: Any) -> None:
    assert read_paths(file.create_dataset("numbers", data=data)) is None


def test_dataset_of_references(file: h5py.File) -> None:
    file["group"] = file.create_group("other")
    dataset = file.create_dataset("references", data=[file["group"].ref], dtype=h5py.ref_dtype)
    assert read_paths(dataset) is None


def test_zarr_array() -> None:
    zarr = pytest.importorskip("zarr")
    assert read_paths(zarr.array(np.array(["a.avi", "ä.avi"]))) == (["a.avi", "ä.avi"], (2,))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (b"a", "a"),
        (np.array("a"), "a"),
        (np.array(b"a"), "a"),
        (Path("a"), "a"),
        (NOT_UTF8, ESCAPED),
        (1, None),
        (None, None),
        (np.array(["a"]), None),
        (["a"], None),
    ],
)
def test_single_path(value: Any, text: str | None) -> None:
    assert as_string(value) == text


def test_path_remembers_its_file() -> None:
    text = StoredPath("a.avi", "/data/x.nwb")
    assert (text, text.base, text.stored) == ("a.avi", "/data", "a.avi")
    assert type(text.stored) is str
    assert StoredPath("a.avi", None).base is None
    assert as_string(text) is text
    read = read_paths([text])
    assert read is not None
    assert read[0][0] is text
    for twin in (copy.copy(text), copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert isinstance(twin, StoredPath)
        assert (twin, twin.nwb_path) == ("a.avi", "/data/x.nwb")


def test_dataio_is_unwrapped() -> None:
    data = ["a.avi"]
    assert unwrapped(data) is data
    assert unwrapped(H5DataIO(data, compression="gzip")) is data


# ------------------------------------------------------------ storage_settings


@pytest.mark.parametrize(
    ("data", "keywords"),
    [
        (["a", "b", "c"], dict(dtype=UTF8)),
        (np.array([b"a", b"b"]), {}),
        (["a", "b", "c"], dict(dtype=UTF8, chunks=(2,))),
        (["a", "b", "c"], dict(dtype=UTF8, chunks=(2,), maxshape=(None,))),
        (["a", "b", "c"], dict(dtype=UTF8, chunks=(2,), compression="gzip", compression_opts=7, shuffle=True)),
        (np.array([b"a", b"b"]), dict(chunks=(1,), compression="lzf")),
        (np.array([b"a", b"b"]), dict(chunks=(1,), compression="gzip", compression_opts=0)),
        (np.array([b"a", b"b"]), dict(chunks=(1,), fletcher32=True, shuffle=True)),
        (np.array([], dtype="S5"), dict(maxshape=(None,), chunks=(4,))),
        ("a", dict(dtype=UTF8)),
    ],
)
def test_storage_settings_are_copied(file: h5py.File, data: Any, keywords: dict[str, Any]) -> None:
    """For strings of variable length, in which every relocated dataset is stored."""
    old = file.create_dataset("old", data=data, **keywords)
    paths = read_paths(old)
    assert paths is not None
    values = np.array(paths[0], dtype=object).reshape(old.shape)
    new = file.create_dataset("new", data=values, dtype=UTF8, **storage_settings(old))
    assert (new.shape, new.chunks, new.maxshape) == (old.shape, old.chunks, old.maxshape)
    assert (new.compression, new.compression_opts, new.shuffle) == (old.compression, old.compression_opts, old.shuffle)
    assert read_paths(new) == paths


# -------------------------------------------------------------- write_in_place


@pytest.mark.parametrize(
    ("data", "keywords"),
    [
        (["a.avi", "ä.avi"], dict(dtype=UTF8)),
        (["a.avi", "b.avi"], dict(dtype=ASCII)),
        (["a.avi", "ä.avi"], dict(dtype=UTF8, chunks=(1,), compression="gzip", shuffle=True)),
        (np.array([b"a.avi", b"b.avi"], "S100"), {}),
        (["a.avi", "ä.avi".encode()], dict(dtype=h5py.string_dtype("utf-8", 100))),
        ([["a.avi", "b.avi"]], dict(dtype=UTF8)),
    ],
)
def test_dataset_is_written_in_place(file: h5py.File, data: Any, keywords: dict[str, Any]) -> None:
    """The object stays, with all that refers to it."""
    dataset = file.create_dataset("group/paths", data=data, **keywords)
    dataset.attrs["starting_frame"] = [0, 10]
    reference, dtype, shape = dataset.ref, dataset.dtype, dataset.shape
    paths = ["folder/ein_langer_name_0.avi", "folder/ein_langer_name_1.avi"]
    written = write_in_place(dataset, paths)
    assert written == dataset
    assert file[reference] == file["group/paths"]
    assert (written.dtype, written.shape) == (dtype, shape)
    assert read_paths(file["group/paths"]) == (paths, shape)
    assert file["group/paths"].attrs["starting_frame"].tolist() == [0, 10]


@pytest.mark.parametrize("dtype", [UTF8, ASCII, "S60"])
def test_scalar_is_written_in_place(file: h5py.File, dtype: Any) -> None:
    dataset = file.create_dataset("text", data="a.avi", dtype=dtype)
    reference = dataset.ref
    write_in_place(dataset, ["folder/name.avi"])
    assert read_paths(file["text"]) == (["folder/name.avi"], ())
    assert file[reference] == file["text"]


@pytest.mark.parametrize("dtype", [UTF8, "S5"])
def test_missing_dataset_is_created(file: h5py.File, dtype: Any) -> None:
    dataset = file.create_dataset("paths", shape=(0,), dtype=dtype)
    assert read_paths(write_in_place(dataset, [])) == ([], (0,))


def test_null_dataspace_is_replaced(tmp_path: Path) -> None:
    """In a process of its own: HDF5 takes the whole one down if it is told to write there."""
    code = """
import sys, h5py
from nwb_extfiles.nwb.path_datasets import read_paths, write_in_place
with h5py.File(sys.argv[1], "w") as file:
    dataset = file.create_dataset("paths", data=h5py.Empty(h5py.string_dtype()))
    print(read_paths(write_in_place(dataset, [])))
"""
    assert run_python(code, tmp_path / "x.h5").strip() == "([], (0,))"


@pytest.mark.parametrize(
    ("data", "keywords", "paths"),
    [
        (np.array([b"a.avi", b"b.avi"]), {}, ["a.avi", "longer.avi"]),
        (np.array([b"a.avi", b"b.avi"]), {}, ["a.avi", "ä.av"]),  # of the same length in bytes
        (np.array([b"a.avi", b"b.avi"]), dict(chunks=(1,), maxshape=(None,), compression="gzip"), ["longer.avi"] * 2),
        (np.array([b"a.avi", b"b.avi"]), dict(chunks=(1,), fletcher32=True), ["longer.avi"] * 2),
        (["a.avi", "b.avi"], dict(dtype=ASCII), ["a.avi", "ä.avi"]),
        (["a.avi"], dict(dtype=h5py.string_dtype("utf-8", 5)), ["ä.avi"]),  # six bytes
        (np.bytes_(b"a.avi"), {}, ["longer.avi"]),
        (np.array([[b"a.avi"], [b"b.avi"]]), {}, ["longer.avi"] * 2),
    ],
)
def test_dataset_is_recreated_where_path_does_not_fit(
    file: h5py.File, data: Any, keywords: dict[str, Any], paths: list[str]
) -> None:
    """Nothing is cut off: the dataset is made again, with its attributes and like storage."""
    dataset = file.create_dataset("group/paths", data=data, **keywords)
    dataset.attrs["starting_frame"] = [0, 10]
    dataset.attrs["unit"] = "n.a."
    shape, settings = dataset.shape, (dataset.chunks, dataset.maxshape, dataset.compression)
    written = write_in_place(dataset, paths)
    assert written == file["group/paths"]
    assert read_paths(written) == (paths, shape)
    kind = h5py.check_string_dtype(written.dtype)
    assert (kind.encoding, kind.length) == ("utf-8", None)
    assert dict(written.attrs)["unit"] == "n.a."
    assert written.attrs["starting_frame"].tolist() == [0, 10]
    assert (written.chunks, written.maxshape, written.compression) == settings


def test_failure_leaves_the_old_dataset(file: h5py.File, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one goes only when the new one is there."""
    dataset = file.create_dataset("group/paths", data=np.array([b"a.avi"]))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "create_dataset", fail)
        with pytest.raises(OSError, match="No space left"):
            write_in_place(dataset, ["longer.avi"])
    assert list(file["group"]) == ["paths"]
    assert read_paths(file["group/paths"]) == (["a.avi"], (1,))


def test_soft_links_point_to_recreated_dataset(file: h5py.File) -> None:
    dataset = file.create_dataset("group/paths", data=np.array([b"a.avi"]))
    file["soft"] = h5py.SoftLink("/group/paths")
    write_in_place(dataset, ["longer.avi"])
    for name in ("group/paths", "soft"):
        assert read_paths(file[name]) == (["longer.avi"], (1,))


def test_bytes_not_utf8_round_trip(file: h5py.File) -> None:
    for name, keywords in (("vlen", dict(dtype=UTF8)), ("fixed", {})):
        dataset = file.create_dataset(name, data=np.array([b"x" * 20]), **keywords)
        write_in_place(dataset, [ESCAPED])
        assert read_paths(file[name]) == ([ESCAPED], (1,))
        assert file[name][()].tolist() == [NOT_UTF8]


def test_paths_as_long_as_their_storage(file: h5py.File) -> None:
    """A text as long as its storage fits; it is not cut."""
    dataset = file.create_dataset("paths", data=np.array([b"12345"]))
    assert write_in_place(dataset, ["abcde"]) == dataset
    assert read_paths(dataset) == (["abcde"], (1,))
    terminated = padded(file, "terminated", [b"1234"], 5, h5py.h5t.STR_NULLTERM)
    written = write_in_place(terminated, ["abcde"])  # one of these five bytes is for the end
    assert read_paths(file["terminated"]) == (["abcde"], (1,))
    assert written == file["terminated"]


@pytest.mark.parametrize(
    ("dtype", "text", "answer"),
    [
        (UTF8, "ä" * 5000, True),
        (ASCII, "a" * 5000, True),
        (ASCII, "ä", False),
        ("S5", "abcde", True),
        ("S5", "abcdef", False),
        ("S5", "ä", False),
        (h5py.string_dtype("utf-8", 5), "ääa", True),
        (h5py.string_dtype("utf-8", 5), "äää", False),
    ],
)
def test_path_fits_in_dtype(file: h5py.File, dtype: Any, text: str, answer: bool) -> None:
    assert fits(file.create_dataset("paths", shape=(1,), dtype=dtype), [text]) is answer

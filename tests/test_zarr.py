"""NWB files in Zarr stores: written, exported, edited and found, judged by zarr, JSON and hashes alone."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numcodecs.pickles
import numpy as np
import pytest
import zarr
from hdmf_zarr import NWBZarrIO, ZarrDataIO
from helpers import digest, image_series, new_nwbfile, play, set_texts, stored_texts, tree, write_nwb
from makers import WAYS, Media, arguments_of, quiet, run_maker, run_python, write_everywhere
from pynwb import NWBHDF5IO, get_manager
from pynwb.base import ExternalImage, ImageReferences, Images

from nwb_extfiles import (
    DestinationBusyError,
    ExternalFilesWarning,
    MissingMediaError,
    NWBExtFilesHDF5IO,
    NWBExtFilesZarrIO,
    RelocationRefusedError,
    TransferError,
)
from nwb_extfiles.references import ExternalFileReference, find_in_file
from nwb_extfiles.stores import edit_texts, find_nwb_files, open_nwb
from nwb_extfiles.transfer import recover

pytestmark = [
    # of hdmf-zarr and pynwb
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("error::nwb_extfiles.ExternalFilesWarning"),
]
MODES = ("symlink", "hardlink", "copy", "move", "reference")
DATASET = "acquisition/video/external_file"
UNLINKED = {"link_data": False}


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """hdmf-zarr pickles object references; reading them needs this declaration."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)


# ------------------------------------------------------------------ the judge


def texts_in(store: Path, dataset: str = DATASET) -> list[str]:
    """The texts in a store, read by zarr from its files alone, and from what is consolidated."""
    plain = zarr.open_group(str(store), mode="r")[dataset]
    if (store / ".zmetadata").exists():
        assert_consolidated(store)
        assert zarr.open_consolidated(str(store))[dataset][()].tolist() == plain[()].tolist()
    return [str(text) for text in plain[()].ravel().tolist()]


def assert_consolidated(store: Path) -> None:
    """`.zmetadata` says what the files of the store say, all of it."""
    known = json.loads((store / ".zmetadata").read_bytes())["metadata"]
    files = [path for name in (".zgroup", ".zarray", ".zattrs") for path in store.rglob(name)]
    assert known == {path.relative_to(store).as_posix(): json.loads(path.read_bytes()) for path in files}


def assert_leads_to(store: Path, expected: list[Path], dataset: str = DATASET) -> None:
    texts = texts_in(store, dataset)
    assert len(texts) == len(expected)
    for text, film in zip(texts, expected, strict=True):
        assert digest(store.parent / text) == digest(film), text


def nothing_left(folder: Path) -> bool:
    return not list(folder.rglob(".nwb-extfiles-*"))


def references(path: Path) -> list[ExternalFileReference]:
    with open_nwb(path) as file:
        return find_in_file(file)


def without_path(found: list[ExternalFileReference]) -> list[ExternalFileReference]:
    return [replace(reference, nwb_path="") for reference in found]


# -------------------------------------------------------------------- sources


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "nwbfiles" / "a.nwb", [f"../video_files/test1_{n}.avi" for n in (0, 1)])


@pytest.fixture
def source_store(tmp_path: Path, video_files: Path) -> Path:
    """A store that hdmf-zarr wrote."""
    path = tmp_path / "nwbfiles" / "s.nwb.zarr"
    write_store(path, [f"../video_files/test1_{n}.avi" for n in (0, 1)])
    return path


def write_store(path: Path, texts: Any, io_class: type = NWBZarrIO, **kwargs: Any) -> Path:
    nwbfile = new_nwbfile()
    series = image_series(["x"])
    series.fields["external_file"] = texts
    nwbfile.add_acquisition(series)
    path.parent.mkdir(exist_ok=True)
    with io_class(str(path), "w") as io:
        io.write(nwbfile, **kwargs)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "dandiset" / "sub-mouse0" / "sub-mouse0_ses-s.nwb.zarr"


def open_source(path: Path) -> Any:
    return NWBZarrIO(str(path), "r") if path.is_dir() else NWBHDF5IO(path, "r")


def export(source: Path, target: Path, **kwargs: Any) -> Any:
    io_class = NWBExtFilesZarrIO if target.suffix == ".zarr" else NWBExtFilesHDF5IO
    if source.is_dir() != (target.suffix == ".zarr"):
        kwargs.setdefault("write_args", UNLINKED)
    with open_source(source) as src_io, io_class(target, "w") as io:
        io.export(src_io=src_io, **kwargs)
    return io


# ------------------------------------------------------------ write and export


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["hdf5-zarr", "zarr-zarr", "zarr-hdf5"])
def test_modes(
    tmp_path: Path, source: Path, source_store: Path, target: Path, films: list[Path], video_files: Path,
    mode: str, way: str,
) -> None:  # fmt: skip
    before = tree(tmp_path)
    of, to = way.split("-")
    path = target if to == "zarr" else target.with_name("sub-mouse0_ses-s.nwb")
    chosen = source if of == "hdf5" else source_store
    if mode == "move":
        with pytest.warns(ExternalFilesWarning, match="stays behind"):
            io = export(chosen, path, relocate_media=True, media_mode=mode)
    else:
        io = export(chosen, path, relocate_media=True, media_mode=mode)
    texts = texts_in(path) if to == "zarr" else stored_texts(path)
    for text, film in zip(texts, films[:2], strict=True):
        assert digest(path.parent / text) == digest(film)
    if mode == "reference":
        assert texts == [f"../../video_files/test1_{n}.avi" for n in (0, 1)]
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    else:
        owner = zarr.open(str(chosen), "r")["acquisition/video"].attrs if of == "zarr" else None
        uuid = owner["object_id"] if owner else h5_object_id(chosen)
        assert texts == [f"sub-mouse0_ses-s/{uuid}_external_file_{n}.avi" for n in (0, 1)]
        first = path.parent / texts[0]
        assert first.is_symlink() == (mode == "symlink")
        assert (first.stat().st_nlink > 1) == (mode == "hardlink")
        assert play(first) == 10
    after = tree(tmp_path)
    moved = {f"video_files/test1_{n}.avi" for n in (0, 1)} if mode == "move" else set()
    assert {name: after.get(name) for name in before if name not in moved} == {
        name: what for name, what in before.items() if name not in moved
    }
    assert nothing_left(tmp_path)
    assert io.relocation is not None
    assert [entry.text for entry in io.relocation.relocations] == texts
    if to == "zarr":
        assert io.path == str(path)


def h5_object_id(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file["acquisition/video"].attrs["object_id"])


@pytest.mark.parametrize("kind", ["list", "paths", "numpy", "array", "objects", "bytes", "tuple", "data_io"])
def test_new_containers(tmp_path: Path, video_files: Path, films: list[Path], kind: str) -> None:
    paths = [video_files / "test1_0.avi", video_files / "test1_1.avi"]
    texts = [str(path) for path in paths]
    values = {
        "list": texts,
        "paths": paths,
        "numpy": [np.str_(text) for text in texts],
        "array": np.array(texts),
        "objects": np.array(texts, dtype=object),
        "bytes": [text.encode() for text in texts],
        "tuple": tuple(texts),
        "data_io": ZarrDataIO(texts, chunks=(1,)),
    }[kind]
    store = write_store(
        tmp_path / "ds" / "a.nwb.zarr", values, NWBExtFilesZarrIO, relocate_media=True, media_mode="copy"
    )
    assert_leads_to(store, films[:2])
    if kind == "data_io":
        assert zarr.open(str(store), "r")[DATASET].chunks == (1,)


@pytest.mark.parametrize("relocate", [True, False])
@pytest.mark.parametrize(
    "storage",
    [
        {"dtype": h5py.string_dtype()},
        {"dtype": h5py.string_dtype("ascii")},
        {"dtype": "S64"},
        {"dtype": h5py.string_dtype(), "chunks": (1,), "maxshape": (None,), "compression": "gzip"},
    ],
)
@pytest.mark.parametrize("way", WAYS[:1] + WAYS[-1:])
def test_string_storage_of_hdf5(
    source: Path, target: Path, films: list[Path], storage: dict[str, Any], relocate: bool, way: str
) -> None:
    """hdmf-zarr alone writes "b'a.avi'" for texts that HDF5 gives as bytes."""
    texts = [f"../video_files/test1_{n}.avi".encode() for n in (0, 1)]
    set_texts(source, DATASET, texts, **storage)
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
        arguments = {**arguments_of(way, src_io), "write_args": UNLINKED}
        how = {"relocate_media": True, "media_mode": "copy"} if relocate else {"relocate_media": False}
        io.export(src_io=src_io, **arguments, **how)
    if relocate:
        assert_leads_to(target, films[:2])
    else:
        assert texts_in(target) == [text.decode() for text in texts]
    if "chunks" in storage:
        assert zarr.open(str(target), "r")[DATASET].chunks == (1,)


def test_no_texts(tmp_path: Path, source: Path, target: Path) -> None:
    set_texts(source, DATASET, h5py.Empty(h5py.string_dtype()))  # which hdmf-zarr cannot write
    with pytest.warns(ExternalFilesWarning, match="nothing to relocate"):
        export(source, target, relocate_media=True)
    assert texts_in(target) == []


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_export_a_store(source_store: Path, target: Path, films: list[Path], way: str) -> None:
    before = tree(source_store)
    with NWBZarrIO(str(source_store), "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
        arguments = arguments_of(way, src_io, ["video"])
        given = dict(arguments.get("write_args", {}))
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
        assert arguments.get("write_args", {}) == given
    assert_leads_to(target, films[:2])
    assert tree(source_store) == before
    with NWBZarrIO(str(target), "r") as io:
        read = io.read()
        assert read.file_create_date
        assert list(read.acquisition["video"].external_file[:]) == texts_in(target)


@pytest.mark.parametrize("to", ["zarr", "zarr-zarr", "hdf5"])
def test_media_everywhere(tmp_path: Path, to: str) -> None:
    """Every type of the core, ExternalImage and its object references among them."""
    source = write_everywhere(tmp_path / "nwbfiles" / "a.nwb", Media(tmp_path / "media"))
    store = tmp_path / "one" / "b.nwb.zarr"
    export(source, store, relocate_media=True, media_mode="copy")
    path = store
    if to == "zarr-zarr":
        path = tmp_path / "two" / "b.nwb.zarr"
        export(store, path, relocate_media=True, media_mode="symlink")
    elif to == "hdf5":
        path = tmp_path / "two" / "b.nwb"
        export(store, path, relocate_media=True, media_mode="copy")
    old, new = references(source), references(path)
    assert len(new) == len(old) == 24
    for was, now in zip(old, new, strict=True):
        assert now.text == f"b/{was.object_id}_external_file_{was.index}{Path(was.text).suffix.lower()}"
        assert (now.object_path, now.neurodata_type, now.object_id) == (
            was.object_path,
            was.neurodata_type,
            was.object_id,
        )
        assert digest(path.parent / now.text) == digest(source.parent / was.text)
    with open_source(path) as io:
        read = io.read()
        order = read.acquisition["pictures"].order_of_images.data
        assert [image.name for image in order[:]] == ["picture2", "picture0", "picture1"]
        assert read.acquisition["pictures"].images["picture0"].data == next(
            now.text for now in new if now.object_path == "/acquisition/pictures/picture0"
        )


@pytest.mark.parametrize("what", ["pose", "extension"])
def test_types_of_extensions(tmp_path: Path, what: str) -> None:
    """Their specifications are known from the file alone; of a Zarr store too."""
    source = tmp_path / "nwbfiles" / "a.nwb"
    run_maker(what, source)
    further = {"media_fields": [("FilmArchive", "film_paths")]}
    first, second = tmp_path / "one" / "b.nwb.zarr", tmp_path / "two" / "b.nwb.zarr"
    export(source, first, relocate_media=True, media_mode="copy", media_options=further)
    export(first, second, relocate_media=True, media_mode="copy", media_options=further)
    old = references(source)
    for path in (first, second):
        new = references(path)
        assert [(now.object_path, now.field, now.index) for now in new] == [
            (was.object_path, was.field, was.index) for was in old
        ]
        for was, now in zip(old, new, strict=True):
            assert now.text.startswith("b/")
            place = Path(was.text) if was.text.startswith("/") else source.parent / was.text
            assert digest(path.parent / now.text) == digest(place)
    if what == "extension":
        texts = texts_in(second, "processing/behavior/archive/film_paths")
        assert all(text.startswith("b/") for text in texts)
        assert (first.parent / texts[0]).exists()


def test_urls_keep_their_place(tmp_path: Path, video_files: Path, films: list[Path]) -> None:
    store = tmp_path / "ds" / "a.nwb.zarr"
    url = "https://example.org/film.avi"
    write_store(
        store, [url, str(video_files / "test1_0.avi"), url], NWBExtFilesZarrIO, relocate_media=True, media_mode="copy"
    )
    texts = texts_in(store)
    assert texts[::2] == [url, url]
    assert texts[1].endswith("_external_file_1.avi")
    assert digest(store.parent / texts[1]) == digest(films[0])


def test_defaults_of_the_constructor_and_a_manager_of_ones_own(source: Path, target: Path, films: list[Path]) -> None:
    with (
        NWBHDF5IO(source, "r") as src_io,
        NWBExtFilesZarrIO(target, "w", get_manager(), relocate_media=True, media_mode="copy") as io,
    ):
        io.export(src_io=src_io, write_args=UNLINKED)
    assert_leads_to(target, films[:2])
    with pytest.raises(ValueError, match="manager of its own"):
        NWBExtFilesZarrIO(target, "r", get_manager(), resolve_media=True)
    with pytest.raises(ValueError, match="media_mode='copy' was given"):
        NWBExtFilesZarrIO(target, "r", relocate_media=False, media_mode="copy")


def test_resolved_when_read(source_store: Path, video_files: Path, target: Path) -> None:
    with NWBExtFilesZarrIO(source_store, "r", resolve_media=True) as io:
        paths = io.read().acquisition["video"].external_file
        assert [Path(path) for path in paths] == [video_files / f"test1_{n}.avi" for n in (0, 1)]
        with NWBExtFilesZarrIO(target, "w") as to:  # what is stored is written again, not what was resolved
            to.export(src_io=io, nwbfile=io.read(), relocate_media=False)
    assert texts_in(target) == [f"../video_files/test1_{n}.avi" for n in (0, 1)]


def test_drop_in(tmp_path: Path) -> None:
    """Without media the store is that of hdmf-zarr, file for file."""
    nwbfile = new_nwbfile()
    nwbfile.create_device(name="camera")
    source = tmp_path / "a.nwb"
    with NWBHDF5IO(source, "w") as io:
        io.write(nwbfile)
    for name, io_class in (("theirs", NWBZarrIO), ("ours", NWBExtFilesZarrIO)):
        with NWBHDF5IO(source, "r") as src_io, io_class(str(tmp_path / name / "x.nwb.zarr"), "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED))
        again = new_nwbfile()
        again.object_id  # noqa: B018
        with NWBHDF5IO(source, "r") as src_io, io_class(str(tmp_path / name / "y.nwb.zarr"), "w") as io:
            read = src_io.read()
            read.set_modified()
            io.export(src_io=src_io, nwbfile=read, write_args=dict(UNLINKED))
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
    assert len(tree(tmp_path / "ours")) > 50


def test_links_inside_are_those_of_hdmf_zarr(tmp_path: Path) -> None:
    """A link in a new store leads to the place in that store, whatever it is called."""
    source = tmp_path / "nwbfiles" / "a.nwb"
    write_everywhere(source, Media(tmp_path / "media"))
    stores = []
    for name, io_class in (("theirs", NWBZarrIO), ("ours", NWBExtFilesZarrIO)):
        stores.append(tmp_path / name / "x.nwb.zarr")
        with quiet(), NWBHDF5IO(source, "r") as src_io, io_class(str(stores[-1]), "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED))
    theirs, ours = ({k: v for k, v in tree(store).items() if k.endswith((".zattrs", ".zarray"))} for store in stores)
    assert ours == theirs


def test_a_store_with_new_links_is_read_after_it_is_renamed(tmp_path: Path, video_files: Path) -> None:
    source = tmp_path / "a.nwb.zarr"
    nwbfile = new_nwbfile()
    pictures = [ExternalImage(name=f"p{n}", data="https://example.org/p.png", image_format="PNG") for n in range(2)]
    order = ImageReferences(name="order_of_images", data=pictures[::-1])
    nwbfile.add_acquisition(Images(name="pictures", images=pictures, order_of_images=order))
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")], "one"))
    masked = image_series([], "two")
    nwbfile.add_acquisition(masked)
    from pynwb.behavior import BehavioralEvents

    nwbfile.create_processing_module("behavior", "b").add(BehavioralEvents(time_series=nwbfile.acquisition["one"]))
    with NWBExtFilesZarrIO(source, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    moved = source.rename(tmp_path / "b.nwb.zarr")
    link = zarr.open(str(moved), "r")["processing/behavior/BehavioralEvents"].attrs["zarr_link"]
    assert link == [{"name": "one", "path": "/acquisition/one", "source": "."}]
    with NWBZarrIO(str(moved), "r") as io:
        read = io.read()
        assert [image.name for image in read.acquisition["pictures"].order_of_images.data[:]] == ["p1", "p0"]
        assert read.processing["behavior"]["BehavioralEvents"]["one"] is read.acquisition["one"]


# -------------------------------------------------------------------- refusals


def test_a_link_that_would_break_is_refused(source: Path, source_store: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    for of in (source, source_store):
        with pytest.raises(RelocationRefusedError, match="would not be found") as caught:
            export(of, tmp_path / "far" / "away" / "b.nwb.zarr")
        assert len(caught.value.problems) == 2
    assert tree(tmp_path) == before


def test_false_writes_verbatim(source: Path, source_store: Path, tmp_path: Path) -> None:
    for number, of in enumerate((source, source_store)):
        target = tmp_path / "far" / f"away{number}" / "b.nwb.zarr"
        export(of, target, relocate_media=False)
        assert texts_in(target) == [f"../video_files/test1_{n}.avi" for n in (0, 1)]


def test_links_that_stay_right_go_through(source: Path, tmp_path: Path, films: list[Path]) -> None:
    export(source, tmp_path / "other" / "b.nwb.zarr")
    assert_leads_to(tmp_path / "other" / "b.nwb.zarr", films[:2])


def test_missing_media_are_told_before_anything(source: Path, target: Path, tmp_path: Path, video_files: Path) -> None:
    export(source, target, relocate_media=True, media_mode="copy")
    (video_files / "test1_1.avi").unlink()
    before = tree(tmp_path)
    with pytest.raises(MissingMediaError, match=r"external_file\[1\]"):
        export(source, target, relocate_media=True, media_mode="copy")
    assert tree(tmp_path) == before


def test_in_a_dandiset_media_have_their_place(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "dandiset").mkdir()
    (tmp_path / "dandiset" / "dandiset.yaml").write_text("identifier: '000000'\n")
    with pytest.raises(RelocationRefusedError, match="media belong in the dandiset"):
        export(source, target)
    export(source, target, relocate_media=True, media_mode="copy")
    again = tmp_path / "dandiset" / "sub-b" / target.name
    with pytest.raises(RelocationRefusedError, match=r"would not be found|media belong"):
        export(target, again)


def test_a_store_cannot_replace_what_it_is_made_from(source_store: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="cannot be replaced by a file that is made from it"):
        export(source_store, source_store, relocate_media=True)
    assert tree(tmp_path) == before


def test_a_folder_of_something_else_is_not_replaced(source: Path, tmp_path: Path) -> None:
    """hdmf-zarr removes it, with all that is in it."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("a life's work")
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="no Zarr store, and would be removed"):
        NWBExtFilesZarrIO(tmp_path / "thesis", "w")
    assert tree(tmp_path) == before
    (tmp_path / "empty").mkdir()
    export(source, tmp_path / "empty" / "b.nwb.zarr", relocate_media=False)


def test_a_file_in_the_way_is_hdmf_zarrs_affair(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.nwb.zarr"
    path.write_bytes(source.read_bytes())
    before = digest(path)
    with pytest.raises(Exception, match=r"zarr") as theirs:
        NWBZarrIO(str(path), "w")
    with pytest.raises(type(theirs.value)):
        NWBExtFilesZarrIO(path, "w")
    assert digest(path) == before


def test_exclusive(source: Path, target: Path) -> None:
    nwbfile = new_nwbfile()
    with NWBExtFilesZarrIO(target, "w-") as io:
        io.write(nwbfile)
    before = tree(target.parent)
    with pytest.raises(FileExistsError), NWBExtFilesZarrIO(target, "w-") as io:
        io.write(new_nwbfile())
    assert tree(target.parent) == before


def test_two_at_once(target: Path) -> None:
    with NWBExtFilesZarrIO(target, "w") as io:
        with pytest.raises(DestinationBusyError):
            NWBExtFilesZarrIO(target, "w")
        io.write(new_nwbfile())
    assert target.is_dir()


def test_store_objects_are_as_ever(tmp_path: Path, video_files: Path, films: list[Path]) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    store = tmp_path / "ds" / "a.nwb.zarr"
    with NWBExtFilesZarrIO(zarr.DirectoryStore(str(store)), "w") as io:
        assert store.is_dir()
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_leads_to(store, films[:1])
    assert nothing_left(tmp_path)
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    with (
        pytest.raises(RelocationRefusedError, match="no place beside it"),
        NWBExtFilesZarrIO(zarr.TempStore(), "w") as io,
    ):
        io.write(nwbfile, relocate_media=True, media_mode="copy")


def test_nested_stores(tmp_path: Path, video_files: Path, films: list[Path]) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    store = tmp_path / "ds" / "a.nwb.zarr"
    with NWBExtFilesZarrIO(zarr.NestedDirectoryStore(str(store)), "w") as io:
        io.write(nwbfile, relocate_media=False)
    with NWBExtFilesZarrIO(store, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert_leads_to(store, films[:1])


# -------------------------------------------------------------- all or nothing


@pytest.fixture
def hard_to_export(tmp_path: Path) -> Path:
    """A store whose object references stand in the way of an export that does not trust it, after much is written."""
    path = tmp_path / "hard" / "a.nwb.zarr"
    export(write_everywhere(tmp_path / "nwbfiles" / "h.nwb", Media(tmp_path / "media")), path, relocate_media=False)
    (tmp_path / "hard" / "media").mkdir()
    return path


def test_a_failing_export_leaves_the_old_store(
    tmp_path: Path, hard_to_export: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hdmf-zarr alone has destroyed it by then."""
    target.parent.mkdir(parents=True)
    for path in (target, target.with_name("theirs.nwb.zarr")):
        write_store(path, ["https://example.org/x.avi"])
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", False)
    before = tree(tmp_path)
    how = {"relocate_media": True, "media_mode": "copy", "media_options": {"search": [tmp_path / "nwbfiles"]}}
    with pytest.raises(Exception, match="unpickling"):
        export(hard_to_export, target, **how)
    assert tree(tmp_path) == before
    with (
        pytest.raises(Exception, match="unpickling"),
        NWBZarrIO(str(hard_to_export), "r") as src_io,
        NWBZarrIO(str(target.with_name("theirs.nwb.zarr")), "w") as io,
    ):
        io.export(src_io=src_io)
    assert tree(target.with_name("theirs.nwb.zarr")) != {
        name.partition("theirs.nwb.zarr/")[2]: what for name, what in before.items() if "theirs.nwb.zarr/" in name
    }
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    export(hard_to_export, target, **how)
    assert len(references(target)) == 24


def test_an_interrupt_in_the_body_leaves_what_was(source: Path, target: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    for _ in range(2):  # without a store there, and with one
        with (
            pytest.raises(KeyboardInterrupt),
            NWBHDF5IO(source, "r") as src_io,
            NWBExtFilesZarrIO(target, "w") as io,
        ):
            io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=True, media_mode="copy")
            raise KeyboardInterrupt
        assert tree(tmp_path) == before
        export(source, target, relocate_media=True, media_mode="copy")
        before = tree(tmp_path)


def test_what_has_come_to_stand_there_is_not_replaced(source: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="has come to be no folder"):
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=True, media_mode="copy")
            target.write_text("somebody else's")
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.read_text() == "somebody else's"


def test_nothing_written_nothing_made(target: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    NWBExtFilesZarrIO(target, "w").close()
    assert tree(tmp_path) == before


def run_apart(job: Callable[[], object]) -> int:
    """Do a job in a process of its own, forked because imports take longer than the jobs; its exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            job()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


STEPS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")


def die_at(step: int, folder: Path) -> None:
    """End this process, as a kill would, before it changes a name in a folder for the n-th time from now."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        # rmtree names what it removes relative to an open folder
        if event in STEPS and (str(arguments[0]).startswith(str(folder)) or arguments[-1] not in (-1, None)):
            count += 1
            if count == step:
                os._exit(9)

    sys.addaudithook(hook)


def killed_steps(job: Callable[[Callable[[], None]], None], folder: Path, restore: Callable[[], None]) -> Iterator[int]:
    """Run a job again and again, each time killed one step later, until one comes to its end."""
    for step in range(1, 10_000):
        restore()
        if run_apart(lambda step=step: job(lambda: die_at(step, folder))) == 0:
            return
        yield step


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.parametrize("previous", ["none", "store"])
@pytest.mark.parametrize("then", ["export", "recover"])
def test_killed_at_each_step(
    source: Path, target: Path, tmp_path: Path, films: list[Path], previous: str, then: str
) -> None:
    """After each there is the former store or the new one with its films, now or by the next call."""
    kept = tmp_path / "kept"
    target.parent.mkdir(parents=True)
    if previous == "store":
        write_store(target, ["sub-mouse0_ses-s/old.avi"])
        (target.parent / "sub-mouse0_ses-s").mkdir()
        shutil.copy(films[5], target.parent / "sub-mouse0_ses-s" / "old.avi")
    shutil.copytree(target.parent, kept)
    former = tree(kept)
    export(source, target, relocate_media=True, media_mode="copy")
    uuid = h5_object_id(source)

    def restore() -> None:
        shutil.rmtree(target.parent)
        shutil.copytree(kept, target.parent)

    def job(begin: Callable[[], None]) -> None:
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=True, media_mode="copy")
            begin()

    seen = set()
    for step in killed_steps(job, target.parent, restore):
        if target.exists():
            is_new = texts_in(target)[0].startswith(f"sub-mouse0_ses-s/{uuid}")
            seen.add("new" if is_new else "former")
            if is_new:
                assert_leads_to(target, films[:2])
            else:
                assert tree(target) == tree(kept / target.name)
        else:
            seen.add("none")
        if step > 40 and step % 25:
            continue  # in the middle of removing the former store
        if then == "recover":
            recover(target)
            if target.exists() and texts_in(target)[0].startswith(f"sub-mouse0_ses-s/{uuid}"):
                assert_leads_to(target, films[:2])
            else:
                assert {name: tree(target.parent).get(name) for name in former} == former
        export(source, target, relocate_media=True, media_mode="copy")
        assert_leads_to(target, films[:2])
        assert nothing_left(tmp_path)
        if previous == "store":
            assert digest(target.parent / "sub-mouse0_ses-s" / "old.avi") == digest(films[5])
    assert seen == ({"former", "none", "new"} if previous == "store" else {"none", "new"})


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_killed_between_the_renames_then_opened(source: Path, target: Path) -> None:
    """Whoever opens it with this package finds the former store again."""
    target.parent.mkdir(parents=True)
    write_store(target, ["https://example.org/x.avi"])
    before = tree(target)

    def job() -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if (event == "os.rename" and arguments[1] == str(target)) or arguments[1:2] == (target,):
                os._exit(9)

        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=False)
            sys.addaudithook(hook)

    assert run_apart(job) == 9
    assert not target.exists()
    with NWBExtFilesZarrIO(target, "r") as io:
        assert io.read().acquisition["video"]
    assert tree(target) == before
    assert nothing_left(target.parent)


def test_a_staging_folder_that_came_with_a_download(source: Path, target: Path, tmp_path: Path) -> None:
    """What is called like a former document but is none is not put in its place."""
    export(source, target, relocate_media=True, media_mode="copy")
    with NWBExtFilesZarrIO(target, "w") as io:
        staging = next(path for path in target.parent.glob(".nwb-extfiles-*") if not path.suffix)
        io.write(new_nwbfile())
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    staging.mkdir()
    (staging / "replaced").symlink_to(outside)
    shutil.move(target, tmp_path / "away.nwb.zarr")
    before = tree(tmp_path)
    with pytest.raises(TransferError, match="in the way"):
        NWBExtFilesZarrIO(target, "w")
    after = tree(tmp_path)
    assert after == before
    (staging / "replaced").unlink()
    shutil.move(tmp_path / "away.nwb.zarr", target)
    # nor are files put back into the store, as media that a transfer had put aside
    (staging / "former" / target.name / "acquisition").mkdir(parents=True)
    (staging / "former" / target.name / "acquisition" / ".zattrs").write_text("{}")
    (staging / "unfinished").touch()
    before = tree(target)
    with pytest.raises(TransferError, match="in the way"):
        NWBExtFilesZarrIO(target, "r+")
    assert tree(target) == before
    shutil.rmtree(staging)
    # a link where the new store is staged is removed, not followed
    staging.with_name(f"{staging.name}.zarr").symlink_to(outside)
    export(source, target, relocate_media=True, media_mode="copy")
    assert tree(outside) == {"precious": digest(outside / "precious")}
    assert nothing_left(tmp_path)


def test_a_file_takes_the_name_of_a_killed_store(source: Path, tmp_path: Path) -> None:
    """The staging folder goes by the name of the document, of whichever kind that was."""
    target = tmp_path / "ds" / "a.nwb"
    target.parent.mkdir()

    def job() -> None:
        io = NWBExtFilesZarrIO(target, "w")
        io.write(new_nwbfile())
        os._exit(9)

    if sys.platform != "win32":
        assert run_apart(job) == 9
        assert len(list(target.parent.glob(".nwb-extfiles-*"))) == 2
    export(source, target, relocate_media=True, media_mode="copy")
    assert target.is_file()
    assert nothing_left(tmp_path)


# --------------------------------------------------------------- in place: r+


@pytest.mark.parametrize("mode", ["r+", "a"])
def test_in_place(source_store: Path, films: list[Path], video_files: Path, mode: str) -> None:
    before = tree(source_store)
    with NWBExtFilesZarrIO(source_store, mode, relocate_media=True, media_mode="copy") as io:
        nwbfile = io.read()
        io.write(nwbfile)
    assert_leads_to(source_store, films[:2])
    changed = {name for name, what in tree(source_store).items() if what != before.get(name)}
    # hdmf-zarr puts the specifications in anew
    assert {name for name in changed if not name.startswith("specifications")} == {f"{DATASET}/0"}
    with NWBExtFilesZarrIO(source_store, mode, relocate_media=True, media_mode="copy") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
        io.write(nwbfile)
    assert_leads_to(source_store, films[:2])
    assert_leads_to(source_store, films[2:3], "acquisition/new/external_file")
    assert nothing_left(source_store.parent)


def test_in_place_fails_whole(source_store: Path, tmp_path: Path, video_files: Path) -> None:
    """A new object whose media are not there does not stay in the store."""
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), NWBExtFilesZarrIO(source_store, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
        io.write(nwbfile, relocate_media=True, media_mode="copy")
        raise KeyboardInterrupt
    assert texts_in(source_store) == [f"../video_files/test1_{n}.avi" for n in (0, 1)]
    assert not (source_store / "acquisition" / "new").exists()
    assert_consolidated(source_store)
    after = tree(tmp_path)
    assert {name for name in after if after[name] != before.get(name) and "/specifications/" not in name} == set()


def test_in_place_with_missing_media_changes_nothing(source_store: Path, tmp_path: Path, video_files: Path) -> None:
    (video_files / "test1_0.avi").unlink()
    before = tree(tmp_path)
    with pytest.raises(MissingMediaError), NWBExtFilesZarrIO(source_store, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert tree(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_in_place_killed_at_each_step(source_store: Path, tmp_path: Path, films: list[Path]) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(source_store.parent, kept)
    before = texts_in(source_store)

    def restore() -> None:
        shutil.rmtree(source_store.parent)
        shutil.copytree(kept, source_store.parent)

    def job(begin: Callable[[], None]) -> None:
        with NWBExtFilesZarrIO(source_store, "r+") as io:
            io.write(io.read(), relocate_media=True, media_mode="copy")
            begin()

    seen = []
    for _ in killed_steps(job, source_store.parent, restore):
        recover(source_store)
        texts = texts_in(source_store)
        seen.append(texts != before)
        if texts != before:
            assert_leads_to(source_store, films[:2])
        assert nothing_left(source_store.parent) or seen[-1]
        assert_leads_to(source_store, films[:2])
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


# ------------------------------------------------------------- without hdmf-zarr


def test_the_same_references_as_in_hdf5(tmp_path: Path) -> None:
    source = write_everywhere(tmp_path / "raw" / "a.nwb", Media(tmp_path / "media"))
    store = tmp_path / "raw" / "a.nwb.zarr"
    with quiet(), NWBHDF5IO(source, "r") as src_io, NWBZarrIO(str(store), "w") as io:
        io.export(src_io=src_io, write_args=dict(UNLINKED))
    assert without_path(references(store)) == without_path(references(source))
    assert {reference.nwb_path for reference in references(store)} == {str(store)}
    (store / ".zmetadata").unlink()
    assert without_path(references(store)) == without_path(references(source))


def test_links_to_texts(tmp_path: Path, source_store: Path, films: list[Path], video_files: Path) -> None:
    """Inside the store they are texts of the object; out of it they are not followed; edited, they become a dataset."""
    other = source_store.with_name("other.nwb.zarr")
    shutil.copytree(source_store, other)
    for number, link in enumerate(
        (
            {"name": "external_file", "path": "/acquisition/texts", "source": "."},
            {"name": "external_file", "path": "/acquisition/texts", "source": f"../{source_store.name}"},
            {"name": "external_file", "path": f"/{DATASET}", "source": "../other.nwb.zarr"},
            {"name": "external_file", "path": f"/{DATASET}", "source": "../../../../../../etc"},
        )
    ):
        shutil.rmtree(source_store)
        shutil.copytree(other, source_store)
        (source_store / DATASET).rename(source_store / "acquisition" / "texts")
        group = zarr.open_group(str(source_store), mode="r+")["acquisition/video"]
        group.attrs["zarr_link"] = [{"name": "else", "path": "/acquisition", "source": "."}, link]
        zarr.consolidate_metadata(str(source_store))
        found = references(source_store)
        assert [reference.text for reference in found] == (
            [f"../video_files/test1_{n}.avi" for n in (0, 1)] if number < 2 else []
        )
        if number == 3:
            continue
        before = tree(other)
        journal = tmp_path / "journal"
        edit_texts(source_store, {("/acquisition/video", "external_file"): ["x.avi", "y.avi"]}, journal=journal)
        assert texts_in(source_store) == ["x.avi", "y.avi"]
        assert texts_in(source_store, "acquisition/texts")[0].startswith("..")
        assert tree(other) == before
        journal.unlink()


def test_stores_are_found(tmp_path: Path, source_store: Path, source: Path) -> None:
    folder = source_store.parent
    shutil.copytree(source_store, folder / "b.zarr")
    shutil.copytree(source_store, folder / "c.nwb")
    shutil.copytree(source_store, folder / ".hidden.nwb.zarr")
    shutil.copytree(source_store, folder / "no_suffix")
    (folder / "link.nwb.zarr").symlink_to(source_store)
    zarr.open_group(str(folder / "image.ome.zarr"), mode="w").create_group("0")
    (folder / "image.ome.zarr" / "stray.nwb").touch()
    (folder / "s.nwb.zarr" / "stray.nwb").touch()
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / ".zgroup").write_text("{")
    (folder / "v3.nwb.zarr").mkdir()
    (folder / "v3.nwb.zarr" / "zarr.json").write_text('{"attributes": {"neurodata_type": "NWBFile"}}')
    assert [path.name for path in find_nwb_files([folder])] == ["a.nwb", "b.zarr", "c.nwb", "s.nwb.zarr", "v3.nwb.zarr"]
    assert list(find_nwb_files([folder / "image.ome.zarr"])) == [folder / "image.ome.zarr"]
    assert list(find_nwb_files([folder / "no_suffix", source])) == [folder / "no_suffix", source]
    with pytest.raises(OSError, match="format 3"):
        references(folder / "v3.nwb.zarr")
    with pytest.raises(OSError, match="neither a file nor a Zarr store"):
        references(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {".zmetadata": b"{"},
        {".zmetadata": b'{"zarr_consolidated_format": 1, "metadata": [1]}'},
        {".zmetadata": b'{"zarr_consolidated_format": 2}'},
        {f"{DATASET}/0": b"no chunk"},
    ],
)
def test_damaged_stores_are_told_of(source_store: Path, damage: dict[str, bytes]) -> None:
    for name, content in damage.items():
        (source_store / name).write_bytes(content)
    with pytest.raises(OSError, match="is damaged"):
        references(source_store)


def test_nothing_is_unpickled_unasked(tmp_path: Path, source_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores come from anywhere, and a pickle can run any program."""
    root = zarr.open_group(str(source_store), mode="r+")
    attributes = root[DATASET].attrs.asdict()
    texts = np.array(["../video_files/test1_0.avi"], dtype=object)
    array = root.create_dataset(DATASET, data=texts, dtype=object, object_codec=numcodecs.Pickle(), overwrite=True)
    array.attrs.put(attributes)
    zarr.consolidate_metadata(str(source_store))
    assert [reference.text for reference in references(source_store)] == list(texts)
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", False)
    assert references(source_store) == []


@pytest.mark.parametrize("dtype", ["<U40", "|S40", "<U60", "|S60", object])
@pytest.mark.parametrize("journalled", [True, False])
def test_texts_are_edited_and_taken_back(tmp_path: Path, source_store: Path, dtype: Any, journalled: bool) -> None:
    root = zarr.open_group(str(source_store), mode="r+")
    attributes = root[DATASET].attrs.asdict()
    old = ["../video_files/test1_0.avi", "../video_files/test1_1.avi"]
    more = {"object_codec": numcodecs.VLenUTF8()} if dtype is object else {}
    root.create_dataset(DATASET, shape=2, dtype=dtype, chunks=1, overwrite=True, **more)[:] = old
    root[DATASET].attrs.put(attributes)
    zarr.consolidate_metadata(str(source_store))
    before = tree(tmp_path)
    new = [f"a/{'long' * 11}.avi", "b.avi"]
    journal = tmp_path / "staging" / "journal"
    journal.parent.mkdir()
    edit_texts(source_store, {("/acquisition/video", "external_file"): new}, journal=journal if journalled else None)
    stored = zarr.open_group(str(source_store), mode="r")[DATASET]
    assert [text.decode() if isinstance(text, bytes) else text for text in stored[:]] == new
    assert stored.chunks == (1,)
    assert stored.attrs["starting_frame"] == attributes["starting_frame"]
    assert_consolidated(source_store)
    assert [reference.text for reference in references(source_store)] == new
    with NWBZarrIO(str(source_store), "r") as io:
        assert len(io.read().acquisition["video"].external_file) == 2
    assert journal.exists() == journalled
    if journalled:
        from nwb_extfiles.journal import take_back

        assert take_back(source_store, journal)
        journal.parent.rmdir()
        assert tree(tmp_path) == before


def test_a_journal_that_leads_out_of_the_store(tmp_path: Path, source_store: Path, source: Path) -> None:
    from nwb_extfiles.folder_journal import edit_files
    from nwb_extfiles.journal import take_back

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (source_store / "way").symlink_to(outside)
    before = tree(tmp_path)
    for name in (
        "../../outside/precious",
        "/etc/x",
        "way/precious",
        "way/new",
        "a/../../x",
        "",
        ".",
        r"a\b",
        "acquisition",
    ):
        with pytest.raises(TransferError, match="no path to a file in it"):
            edit_files(source_store, {name: b"y"}, tmp_path / "journal")
        assert tree(tmp_path) == before
    # a journal of another place, as whoever made it would write it
    edit_files(outside, {"precious": b"y"}, tmp_path / "journal")
    content = (tmp_path / "journal").read_bytes()
    for evil in (b"../../outside/precious", b"way/precious"):
        forged = forge(content, b"precious", evil)
        (tmp_path / "journal").write_bytes(forged)
        with pytest.raises(TransferError, match="no path to a file in it"):
            take_back(source_store, tmp_path / "journal")
        assert (outside / "precious").read_text() == "y"
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(TransferError, match="no journal of"):
        take_back(source, tmp_path / "journal")
    (tmp_path / "journal").write_bytes(content[:-5])
    assert not take_back(source_store, tmp_path / "journal")
    assert not (tmp_path / "journal").exists()


def forge(journal: bytes, old: bytes, new: bytes) -> bytes:
    import hashlib
    import struct

    body = journal[:-32].replace(struct.pack("<Q", len(old)), struct.pack("<Q", len(new)), 1).replace(old, new, 1)
    return body + hashlib.sha256(body).digest()


def test_zarr_is_loaded_only_when_a_store_is_met(source: Path, source_store: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from nwb_extfiles.stores import *; from nwb_extfiles.references import *\n"
        "def look(path):\n"
        "    with open_nwb(Path(path)) as file: n = len(find_in_file(file))\n"
        "    print(n, sorted({'zarr', 'hdmf_zarr', 'pynwb', 'hdmf'} & set(sys.modules)))\n"
        "print(len(list(find_nwb_files([Path(sys.argv[1]).parent])))); look(sys.argv[1]); look(sys.argv[2])"
    )
    assert run_python(code, source, source_store).splitlines() == ["2", "2 []", "2 ['zarr']"]


def test_without_hdmf_zarr(source_store: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('zarr', 'hdmf_zarr', 'numcodecs'): sys.modules[name] = None\n"
        "from pathlib import Path; import nwb_extfiles\n"
        "from nwb_extfiles import *; from nwb_extfiles.stores import *\n"
        "NWBExtFilesHDF5IO\n"
        "try: nwb_extfiles.NWBExtFilesZarrIO\n"
        "except ImportError as error: print(error)\n"
        "try:\n"
        "    with open_nwb(Path(sys.argv[1])): pass\n"
        "except OSError as error: print(error)"
    )
    first, second = run_python(code, source_store).splitlines()
    assert first == "NWBExtFilesZarrIO needs hdmf-zarr: pip install 'nwb-extfiles[zarr]'"
    assert second.endswith("pip install 'nwb-extfiles[zarr]'")


# -------------------------------------------------------------------- readers


def test_validators(source: Path, target: Path) -> None:
    import pynwb
    from dandi.files import ImageAsset, VideoAsset, ZarrAsset, find_dandi_files

    with quiet():
        export(source, target, relocate_media=True, media_mode="copy")
    with NWBZarrIO(str(target), "r") as io:
        assert pynwb.validate(io=io) == []
    assets = {asset.path: type(asset) for asset in find_dandi_files(target.parents[1], dandiset_path=target.parents[1])}
    store = f"{target.parent.name}/{target.name}"
    assert assets[store] is ZarrAsset
    assert set(assets.values()) <= {ZarrAsset, VideoAsset, ImageAsset}
    assert {path.partition("/")[2] for path in assets if path != store} == set(texts_in(target))

"""Zarr stores, written and exported with their media, and checked with zarr, JSON and hashes alone."""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numcodecs.pickles
import numpy as np
import pytest
import zarr
from hdmf.data_utils import GenericDataChunkIterator
from hdmf.utils import get_docval
from hdmf_zarr import NWBZarrIO, ZarrDataIO
from helpers import digest, image_series, new_nwbfile, play, set_paths, stored_paths, tree, write_nwb
from makers import WAYS, Media, arguments_of, quiet, run_maker, write_everywhere
from pynwb import NWBHDF5IO, TimeSeries, get_manager
from pynwb.base import ExternalImage, ImageReferences, Images
from zarr_makers import (
    DATASET,
    UNLINKED,
    assert_leads_to,
    export,
    h5_object_id,
    nothing_left,
    open_source,
    paths_in,
    references,
    write_store,
)

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesZarrIO
from nwb_extfiles.errors import DestinationBusyError, MissingMediaError, RelocationRefusedError, TransferError

pytestmark = [
    pytest.mark.usefixtures("trusted_stores"),
    # of hdmf-zarr and pynwb
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("error::nwb_extfiles.ExternalFilesWarning"),
]

MODES = ("symlink", "hardlink", "copy", "move", "reference")


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "nwbfiles" / "a.nwb", [f"../video_files/test1_{n}.avi" for n in (0, 1)])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "dandiset" / "sub-mouse0" / "sub-mouse0_ses-s.nwb.zarr"


class Pieces(GenericDataChunkIterator):
    """Numbers that are generated when they are read."""

    def _get_data(self, selection: tuple[slice, ...]) -> Any:
        return np.arange(100)[selection]

    def _get_maxshape(self) -> tuple[int, ...]:
        return (100,)

    def _get_dtype(self) -> Any:
        return np.dtype("int64")


# ------------------------------------------------------------ write and export


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["hdf5-zarr", "zarr-zarr", "zarr-hdf5"])
def test_export_in_every_mode(
    tmp_path: Path, source: Path, source_store: Path, target: Path, videos: list[Path], video_files: Path,
    mode: str, way: str,
) -> None:  # fmt: skip
    of, to = way.split("-")
    if mode == "move":  # the other one would need the videos where they are
        source.unlink() if of == "zarr" else shutil.rmtree(source_store)
    before = tree(tmp_path)
    path = target if to == "zarr" else target.with_name("sub-mouse0_ses-s.nwb")
    chosen = source if of == "hdf5" else source_store
    if mode == "move":
        with pytest.warns(ExternalFilesWarning, match="stays behind"):
            io = export(chosen, path, relocate_media=True, media_mode=mode)
    else:
        io = export(chosen, path, relocate_media=True, media_mode=mode)
    paths = paths_in(path) if to == "zarr" else stored_paths(path)
    for stored, video in zip(paths, videos[:2], strict=True):
        assert digest(path.parent / stored) == digest(video)
    if mode == "reference":
        assert paths == [f"../../video_files/test1_{n}.avi" for n in (0, 1)]
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    else:
        owner = zarr.open(str(chosen), "r")["acquisition/video"].attrs if of == "zarr" else None
        uuid = owner["object_id"] if owner else h5_object_id(chosen)
        assert paths == [f"sub-mouse0_ses-s/{uuid}_external_file_{n}.avi" for n in (0, 1)]
        first = path.parent / paths[0]
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
    assert [entry.new_path for entry in io.relocation.relocations] == paths
    if to == "zarr":
        assert io.path == str(path)


@pytest.mark.parametrize("kind", ["list", "paths", "numpy", "array", "objects", "bytes", "tuple", "data_io"])
def test_new_containers(tmp_path: Path, video_files: Path, videos: list[Path], kind: str) -> None:
    paths = [video_files / "test1_0.avi", video_files / "test1_1.avi"]
    strings = [str(path) for path in paths]
    values = {
        "list": strings,
        "paths": paths,
        "numpy": [np.str_(path) for path in strings],
        "array": np.array(strings),
        "objects": np.array(strings, dtype=object),
        "bytes": [path.encode() for path in strings],
        "tuple": tuple(strings),
        "data_io": ZarrDataIO(strings, chunks=(1,)),
    }[kind]
    store = write_store(
        tmp_path / "ds" / "a.nwb.zarr", values, NWBExtFilesZarrIO, relocate_media=True, media_mode="copy"
    )
    assert_leads_to(store, videos[:2])
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
def test_hdf5_string_storage_becomes_zarr(
    source: Path, target: Path, videos: list[Path], storage: dict[str, Any], relocate: bool, way: str
) -> None:
    """hdmf-zarr alone writes "b'a.avi'" for paths that HDF5 returns as bytes."""
    paths = [f"../video_files/test1_{n}.avi".encode() for n in (0, 1)]
    set_paths(source, DATASET, paths, **storage)
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
        arguments = {**arguments_of(way, src_io), "write_args": UNLINKED}
        how = {"relocate_media": True, "media_mode": "copy"} if relocate else {"relocate_media": False}
        io.export(src_io=src_io, **arguments, **how)
    if relocate:
        assert_leads_to(target, videos[:2])
    else:
        assert paths_in(target) == [path.decode() for path in paths]


def test_stores_without_paths(tmp_path: Path, source: Path, target: Path) -> None:
    set_paths(source, DATASET, [], dtype=h5py.string_dtype(), shape=(0,))
    with pytest.warns(ExternalFilesWarning, match="nothing to relocate"):
        export(source, target, relocate_media=True)
    assert paths_in(target) == []


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_export_a_store(source_store: Path, target: Path, videos: list[Path], way: str) -> None:
    before = tree(source_store)
    with NWBZarrIO(str(source_store), "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
        arguments = arguments_of(way, src_io, ["video"])
        given = dict(arguments.get("write_args", {}))
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
        assert arguments.get("write_args", {}) == given
    assert_leads_to(target, videos[:2])
    assert tree(source_store) == before
    with NWBZarrIO(str(target), "r") as io:
        read = io.read()
        assert read.file_create_date
        assert list(read.acquisition["video"].external_file[:]) == paths_in(target)


@pytest.mark.parametrize("to", ["zarr", "zarr-zarr", "hdf5"])
def test_every_type_is_relocated(tmp_path: Path, to: str) -> None:
    """Every core type, including ExternalImage with its object references."""
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
        assert now.stored_path == f"b/{was.object_id}_external_file_{was.index}{Path(was.stored_path).suffix.lower()}"
        assert (now.object_path, now.neurodata_type, now.object_id) == (
            was.object_path,
            was.neurodata_type,
            was.object_id,
        )
        assert digest(path.parent / now.stored_path) == digest(source.parent / was.stored_path)
    with open_source(path) as io:
        read = io.read()
        order = read.acquisition["images"].order_of_images.data
        assert [image.name for image in order[:]] == ["image2", "image0", "image1"]
        assert read.acquisition["images"].images["image0"].data == next(
            now.stored_path for now in new if now.object_path == "/acquisition/images/image0"
        )


@pytest.mark.parametrize("what", ["pose", "extension"])
def test_types_of_extensions(tmp_path: Path, what: str) -> None:
    """Their specifications are read from the file alone, also from a Zarr store."""
    source = tmp_path / "nwbfiles" / "a.nwb"
    run_maker(what, source)
    further = {"media_fields": [("VideoArchive", "video_paths")]}
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
            assert now.stored_path.startswith("b/")
            place = Path(was.stored_path) if was.stored_path.startswith("/") else source.parent / was.stored_path
            assert digest(path.parent / now.stored_path) == digest(place)
    if what == "extension":
        paths = paths_in(second, "processing/behavior/archive/video_paths")
        assert all(stored.startswith("b/") for stored in paths)
        assert (first.parent / paths[0]).exists()


def test_urls_keep_their_index(tmp_path: Path, video_files: Path, videos: list[Path]) -> None:
    store = tmp_path / "ds" / "a.nwb.zarr"
    url = "https://example.org/video.avi"
    write_store(
        store, [url, str(video_files / "test1_0.avi"), url], NWBExtFilesZarrIO, relocate_media=True, media_mode="copy"
    )
    paths = paths_in(store)
    assert paths[::2] == [url, url]
    assert paths[1].endswith("_external_file_1.avi")
    assert digest(store.parent / paths[1]) == digest(videos[0])


def test_constructor_defaults_and_custom_manager(source: Path, target: Path, videos: list[Path]) -> None:
    with (
        NWBHDF5IO(source, "r") as src_io,
        NWBExtFilesZarrIO(target, "w", get_manager(), relocate_media=True, media_mode="copy") as io,
    ):
        io.export(src_io=src_io, write_args=UNLINKED)
    assert_leads_to(target, videos[:2])
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
    assert paths_in(target) == [f"../video_files/test1_{n}.avi" for n in (0, 1)]


def test_drop_in_replacement_for_nwbzarrio(tmp_path: Path) -> None:
    """Without media, the store has the same files as that of hdmf-zarr."""
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


def test_internal_links_are_those_of_hdmf_zarr(tmp_path: Path) -> None:
    """A link in a new store points into that store, whatever its name."""
    source = tmp_path / "nwbfiles" / "a.nwb"
    write_everywhere(source, Media(tmp_path / "media"))
    stores = []
    for name, io_class in (("theirs", NWBZarrIO), ("ours", NWBExtFilesZarrIO)):
        stores.append(tmp_path / name / "x.nwb.zarr")
        with quiet(), NWBHDF5IO(source, "r") as src_io, io_class(str(stores[-1]), "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED))
    theirs, ours = ({k: v for k, v in tree(store).items() if k.endswith((".zattrs", ".zarray"))} for store in stores)
    assert ours == theirs


def test_store_with_new_links_can_be_renamed(tmp_path: Path, video_files: Path) -> None:
    source = tmp_path / "a.nwb.zarr"
    nwbfile = new_nwbfile()
    members = [ExternalImage(name=f"p{n}", data="https://example.org/p.png", image_format="PNG") for n in range(2)]
    order = ImageReferences(name="order_of_images", data=members[::-1])
    nwbfile.add_acquisition(Images(name="images", images=members, order_of_images=order))
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
        assert [image.name for image in read.acquisition["images"].order_of_images.data[:]] == ["p1", "p0"]
        assert read.processing["behavior"]["BehavioralEvents"]["one"] is read.acquisition["one"]


def test_path_dataset_of_another_store(tmp_path: Path, source_store: Path, videos: list[Path]) -> None:
    """Paths from another store are relative to that one. hdmf-zarr copies them unchanged."""
    with NWBZarrIO(str(source_store), "r") as other:
        nwbfile = new_nwbfile()
        series = image_series(["x"])
        series.fields["external_file"] = other.read().acquisition["video"].external_file
        nwbfile.add_acquisition(series)
        own = tmp_path / "far" / "ds" / "b.nwb.zarr"
        with NWBExtFilesZarrIO(own, "w") as io:
            with pytest.raises(RelocationRefusedError, match="would not be found"):
                io.write(nwbfile)
            io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_leads_to(own, videos[:2])


def test_link_to_path_dataset_of_another_store(tmp_path: Path, source_store: Path, videos: list[Path]) -> None:
    """The link is kept if nothing is relocated. Otherwise the store with the link gets its own paths."""
    linked = tmp_path / "far" / "ds" / "b.nwb.zarr"
    shutil.copytree(source_store, linked)
    shutil.rmtree(linked / DATASET)
    link = {"name": "external_file", "path": f"/{DATASET}", "source": os.path.relpath(source_store, linked)}
    zarr.open_group(str(linked), mode="r+")["acquisition/video"].attrs["zarr_link"] = [link]
    zarr.consolidate_metadata(str(linked))
    before = tree(source_store)

    export(linked, tmp_path / "far" / "ds" / "c.nwb.zarr")
    attributes = zarr.open(str(tmp_path / "far" / "ds" / "c.nwb.zarr"), "r")["acquisition/video"].attrs
    assert attributes["zarr_link"] == [link]
    target = tmp_path / "again" / "c.nwb.zarr"
    export(linked, target, relocate_media=True, media_mode="copy")
    assert_leads_to(target, videos[:2])
    with NWBExtFilesZarrIO(linked, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert_leads_to(linked, videos[:2])
    assert tree(source_store) == before


def test_links_to_another_store_from_behind_a_linked_folder(tmp_path: Path, source_store: Path) -> None:
    """They are the same as those of hdmf-zarr, which uses the names in the path that it is given."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    made = {}
    for name, io_class in (("theirs", NWBZarrIO), ("ours", NWBExtFilesZarrIO)):
        target = tmp_path / "link" / f"{name}.nwb.zarr"
        nwbfile = new_nwbfile()
        manager = get_manager()
        with NWBZarrIO(str(source_store), "r", manager) as other:
            nwbfile.add_stimulus(other.read().acquisition["video"])
            with io_class(str(target), "w", manager) as io:
                io.write(nwbfile)
        (made[name],) = zarr.open(str(target), "r")["stimulus/presentation"].attrs["zarr_link"]
        with NWBZarrIO(str(target), "r") as io:
            assert list(io.read().stimulus["video"].external_file[:]) == paths_in(source_store)
    assert made["ours"] == made["theirs"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_iterative_data(tmp_path: Path, video_files: Path, videos: list[Path], jobs: int) -> None:
    """hdmf-zarr writes such data at the end, in several processes if requested."""
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    pieces = ZarrDataIO(Pieces(chunk_shape=(10,), buffer_shape=(20,)))
    nwbfile.add_acquisition(TimeSeries(name="pieces", data=pieces, unit="m", rate=1.0))
    store = tmp_path / "ds" / "a.nwb.zarr"
    with NWBExtFilesZarrIO(store, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", number_of_jobs=jobs)
    assert_leads_to(store, videos[:1])
    assert zarr.open(str(store), "r")["acquisition/pieces/data"][:].tolist() == list(range(100))


# -------------------------------------------------------------------- refusals


def test_path_that_would_break_is_refused(source: Path, source_store: Path, tmp_path: Path) -> None:
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
        assert paths_in(target) == [f"../video_files/test1_{n}.avi" for n in (0, 1)]


def test_paths_that_stay_right_are_accepted(source: Path, tmp_path: Path, videos: list[Path]) -> None:
    export(source, tmp_path / "other" / "b.nwb.zarr")
    assert_leads_to(tmp_path / "other" / "b.nwb.zarr", videos[:2])


def test_missing_media_are_reported_before_writing(
    source: Path, target: Path, tmp_path: Path, video_files: Path
) -> None:
    export(source, target, relocate_media=True, media_mode="copy")
    (video_files / "test1_1.avi").unlink()
    before = tree(tmp_path)
    with pytest.raises(MissingMediaError, match=r"external_file\[1\]"):
        export(source, target, relocate_media=True, media_mode="copy")
    assert tree(tmp_path) == before


def test_in_dandiset_unplaced_media_are_refused(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "dandiset").mkdir()
    (tmp_path / "dandiset" / "dandiset.yaml").write_text("identifier: '000000'\n")
    with pytest.raises(RelocationRefusedError, match="media belong in the dandiset"):
        export(source, target)
    export(source, target, relocate_media=True, media_mode="copy")
    again = tmp_path / "dandiset" / "sub-b" / target.name
    with pytest.raises(RelocationRefusedError, match=r"would not be found|media belong"):
        export(target, again)


def test_store_cannot_replace_its_source(source_store: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="cannot be replaced by a file that is made from it"):
        export(source_store, source_store, relocate_media=True)
    assert tree(tmp_path) == before


def test_other_folder_is_not_replaced(source: Path, tmp_path: Path) -> None:
    """hdmf-zarr would remove it with everything in it."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("a life's work")
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="not a Zarr store, and would be removed"):
        NWBExtFilesZarrIO(tmp_path / "thesis", "w")
    assert tree(tmp_path) == before
    (tmp_path / "empty").mkdir()
    export(source, tmp_path / "empty" / "b.nwb.zarr", relocate_media=False)


def test_file_at_destination_is_left_to_hdmf_zarr(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.nwb.zarr"
    path.write_bytes(source.read_bytes())
    before = digest(path)
    with pytest.raises(Exception, match="not a directory") as theirs:
        NWBZarrIO(str(path), "w")
    with pytest.raises(type(theirs.value)):
        NWBExtFilesZarrIO(path, "w")
    assert digest(path) == before


def test_exclusive_mode(source: Path, target: Path) -> None:
    nwbfile = new_nwbfile()
    with NWBExtFilesZarrIO(target, "w-") as io:
        io.write(nwbfile)
    before = tree(target.parent)
    with pytest.raises(FileExistsError), NWBExtFilesZarrIO(target, "w-") as io:
        io.write(new_nwbfile())
    assert tree(target.parent) == before


def test_second_writer_is_busy(target: Path) -> None:
    with NWBExtFilesZarrIO(target, "w") as io:
        with pytest.raises(DestinationBusyError):
            NWBExtFilesZarrIO(target, "w")
        io.write(new_nwbfile())
    assert target.is_dir()


def test_store_objects_work_as_in_hdmf_zarr(tmp_path: Path, video_files: Path, videos: list[Path]) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    store = tmp_path / "ds" / "a.nwb.zarr"
    with NWBExtFilesZarrIO(zarr.DirectoryStore(str(store)), "w") as io:
        assert store.is_dir()
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_leads_to(store, videos[:1])
    assert nothing_left(tmp_path)
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    with (
        pytest.raises(ValueError, match="no place beside it"),
        NWBExtFilesZarrIO(zarr.TempStore(), "w") as io,
    ):
        io.write(nwbfile, relocate_media=True, media_mode="copy")


def test_nested_stores(tmp_path: Path, video_files: Path, videos: list[Path]) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(video_files / "test1_0.avi")]))
    store = tmp_path / "ds" / "a.nwb.zarr"
    with NWBExtFilesZarrIO(zarr.NestedDirectoryStore(str(store)), "w") as io:
        io.write(nwbfile, relocate_media=False)
    with NWBExtFilesZarrIO(store, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert_leads_to(store, videos[:1])


# -------------------------------------------------------------- all or nothing


@pytest.fixture
def hard_to_export(tmp_path: Path) -> Path:
    """A store that cannot be exported without unpickling, which fails after much is written."""
    path = tmp_path / "hard" / "a.nwb.zarr"
    export(write_everywhere(tmp_path / "nwbfiles" / "h.nwb", Media(tmp_path / "media")), path, relocate_media=False)
    (tmp_path / "hard" / "media").mkdir()
    return path


def test_failing_export_keeps_old_store(
    tmp_path: Path, hard_to_export: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hdmf-zarr alone would have destroyed the old store by then."""
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


def test_interrupt_in_with_body_keeps_old_store(source: Path, target: Path, tmp_path: Path) -> None:
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


def test_folder_appearing_meanwhile_is_not_replaced(source: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="is not a folder, so no folder replaces it"):
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesZarrIO(target, "w") as io:
            io.export(src_io=src_io, write_args=dict(UNLINKED), relocate_media=True, media_mode="copy")
            target.write_text("somebody else's")
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.read_text() == "somebody else's"


def test_nothing_written_creates_nothing(target: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    NWBExtFilesZarrIO(target, "w").close()
    assert tree(tmp_path) == before


def test_foreign_staging_folder(source: Path, target: Path, tmp_path: Path) -> None:
    """A file with the name of a former document is not put in its place."""
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


# -------------------------------------------------------------------- readers


def test_validators_pass(source: Path, target: Path) -> None:
    import pynwb
    from dandi.files import ImageAsset, VideoAsset, ZarrAsset, find_dandi_files
    from nwbinspector import inspect_nwbfile_object

    with quiet():
        export(source, target, relocate_media=True, media_mode="copy")
    with NWBZarrIO(str(target), "r") as io:
        assert pynwb.validate(io=io) == []
        told = {message.check_function_name for message in inspect_nwbfile_object(io.read())}
        assert not [name for name in told if "external_file" in name]
    assets = {asset.path: type(asset) for asset in find_dandi_files(target.parents[1], dandiset_path=target.parents[1])}
    store = f"{target.parent.name}/{target.name}"
    assert assets[store] is ZarrAsset
    assert set(assets.values()) <= {ZarrAsset, VideoAsset, ImageAsset}
    assert {path.partition("/")[2] for path in assets if path != store} == set(paths_in(target))
    (target.parent / paths_in(target)[0]).unlink()
    with NWBZarrIO(str(target), "r") as io:
        told = {message.check_function_name for message in inspect_nwbfile_object(io.read())}
        assert [name for name in told if "external_file" in name]


# --------------------------------------------------------------- labels of dimensions


@pytest.mark.parametrize("relocating", [{"relocate_media": False}, {"relocate_media": True, "media_mode": "copy"}])
@pytest.mark.parametrize("how", ["write", "export"])
def test_dimensions_keep_their_labels(
    how: str, relocating: dict[str, Any], source: Path, tmp_path: Path, videos: list[Path]
) -> None:
    """As with hdmf-zarr's own class; xarray needs them."""
    attributes = []
    for io_class, further in ((NWBZarrIO, {}), (NWBExtFilesZarrIO, relocating)):
        path = tmp_path / io_class.__name__ / "z.nwb.zarr"
        path.parent.mkdir()
        if how == "export":
            with NWBHDF5IO(source, "r") as src_io, io_class(str(path), "w") as io:
                io.export(src_io=src_io, write_args={"link_data": False}, **further)
        else:
            nwbfile = new_nwbfile()
            nwbfile.add_acquisition(image_series([str(videos[0])]))
            with io_class(str(path), "w") as io:
                io.write(nwbfile, **further)
        attributes.append(dict(zarr.open(str(path), "r")[DATASET].attrs))
    assert attributes[0] == attributes[1]
    assert "_ARRAY_DIMENSIONS" in attributes[0]


def test_append_writes_only_attributes_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hdmf-zarr would write all of them again, and nothing could restore them after a kill."""
    nwbfile = new_nwbfile()
    nwbfile.add_unit(spike_times=[1.0, 2.0])
    with NWBZarrIO(str(tmp_path / "a.nwb.zarr"), "w") as io:
        io.write(nwbfile)
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(NWBZarrIO, "write_attributes", lambda self, obj, attributes: written.append(attributes))
    with NWBExtFilesZarrIO(tmp_path / "a.nwb.zarr", "r+") as io:
        units = io.read().units
        index, other = (io.manager.get_builder(units[name]) for name in ("spike_times_index", "id"))
        array = zarr.open(str(tmp_path / "a.nwb.zarr"), "r")["units/spike_times_index"]
        io.write_attributes(array, index.attributes)
        io.write_attributes(array, {**index.attributes, "target": other, "description": "new", "more": np.array([1])})
    assert "target" in index.attributes
    assert written == [{}, {"target": other, "description": "new", "more": np.array([1])}]


def test_signatures_show_arguments_of_hdmf_zarr_and_ours() -> None:
    ours = ["relocate_media", "media_mode", "media_options"]
    for name, more in (("__init__", ["resolve_media"]), ("write", []), ("export", [])):
        theirs = [argument["name"] for argument in get_docval(getattr(NWBZarrIO, name))]
        assert [*inspect.signature(getattr(NWBExtFilesZarrIO, name)).parameters] == ["self", *theirs, *ours, *more]

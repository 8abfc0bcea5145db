"""Every place where an NWB file may store media, every storage, every way to export; judged by h5py alone."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import contents, digest, image_series, name_of_bytes, new_nwbfile, set_paths, stored_paths, tree, write_nwb
from makers import (
    WAYS,
    Media,
    arguments_of,
    assert_relocated,
    copy_folder,
    look,
    make_media,
    nwbfile_with_media_everywhere,
    order_of_images,
    quiet,
    run_maker,
    run_python,
    write_everywhere,
)
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO
from nwb_extfiles.errors import RelocationRefusedError, UnsafeReferenceError

SOURCES = ("plain", "ours", "resolving")
SERIES = "acquisition/video"
PATHS = f"{SERIES}/external_file"


@dataclass(frozen=True)
class Case:
    """An NWB file, the folder of its media, and the names of the media by dataset."""

    nwb: Path
    media: Path
    places: Mapping[str, Sequence[str]]

    def copied_to(self, folder: Path) -> Case:
        """The same in a folder that may be changed."""
        home = self.nwb.parent.parent
        copy_folder(home, folder)
        return Case(folder / self.nwb.relative_to(home), folder / self.media.relative_to(home), self.places)


@contextmanager
def opened(path: Path, source: str, **kwargs: Any) -> Iterator[Any]:
    """The file to be exported from, in one of the classes that read it."""
    if source == "plain":
        io = NWBHDF5IO(path, "r", **kwargs)
    else:
        io = NWBExtFilesHDF5IO(path, "r", resolve_media=source == "resolving", **kwargs)
    with io:
        yield io


def paths_of(path: Path, places: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {dataset: look(path, dataset).paths for dataset in places}


def without_paths(path: Path, places: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """All that is in a file; of the paths of media, only the attributes."""
    return {name: value[:2] if name in places else value for name, value in contents(path).items()}


LINKED = ".* stays a link to .*, and its media stay with that file"


def check(
    case: Case,
    folder: Path,
    way: str = "as_it_is",
    source: str = "plain",
    *,
    media_options: Any = None,
    relocated: Mapping[str, Sequence[str]] | None = None,
    but: str | None = None,
    **kwargs: Any,
) -> Path:
    """Relocate by an export and judge all of it; the new NWB file is returned.

    The source file keeps its bytes, a later plain export of the same open IO is what it would have been, and the
    relocated file differs from that only in the stored paths.
    """
    series = [name for dataset in case.places for name in dataset.split("/")[-2:]]
    before = tree(case.nwb.parent.parent)
    target, control, second = folder / "sub-a" / "sub-a_image.nwb", folder / "control.nwb", folder / "second.nwb"
    folder.mkdir(exist_ok=True)
    with quiet(but):
        with opened(case.nwb, source, **kwargs) as src_io, NWBHDF5IO(control, "w") as io:
            io.export(src_io=src_io, **arguments_of(way, src_io, series))
        with opened(case.nwb, source, **kwargs) as src_io:
            arguments = arguments_of(way, src_io, series)
            with NWBExtFilesHDF5IO(target, "w") as io:
                io.export(
                    src_io=src_io, relocate_media=True, media_mode="copy", media_options=media_options, **arguments
                )
            with NWBHDF5IO(second, "w") as io:
                io.export(src_io=src_io, **arguments)
    assert tree(case.nwb.parent.parent) == before
    assert_relocated(target, case.media, case.places if relocated is None else relocated)
    assert without_paths(target, case.places) == without_paths(control, case.places)
    assert paths_of(second, case.places) == paths_of(control, case.places)
    assert contents(second) == contents(control)
    return target


def relocate(source: Path, target: Path, *, read: bool = False, but: str | None = None, **kwargs: Any) -> Path:
    """Export by copy, without judging."""
    kwargs.setdefault("relocate_media", True)
    if kwargs["relocate_media"]:
        kwargs.setdefault("media_mode", "copy")
    with quiet(but), NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, nwbfile=src_io.read() if read else None, **kwargs)
    return target


# ---------------------------------------------------------- places of the core


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Case:
    home = tmp_path_factory.mktemp("everywhere")
    media = Media(home / "media")
    return Case(write_everywhere(home / "nwb" / "source.nwb", media), media.folder, media.places)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", WAYS)
def test_every_core_type_is_relocated(everywhere: Case, tmp_path: Path, way: str, source: str) -> None:
    assert len(everywhere.places) == 22
    target = check(everywhere, tmp_path / "out", way, source)
    for name in ("acquisition/images", "stimulus/templates/shown_images", "processing/behavior/traces"):
        assert order_of_images(target, name) == ["image2", "image0", "image1"]
    with quiet(), NWBHDF5IO(target, "r") as io:
        nwbfile = io.read()
        images = nwbfile.acquisition["images"]
        ordered = [images.order_of_images[n] for n in range(3)]
        assert [image.name for image in ordered] == ["image2", "image0", "image1"]
        assert [image.data for image in ordered] == [
            look(target, f"acquisition/images/{image.name}").paths[0] for image in ordered
        ]
        mask = nwbfile.processing["behavior"]["mask"]
        assert mask.masked_imageseries is nwbfile.acquisition["series"]


@pytest.mark.parametrize("relocate_media", [False, None])
def test_every_core_type_is_verbatim_without_relocation(
    everywhere: Case, tmp_path: Path, relocate_media: bool | None
) -> None:
    target = tmp_path / "out.nwb"
    if relocate_media is None:
        with pytest.raises(ValueError, match="24 problems") as caught:
            relocate(everywhere.nwb, target, relocate_media=None)
        assert len(caught.value.problems) == sum(map(len, everywhere.places.values()))  # type: ignore[attr-defined]
        assert not target.exists()
        return
    relocate(everywhere.nwb, target, relocate_media=relocate_media)
    assert paths_of(target, everywhere.places) == paths_of(everywhere.nwb, everywhere.places)
    assert contents(target) == contents(everywhere.nwb)


@pytest.mark.parametrize("absolute", [True, False])
def test_write_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool) -> None:
    """A relative text is relative to the destination."""
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "deeper")  # relative to which there are no media
    media = Media(tmp_path / "media", absolute=absolute)
    target = tmp_path / "dandiset" / "sub-a.nwb" if absolute else tmp_path / "dandiset2" / "sub-a.nwb"
    with quiet():
        nwbfile = nwbfile_with_media_everywhere(media)
        with NWBExtFilesHDF5IO(target, "w") as io:
            io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_relocated(target, media.folder, media.places)
    assert order_of_images(target, "acquisition/images") == ["image2", "image0", "image1"]
    folder = f"{media.folder}{os.sep}" if absolute else "../media/"
    assert nwbfile.acquisition["series"].external_file == [f"{folder}a0.avi", f"{folder}a1.AVI"]
    assert nwbfile.acquisition["images"]["image0"].data == f"{folder}images0.png"


def test_write_of_pathlib_paths(tmp_path: Path) -> None:
    """`pathlib.Path` in memory."""
    videos = [make_media(tmp_path / "media" / f"{n}.avi") for n in range(2)]
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(videos))
    target = tmp_path / "out" / "a.nwb"
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_relocated(target, tmp_path / "media", {PATHS: ["0.avi", "1.avi"]})
    assert nwbfile.acquisition["video"].external_file == videos


# -------------------------------------------------------------------- storages


@dataclass(frozen=True)
class Storage:
    """How paths may be stored, as arguments of `h5py.Group.create_dataset`."""

    keywords: Mapping[str, Any]
    names: tuple[str, ...] = ("eins.avi", "zwei.avi", "drei.AVI")
    shape: tuple[int, ...] | None = None

    @property
    def data(self) -> Any:
        paths = [f"../media/{name}".encode() for name in self.names]
        if self.shape == ():
            return paths[0]
        array = np.array(paths, dtype=self.keywords["dtype"])
        return array if self.shape is None else array.reshape(self.shape)


STORAGES = {
    "vlen_utf8": Storage(dict(dtype=h5py.string_dtype()), names=("äins.avi", "日本.avi", "z w e i.avi")),
    "vlen_ascii": Storage(dict(dtype=h5py.string_dtype("ascii"))),
    "fixed_ascii": Storage(dict(dtype="S17")),
    "fixed_utf8": Storage(dict(dtype=h5py.string_dtype("utf-8", 40)), names=("äins.avi", "zwei.avi")),
    "chunked": Storage(dict(dtype=h5py.string_dtype(), chunks=(2,), maxshape=(None,))),
    "compressed": Storage(
        dict(dtype=h5py.string_dtype(), chunks=(2,), compression="gzip", compression_opts=7, shuffle=True)
    ),
    "fixed_compressed": Storage(dict(dtype="S17", chunks=(1,), compression="lzf")),
    "one": Storage(dict(dtype="S17"), names=("eins.avi",)),
    "empty": Storage(dict(dtype=h5py.string_dtype()), names=()),
    "empty_fixed": Storage(dict(dtype="S5"), names=()),
}
CHECKSUM = {"fixed_with_checksum": Storage(dict(dtype="S17", chunks=(1,), fletcher32=True))}
# pynwb does not read these, though it exports them as they are
NOT_READABLE = {
    "scalar": Storage(dict(dtype=h5py.string_dtype()), names=("eins.avi",), shape=()),
    "scalar_ascii": Storage(dict(dtype=h5py.string_dtype("ascii")), names=("eins.avi",), shape=()),
    "scalar_fixed": Storage(dict(dtype="S17"), names=("eins.avi",), shape=()),
    "column": Storage(dict(dtype=h5py.string_dtype()), shape=(3, 1)),
}


def stored_as(storages: Mapping[str, Storage], folder: Path) -> Case:
    """An NWB file with a series for each storage."""
    nwb = write_nwb(folder / "nwb" / "source.nwb", ["x.avi"])
    places = {}
    with h5py.File(nwb, "r+") as file:
        for number, (name, storage) in enumerate(storages.items()):
            for video in storage.names:
                make_media(folder / "media" / video)
            file.copy(SERIES, file["acquisition"], name=name)
            series = file["acquisition"][name]
            series.attrs["object_id"] = f"933f8cf6-9e4b-405f-8cad-cc031d1faf{number:02d}"
            del series["external_file"]
            paths = series.create_dataset("external_file", data=storage.data, **storage.keywords)
            paths.attrs["starting_frame"] = np.zeros(len(storage.names), dtype="int64")
            places[f"acquisition/{name}/external_file"] = storage.names
        del file[SERIES]
    return Case(nwb, folder / "media", places)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("kind", "way"), [*(("readable", way) for way in WAYS), ("not readable", "as_it_is"), ("checksum", "as_it_is")]
)
def test_every_string_storage_by_every_call(tmp_path: Path, kind: str, way: str, source: str) -> None:
    storages = {"readable": STORAGES, "not readable": NOT_READABLE, "checksum": CHECKSUM}[kind]
    case = stored_as(storages, tmp_path / "home")
    target = check(case, tmp_path / "out", way, source)
    for dataset in case.places:
        old, new = look(case.nwb, dataset), look(target, dataset)
        assert new.shape == old.shape, dataset
        if old.shape != (0,):
            assert h5py.check_string_dtype(new.dtype).encoding == "utf-8", dataset
        if way in ("as_it_is", "container", "file_modified"):
            assert (new.chunks, new.compression) == (old.chunks, old.compression), dataset


@pytest.mark.parametrize("source", ["plain", "resolving"])
@pytest.mark.parametrize("way", ["as_it_is", "series_modified", "without_links"])
@pytest.mark.parametrize("storage", ["empty", "empty_fixed"])
def test_empty_external_file_list(tmp_path: Path, storage: str, way: str, source: str) -> None:
    """Nothing to relocate: a warning, and the file is as ever."""
    case = stored_as({storage: STORAGES[storage]}, tmp_path / "home")
    before, target, control = tree(tmp_path / "home"), tmp_path / "out" / "a.nwb", tmp_path / "control.nwb"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with opened(case.nwb, source) as src_io, NWBHDF5IO(control, "w") as io:
            io.export(src_io=src_io, **arguments_of(way, src_io, [storage]))
        with opened(case.nwb, source) as src_io, NWBExtFilesHDF5IO(target, "w") as io:
            arguments = arguments_of(way, src_io, [storage])
            with pytest.warns(ExternalFilesWarning, match="nothing to relocate: no external file"):
                io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
    assert tree(tmp_path / "home") == before
    assert contents(target) == contents(control)
    assert look(target, f"acquisition/{storage}/external_file").shape == (0,)
    assert not (target.parent / target.stem).exists()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("relocate_media", [None, False])
def test_verbatim_export_changes_no_dataset(tmp_path: Path, relocate_media: bool | None, way: str, source: str) -> None:
    """Without relocation too: hdmf would make ``b'…'`` of bytes for a modified series."""
    case = stored_as(STORAGES, tmp_path)
    target = tmp_path / "nwb" / "beside.nwb"
    with quiet(), opened(case.nwb, source) as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        arguments = arguments_of(way, src_io, list(STORAGES))
        io.export(src_io=src_io, relocate_media=relocate_media, **arguments)
    assert paths_of(target, case.places) == paths_of(case.nwb, case.places)


@pytest.mark.parametrize("kind", ["vlen ascii", "fixed"])
@pytest.mark.parametrize("way", WAYS)
def test_storage_of_external_images(everywhere: Case, tmp_path: Path, way: str, kind: str) -> None:
    case = everywhere.copied_to(tmp_path / "home")
    dtype = h5py.string_dtype("ascii") if kind == "vlen ascii" else "S60"
    with h5py.File(case.nwb, "r+") as file:
        images = file["acquisition/images"]
        for name in ("image0", "image1", "image2"):
            text, attributes = images[name][()], dict(images[name].attrs)
            del images[name]
            images.create_dataset(name, data=text, dtype=dtype).attrs.update(attributes)
        images["order_of_images"][...] = [images[f"image{n}"].ref for n in (2, 0, 1)]
    target = tmp_path / "out" / "sub-a.nwb"
    with quiet(), NWBHDF5IO(case.nwb, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        arguments = arguments_of(way, src_io, [f"image{n}" for n in range(3)])
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
    assert_relocated(target, case.media, case.places)
    assert order_of_images(target, "acquisition/images") == ["image2", "image0", "image1"]


@pytest.fixture
def odd_name(tmp_path: Path) -> tuple[Path, str]:
    """An NWB file whose video has a name that is not UTF-8, and that name."""
    name = name_of_bytes(b"\xff\xfe.avi")
    try:
        make_media(tmp_path / "media" / name)
    except OSError:  # pragma: no cover
        pytest.skip("the file system has no such names")
    nwb = write_nwb(tmp_path / "nwb" / "source.nwb", ["x.avi"])
    set_paths(nwb, PATHS, np.array([b"../media/\xff\xfe.avi"], dtype=object), dtype=h5py.string_dtype())
    return nwb, name


def test_file_name_not_utf8(odd_name: tuple[Path, str], tmp_path: Path) -> None:
    """It is found, and gets a name that is text."""
    nwb, name = odd_name
    target = relocate(nwb, tmp_path / "out" / "sub-a.nwb")
    assert_relocated(target, tmp_path / "media", {PATHS: [name]})


def test_file_name_not_utf8_by_reference(odd_name: tuple[Path, str], tmp_path: Path) -> None:
    """The bytes of the name stay in the text."""
    target = relocate(odd_name[0], tmp_path / "out" / "deep" / "a.nwb", media_mode="reference")
    with h5py.File(target) as file:
        assert file[PATHS][()].tolist() == [b"../../media/\xff\xfe.avi"]


def test_path_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    """A text that every reader decodes is not replaced by one that none can."""
    folder = tmp_path / name_of_bytes(b"fil\xffms")
    try:
        folder.mkdir()
    except OSError:  # pragma: no cover
        pytest.skip("the file system has no such names")
    make_media(folder / "a.avi")
    nwb = write_nwb(tmp_path / "nwb" / "source.nwb", ["a.avi"])
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="not in UTF-8"):
        relocate(nwb, tmp_path / "out" / "a.nwb", media_mode="reference", media_options={"search": folder})
    assert tree(tmp_path) == before
    target = relocate(nwb, tmp_path / "out" / "a.nwb", media_mode="symlink", media_options={"search": folder})
    assert_relocated(target, folder, {PATHS: ["a.avi"]})


# ------------------------------------------------------------------- extensions


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Made by another process; this one never knows the classes of its types."""
    home = tmp_path_factory.mktemp("extension")
    places = run_maker("extension", home / "nwb" / "source.nwb")
    return Case(home / "nwb" / "source.nwb", home / "media", places)


ARCHIVE = "processing/behavior/archive/video_paths"


def series_only(case: Case) -> Case:
    """Without the text field that nobody has registered."""
    return Case(case.nwb, case.media, {key: value for key, value in case.places.items() if key != ARCHIVE})


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", WAYS)
def test_types_known_by_the_cached_specification(extension: Case, tmp_path: Path, way: str, source: str) -> None:
    from pynwb import get_type_map

    assert "ndx-videos" not in get_type_map().namespace_catalog.namespaces
    target = check(series_only(extension), tmp_path / "out", way, source)
    assert look(target, ARCHIVE).paths == look(extension.nwb, ARCHIVE).paths


@pytest.mark.parametrize("source", SOURCES)
def test_specifications_not_loaded(extension: Case, tmp_path: Path, source: str) -> None:
    check(series_only(extension), tmp_path / "out", source=source, load_namespaces=False)


@pytest.mark.parametrize("load_namespaces", [True, False])
def test_specifications_not_cached(extension: Case, tmp_path: Path, load_namespaces: bool) -> None:
    """Types of which nothing is known are known by their datasets."""
    case = series_only(extension).copied_to(tmp_path / "home")
    forget_specifications(case.nwb)
    image = "acquisition/images/labelled"  # a dataset that has no fixed name: nothing tells what it is
    relocated = {dataset: names for dataset, names in case.places.items() if dataset != image}
    target = check(case, tmp_path / "out", relocated=relocated, load_namespaces=load_namespaces)
    assert look(target, image).paths == look(case.nwb, image).paths


def series_known_by_name(case: Case) -> Case:
    """Without the image of an extension type, of which nothing is known where the specifications are no use."""
    return Case(case.nwb, case.media, {key: value for key, value in case.places.items() if "images" not in key})


def test_cached_specifications_missing(extension: Case, tmp_path: Path) -> None:
    """`.specloc` points to nothing."""
    case = series_known_by_name(series_only(extension)).copied_to(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        del file["specifications"]
    check(case, tmp_path / "out", load_namespaces=False)


def test_cached_specifications_not_json(extension: Case, tmp_path: Path) -> None:
    case = series_known_by_name(series_only(extension)).copied_to(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        version = next(iter(file["specifications/ndx-videos"].values()))
        version["ndx-videos.extensions"][()] = "{"
    check(case, tmp_path / "out", load_namespaces=False)


def forget_specifications(path: Path) -> None:
    """As a file that was written with ``cache_spec=False``, or by an old pynwb."""
    with h5py.File(path, "r+") as file:
        del file["specifications"]
        del file.attrs[".specloc"]


@pytest.mark.parametrize(
    ("way", "source"), [*((way, "plain") for way in WAYS), ("as_it_is", "ours"), ("series_modified", "resolving")]
)
def test_registered_field(extension: Case, tmp_path: Path, way: str, source: str) -> None:
    """A type and field of which the table does not know, through `MediaOptions.media_fields`."""
    options = {"media_fields": [("VideoArchive", "video_paths")]}
    check(extension, tmp_path / "out", way, source, media_options=options)


def test_registered_field_of_a_parent_type(extension: Case, tmp_path: Path) -> None:
    """Subtypes are included; types that are not are left alone."""
    check(extension, tmp_path / "a", media_options={"media_fields": [("NWBDataInterface", "video_paths")]})
    relocated = series_only(extension).places
    options = {"media_fields": [("TimeSeries", "video_paths"), ("NoSuchType", "video_paths")]}
    check(extension, tmp_path / "b", media_options=options, relocated=relocated)


def test_core_without_cached_specifications(everywhere: Case, tmp_path: Path) -> None:
    case = everywhere.copied_to(tmp_path / "home")
    forget_specifications(case.nwb)
    check(case, tmp_path / "out")


@pytest.mark.parametrize("way", ["as_it_is", "container", "without_links"])
def test_extension_that_is_registered(extension: Case, tmp_path: Path, way: str) -> None:
    """A process that knows the classes."""
    target = tmp_path / "out" / "sub-a.nwb"
    code = """
import sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[4])
import makers
makers._extension_classes()
from pynwb import NWBHDF5IO
from nwb_extfiles import NWBExtFilesHDF5IO
with NWBHDF5IO(sys.argv[1], "r") as src_io, NWBExtFilesHDF5IO(sys.argv[2], "w") as io:
    io.export(src_io=src_io, relocate_media=True, media_mode="copy", **makers.arguments_of(sys.argv[3], src_io))
"""
    run_python(code, extension.nwb, target, way, Path(__file__).parent)
    assert_relocated(target, extension.media, series_only(extension).places)


# ------------------------------------------------------------------------- pose


@pytest.fixture(scope="module")
def pose(tmp_path_factory: pytest.TempPathFactory) -> Case:
    home = tmp_path_factory.mktemp("pose")
    places = run_maker("pose", home / "nwb" / "source.nwb")
    return Case(home / "nwb" / "source.nwb", home / "media", places)


POSE = "processing/behavior/PoseEstimation"
SHOWN = "stimulus/presentation/video/external_file"

EXPORT_POSE = """
import sys
sys.path.insert(0, sys.argv[5])
if sys.argv[4] == "imported":
    import ndx_pose
import makers
from pynwb import NWBHDF5IO
from nwb_extfiles import NWBExtFilesHDF5IO
assert ("ndx_pose" in sys.modules) == (sys.argv[4] == "imported")
source, targets, kind = sys.argv[1:4]
for way in makers.WAYS:
    with NWBHDF5IO(source, "r") if kind == "plain" else NWBExtFilesHDF5IO(source, "r", resolve_media=True) as src_io:
        arguments = makers.arguments_of(way, src_io, ["PoseEstimation", "video"])
        with NWBExtFilesHDF5IO(f"{targets}/{way}/sub-a.nwb", "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
        with NWBHDF5IO(f"{targets}/{way}/plain.nwb", "w") as io:
            io.export(src_io=src_io, **arguments)
"""


def assert_pose_relocated(target: Path, media: Path) -> None:
    series, original, labeled = (
        look(target, SHOWN),
        look(target, f"{POSE}/original_videos"),
        look(target, f"{POSE}/labeled_videos"),
    )
    stem = target.stem
    assert series.paths == [f"{stem}/{series.object_id}_external_file_{n}.avi" for n in (0, 1)]
    own = f"{stem}/{original.object_id}_original_videos_1.avi"
    assert original.paths == [series.paths[0], own, series.paths[1]]
    assert labeled.paths == [f"{stem}/{original.object_id}_labeled_videos_{n}.mp4" for n in range(3)]
    expected = {
        series.paths[0]: "video0.avi",
        series.paths[1]: "video1.avi",
        own: "own.avi",
        **{text: f"labeled{n}.mp4" for n, text in enumerate(labeled.paths)},
    }
    for text, name in expected.items():
        assert digest(target.parent / text) == digest(media / name)
    assert {f"{stem}/{path.name}" for path in (target.parent / stem).iterdir()} == set(expected)


@pytest.mark.parametrize("source", ["plain", "resolving"])
@pytest.mark.parametrize("imported", ["imported", "not imported"])
def test_pose_videos_by_every_call(pose: Case, tmp_path: Path, imported: str, source: str) -> None:
    """Videos of a series share its copy, whichever comes first and however they are spelled; others have their own."""
    before = tree(pose.nwb.parent.parent)
    for way in WAYS:
        (tmp_path / way).mkdir()
    run_python(EXPORT_POSE, pose.nwb, tmp_path, source, imported, Path(__file__).parent)
    assert tree(pose.nwb.parent.parent) == before
    for way in WAYS:
        target, plain = tmp_path / way / "sub-a.nwb", tmp_path / way / "plain.nwb"
        assert_pose_relocated(target, pose.media)
        assert paths_of(plain, pose.places) == paths_of(pose.nwb, pose.places), way
        assert without_paths(target, pose.places) == without_paths(plain, pose.places), way


def test_pose_videos_in_place(pose: Case, tmp_path: Path) -> None:
    assert_pose_relocated(relocate(pose.nwb, tmp_path / "a" / "sub-a.nwb"), pose.media)


def test_pose_without_cached_specification(pose: Case, tmp_path: Path) -> None:
    case = pose.copied_to(tmp_path / "home")
    forget_specifications(case.nwb)
    with h5py.File(case.nwb, "r+") as file:
        file[f"{POSE}/original_videos"][2] = str(case.media / "video1.avi")  # an absolute path
    with quiet(), NWBHDF5IO(case.nwb, "r", load_namespaces=False) as src_io:
        with NWBExtFilesHDF5IO(tmp_path / "out" / "sub-a.nwb", "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="copy")
    assert_pose_relocated(tmp_path / "out" / "sub-a.nwb", pose.media)


def test_pose_videos_without_image_series(pose: Case, tmp_path: Path) -> None:
    case = pose.copied_to(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        del file["stimulus/presentation/video"]
    target = relocate(case.nwb, tmp_path / "out" / "sub-a.nwb")
    places = {name: names for name, names in pose.places.items() if name != SHOWN}
    assert_relocated(target, pose.media, places)


def test_pose_lists_sharing_one_video(pose: Case, tmp_path: Path) -> None:
    """Two entries of pose lists with a video that no series has: one copy."""
    case = pose.copied_to(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        file[f"{POSE}/labeled_videos"][1] = "../media/own.avi"
    target = relocate(case.nwb, tmp_path / "out" / "sub-a.nwb")
    labeled, original = look(target, f"{POSE}/labeled_videos"), look(target, f"{POSE}/original_videos")
    assert labeled.paths[1] == original.paths[1]
    assert digest(target.parent / labeled.paths[1]) == digest(pose.media / "own.avi")


def test_pose_by_reference_and_url(pose: Case, tmp_path: Path) -> None:
    case = pose.copied_to(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        file[f"{POSE}/original_videos"][1] = "https://example.org/own.avi"
    target = relocate(case.nwb, tmp_path / "out" / "deep" / "sub-a.nwb", media_mode="reference")
    assert look(target, f"{POSE}/original_videos").paths[1] == "https://example.org/own.avi"
    text = look(target, f"{POSE}/labeled_videos").paths[2]
    assert text == "../../home/media/labeled2.mp4"


@pytest.mark.parametrize("imported", [True, False])
def test_pose_written_from_memory(tmp_path: Path, imported: bool) -> None:
    """Only a process with the extension has such containers; whether it is imported before this package is the same."""
    first, second = ("ndx_pose", "nwb_extfiles") if imported else ("nwb_extfiles", "ndx_pose")
    code = f"""
import sys
sys.path.insert(0, sys.argv[2])
import {first}, {second}
import os
from pathlib import Path
import makers
from nwb_extfiles import NWBExtFilesHDF5IO
target = Path(sys.argv[1])
os.chdir(target.anchor)  # relative to which there are no media
class IO(NWBExtFilesHDF5IO):
    def __init__(self, path, mode):
        super().__init__(path, mode, relocate_media=True, media_mode="copy")
makers.NWBHDF5IO = IO
makers.write_pose(target, makers.Media(target.parent.parent / "media"))
"""
    (tmp_path / "nwb").mkdir()
    run_python(code, tmp_path / "nwb" / "sub-a.nwb", Path(__file__).parent)
    assert_pose_relocated(tmp_path / "nwb" / "sub-a.nwb", tmp_path / "media")


# ------------------------------------------------------------------------ links


def one_series(folder: Path, name: str = "source", videos: Sequence[str] = ("x.avi", "y.avi")) -> Case:
    for video in videos:
        make_media(folder / "media" / video)
    nwb = write_nwb(folder / "nwb" / f"{name}.nwb", [f"../media/{video}" for video in videos])
    return Case(nwb, folder / "media", {PATHS: videos})


def add_module(path: Path) -> None:
    """A processing module, to put links into."""
    with h5py.File(path, "r+") as file:
        module = file["processing"].create_group("behavior")
        module.attrs.update(
            {
                "neurodata_type": "ProcessingModule",
                "namespace": "core",
                "description": "links",
                "object_id": "6d4a36d6-35cb-4f4e-8a9c-fd6a16bb8d55",
            }
        )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", WAYS)
def test_hard_link_to_a_series(tmp_path: Path, way: str, source: str) -> None:
    """One series in two places stays one, with one set of media."""
    case = one_series(tmp_path / "home")
    add_module(case.nwb)
    with h5py.File(case.nwb, "r+") as file:
        file["processing/behavior/video"] = h5py.SoftLink(f"/{SERIES}")
    target = check(case, tmp_path / "out", way, source)
    with h5py.File(target) as file:
        assert isinstance(file.get("processing/behavior/video", getlink=True), h5py.SoftLink)
        assert file["processing/behavior/video"] == file[SERIES]


def test_series_added_twice_by_pynwb(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    nwbfile = new_nwbfile()
    series = image_series(media(PATHS, "x.avi"))
    nwbfile.add_acquisition(series)
    nwbfile.create_processing_module("behavior", "again").add(series)
    target = tmp_path / "out" / "a.nwb"
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_relocated(target, media.folder, media.places)
    with h5py.File(target) as file:
        assert isinstance(file.get("processing/behavior/video", getlink=True), h5py.SoftLink)
        assert file["processing/behavior/video"] == file[SERIES]


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Case, Case]:
    """An NWB file with a series of its own, and a link to one in another NWB file in another folder."""
    other = raw_series(tmp_path / "other")
    own = one_series(tmp_path / "own", "derived", ("x.avi",))
    with h5py.File(own.nwb, "r+") as file:
        file[RAW] = h5py.ExternalLink(os.path.relpath(other.nwb, own.nwb.parent), f"/{RAW}")
    return own, other


RAW = "acquisition/raw_video"


def raw_series(folder: Path) -> Case:
    """An NWB file whose series has another name; pynwb gives a link the name of what it leads to."""
    case = one_series(folder, "raw", ("raw0.avi", "raw1.avi"))
    with h5py.File(case.nwb, "r+") as file:
        file.move(SERIES, RAW)
    return Case(case.nwb, case.media, {f"{RAW}/external_file": case.places[PATHS]})


def make_linked_by_pynwb(tmp_path: Path) -> tuple[Case, Case]:
    """The same, made as pynwb's tutorial makes it."""
    other = raw_series(tmp_path / "other")
    own = Case(tmp_path / "own" / "nwb" / "derived.nwb", tmp_path / "own" / "media", {PATHS: ["x.avi"]})
    make_media(own.media / "x.avi")
    own.nwb.parent.mkdir(parents=True)
    with NWBHDF5IO(other.nwb, "r") as other_io:
        nwbfile = new_nwbfile("derived")
        nwbfile.add_acquisition(image_series(["../media/x.avi"]))
        nwbfile.add_acquisition(other_io.read().acquisition["raw_video"])
        with NWBHDF5IO(own.nwb, "w", manager=other_io.manager) as io:
            io.write(nwbfile)
    return own, other


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", ["as_it_is", "container"])
def test_linked_series_in_another_file_is_unchanged(
    linked: tuple[Case, Case], tmp_path: Path, way: str, source: str
) -> None:
    own, other = linked
    before = tree(other.nwb.parent.parent)
    target = check(own, tmp_path / "out", way, source, but=LINKED)
    assert tree(other.nwb.parent.parent) == before
    assert_link_to(target, other.nwb)
    assert look(target, "acquisition/raw_video/external_file").paths == ["../media/raw0.avi", "../media/raw1.avi"]


def assert_link_to(target: Path, other: Path, link: str = "acquisition/raw_video") -> None:
    with h5py.File(target) as file:
        found = file.get(link, getlink=True)
        assert isinstance(found, h5py.ExternalLink)
        assert os.path.samefile(target.parent / found.filename, other)


@pytest.mark.parametrize("relocate_media", [None, False, True])
def test_link_to_another_file_made_by_pynwb(tmp_path: Path, relocate_media: bool | None) -> None:
    own, other = make_linked_by_pynwb(tmp_path)
    before = tree(other.nwb.parent.parent)
    target = tmp_path / "own" / "nwb2" / "a.nwb"
    relocate(own.nwb, target, relocate_media=relocate_media, but=LINKED)
    assert tree(other.nwb.parent.parent) == before
    assert_link_to(target, other.nwb)
    if relocate_media:
        assert_relocated(target, own.media, own.places)
    else:
        assert stored_paths(target) == ["../media/x.avi"]


@pytest.mark.parametrize("source", ["plain", "resolving"])
@pytest.mark.parametrize("way", ["series_modified", "file_modified", "without_links"])
@pytest.mark.parametrize("made_by", ["h5py", "pynwb"])
def test_linked_series_in_another_file_is_copied_by_export(
    linked: tuple[Case, Case], tmp_path: Path, made_by: str, way: str, source: str
) -> None:
    """Its paths are relative to the folder of that other file."""
    own, other = linked if made_by == "h5py" else make_linked_by_pynwb(tmp_path / "second")
    make_media(own.media / "raw0.avi").write_bytes(b"a video of the same name, which is not meant")
    before = tree(other.nwb.parent.parent)
    target = tmp_path / "out" / "sub-a.nwb"
    with quiet(), opened(own.nwb, source) as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        arguments = arguments_of(way, src_io, ["video"])
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
    assert tree(other.nwb.parent.parent) == before
    with h5py.File(target) as file:
        assert isinstance(file["acquisition"].get("raw_video", getlink=True), h5py.HardLink)
        assert isinstance(file[RAW].get("external_file", getlink=True), h5py.HardLink)
        assert file[RAW]["external_file"].file.filename == str(target)
    assert_copied(target, own, other)


@pytest.mark.parametrize("way", WAYS)
def test_linked_series_in_another_file_without_relocation(linked: tuple[Case, Case], tmp_path: Path, way: str) -> None:
    """Refused if the paths would be copied away from the folder they are relative to."""
    own, _ = linked
    target = own.nwb.parent / "beside.nwb"  # where the paths of its own series are right
    with quiet(), NWBHDF5IO(own.nwb, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        arguments = arguments_of(way, src_io, ["video"])
        if way == "without_links":
            with pytest.raises(ValueError, match="would not be found") as caught:
                io.export(src_io=src_io, **arguments)
            problems = caught.value.problems  # type: ignore[attr-defined]
            assert [problem.object_path for problem in problems] == [f"/{RAW}"] * 2
        else:
            io.export(src_io=src_io, **arguments)
    assert target.exists() == (way != "without_links")
    if target.exists():
        assert look(target, f"{RAW}/external_file").paths == ["../media/raw0.avi", "../media/raw1.avi"]
        with h5py.File(target) as file:
            assert file[f"{RAW}/external_file"].file.filename != str(target)


def assert_copied(target: Path, own: Case, other: Case) -> None:
    """Both series are in one file, each with its own videos."""
    found = {}
    for case in (own, other):
        for dataset, names in case.places.items():
            seen = look(target, dataset)
            assert seen.paths == [f"sub-a/{seen.object_id}_external_file_{n}.avi" for n in range(len(names))]
            for text, name in zip(seen.paths, names, strict=True):
                assert digest(target.parent / text) == digest(case.media / name)
                found[text] = name
    assert {f"sub-a/{path.name}" for path in (target.parent / "sub-a").iterdir()} == set(found)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", ["as_it_is", "container", "series_modified"])
def test_soft_link_to_path_dataset(tmp_path: Path, way: str, source: str) -> None:
    """Two series, one dataset of paths: it has one name, and the link leads to it."""
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        file.copy(SERIES, file["acquisition"], name="second")
        file["acquisition/second"].attrs["object_id"] = "3e7a4ad5-2e0f-4c0b-a2cb-02b9a2cf7a4d"
        del file["acquisition/second/external_file"]
        file["acquisition/second/external_file"] = h5py.SoftLink(f"/{PATHS}")
    target = tmp_path / "out" / "a.nwb"
    before = digest(case.nwb)
    with quiet(), opened(case.nwb, source) as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        arguments = arguments_of(way, src_io, ["video"])
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
    assert digest(case.nwb) == before
    for series in ("video", "second"):
        paths = look(target, f"acquisition/{series}/external_file").paths
        assert [digest(target.parent / text) for text in paths] == [
            digest(case.media / name) for name in case.places[PATHS]
        ]
    assert_relocated(target, case.media, case.places) if way != "series_modified" else None


@pytest.mark.parametrize("mode", [None, "copy", "symlink"])
@pytest.mark.parametrize("way", ["as_it_is", "container", "series_modified"])
def test_hard_link_to_path_dataset(tmp_path: Path, way: str, mode: str | None) -> None:
    """Two series, one dataset of paths under two names, of which hdmf writes one: both get paths of their own."""
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        file.copy(SERIES, file["acquisition"], name="second")
        file["acquisition/second"].attrs["object_id"] = "3e7a4ad5-2e0f-4c0b-a2cb-02b9a2cf7a4d"
        del file["acquisition/second/external_file"]
        file["acquisition/second/external_file"] = file[PATHS]
    videos = [digest(case.media / name) for name in case.places[PATHS]]
    target = tmp_path / "out" / "a.nwb"
    arguments = {"relocate_media": False} if mode is None else {"relocate_media": True, "media_mode": mode}
    with quiet(), opened(case.nwb, "plain") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, **arguments, **arguments_of(way, src_io, ["video"]))
    for series in ("video", "second"):
        found = look(target, f"acquisition/{series}/external_file")
        if mode is None:
            assert found.paths == look(case.nwb, PATHS).paths
            continue
        assert all(text.startswith(f"a/{found.object_id}_external_file_") for text in found.paths)
        assert [digest(target.parent / text) for text in found.paths] == videos


def link_paths(tmp_path: Path, *, name: str = "external_file") -> tuple[Case, Case]:
    """A series whose paths are a dataset in another file."""
    other = one_series(tmp_path / "other", "raw", ("raw0.avi", "raw1.avi"))
    own = one_series(tmp_path / "own", "derived", ("x.avi",))
    with h5py.File(other.nwb, "r+") as file:
        file.move(PATHS, f"{SERIES}/{name}")
    with h5py.File(own.nwb, "r+") as file:
        del file[PATHS]
        file[PATHS] = h5py.ExternalLink(os.path.relpath(other.nwb, own.nwb.parent), f"/{SERIES}/{name}")
    return Case(own.nwb, other.media, {PATHS: ["raw0.avi", "raw1.avi"]}), other


@pytest.mark.parametrize("source", ["plain", "resolving"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["external_file", "other_name"])
def test_path_dataset_in_another_file(tmp_path: Path, name: str, way: str, source: str) -> None:
    """They are relative to that file, which is not changed; the new file has paths of its own."""
    own, other = link_paths(tmp_path, name=name)
    before = tree(tmp_path / "other"), tree(tmp_path / "own")
    target = tmp_path / "out" / "sub-a.nwb"
    with quiet(), opened(own.nwb, source) as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        arguments = arguments_of(way, src_io, ["video"])
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
    assert (tree(tmp_path / "other"), tree(tmp_path / "own")) == before
    assert_relocated(target, other.media, {PATHS: ["raw0.avi", "raw1.avi"]})
    with h5py.File(target) as file:
        assert file[PATHS].file.filename == str(target)
        assert "starting_frame" in file[PATHS].attrs


def test_path_dataset_in_another_file_without_relocation(tmp_path: Path) -> None:
    own, other = link_paths(tmp_path)
    target = relocate(own.nwb, tmp_path / "out" / "a.nwb", relocate_media=None)
    assert_link_to(target, other.nwb, PATHS)
    assert stored_paths(target) == ["../media/raw0.avi", "../media/raw1.avi"]


def test_dangling_links_are_kept(tmp_path: Path) -> None:
    """A broken link is treated as pynwb treats it."""
    case = one_series(tmp_path / "home")
    add_module(case.nwb)
    with h5py.File(case.nwb, "r+") as file:
        file["processing/behavior/gone"] = h5py.SoftLink("/acquisition/nothing")
        file["processing/behavior/away"] = h5py.ExternalLink("nothing.nwb", "/acquisition/nothing")
    check(case, tmp_path / "out")


# -------------------------------------------------------------------- object_id


@pytest.mark.parametrize("way", WAYS)
def test_missing_object_id_is_refused(tmp_path: Path, way: str) -> None:
    """Very old files have none; each run gives the same name, a UUID."""
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        del file[SERIES].attrs["object_id"]
    runs: list[list[str]] = []
    for run in ("first", "second"):
        target = tmp_path / run / "sub-a.nwb"
        with quiet(), NWBHDF5IO(case.nwb, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
            arguments = arguments_of(way, src_io, ["video"])
            io.export(src_io=src_io, relocate_media=True, media_mode="copy", **arguments)
        paths = stored_paths(target)
        assert [digest(target.parent / text) for text in paths] == [digest(case.media / n) for n in case.places[PATHS]]
        runs.append(paths)
        object_id = look(target, PATHS).object_id
        if object_id:  # hdmf invents one for each reading, and writes it where it builds the series anew
            assert way in ("series_modified", "without_links")
            assert paths == [f"sub-a/{object_id}_external_file_{n}.avi" for n in (0, 1)]
        else:
            assert paths == runs[0]
            uuid.UUID(paths[0].removeprefix("sub-a/")[:36])


def test_missing_object_ids_are_listed(tmp_path: Path) -> None:
    """Their paths tell them apart."""
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        del file[SERIES].attrs["object_id"]
        file.copy(SERIES, file["acquisition"], name="second")
        file["acquisition/second/external_file"][...] = ["../media/y.avi", "../media/x.avi"]
    target = relocate(case.nwb, tmp_path / "out" / "a.nwb")
    for dataset, names in ((PATHS, ("x.avi", "y.avi")), ("acquisition/second/external_file", ("y.avi", "x.avi"))):
        assert [digest(target.parent / text) for text in stored_paths(target, dataset)] == [
            digest(case.media / name) for name in names
        ]


@pytest.mark.parametrize(
    "object_id",
    [
        "",
        "video",
        "../../../evil",
        "/tmp/evil",
        "933f8cf6-9e4b-405f-8cad-cc031d1fafc9/../x",
        "933f8cf6-9e4b-405f-8cad-cc031d1fafc9\n",
        "\u0661" * 8 + "-9e4b-405f-8cad-cc031d1fafc9",
        "x" * 5000,
    ],
)
def test_object_id_not_a_uuid_is_refused(tmp_path: Path, object_id: str) -> None:
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        file[SERIES].attrs["object_id"] = object_id
    (tmp_path / "out").mkdir()
    before = tree(tmp_path)
    with pytest.raises(UnsafeReferenceError, match=r"object_id .* is not a UUID") as caught:
        relocate(case.nwb, tmp_path / "out" / "a.nwb")
    assert len(caught.value.problems) == 2  # one for each video
    assert caught.value.problems[1].index == 1
    assert caught.value.problems[1].object_path == f"/{SERIES}"
    assert tree(tmp_path) == before


def test_object_id_does_not_matter_by_reference(tmp_path: Path) -> None:
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        file[SERIES].attrs["object_id"] = "no id"
    target = tmp_path / "out" / "a.nwb"
    relocate(case.nwb, target, media_mode="reference")
    assert stored_paths(target) == ["../home/media/x.avi", "../home/media/y.avi"]


@pytest.mark.parametrize("object_id", [7, 1.5, np.array([1, 2]), b"not text \xff"])
def test_object_id_not_a_string_is_refused(tmp_path: Path, object_id: Any) -> None:
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        del file[SERIES].attrs["object_id"]
        file[SERIES].attrs["object_id"] = object_id
    (tmp_path / "out").mkdir()
    before = tree(tmp_path)
    try:
        target = relocate(case.nwb, tmp_path / "out" / "a.nwb")
    except UnsafeReferenceError:
        assert tree(tmp_path) == before
    else:  # as if there were none
        assert [digest(target.parent / text) for text in stored_paths(target)] == [
            digest(case.media / name) for name in case.places[PATHS]
        ]


def test_object_id_as_bytes_or_uppercase(tmp_path: Path) -> None:
    case = one_series(tmp_path / "home")
    object_id = "933F8CF6-9E4B-405F-8CAD-CC031D1FAFC9"
    with h5py.File(case.nwb, "r+") as file:
        file[SERIES].attrs["object_id"] = np.bytes_(object_id)
    target = relocate(case.nwb, tmp_path / "out" / "a.nwb")
    assert stored_paths(target) == [f"a/{object_id}_external_file_{n}.avi" for n in (0, 1)]


def duplicate(case: Case, paths: Sequence[str]) -> None:
    with h5py.File(case.nwb, "r+") as file:
        file.copy(SERIES, file["acquisition"], name="second")
        file["acquisition/second/external_file"][...] = paths


def test_duplicate_object_ids_with_different_videos(tmp_path: Path) -> None:
    case = one_series(tmp_path / "home")
    duplicate(case, ["../media/x.avi", "../media/x.avi"])
    (tmp_path / "out").mkdir()
    before = tree(tmp_path)
    with pytest.raises(UnsafeReferenceError, match="two objects have one object_id") as caught:
        relocate(case.nwb, tmp_path / "out" / "a.nwb")
    assert len(caught.value.problems) == 1
    assert caught.value.index == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink", "move"])
def test_duplicate_object_ids_with_the_same_videos(tmp_path: Path, mode: str) -> None:
    case = one_series(tmp_path / "home")
    duplicate(case, ["../media/x.avi", "../media/../media/y.avi"])
    wanted = [digest(case.media / name) for name in ("x.avi", "y.avi")]
    target = tmp_path / "out" / "a.nwb"
    with NWBHDF5IO(case.nwb, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        io.export(src_io=src_io, relocate_media=True, media_mode=mode)
    for dataset in (PATHS, "acquisition/second/external_file"):
        assert [digest(target.parent / text) for text in stored_paths(target, dataset)] == wanted
    assert len(list((target.parent / "a").iterdir())) == 2


def test_one_video_twice_in_one_series(tmp_path: Path) -> None:
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        file[PATHS][...] = ["../media/y.avi", "../media/y.avi"]
    target = relocate(case.nwb, tmp_path / "out" / "sub-a.nwb")
    assert_relocated(target, case.media, {PATHS: ["y.avi", "y.avi"]})


# -------------------------------------------------------------------- not strings


@pytest.mark.parametrize(
    "values", [np.array([1, 2]), np.array([1.5]), 3, np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])]
)
def test_numbers_instead_of_paths_are_refused(tmp_path: Path, values: Any) -> None:
    case = one_series(tmp_path / "home")
    set_paths(case.nwb, PATHS, values)
    (tmp_path / "out").mkdir()
    before = tree(tmp_path)
    target = tmp_path / "out" / "a.nwb"
    expected = f"'/{PATHS}' holds no strings, where paths of media are expected"
    with pytest.raises(UnsafeReferenceError, match=expected) as caught:
        relocate(case.nwb, target)
    assert len(caught.value.problems) == 1
    assert caught.value.object_path == f"/{PATHS}"
    assert tree(tmp_path) == before
    for relocate_media in (False, None):
        relocate(case.nwb, target, relocate_media=relocate_media)
        with h5py.File(target) as file, h5py.File(case.nwb) as source:
            assert file[PATHS].dtype == source[PATHS].dtype
            assert np.array_equal(file[PATHS][()], source[PATHS][()])
        shutil.rmtree(tmp_path / "out")


def test_series_without_external_file(tmp_path: Path) -> None:
    """Frames inside the file: nothing to do."""
    case = one_series(tmp_path / "home")
    with h5py.File(case.nwb, "r+") as file:
        del file[PATHS]
        del file[SERIES]["data"]
        file[SERIES].create_dataset("data", data=np.zeros((2, 3, 4))).attrs.update({"unit": "n.a.", "conversion": 1.0})
    with pytest.warns(ExternalFilesWarning, match="nothing to relocate: no external file"):
        with NWBHDF5IO(case.nwb, "r") as src_io, NWBExtFilesHDF5IO(tmp_path / "a.nwb", "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="copy")
    assert contents(tmp_path / "a.nwb") == contents(case.nwb)

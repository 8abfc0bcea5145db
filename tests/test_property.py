"""Whatever the NWB file: each reference that led to a video leads to the same bytes after, and nothing else changes.

The files are made by pynwb, storage that it cannot make is put in by h5py, and the result is judged by h5py alone.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import new_nwbfile, tree
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import ExternalImage, Images
from pynwb.behavior import BehavioralTimeSeries
from pynwb.image import ImageSeries, OpticalSeries
from pynwb.ophys import CorrectedImageStack, OnePhotonSeries, OpticalChannel, TwoPhotonSeries

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO

MODES = ("symlink", "hardlink", "copy", "move", "reference")
WAYS = ("no container", "unmodified", "modified", "link_data=False", "modified, link_data=False")
TYPES = ("ImageSeries", "OpticalSeries", "OnePhotonSeries", "TwoPhotonSeries", "ExternalImage")
PLACES = ("acquisition", "presentation", "templates", "processing", "nested", "analysis", "scratch")
STORAGES = ("as pynwb", "vlen utf-8", "vlen ascii", "fixed", "chunked", "compressed")
SPELLINGS = ("relative", "dotted", "roundabout", "absolute", "file url", "file url of localhost", "backslashes")
URLS = ("https://example.org/a%20b.avi", "s3://bucket/Ä.mp4", "HTTP://x/y", "data:video/mp4;base64,AA==")
GONE = ("gone/video.avi", "../gone.mp4", "/gone/video.avi", "C:\\gone\\video.avi", "file:///gone.avi")
FOLDERS = ("nwb files", "videos", "nwb files/deep/er", "fílme und mehr", "")
SUFFIXES = (".avi", ".MP4", ".mov", "", ".h264", ".x-y")
ADDED_ID = "00000000-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Text:
    """One stored text: a URL, a path to nothing, or a spelling of the path of a video."""

    kind: str
    video: int = 0
    verbatim: str = ""


@dataclass(frozen=True)
class Holder:
    """One object with paths."""

    neurodata_type: str
    place: str
    storage: str
    paths: tuple[Text, ...]


@dataclass(frozen=True)
class Case:
    """An NWB file, its videos, and an export."""

    videos: tuple[tuple[str, str], ...]
    """Folder and name of each."""
    alike: bool
    """Whether the first two videos, where there are two, are two files of the same bytes."""
    holders: tuple[Holder, ...]
    destination: str
    mode: str
    way: str
    link: bool
    """Whether a second object holds a link to the first series."""


LETTERS = st.text(st.sampled_from("aé日 %#&'~$-_+,;=@[]{}!ß(^"), min_size=1, max_size=8)


@st.composite
def cases(draw: st.DrawFn, mode: str) -> Case:
    videos = tuple(
        (draw(st.sampled_from(FOLDERS)), f"{number}{draw(LETTERS)}{draw(st.sampled_from(SUFFIXES))}")
        for number in range(draw(st.integers(2, 5)))
    )
    of_media = st.builds(Text, st.sampled_from(SPELLINGS), st.sampled_from(range(len(videos))))
    of_none = st.one_of(
        st.builds(Text, st.just("url"), verbatim=st.sampled_from(URLS)),
        st.builds(Text, st.just("gone"), verbatim=st.sampled_from(GONE)),
    )
    # The plainest case that counts has two videos in one list: an order can be wrong.
    lists = st.tuples(
        st.lists(of_media, min_size=2, max_size=4, unique_by=lambda text: text.video),
        st.lists(of_none | of_media, max_size=2),
    ).flatmap(lambda parts: st.permutations(parts[0] + parts[1]).map(tuple))
    holders = st.builds(Holder, *map(st.sampled_from, (TYPES, PLACES, STORAGES)), lists)
    return Case(
        videos,
        draw(st.booleans()),
        tuple(draw(st.lists(holders, min_size=1, max_size=4))),
        draw(st.sampled_from(("out", "out/sub-a/ö", "nwb files", "nwb files/deep/er", ""))),
        mode,
        draw(st.sampled_from(WAYS)),
        draw(st.booleans()),
    )


# ------------------------------------------------------------------------------ making


def spelled(text: Text, videos: list[Path], folder: Path) -> str:
    """A text as it stands in an NWB file in `folder`."""
    if text.kind in ("url", "gone"):
        return text.verbatim
    video = videos[text.video]
    relative = os.path.relpath(video, folder)
    return {
        "relative": relative,
        "dotted": f"./{relative}",
        "roundabout": f"./../{folder.name}//{relative}",
        "absolute": str(video),
        "file url": video.as_uri(),
        "file url of localhost": video.as_uri().replace("file://", "FILE://localhost"),
        "backslashes": relative.replace("/", "\\"),
    }[text.kind]


def build(holder: Holder, number: int, paths: list[str], nwbfile: NWBFile) -> Any:
    """The container for a holder."""
    in_stack = holder.place == "nested" and holder.neurodata_type == "ImageSeries"
    name = "corrected" if in_stack else f"{holder.neurodata_type}_{number}"
    if holder.neurodata_type == "ExternalImage":
        return Images(
            name=f"images_{number}",
            images=[
                ExternalImage(name=f"image_{index}", data=text, image_format="PNG", image_mode="RGB")
                for index, text in enumerate(paths)
            ],
        )
    common: dict[str, Any] = dict(
        name=name,
        external_file=paths,
        format="external",
        rate=25.0,
        num_samples=10 * len(paths),
        starting_frame=[10 * index for index in range(len(paths))],
        unit="n.a.",
    )
    if holder.neurodata_type == "OpticalSeries":
        return OpticalSeries(
            **common, distance=1.0, field_of_view=[1.0, 2.0, 3.0], orientation="lower left", dimension=[1, 1]
        )
    if holder.neurodata_type in ("OnePhotonSeries", "TwoPhotonSeries"):
        cls = OnePhotonSeries if holder.neurodata_type == "OnePhotonSeries" else TwoPhotonSeries
        return cls(**common, imaging_plane=imaging_plane(nwbfile), dimension=[1, 1])
    return ImageSeries(**common, dimension=[1, 1])


def imaging_plane(nwbfile: NWBFile) -> Any:
    if "plane" in nwbfile.imaging_planes:
        return nwbfile.imaging_planes["plane"]
    device = nwbfile.create_device(name="microscope")
    channel = OpticalChannel(name="channel", description="a channel", emission_lambda=500.0)
    return nwbfile.create_imaging_plane(
        name="plane",
        optical_channel=channel,
        description="a plane",
        device=device,
        excitation_lambda=600.0,
        indicator="GFP",
        location="V1",
    )


def nested(nwbfile: NWBFile, container: Any, number: int) -> Any:
    """A container that holds the series, deep in a processing module."""
    if type(container) is ImageSeries:
        original = ImageSeries(name=f"original_{number}", data=np.zeros((2, 2, 2), "u1"), unit="n.a.", rate=1.0)
        nwbfile.add_acquisition(original)
        return CorrectedImageStack(
            name=f"stack_{number}",
            corrected=container,
            original=original,
            xy_translation=TimeSeries(name="xy_translation", data=np.zeros((2, 2)), unit="pixels", rate=1.0),
        )
    if isinstance(container, Images):
        return container
    return BehavioralTimeSeries(name=f"nest_{number}", time_series=container)


def add(nwbfile: NWBFile, container: Any, place: str, number: int) -> None:
    if place == "presentation" and not isinstance(container, Images):
        nwbfile.add_stimulus(container)
    elif place == "templates":
        nwbfile.add_stimulus_template(container)
    elif place in ("processing", "nested"):
        if "behavior" not in nwbfile.processing:
            nwbfile.create_processing_module(name="behavior", description="what was processed")
        nwbfile.processing["behavior"].add(nested(nwbfile, container, number) if place == "nested" else container)
    elif place == "analysis":
        nwbfile.add_analysis(container)
    elif place == "scratch":
        nwbfile.add_scratch(container)
    else:
        nwbfile.add_acquisition(container)


def write(path: Path, case: Case, videos: list[Path]) -> None:
    """Write the NWB file by pynwb, then store the paths as the case says."""
    nwbfile = new_nwbfile()
    for number, holder in enumerate(case.holders):
        paths = [spelled(text, videos, path.parent) for text in holder.paths]
        container = build(holder, number, paths, nwbfile)
        add(nwbfile, container, holder.place, number)
        if number == 0 and case.link and isinstance(container, TimeSeries):
            module = nwbfile.create_processing_module(name="links", description="with a link")
            module.add(BehavioralTimeSeries(name="linking", time_series=container))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    with h5py.File(path, "r+") as file:
        for dataset, _ in media_datasets(file):
            kinds = {
                holder.storage
                for number, holder in enumerate(case.holders)
                if f"_{number}/" in f"{dataset.name}/" and dataset.shape != ()
            }
            if kinds:
                store_as(dataset, kinds.pop())


def store_as(dataset: h5py.Dataset, storage: str) -> None:
    """Store the paths of a dataset in another way."""
    if storage == "as pynwb":
        return
    paths = [text.encode() if isinstance(text, str) else text for text in dataset[()]]
    parent, name, attributes = dataset.parent, dataset.name.rpartition("/")[2], dict(dataset.attrs)
    kinds: dict[str, dict[str, Any]] = {
        "vlen utf-8": dict(dtype=h5py.string_dtype("utf-8")),
        "vlen ascii": dict(dtype=h5py.string_dtype("ascii")),
        "fixed": dict(dtype=f"S{max(map(len, paths))}"),
        "chunked": dict(dtype=h5py.string_dtype(), chunks=(1,), maxshape=(None,)),
        "compressed": dict(dtype=h5py.string_dtype(), chunks=(1,), compression="gzip", compression_opts=2),
    }
    del parent[name]
    settings = kinds[storage]
    fresh = parent.create_dataset(name, data=np.array(paths, dtype=object).astype(settings["dtype"]), **settings)
    fresh.attrs.update(attributes)


# ------------------------------------------------------------------------------ judging


def media_datasets(file: h5py.File) -> Iterator[tuple[h5py.Dataset, list[str]]]:
    """Every dataset that holds paths of media, with the paths, read by h5py."""
    found = []

    def visit(name: str, item: Any) -> None:
        is_image = item.attrs.get("neurodata_type") == "ExternalImage"
        if isinstance(item, h5py.Dataset) and (is_image or name.rpartition("/")[2] == "external_file"):
            values = np.asarray(item[()], dtype=object).ravel().tolist()
            found.append((item, [value.decode() if isinstance(value, bytes) else value for value in values]))

    file.visititems(visit)
    return iter(found)


def paths_by_object(path: Path) -> dict[str, list[str]]:
    with h5py.File(path, "r") as file:
        return {dataset.name: paths for dataset, paths in media_datasets(file)}


def everything_else(path: Path) -> dict[str, Any]:
    """All that is in an HDF5 file, links and references and storage included, except the paths of media."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        media = {dataset.name for dataset, _ in media_datasets(file)}

        def plain(value: Any) -> Any:
            if isinstance(value, h5py.Reference):
                return ("reference", file[value].name)
            if isinstance(value, np.ndarray):
                return (str(value.dtype), value.shape, [plain(entry) for entry in value.ravel().tolist()])
            return repr(value)

        def walk(name: str, item: Any) -> None:
            entry: dict[str, Any] = {"attributes": {key: plain(value) for key, value in item.attrs.items()}}
            if isinstance(item, h5py.Dataset):
                entry["storage"] = (item.shape, item.chunks, item.maxshape, item.compression, item.compression_opts)
                if name not in media:
                    entry["data"] = (str(item.dtype), plain(item[()]))
            else:
                for key in item:
                    link = item.get(key, getlink=True)
                    child = f"{name}/{key}" if name != "/" else f"/{key}"
                    if isinstance(link, h5py.HardLink):
                        walk(child, item[key])
                    else:
                        found[child] = (type(link).__name__, link.path, getattr(link, "filename", None))
            found[name] = entry

        walk("/", file["/"])
    return found


@contextmanager
def expecting_warnings() -> Iterator[None]:
    """Warnings of this package are right here (a move, a suffix that DANDI skips, a video that is gone)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExternalFilesWarning)
        yield


def export(make_io: Callable[[], NWBHDF5IO], source: Path, way: str, **kwargs: Any) -> Any:
    """Export in one of the ways that there are."""
    write_args = {"link_data": False} if "link_data=False" in way else {}
    with NWBHDF5IO(source, "r") as src_io:
        nwbfile = None if way == "no container" else src_io.read()
        if way.startswith("modified"):
            assert nwbfile is not None
            added = TimeSeries(name="added", data=[1, 2, 3], unit="s", rate=1.0)
            added._AbstractContainer__object_id = ADDED_ID
            nwbfile.add_acquisition(added)
        with make_io() as io:
            io.export(src_io=src_io, nwbfile=nwbfile, write_args=write_args, **kwargs)
    return io


def check(case: Case) -> None:
    for label in (case.mode, case.way, *{holder.neurodata_type for holder in case.holders}):
        event(label)
    with tempfile.TemporaryDirectory() as name:
        root = Path(os.path.realpath(name))
        videos = []
        for number, (folder, video_name) in enumerate(case.videos):
            video = root / folder / video_name
            video.parent.mkdir(parents=True, exist_ok=True)
            content = b"alike" if case.alike and number < 2 else os.urandom(40) + bytes([number])
            video.write_bytes(content)
            videos.append(video)
        source = root / "nwb files" / "source.file.nwb"
        source.parent.mkdir(exist_ok=True)
        write(source, case, videos)
        target, plain = root / case.destination / "x.nwb", root / case.destination / "plain.nwb"
        target.parent.mkdir(parents=True, exist_ok=True)

        expected: dict[str, list[str | bytes]] = {}
        stored = paths_by_object(source)
        meaning: dict[str, bytes] = {}
        for holder in case.holders:
            for text in holder.paths:
                if text.kind not in ("url", "gone"):
                    meaning[spelled(text, videos, source.parent)] = videos[text.video].read_bytes()
        for path, paths in stored.items():
            expected[path] = [meaning.get(text, text) for text in paths]
        named = {
            videos[text.video] for holder in case.holders for text in holder.paths if text.kind not in ("url", "gone")
        }

        export(lambda: NWBHDF5IO(plain, "w"), source, case.way)
        theirs = everything_else(plain)
        plain.unlink()  # it would need the media where they are
        before = tree(root)
        with expecting_warnings():
            io = export(
                lambda: NWBExtFilesHDF5IO(target, "w"),
                source,
                case.way,
                relocate_media=True,
                media_mode=case.mode,
                media_options=dict(missing="keep", sync=False),
            )
        after = tree(root)

        # Every reference leads to the same bytes, and what led nowhere is as it was.
        found = paths_by_object(target)
        assert found.keys() == expected.keys()
        for path, wanted in expected.items():
            assert len(found[path]) == len(wanted)
            for text, content in zip(found[path], wanted, strict=True):
                if isinstance(content, str):
                    assert text == content
                else:
                    assert not Path(text).is_absolute()
                    assert (target.parent / text).read_bytes() == content
                    assert (case.mode == "reference") or text.startswith("x/")

        # Nothing else in the file differs from what pynwb writes.
        ours = everything_else(target)
        assert ours.keys() == theirs.keys()
        for path, entry in theirs.items():
            assert ours[path] == entry, path

        # Nothing else on the disk is touched, and nothing is left behind.
        gone = {path.relative_to(root).as_posix() for path in named} if case.mode == "move" else set()
        assert {path: entry for path, entry in before.items() if path not in gone}.items() <= after.items()
        assert not gone & after.keys()
        new = after.keys() - before.keys()
        media = {entry.target for entry in io.relocation.relocations if entry.target is not None}
        below = target.parent.relative_to(root)
        allowed = {(below / place).as_posix() for place in ("x.nwb", *media)}
        allowed |= {(below / "x").as_posix()} if media else set()
        assert new == allowed


EVERYWHERE = settings(deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("mode", MODES)
@settings(EVERYWHERE, max_examples=6)
@given(st.data())
def test_any_export_relocates_all_media(mode: str, data: st.DataObject) -> None:
    check(data.draw(cases(mode)))


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@settings(EVERYWHERE, max_examples=60)
@given(st.data())
def test_any_export_relocates_all_media_long(mode: str, data: st.DataObject) -> None:
    check(data.draw(cases(mode)))

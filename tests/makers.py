"""Make NWB files with media in every field that can hold them, and check where the media were put.

Run as a script, ``makers.py <what> <path>`` makes files with types that the process of the tests must not load.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from helpers import image_series, new_nwbfile
from pynwb import NWBHDF5IO, NWBFile, ProcessingModule, TimeSeries
from pynwb.base import ExternalImage, ImageReferences, Images
from pynwb.behavior import BehavioralEvents
from pynwb.image import OpticalSeries
from pynwb.ophys import (
    CorrectedImageStack,
    ImagingPlane,
    MotionCorrection,
    OnePhotonSeries,
    OpticalChannel,
    TwoPhotonSeries,
)


def make_media(path: Path) -> Path:
    """Make a file whose content is its name. No test here decodes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"media " + os.fsencode(path.name) * 50)
    return path


class Media:
    """Makes media in a folder, and returns the paths by which an NWB file in a folder beside it refers to them."""

    def __init__(self, folder: Path, *, absolute: bool = False) -> None:
        self.folder = folder
        self.absolute = absolute
        self.places: dict[str, list[str]] = {}

    def __call__(self, dataset: str, *names: str) -> list[str]:
        """The paths for a dataset; the names of its media are kept in `places`."""
        self.places[dataset] = list(names)
        for name in names:
            make_media(self.folder / name)
        if self.absolute:
            return [str(self.folder / name) for name in names]
        return [f"../{self.folder.name}/{name}" for name in names]


# ------------------------------------------------------------- the core types


def nwbfile_with_media_everywhere(media: Media) -> NWBFile:
    """An NWB file in memory, with media wherever the core types can have them."""
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(media("acquisition/series/external_file", "a0.avi", "a1.AVI"), "series"))
    nwbfile.add_acquisition(plain_optical("optical", media("acquisition/optical/external_file", "o.mp4")))
    nwbfile.add_stimulus(image_series(media("stimulus/presentation/shown/external_file", "s.mov"), "shown"))
    nwbfile.add_stimulus(
        plain_optical("shown_optical", media("stimulus/presentation/shown_optical/external_file", "so.avi"))
    )
    nwbfile.add_stimulus_template(image_series(media("stimulus/templates/template/external_file", "t.wmv"), "template"))
    nwbfile.add_analysis(image_series(media("analysis/analysed/external_file", "an.avi"), "analysed"))
    nwbfile.add_scratch(image_series(media("scratch/sketch/external_file", "sc0.avi", "sc1.mkv"), "sketch"))

    plane = _imaging_plane(nwbfile)
    one = media("acquisition/one_photon/external_file", "p1.avi")
    nwbfile.add_acquisition(
        OnePhotonSeries(
            name="one_photon", imaging_plane=plane, external_file=one, format="external", starting_frame=[0],
            rate=10.0, num_samples=10,
        )
    )  # fmt: skip
    two = media("acquisition/two_photon/external_file", "p2.avi")
    nwbfile.add_acquisition(
        TwoPhotonSeries(
            name="two_photon", imaging_plane=plane, external_file=two, format="external", starting_frame=[0],
            rate=10.0, num_samples=10,
        )
    )  # fmt: skip

    ophys = nwbfile.create_processing_module("ophys", "images")
    behavior = nwbfile.create_processing_module("behavior", "behavior")
    behavior.add(image_series(media("processing/behavior/direct/external_file", "d.avi"), "direct"))
    behavior.add(
        BehavioralEvents(
            time_series=image_series(
                media("processing/behavior/BehavioralEvents/event/external_file", "e.avi"), "event"
            )
        )
    )
    corrected = "processing/ophys/MotionCorrection/stack/corrected/external_file"
    shift = TimeSeries(name="xy_translation", data=np.zeros((3, 2)), unit="pixels", rate=10.0)
    stack = CorrectedImageStack(
        name="stack",
        corrected=image_series(media(corrected, "c.avi"), "corrected"),
        original=nwbfile.acquisition["series"],
        xy_translation=shift,
    )
    ophys.add(MotionCorrection(corrected_image_stacks=[stack]))

    nwbfile.add_acquisition(_images("images", media, "acquisition/images"))
    nwbfile.add_stimulus_template(_images("shown_images", media, "stimulus/templates/shown_images"))
    behavior.add(_images("traces", media, "processing/behavior/traces"))
    return nwbfile


def plain_optical(name: str, paths: Sequence[str]) -> OpticalSeries:
    return OpticalSeries(
        name=name, external_file=list(paths), format="external", starting_frame=[0] * len(paths), rate=25.0,
        num_samples=10, distance=1.0, field_of_view=[1.0, 2.0], orientation="up",
    )  # fmt: skip


def _imaging_plane(nwbfile: NWBFile) -> ImagingPlane:
    return nwbfile.create_imaging_plane(
        name="plane",
        optical_channel=OpticalChannel(name="channel", description="green", emission_lambda=520.0),
        description="a plane", device=nwbfile.create_device(name="microscope"), excitation_lambda=900.0,
        indicator="GFP", location="V1",
    )  # fmt: skip


def _images(name: str, media: Media, path: str) -> Images:
    members = [
        ExternalImage(name=f"image{n}", data=media(f"{path}/image{n}", f"{name}{n}.{suffix}")[0], image_format=kind)
        for n, (suffix, kind) in enumerate((("png", "PNG"), ("JPG", "JPEG"), ("gif", "GIF")))
    ]
    return Images(
        name=name,
        images=members,
        order_of_images=ImageReferences(name="order_of_images", data=[members[2], members[0], members[1]]),
    )


def add_mask_series(path: Path, media: Media) -> None:
    """Add an ImageMaskSeries, with a link to what it masks, to a module. pynwb reads that type but cannot make it."""
    paths = media("processing/behavior/mask/external_file", "m.avi")
    with h5py.File(path, "r+") as file:
        module = file["processing/behavior"]
        file.copy(module["direct"], module, name="mask")
        mask = module["mask"]
        mask.attrs["neurodata_type"] = "ImageMaskSeries"
        mask.attrs["object_id"] = "0b5d6a5c-8f4e-4d43-9d3b-4a3d1c1f7a10"
        mask["external_file"][...] = paths
        mask["masked_imageseries"] = h5py.SoftLink("/acquisition/series")


def write_everywhere(path: Path, media: Media) -> Path:
    """Write, with pynwb alone, an NWB file with media wherever the core types can have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), NWBHDF5IO(path, "w") as io:
        io.write(nwbfile_with_media_everywhere(media))
    add_mask_series(path, media)
    return path


# ------------------------------------------------------------- extension types


def run_maker(what: str, path: Path) -> dict[str, list[str]]:
    """Make an NWB file in another process, so that this one does not load its types. Returns the media by dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, __file__, what, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    places: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return places


def run_python(code: str, *arguments: object) -> str:
    """Run Python code in another process, and return its output."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_extension(path: Path, media: Media) -> None:
    """Series of extension types, in acquisition and in a container of the extension, and its own field of paths."""
    get = _extension_classes()
    nwbfile = new_nwbfile()
    common = dict(format="external", rate=25.0, num_samples=10, description="a video")

    def series(cls: str, name: str, paths: list[str]) -> Any:
        return get(cls)(name=name, external_file=paths, starting_frame=[0] * len(paths), **common)

    nwbfile.add_acquisition(
        series("VideoSeries", "recorded", media("acquisition/recorded/external_file", "f0.avi", "f1.avi"))
    )
    box = "processing/behavior/box"
    behavior = nwbfile.create_processing_module("behavior", "behavior")
    behavior.add(
        get("VideoBox")(
            name="box",
            video_series=[
                series("VideoSeries", "one", media(f"{box}/one/external_file", "b1.avi")),
                series("TrackedVideoSeries", "two", media(f"{box}/two/external_file", "b2.avi")),
            ],
        )
    )
    behavior.add(
        get("VideoArchive")(
            name="archive", video_paths=media("processing/behavior/archive/video_paths", "r0.avi", "r1.avi")
        )
    )
    nwbfile.add_acquisition(image_series(media("acquisition/plain/external_file", "plain.avi"), "plain"))
    image = media("acquisition/images/labelled", "labelled.png")[0]
    labelled = get("LabelledImage")(name="labelled", data=image, image_format="PNG")
    order = ImageReferences(name="order_of_images", data=[labelled])
    nwbfile.add_acquisition(Images(name="images", images=[labelled], order_of_images=order))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


def _extension_classes() -> Any:
    from pynwb import get_class, load_namespaces
    from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder

    builder = NWBNamespaceBuilder(
        "videos", "ndx-videos", version="0.1.0", author="A. Nonymous", contact="a@example.org"
    )
    for base in ("ImageSeries", "NWBDataInterface", "ExternalImage"):
        builder.include_type(base, namespace="core")
    for spec in (
        NWBGroupSpec(doc="recorded", neurodata_type_def="VideoSeries", neurodata_type_inc="ImageSeries"),
        NWBGroupSpec(doc="tracked", neurodata_type_def="TrackedVideoSeries", neurodata_type_inc="VideoSeries"),
        NWBDatasetSpec(
            doc="labelled", neurodata_type_def="LabelledImage", neurodata_type_inc="ExternalImage", dtype="text"
        ),
        NWBGroupSpec(
            doc="a box of series",
            neurodata_type_def="VideoBox",
            neurodata_type_inc="NWBDataInterface",
            groups=[NWBGroupSpec(doc="series", neurodata_type_inc="VideoSeries", quantity="*")],
        ),
        NWBGroupSpec(
            doc="an archive",
            neurodata_type_def="VideoArchive",
            neurodata_type_inc="NWBDataInterface",
            datasets=[NWBDatasetSpec(doc="paths", name="video_paths", dtype="text", shape=(None,), dims=("videos",))],
        ),
    ):
        builder.add_spec("ndx-videos.extensions.yaml", spec)
    with tempfile.TemporaryDirectory() as folder:
        builder.export("ndx-videos.namespace.yaml", outdir=folder)
        load_namespaces(str(Path(folder, "ndx-videos.namespace.yaml")))
    return lambda name: get_class(name, "ndx-videos")


def write_pose(path: Path, media: Media) -> None:
    """A PoseEstimation that shares some of its videos with a series that comes after it."""
    from ndx_pose import PoseEstimation, PoseEstimationSeries

    nwbfile = new_nwbfile()
    module: ProcessingModule = nwbfile.create_processing_module("behavior", "behavior")
    nose = PoseEstimationSeries(
        name="nose", description="nose", data=np.zeros((5, 2)), unit="pixels", reference_frame="corner", rate=25.0,
        confidence=np.ones(5),
    )  # fmt: skip
    original = media("processing/behavior/PoseEstimation/original_videos", "video0.avi", "own.avi", "video1.avi")
    original[2] = str(media.folder / "video1.avi")  # as DeepLabCut's converter writes it
    labeled = media("processing/behavior/PoseEstimation/labeled_videos", "labeled0.mp4", "labeled1.mp4", "labeled2.mp4")
    module.add(
        PoseEstimation(
            pose_estimation_series=[nose], description="a pose", original_videos=original, labeled_videos=labeled,
            dimensions=np.array([[64, 48]] * 3, dtype="uint16"), scorer="a net", source_software="a program",
        )
    )  # fmt: skip
    nwbfile.add_stimulus(
        image_series(media("stimulus/presentation/video/external_file", "video0.avi", "video1.avi"), "video")
    )
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


# --------------------------------------------------------------------- checks


@dataclass(frozen=True)
class Found:
    """One dataset of paths on disk."""

    paths: list[str]
    object_id: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    compression: str | None


def look(path: Path, dataset: str) -> Found:
    """Read a dataset of paths and the object_id of its object, with h5py alone."""
    with h5py.File(path, "r") as file:
        item = file[dataset]
        owner = item if "neurodata_type" in item.attrs else file[dataset.rpartition("/")[0]]
        values = item[()]
        values = [values] if isinstance(values, str | bytes) else np.asarray(values, dtype=object).ravel().tolist()
        paths = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
        object_id = str(owner.attrs.get("object_id", ""))
        return Found(paths, object_id, item.dtype, item.shape, item.chunks, item.compression)


def assert_relocated(path: Path, media: Path, places: Mapping[str, Sequence[str]]) -> None:
    """Each dataset names its media as DANDI does, they have the right bytes, and there are no other media."""
    expected = set()
    for dataset, names in places.items():
        found = look(path, dataset)
        field = dataset.rpartition("/")[2]
        field = field if field in ("original_videos", "labeled_videos", "video_paths") else "external_file"
        for index, (stored, name) in enumerate(zip(found.paths, names, strict=True)):
            suffix = Path(name).suffix.lower()
            assert stored == f"{path.stem}/{found.object_id}_{field}_{index}{suffix}", dataset
            assert (path.parent / stored).read_bytes() == (media / name).read_bytes(), dataset
            expected.add(stored)
    assert {place.relative_to(path.parent).as_posix() for place in (path.parent / path.stem).iterdir()} == expected


def order_of_images(path: Path, images: str) -> list[str]:
    """The names that the object references of an Images object point to."""
    with h5py.File(path, "r") as file:
        return [file[reference].name.rpartition("/")[2] for reference in file[images]["order_of_images"][()]]


# --------------------------------------------------------------------- exports

WAYS = ("as_it_is", "container", "series_modified", "file_modified", "without_links")


def arguments_of(way: str, src_io: Any, series: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments for one way to export. Reads the source, and sets objects modified, where that way needs it."""
    if way == "as_it_is":
        return {}
    nwbfile = src_io.read()
    if way == "series_modified":
        for container in [child for child in nwbfile.all_children() if child.name in series]:
            container.set_modified()
    elif way == "file_modified":
        nwbfile.set_modified()
    arguments: dict[str, Any] = {"nwbfile": nwbfile}
    if way == "without_links":
        arguments["write_args"] = {"link_data": False}
    return arguments


@contextmanager
def quiet(but: str | None = None) -> Iterator[None]:
    """Ignore warnings of pynwb and HDMF. Those of this package stay errors, except for one that matches `but`."""
    from nwb_extfiles import ExternalFilesWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ExternalFilesWarning)
        if but is not None:
            warnings.filterwarnings("ignore", but, ExternalFilesWarning)
        yield


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder that must not be changed itself."""
    return Path(shutil.copytree(source, target, symlinks=True))


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    made = Media(where.parent.parent / "media")
    {"extension": write_extension, "pose": write_pose}[what](where, made)
    print(json.dumps(made.places))

"""For the tests of libraries that write, copy or publish NWB files: example files, and a checker.

`make_nwb_with_media` makes an NWB file with real media in every place that may hold a path;
`assert_external_files_resolve` asserts that all of them are still found. The fixtures are in
`nwb_extfiles.pytest_plugin`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from .hints import quoted
from .media.small_videos import FRAMES, RATE, walking_dot, write_avi, write_png
from .nwb.files import open_nwb
from .nwb.references import ExternalFileReference
from .nwb.scan import find_in_file
from .plans.stored_paths import is_absolute, is_url, without_file_scheme

if TYPE_CHECKING:
    from pynwb import NWBFile
    from pynwb.image import ImageSeries

__all__ = [
    "NWBWithMedia",
    "assert_external_files_resolve",
    "image_series",
    "make_image",
    "make_nwb_with_media",
    "make_video",
    "new_nwbfile",
    "write_nwb",
]


@dataclass(frozen=True, slots=True)
class NWBWithMedia:
    """An NWB file with media, and what is in it."""

    path: Path
    """The NWB file."""
    folder: Path
    """The folder of its media, beside that of the NWB file."""
    media: Mapping[str, tuple[Path, ...]]
    """The media that each dataset of stored paths names, by the path of the dataset in the NWB file."""


# ---------------------------------------------------------------------- media


def make_video(path: str | os.PathLike[str], seed: int = 0) -> Path:
    """Write a video of one second: uncompressed AVI, 96 x 72 pixels, which every player plays.

    Parameters
    ----------
    path : path
        Replaced if it exists; missing folders are created.
    seed : int
        Each seed makes another video.

    Returns
    -------
    pathlib.Path
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_avi(path, walking_dot(seed), RATE)
    return path


def make_image(path: str | os.PathLike[str], seed: int = 0) -> Path:
    """Write an image, as `make_video` does a video: PNG, 96 x 72 pixels."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, walking_dot(seed)[0])
    return path


# ------------------------------------------------------------------ NWB files


def new_nwbfile(identifier: str = "id0", subject: str = "mouse0", session: str = "sessionid0") -> NWBFile:
    """An NWB file in memory that passes the validators of DANDI.

    Parameters
    ----------
    identifier, subject, session : str
        Identifier of the file, subject_id and session_id.

    Returns
    -------
    pynwb.NWBFile
    """
    from pynwb import NWBFile
    from pynwb.file import Subject

    return NWBFile(
        session_description="a mouse is recorded",
        identifier=identifier,
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        session_id=session,
        experimenter=["Doe, Jane"],
        institution="An institute",
        lab="A lab",
        experiment_description="recording",
        keywords=["video"],
        subject=Subject(subject_id=subject, species="Mus musculus", sex="M", age="P90D", description="a mouse"),
    )


def image_series(paths: Sequence[str | os.PathLike[str]], name: str = "video", **kwargs: Any) -> ImageSeries:
    """An ImageSeries with external files.

    Parameters
    ----------
    paths : sequence of str or path
        What to store in ``external_file``.
    name : str
        Name of the series.
    **kwargs
        Further arguments of `pynwb.image.ImageSeries`.

    Returns
    -------
    pynwb.image.ImageSeries
    """
    from pynwb.image import ImageSeries

    kwargs.setdefault("rate", float(RATE))
    kwargs.setdefault("num_samples", 10 * max(1, len(paths)))
    kwargs.setdefault("starting_frame", [10 * index for index in range(len(paths))])
    return ImageSeries(name=name, external_file=list(paths), format="external", description="a video", **kwargs)


def write_nwb(path: str | os.PathLike[str], paths: Sequence[str], **kwargs: Any) -> Path:
    """Write an NWB file with one ImageSeries ``video`` in acquisition, by pynwb alone.

    Parameters
    ----------
    path : path
        Replaced if it exists; missing folders are created.
    paths : sequence of str
        What to store in ``external_file``; no video needs to exist.
    **kwargs
        As in `new_nwbfile`.

    Returns
    -------
    pathlib.Path
    """
    nwbfile = new_nwbfile(**kwargs)
    nwbfile.add_acquisition(image_series(paths))
    return _write(nwbfile, Path(path))


def _write(nwbfile: NWBFile, path: Path) -> Path:
    from pynwb import NWBHDF5IO

    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


class _Media:
    """Makes media when they are first named, each with other content, and records which datasets name them."""

    def __init__(self, folder: Path, absolute: bool) -> None:
        self.folder = folder
        self.absolute = absolute
        self.named: dict[str, tuple[Path, ...]] = {}
        self._made: dict[str, Path] = {}

    def __call__(self, dataset: str, *names: str) -> list[str]:
        """Make media, and return the paths to store in a dataset."""
        for name in names:
            if name not in self._made:
                make = make_image if name.endswith(".png") else make_video
                self._made[name] = make(self.folder / name, seed=len(self._made))
        self.named[dataset] = tuple(self._made[name] for name in names)
        return [str(path) if self.absolute else f"../{self.folder.name}/{path.name}" for path in self.named[dataset]]


def make_nwb_with_media(folder: str | os.PathLike[str], *, absolute: bool = False) -> NWBWithMedia:
    """Write an NWB file with media in every place that may hold a path.

    Parameters
    ----------
    folder : path
        Gets ``nwb/source.nwb``, and ``media/`` with the videos and images; it is created if it is missing.
    absolute : bool
        Whether the stored paths are absolute; else they are relative to the NWB file, ``../media/…``.

    Returns
    -------
    NWBWithMedia
        With `ImageSeries` in acquisition (two videos), stimulus and processing, and one deep in other containers;
        `ExternalImage` in an `Images`; and, if ndx-pose is installed, a `PoseEstimation` with lists of videos. pynwb
        alone writes them.
    """
    from pynwb.base import ExternalImage, Images, TimeSeries
    from pynwb.ophys import CorrectedImageStack, MotionCorrection

    folder = Path(os.path.abspath(folder))
    media = _Media(folder / "media", absolute)
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(media("/acquisition/video/external_file", "first.avi", "second.AVI")))
    shown = media("/stimulus/presentation/shown/external_file", "shown.avi")
    nwbfile.add_stimulus(image_series(shown, "shown"))
    template = media("/stimulus/templates/template/external_file", "template.avi")
    nwbfile.add_stimulus_template(image_series(template, "template"))
    behavior = nwbfile.create_processing_module("behavior", "what the mouse does")
    behavior.add(image_series(media("/processing/behavior/cropped/external_file", "cropped.avi"), "cropped"))
    corrected = "/processing/behavior/MotionCorrection/stack/corrected/external_file"
    stack = CorrectedImageStack(
        name="stack",
        corrected=image_series(media(corrected, "corrected.avi"), "corrected"),
        original=nwbfile.acquisition["video"],
        xy_translation=TimeSeries(name="xy_translation", data=np.zeros((10, 2)), unit="pixels", rate=float(RATE)),
    )
    behavior.add(MotionCorrection(corrected_image_stacks=[stack]))
    (png,) = media("/acquisition/images/image", "image.png")
    image = ExternalImage(name="image", data=png, image_format="PNG")
    nwbfile.add_acquisition(Images(name="images", images=[image], description="of the mouse"))
    path = folder / "nwb" / "source.nwb"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ndx-pose warns that these fields are deprecated
        pose = _pose(media)
        if pose is not None:
            behavior.add(pose)
        _write(nwbfile, path)
    return NWBWithMedia(path, media.folder, media.named)


def _pose(media: _Media) -> Any:
    """What a pose tracker writes; None without ndx-pose."""
    try:
        from ndx_pose import PoseEstimation, PoseEstimationSeries
    except ImportError:
        return None
    series = PoseEstimationSeries(
        name="nose", description="nose", data=np.zeros((FRAMES, 2)), unit="pixels", reference_frame="corner",
        rate=float(RATE), confidence=np.ones(FRAMES),
    )  # fmt: skip
    place = "/processing/behavior/PoseEstimation"
    return PoseEstimation(
        pose_estimation_series=[series],
        description="a pose",
        original_videos=media(f"{place}/original_videos", "first.avi"),
        labeled_videos=media(f"{place}/labeled_videos", "labeled.avi"),
        dimensions=np.array([[96, 72]], dtype="uint16"),
        scorer="a net",
        source_software="a program",
    )


# ---------------------------------------------------------------- the checker


def assert_external_files_resolve(path: str | os.PathLike[str], *, portable: bool = False) -> list[Path]:
    """Assert that every external file that an NWB file names exists.

    h5py or zarr reads the file. URLs are not checked, except ``file://`` ones.

    Parameters
    ----------
    path : path
        An NWB file in HDF5, or the folder of a Zarr store.
    portable : bool
        Whether the NWB file must also be movable with its media: all paths relative, with forward slashes, at or below
        the folder of the NWB file, and not symbolic links to other places.

    Returns
    -------
    list of pathlib.Path
        The files, in the order of the NWB file.

    Raises
    ------
    AssertionError
        With a line for each entry that is broken.
    UnreadableFileError
        If there is no such NWB file.
    """
    path = Path(os.path.abspath(path))
    found: list[Path] = []
    broken: list[str] = []
    with open_nwb(path) as file:
        references = find_in_file(file)
    for reference in references:
        if is_url(reference.stored_path):
            continue
        try:
            place = Path(str(reference.base), without_file_scheme(reference.stored_path))
        except ValueError:  # on another machine
            place = Path(str(reference.base), reference.stored_path)
        reasons = [] if place.is_file() else [f"there is no file {quoted(place)}"]
        if portable:
            reasons.extend(_why_not_portable(reference, place, path))
        if reasons:
            entry = f"{reference.object_path}, {reference.field}[{reference.index}]"
            broken.append(f"  {entry}: {quoted(reference.stored_path)}: {'; '.join(reasons)}")
        found.append(place)
    if broken:
        raise AssertionError(
            f"{len(broken)} of {len(references)} external files of {path} do not resolve:\n" + "\n".join(broken)
        )
    return found


def _why_not_portable(reference: ExternalFileReference, place: Path, nwb_path: Path) -> Iterator[str]:
    if is_absolute(reference.stored_path):
        yield "it is absolute"
    elif "\\" in reference.stored_path:
        yield "it has backslashes"
    elif ".." in PurePosixPath(reference.stored_path).parts:
        yield f"it points outside {quoted(nwb_path.parent)}"
    elif not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(nwb_path.parent)):
        yield f"it is a symbolic link to {quoted(os.path.realpath(place))}"

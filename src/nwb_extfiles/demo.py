"""A complete example with its own data: ``nwb-extfiles demo DIR``.

It exports two NWB files, each with an ImageSeries of two videos in a folder beside, into a dandiset. The videos are
real: uncompressed AVI, which every player plays and which needs no encoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import RelocationRefusedError
from .media.small_videos import FRAMES, RATE, walking_dot, write_avi
from .options import MediaModes

__all__ = ["draw_tree", "make_example", "run_demo"]


@dataclass(frozen=True, slots=True)
class _Session:
    """One recording of the example."""

    source: str
    subject: str
    session: str
    videos: tuple[str, str]

    @property
    def target(self) -> str:
        """Path of the NWB file in a dandiset, as DANDI names it."""
        return f"sub-{self.subject}/sub-{self.subject}_ses-{self.session}_image.nwb"


_SESSIONS = (
    _Session("test1_0_0.nwb", "mouse0", "sessionid0", ("test1_0.avi", "test1_1.avi")),
    _Session("test1_1_1.nwb", "mouse1", "sessionid1", ("test2_0.avi", "test2_1.avi")),
)


def run_demo(folder: Path, mode: MediaModes, say: Callable[[str], object]) -> None:
    """Make the example in a folder, export it into a dandiset, and report what happened.

    Parameters
    ----------
    folder : pathlib.Path
        Must be empty, or not exist yet.
    mode : MediaMode, str or sequence of these
        How the videos are brought into the dandiset.
    say : callable
        Called with each line of the report.

    Raises
    ------
    RelocationRefusedError
        If the folder is not empty; nothing is changed.
    """
    from pynwb import NWBHDF5IO

    from .io.hdf5 import NWBExtFilesHDF5IO

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RelocationRefusedError(f"{folder} is not empty", hint="name a new folder for the example")
    make_example(folder)
    say("Before:\n")
    _say_tree(folder, say)
    dandiset = folder / "dandiset"
    for session in _SESSIONS:
        say(f"\nnwbfiles/{session.source} -> dandiset/{session.target}")
        with (
            NWBHDF5IO(folder / "nwbfiles" / session.source, "r") as source,
            NWBExtFilesHDF5IO(dandiset / session.target, "w") as io,
        ):
            io.export(src_io=source, relocate_media=True, media_mode=mode)
    say("\nAfter:\n")
    _say_tree(folder, say)
    for session in _SESSIONS:
        _say_references(dandiset / session.target, say)


def make_example(folder: Path) -> None:
    """Write the NWB files and videos of the example.

    Parameters
    ----------
    folder : pathlib.Path
        Gets ``nwbfiles/`` and ``video_files/``.
    """
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.file import Subject
    from pynwb.image import ImageSeries

    (folder / "nwbfiles").mkdir(parents=True)
    (folder / "video_files").mkdir()
    for number, session in enumerate(_SESSIONS):
        for index, video in enumerate(session.videos):
            write_avi(folder / "video_files" / video, walking_dot(seed=2 * number + index), rate=RATE)
        nwbfile = NWBFile(
            session_description="A mouse walks through the image.",
            identifier=f"nwb-extfiles-demo-{number}",
            session_start_time=datetime(2024, 1, 1 + number, 12, tzinfo=UTC),
            session_id=session.session,
            experimenter=["Doe, Jane"],
            subject=Subject(subject_id=session.subject, species="Mus musculus", sex="F", age="P90D"),
        )
        nwbfile.add_acquisition(
            ImageSeries(
                name="behavior_video",
                description="Two videos, one after the other.",
                external_file=[f"../video_files/{video}" for video in session.videos],
                format="external",
                starting_frame=[0, FRAMES],
                rate=float(RATE),
                num_samples=2 * FRAMES,
            )
        )
        with NWBHDF5IO(folder / "nwbfiles" / session.source, "w") as io:
            io.write(nwbfile)


def _say_references(nwb_path: Path, say: Callable[[str], object]) -> None:
    import h5py

    from .nwb.scan import find_in_file

    say(f"\n{nwb_path.name}")
    with h5py.File(nwb_path, "r") as file:
        for reference in find_in_file(file):
            found = nwb_path.parent / reference.stored_path
            state = f"{found.stat().st_size:,} bytes" if found.is_file() else "MISSING"
            say(f"  {reference.object_path} {reference.field}[{reference.index}]\n    {reference.stored_path}: {state}")


def _say_tree(folder: Path, say: Callable[[str], object]) -> None:
    for line in draw_tree(folder):
        say(line)


def draw_tree(folder: Path, indent: str = "") -> Iterator[str]:
    """A folder and all below it, one line each, and the targets of links."""
    if not indent:
        yield f"{folder.name}/"
    entries = sorted(folder.iterdir())
    for number, entry in enumerate(entries, start=1):
        branch, below = ("└── ", "    ") if number == len(entries) else ("├── ", "│   ")
        is_folder = entry.is_dir() and not entry.is_symlink()
        link = f" -> {os.readlink(entry)}" if entry.is_symlink() else ""
        yield f"{indent}{branch}{entry.name}{'/' if is_folder else ''}{link}"
        if is_folder:
            yield from draw_tree(entry, indent + below)

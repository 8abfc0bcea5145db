"""Series in memory compared with their videos, as a conversion does before it writes; `test_neuroconv` has the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import image_series, new_nwbfile
from videos import Videos, decoded_frames

from nwb_extfiles import MediaOptions
from nwb_extfiles.tasks.check.new_series import check_new_series


def codes(paths: list[Path | str], options: MediaOptions | None = None, **kwargs: Any) -> list[str]:
    """What is found in a series of these videos, in a new NWB file."""
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(paths, **kwargs))
    return [finding.code for finding in check_new_series(nwbfile.all_children(), options or MediaOptions())]


@pytest.mark.parametrize("name", ["b_frames.mp4", "h264.mkv", "remuxed.avi", "no_b_frames.h264"])
def test_numbers_of_frames(all_videos: Videos, name: str) -> None:
    """Also in files without an index, which `check` leaves alone unless it is asked to read them."""
    count = decoded_frames(all_videos[name])
    assert codes([all_videos[name]], num_samples=count) == []
    assert codes([all_videos[name]], num_samples=count + 1) == ["frames-missing"]
    assert codes([all_videos[name]], num_samples=count - 1) == ["frames-left-over"]
    times = np.cumsum(np.random.default_rng(0).uniform(0.03, 0.04, count + 1))
    assert codes([all_videos[name]], timestamps=times, rate=None, num_samples=None) == ["frames-missing"]
    assert codes([all_videos[name]] * 2, num_samples=2 * count, starting_frame=[0, count]) == []
    assert codes([all_videos[name]] * 2, num_samples=2 * count, starting_frame=[0, 5]) == ["starting-frame"]


@pytest.mark.parametrize(
    ("name", "code"), [("playlist.mp4", "not-a-video"), ("no_index.mp4", "cut-off"), ("cut_off.mp4", "cut-off")]
)
def test_files_that_are_no_whole_videos(all_videos: Videos, name: str, code: str) -> None:
    assert codes([all_videos[name]]) == [code]


def test_videos_that_cannot_be_read_are_left_to_the_relocation(all_videos: Videos, tmp_path: Path) -> None:
    assert codes([tmp_path / "gone.mp4"]) == []
    assert codes(["https://example.org/video.mp4"]) == []
    if sys.platform == "linux":
        assert codes(["/proc/self/mem"]) == []  # a regular file, whose first bytes the system refuses


def test_videos_are_found_as_on_relocation(all_videos: Videos) -> None:
    options = MediaOptions(search=[all_videos["b_frames.mp4"].parent])
    assert codes(["b_frames.mp4"], num_samples=61) == []
    assert codes(["b_frames.mp4"], options, num_samples=61) == ["frames-missing"]

"""
Is it the right video?
======================

A path can be right and the video wrong: the camera dropped frames, a copy broke off, or two videos were swapped. ``check``
counts the frames of each video and compares them with its series. This needs PyAV: ``pip install "nwb-extfiles[video]"``.
"""

# %%
# A session
# ---------
#
# The computer recorded 29 pulses of the camera, one for each frame. The camera dropped 4 of these frames, so each video
# has 25.

import os
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import h5py
import imageio.v3 as iio
import imageio_ffmpeg
import matplotlib.pyplot as plt
import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.image import ImageSeries

from nwb_extfiles import check
from nwb_extfiles.testing import make_video

lab = Path(tempfile.mkdtemp(), "lab")
os.makedirs(lab)
make_video(lab / "face.avi")
ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
subprocess.run(
    [*ffmpeg, "-i", lab / "face.avi", "-c:v", "ffv1", lab / "body.mkv"], check=True
)
pulses = 12.5 + np.arange(29) / 25  # seconds

nwbfile = NWBFile(
    session_description="a mouse in an arena",
    identifier="mouse0_arena",
    session_start_time=datetime(2024, 1, 1, 12, tzinfo=UTC),
)
for name in ("face.avi", "body.mkv"):
    nwbfile.add_acquisition(
        ImageSeries(
            name=Path(name).stem,
            description="a video",
            external_file=[name],
            format="external",
            starting_frame=[0],
            timestamps=pulses,
        )
    )
with NWBHDF5IO(lab / "arena.nwb", "w") as io:
    io.write(nwbfile)

# %%
# pynwb and NWB Inspector accept this file: they do not open videos.
#
# Compare the videos with their series
# ------------------------------------


def show_problems(frames: str | None = None) -> None:
    """Print what is wrong with the videos."""
    for finding in check(lab / "arena.nwb", frames=frames):
        if finding.severity != "info":
            print(f"{finding.severity}: {finding.object_path}: {finding.message}")


show_problems()

# %%
# This read the index of each video, some kilobytes. An ``.mkv`` has no index of all its frames, so those of ``body.mkv``
# were not counted. ``frames="packets"`` reads the videos from beginning to end, which takes longer than a checksum:

show_problems("packets")

# %%
# The same on the command line, with a progress bar. The exit code is 1 if there is an error:
#
# .. code-block:: sh
#
#    nwb-extfiles check --frames packets lab/arena.nwb
#
# ``--frames decode`` decodes all frames, and finds damaged ones. It takes minutes for a gigabyte.
#
# What to do
# ----------
#
# 1. Look for the complete video. Often the copy is incomplete, and the camera's computer still has the original.
# 2. If the camera dropped the frames, find out which. Most cameras number their frames, and the log or the video's own
#    times show which numbers are absent. Remove their timestamps; do not cut them off at the end.
# 3. If nobody knows which frames were dropped, say so in the description of the series.
#
# Here the log names the dropped frames:

dropped = [7, 8, 9, 20]
with h5py.File(lab / "arena.nwb", "r+") as file:
    for name in ("face", "body"):
        series = file[f"acquisition/{name}"]
        attributes = dict(series["timestamps"].attrs)
        del series["timestamps"]
        series["timestamps"] = np.delete(pulses, dropped)
        series["timestamps"].attrs.update(attributes)

show_problems("packets")
print("no problems are left")

# %%
# All codes are in :doc:`/howto/errors`. Not every difference is an error. Fewer timestamps than frames are a warning, as the
# series may mean only the first frames. A rate that differs from that of the video is not mentioned: high-speed cameras
# write 30 frames per second into their videos.
#
# Show a frame
# ------------
#
# Frame 7 of the video is the one with the pulse number 10.

with NWBHDF5IO(lab / "arena.nwb", "r") as io:
    time = io.read().acquisition["face"].timestamps[7]

plt.imshow(iio.imread(lab / "face.avi", index=7, plugin="FFMPEG"))
plt.axis("off")
plt.title(f"frame 7, {time:.2f} s")
plt.show()

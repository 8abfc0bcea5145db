"""
A file that holds bare file names
=================================

Some converters store the name of a video without its folder. The videos are elsewhere, on a server, sorted by day. This
file has the layout of the Frank lab's files: one series for each video, in ``BehavioralEvents`` inside a processing
module.
"""

# %%
# The file, and the videos on the server
# --------------------------------------

import os
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt
import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.behavior import BehavioralEvents
from pynwb.file import Subject
from pynwb.image import ImageSeries

from nwb_extfiles import NWBExtFilesHDF5IO, relocate, resolve_external_files
from nwb_extfiles.demo import draw_tree
from nwb_extfiles.testing import make_video

lab = Path(tempfile.mkdtemp(), "lab")
os.makedirs(lab / "server/20240101")
videos = ["20240101_rat1_01_s1.1.avi", "20240101_rat1_02_r1.1.avi"]
for number, video in enumerate(videos):
    make_video(lab / "server/20240101" / video, seed=number)

# pynwb deprecates this container, but such files exist.
warnings.filterwarnings("ignore", message="BehavioralEvents is deprecated")

nwbfile = NWBFile(
    session_description="sleep, then a run",
    identifier="rat1_20240101",
    session_start_time=datetime(2024, 1, 1, 12, tzinfo=UTC),
    session_id="20240101",
    subject=Subject(
        subject_id="rat1", species="Rattus norvegicus", sex="M", age="P150D"
    ),
)
events = BehavioralEvents(name="video")
for number, video in enumerate(videos):
    events.add_timeseries(
        ImageSeries(
            name=video,
            description="video of an epoch",
            external_file=[video],
            format="external",
            starting_frame=[0],
            timestamps=60.0 * number + np.arange(25) / 25,
        )
    )
nwbfile.create_processing_module(
    name="video_files", description="all videos of the day"
).add(events)
with NWBHDF5IO(lab / "rat1_20240101.nwb", "w") as io:
    io.write(nwbfile)
print(*draw_tree(lab), sep="\n")

# %%
# The names alone point to nothing:

for found in resolve_external_files(lab / "rat1_20240101.nwb"):
    print(found.problem)

# %%
# Say where to look
# -----------------
#
# ``search`` names folders. In each, the package looks for every trailing part of the stored path: for ``a/b.avi`` first
# ``a/b.avi``, then ``b.avi``. Subfolders are not searched, so give the folder of the day.

options = dict(search=lab / "server/20240101")
for found in resolve_external_files(
    lab / "rat1_20240101.nwb", media_options=options
):
    print(
        found.reference.stored_path,
        "->",
        Path(found.location).relative_to(lab.resolve()),
    )

# %%
# Export, or repair in place
# --------------------------
#
# The same option on export, into a new file:

target_path = lab / "dandiset/sub-rat1/sub-rat1_ses-20240101_image.nwb"
with (
    NWBHDF5IO(lab / "rat1_20240101.nwb", "r") as source,
    NWBExtFilesHDF5IO(target_path, "w") as io,
):
    io.export(
        src_io=source, relocate_media=True, media_mode="copy", media_options=options
    )
print(*draw_tree(lab / "dandiset"), sep="\n")

# %%
# Or fix the file in place. ``reference`` leaves the videos on the server and corrects the paths:

plan = relocate(lab / "rat1_20240101.nwb", "reference", media_options=options)
print(*plan.new_paths.values(), sep="\n")

# %%
# If a name matches two different videos in the search folders, that is an error, never a guess.
#
# Show a frame
# ------------

with NWBExtFilesHDF5IO(target_path, "r", resolve_media=True) as io:
    video = io.read().processing["video_files"]["video"][videos[0]].external_file[0]

plt.imshow(iio.imread(video, index=0, plugin="FFMPEG"))
plt.axis("off")
plt.title(videos[0])
plt.show()

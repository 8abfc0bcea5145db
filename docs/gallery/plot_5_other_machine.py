r"""
Repair a file from another machine
==================================

The NWB file was written on the rig's computer, under Windows, and holds paths such as
``D:\videos\mouse0\video.avi``. The videos have since been copied to the lab's server.
"""

# %%
# The file from the rig
# ---------------------

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject
from pynwb.image import ImageSeries

from nwb_extfiles import NWBExtFilesHDF5IO, check, relocate
from nwb_extfiles.demo import draw_tree
from nwb_extfiles.errors import MissingMediaError
from nwb_extfiles.testing import make_video

lab = Path(tempfile.mkdtemp(), "lab")
os.makedirs(lab / "server/videos/mouse0")
for number in (0, 1):
    make_video(lab / f"server/videos/mouse0/video_{number}.avi", seed=number)

nwbfile = NWBFile(
    session_description="a mouse in an arena",
    identifier="mouse0_arena",
    session_start_time=datetime(2024, 1, 1, 12, tzinfo=UTC),
    session_id="arena",
    subject=Subject(
        subject_id="mouse0", species="Mus musculus", sex="F", age="P90D"
    ),
)
nwbfile.add_acquisition(
    ImageSeries(
        name="behavior_video",
        description="two videos, one after the other",
        external_file=[
            r"D:\videos\mouse0\video_0.avi",
            r"d:\Videos\mouse0\video_1.avi",
        ],
        format="external",
        starting_frame=[0, 25],
        rate=25.0,
        num_samples=50,
    )
)
with NWBHDF5IO(lab / "arena.nwb", "w") as io:
    io.write(nwbfile)

# %%
# What is wrong
# -------------

for finding in check(lab / "arena.nwb"):
    print(f"{finding.severity}: {finding.stored_path}: {finding.message}")

# %%
# Without further options, the file is refused and does not change. A path with a drive letter is a Windows path, so it was
# not searched on this machine.

try:
    relocate(lab / "arena.nwb", "symlink")
except MissingMediaError as error:
    print(error)

# %%
# Say where the drive is now
# --------------------------
#
# ``path_map`` replaces the beginning of paths. Slashes and backslashes are equivalent, and a prefix with a drive letter
# ignores case. ``dry_run`` changes nothing:

options = dict(path_map={r"D:\videos": lab / "server/videos"})
plan = relocate(lab / "arena.nwb", "copy", media_options=options, dry_run=True)
for entry in plan.relocations:
    print(entry.reference.stored_path, "->", entry.target)

# %%
# Now for real. The NWB file is not rewritten: only its stored paths change, in place and crash-safe.

relocate(lab / "arena.nwb", "copy", media_options=options)
print(*draw_tree(lab), sep="\n")
problems = [found for found in check(lab / "arena.nwb") if found.severity != "info"]
print(f"{len(problems)} problems")

# %%
# The same on the command line:
#
# .. code-block:: sh
#
#    nwb-extfiles relocate --media-mode copy --path-map 'D:\videos=lab/server/videos' lab/arena.nwb
#
# Show a frame
# ------------

with NWBExtFilesHDF5IO(lab / "arena.nwb", "r", resolve_media=True) as io:
    video = io.read().acquisition["behavior_video"].external_file[1]

plt.imshow(iio.imread(video, index=5, plugin="FFMPEG"))
plt.axis("off")
plt.title("Video 1, frame 5")
plt.show()

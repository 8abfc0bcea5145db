"""
Export one file
===============

A session was recorded on video. Export its NWB file to a new folder under a new name, together with its two videos.
"""

# %%
# The folder before
# -----------------
#
# ``make_example`` writes NWB files and short videos that play, in a temporary folder.

import os
import tempfile
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt
from pynwb import NWBHDF5IO

from nwb_extfiles import NWBExtFilesHDF5IO, resolve_external_files
from nwb_extfiles.demo import draw_tree, make_example

lab = Path(tempfile.mkdtemp(), "lab")
make_example(lab)
print(*draw_tree(lab), sep="\n")

# %%
# The ``ImageSeries`` in the NWB file holds one path for each video, relative to the folder of the NWB file.


def show_references(nwb_path: Path) -> None:
    """Print each stored path, and whether it points to a video."""
    for found in resolve_external_files(nwb_path):
        print(
            found.reference.stored_path,
            "->",
            "nothing" if found.location is None else f"{found.size:,} bytes",
        )


source_path = lab / "nwbfiles/test1_0_0.nwb"
show_references(source_path)

# %%
# What breaks
# -----------
#
# pynwb's own export copies the paths unchanged. From another folder they point to nothing.

os.makedirs(lab / "plain/sub-mouse0")
with (
    NWBHDF5IO(source_path, "r") as source,
    NWBHDF5IO(lab / "plain/sub-mouse0/mouse0.nwb", "w") as io,
):
    io.export(src_io=source)
show_references(lab / "plain/sub-mouse0/mouse0.nwb")

# %%
# The same call with ``NWBExtFilesHDF5IO`` reports this, and writes nothing.

target_path = lab / "dandiset/sub-mouse0/sub-mouse0_ses-sessionid0_image.nwb"
try:
    with (
        NWBHDF5IO(source_path, "r") as source,
        NWBExtFilesHDF5IO(target_path, "w") as io,
    ):
        io.export(src_io=source)
except ValueError as error:
    print(error)
assert not os.path.exists(target_path)

# %%
# Export with the videos
# ----------------------
#
# ``relocate_media=True`` puts the videos beside the new file. ``media_mode`` says how; see
# :doc:`/howto/media_mode`.

with (
    NWBHDF5IO(source_path, "r") as source,
    NWBExtFilesHDF5IO(target_path, "w") as io,
):
    io.export(src_io=source, relocate_media=True, media_mode="copy")

print(*draw_tree(lab / "dandiset"), sep="\n")
show_references(target_path)

# %%
# After ``close``, the IO has a record of what it did:

for entry in io.relocation.relocations:
    print(entry.action, entry.source.path.name, "->", entry.target.name)

# %%
# Show a frame
# ------------
#
# ``resolve_media=True`` gives absolute paths, which any video reader can open from any working directory.

with NWBExtFilesHDF5IO(target_path, "r", resolve_media=True) as io:
    video = io.read().acquisition["behavior_video"].external_file[0]

plt.imshow(iio.imread(video, index=0, plugin="FFMPEG"))
plt.axis("off")
plt.title("Frame 0")
plt.show()

"""
A NeuroConv converter
=====================

NeuroConv writes the paths of videos as you give them, and copies no videos. With one more base class, it relocates the
videos too. This page needs ``pip install "neuroconv[video]"``.
"""

# %%
# Raw data
# --------
#
# A camera above the maze recorded two videos.

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt
from neuroconv import NWBConverter
from neuroconv.datainterfaces import ExternalVideoInterface

from nwb_extfiles import NWBExtFilesHDF5IO
from nwb_extfiles.demo import draw_tree
from nwb_extfiles.neuroconv import RelocateMediaMixin, relocating_backends
from nwb_extfiles.testing import make_video

lab = Path(tempfile.mkdtemp(), "lab")
os.makedirs(lab / "raw")
for number in (0, 1):
    make_video(lab / f"raw/top_{number}.avi", seed=number)

# %%
# The converter
# -------------
#
# ``RelocateMediaMixin`` comes before ``NWBConverter``. Nothing else in a converter changes.


class MazeConverter(RelocateMediaMixin, NWBConverter):
    """One session in the maze."""

    data_interface_classes = dict(Top=ExternalVideoInterface)


def make_converter(cls: type[NWBConverter]) -> NWBConverter:
    """Make a converter for the two videos."""
    videos = [str(lab / f"raw/top_{number}.avi") for number in (0, 1)]
    converter = cls(dict(Top=dict(file_paths=videos, video_name="top")))
    converter.data_interface_objects["Top"].set_aligned_segment_starting_times(
        [0.0, 1.0]
    )
    return converter


def make_metadata(converter: NWBConverter) -> dict:
    """Add what the videos do not say."""
    metadata = converter.get_metadata()
    metadata["NWBFile"].update(
        session_start_time=datetime(2024, 1, 1, 12, tzinfo=UTC), session_id="maze1"
    )
    metadata["Subject"] = dict(
        subject_id="mouse0", species="Mus musculus", sex="F", age="P90D"
    )
    return metadata


# %%
# Run it
# ------
#
# ``run_conversion`` takes the three arguments of ``NWBExtFilesHDF5IO``.

converter = make_converter(MazeConverter)
nwb_path = lab / "dandiset/sub-mouse0/sub-mouse0_ses-maze1_image.nwb"
converter.run_conversion(
    nwbfile_path=nwb_path,
    metadata=make_metadata(converter),
    relocate_media=True,
    media_mode="copy",
)
print(*draw_tree(lab), sep="\n")

# %%
# ``converter.relocation`` is the record of what happened to the videos.

for entry in converter.relocation.relocations:
    print(entry.source.path.name, "->", entry.new_path)

# %%
# A class can have its own defaults, for code whose calls you cannot change:


class AlwaysRelocating(MazeConverter):
    """Relocates its videos by default."""

    relocate_media = True
    media_mode = "copy"


# %%
# With PyAV (``pip install "av>=17"``), ``check_videos="error"`` compares the videos with their series before anything is
# written: :doc:`/howto/series`.

# %%
# Code that you cannot change
# ---------------------------
#
# If you cannot even change the classes, use ``relocating_backends``. Inside the ``with`` block, NeuroConv writes with the IO
# of this package, in the whole process.


class SomebodysConverter(NWBConverter):
    """Knows nothing of this package."""

    data_interface_classes = dict(Top=ExternalVideoInterface)


converter = make_converter(SomebodysConverter)
with relocating_backends(media_mode="copy"):
    os.mkdir(lab / "second")
    converter.run_conversion(
        nwbfile_path=lab / "second/maze1.nwb", metadata=make_metadata(converter)
    )
print(*draw_tree(lab / "second"), sep="\n")

# %%
# Show a frame
# ------------

with NWBExtFilesHDF5IO(nwb_path, "r", resolve_media=True) as io:
    video = io.read().acquisition["top"].external_file[1]

plt.imshow(iio.imread(video, index=0, plugin="FFMPEG"))
plt.axis("off")
plt.title("Video 1, frame 0")
plt.show()

"""
NWB files in Zarr stores
========================

``NWBExtFilesZarrIO`` is hdmf-zarr's ``NWBZarrIO`` with the same three arguments. See
:doc:`/zarr` for the differences from a file. This page needs ``pip install ".[zarr]"`` in a clone.
"""

# %%
# From HDF5 to Zarr
# -----------------

import tempfile
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt
from pynwb import NWBHDF5IO

from nwb_extfiles import (
    NWBExtFilesHDF5IO,
    NWBExtFilesZarrIO,
    resolve_external_files,
)
from nwb_extfiles.demo import draw_tree, make_example

lab = Path(tempfile.mkdtemp(), "lab")
make_example(lab)
store = lab / "dandiset/sub-mouse0/sub-mouse0_ses-sessionid0_image.nwb.zarr"
with (
    NWBHDF5IO(lab / "nwbfiles/test1_0_0.nwb", "r") as source,
    NWBExtFilesZarrIO(store, "w") as io,
):
    io.export(
        src_io=source,
        write_args=dict(link_data=False),
        relocate_media=True,
        media_mode="copy",
    )

# %%
# The store is a folder. Its videos are in another folder beside it, not inside.

print(*sorted(path.name for path in store.parent.iterdir()), sep="\n")
print(
    *draw_tree(lab / "dandiset/sub-mouse0/sub-mouse0_ses-sessionid0_image"),
    sep="\n",
)
for found in resolve_external_files(store):
    print(found.reference.stored_path, "->", f"{found.size:,} bytes")

# %%
# And back
# --------

with (
    NWBExtFilesZarrIO(store, "r") as source,
    NWBExtFilesHDF5IO(lab / "back/mouse0.nwb", "w") as io,
):
    io.export(
        src_io=source,
        write_args=dict(link_data=False),
        relocate_media=True,
        media_mode="copy",
    )
print(*draw_tree(lab / "back"), sep="\n")

# %%
# Show a frame
# ------------

with NWBExtFilesZarrIO(store, "r", resolve_media=True) as io:
    video = io.read().acquisition["behavior_video"].external_file[0]

plt.imshow(iio.imread(video, index=20, plugin="FFMPEG"))
plt.axis("off")
plt.title("Frame 20")
plt.show()

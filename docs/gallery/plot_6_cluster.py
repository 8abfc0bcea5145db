"""
A cluster with dask
===================

A hundred NWB files, or ten thousand: ``organize`` accepts any executor, such as that of a dask client. All machines of
the cluster must see the same file systems under the same paths. This page needs ``pip install distributed``.
"""

# %%
# The files
# ---------
#
# Eight sessions, with one video each.

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject
from pynwb.image import ImageSeries

from nwb_extfiles import check, organize
from nwb_extfiles.demo import draw_tree
from nwb_extfiles.testing import make_video

lab = Path(tempfile.mkdtemp(), "lab")
os.makedirs(lab / "nwbfiles")
os.makedirs(lab / "videos")
for number in range(8):
    make_video(lab / f"videos/{number}.avi", seed=number)
    nwbfile = NWBFile(
        session_description="a mouse in an arena",
        identifier=f"session {number}",
        session_start_time=datetime(2024, 1, 1 + number, 12, tzinfo=UTC),
        session_id=f"day{number}",
        subject=Subject(
            subject_id=f"mouse{number % 2}",
            species="Mus musculus",
            sex="F",
            age="P90D",
        ),
    )
    nwbfile.add_acquisition(
        ImageSeries(
            name="behavior_video",
            description="a video",
            external_file=[f"../videos/{number}.avi"],
            format="external",
            starting_frame=[0],
            rate=25.0,
            num_samples=25,
        )
    )
    with NWBHDF5IO(lab / f"nwbfiles/{number}.nwb", "w") as io:
        io.write(nwbfile)

# %%
# The cluster
# -----------
#
# Here, two workers on this machine. For real work, use the cluster of your institute, such as ``SLURMCluster`` of
# dask-jobqueue, with ``Client(cluster)`` around it; nothing else changes. Give each worker one thread.
#
# ``organize`` first reads all files and plans. It touches nothing until the plan is valid for all of them. Each worker then
# gets one NWB file with its videos at a time.

done = []
with (
    SubprocessCluster(
        worker_kwargs=dict(nthreads=1), scheduler_kwargs=dict(dashboard=False)
    ) as cluster,
    Client(cluster) as client,
):
    cluster.scale(2)
    plan = organize(
        lab / "nwbfiles",
        lab / "dandiset",
        media_mode="copy",
        executor=client.get_executor(),
        on_file=done.append,
    )
print(f"{len(done)} of {len(plan)} NWB files")
print(f"{plan.media_count} videos, {plan.total_bytes:,} bytes in all")
print(*draw_tree(lab / "dandiset"), sep="\n")

# %%
# If a file fails, the others are still done, and one error at the end lists all failures. Fix these problems and run the
# same call again: nothing is done twice. On one machine, use ``jobs=8`` instead of a cluster.

problems = [found for found in check(lab / "dandiset") if found.severity != "info"]
print(f"{len(problems)} problems")

# %%
# Show a frame
# ------------

video = min((lab / "dandiset").rglob("*.avi"))
plt.imshow(iio.imread(video, index=0, plugin="FFMPEG"))
plt.axis("off")
plt.title(video.name, fontsize=6)
plt.show()

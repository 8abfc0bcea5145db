"""
A cluster with dask
===================

A hundred NWB files, or ten thousand: ``organize`` takes any executor, such as that of a dask client. The machines of
the cluster must see the same file systems under the same paths. This page needs ``pip install distributed``.
"""

# %%
# The files
# ---------
#
# Eight sessions, with a film each.

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
from nwb_extfiles.testing import make_film

lab = Path(tempfile.mkdtemp(), "lab")
os.makedirs(lab / "nwbfiles")
os.makedirs(lab / "films")
for number in range(8):
    make_film(lab / f"films/{number}.avi", seed=number)
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
            description="a film",
            external_file=[f"../films/{number}.avi"],
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
# Here two workers on this machine. In your work it is the cluster of your institute, such as ``SLURMCluster`` of
# dask-jobqueue, with ``Client(cluster)`` around it; all else stays. Give each worker one thread.
#
# ``organize`` reads all files and decides first, and touches nothing before the plan holds for all of them. Each worker
# is then given one NWB file with its films at a time.

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
        media_files_mode="copy",
        executor=client.get_executor(),
        on_file=done.append,
    )
print(f"{len(done)} of {len(plan)} NWB files")
print(f"{plan.media_count} films, {plan.total_bytes:,} bytes in all")
print(*draw_tree(lab / "dandiset"), sep="\n")

# %%
# If a file fails, the others are done, and one error at the end tells of all that failed. Mend what it tells and run
# the same again: what is done is not done twice. On one machine ``jobs=8`` does without a cluster.

findings = list(check(lab / "dandiset"))
print(f"{len(findings)} findings")

# %%
# See a film
# ----------

film = min((lab / "dandiset").rglob("*.avi"))
plt.imshow(iio.imread(film, index=0, plugin="FFMPEG"))
plt.axis("off")
plt.title(film.name, fontsize=6)
plt.show()

"""
Publish a folder to DANDI
=========================

Put a folder of NWB files and their videos into a dandiset, check it, and prepare the upload. This page uses shell
commands; :func:`nwb_extfiles.organize` and :func:`nwb_extfiles.check` do the same in Python.
"""

# %%
# The folder before
# -----------------

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt

from nwb_extfiles.demo import draw_tree, make_example

lab = Path(tempfile.mkdtemp(), "lab")
make_example(lab)
print(*draw_tree(lab), sep="\n")


# %%
# The steps below are commands. This function runs one and shows its output, with shorter paths.


def shell(command: str) -> None:
    """Run a command of nwb-extfiles or dandi, and show its output."""
    start = {
        "nwb-extfiles": "nwb_extfiles.cli import main",
        "dandi": "dandi.cli.command import main",
    }
    program, *arguments = shlex.split(command)
    code = f"from {start[program]}; main(prog_name={program!r})"
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=lab,
    )
    said = (run.stdout + run.stderr).replace(f"{lab.resolve()}/", "")
    said = re.sub(r"(?m)^.*Logs saved in.*\n", "", said)
    print(f"$ {command}\n{said}[exit code {run.returncode}]")
    assert run.returncode == 0


os.environ["DANDI_NO_ET"] = "1"  # dandi does not ask the network for a newer dandi

# %%
# 1. The dandiset
# ---------------
#
# For a real upload, create a dandiset on the archive's website, and download its description with
#
# .. code-block:: sh
#
#    dandi download --download dandiset.yaml DANDI:000000
#
# where 000000 is the number of your dandiset. This creates the folder ``000000`` with ``dandiset.yaml`` in it. Here one
# line stands for that file.

os.mkdir(lab / "000000")
(lab / "000000/dandiset.yaml").write_text('identifier: "DANDI:000000"\n')

# %%
# 2. See what would happen
# ------------------------
#
# ``--dry-run`` changes nothing. It reports every problem with the plan at once. ``copy`` is one of the :doc:`media modes </howto/media_mode>`; symbolic links, the default, are enough for an upload.

shell("nwb-extfiles organize -d 000000 --media-mode copy --dry-run nwbfiles")

# %%
# 3. Organize
# -----------
#
# The NWB files get the names that ``dandi organize`` gives. Each is written with its videos or not at all. With
# ``--manifest`` the command also :doc:`records </howto/manifest>` the original names of the videos and their checksums.

shell("nwb-extfiles organize -d 000000 --media-mode copy nwbfiles")
print(*draw_tree(lab / "000000"), sep="\n")

# %%
# If a run was interrupted, run the same command again. It does not repeat what is done.

shell("nwb-extfiles organize -d 000000 --media-mode copy nwbfiles")

# %%
# 4. Check
# --------
#
# Every path points to a video, under the name that DANDI clients expect.

shell("nwb-extfiles check 000000")

# %%
# 5. Validate
# -----------
#
# DANDI checks the folder itself. Errors here would stop the upload.

shell("dandi validate 000000")

# %%
# 6. Upload
# ---------
#
# .. code-block:: sh
#
#    cd 000000
#    dandi upload
#
# This asks for the API key of your account, or reads it from ``DANDI_API_KEY``. It needs a network, and is not run here.
# After you have renamed files that are in the archive, use ``dandi upload --sync``, which removes the old names there.
# :doc:`/howto/archive` says more, and how a session is added later. The command would upload the files that this function of dandi finds:

from dandi.files import find_dandi_files

for file in sorted(
    find_dandi_files(lab / "000000", dandiset_path=lab / "000000"),
    key=lambda file: str(file.filepath),
):
    path = getattr(file, "path", file.filepath.name)
    print(f"{type(file).__name__:22} {path}")

# %%
# The videos are there, as ``VideoAsset``. The original folder has not changed. Here is a frame of a video in the dandiset:

video = min((lab / "000000").rglob("*.avi"))
plt.imshow(iio.imread(video, index=10, plugin="FFMPEG"))
plt.axis("off")
plt.title("Frame 10")
plt.show()

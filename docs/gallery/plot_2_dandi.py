"""
Publish a folder to DANDI
=========================

Put a folder of NWB files and their videos into a dandiset, check it, and upload it. The steps are commands for a
terminal; :func:`nwb_extfiles.organize`, :func:`nwb_extfiles.check` and :func:`nwb_extfiles.report` do the same in
Python.
"""

# %%
# The folder before
# -----------------
#
# The first command makes an example: two NWB files, with two videos each. With NWB files of your own, begin with step 1.
#
# .. code-block:: console
#
#    $ python -c "from pathlib import Path; from nwb_extfiles.demo import make_example; make_example(Path('lab'))"
#    $ cd lab
#    $ ls nwbfiles video_files
#    nwbfiles:
#    test1_0_0.nwb
#    test1_1_1.nwb
#
#    video_files:
#    test1_0.avi
#    test1_1.avi
#    test2_0.avi
#    test2_1.avi
#
# 1. The dandiset
# ---------------
#
# For a real upload, create a dandiset on the archive's website, and download its description with
#
# .. code-block:: sh
#
#    dandi download --download dandiset.yaml DANDI:000000
#
# where 000000 is the number of your dandiset. This creates the folder ``000000`` with ``dandiset.yaml`` in it. For the
# example, one line stands for that file:
#
# .. code-block:: console
#
#    $ mkdir 000000
#    $ echo 'identifier: "DANDI:000000"' > 000000/dandiset.yaml
#
# 2. See what would happen
# ------------------------
#
# ``--dry-run`` changes nothing, and reports every problem at once. ``copy`` is one of the
# :doc:`media modes </howto/media_mode>`; symbolic links, the default, are enough for an upload.
#
# .. code-block:: console
#
#    $ nwb-extfiles organize -d 000000 --media-mode copy --dry-run nwbfiles
#    into 000000
#    copy            174,360 bytes  nwbfiles/test1_0_0.nwb -> 000000/sub-mouse0/sub-mouse0_ses-sessionid0_image.nwb
#      copy            519,232 bytes  video_files/test1_0.avi -> 000000/sub-mouse0/sub-mouse0_ses-sessionid0_image/a47324d2-2379-45dc-81e0-f4fe8bb4db8f_external_file_0.avi
#      copy            519,232 bytes  video_files/test1_1.avi -> 000000/sub-mouse0/sub-mouse0_ses-sessionid0_image/a47324d2-2379-45dc-81e0-f4fe8bb4db8f_external_file_1.avi
#    copy            174,360 bytes  nwbfiles/test1_1_1.nwb -> 000000/sub-mouse1/sub-mouse1_ses-sessionid1_image.nwb
#      copy            519,232 bytes  video_files/test2_0.avi -> 000000/sub-mouse1/sub-mouse1_ses-sessionid1_image/b1fd4494-2756-4893-9b5c-d8ab9c03b0c0_external_file_0.avi
#      copy            519,232 bytes  video_files/test2_1.avi -> 000000/sub-mouse1/sub-mouse1_ses-sessionid1_image/b1fd4494-2756-4893-9b5c-d8ab9c03b0c0_external_file_1.avi
#    nothing was changed; without --dry-run: 4 videos copied (2,076,928 bytes), 2 NWB files copied (348,720 bytes)
#
# 3. Organize
# -----------
#
# The NWB files get the names that ``dandi organize`` gives. Each is written with its videos or not at all. With
# ``--manifest`` the command also :doc:`records </howto/manifest>` the original names of the videos and their checksums.
#
# .. code-block:: console
#
#    $ nwb-extfiles organize -d 000000 --media-mode copy nwbfiles
#    nwbfiles/test1_0_0.nwb -> 000000/sub-mouse0/sub-mouse0_ses-sessionid0_image.nwb: 2 videos copied (1,038,464 bytes)
#    nwbfiles/test1_1_1.nwb -> 000000/sub-mouse1/sub-mouse1_ses-sessionid1_image.nwb: 2 videos copied (1,038,464 bytes)
#    000000: 4 videos copied (2,076,928 bytes), 2 NWB files copied (348,720 bytes)
#
# If a run was interrupted, run the same command again. It does not repeat what is done. What it found in small NWB files
# is in a cache in your home folder. Delete that whenever you like, or turn it off with ``--no-cache``.
#
# .. code-block:: console
#
#    $ nwb-extfiles organize -d 000000 --media-mode copy nwbfiles
#    nwbfiles/test1_0_0.nwb -> 000000/sub-mouse0/sub-mouse0_ses-sessionid0_image.nwb: already there
#    nwbfiles/test1_1_1.nwb -> 000000/sub-mouse1/sub-mouse1_ses-sessionid1_image.nwb: already there
#    000000: 4 videos already there, 2 NWB files already there
#
# 4. Check
# --------
#
# Every path points to a video, under the name that DANDI clients expect. There is one note for each NWB file: web
# browsers do not play the videos of the example.
#
# .. code-block:: console
#
#    $ nwb-extfiles check 000000
#    INFO not-playable: not every web browser plays rawvideo with bgr24 pixels in avi (2)
#      hint: it can be read from Python; in a browser, h264 in mp4 plays
#      000000/sub-mouse0/sub-mouse0_ses-sessionid0_image.nwb
#        /acquisition/behavior_video external_file[0]: 'sub-mouse0_ses-sessionid0_image/a47324d2-2379-45dc-81e0-f4fe8bb4db8f_external_file_0.avi'; true of 2 videos of this series
#      000000/sub-mouse1/sub-mouse1_ses-sessionid1_image.nwb
#        /acquisition/behavior_video external_file[0]: 'sub-mouse1_ses-sessionid1_image/b1fd4494-2756-4893-9b5c-d8ab9c03b0c0_external_file_0.avi'; true of 2 videos of this series
#
#    2 NWB files: no problems found; 2 notes
#
# A :doc:`report </howto/report>` shows the same on a web page, with a thumbnail of each video.
#
# .. code-block:: console
#
#    $ nwb-extfiles report 000000 -o report.html
#    report: report.html
#    2 NWB files: no problems found; 2 notes
#
# 5. Validate
# -----------
#
# DANDI checks the folder itself. Errors here would stop the upload.
#
# .. code-block:: console
#
#    $ dandi validate 000000
#    No errors found.
#
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
# :doc:`/howto/archive` says more, and how a session is added later.
#
# The NWB files and the videos are uploaded; the original folder has not changed. This is a frame of a video in the
# dandiset:

from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt


# sphinx_gallery_start_ignore
def run_commands() -> None:
    """Run the commands of this page in a temporary folder; a test compares what they print with the page."""
    import os
    import re
    import subprocess
    import sys
    import tempfile

    place = folder = Path(tempfile.mkdtemp())
    programs = os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ["PATH"]]
    )
    # dandi does not ask the network for a newer dandi
    environment = {**os.environ, "PATH": programs, "DANDI_NO_ET": "1"}
    page = Path(sys.argv[0]).read_text(encoding="utf-8")
    with open(folder / "session.txt", "w", encoding="utf-8") as session:
        for command in re.findall(r"(?m)^#    \$ (.*)$", page):
            print("$", command, file=session, flush=True)
            if command.startswith("cd "):
                place /= command.removeprefix("cd ")
            else:
                subprocess.run(
                    command,
                    shell=True,
                    cwd=place,
                    env=environment,
                    stdout=session,
                    stderr=subprocess.PIPE,  # where dandi says where its log is
                    check=True,
                )
    os.chdir(place)


run_commands()
# sphinx_gallery_end_ignore
video = min(Path("000000").rglob("*.avi"))
plt.imshow(iio.imread(video, index=10, plugin="FFMPEG"))
plt.axis("off")
plt.title("Frame 10")
plt.show()

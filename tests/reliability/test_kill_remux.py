"""Relocations that remux videos, killed with SIGKILL at random moments: no video is ever seen half-written.

``NWB_EXTFILES_SEED=17 pytest tests/reliability/test_kill_remux.py`` repeats the moments of a run as far as a clock can.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from harness import TEMPORARY, Killer, quiet
from helpers import digest, stored_paths, tree
from processes import FORKS, run_apart
from recordings import recording
from videos import Videos

from nwb_extfiles import relocate
from nwb_extfiles.transfers.recovery import recover

SEED = int(os.environ.get("NWB_EXTFILES_SEED") or random.SystemRandom().randrange(10**9))
NAMES = ("b_frames.h264", "h264.ts", "vp9.webm")
KILLS = 4 if FORKS else 1


def test_killed_remux_leaves_all_or_nothing(all_videos: Videos, tmp_path: Path) -> None:
    template, place = tmp_path / "template", tmp_path / "place"
    template.mkdir()
    for name in NAMES:
        shutil.copy(all_videos[name], template / name)
    recording(template / "a.nwb", NAMES, videos=False)

    def set_up() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place)

    def job(mark: object) -> None:
        mark(b"e")  # type: ignore[operator]
        with quiet():
            relocate(place / "a.nwb", "copy", media_options={"remux": "unarchived"})

    set_up()
    killer = Killer(job, random.Random(SEED))
    done = tree(place)
    after = stored_paths(place / "a.nwb")
    assert [Path(stored).suffix for stored in after] == [".mp4", ".mp4", ".mkv"]
    killed = runs = 0
    while killed < KILLS:
        runs += 1
        assert runs < 4 * KILLS + 10, "the runs end before they can be killed"
        set_up()
        try:
            killed += killer.kill(job, b"e")
            recover(place / "a.nwb")
            now = stored_paths(place / "a.nwb")
            assert now in ([*NAMES], after), "some paths are old and some new"
            there = {
                name: content for name, content in tree(place).items() if TEMPORARY not in name and name != "a.nwb"
            }
            assert there.items() <= done.items(), "a video is incomplete"
            assert all((place / stored).is_file() for stored in now)
            assert [digest(place / name) for name in NAMES] == [digest(template / name) for name in NAMES]
            assert run_apart(lambda: job(lambda step: None)) == 0
            assert tree(place) == done
        except BaseException as error:
            error.add_note(f"NWB_EXTFILES_SEED={SEED}; killed at {killer.trace[-1]}")
            raise

"""Commands over many NWB files: several at once, those left out, and what goes on when one fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers import digest, play, stored_paths, tree, write_nwb
from makers import make_media

from nwb_extfiles import ExternalFilesWarning, relocate
from nwb_extfiles.cli import main
from nwb_extfiles.errors import MediaExistsError, RelocationRefusedError, TransferError
from nwb_extfiles.tasks.restoring import restore_files
from nwb_extfiles.testing import make_video

DATASET = "acquisition/video/external_file"
COUNT = 6


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``nwb`` of the working directory: NWB files with a video of their own, and one that all share."""
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "shared.avi", seed=COUNT)
    for number in range(COUNT):
        make_video(tmp_path / "videos" / f"cam{number}.avi", seed=number)
        write_nwb(tmp_path / "nwb" / f"s{number}.nwb", [f"../videos/cam{number}.avi", "../shared.avi"])
    return tmp_path / "nwb"


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def videos_of(path: Path) -> list[str]:
    return [digest(path.parent / stored) for stored in stored_paths(path, DATASET)]


def test_jobs_relocate_as_one_job_does(sessions: Path, tmp_path: Path) -> None:
    """Also a video that several NWB files share, which moves."""
    content = [[digest(tmp_path / "videos" / f"cam{n}.avi"), digest(tmp_path / "shared.avi")] for n in range(COUNT)]
    other = tmp_path.with_name("other")
    shutil.copytree(tmp_path, other)
    done = run("relocate", sessions, "--media-mode", "move", "--manifest", "--jobs", "3")
    again = run("relocate", other, "--media-mode", "move", "--manifest")
    assert done.stdout.splitlines()[-1] == f"total: 12 videos moved, {COUNT} manifests written in {COUNT} NWB files"
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    for place in (sessions, other / "nwb"):
        assert [videos_of(place / f"s{n}.nwb") for n in range(COUNT)] == content
        assert not list(place.parent.glob("*.avi")), "all have moved"
        assert not list((place.parent / "videos").iterdir())
    assert play(sessions / stored_paths(sessions / "s3.nwb", DATASET)[0]) == 25


def test_a_video_that_changes_meanwhile_stops_all_jobs(
    sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program writes to a video when the first bytes of others are copied: all NWB files stay as they are."""
    before = tree(sessions)
    victim = tmp_path / "videos" / "cam5.avi"

    def on_bytes(done: int, total: int) -> None:
        victim.write_bytes(b"another recording")

    with pytest.raises(TransferError, match=r"cam5\.avi"):
        relocate(sessions, "copy", media_options={"progress": on_bytes}, jobs=2)
    assert tree(sessions) == before


@pytest.mark.parametrize("jobs", [0, -1])
def test_jobs_must_be_at_least_one(sessions: Path, jobs: int) -> None:
    with pytest.raises(RelocationRefusedError, match="number of threads"):
        relocate(sessions, jobs=jobs)
    run("relocate", sessions, "--jobs", jobs, code=2)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_with_jobs_changes_nothing(sessions: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        with open(tmp_path / "videos" / f"cam{number}.avi", "ab") as stream:
            stream.truncate(200_000_000)
    before = tree(sessions)
    code = """
import os, signal
from nwb_extfiles.cli import main
from nwb_extfiles.disk import contents
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
copy, pressed = contents.copy_verified, []
def press_and_copy(*arguments, **options):
    if not pressed:
        pressed.append(True)
        os.kill(os.getpid(), signal.SIGINT)
    return copy(*arguments, **options)
contents.copy_verified = press_and_copy
main(["relocate", "nwb", "--media-mode", "copy", "--jobs", "2"])
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert "Traceback" not in told
    assert tree(sessions) == before


# --------------------------------------------------------------------- restore


@pytest.fixture
def archived(sessions: Path) -> Path:
    """The folder ``nwb``, whose videos are under DANDI's names, with manifests."""
    run("relocate", sessions, "--media-mode", "copy", "--manifest", "-q")
    return sessions


@pytest.mark.parametrize("jobs", [1, 3])
def test_restore_continues_with_existing_skip(archived: Path, tmp_path: Path, jobs: int) -> None:
    """What is there stays as it is, and the other NWB files are restored."""
    run("restore", archived, "back", "--jobs", jobs)
    lost = tmp_path / "back" / "s2"
    shutil.rmtree(lost)
    before = tree(tmp_path / "back")
    planned = run("restore", archived, "back", "--existing", "skip", "--jobs", jobs, "--dry-run").stdout.splitlines()
    assert planned[0].startswith(f"{Path('back/s2/s2.nwb')}: 2 videos copied")
    assert not lost.exists()
    done = run("restore", archived, "back", "--existing", "skip", "--jobs", jobs)
    assert done.stdout.splitlines() == [f"{planned[0]}"]
    assert "left out" in done.stderr
    assert [digest(lost / name) for name in ("cam2.avi", "shared.avi")] == videos_of(archived / "s2.nwb")
    assert sorted(stored_paths(lost / "s2.nwb", DATASET)) == ["cam2.avi", "shared.avi"]
    after = tree(tmp_path / "back")
    assert {name: after[name] for name in before} == before
    again = run("restore", archived, "back", "--existing", "skip")
    assert again.stdout == "total: 0 NWB files\n"
    assert f"({COUNT} such warnings, of which this is the first)" in again.stderr
    assert json.loads(run("restore", archived, "back", "--existing", "skip", "--json").stdout) == []


def test_restore_advises_to_skip_what_is_there(archived: Path, tmp_path: Path) -> None:
    run("restore", archived / "s1.nwb", "back/s1")
    before = tree(tmp_path / "back")
    refused = run("restore", archived, "back", code=1)
    assert "leave it out with --existing skip" in refused.stderr
    assert tree(tmp_path / "back") == before
    run("restore", archived, "back", "--existing", "skip")
    assert len(list((tmp_path / "back").glob("*/*.nwb"))) == COUNT


def test_restore_leaves_out_where_another_video_has_the_name(archived: Path, tmp_path: Path) -> None:
    other = make_media(tmp_path / "back" / "s1" / "cam1.avi")
    before = other.read_bytes()
    folders = {path: tmp_path / "back" / path.stem for path in sorted(archived.glob("*.nwb"))}
    with pytest.raises(MediaExistsError):
        restore_files(folders)
    with pytest.warns(ExternalFilesWarning, match=r"left out: .*cam1\.avi"):
        plans = restore_files(folders, media_options={"existing": "skip"})
    assert [plan.nwb_path.stem for plan in plans] == ["s0", "s2", "s3", "s4", "s5"]
    assert other.read_bytes() == before
    assert not (tmp_path / "back" / "s1" / "s1.nwb").exists()


@pytest.mark.parametrize("jobs", [1, 3])
def test_restore_continues_if_one_file_fails(archived: Path, tmp_path: Path, jobs: int) -> None:
    """A video changes when the plan is made; after it is repaired, the advice of the message completes the folder."""
    place = archived / stored_paths(archived / "s3.nwb", DATASET)[0]
    content = place.read_bytes()
    folders = {path: tmp_path / "back" / path.stem for path in sorted(archived.glob("*.nwb"))}

    def on_bytes(done: int, total: int) -> None:
        place.write_bytes(b"damaged")

    options = {"progress": on_bytes}
    with pytest.raises(TransferError, match=r"1 of 6 NWB files could not be restored, and the others are") as caught:
        restore_files(folders, media_options=options, jobs=jobs)
    assert "with existing 'skip'" in str(caught.value)
    assert sorted(path.stem for path in (tmp_path / "back").glob("*/*.nwb")) == ["s0", "s1", "s2", "s4", "s5"]
    place.write_bytes(content)
    run("restore", archived, "back", "--existing", "skip")
    assert digest(tmp_path / "back" / "s3" / "cam3.avi") == digest(place)

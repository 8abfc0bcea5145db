"""The command line, as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from helpers import play, stored_texts, tree

import nwb_extfiles
from nwb_extfiles.cli import main
from nwb_extfiles.films import walking_dot, write_avi

DATASET = "acquisition/behavior_video/external_file"


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "copy", "reference"])
def test_demo(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "example"
    result = CliRunner().invoke(main, ["demo", str(folder), "--media-mode", mode])
    assert result.exit_code == 0, result.output
    nwb_paths = sorted((folder / "dandiset").rglob("*.nwb"))
    assert [path.name for path in nwb_paths] == [
        f"sub-mouse{number}_ses-sessionid{number}_image.nwb" for number in (0, 1)
    ]
    for path in nwb_paths:
        texts = stored_texts(path, DATASET)
        assert all(play(path.parent / text) == 25 for text in texts)
        assert all(text in result.output for text in texts)
        with h5py.File(path) as file:
            object_id = file["acquisition/behavior_video"].attrs["object_id"]
        if mode != "reference":
            assert texts == [f"{path.stem}/{object_id}_external_file_{index}.avi" for index in (0, 1)]
            assert all(text.rpartition("/")[2] in result.output for text in texts)
    assert "MISSING" not in result.output
    assert "Before:" in result.output
    assert "After:" in result.output


def test_demo_moves(tmp_path: Path) -> None:
    with pytest.warns(nwb_extfiles.ExternalFilesWarning, match="stays behind"):
        result = CliRunner().invoke(main, ["demo", str(tmp_path / "example"), "--media-mode", "move"])
    assert result.exit_code == 0, result.output
    assert not list((tmp_path / "example" / "video_files").iterdir())
    assert len(list((tmp_path / "example" / "dandiset").rglob("*.avi"))) == 4


def test_demo_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    result = CliRunner().invoke(main, ["demo", str(tmp_path)])
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert "Traceback" not in result.output
    assert tree(tmp_path) == before


def test_usage_errors(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["demo"]).exit_code == 2
    assert CliRunner().invoke(main, ["demo", str(tmp_path / "x"), "--media-mode", "teleport"]).exit_code == 2


def test_as_a_module() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "nwb_extfiles", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"nwb-extfiles, version {nwb_extfiles.__version__}\n"
    help_text = subprocess.run(
        [sys.executable, "-m", "nwb_extfiles", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "Usage: nwb-extfiles" in help_text


def test_film_is_real(tmp_path: Path) -> None:
    frames = walking_dot(seed=1)
    write_avi(tmp_path / "film.avi", frames, rate=25)
    assert play(tmp_path / "film.avi") == len(frames)

"""The field's own validators have nothing against the result."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pynwb
import pytest
from helpers import assert_resolves, write_nwb
from pynwb import NWBHDF5IO

from nwb_extfiles import NWBExtFilesHDF5IO


@pytest.fixture(params=["symlink", "hardlink", "copy"])
def dandiset(request: pytest.FixtureRequest, tmp_path: Path, video_files: Path, videos: list[Path]) -> Path:
    """The example in a dandiset."""
    folder = tmp_path / "dandiset"
    folder.mkdir()
    (folder / "dandiset.yaml").write_text("identifier: DANDI:000000\n")
    for number in (0, 1):
        source = write_nwb(
            tmp_path / "nwbfiles" / f"{number}.nwb",
            [f"../video_files/test{number + 1}_{index}.avi" for index in (0, 1)],
            identifier=f"id{number}",
            subject=f"mouse{number}",
            session=f"sessionid{number}",
        )
        target = folder / f"sub-mouse{number}" / f"sub-mouse{number}_ses-sessionid{number}_image.nwb"
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode=request.param)
        assert_resolves(target, videos[2 * number : 2 * number + 2])
    return folder


def test_nwbinspector_and_pynwb_find_no_errors(dandiset: Path) -> None:
    nwb_paths = sorted(dandiset.rglob("*.nwb"))
    assert len(nwb_paths) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        from dandi.files import find_dandi_files
        from nwbinspector import Importance, inspect_nwbfile

        for path in nwb_paths:
            assert pynwb.validate(path=str(path)) == []
            assert [
                m
                for m in inspect_nwbfile(nwbfile_path=path)
                if m.importance.value > Importance.BEST_PRACTICE_SUGGESTION.value
            ] == []
        taken = {asset.filepath for asset in find_dandi_files(dandiset, dandiset_path=dandiset)}
    # what `dandi upload` takes: every NWB file and every video
    assert {path for path in taken if path.name != "dandiset.yaml"} == {
        path for path in dandiset.rglob("*") if path.suffix in (".nwb", ".avi")
    }


def validate(dandiset: Path) -> subprocess.CompletedProcess[str]:
    dandi = Path(sys.executable).with_name("dandi")
    return subprocess.run([dandi, "validate", str(dandiset)], capture_output=True, text=True, check=False)


def test_dandi_validate_passes(dandiset: Path) -> None:
    good = validate(dandiset)
    assert good.returncode == 0, good.stdout + good.stderr
    next(dandiset.rglob("*.avi")).unlink()
    assert validate(dandiset).returncode == 1, "dandi finds no problem"

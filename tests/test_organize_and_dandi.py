"""Side by side with `dandi organize`, and judged by dandi and the inspector."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner
from dandi.files import find_dandi_files
from dandi.organize import CopyMode, FileOperationMode, OrganizeInvalid
from dandi.organize import organize as dandi_organize
from helpers import contents, digest, stored_paths, tree
from makers import Media, quiet, run_maker, write_everywhere
from recordings import DATASET, object_id, recording, video, working_in

from nwb_extfiles import ExternalFilesWarning, organize
from nwb_extfiles.cli import main
from nwb_extfiles.demo import make_example
from nwb_extfiles.errors import MediaExistsError, MissingMediaError

EXAMPLE = "acquisition/behavior_video/external_file"
DANDISET = """\
identifier: DANDI:000001
name: Mice on video
description: Mice that are recorded
contributor:
- name: Doe, Jane
  email: jane@example.org
  roleName: ["dcite:ContactPerson"]
license: ["spdx:CC-BY-4.0"]
"""


def dandi(paths: Path | list[Path], root: Path, **options: Any) -> None:
    """`dandi organize`, as its command line calls it."""
    options = {
        "files_mode": FileOperationMode.COPY,
        "media_files_mode": CopyMode.COPY,
        "update_external_file_paths": True,
        "invalid": OrganizeInvalid.FAIL,
        "jobs": 1,
    } | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dandi_organize([str(path) for path in ([paths] if isinstance(paths, Path) else paths)], str(root), **options)


def ours(paths: Path, root: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return organize(paths, root, **{"media_mode": "copy", **options})


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.nwb"))


def both(raw: Path, tmp_path: Path, **options: Any) -> tuple[Path, Path]:
    ours(raw, tmp_path / "ours")
    dandi(raw, tmp_path / "dandi", **options)
    return tmp_path / "ours", tmp_path / "dandi"


# ------------------------------------------------------------------ the example


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    with quiet():
        make_example(folder)
    return folder


@pytest.mark.parametrize("files_mode", ["copy", "move"])
@pytest.mark.parametrize("mode", ["copy", "move", "symlink", "hardlink"])
def test_example_of_the_readme(example: Path, tmp_path: Path, mode: str, files_mode: str) -> None:
    """Through the command line: what dandi lists, validates and inspects."""
    for name in ("nwbfiles", "video_files"):
        shutil.copytree(example / name, tmp_path / name)
    videos = {path.name: digest(path) for path in (tmp_path / "video_files").iterdir()}
    root = tmp_path / "dandiset"
    root.mkdir()
    (root / "dandiset.yaml").write_text(DANDISET)
    with working_in(root):
        result = CliRunner().invoke(
            main, ["organize", "-f", files_mode, "--media-files-mode", mode, os.path.join("..", "nwbfiles")]
        )
    assert result.exit_code == 0, result.output
    expected = []
    for number in (0, 1):
        name = f"sub-mouse{number}/sub-mouse{number}_ses-sessionid{number}_image"
        (paths) = stored_paths(root / f"{name}.nwb", EXAMPLE)
        series = object_id(root / f"{name}.nwb", "acquisition/behavior_video")
        assert paths == [f"{Path(name).name}/{series}_external_file_{index}.avi" for index in (0, 1)]
        for index, text in enumerate(paths):
            assert digest(root / f"sub-mouse{number}" / text) == videos[f"test{number + 1}_{index}.avi"]
        expected += [f"{name}.nwb", *(f"sub-mouse{number}/{text}" for text in paths)]
    found = find_dandi_files(root, dandiset_path=root, allow_all=False)
    assert sorted(getattr(file, "path", "") for file in found) == sorted(expected)
    if files_mode == "copy":
        assert_valid(root)


def assert_valid(root: Path) -> None:
    """`dandi validate`, which runs the inspector too, and the inspector on its own, find no error."""
    environment = {**os.environ, "DANDI_CACHE": "ignore", "DANDI_NO_ET": "1", "NO_ET": "1"}
    run = subprocess.run(
        [sys.executable, "-c", "from dandi.cli.command import main; main()", "validate", str(root)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    from nwbinspector import Importance, inspect_all

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(inspect_all(root, importance_threshold=Importance.CRITICAL))
    assert found == []


# ---------------------------------------------------------------- where dandi is right


def test_same_names_and_paths_as_dandi(example: Path, tmp_path: Path) -> None:
    """The example, and files that take all ways to get a name, organized together."""
    shutil.copytree(example / "nwbfiles", tmp_path / "raw")
    shutil.copytree(example / "video_files", tmp_path / "video_files")
    raw = tmp_path / "raw"
    recording(raw / "deep" / "0.nwb", ["a.avi"], session=None)
    recording(raw / "deep" / "1.nwb", ["a.avi", "b.MP4"], session=None, start="2021-03-04T05:06:07+00:00")
    recording(raw / "2.nwb", ["a.avi"], subject="odd_id /1", session="../x")
    recording(raw / "3.nwb", ["a.avi"], session="same")
    recording(raw / "4.nwb", ["a.avi"], session="same")
    recording(raw / "5.nwb", None, subject="none")
    recording(raw / ".hidden.nwb", ["a.avi"], subject="hidden")
    recording(raw / ".folder" / "6.nwb", ["a.avi"], subject="hidden")
    mine, its = both(raw, tmp_path)
    assert len(names(mine)) == 8
    assert tree_but_nwb(mine) == tree_but_nwb(its)
    for name in names(its):
        place = EXAMPLE if "_ses-sessionid" in name else DATASET
        if "sub-none" not in name:
            assert stored_paths(mine / name, place) == stored_paths(its / name, place)
        assert contents(mine / name).keys() == contents(its / name).keys()


def tree_but_nwb(root: Path) -> dict[str, str]:
    return {name: "an NWB file" if name.endswith(".nwb") else what for name, what in tree(root).items()}


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "move"])
def test_same_tree_as_dandi_in_every_mode(tmp_path: Path, mode: str) -> None:
    found = []
    for who in ("mine", "its"):
        folder = tmp_path / who
        if who == "mine":
            recording(folder / "raw" / "a.nwb", ["videos/a.avi", "videos/b.avi"])
            shutil.copytree(folder, tmp_path / "its")
            ours(folder / "raw", folder / "ds", media_mode=mode)
        else:
            dandi(folder / "raw", folder / "ds", media_files_mode=CopyMode(mode))
        found.append({name: digest(folder / "ds" / name) for name, what in tree_but_nwb(folder / "ds").items()
                      if what not in ("folder", "an NWB file")})  # fmt: skip
        left = {path.name for path in (folder / "raw" / "videos").iterdir()}
        assert left == (set() if mode == "move" else {"a.avi", "b.avi"})
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_same_names_as_dandi_in_place(tmp_path: Path) -> None:
    for who in ("mine", "its"):
        root = tmp_path / who
        root.mkdir()
        (root / "dandiset.yaml").write_text(DANDISET)
    for number in range(3):
        recording(tmp_path / "mine" / "sub-old" / f"{number}.nwb", None, subject="new", session=f"s{number % 2}")
    shutil.copytree(tmp_path / "mine" / "sub-old", tmp_path / "its" / "sub-old")
    ours([], tmp_path / "mine", files_mode="move", media_mode=None)
    dandi([], tmp_path / "its", files_mode=FileOperationMode.MOVE)
    assert tree(tmp_path / "mine") == tree(tmp_path / "its")
    assert len(names(tmp_path / "mine")) == 3


def test_same_files_are_invalid_as_in_dandi(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    recording(raw / "a.nwb", ["a.avi"])
    recording(raw / "nobody.nwb", ["a.avi"], subject=None)
    (raw / "broken.nwb").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="nobody"):
        dandi(raw, tmp_path / "dandi")
    with pytest.raises(OSError, match="nobody"):
        ours(raw, tmp_path / "ours")
    ours(raw, tmp_path / "ours", invalid="warn")
    dandi(raw, tmp_path / "dandi", invalid=OrganizeInvalid.WARN)
    assert names(tmp_path / "ours") == names(tmp_path / "dandi")


# ---------------------------------------------------------------- where dandi is wrong


def resolves(path: Path, place: str, expected: list[Path]) -> bool:
    found = [path.parent / text for text in stored_paths(path, place)]
    return [digest(video) if video.exists() else "" for video in found] == [digest(video) for video in expected]


def test_nested_series(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    path = write_everywhere(tmp_path / "raw" / "a.nwb", media)
    mine, its = both(path.parent, tmp_path)
    (name,) = names(mine)
    assert names(its) == [name]
    wrong = 0
    for place, videos in media.places.items():
        assert resolves(mine / name, place, [media.folder / video for video in videos]), place
        wrong += not resolves(its / name, place, [media.folder / video for video in videos])
    assert wrong > 5  # it looks at acquisition alone


def test_unknown_extension_changes_no_names(tmp_path: Path) -> None:
    paths = ["a.avi", "b.h264", "c.avi"]
    recording(tmp_path / "raw" / "a.nwb", paths)
    videos = [tmp_path / "raw" / text for text in paths]
    ours(tmp_path / "raw", tmp_path / "ours")
    (name,) = names(tmp_path / "ours")
    assert resolves(tmp_path / "ours" / name, DATASET, videos)
    with pytest.warns(ExternalFilesWarning, match="h264"):
        organize(tmp_path / "raw", tmp_path / "warned")


def test_urls_are_kept(tmp_path: Path) -> None:
    paths = ["https://x.org/stream?v=1", "a.avi", "https://x.org/b.mp4"]
    recording(tmp_path / "raw" / "a.nwb", paths)
    ours(tmp_path / "raw", tmp_path / "ours")
    (name,) = names(tmp_path / "ours")
    found = stored_paths(tmp_path / "ours" / name)
    assert (found[0], found[2]) == (paths[0], paths[2])
    assert digest((tmp_path / "ours" / name).parent / found[1]) == digest(tmp_path / "raw" / "a.avi")


def test_missing_video_is_refused_where_dandi_continues(tmp_path: Path) -> None:
    recording(tmp_path / "raw" / "a.nwb", ["a.avi", "gone.avi"])
    (tmp_path / "raw" / "gone.avi").unlink()
    before = tree(tmp_path)
    with pytest.raises(MissingMediaError):
        ours(tmp_path / "raw", tmp_path / "ours")
    assert tree(tmp_path) == before
    with pytest.raises(FileNotFoundError):
        dandi(tmp_path / "raw", tmp_path / "dandi")
    assert names(tmp_path / "dandi") != []


def test_relative_path_in_symlink_mode(tmp_path: Path) -> None:
    recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    with working_in(tmp_path):
        ours(Path("raw"), Path("ours"), media_mode="symlink")
        dandi(Path("raw"), Path("dandi"), media_files_mode=CopyMode.SYMLINK)
    (name,) = names(tmp_path / "ours")
    assert resolves(tmp_path / "ours" / name, DATASET, [tmp_path / "raw" / "a.avi"])
    assert not resolves(tmp_path / "dandi" / name, DATASET, [tmp_path / "raw" / "a.avi"])


def test_existing_different_media(tmp_path: Path) -> None:
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    stands = Path("sub-mouse0") / "sub-mouse0_image" / f"{object_id(path)}_external_file_0.avi"
    for who in ("ours", "dandi"):
        video(tmp_path / who / stands, "precious")
    was = digest(tmp_path / "ours" / stands)
    with pytest.raises(MediaExistsError):
        ours(tmp_path / "raw", tmp_path / "ours")
    assert digest(tmp_path / "ours" / stands) == was
    dandi(tmp_path / "raw", tmp_path / "dandi")
    assert digest(tmp_path / "dandi" / stands) != was


def test_pose_estimation(tmp_path: Path) -> None:
    places = run_maker("pose", tmp_path / "raw" / "a.nwb")
    assert any("labeled_videos" in place for place in places)
    ours(tmp_path / "raw", tmp_path / "ours")
    (name,) = names(tmp_path / "ours")
    for place, videos in places.items():
        assert resolves(tmp_path / "ours" / name, place, [tmp_path / "media" / video for video in videos]), place


def _scalar(file: h5py.File) -> None:
    del file[DATASET]
    file[DATASET] = "a.avi"
    file[DATASET].attrs["starting_frame"] = [0]


def _fixed(file: h5py.File) -> None:
    del file[DATASET]
    file.create_dataset(DATASET, data=[b"a.avi"])
    file[DATASET].attrs["starting_frame"] = [0]


@pytest.mark.parametrize("edit", [_scalar, _fixed])
def test_scalar_paths_of_old_files(tmp_path: Path, edit: Callable[[h5py.File], None]) -> None:
    """Strings of fixed length, and scalars, that pynwb cannot read."""
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    with h5py.File(path, "r+") as file:
        edit(file)
    ours(path, tmp_path / "ours")
    (name,) = names(tmp_path / "ours")
    assert resolves(tmp_path / "ours" / name, DATASET, [tmp_path / "raw" / "a.avi"])


def test_shared_video_moves(tmp_path: Path) -> None:
    for number in range(2):
        recording(tmp_path / "raw" / f"{number}.nwb", ["a.avi"], subject=f"m{number}")
    was = digest(tmp_path / "raw" / "a.avi")
    with pytest.raises(ValueError, match="multiple nwbfiles"):
        dandi(tmp_path / "raw", tmp_path / "dandi", media_files_mode=CopyMode.MOVE)
    ours(tmp_path / "raw", tmp_path / "ours", media_mode="move")
    for name in names(tmp_path / "ours"):
        (text,) = stored_paths(tmp_path / "ours" / name)
        assert digest((tmp_path / "ours" / name).parent / text) == was

"""The helpers for tests of other libraries make real files, and the checker finds what is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from helpers import digest, play, set_paths, stored_paths
from makers import quiet
from pynwb import NWBHDF5IO, validate

from nwb_extfiles import NWBExtFilesHDF5IO
from nwb_extfiles.media.small_videos import walking_dot
from nwb_extfiles.testing import (
    NWBWithMedia,
    assert_external_files_resolve,
    image_series,
    make_image,
    make_video,
    new_nwbfile,
    write_nwb,
)

SERIES = "/acquisition/video/external_file"


def test_fixture_describes_what_is_on_disk(nwb_with_media: NWBWithMedia) -> None:
    assert len(nwb_with_media.media) >= 7
    for dataset, media in nwb_with_media.media.items():
        paths = stored_paths(nwb_with_media.path, dataset)
        assert [digest(nwb_with_media.path.parent / stored) for stored in paths] == [digest(path) for path in media]
        assert all(stored.startswith("../media/") for stored in paths)
    files = {path for media in nwb_with_media.media.values() for path in media}
    assert files == set(nwb_with_media.folder.iterdir())
    assert len({digest(path) for path in files}) == len(files)
    for path in files:
        assert path.suffix == ".png" or play(path) == 25
    with quiet():
        assert validate(path=str(nwb_with_media.path)) == []


def test_every_place_is_covered(nwb_with_media: NWBWithMedia) -> None:
    pytest.importorskip("ndx_pose")
    places = {dataset.split("/")[1] + "/" + dataset.rpartition("/")[2] for dataset in nwb_with_media.media}
    assert places == {
        "acquisition/external_file", "acquisition/image", "stimulus/external_file", "processing/external_file",
        "processing/original_videos", "processing/labeled_videos",
    }  # fmt: skip


def test_absolute_paths(make_nwb_with_media: Callable[..., NWBWithMedia]) -> None:
    made = make_nwb_with_media("other", absolute=True)
    assert stored_paths(made.path, SERIES) == [str(path) for path in made.media[SERIES]]
    assert_external_files_resolve(made.path)


def test_without_ndx_pose(tmp_path: Path) -> None:
    code = """
        import sys
        sys.modules["ndx_pose"] = None
        from nwb_extfiles.testing import make_nwb_with_media
        print(sorted(make_nwb_with_media(sys.argv[1]).media))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "PoseEstimation" not in out
    assert "/acquisition/images/image" in out


def test_made_images_and_videos_are_readable(tmp_path: Path) -> None:
    frames = walking_dot(3)[..., ::-1]
    assert np.array_equal(imageio.imread(make_image(tmp_path / "new" / "a.png", 3)), frames[0])
    assert np.abs(imageio.imread(make_video(tmp_path / "a.avi", 3), index=7).astype(int) - frames[7]).max() <= 2


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink", "reference"])
def test_checker_accepts_relocated_media(nwb_with_media: NWBWithMedia, tmp_path: Path, mode: str) -> None:
    target = tmp_path / "dandiset" / "sub-a.nwb"
    with quiet(), NWBHDF5IO(nwb_with_media.path, "r") as source, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=source, relocate_media=True, media_mode=mode)
    found = assert_external_files_resolve(target, portable=mode in ("copy", "hardlink"))
    expected = [path for media in nwb_with_media.media.values() for path in media]
    assert sorted(map(digest, found)) == sorted(map(digest, expected))
    if mode in ("symlink", "reference"):
        with pytest.raises(AssertionError, match="symbolic link to" if mode == "symlink" else "points outside"):
            assert_external_files_resolve(target, portable=True)
    shutil.rmtree(nwb_with_media.folder)
    if mode in ("copy", "hardlink"):
        assert_external_files_resolve(target, portable=True)
    else:
        with pytest.raises(AssertionError, match=rf"{len(expected)} of {len(expected)} external files"):
            assert_external_files_resolve(target)


def test_checker_refuses_plain_pynwb_export(nwb_with_media: NWBWithMedia, tmp_path: Path) -> None:
    target = tmp_path / "far" / "away" / "b.nwb"
    target.parent.mkdir(parents=True)
    with quiet(), NWBHDF5IO(nwb_with_media.path, "r") as source, NWBHDF5IO(target, "w") as io:
        io.export(src_io=source)
    with pytest.raises(AssertionError) as caught:
        assert_external_files_resolve(target)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + sum(map(len, nwb_with_media.media.values()))
    assert str(target) in lines[0]
    assert any(line.startswith("  /acquisition/video, external_file[1]: '../media/second.AVI': ") for line in lines)
    assert any(line.startswith("  /acquisition/images/image, external_file[0]: ") for line in lines)


def test_checker_lists_only_broken_paths(nwb_with_media: NWBWithMedia) -> None:
    nwb_with_media.media[SERIES][1].unlink()
    with pytest.raises(
        AssertionError, match=r"^1 of \d+ external files of .*\n  /acquisition/video, external_file\[1\]"
    ):
        assert_external_files_resolve(nwb_with_media.path)


def test_checker_accepts_urls(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["https://example.org/a.avi"])
    assert assert_external_files_resolve(path, portable=True) == []


def test_checker_follows_file_urls(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a video.avi")
    path = write_nwb(tmp_path / "a.nwb", [video.as_uri()])
    assert assert_external_files_resolve(path) == [video]
    with pytest.raises(AssertionError, match="it is absolute"):
        assert_external_files_resolve(path, portable=True)
    for stored in ((tmp_path / "gone.avi").as_uri(), "file://lab-server/video.avi"):
        with pytest.raises(AssertionError, match=stored):
            assert_external_files_resolve(write_nwb(tmp_path / "a.nwb", [stored]))


def test_checker_accepts_stores(tmp_path: Path) -> None:
    from nwb_extfiles import NWBExtFilesZarrIO

    video = make_video(tmp_path / "video.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([video]))
    store = tmp_path / "out" / "a.nwb.zarr"
    with NWBExtFilesZarrIO(store, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    (found,) = assert_external_files_resolve(store, portable=True)
    assert found.read_bytes() == video.read_bytes()
    found.unlink()
    with pytest.raises(AssertionError, match="1 of 1 external files"):
        assert_external_files_resolve(store)


def test_checker_refuses_folder_as_video(tmp_path: Path) -> None:
    (tmp_path / "video.avi").mkdir()
    with pytest.raises(AssertionError, match="there is no file"):
        assert_external_files_resolve(write_nwb(tmp_path / "a.nwb", ["video.avi"]))


def test_checker_portable_refuses_absolute_paths(tmp_path: Path) -> None:
    inside = make_video(tmp_path / "nwb" / "videos" / "a.avi")
    outside = make_video(tmp_path / "b.avi")
    (tmp_path / "nwb" / "link.avi").symlink_to(outside)
    (tmp_path / "nwb" / "near.avi").symlink_to(inside)
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["videos/a.avi", "near.avi"])
    assert assert_external_files_resolve(path, portable=True) == [inside, tmp_path / "nwb" / "near.avi"]
    for stored, reason in (
        (str(inside), "it is absolute"), ("../b.avi", "it points outside"), ("link.avi", "a symbolic link to"),
        ("videos/../videos/a.avi", "it points outside"), ("videos\\a.avi", "it has backslashes"),
    ):  # fmt: skip
        set_paths(path, SERIES, [stored])
        with pytest.raises(AssertionError, match=reason):
            assert_external_files_resolve(path, portable=True)


def test_installed_plugin_provides_fixtures(tmp_path: Path) -> None:
    """In a run of another project, with the entry point of this one as pip would install it."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / "nwb_extfiles-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nwb-extfiles\nVersion: 0\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["pytest11"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent("""
            from nwb_extfiles.testing import assert_external_files_resolve

            def test_it(nwb_with_media, make_nwb_with_media, tmp_path):
                assert assert_external_files_resolve(nwb_with_media.path)
                assert make_nwb_with_media("x", absolute=True).path == tmp_path / "x" / "nwb" / "source.nwb"
        """)
    )
    path = [str(tmp_path / "site"), str(Path(__file__).parents[1] / "src"), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout

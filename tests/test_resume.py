"""A run reuses what a killed run had finished, where that is safe."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import assert_resolves, tree, write_nwb
from processes import KILLED, kill_this_process, run_apart
from pynwb import NWBHDF5IO

from nwb_extfiles import NWBExtFilesHDF5IO
from nwb_extfiles.disk import contents


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "raw" / "a.nwb", [f"../video_files/test{n}.avi" for n in ("1_0", "1_1", "2_0")])


def export(source: Path, **options: object) -> Path:
    target = source.parent.parent / "ds" / "b.nwb"
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode="copy", media_options=options)
    return target


def killed_in_copy(number: int, source: Path, **options: object) -> None:
    """Export in a child process that is killed when half of a video is copied."""

    def job() -> None:
        copies = iter(range(number))
        copy = contents.copy_verified

        def dying(video: Path, part: Path, **kwargs: object) -> None:
            if next(copies, None) is None:
                part.write_bytes(video.read_bytes()[:1000])
                kill_this_process()
            copy(video, part, **kwargs)

        contents.copy_verified = dying
        export(source, **options)

    assert run_apart(job) == KILLED


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that were copied."""
    names: list[str] = []
    copy = contents.copy_verified

    def telling(video: Path, part: Path, **kwargs: object) -> None:
        names.append(video.name)
        copy(video, part, **kwargs)

    monkeypatch.setattr(contents, "copy_verified", telling)
    return names


def test_whole_copies_of_killed_run_are_reused(source: Path, videos: list[Path], copied: list[str]) -> None:
    killed_in_copy(2, source)
    target = export(source)
    assert copied == ["test2_0.avi"]
    assert_resolves(target, videos[:3])
    assert not [name for name in tree(target.parent) if name.startswith(".")]


def test_changed_video_is_copied_again(source: Path, video_files: Path, videos: list[Path], copied: list[str]) -> None:
    killed_in_copy(2, source)
    (video_files / "test1_0.avi").write_bytes(videos[5].read_bytes())
    target = export(source)
    assert copied == ["test1_0.avi", "test2_0.avi"]
    assert_resolves(target, [videos[5], videos[1], videos[2]])
    assert not [name for name in tree(target.parent) if name.startswith(".")]


def test_unsynced_copies_are_not_reused(source: Path, videos: list[Path], copied: list[str]) -> None:
    killed_in_copy(2, source, sync=False)
    assert_resolves(export(source), videos[:3])
    assert copied == ["test1_0.avi", "test1_1.avi", "test2_0.avi"]


def test_videos_already_in_place_are_reused(source: Path, videos: list[Path], copied: list[str]) -> None:
    export(source)
    copied.clear()
    assert_resolves(export(source), videos[:3])
    assert copied == []

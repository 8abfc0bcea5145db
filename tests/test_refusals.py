"""Without `relocate_media`: what is accepted, what is refused, and that a refusal leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import assert_resolves, digest, image_series, new_nwbfile, stored_paths, tree, write_nwb
from pynwb import NWBHDF5IO
from videos import WHOLE, Videos

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO, check, organize, relocate
from nwb_extfiles.errors import MissingMediaError, PlanError, RelocationRefusedError
from nwb_extfiles.naming import ARCHIVED_SUFFIXES
from nwb_extfiles.plans.plan import RelocationPlan


def export(source: Path, target: Path, **kwargs: object) -> None:
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, **kwargs)


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "nwbfiles" / "a.nwb", ["../video_files/test1_0.avi", "../video_files/test1_1.avi"])


def test_path_that_would_break_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "far" / "away" / "b.nwb"
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="would not be found") as caught:
        export(source, target)
    assert tree(tmp_path) == before
    assert isinstance(caught.value, ValueError)
    assert len(caught.value.problems) == 2
    first = caught.value.problems[0]
    assert (first.object_path, first.field, first.index) == ("/acquisition/video", "external_file", 0)
    assert "relocate_media=True" in str(first)
    assert "relocate_media=False" in str(first)


def test_refusal_keeps_previous_file(source: Path, tmp_path: Path) -> None:
    target = write_nwb(tmp_path / "far" / "away" / "b.nwb", ["x.avi"])
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError):
        export(source, target)
    assert tree(tmp_path) == before


def test_paths_that_stay_right_are_accepted(source: Path, videos: list[Path]) -> None:
    """From a folder at the same depth, the same stored paths work."""
    target = source.parent.parent / "other" / "b.nwb"
    export(source, target)
    assert stored_paths(target) == stored_paths(source)
    assert_resolves(target, videos[:2])


@pytest.mark.parametrize("stored", ["https://example.org/a.avi", "/nowhere/a.avi", "nowhere.avi", r"C:\videos\a.avi"])
def test_paths_that_cannot_break_are_accepted(stored: str, tmp_path: Path) -> None:
    source = write_nwb(tmp_path / "a.nwb", [stored])
    export(source, tmp_path / "sub" / "b.nwb")
    assert stored_paths(tmp_path / "sub" / "b.nwb") == [stored]


def test_absolute_paths_are_accepted(video_files: Path, tmp_path: Path, videos: list[Path]) -> None:
    stored = str(video_files / "test1_0.avi")
    source = write_nwb(tmp_path / "a.nwb", [stored])
    export(source, tmp_path / "sub" / "b.nwb")
    assert stored_paths(tmp_path / "sub" / "b.nwb") == [stored]


def test_false_writes_verbatim(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "far" / "away" / "b.nwb"
    export(source, target, relocate_media=False)
    assert stored_paths(target) == stored_paths(source)


def test_in_dandiset_unplaced_media_are_refused(source: Path, tmp_path: Path, videos: list[Path]) -> None:
    """In a dandiset, even a working path is refused unless it follows DANDI's naming."""
    (tmp_path / "dandiset.yaml").write_text("identifier: '000000'\n")
    beside = source.parent.parent / "other" / "b.nwb"
    with pytest.raises(RelocationRefusedError, match="media belong in the dandiset") as caught:
        export(source, beside)
    assert len(caught.value.problems) == 2
    assert not beside.exists()

    target = tmp_path / "sub-a" / "sub-a.nwb"
    export(source, target, relocate_media=True, media_mode="copy")
    with NWBHDF5IO(target, "r") as src_io, NWBExtFilesHDF5IO(tmp_path / "again" / "sub-a.nwb", "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode="copy")
    export(target, tmp_path / "again" / "sub-a.nwb")  # the same stem, media in place
    assert_resolves(tmp_path / "again" / "sub-a.nwb", videos[:2])


def test_missing_path_in_dandiset_is_refused(tmp_path: Path) -> None:
    source = write_nwb(tmp_path / "raw" / "a.nwb", ["gone.avi"])
    dandiset = tmp_path / "dandiset"
    dandiset.mkdir()
    (dandiset / "dandiset.yaml").write_text("identifier: '000000'\n")
    with pytest.raises(RelocationRefusedError, match="media belong in the dandiset"):
        export(source, dandiset / "sub-a" / "sub-a.nwb")


@pytest.mark.parametrize("relocate", [None, False])
def test_mode_without_relocation_is_refused(source: Path, tmp_path: Path, relocate: bool | None) -> None:
    with pytest.raises(ValueError, match="media_mode='copy' was given"):
        export(source, tmp_path / "b.nwb", relocate_media=relocate, media_mode="copy")
    assert not (tmp_path / "b.nwb").exists()


def test_unknown_option_values(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of 'symlink'"):
        export(source, tmp_path / "b.nwb", relocate_media=True, media_mode="teleport")
    with pytest.raises(TypeError, match="unrecognized argument"):
        export(source, tmp_path / "b.nwb", relocate_medium=True)
    with pytest.raises(TypeError, match="has no field"):
        export(source, tmp_path / "b.nwb", relocate_media=True, media_options={"serch": "."})


def test_constructor_defaults(source: Path, tmp_path: Path, videos: list[Path]) -> None:
    target = tmp_path / "far" / "away" / "b.nwb"
    with (
        NWBHDF5IO(source, "r") as src_io,
        NWBExtFilesHDF5IO(target, "w", relocate_media=True, media_mode="hardlink") as io,
    ):
        io.export(src_io=src_io)
    assert_resolves(target, videos[:2])
    assert (target.parent / stored_paths(target)[0]).stat().st_nlink == 2

    verbatim = tmp_path / "far" / "away" / "c.nwb"
    with (
        NWBHDF5IO(source, "r") as src_io,
        NWBExtFilesHDF5IO(verbatim, "w", relocate_media=True, media_mode="hardlink") as io,
    ):
        io.export(src_io=src_io, relocate_media=False)
    assert stored_paths(verbatim) == stored_paths(source)
    assert io.relocation is None


def test_export_io_relocates(source: Path, tmp_path: Path, videos: list[Path]) -> None:
    target = tmp_path / "far" / "away" / "b.nwb"
    with NWBHDF5IO(source, "r") as src_io:
        NWBExtFilesHDF5IO.export_io(path=str(target), src_io=src_io, relocate_media=True, media_mode="copy")
    assert_resolves(target, videos[:2])


@pytest.mark.parametrize("paths", [[], ["https://example.org/a.avi", "s3://bucket/b.mp4"]])
def test_nothing_to_relocate_warns(tmp_path: Path, paths: list[str]) -> None:
    source = write_nwb(tmp_path / "a.nwb", paths or ["https://example.org/a.avi"])
    if not paths:
        nwbfile = new_nwbfile()
        with NWBHDF5IO(source, "w") as io:
            io.write(nwbfile)
    with pytest.warns(ExternalFilesWarning, match="nothing to relocate"):
        export(source, tmp_path / "b.nwb", relocate_media=True)
    if paths:
        assert stored_paths(tmp_path / "b.nwb") == paths


def test_missing_video_is_reported_with_every_place(source: Path, video_files: Path, tmp_path: Path) -> None:
    (video_files / "test1_1.avi").unlink()
    search = tmp_path / "search"
    search.mkdir()
    before = tree(tmp_path)
    with pytest.raises(MissingMediaError) as caught:
        export(source, tmp_path / "ds" / "b.nwb", relocate_media=True, media_options={"search": search})
    message = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.index == 1
    for part in ("external_file[1]", "/acquisition/video", "video_files/test1_1.avi", str(search / "test1_1.avi")):
        assert part in message
    assert tree(tmp_path) == before


def test_missing_video_is_kept_on_request(source: Path, video_files: Path, tmp_path: Path, videos: list[Path]) -> None:
    (video_files / "test1_1.avi").unlink()
    target = tmp_path / "ds" / "b.nwb"
    with pytest.warns(ExternalFilesWarning, match="the path is kept"):
        export(source, target, relocate_media=True, media_mode="copy", media_options={"missing": "keep"})
    first, second = stored_paths(target)
    assert first.startswith("b/")
    assert second == "../video_files/test1_1.avi"


def test_all_problems_at_once(tmp_path: Path, video_files: Path) -> None:
    (video_files / "folder.avi").mkdir()
    paths = ["../video_files/gone.avi", "../video_files/folder.avi", "../video_files/test1_0.avi", "also gone.avi"]
    source = write_nwb(tmp_path / "nwbfiles" / "a.nwb", paths)
    before = tree(tmp_path)
    with pytest.raises(PlanError) as caught:
        export(source, tmp_path / "ds" / "b.nwb", relocate_media=True)
    assert [problem.index for problem in caught.value.problems] == [0, 1, 3]
    assert all(f"external_file[{index}]" in str(caught.value) for index in (0, 1, 3))
    assert tree(tmp_path) == before


def test_export_onto_itself_is_refused(source: Path) -> None:
    before = tree(source.parent.parent)
    with pytest.raises(RelocationRefusedError, match="cannot be replaced"):
        export(source, source, relocate_media=True)
    assert tree(source.parent.parent) == before


def test_symlink_as_destination_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "link.nwb"
    (tmp_path / "real").mkdir()
    target.symlink_to(tmp_path / "real" / "file.nwb")
    with pytest.raises(RelocationRefusedError, match="symbolic link"):
        export(source, target, relocate_media=True)
    export(source, target, relocate_media=False)
    assert target.is_symlink()
    assert stored_paths(tmp_path / "real" / "file.nwb") == stored_paths(source)


def test_refused_call_can_be_repeated_on_same_io(source: Path, tmp_path: Path, videos: list[Path]) -> None:
    target = tmp_path / "far" / "away" / "b.nwb"
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        with pytest.raises(RelocationRefusedError):
            io.export(src_io=src_io)
        io.export(src_io=src_io, relocate_media=True, media_mode="copy")
    assert_resolves(target, videos[:2])


def test_suffix_lowercased_and_unarchived_suffix_warned_of(tmp_path: Path, videos: list[Path]) -> None:
    """The suffix becomes lower case. A warning names one that DANDI skips."""
    for name in ("A.AVI", "b.webm"):
        (tmp_path / name).write_bytes(videos[0].read_bytes())
    source = write_nwb(tmp_path / "a.nwb", ["A.AVI", "b.webm"])
    with pytest.warns(ExternalFilesWarning, match=r"files that end in \.webm"):
        export(source, tmp_path / "ds" / "b.nwb", relocate_media=True, media_mode="copy")
    assert [Path(stored).suffix for stored in stored_paths(tmp_path / "ds" / "b.nwb")] == [".avi", ".webm"]


@pytest.mark.parametrize("way", ["write", "export", "relocate", "organize", "reference"])
def test_video_of_zero_bytes_is_warned_of(tmp_path: Path, videos: list[Path], way: str) -> None:
    """A full disk leaves such a file. It goes along, and a warning and the plan name it once."""
    (tmp_path / "empty.avi").touch()
    shutil.copy(videos[0], tmp_path / "good.avi")
    names = ["empty.avi", "good.avi", "empty.avi"]
    source = write_nwb(tmp_path / "a.nwb", names)

    with pytest.warns(ExternalFilesWarning) as caught:
        plan = relocated(source, names, way)
    (warning,) = [one for one in plan.warnings if "zero bytes" in one]
    assert repr(str(tmp_path / "empty.avi")) in warning
    assert [str(one.message) for one in caught if "zero bytes" in str(one.message)] == [warning]
    places = [plan.nwb_path.parent / stored for stored in stored_paths(plan.nwb_path)]
    assert [place.stat().st_size > 0 for place in places] == [False, True, False]
    for place in places[::2]:  # as it says
        shutil.copy(videos[1], place)
    assert_resolves(plan.nwb_path, [videos[1], videos[0], videos[1]])


def relocated(source: Path, names: list[str], way: str) -> RelocationPlan:
    """Relocate an NWB file that refers to videos beside it, or a new one."""
    folder = source.parent
    if way == "organize":
        return organize([source], folder / "ds", media_mode="copy").files[0].plan
    if way in ("relocate", "reference"):
        return relocate(source, "copy" if way == "relocate" else way)
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(folder / "ds" / "b.nwb", "w") as io:
        if way == "export":
            io.export(src_io=src_io, relocate_media=True, media_mode="copy")
        else:
            nwbfile = new_nwbfile()
            nwbfile.add_acquisition(image_series([folder / name for name in names]))
            io.write(nwbfile, relocate_media=True, media_mode="copy")
    return io.relocation


@pytest.mark.parametrize("way", ["write", "export", "relocate", "organize"])
def test_videos_that_are_cut_off_are_warned_of(tmp_path: Path, all_videos: Videos, way: str) -> None:
    """Once for all of a series, when they are relocated; they go along, as whole ones do."""
    wrong = ["cut_off.avi", "no_index.mp4", "cut_off.mp4", "cut_off.mkv"]
    names = ["mpeg4.avi", *wrong, "cut_off.avi", "b_frames.mp4"]
    for name in set(names):
        shutil.copy(all_videos[name], tmp_path / name)
    source = write_nwb(tmp_path / "a.nwb", names)
    with pytest.warns(ExternalFilesWarning) as caught:
        plan = relocated(source, names, way)
    (warning,) = [one for one in plan.warnings if "cut off" in one]
    assert f"{str(tmp_path / 'cut_off.avi')!r} is cut off, or still being written" in warning
    assert (
        f"the {(tmp_path / 'cut_off.avi').stat().st_size:,} bytes that are there (and 3 more of this series)" in warning
    )
    assert [str(one.message) for one in caught if "cut off" in str(one.message)] == [warning]
    places = [plan.nwb_path.parent / stored for stored in stored_paths(plan.nwb_path)]
    assert [digest(place) for place in places] == [digest(all_videos[name]) for name in names]
    again = relocate(plan.nwb_path, "copy")  # no warning: nothing is relocated
    assert not again.warnings
    for place, whole in zip(
        places, ("mpeg4.avi", "mpeg4.avi", "b_frames.mp4", "b_frames.mp4", "h264.mkv"), strict=False
    ):
        shutil.copy(all_videos[whole], place)  # as it says
    assert_resolves(plan.nwb_path, [all_videos[name] for name in ("mpeg4.avi", "mpeg4.avi", "b_frames.mp4",
                    "b_frames.mp4", "h264.mkv", "mpeg4.avi", "b_frames.mp4")])  # fmt: skip
    assert [one.code for one in check(plan.nwb_path) if one.code == "cut-off"] == []


def test_whole_videos_are_not_warned_of(tmp_path: Path, all_videos: Videos) -> None:
    names = [name for name in WHOLE if Path(name).suffix in ARCHIVED_SUFFIXES]
    for name in names:
        shutil.copy(all_videos[name], tmp_path / name)
    plan = relocate(write_nwb(tmp_path / "a.nwb", names), "symlink")
    assert len(plan.relocations) == len(names) > 15
    assert not plan.warnings


def test_videos_with_many_parts_are_not_read_for_a_warning(tmp_path: Path, all_videos: Videos) -> None:
    """A recording of hours in fragments has thousands: to look at all takes long where the disk is slow."""
    fragments = all_videos["many_fragments.mp4"].read_bytes()
    first = fragments.index(b"moof") - 4
    video = tmp_path / "long.mp4"
    video.write_bytes(fragments + 100 * fragments[first : fragments.rindex(b"mfra") - 4])
    with open(video, "r+b") as file:
        file.truncate(video.stat().st_size - 10)
    source = write_nwb(tmp_path / "a.nwb", [video.name])
    assert not relocate(source, "symlink").warnings
    assert [one.code for one in check(source, frames="index") if one.code == "cut-off"] == ["cut-off"]


def test_other_content_at_target_is_refused(source: Path, tmp_path: Path, videos: list[Path]) -> None:
    target = tmp_path / "ds" / "b.nwb"
    export(source, target, relocate_media=True, media_mode="copy")
    first = target.parent / stored_paths(target)[0]
    first.write_bytes(b"somebody's own")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="is not a copy of"):
        export(source, target, relocate_media=True, media_mode="copy")
    assert tree(tmp_path) == before
    with pytest.warns(ExternalFilesWarning, match="its content is discarded"):
        export(source, target, relocate_media=True, media_mode="copy", media_options={"existing": "replace"})
    assert_resolves(target, videos[:2])
    assert not [name for name in tree(tmp_path) if "/." in name]


def test_replaced_content_with_two_names_is_named(source: Path, tmp_path: Path, videos: list[Path]) -> None:
    """Content whose names (hard links) are all replaced in one call exists nowhere else."""
    target = tmp_path / "ds" / "b.nwb"
    export(source, target, relocate_media=True, media_mode="copy")
    first, second = (target.parent / stored for stored in stored_paths(target)[:2])
    first.write_bytes(b"somebody's own")
    second.unlink()
    os.link(first, second)
    with pytest.warns(ExternalFilesWarning, match="its content is discarded") as warned:
        export(source, target, relocate_media=True, media_mode="copy", media_options={"existing": "replace"})
    said = " ".join(str(warning.message) for warning in warned)
    assert all(repr(str(name)) in said for name in (first, second))
    assert_resolves(target, videos[:2])


def test_in_memory_relative_to_the_working_directory(
    tmp_path: Path, video_files: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video_files)
    target = tmp_path / "ds" / "b.nwb"
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["test1_0.avi"]))
    with (
        pytest.raises(RelocationRefusedError, match="would not be found"),
        NWBExtFilesHDF5IO("../ds/b.nwb", "w") as io,
    ):
        io.write(nwbfile)
    assert not target.exists()
    with NWBExtFilesHDF5IO("../ds/b.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_resolves(target, videos[:1])

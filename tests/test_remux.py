"""Videos that DANDI does not accept are remuxed on their way. That nothing is lost is checked with ffmpeg."""

from __future__ import annotations

import json
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import pytest
from click.testing import CliRunner
from helpers import digest, image_series, new_nwbfile, stored_paths, tree, with_slashes
from makers import quiet
from pynwb import NWBHDF5IO
from recordings import DATASET, recording, state
from videos import Videos, ffmpeg

from nwb_extfiles import ExternalFilesWarning, MediaOptions, NWBExtFilesHDF5IO, check, relocate, restore
from nwb_extfiles.cli import main
from nwb_extfiles.errors import ExternalFilesError, MediaExistsError, RelocationRefusedError, TransferError

REMUX: dict[str, Any] = {"remux": "unarchived"}
RATE = 25  # frames per second, of the series in `recording`
SUFFIXES = {
    "b_frames.h264": ".mp4",
    "no_b_frames.h264": ".mp4",
    "hevc.h265": ".mp4",
    "elementary.m4v": ".mp4",
    "ipod.m4v": ".mp4",
    "h264.ts": ".mp4",
    "mpeg2.mpg": ".mp4",
    "mpeg1.mpg": ".mp4",
    "vp9.webm": ".mkv",
    "vp8.webm": ".mkv",
}
ELEMENTARY = ("b_frames.h264", "no_b_frames.h264", "hevc.h265", "elementary.m4v")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    return tmp_path


def shown_frames(path: Path) -> list[str]:
    """The MD5 of each frame of a video, in the order in which ffmpeg shows them."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", "0:V:0"]
    run = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "framemd5", "-"], capture_output=True, text=True, check=True
    )
    return [line.rpartition(",")[2].strip() for line in run.stdout.splitlines() if not line.startswith("#")]


def shown_times(path: Path) -> list[float]:
    """When ffmpeg shows the frames of a video, in seconds."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "info", "-copyts", "-i", str(path), "-map", "0:V:0"]
    run = subprocess.run(
        [*command, "-vf", "showinfo", "-fps_mode", "passthrough", "-f", "null", "-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [float(part.split()[0]) for part in run.stderr.split("pts_time:")[1:]]


def nwb_with(videos: list[Path], path: Path = Path("nwb/a.nwb"), **fields: Any) -> Path:
    """An NWB file beside ``raw``, with copies of videos there."""
    for video in videos:
        shutil.copy(video, Path("raw", video.name))
    return recording(path, [f"../raw/{video.name}" for video in videos], videos=False, **fields)


def change_series(path: Path, rate: float | None = None, timestamps: list[float] | None = None) -> None:
    with h5py.File(path, "r+") as file:
        series = file["acquisition/video"]
        del series["starting_time"]
        if rate is not None:
            series["starting_time"] = 0.0
            series["starting_time"].attrs.update(rate=rate, unit="seconds")
        if timestamps is not None:
            series["timestamps"] = timestamps
            series["timestamps"].attrs.update(interval=1, unit="seconds")


def cli(*arguments: str | Path, ends: int = 0) -> str:
    result = with_slashes(CliRunner().invoke(main, [str(argument) for argument in arguments]))
    assert result.exit_code == ends, result.output
    return result.output


def remuxed(path: Path, place: str = DATASET) -> list[Path]:
    return [path.parent / stored for stored in stored_paths(path, place)]


# -------------------------------------------------------- nothing is lost


@pytest.mark.parametrize("name", SUFFIXES)
def test_all_frames_are_the_same_in_the_order_of_display(name: str, all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos[name]])
    relocate(path, "copy", media_options=REMUX)
    (made,) = remuxed(path)
    assert made.suffix == SUFFIXES[name]
    assert shown_frames(made) == shown_frames(all_videos[name])
    times = shown_times(made)
    if name in ELEMENTARY:
        assert times == pytest.approx([number / RATE for number in range(len(times))], abs=1e-4)
    else:
        original = shown_times(all_videos[name])
        assert [time - times[0] for time in times] == pytest.approx([time - original[0] for time in original], abs=1e-3)
    assert digest(Path("raw", name)) == digest(all_videos[name])


@pytest.mark.parametrize("name", ["b_frames.h264", "h264.ts", "vp9.webm"])
def test_same_bytes_each_time(name: str, all_videos: Videos, place: Path) -> None:
    made = []
    for folder in ("one", "two"):
        path = nwb_with([all_videos[name]], Path(folder, "a.nwb"))
        relocate(path, "copy", media_options=REMUX)
        made += map(digest, remuxed(path))
    assert made[0] == made[1]


def test_sound_and_tags_are_kept(all_videos: Videos, place: Path) -> None:
    tags = ["-metadata", "title=mouse 3", "-metadata", "creation_time=2024-05-06T07:08:09Z"]
    videos = [Path("sound.ts"), Path("tagged.m4v")]
    ffmpeg("-i", all_videos["sound.mp4"], "-c", "copy", videos[0])
    ffmpeg("-i", all_videos["sound.mp4"], "-c", "copy", *tags, "-f", "ipod", videos[1])
    path = nwb_with(videos)
    relocate(path, "copy", media_options=REMUX)
    for made, video in zip(remuxed(path), videos, strict=True):
        sounds = [Path("made.aac"), Path("original.aac")]
        for each, sound in zip((made, video), sounds, strict=True):
            ffmpeg("-i", each, "-map", "0:a", "-c", "copy", sound)
        assert digest(sounds[0]) == digest(sounds[1])
        assert shown_frames(made) == shown_frames(video)
    said = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", remuxed(path)[1]], capture_output=True, text=True)
    assert "mouse 3" in said.stderr
    assert "2024-05-06T07:08:09" in said.stderr


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("rotated.mp4", "rotation of 90.00"),
        ("wide_pixels.mp4", "SAR 4:3"),
        ("interlaced.mp4", "top first"),
        ("pixels_by_the_container.mp4", "SAR 3:2"),
    ],
)
def test_how_frames_are_shown_is_kept(name: str, word: str, all_videos: Videos, place: Path) -> None:
    video = Path("video.m4v")
    if name == "pixels_by_the_container.mp4":  # the frames themselves say 1:1
        ffmpeg("-i", all_videos["b_frames.mp4"], "-c", "copy", "-aspect", "9:4", "-f", "mp4", video)
    else:
        shutil.copy(all_videos[name], video)
    path = nwb_with([video])
    relocate(path, "copy", media_options=REMUX)
    (made,) = remuxed(path)
    for each in (video, made):
        said = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", each], capture_output=True, text=True).stderr
        assert word in said
    assert shown_frames(made) == shown_frames(video)


@pytest.mark.parametrize("what", ["a cover image", "a data stream and a timecode", "a data stream and chapters"])
def test_what_is_dropped_is_said(what: str, all_videos: Videos, place: Path) -> None:
    if what == "a cover image":
        settings = ["-map", "0", "-c", "copy", "-disposition:v:1", "attached_pic", "-f", "mp4"]
        ffmpeg("-i", all_videos["cover_image.mp4"], *settings, "video.m4v")
    elif what == "a data stream and chapters":
        Path("chapters.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=baseline\n")
        chapters = ["-i", "chapters.txt", "-map", "0", "-map_chapters", "1"]
        ffmpeg("-i", all_videos["b_frames.mp4"], *chapters, "-c", "copy", "-f", "mp4", "video.m4v")
    else:
        ffmpeg("-i", all_videos["b_frames.mp4"], "-c", "copy", "-timecode", "01:02:03:04", "-f", "mov", "video.m4v")
    path = nwb_with([Path("video.m4v")])
    with pytest.warns(ExternalFilesWarning, match=f"has {what}, which mp4 does not get"):
        relocate(path, "copy", media_options=REMUX)
    assert shown_frames(remuxed(path)[0]) == shown_frames(all_videos["b_frames.mp4"])


def test_pixels_that_are_square_in_mkv_only_are_said(all_videos: Videos, place: Path) -> None:
    """VP9 itself does not say the shape of its pixels."""
    ffmpeg("-i", all_videos["vp9.webm"], "-c", "copy", "-aspect", "9:4", "video.webm")
    path = nwb_with([Path("video.webm")])
    with pytest.warns(ExternalFilesWarning, match="has pixels that are not square, which mkv does not get"):
        relocate(path, "copy", media_options=REMUX)
    assert shown_frames(remuxed(path)[0]) == shown_frames(all_videos["vp9.webm"])


# ------------------------------------------------------------------ the rate


def test_rate_comes_from_the_timestamps(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["b_frames.h264"]])
    change_series(path, timestamps=[100 + number / 200 for number in range(60)])
    relocate(path, "copy", media_options=REMUX)
    assert shown_times(remuxed(path)[0])[:3] == pytest.approx([0, 0.005, 0.01], abs=1e-4)


def test_elementary_stream_without_rate_is_refused(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["no_b_frames.h264"]])
    change_series(path)
    before = state(place)
    with pytest.raises(RelocationRefusedError, match="neither `rate` nor `timestamps`"):
        relocate(path, "copy", media_options=REMUX)
    assert state(place) == before


@pytest.mark.parametrize("rate", [1e-5, 1e12])
def test_rate_that_no_video_can_have_is_refused(rate: float, all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["no_b_frames.h264"]])
    change_series(path, rate=rate)
    before = state(place)
    with pytest.raises(RelocationRefusedError, match=r"frames/s, which no video can have, .* correct `rate`"):
        relocate(path, "copy", media_options=REMUX, dry_run=True)
    assert state(place) == before


def test_other_containers_need_no_rate(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["h264.ts"]])
    change_series(path)
    relocate(path, "copy", media_options=REMUX)
    assert shown_frames(remuxed(path)[0]) == shown_frames(all_videos["h264.ts"])


@pytest.mark.parametrize("times", [["a", "b"], 1.0, [], [1.0], [3.0, 2.0, 1.0], [0.0, float("nan"), 1.0]])
def test_timestamps_that_give_no_rate_are_refused(times: Any, all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["no_b_frames.h264"]])
    change_series(path)
    with h5py.File(path, "r+") as file:
        file["acquisition/video/timestamps"] = times
    with pytest.raises(RelocationRefusedError, match="neither `rate` nor `timestamps`"):
        relocate(path, "copy", media_options=REMUX)


def test_field_that_repeats_the_videos_of_a_series_shares_the_remuxed_file(all_videos: Videos, place: Path) -> None:
    from ndx_pose import PoseEstimation

    shutil.copy(all_videos["b_frames.h264"], "raw/v.h264")
    nwbfile = new_nwbfile()
    module = nwbfile.create_processing_module("behavior", "behavior")
    with quiet():  # newer versions warn of the field
        module.add(PoseEstimation(name="pose", original_videos=["raw/v.h264"], description="of the mouse"))
    nwbfile.add_acquisition(image_series(["raw/v.h264"]))
    with NWBExtFilesHDF5IO("a.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=REMUX)
    repeated = remuxed(Path("a.nwb"), "processing/behavior/pose/original_videos")
    assert repeated == remuxed(Path("a.nwb"))
    assert shown_frames(repeated[0]) == shown_frames(all_videos["b_frames.h264"])


def test_one_stream_in_two_series_with_two_rates_gives_two_files(all_videos: Videos, place: Path) -> None:
    shutil.copy(all_videos["b_frames.h264"], "raw/v.h264")
    nwbfile = new_nwbfile()
    for name, rate in (("slow", 10.0), ("fast", 50.0), ("again", 50.0)):
        nwbfile.add_acquisition(image_series(["../raw/v.h264"], name, rate=rate))
    Path("nwb").mkdir()
    with NWBHDF5IO("nwb/a.nwb", "w") as io:
        io.write(nwbfile)
    relocate("nwb/a.nwb", "copy", media_options=REMUX)
    slow, fast, again = (
        remuxed(Path("nwb/a.nwb"), f"acquisition/{name}/external_file")[0] for name in ("slow", "fast", "again")
    )
    assert shown_times(slow)[1] == pytest.approx(0.1)
    assert shown_times(fast)[1] == pytest.approx(0.02)
    assert fast.samefile(again)
    assert shown_frames(slow) == shown_frames(fast) == shown_frames(all_videos["b_frames.h264"])


# ------------------------------------------------------------- from end to end


NAMES = ("b_frames.h264", "vp9.webm", "mpeg4.avi")


def test_export(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos[name] for name in NAMES])
    before = tree(place)
    with NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO("new/sub-a.nwb", "w") as io:
        io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=REMUX)
    with NWBHDF5IO("new/sub-a.nwb", "r") as io:
        series = io.read().acquisition["video"]
        assert series.format == "external"
        stored = list(series.external_file)
        object_id = series.object_id
    assert stored == [
        f"sub-a/{object_id}_external_file_{n}{suffix}" for n, suffix in enumerate((".mp4", ".mkv", ".avi"))
    ]
    for made, name in zip(stored, NAMES, strict=True):
        assert shown_frames(Path("new", made)) == shown_frames(all_videos[name])
    assert digest(Path("new", stored[2])) == digest(all_videos["mpeg4.avi"])
    added = {"new", "new/sub-a.nwb", "new/sub-a", *(f"new/{each}" for each in stored)}
    after = tree(place)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == added
    # a second time, onto what is there
    made = {each: digest(Path("new", each)) for each in stored}
    with NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO("new/sub-a.nwb", "w") as io:
        io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=REMUX)
    assert {str(entry.action) for entry in io.relocation.relocations} == {"reuse"}
    assert {each: digest(Path("new", each)) for each in stored} == made


def test_write_of_a_container_in_memory_with_its_rate(all_videos: Videos, place: Path) -> None:
    shutil.copy(all_videos["no_b_frames.h264"], "raw/v.h264")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["raw/v.h264"], "by_rate", rate=40.0))
    times = [number / 10 for number in range(60)]
    by_times = image_series(["raw/v.h264"], "by_times", rate=None, num_samples=None, timestamps=times)
    nwbfile.add_acquisition(by_times)
    with NWBExtFilesHDF5IO("a.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=REMUX)
    for name, step in (("by_rate", 0.025), ("by_times", 0.1)):
        (made,) = remuxed(Path("a.nwb"), f"acquisition/{name}/external_file")
        assert shown_times(made)[1] == pytest.approx(step)
        assert shown_frames(made) == shown_frames(all_videos["no_b_frames.h264"])


def test_relocate_shows_what_it_does_and_a_second_run_does_nothing(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos[name] for name in NAMES])
    before = state(place)
    arguments = ("relocate", "--remux", "--media-mode", "copy", "--manifest", path)
    planned = json.loads(cli(*arguments, "--dry-run", "--json"))[0]
    shown = cli(*arguments, "--dry-run")
    assert state(place) == before
    assert "remux " in shown
    assert "2 videos remuxed (" in shown
    assert "bytes; the originals stay)" in shown
    cli(*arguments)
    assert [entry["new_path"] for entry in planned["media"]] == stored_paths(path)
    assert all(Path(entry["target"]).is_file() for entry in planned["media"])
    made = [entry["bytes"] for entry in planned["media"]]
    assert planned["total_bytes"] == sum(made) == sum(Path("raw", name).stat().st_size for name in NAMES)
    done = state(place)
    assert "3 videos already in place" in cli(*arguments)
    assert state(place) == done


def test_organize_twice_is_once(all_videos: Videos, place: Path) -> None:
    nwb_with([all_videos[name] for name in NAMES])
    arguments = ("organize", "--remux", "--media-mode", "copy", "-d", "dandiset", "nwb")
    shown = cli(*arguments, "--dry-run")
    assert not Path("dandiset").exists()
    assert shown.count("remux ") == 2
    cli(*arguments)
    path = Path("dandiset/sub-mouse0/sub-mouse0_image.nwb")
    assert [made.suffix for made in remuxed(path)] == [".mp4", ".mkv", ".avi"]
    for made, name in zip(remuxed(path), NAMES, strict=True):
        assert shown_frames(made) == shown_frames(all_videos[name])
        assert made.relative_to(path.parent).as_posix() in shown
    done = state(place)
    assert "already there" in cli(*arguments)
    assert state(place) == done


def test_store(all_videos: Videos, place: Path, trusted_stores: None) -> None:
    from zarr_makers import paths_in, write_store

    shutil.copy(all_videos["b_frames.h264"], "raw/v.h264")
    store = write_store(place / "nwb" / "a.nwb.zarr", ["../raw/v.h264"])
    relocate(store, "copy", media_options=REMUX)
    (stored,) = paths_in(store)
    assert shown_frames(store.parent / stored) == shown_frames(all_videos["b_frames.h264"])


@pytest.mark.parametrize("manifest", [False, True])
def test_progress_ends_at_the_total(manifest: bool, all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos[name] for name in NAMES])
    seen: list[tuple[int, int]] = []
    options = {**REMUX, "manifest": manifest, "progress": lambda done, total: seen.append((done, total))}
    relocate(path, "copy", media_options=options)
    sizes = [Path("raw", name).stat().st_size for name in NAMES]
    total = sum(sizes) + manifest * sum(sizes[:2])  # remuxed videos are read for their checksums too
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_remuxed_file_is_as_private_as_the_original_whatever_the_path(all_videos: Videos, place: Path) -> None:
    folder = Path("day 1: %02d [raw]")
    folder.mkdir()
    shutil.copy(all_videos["b_frames.h264"], folder / "a'b.h264")
    (folder / "a'b.h264").chmod(0o600)
    path = recording(folder / "a.nwb", ["a'b.h264"], videos=False)
    relocate(path, "copy", media_options=REMUX)
    (made,) = remuxed(path)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert shown_frames(made) == shown_frames(all_videos["b_frames.h264"])


def test_export_of_a_large_video_remuxes_it_while_the_nwb_file_is_written(
    all_videos: Videos, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwb_extfiles.io.writing._WORTH_A_THREAD", 1000)
    path = nwb_with([all_videos["b_frames.h264"]])
    with NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO("new/a.nwb", "w") as io:
        io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=REMUX)
    assert shown_frames(remuxed(Path("new/a.nwb"))[0]) == shown_frames(all_videos["b_frames.h264"])


def test_lack_of_space_is_seen_in_the_plan(place: Path, tmpfs: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=640x480:rate=30:duration=2", "-c:v", "mpeg2video", "-q:v", "1", "big.ts")
    assert Path("big.ts").stat().st_size > 2**20
    path = nwb_with([Path("big.ts")])
    with NWBHDF5IO(path, "r") as source, pytest.raises(RelocationRefusedError, match="are free"):
        with NWBExtFilesHDF5IO(tmpfs / "a.nwb", "w") as io:
            io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=REMUX)
    assert list(tmpfs.iterdir()) == []


# ------------------------------------------------------ what is already there


def test_target_of_another_version_of_ffmpeg_is_reused(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["h264.ts"]])
    (entry,) = relocate(path, "copy", media_options=REMUX, dry_run=True).relocations
    target = path.parent / str(entry.target)
    target.parent.mkdir()
    ffmpeg("-i", all_videos["h264.ts"], "-c", "copy", "-movflags", "frag_keyframe+empty_moov", target)
    there = digest(target)
    (entry,) = relocate(path, "copy", media_options=REMUX).relocations
    assert entry.action == "reuse"
    assert digest(target) == there
    assert remuxed(path) == [target]


@pytest.mark.parametrize("other", ["no_b_frames.mp4", "wrong_times.mp4", "wrong_order.mp4", "not_a_video.mp4"])
def test_target_with_other_frames_is_refused(other: str, all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["b_frames.h264"]])
    (entry,) = relocate(path, "copy", media_options=REMUX, dry_run=True).relocations
    target = path.parent / str(entry.target)
    target.parent.mkdir()
    if other == "not_a_video.mp4":
        target.write_bytes(b"no video")
    elif other == "no_b_frames.mp4":
        shutil.copy(all_videos[other], target)
    elif other == "wrong_times.mp4":  # 30 frames a second
        shutil.copy(all_videos["b_frames.mp4"], target)
    else:  # shown as they are decoded
        ffmpeg("-r", "25", "-i", all_videos["b_frames.h264"], "-c", "copy", "-bsf:v", "setts=pts=N:dts=N", target)
    before = state(place)
    with pytest.raises(MediaExistsError):
        relocate(path, "copy", media_options=REMUX)
    assert state(place) == before
    with pytest.warns(ExternalFilesWarning, match="discarded"):
        relocate(path, "copy", media_options={**REMUX, "existing": "replace"})
    assert shown_frames(remuxed(path)[0]) == shown_frames(all_videos["b_frames.h264"])


def test_original_in_the_media_folder_stays_with_a_warning(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["h264.ts"]])
    with pytest.warns(ExternalFilesWarning, match="does not accept"):
        relocate(path, "copy")
    (original,) = remuxed(path)
    with pytest.warns(ExternalFilesWarning, match="stays beside the remuxed file"):
        relocate(path, "copy", media_options=REMUX)
    (made,) = remuxed(path)
    assert (original.suffix, made.suffix) == (".ts", ".mp4")
    assert digest(original) == digest(all_videos["h264.ts"])
    assert shown_frames(made) == shown_frames(all_videos["h264.ts"])


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "move", "reference"])
def test_other_modes_are_refused_unless_nothing_is_to_be_remuxed(mode: str, all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["b_frames.h264"], all_videos["h264.ts"]])
    before = state(place)
    said = cli("relocate", "--remux", "--media-mode", mode, path, ends=1)
    assert "use --media-mode copy; the originals stay where they are" in said
    assert state(place) == before
    archived = nwb_with([all_videos["mpeg4.avi"]], Path("nwb/b.nwb"))
    cli("relocate", "--remux", "--media-mode", mode, archived)
    assert digest(remuxed(archived)[0]) == digest(all_videos["mpeg4.avi"])


def test_copy_is_taken_where_several_modes_are_allowed_and_something_is_remuxed(
    all_videos: Videos, place: Path
) -> None:
    path = nwb_with([all_videos["h264.ts"]])
    cli("relocate", "--remux", "--media-mode", "symlink,copy", path)
    assert shown_frames(remuxed(path)[0]) == shown_frames(all_videos["h264.ts"])
    archived = nwb_with([all_videos["mpeg4.avi"]], Path("nwb/b.nwb"))
    cli("relocate", "--remux", "--media-mode", "symlink,copy", archived)
    assert remuxed(archived)[0].is_symlink()


CONVERTED = {
    "huffyuv.nut": ["-c:v", "huffyuv", "-pix_fmt", "yuv422p"],
    "ffvhuff.nut": ["-c:v", "ffvhuff"],
    "utvideo.nut": ["-c:v", "utvideo"],
    "dv.dv": ["-c:v", "dvvideo", "-s", "720x576", "-r", "25", "-pix_fmt", "yuv420p"],
    "av1.ivf": ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"],
    "av1.obu": ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"],
    "av1.nut": ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"],
}


@pytest.mark.parametrize("name", CONVERTED)
def test_plan_refuses_codecs_that_cannot_be_remuxed(name: str, all_videos: Videos, place: Path) -> None:
    ffmpeg("-i", all_videos["b_frames.mp4"], *CONVERTED[name], "-frames:v", "3", f"raw/{name}")
    path = recording(Path("nwb/a.nwb"), [f"../raw/{name}"], videos=False)
    with pytest.raises(RelocationRefusedError) as caught:
        relocate(path, "copy", media_options=REMUX, dry_run=True)
    command = shlex.split(str(caught.value).split("`")[1])
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *command[1:]], check=True)
    assert shown_frames(Path(command[-1])) == shown_frames(Path("raw", name))


def test_stream_that_begins_in_the_middle_is_not_lost(all_videos: Videos, place: Path) -> None:
    """As where recordings are joined: behind what FFmpeg reads to find the streams, there is one more."""
    noise = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=1.5,noise=c0s=100:c0f=t"]
    sound = ["-f", "lavfi", "-i", "sine=duration=1.5", "-map", "0", "-map", "1"]
    with open("raw/joined.ts", "wb") as joined:
        for start, inputs in enumerate((noise, [*noise, *sound], noise)):
            settings = ["-c:v", "mpeg2video", "-q:v", "1", "-c:a", "mp2", "-output_ts_offset", str(2 * start)]
            ffmpeg(*inputs, *settings, "part.ts")
            joined.write(Path("part.ts").read_bytes())
    path = recording(Path("nwb/a.nwb"), ["../raw/joined.ts"], videos=False)
    before = tree(place)
    with pytest.raises(TransferError, match="a stream of it begins in the middle of the file"):
        relocate(path, "copy", media_options=REMUX)
    assert tree(place) == before


@pytest.mark.parametrize("name", ["image.bmp", "sound.mts"])
def test_what_cannot_be_remuxed_is_refused_with_the_command_that_converts_it(
    name: str, all_videos: Videos, place: Path
) -> None:
    if name == "image.bmp":
        ffmpeg("-i", all_videos["image.png"], "raw/image.bmp")
    else:
        settings = ["-c:v", "copy", "-c:a", "pcm_bluray", "-mpegts_m2ts_mode", "1", "-f", "mpegts"]
        ffmpeg("-i", all_videos["sound.mp4"], *settings, "raw/sound.mts")
    path = recording(Path("nwb/a.nwb"), [f"../raw/{name}"], videos=False)
    before = state(place)
    with pytest.raises(ExternalFilesError) as caught:
        relocate(path, "copy", media_options=REMUX)
    assert state(place) == before
    command = shlex.split(str(caught.value).split("`")[1])
    assert command[0] == "ffmpeg"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *command[1:]], check=True)
    relocate(path, "copy", media_options={**REMUX, "path_map": {f"../raw/{name}": command[-1]}})
    assert shown_frames(remuxed(path)[0]) == shown_frames(Path(command[-1]))


@pytest.mark.parametrize("name", ["cut_off.webm", "playlist.ts", "empty.ts", "hidden.m4v", "notes.h264"])
def test_what_is_no_whole_video_is_refused(name: str, all_videos: Videos, place: Path) -> None:
    video = Path("raw", name)
    if name == "hidden.m4v":
        shutil.copy(all_videos["edit_list.mp4"], video)
    elif name == "notes.h264":
        video.write_text("no video")
    else:
        stem, suffix = video.stem, {"playlist.ts": ".mp4", "empty.ts": ".mp4"}.get(name, video.suffix)
        shutil.copy(all_videos[f"{stem}{suffix}"], video)
    path = recording(Path("nwb/a.nwb"), [f"../raw/{name}"], videos=False)
    before = state(place)
    with pytest.raises(ExternalFilesError):
        relocate(path, "copy", media_options=REMUX)
    assert state(place) == before


def test_frames_that_cannot_be_decoded_leave_nothing_behind(all_videos: Videos, place: Path) -> None:
    video = Path("raw/a.h264")
    content = all_videos["no_b_frames.h264"].read_bytes()
    whole = nwb_with([all_videos["vp9.webm"]], Path("nwb/b.nwb"))
    # frames of a stream whose first ones, with the settings of the encoder, are lost
    middle = content.index(b"\0\0\1\x41", len(content) // 2)
    video.write_bytes(content[middle:] + content)
    path = recording(Path("nwb/a.nwb"), ["../raw/a.h264"], videos=False)
    before = tree(place)
    with pytest.raises(TransferError, match="without loss"):
        relocate([whole, path], "copy", media_options=REMUX)
    assert tree(place) == before


def test_without_pyav_there_is_one_clear_error(
    all_videos: Videos, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [nwb_with([all_videos["h264.ts"]], Path(f"nwb/{name}.nwb")) for name in "ab"]
    before = state(place)
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "av"]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "av", None)
    said = cli("relocate", "--remux", "--media-mode", "copy", *paths, ends=1)
    assert said.count("\n") == 1
    assert 'pip install "av>=17"' in said
    with pytest.raises(RelocationRefusedError, match="PyAV"):
        MediaOptions(remux="unarchived")
    assert state(place) == before


def test_url_is_refused(place: Path) -> None:
    path = recording(Path("nwb/a.nwb"), ["https://example.org/a.h264"], videos=False)
    relocate(path, "copy", media_options=REMUX)  # it stays a URL
    assert stored_paths(path) == ["https://example.org/a.h264"]


# ------------------------------------------------------------------ manifest


def rows_of(path: Path) -> list[dict[str, Any]]:
    with h5py.File(path) as file:
        table = file["general/external_files/manifest"]
        names = [name for name in table if name != "id"]
        columns = {
            name: [value.decode() if isinstance(value, bytes) else value for value in table[name]] for name in names
        }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_manifest_keeps_name_and_checksum_of_the_original_and_restore_says_so(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["b_frames.h264"], all_videos["mpeg4.avi"]])
    relocate(path, "copy", media_options={**REMUX, "manifest": True})
    made, copied = rows_of(path)
    assert made["original_name"] == "b_frames.h264"
    assert made["original_sha256"] == digest(all_videos["b_frames.h264"])
    assert (made["sha256"], made["size_in_bytes"]) == (digest(remuxed(path)[0]), remuxed(path)[0].stat().st_size)
    assert copied["original_sha256"] == ""
    assert not [found for found in check(path, checksums=True) if found.code.startswith("media")]
    # renamed with its media, it keeps what it knows
    path = path.rename(path.with_name("b.nwb"))
    relocate(path)
    assert [row["original_sha256"] for row in rows_of(path)] == [made["original_sha256"], ""]
    with pytest.warns(ExternalFilesWarning, match="the original was 'b_frames.h264', another container") as said:
        restore(path, "back")
    assert len(said) == 1
    assert stored_paths(Path("back/b.nwb")) == ["b_frames.mp4", "mpeg4.avi"]
    assert shown_frames(Path("back/b_frames.mp4")) == shown_frames(all_videos["b_frames.h264"])


def test_reused_target_gets_the_same_manifest(all_videos: Videos, place: Path) -> None:
    path = nwb_with([all_videos["vp9.webm"]])
    options = {**REMUX, "manifest": True}
    rows = []
    for _ in range(2):
        with NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO("new/a.nwb", "w") as io:
            io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=options)
        rows.append(repr(rows_of(Path("new/a.nwb"))))
    assert rows[0] == rows[1]


def test_several_files_share_one_original(all_videos: Videos, place: Path) -> None:
    first = nwb_with([all_videos["h264.ts"]])
    second = recording(Path("nwb/b.nwb"), ["../raw/h264.ts"], videos=False)
    relocate([first, second], "copy", media_options=REMUX)
    assert shown_frames(remuxed(first)[0]) == shown_frames(remuxed(second)[0]) == shown_frames(all_videos["h264.ts"])

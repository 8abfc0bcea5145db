"""What video headers state, for real files of each kind, and for false headers."""

from __future__ import annotations

import math
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import pytest
from videos import VIDEOS, Videos, decoded_frames

from nwb_extfiles.media.probe import MediaFacts, probe

UNKNOWN = (0, 0, 0, True)


def encode(path: Path, *options: str, rate: str = "25") -> Path:
    source = f"testsrc=size=64x48:rate={rate}:duration=1"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", source, *options, str(path)]
    subprocess.run(command, check=True)
    return path


def told(path: Path) -> tuple[int, int, int, float | bool]:
    facts = probe(path)
    return facts.width, facts.height, facts.frame_count, math.isnan(facts.frame_rate) or round(facts.frame_rate, 2)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.avi", ["-c:v", "mjpeg"], (64, 48, 25, 25.0)),
        ("a.mp4", [], (64, 48, 25, 25.0)),
        ("a.mp4", ["-movflags", "faststart"], (64, 48, 25, 25.0)),
        ("a.mov", [], (64, 48, 25, 25.0)),
        ("a.png", ["-frames:v", "1"], (64, 48, 1, True)),
        ("a.jpg", ["-frames:v", "1"], (64, 48, 1, True)),
        ("a.gif", [], (64, 48, 0, True)),
        ("a.mp4", ["-movflags", "frag_keyframe+empty_moov"], (64, 48, 0, True)),  # its frames are told elsewhere
        ("a.mkv", [], UNKNOWN),
    ],
)
def test_real_videos(
    tmp_path: Path, name: str, options: list[str], expected: tuple[int, int, int, float | bool]
) -> None:
    assert told(encode(tmp_path / name, *options)) == expected


@pytest.mark.parametrize("name", VIDEOS)
def test_facts_are_true_or_unknown(all_videos: Videos, name: str) -> None:
    """Of complete AVI, MP4 and MOV files they are known, but for fragments, and for a rate that counts empty chunks."""
    path = all_videos[name]
    width, height, frames, rate = told(path)
    indexed = name.endswith((".mp4", ".mov", ".avi", "ipod.m4v"))
    assert (width, height) == ((96, 64) if indexed else (0, 0))
    whole = indexed and "cut_off" not in name and "fragment" not in name
    assert frames == (decoded_frames(path, hidden=True) if whole else 0)
    rates = {"ntsc.mov": 29.97, "variable_rate.mp4": 25.0, "interlaced.mp4": 15.0, "remuxed.avi": True}
    assert rate == (rates.get(name, 30.0) if whole else True)


@pytest.mark.parametrize("name", ["mpeg4.avi", "opendml.avi", "index_first.mp4", "b_frames.mp4", "mjpeg.mov"])
def test_frames_of_files_that_end_anywhere_are_unknown(tmp_path: Path, all_videos: Videos, name: str) -> None:
    content, path = all_videos[name].read_bytes(), tmp_path / name
    assert probe(all_videos[name]).frame_count == 60
    for size in {*range(0, len(content), len(content) // 100), *range(len(content) - 50, len(content) - 1)}:
        path.write_bytes(content[:size])
        assert probe(path).frame_count == 0, size


def test_avi_without_index(tmp_path: Path, all_videos: Videos) -> None:
    """The header states a count, but nothing shows that it is right."""
    path = tmp_path / "a.avi"
    path.write_bytes(all_videos["mpeg4.avi"].read_bytes().replace(b"idx1", b"JUNK"))
    assert told(path) == (96, 64, 0, True)


def test_headers_are_read_fast(tmp_path: Path, all_videos: Videos) -> None:
    """However long the file is: of a hole of 8 GB nothing is read."""
    path = tmp_path / "a.mp4"
    content = all_videos["index_first.mp4"].read_bytes()
    mdat = content.index(b"mdat") - 4
    large = struct.pack(">I4sQ", 1, b"mdat", 2**33)
    path.write_bytes(content[:mdat] + large + content[mdat + 8 :])
    os.truncate(path, mdat + 2**33)
    start = time.perf_counter()
    assert told(path) == (96, 64, 60, 30.0)
    assert time.perf_counter() - start < 1


def test_facts_do_not_depend_on_the_extra(all_videos: Videos) -> None:
    """They go into manifests, which must be the same wherever they are written."""
    names = [name for name in VIDEOS if probe(all_videos[name]) != MediaFacts()]
    code = (
        "import sys; from pathlib import Path; sys.modules['av'] = None\n"
        "from nwb_extfiles.media.probe import probe\n"
        "print([probe(Path(path)) for path in sys.argv[1:]])\n"
    )
    paths = [all_videos[name] for name in names]
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str([probe(path) for path in paths])


def test_fractional_rate(tmp_path: Path) -> None:
    for name in ("a.avi", "a.mp4"):
        assert told(encode(tmp_path / name, rate="30000/1001"))[2:] == (30, 29.97)


def test_video_with_sound(tmp_path: Path) -> None:
    """The video track is not the first."""
    path = tmp_path / "a.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    command += ["-f", "lavfi", "-i", "sine=duration=1", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1"]
    subprocess.run([*command, "-map", "0:a", "-map", "1:v", str(path)], check=True)
    assert told(path) == (64, 48, 25, 25.0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0AVI " + bytes(100),
        b"RIFF\0\0\0\0AVI avih" + bytes(4) + b"\xff" * 60,
        struct.pack(">I4s", 0, b"ftyp"),
        struct.pack(">I4s", 8, b"ftyp") + struct.pack(">I4sQ", 1, b"moov", 2**63),
        struct.pack(">I4s", 8, b"ftyp") * 20_000,
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\xff" * 8,
        b"GIF89a",
        b"\xff\xd8\xff\xe0\x00\x00" * 10,
        b"\xff\xd8\xff" + b"\xff\xe0\x00\x02" * 20_000,
        b"\xff\xd8\xff\xd8",
    ],
)
def test_videos_with_false_headers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert told(path) == UNKNOWN


def test_damaged_files(tmp_path: Path) -> None:
    """Whatever the file contains, there is an answer."""
    originals = [encode(tmp_path / "a.avi").read_bytes(), encode(tmp_path / "a.mp4").read_bytes()]
    path = tmp_path / "damaged"
    for seed in range(300):
        chance = random.Random(seed)
        content = bytearray(chance.choice(originals))
        for _ in range(chance.randrange(1, 60)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.randrange(len(content))])
        assert isinstance(probe(path), MediaFacts)


def test_missing_video(tmp_path: Path) -> None:
    assert told(tmp_path / "gone") == UNKNOWN
    assert told(tmp_path) == UNKNOWN

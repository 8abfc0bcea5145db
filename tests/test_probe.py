"""What video headers state, for real files of each kind, and for false headers."""

from __future__ import annotations

import math
import random
import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

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

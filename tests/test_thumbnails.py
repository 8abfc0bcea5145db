"""Thumbnails, decoded by ffmpeg and compared with its own frames."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from videos import VIDEOS, Videos, ffmpeg

from nwb_extfiles.media.pyav.opening import NotAVideo
from nwb_extfiles.media.pyav.thumbnails import thumbnail

SIZES = {"rotated.mp4": (64, 96), "wide_pixels.mp4": (128, 64)}


def pixels(path: Path, *options: str) -> np.ndarray:
    """The first frame as ffmpeg decodes it, turned and as large as it says."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), *options, "-frames:v", "1", "-pix_fmt", "rgb24"]
    run = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True)
    sizes = re.findall(rb"Video: rawvideo.*?, (\d+)x(\d+)", run.stderr)
    width, height = map(int, sizes[-1])
    return np.frombuffer(run.stdout, np.uint8).reshape(height, width, 3).astype(float)


def decoded(path: Path, image: bytes) -> np.ndarray:
    path.write_bytes(image)
    return pixels(path)


@pytest.mark.parametrize("name", VIDEOS)
def test_every_kind_of_video_has_one(tmp_path: Path, all_videos: Videos, name: str) -> None:
    image = decoded(tmp_path / "a.webp", thumbnail(all_videos[name]))
    width, height = SIZES.get(name, (96, 64))
    assert image.shape == (height, width, 3)
    assert image.std() > 40


@pytest.mark.parametrize("name", ["b_frames.mp4", "rotated.mp4", "vp9.webm"])
def test_frame_after_a_tenth(tmp_path: Path, all_videos: Videos, name: str) -> None:
    """The number painted into it is that of ffmpeg's frame there."""
    image = decoded(tmp_path / "a.webp", thumbnail(all_videos[name]))
    there, later = (pixels(all_videos[name], "-ss", time) for time in ("0.2", "1"))
    assert np.abs(image - there).mean() < 12 < np.abs(image - later).mean()


def test_size(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=10:duration=1", "-c:v", "mjpeg", tmp_path / "a.avi")
    image = thumbnail(tmp_path / "a.avi")
    assert decoded(tmp_path / "a.webp", image).shape == (135, 240, 3)
    assert len(image) < 10_000
    assert decoded(tmp_path / "b.webp", thumbnail(tmp_path / "a.avi", width=100)).shape == (56, 100, 3)


def test_damaged_frames_are_passed_over(tmp_path: Path, all_videos: Videos) -> None:
    content = bytearray(all_videos["mjpeg.avi"].read_bytes())
    for match in list(re.finditer(b"00dc....", content, re.DOTALL))[:8]:
        content[match.end() : match.end() + 1000] = random.Random(0).randbytes(1000)
    (tmp_path / "a.avi").write_bytes(content)
    assert decoded(tmp_path / "a.webp", thumbnail(tmp_path / "a.avi")).std() > 40


@pytest.mark.parametrize("name", ["no_frames.avi", "no_index.mp4", "playlist.mp4", "image.png", "empty.mp4"])
def test_without_frames_there_is_none(all_videos: Videos, name: str) -> None:
    with pytest.raises(NotAVideo):
        thumbnail(all_videos[name])


def test_nothing_but_damage(tmp_path: Path, all_videos: Videos) -> None:
    content = bytearray(all_videos["no_b_frames.mp4"].read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(NotAVideo, match="no frame that can be decoded"):
        thumbnail(tmp_path / "a.mp4")

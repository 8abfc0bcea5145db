"""Short real videos of each container and codec, made by ffmpeg, and what ffmpeg decodes of them."""

from __future__ import annotations

import re
import shlex
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import imageio_ffmpeg

__all__ = ["CUT_OFF", "VIDEOS", "WHOLE", "Videos", "decoded_frames", "ffmpeg"]

_CLIP = "-f lavfi -i testsrc2=size=96x64:rate=30:duration=2"
_H264 = "-c:v libx264 -pix_fmt yuv420p"

WHOLE: Mapping[str, str] = {
    "b_frames.mp4": f"{_CLIP} {_H264} -bf 3",
    "no_b_frames.mp4": f"{_CLIP} {_H264} -bf 0",
    "index_first.mp4": "-i {b_frames.mp4} -c copy -movflags faststart",
    "fragmented.mp4": "-i {b_frames.mp4} -c copy -movflags frag_keyframe+empty_moov",
    "many_fragments.mp4": f"{_CLIP} {_H264} -g 10 -movflags frag_keyframe+empty_moov+default_base_moof",
    "fragments_with_sidx.mp4": "-i {many_fragments.mp4} -c copy "
    "-movflags frag_keyframe+empty_moov+default_base_moof+global_sidx",
    "dash_fragments.mp4": f"{_CLIP} {_H264} -g 10 -movflags dash+frag_keyframe",
    "edit_list.mp4": "-ss 0.7 -i {b_frames.mp4} -c copy",
    "variable_rate.mp4": f"{_CLIP} -vf \"select='not(between(n,20,29))'\" -fps_mode vfr {_H264}",
    "sound.mp4": f"-f lavfi -i sine=duration=3 {_CLIP} -map 0 -map 1 {_H264} -c:a aac",
    "rotated.mp4": "-display_rotation 90 -i {b_frames.mp4} -c copy",
    "wide_pixels.mp4": f"{_CLIP} -vf setsar=4/3 {_H264}",
    "interlaced.mp4": f"{_CLIP} -vf tinterlace=interleave_top {_H264} -flags +ildct+ilme -x264-params tff=1",
    "two_videos.mp4": f"{_CLIP} -t 1 {_CLIP} -map 0 -map 1 {_H264}",
    "cover_image.mp4": "-i {b_frames.mp4} -i {image.png} -map 0 -map 1 -c copy -disposition:v:1 attached_pic",
    "hevc.mp4": f"{_CLIP} -c:v libx265 -pix_fmt yuv420p -x265-params log-level=none",
    "vp9.mp4": f"{_CLIP} -c:v libvpx-vp9 -deadline realtime -pix_fmt yuv420p",
    "av1.mp4": f"{_CLIP} -t 0.3 -c:v libaom-av1 -cpu-used 8 -usage realtime",
    "one_frame.mp4": f"{_CLIP} -frames:v 1 {_H264}",
    "mpeg4.mp4": f"{_CLIP} -c:v mpeg4 -bf 2",
    "mjpeg.mov": f"{_CLIP} -c:v mjpeg -pix_fmt yuvj420p",
    "h264.mov": "-i {b_frames.mp4} -c copy",
    "ntsc.mov": f"-f lavfi -i testsrc2=size=96x64:rate=30000/1001:duration=2 {_H264}",
    "ipod.m4v": f"{_CLIP} {_H264}",
    "mpeg4.avi": f"{_CLIP} -c:v mpeg4",
    "mjpeg.avi": f"{_CLIP} -c:v mjpeg -pix_fmt yuvj420p",
    "raw.avi": f"{_CLIP} -c:v rawvideo -t 0.5",
    "sound.avi": f"-f lavfi -i sine=duration=3 {_CLIP} -map 0 -map 1 -c:v mpeg4 -c:a mp2",
    "remuxed.avi": "-i {b_frames.mp4} -c copy",
    "h264.mkv": "-i {b_frames.mp4} -c copy",
    "offset.mkv": "-itsoffset 5 -i {b_frames.mp4} -c copy",
    "long_last_frame.mkv": "-i {no_b_frames.mp4} -c copy -bsf:v 'setts=duration=if(eq(N\\,59)\\,46080\\,DURATION)'",
    "fast.mkv": f"-f lavfi -i testsrc2=size=96x64:rate=5000:duration=0.1 {_H264}",
    "ffv1.mkv": f"{_CLIP} -c:v ffv1 -pix_fmt gray16le",
    "vp9.webm": f"{_CLIP} -c:v libvpx-vp9 -deadline realtime",
    "vp8.webm": f"{_CLIP} -c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -b:v 100k",
    "h264.ts": "-i {b_frames.mp4} -c copy",
    "mpeg2.mpg": f"{_CLIP} -c:v mpeg2video",
    "mpeg1.mpg": f"{_CLIP} -c:v mpeg1video",
    "flv1.flv": f"{_CLIP} -c:v flv1",
    "wmv2.wmv": f"{_CLIP} -c:v wmv2",
    "offset.wmv": "-itsoffset 5 -i {wmv2.wmv} -c copy",
    "sound.wmv": f"-f lavfi -i sine=duration=5 {_CLIP} -map 0 -map 1 -c:v wmv2 -c:a wmav2",
    "b_frames.h264": "-i {b_frames.mp4} -c copy",
    "no_b_frames.h264": "-i {no_b_frames.mp4} -c copy",
    "hevc.h265": "-i {hevc.mp4} -c copy -f hevc",
    "elementary.m4v": f"{_CLIP} -c:v mpeg4 -f m4v",
}
"""Complete videos, of 96 x 64 pixels and mostly 60 frames: the arguments of ffmpeg; another video in braces."""

CUT_OFF: Mapping[str, str] = {
    "cut_off.mp4": "index_first.mp4",
    "cut_off_fragments.mp4": "many_fragments.mp4",
    "cut_off.avi": "mpeg4.avi",
    "cut_off.mkv": "h264.mkv",
    "cut_off.webm": "vp9.webm",
    "cut_off.ts": "h264.ts",
    "cut_off.flv": "flv1.flv",
    "cut_off.h264": "no_b_frames.h264",
}
"""Copies that broke off after 60 % of the bytes of another video."""

VIDEOS = (*WHOLE, "opendml.avi", *CUT_OFF)
"""All that can be played."""

_OTHERS: Mapping[str, str] = {
    "image.png": f"{_CLIP} -frames:v 1",
    "sound.m4a": "-f lavfi -i sine=duration=1 -c:a aac",
    "no_frames.mp4": f"{_CLIP} -t 0 {_H264}",
    "no_frames.avi": f"{_CLIP} -t 0 -c:v mpeg4",
}


class Videos:
    """The videos by name, each made once, when it is asked for. Copy them, do not change them.

    Besides `VIDEOS`: ``no_index.mp4``, whose copy broke off before the index at its end; ``playlist.mp4``, a script for
    ffmpeg that names a video beside it; ``empty.mp4``, of zero bytes; ``image.png``, ``sound.m4a``, ``no_frames.mp4``
    and ``no_frames.avi``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            self._make(name, path)
        return path

    def _make(self, name: str, path: Path) -> None:
        recipe = {**WHOLE, **_OTHERS}.get(name)
        if recipe is not None:
            inputs = {used: self[used] for used in re.findall(r"\{(.+?)\}", recipe)}
            for used, place in inputs.items():
                recipe = recipe.replace(f"{{{used}}}", shlex.quote(str(place)))
            ffmpeg(*shlex.split(recipe), path)
        elif name == "opendml.avi":
            _write_opendml(path, self["mjpeg.avi"])
        elif name == "playlist.mp4":
            path.write_text(f"ffconcat version 1.0\nfile {self['b_frames.mp4'].name}\n")
        elif name == "empty.mp4":
            path.touch()
        else:
            content = self[{**CUT_OFF, "no_index.mp4": "b_frames.mp4"}[name]].read_bytes()
            path.write_bytes(content[: len(content) * 6 // 10])


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg; the output is the last argument."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments[:-1])]
    subprocess.run([*command, "-fflags", "+bitexact", str(arguments[-1])], check=True)


def decoded_frames(path: Path, *, hidden: bool = False) -> int:
    """How many frames ffmpeg decodes of the first video stream; with those that an edit list hides, if asked for."""
    options = ["-ignore_editlist", "1"] if hidden and path.suffix in (".mp4", ".mov") else []
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-stats", *options, "-i", str(path), "-map", "0:V:0"]
    run = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "null", "-"], capture_output=True, text=True, check=False
    )
    return int(re.findall(r"frame=\s*(\d+)", run.stderr)[-1])


def _write_opendml(path: Path, source: Path) -> None:
    """An AVI in two parts, each with its own index, as those above 1 GB are; the old index has only the first."""
    content = source.read_bytes()
    header = content[12 : 20 + struct.unpack_from("<I", content, 16)[0]]  # LIST hdrl
    frames = [
        content[match.end() : match.end() + struct.unpack_from("<I", content, match.end() - 4)[0]]
        for match in re.finditer(b"00dc....", content[: content.rindex(b"idx1")], re.DOTALL)
    ]
    # the place that ffmpeg reserves for the index of the indexes, after the format of the stream
    reserved = header.index(b"JUNK")
    parts = [frames[:45], frames[45:]]
    body, entries = b"", b""
    for number, part in enumerate(parts):
        start = len(body) + (0 if number else 12 + len(header))
        movi, index, old = b"movi", b"", b""
        base = start + (20 if number else 8)  # of "movi"
        for frame in part:
            index += struct.pack("<II", len(movi) + 8, len(frame))
            old += struct.pack("<4sIII", b"00dc", 0x10, len(movi), len(frame))
            movi += struct.pack("<4sI", b"00dc", len(frame)) + frame + b"\0" * (len(frame) % 2)
        place = base + len(movi)
        chunk = struct.pack("<HBBI4sQI", 2, 0, 1, len(part), b"00dc", base, 0) + index
        entries += struct.pack("<QII", place, len(chunk) + 8, len(part))
        movi += struct.pack("<4sI", b"ix00", len(chunk)) + chunk
        listed = struct.pack("<4sI", b"LIST", len(movi)) + movi
        if number:
            body += struct.pack("<4sI4s", b"RIFF", len(listed) + 4, b"AVIX") + listed
        else:
            listed += struct.pack("<4sI", b"idx1", len(old)) + old
            body = struct.pack("<4sI4s", b"RIFF", len(listed) + len(header) + 4, b"AVI ") + header + listed
    path.write_bytes(body)
    indexes = struct.pack("<HBBI4sIII", 4, 0, 0, len(parts), b"00dc", 0, 0, 0) + entries
    with open(path, "r+b") as stream:
        stream.seek(12 + reserved)
        stream.write(b"indx")
        stream.seek(12 + reserved + 8)
        stream.write(indexes)

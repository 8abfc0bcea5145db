"""Facts of real videos by PyAV, each count against what ffmpeg decodes; and that no other file is ever opened."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest
from videos import CUT_OFF, VIDEOS, WHOLE, Videos, decoded_frames, ffmpeg

from nwb_extfiles.media.probe import probe
from nwb_extfiles.media.pyav.opening import NotAVideo, fraction, open_video
from nwb_extfiles.media.pyav.reading import read_counted, read_video

WITH_INDEX_OF_FRAGMENTS = ("fragments_with_sidx.mp4", "dash_fragments.mp4")
INDEXED = [
    name
    for name in (*WHOLE, "opendml.avi")
    if name.endswith((".mp4", ".mov", ".avi", "ipod.m4v")) and name not in WITH_INDEX_OF_FRAGMENTS
]
ELEMENTARY = ("b_frames.h264", "no_b_frames.h264", "hevc.h265", "elementary.m4v")
COMPLETE = (*WHOLE, "opendml.avi")


@pytest.mark.parametrize("name", COMPLETE)
def test_counts_are_those_of_decoding(all_videos: Videos, name: str) -> None:
    path = all_videos[name]
    expected = decoded_frames(path, hidden=True), decoded_frames(path)
    index, packets, decoded = (read_video(path, how) for how in ("index", "packets", "decode"))
    assert (index.frames, index.shown) == (expected if name in INDEXED else (None, None))
    assert (packets.frames, packets.shown) == (decoded.frames, decoded.shown) == expected
    assert decoded.damaged == 0
    assert not index.cut_off
    assert packets.ends_early in (None, 0)


@pytest.mark.parametrize("name", CUT_OFF)
def test_whole_frames_of_cut_off_videos_are_counted(all_videos: Videos, name: str) -> None:
    """The last frame may be there in part, and ffmpeg decodes that."""
    path, before = all_videos[name], all_videos[CUT_OFF[name]]
    for how in ("packets", "decode"):
        facts = read_video(path, how)
        assert facts.frames is not None
        assert facts.frames <= decoded_frames(path) <= facts.frames + 1 < decoded_frames(before)
    index = read_video(path)
    assert index.frames == (facts.frames if name.endswith(".mp4") else None)
    assert index.cut_off == name.endswith((".mp4", ".avi", ".mkv", ".webm"))
    if name.endswith((".mkv", ".webm", ".flv")):
        assert facts.ends_early == pytest.approx((60 - facts.frames) / 30, abs=0.05)


def test_sizes_containers_codecs_and_rates(all_videos: Videos) -> None:
    facts = {name: read_video(all_videos[name]) for name in COMPLETE}
    assert {(one.width, one.height) for one in facts.values()} == {(96, 64)}, "wide pixels and rotation included"
    told = {name: (one.container, one.codec) for name, one in facts.items()}
    assert told["ipod.m4v"] == told["b_frames.mp4"] == ("mp4", "h264")
    assert told["mjpeg.mov"] == ("mov", "mjpeg")
    assert told["raw.avi"] == ("avi", "rawvideo")
    assert told["ffv1.mkv"] == ("mkv", "ffv1")
    assert told["av1.mp4"] == ("mp4", "av1"), "not libdav1d, which decodes it"
    assert told["vp9.webm"] == ("webm", "vp9")
    assert [told[name][0] for name in ("h264.ts", "mpeg2.mpg", "wmv2.wmv", "hevc.h265", "elementary.m4v")] == [
        "mpegts", "mpeg", "wmv", "h265", "m4v",
    ]  # fmt: skip
    assert facts["ffv1.mkv"].pixel_format == "gray16le"
    assert {name: one.rotation for name, one in facts.items() if one.rotation} == {"rotated.mp4": 90}
    assert {name for name, one in facts.items() if one.video_streams > 1} == {"two_videos.mp4"}
    assert {name for name, one in facts.items() if one.has_audio} == {"sound.mp4", "sound.avi", "sound.wmv"}
    assert {name for name, one in facts.items() if one.rate is None} == {"remuxed.avi", *ELEMENTARY}
    assert facts["ntsc.mov"].rate == Fraction(30000, 1001)
    assert facts["interlaced.mp4"].rate == 15


def test_rounded_times_are_no_gaps(all_videos: Videos) -> None:
    """Times of mkv and webm are whole milliseconds; where a copy broke off, frames are missing between the last.

    Nothing in an MPEG-TS says that it is cut off.
    """
    drift = {name: read_video(all_videos[name], "packets").drift for name in VIDEOS}
    assert (drift.pop("cut_off.ts") or 0) < 1
    assert {name for name, value in drift.items() if value is not None and value > 0.1} == {"variable_rate.mp4"}
    assert (drift["variable_rate.mp4"] or 0) > 4
    unknown = {"remuxed.avi", "cut_off.avi", "cut_off.h264", *ELEMENTARY}
    assert {name for name, value in drift.items() if value is None} == unknown


def test_gap_before_the_last_frames(tmp_path: Path, all_videos: Videos) -> None:
    """Frames that are stored after later ones count, too."""
    chosen = ("-vf", "select='not(between(n,50,58))'", "-fps_mode", "vfr", "-c:v", "libx264", "-bf", "3")
    ffmpeg("-i", all_videos["ffv1.mkv"], *chosen, "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    assert (read_video(tmp_path / "a.mp4", "packets").drift or 0) > 5


def test_rate_of_dv(tmp_path: Path, all_videos: Videos) -> None:
    """Its ticks are 1/60,000 s, and FFmpeg's mean rate is that of the ticks."""
    ffmpeg("-i", all_videos["ffv1.mkv"], "-target", "pal-dv", "-t", "0.4", tmp_path / "a.dv")
    facts = read_video(tmp_path / "a.dv", "packets")
    assert (facts.container, facts.rate, facts.drift) == ("dv", 25, 0)


def test_durations_that_promise_no_frames(all_videos: Videos) -> None:
    """Those that begin at time 0 though no frame does, include a long last frame, or are that of the sound."""
    early = {name: read_video(all_videos[name], "packets").ends_early for name in COMPLETE}
    assert early["offset.mkv"] == early["offset.wmv"] == early["long_last_frame.mkv"] == 0
    assert early["one_frame.mp4"] is early["sound.wmv"] is None
    assert (read_video(all_videos["offset.mkv"], "packets").first_time or 0) >= 5


@pytest.mark.parametrize("name", WITH_INDEX_OF_FRAGMENTS)
def test_fragments_with_an_index_are_counted_by_packets(all_videos: Videos, name: str) -> None:
    """Of those, FFmpeg's index lists the first ones only."""
    facts = read_counted(all_videos[name])
    assert (facts.frames, facts.shown, facts.cut_off) == (60, 60, False)


@pytest.mark.parametrize("longer", [1, 20, 24, 60, 100, 5000])
def test_matroska_with_a_long_header_is_whole(tmp_path: Path, all_videos: Videos, longer: int) -> None:
    content = all_videos["h264.mkv"].read_bytes()
    size = content[4] & 0x7F
    assert content[4] & 0x80
    assert content[5 + size :].startswith(b"\x18\x53\x80\x67")
    void = b"\xec" + (0x4000 + longer).to_bytes(2, "big") + bytes(longer)  # an element to be ignored
    header = content[:4] + (0x4000 + size + len(void)).to_bytes(2, "big") + content[5 : 5 + size] + void
    (tmp_path / "a.mkv").write_bytes(header + content[5 + size :])
    facts = read_video(tmp_path / "a.mkv", "packets")
    assert (facts.frames, facts.cut_off) == (60, False)
    (tmp_path / "a.mkv").write_bytes((header + content[5 + size :])[:-2000])
    assert read_video(tmp_path / "a.mkv").cut_off == (longer < 4000), "unknown if the Segment begins far behind"


def test_avi_written_to_a_pipe_is_whole(tmp_path: Path, all_videos: Videos) -> None:
    """Its size was not known when its header was written."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(all_videos["mjpeg.avi"]), "-c", "copy"]
    content = subprocess.run([*command, "-f", "avi", "pipe:1"], capture_output=True, check=True).stdout
    assert content[4:8] == b"\xff\xff\xff\xff"
    (tmp_path / "a.avi").write_bytes(content)
    facts = read_video(tmp_path / "a.avi", "packets")
    assert (facts.frames, facts.cut_off) == (60, False)


def test_avi_that_counts_its_header_is_whole(tmp_path: Path, all_videos: Videos) -> None:
    content = bytearray(all_videos["mjpeg.avi"].read_bytes())
    content[4:8] = struct.pack("<I", len(content))
    (tmp_path / "a.avi").write_bytes(content)
    facts = read_video(tmp_path / "a.avi")
    assert (facts.frames, facts.cut_off) == (60, False)
    for lost in (1, 2, 8, 20):
        (tmp_path / "a.avi").write_bytes(content[:-lost])
        assert read_video(tmp_path / "a.avi").cut_off, lost


def test_matrix_that_turns_nothing_is_no_rotation(tmp_path: Path, all_videos: Videos) -> None:
    """Some programs write zeros where the others write the identity."""
    content = bytearray(all_videos["no_b_frames.mp4"].read_bytes())
    matrix = content.index(b"tkhd") + 44
    assert content[matrix : matrix + 4] == struct.pack(">I", 0x10000)
    content[matrix : matrix + 36] = bytes(36)
    (tmp_path / "a.mp4").write_bytes(content)
    assert read_video(tmp_path / "a.mp4").rotation == 0


@pytest.mark.parametrize("name", ["no_b_frames.mp4", "many_fragments.mp4"])
def test_more_frames_than_bytes(tmp_path: Path, all_videos: Videos, name: str) -> None:
    """FFmpeg would make a table of them, of gigabytes."""
    content, count = bytearray(all_videos[name].read_bytes()), 20_000_000
    if name == "no_b_frames.mp4":
        sizes, places = content.index(b"stsz") + 8, content.index(b"stsc") + 12
        assert struct.unpack_from(">II", content, sizes) == (0, 60)
        struct.pack_into(">II", content, sizes, 1, count)
        struct.pack_into(">II", content, places, 1, count)
    else:
        run = content.rindex(b"trun") + 8
        assert struct.unpack_from(">I", content, run) == (10,)
        struct.pack_into(">I", content, run, count)
    (tmp_path / "a.mp4").write_bytes(content)
    begin = time.perf_counter()
    with pytest.raises(NotAVideo, match="more frames than bytes") as error:
        read_video(tmp_path / "a.mp4")
    assert time.perf_counter() - begin < 1
    assert error.value.cut_off
    assert probe(tmp_path / "a.mp4").frame_count == 0


def test_times_of_frames(all_videos: Videos) -> None:
    facts = read_video(all_videos["no_b_frames.mp4"], "packets")
    assert (facts.first_time, facts.last_time) == (0, pytest.approx(59 / 30))
    assert facts.duration == 2
    index = read_video(all_videos["no_b_frames.mp4"])
    assert (index.first_time, index.drift, index.ends_early, index.damaged) == (None, None, None, None)


@pytest.mark.parametrize("name", ["mpeg4.avi", "no_b_frames.mp4", "hevc.mp4", "ffv1.mkv"])
def test_damage_is_found_by_decoding(tmp_path: Path, all_videos: Videos, name: str) -> None:
    content = bytearray(all_videos[name].read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = random.Random(3).randbytes(200)
    (tmp_path / name).write_bytes(content)
    facts = read_video(tmp_path / name, "decode")
    assert facts.frames == 60
    assert facts.damaged in range(1, 60)
    assert read_video(tmp_path / name, "packets").damaged is None


@pytest.mark.parametrize(
    ("name", "reason", "cut_off", "image"),
    [
        ("no_index.mp4", "ends before its index", True, False),
        ("playlist.mp4", "not a video", False, False),
        ("empty.mp4", "is empty", False, False),
        ("image.png", "is an image", False, True),
        ("sound.m4a", "no video stream", False, False),
        ("no_frames.mp4", "no video stream", False, False),
    ],
)
def test_what_is_not_a_video(all_videos: Videos, name: str, reason: str, cut_off: bool, image: bool) -> None:
    with pytest.raises(NotAVideo, match=reason) as error:
        read_video(all_videos[name])
    assert (error.value.cut_off, error.value.image) == (cut_off, image)


def test_video_without_frames(all_videos: Videos) -> None:
    for how in ("index", "packets", "decode"):
        facts = read_video(all_videos["no_frames.avi"], how)
        assert (facts.frames, facts.shown) == (0, 0)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(NotAVideo, match="not a regular file"):
        read_video(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_video(tmp_path / "gone.mp4")


@pytest.mark.parametrize("name", ["a b.mp4", "50%d.mp4", "http:x.mp4", "concat:x.mp4", "ä.mp4", "-i.mp4"])
def test_names_mean_nothing_but_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_videos: Videos, name: str
) -> None:
    shutil.copy(all_videos["b_frames.mp4"], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert read_video(name).frames == 60


SCRIPTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet mimeType="video/mp4"><Representation>'
    "<BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_no_other_file_is_opened(tmp_path: Path, all_videos: Videos, kind: str) -> None:
    """A script called ``.mp4`` opens nothing. A named pipe beside it would show it: who opens that waits for ever."""
    shutil.copy(all_videos["b_frames.mp4"], tmp_path / "real.mp4")
    (tmp_path / "script.mp4").write_text(SCRIPTS[kind])
    os.mkfifo(tmp_path / "secret.mp4")
    code = (
        "import sys; from nwb_extfiles.media.pyav.reading import NotAVideo, read_video\n"
        "assert read_video('real.mp4').frames == 60\n"
        "try: read_video('script.mp4', 'decode')\n"
        "except NotAVideo as error: print(error.reason)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "is not a video of a known format\n"


def test_script_is_a_video_for_ffmpeg(tmp_path: Path, all_videos: Videos) -> None:
    """What the tests above protect from: ffmpeg follows such a script."""
    shutil.copy(all_videos["b_frames.mp4"], tmp_path / "secret.mp4")
    (tmp_path / "script.mp4").write_text(SCRIPTS["ffconcat"])
    ffmpeg("-i", tmp_path / "script.mp4", "-c", "copy", tmp_path / "copy.mkv")
    assert decoded_frames(tmp_path / "copy.mkv") == 60


def test_progress_in_bytes(all_videos: Videos) -> None:
    path, reports = all_videos["mjpeg.avi"], list[tuple[int, int]]()
    read_video(path, "packets", progress=lambda done, total: reports.append((done, total)))
    assert reports == sorted(reports)
    assert {total for _, total in reports} == {path.stat().st_size} == {reports[-1][0]}


def test_no_stream_is_used_after_closing(all_videos: Videos) -> None:
    with open_video(all_videos["edit_list.mp4"]) as container:
        assert container.streams.video
    with pytest.raises(AssertionError):
        container.demux().__next__()


def test_rational_numbers_of_each_version() -> None:
    class Rational:
        """As PyAV 19 has them: false, and no Fraction."""

        numerator, denominator = 30, 1

        def __bool__(self) -> bool:
            return False

    assert fraction(Rational()) == fraction(Fraction(30)) == 30
    assert fraction(None) is fraction(Fraction(0)) is None


def test_advice_without_pyav(tmp_path: Path, all_videos: Videos) -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from nwb_extfiles.media.pyav.reading import read_video\n"
        "read_video(sys.argv[1])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(all_videos["mpeg4.avi"])], capture_output=True, text=True, check=False
    )
    assert 'reading videos needs PyAV; pip install "av>=17"' in run.stderr


@pytest.mark.parametrize(
    "name",
    ["index_first.mp4", "many_fragments.mp4", "two_videos.mp4", "mpeg4.avi", "opendml.avi", "h264.mkv", "h264.ts",
     "mpeg2.mpg", "wmv2.wmv", "b_frames.h264"],
)  # fmt: skip
def test_files_that_end_anywhere(tmp_path: Path, all_videos: Videos, name: str) -> None:
    """Whatever is left of a video, there are facts or a refusal."""
    content = all_videos[name].read_bytes()
    path = tmp_path / name
    for size in {*range(0, 70, 14), *range(70, len(content), max(len(content) // 12, 1))}:
        path.write_bytes(content[:size])
        with suppress(NotAVideo):
            assert read_video(path, "packets").frames is not None


def test_metadata_in_other_encodings(tmp_path: Path, all_videos: Videos) -> None:
    ffmpeg("-i", all_videos["mpeg4.avi"], "-c", "copy", "-metadata", "title=Buero", tmp_path / "a.avi")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content.replace(b"Buero", "Büro ".encode("latin-1")))
    assert content.count(b"Buero") == 1
    assert read_video(tmp_path / "a.avi").frames == 60


def test_sound_that_begins_late(tmp_path: Path, all_videos: Videos) -> None:
    """Sound in the last part only: its packets are not those of the video."""
    noise = "testsrc2=size=320x240:rate=30:duration={},noise=c0s=100:c0f=t"
    codec = ("-c:v", "mpeg2video", "-q:v", "1")
    ffmpeg("-f", "lavfi", "-i", noise.format(5), *codec, tmp_path / "a.ts")
    ffmpeg("-f", "lavfi", "-i", noise.format(1), "-f", "lavfi", "-i", "sine=duration=1", *codec, tmp_path / "b.ts")
    (tmp_path / "c.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert read_video(tmp_path / "c.ts", "packets").frames == decoded_frames(tmp_path / "c.ts") == 180


@pytest.mark.parametrize("name", ["index_first.mp4", "mpeg4.avi", "opendml.avi", "h264.mkv", "h264.ts", "wmv2.wmv"])
def test_changed_bytes(tmp_path: Path, all_videos: Videos, name: str) -> None:
    """Whatever a file contains, there are facts or a refusal."""
    path, content = tmp_path / name, all_videos[name].read_bytes()
    for seed in range(25):
        chance, changed = random.Random(seed), bytearray(content)
        for _ in range(20):
            changed[chance.randrange(chance.choice([600, len(content)]))] = chance.choice([0, 1, 255])
        path.write_bytes(changed)
        for how in ("packets", "decode"):
            with suppress(NotAVideo):
                read_video(path, how)

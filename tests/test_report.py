"""The report: what its page shows, that it shows it as text, and that a browser opens it and plays videos."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import h5py
import numpy as np
import pytest
from browser import chromium
from click.testing import CliRunner
from helpers import digest, image_series, needs_symlink, new_nwbfile, taking_at_most, tree
from mounts import loop
from pynwb import NWBHDF5IO
from videos import Videos, decoded_frames, ffmpeg

import nwb_extfiles
from nwb_extfiles.cli import main
from nwb_extfiles.errors import RelocationRefusedError
from nwb_extfiles.tasks.report import videos as report_videos
from nwb_extfiles.tasks.report.data import Place
from nwb_extfiles.tasks.report.parts import length, size, tree_lines
from nwb_extfiles.testing import make_nwb_with_media


class Page(HTMLParser):
    """A page as a browser reads it: its text, and its elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, name: str) -> list[str]:
        """An attribute of all elements of a kind."""
        return [attributes.get(name, "") for found, attributes in self.elements if found == tag]


def write_series(path: Path, **paths_and_frames: tuple[list[str], int]) -> Path:
    """Write an NWB file with an ImageSeries for each name: its paths, and for how many frames it has timestamps."""
    nwbfile = new_nwbfile()
    for name, (paths, frames) in paths_and_frames.items():
        starts = [60 * number for number in range(len(paths))]
        times = {"timestamps": np.arange(frames) / 30, "rate": None, "num_samples": None}
        nwbfile.add_acquisition(image_series(paths, name, starting_frame=starts, **times))
    path.parent.mkdir(exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


@pytest.fixture
def lab(tmp_path: Path, all_videos: Videos) -> Path:
    """Two NWB files: videos that are fine, missing, too short, and not read; and a video that belongs to none."""
    folder = tmp_path / "lab"
    (folder / "nwb").mkdir(parents=True)
    for name in ("b_frames.mp4", "mpeg4.avi", "h264.mkv", "vp9.webm"):
        shutil.copy(all_videos[name], folder / name)
    shutil.copy(all_videos["vp8.webm"], folder / "of nobody.webm")
    write_series(folder / "nwb" / "good.nwb", top=(["../b_frames.mp4"], 60), side=(["../mpeg4.avi"], 60))
    wrong = {"short": (["../b_frames.mp4"], 70), "lost": (["../gone.mp4"], 60), "behind": (["../h264.mkv"], 60)}
    web = ["https://example.org/a.mp4", "../vp9.webm"]
    write_series(folder / "nwb" / "wrong.nwb", **wrong, web=(web, 120))
    return folder


def report(*paths: Path, output: Path | None = None) -> Page:
    return Page(nwb_extfiles.report(paths, output or paths[0] / "report.html"))


def test_page_on_a_disk_without_hard_links(tmp_path: Path) -> None:
    make_nwb_with_media(tmp_path)
    with loop("exfat") as stick:
        report(tmp_path, output=stick / "report.html")
        with pytest.raises(RelocationRefusedError, match="exists"):
            report(tmp_path, output=stick / "report.html")
        assert list(stick.iterdir()) == [stick / "report.html"]


def test_what_is_wrong_comes_first_then_what_is_there(lab: Path) -> None:
    before = tree(lab)
    text = report(lab).text
    assert {name: value for name, value in tree(lab).items() if name != "report.html"} == before
    order = ["Not ready to publish: 2 errors", "What is wrong", "frames-missing", "outside-nwb-folder", "Worth knowing",
             "Media that none of these NWB files refers to", "NWB files", str(Path("nwb/wrong.nwb")),
             str(Path("nwb/good.nwb"))]  # fmt: skip
    place = 0
    for words in order:
        place = text.index(words, place)
    assert "in 2 NWB files" in text
    assert "../gone.mp4" in text
    assert "expected 'gone.mp4'" in text


def test_series_and_videos_have_their_facts(lab: Path) -> None:
    text = report(lab).text
    assert text.count("✓ 60 frames; the NWB file has 60 timestamps.") == 2
    assert "≠ 60 frames; the NWB file has 70 timestamps." in text
    assert "The NWB file has 60 timestamps; its video is missing." in text
    assert "The NWB file has 120 timestamps; the frames of 2 of its 2 videos are not counted." in text
    assert "/acquisition/top ImageSeries" in text
    assert "→ b_frames.mp4" in text
    assert " · 2 s · 60 frames" in text
    assert "h264 in mp4 · 96 x 64 · 30 fps" in text
    assert "https://example.org/a.mp4" in text
    assert "a URL, which was not opened" in text
    assert "NWB files2" in text.replace("\n", "")
    assert "Frames counted120" in text  # of mp4 and avi; one file is one, however many series have it


def test_series_whose_frames_are_not_counted_say_why(tmp_path: Path, all_videos: Videos) -> None:
    for name in ("cut_off.mp4", "b_frames.mp4"):
        shutil.copy(all_videos[name], tmp_path / name)
    paths = {"cut": ["cut_off.mp4"], "some": ["b_frames.mp4", "cut_off.mp4", "gone.mp4"]}
    write_series(tmp_path / "a.nwb", **{name: (names, 180) for name, names in paths.items()})
    text = report(tmp_path / "a.nwb", output=tmp_path / "report.html").text
    there = decoded_frames(all_videos["cut_off.mp4"])
    said = re.search("The NWB file has 180 timestamps; its video is cut off; (.*) frames are there", text)
    assert said is not None
    assert int(said[1]) - there in (0, 1)  # the last one may be there in part
    assert "1 of its 3 videos is missing, 1 of its 3 videos is cut off." in text


def test_frames_are_counted_as_check_counts_them(lab: Path) -> None:
    for frames, counted in (("index", 1), ("packets", 2), ("decode", 2)):
        page = Page(nwb_extfiles.report(lab, lab / f"{frames}.html", frames=frames))
        assert page.text.count("✓ 60 frames; the NWB file has 60 timestamps.") == counted + 1  # h264.mkv has no index
    page = Page(nwb_extfiles.report(lab, lab / "none.html", frames="none"))
    assert "videos were not opened, as you asked." in page.text
    assert "To get them" not in page.text
    assert not page.all("img", "src")
    assert not page.all("video", "src")
    assert "frames-missing" not in page.text
    assert "../gone.mp4" in page.text
    with pytest.raises(ValueError, match="frames must be"):
        nwb_extfiles.report(lab, lab / "other.html", frames="all")  # type: ignore[arg-type]


def test_page_is_the_same_with_several_processes(lab: Path) -> None:
    pages = []
    for jobs in (1, 2):
        page = nwb_extfiles.report(lab, lab / "report.html", jobs=jobs)
        pages.append(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", page.read_text(encoding="utf-8")))
        page.unlink()
    assert pages[0] == pages[1]


def test_sentences_are_shown_once_for_each_code(lab: Path) -> None:
    """Findings of one code have one heading; those whose sentences have numbers of their own keep them."""
    two = {"one": (["../b_frames.mp4"], 61), "two": (["../b_frames.mp4"], 62)}
    lost = {f"lost{number}": ([f"../gone{number}.mp4"], 60) for number in range(8)}
    write_series(lab / "nwb" / "more.nwb", **two, **lost)
    page = report(lab)
    text = page.text.partition("NWB files0")[0]
    wrong = text.partition("What is wrong")[2].partition("Worth knowing")[0]
    assert "error frames-missing 3 times" in wrong
    for timestamps, missing in ((61, 1), (62, 2), (70, 10)):
        assert wrong.count(f"{timestamps} timestamps, and its video only 60 frames: {missing} ") == 1
    assert "error missing 9 times" in wrong
    assert wrong.count("There is no file.") == 1
    assert "4 more" in wrong
    anchors = page.all("article", "id")
    assert len(anchors) == len(set(anchors))
    assert {link.removeprefix("#") for link in page.all("a", "href") if not link.startswith("#file-")} <= set(anchors)


def test_sentences_spell_fields_as_the_nwb_file_does(tmp_path: Path, all_videos: Videos) -> None:
    shutil.copy(all_videos["b_frames.mp4"], tmp_path / "a.mp4")
    shutil.copy(all_videos["mpeg4.avi"], tmp_path / "b.avi")
    path = write_series(tmp_path / "a.nwb", video=(["a.mp4", "b.avi"], 120))
    with h5py.File(path, "r+") as file:
        file["acquisition/video/external_file"].attrs["starting_frame"] = [0, 50]
    text = report(path, output=tmp_path / "report.html").text
    assert "starting_frame [0, 50] gives" in text
    assert "Starting_frame" not in text


@needs_symlink
def test_original_names_are_shown_beside_those_of_dandi(tmp_path: Path, all_videos: Videos) -> None:
    for name in ("top.mp4", "side.mp4"):
        shutil.copy(all_videos["b_frames.mp4"], tmp_path / name)
    for name, options in (("noted", {"manifest": True}), ("linked", {})):
        path = write_series(tmp_path / f"{name}.nwb", video=(["top.mp4"], 70), other=(["side.mp4"], 70))
        nwb_extfiles.relocate(path, "copy" if options else "symlink", media_options=options)
        text = report(path, output=tmp_path / f"{name}.html").text
        for original in ("top.mp4", "side.mp4"):
            assert f"(originally {original})" in text.partition("What is wrong")[2].partition("NWB files")[0]
            assert f"external_file_0.mp4originally {original}" in text
    for video in (tmp_path / "noted").glob("*_external_file_0.mp4"):
        video.unlink()
    text = report(tmp_path / "noted.nwb", output=tmp_path / "gone.html").text
    wrong = text.partition("What is wrong")[2].partition("NWB files")[0]
    assert "(originally top.mp4)" in wrong
    assert "(originally side.mp4)" in wrong


def test_media_of_nobody_are_listed_with_their_size(lab: Path) -> None:
    (lab / "nwb" / "good").mkdir()
    (lab / "nwb" / "good" / "old.avi").write_bytes(b"x" * 1_500)
    (lab / ".hidden.mp4").write_bytes(b"x")
    (lab / "notes.txt").write_bytes(b"x")
    (lab / "link.mp4").symlink_to("b_frames.mp4")
    text = report(lab).text
    section = text.partition("refers to")[2].partition("NWB files")[0]
    count = (lab / "of nobody.webm").stat().st_size
    shown = f"2, {size(1_500 + count)} of nobody.webm {size(count)} nwb/good/old.avi 1.5 kB"
    assert " ".join(section.replace("kB", "kB ").split()) == shown
    assert "none of these" not in report(lab / "nwb" / "wrong.nwb", output=lab / "one.html").text


def test_trees_show_where_files_are_and_would_be(lab: Path) -> None:
    text = report(lab / "nwb" / "good.nwb", output=lab / "report.html").text
    with h5py.File(lab / "nwb" / "good.nwb") as file:
        object_id = file["acquisition/top"].attrs["object_id"]
    assert f"{object_id}_external_file_0.mp4" in text.partition("After")[2]
    nwb_extfiles.relocate(lab / "nwb" / "good.nwb", "copy")
    assert "Files all in place" in report(lab / "nwb" / "good.nwb", output=lab / "moved.html").text


def test_tree_says_why_relocate_would_refuse(lab: Path) -> None:
    link = lab / "nwb" / "link.nwb"
    link.symlink_to("good.nwb")
    text = report(link, output=lab / "report.html").text
    assert "It would refuse:" in text
    assert "is a symbolic link to" in text


HOSTILE = [
    "<script>alert(1)</script>.mp4", '"><img src=x onerror=alert(1)>.mp4', "' onmouseover='alert(1).mp4", "--><b>.mp4",
    "javascript:alert(1).mp4", "new\nline.mp4", "\u202egpj.mp4", "&lt;b&gt;&amp;.mp4", "\x1b[31m.mp4",
    "%2e%2e%3F#?.mp4", "</style></title>.mp4", "{policy}.mp4", "`code`.mp4",
]  # fmt: skip
SHOWN = {"new\nline.mp4": r"new\nline.mp4", "\u202egpj.mp4": r"\u202egpj.mp4", "\x1b[31m.mp4": r"\x1b[31m.mp4"}


@pytest.fixture
def hostile(tmp_path: Path, all_videos: Videos) -> Path:
    """An NWB file whose name, objects and paths are made to be taken for something else."""
    if sys.platform != "linux":
        pytest.skip("only on Linux may names have all these characters")
    folder = tmp_path / "<b>lab & 'co'"
    folder.mkdir()
    for name in HOSTILE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(all_videos["b_frames.mp4"], folder / name)
    shutil.copy(all_videos["b_frames.mp4"], os.fsencode(folder) + b"/\xff.mp4")
    path = write_series(folder / '"><script>alert(2)<|script>.nwb', video=(["x.mp4"] * (len(HOSTILE) + 1), 60))
    with h5py.File(path, "r+") as file:
        file["acquisition/video/external_file"][...] = [*(name.encode() for name in HOSTILE), b"\xff.mp4"]
        file.move("acquisition/video", "acquisition/<script>alert(3)<|script>")
    return folder


def test_hostile_names_are_shown_as_text(hostile: Path) -> None:
    page = report(hostile)
    for name in HOSTILE:
        assert SHOWN.get(name, name) in page.text, name
    assert r"\udcff.mp4" in page.text
    assert "/acquisition/<script>alert(3)<|script>" in page.text
    assert '"><script>alert(2)<|script>.nwb' in page.text
    assert all(one.isprintable() or one == "\n" for one in page.text)
    assert_harmless(page)


def assert_harmless(page: Page) -> None:
    """No script, nothing that an event starts, and no URL but anchors, videos below a folder, and thumbnails."""
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "link", "base", "form", "svg"}
    known = (
        "html head meta title style body header main section article details summary div span p h1 h2 h3 h4 ul ol li"
    )
    assert tags <= {*known.split(), "dl", "dt", "dd", "a", "b", "code", "small", "pre", "img", "video"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "poster", "action"):
            assert attributes.get(name, "#").startswith(("#", "./", "data:image/webp;base64,")), attributes
    (policy,) = [meta["content"] for tag, meta in page.elements if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy


def test_page_has_policy_and_no_scripts(lab: Path) -> None:
    assert_harmless(report(lab))


def test_links_lead_to_videos_that_browsers_play(lab: Path, hostile: Path, tmp_path: Path) -> None:
    (tmp_path / "reports #1").mkdir()
    for folder, wanted in ((lab, {"b_frames.mp4", "vp9.webm"}), (hostile, None)):
        output = tmp_path / "reports #1" / f"{folder.name[:3].strip('<>')}.html"
        links = report(folder, output=output).all("video", "src")
        files = [output.parent / os.fsdecode(unquote(link, errors="surrogateescape")) for link in links]
        assert len(links) > 2
        assert all("?" not in link and "#" not in link and ":" not in link for link in links)
        assert wanted is None or {file.name for file in files} == wanted
        assert {digest(file) for file in files} <= {digest(file) for file in folder.rglob("*.*") if file.is_file()}


def test_thumbnails_are_in_the_page(lab: Path, tmp_path: Path) -> None:
    page = report(lab)
    sources = [source for source in (*page.all("img", "src"), *page.all("video", "poster")) if source]
    assert len(sources) == 5
    for number, source in enumerate(sources):
        thumbnail = tmp_path / f"{number}.webp"
        thumbnail.write_bytes(base64.b64decode(source.partition(",")[2]))
        ffmpeg("-i", thumbnail, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 500


def test_thumbnails_do_not_make_the_page_large(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_videos, "_MOST_THUMBNAIL_BYTES", -1)
    page = report(lab)
    assert not page.all("img", "src")
    assert "To keep the page small, thumbnails of 4 videos are left out." in page.text
    assert "60 frames" in page.text


def test_thumbnails_count_as_often_as_they_are_in_the_page(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One video of twenty series takes twenty times the space."""
    for other in ("wrong.nwb", "good.nwb"):
        (lab / "nwb" / other).unlink()
    write_series(lab / "nwb" / "a.nwb", **{f"video{number}": (["../b_frames.mp4"], 60) for number in range(20)})
    thumbnail = Page.all(report(lab), "video", "poster")[0]
    size = len(base64.b64decode(thumbnail.partition(",")[2]))
    for most, shown in ((20 * size, 20), (20 * size - 1, 0)):
        monkeypatch.setattr(report_videos, "_MOST_THUMBNAIL_BYTES", most)
        page = report(lab, output=lab / f"{shown}.html")
        assert len([poster for poster in page.all("video", "poster") if poster]) == shown
        assert ("thumbnails of 1 video are left out" in page.text) == (shown == 0)


def test_page_of_a_folder_without_videos_needs_no_pyav(tmp_path: Path) -> None:
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(new_nwbfile())
    code = (
        "import sys, nwb_extfiles; nwb_extfiles.report(['.'], 'with.html'); assert 'av' not in sys.modules;"
        "sys.modules['av'] = None; nwb_extfiles.report(['.'], 'without.html')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    for name in ("with.html", "without.html"):
        text = Page(tmp_path / name).text
        assert "in 1 NWB file" in text
        assert "not read" not in text
        assert "pip install" not in text


def test_page_without_pyav_says_how_to_get_thumbnails(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    page = report(lab)
    assert page.text.count("No thumbnails, lengths and numbers of frames: ") == 1
    assert "pip install" in page.text
    assert "in 2 NWB files; videos were not read" in page.text
    assert not page.all("video", "src")
    assert "/acquisition/top" in page.text
    assert "../gone.mp4" in page.text


def test_images_poses_and_stores_are_reported(tmp_path: Path, source_store: Path) -> None:
    made = make_nwb_with_media(tmp_path / "made")
    text = report(made.path, source_store, output=tmp_path / "report.html").text
    for dataset in made.media:
        assert dataset.rpartition("/")[0] in text
    assert "PoseEstimation labeled_videos" in text
    assert str(Path("nwbfiles/s.nwb.zarr")) in text
    assert "✓ 25 frames" not in text  # the store does not say how many


def test_what_cannot_be_read_is_reported(lab: Path) -> None:
    (lab / "broken.nwb").write_bytes(b"no HDF5")
    (lab / "b_frames.mp4").write_bytes(b"no video")
    (lab / "mpeg4.avi").write_bytes(b"")
    (lab / "link.nwb").symlink_to("gone.nwb")
    content = (lab / "h264.mkv").read_bytes()
    (lab / "h264.mkv").write_bytes(content[:1_000] + bytes(len(content) - 1_000))
    page = report(lab, lab / "link.nwb")
    assert "broken.nwb" in page.text
    assert "is not a video of a known format" in page.text
    assert "is empty" in page.text
    assert "link.nwb 0 bytes · no media" in page.text
    assert "h264 in mkv" in page.text
    assert "no thumbnail" in page.text


# ------------------------------------------------------------------ the file


def test_existing_files_are_not_replaced(lab: Path) -> None:
    page = nwb_extfiles.report(lab, lab / "report.html")
    before = tree(lab)
    with pytest.raises(RelocationRefusedError, match=r'exists; give the report another name, or .*existing="replace"'):
        nwb_extfiles.report(lab, page)
    for name in ("b_frames.mp4", "nwb/good.nwb", "report"):
        with pytest.raises(RelocationRefusedError, match="web page"):
            nwb_extfiles.report(lab, lab / name, media_options={"existing": "replace"})
    with pytest.raises(FileNotFoundError, match="create the folder"):
        nwb_extfiles.report(lab, lab / "nowhere" / "report.html")
    assert tree(lab) == before


def test_only_reports_are_replaced(lab: Path) -> None:
    page = nwb_extfiles.report(lab, lab / "report.html")
    (lab / "mine.html").write_text("<p>mine</p>", encoding="utf-8")
    (lab / "folder.html").mkdir()
    for name in ("mine.html", "folder.html"):
        with pytest.raises(RelocationRefusedError, match="not a report"):
            nwb_extfiles.report(lab, lab / name, media_options={"existing": "replace"})
    assert (lab / "mine.html").read_text(encoding="utf-8") == "<p>mine</p>"
    (lab / "b_frames.mp4").unlink()
    nwb_extfiles.report(lab, page, media_options={"existing": "replace"})
    assert "Missing3" in Page(page).text
    assert [path.name for path in lab.iterdir() if "report" in path.name] == ["report.html"]


def test_command_line_writes_the_page(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    result = CliRunner().invoke(main, ["report", "nwb"])
    assert (result.exit_code, result.output) == (0, f"report: report.html\n{nwb_extfiles.check('nwb').summary}\n")
    again = CliRunner().invoke(main, ["report", "nwb", "-o", "report.html"])
    assert again.exit_code == 1
    assert "--existing replace" in again.stderr
    quiet = CliRunner().invoke(main, ["report", "nwb", "--existing", "replace", "-q"])
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_json_has_what_the_page_shows(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    shutil.copy(lab / "b_frames.mp4", lab / "top.mp4")
    noted = write_series(lab / "nwb" / "noted.nwb", video=(["../top.mp4"], 60))
    nwb_extfiles.relocate(noted, "copy", media_options={"manifest": True})
    before = tree(lab)
    result = CliRunner().invoke(main, ["report", ".", "--json", "--frames", "packets", "-J", "2"])
    assert result.exit_code == 0
    assert tree(lab) == before  # no page
    found = json.loads(result.stdout)
    checked = json.loads(CliRunner().invoke(main, ["check", ".", "--json", "--frames", "packets"]).stdout)
    assert found["findings"] == checked
    assert found["counts"]["error"] == sum(one["severity"] == "error" for one in checked) == 2
    files = {Path(file["nwb_path"]).name: file for file in found["nwb_files"]}
    assert set(files) == {"good.nwb", "noted.nwb", "wrong.nwb"}
    series = {one["object_path"]: one for one in files["wrong.nwb"]["series"]}
    assert series["/acquisition/short"]["timestamps"] == 70
    (behind,) = series["/acquisition/behind"]["media"]
    assert (behind["video"]["frames"], behind["video"]["rate"], behind["path"]) == (60, 30.0, str(lab / "h264.mkv"))
    (lost,) = series["/acquisition/lost"]["media"]
    assert (lost["path"], lost["video"], lost["stored_path"]) == (None, None, "../gone.mp4")
    assert [one["is_url"] for one in series["/acquisition/web"]["media"]] == [True, False]
    assert files["noted.nwb"]["series"][0]["media"][0]["original_name"] == "top.mp4"
    assert {"path": str(lab / "gone.mp4"), "is_missing": True} in files["wrong.nwb"]["files_now"]
    assert len(files["good.nwb"]["files_after_relocate"]) == 3
    size = (lab / "of nobody.webm").stat().st_size
    assert {"path": str(lab / "of nobody.webm"), "bytes": size} in found["unowned_media"]
    named = CliRunner().invoke(main, ["report", ".", "--json", "-o", "page.html", "--frames", "none"])
    assert json.loads(named.stdout)["videos_not_read"] == "videos were not opened, as you asked"
    assert (lab / "page.html").is_file()


def test_report_takes_only_the_files_that_fit(lab: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(lab), "--json", "--include", "good*", "--frames", "none"])
    assert [Path(file["nwb_path"]).name for file in json.loads(result.stdout)["nwb_files"]] == ["good.nwb"]


def test_progress_ends_with_all_that_was_looked_at(lab: Path) -> None:
    seen: list[tuple[int, int]] = []
    options = {"progress": lambda done, total: seen.append((done, total))}
    nwb_extfiles.report(lab, lab / "report.html", media_options=options)
    videos = sum((lab / name).stat().st_size for name in ("b_frames.mp4", "mpeg4.avi", "h264.mkv", "vp9.webm"))
    total = videos + sum(path.stat().st_size for path in (lab / "nwb").iterdir())
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --------------------------------------------------------------- its parts


def test_trees_are_drawn_with_missing_files() -> None:
    places = [Place("sub/a.nwb"), Place("sub/a/0.avi"), Place("videos/old/1.avi", True), Place("sub/a/0.avi")]
    assert list(tree_lines(places)) == [
        ("sub/", False), ("├── a/", False), ("│   └── 0.avi", False), ("└── a.nwb", False),
        ("videos/old/", False), ("└── 1.avi", True),
    ]  # fmt: skip
    deep = [Place("/".join("a" * depth)) for depth in range(1, 3_000)]
    lines = list(tree_lines(deep))
    assert lines[-1] == ("… and 2,799 more", False)
    assert len(lines) < 300


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (999_499, "999 kB"), (999_500, "1 MB")],
)
def test_sizes_have_units(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.5, "0.5 s"), (59.94, "59.9 s"), (75, "1:15"), (3_723, "1:02:03")])
def test_lengths_have_minutes_and_hours(seconds: float, shown: str) -> None:
    assert length(seconds) == shown


# ------------------------------------------------------------- in a browser


def test_browser_opens_the_page_and_plays_videos(lab: Path, hostile: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as browser:
        for folder in (lab, hostile):
            output = nwb_extfiles.report(folder, folder / "report.html")
            browser.requests.clear()
            browser.open(output)
            assert browser.requests == [output.as_uri()]  # no video before it is asked for
            loaded = browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 50)")
            assert loaded
            played = browser.evaluate(
                "Promise.all([...document.querySelectorAll('video')].map(async video => "
                "{ video.muted = true; await video.play(); return [video.videoWidth, video.currentSrc] }))"
            )
            assert len(played) > 2
            assert all(width == 96 and source.startswith("file://") for width, source in played)
            assert all(url.startswith("file://") for url in browser.requests)
            assert browser.evaluate("document.scripts.length") == 0
            for width in (400, 1280):
                browser.open(output, width=width)
                assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.console == []


def test_policy_stops_what_somebody_adds_to_a_page(lab: Path, tmp_path: Path) -> None:
    output = nwb_extfiles.report(lab, lab / "report.html")
    added = '<body><script>document.title = "taken"</script><img src="https://example.org/a.png" onerror="alert(1)">'
    output.write_text(output.read_text(encoding="utf-8").replace("<body>", added), encoding="utf-8")
    with chromium(tmp_path / "profile") as browser:
        browser.open(output)
        assert browser.evaluate("document.title") == "Media of lab"
        assert sum("Content Security Policy" in line for line in browser.console) >= 2, browser.console


# ------------------------------------------------------------------- many


@pytest.fixture
def thousand(tmp_path: Path, all_videos: Videos) -> Iterator[Path]:
    """A hundred NWB files with ten videos each."""
    names = ("b_frames.mp4", "mpeg4.avi", "h264.mkv", "vp9.webm")
    for number in range(1_000):
        video = all_videos[names[number % 4]]
        shutil.copy(video, tmp_path / f"{number:03}{video.suffix}")
    videos = sorted(tmp_path.iterdir())
    for number in range(100):
        some = [f"../{video.name}" for video in videos[10 * number : 10 * number + 10]]
        write_series(tmp_path / "nwb" / f"{number:02}.nwb", video=(some, 600))
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.long
def test_thousand_videos_take_a_minute_and_ten_megabytes_at_most(thousand: Path) -> None:
    with taking_at_most(60):
        output = nwb_extfiles.report(thousand, thousand / "report.html")
    assert output.stat().st_size < 10_000_000
    assert Page(output).text.count(" in mp4 · 96 x 64") == 250

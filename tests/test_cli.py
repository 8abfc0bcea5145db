"""The command line, as a user types it."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner, Result
from helpers import needs_symlink, play, stored_paths, tree, with_slashes, write_nwb
from makers import make_media

import nwb_extfiles
from nwb_extfiles.cli import main
from nwb_extfiles.media.small_videos import walking_dot, write_avi
from nwb_extfiles.testing import make_video

DATASET = "acquisition/behavior_video/external_file"


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "copy", "reference"])
def test_demo(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "example"
    result = CliRunner().invoke(main, ["demo", str(folder), "--media-mode", mode])
    assert result.exit_code == 0, result.output
    nwb_paths = sorted((folder / "dandiset").rglob("*.nwb"))
    assert [path.name for path in nwb_paths] == [
        f"sub-mouse{number}_ses-sessionid{number}_image.nwb" for number in (0, 1)
    ]
    for path in nwb_paths:
        paths = stored_paths(path, DATASET)
        assert all(play(path.parent / text) == 25 for text in paths)
        assert all(text in result.output for text in paths)
        with h5py.File(path) as file:
            object_id = file["acquisition/behavior_video"].attrs["object_id"]
        if mode != "reference":
            assert paths == [f"{path.stem}/{object_id}_external_file_{index}.avi" for index in (0, 1)]
            assert all(text.rpartition("/")[2] in result.output for text in paths)
    assert "MISSING" not in result.output
    assert "Before:" in result.output
    assert "After:" in result.output


def test_demo_with_move(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", str(tmp_path / "example"), "--media-mode", "move"])
    assert result.exit_code == 0, result.output
    warnings = result.stderr.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("nwb-extfiles: warning: ") and "stays behind" in line for line in warnings)
    assert not list((tmp_path / "example" / "video_files").iterdir())
    assert len(list((tmp_path / "example" / "dandiset").rglob("*.avi"))) == 4


def test_demo_refuses_nonempty_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    result = CliRunner().invoke(main, ["demo", str(tmp_path)])
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert "Traceback" not in result.output
    assert tree(tmp_path) == before


def test_usage_errors(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["demo"]).exit_code == 2
    assert CliRunner().invoke(main, ["demo", str(tmp_path / "x"), "--media-mode", "teleport"]).exit_code == 2


def test_python_m_runs_the_command_line() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "nwb_extfiles", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"nwb-extfiles, version {nwb_extfiles.__version__}\n"
    help_text = subprocess.run(
        [sys.executable, "-m", "nwb_extfiles", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "Usage: nwb-extfiles" in help_text


def test_demo_video_is_playable(tmp_path: Path) -> None:
    frames = walking_dot(seed=1)
    write_avi(tmp_path / "video.avi", frames, rate=25)
    assert play(tmp_path / "video.avi") == len(frames)


# ------------------------------------------------------- ls, check and relocate


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: videos in ``videos``, NWB files in ``nwb``."""
    folder = tmp_path / "lab"
    for name in ("a.avi", "b.avi"):
        make_media(folder / "videos" / name)
    write_nwb(folder / "nwb" / "good.nwb", ["../videos/a.avi", "../videos/b.avi"])
    write_nwb(folder / "nwb" / "lost.nwb", ["../videos/a.avi", "gone.avi", "https://example.org/c.mp4"])
    monkeypatch.chdir(folder)
    return folder


def run(*words: object, code: int = 0) -> Result:
    result = with_slashes(CliRunner().invoke(main, [str(word) for word in words]))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert bool(result.stderr) >= (code == 2)
    return result


def test_ls_says_where_a_broken_link_leads(lab: Path) -> None:
    (lab / "nwb" / "gone.avi").symlink_to("../elsewhere/gone.avi")
    assert "'gone.avi' -> MISSING: it is a symbolic link to '../elsewhere/gone.avi', which does not exist" in (
        run("ls").stdout
    )


def test_ls_lists_references(lab: Path) -> None:
    result = run("ls")
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == "nwb/good.nwb"
    assert "'../videos/a.avi' -> videos/a.avi  256 bytes" in result.stdout
    assert "'gone.avi' -> MISSING" in result.stdout
    assert "'https://example.org/c.mp4' -> a URL" in result.stdout
    assert lines[-1] == "5 references in 2 NWB files: 3 found, 1 missing, 1 URL"
    for words in (["nwb"], ["."], [lab], ["nwb/good.nwb", lab / "nwb" / "lost.nwb", "nwb/good.nwb"]):
        assert run("ls", *words).stdout == result.stdout


def test_ls_of_files_without_references(lab: Path) -> None:
    write_nwb(lab / "plain" / "a.nwb", [])
    assert run("ls", "plain").stdout == "no NWB file here refers to external files\n"
    assert json.loads(run("ls", "--json", "plain").stdout) == []


def test_ls_json(lab: Path) -> None:
    records = json.loads(run("ls", "--json", "nwb/lost.nwb").stdout)
    assert [record["stored_path"] for record in records] == ["../videos/a.avi", "gone.avi", "https://example.org/c.mp4"]
    assert [record["path"] for record in records] == [str(lab / "videos" / "a.avi"), None, None]
    assert [record["bytes"] for record in records] == [256, None, None]
    assert [record["is_url"] for record in records] == [False, False, True]
    assert {record["nwb_path"] for record in records} == {str(lab / "nwb" / "lost.nwb")}
    result = run("ls", "--json", "videos", code=1)
    assert json.loads(result.stdout) == []
    assert "there is no NWB file in this folder" in result.stderr


def test_ls_continues_after_unreadable_file(lab: Path) -> None:
    (lab / "nwb" / "bad.nwb").write_bytes(b"no HDF5")
    result = run("ls", code=1)
    assert "bad.nwb: it is not an HDF5 file, so not an NWB file" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("5 references in 2 NWB files")
    result = run("ls", "--json", code=1)
    assert len(json.loads(result.stdout)) == 5
    several = run("ls", "--json", "-J", "2", code=1)
    assert (several.stdout, several.stderr) == (result.stdout, result.stderr)
    result = run("ls", "--media", "videos/a.avi", code=1)
    assert "lost.nwb" in result.stdout


def test_ls_with_video_lists_nwb_files(lab: Path) -> None:
    result = run("ls", "--media", "videos/a.avi", "videos/b.avi")
    assert [line for line in result.stdout.splitlines() if " in " in line] == [
        "videos/a.avi in nwb/good.nwb",
        "videos/b.avi in nwb/good.nwb",
        "videos/a.avi in nwb/lost.nwb",
    ]
    assert "nwb/lost.nwb" not in run("ls", "--media", lab / "videos" / "b.avi", "nwb").stdout
    assert "'gone.avi' -> MISSING" in run("ls", "--media", "gone.avi").stdout
    assert run("ls", "--media", "never.avi", "nwb").stdout == (
        "no NWB file here refers to never.avi, or has a missing file of that name\n"
    )
    records = json.loads(run("ls", "--media", "videos/b.avi", "--json").stdout)
    assert [(Path(record["media"]), record["index"]) for record in records] == [(Path("videos/b.avi"), 1)]


def test_check_prints_findings_and_sets_exit_code(lab: Path) -> None:
    assert run("check", "--frames", "none", "nwb", code=1).stdout == (
        "ERROR missing: there is no file\n"
        "  hint: put the file there, or tell `nwb-extfiles relocate` where it is, with --search\n"
        "  nwb/lost.nwb\n"
        "    /acquisition/video external_file[1]: 'gone.avi'\n"
        "\n"
        "WARNING outside-nwb-folder: it points outside the folder of the NWB file, and DANDI clients will not resolve "
        "it (3)\n"
        "  hint: fix it with `nwb-extfiles relocate`\n"
        "  nwb/good.nwb\n"
        "    /acquisition/video external_file[0]: '../videos/a.avi'\n"
        "    /acquisition/video external_file[1]: '../videos/b.avi'\n"
        "  nwb/lost.nwb\n"
        "    /acquisition/video external_file[0]: '../videos/a.avi'\n"
        "\n"
        "WARNING url: it is a URL, and `dandi upload` refuses URLs\n"
        "  hint: run `nwb-extfiles relocate --urls download`\n"
        "  nwb/lost.nwb\n"
        "    /acquisition/video external_file[2]: 'https://example.org/c.mp4'\n"
        "\n"
        "2 NWB files: 1 error, 4 warnings\n"
    )
    run("relocate", "nwb/good.nwb")
    assert run("check", "--frames", "none", "nwb/good.nwb").stdout == "1 NWB file: no problems found\n"
    findings = json.loads(run("check", "--frames", "none", "--json", lab, code=1).stdout)
    assert [finding["code"] for finding in findings if finding["severity"] == "error"] == ["missing"]
    assert json.loads(run("check", "--frames", "none", "--json", "nwb/good.nwb").stdout) == []


def test_check_lists_few_of_many_entries_and_reports_all(lab: Path) -> None:
    write_nwb(lab / "many.nwb", [f"{number}.avi" for number in range(200)])
    shown = run("check", "--frames", "none", "many.nwb", "--report-file", "found.txt", code=1).stdout
    assert "there is no file (200)" in shown
    assert "    … and 190 more; --json and --report-file list all" in shown.splitlines()
    assert shown.count("hint:") == 1
    report = (lab / "found.txt").read_text(encoding="utf-8")
    assert report.count("external_file[") == 200
    assert report.splitlines()[-1] == "1 NWB file: 200 errors"


def test_findings_for_information_are_no_problems(lab: Path) -> None:
    make_media(lab / "nwb" / "near.avi")
    write_nwb(lab / "nwb" / "near.nwb", ["near.avi"])
    result = run("check", "--frames", "none", "nwb/near.nwb")
    assert "INFO nonstandard-name: it does not follow DANDI's naming\n" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 NWB file: no problems found; 1 note"
    run("check", "--frames", "none", "nwb/near.nwb", "--severity", "warning")
    run("check", "--frames", "none", "nwb/near.nwb", "--severity", "info", code=1)


@pytest.mark.parametrize(
    ("words", "codes", "code"),
    [
        (["--select", "missing"], {"missing"}, 1),
        (["--select", "outside-", "--select", "url"], {"outside-nwb-folder", "url"}, 0),
        (["--ignore", "miss", "--ignore", "url"], {"outside-nwb-folder"}, 0),
        (["--select", "missing", "--ignore", "missing"], set(), 0),
        (["--severity", "error"], {"missing"}, 1),
        (["--severity", "warning"], {"missing", "outside-nwb-folder", "url"}, 1),
        (["--severity", "warning", "--ignore", "missing"], {"outside-nwb-folder", "url"}, 1),
        (["--severity", "error", "--ignore", "missing"], set(), 0),
    ],
)
def test_filters_of_check_decide_the_exit_code(lab: Path, words: list[str], codes: set[str], code: int) -> None:
    assert {
        finding["code"]
        for finding in json.loads(run("check", "--frames", "none", "nwb", "--json", *words, code=code).stdout)
    } == codes
    last = run("check", "--frames", "none", "nwb", *words, code=code).stdout.splitlines()[-1]
    assert ("left out" in last) == (codes != {"missing", "outside-nwb-folder", "url"})
    assert "no problems found" not in last
    assert ("no such findings" in last) == (not codes)


def test_code_that_does_not_exist_is_a_usage_error(lab: Path) -> None:
    for option in ("--select", "--ignore"):
        result = run("check", "nwb", option, "missing_absolute", "--report-file", "report.txt", code=2)
        assert "'missing_absolute'; did you mean 'missing-absolute'?" in result.stderr
        assert result.stdout == ""
    assert not (lab / "report.txt").exists()


def test_search_without_checksums_is_a_usage_error(lab: Path) -> None:
    assert "with --checksums" in run("check", "nwb", "--search", "videos", code=2).stderr
    run("check", "nwb/good.nwb", "--search", "videos", "--checksums", "--frames", "none")


def test_check_lists_few_of_many_nwb_files_and_reports_all(lab: Path) -> None:
    for number in range(12):
        write_nwb(lab / "many" / f"{number:02}.nwb", ["gone.avi"])
    shown = run("check", "--frames", "none", "many", "--report-file", "found.txt", code=1).stdout
    assert shown.count(".nwb\n") == 10
    assert "  … and 2 more NWB files; --json and --report-file list all" in shown.splitlines()
    assert (lab / "found.txt").read_text(encoding="utf-8").count(".nwb\n") == 12


@pytest.mark.parametrize("command", ["check", "ls", "relocate", "organize"])
def test_patterns_of_shells_may_name_media_folders(lab: Path, command: str) -> None:
    """``nwb/*`` names the NWB file and its media folder, which has none."""
    (lab / "nwb" / "lost.nwb").unlink()
    run("relocate", "nwb/good.nwb", "--media-mode", "copy")
    named = sorted((lab / "nwb").iterdir())
    assert [path.name for path in named] == ["good", "good.nwb"]
    options = {"organize": ["-d", "dandiset", "--dry-run"], "check": ["--frames", "none"]}
    more = options.get(command, [])
    result = run(command, *named, *more)
    assert "no NWB file in this folder" not in result.output
    assert "no NWB file in this folder" in run(command, lab / "nwb" / "good", *more, code=1).output


def test_ls_by_checksum_says_which_nwb_files_it_cannot_search(lab: Path) -> None:
    words = ["ls", "--media", "--by-checksum", "videos/a.avi", "nwb"]
    assert run(*words).stdout == (
        "no manifest here names videos/a.avi; 2 NWB files have no manifest and were not searched (leave out "
        "--by-checksum)\n"
    )
    run("relocate", "nwb", "--missing", "keep", "--manifest", "--media-mode", "copy")
    (lab / "videos" / "b.avi").write_bytes(b"another video")
    assert run(*words[:3], "videos/b.avi", "nwb").stdout == "no manifest here names videos/b.avi\n"
    assert "videos/a.avi in nwb/good.nwb" in run(*words).stdout


def test_report_file_never_replaces_what_is_not_a_report(lab: Path) -> None:
    before = tree(lab)
    for name in ("nwb/good.nwb", "videos/a.avi", "report", "nowhere/report.txt", "nwb"):
        run("check", "--frames", "none", "nwb", "--report-file", name, code=2)
    assert tree(lab) == before
    (lab / "link.txt").symlink_to("videos/a.avi")
    run("check", "--frames", "none", "nwb", "--report-file", "link.txt", code=1)
    assert "missing" in (lab / "link.txt").read_text("utf-8")
    (lab / "link.txt").unlink()
    assert tree(lab) == before
    run("check", "--frames", "none", "nwb", "--select", "missing", "--report-file", "report.json", "-J", "2", code=1)
    records = json.loads((lab / "report.json").read_text(encoding="utf-8"))
    assert records == json.loads(
        run("check", "--frames", "none", "nwb", "--select", "missing", "--json", code=1).stdout
    )
    run("check", "--frames", "none", "nwb", "--select", "url", "--report-file", "report.json")
    assert [record["code"] for record in json.loads((lab / "report.json").read_text(encoding="utf-8"))] == ["url"]


@pytest.mark.parametrize("name", ["empty", "notes.txt", "table.nwb"])
def test_what_has_no_nwb_file_is_an_error_once(lab: Path, name: str) -> None:
    (lab / "empty").mkdir()
    (lab / "notes.txt").write_text("notes", encoding="utf-8")
    with h5py.File(lab / "table.nwb", "w") as file:
        file["a"] = 1
    result = run("ls", name, code=1)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    result = run("check", "--frames", "none", name, code=1)
    assert result.stdout.startswith("ERROR ")
    assert result.stdout.count("ERROR") == 1
    assert "no problems" not in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of that kind")
def test_colours_only_on_terminal_and_not_with_no_color(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    seen, _ = on_terminal("check", "--frames", "none", "nwb", output=True)
    assert b"\x1b[31m\x1b[1mERROR missing\x1b[0m: there is no file\r\n" in seen
    assert max(len(line) for line in re.sub(rb"\x1b\[\d+m", b"", seen).splitlines()) <= 100
    assert "\x1b" not in module("check", "--frames", "none", "nwb").stdout
    monkeypatch.setenv("NO_COLOR", "1")
    seen, _ = on_terminal("check", "--frames", "none", "nwb", output=True)
    assert b"ERROR missing: there is no file\r\n" in seen
    assert b"\x1b" not in seen


def test_relocate_puts_media_beside_the_file(lab: Path) -> None:
    before = tree(lab)
    dry = run("relocate", "nwb/good.nwb", "--media-mode", "copy", "--dry-run")
    plan = json.loads(run("relocate", "nwb/good.nwb", "--media-mode", "copy", "--dry-run", "--json").stdout)
    assert tree(lab) == before
    assert "nothing was changed; without --dry-run: 2 videos copied (512 bytes)\n" in dry.stdout
    assert [Path(entry["target"]).parent for entry in plan[0]["media"]] == [lab / "nwb" / "good"] * 2
    assert all(Path(entry["target"]).name in dry.stdout for entry in plan[0]["media"])
    assert run("relocate", "nwb/good.nwb", "--media-mode", "copy").stdout == (
        "nwb/good.nwb: 2 videos copied (512 bytes)\n"
    )
    assert stored_paths(lab / "nwb" / "good.nwb") == [entry["new_path"] for entry in plan[0]["media"]]
    assert run("relocate", "nwb/good.nwb").stdout == "nwb/good.nwb: 2 videos already in place\n"
    assert run("relocate", "-q", lab / "nwb" / "good.nwb").output == ""


def test_relocate_refuses_what_is_not_an_nwb_file(lab: Path) -> None:
    with h5py.File(lab / "x.nwb", "w") as file:
        file["a"] = 1
    assert "x.nwb: it has no nwb_version, so it is not an NWB file" in run("relocate", "x.nwb", code=1).stderr
    assert "there is no NWB file in this folder" in run("relocate", "videos", code=1).stderr
    assert "x.nwb: it has no nwb_version, so it is not an NWB file" in run("ls", "x.nwb", code=1).stderr


@pytest.mark.parametrize("command", ["check", "ls", "relocate", "organize", "recover"])
def test_url_is_refused(lab: Path, command: str) -> None:
    result = run(command, "https://example.org/a.nwb", code=2)
    assert "https://example.org/a.nwb is a URL" in result.stderr
    assert "resolve_external_files()" in result.stderr


def test_json_names_options_of_the_command_line(lab: Path) -> None:
    (entry,) = [each for each in json.loads(run("ls", "--json", "nwb/lost.nwb").stdout) if each["problem"]]
    assert "--search FOLDER" in entry["problem"]
    assert "media_options" not in entry["problem"]


@needs_symlink
def test_relocate_reports_urls_that_stay(lab: Path) -> None:
    lines = run("relocate", "nwb/lost.nwb", "--missing", "keep").stdout.splitlines()
    assert lines[0] == "nwb/lost.nwb: 1 video linked, 1 video not found, 1 video kept as URLs"
    assert lines[1] == "1 URL is kept; use --urls download to download the videos"


def test_relocate_error_shows_hint(lab: Path) -> None:
    before = tree(lab)
    result = run("relocate", "nwb/good.nwb", "nwb/lost.nwb", "--media-mode", "move", code=1)
    assert result.stdout == ""
    assert "--missing keep" in result.stderr
    assert "media_options" not in result.stderr
    assert tree(lab) == before
    result = run("relocate", "nwb/good.nwb", "nwb/lost.nwb", "--media-mode", "move", "--missing", "keep")
    assert result.stderr.count("warning:") == 1
    assert list((lab / "videos").iterdir()) == []
    assert json.loads(run("check", "--frames", "none", "--json", "nwb", code=1).stdout)[0]["code"] == "missing"


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "nowhere"],
        ["ls", "videos/a.avi"],
        ["ls", "--media"],
        ["ls", "--media", "nwb"],
        ["ls", "--media", "videos/a.avi", "nowhere.nwb"],
        ["check"],
        ["check", "nowhere"],
        ["relocate"],
        ["relocate", "nowhere.nwb"],
        ["relocate", "nwb/good.nwb", "--media-mode", "teleport"],
        ["relocate", "nwb/good.nwb", "--path-map", "nothing"],
        ["relocate", "nwb/good.nwb", "--search", "nowhere"],
        ["relocate", "nwb/good.nwb", "--media-field", "One"],
        ["recover"],
        ["nonsense"],
    ],
)
def test_wrong_arguments_are_usage_errors(lab: Path, words: list[str]) -> None:
    before = tree(lab)
    result = run(*words, code=2)
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert tree(lab) == before


@pytest.mark.parametrize(
    "words",
    [
        "relocate --json",
        "relocate nowhere.nwb --json",
        "relocate nwb/good.nwb --json --media-mode teleport",
        "relocate nwb/good.nwb --json --path-map nothing",
        "check --json --jobs none nwb",
        "organize --json nwb --bogus",
        "report nwb --json --output",
        "recover nowhere.nwb --json",
        "ls --media nwb --json",
        "demo x --json",
        "nonsense --json",
        "--bogus ls --json",
    ],
)
def test_usage_errors_are_json_if_that_is_asked_for(lab: Path, words: str) -> None:
    before = tree(lab)
    result = run(*words.split(), code=2)
    error = json.loads(result.stdout)["error"]
    assert f"Error: {error['message']}" in result.stderr
    assert [problem["message"] for problem in error["problems"]] == [error["message"]]
    assert tree(lab) == before


def test_options_reach_the_plan(lab: Path) -> None:
    path = write_nwb(lab / "far" / "x.nwb", ["D:\\rig\\a.avi", "elsewhere/b.avi"])
    run("relocate", path, code=1)
    run("relocate", path, "--path-map", f"D:\\rig={lab / 'videos'}", "--search", "videos", "--within", "nwb", code=1)
    run("relocate", path, "--path-map", f"D:\\rig={lab / 'videos'}", "--search", "videos", "--within", "videos")
    assert [(path.parent / text).is_file() for text in stored_paths(path)] == [True, True]


def test_ls_searches_for_videos(lab: Path) -> None:
    """As commands that relocate do, with the options, and with the folders of the configuration file."""
    (lab / "nas").mkdir()
    (lab / "videos" / "a.avi").rename(lab / "nas" / "a.avi")
    write_nwb(lab / "nwb" / "mapped.nwb", [r"D:\rig\a.avi"])
    assert "6 references in 3 NWB files: 1 found, 4 missing, 1 URL" in run("ls").stdout
    mapped = run("ls", "nwb/mapped.nwb", "--path-map", r"D:\rig=nas").stdout
    assert r"'D:\rig\a.avi' -> nas/a.avi  256 bytes" in mapped
    searched = run("ls", "--search", "nas").stdout
    assert "'../videos/a.avi' -> nas/a.avi  256 bytes" in searched
    found = json.loads(run("ls", "--search", "nas", "--jobs", "2", "--json").stdout)
    assert next(entry["path"] for entry in found if entry["path"]) == str(lab / "nas" / "a.avi")
    referring = run("ls", "--media", "nas/a.avi", "--search", "nas").stdout
    assert "nas/a.avi in nwb/good.nwb" in referring
    (lab / "nwb-extfiles.toml").write_text("search = 'nas'\n")
    configured = run("ls")
    assert (configured.stdout, "search from" in configured.stderr) == (searched, True)
    assert "1 found, 4 missing" in run("ls", "--no-config").stdout
    run("ls", "--search", "nowhere", code=2)
    assert "--path-map takes OLD=NEW" in run("ls", "--path-map", "nas", code=2).stderr


@pytest.mark.parametrize(("words", "most"), [([], 1), (["--jobs", "2"], 0), (["--media", "gone.avi"], 1)])
def test_ls_reads_a_search_folder_once(lab: Path, words: list[str], most: int) -> None:
    """However many NWB files have a video that is missing. With jobs, other processes read it, once each."""
    for number in range(4):
        write_nwb(lab / "nwb" / f"lost{number}.nwb", ["gone.avi"])
    make_media(lab / "nas" / "deep" / "gone.avi")
    code = (
        "import sys\nfrom nwb_extfiles.cli import main\nread = []\n"
        "def note(event, values):\n"
        "    read.extend(values if event == 'os.scandir' and str(values[0]).endswith('deep') else ())\n"
        "if __name__ == '__main__':\n"
        "    sys.addaudithook(note)\n    main(sys.argv[1:], standalone_mode=False)\n    print(len(read))"
    )
    (lab / "count.py").write_text(code)
    command = [sys.executable, "count.py", "ls", "nwb", *words, "--search", "nas"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(most)
    assert done.stdout.count("gone.avi") >= 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_error_is_one_line_whatever_the_name_of_its_file(lab: Path) -> None:
    (lab / "nwb" / "a\nb.nwb").write_bytes((lab / "nwb" / "good.nwb").read_bytes())
    (said,) = run("restore", "nwb/a\nb.nwb", "back", code=1).stderr.splitlines()
    assert "a\\nb.nwb has no manifest" in said


def test_wrong_url_is_one_problem(lab: Path) -> None:
    (lab / "nwb" / "lost2.nwb").write_bytes((lab / "nwb" / "lost.nwb").read_bytes())
    (said,) = run("fetch", "nwb", "--from", "somewhere", code=1).stderr.splitlines()
    assert "somewhere does not name a dandiset" in said


@pytest.mark.parametrize("command", ["recover empty", "restore empty back", "ls empty", "organize empty -d ds"])
def test_folder_without_nwb_files_is_an_error(lab: Path, command: str) -> None:
    (lab / "empty").mkdir()
    refused = run(*command.split(), code=1)
    assert "there is no NWB file in this folder; name NWB files" in refused.stderr
    assert refused.stdout == ""


def test_recover_names_files_that_are_no_nwb_files(lab: Path) -> None:
    """After the others are done."""
    with h5py.File(lab / "other.h5", "w") as file:
        file["x"] = 1
    (lab / "cut.nwb").write_bytes((lab / "nwb" / "good.nwb").read_bytes()[:900])
    refused = run("recover", "videos/a.avi", "nwb", "other.h5", "cut.nwb", code=1)
    assert refused.stdout == "nothing to restore in 2 NWB files\n"
    first, second, third = refused.stderr.splitlines()
    assert "a.avi" in first
    assert "other.h5: it has no nwb_version, so it is not an NWB file" in second
    assert "cut.nwb" in third
    alone = run("recover", "other.h5", "--json", code=1)
    assert json.loads(alone.stdout) == {"restored": [], "nwb_files": 0}


def test_report_is_written_whatever_it_shows(lab: Path) -> None:
    """Its exit code says that the page is there; `check` says if something is wrong."""
    done = run("report", "nwb", "--frames", "none", "-o", "page.html")
    assert (lab / "page.html").exists()
    assert re.search(r"\d errors?", done.stdout)
    run("check", "nwb", "--frames", "none", code=1)


def test_recover_undoes_interrupted_edit(lab: Path) -> None:
    assert run("recover", "nwb").stdout == "nothing to restore in 2 NWB files\n"
    before = tree(lab)
    code = (
        "import os, sys; from nwb_extfiles.disk import journal; from nwb_extfiles import relocate\n"
        "plain = journal._write_at\n"
        "def die(*rest):\n    plain(*rest)\n    os._exit(9)\n"
        "journal._write_at = die\nrelocate(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, "nwb/good.nwb"], check=False).returncode == 9
    assert tree(lab) != before
    assert "nwb-extfiles recover" in run("relocate", "--dry-run", "nwb/good.nwb", code=1).stderr
    assert run("recover", "nwb").stdout == "nwb/good.nwb: restored\n"
    assert json.loads(run("recover", "nwb", "--json").stdout) == {"restored": [], "nwb_files": 2}
    after = tree(lab)
    assert {name: after[name] for name in before} == before
    assert [name for name in after if name not in before and not name.startswith("nwb/good")] == []
    run("relocate", "nwb/good.nwb")
    run("check", "--frames", "none", "nwb/good.nwb")


def module(*words: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nwb_extfiles", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)  # type: ignore[call-overload]


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
def test_closed_pipe_ends_quietly(lab: Path) -> None:
    write_nwb(lab / "nwb" / "many.nwb", [f"{number}.avi" for number in range(3000)])
    command = f"{sys.executable} -m nwb_extfiles ls | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("nwb/good.nwb\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of that kind")
def test_progress_bar_only_on_terminal(lab: Path) -> None:
    """Bars on a terminal, which are gone in the end; nothing but lines elsewhere."""
    make_media(lab / "videos" / "a.avi").write_bytes(bytes(30_000_000))
    seen, told = on_terminal("relocate", "nwb/good.nwb", "--media-mode", "copy", "--manifest")
    assert told == "nwb/good.nwb: 2 videos copied (30,000,256 bytes), 1 manifest written\n"
    assert b"30.0M" in seen
    assert is_clear(seen)
    assert module("relocate", "nwb/good.nwb").stderr == ""
    (video,) = (lab / "nwb" / "good").glob("*_0.avi")
    video.write_bytes(bytes(29_999_999))
    seen, told = on_terminal("check", "nwb/good.nwb", "--checksums")
    assert told == module("check", "nwb/good.nwb", "--checksums").stdout
    assert "media-truncated" in told
    assert b"videos read: 30.0M" in seen or b"videos read: 256B" in seen
    assert is_clear(seen)
    for how, is_shown in (("index", False), ("packets", True), ("decode", True)):
        seen, told = on_terminal("check", "nwb/good.nwb", "--frames", how)
        assert "not-a-video" in told
        assert (b"videos read" in seen) == is_shown
        assert is_clear(seen) or not is_shown


def on_terminal(*words: str, output: bool = False) -> tuple[bytes, str]:
    """What a command writes to a terminal, and what to its standard output, which is none unless asked for."""
    import fcntl
    import pty
    import struct
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "nwb_extfiles", *words]
    stdout = child if output else subprocess.PIPE
    with subprocess.Popen(command, stdout=stdout, stderr=child, text=True) as process:
        os.close(child)
        seen = b""
        try:
            while block := os.read(parent, 65536):
                seen += block
        except OSError:  # the other end is closed
            pass
        told = "" if process.stdout is None else process.stdout.read()
    os.close(parent)
    return seen, told


def is_clear(seen: bytes) -> bool:
    """Whether there is nothing any more where a bar was."""
    return seen.endswith(b"\r") and seen.replace(b"\r", b"\n").split(b"\n")[-2].strip() == b""


@needs_symlink
def test_any_path_spelling_from_any_working_directory(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab / "videos")
    run("relocate", "../nwb/good.nwb", "--search", ".")
    paths = stored_paths(lab / "nwb" / "good.nwb")
    assert [os.readlink(lab / "nwb" / text) for text in paths] == ["../../videos/a.avi", "../../videos/b.avi"]
    monkeypatch.chdir("/")
    assert run("check", "--frames", "none", lab / "nwb" / "good.nwb").exit_code == 0


def test_help_of_every_command() -> None:
    """Each command says what it does in a line that fits."""
    for command in main.commands.values():
        assert "..." not in command.get_short_help_str(65), command.name


def test_exit_skips_garbage_collection() -> None:
    """It is skipped when the command ends, and not before, as others may call the command in their own process."""
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0));"
        "from nwb_extfiles.cli import main; main(['--version'], standalone_mode=False); print(gc.get_freeze_count())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-2:] == ["0", "True"]


# ------------------------------------------------------------- the same grammar for all commands


def test_relocate_takes_folders(lab: Path) -> None:
    write_nwb(lab / "nwb" / "deep" / "c.nwb", ["../../videos/a.avi"])
    done = run("relocate", "nwb", "--missing", "keep", "--media-mode", "copy").stdout.splitlines()
    assert [line.partition(":")[0] for line in done[:3]] == ["nwb/good.nwb", "nwb/lost.nwb", "nwb/deep/c.nwb"]
    for path, count in (("good", 2), ("lost", 1), ("deep/c", 1)):
        assert len(list((lab / "nwb" / path).glob("*.avi"))) == count
    plans = nwb_extfiles.relocate(lab / "nwb" / "deep", "copy")
    assert [plan.nwb_path for plan in plans] == [lab / "nwb" / "deep" / "c.nwb"]


def test_include_and_exclude_choose_nwb_files_in_folders(lab: Path) -> None:
    for name in ("pilot/p.nwb", "day1/d.nwb"):
        write_nwb(lab / "nwb" / name, ["../../videos/a.avi"])
    for pilot in ("pilot/*", "pilot/", "pilot"):
        listed = run("ls", "nwb", "--exclude", pilot, "--exclude", "lost*").stdout
        assert [line for line in listed.splitlines() if line.endswith(".nwb")] == ["nwb/good.nwb", "nwb/day1/d.nwb"]
    assert (
        run("check", "nwb", "--frames", "none", "--include", "d.nwb").stdout.splitlines()[-1].startswith("1 NWB file: ")
    )
    run("relocate", "nwb", "--include", "day*", "--include", "pilot/p.nwb", "--exclude", "p.nwb")
    assert (lab / "nwb" / "day1" / "d").is_dir()
    assert not (lab / "nwb" / "pilot" / "p").exists()
    assert not (lab / "nwb" / "good").exists()
    run("relocate", "nwb/pilot/p.nwb", "--include", "day*")  # what is named itself is meant
    assert (lab / "nwb" / "pilot" / "p").is_dir()
    refused = run("organize", "nwb", "-d", "ds", "--include", "*.zarr", code=1).stderr
    assert "there is no NWB file in this folder that fits the patterns" in refused
    assert not (lab / "ds").exists()


def test_json_for_failures_too(lab: Path) -> None:
    failed = run("relocate", "nwb", "--json", code=1)
    error = json.loads(failed.stdout)["error"]
    (problem,) = error["problems"]
    assert (error["type"], problem["index"]) == ("MissingMediaError", 1)
    assert problem["nwb_path"] == str(lab / "nwb" / "lost.nwb")
    assert problem["object_path"] == "/acquisition/video"
    assert "--missing keep" in problem["message"]
    assert problem["message"] in failed.stderr
    (lab / "nwb" / "bad.nwb").write_bytes(b"no HDF5")
    error = json.loads(run("relocate", "nwb", "--json", "--dry-run", code=1).stdout)["error"]
    assert [each["type"] for each in error["problems"]] == ["UnreadableFileError", "MissingMediaError"]


def test_log_file(lab: Path) -> None:
    run("relocate", "nwb", "--missing", "keep", "--media-mode", "copy", "--log-file", "log.txt")
    run("relocate", "nwb", "--log-file", "log.txt", code=1)
    run("ls", "--log-file", "log.txt")
    lines = (lab / "log.txt").read_text("utf-8").splitlines()
    levels = [line.split()[1] for line in lines if line[:2] == "20"]
    assert levels.count("WARNING") == levels.count("ERROR") == 1
    video = lab / "videos" / "a.avi"
    copied = [line for line in lines if f"copy {video} -> " in line]
    assert len(copied) == 2
    assert all(Path(line.rpartition(" -> ")[2]).read_bytes() == video.read_bytes() for line in copied)
    assert any("nwb-extfiles " in line and line.endswith("INFO " + line.partition("INFO ")[2]) for line in lines)
    assert "cannot be written to" in run("ls", "--log-file", "nowhere/log.txt", code=2).stderr
    before = (lab / "nwb" / "good.nwb").read_bytes()
    refused = run("relocate", "--log-file", "nwb/good.nwb", "nwb/lost.nwb", code=2).stderr
    assert "nwb/good.nwb is not a text file" in refused
    assert (lab / "nwb" / "good.nwb").read_bytes() == before


def test_log_file_says_that_a_run_was_interrupted(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nwb_extfiles.tasks.check.checks.check", interrupt)
    assert CliRunner().invoke(main, ["check", "nwb", "--log-file", "log.txt"]).exit_code == 1
    assert (lab / "log.txt").read_text("utf-8").splitlines()[-1].endswith(" ERROR interrupted")


@needs_symlink
def test_dry_run_shows_the_file_that_a_replaced_link_leads_to(lab: Path) -> None:
    run("relocate", "nwb/good.nwb")
    lines = run("relocate", "nwb/good.nwb", "--media-mode", "hardlink", "--dry-run").stdout.splitlines()
    assert [line.split()[3:5] for line in lines[1:3]] == [["videos/a.avi", "->"], ["videos/b.avi", "->"]]


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_fits_a_terminal_of_80_columns(command: str) -> None:
    lines = CliRunner().invoke(main, [command, "--help"], terminal_width=80).stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []


@needs_symlink
def test_python_logging(lab: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="nwb_extfiles"), pytest.warns(nwb_extfiles.ExternalFilesWarning):
        nwb_extfiles.relocate("nwb/lost.nwb", media_options={"missing": "keep"})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert f"symlink {lab / 'videos' / 'a.avi'} -> {lab / 'nwb' / 'lost'}" in caplog.messages[1]


@needs_symlink
def test_existing_skip_leaves_out_the_nwb_file(lab: Path) -> None:
    """Not the single video: an NWB file has all its media, or it stays as it is."""
    plan = json.loads(run("relocate", "nwb/good.nwb", "--dry-run", "--json").stdout)
    taken = Path(plan[0]["media"][1]["target"])
    taken.parent.mkdir()
    taken.write_bytes(b"another video")
    write_nwb(lab / "nwb" / "more.nwb", ["../videos/a.avi"])
    before = tree(lab / "nwb" / "good"), stored_paths(lab / "nwb" / "good.nwb")
    words = ["relocate", "nwb/good.nwb", "nwb/more.nwb", "--existing"]
    assert "is not a copy of" in run(*words, "error", code=1).stderr
    done = run(*words, "skip")
    assert "warning: left out: " in done.stderr
    assert str(taken) in done.stderr
    assert done.stdout.startswith("nwb/more.nwb: 1 video linked\n")
    assert (tree(lab / "nwb" / "good"), stored_paths(lab / "nwb" / "good.nwb")) == before
    assert (lab / "nwb" / "more").is_dir()


@pytest.mark.parametrize("command", ["relocate", "organize"])
def test_nwb_file_that_is_left_out_keeps_its_video(lab: Path, command: str) -> None:
    """The other one, which is relocated, refers to the same video, and would move it away."""
    make_media(lab / "shared" / "v.avi")
    left_out, other = (
        write_nwb(lab / "two" / name, ["../shared/v.avi"], session=name[0]) for name in ("s.nwb", "t.nwb")
    )
    if command == "relocate":
        plan = json.loads(run("relocate", left_out, "--dry-run", "--json").stdout)
        taken, words = Path(plan[0]["media"][0]["target"]), ["relocate"]
        taken.parent.mkdir()
        taken.write_bytes(b"another video")
    else:
        (lab / "ds").mkdir()
        (lab / "ds" / "dandiset.yaml").write_text("identifier: '000001'\n")
        words = ["organize", "-d", "ds"]
        plan = json.loads(run(*words, left_out, other, "--dry-run", "--json").stdout)
        (taken,) = (Path(each["target"]) for each in plan["files"] if each["source"] == str(left_out))
        write_nwb(taken, ["x.avi"], session="s")
    refused = run(*words, "--media-mode", "move", "--existing", "skip", left_out, other, code=1).stderr
    assert "needs" in refused or "refers to" in refused, refused
    assert (lab / "shared" / "v.avi").exists()
    before = tree(lab)
    alone = run(*words, left_out, *(["--required-field", "session_id"] * (command == "organize")), "--existing", "skip")
    assert "warning: left out: " in alone.stderr
    assert "no paths of media" not in alone.stderr
    assert "0 NWB files" in alone.stdout
    assert tree(lab) == before
    if command == "relocate":
        with pytest.raises(nwb_extfiles.errors.MediaExistsError):  # there is no plan to return
            nwb_extfiles.relocate(left_out, media_options={"existing": "skip"})


def test_what_is_asked_to_be_left_out_is_no_failure_of_restore(lab: Path) -> None:
    run("relocate", "nwb/good.nwb", "--manifest")
    run("restore", "nwb/good.nwb", "back")
    before = tree(lab)
    assert "good.nwb exists" in run("restore", "nwb/good.nwb", "back", code=1).stderr
    again = run("restore", "nwb/good.nwb", "back", "--existing", "skip")
    assert ("warning: left out: " in again.stderr, again.stdout) == (True, "total: 0 NWB files\n")
    assert run("restore", "nwb/good.nwb", "back", "--existing", "skip", "--json").stdout == "null\n"
    assert tree(lab) == before


@pytest.mark.skipif(os.name == "nt", reason="quotes are others there")
def test_ls_of_a_video_names_the_command_for_videos(lab: Path) -> None:
    refused = run("ls", "videos/a.avi", "nwb", code=2).stderr
    assert "nwb-extfiles ls --media videos/a.avi nwb" in refused.replace("\n", " ")
    assert "videos/a.avi in nwb/good.nwb" in run("ls", "--media", "videos/a.avi", "nwb").stdout


@pytest.mark.parametrize("command", ["ls", "check", "report", "relocate", "organize", "restore", "recover"])
def test_missing_file_is_one_error(lab: Path, command: str) -> None:
    refused = run(command, "nowhere.nwb", *(["out"] if command == "restore" else []), code=2).stderr
    assert "nowhere.nwb does not exist; name NWB files, or folders with NWB files" in refused


def test_missing_file_is_one_error_in_python(lab: Path) -> None:
    path, errors = lab / "nowhere.nwb", list[Exception]()
    for call in (
        lambda: nwb_extfiles.relocate(path),
        lambda: nwb_extfiles.organize(path, lab / "ds"),
        lambda: list(nwb_extfiles.check(path)),
        lambda: nwb_extfiles.restore(path, lab / "out"),
        lambda: nwb_extfiles.resolve_external_files(path),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        errors.append(caught.value)
    assert {str(error) for error in errors} == {f"{path} does not exist; name NWB files, or folders with NWB files"}
    assert {type(error).__name__ for error in errors} == {"NoSuchFileError"}
    again = pickle.loads(pickle.dumps(errors[0]))
    assert (type(again), str(again)) == (type(errors[0]), str(errors[0]))


def test_dangling_link_says_where_it_led(lab: Path) -> None:
    (lab / "videos" / "c.avi").symlink_to("/mnt/gone/c.avi")
    write_nwb(lab / "nwb" / "c.nwb", ["../videos/c.avi"])
    refused = run("relocate", "nwb/c.nwb", code=1).stderr
    assert "c.avi' (a symbolic link to '/mnt/gone/c.avi', which does not exist)" in refused
    (lab / "nwb" / "link.nwb").symlink_to("/mnt/gone/x.nwb")
    assert "a symbolic link to '/mnt/gone/x.nwb', which does not exist" in run(
        "ls", "nwb/link.nwb", code=2
    ).stderr.replace("\n", " ")


def test_many_missing_files_of_a_series_are_one_warning(lab: Path) -> None:
    write_nwb(lab / "nwb" / "tif.nwb", [f"../frames/{number}.tif" for number in range(1500)])
    done = run("relocate", "nwb/tif.nwb", "--missing", "keep")
    (warning,) = done.stderr.splitlines()
    assert f"Tried: '{lab / 'nwb' / '../frames/0.tif'}' (" in warning
    assert warning.endswith("; the path is kept, and 1,499 more in external_file")
    assert done.stdout == "nwb/tif.nwb: 1,500 images not found\n"


def test_file_that_this_program_has_open_is_called_so(lab: Path) -> None:
    path = lab / "nwb" / "good.nwb"
    with h5py.File(path, "r+"), pytest.raises(OSError, match=r"good\.nwb is still open in this program; close the IO"):
        nwb_extfiles.relocate(path)
    nwb_extfiles.relocate(path)


# ------------------------------------------- outputs that cannot spell a name, or that nobody reads

STRANGE = "Mäuse 🐭"
UNDECODABLE = "r\udce4t"  # the byte 0xE4, as Python reads it from a file system in UTF-8


@pytest.fixture
def strange_lab(lab: Path) -> Path:
    """The same with names that not every output can spell."""
    make_media(lab / "videos" / f"{STRANGE}.avi")
    write_nwb(lab / "nwb" / f"{STRANGE}.nwb", [f"../videos/{STRANGE}.avi", f"gone {STRANGE}.avi"])
    if sys.platform == "linux":
        write_nwb(lab / "nwb" / f"{UNDECODABLE}.nwb", ["../videos/a.avi"])
    return lab


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_an_output_cannot_spell_are_escaped(strange_lab: Path, encoding: str) -> None:
    env = os.environ | {"PYTHONIOENCODING": encoding}

    def told(*words: str, code: int = 0) -> tuple[str, str]:
        command = [sys.executable, "-m", "nwb_extfiles", *words]
        done = subprocess.run(command, capture_output=True, env=env, check=False)
        # click writes its own usage errors in UTF-8 to outputs in ASCII
        told = done.stdout.decode(encoding), done.stderr.decode("latin-1" if code == 2 else encoding)
        assert done.returncode == code, told
        assert "Traceback" not in told[1]
        assert "UnicodeEncodeError" not in told[1]
        return told

    name = STRANGE.encode(encoding, "backslashreplace").decode(encoding)
    listed, _ = told("ls", "nwb")
    assert os.path.join("nwb", f"{name}.nwb") in listed
    assert f"'gone {name}.avi' -> MISSING" in listed
    assert f"'gone {name}.avi'" in told("check", "nwb", code=1)[0]
    done, warnings = told("relocate", f"nwb/{STRANGE}.nwb", "--media-mode", "copy", "--missing", "keep")
    assert os.path.join("nwb", f"{name}.nwb") in done
    assert name in warnings
    assert len(list((strange_lab / "nwb" / STRANGE).iterdir())) == 1
    assert "does not exist" in told("relocate", f"nwb/no {STRANGE}.nwb", code=2)[1]
    if sys.platform == "linux":
        assert r"nwb/r\udce4t.nwb" in listed
        assert r"r\udce4t" in told("relocate", "--dry-run", f"nwb/{UNDECODABLE}.nwb", code=1)[1]


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.parametrize("redirection", ["| true", "2>&1 | true", ">&-", "2>&-", ">&- 2>&-", "> /dev/full 2>&1"])
def test_work_continues_when_its_lines_cannot_be_printed(lab: Path, redirection: str) -> None:
    """Each file is organized, whatever becomes of the lines about it."""
    if "/dev/full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    for number in range(3):
        write_nwb(lab / "more" / f"{number}.nwb", ["../videos/a.avi", "gone.avi"])
    words = "relocate more/0.nwb more/1.nwb more/2.nwb --missing keep --media-mode copy"
    script = f"{{ {sys.executable} -m nwb_extfiles {words}; echo $? > code; }} {redirection}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (lab / "code").read_text() == "0\n", done.stderr
    assert done.stdout == "" or redirection == "2>&-"
    assert "Error" not in done.stderr
    assert [len(list((lab / "more" / str(number)).glob("*.avi"))) for number in range(3)] == [1, 1, 1]


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_progress_of_python_that_cannot_be_shown_is_no_error(lab: Path, redirection: str) -> None:
    code = "from nwb_extfiles import relocate; relocate('nwb/good.nwb', 'copy', media_options={'progress': True})"
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" {redirection}'], check=False)
    assert done.returncode == 0
    assert len(list((lab / "nwb" / "good").glob("*.avi"))) == 2


# ------------------------------------------------------------- search folders and their subfolders


def test_files_in_subfolders_of_search_are_named_and_not_guessed(lab: Path) -> None:
    """Every session has such a name. The message says where there are some, and the folder that is named is used."""
    videos = [make_media(lab / "nas" / folder / "x.avi") for folder in ("m1", "m2")]
    make_media(lab / "nas" / ".hidden" / "x.avi")
    path = write_nwb(lab / "far" / "x.nwb", ["D:\\rig\\top\\x.avi"])
    refused = run("relocate", path, "--media-mode", "move", "--search", "nas", code=1).stderr
    assert f"Files of that name: '{videos[0]}', '{videos[1]}'; " in refused
    assert all(video.exists() for video in videos)
    run("relocate", path, "--search", videos[1].parent)
    (stored,) = stored_paths(path)
    assert os.path.samefile(path.parent / stored, videos[1])


def test_options_that_are_used_again_find_files_that_have_come_since(lab: Path) -> None:
    (lab / "nas").mkdir()
    path, options = write_nwb(lab / "far" / "x.nwb", ["new.avi"]), nwb_extfiles.MediaOptions(search=lab / "nas")
    for folder in ("one", "two"):
        with pytest.raises(FileNotFoundError) as refused:
            nwb_extfiles.relocate(path, media_options=options)
        assert ("Files of that name" in str(refused.value)) == (folder == "two")
        make_media(lab / "nas" / folder / "new.avi")


def test_restore_takes_a_folder(lab: Path) -> None:
    """Each NWB file gets a folder of its own, as two recordings may have videos with one name."""
    write_nwb(lab / "nwb" / "deep" / "c.nwb", ["../../videos/b.avi"])
    run("relocate", "nwb", "--exclude", "lost.nwb", "--media-mode", "copy", "--manifest")
    refused = run("restore", "nwb", "back", code=1)
    assert "lost.nwb has no manifest" in refused.stderr
    assert not (lab / "back").exists()
    planned = json.loads(run("restore", "nwb", "back", "--exclude", "lost.nwb", "--dry-run", "--json").stdout)
    done = run("restore", "nwb", "back", "--exclude", "lost.nwb")
    assert done.stdout.splitlines() == [
        "back/good/good.nwb: 2 videos copied (512 bytes), 1 manifest written",
        "back/deep/c/c.nwb: 1 video copied (256 bytes), 1 manifest written",
        "total: 3 videos copied (768 bytes), 2 manifests written in 2 NWB files",
    ]
    assert [plan["nwb_path"] for plan in planned] == [
        str(lab / "back" / name) for name in ("good/good.nwb", "deep/c/c.nwb")
    ]
    for folder, videos in (("good", ["a.avi", "b.avi"]), ("deep/c", ["b.avi"])):
        for name in videos:
            assert (lab / "back" / folder / name).read_bytes() == (lab / "videos" / name).read_bytes()


def test_sessions_in_the_page_on_checking_are_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "videos").mkdir()
    for seed, name in enumerate(("mouse1", "mouse2_a")):
        make_video(tmp_path / "videos" / f"{name}.avi", seed)
    path = write_nwb(tmp_path / "recordings" / "mouse1.nwb", ["../videos/mouse1.avi"])
    with h5py.File(path, "r+") as file:
        file["acquisition/video/num_samples"][...] = 25
    write_nwb(tmp_path / "recordings" / "mouse2.nwb", ["../videos/mouse2_a.avi", "mouse2_b.avi"])
    monkeypatch.chdir(tmp_path)
    page = (request.config.rootpath / "docs" / "howto" / "check.md").read_text(encoding="utf-8")
    sessions = re.findall(r"(?s)```console\n(.*?)```", page)
    assert len(sessions) == 2
    for command, shown in re.findall(r"(?ms)^\$ nwb-extfiles (.*?)\n(.*?)(?=^\$ |\Z)", "".join(sessions)):
        assert with_slashes(CliRunner().invoke(main, command.split())).stdout == shown, command
    assert "external_file[0]" in (tmp_path / "findings.txt").read_text(encoding="utf-8")

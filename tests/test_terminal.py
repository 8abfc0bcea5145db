"""What a user sees, and what a program reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import set_paths, write_nwb
from makers import make_media
from servers import Server

from nwb_extfiles import ExternalFilesWarning, check, organize, relocate, resolve_external_files
from nwb_extfiles.cli.check_report import finding_lines
from nwb_extfiles.cli.summaries import in_words
from nwb_extfiles.cli.terminal import (
    as_json,
    organize_lines,
    outcome_lines,
    plain,
    reference_lines,
    reference_record,
    relocation_lines,
    relocation_record,
    shown,
)
from nwb_extfiles.hints import for_command_line
from nwb_extfiles.nwb import registry

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07.avi",
    "a\nERROR forged line\r\n.avi",
    "\u202efdp.avi",  # right to left
    "\udcff\udc80.avi",
    "\x00\x9b31m.avi",
    "\u2028.avi",
    "x" * 50_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_are_escaped(text: str) -> None:
    told = plain(text)
    assert told.isprintable()
    assert told.encode()


def test_printable_text_is_unchanged() -> None:
    text = "C:\\videos\\é 日本 🐭 'a'.avi"
    assert plain(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_paths_in_lines_and_json(tmp_path: Path, text: str) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    stored = text.replace("\0", "")
    value = stored.encode("utf-8", "surrogateescape")
    set_paths(path, "acquisition/video/external_file", np.array([value], dtype=object), dtype=h5py.string_dtype())
    with h5py.File(path, "r+") as file:
        file["acquisition"].move("video", "vi\x1b[31m\ndeo")
        file["acquisition"]["vi\x1b[31m\ndeo"].attrs["neurodata_type"] = "Evil\nnwb-extfiles: all is well"
        file["acquisition"]["vi\x1b[31m\ndeo"].attrs["object_id"] = "\x1b[0m"
    (found,) = resolve_external_files(path)
    assert found.reference.stored_path == stored
    with pytest.warns(ExternalFilesWarning):
        plan = relocate(path, dry_run=True, media_options={"missing": "keep"})
    lines = [*reference_lines(found), *finding_lines(check(path), width=100)]
    lines += [*relocation_lines(plan), *plan.warnings]
    assert "\n" not in str(found.problem)
    for line in lines:
        assert plain(line).isprintable()
        assert len(line) < 1500
    for record in (reference_record(found), relocation_record(plan)):
        again = json.loads(as_json(record))
        assert as_json(record).isascii()
        assert (again["stored_path"] if "stored_path" in again else again["media"][0]["stored_path"]) == stored


def test_paths_are_shown_relative_to_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    assert shown(tmp_path / "lab" / "a" / "b.nwb") == os.path.join("a", "b.nwb")
    assert shown("b.nwb") == "b.nwb"
    assert shown(tmp_path / "lab" / "..b.nwb") == "..b.nwb"
    assert shown(tmp_path / "b.nwb") == str(tmp_path / "b.nwb")
    assert shown(tmp_path) == str(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="a working directory cannot go there")
def test_paths_shown_without_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    (tmp_path / "lab").rmdir()
    assert shown(tmp_path / "a.nwb") == str(tmp_path / "a.nwb")


def test_messages_name_command_line_options(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["gone.avi", "C:\\gone.avi"])
    for found in resolve_external_files(path):
        told = for_command_line(found.problem)
        assert "media_options" not in told
        assert "--missing keep" in told
        assert ("--search FOLDER" in told) != ("--path-map OLD=NEW" in told)
    assert for_command_line(registry._HINT).endswith("or give --media-field TYPE FIELD")


def test_plan_report_of_media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = make_media(tmp_path / "videos" / "a.avi")
    paths = ["../videos/a.avi", "https://example.org/b.mp4", "gone.avi"]
    path = write_nwb(tmp_path / "nwb" / "a.nwb", paths)
    with h5py.File(path) as file:
        object_id = file["acquisition/video"].attrs["object_id"]
    target, size = f"nwb/a/{object_id}_external_file_0.avi", video.stat().st_size
    options = {"missing": "keep"}
    with pytest.warns(ExternalFilesWarning):
        plan = relocate(path, "copy", dry_run=True, media_options=options)
    assert [line.split() for line in relocation_lines(plan)] == [
        f"nwb/a.nwb: 1 video copied ({size} bytes), 1 video not found, 1 video kept as URLs".split(),
        ["copy", f"{size:,}", "bytes", "videos/a.avi", "->", target],
        ["keep", "'https://example.org/b.mp4'"],
        ["keep", "'gone.avi'"],
    ]
    record = relocation_record(plan)
    assert record["total_bytes"] == size
    assert record["media"][0]["source"] == str(video)
    assert record["media"][0]["target"] == str(tmp_path / target)
    assert (record["media"][0]["mode"], record["media"][0]["bytes"]) == ("copy", size)
    with pytest.warns(ExternalFilesWarning):
        relocate(path, "copy", media_options=options)
    with pytest.warns(ExternalFilesWarning):
        plan = relocate(path, "copy", dry_run=True, media_options=options)
    assert next(line for line in relocation_lines(plan) if target in line).split() == [
        "in", "place", f"{size:,}", "bytes", target,
    ]  # fmt: skip
    assert in_words([plan]).startswith("1 video already in place")
    path = path.rename(path.with_name("b.nwb"))
    with pytest.warns(ExternalFilesWarning):
        plan = relocate(path, dry_run=True, media_options=options)
    assert in_words([plan]).startswith("1 video renamed with the NWB file")


def test_paths_in_the_working_directory_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In plans as in all other lines; others are absolute."""
    video = make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["../videos/a.avi"])
    plan, organized = relocate(path, dry_run=True), organize(path, tmp_path / "nwb" / "ds", dry_run=True)
    for working_folder, source in ((tmp_path, "videos/a.avi"), (path.parent, str(video))):
        monkeypatch.chdir(working_folder)
        nwb = "nwb/" if working_folder == tmp_path else ""
        head, of_video = relocation_lines(plan)
        assert head == f"{nwb}a.nwb: 1 video linked"
        assert of_video.split()[3] == source
        assert of_video.split()[5].startswith(f"{nwb}a/")
        into, of_file, of_video = list(organize_lines(organized))[:3]
        assert into == f"into {nwb}ds"
        assert of_file.endswith(f"  {nwb}a.nwb -> {nwb}ds/{organized.files[0].target.relative_to(path.parent / 'ds')}")
        assert of_video.split()[3] == source
    (line,) = [line for line in relocation_lines(relocate(path, "reference", dry_run=True)) if "reference" in line]
    assert line.endswith("a.avi -> '../videos/a.avi'")


def test_long_lines_of_a_plan_are_parted_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_media(tmp_path / "a.avi")
    plan = relocate(write_nwb(tmp_path / "a.nwb", ["a.avi"]), dry_run=True)
    monkeypatch.chdir(tmp_path)
    one_line = list(relocation_lines(plan))
    assert list(relocation_lines(plan, width=200)) == one_line
    head, source, target = relocation_lines(plan, width=80)
    assert head == one_line[0]
    assert f"{source} {target.strip()}" == one_line[1]
    assert max(map(len, (head, source, target))) <= 80


def test_long_lines_of_references_are_parted_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{'a' * 60}.avi"
    make_media(tmp_path / name)
    (found,) = resolve_external_files(write_nwb(tmp_path / "a.nwb", [name]))
    *_, one_line = reference_lines(found)
    *_, stored, place = reference_lines(found, width=80)
    assert stored == f"    '{name}'"
    assert f"{stored} {place.strip()}" == one_line


def test_long_plans_end_with_a_count(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", [f"{n}.avi" for n in range(23)])
    for n in range(23):
        make_media(tmp_path / f"{n}.avi")
    plan = relocate(path, dry_run=True)
    lines = list(outcome_lines([plan] * 22, dry_run=True))
    assert lines.count("  … and 3 more paths; --json prints all") == 20
    assert lines[-2:] == [
        "… and 2 more NWB files; --json prints all",
        "nothing was changed; without --dry-run: 506 videos linked in 22 NWB files",
    ]
    assert len(lines) == 20 * 22 + 2
    assert list(outcome_lines([plan], dry_run=False)) == []
    assert list(outcome_lines([plan, plan], dry_run=False)) == ["total: 46 videos linked in 2 NWB files"]
    assert list(outcome_lines([], dry_run=False)) == ["total: 0 NWB files"]


def test_plan_report_of_downloads(tmp_path: Path, server: Server) -> None:
    size = (make_media(server.folder / "a.avi")).stat().st_size
    video = make_media(tmp_path / "videos" / "b.avi")
    url = server.url("a.avi")
    path = write_nwb(tmp_path / "nwb" / "a.nwb", [url, url, "../videos/b.avi"])
    options = {"urls": "download"}
    plan = relocate(path, "copy", dry_run=True, media_options=options)
    assert in_words([plan]) == (
        f"1 video copied ({video.stat().st_size:,} bytes), 2 videos downloaded ({size:,} bytes)"
    )
    organized = organize(path, tmp_path / "dandiset", dry_run=True, media_options=options)
    done = f"1 video linked, 2 videos downloaded ({size:,} bytes), 1 NWB file copied ({path.stat().st_size:,} bytes)"
    assert f"nothing was changed; without --dry-run: {done}" in list(organize_lines(organized))
    path = write_nwb(tmp_path / "nwb" / "a.nwb", [url])
    assert in_words([relocate(path, media_options=options)]) == f"1 video downloaded ({size:,} bytes)"


def test_organize_report_of_downloads(tmp_path: Path, server: Server) -> None:
    make_media(server.folder / "a.avi")
    path = write_nwb(tmp_path / "nwb" / "a.nwb", [server.url("a.avi")])
    plan = organize(path, tmp_path / "dandiset", media_options={"urls": "download"})
    assert plan.warnings == ()
    with (
        pytest.warns(ExternalFilesWarning, match="no paths of media to update"),
        pytest.warns(ExternalFilesWarning, match="refuses NWB files with URLs"),
    ):
        organize(path, tmp_path / "another")

"""Findings, references and plans, printed, in a notebook, and as data frames."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import set_paths, write_nwb
from makers import make_media
from pynwb import NWBHDF5IO

import nwb_extfiles
from nwb_extfiles import NWBExtFilesHDF5IO, organize, relocate, resolve_external_files
from nwb_extfiles.tables import TabularList, shortened

check = partial(nwb_extfiles.check, frames="none")  # the media here are no videos
DATASET = "acquisition/video/external_file"
HOSTILE = "<script>alert(1)</script>&\x1b[31m\n\u202e<b>日本\udcff.avi"


class Cells(HTMLParser):
    """The tags of an HTML fragment, and the text in its table and paragraphs."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(fragment)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_media(tmp_path / "videos" / "a.avi")
    write_nwb(tmp_path / "nwb" / "good.nwb", ["../videos/a.avi"])
    path = write_nwb(tmp_path / "nwb" / "hostile.nwb", ["a.avi"])
    stored = HOSTILE.encode("utf-8", "surrogateescape")
    set_paths(path, DATASET, np.array([stored, b"x" * 50_000], dtype=object), dtype=h5py.string_dtype())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables(lab: Path) -> dict[str, Any]:
    keep = {"missing": "keep"}
    with pytest.warns():
        return {
            "findings": check(lab / "nwb"),
            "finding": check(lab / "nwb" / "hostile.nwb")[0],
            "references": resolve_external_files(lab / "nwb"),
            "reference": resolve_external_files(lab / "nwb" / "hostile.nwb")[0],
            "plan": relocate(lab / "nwb" / "hostile.nwb", "copy", dry_run=True, media_options=keep),
            "plans": relocate([lab / "nwb"], "copy", dry_run=True, media_options=keep),
            "organize": organize([lab / "nwb"], lab / "ds", dry_run=True, media_options=keep),
        }


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", "80")
    return 80


def test_printed_tables_are_short_and_safe(lab: Path, narrow: int) -> None:
    for name, table in tables(lab).items():
        assert len(repr(table)) < 350, name
        for line in [repr(table), *str(table).split("\n")]:
            assert line.isprintable(), name
            assert line.encode(), name
        if name in ("findings", "references", "plan", "plans", "organize"):
            _, *lines = str(table).split("\n")
            assert len(lines) > 1, name
            assert max(map(len, lines)) <= narrow, name


def test_html_of_hostile_paths_is_escaped_and_well_formed(lab: Path) -> None:
    for name, table in tables(lab).items():
        fragment = table._repr_html_()
        assert len(fragment) < 10_000, name
        cells = Cells(fragment)
        assert cells.open == [], name
        assert fragment.startswith('<div class="tex2jax_ignore mathjax_ignore">'), name  # or $a$ were a formula
        assert {*cells.tags} <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}, name
        assert all(text.isprintable() for text in cells.text if text != "\n"), name
        if name != "organize":  # whose table has NWB files only
            assert any("<script>alert(1)</script>&\\x1b[31m\\n" in text for text in cells.text), name


def test_long_tables_say_how_many_rows_are_left_out(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", [f"{number}.avi" for number in range(150)])
    with pytest.warns():
        plan = relocate(path, dry_run=True, media_options={"missing": "keep"})
    for table in (check(path), resolve_external_files(path), plan):
        lines = str(table).split("\n")
        assert (len(lines), lines[-1]) == (23, "… and 130 more; to_dataframe() has all")
        cells = Cells(table._repr_html_())
        assert cells.tags.count("tr") == 101
        assert "… and 50 more; to_dataframe() has all" in cells.text
        assert len(table.to_dataframe()) == 150


def test_data_frames_have_what_the_files_hold(lab: Path) -> None:
    frames = {name: table.to_dataframe() for name, table in tables(lab).items()}
    references = frames["references"]
    assert references["stored_path"].tolist() == ["../videos/a.avi", HOSTILE, "x" * 50_000]
    assert references["index"].tolist() == [0, 0, 1]
    assert references["bytes"].tolist()[0] == (lab / "videos" / "a.avi").stat().st_size
    assert references["bytes"].isna().tolist() == [False, True, True]
    assert references["location"].tolist()[0] == str(lab / "videos" / "a.avi")
    assert [bool(text) for text in references["problem"].fillna("")] == [False, True, True]
    findings = frames["findings"]
    assert findings["code"].tolist() == ["outside-nwb-folder", "missing", "missing"]
    assert findings["severity"].tolist() == ["warning", "error", "error"]
    assert str(findings["index"].dtype) == str(references["bytes"].dtype) == "Int64"
    assert frames["plan"]["new_path"].tolist() == [HOSTILE, "x" * 50_000]
    assert frames["plan"]["action"].tolist() == ["keep", "keep"]
    assert sorted(Path(path).name for path in frames["organize"]["source"]) == ["good.nwb", "hostile.nwb"]


def test_empty_tables_have_columns(lab: Path) -> None:
    relocate(lab / "nwb" / "good.nwb")
    path = write_nwb(lab / "none.nwb", [])
    for table, title in (
        (check(lab / "nwb" / "good.nwb"), "1 NWB file: no problems found"),
        (resolve_external_files(path), "0 paths in 0 NWB files, 0 without media"),
        (relocate(path, dry_run=True), f"{path}: 0 media, media_mode 'symlink', 0 bytes"),
    ):
        assert str(table) == title
        assert Cells(table._repr_html_()).text == [title, "\n"]
        frame = table.to_dataframe()
        assert len(frame) == 0
        assert "stored_path" in frame.columns


def test_record_of_an_export_is_a_table(lab: Path) -> None:
    with NWBHDF5IO(lab / "nwb" / "good.nwb", "r") as source, NWBExtFilesHDF5IO(lab / "out" / "a.nwb", "w") as io:
        io.export(src_io=source, relocate_media=True, media_mode="copy")
    frame = io.relocation.to_dataframe()
    (target,) = frame["target"]
    assert Path(target).read_bytes() == (lab / "videos" / "a.avi").read_bytes()
    assert "copy" in str(io.relocation)
    assert "st_ino" not in repr(io.relocation)
    assert len(repr(io.relocation.relocations)) < 300


def test_plans_of_several_files_are_a_list_and_one_table(lab: Path) -> None:
    good, hostile = lab / "nwb" / "good.nwb", lab / "nwb" / "hostile.nwb"
    with pytest.warns():
        plans = relocate([good, hostile], "copy", media_options={"missing": "keep"})
    first, second = plans
    assert (first.nwb_path, second.nwb_path, len(plans), plans[-1]) == (good, hostile, 2, second)
    size = (lab / "videos" / "a.avi").stat().st_size
    assert repr(plans) == f"<RelocationPlans: 2 NWB files: 1 media, {size:,} bytes>"
    frame = plans.to_dataframe()
    assert frame["nwb_path"].tolist() == [str(good), str(hostile), str(hostile)]
    assert frame["mode"].tolist() == ["copy", "keep", "keep"]
    assert len(str(plans).split("\n")) == 5
    assert str(plans[:0]) == "0 NWB files: 0 media, 0 bytes"


def test_tables_of_many_plans_count_the_references_that_are_left_out(tmp_path: Path) -> None:
    write_nwb(tmp_path / "a.nwb", [f"{number}.avi" for number in range(15)])
    write_nwb(tmp_path / "b.nwb", [f"{number}.avi" for number in range(15)])
    with pytest.warns():
        plans = relocate(tmp_path, dry_run=True, media_options={"missing": "keep"})
    assert str(plans).split("\n")[-1] == "… and 10 more; to_dataframe() has all"


def test_lists_of_findings_stay_lists(lab: Path) -> None:
    findings = check(lab / "nwb")
    assert list(findings) == findings == [*findings]
    some = findings[1:]
    assert isinstance(some, TabularList)
    assert (some, some.nwb_paths) == ([*findings][1:], findings.nwb_paths)
    assert isinstance(resolve_external_files(lab / "nwb")[:1], TabularList)
    again = pickle.loads(pickle.dumps(findings))
    assert (again, again.nwb_paths, str(again)) == (findings, findings.nwb_paths, str(findings))


@pytest.mark.parametrize("width", [1, 2, 12, 13, 40])
@pytest.mark.parametrize("text", ["", "a/b.avi", "0123456789" * 10, "日本" * 30, "e\u0301" * 50, "a日" * 20])
def test_shortened_lines_fit_their_columns(text: str, width: int) -> None:
    import unicodedata

    told = shortened(text, width)
    taken = sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in told)
    assert taken <= width
    assert told == text or "…" in told


def test_pandas_is_loaded_when_used(lab: Path) -> None:
    code = (
        "import sys; from nwb_extfiles import check; found = check('nwb'); print(found, found._repr_html_());"
        "print('pandas' in sys.modules); found.to_dataframe(); print('pandas' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.splitlines()[-2:] == ["False", "True"]

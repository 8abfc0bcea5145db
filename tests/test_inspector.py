"""The findings of `check`, as NWB Inspector reports them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import set_paths, write_nwb
from makers import make_media

from nwb_extfiles import check, relocate
from nwb_extfiles.tasks.check.findings import Severity

IMPORTANCE = {"error": "CRITICAL", "warning": "BEST_PRACTICE_VIOLATION", "info": "BEST_PRACTICE_SUGGESTION"}


def inspected(path: Path, report: Path, *words: str) -> list[dict[str, Any]]:
    """What the command of NWB Inspector reports about external media."""
    command = [str(Path(sys.executable).with_name("nwbinspector")), str(path), "--modules", "nwb_extfiles.inspector"]
    done = subprocess.run(
        [*command, "--json-file-path", str(report), "--overwrite", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    messages = json.loads(report.read_text(encoding="utf-8"))["messages"]
    return [message for message in messages if message["check_function_name"].startswith("check_external_media")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("videos/a.avi", "nwb/near.avi"):
        make_media(tmp_path / name)
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["gone.avi", "../videos/a.avi", "near.avi", "x"])
    values = [b"gone.avi", b"../videos/a.avi", b"near.avi", b"\x1b[31m\nforged \xff.avi"]
    set_paths(path, "acquisition/video/external_file", np.array(values, dtype=object), dtype=h5py.string_dtype())
    relocate(write_nwb(tmp_path / "nwb" / "good.nwb", ["../videos/a.avi"]))
    return tmp_path / "nwb"


@pytest.mark.parametrize("words", [("--config", "dandi"), ("--n-jobs", "2")], ids=["as DANDI does", "processes"])
def test_nwbinspector_reports_the_findings_of_check(folder: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    messages = inspected(folder, tmp_path / "report.json", "--skip-validate", *words)
    findings = check(folder)
    assert {finding.severity for finding in findings} == {*IMPORTANCE}
    told = sorted((message["message"].partition(":")[0], message["importance"]) for message in messages)
    assert told == sorted((finding.code, IMPORTANCE[finding.severity]) for finding in findings)
    (missing,) = [message["message"] for message in messages if "'gone.avi'" in message["message"]]
    assert missing.startswith(
        "missing: ImageSeries '/acquisition/video', external_file[0] 'gone.avi': there is no file"
    )
    assert all(message["message"].isprintable() for message in messages)


def test_nwbinspector_selects_checks_by_severity(folder: Path, tmp_path: Path) -> None:
    messages = inspected(folder / "a.nwb", tmp_path / "report.json", "--select", "check_external_media_errors")
    assert {message["importance"] for message in messages} == {"CRITICAL"}
    assert len(messages) == check(folder / "a.nwb").counts[Severity.ERROR] > 1


def test_nwb_files_in_memory_have_no_findings() -> None:
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r});"
        "from helpers import new_nwbfile, image_series; from nwb_extfiles import inspector;"
        "from nwbinspector import inspect_nwbfile_object; nwbfile = new_nwbfile();"
        "nwbfile.add_acquisition(image_series(['gone.avi']));"
        "print(inspector.check_external_media_errors(nwbfile))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"

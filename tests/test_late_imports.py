"""Modules of other packages that are run without what they import: what they do must be the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nwb_extfiles.late_imports import with_late_imports

HEAVY = "LOADED = True\nLIMIT = 3\ndef twice(x): return 2 * x\nclass Kind: pass\n"
LIGHT = """
from __future__ import annotations
import re
import made_up.heavy
from .heavy import Kind, LIMIT, twice

def digits(value): return re.sub(r"[^0-9]", "", value)
def doubled(value): return twice(value)
def is_kind(value): return isinstance(value, Kind)
def is_limit(value): return LIMIT == value
def by_module(value): return made_up.heavy.twice(value)
def further(value):
    from .heavy import twice as also
    return also(value) if LIMIT else None
"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a module that is slow to import, and one that imports it."""
    folder = tmp_path / "made_up"
    folder.mkdir()
    for name, code in (("__init__", ""), ("heavy", HEAVY), ("light", LIGHT)):
        (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "made_up"]:
        del sys.modules[name]


def test_what_a_module_imports_is_loaded_when_it_is_used(made_up: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from nwb_extfiles.late_imports import with_late_imports;"
        "light = with_late_imports('made_up.light'); is_there = lambda: 'made_up.heavy' in sys.modules;"
        "print(light.digits('a1b2'), is_there(), 'made_up.light' in sys.modules);"
        "print(light.doubled(2), is_there(), light.by_module(1), light.further(3));"
        "from made_up.heavy import Kind; print(light.is_kind(Kind()), light.is_kind(1));"
        "print(light.is_limit(3), light.is_limit(4), light.is_limit(light.LIMIT))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(made_up.parent)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        "12 False False", "4 True 2 6", "True False", "True False True"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "at_once",
    ["class Own(Kind): pass", "MOST = LIMIT + 1", "from .heavy import *\nFOUR = LIMIT + 1", "TABLE = {LIMIT: 1}"],
)
def test_module_that_uses_at_once_what_it_imports_is_imported_as_it_is(made_up: Path, at_once: str) -> None:
    imports, function = "from .heavy import LIMIT, Kind, twice", "def doubled(value): return twice(value)"
    (made_up / "light.py").write_text(f"{imports}\n{at_once}\n{function}")
    assert with_late_imports("made_up.light").doubled(4) == 8
    assert "made_up.heavy" in sys.modules


def test_module_that_is_loaded_is_not_run_again() -> None:
    import dandi.organize

    assert with_late_imports("dandi.organize") is dandi.organize


def test_module_that_is_not_there_is_missed() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"dandi\.no_such_module"):
        with_late_imports("dandi.no_such_module")


def test_names_of_dandi_are_the_same_with_late_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    import dandi.organize

    monkeypatch.delitem(sys.modules, "dandi.organize")
    late: Any = with_late_imports("dandi.organize")
    assert late is not dandi.organize
    rows = [
        {"path": f"{number}.nwb", "subject_id": "m_1", "session_id": session, "extension": ".nwb",
         "session_start_time": "2026-01-02T03:04:05", "modalities": ["image"], "probe_ids": [number]}
        for number, session in enumerate(["a.b", None, "a.b", "c"])
    ]  # fmt: skip
    found = []
    for module in (dandi.organize, late):
        mine = [dict(row) for row in rows]
        module._populate_session_ids_from_time(mine)
        module._assign_dandi_names(mine)
        values = module._get_unique_values(mine, module.dandi_layout_fields)
        found.append((mine, values, module._get_non_unique_paths(mine), module._sanitize_value("a_b.c", "session_id")))
    assert found[0] == found[1]

"""Packaging, versions, and what importing costs. In ``pyproject.toml``, import-linter has the rest."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from helpers import combinations_to_run, write_nwb
from ruamel.yaml import YAML

import nwb_extfiles

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "nwb_extfiles"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_packages_have_docstrings() -> None:
    """Each ``__init__.py`` says what its package holds, and does nothing else; ``cli`` is where the command is."""
    for path in {*PACKAGE.glob("*/**/__init__.py")} - {PACKAGE / "cli" / "__init__.py"}:
        (line,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(line, ast.Expr)


def test_one_combination_of_each_test_runs() -> None:
    """Whatever ``--one-in`` says."""
    names = ["a::one", "a::two[x]", "a::two[y]", *(f"b::two[{number}]" for number in range(5))]
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    assert [item.nodeid for item in combinations_to_run(items, 3)] == ["a::one", "a::two[x]", "b::two[0]", "b::two[3]"]
    assert [item.nodeid for item in combinations_to_run(items, 9)] == ["a::one", "a::two[x]", "b::two[0]"]
    assert combinations_to_run(items, 1) == items


def test_import_is_light() -> None:
    """The pytest plugin loads nothing; the package neither dandi nor hdmf-zarr, nor pynwb before it is used."""
    code = (
        "import sys, pytest; before = set(sys.modules); import nwb_extfiles.pytest_plugin;"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('nwb_extfiles')));"
        "print(sorted(name for name in sys.modules if name.startswith('nwb_extfiles')));"
        "import nwb_extfiles.cli;"
        "print(sorted({'dandi', 'hdmf_zarr', 'zarr', 'pynwb', 'hdmf', 'tqdm', 'fsspec'} & set(sys.modules)));"
        "nwb_extfiles.NWBExtFilesHDF5IO;"
        "print(sorted({'dandi', 'hdmf_zarr'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n['nwb_extfiles', 'nwb_extfiles.pytest_plugin']\n[]\n[]\n"


def test_everything_in_all_exists() -> None:
    assert all(hasattr(nwb_extfiles, name) for name in nwb_extfiles.__all__)
    assert set(nwb_extfiles.__all__) <= set(dir(nwb_extfiles))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        nwb_extfiles.nonsense  # noqa: B018
    assert (PACKAGE / "py.typed").exists()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load_yaml(name: str) -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))
    return values


def test_version_is_stated_once() -> None:
    """The build reads it from the package; what cannot do so agrees."""
    version = nwb_extfiles.__version__
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in load_yaml("CITATION.cff")
    assert load_yaml("ndx-meta.yaml")["version"] == version
    assert load_yaml("spec/ndx-extfiles.namespace.yaml")["namespaces"][0]["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_dependency_lists_agree() -> None:
    """The conda recipe, the oldest versions that are tested, and pyproject.toml; of the extras, PyAV is among them."""
    wanted = {re.sub(r"\s", "", line) for line in PROJECT["dependencies"]}
    video = {*PROJECT["optional-dependencies"]["video"]}
    recipe = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    (run,) = re.findall(r"(?m)^  run:\n((?:    - .*\n)+)", recipe)
    assert {line.removeprefix("    - ").replace(" ", "") for line in run.splitlines()} == {
        *wanted,
        f"python{PROJECT['requires-python']}",
    }
    (constrained,) = re.findall(r"(?m)^  run_constrained:\n((?:    - .*\n)+)", recipe)
    assert {line.removeprefix("    - ").replace(" ", "") for line in constrained.splitlines()} == video
    oldest = (ROOT / ".ci" / "oldest.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^([\w.-]+)==", oldest)) == {name.partition(">=")[0] for name in wanted | video}


def test_messages_name_the_extras() -> None:
    """They name packages on PyPI, so that they also help where the package was not installed from a clone."""
    advised = {
        requirement
        for path in MODULES
        for requirement in re.findall(r'pip install "([^"]+)"', path.read_text(encoding="utf-8"))
    }
    extras = PROJECT["optional-dependencies"]
    assert advised == {*extras["zarr"], *extras["urls"], *extras["video"]}


@pytest.mark.parametrize("lacking", [None, "nwb_extfiles/py.typed", "nwb_extfiles/spec/ndx-extfiles.namespace.yaml"])
def test_distribution_check_finds_missing_files(tmp_path: Path, lacking: str | None) -> None:
    check_dist = runpy.run_path(str(ROOT / ".ci" / "check_dist.py"))
    with ZipFile(tmp_path / "nwb_extfiles-1.2-py3-none-any.whl", "w") as wheel:
        for name in check_dist["IN_WHEEL"] - {lacking}:
            wheel.writestr(name, "")
    with tarfile.open(tmp_path / "nwb_extfiles-1.2.tar.gz", "w:gz") as sdist:
        for name in check_dist["IN_SDIST"]:
            sdist.addfile(tarfile.TarInfo(f"nwb_extfiles-1.2/{name}"))
    missing = [f"nwb_extfiles-1.2-py3-none-any.whl lacks {lacking}"] if lacking else []
    assert check_dist["problems"](tmp_path, "v1.2") == missing
    (other,) = check_dist["problems"](tmp_path, "v1.3")
    assert "nwb_extfiles-1.3.tar.gz for the tag v1.3; found nwb_extfiles-1.2" in other


def test_modules_do_not_hide_what_the_package_exports() -> None:
    """Importing a submodule binds its name in the package, over a function of that name."""
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert not modules & set(nwb_extfiles.__all__)
    code = "from nwb_extfiles import Finding, check, relocate; assert callable(check) and callable(relocate)"
    subprocess.run([sys.executable, "-c", code], check=True)


FAST = {
    "--help": ["--help"],
    "version": ["--version"],
    "help of ls": ["ls", "--help"],
    "help of relocate": ["relocate", "--help"],
    "help of organize": ["organize", "--help"],
    "ls": ["ls", "a.nwb"],
    "ls --json": ["ls", "--json", "."],
    "ls --media": ["ls", "--media", "video.avi", "."],
    "check": ["check", "."],
    "check --json": ["check", "--json", "a.nwb"],
    "report": ["report", "a.nwb"],
    "relocate": ["relocate", "a.nwb"],
    "recover": ["recover", "a.nwb"],
}


@pytest.mark.parametrize("command", FAST)
def test_command_line_starts_fast(tmp_path: Path, command: str) -> None:
    """Pynwb and dandi take seconds to import. Commands that list and check import neither."""
    (tmp_path / "video.avi").write_bytes(b"video")
    write_nwb(tmp_path / "a.nwb", ["video.avi", "gone.avi"] if command != "relocate" else ["video.avi"])
    code = (
        "import sys\n"
        "from nwb_extfiles.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert end.code in (0, 1), end.code\n"
        "slow = {'pynwb', 'hdmf', 'dandi', 'hdmf_zarr', 'zarr', 'pandas', 'nwbinspector'} & set(sys.modules)\n"
        "print(sorted(slow), 'h5py' in sys.modules, file=sys.stderr)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *FAST[command]], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert run.stdout.strip()
    assert run.stderr.splitlines()[-1] == f"[] {'help' not in command and command != 'version'}"

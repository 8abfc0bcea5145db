"""The house: floors, imports, and what the package promises about itself."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import write_nwb

import nwb_extfiles

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "nwb_extfiles"

# A module imports only from floors below its own; docs/architecture.md draws this.
FLOORS = (
    {"batch", "errors", "films", "filesystem", "modalities", "naming", "probe", "registry", "storage", "walk"},
    {"archive", "contents", "layout", "manifest", "options", "references", "remote", "threads"},
    {"folder_journal", "moves", "ndx", "parts", "progress", "resolve", "urls"},
    {"download", "journal", "locate", "targets", "zarr_store"},
    {"mappers", "plan", "staging", "stores"},
    {"inventory", "planning", "readers", "staged", "testing"},
    {"pytest_plugin", "relocation", "transfer"},
    {"inplace"},
    {"dandiset", "discovery", "neuroconv", "refusals"},
    {"backend", "checks", "organizing"},
    {"hdf5", "restoring", "terminal", "zarrio"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
FACES = {"__init__"}  # re-exports; cli asks it for the version
KNOW_PYNWB = {"discovery", "ndx", "relocation", "refusals", "mappers", "backend", "hdf5", "zarrio", "demo", "testing"}


def imports(module: Path) -> tuple[set[str], set[str]]:
    """Modules of the package and top-level packages from elsewhere that a module imports, wherever in it."""
    own, other = set(), set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            own |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            other.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Import):
            other |= {alias.name.partition(".")[0] for alias in node.names}
    return own, other


def test_every_module_has_its_floor() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - FACES
    assert modules == set().union(*FLOORS)
    assert sum(map(len, FLOORS)) == len(modules)


@pytest.mark.parametrize("level", range(len(FLOORS)))
def test_imports_go_down(level: int) -> None:
    below = set().union(*FLOORS[:level])
    for module in FLOORS[level]:
        own, _ = imports(PACKAGE / f"{module}.py")
        assert own - {"__version__"} <= below, module


def test_few_know_pynwb() -> None:
    know = set()
    for path in PACKAGE.glob("*.py"):
        source = path.read_text().replace(
            "if TYPE_CHECKING:\n    from hdmf.build", "if TYPE_CHECKING:\n    from typing"
        )
        tree = ast.parse(source)
        names = {
            (node.module or "").partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and not node.level
        }
        if names & {"pynwb", "hdmf"}:
            know.add(path.stem)
    assert know == KNOW_PYNWB


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


def test_everything_promised_is_there() -> None:
    assert all(hasattr(nwb_extfiles, name) for name in nwb_extfiles.__all__)
    assert set(nwb_extfiles.__all__) <= set(dir(nwb_extfiles))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        nwb_extfiles.nonsense  # noqa: B018
    assert (PACKAGE / "py.typed").exists()


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == nwb_extfiles.__version__
    assert f"## {nwb_extfiles.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_modules_do_not_hide_what_the_package_exports() -> None:
    """Importing a submodule binds its name in the package, over a function of that name."""
    modules = {path.stem for path in PACKAGE.glob("*.py")}
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
    "ls --media": ["ls", "--media", "film.avi", "."],
    "check": ["check", "."],
    "check --json": ["check", "--json", "a.nwb"],
    "relocate": ["relocate", "a.nwb"],
    "recover": ["recover", "a.nwb"],
}


@pytest.mark.parametrize("command", FAST)
def test_commands_start_fast(tmp_path: Path, command: str) -> None:
    """Pynwb and dandi take seconds to import; those who list and check wait for neither."""
    (tmp_path / "film.avi").write_bytes(b"film")
    write_nwb(tmp_path / "a.nwb", ["film.avi", "gone.avi"] if command != "relocate" else ["film.avi"])
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

"""The documentation covers the whole interface, and the links of README work. Sphinx checks those of the pages."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import textwrap
import tomllib
from pathlib import Path

import click

import nwb_extfiles.errors
from nwb_extfiles.cli import main
from nwb_extfiles.media.inventory import MediaState
from nwb_extfiles.tasks.check.findings import CODES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "nwb_extfiles"


def test_readme_links_exist() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_badges_match_project_metadata() -> None:
    badges = set(
        re.findall(r"!\[([^]]+)\]\(https://img\.shields\.io/badge/", (ROOT / "README.md").read_text(encoding="utf-8"))
    )
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (bound,) = re.findall(r"--cov-fail-under=(\d+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert settings["tool"]["coverage"]["run"]["branch"]
    assert settings["tool"]["mypy"]["strict"]
    assert badges == {
        f"Python {settings['project']['requires-python'].removeprefix('>=')} or newer",
        f"License {settings['project']['license']}",
        f"Branch coverage {bound} % or more",
        "Types checked by mypy, strict",
    }


def test_every_public_name_is_in_reference() -> None:
    reference = (DOCS / "reference" / "api.rst").read_text(encoding="utf-8")
    names = {*nwb_extfiles.__all__, "NWBExtFilesZarrIO"}
    assert names - set(re.findall(r":: nwb_extfiles\.(\w+)$", reference, re.MULTILINE)) == set()


def test_every_error_and_finding_code_is_documented() -> None:
    page = (DOCS / "howto" / "errors.md").read_text(encoding="utf-8")
    errors = {name for name in nwb_extfiles.errors.__all__ if name.endswith(("Error", "Warning"))}
    assert {name for name in errors if name not in page} == set()
    assert {code for code in CODES if f"`{code}`" not in page} == set()


def test_every_finding_code_is_used() -> None:
    """The list has no code that no check makes any more; a finding with another code cannot be made."""
    source = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "tasks" / "check").glob("*checks.py"))
    made = {f"media-{state}" for state in MediaState if state.is_bad}
    assert {code for code in CODES if f'"{code}"' not in source} <= made <= set(CODES)
    assert list(CODES) == sorted(set(CODES))


def test_every_media_option_is_in_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in readme.splitlines() if line.startswith("| `media_options=`")]
    fields = {name for name in nwb_extfiles.MediaOptions.__dataclass_fields__ if not name.startswith("_")}
    assert fields == set(re.findall(r"`(\w+)`", line)) - {"MediaOptions"}


def test_names_imported_in_docs_exist() -> None:
    """Each block of Python in the pages can be parsed, and all names that it imports from this package exist."""
    pages = [ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("*/*.md")]
    blocks = [
        (page.name, block)
        for page in pages
        for block in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", page.read_text(encoding="utf-8"))
    ]
    assert len(blocks) > 10
    for page, block in blocks:
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "nwb_extfiles":
                module = importlib.import_module(str(node.module))
                assert [name.name for name in node.names if not hasattr(module, name.name)] == [], page


def test_commands_shown_in_docs_exist() -> None:
    """Each ``nwb-extfiles <command> --option`` in pages and tutorials exists."""
    pages = [ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("*/*.md"), *DOCS.glob("gallery/*.py")]
    shown = [
        (page.name, *match)
        for page in pages
        for match in re.findall(
            r"(?m)(?:^ *#? *|`|\"|bin/)nwb-extfiles ([a-z]\w*)((?: [^`\n#]*)?)", page.read_text(encoding="utf-8")
        )
    ]
    assert len(shown) > 10
    for page, name, arguments in shown:
        command = main.commands.get(name)
        assert isinstance(command, click.Command), (page, name)
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for option in re.findall(r" (--?[a-z][a-z-]*)", arguments):
            assert option in options, (page, name, option)


def test_architecture_lists_every_module() -> None:
    """Each module is in the table, in its package."""
    package, listed = "", set()
    table = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("| package |")[2]
    for first, names in re.findall(r"(?m)^\| (.*?) ?\| (`.+?) \|", table):
        package = re.findall(r"`([\w/]+)`", first)[0] if first else package
        folder = "" if package == "nwb_extfiles" else f"{package}/"
        listed |= {f"{folder}{name}.py" for name in re.findall(r"`(\w+)`", names)}
    modules = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    assert listed == modules


def test_test_files_named_in_docs_exist() -> None:
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("promises.md", "contributing.md")]
    names = {name for page in pages for name in re.findall(r"`(?:tests/)?((?:\w+/)?test_\w+)(?:\.py)?`", page)}
    assert len(names) > 30
    assert {name for name in names if not (ROOT / "tests" / f"{name}.py").exists()} == set()


def test_names_in_architecture_exist() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:disk|io|media|naming|nwb|plans|tasks|transfers|web)\.[\w.]+)`", page))
    for name in names - {"io.relocation"}:  # the attribute of an IO
        pkgutil.resolve_name(f"nwb_extfiles.{name}")
    assert {path for path in re.findall(r"\b\w+/\w+\.py\b", page) if not (PACKAGE / path).exists()} == set()

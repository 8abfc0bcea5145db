"""Code, messages and pages use the words of neuroscientists and of pynwb: ``words.toml`` has them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))
WORDS = {re.compile(word, re.IGNORECASE): instead for word, instead in TABLE["words"].items()}
PATTERNS = (
    *("*.md", "*.toml", "*.yaml", "*.cff", ".*.yaml", ".ci/*", ".github/**/*.*", "recipe/*", "spec/*"),
    *("docs/**/*.md", "docs/**/*.rst", "docs/**/*.py", "src/**/*.py", "tests/**/*.py"),
)
THIS = "tests/test_words.py"  # whose own test has the words
MADE = re.compile(r"docs/(_build|tutorials|sg_execution_times|(reference|explain)/_)")  # by the build of the pages
FILES = sorted(
    name
    for name in {path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern)}
    if (ROOT / name).is_file() and not MADE.match(name) and "__pycache__" not in name and name != THIS
)


def problems(name: str) -> Iterator[str]:
    """Each line of a file with a word that it should not use, and what to write instead."""
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
        for word, instead in WORDS.items():
            for found in word.finditer(line):
                yield f"{name}:{number}: {found[0]!r}: {instead}"


@pytest.mark.parametrize("name", FILES)
def test_no_banned_words(name: str) -> None:
    assert [*problems(name)] == []


def test_check_finds_banned_words() -> None:
    old = "Nothing tells of it until somebody wants to see the film; the texts lead nowhere."
    assert len([word for word in WORDS if word.search(old)]) == 4
    new = "Nobody notices until they open the video; `plan.new_paths`, `make_film` and the text of a message are fine."
    assert not [word for word in WORDS if word.search(new)]

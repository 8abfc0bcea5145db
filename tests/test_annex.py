"""Files of git-annex are recognized by their location or their content."""

from __future__ import annotations

from pathlib import Path

import pytest

from nwb_extfiles.disk.annex import LONGEST_POINTER, is_annex_object, is_annex_pointer
from nwb_extfiles.plans.media_files import media_file

KEY = "MD5E-s5--1.avi"


def store(git: Path) -> Path:
    """An object as git-annex keeps it."""
    place = git / "annex" / "objects" / "xx" / "yy" / KEY / KEY
    place.parent.mkdir(parents=True)
    place.write_bytes(b"video")
    return place


def test_annexed_files_are_recognized(tmp_path: Path) -> None:
    content = store(tmp_path / "repository" / ".git")
    (link := tmp_path / "repository" / "a.avi").symlink_to(content.relative_to(tmp_path / "repository"))
    (tmp_path / "link.avi").symlink_to(link)
    assert [is_annex_object(path) for path in (content, link, tmp_path / "link.avi")] == [True] * 3
    assert not any(is_annex_pointer(path) for path in (content, link))


def test_annexed_files_of_bare_repositories_and_submodules(tmp_path: Path) -> None:
    for folder in (tmp_path / "bare.git", tmp_path / "super" / ".git" / "modules" / "sub"):
        content = store(folder)
        assert not is_annex_object(content)  # a folder that only has that name
        (folder / "HEAD").write_text("ref: refs/heads/main\n")
        assert is_annex_object(content)


def test_other_files_are_not_annexed(tmp_path: Path) -> None:
    (plain := tmp_path / "annex" / "objects" / "a.avi").parent.mkdir(parents=True)
    plain.write_bytes(b"video")
    for path in (plain, tmp_path / "gone.avi", tmp_path):
        assert not is_annex_object(path)
        assert not is_annex_pointer(path)


@pytest.mark.parametrize("end", ["\n", "", "\nfurther lines\n"])
def test_pointer_files_are_recognized(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.avi"
    path.write_text(f"/annex/objects/{KEY}{end}")
    assert is_annex_pointer(path)
    assert "git-annex" in str(media_file(path))
    (tmp_path / "link.avi").symlink_to("a.avi")
    assert "git-annex" in str(media_file(tmp_path / "link.avi"))
    path.write_text(f"/annex/objects/{KEY}" + "x" * LONGEST_POINTER)
    assert not is_annex_pointer(path)


def test_annexed_links_without_content(tmp_path: Path) -> None:
    for name, target in (
        ("a.avi", f".git/annex/objects/x/{KEY}"),
        ("b.avi", "a.avi"),
        ("c.avi", f"../x.git/annex/objects/x/{KEY}"),
    ):
        (tmp_path / name).symlink_to(target)
        assert is_annex_pointer(tmp_path / name)
    (tmp_path / "d.avi").symlink_to("gone/annex.avi")
    assert not is_annex_pointer(tmp_path / "d.avi")

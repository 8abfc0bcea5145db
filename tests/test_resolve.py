"""From a stored path to the file that it means, whatever the path is."""

from __future__ import annotations

import os
import socket
import sys
import tracemalloc
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nwb_extfiles import MediaOptions
from nwb_extfiles.errors import AmbiguousMediaError, ExternalFilesError, MissingMediaError, UnsafeReferenceError
from nwb_extfiles.naming import unportable
from nwb_extfiles.nwb.references import ExternalFileReference
from nwb_extfiles.plans.resolve import Resolution, resolve, resolve_all
from nwb_extfiles.plans.stored_paths import is_absolute, is_url

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
ROOT = Path.cwd().anchor.replace("\\", "/")
posix = pytest.mark.skipif(os.name == "nt", reason="spellings that Windows reads otherwise")


def video(path: Path, content: bytes = b"video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def look(text: str, base: Path | None = None, **kwargs: Any) -> Resolution:
    """Resolve a path stored in an NWB file in `base`, or in a container in memory."""
    destination = Path(kwargs.pop("destination", base or "/nonexistent"))
    working_folder = Path(kwargs.pop("working_folder", "/"))
    reference = ExternalFileReference(
        nwb_path="/out/new.nwb",
        object_path="/acquisition/video",
        neurodata_type="ImageSeries",
        object_id="933f8cf6-9e4b-405f-8cad-cc031d1fafc9",
        field="external_file",
        index=2,
        stored_path=text,
        base=None if base is None else str(base),
    )
    options = MediaOptions(**kwargs)
    with chdir(working_folder):
        found = resolve(reference, options, destination=destination)
    assert found.reference is reference
    assert (found.file is not None) + found.url + (found.problem is not None) == 1
    return found


def file(text: str, base: Path | None = None, **kwargs: Any) -> Path:
    """The path of the file that a stored path means."""
    found = look(text, base, **kwargs)
    assert found.file is not None, found.problem
    assert found.file.path.is_absolute()
    assert found.file.real == Path(os.path.realpath(found.file.path))
    status = found.file.path.stat()
    assert found.file.identity == (status.st_dev, status.st_ino)
    assert found.file.size == status.st_size
    return found.file.path


def problem(text: str, base: Path | None = None, **kwargs: Any) -> ExternalFilesError:
    """What is wrong with a stored path. The message says where it is stored."""
    found = look(text, base, **kwargs)
    assert found.problem is not None, found.file
    error = found.problem
    assert (error.nwb_path, error.object_path, error.field, error.index) == (
        "/out/new.nwb",
        "/acquisition/video",
        "external_file",
        2,
    )
    assert "/out/new.nwb: ImageSeries '/acquisition/video', external_file[2]" in str(error)
    return error


# ------------------------------------------------------------------------- URLs

URLS = [
    "http://example.org/a.avi",
    "https://example.org/a.avi?x=1#t",
    "HTTPS://example.org/a.avi",
    "s3://bucket/key/a.avi",
    "gs://bucket/a.avi",
    "ftp://host/a.avi",
    "rtsp://host/live",
    "git+ssh://host/a.avi",
    "data:video/mp4;base64,AAAA",
    "zip+s3://bucket/a.zip!/x.avi",
]


@pytest.mark.parametrize("text", URLS)
def test_urls_are_recognized(text: str, tmp_path: Path) -> None:
    assert is_url(text)
    found = look(text, tmp_path)
    assert found.url
    assert look(text, None).url
    assert look(text, tmp_path, within=tmp_path, search=tmp_path).url


def test_url_wins_over_a_file_of_that_name(tmp_path: Path) -> None:
    video(tmp_path / "http:" / "example.org" / "a.avi")
    assert look("http://example.org/a.avi", tmp_path).url


@pytest.mark.parametrize(
    "text",
    [
        "file:///a.avi",
        "FILE:///a.avi",
        "C:/a.avi",
        "C:\\a.avi",
        "C://a.avi",
        "a.avi",
        "/a.avi",
        "://a",
        "é://a",
        "",
        "1://a",
    ],
)
def test_other_paths_are_not_urls(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b.avi", True),
        ("a/b.avi", False),
        ("./a", False),
        ("../a", False),
        ("C:\\a.avi", True),
        ("c:/a.avi", True),
        ("C:a.avi", False),
        ("\\\\server\\share\\a.avi", True),
        ("//server/share/a.avi", True),
        ("file:///a.avi", True),
        ("File:///a.avi", True),
        ("~/a.avi", False),
        ("", False),
    ],
)
def test_absolute_paths_are_recognized(text: str, expected: bool) -> None:
    assert is_absolute(text) is expected


# ----------------------------------------------------------------------- file://


def test_file_url(tmp_path: Path) -> None:
    mark = "" if os.name == "nt" else "?"  # which Windows has in no name
    path = video(tmp_path / f"with space & 100% ümläut#1{mark}.avi")
    assert file(path.as_uri(), Path("/nonexistent")) == path
    assert file(path.as_uri()) == path


@pytest.mark.parametrize("host", ["", "localhost"])
@pytest.mark.parametrize("scheme", ["file", "FILE", "File"])
def test_file_url_of_this_machine(tmp_path: Path, scheme: str, host: str) -> None:
    path = video(tmp_path / "a b.avi")
    folder = tmp_path.as_uri().removeprefix("file://")  # with a slash before the drive of Windows
    assert file(f"{scheme}://{host}{folder}/a%20b.avi", tmp_path) == path
    assert file(f"{scheme}://{host}{folder}/a b.avi", tmp_path) == path


def test_file_url_host_ignores_case(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi")
    assert file(path.as_uri().replace("file://", "file://LOCALHOST"), tmp_path) == path


def test_file_url_of_another_machine(tmp_path: Path) -> None:
    video(tmp_path / "a.avi")
    error = problem(tmp_path.as_uri().replace("file://", "file://lab-server") + "/a.avi", tmp_path)
    assert isinstance(error, MissingMediaError)
    assert "lab-server" in str(error)
    assert "path_map" in str(error.hint)


@pytest.mark.parametrize("in_memory", [True, False])
def test_file_url_of_a_share(tmp_path: Path, in_memory: bool) -> None:
    r"""As pathlib writes ``\\server\share\videos\a b.avi``."""
    path = video(tmp_path / "videos" / "a b.avi")
    base = None if in_memory else tmp_path / "nwb"
    for text in ("file://server/share/videos/a%20b.avi", "FILE://Server/share/videos/a%20b.avi"):
        assert file(text, base, path_map={r"\\server\share": tmp_path}) == path
        assert file(text, base, path_map={"//server/share/videos": tmp_path / "videos"}) == path
        assert file(text, base, search=tmp_path / "videos") == path


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        (r"\\?\D:\videos\a.avi", "D:\\"),
        (r"\\?\D:\videos\a.avi", r"d:\VIDEOS"),
        (r"D:\videos\a.avi", r"\\?\D:\videos"),
        (r"\\?\UNC\server\share\videos\a.avi", r"\\server\share\videos"),
        (r"\\?\unc\server\share\videos\a.avi", r"\\server\share"),
    ],
)
def test_long_path_prefix_of_windows(tmp_path: Path, text: str, prefix: str) -> None:
    path = video(tmp_path / "videos" / "a.avi")
    new = path.parent if "videos" in prefix.lower() else tmp_path
    assert file(text, tmp_path / "nwb", path_map={prefix: new}) == path
    assert file(text, tmp_path / "nwb", search=path.parent) == path


def test_file_url_of_windows(tmp_path: Path) -> None:
    path = video(tmp_path / "a b.avi")
    for text in (
        "file:///C:/videos/a%20b.avi",
        "file:///C:\\videos\\a b.avi",
        "file://C:\\videos\\a b.avi",
        "file://localhost/c:/videos/a%20b.avi",
    ):
        assert file(text, path_map={"C:\\videos": tmp_path}) == path
        assert file(text, search=tmp_path) == path
    assert isinstance(problem("file:///C:/videos/a.avi", tmp_path), MissingMediaError)


def test_file_url_is_found_below_search(tmp_path: Path) -> None:
    path = video(tmp_path / "a b.avi")
    assert file("file:///old/machine/a%20b.avi", search=tmp_path) == path


@posix
def test_file_url_with_name_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.avi"))
    try:
        path.write_bytes(b"video")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    assert path.as_uri().endswith("caf%E9.avi")
    assert file(path.as_uri(), tmp_path) == path


@pytest.mark.parametrize(
    "text",
    [
        "file://",
        "file:///",
        "file://[/a.avi",
        "file://[::1]/a.avi",
        "file://a]b/c.avi",
        "file://ex℀mple/a.avi",
        "file:///a%00b.avi",
        "file:///a%zz.avi",
        "file:///%",
        "file://localhost",
        "file://C:/a.avi",
    ],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_odd_file_urls_are_problems_not_crashes(tmp_path: Path, text: str, in_memory: bool) -> None:
    problem(text, None if in_memory else tmp_path, search=tmp_path)


# ------------------------------------------------------------ relative, absolute


def test_relative_to_the_nwb_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "nwb" / "videos" / "a.avi")
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "videos" / "a.avi", b"a decoy in the working folder")
    video(tmp_path / "out" / "videos" / "a.avi", b"a decoy in the destination")
    for text in ("videos/a.avi", "./videos/a.avi", "videos//a.avi", "videos/./a.avi", "videos/../videos/a.avi"):
        assert file(text, tmp_path / "nwb", destination=tmp_path / "out", working_folder=tmp_path) == path


def test_same_name_in_working_directory_is_ignored(tmp_path: Path) -> None:
    """A path stored in a file has one meaning: destination and working directory do not count."""
    video(tmp_path / "out" / "a.avi")
    video(tmp_path / "cwd" / "a.avi")
    error = problem("a.avi", tmp_path, destination=tmp_path / "out", working_folder=tmp_path / "cwd")
    assert isinstance(error, MissingMediaError)


def test_parent_folders_in_path(tmp_path: Path) -> None:
    path = video(tmp_path / "videos" / "a.avi")
    base = tmp_path / "x" / "y"
    base.mkdir(parents=True)
    assert file("../../videos/a.avi", base) == path
    assert file("../" * 40 + path.relative_to(path.anchor).as_posix(), base) == path


def test_absolute_path_resolves(tmp_path: Path) -> None:
    path = video(tmp_path / "videos" / "a.avi")
    assert file(str(path), tmp_path / "elsewhere") == path
    assert file(str(path)) == path
    (tmp_path / "x").mkdir()
    assert file(f"{tmp_path}/x/../videos/./a.avi") == path


def test_resolved_path_keeps_only_last_link(tmp_path: Path) -> None:
    path = video(tmp_path / "store" / "4711")
    (tmp_path / "videos").mkdir()
    link = tmp_path / "videos" / "a.avi"
    link.symlink_to(path)
    (tmp_path / "short").symlink_to(tmp_path / "videos")
    found = look("short/a.avi", tmp_path).file
    assert found is not None
    assert (found.path, found.real) == (link, path)


def test_resolving_many_equals_resolving_each(tmp_path: Path) -> None:
    """Although each folder is resolved only once."""
    video(tmp_path / "real" / "a.avi")
    video(tmp_path / "real" / "b.avi")
    (tmp_path / "real" / "c.avi").symlink_to("b.avi")
    (tmp_path / "real" / "d.avi").symlink_to("nowhere")
    (tmp_path / "real" / "folder").mkdir()
    (tmp_path / "way").symlink_to("real")
    names = ("a.avi", "b.avi", "c.avi", "d.avi", "gone.avi", "folder", "folder/../a.avi", "")
    references = [
        ExternalFileReference(
            nwb_path=str(tmp_path / "a.nwb"),
            object_path="/acquisition/video",
            neurodata_type="ImageSeries",
            object_id=None,
            field="external_file",
            index=index,
            stored_path=text,
            base=str(tmp_path),
        )
        for index, text in enumerate([f"{folder}/{name}" for folder in ("real", "way") for name in names])
    ]
    found = resolve_all(references, MediaOptions(), destination=tmp_path)
    alone = [resolve(reference, MediaOptions(), destination=tmp_path) for reference in references]
    assert [entry.file for entry in found] == [entry.file for entry in alone]
    assert [str(entry.problem) for entry in found] == [str(entry.problem) for entry in alone]
    assert [entry.reference for entry in found] == references
    behind = found[len(names)].file
    assert behind is not None
    assert behind.linked_path == tmp_path / "way" / names[0]
    assert replace(behind, linked_path=None) == found[0].file
    known = {references[1].entry: found[0]}
    assert resolve_all(references, MediaOptions(), destination=tmp_path, known=known)[1] == found[0]


def test_folder_reached_through_link(tmp_path: Path) -> None:
    """`..` is the parent of the real folder, as when the path is opened."""
    path = video(tmp_path / "real" / "videos" / "a.avi")
    (tmp_path / "real" / "nwb").mkdir()
    (tmp_path / "short").symlink_to(tmp_path / "real" / "nwb")
    video(tmp_path / "videos" / "a.avi", b"a decoy where the text leads as a text")
    assert file("../videos/a.avi", tmp_path / "short") == path
    assert os.path.samefile(tmp_path / "short" / "../videos/a.avi", path)


@pytest.mark.parametrize(
    "name",
    [
        "ümläut.avi",
        "фильм.avi",
        "映画.mp4",
        "a b.avi",
        " a.avi",
        "a.avi ",
        "a%20b.avi",
        "100%.avi",
        "a#1.avi",
        "a?.avi",
        "a\nb.avi",
        "a\tb.avi",
        "'a'.avi",
        '"a".avi',
        "-rf.avi",
        "~.avi",
        "$HOME.avi",
        "a:b.avi",
        "*.avi",
        "[a].avi",
        "a",
        ".avi",
        "e\u0301.avi",
    ],
)
def test_names_match_exactly(tmp_path: Path, name: str) -> None:
    if os.name == "nt" and unportable(name):
        pytest.skip("Windows has no such names")
    path = video(tmp_path / "videos" / name)
    assert file(f"videos/{name}", tmp_path) == path
    assert file(str(path), tmp_path) == path
    assert file(f"elsewhere/{name}", tmp_path, search=tmp_path / "videos") == path


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS finds either form by itself")
@pytest.mark.parametrize(("stored", "on_disk"), [(NFC, NFD), (NFD, NFC)])
def test_other_unicode_normalization_is_named(tmp_path: Path, stored: str, on_disk: str) -> None:
    """Videos copied from macOS can differ from the stored path in Unicode normalization, which nobody sees."""
    path = video(tmp_path / "videos" / on_disk / "a.avi")
    assert file(f"videos/{stored}/a.avi", tmp_path) == path
    assert file(str(tmp_path / "videos" / stored / "a.avi"), tmp_path) == path
    assert file(f"elsewhere/{stored}/a.avi", tmp_path, search=tmp_path / "videos") == path
    assert file(f"videos/{stored}/a.avi", None, destination=tmp_path) == path
    own = video(tmp_path / "videos" / stored / "a.avi", b"another")
    assert file(f"videos/{stored}/a.avi", tmp_path) == own
    assert file(f"videos/{stored}/a.avi", None, destination=tmp_path, working_folder=tmp_path) == own
    missing = problem(f"videos/{stored}/b.avi", tmp_path)
    assert isinstance(missing, MissingMediaError)
    assert str(missing).count("b.avi' (") == 1, "two places that look alike say less than one"


def test_plain_path_is_not_url_decoded(tmp_path: Path) -> None:
    video(tmp_path / "a b.avi")
    assert isinstance(problem("a%20b.avi", tmp_path), MissingMediaError)
    quoted = video(tmp_path / "a%20b.avi", b"another")
    assert file("a%20b.avi", tmp_path) == quoted
    assert file(str(quoted), tmp_path) == quoted


def test_home_and_variables_are_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video(tmp_path / "home" / "a.avi")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for text in ("~/a.avi", "$HOME/a.avi", "${HOME}/a.avi", "%HOME%/a.avi"):
        assert isinstance(problem(text, tmp_path), MissingMediaError)
        assert isinstance(problem(text, None, destination=tmp_path, working_folder=tmp_path), MissingMediaError)
    assert file("~/a.avi", video(tmp_path / "nwb" / "~" / "a.avi").parent.parent)


@posix
def test_surrogate_escapes(tmp_path: Path) -> None:
    """A stored path that is not UTF-8 names the file with exactly these bytes."""
    name = os.fsdecode(b"caf\xe9.avi")
    try:
        path = video(tmp_path / name)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    assert file(name, tmp_path) == path


@pytest.mark.parametrize("text", ["\ud800.avi", "\udfff\ud800", "a\udc80b.avi", "\udcff/../\udcff.avi"])
def test_other_surrogates_are_missing(tmp_path: Path, text: str) -> None:
    error = problem(text, tmp_path, search=tmp_path)
    assert isinstance(error, MissingMediaError)
    str(error).encode("utf-8")  # can be printed


# --------------------------------------------------------------- Windows' slashes


@posix
def test_backslashes_are_separators(tmp_path: Path) -> None:
    path = video(tmp_path / "videos" / "cam 1" / "a.avi")
    base = tmp_path / "nwb"
    base.mkdir()
    for text in ("..\\videos\\cam 1\\a.avi", "..\\videos/cam 1\\a.avi", ".\\..\\videos\\cam 1\\a.avi"):
        assert file(text, base) == path
        assert file(text, None, destination=base) == path
        assert file(text, None, working_folder=base) == path


@posix
def test_name_containing_a_backslash(tmp_path: Path) -> None:
    path = video(tmp_path / "videos\\a.avi")
    assert file("videos\\a.avi", tmp_path) == path
    video(tmp_path / "videos" / "a.avi", b"another")
    assert isinstance(problem("videos\\a.avi", tmp_path), AmbiguousMediaError)


@posix
def test_windows_absolute_is_foreign(tmp_path: Path) -> None:
    for text in ("C:\\videos\\a.avi", "C:/videos/a.avi", "\\\\server\\share\\a.avi"):
        error = problem(text, tmp_path)
        assert isinstance(error, MissingMediaError)
        assert "path_map" in str(error)


@posix
def test_rooted_windows_path_is_foreign(tmp_path: Path) -> None:
    r"""``\videos\a.avi`` is on some drive of some Windows; it is not ``/videos/a.avi``."""
    path = video(tmp_path / "a.avi")
    assert isinstance(problem(str(path).replace("/", "\\"), tmp_path / "nwb"), MissingMediaError)


# -------------------------------------------------------------------------- path_map


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("D:\\videos", "D:\\videos\\cam1\\a.avi"),
        ("D:\\videos", "d:\\VIDEOS\\cam1\\a.avi"),
        ("d:/videos", "D:\\Videos\\cam1\\a.avi"),
        ("D:\\videos\\", "D:/videos/cam1/a.avi"),
        ("D:\\videos/", "D:\\videos\\\\cam1\\\\a.avi"),
        ("D:\\", "D:\\cam1\\a.avi"),
        ("D:/", "d:\\cam1\\a.avi"),
        ("D:", "D:\\cam1\\a.avi"),
        ("\\\\server\\share", "\\\\SERVER\\share\\cam1\\a.avi"),
        ("//server/share", "\\\\server\\share\\cam1\\a.avi"),
        ("/data", "/data/cam1/a.avi"),
        ("/data/", "/data/cam1/a.avi"),
        ("/data/", "/data//cam1/a.avi"),
        ("/", "/cam1/a.avi"),
        ("/data/cam1/a.avi", "/data/cam1/a.avi"),
        ("old videos", "old videos/cam1/a.avi"),
        ("/data", "file:///data/cam1/a.avi"),
    ],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_path_map_replaces_prefix(tmp_path: Path, prefix: str, text: str, in_memory: bool) -> None:
    path = video(tmp_path / "lab" / "cam1" / "a.avi")
    new = path if prefix == text else tmp_path / "lab"
    assert file(text, None if in_memory else tmp_path, path_map={prefix: new}) == path
    assert file(text, None if in_memory else tmp_path, path_map={prefix: f"{new}/"}) == path


def test_path_map_of_a_drive_alone_ignores_case(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi")
    assert file("d:\\a.avi", tmp_path, path_map={"D:": tmp_path}) == path


def test_path_map_case_counts_without_a_drive(tmp_path: Path) -> None:
    video(tmp_path / "a.avi")
    assert isinstance(problem("/DATA/a.avi", tmp_path / "x", path_map={"/data": tmp_path}), MissingMediaError)


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("/data", "/database/a.avi"),
        ("/data", "/data.old/a.avi"),
        ("D:\\vid", "D:\\videos\\a.avi"),
        ("D:", "D:a.avi"),
        ("/data", "x/data/a.avi"),
        ("data", "/data/a.avi"),
    ],
)
def test_path_map_ends_at_a_slash(tmp_path: Path, prefix: str, text: str) -> None:
    for name in ("a.avi", "base/a.avi", ".old/a.avi", "eos/a.avi"):
        video(tmp_path / "lab" / name)
    error = problem(text, tmp_path, path_map={prefix: tmp_path / "lab"})
    assert isinstance(error, MissingMediaError)
    assert str(tmp_path / "lab") not in str(error)


def test_path_map_longest_prefix(tmp_path: Path) -> None:
    deep, flat = video(tmp_path / "deep" / "a.avi"), video(tmp_path / "flat" / "b.avi", b"other")
    video(tmp_path / "flat" / "cam1" / "a.avi", b"a decoy")
    for mapping in (
        {"/data": tmp_path / "flat", "/data/cam1": tmp_path / "deep"},
        {"/data/cam1": tmp_path / "deep", "/data": tmp_path / "flat"},
    ):
        assert file("/data/cam1/a.avi", tmp_path, path_map=mapping) == deep
        assert file("/data/b.avi", tmp_path, path_map=mapping) == flat


def test_path_map_before_the_path_itself(tmp_path: Path) -> None:
    stale = video(tmp_path / "old" / "a.avi", b"stale")
    path = video(tmp_path / "new" / "a.avi")
    assert file(str(stale), tmp_path, path_map={str(tmp_path / "old"): tmp_path / "new"}) == path


def test_path_map_falls_back(tmp_path: Path) -> None:
    path = video(tmp_path / "old" / "a.avi")
    assert file(str(path), tmp_path, path_map={str(path.parent): tmp_path / "nowhere"}) == path


# ---------------------------------------------------------------------------- search


@pytest.mark.parametrize(
    "text", ["a.avi", "x/a.avi", "../x/a.avi", "/old/x/a.avi", "C:\\x\\a.avi", "\\\\s\\h\\a.avi", "x\\a.avi", "C:a.avi"]
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_search_by_bare_name(tmp_path: Path, text: str, in_memory: bool) -> None:
    path = video(tmp_path / "pool" / "a.avi")
    base = tmp_path / "nwb"
    base.mkdir()
    assert file(text, None if in_memory else base, search=path.parent) == path
    assert file(text, None if in_memory else base, search=[base, path.parent]) == path


def test_search_by_tail(tmp_path: Path) -> None:
    """The folders in the path distinguish two videos with one name."""
    one = video(tmp_path / "pool" / "day1" / "a.avi", b"1")
    two = video(tmp_path / "pool" / "day2" / "a.avi", b"2")
    for day, path in (("day1", one), ("day2", two)):
        for text in (f"/old/{day}/a.avi", f"D:\\old\\{day}\\a.avi", f"../../{day}/a.avi"):
            assert file(text, tmp_path, search=tmp_path / "pool") == path


def test_search_comes_after_the_stored_path(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi")
    video(tmp_path / "pool" / "a.avi", b"another")
    assert file("a.avi", tmp_path, search=tmp_path / "pool") == path
    assert file(str(path), tmp_path, search=tmp_path / "pool") == path


def test_search_with_two_different_hits_is_ambiguous(tmp_path: Path) -> None:
    one, two = video(tmp_path / "1" / "a.avi", b"1"), video(tmp_path / "2" / "a.avi", b"2")
    error = problem("gone/a.avi", tmp_path, search=[one.parent, two.parent])
    assert isinstance(error, AmbiguousMediaError)
    assert isinstance(error, ValueError)
    assert str(one) in str(error)
    assert str(two) in str(error)


def test_search_with_two_different_tails_is_ambiguous(tmp_path: Path) -> None:
    """One file matches the whole trailing part, another the bare name. This is never a guess."""
    video(tmp_path / "pool" / "day1" / "a.avi", b"1")
    video(tmp_path / "pool" / "a.avi", b"2")
    assert isinstance(problem("/old/day1/a.avi", tmp_path, search=tmp_path / "pool"), AmbiguousMediaError)


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_search_with_one_file_twice(tmp_path: Path, kind: str) -> None:
    one = video(tmp_path / "1" / "a.avi")
    two = tmp_path / "2" / "a.avi"
    two.parent.mkdir()
    two.hardlink_to(one) if kind == "hardlink" else two.symlink_to(one)
    assert os.path.samefile(file("gone/a.avi", tmp_path, search=[one.parent, two.parent]), one)
    assert os.path.samefile(file("gone/a.avi", tmp_path, search=[two.parent, one.parent]), one)


def test_search_with_one_folder_twice(tmp_path: Path) -> None:
    path = video(tmp_path / "1" / "a.avi")
    (tmp_path / "2").symlink_to(tmp_path / "1")
    assert file("gone/a.avi", tmp_path, search=[tmp_path / "1", tmp_path / "2", tmp_path / "1"]) == path


def test_search_does_not_climb(tmp_path: Path) -> None:
    video(tmp_path / "a.avi")
    (tmp_path / "pool").mkdir()
    (tmp_path / "nwb" / "deep").mkdir(parents=True)
    for text in ("x/../../a.avi", "../a.avi", "..\\a.avi", "/x/../../a.avi"):
        error = problem(text, tmp_path / "nwb" / "deep", search=tmp_path / "pool")
        assert isinstance(error, MissingMediaError)


def test_search_does_not_descend(tmp_path: Path) -> None:
    """A video of another recording may have the name, so the message names it, and nothing more."""
    deep = video(tmp_path / "pool" / "deep" / "a.avi")
    error = problem("a.avi", tmp_path, search=tmp_path / "pool")
    assert isinstance(error, MissingMediaError)
    assert f"Files of that name: '{deep}'" in str(error)
    assert file("a.avi", tmp_path, search=deep.parent) == deep


def test_search_ignores_what_is_not_a_file(tmp_path: Path) -> None:
    """A folder with that name in one search folder does not hide the video in the next."""
    (tmp_path / "1" / "a.avi").mkdir(parents=True)
    path = video(tmp_path / "2" / "a.avi")
    assert file("gone/a.avi", tmp_path, search=[tmp_path / "1", tmp_path / "2"]) == path


# ------------------------------------------------------------------- made in memory


@pytest.mark.parametrize("where", ["destination", "search", "working_folder"])
def test_path_of_container_in_memory(tmp_path: Path, where: str) -> None:
    path = video(tmp_path / where / "videos" / "a.avi")
    for name in ("destination", "search", "working_folder"):
        (tmp_path / name).mkdir(exist_ok=True)
    places = {name: tmp_path / name for name in ("destination", "search", "working_folder")}
    assert file("videos/a.avi", None, **places) == path
    assert file("./videos/a.avi", None, **places) == path


@pytest.mark.parametrize(
    "where", [("destination", "search"), ("destination", "working_folder"), ("search", "working_folder")]
)
def test_in_memory_two_different_hits_are_ambiguous(tmp_path: Path, where: tuple[str, str]) -> None:
    for number, name in enumerate(where):
        video(tmp_path / name / "a.avi", bytes([number]))
    places = {name: tmp_path / name for name in where}
    error = problem("a.avi", None, **places)
    assert isinstance(error, AmbiguousMediaError)
    assert all(str(tmp_path / name / "a.avi") in str(error) for name in where)


def test_in_memory_one_file_in_several_folders(tmp_path: Path) -> None:
    path = video(tmp_path / "out" / "a.avi")
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "a.avi").symlink_to(path)
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "a.avi").hardlink_to(path)
    places = dict(destination=tmp_path / "out", working_folder=tmp_path / "cwd", search=tmp_path / "pool")
    assert os.path.samefile(file("a.avi", None, **places), path)
    assert file("a.avi", None, destination=tmp_path / "out", working_folder=tmp_path / "out") == path


def test_in_memory_absolute_path(tmp_path: Path) -> None:
    path = video(tmp_path / "videos" / "a.avi")
    video(tmp_path / "out" / "a.avi", b"another")
    video(tmp_path / "pool" / "a.avi", b"a third")
    places = dict(destination=tmp_path / "out", working_folder=tmp_path / "out", search=tmp_path / "pool")
    assert file(str(path), None, **places) == path


# ---------------------------------------------------------------------------- within


def test_within_accepts_media_below_root(tmp_path: Path) -> None:
    path = video(tmp_path / "lab" / "videos" / "a.avi")
    for roots in (tmp_path / "lab", [tmp_path / "lab" / "videos"], ["/usr", tmp_path]):
        assert file(str(path), within=roots) == path


def test_within_refuses_media_outside(tmp_path: Path) -> None:
    path = video(tmp_path / "secret" / "a.avi")
    (tmp_path / "lab" / "nwb").mkdir(parents=True)
    for text in (str(path), "../../secret/a.avi", path.as_uri(), "..\\..\\secret\\a.avi"):
        error = problem(text, tmp_path / "lab" / "nwb", within=tmp_path / "lab")
        assert isinstance(error, UnsafeReferenceError)
        assert "within" in str(error)
        assert str(path) in str(error)


def test_within_compares_whole_folder_names(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    path = video(tmp_path / "laboratory" / "a.avi")
    assert isinstance(problem(str(path), within=tmp_path / "lab"), UnsafeReferenceError)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_within_sees_through_links(tmp_path: Path, what: str) -> None:
    path = video(tmp_path / "secret" / "a.avi")
    (tmp_path / "lab").mkdir()
    if what == "file":
        (tmp_path / "lab" / "a.avi").symlink_to(path)
        text = "a.avi"
    else:
        (tmp_path / "lab" / "sub").symlink_to(path.parent)
        text = "sub/a.avi"
    assert isinstance(problem(text, tmp_path / "lab", within=tmp_path / "lab"), UnsafeReferenceError)
    assert file(text, tmp_path / "lab", within=[tmp_path / "lab", tmp_path / "secret"])


def test_within_a_root_that_is_a_link(tmp_path: Path) -> None:
    path = video(tmp_path / "real" / "a.avi")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert file(str(path), within=tmp_path / "root") == path
    assert file("root/a.avi", tmp_path, within=tmp_path / "root") == path


def test_within_holds_for_map_and_search(tmp_path: Path) -> None:
    path = video(tmp_path / "secret" / "a.avi")
    (tmp_path / "lab").mkdir()
    for options in (dict(search=path.parent), dict(path_map={"/old": path.parent})):
        assert isinstance(problem("/old/a.avi", tmp_path, within=tmp_path / "lab", **options), UnsafeReferenceError)


# ----------------------------------------------------------------- what is no video


def test_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for text in ("videos", "videos/", ".", "..", tmp_path.anchor, str(tmp_path), "videos/..", "./", "..\\"):
        error = problem(text, tmp_path)
        assert isinstance(error, UnsafeReferenceError), text
        assert "a folder" in str(error)


@needs_fifo
def test_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.avi")
    error = problem("a.avi", tmp_path)
    assert isinstance(error, UnsafeReferenceError)
    assert "a pipe" in str(error)
    (tmp_path / "link.avi").symlink_to("a.avi")
    assert "a pipe" in str(problem("link.avi", tmp_path))


@posix
def test_device_is_refused(tmp_path: Path) -> None:
    for text in ("/dev/null", "/dev/zero", "file:///dev/zero"):
        error = problem(text, tmp_path)
        assert isinstance(error, UnsafeReferenceError)
        assert "a device" in str(error)


@posix
def test_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.avi")
        assert "a socket" in str(problem("a.avi", tmp_path))


def test_symlink_loop(tmp_path: Path) -> None:
    (tmp_path / "a.avi").symlink_to("b.avi")
    (tmp_path / "b.avi").symlink_to("a.avi")
    assert isinstance(problem("a.avi", tmp_path), MissingMediaError)
    (tmp_path / "loop").symlink_to("loop")
    assert isinstance(problem("loop/a.avi", tmp_path), MissingMediaError)


def test_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "a.avi").symlink_to("gone.avi")
    assert isinstance(problem("a.avi", tmp_path), MissingMediaError)


@pytest.mark.parametrize("link", ["/mnt/old/lab/a.avi", "../old/lab/a.avi", "chain.avi"])
@pytest.mark.parametrize("option", ["path_map", "path_map_for"])
def test_path_map_of_what_a_broken_link_leads_to(tmp_path: Path, link: str, option: str) -> None:
    """The server was renamed after the video was linked."""
    wanted, other = video(tmp_path / "new" / "lab" / "a.avi"), video(tmp_path / "found" / "a.avi", b"other")
    folder = tmp_path / "nwb"
    folder.mkdir()
    (folder / "chain.avi").symlink_to("/mnt/old/lab/a.avi")
    (folder / "uuid.avi").symlink_to(link)
    pairs = {str(tmp_path / "old") if link.startswith("..") else "/mnt/old": str(tmp_path / "new")}
    options = {option: pairs if option == "path_map" else {"video": pairs}}
    assert file("uuid.avi", folder, **options) == wanted
    assert file("uuid.avi", folder, search=[other.parent], **options) == wanted  # which comes first
    assert isinstance(problem("uuid.avi", folder, path_map={"/mnt/other": str(tmp_path)}), MissingMediaError)
    lost = problem(
        "uuid.avi", folder, **{option: {"/": "/gone"} if option == "path_map" else {"video": {"/": "/gone"}}}
    )
    assert "'/gone/" in str(lost)
    assert isinstance(lost, MissingMediaError)


def test_message_lists_files_with_the_name_in_a_broken_link(tmp_path: Path) -> None:
    there = video(tmp_path / "pool" / "x" / "a.avi")
    (tmp_path / "uuid.avi").symlink_to("gone/a.avi")
    lost = problem("uuid.avi", tmp_path, search=[tmp_path / "pool"])
    assert isinstance(lost, MissingMediaError)
    assert f"Files of that name: {str(there)!r}" in str(lost)
    assert file("uuid.avi", tmp_path, search=[there.parent]) == there


def test_path_map_that_leads_from_link_to_link_ends(tmp_path: Path) -> None:
    (tmp_path / "a.avi").symlink_to("b.avi")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "b.avi").symlink_to(tmp_path / "b.avi")
    assert isinstance(problem("a.avi", tmp_path, path_map={str(tmp_path): str(tmp_path / "c")}), MissingMediaError)


def test_file_instead_of_folder_in_path(tmp_path: Path) -> None:
    video(tmp_path / "a.avi")
    assert isinstance(problem("a.avi/b.avi", tmp_path), MissingMediaError)


@pytest.mark.parametrize("text", ["", " ", "\n", "\t \r\n", "\u3000"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_empty_path(tmp_path: Path, text: str, in_memory: bool) -> None:
    error = problem(text, None if in_memory else tmp_path, search=tmp_path)
    assert isinstance(error, UnsafeReferenceError)
    assert "empty" in str(error)


@pytest.mark.parametrize("text", ["\0", "a\0b.avi", "a.avi\0", "/etc/\0passwd", "file:///a\0"])
def test_path_with_nul(tmp_path: Path, text: str) -> None:
    video(tmp_path / "a.avi")
    error = problem(text, tmp_path, search=tmp_path, path_map={"/etc": tmp_path})
    assert isinstance(error, UnsafeReferenceError)
    assert "NUL" in str(error)
    assert "\0" not in str(error)


@pytest.mark.parametrize("unit", ["a", "é", "/", "../", "a\n", "\\", "a%20", ". "])
@pytest.mark.parametrize("head", ["", "/", "C:\\", "file:///"])
def test_too_long_path(tmp_path: Path, head: str, unit: str) -> None:
    text = head + unit * (65536 // len(unit))
    error = problem(text, tmp_path, search=tmp_path)
    assert len(str(error)) < 20_000


@pytest.mark.parametrize("head", ["", "/", "C:\\", "file:///"])
def test_deep_path_takes_little_memory(tmp_path: Path, head: str) -> None:
    """A path from a file can be very long."""
    text = head + "a/" * 8192
    tracemalloc.start()
    try:
        error = problem(text, tmp_path, search=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, MissingMediaError)
    assert peak < 20_000_000


# ------------------------------------------------------------------------ the error


def test_error_names_every_place(tmp_path: Path) -> None:
    pools = [tmp_path / "1", tmp_path / "2"]
    for pool in pools:
        pool.mkdir()
    error = problem(f"{ROOT}data/day1/a.avi", tmp_path, search=pools, path_map={f"{ROOT}data": tmp_path / "lab"})
    assert isinstance(error, MissingMediaError)
    assert isinstance(error, FileNotFoundError)
    places = [tmp_path / "lab" / "day1" / "a.avi", Path(f"{ROOT}data/day1/a.avi")]
    places += [pool / tail for pool in pools for tail in ("data/day1/a.avi", "day1/a.avi", "a.avi")]
    for place in places:
        assert str(place) in str(error)
    assert str(error).count(" (") == len(places)
    assert 'missing="keep"' in str(error)
    assert "search" in str(error)


def test_error_names_every_place_in_memory(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("destination", "search", "working_folder")}
    for place in places.values():
        place.mkdir()
    error = problem("day1/a.avi", None, **places)
    for place in ("destination/day1", "search/day1", "search", "working_folder/day1"):
        assert str(tmp_path / place / "a.avi") in str(error)


def test_error_counts_further_places(tmp_path: Path) -> None:
    error = problem(ROOT + "/".join("abcdefghijklmnopqrstuvwxyz"), tmp_path, search=tmp_path)
    assert "and 7 more" in str(error)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read all")
def test_folder_without_permission(tmp_path: Path) -> None:
    path = video(tmp_path / "locked" / "a.avi")
    path.parent.chmod(0)
    try:
        error = problem(str(path), tmp_path)
        assert isinstance(error, MissingMediaError)
        assert "Permission denied" in str(error)
    finally:
        path.parent.chmod(0o700)


# ------------------------------------------------------------ for single objects


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("pattern", ["/acquisition/video", "/acquisition/*", "vid*", "*"])
def test_search_per_object(tmp_path: Path, in_memory: bool, pattern: str) -> None:
    own, other = video(tmp_path / "own" / "0.avi", b"own"), video(tmp_path / "other" / "0.avi", b"other")
    base = None if in_memory else tmp_path
    assert file("0.avi", base, search_for={pattern: own.parent}, search=other.parent) == own
    assert file("0.avi", base, search_for={"/stimulus/*": own.parent}, search=other.parent) == other
    assert file("x/0.avi", base, path_map_for={pattern: {"x": own.parent}}, path_map={"x/0.avi": other}) == own
    assert file("x/0.avi", base, path_map_for={"/stimulus/*": {"x": own.parent}}, path_map={"x": other.parent}) == other


def test_search_per_object_comes_after_stored_path(tmp_path: Path) -> None:
    video(tmp_path / "own" / "0.avi", b"own")
    assert file("0.avi", video(tmp_path / "0.avi").parent, search_for={"*": tmp_path / "own"}) == tmp_path / "0.avi"


def test_search_per_object_decides_in_memory(tmp_path: Path) -> None:
    """A container in memory: the destination and the working directory have such a file too."""
    own = video(tmp_path / "own" / "0.avi", b"own")
    here, there = (
        video(tmp_path / "here" / "0.avi", b"here").parent,
        video(tmp_path / "there" / "0.avi", b"there").parent,
    )
    assert file("0.avi", destination=here, working_folder=there, search_for={"video": own.parent}) == own

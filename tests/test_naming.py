"""DANDI's names, and what may be part of a name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from nwb_extfiles.naming import (
    ARCHIVED_SUFFIXES,
    dandi_name,
    is_archived,
    is_asset_path,
    is_portable_suffix,
    is_uuid,
    unportable,
)

UUID = "933f8cf6-9e4b-405f-8cad-cc031d1fafc9"


def test_name_of_the_example() -> None:
    """The exact name of the example."""
    stem = "sub-mouse0_ses-sessionid0_image"
    name = dandi_name(nwb_stem=stem, object_id=UUID, field="external_file", index=1, suffix=".avi")
    assert name == PurePosixPath(f"{stem}/{UUID}_external_file_1.avi")


def test_same_as_dandi() -> None:
    """Compared with what `dandi organize` does with the same file."""
    from dandi.organize import _create_external_file_names

    metadata = {
        "dandi_path": "sub-mouse0/sub-mouse0_image.nwb",
        "external_file_objects": [
            dict(id=UUID, name="video", external_files=[PurePosixPath("a/x.avi"), PurePosixPath("b/y.mp4")])
        ],
    }
    (organized,) = _create_external_file_names([metadata])
    theirs = organized["external_file_objects"][0]["external_files_renamed"]
    ours = [
        dandi_name(nwb_stem="sub-mouse0_image", object_id=UUID, field="external_file", index=n, suffix=suffix)
        for n, suffix in enumerate((".avi", ".mp4"))
    ]
    assert [PurePosixPath(name) for name in theirs] == ours


def test_name_without_suffix() -> None:
    name = dandi_name(nwb_stem="a", object_id="b", field="external_file", index=0, suffix="")
    assert name.name == "b_external_file_0"


def test_names_within_one_file_are_unique() -> None:
    names = [
        dandi_name(nwb_stem="a", object_id=object_id, field=field, index=index, suffix=".avi")
        for object_id in (UUID, UUID.replace("9", "8"))
        for field in ("external_file", "labeled_videos", "original_videos")
        for index in range(12)
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("object_id", [UUID, UUID.upper(), "00000000-0000-0000-0000-000000000000"])
def test_valid_object_ids(object_id: str) -> None:
    assert is_uuid(object_id)


@pytest.mark.parametrize(
    "object_id",
    [
        "",
        UUID + "\n",
        " " + UUID,
        UUID.replace("-", ""),
        "{" + UUID + "}",
        "urn:uuid:" + UUID,
        "../" + UUID[3:],
        UUID[:-1] + "g",
        UUID[:-1] + "٣",  # a digit, but no ASCII one
        UUID[:-1] + "\0",
        "x" * 1000,
    ],
)
def test_invalid_object_ids(object_id: str) -> None:
    assert not is_uuid(object_id)


@pytest.mark.parametrize("suffix", ["", ".avi", ".mp4", ".h264", ".AVI", ".x_y", ".c++", ".a-b", "." + "x" * 32])
def test_portable_suffix(suffix: str) -> None:
    assert is_portable_suffix(suffix)


@pytest.mark.parametrize(
    "suffix",
    [".", "avi", ".a b", ".avi\n", ".é", ".a:b", ".a?", ".a\\b", ".a/b", "..", ".\0", ".\udcff", "." + "x" * 33],
)
def test_unportable_suffix(suffix: str) -> None:
    assert not is_portable_suffix(suffix)


def test_suffixes_of_the_archive() -> None:
    """The lists are written down because dandi is slow to import."""
    from dandi.consts import IMAGE_FILE_EXTENSIONS, VIDEO_FILE_EXTENSIONS

    assert frozenset([*VIDEO_FILE_EXTENSIONS, *IMAGE_FILE_EXTENSIONS]) == ARCHIVED_SUFFIXES
    assert all(is_archived(suffix) for suffix in ARCHIVED_SUFFIXES)
    assert not any(is_archived(suffix) for suffix in (".MP4", ".tif", ".h264", ".wav", ".webm", ".m4v", ""))


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("sub-m/sub-m_ses-1_image/933f_external_file_0.avi", True),
        ("sub-m/a (1), b&c #2 + d~e_f=g-h.nwb", True),
        ("sub-m/.hidden", True),
        ("sub-Mäuse/sub-m.nwb", False),
        ("sub-m/a..b.nwb", False),
        ("sub-m/name.", False),
        ("sub-m//a.nwb", False),
        ("sub-m/a'b.nwb", False),
        ("", False),
    ],
)
def test_paths_that_the_archive_accepts(path: str, accepted: bool) -> None:
    """Compared with the archive's own expression, `ASSET_PATH_REGEX` in `dandiapi/api/models/asset.py`."""
    theirs = re.compile(r"^([A-z0-9(),&\s#+~_=-]?\/?\.?[A-z0-9(),&\s#+~_=-])+$")
    assert is_asset_path(path) is accepted
    assert (theirs.match(path) is not None) is accepted


def test_a_long_refused_path_is_refused_at_once() -> None:
    """The archive's own expression would take longer than anybody waits."""
    assert not is_asset_path("a" * 4000 + "ä")


@pytest.mark.parametrize("name", ["NUL", "nul.avi", "COM1.tar.gz", "con .txt", "LPT\u00b9", "aux:x", "CONOUT$"])
def test_names_that_windows_reserves(name: str) -> None:
    assert unportable(name) is not None


@pytest.mark.parametrize("name", ["a:b.avi", "a?.avi", 'a"b', "a\\b", "a\tb.avi", "a.", "a ", "a|b", "<a>", "a*"])
def test_names_that_windows_refuses_or_changes(name: str) -> None:
    assert unportable(name) is not None


@pytest.mark.parametrize("name", ["nullify.avi", "COM.avi", "COM10.avi", " a", ".a", "a b.avi", "Käfig 1.avi", ".."])
def test_names_that_every_system_has(name: str) -> None:
    assert unportable(name) is None

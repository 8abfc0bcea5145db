"""References listed from files and containers, and the other way round."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from helpers import contents, image_series, new_nwbfile, set_paths, stored_paths, taking_at_most, write_nwb
from makers import Media, make_media, quiet, run_maker, write_everywhere
from pynwb import NWBHDF5IO

from nwb_extfiles import (
    NWBExtFilesHDF5IO,
    Resolution,
    UnreadableFileError,
    find_external_files,
    find_referring_files,
    relocate,
)
from nwb_extfiles.errors import ExternalFilesError

DATASET = "acquisition/video/external_file"


def rows(found: list[Resolution]) -> list[tuple[Any, ...]]:
    """What was found, in the order of the objects' paths."""
    return sorted(
        (
            entry.reference.object_path,
            entry.reference.field,
            entry.reference.index,
            entry.reference.neurodata_type,
            entry.reference.object_id,
            entry.reference.stored_path,
            entry.url,
            None if entry.file is None else (entry.file.real, entry.file.size),
        )
        for entry in found
    )


# ------------------------------------------------------------------- from a path


def test_references_from_a_path(tmp_path: Path) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "a.nwb", ["videos/a.avi", "gone.avi", "https://example.org/a.mp4", str(video)])
    with h5py.File(path) as file:
        object_id = file["acquisition/video"].attrs["object_id"]
    found = find_external_files(path)
    assert [entry.reference.index for entry in found] == [0, 1, 2, 3]
    assert {
        (entry.reference.object_path, entry.reference.neurodata_type, entry.reference.object_id, entry.reference.field)
        for entry in found
    } == {("/acquisition/video", "ImageSeries", object_id, "external_file")}
    assert [entry.reference.stored_path for entry in found] == stored_paths(path)
    assert [entry.file and entry.file.path for entry in found] == [video, None, None, video]
    assert [entry.file.size for entry in found if entry.file] == [video.stat().st_size] * 2
    assert [entry.url for entry in found] == [False, False, True, False]
    assert [entry.problem is not None for entry in found] == [False, True, False, False]


def test_relative_path_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["../videos/a.avi"])
    expected = rows(find_external_files(path))
    monkeypatch.chdir(path.parent)
    assert rows(find_external_files("a.nwb")) == expected
    monkeypatch.chdir(tmp_path / "videos")
    assert rows(find_external_files(Path("../nwb/a.nwb"))) == expected


def test_no_references_and_nothing_changed(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    before = path.read_bytes(), path.stat().st_mtime_ns
    find_external_files(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = 1
    assert find_external_files(tmp_path / "plain.h5") == []
    with pytest.raises(UnreadableFileError):
        find_external_files(tmp_path / "nowhere.nwb")


@pytest.mark.parametrize("value", [None, 5, b"a.nwb"])
def test_wrong_argument_type(value: Any) -> None:
    with pytest.raises(TypeError, match="takes a path or"):
        find_external_files(value)


def test_file_names_not_utf8(tmp_path: Path) -> None:
    """HDF5 takes any bytes for the name of an object."""
    make_media(tmp_path / "a.avi")
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    with h5py.File(path, "r+") as file:
        group = file["acquisition"].id
        group.links.move(b"video", group, b"vi\xff\x1b[31mdeo")
    (entry,) = find_external_files(path)
    assert entry.file is not None
    relocate(path, "copy")
    (entry,) = find_external_files(path)
    assert entry.file is not None
    assert entry.file.path.parent == tmp_path / "a"


def test_options_reach_the_search(tmp_path: Path) -> None:
    path = tmp_path / "nwb" / "a.nwb"
    run_maker("extension", path)
    usual = find_external_files(path)
    more = find_external_files(path, media_options={"media_fields": [("VideoArchive", "video_paths")]})
    assert len(more) == len(usual) + 2
    shutil.move(tmp_path / "media", tmp_path / "elsewhere")
    assert all(entry.problem for entry in find_external_files(path))
    assert all(entry.file for entry in find_external_files(path, media_options={"search": tmp_path / "elsewhere"}))


def test_problems_are_collected(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    set_paths(path, DATASET, [1])
    problems: list[ExternalFilesError] = []
    assert find_external_files(path, problems=problems) == []
    assert [problem.object_path for problem in problems] == ["/acquisition/video"]


# -------------------------------------------------------------- from a container


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everywhere")
    return write_everywhere(folder / "nwb" / "a.nwb", Media(folder / "media"))


@pytest.mark.parametrize("how", ["pynwb", "ours", "resolved"])
def test_references_of_a_read_container(everywhere: Path, how: str) -> None:
    makers = {
        "pynwb": lambda: NWBHDF5IO(everywhere, "r"),
        "ours": lambda: NWBExtFilesHDF5IO(everywhere, "r"),
        "resolved": lambda: NWBExtFilesHDF5IO(everywhere, "r", resolve_media=True),
    }
    before = everywhere.read_bytes()
    with makers[how]() as io:
        found = find_external_files(io.read())
        assert rows(found) == rows(find_external_files(everywhere))
        assert {entry.reference.nwb_path for entry in found} == {str(everywhere)}
    assert everywhere.read_bytes() == before


def test_references_of_a_container_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["videos/a.avi", str(video), "gone.avi"]))
    monkeypatch.chdir(tmp_path)
    found = find_external_files(nwbfile)
    assert [entry.file and entry.file.path for entry in found] == [video, video, None]
    assert [entry.reference.stored_path for entry in found] == ["videos/a.avi", str(video), "gone.avi"]
    assert {entry.reference.object_id for entry in found} == {nwbfile.acquisition["video"].object_id}
    assert {entry.reference.object_path for entry in found} == {"/acquisition/video"}
    assert nwbfile.container_source is None
    assert nwbfile.modified


def test_pathlib_paths_in_memory(tmp_path: Path) -> None:
    video = make_media(tmp_path / "a.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([video]))
    (entry,) = find_external_files(nwbfile)
    assert entry.file is not None
    assert entry.file.path == video
    assert entry.reference.stored_path == str(video)


def same(first: Path, second: Path) -> bool:
    """Whether two files hold the same, but for when they were written."""
    one, two = contents(first), contents(second)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name] and "file_create_date" not in name] == []
    return True


def test_later_write_is_unaffected(tmp_path: Path) -> None:
    make_media(tmp_path / "a.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["a.avi"]))
    with NWBHDF5IO(tmp_path / "before.nwb", "w") as io:
        io.write(nwbfile)
    other = new_nwbfile()
    series = image_series(["a.avi"])
    other.add_acquisition(series)
    for container, model in (
        (other, nwbfile),
        (series, nwbfile.acquisition["video"]),
        (other.subject, nwbfile.subject),
    ):
        container._AbstractContainer__object_id = model.object_id
    find_external_files(other)
    with NWBHDF5IO(tmp_path / "after.nwb", "w") as io:
        io.write(other)
    assert same(tmp_path / "before.nwb", tmp_path / "after.nwb")


def test_later_append_or_export_is_unaffected(tmp_path: Path) -> None:
    make_media(tmp_path / "a.avi")
    path = write_nwb(tmp_path / "plain.nwb", ["a.avi"])
    listed = Path(shutil.copy(path, tmp_path / "listed.nwb"))
    ids = {}
    for target in (path, listed):
        with NWBHDF5IO(target, "r+") as io:
            nwbfile = io.read()
            series = image_series(["b.avi"], "second")
            ids.setdefault("second", series.object_id)
            series._AbstractContainer__object_id = ids["second"]
            nwbfile.add_acquisition(series)
            if target is listed:
                assert [entry.reference.stored_path for entry in find_external_files(nwbfile)] == ["a.avi", "b.avi"]
                find_external_files(nwbfile)
            io.write(nwbfile)
        with NWBHDF5IO(target, "r") as source, NWBHDF5IO(target.with_suffix(".out.nwb"), "w") as io:
            nwbfile = source.read()
            if target is listed:
                find_external_files(nwbfile)
            io.export(src_io=source, nwbfile=nwbfile)
    assert same(path, listed)
    assert same(path.with_suffix(".out.nwb"), listed.with_suffix(".out.nwb"))


def test_relocating_export_after_listing(tmp_path: Path) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "raw" / "a.nwb", ["../videos/a.avi"])
    target = tmp_path / "new" / "b.nwb"
    with quiet(), NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO(target, "w") as io:
        nwbfile = source.read()
        find_external_files(nwbfile)
        io.export(src_io=source, nwbfile=nwbfile, relocate_media=True, media_mode="copy")
    (text,) = stored_paths(target)
    assert (target.parent / text).read_bytes() == video.read_bytes()


# ------------------------------------------------------------ the other way round


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Three NWB files: two refer to ``a.avi``, one of them by a link; one to ``b.avi`` and to what is gone."""
    for name in ("a.avi", "b.avi", "c.avi"):
        make_media(tmp_path / "videos" / name)
    (tmp_path / "videos" / "alias.avi").symlink_to("a.avi")
    os.link(tmp_path / "videos" / "a.avi", tmp_path / "videos" / "hard.avi")
    write_nwb(tmp_path / "nwb" / "1.nwb", ["../videos/a.avi", "../videos/b.avi"])
    write_nwb(tmp_path / "nwb" / "deep" / "2.nwb", ["../../videos/alias.avi"])
    write_nwb(
        tmp_path / "nwb" / "3.nwb", ["../videos/b.avi", "lost.avi", "D:\\lab\\lost.avi", "https://x.org/lost.avi"]
    )
    return tmp_path


def referring(library: Path, *videos: str | Path, **options: Any) -> list[tuple[str, str, int]]:
    return [
        (str(video), Path(entry.reference.nwb_path).name, entry.reference.index)
        for video, entry in find_referring_files([library / video for video in videos], [library / "nwb"], **options)
    ]


@pytest.mark.parametrize("video", ["a.avi", "alias.avi", "hard.avi"])
def test_referring_files_by_any_name(library: Path, video: str) -> None:
    name = str(library / "videos" / video)
    assert referring(library, f"videos/{video}") == [(name, "1.nwb", 0), (name, "2.nwb", 0)]


def test_referring_files_of_several_videos(library: Path) -> None:
    assert [row[1:] for row in referring(library, "videos/b.avi", "videos/a.avi")] == [
        ("1.nwb", 0), ("1.nwb", 1), ("3.nwb", 0), ("2.nwb", 0),
    ]  # fmt: skip
    assert referring(library, "videos/c.avi") == []


def test_referring_files_of_a_missing_video(library: Path) -> None:
    assert [row[1:] for row in referring(library, "lost.avi")] == [("3.nwb", 1), ("3.nwb", 2)]
    assert [row[1:] for row in referring(library, "elsewhere/lost.avi")] == [("3.nwb", 1), ("3.nwb", 2)]
    assert referring(library, "never.avi") == []


def test_referring_files_after_a_relocation(library: Path) -> None:
    relocate(library / "nwb" / "1.nwb", "hardlink")
    assert [row[1:] for row in referring(library, "videos/a.avi")] == [("1.nwb", 0), ("2.nwb", 0)]


def test_referring_files_of_many_nwb_files(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "0.nwb", [f"{number}.avi" for number in range(100)])
    for number in range(1, 40):
        shutil.copy(path, tmp_path / f"{number}.nwb")
    video = make_media(tmp_path / "7.avi")
    with taking_at_most(5):
        assert len(list(find_referring_files([video], [tmp_path]))) == 40

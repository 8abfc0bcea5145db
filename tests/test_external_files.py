"""External files listed and located: on this machine, behind URLs, and the other way round."""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
import remfile
from helpers import contents, image_series, new_nwbfile, set_paths, stored_paths, taking_at_most, write_nwb
from makers import Media, make_media, quiet, run_maker, write_everywhere, write_pose
from pynwb import NWBHDF5IO
from servers import Server, reading_from_here

from nwb_extfiles import NWBExtFilesHDF5IO, ResolvedExternalFile, find_referring_files, relocate, resolve_external_files
from nwb_extfiles.errors import ExternalFilesError, MissingMediaError, UnreadableFileError, UnsafeReferenceError
from nwb_extfiles.plans.locate import LocationKind
from nwb_extfiles.web.remote import beside, folder_of, source_of

DATASET = "acquisition/video/external_file"


def fetched(url: str | None) -> bytes:
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def locations(entries: list[ResolvedExternalFile]) -> list[str | None]:
    assert all((entry.location is None) == (entry.problem is not None) for entry in entries)
    return [entry.location for entry in entries]


@pytest.fixture
def mixed(tmp_path: Path, video_files: Path) -> Path:
    paths = ["../video_files/test1_0.avi", "https://example.org/b.avi", "gone.avi", str(video_files / "test2_1.avi")]
    return write_nwb(tmp_path / "nwbfiles" / "a.nwb", paths)


# ------------------------------------------------------------ on this machine


def test_frame_0_of_a_relocated_video(tmp_path: Path, videos: list[Path]) -> None:
    shutil.copy(videos[3], tmp_path / "video.avi")
    source = write_nwb(tmp_path / "source" / "a.nwb", ["../video.avi"])
    target = tmp_path / "dandiset" / "sub-a.nwb"
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode="copy")
    shutil.rmtree(tmp_path / "source")
    (tmp_path / "video.avi").unlink()
    with NWBHDF5IO(target, "r") as io:
        (entry,) = resolve_external_files(io.read().acquisition["video"])
    assert entry.kind is LocationKind.FILE
    frame = imageio.imread(str(entry.location), index=0)
    assert frame.shape == (48, 64, 3)
    assert np.array_equal(frame, imageio.imread(videos[3], index=0))
    assert not np.array_equal(frame, imageio.imread(videos[0], index=0))


def test_each_way_to_name_a_local_file(mixed: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [str(video_files / "test1_0.avi"), "https://example.org/b.avi", None, str(video_files / "test2_1.avi")]
    monkeypatch.chdir(mixed.parent)
    of_path = resolve_external_files("a.nwb")
    with h5py.File(mixed, "r") as file:
        of_file = resolve_external_files(file)
    with NWBHDF5IO("a.nwb", "r") as io:
        nwbfile = io.read()
        monkeypatch.chdir("/")
        of_nwbfile = resolve_external_files(nwbfile)
        of_series = resolve_external_files(nwbfile.acquisition["video"])
    with NWBExtFilesHDF5IO(mixed, "r", resolve_media=True) as io:
        of_resolved = resolve_external_files(io.read())
    of_url = resolve_external_files(mixed.as_uri())
    for entries in (of_path, of_file, of_nwbfile, of_series, of_resolved, of_url, resolve_external_files(mixed)):
        assert locations(entries) == expected
        assert [entry.kind for entry in entries] == ["file", "url", "none", "file"]
        assert [entry.reference.stored_path for entry in entries] == stored_paths(mixed)
        assert {entry.reference.object_path for entry in entries} == {"/acquisition/video"}
        assert {entry.reference.nwb_path for entry in entries} == {str(mixed)}
        assert isinstance(entries[2].problem, MissingMediaError)
        assert str(mixed.parent / "gone.avi") in str(entries[2].problem)
        assert "external_file[2]" in str(entries[2].problem)


def test_file_read_from_another_machine() -> None:
    with pytest.raises(UnreadableFileError, match="on another machine, 'lab-server'"):
        resolve_external_files("file://lab-server/a.nwb")


def test_every_type_is_resolved(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    path = write_everywhere(tmp_path / "nwb" / "a.nwb", media)
    names = sorted(name for names in media.places.values() for name in names)
    of_path = resolve_external_files(path)
    with quiet(), NWBHDF5IO(path, "r") as io:
        of_container = resolve_external_files(io.read())
    for entries in (of_path, of_container):
        assert sorted(Path(entry.location or "").name for entry in entries) == names
    assert {entry.reference.object_path for entry in of_path} == {entry.reference.object_path for entry in of_container}


def test_pose_estimation(tmp_path: Path) -> None:
    pytest.importorskip("ndx_pose")
    media = Media(tmp_path / "media")
    (tmp_path / "nwb").mkdir()
    with quiet():
        write_pose(tmp_path / "nwb" / "a.nwb", media)
    with quiet(), NWBHDF5IO(tmp_path / "nwb" / "a.nwb", "r") as io:
        pose = io.read().processing["behavior"]["PoseEstimation"]
        entries = resolve_external_files(pose)
    names = ["video0.avi", "own.avi", "video1.avi", "labeled0.mp4", "labeled1.mp4", "labeled2.mp4"]
    assert [Path(entry.location or "").name for entry in entries] == names
    assert {entry.reference.field for entry in entries} == {"original_videos", "labeled_videos"}


def test_options_reach_resolution(tmp_path: Path, video_files: Path) -> None:
    path = write_nwb(tmp_path / "far" / "a.nwb", [r"D:\videos\test1_0.avi", "test1_1.avi"])
    options = {"search": video_files, "path_map": {r"D:\videos": str(video_files)}}
    assert locations(resolve_external_files(path, options)) == [
        str(video_files / "test1_0.avi"),
        str(video_files / "test1_1.avi"),
    ]
    outside = resolve_external_files(path, {**options, "within": [tmp_path / "far"]})
    assert all(isinstance(entry.problem, UnsafeReferenceError) for entry in outside)


def test_container_in_memory(tmp_path: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([Path("test1_0.avi"), "gone.avi"]))
    monkeypatch.chdir(video_files)
    entries = resolve_external_files(nwbfile)
    assert locations(entries) == [str(video_files / "test1_0.avi"), None]
    assert entries[0].reference.nwb_path == "(in memory)"
    monkeypatch.chdir("/")
    assert locations(resolve_external_files(nwbfile, opened_from=video_files / "a.nwb"))[0] == str(
        video_files / "test1_0.avi"
    )


def test_object_paths_in_memory_are_those_of_the_file(tmp_path: Path) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["a.avi"], "seen"))
    nwbfile.add_stimulus(image_series(["b.avi"], "shown"))
    nwbfile.add_stimulus_template(image_series(["c.avi"], "template"))
    nwbfile.create_processing_module("behavior", "b").add(image_series(["d.avi"], "cropped"))
    nwbfile.add_analysis(image_series(["e.avi"], "tracked"))
    nwbfile.add_scratch(image_series(["f.avi"], "tried"))
    before = sorted(entry.reference.object_path for entry in resolve_external_files(nwbfile))
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    assert before == sorted(entry.reference.object_path for entry in resolve_external_files(tmp_path / "a.nwb"))
    assert {"/stimulus/presentation/shown", "/stimulus/templates/template"} < set(before)


def test_closed_file_is_reported(mixed: Path) -> None:
    with NWBHDF5IO(mixed, "r") as io:
        nwbfile = io.read()
    with pytest.raises(UnreadableFileError, match=r"a\.nwb: '/acquisition/video' .* while the IO is open"):
        resolve_external_files(nwbfile)


@pytest.mark.parametrize("nonsense", [3, None, b"a.nwb", [None]])
def test_wrong_argument_type(nonsense: object) -> None:
    with pytest.raises(TypeError, match="external files are resolved for"):
        resolve_external_files(nonsense)


def rows(found: list[ResolvedExternalFile]) -> list[tuple[Any, ...]]:
    """What was found, in the order of the objects' paths."""
    return sorted(
        (
            entry.reference.object_path,
            entry.reference.field,
            entry.reference.index,
            entry.reference.neurodata_type,
            entry.reference.object_id,
            entry.reference.stored_path,
            entry.kind,
            entry.location and os.path.realpath(entry.location),
            entry.size,
        )
        for entry in found
    )


# ------------------------------------------------------------------- from a path


def test_references_from_a_path(tmp_path: Path) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "a.nwb", ["videos/a.avi", "gone.avi", "https://example.org/a.mp4", str(video)])
    with h5py.File(path) as file:
        object_id = file["acquisition/video"].attrs["object_id"]
    found = resolve_external_files(path)
    assert [entry.reference.index for entry in found] == [0, 1, 2, 3]
    assert {
        (entry.reference.object_path, entry.reference.neurodata_type, entry.reference.object_id, entry.reference.field)
        for entry in found
    } == {("/acquisition/video", "ImageSeries", object_id, "external_file")}
    assert [entry.reference.stored_path for entry in found] == stored_paths(path)
    assert locations(found) == [str(video), None, "https://example.org/a.mp4", str(video)]
    assert [entry.size for entry in found] == [video.stat().st_size, None, None, video.stat().st_size]
    assert [entry.kind for entry in found] == ["file", "none", "url", "file"]
    assert [entry.problem is not None for entry in found] == [False, True, False, False]


def test_relative_path_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["../videos/a.avi"])
    expected = rows(resolve_external_files(path))
    monkeypatch.chdir(path.parent)
    assert rows(resolve_external_files("a.nwb")) == expected
    monkeypatch.chdir(tmp_path / "videos")
    assert rows(resolve_external_files(Path("../nwb/a.nwb"))) == expected


def test_no_references_and_nothing_changed(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    before = path.read_bytes(), path.stat().st_mtime_ns
    resolve_external_files(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UnreadableFileError, match="is not an NWB file"):
        resolve_external_files(tmp_path / "plain.h5")
    with pytest.raises(UnreadableFileError):
        resolve_external_files(tmp_path / "nowhere.nwb")


def test_file_names_not_utf8(tmp_path: Path) -> None:
    """HDF5 takes any bytes for the name of an object."""
    make_media(tmp_path / "a.avi")
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    with h5py.File(path, "r+") as file:
        group = file["acquisition"].id
        group.links.move(b"video", group, b"vi\xff\x1b[31mdeo")
    (entry,) = resolve_external_files(path)
    assert entry.location is not None
    relocate(path, "copy")
    (entry,) = resolve_external_files(path)
    assert entry.location is not None
    assert Path(entry.location).parent == tmp_path / "a"


def test_further_fields_and_search(tmp_path: Path) -> None:
    path = tmp_path / "nwb" / "a.nwb"
    run_maker("extension", path)
    usual = resolve_external_files(path)
    more = resolve_external_files(path, media_options={"media_fields": [("VideoArchive", "video_paths")]})
    assert len(more) == len(usual) + 2
    shutil.move(tmp_path / "media", tmp_path / "elsewhere")
    assert all(entry.problem for entry in resolve_external_files(path))
    options = {"search": tmp_path / "elsewhere"}
    assert all(entry.location for entry in resolve_external_files(path, options))


def test_problems_are_collected(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    set_paths(path, DATASET, [1])
    problems: list[ExternalFilesError] = []
    assert resolve_external_files(path, problems=problems) == []
    assert [problem.object_path for problem in problems] == ["/acquisition/video"]


def test_folders_and_several_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_media(tmp_path / f"{name}.avi")
        write_nwb(tmp_path / "nwb" / f"{name}.nwb", [f"../{name}.avi"])
    expected = [str(tmp_path / "a.avi"), str(tmp_path / "b.avi")]
    assert locations(resolve_external_files(tmp_path / "nwb")) == expected
    assert locations(resolve_external_files([tmp_path / "nwb" / "a.nwb", str(tmp_path / "nwb" / "b.nwb")])) == expected
    with pytest.raises(TypeError, match="opened_from is the place of one NWB file"):
        resolve_external_files(tmp_path / "nwb", opened_from="https://example.org/a.nwb")


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
        found = resolve_external_files(io.read())
        assert rows(found) == rows(resolve_external_files(everywhere))
        assert {entry.reference.nwb_path for entry in found} == {str(everywhere)}
    assert everywhere.read_bytes() == before


def test_references_of_a_container_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["videos/a.avi", str(video), "gone.avi"]))
    monkeypatch.chdir(tmp_path)
    found = resolve_external_files(nwbfile)
    assert locations(found) == [str(video), str(video), None]
    assert [entry.reference.stored_path for entry in found] == ["videos/a.avi", str(video), "gone.avi"]
    assert {entry.reference.object_id for entry in found} == {nwbfile.acquisition["video"].object_id}
    assert {entry.reference.object_path for entry in found} == {"/acquisition/video"}
    assert nwbfile.container_source is None
    assert nwbfile.modified


def test_pathlib_paths_in_memory(tmp_path: Path) -> None:
    video = make_media(tmp_path / "a.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([video]))
    (entry,) = resolve_external_files(nwbfile)
    assert entry.location == str(video)
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
    resolve_external_files(other)
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
                assert [entry.reference.stored_path for entry in resolve_external_files(nwbfile)] == ["a.avi", "b.avi"]
                resolve_external_files(nwbfile)
            io.write(nwbfile)
        with NWBHDF5IO(target, "r") as source, NWBHDF5IO(target.with_suffix(".out.nwb"), "w") as io:
            nwbfile = source.read()
            if target is listed:
                resolve_external_files(nwbfile)
            io.export(src_io=source, nwbfile=nwbfile)
    assert same(path, listed)
    assert same(path.with_suffix(".out.nwb"), listed.with_suffix(".out.nwb"))


def test_relocating_export_after_listing(tmp_path: Path) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "raw" / "a.nwb", ["../videos/a.avi"])
    target = tmp_path / "new" / "b.nwb"
    with quiet(), NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO(target, "w") as io:
        nwbfile = source.read()
        resolve_external_files(nwbfile)
        io.export(src_io=source, nwbfile=nwbfile, relocate_media=True, media_mode="copy")
    (text,) = stored_paths(target)
    assert (target.parent / text).read_bytes() == video.read_bytes()


# ---------------------------------------------------------------- behind URLs


@pytest.fixture
def served(server: Server, videos: list[Path]) -> Iterator[Server]:
    """``sub-a/a.nwb`` and two videos on a server, one with a name that URLs cannot hold as it is."""
    paths = ["a/video 1#100%.avi", "a\\second.avi", "../../out.avi", "/elsewhere.avi", "https://example.org/x.avi"]
    write_nwb(server.folder / "sub-a" / "a.nwb", paths)
    (server.folder / "sub-a" / "a").mkdir()
    shutil.copy(videos[0], server.folder / "sub-a" / "a" / "video 1#100%.avi")
    shutil.copy(videos[1], server.folder / "sub-a" / "a" / "second.avi")
    with reading_from_here():
        yield server


def check_served(entries: list[ResolvedExternalFile], served: Server, videos: list[Path]) -> None:
    base = served.url("sub-a/a")
    assert locations(entries) == [
        f"{base}/video%201%23100%25.avi", f"{base}/second.avi", None, None, "https://example.org/x.avi"
    ]  # fmt: skip
    assert [fetched(entry.location) for entry in entries[:2]] == [video.read_bytes() for video in videos[:2]]
    assert isinstance(entries[2].problem, UnsafeReferenceError)
    assert "points outside the server" in str(entries[2].problem)
    assert isinstance(entries[3].problem, MissingMediaError)
    assert {entry.reference.nwb_path for entry in entries} == {served.url("sub-a/a.nwb")}


def test_nwb_file_from_url(served: Server, videos: list[Path]) -> None:
    check_served(resolve_external_files(served.url("sub-a/a.nwb")), served, videos)


def test_videos_in_a_folder_beside_that_of_the_file(server: Server, videos: list[Path]) -> None:
    write_nwb(server.folder / "nwbfiles" / "a.nwb", ["../video_files/video.avi"])
    (server.folder / "video_files").mkdir()
    shutil.copy(videos[0], server.folder / "video_files" / "video.avi")
    with reading_from_here():
        (entry,) = resolve_external_files(server.url("nwbfiles/a.nwb"))
    assert entry.location == server.url("video_files/video.avi")
    assert fetched(entry.location) == videos[0].read_bytes()


def test_fsspec_file_object(served: Server, videos: list[Path]) -> None:
    with fsspec.open(served.url("sub-a/a.nwb")) as stream, h5py.File(stream, "r") as file:
        check_served(resolve_external_files(file), served, videos)
        with NWBHDF5IO(file=file, mode="r") as io:
            check_served(resolve_external_files(io.read()), served, videos)


def test_resolve_media_means_the_same(served: Server, videos: list[Path]) -> None:
    with fsspec.open(served.url("sub-a/a.nwb")) as stream, h5py.File(stream, "r") as file:
        with NWBExtFilesHDF5IO(file=file, mode="r", resolve_media=True) as io:
            nwbfile = io.read()
            paths = nwbfile.acquisition["video"].external_file
            check_served(resolve_external_files(nwbfile), served, videos)
    assert [fetched(path) for path in paths[:2]] == [video.read_bytes() for video in videos[:2]]
    assert paths[2:] == ["../../out.avi", "/elsewhere.avi", "https://example.org/x.avi"]


def test_anonymous_file_object(served: Server, videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(served.folder / "sub-a")  # what is there has nothing to do with it
    with h5py.File(remfile.File(served.url("sub-a/a.nwb")), "r") as file, NWBHDF5IO(file=file, mode="r") as io:
        nwbfile = io.read()
        for source in (file, nwbfile):
            first, *_ = resolve_external_files(source)
            assert isinstance(first.problem, MissingMediaError)
            assert "opened_from=" in str(first.problem)
            check_served(resolve_external_files(source, opened_from=served.url("sub-a/a.nwb")), served, videos)


def test_local_copy_is_preferred(served: Server, video_files: Path) -> None:
    shutil.copy(video_files / "test1_0.avi", video_files / "second.avi")
    entries = resolve_external_files(served.url("sub-a/a.nwb"), {"search": video_files})
    assert [entry.kind for entry in entries[:2]] == ["url", "file"]
    assert entries[1].location == str(video_files / "second.avi")


def test_unreadable_urls_are_reported(server: Server) -> None:
    (server.folder / "a.nwb").write_text("no NWB file")
    for name in ("a.nwb", "none.nwb"):
        with pytest.raises(UnreadableFileError, match=rf"{name} cannot be read as an NWB file in HDF5"):
            resolve_external_files(server.url(name))
    with pytest.raises(UnsafeReferenceError, match="only http, https, s3, gs"):
        resolve_external_files("ftp://example.org/a.nwb")


@pytest.mark.parametrize(
    ("nwb_url", "text", "expected"),
    [
        ("https://h/d/x.nwb", "x/f.avi", "https://h/d/x/f.avi"),
        ("https://h/d/x.nwb?signature=s#f", "./f.avi", "https://h/d/f.avi"),
        ("https://h/x.nwb", "a/../f.avi", "https://h/f.avi"),
        ("https://h/d%20e/x.nwb", "ü?.avi", "https://h/d%20e/%C3%BC%3F.avi"),
        ("https://h/d/x.nwb", "a:b.avi", "https://h/d/a:b.avi"),
        ("s3://b/d/x.nwb", "a b.avi", "s3://b/d/a b.avi"),
        ("gs://b/x.nwb", "a.avi", "gs://b/a.avi"),
        ("https://h/d/x.nwb", "../f.avi", "https://h/f.avi"),
        ("https://h/c/d%20e/x.nwb", "a/../../g h/f.avi", "https://h/c/g%20h/f.avi"),
        ("https://h/c/d/x.nwb", "..\\..\\f.avi", "https://h/f.avi"),
        ("s3://b/d/x.nwb", "../e/a b.avi", "s3://b/e/a b.avi"),
        ("https://h/d/x.nwb", "../../f.avi", None),
        ("https://h/d/x.nwb", "..\\..\\f.avi", None),
        ("https://h/x.nwb", "../f.avi", None),
        ("https://h/c/d/x.nwb", "..", None),
        ("s3://b/d/x.nwb", "../../other/f.avi", None),
        ("https://h", "f.avi", "https://h/f.avi"),
        ("s3://b", "../f.avi", None),
        ("https://h/d/x.nwb", "/f.avi", None),
        ("https://h/d/x.nwb", ".", None),
        ("unknown://", "f.avi", None),
        ("https://s/blobs/012/abc/012abc00-0000-4000-8000-000000000000", "x/f.avi", None),
    ],
)
def test_url_beside_nwb_url(nwb_url: str, text: str, expected: str | None) -> None:
    assert beside(folder_of(nwb_url), text) == expected


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("/d/a.nwb", "/d/a.nwb"),
        ("/here/<File-like object HTTPFileSystem, https:/h/a.nwb>", "https://h/a.nwb"),
        (r"C:\here\<File-like object HTTPFileSystem, https:\h\a.nwb>", "https://h/a.nwb"),
        (r"C:\here\https:\h\a.nwb", "https://h/a.nwb"),
        ("<File-like object S3FileSystem, bucket/a.nwb>", "s3://bucket/a.nwb"),
        ("<File-like object GCSFileSystem, bucket/a.nwb>", "gs://bucket/a.nwb"),
        ("<File-like object LocalFileSystem, /d/a.nwb>", "/d/a.nwb"),
        ("/here/<remfile.RemFile.RemFile object at 0x7f>", "<remfile.RemFile.RemFile object at 0x7f>"),
        ("/here/https:/h/a.nwb", "https://h/a.nwb"),
        ("https://h/a.nwb", "https://h/a.nwb"),
    ],
)
def test_source_of_file_objects(filename: str, expected: str) -> None:
    assert source_of(filename) == expected


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

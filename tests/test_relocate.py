"""Media of NWB files copied, linked or moved beside them, checked by h5py and by what is on disk."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import processes
import pytest
from helpers import (
    assert_resolves,
    contents,
    digest,
    image_series,
    name_of_bytes,
    needs_symlink,
    new_nwbfile,
    set_paths,
    stored_paths,
    taking_at_most,
    tree,
    write_nwb,
)
from makers import Media, assert_relocated, look, make_media, order_of_images, run_maker, write_everywhere
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesError, ExternalFilesWarning, NWBExtFilesHDF5IO, relocate
from nwb_extfiles.errors import (
    DestinationBusyError,
    MediaExistsError,
    MissingMediaError,
    PlanError,
    RelocationRefusedError,
    UnreadableFileError,
    UnsafeReferenceError,
)
from nwb_extfiles.tasks.relocating import relocate_files

DATASET = "acquisition/video/external_file"
MODES = ("symlink", "hardlink", "copy", "move")
posix = pytest.mark.skipif(os.name == "nt", reason="not so on Windows")


def nwb_with(folder: Path, *names: str, nwb: str = "a.nwb", **kwargs: Any) -> Path:
    """An NWB file with one series of videos that lie in ``videos`` beside its folder."""
    for name in names:
        if not (folder / "videos" / name).exists():
            make_media(folder / "videos" / name)
    return write_nwb(folder / "nwb" / nwb, [f"../videos/{name}" for name in names], **kwargs)


def media_names(path: Path, *names: str, dataset: str = DATASET) -> list[str]:
    """The paths by DANDI's convention, for videos with these names."""
    object_id = look(path, dataset).object_id
    return [f"{path.stem}/{object_id}_external_file_{n}{Path(name).suffix.lower()}" for n, name in enumerate(names)]


def is_right(path: Path, *names: str, videos: Path | None = None) -> bool:
    """Whether an NWB file names its videos as DANDI does, and they have the bytes that videos of that name have."""
    paths = stored_paths(path)
    assert paths == media_names(path, *names)
    for text, name in zip(paths, names, strict=True):
        assert (path.parent / text).read_bytes() == b"media " + os.fsencode(name) * 50
    return True


# ----------------------------------------------------------------- everywhere


@pytest.mark.parametrize("mode", MODES)
def test_every_type_in_place(tmp_path: Path, mode: str) -> None:
    media = Media(tmp_path / "media")
    path = write_everywhere(tmp_path / "nwb" / "a.nwb", media)
    before, size = contents(path), path.stat().st_size
    shutil.copytree(tmp_path / "media", tmp_path / "kept")
    plan = relocate(path, mode)
    assert len(plan.relocations) == sum(map(len, media.places.values()))
    assert_relocated(path, tmp_path / "kept", media.places)
    assert order_of_images(path, "acquisition/images") == ["image2", "image0", "image1"]
    left = {name for name in before if name not in media.places}
    after = contents(path)
    assert {name: after[name] for name in left} == {name: before[name] for name in left}
    assert path.stat().st_size - size < 40_000
    assert list((tmp_path / "media").iterdir()) == [] if mode == "move" else True
    with NWBHDF5IO(path, "r") as io:
        assert len(list(io.read().acquisition)) >= 4
    if mode != "move":
        again = tree(tmp_path)
        relocate(path, mode)
        assert tree(tmp_path) == again


def test_reference_mode_makes_paths_relative(tmp_path: Path) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "nwb" / "x.nwb", [str(video)])
    relocate(path, "reference")
    assert stored_paths(path) == ["../videos/a.avi"]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["x.nwb"]


@pytest.mark.parametrize("what", ["extension", "pose"])
def test_unknown_types_are_ignored(tmp_path: Path, what: str) -> None:
    path = tmp_path / "nwb" / "a.nwb"
    places = run_maker(what, path)
    archive = places.pop("processing/behavior/archive/video_paths", [])
    if archive:  # a field that only its maker knows
        places["processing/behavior/archive/video_paths"] = archive
    options = {"media_fields": [("VideoArchive", "video_paths")]} if archive else {}
    if what == "pose":
        with h5py.File(path) as file:
            own = file["processing/behavior/PoseEstimation"].attrs["object_id"]
        relocate(path, "copy", media_options=options)
        series = look(path, "stimulus/presentation/video/external_file").paths
        originals = stored_paths(path, "processing/behavior/PoseEstimation/original_videos")
        assert originals == [series[0], f"a/{own}_original_videos_1.avi", series[1]]
        assert all((path.parent / text).is_file() for text in originals)
    else:
        relocate(path, "copy", media_options=options)
        assert_relocated(path, tmp_path / "media", places)


# -------------------------------------------------------------------- storage

UTF8, ASCII = h5py.string_dtype("utf-8"), h5py.string_dtype("ascii")
TWO = ["../videos/a.avi", "../videos/b.avi"]
STORAGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "vlen utf8": (TWO, dict(dtype=UTF8)),
    "vlen ascii": (TWO, dict(dtype=ASCII)),
    "fixed, too short": (np.array(TWO, dtype="S15"), {}),
    "fixed, long enough": (np.array(TWO, dtype="S200"), {}),
    "fixed utf8": (TWO, dict(dtype=h5py.string_dtype("utf-8", 20))),
    "chunked": (TWO, dict(dtype=UTF8, chunks=(1,), maxshape=(None,))),
    "compressed": (TWO, dict(dtype=UTF8, chunks=(2,), compression="gzip", shuffle=True)),
    "compressed fixed": (np.array(TWO, dtype="S15"), dict(chunks=(2,), compression="gzip", fletcher32=True)),
    "MatNWB row": (np.array([TWO], dtype="S15"), {}),
    "MatNWB row, vlen": (np.array([TWO], dtype=object), dict(dtype=ASCII)),
    "column": (np.array([[text] for text in TWO], dtype=object), dict(dtype=UTF8)),
}


@pytest.mark.parametrize("storage", STORAGES)
def test_string_storage_is_kept(tmp_path: Path, storage: str) -> None:
    path = nwb_with(tmp_path, "a.avi", "b.avi")
    values, keywords = STORAGES[storage]
    set_paths(path, DATASET, values, **keywords)
    with h5py.File(path, "r+") as file:
        file[DATASET].attrs["note"] = "mine"
        before = file[DATASET].shape, file[DATASET].chunks, file[DATASET].compression
    relocate(path)
    assert is_right(path, "a.avi", "b.avi")
    with h5py.File(path) as file:
        assert (file[DATASET].shape, file[DATASET].chunks, file[DATASET].compression) == before
        assert file[DATASET].attrs["note"] == "mine"
        assert h5py.check_string_dtype(file[DATASET].dtype) is not None
    if len(before[0]) == 1:
        with NWBHDF5IO(path, "r") as io:
            paths = [
                text.decode() if isinstance(text, bytes) else text
                for text in io.read().acquisition["video"].external_file
            ]
            assert paths == stored_paths(path)


@pytest.mark.parametrize("dtype", [UTF8, ASCII, "S15", "S200"])
def test_scalar_external_file_of_old_files(tmp_path: Path, dtype: Any) -> None:
    path = nwb_with(tmp_path, "a.avi")
    set_paths(path, DATASET, np.array("../videos/a.avi", dtype=dtype) if isinstance(dtype, str) else "../videos/a.avi",
              **({} if isinstance(dtype, str) else {"dtype": dtype}))  # fmt: skip
    relocate(path)
    assert is_right(path, "a.avi")
    with h5py.File(path) as file:
        assert file[DATASET].shape == ()


@pytest.mark.parametrize(
    "values", [h5py.Empty(UTF8), h5py.Empty("S4"), np.empty(0, dtype="S4"), np.empty((0, 3), "S1")]
)
def test_files_without_paths(tmp_path: Path, values: Any) -> None:
    path = nwb_with(tmp_path, "a.avi")
    set_paths(path, DATASET, values)
    before = tree(tmp_path)
    assert relocate(path).relocations == ()
    assert tree(tmp_path) == before


def test_values_that_are_not_strings(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    set_paths(path, DATASET, np.array([1, 2]))
    before = tree(tmp_path)
    with pytest.raises(UnsafeReferenceError, match="not a string"):
        relocate(path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["é日本.avi".encode(), b"\xff\xfe.avi"])
def test_non_ascii_and_non_utf8_file_names(tmp_path: Path, name: bytes) -> None:
    path = nwb_with(tmp_path, "a.avi", "b.avi")
    video = tmp_path / "videos" / name_of_bytes(name)
    video.write_bytes(b"raw")
    set_paths(path, DATASET, np.array([os.fsencode(video), b"../videos/b.avi"], dtype=object), dtype=UTF8)
    relocate(path)
    paths = stored_paths(path)
    assert paths == media_names(path, "a.avi", "b.avi")
    assert (path.parent / paths[0]).read_bytes() == b"raw"


def test_object_references_to_an_image_survive(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    path = write_everywhere(tmp_path / "nwb" / "a.nwb", media)
    with h5py.File(path) as file:
        reference = file["acquisition/images"].get("order_of_images")[0]
        name = file[reference].name
    relocate(path)
    with h5py.File(path) as file:
        assert file[file["acquisition/images/order_of_images"][0]].name == name
        assert file[name][()].decode().startswith("a/")


def test_fixed_length_image_path_with_references_is_refused(tmp_path: Path) -> None:
    path = write_everywhere(tmp_path / "nwb" / "a.nwb", Media(tmp_path / "media"))
    with h5py.File(path, "r+") as file:
        images = file["acquisition/images"]
        attributes, text = dict(images["image0"].attrs), images["image0"][()]
        del images["image0"]
        images.create_dataset("image0", data=np.array(text, dtype="S40")).attrs.update(attributes)
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match=r"image0.*fixed length"):
        relocate(path)
    with NWBExtFilesHDF5IO(path, "r+") as io, pytest.raises(RelocationRefusedError, match=r"image0.*fixed length"):
        io.write(io.read(), relocate_media=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("text", ["https://example.org/image.png", None])
def test_fixed_length_image_path_that_fits(tmp_path: Path, text: str | None) -> None:
    """A URL stays as it is, and so does the path of an image that is in its place; other media are relocated."""
    path = write_everywhere(tmp_path / "nwb" / "a.nwb", Media(tmp_path / "media"))
    relocate(path)
    with h5py.File(path, "r+") as file:
        images = file["acquisition/images"]
        attributes, kept = dict(images["image0"].attrs), images["image0"][()] if text is None else text.encode()
        del images["image0"]
        images.create_dataset("image0", data=np.array(kept, dtype=f"S{len(kept)}")).attrs.update(attributes)
    with NWBExtFilesHDF5IO(path, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([str(make_media(tmp_path / "new.avi"))], "new"))
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    with h5py.File(path) as file:
        assert file["acquisition/images/image0"][()] == kept
    assert_resolves(path, [tmp_path / "new.avi"], "acquisition/new/external_file")


def test_paths_linked_from_another_file_are_unchanged(tmp_path: Path) -> None:
    other = nwb_with(tmp_path, "a.avi", nwb="sub/other.nwb")
    set_paths(other, DATASET, ["../../videos/a.avi"], dtype=UTF8)
    path = nwb_with(tmp_path, "b.avi")
    with h5py.File(path, "r+") as file:
        del file[DATASET]
        file[DATASET] = h5py.ExternalLink("sub/other.nwb", "/" + DATASET)
    before = digest(other)
    relocate(path)
    assert digest(other) == before
    assert is_right(path, "a.avi")
    with h5py.File(path) as file:
        assert isinstance(file["acquisition/video"].get("external_file", getlink=True), h5py.HardLink)


def test_path_dataset_shared_by_two_series(tmp_path: Path) -> None:
    """One dataset with a name in each series: it cannot say what both of them need."""
    path = nwb_with(tmp_path, "a.avi", "b.avi")
    other = DATASET.replace("video", "video2", 1)
    with h5py.File(path, "r+") as file:
        file.copy("acquisition/video", "acquisition/video2")
        file["acquisition/video2"].attrs["object_id"] = "0d5e6f5c-9b7c-4f0e-9c4e-0f8d5a3b2c1d"
        del file[other]
        file[other] = file[DATASET]
    relocate(path, media_mode="copy")
    for dataset in (DATASET, other):
        assert stored_paths(path, dataset) == media_names(path, "a.avi", "b.avi", dataset=dataset)
        with h5py.File(path) as file:
            assert "starting_frame" in file[dataset].attrs
    before = tree(tmp_path)
    relocate(path, media_mode="copy")
    assert tree(tmp_path) == before


# ----------------------------------------------------------- the file and disk


def test_unrelated_bytes_are_unchanged(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    noise = np.frombuffer(random.Random(1).randbytes(3_000_000), dtype="u1")
    with h5py.File(path, "r+") as file:
        file["acquisition"].create_dataset("noise", data=noise)
    before = path.read_bytes()
    relocate(path)
    after = path.read_bytes()
    changed = sum(before[at : at + 4096] != after[at : at + 4096] for at in range(0, len(before), 4096))
    assert changed < 12
    assert len(after) - len(before) < 20_000


@posix
def test_huge_file_is_quick(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    with h5py.File(path, "r+") as file:
        space, plist = h5py.h5s.create_simple((60 * 2**30,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        h5py.h5d.create(file["acquisition"].id, b"huge", h5py.h5t.NATIVE_UINT8, space, plist)
    assert path.stat().st_size > 60 * 2**30
    used = path.stat().st_blocks
    with taking_at_most(2):
        relocate(path)
    assert path.stat().st_blocks - used < 400
    assert is_right(path, "a.avi")


def test_two_thousand_references(tmp_path: Path) -> None:
    video = make_media(tmp_path / "videos" / "a.avi")
    nwbfile = new_nwbfile()
    for number in range(200):
        nwbfile.add_acquisition(image_series([f"../videos/{video.name}"] * 10, f"series{number}"))
    path = tmp_path / "nwb" / "a.nwb"
    path.parent.mkdir()
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    with taking_at_most(15):
        plan = relocate(path, media_options={"sync": False})
    assert len(plan.relocations) == 2000
    assert len(list((tmp_path / "nwb" / "a").iterdir())) == 2000


def test_dry_run_changes_nothing_and_reports_the_same(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi", "b.MP4")
    before, stamp = tree(tmp_path), path.stat().st_mtime_ns
    plan = relocate(path, "move", dry_run=True)
    assert tree(tmp_path) == before
    assert path.stat().st_mtime_ns == stamp
    assert relocate(path, "move") == plan
    assert is_right(path, "a.avi", "b.MP4")


@pytest.mark.parametrize("spelling", ["absolute", "relative", "from elsewhere", "through a link"])
def test_any_path_spelling_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    path = nwb_with(tmp_path, "a.avi")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "alias").symlink_to("nwb")
    where = {"absolute": "/", "relative": path.parent, "from elsewhere": tmp_path / "elsewhere"}
    monkeypatch.chdir(where.get(spelling, tmp_path))
    relocate({"absolute": path, "relative": "a.nwb", "from elsewhere": "../nwb/a.nwb"}.get(spelling, "alias/a.nwb"))
    assert is_right(path, "a.avi")
    (text,) = media_names(path, "a.avi")
    assert os.readlink(path.parent / text) == "../../videos/a.avi"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("in_the_way", [False, True])
def test_two_files_with_one_target_are_refused_and_renaming_one_helps(
    tmp_path: Path, mode: str, in_the_way: bool
) -> None:
    """a.nwb and a.h5 have one media folder, and series with one object_id but different videos."""
    first = nwb_with(tmp_path, "one.avi")
    second = first.with_suffix(".h5")
    shutil.copy(first, second)
    make_media(tmp_path / "videos" / "two.avi")
    set_paths(second, DATASET, ["../videos/two.avi"])
    if in_the_way:
        make_media(first.parent / media_names(first, "one.avi")[0])
    before = tree(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(RelocationRefusedError, match=r"a\.h5.*and so would those of .*a\.nwb") as caught:
            relocate_files([first, second], mode, media_options={"existing": "replace"}, dry_run=dry_run)
        assert caught.value.hint is not None
        assert "rename one of the two NWB files" in caught.value.hint
        assert tree(tmp_path) == before
    renamed = second.rename(second.with_name("b.h5"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is replaced
        relocate_files([first, renamed], mode, media_options={"existing": "replace"})
    assert is_right(first, "one.avi")
    assert is_right(renamed, "two.avi")


def test_symlink_to_nwb_file_is_refused(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    (tmp_path / "link.nwb").symlink_to(path)
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="name the file itself"):
        relocate(tmp_path / "link.nwb")
    assert tree(tmp_path) == before


def test_hard_linked_nwb_file_gets_its_own_content(tmp_path: Path) -> None:
    """As in a backup of hard links, `cp -al` or rsnapshot, which keeps what it has."""
    path = nwb_with(tmp_path / "now", "a.avi")
    path.chmod(0o640)
    mode = path.stat().st_mode
    shutil.copytree(tmp_path / "now", tmp_path / "backup", copy_function=os.link)
    before, was = tree(tmp_path / "backup"), digest(tmp_path / "now" / "videos" / "a.avi")
    with pytest.warns(ExternalFilesWarning, match=r"2 names \(hard links\)"):
        relocate(path, "move", dry_run=True)
    assert path.samefile(tmp_path / "backup" / "nwb" / path.name)
    with pytest.warns(ExternalFilesWarning, match=r"2 names \(hard links\)"):
        relocate(path, "move")
    assert tree(tmp_path / "backup") == before
    assert digest(path.parent / stored_paths(path, DATASET)[0]) == was
    assert (path.stat().st_mode, path.stat().st_nlink) == (mode, 1)
    assert not list(path.parent.glob(".nwb-extfiles-*"))
    relocate(path, "move")  # which warns of nothing any more


def test_open_hard_linked_nwb_file_is_unchanged(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    os.link(path, tmp_path / "backup.nwb")
    before = tree(tmp_path)
    with (
        h5py.File(path, "r+"),
        pytest.warns(ExternalFilesWarning),
        pytest.raises(DestinationBusyError, match="close the IO"),
    ):
        relocate(path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mode", ["r+", "a"])
def test_open_hard_linked_nwb_file_is_refused_and_hint_works(tmp_path: Path, mode: str) -> None:
    path = nwb_with(tmp_path / "now it's", "a.avi")
    os.link(path, tmp_path / "backup.nwb")
    before = tree(tmp_path)
    with (
        NWBExtFilesHDF5IO(path, mode) as io,
        pytest.raises(RelocationRefusedError, match="2 names") as caught,
    ):
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert tree(tmp_path) == before
    subprocess.run(str(caught.value).split("open it again: ")[1], shell=True, check=True)  # what the message says
    with NWBExtFilesHDF5IO(path, mode) as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert digest(path.parent / stored_paths(path, DATASET)[0]) == before["now it's/videos/a.avi"]
    assert digest(tmp_path / "backup.nwb") == before["backup.nwb"]


AS_NOBODY = """
import json, os, sys
from nwb_extfiles.nwb.registry import media_fields
media_fields()  # what is loaded when it is used may be out of reach then
from nwb_extfiles import check, errors, relocate
from nwb_extfiles.tasks import relocating
from nwb_extfiles.tasks.check import checks  # while they may be read
import av
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
def told(call):
    try:
        return call()
    except errors.ExternalFilesError as error:
        return str(error)
read_only, in_place, secret, hidden = sys.argv[1:]
print(json.dumps([
    told(lambda: relocate(read_only)),
    told(lambda: len(relocate(in_place).relocations)),
    told(lambda: [finding.code for finding in check(secret)]),
    told(lambda: [finding.code for finding in check(hidden)]),
]))
"""


@posix
def test_without_write_permission() -> None:
    with tempfile.TemporaryDirectory() as name:  # where any user can get to
        folder = Path(name)
        read_only, in_place = nwb_with(folder, "a.avi"), nwb_with(folder, "a.avi", nwb="b.nwb")
        relocate(in_place)
        secret, hidden = nwb_with(folder, "secret.avi", nwb="c.nwb"), nwb_with(folder, "a.avi", nwb="d.nwb")
        (folder / "videos" / "secret.avi").chmod(0)
        hidden.chmod(0)
        folder.chmod(0o755)
        (folder / "nwb").chmod(0o555)
        read_only.chmod(0o444)
        paths = map(str, (read_only, in_place, secret, hidden))
        run = subprocess.run([sys.executable, "-c", AS_NOBODY, *paths], capture_output=True, text=True, check=False)
        (folder / "nwb").chmod(0o755)
        assert run.returncode == 0, run.stderr
        refused, entries, of_secret, of_hidden = json.loads(run.stdout)
    assert "is not writable" in refused
    assert entries == 1
    assert of_secret == ["outside-nwb-folder", "not-readable"]
    assert of_hidden == ["unreadable"]


def test_media_in_place_are_unchanged(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi", "b.avi")
    relocate(path)
    stamps = {entry: (entry.lstat().st_mtime_ns, entry.lstat().st_ino) for entry in tmp_path.rglob("*")}
    relocate(path)
    relocate(path, dry_run=True)
    assert {entry: (entry.lstat().st_mtime_ns, entry.lstat().st_ino) for entry in tmp_path.rglob("*")} == stamps


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", None])
def test_paths_that_are_not_nwb_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.nwb"
    path.mkdir() if content is None else path.write_bytes(content)
    error, what = UnreadableFileError, "not an HDF5 file"
    if content is None:
        error, what = RelocationRefusedError, "no NWB file in this folder"
    with pytest.raises(error, match=what):
        relocate(path)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        relocate(tmp_path / "missing.nwb")


def test_truncated_nwb_file_is_refused(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = tree(tmp_path)
    with pytest.raises(UnreadableFileError):
        relocate(path)
    assert tree(tmp_path) == before


HOLD = """
import sys, h5py
file = h5py.File(sys.argv[1], sys.argv[2])
print("open", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_file_open_in_another_process_is_refused(tmp_path: Path, mode: str) -> None:
    path = nwb_with(tmp_path, "a.avi")
    before = tree(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises((DestinationBusyError, UnreadableFileError), match=r"open in another|another process"):
            relocate(path)
        other.stdin.write("\n")
        other.stdin.flush()
    assert tree(tmp_path) == before
    relocate(path)
    assert is_right(path, "a.avi")


KILLED = """
import os, sys
from nwb_extfiles import relocate
from nwb_extfiles.disk import journal
from nwb_extfiles.transfers.joint_commit import TransferCall
if sys.argv[2] == "in the middle of the pages":
    plain, count = journal._write_at, 0
    def die(handle, offset, content):
        plain(handle, offset, content[:100])
        os.kill(os.getpid(), 9)
    journal._write_at = die
elif sys.argv[2] == "before the sources go":
    TransferCall.conclude = lambda *args, **kwargs: os.kill(os.getpid(), 9)
relocate(sys.argv[1], "move")
"""


@pytest.mark.parametrize("moment", ["in the middle of the pages", "before the sources go"])
def test_killed_and_run_again(tmp_path: Path, moment: str) -> None:
    path = nwb_with(tmp_path, "a.avi", "b.avi")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], check=False)
    assert done.returncode == processes.KILLED
    if moment == "in the middle of the pages":
        with pytest.raises(RelocationRefusedError, match="nwb-extfiles recover"):
            relocate(path, "move", dry_run=True)
    relocate(path, "move")
    assert is_right(path, "a.avi", "b.avi")
    assert not [name for name in tree(tmp_path) if ".nwb-extfiles" in name]
    assert list((tmp_path / "videos").iterdir()) == []


# --------------------------------------------------------------------- rename


def renamed(tmp_path: Path, first: str, *names: str) -> Path:
    """An NWB file whose media were relocated, and that then got another name."""
    path = nwb_with(tmp_path, *names)
    relocate(path, first)
    return path.rename(path.with_name("b.nwb"))


@pytest.mark.parametrize("then", [*MODES, "reference"])
@pytest.mark.parametrize("first", MODES)
def test_renamed_nwb_file(tmp_path: Path, first: str, then: str) -> None:
    path = renamed(tmp_path, first, "a.avi", "b.avi")
    inodes = {entry.name: entry.stat().st_ino for entry in (path.parent / "a").iterdir()}
    plan = relocate(path, then)
    assert plan.nwb_path == path
    if then == "reference":  # media stay where they are
        assert (path.parent / "a").is_dir()
        assert [(path.parent / text).is_file() for text in stored_paths(path)] == [True, True]
        return
    assert is_right(path, "a.avi", "b.avi")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["b", "b.nwb"]
    links = [entry.is_symlink() for entry in (path.parent / "b").iterdir()]
    assert links == [first == then == "symlink"] * 2
    if first != "symlink":
        assert {entry.name: entry.stat().st_ino for entry in (path.parent / "b").iterdir()} == inodes
    # a move of a link takes the link, and leaves what it leads to
    assert len(list((tmp_path / "videos").iterdir())) == (0 if first == "move" else 2)


def test_renamed_nwb_file_with_shared_pose_video(tmp_path: Path) -> None:
    path = tmp_path / "nwb" / "a.nwb"
    run_maker("pose", path)
    relocate(path, "copy")
    new = path.rename(path.with_name("b.nwb"))
    relocate(new)
    series = stored_paths(new, "stimulus/presentation/video/external_file")
    originals = stored_paths(new, "processing/behavior/PoseEstimation/original_videos")
    assert [originals[0], originals[2]] == series
    assert all(text.startswith("b/") and (new.parent / text).is_file() for text in [*series, *originals])
    assert not (new.parent / "a").exists()


def test_former_media_folder_with_other_files_is_kept(tmp_path: Path) -> None:
    path = renamed(tmp_path, "copy", "a.avi")
    (path.parent / "a" / "notes.txt").write_text("mine")
    relocate(path)
    assert is_right(path, "a.avi")
    assert [entry.name for entry in (path.parent / "a").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "copy"])
def test_copied_nwb_file_leaves_media_of_original(tmp_path: Path, mode: str) -> None:
    path = nwb_with(tmp_path, "a.avi")
    relocate(path, "copy")
    before = tree(path.parent / "a")
    other = Path(shutil.copy(path, path.with_name("b.nwb")))
    relocate(other, mode)
    assert tree(path.parent / "a") == before
    assert is_right(path, "a.avi")
    assert is_right(other, "a.avi")


def test_copied_nwb_file_may_not_move_media_of_original(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    relocate(path, "copy")
    other = Path(shutil.copy(path, path.with_name("b.nwb")))
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match=r"would be removed, but .*a\.nwb"):
        relocate(other, "move")
    assert tree(tmp_path) == before
    relocate_files([path, other], "hardlink")
    assert is_right(path, "a.avi")
    assert is_right(other, "a.avi")


def test_move_of_link_to_media_of_another_file(tmp_path: Path) -> None:
    """The link becomes a file of its own; what it led to stays with its owner."""
    path = nwb_with(tmp_path, "a.avi")
    relocate(path, "copy")
    other = Path(shutil.copy(path, path.with_name("b.nwb")))
    relocate(other)
    relocate(other, "move")
    assert is_right(path, "a.avi")
    assert is_right(other, "a.avi")
    assert not any(place.is_symlink() for place in (other.parent / "b").iterdir())


def test_former_media_folder_used_by_two_files(tmp_path: Path) -> None:
    """Of a copy and its original, both renamed, neither may take the media away from the other."""
    path = nwb_with(tmp_path, "a.avi")
    relocate(path, "copy")
    one = Path(shutil.copy(path, path.with_name("one.nwb")))
    two = path.rename(path.with_name("two.nwb"))
    with pytest.raises(RelocationRefusedError, match=r"would be removed, but .*two\.nwb"):
        relocate(one, "move")
    relocate(one)
    assert (two.parent / stored_paths(two)[0]).is_file()
    relocate_files([one, two], "copy")
    assert is_right(one, "a.avi")
    assert is_right(two, "a.avi")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["one", "one.nwb", "two", "two.nwb"]


def test_former_media_folder_left_by_two_files_together(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    relocate(path, "copy")
    one = Path(shutil.copy(path, path.with_name("one.nwb")))
    two = path.rename(path.with_name("two.nwb"))
    relocate_files([one, two], "move")
    assert is_right(one, "a.avi")
    assert is_right(two, "a.avi")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["one", "one.nwb", "two", "two.nwb"]


def test_renamed_nwb_file_whose_media_folder_is_taken(tmp_path: Path) -> None:
    path = renamed(tmp_path, "copy", "a.avi")
    (text,) = media_names(path, "a.avi")
    make_media(path.parent / text).write_bytes(b"another video")
    before = tree(tmp_path)
    with pytest.raises(MediaExistsError, match="is not a copy of"):
        relocate(path)
    assert tree(tmp_path) == before
    with pytest.warns(ExternalFilesWarning, match=r"\(13 bytes\) is replaced, and its content is discarded"):
        relocate(path, media_options={"existing": "replace"})
    assert is_right(path, "a.avi")
    shutil.rmtree(path.parent / "b")
    (path.parent / "b").write_text("a file")
    path.rename(path.with_name("c.nwb")).rename(path)
    with pytest.raises(ExternalFilesError):
        relocate(path)


def test_two_files_that_swap_names(tmp_path: Path) -> None:
    one, two = nwb_with(tmp_path, "a.avi", nwb="one.nwb"), nwb_with(tmp_path, "b.avi", nwb="two.nwb")
    relocate_files([one, two], "copy")
    one.rename(one.with_name("x.nwb"))
    two.rename(one)
    one.with_name("x.nwb").rename(two)
    relocate_files([one, two], "move")
    assert is_right(one, "b.avi")
    assert is_right(two, "a.avi")
    assert len(list(one.parent.rglob("*.avi"))) == 2


# --------------------------------------------------------------- several files


@pytest.mark.parametrize("mode", MODES)
def test_the_same_video_in_two_files(tmp_path: Path, mode: str) -> None:
    paths = [nwb_with(tmp_path, "a.avi", nwb=f"{name}.nwb") for name in ("one", "two")]
    told = []
    plans = relocate_files(paths, mode, on_file=told.append)
    assert told == plans
    assert all(is_right(path, "a.avi") for path in paths)
    assert (tmp_path / "videos" / "a.avi").exists() == (mode != "move")


@pytest.mark.parametrize("bad", ["missing video", "no HDF5", "no file"])
def test_one_bad_file_leaves_all_unchanged(tmp_path: Path, bad: str) -> None:
    good, second = nwb_with(tmp_path, "a.avi", nwb="good.nwb"), tmp_path / "nwb" / "second.nwb"
    if bad == "missing video":
        write_nwb(second, ["gone.avi", "gone too.avi"])
    elif bad == "no HDF5":
        second.write_bytes(b"nothing")
    before = tree(tmp_path)
    with pytest.raises(ExternalFilesError) as caught:
        relocate_files([good, second], "move")
    assert len(caught.value.problems) == (2 if bad == "missing video" else 1)
    assert tree(tmp_path) == before


def test_problems_of_several_files_are_one_error(tmp_path: Path) -> None:
    one = write_nwb(tmp_path / "one.nwb", ["gone.avi"])
    (tmp_path / "two.nwb").write_bytes(b"nothing")
    with pytest.raises(PlanError) as caught:
        relocate_files([one, tmp_path / "two.nwb"])
    assert {type(problem) for problem in caught.value.problems} == {MissingMediaError, UnreadableFileError}


def test_file_named_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nwb_with(tmp_path, "a.avi")
    monkeypatch.chdir(path.parent)
    assert len(relocate_files(["a.nwb", path, "./a.nwb"], "move")) == 1
    assert is_right(path, "a.avi")


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_failure_in_second_file_rolls_back_first(tmp_path: Path, mode: str) -> None:
    one = nwb_with(tmp_path, "a.avi", "b.avi", nwb="one.nwb")
    two = nwb_with(tmp_path, "a.avi", nwb="two.nwb")
    target = two.parent / media_names(two, "a.avi")[0]
    before, done = tree(tmp_path), list[object]()

    def disturb(count: int, total: int) -> None:
        if count == total and not target.exists():
            make_media(target).write_bytes(b"come into being")

    with pytest.raises(MediaExistsError, match="come into being"):
        relocate_files([one, two], mode, media_options={"progress": disturb}, on_file=done.append)
    assert done == []
    target.unlink()
    target.parent.rmdir()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("progress", [True, False])
def test_progress_covers_all_files(tmp_path: Path, progress: bool) -> None:
    paths = [nwb_with(tmp_path, f"{name}.avi", nwb=f"{name}.nwb") for name in ("one", "two")]
    seen: list[tuple[int, int]] = []
    callback: Any = (lambda done, total: seen.append((done, total))) if progress else False
    plans = relocate_files(paths, "copy", media_options={"progress": callback})
    if progress:
        total = sum(plan.media_bytes for plan in plans)
        assert seen[-1] == (total, total)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# ---------------------------------------------------------- what is referred to


def test_missing_and_urls(tmp_path: Path) -> None:
    make_media(tmp_path / "videos" / "a.avi")
    path = write_nwb(tmp_path / "nwb" / "a.nwb", ["https://example.org/x.mp4", "gone.avi", "../videos/a.avi"])
    with pytest.raises(MissingMediaError):
        relocate(path)
    with pytest.warns(ExternalFilesWarning, match=r"gone\.avi"):
        relocate(path, media_options={"missing": "keep"})
    paths = stored_paths(path)
    assert paths[:2] == ["https://example.org/x.mp4", "gone.avi"]
    assert (path.parent / paths[2]).is_file()
    assert paths[2].endswith("_external_file_2.avi")


@pytest.mark.parametrize(
    "text", ["..\\videos\\a.avi", "D:\\lab\\videos\\a.avi", "file://{}/videos/a.avi", "./../videos/a.avi"]
)
def test_path_spellings_are_resolved(tmp_path: Path, text: str) -> None:
    path = nwb_with(tmp_path, "a.avi")
    set_paths(path, DATASET, [text.format(tmp_path)], dtype=UTF8)
    path_map = {"D:\\lab": str(tmp_path)} if text.startswith("D") else {}
    relocate(path, "copy", media_options={"path_map": path_map})
    assert is_right(path, "a.avi")


def test_symlinked_media_folder_is_refused(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    (tmp_path / "elsewhere").mkdir()
    (path.parent / "a").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(UnsafeReferenceError, match="a symbolic link or a file is where"):
        relocate(path)
    assert tree(tmp_path) == before


def test_invalid_or_duplicate_object_ids(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    with h5py.File(path, "r+") as file:
        del file["acquisition/video"].attrs["object_id"]
    relocate(path)
    paths = stored_paths(path)
    assert hashlib.sha256((path.parent / paths[0]).read_bytes()).hexdigest() == digest(tmp_path / "videos" / "a.avi")
    other = nwb_with(tmp_path, "b.avi", nwb="evil.nwb")
    with h5py.File(other, "r+") as file:
        file["acquisition/video"].attrs["object_id"] = "../../../../etc/passwd"
    with pytest.raises(UnsafeReferenceError, match="is not a UUID"):
        relocate(other)


@needs_symlink
def test_symlinks_broken_by_a_moved_folder(tmp_path: Path) -> None:
    """The links still tell what the videos are called; `search` finds them by that."""
    path = nwb_with(tmp_path, "a.avi", "b.avi")
    relocate(path)
    (tmp_path / "far" / "away").mkdir(parents=True)
    path = Path(shutil.move(path.parent, tmp_path / "far" / "away")) / "a.nwb"
    with pytest.raises(MissingMediaError):
        relocate(path)
    with pytest.warns(ExternalFilesWarning, match="and 1 more, is a broken symbolic link, and is replaced"):
        relocate(path, media_options={"search": tmp_path / "videos"})
    assert is_right(path, "a.avi", "b.avi")


@needs_symlink
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["search", "path_map", "path_map of relative path"])
def test_links_broken_by_moved_videos_are_replaced(tmp_path: Path, mode: str, how: str) -> None:
    path = nwb_with(tmp_path, "a.avi", "b.avi")
    relocate(path)
    (tmp_path / "server" / "new").mkdir(parents=True)
    new = Path(shutil.move(tmp_path / "videos", tmp_path / "server" / "new"))
    options: dict[str, Any] = {
        "search": {"search": new},
        "path_map": {"path_map": {str(tmp_path / "videos"): str(new)}},
        "path_map of relative path": {"path_map": {"../../videos": str(new)}},
    }[how]
    before = tree(tmp_path)
    with pytest.warns(ExternalFilesWarning, match="is a broken symbolic link, and is replaced"):
        relocate(path, mode, media_options=options, dry_run=True)
    assert tree(tmp_path) == before
    with pytest.warns(ExternalFilesWarning):
        relocate(path, mode, media_options=options)
    assert is_right(path, "a.avi", "b.avi")
    assert [(path.parent / text).is_symlink() for text in stored_paths(path)] == [mode == "symlink"] * 2
    assert new.joinpath("a.avi").exists() is (mode != "move")
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


@needs_symlink
def test_broken_link_is_put_back_if_relocation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nwb_with(tmp_path, "a.avi")
    relocate(path)
    new = Path(shutil.move(tmp_path / "videos", tmp_path / "new"))
    other = nwb_with(tmp_path, "c.avi", nwb="c.nwb")
    before = tree(tmp_path)
    real, count = os.replace, 0

    def replace(source: Any, target: Any, **kwargs: Any) -> None:
        nonlocal count
        real(source, target, **kwargs)
        if Path(target).parent == path.parent / "a" and not count:
            count += 1
            assert Path(target).exists()  # the link was replaced by the video
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.warns(ExternalFilesWarning), pytest.raises(OSError, match="No space left"):
        relocate_files([other, path], "copy", media_options={"search": new})
    assert count == 1
    assert tree(tmp_path) == before
    (text,) = stored_paths(path)
    assert os.readlink(path.parent / text) == "../../videos/a.avi"


@needs_symlink
def test_repair_replaces_broken_link(tmp_path: Path) -> None:
    path = nwb_with(tmp_path, "a.avi")
    relocate(path, media_options={"manifest": True})
    new = shutil.move(tmp_path / "videos", tmp_path / "new")
    Path(new, "a.avi").rename(Path(new, "other name.avi"))
    with pytest.warns(ExternalFilesWarning, match="is a broken symbolic link, and is replaced"):
        relocate(path, media_options={"search": new}, repair=True)
    assert is_right(path, "a.avi")


def test_link_of_git_annex_without_content_is_not_replaced(tmp_path: Path) -> None:
    """It names the content that `git annex get` fetches."""
    path = nwb_with(tmp_path, "a.avi")
    (name,) = media_names(path, "a.avi")
    place = path.parent / name
    place.parent.mkdir()
    place.symlink_to("../../.git/annex/objects/Xx/Yy/SHA256E-s1--ab.avi/SHA256E-s1--ab.avi")
    before = tree(tmp_path)
    with pytest.raises(MediaExistsError):
        relocate(path, "copy")
    assert tree(tmp_path) == before


# ------------------------------------------------------------------- Zarr


@pytest.mark.parametrize("mode", ["copy", "symlink", "move"])
def test_stores_are_relocated(tmp_path: Path, source_store: Path, video_files: Path, mode: str) -> None:
    """Relocated in place, renamed and relocated again; with a record of the videos."""
    from zarr_makers import assert_consolidated, assert_leads_to, paths_in

    videos = [Path(shutil.copy(video_files / f"test1_{number}.avi", tmp_path / f"{number}.avi")) for number in (0, 1)]
    relocate(source_store, mode, media_options=dict(manifest=True))
    assert_leads_to(source_store, videos)
    assert_consolidated(source_store)
    assert {text.split("/")[0] for text in paths_in(source_store)} == {"s"}
    renamed = source_store.rename(source_store.with_name("t.nwb.zarr"))
    relocate(renamed)
    assert_leads_to(renamed, videos)
    assert_consolidated(renamed)
    assert {text.split("/")[0] for text in paths_in(renamed)} == {"t"}
    assert not (renamed.parent / "s").exists()
    before = tree(renamed.parent)
    relocate(renamed)
    assert tree(renamed.parent) == before


@pytest.mark.parametrize("suffix", [".nwb.zarr", ".zarr"])
def test_copied_store_may_not_move_media_of_original(source_store: Path, videos: list[Path], suffix: str) -> None:
    from zarr_makers import assert_leads_to

    store = source_store.rename(source_store.with_name(f"t{suffix}"))
    relocate(store, "copy")
    other = Path(shutil.copytree(store, store.with_name(f"u{suffix}")))
    before = tree(store.parent)
    with pytest.raises(RelocationRefusedError, match=rf"would be removed, but .*t\{suffix}"):
        relocate(other, "move")
    assert tree(store.parent) == before
    relocate(other, "copy")
    assert_leads_to(store, videos[:2])
    assert_leads_to(other, videos[:2])


def test_former_media_folder_used_by_two_stores(source_store: Path, videos: list[Path]) -> None:
    from zarr_makers import assert_leads_to

    relocate(source_store, "copy")
    one = Path(shutil.copytree(source_store, source_store.with_name("one.nwb.zarr")))
    two = source_store.rename(source_store.with_name("two.nwb.zarr"))
    relocate(one, "copy")
    assert_leads_to(one, videos[:2])
    assert_leads_to(two, videos[:2])

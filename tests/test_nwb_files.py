"""NWB files on disk, without pynwb."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from helpers import set_paths, stored_paths, write_nwb

from nwb_extfiles import ExternalFilesWarning
from nwb_extfiles.errors import UnreadableFileError
from nwb_extfiles.nwb.files import find_nwb_files, open_nwb, with_edits, write_paths

DATASET = "acquisition/video/external_file"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """NWB files in several places, and what is none."""
    for name in ("b.nwb", "a.nwb", "deep/er/c.nwb", ".hidden.nwb", ".git/d.nwb", "video.avi", "x.nwb.zarr/e.nwb"):
        (tmp_path / "lab" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lab" / name).touch()
    (tmp_path / "lab" / "store.nwb").mkdir()
    (tmp_path / "lab" / "link.nwb").symlink_to("a.nwb")
    (tmp_path / "lab" / "loop").symlink_to(".")
    return tmp_path / "lab"


def names(folder: Path, *paths: object) -> list[str]:
    return [os.path.relpath(path, folder) for path in find_nwb_files(paths)]  # type: ignore[arg-type]


def test_nwb_files_are_found_below_folders(folder: Path) -> None:
    assert names(folder, folder) == ["a.nwb", "b.nwb", "link.nwb", "deep/er/c.nwb"]


def test_named_files_are_taken_with_any_suffix(folder: Path) -> None:
    assert names(folder, folder / "video.avi", folder / ".hidden.nwb") == ["video.avi", ".hidden.nwb"]


def test_each_file_once_in_any_spelling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names(folder, "a.nwb", str(folder / "a.nwb"), "deep/../a.nwb", ".") == [
        "a.nwb", "b.nwb", "link.nwb", "deep/er/c.nwb",
    ]  # fmt: skip
    assert all(path.is_absolute() for path in find_nwb_files(["."]))


def test_unreadable_folders_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one whose name begins with a dot nothing is said: it would be passed over."""
    closed = (str(folder / "deep" / "er"), str(folder / ".git"))
    scandir, stat = os.scandir, os.stat

    def look(path: Any, look: Callable[..., Any], **options: Any) -> Any:  # root may read anything
        if str(path).startswith(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, **options)

    monkeypatch.setattr(os, "scandir", lambda path=".": look(path, scandir))
    monkeypatch.setattr(os, "stat", lambda path, **options: look(path, stat, **options))
    with pytest.warns(ExternalFilesWarning, match="er cannot be read, so NWB files") as warned:
        found = names(folder, folder)
    assert found == ["a.nwb", "b.nwb", "link.nwb"]
    assert len(warned) == 1


def test_missing_path_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        names(folder, folder / "nowhere")
    (folder / "dangling.nwb").symlink_to("nowhere")
    assert names(folder, folder / "dangling.nwb") == ["dangling.nwb"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.write_bytes(b"text"), "it is not an HDF5 file, so not an NWB file; check that"),
        (lambda path: os.mkfifo(path), "it is not a regular file"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="no pipes")
def test_unopenable_files_are_reported(tmp_path: Path, make, message: str) -> None:
    path = tmp_path / "a.nwb"
    make(path)
    with pytest.raises(UnreadableFileError, match=message) as caught, open_nwb(path):
        pass
    assert caught.value.nwb_path == str(path)


def test_file_already_open(tmp_path: Path) -> None:
    """HDF5 has one cache for both, and whoever was first has it as it wants."""
    path = write_nwb(tmp_path / "a.nwb", ["x.avi"])
    with h5py.File(path) as others:
        before = others.id.get_mdc_config()
        with open_nwb(path) as file:
            assert file["acquisition/video/external_file"][0] == b"x.avi"
        after = others.id.get_mdc_config()
        assert (after.initial_size, after.min_size) == (before.initial_size, before.min_size)
        assert others["acquisition/video/external_file"][0] == b"x.avi"


def test_damage_found_while_reading_is_reported(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    content = bytearray(path.read_bytes())
    for offset in range(2048, len(content), 512):
        content[offset : offset + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError), open_nwb(path) as file:
        file.visititems(lambda name, item: item[()] if isinstance(item, h5py.Dataset) else None)


def test_system_errors_propagate(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    with pytest.raises(PermissionError), open_nwb(path):
        raise PermissionError(13, "no")


@pytest.mark.parametrize("journalled", [False, True])
def test_stored_paths_are_edited(tmp_path: Path, journalled: bool) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi", "b.avi"])
    set_paths(path, DATASET, [b"a.avi", b"b.avi"])
    journal = tmp_path / "journal" if journalled else None
    write_paths(path, {("/acquisition/video", "external_file"): ["a/long/text.avi", "é.avi"]}, journal=journal)
    assert stored_paths(path) == ["a/long/text.avi", "é.avi"]
    assert (tmp_path / "journal").exists() == journalled


def test_failing_edit_changes_nothing(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    before = path.read_bytes()
    edits = {("/acquisition/video", "external_file"): ["x.avi"], ("/acquisition/none", "external_file"): ["y.avi"]}
    with pytest.raises(KeyError):
        write_paths(path, edits, journal=tmp_path / "journal")
    assert path.read_bytes() == before


def test_hdf5_messages_not_utf8(tmp_path: Path) -> None:
    """What HDF5 says of a damaged file may quote bytes of it, over which h5py stumbles."""
    path = write_nwb(tmp_path / "a.nwb", ["a.avi"])
    with pytest.raises(UnreadableFileError, match="is damaged"), open_nwb(path):
        b"\xff".decode()


def test_file_not_closed_by_writer(tmp_path: Path) -> None:
    """Newer formats of HDF5 mark a file that is open for writing, and the mark stays after a kill."""
    path = tmp_path / "a.nwb"
    code = "import h5py, os, sys; file = h5py.File(sys.argv[1], 'w', libver='latest'); file.flush(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    before = path.read_bytes()
    with pytest.raises(UnreadableFileError, match=r"was killed while it did.*h5clear"), open_nwb(path):
        pass
    assert path.read_bytes() == before


# ------------------------------------------------------------------ edits in memory

NEW = ["sub-a_image/" + "long" * 20 + "_external_file_0.avi", "sub-a_image/ü_external_file_1.avi"]
STRINGS = h5py.string_dtype()


def _hdf5_file(path: Path, paths: dict[str, Any], **settings: Any) -> Path:
    with h5py.File(path, "w", **settings) as file:
        file.create_dataset(DATASET, **paths)
        file["data"] = list(range(5000))
        file[DATASET].attrs["starting_frame"] = [0, 10]
    return path


@pytest.mark.parametrize(
    "paths",
    [
        {"data": ["a.avi", "b.avi"], "dtype": STRINGS},
        {"data": ["a.avi", "b.avi"], "dtype": STRINGS, "chunks": (1,), "maxshape": (None,)},
        {"data": [b"a" * 200, b"b" * 200]},  # of fixed length
    ],
    ids=["variable", "chunked", "fixed"],
)
def test_edit_in_memory_gives_the_bytes_of_an_edit_on_disk(tmp_path: Path, paths: dict[str, Any]) -> None:
    path = _hdf5_file(tmp_path / "a.nwb", paths)
    edits = {("/acquisition/video", "external_file"): NEW}
    before = path.read_bytes()
    in_memory = with_edits(before, tmp_path, edits)
    assert path.read_bytes() == before
    write_paths(path, edits)
    assert in_memory == path.read_bytes()
    assert stored_paths(path) == NEW


def test_edit_in_memory_that_needs_a_new_dataset(tmp_path: Path) -> None:
    """The bytes may differ from those on disk where HDF5 leaves gaps; the content does not."""
    path = _hdf5_file(tmp_path / "a.nwb", {"data": [b"a.avi", b"b.avi"]})
    in_memory = with_edits(path.read_bytes(), tmp_path, {("/acquisition/video", "external_file"): NEW})
    assert in_memory is not None
    path.write_bytes(in_memory)
    assert stored_paths(path) == NEW
    with h5py.File(path, "r+") as file:
        assert file[DATASET].attrs["starting_frame"].tolist() == [0, 10]
        assert file["data"][()].tolist() == list(range(5000))
        file["later"] = 1


@pytest.mark.parametrize(
    "settings",
    [
        {"userblock_size": 512},
        {"libver": "latest"},
        {"fs_strategy": "page"},
        {"fs_strategy": "fsm", "fs_persist": True},
    ],
    ids=["user block", "checksum", "pages", "kept free space"],
)
def test_files_that_hdf5_completes_on_closing_are_not_edited_in_memory(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = _hdf5_file(tmp_path / "a.nwb", {"data": ["a.avi", "b.avi"], "dtype": STRINGS}, **settings)
    assert with_edits(path.read_bytes(), tmp_path, {("/acquisition/video", "external_file"): NEW}) is None

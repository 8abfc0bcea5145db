"""Nobody can read a file that this package makes who could not read its source."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import digest, make_file
from mounts import loop, ramfs, tmpfs
from recordings import recording

from nwb_extfiles import organize, relocate, restore
from nwb_extfiles.disk import contents, filesystem
from nwb_extfiles.transfers.transfer import Transfer

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="who may read a file is a matter of its folder on Windows"),
    pytest.mark.filterwarnings("ignore::nwb_extfiles.ExternalFilesWarning", "ignore:missing object_codec"),
]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="extended attributes as Linux has them")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(params=[0o022, 0o077], ids=["umask 022", "umask 077"], autouse=True)
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    with umask(request.param):
        yield


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder in another file system, with extended attributes and ACLs."""
    with tmpfs(within=tmp_path) as place:
        yield place


def private(folder: Path, bits: int = 0o600) -> Path:
    """Make a recording and a video that only their owner can read."""
    path = recording(folder / "a.nwb", ["a.avi"])
    for file in (path, folder / "a.avi"):
        file.chmod(bits)
    return path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".nwb", ".avi")]


@pytest.mark.parametrize("files_mode", ["copy", "move"])
@pytest.mark.parametrize("media_mode", ["copy", "move", "hardlink"])
@pytest.mark.parametrize("bits", [0o600, 0o640, 0o644])
def test_organize_keeps_modes(tmp_path: Path, files_mode: str, media_mode: str, bits: int) -> None:
    private(tmp_path / "raw", bits)
    organize(tmp_path / "raw", tmp_path / "ds", files_mode=files_mode, media_mode=media_mode)
    made = files(tmp_path / "ds")
    assert len(made) == 2
    assert {mode(path) for path in made} == {bits}


@pytest.mark.parametrize("files_mode", ["copy", "move"])
@pytest.mark.parametrize("media_mode", ["copy", "move"])
def test_organize_to_another_file_system_keeps_modes(
    tmp_path: Path, elsewhere: Path, files_mode: str, media_mode: str
) -> None:
    private(elsewhere / "raw")
    for path in files(elsewhere / "raw"):
        os.setxattr(path, "user.note", b"under embargo")
    organize(elsewhere / "raw", tmp_path / "ds", files_mode=files_mode, media_mode=media_mode)
    made = files(tmp_path / "ds")
    assert {mode(path) for path in made} == {0o600}
    assert {os.getxattr(path, "user.note") for path in made} == {b"under embargo"}


def test_restore_keeps_modes(tmp_path: Path) -> None:
    private(tmp_path / "raw")
    organize(tmp_path / "raw", tmp_path / "ds", media_mode="copy", media_options={"manifest": True})
    (path,) = (tmp_path / "ds").rglob("*.nwb")
    restore(path, tmp_path / "back")
    assert {mode(path) for path in files(tmp_path / "back")} == {0o600}


def test_relocate_keeps_modes(tmp_path: Path) -> None:
    path = private(tmp_path / "raw")
    relocate(path, "copy")
    assert {mode(path) for path in files(tmp_path / "raw")} == {0o600}


@pytest.mark.parametrize("bits", [0o444, 0o400])
def test_read_only_sources_are_organized(tmp_path: Path, bits: int) -> None:
    """The NWB file is edited, so its copy is writable for the owner. The video keeps its mode."""
    private(tmp_path / "raw", bits)
    organize(tmp_path / "raw", tmp_path / "ds", media_mode="copy")
    assert {path.suffix: mode(path) for path in files(tmp_path / "ds")} == {".nwb": bits | 0o200, ".avi": bits}


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_modes_of_exported_files(tmp_path: Path, source_store: Path, kind: str) -> None:
    """Of a new file. An existing file keeps its mode."""
    from zarr_makers import export

    if kind == "hdf5":
        source, target, of_folder = private(tmp_path / "raw"), tmp_path / "out" / "b.nwb", 0
    else:
        source, target, of_folder = source_store, tmp_path / "out" / "b.nwb.zarr", 0o100
        source.chmod(0o700)
    export(source, target, relocate_media=True, media_mode="copy")
    assert mode(target) == 0o600 | of_folder
    target.chmod(0o644 | of_folder)
    export(source, target, relocate_media=True, media_mode="copy")
    assert mode(target) == 0o644 | of_folder


@pytest.mark.parametrize("bits", [0o600, 0o755])
def test_store_exported_from_a_file(tmp_path: Path, bits: int) -> None:
    """Only those who can read the file can enter the folder of the store."""
    from zarr_makers import export

    source = private(tmp_path / "raw", bits)
    export(source, tmp_path / "b.nwb.zarr", relocate_media=True, media_mode="copy")
    assert mode(tmp_path / "b.nwb.zarr") & ~(bits | (bits & 0o444) >> 2) == 0


def test_file_is_never_more_readable_while_written(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source", 40_000_000)
    source.chmod(0o600)
    seen = set()
    target = tmp_path / "target"
    contents.copy_verified(source, target, on_bytes=lambda count: seen.add(mode(target)))
    assert seen == {0o600}
    source.chmod(0o644)
    target.unlink()
    contents.copy_verified(source, target, on_bytes=lambda count: seen.add(mode(target)))
    assert (seen, mode(target)) == ({0o600}, 0o644)


def test_staged_files_are_private(tmp_path: Path) -> None:
    """Others can see that a transfer is unfinished, but cannot read its files or the journal."""
    document = make_file(tmp_path / "a.nwb")
    transfer = Transfer(document, edits_document=True)
    (staging,) = tmp_path.glob(".nwb-extfiles-*")
    assert mode(staging) & 0o066 == 0
    filesystem.write_new(transfer.journal, b"what was there")
    assert mode(transfer.journal) == 0o600
    transfer.rollback()


def test_copied_tree_keeps_modes(tmp_path: Path) -> None:
    """The folders of a Zarr store become writable, because staged stores are edited, renamed and removed."""
    (tmp_path / "store" / "data").mkdir(parents=True)
    make_file(tmp_path / "store" / "data" / "0").chmod(0o440)
    (tmp_path / "store" / "data").chmod(0o550)
    (tmp_path / "store").chmod(0o750)
    contents.copy_tree_verified(tmp_path / "store", tmp_path / "copy")
    assert [mode(tmp_path / "copy" / name) for name in (".", "data", "data/0")] == [0o750, 0o750, 0o440]


@on_linux
def test_store_edited_in_place_keeps_modes(tmp_path: Path, source_store: Path) -> None:
    """Changed files of a private store stay private. Hard links to them keep the former content."""
    for path in [source_store, *source_store.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    shutil.copytree(source_store, tmp_path / "backup.zarr", copy_function=os.link)
    before = {path: digest(path) for path in (tmp_path / "backup.zarr").rglob("*") if path.is_file()}
    relocate(source_store, "copy")
    assert {path: digest(path) for path in before} == before
    assert all(mode(path) & 0o077 == 0 for path in source_store.rglob("*"))
    assert any(path.stat().st_nlink == 1 for path in source_store.rglob("*") if path.is_file())


def setfacl(*arguments: object) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("NOT TESTED HERE: setfacl is missing (apt-get install acl)")
    subprocess.run(["setfacl", *map(str, arguments)], check=True)


@on_linux
@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs"])
def test_access_control_lists_are_copied(kind: str) -> None:
    with loop(kind) as place:
        source = make_file(place / "source")
        source.chmod(0o600)
        setfacl("-m", "u:daemon:rw", source)
        setfacl("-d", "-m", "u:nobody:rwx", place)  # which a new file would get
        contents.copy_verified(source, place / "copy")
        acl = "system.posix_acl_access"
        assert os.getxattr(place / "copy", acl) == os.getxattr(source, acl)
        plain = make_file(place / "plain")
        setfacl("-b", plain)
        plain.chmod(0o640)
        contents.copy_verified(plain, place / "plain copy")
        assert mode(place / "plain copy") == 0o640
        assert acl not in os.listxattr(place / "plain copy")


@on_linux
def test_access_control_list_on_unsupporting_file_system(tmp_path: Path) -> None:
    """The group bits would be those of the mask, which give more people access than the source does."""
    with loop("ext4") as place, ramfs() as without:
        source = make_file(place / "source")
        source.chmod(0o600)
        setfacl("-m", "u:daemon:rw", source)
        assert mode(source) == 0o660
        with pytest.raises(OSError, match="not supported"):  # elsewhere the test shows nothing
            os.setxattr(without, "user.note", b"")
        contents.copy_verified(source, without / "copy")
        assert mode(without / "copy") == 0o600


@on_linux
@pytest.mark.parametrize("kind", ["exfat", "ntfs", "vfat"])
def test_file_system_without_modes(tmp_path: Path, kind: str) -> None:
    source = make_file(tmp_path / "source")
    source.chmod(0o600)
    with loop(kind) as place:
        contents.copy_verified(source, place / "copy")
        assert digest(place / "copy") == digest(source)
        contents.copy_verified(place / "copy", tmp_path / "back")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group_are_copied(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source")
    os.chown(source, 1234, 4321)
    source.chmod(0o640)
    contents.copy_verified(source, tmp_path / "copy")
    status = (tmp_path / "copy").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 4321, 0o640)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user")
def test_group_without_permission_is_skipped() -> None:
    """A copy of a file of another group belongs to the own group, which gets the rights of others only."""
    code = """
import fcntl, os, sys  # while they may be read
from pathlib import Path
from nwb_extfiles.disk import contents
os.setgroups([]); os.setgid(65534); os.setuid(65534)
contents.copy_verified(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    with tmpfs() as elsewhere:  # where another user gets to
        source = make_file(elsewhere / "source")
        os.chown(source, 65534, 4321)
        source.chmod(0o640)
        for folder in (elsewhere, elsewhere.parent):
            folder.chmod(0o777)
        subprocess.run([sys.executable, "-c", code, str(source), str(elsewhere / "copy")], check=True)
        assert mode(elsewhere / "copy") == 0o600

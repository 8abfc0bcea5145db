"""Links, renames, flushes and locks, judged by what is on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, fail_to_lock, make_file, tree

from nwb_extfiles.disk import filesystem, links, locks

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX only")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

CHUNK = 64 * 1024


# -------------------------------------------------------- links and renames


def no_hard_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


def test_link_makes_second_name(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source")
    assert links.link_exclusive(source, tmp_path / "target")
    assert os.path.samefile(source, tmp_path / "target")


@linux
def test_link_to_symlink_is_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "source").symlink_to("nowhere")
    assert links.link_exclusive(tmp_path / "source", tmp_path / "target")
    assert tree(tmp_path) == {"source": "-> nowhere", "target": "-> nowhere"}


def test_platform_that_cannot_link_symlinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def follow_only(source: Path, target: Path, *, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError
        link(source, target)

    monkeypatch.setattr(os, "link", follow_only)
    source = make_file(tmp_path / "source")
    (tmp_path / "link").symlink_to("source")
    assert links.link_exclusive(source, tmp_path / "target")
    assert os.path.samefile(source, tmp_path / "target")
    assert not links.link_exclusive(tmp_path / "link", tmp_path / "other")
    assert not os.path.lexists(tmp_path / "other")


def test_platform_that_cannot_link_symlinks_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try of `link_exclusive` may meet a file system without hard links as well as the first."""

    def refuse(source: Path, target: Path, *, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    source = make_file(tmp_path / "source")
    assert not links.link_exclusive(source, tmp_path / "target")


def test_no_link_into_another_file_system(tmp_path: Path, tmpfs: Path) -> None:
    assert not links.link_exclusive(make_file(tmp_path / "source"), tmpfs / "target")
    assert tree(tmpfs) == {}


@pytest.mark.parametrize("number", sorted(links.CANNOT_LINK))
def test_no_link_on_unsupporting_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    no_hard_links(monkeypatch, number)
    assert not links.link_exclusive(make_file(tmp_path / "source"), tmp_path / "target")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_link_failure_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    no_hard_links(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        links.link_exclusive(make_file(tmp_path / "source"), tmp_path / "target")


@pytest.mark.parametrize("has_links", [True, False])
def test_rename_moves_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    source = make_file(tmp_path / "source")
    content, inode = digest(source), source.stat().st_ino
    if not has_links:
        no_hard_links(monkeypatch)
    links.rename_exclusive(source, tmp_path / "target")
    assert tree(tmp_path) == {"target": content}
    assert (tmp_path / "target").stat().st_ino == inode


@linux
@pytest.mark.parametrize("has_links", [True, False])
def test_rename_of_a_symlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    make_file(tmp_path / "video")
    (tmp_path / "source").symlink_to("video")
    if not has_links:
        no_hard_links(monkeypatch)
    links.rename_exclusive(tmp_path / "source", tmp_path / "target")
    assert tree(tmp_path) == {"video": digest(tmp_path / "video"), "target": "-> video"}


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling symlink"])
def test_rename_never_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool, kind: str) -> None:
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    if kind == "file":
        target.write_bytes(b"other")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    before = tree(tmp_path)
    if not has_links:
        no_hard_links(monkeypatch)
    with pytest.raises(FileExistsError):
        links.rename_exclusive(source, target)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("has_links", [True, False])
def test_rename_of_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    if not has_links:
        no_hard_links(monkeypatch)
    with pytest.raises(FileNotFoundError):
        links.rename_exclusive(tmp_path / "source", tmp_path / "target")
    assert tree(tmp_path) == {}


# ------------------------------------------------------------ sync and room


def test_sync_of_file_and_folder(tmp_path: Path) -> None:
    filesystem.sync_file(make_file(tmp_path / "file"))
    filesystem.sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        filesystem.sync_file(tmp_path / "missing")


@posix
def test_folder_sync_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [errno.EINVAL, errno.EIO]

    def fail(handle: int) -> None:
        number = numbers.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    filesystem.sync_folder(tmp_path)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        filesystem.sync_folder(tmp_path)


def test_nearest_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert filesystem.nearest_folder(tmp_path) == tmp_path
    assert filesystem.nearest_folder(tmp_path / "a" / "b" / "c") == tmp_path
    assert filesystem.nearest_folder(tmp_path / "file" / "a") == tmp_path
    assert filesystem.nearest_folder(tmp_path / "dangling" / "a") == tmp_path
    assert filesystem.nearest_folder(Path(tmp_path.anchor, "surely", "not")) == Path(tmp_path.anchor)


def test_free_bytes(tmpfs: Path) -> None:
    assert filesystem.free_bytes(tmpfs) == 1024 * 1024
    make_file(tmpfs / "file", 512 * 1024)
    assert filesystem.free_bytes(tmpfs) == 512 * 1024


# -------------------------------------------------------------------- locks

PIPES: dict[str, Any] = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
HOLDER = """
import sys
from pathlib import Path
from nwb_extfiles.disk.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
if sys.stdin.readline() == "release\\n":
    lock.release()
"""


@contextlib.contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], **PIPES) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_lock_excludes_others(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(3):
        lock = locks.FileLock(path)
        assert path.exists()
        with pytest.raises(BlockingIOError):
            locks.FileLock(path)
        lock.release()
        assert tree(tmp_path) == {}
        lock.release()  # once more does nothing


def test_refused_lock_stays_with_holder(tmp_path: Path) -> None:
    lock = locks.FileLock(tmp_path / "lock")
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            locks.FileLock(tmp_path / "lock")
    lock.release()


def test_dropped_lock_is_free(tmp_path: Path) -> None:
    lock = locks.FileLock(tmp_path / "lock")
    del lock
    locks.FileLock(tmp_path / "lock").release()
    assert tree(tmp_path) == {}


def test_lock_takes_over_an_old_file(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    locks.FileLock(tmp_path / "lock").release()
    assert tree(tmp_path) == {}


def test_lock_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        locks.FileLock(tmp_path / "missing" / "lock")


def test_lock_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        with pytest.raises(BlockingIOError):
            locks.FileLock(path)
        assert process.stdin is not None
        process.stdin.write("release\n")
        process.stdin.close()
        assert process.wait(100) == 0
        assert not path.exists()
        locks.FileLock(path).release()


def test_lock_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.wait(100)
        assert path.exists()
        lock = locks.FileLock(path)
        with pytest.raises(BlockingIOError):
            locks.FileLock(path)
        lock.release()
    assert tree(tmp_path) == {}


@posix
def test_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    """A program that was started by the holder does not keep the lock."""
    lock = locks.FileLock(tmp_path / "lock")
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], **PIPES, close_fds=False) as process:
        assert process.stdout is not None
        process.stdout.readline()
        del lock
        locks.FileLock(tmp_path / "lock").release()
        process.kill()


@posix
def test_lock_file_replaced_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was locked went with its former holder: a lock on it would be worth nothing."""
    path, lock_handle, seen = tmp_path / "lock", locks.lock_handle, list[int]()

    def slow(handle: int) -> None:
        lock_handle(handle)
        seen.append(os.fstat(handle).st_nlink)
        if len(seen) == 1:
            path.unlink()
        elif len(seen) == 2:
            path.rename(tmp_path / "older")
            path.touch()

    monkeypatch.setattr(locks, "lock_handle", slow)
    lock = locks.FileLock(path)
    monkeypatch.undo()
    assert len(seen) == 3
    with pytest.raises(BlockingIOError):
        locks.FileLock(path)
    lock.release()


def test_lock_follows_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "video").write_bytes(b"video")
    (tmp_path / "lock").symlink_to("video")
    with pytest.raises(OSError, match="lock"):
        locks.FileLock(tmp_path / "lock")
    assert (tmp_path / "video").read_bytes() == b"video"


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_lock(monkeypatch, errno.ENOLCK, errno.ENOSYS, errno.EIO)
    for _ in range(2):
        with pytest.raises(NotImplementedError, match="no locks"):
            locks.FileLock(tmp_path / "lock")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        locks.FileLock(tmp_path / "lock")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mounted")
@pytest.mark.parametrize(
    ("mounted", "is_tried"),
    [
        (b"/a\\040b rw shared:1 - ext4 /dev/sda rw", False),
        (b"/a rw - nfs4 server:/export rw,vers=4.2", True),
        (b"/a rw - vfat /dev/sdb rw,label=x - ext4 y", True),
    ],
)
def test_links_are_tried_unless_the_file_system_surely_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: bytes, is_tried: bool
) -> None:
    """The server of an NFS mount may export a file system without links."""
    device = os.stat(tmp_path).st_dev
    line = b"36 35 %d:%d / %s\n" % (os.major(device), os.minor(device), mounted)
    monkeypatch.setattr(Path, "read_bytes", lambda path: line)

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    assert links.has_hard_links(tmp_path) is not is_tried
    assert links.has_symlinks(tmp_path) is not is_tried
    assert not any(tmp_path.iterdir())

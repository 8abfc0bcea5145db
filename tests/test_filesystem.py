"""Copies, links, renames and locks, judged by what is on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, tree

from nwb_extfiles import filesystem
from nwb_extfiles.errors import TransferError

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX only")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

CHUNK = 64 * 1024
PAST = 1_500_000_000_123_456_789  # far enough back that a change gives another time on any clock


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "COPY_CHUNK", CHUNK)
    monkeypatch.setattr(filesystem, "_LARGEST_COPY_CHUNK", CHUNK)
    monkeypatch.setattr(filesystem, "HASH_CHUNK", CHUNK // 4)


@pytest.fixture(params=["copy_file_range", "buffer"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to copy bytes, without a clone before them."""
    monkeypatch.setattr(filesystem, "_clone", lambda reader, writer: False)
    if request.param == "buffer":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    elif not hasattr(os, "copy_file_range"):
        pytest.skip("the platform has no copy_file_range")
    return str(request.param)


def make_file(path: Path, size: int = 5 * CHUNK + 7) -> Path:
    path.write_bytes(os.urandom(size))
    os.utime(path, ns=(PAST, PAST))
    return path


@contextlib.contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """A file system of its own, for the time of a test; skips where none can be mounted."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount")
    place.mkdir()
    done = subprocess.run(["mount", *arguments, str(place)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "tmpfs", "-t", "tmpfs", "-o", "size=1m", "none") as place:
        yield place


@pytest.fixture(params=["btrfs", "xfs"])
def cloning(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that shares blocks between files."""
    make = shutil.which(f"mkfs.{request.param}")
    if make is None:
        pytest.skip(f"no mkfs.{request.param} here")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(400 * 1024 * 1024)  # sparse; xfs takes no less than 300 MB
    done = subprocess.run([make, "-q", str(image)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mkfs.{request.param} fails: {done.stderr.strip()}")
    with mounted(tmp_path / "cloning", "-o", "loop", str(image)) as place:
        yield place


# ------------------------------------------------------------- copy_verified


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 7])
@pytest.mark.usefixtures("small_chunks", "way")
def test_copy(tmp_path: Path, size: int) -> None:
    source, target = make_file(tmp_path / "source", size), tmp_path / "target"
    before, counts = tree(tmp_path), list[int]()
    filesystem.copy_verified(source, target, on_bytes=counts.append)
    assert digest(target) == digest(source)
    assert target.stat().st_mtime_ns == PAST
    assert sum(counts) == size
    assert len(counts) >= size // CHUNK
    assert tree(tmp_path) == {**before, "target": digest(source)}


@pytest.mark.parametrize("sync", [True, False])
def test_copy_of_a_film(tmp_path: Path, films: list[Path], sync: bool) -> None:
    """As it comes: with whatever this file system can, and the default sizes."""
    os.utime(films[0], ns=(PAST + 5, PAST))
    counts: list[int] = []
    filesystem.copy_verified(films[0], tmp_path / "film.avi", on_bytes=counts.append, sync=sync)
    assert digest(tmp_path / "film.avi") == digest(films[0])
    assert (tmp_path / "film.avi").stat().st_mtime_ns == PAST
    assert sum(counts) == films[0].stat().st_size
    assert not os.path.samefile(tmp_path / "film.avi", films[0])


@pytest.mark.usefixtures("small_chunks", "way")
def test_copy_of_a_sparse_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"head")
        file.seek(20 * CHUNK)
        file.write(b"middle")
        file.truncate(40 * CHUNK)
    counts: list[int] = []
    filesystem.copy_verified(source, tmp_path / "target", on_bytes=counts.append)
    assert digest(tmp_path / "target") == digest(source)
    assert sum(counts) == 40 * CHUNK


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_copy_has_the_permissions_of_a_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    source = make_file(tmp_path / "source")
    source.chmod(0o400)
    previous = os.umask(umask)
    try:
        filesystem.copy_verified(source, tmp_path / "target")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == mode
    assert stat.S_IMODE(source.stat().st_mode) == 0o400


def test_copy_follows_a_symlink(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source")
    (tmp_path / "link").symlink_to("source")
    filesystem.copy_verified(tmp_path / "link", tmp_path / "target")
    assert not (tmp_path / "target").is_symlink()
    assert digest(tmp_path / "target") == digest(source)


@pytest.mark.parametrize("kind", ["file", "folder", "symlink", "dangling symlink", "the source itself"])
def test_copy_refuses_an_existing_target(tmp_path: Path, kind: str) -> None:
    source = make_file(tmp_path / "source")
    target = tmp_path / "target"
    if kind == "file":
        target.write_bytes(b"other")
    elif kind == "folder":
        target.mkdir()
    elif kind == "the source itself":
        target = source
    else:
        target.symlink_to("nowhere" if kind.startswith("dangling") else "source")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError):
        filesystem.copy_verified(source, target)
    assert tree(tmp_path) == before


def test_copy_of_a_missing_file_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        filesystem.copy_verified(tmp_path / "source", tmp_path / "target")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("change", ["first byte", "last byte", "longer", "shorter", "empty"])
@pytest.mark.usefixtures("small_chunks", "way")
def test_source_changed_while_copied(tmp_path: Path, change: str) -> None:
    source = make_file(tmp_path / "source")
    size = source.stat().st_size

    def meddle(count: int) -> None:
        if source.stat().st_mtime_ns != PAST:
            return
        with source.open("r+b") as file:
            if change == "shorter":
                file.truncate(CHUNK + 1)
            elif change == "empty":
                file.truncate(0)
            else:
                file.seek({"first byte": 0, "last byte": size - 1, "longer": size}[change])
                file.write(b"?")

    with pytest.raises(TransferError, match="source changed while it was copied"):
        filesystem.copy_verified(source, tmp_path / "target", on_bytes=meddle)


@pytest.mark.usefixtures("small_chunks", "way")
def test_source_that_grows_as_fast_as_it_is_copied(tmp_path: Path) -> None:
    """A film that is being recorded must not be followed until the disk is full."""
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    size = source.stat().st_size

    def grow(count: int) -> None:
        assert source.stat().st_size < 10 * size
        with source.open("ab") as file:
            file.write(bytes(count))

    with pytest.raises(TransferError, match="source changed while it was copied"):
        filesystem.copy_verified(source, target, on_bytes=grow)
    assert target.stat().st_size <= size + CHUNK


@pytest.mark.usefixtures("small_chunks", "way")
def test_cancelled_when_all_is_copied(tmp_path: Path) -> None:
    """What is still to be compared is not, then."""
    source, counts = make_file(tmp_path / "source"), list[int]()

    def cancel(count: int) -> None:
        counts.append(count)
        if sum(counts) == source.stat().st_size and not count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filesystem.copy_verified(source, tmp_path / "target", on_bytes=cancel)


@linux
def test_chunks_follow_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They grow while that takes no time, and become small again when the kernel has no more room for what waits."""
    asked, now = list[int](), [0.0]
    copy_range = filesystem._copy_range

    def copy(reader: Any, writer: Any, size: int) -> int:
        asked.append(size // CHUNK)
        now[0] += 1.0 if len(asked) > 4 else 0.0
        return copy_range(reader, writer, size)

    monkeypatch.setattr(filesystem, "COPY_CHUNK", CHUNK)
    monkeypatch.setattr(filesystem, "HASH_CHUNK", CHUNK // 4)
    monkeypatch.setattr(filesystem, "_clone", lambda reader, writer: False)
    monkeypatch.setattr(filesystem, "_copy_range", copy)
    monkeypatch.setattr(filesystem.time, "monotonic", lambda: now[0])
    source = make_file(tmp_path / "source", 50 * CHUNK)
    filesystem.copy_verified(source, tmp_path / "target")
    assert asked == [1, 2, 4, 8, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1]
    assert digest(tmp_path / "target") == digest(source)


@pytest.mark.parametrize("chunk", [0, 2, 5])
@pytest.mark.usefixtures("small_chunks")
def test_copy_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """A disk that stores another byte than it was given, in the first, a middle and the last chunk."""
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    copy_chunk, done = filesystem._copy_buffer, list[int]()

    def copy_wrongly(reader: object, writer: object, size: int) -> int:
        count = copy_chunk(reader, writer, size)  # type: ignore[arg-type]
        if len(done) == chunk:
            with target.open("r+b") as file:
                file.seek(sum(done))
                byte = file.read(1)
                file.seek(sum(done))
                file.write(bytes([byte[0] ^ 1]))
        done.append(count)
        return count

    monkeypatch.setattr(filesystem, "_clone", lambda reader, writer: False)
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    monkeypatch.setattr(filesystem, "_copy_buffer", copy_wrongly)
    with pytest.raises(TransferError, match="reads back with other bytes"):
        filesystem.copy_verified(source, target)


@pytest.mark.usefixtures("small_chunks", "way")
def test_copy_spoiled_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process overwrites a chunk of the copy before it was read back."""
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    spoiled: list[int] = []
    is_same = filesystem._is_same

    def wait_and_compare(*arguments: object) -> bool:
        deadline = time.monotonic() + 10
        while not spoiled and time.monotonic() < deadline:
            time.sleep(0.001)
        return is_same(*arguments)  # type: ignore[arg-type]

    def spoil(count: int) -> None:
        if not spoiled:
            byte = target.read_bytes()[100]
            with target.open("r+b") as file:
                file.seek(100)
                file.write(bytes([byte ^ 1]))
            spoiled.append(count)

    monkeypatch.setattr(filesystem, "_is_same", wait_and_compare)
    with pytest.raises(TransferError, match="reads back with other bytes"):
        filesystem.copy_verified(source, target, on_bytes=spoil)


@pytest.mark.usefixtures("small_chunks", "way")
def test_truncated_copy(tmp_path: Path) -> None:
    source, target = make_file(tmp_path / "source"), tmp_path / "target"

    def cut(count: int) -> None:
        if target.stat().st_size == source.stat().st_size:
            os.truncate(target, 2 * CHUNK)

    with pytest.raises(TransferError):
        filesystem.copy_verified(source, target, on_bytes=cut)


@linux
@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.usefixtures("small_chunks")
def test_fallback_from_copy_file_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: int
) -> None:
    """At once, and after some chunks went well."""
    source = make_file(tmp_path / "source")
    copy_file_range, calls = os.copy_file_range, list[int]()

    def refuse(reader: int, writer: int, count: int) -> int:
        calls.append(count)
        if len(calls) > after:
            raise OSError(number, os.strerror(number))
        return copy_file_range(reader, writer, count)

    counts: list[int] = []
    monkeypatch.setattr(filesystem, "_clone", lambda reader, writer: False)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    filesystem.copy_verified(source, tmp_path / "target", on_bytes=counts.append)
    assert len(calls) == after + 1
    assert digest(tmp_path / "target") == digest(source)
    assert sum(counts) == source.stat().st_size


@linux
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_failure_is_no_reason_to_fall_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(reader: int, writer: int, count: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filesystem, "_clone", lambda reader, writer: False)
    monkeypatch.setattr(filesystem, "HASH_CHUNK", CHUNK)  # or the file is small, and copied otherwise
    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        filesystem.copy_verified(make_file(tmp_path / "source"), tmp_path / "target")
    assert caught.value.errno == number


def test_failure_while_cloning_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("Linux only")
    import fcntl

    def fail(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        filesystem.copy_verified(make_file(tmp_path / "source"), tmp_path / "target")


@pytest.mark.parametrize("which", ["_flush", "fsync"])
@pytest.mark.usefixtures("small_chunks", "way")
def test_failing_flush_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """Also one that comes while the copying goes on: the system tells of it once."""
    failed: list[int] = []

    def fail(handle: int) -> None:
        if not failed:
            failed.append(handle)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(filesystem if which == "_flush" else os, which, fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        filesystem.copy_verified(make_file(tmp_path / "source"), tmp_path / "target")
    assert failed


def test_copy_into_another_file_system(tmp_path: Path, tmpfs: Path) -> None:
    source = make_file(tmp_path / "source")
    filesystem.copy_verified(source, tmpfs / "target")
    assert digest(tmpfs / "target") == digest(source)
    assert (tmpfs / "target").stat().st_mtime_ns == PAST


def test_copy_to_a_full_disk(tmp_path: Path, tmpfs: Path) -> None:
    source = make_file(tmp_path / "source", 2 * 1024 * 1024)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        filesystem.copy_verified(source, tmpfs / "target")
    assert source.stat().st_size == 2 * 1024 * 1024


def test_exception_in_the_callback_comes_out(tmp_path: Path) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    source = make_file(tmp_path / "source")
    content = digest(source)
    with pytest.raises(KeyboardInterrupt):
        filesystem.copy_verified(source, tmp_path / "target", on_bytes=stop)
    assert digest(source) == content


def test_clone_shares_blocks(cloning: Path) -> None:
    source, target = make_file(cloning / "source", 32 * 1024 * 1024), cloning / "target"
    filesystem.sync_file(source)
    free, counts = filesystem.free_bytes(cloning), list[int]()
    assert filesystem.can_clone(source, cloning)
    assert tree(cloning).keys() == {"source"}
    filesystem.copy_verified(source, target, on_bytes=counts.append)
    os.sync()
    assert free - filesystem.free_bytes(cloning) < 4 * 1024 * 1024
    assert digest(target) == digest(source)
    assert not os.path.samefile(target, source)
    assert target.stat().st_mtime_ns == PAST
    assert counts == [32 * 1024 * 1024]
    with target.open("r+b") as file:  # a copy, not a second name
        file.write(b"changed")
    assert digest(target) != digest(source)


def test_no_clone_from_another_file_system(tmp_path: Path, tmpfs: Path) -> None:
    assert not filesystem.can_clone(make_file(tmp_path / "source"), tmpfs)
    assert tree(tmpfs) == {}


@pytest.mark.parametrize("case", ["no source", "no folder"])
def test_can_clone_never_raises(tmp_path: Path, case: str) -> None:
    source = make_file(tmp_path / "source")
    arguments = (tmp_path / "missing", tmp_path) if case == "no source" else (source, tmp_path / "missing")
    assert not filesystem.can_clone(*arguments)
    assert tree(tmp_path).keys() == {"source"}


# -------------------------------------------------------------- same_content


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1])
@pytest.mark.usefixtures("small_chunks")
def test_same_content(tmp_path: Path, size: int) -> None:
    one = make_file(tmp_path / "one", size)
    shutil.copyfile(one, tmp_path / "two")
    os.link(one, tmp_path / "name")
    (tmp_path / "link").symlink_to("two")
    assert filesystem.same_content(one, one)
    assert filesystem.same_content(one, tmp_path / "two")
    assert filesystem.same_content(one, tmp_path / "name")
    assert filesystem.same_content(one, tmp_path / "link")


@pytest.mark.parametrize("position", [0, CHUNK // 4 - 1, CHUNK // 4, CHUNK, 3 * CHUNK])
@pytest.mark.usefixtures("small_chunks")
def test_one_byte_is_other_content(tmp_path: Path, position: int) -> None:
    one = make_file(tmp_path / "one", 3 * CHUNK + 1)
    content = bytearray(one.read_bytes())
    content[position] ^= 1
    (tmp_path / "two").write_bytes(content)
    os.utime(tmp_path / "two", ns=(PAST, PAST))
    assert not filesystem.same_content(one, tmp_path / "two")
    assert not filesystem.same_content(tmp_path / "two", one)


@pytest.mark.parametrize("size", [0, CHUNK - 1, CHUNK + 1])
def test_other_size_is_other_content(tmp_path: Path, size: int) -> None:
    (tmp_path / "one").write_bytes(bytes(CHUNK))
    (tmp_path / "two").write_bytes(bytes(size))
    assert not filesystem.same_content(tmp_path / "one", tmp_path / "two")


def test_content_of_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("missing", "dangling"):
        with pytest.raises(FileNotFoundError):
            filesystem.same_content(make_file(tmp_path / "one"), tmp_path / name)


# -------------------------------------------------------- links and renames


def no_hard_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


def test_link(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source")
    assert filesystem.link_exclusive(source, tmp_path / "target")
    assert os.path.samefile(source, tmp_path / "target")


@linux
def test_link_to_a_symlink_is_one(tmp_path: Path) -> None:
    (tmp_path / "source").symlink_to("nowhere")
    assert filesystem.link_exclusive(tmp_path / "source", tmp_path / "target")
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
    assert filesystem.link_exclusive(source, tmp_path / "target")
    assert os.path.samefile(source, tmp_path / "target")
    assert not filesystem.link_exclusive(tmp_path / "link", tmp_path / "other")
    assert not os.path.lexists(tmp_path / "other")


def test_platform_that_cannot_link_symlinks_nor_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try of `link_exclusive` may meet a file system without hard links as well as the first."""

    def refuse(source: Path, target: Path, *, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    source = make_file(tmp_path / "source")
    assert not filesystem.link_exclusive(source, tmp_path / "target")


def test_no_link_into_another_file_system(tmp_path: Path, tmpfs: Path) -> None:
    assert not filesystem.link_exclusive(make_file(tmp_path / "source"), tmpfs / "target")
    assert tree(tmpfs) == {}


@pytest.mark.parametrize("number", sorted(filesystem.CANNOT_LINK))
def test_no_link_where_none_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    no_hard_links(monkeypatch, number)
    assert not filesystem.link_exclusive(make_file(tmp_path / "source"), tmp_path / "target")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_failure_to_link_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    no_hard_links(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        filesystem.link_exclusive(make_file(tmp_path / "source"), tmp_path / "target")


@pytest.mark.parametrize("links", [True, False])
def test_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    source = make_file(tmp_path / "source")
    content, inode = digest(source), source.stat().st_ino
    if not links:
        no_hard_links(monkeypatch)
    filesystem.rename_exclusive(source, tmp_path / "target")
    assert tree(tmp_path) == {"target": content}
    assert (tmp_path / "target").stat().st_ino == inode


@linux
@pytest.mark.parametrize("links", [True, False])
def test_rename_of_a_symlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    make_file(tmp_path / "film")
    (tmp_path / "source").symlink_to("film")
    if not links:
        no_hard_links(monkeypatch)
    filesystem.rename_exclusive(tmp_path / "source", tmp_path / "target")
    assert tree(tmp_path) == {"film": digest(tmp_path / "film"), "target": "-> film"}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling symlink"])
def test_rename_never_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool, kind: str) -> None:
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    if kind == "file":
        target.write_bytes(b"other")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    before = tree(tmp_path)
    if not links:
        no_hard_links(monkeypatch)
    with pytest.raises(FileExistsError):
        filesystem.rename_exclusive(source, target)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("links", [True, False])
def test_rename_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        no_hard_links(monkeypatch)
    with pytest.raises(FileNotFoundError):
        filesystem.rename_exclusive(tmp_path / "source", tmp_path / "target")
    assert tree(tmp_path) == {}


# ------------------------------------------------------------ sync and room


def test_sync(tmp_path: Path) -> None:
    filesystem.sync_file(make_file(tmp_path / "file"))
    filesystem.sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        filesystem.sync_file(tmp_path / "missing")


@posix
def test_folder_with_nothing_to_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
from nwb_extfiles.filesystem import FileLock
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


def test_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(3):
        lock = filesystem.FileLock(path)
        assert path.exists()
        with pytest.raises(BlockingIOError):
            filesystem.FileLock(path)
        lock.release()
        assert tree(tmp_path) == {}
        lock.release()  # once more does nothing


def test_lock_that_was_refused_stays_with_its_holder(tmp_path: Path) -> None:
    lock = filesystem.FileLock(tmp_path / "lock")
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            filesystem.FileLock(tmp_path / "lock")
    lock.release()


def test_lock_that_was_dropped_is_free(tmp_path: Path) -> None:
    lock = filesystem.FileLock(tmp_path / "lock")
    del lock
    filesystem.FileLock(tmp_path / "lock").release()
    assert tree(tmp_path) == {}


def test_lock_takes_over_an_old_file(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    filesystem.FileLock(tmp_path / "lock").release()
    assert tree(tmp_path) == {}


def test_lock_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        filesystem.FileLock(tmp_path / "missing" / "lock")


def test_lock_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        with pytest.raises(BlockingIOError):
            filesystem.FileLock(path)
        assert process.stdin is not None
        process.stdin.write("release\n")
        process.stdin.close()
        assert process.wait(10) == 0
        assert not path.exists()
        filesystem.FileLock(path).release()


@posix
def test_lock_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert path.exists()
        lock = filesystem.FileLock(path)
        with pytest.raises(BlockingIOError):
            filesystem.FileLock(path)
        lock.release()
    assert tree(tmp_path) == {}


@posix
def test_lock_is_no_child_s(tmp_path: Path) -> None:
    """A program that was started by the holder does not keep the lock."""
    lock = filesystem.FileLock(tmp_path / "lock")
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], **PIPES, close_fds=False) as process:
        assert process.stdout is not None
        process.stdout.readline()
        del lock
        filesystem.FileLock(tmp_path / "lock").release()
        process.kill()


@posix
def test_lock_file_replaced_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was locked went with its former holder: a lock on it would be worth nothing."""
    path, lock_handle, seen = tmp_path / "lock", filesystem.lock_handle, list[int]()

    def slow(handle: int) -> None:
        lock_handle(handle)
        seen.append(os.fstat(handle).st_nlink)
        if len(seen) == 1:
            path.unlink()
        elif len(seen) == 2:
            path.rename(tmp_path / "older")
            path.touch()

    monkeypatch.setattr(filesystem, "lock_handle", slow)
    lock = filesystem.FileLock(path)
    monkeypatch.undo()
    assert len(seen) == 3
    with pytest.raises(BlockingIOError):
        filesystem.FileLock(path)
    lock.release()


@posix
def test_lock_follows_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(b"film")
    (tmp_path / "lock").symlink_to("film")
    with pytest.raises(OSError, match="lock"):
        filesystem.FileLock(tmp_path / "lock")
    assert (tmp_path / "film").read_bytes() == b"film"


@posix
def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    numbers = [errno.ENOLCK, errno.ENOSYS, errno.EIO]

    def fail(handle: int, operation: int) -> None:
        number = numbers.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    for _ in range(2):
        with pytest.raises(NotImplementedError, match="no locks"):
            filesystem.FileLock(tmp_path / "lock")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        filesystem.FileLock(tmp_path / "lock")


# ------------------------------------------------------------------ small files


@pytest.mark.parametrize("size", [0, 1, 4096, filesystem.HASH_CHUNK])
@pytest.mark.parametrize("with_digest", [False, True])
def test_small_file(tmp_path: Path, size: int, with_digest: bool) -> None:
    source = make_file(tmp_path / "source", size)
    counts: list[int] = []
    found = filesystem.copy_verified(source, tmp_path / "target", on_bytes=counts.append, with_digest=with_digest)
    assert digest(tmp_path / "target") == digest(source)
    assert found == (digest(source) if with_digest else None)
    assert sum(counts) == size


@pytest.mark.parametrize("size", [1000, 3 * 1024 * 1024])
def test_digest_comes_with_the_copy(tmp_path: Path, size: int) -> None:
    source = make_file(tmp_path / "source", size)
    assert filesystem.copy_verified(source, tmp_path / "target", with_digest=True) == digest(source)
    assert filesystem.digest_of(tmp_path / "target") == digest(source)

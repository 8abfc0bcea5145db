"""Copying and comparing files."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import PAST, digest, make_file, mounted, tree

from nwb_extfiles.disk import contents, filesystem
from nwb_extfiles.errors import TransferError

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX only")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

CHUNK = 64 * 1024


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "COPY_CHUNK", CHUNK)
    monkeypatch.setattr(contents, "HASH_CHUNK", CHUNK // 4)


@pytest.fixture(params=["copy_file_range", "buffer"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to copy bytes, without a clone before them."""
    monkeypatch.setattr(contents, "_clone", lambda reader, writer: False)
    if request.param == "buffer":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    elif not hasattr(os, "copy_file_range"):
        pytest.skip("the platform has no copy_file_range")
    return str(request.param)


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
def test_copy_is_equal(tmp_path: Path, size: int) -> None:
    source, target = make_file(tmp_path / "source", size), tmp_path / "target"
    before, counts = tree(tmp_path), list[int]()
    contents.copy_verified(source, target, on_bytes=counts.append)
    assert digest(target) == digest(source)
    assert target.stat().st_mtime_ns == PAST
    assert sum(counts) == size
    assert len(counts) >= size // CHUNK
    assert tree(tmp_path) == {**before, "target": digest(source)}


@pytest.mark.parametrize("sync", [True, False])
def test_copy_of_a_video(tmp_path: Path, videos: list[Path], sync: bool) -> None:
    """With the defaults: whatever this file system supports, and the usual chunk size."""
    os.utime(videos[0], ns=(PAST + 5, PAST))
    counts: list[int] = []
    contents.copy_verified(videos[0], tmp_path / "video.avi", on_bytes=counts.append, sync=sync)
    assert digest(tmp_path / "video.avi") == digest(videos[0])
    assert (tmp_path / "video.avi").stat().st_mtime_ns == PAST
    assert sum(counts) == videos[0].stat().st_size
    assert not os.path.samefile(tmp_path / "video.avi", videos[0])


@pytest.mark.usefixtures("small_chunks", "way")
def test_copy_of_a_sparse_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"head")
        file.seek(20 * CHUNK)
        file.write(b"middle")
        file.truncate(40 * CHUNK)
    counts: list[int] = []
    contents.copy_verified(source, tmp_path / "target", on_bytes=counts.append)
    assert digest(tmp_path / "target") == digest(source)
    assert sum(counts) == 40 * CHUNK


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o444, 0o640, 0o664])
def test_copy_has_the_mode_of_its_source(tmp_path: Path, umask: int, mode: int) -> None:
    source = make_file(tmp_path / "source")
    source.chmod(mode)
    previous = os.umask(umask)
    try:
        contents.copy_verified(source, tmp_path / "target")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == mode
    assert stat.S_IMODE(source.stat().st_mode) == mode


def test_copy_follows_a_symlink(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source")
    (tmp_path / "link").symlink_to("source")
    contents.copy_verified(tmp_path / "link", tmp_path / "target")
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
        contents.copy_verified(source, target)
    assert tree(tmp_path) == before


def test_copy_of_a_missing_file_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        contents.copy_verified(tmp_path / "source", tmp_path / "target")
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
        contents.copy_verified(source, tmp_path / "target", on_bytes=meddle)


@pytest.mark.usefixtures("small_chunks", "way")
def test_source_that_grows_as_fast_as_it_is_copied(tmp_path: Path) -> None:
    """A video that is being recorded must not be followed until the disk is full."""
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    size = source.stat().st_size

    def grow(count: int) -> None:
        assert source.stat().st_size < 10 * size
        with source.open("ab") as file:
            file.write(bytes(count))

    with pytest.raises(TransferError, match="source changed while it was copied"):
        contents.copy_verified(source, target, on_bytes=grow)
    assert target.stat().st_size <= size + CHUNK


@pytest.mark.usefixtures("small_chunks", "way")
def test_cancelled_after_last_chunk(tmp_path: Path) -> None:
    """The comparison does not begin."""
    source, counts = make_file(tmp_path / "source"), list[int]()

    def cancel(count: int) -> None:
        counts.append(count)
        if sum(counts) == source.stat().st_size and not count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contents.copy_verified(source, tmp_path / "target", on_bytes=cancel)


@pytest.mark.parametrize("chunk", [0, 2, 5])
@pytest.mark.usefixtures("small_chunks")
def test_differing_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """A disk stores a wrong byte, in the first, a middle or the last chunk."""
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    copy_chunk, done = contents._copy_buffer, list[int]()

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

    monkeypatch.setattr(contents, "_clone", lambda reader, writer: False)
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    monkeypatch.setattr(contents, "_copy_buffer", copy_wrongly)
    with pytest.raises(TransferError, match="reads back with other bytes"):
        contents.copy_verified(source, target)


@pytest.mark.usefixtures("small_chunks", "way")
def test_copy_changed_from_outside_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process overwrites a chunk of the copy before it is read back."""
    source, target = make_file(tmp_path / "source"), tmp_path / "target"
    spoiled: list[int] = []
    is_same = contents._is_same

    def wait_and_compare(*arguments: object) -> bool:
        deadline = time.monotonic() + 100
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

    monkeypatch.setattr(contents, "_is_same", wait_and_compare)
    with pytest.raises(TransferError, match="reads back with other bytes"):
        contents.copy_verified(source, target, on_bytes=spoil)


@pytest.mark.usefixtures("small_chunks", "way")
def test_truncated_copy(tmp_path: Path) -> None:
    source, target = make_file(tmp_path / "source"), tmp_path / "target"

    def cut(count: int) -> None:
        if target.stat().st_size == source.stat().st_size:
            os.truncate(target, 2 * CHUNK)

    with pytest.raises(TransferError):
        contents.copy_verified(source, target, on_bytes=cut)


@linux
@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.usefixtures("small_chunks")
def test_fallback_from_copy_file_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: int
) -> None:
    """At once, and after some chunks succeeded."""
    source = make_file(tmp_path / "source")
    copy_file_range, calls = os.copy_file_range, list[int]()

    def refuse(reader: int, writer: int, count: int) -> int:
        calls.append(count)
        if len(calls) > after:
            raise OSError(number, os.strerror(number))
        return copy_file_range(reader, writer, count)

    counts: list[int] = []
    monkeypatch.setattr(contents, "_clone", lambda reader, writer: False)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    contents.copy_verified(source, tmp_path / "target", on_bytes=counts.append)
    assert len(calls) == after + 1
    assert digest(tmp_path / "target") == digest(source)
    assert sum(counts) == source.stat().st_size


@linux
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_io_error_does_not_fall_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(reader: int, writer: int, count: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(contents, "_clone", lambda reader, writer: False)
    monkeypatch.setattr(contents, "HASH_CHUNK", CHUNK)  # or the file is small, and copied otherwise
    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        contents.copy_verified(make_file(tmp_path / "source"), tmp_path / "target")
    assert caught.value.errno == number


def test_clone_failure_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("Linux only")
    import fcntl

    def fail(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        contents.copy_verified(make_file(tmp_path / "source"), tmp_path / "target")


@pytest.mark.parametrize("which", ["_flush", "fsync"])
@pytest.mark.usefixtures("small_chunks", "way")
def test_fsync_failure_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """Also a failure during the copy: the system reports it only once."""
    failed: list[int] = []

    def fail(handle: int) -> None:
        if not failed:
            failed.append(handle)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(contents if which == "_flush" else os, which, fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        contents.copy_verified(make_file(tmp_path / "source"), tmp_path / "target")
    assert failed


def test_copy_into_another_file_system(tmp_path: Path, tmpfs: Path) -> None:
    source = make_file(tmp_path / "source")
    contents.copy_verified(source, tmpfs / "target")
    assert digest(tmpfs / "target") == digest(source)
    assert (tmpfs / "target").stat().st_mtime_ns == PAST


def test_copy_to_a_full_disk(tmp_path: Path, tmpfs: Path) -> None:
    source = make_file(tmp_path / "source", 2 * 1024 * 1024)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        contents.copy_verified(source, tmpfs / "target")
    assert source.stat().st_size == 2 * 1024 * 1024


def test_callback_exception_propagates(tmp_path: Path) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    source = make_file(tmp_path / "source")
    content = digest(source)
    with pytest.raises(KeyboardInterrupt):
        contents.copy_verified(source, tmp_path / "target", on_bytes=stop)
    assert digest(source) == content


def test_clone_shares_blocks(cloning: Path) -> None:
    source, target = make_file(cloning / "source", 32 * 1024 * 1024), cloning / "target"
    filesystem.sync_file(source)
    free, counts = filesystem.free_bytes(cloning), list[int]()
    assert contents.can_clone(source, cloning)
    assert tree(cloning).keys() == {"source"}
    contents.copy_verified(source, target, on_bytes=counts.append)
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
    assert not contents.can_clone(make_file(tmp_path / "source"), tmpfs)
    assert tree(tmpfs) == {}


@pytest.mark.parametrize("case", ["no source", "no folder"])
def test_can_clone_never_raises(tmp_path: Path, case: str) -> None:
    source = make_file(tmp_path / "source")
    arguments = (tmp_path / "missing", tmp_path) if case == "no source" else (source, tmp_path / "missing")
    assert not contents.can_clone(*arguments)
    assert tree(tmp_path).keys() == {"source"}


# -------------------------------------------------------------- same_content


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1])
@pytest.mark.usefixtures("small_chunks")
def test_same_content(tmp_path: Path, size: int) -> None:
    one = make_file(tmp_path / "one", size)
    shutil.copyfile(one, tmp_path / "two")
    os.link(one, tmp_path / "name")
    (tmp_path / "link").symlink_to("two")
    assert contents.same_content(one, one)
    assert contents.same_content(one, tmp_path / "two")
    assert contents.same_content(one, tmp_path / "name")
    assert contents.same_content(one, tmp_path / "link")


@pytest.mark.parametrize("position", [0, CHUNK // 4 - 1, CHUNK // 4, CHUNK, 3 * CHUNK])
@pytest.mark.usefixtures("small_chunks")
def test_one_byte_makes_other_content(tmp_path: Path, position: int) -> None:
    one = make_file(tmp_path / "one", 3 * CHUNK + 1)
    content = bytearray(one.read_bytes())
    content[position] ^= 1
    (tmp_path / "two").write_bytes(content)
    os.utime(tmp_path / "two", ns=(PAST, PAST))
    assert not contents.same_content(one, tmp_path / "two")
    assert not contents.same_content(tmp_path / "two", one)


@pytest.mark.parametrize("size", [0, CHUNK - 1, CHUNK + 1])
def test_other_size_makes_other_content(tmp_path: Path, size: int) -> None:
    (tmp_path / "one").write_bytes(bytes(CHUNK))
    (tmp_path / "two").write_bytes(bytes(size))
    assert not contents.same_content(tmp_path / "one", tmp_path / "two")


def test_content_of_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("missing", "dangling"):
        with pytest.raises(FileNotFoundError):
            contents.same_content(make_file(tmp_path / "one"), tmp_path / name)


# ------------------------------------------------------------------ small files


@pytest.mark.parametrize("size", [0, 1, 4096, contents.HASH_CHUNK])
@pytest.mark.parametrize("with_digest", [False, True])
def test_small_file(tmp_path: Path, size: int, with_digest: bool) -> None:
    source = make_file(tmp_path / "source", size)
    counts: list[int] = []
    found = contents.copy_verified(source, tmp_path / "target", on_bytes=counts.append, with_digest=with_digest)
    assert digest(tmp_path / "target") == digest(source)
    assert found == (digest(source) if with_digest else None)
    assert sum(counts) == size


@pytest.mark.parametrize("place", [0, 120 * 1024 - 1, 120 * 1024, 199_999])
@pytest.mark.usefixtures("way")
def test_differing_small_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """The disk stores a wrong byte, in the first or the last piece that is compared, or at the border."""
    source, target, copied = make_file(tmp_path / "source", 200_000), tmp_path / "target", contents._copied

    def copy_wrongly(*arguments: Any) -> Iterator[int]:
        yield from copied(*arguments)
        with target.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))

    monkeypatch.setattr(contents, "_copied", copy_wrongly)
    with pytest.raises(TransferError, match="reads back with other bytes"):
        contents.copy_verified(source, target)


@linux
@pytest.mark.usefixtures("way")
def test_source_with_more_bytes_than_its_size_says_is_refused(tmp_path: Path) -> None:
    """Files of the kernel, and some on network disks, say that they are empty."""
    with pytest.raises(TransferError):
        contents.copy_verified(Path("/proc/self/status"), tmp_path / "target")


@pytest.mark.parametrize("size", [1000, 3 * 1024 * 1024])
def test_copy_returns_digest(tmp_path: Path, size: int) -> None:
    source = make_file(tmp_path / "source", size)
    assert contents.copy_verified(source, tmp_path / "target", with_digest=True) == digest(source)
    assert contents.digest_of(tmp_path / "target") == digest(source)

"""Media behind URLs, from a real server that breaks off, trickles and lies; judged by what is on disk."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import h5py
import processes
import pytest
import remfile
from click.testing import CliRunner
from helpers import digest, image_series, new_nwbfile, play, stored_paths, tree, write_nwb
from pynwb import NWBHDF5IO
from servers import Handler, Server, reading_from_here

from nwb_extfiles import ExternalFilesError, ExternalFilesWarning, MediaOptions, NWBExtFilesHDF5IO, organize
from nwb_extfiles.cli import main
from nwb_extfiles.disk import filesystem
from nwb_extfiles.errors import (
    MediaExistsError,
    MissingMediaError,
    RelocationRefusedError,
    TransferError,
    UnsafeReferenceError,
)
from nwb_extfiles.plans.plan import Action
from nwb_extfiles.web import download, urls
from nwb_extfiles.web.remote import RemoteFile, described, retry_after

posix = pytest.mark.skipif(os.name == "nt", reason="kills, and links, as POSIX has them")
BIG = os.urandom(3_000_000)
ETAG = '"of this very content"'
DATE = formatdate(1_700_000_000, usegmt=True)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "FIRST_PAUSE", 0.001)


def sends(content: bytes = BIG, **kwargs: Any) -> Callable[[Handler], None]:
    return lambda handler: handler.send_bytes(content, **kwargs)


def answers(status: int, text: str = "", kind: str = "text/plain") -> Callable[[Handler], None]:
    return lambda handler: handler.send_text(status, text, kind)


def requests(server: Server) -> list[str | None]:
    """The ranges that were asked for, without the first request, which only asks."""
    return [asked for _, _, asked in server.asked[1:]]


def breaks_off(tmp_path: Path, stop: int, content: bytes = BIG, **kwargs: Any) -> Callable[[Handler], None]:
    """A server that hangs up after some bytes of its answer, when `fetched` has got them."""

    def arrived(size: int) -> None:
        end = time.monotonic() + 100
        while (tmp_path / "part").stat().st_size < size and time.monotonic() < end:
            time.sleep(0.002)

    return sends(content, stop=stop, arrived=arrived, **kwargs)


def fetched(server: Server, tmp_path: Path, route: Any = None, **kwargs: Any) -> bytes:
    """What is fetched from ``video.avi``, and left at the place for it."""
    if route is not None:
        server.routes["/video.avi"] = route
    remote = urls.ask(server.url("video.avi"))
    download.fetch(remote, tmp_path / "part", **kwargs)
    return (tmp_path / "part").read_bytes()


# ------------------------------------------------------------------ the whole


def export(source: Path, target: Path, mode: str = "copy", **options: Any) -> Any:
    options = {"urls": "download", **options}
    with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, relocate_media=True, media_mode=mode, media_options=options)
    return io.relocation


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "copy", "move"])
@pytest.mark.filterwarnings("ignore:.*stays behind with references")
def test_videos_are_downloaded_beside_nwb_file(
    tmp_path: Path, server: Server, videos: list[Path], video_files: Path, mode: str
) -> None:
    for name in ("one.avi", "two.AVI"):
        (server.folder / name).write_bytes(videos[4 if name == "one.avi" else 5].read_bytes())
    local = digest(video_files / "test1_0.avi")
    paths = [server.url("one.avi"), "../video_files/test1_0.avi", server.url("two.AVI?x=1#t")]
    source = write_nwb(tmp_path / "nwbfiles" / "a.nwb", paths)
    before = digest(source)
    target = tmp_path / "dandiset" / "sub-a.nwb"
    seen: list[tuple[int, int]] = []
    plan = export(source, target, mode, progress=lambda done, total: seen.append((done, total)))
    new = stored_paths(target)
    assert [Path(stored).name.partition("_external_file_")[2] for stored in new] == ["0.avi", "1.avi", "2.avi"]
    assert [digest(target.parent / stored) for stored in new] == [digest(videos[4]), local, digest(videos[5])]
    assert [play(target.parent / stored) for stored in new] == [10, 10, 10]
    assert [entry.action for entry in plan.relocations] == [Action.DOWNLOAD, Action.TRANSFER, Action.DOWNLOAD]
    assert not (target.parent / new[0]).is_symlink()
    assert (target.parent / new[0]).stat().st_nlink == 1
    total = sum(videos[number].stat().st_size for number in (0, 4, 5))
    assert seen[-1] == (total, total) == (plan.media_bytes,) * 2
    assert digest(source) == before
    assert sorted(tree(target.parent)) == ["sub-a", "sub-a.nwb", *sorted(new)]


def test_downloads_are_in_the_report(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    (server.folder / "one.avi").write_bytes(videos[0].read_bytes())
    size = videos[0].stat().st_size
    source = write_nwb(tmp_path / "a.nwb", [server.url("one.avi")])
    run = CliRunner().invoke
    planned = run(main, ["relocate", "--urls", "download", "--dry-run", str(source)]).output.splitlines()
    assert planned[1].split()[:3] == ["download", f"{size:,}", "bytes"]
    assert planned[1].endswith("_external_file_0.avi")
    assert planned[2] == f"nothing was changed; without --dry-run: 1 video downloaded ({size:,} bytes)"
    record = json.loads(run(main, ["relocate", "--urls", "download", "--dry-run", "--json", str(source)]).output)
    assert record[0]["media"][0]["bytes"] == record[0]["total_bytes"] == size
    arguments = ["organize", "--urls", "download", "-d", str(tmp_path / "set"), str(source)]
    planned = run(main, [*arguments, "--dry-run"]).output
    assert f"1 video downloaded ({size:,} bytes), 1 NWB file copied ({source.stat().st_size:,} bytes)" in planned
    done = run(main, arguments)
    assert done.exit_code == 0
    assert "no paths of media" not in planned + done.output
    (made,) = (tmp_path / "set").glob("sub-*/*.nwb")
    assert digest(made.parent / stored_paths(made)[0]) == digest(videos[0])
    told = run(main, ["relocate", "--urls", "download", "--manifest", str(source)]).output
    assert f"1 video downloaded ({size:,} bytes), 1 manifest written" in told


def test_no_space_for_downloads_of_many_files(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them fits, and not all together."""
    paths = [[server.url(f"{number}.avi")] for number in range(3)]
    for number, urls_of_one in enumerate(paths):
        (server.folder / f"{number}.avi").write_bytes(b"video" * 200_000)
        nwbfile = new_nwbfile(identifier=str(number), subject=f"m{number}")
        nwbfile.add_acquisition(image_series(urls_of_one, "video"))
        with NWBHDF5IO(tmp_path / f"{number}.nwb", "w") as io:
            io.write(nwbfile)
    monkeypatch.setattr(filesystem, "free_bytes", lambda folder: 2_500_000)
    options = {"urls": "download"}
    with pytest.raises(RelocationRefusedError, match=r"need 3,\d+,\d+ bytes there, and 2,500,000 are free"):
        organize(tmp_path, tmp_path / "set", media_options=options)
    assert not (tmp_path / "set").exists()


def test_nothing_is_fetched_by_default_or_by_reference(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    (server.folder / "one.avi").write_bytes(videos[0].read_bytes())
    source = write_nwb(tmp_path / "a.nwb", [server.url("one.avi")])
    for number, settings in enumerate(({"mode": "copy", "urls": "keep"}, {"mode": "reference", "urls": "download"})):
        with pytest.warns(ExternalFilesWarning, match="only URLs"):
            export(source, tmp_path / f"{number}.nwb", **settings)
        assert stored_paths(tmp_path / f"{number}.nwb") == stored_paths(source)
    assert server.asked == []


def test_one_url_in_several_places_is_fetched_once(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    (server.folder / "one.avi").write_bytes(videos[0].read_bytes())
    url = server.url("one.avi")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([url, url], "video"))
    nwbfile.add_acquisition(image_series([url], "other"))
    target = tmp_path / "a.nwb"
    options = {"urls": "download"}
    with NWBExtFilesHDF5IO(target, "w", relocate_media=True, media_mode="symlink", media_options=options) as io:
        io.write(nwbfile)
    new = stored_paths(target) + stored_paths(target, "acquisition/other/external_file")
    assert len(set(new)) == 3
    assert {digest(tmp_path / stored) for stored in new} == {digest(videos[0])}
    assert len(requests(server)) == 1


def test_second_run_downloads_nothing(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    """With a checksum the server tells that the target is right; without it is fetched, and compared."""
    source = write_nwb(tmp_path / "a.nwb", [server.url("one.avi")])
    content = videos[0].read_bytes()
    for headers in ({}, {"Content_MD5": base64.b64encode(hashlib.md5(content).digest()).decode()}):
        server.routes["/one.avi"] = sends(content, **headers)
        target = tmp_path / f"out{len(headers)}" / "b.nwb"
        export(source, target)
        entries = {name: what for name, what in tree(target.parent).items() if name != "b.nwb"}
        server.asked.clear()
        plan = export(source, target)
        assert entries == {name: what for name, what in tree(target.parent).items() if name != "b.nwb"}
        assert len(requests(server)) == (0 if headers else 1)
        assert [entry.action for entry in plan.relocations] == [Action.REUSE if headers else Action.DOWNLOAD]


@pytest.mark.parametrize("same_size", [True, False])
def test_other_content_at_target_is_refused(tmp_path: Path, server: Server, same_size: bool) -> None:
    source = write_nwb(tmp_path / "a.nwb", [server.url("one.avi")])
    target = tmp_path / "out" / "b.nwb"
    server.routes["/one.avi"] = sends(b"former")
    export(source, target)
    before = tree(target.parent)
    server.routes["/one.avi"] = sends(b"latest" if same_size else b"of another length")
    with pytest.raises(MediaExistsError, match=r"external_file\[0\].*one\.avi.*existing=\"replace\""):
        export(source, target)
    assert tree(target.parent) == before
    with pytest.warns(ExternalFilesWarning, match=r"\(6 bytes\) is replaced, and its content is discarded"):
        export(source, target, existing="replace")
    (stored,) = stored_paths(target)
    assert (target.parent / stored).read_bytes() == (b"latest" if same_size else b"of another length")


def test_relocation_in_place_downloads(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    (server.folder / "one.avi").write_bytes(videos[0].read_bytes())
    path = write_nwb(tmp_path / "a" / "a.nwb", [server.url("one.avi")])
    with NWBExtFilesHDF5IO(path, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy", media_options={"urls": "download"})
    (stored,) = stored_paths(path)
    assert digest(path.parent / stored) == digest(videos[0])


def test_all_problems_at_once_and_nothing_left(tmp_path: Path, server: Server) -> None:
    server.routes["/login.avi"] = answers(200, "<html>please log in</html>", "text/html; charset=utf-8")
    server.routes["/secret.avi"] = answers(403, "no")
    paths = [server.url("none.avi"), server.url("login.avi"), server.url("secret.avi"), "gone.avi"]
    source = write_nwb(tmp_path / "a.nwb", paths)
    (tmp_path / "out").mkdir()
    with pytest.raises(ExternalFilesError) as caught:
        export(source, tmp_path / "out" / "b.nwb")
    assert [type(problem) for problem in caught.value.problems] == [
        MissingMediaError, TransferError, TransferError, MissingMediaError
    ]  # fmt: skip
    said = [str(problem) for problem in caught.value.problems]
    assert "no such file" in said[0]
    assert "a web page (text/html)" in said[1]
    assert "403" in said[2]
    for number, stored in enumerate(paths):
        assert f"external_file[{number}]" in said[number]
        assert repr(stored) in said[number]
        assert "media_options" in said[number]
    assert tree(tmp_path / "out") == {}


def test_missing_url_is_kept_on_request(tmp_path: Path, server: Server) -> None:
    server.routes["/one.avi"] = sends(b"video")
    source = write_nwb(tmp_path / "a.nwb", [server.url("none.avi"), server.url("one.avi")])
    with pytest.warns(
        ExternalFilesWarning, match=r"external_file\[0\]: .*none.avi. cannot be downloaded: .*; the path is kept"
    ):
        export(source, tmp_path / "out" / "b.nwb", missing="keep")
    paths = stored_paths(tmp_path / "out" / "b.nwb")
    assert paths[0] == server.url("none.avi")
    assert (tmp_path / "out" / paths[1]).read_bytes() == b"video"


def test_permanent_failure_leaves_previous_state(tmp_path: Path, server: Server) -> None:
    source = write_nwb(tmp_path / "a.nwb", [server.url("one.avi"), server.url("two.avi")])
    target = tmp_path / "out" / "b.nwb"
    server.routes["/one.avi"] = server.routes["/two.avi"] = sends(b"video")
    export(source, target)
    before = tree(target.parent)
    server.routes["/one.avi"] = sends(BIG)
    server.routes["/two.avi"] = [sends(BIG), sends(BIG, stop=1000)]
    with (
        pytest.warns(ExternalFilesWarning, match="its content is discarded"),
        pytest.raises(TransferError, match=r"external_file\[1\].*two\.avi.* 4 attempts .*urls=\"keep\""),
    ):
        export(source, target, existing="replace")
    assert tree(target.parent) == before


def test_other_urls_are_kept(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    secret = tmp_path / "secret.avi"
    secret.write_bytes(b"secret")
    paths = ["data:video/mp4;base64,AAAA", "ftp://example.org/a.avi", "dandi://dandi/000001/a.avi"]
    source = write_nwb(tmp_path / "a.nwb", paths)
    with pytest.warns(ExternalFilesWarning) as caught:
        export(source, tmp_path / "out" / "b.nwb")
    assert sum("only http, https, s3, gs URLs are downloaded" in str(warning.message) for warning in caught) == 3
    assert stored_paths(tmp_path / "out" / "b.nwb") == paths


@pytest.mark.parametrize("url", ["file:///etc/passwd", "data:,x", "ftp://h/a", "local:///etc/passwd", "/etc/passwd"])
def test_no_other_scheme_is_opened(url: str) -> None:
    with pytest.raises(UnsafeReferenceError, match="only http, https, s3, gs"):
        urls.ask(url)
    with pytest.raises(UnsafeReferenceError), urls.opened(url):
        pass


def test_a_redirect_to_a_file_is_refused(tmp_path: Path, server: Server) -> None:
    def redirect(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "file:///etc/passwd")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with pytest.raises(OSError, match="file"):
        fetched(server, tmp_path, redirect)
    assert not (tmp_path / "part").exists()


def test_no_space_is_refused(tmp_path: Path, server: Server) -> None:
    """A server that announces more than fits is refused before anything is fetched."""
    server.routes["/one.avi"] = sends(b"video", Content_Length=str(10**15))
    source = write_nwb(tmp_path / "a.nwb", [server.url("one.avi")])
    with pytest.raises(RelocationRefusedError, match="1,000,000,000,000,000 bytes"):
        export(source, tmp_path / "out" / "b.nwb")
    assert len(server.asked) == 1


def test_endless_download_stops_at_free_space(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "free_bytes", lambda folder: download._SPARE + 1_000_000)
    with pytest.raises(OSError, match="only 1,000,000 bytes fit"):
        fetched(server, tmp_path, chunked(BIG))
    assert (tmp_path / "part").stat().st_size <= 1_000_000


# ----------------------------------------------------- beside a file that is afar


@pytest.mark.parametrize("opened", ["from its URL", "from bytes"])
def test_plain_export_of_a_streamed_file_warns_of_the_videos_that_stay_there(
    tmp_path: Path, server: Server, opened: str
) -> None:
    """Once for each series. What the caller decides, and what is there already, is not warned of."""
    write_nwb(server.folder / "a.nwb", ["a/0.avi", "a/1.avi", "here.avi", "https://example.org/x.avi"])
    (tmp_path / "here.avi").write_bytes(b"downloaded before")
    target = tmp_path / "b.nwb"

    def export_it(**chosen: Any) -> list[str]:
        stream = fsspec.open(server.url("a.nwb")).open()
        source = stream if opened == "from its URL" else io.BytesIO(stream.read())
        with h5py.File(source, "r") as file, NWBHDF5IO(file=file, mode="r") as src_io:
            with warnings.catch_warnings(record=True) as caught, NWBExtFilesHDF5IO(target, "w") as writer:
                warnings.simplefilter("always", ExternalFilesWarning)
                writer.export(src_io=src_io, **chosen)
        return [str(one.message) for one in caught if one.category is ExternalFilesWarning]

    with reading_from_here():
        (said,) = export_it()
        base = server.url("").rstrip("/") if opened == "from its URL" else "the NWB file that is exported, whose pl"
        assert f"'/acquisition/video', external_file[0]: 'a/0.avi' is relative to {base}" in said
        assert f"leads to nothing in {str(tmp_path)!r}, and 1 more; give relocate_media=True" in said
        assert ("opened_from" in said) == (opened == "from bytes")
        assert stored_paths(target)[:2] == ["a/0.avi", "a/1.avi"]
        assert export_it(relocate_media=False) == []


def test_media_beside_nwb_file_read_from_url(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    write_nwb(server.folder / "sub-a" / "a.nwb", ["a/one video.avi", "../../out.avi"])
    (server.folder / "sub-a" / "a").mkdir()
    shutil.copy(videos[1], server.folder / "sub-a" / "a" / "one video.avi")
    target = tmp_path / "out" / "b.nwb"

    def export_it(opener: Any, **options: Any) -> None:
        with h5py.File(opener(server.url("sub-a/a.nwb")), "r") as file, NWBHDF5IO(file=file, mode="r") as src_io:
            with NWBExtFilesHDF5IO(target, "w") as io:
                io.export(src_io=src_io, relocate_media=True, media_mode="copy", media_options=options)

    with reading_from_here():
        with pytest.raises(MissingMediaError, match='urls="download"'):
            export_it(lambda url: fsspec.open(url).open())
        with pytest.warns(ExternalFilesWarning, match=r"external_file\[1\]: no file"):
            export_it(lambda url: fsspec.open(url).open(), urls="download", missing="keep")
        paths = stored_paths(target)
        assert digest(target.parent / paths[0]) == digest(videos[1])
        assert paths[1] == "../../out.avi"
        with pytest.raises(MissingMediaError, match="one video"):  # nobody knows where that is
            export_it(remfile.File, urls="download")


# ------------------------------------------------------------ what it is called


@pytest.mark.parametrize(
    ("url", "headers", "suffix"),
    [
        ("https://h/a.MP4?x=.avi", {}, ".mp4"),
        ("https://h/a%2eavi", {}, ".avi"),
        ("https://h/a", {"content-type": "video/mp4; codecs=x"}, ".mp4"),
        ("https://h/a", {"content-type": "application/octet-stream"}, ""),
        ("https://h/get.php?a", {"content-type": "video/x-msvideo"}, ".avi"),
        ("https://h/get", {"content-disposition": 'attachment; filename="my video.MOV"'}, ".mov"),
        ("https://h/get", {"content-disposition": "attachment; filename*=UTF-8''my%20video.mkv"}, ".mkv"),
        ("https://h/get", {"content-disposition": 'attachment; filename="../../x.a/b"'}, ""),
        ("https://h/a.h264", {"content-type": "application/octet-stream"}, ".h264"),
    ],
)
def test_suffix_of_download(url: str, headers: dict[str, str], suffix: str) -> None:
    assert described(url, headers).suffix == suffix


def test_dandi_url_is_reported(tmp_path: Path, server: Server) -> None:
    server.routes["/video"] = sends(b"video", Content_Type="application/octet-stream")
    server.routes["/shot"] = sends(b"shot", Content_Type="image/png")
    source = write_nwb(tmp_path / "a.nwb", [server.url("video"), server.url("shot")])
    with pytest.warns(ExternalFilesWarning, match="DANDI does not accept files without a suffix.*'video'"):
        export(source, tmp_path / "out" / "b.nwb")
    assert [Path(stored).suffix for stored in stored_paths(tmp_path / "out" / "b.nwb")] == ["", ".png"]


# ------------------------------------------------------------- what is verified


def b64(name: str, content: bytes = BIG) -> str:
    value = zlib.crc32(content).to_bytes(4, "big") if name == "crc32" else hashlib.new(name, content).digest()
    return base64.b64encode(value).decode()


def checksum_headers(content: bytes) -> list[dict[str, str]]:
    s3 = {"x_amz_request_id": "1"}
    return [
        {"Content_MD5": b64("md5", content)},
        {"x_goog_hash": f"crc32c=AAAAAA==,md5={b64('md5', content)}"},
        {"x_amz_checksum_sha256": b64("sha256", content)},
        {"x_amz_checksum_crc32": b64("crc32", content)},
        {"Repr_Digest": f"sha-256=:{b64('sha256', content)}:"},
        {"Digest": f"SHA-512={b64('sha512', content)}"},
        {"ETag": f'"{hashlib.md5(content).hexdigest()}"', **s3},
    ]


@pytest.mark.parametrize("number", range(7))
def test_checksums_are_verified(tmp_path: Path, server: Server, number: int) -> None:
    assert fetched(server, tmp_path, sends(**checksum_headers(BIG)[number])) == BIG
    with pytest.raises(OSError, match=r"not what the server announced: (md5|sha256|sha512|crc32) is"):
        fetched(server, tmp_path, sends(**checksum_headers(b"other")[number]))


@pytest.mark.parametrize(
    "headers",
    [
        {"etag": '"' + "0" * 32 + '"'},  # of some other server: it may be anything
        {"etag": '"' + "0" * 32 + '-3"', "x-amz-request-id": "1"},  # of several parts
        {"etag": '"' + "0" * 32 + '"', "x-amz-request-id": "1", "x-amz-server-side-encryption": "aws:kms"},
        {
            "etag": '"' + "0" * 32 + '"', "x-amz-request-id": "1",
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
        },
        {"x-amz-checksum-sha256": b64("sha256") + "-3"},
        {"content-md5": "nonsense"},
        {"content-md5": "AAAA"},
        {"x-goog-hash": "md5=" + b64("md5"), "x-goog-stored-content-encoding": "gzip"},
        {"content-md5": b64("md5"), "content-encoding": "gzip"},
        {"digest": "unixsum=30637"},
    ],
)  # fmt: skip
def test_unusable_checksums_are_ignored(headers: dict[str, str]) -> None:
    assert described("https://h/a", headers).checksums == ()


def test_length_differs_from_announced(tmp_path: Path, server: Server) -> None:
    routes = [sends(BIG, ETag=ETAG), sends(BIG + b"more", ETag=ETAG)]
    with pytest.raises(OSError, match="3000004 bytes now, and 3000000 before"):
        fetched(server, tmp_path, routes)


def test_longer_than_announced(tmp_path: Path, server: Server) -> None:
    remote = RemoteFile(url=server.url("video.avi"), size=1000, validator=ETAG)
    server.routes["/video.avi"] = chunked(BIG, ETag=ETAG)
    with pytest.raises(OSError, match=r"bytes now, and 1000 before|more than the 1,000 bytes"):
        download.fetch(remote, tmp_path / "part")

    def too_much(handler: Handler) -> None:
        handler.send_response(206)
        part = f"bytes 500-9999999/{len(BIG)}"
        for name, value in (("ETag", ETAG), ("Content-Range", part), ("Content-Length", str(len(BIG)))):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(BIG)

    server.routes["/video.avi"] = [breaks_off(tmp_path, 500, BIG[:1000], ETag=ETAG), too_much]
    with pytest.raises(OSError, match="more than the 1,000 bytes"):
        download.fetch(remote, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size <= 1000


def test_unknown_length_without_final_chunk(tmp_path: Path, server: Server) -> None:
    def until_it_hangs_up(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(BIG)
        handler.close_connection = True

    with pytest.raises(OSError, match="neither how long the file is nor where it ends"):
        fetched(server, tmp_path, until_it_hangs_up)


def chunked(content: bytes, stop: int | None = None, **headers: str) -> Callable[[Handler], None]:
    def route(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in {"Transfer_Encoding": "chunked", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        for begin in range(0, len(content), 100_000):
            if stop is not None and begin >= stop:
                handler.close_connection = True
                return
            block = content[begin : begin + 100_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        handler.wfile.write(b"0\r\n\r\n")

    return route


def test_unknown_length_with_final_chunk(tmp_path: Path, server: Server) -> None:
    assert fetched(server, tmp_path, [chunked(BIG), chunked(BIG, stop=1_000_000), chunked(BIG)]) == BIG
    assert requests(server) == [None, None]  # without a name for the content it is another one each time


def test_whole_download_of_unknown_length_is_fetched_again(tmp_path: Path, server: Server) -> None:
    """A killed run has left all of it, and the server has nothing behind that."""

    def route(handler: Handler) -> None:
        if "Range" in handler.headers:
            handler.send_text(416, "nothing there", "text/plain")
        else:
            chunked(BIG, ETag=ETAG)(handler)

    assert fetched(server, tmp_path, route) == BIG
    assert fetched(server, tmp_path) == BIG


def test_content_encoding(tmp_path: Path, server: Server) -> None:
    packed = zlib.compress(b"video" * 1000)
    assert fetched(server, tmp_path, sends(packed, Content_Encoding="deflate", ETag=ETAG)) == b"video" * 1000


def test_file_changes_during_download(tmp_path: Path, server: Server) -> None:
    routes = [sends(ETag=ETAG), breaks_off(tmp_path, 1_000_000, ETag=ETAG), sends(bytes(len(BIG)), ETag='"new"')]
    with pytest.raises(OSError, match="has changed on the server"):
        fetched(server, tmp_path, routes)


# ----------------------------------------------------------- what breaks off


def test_broken_download_is_resumed(tmp_path: Path, server: Server) -> None:
    seen: list[int] = []
    routes = [sends(ETag=ETAG), *(breaks_off(tmp_path, 500_000, ETag=ETAG) for _ in range(3)), sends(ETag=ETAG)]
    assert fetched(server, tmp_path, routes, on_bytes=seen.append) == BIG
    assert requests(server) == [None, "bytes=500000-", "bytes=1000000-", "bytes=1500000-"]
    assert sum(seen) == len(BIG)


def test_last_modified_identifies_content(tmp_path: Path, server: Server) -> None:
    dated = {"Last_Modified": DATE}
    assert fetched(server, tmp_path, [sends(**dated), breaks_off(tmp_path, 2_000_000, **dated), sends(**dated)]) == BIG
    assert requests(server) == [None, "bytes=2000000-"]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_etag_download_restarts(tmp_path: Path, server: Server, headers: dict[str, str]) -> None:
    seen: list[int] = []
    routes = [sends(**headers), breaks_off(tmp_path, 2_000_000, bytes(len(BIG)), **headers), sends(**headers)]
    assert fetched(server, tmp_path, routes, on_bytes=seen.append) == BIG
    assert requests(server) == [None, None]
    assert sum(seen) == len(BIG)


def test_server_without_ranges(tmp_path: Path, server: Server) -> None:
    seen: list[int] = []
    whole = {"ETag": ETAG, "ranges": False}
    routes = [sends(**whole), breaks_off(tmp_path, 2_000_000, **whole), sends(**whole)]
    assert fetched(server, tmp_path, routes, on_bytes=seen.append) == BIG
    assert requests(server) == [None, "bytes=2000000-"]
    assert sum(seen) == len(BIG)


def test_server_sends_another_range(tmp_path: Path, server: Server) -> None:
    def wrong_part(handler: Handler) -> None:
        handler.headers.replace_header("Range", "bytes=7-")
        handler.send_bytes(BIG, ETag=ETAG)

    with pytest.raises(OSError, match="another part"):
        fetched(server, tmp_path, [sends(ETag=ETAG), breaks_off(tmp_path, 1_000_000, ETag=ETAG), wrong_part])


def test_transient_errors_are_retried(tmp_path: Path, server: Server) -> None:
    routes = [answers(503, "later"), sends(ETag=ETAG), answers(500, "oh"), answers(429, "slow down"), sends(ETag=ETAG)]
    assert fetched(server, tmp_path, routes) == BIG


def busy(wait: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(429)
        handler.send_header("Retry-After", wait)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_too_many_requests_is_respected(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    routes = [busy("7"), sends(ETag=ETAG), busy("9"), sends(ETag=ETAG)]
    assert fetched(server, tmp_path, routes) == BIG
    assert sum(waits) == pytest.approx(7 + 9)
    with pytest.raises(OSError, match=r"429.*asked again in 3600 seconds"):
        fetched(server, tmp_path, busy("3600"))
    assert sum(waits) == pytest.approx(7 + 9)


@posix
def test_interrupt_ends_pauses_of_all_threads(server: Server, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    main = threading.main_thread().ident or 0

    def busy_and_interrupts(handler: Handler) -> None:
        busy("100")(handler)
        threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()

    server.routes |= {"/a.avi": busy_and_interrupts, "/b.avi": busy("100")}
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        urls.ask_all([server.url("a.avi"), server.url("b.avi")])
    assert time.monotonic() - begun < 50


def test_cancelled_download_ends(tmp_path: Path, server: Server) -> None:
    """In a pause, and where the size is unknown."""

    def cancelled(count: int) -> None:
        if server.asked[2:] or (tmp_path / "part").stat().st_size:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetched(server, tmp_path, [sends(ETag=ETAG), sends(stop=0, ETag=ETAG), busy("100")], on_bytes=cancelled)
    assert time.monotonic() - begun < 50
    server.asked.clear()
    with pytest.raises(KeyboardInterrupt):
        fetched(server, tmp_path, chunked(BIG, ETag=ETAG), on_bytes=cancelled)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("", 0),
        ("5", 5),
        (" 5 ", 5),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0),
        ("Thu, 99 Jan 1970 00:01:40 GMT", 0),
        ("soon", 0),
        ("-5", 0),
    ],
)
def test_retry_after(value: str, wait: float) -> None:
    assert retry_after(value, 40.0) == wait


def test_endless_redirects_end(tmp_path: Path, server: Server) -> None:
    with pytest.raises(OSError, match="redirects again and again"):
        fetched(server, tmp_path, redirects("/video.avi"))


def test_redirect_to_refused_url(tmp_path: Path, server: Server) -> None:
    server.routes["/private.avi"] = answers(403, "no")
    with pytest.raises(OSError, match="the server answers 403"):
        fetched(server, tmp_path, redirects("/private.avi"))


def redirects(target: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_suffix_from_redirect_target(tmp_path: Path, server: Server, videos: list[Path]) -> None:
    (server.folder / "video.AVI").write_bytes(videos[0].read_bytes())
    server.routes["/1/download"] = redirects("/video.AVI?signature=x")
    source = write_nwb(tmp_path / "a.nwb", [server.url("1/download")])
    export(source, tmp_path / "out" / "b.nwb")
    (stored,) = stored_paths(tmp_path / "out" / "b.nwb")
    assert stored.endswith("_external_file_0.avi")
    assert digest(tmp_path / "out" / stored) == digest(videos[0])


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_permanent_errors_are_not_retried(tmp_path: Path, server: Server, status: int) -> None:
    with pytest.raises(OSError, match="no such file" if status in (404, 410) else str(status)):
        fetched(server, tmp_path, answers(status))
    assert len(server.asked) == 1


def test_repeated_errors_give_up(tmp_path: Path, server: Server) -> None:
    with pytest.raises(OSError, match="the server answers 500"):
        fetched(server, tmp_path, answers(500))
    assert len(server.asked) == 4


def test_unreachable_server(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        urls.ask("http://127.0.0.1:9/a.avi", timeout=2)
    with pytest.raises(OSError, match="nowhere"):
        urls.ask("https://nowhere.invalid/a.avi", timeout=2)


def test_silent_server_times_out(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(handler: Handler) -> None:
        handler.send_bytes(BIG, ETag=ETAG, stop=1_500_000)
        handler.connection.recv(1)  # until the client has enough of it

    monkeypatch.setattr(urls, "ATTEMPTS", 100)  # a machine that is busy is silent for a while too
    assert fetched(server, tmp_path, [sends(ETag=ETAG), silent, sends(ETag=ETAG)], timeout=0.5) == BIG


def test_trickling_server_times_out(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle(handler: Handler) -> None:
        handler.send_bytes(BIG, ETag=ETAG, stop=0)
        while True:  # until the client hangs up
            handler.wfile.write(b"x")
            time.sleep(0.02)

    clock = itertools.count(step=20.0)  # as if each read took that many seconds
    monkeypatch.setattr(download, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=time.sleep))
    with pytest.raises(OSError, match=r"sent \d+ bytes in 60 seconds; 4 attempts"):
        fetched(server, tmp_path, [sends(ETag=ETAG), trickle], timeout=60.0)


# ------------------------------------------------------------------- buckets


def test_s3_bucket(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through s3fs and botocore, from a server that answers as S3 does for one object."""
    pytest.importorskip("s3fs")
    for name, value in (
        ("AWS_ENDPOINT_URL", server.url().rstrip("/")), ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", str(tmp_path / "none")), ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none")),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    s3 = dict(ETag=f'"{hashlib.md5(BIG).hexdigest()}"', Last_Modified=DATE, x_amz_request_id="1", Accept_Ranges="bytes")
    server.routes["/bucket/videos/one video.avi"] = sends(**s3)
    url = "s3://bucket/videos/one video.avi"
    remote = urls.ask(url)
    assert (remote.size, remote.suffix, remote.checksums) == (
        len(BIG),
        ".avi",
        (("md5", hashlib.md5(BIG).hexdigest()),),
    )
    download.fetch(remote, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BIG
    with pytest.raises(FileNotFoundError):
        urls.ask("s3://bucket/none.avi")
    server.routes["/bucket/videos/one video.avi"] = sends(bytes(len(BIG)), **s3)
    with pytest.raises(OSError, match="md5"):
        download.fetch(remote, tmp_path / "other")


def test_gcs_bucket(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through gcsfs, from a server that answers as Google's storage does for one object."""
    pytest.importorskip("gcsfs")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url().rstrip("/"))
    path = "storage/v1/b/bucket/o/one.avi"
    info = {
        "kind": "storage#object", "name": "one.avi", "bucket": "bucket", "size": str(len(BIG)), "md5Hash": b64("md5"),
        "generation": "17", "etag": "CJ=", "contentType": "video/x-msvideo", "updated": "2024-01-01T00:00:00.000Z",
        "timeCreated": "2024-01-01T00:00:00.000Z", "mediaLink": server.url(f"download/{path}?alt=media"),
    }  # fmt: skip
    server.routes[f"/{path}"] = lambda handler: handler.send_json(info)
    server.routes[f"/download/{path}"] = sends()
    remote = urls.ask("gs://bucket/one.avi")
    assert (remote.size, remote.checksums, remote.validator) == (
        len(BIG),
        (("md5", hashlib.md5(BIG).hexdigest()),),
        '"17"',
    )
    download.fetch(remote, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BIG
    with pytest.raises(FileNotFoundError):
        urls.ask("gs://bucket/none.avi")


# ------------------------------------------------------------------ killed runs

KILLED = """
    import os, sys
    from pathlib import Path
    from nwb_extfiles.web import download, urls
    download.CHECKPOINT = 500_000
    download.HASH_CHUNK = 50_000  # where a disk is slow, all the rest may have come meanwhile, and be read at once
    remote = urls.ask(sys.argv[1])
    def on_bytes(count, seen=[0]):
        seen[0] += count
        if seen[0] > 2_000_000:
            os.kill(os.getpid(), 9)
    download.fetch(remote, Path(sys.argv[2]), on_bytes=on_bytes)
"""


def kill(server: Server, part: Path) -> int:
    """Have a process killed in the middle; how much it has left."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), server.url("video.avi"), str(part)]
    assert subprocess.run(command, check=False).returncode == processes.KILLED
    server.asked.clear()
    return part.stat().st_size


@pytest.mark.parametrize("checksum", [True, False])
def test_killed_download_is_resumed(tmp_path: Path, server: Server, checksum: bool) -> None:
    headers = {"ETag": ETAG, **({"Content_MD5": b64("md5")} if checksum else {})}
    server.routes["/video.avi"] = sends(**headers)
    left = kill(server, tmp_path / "part")
    assert left >= 2_000_000
    kept = json.loads((tmp_path / "part.state").read_bytes())["size"]  # how far that was known to be good
    assert 0 < kept <= left
    seen: list[int] = []
    assert fetched(server, tmp_path, on_bytes=seen.append) == BIG
    begin = int(str(requests(server)[-1]).removeprefix("bytes=").strip("-"))
    assert begin == kept
    assert sum(seen) == len(BIG)


def spoil_file(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[1_000_000] ^= 1
    part.write_bytes(content)


def spoil_both(part: Path) -> None:
    """As somebody would who plants them, and knows the inode of the file that was here."""
    from blake3 import blake3

    content, note = bytes(1_700_000), part.with_name("part.state")
    planted = part.with_name("planted")
    planted.write_bytes(content)
    planted.replace(part)
    noted = {"size": len(content), "blake3": blake3(content).hexdigest()}
    note.write_text(json.dumps(json.loads(note.read_bytes()) | noted))


def spoil_state(part: Path) -> None:
    part.with_name("part.state").write_text('{"size": "many"}')


def endless_state(part: Path) -> None:
    part.with_name("part.state").write_text('{"size": Infinity}')


def deep_state(part: Path) -> None:
    part.with_name("part.state").write_text("[" * 4096)


def cut(part: Path) -> None:
    os.truncate(part, 1000)


def link(part: Path) -> None:
    victim = part.with_name("victim")
    victim.write_bytes(part.read_bytes())
    part.unlink()
    part.symlink_to(victim)


def hard_link(part: Path) -> None:
    os.link(part, part.with_name("victim"))


@pytest.mark.parametrize(
    "spoil", [spoil_file, spoil_both, spoil_state, endless_state, deep_state, cut, link, hard_link]
)
@pytest.mark.parametrize("checksum", [True, False])
def test_leftovers_of_killed_download_are_verified(
    tmp_path: Path, server: Server, spoil: Callable[[Path], None], checksum: bool
) -> None:
    server.routes["/video.avi"] = sends(ETag=ETAG, **({"Content_MD5": b64("md5")} if checksum else {}))
    kill(server, tmp_path / "part")
    spoil(tmp_path / "part")
    victim = tmp_path / "victim"
    before = victim.read_bytes() if victim.exists() else None
    assert fetched(server, tmp_path) == BIG
    assert not (tmp_path / "part").is_symlink()
    assert before is None or victim.read_bytes() == before


def test_partial_download_of_other_content_is_not_used() -> None:
    video = RemoteFile(url="https://h/a", size=3, validator='"a"')
    others = [
        RemoteFile(url="https://h/b", size=3, validator='"a"'),
        RemoteFile(url="https://h/a", size=4, validator='"a"'),
        RemoteFile(url="https://h/a", size=3, validator='"b"'),
        RemoteFile(url="https://h/a", size=3),
    ]
    assert len({download.part_name(remote) for remote in (video, *others)}) == 5


KILLED_EXPORT = """
    import os, sys
    from pynwb import NWBHDF5IO
    from nwb_extfiles import NWBExtFilesHDF5IO
    from nwb_extfiles.web import download
    download.CHECKPOINT = 500_000
    download.HASH_CHUNK = 50_000  # as above
    def progress(done, total):
        if done > 5_000_000:
            os.kill(os.getpid(), 9)
    options = {"urls": "download", "progress": progress}
    with NWBHDF5IO(sys.argv[1], "r") as source, NWBExtFilesHDF5IO(sys.argv[2], "w") as io:
        io.export(src_io=source, relocate_media=True, media_mode="copy", media_options=options)
"""


def test_killed_export_resumes_download(tmp_path: Path, server: Server) -> None:
    """The first video was whole, the second not; neither is fetched again."""
    other = os.urandom(len(BIG))
    server.routes["/one.avi"] = sends(ETag=ETAG)
    server.routes["/two.avi"] = sends(other, ETag=ETAG)
    source = write_nwb(tmp_path / "a.nwb", [server.url("one.avi"), server.url("two.avi")])
    target = tmp_path / "out" / "b.nwb"
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KILLED_EXPORT), str(source), str(target)]
    assert subprocess.run(command, check=False).returncode == processes.KILLED
    assert not target.exists()
    kept = {json.loads(state.read_bytes())["size"] for state in (tmp_path / "out").rglob("*.state")}
    (half,) = kept - {len(BIG)}
    assert 1_000_000 < half < len(BIG)
    server.asked.clear()
    export(source, target)
    paths = stored_paths(target)
    assert [(target.parent / stored).read_bytes() for stored in paths] == [BIG, other]
    assert sorted(tree(target.parent)) == ["b", "b.nwb", *sorted(paths)]
    begins = {path: str(asked) for _, path, asked in server.asked}  # of the last request for each
    assert begins["/two.avi"] == f"bytes={half}-"
    assert not any(path == "/one.avi" and asked is None for _, path, asked in server.asked[2:])


# --------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("value", "error"),
    [({"urls": "fetch"}, ValueError), ({"url_timeout": 0}, ValueError), ({"url_timeout": "1"}, TypeError),
     ({"url_timeout": True}, TypeError), ({"url_timeout": float("nan")}, ValueError)],
)  # fmt: skip
def test_invalid_download_options(value: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(value))):
        MediaOptions(**value)


def test_missing_fsspec_backend_is_named() -> None:
    code = """
        import re, sys
        from nwb_extfiles.web import urls
        for package, url in (("aiohttp", "https://h/a.avi"), ("s3fs", "s3://b/a.avi"), ("gcsfs", "gs://b/a.avi")):
            sys.modules[package] = None
            try:
                urls.ask(url)
            except ImportError as error:
                print(package in str(error) and str(error).endswith('pip install "fsspec[gcs,http,s3]>=2024.6"'))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n" * 3

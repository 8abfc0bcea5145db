"""External files of NWB files in a DANDI archive: its API, its bucket, embargoed dandisets."""

from __future__ import annotations

import shutil
import socket
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import fsspec
import h5py
import keyring
import pytest
from dandi.consts import DandiInstance, known_instances, known_instances_rev
from dandi.dandiapi import DandiAPIClient
from dandi_server import DANDISET, KEY, PUBLISHED, STRANGER, Archive, Asset
from hdmf_zarr import NWBZarrIO
from helpers import image_series, new_nwbfile, stored_paths, write_nwb
from keyring.backend import KeyringBackend
from pynwb import NWBHDF5IO
from servers import Handler, Server
from zarr_makers import paths_in

from nwb_extfiles import NWBExtFilesHDF5IO, NWBExtFilesZarrIO, ResolvedExternalFile, relocate, resolve_external_files
from nwb_extfiles.errors import (
    ExternalFilesError,
    MissingMediaError,
    TransferError,
    UnreadableFileError,
    UnsafeReferenceError,
)
from nwb_extfiles.nwb.manifest import MANIFEST_PATH
from nwb_extfiles.web.addresses import address_of


def fetched(url: str | None) -> bytes:
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
    return content


def refusal(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method))
    return refused.value.code, refused.value.read().decode()


# ---------------------------------------------------------------- in dandisets


@pytest.fixture
def dandiset(archive: Archive, tmp_path: Path, videos: list[Path]) -> Archive:
    """A dandiset, in whose draft one video is another than in what was published."""
    paths = ["sub-a/0.avi", "../sub-b/1.avi", "sub-a/none.avi", "../../out.avi", "https://example.org/x.avi", "/x.avi"]
    nwb = write_nwb(tmp_path / "a.nwb", paths)
    for path, file in {
        "sub-a/sub-a.nwb": nwb, "sub-b/1.avi": videos[1], "sub-a/sub-a/0.avi.txt": nwb, "sub-a/sub-a/0.avi": videos[0]
    }.items():  # fmt: skip
        archive.add(path, file)
    archive.publish()
    archive.add("sub-a/sub-a/0.avi", videos[2])
    return archive


def check_archived(entries: list[ResolvedExternalFile], version: str, videos: list[Path]) -> None:
    assert [entry.kind for entry in entries] == ["asset", "asset", "none", "none", "url", "none"]
    for entry, video in zip(entries[:2], videos, strict=True):
        assert entry.location == entry.urls[0]
        assert f"/api/dandisets/{DANDISET}/versions/{version}/assets/" in entry.urls[0]
        assert "/blobs/" in entry.urls[1]
        assert len(entry.urls) == 2
        assert {fetched(url) for url in entry.urls} == {video.read_bytes()}
    assert isinstance(entries[2].problem, MissingMediaError)
    assert f"'sub-a/sub-a/none.avi', which dandiset {DANDISET}, version {version} does not have" in str(
        entries[2].problem
    )
    assert isinstance(entries[3].problem, UnsafeReferenceError)
    assert f"dandi://here/{DANDISET}@{version}/sub-a/sub-a.nwb: ImageSeries" in str(entries[2].problem)


def test_dandi_urls_of_media(dandiset: Archive, videos: list[Path]) -> None:
    draft = resolve_external_files(f"dandi://here/{DANDISET}@draft/sub-a/sub-a.nwb")
    check_archived(draft, "draft", [videos[2], videos[1]])
    latest = resolve_external_files(f"dandi://here/{DANDISET}/sub-a/sub-a.nwb")
    check_archived(latest, PUBLISHED, videos[:2])


def test_asset_and_its_api_url(dandiset: Archive, videos: list[Path]) -> None:
    with DandiAPIClient(dandiset.api.url("api")) as client:
        asset = client.get_dandiset(DANDISET, "draft").get_asset_by_path("sub-a/sub-a.nwb")
        entries = resolve_external_files(asset)
        url = asset.download_url
    assert [entry.location for entry in entries[:2]] == [entry.location for entry in resolve_external_files(url)[:2]]
    assert fetched(entries[0].location) == videos[2].read_bytes()


def test_file_opened_from_s3(dandiset: Archive, videos: list[Path]) -> None:
    """The bucket knows nothing of what is beside; the dandi:// URL does."""
    with DandiAPIClient(dandiset.api.url("api")) as client:
        asset = client.get_dandiset(DANDISET, "draft").get_asset_by_path("sub-a/sub-a.nwb")
        blob = asset.get_content_url(regex="/blobs/")
        with fsspec.open(blob) as stream, h5py.File(stream, "r") as file, NWBHDF5IO(file=file, mode="r") as io:
            nwbfile = io.read()
            first, *_ = resolve_external_files(nwbfile)
            assert isinstance(first.problem, MissingMediaError)
            assert 'opened_from="dandi://' in str(first.problem)
            told = f"dandi://here/{DANDISET}@draft/sub-a/sub-a.nwb"
            check_archived(resolve_external_files(nwbfile, opened_from=told), "draft", [videos[2], videos[1]])
            check_archived(resolve_external_files(nwbfile, opened_from=asset), "draft", [videos[2], videos[1]])


@pytest.mark.parametrize("cache", ["simplecache", "filecache"])
def test_file_in_a_cache_of_fsspec_is_not_taken_for_one_beside_its_videos(
    dandiset: Archive, tmp_path: Path, videos: list[Path], cache: str
) -> None:
    blob = dandiset.content_url(dandiset.versions[DANDISET]["draft"]["sub-a/sub-a.nwb"])
    settings = {cache: {"cache_storage": str(tmp_path / "cache")}}
    with fsspec.open(f"{cache}::{blob}", **settings) as stream, h5py.File(stream, "r") as file:
        first, *_ = resolve_external_files(file)
        assert 'opened_from="dandi://' in str(first.problem)
        told = f"dandi://here/{DANDISET}@draft/sub-a/sub-a.nwb"
        check_archived(resolve_external_files(file, opened_from=told), "draft", [videos[2], videos[1]])


@pytest.mark.parametrize(
    ("url", "error", "reason"),
    [
        (f"dandi://here/{DANDISET}@draft/sub-a/none.nwb", MissingMediaError, "has no NWB file 'sub-a/none.nwb'"),
        ("dandi://here/000999@draft/sub-a/none.nwb", MissingMediaError, "000999"),
        (f"dandi://here/{DANDISET}@0.1.2/sub-a/sub-a.nwb", MissingMediaError, "0.1.2"),
        (f"dandi://here/{DANDISET}@draft/sub-b/", MissingMediaError, "has no NWB file 'sub-b/'"),
        (f"dandi://nowhere/{DANDISET}/sub-a.nwb", UnsafeReferenceError, "dandi knows no archive 'nowhere'"),
        ("dandi://here", UnsafeReferenceError, "give dandi://<instance>"),
    ],
)
def test_dandi_urls_not_found(dandiset: Archive, url: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        resolve_external_files(url)


# ---------------------------------------------------------------- never a wrong URL


def opened_h5py(url: str) -> Iterator[Any]:
    with fsspec.open(url) as stream, h5py.File(stream, "r") as file:
        yield file


def opened_pynwb(url: str) -> Iterator[Any]:
    with fsspec.open(url) as stream, h5py.File(stream, "r") as file, NWBHDF5IO(file=file, mode="r") as io:
        yield io.read()


def opened_zarr(url: str) -> Iterator[Any]:
    with NWBZarrIO(url, mode="r") as io:
        yield io.read()


HOW = {"h5py": contextmanager(opened_h5py), "pynwb": contextmanager(opened_pynwb)}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("place", ["in a version", "without a version", "in the bucket", "signed"])
def test_file_opened_from_an_assets_url_gives_no_wrong_url(
    dandiset: Archive, videos: list[Path], how: str, place: str
) -> None:
    nwb = dandiset.versions[DANDISET]["draft"]["sub-a/sub-a.nwb"]
    url = {
        "in a version": dandiset.download_url(nwb, "draft"),
        "without a version": dandiset.download_url(nwb),
        "in the bucket": dandiset.content_url(nwb),
        "signed": dandiset.signed_url(nwb),
    }[place]
    with HOW[how](url) as opened:
        entries = resolve_external_files(opened)
        if place == "in a version":
            check_archived(entries, "draft", [videos[2], videos[1]])
        else:
            assert [entry.kind for entry in entries] == ["none"] * 4 + ["url", "none"]
            for entry in entries[:4]:
                assert isinstance(entry.problem, MissingMediaError)
                assert 'opened_from="dandi://' in str(entry.problem)
                assert "Signature" not in str(entry.problem)
        named = resolve_external_files(opened, opened_from=dandiset.dandi_url("sub-a/sub-a.nwb"))
        check_archived(named, "draft", [videos[2], videos[1]])
        published = {"opened_from": dandiset.dandi_url("sub-a/sub-a.nwb", PUBLISHED)}
        check_archived(resolve_external_files(opened, published), PUBLISHED, videos[:2])


@pytest.mark.parametrize("place", ["without a version", "in the bucket", "signed"])
def test_opened_from_counts_where_the_source_is_the_url_of_an_asset(
    dandiset: Archive, videos: list[Path], place: str
) -> None:
    nwb = dandiset.versions[DANDISET]["draft"]["sub-a/sub-a.nwb"]
    url = {
        "without a version": dandiset.download_url(nwb),
        "in the bucket": dandiset.content_url(nwb),
        "signed": dandiset.signed_url(nwb),
    }[place]
    assert [entry.kind for entry in resolve_external_files(url)] == ["none"] * 4 + ["url", "none"]
    entries = resolve_external_files(url, opened_from=dandiset.dandi_url("sub-a/sub-a.nwb", PUBLISHED))
    check_archived(entries, PUBLISHED, videos[:2])


def test_resolve_media_of_a_file_opened_from_an_archive(dandiset: Archive, videos: list[Path]) -> None:
    nwb = dandiset.versions[DANDISET]["draft"]["sub-a/sub-a.nwb"]
    there = dandiset.dandi_url("sub-a/sub-a.nwb")
    for url, options in (
        (dandiset.download_url(nwb, "draft"), {}),
        (dandiset.content_url(nwb), {"opened_from": there}),
    ):
        with fsspec.open(url) as stream, h5py.File(stream, "r") as file:
            with NWBExtFilesHDF5IO(file=file, mode="r", resolve_media=True, media_options=options) as io:
                paths = io.read().acquisition["video"].external_file
                assert [fetched(path) for path in paths[:2]] == [videos[2].read_bytes(), videos[1].read_bytes()]
                assert paths[2:4] == ["sub-a/none.avi", "../../out.avi"]
    with fsspec.open(dandiset.content_url(nwb)) as stream, h5py.File(stream, "r") as file:
        with NWBExtFilesHDF5IO(file=file, mode="r", resolve_media=True) as io:
            with pytest.warns(UserWarning, match="opened_from") as warnings:
                paths = io.read().acquisition["video"].external_file
            assert len(warnings) == 1
            assert paths[0] == "sub-a/0.avi"


def check_whole(target: Path) -> None:
    """The file has all data itself, and no link to the file that was open."""
    with h5py.File(target) as file:
        links: list[Any] = []
        file.visititems_links(lambda name, link: links.append(link))
        assert not [link for link in links if isinstance(link, h5py.ExternalLink)]
    with NWBHDF5IO(target, "r") as io:
        assert io.read().identifier


@pytest.mark.parametrize("place", ["in a version", "in the bucket"])
def test_export_of_a_file_opened_from_an_archive_downloads_its_videos(
    archive: Archive, tmp_path: Path, videos: list[Path], place: str
) -> None:
    nwb = archive.add("sub-a/sub-a.nwb", write_nwb(tmp_path / "a.nwb", ["sub-a/0.avi", "../sub-b/1.avi"]))
    archive.add("sub-a/sub-a/0.avi", videos[0])
    archive.add("sub-b/1.avi", videos[1])
    named = place == "in a version"
    url = archive.download_url(nwb, "draft") if named else archive.content_url(nwb)
    options: dict[str, Any] = {"urls": "download"} | (
        {} if named else {"opened_from": archive.dandi_url("sub-a/sub-a.nwb")}
    )
    target = tmp_path / "out" / "sub-a.nwb"
    target.parent.mkdir()
    with fsspec.open(url) as stream, h5py.File(stream, "r") as file, NWBHDF5IO(file=file, mode="r") as source:
        if not named:
            with pytest.raises(MissingMediaError, match="opened_from"):
                with NWBExtFilesHDF5IO(target, "w") as io:
                    io.export(source, relocate_media=True, media_mode="copy", media_options={"urls": "download"})
            assert not target.exists()
        with NWBExtFilesHDF5IO(target, "w") as io:
            io.export(source, relocate_media=True, media_mode="copy", media_options=options)
    paths = stored_paths(target, "acquisition/video/external_file")
    assert all(path.startswith("sub-a/") and path.endswith(f"_external_file_{n}.avi") for n, path in enumerate(paths))
    check_whole(target)
    assert [(target.parent / path).read_bytes() for path in paths] == [video.read_bytes() for video in videos[:2]]


def test_first_frames_are_read_from_the_urls(dandiset: Archive) -> None:
    for entry in resolve_external_files(dandiset.dandi_url("sub-a/sub-a.nwb"))[:2]:
        assert len(entry.urls) == 2
        for url in entry.urls:
            with av.open(url) as video:
                assert next(video.decode(video=0)).to_ndarray(format="rgb24").shape == (48, 64, 3)


def test_export_names_the_assets_that_a_dandiset_does_not_have(dandiset: Archive, tmp_path: Path) -> None:
    nwb = dandiset.versions[DANDISET]["draft"]["sub-a/sub-a.nwb"]
    with fsspec.open(dandiset.download_url(nwb, "draft")) as stream, h5py.File(stream, "r") as file:
        with NWBHDF5IO(file=file, mode="r") as source, pytest.raises(ExternalFilesError) as refused:
            with NWBExtFilesHDF5IO(tmp_path / "b.nwb", "w") as io:
                io.export(source, relocate_media=True, media_mode="copy", media_options={"urls": "download"})
    assert "'sub-a/sub-a/none.avi', which dandiset 000123, version draft does not have" in str(refused.value)
    assert "points outside dandiset 000123" in str(refused.value)
    assert not (tmp_path / "b.nwb").exists()


# ---------------------------------------------------------------- Zarr


@pytest.fixture
def store(tmp_path: Path, video_files: Path) -> Path:
    """A Zarr store that refers to two videos in the folder beside its own."""
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([f"../video_files/test1_{number}.avi" for number in range(2)]))
    path = tmp_path / "nwbfiles" / "s.nwb.zarr"
    path.parent.mkdir()
    with NWBZarrIO(str(path), "w") as io:
        io.write(nwbfile)
    return path


@pytest.fixture
def stores(archive: Archive, store: Path, videos: list[Path]) -> Asset:
    """That store in a dandiset, and its videos."""
    for number in range(2):
        archive.add(f"video_files/test1_{number}.avi", videos[number])
    return archive.add("nwbfiles/s.nwb.zarr", store)


def check_stores(entries: list[ResolvedExternalFile], videos: list[Path]) -> None:
    assert [entry.kind for entry in entries] == ["asset", "asset"]
    assert [fetched(entry.location) for entry in entries] == [video.read_bytes() for video in videos[:2]]


def test_zarr_asset_is_read_where_it_is(archive: Archive, stores: Asset, videos: list[Path]) -> None:
    check_stores(resolve_external_files(archive.dandi_url("nwbfiles/s.nwb.zarr")), videos)
    check_stores(resolve_external_files(archive.download_url(stores, "draft")), videos)
    with DandiAPIClient(archive.api.url("api")) as client:
        asset = client.get_dandiset(DANDISET, "draft").get_asset_by_path("nwbfiles/s.nwb.zarr")
        check_stores(resolve_external_files(asset), videos)


def test_zarr_store_opened_from_the_bucket(
    archive: Archive, stores: Asset, videos: list[Path], trusted_stores: None
) -> None:
    url, there = archive.content_url(stores), archive.dandi_url("nwbfiles/s.nwb.zarr")
    with contextmanager(opened_zarr)(url) as nwbfile:
        for source in (url, nwbfile):
            entries = resolve_external_files(source)
            assert ['opened_from="dandi://' in str(entry.problem) for entry in entries] == [True, True]
            check_stores(resolve_external_files(source, opened_from=there), videos)


def test_zarr_store_on_a_server(
    server: Server, store: Path, video_files: Path, videos: list[Path], trusted_stores: None
) -> None:
    shutil.copytree(store, server.folder / "nwbfiles" / "s.nwb.zarr")
    shutil.copytree(video_files, server.folder / "video_files")
    for end in ("", "/"):
        url = server.url(f"nwbfiles/s.nwb.zarr{end}")
        with contextmanager(opened_zarr)(url) as nwbfile:
            for source in (url, nwbfile):
                entries = resolve_external_files(source)
                assert [entry.location for entry in entries] == [
                    server.url(f"video_files/test1_{number}.avi") for number in range(2)
                ]


@pytest.mark.filterwarnings("ignore:missing object_codec:FutureWarning")  # of hdmf-zarr
def test_zarr_store_in_an_archive_is_exported_with_its_videos(
    archive: Archive, stores: Asset, tmp_path: Path, videos: list[Path], trusted_stores: None
) -> None:
    options = {"urls": "download", "opened_from": archive.dandi_url("nwbfiles/s.nwb.zarr")}
    target = tmp_path / "out" / "b.nwb.zarr"
    target.parent.mkdir()
    with NWBZarrIO(archive.content_url(stores), mode="r") as source, NWBExtFilesZarrIO(str(target), "w") as io:
        io.export(source, relocate_media=True, media_mode="copy", media_options=options)
    paths = paths_in(target)
    assert [(target.parent / path).read_bytes() for path in paths] == [video.read_bytes() for video in videos[:2]]
    assert not [path for path in target.rglob(".zattrs") if "127.0.0.1" in path.read_text()]  # no link into the archive
    with NWBZarrIO(str(target), "r") as io:
        assert io.read().identifier


def test_resolve_media_of_a_zarr_store_in_an_archive(
    archive: Archive, stores: Asset, videos: list[Path], trusted_stores: None
) -> None:
    options = {"opened_from": archive.dandi_url("nwbfiles/s.nwb.zarr")}
    with NWBExtFilesZarrIO(archive.content_url(stores), mode="r", resolve_media=True, media_options=options) as io:
        paths = io.read().acquisition["video"].external_file
        assert [fetched(path) for path in paths] == [video.read_bytes() for video in videos[:2]]


# ---------------------------------------------------------------- embargoed dandisets


@pytest.fixture
def embargoed(archive: Archive, tmp_path: Path, videos: list[Path]) -> Asset:
    archive.embargo()
    archive.add("sub-a/sub-a/0.avi", videos[0])
    archive.add("sub-b/1.avi", videos[1])
    return archive.add("sub-a/sub-a.nwb", write_nwb(tmp_path / "a.nwb", ["sub-a/0.avi", "../sub-b/1.avi"]))


def check_embargoed(entries: list[ResolvedExternalFile], archive: Archive, videos: list[Path]) -> None:
    assert [entry.kind for entry in entries] == ["asset", "asset"]
    assert [fetched(entry.location) for entry in entries] == [video.read_bytes() for video in videos[:2]]
    assert all(KEY not in url for entry in entries for url in entry.urls)
    assert not archive.leaked


def test_embargoed_file_is_read_with_the_key_in_the_environment(
    archive: Archive, embargoed: Asset, videos: list[Path], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HERE_API_KEY", KEY)
    caplog.set_level("DEBUG")
    check_embargoed(resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb")), archive, videos)
    check_embargoed(resolve_external_files(archive.download_url(embargoed, "draft")), archive, videos)
    with fsspec.open(archive.signed_url(embargoed)) as stream, h5py.File(stream, "r") as file:
        there = archive.dandi_url("sub-a/sub-a.nwb", None)
        check_embargoed(resolve_external_files(file, opened_from=there), archive, videos)
    assert KEY not in caplog.text + "".join(capfd.readouterr())


def test_signed_urls_of_an_embargoed_dandiset_are_asked_for_at_the_same_time(
    archive: Archive, tmp_path: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, as the archive signs one at a time."""
    monkeypatch.setenv("HERE_API_KEY", KEY)
    archive.embargo()
    paths = [f"sub-a/{number}.avi" for number in range(8)]
    archive.add("sub-a/sub-a.nwb", write_nwb(tmp_path / "a.nwb", [*paths, "sub-a/none.avi", "https://h/x.avi"]))
    all_asked = threading.Barrier(len(paths), timeout=30)

    def sign(handler: Handler) -> None:
        all_asked.wait()
        archive.api.fallback(handler)

    for path, video in zip(paths, videos, strict=True):
        asset = archive.add(f"sub-a/{path}", video)
        archive.api.routes[urlsplit(archive.download_url(asset, "draft")).path] = sign
    entries = resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb"))
    assert [entry.kind for entry in entries] == ["asset"] * 8 + ["none", "url"]
    assert [fetched(entry.location) for entry in entries[:8]] == [video.read_bytes() for video in videos]
    assert len([path for path in archive.questions if "/download/" in path]) == 9  # the NWB file too
    assert not archive.leaked


class Keyring(KeyringBackend):
    """A keyring in memory, for the key that dandi would store there."""

    priority = -1.0  # used only while it is set

    def get_password(self, service: str, username: str) -> str | None:
        return KEY if (service, username) == ("dandi-api-here", "key") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    delete_password = set_password


def test_embargoed_file_is_read_with_the_key_in_the_keyring(
    archive: Archive, embargoed: Asset, videos: list[Path]
) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        check_embargoed(resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb")), archive, videos)
    finally:
        keyring.set_keyring(before)


def test_embargoed_file_is_read_with_the_key_of_a_client(
    archive: Archive, embargoed: Asset, videos: list[Path]
) -> None:
    with DandiAPIClient(archive.api.url("api"), token=KEY) as client:
        asset = client.get_dandiset(DANDISET, "draft").get_asset_by_path("sub-a/sub-a.nwb")
        check_embargoed(resolve_external_files(asset), archive, videos)
        with fsspec.open(archive.signed_url(embargoed)) as stream, h5py.File(stream, "r") as file:
            check_embargoed(resolve_external_files(file, opened_from=asset), archive, videos)


def test_key_of_a_known_archive_is_not_given_to_a_server_of_that_name(
    archive: Archive, embargoed: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = DandiInstance("127.0.0.1", None, "https://archive.example.org/api")
    for address in [address for address, name in known_instances_rev.items() if name == "here"]:
        monkeypatch.delitem(known_instances_rev, address)
    monkeypatch.setitem(known_instances, f"127.0.0.1:{archive.api.server_port}", elsewhere)
    monkeypatch.setenv(f"127.0.0.1:{archive.api.server_port}_API_KEY", KEY)
    with pytest.raises(UnsafeReferenceError, match=r"is not the archive '127\.0\.0\.1"):
        resolve_external_files(archive.download_url(embargoed, "draft"))
    assert f"/api/dandisets/{DANDISET}/" not in archive.questions


def test_key_is_not_given_to_a_server_whose_name_gives_the_same_variable(
    archive: Archive, embargoed: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, resolve = archive.api.server_port, socket.getaddrinfo

    def at_home(host: Any, *arguments: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if host == "my_archive" else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", at_home)
    for address in [address for address, name in known_instances_rev.items() if name == "here"]:
        monkeypatch.delitem(known_instances_rev, address)
    elsewhere = DandiInstance("my-archive", None, "https://archive.example.org/api")
    monkeypatch.setitem(known_instances, f"my-archive:{port}", elsewhere)
    monkeypatch.setenv(f"MY_ARCHIVE:{port}_API_KEY", KEY)
    monkeypatch.setattr(archive.api, "url", lambda path="": f"http://my_archive:{port}/{path}")
    with pytest.raises(UnsafeReferenceError, match="is not the archive 'my_archive"):
        resolve_external_files(archive.download_url(embargoed, "draft").replace("my_archive", "127.0.0.1"))
    assert f"/api/dandisets/{DANDISET}/" not in archive.questions


@pytest.mark.parametrize("key", [f"{KEY}\N{HORIZONTAL ELLIPSIS}", f"{KEY[:20]}\n{KEY[20:]}", f"{KEY}\n"])
def test_key_that_is_malformed_is_not_shown(
    archive: Archive, embargoed: Asset, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """requests shows headers that it refuses."""
    monkeypatch.setenv("HERE_API_KEY", key)
    if key.strip() == KEY:
        assert len(resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb"))) == 2
        return
    with pytest.raises(UnreadableFileError, match="API key in HERE_API_KEY has characters that no") as refused:
        resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb"))
    assert KEY[:20] not in "".join(traceback.format_exception(refused.value))


def test_key_in_the_keyring_that_is_refused(
    archive: Archive, embargoed: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "get_password", lambda service, username: "wrong")
    with pytest.raises(UnreadableFileError, match="refuses the API key in the keyring"):
        resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb"))


@pytest.mark.parametrize("location", [None, "file:///etc/passwd", "/elsewhere"])
def test_redirect_of_an_embargoed_asset_that_opens_nothing(
    archive: Archive, embargoed: Asset, monkeypatch: pytest.MonkeyPatch, location: str | None
) -> None:
    """A location is never a path on this machine."""
    monkeypatch.setenv("HERE_API_KEY", KEY)
    asset = archive.versions[DANDISET]["draft"]["sub-a/sub-a/0.avi"]

    def answer(handler: Handler) -> None:
        handler.send_response(200 if location is None else 302)
        if location is not None:
            handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    archive.api.routes[urlsplit(archive.download_url(asset, "draft")).path] = answer
    if location == "/elsewhere":
        assert resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb"))[0].location == archive.api.url("elsewhere")
        return
    with pytest.raises(UnreadableFileError, match="the archive does not answer as expected"):
        resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb"))


@pytest.mark.parametrize("key", [None, "wrong", STRANGER])
def test_embargoed_file_needs_a_key(
    archive: Archive, embargoed: Asset, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail("nobody is asked for a key"))
    if key is not None:
        monkeypatch.setenv("HERE_API_KEY", key)
    for url in (archive.dandi_url("sub-a/sub-a.nwb"), archive.download_url(embargoed, "draft")):
        with pytest.raises(UnreadableFileError) as refused:
            resolve_external_files(url)
        reason = {
            None: "is embargoed, and no API key was found (401); set the environment variable HERE_API_KEY",
            "wrong": "refuses the API key in HERE_API_KEY (401)",
            STRANGER: "your API key gives no access (403); ask an owner",
        }[key]
        assert reason in str(refused.value)
        assert "dandi login" not in str(refused.value)
    for url in (archive.content_url(embargoed), archive.download_url(embargoed)):
        with pytest.raises(UnreadableFileError, match=r"40[13]"):
            resolve_external_files(url)


def test_embargoed_videos_are_downloaded_by_an_export(
    archive: Archive, embargoed: Asset, tmp_path: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("HERE_API_KEY", KEY)
    caplog.set_level("DEBUG", "nwb_extfiles")
    target = tmp_path / "b.nwb"
    options = {"urls": "download", "opened_from": archive.dandi_url("sub-a/sub-a.nwb")}
    with fsspec.open(archive.signed_url(embargoed)) as stream, h5py.File(stream, "r") as file:
        with NWBHDF5IO(file=file, mode="r") as source, NWBExtFilesHDF5IO(target, "w") as io:
            io.export(source, relocate_media=True, media_mode="copy", media_options=options)
    check_whole(target)
    paths = stored_paths(target, "acquisition/video/external_file")
    assert [(target.parent / path).read_bytes() for path in paths] == [video.read_bytes() for video in videos[:2]]
    assert all("Signature" not in line for name, _, line in caplog.record_tuples if name == "nwb_extfiles")
    assert not archive.leaked


# ---------------------------------------------------------------- what people paste


BY_NAME = [
    (f"dandi://here/{DANDISET}@draft/sub-a/sub-a.nwb", "draft"),
    (f"dandi://HERE/{DANDISET}/sub-a/sub-a.nwb", PUBLISHED),
    (f"HERE:{DANDISET}/draft/sub-a/sub-a.nwb", "draft"),
    (f"HERE:{DANDISET}/{PUBLISHED}", PUBLISHED),
    (f"HERE:{DANDISET}", PUBLISHED),
]
BY_URL = [
    (f"dandiset/{DANDISET}/draft/files?location=sub-a%2Fsub-a.nwb&page=1", "draft"),
    (f"dandiset/{DANDISET}/{PUBLISHED}/files?location=sub-a", PUBLISHED),
    (f"#/dandiset/{DANDISET}/draft/files?location=sub-a%2F", "draft"),
    (f"dandiset/{DANDISET}", PUBLISHED),
    (f"api/dandisets/{DANDISET}/versions/draft/assets/?path=sub-a/sub-a.nwb", "draft"),
    (f"api/dandisets/{DANDISET}/versions/draft/assets/{{nwb}}/", "draft"),
    (f"api/dandisets/{DANDISET}/versions/draft/", "draft"),
    (f"api/dandisets/{DANDISET}", PUBLISHED),
    (f"api/dandisets/{DANDISET}/versions/{PUBLISHED}/assets/{{nwb}}/download/", PUBLISHED),
]


@pytest.mark.parametrize(("scheme", "version"), [("https", "/0.240101.0000"), ("http", "/"), ("https", "")])
def test_identifiers_org(scheme: str, version: str) -> None:
    """Which leads to DANDI alone, so nothing is asked here."""
    address = address_of(f"{scheme}://identifiers.org/DANDI:{DANDISET}{version}")
    assert address is not None
    assert (address.instance, address.dandiset, address.version or "") == ("dandi", DANDISET, version.strip("/"))


def check_address(dandiset: Archive, url: str, version: str, videos: list[Path]) -> None:
    entries = resolve_external_files(url)
    expected = [videos[2 if version == "draft" else 0].read_bytes(), videos[1].read_bytes()]
    assert [fetched(entry.location) for entry in entries[:2]] == expected
    again = resolve_external_files(entries[0].reference.nwb_path)  # what messages call the file can be pasted too
    assert [entry.location for entry in again] == [entry.location for entry in entries]


@pytest.mark.parametrize(("url", "version"), BY_NAME)
def test_names_of_an_nwb_file_in_an_archive(dandiset: Archive, videos: list[Path], url: str, version: str) -> None:
    check_address(dandiset, url, version, videos)


@pytest.mark.parametrize(("path", "version"), BY_URL)
@pytest.mark.parametrize("known", [True, False])
def test_urls_of_an_nwb_file_in_an_archive(
    dandiset: Archive, videos: list[Path], path: str, version: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not known:  # the server says itself where its API is
        for address in [address for address, name in known_instances_rev.items() if name == "here"]:
            monkeypatch.delitem(known_instances_rev, address)
        monkeypatch.delitem(known_instances, "here")
    nwb = dandiset.versions[DANDISET]["draft"]["sub-a/sub-a.nwb"]
    check_address(dandiset, dandiset.api.url(path.format(nwb=nwb.identifier)), version, videos)


def test_one_question_for_a_folder_of_videos(archive: Archive, tmp_path: Path, videos: list[Path]) -> None:
    paths = [f"sub-a/{number}.avi" for number in range(40)]
    archive.add("sub-a/sub-a.nwb", write_nwb(tmp_path / "a.nwb", paths))
    for number, path in enumerate(paths):
        archive.add(f"sub-a/{path}", videos[number % 8])
    entries = resolve_external_files(archive.dandi_url("sub-a/sub-a.nwb"))
    assert [entry.kind for entry in entries] == ["asset"] * 40
    questions = [path for path in archive.questions if "/info/" not in path and "/download/" not in path]
    assert [path.partition("?")[0] for path in questions] == [
        f"/api/dandisets/{DANDISET}/", f"/api/dandisets/{DANDISET}/versions/draft/assets/"
    ]  # fmt: skip


# ---------------------------------------------------------------- URLs in external_file


@pytest.mark.parametrize("place", ["in a version", "without a version", "embargoed"])
def test_download_of_an_assets_url_has_its_name_and_checksum(
    archive: Archive, tmp_path: Path, videos: list[Path], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "embargoed":
        archive.embargo()
        monkeypatch.setenv("HERE_API_KEY", KEY)
    video = archive.add("sub-a/sub-a/0.avi", videos[0])
    url = archive.download_url(video, "draft" if place == "in a version" else None)
    nwb = write_nwb(tmp_path / "a.nwb", [url])
    relocate(nwb, "copy", media_options={"urls": "download", "manifest": True})
    (path,) = stored_paths(nwb, "acquisition/video/external_file")
    assert path.endswith("_external_file_0.avi")
    assert (tmp_path / path).read_bytes() == videos[0].read_bytes()
    with h5py.File(nwb) as file:
        table = file[MANIFEST_PATH]
        assert table["original_name"].asstr()[:].tolist() == ["0.avi"]
    assert not archive.leaked


def test_url_like_that_of_an_asset_on_a_server_that_is_no_archive(
    server: Server, tmp_path: Path, videos: list[Path]
) -> None:
    path = "api/assets/01234567-89ab-4def-8123-456789abcdef/download/"
    server.routes[f"/{path}"] = lambda handler: handler.send_bytes(videos[0].read_bytes(), Content_Type="video/avi")
    nwb = write_nwb(tmp_path / "a.nwb", [server.url(path)])
    relocate(nwb, "copy", media_options={"urls": "download"})
    (stored,) = stored_paths(nwb, "acquisition/video/external_file")
    assert (tmp_path / stored).read_bytes() == videos[0].read_bytes()


def test_content_without_a_name_is_not_downloaded(archive: Archive, tmp_path: Path, videos: list[Path]) -> None:
    url = archive.content_url(archive.add("sub-a/0.avi", videos[0]))
    nwb = write_nwb(tmp_path / "a.nwb", [url])
    with pytest.raises(TransferError, match="/assets/<asset id>/download/"):
        relocate(nwb, "copy", media_options={"urls": "download"})
    assert stored_paths(nwb, "acquisition/video/external_file") == [url]


def test_download_that_differs_from_the_archives_checksum_is_refused(
    archive: Archive, tmp_path: Path, videos: list[Path]
) -> None:
    stand_in = tmp_path / "0.avi"
    shutil.copy(videos[0], stand_in)
    video = archive.add("sub-a/0.avi", stand_in)
    content = bytearray(stand_in.read_bytes())
    content[-1] ^= 1
    stand_in.write_bytes(content)
    nwb = write_nwb(tmp_path / "a.nwb", [archive.download_url(video)])
    with pytest.raises(TransferError, match="sha256"):
        relocate(nwb, "copy", media_options={"urls": "download"})
    assert stored_paths(nwb, "acquisition/video/external_file") == [archive.download_url(video)]


# ---------------------------------------------------------------- reasons


def test_reasons_of_servers_are_in_the_message(archive: Archive, embargoed: Asset, tmp_path: Path) -> None:
    def reason(url: str) -> str:
        with pytest.raises(UnreadableFileError) as refused:
            resolve_external_files(url)
        return str(refused.value)

    assert "403 Forbidden" in reason(archive.content_url(embargoed))
    assert "no such file" in reason(archive.bucket.url("none.nwb"))
    assert "no such file" in reason(archive.bucket.url("none.nwb.zarr/"))
    assert "connection refused" in reason("http://127.0.0.1:9/a.nwb").lower()
    assert "connection refused" in reason("http://127.0.0.1:9/a.nwb.zarr/").lower()
    assert "refused" in reason(f"http://127.0.0.1:9/dandiset/{DANDISET}/draft/files?location=sub-a").lower()
    archive.signed_for = 0
    expired = archive.signed_url(embargoed)
    assert "the signature in the URL counts until 20" in reason(expired)
    assert "Signature=" not in reason(expired)


# ---------------------------------------------------------------- the server of these tests


def test_test_server_gives_bytes_only_as_the_archive_does(archive: Archive, videos: list[Path]) -> None:
    archive.embargo("000777")
    open_video = archive.add("sub-a/0.avi", videos[0])
    embargoed = archive.add("sub-a/0.avi", videos[0], dandiset="000777")
    assert fetched(archive.content_url(open_video)) == videos[0].read_bytes()
    assert fetched(archive.download_url(open_video)) == videos[0].read_bytes()
    assert fetched(archive.signed_url(embargoed)) == videos[0].read_bytes()
    with urllib.request.urlopen(archive.download_url(open_video, "draft")) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="0.avi"'
        assert not Path(answer.url.partition("?")[0]).suffix
    for url in (archive.download_url(embargoed), archive.download_url(embargoed, "draft")):
        assert refusal(url)[0] == 401
        assert refusal(url, Authorization="token wrong")[0] == 401
        # urllib sends all headers to where it is redirected, which S3 refuses
        assert refusal(url, Authorization=f"token {KEY}") == (400, refusal(url, Authorization=f"token {KEY}")[1])
    assert len(archive.leaked) == 4
    assert "Access Denied" in refusal(archive.content_url(embargoed))[1]
    assert "does not match" in refusal(f"{archive.signed_url(embargoed)}0")[1]
    assert refusal(archive.signed_url(embargoed), "HEAD")[0] == 403
    archive.signed_for = 0
    assert "has expired" in refusal(archive.signed_url(embargoed))[1]
    assert refusal(archive.bucket.url("blobs/000/000/none"))[0] == 404
    with pytest.raises(ValueError, match="refuses the path"):
        archive.add("sub-M\u00e4use/0.avi", videos[0])


def test_test_server_has_what_dandi_asks_for(archive: Archive, tmp_path: Path, videos: list[Path]) -> None:
    for number, video in enumerate(videos):
        archive.add(f"sub-a/{number}.avi", video)
    archive.publish()
    (tmp_path / "store.zarr" / "a").mkdir(parents=True)
    (tmp_path / "store.zarr" / ".zgroup").write_text("{}")
    (tmp_path / "store.zarr" / "a" / "0").write_bytes(b"chunk")
    store = archive.add("sub-a/s.nwb.zarr", tmp_path / "store.zarr")
    archive.page_size = 3
    with DandiAPIClient(archive.api.url("api")) as client:
        dandiset = client.get_dandiset(DANDISET, lazy=False)
        assert dandiset.version_id == PUBLISHED
        assert [asset.path for asset in dandiset.get_assets()] == [f"sub-a/{number}.avi" for number in range(8)]
        draft = dandiset.for_version("draft")
        assert [asset.path for asset in draft.get_assets_by_glob("*.zarr")] == ["sub-a/s.nwb.zarr"]
        asset = draft.get_asset_by_path("sub-a/0.avi")
        asset.download(tmp_path / "0.avi")
        assert (tmp_path / "0.avi").read_bytes() == videos[0].read_bytes()
        assert client.get_asset(asset.identifier).get_raw_digest("dandi:sha2-256")
        assert draft.get_asset(asset.identifier).path == "sub-a/0.avi"
        zarr = draft.get_asset_by_path("sub-a/s.nwb.zarr")
        assert [str(entry) for entry in zarr.iterfiles()] == [".zgroup", "a/0"]
        assert fetched(f"{archive.content_url(store)}a/0") == b"chunk"
        assert refusal(archive.download_url(store))[0] == 400
    assert b"<Key>zarr/" in fetched(archive.bucket.url("?list-type=2&prefix=zarr/"))

"""External files of NWB files in a DANDI archive: its API, its bucket, embargoed dandisets."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import h5py
import pytest
from dandi.dandiapi import DandiAPIClient
from dandi_server import DANDISET, KEY, PUBLISHED, Archive
from helpers import write_nwb
from pynwb import NWBHDF5IO

from nwb_extfiles import ResolvedExternalFile, resolve_external_files
from nwb_extfiles.errors import MissingMediaError, UnsafeReferenceError


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
            assert isinstance(first.problem, UnsafeReferenceError)
            assert "dandi://" in str(first.problem)
            told = f"dandi://here/{DANDISET}@draft/sub-a/sub-a.nwb"
            check_archived(resolve_external_files(nwbfile, opened_from=told), "draft", [videos[2], videos[1]])
            check_archived(resolve_external_files(nwbfile, opened_from=asset), "draft", [videos[2], videos[1]])


@pytest.mark.parametrize(
    ("url", "error", "reason"),
    [
        (f"dandi://here/{DANDISET}@draft/sub-a/none.nwb", MissingMediaError, "No asset"),
        ("dandi://here/000999@draft/sub-a/none.nwb", MissingMediaError, "000999"),
        (f"dandi://here/{DANDISET}@draft/sub-a/", UnsafeReferenceError, "not exactly one asset"),
        (f"dandi://nowhere/{DANDISET}/sub-a.nwb", UnsafeReferenceError, "Unknown instance"),
        ("dandi://here", UnsafeReferenceError, "give dandi://<instance>"),
    ],
)
def test_dandi_urls_not_found(dandiset: Archive, url: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        resolve_external_files(url)


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

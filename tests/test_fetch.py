"""Media of NWB files that were downloaded alone, from an archive on this machine that answers as the real one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner
from dandi.consts import known_instances_rev
from dandi_server import DANDISET, KEY, PUBLISHED, Archive
from helpers import digest, set_paths, stored_paths, tree, write_nwb
from recordings import DATASET, recording, video
from servers import Handler
from zarr_makers import write_store

from nwb_extfiles import check, fetch_media, organize
from nwb_extfiles.cli import main
from nwb_extfiles.errors import (
    DestinationBusyError,
    ExternalFilesWarning,
    MediaExistsError,
    MissingMediaError,
    RelocationRefusedError,
    TransferError,
    UnreadableFileError,
    UnsafeReferenceError,
)
from nwb_extfiles.tasks.archived_names import Dandiset
from nwb_extfiles.web.asset_download import part_of

UTF8 = h5py.string_dtype()
SIZE = 1_000_000
NWB = "sub-mouse0/sub-mouse0_ses-a_image.nwb"


@pytest.fixture
def dandiset(tmp_path: Path) -> Path:
    """What is in the archive: an NWB file with three videos, organized."""
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi", "b.mp4", "c.avi"], session="a")
    video(tmp_path / "raw" / "b.mp4", size=SIZE)
    organize(path, tmp_path / "ds", media_mode="copy", required_fields=["session_id"])
    return tmp_path / "ds"


def upload(archive: Archive, dandiset: Path, **where: Any) -> None:
    for path in sorted(dandiset.rglob("*")):
        if path.is_file():
            archive.add(path.relative_to(dandiset).as_posix(), path, **where)


def downloaded(dandiset: Path, folder: Path, name: str = NWB) -> Path:
    """The NWB file alone, as ``dandi download`` of its URL leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(dandiset / name, folder / Path(name).name))


def media_in(path: Path, dataset: str = DATASET) -> list[str | None]:
    places = [path.parent / stored for stored in stored_paths(path, dataset)]
    return [digest(place) if place.is_file() else None for place in places]


def with_yaml(folder: Path, archive: Archive, version: str = "draft") -> Path:
    """A dandiset.yaml as ``dandi download`` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    url = archive.api.url(f"dandiset/{DANDISET}/{version}")
    (folder / "dandiset.yaml").write_text(f"identifier: DANDI:{DANDISET}\nname: videos\nurl: {url}\n")
    return folder


def cli(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["fetch", *map(str, words)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


# ------------------------------------------------------------------ where it is from


@pytest.mark.parametrize("spelling", ["asset", "dandiset", "page", "location", "api"])
def test_videos_of_a_file_that_was_downloaded_alone(
    archive: Archive, dandiset: Path, tmp_path: Path, spelling: str
) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    before = digest(path)
    asset = archive.versions[DANDISET]["draft"][NWB]
    source = {
        "asset": archive.dandi_url(NWB),
        "dandiset": archive.dandi_url("").rstrip("/"),
        "page": archive.api.url(f"dandiset/{DANDISET}/draft"),
        "location": archive.api.url(f"dandiset/{DANDISET}/draft/files?location=sub-mouse0"),
        "api": archive.download_url(asset, "draft"),
    }[spelling]
    found = fetch_media(path, source)
    assert [one.state for one in found] == ["fetched"] * 3
    assert media_in(path) == media_in(dandiset / NWB)
    assert None not in media_in(path)
    assert digest(path) == before
    assert hidden(tmp_path / "here") == []
    assert [one.state for one in fetch_media(path, source)] == ["there"] * 3


def test_dandiset_yaml_says_where_it_is_from(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    folder = with_yaml(tmp_path / "here" / DANDISET, archive)
    path = downloaded(dandiset, folder / "sub-mouse0")
    assert "3 files downloaded" in cli(folder)
    assert media_in(path) == media_in(dandiset / NWB)
    assert {finding.code for finding in check(folder, frames="none")} <= {"not-a-video"}


def test_videos_come_from_the_version_of_the_file(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    archive.publish()
    path = downloaded(dandiset, with_yaml(tmp_path / "here", archive, PUBLISHED))
    published = media_in(dandiset / NWB)
    kept = tmp_path / "new"
    shutil.copytree(dandiset, kept)
    other = kept / Path(NWB).parent / stored_paths(path)[0]
    other.write_bytes(b"another one" * 100)
    upload(archive, kept)  # the draft
    fetch_media(path)
    assert media_in(path) == published
    again = downloaded(dandiset, tmp_path / "draft")
    fetch_media(again, archive.dandi_url(NWB))
    assert media_in(again) == media_in(kept / NWB) != published


def test_version_that_nobody_names_is_that_of_the_file(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    archive.publish()
    path = downloaded(dandiset, tmp_path / "here" / "sub-mouse0")
    (tmp_path / "here" / "dandiset.yaml").write_text(f"identifier: HERE:{DANDISET}\n")  # the last published one
    fetch_media(path, media="*.mp4")
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "in the draft"
    with pytest.raises(RelocationRefusedError, match=f"no version of the dandiset, and .* version {PUBLISHED} and "):
        fetch_media(path)
    assert len(fetch_media(path, archive.dandi_url(NWB))) == 3


@pytest.fixture
def versions(archive: Archive, dandiset: Path, tmp_path: Path) -> Path:
    """The dandiset was published; in the draft, the NWB file and its first video are others."""
    upload(archive, dandiset)
    archive.publish()
    draft = Path(shutil.copytree(dandiset, tmp_path / "new"))
    with h5py.File(draft / NWB, "r+") as file:
        file.attrs["note"] = "in the draft"
    (draft / asset_of(dandiset, 0)).write_bytes(b"another one" * 100)
    upload(archive, draft)
    return draft


@pytest.mark.parametrize("source", ["the file", "the dandiset", "dandiset.yaml"])
def test_version_that_nobody_names_is_the_one_that_has_the_file(
    archive: Archive, dandiset: Path, versions: Path, tmp_path: Path, source: str
) -> None:
    named = {"the file": NWB, "the dandiset": ""}.get(source)
    url = None if named is None else archive.dandi_url(named, None)
    for root, folder in ((dandiset, tmp_path / "one"), (versions, tmp_path / "two")):
        path = downloaded(root, folder / "sub-mouse0")
        (folder / "dandiset.yaml").write_text(f"identifier: HERE:{DANDISET}\n")
        if root == dandiset:
            fetch_media(path, url)
        else:
            with pytest.warns(ExternalFilesWarning, match=f"is the file of the draft, and .* version {PUBLISHED} has"):
                fetch_media(path, url)
        assert media_in(path) == media_in(root / NWB)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "changed here"
    (path.parent / stored_paths(path)[0]).unlink()
    if source == "the file":
        with pytest.warns(ExternalFilesWarning, match=f"names no version, and .* are those of .* version {PUBLISHED}"):
            fetch_media(path, url)
        assert media_in(path) == media_in(dandiset / NWB)
    else:
        with pytest.raises(RelocationRefusedError, match=f"version {PUBLISHED} and .* version draft have the file"):
            fetch_media(path, url)
        fetch_media(path, archive.dandi_url(""))
        assert media_in(path) == media_in(versions / NWB)


def test_version_that_nobody_names_is_the_only_one(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here" / "sub-mouse0")
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "changed here"
    (tmp_path / "here" / "dandiset.yaml").write_text("name: videos\n")
    fetch_media(path, archive.dandi_url("", None))
    assert media_in(path) == media_in(dandiset / NWB)


def test_unknown_dandiset_is_asked_for(dandiset: Path, tmp_path: Path) -> None:
    path = downloaded(dandiset, tmp_path / "here")
    with pytest.raises(RelocationRefusedError, match=r"not known which dandiset.*no dandiset\.yaml is above it"):
        fetch_media(path)
    assert "name it with --from URL" in cli(path, code=1)


def test_dandiset_yaml_does_not_choose_an_unknown_server(
    archive: Archive, dandiset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, with_yaml(tmp_path / "here", archive))
    (tmp_path / "here" / "dandiset.yaml").write_text(f"url: {archive.api.url('dandiset/000123/draft')}\n")
    for name in [url for url, known in known_instances_rev.items() if known == "here"]:
        monkeypatch.delitem(known_instances_rev, name)
    archive.api.asked.clear()
    with pytest.raises(RelocationRefusedError, match="names no dandiset in an archive that dandi knows"):
        fetch_media(path)
    assert archive.api.asked == []


def test_file_with_a_name_of_several_assets(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    """Its content says which one it is."""
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    other = recording(tmp_path / "other.nwb", [])
    archive.add("sub-other/" + Path(NWB).name, other)
    fetch_media(path, archive.dandi_url(""))
    assert media_in(path) == media_in(dandiset / NWB)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "changed"
    with pytest.raises(UnsafeReferenceError, match="2 NWB files of that name"):
        fetch_media(path, archive.dandi_url(""))
    assert [one.state for one in fetch_media(path, archive.dandi_url(NWB))] == ["there"] * 3


@pytest.fixture
def alike(archive: Archive, tmp_path: Path) -> list[Path]:
    """Two NWB files, downloaded into one folder, whose videos have the same path beside them and other content."""
    for subject in "ab":
        folder = tmp_path / "alike" / f"sub-{subject}"
        write_nwb(folder / f"{subject}.nwb", ["video.avi"])
        (folder / "video.avi").write_bytes(subject.encode() * 100)
    upload(archive, tmp_path / "alike")
    return [downloaded(tmp_path / "alike", tmp_path / "here", f"sub-{subject}/{subject}.nwb") for subject in "ab"]


def test_two_files_that_expect_different_videos_at_one_place(
    archive: Archive, alike: list[Path], tmp_path: Path
) -> None:
    before = tree(tmp_path / "here")
    with pytest.raises(MediaExistsError, match=r"is the asset 'sub-b/video\.avi'.*expects another one, 'sub-a/video"):
        fetch_media(alike, archive.dandi_url(""))
    assert tree(tmp_path / "here") == before
    shutil.copy(tmp_path / "alike/sub-a/video.avi", tmp_path / "same.avi")
    archive.add("sub-b/video.avi", tmp_path / "same.avi")
    assert len(fetch_media(alike, archive.dandi_url(""))) == 1


def test_url_of_one_file_is_not_taken_for_another(archive: Archive, alike: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = alike[1].rename(tmp_path / "other" / "b.nwb")
    with pytest.raises(MissingMediaError, match=r"sub-a/a\.nwb names one NWB file, and this is another"):
        fetch_media([alike[0], other], archive.dandi_url("sub-a/a.nwb"))
    renamed = alike[0].rename(tmp_path / "here" / "renamed.nwb")
    fetch_media(renamed, archive.dandi_url("sub-a/a.nwb"))
    assert (tmp_path / "here" / "video.avi").read_bytes() == b"a" * 100


def test_file_that_only_has_the_name_of_an_asset_gets_no_videos_of_it(
    archive: Archive, alike: list[Path], tmp_path: Path
) -> None:
    mine = write_nwb(with_yaml(tmp_path / "mine", archive) / "sub-c" / "a.nwb", ["video.avi"])
    with pytest.raises(UnsafeReferenceError, match=r"one NWB file of that name, 'sub-a/a\.nwb', with other content"):
        fetch_media(mine)
    assert "and name the asset itself with --from URL" in cli(mine, code=1)
    moved = shutil.copy(alike[0], tmp_path / "mine")  # as `dandi download` of its URL puts it there
    assert [one.state for one in fetch_media(moved)] == ["fetched"]


@pytest.mark.parametrize("text", ["date: 2024-02-30\n", "a: " + "[" * 20000, "a: !!int x\n", "a: [\n", "a\n"])
def test_unreadable_dandiset_yaml_says_nothing(dandiset: Path, tmp_path: Path, text: str) -> None:
    path = downloaded(dandiset, tmp_path / "here")
    (tmp_path / "here" / "dandiset.yaml").write_text(text)
    with pytest.raises(RelocationRefusedError, match="not known which dandiset"):
        fetch_media(path)


def test_identifier_in_another_archive_is_not_looked_up_in_dandi(dandiset: Path, tmp_path: Path) -> None:
    """Other archives have the identifiers of DANDI too."""
    path = downloaded(dandiset, tmp_path / "here")
    (tmp_path / "here" / "dandiset.yaml").write_text(
        "url: https://archive.example.org/dandiset/000123/draft\nid: DANDI:000123/draft\nidentifier: DANDI:000123\n"
    )
    with pytest.raises(RelocationRefusedError, match="names no dandiset in an archive that dandi knows"):
        fetch_media(path)


def test_what_is_not_in_the_archive_is_all_said_at_once(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    path = downloaded(dandiset, tmp_path / "here")
    archive.add(NWB, dandiset / NWB)
    before = tree(tmp_path / "here")
    with pytest.raises(MissingMediaError, match="3 problems") as caught:
        fetch_media(path, archive.dandi_url(NWB))
    assert all("has no file" in str(problem) for problem in caught.value.problems)
    with pytest.raises(MissingMediaError, match="no NWB file of that name"):
        fetch_media(path.rename(path.with_name("x.nwb")), archive.dandi_url(""))
    (tmp_path / "here" / "x.nwb").rename(path)
    assert tree(tmp_path / "here") == before


def test_check_offers_the_command_in_a_dandiset(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, with_yaml(tmp_path / "here", archive) / "sub-mouse0")
    findings = [finding for finding in check(path, frames="none") if finding.code == "missing"]
    assert [str(finding.hint).startswith("if the archive has it") for finding in findings] == [True] * 3
    assert "`nwb-extfiles fetch`" in str(findings[0].hint)
    cli(path)
    assert check(path, frames="none") == []
    (tmp_path / "here" / "dandiset.yaml").unlink()
    path = downloaded(dandiset, tmp_path / "there")
    assert not any("fetch" in str(finding.hint) for finding in check(path, frames="none"))


# ----------------------------------------------------------------- which, and where to


def test_some_of_the_videos(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, with_yaml(tmp_path / "here", archive))
    listed = json.loads(cli("--json", "--dry-run", "--media", "*.mp4", path))
    assert [(one["state"], one["index"]) for one in listed] == [("to fetch", 1)]
    assert media_in(path) == [None, None, None]
    cli("--media", "*.mp4", path)
    assert [content is None for content in media_in(path)] == [True, False, True]
    assert cli("--object", "/processing/*", path) == "no media with relative paths\n"
    cli("--object", "/acquisition/*", path)
    assert media_in(path) == media_in(dandiset / NWB)


def test_existing_files_are_not_replaced(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    place = path.parent / stored_paths(path)[1]
    place.parent.mkdir()
    place.write_bytes(bytes(SIZE))  # as long as the one in the archive
    before = tree(tmp_path / "here")
    with pytest.raises(MediaExistsError, match="is not what the archive has"):
        fetch_media(path, archive.dandi_url(NWB))
    assert tree(tmp_path / "here") == before
    place.unlink()
    place.symlink_to("nowhere")
    with pytest.raises(MediaExistsError, match="is not a file"):
        fetch_media(path, archive.dandi_url(NWB))


def test_file_in_the_way_of_a_folder(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    path.with_suffix("").write_bytes(b"mine")
    with pytest.raises(MediaExistsError, match="on the way to its place, is not a folder"):
        fetch_media(path, archive.dandi_url(NWB))
    assert path.with_suffix("").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe", "folder"])
def test_nothing_is_written_to_what_has_the_name_of_a_part(
    archive: Archive, dandiset: Path, tmp_path: Path, kind: str
) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    own = tmp_path / "own"
    own.write_bytes(b"mine")
    asset = Dandiset(archive.dandi_url(NWB)).around(path).asset(asset_of(dandiset, 0))
    part = part_of(asset, path.parent / stored_paths(path)[0])
    part.parent.mkdir()
    make = {"symbolic link": part.symlink_to, "hard link": part.hardlink_to}
    make[kind](own) if kind in make else os.mkfifo(part) if kind == "pipe" else part.mkdir()
    with pytest.raises(TransferError, match="is not a file of its own"):
        fetch_media(path, archive.dandi_url(NWB))
    assert own.read_bytes() == b"mine"
    assert media_in(path) == [None] * 3


@pytest.mark.parametrize("stored", ["../b.avi", "../../b.avi", ".git/hooks/b", "link/b.avi"])
def test_paths_that_lead_elsewhere_are_refused(archive: Archive, tmp_path: Path, stored: str) -> None:
    path = write_nwb(tmp_path / "here" / "deep" / "a.nwb", [stored])
    (tmp_path / "elsewhere").mkdir()
    (path.parent / "link").symlink_to(tmp_path / "elsewhere")
    archive.add("one/two/a.nwb", path)
    for name in ("one/b.avi", "b.avi", "one/two/.git/hooks/b", "one/two/link/b.avi"):
        archive.add(name, video(tmp_path / "b.avi"))
    before = tree(tmp_path)
    with pytest.raises(UnsafeReferenceError):
        fetch_media(path, archive.dandi_url("one/two/a.nwb"))
    assert tree(tmp_path) == before


def test_urls_and_absolute_paths_are_left_alone(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    own = stored_paths(path)
    set_paths(path, DATASET, ["https://example.org/x.mp4", "/nowhere/x.mp4", own[2]], dtype=UTF8)
    assert [one.reference.index for one in fetch_media(path, archive.dandi_url(NWB))] == [2]


def test_zarr_nwb_files_get_their_videos(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "ds").mkdir()
    store = write_store(tmp_path / "ds" / "sub-a" / "a.nwb.zarr", ["a/v.avi"])
    video(store.parent / "a" / "v.avi")
    archive.add("sub-a/a.nwb.zarr", store)
    archive.add("sub-a/a/v.avi", store.parent / "a" / "v.avi")
    alone = tmp_path / "here" / "a.nwb.zarr"
    shutil.copytree(store, alone)
    (one,) = fetch_media(alone, archive.dandi_url("sub-a/a.nwb.zarr"))
    assert one.target == alone.parent / "a" / "v.avi"
    assert digest(one.target) == digest(store.parent / "a" / "v.avi")


def test_store_that_only_has_the_name_of_an_asset_gets_no_videos_of_it(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "ds").mkdir()
    store = write_store(tmp_path / "ds" / "sub-a" / "a.nwb.zarr", ["a/v.avi"])
    archive.add("sub-a/a.nwb.zarr", store)
    archive.add("sub-a/a/v.avi", video(store.parent / "a" / "v.avi"))
    same = Path(shutil.copytree(store, tmp_path / "same" / "a.nwb.zarr"))
    assert [one.state for one in fetch_media(same, archive.dandi_url(""))] == ["fetched"]
    other = Path(shutil.copytree(store, tmp_path / "other" / "a.nwb.zarr"))
    attributes = json.loads((other / ".zattrs").read_text())
    (other / ".zattrs").write_text(json.dumps(attributes | {"note": "another one"}))
    with pytest.raises(UnsafeReferenceError, match=r"one NWB file of that name, 'sub-a/a\.nwb\.zarr', with other cont"):
        fetch_media(other, archive.dandi_url(""))
    assert not (tmp_path / "other" / "a").exists()


# ------------------------------------------------------------------------- embargo


def test_embargoed_videos_need_the_key(
    archive: Archive, dandiset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.embargo()
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    with pytest.raises(UnreadableFileError, match="HERE_API_KEY"):
        fetch_media(path, archive.dandi_url(NWB))
    monkeypatch.setenv("HERE_API_KEY", KEY)
    archive.signed_for = 2
    archive.api.asked.clear()
    fetch_media(path, archive.dandi_url(NWB))
    assert len([path for path in archive.questions if "/download/" in path]) == 3  # each video once
    assert media_in(path) == media_in(dandiset / NWB)
    assert archive.leaked == []


# ---------------------------------------------------------------- broken off, killed


def content_route(archive: Archive, path: str) -> str:
    return "/" + archive.versions[DANDISET]["draft"][path].key


def asset_of(dandiset: Path, index: int) -> str:
    stored = stored_paths(dandiset / NWB)[index]
    return (Path(NWB).parent / stored).as_posix()


def test_broken_connection_is_resumed(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    name = asset_of(dandiset, 1)
    content = (dandiset / name).read_bytes()
    archive.bucket.routes[content_route(archive, name)] = [
        lambda handler: handler.send_bytes(content, stop=SIZE // 2),
        lambda handler: handler.send_bytes(content),
    ]
    path = downloaded(dandiset, tmp_path / "here")
    fetch_media(path, archive.dandi_url(NWB))
    assert media_in(path) == media_in(dandiset / NWB)
    asked = [header for _, address, header in archive.bucket.asked if address.startswith(content_route(archive, name))]
    assert asked[0] is None
    assert asked[1] is not None
    assert asked[1].startswith("bytes=")


def together(archive: Archive, dandiset: Path, *indices: int) -> None:
    """Let the server send some videos only when all of them have been asked for."""
    all_asked = threading.Barrier(len(indices), timeout=30)

    def send(content: bytes, handler: Handler) -> None:
        all_asked.wait()
        handler.send_bytes(content)

    for name in (asset_of(dandiset, index) for index in indices):
        archive.bucket.routes[content_route(archive, name)] = partial(send, (dandiset / name).read_bytes())


def test_jobs_download_at_the_same_time(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    together(archive, dandiset, 0, 1, 2)
    path = downloaded(dandiset, tmp_path / "here")
    said = cli(path, "--from", archive.dandi_url(NWB), "--jobs", "3").splitlines()
    assert [line.partition(" (")[0] for line in said[:3]] == [
        f"fetched: {path.parent / stored}" for stored in stored_paths(path)
    ]
    assert media_in(path) == media_in(dandiset / NWB)
    assert hidden(tmp_path / "here") == []
    with pytest.raises(RelocationRefusedError, match="jobs must be"):
        fetch_media(path, jobs=0)


def test_failure_of_one_of_several_jobs_leaves_what_the_next_run_completes(
    archive: Archive, dandiset: Path, tmp_path: Path
) -> None:
    upload(archive, dandiset)
    name = asset_of(dandiset, 1)
    archive.bucket.routes[content_route(archive, name)] = lambda handler: handler.send_bytes(bytes(SIZE))
    path = downloaded(dandiset, tmp_path / "here")
    with pytest.raises(TransferError, match="does not have the digest"):
        fetch_media(path, archive.dandi_url(NWB), jobs=3)
    first, second, third = media_in(path)
    assert (first, second) == (media_in(dandiset / NWB)[0], None)
    assert third in (None, media_in(dandiset / NWB)[2])
    del archive.bucket.routes[content_route(archive, name)]
    fetch_media(path, archive.dandi_url(NWB), jobs=3)
    assert media_in(path) == media_in(dandiset / NWB)
    assert hidden(tmp_path / "here") == []


def test_content_with_another_digest_never_gets_the_name(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    name = asset_of(dandiset, 1)
    archive.bucket.routes[content_route(archive, name)] = lambda handler: handler.send_bytes(bytes(SIZE))
    path = downloaded(dandiset, tmp_path / "here")
    with pytest.raises(TransferError, match="does not have the digest"):
        fetch_media(path, archive.dandi_url(NWB))
    assert [content is None for content in media_in(path)] == [False, True, True]
    del archive.bucket.routes[content_route(archive, name)]
    fetch_media(path, archive.dandi_url(NWB))
    assert media_in(path) == media_in(dandiset / NWB)
    assert hidden(tmp_path / "here") == []


def test_content_without_an_end_does_not_fill_the_disk(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    most = 0

    def endless(handler: Handler) -> None:
        nonlocal most
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        try:
            for _ in range(500):  # 32 MB
                handler.wfile.write(bytes(65536))
                most = max([most, *(part.stat().st_size for part in hidden(tmp_path / "here"))])
        except OSError:
            pass  # the client has hung up

    archive.bucket.routes[content_route(archive, asset_of(dandiset, 0))] = endless
    path = downloaded(dandiset, tmp_path / "here")
    with pytest.raises(TransferError, match="the server sends more than was asked for"):
        fetch_media(path, archive.dandi_url(NWB))
    assert most < SIZE
    assert media_in(path) == [None] * 3


@pytest.mark.parametrize("answer", ["[]", '{"next": null}', '{"next": null, "count": 1, "results": [{"path": "x"}]}'])
def test_server_that_does_not_answer_as_an_archive(
    archive: Archive, dandiset: Path, tmp_path: Path, answer: str
) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmp_path / "here")
    archive.api.routes[f"/api/dandisets/{DANDISET}/versions/draft/assets/"] = lambda handler: handler.send_text(
        200, answer, "application/json"
    )
    with pytest.raises(UnreadableFileError, match="the archive does not answer as expected"):
        fetch_media(path, archive.dandi_url(NWB))


def test_refusal_is_said_without_the_signed_url(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    upload(archive, dandiset)
    route = content_route(archive, asset_of(dandiset, 0))
    archive.bucket.routes[route] = lambda handler: handler.send_text(403, "no")
    path = downloaded(dandiset, tmp_path / "here")
    with pytest.raises(TransferError, match="the archive answers 403") as caught:
        fetch_media(path, archive.dandi_url(NWB))
    assert "Signature" not in str(caught.value)


_KILLED = """
import sys
from dandi.consts import DandiInstance, known_instances
known_instances["here"] = DandiInstance("here", sys.argv[3], sys.argv[3] + "/api")
from nwb_extfiles import fetch_media
fetch_media(sys.argv[1], sys.argv[2])
"""


def test_killed_run_is_resumed(archive: Archive, dandiset: Path, tmp_path: Path) -> None:
    """Nothing has a final name that is not whole, and the bytes that came are not downloaded again."""
    upload(archive, dandiset)
    name = asset_of(dandiset, 1)
    content, route = (dandiset / name).read_bytes(), content_route(archive, name)

    def slow(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: SIZE // 2])
        handler.wfile.flush()
        time.sleep(60)

    archive.bucket.routes[route] = slow
    path = downloaded(dandiset, tmp_path / "here")
    command = [sys.executable, "-c", _KILLED, str(path), archive.dandi_url(NWB), archive.api.url().rstrip("/")]
    run = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        folder = (path.parent / stored_paths(path)[1]).parent
        while not any(part.stat().st_size for part in folder.glob(f".{Path(name).name}.*")):  # not one of the first
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(DestinationBusyError, match="by another run"):
            fetch_media(path, archive.dandi_url(NWB))
    finally:
        run.kill()
        run.wait()
    (part,) = hidden(tmp_path / "here")
    arrived = part.stat().st_size
    assert 0 < arrived < len(content)
    assert [one is None for one in media_in(path)] == [False, True, True]
    assert "orphan" not in [finding.code for finding in check(path, frames="none")]
    del archive.bucket.routes[route]
    fetch_media(path, archive.dandi_url(NWB))
    assert media_in(path) == media_in(dandiset / NWB)
    assert hidden(tmp_path / "here") == []
    assert [header for _, address, header in archive.bucket.asked if address.startswith(route)][-1] == (
        f"bytes={arrived}-"
    )


def test_no_space_is_said_before_anything_is_downloaded(archive: Archive, dandiset: Path, tmpfs: Path) -> None:
    upload(archive, dandiset)
    path = downloaded(dandiset, tmpfs / "here")
    (tmpfs / "full").write_bytes(bytes(os.statvfs(tmpfs).f_bavail * os.statvfs(tmpfs).f_frsize - 8192))
    with pytest.raises(RelocationRefusedError, match="are free"):
        fetch_media(path, archive.dandi_url(NWB))
    assert media_in(path) == [None] * 3

"""Walk NWB files and their videos through a DANDI archive, and count which links are right.

    python tests/archive/walk.py https://api.sandbox.dandiarchive.org/api --key KEY

Three NWB files with three videos each are organized in each media mode, uploaded to a new dandiset, downloaded, and
read: the files by h5py and by pynwb, and the videos where `resolve_external_files` says that they are in the archive.
The first dandiset is published, and read in that version. Then NWB files are downloaded alone and get their videos by
`fetch_media`, and one is renamed and uploaded with ``--sync``. All is done once more in an embargoed dandiset, and with
one NWB file in a Zarr store. A link is right if it leads to the bytes of the original video.

The dandisets stay in the archive: use its sandbox, or one of your own.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import requests
import zarr
from dandi.consts import DandiInstance, SyncMode, known_instances, known_instances_rev
from dandi.dandiapi import DandiAPIClient
from dandi.download import DownloadExisting, download
from dandi.upload import UploadExisting, upload
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO

from nwb_extfiles import (
    ExternalFilesError,
    NWBExtFilesHDF5IO,
    fetch_media,
    organize,
    relocate,
    resolve_external_files,
)
from nwb_extfiles.testing import make_video, write_nwb

INSTANCE = "walk"
KEY_VARIABLE = "WALK_API_KEY"
DATASET = "acquisition/video/external_file"
STORE = ".nwb.zarr"
METADATA = {
    "description": "Made by tests/archive/walk.py of nwb-extfiles; it may be deleted.",
    "license": ["spdx:CC0-1.0"],
    "schemaKey": "Dandiset",
}

Links = dict[tuple[str, int], str | None]
"""SHA-256 of what each link leads to, by the object_id of its series and its place in the list; None if to nothing."""


@dataclass
class Walk:
    """What was walked so far."""

    folder: Path
    api: str
    expected: Links = field(default_factory=dict)
    rows: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Step, reader, links right, links wrong."""

    def count(self, step: str, reader: str, links: Links, of: Links | None = None) -> None:
        """Add a row to the table."""
        expected = self.expected if of is None else of
        right = sum(links.get(key) == content for key, content in expected.items())
        self.rows.append((step, reader, right, len(expected) - right))

    @property
    def table(self) -> str:
        """The rows, with their totals."""
        rows = [("step", "reader", "right", "wrong"), *((*row[:2], str(row[2]), str(row[3])) for row in self.rows)]
        widths = [max(len(row[number]) for row in rows) for number in range(4)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)

    @property
    def is_right(self) -> bool:
        """Whether no link was wrong."""
        return bool(self.rows) and not any(row[3] for row in self.rows)


# ----------------------------------------------------------------------- the readers


def sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def nwb_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.nwb")) if path.is_file())


def links_by_h5py(folder: Path) -> Links:
    """What the stored paths lead to, each relative to its NWB file."""
    found: Links = {}
    for path in nwb_files(folder):
        with h5py.File(path) as file:
            object_id, stored = file["acquisition/video"].attrs["object_id"], file[DATASET].asstr()[:]
        found |= {(object_id, number): sha256(path.parent / one) for number, one in enumerate(stored)}
    return found


def links_by_zarr(folder: Path) -> Links:
    """What the stored paths in Zarr stores lead to."""
    found: Links = {}
    for path in sorted(folder.rglob(f"*{STORE}")):
        series = zarr.open_group(str(path), mode="r")["acquisition/video"]
        stored = map(str, series["external_file"][:])
        found |= {(series.attrs["object_id"], n): sha256(path.parent / one) for n, one in enumerate(stored)}
    return found


def links_by_pynwb(folder: Path) -> Links:
    """What pynwb gives for the series, read with ``resolve_media=True``."""
    found: Links = {}
    for path in nwb_files(folder):
        with NWBExtFilesHDF5IO(path, "r", resolve_media=True) as io_:
            series = io_.read().acquisition["video"]
            found |= {(series.object_id, n): sha256(Path(one)) for n, one in enumerate(series.external_file[:])}
    return found


def links_in_archive(client: DandiAPIClient, dandiset_id: str, version: str = "draft") -> Links:
    """What is at the locations that `resolve_external_files` gives for the assets."""
    found: Links = {}
    for asset in client.get_dandiset(dandiset_id, version).get_assets():
        if asset.path.endswith((".nwb", STORE)):
            for entry in resolve_external_files(asset):
                key = str(entry.reference.object_id), entry.reference.index
                content = None
                if entry.location is not None:
                    answer = requests.get(entry.location, timeout=60)
                    content = hashlib.sha256(answer.content).hexdigest() if answer.ok else None
                found[key] = content
    return found


# ------------------------------------------------------------------------- the steps


def make_recordings(folder: Path) -> Links:
    """Three NWB files of two subjects, each with three videos."""
    for number, (subject, session) in enumerate([("mouse0", "a"), ("mouse0", "b"), ("mouse1", "a")]):
        videos = [f"videos/{number}_{n}.avi" for n in range(3)]
        for n, name in enumerate(videos):
            make_video(folder / name, seed=10 * number + n)
        write_nwb(folder / f"{number}.nwb", videos, identifier=f"walk-{number}", subject=subject, session=session)
    return links_by_h5py(folder)


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out the tables that dandi prints, and warnings of this package."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def new_dandiset(client: DandiAPIClient, folder: Path, name: str, *, embargo: bool = False) -> str:
    """A new dandiset in the archive, and the folder that has its dandiset.yaml."""
    made = client.create_dandiset(f"nwb-extfiles walk: {name}", {"name": name, **METADATA}, embargo=embargo)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dandiset.yaml").write_text(f"identifier: DANDI:{made.identifier}\nname: {name}\n")
    return str(made.identifier)


def send(folder: Path, *, sync: bool = False) -> None:
    with quietly():
        upload([folder], existing=UploadExisting.REFRESH, dandi_instance=INSTANCE, sync=SyncMode.DO if sync else None)


def get(url: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with quietly():
        download(url, folder, existing=DownloadExisting.ERROR)
    return folder


def walk_mode(walk: Walk, client: DandiAPIClient, mode: str, *, embargo: bool = False) -> tuple[str, Path]:
    """Organize, upload, download and read; gives the dandiset and the folder that was downloaded."""
    step = f"{mode}, embargoed" if embargo else mode
    work = walk.folder / step.replace(", ", "-")
    dandiset_id = new_dandiset(client, work / "ds", step, embargo=embargo)
    shutil.copytree(walk.folder / "raw", work / "raw")  # for each mode: one of them moves the videos
    with quietly():
        organize(work / "raw", work / "ds", media_mode=mode)
    walk.count(f"{step}: organized", "h5py", links_by_h5py(work / "ds"))
    send(work / "ds")
    here = get(f"dandi://{INSTANCE}/{dandiset_id}@draft/", work / "downloaded")
    walk.count(f"{step}: downloaded", "h5py", links_by_h5py(here))
    walk.count(f"{step}: downloaded", "pynwb", links_by_pynwb(here))
    walk.count(f"{step}: in the archive", "URLs", links_in_archive(client, dandiset_id))
    return dandiset_id, here


def walk_fetch(walk: Walk, client: DandiAPIClient, dandiset_id: str, step: str) -> None:
    """Download NWB files alone, and fetch their videos."""
    folder = walk.folder / f"{step}-{dandiset_id}"
    for asset in client.get_dandiset(dandiset_id, "draft").get_assets():
        if asset.path.endswith(".nwb"):
            url = f"dandi://{INSTANCE}/{dandiset_id}@draft/{asset.path}"
            get(url, folder)
            fetch_media(folder / Path(asset.path).name, url)
    walk.count(f"{step}: fetched", "h5py", links_by_h5py(folder))


def walk_published(walk: Walk, client: DandiAPIClient, dandiset_id: str) -> None:
    """Publish the draft, and read that version; an NWB file of it gets its videos without a version being named."""
    draft = client.get_dandiset(dandiset_id, "draft")
    draft.wait_until_valid()
    version = draft.publish().version_id
    work = walk.folder / "published"
    here = get(f"dandi://{INSTANCE}/{dandiset_id}@{version}/", work / "downloaded")
    walk.count("published: downloaded", "h5py", links_by_h5py(here))
    walk.count("published: in the archive", "URLs", links_in_archive(client, dandiset_id, version))
    for path in nwb_files(here):
        alone = work / "alone" / path.name
        alone.parent.mkdir(exist_ok=True)
        shutil.copy(path, alone)
        fetch_media(alone, f"dandi://{INSTANCE}/{dandiset_id}")
    walk.count("published: fetched", "h5py", links_by_h5py(work / "alone"))


def walk_store(walk: Walk, client: DandiAPIClient, mode: str) -> None:
    """An NWB file in a Zarr store."""
    work = walk.folder / "store"
    raw = Path(shutil.copytree(walk.folder / "raw", work / "raw"))
    first, *others = nwb_files(raw)
    with quietly(), NWBHDF5IO(first, "r") as source, NWBZarrIO(str(first.with_name(f"0{STORE}")), mode="w") as io_:
        io_.export(src_io=source, write_args={"link_data": False})
    for path in (first, *others):
        path.unlink()
    expected = links_by_zarr(raw)
    dandiset_id = new_dandiset(client, work / "ds", "store")
    with quietly():
        organize(raw, work / "ds", media_mode=mode)
    walk.count("store: organized", "zarr", links_by_zarr(work / "ds"), expected)
    send(work / "ds")
    here = get(f"dandi://{INSTANCE}/{dandiset_id}@draft/", work / "downloaded")
    walk.count("store: downloaded", "zarr", links_by_zarr(here), expected)
    walk.count("store: in the archive", "URLs", links_in_archive(client, dandiset_id), expected)
    (store,) = here.rglob(f"*{STORE}")
    alone = Path(shutil.copytree(store, work / "alone" / store.name))
    fetch_media(alone, f"dandi://{INSTANCE}/{dandiset_id}@draft")
    walk.count("store: fetched", "zarr", links_by_zarr(work / "alone"), expected)


def walk_rename(walk: Walk, client: DandiAPIClient, dandiset_id: str) -> None:
    """Rename an NWB file, relocate it, upload with --sync, and download once more."""
    work = walk.folder / "renamed"
    root = get(f"dandi://{INSTANCE}/{dandiset_id}", work / "local") / dandiset_id
    first = next(nwb_files(root))
    renamed = first.rename(first.with_name(f"{first.stem}+new{first.suffix}"))
    with quietly():
        relocate(renamed)
    send(root, sync=True)
    there = {asset.path for asset in client.get_dandiset(dandiset_id, "draft").get_assets()}
    here = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {"dandiset.yaml"}
    walk.rows.append(("renamed, upload --sync", "assets", len(here & there), len(here ^ there)))
    again = get(f"dandi://{INSTANCE}/{dandiset_id}@draft/", work / "downloaded")
    walk.count("renamed: downloaded", "h5py", links_by_h5py(again))
    walk.count("renamed: in the archive", "URLs", links_in_archive(client, dandiset_id))


def walk_embargo(walk: Walk, client: DandiAPIClient, mode: str) -> None:
    """The same in an embargoed dandiset, which nobody can read without the key."""
    dandiset_id, _ = walk_mode(walk, client, mode, embargo=True)
    walk_fetch(walk, client, dandiset_id, "embargoed")
    key = os.environ.pop(KEY_VARIABLE)
    try:
        path = next(nwb_files(walk.folder / f"embargoed-{dandiset_id}"))
        found = resolve_external_files(f"dandi://{INSTANCE}/{dandiset_id}@draft/{path.parent.name}/{path.name}")
        refused = all(entry.location is None for entry in found)
    except ExternalFilesError:
        refused = True
    finally:
        os.environ[KEY_VARIABLE] = key
    walk.rows.append(("embargoed: refused without the key", "API", int(refused), int(not refused)))


def walk_all(api: str, key: str, folder: Path, modes: list[str], *, tell: Callable[[str], object] = print) -> Walk:
    """Walk all steps.

    Parameters
    ----------
    api : str
        URL of the API of the archive.
    key : str
        The API key of a user who may create dandisets.
    folder : pathlib.Path
        Where files are made; empty.
    modes : list of str
        Media modes.
    tell : callable
        Gets a line for each step that begins.
    """
    api = api.rstrip("/")
    known_instances[INSTANCE] = DandiInstance(INSTANCE, None, api)
    known_instances_rev[api] = INSTANCE
    os.environ[KEY_VARIABLE] = key
    walk = Walk(folder, api)
    with quietly():
        walk.expected = make_recordings(folder / "raw")
    with DandiAPIClient.for_dandi_instance(INSTANCE, token=key) as client:
        for number, mode in enumerate(modes):
            tell(f"{mode}: organize, upload, download, read")
            dandiset_id, _ = walk_mode(walk, client, mode)
            if number == 0:
                tell("published")
                walk_published(walk, client, dandiset_id)
                tell("NWB files downloaded alone, and their videos fetched")
                walk_fetch(walk, client, dandiset_id, "alone")
                tell("renamed, relocated, uploaded with --sync")
                walk_rename(walk, client, dandiset_id)
        tell("a Zarr store")
        walk_store(walk, client, modes[0])
        tell("embargoed")
        walk_embargo(walk, client, modes[0])
    return walk


def main() -> int:
    """Walk, and print the table; 1 if a link was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("api", help="URL of the API of the archive")
    parser.add_argument("--key", default=os.environ.get("DANDI_API_KEY"), help="API key  [default: DANDI_API_KEY]")
    parser.add_argument("--modes", default="copy,symlink,hardlink,move", help="media modes, separated by commas")
    chosen = parser.parse_args()
    if not chosen.key:
        parser.error("--key, or the environment variable DANDI_API_KEY, must have the API key")
    with tempfile.TemporaryDirectory() as folder:
        walk = walk_all(chosen.api, chosen.key, Path(folder), chosen.modes.split(","))
    print(walk.table)
    return 0 if walk.is_right else 1


if __name__ == "__main__":
    sys.exit(main())

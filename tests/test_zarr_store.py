"""Zarr stores that are there: edited in place with hdmf-zarr and without, found and read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numcodecs.pickles
import numpy as np
import pytest
import zarr
from hdmf_zarr import NWBZarrIO
from helpers import image_series, tree, write_nwb
from makers import Media, quiet, run_python, write_everywhere
from pynwb import NWBHDF5IO
from zarr_makers import (
    DATASET,
    UNLINKED,
    assert_consolidated,
    assert_leads_to,
    nothing_left,
    paths_in,
    references,
    without_path,
    write_store,
)

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesZarrIO
from nwb_extfiles.errors import MissingMediaError, TransferError
from nwb_extfiles.nwb.files import find_nwb_files, write_paths

pytestmark = [
    pytest.mark.usefixtures("trusted_stores"),
    # of hdmf-zarr and pynwb
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("error::nwb_extfiles.ExternalFilesWarning"),
]


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "nwbfiles" / "a.nwb", [f"../video_files/test1_{n}.avi" for n in (0, 1)])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "dandiset" / "sub-mouse0" / "sub-mouse0_ses-s.nwb.zarr"


@pytest.mark.parametrize("mode", ["r+", "a"])
def test_store_is_relocated_in_place(source_store: Path, videos: list[Path], video_files: Path, mode: str) -> None:
    before = tree(source_store)
    with NWBExtFilesZarrIO(source_store, mode, relocate_media=True, media_mode="copy") as io:
        nwbfile = io.read()
        io.write(nwbfile)
    assert_leads_to(source_store, videos[:2])
    changed = {name for name, what in tree(source_store).items() if what != before.get(name)}
    # hdmf-zarr puts the specifications in anew
    assert {name for name in changed if not name.startswith("specifications")} == {f"{DATASET}/0"}
    with NWBExtFilesZarrIO(source_store, mode, relocate_media=True, media_mode="copy") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
        io.write(nwbfile)
    assert_leads_to(source_store, videos[:2])
    assert_leads_to(source_store, videos[2:3], "acquisition/new/external_file")
    assert nothing_left(source_store.parent)


def test_failing_edit_of_store_changes_nothing(source_store: Path, tmp_path: Path, video_files: Path) -> None:
    """A new object whose media are not there does not stay in the store."""
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), NWBExtFilesZarrIO(source_store, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([str(video_files / "test2_0.avi")], "new"))
        io.write(nwbfile, relocate_media=True, media_mode="copy")
        raise KeyboardInterrupt
    assert paths_in(source_store) == [f"../video_files/test1_{n}.avi" for n in (0, 1)]
    assert not (source_store / "acquisition" / "new").exists()
    assert_consolidated(source_store)
    after = tree(tmp_path)
    assert {name for name in after if after[name] != before.get(name) and "/specifications/" not in name} == set()


def test_in_place_with_missing_media_changes_nothing(source_store: Path, tmp_path: Path, video_files: Path) -> None:
    (video_files / "test1_0.avi").unlink()
    before = tree(tmp_path)
    with pytest.raises(MissingMediaError), NWBExtFilesZarrIO(source_store, "r+") as io:
        io.write(io.read(), relocate_media=True, media_mode="copy")
    assert tree(tmp_path) == before


# ------------------------------------------------------------- without hdmf-zarr


def test_same_references_as_in_hdf5(tmp_path: Path) -> None:
    source = write_everywhere(tmp_path / "raw" / "a.nwb", Media(tmp_path / "media"))
    store = tmp_path / "raw" / "a.nwb.zarr"
    with quiet(), NWBHDF5IO(source, "r") as src_io, NWBZarrIO(str(store), "w") as io:
        io.export(src_io=src_io, write_args=dict(UNLINKED))
    assert without_path(references(store)) == without_path(references(source))
    assert {reference.nwb_path for reference in references(store)} == {str(store)}
    (store / ".zmetadata").unlink()
    assert without_path(references(store)) == without_path(references(source))


def test_links_to_path_datasets(tmp_path: Path, source_store: Path, videos: list[Path], video_files: Path) -> None:
    """Inside the store they are paths of the object; out of it they are not followed; edited, they become a dataset."""
    other = source_store.with_name("other.nwb.zarr")
    shutil.copytree(source_store, other)
    for number, link in enumerate(
        (
            {"name": "external_file", "path": "/acquisition/paths", "source": "."},
            {"name": "external_file", "path": "/acquisition/paths", "source": f"../{source_store.name}"},
            {"name": "external_file", "path": f"/{DATASET}", "source": "../other.nwb.zarr"},
            {"name": "external_file", "path": f"/{DATASET}", "source": "../../../../../../etc"},
        )
    ):
        shutil.rmtree(source_store)
        shutil.copytree(other, source_store)
        (source_store / DATASET).rename(source_store / "acquisition" / "paths")
        group = zarr.open_group(str(source_store), mode="r+")["acquisition/video"]
        group.attrs["zarr_link"] = [{"name": "else", "path": "/acquisition", "source": "."}, link]
        zarr.consolidate_metadata(str(source_store))
        found = references(source_store)
        assert [reference.stored_path for reference in found] == (
            [f"../video_files/test1_{n}.avi" for n in (0, 1)] if number < 2 else []
        )
        if number == 3:
            continue
        before = tree(other)
        journal = tmp_path / "journal"
        write_paths(source_store, {("/acquisition/video", "external_file"): ["x.avi", "y.avi"]}, journal=journal)
        assert paths_in(source_store) == ["x.avi", "y.avi"]
        assert paths_in(source_store, "acquisition/paths")[0].startswith("..")
        assert tree(other) == before
        journal.unlink()


def test_stores_are_found(tmp_path: Path, source_store: Path, source: Path) -> None:
    folder = source_store.parent
    shutil.copytree(source_store, folder / "b.zarr")
    shutil.copytree(source_store, folder / "c.nwb")
    shutil.copytree(source_store, folder / ".hidden.nwb.zarr")
    shutil.copytree(source_store, folder / "no_suffix")
    (folder / "link.nwb.zarr").symlink_to(source_store)
    zarr.open_group(str(folder / "image.ome.zarr"), mode="w").create_group("0")
    (folder / "image.ome.zarr" / "stray.nwb").touch()
    (folder / "s.nwb.zarr" / "stray.nwb").touch()
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / ".zgroup").write_text("{")
    (folder / "v3.nwb.zarr").mkdir()
    (folder / "v3.nwb.zarr" / "zarr.json").write_text('{"attributes": {"neurodata_type": "NWBFile"}}')
    assert [path.name for path in find_nwb_files([folder])] == ["a.nwb", "b.zarr", "c.nwb", "s.nwb.zarr", "v3.nwb.zarr"]
    assert list(find_nwb_files([folder / "image.ome.zarr"])) == [folder / "image.ome.zarr"]
    assert list(find_nwb_files([folder / "no_suffix", source])) == [folder / "no_suffix", source]
    with pytest.raises(OSError, match="format 3"):
        references(folder / "v3.nwb.zarr")
    with pytest.raises(OSError, match="it is a folder, but not a Zarr store"):
        references(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {".zmetadata": b"{"},
        {".zmetadata": b'{"zarr_consolidated_format": 1, "metadata": [1]}'},
        {".zmetadata": b'{"zarr_consolidated_format": 2}'},
        {f"{DATASET}/0": b"no chunk"},
    ],
)
def test_damaged_stores_are_reported(source_store: Path, damage: dict[str, bytes]) -> None:
    for name, content in damage.items():
        (source_store / name).write_bytes(content)
    with pytest.raises(OSError, match="is damaged"):
        references(source_store)


def test_nothing_is_unpickled(tmp_path: Path, source_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores come from anywhere, and a pickle can run any program."""
    root = zarr.open_group(str(source_store), mode="r+")
    attributes = root[DATASET].attrs.asdict()
    paths = np.array(["../video_files/test1_0.avi"], dtype=object)
    array = root.create_dataset(DATASET, data=paths, dtype=object, object_codec=numcodecs.Pickle(), overwrite=True)
    array.attrs.put(attributes)
    zarr.consolidate_metadata(str(source_store))
    assert [reference.stored_path for reference in references(source_store)] == list(paths)
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", False)
    assert references(source_store) == []


@pytest.mark.parametrize("dtype", ["<U40", "|S40", "<U60", "|S60", object])
@pytest.mark.parametrize("journalled", [True, False])
def test_stored_paths_are_edited_and_rolled_back(
    tmp_path: Path, source_store: Path, dtype: Any, journalled: bool
) -> None:
    root = zarr.open_group(str(source_store), mode="r+")
    attributes = root[DATASET].attrs.asdict()
    old = ["../video_files/test1_0.avi", "../video_files/test1_1.avi"]
    more = {"object_codec": numcodecs.VLenUTF8()} if dtype is object else {}
    root.create_dataset(DATASET, shape=2, dtype=dtype, chunks=1, overwrite=True, **more)[:] = np.array(old, dtype)
    root[DATASET].attrs.put(attributes)
    zarr.consolidate_metadata(str(source_store))
    before = tree(tmp_path)
    new = [f"a/{'long' * 11}.avi", "b.avi"]
    journal = tmp_path / "staging" / "journal"
    journal.parent.mkdir()
    write_paths(source_store, {("/acquisition/video", "external_file"): new}, journal=journal if journalled else None)
    stored = zarr.open_group(str(source_store), mode="r")[DATASET]
    assert [item.decode() if isinstance(item, bytes) else item for item in stored[:]] == new
    assert stored.chunks == (1,)
    assert stored.attrs["starting_frame"] == attributes["starting_frame"]
    assert_consolidated(source_store)
    assert [reference.stored_path for reference in references(source_store)] == new
    with NWBZarrIO(str(source_store), "r") as io:
        assert len(io.read().acquisition["video"].external_file) == 2
    assert journal.exists() == journalled
    if journalled:
        from nwb_extfiles.disk.journal import rollback

        assert rollback(source_store, journal)
        journal.parent.rmdir()
        assert tree(tmp_path) == before


@pytest.mark.parametrize("stored", ["other.avi", None])
def test_rewritten_store_is_not_rolled_back(tmp_path: Path, source_store: Path, stored: str | None) -> None:
    """By a program that knows nothing of journals, after a kill."""
    from nwb_extfiles.disk.journal import rollback

    journal = tmp_path / "journal"
    write_paths(source_store, {("/acquisition/video", "external_file"): ["x.avi", "y.avi"]}, journal=journal)
    shutil.rmtree(source_store)
    if stored is not None:
        write_store(source_store, [stored])
    else:
        source_store.mkdir()
        (source_store / ".zgroup").write_text('{"zarr_format": 2}')
    before = tree(source_store)
    with pytest.warns(ExternalFilesWarning, match="written anew"):
        assert not rollback(source_store, journal)
    assert tree(source_store) == before
    assert not journal.exists()


def test_journal_with_paths_outside_the_store_is_refused(tmp_path: Path, source_store: Path, source: Path) -> None:
    from nwb_extfiles.disk.folder_journal import edit_files
    from nwb_extfiles.disk.journal import rollback

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (source_store / "way").symlink_to(outside)
    before = tree(tmp_path)
    for name in (
        "../../outside/precious",
        "/etc/x",
        "way/precious",
        "way/new",
        "a/../../x",
        "",
        ".",
        r"a\b",
        "acquisition",
    ):
        with pytest.raises(TransferError, match="not a path to a file in it"):
            edit_files(source_store, {name: b"y"}, tmp_path / "journal")
        assert tree(tmp_path) == before
    # a journal of another place, as whoever made it would write it
    edit_files(outside, {"precious": b"y"}, tmp_path / "journal")
    content = (tmp_path / "journal").read_bytes()
    for evil in (b"../../outside/precious", b"way/precious"):
        forged = forge(content, b"precious", evil)
        (tmp_path / "journal").write_bytes(forged)
        with pytest.raises(TransferError, match="not a path to a file in it"):
            rollback(source_store, tmp_path / "journal")
        assert (outside / "precious").read_text() == "y"
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(TransferError, match="not a journal of"):
        rollback(source, tmp_path / "journal")
    (tmp_path / "journal").write_bytes(content[:-5])
    assert not rollback(source_store, tmp_path / "journal")
    assert not (tmp_path / "journal").exists()


def forge(journal: bytes, old: bytes, new: bytes) -> bytes:
    import hashlib
    import struct

    body = journal[:-32].replace(struct.pack("<Q", len(old)), struct.pack("<Q", len(new)), 1).replace(old, new, 1)
    return body + hashlib.sha256(body).digest()


def test_zarr_is_imported_only_for_stores(source: Path, source_store: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from nwb_extfiles.nwb.files import *; from nwb_extfiles.nwb.scan import *\n"
        "from nwb_extfiles.nwb.registry import *\n"
        "def look(path):\n"
        "    with open_nwb(Path(path)) as file: n = len(find_in_file(file))\n"
        "    print(n, sorted({'zarr', 'hdmf_zarr', 'pynwb', 'hdmf'} & set(sys.modules)))\n"
        "print(len(list(find_nwb_files([Path(sys.argv[1]).parent])))); look(sys.argv[1]); look(sys.argv[2])"
    )
    assert run_python(code, source, source_store).splitlines() == ["2", "2 []", "2 ['zarr']"]


def test_without_hdmf_zarr(source_store: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('zarr', 'hdmf_zarr', 'numcodecs'): sys.modules[name] = None\n"
        "from pathlib import Path; import nwb_extfiles\n"
        "from nwb_extfiles import *; from nwb_extfiles.nwb.files import *\n"
        "NWBExtFilesHDF5IO\n"
        "try: nwb_extfiles.NWBExtFilesZarrIO\n"
        "except ImportError as error: print(error)\n"
        "try:\n"
        "    with open_nwb(Path(sys.argv[1])): pass\n"
        "except OSError as error: print(error)"
    )
    first, second = run_python(code, source_store).splitlines()
    assert first == 'NWBExtFilesZarrIO needs hdmf-zarr: pip install "hdmf-zarr>=0.11"'
    assert second.endswith('pip install "hdmf-zarr>=0.11"')

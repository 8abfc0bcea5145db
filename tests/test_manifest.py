"""The manifest in the NWB file: written by every call, read by pynwb, h5py and validators."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import h5py
import pytest
from helpers import digest, image_series, name_of_bytes, new_nwbfile, stored_paths, write_nwb
from makers import quiet
from pynwb import NWBHDF5IO, validate

from nwb_extfiles import ExternalFilesError, NWBExtFilesHDF5IO, check, organize, relocate, threads
from nwb_extfiles.io import writing
from nwb_extfiles.nwb.manifest import MANIFEST_PATH, spec_folder
from nwb_extfiles.transfers.media_copies import StagedMedia

VIDEOS = ("test1_0.avi", "test1_1.avi")
PATHS = [f"../video_files/{name}" for name in VIDEOS]
RECORD = dict(manifest=True)


@pytest.fixture
def source(tmp_path: Path, video_files: Path) -> Path:
    return write_nwb(tmp_path / "nwbfiles" / "a.nwb", PATHS)


def table(path: Path) -> dict[str, list[Any]]:
    """The table, read with h5py alone."""
    with h5py.File(path) as file:
        group = file[MANIFEST_PATH]
        columns = {name: group[name][()].tolist() for name in group.attrs["colnames"]}
        assert group["id"][()].tolist() == list(range(len(columns["path"])))
    return {
        name: [value.decode() if isinstance(value, bytes) else value for value in values]
        for name, values in columns.items()
    }


def assert_right(path: Path, video_files: Path, names: tuple[str, ...] = VIDEOS) -> None:
    found = table(path)
    assert found["original_name"] == list(names)
    assert found["path"] == stored_paths(path)
    for text, sha256, size, name in zip(found["path"], found["sha256"], found["size_in_bytes"], names, strict=True):
        assert digest(path.parent / text) == sha256 == digest(video_files / name)
        assert size == (video_files / name).stat().st_size
    assert found["media_type"] == ["video/x-msvideo"] * len(names)
    assert found["width"] == [64] * len(names)
    assert found["frame_count"] == [10] * len(names)
    assert found["frame_rate"] == [25.0] * len(names)
    assert found["index"] == list(range(len(names)))
    assert not any("/" in name for name in found["original_name"])


def export(source: Path, target: Path, *, mode: str = "copy", options: Any = RECORD, container: bool = False) -> None:
    with NWBHDF5IO(source, "r") as src, NWBExtFilesHDF5IO(target, "w") as io:
        arguments = dict(nwbfile=src.read()) if container else {}
        io.export(src_io=src, relocate_media=True, media_mode=mode, media_options=options, **arguments)


@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink", "reference"])
@pytest.mark.parametrize("container", [False, True])
def test_export_writes_manifest(tmp_path: Path, source: Path, video_files: Path, mode: str, container: bool) -> None:
    target = tmp_path / "out" / "b.nwb"
    export(source, target, mode=mode, container=container)
    assert_right(target, video_files)


def test_manifest_of_moved_media(tmp_path: Path, source: Path, video_files: Path) -> None:
    before = [digest(video_files / name) for name in VIDEOS]
    target = tmp_path / "out" / "b.nwb"
    with pytest.warns(UserWarning, match="stays behind"):
        export(source, target, mode="move")
    assert table(target)["sha256"] == before


def test_write_and_append_manifest(tmp_path: Path, video_files: Path) -> None:
    target = tmp_path / "out" / "b.nwb"
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([video_files / name for name in VIDEOS]))
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=RECORD)
    assert_right(target, video_files)
    with NWBExtFilesHDF5IO(target, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series([video_files / "test2_0.avi"], "again"))
        io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert sorted(table(target)["original_name"]) == [*VIDEOS, "test2_0.avi"]


def test_relocate_and_organize_write_manifest(tmp_path: Path, source: Path, video_files: Path) -> None:
    organize(source, tmp_path / "dandiset", media_options=RECORD)
    (target,) = (tmp_path / "dandiset").rglob("*.nwb")
    assert_right(target, video_files)
    relocate(source, "copy", media_options=RECORD)
    assert_right(source, video_files)


def test_original_names_are_kept(tmp_path: Path, source: Path, video_files: Path) -> None:
    """After export, rename and organize, the table has the first names. It is kept up to date unasked."""
    first, second = tmp_path / "one" / "b.nwb", tmp_path / "two" / "c.nwb"
    export(source, first)
    export(first, second, options=None)
    assert_right(second, video_files)
    renamed = second.rename(second.with_name("d.nwb"))
    relocate(renamed)
    assert_right(renamed, video_files)
    organize(renamed, tmp_path / "dandiset", media_mode="copy")
    (target,) = (tmp_path / "dandiset").rglob("*.nwb")
    assert_right(target, video_files)


def test_rows_are_removed_with_their_references(tmp_path: Path, source: Path, video_files: Path) -> None:
    first, second = tmp_path / "one" / "b.nwb", tmp_path / "two" / "c.nwb"
    with NWBHDF5IO(source, "r+") as io:
        nwbfile = io.read()
        nwbfile.add_acquisition(image_series(["../video_files/test2_0.avi"], "another"))
        io.write(nwbfile)
    export(source, first)
    assert len(table(first)["path"]) == 3
    with h5py.File(first, "r+") as file:
        del file["acquisition/another"]
    export(first, second)
    assert_right(second, video_files)


def test_symlinks_record_name_of_their_video(tmp_path: Path, source: Path, video_files: Path) -> None:
    target = tmp_path / "out" / "b.nwb"
    export(source, target, mode="symlink", options=None)
    relocate(target, media_options=RECORD)
    assert_right(target, video_files)


def test_no_manifest_by_default(tmp_path: Path, source: Path, video_files: Path) -> None:
    target = tmp_path / "out" / "b.nwb"
    export(source, target, options=None)
    with h5py.File(target) as file, h5py.File(source) as before:
        assert MANIFEST_PATH not in file
        specs = {}
        for name, of in (("new", file), ("old", before)):
            found = specs.setdefault(name, {})
            of["specifications"].visititems(
                lambda path, item, found=found: found.update({path: item[()] if isinstance(item, h5py.Dataset) else ""})
            )
        assert specs["new"] == specs["old"]


def test_pynwb_reads_it_from_the_cached_schema(tmp_path: Path, source: Path, video_files: Path) -> None:
    """In a process that does not load the extension."""
    target = tmp_path / "out" / "b.nwb"
    export(source, target)
    code = (
        "import sys, pynwb\n"
        "with pynwb.NWBHDF5IO(sys.argv[1], load_namespaces=True) as io:\n"
        "    frame = io.read().lab_meta_data['external_files'].manifest.to_dataframe()\n"
        "print(frame.original_name.tolist(), 'nwb_extfiles' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, target], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == f"{list(VIDEOS)} False"


def test_manifest_containers(tmp_path: Path) -> None:
    """Made with pynwb, and read by this package."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import h5py
from helpers import new_nwbfile
from pynwb import NWBHDF5IO
from nwb_extfiles.nwb.manifest import read_manifest
from nwb_extfiles.ndx import ExternalFileManifest, ExternalFilesMetaData
manifest = ExternalFileManifest(name="manifest", description="videos")
manifest.add_row(referring_object_id="a", referring_object_path="/b", field="external_file", index=0, path="c/d.avi",
    original_name="é.avi", size_in_bytes=2**40, sha256="0" * 64, media_type="video/x-msvideo")
nwbfile = new_nwbfile()
nwbfile.add_lab_meta_data(ExternalFilesMetaData(manifest=manifest))
path = Path(sys.argv[1])
with NWBHDF5IO(path, "w") as io:
    io.write(nwbfile)
with h5py.File(path) as file:
    (row,) = read_manifest(file, path)
assert (row.original_name, row.size_in_bytes, row.width) == ("é.avi", 2**40, 0), row
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.nwb"], check=True)


def test_validators_accept_manifest(tmp_path: Path, source: Path, video_files: Path) -> None:
    from nwbinspector import Importance, inspect_nwbfile

    organize(source, tmp_path / "dandiset", media_mode="copy", media_options=RECORD)
    (target,) = (tmp_path / "dandiset").rglob("*.nwb")
    assert validate(path=str(target)) == []
    with quiet():
        messages = list(inspect_nwbfile(nwbfile_path=str(target)))
    assert [message for message in messages if message.importance >= Importance.BEST_PRACTICE_VIOLATION] == []


def test_broken_manifest_is_refused(tmp_path: Path, source: Path, video_files: Path) -> None:
    first = tmp_path / "one" / "b.nwb"
    export(source, first)
    with h5py.File(first, "r+") as file:
        del file[MANIFEST_PATH]["sha256"]
        file[MANIFEST_PATH].create_dataset("sha256", data=["only one"])
    with pytest.raises(ValueError, match=r"general/external_files/manifest.*differ in length"):
        relocate(first)


def test_schema_is_generated(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    script = Path(__file__).parents[1] / "spec" / "create_extension_spec.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    yaml = YAML(typ="safe")
    for name in ("ndx-extfiles.namespace.yaml", "ndx-extfiles.extensions.yaml"):
        # by what they say: versions of ruamel.yaml break lines otherwise
        assert yaml.load(tmp_path / name) == yaml.load(spec_folder() / name)


# ------------------------------------------------------------------------ Zarr


@pytest.fixture
def zarr_table(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The table, read with zarr alone."""
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("hdmf_zarr")

    def read(path: Path) -> dict[str, list[Any]]:
        for group in (zarr.open_consolidated(str(path)), zarr.open_group(str(path), mode="r")):
            table = group[MANIFEST_PATH]
            found = {name: table[name][...].tolist() for name in table.attrs["colnames"]}
        return found

    return read


@pytest.mark.parametrize("mode", ["copy", "symlink"])
def test_manifest_in_zarr(tmp_path: Path, source: Path, video_files: Path, zarr_table: Any, mode: str) -> None:
    """Exported to Zarr, exported again, edited in place, and read by hdmf-zarr."""
    from hdmf_zarr import NWBZarrIO

    from nwb_extfiles import NWBExtFilesZarrIO

    first, second = tmp_path / "one" / "b.nwb.zarr", tmp_path / "two" / "c.nwb.zarr"
    arguments: dict[str, Any] = dict(relocate_media=True, media_mode=mode)
    with quiet():
        with NWBHDF5IO(source, "r") as src, NWBExtFilesZarrIO(str(first), mode="w") as io:
            io.export(src_io=src, write_args=dict(link_data=False), media_options=RECORD, **arguments)
        assert zarr_table(first)["original_name"] == list(VIDEOS)
        with NWBZarrIO(str(first), mode="r") as src, NWBExtFilesZarrIO(str(second), mode="w") as io:
            io.export(src_io=src, write_args=dict(link_data=False), **arguments)
        with NWBZarrIO(str(second), mode="r") as io:
            frame = io.read().lab_meta_data["external_files"].manifest.to_dataframe()
    found = zarr_table(second)
    assert found["original_name"] == list(VIDEOS) == frame.original_name.tolist()
    assert [text.split("/")[0] for text in found["path"]] == ["c", "c"]
    for text, sha256 in zip(found["path"], found["sha256"], strict=True):
        assert digest(second.parent / text) == sha256


def test_foreign_columns_in_zarr(tmp_path: Path, source: Path, zarr_table: Any) -> None:
    import zarr

    from nwb_extfiles import NWBExtFilesZarrIO

    store = tmp_path / "one" / "b.nwb.zarr"
    with quiet(), NWBHDF5IO(source, "r") as src, NWBExtFilesZarrIO(str(store), mode="w") as io:
        arguments: dict[str, Any] = dict(write_args=dict(link_data=False), media_options=RECORD, relocate_media=True)
        io.export(src_io=src, **arguments)
    columns = zarr.open_group(str(store), mode="r+")[MANIFEST_PATH]
    columns.create_dataset("exposure", data=[1.5, 2.5]).attrs.put(columns["width"].attrs.asdict())
    columns.attrs["colnames"] = [*columns.attrs["colnames"], "exposure"]
    zarr.consolidate_metadata(str(store))
    renamed = store.rename(store.with_name("c.nwb.zarr"))
    relocate(renamed)
    found = zarr_table(renamed)
    assert found["exposure"] == [1.5, 2.5]
    assert [text.split("/")[0] for text in found["path"]] == ["c", "c"]
    assert list(found)[-1] == "exposure"


def replace_column(path: Path, name: str, **storage: Any) -> None:
    with h5py.File(path, "r+") as file:
        columns = file[MANIFEST_PATH]
        attributes = dict(columns[name].attrs)
        del columns[name]
        columns.create_dataset(name, **storage)
        columns[name].attrs.update(attributes)


@pytest.mark.parametrize("name", ["index", "path"])
def test_columns_larger_than_memory(tmp_path: Path, source: Path, name: str) -> None:
    target = tmp_path / "out" / "b.nwb"
    export(source, target)
    dtype = "i4" if name == "index" else h5py.string_dtype()
    replace_column(target, name, shape=(10**12,), chunks=(1000,), dtype=dtype)
    with pytest.raises(ValueError, match="rows"):
        relocate(target)


def test_columns_in_other_files_are_not_read(tmp_path: Path, source: Path) -> None:
    """They could be an endless pipe, or secret files."""
    target = tmp_path / "out" / "b.nwb"
    export(source, target)
    replace_column(target, "index", shape=(2,), dtype="i4", external=[(str(tmp_path / "secret"), 0, 8)])
    with pytest.raises(ValueError, match="other files"):
        relocate(target)


def test_missing_column_is_named(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out" / "b.nwb"
    export(source, target)
    with h5py.File(target, "r+") as file:
        del file[MANIFEST_PATH]["sha256"], file[MANIFEST_PATH]["width"]  # width may be missing
    with pytest.raises(ValueError, match="it has no column 'sha256'; correct or remove it"):
        relocate(target)


@pytest.mark.parametrize("location", [None, "nowhere", 5])
def test_schemas_with_unknown_location(tmp_path: Path, source: Path, video_files: Path, location: Any) -> None:
    with h5py.File(source, "r+") as file:
        del file["specifications"]
        if location is not None:
            file.attrs[".specloc"] = location
    relocate(source, "copy", media_options=RECORD)
    assert_right(source, video_files)
    with NWBHDF5IO(source) as io:
        assert len(io.read().lab_meta_data["external_files"].manifest) == len(VIDEOS)
    assert validate(path=source) == []


def test_file_names_not_utf8(tmp_path: Path, video_files: Path) -> None:
    """pynwb can still read the table."""
    video = tmp_path / name_of_bytes(b"caf\xe9.avi")
    try:
        shutil.copy(video_files / VIDEOS[0], video)
    except OSError:
        pytest.skip("the file system takes no such name")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([video]))
    target = tmp_path / "out" / "b.nwb"
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=RECORD)
    with NWBHDF5IO(target) as io:
        frame = io.read().lab_meta_data["external_files"].manifest.to_dataframe()
    assert list(frame.original_name) == ["caf\N{REPLACEMENT CHARACTER}.avi"]


def test_objects_without_object_id(tmp_path: Path, video_files: Path) -> None:
    """As in very old files. Each object keeps its own video."""
    target, nwbfile = tmp_path / "a.nwb", new_nwbfile()
    for name, video in zip(("first", "second"), VIDEOS, strict=True):
        nwbfile.add_acquisition(image_series([video_files / video], name))
    with NWBHDF5IO(target, "w") as io:
        io.write(nwbfile)
    with h5py.File(target, "r+") as file:
        for name in ("first", "second"):
            del file["acquisition"][name].attrs["object_id"]
    for _ in range(2):
        relocate(target, "copy", media_options=RECORD)
        assert table(target)["original_name"] == list(VIDEOS)
        assert not [entry for entry in check(target, checksums=True) if entry.code == "stale-manifest"]


def test_second_call_adds_rows(tmp_path: Path, video_files: Path) -> None:
    """Also a call without `manifest=True`: an incomplete table would look complete."""
    target, nwbfile = tmp_path / "a.nwb", new_nwbfile()
    nwbfile.add_acquisition(image_series([video_files / VIDEOS[0]], "first"))
    with NWBExtFilesHDF5IO(target, "w") as io:
        io.write(nwbfile, relocate_media=True, media_options=RECORD)
        nwbfile.add_acquisition(image_series([video_files / VIDEOS[1]], "second"))
        io.write(nwbfile, relocate_media=True)
    assert table(target)["original_name"] == list(VIDEOS)


def add_column(path: Path, name: str = "camera") -> list[str]:
    """Add a column as `DynamicTable.add_column` of pynwb does."""
    values = ["left", "right"]
    with quiet(), NWBHDF5IO(path, "r+") as io:
        nwbfile = io.read()
        nwbfile.lab_meta_data["external_files"].manifest.add_column(name, "Which camera it was", data=values)
        io.write(nwbfile)
    return values


def by_relocate(path: Path) -> Path:
    renamed = path.rename(path.with_name("renamed.nwb"))
    relocate(renamed)
    return renamed


def by_organize(path: Path) -> Path:
    return organize([path], path.parent / "dandiset").files[0].target


def by_export(path: Path) -> Path:
    target = path.parent / "again" / "c.nwb"
    with quiet(), NWBHDF5IO(path, "r") as src, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src, relocate_media=True)
    return target


@pytest.mark.parametrize("way", [by_relocate, by_organize, by_export])
def test_foreign_columns_are_kept(tmp_path: Path, source: Path, way: Callable[[Path], Path]) -> None:
    target = tmp_path / "out" / "b.nwb"
    export(source, target)
    ours = list(table(target))
    values = add_column(target)
    target = way(target)
    found = table(target)
    assert list(found) == [*ours, "camera"]
    assert found["camera"] == values
    assert found["path"] == stored_paths(target)
    assert all(text.startswith(f"{target.stem}/") for text in found["path"])
    with quiet(), NWBHDF5IO(target, "r") as io:
        frame = io.read().lab_meta_data["external_files"].manifest.to_dataframe()
    assert frame.camera.tolist() == values
    with h5py.File(target) as file:
        assert file[MANIFEST_PATH]["camera"].attrs["description"] == "Which camera it was"


@pytest.mark.parametrize("way", [by_relocate, by_organize, by_export])
def test_foreign_columns_of_added_rows(tmp_path: Path, source: Path, way: Callable[[Path], Path]) -> None:
    """It is unknown what to write there for another video, and which row belongs to which reference."""
    target = tmp_path / "out" / "b.nwb"
    export(source, target)
    add_column(target)
    with h5py.File(target, "r+") as file:
        series = file["acquisition/video"]
        third = "../video_files/test1_0.avi"
        paths = [*series["external_file"].asstr()[()], third]
        attributes = {"starting_frame": [0, 10, 20]}
        del series["external_file"]
        series.create_dataset("external_file", data=paths, dtype=h5py.string_dtype()).attrs.update(attributes)
    before = digest(target)
    message = r"(b|c|renamed)\.nwb: /general/external_files/manifest has further columns, 'camera'"
    with pytest.raises(ExternalFilesError, match=message):
        way(target)
    assert digest(target if target.exists() else target.with_name("renamed.nwb")) == before
    assert sum(path.suffix == ".nwb" for path in target.parent.rglob("*")) == 1


def test_changed_videos_are_reported(tmp_path: Path, source: Path) -> None:
    """The update of the table would remove the checksum of the right video."""
    target = tmp_path / "out" / "b.nwb"
    export(source, target)
    first, second = (target.parent / text for text in stored_paths(target))
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="the manifest described") as caught:
        relocate(target, "copy")
    assert len(caught) == 1
    assert table(target)["original_name"] == list(VIDEOS)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.warns(UserWarning, match="the manifest described"):
        relocate(target, "copy")
    assert table(target)["original_name"] == list(reversed(VIDEOS))  # each with its video


@pytest.mark.filterwarnings("ignore:2 media files stay outside the dandiset")
@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink", "reference", "move"])
def test_progress_ends_at_its_total(tmp_path: Path, source: Path, video_files: Path, mode: str) -> None:
    told: list[tuple[int, int]] = []
    options = dict(manifest=True, progress=lambda done, total: told.append((done, total)))
    target = tmp_path / "out" / "a.nwb"
    shutil.move(source.parent, target.parent)

    def assert_ends() -> None:
        assert all(done <= total for done, total in told)
        assert told[-1][0] == told[-1][1] > 0
        told.clear()

    relocate(target, mode, media_options=options)
    assert_ends()
    relocate(target, mode, media_options=options)
    assert all(done == total for done, total in told)  # there was nothing to do
    organize(target, tmp_path / "dandiset", files_mode="move", media_mode=mode, media_options=options)
    assert_ends()


def test_progress_of_a_known_video(tmp_path: Path, video_files: Path) -> None:
    told: list[tuple[int, int]] = []
    options = dict(manifest=True, progress=lambda done, total: told.append((done, total)))
    nwbfile = new_nwbfile()
    with NWBExtFilesHDF5IO(tmp_path / "a.nwb", "w") as io:
        for name in ("first", "second"):
            nwbfile.add_acquisition(image_series([video_files / VIDEOS[0]], name))
            io.write(nwbfile, relocate_media=True, media_mode="symlink", media_options=options)
            assert told[-1][0] == told[-1][1] > 0


def test_move_to_another_file_system_reads_once(
    tmp_path: Path, source: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwb_extfiles.disk.links.link_exclusive", lambda *_: False)
    read = []
    monkeypatch.setattr("nwb_extfiles.plans.plan.RelocationPlan.copied", property(
        lambda plan: iter([entry.source for entry in plan.relocations if entry.source])
    ))  # fmt: skip
    monkeypatch.setattr("nwb_extfiles.disk.contents.digest_of", lambda path, **_: read.append(path))
    before = [digest(video_files / name) for name in VIDEOS]
    relocate(source, "move", media_options=RECORD)
    assert not read
    assert table(source)["sha256"] == before


def test_video_growing_while_read(source: Path, video_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nwb_extfiles.disk.contents import digest_of

    def growing(path: Path, **keywords: Any) -> str:
        with open(path, "ab") as video:
            video.write(b"more")
        return digest_of(path, **keywords)

    monkeypatch.setattr("nwb_extfiles.disk.contents.digest_of", growing)
    before = stored_paths(source)
    with pytest.raises(OSError, match="changed while it was read"):
        relocate(source, media_options=RECORD)
    assert stored_paths(source) == before


def codes(frame: FrameType | None) -> Iterator[CodeType]:
    """What a thread is in the midst of."""
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupt_while_media_are_copied(
    tmp_path: Path,
    source: Path,
    video_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The NWB file is written long before. The copying thread must stop, and leave nothing behind."""
    monkeypatch.setattr(writing, "_WORTH_A_THREAD", 0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    main, cancelled, cancel = threading.main_thread().ident or 0, threading.Event(), StagedMedia.cancel
    monkeypatch.setattr(StagedMedia, "cancel", lambda self: (cancel(self), cancelled.set()))
    with open(video_files / VIDEOS[0], "ab") as video:
        video.truncate(20 * 1024 * 1024)
    told: list[int] = []

    def interrupt(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 1:
            while threads._wait_until.__code__ not in codes(sys._current_frames()[main]):  # it waits for this thread
                time.sleep(0.01)
            signal.pthread_kill(main, signal.SIGINT)
            assert cancelled.wait(100)

    with pytest.raises(KeyboardInterrupt):
        export(source, tmp_path / "out" / "b.nwb", options=dict(manifest=True, progress=interrupt))
    assert len(told) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("meanwhile")]
    assert not (tmp_path / "out").exists()


def test_container_class_names() -> None:
    from nwb_extfiles import ndx

    assert ndx.ExternalFileManifest.__name__ == "ExternalFileManifest"
    assert ndx.ExternalFilesMetaData.__mro__[1].__name__ == "LabMetaData"


def test_nothing_to_do_changes_nothing(tmp_path: Path, source: Path, video_files: Path) -> None:
    """A file with a correct manifest is not changed, even if it is read-only."""
    relocate(source, "copy", media_options=RECORD)
    before = source.read_bytes(), source.stat().st_mtime_ns
    source.chmod(0o444)
    told: list[tuple[int, int]] = []
    relocate(source, "copy", media_options=dict(progress=lambda done, total: told.append((done, total))))
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    assert told == []  # no video was read

"""What `check` finds, compared with what NWB Inspector and dandi find in the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdmf.build.errors import ConstructError
from helpers import (
    image_series,
    make_video,
    needs_symlink,
    new_nwbfile,
    set_paths,
    stored_paths,
    taking_at_most,
    tree,
    write_nwb,
)
from makers import Media, make_media, run_maker, write_everywhere
from pynwb import NWBHDF5IO
from pynwb.base import ExternalImage, Images

import nwb_extfiles
from nwb_extfiles import relocate
from nwb_extfiles.tasks.check.findings import Finding, Severity

DATASET = "acquisition/video/external_file"
ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
UTF8 = h5py.string_dtype()
check = partial(nwb_extfiles.check, frames="none")  # most media here are no videos


@pytest.fixture(params=[False, True], ids=["anywhere", "dandiset"])
def in_dandiset(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def scene(tmp_path: Path, *paths: str, dandiset: bool = False) -> Path:
    """Make an NWB file in ``set/sub-a`` with these paths, and videos in ``videos`` and ``set/videos``."""
    make_media(tmp_path / "videos" / "a.avi")
    make_media(tmp_path / "set" / "videos" / "a.avi")
    if dandiset:
        (tmp_path / "set" / "dandiset.yaml").write_text("identifier: DANDI:000000\n")
    return write_nwb(tmp_path / "set" / "sub-a" / "sub-a.nwb", paths)


def found(*paths: Path, **options: Any) -> list[tuple[str, Severity]]:
    before = [tree(path.parent if path.is_file() else path) for path in paths]
    findings = list(check(paths, **options))
    assert [tree(path.parent if path.is_file() else path) for path in paths] == before
    return [(finding.code, finding.severity) for finding in findings]


def only(path: Path, **options: Any) -> Finding:
    (finding,) = check(path, **options)
    return finding


# ----------------------------------------------------------------- single paths


@pytest.mark.parametrize(
    ("text", "code", "here", "there"),
    [
        ("gone.avi", "missing", ERROR, ERROR),
        ("/nowhere/at/all.avi", "missing-absolute", ERROR, ERROR),
        ("C:\\lab\\a.avi", "missing-absolute", ERROR, ERROR),
        ("file:///nowhere/a.avi", "missing-absolute", ERROR, ERROR),
        ("file://another.host/share/a.avi", "missing-absolute", ERROR, ERROR),
        ("", "no-media", ERROR, ERROR),
        ("../sub-a", "no-media", ERROR, ERROR),
        ("/", "no-media", ERROR, ERROR),
        ("https://example.org/a.mp4", "url", WARNING, ERROR),
        ("../../videos/a.avi", "outside-nwb-folder", WARNING, ERROR),
        ("../videos/a.avi", "outside-nwb-folder", WARNING, ERROR),
        ("{}/videos/a.avi", "absolute-path", WARNING, ERROR),
        ("file://{}/videos/a.avi", "absolute-path", WARNING, ERROR),
        ("..\\videos\\a.avi", "backslash", ERROR, ERROR),
        ("cafe\u0301.avi", "unicode", ERROR, ERROR),
        ("near.avi", "nonstandard-name", INFO, WARNING),
        ("./near.avi", "nonstandard-name", INFO, WARNING),
        ("x/../near.avi", "nonstandard-name", INFO, WARNING),
        ("near.AVI", "suffix", WARNING, ERROR),
        ("near.h264", "suffix", WARNING, ERROR),
        ("near", "suffix", WARNING, ERROR),
        (".hidden/near.avi", "hidden", WARNING, ERROR),
        ("linked/near.avi", "linked-folder", WARNING, ERROR),
        ("empty.avi", "empty", ERROR, ERROR),
        ("\udcff\x1b[31m.avi", "missing", ERROR, ERROR),
        ("x" * 100_000, "missing", ERROR, ERROR),
    ],
)
def test_finding_of_each_kind_of_path(
    tmp_path: Path, in_dandiset: bool, text: str, code: str, here: Severity, there: Severity
) -> None:
    path = scene(tmp_path, "a.avi", dandiset=in_dandiset)
    folder = path.parent
    for name in ("near.avi", "near.AVI", "near.h264", "near", ".hidden/near.avi", "x/y.avi", "real/near.avi"):
        make_media(folder / name)
    make_media(folder / "caf\u00e9.avi")
    (folder / "linked").symlink_to("real")
    (folder / "empty.avi").touch()
    value = text.format(tmp_path).encode("utf-8", "surrogateescape")
    set_paths(path, DATASET, np.array([value], dtype=object), dtype=UTF8)
    findings = [finding for finding in check(path) if finding.code != "nonstandard-name" or code == "nonstandard-name"]
    if code == "outside-nwb-folder" and in_dandiset and text == "../../videos/a.avi":
        code = "outside-dandiset"
    assert [(finding.code, finding.severity) for finding in findings] == [(code, there if in_dandiset else here)]
    (finding,) = findings
    assert (finding.nwb_path, finding.object_path, finding.neurodata_type, finding.field, finding.index) == (
        str(path),
        "/acquisition/video",
        "ImageSeries",
        "external_file",
        0,
    )
    assert finding.stored_path == value.decode("utf-8", "surrogateescape")
    assert len(finding.message) < 1000


@pytest.mark.parametrize("mode", ["symlink", "copy"])
def test_relocated_file_has_no_findings(tmp_path: Path, in_dandiset: bool, mode: str) -> None:
    path = scene(tmp_path, "../videos/a.avi", dandiset=in_dandiset)
    relocate(path, mode)
    assert found(path) == []
    assert found(tmp_path / "set") == []


def test_every_type_is_checked(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    path = write_everywhere(tmp_path / "nwb" / "a.nwb", media)
    paths = sum(map(len, media.places.values()))
    assert [code for code, _ in found(path)].count("outside-nwb-folder") == paths
    relocate(path, "copy")
    assert found(tmp_path) == []
    shutil.rmtree(tmp_path / "nwb" / "a")
    assert [code for code, _ in found(path)] == ["missing"] * paths
    assert {finding.neurodata_type for finding in check(path)} >= {"ImageSeries", "ExternalImage", "ImageMaskSeries"}


def test_pose_estimation_videos_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "nwb" / "a.nwb"
    run_maker("pose", path)
    codes = [(finding.code, finding.field) for finding in check(path) if finding.neurodata_type == "PoseEstimation"]
    assert codes.count(("outside-nwb-folder", "labeled_videos")) == 3
    assert codes.count(("outside-nwb-folder", "original_videos")) == 2
    assert codes.count(("absolute-path", "original_videos")) == 1
    relocate(path, "copy")
    assert found(path) == []  # lists may share the videos of a series
    with h5py.File(path, "r+") as file:
        values = file["processing/behavior/PoseEstimation/original_videos"]
        values[0] = "elsewhere/" + values.asstr()[0].rpartition("/")[2]
    assert found(path) == [("missing", ERROR)]


def test_registered_fields_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "nwb" / "a.nwb"
    run_maker("extension", path)
    shutil.rmtree(tmp_path / "media")
    few = [finding for finding in check(path) if finding.code == "missing"]
    more = [f for f in check(path, media_options={"media_fields": [("VideoArchive", "video_paths")]}) if f not in few]
    assert few
    assert {finding.field for finding in more if finding.code == "missing"} == {"video_paths"}


@needs_symlink
def test_dangling_link_is_reported(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    relocate(path)
    (tmp_path / "set" / "videos" / "a.avi").unlink()
    finding = only(path)
    assert (finding.code, finding.severity) == ("missing", ERROR)
    assert "it is a symbolic link to '../../videos/a.avi', which does not exist" in finding.message


def test_values_that_are_not_strings_are_reported(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    set_paths(path, DATASET, np.array([1]))
    assert found(path) == [("not-a-string", ERROR)]
    with h5py.File(path, "r+") as file:
        del file[DATASET]
        file[DATASET] = h5py.SoftLink("/nowhere")
    assert found(path) == [("not-a-string", ERROR)]


def test_invalid_object_ids_are_reported(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    make_media(path.parent / "near.avi")
    set_paths(path, DATASET, ["near.avi"], dtype=UTF8)
    for bad in ("../../x", None):
        with h5py.File(path, "r+") as file:
            del file["acquisition/video"].attrs["object_id"]
            if bad is not None:
                file["acquisition/video"].attrs["object_id"] = bad
        assert found(path) == ([] if bad is None else [("object-id", INFO)])


def test_same_video_under_two_names_is_reported(tmp_path: Path) -> None:
    path = scene(tmp_path, *["../videos/a.avi"] * 2)
    assert "same-media" not in [code for code, _ in found(path)]  # one name
    shutil.copy(tmp_path / "videos" / "a.avi", tmp_path / "set" / "videos" / "copy.avi")
    os.link(tmp_path / "set" / "videos" / "a.avi", tmp_path / "set" / "videos" / "link.avi")
    (tmp_path / "set" / "videos" / "other.avi").write_bytes(b"other " + b"x" * 244)
    set_paths(path, DATASET, [f"../videos/{name}.avi" for name in ("a", "copy", "link", "other")], dtype=UTF8)
    findings = [finding for finding in check(path) if finding.code == "same-media"]
    assert [(finding.index, finding.severity) for finding in findings] == [(1, INFO), (2, INFO)]
    assert "the same size, beginning and end" in findings[0].message
    assert "it is the video of" in findings[1].message


def test_single_string_is_reported_where_a_list_is_wanted(tmp_path: Path) -> None:
    """pynwb cannot read such a file, and can when the advice was followed."""
    path = scene(tmp_path, "../videos/a.avi")
    set_paths(path, DATASET, "../videos/a.avi", dtype=UTF8)
    with pytest.raises(ConstructError), NWBHDF5IO(path, "r") as io:
        io.read()
    assert found(path) == [("not-a-list", ERROR), ("outside-nwb-folder", WARNING)]
    assert found(path, media_options={"media_fields": [("ImageSeries", "format")]})[0] == ("not-a-list", ERROR)
    with h5py.File(path, "r+") as file:
        attributes = dict(file[DATASET].attrs)
        (value,) = [file[DATASET].asstr()[()]]
        del file[DATASET]
        file.create_dataset(DATASET, data=[value], dtype=UTF8)
        file[DATASET].attrs.update(attributes)
    assert found(path) == [("outside-nwb-folder", WARNING)]
    with NWBHDF5IO(path, "r") as io:
        assert list(io.read().acquisition["video"].external_file) == ["../videos/a.avi"]


def test_finding_is_data(tmp_path: Path) -> None:
    """What is wrong is the same sentence for all findings of a kind; what was found and expected is apart from it."""
    path = scene(tmp_path, "gone.avi", "../lost.avi")
    first, second = check(path)
    assert first.what == second.what == "there is no file"
    assert [first.expected, second.expected] == [
        repr(str(place)) for place in (path.parent / "gone.avi", tmp_path / "set" / "lost.avi")
    ]
    assert first.found is None
    assert str(first.message) == f"there is no file; expected {first.expected}; {first.hint}"
    assert str(first).startswith(f"ERROR missing: {path}: ImageSeries '/acquisition/video', external_file[0]: there is")


# -------------------------------------------------------------------- files


def test_findings_can_be_looked_at_twice(tmp_path: Path) -> None:
    path = scene(tmp_path, "gone.avi", "../videos/a.avi")
    findings = check(path)
    assert [finding.code for finding in findings] == ["missing", "outside-nwb-folder"]
    assert [finding.code for finding in findings] == ["missing", "outside-nwb-folder"]
    assert findings.nwb_paths == (path,)
    assert findings.summary == "1 NWB file: 1 error, 1 warning"


def test_filtered_findings_say_what_is_left_out(tmp_path: Path) -> None:
    findings = check(scene(tmp_path, "gone.avi", "../videos/a.avi"), frames="none")
    some = findings.filtered(ignore=["missing"])
    assert some.summary == "1 NWB file: 1 warning (1 finding left out)"
    assert some.filtered(select=["media-"]).summary == "1 NWB file: no such findings (2 findings left out)"
    assert list(findings.filtered(select="missing")) == list(findings.filtered(select=["missing"])) == findings[:1]
    for unknown in ({"select": ["missing_absolute"]}, {"ignore": ["missing_absolute"]}):
        with pytest.raises(ValueError, match="'missing_absolute'; did you mean 'missing-absolute'"):
            findings.filtered(**unknown)


def test_findings_are_shown_worst_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    findings = check(scene(tmp_path, "../videos/a.avi", "gone.avi"), frames="none")
    assert [finding.code for finding in findings] == ["outside-nwb-folder", "missing"]
    assert [line.split()[1] for line in str(findings).splitlines()[2:]] == ["missing", "outside-nwb-folder"]
    assert list(findings.to_dataframe()["code"]) == ["outside-nwb-folder", "missing"]


def test_paths_that_do_not_exist_raise_at_once(tmp_path: Path) -> None:
    for paths in (tmp_path / "nowhere.nwb", [tmp_path, tmp_path / "nowhere"]):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            check(paths)


def test_processes_find_the_same(tmp_path: Path) -> None:
    path = scene(tmp_path, "gone.avi")
    relocate(scene(tmp_path / "b", "../videos/a.avi"), "copy", media_options={"manifest": True})
    path.with_name("bad.nwb").write_bytes(b"no HDF5")
    counts: dict[int, list[int]] = {1: [], 2: []}
    one, two = (check(tmp_path, checksums=True, jobs=jobs, on_bytes=counts[jobs].append) for jobs in counts)
    assert [str(finding) for finding in one] == [str(finding) for finding in two]
    assert one.nwb_paths == two.nwb_paths
    assert len(one) > 2
    assert sum(counts[1]) == sum(counts[2]) > 0


def test_unreadable_files_do_not_hide_findings(tmp_path: Path) -> None:
    path = scene(tmp_path, "gone.avi")
    path.with_name("a.nwb").write_bytes(b"no HDF5")
    path.with_name("z.nwb").write_bytes(path.read_bytes()[:3000])
    path.with_name("y.nwb").symlink_to("nowhere.nwb")
    path.with_name("notes.txt").write_text("no NWB file")
    assert found(tmp_path) == [("unreadable", ERROR), ("missing", ERROR), ("unreadable", ERROR), ("unreadable", ERROR)]


def test_folder_without_nwb_files_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list(check(tmp_path / "nowhere"))
    assert found(tmp_path) == [("no-nwb-files", ERROR)]


def test_hdf5_file_that_is_not_nwb_is_reported(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.nwb", "w") as file:
        file["a"] = 1
    finding = only(tmp_path / "x.nwb")
    assert (finding.code, finding.severity) == ("unreadable", ERROR)
    assert "is not an NWB file" in finding.message


def interrupt(path: Path) -> None:
    """Kill a relocation while it edits the NWB file."""
    code = (
        "import os, sys; from nwb_extfiles.disk import journal; from nwb_extfiles import relocate\n"
        "journal._write_at = lambda *rest: os._exit(9)\nrelocate(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9


def test_interrupted_edit_is_reported(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    interrupt(path)
    assert ("interrupted-edit", ERROR) in found(path)


@needs_symlink
@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_edit_is_reported_once_among_many_files(tmp_path: Path, jobs: int) -> None:
    """Under a new name, through a linked folder, and through a link to the file."""
    path = scene(tmp_path, "../videos/a.avi")
    for number in range(40):
        shutil.copy(path, path.with_name(f"m{number}.nwb"))
    interrupt(path)
    renamed = path.rename(path.with_name("m20b.nwb"))
    (tmp_path / "alias").symlink_to(path.parent, target_is_directory=True)
    (tmp_path / "link.nwb").symlink_to(renamed)
    named = [path.parent, tmp_path / "alias" / renamed.name, tmp_path / "link.nwb"]
    findings = check(named, jobs=jobs).filtered(select="interrupted-edit")
    assert [finding.nwb_path for finding in findings] == [str(renamed), *map(str, named[1:])]


def test_folder_with_many_files_is_not_listed_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    listed: list[str] = []
    scandir = os.scandir

    def counting(folder: Any) -> Any:
        listed.append(os.path.realpath(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", counting)
    counts = []
    for total in (2, 20):
        for number in range(total):
            shutil.copy(path, path.with_name(f"m{number}.nwb"))
        listed.clear()
        check(path.parent)
        counts.append(listed.count(str(path.parent)))
    assert counts[0] == counts[1]


def test_zarr_stores_are_checked(tmp_path: Path) -> None:
    pytest.importorskip("hdmf_zarr")
    from zarr_makers import write_store

    write_store(tmp_path / "a.nwb.zarr", ["gone.avi"])
    assert found(tmp_path) == [("missing", ERROR)]


# ------------------------------------------------------------------ orphans


def test_orphans_are_reported(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    relocate(path, "copy")
    home = path.parent / "sub-a"
    for name in ("old.avi", "deep/er/old.png", ".DS_Store", ".cache/x.avi"):
        make_media(home / name)
    (home / "dangling.avi").symlink_to("nowhere")
    (home / "folder").symlink_to(tmp_path / "videos")
    findings = list(check(path))
    assert {(finding.code, finding.severity) for finding in findings} == {("orphan", WARNING)}
    named = [next(name for name in finding.message.split("'") if name.startswith("sub-a")) for finding in findings]
    assert sorted(named) == ["sub-a/dangling.avi", "sub-a/deep/er/old.png", "sub-a/folder", "sub-a/old.avi"]
    (tmp_path / "alias").symlink_to("set")  # another spelling of the folder
    assert len(list(check(tmp_path / "alias" / "sub-a" / "sub-a.nwb"))) == 4


def test_referenced_media_are_not_orphans_in_any_spelling(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    (home := path.parent / "sub-a").mkdir()
    for name in "abcd":
        make_media(home / f"{name}.avi")
    (home / "link.avi").symlink_to("d.avi")
    paths = ["./sub-a/a.avi", "sub-a\\b.avi", str(home / "c.avi"), "sub-a/x/../link.avi", "sub-a/d.avi"]
    set_paths(path, DATASET, paths, dtype=UTF8)
    assert "orphan" not in [code for code, _ in found(path)]


def test_no_media_folder_means_no_orphans(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    (path.parent / "sub-a").write_text("a file")
    assert "orphan" not in [code for code, _ in found(path)]


def test_media_folder_of_renamed_nwb_file(tmp_path: Path) -> None:
    path = scene(tmp_path, "../videos/a.avi")
    relocate(path, "copy")
    path = path.rename(path.with_name("sub-b.nwb"))
    findings = found(tmp_path, tmp_path / "set")
    assert findings == [("nonstandard-name", INFO), ("no-nwb-file", WARNING)]
    what = "this folder holds media, but there is no 'sub-a.nwb' beside it (1 file)"
    assert what in check(tmp_path / "set")[-1].message
    relocate(path)
    assert found(tmp_path) == []


def test_two_thousand_references_are_quick(tmp_path: Path) -> None:
    nwbfile = new_nwbfile()
    for number in range(200):
        nwbfile.add_acquisition(image_series([f"videos/{number}_{n}.avi" for n in range(10)], f"s{number}"))
        for n in range(10):
            make_media(tmp_path / "videos" / f"{number}_{n}.avi")
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    with taking_at_most(5):
        assert len(list(check(tmp_path))) == 2000


# ---------------------------------------- compared with NWB Inspector and dandi


def others(path: Path) -> set[str]:
    """The errors about media that NWB Inspector reports, configured as DANDI does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        from nwbinspector import Importance, inspect_nwbfile, load_config

        config = load_config("dandi")
        return {
            message.check_function_name
            for message in inspect_nwbfile(nwbfile_path=path, config=config)
            if "image_series_external_file" in message.check_function_name
            and message.importance.value >= Importance.CRITICAL.value
        }


def validates(dandiset: Path) -> bool:
    """Whether `dandi validate` accepts a dandiset."""
    command = [sys.executable, "-c", "from dandi.cli.command import main; main()", "validate", str(dandiset)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


BROKEN = {
    # what is wrong: (our code, whether nwbinspector has an error, whether `dandi validate` refuses)
    "a video that is gone": ("missing", True, True),
    "a URL": ("url", True, True),
    "a dead absolute path": ("missing-absolute", False, False),
    "a path out of the dandiset": ("outside-dandiset", False, False),
    "an image that is gone": ("missing", False, False),
    "a suffix that is dropped": ("suffix", False, False),
    "a folder that is a link": ("linked-folder", False, False),
    "an empty video": ("empty", False, False),
}


@pytest.mark.parametrize("what", BROKEN)
def test_agrees_with_nwbinspector_and_dandi(tmp_path: Path, what: str) -> None:
    code, inspector, dandi = BROKEN[what]
    video = make_media(tmp_path / "videos" / "a.avi")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dandiset.yaml").write_text("identifier: DANDI:000000\n")
    path = tmp_path / "set" / "sub-mouse0" / "sub-mouse0_ses-sessionid0_image.nwb"
    path.parent.mkdir()
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["../../videos/a.avi"]))
    image = ExternalImage(name="image", data=str(make_media(tmp_path / "videos" / "p.png")), image_format="PNG")
    nwbfile.add_acquisition(Images(name="images", description="images", images=[image]))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    relocate(path, "copy")
    assert found(tmp_path / "set") == []
    (text,) = stored_paths(path)
    changed = {
        "a URL": "https://example.org/a.mp4",
        "a dead absolute path": Path(os.path.abspath("/nowhere/a.avi")).as_posix(),
        "a path out of the dandiset": "../../videos/a.avi",
        "a suffix that is dropped": text.replace(".avi", ".webm"),
        "a folder that is a link": "linked/a.avi",
    }
    if what == "a video that is gone":
        (path.parent / text).unlink()
    elif what == "an image that is gone":
        (path.parent / stored_paths(path, "acquisition/images/image")[0]).unlink()
    elif what == "an empty video":
        (path.parent / text).write_bytes(b"")
    elif what == "a suffix that is dropped":
        (path.parent / text).rename(path.parent / changed[what])
    elif what == "a folder that is a link":
        (path.parent / "linked").symlink_to(video.parent)
    if what in changed:
        set_paths(path, DATASET, [changed[what]], dtype=UTF8)
    assert (code, ERROR) in found(tmp_path / "set")
    assert bool(others(path)) == inspector
    if what in ("a video that is gone", "a dead absolute path", "an image that is gone"):  # each in its own process
        assert validates(tmp_path / "set") != dandi


def test_missing_pyav_is_said_once_whatever_the_number_of_processes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_video(tmp_path / f"{name}.avi")
        write_nwb(tmp_path / f"{name}.nwb", [f"{name}.avi"])
    (tmp_path / "without" / "av").mkdir(parents=True)
    (tmp_path / "without" / "av" / "__init__.py").write_text("raise ModuleNotFoundError('no av', name='av')\n")
    code = (
        "import sys; from nwb_extfiles import check\n"
        "if __name__ == '__main__':\n"
        "    for jobs in (1, 2):\n"
        "        print([one.nwb_path[-5:] for one in check(sys.argv[1], jobs=jobs) if one.code == 'videos-not-read'])\n"
    )
    (tmp_path / "run.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "without"), *sys.path])}
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["['a.nwb']"] * 2

"""Many files brought into a dandiset; judged by what is on disk."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner, Result
from helpers import (
    DEFAULT_MODE,
    MAY_SYMLINK,
    contents,
    digest,
    mounted,
    needs_symlink,
    set_paths,
    stored_paths,
    with_slashes,
)
from helpers import tree as tree_of
from recordings import DATASET, new_ids, object_id, recording, state, video, working_in

from nwb_extfiles import ExternalFilesError, ExternalFilesWarning, organize
from nwb_extfiles.cli import main
from nwb_extfiles.disk import filesystem
from nwb_extfiles.errors import (
    MediaExistsError,
    MissingMediaError,
    PlanError,
    RelocationRefusedError,
    TransferError,
    UnreadableFileError,
    UnsafeReferenceError,
)
from nwb_extfiles.tasks.organize import one_file

MODES = ("copy", "move", "symlink", "hardlink", "reference")
POSSIBLE_MODES = [mode for mode in MODES if mode != "symlink" or MAY_SYMLINK]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two NWB files with two videos each, as in the example."""
    for number in range(2):
        recording(
            tmp_path / "raw" / f"test{number}.nwb",
            [f"../videos/f{number}_0.avi", f"../videos/f{number}_1.avi"],
            subject=f"mouse{number}",
            session=f"s{number}",
        )
    return tmp_path / "raw"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to without being root")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


def run(*arguments: Any, code: int = 0) -> Result:
    """The command line."""
    result = with_slashes(CliRunner().invoke(main, ["organize", *map(str, arguments)]))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result


def quietly(*arguments: Any, **options: Any) -> Any:
    """The function, without its warnings, and without waiting for the disk."""
    options["media_options"] = {"sync": False} | options.get("media_options", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExternalFilesWarning)
        return organize(*arguments, **options)


def target(root: Path, number: int = 0) -> Path:
    return root / f"sub-mouse{number}" / f"sub-mouse{number}_ses-s{number}_image.nwb"


def content_of(videos: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in videos.iterdir()}


def assert_organized(path: Path, expected: list[str], mode: str = "copy") -> None:
    """Each text leads, from beside the NWB file, to a video with that digest; named as DANDI names them."""
    paths = stored_paths(path)
    assert [digest(path.parent / text) for text in paths] == expected
    if mode != "reference":
        suffixes = [Path(text).suffix for text in paths]
        assert paths == [
            f"{path.stem}/{object_id(path)}_external_file_{n}{suffix}" for n, suffix in enumerate(suffixes)
        ]
        assert [(path.parent / text).is_symlink() for text in paths] == [mode == "symlink"] * len(paths)


def assert_no_temporaries(folder: Path) -> None:
    assert [path for path in folder.rglob(".*") if "nwb-extfiles" in path.name] == []


# --------------------------------------------------------------------- the job


@pytest.mark.parametrize("files_mode", ["copy", "move"])
@pytest.mark.parametrize("mode", MODES)
def test_organize_in_every_mode(raw: Path, tmp_path: Path, mode: str, files_mode: str) -> None:
    videos, root = content_of(tmp_path / "videos"), tmp_path / "ds"
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / "videos").iterdir()}
    before = {path.name: (contents(path), path.read_bytes()) for path in raw.iterdir()}
    quietly(raw, root, files_mode=files_mode, media_mode=mode)
    for number in range(2):
        path = target(root, number)
        assert_organized(path, [videos[f"f{number}_{n}.avi"] for n in range(2)], mode)
        if mode in ("move", "hardlink"):
            found = [(path.parent / text).stat().st_ino for text in stored_paths(path)]
            assert found == [inodes[f"f{number}_{n}.avi"] for n in range(2)]
        if mode == "symlink":
            assert all(not os.path.isabs(os.readlink(path.parent / text)) for text in stored_paths(path))
        was = before[f"test{number}.nwb"][0]
        now = contents(path)
        assert {key: value for key, value in now.items() if key != DATASET} == {
            key: value for key, value in was.items() if key != DATASET
        }
    assert sorted(content_of(tmp_path / "videos")) == ([] if mode == "move" else sorted(videos))
    left = {path.name: path.read_bytes() for path in raw.iterdir()}
    assert left == ({} if files_mode == "move" else {name: data for name, (_, data) in before.items()})
    assert_no_temporaries(tmp_path)
    assert not (root / "dandiset.yaml").exists()


@pytest.mark.parametrize("files_mode", ["copy", "move"])
@pytest.mark.parametrize("mode", MODES)
def test_second_run_changes_nothing(raw: Path, tmp_path: Path, mode: str, files_mode: str) -> None:
    """The second run changes nothing at all; where files moved, it has nothing to do."""
    root = tmp_path / "ds"
    quietly(raw, root, files_mode=files_mode, media_mode=mode)
    before = state(tmp_path)
    if files_mode == "copy":
        plan = quietly(raw, root, files_mode=files_mode, media_mode=mode)
        assert all(file.is_done for file in plan) or mode == "reference"
    else:
        with pytest.raises(RelocationRefusedError, match="no NWB file"):
            quietly(raw, root, files_mode=files_mode, media_mode=mode)
    assert state(tmp_path) == before


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "reference"])
def test_second_run_in_place_changes_nothing(raw: Path, tmp_path: Path, mode: str) -> None:
    """A dandiset whose names are right stays as it is."""
    root = tmp_path / "ds"
    quietly(raw, root, files_mode="move", media_mode="move")
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    before = state(tmp_path)
    plan = quietly([], root, files_mode="move", media_mode=mode)
    assert len(plan) == 2
    assert all(file.is_done for file in plan)
    assert state(tmp_path) == before


def test_second_run_in_another_mode(raw: Path, tmp_path: Path) -> None:
    videos, root = content_of(tmp_path / "videos"), tmp_path / "ds"
    for mode in ("symlink", "hardlink", "copy", "move") if MAY_SYMLINK else ("hardlink", "copy", "move"):
        quietly(raw, root, media_mode=mode)
        assert_organized(target(root), [videos["f0_0.avi"], videos["f0_1.avi"]], "symlink" if mode == "symlink" else "")


@pytest.mark.parametrize(
    ("mode", "spelling", "where"),
    [
        *(
            (mode, spelling, where)
            for mode in ("symlink", "reference")
            for spelling in ("relative", "absolute", "dotted", "through a link")
            for where in (".", "raw", "ds", "somewhere/else")
        ),
        *((mode, "relative", "ds") for mode in ("copy", "move", "hardlink")),
    ],
)
def test_any_path_spelling_from_any_working_directory(
    raw: Path, tmp_path: Path, mode: str, spelling: str, where: str
) -> None:
    videos, root = content_of(tmp_path / "videos"), tmp_path / "ds"
    root.mkdir()
    folder = tmp_path / where
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "link").symlink_to(tmp_path)
    spell = {
        "relative": lambda path: os.path.relpath(path, folder),
        "absolute": str,
        "dotted": lambda path: f"./{os.path.relpath(path.parent, folder)}/../{path.parent.name}/{path.name}/",
        "through a link": lambda path: os.path.join(
            os.path.relpath(tmp_path, folder), "link", path.relative_to(tmp_path)
        ),
    }[spelling]
    with working_in(folder):
        run("-d", spell(root), "--media-files-mode", mode, "-q", spell(raw))
    for number in range(2):
        assert_organized(target(root, number), [videos[f"f{number}_{n}.avi"] for n in range(2)], mode)
        for text in stored_paths(target(root, number)):
            assert "link" not in text
            if mode == "symlink":
                assert "link" not in os.readlink(target(root, number).parent / text)


def test_dandiset_is_found_in_parent_folders(raw: Path, tmp_path: Path) -> None:
    root = tmp_path / "ds"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    with working_in(root / "deep" / "er"):
        run(os.path.relpath(raw))
    assert target(root).exists()
    with working_in(tmp_path):
        result = run(raw, code=1)
    assert "there is no dandiset.yaml" in result.stderr


def test_files_and_folders(raw: Path, tmp_path: Path) -> None:
    """One file named twice, and once more in its folder, is one file."""
    (tmp_path / "link").symlink_to(raw)
    plan = organize([raw / "test0.nwb", raw, tmp_path / "link" / "test0.nwb", tmp_path / "link"], tmp_path / "ds")
    assert len(plan) == 2


def test_non_ascii_names(tmp_path: Path) -> None:
    path = recording(tmp_path / "röh" / "大鼠 1.nwb", ["../фильмы/плёнка 1.AVI"], subject="Mäuschen", session="сессия")
    was = digest(path.parent / "../фильмы/плёнка 1.AVI")
    run("-d", tmp_path / "ds", tmp_path / "röh")
    (made,) = (tmp_path / "ds").rglob("*.nwb")
    assert made.name == "sub-Mäuschen_image.nwb"
    assert_organized(made, [was], DEFAULT_MODE)
    assert stored_paths(made)[0].endswith(".avi")


def test_urls_are_kept(tmp_path: Path) -> None:
    recording(tmp_path / "raw" / "a.nwb", ["a.avi", "https://x.org/b.avi", "s3://bucket/c.mp4"])
    quietly(tmp_path / "raw", tmp_path / "ds")
    (made,) = (tmp_path / "ds").rglob("*.nwb")
    assert stored_paths(made)[1:] == ["https://x.org/b.avi", "s3://bucket/c.mp4"]
    assert digest(made.parent / stored_paths(made)[0]) == digest(tmp_path / "raw" / "a.avi")
    result = run("-d", tmp_path / "other", tmp_path / "raw")
    linked = "linked" if MAY_SYMLINK else "hard-linked"
    assert f": 1 video {linked}, 2 videos kept as URLs\n" in result.stdout
    assert f"1 video {linked}, 2 videos kept as URLs, 1 NWB file copied (" in result.stdout
    assert "2 URLs are kept; use --urls download to download the videos" in result.stdout.splitlines()


def test_no_sources(raw: Path, tmp_path: Path) -> None:
    """Files that are not NWB files, and folders without any, are errors that say so."""
    (tmp_path / "empty").mkdir()
    before = state(tmp_path)
    result = run("-d", tmp_path / "ds", raw, tmp_path / "empty", code=1)
    assert "empty: there is no NWB file in this folder" in result.stderr
    assert state(tmp_path) == before
    with h5py.File(raw / "x.nwb", "w") as file:
        file["a"] = 1
    assert "x.nwb: it has no nwb_version, so it is not an NWB file" in run("-d", tmp_path / "ds", raw, code=1).stderr
    assert not (tmp_path / "ds").exists()


def test_fast_path_imports_no_pynwb(raw: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pynwb, hdmf.backends.hdf5 as h\n"
        "def never(*a, **k): raise AssertionError('pynwb was used')\n"
        "pynwb.NWBHDF5IO.__init__ = h.HDF5IO.__init__ = never\n"
        "from nwb_extfiles import organize\n"
        "organize(sys.argv[1], sys.argv[2], media_mode='copy')\n"
    )
    subprocess.run([sys.executable, "-c", code, raw, tmp_path / "ds"], check=True)
    assert target(tmp_path / "ds").exists()


def test_data_is_kept_byte_for_byte(tmp_path: Path) -> None:
    """A file without videos is the same file, bytes and times."""
    path = recording(tmp_path / "raw" / "a.nwb", None)
    with pytest.warns(ExternalFilesWarning, match="no external file"):
        organize(tmp_path / "raw", tmp_path / "ds")
    (made,) = (tmp_path / "ds").rglob("*.nwb")
    assert made.read_bytes() == path.read_bytes()
    assert made.stat().st_mtime_ns == path.stat().st_mtime_ns
    inode = path.stat().st_ino
    with pytest.warns(ExternalFilesWarning, match="no external file"):
        organize(tmp_path / "raw", tmp_path / "other", files_mode="move")
    (moved,) = (tmp_path / "other").rglob("*.nwb")
    assert moved.stat().st_ino == inode
    assert not path.exists()


# ------------------------------------------------------------------- the options


def test_options_that_contradict(raw: Path, tmp_path: Path) -> None:
    before = state(tmp_path)
    run("-d", tmp_path / "ds", "--media-files-mode", "copy", "--keep-external-file-paths", raw, code=2)
    run("-d", tmp_path / "ds", "-f", "symlink", raw, code=2)
    run("-d", tmp_path / "ds", "--media-files-mode", "teleport", raw, code=2)
    run("-d", tmp_path / "ds", code=2)
    run("-d", tmp_path / "ds", raw / "nowhere", code=2)
    for options in (
        dict(media_mode="copy", update_external_file_paths=False),
        dict(files_mode="link"),
        dict(invalid="ignore"),
        dict(required_fields=["nonsense"]),
        dict(jobs=0),
    ):
        with pytest.raises(RelocationRefusedError):
            organize(raw, tmp_path / "ds", **options)
    with pytest.raises(ValueError, match="teleport"):
        organize(raw, tmp_path / "ds", media_mode="teleport")
    with pytest.raises(RelocationRefusedError, match="no NWB files were named"):
        organize([], tmp_path / "ds")
    with pytest.raises(RelocationRefusedError, match="is not a dandiset"):
        organize([], tmp_path / "ds", files_mode="move")
    with pytest.raises(FileNotFoundError):
        organize(tmp_path / "nowhere", tmp_path / "ds")
    with pytest.raises(RelocationRefusedError, match="there is no NWB file"):
        organize(tmp_path / "videos", tmp_path / "ds")
    with pytest.raises(RelocationRefusedError, match="is not a folder"):
        organize(raw, raw / "test0.nwb")
    assert state(tmp_path) == before


def test_dandi_option_values_are_accepted(raw: Path, tmp_path: Path) -> None:
    run(
        "-d", tmp_path / "ds", "--files-mode", "copy", "--update-external-file-paths", "--media-files-mode", "copy",
        "--invalid", "warn", "--required-field", "session_id", "-J", "1", raw,
    )  # fmt: skip
    assert_organized(target(tmp_path / "ds"), [digest(tmp_path / "videos" / f"f0_{n}.avi") for n in range(2)])


def test_keep_external_file_paths_refuses_local_media(raw: Path, tmp_path: Path) -> None:
    recording(raw / "plain.nwb", None, subject="plain")
    recording(raw / "url.nwb", ["https://x.org/a.avi"], subject="url")
    before = state(tmp_path)
    result = run("-d", tmp_path / "ds", "--keep-external-file-paths", raw, code=1)
    assert "test0.nwb" in result.stderr
    assert "test1.nwb" in result.stderr
    assert "plain.nwb" not in result.stderr
    assert state(tmp_path) == before
    run("-d", tmp_path / "ds", "--keep-external-file-paths", raw / "plain.nwb", raw / "url.nwb")
    (made,) = (tmp_path / "ds" / "sub-url").glob("*.nwb")
    assert stored_paths(made) == ["https://x.org/a.avi"]


def test_required_field(tmp_path: Path) -> None:
    recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    run("-d", tmp_path / "ds", "--required-field", "session_id", tmp_path / "raw")
    assert (tmp_path / "ds" / "sub-mouse0" / "sub-mouse0_ses-sessionid0_image.nwb").exists()
    organize(tmp_path / "raw", tmp_path / "ds2", required_fields="session_id")
    assert (tmp_path / "ds2" / "sub-mouse0" / "sub-mouse0_ses-sessionid0_image.nwb").exists()


def test_dry_run_changes_nothing(raw: Path, tmp_path: Path) -> None:
    root = tmp_path / "ds"
    before = state(tmp_path)
    for mode in POSSIBLE_MODES:
        for files_mode in ("copy", "move"):
            result = run("-d", root, "-f", files_mode, "--media-files-mode", mode, "--dry-run", raw)
            assert os.path.join("sub-mouse0", "sub-mouse0_ses-s0_image.nwb") in result.stdout
            run("-d", root, "-f", files_mode, "--media-files-mode", mode, "--dry-run", "--json", raw)
            assert state(tmp_path) == before
    quietly(raw, root)
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    target(root).rename(target(root).with_name("renamed.nwb"))
    before = state(tmp_path)
    for mode in POSSIBLE_MODES:
        run("-d", root, "-f", "move", "--media-files-mode", mode, "--dry-run")
        if mode not in ("reference", "move"):  # the renamed file has links to the videos, which must not go
            run("-d", root, "--media-files-mode", mode, "--dry-run", raw)
        CliRunner().invoke(main, ["relocate", str(target(root).with_name("renamed.nwb")), "--dry-run"])
        assert state(tmp_path) == before


def test_json_report(raw: Path, tmp_path: Path) -> None:
    plans = []
    for dry in (["--dry-run"], []):
        result = CliRunner().invoke(main, ["organize", "-d", str(tmp_path / "ds"), "--json", *dry, str(raw)])
        assert result.exit_code == 0
        plans.append(json.loads(result.stdout))
    assert plans[0] == plans[1]
    (first, second) = plans[0]["files"]
    assert first["source"] == str(raw / "test0.nwb")
    assert first["target"] == str(target(tmp_path / "ds"))
    assert first["bytes"] == (raw / "test0.nwb").stat().st_size
    assert [entry["source"] for entry in second["media"]] == [str(tmp_path / f"videos/f1_{n}.avi") for n in range(2)]
    for entry in first["media"] + second["media"]:
        assert digest(Path(entry["target"])) == digest(Path(entry["source"]))
        assert Path(entry["target"]).is_symlink() == MAY_SYMLINK
        assert entry["mode"] == DEFAULT_MODE
        assert Path(entry["target"]).as_posix().endswith(entry["new_path"])
    total = sum(path.stat().st_size for folder in (raw, tmp_path / "videos") for path in folder.iterdir())
    assert plans[0]["total_bytes"] == total
    assert {"source", "action", "object_id", "field", "index", "stored_path", "bytes", "neurodata_type"} <= set(
        first["media"][0]
    )


@needs_symlink
def test_report_in_words(raw: Path, tmp_path: Path) -> None:
    result = run("-d", tmp_path / "ds", raw)
    size = sum(path.stat().st_size for path in raw.glob("*.nwb"))
    assert f"{tmp_path / 'ds'}: 4 videos linked, 2 NWB files copied ({size:,} bytes)\n" in result.stdout
    assert "ds has no dandiset.yaml, which `dandi upload` needs" in result.stdout
    assert "linked means symbolic links, the default" in result.stdout
    assert run("-d", tmp_path / "ds2", "-q", raw).output == ""
    result = run("-d", tmp_path / "ds", raw)
    assert "4 videos already there, 2 NWB files already there\n" in result.stdout
    assert "symbolic links" not in result.stdout
    for links in ("ds", "ds2"):  # which lead to the videos, so that nothing may move these
        shutil.rmtree(tmp_path / links)
    result = run("-d", tmp_path / "ds3", "--media-files-mode", "move", raw)
    assert "2 NWB files stay behind" in result.stderr


@pytest.mark.parametrize(("mode", "jobs"), [*((mode, 1) for mode in MODES), ("copy", 2)])
def test_progress_sums_to_total(raw: Path, tmp_path: Path, mode: str, jobs: int) -> None:
    recording(raw / "plain.nwb", None, subject="plain")
    recording(raw / "shared.nwb", ["../videos/f0_0.avi", "../videos/f0_0.avi"], subject="shared")
    for again in range(2):
        calls: list[tuple[int, int]] = []
        done = []
        plan = quietly(
            raw, tmp_path / "ds", media_mode=mode, jobs=jobs, on_file=done.append,
            media_options={"progress": lambda now, total: calls.append((now, total))},  # noqa: B023
        )  # fmt: skip
        assert {total for _, total in calls} <= {plan.total_bytes}
        assert [now for now, _ in calls] == sorted(now for now, _ in calls)
        assert (calls[-1][0] if calls else 0) == plan.total_bytes
        assert len(done) == 4
        if again:
            assert plan.total_bytes == 0


def test_plan_is_a_value(raw: Path, tmp_path: Path) -> None:
    plan = organize(raw, tmp_path / "ds", dry_run=True)
    again = pickle.loads(pickle.dumps(plan))
    assert list(again) == list(plan)
    assert [file.target for file in again] == [target(tmp_path / "ds", number) for number in range(2)]
    assert (again.total_bytes, again.media_count, again.files[0].plan.mode) == (plan.total_bytes, 4, DEFAULT_MODE)


# ----------------------------------------------------------- all problems at once


def test_all_problems_in_one_report(raw: Path, tmp_path: Path) -> None:
    root = tmp_path / "ds"
    recording(raw / "missing.nwb", ["../videos/gone.avi"], subject="missing", videos=False)
    recording(raw / "taken.nwb", ["../videos/f0_0.avi"], subject="taken", session="t")
    video(root / "sub-taken" / "sub-taken_ses-t_image.nwb", "something else")
    other = recording(raw / "media.nwb", ["../videos/f0_1.avi"], subject="media", session="m")
    video(root / "sub-media" / "sub-media_ses-m_image" / f"{object_id(other)}_external_file_0.avi", "other video")
    recording(raw / "folder.nwb", ["../videos/f0_0.avi"], subject="folder")
    (root / "sub-folder").write_text("a file where a folder should be")
    recording(raw / "link.nwb", ["../videos/f0_0.avi"], subject="link")
    (root / "sub-link").symlink_to(tmp_path)
    recording(raw / "long.nwb", ["../videos/f0_0.avi"], subject="l" * 250)
    recording(raw / "odd.nwb", ["../videos/f0_0.avi"], subject="odd")
    set_paths(raw / "odd.nwb", DATASET, ["pipe.avi"], dtype=h5py.string_dtype())
    os.mkfifo(raw / "pipe.avi")
    recording(raw / "numbers.nwb", ["../videos/f0_0.avi"], subject="numbers")
    set_paths(raw / "numbers.nwb", DATASET, [1, 2])
    os.mkfifo(raw / "x")  # looked at by nobody
    before = sorted(tree_of(root).items())
    kept = {path: path.read_bytes() for path in raw.glob("*.nwb")}
    with pytest.raises(PlanError) as caught:
        organize(raw, root, media_mode="copy")
    messages = [str(problem) for problem in caught.value.problems]
    for name, kind, words in (
        ("missing.nwb", MissingMediaError, "gone.avi"),
        ("taken.nwb", MediaExistsError, "is not an NWB file that can be read; move that away"),
        ("media.nwb", MediaExistsError, "is not a copy of"),
        ("folder.nwb", UnsafeReferenceError, "is not a folder"),
        ("link.nwb", UnsafeReferenceError, "symbolic link"),
        ("long.nwb", UnsafeReferenceError, "255 bytes"),
        ("odd.nwb", UnsafeReferenceError, "a pipe"),
        ("numbers.nwb", UnsafeReferenceError, "not a string"),
    ):
        fitting = [
            problem
            for problem in caught.value.problems
            if (str(raw / name) in str(problem) or name[:-4] in str(problem)) and words in str(problem)
        ]
        assert fitting, (name, messages)
        assert isinstance(fitting[0], kind), (name, type(fitting[0]))
    assert len(caught.value.problems) == 8
    assert sorted(tree_of(root).items()) == before
    assert {path: path.read_bytes() for path in kept if path.exists()} == {p: b for p, b in kept.items() if p.exists()}


def test_unreadable_files(raw: Path, tmp_path: Path) -> None:
    whole = (raw / "test0.nwb").read_bytes()
    (raw / "truncated.nwb").write_bytes(whole[: len(whole) // 2])
    (raw / "empty.nwb").write_bytes(b"")
    (raw / "dangling.nwb").symlink_to("nowhere")
    recording(raw / "nobody.nwb", ["../videos/f0_0.avi"], subject=None)
    with h5py.File(recording(raw / "linked.nwb", ["../videos/f0_0.avi"], subject="linked"), "r+") as file:
        file["acquisition/elsewhere"] = h5py.ExternalLink("test0.nwb", "/acquisition/video")
    with h5py.File(raw / "bare.nwb", "w"):
        pass
    bad = {"truncated", "empty", "dangling", "nobody", "linked", "bare"}
    (raw / "a folder.nwb").mkdir()
    before = state(tmp_path)
    with pytest.raises(UnreadableFileError) as caught:
        organize(raw, tmp_path / "ds")
    assert {Path(problem.nwb_path or "").stem for problem in caught.value.problems} == bad
    assert state(tmp_path) == before
    result = run("-d", tmp_path / "ds", "--invalid", "warn", raw)
    assert all(f"{name}.nwb" in result.stderr for name in bad)
    assert result.stderr.count("left out") == len(bad)
    assert sorted(path.name for path in (tmp_path / "ds").rglob("*.nwb")) == [
        target(Path(), number).name for number in range(2)
    ]
    assert len(quietly(raw / "empty.nwb", tmp_path / "ds2", invalid="warn")) == 0


def test_files_with_other_suffixes(raw: Path, tmp_path: Path) -> None:
    (raw / "test0.nwb").rename(raw / "test0.h5")
    with pytest.raises(UnreadableFileError, match=r"does not end in \.nwb"):
        organize(raw / "test0.h5", tmp_path / "ds")
    assert len(organize(raw, tmp_path / "ds")) == 1


def test_same_object_id(raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw / "test0.nwb", raw / "again.nwb")
    before = state(tmp_path)
    with pytest.raises(RelocationRefusedError, match="same object_id"):
        organize(raw, tmp_path / "ds")
    assert state(tmp_path) == before


def test_unusual_objects_in_a_file(raw: Path, tmp_path: Path) -> None:
    """Files that no writer makes are reported by name, and the other files are still read."""
    with h5py.File(raw / "test0.nwb", "r+") as file:
        file["acquisition/ring"] = file["/"]
        file["acquisition/soft"] = h5py.SoftLink("/acquisition")
    with h5py.File(recording(raw / "odd.nwb", ["../videos/f0_0.avi"], subject="nul"), "r+") as file:
        del file["general/subject/subject_id"]
        file["general/subject/subject_id"] = "a\x01\x7fb"
    with pytest.raises(ExternalFilesError, match=r"odd\.nwb"):
        organize(raw, tmp_path / "ds")
    (raw / "odd.nwb").unlink()
    assert len(organize(raw, tmp_path / "ds")) == 2


# -------------------------------------------------------------------- shared videos


@pytest.mark.parametrize(
    ("mode", "files_mode", "jobs"),
    [*((mode, files_mode, 1) for mode in MODES for files_mode in ("copy", "move")), ("move", "move", 2)],
)
def test_shared_video(tmp_path: Path, mode: str, files_mode: str, jobs: int) -> None:
    raw, root = tmp_path / "raw", tmp_path / "ds"
    for number in range(3):
        recording(raw / f"{number}.nwb", ["../videos/shared.avi"], subject=f"mouse{number}", session=f"s{number}")
    was, inode = digest(tmp_path / "videos" / "shared.avi"), (tmp_path / "videos" / "shared.avi").stat().st_ino
    quietly(raw, root, media_mode=mode, files_mode=files_mode, jobs=jobs)
    for number in range(3):
        assert_organized(target(root, number), [was], mode)
        if mode in ("move", "hardlink"):
            assert (target(root, number).parent / stored_paths(target(root, number))[0]).stat().st_ino == inode
    assert (tmp_path / "videos" / "shared.avi").exists() == (mode != "move")


def test_shared_video_moves_between_file_systems(tmp_path: Path, elsewhere: Path) -> None:
    for number in range(2):
        text = str(elsewhere / "shared.avi")
        recording(tmp_path / "raw" / f"{number}.nwb", [text], subject=f"mouse{number}", session=f"s{number}")
    was = digest(elsewhere / "shared.avi")
    quietly(tmp_path / "raw", tmp_path / "ds", media_mode="move")
    for number in range(2):
        assert_organized(target(tmp_path / "ds", number), [was])
    assert list(elsewhere.iterdir()) == []


def test_hard_links_end_at_the_file_system(tmp_path: Path, elsewhere: Path) -> None:
    recording(tmp_path / "raw" / "a.nwb", [str(video(elsewhere / "a.avi"))])
    before = state(tmp_path)
    with pytest.raises(RelocationRefusedError, match="another file system"):
        organize(tmp_path / "raw", tmp_path / "ds", media_mode="hardlink")
    assert state(tmp_path) == before


def test_symlinked_videos_are_moved(tmp_path: Path) -> None:
    """git-annex keeps content read-only in one place, and links to it, videos and NWB files alike."""
    raw, annex = tmp_path / "raw", tmp_path / "annex"
    path = recording(raw / "a.nwb", ["a.avi"])
    annex.mkdir()
    for name in ("a.nwb", "a.avi"):
        (raw / name).rename(annex / name)
        (annex / name).chmod(0o444)
        (raw / name).symlink_to(Path("..", "annex", name))
    was = digest(annex / "a.avi")
    organize(raw, tmp_path / "copied")
    (made,) = (tmp_path / "copied").rglob("*.nwb")
    assert not made.is_symlink()
    assert os.access(made, os.W_OK)
    assert made.stat().st_mode & 0o200
    assert_organized(made, [was], "symlink")
    quietly(raw, tmp_path / "moved", files_mode="move", media_mode="copy")
    (made,) = (tmp_path / "moved").rglob("*.nwb")
    assert_organized(made, [was])
    assert not os.path.lexists(path)
    assert (annex / "a.nwb").exists()


@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink", "reference"])
def test_sources_are_not_written_to(raw: Path, tmp_path: Path, mode: str) -> None:
    for path in [*raw.iterdir(), *(tmp_path / "videos").iterdir()]:
        path.chmod(0o444)
    before = state(raw) | state(tmp_path / "videos")
    quietly(raw, tmp_path / "ds", media_mode=mode)
    assert state(raw) | state(tmp_path / "videos") == before


# ------------------------------------------------------------------- what stands there


def test_existing_is_replaced(raw: Path, tmp_path: Path) -> None:
    videos, root = content_of(tmp_path / "videos"), tmp_path / "ds"
    video(target(root), "something else")
    stands = target(root).with_suffix("") / f"{object_id(raw / 'test0.nwb')}_external_file_0.avi"
    video(stands, "another video")
    before = state(root)
    with pytest.raises(MediaExistsError, match='existing="replace"'):
        organize(raw, root, media_mode="copy")
    assert state(root) == before
    run("-d", root, "--existing", "replace", "--media-files-mode", "copy", raw)
    assert_organized(target(root), [videos["f0_0.avi"], videos["f0_1.avi"]])
    assert_no_temporaries(root)


def test_folder_is_not_replaced(raw: Path, tmp_path: Path) -> None:
    target(tmp_path / "ds").mkdir(parents=True)
    with pytest.raises(MediaExistsError):
        organize(raw, tmp_path / "ds", media_options={"existing": "replace"})
    assert not target(tmp_path / "ds", 1).exists()


def test_changed_target_is_not_skipped(raw: Path, tmp_path: Path) -> None:
    root = tmp_path / "ds"
    organize(raw, root)
    with h5py.File(target(root), "r+") as file:
        file["mine"] = "a note"
    with pytest.raises(MediaExistsError, match="another version of the same NWB file"):
        organize(raw, root)
    with h5py.File(raw / "test1.nwb", "r+") as file:
        file["new"] = "the source has changed"
    with pytest.raises(MediaExistsError) as caught:
        organize(raw, root)
    assert len(caught.value.problems) == 2


def test_truncated_mtimes_are_still_skipped(raw: Path, tmp_path: Path) -> None:
    """On exFAT the second run finds times that were cut."""
    root = tmp_path / "ds"
    organize(raw, root)
    for number in range(2):
        time = target(root, number).stat().st_mtime_ns
        os.utime(target(root, number), ns=(time, time // 10_000_000 * 10_000_000))
    assert all(file.is_there for file in organize(raw, root))


def test_replaced_file_is_source_of_another(tmp_path: Path) -> None:
    """Names that go round in a ring: nothing may be replaced before it has moved."""
    root = tmp_path / "ds"
    folder = root / "sub-m"
    recording(folder / "sub-m_ses-a_image.nwb", ["a.avi"], subject="m", session="b")
    recording(folder / "sub-m_ses-b_image.nwb", ["b.avi"], subject="m", session="a")
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    before = state(tmp_path)
    for existing in ("error", "replace"):
        with pytest.raises(ExternalFilesError):
            organize([], root, files_mode="move", media_options={"existing": existing})
        assert state(tmp_path) == before


def test_video_another_file_has_in_place_is_kept(tmp_path: Path) -> None:
    """B moves the video that stands, rightly, beside A."""
    raw, root = tmp_path / "raw", tmp_path / "ds"
    recording(raw / "0.nwb", ["a.avi"], subject="mouse0", session="s0")
    organize(raw, root, media_mode="copy", required_fields=["session_id"])
    place = target(root).parent / stored_paths(target(root))[0]
    text = os.path.relpath(place, raw)
    recording(raw / "1.nwb", [text], subject="mouse1", session="s1")
    was = digest(place)
    quietly(raw, root, media_mode="move")
    assert_organized(target(root), [was])
    assert_organized(target(root, 1), [was])


@pytest.mark.parametrize("mode", ["symlink", "reference"])
def test_video_another_file_links_to_is_kept(tmp_path: Path, mode: str) -> None:
    """A takes its own media folder along; B has a link, or a path, to a video in there."""
    raw, root = tmp_path / "raw", tmp_path / "ds"
    path = recording(raw / "a.nwb", ["x.avi"], subject="mouse0", session="s0")
    own = f"a/{object_id(path)}_external_file_0.avi"
    set_paths(path, DATASET, [own], dtype=h5py.string_dtype())
    was = digest(video(raw / own, "the video"))
    (raw / "x.avi").unlink()
    recording(raw / "b.nwb", [own], subject="mouse1", session="s1")
    quietly(raw, root, files_mode="move", media_mode=mode)
    for number in range(2):
        (text,) = stored_paths(target(root, number))
        assert digest(target(root, number).parent / text) == was, number


# ----------------------------------------------------------------------- in place


@pytest.mark.parametrize("mode", ["symlink", "copy", "move", "hardlink"])
def test_organize_in_place(raw: Path, tmp_path: Path, mode: str) -> None:
    """After subjects were renamed, files and videos follow, in every mode, and empty folders go."""
    videos = content_of(tmp_path / "videos")
    root = tmp_path / "ds"
    quietly(raw, root, media_mode="symlink" if mode == "symlink" else "copy")
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    with h5py.File(target(root), "r+") as file:
        file["general/subject/subject_id"][()] = "renamed"
    inodes = [(target(root).parent / text).lstat().st_ino for text in stored_paths(target(root))]
    with working_in(root):
        run("-f", "move", "--media-files-mode", mode)
    made = root / "sub-renamed" / "sub-renamed_ses-s0_image.nwb"
    assert_organized(made, [videos["f0_0.avi"], videos["f0_1.avi"]], mode)
    if mode != "symlink":
        assert [(made.parent / text).stat().st_ino for text in stored_paths(made)] == inodes
    assert not (root / "sub-mouse0").exists()
    assert_organized(target(root, 1), [videos["f1_0.avi"], videos["f1_1.avi"]], mode)
    assert_no_temporaries(root)
    before = state(root)
    quietly([], root, files_mode="move", media_mode=mode)
    assert state(root) == before


def test_flat_dandiset(tmp_path: Path) -> None:
    """Raw files that were put into the dandiset as they are."""
    root = tmp_path / "ds"
    for number in range(2):
        recording(root / f"{number}.nwb", [f"videos/{number}.avi"], subject=f"mouse{number}", session=f"s{number}")
    recording(root / "sub-x" / "deep" / "x.nwb", ["x.avi"], subject="x", session="s")
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    was = content_of(root / "videos")
    quietly([], root, files_mode="move", media_mode="move")
    for number in range(2):
        assert_organized(target(root, number), [was[f"{number}.avi"]])
    assert sorted(path.name for path in root.iterdir()) == [
        "dandiset.yaml", "sub-mouse0", "sub-mouse1", "sub-x", "videos",
    ]  # fmt: skip
    assert not (root / "sub-x" / "deep").exists()


def test_in_place_under_several_names(tmp_path: Path) -> None:
    """As `dandi organize --files-mode hardlink` leaves the raw files, which keep what they have."""
    recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    root = tmp_path / "ds"
    (root / "sub-mouse0").mkdir(parents=True)
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    os.link(tmp_path / "raw" / "a.nwb", root / "sub-mouse0" / "sub-mouse0_image.nwb")
    options = {"files_mode": "move", "media_mode": "copy", "media_options": {"search": [tmp_path / "raw"]}}
    was = digest(tmp_path / "raw" / "a.nwb")
    with pytest.warns(ExternalFilesWarning, match=r"2 names \(hard links\)"):
        organize([], root, **options)
    assert digest(tmp_path / "raw" / "a.nwb") == was
    path = root / "sub-mouse0" / "sub-mouse0_image.nwb"
    assert digest(path.parent / stored_paths(path, DATASET)[0]) == digest(tmp_path / "raw" / "a.avi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        organize([], root, **options)


def test_in_place_through_symlink_is_refused(raw: Path, tmp_path: Path) -> None:
    """The content of git-annex never changes."""
    root = tmp_path / "ds"
    quietly(raw, root)
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    set_paths(
        target(root), DATASET, [str(tmp_path / "videos" / f"f0_{n}.avi") for n in range(2)], dtype=h5py.string_dtype()
    )
    kept = tmp_path / "annex.nwb"
    target(root).rename(kept)
    target(root).symlink_to(kept)
    before = state(tmp_path)
    with pytest.raises(RelocationRefusedError, match="symbolic link"):
        organize([], root, files_mode="move", media_mode="copy")
    assert state(tmp_path) == before


def test_dandiset_inside_the_sources(raw: Path, tmp_path: Path) -> None:
    root = tmp_path / "ds"
    for _ in range(2):
        assert len(organize(tmp_path, root)) == 2
    # named itself, too: what was made of the others is not organized once more
    inside = root / "incoming"
    shutil.move(raw, inside)
    for path in inside.iterdir():
        set_paths(
            path,
            DATASET,
            [str(tmp_path / "videos" / f"f{path.stem[-1]}_{n}.avi") for n in range(2)],
            dtype=h5py.string_dtype(),
        )
    shutil.rmtree(root / "sub-mouse0")
    shutil.rmtree(root / "sub-mouse1")
    for _ in range(2):
        assert len(organize([root], root)) == 2
    assert target(root).exists()


# ----------------------------------------------------------- failures on the way


@pytest.mark.parametrize("mode", ["move", "copy"])
def test_one_failing_file_does_not_stop_others(raw: Path, tmp_path: Path, mode: str) -> None:
    videos, root = content_of(tmp_path / "videos"), tmp_path / "ds"
    kept = (tmp_path / "videos" / "f1_0.avi").read_bytes()

    def on_file(file: Any) -> None:
        if "mouse0" in str(file.target):
            (tmp_path / "videos" / "f1_0.avi").write_bytes(b"another")

    with pytest.raises(TransferError, match="1 of 2 NWB files could not be organized") as caught:
        quietly(raw, root, files_mode=mode, media_mode=mode, on_file=on_file)
    assert "test1.nwb" in str(caught.value)
    assert ("nothing that moved was removed" in str(caught.value)) == (mode == "move")
    assert_organized(target(root), [videos["f0_0.avi"], videos["f0_1.avi"]])
    assert not (root / "sub-mouse1").exists()
    assert len(list(raw.iterdir())) == 2
    assert len(list((tmp_path / "videos").iterdir())) == 4
    assert_no_temporaries(tmp_path)
    (tmp_path / "videos" / "f1_0.avi").write_bytes(kept)
    quietly(raw, root, files_mode=mode, media_mode=mode)
    for number in range(2):
        assert_organized(target(root, number), [videos[f"f{number}_{n}.avi"] for n in range(2)])
    assert sorted(raw.iterdir()) == ([] if mode == "move" else [raw / "test0.nwb", raw / "test1.nwb"])
    assert len(list((tmp_path / "videos").iterdir())) == (0 if mode == "move" else 4)


def test_unwritable_folder(raw: Path, tmp_path: Path) -> None:
    """Errors of the system are told with the file, and all of them."""
    root = tmp_path / "ds"

    def on_bytes(now: int, total: int) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.write_text("in the way")

    plan_error: BaseException | None = None
    try:
        quietly(raw, root, media_mode="copy", media_options={"progress": on_bytes})
    except TransferError as error:
        plan_error = error
    assert plan_error is not None
    assert "2 of 2 NWB files could not be organized" in str(plan_error)
    assert len(plan_error.problems) == 2


def test_leftovers_of_a_failure_are_reported(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(one_file, "_stage_nwb_file", full)
    monkeypatch.setattr("nwb_extfiles.transfers.staging_folder.StagingFolder.clear", broken)
    result = run("-d", tmp_path / "ds", "--media-files-mode", "copy", raw, code=1)
    assert "2 of 2 NWB files could not be organized" in result.stderr
    assert result.stderr.count("could not be cleared: [Errno 5]") == 2


class Stop(BaseException):
    """As an interrupt is."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("files_mode", ["copy", "move"])
def test_interrupted_and_run_again(raw: Path, tmp_path: Path, mode: str, files_mode: str) -> None:
    """However far the first run got, the second one ends with what an undisturbed one gives."""
    videos, root = content_of(tmp_path / "videos"), tmp_path / "ds"
    before = {path.name: digest(path) for path in raw.iterdir()}

    def stop(*_: Any) -> None:
        raise Stop

    for options in (dict(on_file=stop), dict(media_options={"progress": stop})):
        with pytest.raises(Stop):
            quietly(raw, root, media_mode=mode, files_mode=files_mode, **options)
        assert {path.name: digest(path) for path in raw.iterdir()} == before
        assert content_of(tmp_path / "videos") == videos
        assert_no_temporaries(tmp_path)
    quietly(raw, root, media_mode=mode, files_mode=files_mode)
    for number in range(2):
        assert_organized(target(root, number), [videos[f"f{number}_{n}.avi"] for n in range(2)], mode)


def test_killed_while_old_names_were_removed(tmp_path: Path) -> None:
    """What is left of a session gets the name that it got beside the others."""
    raw, root = tmp_path / "raw", tmp_path / "ds"
    for number in range(3):
        recording(raw / f"{number}.nwb", [f"../videos/{number}.avi"])
    was = content_of(tmp_path / "videos")
    saved = tmp_path / "saved"
    shutil.copytree(raw, saved)
    quietly(raw, root, media_mode="copy", files_mode="move")
    expected = state(root)
    for number in (1, 2):  # as if 0 had been removed, and then the power failed
        shutil.copy2(saved / f"{number}.nwb", raw / f"{number}.nwb")
    assert list(raw.iterdir()) != []
    plan = quietly(raw, root, media_mode="copy", files_mode="move")
    assert all(file.is_there for file in plan)
    assert {path: value[0] for path, value in state(root).items()} == {
        path: value[0] for path, value in expected.items()
    }
    shutil.copy2(saved / "2.nwb", raw / "2.nwb")
    quietly(raw, root, media_mode="copy", files_mode="move")
    assert len(list(root.rglob("*.nwb"))) == 3
    assert list(raw.iterdir()) == []
    assert content_of(tmp_path / "videos") == was


def test_killed_while_dandiset_was_renamed(raw: Path, tmp_path: Path) -> None:
    """Old and new names stand side by side in the dandiset then."""
    root = tmp_path / "ds"
    quietly(raw, root, media_mode="copy")
    (root / "dandiset.yaml").write_text("identifier: '000001'\n")
    with h5py.File(target(root), "r+") as file:
        file["general/subject/subject_id"][()] = "renamed"
    saved = tmp_path / "saved"
    shutil.copytree(root / "sub-mouse0", saved)
    quietly([], root, files_mode="move", media_mode="copy")
    expected = {path: value[0] for path, value in state(root).items()}
    shutil.copytree(saved, root / "sub-mouse0")
    quietly([], root, files_mode="move", media_mode="copy")
    assert {path: value[0] for path, value in state(root).items()} == expected


def test_interrupted_edit_of_source_is_restored(raw: Path, tmp_path: Path) -> None:
    """What a killed run was changing in place is restored first; a dry run only tells."""
    import hashlib

    token = hashlib.blake2s(b"test0.nwb", digest_size=4).hexdigest()
    staging = raw / f".nwb-extfiles-{token}"
    staging.mkdir()
    (staging / "unfinished").touch()
    (staging / "lock").touch()
    before = state(tmp_path)
    with pytest.raises(RelocationRefusedError, match="left inconsistent by an interrupted run"):
        organize(raw, tmp_path / "ds", dry_run=True)
    assert state(tmp_path) == before
    organize(raw, tmp_path / "ds")
    assert not staging.exists()
    assert target(tmp_path / "ds").exists()


def test_no_space_is_refused(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reported before anything is changed. A sparse video counts with its full size."""
    monkeypatch.setattr(filesystem, "free_bytes", lambda folder: 1 << 39)
    with open(tmp_path / "videos" / "f1_1.avi", "r+b") as file:
        file.truncate(1 << 40)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(RelocationRefusedError, match="bytes"):
        organize(raw, tmp_path / "ds", media_mode="copy")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    quietly(raw, tmp_path / "ds", media_mode="move")
    assert not (tmp_path / "videos" / "f1_1.avi").exists()


def test_no_space_for_all_files_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each video fits, all of them do not."""
    free = 1 << 39
    monkeypatch.setattr(filesystem, "free_bytes", lambda folder: free)
    for number in range(3):
        recording(tmp_path / "raw" / f"{number}.nwb", [f"{number}.avi"], subject=f"mouse{number}")
        with open(tmp_path / "raw" / f"{number}.avi", "r+b") as file:
            file.truncate(free // 2)
    with pytest.raises(RelocationRefusedError, match="the NWB files and their media need"):
        organize(tmp_path / "raw", tmp_path / "ds", media_mode="copy")
    assert not (tmp_path / "ds").exists()


def test_disk_full(raw: Path, tmp_path: Path) -> None:
    """Somebody else takes the room while the run goes on."""
    for name in ("f0_0.avi", "f1_0.avi"):
        video(tmp_path / "videos" / name, name, size=1_500_000)
    videos = content_of(tmp_path / "videos")
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "none") as small:
        fill = small / "fill"

        def on_file(file: Any) -> None:
            with pytest.raises(OSError, match="No space"), open(fill, "wb", buffering=0) as stream:
                while True:
                    stream.write(b"x" * 4096)

        with pytest.raises(TransferError, match="1 of 2 NWB files could not be organized") as caught:
            organize(raw, small / "ds", media_mode="copy", on_file=on_file)
        assert "No space left" in str(caught.value)
        assert_organized(target(small / "ds"), [videos["f0_0.avi"], videos["f0_1.avi"]])
        assert not target(small / "ds", 1).exists()
        fill.unlink()
        organize(raw, small / "ds", media_mode="copy")
        assert_organized(target(small / "ds", 1), [videos["f1_0.avi"], videos["f1_1.avi"]])
        assert_no_temporaries(small)


def test_new_ids_helper(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.nwb", ["a.avi"])
    with h5py.File(path, "r+") as file:
        before = file.attrs["object_id"]
        new_ids(file)
        assert file.attrs["object_id"] != before


# ------------------------------------------------------------------- Zarr


@pytest.fixture
def store(tmp_path: Path, video_files: Path) -> Path:
    pytest.importorskip("hdmf_zarr")
    from zarr_makers import write_store

    return write_store(tmp_path / "stores" / "a.nwb.zarr", ["../video_files/test1_0.avi", "../video_files/test1_1.avi"])


@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink", "move", "reference"])
def test_stores_are_organized(tmp_path: Path, store: Path, video_files: Path, mode: str) -> None:
    """A Zarr store is called like an NWB file, with .zarr behind; its media are beside it."""
    from zarr_makers import paths_in

    videos = [digest(video_files / f"test1_{number}.avi") for number in (0, 1)]
    before = tree_of(store)
    root = tmp_path / "dandiset"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExternalFilesWarning)
        organize([store.parent], root, media_mode=mode)
        target = root / "sub-mouse0" / "sub-mouse0_image.nwb.zarr"
        assert [path.name for path in target.parent.iterdir() if path.name.endswith(".zarr")] == [target.name]
        paths = paths_in(target)
        assert [digest(target.parent / text) for text in paths] == videos
        if mode != "reference":
            assert {text.split("/")[0] for text in paths} == {"sub-mouse0_image"}
        assert tree_of(store) == before
        done = tree_of(root)
        if mode != "move":
            organize([store.parent], root, media_mode=mode)
            assert tree_of(root) == done


def test_move_of_stores_is_refused(tmp_path: Path, store: Path) -> None:
    before = tree_of(tmp_path)
    with pytest.raises(ExternalFilesError, match="Zarr store"):
        organize(store, tmp_path / "dandiset", files_mode="move")
    assert tree_of(tmp_path) == before

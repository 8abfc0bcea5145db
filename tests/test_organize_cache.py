"""The cache of `organize`: it saves time, and nothing else depends on it.

Answers are judged by what is on disk, and by what the same call does without a cache.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner
from helpers import digest, needs_symlink, stored_paths, taking_at_most, tree
from makers import Media, write_everywhere
from mounts import tmpfs
from recordings import recording, set_scalar, state, video

from nwb_extfiles import organize
from nwb_extfiles.cli import main
from nwb_extfiles.disk.cache import Cache
from nwb_extfiles.errors import ExternalFilesError, MediaExistsError
from nwb_extfiles.nwb import files
from nwb_extfiles.options import MediaOptions
from nwb_extfiles.tasks.organize import already_there, inspection, known
from nwb_extfiles.tasks.organize.known import known_files

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no owners of files, and no pipes in folders")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with three recordings of two videos each."""
    for number in range(3):
        recording(tmp_path / "raw" / f"{number}" / "r.nwb", ["a.avi", "b.avi"], subject=f"m{number}")
    return tmp_path / "raw"


@pytest.fixture
def never_opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to have each opening of an NWB file by HDF5 fail."""

    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    return lambda: monkeypatch.setattr(files, "_open_hdf5", fail)


def without_times(plan: Any) -> str:
    """A plan in words, without what tells one run from the next."""
    return repr([(file.source, file.target, file.is_there, file.is_done, file.plan) for file in plan])


def flip(path: Path, where: str) -> None:
    """Change one number in an NWB file, and neither its size nor its times."""
    before = path.stat()
    with h5py.File(path, "r+") as file:
        file[where][...] = file[where][...] + 1
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@contextmanager
def database(path: Path | str, **options: Any) -> Iterator[sqlite3.Connection]:
    """A database, open for one transaction. sqlite3 alone would leave it open."""
    with closing(sqlite3.connect(path, **options)) as connection, connection:
        yield connection


def entries(cache: Path) -> list[tuple[bytes, bytes]]:
    with database(next(cache.iterdir())) as connection:
        return list(connection.execute("SELECT key, value FROM contents"))


# ------------------------------------------------------------------ it saves time


@pytest.mark.parametrize("mode", ["copy", "symlink"])
def test_second_run_opens_no_nwb_file(tmp_path: Path, raw: Path, mode: str, never_opened: Callable[[], None]) -> None:
    organize(raw, tmp_path / "ds", media_mode=mode)
    before = state(tmp_path / "ds")
    never_opened()
    plan = organize(raw, tmp_path / "ds", media_mode=mode)
    assert len(plan) == 3
    assert all(file.is_done for file in plan)
    assert state(tmp_path / "ds") == before


def test_copies_of_a_run_without_cache_are_known_after_they_were_compared(
    tmp_path: Path, raw: Path, never_opened: Callable[[], None]
) -> None:
    organize(raw, tmp_path / "ds", cache=False)
    organize(raw, tmp_path / "ds")
    organize(raw, tmp_path / "ds")  # which knows the copies, and so what is in them
    never_opened()
    assert all(file.is_done for file in organize(raw, tmp_path / "ds"))


def test_known_files_that_were_moved_and_touched_are_not_opened(
    tmp_path: Path, raw: Path, never_opened: Callable[[], None]
) -> None:
    organize(raw, tmp_path / "ds", media_mode="copy")
    (tmp_path / "elsewhere").mkdir()
    raw, root = (place.rename(tmp_path / "elsewhere" / place.name) for place in (raw, tmp_path / "ds"))
    for path in (*raw.rglob("*.nwb"), *root.rglob("*.nwb")):
        os.utime(path, (1, 1))
    never_opened()
    assert all(file.is_done for file in organize(raw, root, media_mode="copy"))


# ------------------------------------------------------------------ the same answers


def varied(folder: Path) -> Path:
    """NWB files with all that has paths, of several kinds, and some that cannot be named in the plain way."""
    write_everywhere(folder / "everywhere" / "e.nwb", Media(folder / "everywhere"))
    recording(folder / "none.nwb", subject="none")
    recording(folder / "url.nwb", ["https://example.org/a.avi", "v.avi"], subject="url")
    recording(folder / "ü ö.nwb", ["ä ß.avi"], subject="umlaut")
    recording(folder / "no_identifier.nwb", ["w.avi"], subject="b")
    with h5py.File(folder / "no_identifier.nwb", "r+") as file:
        set_scalar(file, "identifier", None)
    recording(folder / "words.nwb", ["x.avi"], subject="c", start="2020-01-01T00:00:00.5-05:00")
    return folder


@pytest.mark.filterwarnings("ignore::nwb_extfiles.errors.ExternalFilesWarning")
@pytest.mark.parametrize("manifest", [False, True])
def test_plans_are_the_same_with_and_without_cache(tmp_path: Path, manifest: bool) -> None:
    source, options = varied(tmp_path / "raw"), MediaOptions(manifest=manifest)
    call: dict[str, Any] = dict(media_mode="copy", media_options=options)
    organize(source, tmp_path / "ds", **call)
    for root in ("ds", "ds", "other"):
        known = organize(source, tmp_path / root, dry_run=True, **call)
        plain = organize(source, tmp_path / root, dry_run=True, cache=False, **call)
        assert without_times(known) == without_times(plain)
        assert len(known) == 6


def test_plans_of_copies_that_were_compared_and_that_were_known_are_equal(tmp_path: Path, raw: Path) -> None:
    organize(raw, tmp_path / "ds", cache=False)
    plans = [organize(raw, tmp_path / "ds", dry_run=True, cache=cache) for cache in (False, True, True)]
    assert plans[0] == plans[1] == plans[2]


def test_dandisets_are_the_same_with_and_without_cache(tmp_path: Path, raw: Path) -> None:
    for number, cache in enumerate((False, True, True)):
        organize(raw, tmp_path / f"ds{number}", media_mode="copy", cache=cache)
    first, *others = (tree(tmp_path / f"ds{number}") for number in range(3))
    assert others == [first, first]


def test_name_of_a_file_without_identifier_is_its_own(tmp_path: Path) -> None:
    """Without an identifier it is the name of the file that counts, which the bytes do not say."""
    path = recording(tmp_path / "raw" / "first.nwb", ["v.avi"])
    with h5py.File(path, "r+") as file:
        set_scalar(file, "identifier", None)
        del file["acquisition/video"].attrs["object_id"]
    for name in ("first.nwb", "second.nwb"):
        path = path.rename(path.with_name(name))
        known, plain = (organize(path, tmp_path / "ds", cache=cache, dry_run=True) for cache in (True, False))
        assert without_times(known) == without_times(plain)
        organize(path, tmp_path / name)


@pytest.mark.parametrize("change", ["another field", "another version"])
def test_answers_of_another_version_or_for_other_fields_are_not_used(
    tmp_path: Path, raw: Path, change: str, monkeypatch: pytest.MonkeyPatch, never_opened: Callable[[], None]
) -> None:
    options = MediaOptions()
    organize(raw, tmp_path / "ds")
    if change == "another field":
        options = MediaOptions(media_fields=[("TimeSeries", "my_files")])
    else:
        package = shutil.copytree(Path(known.__file__).parents[2], tmp_path / "nwb_extfiles")
        with (package / "nwb" / "scan.py").open("a") as module:
            module.write("# a correction\n")
        monkeypatch.setattr(known, "__file__", str(package / "tasks" / "organize" / "known.py"))
    never_opened()
    with pytest.raises(ExternalFilesError, match="was opened"):
        organize(raw, tmp_path / "ds", media_options=options)


def test_processes_and_threads_use_it(tmp_path: Path, raw: Path, never_opened: Callable[[], None]) -> None:
    organize(raw, tmp_path / "ds", jobs=2)
    never_opened()  # in this process
    with ThreadPoolExecutor(2) as pool:
        assert all(file.is_done for file in organize(raw, tmp_path / "ds", executor=pool))


# ------------------------------------------------------------------ files that change


def test_source_changed_with_its_old_size_and_time_is_another_version(tmp_path: Path, raw: Path) -> None:
    organize(raw, tmp_path / "ds")
    organize(raw, tmp_path / "ds")
    flip(raw / "1" / "r.nwb", "acquisition/video/starting_time")
    before = state(tmp_path / "ds")
    with pytest.raises(MediaExistsError, match="another version of the same NWB file"):
        organize(raw, tmp_path / "ds")
    assert state(tmp_path / "ds") == before


def test_target_changed_with_its_old_size_and_time_is_another_version(tmp_path: Path, raw: Path) -> None:
    organize(raw, tmp_path / "ds")
    organize(raw, tmp_path / "ds")
    target = next((tmp_path / "ds" / "sub-m1").glob("*.nwb"))
    flip(target, "acquisition/video/starting_time")
    with pytest.raises(MediaExistsError, match="another version of the same NWB file"):
        organize(raw, tmp_path / "ds")


def test_target_with_other_paths_is_another_version(tmp_path: Path, raw: Path) -> None:
    organize(raw, tmp_path / "ds")
    target = next((tmp_path / "ds" / "sub-m1").glob("*.nwb"))
    shutil.copy2(raw / "1" / "r.nwb", target)  # known bytes, with the paths of before
    with pytest.raises(MediaExistsError, match="other content or other paths"):
        organize(raw, tmp_path / "ds")


def test_target_with_the_content_of_another_recording_is_refused(tmp_path: Path, raw: Path) -> None:
    organize(raw, tmp_path / "ds")
    one, other = (next((tmp_path / "ds" / f"sub-m{number}").glob("*.nwb")) for number in (0, 1))
    shutil.copy2(one, other)
    with pytest.raises(MediaExistsError, match="a different NWB file, whose subject_id is 'm0'"):
        organize(raw, tmp_path / "ds")


@pytest.mark.parametrize("mode", ["copy", "symlink"])
def test_changed_and_missing_videos_are_seen(tmp_path: Path, raw: Path, mode: str) -> None:
    organize(raw, tmp_path / "ds", media_mode=mode)
    organize(raw, tmp_path / "ds", media_mode=mode)
    target = next((tmp_path / "ds" / "sub-m1").glob("*.nwb"))
    first, second = (target.parent / path for path in stored_paths(target))
    content = digest(first)
    first.unlink()
    organize(raw, tmp_path / "ds", media_mode=mode)
    assert digest(first) == content
    first.unlink()
    second.rename(first)  # the videos are swapped in part
    with pytest.raises(MediaExistsError):
        organize(raw, tmp_path / "ds", media_mode=mode)


@needs_symlink
def test_missing_source_video_is_seen(tmp_path: Path, raw: Path) -> None:
    organize(raw, tmp_path / "ds", media_mode="symlink")
    (raw / "2" / "b.avi").unlink()
    with pytest.raises(ExternalFilesError, match=r"b\.avi"):
        organize(raw, tmp_path / "ds", media_mode="symlink")


def test_source_that_is_being_written_is_refused_although_its_bytes_are_known(tmp_path: Path, raw: Path) -> None:
    organize(raw, tmp_path / "ds")
    code = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, raw / "1" / "r.nwb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == b"open"
        with pytest.raises(ExternalFilesError, match=r"r\.nwb"):
            organize(raw, tmp_path / "ds")
        writer.communicate()


def test_target_that_changes_after_it_was_compared_is_not_remembered_as_a_copy(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times do not say that it has changed: here they are put back, elsewhere they count in seconds."""
    organize(raw / "1", tmp_path / "ds", cache=False)
    target = next((tmp_path / "ds").rglob("*.nwb"))
    compare = already_there.is_edited_copy

    def compared(*arguments: Any) -> bool:
        found = compare(*arguments)
        flip(target, "acquisition/video/starting_time")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(already_there, "is_edited_copy", compared)
        organize(raw / "1", tmp_path / "ds")
    for _ in range(2):
        with pytest.raises(MediaExistsError, match="another version of the same NWB file"):
            organize(raw / "1", tmp_path / "ds")


@needs_symlink
def test_link_that_leads_elsewhere_while_it_is_read_is_not_remembered(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = raw / "current.nwb"
    link.symlink_to("1/r.nwb")
    for name in ("a.avi", "b.avi"):
        video(raw / name)
    read = inspection._read

    def redirected(*arguments: Any) -> Any:
        link.unlink()
        link.symlink_to("2/r.nwb")
        found = read(*arguments)
        link.unlink()
        link.symlink_to("1/r.nwb")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(inspection, "_read", redirected)
        organize(link, tmp_path / "ds", dry_run=True)
    (file,) = organize(raw / "1", tmp_path / "ds", dry_run=True)
    assert file.target.parent.name == "sub-m1"


# ------------------------------------------------------------------ what is removed is proven


@pytest.mark.parametrize(
    "call", [{"files_mode": "move"}, {"media_mode": "move"}, {"media_options": {"existing": "replace"}}]
)
def test_calls_that_may_remove_something_do_not_believe_the_cache(
    tmp_path: Path, raw: Path, own_cache: Path, call: dict[str, Any]
) -> None:
    """The cache says of a target with other data that it is a copy."""
    organize(raw / "1", tmp_path / "ds", media_mode="copy")
    target = next((tmp_path / "ds").rglob("*.nwb"))
    flip(target, "acquisition/video/starting_time")
    with known_files(own_cache, MediaOptions()) as known:
        assert known is not None
        source, copy = known.content(raw / "1" / "r.nwb"), known.content(target)
        assert source is not None
        assert copy is not None
        edits = {("/acquisition/video", "external_file"): stored_paths(target)}
        known.keep_copy((source.digest, copy.digest), edits)
    believed = organize(raw / "1", tmp_path / "ds", media_mode="copy", dry_run=True)
    assert all(file.is_there for file in believed)  # so it would be believed
    before = tree(raw)
    if "media_options" in call:
        organize(raw / "1", tmp_path / "ds", **call)
        with h5py.File(target) as new, h5py.File(raw / "1" / "r.nwb") as old:
            assert new["acquisition/video/starting_time"][()] == old["acquisition/video/starting_time"][()]
    else:
        with pytest.raises(MediaExistsError, match="another version of the same NWB file"):
            organize(raw / "1", tmp_path / "ds", **call)
    assert tree(raw) == before


# ------------------------------------------------------------------ whatever happens to the cache


def _garbage(cache: Path) -> None:
    next(cache.iterdir()).write_bytes(b"no database at all" * 1000)


def _truncated(cache: Path) -> None:
    path = next(cache.iterdir())
    os.truncate(path, path.stat().st_size // 2)


def _empty(cache: Path) -> None:
    os.truncate(next(cache.iterdir()), 0)


def _a_folder(cache: Path) -> None:
    path = next(cache.iterdir())
    path.unlink()
    path.mkdir()


def _a_file_as_folder(cache: Path) -> None:
    shutil.rmtree(cache)
    cache.write_bytes(b"")


def _gone(cache: Path) -> None:
    shutil.rmtree(cache)


def _another_table(cache: Path) -> None:
    path = next(cache.iterdir())
    path.unlink()
    with database(path) as connection:
        connection.execute("CREATE TABLE contents (other TEXT)")


def _changed_values(cache: Path) -> None:
    """As a damaged disk does: each value has one letter changed, and is JSON still."""
    with database(next(cache.iterdir())) as connection:
        for key, value in list(connection.execute("SELECT key, value FROM contents")):
            connection.execute("UPDATE contents SET value = ? WHERE key = ?", (value.replace(b"m1", b"m7"), key))


def _swapped_values(cache: Path) -> None:
    with database(next(cache.iterdir())) as connection:
        rows = list(connection.execute("SELECT key, value FROM contents"))
        for (key, _), (_, value) in zip(rows, rows[1:] + rows[:1], strict=True):
            connection.execute("UPDATE contents SET value = ? WHERE key = ?", (value, key))


DAMAGES = [
    _garbage, _truncated, _empty, _a_folder, _a_file_as_folder, _gone, _another_table, _changed_values, _swapped_values,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_changes_no_answer(
    tmp_path: Path, raw: Path, own_cache: Path, damage: Callable[[Path], None], recwarn: pytest.WarningsRecorder
) -> None:
    organize(raw, tmp_path / "ds")
    before = state(tmp_path / "ds")
    damage(own_cache)
    for _ in range(3):
        assert all(file.is_done for file in organize(raw, tmp_path / "ds"))
    assert state(tmp_path / "ds") == before
    flip(raw / "1" / "r.nwb", "acquisition/video/starting_time")
    with pytest.raises(MediaExistsError, match="another version of the same NWB file"):
        organize(raw, tmp_path / "ds")
    assert not [warning for warning in recwarn if "cache" in str(warning.message)]


@pytest.mark.parametrize("damage", [_garbage, _empty, _gone, _changed_values])
def test_damaged_cache_is_made_anew(
    tmp_path: Path, raw: Path, own_cache: Path, damage: Callable[[Path], None], never_opened: Callable[[], None]
) -> None:
    organize(raw, tmp_path / "ds")
    damage(own_cache)
    for _ in range(4):
        organize(raw, tmp_path / "ds")
    never_opened()
    assert all(file.is_done for file in organize(raw, tmp_path / "ds"))


def test_cache_removed_in_mid_run(tmp_path: Path, raw: Path, own_cache: Path) -> None:
    organize(raw, tmp_path / "ds")
    plan = organize(raw, tmp_path / "ds", on_file=lambda file: shutil.rmtree(own_cache, ignore_errors=True))
    assert all(file.is_done for file in plan)


def test_cache_of_another_machine_says_nothing_of_this_one(tmp_path: Path, raw: Path, own_cache: Path) -> None:
    """It was copied with the home folder; the dandiset was not."""
    organize(raw, tmp_path / "ds", media_mode="copy")
    (tmp_path / "ds").rename(tmp_path / "there")
    plan = organize(raw, tmp_path / "ds", media_mode="copy")
    assert not any(file.is_there for file in plan)
    assert tree(tmp_path / "ds") == tree(tmp_path / "there")


@posix
@pytest.mark.parametrize("way", ["file of another user", "file for all", "folder for all", "link"])
def test_cache_that_others_may_have_written_is_not_used(tmp_path: Path, raw: Path, own_cache: Path, way: str) -> None:
    organize(raw / "0", tmp_path / "ds")
    place = next(own_cache.iterdir())
    if way == "file of another user":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(place, 1234, 1234)
    elif way == "link":
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
    else:
        os.chmod(place if way == "file for all" else own_cache, 0o777)
    real = place.resolve()
    before = real.read_bytes()
    cache = Cache(own_cache)
    found = [cache.get(key) for key, _ in _rows(real)]
    assert found == [None, None]
    organize(raw, tmp_path / "ds")
    assert real.read_bytes() == before


def _rows(path: Path) -> list[tuple[bytes, bytes]]:
    with database(f"file:{path}?mode=ro", uri=True) as connection:
        return list(connection.execute("SELECT key, value FROM contents"))


@posix
def test_cache_is_for_its_user_alone(tmp_path: Path, raw: Path, own_cache: Path) -> None:
    """Subject and session ids are in it."""
    before = os.umask(0)
    try:
        organize(raw, tmp_path / "ds")
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o777) for path in (own_cache, *own_cache.iterdir())] == ["0o700", "0o600"]


def test_locked_cache_is_not_waited_for(tmp_path: Path, raw: Path, own_cache: Path) -> None:
    organize(raw / "0", tmp_path / "ds")
    with database(next(own_cache.iterdir()), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with taking_at_most(10):
            organize(raw, tmp_path / "ds")
        other.execute("ROLLBACK")
    assert len(list((tmp_path / "ds").rglob("*.nwb"))) == 3


def test_runs_at_once_share_it(tmp_path: Path, raw: Path, own_cache: Path) -> None:
    code = "import sys; from nwb_extfiles import organize; organize(sys.argv[1], sys.argv[2], media_mode='copy')"
    runs = [
        subprocess.Popen([sys.executable, "-c", code, raw / str(number), tmp_path / f"ds{number}"])
        for number in range(3)
    ]
    assert [run.wait() for run in runs] == [0] * 3
    with database(next(own_cache.iterdir())) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for number in range(3):
        assert len(list((tmp_path / f"ds{number}").rglob("*.nwb"))) == 1


def test_full_disk_under_the_cache_is_no_error(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tmpfs("size=64k") as full:
        monkeypatch.setenv("XDG_CACHE_HOME", str(full))
        (full / "nwb-extfiles").mkdir(mode=0o700)
        organize(raw / "0", tmp_path / "ds")
        (full / "rest").write_bytes(b"x" * (os.statvfs(full).f_bavail * os.statvfs(full).f_bsize))
        for _ in range(2):
            organize(raw, tmp_path / "ds")
        assert len(list((tmp_path / "ds").rglob("*.nwb"))) == 3


@posix
def test_read_only_cache_is_read_and_no_error(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, never_opened: Callable[[], None]
) -> None:
    with tmpfs() as place:
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        organize(raw, tmp_path / "ds")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        recording(tmp_path / "new" / "n.nwb", ["v.avi"], subject="new")
        organize(tmp_path / "new", tmp_path / "ds")
        never_opened()
        organize(raw, tmp_path / "ds")
    assert len(list((tmp_path / "ds").rglob("*.nwb"))) == 4


@posix
def test_user_without_home_has_no_cache(tmp_path: Path, raw: Path) -> None:
    code = (
        "import os, pwd, sys\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"  # as in a container that runs with a number that has no name
        "from nwb_extfiles import organize\n"
        "organize(sys.argv[1], sys.argv[2])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    (tmp_path / "here").mkdir()
    subprocess.run(
        [sys.executable, "-c", code, raw, tmp_path / "ds"], env=environment, cwd=tmp_path / "here", check=True
    )
    assert len(list((tmp_path / "ds").rglob("*.nwb"))) == 3
    assert not list((tmp_path / "here").iterdir())


def test_cache_can_be_turned_off(tmp_path: Path, raw: Path, own_cache: Path) -> None:
    organize(raw / "0", tmp_path / "ds", cache=False)
    code = (
        "import sys; from nwb_extfiles.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'sqlite3', 'platformdirs', 'nwb_extfiles.disk.cache'} & set(sys.modules) - before"
    )
    arguments = ["organize", "--no-cache", "-d", tmp_path / "ds", raw]
    imports = "import sys, dandi.organize; before = set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", imports + code, *map(str, arguments)], check=True)
    assert not own_cache.exists()
    result = CliRunner().invoke(main, ["organize", "-d", str(tmp_path / "ds"), str(raw)])
    assert result.exit_code == 0, result.output
    assert own_cache.is_dir()


@posix
def test_pipe_with_the_name_of_an_nwb_file_is_not_waited_for(tmp_path: Path, raw: Path) -> None:
    os.mkfifo(raw / "pipe.nwb")
    with taking_at_most(10), pytest.raises(ExternalFilesError, match=r"pipe\.nwb"):
        organize([raw / "pipe.nwb"], tmp_path / "ds")


# ------------------------------------------------------------------ the store


def test_cache_stays_below_its_size_and_keeps_what_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nwb_extfiles.disk import cache as module

    monkeypatch.setattr(module, "_LARGEST", 1_000_000)
    now = time.time()
    for day in range(12):
        monkeypatch.setattr(module.time, "time", lambda day=day: now + day * 86_400)
        cache = Cache(tmp_path / "cache")
        assert day == 0 or cache.get(b"used each day") == [1]
        cache.put(b"used each day", [1])
        for number in range(20):
            cache.put(f"{day} {number}".encode(), "x" * 10_000)
        cache.save()
    assert next((tmp_path / "cache").iterdir()).stat().st_size < 2_000_000
    cache = Cache(tmp_path / "cache")
    assert cache.get(b"used each day") == [1]
    assert cache.get(b"11 5") == "x" * 10_000
    assert cache.get(b"0 5") is None


def test_very_long_values_are_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.put(b"long", "x" * 1_000_000)
    cache.put(b"\xff bytes", "\udcff")
    cache.save()
    cache = Cache(tmp_path / "cache")
    assert cache.get(b"long") is None
    assert cache.get(b"\xff bytes") == "\udcff"


def test_large_nwb_files_are_not_read_for_the_cache(tmp_path: Path, own_cache: Path) -> None:
    path = recording(tmp_path / "raw" / "large.nwb", ["v.avi"])
    with h5py.File(path, "r+") as file:
        file["acquisition/video"].create_dataset("extra", data=bytearray(17 * 1024 * 1024))
    video(tmp_path / "raw" / "v.avi")
    for _ in range(2):
        plan = organize(path, tmp_path / "ds")
    assert plan.files[0].is_done
    assert not own_cache.exists()


def test_copy_of_an_nwb_file_in_the_latest_format_opens(tmp_path: Path) -> None:
    """Its superblock has a checksum, so it is edited on disk; its copy is known after it was compared."""
    old = recording(tmp_path / "old.nwb", ["a.avi"])
    (tmp_path / "raw").mkdir()
    with h5py.File(old) as source, h5py.File(tmp_path / "raw" / "r.nwb", "w", libver="latest") as file:
        for name in source:
            source.copy(name, file)
        file.attrs.update(source.attrs)
    shutil.copy(tmp_path / "a.avi", tmp_path / "raw" / "a.avi")
    for _ in range(3):
        (file,) = organize(tmp_path / "raw", tmp_path / "ds")
        assert stored_paths(file.target)[0].startswith("sub-mouse0")
    assert file.is_done

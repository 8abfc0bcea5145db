"""Videos that several NWB files need, folders with several paths, and shared storage.

Each test is a scene in which an early version lost videos or NWB files, or is close to one. The checker is that of
`world`: all content that had a name still has one, and every path that resolved still resolves to the same bytes.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import mounts
import pytest
from helpers import digest
from pynwb import NWBHDF5IO
from world import (
    Outcome,
    Request,
    Watch,
    hardlinked_copy,
    make_nwb,
    make_video,
    run_call,
    run_command,
    set_marker,
    set_path,
    stored,
    swap,
)

from nwb_extfiles import NWBExtFilesHDF5IO

Alias = Callable[[Path], AbstractContextManager[Path]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = Path(os.path.realpath(tmp_path)) / "w"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(root: Path) -> Watch:
    return Watch(root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder for aliases, which the checker must not see twice."""
    folder = Path(os.path.realpath(tmp_path)) / "aliases"
    folder.mkdir()
    return folder


def two_files(folder: Path, name: str = "v.avi") -> tuple[Path, Path]:
    """Make b.nwb with a video in its media folder, and a.nwb beside it that refers to the same video."""
    make_video(folder / name, f"{folder} {name}")
    b = make_nwb(folder / "b.nwb", [name], subject="b")
    assert run_command("relocate", "--media-mode", "move", b).exit_code == 0
    return make_nwb(folder / "a.nwb", [stored(b)], subject="a"), b


def dandiset(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dandiset.yaml").write_text("identifier: '000001'\n")
    return folder


def resolved(nwb_path: Path, index: int = 0) -> Path:
    return nwb_path.parent / stored(nwb_path, index)


def nwb_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nwb"))


# ------------------------------------------------------------------ the same folder by another path


@contextmanager
def symlinked(folder: Path) -> Iterator[Path]:
    alias = folder.parent.parent / "aliases" / "linked"
    alias.symlink_to(folder)
    yield alias


@contextmanager
def bound(folder: Path) -> Iterator[Path]:
    with mounts.bind(folder, within=folder.parent.parent / "aliases") as alias:
        yield alias


@contextmanager
def on_another_device(folder: Path) -> Iterator[Path]:
    with mounts.bindfs(folder, within=folder.parent.parent / "aliases") as alias:
        yield alias


@contextmanager
def bound_with_same_name(folder: Path) -> Iterator[Path]:
    with mounts.bind(folder, folder.parent.parent / "aliases" / folder.name) as alias:
        yield alias


ALIASES = pytest.mark.parametrize(
    "alias",
    [bound, bound_with_same_name, on_another_device, symlinked],
    ids=["bind", "bind-same-name", "bindfs", "symlink"],
)


@pytest.fixture
def organized(root: Path, outside: Path) -> Path:
    """Make a dandiset with one NWB file and the only copy of its video."""
    folder = dandiset(root / "data")
    make_video(root / "raw/v.avi", "v")
    source = make_nwb(root / "raw/a.nwb", ["v.avi"])
    done = run_command("organize", "-d", folder, "-f", "move", "--media-files-mode", "move", source)
    assert done.exit_code == 0, done.output
    return folder


@ALIASES
@pytest.mark.parametrize("media_mode", ["move", "copy", "hardlink", "symlink", None])
def test_organize_dandiset_through_alias(watch: Watch, organized: Path, alias: Alias, media_mode: str | None) -> None:
    words = ["--media-files-mode", media_mode] if media_mode else []
    with alias(organized) as other:
        watch.run("organize", "-d", organized, "-f", "move", *words, other)
        watch.run("organize", "-d", other, "-f", "move", *words, organized)
        watch.run("organize", "-d", other, "-f", "move", *words)
    assert len(nwb_files(organized)) == 1


@ALIASES
def test_organize_one_file_through_alias(watch: Watch, organized: Path, alias: Alias) -> None:
    (path,) = nwb_files(organized)
    with alias(organized) as other:
        watch.run("organize", "-d", organized, "-f", "move", other / path.relative_to(organized))


@ALIASES
def test_organize_folder_and_its_alias_in_one_call(watch: Watch, root: Path, outside: Path, alias: Alias):
    make_video(root / "raw/v.avi", "v")
    make_nwb(root / "raw/a.nwb", ["v.avi"])
    folder = dandiset(root / "data")
    with alias(root / "raw") as other:
        watch.run("organize", "-d", folder, "-f", "move", "--media-files-mode", "move", root / "raw", other)


@ALIASES
@pytest.mark.parametrize("mode", ["move", "copy", "hardlink", "symlink", "reference"])
def test_export_onto_itself_through_alias(watch: Watch, root: Path, outside: Path, alias: Alias, mode: str) -> None:
    folder = root / "data"
    make_video(folder / "v.avi", "v")
    path = make_nwb(folder / "a.nwb", ["v.avi"])
    assert run_command("relocate", "--media-mode", "move", path).exit_code == 0

    with alias(folder) as other:

        def export() -> None:
            with NWBHDF5IO(other / "a.nwb", "r") as source, NWBExtFilesHDF5IO(path, "w") as io:
                io.export(src_io=source, relocate_media=True, media_mode=mode)

        watch.checked(lambda: run_call(export), called=f"export {other / 'a.nwb'} -> {path}, {mode}")


@ALIASES
@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_relocate_path_through_alias_of_media_folder(
    watch: Watch, root: Path, outside: Path, alias: Alias, mode: str
) -> None:
    folder = root / "data"
    make_video(folder / "v.avi", "v")
    path = make_nwb(folder / "a.nwb", ["v.avi"])
    assert run_command("relocate", "--media-mode", "move", path).exit_code == 0
    with alias(folder) as other:
        set_path(path, 0, str(other / stored(path)))
        watch.run("relocate", "--media-mode", mode, path)
        watch.run("relocate", "--media-mode", mode, "--existing", "replace", path, request=Request(replaces=True))
    # the alias is no longer needed
    assert resolved(path).is_file() or str(other) in stored(path)


@ALIASES
@pytest.mark.parametrize("mode", ["move", "copy"])
def test_relocate_one_file_by_two_paths(watch: Watch, root: Path, outside: Path, alias: Alias, mode: str) -> None:
    make_video(root / "data/v.avi", "v")
    path = make_nwb(root / "data/a.nwb", ["v.avi"])
    with alias(root / "data") as other:
        watch.run("relocate", "--media-mode", mode, path, other / "a.nwb")
        watch.run("relocate", "--media-mode", mode, other / "a.nwb", path)


@ALIASES
def test_move_of_video_needed_through_alias(watch: Watch, root: Path, outside: Path, alias: Alias) -> None:
    """b.nwb, beside a.nwb, refers to a video in its own media folder; a.nwb refers to it through the alias."""
    a, b = two_files(root / "data")
    with alias(root / "data") as other:
        set_path(a, 0, str(other / stored(b)))
        watch.run("relocate", "--media-mode", "move", a)


@contextmanager
def any_case(kind: str) -> Iterator[Path]:
    """A file system that ignores case."""
    if kind == "exfat":
        with mounts.loop("exfat") as place:
            yield place
        return
    if shutil.which("lowntfs-3g") is None:
        pytest.skip("NOT TESTED HERE: lowntfs-3g is missing (apt-get install ntfs-3g)")
    with mounts.tmpfs("size=80m") as room:
        image, place = room / "image", room / "ntfs"
        with image.open("wb") as stream:
            stream.truncate(64 * 1024 * 1024)
        subprocess.run(["mkfs.ntfs", "-F", "-Q", "-q", str(image)], check=True, capture_output=True)
        with mounts.mounted(["lowntfs-3g", "-o", "ignore_case", str(image), str(place)], place):
            yield place


@pytest.mark.parametrize("kind", ["exfat", "ntfs"])
@pytest.mark.parametrize("media_mode", ["move", "copy", None])
def test_organize_dandiset_named_in_another_case(kind: str, media_mode: str | None) -> None:
    with any_case(kind) as place:
        folder = dandiset(place / "data")
        make_video(place / "raw/v.avi", "v")
        make_nwb(place / "raw/a.nwb", ["v.avi"])
        watch = Watch(place)
        first = ["-f", "move", "--media-files-mode", "move"]
        watch.succeeds("organize", "-d", folder, *first, place / "raw")
        words = ["--media-files-mode", media_mode] if media_mode else []
        watch.run("organize", "-d", folder, "-f", "move", *words, place / "DATA")
        (path,) = nwb_files(folder)
        watch.run("organize", "-d", folder, "-f", "move", *words, place / "Data" / path.relative_to(folder))


@pytest.mark.parametrize("kind", ["exfat", "ntfs"])
@pytest.mark.parametrize("mode", ["move", "copy"])
def test_paths_in_another_case(kind: str, mode: str) -> None:
    """The stored path has the media folder in upper case, and b.nwb is named B.NWB."""
    with any_case(kind) as place:
        make_video(place / "v.avi", "v")
        path = make_nwb(place / "a.nwb", ["V.avi"])
        watch = Watch(place)
        watch.succeeds("relocate", "--media-mode", "move", path)
        set_path(path, 0, stored(path).replace("a/", "A/"))
        watch.run("relocate", "--media-mode", mode, path)
        watch.run("relocate", "--media-mode", mode, place / "A.NWB")
        watch.run("relocate", "--media-mode", mode, path, place / "A.NWB")
        path.rename(place / "between")
        (place / "between").rename(place / "A.nwb")
        watch.run("relocate", "--media-mode", mode, place / "A.nwb")


# ------------------------------------------------------------------ swapped videos, and what is replaced


def swapped(root: Path) -> tuple[Path, Path]:
    """Make two NWB files with manifests, each with the video of the other under the name of its own."""
    files = []
    for name in "ab":
        make_video(root / f"raw/{name}.avi", name)
        path = make_nwb(root / f"ds/{name}.nwb", [f"../raw/{name}.avi"], subject=name)
        assert run_command("relocate", "--media-mode", "move", "--manifest", path).exit_code == 0
        files.append(path)
    swap(*map(resolved, files))
    return files[0], files[1]


@pytest.mark.parametrize("mode", ["symlink", "copy", "move", "hardlink"])
@pytest.mark.parametrize("named", ["a", "b", "ab", "ba"])
def test_repair_swapped_videos_keeps_both(watch: Watch, root: Path, mode: str, named: str) -> None:
    files = dict(zip("ab", swapped(root), strict=True))
    contents = {name: digest(resolved(path)) for name, path in zip("ba", files.values(), strict=True)}
    paths = [files[name] for name in named]
    words = ["relocate", "--repair", "--search", root / "ds", "--media-mode", mode]
    request = Request(repairs=frozenset(paths))
    watch.run(*words, *paths, request=request)
    outcome = watch.run(
        *words, "--existing", "replace", *paths, request=Request(replaces=True, repairs=request.repairs)
    )
    if len(named) == 2 and mode != "symlink":  # two links cannot point to each other
        assert outcome.exit_code == 0, "both files are named: each video can go to its place"
        assert {name: digest(resolved(path)) for name, path in files.items()} == contents


def test_repair_cycle_of_three_videos(watch: Watch, root: Path) -> None:
    files = []
    for name in "abc":
        make_video(root / f"raw/{name}.avi", name)
        path = make_nwb(root / f"ds/{name}.nwb", [f"../raw/{name}.avi"], subject=name)
        assert run_command("relocate", "--media-mode", "move", "--manifest", path).exit_code == 0
        files.append(path)
    right = [digest(resolved(path)) for path in files]
    swap(resolved(files[0]), resolved(files[1]))
    swap(resolved(files[1]), resolved(files[2]))
    request = Request(replaces=True, repairs=frozenset(files))
    for some in ([files[0]], files[:2], files):
        words = ["--repair", "--existing", "replace", "--search", root / "ds", "--media-mode", "move"]
        watch.run("relocate", *words, *some, request=request)
    assert [digest(resolved(path)) for path in files] == right


def test_replace_of_video_another_file_of_the_call_needs(watch: Watch, root: Path) -> None:
    """The video that b.nwb refers to is at the target of a.nwb. The call names b.nwb too, first or last."""
    for order in ("ab", "ba"):
        folder = root / order
        make_video(folder / "one.avi", f"one {order}")
        a = make_nwb(folder / "a.nwb", ["one.avi"], subject="a")
        assert run_command("relocate", "--media-mode", "move", a).exit_code == 0
        b = make_nwb(folder / "b.nwb", [stored(a)], subject="b")
        make_video(folder / "two.avi", f"two {order}")
        set_path(a, 0, "two.avi")
        files = [{"a": a, "b": b}[name] for name in order]
        for mode in ("copy", "move", "symlink"):
            words = ["--existing", "replace", "--media-mode", mode]
            watch.run("relocate", *words, a, request=Request(replaces=True))
            watch.run("relocate", *words, *files, request=Request(replaces=True))


def test_replace_of_video_only_a_manifest_names(watch: Watch, root: Path) -> None:
    """The manifest of a.nwb describes the former video, its path a new one. There is no other copy of the former."""
    make_video(root / "one.avi", "one")
    a = make_nwb(root / "a.nwb", ["one.avi"])
    watch.succeeds("relocate", "--media-mode", "move", "--manifest", a)
    make_video(root / "two.avi", "two")
    set_path(a, 0, "two.avi")
    watch.run("relocate", "--existing", "replace", "--media-mode", "move", a, request=Request(replaces=True))


def test_replaced_unneeded_media_are_named(watch: Watch, root: Path) -> None:
    make_video(root / "one.avi", "one")
    a = make_nwb(root / "a.nwb", ["one.avi"])
    watch.succeeds("relocate", "--media-mode", "move", a)
    make_video(root / "two.avi", "two")
    set_path(a, 0, "two.avi")
    watch.succeeds("relocate", "--existing", "replace", "--media-mode", "copy", a, request=Request(replaces=True))


# ------------------------------------------------------------------ the tool's own advice


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink", "reference"])
def test_relocate_both_files_of_a_shared_video(watch: Watch, root: Path, order: str, mode: str) -> None:
    files = dict(zip("ab", two_files(root), strict=True))
    watch.run("relocate", "--media-mode", mode, files["a"])
    watch.succeeds("relocate", "--media-mode", mode, *(files[name] for name in order))
    for name in "ab":
        assert resolved(files[name]).is_file()


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_move_of_link_to_video_of_another_file(watch: Watch, root: Path, order: str) -> None:
    files = dict(zip("ab", two_files(root), strict=True))
    watch.succeeds("relocate", "--media-mode", "symlink", files["a"])
    watch.run("relocate", "--media-mode", "move", files["a"])
    watch.succeeds("relocate", "--media-mode", "move", *(files[name] for name in order))


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("mode", ["symlink", "move", "copy"])
def test_renamed_file_and_another_using_its_media_folder(watch: Watch, root: Path, order: str, mode: str) -> None:
    """After the rename, the media folder has the former name. Both files are in one call, in the default mode too."""
    a, b = two_files(root)
    b = b.rename(root / "renamed.nwb")
    files = {"a": a, "b": b}
    watch.run("relocate", "--media-mode", mode, b)
    watch.run("relocate", "--media-mode", mode, a)
    watch.run("relocate", "--media-mode", mode, *(files[name] for name in order))


@pytest.mark.parametrize("mode", ["symlink", "move", "copy", "hardlink"])
def test_renamed_file_whose_media_folder_another_file_links_to(watch: Watch, root: Path, mode: str) -> None:
    """a.nwb has a link in a/ that points into b/. b.nwb is renamed, and its folder would be renamed too."""
    a, b = two_files(root)
    watch.succeeds("relocate", "--media-mode", "symlink", a)
    b = b.rename(root / "renamed.nwb")
    watch.run("relocate", "--media-mode", mode, b)


# ------------------------------------------------------------------ stores


@pytest.fixture
def store(root: Path) -> Path:
    """Make a shared folder, and one like that of git-annex, both read-only."""
    for name in ("shared/s.avi", ".git/annex/objects/aa/bb/KEY/KEY.avi"):
        make_video(root / "store" / name, name).chmod(0o444)
    return root / "store"


LINKED = {
    "annexed": ("raw/v.avi", "../store/.git/annex/objects/aa/bb/KEY/KEY.avi"),
    "shared folder": ("raw/shared", "../store/shared"),
}
CALLS = ("relocate", "organize", "export", "write")


@pytest.mark.parametrize("kind", LINKED)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("mode", ["move", "hardlink", "copy", "symlink", "reference"])
def test_shared_storage_behind_links_is_unchanged(root: Path, store: Path, kind: str, call: str, mode: str) -> None:
    watch = Watch(root, store=store)
    link, target = LINKED[kind]
    (root / "raw").mkdir()
    (root / link).symlink_to(target)
    (root / "raw/second.avi").symlink_to(os.path.join(target, "s.avi") if kind == "shared folder" else target)
    name = "shared/s.avi" if kind == "shared folder" else "v.avi"
    a = make_nwb(root / "raw/a.nwb", [name], subject="a")
    make_nwb(root / "raw/b.nwb", ["second.avi"], subject="b")
    do(watch, call, mode, a, root)
    for path in ("v.avi", "second.avi"):
        place = root / "raw" / path
        assert not place.is_symlink() or place.exists(), f"{path} is a broken link"
    if kind == "annexed":
        assert (root / "raw/second.avi").exists()
    assert (root / "store/.git/annex/objects/aa/bb/KEY/KEY.avi").stat().st_nlink == 1 or kind != "annexed"


@pytest.mark.parametrize("beside", [True, False], ids=["link-beside-the-file", "link-in-another-folder"])
@pytest.mark.parametrize("call", CALLS)
def test_move_leaves_what_is_behind_a_linked_folder(root: Path, store: Path, call: str, beside: bool) -> None:
    """No other NWB file in reach needs the video: the linked folder alone says that it may be shared."""
    watch = Watch(root, store=store)
    (root / "raw").mkdir()
    (root / "raw/shared").symlink_to("../store/shared")
    a = make_nwb(
        root / ("raw/a.nwb" if beside else "other/a.nwb"), ["shared/s.avi" if beside else "../raw/shared/s.avi"]
    )
    outcome = do(watch, call, "move", a, root)
    assert "is in a linked folder" in outcome.output
    assert (root / "store/shared/s.avi").stat().st_nlink == 1
    new = {path for path in root.rglob("*_external_file_0.avi") if not path.is_symlink()}
    assert len(new) == 1


def test_reference_keeps_the_path_through_a_linked_folder(root: Path) -> None:
    """So that a later move leaves the video, and the path stays good when the folder is linked elsewhere."""
    make_video(root / "store/shared/s.avi", "s")
    (root / "raw").mkdir()
    (root / "raw/shared").symlink_to("../store/shared")
    a = make_nwb(root / "other/a.nwb", [str(root / "raw/shared/s.avi")])
    Watch(root).succeeds("relocate", "--media-mode", "reference", a)
    assert stored(a) == "../raw/shared/s.avi"


def test_reference_through_a_linked_folder_and_up_again(root: Path) -> None:
    """``link/../b.avi`` is beside what the link leads to, not beside the link."""
    right, wrong = make_video(root / "store/b.avi", "right"), make_video(root / "nwb/b.avi", "wrong")
    (root / "store/sub").mkdir()
    (root / "nwb/link").symlink_to(root / "store/sub")
    a = make_nwb(root / "nwb/a.nwb", ["link/../b.avi"])
    Watch(root).succeeds("relocate", "--media-mode", "reference", a)
    assert digest(a.parent / stored(a)) == digest(right) != digest(wrong)


def test_repair_leaves_what_is_behind_a_linked_folder(root: Path, store: Path) -> None:
    watch = Watch(root, store=store)
    video = make_video(root / "raw/s.avi", "shared/s.avi")
    a = make_nwb(root / "raw/a.nwb", ["s.avi"])
    watch.succeeds("relocate", "--media-mode", "copy", "--manifest", a)
    (root / "raw/shared").symlink_to(root / "store/shared")
    video.unlink()
    resolved(a).unlink()
    outcome = Watch(root, store=store).run(
        "relocate", "--repair", "--media-mode", "move", "--search", root / "raw/shared", a
    )
    assert (outcome.exit_code, "is in a linked folder" in outcome.output) == (0, True), outcome.output
    assert digest(a.parent / stored(a)) == digest(root / "store/shared/s.avi")


def test_move_from_a_linked_folder_that_is_mapped_to_the_real_one(root: Path) -> None:
    """As the warning advises."""
    video = make_video(root / "store/shared/s.avi", "s")
    (root / "raw").mkdir()
    (root / "raw/shared").symlink_to("../store/shared")
    a = make_nwb(root / "raw/a.nwb", ["shared/s.avi"])
    watch = Watch(root)
    said = watch.succeeds("relocate", "--media-mode", "move", "--dry-run", a).output
    words = shlex.split(said[said.index("--path-map-for") :].splitlines()[0])
    watch.succeeds("relocate", "--media-mode", "move", *words, a)
    assert not video.exists()
    assert (a.parent / stored(a)).read_bytes()


@pytest.mark.parametrize("call", CALLS)
def test_move_of_video_behind_the_link_that_the_nwb_file_is_behind(watch: Watch, root: Path, call: str) -> None:
    """``data -> disk/data`` leads to the NWB file as to its video, so nothing of others is behind it."""
    video = make_video(root / "disk/data/v.avi", "v")
    (root / "data").symlink_to("disk/data")
    path = make_nwb(root / "disk/data/nwb/a.nwb", [str(root / "data/v.avi")])
    do(watch, call, "move", path, root)
    assert not video.exists()


@pytest.mark.parametrize("call", CALLS)
def test_move_through_a_link_to_a_folder_above_leaves_the_video(watch: Watch, root: Path, call: str) -> None:
    """``lab -> ../..`` leads out of the folder of the NWB file, as ``shared -> ../../shared`` does."""
    video = make_video(root / "shared/v.avi", "v")
    path = make_nwb(root / "me/nwb/a.nwb", ["lab/shared/v.avi"])
    (root / "me/nwb/lab").symlink_to("../..")
    outcome = do(watch, call, "move", path, root)
    assert "is in a linked folder" in outcome.output
    assert video.stat().st_nlink == 1


@pytest.mark.parametrize("linked_first", [True, False])
@pytest.mark.parametrize("call", ["relocate", "export"])
def test_video_that_is_reached_directly_and_through_a_linked_folder_stays(
    root: Path, call: str, linked_first: bool
) -> None:
    video = make_video(root / "store/shared/s.avi", "s")
    (root / "raw").mkdir()
    (root / "raw/shared").symlink_to("../store/shared")
    a = make_nwb(root / "raw/a.nwb", ["shared/s.avi", "../store/shared/s.avi"][:: 1 if linked_first else -1])
    outcome = do(Watch(root), call, "move", a, root)
    assert "is in a linked folder, and others may use the video; it is copied, and stays" in outcome.output
    assert digest(video)
    assert video.stat().st_nlink == 1
    moved = set(root.rglob("*_external_file_?.avi"))
    assert len(moved) == 2
    assert {digest(path) for path in moved} == {digest(video)}


def test_video_that_one_nwb_file_reaches_through_a_linked_folder_stays_for_the_other_too(root: Path) -> None:
    video = make_video(root / "store/shared/s.avi", "s")
    (root / "raw").mkdir()
    (root / "raw/shared").symlink_to("../store/shared")
    a = make_nwb(root / "raw/a.nwb", ["shared/s.avi"], subject="a")
    b = make_nwb(root / "raw/b.nwb", ["../store/shared/s.avi"], subject="b")
    output = Watch(root).succeeds("relocate", "--media-mode", "move", a, b).output
    assert "is in a linked folder" in output
    assert f"{b}: {video} stays, because another NWB file of the call reaches it through a linked folder" in output
    assert {digest(path.parent / stored(path)) for path in (a, b)} == {digest(video)}


def test_video_reached_both_ways_moves_once_the_linked_path_is_mapped(root: Path) -> None:
    """As the warning advises."""
    video = make_video(root / "store/shared/s.avi", "s")
    (root / "raw").mkdir()
    (root / "raw/shared").symlink_to("../store/shared")
    a = make_nwb(root / "raw/a.nwb", ["../store/shared/s.avi", "shared/s.avi"])
    said = Watch(root).succeeds("relocate", "--media-mode", "move", "--dry-run", a).output
    words = shlex.split(said[said.index("--path-map-for") :].splitlines()[0])
    Watch(root).succeeds("relocate", "--media-mode", "move", *words, a)
    assert not video.exists()


def do(watch: Watch, call: str, mode: str, path: Path, root: Path) -> Outcome:
    """Relocate, organize, export or restore an NWB file."""
    removes_source = frozenset([path] if mode == "move" else [])
    if call == "relocate":
        return watch.run("relocate", "--media-mode", mode, path)
    if call == "organize":
        request = Request(organizes=True, removes_source=removes_source)
        return watch.run("organize", "-d", dandiset(root / "ds"), "--media-files-mode", mode, path, request=request)
    if call == "export":

        def export() -> None:
            with NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO(root / "out/a.nwb", "w") as io:
                io.export(src_io=source, relocate_media=True, media_mode=mode)

        return watch.checked(lambda: run_call(export), Request(removes_source=removes_source), f"export {path}, {mode}")

    def write() -> None:
        with NWBExtFilesHDF5IO(path, "r+") as io:
            io.write(io.read(), relocate_media=True, media_mode=mode)

    return watch.checked(lambda: run_call(write), called=f"write {path}, r+, {mode}")


@pytest.mark.parametrize("call", CALLS)
def test_move_removes_only_the_named_link(watch: Watch, root: Path, call: str) -> None:
    """raw/v.avi -> other/link.avi -> other/v.avi, where other/ belongs to another project."""
    make_video(root / "other/v.avi", "v")
    (root / "other/link.avi").symlink_to("v.avi")
    (root / "raw").mkdir()
    (root / "raw/v.avi").symlink_to("../other/link.avi")
    path = make_nwb(root / "raw/a.nwb", ["v.avi"])
    do(watch, call, "move", path, root)
    assert (root / "other/link.avi").is_symlink()
    assert (root / "other/link.avi").exists()
    assert not (root / "other/v.avi").is_symlink()


@pytest.mark.skipif(shutil.which("git-annex") is None, reason="NOT TESTED HERE: git-annex is missing")
@pytest.mark.parametrize("mode", ["move", "hardlink", "copy", "symlink"])
@pytest.mark.parametrize("call", CALLS)
def test_real_git_annex_is_intact_after_move(tmp_path: Path, mode: str, call: str) -> None:
    root = Path(os.path.realpath(tmp_path)) / "annex"
    root.mkdir()
    names = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "HOME": str(tmp_path)}

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    git("init", "-q")
    git("annex", "init", "-q")
    make_video(root / "raw/v.avi", "v")
    shutil.copy(root / "raw/v.avi", root / "raw/second.avi")  # the same key
    path = make_nwb(root / "a.nwb", ["raw/v.avi"])
    try:
        git("annex", "add", "-q", "raw")
        git("commit", "-qm", "raw")
        watch = Watch(root, store=root / ".git/annex/objects")
        do(watch, call, mode, path, root)
        assert (root / "raw/second.avi").exists()
        git("annex", "fsck", "-q")  # fails if content is missing
        git("annex", "unlock", "-q", "raw/second.avi")
        watch.run("check", root)
        assert resolved(path).exists() or call in ("export", "organize")
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=True)


# ------------------------------------------------------------------ other NWB files


OWNERS = pytest.mark.parametrize("suffix", [".nwb", ".NWB", ".h5", ".hdf5"])


@OWNERS
@pytest.mark.parametrize("call", CALLS)
def test_move_out_of_media_folder_of_another_file(watch: Watch, root: Path, call: str, suffix: str) -> None:
    a, b = two_files(root)
    b.rename(b.with_suffix(suffix))
    do(watch, call, "move", a, root)


@OWNERS
@pytest.mark.parametrize("call", CALLS)
def test_media_folder_owner_in_another_folder(watch: Watch, root: Path, call: str, suffix: str) -> None:
    """a.nwb is in processed/, b in raw/, the video in b's media folder."""
    a, b = two_files(root / "raw")
    (root / "processed").mkdir()
    a = a.rename(root / "processed/a.nwb")
    set_path(a, 0, f"../raw/{stored(b)}")
    b.rename(b.with_suffix(suffix))
    do(watch, call, "move", a, root)


@pytest.mark.parametrize("call", CALLS)
def test_move_of_raw_video_needed_by_file_beside(watch: Watch, root: Path, call: str) -> None:
    """Two NWB files refer to v.avi beside them; the call names one."""
    make_video(root / "v.avi", "v")
    a, _ = (make_nwb(root / f"{name}.nwb", ["v.avi"], subject=name) for name in "ab")
    do(watch, call, "move", a, root)


@pytest.mark.parametrize("call", CALLS)
def test_move_of_video_needed_through_link(watch: Watch, root: Path, call: str) -> None:
    make_video(root / "v.avi", "v")
    a, b = (make_nwb(root / f"{name}.nwb", ["v.avi"], subject=name) for name in "ab")
    watch.succeeds("relocate", "--media-mode", "symlink", b)
    do(watch, call, "move", a, root)


@pytest.mark.parametrize("call", ["relocate", "write", "organize"])
def test_move_of_video_needed_in_dandiset(watch: Watch, root: Path, call: str) -> None:
    """In a dandiset, sub-a/a.nwb and sub-c/c.nwb refer to a video in sub-b."""
    folder = dandiset(root / "ds")
    make_video(folder / "sub-b/v.avi", "v")
    a = make_nwb(folder / "sub-a/a.nwb", ["../sub-b/v.avi"], subject="a")
    make_nwb(folder / "sub-c/c.nwb", ["../sub-b/v.avi"], subject="c")
    do(watch, call, "move", a, root)


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("files_mode", ["copy", "move"])
def test_organize_move_of_both_files_of_a_shared_video(watch: Watch, root: Path, order: str, files_mode: str) -> None:
    files = dict(zip("ab", two_files(root / "raw"), strict=True))
    paths = [files[name] for name in order]
    removes_source = frozenset(paths if files_mode == "copy" else [])
    words = ["-d", root / "ds", "-f", files_mode, "--media-files-mode", "move"]
    watch.succeeds("organize", *words, *paths, request=Request(organizes=True, removes_source=removes_source))
    assert all(resolved(path).is_file() for path in nwb_files(root / "ds"))


def test_organize_in_place_of_two_files_sharing_a_video(watch: Watch, root: Path) -> None:
    folder = dandiset(root / "ds")
    two_files(folder / "sub-x")
    for mode in (None, "move"):
        words = ["--media-files-mode", mode] if mode else []
        watch.run("organize", "-d", folder, "-f", "move", *words)


@pytest.mark.parametrize("mode", [None, "copy", "move", "symlink", "hardlink"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_organize_move_of_one_of_two_files_sharing_a_video(
    watch: Watch, root: Path, name: str, mode: str | None
) -> None:
    files = dict(zip("ab", two_files(root / "raw"), strict=True))
    words = ["--media-files-mode", mode] if mode else []
    watch.run(
        "organize", "-d", dandiset(root / "ds"), "-f", "move", *words, files[name], request=Request(organizes=True)
    )


@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink", "move", "reference"])
@OWNERS
def test_renamed_media_folder_used_by_another_file(watch: Watch, root: Path, suffix: str, mode: str) -> None:
    """a.nwb uses the folder of b.nwb, and b.nwb was renamed. The folder keeps its name while a.nwb needs it."""
    a, b = two_files(root)
    a.rename(a.with_suffix(suffix))
    b = b.rename(root / "renamed.nwb")
    watch.run("relocate", "--media-mode", mode, b)


# ------------------------------------------------------------------ time and ids, backups


@pytest.mark.parametrize("media_mode", [None, "copy", "move"])
def test_corrected_data_with_old_mtime(watch: Watch, root: Path, media_mode: str | None) -> None:
    make_video(root / "raw/v.avi", "v")
    path = make_nwb(root / "raw/a.nwb", ["v.avi"])
    words = ["-d", root / "ds", *(["--media-files-mode", media_mode] if media_mode == "copy" else [])]
    watch.succeeds("organize", *words, "-f", "copy", path)
    set_marker(path, "corrected")
    words = ["-d", root / "ds", *(["--media-files-mode", media_mode] if media_mode else [])]
    watch.run("organize", *words, "-f", "move", path, request=Request(organizes=True))


@pytest.mark.parametrize("call", ["relocate", "write"])
@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink", "reference"])
def test_hard_linked_backup_is_unchanged(root: Path, call: str, mode: str) -> None:
    make_video(root / "now/v.avi", "v")
    path = make_nwb(root / "now/a.nwb", ["v.avi"])
    hardlinked_copy(root / "now", root / "backup")
    do(Watch(root, backup=root / "backup"), call, mode, path, root)

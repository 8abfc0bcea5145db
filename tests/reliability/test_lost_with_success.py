"""Hostile scenes in which a command may end well and a video or an NWB file is lost all the same.

As in ``test_shared_videos.py``, what is on disk is judged; each scene is one that somebody could meet in a laboratory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import mounts
import pytest
from helpers import digest, image_series, new_nwbfile
from pynwb import NWBHDF5IO
from world import (
    Told,
    Watch,
    make_nwb,
    make_video,
    run_call,
    run_command,
    set_path,
    stored,
    swap,
)

from nwb_extfiles import NWBExtFilesHDF5IO


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = Path(os.path.realpath(tmp_path)) / "w"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(root: Path) -> Watch:
    return Watch(root)


def settled(path: Path, mode: str = "move", *words: str) -> Path:
    """An NWB file whose one video is in its media folder."""
    make_video(path.parent / f"{path.stem}.avi", str(path))
    make_nwb(path, [f"{path.stem}.avi"], subject=path.stem)
    assert run_command("relocate", "--media-mode", mode, *words, path).exit_code == 0
    return path


def resolved(path: Path) -> Path:
    return path.parent / stored(path)


def exported(source: Path, target: Path, mode: str, **options: object) -> Callable[[], None]:
    def call() -> None:
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode=mode, media_options=options)

    return call


# ------------------------------------------------------------------ NWB files that are equal, or nearly


def test_organize_two_hard_linked_nwb_files_with_different_videos(watch: Watch, root: Path) -> None:
    """One inode, two names; "v.avi" beside each is another video."""
    for name in "xy":
        make_video(root / name / "v.avi", name)
    first = make_nwb(root / "x/a.nwb", ["v.avi"])
    os.link(first, root / "y/a.nwb")
    told = Told(organizes=True)
    for words in ([], ["--media-files-mode", "copy"], ["--media-files-mode", "move"]):
        watch.run("organize", "-d", root / "ds", "-f", "move", *words, root / "x", root / "y", told=told)


@pytest.mark.parametrize("mode", ["move", "copy", None])
def test_organize_again_after_video_in_dandiset_changed(watch: Watch, root: Path, mode: str | None) -> None:
    """The NWB file is there already; its video is not: what is there under that name is another one."""
    make_video(root / "raw/v.avi", "v")
    path = make_nwb(root / "raw/a.nwb", ["v.avi"])
    watch.succeeds("organize", "-d", root / "ds", "--media-files-mode", "copy", path)
    (there,) = (root / "ds").rglob("*.avi")
    make_video(there, "another")
    words = ["--media-files-mode", mode] if mode else []
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, path, told=Told(organizes=True))


@pytest.mark.parametrize("mode", ["move", "copy", None])
def test_organize_again_after_video_in_dandiset_is_gone(watch: Watch, root: Path, mode: str | None) -> None:
    make_video(root / "raw/v.avi", "v")
    path = make_nwb(root / "raw/a.nwb", ["v.avi"])
    watch.succeeds("organize", "-d", root / "ds", "--media-files-mode", "copy", path)
    (there,) = (root / "ds").rglob("*.avi")
    there.unlink()
    words = ["--media-files-mode", mode] if mode else []
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, path, told=Told(organizes=True))


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_copied_nwb_file_using_folder_of_renamed_original(watch: Watch, root: Path, mode: str) -> None:
    """a.nwb is copied to c.nwb and renamed to z.nwb: the folder a/ has a former name for both."""
    a = settled(root / "a.nwb")
    shutil.copy(a, root / "c.nwb")
    a.rename(root / "z.nwb")
    watch.run("relocate", "--media-mode", mode, root / "c.nwb")
    watch.run("relocate", "--media-mode", mode, root / "z.nwb")


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_two_files_with_one_media_folder(watch: Watch, root: Path, mode: str) -> None:
    """a.h5 is a copy of a.nwb, object ids and all, with another video: both want the name a/<object_id>_0.avi."""
    for name in ("one", "two"):
        make_video(root / f"{name}.avi", name)
    a = make_nwb(root / "a.nwb", ["one.avi"])
    other = Path(shutil.copy(a, root / "a.h5"))
    set_path(other, 0, "two.avi")
    told = Told(replaces=True)
    for words in ([], ["--existing", "replace"]):
        watch.run("relocate", "--media-mode", mode, *words, a, told=told)
        watch.run("relocate", "--media-mode", mode, *words, other, told=told)
        watch.run("relocate", "--media-mode", mode, *words, a, other, told=told)


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_rename_with_folder_shared_by_file_of_another_suffix(watch: Watch, root: Path, mode: str) -> None:
    """a.nwb and a.h5 share a/; a.nwb becomes b.nwb."""
    a = settled(root / "a.nwb")
    shutil.copy(a, root / "a.h5")
    watch.run("relocate", "--media-mode", mode, a.rename(root / "b.nwb"))


# ------------------------------------------------------------------ folders that are links


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_media_folder_is_link_to_video_folder(watch: Watch, root: Path, mode: str) -> None:
    """a/ was replaced by a link to a big disk, and the path names the video there: it is its own target."""
    a = settled(root / "a.nwb")
    (root / "a").rename(root / "disk")
    (root / "a").symlink_to("disk")
    set_path(a, 0, stored(a).replace("a/", "disk/", 1))
    watch.run("relocate", "--media-mode", mode, a)
    watch.run("relocate", "--media-mode", mode, "--existing", "replace", a, told=Told(replaces=True))


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_export_to_media_folder_linked_to_that_of_source(watch: Watch, root: Path, mode: str) -> None:
    a = settled(root / "raw/a.nwb")
    (root / "out").mkdir()
    (root / "out/b").symlink_to("../raw/a")
    removes_source = frozenset([a] if mode == "move" else [])
    watch.checked(
        lambda: run_call(exported(a, root / "out/b.nwb", mode)), Told(removes_source=removes_source), f"export {mode}"
    )
    if (root / "out/b.nwb").exists():
        assert resolved(root / "out/b.nwb").is_file()


@pytest.mark.parametrize("media_mode", ["move", "copy", None])
def test_subject_folder_is_link_to_raw_folder(watch: Watch, root: Path, media_mode: str | None) -> None:
    make_video(root / "raw/v.avi", "v")
    make_nwb(root / "raw/a.nwb", ["v.avi"], subject="m")
    (root / "ds").mkdir()
    (root / "ds/dandiset.yaml").write_text("identifier: '000001'\n")
    (root / "ds/sub-m").symlink_to("../raw")
    words = ["--media-files-mode", media_mode] if media_mode else []
    told = Told(organizes=True)
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, root / "raw", told=told)
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, root / "raw", told=told)
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, told=told)


def test_symlinks_moved_later_become_videos(watch: Watch, root: Path) -> None:
    """The default mode first, then a move of the same file: the link leads to what is to move."""
    make_video(root / "raw/v.avi", "v")
    a = make_nwb(root / "a.nwb", ["raw/v.avi"])
    watch.succeeds("relocate", a)
    for mode in ("move", "hardlink", "copy", "move"):
        watch.run("relocate", "--media-mode", mode, a)


# ------------------------------------------------------------------ who else needs it


@pytest.mark.parametrize("mode", ["move", "copy"])
def test_move_of_raw_videos_the_dandiset_links_to(watch: Watch, root: Path, mode: str) -> None:
    """The first session was organized by symbolic links, the second, with the same video, by a move."""
    make_video(root / "raw/v.avi", "v")
    a, b = (make_nwb(root / f"raw/{name}.nwb", ["v.avi"], subject=name) for name in "ab")
    told = Told(organizes=True)
    watch.succeeds("organize", "-d", root / "ds", "-f", "move", a, told=told)
    watch.run("organize", "-d", root / "ds", "-f", "move", "--media-files-mode", mode, b, told=told)


@pytest.mark.parametrize("call", ["relocate", "organize"])
def test_move_of_links_shared_by_two_files(watch: Watch, root: Path, call: str) -> None:
    """Both files have links to one raw video; one of them is moved for real."""
    make_video(root / "raw/v.avi", "v")
    paths = [make_nwb(root / f"raw/{name}.nwb", ["v.avi"], subject=name) for name in "ab"]
    watch.succeeds("organize", "-d", root / "ds", "-f", "move", *paths, told=Told(organizes=True))
    first = min((root / "ds").rglob("*.nwb"))
    if call == "relocate":
        watch.run("relocate", "--media-mode", "move", first)
    else:
        words = ["-f", "move", "--media-files-mode", "move", "--required-field", "session_id"]
        watch.run("organize", "-d", root / "ds", *words, first, told=Told(organizes=True))


@pytest.mark.parametrize("how", ["search", "path-map", "repair"])
def test_search_hit_in_media_folder_of_another_file(watch: Watch, root: Path, how: str) -> None:
    """a.nwb lost its video; the same is in b.nwb's media folder, where it is found, and moved away."""
    b = settled(root / "other/b.nwb")
    make_video(root / "raw/v.avi", "gone")
    a = make_nwb(root / "raw/a.nwb", ["v.avi"], subject="a")
    if how == "repair":
        shutil.copy(resolved(b), root / "raw/v.avi")
        assert run_command("relocate", "--media-mode", "move", "--manifest", a).exit_code == 0
        resolved(a).unlink()
        words = ["--repair", "--search", root / "other"]
    elif how == "search":
        (root / "raw/v.avi").unlink()
        set_path(a, 0, f"/lost/{resolved(b).name}")
        words = ["--search", root / "other/b"]
    else:
        (root / "raw/v.avi").unlink()
        set_path(a, 0, f"/lost/{resolved(b).name}")
        words = ["--path-map", f"/lost={root}/other/b"]
    watch.run("relocate", "--media-mode", "move", *words, a)


@pytest.mark.parametrize("mode", ["move", "copy", "hardlink", "symlink"])
def test_export_replace_keeps_videos_a_third_file_needs(watch: Watch, root: Path, mode: str) -> None:
    """out/a.nwb is written anew, its video too; out/c.nwb refers to the former one."""
    make_video(root / "raw/v.avi", "former")
    a = make_nwb(root / "raw/a.nwb", ["v.avi"])
    target = root / "out/a.nwb"
    run_call(exported(a, target, "copy"))
    make_nwb(root / "out/c.nwb", [stored(target)], subject="c")
    (root / "raw/v.avi").unlink()
    make_video(root / "raw/v.avi", "newer")
    told = Told(replaces=True, overwrites=target, removes_source=frozenset([a] if mode == "move" else []))
    watch.checked(lambda: run_call(exported(a, target, mode, existing="replace")), told, f"export {mode}")


def test_write_move_of_video_of_another_file(watch: Watch, root: Path) -> None:
    """pynwb's write, videos moved: the path in memory leads into b.nwb's media folder."""
    b = settled(root / "b.nwb")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([str(resolved(b))]))

    def write() -> None:
        with NWBExtFilesHDF5IO(root / "out/a.nwb", "w") as io:
            io.write(nwbfile, relocate_media=True, media_mode="move")

    watch.checked(lambda: run_call(write), called="write out/a.nwb, move")


@pytest.mark.parametrize("call", ["relocate", "organize", "export"])
def test_move_of_video_needed_by_store(watch: Watch, root: Path, call: str, trusted_stores: None) -> None:
    from zarr_makers import write_store

    make_video(root / "v.avi", "v")
    kept = digest(root / "v.avi")
    store = write_store(root / "b.nwb.zarr", ["v.avi"])
    assert run_command("relocate", "--media-mode", "move", store).exit_code == 0
    (video,) = (root / "b").iterdir()
    a = make_nwb(root / "a.nwb", [f"b/{video.name}"], subject="a")
    move(watch, call, a, root)
    assert video.exists(), "the store's video is gone"
    assert digest(video) == kept


def move(watch: Watch, call: str, path: Path, root: Path) -> None:
    removes_source = Told(removes_source=frozenset([path]), organizes=call == "organize")
    if call == "relocate":
        watch.run("relocate", "--media-mode", "move", path)
    elif call == "organize":
        watch.run("organize", "-d", root / "ds", "--media-files-mode", "move", path, told=removes_source)
    else:
        watch.checked(
            lambda: run_call(exported(path, root / "out/a.nwb", "move")), removes_source, f"export {path}, move"
        )


@pytest.mark.parametrize("call", ["relocate", "organize", "export"])
def test_move_of_video_needed_by_file_url(watch: Watch, root: Path, call: str) -> None:
    make_video(root / "v.avi", "v")
    a = make_nwb(root / "a.nwb", ["v.avi"], subject="a")
    make_nwb(root / "b.nwb", [(root / "v.avi").as_uri()], subject="b")
    move(watch, call, a, root)
    assert (root / "v.avi").exists()


@pytest.mark.parametrize("call", ["relocate", "organize", "export"])
def test_move_of_file_needed_as_external_image(watch: Watch, root: Path, call: str) -> None:
    """Not in an ImageSeries: an ExternalImage of b.nwb names the same image."""
    make_video(root / "p.png", "p")
    a = make_nwb(root / "a.nwb", ["p.png"], subject="a")
    b = make_nwb(root / "b.nwb", ["p.png"], subject="b")
    with h5py.File(b, "r+") as file:
        del file["acquisition/video"]
        images = file.create_group("acquisition/images")
        images.attrs.update(
            neurodata_type="Images", namespace="core", object_id="6" * 8 + "-1111-4111-8111-" + "1" * 12
        )
        images.attrs["description"] = "images"
        image = images.create_dataset("image", data="p.png", dtype=h5py.string_dtype())
        image.attrs.update(neurodata_type="ExternalImage", namespace="core", image_format="PNG")
        image.attrs["object_id"] = "7" * 8 + "-1111-4111-8111-" + "1" * 12
    move(watch, call, a, root)
    assert (root / "p.png").exists()


@pytest.mark.parametrize("call", ["relocate", "organize", "export"])
def test_media_folder_owner_is_unreadable(watch: Watch, root: Path, call: str) -> None:
    """b.nwb is truncated, as one that is just copied: nobody knows what it needs, so its folder is left alone."""
    b = settled(root / "b.nwb")
    a = make_nwb(root / "a.nwb", [stored(b)], subject="a")
    video, content = resolved(b), b.read_bytes()
    b.write_bytes(content[: len(content) // 2])
    move(watch, call, a, root)
    b.write_bytes(content)
    assert video.exists()


# ------------------------------------------------------------------ restore, and repair


@pytest.mark.parametrize("existing", ["error", "replace"])
@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_restore_over_video_another_file_needs(watch: Watch, root: Path, existing: str, mode: str) -> None:
    """The original name is that of a video of b.nwb's by now."""
    a = settled(root / "a.nwb", "move", "--manifest")
    make_video(root / "back/a.avi", "of b")
    make_nwb(root / "back/b.nwb", ["a.avi"], subject="b")
    told = Told(replaces=existing == "replace")
    watch.run("restore", "--media-mode", mode, "--existing", existing, a, root / "back", told=told)
    watch.run("restore", "--media-mode", mode, "--existing", existing, a, root, told=told)


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_restore_into_same_folder_by_another_path(watch: Watch, root: Path, mode: str) -> None:
    a = settled(root / "data/a.nwb", "move", "--manifest")
    with mounts.bind(root / "data") as alias:
        for target in (root / "data", alias):
            for existing in ("error", "replace"):
                words = ["--media-mode", mode, "--existing", existing]
                watch.run("restore", *words, a, target, told=Told(replaces=True))


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_repair_keeps_wrong_video_a_file_outside_needs(watch: Watch, root: Path, mode: str) -> None:
    """Swapped within a.nwb, and c.nwb beside names one of the two by its place: it is content that counts for it."""
    make_video(root / "one.avi", "one")
    make_video(root / "two.avi", "two")
    a = make_nwb(root / "a.nwb", ["one.avi", "two.avi"])
    assert run_command("relocate", "--media-mode", "move", "--manifest", a).exit_code == 0
    swap(root / stored(a, 0), root / stored(a, 1))
    make_nwb(root / "c.nwb", [stored(a, 0)], subject="c")
    told = Told(replaces=True, repairs=frozenset([a]))
    words = ["--repair", "--existing", "replace", "--media-mode", mode]
    watch.run("relocate", *words, a, told=told)
    watch.run("relocate", *words, "--search", root, a, told=told)


@pytest.mark.parametrize("mode", ["move", "copy", "hardlink"])
def test_repair_videos_swapped_within_one_file(watch: Watch, root: Path, mode: str) -> None:
    for name in ("one", "two"):
        make_video(root / f"{name}.avi", name)
    a = make_nwb(root / "a.nwb", ["one.avi", "two.avi"])
    assert run_command("relocate", "--media-mode", "move", "--manifest", a).exit_code == 0
    right = [digest(root / stored(a, index)) for index in range(2)]
    swap(root / stored(a, 0), root / stored(a, 1))
    told = Told(replaces=True, repairs=frozenset([a]))
    words = ["--repair", "--existing", "replace", "--search", root, "--media-mode", mode]
    watch.succeeds("relocate", *words, a, told=told)
    assert [digest(root / stored(a, index)) for index in range(2)] == right

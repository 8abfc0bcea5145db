"""Scenes in which a command could report success and still lose a video or an NWB file.

As in ``test_shared_videos.py``, the checker looks at the disk. Each scene can happen in a laboratory.
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
    Request,
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
    """Make an NWB file whose one video is in its media folder."""
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
    """One inode with two names; "v.avi" beside each is a different video."""
    for name in "xy":
        make_video(root / name / "v.avi", name)
    first = make_nwb(root / "x/a.nwb", ["v.avi"])
    os.link(first, root / "y/a.nwb")
    request = Request(organizes=True)
    for words in ([], ["--media-files-mode", "copy"], ["--media-files-mode", "move"]):
        watch.run("organize", "-d", root / "ds", "-f", "move", *words, root / "x", root / "y", request=request)


@pytest.mark.parametrize("mode", ["move", "copy", None])
def test_organize_again_after_video_in_dandiset_changed(watch: Watch, root: Path, mode: str | None) -> None:
    """The NWB file is already there. Under the name of its video there is a different one."""
    make_video(root / "raw/v.avi", "v")
    path = make_nwb(root / "raw/a.nwb", ["v.avi"])
    watch.succeeds("organize", "-d", root / "ds", "--media-files-mode", "copy", path)
    (there,) = (root / "ds").rglob("*.avi")
    make_video(there, "another")
    words = ["--media-files-mode", mode] if mode else []
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, path, request=Request(organizes=True))


@pytest.mark.parametrize("mode", ["move", "copy", None])
def test_organize_again_after_video_in_dandiset_is_gone(watch: Watch, root: Path, mode: str | None) -> None:
    make_video(root / "raw/v.avi", "v")
    path = make_nwb(root / "raw/a.nwb", ["v.avi"])
    watch.succeeds("organize", "-d", root / "ds", "--media-files-mode", "copy", path)
    (there,) = (root / "ds").rglob("*.avi")
    there.unlink()
    words = ["--media-files-mode", mode] if mode else []
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, path, request=Request(organizes=True))


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_copied_nwb_file_using_folder_of_renamed_original(watch: Watch, root: Path, mode: str) -> None:
    """a.nwb is copied to c.nwb and renamed to z.nwb. Both refer to videos in the folder a/."""
    a = settled(root / "a.nwb")
    shutil.copy(a, root / "c.nwb")
    a.rename(root / "z.nwb")
    watch.run("relocate", "--media-mode", mode, root / "c.nwb")
    watch.run("relocate", "--media-mode", mode, root / "z.nwb")


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_two_files_with_one_media_folder(watch: Watch, root: Path, mode: str) -> None:
    """a.h5 is a copy of a.nwb with the same object_ids and another video. Both need the name a/<object_id>_0.avi."""
    for name in ("one", "two"):
        make_video(root / f"{name}.avi", name)
    a = make_nwb(root / "a.nwb", ["one.avi"])
    other = Path(shutil.copy(a, root / "a.h5"))
    set_path(other, 0, "two.avi")
    request = Request(replaces=True)
    for words in ([], ["--existing", "replace"]):
        watch.run("relocate", "--media-mode", mode, *words, a, request=request)
        watch.run("relocate", "--media-mode", mode, *words, other, request=request)
        watch.run("relocate", "--media-mode", mode, *words, a, other, request=request)


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_rename_with_folder_shared_by_file_of_another_suffix(watch: Watch, root: Path, mode: str) -> None:
    """a.nwb and a.h5 share a/; a.nwb is renamed to b.nwb."""
    a = settled(root / "a.nwb")
    shutil.copy(a, root / "a.h5")
    watch.run("relocate", "--media-mode", mode, a.rename(root / "b.nwb"))


# ------------------------------------------------------------------ folders that are links


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_media_folder_is_link_to_video_folder(watch: Watch, root: Path, mode: str) -> None:
    """a/ was replaced by a link to a big disk, and the path names the video there. The source is the target."""
    a = settled(root / "a.nwb")
    (root / "a").rename(root / "disk")
    (root / "a").symlink_to("disk")
    set_path(a, 0, stored(a).replace("a/", "disk/", 1))
    watch.run("relocate", "--media-mode", mode, a)
    watch.run("relocate", "--media-mode", mode, "--existing", "replace", a, request=Request(replaces=True))


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_export_to_media_folder_linked_to_that_of_source(watch: Watch, root: Path, mode: str) -> None:
    a = settled(root / "raw/a.nwb")
    (root / "out").mkdir()
    (root / "out/b").symlink_to("../raw/a")
    removes_source = frozenset([a] if mode == "move" else [])
    watch.checked(
        lambda: run_call(exported(a, root / "out/b.nwb", mode)),
        Request(removes_source=removes_source),
        f"export {mode}",
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
    request = Request(organizes=True)
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, root / "raw", request=request)
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, root / "raw", request=request)
    watch.run("organize", "-d", root / "ds", "-f", "move", *words, request=request)


def test_symlinks_moved_later_become_videos(watch: Watch, root: Path) -> None:
    """First the default mode, then a move of the same file: the link points to the video that is to be moved."""
    make_video(root / "raw/v.avi", "v")
    a = make_nwb(root / "a.nwb", ["raw/v.avi"])
    watch.succeeds("relocate", a)
    for mode in ("move", "hardlink", "copy", "move"):
        watch.run("relocate", "--media-mode", mode, a)


# ------------------------------------------------------------------ who else needs it


@pytest.mark.parametrize("mode", ["move", "copy"])
def test_move_of_raw_videos_the_dandiset_links_to(watch: Watch, root: Path, mode: str) -> None:
    """The first session was organized with symbolic links; the second, with the same video, with move."""
    make_video(root / "raw/v.avi", "v")
    a, b = (make_nwb(root / f"raw/{name}.nwb", ["v.avi"], subject=name) for name in "ab")
    request = Request(organizes=True)
    watch.succeeds("organize", "-d", root / "ds", "-f", "move", a, request=request)
    watch.run("organize", "-d", root / "ds", "-f", "move", "--media-files-mode", mode, b, request=request)


@pytest.mark.parametrize("call", ["relocate", "organize"])
def test_move_of_links_shared_by_two_files(watch: Watch, root: Path, call: str) -> None:
    """Both files have links to one raw video; the video is moved for one of them."""
    make_video(root / "raw/v.avi", "v")
    paths = [make_nwb(root / f"raw/{name}.nwb", ["v.avi"], subject=name) for name in "ab"]
    watch.succeeds("organize", "-d", root / "ds", "-f", "move", *paths, request=Request(organizes=True))
    first = min((root / "ds").rglob("*.nwb"))
    if call == "relocate":
        watch.run("relocate", "--media-mode", "move", first)
    else:
        words = ["-f", "move", "--media-files-mode", "move", "--required-field", "session_id"]
        watch.run("organize", "-d", root / "ds", *words, first, request=Request(organizes=True))


@pytest.mark.parametrize("how", ["search", "path-map", "repair"])
def test_search_hit_in_media_folder_of_another_file(watch: Watch, root: Path, how: str) -> None:
    """The video of a.nwb is missing. A search finds it in the media folder of b.nwb, which needs it."""
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
    """out/a.nwb and its video are replaced; out/c.nwb refers to the former video."""
    make_video(root / "raw/v.avi", "former")
    a = make_nwb(root / "raw/a.nwb", ["v.avi"])
    target = root / "out/a.nwb"
    run_call(exported(a, target, "copy"))
    make_nwb(root / "out/c.nwb", [stored(target)], subject="c")
    (root / "raw/v.avi").unlink()
    make_video(root / "raw/v.avi", "newer")
    request = Request(replaces=True, overwrites=target, removes_source=frozenset([a] if mode == "move" else []))
    watch.checked(lambda: run_call(exported(a, target, mode, existing="replace")), request, f"export {mode}")


def test_write_move_of_video_of_another_file(watch: Watch, root: Path) -> None:
    """A write with move: the path in memory points into the media folder of b.nwb."""
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
    removes_source = Request(removes_source=frozenset([path]), organizes=call == "organize")
    if call == "relocate":
        watch.run("relocate", "--media-mode", "move", path)
    elif call == "organize":
        watch.run("organize", "-d", root / "ds", "--media-files-mode", "move", path, request=removes_source)
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
    """An ExternalImage of b.nwb refers to the same image."""
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
    """b.nwb is truncated, as while it is copied. Nobody knows what it needs, so nothing leaves its media folder."""
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
    """The original name is now that of a video of b.nwb."""
    a = settled(root / "a.nwb", "move", "--manifest")
    make_video(root / "back/a.avi", "of b")
    make_nwb(root / "back/b.nwb", ["a.avi"], subject="b")
    request = Request(replaces=existing == "replace")
    watch.run("restore", "--media-mode", mode, "--existing", existing, a, root / "back", request=request)
    watch.run("restore", "--media-mode", mode, "--existing", existing, a, root, request=request)


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_restore_into_same_folder_by_another_path(watch: Watch, root: Path, mode: str) -> None:
    a = settled(root / "data/a.nwb", "move", "--manifest")
    with mounts.bind(root / "data", within=root.parent) as alias:
        for target in (root / "data", alias):
            for existing in ("error", "replace"):
                words = ["--media-mode", mode, "--existing", existing]
                watch.run("restore", *words, a, target, request=Request(replaces=True))


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_repair_keeps_wrong_video_a_file_outside_needs(watch: Watch, root: Path, mode: str) -> None:
    """Two videos are swapped in a.nwb, and c.nwb refers to one of their paths. It must keep the content it has."""
    make_video(root / "one.avi", "one")
    make_video(root / "two.avi", "two")
    a = make_nwb(root / "a.nwb", ["one.avi", "two.avi"])
    assert run_command("relocate", "--media-mode", "move", "--manifest", a).exit_code == 0
    swap(root / stored(a, 0), root / stored(a, 1))
    make_nwb(root / "c.nwb", [stored(a, 0)], subject="c")
    request = Request(replaces=True, repairs=frozenset([a]))
    words = ["--repair", "--existing", "replace", "--media-mode", mode]
    watch.run("relocate", *words, a, request=request)
    watch.run("relocate", *words, "--search", root, a, request=request)


@pytest.mark.parametrize("mode", ["move", "copy", "hardlink"])
def test_repair_videos_swapped_within_one_file(watch: Watch, root: Path, mode: str) -> None:
    for name in ("one", "two"):
        make_video(root / f"{name}.avi", name)
    a = make_nwb(root / "a.nwb", ["one.avi", "two.avi"])
    assert run_command("relocate", "--media-mode", "move", "--manifest", a).exit_code == 0
    right = [digest(root / stored(a, index)) for index in range(2)]
    swap(root / stored(a, 0), root / stored(a, 1))
    request = Request(replaces=True, repairs=frozenset([a]))
    words = ["--repair", "--existing", "replace", "--search", root, "--media-mode", mode]
    watch.succeeds("relocate", *words, a, request=request)
    assert [digest(root / stored(a, index)) for index in range(2)] == right

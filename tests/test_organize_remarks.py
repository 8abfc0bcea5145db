"""What `organize` says of what will not work in the archive, and files that cannot be copied with new paths."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import digest, stored_paths
from makers import Media, quiet, write_everywhere
from pynwb import NWBHDF5IO
from recordings import recording, set_scalar, video

from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO, organize
from nwb_extfiles.cli import main
from nwb_extfiles.errors import TransferError
from nwb_extfiles.nwb.comparison import same_content
from nwb_extfiles.nwb.registry import media_fields
from nwb_extfiles.nwb.scan import find_in_file
from nwb_extfiles.tasks.organize.plan import OrganizePlan


def organized(*arguments: Any, **options: Any) -> OrganizePlan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExternalFilesWarning)
        return organize(*arguments, **options)


def warnings_of(*arguments: Any, **options: Any) -> list[str]:
    return [str(warning) for warning in organized(*arguments, **options).warnings]


# ------------------------------------------------------------ what stays outside


def test_reference_mode_says_that_media_stay_outside(tmp_path: Path) -> None:
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi", "b.avi"])
    (said,) = warnings_of(path, tmp_path / "ds", media_mode="reference")
    assert said.startswith("2 media files stay outside the dandiset")
    assert str(path.parent / "a.avi") in said
    assert "the paths to them do not work in the archive" in said


@pytest.mark.parametrize("mode", ["copy", "symlink"])
def test_media_that_are_uploaded_are_not_called_outside(tmp_path: Path, mode: str) -> None:
    assert warnings_of(recording(tmp_path / "a.nwb", ["a.avi"]), tmp_path / "ds", media_mode=mode) == []


def test_reference_mode_inside_the_dandiset_is_quiet(tmp_path: Path) -> None:
    video(tmp_path / "ds" / "videos" / "a.avi")
    path = recording(tmp_path / "raw" / "a.nwb", ["../ds/videos/a.avi"])
    assert warnings_of(path, tmp_path / "ds", media_mode="reference") == []


def test_urls_that_upload_refuses_are_named(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.nwb", ["a.avi", "https://example.org/b.mp4"])
    plan = organized(path, tmp_path / "ds")
    (said,) = plan.warnings
    assert said.startswith("`dandi upload` refuses NWB files with URLs in external_file, and 1 is a URL")
    assert "https://example.org/b.mp4" in said
    assert "/acquisition/video" in said
    assert (plan.media_count, plan.url_count) == (1, 1)
    assert "1 media, 1 URL" in str(plan)


def test_media_that_stay_are_not_counted(tmp_path: Path) -> None:
    """Nor are their bytes, and copied bytes are apart from linked ones."""
    path = recording(tmp_path / "a.nwb", ["a.avi", "b.avi"])
    size, both = path.stat().st_size, 2 * (tmp_path / "a.avi").stat().st_size
    stays, linked, copied = (
        organized(path, tmp_path / mode, media_mode=mode, dry_run=True) for mode in ("reference", "symlink", "copy")
    )
    assert (stays.media_count, stays.total_bytes, stays.copied_bytes) == (0, size, size)
    assert (linked.media_count, linked.total_bytes, linked.copied_bytes) == (2, size + both, size)
    assert (copied.media_count, copied.total_bytes, copied.copied_bytes) == (2, size + both, size + both)
    assert f"2 media, {size:,} bytes copied, {both:,} bytes linked" in str(linked)
    assert f"0 media, {size:,} bytes copied\n" in str(stays)


# ----------------------------------------------------------------- names and ids


def test_path_that_the_archive_refuses(tmp_path: Path) -> None:
    """Nobody else says so before all bytes were sent."""
    said = warnings_of(recording(tmp_path / "a.nwb", ["a.avi"], subject="Mäuse-1"), tmp_path / "ds")
    assert [text for text in said if "the archive refuses" in text and "sub-Mäuse-1" in text]


def copy_of(path: Path, name: str, session: str) -> Path:
    copy = Path(shutil.copy(path, path.with_name(name)))
    with h5py.File(copy, "r+") as file:
        set_scalar(file, "general/session_id", session)
    return copy


def test_two_files_with_the_same_ids_in_one_call(tmp_path: Path) -> None:
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"], session="a")
    other = copy_of(path, "b.nwb", "b")
    (said,) = warnings_of([path, other], tmp_path / "ds")
    assert "have the same identifier and the same object_id" in said
    assert "ses-a" in said
    assert "ses-b" in said


def test_two_files_with_the_same_ids_in_two_calls(tmp_path: Path) -> None:
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"], session="a")
    other = copy_of(path, "b.nwb", "b")
    assert warnings_of(path, tmp_path / "ds", required_fields=["session_id"]) == []
    (said,) = warnings_of(other, tmp_path / "ds", required_fields=["session_id"])
    assert "have the same identifier and the same object_id" in said
    new = other.with_name("c.nwb")
    with quiet(), NWBHDF5IO(other, "r") as source, NWBExtFilesHDF5IO(new, "w", relocate_media=False) as io:
        nwbfile = source.read()
        nwbfile.generate_new_id()
        io.export(source, nwbfile)
    assert warnings_of(new, tmp_path / "ds2", required_fields=["session_id"]) == []


def test_same_file_again_is_no_second_one(tmp_path: Path) -> None:
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"])
    assert warnings_of(path, tmp_path / "ds") == []
    assert warnings_of(path, tmp_path / "ds") == []


def test_name_without_a_session_is_said_in_a_dandiset(tmp_path: Path) -> None:
    """In the archive, the subject may have sessions with which DANDI would name it otherwise."""
    path = recording(tmp_path / "raw" / "a.nwb", ["a.avi"], session="a")
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "dandiset.yaml").write_text("identifier: DANDI:000123\n")
    command = ["organize", "-d", str(tmp_path / "ds"), str(path)]
    said = CliRunner().invoke(main, command).output
    assert "sub-mouse0_image.nwb has no session in the name" in said
    assert "no session" not in CliRunner().invoke(main, command).output  # it keeps its name
    shutil.rmtree(tmp_path / "ds" / "sub-mouse0")
    assert "no session" not in CliRunner().invoke(main, [*command, "--required-field", "session_id"]).output
    assert [made.name for made in (tmp_path / "ds").rglob("*.nwb")] == ["sub-mouse0_ses-a_image.nwb"]


# -------------------------------------------------- paths that a copy cannot hold


IMAGE = "acquisition/images/image0"


def with_fixed_length(path: Path) -> Path:
    """An NWB file with an image whose path has a fixed length, and to which object references lead."""
    write_everywhere(path, Media(path.parent.parent / "media"))
    with h5py.File(path, "r+") as file:
        images = file["acquisition/images"]
        stored, order = images["image0"][()], [file[one].name for one in images["order_of_images"]]
        attributes = {name: dict(images[name].attrs) for name in ("image0", "order_of_images")}
        del images["image0"], images["order_of_images"]
        images.create_dataset("image0", data=np.array(stored, dtype=f"S{len(stored)}"))
        images.create_dataset("order_of_images", data=[file[name].ref for name in order], dtype=h5py.ref_dtype)
        for name, values in attributes.items():
            images[name].attrs.update(values)
    return path


def media_of(path: Path) -> dict[tuple[str, int], Path]:
    """The files that the paths lead to, by object and entry."""
    with quiet(), h5py.File(path) as file:
        found = find_in_file(file, media_fields())
    return {(entry.object_path, entry.index): path.parent / entry.stored_path for entry in found}


def order_of(path: Path) -> list[str]:
    with h5py.File(path) as file:
        return [file[one].name for one in file["acquisition/images/order_of_images"]]


@pytest.mark.parametrize("files_mode", ["copy", "move"])
def test_fixed_length_path_goes_through_an_export(tmp_path: Path, files_mode: str) -> None:
    path = with_fixed_length(tmp_path / "raw" / "a.nwb")
    path.chmod(0o640)
    order, image = order_of(path), digest(path.parent / stored_paths(path, IMAGE)[0])
    before, status = digest(path), path.stat()
    kept = {name: digest(place) for name, place in media_of(path).items()}
    plan = organized(path, tmp_path / "ds", files_mode=files_mode, media_mode="copy")
    assert [text for text in plan.warnings if IMAGE in text and "exports the file" in text]
    (target,) = (tmp_path / "ds").rglob("*.nwb")
    assert digest(target.parent / stored_paths(target, IMAGE)[0]) == image
    assert stored_paths(target, IMAGE)[0].startswith(f"{target.stem}/")
    assert {name: digest(place) for name, place in media_of(target).items()} == kept
    assert order_of(target) == order
    assert same_content(path, target) if files_mode == "copy" else not path.exists()
    assert (target.stat().st_mode, target.stat().st_mtime_ns) == (status.st_mode, status.st_mtime_ns)
    with NWBHDF5IO(target, "r") as io:
        images = io.read().acquisition["images"]
        assert [f"/acquisition/images/{one.name}" for one in images.order_of_images.data] == order
    if files_mode == "copy":
        assert digest(path) == before
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*exports the file")
            again = organize(path, tmp_path / "ds", media_mode="copy")
        assert [file.is_done for file in again] == [True]


def test_file_that_pynwb_cannot_export_is_refused(tmp_path: Path) -> None:
    """The other files are organized, and nothing of this one is left."""
    path = with_fixed_length(tmp_path / "raw" / "a.nwb")
    with h5py.File(path, "r+") as file:
        file["acquisition/odd"] = h5py.Empty("f")  # which HDMF does not write
    with pytest.raises(TransferError, match=r"image0.*could not be exported"):
        organized(path, tmp_path / "ds", media_mode="copy")
    assert [entry for entry in (tmp_path / "ds").rglob("*") if entry.is_file()] == []

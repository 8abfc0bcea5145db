"""What a message, or ``docs/howto/errors.md``, says to do works.

Each test makes a message appear, takes the hint from it, and does what it says, on the command line or in Python. It
checks the result with h5py and hashes. The last test fails if the page has a row that no test covers.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import (
    digest,
    image_series,
    make_file,
    mounted,
    new_nwbfile,
    set_paths,
    stored_paths,
    with_slashes,
    write_nwb,
)
from makers import quiet
from pynwb import NWBHDF5IO
from pynwb.base import ExternalImage, Images
from pynwb.file import NWBFile
from recordings import recording, video
from servers import serving
from videos import Videos, decoded_frames

import nwb_extfiles
from nwb_extfiles import ExternalFilesWarning, NWBExtFilesHDF5IO, relocate, restore
from nwb_extfiles.cli import main
from nwb_extfiles.errors import DestinationBusyError, ExternalFilesError, MediaExistsError, RelocationRefusedError
from nwb_extfiles.testing import make_image

PAGE = (Path(__file__).parents[1] / "docs" / "howto" / "errors.md").read_text(encoding="utf-8")
DATASET = "acquisition/video/external_file"
UTF8 = h5py.string_dtype()
F = TypeVar("F", bound=Callable[..., Any])
COVERED: set[str] = set()
check = partial(nwb_extfiles.check, frames="none")  # most media here are no videos


def fixes(*rows: str) -> Callable[[F], F]:
    """Mark a test with the rows of the page that it covers: an error, a part of a quoted message, or a finding code."""
    COVERED.update(rows)
    return lambda function: function


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cli(*words: object, code: int = 0) -> str:
    """Run the command line, and return its output and errors."""
    result = with_slashes(CliRunner().invoke(main, [str(word) for word in words]))
    assert result.exit_code == code, result.output
    return result.output


def option(message: str, name: str) -> list[str]:
    """The option that a message names, with its value."""
    (found,) = set(re.findall(rf"{name} [^\s;,]+", message))
    return shlex.split(found)


def command(message: str) -> list[str]:
    """The command in backquotes in a message, without the name of the program."""
    (found,) = set(re.findall(r"`nwb-extfiles ([^`]+)`", message))
    return shlex.split(found)


def media_of(path: Path, dataset: str = DATASET) -> list[str | None]:
    """SHA-256 of the media that an NWB file refers to. None where there is no file."""
    places = [path.parent / stored for stored in stored_paths(path, dataset)]
    return [digest(place) if place.is_file() else None for place in places]


def message_of(path: Path, code: str, **more: Any) -> str:
    """The message of a finding of `check`."""
    messages = [finding.message for finding in check(path, **more) if finding.code == code]
    assert messages, [finding.code for finding in check(path, **more)]
    return messages[0]


# ------------------------------------------------------------------ the errors


def lost() -> tuple[Path, str]:
    """Make an NWB file whose video is in another folder."""
    content = digest(video(Path("elsewhere/a.avi")))
    return recording(Path("nwb/a.nwb"), ["a.avi"], videos=False), content


@fixes("MissingMediaError", "missing", "`missing`")
def test_missing_media_found_by_search() -> None:
    path, content = lost()
    message = cli("relocate", path, code=1)
    assert "name its folder with --search FOLDER" in message
    cli("relocate", "--search", "elsewhere", path)
    assert media_of(path) == [content]


def test_missing_media_put_in_place() -> None:
    path, content = lost()
    assert "put the file there" in cli("relocate", path, code=1)
    shutil.copy("elsewhere/a.avi", "nwb/a.avi")
    cli("relocate", path)
    assert media_of(path) == [content]


@fixes("ExternalFilesWarning")
def test_missing_media_kept() -> None:
    path, content = lost()
    cli("relocate", *option(cli("relocate", path, code=1), "--missing"), path)
    assert stored_paths(path) == ["a.avi"]
    assert message_of(path, "missing").endswith("with --search")
    cli("relocate", "--search", "elsewhere", path)
    assert media_of(path) == [content]


@fixes("missing-absolute")
def test_windows_path_mapped() -> None:
    content = digest(video(Path("elsewhere/a.avi")))
    path = recording(Path("nwb/a.nwb"), ["D:\\videos\\a.avi"], videos=False)
    assert "--path-map" in message_of(path, "missing-absolute")
    assert "--path-map OLD=NEW" in cli("relocate", path, code=1)
    cli("relocate", "--path-map", "D:\\videos=elsewhere", path)
    assert media_of(path) == [content]


def two_bare_names() -> tuple[Path, dict[str, str]]:
    """Make two series that both refer to 0.avi. Returns the SHA-256 of the video that each means."""
    nwbfile, wanted = new_nwbfile(), {}
    for name in ("Miniscope", "Behav Cam"):
        wanted[name] = digest(video(Path("recording", name, "0.avi"), content=name))
        nwbfile.add_acquisition(image_series(["0.avi"], name))
    Path("nwb").mkdir()
    with NWBHDF5IO("nwb/a.nwb", "w") as io:
        io.write(nwbfile)
    return Path("nwb/a.nwb"), wanted


def leads(path: Path, names: dict[str, str]) -> dict[str, str | None]:
    return {name: media_of(path, f"acquisition/{name}/external_file")[0] for name in names}


@fixes("AmbiguousMediaError")
def test_ambiguous_path_on_command_line() -> None:
    path, wanted = two_bare_names()
    searched = ["--search", "recording/Miniscope", "--search", "recording/Behav Cam"]
    message = cli("relocate", "--media-mode", "copy", *searched, path, code=1)
    advised = shlex.split(" ".join(re.findall(r"--search-for (?:'[^']+'|\S+) (?:'[^']+'|\S+)", message)))
    assert len(advised) == 12  # each of the two series, with either folder
    chosen = [
        advised[start : start + 3]
        for start in range(0, 12, 3)
        if Path(advised[start + 1]).name == Path(advised[start + 2]).name
    ]
    cli("relocate", "--media-mode", "copy", *searched, *(word for words in chosen for word in words), path)
    assert leads(path, wanted) == wanted


@pytest.mark.parametrize("in_memory", [False, True])
def test_ambiguous_path_in_python(in_memory: bool) -> None:
    path, wanted = two_bare_names()
    searched = ["recording/Miniscope", "recording/Behav Cam"]

    def work(**media_options: Any) -> None:
        if not in_memory:
            relocate(path, "copy", media_options=media_options)
            return
        nwbfile = new_nwbfile()
        for name in wanted:
            nwbfile.add_acquisition(image_series(["0.avi"], name))
        with NWBExtFilesHDF5IO(path, "w") as io:
            io.write(nwbfile, relocate_media=True, media_mode="copy", media_options=media_options)

    with pytest.raises(ValueError, match="fits 2 different files") as info:
        work(search=searched)
    assert isinstance(info.value, ExternalFilesError)
    chosen: dict[str, str] = {}
    for problem in info.value.problems:
        assert str(problem).endswith(str(problem.hint))
        for literal in re.findall(r"search_for=(\{.*?\}) in media_options", str(problem.hint)):
            ((pattern, folder),) = ast.literal_eval(literal).items()
            if Path(pattern).name == Path(folder).name:
                chosen[pattern] = folder
    work(search=searched, search_for=chosen)
    assert leads(path, wanted) == wanted


@pytest.mark.parametrize("option", ["--search-for", "--path-map-for"])
def test_ambiguous_path_not_decided_by_folder(option: str) -> None:
    """Two files below one search folder match the end of one path. Only the whole path selects one of them."""
    wanted = {
        "--path-map-for": digest(video(Path("s/0.avi"), content="one")),
        "--search-for": digest(video(Path("s/s/0.avi"), content="two")),
    }
    path = recording(Path("nwb/a.nwb"), ["s/0.avi"], videos=False)
    message = cli("relocate", "--search", "s", path, code=1)
    (advised,) = re.findall(rf"{option} \S+ \S+" + r" \S+" * (option == "--path-map-for"), message)
    cli("relocate", "--search", "s", *shlex.split(advised), path)
    assert media_of(path) == [wanted[option]]


def test_one_file_for_two_series_warns() -> None:
    path, wanted = two_bare_names()
    message = cli("relocate", "--media-mode", "copy", "--dry-run", "--search", "recording/Miniscope", path)
    (advised,) = re.findall(r"--search-for (?:'[^']+'|\S+) FOLDER", message)
    name, pattern, _ = shlex.split(advised)
    words = [name, pattern, Path("recording", Path(pattern).name)]
    (other,) = wanted.keys() - {Path(pattern).name}
    said = cli("relocate", "--media-mode", "copy", *words, name, f"*{other[2:]}", Path("recording", other), path)
    assert "warning" not in said
    assert leads(path, wanted) == wanted


def test_one_path_in_two_series_does_not_warn() -> None:
    for stored in ("videos/a.avi", "D:\\videos\\a.avi"):
        nwbfile = new_nwbfile()
        for name in ("one", "two"):
            nwbfile.add_acquisition(image_series([stored], name))
        video(Path("elsewhere/a.avi"))
        path = Path("a.nwb")
        with NWBHDF5IO(path, "w") as io:
            io.write(nwbfile)
        assert "found as" not in cli("relocate", "--dry-run", "--search", "elsewhere", path)


def test_unmatched_object_pattern_warns() -> None:
    path, content = lost()
    said = cli("relocate", "--search", "elsewhere", "--search-for", "/acquisition/vdeo", "elsewhere", path)
    assert "no object with media fits '/acquisition/vdeo'" in said
    assert "/acquisition/video" in cli(*command(said), path)
    assert media_of(path) == [content]


@fixes("MediaExistsError")
@pytest.mark.parametrize("fix", ["--existing replace", "move it away"])
def test_occupied_target(fix: str) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    content = digest(Path("raw/a.avi"))
    cli("relocate", "--media-mode", "copy", path)
    (place,) = [path.parent / stored for stored in stored_paths(path)]
    place.write_bytes(b"other")
    set_paths(path, DATASET, ["../raw/a.avi"], dtype=UTF8)
    message = cli("relocate", "--media-mode", "copy", path, code=1)
    assert fix in message
    if fix.startswith("--"):
        cli("relocate", "--media-mode", "copy", *option(message, "--existing"), path)
    else:
        place.rename("kept.avi")
        cli("relocate", "--media-mode", "copy", path)
        assert Path("kept.avi").read_bytes() == b"other"
    assert media_of(path) == [content]


@fixes("UnsafeReferenceError", "no-media", "not-a-string")
@pytest.mark.parametrize("what", ["empty", "a folder", "no text"])
def test_missing_link_target(what: str) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    Path("nwb/a.avi").mkdir()
    values = {"empty": [""], "a folder": ["a.avi"], "no text": np.array([1])}[what]
    set_paths(path, DATASET, values, **({} if what == "no text" else {"dtype": UTF8}))
    assert message_of(path, "not-a-string" if what == "no text" else "no-media")
    message = cli("relocate", path, code=1)
    if what == "a folder":
        assert "replace what is there with the media file" in message
        Path("nwb/a.avi").rmdir()
        shutil.copy("raw/a.avi", "nwb/a.avi")
    else:
        assert re.search("expected the path of a media file|correct or remove this dataset first", message)
        set_paths(path, DATASET, ["../raw/a.avi"], dtype=UTF8)
    cli("relocate", "--media-mode", "copy", path)
    assert media_of(path) == [digest(Path("raw/a.avi"))]


@fixes("not-a-list")
def test_single_string_instead_of_a_list() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    set_paths(path, DATASET, "../raw/a.avi", dtype=UTF8)
    assert "store a list with this one path" in message_of(path, "not-a-list")
    set_paths(path, DATASET, ["../raw/a.avi"], dtype=UTF8)
    cli("relocate", "--media-mode", "copy", path)
    assert [finding.code for finding in check(path)] == []
    with NWBHDF5IO(path, "r") as io:
        (stored,) = io.read().acquisition["video"].external_file
    assert (path.parent / stored).read_bytes() == Path("raw/a.avi").read_bytes()


def test_problems_of_one_error_have_their_hints() -> None:
    """The code on the page."""
    for name in ("a", "b"):
        recording(Path(f"{name}.nwb"), [f"gone/{name}.avi"])
        Path(f"gone/{name}.avi").unlink()
    (block,) = [one for one in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", PAGE) if "error.problems" in one]
    printed: list[tuple[Any, ...]] = []
    exec(textwrap.dedent(block), {"print": lambda *words: printed.append(words)})
    assert [(place, index, "gone/" in what, "search" in hint) for place, index, what, hint in printed] == [
        ("/acquisition/video", 0, True, True)
    ] * 2


def test_outside_of_within() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    Path("trusted").mkdir()
    message = cli("relocate", "--within", "trusted", path, code=1)
    assert "add its folder to --within" in message
    cli("relocate", "--within", "trusted", "--within", "raw", path)
    assert media_of(path) == [digest(Path("raw/a.avi"))]


@fixes("object-id")
@pytest.mark.parametrize("object_id", ["../x", None])
def test_object_id_not_a_uuid(object_id: str | None) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    with h5py.File(path, "r+") as file:
        del file["acquisition/video"].attrs["object_id"]
        if object_id is not None:
            file["acquisition/video"].attrs["object_id"] = object_id
    if object_id is None:
        cli("relocate", path)
        return
    message = cli("relocate", path, code=1)
    assert "generate_new_id() and export it with nwbfile=" in message
    with quiet(), NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO("out/a.nwb", "w") as io:
        nwbfile = source.read()
        nwbfile.acquisition["video"].generate_new_id()
        io.export(src_io=source, nwbfile=nwbfile, relocate_media=True, media_mode="copy")
    assert media_of(Path("out/a.nwb")) == [digest(Path("raw/a.avi"))]


@fixes("PlanError")
def test_several_problems_fixed_one_by_one() -> None:
    content = digest(video(Path("elsewhere/a.avi")))
    path = recording(Path("nwb/a.nwb"), ["a.avi", "b.avi"], videos=False)
    set_paths(path, DATASET, ["a.avi", ""], dtype=UTF8)
    message = cli("relocate", path, code=1)
    assert "1. " in message
    assert "2. " in message
    set_paths(path, DATASET, ["a.avi", "a.avi"], dtype=UTF8)
    cli("relocate", "--search", "elsewhere", path)
    assert media_of(path) == [content, content]


@fixes("ConfigurationError")
def test_wrong_configuration_file_is_corrected_or_done_without(tmp_path: Path) -> None:
    path, config = write_nwb(tmp_path / "x.nwb", ["a.avi"]), tmp_path / "nwb-extfiles.toml"
    (tmp_path / "a.avi").write_bytes(b"video")
    config.write_text("serach = '.'\n")
    assert "there is no setting 'serach'; use search, path_map, within, media_mode" in cli("relocate", path, code=1)
    cli("relocate", path, "--no-config", "--dry-run")
    config.write_text("search = '.'\n")
    cli("relocate", path)
    assert (path.parent / stored_paths(path)[0]).read_bytes() == b"video"


@fixes("NoSuchFileError")
def test_path_that_does_not_exist_is_corrected(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "x.nwb", ["a.avi"])
    (tmp_path / "a.avi").write_bytes(b"video")
    assert "y.nwb does not exist; name NWB files, or folders with NWB files" in cli("relocate", "y.nwb", code=2)
    cli("relocate", path)
    cli("relocate", tmp_path)


@fixes("UnreadableFileError", "unreadable")
def test_unreadable_nwb_file() -> None:
    whole = recording(Path("in/a.nwb"), ["../raw/a.avi"]).read_bytes()
    recording(Path("in/b.nwb"), ["../raw/b.avi"], subject="other")
    Path("in/a.nwb").write_bytes(whole[:5000])
    assert "copied completely" in message_of(Path("in/a.nwb"), "unreadable") or "restore" in message_of(
        Path("in/a.nwb"), "unreadable"
    )
    cli("organize", "-d", "set", "in", code=1)
    cli("organize", "-d", "set", "--invalid", "warn", "in")
    assert len(list(Path("set").rglob("*.nwb"))) == 1
    Path("in/a.nwb").write_bytes(whole)  # copied again
    cli("organize", "-d", "set", "in")
    assert sorted(media_of(path)[0] or "" for path in Path("set").rglob("*.nwb")) == sorted(
        digest(Path("raw", name)) for name in ("a.avi", "b.avi")
    )


@fixes("DestinationBusyError")
def test_busy_until_it_is_closed() -> None:
    source = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])

    def export() -> None:
        with quiet(), NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO("out/a.nwb", "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="copy")

    Path("out").mkdir()
    first = NWBExtFilesHDF5IO("out/a.nwb", "w")
    with pytest.raises(DestinationBusyError, match="wait until it is done"):
        export()
    first.close()
    export()
    assert media_of(Path("out/a.nwb")) == [digest(Path("raw/a.avi"))]


@fixes("TransferError")
def test_occupied_staging_folder() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    code = (
        "import os, sys; from nwb_extfiles.disk import journal; from nwb_extfiles import relocate\n"
        "journal._write_at = lambda *rest: os._exit(9)\nrelocate(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    cli("recover", path)
    with pytest.MonkeyPatch.context() as patch:  # shows the name of the staging folder
        names: list[str] = []
        plain = os.mkdir

        def mkdir(place: Any, *rest: Any, **more: Any) -> None:
            names.append(str(place))
            plain(place, *rest, **more)

        patch.setattr(os, "mkdir", mkdir)
        cli("relocate", path)
    (staging,) = {Path(name) for name in names if Path(name).name.startswith(".nwb-extfiles-")} or {None}
    assert staging is not None
    set_paths(path, DATASET, ["../raw/a.avi"], dtype=UTF8)
    shutil.rmtree(path.parent / "a")
    staging.write_text("a file of another program")
    message = cli("relocate", path, code=1)
    (place,) = re.findall(r"nwb-extfiles: (\S+) is in the way: it is not a folder; remove it", message)
    Path(place).unlink()
    cli("relocate", path)
    assert media_of(path) == [digest(Path("raw/a.avi"))]


# ---------------------------------------------------------------- the refusals


def export(target: str, source: Path, **arguments: Any) -> None:
    with quiet(), NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
        io.export(src_io=src_io, **arguments)


@fixes("would not be found from", "is not where media belong in the dandiset")
@pytest.mark.parametrize("dandiset", [False, True])
@pytest.mark.parametrize("relocated", [False, True])
def test_relocation_must_be_chosen(dandiset: bool, relocated: bool) -> None:
    path = recording(Path("nwb/a.nwb"), ["a.avi"])
    Path("set/sub").mkdir(parents=True)
    if dandiset:
        Path("set/dandiset.yaml").write_text("identifier: '000001'\n")
    with pytest.raises(RelocationRefusedError, match=r"give relocate_media=True .* or relocate_media=False"):
        export("set/sub/a.nwb", path)
    export("set/sub/a.nwb", path, relocate_media=relocated)
    if relocated:
        assert media_of(Path("set/sub/a.nwb")) == [digest(Path("nwb/a.avi"))]
    else:
        assert stored_paths(Path("set/sub/a.nwb")) == ["a.avi"]


@fixes("RelocationRefusedError", "media_mode … was given")
def test_mode_without_relocation() -> None:
    path = recording(Path("nwb/a.nwb"), ["a.avi"])
    Path("out").mkdir()
    with pytest.raises(RelocationRefusedError, match="give relocate_media=True") as info:
        export("out/a.nwb", path, media_mode="copy")
    assert info.value.hint == "give relocate_media=True to relocate the media, or leave media_mode out"
    export("out/a.nwb", path, media_mode="copy", relocate_media=True)
    assert media_of(Path("out/a.nwb")) == [digest(Path("nwb/a.avi"))]


@fixes("cannot be replaced by a file that is made from it")
def test_export_onto_itself() -> None:
    path = recording(Path("nwb/a.nwb"), ["a.avi"])
    with pytest.raises(ExternalFilesError, match="write to another name"):
        export("nwb/a.nwb", path, relocate_media=True, media_mode="copy")
    export("nwb/b.nwb", path, relocate_media=True, media_mode="copy")
    relocate(path, "copy")
    assert media_of(Path("nwb/b.nwb")) == media_of(path) == [digest(Path("nwb/a.avi"))]


@fixes("is on another file system")
def test_hard_links_across_file_systems(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        path = recording(disk / "a.nwb", [str(video(Path("raw/a.avi")).resolve())])
        message = cli("relocate", "--media-mode", "hardlink", path, code=1)
        assert "use --media-mode copy, symlink, move or reference" in message
        for mode in ("symlink", "copy"):
            cli("relocate", "--media-mode", mode, path)
            assert media_of(path) == [digest(Path("raw/a.avi"))]


@fixes("media need … bytes")
def test_no_space(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as disk:
        Path("raw").mkdir()
        big = make_file(Path("raw/a.avi"), 5_000_000).resolve()
        path = recording(disk / "a.nwb", [str(big)])
        message = cli("relocate", "--media-mode", "copy", path, code=1)
        assert "use --media-mode symlink, hardlink or reference" in message
        cli("relocate", "--media-mode", "symlink", path)
        assert media_of(path) == [digest(big)]


@fixes("the stored path has a fixed length")
def test_fixed_length_image_path() -> None:
    video(Path("raw/p.png"))
    nwbfile = new_nwbfile()
    image = ExternalImage(name="image", data="../raw/p.png", image_format="PNG")
    nwbfile.add_acquisition(Images(name="images", description="images", images=[image]))
    Path("nwb").mkdir()
    path = Path("nwb/a.nwb")
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    dataset = "acquisition/images/image"
    set_paths(path, dataset, np.bytes_(b"../raw/p.png"))
    message = cli("relocate", path, code=1)
    assert "export to a new file with NWBExtFilesHDF5IO" in message
    export("out/a.nwb", path, relocate_media=True, media_mode="copy")
    assert media_of(Path("out/a.nwb"), dataset) == [digest(Path("raw/p.png"))]


@fixes("has no manifest", "no-manifest", "not-in-manifest", "stale-manifest")
def test_missing_manifest() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    message = message_of(path, "no-manifest", checksums=True)
    refusal = cli("restore", path, "back", code=1)
    assert "--manifest" in refusal
    cli(*command(message), "--media-mode", "copy", path)
    assert [finding.code for finding in check(path, checksums=True)] == []
    cli("restore", path, "back")
    assert digest(Path("back/a.avi")) == digest(Path("raw/a.avi"))
    set_paths(path, DATASET, ["../raw/a.avi"], dtype=UTF8)
    stale = message_of(path, "stale-manifest", checksums=True)
    cli(*command(stale), "--media-mode", "copy", path)
    assert [finding.code for finding in check(path, checksums=True)] == []


@fixes("was left inconsistent by an interrupted run", "interrupted-edit", "interrupted-edit")
def test_interrupted_edit() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    before = digest(path)
    code = (
        "import os, sys; from nwb_extfiles.disk import journal; from nwb_extfiles import relocate\n"
        "plain = journal._write_at\n"
        "def die(*rest):\n    plain(*rest)\n    os._exit(9)\n"
        "journal._write_at = die\nrelocate(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    message = cli("relocate", "--dry-run", path, code=1)
    cli(*command(message), path)
    assert digest(path) == before
    cli("relocate", path)
    assert media_of(path) == [digest(Path("raw/a.avi"))]


def killed(code: str, *words: object) -> None:
    """Run Python in another process, which ends itself."""
    run = subprocess.run([sys.executable, "-c", code, *map(str, words)], check=False, capture_output=True, text=True)
    assert run.returncode == 9, run.stderr


@fixes("interrupted-run", "the NWB file that the run was writing is not there")
def test_interrupted_run_whose_nwb_file_was_moved_away() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    before = digest(path)
    killed(
        "import os, sys; from nwb_extfiles.disk import journal; from nwb_extfiles import relocate\n"
        "plain = journal._write_at\n"
        "def die(*rest):\n    plain(*rest)\n    os._exit(9)\n"
        "journal._write_at = die\nrelocate(sys.argv[1])",
        path,
    )
    path.rename("a.nwb")
    message = message_of(Path("nwb"), "interrupted-run")
    assert "if 'a.nwb' was moved away, put it back here and run `nwb-extfiles recover` on it" in message
    assert message in cli("recover", "nwb")
    Path("a.nwb").rename(path)
    cli(*command(message), path)
    assert digest(path) == before
    assert "interrupted-run" not in [finding.code for finding in check("nwb")]


@pytest.mark.parametrize("then", ["again", "remove"])
@fixes("interrupted-run")
def test_interrupted_run_that_had_not_written_the_nwb_file(then: str) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    words = ["organize", "nwb", "-d", "ds", "--media-mode", "copy"]
    killed(
        "import os, sys; from nwb_extfiles.disk import contents; from nwb_extfiles.cli import main\n"
        "def die(source, part, **options):\n    part.write_bytes(b'part')\n    os._exit(9)\n"
        "contents.copy_verified = die\nmain(sys.argv[1:])",
        *words,
    )
    (finding,) = [finding for finding in check("ds") if finding.code == "interrupted-run"]
    assert finding.hint == "if no run is at work, run that command again, or remove this folder"
    if then == "remove":
        shutil.rmtree(finding.nwb_path)
    cli(*words)
    (new,) = Path("ds").rglob("*.nwb")
    assert media_of(new) == media_of(path)
    assert [finding.code for finding in check("ds")] == []


@fixes("interrupted-run")
def test_interrupted_run_that_was_replacing_videos() -> None:
    """What it had put aside is put back by the command that the message names."""
    recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    words = ["organize", "nwb", "-d", "ds", "--media-mode", "copy"]
    cli(*words)
    (new,) = Path("ds").rglob("*.nwb")
    (stored,) = stored_paths(new, DATASET)
    mine = new.parent / stored
    mine.write_bytes(b"another video")
    new.unlink()
    killed(
        "import os, sys; from nwb_extfiles.transfers.transfer import Transfer; from nwb_extfiles.cli import main\n"
        "Transfer._commit_document = lambda *rest: os._exit(9)\nmain(sys.argv[1:])",
        *words, "--existing", "replace",
    )  # fmt: skip
    assert mine.read_bytes() != b"another video"
    message = message_of(Path("ds"), "interrupted-run")
    assert "run that command again: it puts back what it was about to replace" in message
    assert "try again" in cli(*words, "--existing", "replace", code=1)
    assert mine.read_bytes() == b"another video"
    cli(*words, "--existing", "replace")
    assert media_of(new) == [digest(Path("raw/a.avi"))]
    assert [finding.code for finding in check("ds")] == []


@fixes("interrupted-run")
def test_interrupted_run_that_was_replacing_a_store() -> None:
    """Between two renames a Zarr store has no name; recovery needs to know which one it had."""
    store = Path("ds/a.nwb.zarr").absolute()
    store.mkdir(parents=True)
    (store / ".zgroup").write_text("former")
    killed(
        "import os, sys; from pathlib import Path; from nwb_extfiles.transfers.transfer import Transfer\n"
        "transfer = Transfer(Path(sys.argv[1]), as_folder=True)\ntransfer.staged_document.mkdir()\n"
        "os.rename(sys.argv[1], transfer._staging.replaced)\nos._exit(9)",
        store,
    )
    message = message_of(Path("ds"), "interrupted-run")
    assert "with the path that the NWB file had gives it its name back" in message
    cli(*command(message), store)
    assert (store / ".zgroup").read_text() == "former"
    assert not list(Path("ds").glob(".nwb-extfiles-*"))


@fixes("is a symbolic link to … and readers look for media beside the name")
def test_symlink_to_nwb_file() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    Path("links").mkdir()
    Path("links/a.nwb").symlink_to(path.resolve())
    message = cli("relocate", "links/a.nwb", code=1)
    (real,) = re.findall(r"is a symbolic link to (.+?)(?:, |;)", message)
    cli("relocate", real)
    assert media_of(path) == [digest(Path("raw/a.avi"))]


annexed = pytest.mark.skipif(shutil.which("git-annex") is None, reason="needs git-annex")


def git(*words: str, folder: Path) -> None:
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, "HOME": str(folder.resolve()), **who}
    subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True)


def annex(folder: Path) -> Path:
    """Make a repository with a video and an NWB file that refers to it, and a clone without content."""
    path = recording(folder / "a.nwb", ["raw/a.avi"])
    git("init", "-q", folder=folder)
    git("annex", "init", "-q", folder=folder)
    git("annex", "add", "-q", ".", folder=folder)
    git("commit", "-qm", "all", folder=folder)
    git("clone", "-q", str(folder.resolve()), "clone", folder=folder.parent)
    git("annex", "init", "-q", folder=folder.parent / "clone")
    return path


@annexed
@fixes("is not writable, and its stored paths have to change")
@pytest.mark.parametrize("unlocked", [False, True])
def test_annexed_media_without_content(unlocked: bool) -> None:
    path = annex(Path("repository").resolve())
    content = digest(path.parent / "raw/a.avi")
    clone = Path("clone").resolve()
    git("annex", "get", "-q", "a.nwb", folder=clone)
    git("annex", "unlock", "-q", "a.nwb", *(["raw/a.avi"] if unlocked else []), folder=clone)
    assert (clone / "raw/a.avi").is_symlink() != unlocked
    message = cli("relocate", "--media-mode", "copy", clone / "a.nwb", code=1)
    ((advice, folder),) = re.findall(r"run `git (annex get [^`]+)`.* in '([^']+)'", message)
    git(*shlex.split(advice), folder=Path(folder))
    cli("relocate", "--media-mode", "copy", clone / "a.nwb")
    assert media_of(clone / "a.nwb") == [content]
    subprocess.run(["chmod", "-R", "u+w", "."], check=True)


@annexed
@pytest.mark.parametrize("unlocked", [False, True])
def test_annexed_nwb_file_without_content(unlocked: bool) -> None:
    annex(Path("repository").resolve())
    clone = Path("clone").resolve()
    if unlocked:
        git("annex", "unlock", "-q", "a.nwb", folder=clone)
    for name in ("relocate", "check"):
        assert "git annex get a.nwb" in cli(name, clone / "a.nwb", code=1 if unlocked else 2)
    message = cli("ls", clone / "a.nwb", code=1 if unlocked else 2)
    ((advice, folder),) = re.findall(r"run `git (annex get [^`]+)`.* in '([^']+)'", message)
    git(*shlex.split(advice), folder=Path(folder))
    assert "raw/a.avi" in cli("ls", clone / "a.nwb")
    subprocess.run(["chmod", "-R", "u+w", "."], check=True)


@fixes("would be removed, but … needs it")
@pytest.mark.parametrize("advised", ["copy", "hardlink", "both NWB files in one call"])
def test_media_of_another_file(advised: str) -> None:
    first = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    content = digest(Path("raw/a.avi"))
    cli("relocate", "--media-mode", "move", first)
    second = recording(Path("nwb/b.nwb"), stored_paths(first), videos=False)
    message = cli("relocate", "--media-mode", "move", second, code=1)
    assert "would be removed, but" in message
    assert advised in message
    if advised.startswith("both"):
        cli("relocate", "--media-mode", "move", first, second)
    else:
        cli("relocate", "--media-mode", advised, second)
    assert media_of(first) == media_of(second) == [content]


def test_media_of_another_file_in_python() -> None:
    first = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    second = recording(Path("nwb/b.nwb"), ["../raw/a.avi"], videos=False)
    content = digest(Path("raw/a.avi"))
    with pytest.raises(RelocationRefusedError) as refused:
        relocate(first, "move")
    assert "relocate both NWB files in one call" in str(refused.value.hint)
    plans = relocate([first, second], "move")
    assert [plan.nwb_path.name for plan in plans] == ["a.nwb", "b.nwb"]
    assert media_of(first) == media_of(second) == [content]
    assert not Path("raw/a.avi").exists()


@fixes("and so would those of")
def test_two_files_with_one_media_folder() -> None:
    first = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    second = first.with_suffix(".h5")
    shutil.copy(first, second)
    set_paths(second, DATASET, ["../raw/b.avi"], dtype=UTF8)
    wanted = [[digest(Path("raw/a.avi"))], [digest(video(Path("raw/b.avi")))]]
    message = cli("relocate", "--media-mode", "move", first, second, code=1)
    assert "rename one of the two NWB files" in message
    renamed = second.rename("nwb/b.h5")
    cli("relocate", "--media-mode", "move", first, renamed)
    assert [media_of(first), media_of(renamed)] == wanted


@fixes("would be replaced, but … needs it")
def test_target_occupied_by_video_another_file_needs() -> None:
    first = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    content = digest(Path("raw/a.avi"))
    cli("relocate", "--media-mode", "move", first)
    second = recording(Path("nwb/b.nwb"), stored_paths(first), videos=False)
    wanted = digest(video(Path("raw/other.avi")))
    set_paths(first, DATASET, ["../raw/other.avi"], dtype=UTF8)
    message = cli("relocate", "--media-mode", "copy", "--existing", "replace", first, code=1)
    assert "move it away first, and store its new path in that NWB file" in message
    ((place),) = re.findall(r"'([^']+)' would be replaced, but", message)
    Path(place).rename("nwb/kept.avi")
    set_paths(second, DATASET, ["kept.avi"], dtype=UTF8)
    cli("relocate", "--media-mode", "copy", "--existing", "replace", first)
    assert (media_of(first), media_of(second)) == ([wanted], [content])


@fixes("would be replaced, and it is the only copy here of")
@pytest.mark.parametrize("advised", ["move that file away first", "with --repair, all NWB files in one call"])
def test_swapped_videos_of_two_files(advised: str) -> None:
    paths = [recording(Path(f"nwb/{name}.nwb"), [f"../raw/{name}.avi"]) for name in "ab"]
    wanted = [media_of(path) for path in paths]
    cli("relocate", "--media-mode", "move", "--manifest", *paths)
    first, second = ((path.parent / stored_paths(path)[0]) for path in paths)
    first.rename("nwb/spare.avi")
    second.rename(first)
    Path("nwb/spare.avi").rename(second)
    words = ["relocate", "--repair", "--media-mode", "copy", "--existing", "replace", "--search"]
    message = cli(*words, "nwb", paths[0], code=1)
    assert "the only copy here of 'b.avi'" in message
    assert advised in message
    if "--repair" in advised:
        cli(*words, "nwb", *paths)
    else:
        Path("kept").mkdir()
        first.rename("kept/b.avi")
        cli(*words, "nwb", paths[0])
        cli(*words, "kept", paths[1])
    assert [media_of(path) for path in paths] == wanted


@fixes("is replaced, and its content is discarded")
def test_discarded_media_are_named_before() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    content = digest(Path("raw/a.avi"))
    cli("relocate", "--media-mode", "move", path)
    wanted = digest(video(Path("raw/other.avi")))
    set_paths(path, DATASET, ["../raw/other.avi"], dtype=UTF8)
    words = ["relocate", "--media-mode", "copy", "--existing", "replace"]
    said = cli(*words, "--dry-run", path)
    ((place),) = re.findall(r"'([^']+)' \([\d,]+ bytes\) is replaced, and its content is discarded", said)
    assert digest(Path(place)) == content
    Path(place).rename("kept.avi")
    assert "discarded" not in cli(*words, path)
    assert media_of(path) == [wanted]
    assert digest(Path("kept.avi")) == content


@fixes("stays, because … needs it there")
def test_kept_name_is_removed_when_all_are_relocated() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    other = recording(Path("nwb/b.nwb"), ["../raw/a.avi"], videos=False)
    raw = Path("raw/a.avi")
    content = digest(raw)
    with warnings.catch_warnings(record=True) as caught, NWBHDF5IO(path, "r") as source:
        warnings.simplefilter("always")
        with NWBExtFilesHDF5IO("out/a.nwb", "w") as io:
            io.export(src_io=source, relocate_media=True, media_mode="move")
    assert any(re.search("stays, because .* needs it there", str(one.message)) for one in caught)
    assert raw.is_file()
    cli("relocate", "--media-mode", "move", path, other)
    assert not raw.exists()
    for each in (Path("out/a.nwb"), path, other):
        assert media_of(each) == [content]


@fixes("and its paths would change under all of them", "this one gets content of its own")
@pytest.mark.skipif(os.name == "nt", reason="the command is one of a POSIX shell here")
@pytest.mark.parametrize("by", ["relocate", "r+"])
def test_hard_linked_backup(by: str) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    Path("backup").mkdir()
    os.link(path, "backup/a.nwb")
    before = digest(path)

    def relocate_open_file() -> None:
        with quiet(), NWBExtFilesHDF5IO(path, "r+") as io:
            io.write(io.read(), relocate_media=True, media_mode="copy")

    if by == "relocate":
        assert "this one gets content of its own" in cli("relocate", "--media-mode", "copy", path)
    else:
        with pytest.raises(RelocationRefusedError, match="and its paths would change under all of them") as info:
            relocate_open_file()
        ((command),) = re.findall(r"open it again: (.+)", str(info.value))
        subprocess.run(command, shell=True, check=True)
        relocate_open_file()
    assert media_of(path) == [digest(Path("raw/a.avi"))]
    assert digest(Path("backup/a.nwb")) == before


@fixes("linked-media", "linked-media-missing", "dangling-link")
def test_media_linked_from_another_file() -> None:
    raw = recording(Path("nwb/raw.nwb"), ["../raw/a.avi"])
    content = digest(Path("raw/a.avi"))
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    with h5py.File(path, "r+") as file:
        del file["acquisition/video"]
        file["acquisition/video"] = h5py.ExternalLink("raw.nwb", "/acquisition/video")
    assert "nwb-extfiles check" in message_of(path, "linked-media")
    raw.rename("away.nwb")
    assert "put that file back" in message_of(path, "dangling-link")
    Path("away.nwb").rename(raw)
    Path("raw/a.avi").rename("a.avi")
    said = cli(*command(message_of(path, "linked-media-missing")), code=1)
    assert "missing" in said
    cli("relocate", "--search", ".", "--media-mode", "copy", raw)
    assert media_of(raw) == [content]
    assert message_of(path, "linked-media")


@fixes("no dandiset was named")
def test_outside_of_a_dandiset() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    message = cli("organize", path, code=1)
    assert "--dandiset-path" in message
    cli("organize", "-d", "set", path)
    (made,) = Path("set").rglob("*.nwb")
    assert media_of(made) == [digest(Path("raw/a.avi"))]


@fixes("is not an ExternalFileManifest", "`manifest`", "manifest")
def test_unreadable_manifest() -> None:
    path = recording(Path("a.nwb"), ["raw/a.avi"])
    cli("relocate", "--media-mode", "copy", "--manifest", path)
    content = digest(Path("raw/a.avi"))
    with h5py.File(path, "r+") as file:
        del file["general/external_files/manifest/sha256"]
    assert message_of(path, "manifest", checksums=True)
    assert "is not an ExternalFileManifest" in cli("relocate", path, code=1)
    (block,) = [one for one in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", PAGE) if "h5py" in one]
    exec(textwrap.dedent(block), {})  # the code on the page
    cli("relocate", "--media-mode", "copy", "--manifest", path)
    assert media_of(path) == [content]
    assert [finding.code for finding in check(path, checksums=True)] == []


def test_two_objects_with_one_object_id() -> None:
    path, wanted = two_bare_names()
    for name in wanted:
        set_paths(path, f"acquisition/{name}/external_file", [f"../recording/{name}/0.avi"], dtype=UTF8)
    with h5py.File(path, "r+") as file:
        series = file["acquisition"]
        series["Miniscope"].attrs["object_id"] = series["Behav Cam"].attrs["object_id"]
    message = cli("relocate", path, code=1)
    assert "give one a new id with generate_new_id() and export with nwbfile=" in message
    with quiet(), NWBHDF5IO(path, "r") as source, NWBExtFilesHDF5IO("out/a.nwb", "w") as io:
        nwbfile = source.read()
        nwbfile.acquisition["Miniscope"].generate_new_id()
        io.export(src_io=source, nwbfile=nwbfile, relocate_media=True, media_mode="copy")
    assert leads(Path("out/a.nwb"), wanted) == wanted


def test_nwb_file_without_suffix() -> None:
    path = recording(Path("nwb/a"), ["../raw/a.avi"])
    assert "give the NWB file a name with .nwb" in cli("relocate", path, code=1)
    path = path.rename("nwb/a.nwb")
    cli("relocate", path)
    assert media_of(path) == [digest(Path("raw/a.avi"))]


@pytest.mark.parametrize("fix", ["remove it", "write the NWB file under another name"])
def test_file_at_media_folder_path(fix: str) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    Path("nwb/a").write_text("a file")
    assert fix in cli("relocate", path, code=1)
    if fix == "remove it":
        Path("nwb/a").unlink()
        cli("relocate", path)
    else:
        export("nwb/b.nwb", path, relocate_media=True)
        path = Path("nwb/b.nwb")
    assert media_of(path) == [digest(Path("raw/a.avi"))]


def test_restore_to_another_folder() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    cli("relocate", "--manifest", "--media-mode", "copy", path)
    cli("restore", path, "back")
    assert "name another folder" in cli("restore", path, "nwb/a", code=1)
    assert "name another folder, or move it away" in cli("restore", path, "back", code=1)
    cli("restore", path, "another")
    Path("back/a.nwb").rename("kept.nwb")
    cli("restore", path, "back")
    for folder in ("another", "back"):
        assert digest(Path(folder, "a.avi")) == digest(Path("raw/a.avi"))
    with pytest.raises(RelocationRefusedError, match=r"use 'hardlink', which needs no space, or 'copy'"):
        restore(path, "third", "move")
    for mode in ("hardlink", "copy"):
        restore(path, mode, mode)
        assert digest(Path(mode, "a.avi")) == digest(Path("raw/a.avi"))


def test_organize_hint_works() -> None:
    path = recording(Path("in/a.nwb"), ["../raw/a.avi"])
    message = cli("organize", "-d", "set", "--keep-external-file-paths", path, code=1)
    cli("organize", "-d", "set", *re.findall(r"--update-external-file-paths", message), path)
    (made,) = Path("set").rglob("*.nwb")
    assert media_of(made) == [digest(Path("raw/a.avi"))]
    shutil.copy(recording(Path("in/b.nwb"), ["../raw/b.avi"]), made)
    cli("organize", "-d", "set", path)  # under a name of its own
    assert len(list(Path("set").rglob("*.nwb"))) == 2
    made.unlink()  # this copy never had videos here
    odd = recording(Path("in/c.h5"), ["../raw/c.avi"], subject="c")
    assert "rename it" in cli("organize", "-d", "set", odd, code=1)
    cli("organize", "-d", "set", odd.rename("in/c.nwb"))
    assert None not in [content for found in Path("set").rglob("*.nwb") for content in media_of(found)]


def test_repair_hint_works() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    message = cli("relocate", "--repair", path, code=1)
    assert "--search FOLDER, without --repair" in message
    cli("relocate", "--search", "raw", "--manifest", "--media-mode", "move", path)
    content = media_of(path)
    (place,) = Path("nwb/a").iterdir()
    Path("kept/deep").mkdir(parents=True)
    place.rename("kept/deep/z.avi")
    assert "name the folder that has it with --search FOLDER" in cli("relocate", "--repair", path, code=1)
    cli("relocate", "--repair", "--search", "kept", path)
    assert media_of(path) == content


# ---------------------------------------------------------- findings of `check`

RELOCATED = {
    "absolute-path": "{}/raw/a.avi",
    "outside-nwb-folder": "../raw/a.avi",
    "outside-dandiset": "../../raw/a.avi",
    "backslash": "..\\..\\raw\\a.avi",
    "unicode": "cafe\u0301.avi",
    "hidden": ".hidden/a.avi",
    "linked-folder": "linked/a.avi",
    "nonstandard-name": "a.avi",
    "asset-path": "k\u00e4fig/a.avi",
    "unportable-name": "aux.avi",
}


@fixes(*RELOCATED)
@pytest.mark.parametrize("code", RELOCATED)
def test_relocate_fixes_findings(code: str, tmp_path: Path) -> None:
    video(Path("raw/a.avi"))
    folder = Path("set/sub")
    for name in ("a.avi", ".hidden/a.avi", "real/a.avi", "caf\u00e9.avi", "../raw/a.avi", "aux.avi"):
        video(folder / name, content="a.avi")
    (folder / "linked").symlink_to("real")
    video(folder / "k\u00e4fig/a.avi", content="a.avi")
    if code in ("outside-dandiset", "asset-path"):
        Path("set/dandiset.yaml").write_text("identifier: '000001'\n")
    path = recording(folder / "a.nwb", [RELOCATED[code].format(tmp_path)], videos=False)
    message = message_of(path, code)
    assert message
    cli("relocate", "--media-mode", "copy", path)
    assert [finding.code for finding in check(path)] == []
    assert media_of(path) == [digest(Path("raw/a.avi"))]


@pytest.mark.parametrize(("folder", "name"), [("sub-M\u00e4use", "a"), ("sub", "a'b"), ("sub", "aux")])
def test_nwb_file_with_a_refused_name_is_renamed(folder: str, name: str) -> None:
    path = recording(Path(f"set/{folder}/{name}.nwb"), ["../../raw/a.avi"])
    cli("relocate", "--media-mode", "copy", path)
    Path("set/dandiset.yaml").write_text("identifier: '000001'\n")
    message = message_of(path, "unportable-name" if name == "aux" else "asset-path")
    assert "rename it, or the folder, and run `nwb-extfiles relocate` on it" in message
    Path(f"set/{folder}").rename("set/sub-m")
    path = Path(f"set/sub-m/{name}.nwb").rename("set/sub-m/m.nwb")
    cli("relocate", path)
    assert [finding.code for finding in check("set")] == []
    assert media_of(path) == [digest(Path("raw/a.avi"))]


@fixes("letter-case")
def test_file_is_renamed_as_the_path_has_it() -> None:
    path = recording(Path("nwb/a.nwb"), ["Video.avi"], videos=False)
    content = digest(video(Path("nwb/video.avi")))
    assert "rename it, or its folder, so that it has the name in the path" in message_of(path, "letter-case")
    Path("nwb/video.avi").rename("nwb/Video.avi")
    assert media_of(path) == [content]


@fixes("alike-names")
def test_nwb_files_that_differ_in_case_are_renamed() -> None:
    paths = [recording(Path(f"nwb/{name}.nwb"), [f"../raw/{name}.avi"]) for name in ("A", "a")]
    contents = [digest(Path(f"raw/{name}.avi")) for name in ("A", "a")]
    cli("relocate", "--media-mode", "copy", *paths)
    assert "rename all but one" in message_of(Path("nwb"), "alike-names")
    renamed = paths[0].rename("nwb/b.nwb")
    cli("relocate", renamed)
    assert [media_of(path) for path in (renamed, paths[1])] == [[content] for content in contents]
    assert "alike-names" not in [finding.code for finding in check("nwb")]


@fixes("empty", "not-readable")
def test_truncated_video_is_reported() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.h264"])
    said = cli("relocate", "--media-mode", "copy", path)
    assert "or convert 'a.h264' to a format that DANDI accepts" in said
    video(Path("raw/a.mp4"))  # converted
    set_paths(path, DATASET, ["../raw/a.mp4"], dtype=UTF8)
    Path("raw/a.mp4").write_bytes(b"")
    assert message_of(path, "empty")
    video(Path("raw/a.mp4"))  # made again
    cli("relocate", "--media-mode", "copy", path)
    assert "suffix" not in [finding.code for finding in check(path)]
    assert media_of(path) == [digest(Path("raw/a.mp4"))]


@fixes("suffix")
def test_remuxing_as_the_warning_says(all_videos: Videos) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.h264"], videos=False)
    Path("raw").mkdir()
    shutil.copy(all_videos["b_frames.h264"], "raw/a.h264")
    said = cli("relocate", path)
    advice = said.split("; use ")[1].split(" to remux 'a.h264' without loss")[0]
    assert advice == "--remux and --media-mode copy"
    assert f"relocate it with {advice}" in cli("check", path)
    cli("relocate", *advice.replace(" and ", " ").split(), path)
    assert "suffix" not in [finding.code for finding in check(path)]
    assert media_of(path) != [digest(Path("raw/a.h264"))]
    assert decoded_frames(path.parent / stored_paths(path)[0]) == 60


def test_image_series_warns_once() -> None:
    names = [f"f/{number}.tif" for number in range(100)]
    path = recording(Path("a.nwb"), names)
    said = cli("relocate", path).splitlines()
    (warning,) = [line for line in said if "warning" in line]
    assert "and 99 more" in warning
    assert None not in media_of(path)


@fixes("url")
def test_url_is_downloaded(tmp_path: Path) -> None:
    video(Path("served/a.avi"))
    with serving(tmp_path / "served") as server:
        path = recording(Path("nwb/a.nwb"), [server.url("a.avi")], videos=False)
        assert message_of(path, "url")
        cli("relocate", "--media-mode", "copy", "--urls", "download", path)
    assert media_of(path) == [digest(Path("served/a.avi"))]


@fixes("same-media")
def test_both_references_get_one_path() -> None:
    video(Path("nwb/a.avi"))
    shutil.copy("nwb/a.avi", "nwb/b.avi")
    path = recording(Path("nwb/a.nwb"), ["a.avi", "b.avi"])
    assert message_of(path, "same-media")
    set_paths(path, DATASET, ["a.avi", "a.avi"], dtype=UTF8)
    assert "same-media" not in [finding.code for finding in check(path)]


@fixes("orphan")
def test_orphan_is_removed() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    cli("relocate", "--media-mode", "copy", path)
    video(Path("nwb/a/old.avi"))
    assert "old.avi" in message_of(path, "orphan")
    Path("nwb/a/old.avi").unlink()
    assert [finding.code for finding in check(path)] == []


@fixes("no-nwb-files")
def test_another_folder_is_named() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    cli("relocate", "--media-mode", "copy", path)
    assert "name NWB files" in message_of(Path("raw"), "no-nwb-files")
    assert [finding.code for finding in check(Path("nwb"))] == []


@fixes("no-nwb-file")
def test_media_follow_the_renamed_file() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    cli("relocate", "--media-mode", "copy", path)
    path = path.rename("nwb/b.nwb")
    assert message_of(Path("nwb"), "no-nwb-file")
    cli("relocate", path)
    assert [finding.code for finding in check(Path("nwb"))] == []
    assert media_of(path) == [digest(Path("raw/a.avi"))]


@fixes("media-missing", "media-truncated", "media-changed", "media-swapped", "media-unreadable")
@fixes("media-missing", "media-truncated", "media-changed", "media-swapped", "media-unreadable")
@pytest.mark.parametrize("what", ["missing", "truncated", "changed", "swapped"])
def test_repair_from_backup(what: str) -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi", "../raw/b.avi"])
    wanted = media_of(path)
    cli("relocate", "--media-mode", "copy", "--manifest", path)
    first, second = (path.parent / stored for stored in stored_paths(path))
    if what == "missing":
        first.unlink()
    elif what == "truncated":
        first.write_bytes(first.read_bytes()[:100])
    elif what == "changed":
        first.write_bytes(b"x" * first.stat().st_size)
    else:
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    message = message_of(path, f"media-{what}", checksums=True, media_options={"search": ["raw"]})
    cli(*command(message), *([] if "--search" in message else ["--search", "raw"]))
    assert media_of(path) == wanted
    assert [finding.code for finding in check(path, checksums=True)] == []


# -------------------------------------------------------- pose lists, appended later


def append_pose(path: Path, original: str, mode: str) -> None:
    from ndx_pose import PoseEstimation, PoseEstimationSeries

    with quiet(), warnings.catch_warnings(), NWBExtFilesHDF5IO(path, "r+") as io:
        warnings.simplefilter("ignore", ExternalFilesWarning)
        nwbfile: NWBFile = io.read()
        nose = PoseEstimationSeries(
            name="nose", description="nose", data=np.zeros((3, 2)), unit="pixels", reference_frame="corner", rate=1.0,
            confidence=np.ones(3),
        )  # fmt: skip
        pose = PoseEstimation(pose_estimation_series=[nose], description="a pose", original_videos=[original])
        nwbfile.create_processing_module("behavior", "pose").add(pose)
        if mode != "later":
            io.write(nwbfile, relocate_media=True, media_mode=mode)
        else:
            io.write(nwbfile, relocate_media=False)


@pytest.mark.parametrize("mode", ["copy", "move"])
@pytest.mark.parametrize("later", [False, True])
def test_appended_pose_list_shares_copy_of_series(mode: str, later: bool) -> None:
    raw = video(Path("raw/a.avi")).resolve()
    content = digest(raw)
    video(Path("raw/b.avi"), content="b.avi")  # of the same size
    path = recording(Path("nwb/a.nwb"), [str(raw), "../raw/b.avi"])
    cli("relocate", "--media-mode", mode, "--manifest", path)
    append_pose(path, str(raw), "later" if later else mode)
    if later:
        said = cli("relocate", "--media-mode", mode, path)
        assert ("no longer exists, and is taken to be" in said) == (mode == "move")
    pose = "processing/behavior/PoseEstimation/original_videos"
    assert stored_paths(path, pose) == [stored_paths(path)[0]]
    assert media_of(path, pose) == [content]
    assert len(list(Path("nwb/a").iterdir())) == 2


def test_appended_pose_list_meant_another_video() -> None:
    raw = video(Path("raw/a.avi")).resolve()
    path = recording(Path("nwb/a.nwb"), [str(raw)])
    cli("relocate", "--media-mode", "move", "--manifest", path)
    append_pose(path, "/gone/a.avi", "later")
    before = media_of(path)
    said = cli("relocate", "--media-mode", "copy", path)
    assert "store the path of that file in it, and relocate again" in said
    pose = "processing/behavior/PoseEstimation/original_videos"
    video(Path("raw/other.avi"))
    set_paths(path, pose, ["../raw/other.avi"], dtype=UTF8)
    cli("relocate", "--media-mode", "copy", path)
    assert media_of(path, pose) == [digest(Path("raw/other.avi"))]
    assert media_of(path) == before


def test_media_removed_by_an_earlier_move() -> None:
    path = recording(Path("nwb/a.nwb"), ["../raw/a.avi"])
    content, out = digest(Path("raw/a.avi")), Path("out/a.nwb")
    said = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught, NWBHDF5IO(path, "r") as source:
            warnings.simplefilter("always")
            with NWBExtFilesHDF5IO(out, "w") as io:
                io.export(src_io=source, relocate_media=True, media_mode="move")
        said.append(" ".join(str(one.message) for one in caught if one.category is ExternalFilesWarning))
    assert "if this entry means another file, store the path of that file in it, and relocate again" in said[1]
    assert media_of(out) == [content]
    video(Path("raw/other.avi"))
    set_paths(path, DATASET, ["../raw/other.avi"], dtype=UTF8)
    with pytest.raises(MediaExistsError, match="move it away") as info:  # the former video is not simply replaced
        export(str(out), path, relocate_media=True, media_mode="copy")
    (place,) = [Path(found) for found in re.findall(r"'([^']+)' exists and is not a copy", str(info.value))]
    place.rename("kept.avi")
    export(str(out), path, relocate_media=True, media_mode="copy")
    assert media_of(out) == [digest(Path("raw/other.avi"))]
    assert digest(Path("kept.avi")) == content


def test_pose_list_naming_another_video_keeps_it() -> None:
    raw = video(Path("raw/a.avi")).resolve()
    path = recording(Path("nwb/a.nwb"), [str(raw)])
    cli("relocate", "--media-mode", "move", "--manifest", path)
    raw.write_bytes(b"x" * 2000)  # of the same size and name, but different
    append_pose(path, str(raw), "copy")
    pose = "processing/behavior/PoseEstimation/original_videos"
    assert media_of(path, pose) == [digest(raw)]
    assert len(list(Path("nwb/a").iterdir())) == 2


def test_pose_list_with_ambiguous_missing_video() -> None:
    for folder in ("one", "two"):
        video(Path(folder, "a.avi"), content=folder)
    path = recording(Path("nwb/a.nwb"), ["../one/a.avi", "../two/a.avi"])
    cli("relocate", "--media-mode", "move", "--manifest", path)
    append_pose(path, "/gone/a.avi", "later")
    before = stored_paths(path)
    assert "no file for '/gone/a.avi'" in cli("relocate", path, code=1)
    assert stored_paths(path) == before


# ------------------------------------------------------------------- other output


def test_output_encoding_cannot_show_name() -> None:
    for number in (1, 2):
        recording(Path(f"videos/セッション{number}.nwb"), [f"マウス{number}.avi"])
    for words in (
        "ls videos",
        "check videos",
        "relocate --media-mode copy videos/セッション1.nwb videos/セッション2.nwb",
    ):
        done = subprocess.run(
            [sys.executable, "-m", "nwb_extfiles", *words.split()],
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            check=False,
        )
        assert b"UnicodeEncodeError" not in done.stderr
        assert b"\\u30bb" in done.stdout + done.stderr
    assert all(None not in media_of(path) for path in Path("videos").glob("*.nwb"))


# ------------------------------------------------------------------------ videos


def with_videos(all_videos: Videos, *names: str, **more: Any) -> Path:
    """Make an NWB file with a series of copies of real videos."""
    for number, name in enumerate(names):
        shutil.copy(all_videos[name], f"{number}_{name}")
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series([f"{number}_{name}" for number, name in enumerate(names)], **more))
    with NWBHDF5IO("a.nwb", "w") as io:
        io.write(nwbfile)
    return Path("a.nwb")


def codes(path: Path, how: str = "index") -> set[str]:
    return {finding.code for finding in check(path, frames=how)} - {"nonstandard-name"}


def edit_series(path: Path, message: str) -> None:
    """Store in the series what a message says to store."""
    ((name, value),) = re.findall(r"store (\w+)=(\[.*?\]|\d+|'\w+')", message)
    with h5py.File(path, "r+") as file:
        series = file["acquisition/video"]
        if name == "starting_frame":
            series["external_file"].attrs[name] = ast.literal_eval(value)
        else:
            del series[name]
            series[name] = ast.literal_eval(value)


@fixes("not-a-video", "cut-off", "no-frames", "damaged", "ends-early", "frames-missing")
@pytest.mark.parametrize(
    ("name", "code", "right"),
    [
        ("playlist.mp4", "not-a-video", "b_frames.mp4"),
        ("cut_off.mp4", "cut-off", "b_frames.mp4"),
        ("no_index.mp4", "cut-off", "b_frames.mp4"),
        ("no_frames.avi", "no-frames", "mpeg4.avi"),
        ("cut_off.flv", "ends-early", "flv1.flv"),
        ("damaged.mp4", "damaged", "b_frames.mp4"),
        ("cut_off.ts", "frames-missing", "h264.ts"),
    ],
)
def test_right_video_is_put_there(all_videos: Videos, name: str, code: str, right: str) -> None:
    path = with_videos(all_videos, "b_frames.mp4" if name == "damaged.mp4" else name, num_samples=60)
    (video,) = Path().glob("0_*")
    if name == "damaged.mp4":
        content = bytearray(video.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2000] = bytes(2000)
        video.write_bytes(content)
    message = message_of(path, code, frames="decode")
    assert re.search(
        "put the complete video there|replace it with the video|copy it again|compare it with the file where it was",
        message,
    )
    shutil.copy(all_videos[right], video)
    assert codes(path, "decode") <= {"not-playable", "suffix"}


@fixes("has zero bytes", "is cut off, or still being written")
@pytest.mark.parametrize("kept", [0, 5_000])
@pytest.mark.parametrize("first", ["relocate", "replace"])
def test_whole_video_is_put_in_its_place_before_or_after(all_videos: Videos, kept: int, first: str) -> None:
    path = with_videos(all_videos, "b_frames.mp4", num_samples=60)
    (video,) = Path().glob("0_*")
    whole = video.read_bytes()
    video.write_bytes(whole[:kept])
    said = cli("relocate", path, "--media-mode", "copy", "--dry-run")
    assert ("has zero bytes" if kept == 0 else "is cut off, or still being written") in said
    assert "before or after this" in said
    if first == "relocate":
        cli("relocate", path, "--media-mode", "copy")
        (video,) = Path(path).with_suffix("").iterdir()
    video.write_bytes(whole)
    cli("relocate", path, "--media-mode", "copy")
    assert media_of(path) == [hashlib.sha256(whole).hexdigest()]
    assert codes(path) <= {"not-playable"}


@fixes("frames-left-over", "starting-frame", "sizes-differ")
@pytest.mark.parametrize(
    ("code", "names", "series"),
    [
        ("frames-missing", ["b_frames.mp4"], dict(num_samples=64)),
        ("frames-left-over", ["b_frames.mp4"], dict(num_samples=56)),
        ("starting-frame", ["b_frames.mp4", "h264.mov"], dict(num_samples=120, starting_frame=[0, 50])),
        ("sizes-differ", ["b_frames.mp4"], dict(num_samples=60, dimension=[1, 2])),
    ],
)
def test_series_is_corrected(all_videos: Videos, code: str, names: list[str], series: dict[str, Any]) -> None:
    path = with_videos(all_videos, *names, **series)
    edit_series(path, message_of(path, code, frames="index"))
    assert codes(path) == set()


def test_timestamps_of_dropped_frames_are_removed(all_videos: Videos) -> None:
    path = with_videos(all_videos, "b_frames.mp4", timestamps=np.arange(64.0), rate=None, num_samples=None)
    assert message_of(path, "frames-missing", frames="index").endswith("remove their timestamps")
    with h5py.File(path, "r+") as file:
        del file["acquisition/video/timestamps"]
        file["acquisition/video/timestamps"] = np.delete(np.arange(64.0), [7, 8, 9, 10])
    assert codes(path) == set()


def test_right_starting_frame_needs_packets(all_videos: Videos) -> None:
    with_videos(all_videos, "h264.mkv", "h264.mkv", num_samples=120, starting_frame=[0, 0])
    said = cli("check", "a.nwb", code=1)
    (advised,) = set(re.findall(r"--frames packets", said))
    said = cli("check", *advised.split(), "a.nwb", code=1)
    edit_series(Path("a.nwb"), said)
    cli("check", *advised.split(), "a.nwb")


@fixes("gaps")
def test_series_with_gaps_gets_timestamps(all_videos: Videos) -> None:
    path = with_videos(all_videos, "variable_rate.mp4", num_samples=50)
    assert message_of(path, "gaps", frames="packets").endswith("give the series timestamps")
    with h5py.File(path, "r+") as file:
        series = file["acquisition/video"]
        del series["starting_time"], series["num_samples"]
        series["timestamps"] = np.delete(np.arange(60) / 30, range(20, 30))
    assert codes(path, "packets") == set()


@fixes("hidden-frames", "rotated", "several-videos", "not-playable")
def test_remarks_ask_for_nothing(all_videos: Videos) -> None:
    for name in ("edit_list.mp4", "rotated.mp4", "two_videos.mp4"):
        path = with_videos(all_videos, name, num_samples=decoded_frames(all_videos[name]))
        assert {finding.severity for finding in check(path, frames="index")} == {"info"}
        cli("check", path)
    path = with_videos(all_videos, "mpeg4.avi", num_samples=60)
    assert "in a browser, h264 in mp4 plays" in message_of(path, "not-playable", frames="index")
    shutil.copy(all_videos["b_frames.mp4"], "0.mp4")
    set_paths(path, DATASET, ["0.mp4"], dtype=UTF8)
    assert codes(path) == set()


@fixes("videos-not-read")
def test_videos_are_read_with_pyav(all_videos: Videos) -> None:
    with_videos(all_videos, "b_frames.mp4", num_samples=64)
    code = "import sys; sys.modules['av'] = None; from nwb_extfiles.cli import main; main(sys.argv[1:])"

    def said(*words: str) -> str:
        command = [sys.executable, "-c", code, "check", *words, "a.nwb"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "videos-not-read" in said()
    assert "videos-not-read" not in said("--frames", "none")
    assert "frames-missing" in cli("check", "a.nwb", code=1)


@fixes("image-format")
def test_format_of_image_is_stored() -> None:
    nwbfile = new_nwbfile()
    image = ExternalImage(name="image", data="image.png", image_format="JPEG")
    nwbfile.add_acquisition(Images(name="images", description="images", images=[image]))
    with NWBHDF5IO("a.nwb", "w") as io:
        io.write(nwbfile)
    path = Path("a.nwb")
    Path("image.png").write_text("no image")
    assert message_of(path, "image-format", frames="index").endswith("put the JPEG image there")
    make_image("image.png")
    ((value,),) = [re.findall(r"store image_format='(\w+)'", message_of(path, "image-format", frames="index"))]
    with h5py.File(path, "r+") as file:
        file["acquisition/images/image"].attrs["image_format"] = value
    assert codes(path) == set()


# ------------------------------------------------------------------------ the page


def rows() -> list[str]:
    """The rows of the page: names of errors, codes, and messages as they are quoted."""
    found = re.findall(r"(?m)^\| \{py:obj\}`~nwb_extfiles\.errors\.(\w+)`", PAGE)
    found += re.findall(r"(?m)^\*\"… ?(.+?)\"\*$", PAGE) + re.findall(r"(?m)^\*\"([^…].+?)\"\*$", PAGE)
    for cells in re.findall(r"(?m)^\| (`[^|]+) \|", PAGE):
        found += re.findall(r"`([a-z-]+)`", cells)
    return found


def test_every_row_of_errors_page_is_tested() -> None:
    page = rows()
    assert len(page) > 50
    uncovered = [row for row in page if row not in COVERED and not any(_fits(part, row) for part in COVERED)]
    assert uncovered == []


def _fits(part: str, row: str) -> bool:
    """Whether a quoted message contains the words of a part, in order."""
    return " " in part and re.search(".*".join(map(re.escape, part.split(" … "))), row) is not None

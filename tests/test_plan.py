"""What a relocation will do, decided from values alone; and the survey of the destination."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import pytest
from helpers import digest, stored_paths, tree, write_nwb
from pynwb import NWBHDF5IO

from nwb_extfiles import ExternalFilesWarning, MediaMode, MediaOptions, NWBExtFilesHDF5IO, RelocationPlan
from nwb_extfiles.errors import (
    ExternalFilesError,
    MediaExistsError,
    MissingMediaError,
    PlanError,
    RelocationRefusedError,
    UnsafeReferenceError,
)
from nwb_extfiles.nwb.references import ExternalFileReference
from nwb_extfiles.plans.decisions import make_plan
from nwb_extfiles.plans.media_files import MediaFile
from nwb_extfiles.plans.plan import Action
from nwb_extfiles.plans.resolve import Resolution
from nwb_extfiles.plans.targets import Destination, TargetState, name_targets, nwb_stem, survey

A, B, C = (f"933f8cf6-9e4b-405f-8cad-cc031d1fafc{digit}" for digit in "abc")
OUT = Path("/out/x.nwb")
TRANSFERRING = [mode for mode in MediaMode if mode is not MediaMode.REFERENCE]


def ref(index: int = 0, object_id: str | None = A, **kwargs: Any) -> ExternalFileReference:
    values: dict[str, Any] = dict(
        nwb_path=str(OUT),
        object_path=f"/acquisition/{object_id}",
        neurodata_type="ImageSeries",
        object_id=object_id,
        field="external_file",
        index=index,
        stored_path=f"text{index}",
        base="/in",
    )
    return ExternalFileReference(**(values | kwargs))


def media(name: str = "a.avi", inode: int | None = None, size: int = 10, device: int = 1) -> MediaFile:
    path = Path("/videos", name)
    return MediaFile(path, path, size, (device, hash(name) if inode is None else inode))


def url(index: int = 0, object_id: str = A) -> Resolution:
    return Resolution(ref(index, object_id, stored_path=f"https://example.org/{index}"), url=True)


def missing(index: int = 0, object_id: str = A) -> Resolution:
    reference = ref(index, object_id)
    return Resolution(
        reference, problem=MissingMediaError(f"{reference.where}: no {reference.stored_path}", **reference.place)
    )


def plan(
    resolutions: Sequence[Resolution],
    mode: MediaMode = MediaMode.COPY,
    *,
    nwb_path: Path = OUT,
    states: Mapping[str, TargetState] | None = None,
    outside: Iterable[str] = (),
    device: int | None = 1,
    free: int | None = None,
    longest: int | None = None,
    archived: Any = lambda suffix: True,
    problems: Sequence[ExternalFilesError] = (),
    linkable: frozenset[int] = frozenset(),
    cannot: frozenset[MediaMode] = frozenset(),
    lacks_privilege: bool = False,
    in_use: frozenset[Path] = frozenset(),
    **options: Any,
) -> RelocationPlan:
    """Make a plan without a file system: no target exists, except those in `states`."""
    chosen = MediaOptions(**options)
    named, unnamed = name_targets(resolutions, chosen, nwb_path=nwb_path, identifier="id0")
    targets = {entry.target: TargetState.ABSENT for entry in named if entry.target is not None}
    targets |= {PurePosixPath(target): state for target, state in (states or {}).items()}
    devices = linkable if device is None else linkable | {device}
    destination = Destination(nwb_path, targets, frozenset(map(PurePosixPath, outside)), devices, free, longest)
    destination = replace(destination, lacks_privilege=lacks_privilege, in_use=in_use, cannot=cannot)
    return make_plan(named, destination, chosen, mode, problems=[*problems, *unnamed], is_archived=archived)


def refusal(*args: Any, **kwargs: Any) -> ExternalFilesError:
    with pytest.raises(ExternalFilesError) as info:
        plan(*args, **kwargs)
    return info.value


def actions(made: RelocationPlan) -> list[Action]:
    return [entry.action for entry in made.relocations]


def paths(made: RelocationPlan) -> list[str]:
    return [entry.new_path for entry in made.relocations]


def name(index: int, object_id: str = A, suffix: str = ".avi", field: str = "external_file") -> str:
    return f"x/{object_id}_{field}_{index}{suffix}"


# ----------------------------------------------------------------------- the usual


def test_no_references_make_empty_plan() -> None:
    made = plan([])
    assert made.relocations == ()
    assert made.new_paths == {}
    assert made.media_bytes == 0
    assert made.warnings == ()


@pytest.mark.parametrize("mode", TRANSFERRING)
def test_order_and_indices_are_kept(mode: MediaMode) -> None:
    found = [Resolution(ref(n, key), media(f"{key}{n}.avi")) for key in (B, A) for n in range(12)]
    made = plan(found, mode)
    assert [entry.reference for entry in made.relocations] == [resolution.reference for resolution in found]
    assert paths(made) == [name(n, key) for key in (B, A) for n in range(12)]
    assert set(actions(made)) == {Action.TRANSFER}
    assert [str(entry.target) for entry in made.relocations] == paths(made)
    assert made.new_paths[f"/acquisition/{B}", "external_file", 11] == name(11, B)
    assert made.media_bytes == 240
    assert (made.mode, made.nwb_path) == (mode, OUT)


@pytest.mark.parametrize(
    ("source", "suffix"), [("a.AVI", ".avi"), ("a.b.Mp4", ".mp4"), ("a", ""), (".hidden", ""), ("a.TAR.GZ", ".gz")]
)
def test_suffix_is_lowercased_in_target(source: str, suffix: str) -> None:
    (entry,) = plan([Resolution(ref(), media(source))]).relocations
    assert entry.new_path == name(0, suffix=suffix)


@pytest.mark.parametrize("source", ["a.a b", "a.é", "a.\udcff", "a.a:b", "a.x\n", "a." + "x" * 33])
def test_suffix_illegal_on_some_file_systems(source: str) -> None:
    """A suffix that some file systems cannot store is left out of the name, with the warning about DANDI."""
    made = plan([Resolution(ref(3), media(source))], archived=bool)
    assert paths(made) == [name(3, suffix="")]
    assert "without a suffix" in made.warnings[0]


def test_url_keeps_its_index() -> None:
    found = [Resolution(ref(0), media("a.avi")), url(1), Resolution(ref(2), media("b.avi"))]
    made = plan(found)
    assert paths(made) == [name(0), "https://example.org/1", name(2)]
    assert actions(made) == [Action.TRANSFER, Action.KEEP, Action.TRANSFER]
    assert made.relocations[1].source is made.relocations[1].target is None
    assert made.warnings == ()


@pytest.mark.parametrize("suffix", ["", ".h264"])
def test_suffix_not_archived_by_dandi_is_reported(suffix: str) -> None:
    found = [Resolution(ref(0), media(f"clip{suffix}")), Resolution(ref(1), media("b.avi"))]
    made = plan(found, archived=[".avi"].__contains__)
    (warning,) = made.warnings
    assert name(0, suffix=suffix) in warning
    assert (suffix or "without a suffix") in warning
    assert "external_file[0]" in warning


def test_joined_plans_share_media_folder() -> None:
    first, second = plan([url(0)]), plan([Resolution(ref(1), media())], archived=lambda suffix: False)
    assert second.joined_to(None) is second
    both = second.joined_to(first)
    assert both.relocations == first.relocations + second.relocations
    assert both.warnings == second.warnings


# ----------------------------------------------------------------------- references


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/videos/a.avi", "../videos/a.avi"),
        ("/out/a.avi", "a.avi"),
        ("/out/deep/a b.avi", "deep/a b.avi"),
        ("/a.avi", "../a.avi"),
    ],
)
def test_reference_mode(path: str, text: str) -> None:
    file = MediaFile(Path(path), Path("/store/4711"), 10, (1, 1))
    (entry,) = plan([Resolution(ref(), file)], MediaMode.REFERENCE).relocations
    assert (entry.action, entry.new_path, entry.target, entry.source) == (Action.REWRITE_PATH, text, None, file)


def test_reference_mode_with_shared_and_missing_media() -> None:
    found = [Resolution(ref(0), media()), url(1), Resolution(ref(2), media())]
    made = plan(found, MediaMode.REFERENCE, free=0, device=99)
    assert paths(made) == ["../videos/a.avi", "https://example.org/1", "../videos/a.avi"]
    assert made.media_bytes == 0


@pytest.mark.parametrize("file_name", ["data:clip.avi"])
def test_reference_mode_makes_no_url(file_name: str) -> None:
    """A file beside the NWB file whose bare name would read as a URL."""
    file = MediaFile(OUT.parent / file_name, OUT.parent / file_name, 1, (1, 1))
    (text,) = paths(plan([Resolution(ref(stored_path=f"./{file_name}"), file)], MediaMode.REFERENCE))
    assert text == f"./{file_name}"


@pytest.mark.parametrize(
    ("object_id", "file_name", "nwb_name"), [("no uuid", "a.avi", "x.nwb"), (A, "a.a b", "x.nwb"), (A, "a.avi", "x")]
)
def test_reference_mode_needs_no_names(tmp_path: Path, object_id: str, file_name: str, nwb_name: str) -> None:
    """In reference mode, media get no new names, so these cannot be wrong."""
    video = tmp_path / file_name
    video.write_bytes(b"video")
    source = write_nwb(tmp_path / "in" / "in.nwb", [f"../{file_name}"])
    with h5py.File(source, "r+") as file:
        file["acquisition/video"].attrs["object_id"] = object_id
    target = tmp_path / "out" / "deep" / nwb_name
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The file path provided", UserWarning)  # pynwb, of a name without .nwb
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
            io.export(src_io=src_io, relocate_media=True, media_mode="reference")
    assert stored_paths(target) == [f"../../{file_name}"]


# -------------------------------------------------------------------- one video, many


@pytest.mark.parametrize(
    ("mode", "further"),
    [
        (MediaMode.COPY, Action.DUPLICATE),
        (MediaMode.MOVE, Action.DUPLICATE),
        (MediaMode.SYMLINK, Action.TRANSFER),
        (MediaMode.HARDLINK, Action.TRANSFER),
    ],
)
def test_shared_video_is_copied_once(mode: MediaMode, further: Action) -> None:
    """Each reference has its own name, but the bytes are copied once."""
    found = [Resolution(ref(0), media()), Resolution(ref(1), media()), Resolution(ref(0, B), media())]
    made = plan(found, mode, free=10)
    assert actions(made) == [Action.TRANSFER, further, further]
    assert paths(made) == [name(0), name(1), name(0, B)]
    if further is Action.DUPLICATE:
        assert made.media_bytes == 10


def test_video_with_two_names_is_copied_once() -> None:
    """Two paths to one file, through a hard or symbolic link, are one video. Each name keeps its suffix."""
    found = [Resolution(ref(0), media("a.avi", inode=7)), Resolution(ref(1), media("b.MOV", inode=7))]
    made = plan(found)
    assert actions(made) == [Action.TRANSFER, Action.DUPLICATE]
    assert paths(made) == [name(0), name(1, suffix=".mov")]


def test_same_inode_on_another_device_is_another_video() -> None:
    found = [Resolution(ref(0), media("a", inode=7)), Resolution(ref(1), media("b", inode=7, device=2))]
    assert actions(plan(found)) == [Action.TRANSFER, Action.TRANSFER]


def test_shared_video_already_at_target() -> None:
    found = [Resolution(ref(0), media()), Resolution(ref(1), media())]
    made = plan(found, states={name(0): TargetState.SAME})
    assert actions(made) == [Action.REUSE, Action.DUPLICATE]
    made = plan(found, states={name(1): TargetState.SAME})
    assert actions(made) == [Action.TRANSFER, Action.REUSE]


@pytest.mark.parametrize("mode", TRANSFERRING)
def test_repeated_field_shares_the_copy(mode: MediaMode) -> None:
    """The `original_videos` of a pose refer to the video of a series, wherever they are in the file."""
    repeating = dict(field="original_videos", repeats=True)
    found = [
        Resolution(ref(0, B, **repeating), media("a.avi")),
        Resolution(ref(1, B, **repeating), media("only_here.avi")),
        Resolution(ref(0), media("b.avi")),
        Resolution(ref(1), media("a.avi")),
        Resolution(ref(2, B, **repeating), media("only_here.avi")),
    ]
    made = plan(found, mode)
    own = name(1, B, field="original_videos")
    assert paths(made) == [name(1), own, name(0), name(1), own]
    assert actions(made) == [Action.SHARE, Action.TRANSFER, Action.TRANSFER, Action.TRANSFER, Action.SHARE]
    assert [entry.reference for entry in made.relocations] == [resolution.reference for resolution in found]


def test_two_fields_of_one_object_get_different_names() -> None:
    found = [
        Resolution(ref(0, field=field, repeats=True), media(field)) for field in ("original_videos", "labeled_videos")
    ]
    made = plan(found)
    assert actions(made) == [Action.TRANSFER, Action.TRANSFER]
    assert len(set(paths(made))) == 2


# ---------------------------------------------------------------------- object ids


@pytest.mark.parametrize(
    "object_id", ["", "x", "../../../etc/passwd", "..", "a/b", "a\\b", A + "\n", A[:-1], A + A, "\0" * 36]
)
def test_invalid_object_id_is_a_problem(object_id: str) -> None:
    error = refusal([Resolution(ref(1, object_id, object_path="/acquisition/video"), media())])
    assert isinstance(error, UnsafeReferenceError)
    assert "not a UUID" in str(error)
    assert "\0" not in str(error)
    assert error.object_path == "/acquisition/video"


def test_missing_object_id_is_a_problem() -> None:
    """Objects of old files get a name derived from their path: the same in every run, different for each."""
    found = [
        Resolution(ref(0, None, object_path=path), media(path))
        for path in ("/acquisition/video", "/acquisition/video2")
    ]
    once, again = plan(found), plan(found)
    assert paths(once) == paths(again)
    assert len({text.split("_")[0] for text in paths(once)}) == 2


def test_same_object_id_and_different_videos() -> None:
    found = [
        Resolution(ref(0, A, object_path="/acquisition/one"), media("a.avi")),
        Resolution(ref(0, A, object_path="/processing/two"), media("b.avi")),
    ]
    error = refusal(found)
    assert isinstance(error, UnsafeReferenceError)
    assert "/acquisition/one" in str(error)
    assert "/processing/two" in str(error)
    assert "generate_new_id" in str(error)


def test_same_object_id_different_suffixes_get_different_names() -> None:
    found = [
        Resolution(ref(0, A, object_path="/acquisition/one"), media("a.avi")),
        Resolution(ref(0, A, object_path="/processing/two"), media("b.mov")),
    ]
    assert paths(plan(found)) == [name(0), name(0, suffix=".mov")]


@pytest.mark.parametrize("mode", TRANSFERRING)
@pytest.mark.parametrize("state", [TargetState.ABSENT, TargetState.SAME])
def test_same_object_id_and_same_video(mode: MediaMode, state: TargetState) -> None:
    found = [
        Resolution(ref(0, A, object_path="/acquisition/one"), media()),
        Resolution(ref(0, A, object_path="/processing/two"), media()),
    ]
    made = plan(found, mode, states={name(0): state})
    assert paths(made) == [name(0), name(0)]
    assert actions(made)[1] is Action.SHARE


def test_same_object_id_same_video_occupied_target() -> None:
    """The error names the one problem, and no other."""
    found = [
        Resolution(ref(0, A, object_path="/acquisition/one"), media()),
        Resolution(ref(0, A, object_path="/processing/two"), media()),
    ]
    error = refusal(found, states={name(0): TargetState.OTHER})
    assert {type(problem) for problem in error.problems} == {MediaExistsError}


def test_folder_at_target_is_never_replaced() -> None:
    """The plan decides this without the disk: none of it exists."""
    found = [Resolution(ref(0, A), media())]
    error = refusal(found, states={name(0): TargetState.FOLDER}, existing="replace")
    assert isinstance(error, MediaExistsError)
    assert "replace it" not in str(error)


def test_naming_that_gives_two_videos_one_name() -> None:
    """The error does not blame the object_ids, whether of two objects or of one."""
    for key in (A, B):
        found = [Resolution(ref(0, A), media("a.avi")), Resolution(ref(1, key), media("b.avi"))]
        error = refusal(found, naming=lambda **_: PurePosixPath("video.avi"), states={"video.avi": TargetState.ABSENT})
        assert isinstance(error, UnsafeReferenceError)
        assert "correct your naming function" in str(error)
        assert "object_id" not in str(error)


def test_names_differing_only_in_case() -> None:
    """Two files on Linux, one on Windows and macOS."""
    found = [Resolution(ref(0, A), media("a.avi")), Resolution(ref(0, A.upper()), media("b.avi"))]
    assert isinstance(refusal(found), UnsafeReferenceError)


# --------------------------------------------------------------------------- targets


@pytest.mark.parametrize("mode", TRANSFERRING)
@pytest.mark.parametrize("existing", ["error", "replace"])
def test_target_with_same_content_is_reused(mode: MediaMode, existing: str) -> None:
    (entry,) = plan(
        [Resolution(ref(), media())], mode, states={name(0): TargetState.SAME}, existing=existing, free=0
    ).relocations
    assert (entry.action, entry.new_path, entry.replaces) == (Action.REUSE, name(0), False)


@pytest.mark.parametrize("mode", TRANSFERRING)
def test_target_with_other_content_is_refused(mode: MediaMode) -> None:
    found = [Resolution(ref(), media())]
    error = refusal(found, mode, states={name(0): TargetState.OTHER})
    assert isinstance(error, MediaExistsError)
    assert isinstance(error, FileExistsError)
    assert 'existing="replace"' in str(error)
    assert str(OUT.parent / name(0)) in str(error)
    (entry,) = plan(found, mode, states={name(0): TargetState.OTHER}, existing="replace").relocations
    assert (entry.action, entry.replaces) == (Action.TRANSFER, True)


@pytest.mark.parametrize("mode", [MediaMode.COPY, MediaMode.MOVE, MediaMode.HARDLINK])
def test_symlink_at_target_is_replaced(mode: MediaMode) -> None:
    (entry,) = plan([Resolution(ref(), media())], mode, states={name(0): TargetState.LINK}).relocations
    assert (entry.action, entry.replaces) == (Action.TRANSFER, True)


def test_custom_media_folder() -> None:
    error = refusal([Resolution(ref(), media())], outside=[name(0)], existing="replace")
    assert isinstance(error, UnsafeReferenceError)
    assert "symbolic link or a file" in str(error)


def test_hardlink_across_file_systems_is_refused() -> None:
    found = [Resolution(ref(0), media("a.avi")), Resolution(ref(1), media("b.avi", device=2))]
    error = refusal(found, MediaMode.HARDLINK, device=1)
    assert isinstance(error, RelocationRefusedError)
    assert error.index == 1
    assert "another file system" in str(error)
    for mode in (MediaMode.COPY, MediaMode.MOVE, MediaMode.SYMLINK, MediaMode.REFERENCE):
        plan(found, mode, device=1)


def test_hardlink_probe_overrides_device_numbers() -> None:
    """As on an overlay, where a test link worked."""
    found = [Resolution(ref(), media(device=2, size=10))]
    plan(found, MediaMode.HARDLINK, device=1, linkable=frozenset({2}))
    assert plan(found, MediaMode.MOVE, device=1, linkable=frozenset({2})).copied_bytes == 0
    assert plan(found, MediaMode.MOVE, device=1, linkable=frozenset({3})).copied_bytes == 10


@pytest.mark.parametrize("mode", [MediaMode.SYMLINK, MediaMode.HARDLINK])
def test_file_system_without_links_is_refused(mode: MediaMode) -> None:
    """One problem for all files. It names the modes that work."""
    found = [Resolution(ref(n), media(f"{n}.avi", inode=n + 1)) for n in range(3)]
    error = refusal(found, mode, device=1, cannot=frozenset({MediaMode.SYMLINK, MediaMode.HARDLINK}))
    assert len(error.problems) == 1
    assert "neither symbolic nor hard links" in str(error)
    assert "use media_mode 'copy', 'move' or 'reference'" in str(error)
    error = refusal(found, mode, device=1, cannot=frozenset({mode}))
    assert f"no {'symbolic' if mode is MediaMode.SYMLINK else 'hard'} links" in str(error)
    there = {name(n): TargetState.SAME for n in range(3)}
    plan(found, mode, device=1, cannot=frozenset({mode}), states=there)


def test_hardlink_across_file_systems_with_target_present() -> None:
    """A target that exists with the same content is reused: no link is needed."""
    found = [Resolution(ref(), media(device=2))]
    made = plan(found, MediaMode.HARDLINK, device=1, states={name(0): TargetState.SAME})
    assert actions(made) == [Action.REUSE]


def test_too_long_target_paths() -> None:
    """As on Windows without long paths. The error lists all paths that are too long, before anything is changed."""
    found = [Resolution(ref(index=0), media(inode=1)), Resolution(ref(index=10), media(inode=2))]
    length = len(str(OUT.parent / name(0)))
    error = refusal(found, longest=length)
    assert isinstance(error, RelocationRefusedError)
    assert error.index == 10
    assert f"has {length + 1} characters, and this system allows {length}" in str(error)
    assert actions(plan(found, longest=length + 1)) == [Action.TRANSFER] * 2
    assert actions(plan(found, MediaMode.REFERENCE, longest=1)) == [Action.REWRITE_PATH] * 2


def test_too_long_temporary_paths() -> None:
    """A path that is needed on the way may be longer than those at the end."""
    found = [Resolution(ref(), media())]
    naming = {"naming": lambda **_: PurePosixPath("a.avi")}
    for mode, states, needed in (
        (MediaMode.COPY, {}, ".nwb-extfiles-01234567/whole-0123456789abcdef"),
        (MediaMode.COPY, {"a.avi": TargetState.OTHER}, ".nwb-extfiles-01234567/whole-0123456789abcdef"),
    ):
        length = len(str(OUT.parent / needed))
        options = {**naming, "states": states, "existing": "replace"}
        assert "a temporary path" in str(refusal(found, mode, longest=length - 1, **options))
        plan(found, mode, longest=length, **options)


@pytest.mark.parametrize("mode", [MediaMode.COPY, MediaMode.MOVE])
def test_media_that_another_program_has_open_are_refused(mode: MediaMode) -> None:
    """Each is named: the video that is read or moved, and the target that would be replaced."""
    found = [Resolution(ref(n), media(f"{n}.avi", inode=n + 1)) for n in range(3)]
    in_use = frozenset({found[0].file.real, OUT.parent / name(1)})  # type: ignore[union-attr]
    error = refusal(found, mode, in_use=in_use, states={name(1): TargetState.OTHER}, existing="replace")
    assert [problem.index for problem in error.problems] == [0, 1]
    assert str(error).count("another program has") == 2


def test_links_without_the_privilege_are_refused_once() -> None:
    found = [Resolution(ref(n), media(f"{n}.avi", inode=n + 1)) for n in range(3)]
    error = refusal(found, MediaMode.SYMLINK, lacks_privilege=True)
    assert len(error.problems) == 1
    assert "developer mode" in str(error)
    there = {name(n): TargetState.SAME for n in range(3)}
    plan(found, MediaMode.SYMLINK, lacks_privilege=True, states=there)


# ------------------------------------------------------------------------------ room


@pytest.mark.parametrize(
    ("mode", "device", "needed"),
    [
        (MediaMode.COPY, 1, 30),
        (MediaMode.COPY, 2, 30),
        (MediaMode.MOVE, 1, 0),
        (MediaMode.MOVE, 2, 30),
        (MediaMode.HARDLINK, 1, 0),
        (MediaMode.SYMLINK, 2, 0),
        (MediaMode.REFERENCE, 2, 0),
    ],
)
def test_not_enough_space_is_refused(mode: MediaMode, device: int, needed: int) -> None:
    found = [Resolution(ref(n), media(f"{n}.avi", size=size, device=device)) for n, size in enumerate((10, 20))] + [
        Resolution(ref(2), media("0.avi", size=10, device=device))
    ]
    plan(found, mode, free=needed, device=1)
    if needed:
        error = refusal(found, mode, free=needed - 1, device=1)
        assert isinstance(error, RelocationRefusedError)
        assert "30 bytes" in str(error)
        assert "29 are free" in str(error)
        assert error.nwb_path == str(OUT)
    plan(found, mode, free=None, device=1)


def test_present_targets_need_no_space() -> None:
    found = [Resolution(ref(n), media(f"{n}.avi")) for n in (0, 1)]
    plan(found, free=10, states={name(0): TargetState.SAME})
    assert isinstance(refusal(found, free=9, states={name(0): TargetState.SAME}), RelocationRefusedError)


# --------------------------------------------------------------------------- missing


def test_missing_is_an_error() -> None:
    error = refusal([Resolution(ref(0), media()), missing(1)])
    assert isinstance(error, MissingMediaError)
    assert error.index == 1


@pytest.mark.parametrize("mode", list(MediaMode))
def test_missing_is_kept(mode: MediaMode) -> None:
    made = plan([Resolution(ref(0), media()), missing(1), url(2)], mode, missing="keep")
    assert paths(made)[1:] == ["text1", "https://example.org/2"]
    assert actions(made)[1:] == [Action.KEEP, Action.KEEP]
    (warning,) = made.warnings
    assert "text1" in warning
    assert "external_file[1]" in warning


def test_only_the_missing_are_kept() -> None:
    """Ambiguous or unsafe paths stay errors."""
    reference = ref()
    error = refusal([Resolution(reference, problem=UnsafeReferenceError("a pipe"))], missing="keep")
    assert isinstance(error, UnsafeReferenceError)


# -------------------------------------------------------------------- many at a time


def test_all_problems_at_once() -> None:
    known = RelocationRefusedError("known before")
    found = [
        missing(0),
        Resolution(ref(1, "another"), media("a.avi")),
        Resolution(ref(2), media("b.avi")),
        Resolution(ref(3), media("c.avi")),
        Resolution(ref(4), media("d.avi", size=1000)),
        Resolution(ref(0, "no uuid"), media("e.avi")),
        Resolution(ref(0, B, object_path="/one"), media("f.avi")),
        Resolution(ref(0, B, object_path="/two"), media("g.avi")),
        missing(5),
    ]
    error = refusal(
        found, states={name(2): TargetState.OTHER}, outside=[name(3)], free=5, problems=[known], existing="error"
    )
    assert isinstance(error, PlanError)
    assert isinstance(error, ValueError)
    kinds = sorted(type(problem).__name__ for problem in error.problems)
    assert kinds == sorted(
        ["MissingMediaError"] * 2 + ["MediaExistsError"] + ["UnsafeReferenceError"] * 4 + ["RelocationRefusedError"] * 2
    )
    assert known in error.problems
    for problem in error.problems:
        assert problem.what in str(error)
        assert problem.hint is None or str(problem.hint) in str(error)


def test_many_problems_of_one_kind_are_counted() -> None:
    error = refusal([missing(index) for index in range(100)])
    assert type(error) is MissingMediaError
    assert [problem.index for problem in error.problems] == list(range(100))


# ------------------------------------------------------------------- names of NWB files


@pytest.mark.parametrize(
    ("file_name", "stem"),
    [
        ("x.nwb", "x"),
        ("x.nwb.zarr", "x"),
        ("a.b.nwb", "a.b"),
        ("a.b.nwb.zarr", "a.b"),
        ("x.zarr", "x"),
        ("a.b.zarr", "a.b"),
        ("x.h5", "x"),
        ("sub-a_ses-b_image+behavior.nwb", "sub-a_ses-b_image+behavior"),
        ("a b.nwb", "a b"),
        ("ümläut.nwb", "ümläut"),
        ("x.nwb.nwb", "x.nwb"),
    ],
)
def test_nwb_stem_names_media_folder(file_name: str, stem: str) -> None:
    assert nwb_stem(Path("/out", file_name)) == stem
    made = plan([Resolution(ref(), media())], nwb_path=Path("/out", file_name))
    assert paths(made) == [f"{stem}/{A}_external_file_0.avi"]


def test_nwb_file_without_suffix_is_refused() -> None:
    error = refusal([Resolution(ref(), media())], nwb_path=Path("/out/x"))
    assert isinstance(error, UnsafeReferenceError)
    assert ".nwb" in str(error)


@pytest.mark.parametrize("file_name", [".nwb", "..nwb", "...nwb", ".nwb.zarr"])
def test_nwb_names_that_are_only_suffix(file_name: str) -> None:
    """Whatever the result, it does not leave the folder of the NWB file."""
    try:
        made = plan([Resolution(ref(), media())], nwb_path=Path("/out", file_name))
    except UnsafeReferenceError:
        return
    (text,) = paths(made)
    assert ".." not in PurePosixPath(text).parts
    assert not PurePosixPath(text).is_absolute()


# ---------------------------------------------------------------------- custom naming


class Named:
    """A naming that always returns the same path."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def __call__(self, **kwargs: Any) -> Any:
        self.asked.append(kwargs)
        return self.answer


def test_custom_naming() -> None:
    naming = Named(PurePosixPath("media/ümläut video.avi"))
    made = plan([Resolution(ref(4), media("A.AVI"))], naming=naming)
    assert paths(made) == ["media/ümläut video.avi"]
    assert naming.asked == [dict(nwb_stem="x", object_id=A, field="external_file", index=4, suffix=".avi")]


def test_custom_naming_may_return_str() -> None:
    assert paths(plan([Resolution(ref(), media())], naming=Named("./media//a.avi"))) == ["media/a.avi"]


@pytest.mark.parametrize(
    "answer",
    [
        "/etc/passwd",
        "//etc/passwd",
        "..",
        "../a.avi",
        "a/../../b.avi",
        "a/../b.avi",
        ".",
        "",
        "a\\b.avi",
        "..\\a.avi",
        "a\0.avi",
        "x.nwb",
        "x.nwb/a.avi",
        "./x.nwb",
        "media/" + "x" * 252 + ".avi",  # no way out, but no file system takes it
    ],
)
def test_custom_naming_outside_folder_is_refused(answer: str) -> None:
    error = refusal([Resolution(ref(), media())], naming=Named(answer))
    assert isinstance(error, UnsafeReferenceError)
    assert "\0" not in str(error)


@pytest.mark.parametrize("answer", ["C:/Windows/a.avi", "C:a.avi"])
def test_custom_naming_outside_folder_on_windows_is_refused(answer: str) -> None:
    assert isinstance(refusal([Resolution(ref(), media())], naming=Named(answer)), UnsafeReferenceError)


def test_custom_naming_without_index() -> None:
    """Two videos, one name: refused, not overwritten."""
    found = [Resolution(ref(0), media("a.avi")), Resolution(ref(1), media("b.avi"))]
    assert isinstance(refusal(found, naming=Named("media/a.avi")), UnsafeReferenceError)


def test_custom_naming_with_file_as_parent_folder() -> None:
    """One video at `a` and another at `a/b.avi` is impossible, and is refused before anything is done."""
    answers = iter(["media/a", "media/a/b.avi"])
    found = [Resolution(ref(0), media("a.avi")), Resolution(ref(1), media("b.avi"))]
    assert isinstance(refusal(found, naming=lambda **kwargs: PurePosixPath(next(answers))), ExternalFilesError)


# ---------------------------------------------------------------- a look at the disk


def file_at(path: Path, content: bytes = b"video") -> MediaFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    status = path.stat()
    return MediaFile(path, path, status.st_size, (status.st_dev, status.st_ino))


def surveyed(tmp_path: Path, mode: MediaMode = MediaMode.COPY, source: MediaFile | None = None) -> Destination:
    """What the survey finds at the only target of a plan for `out/x.nwb`."""
    source = source or file_at(tmp_path / "videos" / "a.avi")
    nwb_path = tmp_path / "out" / "x.nwb"
    named, problems = name_targets([Resolution(ref(), source)], MediaOptions(), nwb_path=nwb_path, identifier="id0")
    assert not problems
    before = tree(tmp_path)
    found = survey(named, nwb_path, mode)
    assert tree(tmp_path) == before
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The target of the video of `surveyed`. Its folder exists."""
    path = tmp_path / "out" / name(0)
    path.parent.mkdir(parents=True)
    return path


def state(tmp_path: Path, mode: MediaMode = MediaMode.COPY, source: MediaFile | None = None) -> TargetState:
    found = surveyed(tmp_path, mode, source)
    assert found.outside == frozenset()
    return found.targets[PurePosixPath(name(0))]


@pytest.mark.parametrize("mode", TRANSFERRING)
def test_survey_of_no_references(tmp_path: Path, mode: MediaMode) -> None:
    """Neither the folder nor its parent exists yet."""
    found = surveyed(tmp_path, mode)
    assert list(found.targets.values()) == [TargetState.ABSENT]
    assert found.devices == {tmp_path.stat().st_dev}
    assert found.free is None or found.free > 0


def test_survey_for_references(tmp_path: Path) -> None:
    found = surveyed(tmp_path, MediaMode.REFERENCE)
    assert not found.targets
    assert found.free is None


@pytest.mark.parametrize("mode", TRANSFERRING)
def test_survey_same_content(tmp_path: Path, place: Path, mode: MediaMode) -> None:
    place.write_bytes(b"video")
    assert state(tmp_path, mode) is TargetState.SAME


@pytest.mark.parametrize("mode", TRANSFERRING)
@pytest.mark.parametrize("content", [b"", b"VIDEO", b"video\0", b"vide"])
def test_survey_other_content(tmp_path: Path, place: Path, mode: MediaMode, content: bytes) -> None:
    place.write_bytes(content)
    assert state(tmp_path, mode) is TargetState.OTHER


@pytest.mark.parametrize("mode", TRANSFERRING)
def test_survey_source_is_target(tmp_path: Path, place: Path, mode: MediaMode) -> None:
    assert state(tmp_path, mode, file_at(place)) is TargetState.SAME


@pytest.mark.parametrize("mode", TRANSFERRING)
def test_survey_link_to_source(tmp_path: Path, place: Path, mode: MediaMode) -> None:
    source = file_at(tmp_path / "videos" / "a.avi")
    place.symlink_to(os.path.relpath(source.path, place.parent))
    expected = TargetState.SAME if mode is MediaMode.SYMLINK else TargetState.LINK
    assert state(tmp_path, mode, source) is expected


@pytest.mark.parametrize("mode", TRANSFERRING)
@pytest.mark.parametrize("kind", ["other", "dangling", "loop", "folder", "link to folder"])
def test_survey_occupied_target(tmp_path: Path, place: Path, mode: MediaMode, kind: str) -> None:
    (tmp_path / "other").write_bytes(b"other")
    if kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(
            {"other": tmp_path / "other", "dangling": "gone", "loop": place, "link to folder": tmp_path}[kind]
        )
    expected = {"dangling": TargetState.BROKEN, "folder": TargetState.FOLDER, "link to folder": TargetState.FOLDER}
    assert state(tmp_path, mode) is expected.get(kind, TargetState.OTHER)


@pytest.mark.parametrize("kind", ["link", "dangling", "file", "loop"])
def test_survey_media_folder_is_not_a_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "out").mkdir()
    folder = tmp_path / "out" / "x"
    if kind == "file":
        folder.write_bytes(b"")
    else:
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to({"link": tmp_path / "elsewhere", "dangling": "gone", "loop": folder}[kind])
    assert surveyed(tmp_path).outside == {PurePosixPath(name(0))}


def test_folder_at_target_survives_replace(tmp_path: Path, place: Path) -> None:
    place.mkdir()
    source = file_at(tmp_path / "videos" / "a.avi")
    options = MediaOptions(existing="replace")
    nwb_path = tmp_path / "out" / "x.nwb"
    named, _ = name_targets([Resolution(ref(), source)], options, nwb_path=nwb_path, identifier="id0")
    with pytest.raises(MediaExistsError, match="move it away"):
        make_plan(named, survey(named, nwb_path, MediaMode.COPY), options, MediaMode.COPY)


# ------------------------------------------------------------------- down to the disk


@pytest.mark.parametrize("mode", ["hardlink", "copy", "move"])
def test_move_of_media_in_place_removes_nothing(tmp_path: Path, mode: str) -> None:
    """One video with two names in a media folder is moved to its own place."""
    video = file_at(tmp_path / "a.avi").path
    source = write_nwb(tmp_path / "in.nwb", ["a.avi", "a.avi"])
    target = tmp_path / "out" / "x.nwb"
    expected = digest(video)

    def export(source: Path, target: Path, **kwargs: Any) -> None:
        with NWBHDF5IO(source, "r") as src_io, NWBExtFilesHDF5IO(target, "w") as io:
            io.export(src_io=src_io, **kwargs)

    if mode == "move":
        with pytest.warns(ExternalFilesWarning, match="stays behind"):
            export(source, target, relocate_media=True, media_mode=mode)
    else:
        export(source, target, relocate_media=True, media_mode=mode)
    again = tmp_path / "out" / "y.nwb"
    shutil.copy(target, again)
    with pytest.warns(ExternalFilesWarning):
        export(again, target, relocate_media=True, media_mode="move")
    assert [digest(target.parent / text) for text in stored_paths(target)] == [expected, expected]

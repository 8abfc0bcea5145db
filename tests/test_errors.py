"""The exceptions: each is also a fitting built-in exception, and says where the problem is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import image_series, new_nwbfile, write_nwb
from pynwb import NWBHDF5IO

from nwb_extfiles import NWBExtFilesHDF5IO, errors, organize, relocate
from nwb_extfiles.errors import (
    AmbiguousMediaError,
    ConfigurationError,
    DestinationBusyError,
    ExternalFilesError,
    ExternalFilesWarning,
    MediaExistsError,
    MissingMediaError,
    NoSuchFileError,
    PlanError,
    RelocationRefusedError,
    TransferError,
    UnreadableFileError,
    UnsafeReferenceError,
    combine,
    warn_all,
)
from nwb_extfiles.hints import Hint, Message
from nwb_extfiles.tasks.relocating import relocate_files

KINDS: list[tuple[type[ExternalFilesError], type[Exception]]] = [
    (MissingMediaError, FileNotFoundError),
    (MediaExistsError, FileExistsError),
    (AmbiguousMediaError, ValueError),
    (UnsafeReferenceError, ValueError),
    (RelocationRefusedError, ValueError),
    (PlanError, ValueError),
    (ConfigurationError, ValueError),
    (NoSuchFileError, FileNotFoundError),
    (UnreadableFileError, OSError),
    (DestinationBusyError, OSError),
    (TransferError, OSError),
    (ConfigurationError, ValueError),
    (NoSuchFileError, FileNotFoundError),
    (UnreadableFileError, OSError),
]
PLACE = dict(nwb_path="/a/b.nwb", object_path="/acquisition/video", field="external_file", index=3)


@pytest.mark.parametrize(("kind", "builtin"), KINDS)
def test_each_error_is_a_fitting_builtin(kind: type[ExternalFilesError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin) as info:
        raise kind("no such video", **PLACE)
    assert isinstance(info.value, ExternalFilesError)
    assert str(info.value) == "no such video"


def test_every_error_is_in_the_tree_and_exported() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {cls for cls, _ in KINDS} == {
        cls for cls in classes if issubclass(cls, ExternalFilesError) and cls is not ExternalFilesError
    }
    assert {cls.__name__ for cls in classes} <= set(errors.__all__)
    assert issubclass(ExternalFilesWarning, UserWarning)
    assert not issubclass(ExternalFilesWarning, ExternalFilesError)


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS] + [ExternalFilesError])
def test_error_fields(kind: type[ExternalFilesError]) -> None:
    error = kind("text", **PLACE)
    assert {name: getattr(error, name) for name in PLACE} == PLACE
    assert error.problems == (error,)
    bare = kind("text")
    assert (bare.nwb_path, bare.object_path, bare.field, bare.index) == (None, None, None, None)
    assert bare.problems == (bare,)


def test_error_fields_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        MissingMediaError("text", "/a/b.nwb")  # type: ignore[misc]


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS] + [ExternalFilesError])
@pytest.mark.parametrize("through", ["pickle", "copy", "deepcopy"])
def test_errors_survive_pickle(kind: type[ExternalFilesError], through: str) -> None:
    """Worker processes send their exceptions back by pickle."""
    error = kind("text with ümläut", **PLACE)
    again = {"pickle": lambda e: pickle.loads(pickle.dumps(e)), "copy": copy.copy, "deepcopy": copy.deepcopy}[through](
        error
    )
    assert type(again) is kind
    assert str(again) == str(error)
    assert {name: getattr(again, name) for name in PLACE} == PLACE
    assert again.problems == (again,)


def test_pickle_keeps_problems() -> None:
    error = combine([MissingMediaError("one", **PLACE), UnsafeReferenceError("two")])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is PlanError
    assert [(type(problem), str(problem)) for problem in again.problems] == [
        (MissingMediaError, "one"),
        (UnsafeReferenceError, "two"),
    ]
    assert again.problems[0].index == 3


def test_pickle_keeps_notes() -> None:
    """Notes say what could not be restored. A pool of processes must not lose them."""
    error = TransferError("no room")
    error.add_note("the former content is at /a/former")
    assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__


def test_combine_one() -> None:
    only = MissingMediaError("one")
    assert combine([only]) is only


def test_combine_same_kind() -> None:
    problems = [MissingMediaError(f"video {n} is not there", nwb_path="/a.nwb", index=n) for n in range(12)]
    error = combine(problems)
    assert type(error) is MissingMediaError
    assert isinstance(error, FileNotFoundError)
    assert error.problems == tuple(problems)
    assert error.nwb_path == "/a.nwb"
    assert error.index is None
    assert str(error).splitlines() == [
        "12 problems; nothing was changed:",
        *(f"  {n + 1}. video {n} is not there" for n in range(5)),
        "  … and 7 more of this kind; `problems` of this error has all",
    ]
    assert error.command_line.endswith("  … and 7 more of this kind; --json prints all")
    assert "6. video 5 is not there" in str(combine(problems[:6]))


def test_many_problems_of_one_kind_are_shortened() -> None:
    """Names, numbers and paths do not count, also with spaces and quotes in them."""
    files = [f"/data/subject {n}/it's {n}.nwb" for n in range(1500)]
    lost = [MissingMediaError(f"{path}: ImageSeries {path!r}: no file for 'v {n}.avi'") for n, path in enumerate(files)]
    other = RelocationRefusedError("/data/b.nwb is not writable")
    lines = str(combine([*lost[:700], other, *lost[700:]])).splitlines()
    assert lines[0] == "1,501 problems; nothing was changed:"
    assert lines[-2:] == [
        "  … and 1,495 more of this kind; `problems` of this error has all",
        "  1501. /data/b.nwb is not writable",
    ]
    assert len(lines) == 8


def test_problems_are_numbered_as_they_are_listed() -> None:
    lost = [MissingMediaError(f"/data/{n}.nwb: no file for 'v.avi'") for n in (1, 2)]
    lines = str(combine([lost[0], RelocationRefusedError("/data/b.nwb is not writable"), lost[1]])).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["1.", "/data/1.nwb:"],
        ["2.", "/data/2.nwb:"],
        ["3.", "/data/b.nwb"],
    ]


@pytest.mark.parametrize("count", [2, 12])
def test_hint_of_many_problems_of_one_kind_is_said_once(count: int) -> None:
    hint = Hint("name its folder with {search}")
    lost = [MissingMediaError(f"/data/{n}.nwb: no file for 'v.avi'", hint=hint) for n in range(count)]
    error = combine([*lost, RelocationRefusedError("/data/b.nwb is not writable", hint="make it so")])
    assert str(error).count("name its folder with `search`") == 1
    *_, of_all, last = error.command_line.splitlines()
    assert of_all == f"  hint for 1 to {count}: name its folder with --search FOLDER"
    assert str(combine(lost)).endswith(f"\n  hint: {hint}")
    assert last == f"  {count + 1}. /data/b.nwb is not writable; make it so"
    assert [problem.command_line for problem in error.problems[:count]] == [
        f"/data/{n}.nwb: no file for 'v.avi'; name its folder with --search FOLDER" for n in range(count)
    ]


def test_different_hints_stay_with_their_problems() -> None:
    lost = [MissingMediaError(f"/data/{n}.nwb: no file", hint=f"git annex get {n}.avi") for n in (1, 2)]
    assert str(combine(lost)).splitlines()[1:] == [f"  {n}. {problem}" for n, problem in enumerate(lost, start=1)]


def test_problem_is_one_line_whatever_the_name_of_its_file() -> None:
    both = combine([MissingMediaError("/data/a\nb.nwb: lost"), MissingMediaError("/data/c.nwb: lost")])
    assert str(both).splitlines()[1:] == ["  1. /data/a\\nb.nwb: lost", "  2. /data/c.nwb: lost"]


def test_warnings_that_say_the_same_are_one() -> None:
    hint = Hint("name its folder with {search}")
    few = [f"/data/{n}.nwb: 'A{n}.AVI' gets the suffix .avi" for n in range(5)]
    with pytest.warns(ExternalFilesWarning) as caught:
        warn_all([*(Message(f"C:\\my data\\{n}.nwb: no file for '{n}.avi'", hint) for n in range(40)), *few])
    first, *others = [warning.message.args[0] for warning in caught]
    assert others == few
    assert first.startswith(
        "C:\\my data\\0.nwb: no file for '0.avi' (40 such warnings, of which this is the first); name"
    )
    assert first.command_line.endswith("name its folder with --search FOLDER")


def test_combine_mixed_kinds() -> None:
    problems = [MissingMediaError("one", nwb_path="/a.nwb"), MediaExistsError("two", nwb_path="/b.nwb")]
    error = combine(problems)
    assert type(error) is PlanError
    assert isinstance(error, ValueError)
    assert error.problems == tuple(problems)
    assert error.nwb_path is None
    assert "one" in str(error)
    assert "two" in str(error)


def test_path_alone_is_not_a_message() -> None:
    """An OSError with one argument has no errno, and shows its message."""
    assert str(MissingMediaError(str(Path("/a")))) == "/a"


def _write(folder: Path, **options: Any) -> None:
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(image_series(["gone.avi"]))
    with NWBExtFilesHDF5IO(folder / "new.nwb", "w") as io:
        io.write(nwbfile, relocate_media=True, **options)


def _export(folder: Path, **options: Any) -> None:
    source = NWBHDF5IO(folder / "old.nwb", "r")
    with source, NWBExtFilesHDF5IO(folder / "new.nwb", "w") as io:
        io.export(src_io=source, relocate_media=True, **options)


def _relocate(folder: Path, **options: Any) -> None:
    relocate(folder / "old.nwb", **options)


def _relocate_files(folder: Path, **options: Any) -> None:
    relocate_files([folder / "old.nwb"], **options)


def _organize(folder: Path, **options: Any) -> None:
    organize([folder / "old.nwb"], folder / "dandiset", **options)


@pytest.mark.parametrize("call", [_write, _export, _relocate, _relocate_files, _organize])
def test_warnings_point_at_the_line_that_calls(tmp_path: Path, call: Callable[..., None]) -> None:
    write_nwb(tmp_path / "old.nwb", ["gone.avi"])
    with pytest.warns(ExternalFilesWarning) as caught:
        call(tmp_path, media_options={"missing": "keep"})
    assert {warning.filename for warning in caught} == {__file__}


def test_hint_is_part_of_the_message() -> None:
    error = MissingMediaError("no file for 'a.avi'", hint="put it there", **PLACE)
    assert str(error) == error.message == "no file for 'a.avi'; put it there"
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (str(again), again.hint, again.index) == (str(error), error.hint, 3)
    assert MissingMediaError("no file").hint is None
    assert [problem.hint for problem in combine([error, UnsafeReferenceError("two")]).problems] == [error.hint, None]

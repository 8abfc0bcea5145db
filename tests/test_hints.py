"""What to do, spelled for Python and for the command line."""

from __future__ import annotations

import copy
import pickle
import shlex

import pytest

from nwb_extfiles.errors import ExternalFilesWarning, MissingMediaError, UnsafeReferenceError, combine, warn
from nwb_extfiles.hints import SETTINGS, Hint, Message, for_command_line, for_objects, media_modes

BRACES = "/data/{search}/a b.avi"


def test_both_spellings() -> None:
    hint = Hint(
        "name the folder of {path} with {search}, or use {modes}", path=BRACES, modes=media_modes("copy", "move")
    )
    assert hint == f"name the folder of {BRACES} with `search` in media_options, or use media_mode 'copy' or 'move'"
    assert hint.command_line == f"name the folder of {BRACES} with --search FOLDER, or use --media-mode copy or move"


def test_every_setting_differs_between_python_and_the_command_line() -> None:
    for spelling in SETTINGS.values():
        assert spelling.command_line.startswith("--")
        assert "--" not in spelling.python


@pytest.mark.parametrize("again", [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy])
def test_an_error_keeps_both_spellings(again: object) -> None:
    assert callable(again)
    hint = Hint("keep the path {path} with {missing_keep}", path=BRACES)
    error = again(MissingMediaError("a.nwb: gone", hint=hint, nwb_path="a.nwb"))
    assert str(error) == f'a.nwb: gone; keep the path {BRACES} with missing="keep"'
    assert for_command_line(error) == f"a.nwb: gone; keep the path {BRACES} with --missing keep"
    assert (error.what, error.hint, error.nwb_path) == ("a.nwb: gone", hint, "a.nwb")


def test_several_problems_in_one_error() -> None:
    first = MissingMediaError("a", hint=Hint("keep it with {missing_keep}"))
    both = combine([first, UnsafeReferenceError("b")])
    assert str(both) == '2 problems; nothing was changed:\n  1. a; keep it with missing="keep"\n  2. b'
    assert for_command_line(both) == "2 problems; nothing was changed:\n  1. a; keep it with --missing keep\n  2. b"
    assert for_command_line(pickle.loads(pickle.dumps(both))) == for_command_line(both)


def test_a_warning_keeps_both_spellings() -> None:
    with pytest.warns(ExternalFilesWarning) as caught:
        warn("a.nwb: odd", hint=Hint("keep it with {urls_keep}"))
    assert str(caught[0].message) == 'a.nwb: odd; keep it with urls="keep" in media_options'
    assert for_command_line(caught[0].message) == "a.nwb: odd; keep it with --urls keep"
    assert pickle.loads(pickle.dumps(Message("a", Hint("b")))).hint == "b"


def test_settings_for_objects_can_be_pasted_into_a_shell() -> None:
    spelling = for_objects("path_map_for", {"/acquisition/*": {"C:\\v 1": "/data/it's"}})
    assert spelling.python == "path_map_for={'/acquisition/*': {'C:\\\\v 1': \"/data/it's\"}} in media_options"
    assert shlex.split(spelling.command_line) == ["--path-map-for", "/acquisition/*", "C:\\v 1", "/data/it's"]


def test_what_has_one_spelling_is_given_as_it_is() -> None:
    assert for_command_line("plain {search}") == "plain {search}"
    assert for_command_line(OSError(2, "No such file", "a")) == "[Errno 2] No such file: 'a'"

"""What to do, spelled for both kinds of users: those who pass arguments in Python, and those who type options.

A message says what is wrong (`what`) and what to do (`hint`). A hint names a setting in braces, and `SETTINGS` says how
each setting is written in Python and on the command line:

>>> hint = Hint("name its folder with {search}, or keep the path with {missing_keep}")
>>> print(hint)
name its folder with `search` in media_options, or keep the path with missing="keep"
>>> print(hint.command_line)
name its folder with --search FOLDER, or keep the path with --missing keep
"""

from __future__ import annotations

import mimetypes
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "SETTINGS",
    "Hint",
    "Message",
    "Spelling",
    "counted",
    "for_archive",
    "for_command_line",
    "for_objects",
    "media_modes",
    "quoted",
    "shell_word",
]


def counted(number: int, noun: str) -> str:
    """A number of things, in words.

    >>> counted(1, "video"), counted(2_000, "video")
    ('1 video', '2,000 videos')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Spelling:
    """One setting as it is written in Python, and on the command line."""

    python: str
    command_line: str


SETTINGS: Mapping[str, Spelling] = {
    "search": Spelling("`search` in media_options", "--search FOLDER"),
    "path_map": Spelling("`path_map` in media_options", "--path-map OLD=NEW"),
    "search_for": Spelling("`search_for` in media_options", "--search-for OBJECT FOLDER"),
    "path_map_for": Spelling("`path_map_for` in media_options", "--path-map-for OBJECT OLD NEW"),
    "within": Spelling("`within`", "--within"),
    "missing_keep": Spelling('missing="keep"', "--missing keep"),
    "existing_replace": Spelling('existing="replace" in media_options', "--existing replace"),
    "existing_skip": Spelling('existing="skip" in media_options', "--existing skip"),
    "urls_keep": Spelling('urls="keep" in media_options', "--urls keep"),
    "invalid_warn": Spelling('invalid="warn"', "--invalid warn"),
    "files_mode_copy": Spelling('files_mode="copy"', "--files-mode copy"),
    "files_mode_move": Spelling('files_mode="move"', "--files-mode move"),
    "media_mode": Spelling("media_mode", "--media-mode"),
    "update_paths": Spelling("update_external_file_paths=True", "--update-external-file-paths"),
    "require_session_id": Spelling('required_fields=["session_id"]', "--required-field session_id"),
    "dandiset_path": Spelling("dandiset_path", "--dandiset-path"),
    "manifest": Spelling("manifest=True in media_options", "--manifest"),
    "repair": Spelling("repair=True", "--repair"),
    "urls_download": Spelling('urls="download" in media_options', "--urls download"),
    "remux": Spelling('remux="unarchived" in media_options', "--remux"),
    "frames_packets": Spelling('frames="packets"', "--frames packets"),
    "fetch_from": Spelling("`source`", "--from URL"),
    "media_fields": Spelling("media_fields in media_options", "--media-field TYPE FIELD"),
}
"""What a hint may name in braces without giving it as a value."""


class Hint(str):
    """What to do. It is the text for Python; `command_line` is the one for those who type options.

    Parameters
    ----------
    template : str
        A sentence without a full stop, that begins with a verb; names in braces are replaced.
    **values : str or Spelling
        What stands for a name that is not among `SETTINGS`, such as a path.
    """

    __slots__ = ("command_line",)
    command_line: str

    def __new__(cls, template: str, **values: str | Spelling) -> Hint:  # noqa: D102
        named: dict[str, str | Spelling] = {**SETTINGS, **values}
        python = {name: value if isinstance(value, str) else value.python for name, value in named.items()}
        options = {name: value if isinstance(value, str) else value.command_line for name, value in named.items()}
        return _hint(template.format(**python), template.format(**options))

    def __reduce__(self) -> tuple[object, ...]:
        return _hint, (str(self), self.command_line)


def _hint(python: str, command_line: str) -> Hint:
    hint = str.__new__(Hint, python)
    hint.command_line = command_line
    return hint


class Message(str):
    """What is wrong or worth a look, and what to do about it, as one text: ``what; hint``.

    Parameters
    ----------
    what : str
        The file, the object and the entry, what was expected and found.
    hint : str, optional
        What to do.
    """

    __slots__ = ("hint", "what")
    what: str
    hint: str | None

    def __new__(cls, what: str, hint: str | None = None) -> Message:  # noqa: D102
        message = str.__new__(cls, f"{what}; {hint}" if hint else what)
        message.what, message.hint = what, hint
        return message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.what, self.hint)

    @property
    def command_line(self) -> str:
        """The same for those who type options."""
        return f"{self.what}; {for_command_line(self.hint)}" if self.hint else self.what


def for_command_line(message: object) -> str:
    """A message, hint, error or warning for those who type options; what has one spelling only is given as it is."""
    if isinstance(message, Warning) and len(message.args) == 1:
        message = message.args[0]
    return str(getattr(message, "command_line", message))


def media_modes(*modes: str, last: str = " or ") -> Spelling:
    """Name one or several media modes to choose from.

    >>> media_modes("copy", "symlink")
    Spelling(python="media_mode 'copy' or 'symlink'", command_line='--media-mode copy or symlink')
    """
    quoted = [f"'{mode}'" for mode in modes]
    plain = [str(mode) for mode in modes]
    return Spelling(f"media_mode {_listed(quoted, last)}", f"--media-mode {_listed(plain, last)}")


def for_archive(what: str, suffix: str, how: str = "use") -> Hint:
    """What to do with media whose suffix DANDI does not accept; neither images nor sound are remuxed."""
    if (mimetypes.guess_type(f"x{suffix}")[0] or "").startswith(("image/", "audio/")):
        return Hint("convert {what} to a format that DANDI accepts", what=what)
    return Hint(
        "{how} {remux} and {copy} to remux {what} without loss, or convert {what} to a format that DANDI accepts",
        how=how,
        what=what,
        copy=media_modes("copy"),
    )


def quoted(path: object) -> str:
    r"""A path in quotes for a message; of a very long one its beginning.

    Its backslashes are not doubled, as most are of Windows; what does not print is escaped.

    >>> print(quoted(r"D:\videos\a.avi"))
    'D:\videos\a.avi'
    """
    whole = str(path)
    shown = repr(whole[:200] if len(whole) > 300 else whole).replace("\\\\", "\\")
    return f"{shown}… ({len(whole)} characters)" if len(whole) > 300 else shown


def shell_word(word: str) -> str:
    """A word of a command, quoted for the shell of the system where that is needed."""
    if os.name != "nt":
        return shlex.quote(word)
    from subprocess import list2cmdline

    return list2cmdline([word])


def for_objects(setting: str, values: Mapping[str, str | Mapping[str, str]]) -> Spelling:
    """`search_for` or `path_map_for` with its values, which may be pasted as they are in either form.

    >>> for_objects("search_for", {"/acquisition/video": "/data/a b"}).command_line
    "--search-for /acquisition/video '/data/a b'"
    """
    option, words = f"--{setting.replace('_', '-')}", list[str]()
    for pattern, one in values.items():
        for pair in [(one,)] if isinstance(one, str) else one.items():
            words += [option, *map(shell_word, (pattern, *pair))]
    return Spelling(f"{setting}={values!r} in media_options", " ".join(words))


def _listed(words: list[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}{last}{words[-1]}"

"""Which file a stored text means.

Reads the file system, changes nothing. Every place tried is kept, for the error that names them all.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit

from ..disk.annex import holds_pointer, how_to_get, is_annex_pointer
from ..errors import AmbiguousMediaError, ExternalFilesError, MissingMediaError, UnsafeReferenceError
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..web.remote import RemoteFile

__all__ = [
    "MediaFile",
    "Resolution",
    "below_folders",
    "is_absolute",
    "is_url",
    "media_file",
    "resolve",
    "resolve_all",
    "says_which",
    "spellings",
    "unicode_forms",
    "without_file_scheme",
]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.ASCII)
_WINDOWS_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]{2}[^\\/]", re.ASCII)
_LONGEST_TAIL = 32  # parts of a path that are tried below a search folder
_MOST_LISTED = 20  # places that one message names
_MOST_HINTS = 4
_NOT_GOT = "a file of git-annex, whose content is not on this machine"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A regular file on this machine that a reference means."""

    path: Path
    """Absolute; its folder free of symbolic links, its name as it was found (it may itself be a link)."""
    real: Path
    """The file itself, every symbolic link followed."""
    size: int
    """In bytes."""
    identity: tuple[int, int]
    """Device and inode: equal for all names of one file."""

    @property
    def is_link(self) -> bool:
        """Whether the name is a symbolic link, and the file somewhere else."""
        return os.path.normcase(self.path) != os.path.normcase(self.real)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one reference means: a URL, a file, or a problem."""

    reference: ExternalFileReference
    file: MediaFile | None = None
    url: bool = False
    problem: ExternalFilesError | None = None
    """Why there is no file; a `MissingMediaError` if that alone is the matter."""
    remote: RemoteFile | None = None
    """What is behind the URL, where it is to be fetched."""
    suffix: str | None = None
    """The suffix that the media get, where that is not the one of the file."""
    searched: bool = False
    """Whether the file was found in a folder of `search`, by a part of its path alone."""


def is_url(text: str) -> bool:
    """Whether a text is a URL (or ``data:`` URI) that does not name a local file."""
    # to try an expression costs more than all else, so most paths are told by their lack of a colon
    return ":" in text and _SCHEME.match(text) is not None and not text.lower().startswith("file://")


def is_absolute(text: str) -> bool:
    """Whether a text that is no URL is the same wherever its NWB file lies, on this or another platform."""
    return (
        text.lower().startswith("file://")
        or os.path.isabs(text)
        or text.startswith("/")
        or (text[1:2] in (":", "\\") and _WINDOWS_ABSOLUTE.match(text) is not None)
    )


def resolve_all(
    references: Iterable[ExternalFileReference],
    options: MediaOptions,
    *,
    destination: Path,
    known: Mapping[tuple[str, str, int], Resolution] | None = None,
) -> list[Resolution]:
    """Find the files that many references mean, as `resolve` does for one.

    Parameters
    ----------
    references : iterable of ExternalFileReference
        The references.
    options, destination
        As in `resolve`.
    known : mapping, optional
        What is known to be meant, whatever the text says, by `ExternalFileReference.entry`.

    Returns
    -------
    list of Resolution
        One for each reference, in their order.
    """
    known = known or {}
    real_path = cache(os.path.realpath)  # videos are many, their folders few
    return [
        known.get(reference.entry) or resolve(reference, options, destination=destination, real_path=real_path)
        for reference in references
    ]


def resolve(
    reference: ExternalFileReference,
    options: MediaOptions,
    *,
    destination: Path,
    working_folder: Path | None = None,
    real_path: Callable[[str], str] = os.path.realpath,
) -> Resolution:
    """Find the file that a reference means.

    A relative text is relative to the folder of the NWB file that holds it. For a container made in memory it is
    relative to the destination, else to a search folder, else to the working directory.

    Parameters
    ----------
    reference : ExternalFileReference
        The reference; its `base` is None for a container made in memory.
    options : MediaOptions
        Of which `path_map`, `search`, those two for single objects, and `within` are used.
    destination : pathlib.Path
        Folder of the NWB file to be written.
    working_folder : pathlib.Path, optional
        The working directory; asked of the system when it is needed, if not given.
    real_path : callable
        Frees the path of a folder of symbolic links.

    Returns
    -------
    Resolution
        Never raises for what a text says: the problem is in the answer, so that all can be reported at once.
    """
    if is_url(reference.stored_path):
        return Resolution(reference, url=True)
    try:
        return _choose(reference, options, destination, working_folder, real_path)
    except ExternalFilesError as problem:
        return Resolution(reference, problem=problem)


def _choose(
    reference: ExternalFileReference,
    options: MediaOptions,
    destination: Path,
    working_folder: Path | None,
    real_path: Callable[[str], str],
) -> Resolution:
    text = _local_path(reference)
    tried: list[tuple[Path, str]] = []
    found: dict[tuple[int, int], tuple[MediaFile, bool]] = {}
    for form in unicode_forms(text):
        tiers = _tiers(form, reference, options, destination, working_folder)
        found = _look(tiers, real_path, tried if form == text else [])  # the others look alike in a message
        if found:
            break
    if not found:
        raise _not_found(reference, text, tried)
    if len(found) > 1:
        raise _ambiguous(reference, text, [file for file, _ in found.values()])
    ((file, searched),) = found.values()
    _check_within(file, reference, options)
    return Resolution(reference, file=file, searched=searched)


@dataclass(slots=True)
class _Tier:
    """Places of the same rank to look in."""

    places: list[Path]
    final: bool
    """Whether a file found here ends the search."""
    searched: Sequence[Path] = ()
    """The folders of `search` that the places are in."""


def _look(
    tiers: Iterable[_Tier], real_path: Callable[[str], str], tried: list[tuple[Path, str]]
) -> dict[tuple[int, int], tuple[MediaFile, bool]]:
    """The files that are in the places of `_tiers`; those that have none are added to `tried`, with the reason."""
    found: dict[tuple[int, int], tuple[MediaFile, bool]] = {}
    broken: list[str] = []
    for tier in tiers:
        # A link that leads nowhere still tells what the video is called.
        further = (place for link in broken for place in below_folders(link, tier.searched))
        for place in dict.fromkeys((*tier.places, *further)):
            file = media_file(place, real_path)
            if isinstance(file, MediaFile):
                found.setdefault(file.identity, (file, bool(tier.searched)))
                continue
            tried.append((place, file))
            if os.path.islink(place):
                broken.append(os.readlink(place))
        if found and tier.final:
            break
    return found


def _ambiguous(reference: ExternalFileReference, text: str, files: Sequence[MediaFile]) -> AmbiguousMediaError:
    fixes = " or ".join(says_which(reference, text, file.path) for file in files[:_MOST_HINTS])
    places = ", ".join(repr(str(file.path)) for file in files)
    return AmbiguousMediaError(
        f"{reference.where}: {reference.stored_path!r} fits {len(files)} different files: {places}",
        hint=f"say which one is meant with {fixes}",
        **reference.place,
    )


def says_which(reference: ExternalFileReference, text: str, path: Path) -> str:
    """The option that makes a reference mean one file, as it is written in Python."""
    pattern = reference.object_path
    found = {place for place in below_folders(text, [path.parent]) if os.path.lexists(place)}
    if found == {path}:
        return f"search_for={ {pattern: str(path.parent)}!r} in media_options"
    return f"path_map_for={ {pattern: {text: str(path)}}!r} in media_options"


def _local_path(reference: ExternalFileReference) -> str:
    text = reference.stored_path
    if not text.strip():
        raise UnsafeReferenceError(
            f"{reference.where}: the path is empty; expected the path of a media file", **reference.place
        )
    if "\0" in text:
        raise UnsafeReferenceError(
            f"{reference.where}: {_short(text)} holds a NUL character, which no path can", **reference.place
        )
    try:
        return without_file_scheme(text)
    except ValueError as error:
        raise UnsafeReferenceError(f"{reference.where}: {_short(text)} {error}", **reference.place) from error


def without_file_scheme(text: str) -> str:
    """The path that a ``file://`` URL names; other texts as they are.

    Raises
    ------
    ValueError
        If it is none; the message goes on from the URL.
    """
    if not text.lower().startswith("file://"):
        return text
    try:
        parts = urlsplit(text)
    except ValueError as error:  # brackets and the like in the place of the host
        raise ValueError(f"is no file:// URL: {error}") from error
    path = unquote(parts.path, errors="surrogateescape")
    if re.fullmatch(r"[A-Za-z]:", parts.netloc):  # file://C:/x.avi, with a slash too few
        return f"{parts.netloc}{path}"
    if parts.netloc.lower() not in ("", "localhost"):
        # a share of Windows, as pathlib writes it; with backslashes it is no path of another system
        return f"//{parts.netloc}{path}".replace("/", "\\")
    # file:///C:/x.avi is C:/x.avi, on the machine that has drives and on the others, where path_map may know it
    return path[1:] if re.match(r"/[A-Za-z]:[\\/]", path) else path


def _tiers(
    text: str,
    reference: ExternalFileReference,
    options: MediaOptions,
    destination: Path,
    working_folder: Path | None,
) -> Iterator[_Tier]:
    """Places to look in, in the order in which they count.

    A text held by an NWB file has one meaning, so the first tier that has a file is right. What a relative text made
    in memory means is not written anywhere, so it is looked for everywhere: a second file that fits is noticed.
    """
    for path_map in (options.path_map_of(reference.object_path), options.path_map):
        mapped = _mapped(text, path_map)
        if mapped is not None:
            yield _Tier([mapped], True)
    own = options.searched_for(reference.object_path)
    of_object = _Tier(below_folders(text, own), True, own)
    if reference.base is None and not is_absolute(text):
        yield of_object  # first, for that is what the caller says of this very object
        yield _Tier(spellings(destination, text), False)
        yield _Tier(below_folders(text, options.search), False, options.search)
        yield _Tier(spellings(working_folder or Path.cwd(), text), False)
        return
    if os.path.isabs(text):
        yield _Tier([Path(text)], True)
    elif reference.base is not None and not is_url(reference.base) and not is_absolute(text):
        yield _Tier(spellings(reference.base, text), True)
    # What is behind a URL is for others to say; a copy on this machine is nearer.
    yield of_object
    yield _Tier(below_folders(text, options.search), True, options.search)


def unicode_forms(text: str) -> list[str]:
    """The text, and the other forms in which Unicode writes it: a file copied from macOS may bear one of those."""
    if text.isascii():
        return [text]
    return list(dict.fromkeys((text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))))


def spellings(folder: str | Path, text: str) -> list[Path]:
    """The text below a folder; with its backslashes read as slashes if that is another path."""
    paths = dict.fromkeys((text, text.replace("\\", "/")))
    # \videos\a.avi is on some drive of Windows, not at /videos/a.avi
    return [Path(folder, spelling) for spelling in paths if not spelling.startswith("/")]


def _mapped(text: str, path_map: Mapping[str, str]) -> Path | None:
    if not path_map:
        return None
    plain = _with_slashes(text)
    for old, new in sorted(path_map.items(), key=lambda item: -len(item[0])):
        prefix = _with_slashes(old)
        windows = re.match(r"[A-Za-z]:(/|$)|//", prefix, re.ASCII) is not None
        head, tail = plain[: len(prefix)], plain[len(prefix) :]
        same = head.lower() == prefix.lower() if windows else head == prefix
        if same and (not tail or prefix.endswith("/") or tail.startswith("/")):
            return Path(os.path.abspath(new), *(part for part in tail.split("/") if part))
    return None


def _with_slashes(text: str) -> str:
    r"""A path with slashes, and without the ``\\?\`` that Windows puts before long ones."""
    plain = text.replace("\\", "/")
    return re.sub(r"^//\?/(UNC(?=/))?", lambda prefix: "/" if prefix[1] else "", plain, flags=re.IGNORECASE)


def below_folders(text: str, folders: Sequence[Path]) -> list[Path]:
    """Every tail of a path below each of some folders, down to its bare name."""
    if not folders:
        return []
    # PureWindowsPath reads both slashes, and knows drives and shares
    path = PureWindowsPath(text)
    parts = [part for part in path.parts if part not in ("..", path.anchor)][-_LONGEST_TAIL:]
    tails = [parts[start:] for start in range(len(parts))]
    return [folder.joinpath(*tail) for folder in folders for tail in tails]


def media_file(place: Path, real_path: Callable[[str], str] = os.path.realpath) -> MediaFile | str:
    """The regular file at a place, or why there is none; `real_path` frees its folder of symbolic links."""
    try:
        status = os.lstat(place)
        folder, name = os.path.split(place)
        real_folder = real_path(folder)
        # itself, if its folder is spelled so already: making a path takes longer than looking at the file
        path = place if real_folder == folder else Path(real_folder, name)
        real = path
        if stat.S_ISLNK(status.st_mode) or os.name == "nt":  # where names have several spellings
            status = os.stat(place)
            real = Path(os.path.realpath(place))
    except (OSError, ValueError) as error:  # ValueError: characters that the file system cannot spell
        if isinstance(error, FileNotFoundError) and is_annex_pointer(place):
            return _NOT_GOT
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISREG(status.st_mode):
        return f"{_kind(status.st_mode)}; only regular files are media"
    if holds_pointer(place, status.st_size):
        return _NOT_GOT
    return MediaFile(path, real, status.st_size, (status.st_dev, status.st_ino))


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "no regular file"


def _check_within(file: MediaFile, reference: ExternalFileReference, options: MediaOptions) -> None:
    roots = [Path(os.path.realpath(root)) for root in options.within]
    if roots and not any(file.real.is_relative_to(root) for root in roots):
        raise UnsafeReferenceError(
            f"{reference.where}: {reference.stored_path!r} is {str(file.real)!r}, which lies outside of "
            f"{', '.join(repr(str(root)) for root in roots)}",
            hint="add its folder to `within` if you trust this file",
            **reference.place,
        )


def _not_found(reference: ExternalFileReference, text: str, without_file: list[tuple[Path, str]]) -> ExternalFilesError:
    tried = [f"{_short(str(place))} ({reason})" for place, reason in without_file]
    listed = tried[:_MOST_LISTED] + ([f"and {len(tried) - _MOST_LISTED} more"] if len(tried) > _MOST_LISTED else [])
    places = "; ".join(listed) or "nothing, because it is a path of another machine"
    beginning = f"{reference.where}: no file for {_short(reference.stored_path)}. Tried: {places}"
    for place, reason in without_file:
        if reason is _NOT_GOT:
            return MissingMediaError(beginning, hint=how_to_get(place), **reference.place)
    if any("only regular files are media" in reason for _, reason in without_file):
        return UnsafeReferenceError(
            beginning, hint="put the media file there, in the place of what is there now", **reference.place
        )
    foreign = _WINDOWS_ABSOLUTE.match(text) is not None and os.name != "nt"
    fix = "`path_map` (a path of another machine)" if foreign else "`search` (folders to look in)"
    if reference.base is not None and is_url(reference.base) and not is_absolute(reference.stored_path):
        fix = f'{fix}, fetch what is beside the NWB file with urls="download"'
    return MissingMediaError(
        beginning,
        hint=f"put the file there, name where it is with {fix} in media_options, or keep the path as it is with "
        f'missing="keep"',
        **reference.place,
    )


def _short(text: str) -> str:
    return repr(text) if len(text) <= 300 else f"{text[:200]!r}… ({len(text)} characters)"

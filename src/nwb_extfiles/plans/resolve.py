"""Which file a stored path means.

Reads the file system and changes nothing. The error for a missing file lists every place that was tried.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit

from ..disk.annex import holds_pointer, how_to_get, is_annex_pointer
from ..errors import AmbiguousMediaError, ExternalFilesError, MissingMediaError, UnsafeReferenceError
from ..hints import Hint, Spelling, for_objects
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..web.remote import RemoteFile

__all__ = [
    "MediaFile",
    "Remux",
    "Resolution",
    "behind_link",
    "is_absolute",
    "is_url",
    "leads_to_nothing",
    "media_file",
    "resolve",
    "resolve_all",
    "spellings",
    "unicode_forms",
    "without_file_scheme",
]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.ASCII)
_WINDOWS_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]{2}[^\\/]", re.ASCII)
_LONGEST_TAIL = 32  # parts of a path that are tried below a search folder
_MOST_LISTED = 20  # places that one message names
_MOST_HINTS = 4
_NOT_FETCHED = "a file of git-annex, whose content is not on this machine"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A regular file on this machine that a reference means."""

    path: Path
    """Absolute; its folder has no symbolic links, its name is as it was found (it may itself be a link)."""
    real: Path
    """The file itself, every symbolic link followed."""
    size: int
    """In bytes."""
    identity: tuple[int, int]
    """Device and inode: equal for all names of one file."""
    linked_path: Path | None = None
    """The path through a linked folder by which it was found, if that link leads out of the folders of the NWB file, to
    media that others may share."""

    @property
    def is_link(self) -> bool:
        """Whether the name is a symbolic link to a file somewhere else."""
        return os.path.normcase(self.path) != os.path.normcase(self.real)


@dataclass(frozen=True, slots=True)
class Remux:
    """How a video is remuxed."""

    suffix: str
    """Of the new container, ``.mp4`` or ``.mkv``."""
    rate: Fraction | None = None
    """Frames per second; None for a container that has the time of each frame."""
    dropped: tuple[str, ...] = ()
    """What the new container does not get, in words; empty if it gets all."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one reference means: a URL, a file, or a problem."""

    reference: ExternalFileReference
    file: MediaFile | None = None
    url: bool = False
    problem: ExternalFilesError | None = None
    """Why there is no file; a `MissingMediaError` if it just was not found."""
    remote: RemoteFile | None = None
    """What is behind the URL, if it is to be downloaded."""
    suffix: str | None = None
    """The suffix that the media get, if that is not the one of the file."""
    searched: bool = False
    """Whether the file was found in a folder of `search`, by a part of its path."""
    remux: Remux | None = None
    """How the media get another container; None if they keep theirs."""


def is_url(stored_path: str) -> bool:
    """Whether a stored path is a URL (or ``data:`` URI) that does not name a local file."""
    # a regular expression costs more than all else here, and most paths have no colon
    return ":" in stored_path and _SCHEME.match(stored_path) is not None and not _is_file_url(stored_path)


def is_absolute(stored_path: str) -> bool:
    """Whether a path, not a URL, means the same wherever its NWB file is, on this or another platform."""
    return (
        _is_file_url(stored_path)
        or os.path.isabs(stored_path)
        or stored_path.startswith("/")
        or (stored_path[1:2] in (":", "\\") and _WINDOWS_ABSOLUTE.match(stored_path) is not None)
    )


def _is_file_url(stored_path: str) -> bool:
    return stored_path.lower().startswith("file://")


def resolve_all(
    references: Iterable[ExternalFileReference],
    options: MediaOptions,
    *,
    destination: Path,
    known: Mapping[tuple[str, str, int], Resolution] | None = None,
) -> list[Resolution]:
    """Find the files that many references mean, in their order, as `resolve` does for one.

    `known` has resolutions that are known already, whatever the stored path says, by `ExternalFileReference.entry`.
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
    real_path: Callable[[str], str] = os.path.realpath,
) -> Resolution:
    """Find the file that a reference means. A bad path does not raise: the problem is in the answer.

    A relative path is relative to the folder of the NWB file that holds it. In a container made in memory, whose base
    is None, it is relative to the destination, else to a search folder, else to the working directory. Of the options,
    `path_map`, `search`, those two for single objects, and `within` are used. `real_path` resolves symbolic links in
    the path of a folder.
    """
    if is_url(reference.stored_path):
        return Resolution(reference, url=True)
    try:
        return _choose(reference, options, destination, real_path)
    except ExternalFilesError as problem:
        return Resolution(reference, problem=problem)


def _choose(
    reference: ExternalFileReference,
    options: MediaOptions,
    destination: Path,
    real_path: Callable[[str], str],
) -> Resolution:
    path = _local_path(reference)
    nwb_folder = str(destination if reference.base is None else reference.base)
    tried: list[tuple[Path, str]] = []
    found: dict[tuple[int, int], tuple[MediaFile, bool]] = {}
    broken: list[str] = []
    path_maps = (options.path_map_of(reference.object_path), options.path_map)
    for form in unicode_forms(path):
        tiers = _tiers(form, reference, options, destination)
        # the other forms look alike in a message
        found = _look(tiers, path_maps, nwb_folder, real_path, tried if form == path else [], broken)
        if found:
            break
    if not found:
        raise _not_found(reference, path, tried, _of_that_name((path, *broken), reference, options))
    if len(found) > 1:
        raise _ambiguous(reference, path, [file for file, _ in found.values()])
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
    tiers: Iterable[_Tier],
    path_maps: Sequence[Mapping[str, str]],
    nwb_folder: str,
    real_path: Callable[[str], str],
    tried: list[tuple[Path, str]],
    broken: list[str],
) -> dict[tuple[int, int], tuple[MediaFile, bool]]:
    """The files in the places of `_tiers`; places without a file are added to `tried`, with the reason.

    `broken` gets the paths in broken links among the places.
    """
    found: dict[tuple[int, int], tuple[MediaFile, bool]] = {}
    for tier in tiers:
        # A broken link still says the name of the video, and where it was.
        further = (place for link in broken for place in _below_folders(link, tier.searched))
        places = list(dict.fromkeys((*tier.places, *further)))
        for place in places:
            file = media_file(place, real_path)
            if isinstance(file, MediaFile):
                file = behind_link(file, place, nwb_folder, real_path)
                found.setdefault(file.identity, (file, bool(tier.searched)))
                continue
            tried.append((place, file))
            if os.path.islink(place):
                broken.append(os.readlink(place))
                places += [new for new in _mapped_link(place, path_maps) if new not in places]
        if found and tier.final:
            break
    return found


def _of_that_name(paths: Iterable[str], reference: ExternalFileReference, options: MediaOptions) -> list[Path]:
    """Files with the names of some paths in subfolders of search folders: for the message alone.

    Videos of other recordings may have the same name, so none of them is taken: the user says which folder it is.
    """
    forms = (form for path in paths for form in unicode_forms(path))
    names = dict.fromkeys(PureWindowsPath(form).name for form in forms)  # which reads both slashes
    folders = (*options.searched_for(reference.object_path), *options.search)
    return [place for folder in folders for name in names for place in options.places_below(folder, name)]


def behind_link(
    file: MediaFile, place: Path, nwb_folder: str, real_path: Callable[[str], str] = os.path.realpath
) -> MediaFile:
    """A file with its `linked_path`. A link to a folder that the NWB file is in too leads to nothing of others."""
    folder = os.path.dirname(place)
    if os.path.normpath(folder) == os.path.dirname(file.path):
        return file
    nwb_folder = real_path(nwb_folder)
    current = Path(place.anchor)
    parts = place.relative_to(current).parts
    for number, part in enumerate(parts[:-1], 1):
        link = current / part
        current = Path(real_path(str(link)))
        if link.is_symlink() and not Path(nwb_folder).is_relative_to(current):
            return replace(file, linked_path=link.joinpath(*parts[number:]))
    return file


def _ambiguous(reference: ExternalFileReference, path: str, files: Sequence[MediaFile]) -> AmbiguousMediaError:
    choices = [_choosing(reference, path, file.path) for file in files[:_MOST_HINTS]]
    either = Spelling(" or ".join(one.python for one in choices), " or ".join(one.command_line for one in choices))
    return AmbiguousMediaError(
        f"{reference.where}: {reference.stored_path!r} fits {len(files)} different files: "
        f"{', '.join(repr(str(file.path)) for file in files)}",
        hint=Hint("say which one is meant with {either}", either=either),
        **reference.place,
    )


def _choosing(reference: ExternalFileReference, path: str, file_path: Path) -> Spelling:
    """The option that makes a reference mean one of several files."""
    found = {place for place in _below_folders(path, [file_path.parent]) if os.path.lexists(place)}
    if found == {file_path}:
        return for_objects("search_for", {reference.object_path: str(file_path.parent)})
    return for_objects("path_map_for", {reference.object_path: {path: str(file_path)}})


def _local_path(reference: ExternalFileReference) -> str:
    stored_path = reference.stored_path
    if not stored_path.strip():
        raise UnsafeReferenceError(
            f"{reference.where}: the path is empty; expected the path of a media file", **reference.place
        )
    if "\0" in stored_path:
        raise UnsafeReferenceError(
            f"{reference.where}: {_short(stored_path)} has a NUL character, which no path can have", **reference.place
        )
    try:
        return without_file_scheme(stored_path)
    except ValueError as error:
        raise UnsafeReferenceError(f"{reference.where}: {_short(stored_path)} {error}", **reference.place) from error


def without_file_scheme(stored_path: str) -> str:
    """The path in a ``file://`` URL; other paths as they are.

    ValueError if the URL is malformed; the message continues after the URL.
    """
    if not _is_file_url(stored_path):
        return stored_path
    try:
        parts = urlsplit(stored_path)
    except ValueError as error:  # brackets and the like instead of a host
        raise ValueError(f"is not a valid file:// URL: {error}") from error
    path = unquote(parts.path, errors="surrogateescape")
    if re.fullmatch(r"[A-Za-z]:", parts.netloc):  # file://C:/x.avi, with a slash too few
        return f"{parts.netloc}{path}"
    if parts.netloc.lower() not in ("", "localhost"):
        # a share of Windows, as pathlib writes it; with backslashes other systems do not take it for a path of theirs
        return f"//{parts.netloc}{path}".replace("/", "\\")
    # file:///C:/x.avi is C:/x.avi, on Windows and elsewhere, where path_map may map it
    return path[1:] if re.match(r"/[A-Za-z]:[\\/]", path) else path


def _tiers(path: str, reference: ExternalFileReference, options: MediaOptions, destination: Path) -> Iterator[_Tier]:
    """Places to look in, the most important first.

    A path in an NWB file has one meaning, so the first tier with a file is right. A relative path made in memory may
    mean several places, so all of them are searched, and a second file that fits is noticed.
    """
    for path_map in (options.path_map_of(reference.object_path), options.path_map):
        mapped = _mapped(path, path_map)
        if mapped is not None:
            yield _Tier([mapped], True)
    own = options.searched_for(reference.object_path)
    of_object = _Tier(_below_folders(path, own), True, own)
    if reference.base is None and not is_absolute(path):
        yield of_object  # first, because the caller named it for this very object
        yield _Tier(spellings(destination, path), False)
        yield _Tier(_below_folders(path, options.search), False, options.search)
        yield _Tier(spellings(Path.cwd(), path), False)
        return
    if os.path.isabs(path):
        yield _Tier([Path(path)], True)
    elif reference.base is not None and not is_url(reference.base) and not is_absolute(path):
        yield _Tier(spellings(reference.base, path), True)
    # For an NWB file behind a URL only copies on this machine are looked for; `locate` knows what is beside the URL.
    yield of_object
    yield _Tier(_below_folders(path, options.search), True, options.search)


def unicode_forms(path: str) -> list[str]:
    """A path, and the same in the other Unicode normal forms: files copied from macOS may have such names."""
    if path.isascii():
        return [path]
    return list(dict.fromkeys((path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))))


def spellings(folder: str | Path, path: str) -> list[Path]:
    """A path below a folder; also with its backslashes read as slashes if that is another path."""
    paths = dict.fromkeys((path, path.replace("\\", "/")))
    # \videos\a.avi is on some drive of Windows, not at /videos/a.avi
    return [Path(folder, spelling) for spelling in paths if not spelling.startswith("/")]


def _mapped(path: str, path_map: Mapping[str, str]) -> Path | None:
    if not path_map:
        return None
    plain = _with_slashes(path)
    for old, new in sorted(path_map.items(), key=lambda item: -len(item[0])):
        prefix = _with_slashes(old)
        windows = re.match(r"[A-Za-z]:(/|$)|//", prefix, re.ASCII) is not None
        head, tail = plain[: len(prefix)], plain[len(prefix) :]
        same = head.lower() == prefix.lower() if windows else head == prefix
        if same and (not tail or prefix.endswith("/") or tail.startswith("/")):
            return Path(os.path.abspath(new), *(part for part in tail.split("/") if part))
    return None


def _mapped_link(link: Path, path_maps: Sequence[Mapping[str, str]]) -> list[Path]:
    """The place that some maps, the first before the second, make of the path in a broken link; none if none fits.

    A relative link is read from its folder, and of a chain of links the end counts too. Places with a file come first.
    """
    if not any(path_maps):
        return []
    text = os.readlink(link)
    spelled = dict.fromkeys((text, os.path.normpath(os.path.join(link.parent, text)), os.path.realpath(link)))
    places = (_mapped(path, path_map) for path_map in path_maps for path in spelled)
    return sorted((place for place in places if place is not None), key=lambda place: not os.path.exists(place))[:1]


def _with_slashes(path: str) -> str:
    r"""A path with slashes, and without the ``\\?\`` that Windows puts before long ones."""
    plain = path.replace("\\", "/")
    return re.sub(r"^//\?/(UNC(?=/))?", lambda prefix: "/" if prefix[1] else "", plain, flags=re.IGNORECASE)


def _below_folders(path: str, folders: Sequence[Path]) -> list[Path]:
    """Every tail of a path below each of some folders, down to its bare name."""
    if not folders:
        return []
    windows_path = PureWindowsPath(path)  # which reads both slashes, and knows drives and shares
    parts = [part for part in windows_path.parts if part not in ("..", windows_path.anchor)][-_LONGEST_TAIL:]
    tails = [parts[start:] for start in range(len(parts))]
    return [folder.joinpath(*tail) for folder in folders for tail in tails]


def media_file(place: Path, real_path: Callable[[str], str] = os.path.realpath) -> MediaFile | str:
    """The regular file at a place, or why there is none; `real_path` resolves symbolic links in its folder."""
    try:
        status = os.lstat(place)
        folder, name = os.path.split(place)
        real_folder = real_path(folder)
        # the same object if its folder is spelled so already: making a path takes longer than looking at the file
        path = place if real_folder == folder else Path(real_folder, name)
        real = path
        if stat.S_ISLNK(status.st_mode) or os.name == "nt":  # on Windows names have several spellings
            status = os.stat(place)
            real = Path(os.path.realpath(place))
    except (OSError, ValueError) as error:  # ValueError: characters that the file system cannot encode
        if isinstance(error, FileNotFoundError) and is_annex_pointer(place):
            return _NOT_FETCHED
        if isinstance(error, FileNotFoundError) and os.path.islink(place):
            return leads_to_nothing(place)
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISREG(status.st_mode):
        return f"{_kind(status.st_mode)}; only regular files are media"
    if holds_pointer(place, status.st_size):
        return _NOT_FETCHED
    return MediaFile(path, real, status.st_size, (status.st_dev, status.st_ino))


def leads_to_nothing(place: str | Path) -> str:
    """What a broken symbolic link is, in words."""
    return f"a symbolic link to {_short(os.readlink(place))}, which does not exist"


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
    return "not a regular file"


def _check_within(file: MediaFile, reference: ExternalFileReference, options: MediaOptions) -> None:
    roots = [Path(os.path.realpath(root)) for root in options.within]
    if roots and not any(file.real.is_relative_to(root) for root in roots):
        raise UnsafeReferenceError(
            f"{reference.where}: {reference.stored_path!r} is {str(file.real)!r}, which is outside "
            f"{', '.join(repr(str(root)) for root in roots)}",
            hint=Hint("add its folder to {within} if you trust this file"),
            **reference.place,
        )


def _not_found(
    reference: ExternalFileReference, path: str, without_file: list[tuple[Path, str]], of_that_name: Sequence[Path]
) -> ExternalFilesError:
    tried = [f"{_short(str(place))} ({reason})" for place, reason in without_file]
    listed = tried[:_MOST_LISTED] + ([f"and {len(tried) - _MOST_LISTED} more"] if len(tried) > _MOST_LISTED else [])
    places = f"Tried: {'; '.join(listed)}" if listed else "Not searched: it is a path on another machine"
    what = f"{reference.where}: no file for {_short(reference.stored_path)}. {places}"
    for place, reason in without_file:
        if reason is _NOT_FETCHED:
            return MissingMediaError(what, hint=how_to_get(place), **reference.place)
    if any("only regular files are media" in reason for _, reason in without_file):
        return UnsafeReferenceError(what, hint="replace what is there with the media file", **reference.place)
    if of_that_name:
        more = f" and {len(of_that_name) - _MOST_HINTS} more" if len(of_that_name) > _MOST_HINTS else ""
        what += f". Files of that name: {', '.join(repr(str(place)) for place in of_that_name[:_MOST_HINTS])}{more}"
        hint = "if one of these is it, name its own folder with {search}, or keep the path as it is with {missing_keep}"
        return MissingMediaError(what, hint=Hint(hint), **reference.place)
    foreign = _WINDOWS_ABSOLUTE.match(path) is not None and os.name != "nt"
    fixes = ["put the file there", "map its folder with {path_map}" if foreign else "name its folder with {search}"]
    if reference.base is not None and is_url(reference.base) and not is_absolute(reference.stored_path):
        fixes.append("download it from beside the NWB file with {urls_download}")
    return MissingMediaError(
        what, hint=Hint(", ".join([*fixes, "or keep the path as it is with {missing_keep}"])), **reference.place
    )


def _short(path: str) -> str:
    return repr(path) if len(path) <= 300 else f"{path[:200]!r}… ({len(path)} characters)"

"""Whether the media that NWB files refer to are there, and are where DANDI and its readers look for them."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from ..disk.annex import how_to_get, is_annex_pointer
from ..errors import ExternalFilesError, MissingMediaError, UnreadableFileError
from ..media.inventory import MediaState, Verification, find_by_content, verify_media
from ..naming import is_archived, is_conventional, is_portable_suffix, is_uuid
from ..nwb.files import find_nwb_files, nwb_files_called_like, open_nwb, zarr_marker
from ..nwb.linked import LinkedMedia
from ..nwb.manifest import ManifestRow, read_manifest
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..plans.resolve import MediaFile, Resolution, is_absolute, resolve_all
from ..plans.targets import dandiset_above, nwb_stem
from ..transfers.interrupted import is_interrupted
from .discovery import find_own_and_linked

__all__ = ["Finding", "Severity", "check"]

_LONGEST = 300  # characters of a path that a message shows
_SAMPLE = 64 * 1024  # bytes that are compared at both ends of videos of equal size


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """A link is broken, or will be in the archive or for its readers."""
    WARNING = "warning"
    """It works here; it may not elsewhere, or wastes room."""
    INFO = "info"
    """Worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `check` found."""

    severity: Severity
    code: str
    """What kind it is, in short: ``missing``, ``absolute-path``, ``orphan`` and so on."""
    message: str
    """What was found, and what to do."""
    nwb_path: str
    object_path: str | None = None
    neurodata_type: str | None = None
    field: str | None = None
    index: int | None = None
    stored_path: str | None = None
    """The stored text."""

    @property
    def where(self) -> str:
        """The place in words."""
        if self.object_path is None:
            return self.nwb_path
        entry = f", {self.field}[{self.index}]" if self.index is not None else ""
        return f"{self.nwb_path}: {self.neurodata_type or 'object'} {self.object_path!r}{entry}"


def check(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    checksums: bool = False,
    media_options: MediaOptions | Mapping[str, Any] | None = None,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> Iterator[Finding]:
    """Check the media references of NWB files.

    What is an error inside a dandiset (a folder with ``dandiset.yaml`` at or above the file) may be a warning
    elsewhere: an absolute path works until the file travels.

    Parameters
    ----------
    paths : path or iterable of paths
        NWB files, and folders in which to look for such. Of folders it is also told which media in them belong to no
        NWB file.
    checksums : bool
        Whether videos are read and compared with the manifest of their NWB file, where it has one.
    media_options : MediaOptions or mapping, optional
        Of which `media_fields` and `naming` are used, and with `checksums` the folders of `search`, in which videos are
        looked for by their content. What is found only by `search` or `path_map` is broken.
    on_bytes : callable
        Called with each number of bytes of videos read.

    Yields
    ------
    Finding
        File by file; nothing for a file in which all is well. Nothing is changed on disk.

    Raises
    ------
    FileNotFoundError
        If a path leads nowhere.
    """
    options = MediaOptions.from_value(media_options)
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    for path in find_nwb_files(paths):
        yield from _check_file(path, options, on_bytes if checksums else None)
    seen: set[str] = set()
    for folder in paths:
        if os.path.isdir(folder):
            yield from _unowned_media(Path(os.path.abspath(folder)), seen)


def _check_file(
    path: Path, options: MediaOptions, on_bytes: Callable[[int], object] | None = None
) -> Iterator[Finding]:
    if is_interrupted(Path(os.path.realpath(path)), thoroughly=True):
        yield _of_file(
            path, Severity.ERROR, "interrupted-edit", "a run that was killed has left it half edited; call "
            "`nwb-extfiles recover` on it",
        )  # fmt: skip
    problems: list[ExternalFilesError] = []
    only_fields = MediaOptions(media_fields=options.media_fields)
    try:
        found, linked = find_own_and_linked(path, only_fields, problems)
    except UnreadableFileError as error:
        yield _of_file(path, Severity.ERROR, "unreadable", str(error).removeprefix(f"{path}: "))
        return
    for problem in problems:
        yield Finding(
            severity=Severity.ERROR,
            code="not-a-string",
            message="it holds no text, or is a link that leads to none, where paths of media are expected",
            nwb_path=str(path),
            object_path=problem.object_path,
            field=problem.field,
        )
    place = _Place(path, dandiset_above(path), options)
    contents = [] if on_bytes is None else list(_contents(path, found, options, on_bytes))
    told = {(entry.object_path, entry.field, entry.index) for entry in contents if entry.code == "media-missing"}
    for resolution in found:
        if resolution.reference.entry not in told:
            yield from place.look_at(resolution)
    for behind in linked:
        yield from _linked(path, behind)
    yield from _same_media(found)
    yield from _orphans(path, found)
    yield from contents


def _linked(path: Path, behind: LinkedMedia) -> Iterator[Finding]:
    """What there is to say of a link to an object of another NWB file."""
    link, references = behind.link, behind.references
    if behind.problem is not None:
        yield _of_file(
            path, Severity.ERROR, "dangling-link", f"it is a link to {link.object_path!r} of another NWB file, and "
            f"leads nowhere: {behind.problem}; bring that file back to where the link looks for it", link.path,
        )  # fmt: skip
    if not references:
        return
    missing = [entry for entry in resolve_all(references, MediaOptions(), destination=path.parent) if entry.problem]
    such = missing[0].reference if missing else references[0]
    holders = " ".join(shlex.quote(holder) for holder in dict.fromkeys(entry.nwb_path for entry in references))
    if missing:
        yield _of_file(
            path, Severity.ERROR, "linked-media-missing", f"it is a link to {link.object_path!r} of "
            f"{behind.nwb_path}, whose media are missing ({len(missing)} of {len(references)}, such as "
            f"{such.stored_path[:_LONGEST]!r}); `nwb-extfiles check {holders}` says more", link.path,
        )  # fmt: skip
    else:
        yield _of_file(
            path, Severity.INFO, "linked-media", f"it is a link to {link.object_path!r} of {behind.nwb_path}, and "
            f"its media belong to that file ({len(references)}, such as {such.stored_path[:_LONGEST]!r}); they do not "
            f"come along with this one, so keep that file where the link looks for it; `nwb-extfiles check {holders}` "
            f"checks its media", link.path,
        )  # fmt: skip


def _contents(
    path: Path, found: list[Resolution], options: MediaOptions, on_bytes: Callable[[int], object]
) -> Iterator[Finding]:
    """Videos that are not those of the manifest."""
    try:
        with open_nwb(path) as file:
            rows = read_manifest(file, path)
    except ExternalFilesError as error:
        yield _of_file(path, Severity.ERROR, "manifest", str(error).removeprefix(f"{path}: "))
        return
    if rows is None:
        if any(not entry.url for entry in found):
            yield _of_file(
                path, Severity.INFO, "no-manifest", "it has no manifest, so its videos cannot be told from others; "
                "`nwb-extfiles relocate --manifest` writes one",
            )  # fmt: skip
        return
    verifications = list(verify_media(rows, found, on_bytes=on_bytes))
    wanted = [
        verification.row for verification in verifications if verification.row is not None and verification.state.is_bad
    ]
    places = [path.parent / nwb_stem(path), *options.search_folders]
    elsewhere = find_by_content(wanted, places, on_bytes=on_bytes) if wanted else {}
    for verification in verifications:
        yield from _verification(verification, elsewhere)
    spoken_of = {id(verification.row) for verification in verifications}
    gone = [row for row in rows if id(row) not in spoken_of]
    if gone:
        yield _of_file(
            path, Severity.WARNING, "stale-manifest", f"its manifest has {len(gone)} of {len(rows)} rows whose "
            f"references are not there any more, such as {gone[0].path[:_LONGEST]!r} of "
            f"{gone[0].referring_object_path[:_LONGEST]!r}; `nwb-extfiles relocate` brings the manifest up to date",
        )  # fmt: skip


def _verification(verification: Verification, elsewhere: Mapping[str, MediaFile]) -> Iterator[Finding]:
    reference, row, state = verification.resolution.reference, verification.row, verification.state
    if state is MediaState.UNKNOWN:
        yield _of(
            reference, Severity.INFO, "not-in-manifest", "the manifest does not speak of it; `nwb-extfiles relocate` "
            "brings the manifest up to date",
        )  # fmt: skip
    elif state is MediaState.STALE:
        yield _of(
            reference, Severity.WARNING, "stale-manifest", "its path was changed by something that did not change the "
            "manifest; `nwb-extfiles relocate` brings the manifest up to date",
        )  # fmt: skip
    if row is None or not state.is_bad:
        return
    video = elsewhere.get(row.sha256)
    place = os.path.join(os.path.dirname(reference.nwb_path), reference.stored_path)
    in_its_place = state is not MediaState.MISSING or os.path.islink(place)  # be it a link that leads nowhere
    replacing = " --existing replace" if in_its_place else ""
    if video is None:
        fix = "name folders to look for it in with --search"
    else:
        nwb_path = Path(reference.nwb_path)
        is_beside = video.path.is_relative_to(nwb_path.parent / nwb_stem(nwb_path))  # where it is looked for anyway
        search = "" if is_beside else f" --search {shlex.quote(str(video.path.parent))}"
        fix = (
            f"it is at {str(video.path)!r}; `nwb-extfiles relocate --repair --media-mode copy{replacing}{search} "
            f"{shlex.quote(reference.nwb_path)}` puts it back"
        )
    was = f"the video {row.original_name!r} of {row.size_in_bytes:,} bytes"
    what = {
        MediaState.CHANGED: f"its content is not that of {was}",
        MediaState.TRUNCATED: f"it is shorter than {was}",
        MediaState.SWAPPED: f"it is the video of {_entry_of(verification.video_of)}, not {was}",
        MediaState.UNREADABLE: f"it cannot be read, so nobody can tell whether it is {was}",
        MediaState.MISSING: f"{was} is missing",
    }[state]
    yield _of(reference, Severity.ERROR, f"video-{state}", f"{what}; {fix}")


def _entry_of(row: ManifestRow | None) -> str:
    return "another entry" if row is None else f"{row.referring_object_path!r}, {row.field}[{row.index}]"


def _of_file(path: Path, severity: Severity, code: str, message: str, object_path: str | None = None) -> Finding:
    return Finding(severity=severity, code=code, message=message, nwb_path=str(path), object_path=object_path)


def _of(reference: ExternalFileReference, severity: Severity, code: str, message: str) -> Finding:
    return Finding(
        severity=severity,
        code=code,
        message=message,
        nwb_path=reference.nwb_path,
        object_path=reference.object_path,
        neurodata_type=reference.neurodata_type,
        field=reference.field,
        index=reference.index,
        stored_path=reference.stored_path,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """An NWB file, and what is asked of the texts in it."""

    nwb_path: Path
    dandiset: Path | None
    options: MediaOptions
    strict: Severity = field(init=False)
    """How bad is what breaks in the archive."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "strict", Severity.WARNING if self.dandiset is None else Severity.ERROR)

    def look_at(self, resolution: Resolution) -> Iterator[Finding]:
        """What there is to say of one reference."""
        reference = resolution.reference
        if resolution.url:
            yield self._url(reference)
        elif resolution.file is None:
            yield self._broken(resolution)
        else:
            yield from self._path_as_stored(reference, resolution.file)
            yield from self._readable(reference, resolution.file)

    def _url(self, reference: ExternalFileReference) -> Finding:
        # The schema allows one for an ExternalImage; nwbinspector, which upload asks, refuses it for an ImageSeries.
        stops = reference.neurodata_type != "ExternalImage" and reference.field == "external_file"
        severity = self.strict if stops else Severity.INFO
        return _of(
            reference, severity, "url", "it is a URL" + ("; `dandi upload` is stopped by URLs" if stops else "")
        )  # fmt: skip

    def _broken(self, resolution: Resolution) -> Finding:
        reference = resolution.reference
        if not isinstance(resolution.problem, MissingMediaError):
            reason = str(resolution.problem).removeprefix(f"{reference.where}: ")
            return _of(reference, Severity.ERROR, "no-media", reason)
        if is_absolute(reference.stored_path):
            return _of(
                reference, Severity.ERROR, "missing-absolute", "it is an absolute path, and leads nowhere on this "
                "machine; tell `nwb-extfiles relocate` where the file is, with --path-map or --search",
            )  # fmt: skip
        place = os.path.normpath(os.path.join(reference.base or self.nwb_path.parent, reference.stored_path))
        if is_annex_pointer(Path(place)):
            return _of(
                reference, Severity.ERROR, "missing", f"its content is not on this machine, because it is a file of "
                f"git-annex; {how_to_get(Path(place))}",
            )  # fmt: skip
        kind = "a link that leads nowhere is at" if os.path.islink(place) else "there is no file"
        return _of(
            reference, Severity.ERROR, "missing", f"{kind} {place[:_LONGEST]!r}; put it there, or tell `nwb-extfiles "
            f"relocate` where it is, with --search",
        )  # fmt: skip

    def _path_as_stored(self, reference: ExternalFileReference, file: MediaFile) -> Iterator[Finding]:
        text = reference.stored_path
        relocate = "; `nwb-extfiles relocate` brings it to its place"
        if is_absolute(text):
            yield _of(
                reference, self.strict, "absolute-path", f"it is an absolute path, which is right on this machine "
                f"alone{relocate}",
            )  # fmt: skip
            return
        if "\\" in text:
            yield _of(
                reference, Severity.ERROR, "backslash", "it has backslashes, which only Windows takes for slashes"
                f"{relocate}",
            )  # fmt: skip
            return
        if not text.isascii() and not os.path.exists(os.path.join(reference.base or self.nwb_path.parent, text)):
            yield _of(
                reference, Severity.ERROR, "unicode", f"the file is {file.path.name!a}, whose letters Unicode writes "
                f"in another form than {text!a}, so that only macOS finds it{relocate}",
            )  # fmt: skip
            return
        place = Path(os.path.normpath(self.nwb_path.parent / text))
        if self.dandiset is not None and not place.is_relative_to(self.dandiset):
            yield _of(
                reference, Severity.ERROR, "outside-dandiset", f"it leads out of the dandiset, "
                f"{str(self.dandiset)!r}{relocate}",
            )  # fmt: skip
        elif not place.is_relative_to(self.nwb_path.parent):
            yield _of(
                reference, self.strict, "above", f"it leads above the folder of the NWB file, where readers of the "
                f"archive do not follow{relocate}",
            )  # fmt: skip
        else:
            yield from self._way(reference, place)
            yield from self._name(reference, file)

    def _way(self, reference: ExternalFileReference, place: Path) -> Iterator[Finding]:
        """What the archive passes over on the way to a video: names with a dot, and links in the place of folders."""
        way = place.relative_to(self.nwb_path.parent)
        hidden = next((part for part in way.parts if part.startswith(".")), None)
        linked = next((above for above in list(way.parents)[:-1] if (self.nwb_path.parent / above).is_symlink()), None)
        if hidden is not None:
            yield _of(
                reference, self.strict, "hidden", f"{hidden!r} begins with a dot, and DANDI passes over such names; "
                f"`nwb-extfiles relocate` brings it to its place",
            )  # fmt: skip
        elif linked is not None:
            yield _of(
                reference, self.strict, "linked-folder", f"{str(linked)!r} is a symbolic link to a folder, and DANDI "
                f"passes over such; make it a folder, and links of the single files",
            )  # fmt: skip

    def _name(self, reference: ExternalFileReference, file: MediaFile) -> Iterator[Finding]:
        object_id = reference.object_id
        if object_id is None:
            return  # the convention does not say; `relocate` makes a name of what does not change
        if not is_uuid(object_id):
            yield _of(
                reference, Severity.INFO, "object-id", f"its object_id is {object_id[:80]!r}, which is no UUID, so "
                f"it has no conventional name",
            )  # fmt: skip
            return
        suffix = file.path.suffix.lower()
        expected = str(
            self.options.naming(
                nwb_stem=nwb_stem(self.nwb_path),
                object_id=object_id,
                field=reference.field,
                index=reference.index,
                suffix=suffix if is_portable_suffix(suffix) else "",
            )
        )
        # A list that repeats the videos of a series names those.
        at_home = reference.stored_path == f"{nwb_stem(self.nwb_path)}/{file.path.name}"
        if reference.stored_path != expected and not (
            reference.repeats and at_home and is_conventional(file.path.name)
        ):
            severity = Severity.WARNING if self.dandiset is not None else Severity.INFO
            yield _of(
                reference, severity, "name", f"it is not called as DANDI calls it, {expected!r}; `nwb-extfiles "
                f"relocate` names it so",
            )  # fmt: skip

    def _readable(self, reference: ExternalFileReference, file: MediaFile) -> Iterator[Finding]:
        if not os.access(file.real, os.R_OK):
            yield _of(reference, Severity.ERROR, "not-readable", f"{str(file.real)!r} may not be read")
        elif file.size == 0:
            yield _of(reference, Severity.ERROR, "empty", f"{str(file.real)!r} is empty")
        suffix = PurePosixPath(reference.stored_path.replace("\\", "/")).suffix
        if not is_archived(suffix):
            kind = f"files that end in {suffix}" if suffix else "files without a suffix"
            lowered = " (in lower case it does; relocate the file)" if is_archived(suffix.lower()) else ""
            yield _of(
                reference, self.strict, "suffix", f"DANDI takes no {kind}, and drops them on upload{lowered}; convert "
                f"it to a format that it takes" if not lowered else f"DANDI takes no {kind}{lowered}",
            )  # fmt: skip


def _same_media(found: list[Resolution]) -> Iterator[Finding]:
    """Videos that are kept under two names; lists that repeat those of a series share them on purpose."""
    videos = [entry for entry in found if entry.file is not None and not entry.reference.repeats]
    sizes = Counter(entry.file.size for entry in videos if entry.file is not None)
    first: dict[Hashable, Resolution] = {}
    for entry in videos:
        file, reference = entry.file, entry.reference
        if file is None or sizes[file.size] == 1:
            continue
        for key in (file.identity, _look(file)):
            other = first.setdefault(key, entry)
            if other.reference.stored_path != reference.stored_path:
                how = "it is" if key == file.identity else "it has the size, the beginning and the end of"
                yield _of(
                    reference, Severity.INFO, "same-media", f"{how} the video of {other.reference.object_path!r}, "
                    f"{other.reference.field}[{other.reference.index}], under another name",
                )  # fmt: skip
                break


def _look(file: MediaFile) -> Hashable:
    """What a video looks like: its size, beginning and end; the file itself where that cannot be read."""
    try:
        with open(file.real, "rb", buffering=0) as stream:
            digest = hashlib.blake2b(stream.read(_SAMPLE))
            stream.seek(max(0, file.size - _SAMPLE))
            digest.update(stream.read(_SAMPLE))
    except OSError:
        return file.identity
    return file.size, digest.digest()


def _orphans(path: Path, found: list[Resolution]) -> Iterator[Finding]:
    """What lies in the media folder of a file, and is not referred to."""
    folder = path.parent / nwb_stem(path)
    if not folder.is_dir() or folder.is_symlink() or folder == path:
        return
    home = Path(os.path.realpath(path.parent))
    wanted = {
        os.path.normpath(home / entry.reference.stored_path.replace("\\", "/"))
        for entry in found
        if not entry.url and "\0" not in entry.reference.stored_path
    } | {str(entry.file.path) for entry in found if entry.file is not None}
    # Names with a dot are no media for DANDI, but those of file managers and of this package.
    for place, folders, names in os.walk(home / folder.name):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*names, *linked]):
            media = os.path.join(place, name)
            if name.startswith(".") or media in wanted:
                continue
            if name in linked and any(text.startswith(media + os.sep) for text in wanted):
                continue
            kind = "a link that leads nowhere" if not os.path.exists(media) else "a file"
            yield _of_file(
                path, Severity.WARNING, "orphan", f"{os.path.relpath(media, home)!r} is {kind} in its media folder, "
                f"and it does not refer to it; remove it if nobody needs it",
            )  # fmt: skip


def _unowned_media(root: Path, seen: set[str]) -> Iterator[Finding]:
    """Folders of media, by the names in them, without an NWB file that they belong to; and what is not looked into."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if place in seen:
            continue
        seen.add(place)
        if zarr_marker(Path(place)) is not None:
            folders.clear()
            continue
        media = [name for name in names if is_conventional(name)]
        if media and not nwb_files_called_like(place):
            yield _of_file(
                Path(place), Severity.WARNING, "no-nwb-file", f"{len(media)} of its files {_are(len(media))} called as "
                f"if of {os.path.basename(place)}.nwb, and there is none; if that was renamed, `nwb-extfiles relocate` "
                f"on it brings its videos along",
            )  # fmt: skip


def _are(number: int) -> str:
    return "is" if number == 1 else "are"

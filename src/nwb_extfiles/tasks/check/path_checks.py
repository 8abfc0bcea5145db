"""Checks of single stored paths: whether each works here, in the archive, and for the archive's readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from ...disk.annex import how_to_get, is_annex_pointer
from ...errors import ExternalFilesError, MissingMediaError
from ...hints import for_archive, quoted
from ...naming import is_archived, is_asset_path, is_conventional, is_portable_suffix, is_uuid, unportable
from ...nwb.references import ExternalFileReference
from ...options import MediaOptions
from ...plans.media_files import MediaFile, leads_to_nothing
from ...plans.resolve import Resolution
from ...plans.stored_paths import is_absolute
from ...plans.targets import dandiset_above, nwb_stem
from .findings import Finding, Severity, of_file, of_reference

__all__ = ["PathChecker"]

_RELOCATE = "fix it with `nwb-extfiles relocate`"


class PathChecker:
    """Checks the stored paths of one NWB file.

    Parameters
    ----------
    nwb_path : pathlib.Path
        The NWB file.
    options : MediaOptions
        Of which `naming` is used.
    """

    def __init__(self, nwb_path: Path, options: MediaOptions) -> None:
        self._nwb_path = nwb_path
        self._naming = options.naming
        self._dandiset = dandiset_above(nwb_path)
        # how bad it is if a path breaks in the archive
        self._strict = Severity.WARNING if self._dandiset is None else Severity.ERROR
        self._names_in = cache(_names_in)

    def check_name(self) -> Iterator[Finding]:
        """Find what is wrong with the path of the NWB file itself in its dandiset."""
        if self._dandiset is None:
            return
        path = self._nwb_path.relative_to(self._dandiset)
        reason = next(filter(None, map(unportable, path.parts)), None)
        hint = "rename it, or the folder, and run `nwb-extfiles relocate` on it"
        if not is_asset_path(path.as_posix()):
            yield of_file(
                self._nwb_path, Severity.ERROR, "asset-path", "the archive refuses its path in the dandiset, after all "
                "its bytes were sent", hint, found=_asset_path_problem(path),
            )  # fmt: skip
        elif reason is not None:
            what = "it cannot be downloaded under its name on every system"
            yield of_file(self._nwb_path, Severity.WARNING, "unportable-name", what, hint, found=reason)

    def check(self, resolution: Resolution) -> Iterator[Finding]:
        """Find what is wrong with one stored path."""
        reference = resolution.reference
        if reference.field == "external_file" and not reference.is_list:
            yield of_reference(
                reference, Severity.ERROR, "not-a-list", "external_file is a single string, and pynwb reads NWB files "
                "only if it is a list", "store a list with this one path",
            )  # fmt: skip
        if resolution.url:
            yield self._url(reference)
        elif resolution.file is None:
            yield self._broken(reference, resolution.problem)
        else:
            yield from self._path_as_stored(reference, resolution.file)
            yield from self._content(reference, resolution.file)

    def _url(self, reference: ExternalFileReference) -> Finding:
        # The schema allows a URL for an ExternalImage; nwbinspector, which upload asks, refuses it for an ImageSeries.
        if reference.neurodata_type == "ExternalImage" or reference.field != "external_file":
            return of_reference(reference, Severity.INFO, "url", "it is a URL")
        what, hint = "it is a URL, and `dandi upload` refuses URLs", "run `nwb-extfiles relocate --urls download`"
        return of_reference(reference, self._strict, "url", what, hint)

    def _broken(self, reference: ExternalFileReference, problem: ExternalFilesError | None) -> Finding:
        if problem is not None and not isinstance(problem, MissingMediaError):
            what = problem.what.removeprefix(f"{reference.where}: ")
            return of_reference(reference, Severity.ERROR, "no-media", what, problem.hint)
        if is_absolute(reference.stored_path):
            return of_reference(
                reference, Severity.ERROR, "missing-absolute", "it is an absolute path to a file that is not on this "
                "machine", "tell `nwb-extfiles relocate` where the file is, with --path-map or --search",
            )  # fmt: skip
        place = os.path.normpath(os.path.join(reference.base or self._nwb_path.parent, reference.stored_path))
        if is_annex_pointer(Path(place)):
            return of_reference(
                reference, Severity.ERROR, "missing", "its content is not on this machine, because it is a file of "
                "git-annex", how_to_get(Path(place)),
            )  # fmt: skip
        listed = self._as_listed(Path(place))
        if listed is not None:
            what = "there is no file of that name, but one whose name differs in upper and lower case"
            found = f"the file is {quoted(listed)}"
            hint = "rename it, or its folder, so that it has the name in the path"
            return of_reference(reference, Severity.ERROR, "letter-case", what, hint, found=found)
        what = f"it is {leads_to_nothing(place)}" if os.path.islink(place) else "there is no file"
        return of_reference(
            reference, Severity.ERROR, "missing", what, self._how_to_find(Path(place)), expected=quoted(place)
        )

    def _how_to_find(self, place: Path) -> str:
        hint = "put the file there, or tell `nwb-extfiles relocate` where it is, with --search"
        if self._dandiset is None or not place.is_relative_to(self._dandiset):
            return hint
        # a dandiset.yaml is there after a download, and before the first upload
        return f"if the archive has it, download it with `nwb-extfiles fetch`; else {hint}"

    def _path_as_stored(self, reference: ExternalFileReference, file: MediaFile) -> Iterator[Finding]:
        stored, folder = reference.stored_path, self._nwb_path.parent
        severity, code, what, found = Severity.ERROR, "", "", None
        place = Path(os.path.normpath(folder / stored))
        if is_absolute(stored):
            severity, code, what = (
                self._strict,
                "absolute-path",
                "it is an absolute path, which works only on this machine",
            )
        elif "\\" in stored:
            code, what = "backslash", "it has backslashes, which separate folders only on Windows"
        elif not stored.isascii() and not os.path.exists(os.path.join(reference.base or folder, stored)):
            code = "unicode"
            what = "it differs from the name of the file in Unicode normalization (NFC/NFD); only macOS finds the file"
            found = f"the file is {file.path.name!a}, stored as {stored!a}"
        elif self._dandiset is not None and not place.is_relative_to(self._dandiset):
            code, what = "outside-dandiset", "it points outside the dandiset"
            found = f"the dandiset is {quoted(self._dandiset)}"
        elif not place.is_relative_to(folder):
            severity, code = self._strict, "outside-nwb-folder"
            what = "it points outside the folder of the NWB file, and DANDI clients will not resolve it"
        elif place.exists() and self._finds_other_case(place):
            code = "letter-case"
            what = "it differs from the name of the file in upper and lower case, and Linux does not find the file"
            found = f"the file is {quoted(self._as_listed(place))}"
        else:
            yield from self._portable(reference, place)
            yield from self._folders(reference, place.relative_to(folder))
            yield from self._name(reference, file)
            return
        yield of_reference(reference, severity, code, what, _RELOCATE, found=found)

    def _portable(self, reference: ExternalFileReference, place: Path) -> Iterator[Finding]:
        """Names that the archive refuses, or that files cannot have on other systems."""
        own = None if self._dandiset is None else self._nwb_path.relative_to(self._dandiset)
        path = place.relative_to(self._nwb_path.parent)
        reason = next(filter(None, map(unportable, path.parts)), None)
        # if it refuses the path of the NWB file, that is said once
        if own is not None and is_asset_path(own.as_posix()) and not is_asset_path((own.parent / path).as_posix()):
            what = "the archive refuses the path of the file in the dandiset, after all its bytes were sent"
            found = _asset_path_problem(path)
            yield of_reference(reference, Severity.ERROR, "asset-path", what, _RELOCATE, found=found)
        elif reason is not None:
            what = "it cannot be downloaded or copied under its name on every system"
            yield of_reference(reference, Severity.WARNING, "unportable-name", what, _RELOCATE, found=reason)

    def _finds_other_case(self, place: Path) -> bool:
        """Whether the file system ignores case, and lists the file under another name."""
        return os.path.lexists(place.with_name(place.name.swapcase())) and self._as_listed(place) is not None

    def _as_listed(self, place: Path) -> Path | None:
        """The one path to an existing file that differs in case alone; None if there is none, or it is the path."""
        here = Path(os.path.commonpath([self._nwb_path.parent, place]))
        for part in place.relative_to(here).parts:
            names = self._names_in(here)
            alike = [part] if part in names else [name for name in names if name.casefold() == part.casefold()]
            if len(alike) != 1:
                return None
            here /= alike[0]
        return None if here == place else here

    def _folders(self, reference: ExternalFileReference, path: Path) -> Iterator[Finding]:
        """Names that the archive skips on the way to a video: those with a dot, and symbolic links to folders."""
        hidden = next((part for part in path.parts if part.startswith(".")), None)
        linked = next(
            (above for above in list(path.parents)[:-1] if (self._nwb_path.parent / above).is_symlink()), None
        )
        if hidden is not None:
            what = "a name in it begins with a dot, and DANDI skips such names"
            yield of_reference(reference, self._strict, "hidden", what, _RELOCATE, found=f"the name is {hidden!r}")
        elif linked is not None:
            yield of_reference(
                reference, self._strict, "linked-folder", "it passes a symbolic link to a folder, which DANDI skips",
                "make it a folder, with a link to each file", found=f"the link is {quoted(linked)}",
            )  # fmt: skip

    def _name(self, reference: ExternalFileReference, file: MediaFile) -> Iterator[Finding]:
        object_id = reference.object_id
        if object_id is None:
            return  # DANDI's naming does not say; `relocate` makes a name of what does not change
        if not is_uuid(object_id):
            what = "the object_id is not a UUID, so there is no name for it in DANDI's naming"
            yield of_reference(reference, Severity.INFO, "object-id", what, found=f"it is {object_id[:80]!r}")
            return
        suffix = file.path.suffix.lower()
        stem = nwb_stem(self._nwb_path)
        expected = str(
            self._naming(
                nwb_stem=stem,
                object_id=object_id,
                field=reference.field,
                index=reference.index,
                suffix=suffix if is_portable_suffix(suffix) else "",
            )
        )
        # A list that repeats the videos of a series names those.
        is_shared = reference.repeats and is_conventional(file.path.name)
        if reference.stored_path != expected and not (
            is_shared and reference.stored_path == f"{stem}/{file.path.name}"
        ):
            severity = Severity.WARNING if self._dandiset is not None else Severity.INFO
            yield of_reference(
                reference, severity, "nonstandard-name", "it does not follow DANDI's naming",
                "run `nwb-extfiles relocate` to rename it", expected=repr(expected),
            )  # fmt: skip

    def _content(self, reference: ExternalFileReference, file: MediaFile) -> Iterator[Finding]:
        there = f"the file is {quoted(file.real)}"
        if not os.access(file.real, os.R_OK):
            what, hint = "you have no permission to read it", "change its permissions"
            yield of_reference(reference, Severity.ERROR, "not-readable", what, hint, found=there)
        elif file.size == 0:
            what, hint = "it is empty", "replace it with the video"
            yield of_reference(reference, Severity.ERROR, "empty", what, hint, found=there)
        suffix = PurePosixPath(reference.stored_path.replace("\\", "/")).suffix
        if is_archived(suffix):
            return
        what = f"DANDI does not accept files {f'with the suffix {suffix}' if suffix else 'without a suffix'}"
        if is_archived(suffix.lower()):
            hint = f"run `nwb-extfiles relocate` to rename it to {suffix.lower()}"
        else:
            what, hint = f"{what}, and skips them on upload", for_archive("it", suffix, "relocate it with")
        yield of_reference(reference, self._strict, "suffix", what, hint)


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _asset_path_problem(path: Path) -> str:
    """Which part of a path the archive refuses, and what it accepts."""
    part = next(part for part in path.parts if not is_asset_path(part))
    return f"in {part!r}; it accepts ASCII letters, digits, blanks, single dots inside a name, and ( ) , & # + ~ _ = -"

"""Who needs which media: asked before a name of a media file is removed, or a file at a target is replaced.

A file is known by its device and inode, a name by its folder and its name there, never by the spelling of a path.
The needs of the NWB files of a call are known from their plans. Other NWB files are read, in this order: the owner of a
media folder, the NWB files beside it, those in the dandiset, and those below the nearest folder that the media and the
NWB file have in common. Nothing is read unless a name would be removed or content replaced.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..disk import contents
from ..disk.moves import folded
from ..errors import ExternalFilesError, RelocationRefusedError, UnreadableFileError
from ..hints import Hint, Message, media_modes, quoted
from ..nwb.files import is_nwb_name, nwb_files_called_like, open_nwb, walk_nwb_files
from ..nwb.manifest import ManifestRow, read_manifest
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..options import MediaMode, MediaOptions
from .media_files import MediaFile, media_file
from .plan import Action, Relocation, RelocationPlan
from .resolve import resolve_all
from .targets import dandiset_above

__all__ = ["MediaUsers", "settle"]

_LONGEST_CHAIN = 40  # symbolic links, as in Linux
_MOST_ENTRIES = 20_000  # of folders that are searched below a folder that is not a dandiset

# device and inode of the folder (its path if it does not exist), name as file systems without letter case compare it
_NameKey = tuple[tuple[int, int] | str, str]


@dataclass(frozen=True, slots=True)
class _Need:
    """A reference that leads to a file by some names, each of which it needs."""

    nwb_path: Path
    where: str
    file: MediaFile
    names: frozenset[Path]

    def __str__(self) -> str:
        return f"{self.where} needs it there"


@dataclass(frozen=True, slots=True)
class _UnknownNeed:
    """The owner of a media folder that cannot be read, so that its needs are unknown."""

    nwb_path: Path
    reason: UnreadableFileError

    def __str__(self) -> str:
        return f"it is in the media folder of {self.nwb_path}, whose needs are unknown: {self.reason}"


@dataclass(frozen=True, slots=True)
class _LostName:
    """A name that a plan removes, or whose content it replaces."""

    name: Path
    file: MediaFile
    entry: Relocation
    plan: RelocationPlan
    is_replaced: bool

    def refused(self, reason: str, hint: str) -> ExternalFilesError:
        reference = self.entry.reference
        return RelocationRefusedError(f"{reference.where}: {quoted(self.name)} {reason}", hint=hint, **reference.place)

    def is_needed(self, need: str) -> ExternalFilesError:
        if self.is_replaced:
            hint = "move it away first, and store its new path in that NWB file"
            return self.refused(f"would be replaced, but {need}", hint)
        hint = Hint("relocate both NWB files in one call, or use {modes}", modes=media_modes("copy", "hardlink"))
        return self.refused(f"would be removed, but {need}", hint)


def settle(
    plans: Iterable[RelocationPlan],
    users: MediaUsers,
    *,
    held: RelocationPlan | None = None,
    keep_needed: bool = False,
) -> tuple[dict[Path, RelocationPlan], list[ExternalFilesError]]:
    """Decide for all NWB files of a call together which names are removed, and which files may be replaced.

    Parameters
    ----------
    plans : iterable of RelocationPlan
        All of the call; it is iterated over several times.
    users : MediaUsers
        Knows the other NWB files.
    held : RelocationPlan, optional
        What an earlier call of the same IO did; its media stay as they are.
    keep_needed : bool
        Whether a name that another NWB file needs stays, with a warning. If not, the call is refused. For calls that
        cannot treat the other file too.

    Returns
    -------
    dict of pathlib.Path to RelocationPlan
        The plans that change, by the path of their NWB file.
    list of ExternalFilesError
        The problems: another NWB file would lose its media, content would be lost, or two files want one target.
    """
    lost: list[_LostName] = []
    creators: dict[_NameKey, Path] = {}  # the NWB file that creates targets in a folder
    shared: set[_NameKey] = set()  # folders in which several do
    for plan in plans:
        lost.extend(_lost_names(plan))
        for folder in map(users.key, {place.parent for _, place in _created(plan)}):
            if creators.setdefault(folder, plan.nwb_path) != plan.nwb_path:
                shared.add(folder)
    problems = _contested(plans, shared, users) if shared else []
    if problems or not lost:
        return {}, problems
    changed: dict[Path, RelocationPlan] = {}
    key = users.key
    removed = {key(each.name) for each in lost if not each.is_replaced}
    replaced = {key(each.name): each for each in lost if each.is_replaced}
    names_lost = Counter(each.file.identity for each in replaced.values())
    in_linked_folders = removed & {key(name) for plan in plans for name in plan.kept_names}
    kept = set(in_linked_folders)
    targets: set[_NameKey] = set()
    for plan in plans:
        new = _without_links_to(plan, lambda name: key(name) in replaced, problems)
        if new is not plan:
            changed[plan.nwb_path] = new
        for entry, name in _needed_after(new):
            needed = key(name)
            if needed in removed:
                kept.add(needed)
            each = replaced.get(needed)
            if each is not None and (plan.nwb_path, entry.target) != (each.plan.nwb_path, each.entry.target):
                problems.append(each.is_needed(f"{entry.reference.where} needs it there"))
        places = (plan.nwb_path.parent / entry.target for entry in plan.relocations if entry.target is not None)
        targets.update(removed.intersection(map(key, places)))
    held_names = set() if held is None else {key(name) for _, name in _needed_after(held)}
    warnings_of: dict[Path, list[str]] = defaultdict(list)
    needed_in_call = frozenset(kept)
    for each in lost:
        if key(each.name) in kept and not each.is_replaced:
            continue
        if key(each.name) in held_names:
            hint = Hint("use {copy}, or move both in one call", copy=media_modes("copy"))
            why = "cannot be moved or replaced, because an earlier call of this IO left it there for another entry"
            problems.append(each.refused(why, hint))
            continue
        warnings = warnings_of[each.plan.nwb_path]
        need = users.need_of(each.name, each.file, each.plan)
        if need is not None and keep_needed and not each.is_replaced:
            kept.add(key(each.name))
            warnings.append(f"{each.entry.reference.where}: {quoted(each.name)} stays, because {need}")
        elif need is not None:
            problems.append(each.is_needed(str(need)))
        elif each.is_replaced:
            try:
                new_plans = (changed.get(plan.nwb_path, plan) for plan in plans)
                warnings += _discarded(each, new_plans, users, names_lost[each.file.identity])
            except ExternalFilesError as problem:
                problems.append(problem)
    for plan in plans:
        names = frozenset(each.name for each in _lost_names(plan) if key(each.name) in kept) if kept else frozenset()
        stay = (
            f"{plan.nwb_path}: {name} stays, because another NWB file of the call "
            + ("reaches it through a linked folder" if key(name) in in_linked_folders else "needs it there")
            for name in sorted(names)
            if key(name) in needed_in_call - targets
        )
        new_warnings = (*warnings_of.get(plan.nwb_path, ()), *users.take_warnings(), *stay)
        if new_warnings or names:
            now = changed.get(plan.nwb_path, plan)
            changed[plan.nwb_path] = replace(
                now, warnings=(*now.warnings, *new_warnings), kept_names=now.kept_names | names
            )
    return changed, problems


def _contested(
    plans: Iterable[RelocationPlan], folders: Container[_NameKey], users: MediaUsers
) -> list[ExternalFilesError]:
    """Targets in some folders that two NWB files would both create, as ``a.nwb`` and ``a.h5`` in one folder may."""
    first: dict[_NameKey, tuple[Path, Relocation]] = {}
    problems: list[ExternalFilesError] = []
    for plan in plans:
        for entry, place in _created(plan):
            if users.key(place.parent) not in folders:
                continue
            nwb_path, other = first.setdefault(users.key(place), (plan.nwb_path, entry))
            if nwb_path != plan.nwb_path:
                what = f"its media would be {quoted(place)}, and so would those of {other.reference.where}"
                problems.append(
                    RelocationRefusedError(
                        f"{entry.reference.where}: {what}",
                        hint="rename one of the two NWB files, so that each has a media folder of its own",
                        **entry.reference.place,
                    )
                )
    return problems


def _created(plan: RelocationPlan) -> Iterator[tuple[Relocation, Path]]:
    for entry in plan.relocations:
        if entry.creates_target and entry.target is not None:
            yield entry, plan.nwb_path.parent / entry.target


def _lost_names(plan: RelocationPlan) -> Iterator[_LostName]:
    """The names that a plan removes, and those whose content it replaces by other content."""
    for entry in plan.relocations:
        source = entry.source
        removes_name = plan.removes_name(entry)
        if entry.target is None or not (removes_name or entry.replaces):
            continue
        place = plan.nwb_path.parent / entry.target
        if removes_name and source is not None and source.path != place:
            yield _LostName(source.path, source, entry, plan, is_replaced=False)
        if entry.replaces:
            former = media_file(place)
            if isinstance(former, MediaFile) and (source is None or former.identity != source.identity):
                yield _LostName(place, former, entry, plan, is_replaced=True)


def _needed_after(plan: RelocationPlan) -> Iterator[tuple[Relocation, Path]]:
    """The names by which the references of a plan lead to their media when it is done."""
    for entry in plan.relocations:
        source = entry.source
        if entry.target is not None:
            place = plan.nwb_path.parent / entry.target
            yield from ((entry, name) for name in (_names(place) if entry.action is Action.REUSE else (place,)))
        if source is None:
            continue
        if entry.target is None:
            yield from ((entry, name) for name in _names(source.path))
        elif entry.is_transfer and plan.mode_of(entry) is MediaMode.SYMLINK:
            yield entry, source.real


def _without_links_to(
    plan: RelocationPlan, is_replaced: Callable[[Path], bool], problems: list[ExternalFilesError]
) -> RelocationPlan:
    """A plan in which no symbolic link and no path leads to a file that is replaced in the same call.

    Instead of a link, the file itself is moved to its target.
    """
    entries = []
    for entry in plan.relocations:
        source, new = entry.source, entry
        if source is not None and is_replaced(source.real):
            if entry.action is Action.REWRITE_PATH:
                problems.append(
                    RelocationRefusedError(
                        f"{entry.reference.where}: {quoted(source.real)} is to be replaced by another file in the same "
                        f"call",
                        hint=Hint("use {copy}, which keeps its content", copy=media_modes("copy")),
                        **entry.reference.place,
                    )
                )
            elif entry.is_transfer and plan.mode_of(entry) is MediaMode.SYMLINK:
                new = replace(entry, own_mode=MediaMode.MOVE)
        entries.append(new)
    same = all(one is other for one, other in zip(entries, plan.relocations, strict=True))
    return plan if same else replace(plan, relocations=tuple(entries))


def _discarded(each: _LostName, plans: Iterable[RelocationPlan], users: MediaUsers, names_lost: int) -> list[str]:
    """Warn of content that is replaced and exists nowhere else. Raises if it must not be lost.

    `names_lost` of its names (hard links) are replaced in the call; if it has more, it keeps one.
    """
    former, reference = each.file, each.entry.reference
    if former.is_link or os.stat(former.real).st_nlink > names_lost:
        return []  # the file keeps another name
    if not os.access(former.real, os.R_OK):
        why = "would be replaced, but cannot be read, so it is unknown what would be lost"
        raise each.refused(why, "make it readable, or move it away first")
    for plan in plans:
        for entry in plan.relocations:
            source = entry.source
            if source is None or source.size != former.size:
                continue
            if source.identity == former.identity:
                if entry.creates_target and plan.mode_of(entry) is not MediaMode.SYMLINK:
                    return []  # the call puts it in another place
            elif contents.same_content(source.real, former.real):
                return []  # another file of the call has the same content
    owner = users.whose_manifest(former, each.plan, reference.entry)
    if owner is not None:
        nwb_path, row = owner
        raise each.refused(
            f"would be replaced, and it is the only copy here of {row.original_name!r}, which the manifest of "
            f"{nwb_path} names for {row.referring_object_path!r}",
            "move that file away first, or put each file in its place with --repair, all NWB files in one call",
        )
    what = f"{reference.where}: {quoted(each.name)} ({former.size:,} bytes) is replaced, and its content is discarded"
    return [what]


def _names(path: Path) -> Iterator[Path]:
    """The names by which a path leads to its file: itself, and those of each symbolic link on the way."""
    for _ in range(_LONGEST_CHAIN):
        yield path
        if not path.is_symlink():
            return
        link = Path(path.parent, os.readlink(path))
        path = Path(os.path.realpath(link.parent), link.name)


class MediaUsers:
    """The NWB files that are not part of a call, and the media that they refer to.

    Those in `served` are relocated, replaced or removed by the call: their needs are those of their plans.
    """

    def __init__(self, served: Iterable[Path], options: MediaOptions) -> None:
        self._folder_identity = cache(_identity)
        self._owners = cache(nwb_files_called_like)  # of a folder with many media
        self._served = set(map(self.key, served))  # a hard link to one, as in a backup, is another NWB file
        self._fields = media_fields(options.media_fields)
        self._read: dict[Path, tuple[list[_Need], list[ManifestRow]]] = {}
        self._skipped: dict[Path, None] = {}  # files of the call, whose references are known from their plans
        self._unreadable: dict[Path, UnreadableFileError] = {}
        self._by_file: dict[tuple[int, int], list[_Need]] = defaultdict(list)
        self._searched: set[Path] = set()  # folders; with ** those with all below them
        self._known: set[tuple[Path, Path]] = set()  # folders of names, and NWB files from which all in reach was read
        self._warnings: list[str] = []

    def key(self, name: Path) -> _NameKey:
        """A key by which a name is known, however its folder is spelled."""
        folder, last = os.path.split(name)  # names are many, and paths take longer than strings
        return self._folder_identity(folder) or folder, folded(last)

    def take_warnings(self) -> list[str]:
        """New warnings of what could not be read or searched."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def use_folder(self, folder: Path, near: Path) -> bool:
        """Whether an NWB file that is not part of the call refers to media in a folder beside another one."""
        for path in self._beside(folder, near):
            self._look_into(path)
        return any(folder in {name.parent for name in need.names} for needs, _ in self._read.values() for need in needs)

    def need_of(self, name: Path, file: MediaFile, plan: RelocationPlan) -> _Need | _UnknownNeed | None:
        """A reference that needs a name of a file, or may need it, in an NWB file that is not part of the call."""
        place = name.parent, plan.nwb_path
        # All names in one folder have the same NWB files in reach.
        for step in [()] if place in self._known else self._in_reach(name, plan):
            for path in step:
                self._look_into(path)
            for need in self._by_file.get(file.identity, ()):
                if self.key(name) in map(self.key, need.names):
                    return need
        self._known.add(place)
        for path in self._owners(name.parent):
            if path in self._unreadable and self.key(path) not in self._served:
                return _UnknownNeed(path, self._unreadable[path])
        return None

    def whose_manifest(
        self, file: MediaFile, plan: RelocationPlan, entry: tuple[str, str, int]
    ) -> tuple[Path, ManifestRow] | None:
        """An NWB file, of the call or not, whose manifest names this content, and which does not have it elsewhere."""
        for step in (*self._in_reach(file.path, plan), self._skipped):
            for path in step:
                self._look_into(path, even_served=True)
        digest: str | None = None
        known = {(row.place, row.sha256) for row in plan.manifest or ()}
        for path, (_, rows) in self._read.items():
            for row in rows:
                is_gone = path == plan.nwb_path and row.place == entry and (entry, row.sha256) not in known
                if row.size_in_bytes != file.size or is_gone:
                    continue  # gone: a row of the file that is replaced, which its new content does not have
                digest = digest or contents.digest_of(file.real)
                own = media_file(path.parent / row.path)
                has_its_own = isinstance(own, MediaFile) and own.identity != file.identity and own.size == file.size
                if row.sha256 == digest and not (
                    has_its_own and isinstance(own, MediaFile) and contents.digest_of(own.real) == digest
                ):
                    return path, row
        return None

    def _in_reach(self, name: Path, plan: RelocationPlan) -> Iterator[Iterable[Path]]:
        """NWB files that may refer to a name, the most likely first."""
        near = plan.nwb_path
        yield [*self._beside(name.parent, near)]
        roots = {root for root in map(dandiset_above, (near, name)) if root is not None}
        for root in sorted(roots):
            yield self._below(root)
        if not any(name.is_relative_to(root) and near.is_relative_to(root) for root in roots):
            yield self._below(_common_folder(name.parent, near.parent), _MOST_ENTRIES)

    def _beside(self, folder: Path, near: Path) -> Iterator[Path]:
        """The owner of a media folder, and the NWB files beside it, in it, and beside another NWB file."""
        yield from self._owners(folder)
        for place in dict.fromkeys((folder.parent, folder, near.parent)):
            yield from self._in_folder(place)

    def _in_folder(self, folder: Path) -> Iterator[Path]:
        if folder in self._searched:
            return
        self._searched.add(folder)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return
        yield from (folder / name for name in names if is_nwb_name(folder / name))

    def _below(self, folder: Path | None, most: int | None = None) -> Iterator[Path]:
        if folder is None or folder / "**" in self._searched:
            return
        self._searched.add(folder / "**")
        is_incomplete = yield from walk_nwb_files(folder, most)
        if is_incomplete:
            what = f"not all folders below {folder} were searched for other NWB files that use the media to be removed"
            self._warnings.append(Message(what, "find them with `nwb-extfiles ls --media VIDEO FOLDER`"))

    def _look_into(self, path: Path, *, even_served: bool = False) -> None:
        """Read the references of an NWB file, once."""
        is_served = self.key(path) in self._served
        if path in self._read:
            return
        if is_served and not even_served:
            self._skipped[path] = None
            return
        references: list[ExternalFileReference] = []
        rows: list[ManifestRow] = []
        try:
            with open_nwb(path) as file:
                references = find_in_file(file, self._fields)
                rows = read_manifest(file, path) or []
        except UnreadableFileError as error:
            self._unreadable[path] = error
            if path.suffix.lower() in (".nwb", ".zarr"):  # others may be of any kind
                what = f"whether {path} needs media that would be removed is unknown: {error.what}"
                self._warnings.append(Message(what, error.hint))
        except ExternalFilesError:
            pass  # a manifest that cannot be read names nothing
        self._read[path] = [], rows
        for found in resolve_all(references, MediaOptions(), destination=path.parent) if not is_served else ():
            if found.file is not None:
                need = _Need(path, found.reference.where, found.file, frozenset(_names(found.file.path)))
                self._read[path][0].append(need)
                self._by_file[found.file.identity].append(need)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _common_folder(first: Path, second: Path) -> Path | None:
    """The nearest folder that two have in common; None if that is the root or a home."""
    try:
        common = Path(os.path.commonpath((first, second)))
    except ValueError:  # two drives of Windows
        return None
    return None if common in (Path(common.anchor), Path.home(), Path.home().parent) else common

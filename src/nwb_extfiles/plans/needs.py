"""Who needs which media: asked before a name of a media file is removed, or what stands at a target is replaced.

A file is known by its device and inode, a name by its folder and how it is called there, never by the text of a path.
What a call does to the NWB files that it treats is known from their plans. Other NWB files are read, in this order:
the owner of a media folder, the NWB files beside, those in the dandiset, and those below the nearest folder that the
media and the NWB file have in common. Nothing is read unless a name would go or content would be replaced.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..disk import contents
from ..disk.moves import folded
from ..errors import ExternalFilesError, RelocationRefusedError, UnreadableFileError
from ..nwb.files import is_nwb_name, nwb_files_called_like, open_nwb, walk_nwb_files
from ..nwb.manifest import ManifestRow, read_manifest
from ..nwb.references import ExternalFileReference
from ..nwb.registry import media_fields
from ..nwb.scan import find_in_file
from ..options import MediaMode, MediaOptions
from .plan import Action, Relocation, RelocationPlan
from .resolve import MediaFile, media_file, resolve_all
from .targets import dandiset_above

__all__ = ["MediaUsers", "settle"]

_LONGEST_CHAIN = 40  # symbolic links, as in Linux
_MOST_ENTRIES = 20_000  # of folders that are looked through below a folder that is no dandiset

# device and inode of the folder (its path where there is none), name as file systems without letter case compare it
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
class _Unknown:
    """The owner of a media folder that cannot be read, so that nobody knows what it needs."""

    nwb_path: Path
    reason: UnreadableFileError

    def __str__(self) -> str:
        return f"it is in the media folder of {self.nwb_path}, of which nobody knows what it needs: {self.reason}"


@dataclass(frozen=True, slots=True)
class _Departure:
    """A name that is to go, or whose content is to be replaced."""

    name: Path
    file: MediaFile
    entry: Relocation
    plan: RelocationPlan
    is_replaced: bool


def settle(
    plans: Iterable[RelocationPlan],
    users: MediaUsers,
    *,
    held: RelocationPlan | None = None,
    keep_needed: bool = False,
) -> tuple[dict[Path, RelocationPlan], list[ExternalFilesError]]:
    """Decide for all NWB files of a call together which names go, and whether what is replaced may be.

    Parameters
    ----------
    plans : iterable of RelocationPlan
        All of the call; gone through several times.
    users : MediaUsers
        Who knows the other NWB files.
    held : RelocationPlan, optional
        What an earlier call of the same IO has done, whose media are to stay as they are.
    keep_needed : bool
        Whether a name that another NWB file needs stays, with a warning, where else the call is refused: for calls
        that cannot treat that file too.

    Returns
    -------
    dict of pathlib.Path to RelocationPlan
        The plans that change by it, by the path of their NWB file.
    list of ExternalFilesError
        What speaks against the call: another NWB file would lose its media, or content would be lost.
    """
    departures = [departure for plan in plans for departure in _departures(plan)]
    if not departures:
        return {}, []
    problems: list[ExternalFilesError] = []
    changed: dict[Path, RelocationPlan] = {}
    key = cache(users.key)
    removed = {key(departure.name) for departure in departures if not departure.is_replaced}
    replaced = {key(departure.name): departure for departure in departures if departure.is_replaced}
    kept: set[_NameKey] = set()
    targets: set[_NameKey] = set()
    for plan in plans:
        new = _without_links_to(plan, lambda name: key(name) in replaced, problems)
        if new is not plan:
            changed[plan.nwb_path] = new
        for entry, name in _needed_after(new):
            needed = key(name)
            if needed in removed:
                kept.add(needed)
            departure = replaced.get(needed)
            if departure is not None and not _gets_there(entry, plan, departure):
                problems.append(_is_needed(departure, f"{entry.reference.where} needs it there"))
        targets.update(removed.intersection(map(key, _places(plan))))
    held_names = set() if held is None else {key(name) for _, name in _needed_after(held)}
    remarks_of: dict[Path, list[str]] = defaultdict(list)
    needed_here = frozenset(kept)
    for departure in departures:
        if key(departure.name) in kept and not departure.is_replaced:
            continue
        if key(departure.name) in held_names:
            problems.append(_is_held(departure))
            continue
        need = users.need_of(departure.name, departure.file, departure.plan)
        if need is not None and keep_needed and not departure.is_replaced:
            kept.add(key(departure.name))
            remarks_of[departure.plan.nwb_path].append(
                f"{departure.entry.reference.where}: {str(departure.name)!r} stays, because {need}"
            )
        elif need is not None:
            problems.append(_is_needed(departure, str(need)))
        elif departure.is_replaced:
            problem, remark = _of_replaced(departure, (changed.get(plan.nwb_path, plan) for plan in plans), users)
            problems.extend([problem] if problem else [])
            remarks_of[departure.plan.nwb_path].extend([remark] if remark else [])
    for plan in plans:
        names = frozenset(departure.name for departure in _departures(plan) if key(departure.name) in kept)
        stay = (
            f"{plan.nwb_path}: {name} stays, because another NWB file of the call needs it there"
            for name in sorted(names)
            if key(name) in needed_here - targets
        )
        remarks = (*remarks_of.get(plan.nwb_path, ()), *users.take_remarks(), *stay)
        if remarks or names:
            now = changed.get(plan.nwb_path, plan)
            changed[plan.nwb_path] = replace(now, warnings=(*now.warnings, *remarks), kept_names=names)
    return changed, problems


def _departures(plan: RelocationPlan) -> Iterator[_Departure]:
    """The names that a plan removes, and those whose content it replaces by other content."""
    folder = plan.nwb_path.parent
    for entry in plan.relocations:
        source = entry.source
        if entry.target is None:
            continue
        place = folder / entry.target
        goes = plan.mode is MediaMode.MOVE or entry.action is Action.RENAME or entry.removes_source
        if goes and source is not None and source.path != place:
            yield _Departure(source.path, source, entry, plan, is_replaced=False)
        if entry.replaces:
            former = media_file(place)
            is_same = isinstance(former, MediaFile) and source is not None and former.identity == source.identity
            if isinstance(former, MediaFile) and not is_same:
                yield _Departure(place, former, entry, plan, is_replaced=True)


def _places(plan: RelocationPlan) -> Iterator[Path]:
    return (plan.nwb_path.parent / entry.target for entry in plan.relocations if entry.target is not None)


def _gets_there(entry: Relocation, plan: RelocationPlan, departure: _Departure) -> bool:
    """Whether an entry means what replaces something else."""
    return plan.nwb_path == departure.plan.nwb_path and entry.target == departure.entry.target


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

    Such a file itself gets to the place where it is wanted.
    """
    entries = []
    for entry in plan.relocations:
        source, new = entry.source, entry
        if source is not None and is_replaced(source.real):
            if entry.action is Action.REWRITE_PATH:
                problems.append(
                    RelocationRefusedError(
                        f"{entry.reference.where}: {str(source.real)!r} is to be replaced by another file in the same "
                        f"call; use media_mode 'copy', which takes its content along",
                        **entry.reference.place,
                    )
                )
            elif entry.is_transfer and plan.mode_of(entry) is MediaMode.SYMLINK:
                new = replace(entry, own_mode=MediaMode.MOVE)
        entries.append(new)
    same = all(one is other for one, other in zip(entries, plan.relocations, strict=True))
    return plan if same else replace(plan, relocations=tuple(entries))


def _of_replaced(
    departure: _Departure, plans: Iterable[RelocationPlan], users: MediaUsers
) -> tuple[ExternalFilesError | None, str | None]:
    """Whether content that is to be replaced may go: a problem, or what to say of content that is discarded."""
    former = departure.file
    if former.is_link:
        return None, None  # the file that it leads to stays
    if os.stat(former.real).st_nlink > 1:
        return None, None  # it has another name
    if not os.access(former.real, os.R_OK):
        return (
            RelocationRefusedError(
                f"{departure.entry.reference.where}: {str(departure.name)!r} would be replaced, and it may not be "
                f"read, so nobody knows what would be lost; make it readable, or move it away first",
                **departure.entry.reference.place,
            ),
            None,
        )
    for plan in plans:
        for entry in plan.relocations:
            source = entry.source
            if source is None or source.size != former.size:
                continue
            gets_there = entry.creates_target and plan.mode_of(entry) is not MediaMode.SYMLINK
            if source.identity == former.identity:
                if gets_there:
                    return None, None  # it gets to another place in the same call
            elif contents.same_content(source.real, former.real):
                return None, None  # another file of the call has the same content
    owner = users.whose_manifest(former, departure.plan, departure.entry.reference.entry)
    place = departure.entry.reference.place
    if owner is not None:
        nwb_path, row = owner
        return (
            RelocationRefusedError(
                f"{departure.entry.reference.where}: {str(departure.name)!r} would be replaced, and it is the only "
                f"copy here of {row.original_name!r}, which the manifest of {nwb_path} names for "
                f"{row.referring_object_path!r}; move that file away first, or bring each file to its place with "
                f"--repair, all NWB files in one call",
                **place,
            ),
            None,
        )
    return None, (
        f"{departure.entry.reference.where}: {str(departure.name)!r} ({former.size:,} bytes) is replaced, and its "
        f"content is discarded"
    )


def _is_needed(departure: _Departure, need: str) -> ExternalFilesError:
    verb = "be replaced" if departure.is_replaced else "go"
    return RelocationRefusedError(
        f"{departure.entry.reference.where}: {str(departure.name)!r} would {verb}, but {need}; "
        + (
            "move it away first, and give that NWB file its new path"
            if departure.is_replaced
            else "relocate both NWB files in one call, or use media_mode 'copy' or 'hardlink'"
        ),
        **departure.entry.reference.place,
    )


def _is_held(departure: _Departure) -> ExternalFilesError:
    return RelocationRefusedError(
        f"{departure.entry.reference.where}: {str(departure.name)!r} cannot be moved or replaced, because an earlier "
        f"call of this IO left it there for another entry; use media_mode 'copy', or move both in one call",
        **departure.entry.reference.place,
    )


def _names(path: Path) -> Iterator[Path]:
    """The names by which a path leads to its file: itself, and those of each symbolic link on the way."""
    for _ in range(_LONGEST_CHAIN):
        yield path
        if not path.is_symlink():
            return
        link = Path(path.parent, os.readlink(path))
        path = Path(os.path.realpath(link.parent), link.name)


class MediaUsers:
    """The NWB files that a call does not treat, and the media that they refer to.

    Parameters
    ----------
    served : iterable of pathlib.Path
        NWB files that the call treats, replaces or takes away: their needs are those of their plans.
    options : MediaOptions
        Of which `media_fields` is used.
    on_file : callable, optional
        Called with the path of each NWB file that is about to be read.
    """

    def __init__(
        self,
        served: Iterable[Path],
        options: MediaOptions,
        on_file: Callable[[Path], object] = lambda path: None,
    ) -> None:
        self._folder_identity = cache(_identity)
        self._owners = cache(nwb_files_called_like)  # of a folder with many media
        self._served = set(map(self.key, served))  # a hard link of one, as in a backup, is another NWB file
        self._fields = media_fields(options.media_fields)
        self._on_file = on_file
        self._read: dict[Path, tuple[list[_Need], list[ManifestRow]]] = {}
        self._passed_over: dict[Path, None] = {}  # files of the call, whose references are known from their plans
        self._unreadable: dict[Path, UnreadableFileError] = {}
        self._by_file: dict[tuple[int, int], list[_Need]] = defaultdict(list)
        self._looked_through: set[Path] = set()
        self._searched: set[tuple[Path, Path]] = set()  # folders of names, and NWB files from which they were sought
        self._remarks: list[str] = []

    def key(self, name: Path) -> _NameKey:
        """What tells a name from others, however its folder is spelled."""
        folder = self._folder_identity(name.parent)
        return str(name.parent) if folder is None else folder, folded(name.name)

    def take_remarks(self) -> list[str]:
        """What deserves a warning: what could not be read or looked through."""
        remarks, self._remarks = self._remarks, []
        return remarks

    def use_folder(self, folder: Path, near: Path) -> bool:
        """Whether a file that the call does not treat refers to media in a folder beside an NWB file."""
        for path in self._beside(folder, near):
            self._look_into(path)
        return any(folder in {name.parent for name in need.names} for needs, _ in self._read.values() for need in needs)

    def need_of(self, name: Path, file: MediaFile, plan: RelocationPlan) -> _Need | _Unknown | None:
        """A reference that needs a name of a file, or may do so, in an NWB file that the call does not treat."""
        place = name.parent, plan.nwb_path
        # All names in one folder have the same NWB files in reach.
        for step in [()] if place in self._searched else self._in_reach(name, plan):
            for path in step:
                self._look_into(path)
            for need in self._by_file.get(file.identity, ()):
                if self.key(name) in map(self.key, need.names):
                    return need
        self._searched.add(place)
        for path in self._owners(name.parent):
            if path in self._unreadable and self.key(path) not in self._served:
                return _Unknown(path, self._unreadable[path])
        return None

    def whose_manifest(
        self, file: MediaFile, plan: RelocationPlan, entry: tuple[str, str, int]
    ) -> tuple[Path, ManifestRow] | None:
        """An NWB file, of the call too, whose manifest names content that is not where the manifest has it."""
        for step in self._in_reach(file.path, plan):
            for path in step:
                self._look_into(path, even_served=True)
        for path in self._passed_over:
            self._look_into(path, even_served=True)
        digest: str | None = None
        known = {(row.place, row.sha256) for row in plan.manifest or ()}
        for path, (_, rows) in self._read.items():
            for row in rows:
                is_gone = path == plan.nwb_path and row.place == entry and (entry, row.sha256) not in known
                if row.size_in_bytes != file.size or is_gone:
                    continue  # a row of an NWB file that is written anew, with what it is written from
                digest = digest or contents.digest_of(file.real)
                own = media_file(path.parent / row.path)
                is_there = isinstance(own, MediaFile) and own.identity != file.identity and own.size == file.size
                if row.sha256 == digest and not (
                    is_there and isinstance(own, MediaFile) and contents.digest_of(own.real) == digest
                ):
                    return path, row
        return None

    def _in_reach(self, name: Path, plan: RelocationPlan) -> Iterator[Iterable[Path]]:
        """NWB files that may refer to a name, the likeliest first."""
        near = plan.nwb_path
        yield [*self._beside(name.parent, near)]
        roots = {root for root in map(dandiset_above, (near, name)) if root is not None}
        for root in sorted(roots):
            yield self._below(root)
        if not any(name.is_relative_to(root) and near.is_relative_to(root) for root in roots):
            yield self._below(_common_folder(name.parent, near.parent), _MOST_ENTRIES)

    def _beside(self, folder: Path, near: Path) -> Iterator[Path]:
        """The owner of a media folder, and the NWB files beside it, in it, and beside another one."""
        yield from self._owners(folder)
        for place in dict.fromkeys((folder.parent, folder, near.parent)):
            yield from self._in_folder(place)

    def _in_folder(self, folder: Path) -> Iterator[Path]:
        if folder in self._looked_through:
            return
        self._looked_through.add(folder)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return
        yield from (folder / name for name in names if is_nwb_name(folder / name))

    def _below(self, folder: Path | None, most: int | None = None) -> Iterator[Path]:
        key = None if folder is None else folder / "**"
        if folder is None or key is None or key in self._looked_through:
            return
        self._looked_through.add(key)
        left = yield from walk_nwb_files(folder, most)
        if left:
            self._remarks.append(
                f"not all folders below {folder} were searched for other NWB files that use the media that go; "
                f"`nwb-extfiles ls --media VIDEO FOLDER` finds them"
            )

    def _look_into(self, path: Path, *, even_served: bool = False) -> None:
        """Read what an NWB file refers to, once."""
        is_served = self.key(path) in self._served
        if path in self._read:
            return
        if is_served and not even_served:
            self._passed_over[path] = None
            return
        self._on_file(path)
        references: list[ExternalFileReference] = []
        rows: list[ManifestRow] = []
        try:
            with open_nwb(path) as file:
                references = find_in_file(file, self._fields)
                rows = read_manifest(file, path) or []
        except UnreadableFileError as error:
            self._unreadable[path] = error
            if path.suffix.lower() in (".nwb", ".zarr"):  # others may be of any kind
                self._remarks.append(f"whether {path} needs media that go is not known: {error}")
        except ExternalFilesError:
            pass  # a manifest that cannot be read names nothing
        self._read[path] = [], rows
        for found in resolve_all(references, MediaOptions(), destination=path.parent) if not is_served else ():
            if found.file is not None:
                need = _Need(path, found.reference.where, found.file, frozenset(_names(found.file.path)))
                self._read[path][0].append(need)
                self._by_file[found.file.identity].append(need)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _common_folder(first: Path, second: Path) -> Path | None:
    """The nearest folder that two have in common; None where that is the root of everything or a home."""
    try:
        common = Path(os.path.commonpath((first, second)))
    except ValueError:  # two drives of Windows
        return None
    return None if common in (Path(common.anchor), Path.home(), Path.home().parent) else common

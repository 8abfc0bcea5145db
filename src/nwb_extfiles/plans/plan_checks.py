"""What is wrong with a plan as a whole: what refuses it, and what its user is warned of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from ..errors import ExternalFilesError, RelocationRefusedError, UnsafeReferenceError
from ..hints import Hint, Message, for_archive, media_modes, quoted
from ..nwb.references import ExternalFileReference
from ..options import MediaMode
from .media_files import MediaFile
from .places import warn_of_unused
from .plan import Action, Relocation, RelocationPlan
from .targets import CORRECT_NAMING, Destination, Named, case_folded

__all__ = ["once_for_each_series", "problems_of", "unused_prefixes", "warnings_of"]

_ADVISED_MODES = (MediaMode.COPY, MediaMode.MOVE, MediaMode.REFERENCE, MediaMode.SYMLINK, MediaMode.HARDLINK)


def problems_of(plan: RelocationPlan, destination: Destination, named: Sequence[Named]) -> list[ExternalFilesError]:
    """All that refuses a plan, beside what is wrong with single references."""
    return [
        *_no_links(plan, destination),
        *_no_space(plan, destination),
        *_inside_one_another(plan.relocations),
        *_only_copied(named, plan.mode),
    ]


def warnings_of(plan: RelocationPlan, is_archived: Callable[[str], bool]) -> Iterator[Message]:
    """What the user of a plan should know. `is_archived` says whether the archive accepts files with a suffix."""
    yield from _without_content(plan.relocations)
    yield from _not_archived(plan.relocations, is_archived)
    yield from _originals_beside(plan)


def unused_prefixes(plans: Iterable[RelocationPlan]) -> Iterator[Message]:
    """Warn once of all prefixes of `path_map` that fit no path of the NWB files of a call."""
    with_paths = [plan.unused_prefixes for plan in plans if plan.relocations]
    return warn_of_unused(frozenset.intersection(*with_paths)) if with_paths else iter(())


def _no_links(plan: RelocationPlan, destination: Destination) -> Iterator[ExternalFilesError]:
    """Refuse once what would fail for each file."""
    mode = plan.mode
    if not any(entry.is_transfer for entry in plan.relocations):
        return
    if destination.lacks_privilege:
        yield RelocationRefusedError(
            f"{destination.nwb_path}: Windows lets this user make no symbolic links",
            hint=Hint(
                "turn on developer mode in Windows, or use {modes}",
                modes=media_modes("auto", "copy", "hardlink", "move", "reference"),
            ),
            nwb_path=str(destination.nwb_path),
        )
    elif mode in destination.cannot:
        missing = "neither symbolic nor hard links"
        why = "as exFAT and FAT have none"
        if mode is MediaMode.REFLINK:
            missing, why = "no reflinks of these media", "which need btrfs, XFS or the like on one disk"
        elif len(destination.cannot) == 1:
            missing = "no symbolic links" if mode is MediaMode.SYMLINK else "no hard links"
        modes = media_modes(*(other for other in _ADVISED_MODES if other not in destination.cannot))
        yield RelocationRefusedError(
            f"{destination.nwb_path}: the file system of {quoted(destination.nwb_path.parent)} has {missing}, {why}",
            hint=Hint("use {modes}", modes=modes),
            nwb_path=str(destination.nwb_path),
        )


def _no_space(plan: RelocationPlan, destination: Destination) -> Iterator[ExternalFilesError]:
    needed = plan.copied_bytes + plan.remux_bytes + plan.download_bytes
    if destination.free is not None and needed > destination.free:
        yield RelocationRefusedError(
            f"{destination.nwb_path}: its media need {needed:,} bytes, and {destination.free:,} are free in "
            f"{quoted(destination.nwb_path.parent)}",
            hint=Hint("make space, or use {modes}", modes=media_modes("symlink", "hardlink", "reference")),
            nwb_path=str(destination.nwb_path),
        )


def _inside_one_another(planned: Sequence[Relocation]) -> Iterator[ExternalFilesError]:
    """Find targets that are folders of others, which the caller's naming function may give."""
    targets = {case_folded(entry.target) for entry in planned if entry.target is not None}
    is_media = cache(lambda folder: any(case_folded(above) in targets for above in (folder, *folder.parents)))
    for entry in planned:
        if entry.target is not None and is_media(entry.target.parent):
            yield UnsafeReferenceError(
                f"{entry.reference.where}: its media would be {quoted(entry.target)}, but other media have the name of "
                f"a folder of that path",
                hint=CORRECT_NAMING,
                **entry.reference.place,
            )


def _only_copied(named: Sequence[Named], mode: MediaMode) -> Iterator[ExternalFilesError]:
    """Refuse once, in modes other than ``"copy"``, what has to be remuxed: neither a link nor a move changes a file."""
    found = [each.resolution for each in named if each.resolution.remux is not None]
    if mode is MediaMode.COPY or not found:
        return
    reference, file = found[0].reference, found[0].file
    name = "" if file is None else quoted(file.path)
    more = "" if len(found) == 1 else f" and {len(found) - 1} more"
    yield RelocationRefusedError(
        f"{reference.where}: {name}{more} must be remuxed for DANDI, which makes new files, and media_mode is "
        f"{str(mode)!r}",
        hint=Hint("use {copy}; the originals stay where they are", copy=media_modes(MediaMode.COPY)),
        **reference.place,
    )


def once_for_each_series(
    entries: Iterable[Relocation], is_bad: Callable[[MediaFile], bool], what: Callable[[MediaFile], str], hint: str
) -> Iterator[Message]:
    """Warn once for each series with files of which something is true; each file is asked about once.

    Parameters
    ----------
    entries : iterable of Relocation
        Those without a source are passed over.
    is_bad : callable
        Whether it is true of a file.
    what : callable
        What is wrong with a file, as the end of a sentence that begins with its path.
    hint : str
        What to do.
    """
    seen: set[tuple[int, int]] = set()
    found: dict[tuple[str, str], list[tuple[ExternalFileReference, MediaFile]]] = {}
    for entry in entries:
        reference, source = entry.reference, entry.source
        if source is None or source.identity in seen:
            continue
        seen.add(source.identity)
        if is_bad(source):
            found.setdefault((reference.object_path, reference.field), []).append((reference, source))
    for (reference, source), *more in found.values():
        further = f" (and {len(more):,} more of this series)" if more else ""
        yield Message(f"{reference.where}: {quoted(source.path)} {what(source)}{further}", hint)


def _without_content(planned: Sequence[Relocation]) -> Iterator[Message]:
    """Warn of files of zero bytes, which a full disk or a recording that failed leaves."""
    return once_for_each_series(
        planned,
        lambda file: not file.size,
        lambda file: "has zero bytes",
        "put the video in its place, before or after this",
    )


def _not_archived(planned: Sequence[Relocation], is_archived: Callable[[str], bool]) -> Iterator[Message]:
    """Warn once for each series and suffix: a series of image files may have thousands."""
    dropped: dict[tuple[str, str, str], list[Relocation]] = {}
    for entry in planned:
        known = entry.source is not None or entry.remote is not None
        if not known or entry.target is None or entry.action is Action.SHARE or is_archived(entry.target.suffix):
            continue
        place = entry.reference.object_path, entry.reference.field, entry.target.suffix
        dropped.setdefault(place, []).append(entry)
    for (_, _, suffix), entries in dropped.items():
        first = entries[0]
        source = first.source.path if first.source is not None else first.remote
        kind = f"files that end in {suffix}" if suffix else "files without a suffix"
        further = "" if len(entries) == 1 else f" and {len(entries) - 1} more of this series"
        name = "" if source is None else repr(source.name)
        yield Message(
            f"{first.reference.where}: DANDI does not accept {kind}: it skips {str(first.target)!r}{further} on upload",
            for_archive(f"{name}{further}", suffix),
        )


def _originals_beside(plan: RelocationPlan) -> Iterator[Message]:
    """Say which originals stay in the media folder, where an upload to DANDI skips them."""
    for entry in plan.relocations:
        if entry.remux is None or entry.source is None or entry.target is None:
            continue
        if entry.source.path.parent == (plan.nwb_path.parent / entry.target).parent:
            yield Message(
                f"{entry.reference.where}: {quoted(entry.source.path)} stays beside the remuxed file, and no path "
                f"leads to it any more",
                "delete it, or move it away, once you have checked the new file",
            )

"""Where NWB files go in a dandiset: the names that DANDI gives them, beside the files that are already there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...disk import filesystem
from ...errors import RelocationRefusedError
from ...hints import Message, shell_word
from ...nwb.comparison import same_content
from ...nwb.files import is_nwb_name
from ...nwb.manifest import MANIFEST_TYPES
from ...nwb.registry import MediaField
from ...plans.targets import nwb_stem
from .inspected import Inspected, Named
from .inspection import SUFFIX, read_named
from .layout import dandi_paths
from .plan import OrganizeSettings

if TYPE_CHECKING:
    from .known import KnownFiles

__all__ = ["dandiset_targets", "name_files"]


def dandiset_targets(
    inspected: list[Inspected],
    settings: OrganizeSettings,
    table: Sequence[MediaField],
    warnings: list[str],
    known: KnownFiles | None = None,
) -> list[tuple[Inspected, Path]]:
    """Choose where each file goes; of two in a dandiset with the same content, one gets no place.

    Parameters
    ----------
    inspected : list of Inspected
        All files of the call: a name depends on all of them.
    settings : OrganizeSettings
        What the caller asks for.
    table : sequence of MediaField
        The places of paths, which do not count when files are compared.
    warnings : list of str
        Gets one for each file of the dandiset whose name has less in it than DANDI would put there now.
    known : KnownFiles, optional
        What earlier runs know of the bytes of files.

    Raises
    ------
    RelocationRefusedError
        If DANDI finds no names that differ.
    """
    metadata = [item.metadata for item in inspected]
    duplicates = _duplicates(inspected, settings, table)
    numbers = [number for number in range(len(metadata)) if number not in duplicates]
    named = dict(zip(numbers, name_files([metadata[number] for number in numbers], settings), strict=True))
    for second, first in duplicates.items():
        target = named[first]
        if _place_of(inspected[first]) == target:
            named[second] = named.pop(first)
        elif _place_of(inspected[second]) != target:  # neither is where the other goes, so both are wanted
            both = list(zip(inspected, name_files(metadata, settings), strict=True))
            warnings.extend(_same_ids(both))
            return both
    return _beside_others(named, inspected, settings, table, warnings, known)


def name_files(metadata: list[dict[str, Any]], settings: OrganizeSettings) -> list[Path]:
    """Name files that are organized together, as DANDI does."""
    names = dandi_paths(metadata, settings.required_fields) if metadata else []
    places = [settings.dandiset_path.joinpath(*name.split("/")) for name in names]
    return [
        place.with_name(f"{place.name}{item.get(SUFFIX, '')}") for place, item in zip(places, metadata, strict=True)
    ]


def _duplicates(inspected: list[Inspected], settings: OrganizeSettings, table: Sequence[MediaField]) -> dict[int, int]:
    """Files with the content of an earlier one, by number, as a run leaves them that was killed while it renamed."""
    alike: dict[tuple[str, str], list[int]] = {}
    for number, item in enumerate(inspected):
        if item.object_id is not None:
            alike.setdefault((item.object_id, item.identifier), []).append(number)
    pairs = {pair[1]: pair[0] for pair in alike.values() if len(pair) == 2}
    places = {number: _place_of(inspected[number]) for pair in pairs.items() for number in pair}
    return {
        second: first
        for second, first in pairs.items()
        if any(places[number].is_relative_to(settings.dandiset_path) for number in (first, second))
        and same_content(places[first], places[second], table)
    }


def _place_of(item: Inspected) -> Path:
    return filesystem.with_real_folder(item.path)


def _beside_others(
    named: dict[int, Path],
    inspected: list[Inspected],
    settings: OrganizeSettings,
    table: Sequence[MediaField],
    warnings: list[str],
    known: KnownFiles | None,
) -> list[tuple[Inspected, Path]]:
    """Name files together with those that are in their folders already, and keep the names of these.

    DANDI's name for a file depends on the files that are organized with it. So a session that is added later gets the
    name that it would have got with the others, and a run that was interrupted continues with the names of before.
    """
    numbers = sorted(named)
    others = {folder: _files_in(folder, known) for folder in {target.parent for target in named.values()}}
    if any(others.values()):
        sources = {os.path.realpath(item.path) for item in inspected}
        for folder, found in others.items():
            others[folder] = [other for other in found if os.path.realpath(other.path) not in sources]
    kept: dict[int, Path] = {}
    for number in numbers:
        item, folder = inspected[number], named[number].parent
        version = _version_of(item, others[folder], table)
        if version is not None:
            others[folder].remove(version)
            if nwb_stem(version.path).split("_")[0] == folder.name:  # else its name is not from DANDI
                kept[number] = version.path
    present = [other for each in others.values() for other in each]
    if present or kept:
        metadata = [*(inspected[number].metadata for number in numbers), *(other.metadata for other in present)]
        try:
            names = name_files(metadata, settings)
        except RelocationRefusedError:  # such as copies in the dandiset that have no names that differ
            names = [named[number] for number in numbers]
        named = dict(zip(numbers, names, strict=False))
        standing = [(path, named[number]) for number, path in kept.items()]
        if len(kept) < len(numbers):
            standing += zip((other.path for other in present), names[len(numbers) :], strict=False)
        warnings.extend(_short_names(standing, settings))
    targets = [(inspected[number], kept.get(number, named[number])) for number in numbers]
    warnings.extend(_same_ids([*targets, *((other, other.path) for other in present)]))
    return targets


def _same_ids(files: Iterable[tuple[Inspected | Named, Path]]) -> Iterator[str]:
    """Warnings of files in one dandiset that cannot be told apart by their ids, and where they will be."""
    alike: dict[tuple[str, str], set[Path]] = {}
    for file, path in files:
        if file.object_id is not None:
            alike.setdefault((file.object_id, file.identifier), set()).add(path)
    for (object_id, _), paths in alike.items():
        if len(paths) > 1:
            yield Message(
                f"{', '.join(map(str, sorted(paths)))} have the same identifier and the same object_id {object_id!r}, "
                f"as if they were one NWB file",
                "if one is a copy, leave it out; else export it with new object_ids: nwbfile.generate_new_id(), then "
                "io.export(src_io, nwbfile)",
            )


def _files_in(folder: Path, known: KnownFiles | None) -> list[Named]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = (read_named(path, known) for path in paths if path.suffix in (".nwb", ".zarr") and is_nwb_name(path))
    return [other for other in found if other is not None]


def _version_of(item: Inspected, others: list[Named], table: Sequence[MediaField]) -> Named | None:
    """The file of the dandiset that has the content of a source, or is another version of it.

    Planning finds out which of the two, so that nothing is compared twice.
    """
    wanted = _identity(item)
    alike = [other for other in others if _identity(other) == wanted]
    if len(alike) > 1:
        alike = [other for other in alike if other.object_id == item.object_id]
    if len(alike) > 1:
        alike = [other for other in alike if same_content(item.path, other.path, table)]
    return alike[0] if alike else None


def _identity(one: Inspected | Named) -> tuple[Any, ...]:
    """What two versions of one NWB file have in common; one of them may have a manifest, which is not counted."""
    keys = ("subject_id", "session_id", "session_start_time")
    types = one.metadata.get("nd_types") or ()
    recorded = [name for name in types if name.split()[0] not in MANIFEST_TYPES]  # dandi's reader adds "(2)"
    return one.identifier, recorded, *(one.metadata.get(key) for key in keys)


def _short_names(standing: list[tuple[Path, Path]], settings: OrganizeSettings) -> Iterator[str]:
    """Warnings of files that keep a name with less in it than DANDI would put there now."""
    root = settings.dandiset_path
    needs = "" if (root / "dandiset.yaml").is_file() else ", when the dandiset.yaml of the dandiset is in that folder"
    for path, name in sorted(standing):
        if set(nwb_stem(path).split("_")) < set(nwb_stem(name).split("_")):
            yield Message(
                f"{path} keeps its name, although DANDI would name it {name.name} beside the others",
                f"to rename it, run `nwb-extfiles organize -d {shell_word(str(root))} -f move` without paths{needs}",
            )

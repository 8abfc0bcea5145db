"""What was done, or would be, in words: ``2 videos linked, 1 NWB file copied (34,000 bytes)``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..hints import counted
from ..options import MediaMode
from ..plans.plan import Action, Relocation, RelocationPlan
from ..plans.stored_paths import is_url

if TYPE_CHECKING:  # slow to import
    from ..tasks.organize.plan import OrganizePlan

__all__ = [
    "in_total",
    "in_words",
    "links_line",
    "organized_in_words",
    "urls_line",
    "without_dandiset_yaml",
    "without_session",
]

_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp")
_DONE = {
    MediaMode.SYMLINK: "linked",
    MediaMode.HARDLINK: "hard-linked",
    MediaMode.COPY: "copied",
    MediaMode.REFLINK: "copied as reflinks",
    MediaMode.MOVE: "moved",
}
_OF_ACTION = {
    Action.RENAME: "renamed with the NWB file",
    Action.DOWNLOAD: "downloaded",
    Action.REMUX: "remuxed",
    Action.REWRITE_PATH: "left in place, with new paths",
    Action.SHARE: "shared with other entries",
    Action.REUSE: "already there",
}
_IN_PLACE, _NOT_FOUND, _URL = "already in place", "not found", "kept as URLs"
_ORDER = [*_DONE.values(), *_OF_ACTION.values(), _IN_PLACE, _NOT_FOUND, _URL]


def in_words(plans: Iterable[RelocationPlan]) -> str:
    """What plans do to the media of their NWB files. Bytes are only those that are copied or downloaded."""
    plans = list(plans)
    return ", ".join([*_media_in_words(plans), *_manifests_in_words(plans)]) or "no media"


def in_total(plans: Sequence[RelocationPlan]) -> str:
    """As `in_words`; for other than one NWB file with their number."""
    if not plans:
        return counted(0, "NWB file")
    return in_words(plans) if len(plans) == 1 else f"{in_words(plans)} in {counted(len(plans), 'NWB file')}"


def organized_in_words(plan: OrganizePlan) -> str:
    """What a plan does to NWB files and their media."""
    new = [file for file in plan if not (file.is_there or file.in_place)]
    renamed = sum(file.in_place for file in plan)
    there = sum(file.is_there and not file.in_place for file in plan)
    verb = "moved" if plan.files_mode == "move" else f"copied ({sum(file.size for file in new):,} bytes)"
    parts = [
        (len(new), f"{counted(len(new), 'NWB file')} {verb}"),
        (there, f"{counted(there, 'NWB file')} already there"),
        (renamed, f"{counted(renamed, 'NWB file')} already in place"),
    ]
    manifests = _manifests_in_words(file.plan for file in plan if not file.is_there)
    media = _media_in_words([file.plan for file in plan])
    return ", ".join([*media, *manifests, *(words for count, words in parts if count)]) or counted(0, "NWB file")


def _media_in_words(plans: Sequence[RelocationPlan]) -> Iterator[str]:
    groups: dict[str, list[Relocation]] = {}
    for plan in plans:
        for entry in plan.relocations:
            groups.setdefault(_done(plan, entry), []).append(entry)
    for done in sorted(groups, key=_ORDER.index):
        size = {
            _DONE[MediaMode.COPY]: sum(file.size for plan in plans for file in plan.copied),
            _OF_ACTION[Action.DOWNLOAD]: sum(plan.download_bytes for plan in plans),
            _OF_ACTION[Action.REMUX]: sum(plan.remux_bytes for plan in plans),
        }
        stay = "; the originals stay" if done == _OF_ACTION[Action.REMUX] else ""
        bytes_ = f" ({size[done]:,} bytes{stay})" if done in size else ""
        yield f"{counted(len(groups[done]), _noun(groups[done]))} {done}{bytes_}"


def _manifests_in_words(plans: Iterable[RelocationPlan]) -> Iterator[str]:
    manifests = sum(not plan.manifest_is_current for plan in plans)
    if manifests:
        yield f"{counted(manifests, 'manifest')} written"


def _done(plan: RelocationPlan, entry: Relocation) -> str:
    """What happens to the media of an entry, as a participle."""
    if entry.action is Action.KEEP:
        return _URL if is_url(entry.reference.stored_path) else _NOT_FOUND
    if entry.remote is not None and entry.creates_target:
        return _OF_ACTION[Action.DOWNLOAD]  # a further name of it too
    if plan.is_in_place(entry):
        return _IN_PLACE
    return _OF_ACTION.get(entry.action) or _DONE[plan.mode_of(entry)]


def _noun(entries: Iterable[Relocation]) -> str:
    of_images = {entry.reference.stored_path.lower().endswith(_IMAGES) for entry in entries}
    return "media file" if len(of_images) > 1 else "image" if True in of_images else "video"


def links_line(plans: Iterable[RelocationPlan]) -> Iterator[str]:
    """A line that says what the default mode has made, if it has made links."""
    entries = ((plan.mode_of(entry), entry) for plan in plans for entry in plan.relocations)
    if any(mode is MediaMode.SYMLINK and entry.is_transfer for mode, entry in entries):
        yield "linked means symbolic links, the default: keep the originals, or use --media-mode copy to have copies"


def urls_line(count: int) -> Iterator[str]:
    """A line about URLs that stay as they are, if there are any."""
    if count:
        yield f"{count} {'URL is' if count == 1 else 'URLs are'} kept; use --urls download to download the videos"


def without_dandiset_yaml(plan: OrganizePlan) -> Iterator[str]:
    """A line that says what a new dandiset lacks: `organize` makes folders, but no dandiset.yaml."""
    if not (plan.dandiset_path / "dandiset.yaml").exists():
        yield f"{plan.dandiset_path} has no dandiset.yaml, which `dandi upload` needs; `dandi download` gets it"


def without_session(plan: OrganizePlan) -> Iterator[str]:
    """A line about names without a session: in the archive, the subject may have sessions that are not here."""
    new = [file for file in plan if not (file.is_there or file.in_place) and "_ses-" not in file.target.name]
    if new and (plan.dandiset_path / "dandiset.yaml").exists():
        which = f"{new[0].target.name} has" if len(new) == 1 else f"{len(new):,} NWB files have"
        yield (
            f"{which} no session in the name, because the subject has one session here; if the archive has more, use "
            f"--required-field session_id"
        )

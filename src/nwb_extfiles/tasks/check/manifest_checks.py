"""Whether the videos of an NWB file are those of its manifest, by their content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ...hints import quoted, shell_word
from ...media.inventory import MediaState, Verification, find_by_content, verify_media
from ...nwb.manifest import ManifestRow
from ...options import MediaOptions
from ...plans.media_files import MediaFile
from ...plans.targets import nwb_stem
from ..nwb_media import NWBMedia
from .findings import Finding, Severity, of_file, of_problem, of_reference, shortened

__all__ = ["manifest_findings"]


def manifest_findings(media: NWBMedia, options: MediaOptions, on_bytes: Callable[[int], object]) -> Iterator[Finding]:
    """Videos that are not those of the manifest."""
    path, found, rows = media.path, media.found, media.manifest
    if media.manifest_problem is not None:
        yield of_problem(path, "manifest", media.manifest_problem)
        return
    if rows is None:
        if any(not entry.url for entry in found):
            yield of_file(
                path, Severity.INFO, "no-manifest", "it has no manifest, so its videos cannot be verified",
                "`nwb-extfiles relocate --manifest` writes one",
            )  # fmt: skip
        return
    verifications = list(verify_media(rows, found, on_bytes=on_bytes))
    wanted = [entry.row for entry in verifications if entry.row is not None and entry.state.is_bad]
    folders = [path.parent / nwb_stem(path), *options.search_folders]
    elsewhere = find_by_content(wanted, folders, nwb_path=path, on_bytes=on_bytes) if wanted else {}
    for verification in verifications:
        yield from _verification(verification, elsewhere)
    verified = {id(entry.row) for entry in verifications}
    stale = [row for row in rows if id(row) not in verified]
    if stale:
        yield of_file(
            path, Severity.WARNING, "stale-manifest", "its manifest has rows for references that no longer exist",
            "`nwb-extfiles relocate` updates the manifest", found=f"{len(stale)} of {len(rows)}, such as "
            f"{shortened(stale[0].path)} of {shortened(stale[0].referring_object_path)}",
        )  # fmt: skip


def _verification(verification: Verification, elsewhere: Mapping[str, MediaFile]) -> Iterator[Finding]:
    reference, row, state = verification.resolution.reference, verification.row, verification.state
    update = "`nwb-extfiles relocate` updates the manifest"
    if state is MediaState.UNKNOWN:
        if verification.resolution.problem is not None:
            return  # `missing` says it; there is nothing to record
        yield of_reference(reference, Severity.INFO, "not-in-manifest", "the manifest has no row for it", update)
    elif state is MediaState.STALE:
        what = "its path was changed by a program that did not update the manifest"
        yield of_reference(reference, Severity.WARNING, "stale-manifest", what, update)
    if row is None or not state.is_bad:
        return
    what = {
        MediaState.CHANGED: "its content is not that of the video in the manifest",
        MediaState.TRUNCATED: "it is shorter than the video in the manifest",
        MediaState.SWAPPED: "it is the video of another entry",
        MediaState.UNREADABLE: "it cannot be read, so it cannot be compared with the video in the manifest",
        MediaState.MISSING: "the video in the manifest is missing",
    }[state]
    yield of_reference(
        reference, Severity.ERROR, f"media-{state}", what, _repair(verification, elsewhere),
        found=_entry_of(verification.video_of) if state is MediaState.SWAPPED else None,
        expected=f"{row.original_name!r} of {row.size_in_bytes:,} bytes",
    )  # fmt: skip


def _repair(verification: Verification, elsewhere: Mapping[str, MediaFile]) -> str:
    reference, row = verification.resolution.reference, verification.row
    found = elsewhere.get(row.sha256) if row is not None else None
    if found is None:
        return "name folders to search for it with --search"
    nwb_path = Path(reference.nwb_path)
    replacing = "" if verification.state is MediaState.MISSING else " --existing replace"
    is_beside = found.path.is_relative_to(nwb_path.parent / nwb_stem(nwb_path))  # which is searched anyway
    search = "" if is_beside else f" --search {shell_word(str(found.path.parent))}"
    return (
        f"it is at {quoted(found.path)}; `nwb-extfiles relocate --repair --media-mode copy{replacing}{search} "
        f"{shell_word(reference.nwb_path)}` puts it back"
    )


def _entry_of(row: ManifestRow | None) -> str:
    return (
        "another entry"
        if row is None
        else f"the other entry is {row.referring_object_path!r}, {row.field}[{row.index}]"
    )

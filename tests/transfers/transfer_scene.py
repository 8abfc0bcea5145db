"""What the tests of transfers share: a document, videos, plans for them, and transfers."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import digest, tree

from nwb_extfiles.nwb.references import ExternalFileReference
from nwb_extfiles.options import MediaMode, MediaOptions
from nwb_extfiles.plans.decisions import make_plan
from nwb_extfiles.plans.media_files import MediaFile
from nwb_extfiles.plans.needs import MediaUsers, settle
from nwb_extfiles.plans.plan import RelocationPlan
from nwb_extfiles.plans.resolve import Resolution
from nwb_extfiles.plans.targets import name_targets, survey
from nwb_extfiles.transfers.transfer import Transfer

FILE_MODES = (MediaMode.SYMLINK, MediaMode.HARDLINK, MediaMode.COPY, MediaMode.MOVE)


UUID = "933f8cf6-9e4b-405f-8cad-cc031d1fafc9"


OLD, NEW = b"the old document", b"the new document"


def media_file(path: Path) -> MediaFile:
    place, real = Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(path))
    status = real.stat()
    return MediaFile(place, real, status.st_size, (status.st_dev, status.st_ino))


def reference(document: Path, index: int, text: str, repeats: bool = False) -> ExternalFileReference:
    return ExternalFileReference(
        nwb_path=str(document),
        object_path="/acquisition/video",
        neurodata_type="ImageSeries",
        object_id=UUID,
        field="videos" if repeats else "external_file",
        index=index,
        stored_path=text,
        base=str(document.parent),
        repeats=repeats,
    )


def planned(document: Path, videos: list[Path], mode: MediaMode, *, repeats: int = 0, **options: Any) -> RelocationPlan:
    """Make a plan for one object that refers to the videos, the last `repeats` of them in a repeating field."""
    resolutions = []
    for index, video in enumerate(videos):
        repeating = index >= len(videos) - repeats
        resolutions.append(Resolution(reference(document, index, str(video), repeating), media_file(video)))
    chosen = MediaOptions(**options)
    named, problems = name_targets(resolutions, chosen, nwb_path=document, identifier="id0")
    return make_plan(named, survey(named, document, mode), chosen, mode, problems=problems)


def settled(plan: RelocationPlan) -> RelocationPlan:
    """The plan after `settle`, in a call for one NWB file."""
    changed, problems = settle([plan], MediaUsers([plan.nwb_path], MediaOptions()))
    assert problems == []
    return changed.get(plan.nwb_path, plan)


def targets_of(document: Path, count: int, suffix: str = ".avi") -> list[Path]:
    """The targets of the media of `planned`, by DANDI's convention and not by the code under test."""
    return [document.parent / document.stem / f"{UUID}_external_file_{index}{suffix}" for index in range(count)]


def write_staged(transfer: Transfer) -> None:
    """Write the staged document, as a backend does before the commit."""
    transfer.staged_document.write_bytes(NEW)


def carry_out(document: Path, plan: RelocationPlan, *, sync: bool = False, **options: Any) -> None:
    transfer = Transfer(document, **options)
    write_staged(transfer)
    transfer.media.stage(plan, sync=sync)
    transfer.commit(sync=sync)
    transfer.conclude(sync=sync)


def staged(document: Path, plan: RelocationPlan, **options: Any) -> Transfer:
    transfer = Transfer(document, **options)
    write_staged(transfer)
    transfer.media.stage(plan, sync=False)
    return transfer


def dot_names(folder: Path) -> list[str]:
    return [name for name in tree(folder) if any(part.startswith(".") for part in Path(name).parts)]


def contents_below(folder: Path) -> set[str]:
    """The digests of all files below a folder."""
    return {digest(path) for path in folder.rglob("*") if path.is_file()}


def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


class Stopped(BaseException):
    """Stands for Ctrl-C, or for a kill if nothing handles it."""

"""Media are staged and put in place, in every mode."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import digest, needs_symlink, tree
from transfer_scene import (
    FILE_MODES,
    NEW,
    UUID,
    carry_out,
    dot_names,
    no_hard_links,
    planned,
    settled,
    targets_of,
    write_staged,
)

from nwb_extfiles.errors import (
    ExternalFilesError,
    MediaExistsError,
)
from nwb_extfiles.options import MediaMode
from nwb_extfiles.plans.plan import Action
from nwb_extfiles.transfers.transfer import Transfer


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("mode", FILE_MODES)
def test_stage_and_commit_in_every_mode(
    root: Path, document: Path, videos: list[Path], mode: MediaMode, sync: bool
) -> None:
    """With real videos. Every name below the root is checked."""
    sources = [root / "videos" / f"real_{number}.avi" for number in range(2)]
    for video, source in zip(videos, sources, strict=False):
        shutil.copy2(video, source)
    before, inodes = tree(root), [source.stat().st_ino for source in sources]
    carry_out(document, planned(document, sources, mode), sync=sync)

    targets = targets_of(document, 2)
    assert [digest(target) for target in targets] == [digest(video) for video in videos[:2]]
    expected = {**before, "dandiset/a": "folder", "dandiset/a.nwb": digest(document)}
    for index, target in enumerate(targets):
        name = target.relative_to(root).as_posix()
        source = sources[index].relative_to(root).as_posix()
        expected[name] = f"-> ../../{source}" if mode is MediaMode.SYMLINK else before[source]
        if mode is MediaMode.MOVE:
            del expected[source]
    assert tree(root) == expected
    assert document.read_bytes() == NEW
    same = [target.stat().st_ino == inode for target, inode in zip(targets, inodes, strict=True)]
    assert same == [mode is not MediaMode.COPY] * 2
    assert [target.stat().st_mtime_ns for target in targets] == [video.stat().st_mtime_ns for video in videos[:2]]


@pytest.mark.parametrize("mode", [MediaMode.COPY, MediaMode.MOVE])
@pytest.mark.parametrize("links", [True, False])
def test_shared_video_is_staged_once(
    root: Path, document: Path, sources: list[Path], mode: MediaMode, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file with all names, or copies where hard links are not possible."""
    video, content = sources[0], digest(sources[0])
    plan = planned(document, [video, sources[1], video, video], mode)
    assert [entry.action for entry in plan.relocations].count(Action.DUPLICATE) == 2
    if not links:
        no_hard_links(monkeypatch)
    carry_out(document, plan)
    targets = targets_of(document, 4)
    assert [digest(targets[index]) for index in (0, 2, 3)] == [content] * 3
    assert len({targets[index].stat().st_ino for index in (0, 2, 3)}) == (1 if links else 3)
    assert video.exists() == (mode is MediaMode.COPY)
    if video.exists():
        assert not os.path.samefile(video, targets[0])
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_video_with_two_names_is_staged_once(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    content, other = digest(sources[0]), root / "videos" / "other name.avi"
    os.link(sources[0], other)
    carry_out(document, planned(document, [sources[0], other], mode))
    assert [digest(target) for target in targets_of(document, 2)] == [content] * 2
    assert sources[0].exists() == other.exists() == (mode is not MediaMode.MOVE)


@pytest.mark.parametrize("mode", FILE_MODES)
def test_repeated_field_shares_the_copy(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """The repeated entry gets the same path, and no file of its own."""
    plan = planned(document, [sources[0], sources[0]], mode, repeats=1)
    assert [entry.action for entry in plan.relocations] == [Action.TRANSFER, Action.SHARE]
    carry_out(document, plan)
    assert [path.name for path in (document.parent / "a").iterdir()] == [f"{UUID}_external_file_0.avi"]
    assert {document.parent / entry.new_path for entry in plan.relocations} == set(targets_of(document, 1))


def test_plan_without_media(root: Path, document: Path, sources: list[Path]) -> None:
    """Reference mode, URLs and kept paths make no file and no folder."""
    before = tree(root)
    plan = planned(document, sources, MediaMode.REFERENCE)
    kept = replace(plan.relocations[0], action=Action.KEEP, source=None, new_path="https://example.org/video.avi")
    carry_out(document, replace(plan, relocations=(*plan.relocations, kept)))
    assert tree(root) == {**before, "dandiset/a.nwb": digest(document)}
    assert document.read_bytes() == NEW


def test_several_plans_in_one_transfer(root: Path, document: Path, sources: list[Path]) -> None:
    """Several plans, one after the other, for the same document."""
    plan = planned(document, sources, MediaMode.COPY)
    transfer = Transfer(document)
    for entry in plan.relocations:
        transfer.media.stage(replace(plan, relocations=(entry,)), sync=False)
    write_staged(transfer)
    transfer.commit(sync=False)
    transfer.conclude(sync=False)
    assert [digest(target) for target in targets_of(document, 3)] == [digest(source) for source in sources]
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", [MediaMode.HARDLINK, MediaMode.COPY, MediaMode.MOVE])
def test_present_target_is_reused(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """A correct target is kept. A move still removes the source."""
    target = targets_of(document, 1)[0]
    target.parent.mkdir()
    shutil.copy(sources[0], target)
    status = target.stat()
    plan = planned(document, [sources[0]], mode)
    assert [entry.action for entry in plan.relocations] == [Action.REUSE]
    carry_out(document, plan)
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert sources[0].exists() == (mode is not MediaMode.MOVE)
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", [MediaMode.COPY, MediaMode.MOVE])
def test_further_name_of_a_reused_target(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    first, second = targets_of(document, 2)
    first.parent.mkdir()
    shutil.copy(sources[0], first)
    content = digest(first)
    plan = planned(document, [sources[0], sources[0]], mode)
    assert [entry.action for entry in plan.relocations] == [Action.REUSE, Action.DUPLICATE]
    carry_out(document, plan)
    assert digest(first) == digest(second) == content
    assert os.path.samefile(first, second)


@pytest.mark.parametrize("mode", FILE_MODES)
def test_second_transfer_changes_nothing(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """The second transfer starts from the result of the first, where a shared video is one file with two names."""
    shared = [sources[0], sources[0], sources[1]]
    carry_out(document, planned(document, shared, mode))
    once = tree(root)
    carry_out(document, planned(document, targets_of(document, 3), mode))
    assert tree(root) == once


def test_move_of_shared_video_in_place(root: Path, document: Path, sources: list[Path]) -> None:
    """The source of one reference is the target of the other, and must be kept."""
    first, second = targets_of(document, 2)
    first.parent.mkdir()
    shutil.move(sources[0], first)
    content = digest(first)
    carry_out(document, planned(document, [first, first], MediaMode.MOVE))
    assert digest(first) == digest(second) == content


def test_move_never_removes_reused_target(root: Path, document: Path, sources: list[Path]) -> None:
    """Two references to one video. The target of the second exists, and a third reference uses that file."""
    targets = targets_of(document, 3)
    targets[0].parent.mkdir()
    shutil.copy(sources[0], targets[1])
    content = digest(sources[0])
    plan = planned(document, [sources[0], sources[0], targets[1]], MediaMode.MOVE)
    assert [entry.action for entry in plan.relocations] == [Action.TRANSFER, Action.REUSE, Action.TRANSFER]
    carry_out(document, plan)
    assert [digest(target) if target.exists() else None for target in targets] == [content] * 3


@pytest.mark.parametrize("mode", FILE_MODES)
def test_missing_folders_are_made(root: Path, sources: list[Path], mode: MediaMode) -> None:
    document = root / "new" / "folder" / "b.nwb"
    plan = planned(document, sources[:1], mode)
    carry_out(document, plan, sync=True)
    assert document.read_bytes() == NEW
    assert targets_of(document, 1)[0].read_bytes() == b"video 0" * 100
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_progress_is_reported_in_bytes(document: Path, sources: list[Path], mode: MediaMode) -> None:
    told: list[tuple[int, int]] = []
    plan = planned(document, [*sources, sources[0]], mode)
    transfer = Transfer(document)
    transfer.media.stage(plan, sync=False, progress=lambda done, total: told.append((done, total)))
    transfer.rollback()
    assert told[-1] == (plan.media_bytes, plan.media_bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.skipif(os.name == "nt", reason="who may read a file is a matter of its folder on Windows")
def test_document_permissions_are_kept(document: Path, sources: list[Path]) -> None:
    document.chmod(0o640)
    carry_out(document, planned(document, sources, MediaMode.COPY))
    assert stat.S_IMODE(document.stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", FILE_MODES)
def test_symlinked_source(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    """A move removes only the named link, as mv does. Its target, and links between, are kept."""
    link, content = root / "videos" / "link.avi", digest(sources[0])
    (root / "links").mkdir()
    (root / "links" / "between.avi").symlink_to("../videos/video_0.avi")
    link.symlink_to("../links/between.avi")
    before = tree(root)
    carry_out(document, planned(document, [link], mode))
    target = targets_of(document, 1)[0]
    assert digest(target) == content
    after = tree(root)
    gone = {name for name in before if name not in after}
    assert gone == ({"videos/link.avi"} if mode is MediaMode.MOVE else set())
    assert digest(sources[0]) == content
    assert target.is_symlink() == (mode is MediaMode.SYMLINK)
    if target.is_symlink():
        assert not Path(os.readlink(target)).is_absolute()


@needs_symlink
@pytest.mark.parametrize("mode", [MediaMode.HARDLINK, MediaMode.COPY, MediaMode.MOVE])
def test_symlink_at_target_is_replaced_by_its_file(
    root: Path, document: Path, sources: list[Path], mode: MediaMode
) -> None:
    """A link of an earlier export in symlink mode is replaced."""
    content = digest(sources[0])
    carry_out(document, planned(document, sources[:1], MediaMode.SYMLINK))
    target = targets_of(document, 1)[0]
    carry_out(document, planned(document, [target], mode))
    assert not target.is_symlink()
    assert digest(target) == content
    assert digest(sources[0]) == content
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_existing_target_is_replaced(root: Path, document: Path, sources: list[Path], mode: MediaMode) -> None:
    targets, content = targets_of(document, 2), [digest(source) for source in sources]
    targets[0].parent.mkdir()
    targets[0].write_bytes(b"something else")
    targets[1].symlink_to("nowhere")
    with pytest.raises(MediaExistsError):
        planned(document, sources[:2], mode)
    carry_out(document, planned(document, sources[:2], mode, existing="replace"))
    assert [digest(target) for target in targets] == content[:2]
    assert dot_names(root) == []


@pytest.mark.parametrize("mode", FILE_MODES)
def test_two_videos_swap_places(document: Path, sources: list[Path], mode: MediaMode) -> None:
    """The target of each video is the source of the other. Both are kept, or the plan is refused."""
    carry_out(document, planned(document, sources[:2], MediaMode.COPY))
    first, second = targets_of(document, 2)
    content = [digest(first), digest(second)]
    before = tree(document.parent)
    try:
        plan = settled(planned(document, [second, first], mode, existing="replace"))
        carry_out(document, plan)
    except ExternalFilesError:
        assert tree(document.parent) == before
    else:
        assert [digest(first), digest(second)] == content[::-1]


@pytest.mark.parametrize("mode", FILE_MODES)
def test_target_occupied_by_another_source(document: Path, sources: list[Path], mode: MediaMode) -> None:
    """The second target is the source of the first video and is replaced. That video is not lost."""
    carry_out(document, planned(document, sources[:2], MediaMode.COPY))
    first, second = targets_of(document, 2)
    content = [digest(second), digest(sources[2])]
    before = tree(document.parent)
    try:
        plan = settled(planned(document, [second, sources[2]], mode, existing="replace"))
        carry_out(document, plan)
    except ExternalFilesError:
        assert tree(document.parent) == before
    else:
        assert [digest(first), digest(second)] == content

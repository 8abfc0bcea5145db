"""From a tree of builders to a plan: what one call to write or export means for the media.

Everything here looks and decides; nothing is written, and neither builders nor containers are changed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import h5py
from hdmf.build import BuildManager, GroupBuilder

from .errors import (
    ExternalFilesError,
    ExternalFilesWarning,
    MissingMediaError,
    RelocationRefusedError,
    TransferError,
    UnsafeReferenceError,
)
from .naming import is_portable_suffix
from .options import MediaMode, MediaOptions
from .plan import RelocationPlan, make_plan
from .references import (
    ExternalFileReference,
    MediaField,
    StoredTexts,
    TypeTree,
    find_in_builders,
    find_in_file,
    media_fields,
    parents_in_file,
    target_of,
)
from .remote import NOWHERE, SCHEMES, RemoteFile, beside, is_opaque, origin, scheme_of
from .resolve import MediaFile, Resolution, is_absolute, is_url, media_file, resolve
from .storage import ExternalFileText, read_texts, unwrapped
from .targets import name_targets, nwb_stem, survey
from .urls import ask_all

__all__ = [
    "Request",
    "Tree",
    "find_texts",
    "identifier",
    "plan_relocation",
    "resolve_all",
]


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asks for."""

    relocate: bool | None = None
    mode: MediaMode = MediaMode.SYMLINK
    options: MediaOptions = field(default_factory=MediaOptions)


@dataclass(frozen=True, slots=True)
class Tree:
    """The builders of an NWB file that is about to be written, and where they come from."""

    root: GroupBuilder
    manager: BuildManager
    """The manager that made the builders: on export it is that of the source."""
    nwb_path: str
    """The NWB file to be written."""
    container: Any = None
    """The root container, where the tree was built from one."""
    source: Any = None
    """The IO that is exported from; None for a write."""
    is_new: bool = True
    """Whether the NWB file is being created; else it is open for appending."""
    file: Any = None
    """The file behind the builders that were read, if it is an `h5py.File`."""


# ----------------------------------------------------------------------- find


def find_texts(tree: Tree, request: Request) -> list[StoredTexts]:
    """Find all texts in the tree that name media.

    A link to a dataset of texts is left out where that dataset is in the tree itself: it goes where that one goes.
    """
    containers: dict[int, Any] | None = None

    def container_of(owner: Any) -> Any:
        nonlocal containers
        if containers is None:
            containers = _containers(tree)
        return containers.get(id(owner))

    def value_of(owner: Any, holder: Any, media_field: MediaField) -> tuple[Any, str | None]:
        return _value_and_base(owner, target_of(holder), media_field, container_of, tree.nwb_path)

    found = find_in_builders(
        tree.root,
        types=TypeTree(
            tree.manager.namespace_catalog.get_hierarchy,
            lambda: parents_in_file(tree.file) if isinstance(tree.file, h5py.File) else {},
        ),
        table=media_fields(request.options.media_fields),
        nwb_path=tree.nwb_path,
        value_of=value_of,
    )
    datasets = {id(entry.builder) for entry in found}
    return [entry for entry in found if entry.builder is entry.dataset or id(entry.dataset) not in datasets]


def _containers(tree: Tree) -> dict[int, Any]:
    """The container of each builder; hdmf keeps that map to itself."""
    containers: dict[int, Any] = {}
    stack = [tree.container] if tree.container is not None else []
    while stack:
        container = stack.pop()
        builder = tree.manager.get_builder(container)
        if builder is not None and id(builder) not in containers:
            containers[id(builder)] = container
        stack.extend(container.children)
    return containers


def _value_and_base(
    owner: Any, dataset: Any, media_field: MediaField, container_of: Callable[[Any], Any], nwb_path: str
) -> tuple[Any, str | None]:
    """The stored value, and the folder of the NWB file that holds it; None if no file does yet."""
    data = unwrapped(dataset.data)
    if isinstance(data, h5py.Dataset):
        return data, _folder(data.file.filename)
    if dataset.location is not None:  # read from a file, and handed on as it was read
        return data, _folder(dataset.source)
    if isinstance(data, list | tuple) and data and all(isinstance(text, ExternalFileText) for text in data):
        return data, None  # each knows its own
    # Built from a container whose mapper is hdmf's. What it made of stored bytes is not what was stored, so the
    # container is asked.
    container = container_of(owner)
    if container is None:
        return data, None
    value = unwrapped(getattr(container, media_field.field or "data", data))
    if isinstance(value, h5py.Dataset):
        return value, _folder(value.file.filename)
    source = container.container_source
    # hdmf gives a new container the file being written for its source
    return value, None if source in (None, nwb_path) else _folder(source)


def _folder(path: str) -> str:
    """The folder of an NWB file, or its URL; for a file object that does not tell, one that nothing is below."""
    place = origin(path)
    return NOWHERE if is_opaque(place) else os.path.dirname(place)


# ----------------------------------------------------------------------- plan


def plan_relocation(
    tree: Tree,
    stored: list[StoredTexts],
    request: Request,
    problems: list[ExternalFilesError],
    *,
    again: bool = False,
) -> RelocationPlan:
    """Plan what happens to all media, and warn of what deserves a look.

    Parameters
    ----------
    tree : Tree
        What is about to be written.
    stored : list of StoredTexts
        The texts in it.
    request : Request
        What is asked for.
    problems : list of ExternalFilesError
        What is known already to speak against it.
    again : bool
        Whether an earlier call has relocated media of the same file, so that there may be nothing left to do.

    Returns
    -------
    RelocationPlan

    Raises
    ------
    ExternalFilesError
        With all problems at once. Nothing was changed.
    """
    from dandi.consts import IMAGE_FILE_EXTENSIONS, VIDEO_FILE_EXTENSIONS

    nwb_path = _destination(tree)
    problems = [*problems, *(_no_text(entry, tree) for entry in stored if entry.not_text)]
    resolutions = resolve_all(stored, request.options, nwb_path.parent)
    remarks: list[str] = []
    if request.mode is MediaMode.MOVE:
        resolutions, remarks = _or_moved_before(resolutions, request.options, nwb_path, identifier(tree))
    if request.options.urls == "download" and request.mode is not MediaMode.REFERENCE:
        resolutions, unasked = _ask_servers(resolutions, request.options)
        remarks = [*remarks, *unasked]
    named, unnamed = name_targets(
        resolutions, request.options, nwb_path=nwb_path, identifier=identifier(tree), mode=request.mode
    )
    plan = make_plan(
        named,
        survey(named, nwb_path, request.mode),
        request.options,
        request.mode,
        problems=[*problems, *unnamed],
        is_archived={*VIDEO_FILE_EXTENSIONS, *IMAGE_FILE_EXTENSIONS}.__contains__,
    )
    for warning in (*plan.warnings, *remarks, *_remarks(tree, plan, resolutions, again)):
        warnings.warn(warning, ExternalFilesWarning, stacklevel=2)
    return plan


def _destination(tree: Tree) -> Path:
    """The NWB file to be written, its folder free of symbolic links."""
    path, real = tree.nwb_path, os.path.realpath(tree.nwb_path)
    if not tree.is_new and not os.path.isfile(path):
        raise RelocationRefusedError(
            f"{path} is no file on this machine, so there is no place beside it for media; open the NWB file by its "
            f"path, without file= or driver=",
            nwb_path=path,
        )
    if os.path.islink(path):
        raise RelocationRefusedError(
            f"{path} is a symbolic link to {real}, and readers look for media beside the name that they open; write "
            f"to {real} itself, or remove the link",
            nwb_path=path,
        )
    return Path(real)


def resolve_all(stored: list[StoredTexts], options: MediaOptions, folder: Path) -> list[Resolution]:
    """What each reference means, for an NWB file in a folder."""
    return [resolve(reference, options, destination=folder) for entry in stored for reference in entry.references]


def _or_moved_before(
    resolutions: list[Resolution], options: MediaOptions, nwb_path: Path, identifier: str
) -> tuple[list[Resolution], list[str]]:
    """Find media that are gone from their old place because an earlier run moved them to this NWB file.

    The NWB file that stands at the destination tells: it names a film for the same object, field and entry, at the
    very place that a move gives it. That it is the film that the text means cannot be known, so each is told of.
    """
    if not any(isinstance(resolution.problem, MissingMediaError) for resolution in resolutions):
        return resolutions, []
    try:
        with h5py.File(nwb_path, "r") as file:
            before = {_entry(was): was.text for was in find_in_file(file, media_fields(options.media_fields))}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):  # there is none, or it is damaged
        return resolutions, []
    found: dict[int, Resolution] = {}
    places: set[str] = set()  # that are the own ones of some reference
    # Fields that repeat the films of others name places of those.
    for number in sorted(range(len(resolutions)), key=lambda number: resolutions[number].reference.repeats):
        reference = resolutions[number].reference
        text = before.get(_entry(reference))
        file = media_file(nwb_path.parent / text) if text and not is_url(text) else None
        if text is None or not isinstance(file, MediaFile) or _suffix(text) != _suffix(reference.text):
            continue
        (own,), _ = name_targets([Resolution(reference, file=file)], options, nwb_path=nwb_path, identifier=identifier)
        if text == str(own.target):
            places.add(text)
        elif not (reference.repeats and text in places):
            continue
        if isinstance(resolutions[number].problem, MissingMediaError):
            found[number] = Resolution(reference, file=file)
    remarks = [
        f"{entry.reference.where}: {entry.reference.text!r} is gone, and taken to be {str(entry.file.path)!r}, where "
        f"an earlier move has put the media of this entry; if it means others, bring them back"
        for entry in found.values()
        if entry.file is not None
    ]
    return [found.get(number, resolution) for number, resolution in enumerate(resolutions)], remarks


def _ask_servers(resolutions: list[Resolution], options: MediaOptions) -> tuple[list[Resolution], list[str]]:
    """Find out what is behind the URLs that can be fetched; warn of those that stay."""
    urls = [_url(entry) for entry in resolutions]
    answers = ask_all([url for url in urls if scheme_of(url) in SCHEMES], timeout=options.url_timeout)
    asked: list[Resolution] = []
    remarks: list[str] = []
    for entry, url in zip(resolutions, urls, strict=True):
        reference, answer = entry.reference, answers.get(url)
        if isinstance(answer, RemoteFile):
            asked.append(Resolution(reference, url=True, remote=answer))
        elif answer is not None:
            asked.append(Resolution(reference, problem=_unanswered(reference, url, answer)))
        else:
            asked.append(entry)
            if entry.url:
                remarks.append(
                    f"{reference.where}: {reference.text[:200]!r} stays as it is: only {', '.join(SCHEMES)} URLs are "
                    f"downloaded"
                )
    return asked, remarks


def _url(resolution: Resolution) -> str:
    """The URL that a reference means: its text, or what that is beside an NWB file read from a URL; empty if none."""
    text, base = resolution.reference.text, resolution.reference.base
    if resolution.url:
        return text
    if base is None or not is_url(base) or is_absolute(text) or not isinstance(resolution.problem, MissingMediaError):
        return ""
    return beside(f"{base}/", text) or ""


def _unanswered(reference: ExternalFileReference, url: str, error: Exception) -> ExternalFilesError:
    kind = MissingMediaError if isinstance(error, FileNotFoundError) else TransferError
    problem = kind(
        f"{reference.where}: {url!r} cannot be downloaded: {error}. Look whether it opens in a browser, or "
        f'leave URLs as they are with urls="keep" in media_options',
        **reference.place,
    )
    problem.__cause__ = error
    return problem


def _entry(reference: ExternalFileReference) -> tuple[str, str, int]:
    return reference.object_id or reference.object_path, reference.field, reference.index


def _suffix(text: str) -> str:
    suffix = PureWindowsPath(text).suffix.lower()
    return suffix if is_portable_suffix(suffix) else ""


def identifier(tree: Tree) -> str:
    """The identifier of the NWB file; its name where it has none."""
    builder = tree.root.datasets.get("identifier")
    read = read_texts(builder.data) if builder is not None else None
    return read[0][0] if read and read[0] else nwb_stem(Path(tree.nwb_path))


def _no_text(entry: StoredTexts, tree: Tree) -> ExternalFilesError:
    path = "/" + entry.builder.path.partition("/")[2]
    return UnsafeReferenceError(
        f"{tree.nwb_path}: {path!r} holds no text, where paths of media are expected; mend it in "
        f"{tree.source.source if tree.source is not None else 'the container'} first",
        nwb_path=tree.nwb_path,
        object_path=path,
    )


def _remarks(tree: Tree, plan: RelocationPlan, resolutions: list[Resolution], again: bool) -> Iterator[str]:
    if all(resolution.url and resolution.remote is None for resolution in resolutions) and not again:
        found = "only URLs, which stay as they are" if resolutions else "no external file"
        yield f"{tree.nwb_path}: relocate_media=True, but there is nothing to relocate: {found}"
    if plan.mode is not MediaMode.MOVE or tree.source is None:
        return
    left: dict[str, set[Path]] = {}
    for entry in plan.relocations:
        if entry.source is not None:
            base = entry.reference.base
            linked = base is not None and base != _folder(str(tree.source.source))
            holder = f"an NWB file in {base}" if linked else str(tree.source.source)
            left.setdefault(holder, set()).add(entry.source.real)
    for holder, sources in left.items():
        yield (
            f"{holder} stays behind with references to media that move ({len(sources)} in all) to "
            f"{plan.nwb_path.parent}, such as {min(sources)}; delete it when the new file is good"
        )

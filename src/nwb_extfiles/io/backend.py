"""What makes an HDMF backend take media along: the mix-in.

The seam is in HDMF's backend methods, not in its object mappers: on export the builders that were read are handed on
as they are, so no mapper of the destination is ever called. `write_builder` sees the finished tree and plans;
`write_dataset` and `write_link` write a fresh builder with the new texts in place of the one in the tree. The tree
belongs to the source, which may be exported again, and is never changed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hdmf.build import DatasetBuilder, GroupBuilder, LinkBuilder

from ..disk import access, filesystem
from ..errors import ExternalFilesError, RelocationRefusedError, combine, warn
from ..media.inventory import make_rows, other_videos
from ..nwb.files import cannot_hold, remove_objects, write_paths
from ..nwb.manifest import ManifestRow
from ..nwb.path_datasets import is_stored, read_paths, unwrapped
from ..nwb.references import ExternalFileReference
from ..options import MediaMode, MediaOptions, refuse_mode_alone
from ..plans.plan import RelocationPlan
from ..transfers.recovery import recover
from ..transfers.transfer import Transfer
from .builders import StoredPaths
from .mappers import register_media_mappers
from .plan_from_builders import Request, Tree, find_paths, plan_relocation
from .refusals import (
    refuse_annexed,
    refuse_broken_links,
    refuse_links_to_destination,
    refuse_other_names,
    refuse_unmarked_changes,
    refuse_unreadable_links,
)

__all__ = ["MEDIA_ARGS", "RESOLVE_ARG", "Call", "MediaIOMixin"]

MEDIA_ARGS: tuple[dict[str, Any], ...] = (
    {
        "name": "relocate_media",
        "type": bool,
        "default": None,
        "doc": "True: media get to their place beside the NWB file, and the stored paths follow. False: the paths are "
        "written verbatim. None: verbatim too, but refused if a link that works would break by it.",
    },
    {
        "name": "media_mode",
        "type": str,
        "enum": [mode.value for mode in MediaMode],
        "default": None,
        "doc": "how media get there: 'symlink' (default), 'hardlink', 'copy', 'move', or 'reference' (they stay)",
    },
    {
        "name": "media_options",
        "type": (MediaOptions, Mapping),
        "default": None,
        "doc": "a MediaOptions, or a mapping with its fields",
    },
)
"""What `write`, `export` and `export_io` take besides the backend's own arguments, for `hdmf.utils.docval`."""

RESOLVE_ARG: dict[str, Any] = {
    "name": "resolve_media",
    "type": bool,
    "default": False,
    "doc": "whether paths of media in containers that are read are made absolute, so that they can be opened",
}
"""What the constructor takes besides, with `MEDIA_ARGS` as defaults."""

_WORTH_A_THREAD = 32 * 1024 * 1024  # bytes to copy
_HEAD_START = 0.02  # seconds: HDF5 keeps Python's lock while it copies a dataset, so the copying of videos begins first
_LOOKS_UP = 0.2  # seconds after which a wait for videos begins anew
_MODES_THAT_CREATE = ("w", "w-", "x")

if TYPE_CHECKING:
    from hdmf.backends.io import HDMFIO as _Backend  # noqa: N811
else:
    _Backend = object


class _Content(Enum):
    """What is in a file that is being created."""

    NOTHING = "nothing"
    WHOLE = "whole"
    BROKEN = "broken"


class Call:
    """A call to write or export on its way to `write_builder`.

    Parameters
    ----------
    request : Request
        What is asked for.
    manager : hdmf.build.BuildManager
        The one that makes the builders.
    container : pynwb.NWBFile, optional
        The root container, where builders are made from one.
    source : hdmf.backends.io.HDMFIO, optional
        What is exported from.
    """

    def __init__(self, request: Request, manager: Any, container: Any = None, source: Any = None) -> None:
        self.request = request
        self.manager = manager
        self.container = container
        self.source = source
        self.begun = False
        """Whether bytes of the tree may have been written."""


class MediaIOMixin(_Backend):
    """Gives an HDMF backend for NWB files their media.

    Mixed in before a backend class. A file that is created (mode ``w``, ``w-`` or ``x``) is written under a temporary
    name beside its final one and takes that on a clean `close`; until then nothing stands under a final name, and the
    previous file stays. A file into which nothing was written does not come into being.

    A subclass says how its backend stores texts and files, by the methods that raise NotImplementedError here.

    Attributes
    ----------
    relocation : RelocationPlan or None
        After `close`, what was done with the media; None before, and where nothing was relocated.
    """

    relocation: RelocationPlan | None = None

    _writes_folders = False  # whether an NWB file of this backend is a folder
    _resolve_media = False
    _own_manager = True
    _staged = False  # whether a new file is to be created under a temporary name
    _exclusive = False  # whether it must not replace another one
    _transfer: Transfer | None = None  # of the file that is being created
    _transfer_in_place: Transfer | None = None  # of a file that is being edited
    _content = _Content.NOTHING
    _opening: str | None = None
    _call: Call | None = None
    _done: RelocationPlan | None = None
    _sync = True

    # ------------------------------------------------------------- arguments

    def _make_ready(self, kwargs: dict[str, Any], *, on_disk: bool) -> None:
        """Take what is ours from the arguments of the constructor, and bring an existing file in order."""
        self._take_defaults(kwargs)
        self._resolve_media, self._own_manager = kwargs.pop("resolve_media"), kwargs["manager"] is None
        if self._resolve_media and not self._own_manager:
            raise ValueError(
                "resolve_media=True needs a manager of its own, and manager= was given; leave it out, or call "
                "register_media_mappers(manager.type_map, resolve_media=True)"
            )
        self._exclusive = kwargs["mode"] in ("w-", "x")
        self._staged = on_disk and kwargs["mode"] in _MODES_THAT_CREATE
        if on_disk and kwargs["mode"] != "r":
            refuse_annexed(str(kwargs["path"]))
        if on_disk and not self._staged:
            recover(Path(os.path.realpath(kwargs["path"])))

    def _register_mappers(self) -> None:
        """Give the manager our mappers, unless the caller has brought one with mappers of its own."""
        if self._own_manager:
            options = self._defaults["media_options"]
            register_media_mappers(self.manager.type_map, resolve_media=self._resolve_media, media_options=options)

    def _take_defaults(self, kwargs: dict[str, Any]) -> None:
        """Pop the arguments of the constructor."""
        self._defaults = {arg["name"]: kwargs.pop(arg["name"]) for arg in MEDIA_ARGS}
        self._defaults["media_options"] = MediaOptions.from_value(self._defaults["media_options"])
        self._sync = self._defaults["media_options"].sync
        if self._defaults["relocate_media"] is not None:
            self._request()
        # other texts, by the builder of the old: one for each place where that stands
        self._substitutes: dict[int, list[tuple[StoredPaths, list[str]]]] = {}
        # hdmf tells builders apart by id(): those that it counts as written, and those whose texts are relocated,
        # must not make room for others.
        self._alive: list[Any] = []
        self._settled: set[int] = set()
        # what `close` is to do with texts that stand in the file, and what to remove if that fails
        self._edits: dict[tuple[str, str], list[str]] = {}
        self._rows: dict[tuple[str, str, int], ManifestRow] | None = None  # of the manifest
        self._planned: list[ExternalFileReference] = []  # what these edits rest on
        self._new_objects: set[str] = set()

    def _take_request(self, kwargs: dict[str, Any]) -> Request:
        """Pop the arguments of a call."""
        return self._request(*(kwargs.pop(arg["name"]) for arg in MEDIA_ARGS))

    def _request(self, relocate: bool | None = None, mode: str | None = None, options: Any = None) -> Request:
        """What a call asks for, filled up with the defaults of the constructor."""
        if relocate is None:
            relocate, mode = self._defaults["relocate_media"], mode or self._defaults["media_mode"]
        elif relocate:
            mode = mode or self._defaults["media_mode"]
        refuse_mode_alone(mode, relocate)
        options = self._defaults["media_options"] if options is None else MediaOptions.from_value(options)
        return Request(None if relocate is None else bool(relocate), MediaMode(mode or MediaMode.SYMLINK), options)

    # ------------------------------------------------------------------ open

    @property
    def source(self) -> Any:
        """The path of the file; of the staged one only while that is being opened."""
        return self._opening or super().source

    def open(self) -> None:
        """Open the file, or a staged one where a file shall be created.

        Raises
        ------
        DestinationBusyError
            If another process, or another IO that is still open, is creating the same file.
        PermissionError
            If there is a file that may not be written to.
        """
        if not self._staged or self._is_opened() or (os.path.exists(self.source) and self._is_special(self.source)):
            super().open()
            return
        if os.path.exists(self.source) and not os.access(self.source, os.W_OK):
            raise PermissionError(f"{self.source} exists, and may not be written to")
        transfer = Transfer(
            Path(os.path.realpath(self.source)), as_folder=self._writes_folders, exclusive=self._exclusive
        )
        self._opening = str(transfer.staged_document)
        try:
            super().open()
            if transfer.document.exists():
                access.limit_access(transfer.staged_document, transfer.document)
        except BaseException as error:
            _note(error, transfer.rollback())
            raise
        finally:
            self._opening = None
        self._transfer, self._content = transfer, _Content.NOTHING

    # ----------------------------------------------------------------- write

    def _write(self, kwargs: dict[str, Any]) -> None:
        """Write as the backend does, with the arguments of `write`."""
        request = self._take_request(kwargs)
        with self._calling(Call(request, self.manager, kwargs["container"])):
            super().write(**kwargs)

    def _export(self, kwargs: dict[str, Any]) -> None:
        """Export as the backend does, with the arguments of `export`."""
        request = self._take_request(kwargs)
        source, container = kwargs["src_io"], kwargs["nwbfile"]
        kwargs["write_args"] = dict(kwargs["write_args"] or {})  # hdmf writes to it
        if container is None and not kwargs["write_args"].get("link_data", True):
            container = source.read()  # hdmf will build from this very container
        if self._transfer is not None and isinstance(source.source, str | Path) and os.path.exists(source.source):
            access.limit_access(self._transfer.staged_document, Path(source.source))  # nothing is in it yet
        with self._calling(Call(request, source.manager, container, source)):
            super().export(**kwargs)

    @contextmanager
    def _calling(self, call: Call) -> Iterator[None]:
        """Have a call known to `write_builder`, and its outcome to `close`."""
        if self._content is _Content.BROKEN:
            raise RelocationRefusedError(
                f"{self.source}: an earlier call broke off in the middle, so this file will not be kept; close this "
                f"IO, and open a new one"
            )
        self._call = call
        try:
            yield
        except BaseException:
            # What was refused before a byte was written may be tried again.
            if call.begun and (self._transfer is not None or self._transfer_in_place is not None):
                self._content = _Content.BROKEN
            raise
        finally:
            self._call = None
            self._substitutes.clear()
        self._content = _Content.WHOLE

    def write_builder(self, builder: GroupBuilder, **kwargs: Any) -> None:
        """Plan and stage the media, then write the tree.

        Parameters
        ----------
        builder : hdmf.build.GroupBuilder
            Root of the tree; it is not changed.
        **kwargs
            As in the backend.

        Raises
        ------
        ExternalFilesError
            If the media cannot be treated as asked, with all reasons at once; nothing was written then.
        """
        if self._call is None:  # not from write or export
            with self._calling(Call(self._request(), self.manager)):
                self.write_builder(builder, **kwargs)
            return
        call, request = self._call, self._call.request
        self._sync = request.options.sync
        if self._rows is not None:  # a table that an earlier call has begun is to be whole
            request = replace(request, options=replace(request.options, manifest=True))
        tree = Tree(
            builder,
            call.manager,
            self._path(),
            call.container,
            call.source,
            is_new=self._transfer is not None,
            file=getattr(call.source or self, "_file", None) or None,  # false once it is closed
        )
        if self._transfer is not None:
            refuse_links_to_destination(tree)
        refuse_unreadable_links(tree, self.get_written)
        stored = [entry for entry in find_paths(tree, request) if id(entry.builder) not in self._settled]
        refuse_unmarked_changes(tree, stored, self.get_written)
        new = [entry for entry in stored if not self._is_written(entry)]
        old = [entry for entry in stored if self._is_written(entry) and entry.references]
        if not request.relocate:
            if request.relocate is None:
                refuse_broken_links(tree, new, request, kwargs)
            self._substitute(new, {})
            call.begun = True
            super().write_builder(builder=builder, **kwargs)
            return
        self._refuse_without_place()
        if self._transfer is None:
            refuse_other_names(Path(self._path()))
        plan = plan_relocation(tree, stored, request, done=self._done)
        written = {(entry.references[0].object_path, entry.references[0].field) for entry in old}
        edits = {place: paths for place, paths in plan.edits.items() if place in written}
        if self._transfer is None and (problems := cannot_hold(self._file, edits, plan.nwb_path)):
            raise combine(problems)
        self._substitute(new, plan.new_paths)
        transfer = self._transfer or self._begin_in_place(plan.nwb_path)
        with self._staging(transfer, plan, request.options):
            self._new_objects.update(self._not_in_file(new))
            call.begun = True
            super().write_builder(builder=builder, **kwargs)
        if plan.manifest is not None:
            rows = make_rows(plan, transfer.media.digests, transfer.media.fetched)
            transfer.notes.extend(other_videos(plan, rows))
            self._rows = {**(self._rows or {}), **{row.place: row for row in rows}}
        self._edits.update(edits)
        self._planned.extend(
            entry.reference
            for entry in plan.relocations
            if (entry.reference.object_path, entry.reference.field) in written
        )
        self._done = plan.joined_to(self._done)
        self._settled.update(id(entry.builder) for entry in stored)
        self._alive.extend(entry.builder for entry in stored)

    @contextmanager
    def _staging(self, transfer: Transfer, plan: RelocationPlan, options: MediaOptions) -> Iterator[None]:
        """Stage the media before the tree is written; if there is much to copy, while it is.

        An existing file must not be written to before all media are known to be there.
        """

        def stage() -> None:
            transfer.media.stage(plan, sync=self._sync, progress=options.progress, url_timeout=options.url_timeout)

        if self._transfer is None or plan.copied_bytes < _WORTH_A_THREAD:
            stage()
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="media") as pool:
            staged = pool.submit(stage)
            try:
                wait([staged], _HEAD_START)
                yield
                if self._sync and not staged.done():  # what is there of it is flushed while this waits anyway
                    filesystem.sync_tree(transfer.staged_document)
                _wait_for(staged)  # Ctrl-C meanwhile must end the copying too
            except BaseException:
                transfer.media.cancel()
                raise

    def _begin_in_place(self, nwb_path: Path) -> Transfer:
        if self._transfer_in_place is None:
            self._transfer_in_place = Transfer(nwb_path, edits_document=True)
        return self._transfer_in_place

    def _is_written(self, entry: StoredPaths) -> bool:
        """Whether the texts stand already in the file that is open for writing."""
        return bool(self.get_written(entry.builder))

    def _substitute(self, stored: list[StoredPaths], new_paths: Mapping[tuple[str, str, int], str]) -> None:
        """Prepare the right texts for each builder that would write others."""
        self._substitutes.clear()
        places = Counter(id(entry.builder) for entry in stored if entry.references)
        for entry in stored:
            paths = _paths(entry, new_paths)
            is_changed = paths != [reference.stored_path for reference in entry.references]
            # hdmf writes a dataset that several objects share by hard links to one of them only
            if is_changed or places[id(entry.builder)] > 1 or not self._writes(entry, paths):
                self._substitutes.setdefault(id(entry.builder), []).append((entry, paths))

    def _writes(self, entry: StoredPaths, paths: list[str]) -> bool:
        """Whether the builder as it is writes these texts."""
        data = unwrapped(entry.dataset.data)
        if entry.not_a_string or self._copies(data):
            return True
        if is_stored(data):
            return False  # of another backend: what becomes of bytes there is its own affair
        read = read_paths(data)
        return read is None or [str(text) for text in read[0]] == paths

    def _builder_like(self, entry: StoredPaths, paths: list[str]) -> DatasetBuilder:
        """A builder of the texts, with the attributes of the old one and storage like it."""
        return DatasetBuilder(
            name=entry.builder.name,
            data=self._stored_like(entry.dataset.data, paths, entry.shape),
            dtype="utf8",
            attributes=dict(entry.dataset.attributes),
            dimension_labels=entry.dataset.dimension_labels,  # which hdmf-zarr writes as _ARRAY_DIMENSIONS
            parent=entry.builder.parent,
            source=entry.builder.source,
        )

    def write_dataset(self, parent: Any, builder: DatasetBuilder, **kwargs: Any) -> Any:
        """Write a dataset; one with other texts in its place if that was prepared."""
        substitute = self._substitute_for(parent, builder)
        if substitute is None:
            return super().write_dataset(parent, builder, **kwargs)
        written = self._write_paths(parent, *substitute, **kwargs)
        self._written_builders.set_written(builder)
        return written

    def write_link(self, parent: Any, builder: LinkBuilder, export_source: str | None = None) -> Any:
        """Write a link; a dataset in its place if it leads to texts that change."""
        substitute = self._substitute_for(parent, builder)
        if substitute is not None:
            written = self._write_paths(parent, *substitute)
            self._written_builders.set_written(builder)
            return written
        if self._transfer is not None and builder.builder.source == self.source:
            # A target inside this very file, which hdmf knows by its final name: the open file has another.
            export_source = self.source
        return super().write_link(parent, builder, export_source=export_source)

    def _substitute_for(self, parent: Any, builder: Any) -> tuple[StoredPaths, list[str]] | None:
        """What to write in the place of a builder, where the group `parent` is about to get it."""
        substitutes = self._substitutes.get(id(builder), [])
        if len(substitutes) > 1:
            return next((one for one in substitutes if one[0].references[0].object_path == parent.name), None)
        return None if not substitutes or self.get_written(builder) else substitutes[0]

    def _write_paths(self, parent: Any, entry: StoredPaths, paths: list[str], **kwargs: Any) -> Any:
        """Write the texts of a field as they shall be; gives the dataset."""
        substitute = self._builder_like(entry, paths)
        self._alive.append(substitute)
        return super().write_dataset(parent, substitute, **kwargs)

    # ----------------------------------------------------------------- close

    def close(self, close_links: bool = True) -> None:
        """Close the file, and put it and its media under their final names.

        Parameters
        ----------
        close_links : bool
            Whether to close linked files too, where the backend has such.

        Raises
        ------
        ExternalFilesError, OSError
            If that fails; everything is then as it was before, or the notes of the error say what is left where.
        """
        created, edited = self._transfer, self._transfer_in_place
        self._transfer = self._transfer_in_place = None
        if created is None and edited is None:
            self._close_backend(close_links)
            return
        transfer = created or edited
        assert transfer is not None
        keep = self._content is _Content.WHOLE or (self._content is _Content.NOTHING and not self._is_empty())
        try:
            self._close_backend(close_links)
            if keep:
                self._commit(transfer, created is not None)
        except BaseException as error:
            _note(error, self._roll_back(transfer))
            raise
        if not keep:
            self._discard(transfer)
            return
        self.relocation = self._done
        transfer.conclude(sync=self._sync)

    def _commit(self, transfer: Transfer, created: bool) -> None:
        """Put all in place, the file being closed."""
        if not self._edits and self._rows is None:
            transfer.commit(sync=self._sync)
        elif created:
            self._edit(transfer.staged_document, transfer.document, None)
            transfer.commit(sync=self._sync)
        else:
            document = transfer.document
            transfer.commit(sync=self._sync, edit=lambda: self._edit(document, document, transfer.journal))

    def _edit(self, path: Path, name: Path, journal: Path | None) -> None:
        """Change texts and manifest in the closed file; in place with a journal."""
        rows = None if self._rows is None else list(self._rows.values())
        # a file that is staged is nobody else's
        planned = [] if journal is None else self._planned
        write_paths(path, self._edits, manifest=rows, name=name, journal=journal, sync=self._sync, planned=planned)

    def _not_in_file(self, new: list[StoredPaths]) -> set[str]:
        """Paths of objects that a call is about to bring into a file that existed before."""
        if self._transfer is not None:
            return set()
        paths = {entry.references[0].object_path for entry in new if entry.references}
        return {path for path in paths if path not in self._file}

    def _roll_back(self, transfer: Transfer) -> list[str]:
        """Bring back what was there before, the file being closed; tell what could not be."""
        done = transfer.is_done
        left = transfer.rollback()
        try:
            if self._new_objects and not done:
                remove_objects(Path(self._path()), self._new_objects)
        except (OSError, ExternalFilesError) as error:
            left.append(
                f"{self.source} has new objects whose media are not there, {sorted(self._new_objects)}: {error}"
            )
        return left

    def _discard(self, transfer: Transfer) -> None:
        """Leave what was there before."""
        left = self._roll_back(transfer)
        if self._content is _Content.BROKEN:
            left.insert(0, f"{self.source} was not written, because an earlier call broke off in the middle")
        for line in left:
            warn(line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; after an exception, leave what was there before."""
        transfer = self._transfer or self._transfer_in_place
        if kind is None or error is None or transfer is None:
            self.close()
            return
        self._transfer = self._transfer_in_place = None
        try:
            self._close_backend(close_links=True)
        except Exception as closing:  # noqa: BLE001  # must not hide what came before
            error.add_note(f"{self.source} could not be closed: {closing}")
        finally:
            _note(error, self._roll_back(transfer))

    def __del__(self) -> None:
        """Tell of a new file that was dropped, and so never got its name."""
        if self._transfer is not None:
            warn(
                f"{self.source} was never closed, so it was not put in place; what was written is in "
                f"{self._transfer.staged_document} until the next attempt. Use the IO in a with statement"
            )

    # ------------------------------------------------- what a backend knows

    def _refuse_without_place(self) -> None:
        """Refuse to relocate media of a file beside which there is no place for them."""

    def _path(self) -> str:
        """The path of the file."""
        raise NotImplementedError  # pragma: no cover

    def _is_special(self, path: str) -> bool:
        """Whether what stands at a path cannot be replaced by what the backend writes, such as a device."""
        raise NotImplementedError  # pragma: no cover

    def _copies(self, data: Any) -> bool:
        """Whether the backend writes data as they are stored, or a link to them."""
        raise NotImplementedError  # pragma: no cover

    def _is_opened(self) -> bool:
        """Whether the backend has opened its file, be it closed again."""
        raise NotImplementedError  # pragma: no cover

    def _is_empty(self) -> bool:
        """Whether nothing stands in the open file."""
        raise NotImplementedError  # pragma: no cover

    def _close_backend(self, close_links: bool) -> None:
        """Close as the backend does."""
        raise NotImplementedError  # pragma: no cover

    def _stored_like(self, old: Any, paths: Sequence[str], shape: tuple[int, ...]) -> Any:
        """The texts as data of a builder, to be stored as the old data are."""
        raise NotImplementedError  # pragma: no cover


def _wait_for(staged: Future[None]) -> None:
    """Wait until media are staged, and look up now and then.

    A wait without an end would overlook a Ctrl-C that comes in the moment before it begins, and on Windows any.
    """
    while not staged.done():
        wait([staged], _LOOKS_UP)
    staged.result()


def _paths(entry: StoredPaths, new_paths: Mapping[tuple[str, str, int], str]) -> list[str]:
    """The texts of one field as the file shall hold them."""
    return [new_paths.get(reference.entry, reference.stored_path) for reference in entry.references]


def _note(error: BaseException, left: list[str]) -> None:
    for line in left:
        error.add_note(line)

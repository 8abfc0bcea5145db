"""What makes an HDMF backend relocate media: the mix-in.

The seam is in HDMF's backend methods, not in its object mappers: on export, HDMF hands on the builders that were read,
so no mapper of the destination is ever called. `write_builder` sees the finished tree and plans; `write_dataset` and
`write_link` write a fresh builder with the new paths instead of the one in the tree. The tree belongs to the source,
which may be exported again, and is never changed.

A `RelocationRequest` is what was asked for, a `Call` a write or export that is under way, `Writing` the file that is
being written, and `MediaIOMixin.relocation` what was done.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hdmf.build import DatasetBuilder, GroupBuilder, LinkBuilder

from ..disk import access
from ..errors import RelocationRefusedError, combine, warn
from ..nwb.files import cannot_hold
from ..nwb.path_datasets import is_stored, path_of, read_paths, shaped, unwrapped
from ..options import MediaModes, MediaOptions, modes_in_order
from ..plans.log import log_done
from ..plans.plan import RelocationPlan
from ..private_names import open_file
from ..transfers.recovery import recover
from ..transfers.transfer import Transfer
from .arguments import RelocationRequest
from .builders import FieldInTree
from .mappers import register_media_mappers
from .plan_from_builders import Tree, find_paths, plan_relocation
from .refusals import (
    refuse_annexed,
    refuse_broken_links,
    refuse_impossible_name,
    refuse_links_to_destination,
    refuse_other_names,
    refuse_unmarked_changes,
    refuse_unreadable_links,
)
from .writing import Call, Writing

__all__ = ["MediaIOMixin"]

_MODES_THAT_CREATE = ("w", "w-", "x")

if TYPE_CHECKING:
    from hdmf.backends.io import HDMFIO as _Backend  # noqa: N811
else:
    _Backend = object


class MediaIOMixin(_Backend):
    """Lets an HDMF backend for NWB files relocate media.

    Mixed in before a backend class, whose arguments the decorator `takes_arguments_of` gives to the methods here. A
    file that is created (mode ``w``, ``w-`` or ``x``) is written under a temporary name beside its final one and gets
    that on a clean `close`; until then nothing stands under a final name, and the previous file stays. A file into
    which nothing was written is not created.

    A subclass says how its backend stores paths and files, by the attributes and methods at the end of this class.

    Attributes
    ----------
    relocation : RelocationPlan or None
        After `close`, what was done with the media; None before, and where nothing was relocated.
    """

    relocation: RelocationPlan | None = None
    _call: Call | None = None

    def __init__(
        self,
        path: Any = None,
        mode: str = "r",
        *args: Any,
        relocate_media: bool | None = None,
        media_mode: MediaModes | None = None,
        media_options: MediaOptions | Mapping[str, Any] | None = None,
        resolve_media: bool = False,
        **kwargs: Any,
    ) -> None:
        """Open an NWB file."""
        how = None if media_mode is None else modes_in_order(media_mode)
        self._defaults = RelocationRequest(relocate_media, how, MediaOptions.from_value(media_options))
        if relocate_media is not None:
            self._defaults.for_call()  # refuses what contradicts itself
        has_own_manager = kwargs.get("manager") is None
        if resolve_media and not has_own_manager:
            raise RelocationRefusedError(
                "resolve_media=True needs a manager of its own, and manager= was given",
                hint="leave it out, or call register_media_mappers(manager.type_map, resolve_media=True)",
            )
        self._writing = Writing(sync=self._defaults.options.sync)
        on_disk = self._is_on_disk(path, kwargs)
        self._creates = on_disk and mode in _MODES_THAT_CREATE
        if self._creates:
            refuse_impossible_name(str(path))
        if on_disk and mode != "r":
            refuse_annexed(str(path))
        if on_disk and not self._creates:
            recover(Path(os.path.realpath(path)))
        super().__init__(path, mode, *args, **kwargs)
        if has_own_manager:  # one that was given brings its own mappers
            options = self._defaults.options
            register_media_mappers(self.manager.type_map, resolve_media=resolve_media, media_options=options)

    # ------------------------------------------------------------------ open

    @property
    def source(self) -> Any:
        """The path of the file; of the temporary one only while that is being opened."""
        writing = self._writing
        return str(writing.transfer.staged_document) if writing.is_opening and writing.transfer else super().source

    def open(self) -> None:
        """Open the file; one that is to be created, under a temporary name.

        Raises
        ------
        DestinationBusyError
            If another process, or another IO that is still open, is creating the same file.
        PermissionError
            If there is a file that may not be written to.
        """
        path, exists = self.source, self._creates and os.path.exists(self.source)
        if not self._creates or open_file(self) is not None or (exists and self._is_special(path)):
            super().open()
            return
        if exists and not os.access(path, os.W_OK):
            raise PermissionError(f"{path} exists, and may not be written to")
        exclusive = self.mode in ("w-", "x")
        transfer = Transfer(Path(os.path.realpath(path)), as_folder=self._writes_folders, exclusive=exclusive)
        writing = self._writing
        writing.transfer, writing.is_new, writing.is_opening, writing.content = transfer, True, True, "nothing"
        try:
            super().open()
            if transfer.document.exists():
                access.limit_access(transfer.staged_document, transfer.document)
        except BaseException as error:
            writing.transfer, writing.is_new = None, False
            _add_notes(error, transfer.rollback())
            raise
        finally:
            writing.is_opening = False

    # ----------------------------------------------------------------- write

    def write(
        self,
        container: Any,
        *args: Any,
        relocate_media: bool | None = None,
        media_mode: MediaModes | None = None,
        media_options: MediaOptions | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a container, and relocate its media if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`; the other arguments are those of the
        backend.
        """
        request = self._defaults.for_call(relocate_media, media_mode, media_options)
        with self._calling(Call(request, self.manager, container)):
            super().write(container, *args, **kwargs)

    def export(
        self,
        src_io: Any,
        nwbfile: Any = None,
        write_args: Mapping[str, Any] | None = None,
        *args: Any,
        relocate_media: bool | None = None,
        media_mode: MediaModes | None = None,
        media_options: MediaOptions | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Export from another IO, and relocate the media if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`; the other arguments are those of the
        backend. Neither the source, nor its containers, nor `write_args` are changed.
        """
        request = self._defaults.for_call(relocate_media, media_mode, media_options)
        write_args = dict(write_args or {})  # hdmf writes to it
        container, writing = nwbfile, self._writing
        if container is None and not write_args.get("link_data", True):
            container = src_io.read()  # hdmf will build from this very container
        if writing.is_new and isinstance(src_io.source, str | Path) and os.path.exists(src_io.source):
            assert writing.transfer is not None
            access.limit_access(writing.transfer.staged_document, Path(src_io.source))  # nothing is in it yet
        with self._calling(Call(request, src_io.manager, container, src_io)):
            super().export(src_io, nwbfile, write_args, *args, **kwargs)

    @contextmanager
    def _calling(self, call: Call) -> Iterator[None]:
        """Make a call known to `write_builder`, and its outcome to `close`."""
        if self._writing.content == "broken":
            raise RelocationRefusedError(
                f"{self.source}: an earlier call failed halfway, so this file will not be kept",
                hint="close this IO, and open a new one",
                nwb_path=self._path(),
            )
        self._call = call
        try:
            yield
        except BaseException:
            # What was refused before a byte was written may be tried again.
            if call.has_begun and self._writing.transfer is not None:
                self._writing.content = "broken"
            raise
        finally:
            self._call = None
        self._writing.content = "whole"

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
            with self._calling(Call(self._defaults.for_call(), self.manager)):
                self.write_builder(builder, **kwargs)
            return
        call, writing, is_new = self._call, self._writing, self._writing.is_new
        request = writing.completed(call.request)
        writing.sync = request.options.sync
        file = open_file(call.source or self) or None  # false once it is closed
        if call.source is not None and file is not None and kwargs.get("export_source") is None:
            # HDMF names no source that it was given as an open file, and would write links to it instead of its data.
            kwargs["export_source"] = os.path.abspath(path_of(file))
        tree = Tree(builder, call.manager, self._path(), call.container, call.source, is_new=is_new, file=file)
        entries = self._find(tree, request)
        new = [entry for entry in entries if not self.get_written(entry.builder)]
        if not request.relocate:
            if request.relocate is None:
                refuse_broken_links(tree, new, request, kwargs)
            self._write_tree(call, builder, new, {}, kwargs)
            return
        self._refuse_without_place()
        if not is_new:
            refuse_other_names(Path(self._path()))
        plan = plan_relocation(tree, entries, request, done=writing.plan)
        in_file = {place for entry in entries if self.get_written(entry.builder) for place in entry.places}
        if not is_new:
            edits = {place: paths for place, paths in plan.edits.items() if place in in_file}
            if problems := cannot_hold(open_file(self), edits, plan.nwb_path):
                raise combine(problems)
        with writing.staging(plan, request.options) as staged:
            if not is_new:
                objects = {object_path for entry in new for object_path, _ in entry.places}
                writing.new_objects |= {object_path for object_path in objects if object_path not in open_file(self)}
            self._write_tree(call, builder, new, plan.new_paths, kwargs)
        writing.record(staged[0], entries, in_file)

    def _find(self, tree: Tree, request: RelocationRequest) -> list[FieldInTree]:
        """Find the fields that no earlier call has planned; refuse what would make the file unreadable."""
        if tree.is_new:
            refuse_links_to_destination(tree)
        refuse_unreadable_links(tree, self.get_written)
        entries = [entry for entry in find_paths(tree, request) if entry.builder not in self._writing.planned]
        refuse_unmarked_changes(tree, entries, self.get_written)
        return entries

    def _write_tree(
        self,
        call: Call,
        root: GroupBuilder,
        entries: list[FieldInTree],
        new_paths: Mapping[tuple[str, str, int], str],
        settings: Mapping[str, Any],
    ) -> None:
        """Write the tree as the backend does, with the right paths for each builder that would write others."""
        places = Counter(id(entry.builder) for entry in entries if entry.references)
        for entry in entries:
            old = [reference.stored_path for reference in entry.references]
            paths = [new_paths.get(reference.entry, reference.stored_path) for reference in entry.references]
            # hdmf writes a dataset that several objects share by hard links to one of them only
            if paths != old or places[id(entry.builder)] > 1 or not self._writes(entry, paths):
                call.new_paths.setdefault(entry.builder, []).append((entry, paths))
        call.has_begun = True
        super().write_builder(builder=root, **settings)

    def _writes(self, entry: FieldInTree, paths: list[str]) -> bool:
        """Whether the builder as it is writes these paths."""
        data = unwrapped(entry.dataset.data)
        if entry.not_a_string or isinstance(data, self._dataset_class):  # which is written as it is stored, or linked
            return True
        if is_stored(data):
            return False  # of another backend: what becomes of bytes there is its own affair
        read = read_paths(data)
        return read is None or [str(path) for path in read[0]] == paths

    def write_dataset(self, parent: Any, builder: DatasetBuilder, **kwargs: Any) -> Any:
        """Write a dataset; one with other paths instead if the call has such."""
        new = self._new_paths_for(parent, builder)
        if new is None:
            return super().write_dataset(parent, builder, **kwargs)
        return self._write_paths(parent, *new, **kwargs)

    def write_link(self, parent: Any, builder: LinkBuilder, export_source: str | None = None) -> Any:
        """Write a link; a dataset instead if it is one to paths that change."""
        new = self._new_paths_for(parent, builder)
        if new is not None:
            return self._write_paths(parent, *new)
        if self._writing.is_new and builder.builder.source == self.source:
            # A target inside this very file, which hdmf knows by its final name: the open file has another.
            export_source = self.source
        return super().write_link(parent, builder, export_source=export_source)

    def get_written(self, builder: Any, **kwargs: Any) -> bool:
        """Whether a builder, or what was written instead of it, is in the file."""
        return builder in self._writing.replaced or bool(super().get_written(builder, **kwargs))

    def _new_paths_for(self, parent: Any, builder: Any) -> tuple[FieldInTree, list[str]] | None:
        """What to write instead of a builder, where the group `parent` is about to get it."""
        if self._call is None or builder not in self._call.new_paths:
            return None
        several = self._call.new_paths[builder]
        if len(several) > 1:
            return next((new for new in several if new[0].references[0].object_path == parent.name), None)
        return None if self.get_written(builder) else several[0]

    def _write_paths(self, parent: Any, entry: FieldInTree, paths: list[str], **kwargs: Any) -> Any:
        """Write the paths of a field; gives the dataset."""
        instead = DatasetBuilder(
            name=entry.builder.name,
            data=self._stored_like(entry.dataset.data, paths, entry.shape),
            dtype="utf8",
            attributes=dict(entry.dataset.attributes),
            dimension_labels=entry.dataset.dimension_labels,  # which hdmf-zarr writes as _ARRAY_DIMENSIONS
            parent=entry.builder.parent,
            source=entry.builder.source,
        )
        written = super().write_dataset(parent, instead, **kwargs)
        self._writing.replaced.setdefault(entry.builder, []).append(instead)
        return written

    def _stored_like(self, old: Any, paths: Sequence[str], shape: tuple[int, ...]) -> Any:
        """The paths as data of a builder, to be stored as the old data are."""
        data, stored = shaped(paths, shape), unwrapped(old)
        if not shape:
            return data
        if isinstance(old, self._data_io) and not isinstance(stored, self._dataset_class):
            settings = {name: value for name, value in old.io_settings.items() if value is not None}
        else:
            settings = self._storage_settings(stored)
        return self._data_io(data, **settings) if settings else data

    def _changed(self, item: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes to write: in a file that was there before, those that differ.

        HDMF writes all of them again into such a file, with no journal.
        """
        if self._writing.is_new:
            return dict(attributes)
        return {name: value for name, value in attributes.items() if not self._attribute_unchanged(item, name, value)}

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
        writing, self._writing = self._writing, self._writing.closed()
        if writing.transfer is None:
            self._close_backend(close_links)
            return
        keep = writing.content == "whole" or (writing.content == "nothing" and not self._is_empty())
        try:
            self._close_backend(close_links)
            if keep:
                writing.commit()
        except BaseException as error:
            _add_notes(error, writing.roll_back())
            raise
        if keep:
            self.relocation = writing.plan
            if writing.plan is not None:
                log_done(writing.plan)
            writing.transfer.conclude(sync=writing.sync)
        else:
            writing.discard()

    def __enter__(self) -> Self:
        """Give this very object, of which HDMF does not state the type."""
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; after an exception, leave what was there before."""
        if error is None or self._writing.transfer is None:
            self.close()
            return
        writing, self._writing = self._writing, self._writing.closed()
        try:
            self._close_backend(close_links=True)
        except Exception as closing:  # noqa: BLE001  # must not hide what came before
            error.add_note(f"{self.source} could not be closed: {closing}")
        finally:
            _add_notes(error, writing.roll_back())

    def __del__(self) -> None:
        """Report a new file that was dropped, and so never got its name."""
        writing = vars(self).get("_writing")  # none if the arguments were refused
        if writing is not None and writing.is_new:
            warn(
                f"{self.source} was never closed, so it was not put in place; what was written is in "
                f"{writing.transfer.staged_document} until the next attempt",
                hint="use the IO in a with statement",
            )

    # ------------------------------------------------- what a backend knows

    _writes_folders = False
    """Whether an NWB file of this backend is a folder."""
    _dataset_class: Any
    """The class of its stored datasets."""
    _data_io: Any
    """The class that wraps data together with settings for their storage."""

    def _is_on_disk(self, path: Any, settings: Mapping[str, Any]) -> bool:
        """Whether the constructor opens a file or folder on this machine, beside which another can be made."""
        raise NotImplementedError  # pragma: no cover

    def _storage_settings(self, stored: Any) -> dict[str, Any]:
        """How a dataset is stored, for `_data_io`; empty if that cannot be taken over."""
        raise NotImplementedError  # pragma: no cover

    def _attribute_unchanged(self, item: Any, name: str, value: Any) -> bool:
        """Whether an attribute has a value already, in the very type that it would be written in."""
        raise NotImplementedError  # pragma: no cover

    def _path(self) -> str:
        """The path of the file."""
        return str(self.source)

    def _is_special(self, path: str) -> bool:
        """Whether what stands at a path cannot be replaced by what the backend writes, such as a device."""
        return not (os.path.isdir(path) if self._writes_folders else os.path.isfile(path))

    def _is_empty(self) -> bool:
        """Whether nothing is in the open file."""
        file = open_file(self)
        return file is not None and not len(file) and not len(file.attrs)

    def _close_backend(self, close_links: bool) -> None:
        """Close as the backend does."""
        super().close(close_links=close_links)

    def _refuse_without_place(self) -> None:
        """Refuse to relocate media of a file beside which there is no place for them."""


def _add_notes(error: BaseException, lines: list[str]) -> None:
    for line in lines:
        error.add_note(line)

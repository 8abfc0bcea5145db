"""The IO classes: pynwb's own, which take media along.

The seam is in HDMF's backend methods, not in its object mappers: on export the builders that were read are handed on
as they are, so no mapper of the destination is ever called. `write_builder` sees the finished tree and plans;
`write_dataset` and `write_link` write a fresh builder with the new texts in place of the one in the tree. The tree
belongs to the source, which may be exported again, and is never changed.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.build import DatasetBuilder, GroupBuilder, LinkBuilder
from hdmf.utils import docval, get_docval
from pynwb import NWBHDF5IO

from .errors import ExternalFilesError, ExternalFilesWarning, RelocationRefusedError
from .mappers import register_media_mappers
from .options import MediaMode, MediaOptions
from .plan import RelocationPlan
from .references import StoredTexts
from .relocation import (
    Request,
    Tree,
    find_texts,
    plan_relocation,
    refuse_broken_links,
    refuse_links_to_destination,
)
from .storage import fits, read_texts, storage_settings, unwrapped, write_in_place
from .transfer import Transfer

__all__ = ["MediaIOMixin", "NWBExtFilesHDF5IO"]

_MEDIA_ARGS: tuple[dict[str, Any], ...] = (
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
_RESOLVE_ARG = {
    "name": "resolve_media",
    "type": bool,
    "default": False,
    "doc": "whether paths of media in containers that are read are made absolute, so that they can be opened",
}
_MODES_THAT_CREATE = ("w", "w-", "x")


class _Call:
    """A call to write or export on its way to `write_builder`."""

    def __init__(self, request: Request, manager: Any, container: Any = None, source: Any = None) -> None:
        self.request = request
        self.manager = manager
        self.container = container
        self.source = source
        self.begun = False  # whether the tree is being written


class MediaIOMixin:
    """Gives an HDMF backend for NWB files their media.

    Mixed in before a backend class. A file that is created (mode ``w``, ``w-`` or ``x``) is written under a temporary
    name beside its final one and takes that on a clean `close`; until then nothing stands under a final name, and the
    previous file stays. A file into which nothing was written does not come into being.

    Attributes
    ----------
    relocation : RelocationPlan or None
        After `close`, what was done with the media; None before, and where nothing was relocated.
    """

    relocation: RelocationPlan | None = None

    _transfer: Transfer | None = None  # of a file that is created
    _opening: str | None = None
    _staged = False
    _exclusive = False
    _call: _Call | None = None
    _done: RelocationPlan | None = None
    _sync = True
    _failed = False

    # ------------------------------------------------------------- arguments

    def _take_defaults(self, kwargs: dict[str, Any]) -> None:
        self._defaults = {str(arg["name"]): kwargs.pop(arg["name"]) for arg in _MEDIA_ARGS}
        self._defaults["media_options"] = MediaOptions.from_value(self._defaults["media_options"])
        self._sync = self._defaults["media_options"].sync
        self._substitutes: dict[int, tuple[Any, DatasetBuilder]] = {}

    def _take_request(self, kwargs: dict[str, Any]) -> Request:
        return self._request(*(kwargs.pop(arg["name"]) for arg in _MEDIA_ARGS))

    def _request(self, relocate: bool | None = None, mode: str | None = None, options: Any = None) -> Request:
        """What a call asks for, filled up with the defaults of the constructor."""
        if relocate is None:
            relocate = self._defaults["relocate_media"]
        if mode is None and relocate is not False:
            mode = self._defaults["media_mode"]
        if mode is not None and relocate is not True:
            raise RelocationRefusedError(
                f"media_mode={str(mode)!r} was given, but relocate_media is {relocate}: give relocate_media=True to "
                f"take the media along, or leave media_mode out"
            )
        options = self._defaults["media_options"] if options is None else MediaOptions.from_value(options)
        return Request(relocate, MediaMode(mode or MediaMode.SYMLINK), options)

    # ------------------------------------------------------------------ open

    @property
    def source(self) -> Any:
        """The path of the file; of the staged one only while that is being opened."""
        return self._opening or super().source  # type: ignore[misc]

    def open(self) -> None:
        """Open the file, or a staged one where a file shall be created."""
        if not self._staged or (os.path.exists(self.source) and not stat.S_ISREG(os.stat(self.source).st_mode)):
            super().open()  # type: ignore[misc]
            return
        transfer = Transfer(Path(os.path.realpath(self.source)), exclusive=self._exclusive)
        self._opening = str(transfer.staged_document)
        try:
            super().open()  # type: ignore[misc]
        except BaseException:
            transfer.rollback()
            raise
        finally:
            self._opening = None
        self._transfer = transfer

    # ----------------------------------------------------------------- write

    @contextmanager
    def _calling(self, call: _Call) -> Iterator[None]:
        self._call = call
        try:
            yield
        except BaseException:
            # What was refused before a byte was written may be tried again; what broke off later is not kept.
            self._failed = self._failed or call.begun
            raise
        finally:
            self._call = None

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
        call = self._call or _Call(self._request(), self.manager)  # type: ignore[attr-defined]
        request, self._sync = call.request, call.request.options.sync
        nwb_path = str(self.source or self._file.filename)  # type: ignore[attr-defined]
        file = getattr(call.source or self, "_file", None)
        tree = Tree(builder, call.manager, nwb_path, call.container, call.source, file)
        stored = find_texts(tree, request)
        if self._transfer is not None:
            refuse_links_to_destination(tree)
            # of an earlier write into this new file; they are right
            stored = [entry for entry in stored if not self._is_written(entry)]
        new = [entry for entry in stored if not self._is_written(entry)]
        plan = None
        if request.relocate:
            plan = plan_relocation(tree, stored, request, self._fixed_in_place(stored))
        elif request.relocate is None:
            refuse_broken_links(tree, new, request, kwargs)
        texts = plan.texts if plan is not None else None
        self._substitute(new, texts)
        call.begun = True
        if plan is None:
            super().write_builder(builder=builder, **kwargs)  # type: ignore[misc]
        elif self._transfer is not None:
            self._transfer.stage(plan, sync=self._sync, progress=request.options.progress)
            super().write_builder(builder=builder, **kwargs)  # type: ignore[misc]
        else:
            written = [entry for entry in stored if self._is_written(entry) and entry.references]
            edits = [(entry, _texts(entry, texts)) for entry in written]
            self._write_in_place(builder, kwargs, plan, edits, request.options)
        if plan is not None:
            self._done = plan.joined_to(self._done)

    def _is_written(self, entry: StoredTexts) -> bool:
        """Whether the texts stand already in the file that is open for writing."""
        return bool(self.get_written(entry.builder))  # type: ignore[attr-defined]

    def _substitute(self, stored: list[StoredTexts], new_texts: Mapping[tuple[str, str, int], str] | None) -> None:
        """Prepare a builder with the right texts for each that would write others."""
        for entry in stored:
            texts = _texts(entry, new_texts)
            if texts != [reference.text for reference in entry.references] or not _writes(entry, texts):
                # kept together: hdmf tells builders apart by id(), which must not be given to another one
                self._substitutes[id(entry.builder)] = entry.builder, self._builder_like(entry, texts)

    def _builder_like(self, entry: StoredTexts, texts: list[str]) -> DatasetBuilder:
        """A builder of the texts, with the attributes of the old one and storage like it."""
        data = self._stored_like(unwrapped(entry.dataset.data), texts, entry.shape)
        return DatasetBuilder(
            name=entry.builder.name,
            data=data,
            dtype="utf8",
            attributes=dict(entry.dataset.attributes),
            parent=entry.builder.parent,
            source=entry.builder.source,
        )

    def _stored_like(self, old: Any, texts: list[str], shape: tuple[int, ...]) -> Any:
        """The texts as data of a builder, to be stored as the old data are."""
        raise NotImplementedError  # pragma: no cover

    def write_dataset(self, parent: Any, builder: DatasetBuilder, **kwargs: Any) -> Any:
        """Write a dataset; one with other texts in its place if that was prepared."""
        substitute = self._substitute_for(builder)
        if substitute is None:
            return super().write_dataset(parent, builder, **kwargs)  # type: ignore[misc]
        written = super().write_dataset(parent, substitute, **kwargs)  # type: ignore[misc]
        self._written_builders.set_written(builder)  # type: ignore[attr-defined]
        return written

    def write_link(self, parent: Any, builder: LinkBuilder, export_source: str | None = None) -> Any:
        """Write a link; a dataset in its place if it leads to texts that change."""
        substitute = self._substitute_for(builder)
        if substitute is not None:
            written = super().write_dataset(parent, substitute)  # type: ignore[misc]
            self._written_builders.set_written(builder)  # type: ignore[attr-defined]
            return written
        if self._transfer is not None and builder.builder.source == self.source:
            # A target inside this very file, which hdmf knows by its final name: the open file has another.
            export_source = self.source
        return super().write_link(parent, builder, export_source=export_source)  # type: ignore[misc]

    def _substitute_for(self, builder: Any) -> DatasetBuilder | None:
        if self.get_written(builder):  # type: ignore[attr-defined]
            return None
        return self._substitutes.get(id(builder), (None, None))[1]

    # ------------------------------------------------------ an existing file

    def _fixed_in_place(self, stored: list[StoredTexts]) -> list[ExternalFilesError]:
        """Problems of texts in this file that cannot be changed where they are."""
        raise NotImplementedError  # pragma: no cover

    def _write_in_place(
        self,
        builder: GroupBuilder,
        write_args: dict[str, Any],
        plan: RelocationPlan,
        edits: list[tuple[StoredTexts, list[str]]],
        options: MediaOptions,
    ) -> None:
        """Write into a file that exists: the media come first, then the texts that name them."""
        transfer = Transfer(plan.nwb_path, edits_document=True)
        try:
            transfer.stage(plan, sync=options.sync, progress=options.progress)
            super().write_builder(builder=builder, **write_args)  # type: ignore[misc]
            transfer.commit(sync=options.sync)
            self._edit(edits)
        except BaseException as error:
            _note(error, transfer.rollback())
            raise
        transfer.conclude(sync=options.sync)

    def _edit(self, edits: list[tuple[StoredTexts, list[str]]]) -> None:
        """Change texts in the open file; on failure they are what they were."""
        raise NotImplementedError  # pragma: no cover

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
        transfer, self._transfer = self._transfer, None
        if transfer is None:
            self._close_backend(close_links)
        else:
            try:
                self._failed = self._failed or self._is_empty()
                self._close_backend(close_links)
                if self._failed:
                    for left in transfer.rollback():
                        warnings.warn(left, ExternalFilesWarning, stacklevel=2)
                    return
                transfer.commit(sync=self._sync)
            except BaseException as error:
                _note(error, transfer.rollback())
                raise
            transfer.conclude(sync=self._sync)
        self.relocation = self._done

    def _close_backend(self, close_links: bool) -> None:
        raise NotImplementedError  # pragma: no cover

    def _is_empty(self) -> bool:
        raise NotImplementedError  # pragma: no cover

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; after an exception, leave what was there before."""
        self._failed = self._failed or kind is not None
        super().__exit__(kind, error, traceback)  # type: ignore[misc]


def _texts(entry: StoredTexts, new_texts: Mapping[tuple[str, str, int], str] | None) -> list[str]:
    """The texts of one field as the file shall hold them."""
    if new_texts is None:
        return [reference.text for reference in entry.references]
    return [new_texts[reference.object_path, reference.field, reference.index] for reference in entry.references]


def _writes(entry: StoredTexts, texts: list[str]) -> bool:
    """Whether the builder as it is writes these texts."""
    data = unwrapped(entry.dataset.data)
    if entry.not_text or isinstance(data, h5py.Dataset):
        return True  # copied raw, or linked to
    read = read_texts(data)
    return read is None or [str(text) for text in read[0]] == texts


def shaped(texts: list[str], shape: tuple[int, ...]) -> Any:
    """Texts in the shape they are stored in: a str, a list, or an array of objects."""
    if shape == ():
        return texts[0]
    return texts if len(shape) == 1 else np.array(texts, dtype=object).reshape(shape)


def _note(error: BaseException, left: list[str]) -> None:
    for line in left:
        error.add_note(line)


class NWBExtFilesHDF5IO(MediaIOMixin, NWBHDF5IO):
    """`pynwb.NWBHDF5IO` that takes media along.

    Everything that pynwb's class does stays as it is. `write`, `export` and `export_io` know three more arguments,
    which the constructor takes as defaults for code whose calls cannot be changed.

    Parameters
    ----------
    path, mode, load_namespaces, manager, file, comm, driver, aws_region, herd_path
        As in `pynwb.NWBHDF5IO`. Missing folders of a file to be created are made.
    relocate_media : bool, optional
        True relocates media; with nothing to relocate it warns. False writes the stored paths verbatim. None, the
        default, writes them verbatim too, but refuses if a link that works would break by it, or if the file
        lies in a dandiset and a local path in it is not where DANDI has media.
    media_mode : {"symlink", "hardlink", "copy", "move", "reference"}, optional
        How media get to their place; only together with ``relocate_media=True``. See `MediaMode`.
    media_options : MediaOptions or mapping, optional
        How media are found, named and transferred.
    resolve_media : bool
        Whether paths of media in containers that are read are made absolute, so that `open` can open them whatever
        the working directory. Not together with `manager`, which brings its own mappers.

    Raises
    ------
    DestinationBusyError
        If another process, or another IO that is still open, is creating the same file.
    ValueError
        If the arguments contradict each other.

    Examples
    --------
    >>> from pynwb import NWBHDF5IO
    >>> from nwb_extfiles import NWBExtFilesHDF5IO
    >>> with NWBHDF5IO("raw.nwb") as source, NWBExtFilesHDF5IO("dandiset/sub-a/sub-a.nwb", "w") as io:
    ...     io.export(src_io=source, relocate_media=True, media_mode="copy")
    """

    @docval(*get_docval(NWBHDF5IO.__init__), *_MEDIA_ARGS, _RESOLVE_ARG)
    def __init__(self, **kwargs: Any) -> None:
        """Open an NWB file."""
        self._take_defaults(kwargs)
        resolve_media = kwargs.pop("resolve_media")
        own_manager = kwargs["manager"] is None
        if resolve_media and not own_manager:
            raise ValueError(
                "resolve_media=True needs a manager of its own, and manager= was given; leave it out, or call "
                "register_media_mappers(manager.type_map, resolve_media=True)"
            )
        self._exclusive = kwargs["mode"] in ("w-", "x")
        self._staged = kwargs["mode"] in _MODES_THAT_CREATE and all(
            kwargs[name] is None for name in ("file", "driver", "comm")
        )
        super().__init__(**kwargs)
        if own_manager:
            register_media_mappers(
                self.manager.type_map, resolve_media=resolve_media, media_options=self._defaults["media_options"]
            )

    @docval(*get_docval(NWBHDF5IO.write), *_MEDIA_ARGS)
    def write(self, **kwargs: Any) -> None:
        """Write a container, and take its media along if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`, and `pynwb.NWBHDF5IO.write` for the rest.
        """
        request = self._take_request(kwargs)
        with self._calling(_Call(request, self.manager, kwargs["container"])):
            super().write(**kwargs)

    @docval(*get_docval(NWBHDF5IO.export), *_MEDIA_ARGS)
    def export(self, **kwargs: Any) -> None:
        """Export from another IO, and take the media along if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`, and `pynwb.NWBHDF5IO.export` for the
        rest. Neither the source, nor its containers, nor `write_args` are changed.
        """
        request = self._take_request(kwargs)
        source, container = kwargs["src_io"], kwargs["nwbfile"]
        kwargs["write_args"] = dict(kwargs["write_args"] or {})
        if container is None and not kwargs["write_args"].get("link_data", True):
            container = source.read()  # hdmf will build from this very container
        with self._calling(_Call(request, source.manager, container, source)):
            super().export(**kwargs)

    @classmethod
    @docval(*get_docval(NWBHDF5IO.export_io), *_MEDIA_ARGS)
    def export_io(cls, **kwargs: Any) -> None:
        """Export from another IO to a path, without an IO of one's own for it.

        See `export`; `container` is the NWB file to export, if not all of the source.
        """
        path, comm, container = (kwargs.pop(name) for name in ("path", "comm", "container"))
        with cls(path=path, comm=comm, mode="w") as io:
            io.export(nwbfile=container, **kwargs)

    def _close_backend(self, close_links: bool) -> None:
        NWBHDF5IO.close(self, close_links=close_links)

    def _is_empty(self) -> bool:
        return bool(self._file) and len(self._file) == 0 and len(self._file.attrs) == 0

    def _stored_like(self, old: Any, texts: list[str], shape: tuple[int, ...]) -> Any:
        data = shaped(texts, shape)
        settings = storage_settings(old) if isinstance(old, h5py.Dataset) and shape != () else {}
        return H5DataIO(data, **settings) if settings else data

    def _fixed_in_place(self, stored: list[StoredTexts]) -> list[ExternalFilesError]:
        problems: list[ExternalFilesError] = []
        for entry in stored:
            # A dataset with a type of its own may be the target of object references, which do not outlive it.
            may_be_referred_to = "neurodata_type" in entry.dataset.attributes
            if entry.references and may_be_referred_to and self._is_written(entry) and self._transfer is None:
                reference = entry.references[0]
                if not fits(self._dataset(entry), ["x" * 4096]):
                    problems.append(
                        RelocationRefusedError(
                            f"{reference.where}: its text has a fixed length, and cannot be made longer in place "
                            f"without breaking object references to it; export to a new file instead",
                            **reference.fields,
                        )
                    )
        return problems

    def _dataset(self, entry: StoredTexts) -> h5py.Dataset:
        return self._file[f"{entry.dataset.location}/{entry.dataset.name}"]

    def _edit(self, edits: list[tuple[StoredTexts, list[str]]]) -> None:
        done: list[StoredTexts] = []
        try:
            for entry, texts in edits:
                if texts != [reference.text for reference in entry.references]:
                    done.append(entry)
                    write_in_place(self._dataset(entry), texts)
            self._file.flush()
        except BaseException:
            for entry in done:
                write_in_place(self._dataset(entry), [reference.text for reference in entry.references])
            raise

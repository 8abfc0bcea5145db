"""`NWBExtFilesZarrIO`: NWB files in Zarr stores, with their media."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr
from hdmf.build import Builder, DatasetBuilder, ReferenceBuilder
from hdmf.utils import docval, get_docval
from hdmf_zarr import NWBZarrIO, ZarrDataIO
from zarr.storage import TempStore

from ..errors import RelocationRefusedError
from ..nwb.files import zarr_marker
from ..nwb.path_datasets import path_of, shaped, unwrapped
from .backend import MEDIA_ARGS, RESOLVE_ARG, MediaIOMixin

__all__ = ["NWBExtFilesZarrIO"]


class NWBExtFilesZarrIO(MediaIOMixin, NWBZarrIO):
    """`hdmf_zarr.NWBZarrIO` that takes media along.

    Everything that hdmf-zarr's class does stays as it is. `write` and `export` know three more arguments, which the
    constructor takes as defaults for code whose calls cannot be changed. The media of ``x.nwb.zarr`` go to the folder
    ``x`` beside it.

    A store that is created is written as a folder beside its final name, and takes that on a clean `close`: an export
    that fails leaves the store that stood there as it was.

    Parameters
    ----------
    path, mode, manager, synchronizer, object_codec_class, storage_options, force_overwrite, load_namespaces, extensions
        As in `hdmf_zarr.NWBZarrIO`. Missing folders of a store to be created are made. A `zarr` store object or a URL
        in place of a path is written to directly, as hdmf-zarr does.
    relocate_media : bool, optional
        True relocates media; with nothing to relocate it warns. False writes the stored paths verbatim. None, the
        default, writes them verbatim too, but refuses if a link that works would break by it, or if the store
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
        If another process, or another IO that is still open, is creating or editing the same store.
    RelocationRefusedError
        If a store would replace a folder that is none.
    TransferError
        If a killed run has left the store half edited, and it cannot be restored.
    ValueError
        If the arguments contradict each other.

    Examples
    --------
    >>> from pynwb import NWBHDF5IO
    >>> from nwb_extfiles import NWBExtFilesZarrIO
    >>> with NWBHDF5IO("raw.nwb") as source, NWBExtFilesZarrIO("out/a.nwb.zarr", "w") as io:
    ...     io.export(
    ...         src_io=source,
    ...         write_args={"link_data": False},
    ...         relocate_media=True,
    ...         media_mode="copy",
    ...     )
    """

    _writes_folders = True

    @docval(*get_docval(NWBZarrIO.__init__), *MEDIA_ARGS, RESOLVE_ARG)
    def __init__(self, **kwargs: Any) -> None:
        """Open an NWB file in a Zarr store."""
        self._make_ready(kwargs, on_disk=_is_local(kwargs["path"]))
        super().__init__(**kwargs)
        self._register_mappers()

    @docval(*get_docval(NWBZarrIO.write), *MEDIA_ARGS)
    def write(self, **kwargs: Any) -> None:
        """Write a container, and take its media along if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`, and `hdmf_zarr.NWBZarrIO.write` for the
        rest.
        """
        self._write(kwargs)

    @docval(*get_docval(NWBZarrIO.export), *MEDIA_ARGS)
    def export(self, **kwargs: Any) -> None:
        """Export from another IO, and take the media along if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`, and `hdmf_zarr.NWBZarrIO.export` for the
        rest. Neither the source, nor its containers, nor `write_args` are changed.
        """
        self._export(kwargs)

    def open(self) -> None:
        """Open the store, or a staged one where a store shall be created.

        Raises
        ------
        RelocationRefusedError
            If a folder that is no store would be replaced.
        """
        path = self._path()
        if self._staged and os.path.isdir(path) and zarr_marker(Path(path)) is None and os.listdir(path):
            raise RelocationRefusedError(
                f"{path} is a folder but no Zarr store, and would be removed with all that is in it; write to another "
                f"name, or move it away",
                nwb_path=path,
            )
        super().open()

    @property
    def path(self) -> Any:
        """The path as it was given; until a new store is put in place, that of the staged one.

        hdmf-zarr opens by it, and consolidates the metadata there.
        """
        staged = self._opening or (str(self._transfer.staged_document) if self._transfer else None)
        if staged is None:
            return super().path
        given = Path(NWBZarrIO.source.fget(self))
        # hdmf-zarr reckons links to other stores from the names in a path, so the folder keeps that it was given
        return staged if given.is_symlink() else str(given.with_name(os.path.basename(staged)))

    def get_builder_disk_path(self, **kwargs: Any) -> Any:
        """The path of a builder on disk, in the store that is being written."""
        if kwargs.get("filepath") is None:
            kwargs["filepath"] = self.path if self._transfer else self._path()
        return super().get_builder_disk_path(**kwargs)

    def write_attributes(self, obj: Any, attributes: Mapping[str, Any]) -> None:
        """Write attributes; in a store that was there before, those that differ.

        hdmf-zarr writes all of them again into such a store, with no journal.
        """
        if self._transfer is None:
            attributes = {
                name: value for name, value in attributes.items() if not self._attribute_unchanged(obj, name, value)
            }
        super().write_attributes(obj=obj, attributes=dict(attributes))

    def write_dataset(self, parent: Any, builder: DatasetBuilder, **kwargs: Any) -> Any:
        """Write a dataset, as the mix-in does."""
        data = builder.data
        if isinstance(data, zarr.Array) and parent.name == "/" and data.name == f"/{builder.name}":
            # hdmf-zarr 0.13 takes it for linked, because the name of the root ends in a slash, and writes a link from
            # /file_create_date to itself: such a store cannot be read any more.
            kwargs["link_data"] = kwargs.get("link_data", True) and path_of(data) != kwargs.get("export_source")
        return super().write_dataset(parent, builder, **kwargs)

    def _attribute_unchanged(self, obj: Any, name: str, value: Any) -> bool:
        """Whether an attribute has a value already."""
        if name not in obj.attrs:
            return False
        if isinstance(value, Builder | ReferenceBuilder):
            value = {"zarr_dtype": "object", "value": dict(self._create_ref(value, ref_link_source=self.path))}
        elif hasattr(value, "tolist"):  # numpy's
            value = value.tolist()
        elif isinstance(value, tuple):
            value = list(value)
        stored = obj.attrs[name]
        return type(stored) is type(value) and stored == value

    # ---------------------------------------------- what Zarr is like

    def _path(self) -> str:
        return str(self.source)

    def _is_special(self, path: str) -> bool:
        return not os.path.isdir(path)

    def _copies(self, data: Any) -> bool:
        return isinstance(data, zarr.Array)

    def _is_opened(self) -> bool:
        return self._file is not None

    def _is_empty(self) -> bool:
        return self._file is not None and not len(self._file) and not len(self._file.attrs)

    def _close_backend(self, close_links: bool) -> None:  # noqa: ARG002  # hdmf-zarr keeps no linked stores open
        NWBZarrIO.close(self)

    def _stored_like(self, old: Any, paths: Sequence[str], shape: tuple[int, ...]) -> Any:
        data, inner = shaped(paths, shape), unwrapped(old)
        settings: dict[str, Any] = {}
        if shape and isinstance(inner, zarr.Array):
            settings = dict(chunks=inner.chunks, compressor=inner.compressor)
        elif shape and isinstance(old, ZarrDataIO):
            settings = {name: value for name, value in old.io_settings.items() if value is not None}
        elif shape and ZarrDataIO.is_h5py_dataset(inner) and inner.shape is not None:
            settings = dict(ZarrDataIO.from_h5py_dataset(h5dataset=inner).io_settings)
        return ZarrDataIO(data, **settings) if settings else data

    def _refuse_without_place(self) -> None:
        if isinstance(self.path, TempStore):
            raise RelocationRefusedError(
                f"{self.source} is a store that is removed at the end, so there is no place beside it for media; write "
                f"to a path",
                nwb_path=self._path(),
            )


def _is_local(path: Any) -> bool:
    """Whether a path is one of this machine, where a folder can be staged beside it."""
    return isinstance(path, str | Path) and "://" not in str(path) and "::" not in str(path)

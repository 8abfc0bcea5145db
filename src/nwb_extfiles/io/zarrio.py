"""`NWBExtFilesZarrIO`: NWB files in Zarr stores, with their media."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr
from hdmf.build import Builder, DatasetBuilder, ReferenceBuilder
from hdmf_zarr import NWBZarrIO, ZarrDataIO
from zarr.storage import TempStore

from ..errors import RelocationRefusedError
from ..nwb.files import zarr_marker
from ..nwb.path_datasets import path_of
from .arguments import takes_arguments_of
from .backend import MediaIOMixin
from .builders import object_path_of, target_of

__all__ = ["NWBExtFilesZarrIO"]


@takes_arguments_of(NWBZarrIO)
class NWBExtFilesZarrIO(MediaIOMixin, NWBZarrIO):
    """`hdmf_zarr.NWBZarrIO` that keeps media with the NWB file.

    Everything that hdmf-zarr's class does stays as it is. `write` and `export` take three more arguments, which the
    constructor takes as defaults for code whose calls cannot be changed. The media of ``x.nwb.zarr`` go to the folder
    ``x`` beside it.

    A store that is created is written as a folder beside its final name, and gets that on a clean `close`: an export
    that fails leaves the store that stood there as it was.

    Parameters
    ----------
    path, mode, manager, synchronizer, object_codec_class, storage_options, force_overwrite, load_namespaces, extensions
        As in `hdmf_zarr.NWBZarrIO`. Missing folders of a store to be created are made. A `zarr` store object or a URL
        instead of a path is written to directly, as hdmf-zarr does.
    relocate_media, media_mode, media_options, resolve_media
        As in `NWBExtFilesHDF5IO`.

    Raises
    ------
    DestinationBusyError, TransferError, ValueError
        As in `NWBExtFilesHDF5IO`.
    RelocationRefusedError
        If a store would replace a folder that is not a store.

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
    _dataset_class = zarr.Array
    _data_io = ZarrDataIO

    def open(self) -> None:
        """Open the store; one that is to be created, under a temporary name.

        Raises
        ------
        RelocationRefusedError
            If a folder that is not a store would be replaced.
        """
        path = self._path()
        if self._creates and os.path.isdir(path) and zarr_marker(Path(path)) is None and os.listdir(path):
            raise RelocationRefusedError(
                f"{path} is a folder but not a Zarr store, and would be removed with all that is in it",
                hint="write to another name, or move it away",
                nwb_path=path,
            )
        super().open()

    @property
    def path(self) -> Any:
        """The path as it was given; until a new store is put in place, that of the temporary one.

        hdmf-zarr opens by it, and consolidates the metadata there.
        """
        writing = self._writing
        if not writing.is_new or writing.transfer is None:
            return super().path
        staged, given = writing.transfer.staged_document, Path(NWBZarrIO.source.fget(self))
        # hdmf-zarr computes links to other stores from the names in a path, so the folder stays as it was given
        return str(staged if given.is_symlink() else given.with_name(staged.name))

    def get_builder_disk_path(self, **kwargs: Any) -> Any:
        """The path of a builder on disk, in the store that is being written."""
        if kwargs.get("filepath") is None:
            kwargs["filepath"] = self.path if self._writing.is_new else self._path()
        return super().get_builder_disk_path(**kwargs)

    def write_attributes(self, obj: Any, attributes: Mapping[str, Any]) -> None:
        """Write attributes; in a store that was there before, those that differ."""
        super().write_attributes(obj=obj, attributes=self._changed(obj, attributes))

    def write_dataset(self, parent: Any, builder: DatasetBuilder, **kwargs: Any) -> Any:
        """Write a dataset, as the mix-in does."""
        data = builder.data
        if isinstance(data, zarr.Array) and parent.name == "/" and data.name == f"/{builder.name}":
            # hdmf-zarr 0.13 takes it for linked, because the name of the root ends in a slash, and writes a link from
            # /file_create_date to itself: such a store cannot be read any more.
            kwargs["link_data"] = kwargs.get("link_data", True) and path_of(data) != kwargs.get("export_source")
        return super().write_dataset(parent, builder, **kwargs)

    # ---------------------------------------------- what Zarr is like

    def _is_on_disk(self, path: Any, settings: Mapping[str, Any]) -> bool:  # noqa: ARG002
        return isinstance(path, str | Path) and "://" not in str(path) and "::" not in str(path)

    def _storage_settings(self, stored: Any) -> dict[str, Any]:
        if isinstance(stored, zarr.Array):
            return dict(chunks=stored.chunks, compressor=stored.compressor)
        if ZarrDataIO.is_h5py_dataset(stored) and stored.shape is not None:
            return dict(ZarrDataIO.from_h5py_dataset(h5dataset=stored).io_settings)
        return {}

    def _close_backend(self, close_links: bool) -> None:  # noqa: ARG002  # hdmf-zarr keeps no linked stores open
        NWBZarrIO.close(self)

    def _attribute_unchanged(self, item: Any, name: str, value: Any) -> bool:
        if name not in item.attrs:
            return False
        stored = item.attrs[name]
        if isinstance(value, Builder | ReferenceBuilder):
            return _refers_to(stored, target_of(value))
        if hasattr(value, "tolist"):  # numpy's
            value = value.tolist()
        elif isinstance(value, tuple):
            value = list(value)
        return type(stored) is type(value) and stored == value

    def _refuse_without_place(self) -> None:
        if isinstance(self.path, TempStore):
            raise RelocationRefusedError(
                f"{self.source} is a store that is removed at the end, so there is no place beside it for media",
                hint="write to a path",
                nwb_path=self._path(),
            )


def _refers_to(stored: Any, builder: Any) -> bool:
    """Whether the stored value of an attribute is hdmf-zarr's reference to an object of the same store."""
    reference = stored.get("value") if isinstance(stored, dict) else None
    return isinstance(reference, dict) and [reference.get("source"), reference.get("path")] == [
        ".", object_path_of(builder)
    ]  # fmt: skip

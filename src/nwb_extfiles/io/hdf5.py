"""`NWBExtFilesHDF5IO`: NWB files in HDF5, with their media."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.build import Builder, ReferenceBuilder
from hdmf.utils import docval, get_docval
from pynwb import NWBHDF5IO

from ..nwb.path_datasets import shaped, storage_settings, unwrapped, write_strings
from .backend import MEDIA_ARGS, RESOLVE_ARG, MediaIOMixin
from .builders import StoredPaths

__all__ = ["NWBExtFilesHDF5IO"]


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
        If another process, or another IO that is still open, is creating or editing the same file.
    TransferError
        If a killed run has left the file half edited, and it cannot be restored.
    ValueError
        If the arguments contradict each other.

    Examples
    --------
    >>> from pynwb import NWBHDF5IO
    >>> from nwb_extfiles import NWBExtFilesHDF5IO
    >>> with NWBHDF5IO("raw.nwb") as source, NWBExtFilesHDF5IO("out/sub-a.nwb", "w") as io:
    ...     io.export(src_io=source, relocate_media=True, media_mode="copy")
    """

    @docval(*get_docval(NWBHDF5IO.__init__), *MEDIA_ARGS, RESOLVE_ARG)
    def __init__(self, **kwargs: Any) -> None:
        """Open an NWB file."""
        on_disk = kwargs["path"] is not None and all(kwargs[name] is None for name in ("file", "driver", "comm"))
        self._make_ready(kwargs, on_disk=on_disk)
        super().__init__(**kwargs)
        self._register_mappers()

    @docval(*get_docval(NWBHDF5IO.write), *MEDIA_ARGS)
    def write(self, **kwargs: Any) -> None:
        """Write a container, and take its media along if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`, and `pynwb.NWBHDF5IO.write` for the rest.
        """
        self._write(kwargs)

    @docval(*get_docval(NWBHDF5IO.export), *MEDIA_ARGS)
    def export(self, **kwargs: Any) -> None:
        """Export from another IO, and take the media along if that is asked for.

        See the class for `relocate_media`, `media_mode` and `media_options`, and `pynwb.NWBHDF5IO.export` for the
        rest. Neither the source, nor its containers, nor `write_args` are changed.
        """
        self._export(kwargs)

    @classmethod
    @docval(*get_docval(NWBHDF5IO.export_io), *MEDIA_ARGS)
    def export_io(cls, **kwargs: Any) -> None:
        """Export from another IO to a path, without an IO of one's own for it.

        See `export`; `container` is the NWB file to export, if not all of the source.
        """
        path, comm, container = (kwargs.pop(name) for name in ("path", "comm", "container"))
        with cls(path=path, comm=comm, mode="w") as io:
            io.export(nwbfile=container, **kwargs)

    def set_attributes(self, obj: h5py.HLObject, attributes: Mapping[str, Any]) -> None:
        """Write attributes; in a file that was there before, those that differ.

        hdmf writes all of them again into such a file, with no journal.
        """
        if self._transfer is None:
            attributes = {
                name: value for name, value in attributes.items() if not _attribute_unchanged(obj, name, value)
            }
        super().set_attributes(obj, dict(attributes))

    # ---------------------------------------------- what HDF5 is like

    def _path(self) -> str:
        return str(self.source if self.source is not None else self._file.filename)

    def _is_special(self, path: str) -> bool:
        return not os.path.isfile(path)

    def _copies(self, data: Any) -> bool:
        return isinstance(data, h5py.Dataset)

    def _is_opened(self) -> bool:
        return self._file is not None

    def _is_empty(self) -> bool:
        return bool(self._file) and len(self._file) == 0 and len(self._file.attrs) == 0

    def _close_backend(self, close_links: bool) -> None:
        NWBHDF5IO.close(self, close_links=close_links)

    def _stored_like(self, old: Any, paths: Sequence[str], shape: tuple[int, ...]) -> Any:
        data, inner = shaped(paths, shape), unwrapped(old)
        settings: dict[str, Any] = {}
        if shape and isinstance(inner, h5py.Dataset):
            settings = storage_settings(inner)
        elif shape and isinstance(old, H5DataIO):
            settings = {name: value for name, value in old.io_settings.items() if value is not None}
        return H5DataIO(data, **settings) if settings else data

    def _write_paths(self, parent: h5py.Group, entry: StoredPaths, paths: list[str], **kwargs: Any) -> Any:
        if not isinstance(self._stored_like(entry.dataset.data, paths, entry.shape), list) or not paths:
            return super()._write_paths(parent, entry, paths, **kwargs)
        # A plain list, as nearly all are: by way of a builder it would take several times as long.
        written = write_strings(parent, entry.builder.name, paths)
        self.set_attributes(written, entry.dataset.attributes)
        return written


def _attribute_unchanged(item: h5py.HLObject, name: str, value: Any) -> bool:
    """Whether an attribute has a value already, in the very type that it would be written in."""
    stored = item.attrs.get(name)
    if isinstance(value, ReferenceBuilder):
        value = value.builder
    if isinstance(value, Builder):
        path = f"/{value.path.partition('/')[2]}"
        return isinstance(stored, h5py.Reference) and bool(stored) and item.file[stored].name == path
    if isinstance(stored, str) or isinstance(value, str):
        return isinstance(stored, str) and isinstance(value, str) and stored == value
    if stored is None or isinstance(stored, h5py.Reference | h5py.Empty):
        return False
    old, new = np.asarray(stored), np.asarray(value)
    if old.dtype.kind == "O" and new.dtype.kind in "OU":  # texts
        return bool(old.shape == new.shape and old.tolist() == new.tolist())
    return bool(old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes())

"""`NWBExtFilesHDF5IO`: NWB files in HDF5, with their media."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.build import Builder, ReferenceBuilder
from pynwb import NWBHDF5IO

from ..nwb.path_datasets import storage_settings
from ..private_names import open_file
from .arguments import takes_arguments_of, with_media_arguments
from .backend import MediaIOMixin
from .builders import object_path_of

__all__ = ["NWBExtFilesHDF5IO"]


@takes_arguments_of(NWBHDF5IO)
class NWBExtFilesHDF5IO(MediaIOMixin, NWBHDF5IO):
    """`pynwb.NWBHDF5IO` that keeps media with the NWB file.

    Everything that pynwb's class does stays as it is. `write`, `export` and `export_io` take three more arguments,
    which the constructor takes as defaults for code whose calls cannot be changed.

    Parameters
    ----------
    path, mode, load_namespaces, manager, file, comm, driver, aws_region, herd_path
        As in `pynwb.NWBHDF5IO`. Missing folders of a file to be created are made.
    relocate_media : bool, optional
        True relocates media; with nothing to relocate it warns. False writes the stored paths verbatim. None, the
        default, writes them verbatim too, but refuses if a link that works would break by it, or if the file
        lies in a dandiset and a local path in it is not where DANDI has media.
    media_mode : {"symlink", "hardlink", "reflink", "copy", "move", "reference", "auto"} or several, optional
        How media are moved, copied or linked; only together with ``relocate_media=True``. See `MediaMode`.
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
        If an interrupted run has left the file inconsistent, and it cannot be restored.
    ValueError
        If the arguments contradict each other.

    Examples
    --------
    >>> from pynwb import NWBHDF5IO
    >>> from nwb_extfiles import NWBExtFilesHDF5IO
    >>> with NWBHDF5IO("raw.nwb") as source, NWBExtFilesHDF5IO("out/sub-a.nwb", "w") as io:
    ...     io.export(src_io=source, relocate_media=True, media_mode="copy")
    """

    _dataset_class = h5py.Dataset
    _data_io = H5DataIO

    @classmethod
    @with_media_arguments(NWBHDF5IO.export_io)
    def export_io(cls, path: Any, *, comm: Any = None, container: Any = None, **kwargs: Any) -> None:
        """Export from another IO to a path, without making an IO for it first.

        See `export`; `container` is the NWB file to export, if not all of the source.
        """
        with cls(path=path, comm=comm, mode="w") as io:
            io.export(nwbfile=container, **kwargs)

    def set_attributes(self, obj: h5py.HLObject, attributes: Mapping[str, Any]) -> None:
        """Write attributes; in a file that was there before, those that differ."""
        super().set_attributes(obj, self._changed(obj, attributes))

    # ---------------------------------------------- what HDF5 is like

    def _is_on_disk(self, path: Any, settings: Mapping[str, Any]) -> bool:
        return path is not None and all(settings.get(name) is None for name in ("file", "driver", "comm"))

    def _path(self) -> str:
        return str(self.source if self.source is not None else open_file(self).filename)

    def _storage_settings(self, stored: Any) -> dict[str, Any]:
        return storage_settings(stored) if isinstance(stored, h5py.Dataset) else {}

    def _attribute_unchanged(self, item: h5py.HLObject, name: str, value: Any) -> bool:
        stored = item.attrs.get(name)
        if isinstance(value, ReferenceBuilder):
            value = value.builder
        if isinstance(value, Builder):
            path = object_path_of(value)
            return isinstance(stored, h5py.Reference) and bool(stored) and item.file[stored].name == path
        if isinstance(stored, str) or isinstance(value, str):
            return isinstance(stored, str) and isinstance(value, str) and stored == value
        if stored is None or isinstance(stored, h5py.Reference | h5py.Empty):
            return False
        old, new = np.asarray(stored), np.asarray(value)
        if old.dtype.kind == "O" and new.dtype.kind in "OU":  # strings
            return bool(old.shape == new.shape and old.tolist() == new.tolist())
        return bool(old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes())

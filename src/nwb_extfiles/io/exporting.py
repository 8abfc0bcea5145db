"""An NWB file exported by pynwb with other paths in datasets that cannot be changed in a copy of the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hdmf.build import DatasetBuilder
from pynwb import NWBHDF5IO

from .builders import ByBuilder, object_path_of

__all__ = ["export_with_paths"]


def export_with_paths(source: Path, target: Path, paths: Mapping[str, str]) -> None:
    """Export an NWB file, with variable-length strings for the paths of some objects that are datasets themselves.

    Object references to them point to the new datasets, as HDMF resolves references on export.

    Parameters
    ----------
    source : pathlib.Path
        An HDF5 file; it is only read.
    target : pathlib.Path
        A file that is replaced, or made; if the export fails, it is not whole.
    paths : mapping of str to str
        The paths to write, by the path of the object.

    Raises
    ------
    Exception
        Whatever pynwb raises for a file that it cannot read or export.
    """
    with NWBHDF5IO(source, "r") as reading, _WithPaths(str(target), paths) as io:
        io.export(src_io=reading)


class _WithPaths(NWBHDF5IO):
    def __init__(self, path: str, paths: Mapping[str, str]) -> None:
        self._paths = paths
        self._instead: ByBuilder[DatasetBuilder] = ByBuilder()  # hdmf knows what it has written by id
        super().__init__(path, "w")

    def write_dataset(self, parent: Any, builder: DatasetBuilder, **kwargs: Any) -> Any:
        path = self._paths.get(object_path_of(builder))
        if path is None or self.get_written(builder):
            return super().write_dataset(parent, builder, **kwargs)
        self._instead[builder] = DatasetBuilder(
            name=builder.name,
            data=path,
            dtype="utf8",
            attributes=dict(builder.attributes),
            parent=builder.parent,
            source=builder.source,
        )
        return super().write_dataset(parent, self._instead[builder], **kwargs)

    def get_written(self, builder: Any, **kwargs: Any) -> bool:
        return builder in self._instead or bool(super().get_written(builder, **kwargs))

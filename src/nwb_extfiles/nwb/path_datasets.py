"""How paths are stored: read from any kind of storage, written back in the same kind."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5l, h5o, h5s, h5t

from ..private_names import may_unpickle

__all__ = [
    "StoredPath",
    "as_string",
    "attribute_string",
    "encoded",
    "fits",
    "is_stored",
    "is_utf8",
    "item_at",
    "path_of",
    "paths_at",
    "read_paths",
    "read_strings",
    "replace_paths",
    "shaped",
    "storage_settings",
    "unwrapped",
    "write_in_place",
]

_STRING = h5py.string_dtype()
_STRING_IN_MEMORY = h5t.py_create(_STRING)


class StoredPath(str):
    """A path of media that remembers which NWB file it belongs to.

    Parameters
    ----------
    stored_path : str
        The path or URL, as it is or will be stored.
    nwb_path : str or None
        The NWB file that it was read from, or that it is written to; None if neither.
    """

    nwb_path: str | None

    def __new__(cls, stored_path: str, nwb_path: str | None) -> StoredPath:  # noqa: D102
        self = super().__new__(cls, stored_path)
        self.nwb_path = nwb_path
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:  # for copy and pickle
        return str(self), self.nwb_path

    @property
    def base(self) -> str | None:
        """The folder that a relative path is relative to; None if it is not known yet."""
        return None if self.nwb_path is None else os.path.dirname(self.nwb_path)

    @property
    def stored(self) -> str:
        """The path as a file holds it."""
        return str(self)


def unwrapped(value: Any) -> Any:
    """The data in an HDMF ``DataIO`` (``H5DataIO``, ``ZarrDataIO``), or the value itself."""
    while hasattr(value, "io_settings"):
        value = value.data
    return value


def is_stored(value: Any) -> bool:
    """Whether a value is a dataset in an open file: an HDF5 dataset or a Zarr array."""
    # A Zarr array is recognized by its attributes, so that zarr is not loaded for this.
    return isinstance(value, h5py.Dataset) or (hasattr(value, "store") and hasattr(value, "chunks"))


def path_of(item: Any) -> str:
    """The path of the file or store that an HDF5 or Zarr object is in."""
    if isinstance(item, h5py.HLObject):
        return os.fsdecode(h5f.get_name(item.id))  # as h5py does, without objects of its own
    store = getattr(item.chunk_store, "store", item.chunk_store)  # the one behind consolidated metadata
    if hasattr(store, "fs"):  # an FSStore, whose path has no scheme in a bucket
        return str(store.fs.unstrip_protocol(store.path)).removeprefix("file://")
    return str(store.path)


def read_paths(value: Any) -> tuple[list[str], tuple[int, ...]] | None:
    """Read stored strings of any kind.

    Parameters
    ----------
    value
        A str, bytes or path; a sequence, array or pandas column of them; an HDF5 dataset of variable length or fixed
        length strings, of any shape, chunked, compressed or empty; a Zarr array; any of these in an HDMF ``DataIO``.

    Returns
    -------
    (list of str, tuple of int) or None
        The strings in C order and the shape they were stored in, () for a scalar; None if they are not strings.
        Bytes are decoded as UTF-8; those that are not UTF-8 become surrogate escapes, as in file names.
    """
    value = unwrapped(value)
    if isinstance(value, h5py.Dataset):
        return _read_h5py(value)
    if is_stored(value):
        return _read_zarr(value)
    if isinstance(value, str | bytes | os.PathLike):
        string = as_string(value)
        return None if string is None else ([string], ())
    if hasattr(value, "shape") and hasattr(value, "dtype"):  # numpy, pandas and the like
        array = np.asarray(value)  # which ignores the index of a column
        return _as_strings(array.ravel().tolist(), array.shape)
    if isinstance(value, Sequence):
        return _as_strings(value, (len(value),))
    return None


def read_strings(dataset: h5d.DatasetID) -> tuple[list[str], tuple[int, ...]] | None:
    """Read a dataset of strings of variable length by HDF5's own calls, in a quarter of the time.

    As `read_paths`; None if it is anything else, for which `read_paths` is to be called.
    """
    kind = dataset.get_type()
    if not isinstance(kind, h5t.TypeStringID) or not kind.is_variable_str():
        return None
    if dataset.get_offset() is None:  # it may be chunked, empty, or in other files, which HDF5 must not open
        settings = dataset.get_create_plist()
        if settings.get_layout() == h5d.VIRTUAL or settings.get_external_count():
            return None
    space = dataset.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        return None
    values = np.empty(space.shape, dtype=_STRING)
    dataset.read(h5s.ALL, h5s.ALL, values, _STRING_IN_MEMORY)
    return _as_strings(values.ravel().tolist(), values.shape)


def paths_at(group: h5py.Group, path: str) -> tuple[list[str], tuple[int, ...]] | None:
    """Read the strings at a path below a group by HDF5's own calls; as `read_strings`.

    None also if nothing is there, or if the last link of the path is not a hard one.
    """
    name = path.encode("utf-8", "surrogateescape")
    try:
        is_hard = group.id.links.get_info(name).type == h5l.TYPE_HARD
        return read_strings(h5d.open(group.id, name)) if is_hard else None
    except (KeyError, RuntimeError):  # nothing is there, or it is not a dataset, or not in a group
        return None


def _read_h5py(dataset: h5py.Dataset) -> tuple[list[str], tuple[int, ...]] | None:
    dataset = getattr(dataset, "dset", dataset)  # the dataset in an hdmf StrDataset
    read = read_strings(dataset.id)
    if read is not None:
        return read
    if h5py.check_string_dtype(dataset.dtype) is None:
        return None
    if dataset.external or dataset.is_virtual:  # in other files, any files: HDF5 would wait for a pipe forever
        return None
    if dataset.shape is None:  # a null dataspace
        return [], (0,)
    array = np.asarray(dataset[()], dtype=object)
    return _as_strings(array.ravel().tolist(), dataset.shape)


def _read_zarr(array: Any) -> tuple[list[str], tuple[int, ...]] | None:
    if array.dtype.kind not in "OSU":
        return None
    if any(codec.codec_id == "pickle" for codec in array.filters or ()) and not may_unpickle():
        return None
    values = np.asarray(array[()])
    is_scalar = array.attrs.get("zarr_dtype") == "scalar" and values.shape == (1,)  # as hdmf-zarr stores one string
    return _as_strings(values.ravel().tolist(), () if is_scalar else values.shape)


def _as_strings(values: Sequence[Any], shape: tuple[int, ...]) -> tuple[list[str], tuple[int, ...]] | None:
    strings = []
    for value in values:
        string = as_string(value)
        if string is None:
            return None
        strings.append(string)
    return strings, shape


def as_string(value: Any) -> str | None:
    """One string of a file or a container as a str; None if it is not a string."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
        value = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if isinstance(value, StoredPath) or type(value) is str:
        return value
    return str(value) if isinstance(value, str) else None  # numpy's


def attribute_string(value: Any) -> str | None:
    """The string in an attribute; MatNWB and MIES store it as an array of one element."""
    if isinstance(value, np.ndarray | list | tuple) and np.shape(value) == (1,):
        value = value[0]
    return as_string(value)


def is_utf8(string: str) -> bool:
    """Whether a string was stored as UTF-8, or can be: other bytes are kept as surrogate escapes."""
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def storage_settings(dataset: h5py.Dataset) -> dict[str, Any]:
    """The arguments of `h5py.Group.create_dataset` by which a new dataset of strings is stored like an old one."""
    if dataset.chunks is None:
        return {}
    settings = dict(
        chunks=dataset.chunks,
        maxshape=dataset.maxshape,
        compression=dataset.compression,
        compression_opts=dataset.compression_opts,
        shuffle=dataset.shuffle,
    )  # no fletcher32: HDF5 makes no checksums of strings of variable length
    return {name: value for name, value in settings.items() if value is not None and value is not False}


def write_in_place(dataset: h5py.Dataset, paths: Sequence[str]) -> h5py.Dataset:
    """Write new paths, as many as there are, into a dataset of a file that is open for writing.

    Returns the same dataset, or, if its type cannot hold the paths, one of variable length UTF-8 that replaces it and
    has its attributes. Object references to the old one are broken then.
    """
    if not paths:
        return dataset  # HDF5 crashes when it writes into a null dataspace
    if fits(dataset, paths):
        values = encoded(paths, dataset.shape)
        dataset[()] = values.astype(dataset.dtype) if dataset.dtype.kind == "S" else values
        return dataset
    parent, name = dataset.parent, posixpath.basename(dataset.name)  # bytes where it is not UTF-8
    return _replace(parent, name, _stored_like(dataset, parent, paths))


def _write_over_link(owner: h5py.Group, folder: Path, name: str, paths: Sequence[str]) -> None:
    """Replace a link to a dataset of paths by a dataset; the one behind the link is not touched."""
    link = owner.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        # opened by name: from a file that was opened through a Python object h5py looks for it in that object
        with h5py.File(folder / link.filename, "r") as other:
            fresh = _stored_like(other[link.path], owner, paths)
    else:
        fresh = _stored_like(owner[name], owner, paths)
    _replace(owner, name, fresh)


def _stored_like(dataset: h5py.Dataset, group: h5py.Group, paths: Sequence[str]) -> h5py.Dataset:
    """A new dataset with the shape, storage and attributes of another one, in the file of a group, without a name."""
    values = encoded(paths, dataset.shape)
    fresh = group.create_dataset(None, data=values, dtype=_STRING, **storage_settings(dataset))
    fresh.attrs.update(dataset.attrs)
    return fresh


def _replace(group: h5py.Group, name: str | bytes, fresh: h5py.Dataset) -> h5py.Dataset:
    """Give a dataset that is whole the name of an old one, so that a failure before leaves the old one."""
    del group[name]
    group[name] = fresh
    return group[name]


def item_at(file: Any, object_path: str) -> Any:
    """The object at a path in an HDF5 file or Zarr store; bytes that are not UTF-8 may be surrogate escapes in it."""
    return file[object_path.encode("utf-8", "surrogateescape") if isinstance(file, h5py.Group) else object_path]


def replace_paths(file: h5py.File, folder: Path, object_path: str, field: str, paths: Sequence[str]) -> None:
    """Change the paths in one field of an object, which may itself be the dataset, in a file that is open for writing.

    External links are relative to `folder`, where the file is. There are as many paths as are stored, in C order.
    """
    owner = item_at(file, object_path)
    if isinstance(owner, h5py.Dataset):
        write_in_place(owner, paths)
    elif _is_its_own(owner, field):
        write_in_place(owner[field], paths)
    else:
        _write_over_link(owner, folder, field, paths)  # the dataset behind a link may belong to another file


def _is_its_own(owner: h5py.Group, name: str) -> bool:
    """Whether a dataset has no other name, by which it belongs to another object, whose media have other names."""
    is_hard = isinstance(owner.get(name, getlink=True), h5py.HardLink)
    return is_hard and h5o.get_info(owner.id, name.encode("utf-8", "surrogateescape")).rc == 1


def encoded(paths: Sequence[str], shape: tuple[int, ...]) -> Any:
    """An array of paths as bytes, because they may hold what UTF-8 cannot."""
    values = np.empty(len(paths), dtype=object)
    values[:] = [path.encode("utf-8", "surrogateescape") for path in paths]
    return values.reshape(shape)


def shaped(paths: Sequence[str], shape: tuple[int, ...]) -> Any:
    """Paths as HDMF takes them, in the shape they are stored in: one, a list, or an array of objects."""
    if not all(map(is_utf8, paths)):
        return encoded(paths, shape) if shape else paths[0].encode("utf-8", "surrogateescape")
    if shape == ():
        return paths[0]
    return list(paths) if len(shape) == 1 else np.array(paths, dtype=object).reshape(shape)


def fits(dataset: h5py.Dataset, paths: Sequence[str]) -> bool:
    """Whether the type of a dataset can hold the paths."""
    kind = h5py.check_string_dtype(dataset.dtype)
    values = [path.encode("utf-8", "surrogateescape") for path in paths]
    if kind.encoding == "ascii" and not all(map(bytes.isascii, values)):
        return False
    if kind.length is None:
        return True
    ends = dataset.id.get_type().get_strpad() == h5py.h5t.STR_NULLTERM  # with a byte of its own
    return all(len(path) <= kind.length - ends for path in values)

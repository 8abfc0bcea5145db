"""Reads each NWB file that is to be organized once, for all that planning has to know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...batch import each
from ...disk import filesystem
from ...disk.moves import stamp
from ...errors import ExternalFilesError, UnreadableFileError
from ...nwb.files import NWB_SUFFIX, open_nwb
from ...nwb.manifest import read_manifest
from ...nwb.path_datasets import as_string
from ...nwb.registry import MediaField
from ...nwb.scan import find_in_file
from ...plans.targets import nwb_stem
from ...transfers.interrupted import is_interrupted
from ..named_files import require_nwb
from ..written_files import file_identifier, interrupted_edit, stored_identifier
from .inspected import Inspected, Named
from .layout import BY_DANDI, LinkToOtherFile, external_links, layout_metadata, missing_metadata

if TYPE_CHECKING:
    from .known import KnownFiles

__all__ = ["SUFFIX", "inspect_all", "read_named"]

SUFFIX = "nwb-extfiles suffix"
"""Key in the metadata of a file: the suffix that its name gets after the one from dandi."""


def inspect_all(
    sources: Sequence[Path],
    table: Sequence[MediaField],
    executor: Executor | None,
    problems: list[ExternalFilesError],
    known: KnownFiles | None = None,
) -> tuple[list[Inspected], list[UnreadableFileError]]:
    """Read all files once.

    Parameters
    ----------
    sources : sequence of pathlib.Path
        NWB files, each once.
    table : sequence of MediaField
        The places to look at for references.
    executor : concurrent.futures.Executor, optional
        Who reads the files.
    problems : list of ExternalFilesError
        Gets the problems of files that can be read and named.
    known : KnownFiles, optional
        What earlier runs know of the bytes of files. Gets what this run finds.

    Returns
    -------
    list of Inspected, list of UnreadableFileError
        The files that can be named, in the order of the sources, and why the others cannot.
    """
    inspected: list[Inspected] = []
    unreadable: list[UnreadableFileError] = []
    inspect = partial(_inspect, table=table, known=known)
    for _, result in sorted(each(inspect, sources, executor), key=itemgetter(0)):  # two runs say the same
        if isinstance(result, UnreadableFileError):
            unreadable.append(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            problems.extend(result.problems)
            inspected.append(result)
            if known is not None:
                known.keep_inspected(result)
    return inspected, unreadable


def _inspect(path: Path, *, table: Sequence[MediaField], known: KnownFiles | None) -> Inspected:
    """Read the metadata that a file is named from, and its references."""
    content = None if known is None else known.content(path)
    try:
        if known is None or content is None:
            return _read(path, table)
        found = known.inspected(path, content)
        if found is not None:
            problems = (interrupted_edit(path),) if is_interrupted(Path(os.path.realpath(path))) else ()
            return replace(found, problems=problems)
        found = _read(path, table, content.digest)
        is_same = found.stamp == content.stamp and known.content(path) == content  # what was read in between too
        return found if is_same else replace(found, digest=None)
    except ExternalFilesError:
        raise
    except Exception as error:  # one file must not stop the others
        raise UnreadableFileError(
            f"{path} cannot be read: {type(error).__name__}: {error}", nwb_path=str(path)
        ) from error


def _read(path: Path, table: Sequence[MediaField], digest: bytes | None = None) -> Inspected:
    """Read a file; the result has the digest of its bytes if nothing else decides about it."""
    problems: list[ExternalFilesError] = []
    is_store = path.is_dir()
    if not is_store and path.suffix != NWB_SUFFIX:
        raise UnreadableFileError(
            f"{path} does not end in {NWB_SUFFIX}, and DANDI accepts only NWB files that do",
            hint="rename it",
            nwb_path=str(path),
        )
    with open_nwb(path) as file:
        require_nwb(file, path)
        status = os.stat(path)
        links = external_links(file)
        if links:
            raise UnreadableFileError(
                f"{path} has links to other files, which DANDI does not accept, such as {links[0]}",
                hint=_without_links(links),
                nwb_path=str(path),
            )
        try:
            metadata = layout_metadata(file, path)
        except Exception as error:  # dandi's reader raises what it meets
            raise UnreadableFileError(
                f"{path}: dandi cannot read the metadata that its name is made of: {error}", nwb_path=str(path)
            ) from error
        reason = missing_metadata(metadata)
        if reason is not None:
            raise UnreadableFileError(f"{path} cannot be named: {reason}", hint="add it", nwb_path=str(path))
        metadata |= _suffix(path)
        references = find_in_file(file, table, problems)
        manifest = read_manifest(file, path)
        object_id = as_string(file.attrs.get("object_id"))
        identifier = stored_identifier(file)
    if is_interrupted(Path(os.path.realpath(path))):
        problems.append(interrupted_edit(path))
    return Inspected(
        path,
        filesystem.tree_size(path) if is_store else status.st_size,
        stamp(status),
        nwb_stem(path) if identifier is None else identifier,
        object_id,
        metadata,
        tuple(references),
        None if manifest is None else tuple(manifest),
        tuple(problems),
        None if identifier is None or problems or BY_DANDI in metadata else digest,
    )


def _without_links(links: Sequence[LinkToOtherFile]) -> str:
    """How to make a file without links to other files."""
    typed = next((link for link in links if link.is_typed), None)
    if typed is None:
        return 'export it with write_args={"link_data": False} first'
    # HDMF copies linked objects only where the schema wants an object of the file's own.
    return (
        f"{typed.name} must point to an object of the same file: read the file with pynwb, add that object to it "
        f"(`linked.reset_parent()`, then `nwbfile.add_acquisition(linked)`, or as fits its type), and export the "
        f'nwbfile with write_args={{"link_data": False}}'
    )


def read_named(path: Path, known: KnownFiles | None = None) -> Named | None:
    """Read the metadata of a file that is in the dandiset already; None if it cannot be read or named."""
    found = None if known is None else known.named(path)
    if found is not None:
        return found
    try:
        with open_nwb(path) as file:
            metadata = layout_metadata(file, path)
            if missing_metadata(metadata) is not None:
                return None
            ids = as_string(file.attrs.get("object_id")), file_identifier(file, path)
            return Named(path, *ids, metadata | _suffix(path))
    except Exception:  # noqa: BLE001  # dandi's reader raises what it meets
        return None


def _suffix(path: Path) -> dict[str, Any]:
    """Metadata with which dandi, which has no names for Zarr stores, names one like a file; .zarr is added later."""
    return {"path": f"{path.with_name(nwb_stem(path))}{NWB_SUFFIX}", SUFFIX: ".zarr"} if path.is_dir() else {}

"""Which asset of which dandiset an NWB file on this machine was downloaded from."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from ..disk.filesystem import with_real_folder
from ..errors import ExternalFilesError, MissingMediaError, RelocationRefusedError, UnsafeReferenceError, warn
from ..hints import Hint
from ..plans.targets import dandiset_above
from ..web.addresses import address_of
from ..web.archive import DandisetAssets, Dandisets
from ..web.archive_client import is_known
from ..web.asset_download import has_content

__all__ = ["Dandiset", "recorded_address"]

_YAML = "dandiset.yaml"


def recorded_address(dandiset_path: Path) -> str | None:
    """The dandiset that a ``dandiset.yaml``, as ``dandi download`` writes it, says that it is of; None if it does not.

    Parameters
    ----------
    dandiset_path : pathlib.Path
        The folder that has the file.

    Returns
    -------
    str or None
        A URL or citation with the version, if that is known. None also for an archive that dandi does not know: whoever
        made the file would decide which server this machine contacts.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with open(dandiset_path / _YAML, "rb") as stream:
            found: Any = YAML(typ="safe", pure=True).load(stream)
    except (OSError, YAMLError, ValueError, RecursionError):  # ValueError: a date that does not exist, bad UTF-8
        return None
    if not isinstance(found, dict):
        return None
    # The first decides: other archives have the identifiers of DANDI too. The last has no version.
    value = next((str(found[key]) for key in ("url", "id", "identifier") if found.get(key)), "")
    address = address_of(value)
    return value if address is not None and address.dandiset is not None and is_known(address) else None


class Dandiset:
    """The dandiset that NWB files are from.

    Parameters
    ----------
    source : str, optional
        Its URL, or that of one of its NWB files or folders; by default what the ``dandiset.yaml`` above a file says.
    names_file : bool
        Whether the URL of an NWB file names the one that is asked for, whatever that is called here; else, one of
        several.
    """

    def __init__(self, source: str | None = None, *, names_file: bool = True) -> None:
        self._source, self._names_file = source, names_file
        self._dandisets = Dandisets()
        self._files: dict[str, list[DandisetAssets]] = {}
        self._drafts: dict[str, DandisetAssets | None] = {}
        self._around: dict[Path, DandisetAssets] = {}

    def around(self, nwb_path: Path) -> DandisetAssets:
        """The assets around the one that an NWB file was downloaded from.

        Raises
        ------
        RelocationRefusedError
            If it is not known which dandiset that is, or which version has the content of the file.
        MissingMediaError
            If there is no such dandiset, or no such NWB file in it.
        UnsafeReferenceError
            If the URL does not name a dandiset, or if it is not certain which of its NWB files is meant.
        UnreadableFileError
            If the archive does not answer, or refuses.
        """
        if nwb_path not in self._around:
            self._around[nwb_path] = self._find(nwb_path)
        return self._around[nwb_path]

    def _find(self, nwb_path: Path) -> DandisetAssets:
        root = dandiset_above(with_real_folder(nwb_path))
        source = self._source or (recorded_address(root) if root is not None else None)
        if source is None:
            unknown = f"{root}/{_YAML} names no dandiset in an archive that dandi knows"
            where = "no dandiset.yaml is above it" if root is None else unknown
            raise RelocationRefusedError(
                f"{nwb_path}: it is not known which dandiset it is from, because {where}",
                hint=Hint("name it with {fetch_from}"),
                nwb_path=str(nwb_path),
            )
        named = self._dandisets.around(source)
        if named is None:
            raise UnsafeReferenceError(
                f"{source} does not name a dandiset", hint="give dandi://<instance>/<dandiset>[@<version>][/<path>]"
            )
        if _names_version(source) or (self._source is not None and self._draft(named) is None):
            return self._chosen(nwb_path, root, named)  # there is one version only, if the user names none
        return self._of_its_content(nwb_path, root, named)

    def _chosen(self, nwb_path: Path, root: Path | None, named: DandisetAssets) -> DandisetAssets:
        """The NWB file in the version that is named."""
        if named.nwb_url not in self._files:
            self._files[named.nwb_url] = named.nwb_files()
        files = self._files[named.nwb_url]
        if self._is_one(files, named):
            return files[0]
        relative = None if root is None else with_real_folder(nwb_path).relative_to(root).as_posix()
        return _chosen(nwb_path, relative, files, named)

    def _is_one(self, files: list[DandisetAssets], named: DandisetAssets) -> bool:
        return self._names_file and [file.path for file in files] == [named.path]

    def _of_its_content(self, nwb_path: Path, root: Path | None, published: DandisetAssets) -> DandisetAssets:
        """The NWB file in the version that has it with the same content: the last published one, else the draft."""
        found: list[DandisetAssets] = []
        problems: list[ExternalFilesError] = []
        for version in filter(None, (published, self._draft(published))):
            try:
                found.append(self._chosen(nwb_path, root, version))
            except (MissingMediaError, UnsafeReferenceError) as problem:
                problems.append(problem)
                continue
            if _may_be(found[-1], nwb_path):
                if version is not published:
                    warn(
                        f"{nwb_path}: it is the file of the draft, and {published.dandiset} has another one; its media "
                        f"are those of the draft"
                    )
                return found[-1]
        if not found:
            raise problems[0]
        if self._source is not None and self._is_one(found[:1], published):
            warn(
                f"{nwb_path}: {self._source} names no version, and the file has other content there; its media are "
                f"those of {found[0].dandiset}",
                hint=Hint("name another version with {fetch_from}"),
            )
            return found[0]
        raise RelocationRefusedError(
            f"{nwb_path}: {self._source or f'{root}/{_YAML}'} names no version of the dandiset, and "
            f"{' and '.join(one.dandiset for one in found)} {'has' if len(found) == 1 else 'have'} the file with other "
            f"content",
            hint=Hint("name the dandiset and the version with {fetch_from}"),
            nwb_path=str(nwb_path),
        )

    def _draft(self, published: DandisetAssets) -> DandisetAssets | None:
        if published.nwb_url not in self._drafts:
            self._drafts[published.nwb_url] = published.draft
        return self._drafts[published.nwb_url]


def _names_version(source: str) -> bool:
    address = address_of(source)
    return address is not None and address.version is not None


def _chosen(nwb_path: Path, relative: str | None, files: list[DandisetAssets], named: DandisetAssets) -> DandisetAssets:
    at_place = [file for file in files if file.path == relative]
    alike = at_place or [file for file in files if posixpath.basename(file.path) == nwb_path.name]
    same = at_place or [file for file in alike if _may_be(file, nwb_path)]
    if len(same) == 1:
        return same[0]
    problem: type[MissingMediaError | UnsafeReferenceError] = UnsafeReferenceError
    if not alike:
        problem, what = MissingMediaError, f"{named.dandiset} has no NWB file of that name"
        if named.path in [file.path for file in files]:
            what = f"{named.nwb_url} names one NWB file, and this is another"
    elif len(alike) == 1:
        what = f"{named.dandiset} has one NWB file of that name, {alike[0].path!r}, with other content"
    else:
        what = f"{named.dandiset} has {len(alike)} NWB files of that name, such as {alike[0].path!r}"
    raise problem(
        f"{nwb_path}: {what}",
        hint=Hint("fetch for this file alone, and name the asset itself with {fetch_from}"),
        nwb_path=str(nwb_path),
    )


def _may_be(file: DandisetAssets, nwb_path: Path) -> bool:
    """Whether a file on this machine has the content of an asset."""
    return has_content(file.asset(file.path), nwb_path)

"""NWB files and media in DANDI archives, found by dandi's own client, which is imported only then.

The address of an asset says where the media of an NWB file are: in the same version of the same dandiset. The URL of
its content does not; it may be the content of assets of several dandisets.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

from ..errors import MissingMediaError, UnreadableFileError, UnsafeReferenceError
from ..hints import shell_word
from ..threads import each_in_threads
from .addresses import EXAMPLE, Address, address_of
from .archive_client import archive_errors, asking, client_for
from .remote import SCHEMES, UNKNOWN_BASE, folder_of, scheme_of, source_of

__all__ = ["ArchivedFile", "DandisetAssets", "Dandisets", "base_of", "is_asset", "place_of"]

_PER_PAGE = 1000  # the most that an archive gives at once
_AT_ONCE = 8  # requests
_NWB_SUFFIXES = (".nwb", ".nwb.zarr")


def is_asset(value: object) -> bool:
    """Whether a value is an asset as dandi's client gives it."""
    return type(value).__module__.partition(".")[0] == "dandi" and hasattr(value, "base_download_url")


def place_of(given: Any) -> str:
    """The place of an NWB file that a caller names, as `source_of` gives it for those that are open.

    Parameters
    ----------
    given : str, path or dandi.dandiapi.BaseRemoteAsset
        ``opened_from``. No archive is asked.
    """
    if is_asset(given):
        return _around(given).nwb_url if hasattr(given, "dandiset_id") else str(given.base_download_url)
    place = str(os.fspath(given))
    address = address_of(place)
    if address is None:
        return source_of(place)
    if "://" in place:
        return place
    version = "" if address.version is None else f"@{address.version}"
    return f"dandi://{address.instance}/{address.dandiset}{version}/{address.path or ''}"


def _around(asset: Any) -> DandisetAssets:
    return DandisetAssets(asset.client.get_dandiset(asset.dandiset_id, asset.version_id), asset.path)


def base_of(place: str) -> str:
    """What relative paths in an NWB file mean, by the place of the file as `source_of` gives it.

    Returns
    -------
    str
        A folder on this machine or behind a URL; for an asset of a dandiset its own address, which `Dandisets` knows;
        `UNKNOWN_BASE` where the place does not tell.
    """
    address = address_of(place)
    if address is None:
        return folder_of(place)
    return UNKNOWN_BASE if address.dandiset is None else place


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """An asset."""

    path: str
    """In its dandiset."""
    urls: tuple[str, ...]
    """That open; empty for a Zarr store that nobody can read by its URL."""
    sha256: str | None
    """Computed by the archive; None if it has not done so yet."""


class DandisetAssets:
    """The assets around an NWB file in one version of a dandiset.

    Parameters
    ----------
    dandiset : dandi.dandiapi.RemoteDandiset
        In that version.
    path : str
        The path of the NWB file in the dandiset.
    """

    def __init__(self, dandiset: Any, path: str) -> None:
        self._dandiset, self.path = dandiset, path
        self._listed: list[str] = []
        self._assets: dict[str, Any] = {}
        self._signed: dict[str, str] = {}

    @property
    def dandiset(self) -> str:
        """The dandiset and its version, for messages."""
        return f"dandiset {self._dandiset.identifier}, version {self._dandiset.version_id}"

    @property
    def draft(self) -> DandisetAssets | None:
        """The same path in the draft; None if this is the draft.

        Raises
        ------
        UnreadableFileError
            If the archive does not answer, or refuses.
        """
        if self._dandiset.version_id == "draft":
            return None
        with archive_errors(self.nwb_url, self._dandiset.client):
            return DandisetAssets(self._dandiset.for_version(self._dandiset.draft_version), self.path)

    @property
    def nwb_url(self) -> str:
        """The address of the NWB file."""
        return self._url_of(self.path)

    def _url_of(self, path: str) -> str:
        from dandi.consts import known_instances

        client, dandiset = self._dandiset.client, self._dandiset
        name = client.dandi_instance.name
        if name in known_instances:
            return f"dandi://{name}/{dandiset.identifier}@{dandiset.version_id}/{path}"
        return f"{client.get_url(dandiset.version_api_path)}assets/?path={quote(path)}"

    def path_of(self, stored_path: str) -> str | None:
        """The path in the dandiset that a relative path in the NWB file means; None if it leaves the dandiset."""
        if not self.path or self.path.endswith("/"):
            raise UnsafeReferenceError(f"{self.nwb_url} names no NWB file", hint=f"give {EXAMPLE}")
        relative = stored_path.replace("\\", "/")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), relative))
        return None if path.startswith(("../", "/")) or path in ("..", ".") else path

    def find(self, path: str) -> ArchivedFile | None:
        """Find an asset by its path in the dandiset; None if there is none.

        The archive is asked once for all assets in the folder of the path, and once more for each asset of an
        embargoed dandiset, whose content is only given by a signed URL, unless `sign_ahead` has asked for that.

        Raises
        ------
        UnreadableFileError
            If the archive does not answer, or refuses.
        """
        asset = self.asset(path)
        if asset is None:
            return None
        with archive_errors(self.nwb_url, self._dandiset.client):
            return _described(asset, asset.download_url, is_open=self._is_open, signed=self._signed.pop(path, None))

    def asset(self, path: str) -> Any:
        """An asset as dandi's client gives it, by its path in the dandiset; None if there is none. Raises as `find`."""
        with archive_errors(self.nwb_url, self._dandiset.client):
            if not any(path.startswith(prefix) for prefix in self._listed):
                folder = posixpath.dirname(path)
                self._list(f"{folder}/" if folder else path)
            return self._assets.get(path)

    @property
    def _is_open(self) -> bool:
        return bool(self._dandiset.embargo_status.value == "OPEN")

    def sign_ahead(self, stored_paths: Iterable[str]) -> None:
        """Ask for the signed URLs of the assets that relative paths in the NWB file mean, several at the same time.

        An archive signs one at a time. Nothing is asked if the dandiset is open. What is refused is left to `find`.
        """
        if self._is_open:
            return
        meant = dict.fromkeys(path for path in map(self.path_of, stored_paths) if path is not None)
        assets = [asset for asset in map(self.asset, meant) if asset is not None and not hasattr(asset, "zarr")]

        def sign(asset: Any, _: object) -> str:
            return _signed(asset.client, asset.download_url)

        with closing(each_in_threads(sign, assets, _AT_ONCE, lambda count: None)) as results:
            for number, url in results:
                if isinstance(url, BaseException):
                    break
                self._signed[assets[number].path] = url

    @property
    def content_url(self) -> str:
        """A URL at which the NWB file opens.

        Raises
        ------
        MissingMediaError
            If there is no such asset.
        UnreadableFileError
            If the archive does not answer, or refuses, or gives no URL.
        """
        asset = self.find(self.path)
        if asset is None:
            raise MissingMediaError(f"{self.nwb_url}: {self.dandiset} has no such asset", nwb_path=self.nwb_url)
        if not asset.urls:
            raise UnreadableFileError(
                f"{self.nwb_url} is a Zarr store of an embargoed dandiset, which cannot be read by a URL",
                hint=f"download it with `dandi download {shell_word(self.nwb_url)}`",
                nwb_path=self.nwb_url,
            )
        return asset.urls[0]

    def nwb_files(self) -> list[DandisetAssets]:
        """The NWB files at the path, which may be that of a folder, or empty: each with the assets around it.

        Raises
        ------
        MissingMediaError
            If there is neither an asset nor a folder with NWB files.
        UnreadableFileError
            If the archive does not answer, or refuses.
        """
        if self.path and not self.path.endswith("/") and self.asset(self.path) is not None:
            return [self]
        folder = self.path.rstrip("/") + "/" if self.path else ""
        with archive_errors(self.nwb_url, self._dandiset.client):
            self._list(folder)
        paths = [path for path in sorted(self._assets) if path.startswith(folder) and path.endswith(_NWB_SUFFIXES)]
        if not paths:
            raise MissingMediaError(
                f"{self.nwb_url}: {self.dandiset} has no NWB file {self.path or 'at all'!r}",
                hint="check the path and the version",
                nwb_path=self.nwb_url,
            )
        return [self._beside(path) for path in paths]

    def _beside(self, path: str) -> DandisetAssets:
        other = DandisetAssets(self._dandiset, path)
        other._listed, other._assets = self._listed, self._assets
        return other

    def _list(self, prefix: str) -> None:
        from dandi.dandiapi import RemoteAsset
        from dandi.exceptions import NotFoundError

        client, address = self._dandiset.client, f"{self._dandiset.version_api_path}assets/"
        parameters = {"path": prefix, "metadata": "true"}  # which dandi's own listing does not ask for
        try:
            for record in client.paginate(address, page_size=_PER_PAGE, params=parameters):
                metadata = record.pop("metadata", None)
                self._assets[record["path"]] = RemoteAsset.from_data(self._dandiset, record, metadata)
        except NotFoundError as error:
            raise MissingMediaError(f"{self.nwb_url}: {error}", nwb_path=self.nwb_url) from error
        self._listed.append(prefix)


def _described(asset: Any, download_url: str, *, is_open: bool, signed: str | None = None) -> ArchivedFile:
    metadata = asset.get_raw_metadata()
    content = [url for url in metadata.get("contentUrl", ()) if isinstance(url, str) and scheme_of(url) in SCHEMES]
    # the archive's metadata name its own download without the dandiset too, which leads to the same
    elsewhere = [url for url in content if not url.startswith(asset.client.api_url)]
    is_zarr = hasattr(asset, "zarr")
    if is_open:
        urls = elsewhere if is_zarr else [download_url, *elsewhere]
    else:
        urls = [] if is_zarr else [signed or _signed(asset.client, download_url)]
    sha256 = metadata.get("digest", {}).get("dandi:sha2-256")
    return ArchivedFile(asset.path, tuple(dict.fromkeys(urls)), sha256)


def _signed(client: Any, download_url: str) -> str:
    """The URL that a download is redirected to. It has no key of the user, who alone gets it, and opens for a while."""
    location = client.get(download_url, json_resp=False, allow_redirects=False).headers["Location"]
    url = urljoin(download_url, str(location))
    if scheme_of(url) not in SCHEMES:
        raise ValueError(f"it redirects to a {scheme_of(url)} URL")
    return url


class Dandisets:
    """The dandisets that NWB files are in, each connected to once.

    Parameters
    ----------
    given : object, optional
        What the caller names as the place of an NWB file. An asset is asked for through its own client, which may have
        an API key.
    """

    def __init__(self, given: Any = None) -> None:
        self._around: dict[str, DandisetAssets] = {}
        if is_asset(given):
            self.around(given)

    def around(self, place: Any) -> DandisetAssets | None:
        """The assets around an NWB file.

        Parameters
        ----------
        place : str or dandi.dandiapi.BaseRemoteAsset
            The NWB file: an asset, or a place as `source_of` gives it.

        Returns
        -------
        DandisetAssets or None
            None if the place does not name a dandiset, which no archive is asked for.

        Raises
        ------
        MissingMediaError
            If there is no such dandiset, version or asset.
        UnsafeReferenceError
            If the archive is unknown.
        UnreadableFileError
            If the archive does not answer, or refuses.
        """
        if not isinstance(place, str):
            if not hasattr(place, "dandiset_id"):
                return None
            assets = _around(place)
            return self._around.setdefault(assets.nwb_url, assets)
        address = address_of(place)
        if address is None and place.lower().startswith("dandi://"):
            raise UnsafeReferenceError(f"{place} names no dandiset", hint=f"give {EXAMPLE}", nwb_path=place)
        if address is None or address.dandiset is None:
            return None
        if place not in self._around:
            assets = _connected(address, place)
            self._around[place] = self._around.setdefault(assets.nwb_url, assets)
        return self._around[place]

    def asset_at(self, url: str) -> ArchivedFile | None:
        """The asset that the URL of its content names by its identifier, as the metadata in an archive have it.

        Returns
        -------
        ArchivedFile or None
            None if the URL names no asset, as those of S3, or its server is no archive that dandi can ask.

        Raises
        ------
        As `around`.
        """
        address = address_of(url)
        if address is None or address.asset is None:
            return None
        try:
            client = client_for(address, url)
        except UnreadableFileError:
            return None
        if address.dandiset is not None and (assets := self.around(url)) is not None:
            return assets.find(assets.path)
        from dandi.exceptions import NotFoundError

        with archive_errors(url, client):
            try:
                asset = asking(client, lambda: client.get_asset(address.asset))
            except NotFoundError as error:
                raise MissingMediaError(f"{url}: {error}", nwb_path=url) from error
            is_open = "Authorization" not in client.session.headers
            return _described(asset, asset.base_download_url, is_open=is_open)


def _connected(address: Address, place: str) -> DandisetAssets:
    from dandi.exceptions import NotFoundError

    client = client_for(address, place)
    with archive_errors(place, client):
        try:
            dandiset = asking(client, lambda: client.get_dandiset(address.dandiset, address.version, lazy=False))
            path = address.path or ("" if address.asset is None else dandiset.get_asset(address.asset).path)
        except NotFoundError as error:
            raise MissingMediaError(f"{place}: {error}", nwb_path=place) from error
    return DandisetAssets(dandiset, path)

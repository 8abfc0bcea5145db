"""The dandisets that NWB files are in, in all the ways in which a caller names them.

dandi's own client is imported only when an archive is asked.
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import MissingMediaError, UnreadableFileError, UnsafeReferenceError
from .addresses import EXAMPLE, Address, address_of
from .archive import ArchivedFile, DandisetAssets, described
from .archive_client import archive_errors, asking, client_for
from .remote import UNKNOWN_BASE, folder_of, source_of

__all__ = ["Dandisets", "base_of", "is_asset", "place_of"]


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
            return described(asset, asset.base_download_url, is_open=is_open)


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

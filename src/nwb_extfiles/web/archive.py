"""Assets of a dandiset in the DANDI archive, found by dandi's own client, which is imported only then."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import MissingMediaError, UnreadableFileError, UnsafeReferenceError

__all__ = ["DandisetAssets", "assets_of", "is_asset", "names_asset"]

# https://<server>/api/[dandisets/<id>/versions/<version>/]assets/<asset id>/[download/]
_API_URL = re.compile(
    r"https?://.+?/(dandisets/[0-9]{6}/versions/[^/]+/)?assets/[0-9a-f-]{36}(/download)?/?", re.IGNORECASE
)


def names_asset(url: str) -> bool:
    """Whether a URL names an asset of the archive: a ``dandi://`` URL, or one of the archive's API."""
    return url.lower().startswith("dandi://") or _API_URL.fullmatch(url) is not None


def is_asset(value: object) -> bool:
    """Whether a value is an asset as dandi's client gives it."""
    return type(value).__module__.partition(".")[0] == "dandi" and hasattr(value, "base_download_url")


class DandisetAssets:
    """The assets around an NWB file in one version of a dandiset.

    Parameters
    ----------
    asset : dandi.dandiapi.RemoteAsset
        The NWB file.
    """

    def __init__(self, asset: Any) -> None:
        self._asset = asset
        self._dandiset = asset.client.get_dandiset(asset.dandiset_id, asset.version_id)
        self._found: dict[str, tuple[str, ...]] = {}

    @property
    def dandiset(self) -> str:
        """The dandiset and its version, for messages."""
        return f"dandiset {self._asset.dandiset_id}, version {self._asset.version_id}"

    @property
    def nwb_url(self) -> str:
        """The NWB file as a ``dandi://`` URL."""
        instance = self._asset.client.dandi_instance.name
        return f"dandi://{instance}/{self._asset.dandiset_id}@{self._asset.version_id}/{self._asset.path}"

    @property
    def nwb_urls(self) -> tuple[str, ...]:
        """The URLs of the NWB file itself; empty if it is a Zarr store, which is not a single file."""
        return () if self._asset.asset_type.value == "zarr" else _urls(self._asset)

    def path_of(self, stored_path: str) -> str | None:
        """The path in the dandiset that a relative path in the NWB file means; None if it leaves the dandiset."""
        relative = stored_path.replace("\\", "/")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self._asset.path), relative))
        return None if path.startswith(("../", "/")) or path in ("..", ".") else path

    def find(self, path: str) -> tuple[str, ...]:
        """The URLs of an asset, by its path in the dandiset.

        Returns
        -------
        tuple of str
            Its download URL, then others in its metadata, such as S3's; empty if there is no such asset.

        Raises
        ------
        UnreadableFileError
            If the archive does not answer.
        """
        from dandi.exceptions import NotFoundError

        if path not in self._found:
            with _archive_errors(self.nwb_url):
                try:
                    self._found[path] = _urls(self._dandiset.get_asset_by_path(path))
                except NotFoundError:
                    self._found[path] = ()
        return self._found[path]


def _urls(asset: Any) -> tuple[str, ...]:
    download = asset.download_url
    content = [url for url in asset.get_raw_metadata().get("contentUrl", ()) if isinstance(url, str)]
    # the archive's metadata name its own download without the dandiset too, which leads to the same
    elsewhere = [url for url in content if not url.startswith(asset.client.api_url)]
    return tuple(dict.fromkeys((download, *elsewhere)))


@contextmanager
def assets_of(source: Any) -> Iterator[DandisetAssets]:
    """Find the assets around an NWB file; they can be used inside the ``with``, while the archive is connected.

    Parameters
    ----------
    source : str or dandi.dandiapi.RemoteAsset
        The NWB file: the asset, or a URL that `names_asset`.

    Raises
    ------
    MissingMediaError
        If there is no such asset.
    UnsafeReferenceError
        If it is not exactly one asset of a dandiset.
    UnreadableFileError
        If the archive does not answer.
    """
    if not isinstance(source, str):
        if not hasattr(source, "dandiset_id"):
            raise UnsafeReferenceError(
                f"{source} does not name its dandiset, so no videos can be found beside it",
                hint="get the asset from a RemoteDandiset, or give its dandi:// URL",
            )
        yield DandisetAssets(source)
        return
    from dandi.dandiarchive import parse_dandi_url
    from dandi.exceptions import NotFoundError, UnknownURLError

    try:
        parsed = parse_dandi_url(source)
    except (UnknownURLError, ValueError, RuntimeError) as error:
        raise UnsafeReferenceError(
            f"{source}: {error}", hint="give dandi://<instance>/<dandiset>[@<version>]/<path>", nwb_path=source
        ) from error
    with parsed.get_client() as client:
        try:
            with _archive_errors(source):
                assets = list(parsed.get_assets(client, strict=True))
        except (NotFoundError, ValueError) as error:
            raise MissingMediaError(f"{source}: {error}", nwb_path=source) from error
        if len(assets) != 1 or not hasattr(assets[0], "dandiset_id"):
            raise UnsafeReferenceError(
                f"{source} is not exactly one asset of a dandiset",
                hint="give dandi://<instance>/<dandiset>[@<version>]/<path of the NWB file>",
                nwb_path=source,
            )
        yield DandisetAssets(assets[0])


@contextmanager
def _archive_errors(nwb_url: str) -> Iterator[None]:
    from requests import RequestException

    try:
        yield
    except RequestException as error:
        raise UnreadableFileError(
            f"{nwb_url}: the archive does not answer as expected: {error}",
            hint="try again, and log in with `dandi login` if the dandiset is embargoed",
            nwb_path=nwb_url,
        ) from error

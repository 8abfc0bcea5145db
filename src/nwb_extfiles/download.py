"""Files behind URLs, through fsspec: opened, asked about, and fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UnsafeReferenceError
from .remote import SCHEMES, scheme_of

__all__ = ["filesystem_for", "opened"]

_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}


def filesystem_for(url: str, timeout: float = 60.0) -> Any:
    """The fsspec file system that reads a URL.

    Parameters
    ----------
    url : str
        Of one of the `SCHEMES`.
    timeout : float
        Seconds to wait for a server that says nothing.

    Raises
    ------
    UnsafeReferenceError
        If it is of another scheme.
    ImportError
        If the package that fsspec needs for it is not installed.
    """
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise UnsafeReferenceError(f"{url[:200]!r} is not read: only {', '.join(SCHEMES)} URLs are")
    try:
        import fsspec

        # an instance of one's own, so that its connections end with it
        settings: dict[str, Any] = {"skip_instance_cache": True}
        if scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            waits = ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
            # as it is stored: signed URLs do not survive being encoded another time
            settings |= {"client_kwargs": {"timeout": waits}, "encoded": url.isascii() and " " not in url}
        elif scheme == "s3":
            settings |= {"config_kwargs": {"connect_timeout": timeout, "read_timeout": timeout}}
        return fsspec.filesystem(scheme, **settings)
    except ImportError as error:
        raise ImportError(
            f"{url}: {scheme} URLs need fsspec and {_PACKAGES[scheme]}, and not both are installed ({error}); install "
            f"nwb-extfiles[urls]"
        ) from error


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """Open a file behind a URL for reading here and there.

    Parameters
    ----------
    url : str
        Of one of the `SCHEMES`.

    Yields
    ------
    file object
        Fetches the parts that are read.
    """
    with filesystem_for(url).open(url, "rb") as stream:
        yield stream

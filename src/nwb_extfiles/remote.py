"""Files behind URLs, as far as one can know of them without asking.

Pure: which URL a file was opened from, what a relative path means beside a URL, and what the answer of a server says
of a file.
"""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import quote, urlsplit, urlunsplit

__all__ = ["SCHEMES", "beside", "is_opaque", "origin", "scheme_of"]

SCHEMES = ("http", "https", "s3", "gs")
"""What is read from and downloaded from; never what a text could make of this machine, such as ``file:``."""

# How fsspec's files show themselves, which is what h5py calls them; os.path.abspath has made one slash of two.
_FSSPEC_FILE = re.compile(r"<File-like object (?P<system>\w+), (?P<path>.+)>$", re.DOTALL)
_OPAQUE = re.compile(r"<[^/<>]* (object|at 0x)[^<>]*>$")
_FLATTENED = re.compile(r"(?:^|/)(?P<scheme>https?|s3|gs):/+(?P<rest>[^/].*)$", re.DOTALL)
_BUCKETS = {"S3FileSystem": "s3", "GCSFileSystem": "gs"}  # fsspec shows their paths without a protocol
# Blobs of the DANDI archive have names of their own, so nothing is beside them.
_BLOB = re.compile(r"/blobs/[0-9a-f]{3}/[0-9a-f]{3}/[0-9a-f-]{36}$")


def scheme_of(text: str) -> str:
    """The scheme of a URL in lower case; empty if there is none."""
    scheme, colon, _ = text.partition(":")
    return scheme.lower() if colon else ""


def origin(filename: str) -> str:
    """Where a file that h5py or HDMF has open comes from.

    Parameters
    ----------
    filename : str
        What they call it: a path, a URL, or what a Python file object shows of itself; the latter two perhaps made a
        path of by `os.path.abspath`.

    Returns
    -------
    str
        An absolute path, or a URL. For file objects that do not tell, what they show of themselves (`is_opaque`).
    """
    shown = _FSSPEC_FILE.search(filename)
    if shown is not None:
        url = _FLATTENED.search(shown["path"])
        if url is not None:
            return f"{url['scheme']}://{url['rest']}"
        if shown["system"] in _BUCKETS:
            return f"{_BUCKETS[shown['system']]}://{shown['path'].lstrip('/')}"
        if shown["system"] == "LocalFileSystem":
            return os.path.abspath("/" + shown["path"].lstrip("/") if os.name != "nt" else shown["path"])
        return shown[0]
    opaque = _OPAQUE.search(filename)
    if opaque is not None:
        return opaque[0]
    url = _FLATTENED.search(filename)
    if url is not None and not os.path.lexists(filename):
        return f"{url['scheme']}://{url['rest']}"
    return os.path.abspath(filename)


def is_opaque(place: str) -> bool:
    """Whether an `origin` is a file object that does not tell where it comes from."""
    return place.startswith("<")


def beside(nwb_url: str, text: str) -> str | None:
    """The URL of a file that lies at or below the folder of an NWB file behind a URL.

    Parameters
    ----------
    nwb_url : str
        The URL of the NWB file. Its query (often a signature of that file alone) and fragment are not handed on.
    text : str
        A relative path, with slashes or backslashes; a path and no URL, so that ``#`` and ``%`` stand for themselves.

    Returns
    -------
    str or None
        As in RFC 3986, section 5.2. None if it would leave that folder, or if the URL has none.
    """
    path = posixpath.normpath(text.replace("\\", "/"))
    if path.startswith(("../", "/")) or path in ("..", "."):
        return None
    parts = urlsplit(nwb_url)
    if _BLOB.search(parts.path):
        return None
    if parts.scheme.lower() in ("s3", "gs"):  # keys are not percent-encoded
        return f"{nwb_url.rpartition('/')[0]}/{path}"
    encoded = quote(path, safe="/!$&'()*+,;=:@~", errors="surrogateescape")
    folder = parts.path.rpartition("/")[0]
    return urlunsplit((parts.scheme, parts.netloc, f"{folder}/{encoded}", "", ""))

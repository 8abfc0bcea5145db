"""What URLs mean, and what the answer of a server says about a file; nothing here contacts a server."""

from __future__ import annotations

import base64
import binascii
import os
import posixpath
import re
from ast import literal_eval
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ..naming import is_portable_suffix

__all__ = [
    "OPENED_FROM",
    "SCHEMES",
    "UNKNOWN_BASE",
    "RemoteFile",
    "beside",
    "described",
    "folder_of",
    "is_content",
    "is_opaque",
    "retry_after",
    "scheme_of",
    "signed_until",
    "source_of",
    "unsigned",
]

SCHEMES = ("http", "https", "s3", "gs")
"""What is read and downloaded; never what a stored path could reach on this machine, such as ``file:``."""

UNKNOWN_BASE = "unknown://"
"""The folder of an NWB file whose place is unknown: what is in the working directory is not beside it."""

OPENED_FROM = 'say where the NWB file is: opened_from="dandi://<instance>/<dandiset>/<path>", or another URL'
"""What to do then; only in Python, as the command line opens files by their paths."""

# How fsspec's files show themselves, which is what h5py calls them; os.path.abspath has made one slash of two.
_FSSPEC_FILE = re.compile(r"<File-like object (?P<system>\w+), (?P<path>.+)>$", re.DOTALL)
# What open(path, "rb") and its kin show
_PYTHON_FILE = re.compile(r"<_io\.\w+ name=(?P<name>'.+'|\".+\")>$", re.DOTALL)
_CACHED = re.compile("[0-9a-f]{64}")  # fsspec's copies of whole files are called by the SHA-256 of their URL
_OPAQUE = re.compile(r"<[^/<>]* (object|at 0x)[^<>]*>$")
_FLATTENED = re.compile(r"(?:^|/)(?P<scheme>https?|s3|gs):/+(?P<rest>[^/].*)$", re.DOTALL)
_BUCKETS = {"S3FileSystem": "s3", "GCSFileSystem": "gs"}  # fsspec shows their paths without a protocol
# Contents in a DANDI archive have names of their own, so nothing is beside them.
_CONTENT = re.compile(r"/(blobs/[0-9a-f]{3}/[0-9a-f]{3}|zarr)/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/*$")


def scheme_of(stored_path: str) -> str:
    """The scheme of a URL in lower case; empty if there is none."""
    scheme, colon, _ = stored_path.partition(":")
    return scheme.lower() if colon else ""


def source_of(filename: str) -> str:
    """Where a file that h5py or HDMF has open comes from.

    Parameters
    ----------
    filename : str
        What they call it: a path, a URL, or the ``repr`` of a Python file object; `os.path.abspath` may have made a
        path of the latter two.

    Returns
    -------
    str
        An absolute path or a URL, without a signature; for file objects that do not say, their ``repr`` (`is_opaque`).
    """
    shown = _FSSPEC_FILE.search(filename)
    if shown is not None:
        url = _FLATTENED.search(shown["path"])
        if url is not None:
            return unsigned(f"{url['scheme']}://{url['rest']}")
        if shown["system"] in _BUCKETS:
            return f"{_BUCKETS[shown['system']]}://{shown['path'].lstrip('/')}"
        if shown["system"] == "LocalFileSystem":
            return os.path.abspath("/" + shown["path"].lstrip("/") if os.name != "nt" else shown["path"])
        return shown[0]
    opened = _PYTHON_FILE.search(filename)
    if opened is not None:
        path = literal_eval(opened["name"])
        is_cached = _CACHED.fullmatch(os.path.basename(path)) is not None
        return os.path.abspath(path) if os.path.isfile(path) and not is_cached else opened[0]
    opaque = _OPAQUE.search(filename)
    if opaque is not None:
        return opaque[0]
    url = _FLATTENED.search(filename)
    if url is not None and not os.path.lexists(filename):
        return unsigned(f"{url['scheme']}://{url['rest']}")
    return os.path.abspath(filename)


def is_opaque(place: str) -> bool:
    """Whether `source_of` gave a file object that does not say where it comes from."""
    return place.startswith("<")


def unsigned(url: str) -> str:
    """A URL without the signature that lets whoever has it open it, for messages."""
    return url.partition("?")[0] if "X-Amz-Signature=" in url else url


def signed_until(url: str) -> datetime | None:
    """The time until which the signature in a URL of S3 counts; None if there is none."""
    query = dict(parse_qsl(urlsplit(url).query))
    try:
        since = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return since + timedelta(seconds=int(query["X-Amz-Expires"]))
    except (KeyError, ValueError, OverflowError):
        return None


def is_content(url: str) -> bool:
    """Whether a URL is that of content in a DANDI archive, which has no name."""
    return _CONTENT.search(urlsplit(url).path) is not None


def folder_of(place: str) -> str:
    """The folder, or its URL, of an NWB file at a place as `source_of` gives it.

    `UNKNOWN_BASE` for file objects that do not say where they come from, and for contents in a DANDI archive. A query
    (often a signature of that file alone) and a fragment are dropped, and a slash at the end, as of a Zarr store.
    """
    if is_opaque(place):
        return UNKNOWN_BASE
    scheme = scheme_of(place) if "://" in place else ""
    if scheme not in SCHEMES:
        return os.path.dirname(place)
    if scheme in ("s3", "gs"):  # keys are not percent-encoded
        start, path = f"{scheme}://", place.partition("://")[2]
    else:
        parts = urlsplit(place)
        start, path = f"{parts.scheme}://{parts.netloc}", parts.path
    return UNKNOWN_BASE if is_content(place) else start + path.rstrip("/").rpartition("/")[0]


def beside(folder: str, stored_path: str) -> str | None:
    """The URL that a relative path means in the folder of an NWB file behind a URL, as in RFC 3986, section 5.2.

    Parameters
    ----------
    folder : str
        As `folder_of` gives it.
    stored_path : str
        A relative path, with slashes or backslashes; not a URL, so that ``#`` and ``%`` stand for themselves.

    Returns
    -------
    str or None
        None if it would leave the server or bucket, or if the folder is not known.
    """
    path = posixpath.normpath(stored_path.replace("\\", "/"))
    scheme, _, rest = folder.partition("://")
    if scheme not in SCHEMES:
        return None
    server, slash, key = rest.partition("/")
    if scheme in ("http", "https"):  # keys of buckets are not percent-encoded
        path = quote(path, safe="/!$&'()*+,;=:@~", errors="surrogateescape")
    place = _joined(f"{slash}{key}/", path)
    return place and f"{scheme}://{server}{place}"


def _joined(place: str, path: str) -> str | None:
    """A normal relative path in the folder of a place; None if it points above the root, or to a folder."""
    folders, names = place.split("/")[:-1], path.split("/")
    up = names.count("..")  # in a normal path they come first
    if path.startswith("/") or path == "." or up >= max(1, len(folders)) or up == len(names):
        return None
    return "/".join([*folders[: len(folders) - up], *names[up:]])


# ------------------------------------------------------ what a server says


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file behind a URL, as its server describes it."""

    url: str
    size: int | None
    """In bytes; None if the server does not say."""
    suffix: str = ""
    """In lower case, with its dot; empty if neither URL nor server says it."""
    validator: str | None = None
    """Identifies this content: a strong ETag, else the date of its last change."""
    checksums: tuple[tuple[str, str], ...] = ()
    """Name (as in hashlib, or ``crc32``) and value in hexadecimal digits of each checksum that the server states."""
    media_type: str = ""
    ends: bool = True
    """Whether the end of the content can be told from a broken connection."""
    asset_path: str = ""
    """In its dandiset, if it is an asset."""

    @property
    def name(self) -> str:
        """The name of the file in messages: the last part of its path."""
        return (self.asset_path or unquote(urlsplit(self.url).path)).rpartition("/")[2] or unsigned(self.url)


def retry_after(value: str, now: float) -> float:
    """Seconds that a server asks to wait.

    Parameters
    ----------
    value : str
        Its ``Retry-After`` (RFC 9110, section 10.2.3): a number of seconds, or a date.
    now : float
        The time, in seconds since 1970.

    Returns
    -------
    float
        0 if it does not ask, or cannot be understood.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


# Only what DANDI accepts: a suffix that is made up must be right.
_SUFFIXES = {
    "video/mp4": ".mp4",
    "video/x-msvideo": ".avi",
    "video/avi": ".avi",
    "video/msvideo": ".avi",
    "video/vnd.avi": ".avi",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "video/matroska": ".mkv",
    "video/x-flv": ".flv",
    "video/x-ms-wmv": ".wmv",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
}
_OF_MEDIA = {*_SUFFIXES.values(), ".jpeg"}
_LENGTHS = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "crc32": 4}
_DIGESTS = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}  # names in HTTP and in hashlib


def described(url: str, headers: Mapping[str, str], answered_by: str = "") -> RemoteFile:
    """What the headers of a server's answer say about a whole file.

    Their names are in lower case, repeated ones joined by commas. `answered_by` is where the server redirected to.
    """
    encoded = headers.get("content-encoding", "identity").lower() not in ("", "identity")
    length = headers.get("content-length", "")
    # The length is that of the encoded content.
    size = int(length) if length.isascii() and length.isdigit() and not encoded else None
    etag = headers.get("etag", "")
    strong = etag if etag.startswith('"') and not encoded else ""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return RemoteFile(
        url=url,
        size=size,
        suffix=_suffix(url, headers.get("content-disposition", ""), answered_by, media_type),
        validator=strong or headers.get("last-modified") or None,
        checksums=() if encoded else tuple(dict(_checksums(headers)).items()),
        media_type=media_type,
        ends=bool(length) or "chunked" in headers.get("transfer-encoding", "").lower(),
    )


def _suffix(url: str, disposition: str, answered_by: str, media_type: str) -> str:
    """The suffix of the URL, of the name in the answer, of where it leads, or of the type: the first of media."""
    named = re.search(r"""filename\*?=(?:UTF-8'[^']*')?"?([^";]+)""", disposition, re.IGNORECASE)
    paths = (
        unquote(urlsplit(url).path),
        unquote(named[1]).strip() if named else "",
        unquote(urlsplit(answered_by).path),
    )
    found = [posixpath.splitext(path)[1].lower() for path in paths]
    found = [suffix for suffix in (*found, _SUFFIXES.get(media_type, "")) if suffix and is_portable_suffix(suffix)]
    # a path like /get.php says less than the type
    return next((suffix for suffix in found if suffix in _OF_MEDIA), found[0] if found else "")


def _checksums(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Checksums of the whole content; those of something else, or that cannot be computed here, are left out."""
    found = [("md5", headers.get("content-md5", ""))]
    # with a number behind a dash it is a checksum of the checksums of parts, and no base64
    found.extend((name, headers.get(f"x-amz-checksum-{name}", "")) for name in ("sha256", "sha1", "crc32"))
    # Google's are of what is stored, which it may unpack on its way
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        found.extend(_pairs(headers.get("x-goog-hash", "")))
    found.extend(_pairs(headers.get("repr-digest", "")))  # RFC 9530: sha-256=:…:
    found.extend(_pairs(headers.get("digest", "")))  # RFC 3230: SHA-256=…
    for name, encoded in found:
        try:
            value = base64.b64decode(encoded.strip().strip(":"), validate=True)
        except (ValueError, binascii.Error):
            continue
        if len(value) == _LENGTHS.get(name):
            yield name, value.hex()
    etag = headers.get("etag", "")
    # Anybody may make an ETag of 32 digits from anything. Amazon's is the MD5 of what came in one part, unless a
    # key of the owner's encrypts it.
    if (
        re.fullmatch(r'"[0-9a-f]{32}"', etag)
        and "x-amz-request-id" in headers
        and headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
        and "x-amz-server-side-encryption-customer-algorithm" not in headers
    ):
        yield "md5", etag.strip('"')


def _pairs(value: str) -> Iterator[tuple[str, str]]:
    for part in value.split(","):
        name, _, encoded = part.strip().partition("=")
        yield _DIGESTS.get(name.lower(), ""), encoded

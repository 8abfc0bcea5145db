"""Addresses in DANDI archives, in all spellings that people paste; nothing here contacts an archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

__all__ = ["EXAMPLE", "Address", "address_of"]

EXAMPLE = "dandi://<instance>/<dandiset>[@<version>]/<path of the NWB file>"
_DANDISET = r"(?P<dandiset>[0-9]{6})"
_VERSION = r"(?P<version>draft|[0-9]+\.[0-9]+\.[0-9]+)"
_API = r"(?P<instance>https?://[^/?#]+(?:/api)?)"
_ADDRESSES = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        rf"dandi://(?P<instance>[^/]+)/{_DANDISET}(?:@{_VERSION})?(?:/(?P<path>.*))?",
        # DANDI:000123/draft, as dandisets are cited
        rf"(?P<instance>[a-z][\w-]+):{_DANDISET}(?:/{_VERSION})?(?:/(?P<path>.*))?",
        rf"https?://identifiers\.org/(?P<instance>dandi):{_DANDISET}(?:/{_VERSION})?/?",
        # as the page of an archive shows them, with ?location=
        rf"(?P<instance>https?://[^/?#]+)/(?:#/)?dandiset/{_DANDISET}(?:/{_VERSION})?(?:/files)?/?(?:\?(?P<query>.*))?",
        rf"{_API}(?:/dandisets/{_DANDISET}/versions/{_VERSION})?"
        r"/assets/(?P<asset>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/(?:download|info)?)?/?(?:\?.*)?",
        rf"{_API}/dandisets/{_DANDISET}/versions/{_VERSION}/assets/?\?(?P<query>path=.*)",
        rf"{_API}/dandisets/{_DANDISET}(?:/versions(?:/{_VERSION})?)?/?",
    )
]


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says of a place in an archive."""

    instance: str
    """The name of the archive, or the URL of its server."""
    dandiset: str | None
    version: str | None
    path: str | None
    """Of an asset, or of a folder; None if the URL names a whole dandiset, or an asset by its identifier."""
    asset: str | None


def address_of(url: str) -> Address | None:
    """The address that a URL, or a citation of a dandiset, names in an archive; None if it is something else."""
    if ":" not in url:
        return None
    match = next(filter(None, (pattern.fullmatch(url) for pattern in _ADDRESSES)), None)
    if match is None:
        return None
    parts = match.groupdict()
    query = parse_qs(parts.get("query") or "")
    path = unquote(parts.get("path") or "") or next(iter(query.get("location") or query.get("path") or ()), "")
    instance = parts["instance"] if "://" in parts["instance"] else parts["instance"].lower()
    return Address(instance, parts.get("dandiset"), parts.get("version"), path.lstrip("/") or None, parts.get("asset"))

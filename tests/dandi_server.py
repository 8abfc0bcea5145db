"""A server on this machine that answers as the DANDI archive does: its API, and the S3 bucket with the contents.

The two are servers of their own, as in the archive, so that what is meant for one and sent to the other is seen.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from xml.sax.saxutils import escape

from servers import Handler, Server, serving

__all__ = ["DANDISET", "KEY", "PUBLISHED", "STRANGER", "Archive", "serving_archive"]

DANDISET = "000123"
PUBLISHED = "0.240101.0000"
KEY = "0123456789abcdef0123456789abcdef01234567"
"""The API key of the owner of all dandisets."""
STRANGER = "fedcba9876543210fedcba9876543210fedcba98"
"""The API key of a user who owns none."""
_SECRET = b"what S3 signs with"
_TIME = "2024-01-01T00:00:00.000000Z"
# dandiapi/api/models/asset.py of dandi-archive: other paths are refused with 400
_ASSET_PATH = re.compile(r"^([A-z0-9(),&\s#+~_=-]?\/?\.?[A-z0-9(),&\s#+~_=-])+$")
_DANDISET = r"/api/dandisets/(?P<dandiset>[0-9]{6})"
_VERSION = rf"{_DANDISET}/versions/(?P<version>[^/]+)"
_ASSET = r"assets/(?P<asset>[0-9a-f-]{36})"


@dataclass(frozen=True)
class Asset:
    """A file or a Zarr store with its path in a dandiset."""

    identifier: str
    path: str
    content: str
    """The identifier of its blob or Zarr store; assets with the same content share it."""
    file: Path
    digest: dict[str, str]
    dandiset: str

    @property
    def is_zarr(self) -> bool:
        return self.file.is_dir()

    @property
    def size(self) -> int:
        files = (path for path in self.file.rglob("*") if path.is_file()) if self.is_zarr else [self.file]
        return sum(path.stat().st_size for path in files)

    @property
    def key(self) -> str:
        """Its key in the bucket: without a name, and without a suffix."""
        blob = self.content
        return f"zarr/{blob}/" if self.is_zarr else f"blobs/{blob[:3]}/{blob[3:6]}/{blob}"


@dataclass
class Archive:
    """Dandisets, their versions, and who may read them."""

    api: Server
    bucket: Server
    versions: dict[str, dict[str, dict[str, Asset]]] = field(default_factory=dict)
    """The assets by dandiset, version and path."""
    embargoed: set[str] = field(default_factory=set)
    signed_for: float = 3600
    """Seconds for which signed URLs can be used."""
    page_size: int = 100
    leaked: list[str] = field(default_factory=list)
    """Paths of requests to the bucket that had an API key with them."""

    def __post_init__(self) -> None:
        self._assets: dict[str, Asset] = {}
        self.api.fallback = self._answer_api
        self.bucket.fallback = self._answer_bucket

    # ------------------------------------------------------------ what is in it

    def add(
        self, path: str, file: Path, *, dandiset: str = DANDISET, version: str = "draft", content: str | None = None
    ) -> Asset:
        """Put a file, or a Zarr store, into a version of a dandiset. What is at that path there is replaced.

        The identifier of the `content` is made of its digest, if it has none yet.
        """
        if path.startswith("/") or not _ASSET_PATH.fullmatch(path):
            raise ValueError(f"the archive refuses the path {path!r} of an asset")
        versions = self.versions.setdefault(dandiset, {"draft": {}})
        digest = _digest(file)
        content = content or _uuid(json.dumps(digest) + (dandiset if dandiset in self.embargoed else ""))
        asset = Asset(_uuid(f"{dandiset}{path}{content}"), path, content, file, digest, dandiset)
        self._assets[asset.identifier] = versions.setdefault(version, {})[path] = asset
        return asset

    def publish(self, dandiset: str = DANDISET, version: str = PUBLISHED) -> None:
        """Make a version of the draft. Its assets keep their identifiers."""
        self.versions[dandiset][version] = dict(self.versions[dandiset]["draft"])

    def embargo(self, dandiset: str = DANDISET) -> None:
        """Let only the owner read a dandiset that has no assets yet."""
        self.versions[dandiset] = {"draft": {}}
        self.embargoed.add(dandiset)

    # ------------------------------------------------------------ its URLs

    def dandi_url(self, path: str, version: str | None = "draft", dandiset: str = DANDISET) -> str:
        """A ``dandi://`` URL, for which dandi must know this archive as ``here``."""
        return f"dandi://here/{dandiset}{'' if version is None else f'@{version}'}/{path}"

    def download_url(self, asset: Asset, version: str | None = None) -> str:
        """The URL that the API redirects to the content; without a version, the one in the metadata."""
        within = "" if version is None else f"dandisets/{asset.dandiset}/versions/{version}/"
        return self.api.url(f"api/{within}assets/{asset.identifier}/download/")

    def content_url(self, asset: Asset) -> str:
        """The URL of the content in the bucket."""
        return self.bucket.url(asset.key)

    def signed_url(self, asset: Asset, method: str = "GET") -> str:
        """The URL that the API redirects to: of the content, and for some time only."""
        return self._signed(asset.key, f'attachment; filename="{asset.path.rpartition("/")[2]}"', method)

    def _signed(self, key: str, disposition: str, method: str = "GET") -> str:
        now = datetime.now(UTC)
        query = {
            "response-content-disposition": disposition,
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"AKIAEXAMPLE/{now:%Y%m%d}/us-east-2/s3/aws4_request",
            "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": str(int(self.signed_for)),
            "X-Amz-SignedHeaders": "host",
        }
        if not disposition:
            del query["response-content-disposition"]
        query["X-Amz-Signature"] = _signature(method, key, query)
        return f"{self.bucket.url(quote(key))}?{urlencode(query)}"

    # ------------------------------------------------------------ the API

    @property
    def questions(self) -> list[str]:
        """The paths, with queries, that the API was asked for."""
        return [path for _, path, _ in self.api.asked if path.startswith("/api/")]

    def _answer_api(self, request: Handler) -> None:
        answers: list[tuple[str, Callable[..., None]]] = [
            (r"/api/info/", self._send_info),
            (r"/api/auth/token/?", self._send_key),
            (rf"{_DANDISET}/", self._send_dandiset),
            (rf"{_DANDISET}/versions/", self._send_versions),
            (rf"{_VERSION}/(?P<what>info/)?", self._send_version),
            (rf"{_VERSION}/assets/", self._send_assets),
            (rf"{_VERSION}/{_ASSET}/(?P<what>info/|download/)?", self._send_asset),
            (rf"/api/{_ASSET}/(?P<what>info/|download/)?", self._send_asset),
            (r"/api/zarr/(?P<zarr>[0-9a-f-]{36})/files/?", self._send_zarr_files),
        ]
        for pattern, answer in answers:
            if match := re.fullmatch(pattern, request.route):
                answer(request, **match.groupdict())
                return
        self._refuse(request, 404, "Not found.")

    def _refuse(self, request: Handler, status: int, detail: str) -> None:
        request.send_text(status, json.dumps({"detail": detail}), "application/json")

    def _may(self, request: Handler, dandiset: str) -> bool:
        """Whether a dandiset may be read; the refusal is sent if not."""
        key = request.headers.get("Authorization")
        if key not in (None, f"token {KEY}", f"token {STRANGER}"):
            self._refuse(request, 401, "Invalid token.")
        elif dandiset not in self.versions:
            self._refuse(request, 404, "Not found.")
        elif dandiset in self.embargoed and key is None:
            self._refuse(request, 401, "Authentication credentials were not provided.")
        elif dandiset in self.embargoed and key == f"token {STRANGER}":
            self._refuse(request, 403, "You do not have permission to perform this action.")
        else:
            return True
        return False

    def _send_info(self, request: Handler) -> None:
        request.send_json(
            {
                "schema_version": "0.6.10",
                "version": "1.0.0",
                "services": {"api": {"url": self.api.url("api")}, "webui": {"url": self.api.url().rstrip("/")}},
                "cli-minimal-version": "0.60.0",
                "cli-bad-versions": [],
            }
        )

    def _send_key(self, request: Handler) -> None:
        if request.headers.get("Authorization") in (f"token {KEY}", f"token {STRANGER}"):
            request.send_json(request.headers["Authorization"].removeprefix("token "))
        else:
            self._refuse(request, 401, "Invalid token.")

    def _version(self, dandiset: str, version: str) -> dict[str, Any]:
        versions = self.versions[dandiset]
        assets = versions[version].values()
        published = any(versions[version] == one for name, one in versions.items() if name != "draft")
        return {
            "version": version, "name": "videos", "asset_count": len(assets), "created": _TIME, "modified": _TIME,
            "size": sum(asset.size for asset in assets), "status": "Published" if published else "Valid",
        }  # fmt: skip

    def _send_dandiset(self, request: Handler, dandiset: str) -> None:
        if not self._may(request, dandiset):
            return
        published = [name for name in self.versions[dandiset] if name != "draft"]
        request.send_json(
            {
                "identifier": dandiset, "created": _TIME, "modified": _TIME, "contact_person": "Doe, Jane",
                "embargo_status": "EMBARGOED" if dandiset in self.embargoed else "OPEN",
                "draft_version": self._version(dandiset, "draft"),
                "most_recent_published_version": self._version(dandiset, max(published)) if published else None,
            }
        )  # fmt: skip

    def _send_versions(self, request: Handler, dandiset: str) -> None:
        if self._may(request, dandiset):
            versions = [self._version(dandiset, name) for name in self.versions[dandiset]]
            self._send_page(request, versions[::-1] if request.query.get("order") == "-created" else versions)

    def _send_version(self, request: Handler, dandiset: str, version: str, what: str | None) -> None:
        if not self._may(request, dandiset):
            return
        if version not in self.versions[dandiset]:
            self._refuse(request, 404, "Not found.")
        elif what is None:
            named = f"DANDI:{dandiset}/{version}"
            request.send_json({"id": named, "identifier": f"DANDI:{dandiset}", "name": "videos", "version": version})
        else:
            errors = {"asset_validation_errors": [], "version_validation_errors": []}
            request.send_json({**self._version(dandiset, version), **errors})

    def _send_assets(self, request: Handler, dandiset: str, version: str) -> None:
        if not self._may(request, dandiset):
            return
        if version not in self.versions[dandiset]:
            self._refuse(request, 404, "Not found.")
            return
        query = request.query
        prefix, order = query.get("path", "").lower(), query.get("order", "created")
        glob = "".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", query.get("glob", "*")))
        found = [
            asset
            for asset in self.versions[dandiset][version].values()
            if asset.path.lower().startswith(prefix) and re.fullmatch(glob, asset.path, re.IGNORECASE)
        ]
        if order.lstrip("-") == "path":
            found.sort(key=lambda asset: asset.path, reverse=order.startswith("-"))
        with_metadata = query.get("metadata", "").lower() in ("true", "1")
        self._send_page(request, [self._record(asset, with_metadata=with_metadata) for asset in found])

    def _send_page(self, request: Handler, results: list[Any]) -> None:
        number, size = int(request.query.get("page", 1)), int(request.query.get("page_size", self.page_size))
        address = urlsplit(request.path)
        following = urlencode([*((n, v) for n, v in parse_qsl(address.query) if n != "page"), ("page", number + 1)])
        more = len(results) > number * size
        request.send_json(
            {
                "count": len(results),
                "next": self.api.url(f"{address.path.lstrip('/')}?{following}") if more else None,
                "previous": None,
                "results": results[(number - 1) * size : number * size],
            }
        )

    def _record(self, asset: Asset, *, with_metadata: bool) -> dict[str, Any]:
        record = {
            "asset_id": asset.identifier, "path": asset.path, "size": asset.size, "created": _TIME, "modified": _TIME,
            "blob": None if asset.is_zarr else asset.content, "zarr": asset.content if asset.is_zarr else None,
        }  # fmt: skip
        return {**record, "metadata": self._metadata(asset)} if with_metadata else record

    def _metadata(self, asset: Asset) -> dict[str, Any]:
        status = "Embargoed" if asset.dandiset in self.embargoed else "Open"
        return {
            "schemaKey": "Asset", "schemaVersion": "0.6.10", "id": f"dandiasset:{asset.identifier}",
            "identifier": asset.identifier, "path": asset.path, "contentSize": asset.size, "digest": asset.digest,
            "contentUrl": [self.download_url(asset), self.content_url(asset)],
            "encodingFormat": "application/x-zarr" if asset.is_zarr else "application/octet-stream",
            "access": [{"schemaKey": "AccessRequirements", "status": f"dandi:{status}Access"}],
        }  # fmt: skip

    def _send_asset(
        self, request: Handler, asset: str, what: str | None, dandiset: str | None = None, version: str | None = None
    ) -> None:
        found = self._assets.get(asset)
        if dandiset is not None and self._may(request, dandiset):
            found = next((one for one in self.versions[dandiset].get(str(version), {}).values() if one == found), None)
        elif dandiset is not None:
            return
        if found is None:
            self._refuse(request, 404, "Not found.")
        elif not self._may(request, found.dandiset):
            return
        elif what is None:
            request.send_json(self._metadata(found))
        elif what == "info/":
            request.send_json(self._record(found, with_metadata=True))
        elif found.is_zarr:
            request.send_text(400, json.dumps("Unable to provide download link for zarr assets."), "application/json")
        else:
            self._redirect(request, self.signed_url(found))

    def _redirect(self, request: Handler, url: str) -> None:
        request.send_response(302)
        request.send_header("Location", url)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _send_zarr_files(self, request: Handler, zarr: str) -> None:
        store = next((asset for asset in self._assets.values() if asset.is_zarr and asset.content == zarr), None)
        if store is None:
            self._refuse(request, 404, "Not found.")
            return
        if not self._may(request, store.dandiset):
            return
        prefix = request.query.get("prefix", "")
        if request.query.get("download", "").lower() in ("true", "1"):
            self._redirect(request, self._signed(f"{store.key}{prefix}", ""))
            return
        names = {path.relative_to(store.file).as_posix(): path for path in store.file.rglob("*") if path.is_file()}
        results = [
            {"Key": name, "LastModified": _TIME, "ETag": _md5(path), "Size": path.stat().st_size}
            for name, path in sorted(names.items())
            if name.startswith(prefix)
        ]
        request.send_json({"next": None, "results": results})

    # ------------------------------------------------------------ the bucket

    def _answer_bucket(self, request: Handler) -> None:
        if request.headers.get("Authorization") is not None:
            self.leaked.append(request.path)
            self._refuse_as_s3(request, 400, "InvalidArgument", "Only one auth mechanism allowed")
            return
        key = request.route.removeprefix("/")
        if not key and "list-type" in request.query:
            self._send_listing(request)
            return
        asset = self._asset_of(key)
        file = None if asset is None else asset.file / key.removeprefix(asset.key) if asset.is_zarr else asset.file
        if "X-Amz-Signature" in request.query:
            if not self._is_signed(request, key):
                return
        elif asset is not None and asset.dandiset in self.embargoed:
            self._refuse_as_s3(request, 403, "AccessDenied", "Access Denied")
            return
        if file is None or not file.is_file():
            self._refuse_as_s3(request, 404, "NoSuchKey", "The specified key does not exist.")
            return
        headers = {
            "Accept_Ranges": "bytes", "Content_Type": "application/octet-stream", "ETag": f'"{_md5(file)}"',
            "Last_Modified": formatdate(file.stat().st_mtime, usegmt=True), "x_amz_request_id": "0123456789ABCDEF",
        }  # fmt: skip
        if disposition := request.query.get("response-content-disposition"):
            headers["Content_Disposition"] = disposition
        request.send_bytes(file.read_bytes(), **headers)

    def _asset_of(self, key: str) -> Asset | None:
        """The asset with a key; an open dandiset's, if an embargoed one has the same content."""
        return next(
            (
                asset
                for asset in self._assets.values()
                if (key.startswith(asset.key) if asset.is_zarr else key == asset.key)
            ),
            None,
        )

    def _is_signed(self, request: Handler, key: str) -> bool:
        """Whether a signature is right and still counts; the refusal is sent if not."""
        query = dict(request.query)
        given = query.pop("X-Amz-Signature")
        since = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if given != _signature(request.command, key, query):
            self._refuse_as_s3(request, 403, "SignatureDoesNotMatch", "The request signature does not match.")
        elif time.time() >= (since + timedelta(seconds=int(query["X-Amz-Expires"]))).timestamp():
            self._refuse_as_s3(request, 403, "AccessDenied", "Request has expired")
        else:
            return True
        return False

    def _refuse_as_s3(self, request: Handler, status: int, code: str, message: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        request.send_text(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}', "application/xml")

    def _send_listing(self, request: Handler) -> None:
        prefix, names = request.query.get("prefix", ""), dict[str, Path]()
        for asset in self._assets.values():
            if asset.dandiset in self.embargoed:
                continue
            files = [path for path in asset.file.rglob("*") if path.is_file()] if asset.is_zarr else [asset.file]
            inside = (path.relative_to(asset.file).as_posix() if asset.is_zarr else "" for path in files)
            names |= {f"{asset.key}{name}": path for name, path in zip(inside, files, strict=True)}
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>{_TIME}</LastModified>"
            f'<ETag>"{_md5(path)}"</ETag><Size>{path.stat().st_size}</Size></Contents>'
            for name, path in sorted(names.items())
            if name.startswith(prefix)
        )
        head = f"<Name>dandiarchive</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
        text = f"<ListBucketResult>{head}{entries}</ListBucketResult>"
        request.send_text(200, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}', "application/xml")


def _uuid(content: str) -> str:
    digits = hashlib.sha256(content.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def _digest(file: Path) -> dict[str, str]:
    from dandi.support.digests import get_digest

    if file.is_dir():
        return {"dandi:dandi-zarr-checksum": get_digest(file, "zarr-checksum")}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"dandi:dandi-etag": get_digest(file, "dandi-etag"), "dandi:sha2-256": sha256}


def _signature(method: str, key: str, query: dict[str, str]) -> str:
    signed = "\n".join([method, key, *(f"{name}={query[name]}" for name in sorted(query))])
    return hmac.new(_SECRET, signed.encode(), hashlib.sha256).hexdigest()


@contextmanager
def serving_archive(folder: Path) -> Iterator[Archive]:
    """An archive, whose servers have nothing to do with the files in a folder."""
    with serving(folder) as api, serving(folder) as bucket:
        yield Archive(api, bucket)

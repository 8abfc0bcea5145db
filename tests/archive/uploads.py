"""What a test archive must answer so that dandi can create dandisets, upload files and Zarr stores, and publish."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from dandi_server import KEY, Archive, Asset
from servers import Handler

_DANDISET = r"/api/dandisets/(?P<dandiset>[0-9]{6})"
_ASSETS = rf"{_DANDISET}/versions/draft/assets/"
_STORE = r"/api/zarr/(?P<store>[0-9a-f-]{36})"
PUBLISHED = "0.260101.0000"


class Uploads:
    """Lets an archive accept uploads.

    Parameters
    ----------
    archive : Archive
        What `serving_archive` gives.
    folder : pathlib.Path
        Where the contents are kept.
    """

    def __init__(self, archive: Archive, folder: Path) -> None:
        self._archive, self._folder = archive, folder
        self._read_api, self._read_bucket = archive.api.fallback, archive.bucket.fallback
        self._begun: dict[str, str] = {}  # the ETag of each upload
        archive.api.fallback, archive.bucket.fallback = self._answer_api, self._answer_bucket
        folder.mkdir()

    def _answer_api(self, request: Handler) -> None:
        if request.command in ("GET", "HEAD"):
            self._tell_of_store(request) if re.fullmatch(rf"{_STORE}/", request.route) else self._read_api(request)
            return
        if request.headers.get("Authorization") != f"token {KEY}":
            request.send_text(401, json.dumps({"detail": "Invalid token."}), "application/json")
            return
        answers: list[tuple[str, str, Callable[..., None]]] = [
            ("POST", r"/api/dandisets/", self._create),
            ("POST", r"/api/uploads/initialize/", self._begin),
            ("POST", r"/api/uploads/(?P<upload>\w+)/complete/", self._complete),
            ("POST", r"/api/uploads/(?P<upload>\w+)/validate/", self._validate),
            ("POST", rf"{_DANDISET}/versions/draft/publish/", self._publish),
            ("POST", r"/api/zarr/", self._begin_store),
            ("POST", rf"{_STORE}/files/", self._add_to_store),
            ("POST", rf"{_STORE}/finalize/", self._complete_store),
            ("POST", _ASSETS, self._add),
            ("PUT", rf"{_ASSETS}(?P<asset>[0-9a-f-]{{36}})/", self._add),
            ("DELETE", rf"{_ASSETS}(?P<asset>[0-9a-f-]{{36}})/", self._remove),
        ]
        for command, pattern, answer in answers:
            match = re.fullmatch(pattern, request.route)
            if match is not None and request.command == command:
                answer(request, **match.groupdict())
                return
        request.send_text(404, json.dumps({"detail": "Not found."}), "application/json")

    def _create(self, request: Handler) -> None:
        dandiset = f"{len(self._archive.versions) + 200:06d}"
        self._archive.versions[dandiset] = {"draft": {}}
        if request.query.get("embargo") == "true":
            self._archive.embargo(dandiset)
        request.command, request.route = "GET", f"/api/dandisets/{dandiset}/"
        self._read_api(request)

    def _begin(self, request: Handler) -> None:
        wanted = json.loads(request.sent)
        upload = f"u{len(self._begun)}"
        self._begun[upload] = wanted["digest"]["value"]
        part = {
            "part_number": 1,
            "size": wanted["contentSize"],
            "upload_url": self._archive.bucket.url(f"new/{upload}"),
        }
        request.send_json({"upload_id": upload, "parts": [part]})

    def _complete(self, request: Handler, upload: str) -> None:
        request.send_json({"complete_url": self._archive.bucket.url(f"done/{upload}"), "body": "<x/>"})

    def _validate(self, request: Handler, upload: str) -> None:
        request.send_json({"blob_id": upload})

    def _add(self, request: Handler, dandiset: str, asset: str | None = None) -> None:
        wanted = json.loads(request.sent)
        if asset is not None:
            self._forget(dandiset, asset)
        try:
            store = wanted.get("zarr_id")
            file = self._folder / (store or wanted["blob_id"])
            made = self._archive.add(wanted["metadata"]["path"], file, dandiset=dandiset, content=store)
        except ValueError as error:
            request.send_text(400, json.dumps({"metadata": [str(error)]}), "application/json")
            return
        request.send_json(self._archive._record(made, with_metadata=True))

    def _publish(self, request: Handler, dandiset: str) -> None:
        self._archive.publish(dandiset, PUBLISHED)
        request.send_json({})

    def _begin_store(self, request: Handler) -> None:
        store = str(uuid4())
        (self._folder / store).mkdir()
        request.send_json({"zarr_id": store})

    def _add_to_store(self, request: Handler, store: str) -> None:
        request.send_json([self._archive.bucket.url(f"part/{store}/{one['path']}") for one in json.loads(request.sent)])

    def _complete_store(self, request: Handler, store: str) -> None:
        asset = self._store(store)
        self._archive.add(asset.path, asset.file, dandiset=asset.dandiset, content=store)  # with its digest
        request.send_json({})

    def _tell_of_store(self, request: Handler) -> None:
        asset = self._store(request.route.split("/")[3])
        (digest,) = asset.digest.values()
        request.send_json({"zarr_id": asset.content, "status": "Complete", "checksum": digest})

    def _store(self, store: str) -> Asset:
        drafts = (versions["draft"].values() for versions in self._archive.versions.values())
        return next(asset for draft in drafts for asset in draft if asset.content == store)

    def _remove(self, request: Handler, dandiset: str, asset: str) -> None:
        self._forget(dandiset, asset)
        request.send_text(204, "")

    def _forget(self, dandiset: str, asset: str) -> None:
        draft = self._archive.versions[dandiset]["draft"]
        for path in [path for path, one in draft.items() if one.identifier == asset]:
            del draft[path]

    def _answer_bucket(self, request: Handler) -> None:
        action, _, upload = request.route.strip("/").partition("/")
        if request.command == "PUT" and action == "new" and upload in self._begun:
            (self._folder / upload).write_bytes(request.sent)
            request.send_response(200)
            request.send_header("ETag", f'"{hashlib.md5(request.sent).hexdigest()}"')
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif request.command == "PUT" and action == "part":
            place = self._folder / upload
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(request.sent)
            request.send_json({})
        elif request.command == "POST" and action == "done" and upload in self._begun:
            text = f"<CompleteMultipartUploadResult><ETag>{self._begun[upload]}</ETag></CompleteMultipartUploadResult>"
            request.send_text(200, text, "application/xml")
        else:
            self._read_bucket(request)

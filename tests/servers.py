"""HTTP servers on this machine for files, with faults on demand."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Route = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with the route for the path, else with a file of the folder."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.route = unquote(parts.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        route = self.server.routes.get(self.route)
        if isinstance(route, list):  # one per request; the last for all that follow
            route = route.pop(0) if len(route) > 1 else route[0]
        try:
            (route or self.server.fallback)(self)
        except (BrokenPipeError, ConnectionResetError):  # a client that only wants the headers hangs up
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def end_headers(self) -> None:
        if self.close_connection:  # a client that asked for it, as ffmpeg does, is told that it gets it
            self.send_header("Connection", "close")
        super().end_headers()

    def send_file(self, **headers: str) -> None:
        path = self.server.folder / self.route.lstrip("/")
        if not path.is_file():
            self.send_text(404, "not found")
            return
        self.send_bytes(path.read_bytes(), **headers)

    def send_bytes(
        self,
        content: bytes,
        *,
        ranges: bool = True,
        stop: int | None = None,
        arrived: Callable[[int], object] = lambda size: None,
        **headers: str,
    ) -> None:
        """Send content, or the requested range of it. Hang up after `stop` bytes of the answer.

        Bytes on their way may be lost then, unless `arrived` waits until the client has received that many.
        """
        asked = self.headers.get("Range") if ranges else None
        guard = self.headers.get("If-Range")
        if guard is not None and guard not in (headers.get("ETag"), headers.get("Last_Modified")):
            asked = None
        begin, end = 0, len(content) - 1
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            begin, end = int(first), min(int(last), end) if last else end
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        else:
            self.send_response(200)
        headers.setdefault("Content_Length", str(end + 1 - begin))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            body = content[begin : end + 1]
            self.wfile.write(body if stop is None else body[:stop])
            if stop is not None and stop < len(body):
                arrived(begin + stop)
                self.close_connection = True

    def send_text(self, status: int, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: Any) -> None:
        self.send_text(200, json.dumps(value), "application/json")

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Serves a folder, except for paths that have routes."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.routes: dict[str, Route | list[Route]] = {}
        self.fallback: Route = Handler.send_file
        self.asked: list[tuple[str, str, str | None]] = []

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up


@contextmanager
def reading_from_here() -> Iterator[None]:
    """Disable garbage collection while h5py reads from a server in this process.

    The lock of h5py and a collection in another thread, that of the server or of fsspec, can deadlock.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

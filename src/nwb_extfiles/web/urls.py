"""Files behind URLs, through fsspec: opened, asked about, and read from some byte on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from ..errors import UnsafeReferenceError
from .remote import SCHEMES, RemoteFile, described, retry_after, scheme_of

__all__ = ["PAUSES", "BrokenOffError", "RefusedError", "ask", "ask_all", "filesystem_for", "opened", "reading"]

_T = TypeVar("_T")

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before each further attempt, if the server does not ask for more."""

LONGEST_WAIT = 120.0
"""Seconds that are waited at most if a server asks for it."""

_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be others the next time
_WEB_PAGES = ("text/html", "application/xhtml+xml")
_AT_ONCE = 8  # servers that are asked at the same time


class BrokenOffError(OSError):
    """May go well when it is tried again."""

    wait: float = 0.0
    """Seconds for which the server wants to be left alone."""


class RefusedError(OSError):
    """Will not."""


# ----------------------------------------------------------------------- open


def filesystem_for(url: str, timeout: float = 60.0, **settings: Any) -> Any:
    """The fsspec file system that reads a URL.

    Parameters
    ----------
    url : str
        Of one of the `SCHEMES`.
    timeout : float
        Seconds to wait for a server that says nothing.
    **settings
        Further ones of that file system.

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
    settings["skip_instance_cache"] = True  # one of one's own, so that its connections end with it
    try:
        import fsspec

        if scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            waits = ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
            # as it is stored: signed URLs do not survive being encoded another time
            settings |= {"client_kwargs": {"timeout": waits}, "encoded": url.isascii() and " " not in url}
        elif scheme == "s3":
            settings["config_kwargs"] = {"connect_timeout": timeout, "read_timeout": timeout}
        return fsspec.filesystem(scheme, **settings)
    except ImportError as error:
        raise ImportError(
            f"{url}: {scheme} URLs need fsspec and {_PACKAGES[scheme]}, and not both are installed ({error}): "
            'pip install "fsspec[gcs,http,s3]>=2024.6"'
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


# ------------------------------------------------------------------------ ask


def ask(url: str, *, timeout: float = 60.0) -> RemoteFile:
    """Ask a server what is behind a URL; its content is not read.

    Parameters
    ----------
    url : str
        Of one of the `SCHEMES`.
    timeout : float
        Seconds to wait for a server that says nothing.

    Raises
    ------
    FileNotFoundError
        If the server says that there is no such file.
    UnsafeReferenceError, ImportError
        As `filesystem_for`.
    OSError
        If it does not answer, refuses, or has something that is no file of media.
    """
    remote = _retrying(partial(_ask, url, timeout))
    if remote.media_type in _WEB_PAGES:
        raise RefusedError(f"the server answers with a web page ({remote.media_type}), perhaps it wants a login")
    if not remote.ends:
        raise RefusedError("the server tells neither how long the file is nor where it ends, so it cannot be verified")
    return remote


def ask_all(urls: Iterable[str], *, timeout: float = 60.0) -> dict[str, RemoteFile | Exception]:
    """Ask for several URLs, some at the same time; gives for each the answer, or what `ask` raised."""

    def answer(url: str) -> RemoteFile | Exception:
        try:
            return ask(url, timeout=timeout)
        except (OSError, ValueError, ImportError) as error:
            return error

    urls = list(dict.fromkeys(urls))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ask") as askers:
        return dict(zip(urls, askers.map(answer, urls), strict=True))


def _retrying(attempt: Callable[[], _T]) -> _T:
    for pause in PAUSES:
        try:
            return attempt()
        except BrokenOffError as error:
            time.sleep(max(pause, error.wait))
    return attempt()


def _ask(url: str, timeout: float) -> RemoteFile:
    if scheme_of(url) in ("http", "https"):
        # A GET, hung up on when it has begun: signed URLs allow no HEAD, and some servers answer it with other things.
        with _http_answer(url, timeout, {}) as answer:
            return described(url, answer.headers, answer.url)
    with _sorting_errors():
        return described(url, _bucket_headers(url, timeout))


def _bucket_headers(url: str, timeout: float) -> Mapping[str, str]:
    """What a bucket says of a file, in the words of HTTP."""
    system = _bucket(url, timeout)
    from fsspec.core import strip_protocol

    path = strip_protocol(url)
    if scheme_of(url) == "s3":
        bucket, key, _ = system.split_path(path)
        answer = system.call_s3("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        return {name.lower(): value for name, value in answer["ResponseMetadata"]["HTTPHeaders"].items()}
    info = system.info(path)
    return {
        "content-length": str(info["size"]),
        "content-type": str(info.get("contentType") or ""),
        "etag": f'"{info.get("generation") or info.get("etag")}"',
        "x-goog-hash": f"md5={info.get('md5Hash') or ''}",
        "x-goog-stored-content-encoding": str(info.get("contentEncoding") or "identity"),
    }


def _bucket(url: str, timeout: float) -> Any:
    """The file system of a bucket; without a name where there are no credentials, as for buckets of the public."""
    system = filesystem_for(url, timeout)
    if scheme_of(url) != "s3":
        return system
    from botocore.session import Session

    return system if Session().get_credentials() is not None else filesystem_for(url, timeout, anon=True)


class _HttpAnswer:
    """An answer of which the headers have come, in the session and the thread that fsspec has for them."""

    def __init__(self, system: Any, answer: Any) -> None:
        self._loop = system.loop
        self._answer = answer
        self.status: int = answer.status
        self.url = str(answer.url)
        self.headers = {name.lower(): ", ".join(answer.headers.getall(name)) for name in answer.headers}

    def read(self, count: int) -> bytes:
        """Read at most so many bytes of the content, as they come."""
        from fsspec.asyn import sync

        return bytes(sync(self._loop, self._answer.content.read, count))


@contextmanager
def _http_answer(url: str, timeout: float, headers: Mapping[str, str]) -> Iterator[_HttpAnswer]:
    """Ask for a file; it is hung up when what is wanted has been read."""
    system = filesystem_for(url, timeout)
    from fsspec.asyn import sync

    session = sync(system.loop, system.set_session)
    answer = None

    async def get() -> Any:
        return await session.get(system.encode_url(url), headers={"Accept-Encoding": "identity", **headers})

    async def hang_up() -> None:
        if answer is not None:
            answer.close()
        await session.close()

    try:
        with _sorting_errors():
            answer = sync(system.loop, get)
            answer.raise_for_status()
        yield _HttpAnswer(system, answer)
    finally:
        with suppress(Exception):  # what is wrong with it has been told
            sync(system.loop, hang_up)


@contextmanager
def _sorting_errors() -> Iterator[None]:
    """Tell what may pass from what will not; the packages behind fsspec have exceptions of their own."""
    try:
        yield
    except (BrokenOffError, RefusedError, ImportError, UnsafeReferenceError):
        raise
    except Exception as error:
        raise _sorted(error) from error


def _sorted(error: Exception) -> OSError:
    status = getattr(error, "status", None)
    if status is None:  # botocore
        status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
    reason = str(getattr(error, "message", "") or error) or type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError("the server says that there is no such file")
    if status == 416:
        return BrokenOffError("the server has not as much of it as is here already")
    if status in _PASSING:
        return _busy(f"the server answers {status} {reason}", getattr(error, "headers", None) or {})
    if type(error).__name__ == "TooManyRedirects":  # aiohttp's, with a status of 0
        return RefusedError("the server redirects again and again")
    if isinstance(status, int) and status >= 300:
        return RefusedError(f"the server answers {status} {reason}")
    if isinstance(error, PermissionError | ValueError):  # ValueError: URLs that are none, redirects to no HTTP
        return RefusedError(reason)
    if isinstance(error, TimeoutError):
        return BrokenOffError(f"the server says nothing ({type(error).__name__})")
    return BrokenOffError(reason)


def _busy(reason: str, headers: Mapping[str, str]) -> OSError:
    """What comes of an answer that may be another one the next time, at which the server may want us later."""
    wait = retry_after(headers.get("Retry-After", ""), time.time())
    if wait > LONGEST_WAIT:
        return RefusedError(f"{reason}, and wants to be asked again in {wait:.0f} seconds")
    error = BrokenOffError(reason)
    error.wait = wait
    return error


# ----------------------------------------------------------------------- read


@contextmanager
def reading(remote: RemoteFile, timeout: float, begin: int) -> Iterator[tuple[int, Callable[[int], bytes]]]:
    """Read a file from some byte on.

    Parameters
    ----------
    remote : RemoteFile
        As `ask` gave it.
    timeout : float
        Seconds to wait for a server that says nothing.
    begin : int
        The byte.

    Yields
    ------
    int, callable
        The byte at which the server really begins, 0 if it gives no parts; and what reads at most so many bytes from
        there on, none at the end.

    Raises
    ------
    BrokenOffError, RefusedError, FileNotFoundError
        Refused too, if the file is not the one any more that it was when it was asked for.
    """
    if scheme_of(remote.url) not in ("http", "https"):
        with _sorting_errors():
            if described(remote.url, _bucket_headers(remote.url, timeout)).validator != remote.validator:
                raise RefusedError("the file has changed on the server since the plan was made; try again")
            stream = _bucket(remote.url, timeout).open(remote.url, "rb", cache_type="readahead")
            stream.seek(begin)
        with stream:
            yield begin, _reader(stream)
        return
    headers = {"Range": f"bytes={begin}-"} if begin else {}
    if begin and remote.validator is not None:
        headers["If-Range"] = remote.validator
    with _http_answer(remote.url, timeout, headers) as answer:
        now = described(remote.url, answer.headers)
        if now.validator != remote.validator:
            raise RefusedError("the file has changed on the server since the plan was made; try again")
        if answer.status == 206:
            if not answer.headers.get("content-range", "").startswith(f"bytes {begin}-"):
                raise RefusedError("the server sends another part of the file than was asked for")
        elif now.size != remote.size:
            raise RefusedError(f"the server announces {now.size} bytes now, and {remote.size} before; try again")
        yield begin if answer.status == 206 else 0, _reader(answer)


def _reader(stream: Any) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        with _sorting_errors():
            return bytes(stream.read(count))

    return read

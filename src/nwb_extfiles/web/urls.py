"""Files behind URLs, through fsspec: asked about, opened, and read from any byte on."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from ..errors import UnsafeReferenceError
from ..threads import each_in_threads
from .remote import SCHEMES, RemoteFile, described, retry_after, scheme_of, signed_until

__all__ = [
    "ATTEMPTS",
    "BrokenOffError",
    "RefusedError",
    "ask",
    "ask_all",
    "opened",
    "opened_folder",
    "reading",
    "reason_of",
    "retried",
]

T = TypeVar("T")

ATTEMPTS = 4
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each further pause is four times as long."""
LONGEST_WAIT = 120.0
"""Seconds to wait at most if a server asks for it."""

_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
_PASSING = {408, 416, 425, 429, 500, 502, 503, 504}  # statuses of answers that may differ the next time
_WEB_PAGES = ("text/html", "application/xhtml+xml")
_LOOKS_UP = 0.2  # seconds after which a pause is looked up from: another thread may have been interrupted
_AT_ONCE = 8  # URLs that are asked about at the same time


class BrokenOffError(OSError):
    """The server may answer when it is asked again."""

    wait: float = 0.0
    """Seconds for which the server asks not to be contacted."""


class RefusedError(OSError):
    """Asking again would not help."""


def _filesystem(url: str, timeout: float, *, is_folder: bool = False) -> Any:
    """The fsspec file system for a URL of one of the `SCHEMES`, or for all below it."""
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise UnsafeReferenceError(f"{url[:200]!r} is not read: only {', '.join(SCHEMES)} URLs are")
    try:
        import fsspec

        settings: dict[str, Any] = {}
        if scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            timeouts = ClientTimeout(sock_connect=timeout, sock_read=timeout)
            # Of a refusal that it finds itself, fsspec leaves the connection open.
            settings["client_kwargs"] = {"timeout": timeouts, "raise_for_status": True}
            # Encoding a signed URL a second time would break its signature.
            settings["encoded"] = url.isascii() and " " not in url and not is_folder
        elif scheme == "s3":
            from botocore.session import Session

            settings["config_kwargs"] = {"connect_timeout": timeout, "read_timeout": timeout}
            settings["anon"] = Session().get_credentials() is None  # public buckets need none
        return fsspec.filesystem(scheme, skip_instance_cache=True, **settings)
    except ImportError as error:
        raise ImportError(
            f"{url}: {scheme} URLs need fsspec and {_PACKAGES[scheme]}, and not both are installed ({error}): "
            'pip install "fsspec[gcs,http,s3]>=2024.6"'
        ) from error


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """Open a file behind a URL for random access; only the parts that are read are fetched."""
    with _filesystem(url, 60.0).open(url, "rb") as stream:
        yield stream


@contextmanager
def opened_folder(url: str, name: str) -> Iterator[Any]:
    """A file system of fsspec for what is below a URL, if the server has a file with a name there."""
    with _answer(f"{url}/{name}", 60.0):  # what fsspec says of a missing file does not tell why
        pass
    system = _filesystem(url, 60.0, is_folder=True)
    try:
        yield system
    finally:
        _close(system, url)


@contextmanager
def _answer(
    url: str, timeout: float, begin: int = 0, validator: str | None = None
) -> Iterator[tuple[Any, RemoteFile, int]]:
    """A stream of the content from some byte on, what the server says about the file, and where the stream begins."""
    system = _filesystem(url, timeout)
    try:
        with _sorted_errors():
            open_stream = _open_key if scheme_of(url) in ("s3", "gs") else _open_http
            stream, remote, begin = open_stream(system, url, begin, validator)
        with stream:
            yield stream, remote, begin
    finally:
        _close(system, url)


def _close(system: Any, url: str) -> None:
    if scheme_of(url) in ("http", "https"):  # fsspec closes its session some time later, and an error keeps it open
        from fsspec.asyn import sync

        system.close_session(system.loop, sync(system.loop, system.set_session))


def _open_http(system: Any, url: str, begin: int, validator: str | None) -> tuple[Any, RemoteFile, int]:
    headers = {"Accept-Encoding": "identity"}
    if begin:
        headers |= {"Range": f"bytes={begin}-", "If-Range": validator or ""}
    # block_size=0 asks for a stream, which has aiohttp's response; given any size, fsspec does not ask for that with a
    # HEAD, which signed URLs do not allow, and which some servers answer differently.
    stream = system.open(url, "rb", block_size=0, size=1, headers=headers)
    named = {name.lower(): ", ".join(stream.r.headers.getall(name)) for name in stream.r.headers}
    part = re.match(r"bytes (\d+)-", named.get("content-range", ""))
    begins = 0 if stream.r.status != 206 else int(part[1]) if part else -1
    return stream, described(url, named, str(stream.r.url)), begins


def _open_key(system: Any, url: str, begin: int, validator: str | None) -> tuple[Any, RemoteFile, int]:  # noqa: ARG001
    remote = described(url, _bucket_headers(system, url))
    stream = system.open(url, "rb", cache_type="readahead")
    stream.seek(begin)
    return stream, remote, begin


def _bucket_headers(system: Any, url: str) -> Mapping[str, str]:
    """What a bucket says about a file, as headers of HTTP."""
    if scheme_of(url) == "s3":  # its info() leaves out checksums and encryption
        bucket, key, _ = system.split_path(url)
        answer = system.call_s3("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        return {name.lower(): value for name, value in answer["ResponseMetadata"]["HTTPHeaders"].items()}
    info = system.info(url)
    return {
        "content-length": str(info["size"]),
        "content-type": str(info.get("contentType") or ""),
        "etag": f'"{info.get("generation") or info.get("etag")}"',
        "x-goog-hash": f"md5={info.get('md5Hash') or ''}",
        "x-goog-stored-content-encoding": str(info.get("contentEncoding") or "identity"),
    }


@contextmanager
def reading(remote: RemoteFile, timeout: float, begin: int) -> Iterator[tuple[int, Callable[[int], bytes]]]:
    """Read a file from some byte on, if the server says that its content is unchanged since `ask`.

    Yields the byte at which the server really begins, 0 if it does not support ranges, and what reads at most so many
    bytes from there on, none at the end.
    """
    with _answer(remote.url, timeout, begin, remote.validator) as (stream, now, begins):
        if now.validator != remote.validator:
            raise RefusedError("the file has changed on the server since the plan was made; try again")
        if begins not in (0, begin):
            raise RefusedError("the server sends another part of the file than was asked for")
        if not begins and now.size != remote.size:
            raise RefusedError(f"the server announces {now.size} bytes now, and {remote.size} before; try again")

        def read(count: int) -> bytes:
            with _sorted_errors():
                return bytes(stream.read(count))

        yield begins, read


def retried(attempt: Callable[[], T], on_wait: Callable[[], object] = lambda: None) -> T:
    """Call a function again after a pause, up to `ATTEMPTS` times, while it raises `BrokenOffError`.

    `on_wait` is called now and then in a pause; it raises if the answer is not wanted any more.
    """
    from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    pause = wait_exponential(multiplier=FIRST_PAUSE, exp_base=4)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return max(pause(state), getattr(error, "wait", 0.0))

    def sleep(seconds: float) -> None:
        while seconds > 0:
            on_wait()
            time.sleep(min(seconds, _LOOKS_UP))
            seconds -= _LOOKS_UP
        on_wait()

    retrying = Retrying(
        sleep=sleep,
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait,
        retry=retry_if_exception_type(BrokenOffError),
        reraise=True,
    )
    return retrying(attempt)


def ask(url: str, *, timeout: float = 60.0, on_wait: Callable[[], object] = lambda: None) -> RemoteFile:
    """Ask a server what is behind a URL, without reading its content.

    Parameters
    ----------
    url : str
        Of one of the `SCHEMES`.
    timeout : float
        Seconds for which the server may stay silent.
    on_wait : callable
        Called now and then in a pause between two attempts; it raises if the answer is not wanted any more.

    Raises
    ------
    FileNotFoundError
        If the server says that there is no such file.
    UnsafeReferenceError
        If the URL has another scheme.
    ImportError
        If the package that fsspec needs for the scheme is not installed.
    OSError
        If the server does not answer, refuses, or has something that is not a media file.
    """

    def attempt() -> RemoteFile:
        with _answer(url, timeout) as (_, remote, _):
            return remote

    remote = retried(attempt, on_wait)
    if remote.media_type in _WEB_PAGES:
        raise RefusedError(f"the server answers with a web page ({remote.media_type}), perhaps it wants a login")
    if not remote.ends:
        raise RefusedError("the server tells neither how long the file is nor where it ends, so it cannot be verified")
    return remote


def ask_all(urls: Iterable[str], *, timeout: float = 60.0) -> dict[str, RemoteFile | Exception]:
    """Ask about several URLs, some at the same time; maps each to the answer, or to what `ask` raised."""
    urls = list(dict.fromkeys(urls))
    answers: dict[str, RemoteFile | Exception] = {}

    def answer_of(url: str, tell: Callable[[int], object]) -> RemoteFile:
        return ask(url, timeout=timeout, on_wait=lambda: tell(0))

    asked = each_in_threads(answer_of, urls, _AT_ONCE, lambda count: None)
    with closing(asked):
        for number, answer in asked:
            if not isinstance(answer, RemoteFile | OSError | ValueError | ImportError):
                raise answer
            answers[urls[number]] = answer
    return answers


@contextmanager
def _sorted_errors() -> Iterator[None]:
    """Tell errors that may pass from those that will not; the packages behind fsspec have exceptions of their own."""
    try:
        yield
    except (BrokenOffError, RefusedError, ImportError, UnsafeReferenceError):
        raise
    except Exception as error:
        raise _sorted(error) from error


def reason_of(error: Exception) -> str:
    """What an error of a package behind fsspec says, without secrets."""
    return str(_sorted(error))


def _sorted(error: Exception) -> OSError:
    while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec says "not found" of whatever kept it from asking how long a file is
    status = getattr(error, "status", None)
    if status is None:  # botocore
        status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
    # not str() of aiohttp's errors: it has the URL of a redirect, which may be signed
    reason = str(getattr(error, "message", "") or error) or type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError("the server says that there is no such file")
    if type(error).__name__ == "TooManyRedirects":  # aiohttp's, with a status of 0
        return RefusedError("the server redirects again and again")
    if status in _PASSING:
        broken = BrokenOffError(f"the server answers {status} {reason}")
        broken.wait = retry_after((getattr(error, "headers", None) or {}).get("Retry-After", ""), time.time())
        if broken.wait <= LONGEST_WAIT:
            return broken
        return RefusedError(f"{broken}, and wants to be asked again in {broken.wait:.0f} seconds")
    if status == 403 and (end := signed_until(str(getattr(getattr(error, "request_info", None), "real_url", "")))):
        reason = f"{reason}: the signature in the URL counts until {end:%Y-%m-%d %H:%M} UTC"
    if isinstance(status, int) and status >= 300:
        return RefusedError(f"the server answers {status} {reason}")
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return BrokenOffError(f"{reason}: connection refused")
    if isinstance(error, PermissionError | ValueError):  # ValueError: malformed URLs, redirects to other schemes
        return RefusedError(reason)
    if isinstance(error, TimeoutError):
        return BrokenOffError(f"the server says nothing ({type(error).__name__})")
    return BrokenOffError(reason)

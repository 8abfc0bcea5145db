"""What is behind the URLs of media that are to be downloaded: asked for before anything is changed."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from ..errors import ExternalFilesError, MissingMediaError, TransferError
from ..hints import Hint
from ..nwb.references import ExternalFileReference
from ..options import MediaOptions
from ..web.archive import ArchivedFile, Dandisets
from ..web.remote import SCHEMES, RemoteFile, beside, is_content, scheme_of, unsigned
from ..web.urls import ask_all
from .locate import ask_ahead, asset_meant
from .resolve import Resolution
from .stored_paths import is_absolute, is_url

__all__ = ["ask_servers"]


def ask_servers(resolutions: Sequence[Resolution], options: MediaOptions) -> tuple[list[Resolution], list[str]]:
    """Find out what is behind the URLs that can be downloaded; warn of those that are kept.

    A relative path in an NWB file behind a URL, or in a DANDI archive, is such a URL too.
    """
    dandisets = Dandisets(options.opened_from)
    ask_ahead((one.reference for one in resolutions if isinstance(one.problem, MissingMediaError)), dandisets)
    found = [_source(entry, dandisets) for entry in resolutions]
    urls = [source for source in (_url(source) for source in found) if scheme_of(source) in SCHEMES]
    answers = ask_all(urls, timeout=options.url_timeout)
    asked: list[Resolution] = []
    warnings: list[str] = []
    for entry, source in zip(resolutions, found, strict=True):
        reference, url = entry.reference, _url(source)
        answer = answers.get(url)
        if isinstance(source, ExternalFilesError):
            asked.append(Resolution(reference, problem=source))
        elif isinstance(answer, RemoteFile) and is_content(url) and not isinstance(source, ArchivedFile):
            asked.append(Resolution(reference, problem=_nameless(reference, url)))
        elif isinstance(answer, RemoteFile):
            asked.append(Resolution(reference, url=True, remote=_named(answer, source)))
        elif answer is not None:
            asked.append(Resolution(reference, problem=_not_available(reference, url, answer)))
        else:
            asked.append(entry)
            if entry.url:
                warnings.append(
                    f"{reference.where}: {reference.stored_path[:200]!r} is kept as it is: only {', '.join(SCHEMES)} "
                    f"URLs are downloaded"
                )
    return asked, warnings


def _source(resolution: Resolution, dandisets: Dandisets) -> str | ArchivedFile | ExternalFilesError:
    """What a reference means: an asset, a URL, or why neither is known; an empty string if it is no URL."""
    reference = resolution.reference
    try:
        if resolution.url:
            return dandisets.asset_at(reference.stored_path) or reference.stored_path
        base, problem = reference.base, resolution.problem
        if base is None or not is_url(base) or is_absolute(reference.stored_path):
            return ""
        if not isinstance(problem, MissingMediaError):
            return ""
        assets = dandisets.around(base)
        return asset_meant(reference, assets) if assets is not None else beside(base, reference.stored_path) or ""
    except ExternalFilesError as error:
        return error


def _url(source: str | ArchivedFile | ExternalFilesError) -> str:
    if isinstance(source, ArchivedFile):
        return next(iter(source.urls), "")
    return source if isinstance(source, str) else ""


def _named(remote: RemoteFile, source: str | ArchivedFile) -> RemoteFile:
    """What a server says, with what the archive says of an asset: its URL has neither its name nor its suffix."""
    if not isinstance(source, ArchivedFile):
        return remote
    suffix = posixpath.splitext(source.path)[1].lower()
    digest = (("sha256", source.sha256),) if source.sha256 is not None else ()
    checksums = dict((*remote.checksums, *digest))
    return replace(remote, suffix=suffix, checksums=tuple(checksums.items()), asset_path=source.path)


def _nameless(reference: ExternalFileReference, url: str) -> ExternalFilesError:
    return TransferError(
        f"{reference.where}: {unsigned(url)!r} is content in a DANDI archive, and its URL has neither name nor suffix",
        hint=Hint(
            "store the download URL of the asset instead, which ends in /assets/<asset id>/download/ and "
            "tells the name, or leave URLs as they are with {urls_keep}"
        ),
        **reference.place,
    )


def _not_available(reference: ExternalFileReference, url: str, error: Exception) -> ExternalFilesError:
    kind = MissingMediaError if isinstance(error, FileNotFoundError) else TransferError
    problem = kind(
        f"{reference.where}: {unsigned(url)!r} cannot be downloaded: {error}",
        hint=Hint("check that it opens in a browser, or leave URLs as they are with {urls_keep}"),
        **reference.place,
    )
    problem.__cause__ = error
    return problem

"""Reads the videos of a report, each once, and makes their thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from ...batch import each
from ...media.pyav.reading import How, NotAVideo, read_video
from ...plans.media_files import MediaFile
from ...progress import increments
from ...threads import each_in_threads
from .data import FileFacts

__all__ = ["read_all"]

_THREADS = 4
_GROUP = 16  # files that a process reads at once
_MOST_THUMBNAIL_BYTES = 5_000_000  # in all; in the page they take a third more
_WIDTHS = ((300, 240), (1_500, 160))  # of thumbnails in pixels, for as many of them
_NARROWEST = 112
_Identity = tuple[int, int]


def read_all(
    files: Mapping[_Identity, MediaFile],
    times: Mapping[_Identity, int] | None,
    how: How,
    on_bytes: Callable[[int], object],
    executor: Executor | None,
) -> tuple[dict[_Identity, FileFacts], int]:
    """Read each file once, in a few threads or in the processes of an executor.

    Parameters
    ----------
    files : mapping
        By device and inode.
    times : mapping, optional
        How often each file is in the page, with its thumbnail each time. No thumbnails are made without.
    how : {"index", "packets", "decode"}
        As `read_video`.
    on_bytes : callable
        Called with each number of bytes done.
    executor : concurrent.futures.Executor, optional
        Of processes.

    Returns
    -------
    (dict, int)
        What was read of each file, and how many videos have no thumbnail because the page would become too large.
    """
    width = 0
    if times is not None:
        width = next((width for most, width in _WIDTHS if sum(times.values()) <= most), _NARROWEST)
    facts: dict[_Identity, FileFacts] = {}
    spent = left_out = 0
    reader = _read_in_threads if executor is None else partial(_read_in_processes, executor)
    with closing(reader(files.values(), how, lambda: width if spent <= _MOST_THUMBNAIL_BYTES else 0, on_bytes)) as read:
        for identity, result in zip(files, read, strict=True):
            spent += len(result.thumbnail or b"") * (times or {}).get(identity, 0)
            is_full = spent > _MOST_THUMBNAIL_BYTES
            left_out += is_full and result.video is not None
            facts[identity] = replace(result, thumbnail=None) if is_full else result
    return facts, left_out


def _read_in_threads(
    files: Iterable[MediaFile], how: How, width: Callable[[], int], on_bytes: Callable[[int], object]
) -> Generator[FileFacts]:
    def read(file: MediaFile, tell: Callable[[int], object]) -> FileFacts:
        return _read(file, how, width(), tell)

    with closing(each_in_threads(read, files, _THREADS, on_bytes)) as found:
        for _, result in found:
            if isinstance(result, BaseException):
                raise result
            yield result


def _read_in_processes(
    executor: Executor,
    files: Iterable[MediaFile],
    how: How,
    width: Callable[[], int],
    on_bytes: Callable[[int], object],
) -> Generator[FileFacts]:
    files = list(files)
    groups = [files[start : start + _GROUP] for start in range(0, len(files), _GROUP)]
    read = partial(_read_group, how=how, width=width())
    waiting: dict[int, list[FileFacts]] = {}
    following = 0
    for number, result in each(read, groups, executor):
        if isinstance(result, BaseException):
            raise result
        on_bytes(sum(file.size for file in groups[number]))
        waiting[number] = result
        while following in waiting:  # in the order of the files, so that the page is the same with any number of jobs
            yield from waiting.pop(following)
            following += 1


def _read_group(files: Sequence[MediaFile], *, how: How, width: int) -> list[FileFacts]:
    return [_read(file, how, width, lambda count: None) for file in files]


def _read(file: MediaFile, how: How, width: int, on_bytes: Callable[[int], object]) -> FileFacts:
    """Facts of a file, and a thumbnail of that width if it is not 0."""
    from ...media.pyav.thumbnails import thumbnail

    seen = 0

    def tell(count: int) -> None:
        nonlocal seen
        seen += count
        on_bytes(count)

    path = file.real
    try:
        video = read_video(path, how, progress=increments(tell))
        shot = None
        with suppress(NotAVideo, OSError):  # no frame can be decoded
            shot = thumbnail(path, width=width) if width else None
        return FileFacts(video, thumbnail=shot)
    except NotAVideo as error:
        return FileFacts(error)
    except OSError as error:
        return FileFacts(unreadable=error.strerror or str(error))
    finally:
        on_bytes(max(0, file.size - seen))

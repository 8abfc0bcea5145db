"""Reads the videos of NWB files, each once, and has them compared with their series."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Literal

from ...batch import each
from ...errors import ExternalFilesError
from ...media.pyav.reading import How, NotAVideo, VideoFacts, load_av, read_video
from ...plans.media_files import MediaFile
from ...plans.resolve import Resolution
from ...progress import increments
from ...threads import each_in_threads
from ..nwb_media import NWBMedia
from .findings import Finding, Severity, of_file
from .series_checks import Media, findings_of_image, findings_of_series, promises_video

__all__ = ["Frames", "VideoChecker", "is_read"]

Frames = How | Literal["none"]
"""How `check` learns what is in videos."""
_THREADS = 4
_FEW_BYTES = 4 * 1024 * 1024


class VideoChecker:
    """Checks the videos of one NWB file after the other, and reads each file once.

    Parameters
    ----------
    frames : {"index", "packets", "decode", "none"}, optional
        How videos are read (`read_video`). By default by the index, if PyAV is installed.
    on_bytes : callable
        Called with each number of bytes of videos read.
    known : mapping, optional
        What was read of files before, by device and inode: why a file is no video, or None if it could not be read.

    Raises
    ------
    ExternalFilesError
        If `frames` is given, and PyAV is not installed.
    """

    def __init__(
        self,
        frames: Frames | None,
        on_bytes: Callable[[int], object],
        known: Mapping[tuple[int, int], VideoFacts | NotAVideo | None] | None = None,
    ) -> None:
        if frames not in (None, "index", "packets", "decode", "none"):
            raise ValueError(f"frames must be 'index', 'packets', 'decode' or 'none', not {frames!r}")
        if frames not in (None, "none"):
            load_av()
        self._how: Frames = frames or "index"
        self._on_bytes = on_bytes
        self._facts = dict(known or {})
        self._has_told = False
        """Whether a finding says that videos are not read."""

    @property
    def reads(self) -> bool:
        """Whether videos are read."""
        return self._how != "none"

    def check(self, media: NWBMedia) -> Iterator[Finding]:
        """Find what is wrong with the videos and images of one NWB file."""
        if self._how == "none":
            return
        images = media.images
        for entry in media.found:
            if entry.file is not None and entry.reference.object_path in images:
                image_format = images[entry.reference.object_path]
                yield from findings_of_image(entry.reference, image_format, _first_bytes(entry.file))
        videos = [entry for entry in media.found if entry.reference.object_path not in images]
        new = self._not_read_yet(videos)
        if new and (problem := _why_not_read()) is not None:
            yield from self._say_once(media.path, new, problem)
        elif new:
            self._read(new, self._how)
        yield from self._compare(videos, media)

    def _compare(self, videos: Sequence[Resolution], of_file: NWBMedia) -> Iterator[Finding]:
        seen: set[tuple[int, int]] = set()
        # last, fields that repeat the videos of series
        ordered = sorted(videos, key=lambda entry: entry.reference.repeats)
        for place, entries in groupby(ordered, key=lambda entry: (entry.reference.object_path, entry.reference.field)):
            media = []
            for entry in entries:
                identity = None if entry.file is None else entry.file.identity
                facts = None if identity is None else self._facts.get(identity)
                media.append(Media(entry.reference, entry.file, facts, is_repeated=identity in seen))
                seen.update(() if identity is None else (identity,))
            yield from findings_of_series(media, of_file.series.get(place))

    def _not_read_yet(self, videos: Iterable[Resolution]) -> list[MediaFile]:
        """The files that were not read before."""
        files = {entry.file.identity: entry.file for entry in videos if entry.file is not None}
        return [file for identity, file in files.items() if identity not in self._facts and is_read(file)]

    def _read(self, files: Sequence[MediaFile], how: How) -> None:
        def read(file: MediaFile, tell: Callable[[int], object]) -> VideoFacts:
            return read_video(file.real, how, progress=increments(tell))

        if len(files) == 1 or sum(file.size for file in files) < _FEW_BYTES:  # threads would take longer to start
            results = each(lambda file: read(file, self._on_bytes), files, None)
        else:
            results = each_in_threads(read, files, _THREADS, self._on_bytes)
        with closing(results):
            for number, result in results:
                if isinstance(result, BaseException) and not isinstance(result, NotAVideo | OSError):
                    raise result
                # which of them may not be read, the checks of paths tell
                self._facts[files[number].identity] = None if isinstance(result, OSError) else result

    def _say_once(self, path: Path, files: Iterable[MediaFile], problem: ExternalFilesError) -> Iterator[Finding]:
        """Say that videos are not read, at the first NWB file that has some."""
        if not self._has_told and any(map(promises_video, files)):
            self._has_told = True
            what = f"videos are not compared with their series, here and in further NWB files: {problem.what}"
            yield of_file(path, Severity.INFO, "videos-not-read", what, problem.hint)


def _why_not_read() -> ExternalFilesError | None:
    try:
        load_av()
    except ExternalFilesError as error:
        return error
    return None


def is_read(file: MediaFile) -> bool:
    """Whether the facts of a file are read: of all but empty ones and images, of which a series may have thousands."""
    return file.size > 0 and not _is_called_an_image(file)


def _is_called_an_image(file: MediaFile) -> bool:
    return (mimetypes.guess_type(file.path.name.lower())[0] or "").startswith("image/")


def _first_bytes(file: MediaFile) -> bytes:
    try:
        with open(file.real, "rb") as stream:
            return stream.read(16)
    except OSError:  # the checks of paths tell
        return b""

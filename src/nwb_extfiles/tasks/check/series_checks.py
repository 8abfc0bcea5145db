"""Whether videos are those of their series: facts of files compared with what the NWB file says.

Decides from facts alone, and is silent where either side is not certain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from ...hints import Hint, counted
from ...media.frames import starting_frame_problem, starting_frames
from ...media.pyav.reading import ELEMENTARY, NotAVideo, VideoFacts
from ...nwb.references import ExternalFileReference
from ...nwb.series import SeriesFacts
from ...plans.media_files import MediaFile
from .findings import Finding, Severity, of_reference, shortened

__all__ = ["VIDEO_SUFFIXES", "Media", "findings_of_image", "findings_of_series", "is_playable", "promises_video"]

VIDEO_SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".dv", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv",
))  # fmt: skip
"""Files with other suffixes may be images, or of formats that only their makers read, such as ``.seq``."""
_SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8"}  # what the schema allows
_PLAYABLE = {"h264", "vp8", "vp9", "av1"}
_PLAYABLE_IN = {"mp4", "mov", "webm"}
_PLAYABLE_PIXELS = {None, "yuv420p", "yuvj420p"}
_NO_FRAMES = "replace it with the video; if the recording was stopped at once, remove the series"


@dataclass(frozen=True, slots=True)
class Media:
    """One entry of a field, and what is known of its file."""

    reference: ExternalFileReference
    file: MediaFile | None
    """None for a URL, or a file that was not found."""
    facts: VideoFacts | NotAVideo | None = None
    """None if they were not read."""
    is_repeated: bool = False
    """Whether another entry, which has the findings about the file, has the same one."""

    @property
    def video(self) -> VideoFacts | None:
        """The facts of a video."""
        return self.facts if isinstance(self.facts, VideoFacts) else None

    @property
    def counted(self) -> tuple[int, int] | None:
        """How many frames are stored and shown, if that is certain, and not the fault of the file."""
        if self.video is None or not self.video.frames or self.video.cut_off:
            return None
        return self.video.frames, self.video.frames if self.video.shown is None else self.video.shown


def promises_video(file: MediaFile) -> bool:
    """Whether a file has the suffix of a video that FFmpeg reads."""
    return file.path.suffix.lower() in VIDEO_SUFFIXES


# ---------------------------------------------------------------- what is wrong


def findings_of_series(media: Sequence[Media], series: SeriesFacts | None) -> Iterator[Finding]:
    """Compare the videos of one field with each other, and with what their series says.

    Parameters
    ----------
    media : sequence of Media
        All entries of the field, in order.
    series : SeriesFacts, optional
        None if the field is not that of an ImageSeries.
    """
    new = [entry for entry in media if not entry.is_repeated]
    for entry in new:
        yield from _file(entry)
    if series is not None and all(entry.file is not None for entry in media):
        yield from _starting_frame(media, series)
        yield from _counts(media, series)
        yield from _sizes(media, series)
        yield from _gaps(media, series)
    yield from _remarks(new)


def _file(entry: Media) -> Iterator[Finding]:
    """What is wrong with one file, whatever its series says."""
    error = partial(of_reference, entry.reference, Severity.ERROR)
    size = 0 if entry.file is None else entry.file.size
    copy_again = "copy it again from where it was recorded; if it is still being written, check it when that is done"
    facts = entry.facts
    if isinstance(facts, NotAVideo):
        if facts.cut_off:
            yield error("cut-off", f"it is cut off after {size:,} bytes, or still being written: its index is missing, "
                        f"or lists frames that are not there", copy_again)  # fmt: skip
        elif entry.file is not None and promises_video(entry.file) and not facts.undecodable:
            yield error("not-a-video", f"it {facts.reason}", "replace it with the video")
        return
    if facts is None:
        return
    if facts.cut_off:
        frames = "" if facts.frames is None else f" ({counted(facts.frames, 'frame')})"
        yield error("cut-off", f"it is cut off, or still being written: its header or index promises more "
                    f"than the {size:,} bytes{frames} that are there", copy_again)  # fmt: skip
    if facts.frames == 0:
        yield error("no-frames", "it has no frames", _NO_FRAMES)
    if facts.damaged:
        yield error("damaged", f"{facts.damaged:,} of its {facts.frames:,} frames cannot be decoded, or only in part",
                    "copy it again from where it was recorded, or decide whether the series can do without "
                    "them")  # fmt: skip
    if facts.ends_early and not facts.cut_off:
        what = f"its header promises {facts.duration or 0:.3f} s, and its frames end {facts.ends_early:.3f} s earlier"
        hint = "compare it with the file where it was recorded: the recording or a copy may have broken off"
        yield of_reference(entry.reference, Severity.WARNING, "ends-early", what, hint)


def _starting_frame(media: Sequence[Media], series: SeriesFacts) -> Iterator[Finding]:
    found = series.starting_frame
    if not media:
        return
    right = _right_starting_frame(media, series)
    what = starting_frame_problem(found, len(media))
    if what is None and found is not None:
        wrong = _not_counted_so(media, found)
        if wrong is None:
            return
        entry, said = wrong
        counts = " or ".join(f"{count:,}" for count in sorted(set(entry.counted or ())))
        what = (
            f"starting_frame {list(found)} gives {shortened(entry.reference.stored_path)} {counted(said, 'frame')}, "
            f"but it has {counts}"
        )
    elif what is not None and found is not None:
        what = f"{what} (starting_frame is {list(found)})"
    if what is None:
        return
    if right is not None:
        hint = f"store starting_frame={list(right)}"
    elif all(entry.counted or (entry.video and entry.video.frames is None) for entry in media):
        hint = Hint("count the frames of each file with {frames_packets}, which prints the right list")
    else:
        hint = "store the number of the first frame of each file, counted from 0 through all files"
    yield _of_series(media, Severity.ERROR, "starting-frame", what, hint)


def _right_starting_frame(media: Sequence[Media], series: SeriesFacts) -> tuple[int, ...] | None:
    """Number of the first frame of each file; None if the frames of one before the last are not counted."""
    counts = [entry.counted for entry in media]
    known = [count for count in counts[:-1] if count is not None]
    if len(known) < len(media) - 1:
        return None
    stored = counts[-1] is not None and series.samples == sum(count[0] for count in (*known, counts[-1]))
    return tuple(starting_frames([*(count[0 if stored else 1] for count in known), 0]))


def _not_counted_so(media: Sequence[Media], starting_frame: Sequence[int]) -> tuple[Media, int] | None:
    """The first file that has another number of frames, and how many it has by the list."""
    for entry, (begin, end) in zip(media, pairwise(starting_frame), strict=False):
        if entry.counted is not None and end - begin not in entry.counted:
            return entry, end - begin
    return None


def _counts(media: Sequence[Media], series: SeriesFacts) -> Iterator[Finding]:
    counts = [entry.counted for entry in media if entry.counted is not None]
    samples = series.samples
    if samples is None or not media or len(counts) < len(media):
        return
    least, most = sorted(map(sum, zip(*counts, strict=True)))
    if least <= samples <= most:
        return
    by_timestamps = series.timestamps is not None
    said = counted(samples, "timestamp") if by_timestamps else f"num_samples={samples:,}"
    frames = f"{least:,} frames" if least == most else f"{most:,} frames, of which players show {least:,}"
    each = f" ({' + '.join(f'{stored:,}' for stored, _ in counts)})" if 1 < len(counts) <= 10 else ""
    what = f"the series has {said}, and {'its video' if len(media) == 1 else f'its {len(media)} videos'}"
    fewer = "remove their timestamps" if by_timestamps else f"store num_samples={most}"
    more = "store a timestamp for each frame" if by_timestamps else f"store num_samples={most}"
    if samples > most:
        yield _of_series(
            media, Severity.ERROR, "frames-missing", f"{what} only {frames}{each}: {samples - most:,} are missing",
            f"put the complete video there; if the camera dropped frames, {fewer}",
        )  # fmt: skip
    else:
        yield _of_series(
            media, Severity.WARNING, "frames-left-over", f"{what} {frames}{each}: {least - samples:,} have no time",
            f"if not only the first frames are meant, {more}",
        )  # fmt: skip


def _sizes(media: Sequence[Media], series: SeriesFacts) -> Iterator[Finding]:
    sizes = {entry.video.shown_size: entry for entry in reversed(media) if entry.video and entry.video.width}
    warning = partial(_of_series, media, Severity.WARNING, "sizes-differ")
    if len(sizes) > 1:
        listed = "; ".join(
            f"{shortened(entry.reference.stored_path)} {width} x {height}"
            for (width, height), entry in list(reversed(sizes.items()))[:3]
        )
        yield warning(
            f"its videos differ in size, in pixels: {listed}", "make a series of its own for each size, as one series "
            "has frames of one size",
        )  # fmt: skip
    elif sizes and series.dimension is not None and min(series.dimension, default=0) > 0:
        ((width, height),) = sizes
        if len(series.dimension) < 2 or sorted(series.dimension[:2]) != sorted((width, height)):
            yield warning(
                f"its dimension is {list(series.dimension)}, and its video has {width} x {height} pixels",
                f"if it is the right video, store dimension={[width, height]}",
            )


# ------------------------------------------------------------- worth knowing


def _gaps(media: Sequence[Media], series: SeriesFacts) -> Iterator[Finding]:
    drifting = [entry for entry in media if entry.video is not None and (entry.video.drift or 0) > 1]
    if series.has_rate and drifting:
        most = max(entry.video.drift or 0 for entry in drifting if entry.video is not None)
        yield _remark(
            drifting, "gaps", f"the series has a rate, and by the times in the video its frames are up to {most:,.1f} "
            f"frames away from a constant rate", "if these are the times of the recording, give the series timestamps",
        )  # fmt: skip


def _remarks(media: Sequence[Media]) -> Iterator[Finding]:
    for code, what_of, hint in (
        ("hidden-frames", _hidden, "programs that ignore edit lists count its frames differently than others"),
        ("rotated", _rotated, "not every program that reads frames does, so check positions in them"),
        ("several-videos", _several, "most programs read only one of them"),
        ("not-playable", _unplayable, "it can be read from Python; in a browser, h264 in mp4 plays"),
    ):
        found = [(entry, what) for entry in media if entry.video is not None and (what := what_of(entry.video))]
        if found:
            yield _remark([entry for entry, _ in found], code, found[0][1], hint)


def _hidden(video: VideoFacts) -> str:
    if video.frames is None or video.shown is None or video.shown >= video.frames:
        return ""
    return f"it stores {video.frames:,} frames, and its edit list hides {video.frames - video.shown:,} of them"


def _rotated(video: VideoFacts) -> str:
    size = f"{video.width} x {video.height}"
    turned = f"players turn its frames of {size} pixels by {video.rotation} degrees counterclockwise"
    return turned if video.rotation else ""


def _several(video: VideoFacts) -> str:
    number = video.video_streams
    return f"it has {number} video streams, and only the first was looked at" if number > 1 else ""


def is_playable(video: VideoFacts) -> bool:
    """Whether web browsers play it."""
    return (
        video.codec in _PLAYABLE
        and video.container in _PLAYABLE_IN
        and (video.codec != "h264" or video.pixel_format in _PLAYABLE_PIXELS)
    )


def _unplayable(video: VideoFacts) -> str:
    if is_playable(video):
        return ""
    if video.container in ELEMENTARY:
        return f"not every web browser plays a raw {video.codec} stream"
    pixels = "" if video.pixel_format is None else f" with {video.pixel_format} pixels"
    return f"not every web browser plays {video.codec}{pixels} in {video.container}"


def _remark(entries: Sequence[Media], code: str, what: str, hint: str) -> Finding:
    """One finding for all videos of a field of which the same can be said."""
    finding = of_reference(entries[0].reference, Severity.INFO, code, what, hint)
    return finding if len(entries) == 1 else replace(finding, found=f"true of {len(entries):,} videos of this series")


def _of_series(media: Sequence[Media], severity: Severity, code: str, what: str, hint: str) -> Finding:
    """A finding about all entries of a field; about the one that there is."""
    finding = of_reference(media[0].reference, severity, code, what, hint)
    return finding if len(media) == 1 else replace(finding, index=None, stored_path=None)


# --------------------------------------------------------------------- images


def findings_of_image(reference: ExternalFileReference, image_format: str | None, begin: bytes) -> Iterator[Finding]:
    """Compare the ``image_format`` of an ExternalImage, as stored, with the first bytes of its file."""
    said = (image_format or "").upper().replace("JPG", "JPEG")
    if said not in _SIGNATURES or not begin or begin.startswith(_SIGNATURES[said]):
        return
    found = next((name for name, signature in _SIGNATURES.items() if begin.startswith(signature)), None)
    what = f"its image_format is {image_format!r}, and the file is"
    if found is None:
        hint = f"put the {said} image there"
        yield of_reference(reference, Severity.ERROR, "image-format", f"{what} no {said} image", hint)
    else:
        hint = f"store image_format={found!r}"
        yield of_reference(reference, Severity.WARNING, "image-format", f"{what} a {found} image", hint)

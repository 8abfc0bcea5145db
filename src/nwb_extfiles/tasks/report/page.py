"""A report as one page of HTML that needs nothing else: no script, no network, no other file but the videos it links.

What is shown comes out of files, so it may be anything: all of it passes through `text`, which makes escapes of
control characters and escapes HTML. The content security policy of the page allows no more than the page has.
"""

from __future__ import annotations

import html
import os
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...hints import Message, counted
from ...plans.locate import LocationKind
from ..check.findings import Finding, Severity
from .data import FileFacts, Report, ReportedFile, ReportedMedia, ReportedSeries
from .finding_parts import badge, details, folded, problems, shown_in
from .parts import STYLE, code, length, size, sized, text, tree_lines, words

__all__ = ["GENERATOR", "page"]

GENERATOR = '<meta name="generator" content="nwb-extfiles report">'
"""By which a report is known for one."""
_POLICY = (
    "default-src 'none'; img-src data:; media-src 'self' file:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
_REASONS_LISTED = 5
_UNOWNED_LISTED = 20
_FILES_OPEN = 10
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
{generator}
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(report: Report) -> str:
    """Make the page.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
        HTML. Wrong things come first, then what is there.
    """
    return _PAGE.format(
        policy=_POLICY,
        generator=GENERATOR,
        title=f"Media of {text(report.root.name or report.root)}",
        style=STYLE,
        body="\n".join(_body(report)),
    )


# ----------------------------------------------------------------- the page


def _body(report: Report) -> Iterator[str]:
    anchors = {str(file.path): f"file-{number}" for number, file in enumerate(report.files)}
    yield from _head(report)
    yield "<main>"
    yield from problems(report, anchors)
    yield from _unowned(report)
    yield "<section><h2>NWB files</h2>"
    worst_first = sorted(report.files, key=lambda file: [-count for count in _counts(file.findings)[:2]])
    for number, file in enumerate(worst_first):
        yield from _file(report.root, file, anchors[str(file.path)], is_open=number < _FILES_OPEN)
    yield "</section></main>"


def _head(report: Report) -> Iterator[str]:
    errors, warnings, _ = report.findings.counts.values()
    kind = "error" if errors else "warning" if warnings else "good"
    yield f"<header><h1>Media of {code(report.root.name or report.root)}</h1>"
    where = f"in {counted(len(report.files), 'NWB file')}" + ("; videos were not read" if report.unread else "")
    found = ", ".join(counted(count, noun) for count, noun in ((errors, "error"), (warnings, "warning")) if count)
    verdict = f"Not ready to publish: {found}" if errors else found or "No problems found"
    yield f'<p class="verdict {kind}">{verdict} {where}</p>'
    yield '<dl class="totals">'
    for name, value in _totals(report):
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    yield "</dl>"
    if report.unread is not None:
        yield (
            f'<p class="note">No thumbnails, lengths and numbers of frames: {text(report.unread.what)}.'
            f"{_how_to_read(report.unread)}</p>"
        )
    if report.thumbnails_left_out:
        left_out = counted(report.thumbnails_left_out, "video")
        yield f'<p class="note">To keep the page small, thumbnails of {left_out} are left out.</p>'
    yield (
        f'<p class="note">{code(report.root)}, {report.written:%Y-%m-%d %H:%M}, nwb-extfiles {text(report.version)}. '
        f"Videos are linked, not copied: they play while this page stays in its folder.</p></header>"
    )


def _how_to_read(unread: Message) -> str:
    return f" To get them, run {code(unread.hint)} and make the report again." if unread.hint else ""


def _totals(report: Report) -> Iterator[tuple[str, str]]:
    media = [one for file in report.files for one in file.media]
    kinds = Counter(one.kind for one in media)
    files = {one.location: one for one in media if one.kind is LocationKind.FILE}
    videos = [one.facts.video for one in files.values() if one.facts.video is not None]
    yield "NWB files", f"{len(report.files):,}"
    yield "Series", f"{sum(len(file.series) for file in report.files):,}"
    yield "Media", f"{len(media):,}"
    if kinds[LocationKind.NONE]:
        yield "Missing", f'<b class="error">{kinds[LocationKind.NONE]:,}</b>'
    if kinds[LocationKind.URL]:
        yield "URLs", f"{kinds[LocationKind.URL]:,}"
    yield "Size of media", sized(sum(one.size or 0 for one in files.values()))
    if videos:
        yield "Length", length(sum(video.duration or 0 for video in videos))
        name = "Frames" if all(video.frames is not None for video in videos) else "Frames counted"
        yield name, f"{sum(video.frames or 0 for video in videos):,}"


def _counts(findings: Iterable[Finding]) -> list[int]:
    counter = Counter(finding.severity for finding in findings)
    return [counter[severity] for severity in Severity]


def _unowned(report: Report) -> Iterator[str]:
    if not report.unowned:
        return
    total = sum(count for _, count in report.unowned)
    number = f"<small>{len(report.unowned):,}, {size(total)}</small>"
    yield f"<section><h2>Media that none of these NWB files refers to {number}</h2>"
    yield from folded([f"{code(path)} {sized(count)}" for path, count in report.unowned], _UNOWNED_LISTED)
    yield "</section>"


# ----------------------------------------------------------------- NWB files


def _file(root: Path, file: ReportedFile, anchor: str, is_open: bool) -> Iterator[str]:
    counts = zip(Severity, _counts(file.findings), strict=True)
    worst = [badge(severity, count) for severity, count in counts if count and severity is not Severity.INFO]
    badges = " ".join(worst) or '<span class="badge good">no problems</span>'
    media = len(file.media)
    facts = f"{sized(file.size)} · " + (f"{len(file.series):,} series · {media:,} media" if media else "no media")
    yield f'<details class="file"{" open" if is_open else ""}><summary>{badges} '
    yield f'{code(shown_in(file.path, root), "name")} <small>{facts}</small></summary><div id="{anchor}">'
    yield from _remarks([finding for finding in file.findings if finding.field is None], root)
    for series in file.series:
        yield from _series(series, root)
    if media:
        yield from _trees(file)
    yield "</div></details>"


def _remarks(findings: Sequence[Finding], root: Path, *, brief: bool = False) -> Iterator[str]:
    """What is wrong with a thing, beside it; what to do is said above, and the sentence too."""
    if not findings:
        return
    yield '<ul class="remarks">'
    for one in findings:
        is_brief = brief and one.severity is not Severity.ERROR
        said = "" if is_brief else f" {words(one.what)}{details(one, root)}"
        yield f'<li>{badge(one.severity)} <a href="#{text(one.code)}">{code(one.code)}</a>{said}</li>'
    yield "</ul>"


def _series(series: ReportedSeries, root: Path) -> Iterator[str]:
    field = "" if series.field == "external_file" else f" {text(series.field)}"
    kind = f"<small>{text(series.neurodata_type)}{field}</small>"
    yield f'<section class="series"><h3>{code(series.object_path)} {kind}</h3>'
    yield _frames(series)
    yield from _remarks(series.findings, root)
    yield "<ol>"
    for media in series.media:
        yield _media(media, root)
    yield "</ol></section>"


def _frames(series: ReportedSeries) -> str:
    """How many frames the videos have, and how many the NWB file has times for."""
    if series.frames is None:
        return ""
    videos = [one.facts.video for one in series.media]
    known = [video for video in videos if video is not None and video.frames is not None and not video.cut_off]
    least, most = (sum(getattr(video, name) or 0 for video in known) for name in ("shown", "frames"))
    samples = series.frames.samples
    said = "no number of frames" if samples is None else counted(samples, "timestamp")
    if series.frames.timestamps is None:
        said = "a rate, and no number of frames" if samples is None else f"num_samples {samples:,}"
    if len(known) < len(videos):
        return f'<p class="frames">The NWB file has {said}; {_not_counted(series.media)}.</p>'
    agree = samples is not None and least <= samples <= most
    kind = "" if samples is None else " good" if agree else " error"
    sign = "✓ " if agree else "" if samples is None else "≠ "
    return f'<p class="frames{kind}">{sign}{counted(most, "frame")}; the NWB file has {said}.</p>'


def _not_counted(media: Sequence[ReportedMedia]) -> str:
    """Why not all frames of a series are counted."""
    states = list(map(_state, media))
    if len(media) == 1:
        video = media[0].facts.video
        there = f"; {counted(video.frames, 'frame')} are there" if video is not None and video.frames else ""
        said = "the frames of its video are not counted" if states == ["not counted"] else f"its video is {states[0]}"
        return f"{said}{there}"
    parts = []
    for state in ("missing", "cut off", "not counted"):
        if number := states.count(state):
            what = "the frames of " if state == "not counted" else ""
            are = "is" if number == 1 and not what else "are"
            parts.append(f"{what}{number:,} of its {len(media):,} videos {are} {state}")
    return ", ".join(parts)


def _state(media: ReportedMedia) -> str:
    video = media.facts.video
    if media.kind is LocationKind.NONE:
        return "missing"
    if video is not None and video.cut_off:
        return "cut off"
    return "not counted" if video is None or video.frames is None else "counted"


def _media(media: ReportedMedia, root: Path) -> str:
    location = "a URL, which was not opened" if media.kind is LocationKind.URL else ""
    if media.kind is LocationKind.FILE and not _is_said(media):
        location = f"→ {code(shown_in(media.location or '', root))}"
    facts = [sized(media.size)] if media.size is not None else []
    notes = [location, " · ".join([*facts, *_facts(media.facts)]), " · ".join(_format(media.facts))]
    parts = [
        f'<li class="media"><div class="frame">{_frame(media)}</div><div>',
        f"<p><small>[{media.reference.index}]</small> {code(media.reference.stored_path)}</p>",
        *([] if media.original_name is None else [f'<p class="note">originally {code(media.original_name)}</p>']),
        *(f'<p class="note">{note}</p>' for note in notes if note),
        *_remarks(media.findings, root, brief=True),
        "</div></li>",
    ]
    return "".join(parts)


def _is_said(media: ReportedMedia) -> bool:
    """Whether the stored path says where the file is."""
    return (media.location or "").endswith(f"{os.sep}{media.reference.stored_path}")


def _frame(media: ReportedMedia) -> str:
    """A player, a thumbnail, or a word instead."""
    shot = media.facts.thumbnail
    source = None if shot is None else f"data:image/webp;base64,{b64encode(shot).decode()}"
    video = media.facts.video
    if media.link is not None and video is not None:
        width, height = video.shown_size
        poster = "" if source is None else f' poster="{source}"'
        shape = f'width="{width}" height="{height}"'
        return f'<video controls preload="none" {shape}{poster} src="{html.escape(media.link)}"></video>'
    if source is not None:
        return f'<img src="{source}" alt="a frame of the video">'
    word = {LocationKind.NONE: "missing", LocationKind.URL: "URL"}.get(media.kind, "no thumbnail")
    return f'<span class="{media.kind}">{word}</span>'


def _facts(facts: FileFacts) -> Iterator[str]:
    if facts.reason is not None:
        yield f'<b class="error">{text(facts.reason)}</b>'
    if facts.video is not None:
        if facts.video.duration is not None:
            yield length(facts.video.duration)
        yield "frames not counted" if facts.video.frames is None else counted(facts.video.frames, "frame")


def _format(facts: FileFacts) -> Iterator[str]:
    if facts.video is not None:
        yield text(f"{facts.video.codec} in {facts.video.container}")
        yield f"{facts.video.width} x {facts.video.height}"
        if facts.video.rate is not None:
            yield f"{float(facts.video.rate):.5g} fps"


def _trees(file: ReportedFile) -> Iterator[str]:
    if file.after is not None and set(file.after) == set(file.before):
        missing = sum(place.is_missing for place in set(file.before))
        said = f"{missing:,} missing" if missing else "all in place"
        yield f'<details><summary>Files <small>{said}</small></summary><div class="trees">'
        yield _tree("Now, and after <code>nwb-extfiles relocate</code>", tree_lines(file.before))
    else:
        yield '<details><summary>Files now, and after <code>nwb-extfiles relocate</code></summary><div class="trees">'
        yield _tree("Now", tree_lines(file.before))
        if file.after is None:
            yield '<div><h4>After</h4><p class="error">It would refuse:</p>'
            yield from folded([words(reason) for reason in file.refusal], _REASONS_LISTED)
            yield "</div>"
        else:
            yield _tree("After", tree_lines(file.after))
    yield "</div></details>"


def _tree(title: str, lines: Iterable[tuple[str, bool]]) -> str:
    shown = (f'<b class="error">{text(line)} (missing)</b>' if missing else text(line) for line, missing in lines)
    return f"<div><h4>{title}</h4><pre>{chr(10).join(shown)}</pre></div>"

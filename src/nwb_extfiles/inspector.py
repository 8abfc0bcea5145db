"""The findings of `check` as checks of NWB Inspector: ``nwbinspector --modules nwb_extfiles.inspector PATH``.

Importing this module registers them. NWB Inspector gives each check one importance, so there is one for each severity;
the code of a finding begins its message. NWB files in memory or behind URLs have no findings:
their media cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from nwbinspector import Importance, InspectorMessage, register_check
from pynwb import NWBFile

from .hints import quoted
from .tables import plain
from .tasks.check.checks import check
from .tasks.check.findings import Finding, Findings, Severity

__all__ = ["check_external_media_errors", "check_external_media_notes", "check_external_media_warnings"]


@register_check(importance=Importance.CRITICAL, neurodata_type=NWBFile)
def check_external_media_errors(nwbfile: NWBFile) -> Iterator[InspectorMessage]:
    """Find paths of media that are broken, or will be in the archive."""
    return _messages(nwbfile, Severity.ERROR)


@register_check(importance=Importance.BEST_PRACTICE_VIOLATION, neurodata_type=NWBFile)
def check_external_media_warnings(nwbfile: NWBFile) -> Iterator[InspectorMessage]:
    """Find paths of media that work here but may not elsewhere, and media that nobody needs."""
    return _messages(nwbfile, Severity.WARNING)


@register_check(importance=Importance.BEST_PRACTICE_SUGGESTION, neurodata_type=NWBFile)
def check_external_media_notes(nwbfile: NWBFile) -> Iterator[InspectorMessage]:
    """Find what is worth knowing about paths of media."""
    return _messages(nwbfile, Severity.INFO)


_FOUND: WeakKeyDictionary[NWBFile, Findings] = WeakKeyDictionary()
"""Of an NWB file that is open: three checks ask for its findings, and videos are to be read once."""


def _messages(nwbfile: NWBFile, severity: Severity) -> Iterator[InspectorMessage]:
    path = nwbfile.container_source
    if path is None or not Path(path).exists():
        return
    if nwbfile not in _FOUND:
        _FOUND[nwbfile] = check(path)
    for finding in _FOUND[nwbfile]:
        if finding.severity is severity:
            yield InspectorMessage(message=_message(finding))


def _message(finding: Finding) -> str:
    """What NWB Inspector does not say itself, which names the file alone."""
    where = finding.where.removeprefix(finding.nwb_path).removeprefix(": ")
    stored = "" if finding.stored_path is None else f" {quoted(finding.stored_path)}"
    return plain(f"{finding.code}: {f'{where}{stored}: ' if where else ''}{finding.message}")

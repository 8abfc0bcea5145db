"""What was done, for Python's ``logging``: the logger ``nwb_extfiles``."""

from __future__ import annotations

import logging

from ..hints import counted
from ..web.remote import unsigned
from .plan import Action, RelocationPlan

__all__ = ["log_done"]

_logger = logging.getLogger("nwb_extfiles")


def log_done(plan: RelocationPlan) -> None:
    """Log a plan that was carried out: each path that changed, and how its media got there."""
    if not _logger.isEnabledFor(logging.INFO):
        return
    for entry in plan.relocations:
        if entry.creates_target or entry.action is Action.REWRITE_PATH:
            how = plan.mode_of(entry) if entry.action is Action.TRANSFER else entry.action
            source = unsigned(entry.remote.url) if entry.remote is not None else entry.source and entry.source.path
            _logger.info("%s: %s %s -> %s", entry.reference.where, how, source, plan.nwb_path.parent / entry.new_path)
    changed = sum(map(len, plan.edits.values()))
    _logger.info("%s: done, %s changed", plan.nwb_path, counted(changed, "path"))

"""A pytest plugin that puts `NWBExtFilesHDF5IO` instead of `pynwb.NWBHDF5IO`.

Loaded with ``-p drop_in`` before any test module is imported, so that their ``from pynwb import NWBHDF5IO`` gets ours.
With ``RELOCATE_MEDIA=1`` in the environment every write and export relocates.
"""

from __future__ import annotations

import functools
import os
import sys

import pynwb

from nwb_extfiles import ExternalFilesWarning, MediaOptions, NWBExtFilesHDF5IO

_plain = pynwb.NWBHDF5IO


class _Relocating(NWBExtFilesHDF5IO):
    """As a user sets it up whose calls cannot be changed; videos of the tests do not exist, so they are kept."""

    @functools.wraps(NWBExtFilesHDF5IO.__init__)
    def __init__(self, *args, **kwargs):
        kwargs.setdefault("relocate_media", True)
        kwargs.setdefault("media_options", MediaOptions(missing="keep"))
        super().__init__(*args, **kwargs)


def pytest_configure(config):
    relocating = os.environ.get("RELOCATE_MEDIA") == "1"
    ours = _Relocating if relocating else NWBExtFilesHDF5IO
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "pynwb" and getattr(module, "NWBHDF5IO", None) is _plain:
            module.NWBHDF5IO = ours
    if relocating:
        # pynwb's files have few videos, and their tests take any warning for a failure
        config.addinivalue_line("filterwarnings", f"ignore::{ExternalFilesWarning.__module__}.ExternalFilesWarning")

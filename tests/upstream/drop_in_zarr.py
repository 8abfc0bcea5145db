"""A pytest plugin that puts `NWBExtFilesZarrIO` instead of `hdmf_zarr.NWBZarrIO`.

Loaded with ``-p drop_in_zarr``, as `drop_in` is, for the tests of hdmf-zarr's source distribution.
"""

from __future__ import annotations

import sys

import hdmf_zarr
import hdmf_zarr.nwb

from nwb_extfiles import NWBExtFilesZarrIO

_plain = hdmf_zarr.NWBZarrIO


def pytest_configure(config):
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "hdmf_zarr" and getattr(module, "NWBZarrIO", None) is _plain:
            module.NWBZarrIO = NWBExtFilesZarrIO

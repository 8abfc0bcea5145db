"""The containers of ndx-extfiles for pynwb.

Importing this module loads the namespace into pynwb, as every extension does. Files can be read without it, since they
contain the schema.

>>> from pynwb import NWBHDF5IO
>>> with NWBHDF5IO("sub-a.nwb") as io:  # doctest: +SKIP
...     manifest = io.read().lab_meta_data["external_files"].manifest.to_dataframe()
"""

from __future__ import annotations

from typing import Any

from pynwb import get_class, load_namespaces

from .nwb.manifest import spec_folder

__all__ = ["ExternalFileManifest", "ExternalFilesMetaData"]

load_namespaces(str(spec_folder() / "ndx-extfiles.namespace.yaml"))

ExternalFileManifest: Any = get_class("ExternalFileManifest", "ndx-extfiles")
"""A table of the media files that objects of an NWB file refer to, one row a reference."""
ExternalFilesMetaData: Any = get_class("ExternalFilesMetaData", "ndx-extfiles")
"""The lab metadata ``external_files`` that holds the table."""

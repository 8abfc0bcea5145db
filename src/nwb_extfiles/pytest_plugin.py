"""Fixtures for the tests of libraries that handle NWB files; pytest finds them when this package is installed.

Every test run loads this module, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .testing import NWBWithMedia

__all__ = ["make_nwb_with_media", "nwb_with_media"]


@pytest.fixture
def make_nwb_with_media(tmp_path: Path) -> Callable[..., NWBWithMedia]:
    """A function that makes an NWB file with media in every place that may hold a path, in a folder of ``tmp_path``.

    Its arguments are the name of that folder, and ``absolute=True`` for absolute paths; see
    `nwb_extfiles.testing.make_nwb_with_media`.
    """
    from .testing import make_nwb_with_media as make

    def make_below(name: str = "nwb_with_media", *, absolute: bool = False) -> NWBWithMedia:
        return make(tmp_path / name, absolute=absolute)

    return make_below


@pytest.fixture
def nwb_with_media(make_nwb_with_media: Callable[..., NWBWithMedia]) -> NWBWithMedia:
    """An NWB file with real videos and images in every place that may hold a path, which the test may change.

    It is in ``tmp_path/nwb_with_media/nwb``, its media are in ``tmp_path/nwb_with_media/media``; see
    `nwb_extfiles.testing.NWBWithMedia`.
    """
    return make_nwb_with_media()

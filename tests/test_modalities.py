"""The table of modalities, held against the pynwb and the dandi that are installed."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from dandi.pynwb_utils import get_neurodata_types_to_modalities_map

from nwb_extfiles.tasks import modalities
from nwb_extfiles.tasks.modalities import KNOWN_VERSIONS, TYPES, are_known, modalities_of


def test_the_table_is_that_of_dandi() -> None:
    table = {neurodata_type: module for module, types in TYPES.items() for neurodata_type in types}
    assert table == get_neurodata_types_to_modalities_map()
    assert len(table) == sum(map(len, TYPES.values()))


@pytest.mark.parametrize("package", KNOWN_VERSIONS)
def test_versions_are_known(package: str) -> None:
    """If this alone fails, the other tests of names hold for a new version: add it, and names stay fast."""
    assert version(package) in KNOWN_VERSIONS[package]
    assert are_known()


def test_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KNOWN_VERSIONS, "pynwb", ("0.0.1",))
    assert not are_known()
    monkeypatch.setattr(modalities, "KNOWN_VERSIONS", {"no-such-package": ("1.0",)})
    assert not are_known()


def test_modalities_of() -> None:
    assert modalities_of(["Units", "ImageSeries (3)", "Device", "FilmedSeries", "LFP"]) == ("ecephys", "image")
    assert modalities_of("Position,ImageSeries (2)", ["odd", "image"]) == ("behavior", "image", "odd")
    assert modalities_of([]) == ()

"""Which neurodata types are subtypes of which."""

from __future__ import annotations

from collections.abc import Sequence

from nwb_extfiles.nwb.registry import MEDIA_FIELDS
from nwb_extfiles.nwb.type_tree import TypeTree


def hierarchy(namespace: str, neurodata_type: str) -> Sequence[str]:
    known = {("core", "OpticalSeries"): ("OpticalSeries", "ImageSeries", "TimeSeries"), ("core", "Text"): ("Text",)}
    if namespace == "broken":
        raise ValueError(namespace)
    return known[namespace, neurodata_type]


def test_type_tree_reads_specifications_when_needed() -> None:
    asked = []

    def cached() -> dict[str, str]:
        asked.append(1)
        return {"VideoSeries": "OpticalSeries", "OpticalSeries": "ImageSeries", "ImageSeries": ""}

    types = TypeTree(hierarchy, cached)
    assert types.ancestors("core", "OpticalSeries") == {"OpticalSeries", "ImageSeries", "TimeSeries"}
    assert asked == []
    for namespace in ("ndx", "broken"):
        assert types.ancestors(namespace, "VideoSeries") >= {"VideoSeries", "OpticalSeries", "ImageSeries"}
    assert types.ancestors("ndx", "Nothing") is None
    assert types.ancestors("ndx", "Nothing") is None
    assert asked == [1]
    assert TypeTree(hierarchy).ancestors("ndx", "Nothing") is None


def test_truncated_specification_line() -> None:
    """The complete part of it is used."""
    types = TypeTree(hierarchy, lambda: {"VideoSeries": "SomeSeries", "Video": "ExternalImage", "Root": ""})
    for name, count in (("VideoSeries", 3), ("Root", 0)):
        assert len(list(types.fields_of("ndx", name, MEDIA_FIELDS, is_dataset=False))) == count
    assert [f.field for f in types.fields_of("ndx", "Video", MEDIA_FIELDS, is_dataset=True)] == [None]


def test_fields_are_inherited_by_subtypes() -> None:
    types = TypeTree(hierarchy, lambda: {"Image": "ExternalImage", "ExternalImage": "BaseImage", "BaseImage": ""})

    def fields(namespace: str, neurodata_type: str, *, is_dataset: bool = False) -> list[str | None]:
        found = types.fields_of(namespace, neurodata_type, MEDIA_FIELDS, is_dataset=is_dataset)
        return [field.field for field in found]

    assert fields("core", "OpticalSeries") == ["external_file"]
    assert fields("core", "OpticalSeries", is_dataset=True) == []
    assert fields("core", "Text") == []
    assert fields("ndx", "Image", is_dataset=True) == [None]
    assert fields("ndx", "Image") == []
    assert fields("ndx", "Nothing") == ["external_file", "original_videos", "labeled_videos"]
    assert fields("ndx", "Nothing", is_dataset=True) == []


def test_table_types_are_known_by_name() -> None:
    """Without any specification, the types of the table are known by their names."""
    types = TypeTree(hierarchy)
    assert [f.field for f in types.fields_of("core", "ExternalImage", MEDIA_FIELDS, is_dataset=True)] == [None]

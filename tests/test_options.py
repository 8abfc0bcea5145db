"""`MediaOptions`: validated once, then fixed."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from nwb_extfiles import MediaMode, MediaOptions, dandi_name
from nwb_extfiles.options import modes_in_order


def test_defaults() -> None:
    options = MediaOptions()
    assert options.search == options.within == options.media_fields == ()
    assert options.path_map == {}
    assert (options.missing, options.existing, options.progress, options.sync) == ("error", "error", False, True)
    assert options.naming is dandi_name


def test_modes() -> None:
    assert [str(mode) for mode in MediaMode] == ["symlink", "hardlink", "copy", "move", "reference", "reflink"]
    assert MediaMode("copy") == "copy"
    choices = "one of 'symlink', 'hardlink', 'copy', 'move', 'reference', 'reflink', 'auto', not 'teleport'"
    with pytest.raises(ValueError, match=choices):
        MediaMode("teleport")


def test_modes_in_the_order_of_trying() -> None:
    assert modes_in_order("copy") == modes_in_order(MediaMode.COPY) == ("copy",)
    assert modes_in_order(("reflink", "hardlink", "copy", "hardlink")) == ("reflink", "hardlink", "copy")
    assert modes_in_order("auto") == modes_in_order(["auto"]) == ("symlink", "hardlink", "copy")
    assert modes_in_order(["reflink", "auto"]) == ("reflink", "symlink", "hardlink", "copy")
    assert modes_in_order(None) == (("symlink", "hardlink", "copy") if os.name == "nt" else ("symlink",))
    for wrong in (["copy", "teleport"], ["copy", "auto", "Move"]):
        with pytest.raises(ValueError, match=r"one of 'symlink', .*not '(teleport|Move)'"):
            modes_in_order(wrong)
    with pytest.raises(ValueError, match="must name a mode"):
        modes_in_order([])


def test_options_are_frozen() -> None:
    options = MediaOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.missing = "keep"  # type: ignore[misc]
    # A frozen dataclass with slots answers a foreign name by TypeError up to Python 3.12 (bpo-46414).
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        options.serach = ()  # type: ignore[attr-defined]


def test_keywords_only(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        MediaOptions((tmp_path,))  # type: ignore[misc]
    with pytest.raises(TypeError, match="serach"):
        MediaOptions(serach=tmp_path)  # type: ignore[call-arg]


def test_options_can_be_pickled(tmp_path: Path) -> None:
    options = MediaOptions(search=tmp_path, path_map={"D:\\": "/mnt"}, missing="keep", media_fields=[("T", "f")])
    assert pickle.loads(pickle.dumps(options)) == options


def test_replace_validates(tmp_path: Path) -> None:
    options = MediaOptions(search=tmp_path)
    assert dataclasses.replace(options, missing="keep").search == (tmp_path,)
    with pytest.raises(ValueError, match="missing"):
        dataclasses.replace(options, missing="perhaps")


@pytest.mark.parametrize("name", ["search", "within"])
class TestFolders:
    def test_one_folder_or_several(self, tmp_path: Path, name: str) -> None:
        other = tmp_path / "other"
        other.mkdir()
        for value in (tmp_path, str(tmp_path), [tmp_path], (str(tmp_path),), iter([tmp_path])):
            assert getattr(MediaOptions(**{name: value}), name) == (tmp_path,)
        assert getattr(MediaOptions(**{name: [str(other), tmp_path]}), name) == (other, tmp_path)
        assert getattr(MediaOptions(**{name: []}), name) == ()

    def test_relative_folder_becomes_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        (tmp_path / "videos").mkdir()
        monkeypatch.chdir(tmp_path)
        options = MediaOptions(**{name: "videos"})
        monkeypatch.chdir("/")
        assert getattr(options, name) == (tmp_path / "videos",)

    def test_search_must_be_a_folder(self, tmp_path: Path, name: str) -> None:
        file = tmp_path / "video.avi"
        file.write_bytes(b"")
        for value in (file, tmp_path / "nowhere", [tmp_path, tmp_path / "nowhere"]):
            with pytest.raises(ValueError, match=rf"{name}.*not a folder"):
                MediaOptions(**{name: value})

    def test_home_is_not_expanded(self, name: str) -> None:
        for value in ("~", "$HOME"):
            with pytest.raises(ValueError, match="not a folder"):
                MediaOptions(**{name: value})

    @pytest.mark.parametrize("value", [None, 1, 1.5, [1], [None], b"/tmp", [b"/tmp"]])
    def test_wrong_type(self, name: str, value: Any) -> None:
        with pytest.raises(TypeError):
            MediaOptions(**{name: value})

    def test_options_are_independent_of_arguments(self, tmp_path: Path, name: str) -> None:
        folders = [tmp_path]
        options = MediaOptions(**{name: folders})
        folders.append(Path("/"))
        assert getattr(options, name) == (tmp_path,)


def test_path_map() -> None:
    given = {"D:\\videos": Path("/mnt/lab"), Path("/data"): "/mnt/data"}
    options = MediaOptions(path_map=given)  # type: ignore[arg-type]
    assert options.path_map == {"D:\\videos": "/mnt/lab", "/data": "/mnt/data"}
    given["/x"] = "/y"
    assert "/x" not in options.path_map


@pytest.mark.parametrize("value", [None, "a", [("a", "b")], 1, {1: "a"}, {"a": 1}, {"a": None}])
def test_path_map_wrong_type(value: Any) -> None:
    with pytest.raises(TypeError):
        MediaOptions(path_map=value)


@pytest.mark.parametrize("value", [{b"/data": "/mnt"}, {"/data": b"/mnt"}])
def test_path_map_of_bytes(value: Any) -> None:
    """Bytes cannot be compared with stored paths later, so they are refused here."""
    with pytest.raises(TypeError):
        MediaOptions(path_map=value)


def test_path_map_empty_prefix() -> None:
    with pytest.raises(ValueError, match="empty prefix"):
        MediaOptions(path_map={"": "/mnt"})


@pytest.mark.parametrize("name", ["missing", "existing"])
@pytest.mark.parametrize("value", ["", "ERROR", "ignore", None, True, 0, ["error"], {}])
def test_choices(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"MediaOptions\.{name} must be one of 'error', '(keep|replace)'"):
        MediaOptions(**{name: value})


def test_choices_of_one_field_are_refused_by_another() -> None:
    assert MediaOptions(missing="keep", existing="replace").missing == "keep"
    with pytest.raises(ValueError, match="missing"):
        MediaOptions(missing="replace")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="existing"):
        MediaOptions(existing="keep")  # type: ignore[arg-type]


def test_naming() -> None:
    def name(*, nwb_stem: str, object_id: str, field: str, index: int, suffix: str) -> PurePosixPath:
        return PurePosixPath(nwb_stem, f"{object_id}{field}{index}{suffix}")

    assert MediaOptions(naming=name).naming is name
    for value in ("dandi", None, 1):
        with pytest.raises(TypeError, match="naming must be a callable"):
            MediaOptions(naming=value)  # type: ignore[arg-type]


def test_progress() -> None:
    assert MediaOptions(progress=print).progress is print
    assert MediaOptions(progress=True).progress is True
    for value in (None, 1, 0, "yes"):
        with pytest.raises(TypeError, match="progress"):
            MediaOptions(progress=value)  # type: ignore[arg-type]


def test_sync_must_be_bool() -> None:
    assert MediaOptions(sync=False).sync is False
    for value in (None, 1, 0, "yes"):
        with pytest.raises(TypeError, match="sync"):
            MediaOptions(sync=value)  # type: ignore[arg-type]


def test_media_fields() -> None:
    assert MediaOptions(media_fields=[["Pose", "videos"], ("B", "c")]).media_fields == (  # type: ignore[list-item]
        ("Pose", "videos"),
        ("B", "c"),
    )


@pytest.mark.parametrize(
    "value", ["ab", None, 1, [1], [("a",)], [("a", "b", "c")], [("a", "")], [("", "b")], [("a", 1)], ("Pose", "videos")]
)
def test_media_fields_wrong(value: Any) -> None:
    with pytest.raises(TypeError):
        MediaOptions(media_fields=value)


def test_media_fields_two_character_string_is_refused() -> None:
    """A text of two letters is no pair."""
    with pytest.raises(TypeError):
        MediaOptions(media_fields=["ab"])  # type: ignore[list-item]


class TestFromValue:
    def test_none_gives_defaults(self) -> None:
        assert MediaOptions.from_value(None) == MediaOptions()

    def test_instance_is_returned(self) -> None:
        options = MediaOptions(missing="keep")
        assert MediaOptions.from_value(options) is options

    def test_mapping_gives_fields(self, tmp_path: Path) -> None:
        given = {"search": str(tmp_path), "missing": "keep"}
        assert MediaOptions.from_value(given) == MediaOptions(search=tmp_path, missing="keep")
        assert given == {"search": str(tmp_path), "missing": "keep"}
        assert MediaOptions.from_value({}) == MediaOptions()

    def test_unknown_key(self) -> None:
        with pytest.raises(TypeError, match=r"no field exsting, serach; its fields are .*search.*existing"):
            MediaOptions.from_value({"serach": (), "exsting": "error"})
        with pytest.raises(TypeError, match="no field 1"):
            MediaOptions.from_value({1: 2})  # type: ignore[dict-item]

    def test_wrong_value_in_mapping(self) -> None:
        with pytest.raises(ValueError, match="missing"):
            MediaOptions.from_value({"missing": "maybe"})
        with pytest.raises(TypeError, match="search"):
            MediaOptions.from_value({"search": None})

    @pytest.mark.parametrize("value", ["copy", 1, [("missing", "keep")], (), os.sep, MediaOptions])
    def test_wrong_type(self, value: Any) -> None:
        with pytest.raises(TypeError, match="media_options must be"):
            MediaOptions.from_value(value)


# --------------------------------------------------------------- for single objects


def test_options_per_object(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    options = MediaOptions(
        search_for={"/acquisition/a": tmp_path / "one", "/acquisition/*": [tmp_path, str(tmp_path / "one")]},
        path_map_for={"cam*": {"D:\\": tmp_path}},
    )
    assert options.searched_for("/acquisition/a") == (tmp_path / "one", tmp_path, tmp_path / "one")
    assert options.searched_for("/acquisition/b/c") == (tmp_path, tmp_path / "one")
    assert options.searched_for("/stimulus/a") == ()
    assert options.path_map_of("/processing/behavior/cam0") == {"D:\\": str(tmp_path)}
    assert options.path_map_of("/processing/cam") == {"D:\\": str(tmp_path)}
    assert options.path_map_of("/processing/webcam") == {}
    assert set(options.search_folders) == {tmp_path, tmp_path / "one"}
    assert options.unused_patterns(["/acquisition/b"]) == ["/acquisition/a", "cam*"]


def test_object_named_by_any_path(tmp_path: Path) -> None:
    options = MediaOptions(search_for={"/acquisition/a[1]": tmp_path})
    assert options.searched_for("/acquisition/a[1]") == (tmp_path,)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (dict(search_for=["here"]), TypeError),
        (dict(search_for={"": "."}), ValueError),
        (dict(search_for={3: "."}), ValueError),
        (dict(search_for={"a": "gone"}), ValueError),
        (dict(search_for={"a": 3}), TypeError),
        (dict(path_map_for={"D:\\": "/mnt"}), TypeError),
        (dict(path_map_for={"a": {"": "/mnt"}}), ValueError),
    ],
)
def test_options_per_object_refused(values: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"MediaOptions\.(search|path_map)_for"):
        MediaOptions.from_value(values)

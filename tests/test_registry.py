"""Types that other packages declare, by distributions that are really installed, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers import stored_paths
from makers import Media, run_maker

from nwb_extfiles.nwb.registry import MEDIA_FIELDS, MediaField, media_fields, registered_fields


def install(site: Path, name: str, module: str, entry_points: str) -> None:
    """What pip leaves of a little package."""
    site.mkdir(exist_ok=True)
    (site / f"{name}_module.py").write_text(textwrap.dedent(module))
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(line.strip() for line in entry_points.strip().splitlines())
    (info / "entry_points.txt").write_text(f"[nwb_extfiles.references]\n{lines}\n")


def run(site: Path, code: str, *arguments: object) -> tuple[str, str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


TABLE = """
    import sys
    from nwb_extfiles.nwb.registry import MEDIA_FIELDS, media_fields
    print([(f.neurodata_type, f.field, f.repeats) for f in media_fields()[len(MEDIA_FIELDS):]])
"""


def test_declared_fields_are_read(tmp_path: Path) -> None:
    module = """
        from nwb_extfiles.nwb.registry import MediaField
        PAIRS = [("VideoArchive", "video_paths"), ["Scan", None], ("ImageSeries", "external_file")]
        FIELDS = (field for field in (MediaField("Pose", "videos", repeats=True), MediaField("Scan", None)))
    """
    install(tmp_path, "one", module, "pairs = one_module:PAIRS")
    install(tmp_path, "two", module, "fields = two_module:FIELDS")
    out, err = run(tmp_path, TABLE)
    found = [("VideoArchive", "video_paths", False), ("Scan", None, False), ("Pose", "videos", True)]
    assert sorted(eval(out), key=str) == sorted(found, key=str)
    assert err == ""


def test_invalid_declarations_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, past the table that it has loaded already."""
    install(tmp_path, "here", "FIELDS = [('A', 'b'), ('A', 'b'), ('Scan', None), 'ab']", "x = here_module:FIELDS")
    install(tmp_path, "worse", "raise RuntimeError", "y = worse_module:FIELDS")
    monkeypatch.syspath_prepend(tmp_path)
    fields, complaints = registered_fields()
    assert fields == [MediaField("A", "b"), MediaField("Scan", None)]
    assert ["'x' of here" in complaint for complaint in complaints] == [True, False]
    assert "'y' of worse (worse_module:FIELDS" in complaints[1]


def test_entry_points_load_once_and_lazily(tmp_path: Path) -> None:
    install(tmp_path, "loud", "print('loaded')\nFIELDS = [('A', 'b')]", "x = loud_module:FIELDS")
    code = """
        import nwb_extfiles.cli, nwb_extfiles.nwb.registry as registry
        nwb_extfiles.NWBExtFilesHDF5IO
        print("before")
        registry.media_fields()
        print(len(registry.media_fields([("C", "d")])))
    """
    assert run(tmp_path, code)[0].split() == ["before", "loaded", "6"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("FIELDS = 3", "TypeError"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import not_there_at_all", "ModuleNotFoundError"),
        ("", "AttributeError"),
        ("FIELDS = ['ab']", "'ab', expected"),
        ("FIELDS = [('A', '')]", r"\('A', ''\), expected"),
        ("FIELDS = [('A', 3)]", r"\('A', 3\), expected"),
        ("FIELDS = [('', 'x')]", r"\('', 'x'\), expected"),
        ("FIELDS = [('A',)]", r"\('A',\), expected"),
    ],
)
def test_broken_entry_point_is_warned_of_and_skipped(tmp_path: Path, module: str, reason: str) -> None:
    install(tmp_path, "broken", module, "bad = broken_module:FIELDS")
    install(tmp_path, "good", "FIELDS = [('Good', 'paths')]", "good = good_module:FIELDS")
    code = f"""
        import re, warnings
        from nwb_extfiles import ExternalFilesWarning
        from nwb_extfiles.nwb.registry import media_fields
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert media_fields()[-1].neurodata_type == "Good"
            media_fields()
        (warning,) = caught
        assert issubclass(warning.category, ExternalFilesWarning)
        assert re.search({reason!r}, str(warning.message)), warning.message
        assert "'bad' of broken (broken_module:FIELDS" in str(warning.message)
    """
    run(tmp_path, code)


def test_declared_types_are_relocated(tmp_path: Path) -> None:
    """Their videos are relocated like those of ImageSeries, without any option, and are found in files."""
    source, target = tmp_path / "nwb" / "a.nwb", tmp_path / "out" / "b.nwb"
    run_maker("extension", source)
    install(tmp_path / "site", "ndx", "FIELDS = [('VideoArchive', 'video_paths')]", "x = ndx_module:FIELDS")
    code = """
        import sys, warnings
        warnings.simplefilter("ignore")
        from pynwb import NWBHDF5IO
        from nwb_extfiles import NWBExtFilesHDF5IO, resolve_external_files
        with NWBHDF5IO(sys.argv[1], "r") as source, NWBExtFilesHDF5IO(sys.argv[2], "w") as io:
            io.export(src_io=source, relocate_media=True, media_mode="copy")
        print(sum(entry.reference.field == "video_paths" for entry in resolve_external_files(sys.argv[2])))
    """
    out, _ = run(tmp_path / "site", code, source, target)
    assert out == "2\n"
    paths = stored_paths(target, "processing/behavior/archive/video_paths")
    media = Media(tmp_path / "media").folder
    assert [(target.parent / text).read_bytes() for text in paths] == [
        (media / name).read_bytes() for name in ("r0.avi", "r1.avi")
    ]


def test_media_fields_extend_the_table() -> None:
    assert media_fields() == MEDIA_FIELDS
    further = media_fields([("VideoArchive", "video_paths")])
    assert further == (*MEDIA_FIELDS, MediaField("VideoArchive", "video_paths"))
    assert [field.label for field in further] == [
        "external_file",
        "external_file",
        "original_videos",
        "labeled_videos",
        "video_paths",
    ]

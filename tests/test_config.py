"""The configuration file of a lab, on the command line and in Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers import stored_paths, with_slashes, write_nwb
from makers import make_media

from nwb_extfiles import relocate, resolve_external_files
from nwb_extfiles.cli import main
from nwb_extfiles.config import Config, read_config
from nwb_extfiles.errors import ConfigurationError


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is ``lab/nwb``; the video of its NWB file is on the NAS, and was on a disk of Windows."""
    make_media(tmp_path / "lab" / "nas" / "a.avi")
    write_nwb(tmp_path / "lab" / "nwb" / "x.nwb", ["D:\\rig\\a.avi"])
    monkeypatch.chdir(tmp_path / "lab" / "nwb")
    return tmp_path / "lab"


def run(*words: str, code: int = 0) -> Result:
    result = with_slashes(CliRunner().invoke(main, words))
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("name", "head"), [("nwb-extfiles.toml", ""), ("pyproject.toml", "[project]\nname = 'lab'\n[tool.nwb-extfiles]\n")]
)
def test_file_above_the_working_directory_is_used_and_reported_once(lab: Path, name: str, head: str) -> None:
    assert "--path-map" in run("relocate", "x.nwb", code=1).stderr
    (lab / name).write_text(
        f"{head}media_mode = ['hardlink', 'copy']\npath_map = {{ 'D:\\rig' = 'nas' }}\nsearch = 'nas/empty'\n"
    )
    (lab / "nas" / "empty").mkdir()
    done = run("relocate", "x.nwb")
    assert done.stderr == f"nwb-extfiles: search, path_map, media_mode from {lab / name}\n"
    assert done.stdout == "x.nwb: 1 video hard-linked\n"
    assert os.stat(stored_paths(lab / "nwb" / "x.nwb")[0]).st_nlink == 2


def test_options_of_the_command_line_come_first(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (lab / "nwb-extfiles.toml").write_text("media_mode = 'move'\nsearch = 'nas'\nwithin = ['nas']\n")
    assert run("relocate", "x.nwb", "--media-mode", "copy", "--dry-run").stdout.splitlines()[1].split()[0] == "copy"
    run("relocate", "x.nwb", "--search", "../../other", code=1)
    run("relocate", "x.nwb", "--within", "../../other", code=1)
    refused = run("relocate", "x.nwb", "--no-config", code=1)
    assert "nwb-extfiles.toml" not in refused.stderr
    organized = run("organize", "x.nwb", "-d", "ds", "--missing", "keep", "--no-config").stderr
    assert "from" not in organized.partition("warning")[0]


def test_python_reads_it_where_asked(lab: Path) -> None:
    assert read_config() == Config()
    (lab / "nwb-extfiles.toml").write_text("media_mode = 'auto'\nsearch = ['nas']\n")
    config = read_config()
    assert (config.path, config.media_mode) == (lab / "nwb-extfiles.toml", ("symlink", "hardlink", "copy"))
    assert config.options == {"search": [lab / "nas"]}
    with pytest.raises(FileNotFoundError):
        relocate("x.nwb")  # which nobody has asked to read it
    plan = relocate("x.nwb", config.media_mode, media_options=config.options)
    assert os.path.realpath(plan.nwb_path.parent / plan.relocations[0].new_path) == str(lab / "nas" / "a.avi")
    assert read_config(lab.parent) == Config()


def test_entries_of_path_map_that_fit_nothing_are_named_if_they_were_typed(lab: Path) -> None:
    """Once for all NWB files; those of a configuration file are for many recordings, and may fit none of these."""
    (lab / "nwb-extfiles.toml").write_text("search = ['nas']\npath_map = { '/rig/1' = 'nas', '/rig/2' = 'nas' }\n")
    write_nwb(lab / "nwb" / "y.nwb", ["/rig/3/a.avi"])
    no_path = "no stored path begins with '/rig/2', '/rig/4', so nothing was mapped by that"
    maps = [f"--path-map={prefix}={lab / 'nas'}" for prefix in ("/rig/2", "/rig/3", "/rig/4")]
    for command in (["relocate", "--dry-run"], ["organize", "-d", "ds", "--dry-run"]):
        names = ["y.nwb"] if command[0] == "organize" else ["x.nwb", "y.nwb"]
        said = run(*command, *names, *maps).stderr
        assert said.count(no_path) == 1, command
        assert "/rig/1" not in said
        assert "no stored path" not in run(*command, *names).stderr
    options = {**read_config().options, "path_map": {"/rig/1": lab, "/rig/5": lab}}
    with pytest.warns(match="no stored path begins with '/rig/5', so"):
        relocate("x.nwb", media_options=options, dry_run=True)
    with pytest.warns(match="no stored path begins with '/rig/5', so"):
        resolve_external_files("x.nwb", media_options=options)


def test_files_of_others_above_are_passed_over(lab: Path) -> None:
    """A pyproject.toml about something else ends no command; a broken file of our own name does."""
    (lab / "pyproject.toml").write_text("tool = 1  # nwb-extfiles\n")
    assert read_config() == Config()
    (lab / "nwb-extfiles.toml").symlink_to("gone.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_config()


def test_nearest_file_counts(lab: Path) -> None:
    (lab / "nwb-extfiles.toml").write_text("media_mode = 'copy'\n")
    (lab / "nwb" / "pyproject.toml").write_text("[project]\nname = 'uses nwb-extfiles'\n")
    assert read_config().path == lab / "nwb-extfiles.toml"
    (lab / "nwb" / "nwb-extfiles.toml").write_text("")
    assert read_config() == Config(lab / "nwb" / "nwb-extfiles.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("serach = 'nas'", "there is no setting 'serach'; use search, path_map, within, media_mode"),
        ("search = 'nowhere'", "search: .*nowhere' is not a folder"),
        ("search = 3", "expected a string, or a list of strings, and found 3"),
        ("search = ''", "expected a string, or a list of strings, and found ''"),
        ("path_map = {'D:/x' = []}", r"found \[\[\]\]"),
        ("media_mode = {copy = 1}", "found {'copy': 1}"),
        ("media_mode = 'teleport'", "media_mode must be one of 'symlink', .*not 'teleport'"),
        ("path_map = ['a', 'b']", "path_map must be a mapping"),
        ("search = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(lab: Path, content: str, message: str) -> None:
    (lab / "nwb-extfiles.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_config()
    assert str(lab / "nwb-extfiles.toml") in str(caught.value)
    before = (lab / "nwb" / "x.nwb").read_bytes()
    assert str(lab / "nwb-extfiles.toml") in run("relocate", "x.nwb", code=1).stderr
    assert (lab / "nwb" / "x.nwb").read_bytes() == before

"""The names of other packages that may go at any release, and whether they are there.

A test that fails here names what to look for in the changes of that package; `nwb_extfiles.private_names` says what
each name is used for, and what would do without it.
"""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from hdmf.build import GroupBuilder
from pynwb import get_type_map

import nwb_extfiles
from nwb_extfiles import private_names

PACKAGE = Path(nwb_extfiles.__file__).parent
REASONS = private_names.__doc__ or ""

NAMES = {
    "hdmf": ["hdmf.backends.hdf5:HDF5IO._file"],
    "hdmf-zarr": ["hdmf_zarr:ZarrIO._file"],
    "dandi": [
        "dandi.organize:_assign_dandi_names",
        "dandi.organize:_get_non_unique_paths",
        "dandi.organize:_get_unique_values",
        "dandi.organize:_populate_session_ids_from_time",
        "dandi.organize:_sanitize_value",
    ],
    "numcodecs": ["numcodecs.pickles:ALLOW_UNSAFE_PICKLE_DECODE"],
    "zarr": [
        "zarr.storage:ConsolidatedMetadataStore",
        "zarr.storage:DirectoryStore",
        "zarr.storage:Store",
        "zarr.storage:TempStore",
        "zarr.errors:MetadataError",
    ],
    "fsspec": [
        "fsspec.implementations.http:HTTPFileSystem.set_session",
        "fsspec.implementations.http:HTTPFileSystem.close_session",
    ],
    "s3fs": ["s3fs:S3FileSystem.call_s3", "s3fs:S3FileSystem.split_path"],
}


@pytest.mark.parametrize(("package", "name"), [(package, name) for package in NAMES for name in NAMES[package]])
def test_a_name_is_still_there(package: str, name: str) -> None:
    module, _, path = name.partition(":")
    found = import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
        assert found is not None, (
            f"{package} {version(package)} has no {name} any more; nwb_extfiles.private_names says what it was used "
            f"for, and what would do without it"
        )


def test_type_map_has_its_mappers_where_they_are_looked_for() -> None:
    type_map = get_type_map()
    for name in ("__mapper_cls", "__mappers"):
        assert hasattr(type_map, f"_TypeMap{name}"), f"hdmf {version('hdmf')} has no TypeMap.{name} any more"
        assert f"``TypeMap.{name}``" in REASONS
    builder = GroupBuilder("x", attributes={"neurodata_type": "ImageSeries", "namespace": "core"})
    made = type_map.get_map(builder)
    assert type(made) in private_names.registered_mappers(type_map).values()
    private_names.forget_mappers(type_map)
    assert type_map.get_map(builder) is not made


def test_each_name_has_its_reason() -> None:
    for names in NAMES.values():
        for name in names:
            assert name.replace(":", ".").rpartition(".")[2] in REASONS, f"{name}: no reason is given"


def test_nobody_else_uses_private_names_of_others() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    own = {"_exit", "_getframe"}  # of Python
    for _, node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    found = []
    for path, node in nodes:
        names = [node.attr] if isinstance(node, ast.Attribute) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [alias.name for alias in node.names]
        private = [name for name in names if name.startswith("_") and not name.endswith("__") and name not in own]
        if path.stem != "private_names":
            found += [f"{path.relative_to(PACKAGE)}:{node.lineno}: {name}" for name in private]  # type: ignore[attr-defined]
    assert found == [], "move the access to nwb_extfiles.private_names, with its reason"

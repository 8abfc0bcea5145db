"""Check what is about to be published: ``python .ci/check_dist.py dist v0.1.0``."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

SPEC = ("spec/ndx-extfiles.namespace.yaml", "spec/ndx-extfiles.extensions.yaml")
IN_WHEEL = {f"nwb_extfiles/{name}" for name in (*SPEC, "py.typed", "__init__.py", "cli/__init__.py")}
IN_SDIST = {*SPEC, "src/nwb_extfiles/py.typed", "tests/conftest.py", "docs/conf.py", "README.md", "LICENSE"}


def problems(dist: Path, tag: str) -> list[str]:
    """Say what is missing in the one wheel and the one source archive of a version."""
    version = tag.removeprefix("v")
    wheel, sdist = dist / f"nwb_extfiles-{version}-py3-none-any.whl", dist / f"nwb_extfiles-{version}.tar.gz"
    found = sorted(path.name for path in dist.iterdir())
    if found != sorted([wheel.name, sdist.name]):
        return [f"expected {wheel.name} and {sdist.name} for the tag {tag}; found {', '.join(found) or 'nothing'}"]
    with ZipFile(wheel) as archive:
        missing = [f"{wheel.name} lacks {name}" for name in sorted(IN_WHEEL - {*archive.namelist()})]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return missing + [f"{sdist.name} lacks {name}" for name in sorted(IN_SDIST - names)]


if __name__ == "__main__":
    sys.exit("\n".join(problems(Path(sys.argv[1]), sys.argv[2])) or None)

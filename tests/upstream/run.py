"""Run pynwb's own tests with `NWBExtFilesHDF5IO` instead of `NWBHDF5IO`.

``python tests/upstream/run.py FOLDER`` fetches the source distribution of the installed pynwb into FOLDER and runs its
tests with pynwb's own class, with ours, and, those of the HDF5 integration, with ours and relocation forced on. As many
tests must pass with ours as with pynwb's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
INTEGRATION = "tests/integration/hdf5"


def fetch(folder: Path) -> Path:
    """Download and unpack pynwb's source distribution; the file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), f"pynwb=={version('pynwb')}"], check=True)
    return next(folder.glob("pynwb-*.tar.gz"))


def run(archive: Path, name: str, tests: str, *, ours: bool, relocating: bool = False) -> dict[str, set[str]]:
    """Run tests in an unpacked source distribution of their own; names of tests by outcome."""
    folder = archive.parent / name
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (checkout,) = folder.iterdir()
    report = folder / "report.xml"
    environment = dict(os.environ, RELOCATE_MEDIA="1" if relocating else "0")
    # one of pynwb's tests calls the command pynwb-validate
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    plugin = []
    if ours:
        environment["PYTHONPATH"] = str(HERE)
        plugin = ["-p", "drop_in"]
    command = [sys.executable, "-m", "pytest", *plugin, tests, "-q", f"--junitxml={report}"]
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, cwd=checkout, env=environment, stdout=log, stderr=log, check=False)
    outcomes: dict[str, set[str]] = {"passed": set(), "skipped": set(), "failed": set()}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[outcome].add(f"{case.get('classname')}.{case.get('name')}")
    print(f"{name}: " + ", ".join(f"{len(names)} {outcome}" for outcome, names in outcomes.items()), flush=True)
    return outcomes


def main() -> int:
    """Run all; 0 if every test that passes with pynwb's own class passes with ours."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    archive = fetch(folder)
    with ThreadPoolExecutor(2) as pool:  # each run is one process
        plain = pool.submit(run, archive, "plain", "tests", ours=False)
        ours = pool.submit(run, archive, "ours", "tests", ours=True)
        forced = pool.submit(run, archive, "relocating", INTEGRATION, ours=True, relocating=True)
    expected = plain.result()["passed"]
    integration = {name for name in expected if name.startswith(INTEGRATION.replace("/", "."))}
    lost = (expected - ours.result()["passed"]) | (integration - forced.result()["passed"])
    for name in sorted(lost):
        print(f"LOST {name}")
    if not integration or lost:
        return 1
    print(f"{len(expected)} tests pass as with pynwb's own class, {len(integration)} of them with relocation forced on")
    return 0


if __name__ == "__main__":
    sys.exit(main())

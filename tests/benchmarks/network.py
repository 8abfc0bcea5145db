"""Count what a network file system is asked, and measure how long it takes: ``python tests/benchmarks/network.py``.

Mounts a folder of this machine with ``sshfs``, through a relay that delays each message and each answer, so that every
round trip takes ``--delay`` milliseconds more. sshfs prints each message that it sends. Few and many NWB files with two
videos each are treated on fresh mounts, and the difference is divided by their number. Needs Linux, sshfs and OpenSSH's
sftp-server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SERVER = "/usr/lib/openssh/sftp-server"
FEW, MANY = 20, 120
OURS = [sys.executable, "-m", "nwb_extfiles"]
COMMANDS = {
    "cp -r": ["cp", "-r", "{files}", "{out}"],
    "ls": [*OURS, "ls", "{files}"],
    "check": [*OURS, "check", "{files}"],
    "check --jobs 8": [*OURS, "check", "--jobs", "8", "{files}"],
    "organize, copies": [*OURS, "organize", "-d", "{out}", "--media-files-mode", "copy", "{files}"],
    "organize again": [*OURS, "organize", "-d", "{out}", "--media-files-mode", "copy", "{files}"],
}


def relay(delay: float) -> None:
    """Pass standard input to the server and its answers to standard output, each `delay` seconds later."""
    server = subprocess.Popen([SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None

    def pass_on(source: int, target: int) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def write() -> None:
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    os.close(target)
                    return
                while data:
                    data = data[os.write(target, data) :]

        threading.Thread(target=write, daemon=True).start()
        data = b" "
        while data:
            data = os.read(source, 1 << 20)
            waiting.put((time.monotonic() + delay, data))

    threading.Thread(target=pass_on, args=(0, server.stdin.fileno()), daemon=True).start()
    pass_on(server.stdout.fileno(), 1)


@contextlib.contextmanager
def mounted(folder: Path, place: Path, delay: float, log: Path) -> Iterator[None]:
    """A folder of this machine as a new mount at `place`; the messages sent go to `log`."""
    starter = log.with_suffix(".sh")
    command = shlex.join([sys.executable, str(Path(__file__).resolve()), "--relay", str(delay / 2)])
    starter.write_text(f"#!/bin/sh\nexec {command}\n")
    starter.chmod(0o755)
    options = ["-f", "-o", f"sshfs_debug,ssh_command={starter}"]
    with log.open("w") as messages:
        process = subprocess.Popen(["sshfs", *options, f"here:{folder}", place], stderr=messages)
        while not place.is_mount():
            time.sleep(0.05)
        try:
            yield
        finally:
            subprocess.run(["fusermount", "-u", place], check=True)
            process.wait()


def measure(command: list[str], place: Path, folder: Path, name: str, delay: float) -> tuple[float, Counter[str]]:
    """Seconds that a command takes on a fresh mount, and the messages sent meanwhile."""
    log = place.with_suffix(".log")
    full = [part.format(files=place / name, out=place / f"out-{name}") for part in command]
    with mounted(folder, place, delay, log):
        start = time.perf_counter()
        run = subprocess.run(full, check=False, capture_output=True, text=True)
        assert run.returncode < 2, run.stderr  # 1: check found something
        taken = time.perf_counter() - start
    return taken, Counter(re.findall(r"(?m)^\[\d+\] ([A-Z]+)", log.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relay", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--delay", type=float, default=0.5, help="of a round trip, in milliseconds")
    arguments = parser.parse_args()
    if arguments.relay is not None:
        relay(arguments.relay / 1e3)
        return
    if shutil.which("sshfs") is None or not Path(SERVER).exists():
        sys.exit(f"sshfs and {SERVER} are needed")
    from run import nwb_in_a_folder

    print("| | round trips for each NWB file | of these, names looked up | ms for each NWB file |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder, place = Path(temporary, "served"), Path(temporary, "mount")
        place.mkdir()
        for name, count in (("few", FEW), ("many", MANY)):
            for number in range(count):
                nwb_in_a_folder(folder / name / f"m{number}" / f"n{number}.nwb", 2, 2000)
        for what, command in COMMANDS.items():
            (few, asked_few), (many, asked) = (
                measure(command, place, folder, name, arguments.delay) for name in ("few", "many")
            )
            asked.subtract(asked_few)
            each = MANY - FEW
            names, time_each = asked["LSTAT"] / each, (many - few) / each * 1e3
            print(f"| {what} | {asked.total() / each:.0f} | {names:.0f} | {time_each:.0f} |")
            if what == "cp -r":
                for name in ("few", "many"):
                    shutil.rmtree(folder / f"out-{name}")


if __name__ == "__main__":
    main()

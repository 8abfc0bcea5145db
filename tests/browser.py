"""Pages in headless Chromium, driven by its DevTools protocol through pipes, without further packages."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Browser", "chromium"]

_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync",
    "--remote-debugging-pipe", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


class Browser:
    """One page of a running Chromium, and what its console has said."""

    def __init__(self, commands: int, answers: FileIO) -> None:
        self._commands, self._answers = commands, answers
        self._waiting, self._number, self._session = b"", 0, None
        self.console: list[str] = []
        """Errors and warnings of the page: of the security policy too, and of files that could not be loaded."""
        self.requests: list[str] = []
        """The URLs that the page asked for, but for ``data:``."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, height: int = 900) -> None:
        """Open a file, and wait until it is loaded."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Page.navigate", url=path.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, which the policy of the page does not concern."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def dark(self) -> None:
        """Have a dark scheme from now on."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """Write a PNG of the page."""
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            received = self._answers.read(1 << 20)
            assert received, "Chromium has ended"
            self._waiting += received
        line, _, self._waiting = self._waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, said: dict[str, Any]) -> None:
        if method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.console.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled":
            self.console.append(str(said["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(said["exceptionDetails"]))
        elif method == "Network.requestWillBeSent" and not said["request"]["url"].startswith("data:"):
            self.requests.append(said["request"]["url"])


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Run Chromium with a profile of its own. Skips the test where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None or os.name == "nt":  # where pipes have no numbers that a child inherits
        pytest.skip("CHROMIUM IS NOT INSTALLED: how reports look in a browser is not tested (apt-get install chromium)")
    to_it, commands = os.pipe()
    answers, from_it = os.pipe()
    # It reads from descriptor 3 and writes to 4.
    redirected = ["bash", "-c", f'exec "$@" 3<&{to_it} 4>&{from_it}', "bash"]
    command = [*redirected, program, *_OPTIONS, f"--user-data-dir={profile}"]
    with subprocess.Popen(command, pass_fds=(to_it, from_it), stderr=subprocess.DEVNULL) as process:
        os.close(to_it)
        os.close(from_it)
        try:
            with os.fdopen(answers, "rb", buffering=0) as stream:
                yield Browser(commands, stream)
        finally:
            os.close(commands)  # at which it ends
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

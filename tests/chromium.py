"""A headless Chromium that tests open pages in, told by its DevTools protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS = 60


def found():
    """Returns the path of a Chromium, or skips the test."""
    paths = [path for name in _NAMES if (path := shutil.which(name))]
    if not paths:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed")
    return paths[0]


class Chromium:
    """One page, and what went wrong on it.

    Attributes:
        errors: Texts of exceptions, and of errors and warnings of the console.
        requests: Addresses that the page asked for.
    """

    def __init__(self, process, reads, writes):
        self.process, self.reads, self.writes = process, reads, writes
        self.rest, self.count = b"", 0
        self.errors, self.requests = [], []
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session = None

    def call(self, method, **parameters):
        """Sends a command and returns its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path, width=1400, height=900, scheme="light", touch=False):
        """Opens a file and waits until it is drawn."""
        self.errors.clear()
        self.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        self.wait("document.documentElement?.dataset.drawn === 'yes'")
        # Charts are drawn once their width is known.
        self.wait("[...document.querySelectorAll('.drawing')].every(d => d.firstChild)")

    def run(self, expression):
        """Returns the value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression):
        """Waits until an expression is true."""
        end = time.monotonic() + _SECONDS
        while not self.run(expression):
            assert time.monotonic() < end, (expression, self.errors)
            time.sleep(0.02)

    def point(self, x, y):
        """Moves the mouse to a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def tap(self, x, y):
        """Touches a place of the window."""
        points = [{"x": x, "y": y}]
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key):
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def picture(self, path, whole=True):
        """Writes a screenshot, of the whole page or of the window."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def _next(self):
        """Returns the next message, and notes what went wrong."""
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.reads], [], [], _SECONDS)
            piece = os.read(self.reads, 2**16) if ready else b""
            assert piece, f"Chromium says nothing; it ended: {self.process.poll()}"
            self.rest += piece
        text, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(text)
        about = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"]))
        if message.get("method") == "Runtime.consoleAPICalled":
            self.errors.append(json.dumps(about["args"]))
        if message.get("method") == "Log.entryAdded":
            self.errors.append(about["entry"]["text"])
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        return message


@contextlib.contextmanager
def chromium():
    """Yields a `Chromium`, which ends with the block; skips where there is none."""
    path = found()
    there, writes = os.pipe()
    reads, back = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [
            path,
            "--headless",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            # Of a container's root, and where /dev/shm is small.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
        ]
        # The browser reads from 3 and writes to 4.
        command = f'exec "$@" 3<&{there} 4>&{back}'
        process = subprocess.Popen(
            ["bash", "-c", command, "chromium", *words],
            pass_fds=(there, back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        try:
            yield Chromium(process, reads, writes)
        finally:
            process.terminate()
            process.wait(_SECONDS)
            os.close(reads)
            os.close(writes)

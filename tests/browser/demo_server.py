"""`m2m demo` as a process of its own, and a browser of this machine to look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Nothing that a browser does of itself: no updates, no safe-browsing lists, no first-run pages.
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
START_SECONDS = 180


class Server(NamedTuple):
    """Where the page is, which process serves it, and the folder where its temporary folder lies."""

    address: str
    process: int
    temporary: Path


def browser_path() -> str | None:
    """The browser of M2M_CHROMIUM, or one that is installed."""
    return os.environ.get("M2M_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def demo_server(folder: Path) -> Iterator[Server]:
    """The demo with its default options on a free port; `folder` takes its log and its temporary files."""
    port, temporary = free_port(), folder / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    log = folder / "demo.log"
    with open(log, "w") as output:
        command = [sys.executable, "-m", "m2m", "demo", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address, process, log)
        yield Server(address, process.pid, temporary)
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the demo did not start:\n{log.read_text()}")


@contextmanager
def browser(path: str) -> Iterator[Any]:
    """A headless browser, driven by playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, headless=True, args=QUIET)
        try:
            yield opened
        finally:
            opened.close()

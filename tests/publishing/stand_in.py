"""A stand-in for the hub: what an upload and a download ask of it, over real HTTP, with files kept in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cli.running import environment

OLD = ["grids/old.png", "notes.txt"]  # what the repository holds before
COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """status: what every request is answered with, if not 200. files, deleted: what a commit brought and took away."""

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.status = status
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        self.deleted: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        held = {**dict.fromkeys(OLD, b"old"), **self.server.files}
        if "/resolve/" in self.path:
            name = self.path.partition("/resolve/")[2].partition("/")[2]
            self._send(200 if name in held else 404, held.get(name, b""))
        elif "/tree/" in self.path:
            self._answer([_entry(name, content) for name, content in held.items()])
        else:
            self._answer({"id": "jane/cats", "sha": COMMIT, "siblings": [{"rfilename": name} for name in held]})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self._posted(body))

    def _posted(self, body: bytes) -> Any:
        place = self.path.split("?")[0]
        if "/preupload/" in place:
            files = json.loads(body)["files"]
            return {"files": [{"path": own["path"], "uploadMode": "regular", "shouldIgnore": False} for own in files]}
        if "/commit/" in place:
            self._commit([json.loads(line) for line in body.splitlines()])
        return {"url": f"{self.server.address}/jane/cats", "commitUrl": f"{self.server.address}/jane/cats/commit/1"} | {
            "commitOid": COMMIT,
            "warnings": [],
            "errors": [],
        }

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            if line["key"].startswith("deleted"):
                self.server.deleted.append(line["value"]["path"])

    def _chunk(self) -> bytes:
        content = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return content

    def _answer(self, content: Any) -> None:
        self._send(self.server.status, json.dumps(content if self.server.status == 200 else {"error": "no"}).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def hub(status: int = 200) -> Iterator[Hub]:
    """The server, in a thread."""
    server = Hub(status)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_with(hub_address: str, home: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Python code in a fresh interpreter whose hub is at that address: where it is, the client reads when imported."""
    own = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub_address, "HF_HOME": str(home), "HF_TOKEN": "hf_x"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment() | own, capture_output=True, text=True, timeout=600)

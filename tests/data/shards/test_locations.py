"""Folders by path and by URL: only plain URLs are opened, and trouble on the way is one line."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from m2m.data.shards import ShardError, is_url, open_url, read_file, read_record
from m2m.data.shards.locations import MAX_FILE, transfer_failure
from tests.data.shards.making import NAME, complete, units_of


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the screen of the tests."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server of this machine that serves `tmp_path`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_records_are_read_below_a_url(tmp_path: Path, server: str) -> None:
    """A base with a slash at its end gives '//' in the middle, which some stores take for another name."""
    record = complete(tmp_path, units_of())
    assert read_record(server, NAME) == record == read_record(server + "/", NAME)
    assert read_record(tmp_path.as_uri(), NAME) == record
    with pytest.raises(ShardError, match="cannot be read"):
        read_record(server, "shard-000001-000-003")


@pytest.mark.parametrize(
    "url",
    [
        "pipe:touch {folder}/hit",
        "http://h/x;touch {folder}/hit",
        "http://h/$(touch {folder}/hit)",
        "http://h/`touch {folder}/hit`",
        "http://h/' ; touch {folder}/hit ; '",
        "http://h/x\ntouch {folder}/hit",
        "http://h/{{a,b}}",
        "http://h/a?b&c",
        "unknown://h/x",
        "-",
        "/etc/passwd",
        "-oProxyCommand=x",
        "http://",
        "",
    ],
)
def test_only_plain_urls_are_opened(tmp_path: Path, url: str) -> None:
    """Libraries open URLs through programs, older ones through a shell: what is in the URL would be run."""
    with pytest.raises(ShardError) as caught:
        open_url(url.format(folder=tmp_path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hit").exists()


def test_urls_are_told_from_paths() -> None:
    """A path with a colon is no URL, and 'pipe:' must not pass for a path that merely does not exist."""
    assert all(is_url(where) for where in ("https://h/x", "gs://b/x", "hf://datasets/a/b", "file:///x", "pipe:cat x"))
    assert not any(is_url(where) for where in ("/data/x", "x", "a:b", "C:/x", "./http:", Path("http://h")))


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A record of many gigabytes (a sparse file costs nothing to make) would fill the memory."""
    with open(tmp_path / f"{NAME}.json", "wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(ShardError, match="larger than"):
        read_file(tmp_path, f"{NAME}.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(ShardError, match="no regular file"):
        read_file(tmp_path, "zero.json")


def test_a_failed_transfer_does_not_print_the_token() -> None:
    """webdataset's error repeats the command that it ran, with the Authorization header in it."""
    command = ["curl", "-H", "Authorization:Bearer hf_secret", "http://127.0.0.1:9/manifest.json"]
    error = OSError(f"{command}: exit 7 (read) info=")
    assert "hf_secret" not in transfer_failure(error)
    assert "exit code 7" in transfer_failure(error)


def test_nothing_heavy_is_imported() -> None:
    """Reading a local shard must not cost the start of torch, webdataset or ray."""
    code = (
        "import sys, m2m.data.shards; print([m for m in ('torch', 'webdataset', 'ray', 'pyarrow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

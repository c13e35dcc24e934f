"""Finding shards in folders, globs and URLs, and refusing every folder and shard that is not as its manifest says."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from m2m.data.reading.shard_files import ShardCache, ShardFolder, find_folders
from m2m.data.shards import ShardError, read_manifest
from m2m.types import UserError
from tests.data.reading.toy_shards import full_sets, write_folder


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder, counts what was asked for, and damages what `spoil` names: on the way, not on the disk."""

    asked: list[str] = []
    spoil: dict[str, str] = {}

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        type(self).asked.append(name)
        harm = self.spoil.get(name)
        if harm is None:
            return super().do_GET()
        if harm.endswith(" once"):
            del type(self).spoil[name]
        content = bytearray(Path(self.translate_path(self.path)).read_bytes())
        if harm.startswith("longer"):
            content += bytes(1 << 20)
        if harm.startswith("flip"):
            content[700] ^= 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if harm.startswith("cut"):
            del content[len(content) // 2 :]
        self.wfile.write(content)
        return None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "shards", full_sets(10))


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    if shutil.which("curl") is None:
        pytest.skip("webdataset fetches http with curl, which is not installed")
    QuietHandler.asked, QuietHandler.spoil = [], {}
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder.parent)))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/shards"
    httpd.shutdown()
    httpd.server_close()


def read_all(place: ShardFolder) -> list[str]:
    """The keys of all sets, every byte read."""
    keys = []
    for entry in place.manifest.shards:
        with place.open(entry) as shard:
            for row, sample in enumerate(shard.record.samples):
                assert "000.png" in shard.read(row)
                keys.append(sample.key)
    return keys


def test_folders_globs_and_lists_are_found_in_order(tmp_path: Path) -> None:
    """A glob in the order of the disk would number the sets otherwise on every machine."""
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "note.txt").touch()
    names = [str(tmp_path / name) for name in "abc"]
    assert find_folders(tmp_path / "*") == names
    assert find_folders([names[2], f"{tmp_path}/[ab]"]) == [names[2], *names[:2]]
    (tmp_path / "[ab]").mkdir()
    assert find_folders(f"{tmp_path}/[ab]") == [f"{tmp_path}/[ab]"], "a folder of that very name wins"


def test_no_folder_and_a_folder_given_twice_are_refused(tmp_path: Path) -> None:
    """A typo in a glob would leave a part of the data out, a repeated folder would count its sets twice."""
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="no folder matches"):
        find_folders(f"{tmp_path}/x*")
    with pytest.raises(UserError, match="given twice"):
        find_folders([tmp_path / "a", f"{tmp_path}/../{tmp_path.name}/*"])
    with pytest.raises(UserError, match="no data"):
        find_folders([])


def test_a_missing_shard_is_named_before_anything_is_read(folder: Path) -> None:
    """Found only when its turn comes, it ends a run after days."""
    (folder / "shard-000001-000-025.tar").unlink()
    with pytest.raises(ShardError, match=r"lacks 'shard-000001-000-025\.tar'"):
        ShardFolder(folder)


def test_a_missing_folder_and_a_missing_manifest_are_told_apart(folder: Path) -> None:
    """Each is mended differently."""
    with pytest.raises(UserError, match="does not exist"):
        ShardFolder(folder / "nowhere")
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no manifest\.json"):
        ShardFolder(folder)


@pytest.mark.parametrize("field", ["count", "bytes", "sha256"])
def test_a_shard_that_differs_from_its_manifest_is_named(folder: Path, field: str) -> None:
    """A shard that lost sets together with its record would be read as if nothing were missing."""
    manifest = json.loads((folder / "manifest.json").read_text())
    other = {"count": 5, "bytes": 2048, "sha256": "0" * 64}[field]
    manifest["shards"][1][field] = other
    (folder / "manifest.json").write_text(json.dumps(manifest))
    place = ShardFolder(folder)
    with pytest.raises(ShardError, match=rf"shard-000001-000-025\.json' states {field} .*, its manifest {other}"):
        place.open(place.manifest.shards[1])


def test_a_changed_record_is_named(folder: Path) -> None:
    """A record that leaves a set out by calling two sets one would pass every other check."""
    path = folder / "shard-000001-000-025.json"
    record = json.loads(path.read_text())
    record["samples"][0]["key"] = "other"
    path.write_text(json.dumps(record))
    place = ShardFolder(folder)
    with pytest.raises(ShardError, match="shard-000001-000-025"):
        place.open(place.manifest.shards[1])


def test_a_cut_off_shard_is_named(folder: Path) -> None:
    """tarfile takes a cut-off shard for a short one."""
    path = folder / "shard-000001-000-025.tar"
    path.write_bytes(path.read_bytes()[:-1024])
    place = ShardFolder(folder)
    with pytest.raises(ShardError, match=r"shard-000001-000-025\.tar"):
        place.open(place.manifest.shards[1])


@pytest.mark.parametrize("kind", ["http", "file"])
def test_a_url_reads_as_the_folder_and_is_fetched_once(folder: Path, server: str, tmp_path: Path, kind: str) -> None:
    """Fetched anew for every set or worker, the network would be the bottleneck."""
    url = server if kind == "http" else f"file://{folder}"
    cache = ShardCache(tmp_path / "cache")
    assert read_all(ShardFolder(url, cache)) == read_all(ShardFolder(folder)) == list(full_sets(10))
    fetched = [name for name in QuietHandler.asked if name.endswith(".tar")]
    assert len(fetched) == (3 if kind == "http" else 0)
    assert read_all(ShardFolder(f"{url}/", ShardCache(tmp_path / "cache"))) == list(full_sets(10))
    assert [name for name in QuietHandler.asked if name.endswith(".tar")] == fetched


def test_a_url_without_a_cache_is_refused(server: str) -> None:
    """Terabytes in a folder that nobody named fill somebody's home."""
    with pytest.raises(UserError, match="cache_dir"):
        ShardFolder(server)


@pytest.mark.parametrize("url", ["pipe:touch owned", "pipe://touch owned", "http://host/$(touch owned)"])
def test_a_url_that_runs_a_command_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """webdataset runs what stands behind "pipe:" in a shell."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        ShardFolder(url, ShardCache(tmp_path / "cache"))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("harm", ["cut", "flip", "longer"])
def test_a_damaged_download_is_named_and_never_kept(server: str, tmp_path: Path, harm: str) -> None:
    """A transfer that ends early looks like a short shard, and in the cache it would stay one."""
    cache = ShardCache(tmp_path / "cache")
    place = ShardFolder(server, cache)
    name = "shard-000001-000-025.tar"
    QuietHandler.spoil = {name: harm}
    with pytest.raises(ShardError, match=rf"{name}' cannot be fetched") as caught:
        place.open(place.manifest.shards[1])
    assert "curl" not in str(caught.value), "the command may hold a token"
    assert not list((tmp_path / "cache").rglob("*.tar"))
    QuietHandler.spoil = {name: f"{harm} once"}
    place.open(place.manifest.shards[1]).close()


def test_a_damaged_record_and_a_missing_shard_of_a_url_are_named(server: str, folder: Path, tmp_path: Path) -> None:
    """The record is the key to the shard: offsets out of a damaged one read other bytes."""
    place = ShardFolder(server, ShardCache(tmp_path / "cache"))
    QuietHandler.spoil = {"shard-000000-000-025.json": "flip"}
    with pytest.raises(ShardError, match=r"shard-000000-000-025\.json' is not the record"):
        place.open(place.manifest.shards[0])
    (folder / "shard-000001-000-025.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000001-000-025\.tar' cannot be fetched"):
        place.open(place.manifest.shards[1])


def test_a_cut_off_file_in_the_cache_is_fetched_again(server: str, tmp_path: Path) -> None:
    """A full disk or a cleaning program damages caches; the shard itself is fine."""
    place = ShardFolder(server, ShardCache(tmp_path / "cache"))
    place.open(place.manifest.shards[0]).close()
    (kept,) = (tmp_path / "cache").rglob("*.tar")
    kept.write_bytes(b"short")
    assert read_all(place) == list(full_sets(10))


def test_shards_with_new_content_under_an_old_name_are_fetched(folder: Path, server: str, tmp_path: Path) -> None:
    """Kept by name, a rebuilt folder would be read out of the cache of the old one."""
    read_all(ShardFolder(server, ShardCache(tmp_path / "cache")))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    write_folder(folder, full_sets(10, first=50))
    assert read_all(ShardFolder(server, ShardCache(tmp_path / "cache"))) == list(full_sets(10, first=50))


def test_the_cache_keeps_to_its_limit(server: str, tmp_path: Path) -> None:
    """Without a limit the cache of a large data set fills the disk; what is open must stay readable all the same."""
    sizes = [entry.bytes for entry in ShardFolder(server, ShardCache(tmp_path / "x")).manifest.shards]
    cache = ShardCache(tmp_path / "cache", limit=sizes[0] + sizes[1] // 2)
    place = ShardFolder(server, cache)
    first = place.open(place.manifest.shards[0])
    assert read_all(place) == list(full_sets(10))
    assert len(list((tmp_path / "cache").rglob("*.tar"))) == 1
    assert first.read(0)["000.png"]


def test_many_readers_fetch_a_shard_once(server: str, tmp_path: Path) -> None:
    """All workers of a machine want the same shard at the same moment."""
    places = [ShardFolder(server, ShardCache(tmp_path / "cache")) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(read_all, places)) == [list(full_sets(10))] * 6
    assert sorted(name for name in QuietHandler.asked if name.endswith(".tar")) == [
        f"{entry.name}.tar" for entry in read_manifest(server).shards
    ]

"""Records and manifests: what they state is checked before anything is done with it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m2m.data.shards import (
    Manifest,
    ManifestEntry,
    ShardError,
    ShardRecord,
    entry_bytes,
    manifest_entry,
    read_manifest,
    read_record,
    record_of,
    record_path,
    shard_path,
    write_manifest,
    write_record,
)
from tests.data.shards.making import IMAGES, NAME, complete, files_in, flip, one_set, units_of

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def record(tmp_path: Path) -> ShardRecord:
    return complete(tmp_path, units_of())


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(ShardError) as caught:
        act()
    message = str(caught.value)
    assert message.isprintable()
    return message


def change(path: Path, how: Change) -> None:
    values = json.loads(path.read_text())
    how(values)
    path.write_text(json.dumps(values))


def test_record_is_what_the_file_holds(tmp_path: Path, record: ShardRecord) -> None:
    """A digest over payloads alone, or an offset that is off, would not fit the bytes that a reader gets."""
    content = shard_path(tmp_path, NAME).read_bytes()
    assert (record.name, record.index, record.images, record.count) == (NAME, 0, IMAGES, 3)
    assert (record.bytes, record.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    for number, sample in enumerate(record.samples):
        raw = b"".join(entry_bytes(*entry) for entry in one_set(number))
        assert content[sample.offset : sample.offset + sample.length] == raw
        assert sample.sha256 == hashlib.sha256(raw).hexdigest()
    assert record == record_of(shard_path(tmp_path, NAME), NAME)


def test_record_comes_back_as_it_was(tmp_path: Path, record: ShardRecord) -> None:
    """A tuple that comes back as a list makes equal records differ; other bytes change the manifest's digest."""
    written = record_path(tmp_path, NAME).read_bytes()
    assert (
        read_record(tmp_path, NAME) == record == read_record(str(tmp_path), NAME, hashlib.sha256(written).hexdigest())
    )
    write_record(tmp_path, record)
    assert record_path(tmp_path, NAME).read_bytes() == written


LIES: dict[str, Change] = {
    "unknown 'colour'": lambda r: r.update(colour="red"),
    "missing bytes": lambda r: r.pop("bytes"),
    "missing sha256": lambda r: r["samples"][1].pop("sha256"),
    "unknown '\\x1b'": lambda r: r["samples"][1].update({"\x1b": 1}),
    "'samples' must be a list": lambda r: r.update(samples={}),
    "is no mapping": lambda r: r["samples"].append(7),
    "states 2 sets": lambda r: r.update(count=2),
    "states 3 sets": lambda r: r["samples"].pop(),
    "states 3 sets, but": lambda r: r["samples"][1].update(key=r["samples"][0]["key"]),
    "is no name of a shard": lambda r: r.update(name="../../etc/x"),
    "states index 'True'": lambda r: r.update(index=True),
    "states index '1'": lambda r: r.update(index=1),
    "images '(0, 4)'": lambda r: r.update(images=[0, 4]),
    "images '(0, 3.0)'": lambda r: r.update(images=[0, 3.0]),
    "overlaps": lambda r: r["samples"][1].update(offset=r["samples"][1]["offset"] - 512),
    "leaves a gap": lambda r: r["samples"][2].update(offset=r["samples"][2]["offset"] + 512),
    "do not fill": lambda r: r["samples"][2].update(length=r["samples"][2]["length"] + 512),
    "do not fill the": lambda r: r.update(bytes=1 << 40),
    "cannot lie at byte": lambda r: r["samples"][2].update(length=1 << 50),
    "cannot lie at byte 0 with 0": lambda r: r["samples"][0].update(length=0),
    "cannot lie at byte 7": lambda r: r["samples"][0].update(offset=7),
    "'offset' is '-512'": lambda r: r["samples"][0].update(offset=-512),
    "'bytes' is '1e+300'": lambda r: r.update(bytes=1e300),
    "not 64 hex digits": lambda r: r.update(sha256="0" * 63),
    "not 64 hex": lambda r: r["samples"][0].update(sha256=r["samples"][0]["sha256"].upper()),
    "cannot name a set": lambda r: r["samples"][0].update(key="../x"),
    "'key' is 'None'": lambda r: r["samples"][0].update(key=None),
    "'name' is '7', not a text": lambda r: r.update(name=7),
}


@pytest.mark.parametrize("said", LIES)
def test_a_record_that_lies_is_refused(tmp_path: Path, record: ShardRecord, said: str) -> None:
    """Offsets that overlap or reach beyond the file, and names that are paths, would be used as they stand."""
    change(record_path(tmp_path, NAME), LIES[said])
    message = refused(lambda: read_record(tmp_path, NAME))
    assert said in message and f"{NAME}.json" in message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b'{"samples": ' + b"9" * 5000 + b"}", b"null"]
)
def test_a_record_that_is_no_record_is_refused(tmp_path: Path, record: ShardRecord, content: bytes) -> None:
    """Deep nesting and long numbers make Python's JSON reader raise other errors than a broken text does."""
    record_path(tmp_path, NAME).write_bytes(content)
    assert f"{NAME}.json" in refused(lambda: read_record(tmp_path, NAME))
    (tmp_path / "manifest.json").write_bytes(content)
    assert "manifest.json" in refused(lambda: read_manifest(tmp_path))


def test_a_record_under_another_name_is_refused(tmp_path: Path, record: ShardRecord) -> None:
    """A copied record would make one shard's sets appear twice."""
    other = "shard-000001-000-003"
    record_path(tmp_path, NAME).rename(tmp_path / f"{other}.json")
    assert f"is the record of '{NAME}'" in refused(lambda: read_record(tmp_path, other))
    assert "does not exist" in refused(lambda: read_record(tmp_path, NAME))


def test_a_changed_record_does_not_pass_the_manifest(tmp_path: Path, record: ShardRecord) -> None:
    """Whoever changes a shard and its record alike would go unnoticed but for the digest in the manifest."""
    entry = manifest_entry(tmp_path, NAME)
    flip(record_path(tmp_path, NAME), record_path(tmp_path, NAME).read_bytes().index(b"-set") + 1)
    assert read_record(tmp_path, NAME) != record
    assert "the manifest states" in refused(lambda: read_record(tmp_path, NAME, entry.record_sha256))


def test_manifest_comes_back_as_it_was(tmp_path: Path, record: ShardRecord) -> None:
    """Other bytes for the same content would make two equal builds look different."""
    entry = manifest_entry(tmp_path, NAME)
    assert (entry.count, entry.bytes, entry.sha256) == (record.count, record.bytes, record.sha256)
    assert entry.record_sha256 == hashlib.sha256(record_path(tmp_path, NAME).read_bytes()).hexdigest()
    manifest = Manifest({"generator": {"steps": 50}}, complete=False, shards=(entry,))
    write_manifest(tmp_path, manifest)
    written = files_in(tmp_path)
    assert read_manifest(tmp_path) == manifest
    write_manifest(tmp_path, read_manifest(tmp_path))
    assert files_in(tmp_path) == written


MANIFEST_LIES: dict[str, Change] = {
    "'../../shard-000000-000-003' is no name": lambda m: m["shards"][0].update(name="../../shard-000000-000-003"),
    "is no name of": lambda m: m["shards"][0].update(name="shard-000000-000-003;rm -rf ~"),
    "$(reboot)": lambda m: m["shards"][0].update(name="shard-000000-000-003$(reboot)"),
    "is no name of a shard": lambda m: m["shards"][0].update(name="pipe:cat /etc/passwd"),
    "hold the same images": lambda m: m["shards"].append(
        {**m["shards"][0], "name": "shard-000000-002-005", "images": [2, 5]}
    ),
    "hold the same": lambda m: m["shards"].append(m["shards"][0]),
    "the record of 'shard-": lambda m: m["shards"][0].update(record_sha256="../"),
    "cannot have 1023 bytes": lambda m: m["shards"][0].update(bytes=1023),
    "'count' is '-1'": lambda m: m["shards"][0].update(count=-1),
    "true or false": lambda m: m.update(complete=1),
    "'settings' must be": lambda m: m.update(settings=[]),
    "missing complete": lambda m: m.pop("complete"),
    "unknown 'url'": lambda m: m["shards"][0].update(url="http://elsewhere/x.tar"),
}


@pytest.mark.parametrize("said", MANIFEST_LIES)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, record: ShardRecord, said: str) -> None:
    """A shard's name becomes a path and a part of a URL, which libraries hand to programs and shells."""
    write_manifest(tmp_path, Manifest({}, complete=True, shards=(manifest_entry(tmp_path, NAME),)))
    change(tmp_path / "manifest.json", MANIFEST_LIES[said])
    message = refused(lambda: read_manifest(tmp_path))
    assert said in message and "manifest.json" in message


def test_slices_of_one_shard_may_follow_each_other(record: ShardRecord) -> None:
    """The first images are made now and the rest later: the same index twice is no mistake then."""
    digest = "0" * 64
    entries = [
        ManifestEntry(f"shard-000000-{start:03d}-{stop:03d}", 0, (start, stop), 1, 2048, digest, digest)
        for start, stop in ((5, 25), (0, 5))
    ]
    assert Manifest({}, complete=True, shards=tuple(entries)).shards[1].images == (0, 5)


def test_paths_of_strange_names_are_refused(tmp_path: Path, record: ShardRecord) -> None:
    """`folder / name` with '../' in the name leaves the folder."""
    for name in ("../x", "/etc/passwd", "", "shard-000000-000-003/../../x"):
        for act in (shard_path, record_path, read_record, manifest_entry):
            assert "is no name of a shard" in refused(lambda act=act, name=name: act(tmp_path, name))
    with pytest.raises(ShardError):
        dataclasses.replace(record, name="../x")

"""What is known of a shard and of a folder of shards: NAME.json beside NAME.tar, and manifest.json.

A record or entry that states impossible things (a name that is a path, sets that overlap or reach beyond the file)
cannot be made: the dataclasses check themselves, so whoever holds one can rely on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from m2m.checkpoint import write_json
from m2m.data.shards.locations import open_regular, read_file
from m2m.data.shards.mapping import open_json
from m2m.data.shards.names import ShardError, check_key, shown, split_name
from m2m.data.shards.tar import BLOCK, MAX_SET, TRAILER, entries_of, grouped

MANIFEST = "manifest.json"

_HEX = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


@dataclass(frozen=True)
class SampleRecord:
    """One set in a shard: the bytes `offset` to `offset + length` of the file, headers included, and their sha256."""

    key: str
    offset: int
    length: int
    sha256: str

    def __post_init__(self) -> None:
        check_key(_text(self.key, "key"))
        _check_digest(self.sha256, f"set '{self.key}'")
        on_blocks = _number(self.offset, "offset") % BLOCK == 0 and _number(self.length, "length") % BLOCK == 0
        if not on_blocks or not BLOCK <= self.length <= MAX_SET:
            raise ShardError(f"set '{self.key}' cannot lie at byte {self.offset} with {self.length} bytes")


@dataclass(frozen=True)
class ShardRecord:
    """A whole shard. images: (first, one past the last) image number of its sets; count: sets; bytes: size of the file;
    sha256: of the file; samples: its sets in order."""

    name: str
    index: int
    images: tuple[int, int]
    count: int
    bytes: int
    sha256: str
    samples: tuple[SampleRecord, ...]

    def __post_init__(self) -> None:
        _check_shard(self)
        if self.count != len(self.samples) or len({sample.key for sample in self.samples}) != self.count:
            raise ShardError(f"the record of '{self.name}' states {self.count} sets, but lists others")
        end = 0
        for sample in self.samples:
            if sample.offset != end:
                raise ShardError(
                    f"the record of '{self.name}': set '{sample.key}' overlaps the one before or leaves a gap"
                )
            end += sample.length
        if end + len(TRAILER) != self.bytes:
            raise ShardError(f"the record of '{self.name}': its sets do not fill the {self.bytes} bytes of the file")


@dataclass(frozen=True)
class ManifestEntry:
    """A shard as its folder's manifest states it: as in the record, and the sha256 of the record file itself."""

    name: str
    index: int
    images: tuple[int, int]
    count: int
    bytes: int
    sha256: str
    record_sha256: str

    def __post_init__(self) -> None:
        _check_shard(self)
        _check_digest(self.record_sha256, f"the record of '{self.name}'")


@dataclass(frozen=True)
class Manifest:
    """A folder of shards. settings: what they were made with; complete: whether all shards are there and listed."""

    settings: dict[str, Any]
    complete: bool
    shards: tuple[ManifestEntry, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.settings, dict) or not isinstance(self.complete, bool):
            raise ShardError("'settings' must be a mapping and 'complete' true or false")
        ordered = sorted(self.shards, key=lambda entry: (entry.index, entry.images))
        for one, next_one in pairwise(ordered):
            if one.index == next_one.index and next_one.images[0] < one.images[1]:
                raise ShardError(f"shards '{one.name}' and '{next_one.name}' hold the same images")


def shard_path(folder: str | Path, name: str) -> Path:
    """The tar file of a shard. Raises ShardError for a name that is none."""
    split_name(name)
    return Path(folder) / f"{name}.tar"


def record_path(folder: str | Path, name: str) -> Path:
    """The record of a shard; the shard is finished where this exists. Raises ShardError for a name that is none."""
    split_name(name)
    return Path(folder) / f"{name}.json"


def record_of(path: str | Path, name: str) -> ShardRecord:
    """The record of a tar file, from its bytes: reads it once. Raises ShardError where it is not a whole shard."""
    index, images = split_name(name)
    whole, samples = hashlib.sha256(), []
    with open_regular(path) as file:
        for key, entries in grouped(entries_of(file, f"'{path}'"), images, f"'{path}'"):
            start, length = entries[0].start, entries[-1].end - entries[0].start
            file.seek(start)
            raw = file.read(length)
            whole.update(raw)
            samples.append(SampleRecord(key, start, length, hashlib.sha256(raw).hexdigest()))
        size = file.seek(0, 2)
    whole.update(TRAILER)
    return ShardRecord(name, index, images, len(samples), size, whole.hexdigest(), tuple(samples))


def write_record(folder: str | Path, record: ShardRecord) -> None:
    """Write NAME.json, whole or not at all."""
    write_json(record_path(folder, record.name), asdict(record))


def read_record(where: str | Path, name: str, sha256: str | None = None) -> ShardRecord:
    """The record of shard `name` in a folder or below a URL; `sha256`: what the manifest states of the record's file.

    Raises ShardError where it is missing, broken, another shard's, not the one that the manifest states, or impossible.
    """
    split_name(name)
    content = read_file(where, f"{name}.json")
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ShardError(f"'{where}/{name}.json' is not the record that the manifest states (its sha256 differs)")
    return _record(content, f"{where}/{name}.json", name)


def manifest_entry(folder: str | Path, name: str) -> ManifestEntry:
    """The manifest's line about a finished shard, from its record's file. Raises ShardError as `read_record` does."""
    split_name(name)
    content = read_file(folder, f"{name}.json")
    record = _record(content, f"{folder}/{name}.json", name)
    digest = hashlib.sha256(content).hexdigest()
    return ManifestEntry(name, record.index, record.images, record.count, record.bytes, record.sha256, digest)


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write manifest.json, whole or not at all."""
    write_json(Path(folder) / MANIFEST, asdict(manifest))


def read_manifest(where: str | Path) -> Manifest:
    """The manifest of a folder or URL. Raises ShardError where it is missing, broken or states impossible things."""
    place = f"{where}/{MANIFEST}"
    values = open_json(read_file(where, MANIFEST), f"'{place}'")
    try:
        shards = tuple(_made(ManifestEntry, item) for item in _listed(values, "shards"))
        return _made(Manifest, {**values, "shards": shards})
    except ShardError as error:
        raise ShardError(f"'{place}': {error}") from error


def _record(content: bytes, place: str, name: str) -> ShardRecord:
    values = open_json(content, f"'{place}'")
    try:
        samples = tuple(_made(SampleRecord, item) for item in _listed(values, "samples"))
        record = _made(ShardRecord, {**values, "samples": samples})
    except ShardError as error:
        raise ShardError(f"'{place}': {error}") from error
    if record.name != name:
        raise ShardError(f"'{place}' is the record of '{record.name}'")
    return record


def _listed(values: Mapping[str, Any], field: str) -> list[Any]:
    listed = values.get(field)
    if not isinstance(listed, list):
        raise ShardError(f"'{field}' must be a list")
    return listed


def _made(kind: type[T], values: Any) -> T:
    """A dataclass from a JSON mapping with exactly its fields; a pair of numbers becomes a tuple."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise ShardError(f"{shown(values)} is no mapping of {', '.join(sorted(names))}")
    if missing := names - values.keys():
        raise ShardError(f"missing {', '.join(sorted(missing))}")
    if unknown := values.keys() - names:
        raise ShardError(f"unknown {shown(', '.join(sorted(unknown)))}")
    images = values.get("images")
    return kind(**{**values, "images": tuple(images)} if isinstance(images, list) else values)


def _check_shard(stated: ShardRecord | ManifestEntry) -> None:
    """The fields that a record and a manifest entry share."""
    found = split_name(_text(stated.name, "name"))
    if (stated.index, stated.images) != found or not all(type(number) is int for number in stated.images):
        raise ShardError(f"'{stated.name}' states index {shown(stated.index)} and images {shown(stated.images)}")
    _number(stated.index, "index")
    _number(stated.count, "count")
    if _number(stated.bytes, "bytes") < len(TRAILER):
        raise ShardError(f"'{stated.name}' cannot have {stated.bytes} bytes")
    _check_digest(stated.sha256, f"'{stated.name}'")


def _check_digest(value: Any, of: str) -> None:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ShardError(f"the sha256 of {of} is {shown(value)}, not 64 hex digits")


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise ShardError(f"'{field}' is {shown(value)}, not a text")
    return value


def _number(value: Any, field: str) -> int:
    """A whole number of at least 0. (True is an int to Python.)"""
    if type(value) is not int or value < 0:
        raise ShardError(f"'{field}' is {shown(value)}, not a whole number of at least 0")
    return value

"""Is a folder of shards still what its manifest says? Every byte is read, and every picture decoded.

A finding names the shard and, where that can be told, the set. What may be wrong: a shard or record that is missing or
other than the manifest states, a picture that does not decode, a manifest that lists fewer shards than the build has,
shards that no manifest knows, and what killed or failed writers left. `repair` makes damaged shards again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from m2m.checkpoint import STAGING_SUFFIX
from m2m.data.factory.folder import BUILD, FAILED, failures, read_build
from m2m.data.factory.jobs import jobs_of
from m2m.data.shards import (
    Manifest,
    ManifestEntry,
    ShardError,
    ShardReader,
    ShardRecord,
    manifest_entry,
    open_array,
    open_json,
    open_picture,
    read_manifest,
    read_record,
    record_of,
    record_path,
    shard_path,
    split_name,
)
from m2m.data.shards.records import MANIFEST
from m2m.types import UserError

REPAIRS = ".repair"
MOST_SETS = 10  # of one shard that are listed by name
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, in one line. name: of the shard or file; key: of the set, where one is concerned."""

    name: str
    problem: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.name}{f', set {self.key}' if self.key else ''}: {self.problem}"


@dataclass(frozen=True)
class VerifyReport:
    """What was looked at, and what was found. damaged: the shards of the manifest with a finding, in its order."""

    shards: int
    sets: int
    bytes: int
    findings: list[Finding]
    damaged: list[str]


def verify(folder: str | Path, decode: bool = True, workers: int = 1, progress: Progress | None = None) -> VerifyReport:
    """Check every shard of a folder against its manifest; `decode`: every picture and array too.

    workers: threads; progress: called with (shards done, shards in all).
    Raises UserError where the folder holds neither a manifest nor a build; damage is a finding, never an error.
    """
    place = Path(folder)
    if not (place / MANIFEST).exists() and not (place / BUILD).exists():
        raise UserError(f"'{folder}' is no folder of shards: it has neither {MANIFEST} nor {BUILD}")
    entries, findings = _listed(place)
    checks = _checks(place, entries, decode, workers, progress)
    return VerifyReport(
        shards=len(entries),
        sets=_sets(entries),
        bytes=sum(entry.bytes for entry in entries),
        findings=[*findings, *chain.from_iterable(checks), *_strays(place, {entry.name for entry in entries})],
        damaged=[entry.name for entry, found in zip(entries, checks, strict=True) if found],
    )


def check_shard(folder: Path, entry: ManifestEntry, decode: bool = True) -> list[Finding]:
    """What is wrong with one shard: its files against the manifest's entry, every set against the shard's record."""
    findings = []
    record = None
    try:
        record = _stated_record(folder, entry)
    except ShardError as error:
        findings.append(_finding(folder, entry.name, error))
    path = shard_path(folder, entry.name)
    try:
        found = _compared(path, entry)
    except (ShardError, OSError) as error:
        return [*findings, _finding(folder, entry.name, error), *_damaged_sets(path, record)]
    return [*findings, *_undecodable(path, found)] if decode else findings


def _finding(folder: Path, name: str, error: Exception, key: str = "") -> Finding:
    """An error as a finding; the folder, which is the same in all of them, is left out."""
    return Finding(name, str(error).replace(f"{folder}/", ""), key)


def _checks(
    folder: Path, entries: Sequence[ManifestEntry], decode: bool, workers: int, progress: Progress | None
) -> list[list[Finding]]:
    """`check_shard` of every entry, in their order."""
    checks = []
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        for found in pool.map(partial(check_shard, folder, decode=decode), entries):
            checks.append(found)
            if progress:
                progress(len(checks), len(entries))
    finally:  # on Ctrl-C too: shards that are not begun yet are not waited for
        pool.shutdown(cancel_futures=True)
    return checks


def _sets(entries: Sequence[ManifestEntry]) -> int:
    """How many sets there are: shards of one index hold further images of the same sets."""
    of_index: dict[int, int] = {}
    for entry in entries:
        of_index[entry.index] = max(entry.count, of_index.get(entry.index, 0))
    return sum(of_index.values())


def _listed(folder: Path) -> tuple[list[ManifestEntry], list[Finding]]:
    """The shards to check, and what is wrong with the list. Without a manifest each record that is there stands in."""
    try:
        manifest = read_manifest(folder)
    except ShardError as error:
        entries, findings = _from_records(folder)
        return entries, [_finding(folder, MANIFEST, error), *findings]
    return list(manifest.shards), list(_gaps(folder, manifest))


def _from_records(folder: Path) -> tuple[list[ManifestEntry], list[Finding]]:
    entries, findings = [], []
    for path in sorted(folder.glob("shard-*.json")):
        try:
            entries.append(manifest_entry(folder, path.stem))
        except ShardError as error:
            findings.append(_finding(folder, path.stem, error))
    return entries, findings


def _gaps(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """Where the manifest and the description of the build disagree, or shards are still to be made."""
    names = {entry.name for entry in manifest.shards}
    if not (folder / BUILD).exists():
        if not manifest.complete:
            yield Finding(MANIFEST, f"the data set is not complete: {len(names)} shards are there")
        return
    try:
        settings, slices = read_build(folder)
        wanted = {job.name for job in jobs_of(slices, settings["sets"], settings["sets_per_shard"])}
    except (UserError, KeyError, TypeError, ValueError) as error:
        yield Finding(BUILD, f"cannot be read: {error}")
        return
    if settings != manifest.settings:
        yield Finding(MANIFEST, f"its settings are not those of {BUILD}")
    if names != wanted or not manifest.complete:
        there = len(names & wanted)
        text = f"the build is not complete: {there} of {len(wanted)} shards; the command that makes it goes on"
        yield Finding(MANIFEST, text)


def _stated_record(folder: Path, entry: ManifestEntry) -> ShardRecord:
    """The record, which must be the file that the manifest states and say the same. Raises ShardError."""
    record = read_record(folder, entry.name, entry.record_sha256)
    if (record.count, record.bytes, record.sha256) != (entry.count, entry.bytes, entry.sha256):
        raise ShardError(f"'{record_path(folder, entry.name)}' states another shard than the manifest")
    return record


def _compared(path: Path, entry: ManifestEntry) -> ShardRecord:
    """The record of the bytes that are there. Raises ShardError where they are not the manifest's, or OSError."""
    if path.is_file() and (size := path.stat().st_size) != entry.bytes:
        raise ShardError(f"'{path}' has {size:,} bytes, the manifest states {entry.bytes:,}")
    found = record_of(path, entry.name)
    if found.sha256 != entry.sha256:
        raise ShardError(f"'{path}' is damaged: its sha256 is not the manifest's")
    if found.count != entry.count:
        raise ShardError(f"'{path}' holds {found.count} sets, the manifest states {entry.count}")
    return found


def _damaged_sets(path: Path, record: ShardRecord | None) -> list[Finding]:
    """Which sets of a damaged shard are lost, by their digests in its record (none without a sound record)."""
    if record is None or not path.is_file():
        return []
    findings = []
    with open(path, "rb") as file:
        for sample in record.samples:
            file.seek(sample.offset)
            raw = file.read(sample.length)
            if hashlib.sha256(raw).hexdigest() != sample.sha256:
                problem = "is damaged" if len(raw) == sample.length else "is cut off"
                findings.append(Finding(record.name, problem, sample.key))
    more = len(findings) - MOST_SETS
    return findings if more <= 0 else [*findings[:MOST_SETS], Finding(record.name, f"and {more} more sets")]


def _undecodable(path: Path, record: ShardRecord) -> list[Finding]:
    """The sets with an entry that cannot be opened, although its bytes are as they were written."""
    findings = []
    with ShardReader(path, record) as reader:
        for number, sample in enumerate(record.samples):
            try:
                for suffix, payload in reader.read(number).items():
                    _open_entry(suffix, payload)
            except ShardError as error:
                findings.append(_finding(path.parent, record.name, error, sample.key))
    return findings


def _open_entry(suffix: str, payload: bytes) -> None:
    """Decode an entry. Raises ShardError, which names it by its suffix."""
    if suffix == "json":
        open_json(payload, suffix)
    elif suffix.endswith(".npy"):
        open_array(payload, suffix)
    else:
        open_picture(payload, suffix)


def _strays(folder: Path, listed: set[str]) -> Iterator[Finding]:
    """Files that no reader should take for data: unlisted shards, leftovers, notes of failures."""
    for path in sorted(folder.iterdir()):
        if problem := _stray(path, listed):
            yield Finding(path.name, problem)
    if (folder / FAILED).is_dir():
        yield from _failed(folder)


def _stray(path: Path, listed: set[str]) -> str:
    """What is wrong with a file's being there; an empty text for one that belongs there or is none of ours."""
    if path.name == REPAIRS:
        return "a repair that was not finished; --repair goes on with it"
    if path.name.endswith(STAGING_SUFFIX):
        return "left by a process that was killed; remove it when none is at work here"
    if path.name.endswith((".tar.part", ".journal")):
        return "a shard that was begun; the command that makes this folder goes on with it"
    if path.suffix == ".tar" and path.stem not in listed:
        return "is not in the manifest"
    if path.suffix == ".json" and path.stem not in listed and _names_shard(path.stem):
        return "is the record of a shard that is not in the manifest"
    return ""


def _names_shard(stem: str) -> bool:
    try:
        split_name(stem)
    except ShardError:
        return False
    return True


def _failed(folder: Path) -> Iterator[Finding]:
    try:
        noted: Sequence[Finding] = [
            Finding(failure.name, f"was set aside after {failure.attempts} attempts: {failure.error}")
            for failure in failures(folder)
        ]
    except (UserError, TypeError) as error:
        noted = [Finding(FAILED, f"cannot be read: {error}")]
    yield from noted

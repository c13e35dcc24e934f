"""Where shards come from: folders of this machine, globs of them, and URLs, whose shards are fetched into a cache.

A shard is opened with its manifest at hand: a missing file, another count, another size or another digest is an error
that names the shard, before a set of it is read.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from m2m.checkpoint import sha256_of_files
from m2m.data.shards import (
    Manifest,
    ManifestEntry,
    ShardError,
    ShardReader,
    is_url,
    open_url,
    read_file,
    read_manifest,
    read_record,
    record_path,
    shard_path,
    transfer_failure,
)
from m2m.types import UserError

Address = str | Path

# How often a shard is fetched before its damage is taken for the server's.
ATTEMPTS = 3
BLOCK = 1 << 20


class ShardFolder:
    """One folder of shards and its manifest.

    Args:
        address: a path, or a URL below which `manifest.json` and the shards lie.
        cache: where the shards of a URL are kept. Their names there follow from their content, so folders, runs and
            processes may share one cache.

    Raises UserError where there is no such folder, no manifest, or a shard that the manifest lists is missing.
    """

    def __init__(self, address: Address, cache: ShardCache | None = None) -> None:
        self.address = str(address).rstrip("/") or "/"
        self._cache = cache
        if is_url(address):
            if cache is None:
                raise UserError(
                    f"'{address}' is a URL: name a folder of this machine that keeps its shards (cache_dir)"
                )
        else:
            _check_is_folder(Path(address))
        self.manifest: Manifest = read_manifest(self.address)
        if cache is None or not is_url(address):
            self._cache = None
            self._check_all_there()

    def open(self, entry: ManifestEntry) -> ShardReader:
        """The shard, checked against the manifest, fetched first if it lies behind a URL. Raises ShardError."""
        if self._cache is not None:
            return self._cache.open(self.address, entry)
        return open_checked(Path(self.address), entry)

    def _check_all_there(self) -> None:
        names = set(os.listdir(self.address))
        wanted = [f"{entry.name}{suffix}" for entry in self.manifest.shards for suffix in (".tar", ".json")]
        missing = [name for name in wanted if name not in names]
        if missing:
            more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
            raise ShardError(
                f"'{self.address}' lacks '{missing[0]}'{more}, which its manifest lists; the command that made it "
                "makes them again"
            )


class ShardCache:
    """Shards of URLs, in a folder of this machine, under names that follow from their content.

    folder: made when the first shard comes. limit: bytes of shards to keep; those that were opened longest ago go
    first. None: all stay. Safe for several processes at once: one fetches a shard, the others wait for it.
    """

    def __init__(self, folder: Address, limit: int | None = None) -> None:
        self._folder = Path(folder)
        self._limit = limit

    def open(self, url: str, entry: ManifestEntry) -> ShardReader:
        """The shard, from the cache or else from below `url`. Raises ShardError where no whole one can be had."""
        place = self._folder / entry.record_sha256[:32]
        with self._lock(place.name):
            if not _is_whole(place, entry):
                shutil.rmtree(place, ignore_errors=True)
                _fetch_shard(url, entry, place)
            os.utime(place)  # the time of the last use, for `_make_room`
            reader = open_checked(place, entry)
        self._make_room(place)
        return reader

    @contextmanager
    def _lock(self, name: str, wait: bool = True) -> Iterator[None]:
        """Alone with what `name` stands for; raises BlockingIOError where another is and `wait` is false."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / f"{name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def _make_room(self, newest: Path) -> None:
        """Remove the shards that were not used for longest. Whoever has one open can go on reading it."""
        if self._limit is None:
            return
        with self._lock("room"):
            kept = {path: _bytes_in(path) for path in self._by_last_use()}
            total = sum(kept.values())
            for path, size in kept.items():
                if total <= self._limit:
                    return
                if path != newest:
                    # Not one that is being opened right now: its file would be gone between two looks.
                    with suppress(BlockingIOError), self._lock(path.name, wait=False):
                        shutil.rmtree(path, ignore_errors=True)
                        total -= size

    def _by_last_use(self) -> list[Path]:
        """The whole shards of the cache, the one whose last use is longest ago first."""
        with os.scandir(self._folder) as entries:
            shards = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
            return [Path(entry.path) for entry in sorted(shards, key=lambda entry: entry.stat().st_mtime)]


def find_folders(data: Address | Sequence[Address]) -> list[str]:
    """The folders and URLs that are meant, in the order given; a glob's matches in the order of their names.

    Raises UserError where a glob matches no folder, nothing is given, or a folder is given twice.
    """
    given = [data] if isinstance(data, (str, Path)) else list(data)
    found = [folder for address in given for folder in _expanded(str(address))]
    if not found:
        raise UserError("no data is given: name a folder of shards, a glob of folders, or a URL")
    places = [address if is_url(address) else str(Path(address).resolve()) for address in found]
    for address, place in zip(found, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"'{address}' is given twice: its sets would be read twice in an epoch")
    return found


def open_checked(folder: Path, entry: ManifestEntry) -> ShardReader:
    """A shard of a folder of this machine, its record and its size compared with the manifest. Raises ShardError."""
    record = read_record(folder, entry.name)
    for stated in ("count", "bytes", "sha256"):
        found, wanted = getattr(record, stated), getattr(entry, stated)
        if found != wanted:
            raise ShardError(
                f"'{record_path(folder, entry.name)}' states {stated} {found}, its manifest {wanted}; "
                "`m2m data verify` tells which is right"
            )
    # Of the sets themselves, offsets and digests: a record with other ones has another digest.
    record = read_record(folder, entry.name, entry.record_sha256)
    return ShardReader(shard_path(folder, entry.name), record)


def _check_is_folder(path: Path) -> None:
    if not path.is_dir():
        raise UserError(f"data folder '{path}' does not exist; `m2m data build` makes one")
    if not (path / "manifest.json").is_file():
        raise UserError(
            f"data folder '{path}' has no manifest.json, so it is no folder of shards or nothing is finished"
        )


def _expanded(address: str) -> list[str]:
    """A glob's folders; anything else as it is. A folder whose name looks like a glob wins."""
    if is_url(address) or Path(address).exists() or not glob.has_magic(address):
        return [address]
    folders = sorted(path for path in glob.glob(address, recursive=True) if Path(path).is_dir())
    if not folders:
        raise UserError(f"no folder matches '{address}'; give one that is there")
    return folders


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _is_whole(place: Path, entry: ManifestEntry) -> bool:
    """Whether the cache holds the shard with all its bytes. What they are is checked set by set, when they are read."""
    tar = shard_path(place, entry.name)
    return record_path(place, entry.name).is_file() and tar.is_file() and tar.stat().st_size == entry.bytes


def _fetch_shard(url: str, entry: ManifestEntry, place: Path) -> None:
    """Both files of a shard into the new folder `place`, which appears when they are whole and right."""
    staged = place.with_name(f".{place.name}")
    shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed; there is no other: see `ShardCache`
    staged.mkdir()
    try:
        record = read_file(url, f"{entry.name}.json")
        if hashlib.sha256(record).hexdigest() != entry.record_sha256:
            raise ShardError(f"'{url}/{entry.name}.json' is not the record that the manifest states")
        record_path(staged, entry.name).write_bytes(record)
        _fetch_tar(f"{url}/{entry.name}.tar", entry, shard_path(staged, entry.name))
        os.rename(staged, place)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _fetch_tar(url: str, entry: ManifestEntry, path: Path) -> None:
    """Fetch until the digest is right; a transfer that broke off, or was damaged on the way, gets another chance."""
    for attempt in range(1, ATTEMPTS + 1):
        problem = _transfer(url, entry.bytes, path)
        if problem is None and sha256_of_files([path]) == entry.sha256:
            return
        if attempt == ATTEMPTS:
            problem = problem or "what came is damaged: its sha256 is not the manifest's"
            raise ShardError(f"'{url}' cannot be fetched, in {ATTEMPTS} attempts: {problem}")


def _transfer(url: str, size: int, path: Path) -> str | None:
    """Copy what lies behind the URL to a file; what went wrong, or None. Never more than one block beyond `size`."""
    copied = 0
    with open(path, "wb") as file:
        try:
            with open_url(url) as stream:
                while copied <= size and (block := stream.read(BLOCK)):
                    file.write(block)
                    copied += len(block)
        except OSError as error:
            return transfer_failure(error)
    return None if copied == size else f"{copied} bytes came of {size}"

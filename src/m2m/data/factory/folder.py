"""The folder of a build: whose it is, which slices of images it covers, what is finished, what failed, the manifest.

    build.json       written first: the identity of everything in the folder, and its slices of images
    NAME.tar .json   finished shards and their records; NAME.tar.part with NAME.journal are begun ones
    failed/NAME.json shards that were set aside, with the error; a later run tries them again
    manifest.json    what is there, written when a run ends

Several processes may work on one folder at a time: what they read, change and write back, they do under `.lock`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m2m.checkpoint import read_json, write_json
from m2m.data.factory.jobs import ShardJob, Slice, extended, jobs_of
from m2m.data.shards import (
    Manifest,
    ManifestEntry,
    ShardError,
    is_finished,
    manifest_entry,
    shard_path,
    write_manifest,
)
from m2m.types import UserError

BUILD = "build.json"
FAILED = "failed"
LOCK = ".lock"


@dataclass(frozen=True)
class Failure:
    """A shard that was set aside. error: one line; details: the traceback of the last attempt."""

    name: str
    attempts: int
    error: str
    details: str = ""


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk says (full, read-only, no permission, over quota) into one line for the user."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"'{folder}' cannot be written: {reason}; what is in it is intact, and the same command continues"
        ) from error


def check_place(folder: Path) -> None:
    """Raise UserError where nobody could build: a file, or a place without the right to write.

    Asked before a generator is loaded too, which can take minutes.
    """
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not above.is_dir():
        raise UserError(f"'{above}' is a file; name a folder for the shards")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"'{folder}' cannot be written: '{above}' is not yours to write to, or read-only")


def open_folder(folder: Path, identity: dict[str, Any], images: Slice) -> list[Slice]:
    """Make the folder this identity's, if it is nobody's yet, and add `images` to its slices; returns all slices.

    Raises UserError where it holds shards of another identity (each setting that differs is named with both values),
    strange files, or slices that `images` does not fit to; OSError where it cannot be written.
    """
    check_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if (folder / BUILD).exists():
            found, slices = read_build(folder)
            _check_same(found, identity, folder)
        else:
            _check_empty(folder)
            slices = []
        wanted = extended(slices, images, str(folder))
        if wanted != slices or not slices:
            write_json(folder / BUILD, {"settings": identity, "images": wanted})
    return wanted


def read_build(folder: Path) -> tuple[dict[str, Any], list[Slice]]:
    """The identity of a folder of shards and its slices of images. Raises UserError where it has none."""
    content = read_json(folder / BUILD)
    if not isinstance(content, dict) or set(content) != {"settings", "images"}:
        raise UserError(f"'{folder / BUILD}' is no description of a build; remove the folder or give another --out")
    return content["settings"], [(int(start), int(stop)) for start, stop in content["images"]]


def missing(folder: Path, jobs: Iterable[ShardJob]) -> list[ShardJob]:
    """The jobs whose shard is not there, or whose size shows that it is damaged, or that a kill left unsettled.

    Whether the bytes are right is what `m2m data verify` asks; that reads them all.
    """
    return [job for job in jobs if not is_finished(folder, job.name)]


def finish_manifest(folder: Path) -> Manifest:
    """Write manifest.json from what is in the folder; complete: every shard of every slice is there.

    It is a function of the folder's identity and of which shards are there, whatever happened on the way.
    """
    with locked(folder):  # or a process that looked before another one's last shard would write after it
        identity, slices = read_build(folder)
        jobs = jobs_of(slices, identity["sets"], identity["sets_per_shard"])
        entries = [entry for job in jobs if (entry := _entry(folder, job.name))]
        shards = tuple(sorted(entries, key=lambda entry: (entry.index, entry.images)))
        manifest = Manifest(settings=identity, complete=len(shards) == len(jobs), shards=shards)
        write_manifest(folder, manifest)
    return manifest


@contextmanager
def manifest_despite(failure: type[BaseException], folder: Path) -> Iterator[None]:
    """Where the work inside ends with `failure`, write the manifest of what is there, if the disk lets it."""
    try:
        yield
    except failure:
        with suppress(OSError):  # the few bytes may find a place yet
            finish_manifest(folder)
        raise


def set_aside(folder: Path, failure: Failure) -> None:
    """Note that a shard failed too often."""
    (folder / FAILED).mkdir(exist_ok=True)
    write_json(folder / FAILED / f"{failure.name}.json", asdict(failure))


def clear_failure(folder: Path, name: str) -> None:
    """Forget an earlier run's failure of a shard that is now made."""
    (folder / FAILED / f"{name}.json").unlink(missing_ok=True)


def failures(folder: Path) -> list[Failure]:
    """The shards that are set aside, by name."""
    return [Failure(**read_json(path)) for path in sorted((folder / FAILED).glob("*.json"))]


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Alone among the processes that work on the folder; where one is and `wait` is false, raises BlockingIOError."""
    with open(folder / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _entry(folder: Path, name: str) -> ManifestEntry | None:
    """The manifest's line of a shard; None where it is not there, or of another size than its record states."""
    try:
        entry = manifest_entry(folder, name)
        return entry if shard_path(folder, name).stat().st_size == entry.bytes else None
    except (ShardError, FileNotFoundError):
        return None


def _check_empty(folder: Path) -> None:
    strange = sorted(path.name for path in folder.iterdir() if path.name != LOCK and not path.name.endswith(".partial"))
    if strange:
        raise UserError(f"'{folder}' holds '{strange[0]}' but no {BUILD}; give a new folder")


def _check_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    before, now = _flat(found), _flat(wanted)
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differing:
        pairs = ", ".join(f"{key} is {before.get(key)!r}, not {now.get(key)!r}" for key in differing)
        raise UserError(f"'{folder}' holds other sets: {pairs}; give another --out or the same settings")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, so that a message names the one that differs."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat

"""Writing a shard so that a kill at any moment loses one unit at most, and the finished bytes are the same ones.

    NAME.tar.part + NAME.journal    while it grows: the bytes, and which of them are safe
    NAME.tar                        by rename, once it is whole and flushed
    NAME.json                       the record, written last; where it exists the shard is finished
The journal goes after the record, so a shard whose journal lies there is never taken for finished.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from m2m.checkpoint import sync
from m2m.data.shards.journal import Journal, ShardBusy, Unit, open_plain, write_at
from m2m.data.shards.names import ShardError, shard_name
from m2m.data.shards.records import ShardRecord, read_record, record_of, record_path, shard_path, write_record
from m2m.data.shards.tar import TRAILER, entry_bytes

__all__ = ["ShardBusy", "ShardWriter", "forget_shard", "is_finished"]


class ShardWriter:
    """Appends a shard unit by unit; a unit is what is safe or lost as one (the images of a batch, for instance).

    Use as a context manager or call `close`: what is not finished then stays for a later `open` to continue.
    """

    def __init__(self, folder: Path, name: str, journal: Journal, units: int) -> None:
        self._folder, self._name, self._units = folder, name, units
        self._journal = journal
        self._tar = shard_path(folder, name)
        self._part = _part_path(folder, name)
        self._file = -1
        self._record: ShardRecord | None = None

    @classmethod
    def open(cls, folder: str | Path, name: str, index: int, images: tuple[int, int], units: int) -> ShardWriter:
        """Start or continue shard `name` of `units` units in `folder`, which must exist.

        A shard that is finished already is left as it is: all its units are committed and `finish` returns its record.
        Raises ShardBusy where another process writes it, OSError where the disk refuses.
        """
        if name != shard_name(index, images):
            raise ShardError(f"shard {index} with images {images[0]}:{images[1]} is not '{name}'")
        journal = Journal(_journal_path(Path(folder), name), name, units)
        writer = cls(Path(folder), name, journal, units)
        try:
            writer._start()
        except BaseException:
            writer.close()
            raise
        return writer

    @property
    def committed(self) -> int:
        """How many units are safely inside; the next one to append has this number."""
        return self._units if self._record else len(self._journal.units)

    def append(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Add the next unit: its (name, payload) pairs in order, maybe none. It is safe when this returns.

        Raises ShardError for a name that no shard may hold, and OSError (disk full): the units before are safe then,
        and the same unit can be appended again.
        """
        if self.committed >= self._units:
            raise ValueError(f"shard '{self._name}' has its {self._units} units already")
        content = b"".join(entry_bytes(name, payload) for name, payload in entries)
        write_at(self._file, self._end, content)
        digest = hashlib.sha256(content).hexdigest()
        self._journal.append(Unit(self.committed, self._end + len(content), digest))

    def finish(self) -> ShardRecord:
        """Close the tar, read it once more, give it its name, and write its record last. The writer is closed then.

        Raises ShardError where the file changed since it was written, or its entries do not form sets.
        """
        if self._record is None:
            if self.committed != self._units:
                raise ValueError(f"shard '{self._name}' has {self.committed} of its {self._units} units")
            self._record = self._sealed()
        self.close()
        return self._record

    def close(self) -> None:
        """Release the shard. What is not finished can be continued later, by any process."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        if self._record is not None:
            self._journal.remove()
        self._journal.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _end(self) -> int:
        return self._journal.units[-1].end if self._journal.units else 0

    def _start(self) -> None:
        """Find the shard finished, or keep the units whose bytes are as the journal says; a write cuts off the rest."""
        self._record = _whole_record(self._folder, self._name)
        if self._record is not None:
            return
        _remove_leftovers(self._folder, self._name)
        if self._journal.units and self._tar.exists() and not self._part.exists():
            os.rename(self._tar, self._part)  # killed between the rename and the record
        self._file = open_plain(self._part)
        self._journal.keep(_good_units(self._file, self._journal.units))
        sync(self._folder)

    def _sealed(self) -> ShardRecord:
        good = _good_units(self._file, self._journal.units)
        if good < self._units:
            raise ShardError(
                f"'{self._part}': unit {good} is not as it was written; the disk or another program changed it"
            )
        write_at(self._file, self._end, TRAILER)
        record = record_of(self._part, self._name)
        os.replace(self._part, self._tar)
        sync(self._folder)
        write_record(self._folder, record)
        return record


def is_finished(folder: str | Path, name: str) -> bool:
    """Whether the shard has a sound record, a file of the size it states, and no journal. (`open` mends the rest.)"""
    return not _journal_path(Path(folder), name).exists() and _whole_record(Path(folder), name) is not None


def forget_shard(folder: str | Path, name: str) -> None:
    """Take a finished shard's record away, so that it counts as missing and is made again over the old file.

    Raises ShardBusy where a process is at work on it.
    """
    journal = Journal(_journal_path(Path(folder), name), name, 0)
    try:
        record_path(folder, name).unlink(missing_ok=True)
        sync(Path(folder))
        journal.remove()
    finally:
        journal.close()


def _part_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.tar.part"


def _journal_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.journal"


def _whole_record(folder: Path, name: str) -> ShardRecord | None:
    """The record, if it is sound and its file has the size that it states; else None."""
    try:
        record = read_record(folder, name)
        return record if shard_path(folder, name).stat().st_size == record.bytes else None
    except (ShardError, FileNotFoundError):
        return None


def _remove_leftovers(folder: Path, name: str) -> None:
    """A record that is no longer true, and the temporary ones of killed processes."""
    record_path(folder, name).unlink(missing_ok=True)
    for leftover in folder.glob(f".{name}.json.*"):
        leftover.unlink(missing_ok=True)


def _good_units(descriptor: int, units: Sequence[Unit]) -> int:
    """How many units, from the first on, have the bytes that the journal vouches for."""
    start = 0
    for unit in units:
        if _digest(descriptor, start, unit.end) != unit.sha256:
            return unit.unit
        start = unit.end
    return len(units)


def _digest(descriptor: int, start: int, end: int) -> str:
    digest = hashlib.sha256()
    while block := os.pread(descriptor, min(1 << 20, end - start), start):
        digest.update(block)
        start += len(block)
    return digest.hexdigest()

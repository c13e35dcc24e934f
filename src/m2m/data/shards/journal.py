"""The journal of a shard that is being written: which bytes are safely in the part file, and who may write it.

One JSON line says which shard this is, then one line for each unit: its number, the byte where it ends, the sha256 of
its bytes. A line counts only if it is whole and follows from the one before. The open journal carries the lock (flock),
which the system releases when the process dies, however it dies.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from m2m.data.shards.names import ShardError
from m2m.types import UserError


class ShardBusy(UserError):
    """Another process is writing this shard. Not an error of the shard: come back later."""


@dataclass(frozen=True)
class Unit:
    """One safe unit of a shard: its number, the byte where it ends, and the sha256 of its bytes."""

    unit: int
    end: int
    sha256: str

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class Journal:
    """The locked journal at `path`; `units` are those that it vouches for (their bytes are not looked at here).

    shard, count: name of the shard and number of units that it will have. A journal that states others is emptied.
    Raises ShardBusy where another process, or another writer of this one, holds it.
    """

    def __init__(self, path: Path, shard: str, count: int) -> None:
        self._path = path
        self._first = json.dumps({"shard": shard, "units": count}).encode() + b"\n"
        self._file = _locked(path)
        try:
            self.units = self._read()
            self.keep(len(self.units))
        except BaseException:  # a full disk: do not stay the owner
            self.close()
            raise

    def append(self, unit: Unit) -> None:
        """Add a line and flush it to the disk."""
        write_at(self._file, self._size, unit.line())
        self._size += len(unit.line())
        self.units.append(unit)

    def keep(self, count: int) -> None:
        """Forget all but the first `count` units, and whatever stands behind them (half a line)."""
        del self.units[count:]
        self._size = len(self._first) + sum(len(unit.line()) for unit in self.units)
        if self.units:
            write_at(self._file, self._size, b"")
        else:
            write_at(self._file, 0, self._first)

    def remove(self) -> None:
        """Delete the file; the lock is held until `close`. Does nothing after it: the file may be another's then."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _read(self) -> list[Unit]:
        """The units of the lines that are as this module writes them, up to the first that is not."""
        lines = os.pread(self._file, os.fstat(self._file).st_size, 0).splitlines(keepends=True)
        units: list[Unit] = []
        if lines[:1] != [self._first]:
            return units
        for line in lines[1:]:
            unit = _parsed(line)
            if unit is None or unit.unit != len(units) or unit.end < (units[-1].end if units else 0):
                break
            units.append(unit)
        return units


def write_at(descriptor: int, offset: int, content: bytes) -> None:
    """Cut the file at `offset`, write `content` there and flush it to the disk. May be tried again after an error."""
    os.ftruncate(descriptor, offset)
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
    os.fsync(descriptor)


def open_plain(path: Path) -> int:
    """A file for reading and writing, made if missing. A link is refused: it could lead out of the folder."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ShardError(f"'{path}' is a link; remove it, shards are written to plain files only") from error
        raise


def _locked(path: Path) -> int:
    """The file, opened and locked. A process that is forked while this one writes shares the lock; do not fork then."""
    import fcntl  # not on Windows, where shards can be read all the same

    while True:
        descriptor = open_plain(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise ShardBusy(f"'{path.stem}' is being written by another process (it holds '{path}')") from error
        except OSError as error:
            os.close(descriptor)
            raise UserError(f"'{path}' cannot be locked ({error.strerror}); write shards where flock works") from error
        os.close(descriptor)  # its former holder finished and removed it in between: open the new one


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one that has this name."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _parsed(line: bytes) -> Unit | None:
    try:
        unit = Unit(**json.loads(line))
        return unit if unit.line() == line and isinstance(unit.end, int) else None
    except (ValueError, TypeError, RecursionError):
        return None

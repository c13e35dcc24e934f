"""Sorting rows by id, and finding duplicates, in a fixed amount of memory however many there are.

Rows are spread over 256 files by the first byte of their id. Each file is then sorted alone; one with too many rows for
that is spread again, by the next byte. A duplicate has the same id, hence lies in the same file.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

FILES = 256
# Bytes of rows that are sorted in memory at once, and what a row takes beside its text.
SORTED_AT_ONCE = 32 << 20
ROW_BYTES = 300
BUFFER = 1 << 16  # bytes of each open file: 16 MB in all
_HEAD = struct.Struct("<12sHI")  # id, tokens, bytes of the caption


class Row(NamedTuple):
    """A caption on its way to the store: its id (12 bytes), its CLIP tokens, its text in UTF-8."""

    id: bytes
    tokens: int
    text: bytes


class Partitions:
    """Rows in files of a new folder, which `close` removes. Use it as a context.

    Attributes:
        duplicates: rows that `sorted_rows` has left out because an equal one came before.
    """

    def __init__(self, folder: Path, *, depth: int = 0, sorted_at_once: int = SORTED_AT_ONCE) -> None:
        """`depth`: which byte of the id says where a row goes; `sorted_at_once`: bytes."""
        self.duplicates = 0
        self._folder = folder
        self._depth = depth
        self._sorted_at_once = sorted_at_once
        folder.mkdir()
        self._open = ExitStack()
        self._files: list[BinaryIO] = []
        for number in range(FILES):
            file = open(self._path(number), "wb", buffering=BUFFER)  # noqa: SIM115 (closed by `close`)
            self._files.append(self._open.enter_context(file))

    def __enter__(self) -> Partitions:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, row: Row) -> None:
        """Lay a row into its file."""
        self._files[row.id[self._depth]].write(_HEAD.pack(row.id, row.tokens, len(row.text)) + row.text)

    def sorted_rows(self, progress: Callable[[float], None] | None = None) -> Iterator[Row]:
        """Every different row once, by rising id. No row can be added after.

        progress: called now and then with the fraction of the rows that has been sorted.
        """
        self._open.close()
        for number in range(FILES):
            yield from self._sorted_file(self._path(number))
            self._path(number).unlink()
            if progress:
                progress((number + 1) / FILES)

    def close(self) -> None:
        """Close and remove the files."""
        self._open.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sorted_file(self, path: Path) -> Iterator[Row]:
        rows: dict[bytes, Row] = {}
        duplicates = held = 0
        for row in _read(path):
            if row.id in rows:
                duplicates += 1
                continue
            rows[row.id] = row
            held += len(row.text) + ROW_BYTES
            if held > self._sorted_at_once:
                rows.clear()
                yield from self._spread_again(path)
                return
        self.duplicates += duplicates
        yield from (rows[key] for key in sorted(rows))

    def _spread_again(self, path: Path) -> Iterator[Row]:
        folder = path.with_suffix(".parts")
        with Partitions(folder, depth=self._depth + 1, sorted_at_once=self._sorted_at_once) as parts:
            for row in _read(path):
                parts.add(row)
            yield from parts.sorted_rows()
            self.duplicates += parts.duplicates

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:02x}.rows"


def _read(path: Path) -> Iterator[Row]:
    with open(path, "rb") as file:
        while head := file.read(_HEAD.size):
            key, tokens, length = _HEAD.unpack(head)
            yield Row(key, tokens, file.read(length))

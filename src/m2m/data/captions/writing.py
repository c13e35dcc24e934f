"""Writing the parquet files of a captions folder, a row group at a time."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any

from m2m.checkpoint import sha256_of_files
from m2m.data.captions.partitions import Row
from m2m.data.captions.store import COLUMNS, GROUP_ROWS, import_parquet

# Rows of a file, 50 to 100 MB; a whole number of row groups.
FILE_ROWS = 256 * GROUP_ROWS


class SplitWriter:
    """Writes one split's rows, which come by rising id, as SPLIT-00000.parquet and so on. Use it as a context."""

    def __init__(self, folder: Path, split: str, longest: int, file_rows: int = FILE_ROWS) -> None:
        """`longest`: the most tokens a caption can have; `file_rows`: rows of a file, a multiple of GROUP_ROWS."""
        self._folder, self._split, self._file_rows = folder, split, file_rows
        self._pyarrow, self._parquet = import_parquet()
        text = self._pyarrow.string()
        self._schema = self._pyarrow.schema(zip(COLUMNS, (text, text, self._pyarrow.int16()), strict=True))
        self._writer: Any = None
        self._rows: list[Row] = []
        self._files: list[dict[str, Any]] = []
        self._ids = hashlib.sha256()
        self._lengths = [0] * (longest + 1)

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._close()

    def add(self, row: Row) -> None:
        """Take the next row."""
        self._rows.append(row)
        if len(self._rows) == GROUP_ROWS:
            self._flush()

    def record(self) -> dict[str, Any]:
        """What the summary says of the split; call it when the context has ended.

        `digest` is a sha256 over the ids in their order, each followed by a line feed; `token_lengths[n]` counts the
        captions of n tokens.
        """
        for file in self._files:
            path = self._folder / file["name"]
            file |= {"bytes": path.stat().st_size, "sha256": sha256_of_files([path])}
        count = sum(file["rows"] for file in self._files)
        digest = self._ids.hexdigest()
        return {"count": count, "digest": digest, "files": self._files, "token_lengths": self._lengths}

    def _flush(self) -> None:
        """Write the rows that wait as one row group, and begin a new file where the last one is full."""
        if not self._rows:
            return
        if self._writer is None:
            self._start_file()
        ids = [row.id.hex() for row in self._rows]
        tokens = [row.tokens for row in self._rows]
        columns = (ids, [row.text.decode() for row in self._rows], tokens)
        arrays = [self._pyarrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(self._pyarrow.Table.from_arrays(arrays, schema=self._schema), GROUP_ROWS)
        self._ids.update("".join(f"{key}\n" for key in ids).encode())
        for length in tokens:
            self._lengths[length] += 1
        self._files[-1]["rows"] += len(self._rows)
        self._rows = []
        if self._files[-1]["rows"] >= self._file_rows:
            self._close()

    def _start_file(self) -> None:
        name = f"{self._split}-{len(self._files):05d}.parquet"
        self._files.append({"name": name, "rows": 0})
        # No dictionary: nearly all values differ. Check sums let a reader see a damaged page.
        self._writer = self._parquet.ParquetWriter(
            self._folder / name, self._schema, compression="zstd", use_dictionary=False, write_page_checksum=True
        )

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

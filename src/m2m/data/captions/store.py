"""The folder that `m2m data captions` leaves: captions of three splits, each in the order of the captions' ids.

    train-00000.parquet, train-00001.parquet, ..., validation-00000.parquet, test-00000.parquet
        columns id (string), caption (string), tokens (int16: token ids of CLIP, start and end included)
    summary.json    what was read, what was left out and why, the splits; written last, as the mark of a whole folder

An id is a hash of the caption's text. Ids are therefore uniform, and captions in the order of their ids are shuffled.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.checkpoint import read_json
from m2m.types import UserError

SUMMARY = "summary.json"
SPLITS = ("train", "validation", "test")
VERSION = 1
GROUP_ROWS = 4096  # rows of a row group, which is what a reader decodes at once
COLUMNS = ("id", "caption", "tokens")
ID_BYTES = 12
# Row groups that stay decoded, some 2 MB each: a factory reads one shard's captions after another's.
KEPT_GROUPS = 4


@dataclass(frozen=True)
class CaptionRow:
    """One caption: its id (24 hexadecimal digits), its text, and how many CLIP tokens it has (start and end too)."""

    id: str
    caption: str
    tokens: int


def caption_id(caption: str) -> str:
    """The id of a caption: 24 hexadecimal digits that follow from its text alone."""
    return hashlib.blake2b(caption.encode(), digest_size=ID_BYTES).hexdigest()


class CaptionStore:
    """A finished folder of captions. Get it with `CaptionStore.open(folder)`.

    Attributes:
        folder: where it lies.
        summary: the content of its summary.json.
    """

    def __init__(self, folder: Path, summary: dict[str, Any]) -> None:
        self.folder = folder
        self.summary = summary
        self._groups: OrderedDict[tuple[str, int], list[CaptionRow]] = OrderedDict()

    @classmethod
    def open(cls, path: str | Path) -> CaptionStore:
        """Open a folder. UserError: it is missing or unfinished, or a file of it is missing or of another length."""
        store = cls(Path(path), read_summary(path))
        store._check_files()
        return store

    def count(self, split: str) -> int:
        """How many captions a split has. UserError: there is no such split."""
        return int(self._split(split)["count"])

    def digest(self, split: str) -> str:
        """sha256 (hex) over the split's ids in their order, each followed by a line feed. UserError: no such split."""
        return str(self._split(split)["digest"])

    def rows(self, split: str, start: int, stop: int) -> list[CaptionRow]:
        """The captions start, start + 1, ..., stop - 1 of a split, in the order of their ids.

        Raises UserError for a range that the split does not have, and for a file that is damaged.
        """
        if not 0 <= start <= stop <= self.count(split):
            raise UserError(f"captions {start}:{stop} of '{split}' in '{self.folder}': it has {self.count(split)}")
        rows: list[CaptionRow] = []
        first = 0
        for file in self._split(split)["files"]:
            rows += self._file_rows(file, max(start - first, 0), min(stop - first, file["rows"]))
            first += file["rows"]
        return rows

    def _file_rows(self, file: dict[str, Any], start: int, stop: int) -> list[CaptionRow]:
        rows: list[CaptionRow] = []
        while start < stop:
            group, offset = divmod(start, GROUP_ROWS)
            part = self._group(file, group)[offset : offset + stop - start]
            rows += part
            start += len(part)
        return rows

    def _group(self, file: dict[str, Any], group: int) -> list[CaptionRow]:
        """A row group of a file, decoded; the last few are kept."""
        key = (file["name"], group)
        if key not in self._groups:
            self._groups[key] = self._read_group(file, group)
        self._groups.move_to_end(key)
        while len(self._groups) > KEPT_GROUPS:
            self._groups.popitem(last=False)
        return self._groups[key]

    def _read_group(self, file: dict[str, Any], group: int) -> list[CaptionRow]:
        path = self.folder / file["name"]
        pyarrow, parquet = import_parquet()
        try:
            with parquet.ParquetFile(path, page_checksum_verification=True) as opened:
                columns = opened.read_row_group(group, columns=list(COLUMNS)).to_pydict()
            rows = [CaptionRow(*row) for row in zip(*(columns[name] for name in COLUMNS), strict=True)]
        except (pyarrow.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
            raise UserError(f"captions file '{path}' cannot be read: {str(error).splitlines()[0]}") from error
        if len(rows) != min(GROUP_ROWS, file["rows"] - group * GROUP_ROWS):
            raise UserError(f"captions file '{path}' does not have the rows that {SUMMARY} says; make the folder again")
        # An id that is not its caption's would give a set the seeds, and the name, of another.
        for row in rows:
            if caption_id(row.caption) != row.id:
                raise UserError(f"captions file '{path}' is damaged: id {row.id} does not fit its caption")
        return rows

    def _split(self, split: str) -> dict[str, Any]:
        if split not in SPLITS:
            raise UserError(f"captions have no split '{split}'; there are {', '.join(SPLITS)}")
        found: dict[str, Any] = self.summary["splits"][split]
        return found

    def _check_files(self) -> None:
        """UserError unless all files lie there, as long as they were written."""
        for split in SPLITS:
            for file in self._split(split)["files"]:
                path = self.folder / file["name"]
                if not path.is_file() or path.stat().st_size != file["bytes"]:
                    raise UserError(f"captions file '{path}' is missing or damaged; run `m2m data captions` again")


def read_summary(path: str | Path) -> dict[str, Any]:
    """The summary of a captions folder. UserError: there is none, or it is of another kind or version."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"captions folder '{folder}' does not exist; `m2m data captions` makes one")
    if not (folder / SUMMARY).is_file():
        raise UserError(f"'{folder}' has no {SUMMARY}: it is no captions folder; `m2m data captions` makes one")
    summary = read_json(folder / SUMMARY)
    if (
        not isinstance(summary, dict)
        or summary.get("version") != VERSION
        or not summary.keys() >= {"settings", "splits"}
    ):
        raise UserError(
            f"'{folder / SUMMARY}' is no summary of captions in version {VERSION}; run `m2m data captions` again"
        )
    return summary


def import_parquet() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. UserError: pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("captions need pyarrow: pip install 'm2m-diffusion[data]'") from error
    return pyarrow, pyarrow.parquet

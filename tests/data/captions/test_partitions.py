"""Rows come back sorted, each once, out of any number of files."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest

from m2m.data.captions.partitions import Partitions, Row


def row(number: int, start: bytes = b"") -> Row:
    """A row whose id begins with `start`."""
    text = f"caption number {number} – with a dash".encode()
    return Row(start + hashlib.blake2b(text, digest_size=12 - len(start)).digest(), 2 + number % 75, text)


@pytest.mark.parametrize("start", [b"", b"\x07", b"\xff\x00"])
def test_rows_are_sorted_and_repetitions_counted(tmp_path: Path, start: bytes) -> None:
    """Ids that begin alike fill one file, which is spread again, once or twice: a row lost there would go unseen."""
    rows = [row(number, start) for number in range(500)]
    with Partitions(tmp_path / "rows", sorted_at_once=50_000) as parts:
        for each in rows + rows[:70]:
            parts.add(each)
        assert list(parts.sorted_rows()) == sorted(rows)
        assert parts.duplicates == 70
    assert list(tmp_path.iterdir()) == []


def test_one_caption_a_hundred_thousand_times(tmp_path: Path) -> None:
    """Repetitions cannot be spread by any byte; counted as rows to hold, they would be spread without end."""
    with Partitions(tmp_path / "rows", sorted_at_once=2000) as parts:
        for _ in range(100_000):
            parts.add(row(1))
        assert list(parts.sorted_rows()) == [row(1)]
        assert parts.duplicates == 99_999


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """A list of all rows would pass every other test, and fail at twelve million."""
    peaks = []
    for count in (20_000, 80_000):  # 7 and 28 MB as objects
        with Partitions(tmp_path / "rows") as parts:
            for number in range(count):
                parts.add(row(number))
            tracemalloc.start()
            assert sum(1 for _ in parts.sorted_rows()) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20), peaks


def test_files_are_removed_after_an_error(tmp_path: Path) -> None:
    """A run that fails would leave gigabytes behind."""
    with pytest.raises(RuntimeError), Partitions(tmp_path / "rows") as parts:
        parts.add(row(1))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []

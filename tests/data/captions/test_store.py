"""The folder of captions: what was written is read back, wherever a row lies, and damage is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m2m.checkpoint import read_json, write_json
from m2m.data.captions.partitions import Row
from m2m.data.captions.store import GROUP_ROWS, VERSION, CaptionRow, CaptionStore, caption_id
from m2m.data.captions.writing import SplitWriter
from m2m.types import UserError

COUNT = 3 * GROUP_ROWS + 77


@pytest.fixture(scope="module")
def rows() -> list[CaptionRow]:
    texts = [f"caption {number}, schön" for number in range(COUNT)]
    return sorted(
        (CaptionRow(caption_id(text), text, 2 + i % 70) for i, text in enumerate(texts)), key=lambda row: row.id
    )


def store_of(folder: Path, rows: list[CaptionRow]) -> CaptionStore:
    """A store whose train split lies in files of two row groups each."""
    splits = {}
    for split, part in (("train", rows), ("validation", []), ("test", rows[:5])):
        with SplitWriter(folder, split, longest=77, file_rows=2 * GROUP_ROWS) as writer:
            for row in part:
                writer.add(Row(bytes.fromhex(row.id), row.tokens, row.caption.encode()))
        splits[split] = writer.record()
    write_json(folder / "summary.json", {"version": VERSION, "settings": {}, "splits": splits})
    return CaptionStore.open(folder)


def damaged(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        CaptionStore.open(folder).rows("train", 0, 1)
    return str(caught.value)


def test_rows_are_found_across_groups_and_files(tmp_path: Path, rows: list[CaptionRow]) -> None:
    """An error of one at a border gives a set another's caption, or leaves one out."""
    store = store_of(tmp_path, rows)
    assert [path.name for path in sorted(tmp_path.glob("train*"))] == ["train-00000.parquet", "train-00001.parquet"]
    assert store.rows("train", 0, COUNT) == rows
    for start in (0, 1, GROUP_ROWS - 1, GROUP_ROWS, 2 * GROUP_ROWS - 1, 2 * GROUP_ROWS, COUNT - 2, COUNT):
        for stop in (start, start + 1, start + 3, start + GROUP_ROWS, COUNT):
            if start <= stop <= COUNT:
                assert store.rows("train", start, stop) == rows[start:stop]


def test_counts_and_digests(tmp_path: Path, rows: list[CaptionRow]) -> None:
    """The digest is what a data set is known by: it must follow from the ids alone, and be easy to check."""
    store = store_of(tmp_path, rows)
    assert [store.count(split) for split in ("train", "validation", "test")] == [COUNT, 0, 5]
    expected = hashlib.sha256("".join(f"{row.id}\n" for row in rows).encode()).hexdigest()
    assert store.digest("train") == expected
    assert store.digest("validation") == hashlib.sha256().hexdigest()
    assert store.rows("validation", 0, 0) == []
    histogram = store.summary["splits"]["train"]["token_lengths"]
    assert histogram == [sum(row.tokens == length for row in rows) for length in range(78)]


def test_an_id_is_a_hash_of_the_text() -> None:
    """Shards and seeds are named by it: it may never change."""
    assert caption_id("a photo of a cat") == hashlib.blake2b(b"a photo of a cat", digest_size=12).hexdigest()
    assert caption_id("a photo of a cat") == "24df664ac98062654cbf9303"


def test_the_files_are_plain_parquet(tmp_path: Path, rows: list[CaptionRow]) -> None:
    """Others read the folder without this project."""
    store_of(tmp_path, rows)
    table = pq.read_table(tmp_path / "train-00001.parquet")
    assert [f"{field.name}: {field.type}" for field in table.schema] == [
        "id: string",
        "caption: string",
        "tokens: int16",
    ]
    assert table.to_pylist()[0] == vars(rows[2 * GROUP_ROWS])


def test_a_range_or_split_that_is_not_there(tmp_path: Path, rows: list[CaptionRow]) -> None:
    """A slice that quietly ends early would leave the last sets out."""
    store = store_of(tmp_path, rows[:10])
    for start, stop in ((0, 11), (-1, 3), (4, 3), (10, 12)):
        with pytest.raises(UserError, match="it has 10"):
            store.rows("train", start, stop)
    with pytest.raises(UserError, match="there are train, validation, test"):
        store.count("training")


def test_a_folder_that_is_none(tmp_path: Path, rows: list[CaptionRow]) -> None:
    """Missing, unfinished, of another kind, of a later version: each one clear line."""
    with pytest.raises(UserError, match="does not exist"):
        CaptionStore.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no summary"):
        CaptionStore.open(tmp_path)
    store_of(tmp_path, rows[:10])
    for content in ([], {}, {"version": VERSION}, {**read_json(tmp_path / "summary.json"), "version": VERSION + 1}):
        write_json(tmp_path / "summary.json", content)
        assert "no summary of captions" in damaged(tmp_path)


def test_damaged_files_are_named(tmp_path: Path, rows: list[CaptionRow]) -> None:
    """Bytes all over the file are turned: what comes out is the true captions or an error, never another text."""
    store_of(tmp_path, rows[:50])
    path = tmp_path / "train-00000.parquet"
    whole = path.read_bytes()
    found = 0
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert CaptionStore.open(tmp_path).rows("train", 0, 50) == rows[:50]
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            found += 1
    assert found > len(whole) / 13 / 2
    path.write_bytes(whole[:-1])
    assert "missing or damaged" in damaged(tmp_path)
    path.unlink()
    assert "missing or damaged" in damaged(tmp_path)


def test_a_caption_that_does_not_fit_its_id_is_found(tmp_path: Path, rows: list[CaptionRow]) -> None:
    """A file of another folder put in its place: as long, whole, and wrong."""
    swapped = [CaptionRow(one.id, two.caption, one.tokens) for one, two in zip(rows[:10], rows[1:11], strict=True)]
    store_of(tmp_path, swapped)
    assert "does not fit its caption" in damaged(tmp_path)

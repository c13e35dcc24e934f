"""From files to splits: what is kept, what is left out and why, and the same splits however the captions come."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from m2m.data.captions import sift, store
from m2m.data.captions.sift import SiftConfig, sift_captions
from m2m.data.captions.sources import read_captions
from m2m.data.captions.store import CaptionRow, CaptionStore, caption_id
from m2m.data.captions.tokens import ClipTokenCounter
from m2m.types import UserError

CC12M_FORM = Path(__file__).parent / "cc12m_form.tsv"
SMALL = SiftConfig(test=50, validation=20)


def sifted(out: Path, *inputs: Path | str, config: SiftConfig = SMALL) -> CaptionStore:
    return sift_captions([str(name) for name in inputs], out, config)


def refused(out: Path, *inputs: Path | str, config: SiftConfig = SMALL) -> str:
    with pytest.raises(UserError) as caught:
        sifted(out, *inputs, config=config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def all_rows(folder: CaptionStore) -> dict[str, list[CaptionRow]]:
    return {split: folder.rows(split, 0, folder.count(split)) for split in store.SPLITS}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CaptionStore:
    return sifted(tmp_path_factory.mktemp("made") / "captions", CC12M_FORM)


def test_the_file_in_cc12m_form(made: CaptionStore) -> None:
    """Every line is in a split or counted with its reason, and each reason is counted rightly."""
    summary = made.summary
    assert summary["read"] == 748
    assert summary["rejected"] == {
        "duplicate": 3,
        "empty": 3,
        "no_tab": 1,
        "not_utf8": 3,
        "nul": 1,
        "too_long": 3,
    }
    assert summary["kept"] == 748 - 14 == sum(made.count(split) for split in store.SPLITS)
    assert summary["sources"][0]["name"] == "cc12m_form.tsv" and summary["sources"][0]["read"] == 748


def test_splits_are_the_first_ids_and_the_rest(made: CaptionStore) -> None:
    """Computed once more, the slow and plain way: one caption in two splits would leak the test set into training."""
    captions = {caption.text for caption in read_captions(CC12M_FORM) if caption.reason is None}
    counts = dict(zip(captions, ClipTokenCounter().counts(list(captions)), strict=True))
    rows = sorted((caption_id(text), text, tokens) for text, tokens in counts.items() if tokens <= 77)
    expected = [CaptionRow(*row) for row in rows]
    assert all_rows(made) == {"train": expected[70:], "validation": expected[50:70], "test": expected[:50]}
    lengths = made.summary["splits"]["train"]["token_lengths"]
    assert len(lengths) == 78 and sum(lengths) == len(expected) - 70 and lengths[77] > 0


def test_the_limit_is_the_last_length_that_is_kept(tmp_path: Path) -> None:
    """77 tokens fill the text encoder; 78 do not fit."""
    captions = [" ".join(["cat"] * count) for count in (74, 75, 76)]
    (tmp_path / "a.txt").write_text("\n".join(captions))
    kept = sifted(tmp_path / "out", tmp_path / "a.txt", config=SiftConfig(test=0))
    assert sorted(row.tokens for row in all_rows(kept)["train"]) == [76, 77]
    kept = sifted(tmp_path / "out2", tmp_path / "a.txt", config=SiftConfig(max_tokens=76, test=0))
    assert [row.tokens for row in all_rows(kept)["train"]] == [76]
    assert kept.summary["rejected"] == {"too_long": 2}


def test_order_and_files_do_not_matter(tmp_path: Path, made: CaptionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve files shuffled, packed, and counted in batches of another size: the splits are the same to the byte."""
    lines = CC12M_FORM.read_bytes().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    (tmp_path / "a.tsv").write_bytes(b"".join(lines[:300]))
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"".join(lines[300:] + lines[:100])))
    monkeypatch.setattr(sift, "BATCH", 7)
    other = sifted(tmp_path / "out", tmp_path / "b.tsv.gz", tmp_path / "a.tsv")
    parquet = {name for name in bytes_of(made.folder) if name.endswith(".parquet")}
    assert len(parquet) == 3
    assert {name: bytes_of(other.folder)[name] for name in parquet} == {
        name: bytes_of(made.folder)[name] for name in parquet
    }


def test_repetitions_are_found_across_files(tmp_path: Path) -> None:
    """The same caption in two files is one set, not two."""
    (tmp_path / "a.txt").write_text("a cat\nan owl\na cat\n")
    (tmp_path / "b.tsv").write_text("u1\tan owl \nu2\ta dog\n")
    kept = sifted(tmp_path / "out", tmp_path / "a.txt", tmp_path / "b.tsv", config=SiftConfig(test=1))
    assert sorted(row.caption for rows in all_rows(kept).values() for row in rows) == ["a cat", "a dog", "an owl"]
    assert kept.summary["rejected"] == {"duplicate": 2}


def test_the_tiny_world_is_sifted(tmp_path: Path) -> None:
    """Its captions go the same way as files, alone and beside them."""
    kept = sifted(tmp_path / "out", "world:mini:train:300", CC12M_FORM)
    assert [source["name"] for source in kept.summary["sources"]] == ["world:mini:train:300", "cc12m_form.tsv"]
    assert (kept.summary["read"], kept.summary["kept"]) == (748 + 300, 748 - 14 + 300)


def test_a_finished_folder_is_left_as_it_is(tmp_path: Path) -> None:
    """Running a recipe twice must cost nothing, and must not change what shards were made of."""
    first = sifted(tmp_path / "out", CC12M_FORM)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    (tmp_path / "moved.tsv").write_bytes(CC12M_FORM.read_bytes())
    called: list[str] = []
    sift_captions([str(tmp_path / "moved.tsv")], tmp_path / "out", SMALL, lambda stage, done: called.append(stage))
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    assert called == []


def test_a_folder_of_other_captions_is_refused(tmp_path: Path) -> None:
    """It says which setting differs; the folder stays."""
    made = sifted(tmp_path / "out", CC12M_FORM)
    before = bytes_of(made.folder)
    assert "test is 50, not 51" in refused(tmp_path / "out", CC12M_FORM, config=SiftConfig(test=51, validation=20))
    message = refused(tmp_path / "out", CC12M_FORM, config=SiftConfig(max_tokens=50, test=50, validation=0))
    assert "max_tokens is 77, not 50, validation is 20, not 0" in message
    (tmp_path / "a.tsv").write_bytes(CC12M_FORM.read_bytes() + b"u\tone more\n")
    assert "the sources are others" in refused(tmp_path / "out", tmp_path / "a.tsv")
    assert bytes_of(made.folder) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """A slip in --out must not remove anybody's files."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert "is not empty" in refused(tmp_path / "out", CC12M_FORM)
    (tmp_path / "out" / "summary.json").write_text('{"settings": {}}')
    assert "no summary of captions" in refused(tmp_path / "out", CC12M_FORM)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    assert "is a file" in refused(tmp_path / "out" / "thesis.tex", CC12M_FORM)


def test_a_damaged_folder_is_made_again(tmp_path: Path) -> None:
    """A lost file is mended by the same command, to the same bytes; whoever put a file of his own there keeps it."""
    made = sifted(tmp_path / "out", CC12M_FORM)
    before = bytes_of(made.folder)
    (made.folder / "train-00000.parquet").write_bytes(b"")
    (made.folder / "test-00000.parquet").unlink()
    (made.folder / "notes.txt").write_text("of mine")
    assert "first move 'notes.txt' out" in refused(tmp_path / "out", CC12M_FORM)
    (made.folder / "notes.txt").unlink()
    sifted(tmp_path / "out", CC12M_FORM)
    assert bytes_of(made.folder) == before


def test_nothing_is_left_of_a_run_that_fails(tmp_path: Path) -> None:
    """Half a folder would look like a whole one; what a killed run left is cleared by the next."""
    whole = gzip.compress(CC12M_FORM.read_bytes())
    (tmp_path / "cut.tsv.gz").write_bytes(whole[: len(whole) // 2])
    leftover = tmp_path / ".out.0123abcd.partial"
    (leftover / "rows").mkdir(parents=True)
    assert "'" + str(tmp_path / "cut.tsv.gz") + "' is broken or cut off" in refused(
        tmp_path / "out", CC12M_FORM, tmp_path / "cut.tsv.gz"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["cut.tsv.gz"]


def test_inputs_are_looked_at_before_any_work(tmp_path: Path) -> None:
    """A typing error in the last of ten names must not show after an hour."""
    called: list[str] = []
    with pytest.raises(UserError, match="does not exist"):
        sift_captions([str(CC12M_FORM), "nowhere.tsv"], tmp_path / "out", SMALL, lambda *seen: called.append(seen[0]))
    assert called == []
    with pytest.raises(UserError, match="at least one file"):
        sifted(tmp_path / "out")


def test_too_few_captions(tmp_path: Path) -> None:
    """A test split smaller than asked for, or no training captions at all, without a word."""
    (tmp_path / "a.txt").write_text("a cat\nan owl\n\n" + "cat " * 90)
    message = refused(tmp_path / "out", tmp_path / "a.txt", config=SiftConfig(test=2, validation=1))
    assert "2 captions are left of 4 lines, 1 empty, 1 too_long; test and validation ask for 3" in message
    (tmp_path / "b.txt").write_text("a cat\na cat\n")
    assert "1 captions are left" in refused(tmp_path / "out", tmp_path / "b.txt", config=SiftConfig(test=2))
    (tmp_path / "c.tsv").write_text("a cat\nan owl\n")
    assert "0 captions are left of 2 lines, 2 no_tab" in refused(tmp_path / "out", tmp_path / "c.tsv")
    assert not (tmp_path / "out").exists()
    everything = sifted(tmp_path / "out", tmp_path / "a.txt", config=SiftConfig(test=1, validation=1))
    assert [everything.count(split) for split in store.SPLITS] == [0, 1, 1]


@pytest.mark.parametrize("settings", [{"max_tokens": 2}, {"max_tokens": 40_000}, {"test": -1}, {"validation": -1}])
def test_settings_that_cannot_be(settings: dict[str, int]) -> None:
    """40,000 tokens do not fit the column, and a negative count would slice from the wrong end."""
    with pytest.raises(UserError):
        SiftConfig(**settings)


def test_a_place_that_cannot_be_written() -> None:
    """One line, not the traceback of a system call."""
    assert "cannot be written" in refused(Path("/proc/captions"), CC12M_FORM)


def test_progress_goes_from_reading_to_sorting(tmp_path: Path) -> None:
    """A bar that jumps back, or stays at none for an hour."""
    seen: list[tuple[str, float]] = []
    sift_captions([str(CC12M_FORM)] * 2, tmp_path / "out", SMALL, lambda stage, done: seen.append((stage, done)))
    assert [stage for stage, _ in seen] == sorted(stage for stage, _ in seen)
    for stage in ("reading", "sorting"):
        fractions = [done for name, done in seen if name == stage]
        assert fractions == sorted(fractions) and fractions[-1] >= 0.5
    assert seen[-1] == ("sorting", 1.0)


def test_the_summary_is_plain_json(made: CaptionStore) -> None:
    """It says nothing of this machine: no path, no time."""
    text = (made.folder / "summary.json").read_text(encoding="utf-8")
    assert json.loads(text) == made.summary
    assert str(CC12M_FORM.parent) not in text and str(made.folder) not in text

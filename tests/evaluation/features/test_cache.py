"""The cache of features: nothing is made twice, nothing wrong is given back, and several may write."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path

import pytest
import torch
from torch import Tensor

from m2m.evaluation.features.cache import BATCH, FeatureCache
from m2m.evaluation.features.extractor import BatchedExtractor, Features
from m2m.types import UserError
from tests.evaluation.features.drawings import drawings


class Counting(BatchedExtractor):
    """Means and deviations of colour; counts the pictures that it was given."""

    name, dim = "counting", 3

    def __init__(self, identity: str = "counting:1", classes: int = 3) -> None:
        self.identity, self.classes, self.seen = identity, classes, 0

    def extract_batch(self, pictures: Tensor) -> Features:
        self.seen += len(pictures)
        values = pictures.float()
        return Features(values.mean((1, 2)), values.std((1, 2)) if self.classes else None)


def equal(found: Features, wanted: Features) -> bool:
    assert found.logits is not None and wanted.logits is not None
    return torch.equal(found.embeddings, wanted.embeddings) and torch.equal(found.logits, wanted.logits)


def test_what_is_known_is_not_made_again(tmp_path: Path) -> None:
    """Guards against hours of features made anew in the second run, and against rows in another order."""
    pictures = drawings(5)
    wanted = Counting().extract(pictures)
    first, second = Counting(), Counting()
    assert equal(FeatureCache(tmp_path, first).features(pictures[:3]), Features(*(own[:3] for own in both(wanted))))
    assert equal(
        FeatureCache(tmp_path, second).features(pictures.flip(0)), Features(*(own.flip(0) for own in both(wanted)))
    )
    assert (first.seen, second.seen) == (3, 2)


def both(features: Features) -> tuple[Tensor, Tensor]:
    assert features.logits is not None
    return features.embeddings, features.logits


def test_equal_pictures_of_one_call_are_made_once(tmp_path: Path) -> None:
    """Guards against ten times the work for ten copies of one image, and a copy that is given another's features."""
    extractor, pictures = Counting(), drawings(2)
    found = FeatureCache(tmp_path, extractor).features(pictures[[1, 0, 1, 1]])
    assert extractor.seen == 2
    assert equal(found, Counting().extract(pictures[[1, 0, 1, 1]]))


def test_more_pictures_than_one_batch_and_one_query(tmp_path: Path) -> None:
    """Guards against a query with more keys than SQLite takes, and a batch that is left out."""
    pictures = torch.arange(1200 * 12).view(1200, 2, 2, 3).remainder(251).to(torch.uint8)
    cache = FeatureCache(tmp_path, Counting())
    assert equal(cache.features(pictures), Counting().extract(pictures))
    assert equal(cache.features(pictures), Counting().extract(pictures))


def test_no_pictures_and_no_logits(tmp_path: Path) -> None:
    """Guards against a crash at an empty set, and against logits of zero classes for an extractor that has none."""
    cache = FeatureCache(tmp_path, Counting(classes=0))
    assert cache.features(drawings(2)).logits is None
    assert cache.features(drawings(2)[:0]).embeddings.shape == (0, 3)


def test_the_extractor_the_shape_and_the_bytes_make_the_key(tmp_path: Path) -> None:
    """Guards against features of another network, or of the same bytes read as rows of another width."""
    pictures = drawings(1, size=8)
    FeatureCache(tmp_path, Counting()).features(pictures)
    other, same = Counting("counting:2"), Counting()
    FeatureCache(tmp_path, other).features(pictures)
    FeatureCache(tmp_path, same).features(pictures.reshape(1, 4, 16, 3))
    assert other.seen == same.seen == 1


class Dying(Counting):
    """Counts, and is killed in its second batch."""

    def extract_batch(self, pictures: Tensor) -> Features:
        if self.seen >= BATCH:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract_batch(pictures)


def _fill(folder: Path, extractor: Counting, count: int) -> None:
    cache = FeatureCache(folder, extractor)
    for part in drawings(count, size=16).split(7):
        cache.features(part)


def test_a_killed_process_loses_its_batch_at_most(tmp_path: Path) -> None:
    """Guards against one transaction for a whole run, and a file that cannot be opened after a kill."""
    process = multiprocessing.get_context("fork").Process(target=_fill, args=(tmp_path, Dying(), 2 * BATCH))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    survivor = Counting()
    _fill(tmp_path, survivor, 2 * BATCH)
    assert survivor.seen <= BATCH


def test_several_processes_may_write_at_once(tmp_path: Path) -> None:
    """Guards against "database is locked" where the ranks of a run open and fill one cache in the same moment."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(tmp_path, Counting(), 60)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    after = Counting()
    _fill(tmp_path, after, 60)
    assert after.seen == 0


def damaged(path: Path, where: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(where)] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Guards against a wrong feature that nobody ever doubts: SQLite has no checksums of its own."""
    cache = FeatureCache(tmp_path, Counting())
    found = cache.features(drawings(1))
    cache.close()
    damaged(cache.path, found.embeddings.numpy().tobytes())
    with pytest.raises(UserError, match="is damaged or no feature cache .*delete it"):
        FeatureCache(tmp_path, Counting()).features(drawings(1))


def test_a_file_that_is_no_cache_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Guards against a traceback of sqlite3, and against a table of ours in somebody else's database."""
    path = FeatureCache(tmp_path / "own", Counting()).path
    foreign = tmp_path / path.name
    foreign.write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match=f"'{foreign}' is damaged or no feature cache"):
        FeatureCache(tmp_path, Counting())
    foreign.unlink()
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE addresses (name TEXT)")
    before = foreign.read_bytes()
    with pytest.raises(UserError, match="is no feature cache of version 1"):
        FeatureCache(tmp_path, Counting())
    assert foreign.read_bytes() == before

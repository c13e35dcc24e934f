"""Reading a dataset as training does, through a real DataLoader, and comparing what comes."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from m2m.data.reading.image_set import ImageSetBatch
from m2m.data.reading.order import Cursor, OrderConfig
from m2m.data.reading.sets import SetData


def load(
    dataset: SetData, batches: int | None = None, workers: int = 0, start: Cursor | None = None, **config: Any
) -> list[ImageSetBatch]:
    """Batches through a real DataLoader."""
    order = dataset.order(OrderConfig(**{"batch_sets": 6, "shuffle": 6, **config}), start)
    loader = DataLoader(dataset, sampler=order, batch_size=None, num_workers=workers)
    return list(islice(loader, batches))


def seen(batches: list[ImageSetBatch]) -> list[tuple[str, list[int]]]:
    """Key and image numbers of every set that was read."""
    return [(key, row.tolist()) for batch in batches for key, row in zip(batch.keys, batch.numbers, strict=True)]


def same(one: ImageSetBatch, other: ImageSetBatch) -> bool:
    assert one.images is not None and other.images is not None
    names = (one.keys, one.captions, one.epochs, one.cursor) == (other.keys, other.captions, other.epochs, other.cursor)
    return names and torch.equal(one.numbers, other.numbers) and torch.equal(one.images, other.images)

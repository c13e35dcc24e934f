"""The order in which a run reads image sets, and the cursor from which it goes on.

An epoch reads every set once: the shards in an order drawn from (seed, epoch), and within blocks of `shuffle` sets of
that row another order, so that a block needs a few open shards and no more. Place p of this order is a pure function of
(seed, epoch, p), known to every rank alike. Place p goes to rank p % ranks, so that a global batch holds the same sets
at any number of ranks. A batch carries the cursor that lies behind it: what a DataLoader has read ahead does not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from m2m.types import UserError

# Without a shuffle the order is still worked out in blocks, of this many places.
UNSHUFFLED_BLOCK = 1000


@dataclass(frozen=True)
class Cursor:
    """How far a run has read: the first `position` places of epoch `epoch`, counted over all ranks.

    order: short digest of what the places mean (data, seed, shuffle); empty fits any order. JSON: `as_json`,
    `from_json`.
    """

    epoch: int = 0
    position: int = 0
    order: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Cursor:
        """What `as_json` gave. Raises UserError for anything else."""
        names = {"epoch", "position", "order"}
        if not isinstance(value, dict) or set(value) != names:
            raise UserError(f"{value!r} is no cursor: it needs {', '.join(sorted(names))} and nothing else")
        numbers = [value["epoch"], value["position"]]
        if not all(type(number) is int and number >= 0 for number in numbers) or not isinstance(value["order"], str):
            raise UserError(f"{value!r} is no cursor: epoch and position are whole numbers from 0, order is a text")
        return cls(**value)


@dataclass(frozen=True)
class Visit:
    """One set to read: its index in the data, and the epoch, from which follows which of its images are drawn."""

    index: int
    epoch: int


@dataclass(frozen=True)
class BatchPlan:
    """This rank's share of one global batch, and the cursor behind the whole of it."""

    visits: tuple[Visit, ...]
    cursor: Cursor


@dataclass(frozen=True)
class OrderConfig:
    """How sets are ordered and shared out.

    Attributes:
        batch_sets: sets of a global batch, over all ranks; a multiple of `ranks`.
        shuffle: sets of a block that is shuffled; 1 shuffles whole shards only, 0 keeps the order of the files.
        rank, ranks: which share is read here.
        epochs: stop behind so many, counted from epoch 0; None never stops. A batch may begin in one epoch and end in
            the next; only the last one of all may be short, and then ranks may get one set less, or no batch, there.
    """

    batch_sets: int
    seed: int = 0
    shuffle: int = 1000
    rank: int = 0
    ranks: int = 1
    epochs: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for what cannot be."""
        if self.ranks < 1 or not 0 <= self.rank < self.ranks:
            raise UserError(f"rank {self.rank} of {self.ranks} does not exist; ranks count from 0")
        if self.batch_sets < 1 or self.batch_sets % self.ranks:
            raise UserError(
                f"batch_sets is {self.batch_sets}, of all {self.ranks} ranks together; use a multiple of {self.ranks}"
            )
        if self.seed < 0 or self.shuffle < 0:
            raise UserError(f"seed is {self.seed} and shuffle {self.shuffle}; both are whole numbers from 0")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"epochs is {self.epochs}; use 1 or more, or None to read for ever")


class EpochPlaces:
    """The order of one epoch: set indices by place. counts: sets of every shard; sets are numbered through them."""

    def __init__(self, counts: Sequence[int], seed: int, shuffle: int, epoch: int) -> None:
        sizes = np.asarray(counts, dtype=np.int64)
        order = (
            np.arange(len(sizes)) if shuffle == 0 else np.random.default_rng((seed, 0, epoch)).permutation(len(sizes))
        )
        self._ends = np.cumsum(sizes[order])
        # What must be added to a place that lies in the k-th shard of the order to get the set's index.
        self._shifts = (np.cumsum(sizes) - sizes)[order] - (self._ends - sizes[order])
        self._draw = (seed, 1, epoch)
        self._shuffled = shuffle > 1
        self._block = shuffle if shuffle > 1 else UNSHUFFLED_BLOCK

    def __len__(self) -> int:
        """How many sets."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def from_place(self, place: int) -> Iterator[int]:
        """The set indices of places `place`, `place` + 1, ... to the end of the epoch."""
        while place < len(self):
            number, offset = divmod(place, self._block)
            for index in self._block_indices(number)[offset:].tolist():
                yield index
                place += 1

    def _block_indices(self, number: int) -> NDArray[np.int64]:
        start = number * self._block
        places = np.arange(start, min(start + self._block, len(self)))
        if self._shuffled:
            places = np.random.default_rng((*self._draw, number)).permutation(places)
        return places + self._shifts[np.searchsorted(self._ends, places, side="right")]


class SetOrder(Sampler[BatchPlan]):
    """Plans of batches from a cursor on: the `sampler` of a `DataLoader(dataset, sampler=order, batch_size=None)`.

    Args:
        counts: sets of every shard, in the order of the data.
        config: how they are ordered and shared out.
        start: go on behind this cursor.
        keeps: says of a set index whether it is read at all; what it refuses is left out on every rank alike.
        data: digest of the data, part of the cursor's.

    Every iteration begins at `start`. Raises UserError for a cursor of another order, and if there is nothing to read.
    """

    def __init__(
        self,
        counts: Sequence[int],
        config: OrderConfig,
        start: Cursor | None = None,
        keeps: Callable[[int], bool] | None = None,
        data: str = "",
    ) -> None:
        self._counts = tuple(counts)
        self._config = config
        self._keeps = keeps
        self._sets = sum(self._counts)
        self._digest = _digest(self._counts, config, data)
        self._start = start or Cursor()
        self._check_start()

    def __iter__(self) -> Iterator[BatchPlan]:
        config = self._config
        stream = self._stream()
        while batch := list(islice(stream, config.batch_sets)):
            share = tuple(visit for visit, _ in batch[config.rank :: config.ranks])
            if share:
                yield BatchPlan(share, batch[-1][1])

    def _stream(self) -> Iterator[tuple[Visit, Cursor]]:
        """Every set that is read, over all ranks, with the cursor behind it."""
        epoch, position = self._start.epoch, self._start.position
        while self._config.epochs is None or epoch < self._config.epochs:
            began, kept = position, False
            places = EpochPlaces(self._counts, self._config.seed, self._config.shuffle, epoch)
            for index in places.from_place(position):
                position += 1
                if self._keeps is None or self._keeps(index):
                    kept = True
                    yield Visit(index, epoch), self._cursor(epoch, position)
            if began == 0 and not kept:
                raise UserError(
                    f"all of the {self._sets} sets are left out: nothing is left to read; ask for fewer images"
                )
            epoch, position = epoch + 1, 0

    def _cursor(self, epoch: int, position: int) -> Cursor:
        if position == self._sets:
            epoch, position = epoch + 1, 0
        return Cursor(epoch, position, self._digest)

    def _check_start(self) -> None:
        if self._sets == 0:
            raise UserError("the data holds no sets; give data with one set or more")
        if self._start.order not in ("", self._digest):
            raise UserError(
                "the cursor belongs to another order: the data, the seed or the shuffle have changed since it was "
                f"saved; put them back, or begin the next epoch with Cursor(epoch={self._start.epoch + 1})"
            )
        if self._start.position >= self._sets:
            raise UserError(f"the cursor stands at place {self._start.position}, the data has {self._sets} sets")


def _digest(counts: Sequence[int], config: OrderConfig, data: str) -> str:
    """Of all that says which set lies at a place. Ranks and batch size do not: they may change between two runs."""
    text = json.dumps([list(counts), config.seed, config.shuffle, data])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

"""The order of sets and its cursor: nothing twice, nothing missed, the same for every rank, exact to resume."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from m2m.data.reading.order import BatchPlan, Cursor, EpochPlaces, OrderConfig, SetOrder
from m2m.types import UserError

COUNTS = [7, 0, 4, 9, 1, 6]  # shards of different length, one of them empty
SETS = sum(COUNTS)


def plans(ranks: int = 1, start: Cursor | None = None, batches: int | None = None, **config: object) -> list[BatchPlan]:
    """The global batches: the ranks' shares put together again, place by place."""
    settings = {"batch_sets": 6, "shuffle": 5, "seed": 3, **config}
    keeps = settings.pop("keeps", None)
    orders = [
        SetOrder(COUNTS, OrderConfig(**settings, rank=rank, ranks=ranks), start, keeps)  # type: ignore[arg-type]
        for rank in range(ranks)
    ]
    shares = [list(islice(iter(order), batches)) for order in orders]
    longest = max(len(share) for share in shares)
    joined = []
    for number in range(longest):
        parts = [share[number] for share in shares if number < len(share)]
        assert len({part.cursor for part in parts}) == 1
        visits = [part.visits[row] for row in range(len(parts[0].visits)) for part in parts if row < len(part.visits)]
        joined.append(BatchPlan(tuple(visits), parts[0].cursor))
    return joined


def indices(batches: list[BatchPlan]) -> list[int]:
    return [visit.index for batch in batches for visit in batch.visits]


@pytest.mark.parametrize("shuffle", [0, 1, 5, 1000])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_reads_every_set_once(shuffle: int, ranks: int) -> None:
    """Rounding at shards, blocks, batches or ranks loses the rest or reads it twice."""
    read = indices(plans(ranks, shuffle=shuffle, epochs=1))
    assert sorted(read) == list(range(SETS))
    assert (read == list(range(SETS))) == (shuffle == 0)


@pytest.mark.parametrize("shuffle", [0, 1, 5])
def test_global_batches_do_not_depend_on_the_ranks(shuffle: int) -> None:
    """A run that goes on with more GPUs would train on other batches, so no result could be repeated."""
    one = plans(1, shuffle=shuffle, batches=12)
    assert plans(2, shuffle=shuffle, batches=12) == one
    assert plans(3, shuffle=shuffle, batches=12) == one


def test_batches_go_on_over_the_end_of_an_epoch() -> None:
    """Cut at the epoch's end, the last sets of each epoch would be dropped or come in a short batch."""
    batches = plans(batches=9)  # two epochs of 27 are 54 = 9 * 6
    assert {len(batch.visits) for batch in batches} == {6}
    visits = [visit for batch in batches for visit in batch.visits]
    assert [visit.epoch for visit in visits] == [0] * SETS + [1] * SETS
    assert Counter(visit.index for visit in visits) == dict.fromkeys(range(SETS), 2)
    assert batches[-1].cursor == Cursor(2, 0, batches[-1].cursor.order)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_resume_from_any_batch_is_exact(ranks: int) -> None:
    """A cursor that counts shards, blocks or a rank's own sets goes on at the wrong place."""
    whole = plans(1, batches=9)
    for done in range(1, 9):
        saved = json.loads(json.dumps(whole[done - 1].cursor.as_json()))
        resumed = plans(ranks, start=Cursor.from_json(saved), batches=9 - done)
        assert resumed == whole[done:]


def test_resume_with_another_batch_size_misses_nothing() -> None:
    """The cursor counts sets, not batches: a run may go on with smaller ones."""
    before = plans(batches=2)
    after = plans(start=before[-1].cursor, batch_sets=2, epochs=1)
    assert indices(before) + indices(after) == indices(plans(epochs=1))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    """The same order every epoch, or a global generator's state in it, is no order drawn from (seed, epoch)."""
    orders = [list(EpochPlaces(COUNTS, seed, 5, epoch).from_place(0)) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    np.random.seed(5)
    assert list(EpochPlaces(COUNTS, 1, 5, 1).from_place(0)) == orders[3]


def test_a_block_needs_few_shards() -> None:
    """Shuffled over all of the data, every set would open another shard; a URL would be fetched for one set."""
    counts = [10] * 100
    order = list(EpochPlaces(counts, 0, 40, 0).from_place(0))
    for start in range(0, 1000, 40):
        block = order[start : start + 40]
        assert len({index // 10 for index in block}) == 4
        assert block != sorted(block)
    assert [index // 10 for index in order[::40]] != list(range(0, 100, 4)), "the shards are not shuffled"


def test_left_out_sets_leave_full_batches_and_exact_cursors() -> None:
    """Left out by each rank for itself, batches would shrink or the ranks fall out of step."""

    def keeps(index: int) -> bool:
        return index % 4 != 1

    kept = [index for index in range(SETS) if keeps(index)]
    assert sorted(indices(plans(3, epochs=1, keeps=keeps))) == kept
    whole = plans(1, batches=9, keeps=keeps)
    assert {len(batch.visits) for batch in whole} == {6}
    assert plans(2, batches=9, keeps=keeps) == whole
    assert plans(3, start=whole[3].cursor, batches=5, keeps=keeps) == whole[4:]


def test_an_order_without_any_set_is_an_error_not_an_endless_loop() -> None:
    """Reading for ever with every set left out would hang without a word."""
    with pytest.raises(UserError, match="all of the 27 sets are left out"):
        plans(keeps=lambda index: False, batches=1)
    with pytest.raises(UserError, match="no sets"):
        SetOrder([0, 0], OrderConfig(batch_sets=1))


def test_a_cursor_of_another_order_is_refused() -> None:
    """With another seed, shuffle or data, the same position means other sets: some would come twice, others never."""
    cursor = plans(batches=2)[-1].cursor
    for changes in ({"seed": 4}, {"shuffle": 6}):
        with pytest.raises(UserError, match="another order"):
            plans(start=cursor, batches=1, **changes)
    with pytest.raises(UserError, match="another order"):
        SetOrder(COUNTS, OrderConfig(batch_sets=6, shuffle=5, seed=3), cursor, data="other")
    assert plans(start=Cursor(epoch=1), batches=1)[0].visits[0].epoch == 1, "a cursor without an order fits any"


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"epoch": 0, "position": 0},
        {"epoch": 0, "position": -1, "order": ""},
        {"epoch": 0.5, "position": 0, "order": ""},
        {"epoch": True, "position": 0, "order": ""},
        {"epoch": 0, "position": 0, "order": None},
    ],
)
def test_what_is_no_cursor_is_refused(value: object) -> None:
    """Half a cursor out of an old checkpoint would start at 0 without a word."""
    with pytest.raises(UserError, match="no cursor"):
        Cursor.from_json(value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"batch_sets": 5, "ranks": 2}, "multiple of 2"),
        ({"batch_sets": 0}, "batch_sets is 0"),
        ({"batch_sets": 4, "rank": 2, "ranks": 2}, "rank 2 of 2"),
        ({"batch_sets": 4, "shuffle": -1}, "shuffle -1"),
        ({"batch_sets": 4, "epochs": 0}, "epochs is 0"),
    ],
)
def test_impossible_settings_are_named(config: dict[str, int], said: str) -> None:
    """A batch that the ranks cannot share evenly makes them wait for each other for ever."""
    with pytest.raises(UserError, match=said):
        OrderConfig(**config)


def test_a_cursor_beyond_the_data_is_refused() -> None:
    """Typed by hand or cut from other data, it would skip the epoch in silence."""
    with pytest.raises(UserError, match="has 27 sets"):
        plans(start=Cursor(0, 27), batches=1)

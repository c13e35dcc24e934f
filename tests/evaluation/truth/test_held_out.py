"""Held-out sets: what they hold, and the distance that near-copies are found by."""

from __future__ import annotations

import pytest
import torch

from m2m.data.worlds import World
from m2m.data.worlds.splits import is_held_out
from m2m.evaluation.truth.held_out import (
    HeldOutConfig,
    closest_pair,
    copies_of_last,
    distances,
    held_out_sets,
    rendered,
)
from m2m.types import UserError

WORLD = World.load("mini")


def test_sets_show_held_out_subjects_in_pictures_that_all_differ() -> None:
    """Guards against a leak of what models were trained on, and against seeds that given and rendered images share."""
    sets = held_out_sets(WORLD, HeldOutConfig(sets=4, given=2, generated=3, reference=3))
    assert all(is_held_out(name) for own in sets for name in WORLD.pool(own.caption))
    for own in sets:
        assert own.given.shape == (2, 3, 64, 64) and own.rendered.shape == (3, 3, 64, 64)
        assert closest_pair(torch.cat([own.given, own.rendered])) > 0
        assert own.closest_pair > 0
    assert -1 <= rendered(sets).min() < rendered(sets).max() <= 1


def test_sets_are_the_same_every_time_and_another_number_of_sets_changes_none() -> None:
    """Guards against figures that cannot be repeated, or that change with --sets beyond the sets that are added."""
    config = HeldOutConfig(sets=2, given=1, generated=1, reference=2)
    wider = HeldOutConfig(sets=3, given=1, generated=1, reference=2)
    few, again, more = (held_out_sets(WORLD, c) for c in (config, config, wider))
    assert all(
        torch.equal(a.given, b.given) and a.closest_pair == b.closest_pair for a, b in zip(few, again, strict=True)
    )
    assert all(a.caption == b.caption and torch.equal(a.given, b.given) for a, b in zip(few, more, strict=False))


def test_distance_is_the_root_mean_square_of_the_pixels() -> None:
    """Guards against a distance that grows with the size of the picture, and one that is not 0 for a copy."""
    black, grey = torch.full((1, 3, 8, 8), -1.0), torch.full((1, 3, 8, 8), -0.5)
    assert distances(black, torch.cat([black, grey])).tolist() == [[0.0, 0.5]]
    drawn = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert distances(drawn, drawn).diagonal().tolist() == [0.0, 0.0]
    assert closest_pair(torch.cat([black, grey, grey + 0.125])) == pytest.approx(0.125)


def test_copies_are_of_the_last_given_image() -> None:
    """Guards against a baseline that copies another image than it says."""
    sets = held_out_sets(WORLD, HeldOutConfig(sets=2, given=2, generated=3, reference=2))
    copies = copies_of_last(sets)
    assert copies.shape == (2, 3, 3, 64, 64)
    assert all(torch.equal(copies[s, n], sets[s].given[1]) for s in range(2) for n in range(3))


def test_numbers_that_leave_nothing_to_compare_are_refused() -> None:
    """Guards against a limit of infinity, by which everything would be a near-copy."""
    with pytest.raises(UserError, match="reference"):
        held_out_sets(WORLD, HeldOutConfig(sets=1, reference=1))
    with pytest.raises(UserError, match="no split"):
        held_out_sets(WORLD, HeldOutConfig(split="tets", sets=1))

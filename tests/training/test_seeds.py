"""Seeds of steps and sets."""

from __future__ import annotations

import torch

from m2m.training.seeds import set_generator, step_generator


def test_draws_belong_to_a_set_in_an_epoch() -> None:
    """Guards against noise that repeats between sets, epochs or runs, and so is learnt by heart."""

    def first(*place: int | str) -> float:
        return float(torch.randn((), generator=set_generator(*place)))

    assert first(0, 1, "a/1") == first(0, 1, "a/1")
    places = [(0, 1, "a/1"), (0, 2, "a/1"), (1, 1, "a/1"), (0, 1, "a/2"), (0, 11, "a/1"), (0, 1, "1/a")]
    assert len({first(*place) for place in places}) == len(places)


def test_draws_belong_to_a_step() -> None:
    """Guards against a resumed run that draws other lengths than the whole one."""

    def first(*place: int) -> int:
        return int(torch.randint(2**40, (), generator=step_generator(*place)))

    assert first(0, 1) == first(0, 1)
    assert len({first(seed, step) for seed in range(2) for step in range(3)}) == 6

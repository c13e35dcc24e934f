"""The generators of a process go on where they were."""

from __future__ import annotations

import random

import numpy as np
import torch

from m2m.training.random_states import random_states, set_random_states

CPU = torch.device("cpu")


def draws() -> list[float]:
    """Some numbers of each generator; the normal ones come in pairs, of which the second is kept for later."""
    return [torch.rand(()).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss(0, 1)]


def test_every_generator_goes_on() -> None:
    """Guards against a generator that is forgotten, and against half of a pair of normal draws that is lost."""
    former = random_states(CPU)
    try:
        draws()
        states = random_states(CPU)
        expected = [draws(), draws()]
        torch.manual_seed(5), np.random.seed(5), random.seed(5)
        assert draws() != expected[0]
        set_random_states(states, CPU)
        assert [draws(), draws()] == expected
    finally:
        set_random_states(former, CPU)


def test_what_is_not_named_stays() -> None:
    """Guards against a generator that is set back to its seed because an older checkpoint does not know it."""
    states = random_states(CPU)
    expected = draws()
    set_random_states({"cpu": states["cpu"]}, CPU)
    again = draws()
    assert again[0] == expected[0] and again[1:] != expected[1:]

"""Random draws that belong to a step of a run."""

from __future__ import annotations

import numpy as np
import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """The CPU generator of all draws of one step, so that a resumed run draws what the whole one would have drawn."""
    state = int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)

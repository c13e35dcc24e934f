"""Random draws that belong to a step of a run, or to one set in one epoch of it."""

from __future__ import annotations

import numpy as np
import torch

from m2m.diffusion.noise import image_generator


def step_generator(seed: int, step: int) -> torch.Generator:
    """The CPU generator of all draws of one step, so that a resumed run draws what the whole one would have drawn."""
    state = int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def set_generator(seed: int, epoch: int, key: int | str) -> torch.Generator:
    """The CPU generator of all draws of one set in one epoch; the same in any batch, at any number of processes."""
    return image_generator(seed, f"epoch-{epoch}/{key}", 0)

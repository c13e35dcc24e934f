"""Samples of known distributions for the tests of the measures, float64 and seeded."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(images: int, dim: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Normal features [M, D] with mean `shift` and deviation `scale` in every dimension."""
    noise = torch.randn(images, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return shift + scale * noise


def halves(features: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two random halves of [M, D]."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    first, second = features[order].chunk(2)
    return first, second

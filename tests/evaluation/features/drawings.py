"""Pictures as the extractors are given them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tests.tiny import pictures


def drawings(count: int, size: int = 64, seed: int = 0) -> Tensor:
    """Smooth random pictures with a hard border, uint8 [count, size, size, 3]."""
    stacked = torch.from_numpy(np.stack([np.array(image) for image in pictures(count, seed, size)]))
    stacked[:, size // 4 : size // 2, size // 3 : size // 2] = torch.tensor([255, 0, 40], dtype=torch.uint8)
    return stacked

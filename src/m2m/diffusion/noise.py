"""Noise that belongs to an image, not to a batch: a function of (seed, set, image index) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def image_generator(seed: int, set_id: int | str, image_index: int) -> torch.Generator:
    """A CPU generator for one image of one set; the same on any device, at any batch size, in any order."""
    digest = hashlib.sha256(f"{seed}/{set_id}/{image_index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def image_noise(seed: int, set_id: int | str, image_index: int, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 noise of one image, on the CPU."""
    return torch.randn(tuple(shape), generator=image_generator(seed, set_id, image_index))

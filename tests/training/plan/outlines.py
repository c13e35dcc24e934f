"""Outlines of the tiny models of `tests/tiny.py`, and settings that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from m2m.model.unet import M2MModel
from m2m.training.image_sets import TrainConfig
from m2m.training.plan.outline import Outline
from tests.tiny import CONTEXT_DIM, TOKENS, tiny_scheduler, tiny_unet_config

IMAGES = 3
# One level and three blocks: half the operations to go through.
SMALLEST = {
    "block_out_channels": [16],
    "attention_head_dim": 2,
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
}


def tiny_outline(variant: str = "self", unet: Mapping[str, Any] | None = None, **parts: Any) -> Outline:
    """Three encoded images a set. unet: what differs from `tiny_unet_config`; parts: as in `Outline`."""
    with torch.device("meta"):
        width = CONTEXT_DIM if variant == "dino" else None
        model = M2MModel(unet_config={**tiny_unet_config(), **(unet or {})}, variant=variant, context_dim=width)
    arrays = {"latents": (IMAGES, 4, 8, 8)}
    if variant == "dino":
        arrays["features"] = (IMAGES, TOKENS, CONTEXT_DIM)
    return Outline(model, tiny_scheduler(), **{"arrays": arrays, **parts})


def tiny_settings(**changes: Any) -> TrainConfig:
    """Two sets a step."""
    return TrainConfig(**{"data": "", "batch_sets": 2, "images_per_set": IMAGES, "steps": 10, **changes})

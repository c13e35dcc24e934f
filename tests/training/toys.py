"""Small folders of sets that fit the models of `tests/tiny.py`, and a task of one linear layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from m2m.checkpoint import write_json
from m2m.training.image_sets import TrainConfig
from m2m.training.seeds import step_generator
from tests.tiny import CONTEXT_DIM, TOKENS, tiny_scheduler, tiny_unet_config


def write_toy_sets(folder: Path, sets: int = 6, images: int = 3, settings: dict[str, Any] | None = None) -> Path:
    """Sets whose images resemble each other: one random latent a set, a little noise for each image."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    common = generator.normal(size=(sets, 1, 4, 8, 8))
    latents = common + 0.1 * generator.normal(size=(sets, images, 4, 8, 8))
    np.save(folder / "latents.npy", latents.astype(np.float16))
    features = generator.normal(size=(sets, images, TOKENS, CONTEXT_DIM))
    np.save(folder / "features.npy", features.astype(np.float16))
    marker = {"settings": {"arrays": ["latents", "features"], **(settings or {})}}
    write_json(folder / "sets.json", {**marker, "captions": ["toy"] * sets, "seeds": [[0] * images] * sets})
    return folder


def toy_config(data: Path, out: Path, **changes: Any) -> TrainConfig:
    """A run of six steps with the tiny U-Net."""
    settings: dict[str, Any] = {
        "data": str(data),
        "out": str(out),
        "unet": tiny_unet_config(),
        "scheduler": {k: v for k, v in tiny_scheduler().config.items() if k in ("steps_offset", "beta_schedule")},
        "steps": 6,
        "batch_sets": 2,
        "images_per_set": 3,
        "warmup_steps": 2,
        "log_every": 2,
        "threads": 1,
    }
    return TrainConfig(**{**settings, **changes})


class ToyTask:
    """One linear layer behind dropout, which draws from torch's global generator as a U-Net's dropout would."""

    def __init__(self) -> None:
        torch.manual_seed(7)
        self.module: nn.Module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4), nn.LayerNorm(4))
        self.idle = nn.Parameter(torch.zeros(2, 2))
        self.module.register_parameter("idle", self.idle)  # never gets a gradient
        self.steps: list[int] = []

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        self.steps.append(step)
        batch = torch.randn(8, 4, generator=step_generator(0, step))
        loss = (self.module(batch) - batch.flip(1)).square().mean()
        return loss, {"step_seen": float(step)}

"""The training objective (equation 5): predict the noise of every image of a set from the clean images before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn


@dataclass(frozen=True)
class ObjectiveConfig:
    """Choices of the objective; the defaults are the paper's, or the README's decisions where the paper is silent.

    Attributes:
        context_dropout: chance that a set loses its whole context (section 6.1: 10%).
        noise_draws: noisy copies of each image that share one clean pass.
        shared_timestep: one timestep for all images of a set instead of independent ones.
        context_noise: k > 0 noises the context at a timestep drawn from 0..k, and tells the model (M2M-Self).
    """

    context_dropout: float = 0.1
    noise_draws: int = 1
    shared_timestep: bool = False
    context_noise: int = 0


def training_loss(
    model: nn.Module,
    scheduler: Any,
    latents: Tensor,
    context: Tensor,
    config: ObjectiveConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Equation 5, mean over images, in float32.

    Args:
        model: an ``M2MModel``, possibly wrapped for parallel training.
        scheduler: diffusers scheduler with ``add_noise``; its ``prediction_type`` says what is predicted.
        latents: ``[B, N, C, h, w]``, scaled.
        context: ``latents`` again for M2M-Self, vision tokens ``[B, N, S, D]`` for M2M-DINO.
        generator: CPU generator; every random draw of the step comes from it.

    Returns:
        The loss, and ``loss_first`` / ``loss_last``: the parts of the first image (no context) and the last one.
    """
    sets, images = latents.shape[:2]
    device, draws = latents.device, config.noise_draws
    clean = repeat(latents, "b n c h w -> b (n k) c h w", k=draws)  # [B, N*K, C, h, w]
    timesteps = _timesteps(sets, images, config, scheduler.config.num_train_timesteps, generator).to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device)  # [B, N*K, C, h, w]
    noisy = add_noise(scheduler, clean, noise, timesteps)  # [B, N*K, C, h, w]
    keep = torch.rand(sets, generator=generator) >= config.context_dropout  # [B]
    levels = None
    if config.context_noise > 0:
        levels = torch.randint(0, config.context_noise + 1, (sets, images), generator=generator).to(device)  # [B, N]
        context = add_noise(
            scheduler,
            context,
            torch.randn(context.shape, generator=generator).to(device),
            levels,
        )
    predicted = model(noisy, context, timesteps, keep, levels)  # [B, N*K, C, h, w]
    wanted = prediction_target(scheduler, clean, noise, timesteps)  # [B, N*K, C, h, w]
    errors = F.mse_loss(predicted.float(), wanted.float(), reduction="none")
    per_image = rearrange(errors, "b (n k) c h w -> b n (k c h w)", n=images).mean(dim=(0, 2))  # [N]
    parts = per_image.detach()
    return per_image.mean(), {
        "loss_first": parts[0].item(),
        "loss_last": parts[-1].item(),
    }


def add_noise(scheduler: Any, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The forward process q(z_t | z_0) for ``[B, N, ...]`` with timesteps ``[B, N]``."""
    noisy = scheduler.add_noise(clean.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten())
    return noisy.unflatten(0, clean.shape[:2])


def prediction_target(scheduler: Any, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the model should say: the noise (epsilon, the paper), or the velocity of Salimans and Ho (2022)."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        target = scheduler.get_velocity(clean.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten())
        return target.unflatten(0, clean.shape[:2])
    raise ValueError(f"prediction_type {kind!r} cannot be trained: use epsilon or v_prediction")


def _timesteps(
    sets: int,
    images: int,
    config: ObjectiveConfig,
    horizon: int,
    generator: torch.Generator,
) -> Tensor:
    """t ~ U(0, T): independent for every noisy image, or one for all images of a set; ``[B, N*K]``."""
    if config.shared_timestep:
        drawn = torch.randint(0, horizon, (sets, config.noise_draws), generator=generator)
        return repeat(drawn, "b k -> b (n k)", n=images)
    return torch.randint(0, horizon, (sets, images * config.noise_draws), generator=generator)

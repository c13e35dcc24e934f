"""Validation losses: equation 5 on fixed sets with fixed noise, by noise level and by length of the context.

The loss of a step is mostly a matter of which timesteps it drew. Here every image of every set is noised once in each
bucket of timesteps, always with the same noise, so that two numbers differ by nothing but the weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from m2m.diffusion.objective import Draws, ObjectiveConfig, draw, prediction_errors
from m2m.training.rollout import inference, unwrapped
from m2m.training.seeds import set_generator

# Places of noisy latents that are run at once, at most: 32 images of 512 pixels. Without a gradient Stable Diffusion's
# U-Net then takes some gigabytes.
PLACES = 32 * 64**2


def validation_losses(
    model: nn.Module,
    scheduler: Any,
    latents: Tensor,
    context: Tensor,
    buckets: int = 4,
    batch_sets: int = 1,
    seed: int = 0,
    conditions: Tensor | None = None,
) -> dict[str, float]:
    """Mean squared errors of the prediction, without weights, dropout of context or conditions, or noise on it.

    The caller's autocast decides the precision. The noise of a set follows from ``seed`` and its place among the sets.

    Args:
        model: the ``M2MModel``, or what wraps it for parallel training; every process runs all sets.
        scheduler: the run's own.
        latents, context: ``[S, N, C, h, w]`` and ``[S, N, ...]`` of S fixed sets, on any device; as in
            ``training_loss``.
        buckets: Q, 1..T: equal ranges of timesteps; each image is noised once in every one.
        batch_sets: sets run at once, at most: N*Q noisy images each; fewer where they are large (`PLACES`).
        conditions: ``[S, N, dim]`` of a task; None: the model has none.

    Returns:
        ``loss`` over everything; ``timestep_LOW-HIGH`` for each bucket; ``context_0`` .. ``context_{N-1}`` by the
        number of images that were seen.
    """
    raw = unwrapped(model)
    device = next(raw.parameters()).device
    horizon = scheduler.config.num_train_timesteps
    edges = [k * horizon // buckets for k in range(buckets + 1)]
    images, _, height, width = latents.shape[1:]
    at_once = max(1, min(batch_sets, PLACES // (images * buckets * height * width)))
    parts = []
    with inference(raw):
        for start in range(0, len(latents), at_once):
            few = slice(start, start + at_once)
            some, seen = (tensor[few].to(device, torch.float32) for tensor in (latents, context))
            numbers = range(start, start + len(some))
            told = None if conditions is None else conditions[few].to(device, torch.float32)
            draws = _draws(some, numbers, edges, seed)
            parts.append(prediction_errors(raw, scheduler, some, seen, draws, told).cpu())
    return _means(torch.cat(parts), edges)


def _draws(latents: Tensor, numbers: range, edges: list[int], seed: int) -> Draws:
    """Draws of some sets whose K copies of each image lie in the K buckets, uniform within each."""
    config = ObjectiveConfig(context_dropout=0.0, condition_dropout=0.0, noise_draws=len(edges) - 1)
    generators = [set_generator(seed, 0, number) for number in numbers]
    images = latents.shape[1]
    draws = draw(config, edges[-1], latents.shape[1:], generators)
    low = torch.tensor(edges[:-1]).repeat(images)  # [N*K]
    size = torch.tensor(edges).diff().repeat(images)  # [N*K]
    return replace(draws, timesteps=low + draws.timesteps * size // edges[-1])


def _means(errors: Tensor, edges: list[int]) -> dict[str, float]:
    """Errors ``[S, N, K]`` -> the named means."""
    by_bucket = {
        f"timestep_{low}-{high - 1}": float(errors[:, :, k].mean())
        for k, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    }
    by_length = {f"context_{i}": float(errors[:, i].mean()) for i in range(errors.shape[1])}
    return {"loss": float(errors.mean()), **by_bucket, **by_length}

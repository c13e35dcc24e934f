"""One prediction of the sampler: the branches of guidance, equation 6 or 7, in a single call of the U-Net.

The branches are columns of one reader: each sees the context that its equation names, and its own task conditions.
"""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor

from m2m.diffusion.guidance import branch_weights, guide, guide_by_task
from m2m.model.context import ContextReader
from m2m.model.context_window import ContextWindow
from m2m.model.unet import M2MModel


def predict(
    model: M2MModel,
    context: ContextWindow,
    latents: Tensor,
    timestep: Tensor,
    scales: tuple[float, float],
    conditions: Tensor | None = None,
) -> Tensor:
    """The guided prediction ``[B, C, h, w]`` for the next image of every set, float32.

    Args:
        latents: ``[B, C, h, w]``, scaled as the model takes them, at ``timestep``.
        scales: s_I and s_C of equation 7; without conditions s_I is the scale of equation 6.
        conditions: of these images, ``[B, dim]``; None for a model without a task.
    """
    if conditions is None:
        return _by_context(model, context, latents, timestep, scales[0])
    if not any(context.counts):  # nothing to see: the first two branches are the same
        scales = (scales[1], scales[1])
    return _by_task(model, context, latents, timestep, scales, conditions)


def _by_context(model: M2MModel, context: ContextWindow, latents: Tensor, timestep: Tensor, scale: float) -> Tensor:
    """Equation 6."""
    columns = [context.conditional()]
    if scale != 1 and any(context.counts):  # without any context both branches are the same
        columns.append(context.unconditional())
    noisy = repeat(latents, "b c h w -> b t c h w", t=len(columns))  # [B, T, C, h, w]
    branches = model.denoise(noisy, timestep.expand(noisy.shape[:2]), ContextReader(columns))  # [B, T, C, h, w]
    return guide(branches[:, 0], branches[:, -1], scale)  # [B, C, h, w]


def _by_task(
    model: M2MModel,
    context: ContextWindow,
    latents: Tensor,
    timestep: Tensor,
    scales: tuple[float, float],
    conditions: Tensor,
) -> Tensor:
    """Equation 7; a branch that counts for nothing is left out."""
    nothing = torch.full_like(conditions, torch.nan)
    branches = (  # e(0, 0), e(z, 0), e(z, c)
        (context.unconditional, nothing),
        (context.context_only, nothing),
        (context.conditional, conditions),
    )
    counts = [weight != 0 for weight in branch_weights(*scales)]
    taken = [branch for branch, counted in zip(branches, counts, strict=True) if counted]
    reader = ContextReader([column() for column, _ in taken])
    told = torch.stack([own for _, own in taken], dim=1)  # [B, T, dim]
    noisy = repeat(latents, "b c h w -> b t c h w", t=len(taken))  # [B, T, C, h, w]
    predicted = iter(model.denoise(noisy, timestep.expand(noisy.shape[:2]), reader, told).unbind(1))
    return guide_by_task([next(predicted) if counted else None for counted in counts], *scales)  # [B, C, h, w]

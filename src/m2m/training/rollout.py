"""Training on the model's own samples: part of the context is what the model makes of the images before it.

In sampling every generated image becomes context, with its flaws, and a model that has met true images alone lets
them grow (the paper's own limitation 2). A few steps without gradient are enough to show it what they look like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from m2m.diffusion.objective import ObjectiveConfig
from m2m.model.context import Column, ContextReader
from m2m.model.unet import M2MModel


def rollout_start(config: ObjectiveConfig, images: int, generator: torch.Generator) -> int | None:
    """Which context image of a step is the model's own sample, in 1..N-2; None: all are true.

    Not the first, which belongs to no set before it is drawn; not the last, which is nobody's context. The step's
    generator decides, so that all processes run equally many passes.
    """
    if config.rollout_probability == 0 or images < 3:
        return None
    if torch.rand((), generator=generator) >= config.rollout_probability:
        return None
    return int(torch.randint(1, images - 1, (), generator=generator))


@torch.no_grad()
def roll_out(
    model: nn.Module,
    scheduler: Any,
    latents: Tensor,
    context: Tensor,
    start: int,
    steps: int,
    generators: Sequence[torch.Generator],
    to_context: Callable[[Tensor], Tensor] | None = None,
    conditions: Tensor | None = None,
) -> Tensor:
    """The context of training, its image ``start`` replaced by the model's own sample; nothing else changes.

    The sample is DDIM's (eta 0, no guidance) from the true images before it, in the caller's autocast precision.

    Args:
        model: the ``M2MModel``, or what wraps it for parallel training.
        scheduler: the run's own; its config alone is used.
        latents: ``[B, N, C, h, w]``, for their shape.
        context: ``[B, N, ...]``, latents (M2M-Self) or vision tokens (M2M-DINO).
        start: index of the image, 0..N-1.
        steps: DDIM steps.
        generators: one a set, for the noise that its sample starts from; after its draws of ``objective.draw``.
        to_context: turns latents ``[B, 1, C, h, w]`` into vision tokens ``[B, 1, S, D]``; M2M-DINO only.
        conditions: ``[B, N, dim]`` of a task, of which none is dropped here; None: the model has none.
    """
    raw = unwrapped(model)
    noise = torch.stack([torch.randn(latents.shape[2:], generator=generator) for generator in generators])
    with inference(raw):
        before, noise = context[:, :start], noise.to(latents.device)
        told = None if conditions is None else conditions[:, : start + 1]  # [B, start+1, dim]
        sample = _sample(raw, scheduler, before, noise, steps, told)  # [B, 1, C, h, w]
    own = sample if to_context is None else to_context(sample)  # [B, 1, ...]
    return torch.cat([context[:, :start], own.to(context.dtype), context[:, start + 1 :]], dim=1)


def _sample(
    model: M2MModel, scheduler: Any, context: Tensor, noise: Tensor, steps: int, conditions: Tensor | None
) -> Tensor:
    """DDIM from ``noise`` ``[B, C, h, w]`` to latents ``[B, 1, C, h, w]``, given the images of ``context``.

    conditions: of the images of ``context`` and of the one that is made, or None.
    """
    # A copy, for `set_timesteps` would change the scheduler of the run.
    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(steps, device=noise.device)
    sets, count = context.shape[:2]
    of_context, own = (None, None) if conditions is None else (conditions[:, :count], conditions[:, count:])
    cache = model.write_context(context, conditions=of_context)
    reader = ContextReader([Column(cache, (count,) * sets)])
    latents = noise.unsqueeze(1) * ddim.init_noise_sigma  # [B, 1, C, h, w]
    for timestep in ddim.timesteps:
        predicted = model.denoise(latents, timestep.expand(sets, 1), reader, own)  # [B, 1, C, h, w]
        latents = ddim.step(predicted.float(), timestep, latents).prev_sample  # [B, 1, C, h, w]
    return latents


def unwrapped(model: nn.Module) -> M2MModel:
    """The model inside of DDP; FSDP wraps in place."""
    raw = getattr(model, "module", model)
    assert isinstance(raw, M2MModel)
    return raw


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradient inside; afterwards every module returns to its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        # Autocast keeps its half precision copies of the weights to its outermost end. Those made here have no gradient
        # (older torch: pytorch issue 158232), and a training pass behind us in the same autocast would use them.
        torch.clear_autocast_cache()

"""The training objective (equation 5): predict the noise of every image of a set from the clean images before it.

All randomness of a loss is in its ``Draws``, and those of a set come from a generator of its own. So a set's noise
depends neither on its neighbours in the batch nor on how many processes share the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr
from einops import rearrange, repeat
from torch import Tensor

from m2m.types import UserError

PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Choices of the objective; the defaults are the paper's, or the README's decisions where the paper is silent.

    Attributes:
        context_dropout: chance that a set loses its whole context (section 6.1: 10%), and its task conditions with it.
        noise_draws: noisy copies of each image that share one clean pass.
        shared_timestep: one timestep for all images of a set instead of independent ones.
        context_noise: k > 0 noises the context at a timestep drawn from 0..k, and tells the model (M2M-Self).
        min_snr_gamma: g > 0 caps the weight of low noise at signal-to-noise ratio g (Hang et al. 2023; usually 5).
        random_set_length: each step takes only the first 2..N images of its sets, so that short sets are met too.
        rollout_probability: chance of a step that one context image is the model's own sample: a guard against drift.
        rollout_steps: DDIM steps of such a sample.
        condition_dropout: chance that a set loses its task conditions alone: equation 7 needs both (section 6.2).
        timestep_shift: s > 1 draws more high noise, where the layout is decided: t / T = s u / (1 + (s - 1) u) for
            uniform u (Esser et al. 2024, section 5.3.2); half of the draws lie above s / (s + 1). 1: uniform, as in the
            paper.
    """

    context_dropout: float = 0.1
    noise_draws: int = 1
    shared_timestep: bool = False
    context_noise: int = 0
    min_snr_gamma: float = 0.0
    random_set_length: bool = False
    rollout_probability: float = 0.0
    rollout_steps: int = 8
    condition_dropout: float = 0.1
    timestep_shift: float = 1.0


@dataclass(frozen=True)
class Draws:
    """Every random choice of one loss over B sets of N images with K noisy copies each; on the CPU.

    Attributes:
        timesteps: int64 ``[B, N*K]``, folded as ``(n k)``, in 0..T-1.
        noise: float32 ``[B, N*K, C, h, w]``, standard normal.
        keep: bool ``[B]``; False: the set loses its context.
        keep_condition: bool ``[B]``; False: the set loses its task conditions, as where ``keep`` is False; None: none.
        levels, context_noise: timesteps ``[B, N]`` and noise ``[B, N, C, h, w]`` of the context; None: it stays clean.
    """

    timesteps: Tensor
    noise: Tensor
    keep: Tensor
    keep_condition: Tensor | None = None
    levels: Tensor | None = None
    context_noise: Tensor | None = None


def check_objective(config: ObjectiveConfig, images: int, variant: str, scheduler: Any) -> None:
    """Raise UserError for an option out of range, or one that ``images`` a set, ``variant`` or scheduler exclude."""
    _check_prediction(scheduler.config)
    horizon = scheduler.config.num_train_timesteps
    most = horizon - scheduler.config.get("steps_offset", 0)
    for_self = "use 0, for it is an option of M2M-Self: the features of M2M-DINO have no timestep"
    rules = (
        ("context_dropout", 0 <= config.context_dropout <= 1, "use 0 to 1"),
        ("condition_dropout", 0 <= config.condition_dropout <= 1, "use 0 to 1"),
        ("noise_draws", config.noise_draws >= 1, "use 1 or more"),
        ("context_noise", 0 <= config.context_noise < horizon, f"use 0 (clean) to {horizon - 1}"),
        ("context_noise", config.context_noise == 0 or variant == "self", for_self),
        ("min_snr_gamma", 0 <= config.min_snr_gamma < math.inf, "use 0 (off) or more, usually 5"),
        ("timestep_shift", 0 < config.timestep_shift < math.inf, "use 1 (uniform) or more"),
        ("random_set_length", not config.random_set_length or images >= 3, "use false, or 3 or more images a set"),
        ("rollout_probability", 0 <= config.rollout_probability <= 1, "use 0 to 1"),
        ("rollout_probability", config.rollout_probability == 0 or images >= 3, "use 0, or 3 or more images a set"),
        ("rollout_steps", 1 <= config.rollout_steps <= most, f"use 1 to {most}"),
    )
    for name, fits, advice in rules:
        if not fits:
            raise UserError(f"objective.{name} is {getattr(config, name)}: {advice}")


def draw(
    config: ObjectiveConfig,
    horizon: int,
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
) -> Draws:
    """The draws of B sets, each from its own CPU generator and from nothing else.

    Args:
        horizon: T, the scheduler's ``num_train_timesteps``.
        shape: (N, C, h, w) of every set.
        generators: one a set.
    """
    drawn = [_draw_set(config, horizon, shape, generator) for generator in generators]
    return Draws(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))


def _draw_set(
    config: ObjectiveConfig,
    horizon: int,
    shape: Sequence[int],
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """t ~ U(0, T), or shifted, for every noisy image (or shared by the set's images), the noise, and the rest."""
    images, copies = shape[0], config.noise_draws
    own = 1 if config.shared_timestep else images
    uniform = torch.randint(0, horizon, (own, copies), generator=generator)  # [N or 1, K]
    timesteps = shifted(uniform, horizon, config.timestep_shift).expand(images, copies).flatten()  # [N*K]
    noise = torch.randn((images * copies, *shape[1:]), generator=generator)  # [N*K, C, h, w]
    chance = torch.rand((), generator=generator)  # one number for both, so that a model without a task draws the same
    keep = chance >= config.context_dropout  # []
    keep_condition = chance >= config.context_dropout + config.condition_dropout  # []
    if config.context_noise == 0:
        return timesteps, noise, keep, keep_condition
    levels = torch.randint(0, config.context_noise + 1, (images,), generator=generator)  # [N]
    return timesteps, noise, keep, keep_condition, levels, torch.randn(shape, generator=generator)


def shifted(timesteps: Tensor, horizon: int, shift: float) -> Tensor:
    """Timesteps 0..T-1 moved towards T by Esser et al. (2024), equation 23: u -> s u / (1 + (s - 1) u); int64."""
    if shift == 1:
        return timesteps
    middle = (timesteps.double() + 0.5) / horizon  # u of each timestep's middle, in (0, 1)
    return (horizon * shift * middle / (1 + (shift - 1) * middle)).long()


def set_length(config: ObjectiveConfig, images: int, generator: torch.Generator) -> int:
    """How many images of each set a step takes: all N, or 2..N of them with ``random_set_length``.

    The step's generator decides, so that all sets of a step, on all processes, have one shape.
    """
    if not config.random_set_length:
        return images
    return int(torch.randint(2, images + 1, (), generator=generator))


def training_loss(
    model: Callable[..., Tensor],
    scheduler: Any,
    latents: Tensor,
    context: Tensor,
    config: ObjectiveConfig,
    draws: Draws,
    conditions: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 5, mean over images, in float32.

    Args:
        model: an ``M2MModel``, possibly wrapped for parallel training.
        scheduler: diffusers scheduler with ``add_noise``; its ``prediction_type`` says what is predicted.
        latents: ``[B, N, C, h, w]``, scaled.
        context: ``latents`` again for M2M-Self, vision tokens ``[B, N, S, D]`` for M2M-DINO.
        draws: of these sets, from ``draw``.
        conditions: ``[B, N, dim]`` of a fine-tuned task (section 6.2); None: the model has none.

    Returns:
        The loss, and ``loss_first`` / ``loss_last``: the parts of the first image (no context) and the last one,
        detached and left on the device, for reading them makes the processor wait for it.
    """
    errors = prediction_errors(model, scheduler, latents, context, draws, conditions)  # [B, N, K]
    if config.min_snr_gamma > 0:
        timesteps = draws.timesteps.to(latents.device).view_as(errors)  # [B, N, K]
        errors = errors * min_snr_weights(scheduler, timesteps, config.min_snr_gamma)
    per_image = errors.mean(dim=(0, 2))  # [N]
    parts = per_image.detach()
    return per_image.mean(), {"loss_first": parts[0], "loss_last": parts[-1]}


def prediction_errors(
    model: Callable[..., Tensor],
    scheduler: Any,
    latents: Tensor,
    context: Tensor,
    draws: Draws,
    conditions: Tensor | None = None,
) -> Tensor:
    """The mean squared error of every noisy copy, ``[B, N, K]``, float32; arguments as in ``training_loss``."""
    images, device = latents.shape[1], latents.device
    timesteps = draws.timesteps.to(device)  # [B, N*K]
    noise = draws.noise.to(device)  # [B, N*K, C, h, w]
    clean = repeat(latents, "b n c h w -> b (n k) c h w", k=timesteps.shape[1] // images)  # [B, N*K, C, h, w]
    levels = None
    if draws.levels is not None and draws.context_noise is not None:
        levels = draws.levels.to(device)  # [B, N]
        context = add_noise(scheduler, context, draws.context_noise.to(device), levels)  # [B, N, C, h, w]
    noisy = add_noise(scheduler, clean, noise, timesteps)  # [B, N*K, C, h, w]
    task = () if conditions is None else (conditions.to(device), draws.keep_condition)
    predicted = model(noisy, context, timesteps, draws.keep, levels, *task)  # [B, N*K, C, h, w]
    wanted = prediction_target(scheduler, clean, noise, timesteps)  # [B, N*K, C, h, w]
    errors = F.mse_loss(predicted.float(), wanted.float(), reduction="none")
    return rearrange(errors, "b (n k) c h w -> b n k (c h w)", n=images).mean(dim=-1)  # [B, N, K]


def add_noise(scheduler: Any, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The forward process q(z_t | z_0) for ``[B, N, ...]`` with timesteps ``[B, N]``."""
    noisy = scheduler.add_noise(clean.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten())
    return noisy.unflatten(0, clean.shape[:2])


def prediction_target(scheduler: Any, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the model should say: the noise (epsilon, the paper), or the velocity of Salimans and Ho (2022)."""
    _check_prediction(scheduler.config)
    if scheduler.config.prediction_type == "epsilon":
        return noise
    target = scheduler.get_velocity(clean.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten())
    return target.unflatten(0, clean.shape[:2])


def min_snr_weights(scheduler: Any, timesteps: Tensor, gamma: float) -> Tensor:
    """Hang et al. (2023), section 3.4, float32: min(SNR, g) / SNR for epsilon, min(SNR, g) / (SNR + 1) for v.

    At SNR 0, the end of a zero-terminal schedule, the first is its limit 1, where the formula says 0 / 0; the second
    is 0 there, so the last timestep alone trains nothing.
    """
    snr = compute_snr(scheduler, timesteps)
    if scheduler.config.prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)
    return snr.clamp(max=gamma) / (snr + 1)


def _check_prediction(config: Any) -> None:
    kind = config.prediction_type
    if kind not in PREDICTIONS:
        raise UserError(f"prediction_type {kind!r} cannot be trained: use {' or '.join(PREDICTIONS)}")
    if kind == "epsilon" and config.get("rescale_betas_zero_snr", False):
        raise UserError("a zero-terminal schedule ends in pure noise, which epsilon cannot undo: use v_prediction")

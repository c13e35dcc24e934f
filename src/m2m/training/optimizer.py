"""How the weights move: the settings of a step, its learning rate, and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from m2m.types import UserError

SCHEDULES = ("constant", "cosine", "wsd")
PRECISIONS = ("float32", "bfloat16", "float16")
OPTIMIZERS = ("adamw", "adamw8bit")


@dataclass(frozen=True)
class StepConfig:
    """How the weights move.

    learning_rate: its peak. schedule: after `warmup_steps` of linear warm-up `constant`; `cosine` to zero at `steps`;
    or `wsd` (warm-up, stable, decay): constant until the last `cooldown_steps`, which fall to zero as 1 - sqrt. A trunk
    that trains on over many sessions stays constant, and a branch of it (`branch=`) cools down to be shipped.
    gradient_clip: largest gradient norm; 0 lets all through. ema_decay: ceiling of the moving average's decay; it ramps
    up as (1 + step) / (10 + step), so that the average never spans more than a ninth of the run so far. ema_device:
    `cpu` keeps the average in main memory. precision: `bfloat16` and `float16` run the loss under autocast, the latter
    with loss scaling; weights, optimiser and average stay float32. optimizer: `adamw` (fused), or `adamw8bit`, whose
    moments take a quarter of the memory (bitsandbytes, on a GPU).
    """

    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 100
    cooldown_steps: int = 1000
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    gradient_clip: float = 1.0
    ema_decay: float = 0.9995
    ema_device: str = ""
    precision: str = "float32"
    optimizer: str = "adamw"


def check_step_config(config: StepConfig, steps: int) -> None:
    """Raise UserError for a name that does not exist, a negative clip, or a cooldown longer than the run."""
    check_choices(config, {"schedule": SCHEDULES, "precision": PRECISIONS, "optimizer": OPTIMIZERS})
    if config.ema_device not in ("", "cpu"):
        raise UserError(f"ema_device '{config.ema_device}' is unknown: use 'cpu', or '' for beside the weights")
    if config.gradient_clip < 0:
        raise UserError(f"gradient_clip must not be negative, it is {config.gradient_clip}; 0 is none")
    if config.schedule == "wsd" and not 1 <= config.cooldown_steps <= steps:
        raise UserError(f"cooldown_steps must lie between 1 and steps ({steps}), it is {config.cooldown_steps}")


def check_choices(config: StepConfig, choices: Mapping[str, Sequence[str]]) -> None:
    """Raise UserError for a setting, by name, that is none of its choices."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise UserError(f"{name} '{getattr(config, name)}' is not one of {', '.join(known)}")


def learning_rate(config: StepConfig, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) in a run of `steps`."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return config.learning_rate * warm * _decay(config, step, steps)


def _decay(config: StepConfig, step: int, steps: int) -> float:
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    if config.schedule == "wsd":
        begin = steps - config.cooldown_steps
        # 1 - sqrt: Haegele et al. 2024, "Scaling laws and compute-optimal training beyond fixed training durations".
        return 1.0 if step < begin else 1 - math.sqrt(min(1.0, (step - begin) / config.cooldown_steps))
    return 1.0


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that move, by name: matrices and kernels, then vectors, as the optimiser counts them."""
    trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    return dict(sorted(trained, key=lambda item: item[1].ndim <= 1))  # stable: else in the module's order


def new_optimizer(trained: dict[str, nn.Parameter], config: StepConfig) -> torch.optim.Optimizer:
    """The optimiser of `trained_parameters`. Raises UserError where 8-bit moments cannot be had."""
    # Weight decay is for matrices and kernels; gains and biases are left alone.
    matrices = [parameter for parameter in trained.values() if parameter.ndim > 1]
    vectors = [parameter for parameter in trained.values() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    settings: dict[str, Any] = {"lr": config.learning_rate, "betas": (config.beta1, config.beta2)}
    if config.optimizer == "adamw8bit":
        return _adamw8bit(trained)(groups, **settings)
    return torch.optim.AdamW(groups, **settings, fused=True)


def _adamw8bit(trained: dict[str, nn.Parameter]) -> Any:
    from torch.distributed.tensor import DTensor

    if any(parameter.device.type != "cuda" for parameter in trained.values()):
        raise UserError("optimizer 'adamw8bit' needs a GPU (device=cuda)")
    if any(isinstance(parameter, DTensor) for parameter in trained.values()):
        raise UserError("optimizer 'adamw8bit' cannot hold sharded weights: use parallel=ddp, or optimizer=adamw")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise UserError("optimizer 'adamw8bit' needs bitsandbytes: pip install bitsandbytes") from error
    return AdamW8bit

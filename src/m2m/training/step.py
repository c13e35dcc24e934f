"""One optimisation step: loss, gradient, clipping, AdamW, moving average; and the learning rate of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from m2m.types import UserError

SCHEDULES = ("constant", "cosine", "wsd")
PRECISIONS = ("float32", "bfloat16")

Loss = Callable[[], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class StepConfig:
    """How the weights move.

    learning_rate: its peak. schedule: after `warmup_steps` of linear warm-up `constant`; `cosine` to zero at `steps`;
    or `wsd` (warm-up, stable, decay): constant until the last `cooldown_steps`, which fall to zero as 1 - sqrt. A trunk
    that trains on over many sessions stays constant, and a branch of it (`branch=`) cools down to be shipped.
    gradient_clip: largest gradient norm. ema_decay: ceiling of the moving average's decay; it ramps up as
    (1 + step) / (10 + step), so that the average never spans more than a ninth of the run so far.
    precision: `bfloat16` runs the loss under autocast; weights, optimiser and average stay float32.
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
    precision: str = "float32"


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


def check_step_config(config: StepConfig, steps: int) -> None:
    """Raise UserError for a schedule or precision that does not exist, or a cooldown longer than the run."""
    if config.schedule not in SCHEDULES:
        raise UserError(f"schedule '{config.schedule}' is not one of {', '.join(SCHEDULES)}")
    if config.precision not in PRECISIONS:
        raise UserError(f"precision '{config.precision}' is not one of {', '.join(PRECISIONS)}")
    if config.schedule == "wsd" and not 1 <= config.cooldown_steps <= steps:
        raise UserError(f"cooldown_steps must lie between 1 and steps ({steps}), it is {config.cooldown_steps}")


class Optimisation:
    """Optimiser and moving average of one module, and the step that moves both.

    Attributes: module, optimizer (AdamW), ema (diffusers' EMAModel over all parameters), names (of the trained
    parameters, in the order in which the optimiser counts them).
    """

    def __init__(self, module: nn.Module, config: StepConfig, steps: int) -> None:
        check_step_config(config, steps)
        self.module = module
        self.config = config
        self.steps = steps
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        # Weight decay is for matrices and kernels; gains and biases are left alone.
        matrices = [(name, p) for name, p in trained if p.ndim > 1]
        vectors = [(name, p) for name, p in trained if p.ndim <= 1]
        self.names = [name for name, _ in matrices + vectors]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for _, p in matrices], "weight_decay": config.weight_decay},
                {"params": [p for _, p in vectors], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
        self.ema = EMAModel(module.parameters(), decay=config.ema_decay, foreach=True)
        self._device = next(module.parameters()).device.type

    def step(self, step: int, loss: Loss) -> tuple[Tensor, dict[str, float]]:
        """Take step `step` (from 0); returns the loss (detached) and the logs of the loss, the rate and the norm."""
        rate = learning_rate(self.config, step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            value, logs = loss()
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.module.parameters())
        return value.detach(), {**logs, "learning_rate": rate, "gradient_norm": float(norm)}

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The module with its averaged weights in place, in eval mode; the trained ones return afterwards."""
        training = self.module.training
        self.ema.store(self.module.parameters())
        self.ema.copy_to(self.module.parameters())
        self.module.eval()
        try:
            yield self.module
        finally:
            self.ema.restore(self.module.parameters())
            self.module.train(training)

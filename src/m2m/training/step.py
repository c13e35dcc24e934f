"""One optimisation step: micro-batches, gradient, clipping, optimiser, moving average; on every process alike."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from m2m.training.average import Average
from m2m.training.optimizer import StepConfig, check_step_config, learning_rate, new_optimizer, trained_parameters
from m2m.training.parallel import Processes, gathered, joined, mean_by_name
from m2m.training.random_states import random_states, set_random_states
from m2m.training.task import Batch
from m2m.training.tensor_files import tensor_bytes

Logs = Mapping[str, float | Tensor]
Loss = Callable[[nn.Module, Any, int], tuple[Tensor, Logs]]


@dataclass(frozen=True)
class StepResult:
    """What a step came to in this process.

    loss: mean over its micro-batches, detached. logs: means of theirs, and the rate and norm of the step. finite: False
    where a loss or gradient of any process was not, so that nothing moved. batches: the micro-batches.
    """

    loss: Tensor
    logs: Logs
    finite: bool
    batches: list[Batch]


class Optimisation:
    """One module, its optimiser and moving average, and the step that moves them.

    Attributes: module; wrapped (by `processes`; the same where one process works alone); trained (the parameters that
    move, by name, in the order in which the optimiser counts them; sharded under FSDP); optimizer; average; processes.
    """

    def __init__(self, module: nn.Module, config: StepConfig, steps: int, processes: Processes) -> None:
        check_step_config(config, steps)
        self.module = module
        self.processes = processes
        self.wrapped = processes.wrap(module)
        # After wrapping, for FSDP puts sharded parameters in the place of those that it was given.
        self.trained = trained_parameters(module)
        self.optimizer = new_optimizer(self.trained, config)
        self.average = Average(self.trained, config.ema_decay, config.ema_device)
        self._config = config
        self._steps = steps

    def step(
        self, step: int, batches: Iterator[Batch], loss: Loss, accumulation: int, interrupted: Callable[[], bool]
    ) -> StepResult | None:
        """Take step `step` (from 0) on the next `accumulation` micro-batches.

        interrupted: asked between two of them, by all processes; if it says True nothing has changed (the random
        generators included), None is returned, and the run should end. A loss or gradient that is not finite in any
        process moves nothing in all of them.
        """
        rate = learning_rate(self._config, step, self._steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        before = random_states(self.processes.device) if accumulation > 1 else {}
        taken: list[Batch] = []
        losses: list[Tensor] = []
        logs: list[Logs] = []
        while len(taken) < accumulation:
            if taken and interrupted():
                self._drop_gradients()
                set_random_states(before, self.processes.device)
                return None
            taken.append(next(batches))
            value, own = self._backward(loss, taken[-1], step, 1 / accumulation, last=len(taken) == accumulation)
            losses.append(value)
            logs.append(own)
        mean = torch.stack(losses).mean()
        finite, moved = self._move(mean)
        return StepResult(mean, {**mean_by_name(logs), "learning_rate": rate, **moved}, finite, taken)

    @cached_property
    def frozen(self) -> str:
        """By what the weights that are not trained are known again: `frozen_digest`. All processes must ask for it; it
        is worked out once, for they do not move."""
        return frozen_digest(self.module)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The module with its averaged weights in place, in eval mode; the trained ones return afterwards."""
        training = self.module.training
        with self.average.averaged():
            self.module.eval()
            try:
                yield self.module
            finally:
                self.processes.part(self.wrapped)
                self.module.train(training)

    def _backward(self, loss: Loss, batch: Batch, step: int, weight: float, last: bool) -> tuple[Tensor, Logs]:
        """Add the gradient of one micro-batch, which counts for `weight` of the step; gives its loss and logs."""
        with self.processes.sync(self.wrapped, last):
            with self.processes.autocast():
                value, logs = loss(self.wrapped, batch, step)
            weighted = value * weight
            (self.processes.scaler.scale(weighted) if self.processes.scaler else weighted).backward()
        return value.detach().float(), logs

    def _move(self, loss: Tensor) -> tuple[bool, dict[str, float]]:
        """Move the weights along the gradients that lie ready; gives whether all was finite, and what to log."""
        scaler = self.processes.scaler
        scale = scaler.get_scale() if scaler else 1.0
        total = self._gradient_norm() / scale
        value, norm = torch.stack([loss, total]).tolist()
        finite = not self.processes.any(not math.isfinite(value))
        moves = finite and math.isfinite(norm)
        if scaler and finite:
            scaler.unscale_(self.optimizer)
            scaler.update()
        if moves:
            self._clip(total)
            self.optimizer.step()
            self.average.step()
        else:
            self.average.skip()
        self._drop_gradients()
        # A gradient beyond float16 is a matter of the scale, until that has nothing left to give.
        finite = moves or (finite and scaler is not None and scale >= 1)
        return finite, {"gradient_norm": norm, **({"loss_scale": scale} if scaler else {})}

    def _gradient_norm(self) -> Tensor:
        """Norm of the gradient over all parameters and, where they are sharded, all processes: alike in each."""
        gradients = [parameter.grad for parameter in self.trained.values() if parameter.grad is not None]
        return joined(get_total_norm(gradients, foreach=True))

    def _clip(self, norm: Tensor) -> None:
        if self._config.gradient_clip:
            clip_grads_with_norm_(self.trained.values(), self._config.gradient_clip, norm, foreach=True)

    def _drop_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)


def frozen_digest(module: nn.Module) -> str:
    """sha256 over names, types and values of the parameters that are not trained; empty where all are."""
    frozen = [(name, parameter) for name, parameter in module.named_parameters() if not parameter.requires_grad]
    digest = hashlib.sha256()
    for name, parameter in frozen:
        digest.update(f"{name} {parameter.dtype} {list(parameter.shape)}\n".encode())
        digest.update(tensor_bytes(gathered(parameter)))
    return digest.hexdigest() if frozen else ""

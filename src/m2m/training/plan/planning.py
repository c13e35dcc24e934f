"""The plan of a run: how its batch is cut, what a device must hold, what there is to compute, how long that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from m2m.training.image_sets import TrainConfig
from m2m.training.plan.memory import (
    Layout,
    Memory,
    Weights,
    activation_bytes,
    average_bytes,
    gradient_bytes,
    kernel_bytes,
    optimizer_bytes,
    weight_bytes,
)
from m2m.training.plan.outline import Outline
from m2m.training.plan.rehearsal import Rehearsal, model_to_train, rehearse, rollout_flops
from m2m.types import UserError


@dataclass(frozen=True)
class Plan:
    """What a run will be.

    weights: of the model. processes: one a device. micro_batch: sets that a process runs at once; accumulation: how
    often in a step. memory: of a device. activations: micro-batch -> bytes. flops: of one step over all devices, with
    what checkpointing computes again and what rollouts take on average; sets of random length count as whole ones.
    hours: of all steps.
    """

    weights: Weights
    processes: int
    micro_batch: int
    accumulation: int
    memory: Memory
    activations: Mapping[int, int]
    flops: int
    hours: float


class Planner:
    """Plans runs that differ in their settings alone.

    outline: what is trained on what. device: `cpu` or `cuda`; processes: one a device. runtime: bytes that a process
    takes before it trains. Rehearsals, which take seconds, are kept.
    """

    def __init__(self, outline: Outline, device: str, processes: int, runtime: int) -> None:
        self.device = device
        self.processes = processes
        self._outline = outline
        self._runtime = runtime
        self._rehearsals: dict[tuple[object, ...], Rehearsal] = {}

    def plan(self, config: TrainConfig, tflops: float) -> Plan:
        """The plan of a run whose devices sustain `tflops` TFLOP/s each. Raises UserError for an uneven batch."""
        micro_batch = self.micro_batch(config)
        weights, layout = self._weights(config), self._layout(config)
        activations = {
            sets: activation_bytes(self._rehearsal(config, sets), weights, config.ema_device, layout)
            for sets in sorted({1, micro_batch})
        }
        own = self._rehearsal(config, 1).flops + rollout_flops(self._outline, config)
        flops = round(own * config.batch_sets)
        return Plan(
            weights=weights,
            processes=self.processes,
            micro_batch=micro_batch,
            accumulation=layout.accumulation,
            memory=self.memory(config),
            activations=activations,
            flops=flops,
            hours=config.steps * flops / (tflops * 1e12 * self.processes) / 3600,
        )

    def memory(self, config: TrainConfig) -> Memory:
        """What a device must hold."""
        weights, layout = self._weights(config), self._layout(config)
        rehearsal = self._rehearsal(config, self.micro_batch(config))
        return Memory(
            {
                "weights": weight_bytes(weights, layout),
                "gradients": gradient_bytes(weights, layout),
                "optimiser": optimizer_bytes(weights, config.optimizer, layout),
                "average": average_bytes(weights, config.ema_device, layout),
                "activations": activation_bytes(rehearsal, weights, config.ema_device, layout),
                "encoders": self._outline.encoder_bytes(),
                "runtime": self._runtime + kernel_bytes(rehearsal, layout),
            }
        )

    def micro_batch(self, config: TrainConfig) -> int:
        """Sets that a process runs at once. Raises UserError where processes and micro-batches do not come out even."""
        at_once = config.micro_batch_sets or config.batch_sets // self.processes
        if at_once == 0 or config.batch_sets % (at_once * self.processes):
            raise UserError(
                f"batch_sets is {config.batch_sets}: {self.processes} processes with "
                f"{config.micro_batch_sets or 'an equal number of'} sets at once cannot share it evenly"
            )
        return at_once

    def _layout(self, config: TrainConfig) -> Layout:
        accumulation = config.batch_sets // (self.micro_batch(config) * self.processes)
        fsdp = config.parallel == "fsdp" and self.processes > 1
        return Layout(self.device, self.processes, accumulation, fsdp)

    def _weights(self, config: TrainConfig) -> Weights:
        return Weights.of(model_to_train(self._outline, config))

    def _rehearsal(self, config: TrainConfig, sets: int) -> Rehearsal:
        what = (config.trainable, config.lora_rank, config.frozen_precision, config.gradient_checkpointing)
        key = (*what, config.precision, config.objective, sets)
        if key not in self._rehearsals:
            # A batch in which some sets lost their context and some did not takes the most memory.
            drop = sets > 1 and config.objective.context_dropout > 0
            self._rehearsals[key] = rehearse(self._outline, config, sets, self.device, drop)
        return self._rehearsals[key]

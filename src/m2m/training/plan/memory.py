"""What a process of a run holds, part by part, in bytes on its device.

Weights and what goes with them are counted; the rest comes from a rehearsal. Trained weights, gradients, moments and
average are float32 (README, decisions); frozen matrices may be half of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from m2m.training.plan.rehearsal import Rehearsal
from m2m.training.plan.storages import heap_peak, live_peak

FLOAT = 4  # bytes
ADAMW = 2 * FLOAT  # bytes a weight: two moments
# bitsandbytes: two moments of one byte, and a float32 scale for each block of 256 of either. Tensors of fewer than 4096
# weights keep moments in float32.
ADAMW_8BIT = 2 + 2 * FLOAT / 256
ADAMW_8BIT_FROM = 4096
# What oneDNN keeps of every different product that it has met (generated code, constants). In float32 it makes the
# convolutions alone. Means over the U-Nets of benchmarks/plan_accuracy.py; torch 2.13, AVX-512.
KERNEL = {torch.float32: 120_000, torch.bfloat16: 450_000, torch.float16: 450_000}


@dataclass(frozen=True)
class Layout:
    """How a run lies on its devices. device: `cpu`, `cuda`, ...; accumulation: micro-batches of a step."""

    device: str
    processes: int = 1
    accumulation: int = 1
    fsdp: bool = False

    @property
    def parts(self) -> int:
        """Into how many parts weights and what goes with them are cut."""
        return self.processes if self.fsdp else 1

    @property
    def gradients_stand(self) -> bool:
        """Whether gradients take their room before backward: those of former micro-batches, or DDP's buckets."""
        return self.accumulation > 1 or self.processes > 1

    @property
    def on_cpu(self) -> bool:
        """Whether main memory is the device's."""
        return self.device.startswith("cpu")


@dataclass(frozen=True)
class Weights:
    """The model's parameters. numbers: of weights in each trained tensor; trained, frozen: bytes.

    Bytes under FSDP (`m2m.training.parallel`): joined, of the tensors that are whole from the clean pass to the end of
    backward; joined_trained, of the trained ones among them; unit, of the largest unit, which is whole while it runs.
    """

    count: int
    numbers: tuple[int, ...]
    trained: int
    frozen: int
    joined: int
    joined_trained: int
    unit: int

    @classmethod
    def of(cls, model: nn.Module) -> Weights:
        """Of a model as it is trained; it may lie on torch's meta device."""
        parameters = list(model.parameters())
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        units = [part for part in model.modules() if isinstance(part, (ResnetBlock2D, Downsample2D, Upsample2D))]
        inside = {id(parameter) for unit in units for parameter in unit.parameters()}
        joined = [parameter for parameter in parameters if id(parameter) not in inside]
        return cls(
            count=sum(parameter.numel() for parameter in parameters),
            numbers=tuple(parameter.numel() for parameter in trained),
            trained=_bytes(trained),
            frozen=_bytes(parameters) - _bytes(trained),
            joined=_bytes(joined),
            joined_trained=_bytes([parameter for parameter in joined if parameter.requires_grad]),
            unit=max((_bytes(list(unit.parameters())) for unit in units), default=0),
        )


@dataclass(frozen=True)
class Memory:
    """Bytes of one device by part, at the moment when it holds most."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def weight_bytes(weights: Weights, layout: Layout) -> int:
    """The model's own."""
    whole = weights.trained + weights.frozen
    if not layout.fsdp:
        return whole
    # Twice the unit: while one runs the next is being joined.
    return whole // layout.parts + weights.joined + 2 * weights.unit


def gradient_bytes(weights: Weights, layout: Layout) -> int:
    """Of the trained weights."""
    if not layout.fsdp:
        return weights.trained
    # Until the last micro-batch of a step nothing travels, and whole gradients gather.
    whole = weights.trained if layout.accumulation > 1 else weights.joined_trained
    return weights.trained // layout.parts + whole


def optimizer_bytes(weights: Weights, optimizer: str, layout: Layout) -> int:
    """The moments of `adamw` or `adamw8bit`."""
    if optimizer == "adamw":
        return ADAMW * sum(weights.numbers) // layout.parts
    return sum(int(n * (ADAMW_8BIT if n >= ADAMW_8BIT_FROM else ADAMW)) for n in weights.numbers) // layout.parts


def average_bytes(weights: Weights, ema_device: str, layout: Layout) -> int:
    """The moving average, unless it lies in main memory and the run on a GPU."""
    return 0 if ema_device == "cpu" and not layout.on_cpu else weights.trained // layout.parts


def activation_bytes(rehearsal: Rehearsal, weights: Weights, ema_device: str, layout: Layout) -> int:
    """What a step takes beside all of the above at its worst: activations in most cases, else what the average needs
    to follow the weights (their differences, all at once, while gradients are still there)."""
    sizes = [event.size for event in rehearsal.events if layout.gradients_stand or not event.gradient]
    if average_bytes(weights, ema_device, layout):
        differences = [FLOAT * number // layout.parts for number in weights.numbers]
        sizes += [*differences, *(-size for size in differences)]
    peak = heap_peak(sizes, rehearsal.encoding) if layout.on_cpu else live_peak(sizes)
    return peak if layout.gradients_stand else peak - weights.trained


def kernel_bytes(rehearsal: Rehearsal, layout: Layout) -> int:
    """What the CPU's library of kernels gathers in the first steps; a GPU's is in the runtime."""
    return sum(KERNEL[dtype] * count for dtype, count in rehearsal.products.items()) if layout.on_cpu else 0


def _bytes(parameters: list[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)

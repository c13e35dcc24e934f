"""The task of training the probe on labelled pictures.

It stands here because it joins two parts that do not know each other: the trainer's loop and the evaluation's probe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from torch import Tensor, nn

from m2m.data.worlds import World
from m2m.evaluation.truth.labelled import Labelled, LabelledStream
from m2m.evaluation.truth.probe import TruthProbe
from m2m.evaluation.truth.probe_training import ProbeLossConfig, probe_loss
from m2m.training.loop import LoopConfig
from m2m.training.seeds import step_generator
from m2m.training.task import Batch, Share, StepBatch
from m2m.types import UserError

PIXELS = "pixels"  # among the tensors of a batch; the others are labels, by attribute


@dataclass(frozen=True)
class ProbeConfig(LoopConfig):
    """A run of `m2m train-probe`.

    world: whose pictures it reads; size: pixels of a side. data, validation: folders of `images` and
    `validation_images` rendered pictures, made where they are missing in `workers` processes. model: fields of
    TruthProbe. A step is `batch_images` pictures. export: folder of the finished probe.
    """

    world: str = "mini"
    size: int = 64
    data: str = "runs/probe_data/train"
    images: int = 24_576
    validation: str = "runs/probe_data/validation"
    validation_images: int = 4096
    workers: int = 1
    model: dict[str, Any] = field(default_factory=dict)
    objective: ProbeLossConfig = field(default_factory=ProbeLossConfig)
    batch_images: int = 64
    export: str = ""


def new_probe(config: ProbeConfig) -> TruthProbe:
    """A probe with random weights for the config's world and size."""
    attributes = World.load(config.world).attributes
    return TruthProbe(attributes=attributes, image_size=config.size, **config.model)


class ProbeTask:
    """Labelled pictures in, classification loss out; batch and draws of a step are functions of (seed, step) alone."""

    def __init__(self, probe: TruthProbe, pictures: Labelled, config: ProbeConfig) -> None:
        self.module: nn.Module = probe
        self._stream = LabelledStream(pictures)
        self._config = config

    def accumulation(self, ranks: int) -> int:
        """A step is one batch. Raises UserError for several processes."""
        if ranks > 1:
            raise UserError(f"the probe trains in one process, {ranks} were launched; start `m2m` itself")
        return 1

    def batches(self, step: int, cursor: dict[str, Any], share: Share) -> Iterator[StepBatch]:
        """The pictures of this step, with the truth about them by attribute, and all that follow."""
        for number in count(step):
            pixels, labels = self._stream.batch(self._config.batch_images, self._config.seed, number)
            yield StepBatch(number, {PIXELS: pixels, **labels})

    def loss(self, module: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of the pictures of this step, and the share of them that is right in each attribute."""
        device = next(module.parameters()).device
        labels = {name: tensor.to(device) for name, tensor in batch.tensors().items()}
        pixels = labels.pop(PIXELS)  # [M, 3, S, S]
        assert isinstance(module, TruthProbe)  # one process alone: nothing is wrapped around it
        return probe_loss(module, pixels, labels, self._config.objective, step_generator(self._config.seed, step))

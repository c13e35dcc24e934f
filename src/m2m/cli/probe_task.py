"""The task of training the probe on labelled pictures.

It stands here because it joins two parts that do not know each other: the trainer's loop and the evaluation's probe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from m2m.data.worlds import World
from m2m.evaluation.labelled import Labelled, LabelledStream
from m2m.evaluation.probe import TruthProbe
from m2m.evaluation.probe_training import ProbeLossConfig, probe_loss
from m2m.training.loop import LoopConfig
from m2m.training.seeds import step_generator


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
    """A probe with random weights for the config's world and size, on its device."""
    attributes = World.load(config.world).attributes
    return TruthProbe(attributes=attributes, image_size=config.size, **config.model).to(config.device)


class ProbeTask:
    """Labelled pictures in, classification loss out; batch and draws of a step are functions of (seed, step) alone."""

    def __init__(self, probe: TruthProbe, pictures: Labelled, config: ProbeConfig) -> None:
        self.module = probe
        self._stream = LabelledStream(pictures)
        self._config = config

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of the pictures of this step, and the share of them that is right in each attribute."""
        config = self._config
        pixels, labels = self._stream.batch(config.batch_images, config.seed, step)
        generator = step_generator(config.seed, step)
        labels = {name: own.to(config.device) for name, own in labels.items()}
        return probe_loss(self.module, pixels.to(config.device), labels, config.objective, generator)

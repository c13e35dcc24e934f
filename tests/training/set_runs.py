"""Short runs on small encoded sets, with the tiny U-Net of `tests/tiny.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2m.cli.train_parts import read_config
from m2m.config import config_dict
from m2m.data.reading.sets import open_sets
from m2m.model.conditions import ConditionConfig
from m2m.model.unet import M2MModel
from m2m.tasks.task import Task
from m2m.training import conditions
from m2m.training.conditions import take_up_task
from m2m.training.encoding import SetEncoder
from m2m.training.image_sets import ImageSetTask, SetBatch, TrainConfig, new_model, new_scheduler
from m2m.training.loop import TrainingResult, train
from m2m.training.parallel import Processes
from m2m.training.task import Share
from m2m.types import UserError
from tests.tiny import CONTEXT_DIM, tiny_autoencoder, tiny_encoder, tiny_scheduler, tiny_unet_config

ENCODER = SetEncoder(tiny_autoencoder(), tiny_encoder())


def toy_config(data: Path | str, out: Path, **changes: Any) -> TrainConfig:
    """A run of six steps with the tiny U-Net."""
    settings: dict[str, Any] = {
        "data": str(data),
        "out": str(out),
        "variant": "self",
        "unet": tiny_unet_config(),
        "scheduler": {k: v for k, v in tiny_scheduler().config.items() if k in ("steps_offset", "beta_schedule")},
        "steps": 6,
        "batch_sets": 2,
        "images_per_set": 3,
        "warmup_steps": 2,
        "log_every": 2,
        "threads": 1,
        "workers": 0,
        "tracker": "none",
    }
    return TrainConfig(**{**settings, **changes})


class Places(Task):
    """A task of its own: the three numbers that `write_toy_shards(conditions=True)` stores of every image."""

    name = "places"
    condition = ConditionConfig("place", 3, width=8)

    def conditions(self, numbers: Tensor, stored: Tensor | None) -> Tensor:
        if stored is None:
            raise UserError("holds no places; store them in META")
        return stored


PLACES = f"{__name__}:{Places.__name__}"


def task_of(config: TrainConfig, width: int = CONTEXT_DIM) -> ImageSetTask:
    """What is trained, its model new, with the embedders of `config.task` if it has one."""
    model = new_model(config, width)
    take_up_task(model, conditions.task_of(config.task), config.seed, "the model")
    data = open_sets(config.data, read_config(config))
    return ImageSetTask(model, new_scheduler(config), data, config, ENCODER)


def wake(model: M2MModel) -> None:
    """Random weights where an untrained model has zeros, so that contexts and conditions show."""
    generator = torch.Generator().manual_seed(0)
    for parameter in [*model.image_set_attention_parameters(), *model.added_parameters()]:
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)


def run(config: TrainConfig, **arguments: Any) -> TrainingResult:
    with Processes(config) as processes:
        return train(task_of(config), config, config_dict(config), processes, **arguments)


def first_batch(task: ImageSetTask, step: int = 0, share: Share | None = None) -> SetBatch:
    batches = task.batches(step, {}, share or Share())
    try:
        return next(batches)
    finally:
        batches.close()


def same_state(one: TrainingResult, other: TrainingResult) -> None:
    """Weights and averages of two runs are the same, to the bit."""
    for name, tensor in one.optimisation.module.state_dict().items():
        assert torch.equal(tensor, other.optimisation.module.state_dict()[name]), name
    averages = (own.optimisation.average.tensors() for own in (one, other))
    assert all(torch.equal(*pair) for pair in zip(*(own.values() for own in averages), strict=True))

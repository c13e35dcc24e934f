"""What leaves a training run: grids of samples on the way, and the finished pipeline."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from m2m.checkpoint import atomic_folder
from m2m.data.grids import image_grid
from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.image_set import ImageSet, stack_sets
from m2m.data.reading.order import OrderConfig
from m2m.data.reading.sets import open_sets
from m2m.loading import settings_of
from m2m.pipeline import M2MPipeline
from m2m.tasks.task import Task
from m2m.training.conditions import set_conditions
from m2m.training.parallel import gathered
from m2m.training.step import Optimisation
from m2m.training.trainable import merged
from m2m.types import UserError

SETS = 6
GIVEN = 4
GENERATED = 4
SHARD = "15MB"  # a repository's limit on a file


def sample_grids(
    pipe: M2MPipeline, validation: str | Path, steps: int, guidance: float, task: Task | None = None
) -> Callable[[int], Mapping[str, NDArray[np.uint8]]]:
    """A function of the step that continues the first sets of `validation` with the pipeline as it is then.

    The sets and the noise are the same each time, so that grids of two steps can be compared. validation: shards of
    pictures, or "world:NAME:SPLIT:COUNT". task: what the pipeline's model is told, if anything. Raises UserError where
    it holds latents, or fewer images than are given.
    """
    shown = _shown_sets(validation, pipe.image_size, task)
    pipe.set_progress_bar_config(disable=True)

    def sample(step: int) -> Mapping[str, NDArray[np.uint8]]:
        (made,) = pipe(
            shown.given,
            num_images=shown.generated,
            num_inference_steps=steps,
            guidance_scale=guidance,
            conditions=shown.conditions,
            return_dict=False,
        )
        return {"samples": np.asarray(image_grid(*shown.grid(made)))}

    return sample


@dataclass(frozen=True)
class _Shown:
    """The sets of a grid: pictures that are given, how many follow, what they are told, and what they truly are."""

    given: list[list[Image.Image]]
    generated: int
    conditions: list[NDArray[np.float32]] | None = None
    true: list[list[Image.Image]] | None = None

    def grid(self, made: Sequence[Sequence[Image.Image]]) -> tuple[list[list[Image.Image]], list[tuple[str, int]]]:
        """Rows and groups of columns of `image_grid`."""
        true = self.true or [[] for _ in made]
        rows = [[*old, *new, *own] for old, new, own in zip(self.given, made, true, strict=True)]
        columns = [("given", len(self.given[0])), ("generated", self.generated), ("true", len(true[0]))]
        return rows, [(name, count) for name, count in columns if count]


def _shown_sets(validation: str | Path, size: int, task: Task | None) -> _Shown:
    if task is None:
        return _Shown([_pictures(one) for one in _first_sets(validation, GIVEN, size, "error")], GENERATED)
    # A view is asked of one picture; a procedure shows with two where it goes.
    given = 2 if task.ordered else 1
    sets = _first_sets(validation, given + GENERATED, size, "skip")  # of procedures some are short
    batch = stack_sets(sets)
    conditions = set_conditions(task, batch, torch.device("cpu"))
    assert conditions is not None
    pictures = [_pictures(one) for one in sets]
    return _Shown(
        given=[own[:given] for own in pictures],
        generated=GENERATED,
        conditions=[own.numpy() for own in conditions],
        true=[own[given:] for own in pictures],
    )


def _first_sets(validation: str | Path, images: int, size: int, too_few: str) -> list[ImageSet]:
    """The first `SETS` sets, the first images of each, by number."""
    config = ReadConfig(images=images, within=(0, images), ordered=True, size=size, too_few=too_few)
    data = open_sets(validation, config)
    if data.encoders is not None:
        raise UserError(f"validation '{validation}' holds latents; sample grids need pictures: set sample_every=0")
    order = data.order(OrderConfig(batch_sets=1, shuffle=0, epochs=1))
    return [data[plan.visits[0].index] for plan in islice(order, SETS)]


def _pictures(one: ImageSet) -> list[Image.Image]:
    return [] if one.images is None else [Image.fromarray(image) for image in one.images]


def export_pipeline(pipe: M2MPipeline, optimisation: Optimisation, folder: str | Path) -> None:
    """Write the pipeline with the averaged weights, in float16 safetensors, whole or not at all.

    Every process of the run must call it, for each may hold a part of the weights; the main one writes.
    """
    is_main = optimisation.processes.is_main
    with optimisation.averaged():
        whole = {name: gathered(tensor) for name, tensor in pipe.model.state_dict().items()}
        # Copied here: what is gathered from a CPU is the weights themselves, and they are the trained ones again soon.
        copied = _plain_copy(pipe, whole) if is_main else None
    if copied is not None:
        _write(copied, Path(folder))


def _plain_copy(pipe: M2MPipeline, tensors: Mapping[str, Tensor]) -> M2MPipeline:
    """The pipeline in float16 on the CPU, its model with these tensors, and nothing of how it was trained."""
    others = {name: part for name, part in pipe.components.items() if part is not None and name != "model"}
    parts = {name: copy.deepcopy(part) for name, part in others.items()}
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.cpu().half()
    return M2MPipeline(model=merged(pipe.model, tensors, torch.float16), **parts, **settings_of(pipe))


def _write(pipe: M2MPipeline, folder: Path) -> None:
    with atomic_folder(folder) as staged:
        pipe.save_pretrained(staged, safe_serialization=True, max_shard_size=SHARD)
        for path in staged.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read

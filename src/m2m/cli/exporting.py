"""What leaves a training run: grids of samples on the way, and the finished pipeline."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from m2m.checkpoint import atomic_folder
from m2m.data.grids import image_grid
from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.sets import open_sets
from m2m.pipeline import M2MPipeline
from m2m.training.parallel import gathered
from m2m.training.step import Optimisation
from m2m.training.trainable import merged
from m2m.types import UserError

SETS = 6
GIVEN = 4
GENERATED = 4
SHARD = "15MB"  # a repository's limit on a file


def sample_grids(
    pipe: M2MPipeline, validation: str | Path, steps: int, guidance: float
) -> Callable[[int], Mapping[str, NDArray[np.uint8]]]:
    """A function of the step that continues the first sets of `validation` with the pipeline as it is then.

    The sets and the noise are the same each time, so that grids of two steps can be compared. validation: shards of
    pictures, or "world:NAME:SPLIT:COUNT". Raises UserError where it holds latents, or fewer images than are given.
    """
    config = ReadConfig(images=GIVEN, within=(0, GIVEN), ordered=True, size=pipe.image_size)
    data = open_sets(validation, config)
    if data.encoders is not None:
        raise UserError(f"validation '{validation}' holds latents; sample grids need pictures: set sample_every=0")
    sets = [data[index].images for index in range(min(SETS, len(data)))]
    given = [[Image.fromarray(image) for image in images] for images in sets if images is not None]
    pipe.set_progress_bar_config(disable=True)

    def sample(step: int) -> Mapping[str, NDArray[np.uint8]]:
        (made,) = pipe(
            given, num_images=GENERATED, num_inference_steps=steps, guidance_scale=guidance, return_dict=False
        )
        rows = [[*old, *new] for old, new in zip(given, made, strict=True)]
        return {"samples": np.asarray(image_grid(rows, columns=[("given", GIVEN), ("generated", GENERATED)]))}

    return sample


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
    names = ("default_guidance_scale", "default_guidance_interval")
    model = merged(pipe.model, tensors, torch.float16)
    return M2MPipeline(model=model, **parts, **{name: pipe.config[name] for name in names})


def _write(pipe: M2MPipeline, folder: Path) -> None:
    with atomic_folder(folder) as staged:
        pipe.save_pretrained(staged, safe_serialization=True, max_shard_size=SHARD)
        for path in staged.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read

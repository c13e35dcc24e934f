"""What leaves a training run: grids of samples on the way, and the finished pipeline."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from m2m.checkpoint import atomic_folder
from m2m.data.grids import image_grid
from m2m.data.stored import stored_images
from m2m.pipeline import M2MPipeline
from m2m.training.step import Optimisation
from m2m.types import UserError

SETS = 6
GIVEN = 4
GENERATED = 4
SHARD = "15MB"  # a repository's limit on a file


def sample_grids(
    pipe: M2MPipeline, validation: str | Path, steps: int, guidance: float
) -> Callable[[int], Mapping[str, NDArray[np.uint8]]]:
    """A function of the step that continues the first sets of `validation` with the pipeline as it is then.

    The sets and the noise are the same each time, so that grids of two steps can be compared.
    Raises UserError where the folder has no images, or fewer than are given.
    """
    stored = stored_images(validation)[:SETS]
    if stored.shape[1] < GIVEN:
        raise UserError(f"validation '{validation}' has {stored.shape[1]} images a set, grids need {GIVEN}")
    given = [[Image.fromarray(image) for image in images[:GIVEN]] for images in stored]
    pipe.set_progress_bar_config(disable=True)

    def sample(step: int) -> Mapping[str, NDArray[np.uint8]]:
        (made,) = pipe(
            given, num_images=GENERATED, num_inference_steps=steps, guidance_scale=guidance, return_dict=False
        )
        rows = [[*old, *new] for old, new in zip(given, made, strict=True)]
        return {"samples": np.asarray(image_grid(rows, columns=[("given", GIVEN), ("generated", GENERATED)]))}

    return sample


def export_pipeline(pipe: M2MPipeline, optimisation: Optimisation, folder: str | Path) -> None:
    """Write the pipeline with the averaged weights, in float16 safetensors, whole or not at all."""
    with optimisation.averaged():
        parts = {name: copy.deepcopy(part) for name, part in pipe.components.items() if part is not None}
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.cpu().half()
    names = ("default_guidance_scale", "default_guidance_interval")
    finished = M2MPipeline(**parts, **{name: pipe.config[name] for name in names})
    with atomic_folder(folder) as staged:
        finished.save_pretrained(staged, safe_serialization=True, max_shard_size=SHARD)
        for path in staged.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read

"""What a pipeline makes of held-out sets: pixels in, pixels out, nothing scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from m2m.data.pictures import images_from_pixels
from m2m.evaluation.truth.held_out import HeldOutSet
from m2m.pipeline import M2MPipeline
from m2m.sampling_request import asked_window
from m2m.types import UserError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SampleConfig:
    """How the pipeline is called. guidance: None takes the pipeline's own; batch: sets of one call, of no influence.

    window: how many of the last images are attended to; None: all.
    """

    steps: int = 50
    guidance: float | None = None
    batch: int = 20
    seed: int = 0
    window: int | None = None


def continuations(
    pipe: M2MPipeline, sets: Sequence[HeldOutSet], config: SampleConfig, progress: Progress | None = None
) -> Tensor:
    """As many images as each set has rendered ones, after its given ones: pixels [S, N, 3, H, W] in [-1, 1].

    progress: called with (sets done, sets in all). Raises UserError where the pipeline makes images of another size.
    """
    given = [images_from_pixels(held_out.given) for held_out in sets]
    ids = [f"set/{index}" for index in range(len(sets))]
    return _sampled(pipe, sets, given, ids, len(sets[0].rendered), config, progress)


def unconditional(
    pipe: M2MPipeline, sets: Sequence[HeldOutSet], config: SampleConfig, progress: Progress | None = None
) -> Tensor:
    """As many images as each set has rendered ones, every one made from nothing at all: pixels [S, N, 3, H, W].

    Each is the first image of a set of its own. A second image would see the first, and be conditional again.
    """
    config = replace(config, guidance=1.0)  # with nothing given both branches of guidance are the same: one will do
    images = len(sets[0].rendered)
    ids = [f"alone/{index}/{image}" for index in range(len(sets)) for image in range(images)]
    alone = _sampled(pipe, sets, [[] for _ in ids], ids, 1, config, progress)  # [S * N, 1, 3, H, W]
    return alone[:, 0].unflatten(0, (len(sets), images))


def autoencoded(pipe: M2MPipeline, images: Tensor) -> Tensor:
    """Images [S, N, 3, H, W] as the pipeline's autoencoder gives them back: what no model in its latents can better."""
    decoded = [pipe.decode(pipe.encode(images_from_pixels(own))).cpu() for own in images]
    return torch.stack(decoded)


def _sampled(
    pipe: M2MPipeline,
    sets: Sequence[HeldOutSet],
    given: list[list[Any]],
    ids: list[str],
    images: int,
    config: SampleConfig,
    progress: Progress | None,
) -> Tensor:
    """Call the pipeline on batches of sets; [len(given), images, 3, H, W]."""
    _check_size(pipe, sets)
    made: list[Tensor] = []
    for start in range(0, len(given), config.batch):
        part = slice(start, start + config.batch)
        result: Any = pipe(
            given[part],
            num_images=images,
            num_inference_steps=config.steps,
            guidance_scale=config.guidance,
            window=asked_window(config.window),
            window_policy="sliding",
            seed=config.seed,
            set_ids=ids[part],
            output_type="pt",
        )
        made += [own.float().cpu() * 2 - 1 for own in result.images]
        if progress:
            progress(len(made), len(given))
    return torch.stack(made)


def _check_size(pipe: M2MPipeline, sets: Sequence[HeldOutSet]) -> None:
    size = sets[0].given.shape[-1]
    if pipe.image_size != size:
        raise UserError(f"the model makes images of {pipe.image_size} pixels, the held-out sets have {size}")

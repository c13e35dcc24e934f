"""Held-out sets of a tiny world: what a model is given, what the renderer makes of the same caption, and baselines.

The baselines answer as a model would, [S, N, 3, H, W], so that all are scored alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from m2m.data.pictures import to_pixels
from m2m.data.worlds import Caption, World
from m2m.data.worlds.rendering import image_seed
from m2m.types import UserError


@dataclass(frozen=True)
class HeldOutConfig:
    """Which sets. split: of the world's captions. given: images that a model sees; generated: images that it makes.

    reference: size of the rendered set whose closest pair says what a near-copy is. 25 is a set of the paper: two of 25
    honest draws come as close as that once in 300 pairs, so a model without copies is charged with about 1%.
    """

    split: str = "test"
    sets: int = 200
    given: int = 4
    generated: int = 4
    reference: int = 25
    size: int = 64
    seed: int = 0


@dataclass(frozen=True)
class HeldOutSet:
    """One caption. given [G, 3, S, S] and rendered [N, 3, S, S] are pixels in [-1, 1], all of different seeds.

    closest_pair: distance of the two closest images of a further rendered set, the reference.
    """

    caption: Caption
    given: Tensor
    rendered: Tensor
    closest_pair: float


def held_out_sets(world: World, config: HeldOutConfig) -> list[HeldOutSet]:
    """Render the sets. Raises UserError for a split that does not exist, or numbers that leave nothing to compare."""
    if min(config.sets, config.given, config.generated) < 1 or config.reference < 2:
        raise UserError("sets, given and generated must be at least 1, and reference, which needs a pair, at least 2")
    captions = world.captions(config.split, config.sets, config.seed)
    return [_held_out_set(world, caption, index, config) for index, caption in enumerate(captions)]


def _held_out_set(world: World, caption: Caption, index: int, config: HeldOutConfig) -> HeldOutSet:
    counts = [config.given, config.generated, config.reference]
    seeds = [image_seed(config.seed, index, image) for image in range(sum(counts))]
    pixels = to_pixels(np.stack(world.sample_set(caption, seeds, config.size)))
    given, rendered, reference = pixels.split(counts)
    return HeldOutSet(caption, given, rendered, closest_pair(reference))


def distances(images: Tensor, others: Tensor) -> Tensor:
    """Root mean square difference of the pixels of each pair: [M, 3, S, S] and [K, 3, S, S] -> [M, K]."""
    # The subtraction itself: the faster expansion |a|^2 - 2ab + |b|^2 does not give 0 for a copy.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(images.flatten(1), others.flatten(1), compute_mode=exact) / images[0].numel() ** 0.5


def closest_pair(images: Tensor) -> float:
    """Distance of the two closest of at least two images [M, 3, S, S]."""
    pairwise = distances(images, images).fill_diagonal_(torch.inf)
    return float(pairwise.min())


def rendered(sets: Sequence[HeldOutSet]) -> Tensor:
    """Fresh renderings of the same captions, [S, N, 3, H, W]: the ceiling."""
    return torch.stack([held_out.rendered for held_out in sets])


def copies_of_last(sets: Sequence[HeldOutSet]) -> Tensor:
    """The last given image, N times, [S, N, 3, H, W]: right wherever the caption fixes something, and nothing new."""
    return torch.stack([held_out.given[-1:].expand_as(held_out.rendered) for held_out in sets])

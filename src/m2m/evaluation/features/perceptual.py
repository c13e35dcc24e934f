"""Perceptual distance: how different two pictures look, by the features of a network at several depths.

LPIPS (Zhang et al. 2018) without its learned weights, on EfficientNet-Lite0 instead of AlexNet or VGG: their weights
cannot be had as packages here. Its numbers compare with each other and with no published one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.data.pictures import to_pixels
from m2m.model.encoders import EfficientNetLite0Encoder
from m2m.types import UserError

NAME = "efficientnet-lite0"
# Blocks after which features are compared, beside the stem: at 1/2, 1/4, 1/8 and 1/16 of the size. The last stage is
# left out: there a true view through the tiny autoencoder is as far from itself as from another view.
DEPTHS = (1, 3, 5, 11)
SIZES = (32, 224)  # pixels of a side at which pictures are compared: their own, within these bounds
BATCH = 8  # pictures of one pass


class PerceptualDistance:
    """Distances of pictures uint8 [M, H, W, 3]; some 3 ms a picture of 64 pixels. Raises UserError: no weights."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._encoders: dict[int, EfficientNetLite0Encoder] = {}

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Tensor:
        """What is compared, float32 [M, D]: the distance of two pictures is the squared distance of their rows.

        At each place of each depth the features have length 1; a depth's places share the weight 1 among them.
        """
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
            raise UserError(f"pictures must be uint8 [M, H, W, 3], these are {pictures.dtype} {list(pictures.shape)}")
        encoder = self._encoder(min(pictures.shape[1:3]))
        return torch.cat([self._batch(encoder, part) for part in pictures.split(BATCH)])

    def _encoder(self, side: int) -> EfficientNetLite0Encoder:
        """The network for pictures of that side, which must be a multiple of 32 for it."""
        size = min(max(side // 32 * 32, SIZES[0]), SIZES[1])
        if size not in self._encoders:
            self._encoders[size] = EfficientNetLite0Encoder(size).to(self._device)
        return self._encoders[size]

    def _batch(self, encoder: EfficientNetLite0Encoder, pictures: Tensor) -> Tensor:
        pixels = encoder.preprocess(to_pixels(pictures.to(self._device)))  # [M, 3, size, size]
        return torch.cat([_vectors(own) for own in _maps(encoder.network, pixels)], dim=1).cpu()


def perceptual_distance(features: Tensor, others: Tensor) -> Tensor:
    """Of each pair of what was read, [M, D] and [M, D] -> [M]; 0 for equal pictures, at most 4 a depth."""
    return (features - others).square().sum(1)


def _maps(network: Any, pixels: Tensor) -> Iterator[Tensor]:
    """Feature maps of normalised pixels [M, 3, H, W]: of the stem, and after each of DEPTHS."""
    x = pixels.contiguous(memory_format=torch.channels_last)
    x = network._swish(network._bn0(network._conv_stem(x)))  # [M, 32, H/2, W/2]
    yield x
    for number, block in enumerate(network._blocks[: DEPTHS[-1]], start=1):
        x = block(x)
        if number in DEPTHS:
            yield x


def _vectors(features: Tensor) -> Tensor:
    """A map [M, C, h, w] with features of length 1 at each place, divided by the root of the places: [M, C * h * w]."""
    places = features.shape[-1] * features.shape[-2]
    return F.normalize(features, dim=1).flatten(1) / places**0.5

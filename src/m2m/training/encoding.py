"""What a model trains on, made of pictures: latents, and the tokens of a vision encoder. Nothing here is trained.

`m2m data encode` stores the same, so that training need not run the encoders; see `m2m.data.factory.encode`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from m2m.data.pictures import to_pixels

# Pixels that are encoded or decoded at once, at most: four pictures of 512. The widest layers of Stable Diffusion's
# autoencoder take half a gigabyte of float32 for as many, several times over.
PIXELS = 4 * 512**2


class SetEncoder:
    """Encodes sets of pictures as `M2MPipeline` encodes the images that it is given.

    Args:
        autoencoder: a TinyAutoencoder or AutoencoderKL; vision_encoder: a `VisionEncoder`. Both on their device, in the
            dtype to compute in; None for what is not needed.
        batch: pictures that are encoded at once, at most; fewer where they are large (`PIXELS`).

    Everything comes out in float32, on the device of its encoder, without gradient; autocast around it changes nothing.
    """

    def __init__(self, autoencoder: Any = None, vision_encoder: Any = None, batch: int = 32) -> None:
        self._autoencoder = autoencoder
        self._vision_encoder = vision_encoder
        self._batch = batch

    @property
    def decodes(self) -> bool:
        """Whether `tokens_of_latents` has both networks that it needs."""
        return self._autoencoder is not None and self._vision_encoder is not None

    def latents(self, images: Tensor) -> Tensor:
        """uint8 [B, N, H, W, 3] -> the mean of the posterior, scaled, [B, N, C, h, w]."""
        return self._apply(self._latents, images, math.prod(images.shape[2:4]))

    def tokens(self, images: Tensor) -> Tensor:
        """uint8 [B, N, H, W, 3] -> tokens [B, N, S, D]."""
        return self._apply(self._tokens_of_pictures, images, math.prod(images.shape[2:4]))

    def tokens_of_latents(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, N, C, h, w] -> tokens [B, N, S, D] of the images that they stand for."""
        scale = 2 ** (len(self._autoencoder.config.block_out_channels) - 1)  # pixels of a latent's side
        return self._apply(
            lambda part: self._tokens(self._decoded(part)), latents, math.prod(latents.shape[3:]) * scale**2
        )

    def _latents(self, images: Tensor) -> Tensor:
        vae = self._autoencoder
        pixels = to_pixels(images.to(vae.device))  # [M, 3, H, W]
        latents: Tensor = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()  # [M, C, h, w]
        return latents.float() * vae.config.scaling_factor

    def _decoded(self, latents: Tensor) -> Tensor:
        vae = self._autoencoder
        scaled = latents.to(vae.device) / vae.config.scaling_factor  # [M, C, h, w]
        pixels: Tensor = vae.decode(scaled.to(vae.dtype)).sample  # [M, 3, H, W]
        return pixels.float().clamp(-1, 1)

    def _tokens_of_pictures(self, images: Tensor) -> Tensor:
        return self._tokens(to_pixels(images.to(self._vision_encoder.device)))  # [M, S, D]

    def _tokens(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self._vision_encoder.encode(pixels.to(self._vision_encoder.device)[None])[0]  # [M, S, D]
        return tokens.float()

    def _apply(self, function: Callable[[Tensor], Tensor], sets: Tensor, pixels: int) -> Tensor:
        """A function of pictures [M, ...] to sets of them [B, N, ...], in small batches that bound the memory.

        pixels: of one picture.
        """
        at_once = max(1, min(self._batch, PIXELS // pixels))
        device = next(part for part in (self._autoencoder, self._vision_encoder) if part is not None).device.type
        # Training runs under autocast; in bfloat16 the latents would not be those that `m2m data encode` stores.
        with torch.no_grad(), torch.autocast(device, enabled=False):
            parts = [function(part) for part in sets.flatten(0, 1).split(at_once)]
        return torch.cat(parts).unflatten(0, sets.shape[:2])

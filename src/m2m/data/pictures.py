"""The way between pictures and pixels. `read_picture` and `to_rgb` are those of `m2m.picture_files`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2m.picture_files import FORMATS, MAX_PIXELS, read_picture, to_rgb

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "images_from_pixels",
    "pixels_from_images",
    "read_picture",
    "to_pixels",
    "to_rgb",
    "to_square",
]


def to_square(image: Image.Image, size: int) -> Image.Image:
    """The middle square of the picture, resized to `size` x `size` (Lanczos)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped first: ImageOps.fit lets what lies outside of the crop bleed in at its border.
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.LANCZOS)


def pixels_from_images(images: Sequence[Image.Image], size: int) -> Tensor:
    """Pictures of any size -> pixels float32 [N, 3, size, size] in [-1, 1]."""
    squares = [np.asarray(to_square(to_rgb(image), size)) for image in images]
    return to_pixels(np.stack(squares) if squares else np.empty((0, size, size, 3), np.uint8))


def to_pixels(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 [..., H, W, 3], of numpy or torch -> pixels float32 [..., 3, H, W] in [-1, 1]."""
    import torch

    # In the steps of diffusers' VaeImageProcessor: the same pixels to the last bit.
    return torch.as_tensor(images).movedim(-1, -3).float() / 255 * 2 - 1


def images_from_pixels(pixels: Tensor) -> list[Image.Image]:
    """Pixels [N, 3, H, W] in [-1, 1] (clipped to that range; any float type) -> N pictures."""
    values = ((pixels.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round()
    arrays = values.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    return [Image.fromarray(array) for array in arrays]

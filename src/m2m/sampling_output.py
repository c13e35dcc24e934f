"""What a call of the pipeline gives back, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from diffusers.utils import BaseOutput
from einops import rearrange
from PIL import Image
from torch import Tensor


@dataclass
class M2MPipelineOutput(BaseOutput):
    """What a call gives back.

    ``images`` of one set: a list of ``num_images`` PIL images, as its type says; for ``output_type`` ``np`` one float32
    array, for ``pt`` and ``latent`` one tensor, ``num_images`` long. Of several sets: a list of those, one a set.
    """

    images: list[Image.Image]


def as_output(pixels: Tensor, output_type: str) -> list[Any]:
    """Pixels ``[B, N, 3, H, W]`` in [-1, 1] -> per set what ``output_type`` names: ``pt``, ``np`` or ``pil``."""
    images = (pixels / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return list(images)
    arrays = rearrange(images, "b n c h w -> b n h w c").cpu().numpy()  # [B, N, H, W, 3] in [0, 1]
    if output_type == "np":
        return list(arrays)
    return [[Image.fromarray((image * 255).round().astype(np.uint8)) for image in made] for made in arrays]

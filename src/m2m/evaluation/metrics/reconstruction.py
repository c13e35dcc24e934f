"""How close pictures are to the true ones, pixel by pixel: PSNR and SSIM, by torchmetrics."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from m2m.types import UserError

MOST_PSNR = 100.0  # dB, of equal pictures, whose PSNR is infinite: a mean must stay a number


def psnr(pictures: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each of uint8 [N, H, W, 3], in dB, at most 100: [N]."""
    if not len(pictures):
        return torch.zeros(0)
    found: Tensor = _function("peak_signal_noise_ratio")(
        *_unit(pictures, true), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    return found.clamp(max=MOST_PSNR)


def ssim(pictures: Tensor, true: Tensor) -> Tensor:
    """Structural similarity of each of uint8 [N, H, W, 3] (windows of 11 pixels), x 100: [N], 100 for equal ones."""
    if not len(pictures):
        return torch.zeros(0)
    function = _function("structural_similarity_index_measure")
    found: Tensor = function(*_unit(pictures, true), data_range=1.0, reduction="none")
    return 100 * found.reshape(-1)  # [N]; of a single pair torchmetrics gives a number


def _unit(pictures: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float32 [N, 3, H, W] in [0, 1]. ValueError where they are no pairs."""
    if pictures.shape != true.shape:
        raise ValueError(f"pictures {list(pictures.shape)} and true ones {list(true.shape)} are no pairs")
    first, second = (own.movedim(-1, -3).float() / 255 for own in (pictures, true))
    return first, second


def _function(name: str) -> Any:
    try:
        return getattr(import_module("torchmetrics.functional.image"), name)
    except ImportError as error:
        raise UserError("PSNR and SSIM need torchmetrics: pip install 'm2m-diffusion[eval]'") from error

"""Task conditions c_C (section 6.2): what a fine-tuned task knows of each image beside its pixels, such as its camera.

A condition is a vector of numbers per image and an embedder E. Where it enters, every layer by a projection of its own:

    M2M-Self  added to the hidden states of clean and noisy images before Image-Set Attention, z = z_0 + E(c);
    M2M-DINO  added to the features by an embedder of its own, v = v_0 + E_c(c), and to the noisy hidden states too:
              else the camera or position of the image that is being made would be known nowhere.

All projections start at zero and have no bias: a task model starts as its pre-trained model, to the bit, and an image
without a condition (a row of NaN) gets exactly nothing added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import repeat
from torch import Tensor, nn

from m2m.types import UserError

DEFAULTS = ("", "index")


@dataclass(frozen=True)
class ConditionConfig:
    """What a condition is and how it is embedded; a field of the model's config.

    Attributes:
        name: what it says of an image: "camera", "position", ...
        dim: numbers per image.
        frequencies: sines and cosines of each number, beside the number itself; 0: the number alone.
        lowest, highest: their angular frequencies, in radians per unit of the number, spaced evenly on a log scale.
        width: of the embedder's two layers.
        default: the conditions of a caller who names none. "": there are none, and the caller must. "index": image i
            of the set has condition i.

    Raises:
        UserError: a number out of range, or an unknown default.
    """

    name: str
    dim: int
    frequencies: int = 0
    lowest: float = 1.0
    highest: float = 1.0
    width: int = 256
    default: str = ""

    def __post_init__(self) -> None:
        rules = (
            ("dim", self.dim >= 1, "use 1 or more"),
            ("frequencies", self.frequencies >= 0, "use 0 (none) or more"),
            ("lowest", 0 < self.lowest <= self.highest, "use more than 0, and at most highest"),
            ("width", self.width >= 1, "use 1 or more"),
            ("default", self.default in DEFAULTS, 'use "" or "index"'),
            ("default", self.default == "" or self.dim == 1, 'use "", for an index is one number'),
        )
        for field, fits, advice in rules:
            if not fits:
                raise UserError(f"condition '{self.name}': {field} is {getattr(self, field)!r}: {advice}")

    def of_indices(self, count: int) -> Tensor | None:
        """The default conditions ``[count, dim]`` of the first images of a set; None where there is no default."""
        return torch.arange(count, dtype=torch.float32).unsqueeze(1) if self.default == "index" else None


class ConditionEmbedder(nn.Module):
    """E of section 6.2: numbers, their sines and cosines, and two linear layers with a SiLU between them."""

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self._rates = _rates(config)
        self.hidden = nn.Linear(config.dim * (1 + 2 * config.frequencies), config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, conditions: Tensor) -> Tensor:
        """Conditions ``[..., dim]`` -> embeddings ``[..., width]``; zeros where a row is not finite (no condition)."""
        if conditions.shape[-1] != self.dim:
            raise UserError(f"conditions have {conditions.shape[-1]} numbers an image, the model takes {self.dim}")
        there = conditions.isfinite().all(dim=-1, keepdim=True)  # [..., 1]
        # Numbers stay float32: bfloat16 cannot tell position 256 from 257, nor their sines apart.
        numbers = conditions.float().nan_to_num(0, 0, 0)  # [..., dim]
        features = torch.cat([numbers, *self._waves(numbers)], dim=-1)  # [..., dim * (1 + 2 F)]
        features = features.to(self.hidden.weight.dtype)
        return self.out(nn.functional.silu(self.hidden(features))) * there  # [..., width]

    def _waves(self, numbers: Tensor) -> list[Tensor]:
        angles = [numbers * rate for rate in self._rates]
        return [wave for angle in angles for wave in (angle.sin(), angle.cos())]


def projection(width: int, channels: int) -> nn.Linear:
    """From embeddings to the channels of one place of the network; zero, and without a bias."""
    linear = nn.Linear(width, channels, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def kept(conditions: Tensor, keep: Tensor | None) -> Tensor:
    """Conditions ``[B, N, D]`` of the sets that keep them (bool ``[B]``), no condition (NaN) for the others."""
    if keep is None:
        return conditions
    return conditions.masked_fill(~keep.to(conditions.device).view(-1, 1, 1), math.nan)


def conditions_of_sets(config: ConditionConfig, given: Sequence[Any] | None, lengths: Sequence[int]) -> list[Tensor]:
    """The conditions of several sets as float32 tensors ``[N, dim]``; set b has ``lengths[b]`` images.

    given: arrays, tensors or lists of numbers, one a set; None: the default. Raises UserError for another shape, for
    what is no number, and where there is no default.
    """
    parts = [config.of_indices(length) for length in lengths] if given is None else list(given)
    if any(part is None for part in parts):
        raise UserError(f"this model needs conditions: the {config.name} of every given image and of every new one")
    try:
        told = [torch.as_tensor(np.asarray(part, dtype=np.float32)) for part in parts]
    except (TypeError, ValueError) as error:
        raise UserError(f"conditions are no table of numbers, {config.dim} for each image: {error}") from error
    shapes = [list(own.shape) for own in told]
    if shapes != [[length, config.dim] for length in lengths]:
        wanted = ", ".join(str([length, config.dim]) for length in lengths[:3])
        found = ", ".join(map(str, shapes[:3]))
        raise UserError(
            f"conditions are of shape {found}, not {wanted}: give {config.dim} numbers, the {config.name}, for every "
            "given image and every new one"
        )
    return told


def of_copies(conditions: Tensor, copies: int) -> Tensor:
    """The conditions ``[B, N, D]`` of ``copies`` noisy draws of each image, ``[B, N*K, D]``, folded as ``(n k)``."""
    return repeat(conditions, "b n d -> b (n k) d", k=copies)


def _rates(config: ConditionConfig) -> list[float]:
    if config.frequencies == 0:
        return []
    steps = max(1, config.frequencies - 1)
    return [config.lowest * (config.highest / config.lowest) ** (k / steps) for k in range(config.frequencies)]

"""What is trained on what, in outline: networks without weights, and the shapes of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from m2m.data.reading.image_set import ImageSetBatch
from m2m.model.unet import M2MModel

Net = TypeVar("Net", bound=nn.Module)
DTYPES = {"images": torch.uint8, "latents": torch.float16, "features": torch.float16}  # as `ImageSet` holds them


@dataclass(frozen=True)
class Outline:
    """The networks of a run, on torch's meta device (their weights are never read), and its data.

    model: as it is before anything of it is frozen. scheduler: the run's. arrays: what reading a set gives, name ->
    shape: `images` [N, H, W, 3], or `latents` [N, C, h, w] with `features` [N, S, D] for M2M-DINO. autoencoder,
    vision_encoder: of the pipeline, which lies on the device whether the data need it or not. sets: of the data.
    """

    model: M2MModel
    scheduler: Any
    arrays: Mapping[str, tuple[int, ...]]
    autoencoder: nn.Module | None = None
    vision_encoder: nn.Module | None = None
    sets: int = 0

    @property
    def encoders(self) -> tuple[nn.Module | None, nn.Module | None]:
        """Autoencoder and vision encoder."""
        return self.autoencoder, self.vision_encoder

    def batch(self, sets: int) -> ImageSetBatch:
        """A micro-batch of that many sets, values unknown."""
        tensors = {name: torch.empty(sets, *shape, dtype=DTYPES[name]) for name, shape in self.arrays.items()}
        images = next(iter(self.arrays.values()))[0]
        return ImageSetBatch(
            keys=("",) * sets,
            epochs=(0,) * sets,
            captions=("",) * sets,
            numbers=torch.zeros(sets, images, dtype=torch.int64),
            images=tensors.get("images"),
            latents=tensors.get("latents"),
            features=tensors.get("features"),
        )

    def encoder_bytes(self) -> int:
        """Of the networks beside the model."""
        tensors = (tensor for part in self.encoders if part is not None for tensor in part.state_dict().values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def filled(part: Net) -> Net:
    """The same network, its tensors on the CPU, values unknown: without memory under torch's FakeTensorMode."""
    # Not `to_empty`, which cannot exchange a meta tensor for a fake one.
    tensors = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in part.state_dict().items()}
    part.load_state_dict(tensors, strict=True, assign=True)
    return part

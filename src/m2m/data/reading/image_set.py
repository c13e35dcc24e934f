"""What reading gives: one image set, and a batch of sets as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2m.data.reading.order import Cursor
from m2m.types import UserError

ARRAYS = ("images", "latents", "features", "conditions")


@dataclass(frozen=True)
class ImageSet:
    """Some images of one set, as pictures or as latents.

    key: the set's name; caption: empty where it has none; numbers: which of its images these are, in the order drawn.
    images: uint8 [N, H, W, 3]. latents: float16 [N, C, h, w], scaled as the U-Net sees them. features: float16
    [N, S, D], a vision encoder's tokens. conditions: float32 [N, D], what the set's META says of each image, its
    camera for instance. What the shards do not hold is None.
    """

    key: str
    caption: str
    numbers: tuple[int, ...]
    images: NDArray[np.uint8] | None = None
    latents: NDArray[np.float16] | None = None
    features: NDArray[np.float16] | None = None
    conditions: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ImageSetBatch:
    """Sets of equal shape. images: uint8 [B, N, H, W, 3]; latents: [B, N, C, h, w] and features: [B, N, S, D], float16;
    conditions: float32 [B, N, D].

    numbers: int64 [B, N]. epochs: the epoch in which each set was visited; with its key it says what was drawn of it.
    cursor: where to go on behind this batch; None outside of an order.
    """

    keys: tuple[str, ...]
    epochs: tuple[int, ...]
    captions: tuple[str, ...]
    numbers: Tensor
    images: Tensor | None
    latents: Tensor | None
    features: Tensor | None
    cursor: Cursor | None = None
    conditions: Tensor | None = None

    def pin_memory(self) -> ImageSetBatch:
        """For `DataLoader(pin_memory=True)`."""
        tensors = {name: getattr(self, name) for name in ("numbers", *ARRAYS)}
        return replace(self, **{name: tensor.pin_memory() for name, tensor in tensors.items() if tensor is not None})


def stack_sets(
    sets: Sequence[ImageSet], cursor: Cursor | None = None, epochs: Sequence[int] | None = None
) -> ImageSetBatch:
    """One batch of sets, of epoch 0 unless `epochs` says which each is of.

    Raises UserError where they differ in shape or kind, naming two that do.
    """
    arrays: dict[str, Tensor | None] = {name: _stacked(sets, name) for name in ARRAYS}
    numbers = torch.tensor([one.numbers for one in sets])
    return ImageSetBatch(
        keys=tuple(one.key for one in sets),
        epochs=tuple(epochs) if epochs is not None else (0,) * len(sets),
        captions=tuple(one.caption for one in sets),
        numbers=numbers,
        cursor=cursor,
        **arrays,
    )


def _stacked(sets: Sequence[ImageSet], name: str) -> Tensor | None:
    arrays = [getattr(one, name) for one in sets]
    for one, array in zip(sets, arrays, strict=True):
        if _shape(array) != _shape(arrays[0]):
            raise UserError(
                f"set '{sets[0].key}' has {name} of shape {_shape(arrays[0])}, set '{one.key}' {_shape(array)}: they "
                "do not stack; read a fixed number of images (images=N), and pictures at one size (size=PIXELS)"
            )
    return None if arrays[0] is None else torch.from_numpy(np.stack(arrays))


def _shape(array: NDArray[Any] | None) -> str:
    return "none" if array is None else str(list(array.shape))

"""Stored sets of latents (and vision features) as a deterministic stream of training batches.

The batch of step k is a pure function of (seed, k): which sets, which of their images, in which order. So a run resumes
by its step number alone, and no cursor can be lost or wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2m.data.stored import EpochOrder, open_array, read_marker, stored_images
from m2m.types import UserError


@dataclass(frozen=True)
class SetBatch:
    """One training batch. latents: float32 [B, N, C, h, w]; features: float32 [B, N, S, D] or None.

    set_ids [B] and image_ids [B, N] (int64) say where the images lie in the stored arrays.
    """

    latents: Tensor
    features: Tensor | None
    set_ids: Tensor
    image_ids: Tensor


class LatentSets:
    """A complete folder of sets, as `m2m data world` writes it, read through memory maps.

    Args:
        folder: holds `sets.json` and `latents.npy`, perhaps `features.npy` and `images.npy`.
        device: copy the arrays there once, so that a GPU never waits for the disk; None leaves them mapped.

    Raises UserError for a missing or unfinished folder, or arrays that do not fit together.
    """

    def __init__(self, folder: str | Path, device: torch.device | str | None = None) -> None:
        self.folder = Path(folder)
        marker = read_marker(self.folder)
        self.settings: dict[str, Any] = marker["settings"]
        self.captions: list[str] = marker["captions"]
        self.seeds: list[list[int]] = marker["seeds"]
        self.latents = self._tensor("latents", device)
        self.features = self._tensor("features", device) if "features" in self.settings["arrays"] else None
        self.device = self.latents.device
        self._order = EpochOrder(len(self))

    def __len__(self) -> int:
        """How many sets."""
        return len(self.captions)

    @property
    def images_per_set(self) -> int:
        """How many images of each set are stored."""
        return int(self.latents.shape[1])

    def images(self) -> NDArray[np.uint8]:
        """The stored pictures, uint8 [S, N, H, W, 3], mapped. Raises UserError if they were not kept."""
        return stored_images(self.folder)

    def batch(self, batch_size: int, images_per_set: int, seed: int, step: int) -> SetBatch:
        """The batch of one step, a pure function of its arguments."""
        self._check(batch_size, images_per_set)
        drawn = [self._draw(step * batch_size + b, images_per_set, seed) for b in range(batch_size)]
        set_ids = torch.tensor([index for index, _ in drawn], device=self.device)
        image_ids = torch.from_numpy(np.stack([order for _, order in drawn])).to(self.device)
        latents = self.latents[set_ids[:, None], image_ids].float()  # [B, N, C, h, w]
        features = None if self.features is None else self.features[set_ids[:, None], image_ids].float()  # [B, N, S, D]
        return SetBatch(latents, features, set_ids, image_ids)

    def batches(self, batch_size: int, images_per_set: int, seed: int, start_step: int = 0) -> Iterator[SetBatch]:
        """The endless stream of batches from `start_step` on."""
        step = start_step
        while True:
            yield self.batch(batch_size, images_per_set, seed, step)
            step += 1

    def _draw(self, position: int, images: int, seed: int) -> tuple[int, NDArray[np.int64]]:
        """Place `position` of the stream: the set there, and the images of it that are used, in their order."""
        epoch, index = self._order.at(position, seed)
        # Sets are exchangeable, so a new order each epoch is free augmentation.
        order = np.random.default_rng((seed, 1, epoch, index)).permutation(self.images_per_set)
        return index, order[:images]

    def _tensor(self, name: str, device: torch.device | str | None) -> Tensor:
        array = torch.from_numpy(open_array(self.folder, name))
        return array if device is None else array.to(device)

    def _check(self, batch_size: int, images_per_set: int) -> None:
        if not 1 <= images_per_set <= self.images_per_set:
            raise UserError(
                f"'{self.folder}' has {self.images_per_set} images a set; images_per_set is {images_per_set}"
            )
        if not 1 <= batch_size <= len(self):
            raise UserError(f"'{self.folder}' has {len(self)} sets; {batch_size} sets a batch are wanted")

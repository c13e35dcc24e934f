"""Reading a folder of stored sets: its marker, its arrays, and the order in which an epoch visits them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint import read_json
from m2m.types import UserError

if TYPE_CHECKING:
    from torch import Tensor

MARKER = "sets.json"


class EpochOrder:
    """A stream over `length` items: each epoch visits every item once, in an order drawn from (seed, epoch)."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._kept: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def at(self, position: int, seed: int) -> tuple[int, int]:
        """(epoch, item) at a position of the endless stream; a pure function of its arguments."""
        epoch, place = divmod(position, self._length)
        # The newest permutation is kept: nearly all steps lie within one epoch.
        if self._kept is None or self._kept[0] != (seed, epoch):
            self._kept = ((seed, epoch), np.random.default_rng((seed, 0, epoch)).permutation(self._length))
        return epoch, int(self._kept[1][place])


class StoredImages:
    """All pictures of a folder of sets (`m2m data world --keep-images`) as batches for the autoencoder.

    Raises UserError for a missing or unfinished folder, or one without images.
    """

    def __init__(self, folder: str | Path) -> None:
        images = stored_images(folder)
        self._images = images.reshape(-1, *images.shape[2:])
        self._order = EpochOrder(len(self._images))

    def __len__(self) -> int:
        """How many pictures."""
        return len(self._images)

    def batch(self, size: int, seed: int, step: int) -> NDArray[np.uint8]:
        """uint8 [size, H, W, 3] of one step, a pure function of (seed, step)."""
        indices = [self._order.at(step * size + b, seed)[1] for b in range(size)]
        return np.stack([self._images[i] for i in indices])


def stored_images(folder: str | Path) -> NDArray[np.uint8]:
    """The pictures of a folder, uint8 [S, N, H, W, 3], mapped. Raises UserError if they were not kept."""
    marker = read_marker(folder)
    if "images" not in marker["settings"]["arrays"]:
        raise UserError(f"'{folder}' has no images.npy; make it with `m2m data world --keep-images`")
    return open_array(folder, "images")


def open_array(folder: str | Path, name: str) -> NDArray[Any]:
    """Map `name.npy` of a complete folder. Raises UserError where it is missing, broken or of another length."""
    path = Path(folder) / f"{name}.npy"
    try:
        # Copy-on-write: torch warns about read-only memory, and nothing ever reaches the file.
        array: NDArray[Any] = np.load(path, mmap_mode="c")
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read: {error}") from error
    sets = len(read_marker(folder)["captions"])
    if len(array) != sets:
        raise UserError(f"'{path}' holds {len(array)} sets, {MARKER} beside it says {sets}")
    return array


def to_pixels(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [..., H, W, 3] -> pixels float32 [..., 3, H, W] in [-1, 1]."""
    import torch  # not at the top: the processes that render import this module and need no torch

    return torch.from_numpy(images).movedim(-1, -3).float() / 127.5 - 1


def read_marker(folder: str | Path) -> dict[str, Any]:
    """The content of `sets.json`. Raises UserError for a missing or unfinished folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"data folder '{folder}' does not exist; `m2m data world` makes one")
    if not (folder / MARKER).is_file():
        raise UserError(f"data folder '{folder}' has no {MARKER}: it is unfinished; run its `m2m data world` again")
    marker: dict[str, Any] = read_json(folder / MARKER)
    return marker

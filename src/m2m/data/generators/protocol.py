"""What a generator is: captions and seeds in, pictures out. And where the seed of a picture comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


class Generator(Protocol):
    """Makes pictures of captions. The same caption and seed give the same picture, whatever else is in the call.

    Attributes:
        batch: how many pictures one call should ask for. The last bits of a picture may depend on how many are made
            at once, so a data set keeps to one batch.
    """

    batch: int

    def settings(self) -> dict[str, Any]:
        """What shapes the pixels beside the batch, as JSON values: weights by their hash, no path, no device."""
        ...

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One uint8 picture [H, W, 3] for each caption and its seed; None where the safety checker rejected it.

        Raises UserError where a caption cannot be drawn; the message names it.
        """
        ...


def image_seed(caption_id: str, index: int, seed: int = 0) -> int:
    """Seed (0 to 2**63 - 1) of picture number `index` of a caption, in a data set drawn with `seed`.

    It follows from these three alone, so it is independent of batch, worker and order, and picture 7 is the same one
    whether 8 or 25 are made.
    """
    digest = hashlib.blake2b(f"{seed}/{caption_id}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

"""How much arithmetic an image takes, counted by torch's own formulas on pipelines that compute nothing.

Counted is what the pipeline really calls: U-Net, autoencoder, vision encoder; matrix products and convolutions, two
operations for each multiplication and addition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from m2m.operations import Operations

Call = Callable[[int, int, int], object]  # given images, images to make, steps of each

# The calls that tell all others: (given, images, steps).
COUNTED = ((1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1), (1, 1, 2), (2, 1, 2))


@dataclass(frozen=True)
class Law:
    """Operations of any call from six small ones, exactly. counts: of each call in COUNTED.

    With g given images and N generated ones a call encodes g images and decodes N; in each of S steps it runs the N
    once, and the k-th of them reads g + k context images: g N + N (N - 1) / 2 together. Attention is linear in its
    keys, so the first step of all images is affine in g, N and what is read, and a further one linear in the last two.
    """

    counts: Mapping[tuple[int, int, int], int]

    @classmethod
    def of(cls, call: Call) -> Law:
        """Counts the six calls."""
        return cls({small: count(lambda small=small: call(*small)) for small in COUNTED})  # type: ignore[misc]

    def operations(self, given: int, images: int, steps: int) -> int:
        """Of a call with so many given images, generated images, and steps of each."""
        reads = given * images + images * (images - 1) // 2
        return self._first_step(given, images, reads) + (steps - 1) * self._further_step(images, reads)

    def _first_step(self, given: int, images: int, reads: int) -> int:
        one, more_given, more_images, both = (self.counts[call] for call in COUNTED[:4])
        a_read = both - more_given - more_images + one
        a_given = more_given - one - a_read
        an_image = more_images - one - 2 * a_read
        return one + (given - 1) * a_given + (images - 1) * an_image + (reads - 1) * a_read

    def _further_step(self, images: int, reads: int) -> int:
        with_one, with_two = (self.counts[given, 1, 2] - self.counts[given, 1, 1] for given in (1, 2))
        a_read = with_two - with_one
        return images * (with_one - a_read) + reads * a_read


def count(run: Callable[[], object]) -> int:
    """Operations of what `run` does. Attention goes by its plain products, for which torch has formulas everywhere."""
    with Operations() as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        run()
    return counter.flops

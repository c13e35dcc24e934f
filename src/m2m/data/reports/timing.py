"""How long this machine's generator takes for an image, and how many bytes an image has."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from m2m.data.generators.protocol import Generator, Picture
from m2m.types import UserError

EncodePicture = Callable[[Picture], bytes]


@dataclass(frozen=True)
class Measured:
    """The mean over `images` images.

    seconds: of the generator, for one image. Encoding is not in it, for the factory encodes beside the generation.
    picture_bytes: of an encoded picture. size: pixels of the longer side.
    """

    seconds: float
    picture_bytes: float
    size: int
    images: int


def measure(
    generator: Generator,
    captions: Sequence[str],
    encode: EncodePicture,
    batches: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Time `batches` full batches of the generator, after one that is not counted: it loads, compiles, warms up.

    progress: called with (batches done, batches in all). Raises UserError where every image was rejected.
    """
    elapsed = 0.0
    kept: list[Picture] = []
    for number in range(batches + 1):
        texts, seeds = _job(captions, number, generator.batch)
        started = time.perf_counter()
        images = generator.generate(texts, seeds)
        if number > 0:
            elapsed += time.perf_counter() - started
            kept += [image for image in images if image is not None]
        if progress:
            progress(number + 1, batches + 1)
    if not kept:
        raise UserError("the generator rejected every image of the measurement; give other captions")
    made = batches * generator.batch
    picture_bytes = sum(len(encode(image)) for image in kept) / len(kept)
    return Measured(elapsed / made, picture_bytes, max(kept[0].shape[:2]), made)


def _job(captions: Sequence[str], number: int, batch: int) -> tuple[list[str], list[int]]:
    """Captions and seeds of a batch: captions in turn, from the first again after the last; no seed twice."""
    seeds = list(range(number * batch, (number + 1) * batch))
    return [captions[seed % len(captions)] for seed in seeds], seeds

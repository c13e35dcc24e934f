"""The tiny world as a generator: its renderer paints what its captions say, and the seed draws the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import cycle
from typing import Any

from m2m.checkpoint import sha256_of_files
from m2m.data.generators.protocol import Picture
from m2m.data.worlds import Caption, World
from m2m.data.worlds.vocabulary import ASSETS, NUMBERS
from m2m.data.worlds.world import LARGEST, SMALLEST
from m2m.types import UserError

REFERENCE_SIZE = 64  # pixels at which the renderer is fingerprinted
REFERENCE_SEED = 1234


class WorldGenerator:
    """Renders captions of the tiny world.

    Args:
        name: "mini" or "full".
        size: pixels of a side, 16 to 512; None: 64.
        batch: pictures of one call. It shapes no pixel here.

    Raises UserError for an unknown world and a size out of range.
    """

    def __init__(self, name: str, size: int | None = None, batch: int = 8) -> None:
        self.world = World.load(name)
        self.size = self.world.size if size is None else size
        self.batch = batch
        if not SMALLEST <= self.size <= LARGEST:
            raise UserError(f"world:{name} paints {SMALLEST} to {LARGEST} pixels a side, not {self.size}")

    def settings(self) -> dict[str, Any]:
        """The world, its size, and a fingerprint of the renderer, which stands where a model has its weights' hash."""
        return {"name": f"world:{self.world.name}", "fingerprint": self.fingerprint, "size": self.size}

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One picture [size, size, 3] for each caption and its seed. UserError names a caption that has no picture."""
        return [self._render(caption, seed) for caption, seed in zip(captions, seeds, strict=True)]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the world's assets and of reference pictures: what changes a picture changes it.

        The references show every style, background and count; the last ones leave all of it to the seed.
        """
        assets = sorted([*ASSETS.glob("*.zip"), *ASSETS.glob("*.tsv")])
        digest = hashlib.sha256(sha256_of_files(assets).encode())
        for caption in _references(self.world):
            digest.update(self.world.render(caption, REFERENCE_SEED, REFERENCE_SIZE).tobytes())
        return digest.hexdigest()

    def _render(self, caption: str, seed: int) -> Picture:
        try:
            return self.world.render(caption, seed, self.size)
        except UserError as error:
            raise UserError(f"world:{self.world.name} cannot draw the caption '{caption}': {error}") from error


def _references(world: World) -> Iterator[Caption]:
    """One caption a background, with the styles and counts in turn, and captions that leave something free."""
    fixed = zip(world.backgrounds, cycle(world.styles), cycle(NUMBERS), cycle(world.subjects), strict=False)
    yield from (Caption(subject, None, style, count, background) for background, style, count, subject in fixed)
    yield from (Caption(style=style) for style in world.styles)
    yield Caption()

"""Variants of one assembly for training: another place, size, direction and palette, the same in all of its steps."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from m2m.data.drawings.assembly import PLAIN, VISIBLE, Assembly, changed_shares
from m2m.data.drawings.rendering import render

SCALES = (0.65, 0.95)  # side of the drawing, in sides of the picture
LIGHTNESS = (0.85, 1.15)
PALETTES = 6  # tries before a variant keeps the drawing's own colours


@dataclass(frozen=True)
class Palette:
    """What becomes of a colour. hue: turns of the colour circle; lightness: a factor."""

    hue: float = 0.0
    lightness: float = 1.0

    def __call__(self, colour: str) -> str:
        """The new colour of an SVG colour, as "#rrggbb"."""
        red, green, blue = ImageColor.getrgb(colour)[:3]
        hue, light, saturation = colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)
        values = colorsys.hls_to_rgb((hue + self.hue) % 1, min(1.0, light * self.lightness), saturation)
        return "#" + "".join(f"{round(value * 255):02x}" for value in values)


def draw_variant(found: Assembly, number: int, size: int, seed: int) -> NDArray[np.uint8]:
    """The steps of one variant, uint8 [S, size, size, 3]. Number 0 is the drawing as it is, whatever the seed.

    A drawing half as large changes a quarter of the pixels. By so much less may a step change; a palette in which one
    changes less (leaves in the colour of the background) is drawn anew.
    """
    if number == 0:
        return render(found.drawing.layers.stacks(found.counts, PLAIN), size)
    name = int.from_bytes(found.drawing.name.encode(), "big")
    generator = np.random.default_rng([seed, number, name])
    scale = generator.uniform(*SCALES)
    place = _placement(generator, scale, found.drawing.mirrors)
    for palette in _palettes(generator):
        pictures = render(found.drawing.layers.stacks((0, *found.counts), place, palette), size)
        if np.diagonal(changed_shares(pictures), 1).min() >= VISIBLE * scale**2 / 2:
            break
    return pictures[1:]


def _placement(generator: np.random.Generator, scale: float, mirrors: bool) -> str:
    """An SVG transform of the unit square: the whole drawing within the picture, mirrored or not if it mirrors."""
    left, top = generator.uniform(0, 1 - scale, 2)
    mirrored = generator.random() < 0.5 and mirrors
    return f"translate({left + scale * mirrored:.6f} {top:.6f}) scale({-scale if mirrored else scale:.6f} {scale:.6f})"


def _palettes(generator: np.random.Generator) -> Iterator[Palette]:
    """Half of the variants keep their hues, which mean something: skin, leaves, the sky. The last is no change."""
    keeps = generator.random() < 0.5
    for _ in range(PALETTES):
        yield Palette(0.0 if keeps else generator.random(), generator.uniform(*LIGHTNESS))
    yield Palette()

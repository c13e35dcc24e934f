"""The styles: an artist's drawing as it is, and three filters that redraw it as pixel art, watercolour or sketch.

Each filter changes objects and background together, and leaves both recognisable at 64 pixels. Sizes are given for a
picture 64 pixels wide and grow with it (`Canvas.scale`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

PIXEL_ART_CELLS = 32  # cells across a pixel-art picture of 64 pixels or more
PIXEL_ART_LEVELS = 6  # values a colour channel may take


@dataclass(frozen=True)
class Canvas:
    """What a style works on, all float32: background [S, S, 3] and layer [S, S, 4] (straight alpha) in 0..1, light
    [S, S, 1] as a factor, scale = picture width / 64, texture = seed of the style's own randomness."""

    background: np.ndarray
    layer: np.ndarray
    light: np.ndarray
    scale: float
    texture: int


def grid_of(style: str, size: int) -> int:
    """Width of the grid that a style is drawn on, for a picture of `size` pixels."""
    if style != "pixel art":
        return size
    return PIXEL_ART_CELLS if size >= 2 * PIXEL_ART_CELLS else max(1, size // 2)


def artist(canvas: Canvas) -> np.ndarray:
    """The artist's drawing with a soft shadow, which keeps a white dog visible on white."""
    colour, alpha = canvas.layer[..., :3], canvas.layer[..., 3:]
    shadow = 0.4 * _blur(alpha, 1.3 * canvas.scale)
    return (canvas.background * (1 - shadow) * (1 - alpha) + colour * alpha) * canvas.light


def pixel_art(canvas: Canvas) -> np.ndarray:
    """Big hard squares, few colours, a dark outline one square wide."""
    colour, inside = canvas.layer[..., :3], canvas.layer[..., 3] > 0.5
    padded = np.pad(inside, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    picture = np.where(inside[..., None], colour, canvas.background)
    picture = np.round(picture * (PIXEL_ART_LEVELS - 1)) / (PIXEL_ART_LEVELS - 1)
    picture[near & ~inside] = (0.1, 0.08, 0.14)
    return picture * canvas.light.mean()  # one brightness for all: a slope would make many colours out of few


def watercolour(canvas: Canvas) -> np.ndarray:
    """Pale washes that bleed over their edges and dry darker there, on grained paper."""
    size = len(canvas.layer)
    noise = _smooth_noise(canvas.texture, size)
    pigment = canvas.layer.copy()
    pigment[..., :3] *= canvas.layer[..., 3:]
    soft = _blur(_displace(pigment, noise[..., :2] * 2.2 * canvas.scale), 0.9 * canvas.scale)
    alpha = soft[..., 3:]
    rim = np.clip(alpha - _blur(alpha, 2.0 * canvas.scale), 0, 1)  # pigment gathers just inside the edge
    wash = 0.64 + 0.24 * noise[..., 2:3]  # how much pigment the paper took
    ground = 1 - (1 - canvas.background) * wash
    thing = 1 - (1 - soft[..., :3] / np.maximum(alpha, 1e-3)) * (wash + 0.12)
    halo = np.clip(_blur(alpha, 2.4 * canvas.scale) - alpha, 0, 1) * 0.55  # the wash leaves the paper bare around
    ground = ground + (1 - ground) * halo
    picture = ground * (1 - alpha) + thing * alpha
    return picture * (1 - 1.3 * rim) * _paper(size) * canvas.light


def sketch(canvas: Canvas) -> np.ndarray:
    """Grey pencil: outlines, hatched shadows, and a background rubbed in with a light hand."""
    size = len(canvas.layer)
    alpha = canvas.layer[..., 3]
    grey = canvas.layer[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
    tone = grey * alpha + (1 - alpha)
    line = np.clip(2.2 * _gradient(tone) + 1.3 * _gradient(alpha), 0, 1)
    period = max(2, round(4 * canvas.scale))
    hatch = _hatch(size, period)
    shade = np.clip(1.15 - tone, 0, 1) * (0.25 + 0.55 * hatch)
    pencil = 0.98 - 0.82 * np.maximum(line, shade)
    ground = (0.42 + 0.58 * canvas.background) * (1 - 0.10 * _hatch(size, period, -1)[..., None])
    cover = alpha[..., None]
    picture = ground * (1 - cover) + pencil[..., None] * cover
    outside = np.clip(2.0 * _gradient(alpha), 0, 1)[..., None] * 0.55
    return (picture * (1 - outside) + 0.22 * outside) * canvas.light


FILTERS: dict[str, Callable[[Canvas], np.ndarray]] = {
    "pixel art": pixel_art,
    "watercolour": watercolour,
    "sketch": sketch,
}


def _blur(values: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur of [S, S, C] in 0..1 (C of 1 or 4), by Pillow on 8 bits: ten times faster than numpy."""
    image = Image.fromarray((values * 255).astype(np.uint8).squeeze(), "L" if values.shape[-1] == 1 else "RGBa")
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
    return blurred.reshape(values.shape)


def _gradient(values: np.ndarray) -> np.ndarray:
    """Length of the gradient of [S, S], central differences, edges repeated."""
    padded = np.pad(values, 1, mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    return np.sqrt(across**2 + down**2)


def _smooth_noise(seed: int, size: int) -> np.ndarray:
    """Slow random fields [S, S, 3] in about -1..1."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    image = Image.fromarray(coarse, "RGB").resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 127.5 - 1


def _displace(layer: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Fetch each pixel of [S, S, 4] from a place moved by `shift` [S, S, 2] pixels."""
    size = len(layer)
    row, column = np.indices((size, size), dtype=np.float32)
    row = np.clip(np.rint(row + shift[..., 0]), 0, size - 1).astype(np.intp)
    column = np.clip(np.rint(column + shift[..., 1]), 0, size - 1).astype(np.intp)
    return layer[row, column]


@lru_cache(maxsize=32)
def _paper(size: int) -> np.ndarray:
    """Grain of the paper [S, S, 1], a factor near 1. The same sheet for every picture, as from one block."""
    grain = np.random.default_rng(7).normal(0, 0.016, (size, size, 1)).astype(np.float32)
    return np.clip(0.985 + grain, 0.9, 1.05)


@lru_cache(maxsize=32)
def _hatch(size: int, period: int, slope: int = 1) -> np.ndarray:
    """Pencil strokes [S, S] in 0..1: parallel diagonals `period` pixels apart."""
    row, column = np.indices((size, size))
    return ((row + slope * column) % period < period / 2).astype(np.float32)

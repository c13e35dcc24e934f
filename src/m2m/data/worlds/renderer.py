"""From a scene to pixels: paint the background, lay the drawings on it, light it, apply the style."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from m2m.data.worlds import backgrounds
from m2m.data.worlds.scene import Light, Placement, Scene
from m2m.data.worlds.sprites import SIDE, sprite
from m2m.data.worlds.styles import FILTERS, Canvas, artist, grid_of


def render(scene: Scene, key: str, size: int) -> np.ndarray:
    """Render a scene.

    Args:
        scene: what to show.
        key: name of the subject's sprite.
        size: width and height in pixels; 32 to 256 are sensible.

    Returns:
        uint8 [size, size, 3].
    """
    cells = grid_of(scene.style, size)  # pixel art is drawn on a coarser grid, everything else on the pixels
    layer = Image.new("RGBA", (cells, cells))
    for placement in scene.objects:
        lay(layer, sprite(scene.family, key), placement)
    light = light_map(scene.light, cells)
    background = backgrounds.paint(scene.background, cells)
    canvas = Canvas(background, np.asarray(layer, np.float32) / 255, light, size / 64, scene.texture)
    picture = FILTERS.get(scene.style, artist)(canvas)
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels if cells == size else _enlarge(pixels, size)


def lay(layer: Image.Image, drawing: Image.Image, placement: Placement) -> None:
    """Mirror, turn and scale one drawing and lay it on the layer, wholly inside the picture."""
    if placement.mirror:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Where the drawing is made smaller next, bilinear looks the same and takes half the time.
    shrinks = placement.size * layer.width < SIDE
    smoothing = Image.Resampling.BILINEAR if shrinks else Image.Resampling.BICUBIC
    drawing = drawing.rotate(placement.angle, smoothing, expand=True)
    box = drawing.getbbox() or (0, 0, *drawing.size)
    scale = placement.size * layer.width / max(box[2] - box[0], box[3] - box[1])
    width, height = (max(1, round((box[i + 2] - box[i]) * scale)) for i in (0, 1))
    drawing = drawing.resize((width, height), Image.Resampling.HAMMING, box)
    corner = round(placement.x * (layer.width - width)), round(placement.y * (layer.height - height))
    layer.alpha_composite(drawing, corner)


def light_map(light: Light, cells: int) -> np.ndarray:
    """Brightness factor [cells, cells, 1]: a plane that rises towards the light."""
    centres = np.linspace(-1, 1, cells, dtype=np.float32)
    rise = math.cos(light.direction) * centres[None, :] + math.sin(light.direction) * centres[:, None]
    return (light.gain * (1 + light.slope * rise))[..., None].astype(np.float32)


def _enlarge(pixels: np.ndarray, size: int) -> np.ndarray:
    """Blow cells up to hard-edged squares."""
    cells = len(pixels)
    if size % cells == 0:
        return pixels.repeat(size // cells, axis=0).repeat(size // cells, axis=1)
    index = np.arange(size) * cells // size
    return pixels[index][:, index]

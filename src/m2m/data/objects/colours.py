"""Six sides in six colours, so that a picture tells from where an object is seen and what its other sides look like.

The surface is divided as that of a box would be: a point belongs to the side of the object's bounding box that it is
nearest to, as seen from the middle and measured in parts of the box's extent. Round the object (the sides that face +x,
+y, -x and -y) the hue goes round a colour wheel, a quarter of it from side to side. As most things have a front that
looks like one, it starts near the wheel's seam for every object: with cyan on the one side of it, with yellow on the
other. How near, on which, and how dark the grey top is, is drawn per object. Any of the four sides tells the others.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from m2m.data.objects.meshes import Triangles, cut, without_slivers

AROUND = 4  # sides around the vertical axis: those that face +x, +y, -x, -y
SIDES = ((0, 1), (1, 1), (0, -1), (1, -1), (2, 1), (2, -1))  # (axis, sign): the four around, the top, the bottom
WHEEL = (180, 435)  # degrees of hue: without greens, which the tiny autoencoder draws as stripes, at half the PSNR
FRONT = 0.08  # turns of the wheel between the seam and the front's hue, at most; a quarter would be the next side's
SATURATION, BRIGHTNESS = 0.65, 0.95
TOP_GREY = (0.15, 0.6)
BOTTOM_GREY = 0.85


@dataclass(frozen=True)
class Part:
    """Triangles of one colour (red, green, blue in 0..1)."""

    triangles: Triangles
    colour: tuple[float, float, float]


def coloured(triangles: Triangles, generator: np.random.Generator) -> list[Part]:
    """The object in its parts, without those that have no surface; colours drawn from `generator`."""
    extent = np.abs(triangles.reshape(-1, 3)).max(0)
    for normal in _planes():
        triangles = cut(triangles, normal / extent)
    triangles = without_slivers(triangles)
    side = _sides(triangles.mean(1) / extent)
    parts = [Part(triangles[side == number], colour) for number, colour in enumerate(draw_colours(generator))]
    return [part for part in parts if len(part.triangles)]


def draw_colours(generator: np.random.Generator) -> list[tuple[float, float, float]]:
    """One colour a side, in the order of `SIDES`."""
    front, grey = generator.uniform(-FRONT, FRONT), generator.uniform(*TOP_GREY)
    around = [_wheel(front + side / AROUND) for side in range(AROUND)]
    return [*around, (grey, grey, grey), (BOTTOM_GREY, BOTTOM_GREY, BOTTOM_GREY)]


def _wheel(turn: float) -> tuple[float, float, float]:
    """The colour at a place of the wheel, in turns."""
    first, last = WHEEL
    return colorsys.hsv_to_rgb((first + turn % 1 * (last - first)) / 360 % 1, SATURATION, BRIGHTNESS)


def _planes() -> list[NDArray[np.float64]]:
    """The six planes between neighbouring sides of a cube: x = y, x = -y, and so on."""
    axes = np.eye(3)
    return [axes[first] + sign * axes[second] for first, second in combinations(range(3), 2) for sign in (1, -1)]


def _sides(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which side of the cube each point [T, 3] lies behind."""
    reach = np.stack([sign * points[:, axis] for axis, sign in SIDES], axis=1)
    return reach.argmax(1)

"""Scenes: everything a picture shows, drawn from a caption and a seed. A scene is the truth about its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_ANGLE = 18.0  # degrees to either side
# Longer side of a turned drawing in units of the picture's width, by count: large enough to be known at 64 pixels.
SIZES = {1: (0.64, 0.86), 2: (0.42, 0.47), 3: (0.40, 0.45), 4: (0.39, 0.45)}
# Where the objects go, in the unit square of possible places, and how far each may move from there. With the sizes
# above, two objects never overlap: (1 - size) * (0.94 - 2 * 0.03) >= size. So they can be counted.
SLOTS = {
    1: ((0.5, 0.5),),
    2: ((0.03, 0.5), (0.97, 0.5)),
    3: ((0.03, 0.97), (0.97, 0.97), (0.5, 0.03)),
    4: ((0.03, 0.03), (0.97, 0.03), (0.03, 0.97), (0.97, 0.97)),
}
JITTER = {1: (0.5, 0.5), 2: (0.03, 0.5), 3: (0.03, 0.03), 4: (0.03, 0.03)}


@dataclass(frozen=True)
class Placement:
    """One object: x, y in 0..1 of the places that keep it inside the picture (0: at the left or upper edge); size, the
    longer side of the turned drawing, in 0..1 of the picture's width; angle in degrees, counter-clockwise."""

    x: float
    y: float
    size: float
    angle: float
    mirror: bool


@dataclass(frozen=True)
class Light:
    """Brightness gain, and how much brighter (slope) the picture grows towards a direction (radians)."""

    gain: float
    slope: float
    direction: float


@dataclass(frozen=True)
class Scene:
    """The truth about one picture: the five attributes, and what the seed alone decides."""

    subject: str
    category: str
    style: str
    count: int
    background: str
    family: str  # whose drawing: for the filter styles one of the world's artists, else the style's own
    objects: tuple[Placement, ...]
    light: Light
    texture: int  # seed of what is random in a filter style

    @property
    def attributes(self) -> dict[str, str | int]:
        """The five attributes by name."""
        return {name: getattr(self, name) for name in ("subject", "category", "style", "count", "background")}


def place(count: int, mirror: bool, generator: np.random.Generator) -> tuple[Placement, ...]:
    """Draw place, size, angle and mirroring of `count` objects that do not hide one another."""
    centres = np.array(SLOTS[count]) + generator.uniform(-1, 1, (count, 2)) * JITTER[count]
    centres = np.clip(_turn(centres - 0.5, generator) + 0.5, 0, 1)
    base = generator.uniform(*SIZES[count])
    sizes = np.clip(base * generator.uniform(0.95, 1.05, count), *SIZES[count])
    angles = generator.uniform(-MAX_ANGLE, MAX_ANGLE, count)
    flips = generator.random(count) < 0.5
    columns = (centres[:, 0], centres[:, 1], sizes, angles, flips & mirror)
    return tuple(
        Placement(float(x), float(y), float(size), float(angle), bool(flip))
        for x, y, size, angle, flip in zip(*columns, strict=True)
    )


def _turn(centres: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Turn a layout by a multiple of 90 degrees."""
    for _ in range(generator.integers(4)):
        centres = np.stack([-centres[:, 1], centres[:, 0]], axis=1)
    return centres


def draw_light(generator: np.random.Generator) -> Light:
    """Draw a light mild enough to leave every background its name."""
    return Light(
        gain=float(generator.uniform(0.88, 1.08)),
        slope=float(generator.uniform(0.0, 0.1)),
        direction=float(generator.uniform(0, 2 * np.pi)),
    )

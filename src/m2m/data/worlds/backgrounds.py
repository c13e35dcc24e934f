"""The twenty backgrounds: plain colours and patterns, painted at any size.

Colours and patterns are chosen so that no two look alike after a style filter and a change of light. Patterns are
given in units of the picture's width and lie still: a background is one attribute, not two. Their periods divide the
picture by 4 or 8, so they meet the squares of pixel art and the patches of an autoencoder at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

OVERSAMPLING = 4  # patterns are painted larger and averaged, so that edges are smooth at every size


@dataclass(frozen=True)
class Background:
    """How to paint one background: `ink` on `paper`, colours "rrggbb", `pattern` a function name of this file."""

    pattern: str
    paper: str
    ink: str
    article: bool = False  # "on a blue grid", but "on yellow dots"


BACKGROUNDS = {
    "plain white": Background("plain", "f7f5f0", "f7f5f0"),
    "plain grey": Background("plain", "8b8c92", "8b8c92"),
    "plain night blue": Background("plain", "1f2c5c", "1f2c5c"),
    "plain sky blue": Background("plain", "86cdf4", "86cdf4"),
    "plain yellow": Background("plain", "ffe04a", "ffe04a"),
    "plain pink": Background("plain", "f48fb9", "f48fb9"),
    "plain green": Background("plain", "49a85a", "49a85a"),
    "plain orange": Background("plain", "ef8a2b", "ef8a2b"),
    "blue grid": Background("grid", "eef3fb", "2f66d8", article=True),
    "red grid": Background("grid", "f6e3b4", "c62f2f", article=True),
    "yellow dots": Background("dots", "6a47b0", "ffdd3c"),
    "red dots": Background("dots", "f7f5f0", "e03b3b"),
    "green stripes": Background("upright", "e6f4dc", "3c9d4c"),
    "blue bands": Background("level", "f3f7fb", "3e8fd0"),
    "purple diagonals": Background("diagonal", "e6d8f5", "8a4fc0"),
    "red checks": Background("checks", "fbf3ee", "d63a3a"),
    "black checks": Background("checks", "efefef", "33333a"),
    "teal waves": Background("waves", "d7f2ee", "178d8a"),
    "brown bricks": Background("bricks", "e2cfb8", "9c5a35"),
    "orange rays": Background("rays", "fff0b8", "f2a02e"),
}


@lru_cache(maxsize=256)
def paint(name: str, size: int) -> np.ndarray:
    """Return a background as float32 [size, size, 3] in 0..1, read-only."""
    background = BACKGROUNDS[name]
    side = size * OVERSAMPLING
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    ink = np.broadcast_to(PATTERNS[background.pattern](centres[None, :], centres[:, None]), (side, side))
    cover = ink.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3), dtype=np.float32)[..., None]
    picture = (1 - cover) * _colour(background.paper) + cover * _colour(background.ink)
    picture.setflags(write=False)
    return picture


def _colour(code: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(code), np.uint8).astype(np.float32) / 255


# Each pattern takes x [1, S] and y [S, 1] in 0..1 and returns where the ink is, broadcastable to [S, S].


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x < 0) & (y < 0)


def _grid(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x * 4) % 1 < 0.19) | ((y * 4) % 1 < 0.19)


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor(y * 4)
    across, down = (x * 4 + 0.5 * (row % 2)) % 1 - 0.5, (y * 4) % 1 - 0.5
    return across**2 + down**2 < 0.31**2


def _upright(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x * 4 + 0.25) % 1 < 0.5) & (y >= 0)


def _level(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _upright(y, x)


def _diagonal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x + y) * 4) % 1 < 0.45


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.floor(x * 8) + np.floor(y * 8)) % 2 < 1


def _waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (y * 4 + 0.3 * np.sin(x * 6 * np.pi)) % 1 < 0.45


def _bricks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor(y * 8)
    return ((y * 8) % 1 > 0.22) & ((x * 4 + 0.5 * (row % 2)) % 1 > 0.11)


def _rays(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.arctan2(y - 0.5, x - 0.5) / (2 * np.pi) * 12) % 1 < 0.5


PATTERNS = {
    "plain": _plain,
    "grid": _grid,
    "dots": _dots,
    "upright": _upright,
    "level": _level,
    "diagonal": _diagonal,
    "checks": _checks,
    "waves": _waves,
    "bricks": _bricks,
    "rays": _rays,
}

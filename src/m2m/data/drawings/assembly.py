"""Which shapes of a drawing go down together, so that its assembly has a few steps of which each can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.data.drawings.layers import Drawing
from m2m.data.drawings.rendering import render
from m2m.data.real_sets.files import Progress

LEAST, MOST = 5, 8  # steps
SEEN = 24  # of 255: a pixel has changed where one of its colours has changed by more
VISIBLE = 0.02  # share of the pixels that every step must change
PLAIN = "translate(.05 .05) scale(.9)"  # the drawing as it is, with a margin
SIDE = 64  # pixels; the steps do not depend on the size at which they are drawn later


@dataclass(frozen=True)
class Assembly:
    """A drawing in steps. counts: shapes that lie there after each step; finished: uint8 [SIDE, SIDE, 3]."""

    drawing: Drawing
    counts: tuple[int, ...]
    finished: NDArray[np.uint8]


def assemblies(drawings: Sequence[Drawing], progress: Progress | None = None) -> list[Assembly]:
    """Those of the drawings that can be assembled in LEAST to MOST visible steps. Raises UserError: no resvg."""
    found = []
    for done, drawing in enumerate(drawings, 1):
        made = assemble(drawing) if len(drawing.layers) >= LEAST else None
        found += [made] if made else []
        if progress:
            progress(done, len(drawings))
    return found


def assemble(drawing: Drawing) -> Assembly | None:
    """The drawing in as many visible steps as it has, up to MOST; None if they are fewer than LEAST."""
    pictures = render(drawing.layers.stacks(range(len(drawing.layers) + 1), PLAIN), SIDE)
    changes = changed_shares(pictures)
    for steps in range(min(MOST, len(drawing.layers)), LEAST - 1, -1):
        if counts := _most_even(changes, steps):
            return Assembly(drawing, counts, pictures[-1])
    return None


def changed_shares(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of the pixels that differ between a picture [P, H, W, 3] and a later one: float64 [P, P], 0 below."""
    values = by_colour(pictures)
    shares = np.zeros((len(values), len(values)))
    for number, one in enumerate(values):
        shares[number, number:] = differing(values[number:], one)
    return shares


def by_colour(pictures: NDArray[np.uint8]) -> NDArray[np.int16]:
    """[P, H, W, 3] -> [P, 3, H, W]; a true copy, for along rows of three numpy takes ten times as long."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.int16)


def differing(pictures: NDArray[np.int16], one: NDArray[np.int16]) -> NDArray[np.float64]:
    """Share of the pixels in which each of pictures [P, 3, H, W] differs from `one`, [3, H, W]: [P]."""
    changed = np.abs(pictures - one).max(1) > SEEN  # [P, H, W]
    return np.asarray(np.count_nonzero(changed, (1, 2)) / one[0].size)


def _most_even(changes: NDArray[np.float64], steps: int) -> tuple[int, ...] | None:
    """Where to cut the shapes into `steps` groups, each of which changes enough; None if that cannot be.

    Of all cuts, the one with the largest product of the changes, for that is large where they are even. best[j] is the
    logarithm of this product for the first j shapes; before[k][j] is where group k begins if it ends with shape j.
    """
    shapes = len(changes) - 1
    gains = np.where(changes >= VISIBLE, np.log(np.maximum(changes, VISIBLE)), -np.inf)
    best = np.where(np.arange(shapes + 1) == 0, 0.0, -np.inf)
    before = []
    for _ in range(steps):
        sums = best[:, None] + gains
        before.append(sums.argmax(0))
        best = sums.max(0)
    if best[shapes] == -np.inf:
        return None
    cuts = [shapes]
    for cut in reversed(before):
        cuts.append(int(cut[cuts[-1]]))
    return tuple(cuts[-2::-1])

"""Near twins among the drawings, and the split that keeps them together.

A model is tested on subjects that it never saw. Drawings of one family therefore lie in one split: those of one subject
(a man, a woman and a person at a lathe), all flags, and whatever looks alike or was drawn from one another, as books of
three colours or two phases of the moon.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.data.drawings.assembly import SIDE, Assembly, by_colour, differing

SPLITS = ("train", "validation", "test")
SHARES = {"test": 0.10, "validation": 0.05}  # of the drawings; the rest is for training
LARGEST = 8  # drawings of a family that may be held out; the flags would be the whole test
CELLS = 16  # looked at from afar, in so many cells each way
ALIKE = 0.15  # share of cells that may differ between near twins
SHARED = 1 / 3  # share of their outlines that near twins have in common


def split_of(found: Sequence[Assembly], near_twins: bool = True) -> dict[str, list[Assembly]]:
    """Split -> its assemblies. Families are held out in the order of a hash of their first drawing's name.

    near_twins: whether to look for families beyond those that the drawings name.
    """
    whole = sorted(families(found, near_twins), key=lambda family: _rank(family[0].drawing.name))
    split: dict[str, list[Assembly]] = {name: [] for name in SPLITS}
    for family in whole:
        held_out = [name for name, share in SHARES.items() if len(split[name]) < share * len(found)]
        split[held_out[0] if held_out and len(family) <= LARGEST else "train"] += family
    return {name: sorted(members, key=lambda one: one.drawing.name) for name, members in split.items()}


def families(found: Sequence[Assembly], near_twins: bool = True) -> list[list[Assembly]]:
    """The assemblies in groups: those of one family by name, and near twins, and near twins of these."""
    names = np.array([one.drawing.family for one in found])
    linked = names[:, None] == names
    if near_twins:
        linked |= look_alikes(found) | shared_outlines(found)
    groups: dict[int, list[Assembly]] = defaultdict(list)
    for number, group in enumerate(_components(linked)):
        groups[group].append(found[number])
    return list(groups.values())


def look_alikes(found: Sequence[Assembly]) -> NDArray[np.bool_]:
    """Which finished pictures look alike from afar, as they are or mirrored: bool [A, A]."""
    seen = by_colour(np.stack([_from_afar(one.finished) for one in found]))
    mirrored = seen[..., ::-1]
    return np.stack([(differing(seen, one) < ALIKE) | (differing(mirrored, one) < ALIKE) for one in seen])


def shared_outlines(found: Sequence[Assembly]) -> NDArray[np.bool_]:
    """Which drawings have outlines in common, whatever their colours: bool [A, A]."""
    outlines = [one.drawing.layers.outlines() for one in found]
    column = {outline: number for number, outline in enumerate(set().union(*outlines))}
    has = np.zeros((len(found), len(column)), np.float32)
    for row, drawn in zip(has, outlines, strict=True):
        row[[column[outline] for outline in drawn]] = 1
    common, many = has @ has.T, has.sum(1)
    shared: NDArray[np.bool_] = common >= SHARED * (many[:, None] + many - common)
    return shared


def _from_afar(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    block = SIDE // CELLS
    return picture.reshape(CELLS, block, CELLS, block, 3).mean((1, 3)).round().astype(np.uint8)


def _components(linked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The smallest number that each can be reached from over links: int64 [A]."""
    numbers = np.arange(len(linked))
    while True:
        reached = np.where(linked, numbers, len(numbers)).min(1)
        if np.array_equal(reached, numbers):
            return numbers
        numbers = reached


def _rank(name: str) -> bytes:
    return hashlib.sha256(f"drawings/{name}".encode()).digest()

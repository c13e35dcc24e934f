"""Rendering numbered sets: seeds that stay what they are, and processes that give what one would have given."""

from __future__ import annotations

import numpy as np

from m2m.data.worlds import World
from m2m.data.worlds.rendering import image_seed, render_sets

CAPTIONS = ["two cats, flat style", "things on plain white", "three roses"]
SEEDS = [[1, 2, 3], [4], [5, 6]]


def test_the_seed_of_an_image_is_its_own_for_ever() -> None:
    """Other seeds are another data set under the same name, and held-out sets that no result can be compared with."""
    assert [image_seed(0, 0, 0), image_seed(0, 4, 2), image_seed(7, 4, 2)] == [2968811710, 366692492, 1523371816]
    assert len({image_seed(0, index, image) for index in range(40) for image in range(25)}) == 1000


def test_processes_render_the_same_in_order() -> None:
    """Results that come back in the order in which they are ready would carry other captions."""
    here = list(render_sets("mini", CAPTIONS, SEEDS, 16, workers=0))
    beside = list(render_sets("mini", CAPTIONS, SEEDS, 16, workers=1))
    assert [len(images) for images in here] == [3, 1, 2]
    assert all(np.array_equal(one, other) for one, other in zip(here, beside, strict=True))
    assert np.array_equal(here[2][1], World.load("mini").render(CAPTIONS[2], 6, size=16))

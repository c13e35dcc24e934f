"""Contact sheets of evaluated sets: everything in its column, blanks where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m2m.evaluation.report.grids import given_generated_real
from m2m.evaluation.sets import EvaluationSet

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
CELL = 16


def plain(count: int, colour: tuple[int, int, int], side: int = CELL) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8).expand(count, side, side, 3).contiguous()


def one(caption: str, given: int, real: int) -> EvaluationSet:
    return EvaluationSet("key", caption, plain(given, RED), plain(real, BLUE), None)


def blocks(row: np.ndarray) -> list[tuple[int, int, int]]:
    """Colours of the cells along a line of pixels, in order."""
    found = [tuple(int(value) for value in pixel) for pixel in row]
    changes = [colour for place, colour in enumerate(found) if place == 0 or colour != found[place - 1]]
    return [colour for colour in changes if colour in (RED, GREEN, BLUE)]


def test_given_generated_and_real_stand_side_by_side() -> None:
    """Guards against groups in another order, and a short set whose real images slide into the generated ones."""
    sets = [one("", 2, 1), one("", 1, 2)]
    sheet = np.asarray(given_generated_real(sets, [plain(3, GREEN), plain(2, GREEN)], CELL))
    first, second = (sheet[-4 - CELL // 2 - below] for below in (CELL + 4, 0))
    assert blocks(first) == [RED, RED, GREEN, GREEN, GREEN, BLUE]
    assert blocks(second) == [RED, GREEN, GREEN, BLUE, BLUE]
    blue = [np.flatnonzero((row == BLUE).all(1))[0] for row in (first, second)]
    assert blue[0] == blue[1]  # the blank cells of the second set were kept


def test_no_column_for_what_no_set_has() -> None:
    """Guards against an empty "real" group, or a failure where shards hold the given images alone."""
    with_real = given_generated_real([one("", 1, 1)], [plain(1, GREEN)], CELL)
    without = given_generated_real([one("", 1, 0)], [plain(1, GREEN)], CELL)
    assert without.width < with_real.width


def test_captions_stand_at_the_left_and_long_ones_are_cut() -> None:
    """Guards against captions of hundreds of letters, or of several lines, beside pictures that nobody sees then."""
    widths = [
        given_generated_real([one(caption, 1, 0)], [plain(1, GREEN)], CELL).width
        for caption in ("", "two cats", "word " * 20, "word\n" * 400)
    ]
    assert widths[0] < widths[1] < widths[2] == widths[3]


def test_generated_images_must_be_of_the_same_sets() -> None:
    """Guards against rows that show one set's given images with another's generated ones."""
    with pytest.raises(ValueError, match="generated images of 1 sets for 2 sets"):
        given_generated_real([one("", 1, 0), one("", 1, 0)], [plain(1, GREEN)])

"""Contact sheets: every picture in its own cell, in the right order."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from m2m.data.grids import given_and_generated, image_grid

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200), (200, 0, 200), (90, 9, 9), (9, 90, 9)]


def plain(index: int, size: int = 20) -> Image.Image:
    return Image.new("RGB", (size, size), COLOURS[index])


def box_of(sheet: Image.Image, index: int) -> tuple[int, int, int, int]:
    """Left, top, width, height of the cell of that colour; it must be one full rectangle."""
    ys, xs = np.nonzero((np.asarray(sheet) == COLOURS[index]).all(axis=-1))
    left, top, width, height = xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1
    assert len(xs) == width * height, "the cell is covered in part"
    return int(left), int(top), int(width), int(height)


def test_cells_do_not_overlap_and_keep_their_order() -> None:
    """An offset that forgets a gap lets a picture cover a part of its neighbour."""
    sheet = image_grid([[plain(0), plain(1)], [plain(2), plain(3)]], gap=5)
    boxes = [box_of(sheet, index) for index in range(4)]
    assert [box[2:] for box in boxes] == [(20, 20)] * 4
    assert boxes[1][0] - boxes[0][0] == 25 and boxes[1][1] == boxes[0][1]
    assert boxes[2][1] - boxes[0][1] == 25 and boxes[2][0] == boxes[0][0]


def test_groups_are_named_and_apart() -> None:
    """Given and generated images must not be mistaken for each other."""
    rows = [[plain(0), plain(1), plain(2)]]
    sheet = image_grid(rows, columns=[("given", 2), ("generated", 1)], gap=4)
    first, second, third = (box_of(sheet, index) for index in range(3))
    assert third[0] - second[0] > second[0] - first[0]
    above = np.asarray(sheet)[: first[1]]
    assert (above < 128).any(), "no name above the columns"


def test_row_labels_stand_left_of_the_pictures() -> None:
    """A label drawn over the first column hides a picture."""
    sheet = image_grid([[plain(0, 40)], [plain(1, 40)]], row_labels=["rendered", "copy"])
    left = box_of(sheet, 0)[0]
    assert box_of(sheet, 1)[2:] == (40, 40)
    assert (np.asarray(sheet)[:, :left] < 128).any()


def test_missing_pictures_leave_blank_cells() -> None:
    """Sets of different lengths share a sheet; a short row must not pull its pictures together."""
    sheet = image_grid([[plain(0), plain(1)], [None, plain(2)], [plain(3)]])
    assert box_of(sheet, 2)[0] == box_of(sheet, 1)[0]
    assert box_of(sheet, 3)[0] == box_of(sheet, 0)[0]


def test_pictures_of_any_size_fill_a_cell_without_distortion() -> None:
    """Small pictures are enlarged, large ones scaled down, wide ones keep their shape."""
    wide = Image.new("RGB", (80, 40), COLOURS[1])
    sheet = image_grid([[plain(0, 10), wide, plain(2, 200)]], cell=40)
    assert box_of(sheet, 0)[2:] == (40, 40)
    assert box_of(sheet, 1)[2:] == (40, 20)
    assert box_of(sheet, 2)[2:] == (40, 40)


def test_long_sets_wrap_in_reading_order() -> None:
    """Eight images of a set in one row are a strip that nobody can read."""
    sheet = given_and_generated([plain(0)], [plain(index) for index in range(1, 7)], per_row=4)
    boxes = [box_of(sheet, index) for index in range(7)]
    assert boxes[1][1] == boxes[4][1] < boxes[5][1] == boxes[6][1]
    assert boxes[5][0] == boxes[1][0]
    assert boxes[0][0] < boxes[1][0]


def test_nothing_given_is_drawn_without_a_given_column() -> None:
    """Zero given images are legal in the pipeline."""
    sheet = given_and_generated([], [plain(0)])
    assert box_of(sheet, 0)[2:] == (20, 20)


def test_columns_that_do_not_fit_are_refused() -> None:
    """A name over the wrong column says something false about the pictures."""
    with pytest.raises(ValueError, match="the widest row has 1"):
        image_grid([[plain(0)]], columns=[("given", 2)])
    with pytest.raises(ValueError, match="at least one picture"):
        image_grid([[]])

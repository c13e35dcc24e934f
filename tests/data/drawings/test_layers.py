"""Drawings as stacks of shapes, and their pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from m2m.data.drawings.layers import LayeredSvg
from m2m.data.drawings.rendering import BACKGROUND, render
from tests.data.drawings.samples import HEAD, bar, grouped

PAPER = ImageColor.getrgb(BACKGROUND)
SIZE = 36


def middles(picture: np.ndarray) -> list[tuple[int, ...]]:
    """The colours of the first three bars of a picture of 36 pixels."""
    return [tuple(picture[4 * number + 2, 18].tolist()) for number in range(3)]


def test_shapes_come_in_the_order_of_painting_and_none_is_lost() -> None:
    """A shape within a group, put back at the end, would be painted over those that belong on top of it."""
    layers = grouped()
    assert len(layers) == 3
    pictures = render(layers.stacks([0, 1, 2, 3]), SIZE)
    assert pictures.shape == (4, SIZE, SIZE, 3) and pictures.dtype == np.uint8
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert [middles(picture) for picture in pictures] == [
        [PAPER, PAPER, PAPER],
        [red, PAPER, PAPER],
        [red, green, PAPER],
        [red, green, blue],
    ]


def test_what_is_drawn_stays_equal_to_the_pixel() -> None:
    """Steps are compared pixel by pixel; a shape that is only in the file must not shift or blur the others."""
    layers = grouped()
    alone, whole = render(layers.stacks([2, 3]), 64)
    assert np.array_equal(alone[:14], whole[:14]) and not np.array_equal(alone, whole)


def test_a_place_moves_all_steps_alike() -> None:
    """A place that is taken after the view box would scale with it."""
    half = render(grouped().stacks([3], "translate(.5 .5) scale(.5)"), 2 * SIZE)[0]
    assert np.array_equal(half[SIZE:, SIZE:], render(grouped().stacks([3]), SIZE)[0])
    assert (half[:SIZE] == PAPER).all() and (half[:, :SIZE] == PAPER).all()


def test_a_wide_drawing_keeps_its_proportions() -> None:
    """A drawing of 36 x 18 lies in the middle of the square, it does not fill it."""
    wide = LayeredSvg('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 18"><path d="M0 0h36v18H0z"/></svg>')
    picture = render(wide.stacks([1]), SIZE)[0]
    assert (picture[9:27] == 0).all() and (picture[:9] == PAPER).all() and (picture[27:] == PAPER).all()


def test_recolour_changes_fills_and_nothing_that_stays() -> None:
    """The drawing is shared by its variants: one palette must not reach the next."""
    layers = grouped()
    yellow = render(layers.stacks([3], recolour=lambda colour: "#ffff00"), SIZE)[0]
    assert middles(yellow) == [(255, 255, 0)] * 3
    assert middles(render(layers.stacks([3]), SIZE)[0])[0] == (255, 0, 0)


def test_outlines_are_the_same_in_another_colour() -> None:
    """A green book and a blue one are near twins; another shape is not."""
    red, blue = (LayeredSvg(HEAD + bar(0, colour) + "</svg>").outlines() for colour in ("red", "blue"))
    assert red == blue and red != LayeredSvg(HEAD + bar(1, "red") + "</svg>").outlines()


@pytest.mark.parametrize("text", ["", "<svg", "<svg/>", "<svg viewBox='0 0 1'/>"])
def test_what_is_no_drawing(text: str) -> None:
    """An empty picture would be taken for a first step."""
    with pytest.raises(ValueError, match="view box"):
        LayeredSvg(text)

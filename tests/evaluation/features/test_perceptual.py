"""Perceptual distance: 0 for equal pictures, and it sees what pixels do not."""

from __future__ import annotations

import pytest
import torch

from m2m.evaluation.features.perceptual import PerceptualDistance, perceptual_distance
from m2m.types import UserError
from tests.evaluation.features.drawings import drawings


@pytest.fixture(scope="module")
def perceptual() -> PerceptualDistance:
    return PerceptualDistance()


def test_equal_pictures_have_no_distance_and_others_one(perceptual: PerceptualDistance) -> None:
    """Guards against distances that depend on the batch, or that rounding makes negative."""
    pictures = drawings(10)
    read = perceptual.read(pictures)
    assert perceptual_distance(read, read).max() == 0
    assert torch.allclose(perceptual.read(pictures[9:])[0], read[9], atol=1e-5)
    apart = perceptual_distance(read[:-1], read[1:])
    assert apart.min() > 0.1 and apart.max() < 4 * 5


def test_a_shift_of_colours_is_less_than_another_drawing(perceptual: PerceptualDistance) -> None:
    """Guards against a distance of pixels in disguise: a brighter picture shows the same thing."""
    pictures = drawings(4)
    read, brighter = perceptual.read(pictures), perceptual.read((pictures.int() + 25).clamp(0, 255).to(torch.uint8))
    others = perceptual_distance(read, read.roll(1, 0))
    assert (perceptual_distance(read, brighter) < others).all()


def test_what_is_no_picture_is_refused(perceptual: PerceptualDistance) -> None:
    """Guards against pixels in [-1, 1], which would be read as nearly black."""
    with pytest.raises(UserError, match="uint8"):
        perceptual.read(torch.zeros(1, 64, 64, 3))

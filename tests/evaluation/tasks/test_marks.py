"""What stands out in a picture."""

from __future__ import annotations

import torch

from m2m.evaluation.tasks.marks import background, changed, figure, smoothed
from tests.evaluation.tasks.figures import BLUE, RED, picture


def test_a_figure_is_what_is_no_background_whatever_its_colour() -> None:
    """Guards against white taken for the background: palettes vary, and a white figure on blue would be nothing."""
    blue = torch.tensor(BLUE, dtype=torch.uint8).expand(64, 64, 3).clone()
    blue[24:40, 24:40] = 255
    levels = smoothed(torch.stack([picture((24, 24, RED)), blue]))
    assert background(levels).flatten(1).round().tolist() == [[255.0] * 3, [float(own) for own in BLUE]]
    assert [int(own.sum()) for own in figure(levels)] == [18 * 18 - 4, 18 * 18 - 4]  # with the rim of the smoothing


def test_what_another_look_of_the_picture_shows_is_no_change() -> None:
    """Guards against an autoencoder's own mistakes charged to the model; and against changes hidden by them."""
    plain, darker = picture((0, 0, (200, 100, 100))), picture((0, 0, (140, 100, 100)))
    looks = smoothed(torch.stack([plain, darker]))
    between, beyond = picture((0, 0, (170, 100, 100))), picture((0, 0, (90, 100, 100)))
    found = changed(smoothed(torch.stack([plain, darker, between, beyond])), looks)
    assert found.flatten(1).any(1).tolist() == [False, False, False, True]
    assert changed(smoothed(darker[None]), looks[:1]).any()

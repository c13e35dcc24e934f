"""What stands out in a picture from its background, or from what was there before, beside an autoencoder's blur."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.evaluation.sets import compared_pixels

# Of 255, in the channel that differs most. So true next steps through the tiny autoencoder have 97% of what was drawn
# and 97% of their parts in place, and a picture with nothing left on it 3% of what was drawn.
LEVELS = 24.0


def smoothed(pictures: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> levels [N, 3, S, S], 0 to 255, at most 64 of a side, each the mean of 3 x 3 neighbours."""
    levels = (compared_pixels(pictures) + 1) * 127.5
    return F.avg_pool2d(F.pad(levels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def changed(levels: Tensor, before: Tensor) -> Tensor:
    """Where pictures [N, 3, S, S] show what `before` [R, 3, S, S] does not: bool [N, S, S].

    `before` are several looks of one picture, such as itself and what an autoencoder makes of it: whatever lies in or
    between their colours is no change. What a model makes has been through the autoencoder, and its picture was too.
    """
    low, high = before.amin(0) - LEVELS, before.amax(0) + LEVELS  # [3, S, S]
    return ((levels < low) | (levels > high)).any(1)


def background(levels: Tensor) -> Tensor:
    """The colour of most of the border of each of [N, 3, S, S], each channel by itself: [N, 3, 1, 1]."""
    border = torch.cat([levels[..., 0, :], levels[..., -1, :], levels[..., 0], levels[..., -1]], -1)  # [N, 3, 4 S]
    return border.median(-1).values[..., None, None]


def figure(levels: Tensor) -> Tensor:
    """What is no background in each of [N, 3, S, S]: bool [N, S, S]."""
    return (levels - background(levels)).abs().amax(1) > LEVELS

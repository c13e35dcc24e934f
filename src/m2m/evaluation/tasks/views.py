"""Novel views against true renders: are they right, are they the asked ones, do they show one and the same object?"""

from __future__ import annotations

import torch
from torch import Tensor

from m2m.evaluation.features.perceptual import NAME, PerceptualDistance, perceptual_distance
from m2m.evaluation.metrics.reconstruction import psnr, ssim
from m2m.evaluation.sets import EvaluationSets, compared_pixels
from m2m.evaluation.sources import Source
from m2m.evaluation.tasks.marks import background, figure, smoothed
from m2m.evaluation.tasks.scoring import Found, Kinds, TaskScorer
from m2m.evaluation.tasks.sources import all_images
from m2m.evaluation.truth.held_out import distances
from m2m.types import UserError

PSNR, SSIM, PERCEPTUAL = "PSNR", "SSIM", "perceptual distance"
POSE, PAIRS = "pose following", "pair colour error"


class ViewScorer(TaskScorer):
    """Measures of novel views. Sets must be of a task: their conditions say which cameras are neighbours."""

    kinds: Kinds = {
        POSE: ("pixels", "higher"),
        PSNR: ("pixels", "higher"),
        SSIM: ("pixels", "higher"),
        PERCEPTUAL: (NAME, "lower"),
        PAIRS: ("pixels", "lower"),
    }
    success = PSNR

    def __init__(self, sets: EvaluationSets, perceptual: PerceptualDistance) -> None:
        super().__init__(sets)
        self._perceptual = perceptual
        self._last: tuple[int, Tensor] | None = None

    def measure(self, index: int, source: Source, pictures: Tensor) -> Found:
        """All five, of every picture."""
        own = self.sets[index]
        true, given = own.real[: len(pictures)], len(own.given)
        neighbours = self._neighbours(index, len(pictures))
        return {
            POSE: 100 * follows_pose(pictures, all_images(own), given).float(),
            PSNR: psnr(pictures, true),
            SSIM: ssim(pictures, true),
            PERCEPTUAL: perceptual_distance(self._perceptual.read(pictures), self._seen(index)[: len(pictures)]),
            PAIRS: pair_errors(pictures, true, neighbours),
        }

    def _seen(self, index: int) -> Tensor:
        """Features of the true views, [R, D]; those of the last set are kept: its sources come one after the other."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self._perceptual.read(self.sets[index].real))
        return self._last[1]

    def _neighbours(self, index: int, images: int) -> Tensor:
        """For each generated view which other one has the nearest camera: int64 [N]."""
        sets = self.sets
        if sets.task is None:
            raise UserError("novel views are measured on sets of a task, whose images have cameras; give such sets")
        return nearest_others(sets.task.conditions(sets[index], sets.given, images)[sets.given :])


def follows_pose(pictures: Tensor, candidates: Tensor, first: int) -> Tensor:
    """Whether the nearest of all candidates is the asked one: uint8 [N, H, W, 3], [M, H, W, 3] -> bool [N].

    Picture n is asked to be candidate first + n. Nearest pixel by pixel: so all 550 views of the miniature's test set
    find themselves after the tiny autoencoder, which by features of EfficientNet-Lite0 97 to 99% of 120 did.
    """
    views = compared_pixels(candidates)  # [M, 3, S, S]
    nearest = distances(compared_pixels(pictures, views.shape[-1]), views).argmin(1)
    return nearest == first + torch.arange(len(pictures))


def nearest_others(conditions: Tensor) -> Tensor:
    """For each of conditions [N, D] the number of the nearest other one; [N], empty for fewer than two."""
    if len(conditions) < 2:
        return torch.zeros(0, dtype=torch.long)
    return torch.cdist(conditions, conditions).fill_diagonal_(torch.inf).argmin(1)


def pair_errors(made: Tensor, true: Tensor, neighbours: Tensor) -> Tensor:
    """How differently neighbouring views are coloured, against how differently the true ones are: [N], of 255 levels.

    made, true: uint8 [N, H, W, 3]; neighbours: j for each i. |D(made i, made j) - D(true i, true j)|, where D is the
    distance of the mean colours of the object. A wrong colour that all views agree on costs nothing here, a blur
    little; a colour that changes from view to view costs much, and so does a copy, which never changes.
    """
    if not len(neighbours):
        return torch.full((len(made),), torch.nan)
    differences = [(own - own[neighbours]).norm(dim=1) for own in map(object_colours, (made, true))]
    return (differences[0] - differences[1]).abs()


def object_colours(pictures: Tensor) -> Tensor:
    """Mean colour of what is no background in uint8 [N, H, W, 3]: levels [N, 3]; the background's where all is."""
    levels = smoothed(pictures)
    there = figure(levels).float().unsqueeze(1)  # [N, 1, S, S]
    size = there.sum((2, 3))  # [N, 1]
    return torch.where(size > 0, (levels * there).sum((2, 3)) / size.clamp(min=1), background(levels).flatten(1))

"""Inception Score (Salimans et al. 2016): exp of the mean KL(classes of an image || classes of all images)."""

from __future__ import annotations

import torch
from torch import Tensor

from m2m.evaluation.metrics.library import Given, computed, metric, sample

LEAST = -300.0  # log of the smallest share of a class: with a share of 0, a part without the class would have 0 x inf


def inception_score(logits: Tensor, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    """Mean and deviation over `splits` random parts of logits [M, K], by torchmetrics: from 1 to the number of classes.

    Trap: a part of n images scores at most n, so 300 images in 10 parts at most 30. No part has fewer than two images:
    there are fewer parts then. The deviation of a single part is NaN.
    Raises UserError for fewer than two images, or without torchmetrics.
    """
    shares = sample(logits, 2, "IS").log_softmax(1).clamp(min=LEAST)
    parts = min(splits, len(shares) // 2)
    score = metric("inception.InceptionScore", feature=Given(shares.shape[1]), splits=parts)
    score.update(shares)
    mean, deviation = computed(score, seed)
    return mean, deviation if parts > 1 else torch.nan

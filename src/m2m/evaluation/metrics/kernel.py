"""Kernel distances of two samples of features: squared maximum mean discrepancies, which assume no Gaussian.

KID (Binkowski et al. 2018): cubic kernel, unbiased, so that a perfect model lies around 0 and can come out below it,
and few images suffice. CMMD (Jayasumana et al. 2024): Gaussian kernel on CLIP features of length 1, x 1000.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from m2m.evaluation.metrics.bootstrap import influence_interval
from m2m.evaluation.metrics.library import Given, computed, metric, sample

SCALE = 1000.0
SIGMA = 10.0  # of CMMD's kernel
BLOCK = 1024  # rows of a Gram matrix that are in memory at once

Kernel = Callable[[Tensor], Tensor]  # of dot products


def kernel_distance(
    features: Tensor, reference: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID of features [M, D] and reference [K, D], by torchmetrics: mean and deviation over random subsets.

    Often shown x 1000; here it is not multiplied. subset_size is at most the smaller sample. Where a subset is all of
    both there is just one, and no deviation (NaN): what other sets would change is `kernel_interval`.
    Raises UserError for fewer than two images, or without torchmetrics.
    """
    own, other = sample(features, 2, "KID"), sample(reference, 2, "KID")
    size = min(subset_size, len(own), len(other))
    whole = size == max(len(own), len(other))
    network = Given(own.shape[1])
    distance = metric("kid.KernelInceptionDistance", feature=network, subsets=1 if whole else subsets, subset_size=size)
    distance.update(other, real=True)
    distance.update(own, real=False)
    mean, deviation = computed(distance, seed)
    return mean, torch.nan if whole else deviation


def kernel_interval(features: Tensor, reference: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval of KID over the sets, (low, high), around KID of all images, by the jackknife; not multiplied either.

    Row s of features [S, D] and of reference [S, D] is of the same set s. Where both are of one distribution the
    interval is too wide rather than too narrow. NaN for fewer than three sets.
    """
    own, other = sample(features, 1, "KID"), sample(reference, 1, "KID")
    return _jackknife(own, other, _cubic(own.shape[1]), level, diagonal=False)


def cmmd(features: Tensor, reference: Tensor) -> float:
    """CMMD of CLIP features [M, D] and reference [K, D], of any length: x 1000, the biased estimate, as its authors do.

    Raises UserError where there is no image.
    """
    own, other = _unit(sample(features, 1, "CMMD")), _unit(sample(reference, 1, "CMMD"))
    within = _sums(own, own, _gaussian)[0].mean() / len(own) + _sums(other, other, _gaussian)[0].mean() / len(other)
    return SCALE * float(within - 2 * _sums(own, other, _gaussian)[0].mean() / len(other))


def cmmd_interval(features: Tensor, reference: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval of CMMD over the sets, (low, high), as `kernel_interval`; NaN for fewer than three sets."""
    own, other = _unit(sample(features, 1, "CMMD")), _unit(sample(reference, 1, "CMMD"))
    low, high = _jackknife(own, other, _gaussian, level, diagonal=True)
    return SCALE * low, SCALE * high


def _jackknife(own: Tensor, other: Tensor, kernel: Kernel, level: float, diagonal: bool) -> tuple[float, float]:
    """Interval from the discrepancies without each set. diagonal: an image makes a pair with itself (biased)."""
    if own.shape != other.shape:
        raise ValueError(f"features {list(own.shape)} and reference {list(other.shape)} are not of the same sets")
    sets = len(own)
    if sets < 3:
        return torch.nan, torch.nan
    left = torch.tensor([sets] + [sets - 1] * sets).to(own)  # sets that each sum is over
    within = _without_one(own, own, kernel, diagonal) + _without_one(other, other, kernel, diagonal)
    across = _without_one(own, other, kernel, diagonal=True)
    values = within / (left * (left if diagonal else left - 1)) - 2 * across / left**2  # [1 + S]
    return influence_interval(float(values[0]), (1 - sets) * values[1:], level)


def _without_one(own: Tensor, other: Tensor, kernel: Kernel, diagonal: bool) -> Tensor:
    """Sums of the kernel over all pairs, and over those without set 0, without set 1, ...: [1 + S]."""
    rows, columns = _sums(own, other, kernel)
    itself = kernel((own * other).sum(1))  # [S]
    if not diagonal:
        rows, columns, itself = rows - itself, columns - itself, torch.zeros_like(itself)
    return torch.cat([rows.sum()[None], rows.sum() - rows - columns + itself])


def _sums(own: Tensor, other: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Sums of the rows [M] and of the columns [K] of the Gram matrix of [M, D] and [K, D], in blocks."""
    rows, columns = [], other.new_zeros(len(other))
    for block in own.split(BLOCK):
        gram = kernel(block @ other.T)
        rows.append(gram.sum(1))
        columns += gram.sum(0)
    return torch.cat(rows), columns


def _cubic(dim: int) -> Kernel:
    """KID's kernel of dot products."""
    return lambda dots: (dots / dim + 1) ** 3


def _gaussian(dots: Tensor) -> Tensor:
    """exp(-|a - b|^2 / (2 sigma^2)) of unit vectors, whose |a - b|^2 is 2 - 2 a b."""
    return ((dots - 1) / SIGMA**2).exp()


def _unit(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features, dim=1)

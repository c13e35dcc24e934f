"""Intervals over the sets: how much a figure would move with other sets of the same kind.

The images of a set hang together (same caption, same given images), so it is always sets that are drawn, all positions
of a set at once, and never images.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor


def interval(per_set: Tensor, seed: int, resamples: int = 1000, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Percentile bootstrap interval of the mean over the sets, by position: [S, N] -> low [N], high [N], float64.

    A NaN says that a set has no value there; a position where fewer than two sets have one gets NaN bounds.
    """
    values = per_set.double()
    means = _resampled_means(values, seed, resamples)  # [R, N]
    low, high = _bounds(means, level)
    unknown = (~values.isnan()).sum(0) < 2
    return low.masked_fill(unknown, torch.nan), high.masked_fill(unknown, torch.nan)


def mean_interval(per_set: Tensor, seed: int, resamples: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """The same of the whole row, the mean over the positions of the means over the sets [S, N]: (low, high)."""
    values = per_set.double()
    if int((~values.isnan()).any(1).sum()) < 2:
        return torch.nan, torch.nan
    low, high = _bounds(_resampled_means(values, seed, resamples).nanmean(1), level)
    return float(low), float(high)


def influence_interval(estimate: float, influence: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval of a figure that is no mean, from how much each set moves it: estimate +- z x deviation / sqrt(S).

    influence [S]: derivative of the figure by the weight of a set, times S (infinitesimal jackknife), or
    (S - 1) x (mean of the figure without one set - the figure without this set) (jackknife). Efron and Tibshirani 1993,
    ch. 11 and 20: the spread that a bootstrap finds, without drawing.
    """
    spread = NormalDist().inv_cdf((1 + level) / 2) * float(influence.std()) / len(influence) ** 0.5
    return estimate - spread, estimate + spread


def _resampled_means(values: Tensor, seed: int, resamples: int) -> Tensor:
    """Means [R, N] over S sets drawn with replacement, of those that have a value; NaN where none of the drawn has."""
    counts = _counts(len(values), seed, resamples).to(values)
    there = ~values.isnan()
    return (counts @ values.where(there, 0.0)) / (counts @ there.to(values))


def _counts(sets: int, seed: int, resamples: int) -> Tensor:
    """How often each set is drawn: [R, S], each row sums to S."""
    drawn = torch.randint(max(sets, 1), (resamples, sets), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(resamples, sets, dtype=torch.long).scatter_add_(1, drawn, torch.ones_like(drawn))


def _bounds(resampled: Tensor, level: float) -> tuple[Tensor, Tensor]:
    tail = (1 - level) / 2
    low, high = torch.nanquantile(resampled, resampled.new_tensor([tail, 1 - tail]), dim=0)
    return low, high

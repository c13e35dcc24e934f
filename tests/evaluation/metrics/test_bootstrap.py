"""Intervals: numpy as reference, coverage of a known mean, and sets without a value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from m2m.evaluation.metrics.bootstrap import influence_interval, interval, mean_interval
from tests.evaluation.metrics.gaussians import gaussian


def drawn(sets: int, seed: int, resamples: int) -> np.ndarray:
    """The sets of every resample, [R, S]."""
    return torch.randint(sets, (resamples, sets), generator=torch.Generator().manual_seed(seed)).numpy()


def test_the_same_as_numpy() -> None:
    """Guards against positions that draw other sets, a NaN that counts as 0, and another kind of quantile."""
    values = gaussian(7, 3, seed=0, shift=2.0)
    values[2, 1] = values[5, 1] = torch.nan
    means = np.nanmean(values.numpy()[drawn(7, seed=3, resamples=50)], axis=1)  # [R, N]
    expected = np.nanquantile(means, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(torch.stack(interval(values, seed=3, resamples=50, level=0.8)), expected)
    of_mean = np.quantile(means.mean(1), [0.1, 0.9])
    np.testing.assert_allclose(mean_interval(values, seed=3, resamples=50, level=0.8), of_mean)


def test_coverage_of_a_known_mean() -> None:
    """Guards against intervals of images in place of sets: images of a set are alike, and 95% still hold the truth."""
    common = gaussian(300, 60, seed=1)  # what the images of a set share, 60 sets in 300 worlds
    rows = [world[:, None] + 0.1 * gaussian(60, 4, seed) + 5 for seed, world in enumerate(common)]
    bounds = torch.tensor([mean_interval(row, seed=0, resamples=400) for row in rows])
    first = torch.stack([torch.stack(interval(row, seed=0, resamples=400))[:, 0] for row in rows])
    for low, high in (bounds.T, first.T):
        assert 0.90 <= ((low <= 5) & (high >= 5)).float().mean() <= 0.98


def test_sets_without_values() -> None:
    """Guards against a crash or an interval of no width: positions with fewer than two values are NaN."""
    values = gaussian(6, 3, seed=2)
    values[:, 1] = torch.nan
    values[1:, 2] = torch.nan
    low, high = interval(values, seed=0)
    assert low.isnan().tolist() == high.isnan().tolist() == [False, True, True]
    alone = interval(values[:, :1], seed=0)
    assert (low[0], high[0]) == (alone[0][0], alone[1][0])
    assert all(map(math.isfinite, mean_interval(values, seed=0)))


@pytest.mark.parametrize("sets", [0, 1])
def test_too_few_sets(sets: int) -> None:
    """Guards against certainty from one set."""
    values = torch.ones(sets, 2)
    assert torch.stack(interval(values, seed=0)).isnan().all()
    assert all(map(math.isnan, mean_interval(values, seed=0)))


def test_seeds() -> None:
    """Guards against intervals that change from run to run, and against draws from the global state."""
    values = gaussian(20, 2, seed=3)
    state = torch.get_rng_state()
    first = torch.stack(interval(values, seed=1))
    assert torch.equal(first, torch.stack(interval(values, seed=1)))
    assert not torch.equal(first, torch.stack(interval(values, seed=2)))
    assert torch.equal(state, torch.get_rng_state())


def test_influence_interval_of_a_mean() -> None:
    """Guards against a wrong factor: the influence of a set on a mean is its value, the interval the textbook's."""
    values = gaussian(50, 1, seed=4)[:, 0]
    error = 1.959964 * float(values.std()) / 50**0.5
    assert influence_interval(3.0, values) == pytest.approx((3 - error, 3 + error), rel=1e-6)
    wider = influence_interval(3.0, values, level=0.99)
    assert wider[1] - wider[0] == pytest.approx(2 * error * 2.575829 / 1.959964, rel=1e-6)

"""KID and CMMD: double loops as reference, no bias where there should be none, and what their intervals cover."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from m2m.evaluation.metrics import kernel
from m2m.evaluation.metrics.kernel import cmmd, cmmd_interval, kernel_distance, kernel_interval
from m2m.types import UserError
from tests.evaluation.metrics.gaussians import gaussian, halves


def plain_kid(own: Tensor, other: Tensor) -> float:
    """KID by its formula: all pairs, one by one."""

    def kernel_of(a: Tensor, b: Tensor) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    def within(features: Tensor) -> float:
        count = len(features)
        pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
        return sum(kernel_of(features[i], features[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel_of(a, b) for a in own for b in other) / (len(own) * len(other))
    return within(own) + within(other) - 2 * across


def plain_cmmd(own: Tensor, other: Tensor) -> float:
    """CMMD by its formula: unit vectors, exp(-|a - b|^2 / 200), each image a pair with itself too."""

    def mean(left: Tensor, right: Tensor) -> float:
        return sum(math.exp(-float((a - b).square().sum()) / 200) for a in left for b in right) / len(left) / len(right)

    own, other = normalize(own, dim=1), normalize(other, dim=1)
    return 1000 * (mean(own, own) + mean(other, other) - 2 * mean(own, other))


def half_width(bounds: tuple[float, float]) -> float:
    return (bounds[1] - bounds[0]) / 2


def test_kid_of_all_images_is_the_formula() -> None:
    """Guards against diagonals that count, or features that are taken for pictures."""
    own, other = gaussian(14, 5, seed=0, shift=0.3), gaussian(14, 5, seed=1)
    mean, deviation = kernel_distance(own, other)
    assert mean == pytest.approx(plain_kid(own, other), abs=1e-9)
    assert math.isnan(deviation)  # a deviation of 0 would say that the figure is exact
    assert sum(kernel_interval(own, other)) / 2 == pytest.approx(mean, abs=1e-9)


def test_kid_of_subsets() -> None:
    """Guards against subsets larger than the smaller sample, and against draws that differ from run to run."""
    own, other = gaussian(60, 5, seed=2, shift=0.5), gaussian(40, 5, seed=3)
    first = kernel_distance(own, other, subsets=50, seed=1)
    assert first == kernel_distance(own, other, subsets=50, seed=1) != kernel_distance(own, other, subsets=50, seed=2)
    assert first[1] > 0 and first[0] == pytest.approx(plain_kid(own, other), abs=0.2 * first[0])


def test_kid_leaves_the_random_state_alone() -> None:
    """Guards against a measure that changes what is drawn after it."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    kernel_distance(gaussian(20, 4, seed=4), gaussian(20, 4, seed=5), subsets=3, subset_size=5)
    assert torch.equal(torch.rand(3), expected)


def test_kid_of_halves_of_one_set_is_unbiased() -> None:
    """Guards against the biased estimate, which is never below 0: over random halves of one set the mean is 0."""
    features = gaussian(60, 8, seed=6, shift=0.5)
    values = torch.tensor([kernel_distance(*halves(features, seed))[0] for seed in range(300)])
    assert (values < 0).any() and (values > 0).any()
    assert abs(float(values.mean())) < 3 * float(values.std()) / 300**0.5


def closed_kid(shift: float, dim: int) -> float:
    """KID of unit Gaussians around (shift, ..., shift) and 0: E k(x, x') + E k(y, y') - 2 E k(x, y), by moments."""
    c = dim * shift**2  # squared distance of the means
    return 3 * c / dim + 3 * c**2 / dim**2 + (c**3 + 6 * c**2 + 3 * c * dim + 6 * c) / dim**3


def test_kid_of_two_gaussians_is_the_closed_form() -> None:
    """Guards against another degree, scale or offset of the kernel."""
    own, other = gaussian(4000, 6, seed=20, shift=0.6), gaussian(4000, 6, seed=21)
    mean, deviation = kernel_distance(own, other, subsets=20)
    assert mean == pytest.approx(closed_kid(0.6, 6), rel=0.05)
    assert 0 < deviation < mean


@pytest.mark.parametrize(("measure", "bounds"), [(plain_kid, kernel_interval), (plain_cmmd, cmmd_interval)])
def test_intervals_are_the_jackknife(
    measure: Callable[[Tensor, Tensor], float], bounds: Callable[[Tensor, Tensor], tuple[float, float]]
) -> None:
    """Guards against wrong sums without a set: the same as when every set is left out and all is computed anew."""
    own, other = gaussian(9, 3, seed=8, shift=0.5), gaussian(9, 3, seed=9)
    left = torch.arange(9)
    without = torch.tensor([measure(own[left != s], other[left != s]) for s in range(9)], dtype=torch.float64)
    expected = 1.959964 * float(((8**2 / 9) * without.var()).sqrt())
    assert half_width(bounds(own, other)) == pytest.approx(expected, rel=1e-4)
    assert sum(bounds(own, other)) / 2 == pytest.approx(measure(own, other), rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_the_interval_of_kid_covers(shift: float) -> None:
    """Guards against intervals that are too narrow, also where both samples are of one distribution (KID 0)."""
    pairs = [(gaussian(50, 6, 2 * seed, shift), gaussian(50, 6, 2 * seed + 1)) for seed in range(200)]
    low, high = torch.tensor([kernel_interval(*pair) for pair in pairs]).T
    truth = closed_kid(shift, 6)
    assert ((low <= truth) & (truth <= high)).float().mean() >= 0.9


def test_cmmd_is_the_formula_at_any_length() -> None:
    """Guards against features that are not normalised, and against a diagonal that does not count."""
    own, other = gaussian(11, 4, seed=10, shift=1.0), gaussian(7, 4, seed=11)
    expected = plain_cmmd(own, other)
    assert cmmd(own, 5 * other) == pytest.approx(expected, rel=1e-8)
    assert cmmd(own.float(), other.float()) == pytest.approx(expected, rel=1e-4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against rows or columns that are lost where a sample is larger than a block."""
    own, other = gaussian(11, 4, seed=10, shift=1.0), gaussian(11, 4, seed=11)
    expected = cmmd(own, other), *cmmd_interval(own, other), *kernel_interval(own, other)
    monkeypatch.setattr(kernel, "BLOCK", 4)
    assert (cmmd(own, other), *cmmd_interval(own, other), *kernel_interval(own, other)) == pytest.approx(expected)


def test_cmmd_of_equal_and_of_like_samples() -> None:
    """Guards against a float32 kernel, whose values all round to about 1: itself 0, halves near 0, others far off."""
    features = gaussian(200, 16, seed=12, shift=1.0)
    assert cmmd(features, features) == pytest.approx(0, abs=1e-9)
    like = max(cmmd(*halves(features, seed)) for seed in range(10))
    assert 0 < 10 * like < cmmd(features, gaussian(200, 16, seed=13))


def test_too_few_sets() -> None:
    """Guards against an interval of no width, or a crash, where there is nothing to tell a spread from."""
    two = gaussian(2, 4, seed=14)
    assert all(math.isnan(bound) for bound in (*kernel_interval(two, two + 1), *cmmd_interval(two, two + 1)))
    with pytest.raises(UserError, match="KID needs at least 2 images, and got 1"):
        kernel_distance(two[:1], two)
    with pytest.raises(ValueError, match="not of the same sets"):
        kernel_interval(gaussian(5, 4, seed=15), gaussian(4, 4, seed=16))

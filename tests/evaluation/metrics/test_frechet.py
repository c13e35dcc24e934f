"""FD: closed form, a plain reference, and an interval that covers what other sets would give."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from m2m.evaluation.metrics.frechet import frechet_distance, frechet_interval
from m2m.types import UserError
from tests.evaluation.metrics.gaussians import gaussian


def root(matrix: Tensor) -> Tensor:
    """Root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def plain_distance(own: Tensor, other: Tensor) -> float:
    """FD as it is written: D x D covariances and the root of their product, C1^(1/2) C2 C1^(1/2)."""
    cov, other_cov = own.T.cov(), other.T.cov()
    half = root(cov)
    trace = torch.trace(cov + other_cov - 2 * root(half @ other_cov @ half))
    return float((own.mean(0) - other.mean(0)).square().sum() + trace)


def sets(count: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features and reference of the same sets: what a set shows is in both, with dimensions of different spread."""
    spread = torch.arange(1, dim + 1, dtype=torch.float64) ** -0.5
    reference, noise = gaussian(count, dim, seed), gaussian(count, dim, 10_000 + seed)
    return spread * (0.6 * reference + 0.8 * noise + 0.5), spread.flip(0) * reference


def middle(bounds: tuple[float, float]) -> float:
    return sum(bounds) / 2


def test_two_gaussians_give_the_closed_form() -> None:
    """Guards against a wrong root, a forgotten factor 2 or a biased covariance: correlated Gaussians, FD known."""
    mixing = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.5, 0.2]], dtype=torch.float64)
    own, other = gaussian(200_000, 3, seed=0) @ mixing.T + 1, gaussian(200_000, 3, seed=1, scale=3.0)
    cov = mixing @ mixing.T  # the other is 9 I, so that the root of the product is 3 root(cov)
    closed = 3 + float(torch.trace(cov)) + 27 - 6 * float(torch.trace(root(cov)))
    assert frechet_distance(own, other) == pytest.approx(closed, rel=0.01)


def test_one_dimension_gives_the_closed_form_of_the_sample() -> None:
    """Guards against n in place of n - 1: in one dimension FD is (difference of means)^2 + (of deviations)^2."""
    own, other = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0]])
    closed = 0.5**2 + (2 - math.sqrt(0.5)) ** 2
    assert frechet_distance(own, other) == pytest.approx(closed, abs=1e-6)


@pytest.mark.parametrize(("images", "dim"), [(60, 8), (20, 50)])
def test_a_set_with_itself_is_zero(images: int, dim: int) -> None:
    """Guards against a distance that few images in many dimensions make up; its interval has no width either."""
    own = gaussian(images, dim, seed=2, shift=5.0)
    assert frechet_distance(own, own) == pytest.approx(0, abs=1e-5)
    assert frechet_interval(own, own) == pytest.approx((0, 0), abs=1e-5)


@pytest.mark.parametrize(("count", "dim"), [(200, 12), (24, 60)])
def test_all_three_ways_agree(count: int, dim: int) -> None:
    """Guards against an interval around another distance: torchmetrics, the formula, the cross-Gram's."""
    own, other = sets(count, dim, seed=3)
    plain = plain_distance(own, other)
    assert frechet_distance(own.float(), other.float()) == pytest.approx(plain, abs=1e-4)
    assert middle(frechet_interval(own, other)) == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("images", [59, 60, 61])
@pytest.mark.parametrize("others", [20, 61])
def test_few_images_are_measured_as_many(images: int, others: int) -> None:
    """Guards against a jump where the cross-Gram takes over from torchmetrics: both, around 60 images of 60 dimensions,
    and of other numbers of images than the reference has."""
    own, other = gaussian(images, 60, seed=7, shift=0.3), gaussian(others, 60, seed=8, scale=2.0)
    assert frechet_distance(own, other) == pytest.approx(plain_distance(own, other), abs=1e-3)


@pytest.mark.parametrize(("count", "dim"), [(60, 6), (30, 80)])
def test_the_spread_is_that_of_leaving_sets_out(count: int, dim: int) -> None:
    """Guards against a wrong derivative: FD anew without each set in turn, the jackknife, spreads as much."""
    own, other = sets(count, dim, seed=4)
    left = torch.arange(count)
    without = torch.tensor([middle(frechet_interval(own[left != s], other[left != s])) for s in range(count)])
    jackknife = float(((count - 1) ** 2 / count * without.double().var()).sqrt())
    low, high = frechet_interval(own, other)
    assert (high - low) / 2 / 1.95996 == pytest.approx(jackknife, rel=0.1)


def test_the_interval_covers_what_other_sets_give() -> None:
    """Guards against spreads of independent images, or of one of the two samples only: about 95% of intervals hold the
    mean of the distance of as many other sets, in more dimensions than sets."""
    pairs = [sets(40, 60, seed) for seed in range(200)]
    bounds = torch.tensor([frechet_interval(*pair) for pair in pairs])
    expected = bounds.mean()
    covered = ((bounds[:, 0] <= expected) & (expected <= bounds[:, 1])).float().mean()
    assert 0.88 <= covered <= 0.99


def test_images_without_any_spread() -> None:
    """Guards against NaN where a model makes one picture over and over: FD is the shift and the other's trace."""
    own, other = torch.ones(10, 4), gaussian(10, 4, seed=5)
    expected = float((1 - other.mean(0)).square().sum() + other.var(0).sum())
    assert frechet_distance(own, other) == pytest.approx(expected, abs=1e-5)
    assert middle(frechet_interval(own, other)) == pytest.approx(expected, abs=1e-8)


def test_a_single_image_is_refused() -> None:
    """Guards against a crash of the library with nothing that helps: one line says how many images are needed."""
    with pytest.raises(UserError, match="FD needs at least 2 images, and got 1"):
        frechet_distance(torch.ones(1, 4), torch.ones(5, 4))


def test_missing_images_and_other_sets_are_refused() -> None:
    """Guards against a NaN, at which LAPACK crashes the process, and against an interval over pairs that are none."""
    own = gaussian(6, 4, seed=6)
    with pytest.raises(ValueError, match="not all finite"):
        frechet_distance(own.index_fill(0, torch.tensor([2]), torch.nan), own)
    with pytest.raises(ValueError, match="not of the same sets"):
        frechet_interval(own, own[:5])
    with pytest.raises(ValueError, match=r"must be \[M, D\]"):
        frechet_distance(own[None], own)

"""IS of known class shares."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from m2m.evaluation.metrics.inception_score import inception_score
from m2m.types import UserError


def sure(classes: Tensor, count: int) -> Tensor:
    """Logits [M, K] of a network without doubt."""
    return 60 * torch.nn.functional.one_hot(classes, count).float()


def test_even_classes_score_their_number() -> None:
    """Guards against logits that are taken for probabilities: 5 sure and equally frequent classes score 5."""
    mean, deviation = inception_score(sure(torch.arange(5).repeat(20), 5), splits=1)
    assert mean == pytest.approx(5)
    assert math.isnan(deviation)


def test_uneven_classes_score_exp_of_their_entropy() -> None:
    """Guards against a mean over classes that forgets their shares."""
    shares = [0.5, 0.3, 0.2]
    entropy = -sum(share * math.log(share) for share in shares)
    classes = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    assert inception_score(sure(classes, 3), splits=1)[0] == pytest.approx(math.exp(entropy))


def test_doubt_is_charged() -> None:
    """Guards against the entropy of the mean alone: images whose classes are a guess score exp(mean KL)."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(10, 1)
    p = math.e / (math.e + 1)
    divergence = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert inception_score(logits, splits=1)[0] == pytest.approx(math.exp(divergence))


def test_equal_images_score_one() -> None:
    """Guards against a score for sure but always equal answers, in whatever parts."""
    assert inception_score(sure(torch.full((40,), 3), 7), splits=4) == pytest.approx((1, 0), abs=1e-9)


def test_parts() -> None:
    """Guards against one fixed order of the images, and a class that a part lacks altogether (0 x inf)."""
    logits = 15 * sure(torch.arange(4).repeat_interleave(25), 4)
    first, other = inception_score(logits, seed=0), inception_score(logits, seed=1)
    assert first == inception_score(logits, seed=0) != other
    assert 3 < first[0] <= 4 and first[1] > 0


def test_parts_of_few_images() -> None:
    """Guards against parts of one image, which score 1 whatever they show: 6 images make 3 parts, not 10."""
    few = sure(torch.arange(6), 6)
    assert inception_score(few) == pytest.approx((2, 0), abs=1e-9)
    with pytest.raises(UserError, match="IS needs at least 2 images, and got 1"):
        inception_score(few[:1])

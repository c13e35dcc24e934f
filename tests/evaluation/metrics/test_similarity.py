"""Cosine measures on hand-made vectors."""

from __future__ import annotations

import math

import pytest
import torch

from m2m.evaluation.metrics.similarity import diversity_so_far, image_image, pairwise_diversity, text_image
from tests.evaluation.metrics.gaussians import gaussian


def test_text_image_is_100_times_the_cosine() -> None:
    """Guards against lengths that count, against a factor 2.5, and against a clamp at 0."""
    images = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    text = torch.tensor([[30.0, 40.0], [0.0, 2.0], [-1.0, -1.0]])
    torch.testing.assert_close(text_image(images, text), torch.tensor([100.0, 0.0, -100.0]))


def test_text_image_asks_for_a_caption_an_image() -> None:
    """Guards against one caption that is spread over all images by broadcasting."""
    with pytest.raises(ValueError, match="do not match"):
        text_image(torch.ones(4, 2), torch.ones(1, 2))


def test_image_image_is_the_mean_over_all_given() -> None:
    """Guards against the last given image alone, and against the cosine to the mean of the given images."""
    given = torch.tensor([[[2.0, 0.0], [0.0, 5.0]], [[1.0, 1.0], [1.0, 1.0]]])
    generated = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[-2.0, -2.0], [1.0, 0.0]]])
    half = 100 / math.sqrt(2)
    torch.testing.assert_close(image_image(generated, given), torch.tensor([[50.0, half], [-100.0, half]]))


def test_image_image_of_other_sets_is_refused() -> None:
    """Guards against given images of one set that are compared with all."""
    with pytest.raises(ValueError, match="not of the same sets"):
        image_image(torch.ones(3, 2, 4), torch.ones(1, 2, 4))


def test_diversity_of_known_directions() -> None:
    """Guards against an image that makes a pair with itself: right angles are 100, opposites 200, equal ones 0."""
    sets = torch.tensor([[[1.0, 0.0], [0.0, 3.0]], [[1.0, 2.0], [-1.0, -2.0]], [[1.0, 1.0], [4.0, 4.0]]])
    torch.testing.assert_close(pairwise_diversity(sets), torch.tensor([100.0, 200.0, 0.0]))


def test_diversity_so_far_is_that_of_the_first_images() -> None:
    """Guards against a running sum over the wrong pairs: each column is the diversity of the images up to it."""
    features = gaussian(3, 6 * 5, seed=0, shift=0.5).view(3, 6, 5)
    found = diversity_so_far(features)
    assert found[:, 0].isnan().all()
    for images in range(2, 7):
        torch.testing.assert_close(found[:, images - 1], pairwise_diversity(features[:, :images]))
    unit = torch.nn.functional.normalize(features[1], dim=-1)
    pairs = [100 * (1 - float(unit[i] @ unit[j])) for i in range(6) for j in range(i)]
    assert float(found[1, -1]) == pytest.approx(sum(pairs) / len(pairs))


def test_missing_images_have_no_value() -> None:
    """Guards against 0 for an image that is not there: NaN where it is, values where it is not."""
    features = gaussian(2, 12, seed=1).view(2, 3, 4)
    features[0, 2] = torch.nan
    assert image_image(features, features[:, :2]).isnan().tolist() == [[False, False, True], [False] * 3]
    assert diversity_so_far(features).isnan().tolist() == [[True, False, True], [True, False, False]]
    assert text_image(features[0], features[1]).isnan().tolist() == [False, False, True]

"""Measures of novel views on pictures whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from m2m.evaluation.features.perceptual import PerceptualDistance
from m2m.evaluation.result import Role
from m2m.evaluation.sources import RealSource
from m2m.evaluation.tasks.views import (
    PAIRS,
    PERCEPTUAL,
    POSE,
    PSNR,
    SSIM,
    ViewScorer,
    follows_pose,
    nearest_others,
    object_colours,
    pair_errors,
)
from m2m.evaluation.work import Work
from tests.evaluation.tasks.figures import BLUE, GREEN, RED, objects, picture

VIEWS = torch.stack([picture((8 * n, 8 * (n % 3), RED)) for n in range(6)])  # a block that turns around the picture


def test_a_view_follows_its_pose_if_no_other_view_is_nearer() -> None:
    """Guards against a score of views that ignore the asked camera: a rotated order, copies, and one view for all."""
    asked = VIEWS[1:]
    assert follows_pose(asked, VIEWS, 1).all()
    assert not follows_pose(asked.roll(1, 0), VIEWS, 1).any()
    assert not follows_pose(VIEWS[:1].repeat(5, 1, 1, 1), VIEWS, 1).any(), "the given view is never the asked one"
    assert follows_pose(VIEWS[2:3].repeat(5, 1, 1, 1), VIEWS, 1).tolist() == [False, True, False, False, False]


def test_a_poor_view_of_the_right_pose_still_follows_it() -> None:
    """Guards against a measure of quality: noise and another tint are no other camera."""
    noise = 40 * torch.randn(VIEWS[1:].shape, generator=torch.Generator().manual_seed(0))
    poor = (VIEWS[1:].float() * 0.8 + noise).clamp(0, 255).to(torch.uint8)
    assert follows_pose(poor, VIEWS, 1).all()


def test_neighbours_are_other_views_with_the_nearest_camera() -> None:
    """Guards against a view that is its own neighbour: its error would be 0 for everybody."""
    assert nearest_others(torch.tensor([[0.0], [1.0], [1.2], [9.0]])).tolist() == [1, 2, 1, 2]
    assert len(nearest_others(torch.zeros(1, 12))) == 0


def test_a_colour_that_changes_from_view_to_view_is_an_error_and_a_wrong_one_is_none() -> None:
    """Guards against consistency that is only likeness to the truth, which PSNR says already, or likeness of copies."""
    true = torch.stack([picture((8 * n + 4, 20, RED if n < 3 else GREEN)) for n in range(6)])
    neighbours = torch.tensor([1, 0, 3, 2, 5, 4])  # views 2 and 3 are of two sides
    wrong = true[..., [2, 0, 1]]
    torn = torch.stack([own if n % 2 else own[..., [2, 0, 1]] for n, own in enumerate(true)])
    assert pair_errors(true, true, neighbours).max() == 0
    assert pair_errors(wrong, true, neighbours).max() < 2
    assert pair_errors(torn, true, neighbours).mean() > 50
    copies = pair_errors(true[:1].repeat(6, 1, 1, 1), true, neighbours)
    assert copies[[0, 1, 4, 5]].max() < 1 < 100 < copies[[2, 3]].min(), "both sides in one colour"


def test_the_colour_of_an_object_is_not_its_background() -> None:
    """Guards against a mean over the picture, which says how large the object is."""
    colours = object_colours(torch.stack([picture((8, 8, BLUE)), picture((8, 8, BLUE), (40, 40, BLUE)), picture()]))
    assert (colours[0] - colours[1]).abs().max() < 1
    assert colours[2].tolist() == [255.0] * 3


@dataclass(frozen=True, eq=False)
class Turned:
    """The true views, each in the place of the next one: as if the asked cameras were ignored."""

    real: RealSource
    name: str = "turned"
    role: Role = "model"
    note: str = ""
    images: int = 4

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, H, W, 3]."""
        return self.real.pictures(i).roll(1, 0)


def test_a_source_that_ignores_the_asked_camera_fails(tmp_path: Path) -> None:
    """Guards against measures that would not notice: the same pictures, each at another camera than was asked for."""
    sets = objects(tmp_path / "shards")
    scorer = ViewScorer(sets, PerceptualDistance())
    real = RealSource(sets)
    sources = [real, Turned(real)]
    scorer.extract(sources, Work())
    right, turned = ({own.name: own.per_set for own in scorer.score(source).scores} for source in sources)
    assert right[POSE].unique().tolist() == [100] and turned[POSE].unique().tolist() == [0]
    assert right[PSNR].min() == 100 > turned[PSNR].max() and right[SSIM].min() == pytest.approx(100)
    assert right[PERCEPTUAL].max() == 0 < turned[PERCEPTUAL].min() and right[PAIRS].max() == 0
    assert all(own.shape == (2, 4) for own in right.values())

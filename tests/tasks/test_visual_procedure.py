"""Visual procedures: the condition is the place of a step, and what a caller leaves out is the same."""

from __future__ import annotations

import torch

from m2m.model.conditions import ConditionEmbedder
from m2m.tasks.visual_procedure import POSITION, VisualProcedure


def test_a_step_is_told_its_number_in_the_whole_procedure() -> None:
    """Bug: steps 3 to 5 that are numbered from 0, as if every run of neighbours were a whole procedure."""
    conditions = VisualProcedure().conditions(torch.tensor([[3, 4, 5], [0, 1, 2]]), None)
    assert conditions.dtype == torch.float32
    assert conditions.tolist() == [[[3.0], [4.0], [5.0]], [[0.0], [1.0], [2.0]]]


def test_a_pipeline_numbers_images_as_training_does() -> None:
    """Bug: a default that counts from 1, or only the new images."""
    numbers = torch.arange(6)
    default = POSITION.of_indices(6)
    assert default is not None
    assert torch.equal(default, VisualProcedure().conditions(numbers[None], None)[0])


def test_positions_look_different_throughout_the_longest_procedure() -> None:
    """Bug: sinusoids so slow that neighbours look alike, or so fast alone that distant steps do."""
    embedder = ConditionEmbedder(POSITION)
    positions = torch.arange(50.0).unsqueeze(1)
    waves = torch.cat(embedder._waves(positions), dim=1)  # [50, 16]
    distances = torch.cdist(waves, waves) + torch.diag(torch.full((50,), 9.0))
    assert distances.min() > 1.0

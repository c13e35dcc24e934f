"""What every task must keep to, those of the paper among them."""

from __future__ import annotations

import pytest
import torch

from m2m.tasks.known import TASKS, find_task
from m2m.tasks.task import Task


def stored_of(task: Task, sets: int, images: int) -> torch.Tensor:
    """Rows that any task could read: cameras that look in different directions from one place each."""
    generator = torch.Generator().manual_seed(0)
    rotations = torch.linalg.qr(torch.randn(sets, images, 3, 3, generator=generator))[0]
    rotations = rotations * torch.linalg.det(rotations)[..., None, None]
    places = torch.randn(sets, images, 3, 1, generator=generator) + 3
    return torch.cat([rotations, places], dim=-1).flatten(2)


@pytest.mark.parametrize("name", list(TASKS))
def test_conditions_are_what_the_model_is_made_for(name: str) -> None:
    """Bug: another width than the embedder's, met at the first step; or double precision that travels on."""
    task = find_task(name)
    conditions = task.conditions(torch.arange(6).view(2, 3), stored_of(task, 2, 3))
    assert conditions.shape == (2, 3, task.condition.dim) and conditions.dtype == torch.float32
    assert conditions.isfinite().all()


@pytest.mark.parametrize("name", list(TASKS))
def test_a_set_s_conditions_do_not_depend_on_its_neighbours(name: str) -> None:
    """Bug: cameras relative to the first image of the batch, not of the set."""
    task = find_task(name)
    numbers, stored = torch.arange(6).view(2, 3), stored_of(task, 2, 3)
    both, alone = task.conditions(numbers, stored), task.conditions(numbers[1:], stored[1:])
    assert (both[1] - alone[0]).abs().max() < 1e-5


def test_a_task_without_a_method_is_none() -> None:
    """Bug: a class that forgot its conditions trains with those of its parent, which are none."""
    with pytest.raises(TypeError, match="conditions"):
        Task()  # type: ignore[abstract]

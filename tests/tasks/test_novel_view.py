"""Novel views: the condition is the camera relative to the first image of the set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m2m.data.cameras import look_at_origin
from m2m.tasks.known import find_task
from m2m.tasks.novel_view import NovelView
from m2m.types import UserError


def test_the_first_image_drawn_is_the_origin_whatever_its_number() -> None:
    """Bug: relative to the object's view 0, which the model may never have seen."""
    stored = torch.from_numpy(look_at_origin([40, 100, 300], [10, 50, 0], 1.4).reshape(1, 3, 12))
    numbers = torch.tensor([[7, 0, 3]])
    told = NovelView().conditions(numbers, stored)
    first = torch.from_numpy(look_at_origin([0], [10], 1.0).reshape(12))
    assert torch.allclose(told[0, 0], first, atol=1e-6)
    around = torch.from_numpy(look_at_origin(np.array([0, 60, 260]), [10, 50, 0], 1.0).reshape(1, 3, 12))
    assert torch.allclose(told, NovelView().conditions(numbers, around), atol=1e-5)


def test_a_warm_up_starts_in_the_world_of_the_data_and_ends_anywhere() -> None:
    """Bug: an ease that never ends, that tears the cameras of a set apart, or that moves with the batch."""
    azimuths = np.array([40, 100, 300])
    stored = torch.from_numpy(look_at_origin(azimuths, [10, 50, 0], 1.4).reshape(1, 3, 12)).expand(64, 3, 12)
    numbers = torch.arange(3).expand(64, 3)
    task = NovelView()

    def eased(share: float, seeds: range) -> torch.Tensor:
        count = len(seeds)
        return task.eased(numbers[:count], stored[:count], share, [torch.Generator().manual_seed(s) for s in seeds])

    of_data = torch.from_numpy(look_at_origin(azimuths, [10, 50, 0], 1.0).reshape(3, 12))
    assert torch.allclose(eased(0.0, range(2)), of_data.expand(2, 3, 12), atol=1e-6)
    half = eased(0.5, range(64))
    again = task.conditions(numbers, half)
    assert torch.allclose(again, task.conditions(numbers, stored), atol=1e-5)
    cosines = (half[:, 0, :2] @ of_data[0, :2]) / of_data[0, :2].norm() ** 2  # of the turns: the camera's right is flat
    assert cosines.min() < 0.3 and cosines.min() > -1e-6 and cosines.max() > 0.9
    assert torch.equal(eased(0.5, range(3, 4))[0], half[3])


def test_sets_without_cameras_are_refused() -> None:
    """Bug: a task model that trains on numbers it takes for cameras."""
    task, numbers = find_task("novel_view"), torch.arange(2)[None]
    with pytest.raises(UserError, match="needs sets with cameras; 'm2m data objaverse' makes them"):
        task.conditions(numbers, None)
    with pytest.raises(UserError, match="12 numbers; these sets hold 1 an image"):
        task.conditions(numbers, torch.zeros(1, 2, 1))

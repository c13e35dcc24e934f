"""Conditions for what is shown and asked for, and sets that have a truth to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from m2m.evaluation.protocols.novel_view import nearest_first
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.tasks.task_sets import TaskSets
from m2m.tasks.cameras import relative_cameras
from m2m.tasks.known import find_task
from m2m.types import UserError
from tests.data.reading.toy_shards import full_sets, write_folder
from tests.evaluation.tasks.figures import cameras, objects, procedures


def test_views_are_asked_for_nearest_first_and_keep_their_cameras(tmp_path: Path) -> None:
    """Guards against pictures in another order than their cameras: every pose would be the wrong one."""
    own = objects(tmp_path / "shards", views=6, given=2, order=nearest_first)[1]
    numbers = own.real[:, 0, 0, 1].tolist()
    assert own.given[:, 0, 0, 1].tolist() == [0, 1] and sorted(numbers) == [2, 3, 4, 5] != numbers
    assert own.numbers == (0, 1, *numbers)
    assert own.stored is not None
    assert torch.allclose(own.stored, torch.tensor(cameras(6))[list(own.numbers)])


def test_conditions_are_those_of_the_shown_and_the_asked_images(tmp_path: Path) -> None:
    """Guards against cameras of given images that are not shown, and against views relative to another one."""
    sets = objects(tmp_path / "shards", views=5, given=2)
    assert sets.task is not None
    rows = np.array(cameras(5), np.float32)
    one, both = (sets.task.conditions(sets[0], given, 2) for given in (1, 2))
    assert torch.allclose(one, torch.from_numpy(relative_cameras(rows[[0, 2, 3]])), atol=1e-5)
    assert torch.allclose(both, torch.from_numpy(relative_cameras(rows[[0, 1, 2, 3]])), atol=1e-5)


def test_steps_go_on_where_the_given_ones_end(tmp_path: Path) -> None:
    """Guards against step 5 asked for behind 2 given steps, and against no position behind a set's last step."""
    sets = procedures(tmp_path / "shards", [3, 4])
    assert sets.task is not None
    assert sets.task.conditions(sets[0], 1, 2).flatten().tolist() == [0, 1, 2]
    assert sets.task.conditions(sets[0], 2, 4).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_sets_without_a_truth_or_cameras_are_told(tmp_path: Path) -> None:
    """Guards against an hour of sampling that ends with nothing to compare, or with cameras of nothing."""
    folder = write_folder(tmp_path / "shards", full_sets(2, 3))
    with pytest.raises(UserError, match="0 such sets of 4 images or more"):
        EvaluationSets(folder, given=1, real=3, task=TaskSets(find_task("novel_view"), 3))
    sets = EvaluationSets(folder, given=1, real=2, task=TaskSets(find_task("novel_view"), 2))
    assert sets.task is not None
    with pytest.raises(UserError, match="needs sets with cameras"):
        sets.task.conditions(sets[0], 1, 2)


def test_a_task_is_part_of_what_images_follow_from(tmp_path: Path) -> None:
    """Guards against images of one task that are found, and scored, as another's."""
    sets = procedures(tmp_path / "shards", [3, 4])
    assert sets.identity["task"] == "visual_procedure"
    assert "task" not in EvaluationSets(tmp_path / "shards", given=2, real=1).identity

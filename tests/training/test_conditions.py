"""Training of a task: it starts where its base was, its conditions reach the loss, and a dropped one is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from m2m.data.reading.sets import open_sets
from m2m.diffusion.objective import ObjectiveConfig
from m2m.model.conditions import ConditionConfig
from m2m.model.unet import M2MModel
from m2m.tasks.task import Task
from m2m.training.conditions import check_conditions, set_conditions, take_up_task, task_of
from m2m.training.image_sets import ImageSetTask, SetBatch
from m2m.types import UserError
from tests.tiny import tiny_model, tiny_task_model
from tests.toy_shards import write_toy_shards
from tests.training import set_runs
from tests.training.set_runs import PLACES, first_batch, run, same_state, toy_config, wake

VARIANTS = ["self", "dino"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of four images with three stored numbers each."""
    return write_toy_shards(tmp_path_factory.mktemp("places") / "sets", images=4, conditions=True)


def prepared(data: Path, variant: str, task: str = PLACES, **objective: Any) -> ImageSetTask:
    """A task whose model is random throughout, so that contexts and conditions show."""
    options = ObjectiveConfig(**{"context_dropout": 0.0, "condition_dropout": 0.0, **objective})
    made = set_runs.task_of(toy_config(data, data, variant=variant, task=task, objective=options))
    wake(made.module)
    return made


def moved(batch: SetBatch, change: Tensor | float) -> SetBatch:
    assert batch.sets.conditions is not None
    return SetBatch(replace(batch.sets, conditions=batch.sets.conditions + change))


def loss_of(task: ImageSetTask, batch: SetBatch | None = None, step: int = 3) -> float:
    return task.loss(task.module, batch or first_batch(task), step)[0].item()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_loss_is_the_base_s_to_the_bit(data: Path, variant: str) -> None:
    """Bug: an embedder whose random start disturbs what was learned, or draws that a task moves."""
    base = prepared(data, variant, task="")
    task = prepared(data, variant)
    fresh = M2MModel.from_config(base.module.config)
    fresh.load_state_dict(base.module.state_dict())
    take_up_task(fresh, task_of(PLACES), 0, "base")
    told = ImageSetTask(fresh, task._scheduler, task._data, task._config, set_runs.ENCODER)
    assert loss_of(told) == loss_of(base)
    assert loss_of(task) != loss_of(base)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("option", [{}, {"random_set_length": True}, {"rollout_probability": 1.0, "rollout_steps": 2}])
def test_conditions_reach_the_loss(data: Path, variant: str, option: dict[str, Any]) -> None:
    """Bug: conditions that are read and never used; or those of other images than a shortened set has."""
    task = prepared(data, variant, **option)
    batch = first_batch(task)
    losses = [loss_of(task, other) for other in (batch, batch, moved(batch, 0.5))]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dropout", [{"condition_dropout": 1.0}, {"context_dropout": 1.0}])
def test_a_dropped_condition_is_none(data: Path, variant: str, dropout: dict[str, float]) -> None:
    """Bug: a branch of equation 7 that is trained on a condition of zeros, or still on the true one."""
    task = prepared(data, variant, **dropout)
    batch = first_batch(task)
    nothing = prepared(data, variant, **{**dropout, "condition_dropout": 0.0})
    assert loss_of(task, batch) == loss_of(task, moved(batch, 0.5)) == loss_of(nothing, moved(batch, torch.nan))


class EasedPlaces(set_runs.Places):
    """Moves all places of a set by one draw, while it warms up."""

    name = "eased_places"

    def eased(
        self, numbers: Tensor, stored: Tensor | None, share: float, generators: Sequence[torch.Generator]
    ) -> Tensor:
        drawn = torch.stack([torch.rand((), generator=own) for own in generators]).view(-1, 1, 1)
        return self.conditions(numbers, stored) + (1 + share) * drawn


def test_a_warm_up_ends_and_belongs_to_the_set(data: Path) -> None:
    """Bug: a warm-up that goes on, that is skipped, or whose draws depend on the batch; or that moves other draws."""
    plain, eased = prepared(data, "self"), prepared(data, "self", task=f"{__name__}:EasedPlaces")
    eased._config = replace(eased._config, condition_warmup=10)
    losses = [loss_of(eased, step=step) for step in (0, 5, 10, 11)]
    assert losses[0] != losses[1] and losses[0] != loss_of(plain, step=0)
    assert losses[2:] == [loss_of(plain, step=step) for step in (10, 11)]
    batch, task = first_batch(eased).sets, EasedPlaces()
    told = set_conditions(task, batch, torch.device("cpu"), 0.5, seed=1)
    assert batch.conditions is not None
    last = replace(
        batch,
        keys=batch.keys[-1:],
        epochs=batch.epochs[-1:],
        numbers=batch.numbers[-1:],
        conditions=batch.conditions[-1:],
    )
    alone = set_conditions(task, last, torch.device("cpu"), 0.5, seed=1)
    assert told is not None and alone is not None and torch.equal(told[-1:], alone)
    assert batch.conditions is not None and len((told - batch.conditions)[:, 0, 0].unique()) == len(batch.keys) > 1


def test_a_negative_warm_up_is_refused(data: Path) -> None:
    """Bug: a share of a warm-up that is below 0."""
    with pytest.raises(UserError, match="condition_warmup is -1: use 0"):
        set_runs.task_of(toy_config(data, data, task=PLACES, condition_warmup=-1))


def test_a_rollout_hears_of_its_image(data: Path) -> None:
    """Bug: a sample in the context that was made without the condition of its place in the set."""
    task = prepared(data, "self", rollout_probability=1.0, rollout_steps=2)
    batch = first_batch(task)
    made: list[Tensor] = []
    task.module.register_forward_pre_hook(lambda _, arguments: made.append(arguments[1]))
    change = torch.zeros(3, 3)
    change[1] = 0.5  # of the image that a set of three has its rollout in
    for other in (batch, moved(batch, change)):
        task.loss(task.module, other, 3)
    assert torch.equal(made[0][:, [0, 2]], made[1][:, [0, 2]])
    assert (made[0][:, 1] - made[1][:, 1]).abs().mean() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_is_exact(data: Path, tmp_path: Path, variant: str) -> None:
    """Bug: conditions of another draw behind a resume, or embedders that are drawn anew."""
    changes = {"task": PLACES, "variant": variant, "objective": ObjectiveConfig(condition_dropout=0.5)}
    straight = run(toy_config(data, tmp_path / "straight", **changes))
    run(toy_config(data, tmp_path / "resumed", steps=3, **changes))
    same_state(straight, run(toy_config(data, tmp_path / "resumed", **changes)))
    projections = [parameter for parameter in straight.optimisation.module.added_parameters() if parameter.ndim > 1]
    assert projections and all(parameter.abs().max() > 0 for parameter in projections)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dropout", [{"context_dropout": 1.0}, {"condition_dropout": 1.0}])
def test_every_parameter_gets_a_gradient_where_all_is_dropped(
    data: Path, variant: str, dropout: dict[str, float]
) -> None:
    """Bug: a process of DDP or FSDP that waits for ever for gradients of embedders that another one did not need."""
    task = prepared(data, variant, **dropout)
    task.loss(task.module, first_batch(task), 0)[0].backward()
    assert [name for name, parameter in task.module.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.abs().max() == 0 for parameter in task.module.added_parameters())


def test_a_base_of_the_same_task_keeps_its_embedders() -> None:
    """Bug: a fine-tuned model whose embedders are drawn anew when it is trained on."""
    model = tiny_task_model()
    before = [parameter.clone() for parameter in model.added_parameters()]
    take_up_task(model, task_of(PLACES), 3, "base 'x'")
    assert all(torch.equal(*pair) for pair in zip(before, model.added_parameters(), strict=True))


@pytest.mark.parametrize(
    ("condition", "task", "words"),
    [
        ({"name": "camera", "dim": 3}, PLACES, "base 'x' has the condition 'camera', task 'places' is of 'place'"),
        ({"name": "place", "dim": 4, "width": 16}, PLACES, "with another dim, width"),
        ({"name": "camera", "dim": 3}, "", "condition 'camera': give its task"),
    ],
)
def test_a_base_of_another_task_is_refused(condition: dict[str, Any], task: str, words: str) -> None:
    """Bug: cameras go into an embedder of positions; or a task model trains on without its conditions."""
    model = tiny_model()
    model.add_condition(ConditionConfig(**condition))
    with pytest.raises(UserError, match=words):
        take_up_task(model, task_of(task), 0, "base 'x'")


def test_data_without_what_the_task_needs_is_named(data: Path, tmp_path: Path) -> None:
    """Bug: an attribute error at the first step, behind loading the model."""
    plain = write_toy_shards(tmp_path / "plain")
    with pytest.raises(UserError, match=f"data '{plain}': holds no places; store them"):
        set_runs.task_of(toy_config(plain, tmp_path, task=PLACES))


def test_a_task_that_says_another_width_than_it_gives_is_named(data: Path) -> None:
    """Bug: broadcasting that makes one number of every image out of a task's [B, N]."""

    class Wrong(set_runs.Places):
        condition = ConditionConfig("place", 2)

    task: Task = Wrong()
    first = open_sets(data)[0]
    with pytest.raises(UserError, match=r"'places' gives conditions of shape \[1, 4, 3\], not \[1, 4, 2\]"):
        check_conditions(task, first, "data")


def test_without_a_task_nothing_is_told(data: Path) -> None:
    """Bug: conditions that a data set happens to hold go to a model that has no place for them."""
    task = prepared(data, "self", task="")
    assert set_conditions(None, first_batch(task).sets, torch.device("cpu")) is None
    assert loss_of(task) > 0


def test_a_rebuilt_model_has_the_condition() -> None:
    """Bug: diffusers leaves out of a copy what was a default when the model was made; the export is then no model."""
    model = tiny_model()
    take_up_task(model, task_of(PLACES), 0, "base")
    again = model.rebuilt()
    assert again.condition == model.condition
    assert again.state_dict().keys() == model.state_dict().keys()

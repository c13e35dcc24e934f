"""What a task tells of the images of a set, where training asks for it: the model's embedders, and c_C of a batch."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor

from m2m.data.reading.image_set import ImageSet, ImageSetBatch, stack_sets
from m2m.model.unet import M2MModel
from m2m.tasks.known import find_task
from m2m.tasks.task import Task
from m2m.training.seeds import set_generator
from m2m.types import UserError


def task_of(name: str) -> Task | None:
    """The task of that name; None for none. Raises UserError for an unknown one."""
    return find_task(name) if name else None


def take_up_task(model: M2MModel, task: Task | None, seed: int, where: str) -> None:
    """Give the model, in place, what it needs to hear of the task's condition, unless it has just that already.

    seed: draws the embedders; their projections are zero, so the model's predictions stay what they are. where: what
    the model is, for errors. Raises UserError where the model belongs to another task.
    """
    own, wanted = model.condition, None if task is None else task.condition
    if own == wanted:
        return
    if own is None and wanted is not None:
        model.add_condition(wanted, seed)
        return
    assert own is not None
    if task is None or wanted is None:
        raise UserError(f"{where} is a model with the condition '{own.name}': give its task (task=novel_view, ..)")
    if own.name != wanted.name:
        raise UserError(
            f"{where} has the condition '{own.name}', task '{task.name}' is of '{wanted.name}': give its own task"
        )
    differing = [field for field, value in asdict(own).items() if value != asdict(wanted)[field]]
    raise UserError(f"{where} has the condition of task '{task.name}' with another {', '.join(differing)}")


def set_conditions(
    task: Task | None, sets: ImageSetBatch, device: torch.device, share: float = 1.0, seed: int = 0
) -> Tensor | None:
    """c_C of the images of these sets, float32 [B, N, dim]; None without a task.

    share: of the task's warm-up that is over; below 1 the task makes it easier, by draws that belong to the set alone.
    Raises UserError where the data lack what the task needs, and where the task gives something else than it says.
    """
    if task is None:
        return None
    if share < 1:
        visits = zip(sets.epochs, sets.keys, strict=True)
        generators = [set_generator(seed, epoch, f"{key}/condition") for epoch, key in visits]
        conditions = task.eased(sets.numbers, sets.conditions, share, generators)
    else:
        conditions = task.conditions(sets.numbers, sets.conditions)
    wanted = [*sets.numbers.shape, task.condition.dim]
    if list(conditions.shape) != wanted:
        raise UserError(f"task '{task.name}' gives conditions of shape {list(conditions.shape)}, not {wanted}")
    return conditions.to(device, torch.float32, non_blocking=True)


def check_conditions(task: Task | None, first: ImageSet, data: str) -> None:
    """Raise UserError where sets like the first one of `data` lack what the task needs."""
    try:
        set_conditions(task, stack_sets([first]), torch.device("cpu"))
    except UserError as error:
        raise UserError(f"data '{data}': {error}") from error

"""What a fine-tuned task asks of its sets: a condition for every image, and images to compare generated ones with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from m2m.tasks.task import Task

if TYPE_CHECKING:
    from m2m.evaluation.sets import EvaluationSet

Order = Callable[[Tensor, int], list[int]]


@dataclass(frozen=True)
class TaskSets:
    """A task's sets.

    task: makes the conditions. further: images that every set must have beyond the given ones. order: from what the
    data hold of N images, [N, D0], the first G of them given, and from G, the order in which the images G .. N - 1 are
    asked for; None: by number.
    """

    task: Task
    further: int = 1
    order: Order | None = None

    def arranged(self, own: EvaluationSet) -> EvaluationSet:
        """The set with its further images in the order in which they are asked for."""
        if self.order is None or own.stored is None:
            return own
        given = len(own.given)
        asked = self.order(own.stored, given)
        real = own.real[[place - given for place in asked]]
        order = [*range(given), *asked]
        return replace(own, real=real, stored=own.stored[order], numbers=tuple(own.numbers[place] for place in order))

    def conditions(self, own: EvaluationSet, given: int, images: int) -> Tensor:
        """Of the first `given` images and of as many generated ones, float32 [given + images, D].

        An ordered task goes on where the given images end; any other is asked for the set's further images, however
        many of the given ones are shown. Raises UserError where the data lack what the task needs.
        """
        if self.task.ordered:
            return self.task.conditions(_going_on(own.numbers, given + images)[None], None)[0]
        first = len(own.given)
        shown = [*range(given), *range(first, first + images)]
        stored = None if own.stored is None else own.stored[shown][None]
        return self.task.conditions(torch.tensor([[own.numbers[place] for place in shown]]), stored)[0]


def _going_on(numbers: tuple[int, ...], count: int) -> Tensor:
    """So many numbers; those behind the last that is there count on from it."""
    behind = range(numbers[-1] + 1, numbers[-1] + 1 + max(0, count - len(numbers)))
    return torch.tensor([*numbers, *behind][:count])

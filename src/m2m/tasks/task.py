"""What a task is: a condition for every image, made of what the data say, and the order in which images are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from m2m.model.conditions import ConditionConfig


class Task(ABC):
    """A task that a pre-trained model is fine-tuned for (section 6.2).

    Attributes:
        name: "novel_view", ...
        condition: c_C: how many numbers an image has, and how the model embeds them; it goes into the model's config.
        ordered: how the N images of a set are drawn for a step. False: any of them, in any order. True: a run of N
            neighbours, by ascending number.
    """

    name: str
    condition: ConditionConfig
    ordered: bool = False

    @abstractmethod
    def conditions(self, numbers: Tensor, stored: Tensor | None) -> Tensor:
        """c_C of the images of B sets, float32 ``[B, N, condition.dim]``; a row of NaN: that image has none.

        The first image of a set is the first that a model sees or makes. A condition that is told relative to another
        image refers to that one.

        Args:
            numbers: int64 ``[B, N]``, which images of their sets these are.
            stored: float32 ``[B, N, D]``, the rows that the data hold for them ("conditions" in a set's META); None
                where the data hold none.

        Raises UserError, one line, where the data lack what the task needs.
        """

    def eased(
        self, numbers: Tensor, stored: Tensor | None, share: float, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """c_C while a training warms up (`condition_warmup`): made easier at first, and harder as `share` grows.

        A task whose condition leaves open what the images have to tell (where the front of an object is) may tell that
        too at first, so that the model learns what to do with it before it learns to find it out.

        Args:
            numbers, stored: as for `conditions`.
            share: of the warm-up that is over, 0 <= share < 1; at 1 the condition is that of `conditions`.
            generators: one a set, for what is drawn.

        Returns: as `conditions`; here just that.
        """
        return self.conditions(numbers, stored)

"""Visual procedures (section 8.5.2): pictures of the steps so far in, pictures of the next steps out."""

from __future__ import annotations

from torch import Tensor

from m2m.model.conditions import ConditionConfig
from m2m.tasks.task import Task

# Sines and cosines from 2 radians a step, which tell neighbours apart, to 126 steps a turn: longer than any procedure.
POSITION = ConditionConfig("position", 1, frequencies=8, lowest=0.05, highest=2.0, default="index")


class VisualProcedure(Task):
    """The condition is the number of the step, from 0; nothing must be stored for it."""

    name = "visual_procedure"
    condition = POSITION
    ordered = True

    def conditions(self, numbers: Tensor, stored: Tensor | None) -> Tensor:
        """The position of each image in its procedure, ``[B, N, 1]``."""
        return numbers.unsqueeze(-1).float()

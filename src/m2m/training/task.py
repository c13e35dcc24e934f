"""What the training loop asks of a part that is trained: a module, its batches, and their loss.

The global batch of a step is what all processes together learn from before the weights move once. Each process takes
its share of it, in one or more micro-batches. Its samples, and their noise, are the same however it is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn


@dataclass(frozen=True)
class Share:
    """What a process takes of every global batch: the `rank`-th of `ranks` parts, in `accumulation` micro-batches."""

    rank: int = 0
    ranks: int = 1
    accumulation: int = 1


class Batch(Protocol):
    """One micro-batch of one process."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of its samples, for the record of a skipped step."""
        ...

    @property
    def cursor(self) -> dict[str, Any]:
        """Where the data goes on behind this micro-batch, alike in all processes, as plain values that JSON can hold;
        empty where the step's number says it."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, for whoever looks into a loss that was not finite."""
        ...


B = TypeVar("B", bound=Batch)


class Task(Protocol[B]):
    """What is trained, on batches of its own kind."""

    @property
    def module(self) -> nn.Module:
        """The parameters that move, on their device."""
        ...

    def accumulation(self, ranks: int) -> int:
        """How many micro-batches each of `ranks` processes takes in a step. Raises UserError where nothing fits."""
        ...

    def batches(self, step: int, cursor: dict[str, Any], share: Share) -> Iterator[B]:
        """Micro-batches of this process without end, from the first one of step `step` (from 0).

        cursor: that of the last micro-batch before; empty at the start of a run.
        """
        ...

    def loss(self, module: nn.Module, batch: B, step: int) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The loss of a micro-batch, a scalar: the mean over its samples; and scalars to log beside it.

        module: the task's own, wrapped where several processes share the work; the loss must come from calling it, and
        give every trained parameter a gradient, if only zero, wherever it does so in another process.
        """
        ...


@dataclass(frozen=True)
class StepBatch:
    """A batch that follows from the step's number alone, for tasks that run in one process. data: its tensors."""

    number: int
    data: dict[str, Tensor] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The step stands for its samples."""
        return (f"step {self.number}",)

    @property
    def cursor(self) -> dict[str, Any]:
        """Empty: the step's number says all."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors given."""
        return dict(self.data)

"""What the protocols of fine-tuned tasks share: models that know the task's condition beside those that do not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from m2m.evaluation.candidates import Candidate
from m2m.evaluation.protocols.protocol import Protocol, Sources
from m2m.evaluation.result import Role, Row, Table
from m2m.evaluation.scoring import Scored
from m2m.evaluation.sources import Source
from m2m.evaluation.tasks.task_sets import Order, TaskSets
from m2m.evaluation.workshop import Workshop
from m2m.model.context_window import NEAREST, SLIDING
from m2m.types import UserError

DROPPED, UNTUNED = "condition dropped", "not fine-tuned"

# A row's name, a measure, and the row that it is to be better than.
Comparison = tuple[str, str, str]


class TaskProtocol(Protocol):
    """A protocol of a fine-tuned task.

    task: its name. made_with: commands that make its data. compared: measures of the table of differences.
    """

    task: str
    made_with: str
    compared: tuple[str, ...]
    extractors: tuple[str, ...] = ()

    def default_data(self, sets: int) -> str:
        """The tiny world has no such sets: raises UserError that says how to make some."""
        raise UserError(f"protocol {self.name} needs --data SHARDS of its task; {self.made_with} makes them")

    def order(self) -> Order | None:
        """In which order a set's images are asked for; None: by number."""
        return None

    def task_sets(self, given: int, images: int) -> TaskSets:
        """Sets with conditions, and with a truth to compare with."""
        from m2m.tasks.known import find_task

        return TaskSets(find_task(self.task), self.least_further(given, images), self.order())

    @abstractmethod
    def least_further(self, given: int, images: int) -> int:
        """How many real images every set must have beyond the given ones."""

    @abstractmethod
    def answers(
        self, workshop: Workshop, candidate: Candidate, change: str = "", role: Role = "model", **settings: Any
    ) -> list[Source]:
        """A row's sources: what the candidate makes of every set, with some settings of `GenerateConfig` changed."""

    @abstractmethod
    def variants(self, workshop: Workshop, candidate: Candidate, own: Sequence[Source]) -> dict[str, list[Source]]:
        """Further rows of a candidate that knows the condition and has made its own."""

    def sources(self, workshop: Workshop) -> dict[str, list[Source]]:
        """Every candidate with its variants; a model without a condition is a floor; then the other bounds."""
        rows: dict[str, list[Source]] = {}
        for candidate in workshop.candidates:
            if candidate.model is None:
                rows[candidate.label] = self.answers(workshop, candidate)
            elif candidate.model.load().model.condition is None:
                policy = candidate.window.policy
                sees = SLIDING if policy == NEAREST else policy  # it has no conditions that could be near
                rows |= self._row(workshop, candidate, UNTUNED, window_policy=sees)
            else:
                rows[candidate.label] = own = self.answers(workshop, candidate)
                rows |= self.variants(workshop, candidate, own)
                rows |= self._row(workshop, candidate, DROPPED, condition_guidance=0.0)
        return rows | self.bounds(workshop)

    def sheets(
        self, workshop: Workshop, sources: Sources, scored: Mapping[str, Sequence[Scored]]
    ) -> Iterator[tuple[str, str, Image.Image]]:
        """Contact sheets of the candidates, not of their variants."""
        labels = [own.label for own in workshop.candidates]
        yield from super().sheets(workshop, sources, {row: own for row, own in scored.items() if row in labels})

    def tables(
        self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]], rows: Mapping[str, Row]
    ) -> Iterator[Table]:
        """Every candidate against each of its variants and every floor, set by set."""
        whole = {row: self.whole(places, workshop) for row, places in scored.items()}
        for candidate in workshop.candidates:
            if candidate.label in whole:
                yield self._differences(candidate.label, whole, workshop)

    def whole(self, places: Sequence[Scored], workshop: Workshop) -> Scored:
        """What stands in a row, from what was scored for it."""
        return places[0]

    def _row(self, workshop: Workshop, candidate: Candidate, change: str, **settings: Any) -> dict[str, list[Source]]:
        made = self.answers(workshop, candidate, change, "floor", **settings)
        return {made[0].name: made}

    def _differences(self, label: str, whole: Mapping[str, Scored], workshop: Workshop) -> Table:
        others = [row for row, own in whole.items() if row.startswith(f"{label}, ") or own.role == "floor"]
        heads = ("against", *self.compared)
        cells = tuple(
            (other, *(difference(whole[label], whole[other], name, workshop.config.seed) for name in self.compared))
            for other in others
        )
        note = "difference of the same sets and positions, with its 95% interval by bootstrap over the sets"
        return Table(f"{label}: what it has over others", heads, cells, note)


def difference(scored: Scored, other: Scored, name: str, seed: int) -> str:
    """How much higher a measure is than another row's, in pairs: "+5.1 (4.0 to 6.2)"; "-" where there are none."""
    from dataclasses import replace

    first, second = (next((own for own in row.scores if own.name == name), None) for row in (scored, other))
    if first is None or second is None or first.per_set is None or second.per_set is None:
        return "-"
    images = min(first.per_set.shape[1], second.per_set.shape[1])
    apart = replace(first, per_set=first.per_set[:, :images] - second.per_set[:, :images])
    value, low, high = apart.pooled(seed)
    return shown(value, low, high, signed=True)


def shown(value: float | None, low: float | None, high: float | None, signed: bool = False) -> str:
    """ "79.1 (75.2 to 83.0)"; with three decimals where it is small; "-" for no value."""
    if value is None:
        return "-"
    largest = max(abs(own) for own in (value, low, high) if own is not None)
    digits = 3 if 0 < largest < 1 else 1
    sign = "+" if signed else ""
    between = "" if low is None or high is None else f" ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"
    return f"{value:{sign}.{digits}f}{between}"

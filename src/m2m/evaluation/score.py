"""One measure of one source before it is pooled: a value a set and a position, or a value a position of all sets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from m2m.evaluation.metrics.bootstrap import interval, mean_interval
from m2m.evaluation.result import Better, Measure


@dataclass(frozen=True)
class Score:
    """`name`, `extractor` and `better` are those of `result.Measure`.

    per_set: float [S, N], NaN where a set has no value; None for a measure of all sets together, such as FD, whose
    `values`, and bounds `low` and `high` where it has them, are by position.
    """

    name: str
    extractor: str
    better: Better
    per_set: Tensor | None = None
    values: tuple[float | None, ...] = ()
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()

    def by_position(self, positions: int, seed: int = 0) -> Measure:
        """The measure at every position; None behind the last that the source has."""
        values, low, high = self.values, self.low, self.high
        overall: tuple[float, ...] = ()
        if self.per_set is not None:
            figures = (self.per_set.nanmean(0), *interval(self.per_set, seed))
            values, low, high = (known(own.tolist()) for own in figures)
            overall = mean_interval(self.per_set, seed)
        values, low, high = (_padded(own, positions) for own in (values, low, high))
        return Measure(
            self.name, self.extractor, self.better, values, low, high, () if math.isnan(sum(overall)) else overall
        )

    def pooled(self, seed: int = 0) -> tuple[float | None, float | None, float | None]:
        """One figure over all positions, (value, low, high): bounds only where there is a value a set."""
        measure = self.by_position(0, seed)
        low, high = measure.mean_interval or (None, None)
        return measure.mean, low, high


def _padded(values: tuple[float | None, ...], positions: int) -> tuple[float | None, ...]:
    """As many as there are positions, None for those that are not there; nothing stays nothing."""
    return values + (None,) * (positions - len(values)) if values else ()


def known(values: Iterable[float]) -> tuple[float | None, ...]:
    """None for NaN."""
    return tuple(None if math.isnan(value) else value for value in values)

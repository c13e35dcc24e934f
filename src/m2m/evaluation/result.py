"""What an evaluation found, as plain values: rows of measures by position, tables, pictures; to JSON and back.

A number never stands without its extractor: measures of different extractors are different measures.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Better = Literal["lower", "higher", ""]
Role = Literal["model", "floor", "ceiling"]


@dataclass(frozen=True)
class Measure:
    """One measure of one row, at every position.

    extractor: what read the pictures ("inception", "clip:ViT-B/32", "truth probe", "pixels"). better: which way is
    good; empty where neither is. values: by position, None where there is nothing to measure. low, high: bounds of a
    95% bootstrap interval over the sets, by position; empty where the measure has none. mean_interval: such bounds, low
    and high, of the mean over the positions; empty likewise.
    """

    name: str
    extractor: str
    better: Better
    values: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    mean_interval: tuple[float, ...] = ()

    @property
    def label(self) -> str:
        """The name with its extractor."""
        return f"{self.name} ({self.extractor})"

    @property
    def mean(self) -> float | None:
        """Mean over the positions, as in Table 1; None where no position has a value."""
        there = [value for value in self.values if value is not None]
        return statistics.fmean(there) if there else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the positions (of the sample, n - 1), as in Table 1; None for fewer than two."""
        there = [value for value in self.values if value is not None]
        return statistics.stdev(there) if len(there) > 1 else None

    @property
    def slope(self) -> float | None:
        """Change a position, by least squares; None for fewer than two values."""
        there = [(place, value) for place, value in enumerate(self.values) if value is not None]
        return statistics.linear_regression(*zip(*there, strict=True)).slope if len(there) > 1 else None

    @property
    def first_minus_last(self) -> float | None:
        """What the measure lost (or gained, if negative) from the first position to the last."""
        first, last = self.values[0], self.values[-1]
        return None if first is None or last is None else first - last


@dataclass(frozen=True)
class Row:
    """A model, a floor that asks for no skill, or a ceiling that no model is expected to pass; `note` says which."""

    name: str
    role: Role
    measures: tuple[Measure, ...]
    note: str = ""

    def measure(self, label: str) -> Measure | None:
        """The measure of that label, if the row has it."""
        return next((own for own in self.measures if own.label == label), None)


@dataclass(frozen=True)
class Table:
    """A table that is not by position. cells: text, a row a line; note: one line of how to read it."""

    title: str
    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG of the result's folder, and one line of what it shows."""

    title: str
    file: str
    note: str = ""


@dataclass(frozen=True)
class Result:
    """Everything that a report shows.

    axis: what the positions are ("generated image", "given images"); positions: their numbers. reading: how to read the
    result, in a sentence or two. settings, versions: plain values; command: what makes it again.
    """

    title: str
    protocol: str
    reading: str
    axis: str
    positions: tuple[int, ...]
    rows: tuple[Row, ...]
    command: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def labels(self) -> list[str]:
        """Labels of all measures of all rows, in the order in which they come up."""
        return list(dict.fromkeys(own.label for row in self.rows for own in row.measures))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Result:
        """The result that `to_json` wrote."""
        own = dict(plain)
        own["rows"] = tuple(_row(row) for row in own["rows"])
        own["tables"] = tuple(Table(**_tuples(table)) for table in own["tables"])
        own["pictures"] = tuple(Picture(**picture) for picture in own["pictures"])
        return cls(**{**own, "positions": tuple(own["positions"]), "notes": tuple(own["notes"])})


def _row(plain: Mapping[str, Any]) -> Row:
    return Row(**{**plain, "measures": tuple(Measure(**_tuples(own)) for own in plain["measures"])})


def _tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Lists, as JSON has them, as tuples, those within them too."""
    return {name: _tupled(value) for name, value in plain.items()}


def _tupled(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_tupled(own) for own in value)
    return value

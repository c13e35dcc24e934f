"""What the tables of a report hold, before they become Markdown or HTML: one table an extractor, never two in one.

A floor asks for no skill: wherever one does as well as a model, the model's number is marked, and the floor is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.evaluation.report.glossary import ARROWS, shown_name
from m2m.evaluation.result import Measure, Result, Role, Row, Table

ORDER: Mapping[Role, int] = {"model": 0, "ceiling": 1, "floor": 2}
FLOOR_MARK = "‡"
NOTHING = "-"
NUMERIC = re.compile(r"[-+−±]?[\d.]|-?$")
# More columns than this no page and no eye holds.
MOST_POSITIONS = 12


@dataclass(frozen=True)
class Cell:
    """Text, a smaller remark, and whether it is the best number of its column."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """Cells of one row of a table; role: empty where the row is no source."""

    name: str
    cells: tuple[Cell, ...]
    role: Role | None = None


@dataclass(frozen=True)
class Sheet:
    """A table as it is shown. heads: the first stands above the names of the lines."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Models, then ceilings, then floors, each in the order given."""
    return sorted(rows, key=lambda row: ORDER[row.role])


def by_extractor(result: Result) -> dict[str, list[str]]:
    """Extractor -> labels of its measures, both as they come up."""
    groups: dict[str, list[str]] = {}
    for label in result.labels:
        groups.setdefault(any_of(result, label).extractor, []).append(label)
    return groups


def any_of(result: Result, label: str) -> Measure:
    """The measure of that label of the first row that has it: for its name, extractor and direction."""
    return next(own for row in result.rows if (own := row.measure(label)) is not None)


def values_of(result: Result, label: str) -> list[float | None]:
    """All values of a measure, of all rows."""
    return [value for row in result.rows if (own := row.measure(label)) is not None for value in own.values]


def head(measure: Measure) -> str:
    """Name with an arrow that points to what is good."""
    return f"{shown_name(measure.name, measure.extractor)} {ARROWS[measure.better]}".rstrip()


def summary(result: Result, labels: Sequence[str]) -> Sheet:
    """Means and deviations over the positions, as in Table 1 of the paper; a column a measure."""
    columns = [_summary_column(result, label) for label in labels]
    heads = [head(any_of(result, label)) for label in labels]
    first, several = result.positions[0], len(result.positions) > 1
    title = "Mean ± deviation over the positions" if several else f"{result.axis.capitalize()} {first}"
    return Sheet(title, ("", *heads), _lines(result, columns), _remarks(result, labels))


def change(result: Result, labels: Sequence[str]) -> Sheet:
    """First value, last value, their difference and the slope; a column a measure."""
    columns = [{row.name: _changed(result, label, row.measure(label)) for row in result.rows} for label in labels]
    heads = [head(any_of(result, label)) for label in labels]
    first, last = result.positions[0], result.positions[-1]
    notes = ["Slope: change from one position to the next, by least squares."]
    if len(result.positions) > MOST_POSITIONS:
        notes.append(f"Below, {MOST_POSITIONS} of the {len(result.positions)} positions; result.json has them all.")
    return Sheet(f"From {result.axis} {first} to {last}", ("", *heads), _lines(result, columns), tuple(notes))


def by_position(result: Result, label: str, bounds: bool = True) -> Sheet:
    """One measure at every position, or at 12 of them; bounds: with the interval of each number."""
    places = _some(len(result.positions))
    digits = decimals(values_of(result, label))
    lines = [
        Line(row.name, tuple(_at(own, place, digits, bounds) for place in places), row.role)
        for row in in_order(result.rows)
        if (own := row.measure(label)) is not None
    ]
    heads = (result.axis, *(str(result.positions[place]) for place in places))
    return Sheet(head(any_of(result, label)), heads, tuple(lines))


def is_text(sheet: Sheet) -> list[bool]:
    """For each column but the first whether it holds words: those stand at the left, numbers at the right."""
    columns = [[line.cells[place].text for line in sheet.lines] for place in range(len(sheet.heads) - 1)]
    return [not all(NUMERIC.match(text) for text in column) for column in columns]


def plain_sheet(table: Table) -> Sheet:
    """A table that is not by position, as it was given."""
    lines = tuple(Line(cells[0], tuple(Cell(text) for text in cells[1:])) for cells in table.cells)
    return Sheet(table.title, table.heads, lines, (table.note,) if table.note else ())


def plain(value: Any) -> str:
    """A setting as text: strings as they are, "none", the rest as JSON."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def number(value: float | None, digits: int = 2) -> str:
    """The number with so many decimals, never "-0.00"; a dash for none."""
    return NOTHING if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def decimals(values: Sequence[float | None]) -> int:
    """Two, as in the paper; four where all numbers are below 1."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 4 if 0 < largest < 1 else 2


def equalled_by(result: Result, label: str) -> dict[str, list[str]]:
    """Models to the floors that do as well or better, in the mean over the positions."""
    floors = [row for row in result.rows if row.role == "floor"]
    found = {
        row.name: [floor.name for floor in floors if _as_good(floor.measure(label), row.measure(label))]
        for row in result.rows
        if row.role == "model"
    }
    return {name: own for name, own in found.items() if own}


def best_model(result: Result, label: str) -> str | None:
    """The model with the best mean; None for fewer than two models, or where neither way is good."""
    means = {
        row.name: own.mean
        for row in result.rows
        if row.role == "model" and (own := row.measure(label)) is not None and own.mean is not None and own.better
    }
    if len(means) < 2:
        return None
    pick = min if any_of(result, label).better == "lower" else max
    return pick(means, key=lambda name: means[name])


def _summary_column(result: Result, label: str) -> dict[str, Cell]:
    """Row -> its cell."""
    found = {row.name: own for row in result.rows if (own := row.measure(label)) is not None}
    digits = decimals([own.mean for own in found.values()])
    best, equalled = best_model(result, label), equalled_by(result, label)
    column = {}
    for name, own in found.items():
        deviation = "" if own.deviation is None else f" ± {number(own.deviation, digits)}"
        mark = f" {FLOOR_MARK}" if name in equalled else ""
        text = number(own.mean, digits) + deviation + mark
        column[name] = Cell(text, _bounds(own.mean_interval, digits), name == best)
    return column


def _remarks(result: Result, labels: Sequence[str]) -> tuple[str, ...]:
    """What bold, marks and parentheses of a summary mean, if they are there."""
    notes = []
    if any(best_model(result, label) for label in labels):
        notes.append("Bold: the best model.")
    measures = [own for row in result.rows for label in labels if (own := row.measure(label)) is not None]
    if any(own.mean_interval for own in measures):
        notes.append("In parentheses: 95% interval of the mean, by bootstrap over the sets.")
    if beaten := _beaten(result, labels):
        notes.append(f"{FLOOR_MARK} A floor does as well without skill: {beaten}. Such a number says little alone.")
    return tuple(notes)


def _beaten(result: Result, labels: Sequence[str]) -> str:
    """Floors with the measures on which they equal or beat a model: "copy of the last given (FD, KID)"."""
    found: dict[str, list[str]] = {}
    for label in labels:
        own = any_of(result, label)
        for floor in dict.fromkeys(name for names in equalled_by(result, label).values() for name in names):
            found.setdefault(floor, []).append(shown_name(own.name, own.extractor))
    return ", ".join(f"{floor} ({', '.join(names)})" for floor, names in found.items())


def _changed(result: Result, label: str, measure: Measure | None) -> Cell:
    if measure is None or measure.slope is None:
        return Cell(NOTHING)
    digits = decimals(values_of(result, label))
    there = [place for place, value in enumerate(measure.values) if value is not None]
    first, last = (measure.values[place] for place in (there[0], there[-1]))
    lost = None if first is None or last is None else first - last
    small = f"first - last {number(lost, digits)}, slope {number(measure.slope, digits + 1)}"
    if there[-1] - there[0] + 1 < len(result.positions):
        small += f", from {result.positions[there[0]]} to {result.positions[there[-1]]}"
    return Cell(f"{number(first, digits)} → {number(last, digits)}", f"({small})")


def _lines(result: Result, columns: Sequence[Mapping[str, Cell]]) -> tuple[Line, ...]:
    """A line for every row that has a number in any of the columns."""
    blank = Cell(NOTHING)
    lines = [
        Line(row.name, tuple(column.get(row.name, blank) for column in columns), row.role)
        for row in in_order(result.rows)
    ]
    return tuple(line for line in lines if any(cell.text != NOTHING for cell in line.cells))


def _at(measure: Measure, place: int, digits: int, bounds: bool) -> Cell:
    values, low, high = (
        own[place] if place < len(own) else None for own in (measure.values, measure.low, measure.high)
    )
    if not bounds or low is None or high is None:
        return Cell(number(values, digits))
    return Cell(number(values, digits), _bounds((low, high), digits))


def _bounds(interval: Sequence[float], digits: int) -> str:
    return f"({number(interval[0], digits)} to {number(interval[1], digits)})" if interval else ""


def _some(count: int) -> list[int]:
    """All places, or 12 of them, the first and the last among these."""
    if count <= MOST_POSITIONS:
        return list(range(count))
    return [round(step * (count - 1) / (MOST_POSITIONS - 1)) for step in range(MOST_POSITIONS)]


def _as_good(floor: Measure | None, model: Measure | None) -> bool:
    """Whether a floor's mean is as good as a model's, or better."""
    if floor is None or model is None or floor.mean is None or model.mean is None or not model.better:
        return False
    return floor.mean <= model.mean if model.better == "lower" else floor.mean >= model.mean

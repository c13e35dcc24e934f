"""What sampling costs, in Markdown: seconds, times the base, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.evaluation.efficiency.contenders import BASE, SELF
from m2m.evaluation.efficiency.measuring import LABELS, RECOMPUTING, Cell, Facts, pipeline_of

MIB = 2**20


@dataclass(frozen=True)
class Efficiency:
    """Everything that a report of sampling costs shows.

    settings, machine: plain values; notes: what a reader must know to read the numbers right; facts: by pipeline.
    """

    settings: Mapping[str, Any]
    machine: Mapping[str, str]
    notes: Sequence[str]
    facts: Mapping[str, Facts]
    cells: Sequence[Cell]

    @property
    def names(self) -> list[str]:
        """The contenders, base first."""
        return [name for name in LABELS if self.cells and name in self.cells[0].measured]

    @property
    def timed(self) -> bool:
        """Whether anything was measured, or operations counted alone."""
        return bool(self.cells) and self.cells[0].seconds(BASE) is not None


def markdown(found: Efficiency) -> str:
    """All tables, with what was measured above and how to read it below."""
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in found.settings.items())
    machine = ", ".join(f"{name} {value}" for name, value in found.machine.items())
    ours = [name for name in found.names if name != BASE]
    parts = ["# What an image costs", f"{settings}.\n{machine}."]
    if found.timed:
        parts.append(_by_cell(found, "Seconds an image", found.names, lambda cell, name: f"{cell.seconds(name):.3g}"))
        parts.append(_by_cell(found, "Times the base, measured", ours, lambda cell, name: _ratio(cell, name, "wall")))
        if found.settings.get("device") == "cpu":
            title = "The same in processor time, which other work on the machine disturbs less"
            parts.append(_by_cell(found, title, ours, lambda cell, name: _ratio(cell, name, "processor")))
    title = "Times the base, counted in operations"
    parts.append(_by_cell(found, title, ours, lambda cell, name: f"{cell.counted_ratio(name):.3f}"))
    if {SELF, RECOMPUTING} <= set(ours):
        parts.append(_cache_gain(found))
    parts += [_networks(found), "\n".join(f"- {note}" for note in found.notes)]
    return "\n\n".join(parts) + "\n"


def cell_line(cell: Cell) -> str:
    """One line for a finished cell: each of ours beside the base, measured and counted."""
    seconds = cell.seconds(BASE)
    parts = [f"given {cell.given}, images {cell.images}:"]
    if seconds is not None:
        parts.append(f"base {seconds:.3g} s an image;")
    ratios = [f"{LABELS[name]} {_short(cell, name)}" for name in cell.measured if name != BASE]
    return " ".join([*parts, ", ".join(ratios)])


def _short(cell: Cell, name: str) -> str:
    measured = cell.ratio(name)
    counted = f"{cell.counted_ratio(name):.2f} counted"
    return f"x {measured.median:.2f} ({counted})" if measured else f"x {counted}"


def _by_cell(found: Efficiency, title: str, names: Sequence[str], shown: Callable[[Cell, str], str]) -> str:
    rows = [[str(cell.given), str(cell.images), *(shown(cell, name) for name in names)] for cell in found.cells]
    return f"## {title}\n\n" + _table(["given", "images", *(LABELS[name] for name in names)], rows)


def _cache_gain(found: Efficiency) -> str:
    """What the cache saves over the paper's way."""
    rows = []
    for cell in found.cells:
        measured = cell.ratio(RECOMPUTING, to=SELF)
        row = [str(cell.given), str(cell.images), f"{cell.counted_ratio(RECOMPUTING, to=SELF):.2f}"]
        rows.append([*row, str(measured)] if measured else row)
    heads = ["given", "images", "counted", *(["measured"] if found.timed else [])]
    return "## Times the cached M2M-Self that recomputing takes\n\n" + _table(heads, rows)


def _networks(found: Efficiency) -> str:
    """Memory: of the weights, of a context image, and of the largest cell."""
    rows = []
    for name in found.names:
        facts = found.facts[pipeline_of(name)]
        cache = facts.cache_bytes_per_image
        peaks = [own for cell in found.cells if (own := cell.measured[name].working_bytes) is not None]
        cells = [
            LABELS[name],
            f"{facts.parameters:,}",
            _mib(facts.weight_bytes),
            _mib(cache),
            _mib(max(peaks, default=None)),
        ]
        rows.append(cells)
    heads = ["", "parameters, all networks", "weights", "cache of a context image", "peak beside the weights"]
    return "## Memory\n\n" + _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(cell: Cell, name: str, clock: str) -> str:
    """Median, and the range where there is more than one round."""
    found = cell.ratio(name, clock=clock)
    assert found is not None
    return str(found) if len(cell.measured[name].wall) > 1 else f"{found.median:.3f}"


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:,.2f} MiB" if size < 100 * MIB else f"{size / MIB:,.0f} MiB"


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

"""Figure 9: what an image costs against how many are made, a panel for each number of given images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from m2m.checkpoint import atomic_write
from m2m.evaluation.efficiency.contenders import BASE, DINO, SELF
from m2m.evaluation.efficiency.measuring import LABELS, RECOMPUTING, Cell
from m2m.evaluation.efficiency.table import Efficiency
from m2m.types import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito, which the colour-blind tell apart; marks differ too.
COLOURS = {BASE: "#555555", SELF: "#0072B2", DINO: "#009E73", RECOMPUTING: "#D55E00"}
MARKS = {BASE: "s", SELF: "o", DINO: "^", RECOMPUTING: "D"}
PANEL = (3.4, 2.8)  # inches
DPI = 140
GRID = "#e4e4e4"


def save_plot(found: Efficiency, path: Path) -> None:
    """The figure as a PNG file, whole or not at all. Raises UserError without matplotlib."""
    figure = plot(found)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def plot(found: Efficiency) -> Figure:
    """Seconds of an image above, times the base below, with what operations alone would make of it as dotted lines."""
    check_matplotlib()
    from matplotlib.figure import Figure

    given = sorted({cell.given for cell in found.cells})
    rows = 2 if found.timed else 1
    width = max(2, len(given)) * PANEL[0]
    figure = Figure(figsize=(width, rows * PANEL[1] + 0.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, len(given), sharex=True, sharey="row", squeeze=False)
    for number, column in zip(given, panels.T, strict=True):
        cells = sorted((cell for cell in found.cells if cell.given == number), key=lambda cell: cell.images)
        column[0].set_title(f"{number} given {'image' if number == 1 else 'images'}", fontsize=10)
        if found.timed:
            _seconds(column[0], cells, found.names)
        _ratios(column[-1], cells, found.names)
        column[-1].set_xlabel("images made")
    panels[0, 0].set_xticks(sorted({cell.images for cell in found.cells}))
    for axes in panels[:, 0]:
        axes.set_ylim(bottom=0)  # when all panels are drawn, for it ends the search for the top of a row
    if found.timed:
        panels[0, 0].set_ylabel("seconds an image")
    panels[-1, 0].set_ylabel("times the base" if found.timed else "times the base, counted")
    _legend(figure, panels[0, 0], found)
    return figure


def check_matplotlib() -> None:
    """Raises UserError where it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("the plot needs matplotlib: pip install 'm2m-diffusion[eval]'") from error


def _seconds(axes: Axes, cells: list[Cell], names: list[str]) -> None:
    for name in names:
        _line(axes, cells, name, lambda cell, name=name: cell.seconds(name) or 0.0, "-")  # type: ignore[misc]
    _frame(axes)


def _ratios(axes: Axes, cells: list[Cell], names: list[str]) -> None:
    """Measured as lines with marks, counted as dotted ones; the base is 1."""
    axes.axhline(1, color=COLOURS[BASE], linewidth=1.2)
    for name in names:
        if name == BASE:
            continue
        _line(axes, cells, name, lambda cell, name=name: cell.counted_ratio(name), ":")  # type: ignore[misc]
        if cells[0].ratio(name) is not None:
            _line(axes, cells, name, lambda cell, name=name: cell.ratio(name).median, "-")  # type: ignore[misc]
    _frame(axes)


def _line(axes: Axes, cells: list[Cell], name: str, value: Callable[[Cell], float], style: str) -> None:
    counts, values = [cell.images for cell in cells], [value(cell) for cell in cells]
    mark = MARKS[name] if style == "-" or len(cells) == 1 else ""
    axes.plot(counts, values, style, color=COLOURS[name], marker=mark, markersize=5, linewidth=1.6)


def _frame(axes: Axes) -> None:
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: Axes, found: Efficiency) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=COLOURS[name], marker=MARKS[name], markersize=5, label=LABELS[name])
        for name in found.names
    ]
    if found.timed:
        lines.append(Line2D([], [], color="#222222", linestyle=":", label="counted in operations"))
    figure.legend(handles=lines, loc="outside upper center", ncols=3, frameon=False, fontsize=9)

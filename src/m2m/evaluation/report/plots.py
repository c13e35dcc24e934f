"""Measures by position: a panel a measure, a line a row. Models are solid and coloured, ceilings and floors dashed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m2m.checkpoint import atomic_write
from m2m.evaluation.report.glossary import DIRECTIONS, shown_name
from m2m.evaluation.report.layout import any_of, in_order
from m2m.evaluation.result import Measure, Result, Role, Row
from m2m.types import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, then of Tol, which the colour-blind tell apart; floors are told apart by their dashes too.
# Five colours and four dashes make twenty floors: every model brings two.
COLOURS: dict[Role, tuple[str, ...]] = {
    "model": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B59A00", "#332288", "#882255", "#999933"),
    "ceiling": ("#111111", "#555555"),
    "floor": ("#8A8A8A", "#A07E4A", "#7E8FB0", "#8D6E8D", "#6E9488"),
}
DASHES: dict[Role, tuple[tuple[float, ...], ...]] = {
    "model": ((),),
    "ceiling": ((6, 2), (6, 2, 1.5, 2)),
    "floor": ((1.2, 1.8), (3.5, 2), (5, 1.5, 1.2, 1.5), (3, 1.5, 1, 1.5, 1, 1.5)),
}
WIDTHS: dict[Role, float] = {"model": 2.2, "ceiling": 1.6, "floor": 1.6}
COLUMNS = 3
PANEL = (3.9, 2.7)  # inches
LEGEND_LINE = 0.22
DPI = 140
GRID, PALE = "#e4e4e4", "#777777"
# Beyond this many positions the marks of a line run into each other.
MOST_MARKS = 30
# A floor that would make the axis this many times longer than models and ceilings need is named at its edge instead.
STRETCH = 5.0


@dataclass(frozen=True)
class Stroke:
    """How a row is drawn. dash: lengths on and off, in line widths; empty: solid."""

    colour: str
    dash: tuple[float, ...]
    width: float


def strokes(rows: Sequence[Row]) -> dict[str, Stroke]:
    """A stroke for every row, models first; the same wherever the same rows are shown."""
    drawn: dict[str, Stroke] = {}
    counts: dict[Role, int] = {"model": 0, "ceiling": 0, "floor": 0}
    for row in in_order(rows):
        number = counts[row.role]
        colours, dashes = COLOURS[row.role], DASHES[row.role]
        drawn[row.name] = Stroke(colours[number % len(colours)], dashes[number % len(dashes)], WIDTHS[row.role])
        counts[row.role] += 1
    return drawn


def curves(result: Result, labels: Sequence[str], path: str | Path) -> None:
    """Write a PNG with a panel for each label, and one legend. Raises UserError without matplotlib."""
    columns = min(COLUMNS, len(labels))
    lines = -(-len(labels) // columns)
    across = max(columns, 2)  # one panel alone has the legend of two above it
    figure = _figure(across * PANEL[0], lines * PANEL[1] + LEGEND_LINE * -(-len(result.rows) // across))
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, label in zip(panels, labels, strict=False):
        _panel(axes, result, label)
    for axes in panels[len(labels) :]:
        axes.set_axis_off()
    _legend(figure, result, across)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def panel(result: Result, label: str) -> bytes:
    """The panel of one measure as a PNG, without a legend. Raises UserError without matplotlib."""
    figure = _figure(*PANEL)
    _panel(figure.subplots(), result, label)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("plots need matplotlib: pip install 'm2m-diffusion[eval]'") from error
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _panel(axes: Axes, result: Result, label: str) -> None:
    drawn = strokes(result.rows)
    near, far = in_view(result.rows, label)
    for row in reversed(in_order(near)):  # models last: on top
        measure = row.measure(label)
        if measure is not None:
            _line(axes, result.positions, measure, drawn[row.name], row.role)
    _name(axes, any_of(result, label))
    _frame(axes, result)
    _name_far(axes, label, far, drawn)


def in_view(rows: Sequence[Row], label: str) -> tuple[list[Row], list[Row]]:
    """Rows that share an axis, and floors so far off that with them all else would be one flat line."""
    kept = [row for row in rows if row.role != "floor" and _known(row, label)]
    if not kept:
        return [row for row in rows if _known(row, label)], []
    low, high = _span([value for row in kept for value in _known(row, label)])
    # Lines that are all but one need no axis of their own size: 8% of their height is enough to see each by itself.
    allowed = STRETCH * max(high - low, 0.08 * max(abs(low), abs(high)))
    near: list[Row] = list(kept)
    far: list[Row] = []
    for row in (own for own in rows if own.role == "floor" and _known(own, label)):
        lowest, highest = _span(_known(row, label))
        (near if max(high, highest) - min(low, lowest) <= allowed else far).append(row)
    return near, far


def _line(axes: Axes, positions: Sequence[int], measure: Measure, stroke: Stroke, role: Role) -> None:
    """The values, and for a model the band of their intervals: bands of all rows would hide each other."""
    style = (0, stroke.dash) if stroke.dash else "solid"
    marker = "o" if role == "model" and len(positions) <= MOST_MARKS else ""
    axes.plot(
        positions,
        _gaps(measure.values),
        color=stroke.colour,
        linestyle=style,
        linewidth=stroke.width,
        marker=marker,
        markersize=3.5,
    )
    if role == "model" and measure.low and measure.high:
        axes.fill_between(
            positions, _gaps(measure.low), _gaps(measure.high), color=stroke.colour, alpha=0.16, linewidth=0
        )


def _name(axes: Axes, measure: Measure) -> None:
    """Measure, extractor and direction above the panel. Names come from users: "$" starts no formula in them."""
    name = shown_name(measure.name, measure.extractor)
    axes.set_title(name, loc="left", fontsize=10.5, fontweight="bold", pad=17, parse_math=False)
    direction = DIRECTIONS[measure.better] if measure.better else ""
    subtitle = " · ".join(part for part in (_shortened(measure.extractor), direction) if part)
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        fontsize=8.5,
        color=PALE,
        parse_math=False,
    )


def _name_far(axes: Axes, label: str, far: Sequence[Row], drawn: Mapping[str, Stroke]) -> None:
    """Names and means of the floors that are not in view, at the edge behind which they are, in room made for them."""
    bottom, top = axes.get_ylim()
    middle, height = (bottom + top) / 2, 0.1 * (top - bottom)
    means = {row.name: own.mean for row in far if (own := row.measure(label)) is not None and own.mean is not None}
    above = [name for name, mean in means.items() if mean > middle]
    below = [name for name, mean in means.items() if mean <= middle]
    axes.set_ylim(bottom - height * len(below), top + height * len(above))
    for names, edge, step, arrow in ((above, 1, -1, "↑"), (below, 0, 1, "↓")):
        for place, name in enumerate(names):
            axes.annotate(
                f"{name}: {means[name]:.4g} {arrow}",
                (1, edge),
                xycoords="axes fraction",
                xytext=(0, step * (3 + 11 * place)),
                textcoords="offset points",
                ha="right",
                va="top" if edge else "bottom",
                fontsize=8,
                color=drawn[name].colour,
                parse_math=False,
            )


def _frame(axes: Axes, result: Result) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(result.axis, fontsize=8.5, color=PALE, parse_math=False)
    margin = 0.04 * max(1, result.positions[-1] - result.positions[0])
    axes.set_xlim(result.positions[0] - margin, result.positions[-1] + margin)  # the same, where the first has no value
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.tick_params(labelsize=8.5, length=2.5, which="both")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, result: Result, columns: int) -> None:
    from matplotlib.lines import Line2D

    drawn = strokes(result.rows)
    handles = [
        Line2D(
            [],
            [],
            color=drawn[row.name].colour,
            linestyle=(0, drawn[row.name].dash) if drawn[row.name].dash else "solid",
            linewidth=drawn[row.name].width,
            label=row.name if row.role == "model" else f"{row.name} ({row.role})",
        )
        for row in in_order(result.rows)
    ]
    legend = figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=9.5)
    legend.set_in_layout(True)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _gaps(values: Sequence[float | None]) -> list[float]:
    """NaN, which is not drawn, where there is nothing."""
    return [float("nan") if value is None else value for value in values]


def _known(row: Row, label: str) -> list[float]:
    """What a row has of a measure, bounds of intervals of a model too, for they are drawn."""
    measure = row.measure(label)
    if measure is None:
        return []
    drawn = [measure.values, *((measure.low, measure.high) if row.role == "model" else ())]
    return [value for own in drawn for value in own if value is not None]


def _span(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _shortened(extractor: str, limit: int = 30) -> str:
    """The end of a long name, which is the telling one of a folder."""
    return extractor if len(extractor) <= limit else f"...{extractor[-limit:]}"

"""The statistics of one or several folders of shards as one picture: four histograms, a colour for each folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2m.types import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from m2m.data.reports.statistics import Statistics

MAX_TOKENS = 77  # what Stable Diffusion's text encoder reads (section 4 of the paper)
BINS = 40
# Beyond this many different numbers a bar each is too thin to see.
MOST_BARS = 80
SIZE = (11.0, 7.0)  # inches
DPI = 130
GRID = "#dddddd"
STEPS = (1, 2, 5, 10)  # between two ticks, times a power of ten
COLOURS = ("#3366aa", "#dd7722", "#339966", "#aa3377", "#777777", "#bbaa33", "#66bbdd", "#552277")


def plot(statistics: Mapping[str, Statistics]) -> Figure:
    """Histograms of images per set, caption lengths, bytes of a picture and of a shard; `statistics`: label -> counts.

    With several folders each histogram shows shares, so that folders of different size can be compared.
    Raises UserError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("plots need matplotlib: pip install 'm2m-diffusion[data]'") from error
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    panels = figure.subplots(2, 2)
    _whole_numbers(panels[0, 0], {k: s.images_per_set for k, s in statistics.items()}, "images of a set", "sets")
    _whole_numbers(panels[0, 1], {k: s.tokens for k, s in statistics.items()}, "CLIP tokens of a caption", "sets")
    _sizes(panels[1, 0], {k: s.picture_bytes for k, s in statistics.items()}, "a picture", "pictures")
    _sizes(panels[1, 1], {k: s.shard_bytes for k, s in statistics.items()}, "a shard", "shards")
    if any(s.tokens for s in statistics.values()):
        _mark_limit(panels[0, 1])
    _explain(figure, panels[0, 0], statistics)
    return figure


def _whole_numbers(axes: Axes, counts: Mapping[str, Counter[int]], what: str, of: str) -> None:
    """A bar for every number, or bins where there are too many."""
    from matplotlib.ticker import MaxNLocator

    values = [value for counter in counts.values() for value in counter]
    _label(axes, what, of, shares=len(counts) > 1)
    if not values:
        return _nothing(axes)
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // MOST_BARS))
    edges = np.arange(low, high + 2 * step, step) - 0.5
    _draw(axes, counts, edges)
    # A lone bar (25 images in every set) would else be as wide as the panel.
    axes.set_xlim(max(-0.5, min(edges[0], low - 4)), max(edges[-1], high + 4))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=STEPS))
    return None


def _sizes(axes: Axes, counts: Mapping[str, Counter[int]], what: str, of: str) -> None:
    """Bins of bytes, in the unit that fits the largest one."""
    values = [value for counter in counts.values() for value in counter]
    unit, scale = _unit(max(values, default=0))
    _label(axes, f"{unit} of {what}", of, shares=len(counts) > 1)
    if not values:
        return _nothing(axes)
    low, high = min(values) / scale, max(values) / scale
    margin = max((high - low) / 20, high / 200)  # all of one size: bins about that size
    edges = np.linspace(max(0.0, low - margin), high + margin, BINS + 1)
    _draw(axes, counts, edges, scale)
    return None


def _draw(axes: Axes, counts: Mapping[str, Counter[int]], edges: NDArray[Any], scale: float = 1) -> None:
    """A filled outline for each folder: shares in percent if there are several, else counts."""
    several = len(counts) > 1
    for number, counter in enumerate(counts.values()):
        if not counter:
            continue
        values = np.array(list(counter)) / scale
        weights = np.array(list(counter.values()), float)
        heights, _ = np.histogram(values, edges, weights=weights)
        if several:
            heights = 100 * heights / weights.sum()
        colour = COLOURS[number % len(COLOURS)]
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.3 if several else 0.7)
        axes.stairs(heights, edges, color=colour, linewidth=1.5 if several else 0.5)


def _mark_limit(axes: Axes) -> None:
    """The line at 77 tokens, if it is in sight or nearly so."""
    left, right = axes.get_xlim()
    if right > MAX_TOKENS / 2:
        axes.axvline(MAX_TOKENS + 0.5, color="#aa0000", linewidth=1, linestyle="--")
        axes.set_xlim(left, max(right, MAX_TOKENS + 4))
        axes.annotate("77 ", (MAX_TOKENS, 1), ha="right", va="top", xycoords=("data", "axes fraction"), color="#aa0000")


def _label(axes: Axes, what: str, of: str, shares: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(what)
    axes.set_ylabel(f"% of {of}" if shares else of)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(integer=not shares, steps=STEPS))
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if shares else f"{value:,.0f}")


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="#888888")
    axes.set_xticks([])
    axes.set_yticks([])


def _unit(largest: int) -> tuple[str, float]:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if largest >= scale:
            return unit, scale
    return "bytes", 1.0


def _explain(figure: Figure, axes: Axes, statistics: Mapping[str, Statistics]) -> None:
    """What is shown: the title of one folder, the legend of several."""
    lines = [f"{label}: {s.sets:,} sets, {s.images:,} images" for label, s in statistics.items()]
    if len(lines) == 1:
        figure.suptitle(lines[0])
        return
    from matplotlib.patches import Patch

    patches = [Patch(color=COLOURS[i % len(COLOURS)], alpha=0.6, label=line) for i, line in enumerate(lines)]
    figure.legend(handles=patches, loc="outside upper left", frameon=False)

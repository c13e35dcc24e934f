"""Long sequences: does a model fade when it goes on from its own images, 25, 50, 100 in a row (paper, section 9)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from m2m.evaluation.protocols.protocol import Protocol
from m2m.evaluation.result import Measure, Row, Table
from m2m.evaluation.scoring import Scored
from m2m.evaluation.workshop import Workshop


class LongSequence(Protocol):
    """Every measure by position, its slope, and what it lost from the first image to the last."""

    name = "long"
    title = "Long sequences: what is left at the end"
    reading = (
        "A model that feeds on its own images may fade: the paper names it as a limitation. Level curves do not. "
        "'Lost' is the first image's figure minus the last one's; the slope is of a line through all positions."
    )
    images = 25

    def tables(
        self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]], rows: Mapping[str, Row]
    ) -> Iterator[Table]:
        """First, last, lost and slope of every measure, a table a candidate."""
        for candidate in workshop.candidates:
            measures = rows[candidate.label].measures
            cells = tuple(_drift(own) for own in measures if own.slope is not None)
            heads = ("measure", "first image", f"image {workshop.images}", "lost", "slope, an image")
            yield Table(f"Drift of {candidate.label}", heads, cells, "lost: first minus last")


def _drift(measure: Measure) -> tuple[str, ...]:
    figures = (measure.values[0], measure.values[-1], measure.first_minus_last)
    shown = ["-" if value is None else f"{value:.1f}" for value in figures]
    return (measure.label, *shown, f"{measure.slope:+.2f}")

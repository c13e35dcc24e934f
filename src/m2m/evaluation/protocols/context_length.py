"""Figure 6 of the paper: the same sets continued from one, two, three and four given images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from m2m.evaluation.protocols.protocol import Protocol
from m2m.evaluation.result import Measure, Row, Table
from m2m.evaluation.score import Score
from m2m.evaluation.scoring import Scored
from m2m.evaluation.sources import Source
from m2m.evaluation.workshop import Workshop


class ContextLength(Protocol):
    """Section 8.2: images of sets that show one object each, by how many of their images are given."""

    name = "context-length"
    title = "Figure 6: what each further given image adds"
    reading = (
        "Every set shows one object in each image. With one image given, the number of objects may be chance; with "
        "each further one it should be taken for the pattern: count accuracy rises, and what is the same in all given "
        "images is kept while the rest still varies."
    )
    axis = "given images"
    images = 4
    only = "one-object"

    def sources(self, workshop: Workshop) -> dict[str, list[Source]]:
        """Continuations of 1 .. G given images by every model; folders and bounds, which know no G, once."""
        rows: dict[str, list[Source]] = {}
        for candidate in workshop.candidates:
            lengths = range(1, workshop.sets.given + 1) if candidate.model else [None]
            rows[candidate.label] = [workshop.continued(candidate, given) for given in lengths]
        return rows | self.bounds(workshop)

    def positions(self, workshop: Workshop) -> tuple[int, ...]:
        """1 .. G given images."""
        return tuple(range(1, workshop.sets.given + 1))

    def row(self, name: str, places: Sequence[Scored], workshop: Workshop) -> Row:
        """Each measure pooled over the generated images, by the number of given ones."""
        lengths, seed = workshop.sets.given, workshop.config.seed
        places = list(places) if len(places) == lengths else [places[0]] * lengths
        columns = zip(*(own.scores for own in places), strict=True)  # a measure at every length
        return Row(name, places[0].role, tuple(_by_length(own, seed) for own in columns), places[0].note)

    def tables(
        self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]], rows: Mapping[str, Row]
    ) -> Iterator[Table]:
        """Count accuracy and diversity against the number of given images, a row a model."""
        for label in ("count (truth probe)", "freedom (truth probe)"):
            found = [(name, row.measure(label)) for name, row in rows.items()]
            cells = tuple((name, *_cells(own)) for name, own in found if own is not None)
            if cells:
                heads = ("", *(f"{n} given" for n in self.positions(workshop)))
                yield Table(f"{label} by the number of given images", heads, cells, "with 95% bootstrap intervals")


def _by_length(scores: Sequence[Score], seed: int) -> Measure:
    pooled = [own.pooled(seed) for own in scores]
    values, low, high = zip(*pooled, strict=True)
    first = scores[0]
    bounds = (low, high) if first.per_set is not None else ((), ())
    return Measure(first.name, first.extractor, first.better, values, *bounds)


def _cells(measure: Measure) -> Iterator[str]:
    for place, value in enumerate(measure.values):
        low, high = (bound[place] if bound else None for bound in (measure.low, measure.high))
        between = f" ({low:.0f} to {high:.0f})" if low is not None and high is not None else ""
        yield "-" if value is None else f"{value:.1f}{between}"

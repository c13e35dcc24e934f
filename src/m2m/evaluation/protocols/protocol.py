"""What every protocol is: sets to ask for, sources to make and to compare, and what of it goes into the result.

A protocol that differs in one of these overrides that one.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.checkpoint import atomic_write
from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.report.grids import given_generated_real
from m2m.evaluation.result import Picture, Result, Row, Table
from m2m.evaluation.scoring import Scored, Scorer, SourceScorer
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.sources import CopySource, RealSource, ShuffledSource, Source
from m2m.evaluation.tasks.task_sets import TaskSets
from m2m.evaluation.truth.truth import Truth
from m2m.evaluation.workshop import Workshop

GRID_SETS = 8  # rows of a contact sheet
FILTERED = 20  # captions for each one that a filter is sure to find

Sources = Mapping[
    str, Sequence[Source]
]  # row -> its sources, one for each place on a protocol's own axis, or one alone


@dataclass(frozen=True)
class Origin:
    """How a result came about: the command that makes it again, its settings, versions of everything in it."""

    command: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]


class Protocol(ABC):
    """One of the paper's questions.

    given, images: of every set. only: a filter of `EvaluationSets`, or None. split: of the tiny world's captions, where
    the user names no data. extractors: where the user names none.
    """

    name: str
    title: str
    reading: str
    axis: str = "generated image"
    split: str = "test"
    given: int = 4
    images: int = 10
    only: str | None = None
    extractors: tuple[str, ...] = ("efficientnet-lite0", "colour", "gram")

    def images_after(self, given: int) -> int:
        """How many images are made behind so many given ones, where the user does not say."""
        return self.images

    def further(self, given: int, images: int) -> int:
        """How many real images are read of a set beyond the given ones, if it has them."""
        return images

    def task_sets(self, given: int, images: int) -> TaskSets | None:
        """What the protocol's task asks of the sets; None where it is of no task."""
        return None

    def scorer(
        self, workshop: Workshop, caches: Sequence[FeatureCache], truth: Truth | None, device: str
    ) -> SourceScorer:
        """What scores the sources."""
        return Scorer(workshop.sets, caches, truth, workshop.config.seed)

    def default_data(self, sets: int) -> str:
        """So many sets of the tiny world; where a filter will leave some out, enough for as many to be left."""
        return f"world:mini:{self.split}:{sets * (FILTERED if self.only else 1)}"

    def sources(self, workshop: Workshop) -> dict[str, list[Source]]:
        """Make, or find, all that is compared: models, and for each what bounds it from below; floors and ceilings."""
        rows: dict[str, list[Source]] = {}
        for candidate in workshop.candidates:
            made = workshop.continued(candidate)
            rows[candidate.label] = [made]
            if len(workshop.sets) > 1:
                shuffled = ShuffledSource(made, workshop.sets)
                rows[shuffled.name] = [shuffled]
        return rows | self.bounds(workshop)

    def bounds(self, workshop: Workshop) -> dict[str, list[Source]]:
        """Unconditional samples of every model, copies of the last given image, further images of the same sets."""
        bounds: list[Source] = [workshop.unconditional(model) for model in workshop.models()]
        bounds.append(CopySource(workshop.sets, workshop.images))
        if workshop.sets.fewest_real > 0:
            bounds.append(RealSource(workshop.sets))
        return {own.name: [own] for own in bounds}

    def result(
        self, workshop: Workshop, sources: Sources, scorer: SourceScorer, folder: Path, origin: Origin
    ) -> Result:
        """Score everything; write the pictures to `folder`."""
        scored = {row: [scorer.score(own) for own in places] for row, places in sources.items()}
        rows = {row: self.row(row, places, workshop) for row, places in scored.items()}
        pictures = [self._written(folder, *own) for own in self.sheets(workshop, sources, scored)]
        return Result(
            title=self.title,
            protocol=self.name,
            reading=self.reading,
            axis=self.axis,
            positions=self.positions(workshop),
            rows=tuple(rows.values()),
            command=origin.command,
            settings=origin.settings,
            versions=origin.versions,
            tables=tuple(self.tables(workshop, scored, rows)),
            pictures=tuple(pictures),
            notes=tuple(self.notes(workshop)),
        )

    def positions(self, workshop: Workshop) -> tuple[int, ...]:
        """What stands below the curves."""
        return tuple(range(1, workshop.images + 1))

    def row(self, name: str, places: Sequence[Scored], workshop: Workshop) -> Row:
        """A row of the result from what was scored for it."""
        return places[0].row(workshop.images, workshop.config.seed)

    def tables(
        self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]], rows: Mapping[str, Row]
    ) -> Iterator[Table]:
        """Tables beyond the one of `rows` and their measures."""
        yield from ()

    def sheets(
        self, workshop: Workshop, sources: Sources, scored: Mapping[str, Sequence[Scored]]
    ) -> Iterator[tuple[str, str, Image.Image]]:
        """Contact sheets, (title, note, picture): of each model the first, the best and the worst sets."""
        for row, places in scored.items():
            if places[-1].role == "model":
                yield from self._of_model(workshop.sets, sources[row][-1], places[-1])

    def notes(self, workshop: Workshop) -> Iterator[str]:
        """What a reader must know of the sets."""
        sets = workshop.sets
        if sets.left_out:
            yield f"{sets.left_out} sets of the data have fewer than {sets.given} images and were left out."
        if sets.fewest_real < workshop.images:
            yield f"A set has no more than {sets.fewest_real} further images: what is compared with them ends there."

    def _of_model(self, sets: EvaluationSets, source: Source, scored: Scored) -> Iterator[tuple[str, str, Image.Image]]:
        order = scored.success.nan_to_num(nan=50.0).argsort(stable=True, descending=True).tolist()
        count = min(GRID_SETS, len(sets))
        yield f"{source.name}: the first sets", "not chosen", sheet(sets, source, range(count))
        if len(sets) > count:
            yield f"{source.name}: the best sets", f"by {scored.by}", sheet(sets, source, order[:count])
            yield f"{source.name}: the worst sets", f"by {scored.by}", sheet(sets, source, order[::-1][:count])

    def _written(self, folder: Path, title: str, note: str, picture: Image.Image) -> Picture:
        file = "".join(letter if letter.isalnum() else "-" for letter in title) + ".png"
        with atomic_write(folder / file) as path:
            picture.save(path, format="PNG")
        return Picture(title, file, note)


def sheet(sets: EvaluationSets, source: Source, chosen: Sequence[int]) -> Image.Image:
    """Given | generated | real of some sets, a row each."""
    return given_generated_real([sets[i] for i in chosen], [source.pictures(i) for i in chosen])

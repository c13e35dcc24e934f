"""Figure 8 of the paper: the next steps of a procedure, from the steps so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from m2m.evaluation.candidates import Candidate
from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.protocols.protocol import Sources
from m2m.evaluation.protocols.task_protocol import TaskProtocol, shown
from m2m.evaluation.result import Measure, Result, Role, Row, Table
from m2m.evaluation.score import Score
from m2m.evaluation.scoring import Scored, SourceScorer
from m2m.evaluation.sources import CopySource, Source
from m2m.evaluation.tasks.sources import After, AutoencodedSource
from m2m.evaluation.tasks.steps import FINISHED, KEPT, OVERLAP, RIGHT, StepScorer
from m2m.evaluation.truth.truth import Truth
from m2m.evaluation.workshop import Workshop
from m2m.model.context_window import ANCHOR, SLIDING

MOST_STEPS = 20  # of a procedure that are read: its last one must be known
MEASURED = (KEPT, RIGHT, OVERLAP)


class VisualProcedure(TaskProtocol):
    """Section 8.5.2. Data: shards of ordered sets, `m2m data steps` or `vgsi`.

    A row is of next steps: step k + 1 from the k true steps before it. From there a model goes on by itself.
    """

    name = "visual-procedure"
    title = "Visual procedures: the next step"
    reading = (
        "Each step is made from the true steps before it, four at most. Old parts kept: what was drawn and should "
        "stay is still there, in its place. Right next part: what the picture changes overlaps what the true next step "
        "changes by half or more. A copy keeps everything and adds nothing; the truth through the autoencoder shows "
        "how much of a miss is the autoencoder's. A model that understands a sequence is better the more of it it sees."
    )
    axis = "step"
    given = 4
    images = 4
    task = "visual_procedure"
    made_with = "`m2m data steps`, `m2m data vgsi`, or `m2m data drawings` for the miniature,"
    compared = MEASURED
    extractors = ("efficientnet-lite0",)

    def further(self, given: int, images: int) -> int:
        """To the end of the procedure."""
        return max(images, MOST_STEPS - given)

    def least_further(self, given: int, images: int) -> int:
        """One step to compare with; a procedure may end before the last generated one."""
        return 1

    def scorer(
        self, workshop: Workshop, caches: Sequence[FeatureCache], truth: Truth | None, device: str
    ) -> SourceScorer:
        """Against the true steps; a change is what the autoencoder does not make of the last given one either."""
        sets = workshop.sets
        shown = [AutoencodedSource(sets, model, sets.given, 0) for model in workshop.models()[:1]]
        return StepScorer(sets, caches, *shown)

    def answers(
        self, workshop: Workshop, candidate: Candidate, change: str = "", role: Role = "model", **settings: Any
    ) -> list[Source]:
        """What follows the first k steps, for k from 1 to all given ones: of a candidate itself as many steps as are
        asked for, of its variants the next one; behind all given steps always as many as are asked for."""
        given = workshop.sets.given
        if candidate.model is None:
            return [After(workshop.continued(candidate), given)]
        return [
            After(workshop.changed(candidate, change, role, **settings, given=k, images=images), k)
            for k, images in enumerate(self._images(workshop, alone=not change), start=1)
        ]

    def variants(self, workshop: Workshop, candidate: Candidate, own: Sequence[Source]) -> dict[str, list[Source]]:
        """The next step from the last w steps before it; where there are no more than w, it is the candidate's own."""
        given = workshop.sets.given
        rows: dict[str, list[Source]] = {}
        for window in range(1, given):
            change, seen = _sees(window), dict[str, Any](window=window, images=1)
            if candidate.window.policy == ANCHOR:  # which would show all given steps
                seen["window_policy"] = SLIDING
            rest = range(window + 1, given + 1)
            made = [After(workshop.changed(candidate, change, given=k, **seen), k) for k in rest]
            rows[made[0].name] = [*own[:window], *made]
        return rows

    def bounds(self, workshop: Workshop) -> dict[str, list[Source]]:
        """Copies of the step before; the true steps through the autoencoder."""
        sets, counts = workshop.sets, list(enumerate(self._images(workshop, alone=False), start=1))
        rows: list[list[Source]] = [[After(CopySource(sets, images, k), k) for k, images in counts]]
        for model in workshop.models()[:1]:
            rows.append([After(AutoencodedSource(sets, model, images, k), k) for k, images in counts])
        return {own[0].name: own for own in rows}

    def positions(self, workshop: Workshop) -> tuple[int, ...]:
        """The steps, counted from 1, that follow 1 .. G given ones."""
        return tuple(range(2, workshop.sets.given + 2))

    def row(self, name: str, places: Sequence[Scored], workshop: Workshop) -> Row:
        """Next steps by their number."""
        whole = self.whole(places, workshop)
        return replace(whole.row(workshop.sets.given, workshop.config.seed), name=name)

    def whole(self, places: Sequence[Scored], workshop: Workshop) -> Scored:
        """Of what was scored behind 1 .. G given steps the first picture each, as one row."""
        missing = workshop.sets.given - len(places)  # pictures of a folder continue all given steps alone
        columns = zip(*(own.scores for own in places), strict=True)
        scores = tuple(_next_steps(own, missing) for own in columns if own[0].name != FINISHED)
        return replace(places[0], scores=scores)

    def tables(
        self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]], rows: Mapping[str, Row]
    ) -> Iterator[Table]:
        """What each seen step adds; going on alone; the finished picture; differences."""
        yield from self._by_context(workshop, rows)
        yield from self._alone(workshop, scored)
        yield from self._finished(workshop, scored)
        yield from super().tables(workshop, scored, rows)

    def sheets(
        self, workshop: Workshop, sources: Sources, scored: Mapping[str, Sequence[Scored]]
    ) -> Iterator[tuple[str, str, Image.Image]]:
        """The curve over the context, then contact sheets of what follows all given steps."""
        rows = {row: self.row(row, own, workshop) for row, own in scored.items()}
        curve = self._context_result(workshop, rows)
        if curve is not None:
            yield "What each step seen adds", f"step {workshop.sets.given + 1}, by how many are seen", _drawn(curve)
        yield from super().sheets(workshop, sources, scored)

    def _images(self, workshop: Workshop, alone: bool) -> list[int]:
        """How many pictures are made behind 1 .. G given steps."""
        given, images = workshop.sets.given, workshop.images
        return [images if alone or k == given else 1 for k in range(1, given + 1)]

    def _by_context(self, workshop: Workshop, rows: Mapping[str, Row]) -> Iterator[Table]:
        """The last position of the candidate and of its variants that see less."""
        curve = self._context_result(workshop, rows)
        if curve is None:
            return
        lines = [
            (row.name, own.name, *(shown(*point) for point in zip(own.values, own.low, own.high, strict=True)))
            for row in curve.rows
            for own in row.measures
        ]
        heads = ("", "measure", *(f"last {n} seen" for n in curve.positions))
        yield Table(f"Step {workshop.sets.given + 1} by how many steps are seen", heads, tuple(lines), "95% intervals")

    def _context_result(self, workshop: Workshop, rows: Mapping[str, Row]) -> Result | None:
        """Measures of the step behind all given ones, by the number of steps seen; None for a single given step."""
        given = workshop.sets.given
        found = [
            Row(label, "model", tuple(_by_window([rows[own] for own in own_rows], name) for name in MEASURED))
            for label in (own.label for own in workshop.candidates)
            if len(own_rows := _by_seen(label, rows, given)) == given
        ]
        if given < 2 or not found:
            return None
        seen = tuple(range(1, given + 1))
        return Result(self.title, self.name, "", "steps seen", seen, tuple(found), "", {}, {})

    def _alone(self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]]) -> Iterator[Table]:
        """Going on from the first k steps: against the last given picture, all parts since then together."""
        if workshop.images < 2:
            return
        heads = ("", "measure", *(f"step +{n}" for n in range(1, workshop.images + 1)))
        for candidate in workshop.candidates:
            places = scored.get(candidate.label, ())
            lines = [
                (f"{workshop.sets.given - len(places) + k} given", own.name, *_along(own, workshop.config.seed))
                for k, place in enumerate(places, start=1)
                for own in place.scores
                if own.name in MEASURED
            ]
            note = "each step from those before it, generated ones too; compared with the last given picture"
            if lines:
                yield Table(f"{candidate.label}: going on alone", heads, tuple(lines), note)

    def _finished(self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]]) -> Iterator[Table]:
        """Whether what follows all given steps ends in the right picture."""
        cells = []
        for row, places in scored.items():
            own = next((own for own in places[-1].scores if own.name == FINISHED), None)
            if own is not None and own.per_set is not None and not own.per_set.isnan().all():
                once = replace(own, per_set=own.per_set.nanmean(1, keepdim=True))  # one last step a set
                ended = int((~own.per_set.isnan()).any(1).sum())
                cells.append((row, shown(*once.pooled(workshop.config.seed)), str(ended)))
        sets = len(workshop.sets)
        note = f"the nearest of the {sets} finished pictures is the set's own; chance is {100 / sets:.1f}%"
        if cells:
            yield Table(
                "The finished picture", ("", f"right, in % ({own_extractor(scored)})", "sets"), tuple(cells), note
            )


def own_extractor(scored: Mapping[str, Sequence[Scored]]) -> str:
    """What reads the finished pictures."""
    return next(own.extractor for places in scored.values() for own in places[-1].scores if own.name == FINISHED)


def _sees(window: int) -> str:
    return f"sees the last {window}"


def _by_seen(label: str, rows: Mapping[str, Row], given: int) -> list[str]:
    """Rows of a candidate that sees 1 .. G steps."""
    return [row for row in (*(f"{label}, {_sees(n)}" for n in range(1, given)), label) if row in rows]


def _by_window(rows: Sequence[Row], name: str) -> Measure:
    """The last position of each row, as one measure."""
    found = [next(own for own in row.measures if own.name == name) for row in rows]
    values, low, high = (tuple(part[-1] for part in parts) for parts in zip(*map(_parts, found), strict=True))
    return replace(found[0], values=values, low=low, high=high, mean_interval=())


def _parts(measure: Measure) -> tuple[tuple[float | None, ...], ...]:
    return measure.values, measure.low, measure.high


def _next_steps(scores: Sequence[Score], missing: int) -> Score:
    """The first column of each, behind as many that are missing: [S, G]."""
    columns = [own.per_set[:, 0] for own in scores if own.per_set is not None]
    blank = torch.full_like(columns[0], torch.nan)
    return replace(scores[0], per_set=torch.stack([*[blank] * missing, *columns], 1))


def _along(score: Score, seed: int) -> Iterator[str]:
    measure = score.by_position(0, seed)
    yield from (shown(*point) for point in zip(measure.values, measure.low, measure.high, strict=True))


def _drawn(result: Result) -> Image.Image:
    """The panels of all measures, with a legend."""
    from m2m.evaluation.report.plots import curves

    with TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        curves(result, result.labels, path)
        return Image.open(path).convert("RGB")

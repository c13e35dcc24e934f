"""Steps of a procedure against the true ones: is what was there kept, and is what is new in the right place?

Both ask what a picture changes against the last given one, and where.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.sources import Source
from m2m.evaluation.tasks.marks import changed, figure, smoothed
from m2m.evaluation.tasks.scoring import Found, Kinds, TaskScorer
from m2m.evaluation.tasks.sources import After, all_images

KEPT, OVERLAP, RIGHT, FINISHED = "old parts kept", "overlap with the true part", "right next part", "finished picture"
ENOUGH = 0.5  # overlap (intersection over union) of a part that is in the right place


class StepScorer(TaskScorer):
    """Measures of procedures. Sources are `After`: their pictures go on behind so many given ones.

    shown: the given images as a model is shown them, through its autoencoder; None: as they are. finished picture:
    asked of pictures that are to be the last of their procedure, by the first of `caches`.
    """

    kinds: Kinds = {
        KEPT: ("pixels", "higher"),
        RIGHT: ("pixels", "higher"),
        OVERLAP: ("pixels", "higher"),
    }
    success = OVERLAP

    def __init__(self, sets: EvaluationSets, caches: Sequence[FeatureCache], shown: Source | None = None) -> None:
        super().__init__(sets)
        self.caches, self._shown = caches, shown
        self._looks: tuple[int, Tensor] | None = None
        self._finished: Tensor | None = None
        if caches:
            self.kinds = {**self.kinds, FINISHED: (caches[0].extractor.name, "higher")}

    def measure(self, index: int, source: Source, pictures: Tensor) -> Found:
        """Kept, right part and overlap; with an extractor, the finished picture too."""
        assert isinstance(source, After)
        true, last = all_images(self.sets[index])[source.given :], self._given(index)[:, source.given - 1]
        count = min(len(pictures), len(true))
        made, true = pictures[:count], true[:count]
        overlaps = part_overlap(last, made, true)
        found = {
            KEPT: 100 * kept_share(last, made, true),
            RIGHT: torch.where(overlaps.isnan(), torch.nan, 100 * (overlaps >= ENOUGH).float()),
            OVERLAP: 100 * overlaps,
        }
        return {**found, **({FINISHED: self._found_finished(index, source, made)} if self.caches else {})}

    def _given(self, index: int) -> Tensor:
        """The looks of the given images of a set, themselves first: uint8 [R, G, H, W, 3]; the last set's are kept."""
        if self._looks is None or self._looks[0] != index:
            looks = [self.sets[index].given, *([self._shown.pictures(index)] if self._shown else [])]
            self._looks = (index, torch.stack(looks))
        return self._looks[1]

    def _found_finished(self, index: int, source: After, made: Tensor) -> Tensor:
        """100 where the last step's nearest finished picture is its own, else 0; NaN for the steps before it: [M]."""
        found = torch.full((len(made),), torch.nan)
        if source.given + len(made) == len(all_images(self.sets[index])) and len(made):
            features = self.caches[0].features(made[-1:]).embeddings
            nearest = F.cosine_similarity(features, self._all_finished()).argmax()
            found[-1] = 100.0 * float(nearest == index)
        return found

    def _all_finished(self) -> Tensor:
        """Features of the last picture of every set, [S, D]."""
        if self._finished is None:
            last = [self.caches[0].features(all_images(own)[-1:]).embeddings for own in self.sets]
            self._finished = torch.cat(last)
        return self._finished


def kept_share(last: Tensor, made: Tensor, true: Tensor) -> Tensor:
    """Share of what was drawn that is still there: last [R, H, W, 3], made and true [N, H, W, 3], uint8 -> [N], 0 to 1.

    last: the last given picture and, behind it, other looks of it (`marks.changed`). What was drawn: its pixels that
    differ from its background, and that the true picture does not paint over. NaN where no such pixel is left.
    """
    before = smoothed(last)
    old = figure(before[:1]) & ~changed(smoothed(true), before)  # [N, S, S]
    there = old & ~changed(smoothed(made), before)
    return there.sum((1, 2)) / old.sum((1, 2)).where(old.any(2).any(1), torch.nan)


def part_overlap(last: Tensor, made: Tensor, true: Tensor) -> Tensor:
    """Intersection over union of what `made` and what `true` change against the last given picture: [N], 0 to 1.

    Pictures as in `kept_share`. NaN where the true picture changes nothing.
    """
    before = smoothed(last)
    added, wanted = changed(smoothed(made), before), changed(smoothed(true), before)  # [N, S, S]
    common, either = (own.sum((1, 2)) for own in (added & wanted, added | wanted))
    return (common / either).where(wanted.any(2).any(1), torch.nan)

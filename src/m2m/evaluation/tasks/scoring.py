"""Scoring sources against the truth of a task: what every generated image should show is there, image by image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.evaluation.result import Better
from m2m.evaluation.score import Score
from m2m.evaluation.scoring import Scored
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.sources import Source
from m2m.evaluation.work import Work

Kinds = Mapping[str, tuple[str, Better]]
Found = Mapping[str, Tensor]


class TaskScorer(ABC):
    """Scores the sources of one task.

    kinds: what is measured: name -> (extractor, which way is good). success: the measure that says how well a set went.
    """

    kinds: Kinds
    success: str

    def __init__(self, sets: EvaluationSets) -> None:
        self.sets = sets
        self._found: dict[Source, list[Found]] = {}

    @abstractmethod
    def measure(self, index: int, source: Source, pictures: Tensor) -> Found:
        """What is found in the pictures uint8 [N, H, W, 3] of set `index`: by name float [M], M <= N as far as there is
        a truth."""

    def extract(self, sources: Sequence[Source], work: Work) -> None:
        """Measure everything, set by set, in the first process: it takes minutes where generation takes hours."""
        if work.share[0] == 0:
            progress = work.progress("measures")
            found: dict[Source, list[Found]] = {source: [] for source in sources}
            for index in range(len(self.sets)):
                work.check()
                for source, own in found.items():
                    own.append(self.measure(index, source, source.pictures(index)))
                if progress:
                    progress(index + 1, len(self.sets))
            self._found.update(found)
        work.barrier()

    def score(self, source: Source) -> Scored:
        """All measures of a source that `extract` has seen."""
        found, images = self._found[source], source.images
        scores = tuple(
            Score(name, extractor, better, torch.stack([_padded(own[name], images) for own in found]))
            for name, (extractor, better) in self.kinds.items()
        )
        best = next(own for own in scores if own.name == self.success)
        assert best.per_set is not None
        return Scored(source.name, source.role, source.note, scores, best.per_set.nanmean(1), self.success)


def _padded(values: Tensor, count: int) -> Tensor:
    """NaN where there is no truth."""
    return F.pad(values.float(), (0, count - len(values)), value=torch.nan)

"""Scoring sources of images against the sets that they continue: every measure of every extractor, and the truth.

Sets are read one at a time; of each source the features alone are kept, in memory and in the caches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.features.extractor import Features
from m2m.evaluation.measures import SetFeatures, measure_all
from m2m.evaluation.result import Measure, Role, Row
from m2m.evaluation.score import Score
from m2m.evaluation.sets import EvaluationSet, EvaluationSets
from m2m.evaluation.sources import RealSource, Source, near_copy
from m2m.evaluation.truth.quality import Readings
from m2m.evaluation.truth.truth import Truth
from m2m.evaluation.work import Work


@dataclass(frozen=True)
class Scored:
    """All measures of a source, and how good each set came out, float [S]: higher is better (`by` says what it is)."""

    name: str
    role: Role
    note: str
    scores: tuple[Score, ...]
    success: Tensor
    by: str

    def row(self, positions: int, seed: int = 0) -> Row:
        """The measures by position."""
        measures: tuple[Measure, ...] = tuple(own.by_position(positions, seed) for own in self.scores)
        return Row(self.name, self.role, measures, self.note)


@dataclass(frozen=True)
class Seen:
    """What was read off a source's images: features by extractor ([S, N, D]), the truth [S, N]; copies: float
    [S, N], 100 where an image is a near-copy, else 0; NaN where nothing says how close two images of the set are."""

    embeddings: dict[str, Tensor]
    logits: dict[str, Tensor]
    truth: Readings
    copies: Tensor


class SourceScorer(Protocol):
    """What a protocol needs to score its sources."""

    def extract(self, sources: Sequence[Source], work: Work) -> None:
        """Do the work, by this process's share, that scoring needs."""
        ...

    def score(self, source: Source) -> Scored:
        """All measures of a source."""
        ...


class Scorer:
    """Scores sources. caches: one for each extractor. truth: None where the sets have none. seed: of the bootstraps."""

    def __init__(
        self, sets: EvaluationSets, caches: Sequence[FeatureCache], truth: Truth | None = None, seed: int = 0
    ) -> None:
        self._sets, self._caches, self._truth, self._seed = sets, caches, truth, seed
        self._given: dict[str, Tensor] = {}
        self._text: dict[str, Tensor] = {}
        self._rendered: Readings = {}

    def extract(self, sources: Sequence[Source], work: Work) -> None:
        """Fill the caches with this process's share of the features, so that scoring finds them there."""
        rank, ranks = work.share
        mine = range(rank, len(self._sets), ranks)
        progress = work.progress("features")
        for done, i in enumerate(mine, start=1):
            work.check()
            for pictures in (self._sets[i].given, *(source.pictures(i) for source in sources)):
                for cache in self._caches:
                    cache.features(pictures)
            if progress:
                progress(done, len(mine))
        work.barrier()

    def score(self, source: Source) -> Scored:
        """All measures of a source."""
        self._read_given()
        seen = self._see(source)
        scores = [score for cache in self._caches for score in measure_all(self._features(cache, seen), self._seed)]
        if self._truth is not None:
            scores += self._truth.scores(seen.truth, self._rendered_truth())
        scores.append(Score("near-copies", "pixels", "lower", per_set=seen.copies))
        success, by = self._success(seen, scores)
        return Scored(source.name, source.role, source.note, tuple(scores), success, by)

    def _features(self, cache: FeatureCache, seen: Seen) -> SetFeatures:
        name = cache.extractor.name
        return SetFeatures(name, seen.embeddings[name], self._given[name], seen.logits.get(name), self._text.get(name))

    def _see(self, source: Source) -> Seen:
        """Read all of a source's images, set by set."""
        embeddings, logits, truth = (defaultdict[str, list[Tensor]](list) for _ in range(3))
        copies = []
        for i in range(len(self._sets)):
            pictures = source.pictures(i)  # [N, H, W, 3]
            for cache in self._caches:
                found = cache.features(pictures)
                embeddings[cache.extractor.name].append(found.embeddings)
                if found.logits is not None:
                    logits[cache.extractor.name].append(found.logits)
            for name, own in (self._truth.read(pictures) if self._truth else {}).items():
                truth[name].append(own)
            copies.append(_copies(pictures, self._sets[i]))
        return Seen(_stacked(embeddings), _stacked(logits), _stacked(truth), 100 * torch.stack(copies))

    def _read_given(self) -> None:
        """Features of the given images, and of the captions where an extractor reads text: once."""
        if self._given:
            return
        for cache in self._caches:
            name = cache.extractor.name
            given: list[Features] = [cache.features(own.given) for own in self._sets]
            self._given[name] = torch.stack([own.embeddings for own in given])  # [S, G, D]
            if hasattr(cache.extractor, "text") and all(self._sets.captions):
                self._text[name] = cache.extractor.text(self._sets.captions)  # [S, D]

    def _rendered_truth(self) -> Readings | None:
        """What the real images of the sets show: the reference of freedom; None where there are fewer than two."""
        if self._sets.fewest_real < 2 or self._truth is None:
            return None
        if not self._rendered:
            found = defaultdict(list)
            source = RealSource(self._sets)
            for i in range(len(self._sets)):
                for name, own in self._truth.read(source.pictures(i)).items():
                    found[name].append(own)
            self._rendered = _stacked(found)
        return self._rendered

    def _success(self, seen: Seen, scores: Sequence[Score]) -> tuple[Tensor, str]:
        """By the truth where there is one, else by the similarity to the given images under the first extractor."""
        if self._truth is not None:
            return self._truth.success(seen.truth), "share right of what the caption fixes, in %"
        found = next(own for own in scores if own.per_set is not None and own.name != "diversity")
        assert found.per_set is not None
        return found.per_set.nanmean(1), f"{found.name} ({found.extractor})"


def _stacked(found: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack(own) for name, own in found.items()}


def _copies(pictures: Tensor, own: EvaluationSet) -> Tensor:
    if own.closest_pair is None:
        return torch.full((len(pictures),), torch.nan)
    return near_copy(pictures, own).float()

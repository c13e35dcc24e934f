"""Figure 7 of the paper: an object from cameras that it was never seen from, against true renders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from m2m.evaluation.candidates import Candidate
from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.protocols.task_protocol import TaskProtocol
from m2m.evaluation.result import Role
from m2m.evaluation.scoring import SourceScorer
from m2m.evaluation.sources import CopySource, Source
from m2m.evaluation.tasks.sources import AutoencodedSource
from m2m.evaluation.tasks.task_sets import Order
from m2m.evaluation.tasks.views import PAIRS, PERCEPTUAL, POSE, PSNR, SSIM, ViewScorer
from m2m.evaluation.truth.truth import Truth
from m2m.evaluation.workshop import Workshop
from m2m.model.context_window import ANCHOR

VIEWS = 12  # that an object's renders have
ALONE = "from the given views alone"
FEWER = (1, 2)  # numbers of given views that are compared with a larger one


class NovelView(TaskProtocol):
    """Section 8.5.1. Data: shards of `m2m data objaverse`, 12 views an object. The first views are given.

    The others are asked for, the nearest camera first; each generated view is in the context of the next one.
    """

    name = "novel-view"
    title = "Novel views: an object from other cameras"
    reading = (
        "Each generated view stands against the true render of the same camera. Pose following is the share of views "
        f"whose nearest true view among all {VIEWS} of the object is the asked one: chance is 8.3%. PSNR should stand "
        "4 dB above the copy of the given view. Pair colour error says whether the views show one object: it should be "
        "lower where each view sees those made before than where each is made from the given views alone."
    )
    axis = "generated view"
    given = 1
    images = VIEWS - 1
    task = "novel_view"
    made_with = "`m2m data objaverse`, or `m2m data objects` for the miniature,"
    compared = (POSE, PSNR, SSIM, PERCEPTUAL, PAIRS)

    def images_after(self, given: int) -> int:
        """All other views."""
        return max(1, VIEWS - given)

    def further(self, given: int, images: int) -> int:
        """All other views are candidates of pose following, even if fewer are generated."""
        return max(images, VIEWS - given)

    def least_further(self, given: int, images: int) -> int:
        """Every asked view must have been rendered."""
        return images

    def order(self) -> Order:
        """Nearest camera first."""
        return nearest_first

    def scorer(
        self, workshop: Workshop, caches: Sequence[FeatureCache], truth: Truth | None, device: str
    ) -> SourceScorer:
        """Against the true views."""
        from m2m.evaluation.features.perceptual import PerceptualDistance

        return ViewScorer(workshop.sets, PerceptualDistance(device))

    def answers(
        self, workshop: Workshop, candidate: Candidate, change: str = "", role: Role = "model", **settings: Any
    ) -> list[Source]:
        """All asked views of every object."""
        if candidate.model is None:
            return [workshop.continued(candidate)]
        return [workshop.changed(candidate, change, role, **settings)]

    def variants(self, workshop: Workshop, candidate: Candidate, own: Sequence[Source]) -> dict[str, list[Source]]:
        """Each view made from the given ones alone; and with fewer views given."""
        given = workshop.sets.given
        # Anchors fill the window: no generated view finds room in it.
        rows = self.answers(workshop, candidate, ALONE, window=given, window_policy=ANCHOR)
        for fewer in FEWER:
            if fewer < given:
                rows += self.answers(workshop, candidate, f"{fewer} given", given=fewer)
        return {own.name: [own] for own in rows}

    def bounds(self, workshop: Workshop) -> dict[str, list[Source]]:
        """Copies of the last given view; the true views through the autoencoder."""
        sets, images = workshop.sets, workshop.images
        rows: list[Source] = [CopySource(sets, images)]
        rows += [AutoencodedSource(sets, model, images, sets.given) for model in workshop.models()[:1]]
        return {own.name: [own] for own in rows}

    def notes(self, workshop: Workshop) -> Iterator[str]:
        """What a reader must know of the measures."""
        yield from super().notes(workshop)
        yield (
            "Perceptual distance is LPIPS without its learned weights, on EfficientNet-Lite0: it compares with no "
            "published number."
        )


def nearest_first(stored: Tensor, given: int) -> list[int]:
    """In which order views [N, 12] are made: always the one whose camera is nearest to any that is there."""
    from m2m.tasks.cameras import generation_order

    return generation_order(stored.reshape(-1, 3, 4).numpy(), given)

"""What the features of an extractor say of generated sets: which measures it has, and each by position.

FD, KID, IS, CMMD     of all images at a position, against the first given images (paper, section 7.2)
Image-Image, ...      of each image with the given images of its set; with CLIP, Table 1's Image-Image CLIP
Text-Image CLIP       of each image with the caption of its set
diversity             of the images of a set up to a position, among themselves
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from m2m.evaluation.metrics.frechet import frechet_distance, frechet_interval
from m2m.evaluation.metrics.inception_score import inception_score
from m2m.evaluation.metrics.kernel import cmmd, cmmd_interval, kernel_distance, kernel_interval
from m2m.evaluation.metrics.similarity import diversity_so_far, image_image, text_image
from m2m.evaluation.score import Score, known

Distance = Callable[[Tensor, Tensor], float]
Bounds = Callable[[Tensor, Tensor], tuple[float, float]]

STYLES = ("colour", "gram")
SIMILARITY = {
    "clip": "Image-Image CLIP",
    "dinov2": "DINO-I",
    "colour": "style consistency",
    "gram": "style consistency",
}


@dataclass(frozen=True)
class SetFeatures:
    """Features of one source by one extractor.

    generated: [S, N, D]; logits: [S, N, K] where the extractor has classes; given: [S, G, D]; text: [S, D] of the
    captions, where the extractor reads text.
    """

    extractor: str
    generated: Tensor
    given: Tensor
    logits: Tensor | None = None
    text: Tensor | None = None

    @property
    def family(self) -> str:
        """ "clip" of "clip:ViT-B/32"."""
        return self.extractor.split(":")[0]


def measure_all(features: SetFeatures, seed: int = 0) -> list[Score]:
    """All measures that the extractor has."""
    scores = list(_of_all_sets(features, seed))
    name = SIMILARITY.get(features.family, "Image-Image")
    scores.append(_per_set(name, features, image_image(features.generated, features.given)))
    if features.text is not None:
        scores.append(_per_set("Text-Image CLIP", features, _text_image(features)))
    if features.family not in STYLES:
        scores.append(_per_set("diversity", features, diversity_so_far(features.generated)))
    return scores


def _of_all_sets(features: SetFeatures, seed: int) -> Iterator[Score]:
    """Measures of distributions, which are no mean over sets; none of the style statistics, which are too few."""
    if features.family in STYLES or len(features.generated) < 2:
        return
    if features.family == "clip":
        yield _distance("CMMD", features, cmmd, cmmd_interval)
        return
    yield _distance("FID" if features.family == "inception" else "FD", features, frechet_distance, frechet_interval)
    yield _distance("KID", features, partial(_kid, seed=seed), _kid_interval)
    if features.logits is not None:
        scores = tuple(inception_score(own, seed=seed)[0] for own in features.logits.unbind(1))
        yield Score("IS", features.extractor, "higher", values=scores)


def _distance(name: str, features: SetFeatures, distance: Distance, bounds: Bounds) -> Score:
    """The images at each position against the first given ones."""
    first, places = features.given[:, 0], features.generated.unbind(1)  # [S, D], N of [S, D]
    values = tuple(distance(own, first) for own in places)
    low, high = zip(*(bounds(own, first) for own in places), strict=True)
    return Score(name, features.extractor, "lower", None, *map(known, (values, low, high)))


def _kid(features: Tensor, reference: Tensor, seed: int) -> float:
    """x 1000, as it is usually shown."""
    return 1000 * kernel_distance(features, reference, seed=seed)[0]


def _kid_interval(features: Tensor, reference: Tensor) -> tuple[float, float]:
    low, high = kernel_interval(features, reference)
    return 1000 * low, 1000 * high


def _text_image(features: SetFeatures) -> Tensor:
    assert features.text is not None
    return torch.stack([text_image(own, features.text) for own in features.generated.unbind(1)], 1)  # [S, N]


def _per_set(name: str, features: SetFeatures, values: Tensor) -> Score:
    return Score(name, features.extractor, "" if name == "diversity" else "higher", values)

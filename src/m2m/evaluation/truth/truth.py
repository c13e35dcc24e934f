"""What the truth probe says of images that continue captioned sets of a tiny world, image by image.

It answers what Text-Image CLIP asks of natural pictures: is what the caption fixes there? And what diversity asks: does
what the caption leaves free vary as much as in rendered sets? (See `quality` for the definitions.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.data.pictures import to_pixels
from m2m.data.worlds import Caption, World
from m2m.evaluation.score import Score
from m2m.evaluation.truth.probe import TruthProbe
from m2m.evaluation.truth.quality import Readings, entropies, free_attributes
from m2m.types import UserError

EXTRACTOR = "truth probe"


class Truth:
    """The probe, and what the captions of the sets fix.

    Raises UserError where a caption is none of the world's, or where the probe was trained on another world.
    """

    def __init__(self, probe: TruthProbe, world: World, captions: Sequence[str]) -> None:
        probe.check_attributes(world.attributes)
        self._probe, self._world = probe, world
        self.captions = [Caption.parse(text) for text in captions]

    def read(self, pictures: Tensor) -> dict[str, Tensor]:
        """What pictures uint8 [N, H, W, 3] show: indices into the world's values by attribute, int64 [N]."""
        pixels = to_pixels(pictures)  # [N, 3, H, W]
        size = self._probe.config.image_size
        if pixels.shape[-1] != size:
            pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
        return self._probe.classify(pixels)

    def right(self, found: Readings) -> dict[str, Tensor]:
        """100 where an image shows what its caption fixes, else 0; NaN where nothing is fixed: [S, N] by attribute."""
        marks = {}
        for name, values in self._world.attributes.items():
            fixed = torch.tensor([_index(values, caption.fixed.get(name)) for caption in self.captions])  # [S]
            marks[name] = torch.where(fixed[:, None] < 0, torch.nan, 100.0 * (found[name] == fixed[:, None]))
        return marks

    def scores(self, found: Readings, rendered: Readings | None) -> list[Score]:
        """Right by attribute; with what rendered sets show (at least two images), freedom too."""
        scores = [Score(name, EXTRACTOR, "higher", per_set=own) for name, own in self.right(found).items()]
        if rendered is not None:
            scores.append(self._freedom(found, rendered))
        return scores

    def success(self, found: Readings) -> Tensor:
        """Share of what its caption fixes that a set's images show, in percent, [S]; NaN where nothing is fixed."""
        return torch.stack(list(self.right(found).values())).nanmean(dim=(0, 2))

    def _freedom(self, found: Readings, rendered: Readings) -> Score:
        """Entropy of the free attributes of the images up to a position, percent of that of as many rendered ones."""
        images = min(next(iter(own.values())).shape[1] for own in (found, rendered))
        values = tuple(self._freedom_of_first(n, found, rendered) for n in range(1, images + 1))
        return Score("freedom", EXTRACTOR, "", values=values)

    def _freedom_of_first(self, n: int, found: Readings, rendered: Readings) -> float | None:
        ratios = []
        for name in self._world.attributes:
            free = [s for s, caption in enumerate(self.captions) if name in free_attributes(caption, self._world)]
            if free and n > 1:
                reference = entropies(rendered[name][free][:, :n]).mean()
                ratios.append(float(entropies(found[name][free][:, :n]).mean() / reference) if reference > 0 else None)
        there = [ratio for ratio in ratios if ratio is not None]
        return 100 * sum(there) / len(there) if there else None


def truth_of(probe: TruthProbe, world: World, captions: Sequence[str]) -> Truth | None:
    """The truth about these sets; None where their captions are not the tiny world's: then there is none."""
    try:
        return Truth(probe, world, captions)
    except UserError:
        return None


def _index(values: Sequence[object], value: object) -> int:
    """Where a fixed value stands; -1: nothing is fixed."""
    return -1 if value is None else values.index(value)

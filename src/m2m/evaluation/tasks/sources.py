"""Sources that know where in a set they begin, and the truth as the autoencoder gives it back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from m2m.data.pictures import images_from_pixels
from m2m.evaluation.candidates import Model
from m2m.evaluation.result import Role
from m2m.evaluation.sets import EvaluationSet, EvaluationSets
from m2m.evaluation.sources import Source


@dataclass(frozen=True)
class After:
    """A source whose pictures are those behind the first `given` images of each set."""

    source: Source
    given: int

    @property
    def name(self) -> str:
        """As the source has it."""
        return self.source.name

    @property
    def role(self) -> Role:
        """As the source has it."""
        return self.source.role

    @property
    def note(self) -> str:
        """As the source has it."""
        return self.source.note

    @property
    def images(self) -> int:
        """As the source has it."""
        return self.source.images

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, H, W, 3] for set number `i`."""
        return self.source.pictures(i)


class AutoencodedSource:
    """The true images behind the first `given` ones, encoded and decoded: what no model in these latents can better.

    A set that ends earlier has fewer than `images` of them.
    """

    role: Role = "ceiling"
    note = "the truth, as the model's autoencoder gives it back"

    def __init__(self, sets: EvaluationSets, model: Model, images: int, given: int) -> None:
        self._sets, self._model, self.images, self._given = sets, model, images, given
        self.name = f"truth through the autoencoder of {model.name}"

    def pictures(self, i: int) -> Tensor:
        """uint8 [M, H, W, 3] for set number `i`."""
        pipe = self._model.load()
        true = all_images(self._sets[i])[self._given : self._given + self.images]
        if not len(true):
            return true
        with torch.no_grad():
            decoded = pipe.decode(pipe.encode([Image.fromarray(own.numpy()) for own in true]))  # [M, 3, H, W]
        return torch.from_numpy(np.stack([np.asarray(own) for own in images_from_pixels(decoded)]))


def all_images(own: EvaluationSet) -> Tensor:
    """Given and further images: uint8 [G + R, H, W, 3]."""
    return torch.cat([own.given, own.real])

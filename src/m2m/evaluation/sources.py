"""What is scored: N pictures for every set of an evaluation, of a model, of a floor or of a ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from m2m.data.pictures import read_picture, to_square
from m2m.data.real_sets.files import natural
from m2m.evaluation.generation import set_folder
from m2m.evaluation.result import Role
from m2m.evaluation.sets import EvaluationSet, EvaluationSets, compared_pixels
from m2m.evaluation.truth.held_out import distances
from m2m.types import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class Source(Protocol):
    """name, role and note: as in a row of the result. images: N, how many pictures every set has."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def note(self) -> str: ...
    @property
    def images(self) -> int: ...

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, H, W, 3] for set number `i`. Raises UserError where they cannot be had."""
        ...


class FolderSource:
    """Pictures of a folder: what `generate` has left there, or what the user made in any other way.

    The pictures of set 12 lie in the sub-folder `000012`, or in one that has the set's key as its name, "_" in place of
    "/" and ":". The first N of them count, by name ("2.png" before "10.png"), at the size of the sets' own pictures.

    Raises UserError at once where a set has no sub-folder or too few pictures, and later for a broken picture.
    """

    def __init__(
        self,
        folder: str | Path,
        sets: EvaluationSets,
        images: int,
        name: str = "",
        role: Role = "model",
        note: str = "",
    ) -> None:
        self._folder = Path(folder)
        self._sets = sets
        self.name, self.role, self.note, self.images = name or self._folder.name, role, note, images
        self._size = sets.picture_size
        if not self._folder.is_dir():
            raise UserError(f"'{folder}' is no folder; name one that has a sub-folder of pictures for every set")
        for i in range(len(sets)):
            self._files(i)

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, S, S, 3] for set number `i`."""
        squares = []
        for path in self._files(i):
            image = read_picture(path)
            squares.append(np.asarray(image if image.size == (self._size,) * 2 else to_square(image, self._size)))
        return torch.from_numpy(np.stack(squares))

    def _files(self, i: int) -> list[Path]:
        place = self._place(i)
        found = [path for path in place.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
        if len(found) < self.images:
            raise UserError(f"'{place}' holds too few pictures, {len(found)}; {self.images} are needed of every set")
        return sorted(found, key=lambda path: natural(path.name))[: self.images]

    def _place(self, i: int) -> Path:
        numbered = set_folder(self._folder, i)
        if numbered.is_dir():
            return numbered
        named = self._folder / self._sets.key(i).replace("/", "_").replace(":", "_")
        if not named.is_dir():
            raise UserError(f"'{self._folder}' lacks set {i}: it has neither '{numbered.name}' nor '{named.name}'")
        return named


class RealSource:
    """Further real images of the same sets: what a perfect model would give. N: as many as every set has.

    Raises UserError where a set has none.
    """

    name = "real against real"
    role: Role = "ceiling"
    note = "further real images of the same sets"

    def __init__(self, sets: EvaluationSets) -> None:
        if sets.fewest_real < 1:
            raise UserError("a set has no real images beyond the given ones; give fewer, or leave this row out")
        self._sets, self.images = sets, sets.fewest_real

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, H, W, 3] for set number `i`."""
        return self._sets[i].real[: self.images]


class CopySource:
    """The last given image, N times: as alike as can be, and nothing new. given: only so many are given; None: all."""

    name = "copy of the last given"
    role: Role = "floor"
    note = "the last given image, again and again"

    def __init__(self, sets: EvaluationSets, images: int, given: int | None = None) -> None:
        self._sets, self.images, self._given = sets, images, given

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, H, W, 3] for set number `i`."""
        last = self._sets[i].given[: self._given][-1:]
        return last.repeat(self.images, 1, 1, 1)


class ShuffledSource:
    """Shuffled contexts: set i is answered with what another source has for set i + shift, counted in a circle.

    As good pictures as the source's, of the wrong set: what is scored above this comes from the context. shift: by
    default half the sets, for neighbours in the data may be akin. Raises UserError where no set would be another one.
    """

    role: Role = "floor"

    def __init__(self, source: Source, sets: EvaluationSets, shift: int | None = None) -> None:
        self._source, self._sets = source, len(sets)
        self._shift = max(1, len(sets) // 2) if shift is None else shift
        if self._shift % self._sets == 0:
            raise UserError(f"contexts of {self._sets} sets, shifted by {self._shift}, are not shuffled; use more sets")
        self.name, self.images = f"{source.name}, shuffled contexts", source.images
        self.note = "made with the given images of another set"

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, H, W, 3] for set number `i`."""
        return self._source.pictures((i + self._shift) % self._sets)


def near_copy(pictures: Tensor, own: EvaluationSet) -> Tensor:
    """Which pictures uint8 [N, H, W, 3] are closer to a given image than the two closest real images: bool [N].

    Compared at 64 pixels of a side, or what the given images have if that is less. Raises UserError where the set has
    just one image.
    """
    if own.closest_pair is None:
        raise UserError(f"set '{own.key}' has one image alone: nothing says how close two of them are; read more")
    given = compared_pixels(own.given)
    nearest = distances(compared_pixels(pictures, given.shape[-1]), given).amin(1)
    return nearest < own.closest_pair

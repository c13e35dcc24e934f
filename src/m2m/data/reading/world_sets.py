"""Image sets of the tiny world, rendered as they are read: nothing has to be made or stored before training."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from m2m.data.generators.world import WorldGenerator
from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.image_set import ImageSet
from m2m.data.reading.order import Cursor, OrderConfig, SetOrder
from m2m.data.reading.sets import SetData
from m2m.data.worlds.rendering import image_seed
from m2m.data.worlds.specs import WORLD, WorldSpec
from m2m.types import UserError

IMAGES = 25  # of a set, as in the paper's data (section 4); the world would paint more, see `ReadConfig.within`


class WorldSets(SetData):
    """The sets "world:NAME:SPLIT:COUNT[:SEED]": COUNT captions, 25 images of each.

    A picture is a pure function of the world, the split, the seed, the set's number, the image's number and the size
    (`config.size`; None: the world's own 64 pixels). Keys are "world:NAME:SPLIT:SEED:NUMBER".

    Raises UserError for a spec of another form, an unknown world or split, no sets at all, or too few images in a set.
    """

    def __init__(self, spec: str, config: ReadConfig | None = None) -> None:
        self.config = config or ReadConfig()
        self.spec = WorldSpec.parse(spec)
        if self.spec.count < 1:
            raise UserError(f"'{spec}' are no sets at all; COUNT is 1 or more")
        self._generator = WorldGenerator(self.spec.name, self.config.size)
        self._captions = [caption.text for caption in self.spec.captions()]
        self._numbers = range(*(self.config.within or (0, IMAGES)))
        self.config.draw(self._numbers, 0, "", f"a set of '{spec}'")  # all sets are alike: too few is told at once

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The captions' name and the renderer's settings, a fingerprint of its pictures among them."""
        return [{"captions": str(self.spec), "generator": self._generator.settings()}]

    def __len__(self) -> int:
        return len(self._captions)

    def visit(self, index: int, epoch: int) -> ImageSet:
        """Set number `index`, with the images that this epoch draws painted now."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no set {index} among {len(self)}")
        spec, caption = self.spec, self._captions[index]
        key = f"{WORLD}{spec.name}:{spec.split}:{spec.seed}:{index}"
        numbers = self.config.draw(self._numbers, epoch, key, key)
        seeds = [image_seed(spec.seed, index, number) for number in numbers]
        pictures = self._generator.world.sample_set(caption, seeds, self._generator.size)
        return ImageSet(key, caption, numbers, images=np.stack(pictures))

    def order(self, config: OrderConfig, start: Cursor | None = None) -> SetOrder:
        """The sampler over these sets, from a cursor on. All sets are as near as any: an epoch shuffles all of them."""
        data = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()
        return SetOrder([1] * len(self), config, start, data=data)

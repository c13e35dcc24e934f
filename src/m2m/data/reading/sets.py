"""The one way in which training reads image sets: `SetData`, whether the sets lie in shards or are painted as they are
read.

    data = open_sets("shards/train", ReadConfig(images=5))      # a folder, a glob, a URL, a list of such
    data = open_sets("world:mini:train:6000", ReadConfig(images=5))
    order = data.order(OrderConfig(batch_sets=64))
    for batch in batches(data, order, workers=2):               # m2m.data.reading.loading
        ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from torch.utils.data import Dataset

from m2m.data.reading.image_set import ImageSet, ImageSetBatch, stack_sets
from m2m.data.reading.order import BatchPlan, Cursor, OrderConfig, SetOrder
from m2m.data.reading.shard_files import Address
from m2m.data.reading.stored_set import ENCODERS
from m2m.data.worlds.specs import is_world

if TYPE_CHECKING:
    from m2m.data.reading.dataset import ReadConfig


class SetData(Dataset[ImageSet], ABC):
    """Image sets, numbered through. `data[i]`: set number `i` as epoch 0 sees it; `data[plan]`: a batch of an order."""

    @property
    @abstractmethod
    def settings(self) -> list[dict[str, Any]]:
        """What each part of the data was made with, as plain values."""

    @property
    def encoders(self) -> dict[str, Any] | None:
        """What made the latents and features, as `m2m data encode` notes it; None where the sets are pictures."""
        encoders: dict[str, Any] | None = self.settings[0].get(ENCODERS)
        return encoders

    @abstractmethod
    def __len__(self) -> int:
        """How many sets, those included that are left out for too few images."""

    @abstractmethod
    def visit(self, index: int, epoch: int) -> ImageSet:
        """Set number `index` with the images that this epoch draws. Raises UserError for what cannot be read."""

    @abstractmethod
    def order(self, config: OrderConfig, start: Cursor | None = None) -> SetOrder:
        """The sampler over these sets, from a cursor on."""

    @overload
    def __getitem__(self, index: int) -> ImageSet: ...
    @overload
    def __getitem__(self, index: BatchPlan) -> ImageSetBatch: ...
    def __getitem__(self, index: int | BatchPlan) -> ImageSet | ImageSetBatch:
        if isinstance(index, BatchPlan):
            sets = [self.visit(visit.index, visit.epoch) for visit in index.visits]
            return stack_sets(sets, index.cursor, [visit.epoch for visit in index.visits])
        return self.visit(index, epoch=0)


def open_sets(
    spec: Address | Sequence[Address], config: ReadConfig | None = None, cache_dir: Address | None = None
) -> SetData:
    """The sets that are meant: shards, or "world:NAME:SPLIT:COUNT[:SEED]", which is rendered as it is read.

    cache_dir: where the shards of URLs are kept. Raises UserError where there are no such sets.
    """
    # Here, for each of them is a `SetData`.
    from m2m.data.reading.dataset import ImageSetDataset
    from m2m.data.reading.world_sets import WorldSets

    if is_world(spec):
        return WorldSets(str(spec), config)
    return ImageSetDataset(spec, config, cache_dir)
